import OVXDatapath
import Testing

/// Whether somebody has an address: the questions, and what is known by the answers.
@Suite struct AddressProbeTests {
  private let source = MACAddress(truncating: 0x026F_7600_0000)
  private let ip = IPAddress(v4: 0xAC11_2A02)

  private func bench() throws -> Bench {
    Bench(
      topology([
        device(0, access100), device(1, .access(vlan(200))), device(2, .trunk(nil)),
        try tunnel(3, vni: 100, access100, remotes: [remoteA, remoteB]),
      ]))
  }

  @Test func allOfTheSegmentAreAskedAndNobodyElse() throws {
    let bench = try bench()
    let sent = bench.probe(ip, vlan(100), from: source)
    #expect(sent.map(\.port.rawValue).sorted() == [0, 2, 3, 3])
    let question = try #require(sent.first { $0.port.rawValue == 0 }).bytes
    #expect(
      question == [
        255, 255, 255, 255, 255, 255, 0x02, 0x6F, 0x76, 0, 0, 0, 8, 6,
        0, 1, 8, 0, 6, 4, 0, 1, 0x02, 0x6F, 0x76, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0xAC, 0x11, 0x2A, 0x02,
      ])
    #expect(sent.first { $0.port.rawValue == 2 }?.bytes.count == question.count + 4, "with a tag")
    #expect(bench.probe(ip, vlan(300), from: source).map(\.port.rawValue) == [2])
  }

  @Test func whoAnswersIsKnown() throws {
    let bench = try bench()
    _ = bench.probe(ip, vlan(100), from: source)
    #expect(bench.neighbor(ip, vlan(100)) == nil)
    var reply = frame(to: 0, from: 7)
    reply.replaceSubrange(0..<6, with: [0x02, 0x6F, 0x76, 0, 0, 0])
    reply.replaceSubrange(
      12...,
      with: [
        8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 7, 0xAC, 0x11, 0x2A, 0x02,
        0x02, 0x6F, 0x76, 0, 0, 0, 0, 0, 0, 0,
      ])
    _ = bench.receive(reply, from: 0)
    #expect(bench.neighbor(ip, vlan(100)) == MACAddress(truncating: 0x0200_0000_0007))
    #expect(bench.neighbor(ip, vlan(200)) == nil, "of another tenant nothing is known")
    // It has gone: what it said before is no answer.
    _ = bench.probe(ip, vlan(100), from: source)
    #expect(bench.neighbor(ip, vlan(100)) == nil)
  }

  /// The kernel computes the checksum of such a message so: `NeighborDiscoveryTests` read it.
  @Test func inIPv6ItIsAsDuplicateAddressDetectionAsks() throws {
    let bench = try bench()
    let ip = try #require(IPAddress("fd42::12:3456"))
    let sent = bench.probe(ip, vlan(200), from: source)
    #expect(sent.map(\.port.rawValue) == [1, 2])
    let bytes = sent[0].bytes
    #expect(bytes.count == 78)
    #expect(Array(bytes[0..<6]) == [0x33, 0x33, 0xFF, 0x12, 0x34, 0x56])
    #expect(bytes[14 + 8..<14 + 24].allSatisfy { $0 == 0 }, "in nobody's name")
    #expect(
      Array(bytes[14 + 24..<14 + 40]) == [
        0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF, 0x12, 0x34, 0x56,
      ])
    var sum = bytes[14 + 8..<14 + 40].chunksSum + 24 + 58 + bytes[54..<78].chunksSum
    while sum > 0xFFFF { sum = (sum >> 16) + (sum & 0xFFFF) }
    #expect(sum == 0xFFFF)
    #expect(
      Array(bytes[62..<78]) == [0xFD, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56])
  }

  @Test func withoutABridgeNobodyIsAsked() {
    let bench = Bench(Topology())
    #expect(bench.probe(ip, vlan(1), from: source) == [])
    #expect(bench.neighbor(ip, vlan(1)) == nil)
  }
}

extension ArraySlice<UInt8> {
  /// The sum of its 16-bit words.
  fileprivate var chunksSum: Int {
    stride(from: startIndex, to: endIndex, by: 2).reduce(0) {
      $0 + (Int(self[$1]) << 8) + Int(self[$1 + 1])
    }
  }
}
