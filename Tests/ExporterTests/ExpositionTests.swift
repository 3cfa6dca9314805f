import Foundation
import OVXControl
import OVXDatapath
import Testing

@testable import ovx_exporter

@Suite struct ExpositionTests {
  /// A switch with one of everything, and a port whose name is out to break the format.
  private func state() throws -> SwitchState {
    let remote = try #require(IPAddress("192.168.5.3"))
    var face = Show.Interface(name: "veth1")
    face.linkState = "down"
    var port = try JSON.port("a\"b\\c\nd{}=,")
    port.interface = face
    var counters = PortCounters()
    counters.receivedFrames = 1 << 60
    var broken = PortStatistics(bridge: "br0", port: port.name, counters)
    broken.drops = ["source-filter": 3]
    let tunnel = Tunnels.Tunnel(
      port: "vni100", bridge: "br0", vni: try #require(VNI(rawValue: 100)), local: nil,
      destinationPort: 4789,
      remotes: [Tunnels.Remote(address: remote, mtu: 1450, sourcePorts: 4, error: "no route")])
    return SwitchState(
      version: Versions(daemon: "9.9", pid: 1, kernel: "6.18"),
      bridges: [Show.Bridge(name: "br0", ports: [port])], ports: [broken],
      drops: [Drop(port: nil, reason: .unknownVTEP, count: 5)],
      tunnels: Tunnels(
        tunnels: [tunnel], listeners: [], features: [],
        filter: Tunnels.Filter(.on, table: "ovx", refused: 7)),
      networks: [],
      addressTables: [BridgeAddressStatistics(bridge: "br0", AddressStatistics())],
      neighborTables: [BridgeNeighborStatistics(bridge: "br0", NeighborStatistics())], events: [],
      latency: 0.25)
  }

  @Test(arguments: [Exposition.Format.openMetrics, .prometheus])
  func everyLineIsOfTheFormat(_ format: Exposition.Format) throws {
    let text = Exposition(of: .success(try state()), format).text
    var families: Set<Substring> = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
      if let match = line.firstMatch(of: /^# TYPE (ovx_[a-z_]+) (counter|gauge)$/) {
        #expect(families.insert(match.output.1).inserted, "twice: \(line)")
        let isTotal = match.output.1.hasSuffix("_total")
        #expect(isTotal == (match.output.2 == "counter" && format == .prometheus), "\(line)")
        continue
      }
      if line.hasPrefix("# HELP ovx_") || line == "# EOF" { continue }
      let sample =
        #/^(ovx_[a-z_]+)(\{[a-z]+="([^"\\]|\\["\\n])*"(,[a-z]+="([^"\\]|\\["\\n])*")*\})? [0-9.e+-]+$/#
      let match = line.wholeMatch(of: sample)
      #expect(match != nil, "\(line)")
      guard let name = match?.output.1 else { continue }
      let isKnown =
        families.contains(name)
        || name.hasSuffix("_total") && families.contains(name.dropLast("_total".count))
      #expect(isKnown, "without a type: \(line)")
    }
    #expect(text.hasSuffix("# EOF\n") == (format == .openMetrics))
  }

  @Test func whatIsSaid() throws {
    let text = Exposition(of: .success(try state()), .prometheus).text
    for line in [
      "ovx_up 1", "ovx_control_latency_seconds 0.25",
      #"ovx_port_received_frames_total{bridge="br0",port="a\"b\\c\nd{}=,"} 1152921504606846976"#,
      #"ovx_drops_total{port="",reason="unknown-vtep"} 5"#,
      #"ovx_port_up{bridge="br0",port="a\"b\\c\nd{}=,",network="",type=""} 0"#,
      #"ovx_remote_up{port="vni100",vni="100",remote="192.168.5.3"} 0"#,
      #"ovx_remote_mtu_bytes{port="vni100",vni="100",remote="192.168.5.3"} 1450"#,
      "ovx_underlay_refused_packets_total 7",
    ] {
      #expect(text.contains("\n\(line)\n"), "\(line) is not in \(text)")
    }
  }

  /// Alert rules and dashboard ask for what there is: a metric by another name would be silent for
  /// ever.
  @Test(arguments: ["ovx.rules.yml", "grafana.json"])
  func whatIsAskedForExists(_ name: String) throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
    let asking = try String(
      contentsOf: root.appending(path: "deploy/monitoring/\(name)"), encoding: .utf8)
    let text = Exposition(of: .success(try state()), .prometheus).text
    let known = Set(text.matches(of: /# TYPE (ovx_[a-z_]+)/).map(\.output.1))
    let asked = Set(asking.matches(of: /\bovx_[a-z_]+/).map(\.output))
    #expect(asked.count > 5)
    #expect(asked.isSubset(of: known), "\(asked.subtracting(known))")
    let reasons = asking.matches(of: /reason=~\\?"([a-z|-]+)/).flatMap {
      $0.output.1.split(separator: "|").map(String.init)
    }
    let symbols = Set(DropReason.allCases.map(\.symbol))
    #expect(Set(reasons).isSubset(of: symbols), "\(Set(reasons).subtracting(symbols))")
  }

  @Test func aSwitchThatDoesNotAnswer() {
    let text = Exposition(of: .failure(ControlError("no daemon")), .openMetrics).text
    #expect(
      text
        == "# HELP ovx_up Whether the daemon answers.\n# TYPE ovx_up gauge\novx_up 0\n# EOF\n")
  }

  /// Names of this host that a page of elsewhere cannot have.
  @Test(arguments: [
    ("localhost", true), ("localhost:9475", true), ("127.0.0.1:9475", true), ("[::1]:9475", true),
    ("192.168.5.2", true), ("evil.example", false), ("evil.example:9475", false),
    ("localhost.evil.example", false), ("127.0.0.1.evil.example", false), ("", false),
    ("[::1", true), ("[evil]:1", false), (":9475", false),
  ])
  func hosts(_ header: String, _ isForThisHost: Bool) {
    #expect(Service.isForThisHost(header) == isForThisHost)
    #expect(!Service.isForThisHost(nil))
  }

  @Test func whereToListen() {
    #expect(
      ListenAddress(argument: "127.0.0.1:9475") == ListenAddress(host: "127.0.0.1", port: 9475))
    #expect(ListenAddress(argument: "[::1]:80")?.description == "[::1]:80")
    for text in [
      "", "9475", "localhost:9475", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", "::1:80",
      "[1.2.3.4]:80", ":80",
    ] {
      #expect(ListenAddress(argument: text) == nil, "\(text)")
    }
  }
}

/// Descriptions that only a daemon makes.
private enum JSON {
  static func port(_ name: String) throws -> Show.Port {
    var port = Show.Port(
      Configuration.Port(name: "veth1", bridge: "br0"), error: nil)
    port.name = name
    return port
  }
}
