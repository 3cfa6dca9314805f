import Foundation
import Glibc

/// What a finished command left behind.
struct Output {
  /// Its exit code, or 128 plus the signal that ended it.
  var status: Int32
  var standardOutput: String
  var standardError: String

  var succeeded: Bool { status == 0 }
}

/// A test could not go on; the text says why.
struct LabError: Error, CustomStringConvertible {
  var description: String
  init(_ description: String) { self.description = description }
}

/// A child process in a group of its own, its output going to files, so that no amount of it can
/// block the child.
///
/// Foundation's `Process` is not used: it waits through a run loop, which the threads that run
/// tests do not have.
final class Command {
  let line: String
  let pid: pid_t
  private let directory: URL
  private var ended: Int32?

  /// Starts `arguments[0]`, found along PATH, with this process's environment changed by
  /// `environment`.
  init(_ arguments: [String], environment: [String: String] = [:]) throws {
    line = arguments.joined(separator: " ")
    directory = FileManager.default.temporaryDirectory
      .appendingPathComponent("ovxt-command-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)

    var variables = ProcessInfo.processInfo.environment
    variables.merge(environment) { _, new in new }
    // swift test announces itself to everything below it; a daemon under test must not notice.
    for name in ["NOTIFY_SOCKET", "OVX_RUNDIR"] where environment[name] == nil {
      variables[name] = nil
    }

    var actions = unsafe posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    unsafe posix_spawn_file_actions_init(&actions)
    unsafe posix_spawnattr_init(&attributes)
    defer {
      unsafe posix_spawn_file_actions_destroy(&actions)
      unsafe posix_spawnattr_destroy(&attributes)
    }
    let create = O_WRONLY | O_CREAT | O_APPEND
    unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    unsafe posix_spawn_file_actions_addopen(
      &actions,
      1,
      directory.appendingPathComponent("stdout").path,
      create,
      0o600
    )
    unsafe posix_spawn_file_actions_addopen(
      &actions,
      2,
      directory.appendingPathComponent("stderr").path,
      create,
      0o600
    )
    var none = sigset_t()
    var all = sigset_t()
    unsafe sigemptyset(&none)
    unsafe sigfillset(&all)
    unsafe posix_spawnattr_setsigmask(&attributes, &none)
    unsafe posix_spawnattr_setsigdefault(&attributes, &all)
    unsafe posix_spawnattr_setflags(
      &attributes,
      Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
    )

    var argumentPointers = unsafe arguments.map { unsafe strdup($0) } + [nil]
    var variablePointers =
      unsafe variables.map { name, value in unsafe strdup("\(name)=\(value)") } + [nil]
    defer {
      unsafe (argumentPointers + variablePointers).forEach { unsafe free($0) }
    }
    var child: pid_t = 0
    let failure = unsafe posix_spawnp(
      &child,
      arguments[0],
      &actions,
      &attributes,
      &argumentPointers,
      &variablePointers
    )
    guard failure == 0 else {
      throw LabError("\(arguments[0]) did not start: \(unsafe String(cString: strerror(failure)))")
    }
    pid = child
  }

  deinit {
    if isRunning {
      signal(SIGKILL)
      _ = wait(seconds: 5)
    }
    try? FileManager.default.removeItem(at: directory)
  }

  private func path(_ name: String) -> String { directory.appendingPathComponent(name).path }

  private func text(_ name: String) -> String {
    String(
      decoding: (try? Data(contentsOf: URL(fileURLWithPath: path(name)))) ?? Data(),
      as: UTF8.self
    )
  }

  var standardOutput: String { text("stdout") }
  var standardError: String { text("stderr") }

  var isRunning: Bool {
    if ended != nil { return false }
    var status: Int32 = 0
    guard unsafe waitpid(pid, &status, WNOHANG) == pid else { return true }
    let signal = status & 0x7f
    ended = signal == 0 ? (status >> 8) & 0xff : 128 + signal
    return false
  }

  /// Sends a signal to the command itself.
  func signal(_ number: Int32) {
    if isRunning { kill(pid, number) }
  }

  /// Waits for the end; nil when `seconds` pass before it.
  func wait(seconds: Double) -> Output? {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while isRunning {
      if ContinuousClock.now > deadline { return nil }
      usleep(2000)
    }
    return Output(
      status: ended ?? -1,
      standardOutput: standardOutput,
      standardError: standardError
    )
  }

  /// Waits for the end, and after `seconds` puts one to the whole group and throws.
  func finish(seconds: Double) throws -> Output {
    if let output = wait(seconds: seconds) { return output }
    kill(-pid, SIGKILL)
    _ = wait(seconds: 5)
    throw LabError(
      "'\(line)' was not done after \(seconds) s and was killed.\n\(standardOutput)\n\(standardError)"
    )
  }
}

/// Waits until `condition` holds, looking every 20 ms.
func eventually(
  _ what: String,
  within seconds: Double = 10,
  _ condition: () throws -> Bool
) throws {
  let deadline = ContinuousClock.now + .seconds(seconds)
  while try !condition() {
    guard ContinuousClock.now < deadline else {
      throw LabError("This did not come true within \(seconds) s: \(what).")
    }
    usleep(20_000)
  }
}
