private import Glibc
internal import Logging
internal import OVXControl
internal import OVXHost
internal import OVXLinux
internal import OVXStorage

/// Carries out what clients ask for on the control socket.
///
/// A request that changes something goes through these steps, each of which can refuse it:
///
///     execute on a copy → check against the host → store → reconcile
///
/// Stored before it is in force, so that what was acknowledged survives a crash at any moment. When
/// reconciling shows that the host does not allow it after all, the old configuration is stored and
/// reconciled in its place.
final class RequestHandler {
  /// Milliseconds for which a command waits until it is known where its container is.
  private static let containerLimit: Int64 = 5000

  /// Reports in one request at most: each may be as long as a configuration or an address table.
  private static let reportLimit = 16

  private let running: RunningSwitch
  private let store: ConfigurationStore
  private let ownership: DeviceOwnership
  private let containers: Containers
  private let watcher: HostWatcher
  private let faultLog: FaultLog
  private let watch: TableWatch
  private let events: EventHistory
  /// Asks for addresses before they are given to somebody.
  private let probes: AddressProbes
  /// Finds out for agents which remote VTEPs are there.
  private let signs: RemoteSigns
  private let rights: ControlRights
  private let log: LogDestination
  private let logger: Logger
  private var reconciler: Reconciler { running.reconciler }
  private var captureRequests = CaptureRequests()
  /// Whether a client has asked the daemon to end.
  private(set) var isExitRequested = false
  /// Whether all devices that the daemon made are to go with it.
  private(set) var isCleanupRequested = false

  /// - Parameters:
  ///   - running: The switch.
  ///   - store: Stores them and puts them in force.
  ///   - ownership: Knows which devices are ours.
  ///   - containers: Knows where containers are.
  ///   - watcher: Takes the kernel's news in before a request is decided upon.
  ///   - faultLog: Tells of ports that have gone out of service by a request.
  ///   - watch: Follows the tables that clients watch.
  ///   - events: Takes what has happened.
  ///   - rights: Knows who may do what.
  ///   - log: Has the level that clients set.
  ///   - logger: Takes what an operator should know.
  init(
    _ running: RunningSwitch, store: ConfigurationStore, ownership: DeviceOwnership,
    containers: Containers, watcher: HostWatcher, faultLog: FaultLog, watch: TableWatch,
    events: EventHistory, rights: ControlRights, log: LogDestination, logger: Logger
  ) {
    self.running = running
    self.store = store
    self.ownership = ownership
    self.containers = containers
    self.watcher = watcher
    self.faultLog = faultLog
    self.watch = watch
    self.events = events
    probes = AddressProbes(running)
    signs = RemoteSigns(running)
    self.rights = rights
    self.log = log
    self.logger = logger
  }

  /// When `work` has something to do next, in milliseconds on the monotonic clock; `nil` for never.
  var nextWork: Int64? {
    [probes.next, signs.next, store.nextWork, running.gateways.nextWork].compactMap(\.self)
      .min()
  }

  /// Goes on with what requests wait for; `now` is in milliseconds on the monotonic clock.
  func work(now: Int64) {
    probes.work(now: now)
    signs.work(now: now)
    store.work(now: now)
    let networks = reconciler.configuration.networks
    if running.gateways.expire(now: now, networks: networks, events: events) {
      watch.noteGateways()
    }
  }

  /// Whether the request that is being answered has changed something.
  private var hasChanged = false

  // MARK: Gateways

  /// The client whose report of gateways holds for as long as it is connected; `nil` where there is
  /// none.
  var gatewayTeller: UInt64? { running.gateways.teller }

  /// Forgets what was told of gateways.
  func endGatewayReport() {
    running.gateways.end(networks: reconciler.configuration.networks, events: events)
    watch.noteGateways()
  }

  private func take(
    _ report: GatewayReport, of caller: ControlServer.Caller
  ) throws(ControlError) -> ControlServer.Outcome {
    try report.validate()
    running.gateways.take(
      report, from: caller.client, networks: reconciler.configuration.networks, events: events)
    watch.noteGateways()
    return .lasting(AnswerStream(Response(.done([.done]))))
  }

