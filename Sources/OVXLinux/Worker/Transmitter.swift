private import CLinux
private import Glibc
internal import OVXDatapath
internal import SystemPackage

/// The sending half of a worker: the ring, and where each port's frames and each path's datagrams
/// go.
///
/// Sends are requests of the ring that do not wait: what the kernel has no room for is lost and
/// counted. Success is silent, failures come back as completions, which the worker turns into
/// counts with `failure(of:)`.
@safe struct Transmitter: ~Copyable {
  var ring: Ring

  /// Whether the memory of the frames being flushed stays theirs until the ring is next entered.
  ///
  /// It does at the end of a burst: those sends share one system call with the next burst's reads,
  /// which come after them. In the middle of a burst the next frame may overwrite it, so the ring
  /// is entered at once.
  var mayDefer = false

  /// Seconds since boot at the latest tick.
  var now: UInt32 = 0

  private let devices: UnsafeMutablePointer<Device>
  private let paths: UnsafeMutablePointer<Path>
  /// The places of the injectors in the ring's file table, and their descriptors; 0 and -1 for
  /// none.
  private let injectors: UnsafeMutablePointer<(file: UInt32, descriptor: Int32)>
  private let dispatches: UnsafeMutablePointer<ovx_dispatch>
  private var dispatchCount = 0
  private let pieces: UnsafeMutablePointer<iovec>
  private var pieceCount = 0
  private let segmentLimit: UInt8
  private let events: EventQueue

  /// A port's device.
  private struct Device {
    /// The place in the ring's file table, 0 for none.
    var file: UInt32 = 0
    /// Whether frames go by sendmsg(2), to a packet socket, and not by writev(2).
    var isSocket = false
    var descriptor: Int32 = -1
    /// Whether it had a carrier when that was looked at last, and the second of that.
    var hasCarrier = true
    var carrierCheckedAt = UInt32.max
    /// When the control side was last told that it takes no superframes.
    var refusedAt = UInt32.max
  }

  /// A connected UDP socket; all zeros for none.
  private struct Path: BitwiseCopyable {
    /// The place in the ring's file table, 0 for none.
    var file: UInt32 = 0
    var descriptor: Int32 = 0
    /// Datagrams per send at most; 1 where the kernel or the underlay's device cannot do
    /// `UDP_SEGMENT`.
    var segmentLimit: UInt8 = 0
    var isIPv6 = false
    /// Goes up with each opening, so that a late poll of the socket before is recognised.
    var generation: UInt16 = 0
    /// When the control side was last told that the path got narrower.
    var narrowedAt: UInt32 = 0
  }

  /// Numbers of paths are below it: four for each remote VTEP there can be.
  static let pathLimit = 4 * RemoteVTEPID.limit
  /// Messages that are prepared at a time: as many as requests.
  private static let dispatchLimit = 256
  /// Vectors for cut trains at a time; no send takes more than 1,024 (`UIO_MAXIOV`).
  private static let pieceLimit = 1024
  /// Datagrams that Linux cuts out of one send at most (`UDP_MAX_SEGMENTS`) since 6.9, and before.
  static let segmentLimits: (current: UInt8, old: UInt8) = (128, 64)

  /// Makes one without any device or path.
  ///
  /// - Parameters:
  ///   - ring: The worker's.
  ///   - events: Where to say that a path got narrower.
  ///   - segmentLimit: Datagrams per send that a path is tried with at first.
  init(
    ring: consuming Ring,
    events: EventQueue,
    segmentLimit: UInt8 = UDPSegmentation.current == .works ? Transmitter.segmentLimits.current : 1
  ) {
    self.ring = ring
    self.events = events
    self.segmentLimit = segmentLimit
    unsafe devices = .allocate(capacity: PortID.limit)
    unsafe devices.initialize(repeating: Device(), count: PortID.limit)
    // A megabyte of zeros, which takes memory only where there are paths.
    guard let memory = unsafe calloc(Self.pathLimit, MemoryLayout<Path>.stride) else {
      fatalError("There is no memory for \(Self.pathLimit) underlay paths.")
    }
    unsafe paths = memory.bindMemory(to: Path.self, capacity: Self.pathLimit)
    unsafe injectors = .allocate(capacity: InjectorID.limit)
    unsafe injectors.initialize(repeating: (0, -1), count: InjectorID.limit)
    unsafe dispatches = .allocate(capacity: Self.dispatchLimit)
    unsafe dispatches.initialize(repeating: ovx_dispatch(), count: Self.dispatchLimit)
    unsafe pieces = .allocate(capacity: Self.pieceLimit)
    unsafe pieces.initialize(repeating: iovec(), count: Self.pieceLimit)
  }

