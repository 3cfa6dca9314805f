/// A configuration that is put together from what a file says, one value at a time, so that whoever
/// reads the file can tell where the value stands that is wrong.
///
/// The keys of a file are the settings of `add-port` and the columns of Bridge and Port, under the
/// same names and with the same checks. Its texts are values as they stand: no quotes, no brackets,
/// no guessing.
package struct Declaration {
  private var transaction = Transaction(
    configuration: Configuration(), live: LiveState(deviceExists: { _ in false }))
  /// What has been set, by record, column and key of a map.
  private var seen: Set<[String]> = []
  /// Whether the file says something of the switch itself.
  package private(set) var declaresSwitch = false

  package init() {}

  /// What a file says under a key.
  package enum Value: Equatable, Sendable {
    case text(String)
    case list([String])
    case map([String: String])
  }

  /// A key of a bridge, a port, a network or the switch.
  package struct Key: Sendable {
    /// The name in the file.
    package let name: String
    package let form: Form
    let table: Schema.TableName
    let column: String
    /// The key in the column's map, for a name that stands for one.
    let mapKey: String?
    /// Whether a list is stored as one text, its elements separated by commas.
    let isJoined: Bool
  }

  /// What a key takes.
  package enum Form: Sendable {
    case text
    /// One text, or a list of texts.
    case list
    /// Names and texts.
    case map
  }

  // MARK: Keys

  /// The keys that a bridge has beside `ports`; `address` and `routes` are those of its internal
  /// port.
  package static let bridgeKeys: [Key] =
    hostKeys + keys(of: .bridges, leavingOut: ["datapath_type"])

  /// The keys that `switch` has.
  package static let switchKeys: [Key] = keys(of: .hosts, leavingOut: [])

  /// The keys that a network has.
  package static let networkKeys: [Key] = keys(of: .networks, leavingOut: [])

  /// The keys that a port has beside `interface`, in the order in which `export` writes them.
  package static let portKeys: [Key] = {
    let shorthands = Transaction.shorthands.sorted { rank($0.key) < rank($1.key) }.map {
      Key(
        name: $0.key, form: $0.value.key == "remote_ip" ? .list : .text, table: .interface,
        column: $0.value.column, mapKey: $0.value.key, isJoined: $0.value.key == "remote_ip")
    }
    let ports = keys(of: .ports, leavingOut: [])
    let interfaces = keys(
      of: .interfaces,
      leavingOut: ports.map(\.name) + hostKeys.map(\.column)
        + shorthands.compactMap {
          $0.mapKey == nil ? $0.column : nil
        })
    return interfaces.filter { $0.form == .text } + shorthands + hostKeys
      + ports.filter { $0.form != .map } + interfaces.filter { $0.form == .map }
      + ports.filter { $0.form == .map }
  }()

  /// The keys that stand below `interface`: columns that Interface and Port both have.
  package static let interfaceKeys: [Key] = {
    let names = Set(portKeys.filter { $0.table == .port }.map(\.name))
    return keys(of: .interfaces, leavingOut: []).filter { names.contains($0.name) }
  }()

  /// What the host has on a device; of a bridge, on its own.
  private static let hostKeys = [
    Key("address", column: "addresses"), Key("routes", column: "routes"),
  ]

  /// The familiar ones first, in the order in which people write them.
  private static func rank(_ shorthand: String) -> String {
    let familiar = ["key", "remote", "local", "dst_port"]
    return familiar.firstIndex(of: shorthand).map { "\($0)" } ?? shorthand
  }

  private static func keys<Record>(
    of table: Table<Record>, leavingOut names: [String]
  ) -> [Key] {
    table.columns.filter { $0.write != nil && $0.isListed && !names.contains($0.name) }.map {
      column in
      let form: Form =
        switch column.shape {
        case .one, .optional, .constant: .text
        case .set: .list
        case .map: .map
        }
      return Key(
        name: column.name, form: form, table: table.name, column: column.name, mapKey: nil,
        isJoined: false)
    }
  }

  // MARK: Building

  package mutating func addBridge(_ name: String) throws(ControlError) {
    _ = try transaction.execute(.addBridge(bridge: name, mayExist: false))
  }

  /// Notes that the file says something of the switch itself.
  package mutating func addSwitch() { declaresSwitch = true }

  package mutating func addNetwork(_ name: String) throws(ControlError) {
    try checkNetworkName(name)
    transaction.configuration.networks[name] = Configuration.Network(name: name)
  }

  /// The port that is to be the tunnel of a network, by which errors may call it.
  package func tunnelPort(ofNetwork name: String) -> String? {
    transaction.configuration.networks[name]?.tunnelPort
  }

  /// Adds a port; the bridge's own is there already, and is only named again.
  package mutating func addPort(_ name: String, to bridge: String) throws(ControlError) {
    guard name != bridge else { return }
    if let other = transaction.configuration.ports[name] {
      throw ControlError(
        "port \(name) is there twice, in bridge \(other.bridge) and in bridge \(bridge); "
          + (other.isBridgeInternal ? "take another name" : "leave one out"))
    }
    let command = Command.addPort(bridge: bridge, port: name, settings: [], mayExist: false)
    _ = try transaction.execute(command)
  }

  /// Gives a bridge or a port what the file says under a key.
  ///
  /// - Parameters:
  ///   - key: One of `bridgeKeys`, `portKeys`, `interfaceKeys`, `networkKeys` or `switchKeys`.
  ///   - record: The name of the bridge, the port or the network, or `.` for the switch.
  ///   - value: Of the key's form; a text is as good as a list of one.
  /// - Throws: That it cannot be the key's value, or that it was given before.
  package mutating func set(
    _ key: Key, of record: String, to value: Value
  ) throws(ControlError) {
    switch key.table {
    case .bridge: try set(key, of: record, to: value, in: .bridges)
    case .port: try set(key, of: record, to: value, in: .ports)
    case .interface: try set(key, of: record, to: value, in: .interfaces)
    case .network: try set(key, of: record, to: value, in: .networks)
    case .host: try set(key, of: record, to: value, in: .hosts)
    }
  }

  private mutating func set<Record>(
    _ key: Key, of record: String, to value: Value, in table: Table<Record>
  ) throws(ControlError) {
    let (column, write) = try transaction.writable(key.column, in: table)
    let datum: Datum
    switch (value, key.mapKey) {
    case (.map(let entries), _):
      for name in entries.keys.sorted() { try note(key, name, record, in: table) }
      datum = merged(entries, column, record, table)
    case (.text(let text), let name?):
      try note(key, name, record, in: table)
      datum = merged([name: text], column, record, table)
    case (.list(let texts), let name?):
      try note(key, name, record, in: table)
      datum = merged([name: texts.joined(separator: ",")], column, record, table)
    case (.text(let text), nil):
      try note(key, "", record, in: table)
      datum = try transaction.value(of: column, record, in: table) { shape throws(ControlError) in
        try shape.datum(exactly: [text])
      }
    case (.list(let texts), nil):
      try note(key, "", record, in: table)
      datum = try transaction.value(of: column, record, in: table) { shape throws(ControlError) in
        try shape.datum(exactly: texts)
      }
    }
    transaction.store(datum, in: record, of: table, with: write)
  }

  private func merged<Record>(
    _ entries: [String: String], _ column: Column<Record>, _ record: String, _ table: Table<Record>
  ) -> Datum {
    let new = entries.mapValues(Atom.text)
    guard case .map(let old)? = transaction.datum(column, of: record, in: table) else {
      return .map(new)
    }
    return .map(old.merging(new) { _, new in new })
  }

  private mutating func note<Record>(
    _ key: Key, _ mapKey: String, _ record: String, in table: Table<Record>
  ) throws(ControlError) {
    guard seen.insert([table.name.rawValue, record, key.column, mapKey]).inserted else {
      let what = mapKey.isEmpty ? key.column : "\(key.column):\(printable(mapKey))"
      throw ControlError("\(what) of \(printable(record)) is there twice; give it once")
    }
  }

  /// The whole configuration.
  ///
  /// An interface whose type the file does not name is a tunnel where it has a tunnel's options,
  /// and else a device of the host, which is waited for: what a file means does not depend on what
  /// the host has at present.
  ///
  /// - Throws: The first fault, as `Configuration.validate()` does.
  package func finished() throws(ControlError) -> Configuration {
    var configuration = transaction.configuration
    for name in configuration.unresolvedInterfaces {
      let options = configuration.ports[name]?.interface.options ?? [:]
      configuration.ports[name]?.interface.type = options.isEmpty ? .system : .vxlan
    }
    var completed = configuration
    try completed.completeNetworks(after: Configuration())
    try completed.validate()
    return configuration
  }
}

