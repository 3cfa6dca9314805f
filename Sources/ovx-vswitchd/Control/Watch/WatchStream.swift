internal import OVXControl

/// What one watcher is told: a snapshot of its tables, then their changes, a piece at a time as the
/// client takes it.
struct WatchStream {
  /// Lines that are encoded at a time, and bytes from which on no more are added.
  private static let pieceLength = 64
  static let pieceSize = 64 << 10

  let tables: Set<WatchedTable>
  /// Milliseconds between two looks at the counters, where those are watched.
  let interval: Int64
  /// What is left of the snapshot, the next table last; rows as they were when it was taken.
  private var snapshot: [(table: WatchedTable, rows: RowSnapshot)] = []
  private var phase = Phase.starting
  /// The number of the change to be told next.
  private var next = 0

  private enum Phase {
    /// A snapshot is to be taken.
    case starting
    /// The same, as changes were missed.
    case missed
    case snapshot
    case following
  }

  /// Begins a watch, with a snapshot that is taken when the client takes its first piece.
  init(_ tables: Set<WatchedTable>, interval: Int64) {
    self.tables = tables
    self.interval = interval
  }

  /// Whether there is something to tell.
  func hasNews(_ log: ChangeLog) -> Bool {
    if case .following = phase { next != log.end } else { true }
  }

  /// Bytes of memory that the snapshot holds, about.
  var cost: Int { snapshot.reduce(0) { $0 + $1.rows.cost } }

  /// Gives up the snapshot that the client does not take: it is to have another one when it does.
  mutating func fallBehind() {
    guard case .snapshot = phase else { return }
    snapshot = []
    phase = .missed
  }

  /// The next lines, each an event; `nil` where there is nothing to tell at present.
  ///
  /// - Throws: That one cannot be encoded.
  mutating func takePiece(_ log: ChangeLog) throws(ControlError) -> [UInt8]? {
    var piece: [UInt8] = []
    if case .following = phase, next < log.start { phase = .missed }
    switch phase {
    case .starting, .missed:
      if case .missed = phase { piece += try WatchEvent(.missed).messageBytes() }
      takeSnapshot(log)
      phase = .snapshot
      // Of a table without rows there is nothing else to say.
      return piece.isEmpty ? try takePiece(log) : piece
    case .snapshot:
      try addRows(to: &piece)
      if snapshot.isEmpty {
        piece += try WatchEvent(.snapshotEnd).messageBytes()
        phase = .following
      }
    case .following:
      var count = 0
      while next < log.end, count < Self.pieceLength, piece.count < Self.pieceSize {
        defer { next += 1 }
        guard let change = log.change(next), let table = change.table, tables.contains(table)
        else { continue }
        piece += try change.messageBytes()
        count += 1
      }
    }
    return piece.isEmpty ? nil : piece
  }

  private mutating func takeSnapshot(_ log: ChangeLog) {
    next = log.end
    snapshot = WatchedTable.allCases.reversed().filter(tables.contains).map { table in
      (table, log.allRows(of: table))
    }
  }

  private mutating func addRows(to piece: inout [UInt8]) throws(ControlError) {
    var count = 0
    while count < Self.pieceLength, piece.count < Self.pieceSize, let last = snapshot.indices.last {
      guard let (record, row) = snapshot[last].rows.next() else {
        snapshot.removeLast()
        continue
      }
      let event = WatchEvent(.initial, table: snapshot[last].table, record: record, new: row)
      piece += try event.messageBytes()
      count += 1
    }
  }
}
