internal import OVXControl

/// Why a call failed, as the CNI specification wants it told: a number for the runtime, a sentence
/// for a person.
///
/// The sentence names what is wrong and what to do about it; it may quote others' words, which are
/// made fit to be printed.
struct PluginError: Error, Equatable {
  /// The error's number: those below 100 are the specification's (section 5, "Error").
  var code: Int
  var message: String
  /// More for who looks into it; empty for nothing.
  var details: String

  init(_ code: Code, _ message: String, details: String = "") {
    self.init(number: code.rawValue, message, details: details)
  }

  /// Makes an error with another plugin's number.
  init(number: Int, _ message: String, details: String = "") {
    self.code = number
    self.message = printable(brief(message))
    self.details = printable(brief(details))
  }

  /// What the numbers mean.
  enum Code: Int {
    case incompatibleVersion = 1
    case unsupportedField = 2
    case containerUnknown = 3
    case badEnvironment = 4
    case inputOutput = 5
    case undecodable = 6
    case invalidConfiguration = 7
    case tryLater = 11
    /// `STATUS`: `ADD` would fail.
    case unavailable = 50
    /// `STATUS`: `ADD` would fail, and containers that are there may be cut off.
    case unavailableAndDegraded = 51
    /// The daemon, the kernel or another plugin refuses; ovx's own number.
    case refused = 100
    /// There is an interface of that name already; ovx's own number.
    case interfaceExists = 101
    /// `CHECK`: something is not as `ADD` left it; ovx's own number.
    case notAsAdded = 102
  }
}

extension PluginError {
  /// The same error, which led to others while what had been done was undone.
  ///
  /// - Parameter errors: What could not be undone.
  /// - Returns: The error, with the others in its details.
  func leaving(_ errors: [PluginError]) -> PluginError {
    guard !errors.isEmpty else { return self }
    let rest = errors.map(\.message).joined(separator: "; ")
    return PluginError(
      number: code, message,
      details: (details.isEmpty ? "" : details + "; ") + "not undone, until DEL: " + rest)
  }
}
