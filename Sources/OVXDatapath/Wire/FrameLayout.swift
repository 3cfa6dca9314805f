/// Where the headers of a frame are, behind up to three VLAN tags: the one parse that every path
/// shares, which a frame carries along (`Frame.layout`).
///
/// Offsets count from the Ethernet header. Where `isIP`, 14 <= `networkOffset` < `transportOffset`
/// <= `packetEnd` <= the frame's length, and the IP header, options and extension headers lie
/// within; of the transport header nothing is known yet. Else only `networkOffset` means something.
///
/// Two words, which registers hold.
package struct FrameLayout: BitwiseCopyable, Sendable {
  /// `networkOffset`, `transportOffset` and `packetEnd`, from the low end on.
  private let offsets: UInt64
  /// Flags, `transport` and `etherType`, from the low end on.
  private let kinds: UInt32

  /// Bits of an offset, of which the largest is the end of an IPv6 packet of 64 KB in another one.
  private static let offsetBits: UInt64 = 21
  private static let offsetMask: UInt64 = 1 << offsetBits - 1

  private struct Flags: OptionSet, BitwiseCopyable {
    let rawValue: UInt32

    static let header = Flags(rawValue: 1)
    static let packet = Flags(rawValue: 2)
    static let ipv6 = Flags(rawValue: 4)
    static let fragment = Flags(rawValue: 8)
    static let laterFragment = Flags(rawValue: 16)
    static let sourceRoute = Flags(rawValue: 32)
  }

  /// Tags that are looked behind: a service VLAN's, and two of a customer's own.
  private static let tagLimit = 3

  /// Of a frame that nobody has looked at.
  static let unread = FrameLayout(.vlan, at: 0)

  @inline(__always)
  private init(
    _ etherType: EtherType, at network: Int, upperLayer: Int = 0, end: Int = 0,
    _ transport: IPProtocol = .hopByHop, _ flags: Flags = []
  ) {
    offsets =
      UInt64(truncatingIfNeeded: network)
      | UInt64(truncatingIfNeeded: upperLayer) << Self.offsetBits
      | UInt64(truncatingIfNeeded: end) << (2 * Self.offsetBits)
    kinds = UInt32(etherType.rawValue) << 16 | UInt32(transport.rawValue) << 8 | flags.rawValue
  }

  /// Parses a frame.
  ///
  /// - Parameters:
  ///   - start: The Ethernet header.
  ///   - count: Bytes of the frame, any number.
  package init(_ start: UnsafeRawPointer, count: Int) {
    unsafe self.init(start.span(count))
  }

  /// The same of bytes that are safe to read.
  @inline(__always)
  init(_ frame: RawSpan) {
    guard let header = EthernetHeader(frame) else {
      self.init(.vlan, at: frame.byteCount)
      return
    }
    var offset = EthernetHeader.byteCount
    var type = header.etherType
    for _ in 0..<Self.tagLimit {
      guard type.isVLAN else { break }
      guard let tag = VLANHeader(frame.dropping(offset)) else {
        offset = frame.byteCount
        break
      }
      type = tag.etherType
      offset &+= VLANHeader.byteCount
    }
    switch type {
    case .ipv4: self.init(ipv4: frame.dropping(offset), at: offset)
    case .ipv6: self.init(ipv6: frame.dropping(offset), at: offset)
    default: self.init(type, at: offset)
    }
  }

  @inline(__always)
  private init(ipv4 packet: RawSpan, at offset: Int) {
    guard let header = IPv4Header(packet) else {
      let isThere =
        packet.byteCount >= IPv4Header.minimumByteCount && packet.octet(0) >> 4 == 4
      self.init(.ipv4, at: offset, .hopByHop, isThere ? .header : [])
      return
    }
    var flags: Flags = [.header, .packet]
    if header.isFragment { flags.insert(.fragment) }
    if header.fragmentOffset != 0 { flags.insert(.laterFragment) }
    self.init(
      .ipv4, at: offset, upperLayer: offset &+ header.headerLength,
      end: offset &+ header.totalLength, header.transport, flags)
  }

  @inline(never)
  private init(ipv6 packet: RawSpan, at offset: Int) {
    guard let header = IPv6Header(packet), let layer = header.upperLayer else {
      let isThere = packet.byteCount >= IPv6Header.byteCount && packet.octet(0) >> 4 == 6
      self.init(.ipv6, at: offset, .hopByHop, isThere ? [.header, .ipv6] : .ipv6)
      return
    }
    var flags: Flags = [.header, .packet, .ipv6]
    if layer.isFragment { flags.insert(.fragment) }
    if layer.fragmentOffset != 0 { flags.insert(.laterFragment) }
    if layer.isSourceRouted { flags.insert(.sourceRoute) }
    self.init(
      .ipv6, at: offset, upperLayer: offset &+ layer.offset,
      end: offset &+ IPv6Header.byteCount &+ header.payloadLength, layer.transport, flags)
  }

  private init(offsets: UInt64, kinds: UInt32) {
    self.offsets = offsets
    self.kinds = kinds
  }

  /// The same for a frame that has so many bytes more in front.
  func behind(_ count: Int) -> FrameLayout {
    let all: UInt64 = 1 | 1 << Self.offsetBits | 1 << (2 * Self.offsetBits)
    return FrameLayout(offsets: offsets &+ UInt64(truncatingIfNeeded: count) &* all, kinds: kinds)
  }

  var isUnread: Bool { offsets == 0 }

  private func has(_ flag: Flags) -> Bool { kinds & flag.rawValue != 0 }

  /// Whether it is that of a frame that holds a whole IP packet, which does not contradict itself.
  var isIP: Bool { has(.packet) }
  /// Whether at least the fixed part of an IP header is whole.
  var hasIPHeader: Bool { has(.header) }
  var isIPv6: Bool { has(.ipv6) }
  /// Whether the packet is a part of a datagram: then no transport header is to be looked for, even
  /// in the first.
  var isFragment: Bool { has(.fragment) }
  /// Whether it is another part than the first.
  var isLaterFragment: Bool { has(.laterFragment) }
  /// Whether an IPv6 routing header has stops left, so that the pseudo-header's destination is
  /// another one.
  var isSourceRouted: Bool { has(.sourceRoute) }

  /// What is behind the tags; one of a tag where there are more, or the frame ends before that.
  var etherType: EtherType { EtherType(rawValue: UInt16(truncatingIfNeeded: kinds >> 16)) }
  /// What is behind the IP header with its options or extension headers.
  var transport: IPProtocol { IPProtocol(rawValue: UInt8(truncatingIfNeeded: kinds >> 8)) }

  /// Behind the VLAN tags; the frame's length where it ends before that.
  var networkOffset: Int { Int(truncatingIfNeeded: offsets & Self.offsetMask) }
  /// Behind the IP header with its options or extension headers.
  var transportOffset: Int {
    Int(truncatingIfNeeded: offsets >> Self.offsetBits & Self.offsetMask)
  }
  /// Where the IP packet ends, and padding may start.
  var packetEnd: Int {
    Int(truncatingIfNeeded: offsets >> (2 * Self.offsetBits) & Self.offsetMask)
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

// MARK: Fields of the IP header

extension FrameLayout {
  /// The address that the packet of the frame with this layout is sent from; `nil` where there is
  /// none.
  func source(of frame: RawSpan) -> IPAddress? {
    guard isIP else { return nil }
    let packet = frame.dropping(networkOffset)
    return isIPv6 ? IPv6Header(packet)?.source : IPv4Header(packet)?.source
  }

  /// DSCP and ECN, where `hasIPHeader`.
  @inline(__always)
  func trafficClass(of frame: RawSpan) -> UInt8 {
    guard isIPv6 else { return frame.octet(networkOffset &+ 1) }
    return UInt8(truncatingIfNeeded: frame.big16(networkOffset) >> 4)
  }

  /// The hop limit or time to live, where `hasIPHeader`.
  @inline(__always)
  func hopLimit(of frame: RawSpan) -> UInt8 {
    frame.octet(networkOffset &+ (isIPv6 ? 7 : 8))
  }

  /// Writes a traffic class, where `hasIPHeader`, and keeps IPv4's header checksum as right or
  /// wrong as it was (RFC 1624, equation 3).
  @unsafe func setTrafficClass(_ value: UInt8, of frame: UnsafeMutableRawPointer) {
    let offset = networkOffset
    let old = unsafe frame.big16(offset)
    guard !isIPv6 else {
      return unsafe frame.setBig16(offset, old & 0xF00F | UInt16(value) << 4)
    }
    let new = old & 0xFF00 | UInt16(value)
    var sum = InternetSum()
    unsafe sum.subtract(frame.big16(offset &+ 10))
    sum.subtract(old)
    sum.add(UInt64(new))
    unsafe frame.setBig16(offset, new)
    unsafe frame.setBig16(offset &+ 10, sum.checksum)
  }
}
