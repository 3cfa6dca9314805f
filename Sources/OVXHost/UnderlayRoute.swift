internal import OVXControl
package import OVXDatapath
internal import OVXLinux

/// The way to a VTEP.
package struct UnderlayRoute: Equatable {
  /// The address to send from.
  ///
  /// When the kernel would choose another one, the sockets are opened anew.
  package var source: IPAddress
  /// The largest IP packet that gets through, as far as the kernel knows.
  var pathMTU: Int
  /// The largest IP packet of a tenant that gets through inside of a tunnel, in bytes.
  package var innerMTU: Int
  /// The device that packets leave by.
  package var device: String
  /// Whether less gets through than the device takes.
  ///
  /// The kernel forgets that without saying so.
  var isNarrow: Bool
  /// The indices of the devices by which the VTEP's datagrams may come: those that lead to it.
  var devices: [UInt32] = []
  /// How superframes can leave by it.
  var superframes = Superframes.segmented("nobody asked")

  /// How superframes leave.
  enum Superframes: Equatable {
    /// In trains of datagrams, and why.
    case segmented(String)
    /// Whole.
    case injected(Outlet)
  }

  /// Where injected superframes leave the host, and to whom.
  struct Outlet: Equatable {
    var linkIndex: Int32
    var device: String
    var source: MACAddress
    var nextHop: MACAddress
  }
}

extension UnderlayRoute {
  /// The address to send to a VTEP from.
  ///
  /// - Parameters:
  ///   - remote: The VTEP.
  ///   - route: What the kernel would do with a packet for it.
  /// - Returns: The tunnel's own, or the one that the kernel would choose.
  /// - Throws: That there is none, or that the VTEP is this host itself.
  static func source(
    to remote: DesiredState.Remote, by route: Route
  ) throws(Fault) -> IPAddress {
    guard !route.isBroadcast else {
      throw Fault(
        "\(remote.address) is the broadcast address of a network of this host's; the remote of a tunnel is one other host",
        isTransient: false)
    }
    guard let source = remote.local ?? route.source else {
      throw Fault("no address of this host to send to \(remote.address) from", isTransient: true)
    }
    guard source != remote.address else {
      throw Fault(
        "\(remote.address) is this host's own address; the remote of a tunnel is another host",
        isTransient: false)
    }
    return source
  }

  /// Describes the way to a VTEP.
  ///
  /// - Parameters:
  ///   - remote: The VTEP.
  ///   - source: The address to send from.
  ///   - link: The device that packets leave by; `nil` where it is not known.
  ///   - pathMTU: The largest IP packet that gets through, in bytes, where less than the device
  ///     takes.
  ///   - devices: The indices of the devices that lead to it.
  /// - Throws: That it is too narrow for a tunnel.
  init(
    to remote: DesiredState.Remote, from source: IPAddress, over link: Link?, pathMTU: Int?,
    devices: [UInt32]
  ) throws(Fault) {
    // A tenant would have what all tenants send.
    if let link, link.name.hasPrefix(Configuration.Network.transitDevicePrefix) {
      throw Fault(
        "the host's route to \(remote.address) leads to the gateway of a network, by \(link.name); give that network "
          + "nat=masquerade or another subnet", isTransient: true)
    }
    let pathMTU = pathMTU ?? link?.mtu ?? MTU.defaultMTU
    let innerMTU = MTU.innerMTU(pathMTU: pathMTU, isIPv6: remote.address.isIPv6)
    guard innerMTU >= Configuration.mtuRange.lowerBound else {
      throw Fault(
        "the way to \(remote.address) takes packets of \(pathMTU) bytes, too small for a tunnel",
        isTransient: true)
    }
    self.init(
      source: source, pathMTU: pathMTU, innerMTU: innerMTU, device: link?.name ?? "?",
      isNarrow: pathMTU < link?.mtu ?? 0, devices: devices)
  }
}
