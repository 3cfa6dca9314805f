private import OVXDatapath

/// A record that has the column `other_config`.
///
/// Keys that are none of `otherConfigKeys` are kept and mean nothing.
package protocol OtherConfigRecord: Sendable {
  var otherConfig: [String: String] { get }

  /// The keys that mean something, in the order in which they are checked and named.
  static var otherConfigKeys: [any OtherConfigDeclaration<Self>] { get }
}

extension OtherConfigRecord {
  /// What a key says, or what counts where it says nothing that can be read.
  package func value<Value>(of key: OtherConfigKey<Self, Value>) -> Value {
    otherConfig[key.name].flatMap(key.value) ?? key.usual(self)
  }
}

/// A key of `other_config` that means something: of which record, what it may be, and what counts
/// without it.
///
/// Each is declared once, in `OtherConfigKeys.swift`. Validation, what the record's accessor says,
/// the note on unknown keys and the article on `other_config` follow from the declaration.
package struct OtherConfigKey<Record: OtherConfigRecord, Value: Equatable & Sendable>: Sendable {
  package let name: String
  /// The values that it may have, in the words of a document.
  package let values: String
  /// What counts where it is not set.
  let usual: @Sendable (Record) -> Value
  /// Reads a value, or says what is wrong with it.
  let read: @Sendable (String) throws(OtherConfigFault) -> Value
  /// What an error ends with: what to do about a wrong value.
  ///
  /// Takes what counts without one, and the command that removes it.
  var remedy: @Sendable (Value, String) -> String = { _, _ in "" }
  /// What is remarkable about a value that is accepted, behind `OWNER: other_config:KEY=VALUE `.
  var note: @Sendable (String, Value) -> String? = { _, _ in nil }

  /// What a text stands for; `nil` where it is no value of the key.
  package func value(_ text: String) -> Value? { try? read(text) }
}

/// What is wrong with a text that is no value of its key.
enum OtherConfigFault: Error {
  /// What an error says behind the key and the value in quotes.
  case value(String)
  /// What it says behind the key.
  case key(String)
  /// What it says.
  case other(ControlError)
}

/// A key with values of some type.
package protocol OtherConfigDeclaration<Record>: Sendable {
  associatedtype Record: OtherConfigRecord

  var name: String { get }
  var values: String { get }

  /// Checks what a record says.
  ///
  /// - Parameters:
  ///   - record: The record.
  ///   - owner: What it is called in a sentence, such as `port p1`.
  ///   - name: Its name; `.` for the switch.
  /// - Throws: What is wrong with the value, and what to do.
  func check(_ record: Record, of owner: String, named name: String) throws(ControlError)

  /// What is remarkable about what a record says.
  func note(on record: Record) -> String?

  /// Whether a text says the same as nothing does.
  func isUsual(_ text: String, of record: Record) -> Bool
}

extension OtherConfigKey: OtherConfigDeclaration {
  package func check(
    _ record: Record, of owner: String, named recordName: String
  ) throws(ControlError) {
    guard let text = record.otherConfig[name] else { return }
    let wrong: String
    do throws(OtherConfigFault) {
      _ = try read(text)
      return
    } catch {
      switch error {
      case .value(let clause): wrong = " \"\(printable(text))\" \(clause)"
      case .key(let clause): wrong = clause
      case .other(let error): throw error
      }
    }
    let removal = "\"remove \(recordName == "." ? "switch ." : owner) other_config \(name)\""
    throw ControlError(
      "\(owner): other_config:\(name)\(wrong)\(remedy(usual(record), removal))", record: recordName)
  }

  package func note(on record: Record) -> String? {
    guard let text = record.otherConfig[name], let value = value(text) else { return nil }
    return note(text, value).map { "other_config:\(name)=\(text) \($0)" }
  }

  package func isUsual(_ text: String, of record: Record) -> Bool {
    value(text) == usual(record)
  }
}

// MARK: - Kinds of value

extension OtherConfigKey where Value == Bool {
  /// A key that is `true` or `false`.
  static func flag(
    _ name: String, usual: Bool, fault: String,
    remedy: @escaping @Sendable (Value, String) -> String = { _, _ in "" }
  ) -> Self {
    OtherConfigKey(
      name: name, values: "`true` or `false`", usual: { _ in usual },
      read: { text throws(OtherConfigFault) in
        guard text == "true" || text == "false" else { throw .value(fault) }
        return text == "true"
      }, remedy: remedy)
  }
}

extension OtherConfigKey where Value == Int {
  /// A number that counts as the nearest one of a range where it is outside, as in Open vSwitch.
  static func clamped(
    _ name: String, _ range: ClosedRange<Int>, _ unit: String, usual: Int
  ) -> Self {
    let values = "\(range.lowerBound) to \(range.upperBound) \(unit)"
    return OtherConfigKey(
      name: name, values: values, usual: { _ in usual },
      read: { text throws(OtherConfigFault) in
        guard let number = Int(text), number >= 0 else {
          throw .value("is not a number; it is \(values)")
        }
        return min(max(number, range.lowerBound), range.upperBound)
      },
      note: { text, value in
        Int(text) == value ? nil : "is out of range and counts as \(value)"
      })
  }
}

extension OtherConfigKey {
  /// A key that is one of some words; those behind the `named` first are there for Open vSwitch's
  /// sake.
  static func choice(
    _ name: String, _ choices: KeyValuePairs<String, Value>, named: Int? = nil, usual: Value,
    fault: String? = nil, remedy: @escaping @Sendable (Value, String) -> String = { _, _ in "" }
  ) -> Self {
    let words = choices.map(\.key).prefix(named ?? choices.count)
    let list = words.joined(separator: ", ")
    return OtherConfigKey(
      name: name, values: words.map { "`\($0)`" }.joined(separator: ", "), usual: { _ in usual },
      read: { text throws(OtherConfigFault) in
        guard let choice = choices.first(where: { $0.key == text }) else {
          throw .value(fault ?? "is not one of the allowed values (\(list))")
        }
        return choice.value
      }, remedy: remedy)
  }
}