  /// Carries out a request.
  ///
  /// - Parameters:
  ///   - request: What is asked for.
  ///   - caller: Who asks.
  ///   - age: The milliseconds since it was asked for first.
  /// - Returns: The answer; or that a capture gives it, and goes on from there, or that it is to be
  ///   asked for again, and when.
  func answer(
    _ request: Request, of caller: ControlServer.Caller, age: Int64
  ) -> ControlServer.Outcome {
    guard caller.right >= request.right else {
      if !request.dryRun {
        events.note(
          .refusal, by: caller.peer, request.changeSummary + ": no permission to change anything")
      }
      return .response(AnswerStream(Response(.failed(rights.refusalOfChange))))
    }
    hasChanged = true
    let outcome = carryOut(request, of: caller, age: age)
    switch outcome {
    case .later, .held: return outcome
    default: break
    }
    if request.right == .change, !request.dryRun { logChange(request, of: caller.peer, outcome) }
    return outcome
  }

  /// Tells who has changed what.
  ///
  /// What agents tell of other hosts is told where they begin: they go on telling as long as they
  /// live. What is told of gateways has events of its own.
  private func logChange(_ request: Request, of peer: Peer, _ outcome: ControlServer.Outcome) {
    var isUsual = false
    if case .agent(let update)? = request.commands.first, request.commands.count == 1 {
      isUsual = update.phase != .begin
    } else if case .gateways? = request.commands.first, request.commands.count == 1 {
      isUsual = true
    }
    var failure: ControlError?
    if case .response(let answer) = outcome { failure = answer.failure }
    let isRefused = failure != nil
    guard isRefused || hasChanged else { return }
    let summary = request.changeSummary
    if !isUsual, !request.isEndOfCapture {
      let reason = failure.map { ": \($0.message)" } ?? ""
      events.note(isRefused ? .refusal : .change, by: peer, summary + reason)
    }
    let level: Logger.Level = isUsual || isRefused ? .debug : .info
    guard logger.logLevel <= level else { return }
    logger.log(level: level, "\(isRefused ? "refused to" : "changed by") \(peer): \(summary)")
  }

  private func carryOut(
    _ request: Request, of caller: ControlServer.Caller, age: Int64
  ) -> ControlServer.Outcome {
    if age < Self.containerLimit, !areContainersKnown(request) { return .later }
    do throws(ControlError) {
      // What happened before the request was made is to be known when it is decided upon.
      watcher.takeKernelNews(now: monotonicMilliseconds(), isUrgent: true)
      store.renew()
      running.filter.takeNews(now: monotonicMilliseconds())
      guard request.commands.count == 1, !request.dryRun else {
        return try execute(request).map(ControlServer.Outcome.response) ?? .later
      }
      switch request.commands[0] {
      case .gateways(let report): return try take(report, of: caller)
      case .watch(let tables, let interval):
        return .watch(try beginWatch(tables, interval: interval, for: caller))
      case .capture(let target, let program, let length):
        return try capture(
          request, target, drops: false, program, snapshotLength: length, for: caller)
      case .captureDrops(let target, let program, let length):
        return try capture(
          request, target, drops: true, program, snapshotLength: length, for: caller)
      default: return try execute(request).map(ControlServer.Outcome.response) ?? .later
      }
    } catch {
      if error.kind == .timedOut, age < request.timeoutMilliseconds,
        let news = AwaitedNews(request)
      {
        return .held(news)
      }
      return .response(AnswerStream(Response(.failed(error))))
    }
  }

  private func capture(
    _ request: Request, _ target: String?, drops: Bool, _ program: [UInt64], snapshotLength: Int,
    for caller: ControlServer.Caller
  ) throws(ControlError) -> ControlServer.Outcome {
    var check = request
    check.dryRun = true
    _ = try execute(check)
    // Who begins to listen is told of, although nothing changes.
    hasChanged = true
    try captureRequests.start(
      target, drops: drops, program: program, snapshotLength: snapshotLength, running,
      on: caller.connection)
    return .elsewhere
  }

