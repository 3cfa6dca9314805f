private import CLinux
private import Glibc
internal import SystemPackage

/// What another program said and how it ended.
package struct ProgramOutput: Equatable, Sendable {
  /// Its exit status, or 128 and the number of the signal that ended it, as a shell has it.
  package var status: Int32
  /// What it wrote to its standard output, up to 16 KiB.
  package var output: String
  /// What it wrote to its standard error, up to 16 KiB.
  package var errors: String

  /// Bytes kept of each stream.
  ///
  /// What comes after them is read and forgotten.
  fileprivate static let limit = 16 << 10
}

/// Runs a program without a shell and waits for its end, but not longer than it is given.
///
/// It gets the daemon's environment, an empty standard input, no other descriptor, and its own
/// process group, which is killed as a whole when the time is over.
///
/// - Parameters:
///   - path: The program's file.
///   - arguments: What follows its name.
///   - deadline: When to give up.
/// - Returns: What it said, whatever its exit status.
/// - Throws: `ETIMEDOUT`; what the kernel says of a program that cannot be run.
package func run(
  _ path: String,
  _ arguments: [String],
  until deadline: ContinuousClock.Instant
) throws(LinuxError) -> ProgramOutput {
  func failure(_ errno: Errno, _ detail: String? = nil) -> LinuxError {
    LinuxError(action: "run", subject: path, errno: errno, detail: detail)
  }
  // A zero would end the argument early, and so make it another one.
  guard !arguments.contains(where: { $0.utf8.contains(0) }) else {
    throw failure(.invalidArgument)
  }
  var output = try Pipe(failure)
  var errors = try Pipe(failure)

  let child: Child
  do throws(Errno) {
    child = try Child(path, arguments, output: output.writer, errors: errors.writer)
  } catch {
    throw Broker.failure(error, action: "run", subject: path) ?? failure(error)
  }
  output.closeWriter()
  errors.closeWriter()

  while true {
    var waits = [child.end, output.reader, errors.reader].map {
      pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
    }
    // Rounded up, so that the last wait does not become a spin.
    let left = (deadline - .now) / .milliseconds(1)
    let ready = unsafe poll(&waits, 3, Int32(clamping: Int(max(0, left.rounded(.up)))))
    if ready < 0, errno != EINTR {
      let errno = Errno.latest
      _ = child.reap(killing: true)
      throw failure(errno)
    }
    output.drain()
    errors.drain()
    if ready > 0, waits[0].revents != 0 { break }
    guard left > 0 else {
      _ = child.reap(killing: true)
      throw failure(.timedOut, "it gave no answer in time")
    }
  }
  guard let status = child.reap(killing: false) else { throw failure(.noChildProcess) }
  // What it wrote last may have come after the look at the pipes above.
  output.drain()
  errors.drain()
  return ProgramOutput(status: status, output: output.text, errors: errors.text)
}

/// A program that runs beside the daemon for as long as it likes, and says something now and then.
///
/// It gets what a program gets by `run`, and is killed with its whole process group when it is let
/// go of.
package final class RunningProgram {
  private let child: Child
  private var output: Pipe
  private var isReaped = false

  /// Starts a program.
  ///
  /// - Parameters:
  ///   - path: The program's file.
  ///   - arguments: What follows its name.
  /// - Throws: What the kernel says of a program that cannot be run.
  package init(_ path: String, _ arguments: [String]) throws(LinuxError) {
    func failure(_ errno: Errno, _ detail: String? = nil) -> LinuxError {
      LinuxError(action: "run", subject: path, errno: errno, detail: detail)
    }
    output = try Pipe(failure)
    // What it complains of comes to nobody.
    let number = unsafe open("/dev/null", O_WRONLY | O_CLOEXEC)
    guard number >= 0 else { throw failure(.latest) }
    let nobody = Descriptor(owning: number)
    do throws(Errno) {
      child = try Child(path, arguments, output: output.writer, errors: nobody.rawValue)
    } catch {
      throw failure(error)
    }
    output.closeWriter()
  }

  deinit { stop() }

  /// To be polled for `POLLIN`; -1 once it has ended.
  package var rawValue: Int32 { output.reader }

  /// Whether it says nothing any more.
  package var hasEnded: Bool { output.reader < 0 }

  /// Takes what it has said since the last time, up to 16 KiB of it.
  package func takeOutput() -> String {
    output.drain()
    return output.takeText()
  }

  /// Ends it.
  package func stop() {
    guard !isReaped else { return }
    isReaped = true
    _ = child.reap(killing: true)
  }
}

