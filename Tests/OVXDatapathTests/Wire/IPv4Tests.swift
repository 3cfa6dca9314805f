import OVXDatapath
import Testing

@Suite struct IPv4Tests {
  // The example of https://en.wikipedia.org/wiki/Internet_checksum with its payload cut to 12
  // bytes.
  private let golden = hex(
    "4500 0020 0000 4000 4011 B8B4 C0A80001 C0A800C7 0102030405060708090A0B0C"
  )
  private let withOptions = hex(
    "4610 001C 1234 2007 0106 0000 0A000001 0A000002 94040000 CAFEBABE"
  )

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = IPv4Header(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.headerLength == 20)
    #expect(header.typeOfService == 0)
    #expect(header.totalLength == 32)
    #expect(header.identification == 0)
    #expect(header.isDontFragment == true)
    #expect(header.hasMoreFragments == false)
    #expect(header.isFragment == false)
    #expect(header.fragmentOffset == 0)
    #expect(header.timeToLive == 64)
    #expect(header.transport == .udp)
    #expect(header.checksum == 0xB8B4)
    #expect(header.source == IPAddress(v4: 0xC0A8_0001))
    #expect(header.destination == IPAddress(v4: 0xC0A8_00C7))
    #expect(contents(header.options) == [])
    #expect(contents(header.payload) == [UInt8](1...12))
  }

  @Test func deconstructOptionsAndFragment() {
    let memory = GuardedMemory(64)
    guard let header = IPv4Header(memory.view(withOptions)) else {
      Issue.record("refused")
      return
    }
    #expect(header.headerLength == 24)
    #expect(header.typeOfService == 0x10)
    #expect(header.identification == 0x1234)
    #expect(header.isDontFragment == false)
    #expect(header.hasMoreFragments == true)
    #expect(header.isFragment == true)
    #expect(header.fragmentOffset == 56)
    #expect(header.transport == .tcp)
    #expect(contents(header.options) == hex("94040000"))
    #expect(contents(header.payload) == hex("CAFEBABE"))
  }

  @Test func construct() {
    let header = written(20) {
      unsafe IPv4Header.write(
        totalLength: 32,
        transport: .udp,
        source: IPAddress(v4: 0xC0A8_0001),
        destination: IPAddress(v4: 0xC0A8_00C7),
        to: $0
      )
    }
    #expect(header == [UInt8](golden.prefix(20)))
    #expect(referenceSum(header) == 0xFFFF)
  }

  @Test func parseTruncatedAndPadded() {
    let memory = GuardedMemory(128)
    for packet in [golden, withOptions] {
      for count in 0...packet.count + 18 {
        let bytes = [UInt8]((packet + [UInt8](repeating: 0xEE, count: 18)).prefix(count))
        guard let header = IPv4Header(memory.view(bytes)) else {
          #expect(count < packet.count, "\(count) bytes")
          continue
        }
        #expect(count >= packet.count, "\(count) bytes")
        #expect(header.payload.byteCount == packet.count - header.headerLength)
      }
    }
  }

  @Test(arguments: [
    ("55", "0020"),  // version 5
    ("44", "0020"),  // header of 16 bytes
    ("40", "0020"),  // header of none
    ("4F", "0020"),  // header longer than the packet
    ("46", "0016"),  // total length within the header
    ("45", "0013"),  // total length less than any header
    ("45", "0000"),
    ("45", "0021"),  // one byte more than there is
    ("45", "FFFF"),
  ])
  func contradictions(first: String, totalLength: String) {
    let memory = GuardedMemory(64)
    let isAccepted =
      IPv4Header(memory.view(hex(first) + golden[1..<2] + hex(totalLength) + golden[4...])) != nil
    #expect(!isAccepted)
  }
}
