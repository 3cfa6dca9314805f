import OVXDatapath
import OVXSimulation
import Testing

/// VNIs that the operator has joined; what the reference says of them, `ForwardingProperties`
/// compares.
@Suite struct JoiningTests {
  /// A device, two tunnel ports of VNI 100 and one of VNI 200, all of one segment.
  private func bench(isJoined: Bool = true) throws -> Bench {
    var tunnels = [
      try tunnel(1, vni: 100, access100, remotes: [remoteA]),
      try tunnel(2, vni: 100, access100, remotes: [remoteB], firstPeer: 2),
      try tunnel(3, vni: 200, access100, remotes: [remoteA, remoteB], firstPeer: 3),
    ]
    for index in tunnels.indices {
      guard case .tunnel(var tunnel) = tunnels[index].attachment else { continue }
      tunnel.isJoined = isJoined
      tunnels[index].attachment = .tunnel(tunnel)
    }
    return Bench(topology([device(0, access100)] + tunnels))
  }

  @Test func whatOneVNIBringsReachesTheOtherAndNotItsOwn() throws {
    let bench = try bench()
    let broadcast = frame(to: 0xFF, from: 9)
    var sent = bench.receiveDatagrams(vxlan(100, broadcast), from: remoteA)
    #expect(sent.map(\.port.rawValue) == [0, 3, 3])
    #expect(sent.map(\.bytes) == [broadcast, vxlan(200, broadcast), vxlan(200, broadcast)])
    let answer = frame(to: 9, from: 8)
    sent = bench.receiveDatagrams(vxlan(200, answer), from: remoteB)
    #expect(sent.map(\.port.rawValue) == [1])
    #expect(sent.map(\.bytes) == [vxlan(100, answer)])
    // Within a VNI whoever is meant has heard it already.
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 9, from: 7)), from: remoteB) == [])
    #expect(bench.counters(1)[.splitHorizon] == 1)
  }

  @Test func withoutTheOperatorsWordNothingIsPassedOn() throws {
    let bench = try bench(isJoined: false)
    let sent = bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 9)), from: remoteA)
    #expect(sent.map(\.port.rawValue) == [0])
    #expect(bench.receiveDatagrams(vxlan(200, frame(to: 9, from: 8)), from: remoteB) == [])
    #expect(bench.counters(1)[.splitHorizon] == 1)
  }

  @Test func aFrameThatHasBeenRoundIsDropped() throws {
    let bench = try bench()
    bench.tick(100)
    let ours = frame(to: 0xFF, from: 1)
    #expect(bench.receive(ours, from: 0).count == 4)
    // Another host that joins the VNIs has passed it back, and a copy of what a third one said
    // comes by it.
    #expect(bench.receiveDatagrams(vxlan(200, ours), from: remoteB) == [])
    #expect(bench.counters(3)[.loop] == 1)
    let theirs = vxlan(100, frame(to: 0xFF, from: 9))
    #expect(bench.receiveDatagrams(theirs, from: remoteA).count == 3)
    #expect(bench.receiveDatagrams(theirs, from: remoteB) == [])
    #expect(bench.receiveDatagrams(theirs, from: remoteA).count == 3)
    #expect(bench.counters(2)[.loop] == 1)
    #expect(Set(bench.addresses().map(\.port.rawValue)) == [0, 1])
  }

  @Test func aStationThatMovesIsHeardAMomentAfterItWasLastElsewhere() throws {
    let bench = try bench()
    let datagram = vxlan(100, frame(to: 0xFF, from: 9))
    bench.tick(100)
    #expect(bench.receiveDatagrams(datagram, from: remoteA).count == 3)
    bench.tick(101)
    #expect(bench.receiveDatagrams(datagram, from: remoteB) == [])
    bench.tick(102)
    #expect(bench.receiveDatagrams(datagram, from: remoteB).count == 3)
    #expect(bench.addresses().map(\.port.rawValue) == [2])
    // To a device of this host it may move at once: nothing comes round that way.
    #expect(bench.receive(frame(to: 0xFF, from: 9), from: 0).count == 4)
    #expect(bench.addresses().map(\.port.rawValue) == [0])
  }

  @Test func aStaticAddressIsNowhereElse() throws {
    let bench = try bench()
    #expect(bench.addStatic(MACAddress(9), vlan(100), on: 0))
    bench.tick(1000)
    #expect(bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 9)), from: remoteA) == [])
    #expect(bench.counters(1)[.loop] == 1)
  }

  @Test func floodingIntoAnotherVNIIsLimited() throws {
    let bench = try bench()
    let datagram = vxlan(100, frame(to: 0xFF, from: 9))
    for _ in 0..<1000 {
      #expect(bench.receiveDatagrams(datagram, from: remoteA).count == 3)
    }
    #expect(bench.receiveDatagrams(datagram, from: remoteA).map(\.port.rawValue) == [0])
    #expect(bench.counters(1)[.joinFloodLimit] == 1)
    // What this host has to say is not limited, nor is what is meant for one station.
    #expect(bench.receive(frame(to: 0xFF, from: 1), from: 0).count == 4)
    #expect(bench.receiveDatagrams(vxlan(200, frame(to: 9, from: 8)), from: remoteB).count == 1)
    bench.tick(1)
    #expect(bench.receiveDatagrams(datagram, from: remoteA).count == 3)
  }

  /// A kernel VTEP leaves checksums to the device that it thinks its tunnel ends at, and sends
  /// superframes whole.
  @Test func whatAKernelVTEPLeavesToOthersIsDone() throws {
    let bench = try bench()
    var plan = PacketPlan(from: MACAddress(9), to: .broadcast)
    plan.payload = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
    let sent = bench.receiveDatagrams(vxlan(100, plan.partialFrame.bytes), from: remoteA)
      .filter { $0.port.rawValue == 3 }
    #expect(sent.count == 2)
    for train in sent {
      #expect(train.segmentSize == 8 + 14 + 1450)
      #expect(train.bytes.count == 3 * (8 + plan.headerLength) + 3000)
      for start in stride(from: 8, to: train.bytes.count, by: train.segmentSize) {
        let end = min(start + train.segmentSize - 8, train.bytes.count)
        let segment = Array(train.bytes[start..<end])
        #expect(FrameAnatomy(segment)?.hasRightChecksum(in: segment) == true)
      }
    }
    // What fits is not cut, but summed; also for a second remote, and not for a device that does it
    // itself.
    plan.payload = [1, 2, 3]
    let small = bench.receiveDatagrams(vxlan(100, plan.partialFrame.bytes), from: remoteA)
    #expect(small.map(\.port.rawValue) == [0, 3, 3])
    #expect(small[0].bytes == plan.partialFrame.bytes && small[0].offload.needsChecksum)
    #expect(small[1...].allSatisfy { $0.bytes == vxlan(200, plan.frame) })
  }
}

extension MACAddress {
  fileprivate init(_ last: UInt8) { self.init(truncating: 0x0200_0000_0000 | UInt64(last)) }
}
