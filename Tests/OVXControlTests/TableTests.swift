import OVXControl
import OVXDatapath
import Testing

@Suite struct TableTests {
  private func bench() throws -> Workbench {
    var bench = try Workbench(
      "add-br br0", "add-port br0 veth1 tag=100", "add-port br0 veth2 trunks=10,20",
      "add-port br0 vxlan0 key=7 remote=10.0.0.1,10.0.0.2 tag=100")
    var state = InterfaceState()
    state.ifindex = 12
    state.macInUse = "02:00:00:00:00:01"
    state.mtu = 1450
    state.isAdministrativelyUp = true
    state.hasCarrier = false
    state.error = "It is down."
    state.status = ["driver_name": "veth"]
    state.statistics = ["rx_packets": 5, "rx_dropped": .max]
    bench.states["veth1"] = state
    return bench
  }

  // MARK: Names

  @Test(arguments: [
    "set port veth1 tag=5", "set Port veth1 tag=5", "set PORT veth1 TAG=5", "set p veth1 ta=5",
    "set por veth1 tag=[5]", "set port veth1 tag=\"5\"",
  ])
  func tablesAndColumnsMayBeShortened(line: String) throws {
    var bench = try bench()
    try bench.run(line)
    #expect(bench.configuration.ports["veth1"]?.tag?.rawValue == 5)
  }

  @Test func hyphensAndUnderscoresAreTheSame() throws {
    var bench = try bench()
    try bench.run("set interface veth1 mtu-request=1400 -- set Int veth1 external-ids:a=b")
    try bench.run("add-port br0 veth3 vlan-mode=access external-ids:x=y")
    #expect(bench.configuration.ports["veth1"]?.interface.mtuRequest == 1400)
    #expect(bench.configuration.ports["veth1"]?.interface.externalIDs == ["a": "b"])
    #expect(bench.configuration.ports["veth3"]?.externalIDs == ["x": "y"])
  }

