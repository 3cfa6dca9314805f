private import OVXControl
private import OVXLinux
private import SystemPackage

/// A file of the run directory in which the daemon notes things, one each line, for a daemon that
/// comes after a crash.
///
/// It is gone with the next boot of the host, and so is what is noted in it. Where it cannot be
/// written, what is lost is that a later daemon knows.
struct NoteFile {
  private let path: FilePath

  init(_ path: String) { self.path = FilePath(path) }

  /// What a former daemon has noted, without the ends of lines.
  var lines: [Substring] {
    guard let file = try? TrustedFile.open(path, .readOnly) else { return [] }
    defer { try? file.close() }
    return file.readAll(limit: 16 << 20).split(separator: "\n")
  }

  /// Adds a line, which holds no end of one.
  func append(_ line: String) {
    guard
      let file = try? TrustedFile.open(
        path, .writeOnly, options: [.append, .create], permissions: .ownerReadWrite)
    else { return }
    _ = try? file.closeAfter { try file.writeAll("\(line)\n".utf8) }
  }

  /// Replaces the file as a whole, so that a crash leaves the old or the new one.
  func replace(with lines: [String]) {
    let text = lines.sorted().map { "\($0)\n" }.joined()
    try? TrustedFile.replace(path, with: text, permissions: .ownerReadWrite)
  }
}
