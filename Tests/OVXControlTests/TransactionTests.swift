import OVXControl
import OVXDatapath
import Testing

@Suite struct TransactionTests {
  // MARK: Bridges

  @Test func addBridgeMakesTheInternalPort() throws {
    let bench = try Workbench("add-br br0")
    #expect(bench.configuration.bridges["br0"]?.name == "br0")
    let port = try #require(bench.configuration.ports["br0"])
    #expect(port.bridge == "br0")
    #expect(port.interface.type == .internal)
    #expect(port.vlans == .trunk(nil))
  }

  @Test func bridgesExistOnceUnlessToldThatTheyMay() throws {
    var bench = try Workbench("add-br br0")
    #expect(
      bench.refusal("add-br br0")
        == "cannot create a bridge named br0 because a bridge named br0 already exists; "
        + "--may-exist accepts that")
    try bench.run("--may-exist add-br br0")
    try bench.run("add-port br0 veth1")
    #expect(
      bench.refusal("add-br veth1")
        == "cannot create a bridge named veth1 because a port named veth1 already exists on bridge br0; "
        + "take another name, or delete the port first")
    #expect(bench.refusal("--may-exist add-br veth1").contains("a port named veth1"))
  }

  @Test func delBridgeTakesItsPortsAlong() throws {
    var bench = try Workbench(
      "add-br br0", "add-br br1", "add-port br0 veth1", "add-port br1 veth2")
    try bench.run("del-br br0")
    #expect(bench.configuration.bridges.keys.sorted() == ["br1"])
    #expect(bench.configuration.ports.keys.sorted() == ["br1", "veth2"])
    #expect(bench.refusal("del-br br0") == "no bridge named br0; the bridges are br1")
    try bench.run("--if-exists del-br br0")
    try bench.run("del-br br1")
    #expect(
      bench.refusal("del-br br1") == "no bridge named br1; there is none yet, and add-br makes one")
  }

  @Test func addDeleteAddInOneTransaction() throws {
    var bench = try Workbench()
    try bench.run("add-br br0 -- add-port br0 veth1 tag=5 -- del-br br0 -- add-br br0")
    #expect(bench.configuration.ports.keys.sorted() == ["br0"])
    try bench.run("add-port br0 veth1 tag=5")
    let before = bench.configuration
    try bench.run("del-port veth1 -- add-port br0 veth1 tag=5")
    #expect(bench.configuration == before)
  }

  @Test func oneFailingCommandLeavesNothingApplied() throws {
    var bench = try Workbench("add-br br0")
    #expect(
      bench.refusal("add-br br1 -- add-port br1 veth1 -- del-port br1 veth2")
        .hasPrefix("no port named veth2"))
    #expect(bench.configuration.bridges.keys.sorted() == ["br0"])
  }

  // MARK: Ports

  @Test func portsAreUniqueOverAllBridges() throws {
    var bench = try Workbench("add-br br0", "add-br br1", "add-port br0 veth1")
    let refused =
      "cannot create a port named veth1 because a port named veth1 already exists on bridge br0; "
    #expect(bench.refusal("add-port br0 veth1") == refused + "--may-exist accepts that")
    #expect(
      bench.refusal("--may-exist add-port br1 veth1")
        == refused + "del-port veth1 removes it from there")
    try bench.run("--may-exist add-port br0 veth1 tag=7")
    #expect(bench.configuration.ports["veth1"]?.tag == VLANID(rawValue: 7))
    #expect(
      bench.refusal("add-port br0 br1")
        == "cannot create a port named br1 because a bridge named br1 already exists; take another name"
    )
    #expect(bench.refusal("add-port br7 veth2") == "no bridge named br7; the bridges are br0, br1")
  }

  @Test func deletingPorts() throws {
    var bench = try Workbench(
      "add-br br0", "add-br br1", "add-port br0 veth1", "add-port br0 veth2")
    #expect(
      bench.refusal("del-port br1 veth1")
        == "bridge br1 does not have a port veth1; it belongs to bridge br0, "
        + "so type del-port br0 veth1")
    #expect(
      bench.refusal("del-port br0")
        == "cannot delete port br0 because it is the local port for bridge br0; "
        + "del-br br0 deletes the entire bridge")
    #expect(bench.refusal("del-port br9 veth1") == "no bridge named br9; the bridges are br0, br1")
    #expect(bench.refusal("del-port veth3") == "no port named veth3; there are veth1, veth2")
    #expect(bench.refusal("del-port nothing") == "no port named nothing; show lists the ports")
    try bench.run("--if-exists del-port nothing")
    // As with ovs-vsctl: for who takes a host down, a port of a bridge that is gone is gone, too.
    try bench.run("--if-exists del-port br9 nothing")
    #expect(
      bench.refusal("--if-exists del-port br9 veth1")
        == "no bridge named br9; the bridges are br0, br1")
    try bench.run("del-port br0 veth1 -- del-port veth2")
    #expect(bench.configuration.ports.keys.sorted() == ["br0", "br1"])
  }

  // MARK: Types

  @Test func typesAreInferred() throws {
    let bench = try Workbench(
      "add-br br0", "add-port br0 veth1", "add-port br0 vxlan0 key=1 remote=10.0.0.1",
      "add-port br0 tap0 type=tap", "add-port br0 int0 type=internal")
    let types = bench.configuration.ports.mapValues(\.interface.type)
    #expect(
      types == [
        "br0": .internal, "veth1": .system, "vxlan0": .vxlan, "tap0": .tap, "int0": .internal,
      ])
  }

  @Test func anUnknownDeviceIsRefusedUnlessToldToWait() throws {
    var bench = try Workbench("add-br br0")
    #expect(
      bench.refusal("add-port br0 eth7")
        == "interface eth7 has no type, and this host has no network device of that name; "
        + "type=internal or type=tap makes one, key=VNI remote=ADDRESS makes a vxlan tunnel, "
        + "or create the device first, for example with \"ip link add\"")
    try bench.run("add-port br0 eth7 type=system")
    #expect(bench.notes == ["port eth7 waits until this host has a network device eth7"])
    try bench.run("add-br br1")
    #expect(bench.notes == [])
  }

  @Test func aLaterCommandMayCompleteATunnel() throws {
    let bench = try Workbench(
      "add-br br0",
      "add-port br0 vxlan0 tag=100 -- set interface vxlan0 type=vxlan options:key=100 "
        + "options:remote_ip=192.168.5.3")
    let port = try #require(bench.configuration.ports["vxlan0"])
    #expect(port.vlans == .access(try #require(VLANID(rawValue: 100))))
    let tunnel = try #require(port.interface.tunnel)
    #expect(tunnel.vni == VNI(rawValue: 100))
    #expect(tunnel.remotes.map(\.description) == ["192.168.5.3"])
    #expect(tunnel.local == nil)
    #expect(tunnel.destinationPort == 4789)
  }

  @Test func onlyTheEndStateOfATransactionCounts() throws {
    var bench = try Workbench(
      "add-br br0", "add-port br0 vxlan0 key=100 tag=100 remote=10.0.0.1",
      "add-port br0 vxlan1 key=200 tag=200 remote=10.0.0.1")
    // In between both tunnels carry VLAN 200.
    try bench.run("set port vxlan0 tag=200 -- set port vxlan1 tag=100")
    #expect(bench.configuration.ports["vxlan0"]?.tag == VLANID(rawValue: 200))
    #expect(bench.configuration.ports["vxlan1"]?.tag == VLANID(rawValue: 100))
  }

  // MARK: Questions

  @Test func questions() throws {
    var bench = try Workbench(
      "add-br br1", "add-br br0", "add-port br0 veth2", "add-port br0 veth1")
    #expect(try bench.run("list-br") == [.names(["br0", "br1"])])
    #expect(try bench.run("list-ports br0") == [.names(["veth1", "veth2"])])
    #expect(try bench.run("list-ports br1") == [.names([])])
    #expect(
      try bench.run("port-to-br veth1 -- port-to-br br1") == [.names(["br0"]), .names(["br1"])])
    #expect(try bench.run("br-exists br0 -- br-exists br9") == [.answer(true), .answer(false)])
    #expect(bench.refusal("list-ports br9") == "no bridge named br9; the bridges are br0, br1")
    #expect(bench.refusal("port-to-br x") == "no port named x; show lists the ports")
  }

  @Test func questionsSeeWhatCommandsBeforeThemDid() throws {
    var bench = try Workbench()
    #expect(
      try bench.run("list-br -- add-br br0 -- list-br") == [.names([]), .done, .names(["br0"])])
  }

  @Test func ordersToTheRunningSwitchAreCheckedAndLeftToTheDaemon() throws {
    var bench = try Workbench(
      "add-br br0", "add-br br1", "add-port br0 veth1 tag=5", "add-port br0 veth2 trunks=7,9",
      "add-port br0 vx key=1 remote=10.0.0.1,10.0.0.2 tag=99")
    for line in [
      "show", "drops", "version", "exit", "exit --cleanup", "tunnel/show", "stats", "stats veth1",
      "fdb/show", "fdb/show br0 br1", "fdb/flush", "fdb/flush br0", "fdb/stats-show br0",
      "fdb/add br0 veth1 5 02:00:00:00:00:01", "fdb/add br0 veth2 9 02:00:00:00:00:01",
      "fdb/del br0 5 02:00:00:00:00:01", "neigh/show", "neigh show br1 br0", "neigh flush",
      "neigh/flush br0", "neigh stats", "neigh stats br0",
    ] {
      #expect(try bench.run(line) == [nil], "\(line)")
    }
    #expect(bench.refusal("fdb show br0 br9") == "no bridge named br9; the bridges are br0, br1")
    #expect(bench.refusal("fdb flush br9").hasPrefix("no bridge named br9"))
    #expect(bench.refusal("neigh show br9") == "no bridge named br9; the bridges are br0, br1")
    #expect(bench.refusal("neigh flush br9").hasPrefix("no bridge named br9"))
    #expect(bench.refusal("neigh stats br0 br9").hasPrefix("no bridge named br9"))
    #expect(bench.refusal("stats nope") == "no port named nope; show lists the ports")
    #expect(
      bench.refusal("fdb add br1 veth1 5 02:00:00:00:00:01")
        == "bridge br1 does not have a port veth1; it belongs to bridge br0")
    #expect(
      bench.refusal("fdb add br0 veth1 6 02:00:00:00:00:01")
        == "port veth1 does not carry VLAN 6; its tag is 5")
    #expect(
      bench.refusal("fdb add br0 veth2 0 02:00:00:00:00:01")
        == "port veth2 does not carry VLAN 0; its trunks are 7,9")
    #expect(
      bench.refusal("fdb add br0 veth1 5 ff:ff:ff:ff:ff:ff")
        == "ff:ff:ff:ff:ff:ff cannot be in the address table, as it is zero or a group address")
    #expect(bench.refusal("fdb add br0 vx 99 02:00:00:00:00:01").hasPrefix("port vx has 2 remotes"))
  }

  // MARK: Containers

  @Test func attachAndDetach() throws {
    var bench = try Workbench(
      "add-br br0", "add-br br1",
      "attach br0 web1 eth0 ip=10.0.0.5/24,fd00::5/64 ip=10.1.0.5/16 gateway=10.0.0.1 gateway=fd00::1 "
        + "mac=02:00:00:00:00:05 mtu=1400 tag=100")
    let port = try #require(bench.configuration.ports["eth0@web1"])
    #expect(port.bridge == "br0")
    #expect(port.tag == VLANID(rawValue: 100))
    #expect(port.interface.type == .tap)
    #expect(port.interface.mtuRequest == 1400)
    #expect(port.interface.mac?.description == "02:00:00:00:00:05")
    let attachment = try #require(port.interface.attachment)
    #expect(attachment.target == "web1")
    #expect(attachment.interface == "eth0")
    #expect(
      attachment.addresses.map(\.description) == ["10.0.0.5/24", "fd00::5/64", "10.1.0.5/16"])
    #expect(attachment.gateways.map(\.description) == ["10.0.0.1", "fd00::1"])
    #expect(bench.configuration.attachedPort(target: "web1", interface: "eth0") == port)

    #expect(
      bench.refusal("attach br0 web1 eth0")
        == "web1 already has an interface eth0, attached to bridge br0 as port eth0@web1; "
        + "detach it first, or use --may-exist")
    #expect(
      bench.refusal("--may-exist attach br1 web1 eth0")
        == "web1 already has an interface eth0, attached to bridge br0 as port eth0@web1; "
        + "detach it from there first")
    try bench.run("--may-exist attach br0 web1 eth0 ip=10.0.0.6/24")
    #expect(
      bench.configuration.ports["eth0@web1"]?.interface.attachment?.addresses.map(\.description)
        == ["10.0.0.6/24"])
    #expect(
      bench.configuration.ports["eth0@web1"]?.interface.attachment?.gateways.map(\.description)
        == ["10.0.0.1"], "what is in its network yet")
    try bench.run("--may-exist attach br0 web1 eth0 mtu=1400")
    let kept = bench.configuration.ports["eth0@web1"]?.interface
    #expect(kept?.mtuRequest == 1400)
    #expect(kept?.attachment?.addresses.map(\.description) == ["10.0.0.6/24"], "as it was")

    #expect(
      bench.refusal("detach web2 eth0")
        == "nothing named eth0 is attached to web2; the attachments are web1 eth0")
    try bench.run("--if-exists detach web2 eth0")
    try bench.run("detach web1 eth0")
    #expect(bench.configuration.ports.keys.sorted() == ["br0", "br1"])
    #expect(
      bench.refusal("detach web1 eth0")
        == "nothing named eth0 is attached to web1; there are no attachments")
  }

  @Test(arguments: [
    ("web1", "eth0@web1"),
    ("/run/netns/web1", "eth0@web1"),
    ("pid:4711", "eth0@pid4711"),
    ("/proc/4711/ns/net", "eth0@pid4711"),
    ("a-rather-long-container-name", "eth0@a-rather-long-c"),
    ("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "eth0@0123456789ab"),
    ("ns%d:x", "eth0@nsdx"),
    ("///", "eth0@///".replacing("/", with: "") + "target"),
  ])
  func namesOfAttachedPorts(target: String, name: String) throws {
    let bench = try Workbench("add-br br0", "attach br0 \(target) eth0")
    #expect(bench.configuration.ports.keys.sorted() == ["br0", name].sorted())
  }

  @Test func attachedPortsOfOneNameAreNumbered() throws {
    var bench = try Workbench(
      "add-br br0", "attach br0 web1 eth0", "attach br0 /run/netns/web1 eth0",
      "attach br0 /var/run/netns/web1 eth0")
    #expect(
      bench.configuration.ports.keys.sorted() == ["br0", "eth0@web1", "eth0@web1~2", "eth0@web1~3"])
    try bench.run("detach /run/netns/web1 eth0")
    #expect(bench.configuration.ports.keys.sorted() == ["br0", "eth0@web1", "eth0@web1~3"])
  }

  @Test(arguments: [
    ("pid:0", "eth0", "the target \"pid:0\" has no process id; after pid: comes a number above 0"),
    ("pid:x", "eth0", "the target \"pid:x\" has no process id; after pid: comes a number above 0"),
    ("web1", "lo", "\"lo\" is the loopback of web1; take another name, such as eth0"),
    (
      "web1", "a/b",
      "the interface name \"a/b\" contains \"/\"; a name has 1 to 15 bytes and none of / : % and white space"
    ),
    (
      "web1", "eth0 ip=10.0.0.5",
      "ip=10.0.0.5 is not an address with the length of its prefix; type it like 10.0.0.5/24 or fd00::5/64"
    ),
    (
      "web1", "eth0 ip=10.0.0.5/33",
      "ip=10.0.0.5/33 is not an address with the length of its prefix; type it like 10.0.0.5/24 or fd00::5/64"
    ),
    (
      "web1", "eth0 ip=224.0.0.5/24",
      "ip 224.0.0.5/24 cannot be the address of an interface; give it a unicast address"
    ),
    (
      "web1", "eth0 ip=10.0.0.5/24,10.0.0.5/16",
      "ip 10.0.0.5 is there twice; name each address once"
    ),
    (
      "web1", "eth0 gateway=x",
      "gateway=x is not an address; type it like 10.0.0.1 or fd00::1"
    ),
    (
      "web1", "eth0 gateway=10.0.0.1",
      "gateway 10.0.0.1 is in none of the interface's networks; give it an address too, with ip=ADDRESS/LENGTH"
    ),
    (
      "web1", "eth0 ip=10.0.0.5/24 gateway=10.0.1.1",
      "gateway 10.0.1.1 is in none of the interface's networks (10.0.0.5/24); name the router's address there"
    ),
    (
      "web1", "eth0 ip=10.0.0.5/24 gateway=10.0.0.5",
      "gateway 10.0.0.5 is the interface's own address; name the address of the router"
    ),
    (
      "web1", "eth0 ip=10.0.0.5/24 gateway=10.0.0.1,10.0.0.2",
      "there are two gateways, 10.0.0.1 and 10.0.0.2, of one address family; name one"
    ),
  ])
  func refusedAttachments(target: String, rest: String, sentence: String) throws {
    var bench = try Workbench("add-br br0")
    #expect(bench.refusal("attach br0 \(target) \(rest)") == sentence)
  }

  @Test func anAttachmentIsATAPOrAVeth() throws {
    var bench = try Workbench(
      "add-br br0", "attach br0 web1 eth0", "attach br0 web2 eth0 kind=veth")
    #expect(bench.configuration.ports["eth0@web1"]?.interface.type == .tap)
    #expect(bench.configuration.ports["eth0@web2"]?.interface.type == .veth)
    #expect(
      bench.refusal("set interface eth0@web1 type=internal")
        == "interface eth0@web1 is attached to a container, and its type is tap or veth")
    #expect(
      bench.refusal("attach br0 web3 eth0 kind=macvlan") == "kind is tap or veth, not \"macvlan\"")
    #expect(
      bench.refusal("add-port br0 p type=veth").contains("attach br0 CONTAINER eth0 kind=veth"))
    try bench.run("set interface eth0@web1 type=veth mac=02:00:00:00:00:07")
    try bench.run("--may-exist attach br0 web1 eth0")
    #expect(bench.configuration.ports["eth0@web1"]?.interface.type == .veth, "as it was")
    try bench.run("--may-exist attach br0 web1 eth0 kind=tap")
    #expect(bench.configuration.ports["eth0@web1"]?.interface.type == .tap)
    try bench.run("add-net red vni=5 subnet=10.9.0.0/24 mtu_request=1300")
    try bench.run("attach red web3 eth0 mtu=1280")
    try bench.run("--may-exist attach red web3 eth0")
    #expect(bench.configuration.ports["eth0@web3"]?.interface.mtuRequest == 1280, "as it was")
  }

  @Test func whatIsLongIsQuotedInPart() {
    let long = String(repeating: "x", count: 301)
    let kept = String(repeating: "x", count: 60)
    #expect(
      brief("no \"\(long)\", type `add-br \(long)`: no")
        == "no \"\(kept.dropLast())… (302 bytes)\", "
        + "type `add-br \(kept)… (301 bytes)`: no")
    #expect(brief("no \"\(kept)\"") == "no \"\(kept)\"")
  }

  // MARK: Bounds

  @Test func transactionsAreBounded() throws {
    var configuration = Configuration()
    let live = LiveState(deviceExists: { _ in false })
    let many = Array(repeating: Command.listBridges, count: Transaction.commandLimit + 1)
    #expect(throws: ControlError("a transaction has at most 16384 commands, not 16385")) {
      try Transaction.execute(many, on: &configuration, live: live)
    }
    var bridges: [Command] = (0..<1000).map { .addBridge(bridge: "br\($0)", mayExist: false) }
    bridges += Array(repeating: .listBridges, count: 1001)
    #expect(
      throws: ControlError("the answer has more than 1000000 values; ask for less at a time")
    ) {
      try Transaction.execute(bridges, on: &configuration, live: live)
    }
    #expect(configuration == Configuration())
  }

  /// A switch that knows nothing of any interface, and tells which one it was asked about.
  private static func live(_ ask: @escaping (String) -> Void) -> LiveState {
    LiveState(
      deviceExists: { _ in false },
      interface: { name in
        ask(name)
        return nil
      })
  }

  @Test func whatIsTooMuchIsNotPutTogether() throws {
    var configuration = try Workbench("add-br br0", "add-br br1").configuration
    let notes = (0..<1000).map { ("key\($0)", "") }
    configuration.ports["br0"]?.interface.externalIDs = Dictionary(uniqueKeysWithValues: notes)
    configuration.ports["br1"]?.interface.externalIDs = ["": String(repeating: "x", count: 64_000)]
    let refusal = ControlError("the answer has more than 1000000 values; ask for less at a time")
    let columns = Array(repeating: "external_ids", count: 1000)
    var asked: [String] = []
    let live = Self.live { asked.append($0) }
    // What comes behind the limit is not looked at.
    for bridge in ["br0", "br1"] {
      #expect(throws: refusal) {
        try Transaction.execute(
          [.get(table: "Interface", record: bridge, columns: columns + ["none"], ifExists: false)],
          on: &configuration, live: live)
      }
    }
    for (records, columns) in [
      (Array(repeating: "br0", count: 1000) + ["br1"], ["external_ids", "mtu"]),
      (["br0", "br1"], columns + ["mtu"]),
    ] {
      #expect(throws: refusal) {
        try Transaction.execute(
          [.list(table: "Interface", records: records, columns: columns, ifExists: false)],
          on: &configuration, live: live)
      }
    }
    #expect(asked == ["br0"])
  }

  /// Frames wait while the switch is asked.
  @Test func theSwitchIsAskedOnceAboutEachInterface() throws {
    var configuration = try Workbench("add-br br0", "add-br br1").configuration
    var asked: [String] = []
    let live = Self.live { asked.append($0) }
    let list = Command.list(
      table: "Interface", records: ["br0", "br1", "br0"], columns: [], ifExists: false)
    _ = try Transaction.execute([list, list], on: &configuration, live: live)
    #expect(asked == ["br0", "br1"])
  }
}
