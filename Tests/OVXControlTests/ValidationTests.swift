import OVXControl
import OVXDatapath
import Testing

@Suite struct ValidationTests {
  // MARK: Names

  @Test(arguments: [
    ("", "the name of a bridge must not be empty"),
    ("sixteen-bytes-xx", "the bridge name \"sixteen-bytes-xx\" has 16 bytes"),
    ("äöüäöüäö", "the bridge name \"äöüäöüäö\" has 16 bytes"),
    ("b/c", "the bridge name \"b/c\" contains \"/\""),
    ("b:c", "the bridge name \"b:c\" contains \":\""),
    ("br%d", "the bridge name \"br%d\" contains \"%\""),
    ("b c", "the bridge name \"b c\" contains white space"),
    ("b\tc", "the bridge name \"b?c\" contains white space"),
    ("b\u{1B}c", "the bridge name \"b?c\" contains \"?\""),
    ("b\0c", "the bridge name \"b?c\" contains \"?\""),
    ("b\u{A0}c", "the bridge name \"b\u{A0}c\" contains white space"),
  ])
  func namesThatTheKernelRefuses(name: String, beginning: String) {
    #expect(
      refusal(of: .addBridge(bridge: name, mayExist: false))
        == beginning + "; a name has 1 to 15 bytes and none of / : % and white space")
  }

  @Test(arguments: [".", "..", "all", "default"])
  func reservedNames(name: String) {
    #expect(
      refusal(of: .addBridge(bridge: name, mayExist: false))
        == "the bridge name \"\(name)\" is reserved by the kernel; take another")
  }

  @Test func aNameLikeAnOption() {
    #expect(
      refusal(of: .addBridge(bridge: "-x", mayExist: false))
        == "the bridge name \"-x\" begins with a hyphen, like an option; take another")
  }

  /// The same to Swift, and not the same to the kernel or in the database.
  @Test func aNameInPieces() throws {
    var bench = try Workbench("add-br \u{E9}")
    #expect(
      bench.refusal("add-port \u{E9} e\u{301}1 type=tap")
        == "the port name \"e\u{301}1\" has letters in pieces, which look like whole ones and are not the same; "
        + "write it in Unicode's composed form (NFC)")
    #expect(bench.refusal("del-br \u{E9} -- add-br e\u{301}").contains("(NFC)"))
  }

  @Test func theLongestName() throws {
    _ = try Workbench("add-br fifteen-bytes-x", "add-port fifteen-bytes-x a type=tap")
  }

  private func refusal(of command: Command) -> String {
    var configuration = Configuration()
    do {
      _ = try Transaction.execute(
        [command], on: &configuration, live: LiveState(deviceExists: { _ in true }))
      return "accepted"
    } catch {
      return error.message
    }
  }

  // MARK: VLANs

  @Test(arguments: [
    ("tag=4096", "tag of Port p: 4096 is not in the valid range 0 to 4095 (inclusive)"),
    ("tag=-1", "tag of Port p: -1 is not in the valid range 0 to 4095 (inclusive)"),
    ("tag=x", "tag of Port p: \"x\" is not a valid integer; it is one from 0 to 4095"),
    ("tag=1,2", "tag of Port p: one value at most, not 2"),
    ("trunks=1,4096", "trunks of Port p: 4096 is not in the valid range 0 to 4095 (inclusive)"),
    (
      "vlan_mode=x",
      "vlan_mode of Port p: x is not one of the allowed values "
        + "(access, trunk, native-tagged, native-untagged, dot1q-tunnel)"
    ),
    (
      "cvlans=5",
      "port p is of mode trunk and has cvlans, which are for vlan_mode=dot1q-tunnel; "
        + "take them away with \"clear port p cvlans\""
    ),
    (
      "other_config:qinq-ethtype=x",
      "port p: other_config:qinq-ethtype \"x\" is not one of the allowed values (802.1ad, 802.1q)"
    ),
    (
      "other_config:priority-tags=x",
      "port p: other_config:priority-tags \"x\" is not one of the allowed values "
        + "(never, if-nonzero, always)"
    ),
    (
      "other_config:storm-control=0",
      "port p: other_config:storm-control \"0\" is neither off nor a number from 1 to 1000000000; it counts the copies "
        + "of flooded frames that the port may cause in a second, and \"remove port p other_config storm-control\" sets "
        + "it back to 20000"
    ),
    (
      "vlan_mode=dot1q-tunnel tag=5 trunks=6",
      "port p is of mode dot1q-tunnel, which carries one VLAN, and has trunks; "
        + "take them away with \"clear port p trunks\", "
        + "or let it carry more with \"set port p vlan_mode=native-untagged\""
    ),
    (
      "tag=1 trunks=2",
      "port p is of mode access, which carries one VLAN, and has trunks; "
        + "take them away with \"clear port p trunks\", "
        + "or let it carry more with \"set port p vlan_mode=native-untagged\""
    ),
    (
      "vlan_mode=access trunks=2",
      "port p is of mode access, which carries one VLAN, and has trunks; "
        + "take them away with \"clear port p trunks\", "
        + "or let it carry more with \"set port p vlan_mode=native-untagged\""
    ),
    (
      "vlan_mode=trunk tag=2",
      "port p is a trunk and has a tag; take one away, "
        + "with \"clear port p tag\" or \"clear port p vlan_mode\""
    ),
  ])
  func refusedVLANs(settings: String, sentence: String) throws {
    var bench = try Workbench("add-br br0")
    #expect(bench.refusal("add-port br0 p type=tap \(settings)") == sentence)
  }

  private static func vlan(_ number: UInt16) -> VLANID { VLANID(rawValue: number) ?? .untagged }

  private static let vlanCases: [(String, VLANMembership)] = [
    ("", .trunk(nil)),
    ("tag=0", .access(.untagged)),
    ("tag=4095", .access(vlan(4095))),
    ("vlan_mode=access", .access(.untagged)),
    ("vlan_mode=trunk", .trunk(nil)),
    ("trunks=[0,7]", .trunk([.untagged, vlan(7)])),
    ("trunks=7,0,7", .trunk([.untagged, vlan(7)])),
    ("trunks=[]", .trunk(nil)),
    ("tag=[]", .trunk(nil)),
    ("vlan_mode=native-tagged tag=5", .nativeTagged(vlan(5), trunks: nil)),
    ("vlan_mode=native-untagged trunks=0", .nativeUntagged(.untagged, trunks: [.untagged])),
    (
      "vlan_mode=dot1q-tunnel tag=5 cvlans=0 other_config:qinq-ethtype=802.1q",
      .dot1qTunnel(vlan(5), customers: [.untagged], protocolID: 0x8100)
    ),
    (
      "vlan_mode=dot1q-tunnel tag=5 other_config:qinq-ethtype=802.1ad",
      .dot1qTunnel(vlan(5), customers: nil, protocolID: 0x88A8)
    ),
  ]

  @Test(arguments: vlanCases)
  func vlanModes(settings: String, vlans: VLANMembership) throws {
    let bench = try Workbench("add-br br0", "add-port br0 p type=tap \(settings)")
    #expect(bench.configuration.ports["p"]?.vlans == vlans)
  }

  @Test(arguments: [
    ("", PriorityTags.never), ("other_config:priority-tags=never", .never),
    ("other_config:priority-tags=if-nonzero", .ifNonzero),
    ("other_config:priority-tags=true", .ifNonzero),
    ("other_config:priority-tags=always", .always),
  ])
  func priorityTags(settings: String, tags: PriorityTags) throws {
    let bench = try Workbench("add-br br0", "add-port br0 p type=tap \(settings)")
    #expect(bench.configuration.ports["p"]?.priorityTags == tags)
  }

  // MARK: Devices

  @Test(arguments: [
    (
      "type=tap options:key=1",
      "interface p is of type tap, which takes no options, but has \"key\"; "
        + "set type=vxlan, or take it away with \"clear interface p options\""
    ),
    (
      "type=tap mac=01:00:00:00:00:00",
      "mac of Interface p: 01:00:00:00:00:00 cannot be the address of one interface, as it is zero or a "
        + "group address; take one whose first octet is even, such as 02:00:00:00:00:01"
    ),
    (
      "type=tap mac=2:0",
      "mac of Interface p: \"2:0\" is not an Ethernet address; it looks like 02:00:00:00:00:01"
    ),
    (
      "type=tap mtu=67",
      "mtu_request of Interface p: 67 is not in the valid range 68 to 65521 (inclusive)"
    ),
    (
      "type=system mac=02:00:00:00:00:01",
      "interface p: mac is for internal and tap interfaces, which the daemon makes; "
        + "give the device its address with \"ip link set p address 02:00:00:00:00:01\""
    ),
    (
      "key=1 remote=10.0.0.1 mac=02:00:00:00:00:01",
      "interface p: mac is for internal and tap interfaces, which the daemon makes; "
        + "a vxlan interface has no address"
    ),
    (
      "key=1 remote=10.0.0.1 mtu=1450",
      "interface p: mtu_request is not for vxlan interfaces, whose MTU follows from the underlay; "
        + "set it on the bridge's other ports"
    ),
    (
      "type=gre",
      "type of Interface p: gre is not supported; the supported values are internal, tap, veth, vxlan, system: "
        + "ovx's tunnels are of type vxlan"
    ),
    (
      "type=patch",
      "type of Interface p: patch is not supported; the supported values are internal, tap, veth, vxlan, system: "
        + "ovx joins no bridges; ports of one bridge that are to reach each other have the same tag"
    ),
    (
      "type=foo",
      "type of Interface p: foo is not one of the allowed values (internal, tap, veth, vxlan, system)"
    ),
  ])
  func refusedDevices(settings: String, sentence: String) throws {
    var bench = try Workbench("add-br br0")
    #expect(bench.refusal("add-port br0 p \(settings)") == sentence)
  }

  @Test func theBridgesOwnPortStaysInternal() throws {
    var bench = try Workbench("add-br br0")
    #expect(
      bench.refusal("set interface br0 type=tap")
        == "interface br0 is the bridge's own, and its type stays internal; "
        + "add another port for a tap interface")
    try bench.run(
      "set port br0 tag=100 -- set interface br0 mtu_request=1400 mac=02:00:00:00:00:09")
  }

  // MARK: Tunnels

  @Test(arguments: [
    (
      "remote=10.0.0.1",
      "it has no key; give it the VNI, 0 to 16777215, for example options:key=100"
    ),
    (
      "key=1",
      "it has no remote_ip; give it the address of the other host, or several separated by commas, "
        + "for example options:remote_ip=192.168.5.3"
    ),
    (
      "key=1 remote=,",
      "it has no remote_ip; give it the address of the other host, or several separated by commas, "
        + "for example options:remote_ip=192.168.5.3"
    ),
    (
      "key=16777216 remote=10.0.0.1",
      "key 16777216 is not in the valid range 0 to 16777215 (inclusive)"
    ),
    ("key=-1 remote=10.0.0.1", "key -1 is not in the valid range 0 to 16777215 (inclusive)"),
    ("key=x remote=10.0.0.1", "key \"x\" is not a number; a VNI is 0 to 16777215"),
    (
      "key=99999999999999999999 remote=10.0.0.1",
      "key \"99999999999999999999\" is not a number; a VNI is 0 to 16777215"
    ),
    (
      "key=flow remote=10.0.0.1",
      "key=flow is not supported, as ovx has no flows that could tell the VNI; "
        + "make a tunnel port for each VNI, 0 to 16777215"
    ),
    (
      "options:in_key=flow options:out_key=1 remote=10.0.0.1",
      "in_key=flow is not supported, as ovx has no flows that could tell the VNI; "
        + "make a tunnel port for each VNI, 0 to 16777215"
    ),
    (
      "options:in_key=1 options:out_key=0x1000000 remote=10.0.0.1",
      "out_key 0x1000000 is not in the valid range 0 to 16777215 (inclusive)"
    ),
    (
      "key=1 remote=192.168.0.300",
      "remote_ip \"192.168.0.300\" is not an IPv4 or IPv6 address; names are not looked up, "
        + "so type the address itself"
    ),
    (
      "key=1 remote=fe80::1%eth0",
      "remote_ip \"fe80::1%eth0\" is bound to a device, which ovx does not support; give both hosts "
        + "addresses that are not link-local, such as \"ip address add fd00::1/64 dev eth0\""
    ),
    (
      "key=1 remote=0.0.0.0",
      "remote_ip 0.0.0.0 is the unspecified address; it must be the unicast address of one other host; "
        + "for several hosts separate their addresses by commas"
    ),
    (
      "key=1 remote=239.1.1.1",
      "remote_ip 239.1.1.1 is a multicast address; it must be the unicast address of one other host; "
        + "for several hosts separate their addresses by commas"
    ),
    (
      "key=1 remote=ff05::1",
      "remote_ip ff05::1 is a multicast address; it must be the unicast address of one other host; "
        + "for several hosts separate their addresses by commas"
    ),
    (
      "key=1 remote=255.255.255.255",
      "remote_ip 255.255.255.255 is the broadcast address; it must be the unicast address of one other "
        + "host; for several hosts separate their addresses by commas"
    ),
    (
      "key=1 remote=::ffff:10.0.0.1",
      "remote_ip ::ffff:10.0.0.1 is an IPv4 address in IPv6 form; write it as an IPv4 address; it must be "
        + "the unicast address of one other host; for several hosts separate their addresses by commas"
    ),
    (
      "key=1 remote=fe80::1",
      "remote_ip fe80::1 is a link-local address, which is not unique on a host; it must be the unicast "
        + "address of one other host; for several hosts separate their addresses by commas"
    ),
    (
      "key=1 remote=10.0.0.1 local=0.0.0.0",
      "local_ip 0.0.0.0 is the unspecified address; it must be an address of this host, "
        + "or be left out for any"
    ),
    (
      "key=1 remote=10.0.0.1,fd00::1",
      "remote_ip has both 10.0.0.1 and fd00::1, but the remotes of one tunnel are all IPv4 or all IPv6; "
        + "make a second tunnel port with the same key for the others"
    ),
    (
      "key=1 remote=10.0.0.1,10.0.0.1", "remote_ip has 10.0.0.1 twice; name each remote once"
    ),
    (
      "key=1 remote=10.0.0.1 local=fd00::1",
      "local_ip fd00::1 and remote_ip 10.0.0.1 are of different families; "
        + "give both IPv4 addresses or both IPv6 ones"
    ),
    (
      "key=1 remote=10.0.0.1 local=10.0.0.1",
      "10.0.0.1 is both local_ip and remote_ip; remote_ip is the address of the other host"
    ),
    (
      "key=1 remote=10.0.0.1 dst_port=0",
      "dst_port 0 is not in the valid range 1 to 65535 (inclusive); the default is 4789"
    ),
    (
      "key=1 remote=10.0.0.1 dst_port=65536",
      "dst_port 65536 is not in the valid range 1 to 65535 (inclusive); the default is 4789"
    ),
    (
      "key=1 remote=10.0.0.1 options:hops=64",
      "the option \"hops\" is not supported; a vxlan interface takes key, in_key, out_key, remote_ip, "
        + "local_ip, dst_port, tos, ttl, df_default, csum, superframes, flood_unknown"
    ),
    (
      "key=1 remote=10.0.0.1 options:exts=gbp",
      "the option \"exts\" is not supported, as ovx sends and receives plain VXLAN, neither its group "
        + "policy (gbp) nor GPE; a vxlan interface takes key, in_key, out_key, remote_ip, local_ip, "
        + "dst_port, tos, ttl, df_default, csum, superframes, flood_unknown"
    ),
    (
      "key=1 remote=10.0.0.1 options:tos=5",
      "tos 5 has ECN bits, which are always copied from the packet inside; take a multiple of 4 "
        + "from 0 to 252, such as 4, or \"inherit\""
    ),
    (
      "key=1 remote=10.0.0.1 options:tos=256",
      "tos \"256\" is neither \"inherit\" nor a number from 0 to 252"
    ),
    (
      "key=1 remote=10.0.0.1 options:tos=EF",
      "tos \"EF\" is neither \"inherit\" nor a number from 0 to 252"
    ),
    (
      "key=1 remote=10.0.0.1 options:ttl=0",
      "ttl \"0\" is neither \"inherit\" nor a number from 1 to 255; the default is 64"
    ),
    (
      "key=1 remote=10.0.0.1 options:ttl=256",
      "ttl \"256\" is neither \"inherit\" nor a number from 1 to 255; the default is 64"
    ),
    (
      "key=1 remote=10.0.0.1 options:csum=yes",
      "csum \"yes\" is not one of true and false"
    ),
    (
      "key=1 remote=10.0.0.1 options:df_default=1",
      "df_default \"1\" is not one of true and false"
    ),
    (
      "key=1 remote=10.0.0.1 options:superframes=maybe",
      "superframes \"maybe\" is neither segment, which is the default, nor inject"
    ),
  ])
  func refusedTunnels(settings: String, sentence: String) throws {
    var bench = try Workbench("add-br br0")
    #expect(bench.refusal("add-port br0 vxlan0 \(settings)") == "tunnel vxlan0: " + sentence)
  }

  @Test(arguments: [
    ("key=0 remote=10.0.0.1", 0, 4789, ["10.0.0.1"]),
    (
      "key=16777215 remote=10.0.0.1,10.0.0.2 dst_port=8472", 0xFF_FFFF, 8472,
      ["10.0.0.1", "10.0.0.2"]
    ),
    ("key=0x7b remote=fc00::0:1 local=fc00::2", 123, 4789, ["fc00::1"]),
    (
      "type=vxlan options={key=5,remote_ip=\"10.0.0.1,10.0.0.2\"}", 5, 4789,
      ["10.0.0.1", "10.0.0.2"]
    ),
  ])
  func tunnels(settings: String, vni: UInt32, port: UInt16, remotes: [String]) throws {
    let bench = try Workbench("add-br br0", "add-port br0 vxlan0 \(settings)")
    let tunnel = try #require(bench.configuration.ports["vxlan0"]?.interface.tunnel)
    #expect(tunnel.vni.rawValue == vni)
    #expect(tunnel.destinationPort == port)
    #expect(tunnel.remotes.map(\.description) == remotes)
  }

  /// What the options mean that decide on outer headers; their defaults in the first line.
  @Test func outerHeaders() throws {
    func parse(_ options: String) throws -> Configuration.Tunnel {
      let bench = try Workbench("add-br br0", "add-port br0 v remote=10.0.0.1 \(options)")
      let port = try #require(bench.configuration.ports["v"])
      return try Configuration.Tunnel(options: port.interface.options)
    }
    let plain = try parse("key=7")
    #expect((plain.vni.rawValue, plain.outgoingVNI.rawValue) == (7, 7))
    #expect((plain.trafficClass, plain.hopLimit) == (.value(0), .value(64)))
    #expect(plain.forbidsFragments && plain.hasChecksum)
    for (options, keys) in [
      ("in_key=1 out_key=2", (1, 2)), ("key=1 out_key=2", (1, 2)), ("key=2 in_key=1", (1, 2)),
      ("in_key=1", (1, 0)), ("out_key=0x10", (0, 16)), ("key=3 in_key=3", (3, 3)),
    ] {
      let options = options.split(separator: " ").map { "options:" + $0 }
      let tunnel = try parse(options.joined(separator: " "))
      #expect((Int(tunnel.vni.rawValue), Int(tunnel.outgoingVNI.rawValue)) == keys)
    }
    let set = try parse(
      "key=7 options:tos=0x28 options:ttl=255 options:df_default=false options:csum=false")
    #expect((set.trafficClass, set.hopLimit) == (.value(40), .value(255)))
    #expect(!set.forbidsFragments && !set.hasChecksum)
    let inherited = try parse("key=7 options:tos=inherit options:ttl=inherit")
    #expect((inherited.trafficClass, inherited.hopLimit) == (.inherited, .inherited))
  }

  // MARK: Bridges' settings

  /// Kept, for other programs and as Open vSwitch does; but who has mistyped a setting is told.
  @Test func unknownSettingsAreToldOf() throws {
    var bench = try Workbench("add-br br0", "add-port br0 veth1", "add-br br1")
    let known = "mac-aging-time, mac-table-size, neighbor-suppression, joined-vnis, hwaddr"
    try bench.run("set bridge br0 other_config:neighbour-suppression=false external_ids:a=b")
    #expect(
      bench.notes == [
        "bridge br0: other_config has neighbour-suppression, of which ovx knows nothing; it knows \(known)"
      ])
    #expect(bench.configuration.bridges["br0"]?.otherConfig == ["neighbour-suppression": "false"])
    try bench.run(
      "set port veth1 other_config:priority-tag=always other_config:priority-tags=always "
        + "-- set interface veth1 other_config:x=1")
    #expect(
      bench.notes == [
        "port veth1: other_config has priority-tag, of which ovx knows nothing; it knows "
          + "qinq-ethtype, priority-tags, storm-control",
        "interface veth1: other_config has x, of which ovx knows nothing; it knows accept-ra",
      ])
    try bench.run("add-net red vni=7 bridge=br1 -- set network red other_config:evpn-flood=true")
    #expect(
      bench.notes == [
        "network red: other_config has evpn-flood, of which ovx knows nothing; it knows "
          + "evpn-flood-unknown, route-target"
      ])
    // Once, and not with everything that is changed later.
    try bench.run("set bridge br0 other_config:mac-aging-time=60 -- set port veth1 tag=5")
    #expect(bench.notes == [])
    // A thousand keys are one note, and a short one.
    let keys = (1000..<2000).map { "k\($0)=1" }.joined(separator: ",")
    try bench.run("set bridge br1 other_config={\(keys)}")
    #expect(
      bench.notes == [
        "bridge br1: other_config has k1000, k1001, k1002, k1003, k1004, k1005, k1006, k1007 and 992 more, "
          + "of which ovx knows nothing; it knows \(known)"
      ])
  }

  @Test func settingsOutOfRangeCountAsTheNearestInside() throws {
    var bench = try Workbench("add-br br0")
    let bridge = { (bench: Workbench) in try #require(bench.configuration.bridges["br0"]) }
    #expect(try bridge(bench).agingTime == 300)
    #expect(try bridge(bench).addressLimit == 8192)
    try bench.run(
      "set bridge br0 other_config:mac-aging-time=5 other_config:mac-table-size=2000000")
    #expect(try bridge(bench).agingTime == 15)
    #expect(try bridge(bench).addressLimit == 1_000_000)
    #expect(
      bench.notes == [
        "bridge br0: other_config:mac-aging-time=5 is out of range and counts as 15",
        "bridge br0: other_config:mac-table-size=2000000 is out of range and counts as 1000000",
      ])
    try bench.run("set bridge br0 other_config:mac-aging-time=3600 other_config:mac-table-size=10")
    #expect(try bridge(bench).agingTime == 3600)
    #expect(try bridge(bench).addressLimit == 10)
    #expect(bench.notes == [])
    #expect(
      bench.refusal("set bridge br0 other_config:mac-aging-time=soon")
        == "bridge br0: other_config:mac-aging-time \"soon\" is not a number; it is 15 to 3600 seconds"
    )
    #expect(
      bench.refusal("set bridge br0 other_config:mac-table-size=-1")
        == "bridge br0: other_config:mac-table-size \"-1\" is not a number; it is 10 to 1000000 addresses"
    )
  }

  @Test func suppressionIsTrueOrFalse() throws {
    var bench = try Workbench("add-br br0")
    #expect(bench.configuration.bridges["br0"]?.suppressesNeighborQuestions == true)
    try bench.run("set bridge br0 other_config:neighbor-suppression=false")
    #expect(bench.configuration.bridges["br0"]?.suppressesNeighborQuestions == false)
    #expect(
      bench.refusal("set bridge br0 other_config:neighbor-suppression=off")
        == "bridge br0: other_config:neighbor-suppression \"off\" is not one of the allowed values (true, "
        + "false); false floods every ARP request and neighbor solicitation")
    try bench.run("remove bridge br0 other_config neighbor-suppression")
    #expect(bench.configuration.bridges["br0"]?.suppressesNeighborQuestions == true)
    try bench.run("set bridge br0 other_config:neighbor-suppression=true")
    #expect(bench.configuration.bridges["br0"]?.suppressesNeighborQuestions == true)
  }

  // MARK: Sizes

  @Test func numbersOfThingsAreBounded() throws {
    let live = LiveState(deviceExists: { _ in false })
    var configuration = Configuration()
    var commands: [Command] = (0...BridgeID.limit).map {
      .addBridge(bridge: "b\($0)", mayExist: false)
    }
    #expect(throws: ControlError("there are at most 1024 bridges, not 1025")) {
      try Transaction.execute(commands, on: &configuration, live: live)
    }
    commands = [.addBridge(bridge: "br0", mayExist: false)]
    commands += (0..<PortID.limit).map {
      .addPort(
        bridge: "br0", port: "p\($0)", settings: [Setting(column: "type", value: "tap")],
        mayExist: false)
    }
    #expect(throws: ControlError("there are at most 4096 ports on a host, not 4097")) {
      try Transaction.execute(commands, on: &configuration, live: live)
    }
    let remotes = (0..<RemoteVTEPID.limit).map { "10.0.\($0 >> 8).\($0 & 255)" }.joined(
      separator: ",")
    let tunnel = Command.addPort(
      bridge: "br0", port: "v",
      settings: [Setting(column: "key", value: "1"), Setting(column: "remote", value: remotes)],
      mayExist: false)
    #expect(throws: ControlError("all tunnels together have at most 16383 remotes, not 16384")) {
      try Transaction.execute([commands[0], tunnel], on: &configuration, live: live)
    }
    let huge = Setting(column: "external_ids", key: "k", value: String(repeating: "x", count: 4097))
    #expect(throws: ControlError.self) {
      try Transaction.execute(
        [commands[0], .set(table: "Bridge", record: "br0", settings: [huge], ifExists: false)],
        on: &configuration, live: live)
    }
  }

  // MARK: States that no command makes

  @Test func aStateFromElsewhereIsCheckedAsWell() throws {
    var configuration = Configuration(bridges: ["br0": Configuration.Bridge(name: "br0")])
    let lost = "bridge br0 has lost its internal port br0"
    #expect(throws: ControlError(lost, record: "br0")) {
      try configuration.validate()
    }
    configuration.ports["br0"] = Configuration.Port(
      name: "br0", bridge: "br0", interface: Configuration.Interface(type: .internal))
    try configuration.validate()
    configuration.ports["p"] = Configuration.Port(
      name: "p", bridge: "br9", interface: Configuration.Interface(type: .tap))
    let sentence = "port p belongs to bridge br9, which does not exist"
    #expect(throws: ControlError(sentence, record: "p")) {
      try configuration.validate()
    }
  }
}
