import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import ovx_ctl

/// What scripts for Open vSwitch use beside bridges and ports.
@Suite struct ScriptTests {
  private func bench() throws -> Workbench {
    try Workbench(
      "add-br br0", "add-port br0 veth1 tag=100", "add-port br0 veth2 trunks=10,20",
      "set bridge br0 external_ids:b=2 external_ids:a=1")
  }

  // MARK: How things are printed

  @Test(arguments: [
    ("--oneline list-ports br0", "veth1\\nveth2\n"),
    ("--oneline get port veth1 tag name", "100\\nveth1\n"),
    ("--oneline list-br -- list-ports br0 -- set port veth1 tag=3", "br0\nveth1\\nveth2\n\n"),
    ("--oneline --columns=name list port veth1", "name : veth1\n"),
    ("--bare --columns=name,tag,trunks list port", "br0\n\n\n\nveth1\n100\n\n\nveth2\n\n10 20\n"),
    ("--bare --columns=name find port tag=100", "veth1\n"),
    ("--bare -f csv --columns=name,tag,trunks list port veth2", "veth2,,10 20\n"),
    ("--bare get port veth2 trunks", "10 20\n"),
    ("--bare get bridge br0 external_ids", "a=1 b=2\n"),
    ("--no-headings -f table --columns=name,tag list port", "br0\nveth1  100\nveth2\n"),
    ("--no-heading -f csv --columns=name,tag list port veth1", "veth1,100\n"),
    ("-d bare --columns=name,trunks list port veth2", "name   : veth2\ntrunks : 10 20\n"),
    ("--data=json --columns=name,trunks list port veth2", "name   : \"veth2\"\ntrunks : [10,20]\n"),
    ("-d json get port veth1 tag name", "100\n\"veth1\"\n"),
    ("br-to-vlan br0", "0\n"), ("br-to-parent br0", "br0\n"),
    ("br-get-external-id br0", "a=1\nb=2\n"), ("br-get-external-id br0 a", "1\n"),
    ("br-get-external-id br0 x", ""), ("comment any --words -- list-br", "br0\n"),
    ("--no-wait --retry list-br", "br0\n"), ("list-br --no-wait", "br0\n"),
    ("get open . bridges", "[br0]\n"), ("get Open_vSwitch . external_ids", "{}\n"),
    ("--columns=bridges list switch", "bridges : [br0]\n"),
    ("list mirror", ""), ("find qos", ""), ("--all destroy qos -- --all destroy queue", ""),
    ("--if-exists destroy mirror m", ""),
  ])
  func output(line: String, text: String) throws {
    var bench = try bench()
    #expect(try bench.output(line) == text)
  }

