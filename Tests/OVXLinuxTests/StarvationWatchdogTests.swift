import Glibc
import Synchronization
import Testing

@testable import OVXLinux

/// A thread of the real kernel that gets next to nothing of its core, and is helped.
@Suite(.serialized) struct StarvationWatchdogTests {
  /// Threads on one core: those that never let go of it, and one that counts only where the core is
  /// idle.
  private final class CrowdedCore: Sendable {
    let number = Atomic<Int32>(0)
    private let isOver = Atomic<Bool>(false)
    private let isCrowded = Atomic<Bool>(true)
    private let threads = Mutex<[pthread_t]>([])

    init() throws {
      let poor = try startThread { [self] in
        Self.stayOnOneCore()
        var parameters = sched_param()
        sched_setscheduler(0, SCHED_IDLE, &parameters)
        number.store(gettid(), ordering: .relaxed)
        while !isOver.load(ordering: .relaxed) { usleep(1_000) }
      }
      threads.withLock { $0.append(poor) }
      for _ in 0..<3 {
        let rich = try startThread { [self] in
          Self.stayOnOneCore()
          while isCrowded.load(ordering: .relaxed) {}
        }
        threads.withLock { $0.append(rich) }
      }
    }

    private static func stayOnOneCore() {
      var cores = cpu_set_t()
      withUnsafeMutableBytes(of: &cores) { $0[0] = 1 }
      sched_setaffinity(0, MemoryLayout<cpu_set_t>.size, &cores)
    }

    /// The policy of the thread that gets nothing.
    var policy: Int32 {
      // Without SCHED_RESET_ON_FORK.
      sched_getscheduler(number.load(ordering: .relaxed)) & 0xFFFF
    }

    func clear() { isCrowded.store(false, ordering: .relaxed) }

    func end() {
      clear()
      isOver.store(true, ordering: .relaxed)
      for thread in threads.withLock({ $0 }) { pthread_join(thread, nil) }
    }
  }

  private func eventually(_ isSo: () -> Bool) -> Bool {
    for _ in 0..<2_000 where !isSo() { usleep(5_000) }
    return isSo()
  }

  @Test(.enabled(if: isRoot, "real-time priorities take root"))
  func whoStarvesGoesFirst() throws {
    let core = try CrowdedCore()
    defer { core.end() }
    #expect(eventually { core.number.load(ordering: .relaxed) != 0 })
    #expect(core.policy == SCHED_IDLE)
    let watchdog = try #require(StarvationWatchdog([core.number.load(ordering: .relaxed)]))
    #expect(eventually { core.policy == SCHED_RR })
    core.clear()
    #expect(eventually { core.policy == SCHED_OTHER })
    withExtendedLifetime(watchdog) {}
  }

  /// A thread that has ended, and a number that is none: nothing to watch, and nothing goes wrong.
  @Test(.enabled(if: isRoot, "real-time priorities take root"))
  func threadsThatAreNotThere() throws {
    let core = try CrowdedCore()
    #expect(eventually { core.number.load(ordering: .relaxed) != 0 })
    let watchdog = try #require(
      StarvationWatchdog([core.number.load(ordering: .relaxed), 0, -1, .max]))
    core.end()
    usleep(100_000)
    withExtendedLifetime(watchdog) {}
  }
}
