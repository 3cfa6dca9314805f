private import CLinux
package import OVXDatapath

/// Which superframes a network device cuts by itself, as `ethtool -k` shows it.
///
/// What a packet socket with `PACKET_QDISC_BYPASS` sends must need no more: the kernel would have
/// to cut it in software, and drops it instead (`__dev_direct_xmit` of net/core/dev.c). Missing
/// checksums it fills in all the same.
package struct DeviceFeatures: OptionSet, Hashable, Sendable {
  package let rawValue: Int32
  package init(rawValue: Int32) { self.rawValue = rawValue }

  package static let tcp4 = DeviceFeatures(rawValue: Int32(ovx_feature_tcp4))
  package static let tcp6 = DeviceFeatures(rawValue: Int32(ovx_feature_tcp6))
  /// TCP whose first segment says that the sender has reduced its window (CWR).
  package static let ecn = DeviceFeatures(rawValue: Int32(ovx_feature_ecn))
  package static let udp = DeviceFeatures(rawValue: Int32(ovx_feature_udp))
  /// What is inside of UDP tunnels.
  package static let tunnel = DeviceFeatures(rawValue: Int32(ovx_feature_tunnel))

  /// Asks the kernel, in the calling thread's network namespace; none where it does not tell.
  package init(of link: Link) {
    self.init(rawValue: max(0, unsafe ovx_device_features(link.name)))
  }
}

extension Link {
  /// What the switch may send to the device by a packet socket.
  ///
  /// - Parameters:
  ///   - features: The device's.
  ///   - capabilities: What the kernel takes from packet sockets.
  ///   - mtu: The largest packet for it.
  /// - Returns: The device as the data plane has to know it.
  package func device(
    _ features: DeviceFeatures, _ capabilities: OffloadCapabilities, mtu: Int
  ) -> Topology.Device {
    var cut: OffloadCapabilities = [.checksum]
    // Any superframe of TCP may have the mark.
    if features.isSuperset(of: [.tcp4, .ecn]) { cut.insert(.tcp4) }
    if features.isSuperset(of: [.tcp6, .ecn]) { cut.insert(.tcp6) }
    if features.contains(.udp) { cut.insert(.udp) }
    let limit = min(gsoMaxSize ?? Self.defaultGSOMaxSize, gsoIPv4MaxSize ?? .max) - 1
    return Topology.Device(
      mtu: mtu, capabilities: cut.intersection(capabilities), superframeLimit: limit,
      taggedSuperframeLimit: segmentsTagged ? limit : 0)
  }

  /// The kernel's `GSO_LEGACY_MAX_SIZE`: a superframe is shorter.
  private static let defaultGSOMaxSize = 65_536

  /// Whether the device does with tagged frames all that it does with others.
  ///
  /// Nothing tells (`vlan_features` of struct net_device), but of these it is known.
  private var segmentsTagged: Bool { ["veth", "tun", "bridge"].contains(kind) }
}
