/// Where the headers of an IP frame are, behind up to three VLAN tags: the one parse that every
/// path shares.
///
/// All offsets count from the Ethernet header. 14 <= `networkOffset` < `transportOffset` <=
/// `packetEnd` <= the frame's length, and the IP header, options and extension headers lie within;
/// of the transport header nothing is known yet.
struct FrameLayout {
  var networkOffset: Int
  /// Behind the IP header with its options or extension headers.
  var transportOffset: Int
  /// Where the IP packet ends, and padding may start.
  var packetEnd: Int
  var transport: IPProtocol
  var isIPv6: Bool
  /// Whether the packet is a part of a datagram: then no transport header is to be looked for, even
  /// in the first.
  var isFragment: Bool
  /// Whether an IPv6 routing header has stops left, so that the pseudo-header's destination is
  /// another one.
  var isSourceRouted: Bool

  /// Tags that are looked behind: a service VLAN's, and two of a customer's own.
  static let tagLimit = 3

  /// The address that the packet of a frame with this layout is sent from.
  func source(of frame: RawSpan) -> IPAddress? {
    let packet = frame.dropping(networkOffset)
    return isIPv6 ? IPv6Header(packet)?.source : IPv4Header(packet)?.source
  }

  /// Parses a frame; `nil` where it does not carry IP or contradicts itself.
  @inline(__always)
  init?(_ frame: RawSpan) {
    guard let network = Self.network(of: frame) else { return nil }
    networkOffset = network.offset
    let packet = frame.dropping(network.offset)
    switch network.etherType {
    case .ipv4:
      guard let header = IPv4Header(packet) else { return nil }
      isIPv6 = false
      transport = header.transport
      transportOffset = network.offset &+ header.headerLength
      packetEnd = network.offset &+ header.totalLength
      isFragment = header.isFragment
      isSourceRouted = false
    case .ipv6:
      guard let header = IPv6Header(packet), let layer = header.upperLayer else { return nil }
      isIPv6 = true
      transport = layer.transport
      transportOffset = network.offset &+ layer.offset
      packetEnd = network.offset &+ IPv6Header.byteCount &+ header.payloadLength
      isFragment = layer.isFragment
      isSourceRouted = layer.isSourceRouted
    default:
      return nil
    }
  }

  /// What a frame carries behind its VLAN tags, and where; `nil` where it ends before that.
  @inline(__always)
  static func network(of frame: RawSpan) -> (offset: Int, etherType: EtherType)? {
    guard let header = EthernetHeader(frame) else { return nil }
    var offset = EthernetHeader.byteCount
    var etherType = header.etherType
    for _ in 0..<tagLimit {
      guard etherType.isVLAN else { break }
      guard let tag = VLANHeader(frame.dropping(offset)) else { return nil }
      etherType = tag.etherType
      offset &+= VLANHeader.byteCount
    }
    return (offset, etherType)
  }

  /// Bytes of IP payload behind options and extension headers.
  var transportCount: Int { packetEnd &- transportOffset }

  /// The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1) for an upper-layer
  /// packet of some length.
  @inline(__always)
  func pseudoHeaderSum(_ frame: RawSpan, transportCount: Int) -> InternetSum {
    var sum = addressSum(frame)
    sum.add(UInt64(transport.rawValue))
    sum.add(UInt64(truncatingIfNeeded: transportCount))
    return sum
  }

  /// Whether the complete checksum of a TCP or UDP packet holds; the frame is the one that was
  /// parsed.
  @inline(__always)
  func isTransportChecksumValid(_ frame: UnsafeRawPointer) -> Bool {
    var sum = unsafe pseudoHeaderSum(frame.span(packetEnd), transportCount: transportCount)
    unsafe sum.add(frame + transportOffset, count: transportCount)
    return sum.folded == 0xFFFF
  }

  @inline(__always)
  private func addressSum(_ frame: RawSpan) -> InternetSum {
    var sum = InternetSum()
    if isIPv6 {
      sum.add(frame.big64(networkOffset &+ 8))
      sum.add(frame.big64(networkOffset &+ 16))
      sum.add(frame.big64(networkOffset &+ 24))
      sum.add(frame.big64(networkOffset &+ 32))
    } else {
      sum.add(frame.big64(networkOffset &+ 12))
    }
    return sum
  }
}
