private import OVXDatapath

extension Configuration {
  /// Checks that the daemon may put this state in force.
  ///
  /// Records are looked at in the order of their names, so that the same state always has the same
  /// first fault.
  ///
  /// - Throws: The first fault, in a sentence that names the culprit, the valid values and a
  ///   remedy.
  package func validate() throws(ControlError) {
    try validate(changes(since: Configuration()))
  }

  /// Checks it as `validate()` does where it was valid before these changes.
  ///
  /// Looks at what was changed, and at the others as far as that may not get along with them.
  package func validate(_ changes: Changes) throws(ControlError) {
    try validateSizes()
    if changes.host {
      try checkMap(host.otherConfig, "other_config of the switch")
      try checkMap(host.externalIDs, "external_ids of the switch")
      try checkOtherConfig(of: host, "switch", named: ".")
    }
    // A bridge has its internal port, and a port its bridge.
    let concernedBridges = changes.bridges.union(changes.ports.filter { bridges[$0] != nil })
    for name in concernedBridges.sorted() {
      guard let bridge = bridges[name] else { continue }
      do { try validate(bridge) } catch { throw error.about(name) }
    }
    var concerned = changes.ports
    if changes.bridges.contains(where: { bridges[$0] == nil }) { concerned.formUnion(ports.keys) }
    // What a network says of its gateway and of security is for its members.
    for network in changes.networks { concerned.formUnion(members(of: network).map(\.name)) }
    for name in concerned.sorted() {
      guard let port = ports[name] else { continue }
      do { try validate(port) } catch { throw error.about(name) }
    }
    try validateNetworks(changes)
    if changes.ports.contains(where: { ports[$0]?.published.isEmpty == false }) {
      try validatePublishedTogether()
    }
    let changed = changes.ports.compactMap { ports[$0]?.interface }
    if changed.contains(where: { $0.attachment != nil }) { try validateAttachments() }
    if !changes.bridges.isEmpty || !changes.networks.isEmpty || changes.host
      || changed.contains(where: { $0.type == .vxlan })
    {
      try validateTenancy()
      try validateSolitude()
    }
  }

  private func validateSizes() throws(ControlError) {
    guard bridges.count <= BridgeID.limit else {
      throw ControlError("there are at most \(BridgeID.limit) bridges, not \(bridges.count)")
    }
    guard ports.count <= PortID.limit else {
      throw ControlError("there are at most \(PortID.limit) ports on a host, not \(ports.count)")
    }
    guard networks.count <= PortID.limit else {
      throw ControlError(
        "there are at most \(PortID.limit) networks on a host, not \(networks.count)")
    }
    // Peer 0 means "no peer".
    let peers = ports.values.reduce(0) { $0 + ($1.interface.tunnel?.remotes.count ?? 0) }
    guard peers < RemoteVTEPID.limit else {
      throw ControlError(
        "all tunnels together have at most \(RemoteVTEPID.limit - 1) remotes, not \(peers)"
      )
    }
  }

  private func validate(_ bridge: Bridge) throws(ControlError) {
    try checkDeviceName(bridge.name, of: "bridge")
    guard let port = ports[bridge.name], port.bridge == bridge.name else {
      throw ControlError("bridge \(bridge.name) has lost its internal port \(bridge.name)")
    }
    try checkOtherConfig(of: bridge, "bridge \(bridge.name)", named: bridge.name)
    try checkMap(bridge.otherConfig, "other_config of bridge \(bridge.name)")
    try checkMap(bridge.externalIDs, "external_ids of bridge \(bridge.name)")
  }

  private func validate(_ port: Port) throws(ControlError) {
    try checkPortName(port)
    guard bridges[port.bridge] != nil else {
      throw ControlError("port \(port.name) belongs to bridge \(port.bridge), which does not exist")
    }
    try validateVLANs(of: port)
    try validateSecurity(of: port)
    try validatePublished(of: port)
    try checkMap(port.otherConfig, "other_config of port \(port.name)")
    try checkMap(port.externalIDs, "external_ids of port \(port.name)")
    try validateInterface(of: port)
  }

  private func validateVLANs(of port: Port) throws(ControlError) {
    let name = port.name
    let mode = port.vlanMode ?? (port.tag == nil ? .trunk : .access)
    if mode == .trunk, port.tag != nil {
      throw ControlError(
        "port \(name) is a trunk and has a tag; take one away, "
          + "with \"clear port \(name) tag\" or \"clear port \(name) vlan_mode\"")
    }
    if mode == .access || mode == .dot1qTunnel, !port.trunks.isEmpty {
      throw ControlError(
        "port \(name) is of mode \(mode.rawValue), which carries one VLAN, and has trunks; "
          + "take them away with \"clear port \(name) trunks\", "
          + "or let it carry more with \"set port \(name) vlan_mode=native-untagged\"")
    }
    if mode != .dot1qTunnel, !port.customerVLANs.isEmpty {
      throw ControlError(
        "port \(name) is of mode \(mode.rawValue) and has cvlans, which are for vlan_mode=dot1q-tunnel; "
          + "take them away with \"clear port \(name) cvlans\"")
    }
    try checkOtherConfig(of: port, "port \(name)", named: name)
  }

