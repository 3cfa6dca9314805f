private import Glibc
internal import OVXControl
private import OVXDatapath

/// A file in pcapng format of dropped frames: the port as the interface, the direction, and the
/// reason as a comment.
///
/// As the IETF's draft-ietf-opsawg-pcapng has it, in the byte order of the machine; libpcap writes
/// no such files.
final class NextGenerationFile: PacketSink {
  private let path: String
  private let descriptor: Int32
  private let snapshotLength: Int
  private let names: [UInt16: String]
  /// The numbers of the interfaces that the file has so far, by port.
  private var interfaces: [UInt16: UInt32] = [:]
  private var pending: [UInt8] = []

  /// Makes or empties a file; `-` is standard output.
  ///
  /// - Throws: Why it cannot be written, and its name.
  init(_ path: String, snapshotLength: Int, names: [UInt16: String]) throws(ControlError) {
    self.path = path
    self.snapshotLength = snapshotLength
    self.names = names
    descriptor =
      path == "-"
      ? STDOUT_FILENO : unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      let reason = unsafe String(cString: strerror(errno))
      throw ControlError(
        "frames cannot be written to \(path): \(reason); name another file with -w")
    }
    // Section header: byte order, version 1.0, a length that is not known.
    var header = bytes(of: 0x1A2B_3C4D as UInt32) + bytes(of: 1 as UInt16) + bytes(of: 0 as UInt16)
    header += bytes(of: -1 as Int64)
    header += option(4, Array("ovx-ctl \(OVXVersion.current)".utf8)) + endOfOptions
    add(0x0A0D_0D0A, header)
  }

  func append(_ frame: CapturedFrame) {
    let interface = interface(of: frame.port)
    var body = bytes(of: interface)
    body += bytes(of: UInt32(truncatingIfNeeded: frame.nanoseconds >> 32))
    body += bytes(of: UInt32(truncatingIfNeeded: frame.nanoseconds))
    body += bytes(of: UInt32(clamping: frame.bytes.count))
    body += bytes(of: UInt32(clamping: frame.length)) + padded(frame.bytes)
    // Flags: bits 0 and 1 are the direction.
    body += option(2, bytes(of: (frame.isOutgoing ? 2 : 1) as UInt32))
    if let reason = CaptureSession.reason(of: frame) {
      body += option(1, Array("\(reason.symbol): \(reason.sentence)".utf8))
    }
    add(6, body + endOfOptions)
  }

  func flush() throws(ControlError) {
    var rest = pending[...]
    while !rest.isEmpty {
      let count = unsafe rest.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw ControlError.unwrittenFrames(path) }
      rest = rest.dropFirst(count)
    }
    pending = []
  }

  deinit { if descriptor > STDERR_FILENO { close(descriptor) } }

  /// The number of a port's interface, which is described in the file when it is first asked for.
  private func interface(of port: UInt16) -> UInt32 {
    if let known = interfaces[port] { return known }
    let number = UInt32(clamping: interfaces.count)
    interfaces[port] = number
    let isNone = port == PortID.none.rawValue
    let name = isNone ? "none" : CaptureSession.name(of: port, names)
    let description = isNone ? "frames that belong to no port" : "dropped at port \(name)"
    // Ethernet, times in nanoseconds.
    var body = bytes(of: 1 as UInt16) + bytes(of: 0 as UInt16)
    body += bytes(of: UInt32(clamping: snapshotLength)) + option(2, Array(name.utf8))
    body += option(3, Array(description.utf8)) + option(9, [9]) + endOfOptions
    add(1, body)
    return number
  }

  private func add(_ type: UInt32, _ body: [UInt8]) {
    let length = bytes(of: UInt32(clamping: body.count + 12))
    pending += bytes(of: type) + length + body + length
  }

  private let endOfOptions: [UInt8] = [0, 0, 0, 0]

  private func option(_ code: UInt16, _ value: [UInt8]) -> [UInt8] {
    bytes(of: code) + bytes(of: UInt16(clamping: value.count)) + padded(value)
  }

  private func padded(_ value: [UInt8]) -> [UInt8] {
    value + Array(repeating: 0, count: -value.count & 3)
  }

  private func bytes(of number: some FixedWidthInteger) -> [UInt8] {
    let size = number.bitWidth / 8
    let isLittle = 1.littleEndian == 1
    return (0..<size).map { place in
      UInt8(truncatingIfNeeded: number >> ((isLittle ? place : size - 1 - place) * 8))
    }
  }
}
