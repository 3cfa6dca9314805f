private import CLinux
private import Glibc
package import OVXDatapath
internal import SystemPackage

/// The number of a network interface in the calling thread's network namespace.
package struct InterfaceIndex: RawRepresentable, Hashable, Sendable {
  /// Above 0.
  package let rawValue: UInt32

  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Looks an interface up by name; `nil` where there is none.
  package init?(name: String) {
    let index = unsafe if_nametoindex(name)
    guard index != 0 else { return nil }
    rawValue = index
  }
}

/// A packet socket on an existing interface (veth, NIC): what arrives there is received whole, and
/// sending puts frames on its wire.
///
/// Frames carry a 10-byte virtio-net header in front (`Offload`), so superframes and missing
/// checksums of a veth's other end pass through; a VLAN tag that the kernel took out is found in
/// `PACKET_AUXDATA`. What the host itself sends by the interface is not received.
///
/// With several queues there is a socket for each, and the kernel shares what arrives among them by
/// a hash that is the same for both directions of a flow (`PACKET_FANOUT_HASH`).
package struct PacketSocket: ~Copyable, Sendable {
  let queues: Queues
  package let interface: InterfaceIndex
  /// What may be sent, as far as the device does it by itself; see `DeviceFeatures`.
  package let capabilities: OffloadCapabilities

  /// Opens a socket on an interface of the calling thread's network namespace.
  ///
  /// - Parameters:
  ///   - name: The interface's.
  ///   - count: How many queues to have.
  /// - Returns: The socket, non-blocking.
  /// - Throws: `.noSuchDevice` where there is none of that name, `.notPermitted` without
  ///   CAP_NET_RAW.
  package static func open(
    interface name: String, queues count: Int = 1
  ) throws(LinuxError) -> PacketSocket {
    let subject = "interface \(name)"
    guard let index = InterfaceIndex(name: name) else {
      throw LinuxError(
        action: "find",
        subject: subject,
        errno: .operationNotSupportedByDevice,
        remedy: "`ip link` shows the interfaces that there are"
      )
    }
    let first = try openSocket(on: index, subject)
    let group = count > 1 ? ovx_found_fanout(first.rawValue) : 0
    var queues = Queues(first)
    while queues.count < count {
      let socket = try openSocket(on: index, subject)
      let joined = group < 0 ? group : ovx_join_fanout(socket.rawValue, group)
      guard joined == 0 else {
        throw LinuxError(
          action: "share the frames among several sockets of", subject: subject,
          errno: Errno(rawValue: -joined), remedy: "use one worker (--workers 1)")
      }
      queues.append(socket)
    }
    return PacketSocket(queues: queues, interface: index, capabilities: capabilities)
  }

  /// Takes over sockets that another process had on an interface of the calling thread's network
  /// namespace.
  ///
  /// What is in their queues is received.
  ///
  /// - Parameters:
  ///   - queues: The sockets.
  ///   - name: The interface's.
  /// - Returns: The socket; `nil` where they are not packet sockets on that interface.
  package static func adopt(_ queues: consuming Queues, interface name: String) -> PacketSocket? {
    guard let index = InterfaceIndex(name: name) else { return nil }
    for number in queues.all where ovx_packet_socket_index(number) != index.rawValue { return nil }
    return PacketSocket(queues: queues, interface: index, capabilities: capabilities)
  }

  private static func openSocket(
    on index: InterfaceIndex, _ subject: String
  ) throws(LinuxError) -> Descriptor {
    let number = ovx_open_packet_socket()
    guard number >= 0 else {
      throw LinuxError(
        action: "open a packet socket for",
        subject: subject,
        errno: Errno(rawValue: -number),
        remedy: "run as root or with CAP_NET_RAW"
      )
    }
    let descriptor = Descriptor(owning: number)
    for (option, name) in requiredOptions {
      if let refusal = descriptor.setOption(SOL_PACKET, option, 1) {
        throw LinuxError(
          action: "set \(name) on",
          subject: subject,
          errno: refusal,
          remedy: "Linux 4.20 or later is needed"
        )
      }
    }
    descriptor.setReceiveBuffer(receiveBufferSize)
    _ = descriptor.setOption(SOL_SOCKET, SO_SNDBUFFORCE, receiveBufferSize)
    let joined = ovx_join_promiscuous(number, index.rawValue)
    guard joined == 0 else {
      throw LinuxError(
        action: "receive all frames of",
        subject: subject,
        errno: Errno(rawValue: -joined)
      )
    }
    let bound = ovx_bind_packet_socket(number, index.rawValue)
    guard bound == 0 else {
      throw LinuxError(
        action: "bind a packet socket to",
        subject: subject,
        errno: Errno(rawValue: -bound)
      )
    }
    return descriptor
  }

  /// Takes the descriptors out.
  package consuming func takeQueues() -> Queues { queues }

  /// What the kernel takes from packet sockets: UDP since Linux 6.2, as for TAPs, and nothing tells
  /// but its version.
  private static let capabilities: OffloadCapabilities =
    ovx_kernel_version() >= 6 << 16 | 2 << 8 ? .all : [.checksum, .tcp4, .tcp6]

  /// 16 MiB: some 200 superframes, what a 40 Gb/s veth sends while the worker waits 3 ms for a
  /// core.
  private static let receiveBufferSize: Int32 = 16 << 20

  private static let requiredOptions: [(Int32, String)] = [
    (PACKET_VNET_HDR, "PACKET_VNET_HDR"),
    (PACKET_AUXDATA, "PACKET_AUXDATA"),
    (PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING"),
    (PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS"),
  ]
}

extension Descriptor {
  /// Makes room for bursts in the socket's receive queue, past the administrator's limit where that
  /// is permitted.
  borrowing func setReceiveBuffer(_ bytes: Int32) {
    guard setOption(SOL_SOCKET, SO_RCVBUFFORCE, bytes) != nil else { return }
    _ = setOption(SOL_SOCKET, SO_RCVBUF, bytes)
  }
}
