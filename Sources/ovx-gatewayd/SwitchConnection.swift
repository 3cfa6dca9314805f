internal import OVXControl
private import OVXDatapath

/// The switch of this host, as the gateways' maker asks it.
struct SwitchConnection {
  private let client: ControlClient
  /// Seconds that it has for an answer.
  private static let timeout = 10.0

  init(_ client: ControlClient) {
    self.client = client
  }

  /// What gateways there are to be.
  func wishes() throws(ControlError) -> Wishes {
    let replies = try send([
      .list(
        table: "Network", records: [],
        columns: [
          "name", "vni", "subnet", "gateway", "gateway_mode", "nat", "floating", "dhcp", "dns",
          "domain",
          "mtu_request",
        ],
        ifExists: false),
      .list(table: "Switch", records: [], columns: ["other_config"], ifExists: false),
      .find(
        table: "Port",
        conditions: [Condition(column: "publish", comparison: .notEqual, value: "[]")],
        columns: ["name", "network", "publish", "allowed_addresses"]),
    ])
    let (networks, switches) = (replies[0].rows, replies[1].rows)
    var wishes = Wishes()
    for row in networks.rows where row.count == 11 {
      guard let name = row[0].atoms.first?.bare,
        let number = row[1].atoms.first.flatMap({ UInt32($0.bare) }),
        let vni = VNI(rawValue: number),
        let mode = row[4].atoms.first.flatMap({ Configuration.GatewayMode(rawValue: $0.bare) }),
        let nat = row[5].atoms.first.flatMap({
          Configuration.AddressTranslation(rawValue: $0.bare)
        })
      else { throw ControlError("the switch has told of a network in words of another version") }
      // It becomes part of what nft and dnsmasq read.
      try checkNetworkName(name)
      let addresses = row[3].atoms.compactMap { IPAddress($0.bare) }
      guard !addresses.isEmpty, mode != .remote else { continue }
      var floating: [Gateway.Floating] = []
      if case .map(let entries) = row[6] {
        floating = entries.compactMap { outside, member in
          guard let outside = IPAddress(outside), let member = IPAddress(member.bare) else {
            return nil
          }
          return Gateway.Floating(outside: outside, member: member)
        }
      }
      wishes.gateways.append(
        Gateway(
          network: name, vni: vni, subnets: row[2].atoms.compactMap { IPPrefix($0.bare) },
          addresses: addresses, nat: nat, floating: floating.sorted { $0.outside < $1.outside },
          services: Services(
            dhcp: row[7].atoms.first == .boolean(true), dns: row[8].atoms.first == .boolean(true),
            domain: row[9].atoms.first?.bare, mtu: row[10].atoms.first.flatMap { Int($0.bare) })))
      if mode == .central { wishes.central.insert(name) }
    }
    wishes.gateways.sort { $0.network < $1.network }
    try publish(replies[2].rows, &wishes)
    if case .map(let config)? = switches.rows.first?.first {
      let record = Configuration.SwitchRecord(otherConfig: config.mapValues(\.bare))
      wishes.uplinks = record.gatewayUplinks
      wishes.transit = record.gatewayTransit
    }
    return wishes
  }

  /// Adds the ports of the host that lead to members.
  ///
  /// - Parameters:
  ///   - ports: The ports that publish some: name, network, `publish` and `allowed_addresses`.
  ///   - wishes: Where each gateway gets its members'.
  /// - Throws: What the switch says.
  private func publish(_ ports: RecordList, _ wishes: inout Wishes) throws(ControlError) {
    guard !ports.rows.isEmpty else { return }
    let names = ports.rows.compactMap { $0.first?.atoms.first?.bare }
    let interfaces = try send([
      .list(
        table: "Interface", records: names, columns: ["name", "addresses"], ifExists: true)
    ])[0].rows
    var given: [String: [IPAddress]] = [:]
    for row in interfaces.rows where row.count == 2 {
      guard let name = row[0].atoms.first?.bare else { continue }
      given[name] = row[1].atoms.compactMap { InterfaceAddress($0.bare)?.address }
    }
    for row in ports.rows where row.count == 4 {
      guard let name = row[0].atoms.first?.bare,
        let place = wishes.gateways.firstIndex(where: { $0.network == row[1].atoms.first?.bare })
      else { continue }
      let gateway = wishes.gateways[place]
      let addresses = PublishedPort.addresses(
        given: given[name] ?? [], allowed: row[3].atoms.compactMap { AllowedAddress($0.bare) },
        gateways: gateway.addresses, subnets: gateway.subnets)
      for port in row[2].atoms.compactMap({ PublishedPort($0.bare) }) {
        wishes.gateways[place].published += addresses.filter { port.isOf(isIPv6: $0.isIPv6) }
          .map { Gateway.Published(port: port, member: $0) }
      }
    }
    for place in wishes.gateways.indices {
      wishes.gateways[place].published.sort {
        ($0.port.description, $0.member) < ($1.port.description, $1.member)
      }
    }
  }

  /// Who is in a network, as far as this host knows.
  ///
  /// - Parameters:
  ///   - network: Its name.
  ///   - isCentral: Whether those of other hosts count, too: these have told of them when they were
  ///     attached.
  /// - Returns: In the order of their ports' names, those of other hosts last.
  /// - Throws: Also that the network is gone.
  func members(of network: String, isCentral: Bool) throws(ControlError) -> [Member] {
    let replies = try send([
      .find(
        table: "Port",
        conditions: [Condition(column: "network", comparison: .equal, value: network)],
        columns: ["name", "allowed_addresses"]),
      .showNetworks(network: network),
    ])
    guard case .networks(let described) = replies[1], let description = described.first else {
      return []
    }
    var allowed: [String: [AllowedAddress]] = [:]
    for row in replies[0].rows.rows where row.count == 2 {
      guard let name = row[0].atoms.first?.bare else { continue }
      allowed[name] = row[1].atoms.compactMap { AllowedAddress($0.bare) }
    }
    var members = description.members.compactMap { member -> Member? in
      let extra = allowed[member.port] ?? []
      guard member.target == nil else {
        return Member(
          station: member.station, name: Member.name(ofPort: member.port),
          addresses: member.addresses.map(\.address))
      }
      // Of a port that was not attached, such as a virtual machine's, this says what it has been
      // given.
      let stations = extra.compactMap(\.station)
      let single = extra.compactMap(\.prefix).filter { $0.length == $0.base.bitCount }.map(\.base)
      return Member(
        station: stations.count == 1 ? stations[0] : nil, name: Member.name(ofPort: member.port),
        addresses: single)
    }
    guard isCentral,
      case .neighbors(let bridges)? = try send([.showNeighbors(bridges: [description.bridge])])
        .first
    else { return members }
    for entry in bridges.flatMap(\.entries)
    where entry.remote != nil && entry.vlan == description.tag && entry.rival == nil {
      members.append(Member(station: entry.mac, addresses: [entry.ip], isRemote: true))
    }
    return members
  }

  /// Has the switch put a network's gateway port into its router.
  func openGateway(of network: String, in namespace: String) throws(ControlError) {
    _ = try send([.openGateway(network: network, target: namespace)])
  }

  /// Begins to hear of what may change gateways.
  func watch() throws(ControlError) -> WatchConnection {
    try client.watch([.network, .host, .port], timeout: Self.timeout)
  }

  private func send(_ commands: [Command]) throws(ControlError) -> [Reply] {
    try client.replies(to: commands, timeout: Self.timeout)
  }
}
