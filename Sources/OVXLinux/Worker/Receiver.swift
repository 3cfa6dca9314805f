internal import CLinux
private import Glibc
internal import OVXDatapath
internal import SystemPackage

/// The receiving half of a worker: what there is to read, which of it is readable, and where frames
/// are read to.
///
/// A *source* is a port's device or one of an endpoint's sockets. It is *ready* from the moment its
/// poll says so until a batch of reads found it empty; ready sources take turns, by `RoundRobin`. A
/// batch never waits: its size follows what the last one brought, since a read that finds nothing
/// costs most of what one costs that finds a frame.
@safe struct Receiver: ~Copyable {
  let buffers: ReceiveBuffers
  let sources: UnsafeMutablePointer<Source>
  let receipts: UnsafeMutablePointer<ovx_receipt>
  let batches: UnsafeMutablePointer<Batch>
  private(set) var batchCount = 0
  let results: UnsafeMutablePointer<Int32>
  private let events: EventQueue

  /// Reads that are requested and not yet completed.
  private(set) var outstanding = 0

  /// The sources that are ready.
  private var turns = RoundRobin(limit: Receiver.sourceLimit)
  /// Sources that are left alone for a moment, by the reason.
  private var paused: [[Int32]] = Pause.allCases.map { _ in [] }
  /// Sources that were left alone, and are to be watched again.
  private var unwatched: [Int32] = []
  /// Whether some of the sources that are left alone still have a poll.
  private var hasPausedWatched = false
  private var hasStalled = false
  private var hasReceived = false
  /// Whether nothing is read: another process reads what the sources bring.
  private(set) var isSuspended = false

  /// The reads of one source in a step: slots that follow each other.
  struct Batch {
    var source: Int32 = 0
    var firstSlot = 0
    var count = 0
  }

  private static let depths = (least: 2, most: ReceiveBuffers.slotCount)
  /// Reads in a batch of a source that last brought large frames: four fill a quarter of a
  /// megabyte, and with what the kernel keeps of them half of a core's L2 cache.
  private static let largeDepth = 4
  /// Bytes from which on a frame counts as large.
  private static let largeSize = 4096

  init(events: EventQueue) throws(LinuxError) {
    buffers = try ReceiveBuffers()
    self.events = events
    unsafe sources = .allocate(capacity: Self.sourceLimit)
    unsafe sources.initialize(repeating: Source(), count: Self.sourceLimit)
    unsafe receipts = .allocate(capacity: ReceiveBuffers.slotCount)
    unsafe receipts.initialize(repeating: ovx_receipt(), count: ReceiveBuffers.slotCount)
    unsafe batches = .allocate(capacity: ReceiveBuffers.slotCount)
    unsafe batches.initialize(repeating: Batch(), count: ReceiveBuffers.slotCount)
    for pause in paused.indices { paused[pause].reserveCapacity(Self.sourceLimit) }
    unwatched.reserveCapacity(Self.sourceLimit)
    unsafe results = .allocate(capacity: ReceiveBuffers.slotCount)
    unsafe results.initialize(repeating: 0, count: ReceiveBuffers.slotCount)
  }

  deinit {
    unsafe sources.deallocate()
    unsafe receipts.deallocate()
    unsafe batches.deallocate()
    unsafe results.deallocate()
  }

  // MARK: Sources

  /// The descriptor of a source, -1 where there is none.
  func descriptor(of source: Int) -> Int32 { unsafe sources[source].descriptor }

  /// The packet socket of a source, -1 where it has none.
  func packetSocket(of source: Int) -> Int32 {
    unsafe sources[source].kind == .packet ? sources[source].descriptor : -1
  }

  /// Says which port gets all that an endpoint's socket receives; none where there is no such one.
  mutating func setPort(_ port: PortID, of source: Int) { unsafe sources[source].port = port }

  /// Reads a descriptor from now on as a source that has none so far, if the worker is to read it,
  /// and returns its place in the ring's file table.
  mutating func open(
    _ index: Int,
    _ share: Queues.Share,
    _ kind: Kind,
    _ ring: inout Ring
  ) throws(LinuxError) -> UInt32 {
    let subject =
      index < PortID.limit ? "port \(index)" : "endpoint \(Self.endpoint(of: index).rawValue)"
    let file = try ring.register(share.descriptor, subject)
    // A source that was closed while it was ready is still in the queue, as what is open now.
    unsafe sources[index].descriptor = share.descriptor
    unsafe sources[index].isReporter = share.isReporter
    unsafe sources[index].isRead = share.isRead
    unsafe sources[index].file = file
    unsafe sources[index].generation &+= 1
    unsafe sources[index].kind = kind
    unsafe sources[index].depth = UInt8(Self.depths.least)
    unsafe sources[index].isLost = false
    unsafe sources[index].isStalled = false
    unsafe sources[index].knownDrops = 0
    unsafe sources[index].isWatched = false
    unsafe sources[index].moderation = Moderation()
    unsafe sources[index].port = .none
    turns.forget(Int32(truncatingIfNeeded: index))
    if share.isRead {
      if isSuspended {
        turns.enqueue(Int32(truncatingIfNeeded: index))
      } else {
        watch(index, &ring)
      }
    }
    return file
  }

