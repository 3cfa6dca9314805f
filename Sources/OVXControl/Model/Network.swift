package import OVXDatapath

extension Configuration {
  /// A tenant's network: one Ethernet over all hosts that have it, a VNI between them and a VLAN of
  /// a bridge on each.
  ///
  /// What it is made of stands in the other tables: its bridge, the tunnel port (`tunnelPort`) to
  /// the other hosts, and the ports of its members, which have its VLAN for their tag.
  package struct Network: Codable, Equatable, Sendable {
    package var name: String
    package var vni: VNI
    package var bridge: String
    /// Its VLAN on this host; chosen when the network is made, and kept.
    package var tag: VLANID
    /// The networks that its members' addresses are of, in order of their texts; empty for a
    /// network of layer 2 only.
    package var subnets: [IPPrefix] = []
    /// What this host may hand out of them; empty for all.
    package var ranges: [AddressRange] = []
    /// The other hosts; empty for those of the switch.
    package var remotes: [IPAddress] = []
    /// The gateways' addresses, at most one of each address family.
    package var gateways: [IPAddress] = []
    /// Which hosts have the gateway; of no account where there is no address for it.
    package var gatewayMode = GatewayMode.distributed
    /// By which addresses its members are seen beyond the gateway.
    package var nat = AddressTranslation.none
    /// Addresses outside, each by that of a member which has it there: `floatingAddresses` as
    /// texts.
    package var floating: [String: String] = [:]
    /// Whether the gateway gives members their addresses by DHCP.
    package var dhcp = false
    /// Whether the gateway answers members' questions for names.
    package var dns = false
    /// The domain that members and their names are in, such as `red.example`; `nil` for none.
    package var domain: String?
    /// Addresses that other programs have been given for what they attach, in order: nobody else
    /// gets them.
    package var reserved: [IPAddress] = []
    /// Whether its members' ports may send only what they were given: `port_security`.
    package var portSecurity = true
    /// The MTU of attached interfaces that ask for none, in bytes of IP packet.
    package var mtuRequest: Int?
    package var otherConfig: [String: String] = [:]
    package var externalIDs: [String: String] = [:]

    package init(name: String, vni: VNI, bridge: String, tag: VLANID) {
      self.name = name
      self.vni = vni
      self.bridge = bridge
      self.tag = tag
    }

    /// A network of which nothing has been said yet: not a valid one.
    init(name: String) {
      self.init(name: name, vni: .zero, bridge: "br0", tag: .untagged)
    }

    /// The name of the port that is its tunnel.
    package var tunnelPort: String { "vni\(vni.rawValue)" }

    /// The subnet that an address is of.
    package func subnet(of address: IPAddress) -> IPPrefix? {
      subnets.first { $0.contains(address) }
    }

    /// What this host may hand out of a subnet, in order.
    ///
    /// Where no range is named, all but the first address, which people give to the router, now or
    /// later.
    package func ranges(in subnet: IPPrefix) -> [AddressRange] {
      guard !ranges.isEmpty else {
        let all = subnet.stations
        let isRouterLeftOut = all.count > 2
        return [
          AddressRange(
            numbers: all.numbers.lowerBound + (isRouterLeftOut ? 1 : 0)...all.numbers.upperBound,
            isIPv6: all.isIPv6)
        ]
      }
      return ranges.compactMap { $0.clamped(to: subnet.stations) }
        .sorted { $0.numbers.lowerBound < $1.numbers.lowerBound }
    }
  }

  /// The ports that are members of a network, in the order of their names; its tunnel and its
  /// gateway are none.
  package func members(of network: String) -> [Port] {
    ports.values.filter {
      $0.network == network && $0.interface.type != .vxlan && !isGateway($0)
    }
    .sorted { $0.name < $1.name }
  }

  /// Whether an agent tells what of a network is on other hosts.
  package func isServedByAgent(_ network: Network) -> Bool {
    network.remotes.isEmpty && host.controlPlane != .none
  }

  /// The same of a network by its name; not where there is none.
  package func isServedByAgent(_ name: String) -> Bool {
    networks[name].map { isServedByAgent($0) } ?? false
  }

