private import Foundation
private import Glibc
internal import OVXControl
private import Yams

/// A declarative file, as `apply` and `diff` read it: the switch, networks, bridges and ports in
/// YAML.
///
/// Every value is taken as it stands. What YAML's versions read differently (`010`, `no`,
/// `52:54:00:12:34:56`) is a text for its column to judge, and what might mean two things is
/// refused. Anchors, aliases, merge keys and tags are not part of the format, so a file is as large
/// as it looks.
struct ConfigurationFile {
  /// What the file declares: a valid configuration.
  let configuration: Configuration
  /// Whether the file says something of the switch itself.
  let declaresSwitch: Bool
  /// The file's name as errors show it.
  let name: String
  private let places: [String: Place]

  /// Bytes of a file at most: as many as a request can have.
  static let byteLimit = 1 << 20

  /// Reads a file, or the standard input for `-`.
  ///
  /// - Throws: What is wrong, beginning with the file's name, and the line and column where it is.
  init(path: String) throws(ControlError) {
    let name = path == "-" ? "standard input" : path
    try self.init(name: name, bytes: try Self.read(path, name))
  }

  /// Reads a file's bytes.
  init(name: String, bytes: [UInt8]) throws(ControlError) {
    self.name = name
    do {
      let text = try FileText(bytes).text
      var reader = Reader()
      try reader.read(text)
      places = reader.places
      declaresSwitch = reader.declaration.declaresSwitch
      do throws(ControlError) {
        configuration = try reader.declaration.finished()
      } catch {
        throw Misplaced(error, error.record.flatMap { reader.places[$0] })
      }
    } catch let error as Misplaced {
      throw error.located(in: name)
    } catch {
      throw ControlError("\(name): \(error)")
    }
  }

  /// The same error, with the place of the port or bridge that it is about in front.
  func locating(_ error: ControlError) -> ControlError {
    guard let place = error.record.flatMap({ places[$0] }) else { return error }
    return Misplaced(error, place).located(in: name)
  }

  private static func read(_ path: String, _ name: String) throws(ControlError) -> [UInt8] {
    func failure(_ cause: CInt) -> ControlError {
      let reason = unsafe String(cString: strerror(cause))
      return ControlError(
        "\(name) cannot be read: \(reason); name a file, or - for the standard input")
    }
    let descriptor = path == "-" ? dup(STDIN_FILENO) : unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw failure(errno) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe chunk.withUnsafeMutableBytes { buffer in
        unsafe Glibc.read(descriptor, buffer.baseAddress, buffer.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw failure(errno) }
      guard count > 0 else { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= byteLimit else {
        throw ControlError(
          "\(name) has more than \(byteLimit) bytes, which no configuration needs; name another file"
        )
      }
    }
  }
}

/// A place in a file; lines and columns count from 1, columns in Unicode scalars.
struct Place: Equatable {
  var line: Int
  var column: Int
}

/// What is wrong with a file, and where.
struct Misplaced: Error {
  let error: ControlError
  let place: Place?

  init(_ error: ControlError, _ place: Place?) {
    self.error = error
    self.place = place
  }

  init(_ sentence: String, _ place: Place?) {
    self.init(ControlError(sentence), place)
  }

  func located(in file: String) -> ControlError {
    let position = place.map { "\(file):\($0.line):\($0.column)" } ?? file
    return ControlError("\(position): \(error.message)", kind: error.kind, record: error.record)
  }
}

// MARK: - From nodes to a declaration

/// Walks through the nodes of a file in the order in which they stand there.
private struct Reader {
  var declaration = Declaration()
  /// Where each bridge and port is; for a bridge's own port, where its settings are.
  var places: [String: Place] = [:]

  mutating func read(_ text: String) throws {
    do {
      // The parser is kept, as the nodes hold their anchors weakly. Types are not asked for, so
      // none are resolved.
      let parser = try Parser(yaml: text, resolver: .basic, encoding: .utf8)
      let root = try parser.singleRoot()
      try withExtendedLifetime(parser) { try readRoot(root) }
    } catch let error as YamlError {
      throw Misplaced(error, in: text)
    }
  }

