/// Words that people try, from ip(8), bridge(8) and other switches, and those that ovx takes.
extension Schema {
  /// Words for a setting of a port, and the setting.
  static let settingSynonyms: [String: String] = [
    "vni": "key", "id": "key", "tunnel_key": "key", "tun_id": "key", "segment": "key",
    "remote_ip": "remote", "remotes": "remote", "group": "remote", "peer": "remote",
    "dst": "remote",
    "local_ip": "local", "src": "local", "dstport": "dst_port", "port": "dst_port",
    "vlan": "tag", "vlan_id": "tag", "vid": "tag", "pvid": "tag", "access": "tag",
    "vlans": "trunks", "allowed_vlans": "trunks", "mode": "vlan_mode",
    "hwaddr": "mac", "lladdr": "mac", "mac_address": "mac", "ipaddr": "ip", "ipaddress": "ip",
    "ip_address": "ip", "address": "ip", "gw": "gateway", "via": "gateway",
  ]

  /// Words for a column, and the column with its table.
  private static let columnSynonyms: [String: (table: TableName, column: String)] = [
    "vni": (.interface, "options:key"), "key": (.interface, "options:key"),
    "remote_ip": (.interface, "options:remote_ip"), "remote": (.interface, "options:remote_ip"),
    "local_ip": (.interface, "options:local_ip"), "local": (.interface, "options:local_ip"),
    "dst_port": (.interface, "options:dst_port"), "dstport": (.interface, "options:dst_port"),
    "vlan": (.port, "tag"), "vid": (.port, "tag"), "pvid": (.port, "tag"),
    "vlans": (.port, "trunks"),
    "mtu": (.interface, "mtu_request"), "mac_in_use": (.interface, "mac"),
    "hwaddr": (.interface, "mac"), "lladdr": (.interface, "mac"),
    "address": (.interface, "addresses"), "ip": (.interface, "addresses"),
    "aging_time": (.bridge, "other_config:mac-aging-time"),
    "ageing_time": (.bridge, "other_config:mac-aging-time"),
  ]

  /// What to type in the place of a column that a table has not, or that cannot be set: a clause;
  /// `nil` where nothing is alike.
  static func rightWord(for name: String, notIn table: TableName) -> String? {
    let folded = name.lowercased().split(separator: "-").joined(separator: "_")
    func place(_ other: TableName, _ column: String) -> String? {
      if other == table, isSame(column, name) { return nil }
      let record = other == .host ? "." : "NAME"
      return "type set \(other.rawValue.lowercased()) \(record) \(column)=VALUE"
    }
    if let (other, column) = columnSynonyms[folded] { return place(other, column) }
    let columns: [(TableName, [String])] = [
      (.port, Table.ports.writableNames), (.interface, Table.interfaces.writableNames),
      (.bridge, Table.bridges.writableNames),
    ]
    for (other, names) in columns where other != table {
      if let column = names.first(where: { isSame($0, name) }) { return place(other, column) }
    }
    return nil
  }

  /// Whether a name is a word for something else than the column that it is the beginning of, as
  /// `vlan` is no `vlan_mode`.
  static func isMisleading(_ name: String, for column: String) -> Bool {
    let folded = name.lowercased().split(separator: "-").joined(separator: "_")
    guard !isSame(column, name), let meant = columnSynonyms[folded] else { return false }
    return meant.column != column
  }

  /// Whether two names are the same but for letter case, and `-` in the place of `_`.
  static func isSame(_ left: String, _ right: String) -> Bool {
    if case .one = match(right, in: [left]) { return left.utf8.count == right.utf8.count }
    return false
  }
}

extension Table {
  /// The columns that can be set to something, as `list` names them.
  fileprivate var writableNames: [String] {
    columns.filter { $0.write != nil && $0.isListed }.map(\.name)
  }
}
