/// How the fast path reaches a remote VTEP.
package struct FastPathRoute: Hashable, Sendable {
  /// The number of the underlay's device, which segments tunnels itself.
  package var device: UInt32
  package var outer: OuterPath

  package init(device: UInt32, outer: OuterPath) {
    self.device = device
    self.outer = outer
  }
}

/// What the fast path puts in front of a frame for one remote VTEP, and what it knows that VTEP's
/// datagrams by.
package struct FastPathHeader: BitwiseCopyable, Sendable {
  /// Outer Ethernet, IPv4, UDP and VXLAN headers, with zeros for lengths, source port and
  /// checksums; and 6 bytes more.
  package private(set) var words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) =
    (0, 0, 0, 0, 0, 0, 0)
  /// The sum of the outer IPv4 header's 16-bit words as they lie in memory.
  package private(set) var sum: UInt32 = 0
  /// The number of the underlay's device.
  package private(set) var device: UInt32
  /// The addresses of the two VTEPs as integers; IPv4.
  package private(set) var local: UInt32
  package private(set) var remote: UInt32
  /// The UDP port at both of them.
  package private(set) var port: UInt16

  /// Makes one; `nil` where outer headers depend on more than ECN bits inside, or addresses are not
  /// IPv4.
  init?(_ route: FastPathRoute, _ tunnel: Topology.Tunnel) {
    let outer = route.outer
    guard outer.isIPv4, !tunnel.outerHeader.inheritsTrafficClass,
      !tunnel.outerHeader.inheritsHopLimit
    else { return nil }
    device = route.device
    local = UInt32(truncatingIfNeeded: outer.local.low)
    remote = UInt32(truncatingIfNeeded: outer.remote.low)
    port = outer.port
    unsafe withUnsafeMutableBytes(of: &words) { bytes in
      guard let start = bytes.baseAddress else { return }
      unsafe outer.writeHeaders(to: start)
      for word in stride(from: OuterPath.network, to: OuterPath.transport, by: 2) {
        unsafe sum += UInt32(start.loadUnaligned(fromByteOffset: word, as: UInt16.self))
      }
      unsafe VXLANHeader.write(vni: tunnel.outgoingVNI, to: start + OuterPath.payload)
    }
  }
}
