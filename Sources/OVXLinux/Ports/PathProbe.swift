private import CLinux
private import Glibc
package import OVXDatapath
private import SystemPackage

/// Finds out whether packets of some size get to another host: by ICMP echo requests of that size,
/// never fragmented, which it answers (RFC 4821, section 10.3, by way of RFC 8899).
///
/// An answer is recognised by a random number, which nobody knows who does not see the request.
package struct PathProbe: ~Copyable, Sendable {
  private let socket: Descriptor
  private let isIPv6: Bool
  private let identifier = UInt16.random(in: .min ... .max)
  private let token = UInt64.random(in: .min ... .max)

  private static let headerLength = 8

  /// Opens a socket towards a host, in the calling thread's network namespace.
  ///
  /// - Parameters:
  ///   - remote: The host.
  ///   - local: The address to send from; `nil` for the one that the route prefers.
  /// - Throws: What the kernel refuses, such as that there is no route.
  package init(to remote: IPAddress, from local: IPAddress?) throws(LinuxError) {
    isIPv6 = remote.isIPv6
    socket = try Self.open(to: remote, from: local)
  }

  private static func open(
    to remote: IPAddress, from local: IPAddress?
  ) throws(LinuxError) -> Descriptor {
    let isIPv6 = remote.isIPv6
    let type = Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let number = Glibc.socket(
      isIPv6 ? AF_INET6 : AF_INET, type, Int32(isIPv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
    guard number >= 0 else {
      throw LinuxError(action: "probe the path to", subject: "\(remote)", errno: .latest)
    }
    let socket = Descriptor(owning: number)
    // Up to what the device takes, and with DF, whatever is said of the path.
    if isIPv6 {
      _ = socket.setOption(Int32(IPPROTO_IPV6), IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
      _ = socket.setOption(Int32(IPPROTO_IPV6), IPV6_DONTFRAG, 1)
    } else {
      _ = socket.setOption(Int32(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    }
    var failure: Int32 = 0
    if let local { failure = unsafe ovx_bind_udp_socket(number, isIPv6, local.octets, 0) }
    if failure == 0 {
      failure = unsafe ovx_connect_udp_socket(number, isIPv6, remote.octets, 0)
    }
    guard failure == 0 else {
      throw LinuxError(
        action: "probe the path to", subject: "\(remote)", errno: Errno(rawValue: 0 &- failure))
    }
    return socket
  }

  /// Bytes in front of the echo request.
  private var networkLength: Int { isIPv6 ? 40 : 20 }

  /// Sends an echo request in an IP packet of so many bytes, 64 at least; what the kernel does not
  /// take is not answered.
  package func send(byteCount: Int) {
    var message = [UInt8](repeating: 0, count: max(64, byteCount) - networkLength)
    message[0] = isIPv6 ? 128 : 8
    message[4] = UInt8(truncatingIfNeeded: identifier >> 8)
    message[5] = UInt8(truncatingIfNeeded: identifier)
    for index in 0..<8 {
      message[8 + index] = UInt8(truncatingIfNeeded: token >> UInt64(8 * index))
    }
    if !isIPv6 {
      var sum = InternetSum()
      unsafe message.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { unsafe sum.add(base, count: bytes.count) }
      }
      message[2] = UInt8(truncatingIfNeeded: sum.checksum >> 8)
      message[3] = UInt8(truncatingIfNeeded: sum.checksum)
    }
    unsafe message.withUnsafeBytes { bytes in
      _ = unsafe Glibc.send(socket.rawValue, bytes.baseAddress, bytes.count, 0)
    }
  }

  /// Takes in what has arrived.
  ///
  /// - Returns: The bytes of the IP packets that were answered.
  package func takeAnswers() -> Set<Int> {
    var sizes: Set<Int> = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    // Whatever arrives is bounded: others may send as much as they like.
    for _ in 0..<64 {
      let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe recv(socket.rawValue, bytes.baseAddress, bytes.count, 0)
      }
      // An error that was left here by an ICMP message is taken away by that.
      guard count >= 0 else {
        if Glibc.errno == EAGAIN { break }
        continue
      }
      // IPv4 shows its own header, IPv6 does not.
      let start = isIPv6 ? 0 : Int(buffer[0] & 0x0F) * 4
      guard count >= start + 2 * Self.headerLength, buffer[start] == (isIPv6 ? 129 : 0),
        UInt16(buffer[start + 4]) << 8 | UInt16(buffer[start + 5]) == identifier,
        (0..<8).allSatisfy({ index in
          buffer[start + 8 + index] == UInt8(truncatingIfNeeded: token >> UInt64(8 * index))
        })
      else { continue }
      sizes.insert(count - start + networkLength)
    }
    return sizes
  }
}
