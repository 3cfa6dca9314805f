private import OVXControl
internal import OVXLinux
private import SystemPackage

/// The veths of somebody else's that have their MTU from us, and what they had before, for a daemon that comes later.
///
/// They are noted in a file of the run directory, which is gone with the next boot of the host, and so are they. A device
/// counts by its name and its number, so that one which was made anew is as its owner has made it.
final class AdoptedVeths {
  private struct Note: Equatable {
    var index: Int32
    var adoption: Adoption
  }

  private let path: FilePath
  private var notes: [String: Note] = [:]

  /// Reads what a former daemon has noted in a directory.
  init(rundir: String) {
    path = FilePath(rundir + "/adopted-veths")
    guard let file = try? TrustedFile.open(path, .readOnly) else { return }
    defer { try? file.close() }
    for line in file.readAll(limit: 16 << 20).split(separator: "\n") {
      let words = line.split(separator: " ", maxSplits: 4)
      let numbers = words.prefix(4).compactMap { Int($0) }
      guard words.count == 5, numbers.count == 4, let index = Int32(exactly: numbers[0]) else {
        continue
      }
      notes[String(words[4])] = Note(
        index: index,
        adoption: Adoption(ownMTU: numbers[1], peerMTU: numbers[2], givenMTU: numbers[3]))
    }
  }

  /// The names of all of them.
  var names: [String] { Array(notes.keys) }

  /// What a device has from us; `nil` where it has its own MTU.
  func adoption(of link: Link) -> Adoption? {
    notes[link.name].flatMap { $0.index == link.index ? $0.adoption : nil }
  }

  /// Notes what a device has from us.
  func note(_ adoption: Adoption, of link: Link) {
    let note = Note(index: link.index, adoption: adoption)
    guard notes.updateValue(note, forKey: link.name) != note else { return }
    // The last line of a name counts. Where this fails, the device does not get back what it had after a restart.
    guard
      let file = try? TrustedFile.open(
        path, .writeOnly, options: [.append, .create], permissions: .ownerReadWrite)
    else { return }
    _ = try? file.closeAfter { try file.writeAll(Self.line(link.name, note).utf8) }
  }

  /// Forgets devices that have their own MTU again, or are gone.
  func forget(_ names: some Sequence<String>) {
    let count = notes.count
    for name in names { notes[name] = nil }
    guard notes.count != count else { return }
    // As a whole, so that a crash leaves the old file or the new one.
    let text = notes.map(Self.line).sorted().joined()
    try? TrustedFile.replace(path, with: text, permissions: .ownerReadWrite)
  }

  private static func line(_ name: String, _ note: Note) -> String {
    let adoption = note.adoption
    return "\(note.index) \(adoption.ownMTU) \(adoption.peerMTU) \(adoption.givenMTU) \(name)\n"
  }
}