  private mutating func readRoot(_ root: Node?) throws {
    guard let root else {
      throw Misplaced("the file is empty; \"bridges: {}\" stands for no bridges", nil)
    }
    let example = "a file begins with \"bridges:\" and has the bridges' names below it"
    var bridges: [Entry] = []
    var networks: [Entry] = []
    var isAnythingSaid = false
    for entry in try entries(of: root, "the file", example: example) {
      let known = ["switch", "networks", "bridges"]
      guard known.contains(entry.key) else { throw unknown(entry, of: "the file", known: known) }
      guard !isNothing(entry.value) else {
        throw Misplaced(
          "\(entry.key) has no value; \"\(entry.key): {}\" stands for none", entry.place)
      }
      switch entry.key {
      case "switch": try readSwitch(entry)
      case "networks":
        networks = try entries(
          of: entry.value, "networks", example: "a name for each, such as red:")
      default:
        bridges = try entries(of: entry.value, "bridges", example: "a name for each, such as br0:")
      }
      isAnythingSaid = isAnythingSaid || entry.key != "switch"
    }
    guard isAnythingSaid else {
      throw Misplaced("there is no \"bridges\" and no \"networks\"; \(example)", place(root))
    }
    for entry in networks { try readNetwork(entry) }
    for entry in bridges { try readBridge(entry) }
  }

  private mutating func readSwitch(_ entry: Entry) throws {
    declaration.addSwitch()
    places["."] = entry.place
    let example = "such as {local_ip: 192.168.5.2, remotes: [192.168.5.3]}"
    for entry in try entries(of: entry.value, "switch", example: example) {
      guard let key = Declaration.switchKeys.first(where: { $0.name == entry.key }) else {
        throw unknown(entry, of: "switch", known: Declaration.switchKeys.map(\.name))
      }
      try set(key, of: ".", "switch", to: entry)
    }
  }

  private mutating func readNetwork(_ network: Entry) throws {
    try located(network.place) { reader throws(ControlError) in
      try reader.declaration.addNetwork(network.key)
    }
    places[network.key] = network.place
    let what = "network \(network.key)"
    for entry in try entries(of: network.value, what, example: "such as {vni: 100}") {
      guard let key = Declaration.networkKeys.first(where: { $0.name == entry.key }) else {
        throw unknown(entry, of: what, known: Declaration.networkKeys.map(\.name))
      }
      try set(key, of: network.key, what, to: entry)
    }
    if let tunnel = declaration.tunnelPort(ofNetwork: network.key), places[tunnel] == nil {
      places[tunnel] = network.place
    }
  }

  private mutating func readBridge(_ bridge: Entry) throws {
    try located(bridge.place) { reader throws(ControlError) in
      try reader.declaration.addBridge(bridge.key)
    }
    places[bridge.key] = bridge.place
    let what = "bridge \(bridge.key)"
    for entry in try optionalEntries(of: bridge.value, what) {
      guard entry.key != "ports" else {
        let example = "a name for each, such as veth1: {tag: 100}"
        for port in try optionalEntries(of: entry.value, "ports of \(what)", example: example) {
          try readPort(port, of: bridge.key)
        }
        continue
      }
      guard let key = Declaration.bridgeKeys.first(where: { $0.name == entry.key }) else {
        throw unknown(entry, of: what, known: Declaration.bridgeKeys.map(\.name) + ["ports"])
      }
      try set(key, of: bridge.key, what, to: entry)
    }
  }

  private mutating func readPort(_ port: Entry, of bridge: String) throws {
    try located(port.place) { reader throws(ControlError) in
      try reader.declaration.addPort(port.key, to: bridge)
    }
    places[port.key] = port.place
    let what = "port \(port.key)"
    for entry in try optionalEntries(of: port.value, what) {
      if entry.key == "interface" {
        for entry in try optionalEntries(of: entry.value, "interface of \(what)") {
          guard let key = Declaration.interfaceKeys.first(where: { $0.name == entry.key }) else {
            throw unknown(
              entry, of: "interface of \(what)", known: Declaration.interfaceKeys.map(\.name))
          }
          try set(key, of: port.key, "interface of \(what)", to: entry)
        }
      } else if let key = Declaration.portKeys.first(where: { $0.name == entry.key }) {
        try set(key, of: port.key, what, to: entry)
      } else {
        throw unknown(entry, of: what, known: Declaration.portKeys.map(\.name) + ["interface"])
      }
    }
  }

  private mutating func set(
    _ key: Declaration.Key, of record: String, _ what: String, to entry: Entry
  ) throws {
    let value = try value(of: entry, key.form, "\(entry.key) of \(what)")
    try located(place(entry.value) ?? entry.place) { reader throws(ControlError) in
      try reader.declaration.set(key, of: record, to: value)
    }
  }

  private mutating func located(
    _ place: Place?, _ body: (inout Reader) throws(ControlError) -> Void
  ) throws {
    do throws(ControlError) { try body(&self) } catch { throw Misplaced(error, place) }
  }

