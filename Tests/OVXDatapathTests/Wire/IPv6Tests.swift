import OVXDatapath
import Testing

@Suite struct IPv6Tests {
  private let source = IPAddress(v6High: 0xFC00_0000_0000_0000, low: 1)
  private let destination = IPAddress(v6High: 0x2001_0DB8_0102_0304, low: 0x0506_0708_090A_0B0C)
  private let golden = hex(
    """
    6AB54321 0004 11 40 FC000000000000000000000000000001 20010DB8010203040506070809 0A0B0C
    DEADBEEF
    """
  )

  private func packet(_ next: Int, _ chain: [UInt8]) -> [UInt8] {
    [0x60, 0, 0, 0] + big16(chain.count) + [UInt8(next), 64] + golden[8..<40] + chain
  }

  @Test func deconstruct() {
    let memory = GuardedMemory(64)
    guard let header = IPv6Header(memory.view(golden)) else {
      Issue.record("refused")
      return
    }
    #expect(header.trafficClass == 0xAB)
    #expect(header.flowLabel == 0x54321)
    #expect(header.payloadLength == 4)
    #expect(header.nextHeader == .udp)
    #expect(header.hopLimit == 64)
    #expect(header.source == source)
    #expect(header.destination == destination)
    #expect(contents(header.payload) == hex("DEADBEEF"))
    #expect(
      header.upperLayer
        == .init(transport: .udp, offset: 40, isFragment: false, isSourceRouted: false)
    )
  }

  @Test func construct() {
    let header = written(40) {
      unsafe IPv6Header.write(
        trafficClass: 0xAB,
        flowLabel: 0xFFF5_4321,
        payloadLength: 4,
        nextHeader: .udp,
        source: source,
        destination: destination,
        to: $0
      )
    }
    #expect(header == [UInt8](golden.prefix(40)))
  }

  @Test func parseTruncatedAndPadded() {
    let memory = GuardedMemory(64)
    for count in 0...golden.count + 12 {
      let bytes = [UInt8]((golden + [UInt8](repeating: 0xEE, count: 12)).prefix(count))
      guard let header = IPv6Header(memory.view(bytes)) else {
        #expect(count < golden.count, "\(count) bytes")
        continue
      }
      #expect(count >= golden.count, "\(count) bytes")
      #expect(contents(header.payload) == hex("DEADBEEF"))
    }
  }

  @Test func otherVersion() {
    let memory = GuardedMemory(64)
    let isAccepted = IPv6Header(memory.view([0x40] + golden[1...])) != nil
    #expect(!isAccepted)
  }

  /// Hop-by-hop, routing with a stop left, destination options of 16 bytes, atomic fragment, then
  /// TCP.
  private var longChain: [UInt8] {
    hex("2B00 000000000000") + hex("3C02 0401 00000000")
      + [UInt8](repeating: 0, count: 16) + hex("2C01 0000000000000000 0000 00000000")
      + hex("0600 0000 12345678") + [UInt8](repeating: 0x77, count: 20)
  }

  @Test func walk() {
    let memory = GuardedMemory(256)
    guard let header = IPv6Header(memory.view(packet(0, longChain))) else {
      Issue.record("refused")
      return
    }
    #expect(
      header.upperLayer
        == .init(
          transport: .tcp, offset: 40 + 56, isFragment: false, hasFragmentHeader: true,
          isSourceRouted: true)
    )
  }

  @Test func walkTruncated() {
    let memory = GuardedMemory(256)
    // The ends of the headers: in front of each there is nothing to find fault with yet.
    for count in 0..<longChain.count {
      guard let header = IPv6Header(memory.view(packet(0, [UInt8](longChain.prefix(count)))))
      else {
        Issue.record("refused")
        return
      }
      let layer = header.upperLayer
      #expect((layer != nil) == (count >= 56), "\(count) bytes")
      #expect(layer == nil || layer?.transport == .tcp)
    }
  }

  @Test(arguments: [
    ("1100 0001 00000000", true, 0),  // first
    ("1100 0008 00000000", true, 8),  // last, at byte 8
    ("1100 FFF9 00000000", true, 0xFFF8),
    ("1100 0006 00000000", false, 0),  // atomic; reserved bits do not count
  ])
  func fragments(header: String, isFragment: Bool, offset: Int) {
    let memory = GuardedMemory(256)
    guard let header = IPv6Header(memory.view(packet(44, hex(header) + [1, 2, 3, 4]))) else {
      Issue.record("refused")
      return
    }
    #expect(
      header.upperLayer
        == .init(
          transport: .udp, offset: 48, isFragment: isFragment, hasFragmentHeader: true,
          fragmentOffset: offset, isSourceRouted: false)
    )
  }

  @Test func walkStopsBehindFragment() {
    let memory = GuardedMemory(256)
    // What follows is the middle of something, not a destination options header.
    guard
      let header = IPv6Header(memory.view(packet(44, hex("3C00 0008 00000000 FFFFFFFFFFFFFFFF"))))
    else {
      Issue.record("refused")
      return
    }
    #expect(
      header.upperLayer
        == .init(
          transport: .destinationOptions,
          offset: 48,
          isFragment: true,
          fragmentOffset: 8,
          isSourceRouted: false
        )
    )
  }

  @Test func walkIsBounded() {
    let memory = GuardedMemory(1 << 16)
    // Every header announces another one. Where the limit is reached first, the walk ends in good
    // order.
    for length in [7, 8, 9, 1000] {
      let chain = (1...length).flatMap { _ in hex("3C00 000000000000") }
      guard let header = IPv6Header(memory.view(packet(60, chain))) else {
        Issue.record("refused")
        return
      }
      let expected: IPv6Header.UpperLayer? =
        length < IPv6Header.extensionLimit
        ? nil : .init(transport: .destinationOptions, offset: 40 + 8 * IPv6Header.extensionLimit)
      #expect(header.upperLayer == expected, "\(length) headers")
    }
  }
}
