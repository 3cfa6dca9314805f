import CLinux
import Glibc
import Synchronization
import Testing

@testable import OVXLinux

/// A thread of the real kernel that gets next to nothing of its core, and is helped.
@Suite(.serialized) struct StarvationWatchdogTests {
  /// SCHED_IDLE of <linux/sched.h>.
  private static let idle: Int32 = 5

  /// Threads that never let go of the cores, and one that counts only where a core is idle.
  private final class CrowdedMachine: Sendable {
    let number = Atomic<Int32>(0)
    private let isOver = Atomic<Bool>(false)
    private let isCrowded = Atomic<Bool>(true)
    private let threads = Mutex<[pthread_t]>([])

    init() throws {
      let poor = try startThread { [self] in
        _ = ovx_schedule(0, UInt32(StarvationWatchdogTests.idle), 0, 0)
        number.store(ovx_thread_number(), ordering: .relaxed)
        while !isOver.load(ordering: .relaxed) { usleep(1_000) }
      }
      threads.withLock { $0.append(poor) }
      for _ in 0..<3 * sysconf(Int32(_SC_NPROCESSORS_ONLN)) {
        let rich = try startThread { [self] in
          while isCrowded.load(ordering: .relaxed) {}
        }
        threads.withLock { $0.append(rich) }
      }
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
    let machine = try CrowdedMachine()
    defer { machine.end() }
    #expect(eventually { machine.number.load(ordering: .relaxed) != 0 })
    #expect(machine.policy == Self.idle)
    let watchdog = try #require(StarvationWatchdog([machine.number.load(ordering: .relaxed)]))
    #expect(eventually { machine.policy == SCHED_RR })
    machine.clear()
    #expect(eventually { machine.policy == SCHED_OTHER })
    withExtendedLifetime(watchdog) {}
  }

  /// A thread that has ended, and a number that is none: nothing to watch, and nothing goes wrong.
  @Test(.enabled(if: isRoot, "real-time priorities take root"))
  func threadsThatAreNotThere() throws {
    let machine = try CrowdedMachine()
    #expect(eventually { machine.number.load(ordering: .relaxed) != 0 })
    let watchdog = try #require(
      StarvationWatchdog([machine.number.load(ordering: .relaxed), 0, -1, .max]))
    machine.end()
    #expect(eventually { watchdog.isOver })
  }

  @Test(.enabled(if: isRoot, "real-time priorities take root"))
  func itStopsWithItsWorkers() throws {
    let dataplane = try Switch(workers: 2)
    let watchdog = try #require(dataplane.watchdog)
    // A command is carried out by a thread that runs.
    _ = dataplane.performOnAll { _ in }
    #expect(!watchdog.isOver)
    dataplane.stop()
    #expect(eventually { watchdog.isOver })
  }
}
