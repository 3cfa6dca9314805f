private import CLinux
private import Glibc
internal import OVXDatapath

/// The captures of a worker, which shows them the frames that it reads and sends.
///
/// While there is none, that costs a burst two branches.
@safe
final class CaptureSet {
  /// Captures at a time; each has a buffer of some megabytes.
  static let limit = 8

  /// Whether there is anybody to show frames to that come and go.
  private(set) var isArmed = false
  /// Whether there is anybody to show dropped frames to.
  private(set) var wantsDrops = false
  /// What was read last, as it was before it was forwarded; there once somebody has wanted to see
  /// dropped frames.
  private(set) var snapshot: UnsafeMutableRawPointer?
  private(set) var snapshotCount = 0
  private(set) var captures: [Capture] = []
  private let descriptor: (UnderlaySocketID) -> Int32
  /// What the sending sockets join, asked for once a second.
  private var ends: [UInt32: SocketEnds] = [:]
  private var listeners: [Int32: SocketEnds] = [:]

  /// Makes an empty set.
  ///
  /// - Parameter descriptor: The socket of a path, or -1.
  init(descriptor: @escaping (UnderlaySocketID) -> Int32) {
    self.descriptor = descriptor
  }

  func add(_ capture: Capture) -> Bool {
    removeFinished()
    guard captures.count < Self.limit else { return false }
    captures.append(capture)
    if capture.place.isOfDrops, unsafe snapshot == nil {
      unsafe snapshot = .allocate(byteCount: ReceiveBuffers.capacity, alignment: 64)
    }
    arm()
    capture.send()
    return true
  }

  func end(_ number: UInt64) -> CaptureCounts? {
    let counts = captures.first { $0.number == number }?.end()
    removeFinished()
    return counts
  }

  /// Ends the captures of ports and bridges that are not there any more: their numbers may be given
  /// to others.
  func endAbsent(_ datapath: borrowing Datapath) {
    for capture in captures {
      let isThere =
        switch capture.place {
        case .device(let port), .tunnel(let port): datapath.bridge(of: port) != nil
        case .bridge(let bridge), .bridgeDrops(let bridge): datapath.hasBridge(bridge)
        case .drops(let port): port == nil || port.flatMap { datapath.bridge(of: $0) } != nil
        }
      if !isThere { _ = capture.end() }
    }
    removeFinished()
  }

  func endAll() {
    for capture in captures { _ = capture.end() }
    removeFinished()
  }

  /// Lets go of readers that are gone; once a second.
  func tick() {
    guard !captures.isEmpty else { return }
    for capture in captures { capture.check() }
    removeFinished()
    ends = [:]
    listeners = [:]
  }

  private func removeFinished() {
    captures.removeAll(where: \.isOver)
    arm()
  }

  private func arm() {
    isArmed = captures.contains { !$0.place.isOfDrops }
    wantsDrops = captures.contains { $0.place.isOfDrops }
  }

  deinit { unsafe snapshot?.deallocate() }

  /// Sends what the sockets have room for.
  func sendAll() {
    for capture in captures { capture.send() }
    if captures.contains(where: \.isOver) { removeFinished() }
  }

  /// Keeps what was read, as the datapath is about to change it.
  func keep(_ frame: UnsafeRawPointer, count: Int) {
    guard let snapshot = unsafe snapshot else { return }
    snapshotCount = min(max(count, 0), ReceiveBuffers.capacity)
    unsafe snapshot.copyMemory(from: frame, byteCount: snapshotCount)
  }

  // MARK: What comes in

