internal import Logging
internal import OVXControl
internal import OVXHost
internal import OVXLinux
internal import OVXStorage
private import SystemPackage

/// The switch of a host while its process runs: what it consists of, how it starts and how it ends.
///
/// `RequestHandler` carries out what clients ask for, and `HostWatcher` follows what happens to the
/// host and to the switch. Both have the one `Reconciler` put a configuration in force.
final class Daemon {
  /// Milliseconds for which containers are asked for while the daemon starts.
  private static let settlingLimit: Int64 = 2000

  let running: RunningSwitch
  let database: Database
  private let databasePath: String
  private let ownership: DeviceOwnership
  private let containers: Containers
  /// What has happened.
  let events: EventHistory
  private let faultLog: FaultLog
  private let watcher: HostWatcher
  private let keptTables: KeptTables
  private let tableKeeper: TableKeeper
  private let store: ConfigurationStore
  private let requests: RequestHandler
  /// What watchers are told.
  let watch: TableWatch
  let logger: Logger
  private var reconciler: Reconciler { running.reconciler }

  init(
    paths: Paths, dataplane: Switch, pathMTUFloor: Int, descriptorLimit: Int,
    filtersUnderlay: Bool, inherited: InheritedDescriptors, rights: ControlRights,
    log: LogDestination, logger: Logger
  ) throws(StartFailure) {
    self.logger = logger
    databasePath = paths.database
    do {
      database = try Database(path: FilePath(paths.database))
      if let note = database.note { logger.warning("\(note)") }
    } catch {
      throw StartFailure(error.message)
    }
    ownership = DeviceOwnership(database: paths.database, rundir: paths.rundir)
    do {
      containers = try Containers()
      let kernel = try KernelView(
        pathMTUFloor: pathMTUFloor, ownership: ownership, containers: containers,
        inherited: inherited)
      let filter = UnderlayFilter(
        database: paths.database, isWanted: filtersUnderlay, logger: logger)
      let reconciler = Reconciler(
        dataplane: dataplane, kernel: kernel, ownership: ownership,
        identity: database.identity, containers: containers, descriptorLimit: descriptorLimit,
        filter: filter)
      running = RunningSwitch(
        reconciler: reconciler, kernel: kernel, dataplane: dataplane, filter: filter)
    } catch {
      throw StartFailure(error.description)
    }
    events = EventHistory(database, logger: logger)
    faultLog = FaultLog(running.reconciler, events: events, logger: logger)
    watch = TableWatch(running, events: events)
    keptTables = KeptTables(in: paths.rundir)
    tableKeeper = TableKeeper(running, keptTables)
    watcher = HostWatcher(
      running, database: database, containers: containers,
      faultLog: faultLog, watch: watch, tableKeeper: tableKeeper, events: events, logger: logger)
    store = ConfigurationStore(
      running, database, watcher: watcher, faultLog: faultLog, events: events,
      unconfirmed: UnconfirmedChange(database: paths.database), logger: logger)
    requests = RequestHandler(
      running, store: store, ownership: ownership, containers: containers, watcher: watcher,
      faultLog: faultLog, watch: watch, events: events, rights: rights, log: log, logger: logger)
  }

  /// What a former daemon has written down of its tables, and perhaps of counters.
  func takeKeptTables() -> [HandoverMessage] { keptTables.take(logger) }

  /// Puts in force what was stored.
  ///
  /// What the host does not have at present waits.
  func start() {
    let isAfterCrash = events.endedWithoutAWord
    events.note(
      .start,
      "ovx-vswitchd \(OVXVersion.current) starts"
        + (isAfterCrash ? "; the one before it was killed, or has crashed" : ""))
    if let note = database.note { events.note(.notice, note) }
    let configuration = database.configuration
    let desired = DesiredState(configuration)
    // Those that answer soon need not wait at all.
    let noted = ownership.noted.map { Containers.Target(name: $0.target) }
    containers.beginRound(
      Set(desired.devices.values.compactMap(\.target) + noted), now: monotonicMilliseconds())
    containers.settle(milliseconds: Self.settlingLimit)
    reconciler.reconcile(to: configuration, configuration.changes(since: Configuration()), desired)
    watcher.noteContainers()
    watcher.noteCarriers(of: configuration.ports.keys)
    removeOrphans()
    faultLog.tell()
  }

  /// Removes devices that a crash between two steps has left.
  ///
  /// After the loss of the database every device looks like that. Containers keep theirs then, and
  /// the host's stack still hears no tenant, for the operator may still put a good copy of the file
  /// in place.
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
  /// Devices stay, unless `exit --cleanup` was asked for, and so does what was learned of them.
  /// Afterwards the database is another daemon's to open.
  func stop() {
    if requests.isCleanupRequested {
      keptTables.remove()
    } else {
      keptTables.write(handedTables + handedCounters)
    }
    store.renew()
    events.note(.stop, "ovx-vswitchd stops")
    events.work(now: .max)
    faultLog.tellSummaries(now: .max)
    if requests.isCleanupRequested { reconciler.removeDevices() }
    reconciler.closeDevices()
    containers.stop()
    running.dataplane.stop()
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

  // MARK: The control loop's

  /// Whether the process is to end.
  var isStopping: Bool { requests.isExitRequested || watcher.failure != nil }

  /// Why the daemon ends although no client asked for it.
  var failure: String? { watcher.failure }

  /// What `takeNews` takes its news from, each to be polled for `POLLIN`; -1, which poll(2) passes
  /// over, among them.
  var descriptors: [Int32] { watcher.descriptors }

  /// The milliseconds after which `takeNews` has to be called whatever poll(2) says: -1 for never.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func timeout(now: Int64) -> Int32 {
    let works = [requests.nextWork, events.nextWork, tableKeeper.nextWork].compactMap(\.self)
    let next = works.min().map { Int32(clamping: max(0, $0 - now)) } ?? -1
    return [watcher.timeout(now: now), next].filter { $0 >= 0 }.min() ?? -1
  }

  /// Follows what has happened since the last time; `now` is in milliseconds on the monotonic
  /// clock.
  func takeNews(now: Int64) {
    watcher.takeNews(now: now)
    requests.work(now: now)
    events.work(now: now)
    tableKeeper.work(now: now)
  }

  /// The client whose report of gateways holds for as long as it is connected; `nil` where there is
  /// none.
  var gatewayTeller: UInt64? { requests.gatewayTeller }

  /// Forgets that report.
  func endGatewayReport() { requests.endGatewayReport() }

  /// Carries out a request; see `RequestHandler.answer`.
  func answer(
    _ request: Request, of caller: ControlServer.Caller, age: Int64
  ) -> ControlServer.Outcome {
    requests.answer(request, of: caller, age: age)
  }
}
