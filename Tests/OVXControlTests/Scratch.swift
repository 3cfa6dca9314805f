import Glibc
import SystemPackage
import Testing

/// A directory of its own, which goes with the test.
final class Scratch {
  let path: FilePath

  init() throws {
    path = FilePath("/tmp/ovx-test-\(String(UInt64.random(in: 0...UInt64.max), radix: 36))")
    let made = unsafe mkdir(path.string, 0o700)
    try #require(made == 0)
  }

  deinit { remove(path) }

  private func remove(_ path: FilePath) {
    if let directory = unsafe opendir(path.string) {
      while let entry = unsafe readdir(directory) {
        let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
          unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { remove(path.appending(name)) }
      }
      unsafe closedir(directory)
    }
    _ = unsafe Glibc.remove(path.string)
  }
}

/// All bytes of a file.
func bytes(of path: FilePath) throws -> [UInt8] {
  let file = try FileDescriptor.open(path, .readOnly)
  defer { try? file.close() }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = try unsafe chunk.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
    guard count > 0 else { return bytes }
    bytes += chunk[..<count]
  }
}

/// Makes a file of bytes, in the place of what was there.
func write(_ bytes: [UInt8], to path: FilePath) throws {
  let file = try FileDescriptor.open(
    path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
  defer { try? file.close() }
  try file.writeAll(bytes)
}