  private func unknown(_ entry: Entry, of what: String, known: [String]) -> Misplaced {
    let near = known.map { ($0, distance($0, entry.key)) }.filter { $0.1 <= 2 }
      .min { $0.1 < $1.1 }
    return Misplaced(
      "\(what) has no \"\(shown(entry.key))\"; "
        + (near.map { "did you mean \($0.0)? " } ?? "")
        + (known.count == 1 ? "its only key is" : "its keys are")
        + " \(known.joined(separator: ", "))", entry.place)
  }

  // MARK: Nodes

  /// A key with its value.
  private struct Entry {
    var key: String
    var value: Node
    var place: Place?
  }

  private func place(_ node: Node) -> Place? {
    node.mark.map { Place(line: $0.line, column: $0.column) }
  }

  private func optionalEntries(
    of node: Node, _ what: String, example: String = "such as {tag: 100}"
  ) throws -> [Entry] {
    isNothing(node) ? [] : try entries(of: node, what, example: example)
  }

  private func entries(of node: Node, _ what: String, example: String) throws -> [Entry] {
    try check(node)
    guard case .mapping(let mapping) = node else {
      throw Misplaced("\(what) is not a map; \(example)", place(node))
    }
    return try mapping.map { key, value in
      try check(key)
      guard case .scalar(let scalar) = key else {
        throw Misplaced("a key of \(what) is not a word; write KEY: VALUE", place(key))
      }
      return Entry(key: scalar.string, value: value, place: place(key))
    }
  }

  private func value(
    of entry: Entry, _ form: Declaration.Form, _ what: String
  ) throws -> Declaration.Value {
    try check(entry.value)
    switch (entry.value, form) {
    case (.scalar(let scalar), .text), (.scalar(let scalar), .list):
      return .text(try text(scalar, what, entry.place))
    case (.sequence(let sequence), .list):
      return .list(
        try sequence.map { element in
          try check(element)
          guard case .scalar(let scalar) = element else {
            throw Misplaced("\(what) is a list of words, such as [A, B]", place(element))
          }
          return try text(scalar, "an element of \(what)", place(element))
        })
    case (.mapping, .map):
      var texts: [String: String] = [:]
      for inner in try entries(of: entry.value, what, example: "") {
        try check(inner.value)
        guard case .scalar(let scalar) = inner.value else {
          throw Misplaced("\(shown(inner.key)) of \(what) is not one text", place(inner.value))
        }
        texts[inner.key] = try text(scalar, "\(shown(inner.key)) of \(what)", inner.place)
      }
      return .map(texts)
    case (_, .text):
      throw Misplaced("\(what) takes one value, such as \(entry.key): 100", place(entry.value))
    case (_, .list):
      throw Misplaced("\(what) is a list, such as [A, B], or one value", place(entry.value))
    case (_, .map):
      throw Misplaced("\(what) is a map, such as {NAME: TEXT}", place(entry.value))
    }
  }

  /// The text of a scalar as it is written.
  private func text(_ scalar: Node.Scalar, _ what: String, _ place: Place?) throws -> String {
    let text = scalar.string
    let place = scalar.mark.map { Place(line: $0.line, column: $0.column) } ?? place
    guard scalar.style == .plain else { return text }
    guard !["", "~", "null", "Null", "NULL"].contains(text) else {
      throw Misplaced(
        "\(what) has no value; leave the key out, or write \"\(text)\" in quotes for a text", place)
    }
    let digits = text.drop { $0 == "-" || $0 == "+" }
    if digits.utf8.count > 1, digits.first == "0",
      digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    {
      throw Misplaced(
        "\(what): \(text) is an octal number to some and a decimal one to others; "
          + "leave out the leading zero, or write \"\(text)\" in quotes for a text", place)
    }
    return text
  }

  private func isNothing(_ node: Node) -> Bool {
    guard case .scalar(let scalar) = node, scalar.style == .plain else { return false }
    return ["", "~", "null"].contains(scalar.string)
  }

