internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

// The rows of `FDB` and `Neighbor`: the stations behind devices of this host, and their IP
// addresses. A control plane tells other hosts of them.

extension SwitchQueries {
  private struct Segment: Hashable {
    var bridge: String
    var vlan: VLANID
  }

  /// The rows of both tables, as of one moment.
  func stations() -> [WatchedTable: [String: ChangeLog.Row]] {
    let configuration = reconciler.configuration
    var networks: [Segment: Configuration.Network] = [:]
    for network in configuration.networks.values {
      networks[Segment(bridge: network.bridge, vlan: network.tag)] = network
    }
    // Each host has those gateways itself.
    var hidden: Set<String> = []
    for network in networks.values where network.gatewayMode != .central {
      hidden.insert(network.gatewayPort)
    }
    var ports: [PortID: String] = [:]
    for (name, port) in configuration.ports
    where port.interface.type != .vxlan && !hidden.contains(name) {
      if let id = reconciler.port(name) { ports[id] = name }
    }
    var rows: [WatchedTable: [String: ChangeLog.Row]] = [.station: [:], .neighbor: [:]]
    func add(_ mac: MACAddress, _ segment: Segment, port: String, _ kind: StationKind) {
      rows[.station]?["\(segment.bridge)/\(segment.vlan)/\(mac)"] = [
        "bridge": .scalar(.text(segment.bridge)), "vlan": .scalar(Atom(segment.vlan)),
        "mac": .scalar(.text("\(mac)")), "port": .scalar(.text(port)),
        "network": .scalar(networks[segment].map { .text($0.name) }),
        "kind": .scalar(.text(kind.rawValue)),
      ]
    }
    func add(
      _ ip: IPAddress, _ mac: MACAddress, _ segment: Segment, port: String, isRouter: Bool
    ) {
      rows[.neighbor]?["\(segment.bridge)/\(segment.vlan)/\(ip)"] = [
        "bridge": .scalar(.text(segment.bridge)), "vlan": .scalar(Atom(segment.vlan)),
        "ip": .scalar(.text("\(ip)")), "mac": .scalar(.text("\(mac)")),
        "port": .scalar(.text(port)),
        "network": .scalar(networks[segment].map { .text($0.name) }),
        "router": .scalar(.boolean(isRouter)),
      ]
    }
    for bridge in configuration.bridges.keys {
      guard let id = reconciler.bridge(bridge) else { continue }
      let tables = running.dataplane.performOnAll { datapath in
        (datapath.stations(of: id), datapath.stationNeighbors(of: id))
      }
      for known in KnownAddress.merged(tables.map(\.0)) {
        guard let port = ports[known.port] else { continue }
        add(
          known.address, Segment(bridge: bridge, vlan: known.vlan), port: port,
          known.origin == .static ? .static : .learned)
      }
      for known in KnownNeighbor.merged(tables.map(\.1)) {
        guard let port = ports[known.port] else { continue }
        add(
          known.ip, known.address, Segment(bridge: bridge, vlan: known.vlan), port: port,
          isRouter: known.isRouter)
      }
    }
    for name in ports.values {
      guard let port = configuration.ports[name], case .access(let vlan) = port.vlans else {
        continue
      }
      let segment = Segment(bridge: port.bridge, vlan: vlan)
      let isGateway = configuration.isGateway(port)
      guard isGateway || port.interface.attachment != nil,
        let mac = isGateway ? port.interface.mac : reconciler.station(of: name)
      else { continue }
      let isSecured = configuration.isSecured(port)
      guard isGateway || isSecured else { continue }
      add(mac, segment, port: name, isGateway ? .gateway : .attached)
      let addresses =
        isGateway
        ? networks[segment]?.gateways ?? []
        : port.interface.attachment?.addresses.map(\.address) ?? []
      for ip in addresses { add(ip, mac, segment, port: name, isRouter: isGateway) }
    }
    return rows
  }
}
