/// A hash of the flow that a frame belongs to, for spreading flows over paths.
///
/// Taken from addresses, protocol and ports of IP behind up to three VLAN tags; from the addresses
/// alone where it is a fragment, so that all fragments of a datagram agree; else from Ethernet
/// addresses and EtherType. The same for all frames of a flow, in every process: not for tables
/// that a tenant could fill on purpose.
///
/// - Parameters:
///   - bytes: A frame.
///   - layout: Its layout.
/// - Returns: 32 bits that are equally good; 0 for what is no frame.
package func flowHash(_ bytes: RawSpan, _ layout: FrameLayout) -> UInt32 {
  guard bytes.byteCount >= EthernetHeader.byteCount else { return 0 }
  guard layout.isIP else {
    // 14 bytes as two overlapping words.
    return spread(bytes.big64(0), bytes.big64(6))
  }
  let network = layout.networkOffset
  var upper: UInt64 = 0
  if !layout.isFragment {
    upper = UInt64(layout.transport.rawValue) << 32
    switch layout.transport {
    case .tcp, .udp, .sctp:
      if layout.transportCount >= 4 { upper |= UInt64(bytes.big32(layout.transportOffset)) }
    default: break
    }
  }
  guard layout.isIPv6 else { return spread(bytes.big64(network &+ 12), upper) }
  let source = multiply(bytes.big64(network &+ 8), bytes.big64(network &+ 16))
  let destination = multiply(bytes.big64(network &+ 24), bytes.big64(network &+ 32) ^ upper)
  return spread(source, destination &+ upper)
}

/// Halves of the 128-bit product folded together: every bit of the result depends on all bits of
/// both.
@inline(__always)
private func multiply(_ left: UInt64, _ right: UInt64) -> UInt64 {
  let product = (left ^ 0x9E37_79B9_7F4A_7C15).multipliedFullWidth(
    by: right ^ 0xD1B5_4A32_D192_ED03
  )
  return product.high ^ product.low
}

@inline(__always)
private func spread(_ left: UInt64, _ right: UInt64) -> UInt32 {
  let mixed = multiply(multiply(left, right), left &- right)
  return UInt32(truncatingIfNeeded: mixed ^ mixed >> 32)
}
