internal import OVXControl
internal import OVXDatapath

/// What the kernel has given for a desired state.
struct Provision {
  /// The device of a port; `nil` while it is not there.
  var device: (String) -> Topology.Device?
  /// The Ethernet address that a port's device was given; `nil` while that is not known.
  var station: (String) -> MACAddress? = { _ in nil }
  /// Whether a port's device leads out of the host.
  var isUplink: (String) -> Bool = { _ in false }
  /// The socket to receive by; `nil` while it is not open.
  var endpoint: (DesiredState.Endpoint) -> ListenerID?
  /// The sockets towards a VTEP and the largest inner packet on the way; `nil` while there is no
  /// way.
  var path: (DesiredState.Peer) -> (sockets: Range<UInt32>, mtu: Int)?
  /// How superframes get to a VTEP whole; `nil` while they do not.
  var injection: (DesiredState.Peer) -> Injection?
  /// How the fast path reaches a VTEP; `nil` where it does not.
  var fastPath: (DesiredState.Peer) -> FastPathRoute? = { _ in nil }
  /// The devices by which a VTEP's datagrams may come in; `nil` for all.
  var arrivals: (DesiredState.Remote) -> [UInt32]? = { _ in nil }
}

extension Topology {
  /// Describes bridges and some ports anew.
  ///
  /// A port for which the kernel has not given everything waits.
  ///
  /// - Parameters:
  ///   - names: The ports that may be otherwise than they were described, or gone.
  ///   - ids: The numbers by which ports are described, by name.
  ///   - configuration: What there is.
  ///   - desired: What that needs.
  ///   - datapathIDs: The numbers of all of it.
  ///   - provision: What the kernel has given for it.
  /// - Returns: Whether anything is otherwise than it was.
  @discardableResult
  mutating func update(
    _ names: Set<String>, _ ids: inout [String: PortID], _ configuration: Configuration,
    _ desired: DesiredState, _ datapathIDs: DatapathIDs, _ provision: Provision
  ) -> Bool {
    var bridges: [Bridge] = []
    for (name, bridge) in configuration.bridges {
      guard let id = datapathIDs.bridge(name) else { continue }
      bridges.append(
        Bridge(
          id: id, agingTime: bridge.agingTime, addressLimit: bridge.addressLimit,
          suppressesNeighborQuestions: bridge.suppressesNeighborQuestions))
    }
    // In an order of their own, as ports are, so that equal topologies are equal.
    bridges.sort { $0.id.rawValue < $1.id.rawValue }
    var isChanged = bridges != self.bridges
    self.bridges = bridges
    let fallbacks = Fallbacks(desired, provision)
    for name in names {
      let port = Port(name, configuration, desired, datapathIDs, provision, fallbacks)
      if replace(ids[name], by: port) { isChanged = true }
      ids[name] = port?.id
    }
    return isChanged
  }

  /// Puts a port in the place of the one of a number; says whether that makes a difference.
  private mutating func replace(_ old: PortID?, by port: Port?) -> Bool {
    if let old, let place = place(of: old), ports[place].id == old {
      if let port, port.id == old {
        guard ports[place] != port else { return false }
        ports[place] = port
        return true
      }
      ports.remove(at: place)
      if let port { ports.insert(port, at: self.place(of: port.id) ?? ports.count) }
      return true
    }
    guard let port else { return false }
    ports.insert(port, at: place(of: port.id) ?? ports.count)
    return true
  }

  /// Where the port of a number is, or the next one; `nil` behind the last.
  private func place(of id: PortID) -> Int? {
    var range = 0..<ports.count
    while !range.isEmpty {
      let middle = (range.lowerBound + range.upperBound) / 2
      range = ports[middle].id < id ? middle + 1..<range.upperBound : range.lowerBound..<middle
    }
    return range.lowerBound < ports.count ? range.lowerBound : nil
  }

