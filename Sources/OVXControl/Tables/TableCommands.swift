extension Transaction {
  /// Carries out a command on a table.
  mutating func executeOnTable(_ command: Command) throws(ControlError) -> Reply {
    switch command {
    // In a table that ovx has not there is nothing.
    case .list(let table, let records, _, let ifExists)
    where (records.isEmpty || ifExists) && Schema.isAbsent(table):
      return .records(RecordList(columns: [], rows: []))
    case .find(let table, _, _) where Schema.isAbsent(table):
      return .records(RecordList(columns: [], rows: []))
    case .set(let table, _, _, _), .add(let table, _, _, _, _), .remove(let table, _, _, _, _),
      .clear(let table, _, _, _), .get(let table, _, _, _), .list(let table, _, _, _),
      .find(let table, _, _), .waitUntil(let table, _, _):
      switch try Schema.TableName(matching: table) {
      case .bridge: return try execute(command, on: .bridges)
      case .port: return try execute(command, on: .ports)
      case .interface: return try execute(command, on: .interfaces)
      case .network: return try execute(command, on: .networks)
      case .host: return try execute(command, on: .hosts)
      }
    default: return .done
    }
  }

  private mutating func execute<Record>(
    _ command: Command,
    on table: Table<Record>
  ) throws(ControlError) -> Reply {
    func named(_ record: String) -> String { resolved(record, in: table.name) }
    switch command {
    case .set(_, let name, let settings, let ifExists):
      let record = named(name)
      guard try find(record, in: table, ifExists: ifExists) != nil else { return .done }
      for setting in settings { try set(setting, of: record, in: table) }
    case .add(_, let name, let column, let values, let ifExists):
      let record = named(name)
      guard try find(record, in: table, ifExists: ifExists) != nil else { return .done }
      if try addReferences(values, to: column, of: record, in: table.name) { return .done }
      try add(values, to: column, of: record, in: table)
    case .remove(_, let name, let column, let values, let ifExists):
      let record = named(name)
      guard try find(record, in: table, ifExists: ifExists) != nil else { return .done }
      if try removeReferences(values, from: column, of: record, in: table.name) { return .done }
      try remove(values, from: column, of: record, in: table)
    case .clear(_, let name, let columns, let ifExists):
      let record = named(name)
      guard try find(record, in: table, ifExists: ifExists) != nil else { return .done }
      for column in columns { try clear(column, of: record, in: table) }
    case .get(_, let record, let columns, let ifExists):
      return try get(columns, of: named(record), in: table, ifExists: ifExists)
    case .list(_, let records, let columns, let ifExists):
      var names: [String] = []
      for record in records.map(named)
      where try find(record, in: table, ifExists: ifExists) != nil {
        names.append(record)
      }
      let all = configuration[keyPath: table.records].keys.sorted()
      return try list(records.isEmpty ? all : names, columns: columns, in: table)
    case .find(_, let conditions, let columns):
      try check(conditions, in: table)
      var names: [String] = []
      for (name, record) in configuration[keyPath: table.records] {
        guard try satisfies(record, conditions, in: table) else { continue }
        names.append(name)
      }
      return try list(names.sorted(), columns: columns, in: table)
    case .waitUntil(_, let name, let conditions):
      try check(conditions, of: named(name), in: table)
    default: break
    }
    return .done
  }

  // MARK: Records and columns

  private func find<Record>(
    _ name: String,
    in table: Table<Record>,
    ifExists: Bool
  ) throws(ControlError) -> Record? {
    if let record = configuration[keyPath: table.records][name] { return record }
    guard !ifExists else { return nil }
    let names = configuration[keyPath: table.records].keys.sorted()
    throw ControlError(
      "no record \(printable(name)) in table \(table.name.rawValue); "
        + (names.isEmpty ? "it is empty" : "it has \(shortened(names))")
    )
  }

  func writable<Record>(
    _ name: String,
    in table: Table<Record>
  ) throws(ControlError) -> (Column<Record>, (inout Record, Datum) -> Void) {
    let column = try table.column(matching: name)
    guard let write = column.write else {
      let writable = table.columns.filter { $0.write != nil && $0.isListed }.map(\.name)
      throw ControlError(
        "cannot modify read-only column \(column.name) in table \(table.name.rawValue); "
          + (Schema.rightWord(for: column.name, notIn: table.name)
            ?? "its columns that can be set are \(writable.joined(separator: ", "))")
      )
    }
    return (column, write)
  }

  /// Reads a value of a column, and says in an error whose it was to be.
  func value<Record, Value>(
    of column: Column<Record>,
    key: String? = nil,
    _ record: String,
    in table: Table<Record>,
    read: (ColumnShape) throws(ControlError) -> Value
  ) throws(ControlError) -> Value {
    do {
      return try read(column.shape)
    } catch {
      throw ControlError(
        "\(column.name)\(key.map { ":" + printable($0) } ?? "") of \(table.name.rawValue) "
          + "\(printable(record)): \(error.message)"
      )
    }
  }

  mutating func store<Record>(
    _ datum: Datum,
    in record: String,
    of table: Table<Record>,
    with write: (inout Record, Datum) -> Void
  ) {
    guard var changed = configuration[keyPath: table.records][record] else { return }
    write(&changed, datum)
    configuration[keyPath: table.records][record] = changed
  }

  func datum<Record>(
    _ column: Column<Record>,
    of record: String,
    in table: Table<Record>
  ) -> Datum? {
    configuration[keyPath: table.records][record].map { column.read($0, configuration, live) }
  }

  // MARK: Changing

  /// Sets a column, or one key of a map.
  mutating func set<Record>(
    _ setting: Setting,
    of record: String,
    in table: Table<Record>
  ) throws(ControlError) {
    let (column, write) = try writable(setting.column, in: table)
    guard let key = setting.key else {
      let new = try value(of: column, record, in: table) { (shape) throws(ControlError) in
        try shape.datum(setting.value)
      }
      return store(new, in: record, of: table, with: write)
    }
    // Of Open vSwitch's maps that are always empty here, such as bfd.
    if case .constant(_, _, let instead) = column.shape {
      guard ["false", "no", "off", "0"].contains(setting.value) else {
        throw ControlError(
          "\(column.name):\(printable(key)) of \(table.name.rawValue) \(record): "
            + "\(printable(setting.value)) is not supported: \(instead)")
      }
      return
    }
    guard case .map(var entries)? = datum(column, of: record, in: table) else {
      throw ControlError(
        "cannot set key \"\(printable(key))\" of column \(column.name) in table "
          + "\(table.name.rawValue), which is not a map; type \(column.name)=VALUE"
      )
    }
    entries[key] = .text(
      try value(of: column, key: key, record, in: table) { (_) throws(ControlError) in
        try DatumText.atom(setting.value)
      }
    )
    store(.map(entries), in: record, of: table, with: write)
  }

  /// Adds elements to a set, or entries to a map where it has no such key yet.
  private mutating func add<Record>(
    _ values: [String],
    to name: String,
    of record: String,
    in table: Table<Record>
  ) throws(ControlError) {
    let (column, write) = try writable(name, in: table)
    for text in values {
      let more = try value(of: column, record, in: table) { (shape) throws(ControlError) in
        try shape.datum(text)
      }
      // As with ovs-vsctl; of a column with one value it would take that away.
      guard !more.isEmpty else { throw nothingNamed(text, "add", column, record, in: table) }
      let sum: Datum
      switch (datum(column, of: record, in: table), more) {
      case (.map(let old), .map(let new)):
        sum = .map(old.merging(new) { old, _ in old })
      case (.set(let old), .set(let new)):
        sum = .set(Set(old + new).sorted())
      case (.scalar(let old?), .scalar(let new?)) where old != new:
        throw ControlError(
          "\(column.name) of \(table.name.rawValue) \(record) holds one value at most, and has \(old); "
            + "use set to replace it"
        )
      default:
        sum = more
      }
      store(sum, in: record, of: table, with: write)
    }
  }

  /// Removes elements from a set; from a map, keys, or entries given with their value.
  private mutating func remove<Record>(
    _ values: [String],
    from name: String,
    of record: String,
    in table: Table<Record>
  ) throws(ControlError) {
    let (column, write) = try writable(name, in: table)
    for text in values {
      let rest: Datum
      switch (datum(column, of: record, in: table), column.shape) {
      case (.map(var entries), _):
        let keys = try value(of: column, record, in: table) { (_) throws(ControlError) in
          try DatumText.keys(text)
        }
        guard !keys.isEmpty else { throw nothingNamed(text, "remove", column, record, in: table) }
        for (key, value) in keys where value == nil || entries[key] == value.map(Atom.text) {
          entries[key] = nil
        }
        rest = .map(entries)
      case (let old?, .set(let shape)), (let old?, .optional(let shape)),
        (let old?, .one(let shape)):
        let removed = try value(of: column, record, in: table) { (_) throws(ControlError) in
          try ColumnShape.set(shape).datum(text).atoms
        }
        guard !removed.isEmpty else {
          throw nothingNamed(text, "remove", column, record, in: table)
        }
        let left = old.atoms.filter { !removed.contains($0) }
        if case .set = old { rest = .set(left) } else { rest = .scalar(left.first) }
        if rest.isEmpty, column.shape.empty == nil { throw mustHaveValue(column, in: table) }
      default:
        continue
      }
      store(rest, in: record, of: table, with: write)
    }
  }

  private func nothingNamed<Record>(
    _ text: String, _ verb: String, _ column: Column<Record>, _ record: String,
    in table: Table<Record>
  ) -> ControlError {
    ControlError(
      "\(column.name) of \(table.name.rawValue) \(printable(record)): \(printable(text)) names nothing to \(verb); "
        + "name a value, or empty the column with \"clear\"")
  }

  private mutating func clear<Record>(
    _ name: String,
    of record: String,
    in table: Table<Record>
  ) throws(ControlError) {
    let (column, write) = try writable(name, in: table)
    guard let empty = column.shape.empty else { throw mustHaveValue(column, in: table) }
    store(empty, in: record, of: table, with: write)
  }

  private func mustHaveValue<Record>(_ column: Column<Record>, in table: Table<Record>)
    -> ControlError
  {
    ControlError(
      "column \(column.name) of table \(table.name.rawValue) is not allowed to be empty; "
        + "use set to give it another value"
    )
  }

  // MARK: Reading

  private func get<Record>(
    _ columns: [String],
    of name: String,
    in table: Table<Record>,
    ifExists: Bool
  ) throws(ControlError) -> Reply {
    var values: [Datum] = []
    var size = answered
    for text in columns {
      var reader = DatumText(text)
      let (columnName, key) = try reader.column(keyEndsAt: "")
      let column = try table.column(matching: reader.remainder.isEmpty ? columnName : text)
      guard let record = try find(name, in: table, ifExists: ifExists) else { continue }
      let whole = column.read(record, configuration, live)
      size &+= key == nil ? whole.size : 1
      try Self.checkAnswer(size)
      guard let key else {
        values.append(whole)
        continue
      }
      guard case .map(let entries) = whole else {
        throw ControlError(
          "column \(column.name) of table \(table.name.rawValue) is not a map; "
            + "type \(column.name) without a key")
      }
      if entries[key] == nil, !ifExists {
        throw ControlError(
          "no key \(printable(key)) in \(table.name.rawValue) record \(name) column \(column.name); "
            + (entries.isEmpty ? "it is empty" : "it has \(shortened(entries.keys.sorted()))")
        )
      }
      values.append(.scalar(entries[key]))
    }
    return .values(values)
  }

  private func list<Record>(
    _ names: [String],
    columns: [String],
    in table: Table<Record>
  ) throws(ControlError) -> Reply {
    var chosen: [Column<Record>] = []
    for name in columns { chosen.append(try table.column(matching: name)) }
    if chosen.isEmpty { chosen = table.columns.filter(\.isListed) }
    // Any client can ask for the same a hundred thousand times: what is too much is not put
    // together first.
    var rows: [[Datum]] = []
    var size = answered
    for record in names.compactMap({ configuration[keyPath: table.records][$0] }) {
      var row: [Datum] = []
      for column in chosen {
        let value = column.read(record, configuration, live)
        size &+= value.size
        try Self.checkAnswer(size)
        row.append(value)
      }
      rows.append(row)
    }
    return .records(RecordList(columns: chosen.map(\.name), rows: rows))
  }

  private func satisfies<Record>(
    _ record: Record,
    _ conditions: [Condition],
    in table: Table<Record>
  ) throws(ControlError) -> Bool {
    for condition in conditions {
      let column = try table.column(matching: condition.column)
      let actual = column.read(record, configuration, live)
      let holds = try value(of: column, "condition", in: table) { (shape) throws(ControlError) in
        try condition.holds(for: actual, shape: shape)
      }
      guard holds else { return false }
    }
    return true
  }
}

