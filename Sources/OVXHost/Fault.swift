package import OVXLinux

/// Why a port is not in service, or only for a part of its traffic.
package struct Fault: Error, Equatable {
  /// A sentence without a full stop.
  package var sentence: String
  /// Whether the configuration may be as it is nevertheless: the underlay or a device is missing
  /// for the moment, and the port goes into service by itself when it comes.
  ///
  /// A command whose result has another fault is refused.
  package var isTransient: Bool
  /// Whether it is about to become known how things are; nobody need be told meanwhile.
  package var isOpen = false
  /// Whether nothing passes; else only some frames do not.
  package var isOutage = true

  package init(_ sentence: String, isTransient: Bool) {
    self.sentence = sentence
    self.isTransient = isTransient
  }

  package init(_ error: LinuxError, isTransient: Bool = false) {
    sentence = error.description
    self.isTransient = isTransient
  }

  /// A fault that only some frames notice.
  package static func partial(_ sentence: String) -> Fault {
    var fault = Fault(sentence, isTransient: true)
    fault.isOutage = false
    return fault
  }

  /// The sentence with the port that it is about.
  package func sentence(about port: String) -> String {
    isOutage ? "port \(port) waits: \(sentence)" : "port \(port): \(sentence)"
  }
}
