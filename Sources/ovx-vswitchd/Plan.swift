internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// What a configuration needs of the kernel: the devices and sockets that are to be open for it.
///
/// A pure function of the configuration. The reconciler opens what is in the plan and not open yet, and closes what is
/// open and not in the plan any more.
struct Plan: Equatable {
  /// By the names of their ports.
  var devices: [String: Device] = [:]
  /// By the names of their ports.
  var tunnels: [String: Tunnel] = [:]

  /// A network device of a port.
  struct Device: Equatable {
    var bridge: String
    var place: Place
    /// The Ethernet address to give it; `nil` leaves the one that it has.
    var mac: MACAddress?
    /// The MTU to give it; `nil` for what fits the bridge.
    var mtuRequest: Int?
    /// Whether its frames get a VLAN tag in a tunnel that is a trunk.
    var isTagged: Bool
    /// For an internal one and one in a container: the addresses to give it.
    var addresses: [OVXControl.InterfaceAddress] = []
    /// Whether it is an internal one, which can have addresses from us.
    var isInternal = false
    /// For one in a container: the default routes to give the container.
    var gateways: [IPAddress] = []
    /// For one in a container: which container it is, as `Configuration.Attachment` has it.
    var container: String?
    /// For an internal one: whether the host takes addresses and routes from routers that it hears by it.
    var acceptsRouterAdvertisements = false
  }

  /// Where a device is and who makes it.
  ///
  /// Two devices are the same one if and only if their places are equal.
  enum Place: Hashable {
    /// An existing device of the host.
    case existing(name: String)
    /// A TAP that the daemon makes in its own network namespace.
    case host(name: String)
    /// A TAP that the daemon makes in a container.
    case container(ContainerInterface)

    /// The device's name where it is.
    var name: String {
      switch self {
      case .existing(let name), .host(let name): name
      case .container(let interface): interface.name
      }
    }

    /// Whether it is in the daemon's own network namespace.
    var isOnHost: Bool {
      if case .container = self { false } else { true }
    }
  }

  /// An interface of a container.
  struct ContainerInterface: Hashable {
    /// The container, as it was typed.
    var target: String
    /// The interface's name inside.
    var name: String
  }

  struct Tunnel: Equatable {
    var bridge: String
    var vni: VNI
    var outgoingVNI: VNI
    var outerHeader = OuterHeaderRule()
    var endpoint: Endpoint
    /// Never empty, and none twice.
    var remotes: [Remote]
    /// Whether frames keep a VLAN tag inside.
    var isTrunk: Bool
    /// Whether superframes are to leave whole where that is possible.
    var injectsSuperframes = false

    /// The remotes, each with the VNI that is sent.
    var peers: [Peer] { remotes.map { Peer(remote: $0, vni: outgoingVNI) } }
  }

  /// A socket to receive by.
  ///
  /// Tunnels with the same one share it.
  struct Endpoint: Hashable {
    /// `nil` for any address of the host.
    var local: IPAddress?
    var isIPv6: Bool
    var port: UInt16
  }

  /// A VTEP to send to.
  struct Remote: Hashable {
    var local: IPAddress?
    var address: IPAddress
    var port: UInt16
    /// What its datagrams have in their outer headers.
    var header = UDPSocket.Header()
  }

  /// A VTEP to send frames of one VNI to.
  ///
  /// Tunnels with the same one share its sockets.
  struct Peer: Hashable {
    var remote: Remote
    var vni: VNI
  }

  /// The remotes that superframes are to reach whole.
  var injectedRemotes: Set<Remote> {
    Set(tunnels.values.filter(\.injectsSuperframes).flatMap(\.remotes))
  }

  init() {}

  init(_ configuration: Configuration) {
    update(to: configuration, Set(configuration.ports.keys))
  }

  /// Takes over what a configuration says of some ports, also that they are gone.
  mutating func update(to configuration: Configuration, _ names: Set<String>) {
    for name in names {
      let port = configuration.ports[name]
      tunnels[name] = port.flatMap { port in port.interface.tunnel.map { Tunnel(port, $0) } }
      devices[name] = nil
      if let port, tunnels[name] == nil, let place = Place(port) {
        devices[name] = Device(
          bridge: port.bridge, place: place,
          mac: port.interface.mac
            ?? (port.isBridgeInternal ? configuration.bridges[name]?.hardwareAddress : nil),
          mtuRequest: port.interface.mtuRequest, isTagged: port.vlans.tagsUntagged,
          addresses: port.interface.attachment?.addresses ?? port.interface.addresses,
          isInternal: port.interface.type == .internal,
          gateways: port.interface.attachment?.gateways ?? [],
          container: port.interface.attachment?.container,
          acceptsRouterAdvertisements: port.interface.acceptsRouterAdvertisements)
      }
    }
  }
}

