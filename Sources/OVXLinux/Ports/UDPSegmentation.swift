private import CLinux
private import Glibc
internal import OVXDatapath
private import SystemPackage

/// What became of asking the kernel to cut one send into many datagrams (`UDP_SEGMENT`, Linux
/// 4.18).
///
/// Some kernels take the request and send rubbish: those of 7.0-rc1 to 7.1.4, and distributors'
/// that have taken the same change over, write a wrong header where the last datagram is as long as
/// the others. So a train is sent to ourselves once and compared.
package enum UDPSegmentation: String, Sendable {
  case works
  /// The kernel does not know the option.
  case missing
  /// What arrived is not what was sent: datagrams are to be sent one by one.
  case corrupts

  /// What this kernel does; found out when first asked for.
  package static let current = probe()

  /// Sends a train over loopback that is too long to stay whole, so that the kernel itself has to
  /// cut it.
  ///
  /// Where loopback is down or drops it, nothing speaks against the option.
  package static func probe() -> UDPSegmentation {
    let numbers = (ovx_open_udp_socket(false), ovx_open_udp_socket(false))
    guard numbers.0 >= 0, numbers.1 >= 0 else { return .missing }
    let receiver = Descriptor(owning: numbers.0)
    let sender = Descriptor(owning: numbers.1)
    guard sender.setOption(Int32(IPPROTO_UDP), UDP_SEGMENT, Int32(segmentSize)) == nil else {
      return .missing
    }
    receiver.setReceiveBuffer(1 << 20)
    let loopback = IPAddress(v4: 0x7F00_0001)
    guard unsafe ovx_bind_udp_socket(receiver.rawValue, false, loopback.octets, 0) == 0,
      let port = boundPort(of: receiver.rawValue),
      unsafe ovx_connect_udp_socket(sender.rawValue, false, loopback.octets, port) == 0
    else { return .works }
    let train = (0..<segmentSize * segmentCount).map { index in
      UInt8(truncatingIfNeeded: index &* 31 &+ index / segmentSize &* 7)
    }
    let sent = unsafe train.withUnsafeBytes { bytes in
      unsafe send(sender.rawValue, bytes.baseAddress, bytes.count, 0)
    }
    guard sent == train.count else { return .works }
    return verdict(sent: train, received: datagrams(at: receiver.rawValue))
  }

  /// Bytes of a datagram, and datagrams: together more than the 65,493 that stay whole, and less
  /// than the 65,507 that can be sent at once; the last one is as long as the others.
  private static let segmentSize = 1424
  private static let segmentCount = 46

  /// What is to be thought of a kernel that made these datagrams of a train; lost ones are no proof
  /// of anything.
  package static func verdict(sent train: [UInt8], received datagrams: [[UInt8]]) -> UDPSegmentation
  {
    for (index, datagram) in datagrams.enumerated() {
      let wanted = train.dropFirst(index * segmentSize).prefix(segmentSize)
      guard datagram.elementsEqual(wanted) else { return .corrupts }
    }
    return .works
  }

  private static func datagrams(at receiver: Int32) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while result.count < segmentCount {
      var waiting = pollfd(fd: receiver, events: Int16(POLLIN), revents: 0)
      guard unsafe poll(&waiting, 1, 100) == 1 else { break }
      let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe recv(receiver, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT))
      }
      guard count >= 0 else { break }
      result.append([UInt8](buffer[..<count]))
    }
    return result
  }

  private static func boundPort(of socket: Int32) -> UInt16? {
    var address = sockaddr_in()
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe getsockname(socket, $0, &size)
      }
    }
    return result == 0 ? UInt16(bigEndian: address.sin_port) : nil
  }
}
