private import Glibc
internal import Logging
internal import OVXControl
internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

/// What the control thread does: carries out requests, and follows what happens to the host and the switch.
///
/// A request that changes something goes through these steps, each of which can refuse it:
///
///     execute on a copy → check against the host → store → reconcile
///
/// Stored before it is in force, so that what was acknowledged survives a crash at any moment. When reconciling shows
/// that the host does not allow it after all, the old configuration is stored and reconciled in its place.
final class Daemon {
  /// Milliseconds after which what waits for something is tried again, beside the kernel's announcements: not everything that
  /// can be waited for is announced, such as a container.
  private static let retryInterval: Int64 = 3000
  /// Milliseconds after which the kernel is asked again about ways to VTEPs that were too narrow for full packets.
  private static let wideningInterval: Int64 = 60_000
  /// Milliseconds between two looks at the routes.
  private static let refreshInterval: Int64 = 250

  /// Reports in one request at most: each may be as long as a configuration or an address table.
  private static let reportLimit = 16

  let reconciler: Reconciler
  private let dataplane: Switch
  private let database: Database
  private let ownership: Ownership
  private let log: LogDestination
  private let logger: Logger
  private var captureDesk = CaptureDesk()
  private var nextRetry: Int64 = 0
  private var nextWideningCheck: Int64 = 0
  private var nextRefresh: Int64 = 0
  /// What the kernel has announced and has not been looked at yet.
  private var news = Host.Changes()
  /// Faults that the log tells of.
  private var loggedFaults: [String: Fault] = [:]
  private(set) var isStopping = false
  private var isCleaningUp = false
  /// Why the daemon ends although nobody asked for it.
  private(set) var failure: String?

  init(
    paths: Paths, workers: Int, pathMTUFloor: Int, descriptorLimit: Int, log: LogDestination,
    logger: Logger
  ) throws(StartFailure) {
    self.log = log
    self.logger = logger
    do {
      // First of all: where the kernel gives no threads, a database that was opened cannot be closed.
      dataplane = try Switch(workers: workers)
    } catch {
      throw StartFailure(error.description)
    }
    do {
      database = try Database(path: FilePath(paths.database))
      if let note = database.note { logger.warning("\(note)") }
    } catch {
      throw StartFailure(error.message)
    }
    ownership = Ownership(database: paths.database, rundir: paths.rundir)
    do {
      reconciler = Reconciler(
        dataplane: dataplane, host: try Host(pathMTUFloor: pathMTUFloor), ownership: ownership,
        descriptorLimit: descriptorLimit)
    } catch {
      throw StartFailure(error.description)
    }
  }

  /// Puts in force what was stored.
  ///
  /// What the host does not have at present waits.
  func start() throws(StartFailure) {
    do {
      let configuration = try database.load()
      reconciler.reconcile(
        to: configuration, configuration.changes(since: Configuration()), Plan(configuration))
    } catch {
      throw StartFailure(error.message)
    }
    // After the loss of the database every device looks like an orphan; containers keep theirs, for the operator may
    // still put a good copy of the file in place.
    if database.note == nil { reconciler.removeOrphans() }
    logFaults()
  }

  /// Ends the switch.
  ///
  /// Devices stay, unless `exit --cleanup` was asked for.
  func stop() {
    if isCleaningUp { reconciler.removeDevices() }
    reconciler.closeDevices()
    dataplane.stop()
  }

  /// How many bridges and ports there are, for people.
  var summary: String {
    func count(_ number: Int, _ noun: String) -> String {
      "\(number) \(noun)\(number == 1 ? "" : "s")"
    }
    let configuration = reconciler.configuration
    let waiting = reconciler.faults.values.count(where: \.isOutage)
    return count(configuration.bridges.count, "bridge") + ", "
      + count(configuration.ports.count, "port") + (waiting > 0 ? ", \(waiting) waiting" : "")
  }

  // MARK: Requests

