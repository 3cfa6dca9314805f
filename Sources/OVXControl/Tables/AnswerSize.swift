/// How large answers are, which is bounded before they are put together.
extension Reply {
  /// How many names and values the reply holds, about.
  var size: Int {
    switch self {
    case .names(let names): names.count
    case .values(let values): values.reduce(0) { $0 + $1.size }
    case .records(let list): list.rows.reduce(0) { $0 + $1.reduce(0) { $0 + $1.size } }
    case .configuration(let configuration): 10 * configuration.ports.count
    case .changes(let changes): changes.reduce(0) { $0 + 3 + 3 * $1.values.count }
    default: 1
    }
  }
}

extension Datum {
  /// How many values it holds, about; of a long text every 64 bytes count.
  var size: Int {
    switch self {
    case .scalar(let atom): atom?.size ?? 1
    case .set(let atoms): atoms.reduce(1) { $0 + $1.size }
    case .map(let entries): entries.reduce(1) { $0 + $1.key.utf8.count / 64 + $1.value.size }
    }
  }
}

extension Atom {
  var size: Int {
    switch self {
    case .boolean, .integer: 1
    case .text(let text): 1 + text.utf8.count / 64
    }
  }
}
