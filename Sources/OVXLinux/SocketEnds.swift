private import CLinux
package import OVXDatapath

/// The two ends of a UDP socket, as the outer headers of what it carries show them.
package struct SocketEnds: Equatable, Sendable {
  package var local: IPAddress
  package var localPort: UInt16
  /// Unspecified for a socket that listens.
  package var remote: IPAddress
  package var remotePort: UInt16

  /// Asks the kernel about a socket; unspecified ends where it is none.
  init(of descriptor: Int32) {
    var ends = ovx_socket_ends(descriptor)
    let isIPv6 = ends.ipv6
    local = unsafe withUnsafeBytes(of: &ends.local) { unsafe IPAddress(octets: $0, isIPv6: isIPv6) }
    remote = unsafe withUnsafeBytes(of: &ends.remote) {
      unsafe IPAddress(octets: $0, isIPv6: isIPv6)
    }
    localPort = ends.local_port
    remotePort = ends.remote_port
  }
}

extension IPAddress {
  /// An address of its first 4 or 16 bytes, in network byte order.
  fileprivate init(octets: UnsafeRawBufferPointer, isIPv6: Bool) {
    func number(_ range: Range<Int>) -> UInt64 {
      range.reduce(0) { unsafe $0 << 8 | UInt64(octets[$1]) }
    }
    self =
      isIPv6
      ? IPAddress(v6High: number(0..<8), low: number(8..<16))
      : IPAddress(v4: UInt32(truncatingIfNeeded: number(0..<4)))
  }
}
