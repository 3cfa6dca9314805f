internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

/// Queries about the running switch, answered from the configuration, the kernel and the data
/// plane.
struct SwitchQueries {
  let running: RunningSwitch
  let configuration: Configuration
  var reconciler: Reconciler { running.reconciler }
  private var dataplane: Switch { running.dataplane }

  /// Prepares queries.
  ///
  /// - Parameters:
  ///   - running: The switch.
  ///   - configuration: What is asked about: the configuration in force, or in a dry run what would
  ///     be.
  init(_ running: RunningSwitch, _ configuration: Configuration) {
    self.running = running
    self.configuration = configuration
  }

  /// The answer to a question about all of the switch, or a large part, which is put together when
  /// it is sent; `nil` for any other command.
  ///
  /// Nothing in it can fail any more: the command's names have been checked.
  func report(_ command: Command) -> AnswerStream.Part? {
    func later(_ reply: @escaping () -> Reply) -> AnswerStream.Part { .later { [.reply(reply())] } }
    switch command {
    case .show: return later { .show(show()) }
    case .showBridge(let bridge): return later { .show(show(bridge)) }
    case .showLinks(let bridge): return later { .links(links(bridge)) }
    case .showAddresses(let bridges): return .later { addresses(of: bridges) }
    case .addressStatistics(let bridges):
      return later { .addressStatistics(addressStatistics(of: bridges)) }
    case .showNeighbors(let bridges): return .later { neighbors(of: bridges) }
    case .neighborStatistics(let bridges):
      return later { .neighborStatistics(neighborStatistics(of: bridges)) }
    case .statistics(let port): return later { .statistics(statistics(of: port)) }
    case .drops: return later { .drops(drops()) }
    case .showTunnels: return later { .tunnels(tunnels()) }
    case .showNetworks(let network): return later { .networks(networks(network)) }
    default: return nil
    }
  }

  /// The bridges and their ports, or one bridge, with what the kernel says of the devices.
  private func show(_ bridge: String? = nil) -> Show {
    var show = Show(configuration) { reconciler.fault(of: $0)?.sentence }
    if let bridge { show.bridges.removeAll { $0.name != bridge } }
    var peers = VethPeers(running.kernel)
    var gateways: [String: [Show.Gateway]] = [:]
    for network in configuration.networks.values.sorted(by: { $0.name < $1.name }) {
      guard let faults = gateway(of: network.name)?.faults, !faults.isEmpty else { continue }
      gateways[network.bridge, default: []].append(
        Show.Gateway(network: network.name, errors: faults))
    }
    for place in show.bridges.indices {
      show.bridges[place].gateways = gateways[show.bridges[place].name]
      for index in show.bridges[place].ports.indices {
        let name = show.bridges[place].ports[index].name
        fill(&show.bridges[place].ports[index].interface, of: name, &peers)
      }
    }
    return show
  }

  // MARK: Addresses

  /// The address tables of bridges; of all where none is named.
  ///
  /// Each is taken when its turn has come.
  private func addresses(of bridges: [String]) -> [AnswerStream.Part] {
    AnswerStream.Part.reply(
      "addresses",
      AnswerStream.Part.tables(of: selected(bridges)) { name in
        let names = portNames()
        let remotes = peerAddresses()
        let shown = knownAddresses(on: name).filter { names[$0.port] != nil }
          .sorted { ($0.vlan, $0.address) < ($1.vlan, $1.address) }
        return .list(of: shown) { address in
          BridgeAddresses.Entry(
            port: names[address.port] ?? "", vlan: address.vlan, mac: address.address,
            age: address.age, remote: remotes[address.peer],
            isExternal: address.origin == .external || address.origin == .stickyExternal)
        }
      })
  }

  /// The addresses that a bridge knows, in no order.
  func knownAddresses(on bridge: String) -> [KnownAddress] {
    guard let id = reconciler.bridge(bridge) else { return [] }
    return KnownAddress.merged(dataplane.performOnAll { datapath in datapath.addresses(of: id) })
  }

  /// The neighbors that a bridge knows, in no order.
  func knownNeighbors(on bridge: String) -> [KnownNeighbor] {
    guard let id = reconciler.bridge(bridge) else { return [] }
    return KnownNeighbor.merged(dataplane.performOnAll { datapath in datapath.neighbors(of: id) })
  }

  func addressStatistics(of bridges: [String]) -> [BridgeAddressStatistics] {
    selected(bridges).map { name in
      let statistics = reconciler.bridge(name).map { id in
        AddressStatistics.merged(
          dataplane.performOnAll { datapath in datapath.addressStatistics(of: id) })
      }
      return BridgeAddressStatistics(bridge: name, statistics ?? AddressStatistics())
    }
  }