  /// The remote VTEPs that are named for a network, this host not among them; none where an agent
  /// tells them.
  package func remotes(of network: Network) -> [IPAddress] {
    if isServedByAgent(network) { return [] }
    return (network.remotes.isEmpty ? host.remotes : network.remotes).filter { $0 != host.localIP }
  }

  /// The tunnel that a network is to have; `nil` where there are no other hosts.
  func tunnel(of network: Network) -> Port? {
    tunnel(of: network, from: ports[network.tunnelPort])
  }

  /// The tunnel that a network is to have, made of the one that it has, whose other options stay.
  private func tunnel(of network: Network, from old: Port?) -> Port? {
    let remotes = remotes(of: network)
    let isServed = isServedByAgent(network)
    guard !remotes.isEmpty || isServed else { return nil }
    var port = old ?? Port(name: network.tunnelPort, bridge: network.bridge)
    port.bridge = network.bridge
    port.tag = network.tag
    port.network = network.name
    port.interface.type = .vxlan
    var options = port.interface.options
    options["key"] = "\(network.vni.rawValue)"
    options["remote_ip"] =
      isServed
      ? host.controlPlane.rawValue : remotes.map(\.description).joined(separator: ",")
    if isServed {
      options["flood_unknown"] = network.floodsUnknown ? nil : "false"
    } else if port.interface.tunnel?.isServedByAgent == true {
      options["flood_unknown"] = nil
    }
    options["local_ip"] = host.localIP?.description
    port.interface.options = options
    return port
  }
}

// MARK: - What follows from networks

extension Configuration {
  /// Whether a port is the tunnel of a network, and nothing else than follows from that.
  func isImplied(_ port: Port) -> Bool {
    guard let name = port.network, let network = networks[name], network.tunnelPort == port.name
    else { return false }
    return tunnel(of: network, from: nil) == port
  }
}

extension Configuration {
  /// The lowest VLAN of a network's bridge in which nothing is.
  func freeTag(for network: Network) throws(ControlError) -> VLANID {
    var taken: Set<VLANID> = []
    for other in networks.values where other.bridge == network.bridge { taken.insert(other.tag) }
    for port in ports.values where port.bridge == network.bridge {
      if let tag = port.tag { taken.insert(tag) }
      taken.formUnion(port.trunks)
    }
    let free = (1...4094).lazy.compactMap { VLANID(rawValue: $0) }.first { !taken.contains($0) }
    guard let free else {
      throw ControlError(
        "bridge \(network.bridge) has no free VLAN for network \(network.name); put it on another, with bridge=NAME"
      )
    }
    return free
  }

  /// Adds what a file need not say of its networks: their VLANs, bridges and tunnels, and the tags
  /// of their members.
  ///
  /// A network whose `tag` is `untagged` has none yet; it gets the one that it has had in `former`,
  /// or a free one.
  package mutating func completeNetworks(after former: Configuration) throws(ControlError) {
    for name in networks.keys.sorted() {
      guard var network = networks[name] else { continue }
      if network.tag == .untagged {
        let old = former.networks[name].flatMap { $0.bridge == network.bridge ? $0.tag : nil }
        let isFree = !networks.values.contains { $0.bridge == network.bridge && $0.tag == old }
        if let old, isFree { network.tag = old } else { network.tag = try freeTag(for: network) }
        networks[name] = network
      }
      if bridges[network.bridge] == nil { addBridge(network.bridge) }
    }
    for network in networks.values {
      let port = ports[network.tunnelPort]
      guard port == nil || port?.network == network.name, let tunnel = tunnel(of: network) else {
        continue
      }
      ports[tunnel.name] = tunnel
    }
    for (name, port) in ports where port.isUntaggedMember {
      ports[name]?.tag = port.network.flatMap { networks[$0]?.tag }
    }
  }
}

extension Configuration.Port {
  /// Whether it is a member of a network, and nothing is said of its VLAN.
  var isUntaggedMember: Bool {
    network != nil && interface.type != .vxlan && tag == nil && trunks.isEmpty
      && (vlanMode == nil || vlanMode == .access)
  }
}

