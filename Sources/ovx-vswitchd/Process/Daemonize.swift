private import CLinux
private import Glibc
private import OVXLinux
private import SystemPackage

/// Starting into the background, with the outcome known to whoever waits for it.
///
/// A Swift process cannot fork: its run-time's threads would be missing in the copy. So the command
/// that was typed starts the program a second time, in a session of its own and with a pipe as
/// descriptor 3, and ends when that one has said down the pipe how its start-up went: a lone "+"
/// for ready, else the sentence that explains the failure.
enum Daemonize {
  private static let readyMark = "+"

  /// Starts the program anew with these arguments, its own name not among them, and waits until it
  /// has reported.
  ///
  /// Throws its reason where it failed.
  static func launch(arguments: [String]) throws(StartFailure) {
    let report: FileDescriptor
    let child: pid_t
    do {
      let pipe = try FileDescriptor.pipe()
      report = pipe.readEnd
      defer { try? pipe.writeEnd.close() }
      child = try spawn(
        ["ovx-vswitchd"] + arguments + ["--readiness", "\(OVX_REPORT_DESCRIPTOR)"],
        reportingTo: pipe.writeEnd)
    } catch {
      throw StartFailure("a background process cannot be started: \(error); leave out --detach")
    }
    defer { try? report.close() }

    let message = report.readAll()
    if message == readyMark { return }
    guard message.isEmpty else { throw StartFailure(message) }
    var status: Int32 = 0
    unsafe waitpid(child, &status, 0)
    throw StartFailure(
      "the background process, pid \(child), ended while it was starting "
        + (status & 0x7F == 0 ? "with status \(status >> 8 & 0xFF)" : "by signal \(status & 0x7F)")
        + "; its log may say why")
  }

  private static func spawn(
    _ arguments: [String], reportingTo pipe: FileDescriptor
  ) throws(Errno) -> pid_t {
    var strings = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe strings.forEach { unsafe free($0) } }
    let child = unsafe ovx_spawn_daemon(&strings, pipe.rawValue, ServiceNotification.isExpected)
    guard child > 0 else { throw Errno(rawValue: -child) }
    return child
  }

  /// In the program that was started so: tells the waiting command that all is well.
  static func reportReady(to descriptor: Int32) {
    report(readyMark, to: descriptor)
  }

  /// In the program that was started so: tells the waiting command why it cannot start.
  static func reportFailure(_ sentence: String, to descriptor: Int32) {
    report(sentence, to: descriptor)
  }

  private static func report(_ text: String, to descriptor: Int32) {
    let pipe = FileDescriptor(rawValue: descriptor)
    _ = try? pipe.writeAll(text.utf8)
    try? pipe.close()
  }
}
