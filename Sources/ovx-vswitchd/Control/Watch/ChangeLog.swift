internal import OVXControl

/// What has changed in watched tables, for any number of watchers that read at their own speed.
///
/// Changes are numbered and kept in one ring for all watchers, whatever their number: each only
/// remembers the number of the change that it is to read next. The ring is bounded in changes and
/// in bytes; a watcher that is so slow that the ring has overtaken it has missed something, and
/// begins anew with a snapshot. Of each watched table the log keeps the rows as they were last
/// told, which say what has changed.
final class ChangeLog {
  typealias Row = [String: Datum]

  /// Changes that are kept at most; a power of two.
  static let capacity = 8192
  /// Bytes that they take together at most, about.
  static let costLimit = 16 << 20

  private(set) var rows: [WatchedTable: [String: Row]] = [:]
  private var ring: [WatchEvent?] = []
  /// The number of the oldest change that is kept, and of the one that comes next.
  private(set) var start = 0
  private(set) var end = 0
  private var cost = 0

  // MARK: Writing

  /// Keeps the rows of a table from now on, which are these at present.
  func begin(_ table: WatchedTable, rows: [String: Row]) { self.rows[table] = rows }

  /// Forgets all rows but those of some tables; where there is none, the changes too.
  func keep(_ tables: Set<WatchedTable>) {
    rows = rows.filter { tables.contains($0.key) }
    if tables.isEmpty { (start, cost, ring) = (end, 0, []) }
  }

  /// Notes what a row is now: `nil` for one that is no more.
  func set(_ table: WatchedTable, _ record: String, _ row: Row?) {
    guard rows[table] != nil,
      let event = WatchEvent(table, record, from: rows[table]?[record], to: row)
    else { return }
    rows[table]?[record] = row
    append(event)
  }

  /// Notes what all rows of a table are now.
  func replace(_ table: WatchedTable, _ new: [String: Row]) {
    guard let old = rows[table] else { return }
    for record in old.keys where new[record] == nil { set(table, record, nil) }
    for (record, row) in new { set(table, record, row) }
  }

  private func append(_ event: WatchEvent) {
    if ring.isEmpty { ring = Array(repeating: nil, count: Self.capacity) }
    cost += event.cost
    // The newest is always kept, however long it is.
    while start < end, end - start == Self.capacity || cost > Self.costLimit {
      cost -= ring[start & (Self.capacity - 1)]?.cost ?? 0
      ring[start & (Self.capacity - 1)] = nil
      start += 1
    }
    ring[end & (Self.capacity - 1)] = event
    end += 1
  }

  // MARK: Reading

  /// A change that is kept.
  func change(_ number: Int) -> WatchEvent? {
    (start..<end).contains(number) ? ring[number & (Self.capacity - 1)] : nil
  }

  /// All rows of a table as they are when everything up to `end` has happened.
  func allRows(of table: WatchedTable) -> RowSnapshot { RowSnapshot(rows[table] ?? [:]) }
}

/// The rows of a table as of one moment, each handed out once.
struct RowSnapshot {
  /// Bytes of memory that it holds, about.
  let cost: Int
  /// The next row and its name; `nil` behind the last.
  let next: () -> (record: String, row: ChangeLog.Row)?

  /// Rows that are there, in the order of their names.
  init(_ rows: [String: ChangeLog.Row]) {
    var names = rows.keys.sorted(by: >)
    cost = 512 * rows.count
    next = {
      guard let name = names.popLast(), let row = rows[name] else { return nil }
      return (name, row)
    }
  }
}
