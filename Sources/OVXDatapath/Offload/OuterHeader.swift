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

/// How a tunnel's outer headers follow from what they carry: the options `tos` and `ttl` of Open
/// vSwitch.
///
/// ECN is copied in any case (RFC 6040, section 4.1, normal mode), so that a router on the way can
/// mark what the container's own TCP will understand.
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

  /// The outer header for a frame.
  @inline(__always)
  func header(for frame: RawSpan, _ layout: FrameLayout) -> OuterHeader {
    guard layout.hasIPHeader else { return .plain }
    var header = OuterHeader()
    let inner = layout.trafficClass(of: frame)
    if inheritsTrafficClass {
      header.trafficClass = inner
    } else if inner & ECN.mask != 0 {
      header.trafficClass = trafficClass | inner & ECN.mask
    }
    if inheritsHopLimit { header.hopLimit = layout.hopLimit(of: frame) }
    return header
  }
}
