/// The settings that stand behind `add-port` and `attach`: shorthands, and columns of Port and
/// Interface.
extension Transaction {
  /// What a shorthand stands for.
  static let shorthands: [String: (column: String, key: String?)] = [
    "key": ("options", "key"),
    "remote": ("options", "remote_ip"),
    "local": ("options", "local_ip"),
    "dst_port": ("options", "dst_port"),
    "mtu": ("mtu_request", nil),
  ]

  /// Applies settings to a port and its interface.
  ///
  /// A name is a shorthand, a column of Port, or a column of Interface that Port has not.
  mutating func applyPortSettings(_ settings: [Setting], to port: String) throws(ControlError) {
    var seen: Set<String> = []
    for setting in settings {
      let (resolved, table) = try resolve(setting, of: port)
      guard seen.insert(resolved.column + ":" + (resolved.key ?? "")).inserted else {
        throw ControlError(
          "\(setting.column) of port \(printable(port)) is there twice"
            + (resolved.key == "remote_ip" ? "; separate several addresses by commas" : "")
        )
      }
      switch table {
      case .port: try set(resolved, of: port, in: .ports)
      default: try set(resolved, of: port, in: .interfaces)
      }
    }
  }

  private static let portColumns = Table.ports.columns
    .filter { $0.write != nil && $0.isListed }.map(\.name)
  // The MTU in use is a read-only column, and its name here is the shorthand for the one that is
  // asked for.
  private static let interfaceColumns = Table.interfaces.columns
    .filter { $0.write != nil && $0.isListed }.map(\.name).filter { !portColumns.contains($0) }
  private static let constantColumns =
    Table.ports.columns.filter { !$0.isListed }.map(\.name)
    + Table.interfaces.columns.filter { !$0.isListed }.map(\.name)

  /// All names that a setting without a key may have, or the beginning of.
  static let settingNames =
    shorthands.keys.sorted() + portColumns + interfaceColumns
    + ["_uuid", "name", "interfaces", migrate]

  private func resolve(
    _ setting: Setting,
    of port: String
  ) throws(ControlError) -> (Setting, Schema.TableName) {
    let (portColumns, interfaceColumns) = (Self.portColumns, Self.interfaceColumns)
    let shorthands = setting.key == nil ? Self.shorthands.keys.sorted() : []
    let readOnly = ["_uuid", "name", "interfaces"]
    switch Schema.match(setting.column, in: shorthands + portColumns + interfaceColumns + readOnly)
    {
    case .one(let name) where !Schema.isMisleading(setting.column, for: name):
      if setting.key == nil, let meant = Self.shorthands[name] {
        return (Setting(column: meant.column, key: meant.key, value: setting.value), .interface)
      }
      let resolved = Setting(column: name, key: setting.key, value: setting.value)
      return (resolved, interfaceColumns.contains(name) ? .interface : .port)
    case .several(let names):
      throw ControlError(
        "\"\(setting.column)\" of port \(printable(port)) could be "
          + "\(names.joined(separator: ", ")); type more of the name"
      )
    case .none, .one:
      if let name = Self.constantColumns.first(where: { Schema.isSame($0, setting.column) }) {
        let isPort = Table.ports.columns.contains { $0.name == name }
        return (
          Setting(column: name, key: setting.key, value: setting.value),
          isPort ? .port : .interface
        )
      }
      let isAttached = configuration.ports[port]?.interface.attachment != nil
      let known =
        shorthands + portColumns + interfaceColumns + (isAttached ? ["gateway", "ip"] : [])
      if let word = Schema.settingSynonyms[setting.column.lowercased()], known.contains(word) {
        throw ControlError(
          "a port has no \"\(printable(setting.column))\"; type \(word)=\(printable(setting.value))"
        )
      }
      throw ControlError(
        "a port has no \"\(printable(setting.column))\"; "
          + "it takes \(known.sorted().joined(separator: ", "))"
      )
    }
  }
}
