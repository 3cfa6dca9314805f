private import OVXDatapath

/// Bridges and ports, and what `attach` puts into containers.
extension Transaction {
  // MARK: Bridges

  mutating func addBridge(_ name: String, mayExist: Bool) throws(ControlError) {
    try checkDeviceName(name, of: "bridge")
    if configuration.bridges[name] != nil {
      guard mayExist else {
        throw ControlError(
          "cannot create a bridge named \(name) because a bridge named \(name) already exists; "
            + "--may-exist accepts that"
        )
      }
      return
    }
    if let port = configuration.ports[name] {
      throw ControlError(
        "cannot create a bridge named \(name) because a port named \(name) already exists "
          + "on bridge \(port.bridge); take another name, or delete the port first"
      )
    }
    configuration.addBridge(name)
  }

  mutating func deleteBridge(_ name: String, ifExists: Bool) throws(ControlError) {
    let networks = configuration.networks.values.filter { $0.bridge == name }.map(\.name).sorted()
    guard networks.isEmpty else {
      throw ControlError(
        "bridge \(name) has \(networks.count == 1 ? "network" : "networks") \(shortened(networks)); "
          + "del-net deletes a network", record: name)
    }
    guard configuration.bridges.removeValue(forKey: name) != nil else {
      if !ifExists { throw noBridge(name) }
      return
    }
    for port in configuration.ports(of: name) { configuration.ports[port.name] = nil }
  }

  // MARK: Ports

  mutating func addPort(
    _ name: String,
    to bridge: String,
    _ settings: [Setting],
    mayExist: Bool
  ) throws(ControlError) {
    try requireBridge(bridge)
    if let port = configuration.ports[name] {
      guard mayExist, port.bridge == bridge, !port.isBridgeInternal else {
        throw ControlError(alreadyExists(name, on: port, mayExist: mayExist))
      }
      try applyPortSettings(settings.filter { $0.column != Self.migrate }, to: name)
      return
    }
    try checkDeviceName(name, of: "port")
    configuration.ports[name] = Configuration.Port(name: name, bridge: bridge)
    try applyPortSettings(settings.filter { $0.column != Self.migrate }, to: name)
    try migrate(name, settings.filter { $0.column == Self.migrate })
  }

  /// The setting of `add-port` by which addresses and routes move.
  static let migrate = "migrate"

  /// Has a port keep what the host has on its device now: see `Configuration.Interface.addresses`.
  private mutating func migrate(_ name: String, _ settings: [Setting]) throws(ControlError) {
    guard let setting = settings.last else { return }
    do {
      guard try AtomShape.boolean.atom(setting.value) == .boolean(true) else { return }
    } catch {
      throw ControlError("migrate of port \(name): \(error.message)")
    }
    guard let interface = configuration.ports[name]?.interface,
      interface.addresses.isEmpty, interface.routes.isEmpty
    else {
      throw ControlError(
        "port \(name): migrate=true finds out which addresses and routes move; leave it out, or addresses and routes"
      )
    }
    guard interface.type ?? .system == .system, live.deviceExists(name) else {
      throw ControlError(
        "port \(name): migrate=true moves what the host has on a device, and this host has no device \(name)"
      )
    }
    let port = try requirePort(name)
    let place = try live.place(name)
    configuration.ports[name]?.interface.type = .system
    configuration.ports[name]?.interface.addresses = place.addresses
    configuration.ports[name]?.interface.routes = place.routes
    guard !place.isEmpty else {
      notes.append("port \(name): there is nothing to move, as it has neither addresses nor routes")
      return
    }
    notes.append(
      "port \(name): \((place.addresses.map(\.description) + place.routes.map(\.description)).joined(separator: ", ")) "
        + "\(place.addresses.count + place.routes.count == 1 ? "moves" : "move") to "
        + port.bridge)
  }

  /// Refuses to move what the host has on a device to a bridge's own port that has none of its
  /// VLANs, by which the host would be cut off.
  ///
  /// Looks at the ports that were changed, and at those of bridges whose own port was.
  func checkVLANsOfHost() throws(ControlError) {
    for name in changes.ports.sorted() {
      guard let changed = configuration.ports[name] else { continue }
      let ports = changed.isBridgeInternal ? configuration.ports(of: changed.bridge) : [changed]
      for port in ports where port.interface.type == .system {
        let vlan = configuration.ports[port.bridge]?.tag ?? .untagged
        guard !port.interface.addresses.isEmpty || !port.interface.routes.isEmpty,
          !port.vlans.carries(vlan)
        else { continue }
        let start =
          "port \(port.name): what the host has on it moves to \(port.bridge), which is not in "
        throw ControlError(
          port.tag.map {
            "\(start)VLAN \($0); give that one the same tag (set port \(port.bridge) tag=\($0)), or this one none"
          }
            ?? "\(start)one of its trunks; give that one the tag of one of them (set port \(port.bridge) tag=VLAN)",
          record: port.name)
      }
    }
  }

