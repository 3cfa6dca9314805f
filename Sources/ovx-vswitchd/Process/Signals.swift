private import CLinux
private import Glibc

/// The signals that a daemon lives by, as a descriptor to poll.
///
/// They are blocked in the thread that makes this and in every thread started afterwards, so they
/// can arrive nowhere else, and nothing has to be written to be safe inside a handler.
struct Signals: ~Copyable {
  enum Request {
    case stop
    case reopenLog
  }

  let descriptor: Int32

  init() throws(StartFailure) {
    // Writing to a client that has gone is an error to handle, not a reason to die.
    signal(SIGPIPE, SIG_IGN)
    var set = sigset_t()
    unsafe sigemptyset(&set)
    for number in [SIGTERM, SIGINT, SIGHUP] { unsafe sigaddset(&set, number) }
    unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    descriptor = unsafe signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
    guard descriptor >= 0 else {
      throw StartFailure("signals cannot be received: signalfd failed with error \(errno)")
    }
  }

  /// The next signal that has arrived, if any.
  func next() -> Request? {
    var information = signalfd_siginfo()
    let size = MemoryLayout<signalfd_siginfo>.size
    guard unsafe read(descriptor, &information, size) == size else { return nil }
    return Int32(truncatingIfNeeded: information.ssi_signo) == SIGHUP ? .reopenLog : .stop
  }

  deinit {
    close(descriptor)
  }
}