  /// Carries out a request.
  ///
  /// - Parameters:
  ///   - request: What is asked for.
  ///   - connection: The client's.
  /// - Returns: The answer; `nil` where a capture gives it, and goes on from there.
  func answer(_ request: Request, on connection: Int32) -> Response? {
    do throws(ControlError) {
      // What happened before the request was made is to be known when it is decided upon.
      takeKernelNews(now: monotonicMilliseconds(), isUrgent: true)
      guard case .capture(let target, let program, let length) = request.commands.last,
        request.commands.count == 1, !request.dryRun
      else { return try execute(request) }
      var check = request
      check.dryRun = true
      _ = try execute(check)
      try captureDesk.start(
        target, program: program, snapshotLength: length, reconciler, on: connection)
      return nil
    } catch {
      return Response(.failed(error))
    }
  }

  private func execute(_ request: Request) throws(ControlError) -> Response {
    let reports = request.commands.count(where: \.isReport)
    guard reports <= Self.reportLimit else {
      throw ControlError(
        "a request can ask for \(Self.reportLimit) reports of the running switch, not \(reports)")
    }
    var configuration = reconciler.configuration
    let transaction = try Transaction.execute(
      request.commands, on: &configuration, live: liveState)
    var notes = transaction.notes
    if !transaction.changes.isEmpty {
      let resolver = Resolver(
        configuration, transaction.changes, after: reconciler, ownership: ownership)
      try resolver.check()
      if !request.dryRun {
        notes += try put(configuration, transaction.changes, plan: resolver.plan)
      }
    }
    var replies: [Reply] = []
    for (command, reply) in zip(request.commands, transaction.replies) {
      if let reply {
        replies.append(reply)
      } else {
        replies.append(try carryOut(command, configuration, isDryRun: request.dryRun))
      }
    }
    return Response(.done(replies), notes: notes)
  }

  /// Stores a configuration and puts it in force, or leaves the old one in both places.
  ///
  /// Returns what the operator should know of ports that wait.
  private func put(
    _ configuration: Configuration, _ changes: Configuration.Changes, plan: Plan
  ) throws(ControlError) -> [String] {
    let old = reconciler.configuration
    let oldFaults = reconciler.faults
    let oldPlan = reconciler.plan
    try database.save(configuration, changes)
    reconciler.reconcile(to: configuration, changes, plan, isCommanded: true)

    let faults = reconciler.faults.filter { oldFaults[$0.key] != $0.value }
      .sorted { $0.key < $1.key }
    if let (name, fault) = faults.first(where: { !$0.value.isAwaited }) {
      reconciler.reconcile(to: old, changes, oldPlan, isCommanded: true)
      _ = reconciler.takeNotes()
      do {
        try database.save(old, changes)
      } catch {
        logger.critical("The former configuration cannot be stored: \(error.message)")
        throw ControlError(
          "port \(name): \(fault.sentence); and the former configuration, which is in force, cannot be "
            + "stored: \(error.message)")
      }
      throw ControlError("port \(name): \(fault.sentence)", record: name)
    }
    logChanges(changes, since: old)
    let notes = reconciler.takeNotes()
    for note in notes { logger.info("\(note)") }
    logFaults()
    // Of a device that the host does not have the transaction has told already.
    return notes
      + faults.filter { name, _ in
        guard case .existing(let device)? = plan.devices[name]?.place else { return true }
        return reconciler.host.links[device] != nil
      }.map { $0.value.sentence(about: $0.key) }
  }

