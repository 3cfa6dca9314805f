/// Explicit congestion notification: the low two bits of a traffic class (RFC 3168, section 5).
package enum ECN {
  package static let mask: UInt8 = 3
  package static let notCapable: UInt8 = 0
  package static let capable1: UInt8 = 1
  package static let capable0: UInt8 = 2
  package static let congested: UInt8 = 3

  /// What the inner header is to say after decapsulation, or `nil` where the packet is to be
  /// dropped.
  ///
  /// RFC 6040, figure 4. A packet whose sender does not know ECN, and that met congestion, can only
  /// be told of it by its loss.
  @inline(__always)
  package static func decapsulated(inner: UInt8, outer: UInt8) -> UInt8? {
    switch (inner & mask, outer & mask) {
    case (notCapable, congested): nil
    case (_, congested): congested
    case (capable0, capable1): capable1
    default: inner & mask
    }
  }
}

extension Frame {
  /// Combines the ECN of the outer header that the frame came behind with its own.
  ///
  /// Frames that carry no IP stay as they are: nobody behind them would hear of congestion, or miss
  /// it.
  ///
  /// - Parameter outer: The outer header's traffic class.
  /// - Returns: `false` where the frame is to be dropped; it is unchanged then.
  mutating func takeOverCongestion(from outer: UInt8) -> Bool {
    let layout = layout
    guard layout.hasIPHeader else { return true }
    let inner = layout.trafficClass(of: bytes)
    guard let combined = ECN.decapsulated(inner: inner, outer: outer) else { return false }
    if combined != inner & ECN.mask {
      unsafe layout.setTrafficClass(inner & ~ECN.mask | combined, of: start)
    }
    return true
  }
}