  /// Forgets learned addresses of a bridge, or of all, and returns how many.
  func flushAddresses(of bridge: String?) -> Int {
    let ids = selected(bridge.map { [$0] } ?? []).compactMap { reconciler.bridge($0) }
    // All know the same, but for what was learned this moment.
    return dataplane.performOnAll { datapath in
      var count = 0
      for id in ids { count += datapath.flushAddresses(of: id) }
      return count
    }.max() ?? 0
  }

  // MARK: Neighbors

  /// The neighbor tables of bridges; of all where none is named.
  ///
  /// Each is taken when its turn has come.
  private func neighbors(of bridges: [String]) -> [AnswerStream.Part] {
    AnswerStream.Part.reply(
      "neighbors",
      AnswerStream.Part.tables(of: selected(bridges)) { name in
        let names = portNames()
        let remotes = peerAddresses()
        let contested = reconciler.bridge(name).map { id in
          dataplane.performOnAll { datapath in datapath.contestedNeighbors(of: id) }.flatMap { $0 }
        }
        let shown = knownNeighbors(on: name).filter { names[$0.port] != nil }.sorted {
          ($0.vlan, $0.ip) < ($1.vlan, $1.ip)
        }
        return .list(of: shown) { neighbor in
          BridgeNeighbors.Entry(
            neighbor, port: names[neighbor.port] ?? "", remote: remotes[neighbor.peer],
            rival: contested?.first { $0.ip == neighbor.ip && $0.vlan == neighbor.vlan }
              .map { $0.latter == neighbor.address ? $0.former : $0.latter })
        }
      })
  }

  func neighborStatistics(of bridges: [String]) -> [BridgeNeighborStatistics] {
    selected(bridges).map { name in
      let statistics = reconciler.bridge(name).map { id in
        NeighborStatistics.merged(
          dataplane.performOnAll { datapath in datapath.neighborStatistics(of: id) })
      }
      return BridgeNeighborStatistics(bridge: name, statistics ?? NeighborStatistics())
    }
  }

  /// Forgets the neighbors of a bridge, or of all, and returns how many.
  func flushNeighbors(of bridge: String?) -> Int {
    let ids = selected(bridge.map { [$0] } ?? []).compactMap { reconciler.bridge($0) }
    return dataplane.performOnAll { datapath in
      var count = 0
      for id in ids { count += datapath.flushNeighbors(of: id) }
      return count
    }.max() ?? 0
  }

  /// Sentences about addresses that keep moving; each once a minute at most.
  func takeFlappingAddresses() -> [String] {
    let flapping = dataplane.performOnAll { datapath in
      (datapath.takeFlappingAddresses(), datapath.takeContestedNeighbors())
    }
    guard flapping.contains(where: { !$0.0.isEmpty || !$0.1.isEmpty }) else { return [] }
    let ports = portNames()
    let remotes = peerAddresses()
    func describe(_ place: Destination) -> String? {
      ports[place.port].map { name in
        "port \(name)" + (remotes[place.peer].map { " (remote \($0))" } ?? "")
      }
    }
    func bridgeName(_ number: BridgeID) -> String? {
      configuration.bridges.keys.first { reconciler.bridge($0) == number }
    }
    let addresses: [String] = flapping.flatMap(\.0).compactMap { flap in
      guard let former = describe(flap.former), let latter = describe(flap.latter),
        let bridge = bridgeName(flap.bridge)
      else { return nil }
      return "address \(flap.address) in VLAN \(flap.vlan) of bridge \(bridge) keeps moving "
        + "between \(former) and \(latter), \(flap.moves) times within "
        + "\(FlappingAddress.window) s; look for a loop, or for two stations that both have the "
        + "address"
        + (configuration.bridges[bridge]?.joinedVNIs.isEmpty == false
          ? ", or for a second host that joins the same VNIs (other_config:joined-vnis)" : "")
    }
    let contested: [String] = flapping.flatMap(\.1).compactMap { contest in
      guard let former = describe(contest.formerPlace), let latter = describe(contest.latterPlace),
        let bridge = bridgeName(contest.bridge)
      else { return nil }
      return
        "IP address \(contest.ip) in VLAN \(contest.vlan) of bridge \(bridge) is announced in turn "
        + "by \(contest.former) at \(former) and by \(contest.latter) at \(latter), "
        + "\(contest.changes) times within \(ContestedNeighbor.window) s; two stations have it: "
        + "give one of them another"
    }
    return addresses + contested
  }

