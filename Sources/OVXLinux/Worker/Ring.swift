internal import CLinux
private import Glibc
internal import SystemPackage

/// What a completion belongs to, packed into the 64 bits that the kernel hands back with it.
struct CompletionTag: RawRepresentable, Equatable {
  /// From the low end: 8 bits kind, 24 bits index, 16 bits detail, 16 bits generation.
  let rawValue: UInt64

  enum Kind: UInt8 {
    /// Of no interest: a request to cancel another.
    case ignored
    /// A descriptor became readable; index: the source, generation: of its attachment.
    case readable
    /// A read is done; index: the slot.
    case read
    /// A frame could not be written; index: the port, detail: frames, generation: 1 for a
    /// superframe.
    case frame
    /// A datagram could not be sent; index: the path, detail: frames, generation: the port to
    /// charge.
    case datagram
    /// As `datagram`, for several of them in one send.
    case train
    /// An error was left on a socket; index: the path, generation: of its socket.
    case pathError
    /// A superframe could not be injected; index: the injector, detail: frames, generation: the
    /// port to charge.
    case injected
    /// The mailbox has something in it.
    case mailbox
    /// A second has passed.
    case tick
    /// The moment has passed for which sources were to be left alone; index: the `Pause`.
    case pauseOver
  }

  init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Packs a tag; of `index` only the low 24 bits are kept.
  init(_ kind: Kind, index: UInt32 = 0, detail: UInt16 = 0, generation: UInt16 = 0) {
    rawValue =
      UInt64(kind.rawValue) | UInt64(index & 0xFF_FFFF) << 8 | UInt64(detail) << 32
      | UInt64(generation) << 48
  }

  var kind: Kind { Kind(rawValue: UInt8(truncatingIfNeeded: rawValue)) ?? .ignored }
  var index: Int { Int(rawValue >> 8 & 0xFF_FFFF) }
  var detail: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) }
  var generation: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 48) }
}

/// What the kernel says of a request that is done.
struct Completion: Equatable {
  let tag: CompletionTag
  /// The request's result: a count of bytes or a set of events, or the negative of `errno`.
  let result: Int32
  /// Whether the same request will complete again.
  let hasMore: Bool

  var errno: Int32 { result < 0 ? -result : 0 }
}

/// An io_uring with a table of registered files, for one thread: the one that made it.
///
/// Requests are collected by `nextRequest()` and carried out, in their order, by `submit()` or
/// `wait()`. Except for polls and timeouts none of them ever waits in the kernel, so the memory
/// that they refer to is free again when the submitting call returns.
@safe struct Ring: ~Copyable {
  private let ring: UnsafeMutablePointer<io_uring>
  /// Table places that nothing is registered at.
  private var freeFiles: [UInt32]
  /// Why the kernel does not take requests any more: the ring is dead then, and whatever is still
  /// pending is lost.
  private(set) var failure: Errno?

  /// 256 requests of 64 bytes are collected at most before the kernel is entered: with the 64 reads
  /// of a step there is room for three frames sent per frame read, and the queue's 16 KB, used in
  /// rotation, leave room in the L1 cache.
  private static let submissionCount: UInt32 = 256
  /// 4,096: a poll's completion of every port at once; if they do not fit, the kernel keeps the
  /// rest for later.
  private static let completionCount: UInt32 = 4096
  /// Submissions in a row that the kernel may put off for want of memory before the ring counts as
  /// dead.
  private static let patience = 10_000

  /// Makes a ring that belongs to the calling thread.
  ///
  /// - Parameter fileLimit: Files that can be registered at a time; fewer where the process may not
  ///   have that many open.
  /// - Throws: Where the kernel has no io_uring for this process, or is older than 5.19.
  init(fileLimit: Int) throws(LinuxError) {
    let ring = UnsafeMutablePointer<io_uring>.allocate(capacity: 1)
    unsafe ring.initialize(to: io_uring())
    let opened = unsafe ovx_ring_open(ring, Self.submissionCount, Self.completionCount)
    guard opened == 0 else {
      unsafe ring.deallocate()
      throw Self.refusal(-opened)
    }
    let fileCount = min(fileLimit, OpenFileLimit.raise(atLeast: fileLimit + Self.reservedFiles))
    let registered = unsafe io_uring_register_files_sparse(ring, UInt32(clamping: fileCount))
    guard registered == 0 else {
      unsafe io_uring_queue_exit(ring)
      unsafe ring.deallocate()
      throw LinuxError(
        action: "register",
        subject: "\(fileCount) files with io_uring",
        errno: Errno(rawValue: -registered),
        remedy: "Linux 5.19 or later is needed"
      )
    }
    unsafe self.ring = unsafe ring
    freeFiles = Array((0..<UInt32(clamping: fileCount)).reversed())
  }

  deinit {
    if failure != Self.closed { unsafe io_uring_queue_exit(ring) }
    unsafe ring.deallocate()
  }