extension Transaction {
  /// Refuses conditions that no record can ever fulfil, as there is no such column, or as it cannot
  /// have such a value.
  private func check<Record>(
    _ conditions: [Condition], in table: Table<Record>
  ) throws(ControlError) {
    for condition in conditions {
      let column = try table.column(matching: condition.column)
      _ = try value(of: column, "condition", in: table) { (shape) throws(ControlError) in
        try condition.holds(for: shape.empty ?? .scalar(nil), shape: shape)
      }
    }
  }

  /// Fails for the time being where a record does not exist or a condition does not hold for it.
  private func check<Record>(
    _ conditions: [Condition], of name: String, in table: Table<Record>
  ) throws(ControlError) {
    try check(conditions, in: table)
    let record = configuration[keyPath: table.records][name]
    for condition in conditions {
      let column = try table.column(matching: condition.column)
      guard let record, try satisfies(record, [condition], in: table) == false else { continue }
      let actual = column.read(record, configuration, live)
      throw ControlError(
        "\(column.name) of \(table.name.rawValue) \(printable(name)) is still \(actual)",
        kind: .timedOut)
    }
    guard record != nil else {
      throw ControlError(
        "table \(table.name.rawValue) still has no record \(printable(name))", kind: .timedOut)
    }
  }
}

