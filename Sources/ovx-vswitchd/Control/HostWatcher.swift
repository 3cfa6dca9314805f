internal import Logging
internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux
internal import OVXStorage

/// Follows what happens to the host, its containers and the switch, and has the reconciler do what
/// follows from it.
///
/// What can be waited for is announced, as a rule; what is not is looked at from time to time while
/// something depends on it.
final class HostWatcher {
  /// Milliseconds after which what waits for something is tried again, beside the kernel's
  /// announcements: not everything that can be waited for is announced, such as a container.
  private static let retryInterval: Int64 = 3000
  /// Milliseconds after which the kernel is asked again about ways to VTEPs that were too narrow
  /// for full packets.
  private static let wideningInterval: Int64 = 60_000
  /// Milliseconds between two looks at the routes.
  private static let refreshInterval: Int64 = 250

  private let running: RunningSwitch
  private let database: Database
  private let containers: Containers
  private let faultLog: FaultLog
  private let watch: TableWatch
  private let tableKeeper: TableKeeper
  private let events: EventHistory
  /// Whether the devices of ports had a carrier when they were looked at last.
  private var carriers: [String: Bool] = [:]
  private let logger: Logger
  private var reconciler: Reconciler { running.reconciler }
  private var nextRetry: Int64 = 0
  private var nextWideningCheck: Int64 = 0
  private var nextRefresh: Int64 = 0
  /// What the kernel has announced and has not been looked at yet.
  private var news = KernelView.Changes()
  /// When to look at the names of network namespaces, in milliseconds on the monotonic clock: a
  /// name is announced a moment before it has its namespace.
  private var looks: [Int64] = []
  /// When to ask for containers because something was announced.
  private var nextRound: Int64?
  /// Why the daemon cannot go on.
  private(set) var failure: String?

  /// - Parameters:
  ///   - running: The switch.
  ///   - database: Stores which containers are attached.
  ///   - containers: Knows where containers are.
  ///   - faultLog: Tells of ports that have gone out of service.
  ///   - watch: Follows the tables that clients watch.
  ///   - tableKeeper: Writes down what stations there are.
  ///   - events: Takes what has happened.
  ///   - logger: Takes what an operator should know.
  init(
    _ running: RunningSwitch, database: Database, containers: Containers,
    faultLog: FaultLog, watch: TableWatch, tableKeeper: TableKeeper, events: EventHistory,
    logger: Logger
  ) {
    self.running = running
    self.database = database
    self.containers = containers
    self.faultLog = faultLog
    self.watch = watch
    self.tableKeeper = tableKeeper
    self.events = events
    self.logger = logger
  }

  /// What the news come by, each to be polled for `POLLIN`; -1, which poll(2) passes over, among
  /// them.
  var descriptors: [Int32] {
    [running.kernel.descriptor, running.dataplane.eventDescriptor, running.filter.descriptor]
      + containers.descriptors
  }

