private import Glibc
private import Synchronization
internal import Logging
internal import OVXControl
internal import SystemPackage

/// Where log lines go: the standard error, or a file that is opened anew on request so that it can be rotated.
final class LogDestination: Sendable {
  private struct State {
    var file: FileDescriptor
    var level: Logger.Level
  }

  private let path: String?
  private let state: Mutex<State>

  /// Opens the destination.
  ///
  /// - Parameters:
  ///   - path: The file to append to, made with mode 0640 if missing; `nil` for the standard error.
  ///   - level: Less important lines are left out.
  /// - Throws: That the file cannot be opened.
  init(path: String?, level: Logger.Level) throws(StartFailure) {
    self.path = path
    let file: FileDescriptor
    if let path {
      do { file = try Self.open(path) } catch {
        throw StartFailure(
          "the log file \(path) cannot be opened: \(error); choose another with --log-file")
      }
    } else {
      file = .standardError
    }
    state = Mutex(State(file: file, level: level))
  }

  /// The level from which on lines are written.
  var level: Logger.Level {
    get { state.withLock { $0.level } }
    set { state.withLock { $0.level = newValue } }
  }

  /// Opens the file by its name again; where that fails the open one stays in use.
  func reopen() throws(Errno) {
    guard let path else { return }
    let file = try Self.open(path)
    let old = state.withLock { state in
      let old = state.file
      state.file = file
      return old
    }
    try? old.close()
  }

  /// Writes one line: time, level and message.
  ///
  /// What cannot be written is lost; a log must not stop a switch.
  func write(_ message: String, level: Logger.Level) {
    // What others named must not forge lines, nor drive the terminal that shows them.
    let line = "\(Self.timestamp()) \(level.rawValue): \(printable(message))\n"
    let file = state.withLock { $0.file }
    _ = try? file.writeAll(line.utf8)
  }

  private static func open(_ path: String) throws(Errno) -> FileDescriptor {
    do {
      return try FileDescriptor.open(
        FilePath(path), .writeOnly, options: [.append, .create, .closeOnExec],
        permissions: [.ownerReadWrite, .groupRead])
    } catch {
      throw error as? Errno ?? .ioError
    }
  }

  /// The time of day in UTC, to the millisecond, as RFC 3339 writes it.
  private static func timestamp() -> String {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    var parts = unsafe tm()
    unsafe gmtime_r(&now.tv_sec, &parts)
    func digits(_ value: Int, _ count: Int) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
    }
    let date = [
      unsafe digits(Int(parts.tm_year) + 1900, 4), unsafe digits(Int(parts.tm_mon) + 1, 2),
      unsafe digits(Int(parts.tm_mday), 2),
    ].joined(separator: "-")
    let time = [
      unsafe digits(Int(parts.tm_hour), 2), unsafe digits(Int(parts.tm_min), 2),
      unsafe digits(Int(parts.tm_sec), 2),
    ].joined(separator: ":")
    return "\(date)T\(time).\(digits(now.tv_nsec / 1_000_000, 3))Z"
  }
}

/// The back end of every `Logger` in the process.
///
/// Its level is the destination's, so it can be changed while running.
struct LogOutput: LogHandler {
  let destination: LogDestination
  var metadata: Logger.Metadata = [:]
  var metadataProvider: Logger.MetadataProvider?

  init(destination: LogDestination) {
    self.destination = destination
  }

  var logLevel: Logger.Level {
    get { destination.level }
    set { destination.level = newValue }
  }

  func log(event: LogEvent) {
    destination.write(event.message.description, level: event.level)
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }
}

extension Logger.Level {
  init(_ level: LogLevel) { self = Self(rawValue: level.rawValue) ?? .info }
}

extension LogLevel {
  init(_ level: Logger.Level) { self = Self(rawValue: level.rawValue) ?? .info }
}
