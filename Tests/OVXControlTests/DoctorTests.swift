import OVXControl
import OVXDatapath
import Testing

@testable import ovx_ctl

/// What `doctor` makes of what it is told.
@Suite struct DoctorTests {
  private static let remote = IPAddress("192.168.5.3")
  private static let other = IPAddress("192.168.5.4")

  /// A host with a tunnel to two others, of which one was heard.
  private func sound() throws -> Diagnosis {
    let bench = try Workbench(
      "add-br br0", "add-port br0 v key=7 remote=192.168.5.3,192.168.5.4 local=192.168.5.2")
    let remotes = [Self.remote, Self.other].compactMap(\.self).map {
      Tunnels.Remote(
        address: $0, mtu: 1450, device: "eth0", sourcePorts: 4, superframes: "segmented", error: nil
      )
    }
    let tunnels = Tunnels(
      tunnels: [
        Tunnels.Tunnel(
          port: "v", bridge: "br0", vni: try #require(VNI(rawValue: 7)),
          local: IPAddress("192.168.5.2"), destinationPort: 4789, remotes: remotes)
      ], listeners: [], features: ["UDP_SEGMENT"],
      filter: Tunnels.Filter(.on, table: "t", refused: 0))
    var diagnosis = Diagnosis(
      show: Show(bench.configuration) { _ in nil }, tunnels: tunnels, drops: [], networks: [],
      heard: Set([Self.remote].compactMap(\.self)))
    diagnosis.host.isClockSynchronized = true
    diagnosis.host.encryptingDevices = ["eth0"]
    diagnosis.host.answers = Dictionary(
      uniqueKeysWithValues: [Self.remote, Self.other].compactMap(\.self).map { ($0, true) })
    return diagnosis
  }

  private func text(_ diagnosis: Diagnosis) -> String { diagnosis.findings.map(\.line).joined() }

