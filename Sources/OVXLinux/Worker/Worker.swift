internal import CLinux
private import Glibc
internal import OVXDatapath
internal import SystemPackage

/// The loop of one worker thread: bursts of frames in, forwarded, out.
///
/// Each step enters the kernel once, for the sends that the previous burst left and the reads of
/// this one, in that order. None of them waits, so when the enter returns they are all done and the
/// memory of the previous burst is free. Only if nothing is ready to be read does the enter wait.
/// Commands and the clock are looked at between two bursts.
@safe struct Worker: ~Copyable {
  /// What the worker forwards with.
  var datapath: Datapath

  private var receiver: Receiver
  private let transmitter: UnsafeMutablePointer<Transmitter>
  private let mailbox: Mailbox
  private let mailboxFile: UInt32
  private let events: EventQueue
  private let captures: CaptureSet
  private let sync: WorkerSync
  /// What was put into the fast path, where there is one.
  private var offloaded: OffloadedFlows?
  /// What the sockets of endpoints are for, of those that have several.
  private var queues: [ListenerID: VNIQueues] = [:]
  private let interval: UnsafeMutablePointer<__kernel_timespec>
  /// For how long sources are left alone, by the reason.
  private let pauses: UnsafeMutablePointer<__kernel_timespec>
  /// Whether a timer runs for each of them, and whether it has run out.
  private var isPausing = Pause.allCases.map { _ in false }
  private var isPauseOver = Pause.allCases.map { _ in false }
  private var hasMail = false
  private var isTickDue = false
  private var isStopping = false
  /// Rests in a row that were spent awake in vain, and how many are to be spent asleep before the
  /// next try.
  private var vainRests = 0
  private var restsAsleep = 0
  /// Nanoseconds for which a worker stays awake without work.
  private static let wakefulness = 50_000

  /// Makes a worker on the thread that is to run it.
  init(mailbox: Mailbox, events: EventQueue, sync: WorkerSync) throws(LinuxError) {
    let receiver = try Receiver(events: events)
    var ring = try Ring(
      fileLimit: 1 + Receiver.sourceLimit + Transmitter.pathLimit + InjectorID.limit)
    // The first file's place is 0, which means "none" everywhere else.
    let mailboxFile = try ring.register(mailbox.descriptor, "the mailbox")
    let transmitter = UnsafeMutablePointer<Transmitter>.allocate(capacity: 1)
    unsafe transmitter.initialize(to: Transmitter(ring: ring, events: events))
    unsafe self.transmitter = unsafe transmitter
    self.receiver = receiver
    self.mailboxFile = mailboxFile
    self.mailbox = mailbox
    self.events = events
    unsafe interval = .allocate(capacity: 1)
    unsafe interval.initialize(to: __kernel_timespec(tv_sec: 1, tv_nsec: 0))
    unsafe pauses = .allocate(capacity: Pause.allCases.count)
    for pause in Pause.allCases {
      unsafe (pauses + pause.rawValue).initialize(
        to: __kernel_timespec(tv_sec: 0, tv_nsec: Int64(pause.duration)))
    }
    let captures = CaptureSet { path in
      unsafe transmitter.pointee.descriptor(of: path)
    }
    self.captures = captures
    self.sync = sync
    let outgoing = sync.outgoing
    let publish: FDBUpdate.Publish? =
      outgoing.isEmpty ? nil : { updates in for queue in outgoing { unsafe queue.put(updates) } }
    datapath = unsafe Datapath(publish: publish) { transmissions, vectors in
      if captures.isArmed { unsafe captures.showSent(transmissions, vectors) }
      unsafe transmitter.pointee.send(transmissions, vectors)
    }
    datapath.watchesFlapping = sync.isLeader
    tick()
    watchMailbox()
    startTimer()
  }

  deinit {
    unsafe transmitter.deinitialize(count: 1)
    unsafe transmitter.deallocate()
    unsafe interval.deallocate()
    unsafe pauses.deallocate()
  }

  // MARK: The loop

  /// Runs until it is told to stop or the ring fails, and then closes everything that it owns.
  mutating func run() {
    while !isStopping, unsafe transmitter.pointee.ring.failure == nil {
      step()
    }
    if let failure = unsafe transmitter.pointee.ring.failure {
      events.post(
        .workerFailed(LinuxError(action: "enter", subject: "the io_uring", errno: failure))
      )
    }
    closeEverything()
  }

  /// Makes the loop end after this step.
  mutating func stop() { isStopping = true }