  /// Stops reading a source and returns its descriptor, -1 where it had none.
  ///
  /// No read of it may be outstanding. The open file stays with its poll until the ring is entered
  /// the next time.
  mutating func close(_ index: Int, _ ring: inout Ring) -> Int32 {
    let source = unsafe sources[index]
    guard source.file != 0 else { return -1 }
    if source.isPaused {
      for pause in paused.indices { paused[pause].removeAll { $0 == index } }
      unsafe sources[index].isPaused = false
    }
    unwatched.removeAll { $0 == index }
    if let request = unsafe ring.nextRequest() {
      unsafe ovx_prepare_cancel(
        request,
        pollTag(index).rawValue,
        CompletionTag(.ignored).rawValue
      )
    }
    ring.submit()
    ring.unregister(source.file)
    unsafe sources[index].file = 0
    unsafe sources[index].descriptor = -1
    return source.descriptor
  }

  private func pollTag(_ index: Int) -> CompletionTag {
    CompletionTag(
      .readable,
      index: UInt32(truncatingIfNeeded: index),
      generation: unsafe sources[index].generation
    )
  }

  private func watch(_ index: Int, _ ring: inout Ring) {
    guard let request = unsafe ring.nextRequest() else { return }
    unsafe ovx_prepare_poll(request, sources[index].file, pollTag(index).rawValue)
    unsafe sources[index].isWatched = true
  }

  // MARK: Suspending

  /// The descriptors that this worker reads, by the sources' numbers.
  var readDescriptors: [Int: Int32] {
    var descriptors: [Int: Int32] = [:]
    for index in 0..<Self.sourceLimit {
      let source = unsafe sources[index]
      if source.file != 0, source.isRead, !source.isLost { descriptors[index] = source.descriptor }
    }
    return descriptors
  }

  /// Reads nothing from now on, and is not woken by what arrives; no read may be outstanding.
  mutating func suspend(_ ring: inout Ring) {
    isSuspended = true
    for index in 0..<Self.sourceLimit {
      guard unsafe sources[index].file != 0, unsafe sources[index].isRead else { continue }
      if unsafe sources[index].isWatched {
        guard let request = unsafe ring.nextRequest() else { return }
        unsafe ovx_prepare_cancel(
          request, pollTag(index).rawValue, CompletionTag(.ignored).rawValue)
        unsafe sources[index].generation &+= 1
        unsafe sources[index].isWatched = false
      }
      if unsafe !sources[index].isPaused { turns.enqueue(Int32(truncatingIfNeeded: index)) }
    }
    ring.submit()
  }

  /// Reads again: all sources at once, and those that have nothing are watched from then on.
  mutating func resume() { isSuspended = false }

  // MARK: Reading

  /// Whether `requestReads` requested any in this step.
  var hasBatches: Bool { batchCount > 0 }

  /// Fills slots, from the first one on, with reads of the ready sources, in turns.
  mutating func requestReads(_ ring: inout Ring) {
    batchCount = 0
    if isSuspended { return }
    for index in unwatched where unsafe sources[Int(index)].file != 0 { watch(Int(index), &ring) }
    unwatched.removeAll(keepingCapacity: true)
    var slot = 0
    while slot < ReceiveBuffers.slotCount, let index = turns.next() {
      let source = unsafe sources[Int(index)]
      guard source.file != 0, !source.isLost else { continue }
      let count = min(Int(source.depth), turns.reads(of: index), ReceiveBuffers.slotCount &- slot)
      unsafe batches[batchCount] = Batch(source: index, firstSlot: slot, count: count)
      batchCount &+= 1
      for _ in 0..<count {
        guard let request = unsafe ring.nextRequest() else { return }
        unsafe prepareRead(request, source, slot)
        slot &+= 1
        outstanding &+= 1
      }
    }
  }

  private func prepareRead(
    _ request: UnsafeMutablePointer<io_uring_sqe>,
    _ source: Source,
    _ slot: Int
  ) {
    let tag = CompletionTag(.read, index: UInt32(truncatingIfNeeded: slot)).rawValue
    let header = source.kind == .udp ? 0 : Offload.byteCount
    let memory = unsafe buffers.frame(slot) - header
    let size = ReceiveBuffers.capacity &+ header
    guard source.kind != .tap else {
      return unsafe ovx_prepare_read(
        request,
        source.file,
        memory,
        UInt32(truncatingIfNeeded: size),
        tag
      )
    }
    let message = unsafe ovx_receipt_prepare(receipts + slot, memory, size)
    unsafe ovx_prepare_receive(request, source.file, message, tag)
  }