  @Test func socket() throws {
    func options(_ line: String) throws -> GlobalOptions.Values {
      try Invocation(parsing: line.split(separator: " ").map(String.init)).options
    }
    #expect(try options("--db=unix:/x/y.sock list-br").client.socketPath.string == "/x/y.sock")
    #expect(try options("--db unix:/x/y.sock list-br").client.socketPath.string == "/x/y.sock")
    #expect(
      try options("--db=unix:/var/run/openvswitch/db.sock --rundir=/r list-br").client.socketPath
        .string == "/r/vswitchd.sock")
    #expect(try options("--retry list-br").client.waitsForDaemon)
    for other in ["tcp:127.0.0.1:6640", "ssl:1.2.3.4:6640", "unix:", ""] {
      #expect(throws: (any Error).self) { try options("--db=\(other) list-br") }
    }
  }

  @Test func bridgesExternalIDs() throws {
    var bench = try bench()
    for value in ["x", "a=b,c", "[1]", "{}"] {
      try bench.run(["br-set-external-id", "br0", "k", value])
      #expect(bench.configuration.bridges["br0"]?.externalIDs["k"] == value)
      #expect(try bench.output("br-get-external-id br0 k") == value + "\n")
    }
    try bench.run("br-set-external-id br0 k")
    #expect(bench.configuration.bridges["br0"]?.externalIDs == ["a": "1", "b": "2"])
    #expect(bench.refusal("br-set-external-id br9 k v").contains("br9"))
    #expect(bench.refusal("br-to-vlan br9").contains("no bridge named br9"))
  }

  // MARK: Records

  @Test func recordsGoByTheirUUIDs() throws {
    var bench = try bench()
    var ids: Set<String> = []
    for record in ["port veth1", "port veth2", "interface veth1", "bridge br0", "switch ."] {
      let id = try String(bench.output("get \(record) _uuid").dropLast())
      #expect(
        id.wholeMatch(of: /[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/)
          != nil)
      ids.insert(id)
    }
    #expect(ids.count == 5)
    let id = try bench.output("get port veth1 _uuid").dropLast()
    #expect(try bench.output("--columns=name find port _uuid=\(id)") == "name : veth1\n")
    try bench.run("set port \(id) tag=7 -- add port \(id) external_ids a=b")
    #expect(bench.configuration.ports["veth1"]?.tag?.rawValue == 7)
    #expect(try bench.output("get port \(id) name") == "veth1\n")
    #expect(bench.refusal("set port veth1 _uuid=\(id)").contains("read-only"))
    try bench.run("--id=@p get port veth2 -- set port @p tag=[] trunks=[]")
    #expect(bench.configuration.ports["veth2"]?.trunks == [])
    try bench.run("--id=@p get port veth2 -- remove bridge br0 ports @p")
    #expect(bench.configuration.ports["veth2"] == nil)
    #expect(bench.refusal("set port @p tag=1").contains("no record @p"))
  }

  @Test func creation() throws {
    var bench = try bench()
    let replies = try bench.run(
      "--id=@p create port name=p1 tag=5 interfaces=@i -- --id=@i create interface name=p1 type=internal "
        + "-- add bridge br0 ports @p")
    #expect(bench.configuration.ports["p1"]?.interface.type == .internal)
    #expect(bench.configuration.ports["p1"]?.tag?.rawValue == 5)
    let id = try bench.output("get port p1 _uuid").dropLast()
    #expect(replies.first == .names([String(id)]))
    #expect(bench.notes == [])
    try bench.run(
      "--id=@b create bridge name=br1 ports=@l other_config:mac-aging-time=60 -- --id=@l create port name=br1 "
        + "interfaces=@i -- --id=@i create interface name=br1 type=internal -- add open . bridges @b"
    )
    #expect(bench.configuration.bridges["br1"]?.otherConfig == ["mac-aging-time": "60"])
    try bench.run("remove open . bridges br1 -- remove bridge br0 ports p1")
    #expect(bench.configuration.bridges["br1"] == nil && bench.configuration.ports["p1"] == nil)

    // What nothing refers to does not come into being.
    let before = bench.configuration
    try bench.run("--id=@p create port name=p2")
    #expect(bench.notes.contains { $0.contains("@p") })
    try bench.run("create port name=p2")
    #expect(bench.configuration == before)
    for (line, sentence) in [
      ("--id=@q create qos type=linux-htb -- set port veth1 qos=@q", "tc(8)"),
      ("--id=@m create mirror name=m -- add bridge br0 mirrors @m", "capture"),
      ("--id=@p create port tag=5", "name=NAME"), ("--id=p create port name=x", "\"@\""),
      ("add bridge br0 ports @p", "@p"), ("add bridge br0 ports ", "there is no value"),
      (
        "--id=@p create port name=p interfaces=@i,@j -- add bridge br0 ports @p", "no bonds"
      ),
      (
        "--id=@p create port name=p interfaces=@i -- --id=@i create interface name=q -- add bridge br0 ports @p",
        "one name"
      ),
    ] {
      let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
      do {
        try bench.run(words)
        Issue.record("\(line) was accepted")
      } catch {
        #expect("\(error)".contains(sentence), "\(line): \(error)")
      }
      #expect(bench.configuration == before)
    }
  }

  @Test func destruction() throws {
    var bench = try bench()
    #expect(bench.refusal("destroy port veth9").contains("no port named veth9"))
    #expect(bench.refusal("destroy mirror m").contains("no record m"))
    #expect(bench.refusal("destroy switch .").contains("stays"))
    #expect(bench.refusal("destroy port br0").contains("local port"))
    try bench.run("--if-exists destroy port veth9 -- destroy interface veth1 -- destroy port veth1")
    #expect(bench.configuration.ports["veth1"] == nil)
    try bench.run("--all destroy port")
    #expect(bench.configuration.ports.keys.sorted() == ["br0"])
    try bench.run("destroy bridge br0")
    #expect(bench.configuration == Configuration())
  }

  // MARK: The switch's own record

  @Test func switchRecord() throws {
    var bench = try bench()
    try bench.run("set open . external_ids:system-id=abc -- add Switch . other_config x=y")
    #expect(bench.notes.contains { $0.contains("other_config has x") })
    #expect(try bench.output("get Open_vSwitch . external_ids:system-id") == "abc\n")
    try bench.run("remove switch . external_ids system-id -- clear open . other_config")
    #expect(bench.configuration.host == Configuration().host)
    #expect(bench.refusal("set open x external_ids:a=b").contains("no record x"))
    try bench.run("set open . external_ids:a=b")
    try bench.run([.apply(Configuration(), declaresSwitch: false)])
    #expect(bench.configuration.host.externalIDs == ["a": "b"])
  }

  // MARK: What is always so

  @Test(arguments: [
    "set bridge br0 stp_enable=false rstp_enable=no mcast_snooping_enable=false",
    "set bridge br0 fail_mode=standalone", "set bridge br0 fail_mode=[] controller=[] mirrors=[]",
    "clear bridge br0 mirrors controller", "remove bridge br0 mirrors x",
    "set port veth1 lacp=off bond_mode=[] fake_bridge=false", "clear port veth1 qos",
    "set interface veth1 ingress_policing_rate=0 ingress_policing_burst=0",
    "add-port br0 veth3 tag=5 lacp=off -- set open . dpdk_initialized=false",
  ])
  func accepted(line: String) throws {
    var bench = try bench()
    let host = bench.configuration.bridges
    try bench.run(line)
    #expect(bench.configuration.bridges == host)
  }

  @Test(arguments: [
    ("set bridge br0 stp_enable=true", "spanning tree"),
    ("set bridge br0 rstp_enable=true", "spanning tree"),
    ("set bridge br0 fail_mode=secure", "standalone"),
    ("set bridge br0 protocols=OpenFlow13", "OpenFlow"),
    ("set bridge br0 mcast_snooping_enable=true", "group"), ("set port veth1 lacp=active", "bond"),
    ("set port veth1 qos=@q", "tc(8)"), ("set interface veth1 ingress_policing_rate=1000", "tc(8)"),
    ("add-port br0 veth3 bond_mode=active-backup", "bond"),
    ("set bridge br0 stp_enable=", "there is no value"), ("set qos x type=y", "tc(8)"),
    // The right word for a wrong one.
    ("set interface br0 mtu=1400", "mtu_request"),
    ("add-port br0 v vni=5 remote=10.0.0.1", "type key=5"),
    ("add-port br0 v key=5 remote_ip=10.0.0.1", "type remote=10.0.0.1"),
    ("add-port br0 veth3 vlan=5", "type tag=5"), ("attach br0 c eth0 vlan=5", "type tag=5"),
    ("set interface veth1 vni=5", "options:key"),
    ("set interface veth1 remote_ip=10.0.0.1", "options:remote_ip"),
    ("set port veth1 vlan=5", "tag=VALUE"),
    ("set interface veth1 tag=5", "set port NAME tag=VALUE"),
    ("set bridge br0 tag=5", "set port NAME tag=VALUE"),
    ("set port veth1 options:key=5", "set interface NAME options"),
  ])
  func refused(line: String, sentence: String) throws {
    var bench = try bench()
    #expect(bench.refusal(line).contains(sentence), "\(bench.refusal(line))")
  }

  @Test func constantsCanBeAskedFor() throws {
    var bench = try bench()
    #expect(try bench.output("get bridge br0 stp_enable fail_mode") == "false\n[]\n")
    #expect(try bench.output("--bare --columns=name find bridge stp_enable=false") == "br0\n")
    #expect(try bench.output("--bare --columns=name find bridge stp_enable=true") == "")
    #expect(try !bench.output("list bridge").contains("stp_enable"))
  }

  // MARK: Attached addresses

  @Test func attachedAddressIsSet() throws {
    var bench = try Workbench("add-br br0", "attach br0 web1 eth0 ip=10.0.0.5/24 gateway=10.0.0.1")
    try bench.run("set interface eth0@web1 addresses=10.0.0.6/24")
    let attachment = { (bench: Workbench) in
      bench.configuration.ports["eth0@web1"]?.interface.attachment
    }
    #expect(attachment(bench)?.addresses.map(\.description) == ["10.0.0.6/24"])
    try bench.run("add interface eth0@web1 addresses fd00::6/64")
    #expect(
      try bench.output("get interface eth0@web1 addresses") == "[\"10.0.0.6/24\", \"fd00::6/64\"]\n"
    )
    // The gateway must stay in reach.
    #expect(
      bench.refusal("set interface eth0@web1 addresses=10.9.0.6/24").contains("gateway 10.0.0.1"))
    #expect(bench.refusal("set interface eth0@web1 addresses=10.0.0.1/24").contains("gateway"))
  }
}