  private func alreadyExists(
    _ name: String,
    on port: Configuration.Port,
    mayExist: Bool
  ) -> String {
    if port.isBridgeInternal {
      return "cannot create a port named \(name) because a bridge named \(name) already exists; "
        + "take another name"
    }
    return "cannot create a port named \(name) because a port named \(name) already exists "
      + "on bridge \(port.bridge); "
      + (mayExist ? "del-port \(name) removes it from there" : "--may-exist accepts that")
  }

  mutating func deletePort(
    _ name: String,
    of bridge: String?,
    ifExists: Bool
  ) throws(ControlError) {
    // As with ovs-vsctl: where there is no port, the bridge may be gone as well.
    if ifExists, configuration.ports[name] == nil { return }
    if let bridge { try requireBridge(bridge) }
    let port = try requirePort(name)
    guard !port.isBridgeInternal else {
      throw ControlError(
        "cannot delete port \(name) because it is the local port for bridge \(name); "
          + "del-br \(name) deletes the entire bridge"
      )
    }
    if let bridge, port.bridge != bridge {
      throw ControlError(
        "bridge \(bridge) does not have a port \(name); it belongs to bridge \(port.bridge), "
          + "so type del-port \(port.bridge) \(name)"
      )
    }
    configuration.ports[name] = nil
  }

  // MARK: Containers

  mutating func attach(
    _ attachment: Configuration.Attachment,
    to bridge: String,
    _ settings: [Setting],
    mayExist: Bool
  ) throws(ControlError) {
    let network = configuration.networks[bridge]
    let bridge = network?.bridge ?? bridge
    try requireBridge(bridge)
    var attachment = attachment
    if let network {
      let former = configuration.attachedPort(
        target: attachment.target, interface: attachment.interface)
      attachment = try addressed(
        attachment, in: network,
        former: former?.network == network.name ? former?.interface.attachment : nil,
        mac: Self.addressAskedFor(settings))
    }
    try attachment.check()
    let name: String
    if let port = configuration.attachedPort(
      target: attachment.target,
      interface: attachment.interface
    ) {
      guard mayExist, port.bridge == bridge, port.network == network?.name else {
        throw ControlError(
          "\(printable(attachment.target)) already has an interface \(attachment.interface), "
            + "attached to bridge \(port.bridge) as port \(port.name); "
            + (mayExist ? "detach it from there first" : "detach it first, or use --may-exist")
        )
      }
      name = port.name
      // What is not said stays as it was; in a network that is seen to already.
      if network == nil, let former = port.interface.attachment {
        if attachment.addresses.isEmpty { attachment.addresses = former.addresses }
        if attachment.gateways.isEmpty {
          attachment.gateways = former.gateways.filter { gateway in
            attachment.addresses.contains { $0.contains(gateway) }
          }
        }
        try attachment.check()
      }
    } else {
      name = attachment.portName { configuration.ports[$0] != nil }
      configuration.ports[name] = Configuration.Port(
        name: name,
        bridge: bridge,
        interface: Configuration.Interface(type: .tap)
      )
      if network == nil { noteVLANs(of: name, settings) }
    }
    configuration.ports[name]?.interface.attachment = attachment
    if let network, configuration.ports[name]?.network != network.name {
      configuration.ports[name]?.network = network.name
      configuration.ports[name]?.interface.mtuRequest = network.mtuRequest
    }
    try applyPortSettings(settings.map(Self.withType), to: name)
  }

  /// The link layer address that an interface is to have; `nil` where that is left to the switch,
  /// or is none, which whoever applies the settings refuses.
  private static func addressAskedFor(_ settings: [Setting]) -> MACAddress? {
    settings.last { $0.column.lowercased() == "mac" && $0.key == nil }.flatMap {
      MACAddress($0.value)
    }
  }

  /// `kind` is what `attach` calls the type of an interface.
  private static func withType(_ setting: Setting) throws(ControlError) -> Setting {
    guard setting.column.lowercased() == "kind", setting.key == nil else { return setting }
    guard setting.value == "tap" || setting.value == "veth" else {
      throw ControlError("kind is tap or veth, not \"\(printable(setting.value))\"")
    }
    return Setting(column: "type", value: setting.value)
  }

  mutating func detach(
    _ interface: String,
    from target: String,
    ifExists: Bool
  ) throws(ControlError) {
    if let port = configuration.attachedPort(target: target, interface: interface) {
      configuration.ports[port.name] = nil
      return
    }
    guard !ifExists else { return }
    let attached = configuration.ports.values.compactMap(\.interface.attachment)
      .map { "\(printable($0.target)) \($0.interface)" }.sorted()
    throw ControlError(
      "nothing named \(printable(interface)) is attached to \(printable(target)); "
        + (attached.isEmpty
          ? "there are no attachments" : "the attachments are \(shortened(attached))")
    )
  }
}
