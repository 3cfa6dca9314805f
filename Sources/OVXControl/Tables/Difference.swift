/// One difference between two configurations: a bridge, a port or a network that has come, gone, or
/// become otherwise, or the switch's own record.
package struct Change: Codable, Equatable, Sendable {
  package var action: Action
  /// Absent where it is a network or the switch.
  package var bridge: String?
  /// Absent where it is the bridge itself.
  package var port: String?
  package var network: String?
  /// What of it is otherwise, by column; of what has come, what is not as a new one has it; empty
  /// for what is gone.
  package var values: [Value]

  package enum Action: String, Codable, Sendable {
    case add, remove, change
  }

  package struct Value: Codable, Equatable, Sendable {
    /// The column's name; `interface.NAME` where Port has one of the same name.
    package var column: String
    package var from: Datum
    package var to: Datum
  }
}

extension Change: CustomStringConvertible {
  /// The difference as one line: `+` has come, `-` is gone, `~` is otherwise.
  package var description: String {
    let owner = bridge.map { "bridge \($0)" } ?? network.map { "network \($0)" } ?? "the switch"
    let what = port.map { "port \($0) of \(owner)" } ?? owner
    switch action {
    case .add:
      let settings = values.map { "\($0.column)=\($0.to)" }
      return "+ \(what)" + (settings.isEmpty ? "" : ": " + settings.joined(separator: " "))
    case .remove:
      return "- \(what)"
    case .change:
      return "~ \(what): "
        + values.map { "\($0.column) \($0.from) -> \($0.to)" }.joined(separator: ", ")
    }
  }
}

extension Configuration {
  /// What has to be done to this configuration to make it another one: the switch's record,
  /// networks and bridges in the order of their names, each bridge with its ports.
  ///
  /// The internal port of a bridge comes and goes with it, and is mentioned where something about
  /// it is special.
  package func changes(to other: Configuration) -> [Change] {
    var changes: [Change] = []
    let settings = Change.values(Table.hosts, from: host, to: other.host)
    if !settings.isEmpty { changes.append(Change(action: .change, values: settings)) }
    for name in Set(networks.keys).union(other.networks.keys).sorted() {
      let (old, new) = (networks[name], other.networks[name])
      let fresh = Network(name: name)
      let values = Change.values(Table.networks, from: old ?? fresh, to: new ?? fresh)
      if let action = action(old, new, isSame: values.isEmpty) {
        changes.append(Change(action: action, network: name, values: new == nil ? [] : values))
      }
    }
    for bridge in Set(bridges.keys).union(other.bridges.keys).sorted() {
      let (old, new) = (bridges[bridge], other.bridges[bridge])
      let fresh = Bridge(name: bridge)
      let values = Change.values(Table.bridges, from: old ?? fresh, to: new ?? fresh)
      if let action = action(old, new, isSame: values.isEmpty) {
        changes.append(
          Change(action: action, bridge: bridge, values: new == nil ? [] : values))
      }
      // A port that has moved is told of where it is now.
      let names = ports(of: bridge).map(\.name).filter { other.ports[$0] == nil }
      for name in Set(names).union(other.ports(of: bridge).map(\.name)).sorted() {
        if let change = change(of: name, to: other) { changes.append(change) }
      }
    }
    return changes
  }

  private func change(of name: String, to other: Configuration) -> Change? {
    let (old, new) = (ports[name], other.ports[name])
    guard let bridge = (new ?? old)?.bridge else { return nil }
    var fresh = Port(name: name, bridge: bridge)
    if fresh.isBridgeInternal { fresh.interface.type = .internal }
    var values = Change.values(Table.ports, from: old ?? fresh, to: new ?? fresh)
    let names = Set(Table.ports.columns.map(\.name))
    values += Change.values(Table.interfaces, from: old ?? fresh, to: new ?? fresh).map { value in
      var value = value
      if names.contains(value.column) { value.column = "interface." + value.column }
      return value
    }
    if let old, let new, old.bridge != new.bridge {
      let moved = Change.Value(
        column: "bridge", from: .scalar(.text(old.bridge)), to: .scalar(.text(new.bridge)))
      values.insert(moved, at: 0)
    }
    guard let action = action(old, new, isSame: values.isEmpty) else { return nil }
    if fresh.isBridgeInternal, old == nil ? values.isEmpty : new == nil { return nil }
    return Change(action: action, bridge: bridge, port: name, values: new == nil ? [] : values)
  }

  private func action<Record>(_ old: Record?, _ new: Record?, isSame: Bool) -> Change.Action? {
    old == nil ? .add : new == nil ? .remove : isSame ? nil : .change
  }
}

extension Change {
  fileprivate static func values<Record>(
    _ table: Table<Record>, from old: Record, to new: Record
  ) -> [Value] {
    let live = LiveState(deviceExists: { _ in false })
    return table.columns.filter { $0.write != nil }.compactMap { column in
      let before = column.read(old, Configuration(), live)
      let after = column.read(new, Configuration(), live)
      return before == after ? nil : Value(column: column.name, from: before, to: after)
    }
  }
}

extension Transaction {
  /// Makes the configuration equal to another one, but for what `attach` has made, which belongs to
  /// its container, and for addresses that are reserved.
  ///
  /// - Parameters:
  ///   - declared: What a file says; any client may have sent it.
  ///   - declaresSwitch: Whether it says something of the switch itself, which else stays as it is.
  /// - Returns: What is otherwise now.
  /// - Throws: That it would take a container's bridge away, or is about a container's port.
  mutating func apply(
    _ declared: Configuration, declaresSwitch: Bool
  ) throws(ControlError) -> Reply {
    guard declared.bridges.allSatisfy({ $0.key == $0.value.name }),
      declared.networks.allSatisfy({ $0.key == $0.value.name }),
      declared.ports.allSatisfy({ $0.key == $0.value.name && $0.value.interface.attachment == nil })
    else {
      throw ControlError(
        "the request's configuration has an attached port, or a record under the name of another one"
      )
    }
    var wanted = declared
    if !declaresSwitch { wanted.host = configuration.host }
    let attached = configuration.ports.values.filter {
      $0.interface.attachment != nil && !configuration.isGateway($0)
    }
    for port in attached.sorted(by: { $0.name < $1.name }) {
      guard wanted.ports[port.name] == nil else {
        throw ControlError(
          "port \(port.name) was made by attach and belongs to its container, so a file cannot declare it; "
            + "leave it out", record: port.name)
      }
      wanted.ports[port.name] = port
    }
    for (name, network) in configuration.networks {
      wanted.networks[name]?.reserved = network.reserved
      // What follows from the network is settled later; with the network its gateway goes.
      if wanted.networks[name] != nil, let port = configuration.ports[network.gatewayPort],
        network.isGateway(port), wanted.ports[port.name] == nil
      {
        wanted.ports[port.name] = port
      }
    }
    try wanted.completeNetworks(after: configuration)
    for bridge in configuration.bridges.keys.sorted() where wanted.bridges[bridge] == nil {
      let names = attached.filter { $0.bridge == bridge }.map(\.name).sorted()
      guard names.isEmpty else {
        throw ControlError(
          "bridge \(bridge) is not in the file, but containers are attached to it "
            + "(\(shortened(names))); put it in, or detach them first")
      }
    }
    let changes = configuration.changes(to: wanted)
    configuration = wanted
    return .changes(changes)
  }
}