  /// Takes a read's completion.
  mutating func takeRead(_ completion: Completion) {
    unsafe results[completion.tag.index] = completion.result
    outstanding &-= 1
  }

  /// Takes a poll's completion: the source is ready, or its poll failed.
  mutating func takeReadable(_ completion: Completion, _ ring: inout Ring) {
    let index = completion.tag.index
    let source = unsafe sources[index]
    guard source.file != 0, source.generation == completion.tag.generation, !source.isLost else {
      return
    }
    guard completion.result >= 0 else { return lose(index, completion.errno) }
    if !completion.hasMore { unsafe sources[index].isWatched = false }
    unsafe sources[index].isRetried = false
    guard unsafe !sources[index].isPaused else { return }
    if !completion.hasMore { watch(index, &ring) }
    turns.enqueue(Int32(truncatingIfNeeded: index))
  }

  /// Does what is due once a second: gives sources another try that failed, and counts what their
  /// queues had no room for.
  mutating func tick(_ datapath: inout Datapath) {
    guard hasStalled || hasReceived else { return }
    for index in 0..<Self.sourceLimit {
      if unsafe sources[index].isStalled {
        unsafe sources[index].isStalled = false
        unsafe sources[index].isRetried = true
        turns.enqueue(Int32(truncatingIfNeeded: index))
      }
      if unsafe sources[index].hasReceived {
        unsafe sources[index].hasReceived = false
        countOverruns(index, &datapath)
      }
    }
    hasStalled = false
    hasReceived = false
  }

  /// Charges what the kernel dropped of a source since the last time; of a TAP the kernel tells its
  /// own interface.
  private func countOverruns(_ index: Int, _ datapath: inout Datapath) {
    let descriptor = unsafe sources[index].descriptor
    guard descriptor >= 0 else { return }
    switch unsafe sources[index].kind {
    case .tap: break
    case .packet:
      let drops = ovx_take_packet_drops(descriptor)
      guard drops > 0, index < PortID.limit else { return }
      let port = PortID(rawValue: UInt16(truncatingIfNeeded: index))
      datapath.countDrop(.receiveQueueFull, port: port, frames: Int(drops))
    case .udp:
      let drops = ovx_udp_drops(descriptor)
      let new = drops &- (unsafe sources[index].knownDrops)
      guard new > 0 else { return }
      unsafe sources[index].knownDrops = drops
      datapath.countDrop(.receiveQueueFull, port: unsafe sources[index].port, frames: Int(new))
    }
  }

  // MARK: Forwarding

  /// Hands what was read to the datapath, and lets the sources that may have more take another
  /// turn.
  ///
  /// - Parameters:
  ///   - datapath: Forwards it.
  ///   - captures: Are shown what is dropped, where anybody wants to see that.
  mutating func forward(to datapath: inout Datapath, showingDropsTo captures: CaptureSet? = nil) {
    for index in 0..<batchCount {
      let batch = unsafe batches[index]
      var received = 0
      var isDrained = false
      var isLarge = false
      var byteCount = 0
      let workBefore = datapath.work
      let framesBefore = (all: datapath.frameCount, refused: datapath.refusedFloods)
      let end = batch.firstSlot &+ batch.count
      let port = PortID(rawValue: UInt16(truncatingIfNeeded: batch.source))
      let looksAhead = batch.source < PortID.limit && datapath.mayPrefetch(from: port)
      if looksAhead {
        for slot in batch.firstSlot..<min(batch.firstSlot &+ Datapath.prefetchDistance, end) {
          prefetch(slot, port, datapath)
        }
      }
      for slot in batch.firstSlot..<end {
        let ahead = slot &+ Datapath.prefetchDistance
        if looksAhead, ahead < end { prefetch(ahead, port, datapath) }
        let result = unsafe results[slot]
        if result >= 0 {
          received &+= 1
          isLarge = isLarge || result > Self.largeSize
          byteCount &+= Int(result)
          if let captures {
            handOver(Int(result), slot, Int(batch.source), &datapath, showingDropsTo: captures)
          } else {
            handOver(Int(result), slot, Int(batch.source), &datapath)
          }
        } else if result == -EAGAIN {
          isDrained = true
        } else {
          takeError(-result, Int(batch.source), &datapath)
        }
      }
      if received > 0 {
        unsafe sources[Int(batch.source)].hasReceived = true
        hasReceived = true
      }
      turns.charge(
        batch.source,
        cost: Int64(received) &* Work.read &+ Int64(byteCount >> 10) &* Work.kilobyte
          &+ (datapath.work &- workBefore), reads: received)
      adaptDepth(batch, received, isLarge)
      let step = Moderation.Step(
        reads: received, frames: datapath.frameCount &- framesBefore.all,
        refused: datapath.refusedFloods &- framesBefore.refused, isDrained: isDrained,
        isLarge: isLarge, isOfOnePort: isOfOnePort(batch.source),
        sentFrames: batch.source < PortID.limit ? datapath.sentFrames(to: port) : nil)
      if let pause = unsafe sources[Int(batch.source)].moderation.pause(
        after: step, now: datapath.burstTime)
      {
        leaveAlone(batch.source, pause)
      } else if isDrained {
        if unsafe !sources[Int(batch.source)].isWatched { unwatched.append(batch.source) }
        // The kernel wakes the readers of a TAP that is removed before it takes the device from
        // them (tun_detach_all): who is quick finds an empty queue, and is not woken again.
        if received == 0, unsafe sources[Int(batch.source)].kind == .tap,
          unsafe !sources[Int(batch.source)].isRetried
        {
          unsafe sources[Int(batch.source)].isStalled = true
          hasStalled = true
        }
      } else if received > 0 {
        turns.enqueue(batch.source)
      } else {
        // Nothing but errors: not again at once, whatever they are.
        unsafe sources[Int(batch.source)].isStalled = true
        hasStalled = true
      }
    }
  }