  /// Whether a port is the tunnel of a network for which an agent tells what is on other hosts.
  private func isTunnelOfServedNetwork(_ name: String) -> Bool {
    guard let network = ports[name]?.network, isServedByAgent(network) else { return false }
    return networks[network]?.tunnelPort == name
  }

  private func validateInterface(of port: Port) throws(ControlError) {
    let interface = port.interface
    let name = port.name
    guard let type = interface.type else {
      throw ControlError(
        "interface \(name) has no type, and this host has no network device of that name; "
          + "type=internal or type=tap makes one, key=VNI remote=ADDRESS makes a vxlan tunnel, "
          + "or create the device first, for example with \"ip link add\""
      )
    }
    if port.isBridgeInternal, type != .internal {
      throw ControlError(
        "interface \(name) is the bridge's own, and its type stays internal; "
          + "add another port for a \(type.rawValue) interface"
      )
    }
    if interface.attachment != nil, type != .tap, type != .veth {
      throw ControlError(
        "interface \(name) is attached to a container, and its type is tap or veth", record: name)
    }
    if interface.attachment == nil, type == .veth {
      throw ControlError(
        "interface \(name): type veth is for what attach makes, as in \"attach \(port.bridge) CONTAINER eth0 kind=veth\"; "
          + "for one end of a veth that exists leave the type out", record: name)
    }
    try checkMap(interface.options, "options of interface \(name)")
    try checkMap(interface.otherConfig, "other_config of interface \(name)")
    try checkMap(interface.externalIDs, "external_ids of interface \(name)")
    try checkOtherConfig(of: interface, "interface \(name)", named: name)
    if type == .vxlan {
      let tunnel: Tunnel
      do {
        tunnel = try Tunnel(options: interface.options)
      } catch {
        throw ControlError("tunnel \(name): \(error.message)")
      }
      if tunnel.isServedByAgent, !isTunnelOfServedNetwork(name) {
        throw ControlError(
          "tunnel \(name): remote_ip=evpn is for the tunnels that networks have by themselves; make the network with "
            + "\"add-net NAME vni=\(tunnel.vni)\", after \"set switch . control_plane=evpn\"",
          record: name)
      }
    } else if let option = interface.options.keys.min() {
      throw ControlError(
        "interface \(name) is of type \(type.rawValue), which takes no options, but has \"\(option)\"; "
          + (interface.attachment == nil
            ? "set type=vxlan, or take it away with \"clear interface \(name) options\""
            : "take it away, as attach makes no tunnels, and add-port does")
      )
    }
    try validateDevice(of: port, type: type)
  }

  private func validateDevice(of port: Port, type: InterfaceType) throws(ControlError) {
    let interface = port.interface
    if let mac = interface.mac {
      guard !mac.isGroup, mac.rawValue != 0 else {
        throw ControlError("interface \(port.name): \(mac) cannot be the address of one interface")
      }
      guard type == .internal || type == .tap || type == .veth else {
        throw ControlError(
          "interface \(port.name): mac is for internal and tap interfaces, which the daemon makes; "
            + (type == .vxlan
              ? "a vxlan interface has no address"
              : "give the device its address with \"ip link set \(port.name) address \(mac)\"")
        )
      }
    }
    try validatePlace(of: port, type: type)
    if let mtu = interface.mtuRequest {
      guard Configuration.mtuRange.contains(mtu) else {
        throw ControlError(
          "interface \(port.name): mtu_request \(mtu) is not in the valid range "
            + "\(Configuration.mtuRange.lowerBound) to \(Configuration.mtuRange.upperBound) (inclusive)"
        )
      }
      guard type != .vxlan else {
        throw ControlError(
          "interface \(port.name): mtu_request is not for vxlan interfaces, whose MTU follows from the "
            + "underlay; set it on the bridge's other ports"
        )
      }
    }
  }