  /// Refuses what makes a file mean something else than it says.
  private func check(_ node: Node) throws {
    let (anchor, tag): (Anchor?, Tag) =
      switch node {
      case .scalar(let scalar): (scalar.anchor, scalar.tag)
      case .mapping(let mapping): (mapping.anchor, mapping.tag)
      case .sequence(let sequence): (sequence.anchor, sequence.tag)
      case .alias(let alias): (alias.anchor, alias.tag)
      }
    guard anchor == nil else { throw FileText.aliasRefusal(place(node)) }
    let plain = ["", "!", "str", "int", "float", "bool", "null", "map", "seq"]
    let short = tag.rawValue.replacing("tag:yaml.org,2002:", with: "", maxReplacements: 1)
    guard plain.contains(short) else {
      throw Misplaced("the tag \(shown(short)) is not taken; leave it out", place(node))
    }
  }
}

/// A file's words in a sentence: no control characters, and not too many.
private func shown(_ text: String) -> String {
  printable(String(text.unicodeScalars.prefix(60)))
    + (text.unicodeScalars.count > 60 ? "..." : "")
}

extension Misplaced {
  /// The parser's complaint as one of ours.
  fileprivate init(_ error: YamlError, in text: String) {
    func place(_ mark: Mark) -> Place { Place(line: mark.line, column: mark.column) }
    switch error {
    case .duplicatedKeysInMapping(let keys, let context):
      let key = shown(keys.first ?? "")
      self.init("the key \"\(key)\" is there twice; give it once", place(context.mark))
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      if problem.hasPrefix("Maximum nesting") {
        self.init("this is not a configuration: it is nested too deeply", place(mark))
      } else if FileText.isTab(at: place(mark), of: text) {
        self.init("there is a tab, where YAML takes spaces only; indent with spaces", place(mark))
      } else if problem == "but found another document" {
        self.init(
          "a second document begins; a host's file is one, so take the \"---\" away", place(mark))
      } else {
        self.init("this is not YAML: \(problem)", place(mark))
      }
    default:
      self.init("this is not YAML: \(error)", nil)
    }
  }
}

// MARK: - Text

/// A file's bytes as text that is safe to parse.
private struct FileText {
  let text: String

  init(_ bytes: [UInt8]) throws(Misplaced) {
    var place = Place(line: 1, column: 1)
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    var text = ""
    decoding: while true {
      switch decoder.decode(&iterator) {
      case .emptyInput:
        break decoding
      case .error:
        throw Misplaced("this is not UTF-8; save the file in that encoding", place)
      case .scalarValue("\u{FEFF}") where text.isEmpty:
        // A byte order mark, which some editors put there.
        break
      case .scalarValue("\n"):
        text.unicodeScalars.append("\n")
        place = Place(line: place.line + 1, column: 1)
      case .scalarValue(let scalar):
        if let fault = Self.fault(of: scalar) {
          let code = String(scalar.value, radix: 16, uppercase: true)
          throw Misplaced(
            "there is \(fault) (U+\(String(repeating: "0", count: 4 - code.count))\(code)); "
              + "take it out, or write it with a backslash in double quotes", place)
        }
        text.unicodeScalars.append(scalar)
        place.column += 1
      }
    }
    self.text = text
    if let place = Self.aliases(in: text) { throw Self.aliasRefusal(place) }
  }

  /// Why a character cannot stand in a file as it is; `nil` where it can.
  private static func fault(of scalar: Unicode.Scalar) -> String? {
    switch scalar {
    case "\t", "\r": nil
    // Not among the characters of YAML (1.2, `c-printable`).
    case "\u{FEFF}", "\u{FFFE}", "\u{FFFF}": "a character that YAML does not take"
    default: scalar.properties.generalCategory == .control ? "a control character" : nil
    }
  }

  static func aliasRefusal(_ place: Place?) -> Misplaced {
    Misplaced(
      "anchors (&name) and aliases (*name) are not taken; write the value out, "
        + "or \\x26 and \\x2A for the characters in a text in double quotes", place)
  }

  /// Where an alias may be; `nil` where there cannot be one.
  ///
  /// Before the parser sees them: a few lines of aliases as keys keep it busy for longer than the
  /// universe is old. An alias never stands behind a letter or a digit, and neither does the anchor
  /// that it needs. A text that has such characters of both kinds is refused with them.
  private static func aliases(in text: String) -> Place? {
    var place = Place(line: 1, column: 1)
    var alias: Place?
    var hasAnchor = false
    var before: Unicode.Scalar = "\n"
    for scalar in text.unicodeScalars {
      let canBegin = !before.properties.isAlphabetic && before.properties.numericType == nil
      if canBegin, scalar == "*", alias == nil { alias = place }
      if canBegin, scalar == "&" { hasAnchor = true }
      place =
        scalar == "\n"
        ? Place(line: place.line + 1, column: 1)
        : Place(line: place.line, column: place.column + 1)
      before = scalar
    }
    return hasAnchor ? alias : nil
  }

  static func isTab(at place: Place, of text: String) -> Bool {
    let lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.indices.contains(place.line - 1) else { return false }
    return lines[place.line - 1].dropFirst(place.column - 1).first == "\t"
  }
}