// MARK: - What is valid

extension Configuration {
  /// Checks networks that have changed, and the others as far as those may not get along with them.
  func validateNetworks(_ changes: Changes) throws(ControlError) {
    if changes.host { try validateRemotes(host.remotes, of: "the switch") }
    if changes.host { try host.validateControlPlane() }
    let all = networks.values.sorted { $0.name < $1.name }
    for network in all
    where changes.networks.contains(network.name) || changes.bridges.contains(network.bridge) {
      do { try validate(network) } catch { throw error.about(network.name) }
    }
    guard !changes.networks.isEmpty || !changes.bridges.isEmpty else { return }
    var owners: [VNI: String] = [:]
    var places: [NetworkPlace: String] = [:]
    var outsiders: [IPAddress: String] = [:]
    for network in all {
      if let other = owners.updateValue(network.name, forKey: network.vni) {
        throw ControlError(
          "networks \(other) and \(network.name) both have VNI \(network.vni), which is one network's; "
            + "give one of them another", record: network.name)
      }
      for (outside, _) in network.floatingAddresses {
        guard let other = outsiders.updateValue(network.name, forKey: outside) else { continue }
        throw ControlError(
          "networks \(other) and \(network.name) both have the floating address \(outside), which is one member's; "
            + "\"remove network \(network.name) floating \(outside)\" leaves it to the other",
          record: network.name)
      }
      let place = NetworkPlace(bridge: network.bridge, tag: network.tag)
      if let other = places.updateValue(network.name, forKey: place) {
        throw ControlError(
          "networks \(other) and \(network.name) both have VLAN \(network.tag) of bridge \(network.bridge); "
            + "give one of them another tag", record: network.name)
      }
      guard bridges[network.name] == nil else {
        throw ControlError(
          "a bridge and a network are both named \(network.name), so attach could mean either; "
            + "take another name", record: network.name)
      }
    }
  }

  /// Checks that no tunnel joins a network that has none itself, so that the rules of tunnels do
  /// not see to it.
  func validateSolitude() throws(ControlError) {
    for network in networks.values.sorted(by: { $0.name < $1.name })
    where tunnel(of: network) == nil {
      try validateSolitude(of: network)
    }
  }

  private struct NetworkPlace: Hashable {
    var bridge: String
    var tag: VLANID
  }

  private func validate(_ network: Network) throws(ControlError) {
    try checkNetworkName(network.name)
    guard (1...Int(VNI.max)).contains(Int(network.vni.rawValue)) else {
      throw ControlError(
        "network \(network.name) needs a VNI, 1 to \(VNI.max), such as vni=100",
        record: network.name)
    }
    guard bridges[network.bridge] != nil else {
      throw ControlError(
        "network \(network.name) is on bridge \(network.bridge), which does not exist")
    }
    try validateRemotes(network.remotes, of: "network \(network.name)")
    guard network.subnets.count <= 16, network.ranges.count <= 256 else {
      throw ControlError(
        "network \(network.name) has \(network.subnets.count) subnets and \(network.ranges.count) ranges; "
          + "it may have 16 and 256")
    }
    for (index, subnet) in network.subnets.enumerated() {
      guard !subnet.base.isMulticast, !subnet.base.isLimitedBroadcast, subnet.length > 0 else {
        throw ControlError(
          "network \(network.name): subnet \(subnet) has no addresses of stations; name another")
      }
      if let other = network.subnets[..<index].first(where: { $0.overlaps(subnet) }) {
        throw ControlError(
          "network \(network.name): subnets \(other) and \(subnet) overlap; leave one out")
      }
    }
    for range in network.ranges
    where !network.subnets.contains(where: { range.clamped(to: $0.stations) != nil }) {
      throw ControlError(
        "network \(network.name): range \(range) is in none of its subnets"
          + (network.subnets.isEmpty
            ? "; name one with subnet=ADDRESS/LENGTH" : " (\(list(network.subnets)))"))
    }
    for (index, gateway) in network.gateways.enumerated() {
      guard let subnet = network.subnet(of: gateway), subnet.stations.contains(gateway) else {
        throw ControlError(
          "network \(network.name): gateway \(gateway) is no station's address in its subnets"
            + (network.subnets.isEmpty
              ? "; name one with subnet=ADDRESS/LENGTH" : " (\(list(network.subnets)))"))
      }
      if let other = network.gateways[..<index].first(where: { $0.isIPv6 == gateway.isIPv6 }) {
        throw ControlError(
          "network \(network.name): gateways \(other) and \(gateway) are of one address family, and a "
            + "container has one default route of each; name one")
      }
    }
    try network.validateGateway()
    try network.validateServices()
    try checkOtherConfig(of: network, "network \(network.name)", named: network.name)
    if let mtu = network.mtuRequest, !Configuration.mtuRange.contains(mtu) {
      throw ControlError(
        "network \(network.name): mtu_request \(mtu) is not in the valid range "
          + "\(Configuration.mtuRange.lowerBound) to \(Configuration.mtuRange.upperBound) (inclusive)"
      )
    }
    try checkMap(network.otherConfig, "other_config of network \(network.name)")
    try checkMap(network.externalIDs, "external_ids of network \(network.name)")
  }

