/// Reads values as an operator types them, in the grammar of `ovs-vsctl`.
///
///     set     [a, b]   a,b   a b   a   []
///     map     {k=v, l=w}   k=v,l=w   {}
///     atom    a word, or any text in double quotes with JSON's escapes
///
/// Nothing at all is no value: it is what a script types whose variable is not set. `[]`, `{}` and
/// `""` are the empty ones.
///
/// Words end at `,`, at white space and at the closing bracket, a key also at `=`. Everything else
/// may stand in a word, so that addresses need no quotes.
///
/// It goes by Unicode scalars: what a user sees as one character may be a quote with an accent on
/// it.
struct DatumText {
  private let text: String
  private var rest: Substring.UnicodeScalarView

  init(_ text: String) {
    self.text = text
    rest = text[...].unicodeScalars
  }

  /// What has not been read yet.
  var remainder: String { String(rest) }

  /// Reads one atom that is the whole text; a text without quotes is taken as it is.
  static func atom(_ text: String) throws(ControlError) -> String {
    guard !text.isEmpty else { throw missingValue("\"\"") }
    var reader = DatumText(text)
    guard reader.rest.first == "\"" else { return text }
    let value = try reader.quotedText()
    guard reader.rest.isEmpty else {
      throw ControlError("\(text): nothing may follow the closing quote")
    }
    return value
  }

  /// Reads the elements of a set.
  static func set(_ text: String) throws(ControlError) -> [String] {
    guard !isBlank(text) else { throw missingValue("[]") }
    var reader = DatumText(text)
    return try reader.elements(open: "[", close: "]") { (reader) throws(ControlError) in
      try reader.word(endingAt: "]")
    }
  }

  /// Reads the entries of a map.
  static func map(_ text: String) throws(ControlError) -> [(key: String, value: String)] {
    guard !isBlank(text) else { throw missingValue("{}") }
    var entries: [(key: String, value: String)] = []
    for (key, value) in try keys(text, open: "{", close: "}") {
      guard let value else {
        throw ControlError("\(text): \"\(key)\" is not of the form KEY=VALUE")
      }
      entries.append((key, value))
    }
    return entries
  }

  /// Reads keys of a map, each alone or with its value.
  ///
  /// The brackets may be a map's or a set's.
  static func keys(_ text: String) throws(ControlError) -> [(key: String, value: String?)] {
    guard !isBlank(text) else { throw missingValue("{}") }
    let isSet = text.unicodeScalars.first { !$0.properties.isWhitespace } == "["
    return try keys(text, open: isSet ? "[" : "{", close: isSet ? "]" : "}")
  }

  private static func keys(
    _ text: String, open: Unicode.Scalar, close: Unicode.Scalar
  ) throws(ControlError) -> [(key: String, value: String?)] {
    var reader = DatumText(text)
    return try reader.elements(open: open, close: close) {
      (reader) throws(ControlError) -> (key: String, value: String?) in
      let key = try reader.word(endingAt: close, or: "=")
      reader.skipSpace()
      guard reader.take("=") else { return (key, nil) }
      reader.skipSpace()
      guard let next = reader.rest.first, next != ",", next != close,
        !next.properties.isWhitespace
      else {
        throw ControlError("\(text): \"\(key)\" has no value; type \(key)=\"\" for an empty text")
      }
      return (key, try reader.word(endingAt: close))
    }
  }

  private static func isBlank(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy(\.properties.isWhitespace)
  }

  private static func missingValue(_ empty: String) -> ControlError {
    ControlError(
      "there is no value, as where a variable is not set; type one, or \(empty) for an empty one")
  }

  private mutating func elements<Element>(
    open: Unicode.Scalar,
    close: Unicode.Scalar,
    element: (inout DatumText) throws(ControlError) -> Element
  ) throws(ControlError) -> [Element] {
    var elements: [Element] = []
    skipSpace()
    let isBracketed = take(open)
    while true {
      skipSpace()
      guard let next = rest.first, next != close else { break }
      elements.append(try element(&self))
      skipSpace()
      _ = take(",")
    }
    if isBracketed {
      guard take(close) else { throw ControlError("\(text): the \"\(close)\" is missing") }
      skipSpace()
    }
    guard rest.isEmpty else { throw ControlError("\(text): nothing may follow \"\(close)\"") }
    return elements
  }

