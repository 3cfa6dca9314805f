private import CCapture
private import CLinux
private import Glibc
package import OVXDatapath
private import Synchronization

/// A program of the packet filter, as libpcap compiles an expression, ready to run.
@safe
package final class CaptureFilter: @unchecked Sendable {
  /// Nothing stands for a program without instructions, which accepts every frame.
  private let program: UnsafeMutableRawPointer?

  /// Instructions at most, as many as the kernel takes.
  package static let instructionLimit = ovx_filter_limit

  /// Loads libpcap, which no process can that has given up the right to make code.
  ///
  /// - Returns: Why that is not possible, and the remedy; `nil` where it is.
  package static func load() -> String? {
    var reason = [CChar](repeating: 0, count: ovx_capture_error_size)
    guard unsafe !ovx_capture_load(&reason) else { return nil }
    return String(decoding: reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Checks a program, which may come from anybody: it must end for every frame and stay in its
  /// memory.
  ///
  /// `nil` where it is not such a program.
  ///
  /// - Parameter words: One number for each instruction: code, jt, jf and k, from the high end on.
  package init?(_ words: [UInt64]) {
    guard words.count <= Self.instructionLimit else { return nil }
    unsafe program = unsafe words.isEmpty ? nil : ovx_filter_make(words, Int32(words.count))
    guard unsafe words.isEmpty || program != nil else { return nil }
  }

  deinit { unsafe ovx_filter_free(program) }

  /// Whether a frame is wanted, of which some bytes are there.
  func accepts(_ frame: UnsafeRawPointer, length: Int, captured: Int) -> Bool {
    guard let program = unsafe program else { return true }
    return unsafe ovx_filter_accepts(
      program, frame, UInt32(clamping: length), UInt32(clamping: captured))
  }
}

/// What a capture has come to.
package struct CaptureCounts: Equatable, Sendable {
  /// Frames that were put in the reader's way.
  package var captured: UInt64 = 0
  /// Frames that the reader was too slow for.
  package var lost: UInt64 = 0

  package init() {}
}

/// A way for one reader to see the frames of one place.
///
/// Workers copy frames into a buffer of this capture's own and send from it, by a stream socket,
/// what the socket has room for. They never wait for the reader: one that is too slow loses frames,
/// which are counted. They may wait for each other, and so the records of several workers follow
/// each other whole. Each frame is preceded by a `RecordHeader`, in the byte order of this machine.
@safe
package final class Capture: @unchecked Sendable {
  /// What frames are shown.
  package enum Place: Equatable, Sendable {
    /// All that come in and go out by a device.
    case device(PortID)
    /// All datagrams of a tunnel, each with the IP and UDP headers that it has outside.
    case tunnel(PortID)
    /// All that enter a bridge, each once, as they are inside.
    case bridge(BridgeID)
    /// All that are dropped and are counted at a port, or came in by it; at any port, or none,
    /// where none is named.
    case drops(PortID?)
    /// All that are dropped at ports of a bridge.
    case bridgeDrops(BridgeID)

    /// Whether it is what is dropped that is shown, and nothing else.
    var isOfDrops: Bool {
      switch self {
      case .device, .tunnel, .bridge: false
      case .drops, .bridgeDrops: true
      }
    }
  }

  /// What precedes each frame on the stream.
  package struct RecordHeader: BitwiseCopyable, Sendable {
    /// Bytes that follow.
    package var captured: UInt32
    /// Bytes that the frame had.
    package var length: UInt32
    /// Since 1970.
    package var nanoseconds: UInt64
    /// Frames lost so far.
    package var lost: UInt64
    package var port: PortID
    /// 0 for a frame that came in by the port, 1 for one that leaves by it.
    package var direction: UInt16
    /// 0 for a frame that is on its way, else the reason's number and 1.
    ///
    /// Where such a record has no bytes, as many frames were dropped as its length says, of which
    /// nothing can be shown: the kernel had them.
    package var drop: UInt32 = 0
  }

  /// Bytes of a frame that are shown at most: all of the longest.
  package static let snapshotLimit = 262_144
  /// Bytes that wait for the reader at most.
  static let bufferSize = 4 << 20
  /// The longest record: a frame that fills a slot, a tag and outer headers.
  private static let recordLimit = 128 << 10

  let number: UInt64
  let place: Place
  private let filter: CaptureFilter
  private let snapshotLength: Int
  private let descriptor: Int32
  private let buffer: UnsafeMutableRawPointer
  /// Bytes at the front of the buffer that have been sent, and that are filled.
  private var sent = 0
  private var filled: Int
  private var counts = CaptureCounts()
  private let over = Atomic(false)
  /// Held by the worker that looks at any of the above.
  private let turn = Mutex(())

  /// Whether the reader is gone.
  var isOver: Bool { over.load(ordering: .relaxed) }

  /// Makes a capture that has not begun.
  ///
  /// - Parameters:
  ///   - number: By which to end it.
  ///   - place: What frames to show.
  ///   - filter: Which of them.
  ///   - snapshotLength: Bytes of each at most, clamped to 1...`snapshotLimit`.
  ///   - greeting: Bytes that the reader gets first, 64 KiB at most.
  ///   - socket: A stream socket of the capture's own.
  package init(
    number: UInt64, place: Place, filter: CaptureFilter, snapshotLength: Int, greeting: [UInt8],
    socket: consuming Descriptor
  ) {
    self.number = number
    self.place = place
    self.filter = filter
    self.snapshotLength = min(max(snapshotLength, 1), Self.snapshotLimit)
    // Pages are touched as frames come; the longest record fits behind the last that is kept.
    unsafe buffer = .allocate(byteCount: Self.bufferSize + Self.recordLimit, alignment: 64)
    let greeting = greeting.prefix(1 << 16)
    filled = greeting.count
    descriptor = socket.release()
    unsafe greeting.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress {
        unsafe buffer.copyMemory(from: base, byteCount: bytes.count)
      }
    }
    var size: Int32 = 1 << 20
    let length = socklen_t(MemoryLayout<Int32>.size)
    _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &size, length)
  }

  deinit {
    _ = close(descriptor)
    unsafe buffer.deallocate()
  }

  /// Copies a frame, unless the filter does not want it; loses it where the buffer is full.
  ///
  /// - Parameters:
  ///   - front: What stands in front of the pieces.
  ///   - pieces: Where the frame lies.
  ///   - offset: Bytes of the pieces in front of it.
  ///   - count: Its bytes there.
  ///   - port: By which it comes or goes.
  ///   - isOutgoing: Whether it goes.
  ///   - reason: Why it is dropped, if it is.
  ///   - nanoseconds: When, since 1970.
  func record(
    front: UnsafeRawBufferPointer, pieces: UnsafeBufferPointer<Vector>, offset: Int, count: Int,
    port: PortID, isOutgoing: Bool, reason: DropReason? = nil, nanoseconds: UInt64
  ) {
    turn.withLock { _ in
      unsafe take(
        front: front, pieces: pieces, offset: offset, count: count, port: port,
        isOutgoing: isOutgoing, reason: reason, nanoseconds: nanoseconds)
    }
  }

  /// Tells of frames that were dropped and cannot be shown.
  func recordUnseen(_ drop: DroppedFrames, nanoseconds: UInt64) {
    turn.withLock { _ in
      let header = MemoryLayout<RecordHeader>.size
      guard filled + header <= Self.bufferSize else {
        counts.lost &+= UInt64(drop.frames)
        return
      }
      let facts = RecordHeader(
        captured: 0, length: drop.frames, nanoseconds: nanoseconds, lost: counts.lost,
        port: drop.port, direction: 0, drop: UInt32(drop.reason.rawValue) + 1)
      unsafe (buffer + filled).storeBytes(of: facts, as: RecordHeader.self)
      filled += header
    }
  }

  /// Counts frames that would have been shown.
  func lose(_ frames: UInt64) { turn.withLock { _ in counts.lost &+= frames } }

  private func take(
    front: UnsafeRawBufferPointer, pieces: UnsafeBufferPointer<Vector>, offset: Int, count: Int,
    port: PortID, isOutgoing: Bool, reason: DropReason?, nanoseconds: UInt64
  ) {
    let header = MemoryLayout<RecordHeader>.size
    let length = front.count + count
    let limit = min(length, snapshotLength, Self.recordLimit - header)
    let record = unsafe buffer + filled
    var place = unsafe record + header
    var room = limit
    func append(_ bytes: UnsafeRawPointer?, _ count: Int) {
      let part = min(count, room)
      guard let bytes = unsafe bytes, part > 0 else { return }
      unsafe place.copyMemory(from: bytes, byteCount: part)
      unsafe place += part
      room -= part
    }
    unsafe append(front.baseAddress, front.count)
    var skipped = offset
    var missing = count
    for index in pieces.indices {
      let piece = unsafe pieces[index]
      let pieceLength = unsafe piece.count
      let start = min(skipped, pieceLength)
      skipped -= start
      let part = min(pieceLength - start, missing)
      missing -= part
      unsafe append(piece.base.map { unsafe $0 + start }, part)
    }
    let captured = limit - room
    guard unsafe filter.accepts(record + header, length: length, captured: captured) else { return }
    guard filled + header + captured <= Self.bufferSize else {
      counts.lost &+= 1
      return
    }
    let facts = RecordHeader(
      captured: UInt32(clamping: captured), length: UInt32(clamping: length),
      nanoseconds: nanoseconds, lost: counts.lost, port: port, direction: isOutgoing ? 1 : 0,
      drop: reason.map { UInt32($0.rawValue) + 1 } ?? 0)
    unsafe record.storeBytes(of: facts, as: RecordHeader.self)
    filled += header + captured
    counts.captured &+= 1
  }

  /// Sends what the socket has room for now.
  func send() { turn.withLock { _ in sendWaiting() } }

  private func sendWaiting() {
    while sent < filled, !isOver {
      let flags = Int32(MSG_DONTWAIT | MSG_NOSIGNAL)
      let count = unsafe Glibc.send(descriptor, buffer + sent, filled - sent, flags)
      if count > 0 {
        sent += count
      } else if errno == EAGAIN {
        break
      } else if errno != EINTR {
        over.store(true, ordering: .relaxed)
      }
    }
    if sent == filled {
      (sent, filled) = (0, 0)
    } else if sent > Self.bufferSize / 2 {
      unsafe buffer.copyMemory(from: buffer + sent, byteCount: filled - sent)
      (sent, filled) = (0, filled - sent)
    }
  }

  /// Finds out whether the reader is still there.
  func check() {
    send()
    var byte: UInt8 = 0
    let flags = Int32(MSG_DONTWAIT | MSG_PEEK)
    let count = unsafe recv(descriptor, &byte, 1, flags)
    if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) {
      over.store(true, ordering: .relaxed)
    }
  }

  /// Sends what the socket has room for, and nothing after that: the reader counts what it did not
  /// get.
  func end() -> CaptureCounts {
    turn.withLock { _ in
      sendWaiting()
      over.store(true, ordering: .relaxed)
      return counts
    }
  }
}