/// Looks a program up in a list of directories, separated by colons; those that are no absolute
/// paths do not count.
package func find(program name: String, in searchPath: String) -> String? {
  searchPath.split(separator: ":").lazy.map { "\($0)/\(name)" }
    .first { unsafe $0.hasPrefix("/") && access($0, X_OK) == 0 }
}

/// One stream of a program, as far as it was read.
private struct Pipe: ~Copyable {
  private let readingEnd: Descriptor
  private var writingEnd: Descriptor?
  private var bytes: [UInt8] = []
  private var isOpen = true

  init(_ failure: (Errno, String?) -> LinuxError) throws(LinuxError) {
    var ends: [Int32] = [-1, -1]
    let made = unsafe ovx_pipe(&ends)
    guard made == 0 else { throw failure(Errno(rawValue: 0 &- made), nil) }
    readingEnd = Descriptor(owning: ends[0])
    writingEnd = Descriptor(owning: ends[1])
  }

  /// The number to wait on; -1, which poll(2) passes over, once the stream has ended.
  var reader: Int32 { isOpen ? readingEnd.rawValue : -1 }

  var writer: Int32 {
    switch writingEnd {
    case .some(let end): end.rawValue
    case .none: -1
    }
  }

  mutating func closeWriter() { writingEnd = nil }

  /// Reads what is there.
  mutating func drain() {
    var chunk = [UInt8](repeating: 0, count: 4096)
    // A program that writes without end is not to keep us here: it gets its turn after each look at
    // the clock.
    for _ in 0..<16 where isOpen {
      let count = unsafe read(readingEnd.rawValue, &chunk, chunk.count)
      guard count > 0 else {
        if count == 0 || errno != EAGAIN && errno != EINTR { isOpen = false }
        return
      }
      bytes += chunk.prefix(min(count, max(0, ProgramOutput.limit - bytes.count)))
    }
  }

  var text: String { String(decoding: bytes, as: UTF8.self) }

  /// Takes out what was read.
  mutating func takeText() -> String {
    defer { bytes = [] }
    return text
  }
}

/// A program that was started: by this process, or by the broker where there is one (`Broker`).
private struct Child: ~Copyable {
  /// `nil` where it is another process's child.
  private let pid: pid_t?
  private let ending: Descriptor

  init(
    _ path: String, _ arguments: [String], output: Int32, errors: Int32
  ) throws(Errno) {
    var words = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
    defer { unsafe words.forEach { unsafe free($0) } }
    guard !ovx_broker_has_begun() else {
      let end = unsafe ovx_broker_spawn(path, &words, output, errors)
      guard end >= 0 else { throw Errno(rawValue: 0 &- end) }
      pid = nil
      ending = Descriptor(owning: end)
      return
    }
    let child = unsafe ovx_spawn(path, &words, output, errors)
    guard child > 0 else { throw Errno(rawValue: 0 &- child) }
    let end = ovx_pidfd_open(child)
    guard end >= 0 else {
      _ = Self.wait(for: child, killing: true)
      throw Errno(rawValue: 0 &- end)
    }
    pid = child
    ending = Descriptor(owning: end)
  }

  /// Readable once it has ended.
  var end: Int32 { ending.rawValue }

  /// Waits for its end; `nil` where somebody else has taken its status.
  func reap(killing: Bool) -> Int32? {
    if let pid { return Self.wait(for: pid, killing: killing) }
    if killing { shutdown(ending.rawValue, Int32(SHUT_WR)) }
    var status: Int32 = 0
    let size = MemoryLayout<Int32>.size
    while true {
      let count = unsafe recv(ending.rawValue, &status, size, 0)
      if count == size { return Self.exitStatus(status) }
      guard count < 0, errno == EINTR else { return nil }
    }
  }

  private static func wait(for child: pid_t, killing: Bool) -> Int32? {
    // The group's number is the child's, which nobody else can have before the child is waited for.
    if killing { kill(-child, SIGKILL) }
    var status: Int32 = 0
    while unsafe waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { return nil }
    }
    return exitStatus(status)
  }

  private static func exitStatus(_ status: Int32) -> Int32 {
    let signal = status & 0x7F
    return signal == 0 ? status >> 8 & 0xFF : 128 + signal
  }
}