  deinit {
    unsafe devices.deallocate()
    unsafe free(paths)
    unsafe injectors.deallocate()
    unsafe dispatches.deallocate()
    unsafe pieces.deallocate()
  }

  // MARK: Where to

  /// Sends a port's frames to a registered file from now on; 0 for nowhere.
  mutating func setDevice(of port: PortID, file: UInt32, isSocket: Bool, descriptor: Int32 = -1) {
    guard Int(port.rawValue) < PortID.limit else { return }
    unsafe devices[Int(port.rawValue)] = Device(
      file: file, isSocket: isSocket, descriptor: descriptor)
  }

  /// Sends by a connected socket from now on; the path has none so far.
  mutating func openPath(_ path: UnderlaySocketID, descriptor: Int32) throws(LinuxError) {
    let file = try ring.register(descriptor, "underlay path \(path.rawValue)")
    let generation = unsafe paths[Int(path.rawValue)].generation &+ 1
    unsafe paths[Int(path.rawValue)] = Path(
      file: file,
      descriptor: descriptor,
      // The kernel cuts nothing that is to have no checksum.
      segmentLimit: ovx_omits_checksum(descriptor) ? 1 : segmentLimit,
      isIPv6: ovx_is_ipv6(descriptor),
      generation: generation
    )
    watchErrors(of: path)
  }

  /// Asks to be told when an ICMP message leaves an error on a path's socket.
  ///
  /// The kernel reports it in place of carrying out the next send, so it has to be taken away
  /// before there is one. By a poll this costs nothing where there are no errors.
  private mutating func watchErrors(of path: UnderlaySocketID) {
    let state = unsafe paths[Int(path.rawValue)]
    guard let request = unsafe ring.nextRequest() else { return }
    unsafe ovx_prepare_error_poll(request, state.file, errorTag(path).rawValue)
  }

  private func errorTag(_ path: UnderlaySocketID) -> CompletionTag {
    CompletionTag(
      .pathError, index: path.rawValue,
      generation: unsafe paths[Int(path.rawValue)].generation)
  }

  /// Forgets a path's socket and returns its descriptor, -1 where it had none.
  mutating func closePath(_ path: UnderlaySocketID) -> Int32 {
    guard path.rawValue < Self.pathLimit else { return -1 }
    let old = unsafe paths[Int(path.rawValue)]
    guard old.file != 0 else { return -1 }
    if let request = unsafe ring.nextRequest() {
      unsafe ovx_prepare_cancel(
        request, errorTag(path).rawValue, CompletionTag(.ignored).rawValue)
    }
    submit()
    ring.unregister(old.file)
    unsafe paths[Int(path.rawValue)] = Path(generation: old.generation)
    return old.descriptor
  }

  /// The socket of a path, or -1.
  func descriptor(of path: UnderlaySocketID) -> Int32 {
    guard path.rawValue < Self.pathLimit, unsafe paths[Int(path.rawValue)].file != 0 else {
      return -1
    }
    return unsafe paths[Int(path.rawValue)].descriptor
  }

  /// Writes injected superframes to an open injector from now on; there is none of that number so
  /// far.
  mutating func openInjector(_ injector: InjectorID, descriptor: Int32) throws(LinuxError) {
    let file = try ring.register(descriptor, "injector \(injector.rawValue)")
    unsafe injectors[Int(injector.rawValue)] = (file, descriptor)
  }

  /// Forgets an injector and returns its descriptor, -1 where there is none.
  mutating func closeInjector(_ injector: InjectorID) -> Int32 {
    guard Int(injector.rawValue) < InjectorID.limit else { return -1 }
    let old = unsafe injectors[Int(injector.rawValue)]
    guard old.file != 0 else { return -1 }
    ring.unregister(old.file)
    unsafe injectors[Int(injector.rawValue)] = (0, -1)
    return old.descriptor
  }

