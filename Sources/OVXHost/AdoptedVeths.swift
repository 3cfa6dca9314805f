internal import OVXLinux

/// The veths of somebody else's that have their MTU from us, and what they had before, for a daemon
/// that comes later.
///
/// A device counts by its name and its number, so that one which was made anew is as its owner has
/// made it.
final class AdoptedVeths {
  private struct Note: Equatable {
    var index: Int32
    var adoption: Adoption
  }

  private let file: NoteFile
  private var notes: [String: Note] = [:]

  /// Reads what a former daemon has noted in a directory.
  init(rundir: String) {
    file = NoteFile(rundir + "/adopted-veths")
    for line in file.lines {
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
    // The last line of a name counts. Where this fails, the device does not get back what it had
    // after a restart.
    file.append(Self.line(link.name, note))
  }

  /// Forgets devices that have their own MTU again, or are gone.
  func forget(_ names: some Sequence<String>) {
    let count = notes.count
    for name in names { notes[name] = nil }
    if notes.count != count { file.replace(with: notes.map(Self.line)) }
  }

  private static func line(_ name: String, _ note: Note) -> String {
    let adoption = note.adoption
    return "\(note.index) \(adoption.ownMTU) \(adoption.peerMTU) \(adoption.givenMTU) \(name)"
  }
}
