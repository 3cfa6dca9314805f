// How programs that ask the daemon read its replies.

extension RecordList {
  /// The value of a column in a row; `nil` where there is no such column.
  package func value(_ column: String, _ row: [Datum]) -> Datum? {
    columns.firstIndex(of: column).flatMap { row.indices.contains($0) ? row[$0] : nil }
  }

  /// The text of a column in a row; of several values the first.
  package func text(_ column: String, _ row: [Datum]) -> String? {
    value(column, row)?.atoms.first.map(\.bare)
  }

  /// The values of a set in a row.
  package func texts(_ column: String, _ row: [Datum]) -> [String] {
    value(column, row)?.atoms.map(\.bare) ?? []
  }

  /// The entries of a map in a row.
  package func entries(_ column: String, _ row: [Datum]) -> [String: String] {
    guard case .map(let entries)? = value(column, row) else { return [:] }
    return entries.mapValues(\.bare)
  }
}

extension Reply {
  /// The rows of `list` and `find`; none for another kind of reply.
  package var rows: RecordList {
    if case .records(let list) = self { list } else { RecordList(columns: [], rows: []) }
  }

  /// Names of a list; none for another kind of reply.
  package var nameList: [String] { if case .names(let names) = self { names } else { [] } }

  /// Whether a question was answered with yes.
  package var isYes: Bool { if case .answer(let isYes) = self { isYes } else { false } }
}