  // MARK: Sending

  /// Turns transmissions into requests; the failures that are known at once are returned by
  /// completions all the same.
  mutating func send(
    _ transmissions: UnsafeBufferPointer<Transmission>,
    _ vectors: UnsafePointer<Vector>
  ) {
    for index in transmissions.indices {
      let transmission = unsafe transmissions[index]
      let first = unsafe vectors + Int(transmission.firstVector)
      switch transmission.kind {
      case .frame: unsafe sendFrame(transmission, first)
      case .datagrams: unsafe sendDatagrams(transmission, first)
      case .injected: unsafe sendInjected(transmission, first)
      }
    }
    if !mayDefer { submit() }
  }

  /// Enters the kernel without waiting; nothing that was sent so far refers to any memory
  /// afterwards.
  mutating func submit() {
    ring.submit()
    dispatchCount = 0
    pieceCount = 0
  }

  /// As `submit()`, but waits for a completion.
  mutating func wait() {
    ring.wait()
    dispatchCount = 0
    pieceCount = 0
  }

  private mutating func sendFrame(_ transmission: Transmission, _ vectors: UnsafePointer<Vector>) {
    let tag = CompletionTag(
      .frame, index: UInt32(transmission.port.rawValue), detail: transmission.frameCount,
      generation: transmission.offload.isSuperframe ? 1 : 0)
    guard Int(transmission.port.rawValue) < PortID.limit else { return }
    let device = unsafe devices[Int(transmission.port.rawValue)]
    guard device.file != 0 else { return reportMissing(tag) }
    if device.isSocket {
      unsafe send(
        vectors,
        count: Int(transmission.vectorCount),
        segmentSize: 0,
        by: device.file,
        tag
      )
    } else if let request = unsafe ring.nextRequest() {
      unsafe ovx_prepare_write(
        request,
        device.file,
        vectors,
        transmission.vectorCount,
        tag.rawValue
      )
    }
  }

  private mutating func sendInjected(
    _ transmission: Transmission,
    _ vectors: UnsafePointer<Vector>
  ) {
    guard Int(transmission.injector.rawValue) < InjectorID.limit else { return }
    let tag = CompletionTag(
      .injected,
      index: UInt32(transmission.injector.rawValue),
      detail: transmission.frameCount,
      generation: transmission.port.rawValue
    )
    let file = unsafe injectors[Int(transmission.injector.rawValue)].file
    guard file != 0 else { return reportMissing(tag) }
    guard let request = unsafe ring.nextRequest() else { return }
    unsafe ovx_prepare_write(request, file, vectors, transmission.vectorCount, tag.rawValue)
  }

  private mutating func sendDatagrams(
    _ transmission: Transmission,
    _ vectors: UnsafePointer<Vector>
  ) {
    let isTrain = transmission.segmentSize != 0
    let tag = CompletionTag(
      isTrain ? .train : .datagram,
      index: transmission.path.rawValue,
      detail: transmission.frameCount,
      generation: transmission.port.rawValue
    )
    guard transmission.path.rawValue < Self.pathLimit else { return }
    let path = unsafe paths[Int(transmission.path.rawValue)]
    guard path.file != 0 else { return reportMissing(tag) }
    let size = Int(transmission.segmentSize)
    guard isTrain, Int(transmission.byteCount) > size &* Int(path.segmentLimit) else {
      return unsafe send(
        vectors,
        count: Int(transmission.vectorCount),
        segmentSize: transmission.segmentSize,
        outer: transmission.outer,
        isIPv6: path.isIPv6,
        by: path.file,
        tag
      )
    }
    unsafe sendInPieces(transmission, vectors, path)
  }

