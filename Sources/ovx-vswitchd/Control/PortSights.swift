internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

// What the kernel says of the devices of ports.

extension SwitchQueries {
  /// The kernel's description of a port's device, in whatever namespace it is; `nil` while there is
  /// none.
  func link(of name: String) -> Link? {
    reconciler.linkInContainer(of: name) ?? reconciler.linkOnHost(of: name)
  }

  /// Adds to the description of an interface what its device is like.
  func fill(_ interface: inout Show.Interface, of name: String, _ peers: inout VethPeers) {
    guard let link = link(of: name) else { return }
    interface.linkState = link.isRunning ? "up" : "down"
    interface.mac = link.address
    interface.mtu = link.mtu
    // The other end of a container's is the switch's own.
    if configuration.ports[name]?.interface.attachment == nil {
      interface.peer = peers.name(of: link)
    }
    interface.fastPath = reconciler.describeFastPath(ofDevice: name)
    if let attachment = configuration.ports[name]?.interface.attachment {
      interface.addresses = attachment.addresses
    } else if interface.type == .internal {
      interface.addresses = running.kernel.addresses(of: link).compactMap {
        OVXControl.InterfaceAddress($0)
      }
    }
  }
}

extension InterfaceState {
  /// Open vSwitch's names of counters, and `dropped` for all that a port has lost.
  static func statistics(_ counters: PortCounters) -> [String: UInt64] {
    var received: UInt64 = 0
    var sent: UInt64 = 0
    for reason in DropReason.allCases {
      if reason.isOutgoing { sent &+= counters[reason] } else { received &+= counters[reason] }
    }
    return [
      "rx_packets": counters.receivedFrames, "rx_bytes": counters.receivedBytes,
      "tx_packets": counters.sentFrames, "tx_bytes": counters.sentBytes,
      "rx_dropped": received, "tx_dropped": sent, "dropped": received &+ sent,
      "rx_errors": counters[.truncated] &+ counters[.malformedOffload],
      "tx_errors": counters[.deviceRefused] &+ counters[.underlayRefused],
      "collisions": 0, "rx_crc_err": 0, "rx_frame_err": 0, "rx_over_err": 0,
    ]
  }
}

extension DropReason {
  /// Whether a frame that is lost so is charged to the port that it was to leave by.
  fileprivate var isOutgoing: Bool { rawValue >= DropReason.exceedsDeviceMTU.rawValue }
}

/// The names of the other ends of veths, also of those in other namespaces that have a name.
struct VethPeers {
  private let kernel: KernelView
  /// By the number that this namespace has for each.
  private var namespaces: [Int32: NetworkNamespace]?

  init(_ kernel: KernelView) { self.kernel = kernel }

  /// The other end of a device: `eth0`, or `eth0 in red1`; `nil` for a device that is no veth, or
  /// whose other end has gone.
  mutating func name(of link: Link) -> String? {
    guard link.kind == "veth", let peer = link.peer else { return nil }
    guard let number = link.peerNamespace else { return kernel.link(peer)?.name }
    let known = namespaces ?? kernel.namedNamespaces()
    namespaces = known
    guard let namespace = known[number] else { return "device \(peer) of another namespace" }
    guard var netlink = try? Netlink(in: namespace),
      let end = (try? netlink.link(index: peer)) ?? nil
    else { return nil }
    return "\(end.name) in \(namespace.name)"
  }
}
