private import OVXDatapath

/// Networks: what `add-net`, `del-net` and settings make of the records that a network is made of.
extension Transaction {
  mutating func addNetwork(
    _ name: String, _ settings: [Setting], mayExist: Bool
  ) throws(ControlError) {
    try checkNetworkName(name)
    guard configuration.networks[name] == nil else {
      guard mayExist else {
        throw ControlError(
          "cannot create a network named \(name) because a network named \(name) already exists; "
            + "--may-exist accepts that")
      }
      return try applyNetworkSettings(settings, to: name)
    }
    let bridge = try text(of: "bridge", of: name, in: settings) ?? "br0"
    if configuration.bridges[bridge] == nil { try checkDeviceName(bridge, of: "bridge") }
    guard let vni = try text(of: "vni", of: name, in: settings) else {
      throw ControlError(
        "network \(name) needs a VNI, which is the same on all hosts; add vni=NUMBER, from 1 to \(VNI.max)"
      )
    }
    guard let number = UInt32(vni), let vni = VNI(rawValue: number), number > 0 else {
      throw ControlError(
        "vni of Network \(name): \"\(printable(vni))\" is not in the valid range 1 to \(VNI.max) (inclusive)"
      )
    }
    var network = Configuration.Network(name: name, vni: vni, bridge: bridge, tag: .untagged)
    if try text(of: "tag", of: name, in: settings) == nil {
      network.tag = try configuration.freeTag(for: network)
    }
    configuration.networks[name] = network
    try applyNetworkSettings(settings, to: name)
  }

  mutating func deleteNetwork(_ name: String, ifExists: Bool) throws(ControlError) {
    guard configuration.networks[name] != nil else {
      if !ifExists { throw noNetwork(name) }
      return
    }
    let members = configuration.members(of: name).map { printable($0.name) }
    guard members.isEmpty else {
      throw ControlError(
        "network \(name) has \(members.count == 1 ? "a member" : "\(members.count) members") "
          + "(\(shortened(members))); detach or delete \(members.count == 1 ? "it" : "them") first",
        record: name)
    }
    configuration.networks[name] = nil
  }

  private mutating func applyNetworkSettings(
    _ settings: [Setting], to name: String
  ) throws(ControlError) {
    var seen: Set<String> = []
    for setting in settings {
      let setting = Setting(
        column: Self.networkShorthands[setting.column.lowercased()] ?? setting.column,
        key: setting.key, value: setting.value)
      let column = try Table.networks.column(matching: setting.column)
      guard seen.insert(column.name + ":" + (setting.key ?? "")).inserted else {
        throw ControlError(
          "\(column.name) of network \(name) is there twice; separate several values by commas")
      }
      try set(setting, of: name, in: .networks)
    }
  }

  /// What is typed for columns with a longer name, and what people try.
  private static let networkShorthands = [
    "mtu": "mtu_request", "remote": "remotes", "subnets": "subnet", "ranges": "range",
    "vlan": "tag", "gateways": "gateway", "gw": "gateway", "key": "vni", "mode": "gateway_mode",
    "snat": "nat",
  ]

  /// The value of a column among settings that is needed before the record is there.
  private func text(
    of column: String, of network: String, in settings: [Setting]
  ) throws(ControlError) -> String? {
    for setting in settings where setting.key == nil {
      let name = Self.networkShorthands[setting.column.lowercased()] ?? setting.column
      guard (try? Table.networks.column(matching: name).name) == column else { continue }
      do throws(ControlError) { return try DatumText.atom(setting.value) } catch {
        throw ControlError("\(column) of network \(network): \(error.message)")
      }
    }
    return nil
  }

  func noNetwork(_ name: String) -> ControlError {
    let names = configuration.networks.keys.sorted()
    return ControlError(
      "no network named \(printable(name)); "
        + (names.isEmpty
          ? "there is none yet, and add-net makes one" : "the networks are \(shortened(names))"))
  }

  // MARK: What follows

  /// Makes the bridges and tunnels that networks need, gives their members their VLAN, and refuses
  /// what contradicts that.
  ///
  /// - Parameters:
  ///   - original: The state before all commands.
  ///   - changes: What they have changed; what follows is added.
  /// - Throws: What contradicts a network, in words.
  mutating func settleNetworks(
    before original: Configuration, _ changes: inout Configuration.Changes
  ) throws(ControlError) {
    guard !configuration.networks.isEmpty || !original.networks.isEmpty else {
      for name in changes.ports.sorted() {
        if let network = configuration.ports[name]?.network {
          throw ControlError(noNetwork(network).message, record: name)
        }
      }
      return
    }
    var concerned = changes.networks
    if changes.host,
      configuration.host.localIP != original.host.localIP
        || configuration.host.controlPlane != original.host.controlPlane
        || configuration.host.remotes != original.host.remotes
        || configuration.host.fastPath != original.host.fastPath
    {
      concerned.formUnion(configuration.networks.keys)
      try configuration.validateRemotes(configuration.host.remotes, of: "the switch")
      try configuration.host.validateControlPlane()
    }
    for name in concerned.sorted() {
      if let network = configuration.networks[name] {
        try settle(network, after: original.networks[name], &changes)
      } else if let former = original.networks[name] {
        try removeTunnel(of: former, &changes)
        removeGateway(of: former, &changes)
        if let member = configuration.members(of: name).first {
          throw ControlError(
            "port \(printable(member.name)) is a member of network \(name), which would be gone; "
              + "delete it too", record: member.name)
        }
      }
    }
    for name in changes.ports.sorted() { try settleMember(name, original, &changes) }
  }

