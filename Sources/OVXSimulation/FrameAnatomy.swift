package import OVXDatapath

/// Where things are in a frame, found the slow way: the tests' own reading of the standards,
/// sharing no code with the switch.
package struct FrameAnatomy: Equatable {
  package var destination: MACAddress
  package var source: MACAddress
  /// The tags in the frame, outermost first.
  package var tags: [VLANTag] = []
  package var etherType: UInt16
  /// Where the payload of the Ethernet frame begins, behind all tags.
  package var network: Int
  package var packet: Packet?

  /// An IPv4 or IPv6 packet whose header is whole and whose length fits the frame.
  package struct Packet: Equatable {
    package var isIPv6: Bool
    /// The protocol behind the IP header and the IPv6 extension headers.
    package var transportProtocol: UInt8
    package var transport: Int
    /// One past the packet's last byte; what follows in the frame is padding.
    package var end: Int
    package var isFragment: Bool
    /// Whether IPv4 options or IPv6 extension headers are there.
    package var hasExtras: Bool

    package var isTCP: Bool { transportProtocol == 6 && !isFragment }
    package var isUDP: Bool { transportProtocol == 17 && !isFragment }
  }

  /// Reads a frame, or `nil` where it is shorter than its Ethernet header and tags.
  package init?(_ frame: [UInt8]) {
    guard let destination = frame.address(at: 0), let source = frame.address(at: 6),
      var type = frame.number16(at: 12)
    else { return nil }
    self.destination = destination
    self.source = source
    network = 14
    while type == 0x8100 || type == 0x88A8 {
      guard let control = frame.number16(at: network), let inner = frame.number16(at: network + 2)
      else { return nil }
      tags.append(VLANTag(control: control, protocolID: type))
      type = inner
      network += 4
    }
    etherType = type
    packet =
      switch type {
      case 0x0800: Packet(ipv4: frame, at: network)
      case 0x86DD: Packet(ipv6: frame, at: network)
      default: nil
      }
  }
}

extension FrameAnatomy.Packet {
  init?(ipv4 frame: [UInt8], at network: Int) {
    guard let first = frame.number(at: network, count: 1), first >> 4 == 4,
      let length = frame.number16(at: network + 2), let fragment = frame.number16(at: network + 6),
      let kind = frame.number(at: network + 9, count: 1)
    else { return nil }
    let header = Int(first & 15) * 4
    guard header >= 20, Int(length) >= header, network + Int(length) <= frame.count else {
      return nil
    }
    isIPv6 = false
    transportProtocol = UInt8(kind)
    transport = network + header
    end = network + Int(length)
    isFragment = fragment & 0x3FFF != 0
    hasExtras = header > 20
  }

  init?(ipv6 frame: [UInt8], at network: Int) {
    guard let first = frame.number(at: network, count: 1), first >> 4 == 6,
      let length = frame.number16(at: network + 4),
      var next = frame.number(at: network + 6, count: 1),
      frame.count >= network + 40 + Int(length)
    else { return nil }
    isIPv6 = true
    isFragment = false
    hasExtras = false
    end = network + 40 + Int(length)
    transport = network + 40
    while [0, 43, 44, 60].contains(next) {
      guard transport + 8 <= end, let following = frame.number(at: transport, count: 1),
        let size = frame.number(at: transport + 1, count: 1)
      else { return nil }
      if next == 44 { isFragment = true }
      transport += next == 44 ? 8 : (Int(size) + 1) * 8
      hasExtras = true
      next = following
    }
    guard transport <= end else { return nil }
    transportProtocol = UInt8(next)
  }
}

extension FrameAnatomy {
  /// The length of the TCP or UDP header, or `nil` where there is none or it does not fit.
  package func transportHeaderLength(in frame: [UInt8]) -> Int? {
    guard let packet else { return nil }
    if packet.isUDP {
      let length = frame.number16(at: packet.transport + 4).map(Int.init) ?? 0
      return length >= 8 && packet.transport + length <= packet.end ? 8 : nil
    }
    guard packet.isTCP, let offset = frame.number(at: packet.transport + 12, count: 1)
    else { return nil }
    let length = Int(offset >> 4) * 4
    return length >= 20 && packet.transport + length <= packet.end ? length : nil
  }

  /// The ones' complement sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1),
  /// not inverted.
  package func pseudoHeaderSum(in frame: [UInt8]) -> UInt16? {
    guard let packet else { return nil }
    let addresses = packet.isIPv6 ? network + 8..<network + 40 : network + 12..<network + 20
    let rest = UInt64(packet.transportProtocol) + UInt64(packet.end - packet.transport)
    return onesComplementSum(frame[addresses], startingFrom: rest)
  }

  /// Where the TCP or UDP checksum is.
  package var checksumField: Int? {
    guard let packet else { return nil }
    if packet.isTCP { return packet.transport + 16 }
    return packet.isUDP ? packet.transport + 6 : nil
  }

  /// Whether the TCP or UDP checksum is right, or lawfully absent; `nil` where there is none to
  /// check.
  package func hasRightChecksum(in frame: [UInt8]) -> Bool? {
    guard let packet, transportHeaderLength(in: frame) != nil, let field = checksumField,
      let pseudo = pseudoHeaderSum(in: frame), let stored = frame.number16(at: field)
    else { return nil }
    if packet.isUDP, !packet.isIPv6, stored == 0 { return true }
    let sum = onesComplementSum(
      frame[packet.transport..<packet.end],
      startingFrom: UInt64(pseudo)
    )
    return sum == 0xFFFF
  }

  /// The bytes of the TCP or UDP payload.
  package func payload(in frame: [UInt8]) -> ArraySlice<UInt8>? {
    guard let packet, let header = transportHeaderLength(in: frame) else { return nil }
    return frame[packet.transport + header..<packet.end]
  }

  /// Writes the sums that the packet ought to have: IPv4 header, TCP or UDP.
  package func fillChecksums(in frame: inout [UInt8]) {
    guard let packet else { return }
    if !packet.isIPv6 {
      frame.setNumber(UInt16(0), at: network + 10)
      let header = network..<network + Int(frame[network] & 15) * 4
      frame.setNumber(~onesComplementSum(frame[header]), at: network + 10)
    }
    guard transportHeaderLength(in: frame) != nil, let field = checksumField,
      let pseudo = pseudoHeaderSum(in: frame)
    else { return }
    frame.setNumber(UInt16(0), at: field)
    let sum = ~onesComplementSum(
      frame[packet.transport..<packet.end],
      startingFrom: UInt64(pseudo)
    )
    frame.setNumber(sum == 0 && packet.isUDP ? 0xFFFF : sum, at: field)
  }
}
