internal import FoundationEssentials

/// A value of JSON, kept with what ovx-cni knows nothing of: configurations and results are passed
/// on.
indirect enum JSON: Equatable, Sendable {
  case null
  case boolean(Bool)
  case integer(Int)
  case number(Double)
  case text(String)
  case array([JSON])
  case object([String: JSON])

  /// Reads a text.
  ///
  /// - Parameters:
  ///   - bytes: UTF-8.
  ///   - what: What it is, for the sentence.
  /// - Throws: Code 6 where it is no JSON.
  init(parsing bytes: [UInt8], as what: String) throws(PluginError) {
    do {
      self = try JSONDecoder().decode(JSON.self, from: Data(bytes))
    } catch {
      throw PluginError(
        .undecodable,
        "\(what) is not JSON\(bytes.allSatisfy { $0 <= 0x20 } ? ": it is empty" : "")",
        details: "\(error)")
    }
  }

  /// The value as JSON on one line, members in the order of their names.
  var text: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // What has been read can be written; numbers are finite.
    return (try? encoder.encode(self)).map { String(decoding: $0, as: UTF8.self) } ?? "null"
  }

  /// A member of an object; `nil` where there is none, or it is `null`, or this is no object.
  subscript(name: String) -> JSON? {
    guard case .object(let members) = self, let member = members[name], member != .null else {
      return nil
    }
    return member
  }

  var textValue: String? { if case .text(let text) = self { text } else { nil } }
  var arrayValue: [JSON]? { if case .array(let elements) = self { elements } else { nil } }
  var objectValue: [String: JSON]? {
    if case .object(let members) = self { members } else { nil }
  }
  /// The value as a whole number; also of one that was written with a fraction of zero.
  var integerValue: Int? {
    switch self {
    case .integer(let number): number
    case .number(let number): Int(exactly: number)
    default: nil
    }
  }

  /// The kind of value, for a sentence.
  var kind: String {
    switch self {
    case .null: "null"
    case .boolean: "a truth value"
    case .integer, .number: "a number"
    case .text: "a text"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

extension JSON: Codable {
  init(from decoder: any Decoder) throws {
    // The decoder tells of a wrong guess by an error, so the likeliest come first.
    if let members = try? decoder.container(keyedBy: AnyKey.self) {
      var object: [String: JSON] = [:]
      for key in members.allKeys {
        object[key.stringValue] = try members.decode(JSON.self, forKey: key)
      }
      self = .object(object)
      return
    }
    if var elements = try? decoder.unkeyedContainer() {
      var array: [JSON] = []
      while !elements.isAtEnd { array.append(try elements.decode(JSON.self)) }
      self = .array(array)
      return
    }
    let value = try decoder.singleValueContainer()
    if let text = try? value.decode(String.self) {
      self = .text(text)
    } else if value.decodeNil() {
      self = .null
    } else if let number = try? value.decode(Int.self) {
      self = .integer(number)
    } else if let isTrue = try? value.decode(Bool.self) {
      self = .boolean(isTrue)
    } else {
      self = .number(try value.decode(Double.self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .object(let members):
      var container = encoder.container(keyedBy: AnyKey.self)
      for (name, member) in members {
        try container.encode(member, forKey: AnyKey(stringValue: name))
      }
    case .array(let elements):
      var container = encoder.unkeyedContainer()
      for element in elements { try container.encode(element) }
    case .null:
      var container = encoder.singleValueContainer()
      try container.encodeNil()
    case .boolean(let value): try encode(value, to: encoder)
    case .integer(let value): try encode(value, to: encoder)
    case .number(let value): try encode(value, to: encoder)
    case .text(let value): try encode(value, to: encoder)
    }
  }

  private func encode(_ value: some Encodable, to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(value)
  }

  private struct AnyKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}