  private mutating func send(
    _ vectors: UnsafeRawPointer,
    count: Int,
    segmentSize: UInt16,
    outer: OuterHeader = .plain,
    isIPv6: Bool = false,
    by file: UInt32,
    _ tag: CompletionTag
  ) {
    if dispatchCount == Self.dispatchLimit { submit() }
    guard let request = unsafe ring.nextRequest() else { return }
    let dispatch = unsafe dispatches + dispatchCount
    dispatchCount &+= 1
    let message = unsafe ovx_dispatch_prepare(dispatch, vectors, count, segmentSize)
    if outer != .plain {
      unsafe ovx_dispatch_set_outer(dispatch, isIPv6, outer.trafficClass, outer.hopLimit)
    }
    unsafe ovx_prepare_send(request, file, message, tag.rawValue)
  }

  /// Sends a train in several sends, of as many datagrams each as the path takes at once.
  private mutating func sendInPieces(
    _ transmission: Transmission,
    _ vectors: UnsafePointer<Vector>,
    _ path: Path
  ) {
    let segmentSize = Int(transmission.segmentSize)
    let pieceSize = segmentSize * max(1, Int(path.segmentLimit))
    var remaining = Int(transmission.byteCount)
    var index = 0
    var offset = 0
    while remaining > 0, index < Int(transmission.vectorCount) {
      // A piece has at most all the train's vectors; the scratch space holds those of the longest
      // train.
      let needed = Int(transmission.vectorCount) - index
      guard needed <= Self.pieceLimit else { return }
      if pieceCount + needed > Self.pieceLimit { submit() }
      let first = unsafe pieces + pieceCount
      var room = min(pieceSize, remaining)
      let byteCount = room
      var count = 0
      while room > 0, index < Int(transmission.vectorCount) {
        let vector = unsafe vectors[index]
        let length = unsafe vector.count
        let part = min(room, length - offset)
        unsafe first[count] = unsafe iovec(
          iov_base: UnsafeMutableRawPointer(mutating: vector.base).map { unsafe $0 + offset },
          iov_len: part
        )
        count += 1
        room -= part
        offset += part
        if offset == length {
          index += 1
          offset = 0
        }
      }
      pieceCount += count
      remaining -= byteCount
      let datagrams = (byteCount + segmentSize - 1) / segmentSize
      let tag = CompletionTag(
        datagrams > 1 ? .train : .datagram,
        index: transmission.path.rawValue,
        detail: UInt16(clamping: datagrams),
        generation: transmission.port.rawValue
      )
      unsafe send(
        first,
        count: count,
        segmentSize: datagrams > 1 ? transmission.segmentSize : 0,
        outer: transmission.outer,
        isIPv6: path.isIPv6,
        by: path.file,
        tag
      )
    }
  }

  /// Makes the failure of a send that has nowhere to go known the way that all others are: as a
  /// completion.
  ///
  /// A request for a file that was never registered fails without any effect.
  private mutating func reportMissing(_ tag: CompletionTag) {
    guard let request = unsafe ring.nextRequest() else { return }
    unsafe ovx_prepare_write(request, UInt32(Int32.max), nil, 0, tag.rawValue)
  }

  // MARK: Failures

  /// What a failed send comes to: which port to charge with how many frames, and for what.
  mutating func failure(of completion: Completion) -> (
    port: PortID, reason: DropReason, frames: Int
  )? {
    let tag = completion.tag
    let code = completion.errno
    switch tag.kind {
    case .frame:
      let port = PortID(rawValue: UInt16(truncatingIfNeeded: tag.index))
      var reason = Self.deviceReason(code)
      if reason == .deviceFull, !hasCarrier(port) { reason = .deviceDown }
      if reason == .deviceFull, tag.generation == 1 { noteRefusedSuperframe(of: port) }
      return (port, reason, frames: Int(tag.detail))
    case .datagram, .train:
      let path = UnderlaySocketID(rawValue: UInt32(tag.index))
      let port = PortID(rawValue: tag.generation)
      if tag.kind == .train, code == EINVAL || code == EIO {
        lowerSegmentLimit(of: path, datagrams: Int(tag.detail), code)
      }
      if code == EMSGSIZE { noteNarrowing(of: path) }
      return (port, Self.underlayReason(code), frames: Int(tag.detail))
    case .injected:
      let port = PortID(rawValue: tag.generation)
      return (port, Self.underlayReason(code), frames: Int(tag.detail))
    default: return nil
    }
  }

