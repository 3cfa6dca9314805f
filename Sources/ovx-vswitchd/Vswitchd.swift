public import ArgumentParser
private import CLinux
private import Glibc
public import Logging
private import OVXControl
private import OVXHost
private import OVXLinux
private import SystemPackage

/// `ovx-vswitchd`: the life of the daemon, from top to bottom.
@main
struct Vswitchd: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ovx-vswitchd",
    abstract: "A virtual switch that carries layer 2 between hosts in VXLAN.",
    discussion: """
      Runs in the foreground until SIGTERM or `ovx-ctl exit`, and leaves the interfaces that it made in place, so that \
      containers keep theirs while it is restarted. It is configured with `ovx-ctl`. SIGHUP makes it open its log file \
      anew.
      """,
    version: "ovx-vswitchd \(OVXVersion.current)")

  @Option(
    help: ArgumentHelp(
      "Where the control socket is; one directory for each daemon of a host. (default: $OVX_RUNDIR, or /run/ovx)",
      valueName: "dir"))
  var rundir: String?

  @Option(
    help: ArgumentHelp(
      "What has been configured. (default: /var/lib/ovx/conf.db, or conf.db in a run directory that was given)",
      valueName: "file"))
  var database: String?

  @Option(
    help: ArgumentHelp(
      "Where to write the process id. (default: vswitchd.pid in the run directory)",
      valueName: "file"))
  var pidfile: String?

  @Option(
    help: ArgumentHelp(
      "Where to log. (default: standard error; with --detach, vswitchd.log in the run directory, unless a service manager has started it)",
      valueName: "file"))
  var logFile: String?

  @Option(
    help: ArgumentHelp(
      "How much to log: \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "level"))
  var logLevel: Logger.Level = .info

  @Flag(help: "Run in the background, and return when the daemon is ready or has failed.")
  var detach = false

  @Flag(
    help: """
      Take the place of the daemon that runs on the run directory, such as after an upgrade: it hands over what it has open \
      and what it has learned, and nothing is lost. Where that fails it goes on, and where none runs this starts one.
      """)
  var takeOver = false

  @Option(
    help: ArgumentHelp(
      "Threads that forward frames, each on a core of its own while there is traffic: \(Switch.workerCounts.lowerBound) to "
        + "\(Switch.workerCounts.upperBound).", valueName: "n"))
  var workers = 1

  @Option(
    help: ArgumentHelp(
      "Who may use ovx-ctl beside root: the group of the control socket. (default: \(ControlRights.defaultChangers), where "
        + "there is such a group)", valueName: "name"))
  var socketGroup: String?

  @Option(
    help: ArgumentHelp(
      "Who may ask with ovx-ctl, and not change anything: a group. (default: \(ControlRights.defaultReaders), where there is "
        + "such a group)", valueName: "name"))
  var readerGroup: String?

  @Flag(
    inversion: .prefixedNo,
    help: """
      Keep other programs of this host, and containers behind its masquerading, from sending VXLAN to the tunnels' \
      remotes, by rules in nftables.
      """)
  var underlayFilter = true

  @Option(
    help: ArgumentHelp(
      "Smallest path MTU, in bytes, that an ICMP message of an IPv4 underlay is believed: \(MTU.pathMTUFloors.lowerBound) to "
        + "\(MTU.pathMTUFloors.upperBound). With IPv6 it is 1280.", valueName: "bytes"))
  var pathMTUFloor = MTU.pathMTUFloors.upperBound

  @Flag(
    inversion: .prefixedNo,
    help: "Give up all system calls that the daemon does not need, once it is set up (seccomp).")
  var syscallFilter = true

  /// For the program that `--detach` starts: where to report how the start went.
  @Option(help: .hidden)
  var readiness: Int32?

  static func main() {
    ProcessStart.openStandardStreams()
    main(ProcessStart.arguments)
  }

  func validate() throws {
    guard Switch.workerCounts.contains(workers) else {
      throw ValidationError(
        "--workers \(workers) is not possible: give a number from \(Switch.workerCounts.lowerBound) to "
          + "\(Switch.workerCounts.upperBound), no more than there are cores to spare.")
    }
    guard MTU.pathMTUFloors.contains(pathMTUFloor) else {
      throw ValidationError(
        "--path-mtu-floor \(pathMTUFloor) is not possible: give \(MTU.pathMTUFloors.lowerBound) to "
          + "\(MTU.pathMTUFloors.upperBound) bytes.")
    }
    guard rundir != "" else {
      throw ValidationError(
        "--rundir is empty: name a directory, or leave it out for $OVX_RUNDIR, else /run/ovx.")
    }
  }

  func run() throws {
    if detach {
      try detached()
      return
    }
    do {
      try serve()
    } catch {
      if let readiness { Daemonize.reportFailure(error.description, to: readiness) }
      standardError(error.description)
      throw ExitCode(1)
    }
  }

  /// Starts the daemon in the background.
  private func detached() throws {
    let arguments = ProcessStart.arguments.filter { $0 != "--detach" }
    do {
      try Daemonize.launch(arguments: arguments)
    } catch {
      standardError(error.description)
      throw ExitCode(1)
    }
  }

  /// Everything that the daemon does between its first and its last breath.
  private func serve() throws(StartFailure) {
    let rundir = unsafe getenv("OVX_RUNDIR").map { unsafe String(cString: $0) }
    let paths = Paths(self, environment: rundir)
    let rights = try ControlRights(changers: socketGroup, readers: readerGroup)
    ovx_share_heap()
    try beginBroker()
    // Before the first thread is started: all inherit what is blocked here.
    let signals = try Signals()
    // The directory is the former daemon's until it hands it over.
    if takeOver {
      try serve(paths, rights, signals, nil, try log(paths))
    } else {
      let directory = try RunDirectory(path: paths.rundir, pidfile: paths.pidfile)
      try serve(paths, rights, signals, directory, try log(paths))
    }
  }

  private func log(_ paths: Paths) throws(StartFailure) -> LogDestination {
    let log = try LogDestination(path: paths.log, level: logLevel)
    LoggingSystem.bootstrap { _ in LogOutput(destination: log) }
    return log
  }

  private func serve(
    _ paths: Paths, _ rights: ControlRights, _ signals: consuming Signals,
    _ directory: consuming RunDirectory?, _ log: LogDestination
  ) throws(StartFailure) {
    defer { log.flush() }
    let logger = Logger(label: "ovx-vswitchd")
    if readiness != nil { unsafe chdir("/") }
    do {
      try serve(paths, rights, signals, directory, log, logger)
    } catch {
      // The operator reads it where the daemon was started; whoever looks for it later, in the log.
      if paths.log != nil { logger.critical("\(error)") }
      throw error
    }
  }

  private func serve(
    _ paths: Paths, _ rights: ControlRights, _ signals: consuming Signals,
    _ own: consuming RunDirectory?, _ log: LogDestination, _ logger: Logger
  ) throws(StartFailure) {
    if own != nil { try own?.writeProcessID() }
    try checkHost(logger)
    // First of all: where the kernel gives no threads, a database that was opened cannot be closed.
    let dataplane: Switch
    do throws(LinuxError) { dataplane = try Switch(workers: workers) } catch {
      throw StartFailure(error.description)
    }
    // What takes long is done before the former daemon is asked for anything.
    let inherited = InheritedDescriptors()
    var agent: [[UInt8]] = []
    let handover: IncomingHandover?
    if takeOver {
      dataplane.suspend()
      handover = try IncomingHandover.begin(
        in: paths.rundir, hello(paths), inherited, &agent)
      if handover == nil {
        RunDirectory.outlast([RunDirectory.lockPath(in: paths.rundir), paths.database])
      }
    } else {
      handover = nil
    }
    var directory = try directory(own, paths, inherited)
    let daemon = try Daemon(
      paths: paths, dataplane: dataplane, pathMTUFloor: pathMTUFloor,
      descriptorLimit: OpenFileLimit.raise(), filtersUnderlay: underlayFilter,
      inherited: inherited, rights: rights, log: log, logger: logger)
    // What is handed over is younger than what was kept.
    let kept = daemon.takeKeptTables()
    if !kept.isEmpty { dataplane.suspend() }
    daemon.start()
    if let handover {
      daemon.takeAgent(agent)
      try handover.takeOver(
        faults: daemon.faultSentences, take: { daemon.take($0) }, resume: { dataplane.resume() })
    } else {
      for message in kept { daemon.take(message) }
      dataplane.resume()
    }
    if takeOver { try directory.writeProcessID() }
    let server = try ControlServer(
      path: directory.socketPath, openPath: directory.openSocketPath, inherited: inherited,
      rights: rights, log: daemon.watch.log, events: daemon.events, logger: logger)
    let successors = try HandoverSocket.open(in: directory.path, inherited)
    inherited.closeAll()

    // A confined daemon cannot load anything any more.
    if let reason = CaptureFilter.load() {
      logger.warning("frames cannot be captured by filters: \(reason)")
    }
    let confinement = Confinement(isWanted: syscallFilter, logger: logger)
    let service = ServiceNotification()
    logger.notice("ovx-vswitchd \(OVXVersion.current) is ready: \(daemon.summary)")
    service.ready(status: daemon.summary)
    if let readiness { Daemonize.reportReady(to: readiness) }
    ovx_shrink()

    let loop = ControlLoop(
      signals: signals, confinement: confinement, server: server, handover: successors,
      lock: directory.lockDescriptor, options: handedOptions(paths), daemon: daemon, log: log,
      logger: logger)
    if loop.run(whenHandedOver: { service.handedOver(to: $0) }) {
      logger.notice("ovx-vswitchd \(OVXVersion.current) has handed over")
      return
    }

    service.stopping()
    daemon.stop()
    directory.clear()
    // From here on another daemon can start on the same directory and database; whoever asked this
    // one to exit hears of it by the end of his connection.
    directory.release()
    server.disconnectAll()
    if let failure = daemon.failure { throw StartFailure(failure) }
    logger.notice("ovx-vswitchd has stopped")
  }

  /// What this daemon is, for the one that runs.
  private func hello(_ paths: Paths) -> HandoverMessage.Hello {
    HandoverMessage.Hello(program: OVXVersion.current, options: handedOptions(paths))
  }

  /// The options that two daemons have to agree upon of which one takes the other's place, as far
  /// as they say something.
  ///
  /// An option of a later version goes without saying until somebody uses it.
  private func handedOptions(_ paths: Paths) -> [String] {
    var options = ["--database \(paths.database)"]
    if let pidfile = paths.pidfile { options.append("--pidfile \(pidfile)") }
    if workers != 1 { options.append("--workers \(workers)") }
    if let socketGroup { options.append("--socket-group \(socketGroup)") }
    if let readerGroup { options.append("--reader-group \(readerGroup)") }
    if !underlayFilter { options.append("--no-underlay-filter") }
    if pathMTUFloor != MTU.pathMTUFloors.upperBound {
      options.append("--path-mtu-floor \(pathMTUFloor)")
    }
    if !syscallFilter { options.append("--no-syscall-filter") }
    return options
  }

  /// The run directory: this daemon's own already, or the former one's.
  private func directory(
    _ own: consuming RunDirectory?, _ paths: Paths, _ inherited: InheritedDescriptors
  ) throws(StartFailure) -> RunDirectory {
    if let own { return own }
    if let lock = inherited.take(.lock) {
      return try RunDirectory(path: paths.rundir, pidfile: paths.pidfile, inheriting: lock)
    }
    return try RunDirectory(path: paths.rundir, pidfile: paths.pidfile)
  }

  /// From here on the daemon has no other rights than those that moving frames takes, and files of
  /// its own.
  private func beginBroker() throws(StartFailure) {
    let service = unsafe getenv("OVX_BROKER").map { unsafe String(cString: $0) }
    do throws(Errno) { try Broker.begin(at: service) } catch {
      guard let service else {
        throw StartFailure(
          "no process can be started that opens the networks of containers: \(error)")
      }
      throw StartFailure(
        "ovx-broker is not to be reached at \(service) (\(error)); start ovx-broker.socket, or leave out OVX_BROKER"
      )
    }
    do throws(Errno) { try Broker.leaveRightsToIt() } catch {
      throw StartFailure("rights cannot be given up (capset: \(error))")
    }
  }

  /// Refuses to start where the kernel cannot do what is needed, and says what it can do only in
  /// part.
  private func checkHost(_ logger: Logger) throws(StartFailure) {
    for problem in Preflight.problems(in: .observed()) {
      let sentence = "\(problem.sentence); \(problem.remedy)"
      guard !problem.isFatal else { throw StartFailure(sentence) }
      logger.warning("\(sentence)")
    }
    if UDPSegmentation.current == .corrupts {
      logger.warning(
        "this kernel's UDP_SEGMENT corrupts datagrams, so each is sent by itself, which is slow; update the kernel"
      )
    }
  }

  /// Says why there is no daemon; where nobody takes it, that does not keep the program from its
  /// end.
  private func standardError(_ sentence: String) {
    let line = Array("ovx-vswitchd: \(sentence).\n".utf8)
    guard let writer = try? LogWriter(to: .standardError, lossLine: { _ in [] }) else { return }
    writer.write(line)
    writer.flush(within: .seconds(1))
  }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// Where the daemon's files are.
///
/// All paths are absolute, because a daemon has no place of its own.
struct Paths {
  let rundir: String
  let database: String
  let pidfile: String?
  let log: String?

  init(_ options: Vswitchd, environment: String?) {
    let given = options.rundir ?? environment.flatMap { $0.isEmpty ? nil : $0 }
    rundir = Self.absolute(given ?? "/run/ovx")
    database = Self.absolute(
      options.database ?? (given == nil ? "/var/lib/ovx/conf.db" : rundir + "/conf.db"))
    pidfile = options.pidfile.map(Self.absolute)
    log =
      options.logFile.map(Self.absolute)
      ?? (options.readiness == nil || ServiceNotification.isExpected
        ? nil : rundir + "/vswitchd.log")
  }

  /// The path without "." at its front, without a slash at its end, and from the root on.
  static func absolute(_ path: String) -> String {
    var path = path
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    guard !path.hasPrefix("/"), let here = unsafe getcwd(nil, 0) else { return path }
    defer { unsafe free(here) }
    while path.hasPrefix("./") { path.removeFirst(2) }
    return path == "." ? unsafe String(cString: here) : unsafe String(cString: here) + "/" + path
  }
}
