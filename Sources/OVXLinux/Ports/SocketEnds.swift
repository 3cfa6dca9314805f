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
    func address(_ octets: UnsafeRawBufferPointer) -> IPAddress {
      unsafe IPAddress(octets: octets.prefix(isIPv6 ? 16 : 4)) ?? .unspecified(isIPv6: isIPv6)
    }
    local = unsafe withUnsafeBytes(of: &ends.local) { unsafe address($0) }
    remote = unsafe withUnsafeBytes(of: &ends.remote) { unsafe address($0) }
    localPort = ends.local_port
    remotePort = ends.remote_port
  }
}
