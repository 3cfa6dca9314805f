import Foundation
import OVXControl
import Testing

/// A VXLAN datagram as wire.py saw it on the underlay.
struct Datagram: Decodable {
  var version: Int
  var tos: Int
  var ttl: Int
  var dontFragment: Bool
  var fragment: Int
  var headerLength: Int
  var headerChecksumValid: Bool
  var source: String
  var destination: String
  var sourcePort: Int
  var destinationPort: Int
  var udpLength: Int
  var udpChecksum: Int
  var gso: Bool
  var flags: Int
  var reserved: String
  var vni: Int
  var inner: String
}

extension Namespace {
  /// Runs `body` and gives the VXLAN datagrams that left by eth0 meanwhile.
  func datagrams(during body: () throws -> Void) throws -> [Datagram] {
    let process = try start("exec python3 $TRAFFIC/wire.py eth0 out")
    try eventually("wire.py listens on \(name)") {
      guard process.isRunning else { throw LabError(process.standardError) }
      return process.standardError.contains("ready")
    }
    try body()
    usleep(300_000)
    process.signal(SIGTERM)
    return try process.finish(seconds: 10).standardOutput.split(separator: "\n").map {
      try JSONDecoder().decode(Datagram.self, from: Data($0.utf8))
    }
  }

  /// The frames lost at each port for each reason, written "port reason"; "-" where there is no
  /// port.
  func drops() throws -> [String: UInt64] {
    let json = try ctl("-f json drops")
    let drops = try JSONDecoder().decode([Drop].self, from: Data(json.utf8))
    return Dictionary(
      drops.map { ("\($0.port ?? "-") \($0.reason)", $0.count) },
      uniquingKeysWith: &+
    )
  }
}

extension SystemTests {
  /// What the wire carries, byte by byte.
  @Suite struct EncapsulationTests {
    /// A broadcast ARP request of 42 bytes, as short as Ethernet knows: 172.17.42.11 asks for .12.
    static let request =
      "ffffffffffff0200000000110806" + "0001080006040001" + "020000000011ac112a0b"
      + "000000000000ac112a0c"

    /// A neighbor solicitation of 86 bytes: fe80::11 asks for fe80::12.
    private static let solicitation =
      "3333ff000012" + "020000000011" + "86dd6000000000203aff" + "fe800000000000000000000000000011"
      + "ff0200000000000000000001ff000012" + "87007a5700000000" + "fe800000000000000000000000000012"
      + "0101020000000011"

