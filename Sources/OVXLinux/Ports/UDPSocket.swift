private import CLinux
private import Glibc
package import OVXDatapath
internal import SystemPackage

/// A UDP socket of the underlay: one that listens for datagrams of all VTEPs, or one that sends to
/// one of them.
///
/// A listener with several queues is as many sockets, among which the kernel shares what arrives by
/// the addresses and ports outside (`SO_REUSEPORT`). All datagrams of an inner flow have the same.
package struct UDPSocket: ~Copyable, Sendable {
  let queues: Queues
  /// For a sender: the largest IP packet that the path to the remote takes unfragmented, in bytes;
  /// else 0.
  package let pathMTU: Int

  /// Opens the socket on which a VTEP receives, in the calling thread's network namespace.
  ///
  /// - Parameters:
  ///   - local: The VTEP's address; `nil` for all addresses of the host.
  ///   - isIPv6: The family to listen in; an IPv6 listener takes no IPv4 datagrams.
  ///   - port: 4789 unless told otherwise (RFC 7348, section 5).
  ///   - isShared: Whether there are listeners of ours on the same port, for other addresses. Only
  ///     then may there be any.
  ///   - count: How many queues to have.
  /// - Throws: `.addressInUse` where somebody else has the port, `.addressNotAvailable` where no
  ///   interface has the address.
  /// - Returns: The socket, non-blocking.
  package static func listen(
    local: IPAddress?,
    isIPv6: Bool,
    port: UInt16,
    isShared: Bool = false,
    queues count: Int = 1
  ) throws(LinuxError) -> UDPSocket {
    let first = try listener(local: local, isIPv6: isIPv6, port: port, isShared: isShared)
    var queues = Queues(first)
    while queues.count < count {
      queues.append(try listener(local: local, isIPv6: isIPv6, port: port, isShared: true))
    }
    return UDPSocket(queues: queues, pathMTU: 0)
  }

  /// Takes over the sockets by which another process listened; what is in their queues is received.
  ///
  /// - Parameters:
  ///   - queues: The sockets, in the order in which they were bound.
  ///   - local: The address; `nil` for all addresses of the host.
  ///   - isIPv6: The family.
  ///   - port: The UDP port.
  /// - Returns: The socket; `nil` where they are not UDP sockets that are bound so.
  package static func adopt(
    _ queues: consuming Queues, local: IPAddress?, isIPv6: Bool, port: UInt16
  ) -> UDPSocket? {
    let address = local ?? IPAddress.unspecified(isIPv6: isIPv6)
    for number in queues.all {
      let ends = SocketEnds(of: number)
      guard ovx_is_udp_socket(number) != 0, ends.local == address, ends.localPort == port else {
        return nil
      }
    }
    return UDPSocket(queues: queues, pathMTU: 0)
  }

  private static func listener(
    local: IPAddress?, isIPv6: Bool, port: UInt16, isShared: Bool
  ) throws(LinuxError) -> Descriptor {
    let bindAddress = local ?? IPAddress.unspecified(isIPv6: isIPv6)
    let address = local?.description ?? (isIPv6 ? "any IPv6 address" : "any IPv4 address")
    let subject = "\(address) UDP port \(port)"
    let descriptor = try openSocket(isIPv6: bindAddress.isIPv6, for: "listen on", subject)
    if bindAddress.isIPv6 {
      _ = descriptor.setOption(ipv6Level, IPV6_V6ONLY, 1)
      _ = descriptor.setOption(ipv6Level, IPV6_RECVTCLASS, 1)
      // A VTEP may send its outer checksum as zero (RFC 7348, section 5; RFC 6935 for IPv6).
      _ = descriptor.setOption(udpLevel, UDP_NO_CHECK6_RX, 1)
    }
    // By which device a datagram came. Without it no datagram could be told from a forged one.
    let isTold =
      bindAddress.isIPv6
      ? descriptor.setOption(ipv6Level, IPV6_RECVPKTINFO, 1)
      : descriptor.setOption(ipv4Level, IP_PKTINFO, 1)
    if let refusal = isTold {
      throw Self.refusal(
        to: "be told of the devices by which to receive on", subject, refusal.rawValue, port: port)
    }
    // It sends nothing, so that no ICMP message can have it in its quotation: the kernel heeds none
    // for its sake.
    _ =
      bindAddress.isIPv6
      ? descriptor.setOption(ipv6Level, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT)
      : descriptor.setOption(ipv4Level, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
    // What routers say of congestion is in the outer header.
    if !bindAddress.isIPv6 { _ = descriptor.setOption(ipv4Level, IP_RECVTOS, 1) }
    _ = descriptor.setOption(udpLevel, UDP_GRO, 1)
    descriptor.setReceiveBuffer(listenerBufferSize)
    if isShared { _ = descriptor.setOption(SOL_SOCKET, SO_REUSEPORT, 1) }
    let number = descriptor.rawValue
    let bound = FormerDaemon.retryWhileBusy(EADDRINUSE) {
      bind(number, to: bindAddress, port: port)
    }
    guard bound == 0 else {
      throw refusal(to: "listen on", subject, -bound, port: port)
    }
    // After the bind, so that this one was refused where anybody else has the port, and later ones
    // of ours are not. Unlike SO_REUSEADDR it lets nobody in but processes of the same user
    // (socket(7)), so no other user can take the traffic.
    _ = descriptor.setOption(SOL_SOCKET, SO_REUSEPORT, 1)
    return descriptor
  }

  /// Opens a socket that sends to one VTEP from one source port, never fragmenting, in the calling
  /// thread's namespace.
  ///
  /// - Parameters:
  ///   - local: The source address; `nil` for the one that the route prefers.
  ///   - remote: The VTEP to send to.
  ///   - port: The port that it listens on.
  ///   - sourcePort: Carries the flow's entropy, 49152...65535. Sockets to different remotes may
  ///     share one.
  ///   - header: What its datagrams have in their outer headers.
  /// - Throws: `.networkUnreachable` and the like where there is no route at the moment,
  ///   `.addressInUse` where a foreign socket has the source port: take another one.
  /// - Returns: The socket, non-blocking.
  package static func connect(
    local: IPAddress?,
    remote: IPAddress,
    port: UInt16,
    sourcePort: UInt16,
    header: Header = Header()
  ) throws(LinuxError) -> UDPSocket {
    let subject = "\(remote) UDP port \(port) from source port \(sourcePort)"
    let descriptor = try openSocket(isIPv6: remote.isIPv6, for: "send to", subject)
    _ = descriptor.setOption(SOL_SOCKET, SO_REUSEADDR, 1)
    // Nothing is ever read from it: what somebody sends to the source port is to take no memory.
    _ = descriptor.setOption(SOL_SOCKET, SO_RCVBUF, 1)
    if descriptor.setOption(SOL_SOCKET, SO_SNDBUFFORCE, senderBufferSize) != nil {
      _ = descriptor.setOption(SOL_SOCKET, SO_SNDBUF, senderBufferSize)
    }
    descriptor.setHeader(header, isIPv6: remote.isIPv6)
    let bindAddress = local ?? IPAddress.unspecified(isIPv6: remote.isIPv6)
    guard bindAddress.isIPv6 == remote.isIPv6 else {
      throw LinuxError(
        action: "send to",
        subject: subject,
        errno: .addressFamilyNotSupported,
        remedy: "the local address \(bindAddress) is of the other IP version"
      )
    }
    let bound = bind(descriptor.rawValue, to: bindAddress, port: sourcePort)
    guard bound == 0 else { throw refusal(to: "send to", subject, -bound, port: sourcePort) }
    let connected = unsafe ovx_connect_udp_socket(
      descriptor.rawValue, remote.isIPv6, remote.octets, port)
    guard connected == 0 else { throw refusal(to: "send to", subject, -connected, port: port) }
    let mtu = ovx_path_mtu(descriptor.rawValue)
    return UDPSocket(queues: Queues(descriptor), pathMTU: max(0, Int(mtu)))
  }

  /// What the datagrams of a sending socket have in their outer headers.
  package struct Header: Hashable, Sendable {
    /// DSCP and ECN.
    package var trafficClass: UInt8 = 0
    /// IPv4's time to live, IPv6's hop limit; not 0.
    package var hopLimit: UInt8 = 64
    /// IPv4's flag DF; IPv6 never fragments on the way.
    package var forbidsFragments = true
    /// Whether there is a UDP checksum.
    ///
    /// Without one the kernel takes each datagram by itself (`udp_send_skb`), and over IPv6 few
    /// receivers accept it (RFC 6935).
    package var hasChecksum = true

    package init() {}
  }

  /// Takes the descriptors out.
  package consuming func takeQueues() -> Queues { queues }

  /// 32 MiB: what 10 Gb/s bring while the worker waits 25 ms for a core; all VTEPs share the one
  /// queue.
  private static let listenerBufferSize: Int32 = 32 << 20
  private static let senderBufferSize: Int32 = 8 << 20

  private static func bind(_ socket: Int32, to address: IPAddress, port: UInt16) -> Int32 {
    unsafe ovx_bind_udp_socket(socket, address.isIPv6, address.octets, port)
  }

  private static func openSocket(
    isIPv6: Bool,
    for action: String,
    _ subject: String
  ) throws(LinuxError) -> Descriptor {
    do throws(Errno) {
      return try NetworkNamespace.openHere(.underlaySocket(isIPv6: isIPv6))
    } catch {
      throw refusal(to: action, subject, error.rawValue, port: 0)
    }
  }

  private static func refusal(
    to action: String,
    _ subject: String,
    _ code: Int32,
    port: UInt16
  ) -> LinuxError {
    let errno = Errno(rawValue: code)
    let remedy: String? =
      switch errno {
      case .addressInUse:
        "a kernel vxlan device or another program has port \(port): find it with"
          + " `ip -d link show type vxlan` or `ss -ulpn`, and delete it or give another dst_port="
      case .addressNotAvailable: "no interface here has the local address; see `ip address`"
      case .networkUnreachable, .noRouteToHost, .hostIsDown:
        "the underlay has no route there; see `ip route get`"
      case .addressFamilyNotSupported: "IPv6 is switched off here"
      case .permissionDenied, .notPermitted:
        "a firewall or the lack of CAP_NET_BIND_SERVICE forbids it"
      default: nil
      }
    return LinuxError(
      action: action,
      subject: subject,
      errno: errno,
      remedy: remedy
    )
  }
}

extension Descriptor {
  /// Sets what the kernel writes into outer headers, and has it go by the device's MTU alone.
  ///
  /// What an ICMP message says of the path, which anybody can forge, changes nothing about sends
  /// (ip(7): `PROBE` sets DF as `DO` does, `OMIT` leaves it out as `DONT` does, and neither goes by
  /// the path MTU). Whether it is to be believed the control side decides, which tells the data
  /// plane how much a path takes.
  fileprivate borrowing func setHeader(_ header: UDPSocket.Header, isIPv6: Bool) {
    if isIPv6 {
      _ = setOption(ipv6Level, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
      _ = setOption(ipv6Level, IPV6_DONTFRAG, 1)
      _ = setOption(ipv6Level, IPV6_UNICAST_HOPS, Int32(header.hopLimit))
      _ = setOption(ipv6Level, IPV6_TCLASS, Int32(header.trafficClass))
      if !header.hasChecksum { _ = setOption(udpLevel, UDP_NO_CHECK6_TX, 1) }
    } else {
      let discovery = header.forbidsFragments ? IP_PMTUDISC_PROBE : IP_PMTUDISC_OMIT
      _ = setOption(ipv4Level, IP_MTU_DISCOVER, discovery)
      _ = setOption(ipv4Level, IP_TTL, Int32(header.hopLimit))
      _ = setOption(ipv4Level, IP_TOS, Int32(header.trafficClass))
      if !header.hasChecksum { _ = setOption(SOL_SOCKET, SO_NO_CHECK, 1) }
    }
  }
}

private let ipv4Level = Int32(IPPROTO_IP)
private let ipv6Level = Int32(IPPROTO_IPV6)
private let udpLevel = Int32(IPPROTO_UDP)

extension IPAddress {
  static func unspecified(isIPv6: Bool) -> IPAddress {
    isIPv6 ? IPAddress(v6High: 0, low: 0) : IPAddress(v4: 0)
  }
}