  /// Answers a question to the running switch, or carries out an order to it.
  private func carryOut(
    _ command: Command, _ configuration: Configuration, isDryRun: Bool
  ) throws(ControlError) -> Reply {
    let answers = Answers(reconciler, configuration)
    switch command {
    case .show: return .show(answers.show())
    case .showAddresses(let bridges): return .addresses(answers.addresses(of: bridges))
    case .addressStatistics(let bridges):
      return .addressStatistics(answers.addressStatistics(of: bridges))
    case .showNeighbors(let bridges): return .neighbors(answers.neighbors(of: bridges))
    case .neighborStatistics(let bridges):
      return .neighborStatistics(answers.neighborStatistics(of: bridges))
    case .statistics(let port): return .statistics(answers.statistics(of: port))
    case .drops: return .drops(answers.drops())
    case .showTunnels: return .tunnels(answers.tunnels())
    case .logLevel: return .logLevel(LogLevel(log.level))
    case .trace(_, let port, let frame):
      return .trace(try Narrator(reconciler).trace(frame, from: port))
    case .capture(_, let program, _):
      _ = try CaptureDesk.filter(program)
      guard isDryRun else {
        throw ControlError(
          "capture goes on until it is ended, so it takes no other command beside it")
      }
      return .done
    case .endCapture(let number):
      let counts = reconciler.dataplane.endCapture(number) ?? CaptureCounts()
      return .captureEnd(CaptureEnd(captured: counts.captured, lost: counts.lost))
    case .version:
      return .version(Versions(pid: getpid(), kernel: ProcSettings.kernelRelease))
    case _ where isDryRun:
      return .done
    case .flushAddresses(let bridge):
      return .flushed(answers.flushAddresses(of: bridge))
    case .flushNeighbors(let bridge):
      return .flushed(answers.flushNeighbors(of: bridge))
    case .addAddress(let bridge, let port, let vlan, let address):
      try answers.addAddress(address, vlan: vlan, port: port, bridge: bridge)
      return .done
    case .deleteAddress(let bridge, let vlan, let address):
      try answers.deleteAddress(address, vlan: vlan, bridge: bridge)
      return .done
    case .setLogLevel(let level):
      log.level = Logger.Level(level)
      logger.notice("ovx-ctl sets the log's level to \(level.rawValue)")
      return .done
    case .exit(let cleanup):
      isStopping = true
      isCleaningUp = cleanup
      logger.notice(
        "ovx-ctl asks to exit\(cleanup ? " and to remove all devices that ovx made" : "")")
      return .done
    default:
      throw ControlError("this daemon, version \(OVXVersion.current), cannot do that")
    }
  }

  private var liveState: LiveState {
    LiveState(
      deviceExists: { self.reconciler.host.links[$0] != nil },
      interface: { Answers(self.reconciler, self.reconciler.configuration).interface($0) })
  }

  // MARK: News

  var kernelDescriptor: Int32 { reconciler.host.descriptor }
  var switchDescriptor: Int32 { dataplane.eventDescriptor }

