private import ArgumentParser
import Foundation
import OVXControl
import OVXDatapath
import Testing

@testable import ovx_ctl

/// The article that says what `-f json` prints, held against what it prints.
@Suite struct JSONArticleTests {
  /// A row of a section: a path, and the type of what is there.
  private struct Row: Hashable {
    var path: String
    var type: String
  }

  private static let article = packageRoot.appendingPathComponent(
    "Sources/ovx-ctl/ovx-ctl.docc/JSON.md")

  /// The rows of the article by command.
  private static func sections() throws -> [String: [Row]] {
    var sections: [String: [Row]] = [:]
    var commands: [String] = []
    for line in try String(contentsOf: article, encoding: .utf8).split(separator: "\n") {
      if line.hasPrefix("## ") {
        commands = line.dropFirst(3).split(separator: ",").map {
          $0.trimmingCharacters(in: .whitespaces)
        }
      } else if let match = line.wholeMatch(of: /\| `(.+?)` \| ([a-z]+) \|.*/) {
        for command in commands {
          sections[command, default: []].append(
            Row(path: String(match.1), type: String(match.2)))
        }
      }
    }
    return sections
  }

  /// What stands at the ends of a document's branches.
  private func leaves(of value: Any?, at path: String = "") -> [Row] {
    switch value {
    case let array as [Any]:
      return array.isEmpty ? [] : array.flatMap { leaves(of: $0, at: path + "[]") }
    case let object as [String: Any]:
      return object.flatMap {
        leaves(of: $0.value, at: path.isEmpty ? $0.key : "\(path).\($0.key)")
      }
    case let number as NSNumber:
      let isBoolean = unsafe String(cString: number.objCType) == "c"
      return [Row(path: path, type: isBoolean ? "boolean" : "number")]
    case is String: return [Row(path: path, type: "string")]
    default: return [Row(path: path, type: "null")]
    }
  }

  /// Whether a row of the article is about this leaf.
  private func matches(_ row: Row, _ leaf: Row) -> Bool {
    let pattern = row.path.split(separator: ".", omittingEmptySubsequences: false)
    let path = leaf.path.split(separator: ".", omittingEmptySubsequences: false)
    // What is "any" may have branches of its own.
    guard row.type == "any" ? path.count >= pattern.count : path.count == pattern.count else {
      return false
    }
    let names = zip(pattern, path).enumerated()
    let isSame = names.allSatisfy { index, pair in
      let (wanted, found) = pair
      let rest = wanted.hasPrefix("*") ? found.drop { $0 != "[" } : found
      let tail = wanted.hasPrefix("*") ? wanted.dropFirst() : wanted
      return row.type == "any" && index == pattern.count - 1 ? rest.hasPrefix(tail) : rest == tail
    }
    return isSame && (row.type == "any" || row.type == leaf.type)
  }

