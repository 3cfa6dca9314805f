package import OVXControl
package import OVXDatapath
package import OVXLinux

/// What a configuration needs of the kernel: the devices and sockets that are to be open for it.
///
/// A pure function of the configuration. The reconciler opens what is desired and not open yet, and
/// closes what is open and not desired any more.
package struct DesiredState: Equatable {
  /// By the names of their ports.
  package var devices: [String: Device] = [:]
  /// By the names of their ports.
  package var tunnels: [String: Tunnel] = [:]
  /// What an agent has told of remote VTEPs, by the names of tunnels' ports.
  package private(set) var toldRemotes: [String: ToldRemotes] = [:]
  /// The names of ports by those of the host's ends of their veths.
  package private(set) var hostEnds: [String: String] = [:]
  /// Whether the kernel is to repeat decisions that the switch has taken, where it can.
  package var fastPath = FastPathUse.off

  /// The remote VTEPs that an agent tells for a tunnel.
  package struct ToldRemotes: Equatable {
    package var remotes: [IPAddress] = []
    /// Those among them that have not asked for what is flooded: only stations are told of them.
    package var withoutFloods: Set<IPAddress> = []
  }

  /// A network device of a port.
  package struct Device: Equatable {
    package var bridge: String
    package var place: Place
    /// The Ethernet address to give it; `nil` leaves the one that it has.
    package var mac: MACAddress?
    /// The MTU to give it; `nil` for what fits the bridge.
    package var mtuRequest: Int?
    /// The segments that it is in.
    package var vlans = VLANMembership.trunk(nil)
    /// For an internal one and one in a container: the addresses to give it.
    package var addresses: [OVXControl.InterfaceAddress] = []
    /// For an internal one: the host's routes by it.
    package var routes: [HostRoute] = []
    /// For an existing one: what the host has on the bridge's own device instead.
    package var displaced = HostPlace()
    /// Whether it is an internal one, which can have addresses from us.
    package var isInternal = false
    /// Whether it is a gateway, by which a router passes on packets that others have made.
    package var isGateway = false
    /// For one in a container: the default routes to give the container.
    package var gateways: [IPAddress] = []
    /// For one in a container: which container it is, as `Configuration.Attachment` has it.
    package var container: String?
    /// For an internal one: whether the host takes addresses and routes from routers that it hears
    /// by it.
    package var acceptsRouterAdvertisements = false
  }

  /// Where a device is and who makes it.
  ///
  /// Two devices are the same one if and only if their places are equal.
  package enum Place: Hashable {
    /// An existing device of the host.
    case existing(name: String)
    /// A TAP that the daemon makes in its own network namespace.
    case host(name: String)
    /// A TAP that the daemon makes in a container, or a veth with one end there.
    case container(ContainerInterface)

    /// The device's name where it is.
    package var name: String {
      switch self {
      case .existing(let name), .host(let name): name
      case .container(let interface): interface.name
      }
    }

    /// The name of what the host has of it in the daemon's own network namespace; `nil` for
    /// nothing.
    package var nameOnHost: String? {
      switch self {
      case .existing(let name), .host(let name): name
      case .container(let interface): interface.isVeth ? interface.hostEnd : nil
      }
    }

    /// The interface of a container that it is; `nil` where it is none.
    package var interface: ContainerInterface? {
      switch self {
      case .existing, .host: nil
      case .container(let interface): interface
      }
    }

    /// Whether the switch has it by a packet socket, so that the host's own network stack has to be
    /// kept off.
    var hasPacketSocket: Bool {
      switch self {
      case .existing: true
      case .host: false
      case .container(let interface): interface.isVeth
      }
    }
  }

  /// An interface of a container.
  package struct ContainerInterface: Hashable {
    /// The container, as it was typed.
    package var target: String
    /// The interface's name inside.
    package var name: String
    /// Whether it is one end of a veth, rather than a TAP.
    package var isVeth = false

    /// The name of the host's end where it is a veth: the same for one place at any time, and
    /// nobody else's.
    package var hostEnd: String {
      let hex = String(StableHash(of: "\(name)@\(target)").value, radix: 16)
      return "ovx" + (String(repeating: "0", count: 12) + hex).suffix(12)
    }
  }

  package struct Tunnel: Equatable {
    package var bridge: String
    package var vni: VNI
    package var outgoingVNI: VNI
    package var outerHeader = OuterHeaderRule()
    package var endpoint: Endpoint
    /// None twice; empty only where an agent tells them.
    package var remotes: [Remote]
    /// Whether an agent tells the remotes and what is behind them, and nothing is learned of them.
    package var isServedByAgent = false
    /// Whether frames to stations that are not known go to all remotes.
    package var floodsUnknown = true
    /// Remotes that do not get what is flooded.
    package var withoutFloods: Set<IPAddress> = []
    /// The segments that it carries.
    package var vlans = VLANMembership.trunk(nil)
    /// Whether superframes are to leave whole where that is possible.
    package var injectsSuperframes = false

    /// The remotes, each with the VNI that is sent.
    package var peers: [Peer] { remotes.map { Peer(remote: $0, vni: outgoingVNI) } }
  }

  /// A socket to receive by.
  ///
  /// Tunnels with the same one share it.
  package struct Endpoint: Hashable {
    /// `nil` for any address of the host.
    package var local: IPAddress?
    package var isIPv6: Bool
    package var port: UInt16
  }

  /// A VTEP to send to.
  package struct Remote: Hashable {
    package var local: IPAddress?
    package var address: IPAddress
    package var port: UInt16
    /// What its datagrams have in their outer headers.
    package var header = UDPSocket.Header()
  }

  /// A VTEP to send frames of one VNI to.
  ///
  /// Tunnels with the same one share its sockets.
  package struct Peer: Hashable {
    package var remote: Remote
    package var vni: VNI

    package init(remote: Remote, vni: VNI) {
      self.remote = remote
      self.vni = vni
    }
  }

  /// The remotes that superframes are to reach whole.
  package var injectedRemotes: Set<Remote> {
    Set(tunnels.values.filter(\.injectsSuperframes).flatMap(\.remotes))
  }

  /// The remotes of which it matters whether superframes reach them whole, be it injected or by the
  /// fast path.
  var watchedRemotes: Set<Remote> {
    fastPath != .off ? Set(tunnels.values.flatMap(\.remotes)) : injectedRemotes
  }

  package init() {}

  package init(_ configuration: Configuration) {
    update(to: configuration, Set(configuration.ports.keys))
  }

  /// Takes over which remote VTEPs an agent tells for the tunnel of a port; those of the
  /// configuration are not touched.
  mutating func tell(_ told: ToldRemotes, of port: String, in configuration: Configuration) {
    toldRemotes[port] = told.remotes.isEmpty ? nil : told
    update(to: configuration, [port])
  }

  /// Takes over what a configuration says of some ports, also that they are gone.
  package mutating func update(to configuration: Configuration, _ names: Set<String>) {
    fastPath = configuration.host.fastPath
    // What the host had on a port's device it has on the bridge's own.
    let bridges = names.flatMap { name in
      [configuration.ports[name]?.bridge, devices[name]?.bridge].compactMap(\.self)
    }
    for name in names.union(bridges) {
      let port = configuration.ports[name]
      tunnels[name] = port.flatMap { port in
        port.interface.tunnel.map { Tunnel(port, $0, told: toldRemotes[name] ?? ToldRemotes()) }
      }
      if let end = devices[name]?.place.nameOnHost { hostEnds[end] = nil }
      devices[name] = nil
      if let port, tunnels[name] == nil, let place = Place(port) {
        let isExisting = port.interface.type == .system
        var host = port.interface.place
        if port.isBridgeInternal { host.merge(configuration.displaced(to: port.bridge)) }
        devices[name] = Device(
          bridge: port.bridge, place: place,
          mac: port.interface.mac
            ?? (port.isBridgeInternal ? configuration.bridges[name]?.hardwareAddress : nil),
          mtuRequest: port.interface.mtuRequest, vlans: port.vlans,
          addresses: port.interface.attachment?.addresses ?? (isExisting ? [] : host.addresses),
          routes: isExisting ? [] : host.routes,
          displaced: isExisting ? host : HostPlace(),
          isInternal: port.interface.type == .internal,
          isGateway: configuration.isGateway(port),
          gateways: port.interface.attachment?.gateways ?? [],
          container: port.interface.attachment?.container,
          acceptsRouterAdvertisements: port.interface.acceptsRouterAdvertisements)
        if case .container = place, let end = place.nameOnHost { hostEnds[end] = name }
      }
    }
  }
}

