/// Where a frame carries an IP header, if it does, of which the fixed part is complete.
struct InnerPacket {
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

  /// Writes a traffic class, and keeps IPv4's header checksum as right or wrong as it was (RFC
  /// 1624, equation 3).
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
