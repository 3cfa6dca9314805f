private import Glibc
private import OVXDatapath
private import OVXLinux
private import OVXSimulation
private import SystemPackage
import Testing

/// A kernel that says what a test makes it say, behind one end of a socket pair.
///
/// The questions are not read; the answers lie ready before they are asked for. The first request
/// has sequence number 1.
private final class FakeKernel: Sendable {
  private let end: Descriptor
  private let other: Int32

  init(flags: Int32 = 0) throws {
    var ends: [Int32] = [-1, -1]
    let type = Int32(bitPattern: SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue) | flags
    let made = unsafe socketpair(AF_UNIX, type, 0, &ends)
    try #require(made == 0)
    end = Descriptor(owning: ends[0])
    other = ends[1]
  }

  /// The library's end, to be taken once.
  func takeOther() -> Descriptor { Descriptor(owning: other) }

  func say(_ datagram: [UInt8]) {
    let sent = unsafe send(end.rawValue, datagram, datagram.count, 0)
    #expect(sent == datagram.count)
  }

  /// Says nothing more: who listens does not wait.
  func fallSilent() { shutdown(end.rawValue, Int32(SHUT_WR)) }
}

/// The bytes of messages, as a little-endian kernel writes them.
private enum Wire {
  static func number<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    (0..<Value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  static func padded(_ bytes: [UInt8]) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
  }

  static func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
    padded(number(UInt16(4 + value.count)) + number(type) + value)
  }

  static func message(
    _ type: UInt16,
    flags: UInt16 = 2,
    sequence: UInt32 = 1,
    _ payload: [UInt8]
  ) -> [UInt8] {
    padded(
      number(UInt32(16 + payload.count)) + number(type) + number(flags) + number(sequence)
        + number(UInt32(0)) + payload
    )
  }

  /// RTM_NEWLINK with the attributes that a veth has.
  static func link(
    _ name: String,
    index: Int32,
    flags: UInt16 = 2,
    sequence: UInt32 = 1
  ) -> [UInt8] {
    let family: [UInt8] =
      [0, 0] + number(UInt16(1)) + number(index) + number(UInt32(0x11043)) + number(UInt32.max)
    let info =
      attribute(1, Array("vxlan\0".utf8))
      + attribute(2, attribute(1, number(UInt32(77))) + attribute(15, [0x12, 0xB5]))
    return message(
      16,
      flags: flags,
      sequence: sequence,
      family + attribute(3, Array(name.utf8) + [0]) + attribute(4, number(UInt32(1500)))
        + attribute(1, [2, 0, 0, 0, 0, 1]) + attribute(10, number(UInt32(9)))
        + attribute(20, Array("an alias\0".utf8)) + attribute(18 | 0x8000, info)
    )
  }

  static func done(flags: UInt16 = 2, sequence: UInt32 = 1, code: Int32 = 0) -> [UInt8] {
    message(3, flags: flags, sequence: sequence, number(code))
  }

  /// NLMSG_ERROR, capped, with a text.
  static func error(_ code: Int32, _ text: String? = nil) -> [UInt8] {
    let echo = [UInt8](repeating: 0, count: 16)
    let words = text.map { attribute(1, Array($0.utf8) + [0]) } ?? []
    return message(2, flags: 0x100 | (text == nil ? 0 : 0x200), number(code) + echo + words)
  }
}

@Suite struct NetlinkTests {
  private func links(_ datagrams: [UInt8]...) throws -> [Link] {
    let kernel = try FakeKernel()
    for datagram in datagrams { kernel.say(datagram) }
    kernel.fallSilent()
    var netlink = Netlink(talkingTo: kernel.takeOther())
    return try netlink.links()
  }

  @Test func `a description is read in full`() throws {
    let link = try #require(try links(Wire.link("vx0", index: 5), Wire.done()).first)
    #expect((link.index, link.name, link.mtu) == (5, "vx0", 1500))
    #expect(link.address == MACAddress("02:00:00:00:00:01"))
    #expect(link.isUp && link.isRunning && link.flags.contains(.carrier) && link.isEthernet)
    #expect((link.master, link.alias, link.kind) == (9, "an alias", "vxlan"))
    #expect((link.vxlan?.vni, link.vxlan?.port) == (VNI(rawValue: 77), 4789))
  }

