private import CLinux
private import Glibc

/// Runs another plugin: a program that reads a configuration and answers, with its parameters in
/// the environment.
///
/// What it writes to its standard error goes where ours goes: to the runtime's log.
enum PluginProcess {
  /// How long it may take; IPAM by DHCP waits for its server.
  private static let patience = Duration.seconds(60)

  /// How a program ended, and what it wrote to its standard output.
  struct Outcome {
    /// Its exit status, or 128 and the number of the signal that ended it.
    var status: Int32
    var output: [UInt8]
  }

  /// Runs a program and waits for its end.
  ///
  /// - Parameters:
  ///   - path: Its file.
  ///   - environment: All of its variables.
  ///   - input: What it finds on its standard input.
  /// - Returns: How it ended.
  /// - Throws: Code 5 where it cannot be run, takes too long, or writes more than
  ///   `StandardStreams.limit`.
  static func run(
    _ path: String, environment: [String: String], input: [UInt8]
  ) throws(PluginError) -> Outcome {
    func failure(_ reason: String) -> PluginError {
      PluginError(.inputOutput, "cannot run the plugin \(path): \(reason)")
    }
    var reader = Stream()
    var writer = Stream()
    guard reader.open(), writer.open() else {
      throw failure(unsafe String(cString: strerror(errno)))
    }
    let child: pid_t
    do throws(SpawnFailure) {
      child = try spawn(path, environment, input: writer.reading, output: reader.writing)
    } catch {
      throw failure(unsafe String(cString: strerror(error.number)))
    }
    writer.closeReading()
    reader.closeWriting()
    var isReaped = false
    defer {
      if !isReaped {
        kill(child, SIGKILL)
        _ = status(of: child)
      }
    }

    let end = ContinuousClock.now + patience
    var output: [UInt8] = []
    var rest = input[...]
    _ = fcntl(writer.writing, F_SETFL, O_NONBLOCK)
    while true {
      if rest.isEmpty { writer.closeWriting() }
      var waits = [
        pollfd(fd: reader.reading, events: Int16(POLLIN), revents: 0),
        pollfd(fd: writer.writing, events: Int16(POLLOUT), revents: 0),
      ]
      let left = (end - .now) / .milliseconds(1)
      guard left > 0 else {
        throw failure("it has not answered within \(patience.components.seconds) s")
      }
      _ = unsafe poll(&waits, 2, Int32(clamping: Int(left.rounded(.up))))
      // A plugin that does not want all of its input may still answer.
      if waits[1].revents != 0, !write(&rest, to: writer.writing) { rest = [] }
      guard waits[0].revents != 0 else { continue }
      guard read(from: reader.reading, into: &output) else { break }
      guard output.count <= StandardStreams.limit else {
        throw failure("it has answered with more than \(StandardStreams.limit) bytes")
      }
    }
    isReaped = true
    return Outcome(status: status(of: child), output: output)
  }

  // MARK: System calls

  /// The two ends of a pipe, closed with it.
  private struct Stream: ~Copyable {
    private(set) var reading: Int32 = -1
    private(set) var writing: Int32 = -1

    /// Returns whether there are descriptors for it.
    mutating func open() -> Bool {
      var ends: [Int32] = [-1, -1]
      guard unsafe ovx_pipe(&ends) == 0 else { return false }
      (reading, writing) = (ends[0], ends[1])
      return true
    }

    mutating func closeReading() {
      if reading >= 0 { close(reading) }
      reading = -1
    }

    mutating func closeWriting() {
      if writing >= 0 { close(writing) }
      writing = -1
    }

    deinit {
      if reading >= 0 { close(reading) }
      if writing >= 0 { close(writing) }
    }
  }

  /// Why a program was not started: an error number.
  private struct SpawnFailure: Error {
    var number: Int32
  }

  private static func spawn(
    _ path: String, _ environment: [String: String], input: Int32, output: Int32
  ) throws(SpawnFailure) -> pid_t {
    // The child's end is an ordinary one; only ours must not block.
    _ = fcntl(input, F_SETFL, 0)
    var actions = unsafe posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    unsafe posix_spawn_file_actions_init(&actions)
    unsafe posix_spawnattr_init(&attributes)
    defer {
      unsafe posix_spawn_file_actions_destroy(&actions)
      unsafe posix_spawnattr_destroy(&attributes)
    }
    unsafe posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO)
    unsafe posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    var all = sigset_t()
    unsafe sigfillset(&all)
    unsafe posix_spawnattr_setsigdefault(&attributes, &all)
    unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF))
    var words = unsafe [strdup(path), nil]
    // A zero would end a variable early, and so make it another one.
    var variables =
      unsafe environment.filter { !$0.key.utf8.contains(0) && !$0.value.utf8.contains(0) }
      .map { unsafe strdup("\($0.key)=\($0.value)") } + [nil]
    defer { unsafe (words + variables).forEach { unsafe free($0) } }
    var child: pid_t = 0
    let failure = unsafe posix_spawn(&child, path, &actions, &attributes, &words, &variables)
    guard failure == 0 else { throw SpawnFailure(number: failure) }
    return child
  }

  /// Returns whether there may be more.
  private static func read(from descriptor: Int32, into output: inout [UInt8]) -> Bool {
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    let count = unsafe Glibc.read(descriptor, &chunk, chunk.count)
    guard count > 0 else { return count < 0 && (errno == EINTR || errno == EAGAIN) }
    output += chunk[..<count]
    return true
  }

  /// Returns whether the reader takes more.
  private static func write(_ rest: inout ArraySlice<UInt8>, to descriptor: Int32) -> Bool {
    let count = unsafe rest.withUnsafeBytes {
      unsafe Glibc.write(descriptor, $0.baseAddress, $0.count)
    }
    guard count >= 0 else { return errno == EINTR || errno == EAGAIN }
    rest = rest.dropFirst(count)
    return true
  }

  private static func status(of child: pid_t) -> Int32 {
    var status: Int32 = 0
    while unsafe waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { return -1 }
    }
    let signal = status & 0x7F
    return signal == 0 ? status >> 8 & 0xFF : 128 + signal
  }
}
