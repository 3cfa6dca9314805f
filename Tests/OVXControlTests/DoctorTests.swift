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
      $0.host.droppingChains = [HostFacts.Chain(table: "inet filter", name: "input", mentioned: [])]
    }
    try expect(.fault, "udp dport 4789 accept") {
      $0.host.droppingChains = [HostFacts.Chain(table: "inet filter", name: "input", mentioned: [])]
      $0.heard = []
    }
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
    var diagnosis = try sound()
    diagnosis.host.droppingChains = [
      HostFacts.Chain(table: "inet filter", name: "input", mentioned: [4789])
    ]
    #expect(diagnosis.findings.allSatisfy { $0.verdict == .ok })
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

  @Test func chainsThatDrop() {
    let chains = """
      table ip filter {
      \tchain INPUT {
      \t\ttype filter hook input priority filter; policy drop;
      \t}
      \tchain FORWARD {
      \t\ttype filter hook forward priority filter; policy drop;
      \t}
      }
      table inet open {
      \tchain in {
      \t\ttype filter hook input priority filter; policy accept;
      \t}
      }
      table bridge b {
      \tchain in {
      \t\ttype filter hook input priority filter; policy drop;
      \t}
      }
      """
    let found = HostFacts.droppingChains(in: chains)
    #expect(found.map(\.table) == ["ip filter"] && found.map(\.chain) == ["INPUT"])
    #expect(HostFacts.droppingChains(in: "").isEmpty)
  }
}