  private func check(
    _ command: String, _ text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let rows = try #require(
      try Self.sections()[command], "there is no section \(command)", sourceLocation: sourceLocation
    )
    let value = try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
    let leaves = leaves(of: value)
    for leaf in leaves {
      #expect(
        rows.contains { matches($0, leaf) }, "\(command): \(leaf) is not in the article",
        sourceLocation: sourceLocation)
    }
    for row in rows {
      #expect(
        leaves.contains { matches(row, $0) }, "\(command): nothing is printed for \(row)",
        sourceLocation: sourceLocation)
    }
  }

  private func check(_ command: String, _ reply: Reply) throws {
    try check(command, try Output(format: .json, command: .show).text(of: reply))
  }

  // MARK: One of everything

  private func bench() throws -> Workbench {
    try Workbench(
      "add-br br0", "set bridge br0 other_config:mac-aging-time=60 external_ids:a=b",
      "set interface br0 addresses=10.0.0.1/8", "add-port br0 veth1 tag=100",
      "add-port br0 veth2 trunks=20,10 vlan_mode=trunk",
      "add-port br0 veth3 vlan_mode=dot1q-tunnel tag=9 cvlans=1,2",
      "add-port br0 vxlan0 key=100 remote=192.168.5.3,192.168.5.4 tag=100",
      "attach br0 web1 eth0 tag=100")
  }

  @Test func configuration() throws {
    var bench = try bench()
    for line in [
      "list-br", "list-ports br0", "port-to-br veth1", "br-to-vlan br0", "br-to-parent br0",
      "br-get-external-id br0", "create port name=p1",
    ] {
      try check(
        String(line.prefix { $0 != " " }), try bench.output("-f json " + line))
    }
    var networked = bench
    try networked.run("add-net red vni=5")
    try check("list-nets", try networked.output("-f json list-nets"))
    try check("get", try bench.output("-f json get port veth2 tag trunks other_config name"))
    try check("list", try bench.output("-f json list interface"))
    try check("find", try bench.output("-f json find port tag=100"))
    var show = Show(bench.configuration) { $0 == "veth1" ? "It is gone." : nil }
    show.bridges[0].ports[0].interface.addresses = [InterfaceAddress("10.0.0.1/8")].compactMap(
      \.self)
    show.bridges[0].ports[0].interface.mac = MACAddress("02:00:00:00:00:01")
    show.bridges[0].ports[0].interface.mtu = 1500
    show.bridges[0].ports[0].network = "red"
    show.bridges[0].ports[0].interface.linkState = "up"
    show.bridges[0].ports[0].interface.peer = "eth0 in red1"
    show.bridges[0].ports[0].interface.fastPath = "ready"
    show.bridges[0].gateways = [Show.Gateway(network: "red", errors: ["It is away."])]
    try check("show", .show(show))
    var named = PortLink.example
    named.namespace = PortLink.Namespace(name: "red1")
    named.remotes = [IPAddress("192.168.5.3")].compactMap(\.self)
    try check("show --links", .links([PortLink.example, named]))
    try check("export", .configuration(bench.configuration))
    var other = bench
    try other.run(
      "del-port veth1 -- set port veth2 trunks=7 -- set bridge br0 external_ids:c=d -- add-net red vni=5"
    )
    let changes = bench.configuration.changes(to: other.configuration)
    for command in ["apply", "diff"] { try check(command, .changes(changes)) }
  }

  @Test func theRunningSwitch() throws {
    let mac = try #require(MACAddress("02:00:00:00:00:01"))
    let address = try #require(InterfaceAddress("192.168.5.3/24")).address
    let vlan = try #require(VLANID(rawValue: 7))
    try check(
      "fdb show",
      .addresses([
        BridgeAddresses(
          bridge: "br0",
          entries: [
            BridgeAddresses.Entry(port: "p", vlan: vlan, mac: mac, age: nil),
            BridgeAddresses.Entry(port: "v", vlan: vlan, mac: mac, age: 3, remote: address),
            BridgeAddresses.Entry(
              port: "v", vlan: vlan, mac: mac, age: nil, remote: address, isExternal: true),
          ])
      ]))
    try check("fdb flush", .flushed(3))
    try check(
      "fdb stats", .addressStatistics([BridgeAddressStatistics(bridge: "br0", AddressStatistics())])
    )
    var neighbor = KnownNeighbor(
      ip: address, vlan: vlan, address: mac, port: PortID(rawValue: 1), peer: .none,
      isRouter: false, age: 3)
    neighbor.isExternal = true
    try check(
      "neigh show",
      .neighbors([
        BridgeNeighbors(
          bridge: "br0",
          entries: [
            BridgeNeighbors.Entry(neighbor, port: "v", remote: address, rival: neighbor.address)
          ])
      ]))
    try check("neigh flush", .flushed(3))
    try check(
      "neigh stats",
      .neighborStatistics([
        BridgeNeighborStatistics(bridge: "br0", OVXDatapath.NeighborStatistics())
      ]))
    let statistics = RateTests.statistics("p", 5)
    try check("stats", .statistics([statistics]))
    let reason = DropReason.splitHorizon
    try check("drops", .drops([Drop(port: "p", reason: reason, count: 1)]))
    let sample = CounterSample(time: .seconds(1), ports: [statistics])
    let lines = Rates(from: CounterSample(time: .zero, ports: []), to: sample).lines
    try check("top", try Output.encode(lines))
    try check(
      "doctor", try Output.encode([Finding(.fault, "clock", "It stands.", remedy: "wind it")]))
    let change = WatchEvent(
      .modify, table: .port, record: "p", new: ["tag": .scalar(.integer(1))],
      old: ["tag": .scalar(nil)])
    try check("monitor", try Monitor.json(of: change))
    let tunnel = Tunnels.Tunnel(
      port: "v", bridge: "br0", vni: try #require(VNI(rawValue: 7)),
      outgoingVNI: VNI(rawValue: 8), local: address, destinationPort: 4789,
      remotes: [
        Tunnels.Remote(
          address: address, mtu: 1450, device: "eth0", sourcePorts: 4,
          superframes: "segmented", fastPath: "in use", error: "It is away.")
      ])
    try check(
      "tunnel show",
      .tunnels(
        Tunnels(
          tunnels: [tunnel],
          listeners: [Tunnels.Listener(address: address, port: 4789, tunnels: ["v"])],
          features: ["udp-gro"],
          filter: Tunnels.Filter(.on, table: "t", refused: 3, error: "It is away."))))
    var configuration = Configuration()
    var network = Configuration.Network(
      name: "red", vni: try #require(VNI(rawValue: 7)), bridge: "br0", tag: vlan)
    network.subnets = [try #require(IPPrefix("10.0.0.0/24"))]
    network.ranges = [try #require(AddressRange("10.0.0.8-10.0.0.9"))]
    network.gateways = [try #require(IPAddress("10.0.0.1"))]
    network.domain = "red.example"
    configuration.networks["red"] = network
    var port = Configuration.Port(name: "p", bridge: "br0")
    port.network = "red"
    port.interface.mac = MACAddress("02:00:00:00:00:01")
    port.interface.attachment = Configuration.Attachment(
      target: "c", interface: "eth0", addresses: [try #require(InterfaceAddress("10.0.0.8/24"))])
    configuration.ports["p"] = port
    var gateway = Configuration.Port(name: network.gatewayPort, bridge: "br0")
    gateway.network = "red"
    gateway.interface.attachment = Configuration.Attachment(target: "ovx-red", interface: "tenant")
    configuration.ports[gateway.name] = gateway
    var description = NetworkDescription(network, in: configuration)
    description.remotes = [
      NetworkDescription.Remote(address: address, mtu: 1450, error: "It is away.")
    ]
    description.error = "It is away."
    description.members[0].error = "It is away."
    description.members[0].published = [PublishedPort(port: 8080, memberPort: 80)]
    description.members[0].station = MACAddress("02:00:00:00:00:01")
    description.gatewayState = .down
    description.gatewayErrors = ["It is away."]
    try check("net show", .networks([description]))
    var step = Trace.Step(.drop, "It dies.", port: "v", remote: address)
    step.vlan = vlan
    step.vni = VNI(rawValue: 7)
    step.bytes = 60
    step.frames = 1
    step.reason = reason.symbol
    try check(
      "trace",
      .trace(Trace(bridge: "br0", port: "p", frame: "ARP", steps: [step], verdict: "dropped")))
    var offset = 0
    let stream: [UInt8] = [1, 0, 0, 0, 60, 0, 0, 0] + [UInt8](repeating: 0, count: 24) + [0xFF]
    let frame = try #require(CapturedFrame(stream, at: &offset))
    #expect(offset == stream.count)
    var dropped = frame
    dropped.drop = UInt32(reason.rawValue) + 1
    var unseen = dropped
    unseen.bytes = []
    let documents = try [dropped, unseen].map { frame throws(ControlError) in
      try CaptureSession.json(of: frame, port: "a\"b")
    }
    #expect(try !CaptureSession.json(of: frame, port: "a").contains("drop"))
    var members: [String: Any] = [:]
    for document in documents {
      let value = try JSONSerialization.jsonObject(with: Data(document.utf8))
      members.merge(try #require(value as? [String: Any])) { $1 }
    }
    let merged = try JSONSerialization.data(withJSONObject: members)
    try check("capture", String(decoding: merged, as: UTF8.self))
    var event = SwitchEvent(
      number: 1, time: timestamp(), kind: .change, port: "p", bridge: "b", uid: 0, pid: 7,
      text: "add-port b p")
    (event.latest, event.count) = (timestamp(), 2)
    try check("events", .events([event]))
    try check("log show", .logLevel(.info))
    try checkEVPN(mac, address)
    try check("version", .version(Versions(pid: 7, kernel: "6.18")))
  }

  private func checkEVPN(_ mac: MACAddress, _ address: IPAddress) throws {
    var state = EVPNState(engine: true)
    (state.asn, state.routerID, state.local) = (65000, address, address)
    state.peers = [EVPNPeer(address: "192.168.5.9", asn: 65000, state: "established")]
    state.holding = 3
    state.networks = [
      EVPNState.Network(
        name: "red", vni: try #require(VNI(rawValue: 7)), distinguisher: "192.168.5.3:7",
        target: "65000:7", vteps: 1, stations: 2, localStations: 3, frozen: [mac],
        duplicates: [EVPNState.Duplicate(mac: mac, vtep: address)])
    ]
    state.ignored = ["no VTEP's address as next hop": 1]
    state.errors = ["It is away."]
    state.held = [EVPNState.Held(vtep: address, routes: 3, seconds: 2)]
    try check("evpn show", .evpn(state))
    var route = EVPNRoute(
      network: "red", distinguisher: "192.168.5.3:7", vtep: address, isLocal: false, isBest: true)
    (route.type, route.mac, route.ip, route.sequence) = (2, mac, address, 1)
    try check("evpn routes", .evpnRoutes([route]))
    try check(
      "evpn vteps",
      .evpnVTEPs([EVPNVTEP(network: "red", vtep: address, stations: 1, takesBroadcasts: true)]))
  }

  /// One line of each command.
  private static let lines = [
    "add-br b", "del-br b", "add-port b p", "del-port p", "list-br", "br-exists b", "list-ports b",
    "port-to-br p", "show", "br-to-vlan b", "br-to-parent b", "br-set-external-id b k v",
    "br-get-external-id b", "add-net n vni=5", "del-net n", "list-nets", "net show",
    "attach b c eth0", "detach c eth0", "set port p tag=5", "get port p tag", "list port",
    "find port tag=5", "add port p trunks 5", "remove port p trunks 5", "clear port p tag",
    "wait-until port p", "create port name=p", "destroy port p", "comment x",
    "apply -f FILE", "diff -f FILE", "export", "fdb show", "fdb flush",
    "fdb add b p 0 02:00:00:00:00:05", "fdb del b 0 02:00:00:00:00:05", "fdb stats",
    "neigh show", "neigh flush", "neigh stats", "tunnel show", "evpn show", "evpn routes",
    "evpn vteps", "evpn unfreeze n 02:00:00:00:00:05", "stats", "drops", "doctor", "top",
    "monitor", "events", "log show", "log set debug", "trace p to 10.0.0.1", "capture p",
    "version", "confirm", "exit",
  ]

  /// Commands that print have a section, and no others: those whose answer is more than "done" or
  /// "yes", and watches.
  @Test func everyCommand() throws {
    let file = packageRoot.appendingPathComponent("configs/one-host.yaml").path
    var printing: [String: Bool] = [:]
    for line in Self.lines {
      let words = line.replacing("FILE", with: file).split(separator: " ").map(String.init)
      let command = try #require(try Invocation(parsing: words).commands.first, "\(line)")
      // What a watch tells stands behind its answer.
      let isWatch = if case .watch = command { true } else { false }
      printing[line] = isWatch || command.declaration.answer.isPrinted
    }
    let sections = Set(try Self.sections().keys)
    for command in OVXCtl.configuration.subcommands {
      let name = command.configuration.commandName ?? ""
      let inner = command.configuration.subcommands.map {
        "\(name) \($0.configuration.commandName ?? "")"
      }
      for name in inner.isEmpty ? [name] : inner {
        let line = try #require(
          Self.lines.first { ($0 + " ").hasPrefix(name + " ") }, "there is no line of \(name)")
        #expect(sections.contains(name) == printing[line], "the section \(name) of the article")
      }
    }
  }
}
