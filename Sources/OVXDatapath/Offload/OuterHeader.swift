/// What of a datagram's outer IP header depends on the frame inside.
///
/// The rest is the sending socket's: addresses, ports, Don't Fragment, whether there is a checksum.
package struct OuterHeader: Equatable, BitwiseCopyable, Sendable {
  /// DSCP and ECN: IPv4's type of service, IPv6's traffic class; 0 for what the socket has.
  package var trafficClass: UInt8 = 0
  /// IPv4's time to live, IPv6's hop limit; 0 for what the socket has.
  package var hopLimit: UInt8 = 0

  package init(trafficClass: UInt8 = 0, hopLimit: UInt8 = 0) {
    self.trafficClass = trafficClass
    self.hopLimit = hopLimit
  }

  /// All as the socket has it, which costs nothing.
  package static let plain = OuterHeader()
}

/// How a tunnel's outer headers follow from what they carry: the options `tos` and `ttl` of Open vSwitch.
///
/// ECN is copied in any case (RFC 6040, section 4.1, normal mode), so that a router on the way can mark what the
/// container's own TCP will understand.
package struct OuterHeaderRule: Equatable, BitwiseCopyable, Sendable {
  /// The traffic class that the tunnel's sockets have: a DSCP in bits 7 to 2, the ECN bits 0.
  package var trafficClass: UInt8
  /// Whether the DSCP of an IP packet inside takes the place of `trafficClass`, which is 0 then.
  package var inheritsTrafficClass: Bool
  /// Whether the time to live of an IP packet inside takes the place of the sockets'.
  package var inheritsHopLimit: Bool

  package init(
    trafficClass: UInt8 = 0, inheritsTrafficClass: Bool = false, inheritsHopLimit: Bool = false
  ) {
    self.trafficClass = trafficClass & ~ECN.mask
    self.inheritsTrafficClass = inheritsTrafficClass
    self.inheritsHopLimit = inheritsHopLimit
  }

  /// The outer header for a frame, of which `count` bytes, any number, are at hand.
  @inline(__always)
  package func header(for frame: UnsafeRawPointer, count: Int) -> OuterHeader {
    guard let packet = unsafe InnerPacket(frame, count: count) else { return .plain }
    var header = OuterHeader()
    let inner = unsafe packet.trafficClass(frame)
    if inheritsTrafficClass {
      header.trafficClass = inner
    } else if inner & ECN.mask != 0 {
      header.trafficClass = trafficClass | inner & ECN.mask
    }
    if inheritsHopLimit { header.hopLimit = unsafe packet.hopLimit(frame) }
    return header
  }
}

/// Explicit congestion notification: the low two bits of a traffic class (RFC 3168, section 5).
package enum ECN {
  package static let mask: UInt8 = 3
  package static let notCapable: UInt8 = 0
  package static let capable1: UInt8 = 1
  package static let capable0: UInt8 = 2
  package static let congested: UInt8 = 3

  /// What the inner header is to say after decapsulation, or `nil` where the packet is to be dropped.
  ///
  /// RFC 6040, figure 4. A packet whose sender does not know ECN, and that met congestion, can only be told of it by
  /// its loss.
  @inline(__always)
  package static func decapsulated(inner: UInt8, outer: UInt8) -> UInt8? {
    switch (inner & mask, outer & mask) {
    case (notCapable, congested): nil
    case (_, congested): congested
    case (capable0, capable1): capable1
    default: inner & mask
    }
  }

  /// Combines the outer header's ECN with that of a frame that was just decapsulated.
  ///
  /// Frames that carry no IP stay as they are: nobody behind them would hear of congestion, or miss it.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header.
  ///   - count: Bytes of the frame, any number.
  ///   - outer: The outer header's traffic class.
  /// - Returns: `false` where the frame is to be dropped; it is unchanged then.
  static func decapsulate(
    _ frame: UnsafeMutableRawPointer, count: Int, outer: UInt8
  ) -> Bool {
    guard let packet = unsafe InnerPacket(frame, count: count) else { return true }
    let inner = unsafe packet.trafficClass(frame)
    guard let combined = decapsulated(inner: inner, outer: outer) else { return false }
    if combined != inner & mask {
      unsafe packet.setTrafficClass(inner & ~mask | combined, of: frame)
    }
    return true
  }
}

/// Where a frame carries an IP header, if it does, of which the fixed part is complete.
private struct InnerPacket {
  let offset: Int
  let isIPv6: Bool

  @inline(__always)
  init?(_ frame: UnsafeRawPointer, count: Int) {
    guard count >= EthernetHeader.byteCount else { return nil }
    var offset = EthernetHeader.byteCount
    var type = unsafe EtherType(rawValue: frame.big16(12))
    if type.isVLAN {
      guard let network = unsafe FrameLayout.network(of: frame.span(count)) else { return nil }
      (offset, type) = (network.offset, network.etherType)
    }
    let isIPv6 = type == .ipv6
    guard isIPv6 || type == .ipv4,
      count &- offset >= (isIPv6 ? IPv6Header.byteCount : IPv4Header.minimumByteCount),
      unsafe frame.octet(offset) >> 4 == (isIPv6 ? 6 : 4)
    else { return nil }
    self.offset = offset
    self.isIPv6 = isIPv6
  }

  @inline(__always)
  func trafficClass(_ frame: UnsafeRawPointer) -> UInt8 {
    guard isIPv6 else { return unsafe frame.octet(offset &+ 1) }
    return unsafe UInt8(truncatingIfNeeded: frame.big16(offset) >> 4)
  }

  @inline(__always)
  func hopLimit(_ frame: UnsafeRawPointer) -> UInt8 {
    unsafe frame.octet(offset &+ (isIPv6 ? 7 : 8))
  }

  /// Writes a traffic class, and keeps IPv4's header checksum as right or wrong as it was (RFC 1624, equation 3).
  func setTrafficClass(_ value: UInt8, of frame: UnsafeMutableRawPointer) {
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