  @Test func aSoundHost() throws {
    let diagnosis = try sound()
    #expect(
      text(diagnosis) == """
        ok    ports: 2 are in service
        ok    tunnel v to 192.168.5.3: by eth0, packets of up to 1450 bytes, heard within the last minute
        ok    tunnel v to 192.168.5.4: by eth0, packets of up to 1450 bytes, answers ping

        """)
    #expect(diagnosis.remotes.count == 2)
    #expect(diagnosis.remotes.values.allSatisfy { $0 == IPAddress("192.168.5.2") })
  }

  /// Each is told, and is a fault where something does not work.
  @Test func whatIsWrong() throws {
    func expect(
      _ verdict: Finding.Verdict, _ words: String, _ change: (inout Diagnosis) throws -> Void
    ) throws {
      var diagnosis = try sound()
      try change(&diagnosis)
      let findings = diagnosis.findings.filter { $0.line.contains(words) }
      #expect(findings.map(\.verdict) == [verdict], "\(words):\n\(text(diagnosis))")
      #expect(diagnosis.findings.contains { $0.verdict == .fault } == (verdict == .fault))
    }
    let other = try #require(Self.other)
    try expect(.fault, "does not answer ping") { $0.host.answers[other] = false }
    try expect(.ok, "not asked") { $0.host.answers[other] = nil }
    try expect(.fault, "less than the 1280") { $0.tunnels.tunnels[0].remotes[1].mtu = 1200 }
    try expect(.fault, "no route") { $0.tunnels.tunnels[0].remotes[1].error = "no route" }
    try expect(.fault, "port p1: it is away") {
      let bench = try Workbench("add-br br0", "add-port br0 p1 type=tap")
      $0.show = Show(bench.configuration) { $0 == "p1" ? "it is away." : nil }
    }
    try expect(.note, "there is no bridge") { $0.show.bridges = [] }
    try expect(.fault, "underlay filter: no table") {
      $0.tunnels.filter = Tunnels.Filter(.failed, error: "no table")
    }
    try expect(.note, "it is off") { $0.tunnels.filter = Tunnels.Filter(.off) }
    try expect(.note, "yet datagrams arrive") {
      $0.host.barriers = [Self.barrier(.incoming, .policy)]
    }
    try expect(.fault, "udp dport 4789 accept") {
      $0.host.barriers = [Self.barrier(.incoming, .policy)]
      $0.heard = []
    }
    try expect(.fault, "`nft delete rule inet filter c handle 7`") {
      $0.host.barriers = [Self.barrier(.incoming, .port(rule: "udp dport 4789 drop", handle: "7"))]
      $0.heard = []
    }
    try expect(.note, "yet none was refused") {
      $0.host.barriers = [Self.barrier(.outgoing, .rest(rule: "reject"))]
    }
    var mute = try sound()
    mute.host.barriers = [Self.barrier(.outgoing, .rest(rule: "reject"))]
    mute.drops = [Drop(port: "v", reason: .underlayRefused, count: 1)]
    #expect(mute.findings.contains { $0.verdict == .fault && $0.line.contains("has `reject` for") })
    try expect(.note, "not encrypted") { $0.host.encryptingDevices = [] }
    try expect(.note, "clock") { $0.host.isClockSynchronized = false }
    try expect(.note, "a newer kernel") {
      $0.tunnels.features = ["one datagram per send (this kernel has no UDP_SEGMENT)"]
    }
    try expect(.note, "host: no ping") { $0.host.omissions = ["no ping"] }
    try expect(.note, "unknown-vni") {
      $0.drops = [
        Drop(port: nil, reason: .unknownVNI, count: 7),
        Drop(port: "v", reason: .samePort, count: 9),
      ]
    }
  }

  private static func barrier(
    _ direction: FilterBarrier.Direction, _ cause: FilterBarrier.Cause
  ) -> FilterBarrier {
    FilterBarrier(table: "inet filter", chain: "c", direction: direction, cause: cause, port: 4789)
  }

  @Test func aNetworkWithoutFreeAddresses() throws {
    var diagnosis = try sound()
    var network = Configuration.Network(
      name: "red", vni: try #require(VNI(rawValue: 9)), bridge: "br0",
      tag: try #require(VLANID(rawValue: 9)))
    network.subnets = [try #require(IPPrefix("10.0.0.0/30"))]
    var description = NetworkDescription(network, in: Configuration())
    diagnosis.networks = [description]
    #expect(text(diagnosis).contains("ok    network red: 0 addresses used, 2 free"))
    description.addressesFree = 0
    diagnosis.networks = [description]
    #expect(text(diagnosis).contains("FAULT network red: no address is free"))
  }

  @Test func gatewaysThatAreNotRight() throws {
    var diagnosis = try sound()
    for (index, name) in ["blue", "green", "red"].enumerated() {
      let number = index + 1
      var network = NetworkDescription(
        Configuration.Network(
          name: name, vni: try #require(VNI(rawValue: UInt32(number))), bridge: "br0",
          tag: try #require(VLANID(rawValue: UInt16(number)))), in: Configuration())
      network.gatewayErrors = ["there is no way out"] + (name == "red" ? ["no DHCP"] : [])
      network.error = network.gatewayErrors[0]
      diagnosis.networks.append(network)
    }
    #expect(text(diagnosis).contains("FAULT gateways of blue, green, red: there is no way out\n"))
    #expect(text(diagnosis).contains("FAULT gateway of red: no DHCP\n"))
    diagnosis.networks += Array(repeating: diagnosis.networks[0], count: 2)
    #expect(text(diagnosis).contains("gateways of blue, green, red, blue and 1 more: there"))
  }

  @Test func tablesThatSeeTheHostsOwnPackets() {
    let chains = """
      table ip filter {
      \tchain INPUT {
      \t\ttype filter hook input priority filter; policy drop;
      \t}
      \tchain OUTPUT {
      \t\ttype filter hook output priority filter; policy accept;
      \t}
      }
      table inet forwards {
      \tchain f {
      \t\ttype filter hook forward priority filter; policy drop;
      \t}
      }
      table ip nat {
      \tchain p {
      \t\ttype nat hook postrouting priority srcnat; policy accept;
      \t}
      }
      table bridge b {
      \tchain in {
      \t\ttype filter hook input priority filter; policy drop;
      \t}
      }
      table inet ovx-underlay-1 {
      \tchain postrouting {
      \t\ttype filter hook postrouting priority 200; policy accept;
      \t}
      }
      table inet late {
      \tchain o {
      \t\ttype filter hook output priority filter; policy accept;
      \t}
      }
      """
    #expect(FilterBarrier.tables(in: chains) == ["ip filter", "inet late"])
    #expect(FilterBarrier.tables(in: "").isEmpty)
  }

  /// What a chain `in` at `hook` with `rules` keeps out, or in.
  private func barriers(
    hook: String = "input", policy: String = "accept", _ rules: String..., others: String = ""
  ) -> [FilterBarrier] {
    let lines = rules.enumerated().map { "\t\t\($1) # handle \($0 + 2)\n" }.joined()
    let text = """
      table inet t { # handle 1
      \tset s { # handle 9
      \t\ttype inet_service
      \t\telements = { 22, 4789 }
      \t}

      \tchain in { # handle 1
      \t\ttype filter hook \(hook) priority filter; policy \(policy);
      \(lines)\t}
      \(others)
      }
      """
    return FilterBarrier.barriers(of: "inet t", in: text, ports: [4789])
  }

  @Test func rulesThatKeepVXLANOut() {
    #expect(barriers().isEmpty)
    #expect(barriers(policy: "drop", "tcp dport 22 accept").map(\.cause) == [.policy])
    #expect(barriers(policy: "drop", "udp dport 4789 accept").isEmpty)
    #expect(barriers(policy: "drop", "udp dport { 53, 4789 } accept").isEmpty)
    // The port by its number.
    let named = barriers("tcp dport 4789 drop", "udp dport 4789 counter packets 3 bytes 9 drop")
    #expect(
      named.map(\.remedy) == ["`nft delete rule inet t in handle 3`"], "\(named)")
    #expect(barriers("udp dport { 4789, 8472 } reject with icmpx admin-prohibited").count == 1)
    // Some may pass, which somebody has thought about.
    #expect(barriers("ip saddr 10.0.0.1 udp dport 4789 accept", "udp dport 4789 drop").isEmpty)
    // All the rest, as in the images of some clouds.
    let rest = barriers(
      "ct state established,related accept",
      "log prefix \"no \" level warn counter packets 1 bytes 2 "
        + "reject with icmp host-prohibited")
    #expect(
      rest.count == 1 && rest.first?.remedy == "`nft insert rule inet t in udp dport 4789 accept`")
    #expect(
      barriers("ct state invalid drop", "ip saddr 10.0.0.1 drop comment \"drop all\"").isEmpty)
    // Elsewhere.
    #expect(barriers(hook: "forward", policy: "drop").isEmpty)
    #expect(barriers(hook: "output", policy: "drop").map(\.direction) == [.outgoing])
    // In a chain of its own.
    let user = "\tchain user { # handle 5\n\t\tudp dport 4789 drop # handle 6\n\t}"
    #expect(barriers(others: user).isEmpty, "nobody jumps there")
    let far = barriers("iifname vmap { \"lo\" : accept, \"eth0\" : jump user }", others: user)
    #expect(far.map(\.chain) == ["user"] && far.map(\.direction) == [.incoming])
  }
}
