internal import OVXControl
internal import OVXDatapath

/// The numbers by which the data plane knows bridges, ports and peers.
struct Numbering {
  /// A port as the data plane sees it.
  ///
  /// One that moves to another bridge, or whose tunnel gets another VNI, is another port to it: nothing that was
  /// learned there may be believed here.
  struct PortName: Hashable {
    var name: String
    var bridge: String
    var vni: VNI?
  }

  /// A remote VTEP of a tunnel port.
  ///
  /// However it is sent to: what was learned of it stays when a tunnel's options change.
  struct PeerName: Hashable {
    var port: PortName
    var remote: IPAddress
  }

  private var bridges = Numbers<String>(below: BridgeID.limit)
  private var ports = Numbers<PortName>(below: PortID.limit)
  private var peers = Numbers<PeerName>(from: 1, below: PeerID.limit)

  func bridge(_ name: String) -> BridgeID? {
    bridges[name].map { BridgeID(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  func port(_ name: PortName) -> PortID? {
    ports[name].map { PortID(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  func peer(_ name: PeerName) -> PeerID? {
    peers[name].map { PeerID(rawValue: UInt16(truncatingIfNeeded: $0)) }
  }

  /// Gives numbers to what has none yet, and takes back those of what is gone.
  ///
  /// What finds no number left has none afterwards; a configuration within the limits always does.
  mutating func update(for configuration: Configuration, _ plan: Plan) {
    var wantedPorts: Set<PortName> = []
    var wantedPeers: Set<PeerName> = []
    for (name, port) in configuration.ports {
      let port = PortName(name: name, bridge: port.bridge, vni: plan.tunnels[name]?.vni)
      wantedPorts.insert(port)
      for remote in plan.tunnels[name]?.remotes ?? [] {
        wantedPeers.insert(PeerName(port: port, remote: remote.address))
      }
    }
    bridges.update(to: Set(configuration.bridges.keys))
    ports.update(to: wantedPorts)
    peers.update(to: wantedPeers)
  }

  /// Frees the numbers that were taken back: the data plane has a topology without them.
  mutating func rested() {
    bridges.rested()
    ports.rested()
    peers.rested()
  }
}

extension Numbers {
  fileprivate mutating func update(to wanted: Set<Name>) {
    for name in Array(names) where !wanted.contains(name) { release(name) }
    for name in wanted { _ = number(for: name) }
  }
}

// MARK: - The topology

/// What the kernel has given for a plan.
struct Provision {
  /// The device of a port; `nil` while it is not there.
  var device: (String) -> Topology.Device?
  /// The socket to receive by; `nil` while it is not open.
  var endpoint: (Plan.Endpoint) -> EndpointID?
  /// The sockets towards a VTEP and the largest inner packet on the way; `nil` while there is no way.
  var path: (Plan.Remote) -> (sockets: Range<UInt32>, mtu: Int)?
  /// How superframes get to a VTEP whole; `nil` while they do not.
  var injection: (Plan.Remote) -> Injection?
}

extension Topology {
  /// Describes a configuration to the data plane.
  ///
  /// A port for which the kernel has not given everything waits.
  init(
    _ configuration: Configuration, _ plan: Plan, _ numbering: Numbering, _ provision: Provision
  ) {
    self.init()
    for (name, bridge) in configuration.bridges {
      guard let id = numbering.bridge(name) else { continue }
      bridges.append(
        Bridge(
          id: id, agingTime: bridge.agingTime, addressLimit: bridge.addressLimit,
          suppressesNeighborQuestions: bridge.suppressesNeighborQuestions))
    }
    let fallbacks = Fallbacks(plan, provision)
    for (name, port) in configuration.ports {
      let portName = Numbering.PortName(
        name: name, bridge: port.bridge, vni: plan.tunnels[name]?.vni)
      guard let id = numbering.port(portName), let bridge = numbering.bridge(port.bridge)
      else { continue }
      var attachment = Attachment.waiting
      if let device = provision.device(name) {
        attachment = .device(device)
      } else if let tunnel = plan.tunnels[name] {
        let joined = configuration.bridges[port.bridge]?.joinedVNIs ?? []
        attachment = Attachment(
          tunnel, portName, numbering, provision, fallbacks, isJoined: joined.contains(tunnel.vni))
      }
      ports.append(Port(id: id, bridge: bridge, vlans: port.vlans, attachment: attachment))
    }
    // In an order of their own, so that equal topologies are equal.
    bridges.sort { $0.id.rawValue < $1.id.rawValue }
    ports.sort { $0.id < $1.id }
  }

  /// The open sockets that are bound to a local address, by family and UDP port.
  fileprivate struct Fallbacks {
    private var endpoints: [Plan.Endpoint: [EndpointID]] = [:]

    init(_ plan: Plan, _ provision: Provision) {
      for endpoint in Set(plan.tunnels.values.map(\.endpoint)) where endpoint.local != nil {
        guard let id = provision.endpoint(endpoint) else { continue }
        var anyAddress = endpoint
        anyAddress.local = nil
        endpoints[anyAddress, default: []].append(id)
      }
      for key in endpoints.keys { endpoints[key]?.sort { $0.rawValue < $1.rawValue } }
    }

    subscript(endpoint: Plan.Endpoint) -> [EndpointID] { endpoints[endpoint] ?? [] }
  }
}

extension Topology.Attachment {
  fileprivate init(
    _ tunnel: Plan.Tunnel, _ name: Numbering.PortName, _ numbering: Numbering,
    _ provision: Provision, _ fallbacks: Topology.Fallbacks, isJoined: Bool
  ) {
    let peers = tunnel.remotes.compactMap { remote -> Topology.Peer? in
      guard let id = numbering.peer(Numbering.PeerName(port: name, remote: remote.address)),
        let path = provision.path(remote)
      else { return nil }
      return Topology.Peer(
        id: id, remote: remote.address, paths: path.sockets, mtu: path.mtu,
        injection: tunnel.injectsSuperframes ? provision.injection(remote) : nil)
    }
    guard let endpoint = provision.endpoint(tunnel.endpoint), !peers.isEmpty else {
      self = .waiting
      return
    }
    self = .tunnel(
      Topology.Tunnel(
        vni: tunnel.vni, outgoingVNI: tunnel.outgoingVNI, outerHeader: tunnel.outerHeader,
        endpoint: endpoint, fallbackEndpoints: fallbacks[tunnel.endpoint],
        peers: peers, isJoined: isJoined))
  }
}
