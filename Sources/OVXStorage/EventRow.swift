internal import GRDB
internal import OVXControl

/// An event as a row of the database.
struct EventRow: Codable, FetchableRecord, PersistableRecord {
  static let databaseTableName = "event"

  var number: Int
  var time: String
  var latest: String?
  var count: Int
  var kind: String
  var port: String?
  var bridge: String?
  var uid: UInt32?
  var pid: Int32?
  var text: String

  init(_ event: SwitchEvent) {
    number = event.number
    time = event.time
    latest = event.latest
    count = event.count
    kind = event.kind.rawValue
    port = event.port
    bridge = event.bridge
    uid = event.uid
    pid = event.pid
    text = event.text
  }

  /// `nil` for a kind that there is not.
  var event: SwitchEvent? {
    guard let kind = SwitchEvent.Kind(rawValue: kind) else { return nil }
    var event = SwitchEvent(
      number: number, time: time, kind: kind, port: port, bridge: bridge, uid: uid, pid: pid,
      text: text)
    (event.latest, event.count) = (latest, count)
    return event
  }
}

extension DatabaseFile {
  /// The history, oldest first.
  func events() throws -> [SwitchEvent] {
    guard let queue else { return [] }
    return try queue.read { database in
      try EventRow.fetchAll(database, sql: "SELECT * FROM event ORDER BY number")
    }.compactMap(\.event)
  }

  /// Makes the history what it is to be.
  ///
  /// Nothing waits for the disk: what a power failure takes are the last seconds of a history, and
  /// the next change of the configuration, which is waited for, takes it along.
  ///
  /// - Parameters:
  ///   - events: All of it.
  ///   - changed: The numbers of those that have changed since they were stored; what is not there
  ///     is stored anyway.
  /// - Throws: What SQLite says; nothing is written then.
  mutating func store(_ events: [SwitchEvent], changed: Set<Int>) throws {
    guard let queue else { return }
    let before = digest
    digest = try queue.writeWithoutTransaction { database in
      try database.execute(sql: "PRAGMA synchronous = NORMAL")
      defer { try? database.execute(sql: "PRAGMA synchronous = FULL") }
      var sum = before
      try database.inTransaction {
        let stored = Set(try Int.fetchAll(database, sql: "SELECT number FROM event"))
        let new = events.filter { changed.contains($0.number) || !stored.contains($0.number) }
        let removed = stored.subtracting(events.map(\.number)).union(
          stored.intersection(new.map(\.number)))
        for number in removed {
          guard
            let row = try Row.fetchOne(
              database, sql: "SELECT * FROM event WHERE number = ?", arguments: [number])
          else { continue }
          sum -= Digest(of: EventRow.databaseTableName, row.map { (key: $0.0, value: $0.1) })
          try database.execute(sql: "DELETE FROM event WHERE number = ?", arguments: [number])
        }
        for row in new.map(EventRow.init) {
          try row.insert(database)
          sum += Digest(of: EventRow.databaseTableName, try row.databaseDictionary)
        }
        try sum.store(in: database)
        return .commit
      }
      return sum
    }
  }
}
