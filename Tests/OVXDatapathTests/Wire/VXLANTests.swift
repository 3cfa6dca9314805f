import OVXDatapath
import Testing

@Suite struct VXLANTests {
  private let golden = hex("08000000 00007B00 FFEE")

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = VXLANHeader(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.hasVNI == true)
    #expect(header.vni == VNI(rawValue: 123))
    #expect(contents(header.payload) == hex("FFEE"))
  }

  @Test func construct() throws {
    let vni = try #require(VNI(rawValue: 123))
    let header = written(8) { unsafe VXLANHeader.write(vni: vni, to: $0) }
    #expect(header == [UInt8](golden.prefix(8)))
    #expect(VXLANHeader.encoded(vni: vni) == 0x0800_0000_0000_7B00)
  }

  @Test func largestVNI() throws {
    let vni = try #require(VNI(rawValue: VNI.max))
    #expect(written(8) { unsafe VXLANHeader.write(vni: vni, to: $0) } == hex("08000000 FFFFFF00"))
  }

  @Test(arguments: [("F7FFFFFF FFFFFFFF", false), ("FFFFFFFF FFFFFFFF", true)])
  func reservedBitsAreIgnored(bytes: String, hasVNI: Bool) {
    let memory = GuardedMemory(64)
    guard let header = VXLANHeader(memory.view(hex(bytes))) else {
      Issue.record("refused")
      return
    }
    #expect(header.hasVNI == hasVNI)
    #expect(header.vni == VNI(rawValue: VNI.max))
  }

  @Test func parseTruncated() {
    let memory = GuardedMemory(64)
    for count in 0...golden.count {
      let isAccepted = VXLANHeader(memory.view([UInt8](golden.prefix(count)))) != nil
      #expect(isAccepted == (count >= 8), "\(count) bytes")
    }
  }
}
