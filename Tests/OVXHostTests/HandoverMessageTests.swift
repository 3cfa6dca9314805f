import OVXDatapath
import OVXLinux
import OVXSimulation
import Testing

@testable import OVXHost

/// The bytes by which a daemon hands over to the next one: what is written is read, and nothing
/// else is.
@Suite struct HandoverMessageTests {
  private static let v4 = IPAddress(v4: 0xC0A8_0502)
  private static let v6 = IPAddress(v6High: 0xFD05 << 48, low: 2)
  private static let mac = MACAddress(truncating: 0x0200_0000_0001)
  private static let vlan = VLANID(rawValue: 100) ?? .untagged

  private static var counters: PortCounters {
    var counters = PortCounters()
    counters.unheardFrames = 8
    counters.receivedFrames = .max
    counters.sentBytes = 7
    for reason in DropReason.allCases { counters[reason] = UInt64(reason.rawValue) + 1 }
    return counters
  }

  private static let messages: [HandoverMessage] = [
    .hello(HandoverMessage.Hello(program: "0.1", options: ["--database /d", "--workers 16"])),
    .descriptors([
      .device(name: "tap1", isAway: false), .device(name: "tap2", isAway: true),
      .container(target: "red1", name: "eth0", holdsNamespace: true),
      .listener(local: nil, isIPv6: true, port: 4789),
      .listener(local: v4, isIPv6: false, port: 8472), .lock, .control, .openControl, .handover,
    ]),
    .agent(Array("{}\n".utf8)), .offered, .fault(port: "vx0", sentence: "no way"), .ready,
    .addresses(
      bridge: "br0",
      [
        HandedAddress(vlan: vlan, address: mac, port: "tap1", remote: nil, age: 0),
        HandedAddress(vlan: .untagged, address: mac, port: "vx0", remote: v4, age: .max),
        HandedAddress(vlan: .untagged, address: mac, port: "vx0", remote: v6, age: nil),
      ]),
    .neighbors(
      bridge: "br0",
      [
        HandedNeighbor(
          vlan: vlan, ip: v6, address: mac, port: "vx0", remote: v4, isRouter: true, age: 3)
      ]),
    .counters([
      HandedCounters(port: "", counters: counters), HandedCounters(port: "ü", counters: counters),
    ]),
    .go, .took, .reads, .cancelled("a port cannot be taken over"),
  ]

  @Test func whatIsWrittenIsRead() {
    for message in Self.messages { #expect(HandoverMessage(bytes: message.bytes) == message) }
  }

  /// The form is the same in every version of this number.
  @Test func bytes() {
    let message = HandoverMessage.addresses(
      bridge: "b",
      [HandedAddress(vlan: Self.vlan, address: Self.mac, port: "p", remote: Self.v4, age: 2)])
    #expect(
      message.bytes == [
        7, 0, 1, 0x62, 0, 1, 0, 100, 0, 0, 2, 0, 0, 0, 0, 1, 0, 1, 0x70, 4, 192, 168, 5, 2, 1, 0, 0,
        0, 2,
      ])
    #expect(
      HandoverMessage.hello(HandoverMessage.Hello(program: "", options: ["d"])).bytes
        == [1, 0, 1, 0, 0, 0, 1, 0, 1, 0x64])
  }

  @Test func cutOffOrTooLong() {
    for message in Self.messages {
      let bytes = message.bytes
      for count in 0..<bytes.count {
        #expect(HandoverMessage(bytes: Array(bytes.prefix(count))) == nil, "\(count) of \(message)")
      }
      #expect(HandoverMessage(bytes: bytes + [0]) == nil)
    }
  }

  @Test func valuesOutOfRange() {
    func address(vlan: UInt16 = 1, mac: UInt64 = 1, remote: [UInt8] = [0], flag: UInt8 = 1)
      -> HandoverMessage?
    {
      var writer = HandoverWriter(7)
      writer.put("br0")
      writer.put(UInt16(1))
      writer.put(vlan)
      writer.put(mac)
      writer.put("p")
      for octet in remote + [flag] { writer.put(octet) }
      writer.put(UInt32(0))
      return HandoverMessage(bytes: writer.bytes)
    }
    #expect(address() != nil)
    #expect(address(vlan: 4096) == nil)
    #expect(address(mac: 1 << 48) == nil)
    #expect(address(remote: [5, 1, 2, 3, 4, 5]) == nil)
    #expect(address(flag: 2) == nil)
    // Texts are UTF-8, kinds are known, lists are short.
    #expect(HandoverMessage(bytes: [13, 0, 1, 0xFF]) == nil)
    #expect(HandoverMessage(bytes: [0]) == nil)
    #expect(HandoverMessage(bytes: [14]) == nil)
    #expect(HandoverMessage(bytes: [2, 1, 1] + [UInt8](repeating: 3, count: 257)) == nil)
    #expect(HandoverMessage(bytes: [2, 1, 0] + [UInt8](repeating: 3, count: 256)) != nil)
    // A drop reason of another version is left out, and the rest stays.
    var writer = HandoverWriter(9)
    writer.put(UInt16(1))
    writer.put("p")
    for number in 1...6 { writer.put(UInt64(number)) }
    writer.put(UInt8(1))
    writer.put("a-reason-of-tomorrow")
    writer.put(UInt64(9))
    var counters = PortCounters()
    counters.receivedFrames = 1
    counters.receivedBytes = 2
    counters.sentFrames = 3
    counters.sentBytes = 4
    counters.answeredFrames = 5
    counters.reportedFrames = 6
    #expect(
      HandoverMessage(bytes: writer.bytes)
        == .counters([HandedCounters(port: "p", counters: counters)]))
  }

  /// No message, however large its parts, is longer than a socket takes.
  @Test func longestMessages() {
    let name = String(repeating: "x", count: 128)
    let address = HandedAddress(
      vlan: Self.vlan, address: Self.mac, port: name, remote: Self.v6, age: 1)
    let neighbor = HandedNeighbor(
      vlan: Self.vlan, ip: Self.v6, address: Self.mac, port: name, remote: Self.v6, isRouter: true,
      age: 1)
    let count = HandoverMessage.entryLimit
    let messages: [HandoverMessage] = [
      .addresses(bridge: name, Array(repeating: address, count: count)),
      .neighbors(bridge: name, Array(repeating: neighbor, count: count)),
      .counters(
        Array(
          repeating: HandedCounters(port: name, counters: Self.counters),
          count: HandoverMessage.countersLimit)),
      .descriptors(
        Array(
          repeating: .container(
            target: String(repeating: "x", count: 700), name: name, holdsNamespace: true),
          count: MessageSocket.descriptorLimit)),
    ]
    for message in messages {
      #expect(message.bytes.count < MessageSocket.sizeLimit)
      #expect(HandoverMessage(bytes: message.bytes) == message)
    }
  }

  /// Bytes of any kind are read without a trap, and what is read is written the same way.
  @Test func anyBytes() {
    var random = SeededRandom()
    for _ in 0..<20_000 {
      var bytes: [UInt8]
      if Bool.random(using: &random), let message = Self.messages.randomElement(using: &random) {
        bytes = message.bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(
            in: 0...255, using: &random)
        }
      } else {
        let count = Int.random(in: 0...64, using: &random)
        bytes = (0..<count).map { _ in .random(in: 0...255, using: &random) }
        if count > 0 { bytes[0] = .random(in: 0...14, using: &random) }
      }
      guard let message = HandoverMessage(bytes: bytes) else { continue }
      #expect(HandoverMessage(bytes: message.bytes) == message, "seed \(random.seed)")
    }
  }
}