extension Plan.Place {
  fileprivate init?(_ port: Configuration.Port) {
    switch port.interface.type {
    case .system: self = .existing(name: port.name)
    case .internal: self = .host(name: port.name)
    case .tap:
      if let attachment = port.interface.attachment {
        self = .container(
          Plan.ContainerInterface(target: attachment.target, name: attachment.interface))
      } else {
        self = .host(name: port.name)
      }
    case .vxlan, nil: return nil
    }
  }
}

extension Plan.Tunnel {
  fileprivate init(_ port: Configuration.Port, _ tunnel: Configuration.Tunnel) {
    bridge = port.bridge
    vni = tunnel.vni
    outgoingVNI = tunnel.outgoingVNI
    let header = UDPSocket.Header(tunnel)
    outerHeader = OuterHeaderRule(
      trafficClass: header.trafficClass,
      inheritsTrafficClass: tunnel.trafficClass == .inherited,
      inheritsHopLimit: tunnel.hopLimit == .inherited)
    endpoint = Plan.Endpoint(
      local: tunnel.local, isIPv6: tunnel.remotes.contains(where: \.isIPv6),
      port: tunnel.destinationPort)
    remotes = tunnel.remotes.map {
      Plan.Remote(
        local: tunnel.local, address: $0, port: tunnel.destinationPort, header: header)
    }
    injectsSuperframes = tunnel.injectsSuperframes
    if case .access = port.vlans { isTrunk = false } else { isTrunk = true }
  }
}

extension UDPSocket.Header {
  fileprivate init(_ tunnel: Configuration.Tunnel) {
    self.init()
    if case .value(let value) = tunnel.trafficClass { trafficClass = value }
    if case .value(let value) = tunnel.hopLimit { hopLimit = value }
    forbidsFragments = tunnel.forbidsFragments
    hasChecksum = tunnel.hasChecksum
  }
}

extension VLANMembership {
  /// Whether untagged frames of the port belong to a VLAN that has a tag elsewhere.
  fileprivate var tagsUntagged: Bool {
    switch self {
    case .access(let own), .nativeTagged(let own, _), .nativeUntagged(let own, _),
      .dot1qTunnel(let own, _, _):
      own != .untagged
    case .trunk: false
    }
  }
}

// MARK: - Packet sizes

extension Plan {
  /// What limits the packets of one bridge's ports.
  struct Limits: Equatable {
    /// The smallest inner MTU of the bridge's tunnels; `nil` without tunnels.
    var tunnels: Int?
    /// The same for frames that get a tag in a tunnel.
    var taggedTunnels: Int?
    /// The smallest MTU of the bridge's existing devices.
    var devices: Int?

    /// What a port that has no MTU of its own is given.
    func mtu(isTagged: Bool) -> Int {
      let unlimited = tunnels == nil ? Sizes.defaultMTU : Sizes.largestDefaultMTU
      let limit = [isTagged ? taggedTunnels : tunnels, devices].compactMap(\.self).min()
      return max(min(limit ?? unlimited, unlimited), Configuration.mtuRange.lowerBound)
    }

    /// The `IFLA_GSO_MAX_SIZE` of a device with an MTU.
    func gsoMaxSize(mtu: Int) -> Int {
      tunnels == nil ? Sizes.wholeGSOMaxSize : Sizes.gsoMaxSize(mtu: mtu)
    }
  }

  /// The limits of every bridge that has a tunnel or a device.
  ///
  /// - Parameters:
  ///   - innerMTU: The largest inner packet on the way to a VTEP; `nil` while it is not known.
  ///   - deviceMTU: The MTU of an existing device; `nil` while it is not there.
  /// - Returns: By the names of the bridges.
  func limits(
    innerMTU: (Remote) -> Int?, deviceMTU: (String) -> Int?
  ) -> [String: Limits] {
    var limits: [String: Limits] = [:]
    func tighten(_ bridge: String, _ path: WritableKeyPath<Limits, Int?>, _ mtu: Int) {
      let current = limits[bridge, default: Limits()][keyPath: path]
      limits[bridge, default: Limits()][keyPath: path] = min(current ?? mtu, mtu)
    }
    for tunnel in tunnels.values {
      for remote in tunnel.remotes {
        // Until the way is known it is taken for an Ethernet, so that devices need not shrink once it is.
        let mtu =
          innerMTU(remote)
          ?? Sizes.innerMTU(pathMTU: Sizes.defaultMTU, isIPv6: remote.address.isIPv6)
        tighten(tunnel.bridge, \.tunnels, mtu)
        tighten(tunnel.bridge, \.taggedTunnels, tunnel.isTrunk ? mtu - 4 : mtu)
      }
    }
    for device in devices.values {
      if case .existing(let name) = device.place, let mtu = deviceMTU(name) {
        tighten(device.bridge, \.devices, mtu)
      }
    }
    return limits
  }
}