  @Test func `one datagram may hold many messages, and what others asked for is passed over`()
    throws
  {
    let listed = try links(
      Wire.link("stale", index: 9, sequence: 0) + Wire.done(sequence: 0)
        + Wire.link("a", index: 1) + Wire.link("b", index: 2),
      Wire.link("c", index: 3) + Wire.done() + Wire.link("late", index: 4)
    )
    #expect(listed.map(\.name) == ["a", "b", "c"])
  }

  @Test func `a table that changed while it was read is read again`() throws {
    let interrupted: UInt16 = 0x12
    #expect(
      try links(
        Wire.link("a", index: 1, flags: interrupted),
        Wire.done(),
        Wire.link("b", index: 2, sequence: 2),
        Wire.done(flags: interrupted, sequence: 2),
        Wire.link("c", index: 3, sequence: 3),
        Wire.done(sequence: 3)
      ).map(\.name) == ["c"]
    )
  }

  @Test func `a table that never stands still is told with all that was in it lately`() throws {
    let kernel = try FakeKernel()
    let feeding = Background {
      for sequence in UInt32(1)...16 {
        let name = "name\(sequence)"
        kernel.say(
          Wire.link(name, index: 1, sequence: sequence)
            + Wire.link(name, index: 10 + Int32(sequence % 2), sequence: sequence)
            + Wire.done(flags: 0x12, sequence: sequence))
      }
    }
    var netlink = Netlink(talkingTo: kernel.takeOther())
    let links = try netlink.links().sorted { $0.index < $1.index }
    feeding.join()
    #expect(links.map(\.index) == [1, 10, 11])
    #expect(links.map(\.name) == ["name16", "name16", "name15"])
  }

  @Test func `errors are in the kernel's words, wherever they come`() throws {
    let kernel = try FakeKernel()
    kernel.say(Wire.error(-22, "no such thing here"))
    kernel.say(Wire.done(sequence: 2, code: -1))
    kernel.say(
      Wire.message(
        3,
        flags: 0x202,
        sequence: 3,
        Wire.number(Int32(-16)) + Wire.attribute(1, Array("busy now\0".utf8))
      )
    )
    // Not capped: the request is repeated before the text.
    let echo = Wire.message(18, sequence: 4, [1, 2, 3, 4])
    kernel.say(
      Wire.message(
        2,
        flags: 0x200,
        sequence: 4,
        Wire.number(Int32(-95)) + echo + Wire.attribute(1, Array("later\0".utf8))
      )
    )
    var netlink = Netlink(talkingTo: kernel.takeOther())
    for (errno, text) in [
      (Errno.invalidArgument, "cannot list network devices: no such thing here"),
      (
        .notPermitted,
        "cannot list network devices: Operation not permitted; run ovx-vswitchd as root, or with the"
          + " capability CAP_NET_ADMIN"
      ),
      (.resourceBusy, "cannot list network devices: busy now"),
      (.notSupportedOnSocket, "cannot list network devices: later"),
    ] {
      let refusal = try message { () throws(LinuxError) in _ = try netlink.links() }
      #expect((refusal.errno, refusal.description) == (errno, text))
    }
  }

  @Test(arguments: [
    Wire.message(2, []), Wire.message(2, [1, 2, 3]), Wire.error(.min), Wire.error(7),
    Wire.message(2, flags: 0x300, Wire.number(Int32(-5)) + [UInt8](repeating: 0xFF, count: 64)),
    Wire.message(2, flags: 0x200, Wire.number(Int32(-5)) + [UInt8](repeating: 0xFF, count: 16)),
  ])
  func `errors that make no sense are errors`(datagram: [UInt8]) throws {
    #expect(throws: LinuxError.self) { try links(datagram) }
  }

  @Test func `attributes of another size than theirs are absent`() throws {
    let family: [UInt8] =
      [0, 0] + Wire.number(UInt16(1)) + Wire.number(Int32(5)) + [UInt8](repeating: 0, count: 8)
    let required =
      Wire.attribute(3, Array("veth0\0".utf8)) + Wire.attribute(4, Wire.number(UInt32(1500)))
    for type in UInt16(0)..<80 where type != 3 && type != 4 {
      for count in [0, 1, 2, 3, 5, 7, 9, 300] {
        let odd = Wire.attribute(type, [UInt8](repeating: 0x41, count: count))
        let link = try #require(
          try links(Wire.message(16, family + odd + required), Wire.done()).first
        )
        #expect((link.name, link.index, link.mtu) == ("veth0", 5, 1500))
        #expect(
          link.address == nil && link.master == nil && link.gsoMaxSize == nil && link.vxlan == nil
        )
      }
    }
    // Without a name or an MTU it is no description.
    for type: UInt16 in [3, 4] {
      let odd = Wire.attribute(type, [])
      #expect(
        try links(
          Wire.message(16, family + odd + Wire.attribute(7 - type, [0x41, 0, 0, 0])),
          Wire.done()
        ).isEmpty
      )
    }
  }

  @Test func `descriptions of bridge ports and of no device are none`() throws {
    var bridge = Wire.link("br0", index: 5)
    bridge[16] = 7
    var none = Wire.link("none", index: 0)
    none[16] = 0
    #expect(try links(bridge, none, Wire.link("neg", index: -1), Wire.done()).isEmpty)
  }

  @Test func `a datagram that does not fit is an error`() throws {
    let kernel = try FakeKernel()
    kernel.say([UInt8](repeating: 0, count: (64 << 10) + 1))
    var netlink = Netlink(talkingTo: kernel.takeOther())
    let refusal = try message { () throws(LinuxError) in _ = try netlink.links() }
    #expect(refusal.errno == .messageTooLong)
  }

  /// Whatever bytes come, there are links or an error, in bounded time.
  @Test func `damaged datagrams do no harm`() throws {
    var random = SeededRandom()
    print("\(random)")
    let sound =
      Wire.link("veth0", index: 5) + Wire.link("veth1", index: 6) + Wire.error(-22, "words")
    for _ in 1...10_000 {
      var bytes = sound
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let offset = Int.random(in: bytes.indices, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[offset] = UInt8.random(in: .min ... .max, using: &random)
        case 1: bytes[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 2: bytes[offset] = [0, 0xFF, 0x7F, 0x80, 4, 3][Int.random(in: 0..<6, using: &random)]
        default: bytes.removeSubrange(max(1, offset)...)
        }
      }
      let kernel = try FakeKernel()
      kernel.say(bytes)
      kernel.say(Wire.done())
      kernel.fallSilent()
      var netlink = Netlink(talkingTo: kernel.takeOther())
      do throws(LinuxError) {
        for link in try netlink.links() {
          #expect(!link.name.isEmpty && link.index > 0 && link.mtu >= 0)
        }
      } catch {
        #expect(!error.description.isEmpty)
      }
    }
  }

  @Test func `damaged news do no harm`() throws {
    var random = SeededRandom()
    print("\(random)")
    let kernel = try FakeKernel(flags: Int32(bitPattern: SOCK_NONBLOCK.rawValue))
    var events = LinkEvents(listeningTo: kernel.takeOther())
    let sound = Wire.link("veth0", index: 5) + Wire.link("veth1", index: 6)
    for _ in 0..<5_000 {
      var bytes = sound
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(
          in: .min ... .max,
          using: &random
        )
      }
      bytes[4] = UInt8.random(in: 16...28, using: &random)
      kernel.say(bytes)
      while try events.next() != nil {}
    }
    kernel.say(Wire.link("veth0", index: 5))
    let last = try events.next()
    guard case .appeared(let link) = last else {
      Issue.record("\(String(describing: last))")
      return
    }
    #expect(link.name == "veth0")
    #expect(try events.next() == nil)
  }

  @Test func `news that do not fit are a loss`() throws {
    let kernel = try FakeKernel(flags: Int32(bitPattern: SOCK_NONBLOCK.rawValue))
    var events = LinkEvents(listeningTo: kernel.takeOther())
    kernel.say(Wire.link("veth0", index: 5))
    kernel.say([UInt8](repeating: 0, count: (64 << 10) + 1))
    kernel.say(Wire.link("veth1", index: 6))
    guard case .appeared = try events.next() else {
      Issue.record("the first was lost")
      return
    }
    #expect(try events.next() == .overrun)
    #expect(try events.next() == nil)
  }
}
