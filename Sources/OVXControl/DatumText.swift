/// Reads values as an operator types them, in the grammar of `ovs-vsctl`.
///
///     set     [a, b]   a,b   a b   a   []
///     map     {k=v, l=w}   k=v,l=w   {}
///     atom    a word, or any text in double quotes with JSON's escapes
///
/// Words end at `,`, at white space and at the closing bracket, a key also at `=`. Everything else may stand in a word,
/// so that addresses need no quotes.
struct DatumText {
  private let text: Substring
  private var rest: Substring

  init(_ text: String) {
    self.text = text[...]
    rest = text[...]
  }

  /// Reads one atom that is the whole text; a text without quotes is taken as it is.
  static func atom(_ text: String) throws(ControlError) -> String {
    guard text.first == "\"" else { return text }
    var reader = DatumText(text)
    let value = try reader.quotedText()
    guard reader.rest.isEmpty else {
      throw ControlError("\(text): nothing may follow the closing quote")
    }
    return value
  }

  /// Reads the elements of a set.
  static func set(_ text: String) throws(ControlError) -> [String] {
    var reader = DatumText(text)
    return try reader.elements(open: "[", close: "]") { (reader) throws(ControlError) in
      try reader.word(endingAt: "]")
    }
  }

  /// Reads the entries of a map.
  static func map(_ text: String) throws(ControlError) -> [(key: String, value: String)] {
    var reader = DatumText(text)
    return try reader.elements(open: "{", close: "}") { (reader) throws(ControlError) in
      let key = try reader.word(endingAt: "}", or: "=")
      reader.skipSpace()
      guard reader.rest.popFirst() == "=" else {
        throw ControlError("\(text): \"\(key)\" is not of the form KEY=VALUE")
      }
      reader.skipSpace()
      return (key, try reader.word(endingAt: "}", mayBeEmpty: true))
    }
  }

  private mutating func elements<Element>(
    open: Character,
    close: Character,
    element: (inout DatumText) throws(ControlError) -> Element
  ) throws(ControlError) -> [Element] {
    var elements: [Element] = []
    skipSpace()
    let isBracketed = rest.first == open
    if isBracketed { rest.removeFirst() }
    while true {
      skipSpace()
      guard let next = rest.first, next != close else { break }
      elements.append(try element(&self))
      skipSpace()
      if rest.first == "," { rest.removeFirst() }
    }
    if isBracketed {
      guard rest.popFirst() == close else {
        throw ControlError("\(text): the \"\(close)\" is missing")
      }
      skipSpace()
    }
    guard rest.isEmpty else { throw ControlError("\(text): nothing may follow \"\(close)\"") }
    return elements
  }

  private mutating func word(
    endingAt close: Character,
    or other: Character? = nil,
    mayBeEmpty: Bool = false
  ) throws(ControlError) -> String {
    if rest.first == "\"" { return try quotedText() }
    let word = rest.prefix { $0 != "," && !$0.isWhitespace && $0 != close && $0 != other }
    guard mayBeEmpty || !word.isEmpty else {
      throw ControlError("\(text): a value is missing in front of \"\(rest.prefix(1))\"")
    }
    rest = rest[word.endIndex...]
    return String(word)
  }

  private mutating func quotedText() throws(ControlError) -> String {
    rest.removeFirst()
    var value = ""
    while let character = rest.popFirst() {
      switch character {
      case "\"": return value
      case "\\": value.unicodeScalars.append(try escape())
      default: value.append(character)
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
      let digits = rest.prefix(4)
      rest = rest[digits.endIndex...]
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
    rest = rest.drop { $0.isWhitespace }
  }
}

extension Setting {
  /// Reads `COLUMN[:KEY]=VALUE`, as it stands on a command line.
  package init(parsing text: String) throws(ControlError) {
    let isName = { (character: Character) in
      character.isASCII && (character.isLetter || character.isNumber || "_-".contains(character))
    }
    let column = text.prefix(while: isName)
    var rest = text[column.endIndex...]
    var key: String?
    if rest.first == ":" {
      rest.removeFirst()
      (key, rest) = try Self.key(in: rest, of: text)
    }
    guard !column.isEmpty, rest.popFirst() == "=" else {
      throw ControlError("\"\(text)\" is not of the form COLUMN=VALUE or COLUMN:KEY=VALUE")
    }
    self.init(column: String(column), key: key, value: String(rest))
  }

  /// Reads a key up to the `=` behind it, with or without quotes.
  private static func key(
    in rest: Substring,
    of text: String
  ) throws(ControlError) -> (String?, Substring) {
    guard rest.first == "\"" else {
      let key = rest.prefix { $0 != "=" }
      guard !key.isEmpty else { throw ControlError("\"\(text)\" has no key after the colon") }
      return (String(key), rest[key.endIndex...])
    }
    var end = rest.index(after: rest.startIndex)
    while end < rest.endIndex, rest[end] != "\"" {
      if rest[end] == "\\", rest.index(after: end) < rest.endIndex { rest.formIndex(after: &end) }
      rest.formIndex(after: &end)
    }
    guard end < rest.endIndex else {
      throw ControlError("\"\(text)\": the closing quote is missing")
    }
    rest.formIndex(after: &end)
    return (try DatumText.atom(String(rest[..<end])), rest[end...])
  }
}

extension Condition {
  /// Reads `COLUMN[:KEY]OPERATOR VALUE`, as it stands on a command line.
  package init(parsing text: String) throws(ControlError) {
    let column = text.prefix {
      $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-")
    }
    var rest = text[column.endIndex...]
    var key: String?
    if rest.first == ":" {
      let name = rest.dropFirst().prefix { !"=!<>{".contains($0) }
      key = try DatumText.atom(String(name))
      rest = rest[name.endIndex...]
    }
    let comparisons = Comparison.allCases.sorted { $0.rawValue.count > $1.rawValue.count }
    guard !column.isEmpty, key != "",
      let comparison = comparisons.first(where: { rest.hasPrefix($0.rawValue) })
    else {
      let operators = Comparison.allCases.map(\.rawValue).joined(separator: " ")
      throw ControlError(
        "\"\(text)\" is not of the form COLUMN[:KEY]OPERATOR VALUE, with an operator of \(operators)"
      )
    }
    self.init(
      column: String(column),
      key: key,
      comparison: comparison,
      value: String(rest.dropFirst(comparison.rawValue.count))
    )
  }
}
