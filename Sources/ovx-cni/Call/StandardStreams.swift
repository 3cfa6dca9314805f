private import Glibc

/// The plugin's standard input and output.
enum StandardStreams {
  /// Bytes of a configuration, or of another plugin's answer, at most.
  static let limit = 1 << 20

  /// Reads standard input to its end.
  ///
  /// - Returns: The bytes, `limit` at most.
  /// - Throws: Code 5 where it cannot be read, 6 where there is more.
  static func read() throws(PluginError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe Glibc.read(STDIN_FILENO, &chunk, chunk.count)
      if count == 0 { return bytes }
      if count < 0 {
        if errno == EINTR { continue }
        throw PluginError(
          .inputOutput,
          "cannot read the network configuration from standard input: \(unsafe String(cString: strerror(errno)))"
        )
      }
      bytes += chunk[..<count]
      guard bytes.count <= limit else {
        throw PluginError(
          .undecodable,
          "the network configuration on standard input has more than \(limit) bytes, which ovx-cni does not take"
        )
      }
    }
  }

  /// Writes a text to standard output.
  ///
  /// - Parameter text: The text; a line's end is put behind it.
  /// - Returns: Whether all of it was taken.
  static func write(_ text: String) -> Bool {
    let bytes = Array((text + "\n").utf8)
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes[written...].withUnsafeBytes {
        unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      written += count
    }
    return true
  }
}
