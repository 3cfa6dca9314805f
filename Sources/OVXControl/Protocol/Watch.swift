/// A table that `watch` tells the rows of: those of the configuration, and what the running switch
/// knows.
package enum WatchedTable: String, Codable, CaseIterable, Sendable {
  case host = "Switch"
  case bridge = "Bridge"
  case network = "Network"
  case port = "Port"
  /// With the read-only columns, but for `statistics`, which would change with every frame.
  case interface = "Interface"
  /// Remote VTEPs of tunnels, and whether they can be reached.
  case tunnel = "Tunnel"
  /// Stations behind devices of this host: those that were heard, and those that were attached.
  case station = "FDB"
  /// The IP addresses of such stations.
  case neighbor = "Neighbor"
  /// Counters of ports, looked at once per interval.
  case statistics = "Statistics"
  /// When all counters of `statistics` were looked at last: one row, which changes behind theirs.
  case sample = "Sample"
  /// What has happened: `SwitchEvent`, each by its number.
  case event = "Event"

  /// Those that are watched where none is named: all but those that traffic alone changes, and the
  /// history.
  package static let usual = allCases.filter {
    ![.statistics, .sample, .station, .neighbor, .event].contains($0)
  }

  /// Finds a table by its name or an unambiguous beginning of it, in any letter case.
  ///
  /// - Throws: That there is none, or more than one, with the names there are.
  package init(matching name: String) throws(ControlError) {
    let names = Self.allCases.map(\.rawValue) + ["Open_vSwitch"]
    switch Schema.match(name, in: names) {
    case .one(let found): self = Self(rawValue: found) ?? .host
    case .none:
      throw ControlError(
        "there is no table \"\(printable(name))\" to watch; the tables are "
          + Self.allCases.map(\.rawValue).joined(separator: ", "))
    case .several(let names):
      throw ControlError(
        "more than one table matches \"\(name)\": \(names.joined(separator: ", ")); type more of the name"
      )
    }
  }
}

/// How a station of this host is known: the column `kind` of table FDB.
package enum StationKind: String, Sendable {
  /// A frame has come from it.
  case learned
  /// An operator has said so.
  case `static`
  /// It was attached to a network that is to have it nowhere else.
  case attached
  /// It is the gateway of all hosts that have the network.
  case gateway
}

/// One line of a watch: what a row is, what has become of one, or how far the watch has come.
///
/// A watch begins with every row that there is, each as `initial`, and `snapshot-end` behind the
/// last. From then on each change comes once, in the order in which it happened. A client that
/// reads more slowly than things change is told `missed`, and gets all rows anew as at the
/// beginning; what it knew by then is void.
package struct WatchEvent: Codable, Equatable, Sendable {
  package enum Action: String, Codable, Sendable {
    /// A row that was there when the snapshot was taken.
    case initial
    case insert
    case modify
    case delete
    /// All rows have been told; what follows are changes.
    case snapshotEnd = "snapshot-end"
    /// Changes were lost, and a new snapshot follows.
    case missed
  }

  package var action: Action
  /// Absent for `snapshot-end` and `missed`.
  package var table: WatchedTable?
  /// The row's name: of a port its own, of a tunnel's remote `PORT/ADDRESS`.
  package var record: String?
  /// The columns that the row has, and of a `modify` those that have another value now.
  package var new: [String: Datum]?
  /// Of a `modify` the former values of these columns; of a `delete` those that the row had.
  package var old: [String: Datum]?

  package init(
    _ action: Action, table: WatchedTable? = nil, record: String? = nil,
    new: [String: Datum]? = nil, old: [String: Datum]? = nil
  ) {
    self.action = action
    self.table = table
    self.record = record
    self.new = new
    self.old = old
  }

  /// What has become of a row that was `old` and is `new`; `nil` where it is the same.
  package init?(
    _ table: WatchedTable, _ record: String, from old: [String: Datum]?, to new: [String: Datum]?
  ) {
    switch (old, new) {
    case (nil, nil): return nil
    case (nil, let new?): self.init(.insert, table: table, record: record, new: new)
    case (let old?, nil): self.init(.delete, table: table, record: record, old: old)
    case (let old?, let new?):
      let columns = Set(old.keys).union(new.keys).filter { old[$0] != new[$0] }
      guard !columns.isEmpty else { return nil }
      self.init(
        .modify, table: table, record: record,
        new: new.filter { columns.contains($0.key) }, old: old.filter { columns.contains($0.key) })
    }
  }

  /// Bytes of memory that the event takes, about.
  package var cost: Int {
    func cost(_ row: [String: Datum]?) -> Int { row?.values.reduce(0) { $0 + 64 * $1.size } ?? 0 }
    return 128 + cost(new) + cost(old)
  }
}

extension Configuration {
  /// The names of a table's records; empty for a table that is not of the configuration.
  package func records(in table: WatchedTable) -> [String] {
    switch table {
    case .host: ["."]
    case .bridge: Array(bridges.keys)
    case .network: Array(networks.keys)
    case .port, .interface: Array(ports.keys)
    case .tunnel, .station, .neighbor, .statistics, .sample, .event: []
    }
  }

  /// A record's columns, those that `list` prints, without `_uuid` and `statistics`; `nil` where
  /// there is no such record.
  package func row(
    _ name: String, in table: WatchedTable, _ live: LiveState
  ) -> [String: Datum]? {
    switch table {
    case .host: Table.hosts.row(name, self, live)
    case .bridge: Table.bridges.row(name, self, live)
    case .network: Table.networks.row(name, self, live)
    case .port: Table.ports.row(name, self, live)
    case .interface: Table.interfaces.row(name, self, live)
    case .tunnel, .station, .neighbor, .statistics, .sample, .event: nil
    }
  }
}

extension Table {
  fileprivate func row(
    _ name: String, _ configuration: Configuration, _ live: LiveState
  ) -> [String: Datum]? {
    guard let record = configuration[keyPath: records][name] else { return nil }
    var row: [String: Datum] = [:]
    for column in columns where column.isListed && !["_uuid", "statistics"].contains(column.name) {
      row[column.name] = column.read(record, configuration, live)
    }
    return row
  }
}
