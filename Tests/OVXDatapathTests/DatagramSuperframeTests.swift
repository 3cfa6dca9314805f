import OVXDatapath
import Testing

/// A superframe of UDP datagrams that the kernel's vxlan device sent whole, and what looks like one.
@Suite struct DatagramSuperframeTests {
  /// Devices 1 and 2 of two tenants, and a tunnel for each to the same VTEP.
  private static func bench() throws -> Bench {
    Bench(
      topology([
        device(1, .access(vlan(100))),
        device(2, .access(vlan(200))),
        try tunnel(8, vni: 100, .access(vlan(100)), remotes: [remoteA], firstPeer: 1),
        try tunnel(9, vni: 200, .access(vlan(200)), remotes: [remoteA], firstPeer: 2),
      ]))
  }

  private static func packet(_ payload: [UInt8], isIPv6: Bool = false) -> ReferencePacket {
    var packet = ReferencePacket()
    packet.isUDP = true
    packet.isIPv6 = isIPv6
    packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
    packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
    packet.payload = payload
    return packet
  }

  @Test(arguments: [false, true])
  func isHandedOverWhole(isIPv6: Bool) throws {
    let bench = try Self.bench()
    let packet = Self.packet((0..<7 * 700 + 9).map { UInt8($0 & 0xFF) }, isIPv6: isIPv6)
    let frame = packet.frame(partial: true)
    let sent = bench.receiveDatagrams(vxlan(100, frame), segmentSize: 700, from: remoteA)
    #expect(sent.map(\.port.rawValue) == [1])
    #expect(sent.map(\.bytes) == [frame])
    #expect(
      sent.first?.offload
        == Offload(
          flags: .needsChecksum, segmentation: .udp, headerLength: UInt16(packet.headerLength),
          segmentSize: 700, checksumStart: UInt16(packet.transportOffset), checksumOffset: 6))
    #expect(bench.counters(8).receivedFrames == 1)
  }

  /// A container behind a kernel's VTEP writes VXLAN headers where the datagrams of a train would start.
  @Test func cannotReachAnotherTenant() throws {
    let bench = try Self.bench()
    let stride = 200
    // The first datagram of the supposed train holds 8 + 42 bytes of headers.
    var payload = [UInt8](repeating: 0x55, count: stride - 50)
    for _ in 0..<4 {
      let forged = vxlan(200, frame(to: 0xFF, from: 9))
      payload += forged + [UInt8](repeating: 0, count: stride - forged.count)
    }
    let sent = bench.receiveDatagrams(
      vxlan(100, Self.packet(payload).frame(partial: true)), segmentSize: stride, from: remoteA)
    #expect(sent.map(\.port.rawValue) == [1])
    #expect(bench.counters(9).receivedFrames == 0)
    #expect(!bench.addresses().contains { $0.vlan == vlan(200) })
  }

  /// Frames that lie in one train, the first one's header reaching over them all.
  @Test func isNotMadeOfATrain() throws {
    let bench = try Self.bench()
    let honest = Self.packet([UInt8](repeating: 3, count: 100)).frame
    var liar = honest
    let total = 3 * (8 + honest.count) - 8
    liar.replaceSubrange(16..<18, with: big16(total - 14))
    liar.replaceSubrange(38..<40, with: big16(total - 34))
    let train = vxlan(100, liar) + vxlan(100, honest) + vxlan(100, honest)
    // Its checksum is not the pseudo-header's sum.
    let sent = bench.receiveDatagrams(
      train, segmentSize: 8 + honest.count, from: remoteA)
    #expect(bench.counters(8).receivedFrames == 3)
    #expect(sent.allSatisfy { $0.bytes.count < total })
  }

  /// Whatever its checksum: a frame whose header claims more than the frame has travels by itself.
  @Test func liarsDoNotTravelInTrains() throws {
    let bench = try Self.bench()
    let honest = Self.packet([UInt8](repeating: 3, count: 100)).frame
    var liar = honest
    liar[17] += 1
    func transmissions(_ frames: [[UInt8]]) -> Int {
      bench.receive(burst: frames, from: 1).count { $0.port.rawValue == 8 }
    }
    #expect(transmissions([honest, honest, honest]) == 1)
    #expect(transmissions([liar, honest, honest]) == 2)
    // Its flow is another one for the spreading over paths, so it does not part the two.
    #expect(transmissions([honest, liar, honest]) == 2)
    var six = Self.packet([UInt8](repeating: 3, count: 100), isIPv6: true).frame
    #expect(transmissions([six, six]) == 1)
    six[19] += 1
    #expect(transmissions([six, six]) == 2)
  }
}