  /// The milliseconds after which `takeNews` has to be called whatever poll(2) says: -1 for never.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func timeout(now: Int64) -> Int32 {
    var next: [Int64] = []
    if hasWork { next.append(nextRetry) }
    if reconciler.hasNarrowWays { next.append(nextWideningCheck) }
    if running.kernel.hasEarlyChanges { next.append(0) }
    if news.ways { next.append(nextRefresh) }
    if let time = reconciler.nextIntroduction { next.append(time) }
    if let time = looks.first { next.append(time) }
    if let time = nextRound { next.append(time) }
    if let due = faultLog.nextSummary { next.append(due) }
    if let work = running.filter.nextWork { next.append(work) }
    if let end = reconciler.nextOversizeEnd { next.append(end) }
    if let examination = reconciler.nextExamination { next.append(examination) }
    if let look = reconciler.nextFilterExamination { next.append(look) }
    if let deadline = reconciler.agentDeadline { next.append(deadline) }
    return next.min().map { Int32(clamping: max(0, $0 - now)) } ?? -1
  }

  /// Whether there is something to look at from time to time.
  private var hasWork: Bool {
    faultLog.hasOutage || reconciler.hasDevicesInContainers
  }

  /// Follows what has happened since the last time.
  ///
  /// - Parameter now: Milliseconds on the monotonic clock.
  func takeNews(now: Int64) {
    takeSwitchNews()
    takeKernelNews(now: now, isUrgent: false)
    if let time = reconciler.nextIntroduction, time <= now { reconciler.introduce() }
    faultLog.tellSummaries(now: now)
    running.filter.takeNews(now: now)
    if reconciler.examineClaims(now: now) { reconcile(isRefreshing: true) }
    if reconciler.examineFilters(now: now) { reconcile(isRefreshing: false) }
    let isWideningDue = reconciler.hasNarrowWays && now >= nextWideningCheck
    if isWideningDue { nextWideningCheck = now + Self.wideningInterval }
    let isRetryDue = hasWork && now >= nextRetry
    takeContainerNews(now: now, isRetryDue: isRetryDue)
    if isRetryDue { nextRetry = now + Self.retryInterval }
    if isRetryDue && !faultLog.isEmpty || isWideningDue { reconcile(isRefreshing: true) }
    if reconciler.expireOversize(now: now) { faultLog.tell() }
    if reconciler.expireAgent(now: now) {
      let sentence =
        "the agent that tells of other hosts has been silent for too long; what it has told is forgotten"
      logger.warning("\(sentence)")
      events.note(.notice, sentence)
    }
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
      faultLog.tell()
    }
  }

  private func askForContainers(now: Int64) {
    containers.beginRound(Set(reconciler.desired.devices.values.compactMap(\.target)), now: now)
  }

  /// Stores which containers attachments turn out to be.
  func noteContainers() {
    var configuration = reconciler.configuration
    for (name, device) in reconciler.desired.devices where reconciler.isDeviceOpen(name) {
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
    } catch {
      logger.error("Which containers are attached cannot be stored: \(error.message)")
    }
  }

  /// Takes in what the kernel has announced and acts on it.
  ///
  /// Each device that comes up anywhere on the host changes routes, so those are looked at a few
  /// times a second at most.
  ///
  /// Where that is urgent, at once. `now` is in milliseconds on the monotonic clock.
  func takeKernelNews(now: Int64, isUrgent: Bool) {
    do {
      news.merge(try running.kernel.takeChanges())
    } catch {
      fail("the kernel's news of network devices cannot be received: \(error)")
    }
    if news.everything {
      news = KernelView.Changes()
      reconcile(isRefreshing: true)
      return noteCarriers(of: reconciler.configuration.ports.keys)
    }
    let ports = reconciler.ports(ofDevices: news.devices)
    news.devices = []
    if !ports.isEmpty {
      reconciler.reconcile(ports)
      faultLog.tell()
    }
    noteCarriers(of: ports)
    if news.ways, isUrgent || now >= nextRefresh {
      news = KernelView.Changes()
      nextRefresh = now + Self.refreshInterval
      if reconciler.isUnderlayChanged() { reconcile(isRefreshing: true) }
    }
  }

  /// Notes which links have come up or gone down, of devices that the host sees.
  ///
  /// Where it was not known before, nothing has happened.
  func noteCarriers(of ports: some Sequence<String>) {
    for name in ports {
      guard let port = reconciler.configuration.ports[name],
        let link = reconciler.linkOnHost(of: name)
      else {
        carriers[name] = nil
        continue
      }
      guard let former = carriers.updateValue(link.isRunning, forKey: name),
        former != link.isRunning
      else { continue }
      events.note(
        link.isRunning ? .linkUp : .linkDown, port: name, bridge: port.bridge,
        "the link of port \(name) is \(link.isRunning ? "up" : "down")")
    }
  }

  private func takeSwitchNews() {
    var isChanged = false
    for event in running.dataplane.takeEvents() {
      switch event {
      case .deviceLost(let port, let error):
        guard let lost = reconciler.lose(port, error) else { continue }
        faultLog.tell(lost.name, hasLostItsDevice: error)
        if lost.isToReopen { isChanged = true } else { faultLog.tell() }
      case .deviceDown:
        break
      case .superframeRefused(let port):
        reconciler.examineDevice(of: port)
      case .addressesFlap:
        logFlapping()
      case .stationsChanged:
        watch.noteStations()
        tableKeeper.noteStations()
      case .framesTooLarge:
        reconciler.noteOversize(now: monotonicMilliseconds())
        faultLog.tell()
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
    faultLog.tell()
  }

  private func fail(_ sentence: String) {
    guard failure == nil else { return }
    logger.critical("ovx-vswitchd ends: \(sentence)")
    events.note(.notice, "ovx-vswitchd ends: \(sentence)")
    failure = sentence
  }

  /// Tells of addresses that keep moving, a few by name.
  private func logFlapping() {
    let sentences = SwitchQueries(running, reconciler.configuration).takeFlappingAddresses()
    for sentence in sentences { events.note(.flap, sentence) }
    for sentence in sentences.prefix(8) { logger.warning("\(sentence)") }
    if sentences.count > 8 { logger.warning("\(sentences.count - 8) more addresses keep moving") }
  }
}
