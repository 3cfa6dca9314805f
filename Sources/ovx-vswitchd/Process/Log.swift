private import Glibc
private import Synchronization
internal import Logging
internal import OVXControl
internal import SystemPackage

/// Where log lines go: the standard error, or a file that is opened anew on request so that it can
/// be rotated.
///
/// Nobody waits for a line to be written.
final class LogDestination: Sendable {
  private let path: String?
  private let threshold: Mutex<Logger.Level>
  private let writer: LogWriter

  /// Opens the destination.
  ///
  /// - Parameters:
  ///   - path: The file to append to, made with mode 0640 if missing; `nil` for the standard error.
  ///   - level: Less important lines are left out.
  /// - Throws: That the file cannot be opened, or must not be.
  init(path: String?, level: Logger.Level) throws(StartFailure) {
    self.path = path
    threshold = Mutex(level)
    var file = FileDescriptor.standardError
    if let path {
      try checkPlace(
        of: "the log file \(path)", directory: FilePath(path).removingLastComponent(),
        option: "--log-file")
      do throws(Errno) { file = try Self.open(path) } catch {
        throw StartFailure(
          "the log file \(path) cannot be opened: \(error); choose another with --log-file")
      }
    }
    do throws(Errno) {
      writer = try LogWriter(to: file) { count in
        Self.line(
          "\(count) \(count == 1 ? "line" : "lines") of this log \(count == 1 ? "is" : "are") lost: "
            + "they could not be written in time", level: .warning)
      }
    } catch {
      throw StartFailure(
        "the log's thread cannot be started: \(error); raise TasksMax= of the service")
    }
  }

  /// The level from which on lines are written.
  var level: Logger.Level {
    get { threshold.withLock { $0 } }
    set { threshold.withLock { $0 = newValue } }
  }

  /// Opens the file by its name again; where that fails the open one stays in use.
  func reopen() throws(Errno) {
    guard let path else { return }
    writer.change(to: try Self.open(path))
  }

  /// Has one line written: time, level and message.
  ///
  /// What cannot be written in time is lost, and counted; a log must not stop a switch.
  func write(_ message: String, level: Logger.Level) {
    writer.write(Self.line(message, level: level))
  }

  /// Gives the last lines before the end a moment to be written.
  func flush() { writer.flush(within: .seconds(1)) }

  private static func line(_ message: String, level: Logger.Level) -> [UInt8] {
    // What others named must not forge lines, nor drive the terminal that shows them, nor fill the
    // disk.
    Array("\(timestamp()) \(level.rawValue): \(printable(brief(message)))\n".utf8)
  }

  private static func open(_ path: String) throws(Errno) -> FileDescriptor {
    try TrustedFile.open(
      FilePath(path), .writeOnly, options: [.append, .create],
      permissions: [.ownerReadWrite, .groupRead], kind: .stream)
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
