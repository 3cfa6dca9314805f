import OVXDatapath
import Testing

@Suite struct ForwardingTests {
  @Test func unknownAddressesAreFloodedAndLearnedOnesAreNot() {
    let bench = Bench(topology([device(0, access100), device(1, access100), device(2, access100)]))
    #expect(bench.receive(frame(to: 2, from: 1), from: 0).map(\.port.rawValue) == [1, 2])
    #expect(bench.receive(frame(to: 1, from: 2), from: 1).map(\.port.rawValue) == [0])
    #expect(bench.receive(frame(to: 2, from: 1), from: 0).map(\.port.rawValue) == [1])
    #expect(bench.counters(1).sentFrames == 2)
    #expect(bench.counters(0).receivedFrames == 2)
  }

  @Test func aFrameIsSentAsItCame() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    let bytes = frame(to: 2, from: 1)
    #expect(bench.receive(bytes, from: 0).first?.bytes == bytes)
  }

  @Test func aFrameForWhereItCameFromIsDropped() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    _ = bench.receive(frame(to: 9, from: 1), from: 0)
    _ = bench.receive(frame(to: 9, from: 2), from: 0)
    #expect(bench.receive(frame(to: 1, from: 2), from: 0) == [])
    #expect(bench.counters(0)[.samePort] == 1)
  }

  @Test func segmentsAreKeptApart() {
    let bench = Bench(topology([device(0, access100), device(1, .access(vlan(200)))]))
    #expect(bench.receive(frame(to: 0xFF, from: 1), from: 0) == [])
    // Nobody else is there to hear what is for everybody, which is no loss; one that is looked for
    // is.
    #expect(bench.counters(0).unheardFrames == 1 && bench.counters(0)[.nowhereToFlood] == 0)
    #expect(bench.receive(frame(to: 2, from: 1), from: 0) == [])
    #expect(bench.counters(0).unheardFrames == 1 && bench.counters(0)[.nowhereToFlood] == 1)
  }

  @Test func trunksTagAndAccessPortsDoNot() {
    let bench = Bench(topology([device(0, access100), device(1, .trunk(nil))]))
    #expect(
      bench.receive(frame(to: 0xFF, from: 1), from: 0).first?.bytes
        == frame(to: 0xFF, from: 1, tagged: 100)
    )
    #expect(
      bench.receive(frame(to: 0xFF, from: 2, tagged: 0xA064), from: 1).first?.bytes
        == frame(to: 0xFF, from: 2)
    )
    #expect(
      bench.receive(
        frame(to: 0xFF, from: 2),
        from: 1,
        tag: VLANTag(control: 100)
      ).first?.bytes == frame(to: 0xFF, from: 2)
    )
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 100), from: 0) == [])
    #expect(bench.counters(0)[.taggedOnAccessPort] == 1)
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 0), from: 0).count == 1)
  }

  @Test func aTrunkCarriesItsVLANsOnly() {
    let bench = Bench(
      topology([device(0, .trunk([vlan(5), vlan(4000)])), device(1, .trunk(nil))])
    )
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 6), from: 0) == [])
    #expect(bench.receive(frame(to: 0xFF, from: 1), from: 0) == [])
    #expect(bench.counters(0)[.vlanNotOnPort] == 2)
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 4000), from: 0).count == 1)
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 6), from: 1) == [])
  }

  @Test func invalidFramesAreNamed() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    #expect(bench.receive([1, 2, 3], from: 0) == [])
    #expect(bench.counters(0)[.truncated] == 1)
    var reserved = frame(to: 2, from: 1)
    reserved.replaceSubrange(0..<6, with: [0x01, 0x80, 0xC2, 0, 0, 0x0E])
    #expect(bench.receive(reserved, from: 0) == [])
    #expect(bench.counters(0)[.reservedDestination] == 1)
    var group = frame(to: 2, from: 1)
    group[6] = 0x03
    #expect(bench.receive(group, from: 0) == [])
    #expect(bench.counters(0)[.invalidSource] == 1)
    #expect(bench.addresses() == [])
    #expect(bench.receive([UInt8](frame(to: 2, from: 1, tagged: 1).prefix(16)), from: 0) == [])
    #expect(bench.counters(0)[.truncated] == 2)
  }

  @Test func framesAreEncapsulatedForEveryRemote() throws {
    let bench = Bench(
      topology([
        device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA, remoteB]),
      ])
    )
    let bytes = frame(to: 0xFF, from: 1)
    let sent = bench.receive(bytes, from: 0)
    #expect(sent.map(\.bytes) == [vxlan(100, bytes), vxlan(100, bytes)])
    #expect(sent.map { $0.path / 16 } == [1, 2])
    #expect(bench.counters(1).sentFrames == 2)
  }

  @Test func framesAreDecapsulatedLearnedAndAnswered() throws {
    let bench = Bench(
      topology([
        device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA, remoteB]),
      ])
    )
    let bytes = frame(to: 0xFF, from: 9)
    let sent = bench.receiveDatagrams(vxlan(100, bytes), from: remoteB)
    #expect(sent.map(\.bytes) == [bytes])
    let reply = bench.receive(frame(to: 9, from: 1), from: 0)
    #expect(reply.map { $0.path / 16 } == [2])
    #expect(bench.receiveDatagrams(vxlan(100, bytes), from: remoteA).count == 1)
    #expect(bench.receive(frame(to: 9, from: 1), from: 0).map { $0.path / 16 } == [1])
  }

  @Test func strangersAreTurnedAway() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let bytes = frame(to: 0xFF, from: 9)
    #expect(bench.receiveDatagrams(vxlan(100, bytes), from: remoteB) == [])
    #expect(bench.endpointDrops(.unknownVTEP) == 1)
    #expect(bench.receiveDatagrams(vxlan(101, bytes), from: remoteA) == [])
    #expect(bench.receiveDatagrams(vxlan(100, bytes), endpoint: 1, from: remoteA) == [])
    #expect(bench.endpointDrops(.unknownVNI) == 2)
    #expect(bench.receiveDatagrams(vxlan(100, bytes, flags: 0xF7), from: remoteA) == [])
    #expect(bench.endpointDrops(.vniFlagMissing) == 1)
    #expect(bench.receiveDatagrams([8, 0, 0, 0], from: remoteA) == [])
    #expect(bench.endpointDrops(.vxlanTooShort) == 1)
    #expect(bench.receiveDatagrams(vxlan(100, bytes, flags: 0xFF), from: remoteA).count == 1)
    #expect(bench.addresses().count == 1)
  }

  @Test func aTrainIsSplit() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let datagrams = (1...3).map { vxlan($0 == 2 ? 7 : 100, frame(to: 0xFF, from: UInt8($0))) }
    let sent = bench.receiveDatagrams(
      Array(datagrams.joined()),
      segmentSize: datagrams[0].count,
      from: remoteA
    )
    #expect(sent.map(\.bytes) == [frame(to: 0xFF, from: 1), frame(to: 0xFF, from: 3)])
    #expect(bench.endpointDrops(.unknownVNI) == 1)
  }

  @Test func nothingGoesFromTunnelToTunnel() throws {
    let ports = [
      device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA]),
      try tunnel(2, vni: 100, access100, remotes: [remoteB], firstPeer: 2),
    ]
    let bench = Bench(topology(ports))
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 9)), from: remoteA)
        .map(\.port.rawValue) == [0]
    )
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 9, from: 8)), from: remoteB) == []
    )
    #expect(bench.counters(1)[.splitHorizon] == 1)
  }

  @Test func aWildcardSocketsTunnelIsReachedThroughASpecificOne() throws {
    var port = try tunnel(1, vni: 100, access100, remotes: [remoteA])
    guard case .tunnel(var wildcard) = port.attachment else { return }
    wildcard.fallbackEndpoints = [ListenerID(rawValue: 5)]
    port.attachment = .tunnel(wildcard)
    let bench = Bench(topology([device(0, access100), port]))
    let datagram = vxlan(100, frame(to: 0xFF, from: 9))
    #expect(bench.receiveDatagrams(datagram, endpoint: 5, from: remoteA).count == 1)
    #expect(bench.receiveDatagrams(datagram, endpoint: 0, from: remoteA).count == 1)
  }

  @Test func framesTooLargeForTheUnderlayAreCounted() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let fitting = frame(to: 0xFF, from: 1) + [UInt8](repeating: 0, count: 1450 + 14 - 60)
    #expect(bench.receive(fitting, from: 0).count == 1)
    #expect(bench.receive(fitting + [0], from: 0) == [])
    #expect(bench.counters(1)[.exceedsTunnelMTU] == 1)
  }

  @Test func framesOfABurstForOnePeerLeaveTogether() throws {
    let bench = Bench(
      topology([
        device(0, .trunk(nil)), device(1, access100),
        try tunnel(2, vni: 100, .trunk(nil), remotes: [remoteA]),
      ])
    )
    let bytes = frame(to: 0xFF, from: 1)
    let joined = vxlan(100, bytes) + vxlan(100, bytes) + vxlan(100, bytes)
    let sent = bench.receive(burst: [bytes, bytes, bytes], from: 0).filter { $0.kind == .datagrams }
    #expect(sent.map(\.bytes) == [joined])
    #expect(sent.map(\.segmentSize) == [68])
    #expect(bench.counters(2).sentFrames == 3)
    // An IP frame is padded into the train; one of a protocol without a length of its own ends it.
    for (type, padding) in [(UInt8(0), 10), (UInt8(0x7F), 0)] {
      // With an IP header that claims no more than the shorter one has.
      let long = Array(bytes[..<12]) + [8, type, 0x45, 0, 0, 36] + Array(bytes[18...])
      let pair = bench.receive(burst: [long, Array(long[..<50])], from: 0)
        .filter { $0.kind == .datagrams }
      #expect(
        pair.map(\.bytes) == [
          vxlan(100, long)
            + vxlan(100, Array(long[..<50]) + [UInt8](repeating: 0, count: padding))
        ]
      )
    }
    let tagged = frame(to: 0xFF, from: 1, tagged: 100)
    let two = bench.receive(burst: [tagged, tagged], from: 0).filter { $0.kind == .datagrams }
    #expect(two.map(\.bytes) == [vxlan(100, tagged) + vxlan(100, tagged)])
    #expect(two.map(\.segmentSize) == [72])
  }

  @Test func aLargerFrameStartsATrainOfItsOwnInOrder() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let small = frame(to: 0xFF, from: 1)
    let large = small + [UInt8](repeating: 9, count: 100)
    let sent = bench.receive(burst: [small, large, large, small], from: 0)
    #expect(
      sent.map(\.bytes) == [
        vxlan(100, small), vxlan(100, large) + vxlan(100, large) + vxlan(100, small),
      ]
    )
    #expect(sent.map(\.segmentSize) == [0, 168])
  }

  @Test func addressesAgeAndGoWithTheirPort() {
    let ports = [device(0, access100), device(1, access100), device(2, access100)]
    let bench = Bench(topology(ports))
    bench.tick(1000)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    _ = bench.receive(frame(to: 0xFF, from: 2), from: 1)
    bench.tick(1299)
    #expect(bench.addresses().count == 2)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    bench.tick(1300)
    #expect(bench.addresses().map(\.address.rawValue) == [0x0200_0000_0001])
    bench.apply(topology(Array(ports.dropFirst())))
    #expect(bench.addresses() == [])
    bench.apply(topology(ports))
    #expect(bench.counters(0) == PortCounters())
  }

  @Test func aPortThatLeavesItsVLANLosesItsAddresses() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    bench.apply(topology([device(0, .access(vlan(200))), device(1, access100)]))
    #expect(bench.addresses() == [])
  }

  @Test func everyDropReasonHasASymbolAndASentence() {
    let symbols = Set(DropReason.allCases.map(\.symbol))
    #expect(symbols.count == DropReason.allCases.count)
    for reason in DropReason.allCases {
      #expect(reason.symbol.allSatisfy { $0.isLowercase || $0 == "-" })
      #expect(reason.sentence.hasSuffix("."))
    }
  }
}
