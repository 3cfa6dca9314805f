@testable import OVXDatapath
@testable import OVXHost
import OVXSimulation
import Testing

@testable import ovx_vswitchd

/// The file in which tables are kept over a restart.
@Suite struct KeptTablesTests {
  private static let boot = "0b1c2d3e-0000-4000-8000-000000000001"
  /// Two addresses and a neighbor of bridge b, and what port p has carried.
  private static let messages: [HandoverMessage] = {
    var counters = PortCounters()
    counters.receivedFrames = 7
    counters[.stormLimit] = 3
    let vlan = VLANID(tagControl: 100)
    let (near, far) = (MACAddress(truncating: 0x62_0001), MACAddress(truncating: 0x62_0002))
    return [
      .addresses(
        bridge: "b",
        [
          HandedAddress(
            vlan: vlan, address: far, port: "vx", remote: IPAddress(v4: 0x0A00_0002), age: 2),
          HandedAddress(vlan: vlan, address: near, port: "p", remote: nil, age: nil),
        ]),
      .neighbors(
        bridge: "b",
        [
          HandedNeighbor(
            vlan: vlan, ip: IPAddress(v4: 0x0A09_0001), address: near, port: "p", remote: nil,
            isRouter: false, age: 1)
        ]),
      .counters([HandedCounters(port: "p", counters: counters)]),
    ]
  }()

  private static func file(
    _ messages: [HandoverMessage] = messages, written: UInt64 = 100
  ) -> [UInt8] {
    KeptTables.content(of: messages, boot: boot, now: written)
  }

  /// What is taken of a file, or why nothing is.
  private static func read(
    _ bytes: [UInt8], boot: String = boot, now: Int64 = 100
  ) -> Result<[HandoverMessage], KeptTables.Refusal> {
    Result { () throws(KeptTables.Refusal) in
      try KeptTables.messages(in: bytes, boot: boot, now: now)
    }
  }

  @Test func whatIsWrittenIsRead() {
    #expect(Self.read(Self.file()) == .success(Self.messages))
    #expect(Self.read(Self.file([]), now: 5000) == .success([]))
  }

  @Test func entriesGrowOlder() throws {
    let found = try Self.read(Self.file(), now: 130).get()
    guard case .addresses(_, let addresses) = found[0], case .neighbors(_, let neighbors) = found[1]
    else {
      Issue.record("\(found)")
      return
    }
    #expect(addresses.map(\.age) == [32, nil])
    #expect(neighbors.map(\.age) == [31])
  }

  @Test func anotherBootVersionOrTime() {
    let file = Self.file()
    #expect(
      Self.read(file, boot: String(Self.boot.reversed())) == .failure(.otherBoot))
    #expect(Self.read(file, boot: "") == .failure(.otherBoot), "nobody knows which boot this is")
    var other = file
    other[Self.boot.utf8.count + 1] &+= 1
    #expect(Self.read(other) == .failure(.otherVersion))
    #expect(Self.read(file, now: 99) == .failure(.malformed), "it is of the future")
    #expect(Self.read(file, now: -1) == .failure(.malformed))
  }

  /// Messages that say anything else than what is in tables have no place in it.
  @Test(arguments: [HandoverMessage.ready, .go, .cancelled("no"), .agent([1, 2])])
  func otherMessages(_ message: HandoverMessage) {
    #expect(Self.read(Self.file(Self.messages + [message])) == .failure(.malformed))
  }

  /// Nothing of a file is taken of which a part is missing, or that has something behind it.
  @Test func cutOffAnywhere() {
    let file = Self.file()
    for count in 0..<file.count {
      #expect(throws: KeptTables.Refusal.self) { try Self.read(Array(file.prefix(count))).get() }
    }
    #expect(Self.read(file + [0]) == .failure(.malformed))
    #expect(Self.read(file + file) == .failure(.malformed))
  }

  /// Whatever is in the file, it is refused or makes tables that could have been written.
  @Test func anyBytes() {
    var random = SeededRandom()
    let file = Self.file()
    let header = file.count - Self.messages.map { 4 + $0.bytes.count }.reduce(0, +)
    for round in 0..<20_000 {
      var bytes = file
      switch round % 3 {
      case 0:
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          bytes[.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
        }
      case 1:
        let content = (0..<Int.random(in: 0...200, using: &random)).map { _ in
          UInt8.random(in: 0...(round % 2 == 0 ? 255 : 8), using: &random)
        }
        let length = UInt8(content.count)
        bytes = file.prefix(header - 8) + [0, 0, 0, 0, 0, 0, 0, length] + content
      default:
        bytes.removeSubrange(
          .random(in: header..<bytes.count, using: &random)..<bytes.count)
        bytes[header - 1] = UInt8(truncatingIfNeeded: bytes.count - header)
        bytes[header - 2] = UInt8(truncatingIfNeeded: (bytes.count - header) >> 8)
      }
      guard case .success(let messages) = Self.read(bytes) else { continue }
      #expect(
        Self.read(Self.file(messages)) == .success(messages), "what was taken can be written again")
    }
  }
}