  /// The open sockets that are bound to a local address, by family and UDP port.
  fileprivate struct Fallbacks {
    private var endpoints: [DesiredState.Endpoint: [ListenerID]] = [:]

    init(_ desired: DesiredState, _ provision: Provision) {
      for endpoint in Set(desired.tunnels.values.map(\.endpoint)) where endpoint.local != nil {
        guard let id = provision.endpoint(endpoint) else { continue }
        var anyAddress = endpoint
        anyAddress.local = nil
        endpoints[anyAddress, default: []].append(id)
      }
      for key in endpoints.keys { endpoints[key]?.sort { $0.rawValue < $1.rawValue } }
    }

    subscript(endpoint: DesiredState.Endpoint) -> [ListenerID] { endpoints[endpoint] ?? [] }
  }
}

extension Topology.Port {
  /// Describes a port; `nil` for one that is not there.
  fileprivate init?(
    _ name: String, _ configuration: Configuration, _ desired: DesiredState,
    _ datapathIDs: DatapathIDs,
    _ provision: Provision, _ fallbacks: Topology.Fallbacks
  ) {
    guard let port = configuration.ports[name], let bridge = configuration.bridges[port.bridge]
    else { return nil }
    let tunnel = desired.tunnels[name]
    let portName = DatapathIDs.PortName(name: name, bridge: port.bridge, vni: tunnel?.vni)
    guard let id = datapathIDs.port(portName), let bridgeID = datapathIDs.bridge(port.bridge)
    else { return nil }
    var attachment = Topology.Attachment.waiting
    var gateway: Topology.Gateway?
    if var device = provision.device(name) {
      if configuration.isGateway(port) {
        // It is known although the device is in a namespace of its own, and nobody need have heard
        // from it.
        device.address = port.interface.mac
        gateway =
          port.network.flatMap { configuration.networks[$0] }?.gatewayMode == .central
          ? .central : .distributed
      }
      attachment = .device(device)
    } else if let tunnel {
      attachment = Topology.Attachment(
        tunnel, portName, datapathIDs, provision, fallbacks,
        isJoined: bridge.joinedVNIs.contains(tunnel.vni))
    }
    self.init(
      id: id, bridge: bridgeID, vlans: port.vlans, priorityTags: port.priorityTags,
      limits: port.limits,
      security: configuration.security(
        of: port, station: provision.station(name), isUplink: provision.isUplink(name)),
      attachment: attachment, gateway: gateway)
  }
}

extension Topology.Attachment {
  fileprivate init(
    _ tunnel: DesiredState.Tunnel, _ name: DatapathIDs.PortName, _ datapathIDs: DatapathIDs,
    _ provision: Provision, _ fallbacks: Topology.Fallbacks, isJoined: Bool
  ) {
    let peers = tunnel.peers.compactMap { peer -> Topology.Peer? in
      let remote = peer.remote.address
      guard let id = datapathIDs.peer(DatapathIDs.PeerName(port: name, remote: remote)),
        let path = provision.path(peer)
      else { return nil }
      return Topology.Peer(
        id: id, remote: remote, paths: path.sockets, mtu: path.mtu,
        injection: tunnel.injectsSuperframes ? provision.injection(peer) : nil,
        fastPath: provision.fastPath(peer),
        devices: provision.arrivals(peer.remote),
        takesFloods: !tunnel.withoutFloods.contains(remote))
    }
    guard let endpoint = provision.endpoint(tunnel.endpoint), !peers.isEmpty else {
      self = .waiting
      return
    }
    self = .tunnel(
      Topology.Tunnel(
        vni: tunnel.vni, outgoingVNI: tunnel.outgoingVNI, outerHeader: tunnel.outerHeader,
        endpoint: endpoint, fallbackEndpoints: fallbacks[tunnel.endpoint],
        peers: peers, isJoined: isJoined, learns: !tunnel.isServedByAgent,
        floodsUnknown: tunnel.floodsUnknown))
  }
}