  /// Checks the hosts that a network or the switch names.
  func validateRemotes(_ remotes: [IPAddress], of owner: String) throws(ControlError) {
    guard remotes.count < RemoteVTEPID.limit else {
      throw ControlError(
        "\(owner) has \(remotes.count) remotes; it may have \(RemoteVTEPID.limit - 1)")
    }
    for remote in remotes
    where !remote.isUnicast {
      throw ControlError(
        "remotes of \(owner): \(remote) is no host's address; name each host by its own")
    }
    if let first = remotes.first, let other = remotes.first(where: { $0.isIPv6 != first.isIPv6 }) {
      throw ControlError(
        "remotes of \(owner): \(first) and \(other) are of two address families; "
          + "name all hosts by addresses of one")
    }
  }

  /// Checks that nobody else's tunnel is in the VLAN of a network that has none, nor has its VNI.
  private func validateSolitude(of network: Network) throws(ControlError) {
    for port in ports.values.sorted(by: { $0.name < $1.name }) {
      guard let tunnel = port.interface.tunnel else { continue }
      let isInside = port.bridge == network.bridge && port.vlans == .access(network.tag)
      if tunnel.vni == network.vni, !isInside {
        throw ControlError(
          "tunnel \(port.name) has VNI \(network.vni), which is network \(network.name)'s; "
            + "\"set port \(port.name) tag=\(network.tag)\" on bridge \(network.bridge) makes it a part of that, "
            + "or give it another key", record: port.name)
      }
      if tunnel.vni != network.vni, port.bridge == network.bridge, port.vlans.carries(network.tag) {
        throw ControlError(
          "tunnel \(port.name) (key=\(tunnel.vni)) would carry VLAN \(network.tag) of bridge "
            + "\(network.bridge), which is network \(network.name)'s (VNI \(network.vni)), and that joins two "
            + "tenants; give \(port.name) a VLAN of its own with tag=VLAN", record: port.name)
      }
    }
  }

  private func list(_ subnets: [IPPrefix]) -> String {
    shortened(subnets.map(\.description))
  }
}

/// Checks the name of a network.
package func checkNetworkName(_ name: String) throws(ControlError) {
  let rule = "it is 1 to 32 letters, digits, '.', '_' or '-', and begins with a letter or digit"
  let isValid =
    (1...32).contains(name.utf8.count)
    && name.unicodeScalars.allSatisfy {
      $0.isASCII
        && ($0.properties.isAlphabetic || ("0"..."9").contains($0)
          || "._-".unicodeScalars.contains($0))
    } && name.unicodeScalars.first.map { !"._-".unicodeScalars.contains($0) } == true
  guard isValid else {
    throw ControlError("the network name \"\(printable(name))\" cannot be used; \(rule)")
  }
}
