import OVXDatapath
import Testing

@Suite struct UDPTests {
  private let golden = hex("E111 12B5 000C ABCD 01020304")

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = UDPHeader(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.sourcePort == 57617)
    #expect(header.destinationPort == 4789)
    #expect(header.length == 12)
    #expect(header.checksum == 0xABCD)
    #expect(contents(header.payload) == [1, 2, 3, 4])
  }

  @Test func construct() {
    let header = written(8) {
      unsafe UDPHeader.write(
        sourcePort: 57617,
        destinationPort: 4789,
        length: 12,
        checksum: 0xABCD,
        to: $0
      )
    }
    #expect(header == [UInt8](golden.prefix(8)))
  }

  @Test func parseTruncatedAndPadded() {
    let memory = GuardedMemory(64)
    for count in 0...golden.count + 8 {
      let bytes = [UInt8]((golden + [UInt8](repeating: 0xEE, count: 8)).prefix(count))
      guard let header = UDPHeader(memory.view(bytes)) else {
        #expect(count < golden.count, "\(count) bytes")
        continue
      }
      #expect(count >= golden.count, "\(count) bytes")
      #expect(header.payload.byteCount == 4)
    }
  }

  @Test(arguments: [0, 7, 13, 0xFFFF])
  func contradictingLength(length: Int) {
    let memory = GuardedMemory(64)
    let isAccepted = UDPHeader(memory.view(golden[..<4] + big16(length) + golden[6...])) != nil
    #expect(!isAccepted)
  }
}

@Suite struct TCPTests {
  private let golden = hex(
    "9C40 1451 11223344 55667788 6012 01F6 BEEF 0007 020405B4 CAFE"
  )

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = TCPHeader(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.sourcePort == 40000)
    #expect(header.destinationPort == 5201)
    #expect(header.sequence == 0x1122_3344)
    #expect(header.acknowledgment == 0x5566_7788)
    #expect(header.headerLength == 24)
    #expect(header.flags == [.syn, .ack])
    #expect(header.window == 502)
    #expect(header.checksum == 0xBEEF)
    #expect(header.urgentPointer == 7)
    #expect(contents(header.options) == hex("020405B4"))
    #expect(contents(header.payload) == hex("CAFE"))
  }

  @Test func construct() {
    let header = written(20) {
      unsafe TCPHeader.write(
        sourcePort: 40000,
        destinationPort: 5201,
        sequence: 0x1122_3344,
        acknowledgment: 0x5566_7788,
        flags: [.syn, .ack],
        window: 502,
        checksum: 0xBEEF,
        urgentPointer: 7,
        to: $0
      )
    }
    #expect(header == golden[..<12] + [0x50] + golden[13..<20])
  }

  @Test func parseTruncated() {
    let memory = GuardedMemory(64)
    for count in 0...golden.count {
      let isAccepted = TCPHeader(memory.view([UInt8](golden.prefix(count)))) != nil
      #expect(isAccepted == (count >= 24), "\(count) bytes")
    }
  }

  /// Data offsets 1 and 15 are Open vSwitch's test of malformed TCP packets.
  @Test(arguments: 0...15)
  func dataOffsets(words: Int) {
    let memory = GuardedMemory(64)
    let isAccepted =
      TCPHeader(memory.view(golden[..<12] + [UInt8(words << 4)] + golden[13...])) != nil
    #expect(isAccepted == (words == 5 || words == 6))
  }
}
