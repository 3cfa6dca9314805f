internal import OVXLinux

/// Why a port is not in service.
struct Fault: Error, Equatable {
  /// A sentence without a full stop.
  var sentence: String
  /// Whether the configuration may be as it is nevertheless: the underlay or a device is missing for the moment, and
  /// the port goes into service by itself when it comes.
  ///
  /// A command whose result has another fault is refused.
  var isAwaited: Bool
  /// Whether it is about to become known how things are; nobody need be told meanwhile.
  var isOpen = false

  init(_ sentence: String, isAwaited: Bool) {
    self.sentence = sentence
    self.isAwaited = isAwaited
  }

  init(_ error: LinuxError, isAwaited: Bool = false) {
    sentence = error.description
    self.isAwaited = isAwaited
  }
}
