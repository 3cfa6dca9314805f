internal import Logging
internal import OVXControl
internal import OVXHost
internal import OVXLinux
internal import OVXStorage

/// Stores configurations and puts them in force, and goes back to former ones.
///
/// Stored before it is in force, so that what was acknowledged survives a crash at any moment.
final class ConfigurationStore {
  /// What is gone back to.
  struct Former {
    var configuration: Configuration
    /// What follows from it.
    var desired: DesiredState

    /// What is in force.
    init(_ reconciler: Reconciler) {
      configuration = reconciler.configuration
      desired = reconciler.desired
    }
  }

  private let running: RunningSwitch
  private let database: Database
  /// Why the database was of no use when it was looked at last.
  private var databaseFault: ControlError?
  private let watcher: HostWatcher
  private let faultLog: FaultLog
  private let events: EventHistory
  /// The change that waits to be confirmed.
  private let unconfirmed: UnconfirmedChange
  private let logger: Logger
  private var reconciler: Reconciler { running.reconciler }

  /// - Parameters:
  ///   - running: The switch.
  ///   - database: Where they are stored.
  ///   - watcher: Is told of ports whose devices are there or gone.
  ///   - faultLog: Tells of ports that have gone out of service by a change.
  ///   - events: Takes what has happened.
  ///   - unconfirmed: Knows what to go back to where nobody confirms a change.
  ///   - logger: Takes what an operator should know.
  init(
    _ running: RunningSwitch, _ database: Database, watcher: HostWatcher, faultLog: FaultLog,
    events: EventHistory, unconfirmed: UnconfirmedChange, logger: Logger
  ) {
    self.running = running
    self.database = database
    self.watcher = watcher
    self.faultLog = faultLog
    self.events = events
    self.unconfirmed = unconfirmed
    self.logger = logger
  }

  // MARK: Putting in force

  /// Stores a configuration and puts it in force, or leaves the old one in both places.
  ///
  /// - Parameters:
  ///   - configuration: The new one.
  ///   - changes: What is otherwise in it.
  ///   - desired: What follows from it.
  ///   - seconds: Within which it is to be confirmed, or else taken back; `nil` for neither.
  /// - Returns: What the operator should know, such as of ports that wait.
  /// - Throws: What cannot be stored, or put in force.
  func put(
    _ configuration: Configuration, _ changes: Configuration.Changes, desired: DesiredState,
    confirmWithin seconds: Int?
  ) throws(ControlError) -> [String] {
    guard let seconds else { return try put(configuration, changes, desired: desired) }
    try unconfirmed.begin(
      former: reconciler.configuration,
      places: desired.devices.mapValues(\.displaced).filter { !$0.value.isEmpty },
      seconds: seconds)
    do throws(ControlError) {
      return try put(configuration, changes, desired: desired)
        + ["all this is taken back in \(seconds) s unless ovx-ctl confirm comes"]
    } catch {
      unconfirmed.end()
      throw error
    }
  }

  private func put(
    _ configuration: Configuration, _ changes: Configuration.Changes, desired: DesiredState
  ) throws(ControlError) -> [String] {
    let former = Former(reconciler)
    let oldFaults = reconciler.faults
    try database.save(configuration, changes)
    logDatabaseNews()
    reconciler.reconcile(to: configuration, changes, desired, isCommanded: true)

    let faults = reconciler.faults.filter { oldFaults[$0.key] != $0.value }
      .sorted { $0.key < $1.key }
    if let (name, fault) = faults.first(where: { !$0.value.isTransient }) {
      try goBack(to: former, changes, "port \(name): \(fault.sentence)")
      throw ControlError("port \(name): \(fault.sentence)", record: name)
    }
    logChanges(changes, since: former.configuration)
    watcher.noteCarriers(of: changes.ports)
    let notes = reconciler.takeNotes()
    for note in notes { logger.info("\(note)") }
    faultLog.tell()
    // Of a device that the host does not have the transaction has told already.
    return notes
      + faults.filter { name, _ in
        guard case .existing(let device)? = desired.devices[name]?.place else { return true }
        return running.kernel.links[device] != nil
      }.map { $0.value.sentence(about: $0.key) }
  }

