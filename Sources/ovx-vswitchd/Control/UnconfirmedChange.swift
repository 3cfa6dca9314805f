private import FoundationEssentials
internal import OVXControl
internal import OVXLinux
private import SystemPackage

/// A change that is taken back unless somebody confirms it in time: `--confirm-within`, `confirm`.
///
/// Whoever moves the address by which he is connected, and is wrong, cannot take it back himself.
/// What to go back to stands in a file beside the database, written before the change is stored and
/// removed when it is confirmed or taken back; so a daemon that is killed meanwhile finds it again.
/// After a reboot it is taken back at once: nobody can have confirmed it.
final class UnconfirmedChange {
  /// What the file has.
  struct Note: Codable {
    /// The configuration before the change.
    var former: Configuration
    /// What the host had on devices that the change makes ports of, by their names.
    var places: [String: HostPlace]
    /// `/proc/sys/kernel/random/boot_id`: the boot of the host on whose clock the deadline is.
    var boot: String
    /// When the change is taken back, in milliseconds on the monotonic clock.
    var deadline: Int64
  }

  private let path: FilePath
  private(set) var note: Note?

  /// Reads what a former daemon has left.
  ///
  /// - Parameter database: The path of the database.
  init(database: String) {
    path = FilePath(database + ".unconfirmed")
    guard let file = try? TrustedFile.open(path, .readOnly) else { return }
    defer { try? file.close() }
    let bytes = file.readAll(limit: 1 << 30)
    note = try? JSONDecoder().decode(Note.self, from: Data(bytes.utf8))
    if note?.boot != Self.boot { note?.deadline = .min }
  }

  /// When the change is taken back, in milliseconds on the monotonic clock; `nil` where none waits.
  var deadline: Int64? { note?.deadline }

  /// Whole seconds until the change is taken back.
  func secondsLeft(now: Int64) -> Int64? { deadline.map { (max($0, now) - now + 999) / 1000 } }

  /// Notes what to go back to, on disk.
  ///
  /// - Parameters:
  ///   - former: The configuration before the change.
  ///   - places: What the host has on devices that the change makes ports of.
  ///   - seconds: The time there is to confirm it.
  /// - Throws: That it cannot be written; nothing may be changed then.
  func begin(
    former: Configuration, places: [String: HostPlace], seconds: Int
  ) throws(ControlError) {
    let note = Note(
      former: former, places: places, boot: Self.boot,
      deadline: monotonicMilliseconds() + Int64(seconds) * 1000)
    do {
      let text = String(decoding: try JSONEncoder().encode(note), as: UTF8.self)
      try TrustedFile.replace(path, with: text, permissions: .ownerReadWrite)
    } catch {
      throw ControlError(
        "what to go back to cannot be written to \(path): \(error); nothing has changed")
    }
    self.note = note
  }

  /// Forgets the change: it is confirmed, or taken back, or was never made.
  func end() {
    note = nil
    try? FileManager.default.removeItem(atPath: path.string)
  }

  private static var boot: String {
    (try? String(contentsOfFile: "/proc/sys/kernel/random/boot_id", encoding: .utf8)) ?? ""
  }
}