  @Test(arguments: [
    (
      "set foo br0 a=1",
      "unknown table \"foo\"; the tables are Bridge, Port, Interface, Network and Switch (Open_vSwitch)"
    ),
    (
      "set Open_vSwitch . a=1",
      "Switch does not contain a column whose name matches \"a\"; its columns are "
        + "_uuid, bridges, ovx_version, datapath_types, iface_types, networks, local_ip, remotes, control_plane, other_config, external_ids"
    ),
    ("set port veth9 tag=1", "no record veth9 in table Port; it has br0, veth1, veth2, vxlan0"),
    (
      "set port veth1 foo=1",
      "Port does not contain a column whose name matches \"foo\"; its columns are "
        + "_uuid, name, interfaces, tag, trunks, cvlans, vlan_mode, network, port_security, allowed_addresses, publish, other_config, external_ids"
    ),
    (
      "set port veth1 t=1",
      "Port contains more than one column whose name matches \"t\": tag, trunks; type more of the name"
    ),
    (
      "set interface veth1 m=1",
      "Interface contains more than one column whose name matches \"m\": mac, mac_in_use, mtu, mtu_request; "
        + "type more of the name"
    ),
    (
      "set port veth1 name=x",
      "cannot modify read-only column name in table Port; its columns that can be set are "
        + "tag, trunks, cvlans, vlan_mode, network, port_security, allowed_addresses, publish, other_config, external_ids"
    ),
    (
      "set bridge br0 ports=[]",
      "cannot modify read-only column ports in table Bridge; its columns that can be set are "
        + "datapath_type, other_config, external_ids"
    ),
    (
      "set interface veth1 statistics:x=1",
      "cannot modify read-only column statistics in table Interface; its columns that can be set are "
        + "type, options, mac, mtu_request, addresses, routes, other_config, external_ids"
    ),
    (
      "clear port veth1 interfaces",
      "cannot modify read-only column interfaces in table Port; its columns that can be set are "
        + "tag, trunks, cvlans, vlan_mode, network, port_security, allowed_addresses, publish, other_config, external_ids"
    ),
    (
      "clear interface veth1 type",
      "column type of table Interface is not allowed to be empty; use set to give it another value"
    ),
    (
      "remove interface veth1 type system",
      "column type of table Interface is not allowed to be empty; use set to give it another value"
    ),
    (
      "set port veth1 tag:x=1",
      "cannot set key \"x\" of column tag in table Port, which is not a map; type tag=VALUE"
    ),
    (
      "set interface veth1 bfd:enable=true",
      "bfd:enable of Interface veth1: true is not supported: \"tunnel show\" tells whether a remote can be reached"
    ),
    (
      "set interface veth1 lldp:enable=yes",
      "lldp:enable of Interface veth1: yes is not supported: ovx has no LLDP of its own, and lldpd can use the port's device"
    ),
    (
      "add port veth1 tag 5",
      "tag of Port veth1 holds one value at most, and has 100; use set to replace it"
    ),
    ("get port veth1 tag:x", "column tag of table Port is not a map; type tag without a key"),
    (
      "get interface vxlan0 options:ttl",
      "no key ttl in Interface record vxlan0 column options; it has key, remote_ip"
    ),
    (
      "add-port br0 veth3 t=1",
      "\"t\" of port veth3 could be tag, trunks, type; type more of the name"
    ),
    (
      "add-port br0 veth3 name=x",
      "cannot modify read-only column name in table Port; its columns that can be set are "
        + "tag, trunks, cvlans, vlan_mode, network, port_security, allowed_addresses, publish, other_config, external_ids"
    ),
    (
      "add-port br0 veth3 key=1 options:key=2 remote=10.0.0.9",
      "options of port veth3 is there twice"
    ),
    (
      "add-port br0 veth3 key=1 remote=10.0.0.8 remote=10.0.0.9",
      "remote of port veth3 is there twice; separate several addresses by commas"
    ),
    (
      "add-port br0 veth3 foo=1",
      "a port has no \"foo\"; it takes addresses, allowed_addresses, cvlans, dst_port, external_ids, key, local, mac, mtu, mtu_request, network, options, "
        + "other_config, port_security, publish, remote, routes, tag, trunks, type, vlan_mode"
    ),
    (
      "attach br0 web1 eth0 tag=100 key=5",
      "interface eth0@web1 is of type tap, which takes no options, but has \"key\"; "
        + "take it away, as attach makes no tunnels, and add-port does"
    ),
    (
      "attach br0 web1 eth0 foo=1",
      "a port has no \"foo\"; it takes addresses, allowed_addresses, cvlans, dst_port, external_ids, gateway, ip, key, local, mac, mtu, "
        + "mtu_request, network, options, other_config, port_security, publish, remote, routes, tag, trunks, type, vlan_mode"
    ),
  ])
  func refusals(line: String, sentence: String) throws {
    var bench = try bench()
    #expect(bench.refusal(line) == sentence)
  }

  @Test func recordsThatNeedNotExist() throws {
    var bench = try bench()
    let before = bench.configuration
    try bench.run(
      "--if-exists set port x tag=1 -- --if-exists clear port x tag -- --if-exists add port x trunks 1 "
        + "-- --if-exists remove port x trunks 1")
    #expect(bench.configuration == before)
    #expect(try bench.run("--if-exists get port x tag") == [.values([])])
    #expect(try bench.output("--if-exists get interface vxlan0 options:ttl") == "\n")
    #expect(try bench.output("--if-exists get port veth2 tag external_ids:x") == "[]\n\n")
    #expect(try bench.output("--if-exists --columns=name list port x veth1") == "name : veth1\n")
  }

  // MARK: Changing