  private func selected(_ bridges: [String]) -> [String] {
    bridges.isEmpty ? configuration.bridges.keys.sorted() : bridges
  }

  private func portNames() -> [PortID: String] {
    var names: [PortID: String] = [:]
    for name in reconciler.configuration.ports.keys {
      if let id = reconciler.port(name) { names[id] = name }
    }
    return names
  }

  private func peerAddresses() -> [RemoteVTEPID: IPAddress] {
    var addresses: [RemoteVTEPID: IPAddress] = [:]
    for (name, tunnel) in reconciler.desired.tunnels {
      for remote in tunnel.remotes {
        guard let id = reconciler.remoteVTEP(remote.address, of: name) else { continue }
        addresses[id] = remote.address
      }
    }
    return addresses
  }

  // MARK: Counters

  /// What ports have carried; of one, or of all in the order of bridges and names.
  func statistics(of port: String?) -> [PortStatistics] {
    let counters = self.counters()
    return sortedPorts(port).map { port in
      PortStatistics(
        bridge: port.bridge, port: port.name, counters[port.name] ?? PortCounters())
    }
  }

  /// Lost frames by port and reason, those of no port last.
  func drops() -> [Drop] {
    let counters = self.counters()
    var drops: [Drop] = []
    for port in sortedPorts(nil) {
      guard let counters = counters[port.name] else { continue }
      for reason in DropReason.allCases where counters[reason] != 0 {
        drops.append(Drop(port: port.name, reason: reason, count: counters[reason]))
      }
    }
    let others = PortCounters.sum(
      dataplane.performOnAll { datapath in datapath.counters(of: .none) })
    for reason in DropReason.allCases where others[reason] != 0 {
      // Each worker has noted those that it met.
      let senders =
        reason == .unknownVTEP
        ? Set(dataplane.performOnAll { $0.unknownVTEPs.addresses }.joined()).sorted() : []
      drops.append(Drop(port: nil, reason: reason, count: others[reason], senders: senders))
    }
    return drops
  }

  private func sortedPorts(_ name: String?) -> [Configuration.Port] {
    configuration.ports.values.filter { name == nil || $0.name == name }
      .sorted { ($0.bridge, $0.name) < ($1.bridge, $1.name) }
  }

  /// The counters of all ports, as of one moment.
  private func counters() -> [String: PortCounters] {
    let ids = portNames()
    let numbers = Array(ids.keys)
    let counters = dataplane.performOnAll { datapath in
      numbers.map { datapath.counters(of: $0) }
    }
    var result: [String: PortCounters] = [:]
    for (position, number) in numbers.enumerated() {
      if let name = ids[number] { result[name] = PortCounters.sum(counters.map { $0[position] }) }
    }
    return result
  }

  /// Looks up the read-only columns of an interface.
  ///
  /// - Parameters:
  ///   - name: The interface's.
  ///   - countsFrames: Whether `statistics` is wanted, for which the workers are asked.
  /// - Returns: The columns; `nil` for an interface that is not in force.
  func interface(_ name: String, countsFrames: Bool = true) -> InterfaceState? {
    guard let port = reconciler.port(name) else { return nil }
    var state = InterfaceState()
    state.error = reconciler.fault(of: name)?.sentence
    state.ofport =
      state.error != nil ? -1 : configuration.bridges[name] != nil ? 65534 : Int(port.rawValue) + 1
    if let link = link(of: name) {
      if reconciler.linkOnHost(of: name) != nil { state.linkSpeed = link.speed }
      state.ifindex = Int(link.index)
      state.macInUse = link.address?.description
      state.mtu = link.mtu
      state.isAdministrativelyUp = link.isUp
      state.hasCarrier = link.isRunning
    } else if let assigned = reconciler.assigned(to: name) {
      state.macInUse = assigned.address?.description
      state.mtu = assigned.mtu
    }
    if let remote = reconciler.desired.tunnels[name]?.remotes.first,
      let way = reconciler.way(to: remote)
    {
      state.mtu = way.innerMTU
      state.status["source_ip"] = way.source.description
      state.status["tunnel_egress_iface"] = way.device
      let carrier = running.kernel.links[way.device]?.isRunning ?? false
      state.status["tunnel_egress_iface_carrier"] = carrier ? "up" : "down"
    }
    if countsFrames {
      let counters = PortCounters.sum(
        dataplane.performOnAll { datapath in datapath.counters(of: port) })
      state.statistics = InterfaceState.statistics(counters)
    }
    return state
  }

  // MARK: Tunnels