  private mutating func settle(
    _ network: Configuration.Network, after former: Configuration.Network?,
    _ changes: inout Configuration.Changes
  ) throws(ControlError) {
    if configuration.bridges[network.bridge] == nil {
      try addBridge(network.bridge, mayExist: false)
      changes.bridges.insert(network.bridge)
      changes.ports.insert(network.bridge)
    }
    try configuration.validateRemotes(network.remotes, of: "network \(network.name)")
    // With another VNI its port is no gateway, and would pass for a member.
    settleGateway(of: network, after: former, &changes)
    let members = configuration.members(of: network.name)
    if let former {
      if let member = members.first(where: { $0.bridge != network.bridge }) {
        throw ControlError(
          "network \(network.name) has members on bridge \(member.bridge) (port \(printable(member.name))), so it "
            + "stays there; detach them first", record: network.name)
      }
      if former.tunnelPort != network.tunnelPort { try removeTunnel(of: former, &changes) }
      for member in members where former.tag != network.tag && member.tag == former.tag {
        configuration.ports[member.name]?.tag = network.tag
        changes.ports.insert(member.name)
      }
      for member in members {
        guard let attachment = member.interface.attachment else { continue }
        if let address = attachment.addresses.first(where: {
          former.subnet(of: $0.address) != nil && network.subnet(of: $0.address) == nil
        }) {
          throw ControlError(
            "port \(printable(member.name)) has the address \(address), which would be in no subnet of network "
              + "\(network.name); detach it first", record: network.name)
        }
        if let gateway = network.gateways.first(where: { gateway in
          attachment.addresses.contains { $0.address == gateway }
        }) {
          throw ControlError(
            "gateway \(gateway) of network \(network.name) is the address of port "
              + "\(printable(member.name)); name another, or detach that first",
            record: network.name)
        }
      }
    }
    if let other = configuration.networks.values.first(where: {
      $0.vni == network.vni && $0.name != network.name
    }) {
      throw ControlError(
        "network \(network.name) cannot have VNI \(network.vni), which is network \(other.name)'s; "
          + "take another", record: network.name)
    }
    if let port = configuration.ports[network.tunnelPort], port.network != network.name,
      configuration.tunnel(of: network) != nil
    {
      throw ControlError(
        "network \(network.name) needs the name \(network.tunnelPort) for its tunnel, and there is a port of that "
          + "name on bridge \(port.bridge); delete that, or take another VNI", record: network.name)
    }
    if let tunnel = configuration.tunnel(of: network) {
      configuration.ports[tunnel.name] = tunnel
      changes.ports.insert(tunnel.name)
    } else {
      try removeTunnel(of: network, &changes)
    }
  }

  private mutating func removeTunnel(
    of network: Configuration.Network, _ changes: inout Configuration.Changes
  ) throws(ControlError) {
    guard let port = configuration.ports[network.tunnelPort], port.network == network.name,
      port.interface.type == .vxlan
    else { return }
    configuration.ports[port.name] = nil
    changes.ports.insert(port.name)
  }

  /// Gives a member its network's VLAN where it has none, and refuses one that has another.
  private mutating func settleMember(
    _ name: String, _ original: Configuration, _ changes: inout Configuration.Changes
  ) throws(ControlError) {
    guard let port = configuration.ports[name], let networkName = port.network else {
      // A network's tunnel, taken away or made another's.
      if let former = original.ports[name], let network = former.network,
        let network = configuration.networks[network], network.tunnelPort == name,
        let tunnel = configuration.tunnel(of: network)
      {
        throw refusal(of: tunnel, network)
      }
      return
    }
    guard let network = configuration.networks[networkName] else { throw noNetwork(networkName) }
    if name == network.tunnelPort {
      guard configuration.tunnel(of: network) == port else {
        throw refusal(of: port, network)
      }
      return
    }
    if network.isGateway(port) {
      guard configuration.gateway(of: network, from: port) == port else {
        throw refusal(of: port, of: network)
      }
      return
    }
    guard port.interface.type != .vxlan, !port.isBridgeInternal else {
      throw ControlError(
        "port \(printable(name)) cannot be a member of network \(networkName): "
          + (port.isBridgeInternal
            ? "it is bridge \(name)'s own; add an internal port of another name"
            : "it is a tunnel, and the network has its own, of the remotes that it or the switch has"),
        record: name)
    }
    guard port.bridge == network.bridge else {
      throw ControlError(
        "port \(printable(name)) is on bridge \(port.bridge), and network \(networkName) on bridge "
          + "\(network.bridge); add it there", record: name)
    }
    if port.isUntaggedMember {
      configuration.ports[name]?.tag = network.tag
    } else if port.vlans != .access(network.tag) {
      throw ControlError(
        "port \(printable(name)) is a member of network \(networkName), which is VLAN \(network.tag), and has "
          + "\(port.tag.map { "tag=\($0)" } ?? "trunks or a vlan_mode") of its own; leave that out",
        record: name)
    }
  }

  private func refusal(
    of tunnel: Configuration.Port, _ network: Configuration.Network
  ) -> ControlError {
    ControlError(
      "port \(tunnel.name) is the tunnel of network \(network.name), and its tag, key, local_ip and remote_ip are "
        + "the network's; \"set network \(network.name) remotes=ADDRESS,...\" changes them, and "
        + "\"del-net \(network.name)\" deletes both", record: tunnel.name)
  }
}