  /// Whether what a packet socket's device is connected to is up, as of this second.
  ///
  /// A veth whose other end is down refuses frames as one does that has no room.
  private mutating func hasCarrier(_ port: PortID) -> Bool {
    let index = Int(port.rawValue)
    guard index < PortID.limit, unsafe devices[index].isSocket else { return true }
    if unsafe devices[index].carrierCheckedAt != now {
      unsafe devices[index].carrierCheckedAt = now
      unsafe devices[index].hasCarrier = ovx_has_carrier(devices[index].descriptor)
    }
    return unsafe devices[index].hasCarrier
  }

  /// Tells the control side, once a second, that a packet socket's device has not taken a
  /// superframe.
  ///
  /// It may have come to take smaller ones only, which the kernel does not announce; the error is
  /// that of a device that has no room.
  private mutating func noteRefusedSuperframe(of port: PortID) {
    let index = Int(port.rawValue)
    guard index < PortID.limit, unsafe devices[index].isSocket,
      unsafe devices[index].refusedAt != now
    else { return }
    unsafe devices[index].refusedAt = now
    events.post(.superframeRefused(port))
  }

  /// The injector that a failure shows to be of no use any more; other failures may be those of one
  /// superframe.
  func lostInjector(_ completion: Completion) -> InjectorID? {
    guard completion.tag.kind == .injected else { return nil }
    switch completion.errno {
    case EIO, EBADF, EBADFD, ENXIO, ENODEV, ENETDOWN:
      return InjectorID(rawValue: UInt16(truncatingIfNeeded: completion.tag.index))
    default: return nil
    }
  }

  private static func deviceReason(_ code: Int32) -> DropReason {
    switch code {
    case EAGAIN, ENOBUFS, ENOMEM: .deviceFull
    case ENETDOWN, EIO, EBADFD, EBADF, ENXIO, ENODEV: .deviceDown
    default: .deviceRefused
    }
  }

  private static func underlayReason(_ code: Int32) -> DropReason {
    switch code {
    case EAGAIN, ENOBUFS, ENOMEM: .underlayFull
    case EMSGSIZE: .exceedsTunnelMTU
    case EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN, EBADF: .underlayUnreachable
    case ECONNREFUSED: .remoteNotListening
    default: .underlayRefused
    }
  }

  /// A train was refused as such: the kernel is older than 6.9 and it was too long, or the route's
  /// device cannot.
  private mutating func lowerSegmentLimit(of path: UnderlaySocketID, datagrams: Int, _ code: Int32)
  {
    guard path.rawValue < Self.pathLimit else { return }
    let wasTooLong = code == EINVAL && datagrams > Int(Self.segmentLimits.old)
    unsafe paths[Int(path.rawValue)].segmentLimit = wasTooLong ? Self.segmentLimits.old : 1
  }

  /// Takes away the error that an ICMP message has left on a path's socket, before a send would be
  /// refused for it.
  ///
  /// - Returns: What the message says became of a frame that was sent before; `nil` where it says
  ///   nothing of that.
  mutating func takePathError(_ completion: Completion) -> DropReason? {
    let path = UnderlaySocketID(rawValue: UInt32(completion.tag.index))
    guard path.rawValue < Self.pathLimit else { return nil }
    let state = unsafe paths[Int(path.rawValue)]
    guard state.file != 0, state.generation == completion.tag.generation else { return nil }
    if completion.result >= 0, !completion.hasMore { watchErrors(of: path) }
    var code: Int32 = 0
    var size = socklen_t(MemoryLayout<Int32>.size)
    guard unsafe getsockopt(state.descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 else {
      return nil
    }
    if code == EMSGSIZE { noteNarrowing(of: path) }
    return code == 0 ? nil : Self.underlayReason(code)
  }

  /// Tells the control side that a path has got too narrow, once a second.
  private mutating func noteNarrowing(of path: UnderlaySocketID) {
    guard path.rawValue < Self.pathLimit, unsafe paths[Int(path.rawValue)].file != 0,
      unsafe paths[Int(path.rawValue)].narrowedAt != now
    else { return }
    unsafe paths[Int(path.rawValue)].narrowedAt = now
    events.post(.pathNarrowed(path))
  }
}
