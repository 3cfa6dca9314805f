package import OVXDatapath
private import Synchronization
package import SystemPackage

/// A running switch: worker threads, each with its ring and its `Datapath`, and the handle to
/// command them by.
///
/// Each worker reads its own queue of every device and listening socket, and forwards what it has
/// read to the end. All have the same topology, and tell each other what addresses they learn
/// (`FDBUpdate`). One worker is the rule; more of them pay where there are cores for them.
///
/// Commands are carried out between two bursts, in the order they were given, and each call returns
/// when its command is in force with all workers. All of it may be called from any thread but a
/// worker's own, on which it would wait for itself.
package final class Switch: Sendable {
  private let workers: [WorkerThread]
  private let events: EventQueue
  private let fastPath = Mutex<FastPath?>(nil)
  /// Ends by itself when the workers have stopped.
  let watchdog: StarvationWatchdog?

  /// Starts the workers.
  ///
  /// - Parameter count: How many, in `workerCounts`.
  /// - Throws: Where the kernel refuses a ring, memory or a thread, with the likely cause and the
  ///   remedy.
  package init(workers count: Int = 1) throws(LinuxError) {
    events = try EventQueue()
    var workers: [WorkerThread] = []
    for sync in WorkerSync.joining(count) {
      do throws(LinuxError) {
        workers.append(try WorkerThread(events: events, sync: sync))
      } catch {
        Self.stop(workers)
        throw error
      }
    }
    self.workers = workers
    watchdog = StarvationWatchdog(workers.map(\.number))
  }

  /// How many workers a switch can have.
  package static let workerCounts = 1...16

  /// How many queues devices should have: one for each worker.
  package var queueCount: Int { workers.count }

  /// How many queues the listening socket of an endpoint should have: several for each worker, by
  /// VNI.
  package func queueCount(of endpoint: ListenerID) -> Int {
    workers.count * (Int(endpoint.rawValue) < VNIQueues.endpointLimit ? VNIQueues.count : 1)
  }

  deinit {
    stop()
  }

  /// Attaches a TAP device as a port.
  ///
  /// The switch owns it from now on, and closes it also where this throws. What was attached as
  /// that port before is detached first.
  package func attach(_ device: consuming TAP, as port: PortID) throws(LinuxError) {
    try attach(device.takeQueues(), .tap, as: port)
  }

  /// Attaches an existing interface as a port; as for a TAP.
  package func attach(_ device: consuming PacketSocket, as port: PortID) throws(LinuxError) {
    try attach(device.takeQueues(), .packet, as: port)
  }

  private func attach(
    _ queues: consuming Queues, _ kind: Receiver.Kind, as port: PortID
  ) throws(LinuxError) {
    try install(queues, offset: Int(port.rawValue), undoing: { detach(port) }) { worker, share in
      worker.attach(share, kind, as: port)
    }
  }

  /// Detaches the device of a port; its number may be used again afterwards.
  ///
  /// Whoever calls this closes the device by letting go of the answer. That takes the kernel some
  /// ten milliseconds, for which frames must not wait.
  ///
  /// - Returns: The device's descriptors; `nil` where there is no device.
  @discardableResult
  package func detach(_ port: PortID) -> Queues? {
    Queues(owning: gather { worker in worker.detach(port) })
  }

  /// Receives datagrams by a listening socket, which the switch owns from now on.
  package func open(_ endpoint: ListenerID, socket: consuming UDPSocket) throws(LinuxError) {
    let shares = try socket.takeQueues().dealt(among: workers.count)
    let replies = zip(workers, shares).map { thread, shares in
      thread.command { worker in worker.open(endpoint, shares) }
    }
    guard let refusal = replies.compactMap({ $0.wait() }).first else { return }
    close(endpoint)
    throw refusal
  }

  /// Closes a listening socket; does nothing where there is none.
  package func close(_ endpoint: ListenerID) {
    gather { worker in worker.close(endpoint) }
  }

  /// Sends by a connected socket, which the switch owns from now on; all workers send by the same
  /// one.
  ///
  /// Paths are numbered from 0 to `pathLimit` - 1.
  package func open(_ path: UnderlaySocketID, socket: consuming UDPSocket) throws(LinuxError) {
    try install(socket.takeQueues(), undoing: { close(path) }) { worker, share in
      worker.open(path, share.descriptor)
    }
  }

  /// Closes a sending socket; does nothing where there is none.
  package func close(_ path: UnderlaySocketID) {
    gather { worker in worker.close(path) }
  }

  /// Sends whole superframes by an injector, which the switch owns from now on; all workers send by
  /// the same one.
  package func open(_ number: InjectorID, injector: consuming Injector) throws(LinuxError) {
    try install(Queues(injector.takeDescriptor()), undoing: { close(number) }) { worker, share in
      worker.open(number, share.descriptor)
    }
  }

  /// Closes an injector; does nothing where there is none.
  package func close(_ number: InjectorID) {
    gather { worker in worker.close(number) }
  }

  /// The bound of path numbers: four for each remote VTEP there can be.
  package static let pathLimit = Transmitter.pathLimit

  /// Swaps in a topology.
  ///
  /// Devices and sockets that it refers to are to be attached before, those that it does not refer
  /// to any more to be detached after.
  package func apply(_ topology: Topology) {
    // Compiled here, once, and not by workers whose frames wait meanwhile.
    let compiled = CompiledTopology(topology)
    let queues = VNIQueues.all(in: topology)
    let replies = workers.map { thread in
      let copy = Parcel(compiled.copy())
      return thread.command { worker in
        if let topology = copy.take() { worker.apply(topology, queues) }
      }
    }
    for reply in replies { reply.wait() }
    guard let path = fastPath.withLock({ $0 }) else { return }
    // All that was decided by the topology before was decided before this.
    path.revokeAll()
    path.want(FastPath.hooks(of: topology))
  }

  // MARK: The fast path

  /// Uses a fast path from now on, for devices and VTEPs of which the topology says that it may be
  /// used, or none.
  ///
  /// - Throws: What the kernel refuses of it; the switch does without then.
  package func useFastPath(_ isOn: Bool) throws(LinuxError) {
    guard isOn != (fastPath.withLock { $0 } != nil) else { return }
    let new = isOn ? try FastPath() : nil
    let old = fastPath.withLock { path in
      defer { path = new }
      return path
    }
    gather { worker in worker.use(new) }
    old?.revokeAll()
    old?.want([])
  }

  /// How it stands with the fast path of a port's device, or of the device that leads to a VTEP.
  package func fastPathState(ofDevice index: UInt32, isUnderlay: Bool) -> FastPathState {
    fastPath.withLock { $0 }?
      .state(of: FastPath.Hook(device: index, isUnderlay: isUnderlay)) ?? .off
  }

  /// The largest IP packet that the path of a sending socket takes now, in bytes; `nil` where there
  /// is no such socket.
  package func pathMTU(of path: UnderlaySocketID) -> Int? {
    first { worker in worker.pathMTU(of: path) }
  }

  /// The addresses and UDP ports that a sending socket joins; `nil` where there is no such socket.
  package func ends(of path: UnderlaySocketID) -> SocketEnds? {
    first { worker in worker.ends(of: path) }
  }

  /// Begins a capture; `false` where there are `CaptureSet.limit` already, or the worker has
  /// stopped.
  ///
  /// It ends by itself when its reader goes away, or what it is of.
  package func start(_ capture: Capture) -> Bool {
    let isStarted = !gather { worker in worker.start(capture) }.contains(false)
    // What the fast path forwards is not seen. While somebody captures, no worker puts anything
    // into it.
    if !capture.place.isOfDrops { fastPath.withLock { $0 }?.revokeAll() }
    if !isStarted { _ = endCapture(capture.number) }
    return isStarted
  }

  /// Captures at a time.
  package static let captureLimit = CaptureSet.limit

  /// Ends a capture and tells what it counted; `nil` where there is none of this number.
  package func endCapture(_ number: UInt64) -> CaptureCounts? {
    gather { worker in worker.endCapture(number) }.compactMap { $0 }.last
  }

  /// Runs something on the first worker's datapath between two bursts and returns what it returned;
  /// frames wait that long.
  ///
  /// For what all workers know alike.
  package func perform<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Datapath) -> Answer
  ) -> Answer {
    first { worker in work(&worker.datapath) }
  }

  /// Runs something on the datapath of every worker, each between two bursts, and returns what they
  /// returned.
  package func performOnAll<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Datapath) -> Answer
  ) -> [Answer] {
    gather { worker in work(&worker.datapath) }
  }

  // MARK: Handing over

  /// Reads nothing from now on.
  ///
  /// When this returns, what was read has been forwarded and has left; what arrives stays in the
  /// queues of devices and sockets, for whoever reads them next.
  package func suspend() { gather { worker in worker.suspend() } }

  /// Reads again.
  package func resume() { gather { worker in worker.resume() } }

  /// What a switch reads from; the descriptors stay the switch's own.
  package struct Sources: Sendable {
    /// The queues of each port's device.
    package var devices: [PortID: [Int32]] = [:]
    /// The sockets of each endpoint, in the order in which they were bound.
    package var listeners: [ListenerID: [Int32]] = [:]
  }

  /// What is read by any worker at present.
  package var sources: Sources {
    let workers = gather { worker in worker.readDescriptors }
    var sources = Sources()
    for number in 0..<PortID.limit {
      let queues = workers.compactMap { $0[number] }
      if !queues.isEmpty { sources.devices[PortID(rawValue: UInt16(number))] = queues }
    }
    for number in 0..<ListenerID.limit {
      let listener = ListenerID(rawValue: UInt16(number))
      // As `Queues.dealt` has dealt them: each queue of all workers, then the next one.
      let queues = (0..<VNIQueues.count).flatMap { queue in
        Receiver.source(of: listener, queue: queue)
          .map { source in workers.compactMap { $0[source] } } ?? []
      }
      if !queues.isEmpty { sources.listeners[listener] = queues }
    }
    return sources
  }

  /// Something that the worker noticed and the control side should know.
  package enum Event: Hashable, Sendable {
    /// The device of a port is gone or broken: it is not read any more. It stays attached until
    /// `detach`.
    case deviceLost(PortID, Errno)
    /// The device of a port went down; it is read again by itself when it comes up.
    case deviceDown(PortID)
    /// The device of a port has not taken a superframe: its limits may be others than they were. At
    /// most one per port, worker and second.
    case superframeRefused(PortID)
    /// A train was larger than the path's MTU: ask `pathMTU(of:)` again. At most one per path and
    /// second.
    case pathNarrowed(UnderlaySocketID)
    /// Addresses keep moving between places or stations: `Datapath.takeFlappingAddresses` and
    /// `takeContestedNeighbors` tell which.
    case addressesFlap
    /// Stations or neighbors may be others than before: `performOnAll` tells which they are. Only
    /// where `Datapath.watchesStations` or `awaitStationNews` says that anybody wants to know.
    case stationsChanged
    /// Frames are lost for their size: `Datapath.takeOversizeReports` tells where. At most one per
    /// worker and second.
    case framesTooLarge
    /// An injector takes nothing any more; superframes are cut until the next topology.
    case injectorLost(InjectorID, Errno)
    /// A worker has stopped because its ring failed.
    case workerFailed(LinuxError)
  }

  /// Readable (poll it for `POLLIN`) while there are events; belongs to the switch.
  package var eventDescriptor: Int32 { events.descriptor }

  /// Takes the events there are, oldest first, and makes the descriptor unreadable.
  package func takeEvents() -> [Event] { events.takeAll() }

  /// Stops the workers and closes everything they own.
  ///
  /// Afterwards nothing is forwarded any more; counters and addresses can still be asked for.
  package func stop() {
    Self.stop(workers)
  }

  private static func stop(_ workers: [WorkerThread]) {
    for worker in workers { worker.tellToStop() }
    for worker in workers { worker.join() }
  }

  /// Has the first worker carry something out, and waits for it.
  private func first<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Worker) -> Answer
  ) -> Answer {
    workers[0].command(work).wait()
  }

  /// Has all workers carry something out at the same time, and waits for them.
  @discardableResult private func gather<Answer: Sendable>(
    _ work: @escaping @Sendable (inout Worker) -> Answer
  ) -> [Answer] {
    workers.map { $0.command(work) }.map { $0.wait() }
  }

  /// Gives each worker its share of something, and takes all of them back where one refuses.
  ///
  /// - Throws: The first refusal.
  private func install(
    _ queues: consuming Queues, offset: Int = 0, undoing undo: () -> Void,
    _ work: @escaping @Sendable (inout Worker, Queues.Share) -> LinuxError?
  ) throws(LinuxError) {
    let shares = try queues.shared(among: workers.count, offset: offset)
    let replies = zip(workers, shares).map { thread, share in
      thread.command { worker in work(&worker, share) }
    }
    guard let refusal = replies.compactMap({ $0.wait() }).first else { return }
    undo()
    throw refusal
  }
}

/// A topology on its way to the worker that is going to own it.
private final class Parcel: Sendable {
  private let topology: Mutex<CompiledTopology?>

  init(_ topology: consuming sending CompiledTopology) { self.topology = Mutex(topology) }

  /// Hands it over; `nil` a second time.
  func take() -> CompiledTopology? { topology.withLock { $0.take() } }
}
