/// Records that are referred to by `@ID` within a transaction, as scripts for Open vSwitch do it:
///
///     --id=@p create Port name=p1 tag=5 interfaces=@i
///       -- --id=@i create Interface name=p1 type=internal -- add Bridge br0 ports @p
///
/// A created record comes into being where another command puts it: a port into a bridge, a bridge
/// into the switch. One that nothing refers to does not, as with `ovs-vsctl`, and the operator is
/// told.
extension Transaction {
  /// A record that `create` describes.
  struct Draft {
    var table: Schema.TableName
    var settings: [Setting]
    var isUsed = false
  }

  /// Takes note of all that commands name, before the first of them is carried out: one may refer
  /// to a later one's.
  mutating func collectIDs(_ commands: [Command]) throws(ControlError) {
    for command in commands {
      guard case .create(let table, let id?, let settings) = command else { continue }
      try checkID(id)
      guard drafts[id] == nil else {
        throw ControlError("the id \"\(printable(id))\" is there twice; give each record its own")
      }
      drafts[id] = Draft(table: try Schema.TableName(matching: table), settings: settings)
    }
  }

  /// What `create` answers: the record's `_uuid`.
  mutating func create(
    _ table: String, id: String?, _ settings: [Setting]
  ) throws(ControlError) -> Reply {
    let table = try Schema.TableName(matching: table)
    guard table != .host else {
      throw ControlError("table Switch has one record, \".\", which cannot be made; use set")
    }
    let name = try self.name(in: settings, of: table)
    if table == .network {
      throw ControlError(
        "a network is made by \"add-net \(printable(name)) vni=NUMBER\", with the same settings")
    }
    if id == nil {
      notes.append(
        "\(table.rawValue) \(printable(name)) is not made, as nothing can refer to it; "
          + "create it with --id=@ID and put it somewhere, such as add bridge BRIDGE ports @ID")
    }
    return .names([RecordID.text(table, name)])
  }

  /// `get` with `--id`: the record's name for the commands behind it.
  mutating func refer(
    _ id: String, to record: String, of table: String
  ) throws(ControlError) {
    try checkID(id)
    let table = try Schema.TableName(matching: table)
    references[id] = resolved(record, in: table)
  }

  /// The name of a record that was given by name, by `_uuid`, or by an id of this transaction.
  func resolved(_ record: String, in table: Schema.TableName) -> String {
    if record.hasPrefix("@") {
      if let name = references[record] { return name }
      if let draft = drafts[record], let name = try? name(in: draft.settings, of: draft.table) {
        return name
      }
      return record
    }
    guard RecordID.isText(record) else { return record }
    let text = record.lowercased()
    let names =
      switch table {
      case .bridge: Array(configuration.bridges.keys)
      case .port, .interface: Array(configuration.ports.keys)
      case .network: Array(configuration.networks.keys)
      case .host: ["."]
      }
    return names.first { RecordID.text(table, $0) == text } ?? record
  }

  /// Tells of records that were created and put nowhere.
  mutating func noteUnusedDrafts() {
    for (id, draft) in drafts.sorted(by: { $0.key < $1.key }) where !draft.isUsed {
      notes.append(
        "\(draft.table.rawValue) \(printable(id)) is not made, as no other command refers to it")
    }
  }

  // MARK: References

  /// Puts ports into a bridge, or bridges into the switch: `add bridge BR ports @ID`,
  /// `add open . bridges @ID`.
  ///
  /// - Returns: Whether the column is one of references at all.
  mutating func addReferences(
    _ values: [String], to column: String, of record: String, in table: Schema.TableName
  ) throws(ControlError) -> Bool {
    guard isReference(column, in: table) else { return false }
    if table == .bridge { try requireBridge(record) }
    for element in try elements(values) {
      if drafts[element] != nil, references[element] == nil {
        if table == .bridge {
          try makePort(element, in: record)
        } else {
          try makeBridge(element)
        }
      } else {
        // What is there already may be added again.
        let name = resolved(element, in: table == .bridge ? .port : .bridge)
        let isThere =
          table == .bridge
          ? configuration.ports[name]?.bridge == record : configuration.bridges[name] != nil
        guard isThere else {
          throw ControlError(
            "\"\(printable(element))\" is no id of a record that this transaction creates; type "
              + (table == .bridge ? "add-port \(printable(record)) PORT" : "add-br BRIDGE"))
        }
      }
    }
    return true
  }

  /// Takes ports out of a bridge, or bridges out of the switch, which deletes them.
  mutating func removeReferences(
    _ values: [String], from column: String, of record: String, in table: Schema.TableName
  ) throws(ControlError) -> Bool {
    guard isReference(column, in: table) else { return false }
    if table == .bridge { try requireBridge(record) }
    for element in try elements(values) {
      if table == .bridge {
        let name = resolved(element, in: .port)
        // As with every set, what is not in it is not missed.
        guard configuration.ports[name]?.bridge == record else { continue }
        try deletePort(name, of: record, ifExists: false)
      } else {
        try deleteBridge(resolved(element, in: .bridge), ifExists: true)
      }
    }
    return true
  }