  @Test func setsAndMaps() throws {
    var bench = try bench()
    let port = { (bench: Workbench) in try #require(bench.configuration.ports["veth2"]) }
    try bench.run("add port veth2 trunks 30 [40,10]")
    #expect(try port(bench).trunks.map(\.rawValue).sorted() == [10, 20, 30, 40])
    try bench.run("remove port veth2 trunks 20,30 40")
    #expect(try port(bench).trunks.map(\.rawValue) == [10])
    try bench.run(
      "set port veth2 external_ids={a=1,b=\"x,y=z\"} -- set port veth2 external_ids:c=a=b")
    #expect(try port(bench).externalIDs == ["a": "1", "b": "x,y=z", "c": "a=b"])
    try bench.run("add port veth2 external_ids a=2 d=4")
    #expect(try port(bench).externalIDs == ["a": "1", "b": "x,y=z", "c": "a=b", "d": "4"])
    try bench.run(
      "remove port veth2 external_ids a b -- remove port veth2 external_ids d=5 c=\"a=b\"")
    #expect(try port(bench).externalIDs == ["d": "4"])
    try bench.run("clear port veth2 external_ids trunks -- remove port veth1 tag 100")
    #expect(try port(bench).externalIDs == [:])
    #expect(try port(bench).trunks == [])
    #expect(bench.configuration.ports["veth1"]?.tag == nil)
    try bench.run("add port veth1 tag 9")
    #expect(bench.configuration.ports["veth1"]?.tag?.rawValue == 9)
  }

  // MARK: Reading

  @Test(arguments: [
    ("get port veth1 tag", "100\n"),
    ("get port veth1 vlan_mode", "[]\n"),
    ("get port veth2 trunks tag", "[10, 20]\n[]\n"),
    ("get interface veth1 type", "system\n"),
    ("get interface vxlan0 options", "{key=\"7\", remote_ip=\"10.0.0.1,10.0.0.2\"}\n"),
    ("get interface vxlan0 options:key", "\"7\"\n"),
    ("get interface veth1 mtu ifindex admin_state link_state", "1450\n12\nup\ndown\n"),
    ("get interface veth1 mac_in_use error", "\"02:00:00:00:00:01\"\n\"It is down.\"\n"),
    ("get interface veth1 statistics:rx_packets", "5\n"),
    ("get interface veth1 statistics", "{rx_dropped=9223372036854775807, rx_packets=5}\n"),
    ("get interface veth2 mtu statistics", "[]\n{}\n"),
    ("get bridge br0 ports", "[br0, veth1, veth2, vxlan0]\n"),
    ("-f json get port veth2 trunks tag", "[\n  [\n    10,\n    20\n  ],\n  null\n]\n"),
    (
      "--columns=name,tag -f table list port", "name    tag\nbr0\nveth1   100\nveth2\nvxlan0  100\n"
    ),
    ("--columns=name,tag -f csv list port veth1", "name,tag\nveth1,100\n"),
    (
      "--columns=name,tag list port veth1 veth2",
      "name : veth1\ntag  : 100\n\nname : veth2\ntag  : []\n"
    ),
    ("--columns=name -f csv find port tag=100", "name\nveth1\nvxlan0\n"),
    ("--columns=name -f csv find port tag!=100", "name\nbr0\nveth2\n"),
    ("--columns=name -f csv find port tag=[]", "name\nbr0\nveth2\n"),
    ("--columns=name -f csv find port tag>=100", "name\nveth1\nvxlan0\n"),
    ("--columns=name -f csv find port tag<100", "name\n"),
    ("--columns=name -f csv find port trunks=20,10", "name\nveth2\n"),
    ("--columns=name -f csv find port trunks{>=}10", "name\nveth2\n"),
    ("--columns=name -f csv find port trunks{<}10,20,30", "name\nbr0\nveth1\nveth2\nvxlan0\n"),
    ("--columns=name -f csv find port tag{in}99,100", "name\nbr0\nveth1\nveth2\nvxlan0\n"),
    ("--columns=name -f csv find port tag{not-in}99,101", "name\nveth1\nvxlan0\n"),
    ("--columns=name -f csv find interface type=vxlan options:key=7", "name\nvxlan0\n"),
    ("--columns=name -f csv find interface options:key!=8", "name\nvxlan0\n"),
    ("--columns=name -f csv find interface statistics:rx_packets>4", "name\nveth1\n"),
  ])
  func reading(line: String, text: String) throws {
    var bench = try bench()
    #expect(try bench.output(line) == text)
  }

  @Test func openVSwitchsOtherWords() throws {
    var bench = try bench()
    try bench.run("set bridge br0 datapath_type=netdev -- set interface veth1 type=\"\"")
    #expect(try bench.output("get bridge br0 datapath_type") == "netdev\n")
    #expect(bench.configuration.ports["veth1"]?.interface.type == .system)
    try bench.run("set interface veth1 bfd:enable=false lldp:enable=false")
    #expect(
      bench.refusal("set bridge br0 datapath_type=system")
        == "datapath_type of Bridge br0: system is not supported; the supported values are netdev: "
        + "ovx forwards in user space and has no kernel module; leave it out")
  }