  private func logChanges(_ changes: Configuration.Changes, since old: Configuration) {
    let new = reconciler.configuration
    for name in changes.ports.sorted() {
      guard let port = new.ports[name] ?? old.ports[name] else { continue }
      let verb =
        new.ports[name] == nil ? "removed" : old.ports[name] == nil ? "added" : "changed"
      logger.info("port \(name) of bridge \(port.bridge) is \(verb)")
    }
    logger.debug(
      "\(changes.ports.count) ports were changed, and \(reconciler.examinedPorts) looked at so far")
  }

  // MARK: Going back

  /// Makes of a configuration that was put in force a moment ago the former one again.
  ///
  /// - Parameters:
  ///   - former: What was in force before.
  ///   - changes: What was changed.
  ///   - reason: Why, a sentence.
  /// - Throws: The reason, where the former one cannot be stored.
  func goBack(
    to former: Former, _ changes: Configuration.Changes, _ reason: String
  ) throws(ControlError) {
    reconciler.reconcile(to: former.configuration, changes, former.desired, isCommanded: true)
    _ = reconciler.takeNotes()
    watcher.noteCarriers(of: changes.ports)
    faultLog.tell()
    // What to go back to is noted until the former one is stored.
    defer { unconfirmed.end() }
    do {
      try database.save(former.configuration, changes)
    } catch {
      logger.critical("The former configuration cannot be stored: \(error.message)")
      throw ControlError(
        "\(reason); and the former configuration, which is in force, cannot be stored: \(error.message)"
      )
    }
  }

  /// When something is to be taken back, in milliseconds on the monotonic clock; `nil` for never.
  var nextWork: Int64? { unconfirmed.deadline }

  /// Takes back what nobody has confirmed; `now` is in milliseconds on the monotonic clock.
  func work(now: Int64) {
    guard let deadline = unconfirmed.deadline, deadline <= now else { return }
    takeBack("nobody has confirmed it in time")
  }

  /// Whole seconds until the last change is taken back; `nil` where none waits to be confirmed.
  var secondsToConfirm: Int64? { unconfirmed.secondsLeft(now: monotonicMilliseconds()) }

  /// Leaves the change that waits to be confirmed in force, or takes it back.
  func confirm(undo: Bool) throws(ControlError) {
    guard unconfirmed.note != nil else {
      throw ControlError("no change waits to be confirmed; --confirm-within makes one that does")
    }
    if undo {
      takeBack("ovx-ctl asks for it")
    } else {
      unconfirmed.end()
      logger.notice("the last change is confirmed")
    }
  }

  /// Goes back to what was before the change that waits to be confirmed; `reason` is why, for the
  /// log.
  private func takeBack(_ reason: String) {
    guard let note = unconfirmed.note else { return }
    let changes = note.former.changes(since: reconciler.configuration)
    logger.warning("The last change is taken back: \(reason)")
    events.note(.notice, "the last change is taken back: \(reason)")
    do throws(ControlError) { try database.save(note.former, changes) } catch {
      // The host is to be reached all the same.
      logger.critical("The former configuration cannot be stored: \(error.message)")
    }
    logDatabaseNews()
    reconciler.reconcile(
      to: note.former, changes, reconciler.desired(for: note.former, changes), isCommanded: true)
    reconciler.restore(note.places)
    for note in reconciler.takeNotes() { logger.info("\(note)") }
    faultLog.tell()
    unconfirmed.end()
  }

  // MARK: The database

  /// Stores what is in force anew where somebody has removed the database: that is no wish for a
  /// switch without bridges.
  func renew() {
    do throws(ControlError) {
      try database.renewIfGone()
      databaseFault = nil
    } catch {
      if databaseFault != error { logger.error("\(error.message)") }
      databaseFault = error
    }
    logDatabaseNews()
  }

  private func logDatabaseNews() {
    for sentence in database.takeNews() {
      logger.warning("\(sentence)")
      events.note(.notice, sentence)
    }
  }
}
