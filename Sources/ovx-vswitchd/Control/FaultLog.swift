internal import Logging
private import OVXControl
internal import OVXHost
private import OVXLinux
internal import SystemPackage

/// What the log tells of ports: that they have gone out of service, and that they are back, each
/// once, and of a crowd of them in one line.
final class FaultLog {
  private let reconciler: Reconciler
  private let events: EventHistory
  private let logger: Logger
  /// Faults that the log tells of.
  private var loggedFaults: [String: Fault] = [:]
  private var crowd = CrowdLog()

  /// - Parameters:
  ///   - reconciler: Knows what is wrong.
  ///   - events: Takes them all, also those of a crowd.
  ///   - logger: Takes the lines.
  init(_ reconciler: Reconciler, events: EventHistory, logger: Logger) {
    self.reconciler = reconciler
    self.events = events
    self.logger = logger
  }

  /// Whether all ports were in service without restriction when it was looked at last.
  var isEmpty: Bool { loggedFaults.isEmpty }

  /// Whether a port was out of service when it was looked at last.
  var hasOutage: Bool { loggedFaults.values.contains(where: \.isOutage) }

  /// When `tellSummaries` has something to tell, in milliseconds on the monotonic clock; `nil` for
  /// never.
  var nextSummary: Int64? { crowd.due }

  /// Tells of ports that have gone out of service, and of those that are back.
  func tell() {
    for name in reconciler.takeRetaken() {
      logger.warning(
        """
        port \(name): somebody removed ovx's filter from its device, or put another one in front, so that the host's \
        own network stack may have heard its frames; it is there again, and the first
        """)
    }
    for note in reconciler.takeNotes() { logger.notice("\(note)") }
    // What is about to become known is as it was until then.
    var faults = reconciler.faults
    for (name, fault) in faults where fault.isOpen { faults[name] = loggedFaults[name] }
    let now = monotonicMilliseconds()
    for (name, fault) in faults.sorted(by: { $0.key < $1.key }) where loggedFaults[name] != fault {
      note(fault.isOutage ? .outage : .restriction, name, fault.sentence(about: name))
      guard crowd.admits(.waits, name, now: now) else { continue }
      logger.log(
        level: fault.isOutage ? .warning : .notice, "\(fault.sentence(about: name))")
    }
    for name in loggedFaults.keys.sorted() where faults[name] == nil {
      guard reconciler.configuration.ports[name] != nil else { continue }
      let isBack = loggedFaults[name]?.isOutage ?? true
      let sentence = "port \(name) is in service\(isBack ? "" : " without restriction")"
      note(.recovery, name, sentence)
      if crowd.admits(.isBack, name, now: now) { logger.notice("\(sentence)") }
    }
    loggedFaults = faults
  }

  /// Tells that the device of a port is gone or broken.
  func tell(_ port: String, hasLostItsDevice error: Errno) {
    note(.outage, port, "port \(port) has lost its device: \(error)")
    if crowd.admits(.lost, port, now: monotonicMilliseconds()) {
      logger.info("port \(port) has lost its device: \(error)")
    }
  }

  private func note(_ kind: SwitchEvent.Kind, _ port: String, _ sentence: String) {
    events.note(
      kind, port: port, bridge: reconciler.configuration.ports[port]?.bridge, sentence)
  }

  /// Tells of the ports whose lines were held back.
  func tellSummaries(now: Int64) {
    for (event, sentence) in crowd.takeSummaries(now: now) {
      switch event {
      case .lost: logger.info("\(sentence)")
      case .waits: logger.warning("\(sentence)")
      case .isBack: logger.notice("\(sentence)")
      }
    }
  }
}