  /// Deletes records, all of a table where `records` is `nil`; with `ifExists` none of them need be
  /// there.
  ///
  /// In a table of Open vSwitch that ovx has not there is nothing.
  mutating func destroy(
    _ table: String, _ records: [String]?, ifExists: Bool
  ) throws(ControlError) {
    if let instead = Schema.absentTable(table), (try? Schema.TableName(matching: table)) == nil {
      guard let record = records?.first, !ifExists else { return }
      throw ControlError(
        "no record \(printable(record)) in table \(printable(table)): \(instead)")
    }
    let table = try Schema.TableName(matching: table)
    switch table {
    case .host:
      throw ControlError("the record of table Switch stays; del-br deletes a bridge")
    case .network:
      for record in records ?? configuration.networks.keys.sorted() {
        try deleteNetwork(resolved(record, in: table), ifExists: ifExists)
      }
    case .bridge:
      for record in records ?? configuration.bridges.keys.sorted() {
        try deleteBridge(resolved(record, in: table), ifExists: ifExists)
      }
    case .port, .interface:
      let all = configuration.ports.values.filter { !$0.isBridgeInternal }.map(\.name).sorted()
      for record in records ?? all {
        let name = resolved(record, in: table)
        // A port and its interface are one, and scripts name both.
        if destroyed.contains(name), configuration.ports[name] == nil { continue }
        try deletePort(name, of: nil, ifExists: ifExists)
        destroyed.insert(name)
      }
    }
  }

  private func isReference(_ column: String, in table: Schema.TableName) -> Bool {
    switch table {
    case .bridge:
      if case .one("ports") = Schema.match(column, in: Table.bridges.columns.map(\.name)) {
        return true
      }
    case .host:
      if case .one("bridges") = Schema.match(column, in: Table.hosts.columns.map(\.name)) {
        return true
      }
    case .port, .interface, .network: break
    }
    return false
  }

  private func elements(_ values: [String]) throws(ControlError) -> [String] {
    var elements: [String] = []
    for value in values { elements += try DatumText.set(value) }
    return elements
  }

  private func checkID(_ id: String) throws(ControlError) {
    guard id.hasPrefix("@"), id.utf8.count > 1 else {
      throw ControlError("the id \"\(printable(id))\" does not begin with \"@\"; type --id=@NAME")
    }
  }

  private func name(
    in settings: [Setting], of table: Schema.TableName
  ) throws(ControlError) -> String {
    guard let setting = settings.first(where: { $0.column.lowercased() == "name" && $0.key == nil })
    else {
      throw ControlError("a new record of table \(table.rawValue) needs a name; add name=NAME")
    }
    return try DatumText.atom(setting.value)
  }

  // MARK: Making

  private mutating func draft(
    _ id: String, of table: Schema.TableName
  ) throws(ControlError) -> (name: String, settings: [Setting], references: [String]) {
    guard let draft = drafts[id], draft.table == table else {
      throw ControlError(
        "\"\(printable(id))\" is no record of table \(table.rawValue) that this transaction creates"
      )
    }
    guard !draft.isUsed else {
      throw ControlError("\"\(printable(id))\" is put in two places; create a record for each")
    }
    drafts[id]?.isUsed = true
    let name = try name(in: draft.settings, of: table)
    var settings: [Setting] = []
    var references: [String] = []
    let referring = table == .bridge ? "ports" : table == .port ? "interfaces" : ""
    for setting in draft.settings {
      switch setting.column.lowercased() {
      case "name": continue
      case referring: references += try DatumText.set(setting.value)
      default: settings.append(setting)
      }
    }
    return (name, settings, references)
  }

  private mutating func makeBridge(_ id: String) throws(ControlError) {
    let (name, settings, ports) = try draft(id, of: .bridge)
    try addBridge(name, mayExist: false)
    for setting in settings { try set(setting, of: name, in: .bridges) }
    for port in ports { try makePort(port, in: name) }
  }

  private mutating func makePort(_ id: String, in bridge: String) throws(ControlError) {
    let (name, settings, interfaces) = try draft(id, of: .port)
    guard interfaces.count <= 1 else {
      throw ControlError(
        "port \(printable(name)) has \(interfaces.count) interfaces, and ovx has no bonds: make one with "
          + "\"ip link add bond0 type bond\", and add it as a port")
    }
    // Scripts make the bridge's own port, too.
    if name != bridge { try addPort(name, to: bridge, [], mayExist: false) }
    for setting in settings { try set(setting, of: name, in: .ports) }
    guard let interface = interfaces.first else { return }
    let (interfaceName, interfaceSettings, _) = try draft(interface, of: .interface)
    guard interfaceName == name else {
      throw ControlError(
        "interface \(printable(interfaceName)) is of port \(printable(name)): in ovx both have one name; "
          + "give them the same")
    }
    for setting in interfaceSettings { try set(setting, of: name, in: .interfaces) }
  }
}