  private mutating func step() {
    unsafe receiver.requestReads(&transmitter.pointee.ring)
    if receiver.hasBatches || hasMail || isTickDue {
      unsafe transmitter.pointee.submit()
    } else {
      rest()
    }
    collect()
    listen()
    if receiver.hasBatches {
      if captures.isArmed { receiver.show(to: captures, datapath) }
      datapath.beginBurst(now: ovx_coarse_milliseconds())
      receiver.forward(to: &datapath, showingDropsTo: datapath.notesDrops ? captures : nil)
      unsafe transmitter.pointee.mayDefer = true
      datapath.endBurst()
      unsafe transmitter.pointee.mayDefer = false
      // What is captured has to come by here.
      if datapath.hasFlowOffers, !captures.isArmed { offloaded?.take(from: &datapath) }
    }
    if datapath.notesDrops { showDrops() }
    pause()
    if isTickDue {
      isTickDue = false
      tick()
      startTimer()
    }
    if hasMail {
      hasMail = false
      settle()
      offloaded?.harvest(to: &datapath)
      for command in mailbox.takeAll() { command(&self) }
    }
    if datapath.hasAwaitedStationNews() { events.post(.stationsChanged) }
  }

  /// Leaves sources alone that had better be, and reads them again when their moment has passed.
  private mutating func pause() {
    unsafe receiver.unwatchPaused(&transmitter.pointee.ring)
    pause(.storm)
    pause(.moderation)
  }

  private mutating func pause(_ pause: Pause) {
    let number = pause.rawValue
    if isPauseOver[number] {
      isPauseOver[number] = false
      isPausing[number] = false
      receiver.resume(pause)
    } else if receiver.hasPaused(pause), !isPausing[number],
      let request = unsafe transmitter.pointee.ring.nextRequest()
    {
      isPausing[number] = true
      let tag = CompletionTag(.pauseOver, index: UInt32(number)).rawValue
      unsafe ovx_prepare_timeout(request, pauses + number, tag)
    }
  }

  /// Waits until there is something to do: awake for a moment, where that has been worth it lately,
  /// then asleep.
  ///
  /// To be woken costs tens of microseconds, several times what a burst takes. So a worker that has
  /// just had work stays awake for a moment, yielding its core to anyone who wants it. Each time in
  /// vain it leaves that out for twice as many rests as the time before.
  private mutating func rest() {
    guard restsAsleep == 0 else {
      restsAsleep -= 1
      return unsafe transmitter.pointee.wait()
    }
    unsafe transmitter.pointee.submit()
    if unsafe transmitter.pointee.ring.spin(nanoseconds: Self.wakefulness) {
      vainRests = 0
      unsafe transmitter.pointee.submit()
    } else {
      vainRests = min(vainRests + 1, 8)
      restsAsleep = 1 << vainRests
      unsafe transmitter.pointee.wait()
    }
  }

  /// Takes in all completions; afterwards every read of the step is done.
  private mutating func collect() {
    while true {
      while let completion = unsafe transmitter.pointee.ring.nextCompletion() {
        take(completion)
      }
      // Reads complete while they are submitted; some only come later if the queue of completions
      // overflowed.
      guard receiver.outstanding > 0, unsafe transmitter.pointee.ring.failure == nil else { return }
      unsafe transmitter.pointee.wait()
    }
  }

  private mutating func take(_ completion: Completion) {
    switch completion.tag.kind {
    case .read: receiver.takeRead(completion)
    case .readable: unsafe receiver.takeReadable(completion, &transmitter.pointee.ring)
    case .frame, .datagram, .train, .injected:
      if let injector = unsafe transmitter.pointee.lostInjector(completion) {
        datapath.stopInjecting(by: injector)
        events.post(.injectorLost(injector, Errno(rawValue: completion.errno)))
      }
      guard let failure = unsafe transmitter.pointee.failure(of: completion) else { return }
      datapath.countFailure(failure.reason, port: failure.port, frames: failure.frames)
    case .pathError:
      // A path is one tunnel's alone, so that is whose frame it was.
      guard let reason = unsafe transmitter.pointee.takePathError(completion) else { return }
      let path = UnderlaySocketID(rawValue: UInt32(completion.tag.index))
      datapath.countDrop(reason, port: datapath.tunnel(sendingBy: path), frames: 1)
    case .mailbox:
      hasMail = true
      if !completion.hasMore { watchMailbox() }
    case .tick: isTickDue = true
    case .pauseOver: isPauseOver[completion.tag.index] = true
    case .ignored: break
    }
  }

  /// Takes in what other workers have learned.
  private mutating func listen() {
    for queue in sync.incoming { queue.takeAll(into: &datapath) }
  }

  /// Carries out what is pending, so that no send outlives the device or the socket that it is for.
  private mutating func settle() {
    unsafe transmitter.pointee.submit()
    collect()
  }