  /// How many remotes an agent has told of a network; `nil` for one whose remotes are configured.
  func toldRemotes(of name: String) -> Int? {
    guard configuration.isServedByAgent(name), let network = configuration.networks[name] else {
      return nil
    }
    return reconciler.desired.tunnels[network.tunnelPort]?.remotes.count ?? 0
  }

  func tunnels() -> Tunnels {
    let tunnels = reconciler.desired.tunnels.sorted { $0.key < $1.key }
    var listeners: [DesiredState.Endpoint: [String]] = [:]
    for (name, tunnel) in tunnels where reconciler.isListening(at: tunnel.endpoint) {
      listeners[tunnel.endpoint, default: []].append(name)
    }
    return Tunnels(
      tunnels: tunnels.map { name, tunnel in
        Tunnels.Tunnel(
          port: name, bridge: tunnel.bridge, vni: tunnel.vni, outgoingVNI: tunnel.outgoingVNI,
          local: tunnel.endpoint.local, destinationPort: tunnel.endpoint.port,
          remotes: tunnel.remotes.map { describe($0, of: tunnel) })
      },
      listeners: listeners.sorted {
        ($0.key.port, $0.key.local?.description ?? "") < (
          $1.key.port, $1.key.local?.description ?? ""
        )
      }.map { endpoint, tunnels in
        Tunnels.Listener(address: endpoint.local, port: endpoint.port, tunnels: tunnels)
      },
      features: features, filter: tunnels.isEmpty ? nil : running.filter.state())
  }

  // MARK: Networks

  /// A network, or all in the order of their names.
  private func networks(_ name: String?) -> [NetworkDescription] {
    let networks = configuration.networks.values.filter { name == nil || $0.name == name }
    return networks.sorted { $0.name < $1.name }.map { network in
      var description = NetworkDescription(network, in: configuration)
      if let tunnel = reconciler.desired.tunnels[network.tunnelPort] {
        description.remotes = tunnel.remotes.map { remote in
          let state = describe(remote, of: tunnel)
          return NetworkDescription.Remote(
            address: remote.address, mtu: state.mtu, error: state.error)
        }
        description.error = reconciler.fault(of: network.tunnelPort)?.sentence
      }
      if description.error == nil, let port = description.gatewayPort {
        description.error = reconciler.fault(of: port)?.sentence
      }
      if let gateway = gateway(of: network.name) {
        description.gatewayState = gateway.condition
        description.gatewayErrors = gateway.faults
        description.error = description.error ?? gateway.faults.first
      }
      for index in description.members.indices {
        let port = description.members[index].port
        description.members[index].station = reconciler.station(of: port)
        description.members[index].error = reconciler.fault(of: port)?.sentence
        if let address = link(of: port)?.address ?? reconciler.assigned(to: port)?.address {
          description.members[index].mac = address
        }
      }
      return description
    }
  }

  /// What is known of a network's gateway on this host; see `GatewayReports.state`.
  func gateway(of name: String) -> GatewayState? {
    guard let network = configuration.networks[name] else { return nil }
    let port = configuration.ports[network.gatewayPort].flatMap {
      network.isGateway($0) ? $0.name : nil
    }
    var state = running.gateways.state(of: network, hasPort: port != nil)
    if let port, reconciler.fault(of: port)?.isOutage == true { state?.condition = .down }
    return state
  }

  /// How datagrams are sent and received, and why not better.
  private var features: [String] {
    let sending =
      switch UDPSegmentation.current {
      case .works: "UDP_SEGMENT"
      case .missing: "one datagram per send (this kernel has no UDP_SEGMENT)"
      case .corrupts: "one datagram per send (this kernel's UDP_SEGMENT corrupts them)"
      }
    let workers = dataplane.queueCount
    return [sending, "UDP_GRO"] + (workers > 1 ? ["\(workers) workers"] : [])
  }

  /// What has become of one of a tunnel's remotes.
  func describe(_ remote: DesiredState.Remote, of tunnel: DesiredState.Tunnel) -> Tunnels.Remote {
    let peer = DesiredState.Peer(remote: remote, vni: tunnel.outgoingVNI)
    let sockets = reconciler.socketCount(to: peer)
    let way = sockets == nil ? nil : reconciler.way(to: remote)
    return Tunnels.Remote(
      address: remote.address, mtu: way?.innerMTU, device: way?.device,
      sourcePorts: sockets ?? 0,
      superframes: way == nil ? nil : reconciler.describeSuperframes(to: remote, of: tunnel),
      fastPath: reconciler.describeFastPath(to: peer),
      error: reconciler.fault(of: peer)?.sentence)
  }
}
