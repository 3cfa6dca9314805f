internal import OVXControl

/// What `doctor` has found out about one thing.
struct Finding: Codable, Equatable, Sendable {
  enum Verdict: String, Codable, Sendable {
    /// As it should be.
    case ok
    /// Worth knowing; it may be as somebody wants it.
    case note
    /// Something does not work.
    case fault
  }

  /// A port, a remote, a network, or a part of the host.
  var subject: String
  var verdict: Verdict
  /// What is so, without a full stop.
  var sentence: String
  /// What can be done about it, without a full stop; `nil` where the sentence says so, or nothing
  /// is to be done.
  var remedy: String?

  init(_ verdict: Verdict, _ subject: String, _ sentence: String, remedy: String? = nil) {
    self.subject = subject
    self.verdict = verdict
    self.sentence = sentence.hasSuffix(".") ? String(sentence.dropLast()) : sentence
    self.remedy = remedy
  }

  /// The finding as a line for people.
  var line: String {
    let mark =
      switch verdict {
      case .ok: "ok   "
      case .note: "note "
      case .fault: "FAULT"
      }
    return "\(mark) \(printable(subject)): \(printable(sentence))"
      + (remedy.map { "; \(printable($0))" } ?? "") + "\n"
  }
}
