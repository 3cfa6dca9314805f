private import OVXDatapath

/// The tables that `set`, `get`, `list`, `find`, `add`, `remove` and `clear` work on, with Open
/// vSwitch's names.
enum Schema {
  /// A table's name.
  enum TableName: String, CaseIterable {
    case bridge = "Bridge"
    case port = "Port"
    case interface = "Interface"
    case network = "Network"
    /// One record, `.`: Open vSwitch's table Open_vSwitch.
    case host = "Switch"

    private static let synonyms = ["Open_vSwitch": Self.host]

    /// Finds a table by its name or an unambiguous beginning of it, in any letter case.
    init(matching name: String) throws(ControlError) {
      let names = Self.allCases.map(\.rawValue) + Self.synonyms.keys
      switch match(name, in: names) {
      case .one(let found): self = Self(rawValue: found) ?? Self.synonyms[found] ?? .bridge
      case .none:
        throw ControlError(
          "unknown table \"\(printable(name))\"; "
            + (Schema.absentTable(name)
              ?? "the tables are Bridge, Port, Interface, Network and Switch (Open_vSwitch)"))
      case .several(let names):
        throw ControlError(
          "multiple table names match \"\(name)\": \(names.joined(separator: ", ")); type more of the name"
        )
      }
    }
  }

  /// The answer of a search for a name.
  enum Match {
    case none
    case one(String)
    case several([String])
  }

  /// Finds a name by itself or by an unambiguous beginning of it, in any letter case, with `-` and
  /// `_` the same.
  static func match(_ text: String, in names: [String]) -> Match {
    let folded = fold(text)
    guard !folded.isEmpty else { return .none }
    var found: [String] = []
    for name in names {
      if fold(name) == folded { return .one(name) }
      if fold(name).hasPrefix(folded) { found.append(name) }
    }
    return found.count > 1 ? .several(found.sorted()) : found.first.map { .one($0) } ?? .none
  }

  private static func fold(_ name: String) -> String {
    String(name.lowercased().map { $0 == "-" ? "_" : $0 })
  }
}

/// A table: where its records live in a configuration, and its columns.
struct Table<Record> {
  let name: Schema.TableName
  let records: WritableKeyPath<Configuration, [String: Record]>
  let columns: [Column<Record>]

  /// Finds a column by its name or an unambiguous beginning of it.
  func column(matching name: String) throws(ControlError) -> Column<Record> {
    var found = Schema.match(name, in: columns.filter(\.isListed).map(\.name))
    if case .none = found { found = Schema.match(name, in: columns.map(\.name)) }
    switch found {
    case .one(let found) where Schema.isMisleading(name, for: found): break
    case .one(let found):
      if let column = columns.first(where: { $0.name == found }) { return column }
    case .several(let names):
      throw ControlError(
        "\(self.name.rawValue) contains more than one column whose name matches \"\(name)\": "
          + "\(names.joined(separator: ", ")); type more of the name"
      )
    case .none: break
    }
    throw ControlError(
      "\(self.name.rawValue) does not contain a column whose name matches \"\(printable(name))\"; "
        + (Schema.rightWord(for: name, notIn: self.name)
          ?? "its columns are \(columns.filter(\.isListed).map(\.name).joined(separator: ", "))")
    )
  }
}

/// A column of a table: what it holds, and how to get at it.
struct Column<Record> {
  let name: String
  let shape: ColumnShape
  /// The value; from the record, or for what only the running switch knows from the live state.
  let read: (Record, Configuration, LiveState) -> Datum
  /// Stores a value that has the column's shape; `nil` for a column that cannot be written.
  let write: ((inout Record, Datum) -> Void)?
  /// Whether `list` prints it without being asked for it.
  let isListed: Bool
  /// What a record has of which nothing is said, where that is not nothing: files leave it out.
  let usual: Datum?

  init(
    _ name: String,
    _ shape: ColumnShape,
    read: @escaping (Record, Configuration, LiveState) -> Datum,
    write: ((inout Record, Datum) -> Void)? = nil,
    isListed: Bool = true,
    usual: Datum? = nil
  ) {
    self.isListed = isListed
    self.usual = usual
    self.name = name
    self.shape = shape
    self.read = read
    self.write = write
  }

