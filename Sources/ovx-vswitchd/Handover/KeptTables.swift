private import Glibc
internal import OVXHost
internal import OVXLinux
internal import OVXControl
private import SystemPackage

/// Tables and counters between a clean end and the next start, in a file of the run directory: so
/// that a restart floods nothing that was known.
///
/// The file is its owner's alone, is removed when it is read, and counts only for the boot in which
/// it was written. Of a crash there is none: nothing is written while the switch runs.
struct KeptTables {
  /// Bytes of it at most: a million entries.
  private static let limit = 128 << 20

  private let path: String

  init(in rundir: String) { path = rundir + "/tables" }

  /// Writes messages, each with its length in front.
  ///
  /// Where that fails the next daemon learns anew.
  func write(_ messages: [HandoverMessage]) {
    var bytes = Array(Self.boot.utf8)
    bytes += Self.number(UInt64(clamping: monotonicMilliseconds() / 1000), 8)
    for message in messages {
      let content = message.bytes
      guard bytes.count + content.count < Self.limit else { break }
      bytes += Self.number(UInt64(content.count), 4) + content
    }
    unsafe unlink(path)
    guard
      let file = try? TrustedFile.open(
        FilePath(path), .writeOnly, options: [.create, .exclusiveCreate],
        permissions: .ownerReadWrite)
    else { return }
    if (try? file.closeAfter { try file.writeAll(bytes) }) != bytes.count { unsafe unlink(path) }
  }

  /// Reads the messages, and removes the file; what makes no sense ends it.
  func take() -> [HandoverMessage] {
    guard let file = try? TrustedFile.open(FilePath(path), .readOnly) else { return [] }
    unsafe unlink(path)
    var bytes: [UInt8] = []
    _ = try? file.closeAfter {
      var buffer = [UInt8](repeating: 0, count: 1 << 20)
      while bytes.count < Self.limit {
        let count = unsafe try buffer.withUnsafeMutableBytes { unsafe try file.read(into: $0) }
        if count == 0 { break }
        bytes += buffer.prefix(count)
      }
    }
    return Self.messages(in: bytes, boot: Self.boot, now: monotonicMilliseconds() / 1000)
  }

  /// Takes a file apart; entries are older by the time that has passed since it was written.
  static func messages(in bytes: [UInt8], boot: String, now: Int64) -> [HandoverMessage] {
    var rest = bytes[...]
    func take(_ count: Int) -> ArraySlice<UInt8>? {
      guard count <= rest.count else { return nil }
      defer { rest = rest.dropFirst(count) }
      return rest.prefix(count)
    }
    func number(_ count: Int) -> UInt64? {
      take(count)?.reduce(0) { $0 << 8 | UInt64($1) }
    }
    guard take(boot.utf8.count)?.elementsEqual(boot.utf8) == true, let written = number(8),
      now >= 0, written <= UInt64(now)
    else { return [] }
    let elapsed = UInt32(clamping: UInt64(now) - written)
    var messages: [HandoverMessage] = []
    while let count = number(4), count <= MessageSocket.sizeLimit, let content = take(Int(count)),
      let message = HandoverMessage(bytes: Array(content))
    {
      messages.append(message.older(by: elapsed))
    }
    return messages
  }

  /// What the kernel calls this boot of the host.
  static var boot: String {
    Files.read("/proc/sys/kernel/random/boot_id", limit: 64).map { String($0.prefix(36)) } ?? ""
  }

  private static func number(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64(count - 1 - $0))) }
  }
}
