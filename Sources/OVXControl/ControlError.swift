/// Why a request was not carried out: one sentence for the person who typed it, and how the program ends.
///
/// The sentence names the culprit, says what is wrong and which values are valid, and what to type instead.
package struct ControlError: Error, Codable, Equatable, Sendable {
  package var kind: Kind
  package var message: String
  /// The port, or the bridge, that is at fault, where it is one: whoever has a file can show where that stands in it.
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

  /// Makes an error; control characters that its sentence quotes are replaced, as they would move a terminal's cursor.
  package init(_ message: String, kind: Kind = .refused, record: String? = nil) {
    self.kind = kind
    self.message = printable(message)
    self.record = record
  }
}

extension ControlError {
  /// The same sentence, known to be about a port or a bridge.
  package func about(_ record: String) -> ControlError {
    var error = self
    error.record = self.record ?? record
    return error
  }
}

extension ControlError: CustomStringConvertible {
  package var description: String { message }
}
