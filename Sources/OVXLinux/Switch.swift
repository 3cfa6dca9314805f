private import CLinux
private import Glibc
package import OVXDatapath
private import Synchronization
package import SystemPackage

/// A running switch: one worker thread with its ring and its `Datapath`, and the handle to command it by.
///
/// Commands are carried out between two bursts, in the order they were given, and each call returns when its command
/// is in force. All of it may be called from any thread but the worker's own, on which it would wait for itself.
package final class Switch: Sendable {
  private let mailbox: Mailbox
  private let events: EventQueue
  private let thread: WorkerThread

  /// Starts the worker.
  ///
  /// - Throws: Where the kernel refuses a ring, memory or a thread, with the likely cause and the remedy.
  package init() throws(LinuxError) {
    mailbox = try Mailbox()
    events = try EventQueue()
    thread = try WorkerThread(mailbox: mailbox, events: events)
  }

  deinit {
    stop()
  }

  /// Attaches a TAP device as a port.
  ///
  /// The worker owns it from now on, and closes it also where this throws. What was attached as that port before is
  /// detached first.
  package func attach(_ device: consuming TAP, as port: PortID) throws(LinuxError) {
    let number = device.takeDescriptor().release()
    try check(call { worker in worker.attach(number, .tap, as: port) })
  }

  /// Attaches an existing interface as a port; as for a TAP.
  package func attach(_ device: consuming PacketSocket, as port: PortID) throws(LinuxError) {
    let number = device.takeDescriptor().release()
    try check(call { worker in worker.attach(number, .packet, as: port) })
  }

  /// Detaches and closes the device of a port.
  ///
  /// Its number may be used again afterwards. Does nothing where there is none.
  package func detach(_ port: PortID) {
    call { worker in worker.detach(port) }
  }

  /// Receives datagrams by a listening socket, which the worker owns from now on.
  package func open(_ endpoint: EndpointID, socket: consuming UDPSocket) throws(LinuxError) {
    let number = socket.takeDescriptor().release()
    try check(call { worker in worker.open(endpoint, number) })
  }

  /// Closes a listening socket; does nothing where there is none.
  package func close(_ endpoint: EndpointID) {
    call { worker in worker.close(endpoint) }
  }

  /// Sends by a connected socket, which the worker owns from now on.
  ///
  /// Paths are numbered from 0 to `pathLimit` - 1.
  package func open(_ path: PathID, socket: consuming UDPSocket) throws(LinuxError) {
    let number = socket.takeDescriptor().release()
    try check(call { worker in worker.open(path, number) })
  }

  /// Closes a sending socket; does nothing where there is none.
  package func close(_ path: PathID) {
    call { worker in worker.close(path) }
  }

  /// Sends whole superframes by an injector, which the worker owns from now on.
  package func open(_ number: InjectorID, injector: consuming Injector) throws(LinuxError) {
    let descriptor = injector.takeDescriptor().release()
    try check(call { worker in worker.open(number, descriptor) })
  }

  /// Closes an injector; does nothing where there is none.
  package func close(_ number: InjectorID) {
    call { worker in worker.close(number) }
  }

  /// The bound of path numbers: four for each remote VTEP there can be.
  package static let pathLimit = Transmitter.pathLimit

  /// Swaps in a topology.
  ///
  /// Devices and sockets that it refers to are to be attached before, those that it does not refer to any more to be
  /// detached after.
  package func apply(_ topology: Topology) {
    call { worker in worker.apply(topology) }
  }

  /// The largest IP packet that the path of a sending socket takes now, in bytes; `nil` where there is no such socket.
  package func pathMTU(of path: PathID) -> Int? {
    call { worker in worker.pathMTU(of: path) }
  }

  /// The addresses and UDP ports that a sending socket joins; `nil` where there is no such socket.
  package func ends(of path: PathID) -> SocketEnds? {
    call { worker in worker.ends(of: path) }
  }

  /// Begins a capture; `false` where there are `CaptureSet.limit` already, or the worker has stopped.
  ///
  /// It ends by itself when its reader goes away, or what it is of.
  package func start(_ capture: Capture) -> Bool {
    call { worker in worker.start(capture) }
  }

  /// Captures at a time.
  package static let captureLimit = CaptureSet.limit

  /// Ends a capture and tells what it counted; `nil` where there is none of this number.
  package func endCapture(_ number: UInt64) -> CaptureCounts? {
    call { worker in worker.endCapture(number) }
  }

  /// Runs something on the datapath between two bursts and returns what it returned; frames wait that long.
  package func perform<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Datapath) -> Answer
  ) -> Answer {
    call { worker in work(&worker.datapath) }
  }

  /// Something that the worker noticed and the control side should know.
  package enum Event: Hashable, Sendable {
    /// The device of a port is gone or broken: it is not read any more. It stays attached until `detach`.
    case deviceLost(PortID, Errno)
    /// The device of a port went down; it is read again by itself when it comes up.
    case deviceDown(PortID)
    /// A train was larger than the path's MTU: ask `pathMTU(of:)` again. At most one per path and second.
    case pathNarrowed(PathID)
    /// Addresses keep moving between places: `Datapath.takeFlappingAddresses` tells which.
    case addressesFlap
    /// An injector takes nothing any more; superframes are cut until the next topology.
    case injectorLost(InjectorID, Errno)
    /// The worker has stopped because the ring failed.
    case workerFailed(LinuxError)
  }

  /// Readable (poll it for `POLLIN`) while there are events; belongs to the switch.
  package var eventDescriptor: Int32 { events.descriptor }

  /// Takes the events there are, oldest first, and makes the descriptor unreadable.
  package func takeEvents() -> [Event] { events.takeAll() }

  /// Stops the worker and closes everything it owns.
  ///
  /// Afterwards nothing is forwarded any more; counters and addresses can still be asked for.
  package func stop() {
    _ = mailbox.post { worker in worker.stop() }
    thread.join()
  }

  /// Has the worker carry something out, and waits for it.
  ///
  /// A worker that has stopped needs no thread: the caller's does it then.
  private func call<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Worker) -> Answer
  ) -> Answer {
    let reply = Reply<Answer>()
    guard mailbox.post({ worker in reply.give(work(&worker)) }) else {
      return thread.withStoppedWorker(work)
    }
    return reply.wait()
  }

  private func check(_ error: LinuxError?) throws(LinuxError) {
    if let error { throw error }
  }
}