  /// Gives everything back to the kernel; nothing is pending and nothing completes any more.
  mutating func close() {
    guard failure != Self.closed else { return }
    unsafe io_uring_queue_exit(ring)
    failure = Self.closed
  }

  /// The failure of a ring that was closed.
  static let closed = Errno.badFileDescriptor

  // MARK: Files

  /// Registers a descriptor and returns its place in the table.
  ///
  /// The table holds the open file from now on, whether or not the descriptor is closed.
  mutating func register(_ descriptor: Int32, _ subject: String) throws(LinuxError) -> UInt32 {
    if let failure {
      throw LinuxError(
        action: "serve",
        subject: subject,
        errno: failure,
        detail: "the worker has stopped"
      )
    }
    guard let file = freeFiles.popLast() else {
      throw LinuxError(
        action: "serve",
        subject: subject,
        errno: .tooManyOpenFiles,
        remedy: "raise the limit of open files (LimitNOFILE= of the service)"
      )
    }
    var descriptor = descriptor
    let updated = unsafe io_uring_register_files_update(ring, file, &descriptor, 1)
    guard updated == 1 else {
      freeFiles.append(file)
      throw LinuxError(
        action: "register with io_uring",
        subject: subject,
        errno: Errno(rawValue: -updated)
      )
    }
    return file
  }

  /// Takes a file out of the table; the requests that refer to it are to be done or cancelled.
  mutating func unregister(_ file: UInt32) {
    guard failure != Self.closed else { return }
    var nothing: Int32 = -1
    _ = unsafe io_uring_register_files_update(ring, file, &nothing, 1)
    freeFiles.append(file)
  }

  // MARK: Requests

  /// The next request to fill in; submits what is pending where there is no room.
  ///
  /// It is `nil` only if the ring is dead.
  mutating func nextRequest() -> UnsafeMutablePointer<io_uring_sqe>? {
    guard failure == nil else { return nil }
    if let entry = unsafe ovx_ring_entry(ring) { return unsafe entry }
    submit()
    guard failure == nil else { return nil }
    return unsafe ovx_ring_entry(ring)
  }

  /// Whether requests wait to be submitted.
  var hasPending: Bool { unsafe ovx_ring_pending(ring) > 0 }

  /// Hands the pending requests to the kernel and collects completions, without waiting.
  mutating func submit() {
    unsafe enter { ring in unsafe io_uring_submit_and_get_events(ring) }
  }

  /// Hands the pending requests to the kernel and waits until there is a completion.
  mutating func wait() {
    unsafe enter { ring in unsafe io_uring_submit_and_wait(ring, 1) }
  }

  /// Looks for completions for some time without sleeping, and says whether there are any.
  mutating func spin(nanoseconds: Int) -> Bool {
    guard failure == nil else { return false }
    return unsafe ovx_ring_spin(ring, nanoseconds)
  }

  /// Enters the kernel until it has taken every pending request.
  ///
  /// A request left behind would be carried out later, with memory that belongs to other frames by
  /// then.
  private mutating func enter(_ call: (UnsafeMutablePointer<io_uring>) -> Int32) {
    guard failure == nil else { return }
    var result = unsafe call(ring)
    var attempts = 0
    while result < 0 || hasPending {
      attempts += 1
      let errno = Errno(rawValue: result < 0 ? -result : EAGAIN)
      let isPassing = [.interrupted, .resourceTemporarilyUnavailable, .resourceBusy].contains(errno)
      guard isPassing, attempts < Self.patience else {
        failure = errno
        return
      }
      if errno != .interrupted { sched_yield() }
      result = unsafe io_uring_submit_and_get_events(ring)
    }
  }

  /// Takes the oldest completion there is.
  mutating func nextCompletion() -> Completion? {
    guard failure != Self.closed, let entry = unsafe ovx_ring_peek(ring) else { return nil }
    let completion = unsafe Completion(
      tag: CompletionTag(rawValue: entry.pointee.user_data),
      result: entry.pointee.res,
      hasMore: entry.pointee.flags & IORING_CQE_F_MORE != 0
    )
    unsafe ovx_ring_advance(ring)
    return completion
  }

  // MARK: Making

  /// Descriptors that the daemon needs beside those of devices and tunnels: its database, control
  /// clients, netlink.
  private static let reservedFiles = 1024

  private static func refusal(_ code: Int32) -> LinuxError {
    let errno = Errno(rawValue: code)
    let remedy: String? =
      switch errno {
      case .notPermitted, .permissionDenied:
        "io_uring is forbidden here: `sysctl kernel.io_uring_disabled=0`, and allow it in the container's seccomp"
          + " profile"
      case .noFunction: "Linux 5.19 or later is needed, built with CONFIG_IO_URING"
      case .noMemory: "raise the limit of locked memory (LimitMEMLOCK= of the service)"
      default: nil
      }
    return LinuxError(action: "make", subject: "an io_uring", errno: errno, remedy: remedy)
  }
}