  /// The host's addresses and routes.
  private func validatePlace(of port: Port, type: InterfaceType) throws(ControlError) {
    let interface = port.interface
    guard !interface.addresses.isEmpty || !interface.routes.isEmpty else { return }
    let columns = [
      interface.addresses.isEmpty ? nil : "addresses", interface.routes.isEmpty ? nil : "routes",
    ]
    guard type == .internal || type == .system else {
      throw ControlError(
        "interface \(port.name): \(columns.compactMap(\.self).joined(separator: " and ")) are for internal interfaces, "
          + "which the host talks by; "
          + (interface.attachment == nil
            ? "give them to bridge \(port.bridge), as those of interface \(port.bridge)"
            : "attach gives a container its own, with ip= and gateway=")
      )
    }
    guard interface.addresses.count <= 256, interface.routes.count <= HostRoute.limit else {
      throw ControlError(
        "interface \(port.name) has \(interface.addresses.count) addresses and \(interface.routes.count) routes; it may "
          + "have 256 and \(HostRoute.limit)")
    }
    do { try checkAddresses(interface.addresses, as: "address") } catch {
      throw ControlError("interface \(port.name): \(error.message)")
    }
  }

  /// An interface in a container.
  private struct AttachedPlace: Hashable {
    var target: String
    var interface: String
  }

  private func validateAttachments() throws(ControlError) {
    var places: [AttachedPlace: String] = [:]
    let attached = ports.values.filter { $0.interface.attachment != nil }
    for port in attached.sorted(by: { $0.name < $1.name }) {
      guard let attachment = port.interface.attachment else { continue }
      do {
        try attachment.check()
      } catch {
        throw ControlError("interface \(port.name): \(error.message)", record: port.name)
      }
      let place = AttachedPlace(target: attachment.target, interface: attachment.interface)
      if let other = places.updateValue(port.name, forKey: place) {
        throw ControlError(
          "ports \(other) and \(port.name) are both interface \(attachment.interface) of "
            + "\(attachment.target); detach one"
        )
      }
    }
  }

  /// Checks the keys of `other_config` that mean something.
  func checkOtherConfig<Record: OtherConfigRecord>(
    of record: Record, _ owner: String, named name: String
  ) throws(ControlError) {
    for key in Record.otherConfigKeys { try key.check(record, of: owner, named: name) }
  }

  /// Bounds what operators may keep in a column: 1024 entries of at most 4 KiB.
  func checkMap(_ map: [String: String], _ what: String) throws(ControlError) {
    guard map.count <= 1024 else {
      throw ControlError("\(what) has \(map.count) entries; it may have 1024")
    }
    // A list of remotes is as long as it has to be: a limit of its own bounds their number.
    for (key, value) in map
    where key.utf8.count > 255 || (value.utf8.count > 4096 && key != "remote_ip") {
      throw ControlError(
        "\(what) has the key \"\(printable(String(key.prefix(20))))\" of \(key.utf8.count) bytes with "
          + "\(value.utf8.count) bytes of value; they may have 255 and 4096"
      )
    }
  }

  /// Sentences about values, of what was changed, that are accepted but do not count as they stand.
  func notes(on changes: Changes) -> [String] {
    var notes: [String] = []
    func tellOtherConfig<Record: OtherConfigRecord>(of record: Record, _ owner: String) {
      // One for each record: there may be a thousand keys.
      let known = Record.otherConfigKeys.map(\.name)
      let unknown = record.otherConfig.keys.filter { !known.contains($0) }.sorted().map(printable)
      if !unknown.isEmpty {
        notes.append(
          "\(owner): other_config has \(shortened(unknown)), of which ovx knows nothing; it knows "
            + known.joined(separator: ", "))
      }
      notes += Record.otherConfigKeys.compactMap { $0.note(on: record) }.map { "\(owner): \($0)" }
    }
    if changes.host { tellOtherConfig(of: host, "switch") }
    for network in changes.networks.sorted().compactMap({ networks[$0] }) {
      tellOtherConfig(of: network, "network \(network.name)")
    }
    for port in changes.ports.sorted().compactMap({ ports[$0] }) {
      tellOtherConfig(of: port, "port \(port.name)")
      tellOtherConfig(of: port.interface, "interface \(port.name)")
      if !port.allowedAddresses.isEmpty, !isSecured(port) {
        notes.append(
          "port \(port.name): allowed_addresses mean nothing while the port has no port_security")
      }
    }
    for bridge in changes.bridges.sorted().compactMap({ bridges[$0] }) {
      tellOtherConfig(of: bridge, "bridge \(bridge.name)")
      let joined = bridge.joinedVNIs.sorted().map { "\($0.rawValue)" }
      if let last = joined.last {
        notes.append(
          "bridge \(bridge.name): tunnels of VNIs \(joined.dropLast().joined(separator: ", ")) and \(last) "
            + "may share VLANs, and what is sent in one of these VNIs then reaches the others; join them on "
            + "one host only: with a second one, hosts that have one of them get twice what is flooded"
        )
      }
    }
    return notes
  }
}
