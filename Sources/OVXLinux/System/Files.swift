private import Glibc
package import SystemPackage

/// Small files that are read as a whole, and removed.
package enum Files {
  /// Reads a file; `nil` where it cannot be read.
  ///
  /// What is beyond `limit` bytes is left out.
  package static func read(_ path: String, limit: Int = 1 << 20) -> String? {
    guard let file = try? FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec)
    else { return nil }
    defer { try? file.close() }
    return file.readAll(limit: limit)
  }

  /// Removes a file.
  ///
  /// - Throws: The kernel's reason.
  package static func remove(_ path: String) throws(Errno) {
    guard unsafe unlink(path) == 0 else { throw .latest }
  }
}

extension FileDescriptor {
  /// Reads up to the end, or up to `limit` bytes; what fails counts as the end.
  package func readAll(limit: Int = 1 << 20) -> String {
    String(decoding: readBytes(limit: limit), as: UTF8.self)
  }

  /// The same, whatever they are.
  package func readBytes(limit: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: min(limit, 1 << 16))
    while bytes.count < limit {
      let count = unsafe buffer.withUnsafeMutableBytes { buffer in
        unsafe (try? read(into: buffer)) ?? 0
      }
      if count == 0 { break }
      bytes += buffer.prefix(count)
    }
    return bytes
  }
}
