package import OVXDatapath

/// One value inside of a column: OVSDB's "atom".
package enum Atom: Hashable, Sendable {
  case boolean(Bool)
  case integer(Int)
  case text(String)
}

/// The value of a column: OVSDB's "datum", a scalar that may be absent, a set, or a map.
///
/// In JSON a scalar is a number, a string or `null`, a set an array and a map an object.
package enum Datum: Equatable, Sendable {
  case scalar(Atom?)
  case set([Atom])
  case map([String: Atom])

  /// Whether there is nothing in it.
  package var isEmpty: Bool {
    switch self {
    case .scalar(let atom): atom == nil
    case .set(let atoms): atoms.isEmpty
    case .map(let entries): entries.isEmpty
    }
  }

  /// The atoms of a scalar or a set; of a map, its values in no order.
  package var atoms: [Atom] {
    switch self {
    case .scalar(let atom): atom.map { [$0] } ?? []
    case .set(let atoms): atoms
    case .map(let entries): Array(entries.values)
    }
  }
}

extension Atom {
  package init(_ vlan: VLANID) { self = .integer(Int(vlan.rawValue)) }
  package init(_ vni: VNI) { self = .integer(Int(vni.rawValue)) }
}

extension Atom: Comparable {
  /// Truth values before numbers before texts; numbers by size, texts by their characters.
  package static func < (left: Atom, right: Atom) -> Bool {
    switch (left, right) {
    case (.boolean(let left), .boolean(let right)): !left && right
    case (.integer(let left), .integer(let right)): left < right
    case (.text(let left), .text(let right)): left < right
    default: left.rank < right.rank
    }
  }

  private var rank: Int {
    switch self {
    case .boolean: 0
    case .integer: 1
    case .text: 2
    }
  }
}

extension Atom: CustomStringConvertible {
  /// The value as `set` reads it: a text in double quotes unless it is a plain word.
  package var description: String {
    switch self {
    case .boolean(let isTrue): String(isTrue)
    case .integer(let number): String(number)
    case .text(let text): isPlainWord(text) || RecordID.isText(text) ? text : quoted(text)
    }
  }

  /// The value with no quotes around it.
  package var bare: String {
    switch self {
    case .boolean(let isTrue): String(isTrue)
    case .integer(let number): String(number)
    case .text(let text): text
    }
  }
}

extension Datum: CustomStringConvertible {
  /// The value as `ovs-vsctl get` prints it: `[a, b]` for a set, `{k=v, l=w}` for a map, `[]` for
  /// an absent scalar.
  package var description: String {
    switch self {
    case .scalar(let atom):
      atom?.description ?? "[]"
    case .set(let atoms):
      "[" + atoms.sorted().map(\.description).joined(separator: ", ") + "]"
    case .map(let entries):
      "{"
        + entries.sorted { $0.key < $1.key }
        .map { "\(Atom.text($0.key))=\($0.value)" }.joined(separator: ", ") + "}"
    }
  }
}

extension Atom: Codable {
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Int.self) {
      self = .integer(number)
    } else if let isTrue = try? container.decode(Bool.self) {
      self = .boolean(isTrue)
    } else {
      self = .text(try container.decode(String.self))
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .boolean(let isTrue): try container.encode(isTrue)
    case .integer(let number): try container.encode(number)
    case .text(let text): try container.encode(text)
    }
  }
}

extension Datum {
  /// The value as `ovs-vsctl --data=bare` prints it: without brackets, commas and quotes.
  package var bare: String {
    switch self {
    case .scalar(let atom): atom?.bare ?? ""
    case .set(let atoms): atoms.sorted().map(\.bare).joined(separator: " ")
    case .map(let entries):
      entries.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value.bare)" }
        .joined(separator: " ")
    }
  }
}

extension Datum: Codable {
  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .scalar(nil)
    } else if let atom = try? container.decode(Atom.self) {
      self = .scalar(atom)
    } else if let atoms = try? container.decode([Atom].self) {
      self = .set(atoms)
    } else {
      self = .map(try container.decode([String: Atom].self))
    }
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .scalar(nil): try container.encodeNil()
    case .scalar(let atom?): try container.encode(atom)
    case .set(let atoms): try container.encode(atoms.sorted())
    case .map(let entries): try container.encode(entries)
    }
  }
}

/// Whether a text is read back as one word without quotes, and not as a truth value.
private func isPlainWord(_ text: String) -> Bool {
  guard let first = text.utf8.first, isLetter(first), text != "true", text != "false" else {
    return false
  }
  return text.utf8.allSatisfy { isLetter($0) || isDigit($0) || $0 == 0x2D || $0 == 0x2E }
}

private func isLetter(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "_"):
    true
  default: false
  }
}

private func isDigit(_ byte: UInt8) -> Bool {
  UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
}

/// The text in double quotes, with JSON's escapes.
private func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    case "\u{0}"..."\u{1F}", "\u{7F}":
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