extension Configuration {
  /// What the host has on a bridge's own device for its NICs.
  fileprivate func displaced(to bridge: String) -> HostPlace {
    var place = HostPlace()
    for port in ports(of: bridge) where port.interface.type == .system {
      place.merge(port.interface.place)
    }
    return place
  }
}

extension HostPlace {
  /// Adds what another one has besides.
  fileprivate mutating func merge(_ other: HostPlace) {
    addresses += other.addresses.filter { !addresses.contains($0) }
    routes += other.routes.filter { !routes.contains($0) }
  }
}

extension DesiredState.Place {
  fileprivate init?(_ port: Configuration.Port) {
    switch port.interface.type {
    case .system: self = .existing(name: port.name)
    case .internal: self = .host(name: port.name)
    case .tap, .veth:
      guard let attachment = port.interface.attachment else {
        self = .host(name: port.name)
        return
      }
      self = .container(
        DesiredState.ContainerInterface(
          target: attachment.target, name: attachment.interface,
          isVeth: port.interface.type == .veth))
    case .vxlan, nil: return nil
    }
  }
}

extension DesiredState.Tunnel {
  fileprivate init(
    _ port: Configuration.Port, _ tunnel: Configuration.Tunnel, told: DesiredState.ToldRemotes
  ) {
    let addresses = tunnel.isServedByAgent ? told.remotes : tunnel.remotes
    withoutFloods = tunnel.isServedByAgent ? told.withoutFloods : []
    bridge = port.bridge
    vni = tunnel.vni
    outgoingVNI = tunnel.outgoingVNI
    let header = UDPSocket.Header(tunnel)
    outerHeader = OuterHeaderRule(
      trafficClass: header.trafficClass,
      inheritsTrafficClass: tunnel.trafficClass == .inherited,
      inheritsHopLimit: tunnel.hopLimit == .inherited)
    endpoint = DesiredState.Endpoint(
      local: tunnel.local, isIPv6: tunnel.local?.isIPv6 ?? addresses.contains(where: \.isIPv6),
      port: tunnel.destinationPort)
    remotes = addresses.map {
      DesiredState.Remote(
        local: tunnel.local, address: $0, port: tunnel.destinationPort, header: header)
    }
    injectsSuperframes = tunnel.injectsSuperframes
    isServedByAgent = tunnel.isServedByAgent
    floodsUnknown = tunnel.floodsUnknown
    vlans = port.vlans
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
