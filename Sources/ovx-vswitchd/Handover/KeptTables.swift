private import Glibc
internal import Logging
internal import OVXControl
internal import OVXHost
internal import OVXLinux
private import SystemPackage

/// Tables between the end of a daemon and the next start, in a file of the run directory: so that a
/// restart floods nothing that was known.
///
/// The file is its owner's alone, is removed when it is read, and counts only for the boot in which
/// it was written. While the switch runs it is written from time to time (`TableKeeper`), for after
/// a crash; a clean end writes it once more, with counters.
struct KeptTables {
  /// Bytes of it at most: a million entries.
  private static let limit = 128 << 20

  private let path: String

  init(in rundir: String) { path = rundir + "/tables" }

  // MARK: Writing

  /// Replaces the file.
  ///
  /// Where that fails the next daemon learns anew.
  func write(_ messages: [HandoverMessage]) {
    let content = Self.content(
      of: messages, boot: Self.boot, now: UInt64(clamping: monotonicMilliseconds() / 1000))
    do throws(Errno) {
      try TrustedFile.replace(FilePath(path), with: content, permissions: .ownerReadWrite)
    } catch {
      remove()
    }
  }

  /// Removes the file.
  func remove() { unsafe unlink(path) }

  /// What is in a file: the boot, the version, the time, how many bytes follow, and messages, each
  /// with its length in front.
  static func content(of messages: [HandoverMessage], boot: String, now: UInt64) -> [UInt8] {
    var content: [UInt8] = []
    for message in messages {
      let bytes = message.bytes
      guard content.count + bytes.count < limit else { break }
      content += number(UInt64(bytes.count), 4)
      content += bytes
    }
    var bytes = Array(boot.utf8)
    bytes += number(UInt64(HandoverMessage.version), 2)
    bytes += number(now, 8)
    bytes += number(UInt64(content.count), 8)
    return bytes + content
  }

  private static func number(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64(count - 1 - $0))) }
  }

  // MARK: Reading

  /// Why nothing of a file is taken.
  enum Refusal: String, Error {
    case otherBoot = "they are of another boot of the host"
    case otherVersion = "another version of ovx-vswitchd has written them"
    case malformed = "they are broken"
  }

  /// Reads the messages, and removes the file; what makes no sense is told, and left out as a
  /// whole.
  func take(_ logger: Logger) -> [HandoverMessage] {
    let file: FileDescriptor
    do throws(Errno) { file = try TrustedFile.open(FilePath(path), .readOnly) } catch {
      if error != .noSuchFileOrDirectory { tell("\(error)", logger) }
      return []
    }
    remove()
    defer { try? file.close() }
    let bytes = file.readBytes(limit: Self.limit)
    do throws(Refusal) {
      return try Self.messages(in: bytes, boot: Self.boot, now: monotonicMilliseconds() / 1000)
    } catch {
      tell(error.rawValue, logger)
      return []
    }
  }

  private func tell(_ reason: String, _ logger: Logger) {
    logger.warning(
      "the tables in \(path) are not taken over: \(reason); stations are learned anew")
  }

  /// Takes a file apart; entries are older by the time that has passed since it was written.
  static func messages(
    in bytes: [UInt8], boot: String, now: Int64
  ) throws(Refusal) -> [HandoverMessage] {
    var rest = bytes[...]
    func take(_ count: UInt64) -> ArraySlice<UInt8>? {
      guard count <= rest.count else { return nil }
      defer { rest = rest.dropFirst(Int(count)) }
      return rest.prefix(Int(count))
    }
    func number(_ count: UInt64) -> UInt64? {
      take(count)?.reduce(0) { $0 << 8 | UInt64($1) }
    }
    guard let writer = take(UInt64(boot.utf8.count)) else { throw .malformed }
    guard !boot.isEmpty, writer.elementsEqual(boot.utf8) else { throw .otherBoot }
    guard let version = number(2) else { throw .malformed }
    guard version == HandoverMessage.version else { throw .otherVersion }
    guard let written = number(8), now >= 0, written <= UInt64(now), let length = number(8),
      length == rest.count
    else { throw .malformed }
    let elapsed = UInt32(clamping: UInt64(now) - written)
    var messages: [HandoverMessage] = []
    while !rest.isEmpty {
      guard let count = number(4), count <= MessageSocket.sizeLimit, let content = take(count),
        let message = HandoverMessage(bytes: Array(content)), message.isTable
      else { throw .malformed }
      messages.append(message.older(by: elapsed))
    }
    return messages
  }

  /// What the kernel calls this boot of the host.
  static var boot: String {
    Files.read("/proc/sys/kernel/random/boot_id", limit: 64).map { String($0.prefix(36)) } ?? ""
  }
}

extension HandoverMessage {
  /// Whether it tells of tables or counters.
  fileprivate var isTable: Bool {
    switch self {
    case .addresses, .neighbors, .counters: true
    default: false
    }
  }
}
