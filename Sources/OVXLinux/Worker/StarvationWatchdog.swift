private import CLinux
private import Glibc
private import Synchronization

/// Has workers go first for a while where the scheduler leaves them without a core.
///
/// A core that two threads of one session or control group keep busy by waking each other in turns
/// may be given to no other thread for tenths of a second, and for seconds (Linux 6.18, measured in
/// Benchmarks/EXPERIMENTS.md); a container can do that on purpose. A worker with real-time priority
/// does not notice, but it then interrupts the very programs whose frames it moves, which costs
/// throughput. So it has that only when it needs it, from a thread that always has it and does
/// little more than sleep, and ends with the last of them. Where the process may not use real-time
/// priorities there is no such thread, and workers get by with short turns.
@safe final class StarvationWatchdog: @unchecked Sendable {
  /// Raised when it is to end.
  private let end: Descriptor
  private let thread: pthread_t
  private let state: State

  /// What its thread tells of itself.
  private final class State: Sendable {
    let isAdmitted = Reply<Bool>()
    let isOver = Atomic<Bool>(false)
  }

  /// Whether it looks at nothing any more.
  var isOver: Bool { state.isOver.load(ordering: .relaxed) }

  /// Watches threads of this process, by their numbers.
  ///
  /// - Returns: `nil` where real-time priorities are not to be had.
  init?(_ threads: [Int32]) {
    let number = ovx_event_open()
    guard number >= 0 else { return nil }
    let end = Descriptor(owning: number)
    let state = State()
    guard
      let thread = try? startThread({
        Self.watch(threads, until: number, state)
        state.isOver.store(true, ordering: .relaxed)
      })
    else { return nil }
    guard state.isAdmitted.wait() else {
      pthread_join(thread, nil)
      return nil
    }
    self.end = end
    self.thread = thread
    self.state = state
  }

  deinit {
    ovx_event_raise(end.rawValue)
    pthread_join(thread, nil)
  }

  private static func watch(_ numbers: [Int32], until end: Int32, _ state: State) {
    unsafe ovx_name_thread("ovx-watchdog")
    ovx_permit_precedence()
    let isAllowed = ovx_take_precedence(0) == 0
    state.isAdmitted.give(isAllowed)
    guard isAllowed else { return }
    var threads = numbers.compactMap { WatchedThread($0) }
    var ended = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
    let pause = Int32(StarvationDetector.interval / 1_000_000)
    while !threads.isEmpty {
      let isQuiet = threads.allSatisfy { $0.detector.isQuiet }
      guard unsafe poll(&ended, 1, isQuiet ? 10 * pause : pause) <= 0 else { return }
      threads.removeAll { !$0.look() }
    }
  }
}

/// A thread, and what the kernel tells of it (proc_pid_stat(5), and schedstat as in
/// Documentation/scheduler/sched-stats.rst).
private final class WatchedThread {
  private(set) var detector = StarvationDetector()
  private let number: Int32
  private let state: Descriptor
  private let times: Descriptor

  /// `nil` where the kernel tells nothing (CONFIG_SCHED_INFO), or the process has no descriptor
  /// left.
  init?(_ number: Int32) {
    func file(_ name: String) -> Int32 {
      unsafe open("/proc/self/task/\(number)/\(name)", O_RDONLY | O_CLOEXEC)
    }
    let state = Descriptor(owning: file("stat"))
    let times = Descriptor(owning: file("schedstat"))
    guard state.rawValue >= 0, times.rawValue >= 0 else { return nil }
    self.number = number
    self.state = state
    self.times = times
  }

  /// Looks, and helps where that is needed; `false` where the thread has ended.
  func look() -> Bool {
    guard let look = now else { return false }
    switch detector.take(look) {
    case .unchanged: break
    case .starves: _ = ovx_take_precedence(number)
    case .recovers: ovx_take_short_turns(number)
    }
    return true
  }

  private var now: StarvationDetector.Look? {
    // The number, the name in parentheses, which may have some of its own, and then the state.
    let status = text(of: state)
    guard let name = status.lastIndex(of: UInt8(ascii: ")")) else { return nil }
    let ran = text(of: times).prefix { $0 != UInt8(ascii: " ") }
    guard let state = status[name...].dropFirst(2).first,
      let ran = UInt64(String(decoding: ran, as: UTF8.self))
    else {
      return nil
    }
    return StarvationDetector.Look(isRunnable: state == UInt8(ascii: "R"), ran: ran)
  }

  private func text(of file: borrowing Descriptor) -> [UInt8] {
    unsafe [UInt8](unsafeUninitializedCapacity: 128) { buffer, count in
      count = unsafe max(0, pread(file.rawValue, buffer.baseAddress, buffer.count, 0))
    }
  }
}