extension Declaration.Key {
  fileprivate init(_ name: String, column: String) {
    self.init(
      name: name, form: .list, table: .interface, column: column, mapKey: nil, isJoined: false)
  }
}

// MARK: - The other way round

extension Declaration {
  /// What a file says, as a tree.
  package indirect enum Node: Equatable, Sendable {
    case atom(Atom)
    case list([Atom])
    case map([Member])

    package struct Member: Equatable, Sendable {
      package let key: String
      package let value: Node
    }
  }

  /// The tree from which the configuration comes back, but for what `attach` has made: that belongs
  /// to its container.
  package static func tree(of configuration: Configuration) -> Node {
    let bridges = configuration.bridges.values.sorted { $0.name < $1.name }.map { bridge in
      Node.Member(key: bridge.name, value: tree(of: bridge, in: configuration))
    }
    var members: [Node.Member] = []
    let host = Self.members(switchKeys, of: configuration.host, .hosts)
    if !host.isEmpty { members.append(Node.Member(key: "switch", value: .map(host))) }
    let networks = configuration.networks.values.sorted { $0.name < $1.name }.map { network in
      Node.Member(key: network.name, value: .map(Self.members(networkKeys, of: network, .networks)))
    }
    if !networks.isEmpty { members.append(Node.Member(key: "networks", value: .map(networks))) }
    return .map(members + [Node.Member(key: "bridges", value: .map(bridges))])
  }

