import Foundation
import Glibc
import Testing

/// Everything here needs the real kernel, so the suites share one machine and run one after the
/// other.
@Suite(
  .serialized,
  .enabled(
    if: geteuid() == 0,
    "needs root: it makes network namespaces and sends real frames; run sudo Tests/run"
  )
)
enum SystemTests {}

/// Network namespaces, daemons in them, and the promise that nothing of either outlives the test.
///
/// A test fails when a daemon dies by itself, does not stop on SIGTERM, or logs a warning or an
/// error that the test did not announce with ``expectLog(_:)``, be it to its standard error or to a
/// file.
final class Lab {
  /// Where the programs under test are: OVX_BIN, or the package's release build.
  static let binaries: String =
    ProcessInfo.processInfo.environment["OVX_BIN"]
    ?? packageRoot.appendingPathComponent(".build/release").path

  static let packageRoot = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// OVX_LONG=1 makes the traffic tests six times as long.
  static let isLong = ProcessInfo.processInfo.environment["OVX_LONG"] == "1"

  /// OVX_FAST_PATH=on has every daemon use the fast path: what holds has to hold with it, too.
  static let usesFastPath = ProcessInfo.processInfo.environment["OVX_FAST_PATH"] == "on"

  /// OVX_ATTACH_KIND=veth gives containers that `container(by: .tap)` attaches a veth: what holds
  /// has to hold with it, too.
  static let attachKind = ProcessInfo.processInfo.environment["OVX_ATTACH_KIND"] ?? "tap"

  /// Of the names of all namespaces; the process id keeps two runs on one machine apart.
  static let prefix = "ovxt\(getpid())-"

  let directory: URL
  private(set) var namespaces: [Namespace] = []
  private(set) var daemons: [Daemon] = []
  private var expectedLogs: [String] = []

  private init() throws {
    try Lab.sweep()
    let template = "/tmp/\(Lab.prefix)\(UUID().uuidString.prefix(8))"
    directory = URL(fileURLWithPath: template)
    // Others may pass: a test looks at what the control socket itself says to a user without
    // rights.
    try FileManager.default.createDirectory(
      at: directory,
      withIntermediateDirectories: false,
      attributes: [.posixPermissions: 0o755]
    )
  }

  /// Runs a test in a lab of its own and clears it away, whatever happens.
  static func run(_ body: (Lab) throws -> Void) throws {
    let lab = try Lab()
    do {
      try body(lab)
    } catch {
      lab.tearDown(printingLogs: true)
      throw error
    }
    lab.tearDown(printingLogs: false)
  }

  /// Removes what a run that was killed has left: namespaces whose process is gone.
  private static func sweep() throws {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? []
    for name in names {
      guard let match = name.wholeMatch(of: /ovxt(\d+)-.*/), let pid = pid_t(match.1),
        pid != getpid(), kill(pid, 0) != 0
      else { continue }
      for pid in try Command(["ip", "netns", "pids", name]).finish(seconds: 5).standardOutput
        .split(separator: "\n").compactMap({ pid_t($0) })
      {
        kill(pid, SIGKILL)
      }
      _ = try Command(["ip", "netns", "del", name]).finish(seconds: 5)
    }
  }

  /// Makes a namespace with loopback up, and bridges in it not handing frames to iptables (which
  /// they do by default and which would slow the kernel's side of a comparison).
  func namespace(_ name: String) throws -> Namespace {
    let namespace = Namespace(
      name: Lab.prefix + name,
      rundir: directory.appendingPathComponent(name).path
    )
    try FileManager.default.createDirectory(
      atPath: namespace.rundir,
      withIntermediateDirectories: false,
      attributes: [.posixPermissions: 0o755]
    )
    let made = try Command(["ip", "netns", "add", namespace.name]).finish(seconds: 10)
    guard made.succeeded else { throw LabError(made.standardError) }
    namespaces.append(namespace)
    try namespace.must(
      """
      ip link set lo up
      for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 > $f; done
      """
    )
    return namespace
  }