  @Test func waiting() throws {
    var bench = try bench()
    #expect(try bench.run("wait-until port veth1") == [.done])
    #expect(
      try bench.run("wait-until port veth1 tag=100 tag!=5 -- list-br") == [.done, .names(["br0"])])
    #expect(
      try bench.run("wait-until interface veth1 statistics:rx_packets>=5 mtu=1450") == [.done])
    for (line, sentence) in [
      ("wait-until bridge br9", "table Bridge still has no record br9"),
      ("wait-until bridge br9 other_config:x=1", "table Bridge still has no record br9"),
      ("wait-until port veth1 tag=5", "tag of Port veth1 is still 100"),
      (
        "add-br br1 -- wait-until int veth1 link_state=up",
        "link_state of Interface veth1 is still down"
      ),
    ] {
      let before = bench.configuration
      #expect(throws: ControlError(sentence, kind: .timedOut)) { try bench.run(line) }
      #expect(bench.configuration == before)
    }
    // What cannot come true fails at once.
    for line in [
      "wait-until foo x", "wait-until port br9 foo=5", "wait-until port veth1 tag=x",
      "wait-until port br9 tag=x", "wait-until interface br9 options:key=\"",
    ] {
      let error = #expect(throws: ControlError.self) { try bench.run(line) }
      #expect(error?.kind == .refused)
    }
  }

  @Test func listPrintsEveryColumn() throws {
    var bench = try bench()
    let uuid = try bench.output("get interface vxlan0 _uuid").dropLast()
    #expect(
      try bench.output("list interface vxlan0") == """
        _uuid        : \(uuid)
        name         : vxlan0
        type         : vxlan
        options      : {key="7", remote_ip="10.0.0.1,10.0.0.2"}
        mac          : []
        mtu_request  : []
        addresses    : []
        routes       : []
        attachment   : {}
        mac_in_use   : []
        mtu          : []
        ifindex      : []
        admin_state  : []
        link_state   : []
        link_speed   : []
        duplex       : []
        ofport       : []
        error        : []
        status       : {}
        statistics   : {}
        other_config : {}
        external_ids : {}

        """)
  }

  @Test func attachmentsAreSeen() throws {
    var bench = try Workbench("add-br br0", "attach br0 web1 eth0 ip=10.0.0.5/24 gateway=10.0.0.1")
    #expect(
      try bench.output("get interface eth0@web1 attachment")
        == "{gateway=\"10.0.0.1\", interface=eth0, ip=\"10.0.0.5/24\", target=web1}\n")
  }

  @Test(arguments: [
    "find port tag~5", "find port =5", "find port tag", "find port options:a",
  ])
  func malformedConditions(line: String) throws {
    var bench = try bench()
    #expect(bench.refusal(line).contains("is not of the form COLUMN[:KEY]OPERATOR VALUE"))
  }

  /// Conditions are looked at also where no record is left that they could be asked of.
  @Test(arguments: [
    (
      "find port tag=999 foo=1",
      "Port does not contain a column whose name matches \"foo\"; its columns are "
        + "_uuid, name, interfaces, tag, trunks, cvlans, vlan_mode, network, port_security, allowed_addresses, publish, other_config, external_ids"
    ),
    (
      "find port tag=999 tag=x",
      "tag of Port condition: \"x\" is not a valid integer; it is one from 0 to 4095"
    ),
    (
      "find port name=x tag:y=1",
      "tag of Port condition: a column that is not a map has no key \"y\""
    ),
  ])
  func conditionsThatNoRecordCanFulfil(line: String, sentence: String) throws {
    for lines in [["add-br br0", "add-port br0 veth1 tag=1"], []] {
      var bench = try Workbench()
      for line in lines { try bench.run(line) }
      #expect(bench.refusal(line) == sentence)
    }
  }

  @Test func aConditionWithoutItsKey() throws {
    var bench = try bench()
    #expect(bench.refusal("find port options:=5") == "\"options:=5\" has no key after the colon")
  }
}