  // MARK: Pausing

  /// Whether all of a source is one port's, so that nobody else has to wait for it.
  private func isOfOnePort(_ source: Int32) -> Bool {
    Int(source) < PortID.limit || (unsafe sources[Int(source)].port != .none)
  }

  private mutating func leaveAlone(_ source: Int32, _ pause: Pause) {
    paused[pause.rawValue].append(source)
    unsafe sources[Int(source)].isPaused = true
    if unsafe sources[Int(source)].isWatched { hasPausedWatched = true }
  }

  /// Whether there are sources to be read again after a moment.
  func hasPaused(_ pause: Pause) -> Bool { !paused[pause.rawValue].isEmpty }

  /// Takes their polls from the sources that are left alone, which would wake the worker for each
  /// frame.
  mutating func unwatchPaused(_ ring: inout Ring) {
    guard hasPausedWatched else { return }
    hasPausedWatched = false
    for sourcesLeftAlone in paused {
      for index in sourcesLeftAlone where unsafe sources[Int(index)].isWatched {
        guard let request = unsafe ring.nextRequest() else { return }
        unsafe ovx_prepare_cancel(
          request, pollTag(Int(index)).rawValue, CompletionTag(.ignored).rawValue)
        unsafe sources[Int(index)].generation &+= 1
        unsafe sources[Int(index)].isWatched = false
      }
    }
  }

  /// Reads the sources again that were left alone for a reason.
  ///
  /// They are watched again when nothing is left to be read.
  mutating func resume(_ pause: Pause) {
    for index in paused[pause.rawValue] {
      unsafe sources[Int(index)].isPaused = false
      turns.enqueue(index)
    }
    paused[pause.rawValue].removeAll(keepingCapacity: true)
  }

  /// Lets the next batch follow the size of this one.
  private func adaptDepth(_ batch: Batch, _ received: Int, _ isLarge: Bool) {
    let depth = Int(unsafe sources[Int(batch.source)].depth)
    let most = isLarge ? Self.largeDepth : Self.depths.most
    let next: Int
    if received < batch.count {
      next = depth / 2
    } else {
      // A batch that was cut short for want of slots says nothing.
      next = batch.count == depth ? depth * 2 : depth
    }
    unsafe sources[Int(batch.source)].depth = UInt8(
      truncatingIfNeeded: min(max(next, Self.depths.least), most)
    )
  }

  private func takeError(_ code: Int32, _ index: Int, _ datapath: inout Datapath) {
    switch code {
    case EBADF, EBADFD, ENOTSOCK, EOPNOTSUPP:
      lose(index, code)
    case ENETDOWN where index < PortID.limit:
      // Set down, or on its way out: the same to the socket. It receives again if it comes up.
      guard unsafe sources[index].isReporter else { return }
      events.post(.deviceDown(PortID(rawValue: UInt16(truncatingIfNeeded: index))))
    case EINVAL where index < PortID.limit:
      // The kernel took a frame from the queue that no virtio-net header can describe, such as an
      // SCTP superframe.
      let port = PortID(rawValue: UInt16(truncatingIfNeeded: index))
      datapath.countDrop(.unsupportedOffload, port: port, frames: 1)
    default: break
    }
  }

  private func lose(_ index: Int, _ code: Int32) {
    guard unsafe !sources[index].isLost else { return }
    unsafe sources[index].isLost = true
    guard index < PortID.limit, unsafe sources[index].isReporter else { return }
    events.post(
      .deviceLost(PortID(rawValue: UInt16(truncatingIfNeeded: index)), Errno(rawValue: code))
    )
  }
}
