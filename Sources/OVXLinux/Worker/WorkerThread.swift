private import CLinux
private import Glibc
private import Synchronization
private import SystemPackage

/// A value that one thread waits for and another one gives.
final class Reply<Answer: Sendable>: Sendable {
  private let answer = Mutex<Answer?>(nil)
  private let given = Semaphore()

  func give(_ value: Answer) {
    answer.withLock { $0 = value }
    given.signal()
  }

  func wait() -> Answer {
    while true {
      given.wait()
      if let value = answer.withLock({ $0 }) { return value }
    }
  }
}

/// A POSIX semaphore, 0 at first.
@safe private final class Semaphore: @unchecked Sendable {
  private let semaphore: UnsafeMutablePointer<sem_t>

  init() {
    unsafe semaphore = .allocate(capacity: 1)
    unsafe semaphore.initialize(to: sem_t())
    _ = unsafe sem_init(semaphore, 0, 0)
  }

  deinit {
    _ = unsafe sem_destroy(semaphore)
    unsafe semaphore.deallocate()
  }

  func signal() { _ = unsafe sem_post(semaphore) }

  /// Waits until it is signalled.
  func wait() {
    while unsafe sem_wait(semaphore) != 0, errno == EINTR {}
  }
}

/// A worker's thread: it makes the worker, runs it, and leaves it behind when it ends.
@safe final class WorkerThread: @unchecked Sendable {
  private let core: Core
  private let thread: Mutex<pthread_t?>

  /// Starts the thread.
  ///
  /// - Throws: Where the kernel refuses a ring, memory or a thread, with the likely cause and the
  ///   remedy.
  init(events: EventQueue, sync: WorkerSync) throws(LinuxError) {
    let core = Core(mailbox: try Mailbox(), events: events, sync: sync)
    self.core = core
    do throws(Errno) {
      thread = Mutex(try startThread { core.run() })
    } catch {
      throw LinuxError(
        action: "start",
        subject: "the worker's thread",
        errno: error,
        remedy: "raise the limit of tasks (TasksMax= of the service)"
      )
    }
    core.hasStarted.wait()
    if let failure = core.failure.withLock({ $0 }) {
      join()
      throw failure
    }
  }

  /// What the kernel calls the thread.
  var number: Int32 { core.number.load(ordering: .relaxed) }

  /// Waits until the thread has ended; at once if somebody else has waited for it.
  func join() {
    thread.withLock { thread in
      guard let number = thread else { return }
      _ = pthread_join(number, nil)
      thread = nil
    }
  }

  /// Leaves a command for the worker and returns where its answer is going to be.
  ///
  /// A worker that has stopped needs no thread: the caller's does it then, at once.
  func command<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Worker) -> Answer
  ) -> Reply<Answer> {
    let reply = Reply<Answer>()
    if !core.mailbox.post({ worker in reply.give(work(&worker)) }) {
      reply.give(withStoppedWorker(work))
    }
    return reply
  }

  /// Tells the worker to stop, without waiting for it.
  func tellToStop() {
    _ = core.mailbox.post { worker in worker.stop() }
  }

  /// Does something with a worker that no thread runs any more.
  private func withStoppedWorker<Answer>(_ work: (inout Worker) -> Answer) -> Answer {
    join()
    return thread.withLock { _ in unsafe work(&core.worker.pointee) }
  }

  /// What outlives both the handle and the thread, whichever goes last.
  @safe fileprivate final class Core: @unchecked Sendable {
    let mailbox: Mailbox
    let events: EventQueue
    let sync: WorkerSync
    let hasStarted = Semaphore()
    let failure = Mutex<LinuxError?>(nil)
    /// What the kernel calls the thread, once it has started.
    let number = Atomic<Int32>(0)
    /// Initialised by the thread, unless there was none or it failed to.
    let worker = UnsafeMutablePointer<Worker>.allocate(capacity: 1)
    private var hasWorker = false

    init(mailbox: Mailbox, events: EventQueue, sync: WorkerSync) {
      self.mailbox = mailbox
      self.events = events
      self.sync = sync
    }

    deinit {
      if hasWorker { unsafe worker.deinitialize(count: 1) }
      unsafe worker.deallocate()
    }

    func run() {
      unsafe ovx_name_thread("ovx-worker")
      ovx_take_short_turns(0)
      number.store(ovx_thread_number(), ordering: .relaxed)
      do throws(LinuxError) {
        unsafe worker.initialize(
          to: try Worker(mailbox: mailbox, events: events, sync: sync))
      } catch {
        failure.withLock { $0 = error }
        hasStarted.signal()
        return
      }
      hasWorker = true
      hasStarted.signal()
      unsafe worker.pointee.run()
      while !mailbox.closeIfEmpty() {
        for command in mailbox.takeAll() { unsafe command(&worker.pointee) }
      }
    }
  }
}