  private mutating func tick() {
    let now = ovx_uptime_seconds()
    unsafe transmitter.pointee.now = now
    receiver.tick(&datapath)
    offloaded?.tick(&datapath)
    datapath.tick(now: now)
    if datapath.hasFlappingAddresses || datapath.hasContestedNeighbors {
      events.post(.addressesFlap)
    }
    if datapath.hasOversizeReports { events.post(.framesTooLarge) }
    captures.tick()
  }

  private func startTimer() {
    guard let request = unsafe transmitter.pointee.ring.nextRequest() else { return }
    unsafe ovx_prepare_timeout(request, interval, CompletionTag(.tick).rawValue)
  }

  private func watchMailbox() {
    guard let request = unsafe transmitter.pointee.ring.nextRequest() else { return }
    unsafe ovx_prepare_poll(request, mailboxFile, CompletionTag(.mailbox).rawValue)
  }

  // MARK: Commands

  /// Offers decisions to a fast path from now on, or to none.
  mutating func use(_ path: FastPath?) {
    offloaded?.end(&datapath)
    offloaded = nil
    if let path { offloaded = OffloadedFlows(path) }
    datapath.offerFlows(by: path?.generations)
    for port in 0..<PortID.limit {
      guard let source = Receiver.source(of: PortID(rawValue: UInt16(port))) else { continue }
      FastPath.filter(receiver.packetSocket(of: source), by: path)
    }
  }

  /// Reads nothing from now on; what was read has been forwarded and has left.
  mutating func suspend() { unsafe receiver.suspend(&transmitter.pointee.ring) }

  /// Reads again what devices and sockets bring.
  mutating func resume() { receiver.resume() }

  /// The descriptors that the worker reads, by the sources' numbers.
  var readDescriptors: [Int: Int32] { receiver.readDescriptors }

  /// Takes a device over as a port's; what the port had before is closed.
  mutating func attach(
    _ share: Queues.Share,
    _ kind: Receiver.Kind,
    as port: PortID
  ) -> LinuxError? {
    close(detach(port))
    guard let source = Receiver.source(of: port) else {
      return refuse(share.descriptor, "port \(port.rawValue)", limit: PortID.limit)
    }
    do throws(LinuxError) {
      let file = try unsafe receiver.open(source, share, kind, &transmitter.pointee.ring)
      unsafe transmitter.pointee.setDevice(
        of: port, file: file, isSocket: kind == .packet, descriptor: share.descriptor)
      if let path = offloaded?.path {
        FastPath.filter(receiver.packetSocket(of: source), by: path)
      }
      return nil
    } catch {
      _ = Descriptor(owning: share.descriptor)
      return error
    }
  }

  /// Lets go of a port's device, and returns its descriptor, which nobody owns then; -1 where there
  /// is none.
  mutating func detach(_ port: PortID) -> Int32 {
    guard let source = Receiver.source(of: port) else { return -1 }
    unsafe transmitter.pointee.setDevice(of: port, file: 0, isSocket: false)
    return release(source)
  }

  /// Takes listening sockets over as an endpoint's; what the endpoint had before is closed.
  mutating func open(_ endpoint: ListenerID, _ shares: [Queues.Share]) -> LinuxError? {
    close(endpoint)
    var refusal: LinuxError?
    for (queue, share) in shares.enumerated() {
      guard refusal == nil, let source = Receiver.source(of: endpoint, queue: queue) else {
        let refused = refuse(
          share.descriptor, "endpoint \(endpoint.rawValue)", limit: ListenerID.limit)
        refusal = refusal ?? refused
        continue
      }
      do throws(LinuxError) {
        _ = try unsafe receiver.open(source, share, .udp, &transmitter.pointee.ring)
      } catch {
        _ = Descriptor(owning: share.descriptor)
        refusal = error
      }
    }
    if refusal != nil {
      close(endpoint)
    } else if shares.count > 1 {
      queues[endpoint] = VNIQueues()
    }
    return refusal
  }

  mutating func close(_ endpoint: ListenerID) {
    queues[endpoint] = nil
    for queue in 0..<VNIQueues.count {
      guard let source = Receiver.source(of: endpoint, queue: queue) else { return }
      close(release(source))
    }
  }

  /// Gives each VNI a socket of its endpoints.
  private mutating func assignQueues(_ assignment: [ListenerID: VNIQueues]) {
    for (endpoint, old) in queues {
      let new = assignment[endpoint] ?? VNIQueues()
      guard new != old, let first = Receiver.source(of: endpoint, queue: 0) else { continue }
      queues[endpoint] = new
      // One does it for all.
      let isInForce =
        !sync.isLeader
        || new.attach(to: receiver.descriptor(of: first), workers: sync.outgoing.count + 1)
      for queue in 0..<VNIQueues.count {
        guard let source = Receiver.source(of: endpoint, queue: queue) else { continue }
        receiver.setPort(isInForce ? new.port(of: queue) : .none, of: source)
      }
    }
  }