  /// The milliseconds after which `takeNews` has to be called whatever poll(2) says: -1 for never.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func timeout(now: Int64) -> Int32 {
    var next: [Int64] = []
    if hasWork { next.append(nextRetry) }
    if reconciler.underlay.hasNarrowWays { next.append(nextWideningCheck) }
    if news.ways { next.append(nextRefresh) }
    if let end = reconciler.oversize.nextEnd { next.append(end) }
    if let examination = reconciler.host.nextExamination { next.append(examination) }
    return next.min().map { Int32(clamping: max(0, $0 - now)) } ?? -1
  }

  /// Whether there is something to look at from time to time.
  private var hasWork: Bool {
    loggedFaults.values.contains(where: \.isOutage) || reconciler.devices.holdsNamespaces
  }

  /// Follows what has happened since the last time.
  ///
  /// - Parameter now: Milliseconds on the monotonic clock.
  func takeNews(now: Int64) {
    takeSwitchNews()
    takeKernelNews(now: now, isUrgent: false)
    if reconciler.examineClaims(now: now) { reconcile(isRefreshing: true) }
    let isWideningDue = reconciler.underlay.hasNarrowWays && now >= nextWideningCheck
    if isWideningDue { nextWideningCheck = now + Self.wideningInterval }
    let isRetryDue = hasWork && now >= nextRetry
    if isRetryDue {
      nextRetry = now + Self.retryInterval
      reconciler.releaseNamespaces()
    }
    if isRetryDue || isWideningDue { reconcile(isRefreshing: true) }
    if reconciler.expireOversize(now: now) { logFaults() }
  }

  /// Takes in what the kernel has announced and acts on it.
  ///
  /// Each device that comes up anywhere on the host changes routes, so those are looked at a few times a second at most.
  ///
  /// Where that is urgent, at once. `now` is in milliseconds on the monotonic clock.
  private func takeKernelNews(now: Int64, isUrgent: Bool) {
    do {
      news.merge(try reconciler.host.takeChanges())
    } catch {
      fail("the kernel's news of network devices cannot be received: \(error)")
    }
    if news.everything {
      news = Host.Changes()
      return reconcile(isRefreshing: true)
    }
    let ports = reconciler.ports(ofDevices: news.devices)
    news.devices = []
    if !ports.isEmpty {
      reconciler.reconcile(ports)
      logFaults()
    }
    if news.ways, isUrgent || now >= nextRefresh {
      news = Host.Changes()
      nextRefresh = now + Self.refreshInterval
      if reconciler.isUnderlayChanged() { reconcile(isRefreshing: true) }
    }
  }

  private func takeSwitchNews() {
    var isChanged = false
    for event in dataplane.takeEvents() {
      switch event {
      case .deviceLost(let port, let error):
        guard let lost = reconciler.lose(port, error) else { continue }
        logger.info("port \(lost.name) has lost its device: \(error)")
        if lost.isToReopen { isChanged = true } else { logFaults() }
      case .deviceDown:
        break
      case .addressesFlap:
        logFlapping()
      case .framesTooLarge:
        reconciler.noteOversize(now: monotonicMilliseconds())
        logFaults()
      case .pathNarrowed:
        isChanged = true
      case .injectorLost(let injector, let error):
        reconciler.lose(injector, error)
        isChanged = true
      case .workerFailed(let error):
        fail("the thread that forwards frames has ended: \(error)")
      }
    }
    if isChanged { reconcile(isRefreshing: true) }
  }

  private func reconcile(isRefreshing: Bool) {
    reconciler.reconcile(isRefreshing: isRefreshing)
    logFaults()
  }

  private func fail(_ sentence: String) {
    guard failure == nil else { return }
    logger.critical("ovx-vswitchd ends: \(sentence)")
    failure = sentence
    isStopping = true
  }

  // MARK: Log

  /// Tells of ports that have gone out of service, and of those that are back.
  private func logFaults() {
    for note in reconciler.takeNotes() { logger.notice("\(note)") }
    let faults = reconciler.faults
    for (name, fault) in faults.sorted(by: { $0.key < $1.key }) where loggedFaults[name] != fault {
      logger.log(
        level: fault.isOutage ? .warning : .notice, "\(fault.sentence(about: name))")
    }
    for name in loggedFaults.keys.sorted() where faults[name] == nil {
      if reconciler.configuration.ports[name] != nil {
        let isBack = loggedFaults[name]?.isOutage ?? true
        logger.notice("port \(name) is in service\(isBack ? "" : " without restriction")")
      }
    }
    loggedFaults = faults
  }

  /// Tells of addresses that keep moving, a few by name.
  private func logFlapping() {
    let sentences = Answers(reconciler, reconciler.configuration).takeFlappingAddresses()
    for sentence in sentences.prefix(8) { logger.warning("\(sentence)") }
    if sentences.count > 8 { logger.warning("\(sentences.count - 8) more addresses keep moving") }
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
}

extension Command {
  /// Whether the answer describes all of the switch or of its configuration, or a large part.
  fileprivate var isReport: Bool {
    switch self {
    case .show, .showAddresses, .addressStatistics, .showNeighbors, .neighborStatistics,
      .statistics, .drops, .showTunnels, .export, .trace:
      true
    default: false
    }
  }
}
