/// Why a request was not carried out: one sentence for the person who typed it, and how the program
/// ends.
///
/// The sentence names the culprit, says what is wrong and which values are valid, and what to type
/// instead.
package struct ControlError: Error, Codable, Equatable, Sendable {
  package var kind: Kind
  package var message: String
  /// The port, or the bridge, that is at fault, where it is one: whoever has a file can show where
  /// that stands in it.
  package var record: String?

  /// What kind of failure it was; the raw value is the exit status of `ovx-ctl`.
  package enum Kind: Int32, Codable, Sendable {
    /// The request is wrong, or was refused. Nothing has changed.
    case refused = 1
    /// No daemon answers on the control socket (`EX_UNAVAILABLE` of <sysexits.h>).
    case unavailable = 69
    /// The time given with `-t` ran out (`EX_TEMPFAIL`).
    case timedOut = 75
  }

  /// Makes an error; control characters that its sentence quotes are replaced, as they would move a
  /// terminal's cursor, and long names are shortened.
  package init(_ message: String, kind: Kind = .refused, record: String? = nil) {
    self.kind = kind
    self.message = printable(brief(message))
    // Longer than any name that can be meant; it would only be sent back.
    self.record = record.flatMap { $0.utf8.count <= 1024 ? $0 : nil }
  }

  /// Reads an error, whose sentence may be anybody's who listens on a socket.
  package init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      try members.decode(String.self, forKey: .message),
      kind: try members.decode(Kind.self, forKey: .kind),
      record: try members.decodeIfPresent(String.self, forKey: .record))
  }
}

extension ControlError {
  /// The same sentence, known to be about a port or a bridge.
  package func about(_ record: String) -> ControlError {
    ControlError(message, kind: kind, record: self.record ?? record)
  }
}

extension ControlError: CustomStringConvertible {
  package var description: String { message }
}