  private mutating func word(
    endingAt close: Unicode.Scalar,
    or other: Unicode.Scalar? = nil
  ) throws(ControlError) -> String {
    if rest.first == "\"" { return try quotedText() }
    let word = take { $0 != "," && !$0.properties.isWhitespace && $0 != close && $0 != other }
    guard !word.isEmpty else {
      throw ControlError("\(text): a value is missing in front of \"\(String(rest.prefix(1)))\"")
    }
    return word
  }

  private mutating func quotedText() throws(ControlError) -> String {
    rest.removeFirst()
    var value = String.UnicodeScalarView()
    while let scalar = rest.popFirst() {
      switch scalar {
      case "\"": return String(value)
      case "\\": value.append(try escape())
      default: value.append(scalar)
      }
    }
    throw ControlError("\(text): the closing quote is missing")
  }

  private mutating func escape() throws(ControlError) -> Unicode.Scalar {
    switch rest.popFirst() {
    case "\"": return "\""
    case "\\": return "\\"
    case "/": return "/"
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "u":
      let digits = String(rest.prefix(4))
      rest = rest.dropFirst(4)
      if digits.utf8.count == 4, digits.allSatisfy(\.isHexDigit),
        let code = UInt32(digits, radix: 16),
        let scalar = Unicode.Scalar(code)
      {
        return scalar
      }
    default: break
    }
    throw ControlError("\(text): after a backslash comes one of \" \\ / n r t uXXXX")
  }

  private mutating func skipSpace() {
    rest = rest.drop { $0.properties.isWhitespace }
  }

  /// Reads one scalar, if it comes next.
  mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard rest.first == scalar else { return false }
    rest.removeFirst()
    return true
  }

  private mutating func take(while belongs: (Unicode.Scalar) -> Bool) -> String {
    let taken = rest.prefix(while: belongs)
    rest = rest[taken.endIndex...]
    return String(taken)
  }

  /// Reads `COLUMN[:KEY]`: a key in quotes, or up to one of the given scalars.
  ///
  /// - Returns: The column's name, empty where something else stands there; `nil` for a key where
  ///   there is no colon.
  mutating func column(
    keyEndsAt ends: String
  ) throws(ControlError) -> (name: String, key: String?) {
    let name = take { scalar in
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", "_", "-": true
      default: false
      }
    }
    guard take(":") else { return (name, nil) }
    if rest.first == "\"" { return (name, try quotedText()) }
    let key = take { !ends.unicodeScalars.contains($0) }
    guard !key.isEmpty else { throw ControlError("\"\(text)\" has no key after the colon") }
    return (name, key)
  }
}

extension Setting {
  /// Reads `COLUMN[:KEY]=VALUE`, as it stands on a command line.
  package init(parsing text: String) throws(ControlError) {
    var reader = DatumText(text)
    let (column, key) = try reader.column(keyEndsAt: "=")
    guard !column.isEmpty, reader.take("=") else {
      throw ControlError("\"\(text)\" is not of the form COLUMN=VALUE or COLUMN:KEY=VALUE")
    }
    self.init(column: column, key: key, value: reader.remainder)
  }
}

extension Condition {
  /// Reads `COLUMN[:KEY]OPERATOR VALUE`, as it stands on a command line.
  package init(parsing text: String) throws(ControlError) {
    var reader = DatumText(text)
    let (column, key) = try reader.column(keyEndsAt: "=!<>{")
    let rest = reader.remainder.unicodeScalars
    let comparisons = Comparison.allCases.sorted { $0.rawValue.count > $1.rawValue.count }
    guard !column.isEmpty,
      let comparison = comparisons.first(where: { rest.starts(with: $0.rawValue.unicodeScalars) })
    else {
      let operators = Comparison.allCases.map(\.rawValue).joined(separator: " ")
      throw ControlError(
        "\"\(text)\" is not of the form COLUMN[:KEY]OPERATOR VALUE, with an operator of \(operators)"
      )
    }
    self.init(
      column: column,
      key: key,
      comparison: comparison,
      value: String(rest.dropFirst(comparison.rawValue.unicodeScalars.count))
    )
  }
}
