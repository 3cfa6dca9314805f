import OVXDatapath
import Testing

@Suite struct EthernetTests {
  private let golden = hex("FFFFFFFFFFFF 02AABBCCDDEE 0806 0001 0203")

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = EthernetHeader(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.destination == .broadcast)
    #expect(header.source == MACAddress("02:aa:bb:cc:dd:ee"))
    #expect(header.etherType == .arp)
    #expect(contents(header.payload) == [0, 1, 2, 3])
  }

  @Test func construct() {
    let header = written(14) {
      unsafe EthernetHeader.write(
        destination: .broadcast,
        source: MACAddress(truncating: 0x02AA_BBCC_DDEE),
        etherType: .arp,
        to: $0
      )
    }
    #expect(header == [UInt8](golden.prefix(14)))
  }

  @Test func parseTruncated() {
    let memory = GuardedMemory(64)
    for count in 0...golden.count {
      let isAccepted = EthernetHeader(memory.view([UInt8](golden.prefix(count)))) != nil
      #expect(isAccepted == (count >= 14), "\(count) bytes")
    }
  }

  @Test(arguments: [(0x8100, true), (0x88A8, true), (0x0800, false), (0x9100, false)])
  func tagProtocols(rawValue: UInt16, isVLAN: Bool) {
    #expect(EtherType(rawValue: rawValue).isVLAN == isVLAN)
  }
}

@Suite struct VLANTests {
  // Priority 5, drop eligible, VLAN 0x123, then IPv6.
  private let golden = hex("B123 86DD 60")

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = VLANHeader(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.control == 0xB123)
    #expect(header.priority == 5)
    #expect(header.isDropEligible == true)
    #expect(header.vlan == VLANID(rawValue: 0x123))
    #expect(header.etherType == .ipv6)
    #expect(contents(header.payload) == [0x60])
  }

  @Test func construct() {
    let header = written(4) {
      unsafe VLANHeader.write(control: 0xB123, etherType: .ipv6, to: $0)
    }
    #expect(header == [UInt8](golden.prefix(4)))
  }

  @Test func parseTruncated() {
    let memory = GuardedMemory(64)
    for count in 0...golden.count {
      let isAccepted = VLANHeader(memory.view([UInt8](golden.prefix(count)))) != nil
      #expect(isAccepted == (count >= 4), "\(count) bytes")
    }
  }
}