  /// A column of names and texts, such as `other_config`.
  static func map(_ name: String, _ path: WritableKeyPath<Record, [String: String]>) -> Self {
    Column(
      name,
      .map,
      read: { record, _, _ in .map(record[keyPath: path].mapValues(Atom.text)) },
      write: { record, datum in
        guard case .map(let entries) = datum else { return }
        record[keyPath: path] = entries.mapValues(\.bare)
      }
    )
  }
}

/// What a column may hold.
enum ColumnShape {
  case one(AtomShape)
  case optional(AtomShape)
  case set(AtomShape)
  /// From text to text.
  case map
  /// Always the same, `nil` for nothing, under its own name or others; and what there is instead of
  /// another value.
  case constant(Atom?, synonyms: [String], instead: String)

  /// Reads a whole value.
  func datum(_ text: String) throws(ControlError) -> Datum {
    switch self {
    case .one(let shape):
      return .scalar(try shape.atom(try DatumText.atom(text)))
    case .optional(let shape):
      let elements = try DatumText.set(text)
      guard elements.count <= 1 else {
        throw ControlError("one value at most, not \(elements.count)")
      }
      guard let element = elements.first else { return .scalar(nil) }
      return .scalar(try shape.atom(element))
    case .set(let shape):
      var atoms: Set<Atom> = []
      for element in try DatumText.set(text) { atoms.formUnion(try shape.atoms(element)) }
      return .set(atoms.sorted())
    case .map:
      var entries: [String: Atom] = [:]
      for (key, value) in try DatumText.map(text) {
        guard entries.updateValue(.text(value), forKey: key) == nil else {
          throw ControlError("the key \"\(key)\" is there twice")
        }
      }
      return .map(entries)
    case .constant(let value, let synonyms, let instead):
      let words = try DatumText.set(text.first == "{" ? "[\(text.dropFirst().dropLast())]" : text)
      let isSo =
        value == nil && words.isEmpty || words.count == 1 && value?.bare == words[0]
        || synonyms.contains(text)
      guard isSo else {
        throw ControlError(
          "\(printable(text)) is not supported, and the only value is \(value?.description ?? "[]"): \(instead)"
        )
      }
      return .scalar(value)
    }
  }

  /// Makes a value of texts that are its atoms as they stand, with no grammar to be read.
  func datum(exactly atoms: [String]) throws(ControlError) -> Datum {
    switch self {
    case .one(let shape), .optional(let shape):
      guard atoms.count == 1 else { throw ControlError("one value, not \(atoms.count)") }
      return .scalar(try shape.atom(atoms[0]))
    case .set(let shape):
      var set: Set<Atom> = []
      for text in atoms { set.insert(try shape.atom(text)) }
      return .set(set.sorted())
    case .map, .constant:
      throw ControlError("a map of names and texts, not a list")
    }
  }

  /// The value of a column with nothing in it; `nil` where there must be something.
  var empty: Datum? {
    switch self {
    case .one: nil
    case .optional: .scalar(nil)
    case .set: .set([])
    case .map: .map([:])
    case .constant(let value, _, _): .scalar(value)
    }
  }
}

/// What a column's atoms may be.
enum AtomShape {
  case boolean
  case integer(ClosedRange<Int>)
  case text
  /// One of a list; the second has Open vSwitch's values that ovx does not know, with what
  /// there is instead, a clause; the third other names.
  case choice([String], unsupported: [String: String] = [:], synonyms: [String: String] = [:])
  case ethernetAddress
  /// An IP address with the length of its prefix.
  case interfaceAddress
  /// An IP address.
  case address
  /// A network's address with the length of its prefix.
  case prefix
  /// Addresses from one to another.
  case addressRange
  /// An Ethernet address, an IP address or a network's: `AllowedAddress`.
  case allowedAddress
  /// A port of the host and one of a member: `PublishedPort`.
  case publishedPort
  /// A route of the host: `HostRoute`.
  case route

