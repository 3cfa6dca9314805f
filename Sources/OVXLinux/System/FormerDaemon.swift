private import Glibc

/// A daemon that ran before this one and was killed.
///
/// Whatever its io_uring had registered stays open for a moment after its process is gone: devices
/// and ports that only it had seem to be in use.
enum FormerDaemon {
  /// Two seconds from the first thing in use that this process found, for all together.
  private static let deadline = ContinuousClock.now + .seconds(2)

  /// Repeats an attempt while it fails because something is in use, until that can be no former
  /// daemon's any more.
  ///
  /// - Parameters:
  ///   - code: The error that says so.
  ///   - attempt: Gives back 0, or the negative of an error.
  /// - Returns: What the last attempt gave back.
  static func retryWhileBusy(_ code: Int32, _ attempt: () -> Int32) -> Int32 {
    var result = attempt()
    while result == -code, ContinuousClock.now < deadline {
      usleep(10_000)
      result = attempt()
    }
    return result
  }
}
