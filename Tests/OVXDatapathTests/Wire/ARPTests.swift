import OVXDatapath
import Testing

@Suite struct ARPTests {
  private let golden = hex(
    "0001 0800 06 04 0002 02AABBCCDDEE C0A80501 020000000001 C0A80502"
  )

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let packet = ARPPacket(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(packet.operation == .reply)
    #expect(packet.senderHardware == MACAddress("02:aa:bb:cc:dd:ee"))
    #expect(packet.senderProtocol == IPAddress(v4: 0xC0A8_0501))
    #expect(packet.targetHardware == MACAddress("02:00:00:00:00:01"))
    #expect(packet.targetProtocol == IPAddress(v4: 0xC0A8_0502))
  }

  @Test func construct() {
    let packet = written(28) {
      unsafe ARPPacket.write(
        operation: .reply,
        senderHardware: MACAddress(truncating: 0x02AA_BBCC_DDEE),
        senderProtocol: IPAddress(v4: 0xC0A8_0501),
        targetHardware: MACAddress(truncating: 0x0200_0000_0001),
        targetProtocol: IPAddress(v4: 0xC0A8_0502),
        to: $0
      )
    }
    #expect(packet == golden)
  }

  @Test func parseTruncatedAndPadded() {
    let memory = GuardedMemory(64)
    for count in 0...46 {
      let bytes = [UInt8]((golden + [UInt8](repeating: 0, count: 18)).prefix(count))
      let isAccepted = ARPPacket(memory.view(bytes)) != nil
      #expect(isAccepted == (count >= 28), "\(count) bytes")
    }
  }

  @Test(arguments: [
    "0006 0800 06 04", "0001 86DD 06 04", "0001 0800 08 04", "0001 0800 06 10",
  ])
  func otherHardwareAndProtocols(start: String) {
    let memory = GuardedMemory(64)
    let isAccepted = ARPPacket(memory.view(hex(start) + golden[6...])) != nil
    #expect(!isAccepted)
  }
}