extension Condition {
  /// Whether a column's value fulfils the condition; a missing key of a map fulfils none.
  func holds(for actual: Datum, shape: ColumnShape) throws(ControlError) -> Bool {
    var left = actual
    let right: Datum
    if case .constant = shape, key == nil {
      // Another value than the only one is not found, and no mistake.
      let isSo = (try? shape.datum(value)) != nil
      return [.notEqual, .setNotEqual, .notElementOf].contains(comparison) != isSo
    }
    if let key {
      guard case .map(let entries) = actual else {
        throw ControlError("a column that is not a map has no key \"\(printable(key))\"")
      }
      let text = try DatumText.atom(value)
      guard let entry = entries[key] else { return false }
      // A number in a map, such as a counter, is compared as one.
      if case .integer = entry, let number = Int(text) {
        right = .scalar(.integer(number))
      } else {
        right = .scalar(.text(text))
      }
      left = .scalar(entry)
    } else if comparison.comparesSets, case .optional(let atom) = shape {
      right = try ColumnShape.set(atom).datum(value)
    } else if comparison.comparesSets, case .one(let atom) = shape {
      right = try ColumnShape.set(atom).datum(value)
    } else {
      right = try shape.datum(value)
    }
    return comparison.holds(left, right)
  }
}

extension Condition.Comparison {
  fileprivate var comparesSets: Bool { rawValue.hasPrefix("{") }

