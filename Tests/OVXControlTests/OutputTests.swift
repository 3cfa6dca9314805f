import OVXControl
import OVXDatapath
import Testing

@testable import ovx_ctl

@Suite struct OutputTests {
  private func text(
    _ reply: Reply, _ format: OutputFormat? = nil, command: Command = .show
  ) throws -> String {
    try Output(format: format, command: command).text(of: reply)
  }

  private func show() throws -> Reply {
    let bench = try Workbench(
      "add-br br0", "add-port br0 veth1 tag=100", "add-port br0 veth2 trunks=20,10 vlan_mode=trunk",
      "add-port br0 vxlan0 key=100 remote=192.168.5.3 tag=100", "attach br0 web1 eth0 tag=100",
      "add-br br1")
    return .show(Show(bench.configuration) { $0 == "veth1" ? "It is \"gone\"." : nil })
  }

  @Test func theTree() throws {
    #expect(
      try text(show()) == """
        Bridge br0
            Port br0
                Interface br0
                    type: internal
            Port eth0@web1
                tag: 100
                Interface eth0@web1
                    type: tap
                    attachment: {interface=eth0, target=web1}
            Port veth1
                tag: 100
                Interface veth1
                    type: system
                    error: "It is \\"gone\\"."
            Port veth2
                vlan_mode: trunk
                trunks: [10, 20]
                Interface veth2
                    type: system
            Port vxlan0
                tag: 100
                Interface vxlan0
                    type: vxlan
                    options: {key="100", remote_ip="192.168.5.3"}
        Bridge br1
            Port br1
                Interface br1
                    type: internal
        ovx_version: "\(OVXVersion.current)"

        """)
  }

  @Test func gatewaysAreBelowTheirBridge() throws {
    guard case .show(var show) = try show() else { return }
    show.bridges[1].gateways = [Show.Gateway(network: "red", errors: ["It is \"gone\".", "So."])]
    #expect(
      try text(.show(show)).contains(
        """
                    type: internal
            Network red
                error: "It is \\"gone\\"."
                error: "So."
        ovx_version:
        """))
  }

  @Test func theTreeInOtherFormats() throws {
    #expect(
      try text(show(), .csv) == """
        bridge,port,tag,trunks,type,options,error
        br0,br0,,[],internal,{},
        br0,eth0@web1,100,[],tap,{},
        br0,veth1,100,[],system,{},"It is ""gone""."
        br0,veth2,,"[10, 20]",system,{},
        br0,vxlan0,100,[],vxlan,"{key=""100"", remote_ip=""192.168.5.3""}",
        br1,br1,,[],internal,{},

        """)
    #expect(try text(show(), .list).contains("bridge  : br0\nport    : veth1\ntag     : 100\n"))
    let json = try text(show(), .json)
    #expect(json.contains("\"remote_ip\" : \"192.168.5.3\""))
    #expect(json.contains("\"version\" : \"\(OVXVersion.current)\""))
  }

  @Test func addresses() throws {
    let mac = try #require(MACAddress("02:00:00:00:00:05"))
    let entries = [
      BridgeAddresses.Entry(port: "veth1", vlan: .untagged, mac: mac, age: 7),
      BridgeAddresses.Entry(
        port: "v", vlan: try #require(VLANID(rawValue: 100)), mac: mac, age: nil),
    ]
    let plain = BridgeAddresses(bridge: "br0", entries: entries)
    #expect(
      try text(.addresses([plain])) == """
        Port   VLAN  MAC                Age
        veth1     0  02:00:00:00:00:05  7
        v       100  02:00:00:00:00:05  static

        """)
    var remote = plain
    remote.bridge = "br1"
    remote.entries[1].remote = IPAddress("10.0.0.1")
    #expect(
      try text(.addresses([plain, remote])) == """
        br0
        Port   VLAN  MAC                Age
        veth1     0  02:00:00:00:00:05  7
        v       100  02:00:00:00:00:05  static

        br1
        Port   VLAN  MAC                Age     Remote
        veth1     0  02:00:00:00:00:05  7
        v       100  02:00:00:00:00:05  static  10.0.0.1

        """)
    #expect(
      try text(.addresses([BridgeAddresses(bridge: "br0", entries: [])]))
        == "Port  VLAN  MAC  Age\n")
    #expect(try text(.addresses([]), .json) == "{\n\n}\n")
    #expect(
      try text(.addresses([BridgeAddresses(bridge: "br0", entries: [entries[0]])]), .json) == """
        {
          "br0" : [
            {
              "age" : 7,
              "mac" : "02:00:00:00:00:05",
              "port" : "veth1",
              "static" : false,
              "vlan" : 0
            }
          ]
        }

        """)
    #expect(
      try text(.addresses([plain]), .csv)
        == "Bridge,Port,VLAN,MAC,Age\nbr0,veth1,0,02:00:00:00:00:05,7\n"
        + "br0,v,100,02:00:00:00:00:05,static\n")
    #expect(try text(.flushed(1)) == "1 address forgotten\n")
    #expect(try text(.flushed(2)) == "2 addresses forgotten\n")
  }

  @Test func neighbors() throws {
    func neighbor(_ ip: String, isRouter: Bool = false) throws -> KnownNeighbor {
      KnownNeighbor(
        ip: try #require(IPAddress(ip)), vlan: VLANID(rawValue: 100) ?? .untagged,
        address: MACAddress(truncating: 0x0200_0000_0005), port: PortID(rawValue: 1), peer: .none,
        isRouter: isRouter, age: 7)
    }
    let entries = [
      BridgeNeighbors.Entry(try neighbor("10.0.0.5"), port: "veth1", remote: nil),
      BridgeNeighbors.Entry(
        try neighbor("fd00::5", isRouter: true), port: "v", remote: IPAddress("192.168.5.3")),
    ]
    let some = BridgeNeighbors(bridge: "br0", entries: entries)
    #expect(
      try text(.neighbors([some])) == """
        Port   VLAN  IP        MAC                Router  Age  Remote
        veth1   100  10.0.0.5  02:00:00:00:00:05  no        7
        v       100  fd00::5   02:00:00:00:00:05  yes       7  192.168.5.3

        """)
    #expect(
      try text(.neighbors([some, BridgeNeighbors(bridge: "br1", entries: [])])).contains("\nbr1\n"))
    #expect(
      try text(.neighbors([some]), .csv)
        == "Bridge,Port,VLAN,IP,MAC,Router,Age,Remote\n"
        + "br0,veth1,100,10.0.0.5,02:00:00:00:00:05,no,7,\n"
        + "br0,v,100,fd00::5,02:00:00:00:00:05,yes,7,192.168.5.3\n")
    #expect(
      try text(.neighbors([some]), .list).contains("10.0.0.5"))
    #expect(
      try text(.neighbors([BridgeNeighbors(bridge: "br0", entries: [entries[1]])]), .json) == """
        {
          "br0" : [
            {
              "age" : 7,
              "ip" : "fd00::5",
              "mac" : "02:00:00:00:00:05",
              "port" : "v",
              "remote" : "192.168.5.3",
              "router" : true,
              "vlan" : 100
            }
          ]
        }

        """)
    var statistics = OVXDatapath.NeighborStatistics()
    statistics.table.limit = 8192
    statistics.table.limited = 3
    statistics.answered = 12
    statistics.unread = 4
    #expect(
      try text(.neighborStatistics([BridgeNeighborStatistics(bridge: "br0", statistics)])) == """
        Bridge  Current  Limit  Learned  Moved  Expired  Evicted  Limited  Answered  Unread
        br0           0   8192        0      0        0        0        3        12       4

        """)
    #expect(
      try text(.flushed(1), command: .flushNeighbors(bridge: nil)) == "1 neighbor forgotten\n")
    #expect(
      try text(.flushed(0), command: .flushNeighbors(bridge: nil)) == "0 neighbors forgotten\n")
  }

  @Test func counters() throws {
    var counters = PortCounters()
    counters.receivedFrames = 10
    counters.receivedBytes = 1000
    counters.answeredFrames = 2
    counters[.splitHorizon] = 3
    counters[.deviceDown] = 4
    let statistics = [
      PortStatistics(bridge: "br0", port: "veth1", counters),
      PortStatistics(bridge: "br0", port: "p", PortCounters()),
    ]
    #expect(
      try text(.statistics(statistics)) == """
        Bridge  Port   RX-frames  RX-bytes  TX-frames  TX-bytes  Drops  Answered
        br0     veth1         10      1000          0         0      7         2
        br0     p              0         0          0         0      0         0

        """)
    #expect(try text(.statistics(statistics), .json).contains("\"split-horizon\" : 3"))
    #expect(
      try text(
        .drops([
          Drop(port: "veth1", reason: .deviceDown, count: 4),
          Drop(
            port: nil, reason: .unknownVTEP, count: 12,
            senders: [IPAddress(v4: 0x0A00_0001), IPAddress(v4: 0x0A00_0002)]),
        ])) == """
          Port   Reason        Count  Sentence
          veth1  device-down       4  The port's device is down, or the other end of its veth is.
          -      unknown-vtep     12  The sending VTEP is no remote of any tunnel here. Lately from 10.0.0.1, 10.0.0.2.

          """)
  }

  @Test func tunnels() throws {
    let remote = try #require(IPAddress("10.0.0.1"))
    let tunnel = Tunnels.Tunnel(
      port: "v", bridge: "br0", vni: try #require(VNI(rawValue: 7)), local: nil,
      destinationPort: 4789,
      remotes: [
        Tunnels.Remote(
          address: remote, mtu: 1450, device: "eth0", sourcePorts: 4,
          superframes: "injected into eth0"),
        Tunnels.Remote(address: remote, mtu: nil, sourcePorts: 0, error: "There is no route."),
      ])
    let listeners = [
      Tunnels.Listener(address: nil, port: 4789, tunnels: ["v"]),
      Tunnels.Listener(address: IPAddress("fd00::1"), port: 8472, tunnels: ["a", "b"]),
    ]
    #expect(
      try text(
        .tunnels(
          Tunnels(
            tunnels: [tunnel], listeners: listeners, features: ["UDP_SEGMENT", "UDP_GRO"],
            filter: Tunnels.Filter(.on, table: "ovx-underlay-00000000", refused: 3))))
          == """
          Port  Bridge  VNI  Local  Remote    UDP-port  MTU   Device  Source-ports  Superframes         State
          v     br0       7  any    10.0.0.1      4789  1450  eth0               4  injected into eth0  ok
          v     br0       7  any    10.0.0.1      4789  -     -                  0  -                   There is no route.
          listening on *:4789 for v
          listening on [fd00::1]:8472 for a, b
          using UDP_SEGMENT, UDP_GRO
          nobody else of this host can send to the remotes: nftables table inet ovx-underlay-00000000, 3 packets refused

          """)
  }

  /// The VNI of what is sent has a column where it is another one than that of what arrives, in any
  /// row.
  @Test func tunnelsWithTwoVNIs() throws {
    let remote = try #require(IPAddress("10.0.0.1"))
    let rows = try [("a", 7, 7), ("b", 40, 41)].map { name, incoming, outgoing in
      Tunnels.Tunnel(
        port: name, bridge: "br0", vni: try #require(VNI(rawValue: UInt32(incoming))),
        outgoingVNI: VNI(rawValue: UInt32(outgoing)), local: nil, destinationPort: 4789,
        remotes: [Tunnels.Remote(address: remote, mtu: 1450, device: "eth0", sourcePorts: 4)])
    }
    #expect(
      try text(.tunnels(Tunnels(tunnels: rows, listeners: [], features: [])))
        == """
        Port  Bridge  VNI-in  VNI-out  Local  Remote    UDP-port  MTU   Device  Source-ports  Superframes  State
        a     br0          7        7  any    10.0.0.1      4789  1450  eth0               4  -            ok
        b     br0         40       41  any    10.0.0.1      4789  1450  eth0               4  -            ok

        """)
    let json = try text(.tunnels(Tunnels(tunnels: rows, listeners: [], features: [])), .json)
    #expect(json.contains("\"outgoingVNI\" : 41") && !json.contains("\"outgoingVNI\" : 7"))
  }

  @Test func theOtherEnds() throws {
    var container = PortLink(bridge: "br0", port: "eth0@web1")
    container.peer = "eth0"
    container.peerIndex = 2
    container.namespace = PortLink.Namespace(pid: 4711, container: "web1")
    var tunnel = PortLink(bridge: "br0", port: "vxlan0")
    tunnel.remotes = ["192.168.5.3", "192.168.5.4"].compactMap { IPAddress($0) }
    #expect(
      try text(.links([container, tunnel, .example])) == """
        Bridge  Port       Index  Peer                     Peer-index  Namespace                Addresses
        br0     eth0@web1         eth0                              2  web1 (pid 4711)
        br0     vxlan0            192.168.5.3 192.168.5.4
        br0     veth1         69  eth0                             68  3fa2b1c0d9e8 (pid 4711)  10.0.0.5/24

        """)
  }

  @Test func smallReplies() throws {
    #expect(try text(.done) == "")
    #expect(try text(.done, .json) == "")
    #expect(try text(.answer(true), .json) == "")
    #expect(try text(.names(["a", "b"])) == "a\nb\n")
    #expect(try text(.names(["a"]), .json) == "[\n  \"a\"\n]\n")
    let version = Reply.version(Versions(daemon: "9.9", pid: 5, kernel: "6.18"))
    #expect(
      try text(version) == "ovx-ctl \(OVXVersion.current)\novx-vswitchd 9.9 (pid 5, kernel 6.18)\n")
    // What could move the cursor is escaped.
    #expect(
      try text(.records(RecordList(columns: ["c"], rows: [[.scalar(.text("\u{1B}[2J"))]])), .table)
        == "c\n\"\\u001b[2J\"\n")
  }
}

extension PortLink {
  /// A veth whose other end is in a container; all members have a value.
  static var example: PortLink {
    var link = PortLink(bridge: "br0", port: "veth1")
    link.index = 69
    link.peer = "eth0"
    link.peerIndex = 68
    link.namespace = Namespace(
      pid: 4711, container: "3fa2b1c0d9e8" + String(repeating: "0", count: 52))
    link.addresses = [InterfaceAddress("10.0.0.5/24")].compactMap(\.self)
    return link
  }
}
