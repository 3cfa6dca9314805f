/// What a router answers to a packet that is too large for the next link: ICMP's "fragmentation
/// needed" (RFC 792, RFC 1191) and ICMPv6's "packet too big" (RFC 4443, section 3.2).
package enum PacketTooBig {
  /// Bytes of the IP packet that holds the answer at most: what every host can take (RFC 1812,
  /// section 4.3.2.3; RFC 4443).
  package static let ipv4ByteLimit = 576
  package static let ipv6ByteLimit = 1280

  /// An answer's length without what it quotes.
  private static let ipv4HeaderLength = IPv4Header.minimumByteCount + messageHeaderLength
  private static let ipv6HeaderLength = IPv6Header.byteCount + messageHeaderLength
  private static let messageHeaderLength = 8

  /// The least MTU that can be told: IPv4's (RFC 791), and IPv6's, below which hosts disregard it
  /// (RFC 8201, section 4).
  private static let ipv4Minimum = 68
  private static let ipv6Minimum = 1280

  /// How long an answer is; `nil` where none may be sent.
  ///
  /// Never answered are errors, what is not from one station to one other, and all but the first
  /// fragment: RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e). Its exception for multicast
  /// is not made use of: the answer comes from the destination. An IPv4 packet is answered without
  /// flag DF, too, since a switch does not fragment.
  ///
  /// - Parameters:
  ///   - packet: An IP packet of any bytes, and what may be behind it.
  ///   - isIPv6: By what its Ethernet header says.
  ///   - mtu: The largest packet that fits, in bytes.
  /// - Returns: The bytes of an IP packet.
  package static func byteCount(answering packet: RawSpan, isIPv6: Bool, mtu: Int) -> Int? {
    if isIPv6 {
      guard mtu >= ipv6Minimum, let header = IPv6Header(packet), header.source.isStation,
        header.destination.isStation, let layer = header.upperLayer
      else { return nil }
      // Behind a fragment header: where the fragment belongs, in units of eight bytes.
      if layer.isFragment, packet.big16(layer.offset &- 6) & 0xFFF8 != 0 { return nil }
      let payload = header.payload.dropping(layer.offset &- IPv6Header.byteCount)
      switch layer.transport {
      case .icmpv6: guard isInformational(v6: payload) else { return nil }
      // An error may be behind those that are not walked over.
      case .hopByHop, .routing, .destinationOptions, .fragment: return nil
      default: break
      }
      return min(
        ipv6ByteLimit, ipv6HeaderLength &+ IPv6Header.byteCount &+ header.payloadLength)
    }
    guard mtu >= ipv4Minimum, let header = IPv4Header(packet), header.source.isStation,
      header.destination.isStation, header.fragmentOffset == 0,
      header.transport != .icmp || isInformational(v4: header.payload)
    else { return nil }
    return min(ipv4ByteLimit, ipv4HeaderLength &+ header.totalLength)
  }

  /// Whether an ICMP message is one of the queries and their answers: RFC 792, 950, 1256 and 8335.
  private static func isInformational(v4 message: RawSpan) -> Bool {
    guard message.byteCount > 0 else { return false }
    switch message.octet(0) {
    case 0, 8, 9, 10, 13...18, 42, 43: return true
    default: return false
    }
  }

  /// Whether an ICMPv6 message is no error, and no redirect.
  private static func isInformational(v6 message: RawSpan) -> Bool {
    guard message.byteCount > 0 else { return false }
    return message.octet(0) >= 128 && message.octet(0) != 137
  }

  /// Writes the answer, an IP packet from the destination of the one that it quotes to its source.
  ///
  /// - Parameters:
  ///   - packet: A packet for which `byteCount` was found, unchanged since.
  ///   - isIPv6: As given there.
  ///   - mtu: As given there.
  ///   - byteCount: What was found.
  ///   - memory: So many bytes, which do not overlap the packet.
  package static func write(
    answering packet: UnsafeRawPointer, isIPv6: Bool, mtu: Int, byteCount: Int,
    to memory: UnsafeMutableRawPointer
  ) {
    let headerLength = isIPv6 ? ipv6HeaderLength : ipv4HeaderLength
    let message = unsafe memory + (headerLength &- messageHeaderLength)
    let messageLength = byteCount &- headerLength &+ messageHeaderLength
    unsafe (memory + headerLength).copyMemory(from: packet, byteCount: byteCount &- headerLength)
    var sum = InternetSum()
    if isIPv6 {
      unsafe IPv6Header.write(
        payloadLength: UInt16(truncatingIfNeeded: messageLength), nextHeader: .icmpv6,
        source: IPAddress(v6High: packet.big64(24), low: packet.big64(32)),
        destination: IPAddress(v6High: packet.big64(8), low: packet.big64(16)), to: memory)
      // Type 2, code 0; then 32 bits of MTU.
      unsafe message.setBig32(0, 2 << 24)
      unsafe message.setBig32(4, UInt32(truncatingIfNeeded: mtu))
      unsafe sum.add(UnsafeRawPointer(memory) + 8, count: 32)
      sum.add(UInt64(IPProtocol.icmpv6.rawValue))
      sum.add(UInt64(truncatingIfNeeded: messageLength))
    } else {
      // Precedence 6, as RFC 1812, section 4.3.2.5, has it.
      unsafe IPv4Header.write(
        typeOfService: 0xC0, totalLength: UInt16(truncatingIfNeeded: byteCount), transport: .icmp,
        source: IPAddress(v4: packet.big32(16)), destination: IPAddress(v4: packet.big32(12)),
        to: memory)
      // Type 3, code 4; then 16 bits of MTU behind 16 of zeros.
      unsafe message.setBig32(0, 3 << 24 | 4 << 16)
      unsafe message.setBig32(4, UInt32(UInt16(clamping: mtu)))
    }
    unsafe sum.add(UnsafeRawPointer(message), count: messageLength)
    unsafe message.setBig16(2, sum.checksum)
  }
}
