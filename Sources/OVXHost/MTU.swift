private import OVXDatapath

/// MTUs, and the arithmetic of packet sizes between a container's interface and the underlay.
package enum MTU {
  /// Bytes that a tunnel adds to a packet: an outer IPv4 header without options (20), UDP (8),
  /// VXLAN (8), and the inner Ethernet header (14), RFC 7348, section 5.
  package static let tunnelOverheadIPv4 = 50
  /// The same with an outer IPv6 header (40).
  package static let tunnelOverheadIPv6 = 70

  /// The least MTU with which IPv6 works (RFC 8200, section 5).
  ///
  /// With less the kernel takes a device's IPv6 addresses and routes away, and does not give them
  /// back.
  package static let ipv6MinimumMTU = 1280

  /// What the smallest path MTU that IPv4's ICMP messages are believed can be set to: from what
  /// every host must be able to take (RFC 791) to what IPv6 demands of every link.
  package static let pathMTUFloors = 576...1280

  /// The MTU of interfaces where nothing says otherwise.
  package static let defaultMTU = 1500
  /// The largest MTU that is chosen unasked, however much the underlay would take (loopback:
  /// 65,536): what Ethernet equipment calls a jumbo frame.
  ///
  /// An explicit `mtu=` may exceed it.
  package static let largestDefaultMTU = 9000
  /// What the host's end of a veth to a container takes: as much as a veth can (`ETH_MAX_MTU` of
  /// <linux/if_ether.h>).
  static let ofHostEnd = 65_535
  /// The largest inner packet for an underlay's path MTU; 0 for a path that cannot carry any.
  package static func innerMTU(pathMTU: Int, isIPv6: Bool) -> Int {
    max(0, pathMTU - (isIPv6 ? tunnelOverheadIPv6 : tunnelOverheadIPv4))
  }

  /// The value for `IFLA_GSO_MAX_SIZE` of an interface behind a tunnel.
  ///
  /// It makes a full superframe of TCP one send: with more, the last few segments would travel, be
  /// delivered and be acknowledged on their own. A send holds n segments of VXLAN (8) and Ethernet
  /// (14) headers and a packet of the MTU. The value, which is an exclusive bound, is that of n
  /// segments with the smallest headers (IPv4 and TCP, 40) and one Ethernet, IPv4 and TCP header in
  /// front, but small enough that the largest headers (IPv6 and TCP with timestamps,
  /// 72) do not make it n + 1: the kernel takes 321 for its own headers and cuts the rest
  ///   (`sk_setup_caps`).
  package static func gsoMaxSize(mtu: Int) -> Int {
    let mtu = max(mtu, 128)
    let segments = min(
      Transmission.trainFrameLimit, max(1, Transmission.trainByteLimit / (8 + 14 + mtu)))
    return min(
      wholeGSOMaxSize, segments * (mtu - 40) + 54 + 1, (segments + 1) * (mtu - 72) + 320)
  }

  /// The kernel's own `IFLA_GSO_MAX_SIZE`, for interfaces whose superframes never leave this host.
  package static let wholeGSOMaxSize = 65_536
}
