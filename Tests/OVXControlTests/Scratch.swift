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
