private import CCapture
private import Foundation
private import Glibc
internal import OVXControl
internal import OVXDatapath
internal import SystemPackage

/// One run of `ovx-ctl capture`: from the daemon's answer to the last frame.
final class CaptureSession {
  private let client: ControlClient
  private let connection: FileDescriptor
  private let start: CaptureStart
  private let limit: Int?
  private let file: (any PacketSink)?
  private let isJSON: Bool
  private let names: [UInt16: String]
  private let signals: Int32
  /// What the stream has brought and has not been taken apart.
  private var pending: [UInt8]
  private var shown = 0
  /// All frames that have come, also those behind the last to be shown.
  private var received: UInt64 = 0
  private var lost: UInt64 = 0
  /// Frames that were dropped and cannot be shown, by reason.
  private var unseen: [String: UInt64] = [:]
  private var text = ""

  /// Asks the daemon for a capture.
  ///
  /// - Throws: What it refuses, or that the file cannot be written; nothing is captured then.
  init(
    _ verb: CaptureFrames, _ command: Command, _ options: GlobalOptions.Values
  ) throws(ControlError) {
    var length = CaptureFrames.snapshotLimit
    switch command {
    case .capture(_, _, let given), .captureDrops(_, _, let given): length = given
    default: break
    }
    let isOfDrops = verb.drops
    limit = try verb.limit
    isJSON = options.format == .json
    client = options.client
    let (response, rest, connection) = try client.open(
      Request(commands: [command], timeout: options.timeout))
    self.connection = connection
    pending = rest
    signals = ovx_end_signals()
    do throws(ControlError) {
      guard case .done(let replies) = response.outcome, case .capture(let start)? = replies.first
      else {
        if case .failed(let error) = response.outcome { throw error }
        throw ControlError("the daemon's answer is none to a capture")
      }
      self.start = start
      let names = Dictionary(
        start.ports.map { ($0.number, $0.name) }, uniquingKeysWith: { first, _ in first })
      self.names = names
      // Last: a file of that name is not emptied for a capture that is refused.
      file = try verb.file.map { path throws(ControlError) -> any PacketSink in
        isOfDrops
          ? try NextGenerationFile(path, snapshotLength: length, names: names)
          : try PacketFile(path, snapshotLength: length)
      }
    } catch {
      try? connection.close()
      throw error
    }
  }