  /// The name of a namespace that the test itself makes with `ip netns add`, to be removed with the
  /// others.
  func announcedNamespace(_ name: String) throws -> Namespace {
    let namespace = Namespace(
      name: Lab.prefix + name, rundir: directory.appendingPathComponent(name).path)
    namespaces.append(namespace)
    return namespace
  }

  /// Starts a daemon in a host's namespace and waits until it answers.
  ///
  /// It looks for programs in a directory of the test's own first, where there is one; `through` is
  /// a command that runs it, such as `setpriv` with its options.
  @discardableResult
  func daemon(
    on host: Namespace, arguments: [String] = [], searchPath: String? = nil,
    through wrapper: [String] = []
  ) throws -> Daemon {
    for name in ["ovx-vswitchd", "ovx-ctl"] {
      guard FileManager.default.isExecutableFile(atPath: "\(Lab.binaries)/\(name)") else {
        throw LabError(
          "\(Lab.binaries) holds no \(name). Build it (swift build -c release) or say where it is with OVX_BIN."
        )
      }
    }
    let daemon = try Daemon(
      on: host, arguments: arguments, searchPath: searchPath, through: wrapper)
    daemons.append(daemon)
    try daemon.waitUntilReady()
    if Lab.usesFastPath { try host.ctl("set switch . other_config:fast-path=on") }
    return daemon
  }

  /// Announces that a daemon will log a warning or an error containing this text.
  func expectLog(_ text: String) { expectedLogs.append(text) }

  private func tearDown(printingLogs: Bool) {
    for daemon in daemons {
      if daemon.mayBeDead { continue }
      guard daemon.process.isRunning else {
        Issue.record(
          "The daemon on \(daemon.host.name) died: status \(daemon.process.wait(seconds: 0)?.status ?? -1)."
        )
        continue
      }
      daemon.process.signal(SIGTERM)
      guard let end = daemon.process.wait(seconds: 10) else {
        Issue.record("The daemon on \(daemon.host.name) was still running 10 s after SIGTERM.")
        daemon.process.signal(SIGKILL)
        _ = daemon.process.wait(seconds: 5)
        continue
      }
      #expect(
        end.succeeded,
        "The daemon on \(daemon.host.name) ended on SIGTERM with \(end.status)."
      )
    }
    for daemon in daemons {
      expectNoAlarm(in: daemon.log, of: "the daemon on \(daemon.host.name)")
      if printingLogs {
        print("--- log of the daemon on \(daemon.host.name), its last 40 lines")
        print(daemon.log.split(separator: "\n").suffix(40).joined(separator: "\n"))
      }
    }
    daemons.removeAll()
    let files = (try? FileManager.default.subpathsOfDirectory(atPath: directory.path)) ?? []
    for file in files where file.contains(/\.log(\.|$)/) {
      let path = directory.appendingPathComponent(file).path
      expectNoAlarm(in: (try? String(contentsOfFile: path, encoding: .utf8)) ?? "", of: file)
    }
    for namespace in namespaces {
      if let pids = try? Command(["ip", "netns", "pids", namespace.name]).finish(seconds: 5) {
        for pid in pids.standardOutput.split(separator: "\n").compactMap({ pid_t($0) }) {
          kill(pid, SIGKILL)
        }
      }
      _ = try? Command(["ip", "netns", "del", namespace.name]).finish(seconds: 10)
    }
    namespaces.removeAll()
    try? FileManager.default.removeItem(at: directory)
  }

  /// Fails the test for each warning and error in a log that it has not announced.
  ///
  /// Logs of daemons of the lab, and files in its directory, are looked at without being asked for.
  func expectNoAlarm(in log: String, of whom: String) {
    for line in log.split(separator: "\n") where isAlarming(line) {
      Issue.record("\(whom) logged: \(line)")
    }
  }

  /// Whether a line is a warning or an error, the runtime's or a sanitizer's.
  private func isAlarming(_ line: Substring) -> Bool {
    line.contains(/\b(warning|error|critical|fatal|WARN|WARNING|ERR|ERROR|Fatal|Illegal)\b/)
      && !expectedLogs.contains { line.contains($0) }
  }
}