  private static func tree(of bridge: Configuration.Bridge, in configuration: Configuration)
    -> Node
  {
    var members: [Node.Member] = []
    if let port = configuration.ports[bridge.name] {
      members += Self.members(hostKeys, of: port, .interfaces)
    }
    members += Self.members(bridgeKeys.filter { $0.table == .bridge }, of: bridge, .bridges)
    var ports: [Node.Member] = []
    for port in configuration.ports(of: bridge.name)
    where port.interface.attachment == nil && !configuration.isImplied(port) {
      let tree = tree(of: port)
      guard !port.isBridgeInternal || tree != .map([]) else { continue }
      ports.append(Node.Member(key: port.name, value: tree))
    }
    if !ports.isEmpty { members.append(Node.Member(key: "ports", value: .map(ports))) }
    return .map(members)
  }

  private static func tree(of port: Configuration.Port) -> Node {
    var members: [Node.Member] = []
    for key in portKeys where !(port.isBridgeInternal && hostKeys.contains { $0.name == key.name })
    {
      if key.column == "type", isImplied(port) { continue }
      if key.table == .port {
        members += Self.members([key], of: port, .ports)
      } else {
        members += Self.members([key], of: port, .interfaces)
      }
    }
    let inner = Self.members(interfaceKeys, of: port, .interfaces)
    if !inner.isEmpty { members.append(Node.Member(key: "interface", value: .map(inner))) }
    return .map(members)
  }

  /// Whether a port's type need not be written.
  private static func isImplied(_ port: Configuration.Port) -> Bool {
    port.interface.type == .system || port.isBridgeInternal
  }

  private static func members<Record>(
    _ keys: [Key], of record: Record, _ table: Table<Record>
  ) -> [Node.Member] {
    keys.compactMap { key in
      guard let column = table.columns.first(where: { $0.name == key.column }) else { return nil }
      let datum = column.read(record, Configuration(), LiveState(deviceExists: { _ in false }))
      guard datum != column.usual else { return nil }
      return node(datum, of: key).map { Node.Member(key: key.name, value: $0) }
    }
  }

  /// What a key has to say; `nil` for nothing.
  private static func node(_ datum: Datum, of key: Key) -> Node? {
    switch datum {
    case .scalar(let atom):
      return atom.map(Node.atom)
    case .set(let atoms):
      guard let first = atoms.first else { return nil }
      let isHosts = hostKeys.contains { $0.name == key.name }
      return atoms.count == 1 && isHosts ? .atom(first) : .list(atoms)
    case .map(let entries):
      if let name = key.mapKey {
        guard let atom = entries[name] else { return nil }
        let parts = addressList(atom.bare)
        // Only a list that is written like this comes back letter by letter.
        return key.isJoined && parts.joined(separator: ",") == atom.bare && !parts.isEmpty
          ? .list(parts.map(Atom.text)) : .atom(atom)
      }
      let shorthands = portKeys.filter { $0.column == key.column && $0.table == key.table }
        .compactMap(\.mapKey)
      let members = entries.filter { !shorthands.contains($0.key) }.sorted { $0.key < $1.key }
        .map { Node.Member(key: $0.key, value: .atom($0.value)) }
      return members.isEmpty ? nil : .map(members)
    }
  }
}

extension Declaration.Node: Encodable {
  /// A map as an object, for JSON.
  package func encode(to encoder: any Encoder) throws {
    switch self {
    case .atom(let atom): try atom.encode(to: encoder)
    case .list(let atoms): try atoms.encode(to: encoder)
    case .map(let members):
      let entries = members.map { ($0.key, $0.value) }
      try Dictionary(entries, uniquingKeysWith: { first, _ in first }).encode(to: encoder)
    }
  }
}