  /// Reads an element of a set: one atom, or with `A-B` the integers from one to another, as in
  /// Open vSwitch.
  func atoms(_ text: String) throws(ControlError) -> [Atom] {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    let ends = parts.compactMap { Int($0) }
    guard case .integer(let range) = self, parts.count == 2, ends.count == 2, ends[0] <= ends[1],
      range.contains(ends[0]), range.contains(ends[1])
    else { return [try atom(text)] }
    return (ends[0]...ends[1]).map(Atom.integer)
  }

  /// Reads one atom.
  func atom(_ text: String) throws(ControlError) -> Atom {
    switch self {
    case .boolean:
      switch text {
      case "true", "yes", "on", "1": return .boolean(true)
      case "false", "no", "off", "0": return .boolean(false)
      default:
        throw ControlError("\"\(printable(text))\" is not a valid boolean; it is true or false")
      }
    case .integer(let range):
      guard let number = Int(text) else {
        throw ControlError(
          "\"\(text)\" is not a valid integer; it is one from \(range.lowerBound) to \(range.upperBound)"
        )
      }
      guard range.contains(number) else {
        throw ControlError(
          "\(number) is not in the valid range \(range.lowerBound) to \(range.upperBound) (inclusive)"
        )
      }
      return .integer(number)
    case .text:
      return .text(text)
    case .choice(let values, let unsupported, let synonyms):
      let text = synonyms[text] ?? text
      if let instead = unsupported[text] {
        throw ControlError(
          "\(text) is not supported; the supported values are \(values.joined(separator: ", ")): \(instead)"
        )
      }
      guard values.contains(text) else {
        throw ControlError(
          "\(text) is not one of the allowed values (\(values.joined(separator: ", ")))"
        )
      }
      return .text(text)
    case .ethernetAddress:
      guard let address = MACAddress(text) else {
        throw ControlError(
          "\"\(text)\" is not an Ethernet address; it looks like 02:00:00:00:00:01"
        )
      }
      guard !address.isGroup, address.rawValue != 0 else {
        throw ControlError(
          "\(text) cannot be the address of one interface, as it is zero or a group address; "
            + "take one whose first octet is even, such as 02:00:00:00:00:01"
        )
      }
      return .text(address.description)
    case .interfaceAddress:
      guard let address = InterfaceAddress(text) else {
        throw ControlError(
          "\"\(printable(text))\" is not an address with the length of its prefix; "
            + "it looks like 10.0.0.1/24 or fd00::1/64")
      }
      return .text(address.description)
    case .address:
      guard let address = IPAddress(text) else {
        throw ControlError(
          "\"\(printable(text))\" is not an address; it looks like 192.168.5.3 or fd00::3")
      }
      return .text(address.description)
    case .prefix:
      if let prefix = IPPrefix(text) { return .text(prefix.description) }
      let network = InterfaceAddress(text).map { IPPrefix(of: $0) }
      throw ControlError(
        "\"\(printable(text))\" is not a network with the length of its prefix; "
          + (network.map { "the one that this address is of is \($0)" }
            ?? "it looks like 172.17.42.0/24 or fd00:42::/64"))
    case .addressRange:
      guard let range = AddressRange(text) else {
        throw ControlError(
          "\"\(printable(text))\" is not a range of addresses; "
            + "it looks like 172.17.42.100-172.17.42.199 or 172.17.42.128/25")
      }
      return .text(range.description)
    case .allowedAddress:
      guard let address = AllowedAddress(text) else {
        throw ControlError(
          "\"\(printable(text))\" is no station's Ethernet or IP address, and no network's; "
            + "it looks like 02:00:00:00:00:01, 172.17.42.9 or 172.17.42.128/25")
      }
      return .text(address.description)
    case .publishedPort:
      guard let published = PublishedPort(text) else {
        throw ControlError(
          "\"\(printable(text))\" is no port of the host with one of the container; it looks like 8080:80, "
            + "203.0.113.1:53:53/udp or with its quotes \"[2001:db8::1]:8080:80/tcp\"")
      }
      return .text(published.description)
    case .route:
      guard let route = HostRoute(text) else {
        throw ControlError(
          "\"\(printable(text))\" is not a route; with its quotes it looks like "
            + "\"default via 203.0.113.9\" or \"10.0.0.0/8 via 203.0.113.8 metric 100\""
        )
      }
      return .text(route.description)
    }
  }
}