  /// Takes a connected socket over as a path's; what the path had before is closed.
  mutating func open(_ path: UnderlaySocketID, _ descriptor: Int32) -> LinuxError? {
    close(path)
    guard path.rawValue < Transmitter.pathLimit else {
      return refuse(descriptor, "underlay path \(path.rawValue)", limit: Transmitter.pathLimit)
    }
    do throws(LinuxError) {
      try unsafe transmitter.pointee.openPath(path, descriptor: descriptor)
      return nil
    } catch {
      _ = Descriptor(owning: descriptor)
      return error
    }
  }

  mutating func close(_ path: UnderlaySocketID) {
    let descriptor = unsafe transmitter.pointee.closePath(path)
    if descriptor >= 0 { _ = Descriptor(owning: descriptor) }
  }

  /// Takes an injector over; what there was of that number before is closed.
  mutating func open(_ injector: InjectorID, _ descriptor: Int32) -> LinuxError? {
    close(injector)
    guard Int(injector.rawValue) < InjectorID.limit else {
      return refuse(descriptor, "injector \(injector.rawValue)", limit: InjectorID.limit)
    }
    do throws(LinuxError) {
      try unsafe transmitter.pointee.openInjector(injector, descriptor: descriptor)
      return nil
    } catch {
      _ = Descriptor(owning: descriptor)
      return error
    }
  }

  mutating func close(_ injector: InjectorID) {
    let descriptor = unsafe transmitter.pointee.closeInjector(injector)
    if descriptor >= 0 { _ = Descriptor(owning: descriptor) }
  }

  /// What the kernel knows of a path's MTU; `nil` where the path has no socket.
  func pathMTU(of path: UnderlaySocketID) -> Int? {
    let number = unsafe transmitter.pointee.descriptor(of: path)
    guard number >= 0 else { return nil }
    let mtu = ovx_path_mtu(number)
    return mtu > 0 ? Int(mtu) : nil
  }

  /// What a path's socket joins; `nil` where the path has no socket.
  func ends(of path: UnderlaySocketID) -> SocketEnds? {
    let number = unsafe transmitter.pointee.descriptor(of: path)
    return number >= 0 ? SocketEnds(of: number) : nil
  }

  /// Swaps in a topology, and ends the captures of what it does not have.
  mutating func apply(_ topology: consuming CompiledTopology, _ assignment: [ListenerID: VNIQueues])
  {
    // Updates that were given with the topology before the last one are not to be taken for one of
    // the next.
    listen()
    assignQueues(assignment)
    datapath.apply(topology)
    captures.endAbsent(datapath)
  }

  /// Begins to show frames; `false` where nobody else can be shown any.
  mutating func start(_ capture: Capture) -> Bool {
    defer { if captures.wantsDrops, !datapath.notesDrops { datapath.notesDrops = true } }
    return captures.add(capture)
  }

  /// Shows what else was dropped to those who want to see it, until there are none.
  private mutating func showDrops() {
    captures.showUnseenDrops(&datapath)
    captures.sendAll()
    if !captures.wantsDrops { datapath.notesDrops = false }
  }

  /// Ends a capture; `nil` where it has ended.
  func endCapture(_ number: UInt64) -> CaptureCounts? { captures.end(number) }

  private func refuse(_ descriptor: Int32, _ subject: String, limit: Int) -> LinuxError {
    _ = Descriptor(owning: descriptor)
    return LinuxError(
      action: "serve",
      subject: subject,
      errno: .invalidArgument,
      detail: "numbers go from 0 to \(limit - 1)"
    )
  }

  private mutating func release(_ source: Int) -> Int32 {
    let descriptor = unsafe receiver.close(source, &transmitter.pointee.ring)
    if descriptor >= 0 { collect() }
    return descriptor
  }

  private func close(_ descriptor: Int32) {
    if descriptor >= 0 { _ = Descriptor(owning: descriptor) }
  }

  private mutating func closeEverything() {
    captures.endAll()
    for port in 0..<PortID.limit { close(detach(PortID(rawValue: UInt16(port)))) }
    for endpoint in 0..<ListenerID.limit { close(ListenerID(rawValue: UInt16(endpoint))) }
    for path in 0..<Transmitter.pathLimit { close(UnderlaySocketID(rawValue: UInt32(path))) }
    for injector in 0..<InjectorID.limit { close(InjectorID(rawValue: UInt16(injector))) }
    unsafe transmitter.pointee.ring.close()
  }
}
