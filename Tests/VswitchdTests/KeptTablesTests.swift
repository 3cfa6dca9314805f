import OVXDatapath
import OVXHost
import OVXSimulation
import Testing

@testable import ovx_vswitchd

/// The file in which tables are kept over a restart.
@Suite struct KeptTablesTests {
  private static let boot = "0b1c2d3e-0000-4000-8000-000000000001"
  private static let messages: [HandoverMessage] = [.ready, .fault(port: "p", sentence: "s"), .go]

  private static func file(
    _ messages: [HandoverMessage] = messages, boot: String = boot, written: UInt8 = 100
  ) -> [UInt8] {
    Array(boot.utf8) + [0, 0, 0, 0, 0, 0, 0, written]
      + messages.flatMap { [0, 0, 0, UInt8($0.bytes.count)] + $0.bytes }
  }

  @Test func whatIsWrittenIsRead() {
    #expect(KeptTables.messages(in: Self.file(), boot: Self.boot, now: 100) == Self.messages)
    #expect(KeptTables.messages(in: Self.file([]), boot: Self.boot, now: 5000).isEmpty)
  }

  @Test func entriesGrowOlder() throws {
    let file = Self.file([])
    // One address of bridge b at port p, seen two seconds before; see `HandoverMessageTests.bytes`.
    let message: [UInt8] = [
      7, 0, 1, 0x62, 0, 1, 0, 100, 0, 0, 2, 0, 0, 0, 0, 1, 0, 1, 0x70, 0, 1, 0, 0, 0, 2,
    ]
    let found = KeptTables.messages(
      in: file + [0, 0, 0, UInt8(message.count)] + message, boot: Self.boot, now: 130)
    guard case .addresses(_, let list)? = found.first else {
      Issue.record("\(found)")
      return
    }
    #expect(list.map(\.age) == [32])
  }

  @Test func anotherBootOrAnotherTime() {
    #expect(
      KeptTables.messages(in: Self.file(), boot: String(Self.boot.reversed()), now: 100).isEmpty)
    #expect(KeptTables.messages(in: Self.file(), boot: Self.boot, now: 99).isEmpty)
    #expect(KeptTables.messages(in: Self.file(), boot: Self.boot, now: -1).isEmpty)
  }

  @Test func cutOffAnywhereOrSpoilt() {
    let file = Self.file()
    for count in 0..<file.count {
      let found = KeptTables.messages(in: Array(file.prefix(count)), boot: Self.boot, now: 100)
      #expect(found == Array(Self.messages.prefix(found.count)) && found.count < 3)
    }
    var random = SeededRandom()
    for _ in 0..<2000 {
      var bytes = file
      for _ in 0..<3 {
        bytes[.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
      }
      _ = KeptTables.messages(in: bytes, boot: Self.boot, now: 100)
    }
    let endless = file + [255, 255, 255, 255] + [UInt8](repeating: 0, count: 1000)
    #expect(KeptTables.messages(in: endless, boot: Self.boot, now: 100) == Self.messages)
  }
}
