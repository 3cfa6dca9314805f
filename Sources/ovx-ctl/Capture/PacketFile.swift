private import CCapture
private import Glibc
internal import OVXControl

/// An expression of pcap-filter(7), compiled by libpcap.
struct FilterExpression {
  /// One number for each instruction; none for an empty expression.
  let program: [UInt64]

  /// - Throws: What libpcap says of the expression.
  init(_ expression: String, snapshotLength: Int) throws(ControlError) {
    guard expression.contains(where: { !$0.isWhitespace }) else {
      program = []
      return
    }
    guard !expression.utf8.contains(0) else {
      throw ControlError("the filter has a zero byte in it; take it out")
    }
    var reason = Explanation()
    guard unsafe ovx_capture_load(&reason.text) else {
      throw ControlError(
        "the filter \"\(expression)\" cannot be compiled: \(reason)")
    }
    var words = [UInt64](repeating: 0, count: ovx_filter_limit)
    let count = unsafe ovx_filter_compile(
      expression, Int32(clamping: snapshotLength), &words, &reason.text)
    guard count >= 0 else {
      throw ControlError(
        "the filter \"\(expression)\" is not understood: \(reason); pcap-filter(7) tells how to write one"
      )
    }
    program = Array(words.prefix(Int(count)))
  }
}

/// Why libpcap cannot do something.
private struct Explanation: CustomStringConvertible {
  var text = [CChar](repeating: 0, count: ovx_capture_error_size)

  var description: String {
    String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// Where frames are written.
protocol PacketSink {
  func append(_ frame: CapturedFrame)
  /// Writes out what is buffered.
  ///
  /// - Throws: Where that fails, as on a full disk.
  func flush() throws(ControlError)
}

extension ControlError {
  /// That frames cannot be written to a file, or `-`, for the reason that `errno` has.
  static func unwrittenFrames(_ path: String) -> ControlError {
    let reason = unsafe String(cString: strerror(errno))
    return ControlError(
      "frames cannot be written to \(path == "-" ? "standard output" : path): \(reason)")
  }
}

/// A file in pcap format, written by libpcap.
@safe
final class PacketFile: PacketSink {
  private let path: String
  private let file: UnsafeMutableRawPointer

  /// Makes or empties a file; `-` is standard output.
  ///
  /// - Throws: Why it cannot be written, and its name.
  init(_ path: String, snapshotLength: Int) throws(ControlError) {
    self.path = path
    var reason = Explanation()
    guard
      let file = unsafe ovx_dump_open(path, Int32(clamping: snapshotLength), &reason.text)
    else {
      let sentence = reason.description
      throw ControlError(
        "frames cannot be written to "
          + (sentence.contains(path) ? sentence : "\(path): \(sentence)")
          + "; name another file with -w")
    }
    unsafe self.file = unsafe file
  }

  func append(_ frame: CapturedFrame) {
    unsafe frame.bytes.withUnsafeBytes { bytes in
      unsafe ovx_dump(
        file, frame.nanoseconds, UInt32(clamping: frame.length),
        UInt32(clamping: bytes.count), bytes.baseAddress)
    }
  }

  /// Writes out what is buffered.
  ///
  /// - Throws: Where that fails, as on a full disk.
  func flush() throws(ControlError) {
    guard unsafe ovx_dump_flush(file) else { throw ControlError.unwrittenFrames(path) }
  }

  deinit {
    unsafe ovx_dump_close(file)
  }
}
