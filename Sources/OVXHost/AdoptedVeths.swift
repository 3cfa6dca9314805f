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
      let adoption = Adoption(ownMTU: numbers[1], peerMTU: numbers[2], givenMTU: numbers[3])
      take(Note(index: index, adoption: adoption), of: String(words[4]))
    }
  }

  /// The names of all of them.
  var names: [String] { Array(notes.keys) }

  /// What a device has from us; `nil` where it has its own MTU.
  func adoption(of link: Link) -> Adoption? {
    notes[link.name].flatMap { $0.index == link.index ? $0.adoption : nil }
  }

  /// Notes what a device is about to get from us.
  func note(_ adoption: Adoption, of link: Link) {
    let note = Note(index: link.index, adoption: adoption)
    guard take(note, of: link.name) else { return }
    // Where this fails, the device does not get back what it had after a restart.
    file.append(Self.line(link.name, note))
  }

  /// Takes a note in the place of the one that there was of a device, which may not have been
  /// followed by anything; `false` where it says nothing new.
  @discardableResult private func take(_ note: Note, of name: String) -> Bool {
    var note = note
    if let former = notes[name], former.index == note.index {
      if former.adoption.givenMTU != note.adoption.givenMTU {
        note.adoption.earlierMTU = former.adoption.givenMTU
      } else {
        note.adoption.earlierMTU = former.adoption.earlierMTU
      }
    }
    return notes.updateValue(note, forKey: name) != note
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