  /// Shows frames until there is an end to it, and says on stderr what it came to.
  ///
  /// - Throws: That the file cannot be written, or that the daemon has ended the capture.
  func run() throws(ControlError) {
    Invocation.complain("capturing \(start.subject); Ctrl-C ends it")
    var isEnded = false
    while !isEnded, !isFull {
      try takeFrames()
      if isFull { break }
      var list = [
        pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0),
        pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
      ]
      if unsafe poll(&list, 2, 0) == 0 {
        // Nothing is on its way: what has come is to be seen.
        try flush()
        _ = unsafe poll(&list, 2, -1)
      }
      if list[1].revents != 0 { break }
      if list[0].revents != 0 { isEnded = !receive() }
    }
    try takeFrames()
    if isEnded {
      try flush()
      report()
      throw ControlError(
        "the daemon ended the capture: what it was of is gone, or the daemon has stopped")
    }
    try finish()
    report()
  }

  /// Has the daemon end the capture, and takes what is still under way.
  private func finish() throws(ControlError) {
    let request = Request(commands: [.endCapture(number: start.number)], timeout: 5)
    var total: CaptureEnd?
    if case .done(let replies)? = (try? client.send(request))?.outcome,
      case .captureEnd(let end)? = replies.first
    {
      total = end
    }
    // The connection ends once the daemon has let go of it.
    var entry = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
    while unsafe poll(&entry, 1, 1000) > 0, receive() { try takeFrames() }
    try takeFrames()
    if let total { lost = total.lost + (total.captured - min(received, total.captured)) }
    try flush()
  }

  private var isFull: Bool { limit.map { shown >= $0 } ?? false }

  /// Reads what has come; `false` at the end of the stream.
  private func receive() -> Bool {
    var chunk = [UInt8](repeating: 0, count: 1 << 18)
    let count = unsafe chunk.withUnsafeMutableBytes { buffer in
      unsafe recv(connection.rawValue, buffer.baseAddress, buffer.count, 0)
    }
    if count > 0 { pending += chunk[..<count] }
    return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN))
  }

  private func takeFrames() throws(ControlError) {
    var offset = 0
    while let frame = CapturedFrame(pending, at: &offset) {
      lost = max(lost, frame.lost)
      if frame.isUnseen {
        unseen[Self.reason(of: frame)?.symbol ?? "unknown", default: 0] += UInt64(frame.length)
        if file == nil, !isFull { try show(frame) }
        continue
      }
      received += 1
      if isFull { continue }
      shown += 1
      try show(frame)
      if text.utf8.count > 1 << 16 { try flush() }
    }
    pending.removeFirst(offset)
  }

  private func show(_ frame: CapturedFrame) throws(ControlError) {
    if let file { return file.append(frame) }
    let port = Self.name(of: frame.port, names)
    text += isJSON ? try Self.json(of: frame, port: port) : Self.line(for: frame, port: port)
  }

  /// The name of a port, as far as it is known.
  static func name(of port: UInt16, _ names: [UInt16: String]) -> String {
    names[port] ?? (port == PortID.none.rawValue ? "-" : "port \(port)")
  }

  /// Why a frame was dropped, if it was.
  static func reason(of frame: CapturedFrame) -> DropReason? {
    frame.drop == 0 ? nil : UInt8(exactly: frame.drop - 1).flatMap(DropReason.init(rawValue:))
  }

  /// A frame in words.
  private static func line(for frame: CapturedFrame, port: String) -> String {
    let reason = reason(of: frame).map { " \($0.symbol):" } ?? ""
    if frame.isUnseen {
      let frames = "\(frame.length) frame\(frame.length == 1 ? "" : "s")"
      return "\(timeOfDay(frame.nanoseconds)) \(port) \(reason) \(frames) that cannot be shown\n"
    }
    let summary = FrameSummary(frame: frame.bytes, length: frame.length).text
    return
      "\(timeOfDay(frame.nanoseconds)) \(port) \(frame.isOutgoing ? "out" : "in ")\(reason) \(summary)\n"
  }

  /// A frame as one line of JSON.
  static func json(of frame: CapturedFrame, port: String) throws(ControlError) -> String {
    struct Line: Encodable {
      var time: Double
      var port: String
      var direction: String?
      var length: Int?
      var bytes: String?
      var summary: String?
      var drop: String?
      var frames: Int?
    }
    var line = Line(
      time: Double(frame.nanoseconds / 1000) / 1e6, port: port, drop: reason(of: frame)?.symbol)
    if frame.isUnseen {
      line.frames = frame.length
    } else {
      line.direction = frame.isOutgoing ? "out" : "in"
      line.length = frame.length
      line.bytes = hexadecimal(frame.bytes)
      line.summary = FrameSummary(frame: frame.bytes, length: frame.length).text
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(line) else {
      throw ControlError("a frame cannot be printed as JSON")
    }
    return String(decoding: data, as: UTF8.self) + "\n"
  }

  private func flush() throws(ControlError) {
    if let file { return try file.flush() }
    guard Invocation.write(text, to: STDOUT_FILENO) else {
      throw ControlError.unwritten("frames")
    }
    text = ""
  }

  private func report() {
    Invocation.complain(
      "\(shown) \(shown == 1 ? "frame" : "frames") captured, \(lost) lost")
    guard !unseen.isEmpty else { return }
    let reasons = unseen.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
    Invocation.complain(
      "dropped besides, where no frame can be shown: \(reasons.joined(separator: ", "))")
  }

  deinit {
    try? connection.close()
    close(signals)
  }
}
