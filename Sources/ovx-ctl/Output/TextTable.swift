internal import OVXControl

/// Rows under headings, and the ways to print them.
struct TextTable {
  let columns: [String]
  let rows: [[Datum]]
  var hasHeadings = true
  /// How a value is printed, where not as each format does.
  var text: ((Datum) -> String)?

  init(_ columns: [String], _ rows: [[Datum]]) {
    self.columns = columns
    self.rows = rows
  }

  /// Aligned columns, numbers to the right; texts without quotes.
  var aligned: String {
    let cells = rows.map { $0.map(text ?? Self.cell) }
    let widths = columns.indices.map { column in
      cells.reduce(hasHeadings ? columns[column].count : 0) {
        max($0, column < $1.count ? $1[column].count : 0)
      }
    }
    let isNumber = columns.indices.map { column in
      !rows.isEmpty && rows.allSatisfy { column < $0.count && Self.isNumber($0[column]) }
    }
    return ((hasHeadings ? [columns] : []) + cells).map { line in
      let padded = line.enumerated().map { column, cell in
        let fill = String(repeating: " ", count: max(0, widths[column] - cell.count))
        return isNumber[column] ? fill + cell : cell + fill
      }
      return Self.trimmed(padded.joined(separator: "  ")) + "\n"
    }.joined()
  }

  /// A line per value, `column : value`, and an empty one between records, as `ovs-vsctl list`
  /// prints them.
  var list: String {
    let width = columns.reduce(0) { max($0, $1.count) }
    return rows.map { row in
      zip(columns, row).map { column, value in
        let value = text?(value) ?? value.description
        guard hasHeadings else { return value + "\n" }
        return Self.trimmed(
          column + String(repeating: " ", count: width - column.count) + " : \(value)"
        ) + "\n"
      }.joined()
    }.joined(separator: "\n")
  }

  /// Comma-separated values (RFC 4180) with lines that end in a plain newline.
  var csv: String {
    ((hasHeadings ? [columns] : []) + rows.map { $0.map(text ?? Self.cell) }).map { line in
      line.map(Self.escaped).joined(separator: ",") + "\n"
    }.joined()
  }

  private static func cell(_ datum: Datum) -> String {
    // A text is shown as it is, but what could move the cursor is shown quoted and escaped.
    guard case .scalar(let atom?) = datum else {
      return datum == .scalar(nil) ? "" : datum.description
    }
    let isPrintable = atom.bare.unicodeScalars.allSatisfy {
      $0.properties.generalCategory != .control
    }
    return isPrintable ? atom.bare : atom.description
  }

  private static func isNumber(_ datum: Datum) -> Bool {
    switch datum {
    case .scalar(.integer), .scalar(nil): true
    default: false
    }
  }

  private static func trimmed(_ line: String) -> String {
    var line = line[...]
    while line.last == " " { line.removeLast() }
    return String(line)
  }

  private static func escaped(_ cell: String) -> String {
    guard cell.contains(where: { "\",\r\n".contains($0) }) else { return cell }
    return "\""
      + cell.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\"")
      + "\""
  }
}
