import Glibc
import GRDB
import OVXSimulation
import SystemPackage
import Testing
@testable import OVXControl
@testable import OVXStorage

/// Databases that come to damage by accident.
@Suite struct DamageTests {
  /// Whatever bytes are changed in the file or its log: either the content is what it was, or it is
  /// noticed, the file is kept aside and named, and there is a database to go on with.
  @Test func anyDamageIsNoticedOrHarmless() throws {
    var random = SeededRandom()
    print("random damage: \(random)")
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    var bench = try Workbench("add-br br0")
    for number in 0..<40 {
      try bench.run(
        "add-port br0 veth\(number) type=tap tag=\(number + 1) external_ids:who=tenant\(number)")
    }
    var images: [(file: [UInt8], log: [UInt8])] = []
    do {
      let database = try Database(path: path)
      try database.save(bench.configuration)
      try database.settle()
      try bench.run("set port veth3 tag=99")
      try database.save(bench.configuration)
      // As a crash leaves it, the log with the last change beside the file.
      images.append((try bytes(of: path), try bytes(of: FilePath(path.string + "-wal"))))
    }
    images.append((try bytes(of: path), []))
    try #require(images[0].log.count > 4096)

    var (harmless, noticed) = (0, 0)
    for round in 0..<120 {
      var (file, log) = images[round % images.count]
      let story: String
      if round % 4 == 2, !log.isEmpty {
        story = "log: " + damage(&log, &random)
      } else {
        story = "file: " + damage(&file, &random)
      }
      let copy = scratch.path.appending("r\(round).db")
      try write(file, to: copy)
      if !log.isEmpty { try write(log, to: FilePath(copy.string + "-wal")) }
      let database: OVXStorage.Database
      do {
        database = try Database(path: copy)
      } catch {
        Issue.record("refused, \(random), round \(round), \(story): \(error)")
        continue
      }
      if let note = database.note {
        noticed += 1
        #expect(note.contains("the database \(copy) is damaged ("), "\(note)")
        #expect(note.contains("it is kept as \(copy).corrupt-1"), "\(note)")
        #expect(note.contains("put a good copy in its place"), "\(note)")
        #expect(!note.contains("Error") && !note.contains("error:"), "\(note)")
        #expect(database.configuration == Configuration() && database.mayReplaceLostOne)
      } else if file.isEmpty {
        // As if there were none, which whoever has devices in use knows to be wrong.
        noticed += 1
        #expect(database.mayReplaceLostOne)
      } else {
        harmless += 1
        #expect(
          database.configuration == bench.configuration,
          "other content, \(random), round \(round), \(story)")
        #expect(!database.mayReplaceLostOne, "\(random), round \(round), \(story)")
      }
      // It can be gone on with.
      try database.save(bench.configuration)
      #expect(try database.load() == bench.configuration)
    }
    print("\(noticed) damages noticed, \(harmless) harmless")
    #expect(noticed > 10 && harmless > 3)
  }

  /// Does what disks and programs do: a flipped bit, other bytes, a block of zeros, a block of
  /// another place, an end cut off.
  private func damage(_ bytes: inout [UInt8], _ random: inout SeededRandom) -> String {
    let place = Int.random(in: 0..<bytes.count, using: &random)
    let length = [1, 4, 64, 512, 4096].randomElement(using: &random) ?? 1
    let range = place..<min(bytes.count, place + length)
    switch Int.random(in: 0..<6, using: &random) {
    case 0, 1:
      bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      return "bit of \(place)"
    case 2:
      for index in range { bytes[index] = UInt8.random(in: 0...255, using: &random) }
      return "random \(range)"
    case 3:
      for index in range { bytes[index] = 0 }
      return "zeros \(range)"
    case 4:
      let source = Int.random(in: 0...(bytes.count - range.count), using: &random)
      let copy = Array(bytes[source..<(source + range.count)])
      bytes.replaceSubrange(range, with: copy)
      return "\(source) to \(range)"
    default:
      bytes.removeLast(bytes.count - place)
      return "cut off at \(place)"
    }
  }

  /// The reference's test vectors, for a key and inputs of 0, 1, 2 … bytes that count up from 0.
  @Test func siphash() {
    let key: (UInt64, UInt64) = (0x0706_0504_0302_0100, 0x0F0E_0D0C_0B0A_0908)
    #expect(Digest(hashing: [], key: key).low == 0xE6A8_25BA_047F_81A3)
    #expect(Digest(hashing: [], key: key).high == 0x9302_55C7_1472_F66D)
    #expect(Digest(hashing: [0], key: key).low == 0x44AF_996B_D8C1_87DA)
    #expect(Digest(hashing: [0], key: key).high == 0x45FC_229B_1159_7634)
    #expect(Digest(hashing: [0, 1]).text.count == 32)
  }

  /// The digest of what is written a change at a time is that of the whole.
  @Test func aChangeCostsItsOwnRows() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    var bench = try Workbench("add-br br0")
    let database = try Database(path: path)
    for number in 0..<30 {
      try bench.run("add-port br0 veth\(number) type=tap tag=\(number)")
      try database.save(bench.configuration, Configuration.Changes(ports: ["veth\(number)"]))
      let reader = try DatabaseQueue(path: path.string)
      let texts = try reader.read { rows in
        [try Digest.stored(in: rows), try Digest(contentOf: rows).text]
      }
      #expect(texts[0] == texts[1])
    }
  }
}