/// A value that one thread waits for and another one gives.
private final class Reply<Answer: Sendable>: Sendable {
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

  /// Waits until it is signalled; may also return for no reason.
  func wait() { _ = unsafe sem_wait(semaphore) }
}

/// The worker's thread: it makes the worker, runs it, and leaves it behind when it ends.
@safe private final class WorkerThread: @unchecked Sendable {
  private let core: Core
  private let thread: Mutex<pthread_t?>

  init(mailbox: Mailbox, events: EventQueue) throws(LinuxError) {
    core = Core(mailbox: mailbox, events: events)
    var thread = pthread_t()
    // Signals are the business of the main thread: the worker's is made with all of them blocked.
    var all = sigset_t()
    var previous = sigset_t()
    _ = unsafe sigfillset(&all)
    _ = unsafe pthread_sigmask(SIG_SETMASK, &all, &previous)
    let context = unsafe Unmanaged.passRetained(core)
    let code = unsafe pthread_create(
      &thread,
      nil,
      { context in
        guard let context = unsafe context else { return nil }
        unsafe Unmanaged<Core>.fromOpaque(context).takeRetainedValue().run()
        return nil
      },
      context.toOpaque()
    )
    _ = unsafe pthread_sigmask(SIG_SETMASK, &previous, nil)
    guard code == 0 else {
      unsafe context.release()
      throw LinuxError(
        action: "start",
        subject: "the worker's thread",
        errno: Errno(rawValue: code),
        remedy: "raise the limit of tasks (TasksMax= of the service)"
      )
    }
    self.thread = Mutex(thread)
    core.hasStarted.wait()
    if let failure = core.failure.withLock({ $0 }) {
      join()
      throw failure
    }
  }

  /// Waits until the thread has ended; at once if somebody else has waited for it.
  func join() {
    thread.withLock { thread in
      guard let number = thread else { return }
      _ = pthread_join(number, nil)
      thread = nil
    }
  }

  /// Does something with a worker that no thread runs any more.
  func withStoppedWorker<Answer>(_ work: (inout Worker) -> Answer) -> Answer {
    join()
    return thread.withLock { _ in unsafe work(&core.worker.pointee) }
  }

  /// What outlives both the handle and the thread, whichever goes last.
  @safe final class Core: @unchecked Sendable {
    let mailbox: Mailbox
    let events: EventQueue
    let hasStarted = Semaphore()
    let failure = Mutex<LinuxError?>(nil)
    /// Initialised by the thread, unless it failed to.
    let worker = UnsafeMutablePointer<Worker>.allocate(capacity: 1)

    init(mailbox: Mailbox, events: EventQueue) {
      self.mailbox = mailbox
      self.events = events
    }

    deinit {
      if failure.withLock({ $0 }) == nil { unsafe worker.deinitialize(count: 1) }
      unsafe worker.deallocate()
    }

    func run() {
      unsafe ovx_name_thread("ovx-worker")
      do throws(LinuxError) {
        unsafe worker.initialize(to: try Worker(mailbox: mailbox, events: events))
      } catch {
        failure.withLock { $0 = error }
        hasStarted.signal()
        return
      }
      hasStarted.signal()
      unsafe worker.pointee.run()
      while !mailbox.closeIfEmpty() {
        for command in mailbox.takeAll() { unsafe command(&worker.pointee) }
      }
    }
  }
}