  /// Shows a frame that a device brought.
  func showReceived(
    _ frame: UnsafeRawPointer, count: Int, tag: VLANTag, from port: PortID,
    _ datapath: borrowing Datapath
  ) {
    let bridge = datapath.bridge(of: port)
    for capture in captures {
      switch capture.place {
      case .device(port): break
      case .bridge(let wanted) where wanted == bridge: break
      default: continue
      }
      let now = ovx_realtime_nanoseconds()
      guard tag.isPresent, count >= 12 else {
        unsafe show(frame, count: count, to: capture, port, now)
        continue
      }
      // The kernel took the tag out: it goes back to where it was.
      var front = [UInt8](repeating: 0, count: VLANTag.addressedByteCount)
      unsafe front.withUnsafeMutableBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        unsafe tag.write(behindAddressesOf: frame, to: base)
      }
      unsafe show(frame + 12, count: count - 12, behind: front, to: capture, port, now)
    }
    sendAll()
  }

  /// Shows the datagrams that a socket brought, with the headers that they had outside or without.
  func showReceived(
    _ train: UnsafeRawPointer, count: Int, segmentSize: Int, on endpoint: ListenerID,
    socket: Int32, from remote: IPAddress, port remotePort: UInt16,
    trafficClass: UInt8, _ datapath: borrowing Datapath
  ) {
    // A superframe is one datagram, and what cannot be read is shown as one.
    let isTrain =
      unsafe segmentSize > 0
      && datapath.reading(
        of: train, count: count, segmentSize: segmentSize, on: endpoint, from: remote) == .datagrams
    let stride = isTrain ? segmentSize : max(count, 1)
    let owner = unsafe datapath.tunnel(of: train, count: count, on: endpoint, from: remote)?.port
    let now = ovx_realtime_nanoseconds()
    var offset = 0
    while offset < count {
      let datagram = unsafe train + offset
      let length = min(stride, count - offset)
      offset += stride
      // Only the first header of what came in one piece says whose it is.
      guard
        let tunnel = unsafe datapath.tunnel(
          of: datagram, count: length, on: endpoint, from: remote), tunnel.port == owner
      else { continue }
      let bridge = datapath.bridge(of: tunnel.port)
      for capture in captures {
        switch capture.place {
        case .tunnel(tunnel.port):
          var ends = listener(socket)
          // A socket of any address: the one that answers go out from is the one that was meant.
          if ends.local.isUnspecified { ends.local = self.ends(of: tunnel.path).local }
          let front = OuterHeaders.bytes(
            from: remote, remotePort, to: ends.local, ends.localPort, payloadCount: length,
            trafficClass: trafficClass)
          unsafe show(datagram, count: length, behind: front, to: capture, tunnel.port, now)
        case .bridge(let wanted) where wanted == bridge && length > VXLANHeader.byteCount:
          unsafe show(
            datagram + VXLANHeader.byteCount, count: length - VXLANHeader.byteCount, to: capture,
            tunnel.port, now)
        default: continue
        }
      }
    }
    sendAll()
  }

  private func show(
    _ bytes: UnsafeRawPointer, count: Int, behind front: [UInt8] = [], to capture: Capture,
    _ port: PortID, _ now: UInt64
  ) {
    var piece = unsafe Vector(base: bytes, count: count)
    unsafe front.withUnsafeBytes { front in
      unsafe withUnsafePointer(to: &piece) { piece in
        unsafe capture.record(
          front: front, pieces: UnsafeBufferPointer(start: piece, count: 1), offset: 0,
          count: count, port: port, isOutgoing: false, nanoseconds: now)
      }
    }
  }

  // MARK: What goes out

  /// Shows what is about to be sent.
  func showSent(
    _ transmissions: UnsafeBufferPointer<Transmission>, _ vectors: UnsafePointer<Vector>
  ) {
    let now = ovx_realtime_nanoseconds()
    for index in transmissions.indices {
      let transmission = unsafe transmissions[index]
      for capture in captures {
        switch (capture.place, transmission.kind) {
        case (.device(transmission.port), .frame):
          // The first vector is the virtio-net header.
          let pieces = unsafe UnsafeBufferPointer(
            start: vectors + Int(transmission.firstVector) + 1,
            count: Int(transmission.vectorCount) - 1)
          unsafe capture.record(
            front: UnsafeRawBufferPointer(start: nil, count: 0), pieces: pieces, offset: 0,
            count: Int(transmission.byteCount), port: transmission.port, isOutgoing: true,
            nanoseconds: now)
        case (.tunnel(transmission.port), .datagrams):
          unsafe showTrain(transmission, vectors, to: capture, now)
        case (.tunnel(transmission.port), .injected):
          // Shown from the VXLAN header on, behind the same headers as what the flow's socket
          // sends.
          unsafe showTrain(
            transmission, vectors, from: InjectionHeader.payloadOffset, to: capture, now)
        default: continue
        }
      }
    }
    sendAll()
  }

  private func showTrain(
    _ transmission: Transmission, _ vectors: UnsafePointer<Vector>, from start: Int = 0,
    to capture: Capture, _ now: UInt64
  ) {
    let pieces = unsafe UnsafeBufferPointer(
      start: vectors + Int(transmission.firstVector), count: Int(transmission.vectorCount))
    let ends = ends(of: transmission.path)
    let total = Int(transmission.byteCount)
    let stride = transmission.segmentSize > 0 ? Int(transmission.segmentSize) : max(total, 1)
    var offset = start
    while offset < total {
      let length = min(stride, total - offset)
      let front = OuterHeaders.bytes(
        from: ends.local, ends.localPort, to: ends.remote, ends.remotePort, payloadCount: length,
        trafficClass: transmission.outer.trafficClass, hopLimit: transmission.outer.hopLimit)
      unsafe front.withUnsafeBytes { front in
        unsafe capture.record(
          front: front, pieces: pieces, offset: offset, count: length, port: transmission.port,
          isOutgoing: true, nanoseconds: now)
      }
      offset += stride
    }
  }

  func ends(of path: UnderlaySocketID) -> SocketEnds {
    if let known = ends[path.rawValue] { return known }
    let found = SocketEnds(of: descriptor(path))
    ends[path.rawValue] = found
    return found
  }

  func listener(_ socket: Int32) -> SocketEnds {
    if let known = listeners[socket] { return known }
    let found = SocketEnds(of: socket)
    listeners[socket] = found
    return found
  }
}