  /// Compares two values.
  ///
  /// The order of sets is that of being contained, that of scalars the one of their atoms.
  fileprivate func holds(_ left: Datum, _ right: Datum) -> Bool {
    let (lesser, greater) = (left.elements, right.elements)
    switch self {
    case .equal, .setEqual: return lesser == greater
    case .notEqual, .setNotEqual: return lesser != greater
    case .subset, .elementOf: return lesser.isSubset(of: greater)
    case .notElementOf: return !lesser.isSubset(of: greater)
    case .superset: return lesser.isSuperset(of: greater)
    case .properSubset: return lesser.isStrictSubset(of: greater)
    case .properSuperset: return lesser.isStrictSuperset(of: greater)
    case .less, .greater, .lessOrEqual, .greaterOrEqual:
      guard let left = left.atoms.first, let right = right.atoms.first, lesser.count == 1,
        greater.count == 1
      else { return false }
      switch self {
      case .less: return left < right
      case .greater: return left > right
      case .lessOrEqual: return left <= right
      default: return left >= right
      }
    }
  }
}

extension Datum {
  /// The atoms as a set; of a map, its entries.
  fileprivate var elements: Set<Atom> {
    guard case .map(let entries) = self else { return Set(atoms) }
    return Set(entries.map { .text("\(Atom.text($0.key))=\($0.value)") })
  }
}