  private func beginWatch(
    _ tables: [WatchedTable], interval: Int, for caller: ControlServer.Caller
  ) throws(ControlError) -> WatchStream {
    guard caller.watchCount < TableWatch.limit else {
      throw ControlError(
        "\(TableWatch.limit) watches are running, and there can be no more; end one of them first")
    }
    guard caller.right > .look || caller.readerWatchCount < TableWatch.readerLimit else {
      throw ControlError(
        "\(TableWatch.readerLimit) watches of users who may only look are running, and there can be no more; end one of "
          + "them first")
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
      case .openGateway(_, let target):
        let isKnown = containers.isKnown(Containers.Target(name: target))
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

  /// Carries out the commands of a request.
  ///
  /// - Returns: The answer; `nil` where others have to be asked first whether an address is theirs,
  ///   and nothing is done yet.
  private func execute(_ request: Request) throws(ControlError) -> AnswerStream? {
    hasChanged = false
    let reports = request.commands.count { $0.declaration.extent == .report }
    guard reports <= Self.reportLimit else {
      throw ControlError(
        "a request can ask for \(Self.reportLimit) reports of the running switch, not \(reports)")
    }
    if request.commands.count > 1,
      request.commands.contains(where: { if case .confirm = $0 { true } else { false } })
    {
      throw ControlError("confirm stands alone, as it is about a change that was made before")
    }
    if request.commands.contains(where: { $0.confirmSeconds != nil }),
      let order = request.commands.first(where: { $0.isOrder || $0.isIrrevocable })
    {
      throw ControlError(
        "\(order.summary) is not taken back by itself, so it stands without --confirm-within; leave that out"
      )
    }
    var configuration = reconciler.configuration
    let transaction = try Transaction.execute(
      request.commands, on: &configuration, live: liveState)
    guard transaction.questions.isEmpty else {
      probes.ask(transaction.questions, now: monotonicMilliseconds())
      return nil
    }
    probes.askAhead(transaction.prospects, now: monotonicMilliseconds())
    var notes = transaction.notes
    var desired: DesiredState?
    if !transaction.changes.isEmpty {
      for name in transaction.changes.ports {
        guard let attachment = configuration.ports[name]?.interface.attachment,
          attachment.container == nil
        else { continue }
        configuration.ports[name]?.interface.attachment?.container = containers.container(
          of: Containers.Target(name: attachment.target))
      }
      let hostCheck = HostCheck(
        configuration, transaction.changes, after: reconciler, ownership: ownership)
      try hostCheck.check()
      notes += hostCheck.notes
      desired = hostCheck.desired
    }
    if !transaction.changes.isEmpty || request.commands.contains(where: \.isOrder),
      let seconds = store.secondsToConfirm
    {
      throw ControlError(
        "a change waits to be confirmed, and is taken back in \(seconds) s; type ovx-ctl confirm, or "
          + "ovx-ctl confirm --undo, before the next one")
    }
    var orders = AddressOrders(running, SwitchQueries(running, configuration))
    // Before a device is touched: one that is gone back to is made anew.
    try orders.check(request.commands)
    let former = ConfigurationStore.Former(reconciler)
    if let desired, !request.dryRun {
      notes += try store.put(
        configuration, transaction.changes, desired: desired,
        confirmWithin: request.commands.compactMap(\.confirmSeconds).last)
    }
    if desired == nil, request.commands.contains(where: { $0.confirmSeconds != nil }) {
      notes.append("nothing changes, so there is nothing to confirm")
    }
    if let seconds = store.secondsToConfirm,
      transaction.changes.isEmpty, request.commands.contains(.show)
    {
      notes.append("the last change is taken back in \(seconds) s unless ovx-ctl confirm comes")
    }
    do throws(ControlError) {
      let parts = try answer(request, transaction.replies, configuration, &orders)
      hasChanged =
        !transaction.changes.isEmpty || request.commands.contains { $0.isOrder || $0.isIrrevocable }
      return AnswerStream(parts, notes: notes)
    } catch {
      orders.takeBack()
      if desired != nil, !request.dryRun {
        logger.info("what has changed is taken back: \(error.message)")
        try store.goBack(to: former, transaction.changes, error.message)
      }
      throw error
    }
  }

  /// Carries commands out, and gives their answers in their order.
  ///
  /// What can be refused is done first, so that what cannot be taken back is not done in vain: a
  /// trace behind a flush is of what was there before.
  private func answer(
    _ request: Request, _ replies: [Reply?], _ configuration: Configuration,
    _ orders: inout AddressOrders
  ) throws(ControlError) -> [AnswerStream.Part] {
    var parts: [AnswerStream.Part?] = request.commands.map { _ in nil }
    for isIrrevocable in [false, true] {
      for (index, command) in request.commands.enumerated()
      where command.comesLast == isIrrevocable {
        if let reply = replies[index] {
          parts[index] = .reply(reply)
        } else if case .showEvents(let last) = command {
          parts[index] =
            .later { [.reply(.events(self.events.events.suffix(max(0, last ?? .max))))] }
        } else if let report = SwitchQueries(running, configuration).report(command) {
          parts[index] = report
        } else {
          parts[index] =
            .reply(try carryOut(command, configuration, &orders, isDryRun: request.dryRun))
        }
      }
    }
    return parts.compactMap(\.self)
  }

  /// Answers a question to the running switch, or carries out an order to it.
  private func carryOut(
    _ command: Command, _ configuration: Configuration, _ orders: inout AddressOrders,
    isDryRun: Bool
  ) throws(ControlError) -> Reply {
    let queries = SwitchQueries(running, configuration)
    switch command {
    case .logLevel: return .logLevel(LogLevel(log.level))
    case .trace(_, let port, let frame):
      return .trace(try TraceReport(running).trace(frame, from: port))
    case .traceTo(let port, let address, let words):
      let frame = try queries.frame(from: port, to: address, words)
      return .trace(try TraceReport(running).trace(frame, from: port))
    case .capture(_, let program, _), .captureDrops(_, let program, _):
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
    case .gateways:
      guard isDryRun else {
        throw ControlError(
          "a report of gateways holds as long as its connection, so it takes no other command beside it"
        )
      }
      return .done
    case .signs(let vteps):
      return .signs(isDryRun ? [] : signs.signs(of: vteps, now: monotonicMilliseconds()))
    case .endCapture(let number):
      let counts = running.dataplane.endCapture(number) ?? CaptureCounts()
      return .captureEnd(CaptureEnd(captured: counts.captured, lost: counts.lost))
    case .version:
      return .version(Versions(pid: getpid(), kernel: ProcSettings.kernelRelease))
    case _ where isDryRun:
      return .done
    case .flushAddresses(let bridge):
      return .flushed(queries.flushAddresses(of: bridge))
    case .flushNeighbors(let bridge):
      return .flushed(queries.flushNeighbors(of: bridge))
    case .agent(let update):
      let sentences = reconciler.take(update, now: monotonicMilliseconds())
      faultLog.tell()
      return .names(sentences)
    case .addAddress(let bridge, let port, let vlan, let address):
      try orders.add(address, vlan: vlan, port: port, bridge: bridge)
      return .done
    case .deleteAddress(let bridge, let vlan, let address):
      try orders.delete(address, vlan: vlan, bridge: bridge)
      return .done
    case .confirm(let undo):
      try store.confirm(undo: undo)
      return .done
    case .setLogLevel(let level):
      log.level = Logger.Level(level)
      logger.notice("ovx-ctl sets the log's level to \(level.rawValue)")
      return .done
    case .exit(let cleanup):
      isExitRequested = true
      isCleanupRequested = cleanup
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
      deviceExists: { self.running.kernel.links[$0] != nil },
      interface: { name in
        if let last, last.name == name { return last.state }
        let state = SwitchQueries(self.running, self.reconciler.configuration).interface(name)
        last = (name, state)
        return state
      },
      toldRemotes: {
        SwitchQueries(self.running, self.reconciler.configuration).toldRemotes(of: $0)
      },
      gateway: { SwitchQueries(self.running, self.reconciler.configuration).gateway(of: $0) },
      goneAttachments: { self.goneAttachments },
      addressStates: { self.probes.states(of: $0) },
      place: { name throws(ControlError) in try self.running.kernel.place(of: name) })
  }

  /// The ports that were attached to containers that are gone for good.
  private var goneAttachments: [String] {
    reconciler.desired.devices.filter { name, device in
      guard let target = device.target, containers.isGone(target) else { return false }
      // A process is only a way to its namespace, in which others may live on.
      return device.container == "" || !reconciler.isDeviceOpen(name)
    }.keys.sorted()
  }
}

extension Request {
  /// Whether a capture has come to its end, of whose beginning the history tells.
  fileprivate var isEndOfCapture: Bool {
    if case .endCapture? = commands.first { commands.count == 1 } else { false }
  }
}

extension Command {
  /// Within which time what the request changes is to be confirmed.
  fileprivate var confirmSeconds: Int? {
    if case .confirmWithin(let seconds) = self { seconds } else { nil }
  }
}

extension Command {
  /// Whether it changes what the running switch knows, and can be taken back for a later command's
  /// sake.
  fileprivate var isOrder: Bool {
    switch self {
    case .addAddress, .deleteAddress: true
    default: false
    }
  }

  /// Whether it is carried out when nothing can be refused any more: also what tells of it.
  fileprivate var comesLast: Bool { if case .logLevel = self { true } else { isIrrevocable } }

  /// Whether no former configuration undoes it.
  ///
  /// None of them is refused beside another command.
  fileprivate var isIrrevocable: Bool {
    switch self {
    case .exit, .flushAddresses, .flushNeighbors, .setLogLevel, .agent, .confirm: true
    default: false
    }
  }
}