    @Test(arguments: Family.allCases, [request, solicitation])
    func golden(_ family: Family, _ frame: String) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let vni = 0xABCDEF
        try lab.overlay(on: host1, vni: vni, family: family, remotes: [2], tag: 100)
        let red1 = try lab.container(
          "red1",
          on: host1,
          by: .veth,
          address: "172.17.42.11/24",
          tag: 100,
          mtu: family.overlayMTU
        )
        // A VTEP at the far end: a host without one would answer that nobody listens.
        try host2.makeKernelVTEP(vni: 1, family: family, number: 2, remote: 1, ports: [])
        try host1.expectPing(family.address(2))
        let seen = try host1.datagrams {
          for _ in 1...3 {
            try red1.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
          }
        }.filter { $0.inner.hasPrefix(String(frame.prefix(28))) }
        #expect(seen.count == 3)
        for datagram in seen {
          #expect(datagram.version == (family == .ipv4 ? 4 : 6))
          #expect(datagram.source == family.address(1))
          #expect(datagram.destination == family.address(2))
          #expect(datagram.headerLength == (family == .ipv4 ? 20 : 40))
          #expect(datagram.headerChecksumValid)
          #expect(datagram.dontFragment)
          #expect(datagram.fragment == 0)
          #expect(datagram.ttl == 64)
          #expect(datagram.tos == 0)
          #expect(datagram.destinationPort == 4789)
          #expect((49152...65535).contains(datagram.sourcePort))
          #expect(datagram.udpLength == 8 + 8 + frame.count / 2)
          #expect(datagram.flags == 0x08)
          #expect(datagram.reserved == "00000000")
          #expect(datagram.vni == vni)
          #expect(datagram.inner == frame, "the frame itself is not touched")
          if family == .ipv6 {
            #expect(
              datagram.udpChecksum != 0,
              "RFC 8200 wants a checksum, and the kernel's VTEP too"
            )
          }
        }
        #expect(Set(seen.map(\.sourcePort)).count == 1, "one flow, one source port")
      }
    }

    /// Paths of the underlay are chosen by the source port: stable for a flow, different for
    /// different flows.
    @Test func sourcePortFollowsTheFlow() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        try host2.makeKernelVTEP(vni: 1, family: .ipv4, number: 2, remote: 1, ports: [])
        try host1.expectPing(Family.ipv4.address(2))
        let frames = (0..<64).map { Self.udpFrame(sourcePort: 1000 + $0) }
        let seen = try host1.datagrams {
          for _ in 1...2 {
            try red1.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frames.joined(separator: " "))")
          }
        }
        var ports: [String: Set<Int>] = [:]
        for datagram in seen where !datagram.gso {
          ports[datagram.inner, default: []].insert(datagram.sourcePort)
          #expect((49152...65535).contains(datagram.sourcePort))
        }
        for frame in frames.prefix(64) {
          #expect(
            (ports[frame]?.count ?? 1) == 1,
            "one flow, one source port: \(ports[frame] ?? [])"
          )
        }
        let distinct = Set(seen.map(\.sourcePort)).count
        #expect(distinct >= 4, "64 flows share \(distinct) source ports")
      }
    }

    /// A UDP datagram of eight bytes from 172.17.42.11 to .12, both checksums zero or right.
    private static func udpFrame(sourcePort: Int) -> String {
      let header = "450000240000400040110000ac112a0bac112a0c"
      var sum = 0
      for index in stride(from: 0, to: header.count, by: 4) {
        let start = header.index(header.startIndex, offsetBy: index)
        sum += Int(header[start..<header.index(start, offsetBy: 4)], radix: 16) ?? 0
      }
      while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
      let checksum = String(format: "%04x", sum ^ 0xFFFF)
      let ip = header.prefix(20) + checksum + header.dropFirst(24)
      return "020000000012" + "020000000011" + "0800" + ip
        + String(format: "%04x0009001000006f76786f76786f76", sourcePort)
    }
  }

  /// Every lost frame is counted for its own reason.
  @Suite struct DropTests {
    @Test func strangersAreCounted() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2], tag: 100)
        let red1 = try lab.container(
          "red1",
          on: host1,
          by: .tap,
          address: "172.17.42.11/24",
          tag: 100
        )
        let sniffer = try Sniffer(in: red1)
        try host2.must("ip addr add 192.168.5.99/24 dev eth0")
        let marked =
          "ffffffffffff" + "020000000012" + "88b5"
          + "OVXMARK:stranger:-:".utf8.map { String(format: "%02x", $0) }.joined()
          + String(repeating: "0", count: 60)
        let known = Family.ipv4.address(2)
        let cases: [(reason: String, source: String, header: String, frame: String, count: Int)] = [
          ("unknown-vni", known, "0800000000006500", marked, 7),
          ("unknown-vtep", "192.168.5.99", "0800000000006400", marked, 5),
          ("vni-flag-missing", known, "0000000000006400", marked, 3),
          ("vxlan-too-short", known, "08000000", "", 4),
          ("vxlan-too-short", known, "0800000000006400", "ffffffffffff", 2),
        ]
        for sent in cases {
          let before = try host1.drops()
          try host2.must(
            "python3 $TRAFFIC/send_vxlan.py \(sent.source) \(Family.ipv4.address(1)) \(sent.count) \(sent.header) '\(sent.frame)'"
          )
          try eventually("\(sent.count) drops for \(sent.reason) are counted", within: 3) {
            // Who else talks on the bridge loses frames too, for other reasons: the host's own
            // IPv6, for one.
            func sum(_ drops: [String: UInt64]) -> UInt64 {
              drops.filter { $0.key.hasSuffix(" \(sent.reason)") }.values.reduce(0, &+)
            }
            return sum(try host1.drops()) - sum(before) == UInt64(sent.count)
          }
        }
        // RFC 7348: what is reserved is ignored on receipt; and a frame that is welcome still comes
        // in.
        try host2.must(
          "python3 $TRAFFIC/send_vxlan.py \(known) \(Family.ipv4.address(1)) 6 ff112233000064ff \(marked)"
        )
        usleep(300_000)
        #expect(try sniffer.stop() == [Mark(origin: "stranger", tag: nil): 6])
      }
    }

    /// Without an outer checksum and with a right one a datagram is welcome; a wrong one costs it,
    /// and only it.
    @Test(arguments: Family.allCases)
    func checksumsOfTheUnderlay(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, family: family, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        try host2.expectPing(family.address(1))
        let mac = try host1.must("cat /sys/class/net/eth0/address").trimmingCharacters(
          in: .whitespacesAndNewlines)
        let sniffer = try Sniffer(in: red1)
        let kinds =
          [("zero", 3), ("right", 5), ("wrong", 7)] + (family == .ipv4 ? [("header", 2)] : [])
        for (kind, count) in kinds {
          let frame =
            "ffffffffffff" + "020000000012" + "88b5"
            + "OVXMARK:\(kind):-:".utf8.map { String(format: "%02x", $0) }.joined()
            + String(repeating: "0", count: 60)
          try host2.must(
            "python3 $TRAFFIC/spoilt_vxlan.py eth0 \(mac) \(family.address(2)) \(family.address(1)) "
              + "\(count) 0800000000006400 \(frame) \(kind)")
        }
        usleep(500_000)
        let heard = try sniffer.stop()
        #expect(
          heard == [Mark(origin: "zero", tag: nil): 3, Mark(origin: "right", tag: nil): 5])
        // The kernel keeps the spoilt ones from the switch, and says so in its own words.
        let errors = try host1.must(
          family == .ipv4
            ? "awk '/^Udp: [0-9]/ {print $8}' /proc/net/snmp"
            : "awk '/^Udp6InCsumErrors/ {print $2}' /proc/net/snmp6")
        #expect(errors == "7\n", "UDP checksum errors: \(errors)")
        print("drops after datagrams with a wrong checksum: \(try host1.drops())")
      }
    }
  }

  /// The README's tutorial, line by line as written.
  @Suite struct TutorialTests {
    @Test func everyLine() throws {
      try Lab.run { lab in
        let tutorial = try Tutorial()
        let (host1, host2) = try lab.twoHosts()
        var places = ["host1": host1, "host2": host2]
        for name in ["red1", "red2", "blue1", "blue2", "green1", "green2"] {
          places[name] = try lab.announcedNamespace(name)
        }
        // The tutorial starts the daemons.
        defer {
          for host in [host1, host2] { _ = try? host.ctl(["exit", "--cleanup"]) }
        }
        for line in tutorial.lines {
          let place = try #require(places[line.place], "the tutorial speaks of \(line.place)")
          let command = Tutorial.renaming(line.command, for: places)
          // What is mounted inside of "ip netns exec" nobody else sees, so namespaces are made
          // outside.
          let output =
            command.hasPrefix("ip netns add ")
            ? try Command(command.split(separator: " ").map(String.init)).finish(seconds: 10)
            : try place.run(command)
          #expect(output.succeeded, "\(line.place)# \(line.command)\n\(output)")
          print("\(line.place)# \(line.command)\n\(output.standardOutput)", terminator: "")
        }
        let container = try #require(places["red1"])
        try container.expectPing("172.17.42.12")
        try container.expectPing("172.17.42.1")
        try container.expectPing("172.17.42.2")
        try container.expectNoPing("172.17.42.99")
        try #require(places["blue1"]).expectPing("172.17.42.99")
        try #require(places["green1"]).expectPing("10.3.0.32")
        for host in [host1, host2] {
          let tree = try host.ctl("show")
          #expect(!tree.contains("error:"), "\(tree)")
        }
      }
    }
  }
}

/// The lines of the README that have a prompt: `host1# ovx-ctl add-br br0`.
struct Tutorial {
  var lines: [(place: String, command: String)] = []

  init() throws {
    let text = try String(
      contentsOf: Lab.packageRoot.appendingPathComponent("README.md"),
      encoding: .utf8
    )
    for line in text.split(separator: "\n") {
      if let match = line.wholeMatch(of: /((?:host|red|blue|green)[12])# (.+)/) {
        lines.append((String(match.1), String(match.2)))
      }
    }
    guard lines.count >= 10 else { throw LabError("The README has no tutorial.") }
  }

  /// The containers' names, which are the machine's and not the lab's alone, with the lab's prefix.
  static func renaming(_ command: String, for places: [String: Namespace]) -> String {
    command.split(separator: " ", omittingEmptySubsequences: false).map { word in
      guard !word.hasPrefix("host"), let place = places[String(word)] else { return String(word) }
      return place.name
    }.joined(separator: " ")
  }
}
