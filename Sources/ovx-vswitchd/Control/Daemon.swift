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

  /// Milliseconds for which containers are asked for while the daemon starts.
  private static let settlingLimit: Int64 = 2000
  /// Milliseconds for which a command waits until it is known where its container is.
  private static let containerLimit: Int64 = 5000

  /// Reports in one request at most: each may be as long as a configuration or an address table.
  private static let reportLimit = 16

  let reconciler: Reconciler
  /// What watchers are told.
  let watch: TableWatch
  private let dataplane: Switch
  private let database: Database
  private let databasePath: String
  /// Why the database was of no use when it was looked at last.
  private var databaseFault: ControlError?
  private let ownership: Ownership
  private let containers: Containers
  private let log: LogDestination
  private let logger: Logger
  private var captureRequests = CaptureRequests()
  private var nextRetry: Int64 = 0
  private var nextWideningCheck: Int64 = 0
  private var nextRefresh: Int64 = 0
  /// What the kernel has announced and has not been looked at yet.
  private var news = KernelView.Changes()
  /// When to look at the names of network namespaces, in milliseconds on the monotonic clock: a name is announced a moment
  /// before it has its namespace.
  private var looks: [Int64] = []
  /// When to ask for containers because something was announced.
  private var nextRound: Int64?
  /// Faults that the log tells of.
  private var loggedFaults: [String: Fault] = [:]
  private var crowd = CrowdLog()
  private(set) var isStopping = false
  private var isCleaningUp = false
  /// Why the daemon ends although nobody asked for it.
  private(set) var failure: String?

  init(
    paths: Paths, workers: Int, pathMTUFloor: Int, descriptorLimit: Int, filtersUnderlay: Bool,
    log: LogDestination, logger: Logger
  ) throws(StartFailure) {
    self.log = log
    self.logger = logger
    do {
      // First of all: where the kernel gives no threads, a database that was opened cannot be closed.
      dataplane = try Switch(workers: workers)
    } catch {
      throw StartFailure(error.description)
    }
    databasePath = paths.database
    do {
      database = try Database(path: FilePath(paths.database))
      if let note = database.note { logger.warning("\(note)") }
    } catch {
      throw StartFailure(error.message)
    }
    ownership = Ownership(database: paths.database, rundir: paths.rundir)
    do {
      containers = try Containers()
      reconciler = Reconciler(
        dataplane: dataplane, kernel: try KernelView(pathMTUFloor: pathMTUFloor),
        ownership: ownership,
        identity: database.identity, containers: containers, descriptorLimit: descriptorLimit,
        filter: UnderlayFilter(
          database: paths.database, isWanted: filtersUnderlay, logger: logger))
      watch = TableWatch(reconciler)
    } catch {
      throw StartFailure(error.description)
    }
  }

  /// Puts in force what was stored.
  ///
  /// What the host does not have at present waits.
  func start() {
    let configuration = database.configuration
    let desired = DesiredState(configuration)
    // Those that answer soon need not wait at all.
    let noted = ownership.noted.map { Containers.Target(name: $0.target) }
    containers.beginRound(
      Set(desired.devices.values.compactMap(\.target) + noted), now: monotonicMilliseconds())
    containers.settle(milliseconds: Self.settlingLimit)
    reconciler.reconcile(to: configuration, configuration.changes(since: Configuration()), desired)
    noteContainers()
    removeOrphans()
    logFaults()
  }

  /// Removes devices that a crash between two steps has left.
  ///
  /// After the loss of the database every device looks like that. Containers keep theirs then, and the host's stack still
  /// hears no tenant, for the operator may still put a good copy of the file in place.
  private func removeOrphans() {
    guard database.mayReplaceLostOne else { return reconciler.removeOrphans() }
    let orphans = reconciler.orphans
    guard orphans.isEmpty else {
      logger.warning(
        """
        the database \(databasePath) knows nothing of \(orphans.count) network \(orphans.count == 1 ? "device" : "devices") \
        made or taken for it (\(orphans.prefix(8).joined(separator: ", "))\(orphans.count > 8 ? ", ..." : "")), as if it had been \
        lost; they stay; put a good copy in its place and restart ovx-vswitchd, or remove them with ovx-ctl exit --cleanup
        """)
      return
    }
    do { try database.settle() } catch { logger.warning("\(error.message)") }
  }

  /// Ends the switch.
  ///
  /// Devices stay, unless `exit --cleanup` was asked for. Afterwards the database is another daemon's to open.
  func stop() {
    renewDatabase()
    logSummaries(now: .max)
    if isCleaningUp { reconciler.removeDevices() }
    reconciler.closeDevices()
    containers.stop()
    dataplane.stop()
    database.close()
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
  ///   - age: The milliseconds since it was asked for first.
  ///   - watchCount: How many clients watch something.
  /// - Returns: The answer; or that a capture gives it, and goes on from there, or that it is to be asked for again.
  func answer(
    _ request: Request, on connection: Int32, age: Int64, watchCount: Int
  ) -> ControlServer.Outcome {
    if age < Self.containerLimit, !areContainersKnown(request) { return .later }
    do throws(ControlError) {
      // What happened before the request was made is to be known when it is decided upon.
      takeKernelNews(now: monotonicMilliseconds(), isUrgent: true)
      renewDatabase()
      reconciler.filter.takeNews(now: monotonicMilliseconds())
      if case .watch(let tables, let interval)? = request.commands.first,
        request.commands.count == 1, !request.dryRun
      {
        return .watch(try beginWatch(tables, interval: interval, besides: watchCount))
      }
      guard case .capture(let target, let program, let length) = request.commands.last,
        request.commands.count == 1, !request.dryRun
      else { return .response(try execute(request)) }
      var check = request
      check.dryRun = true
      _ = try execute(check)
      try captureRequests.start(
        target, program: program, snapshotLength: length, reconciler, on: connection)
      return .elsewhere
    } catch {
      return .response(AnswerStream(Response(.failed(error))))
    }
  }

  private func beginWatch(
    _ tables: [WatchedTable], interval: Int, besides count: Int
  ) throws(ControlError) -> WatchStream {
    guard count < TableWatch.limit else {
      throw ControlError(
        "\(TableWatch.limit) watches are running, and there can be no more; end one of them first")
    }
    guard Command.watchIntervalRange.contains(interval) else {
      throw ControlError(
        "a watch looks at counters every 100 to 3600000 milliseconds, not every \(interval)")
    }
    let tables = Set(tables.isEmpty ? WatchedTable.usual : tables)
    watch.begin(tables)
    return WatchStream(tables, interval: Int64(interval))
  }

  /// Whether it is known where the containers are that a request is about; asks for them where not.
  private func areContainersKnown(_ request: Request) -> Bool {
    var areKnown = true
    for command in request.commands {
      switch command {
      case .attach(_, let attachment, _, _):
        let isKnown = containers.isKnown(Containers.Target(name: attachment.target))
        areKnown = areKnown && isKnown
      case .detachStale:
        for target in reconciler.desired.devices.values.compactMap(\.target) {
          let isKnown = containers.isKnown(target)
          areKnown = areKnown && isKnown
        }
      default: break
      }
    }
    return areKnown
  }

  private func execute(_ request: Request) throws(ControlError) -> AnswerStream {
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
      for name in transaction.changes.ports {
        guard let attachment = configuration.ports[name]?.interface.attachment,
          attachment.container == nil
        else { continue }
        configuration.ports[name]?.interface.attachment?.container = containers.container(
          of: Containers.Target(name: attachment.target))
      }
      let hostCheck = HostCheck(
        configuration, transaction.changes, after: reconciler, ownership: ownership,
        containers: containers)
      try hostCheck.check()
      if !request.dryRun {
        notes += try put(configuration, transaction.changes, desired: hostCheck.desired)
      }
    }
    var replies: [AnswerStream.Part] = []
    for (command, reply) in zip(request.commands, transaction.replies) {
      if let reply {
        replies.append(.reply(reply))
      } else if let report = SwitchQueries(reconciler, configuration).report(command) {
        replies.append(report)
      } else {
        replies.append(.reply(try carryOut(command, configuration, isDryRun: request.dryRun)))
      }
    }
    return AnswerStream(replies, notes: notes)
  }

  /// Stores a configuration and puts it in force, or leaves the old one in both places.
  ///
  /// Returns what the operator should know of ports that wait.
  private func put(
    _ configuration: Configuration, _ changes: Configuration.Changes, desired: DesiredState
  ) throws(ControlError) -> [String] {
    let old = reconciler.configuration
    let oldFaults = reconciler.faults
    let oldDesired = reconciler.desired
    try database.save(configuration, changes)
    logDatabaseNews()
    reconciler.reconcile(to: configuration, changes, desired, isCommanded: true)

    let faults = reconciler.faults.filter { oldFaults[$0.key] != $0.value }
      .sorted { $0.key < $1.key }
    if let (name, fault) = faults.first(where: { !$0.value.isTransient }) {
      reconciler.reconcile(to: old, changes, oldDesired, isCommanded: true)
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
    watch.note(changes)
    logChanges(changes, since: old)
    let notes = reconciler.takeNotes()
    for note in notes { logger.info("\(note)") }
    logFaults()
    // Of a device that the host does not have the transaction has told already.
    return notes
      + faults.filter { name, _ in
        guard case .existing(let device)? = desired.devices[name]?.place else { return true }
        return reconciler.kernel.links[device] != nil
      }.map { $0.value.sentence(about: $0.key) }
  }

  /// Stores what is in force anew where somebody has removed the database: that is no wish for a switch without bridges.
  private func renewDatabase() {
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
    for sentence in database.takeNews() { logger.warning("\(sentence)") }
  }

  /// Answers a question to the running switch, or carries out an order to it.
  private func carryOut(
    _ command: Command, _ configuration: Configuration, isDryRun: Bool
  ) throws(ControlError) -> Reply {
    let queries = SwitchQueries(reconciler, configuration)
    switch command {
    case .logLevel: return .logLevel(LogLevel(log.level))
    case .trace(_, let port, let frame):
      return .trace(try TraceReport(reconciler).trace(frame, from: port))
    case .traceTo(let port, let address, let words):
      let frame = try queries.frame(from: port, to: address, words)
      return .trace(try TraceReport(reconciler).trace(frame, from: port))
    case .capture(_, let program, _):
      _ = try CaptureRequests.filter(program)
      guard isDryRun else {
        throw ControlError(
          "capture goes on until it is ended, so it takes no other command beside it")
      }
      return .done
    case .watch:
      guard isDryRun else {
        throw ControlError(
          "a watch goes on until it is ended, so it takes no other command beside it")
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
      return .flushed(queries.flushAddresses(of: bridge))
    case .flushNeighbors(let bridge):
      return .flushed(queries.flushNeighbors(of: bridge))
    case .addAddress(let bridge, let port, let vlan, let address):
      try queries.addAddress(address, vlan: vlan, port: port, bridge: bridge)
      return .done
    case .deleteAddress(let bridge, let vlan, let address):
      try queries.deleteAddress(address, vlan: vlan, bridge: bridge)
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
    // Each column of a row asks for the same, and each time that means to ask the switch.
    var last: (name: String, state: InterfaceState?)?
    return LiveState(
      deviceExists: { self.reconciler.kernel.links[$0] != nil },
      interface: { name in
        if let last, last.name == name { return last.state }
        let state = SwitchQueries(self.reconciler, self.reconciler.configuration).interface(name)
        last = (name, state)
        return state
      },
      goneAttachments: { self.goneAttachments })
  }

  /// The ports that were attached to containers that are gone for good.
  private var goneAttachments: [String] {
    reconciler.desired.devices.filter { name, device in
      guard let target = device.target, containers.isGone(target) else { return false }
      // A process is only a way to its namespace, in which others may live on.
      return device.container == "" || !reconciler.devices.isOpen(name)
    }.keys.sorted()
  }

  // MARK: News

  /// What containers' news come by.
  var containerDescriptors: [Int32] { containers.descriptors }
  var kernelDescriptor: Int32 { reconciler.kernel.descriptor }
  var switchDescriptor: Int32 { dataplane.eventDescriptor }
  var filterDescriptor: Int32 { reconciler.filter.descriptor }

  /// The milliseconds after which `takeNews` has to be called whatever poll(2) says: -1 for never.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func timeout(now: Int64) -> Int32 {
    var next: [Int64] = []
    if hasWork { next.append(nextRetry) }
    if reconciler.underlay.hasNarrowWays { next.append(nextWideningCheck) }
    if news.ways { next.append(nextRefresh) }
    if let time = reconciler.introductions.next { next.append(time) }
    if let wait = watch.timeout(now: now) { next.append(now + wait) }
    if let time = looks.first { next.append(time) }
    if let time = nextRound { next.append(time) }
    if let due = crowd.due { next.append(due) }
    if let work = reconciler.filter.nextWork { next.append(work) }
    if let end = reconciler.oversize.nextEnd { next.append(end) }
    if let examination = reconciler.kernel.nextExamination { next.append(examination) }
    return next.min().map { Int32(clamping: max(0, $0 - now)) } ?? -1
  }

  /// Whether there is something to look at from time to time.
  private var hasWork: Bool {
    loggedFaults.values.contains(where: \.isOutage) || reconciler.devices.areInContainers
  }

  /// Follows what has happened since the last time.
  ///
  /// - Parameter now: Milliseconds on the monotonic clock.
  func takeNews(now: Int64) {
    takeSwitchNews()
    takeKernelNews(now: now, isUrgent: false)
    if let time = reconciler.introductions.next, time <= now { reconciler.introduce() }
    logSummaries(now: now)
    reconciler.filter.takeNews(now: now)
    if reconciler.examineClaims(now: now) { reconcile(isRefreshing: true) }
    let isWideningDue = reconciler.underlay.hasNarrowWays && now >= nextWideningCheck
    if isWideningDue { nextWideningCheck = now + Self.wideningInterval }
    let isRetryDue = hasWork && now >= nextRetry
    takeContainerNews(now: now, isRetryDue: isRetryDue)
    if isRetryDue { nextRetry = now + Self.retryInterval }
    if isRetryDue && !loggedFaults.isEmpty || isWideningDue { reconcile(isRefreshing: true) }
    if reconciler.expireOversize(now: now) { logFaults() }
  }

  /// Follows what has happened to containers.
  private func takeContainerNews(now: Int64, isRetryDue: Bool) {
    let news = containers.takeNews()
    if news.areNamesChanged { looks = [now + 20, now + 200, now + 1000] }
    if news.areEnginesChanged { nextRound = now + 50 }
    if let time = nextRound, time <= now {
      // What is being asked may be answered by what was before.
      nextRound = containers.areAsking ? now + 100 : nil
      if nextRound == nil { askForContainers(now: now) }
    }
    if isRetryDue, containers.isRoundDue(now: now) { askForContainers(now: now) }
    let isLookDue = looks.contains { $0 <= now }
    looks.removeAll { $0 <= now }
    guard news.areAnswered || isLookDue || isRetryDue else { return }
    if !reconciler.checkContainers().isEmpty {
      noteContainers()
      logFaults()
    }
  }

  private func askForContainers(now: Int64) {
    containers.beginRound(Set(reconciler.desired.devices.values.compactMap(\.target)), now: now)
  }

  /// Stores which containers attachments turn out to be.
  private func noteContainers() {
    var configuration = reconciler.configuration
    for (name, device) in reconciler.desired.devices where reconciler.devices.isOpen(name) {
      guard let target = device.target, target.container == nil,
        let container = containers.container(of: target)
      else { continue }
      configuration.ports[name]?.interface.attachment?.container = container
    }
    let changes = configuration.changes(since: reconciler.configuration)
    guard !changes.isEmpty else { return }
    do throws(ControlError) {
      try database.save(configuration, changes)
      reconciler.note(configuration, ports: changes.ports)
      watch.note(changes)
    } catch {
      logger.error("Which containers are attached cannot be stored: \(error.message)")
    }
  }

  /// Takes in what the kernel has announced and acts on it.
  ///
  /// Each device that comes up anywhere on the host changes routes, so those are looked at a few times a second at most.
  ///
  /// Where that is urgent, at once. `now` is in milliseconds on the monotonic clock.
  private func takeKernelNews(now: Int64, isUrgent: Bool) {
    do {
      news.merge(try reconciler.kernel.takeChanges())
    } catch {
      fail("the kernel's news of network devices cannot be received: \(error)")
    }
    if news.everything {
      news = KernelView.Changes()
      return reconcile(isRefreshing: true)
    }
    let ports = reconciler.ports(ofDevices: news.devices)
    news.devices = []
    if !ports.isEmpty {
      reconciler.reconcile(ports)
      logFaults()
    }
    if news.ways, isUrgent || now >= nextRefresh {
      news = KernelView.Changes()
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
        if crowd.admits(.lost, lost.name, now: monotonicMilliseconds()) {
          logger.info("port \(lost.name) has lost its device: \(error)")
        }
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
      guard crowd.admits(.waits, name, now: now) else { continue }
      logger.log(
        level: fault.isOutage ? .warning : .notice, "\(fault.sentence(about: name))")
    }
    watch.note(ports: Set(loggedFaults.keys).symmetricDifference(faults.keys))
    for name in loggedFaults.keys.sorted() where faults[name] == nil {
      if reconciler.configuration.ports[name] != nil, crowd.admits(.isBack, name, now: now) {
        let isBack = loggedFaults[name]?.isOutage ?? true
        logger.notice("port \(name) is in service\(isBack ? "" : " without restriction")")
      }
    }
    loggedFaults = faults
  }

  /// Tells of the ports whose lines were held back.
  private func logSummaries(now: Int64) {
    for (event, sentence) in crowd.takeSummaries(now: now) {
      switch event {
      case .lost: logger.info("\(sentence)")
      case .waits: logger.warning("\(sentence)")
      case .isBack: logger.notice("\(sentence)")
      }
    }
  }

  /// Tells of addresses that keep moving, a few by name.
  private func logFlapping() {
    let sentences = SwitchQueries(reconciler, reconciler.configuration).takeFlappingAddresses()
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
  var isReport: Bool {
    switch self {
    case .show, .showBridge, .showAddresses, .addressStatistics, .showNeighbors,
      .neighborStatistics,
      .statistics, .drops, .showTunnels, .export, .trace, .traceTo:
      true
    default: false
    }
  }
}