/// A network namespace: a host when a daemon runs in it, otherwise a container or a wire.
struct Namespace {
  let name: String
  /// Where the daemon of this host keeps its socket and database, if one runs here.
  let rundir: String

  private var environment: [String: String] {
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin"
    return ["OVX_RUNDIR": rundir, "PATH": "\(Lab.binaries):\(path)", "TRAFFIC": Lab.traffic]
  }

  /// Starts shell lines inside.
  func start(_ script: String) throws -> Command {
    try Command(
      ["ip", "netns", "exec", name, "sh", "-c", "set -e\n" + script],
      environment: environment
    )
  }

  /// Runs shell lines inside, up to the first that fails.
  func run(_ script: String, seconds: Double = 30) throws -> Output {
    try start(script).finish(seconds: seconds)
  }

  /// The Ethernet address of a device in it.
  func mac(of device: String = "eth0") throws -> String {
    try must("cat /sys/class/net/\(device)/address")
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// Runs shell lines that must all succeed; gives what they printed.
  @discardableResult
  func must(_ script: String, seconds: Double = 30) throws -> String {
    let output = try run(script, seconds: seconds)
    guard output.succeeded else {
      throw LabError(
        "On \(name), status \(output.status):\n\(script)\n\(output.standardOutput)\(output.standardError)"
      )
    }
    return output.standardOutput
  }

  /// Runs ovx-ctl against this host's daemon with words that need no shell.
  func ctl(_ words: [String], seconds: Double = 20) throws -> Output {
    try Command(
      ["ip", "netns", "exec", name, "\(Lab.binaries)/ovx-ctl"] + words,
      environment: environment
    ).finish(seconds: seconds)
  }

  /// Runs a line of ovx-ctl, split at spaces, that must succeed; gives what it printed.
  @discardableResult
  func ctl(_ line: String, seconds: Double = 20) throws -> String {
    let output = try ctl(line.split(separator: " ").map(String.init), seconds: seconds)
    guard output.succeeded else {
      throw LabError(
        "On \(name), status \(output.status): ovx-ctl \(line)\n\(output.standardOutput)\(output.standardError)"
      )
    }
    return output.standardOutput
  }
}

/// One ovx-vswitchd, its log, and what became of it.
final class Daemon {
  let host: Namespace
  let process: Command
  /// Set by a test that ends the daemon itself.
  var mayBeDead = false

  fileprivate init(
    on host: Namespace, arguments: [String], searchPath: String?, through wrapper: [String]
  ) throws {
    self.host = host
    // `ip netns exec` replaces itself by the program, so the process id is the daemon's own.
    process = try Command(
      ["ip", "netns", "exec", host.name] + wrapper
        + ["\(Lab.binaries)/ovx-vswitchd", "--rundir", host.rundir] + arguments,
      environment: searchPath.map { ["PATH": "\($0):/usr/sbin:/usr/bin:/sbin:/bin"] } ?? [:]
    )
  }

  var log: String { process.standardOutput + process.standardError }

  fileprivate func waitUntilReady() throws {
    do {
      try eventually("the daemon on \(host.name) answers") {
        guard process.isRunning else {
          throw LabError("The daemon on \(host.name) ended at its start:\n\(log)")
        }
        return try host.ctl(["version"]).succeeded
      }
    } catch {
      mayBeDead = true
      throw LabError("\(error)\n\(log)")
    }
  }

  /// Ends the daemon as the test wants it ended and waits for that.
  @discardableResult
  func stop(_ signal: Int32) throws -> Output {
    mayBeDead = true
    process.signal(signal)
    guard let output = process.wait(seconds: 10) else {
      throw LabError("The daemon on \(host.name) was still running 10 s after signal \(signal).")
    }
    return output
  }
}
