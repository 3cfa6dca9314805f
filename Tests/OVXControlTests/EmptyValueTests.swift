import OVXControl
import OVXDatapath
import Testing

/// What a script types whose variable is not set is refused, as by ovs-vsctl: it would take a
/// tenant's protection away.
@Suite struct EmptyValueTests {
  private func bench() throws -> Workbench {
    try Workbench(
      "add-br br0", "add-port br0 veth1 tag=100", "add-port br0 veth2 trunks=10,20",
      "add-port br0 vxlan0 key=7 remote=10.0.0.1 tag=100", "set bridge br0 external_ids:a=b",
      "attach br0 web1 eth0 tag=100")
  }

  @Test(arguments: [
    "tag", "trunks", "cvlans", "vlan_mode", "other_config", "other_config:priority-tags",
    "external_ids", "external_ids:a", "ta", "port_security", "allowed_addresses",
    "publish",
  ])
  func ofPort(column: String) throws {
    var bench = try bench()
    for line in [
      "set port veth1 \(column)=", "add-port br0 veth3 \(column)=",
      "--may-exist add-port br0 veth1 \(column)=", "attach br0 web2 eth0 \(column)=",
      "--may-exist attach br0 web1 eth0 \(column)=", "find port \(column)=",
      "wait-until port veth1 \(column)=", "add-port br0 veth3 -- set port veth3 \(column)=",
    ] {
      #expect(bench.refusal(line).contains("there is no value"), "\(line)")
    }
  }

  @Test(arguments: [
    "type", "options", "options:key", "options:remote_ip", "mac", "mtu_request", "addresses",
    "other_config:a", "external_ids", "external_ids:a",
  ])
  func ofInterface(column: String) throws {
    var bench = try bench()
    for line in [
      "set interface vxlan0 \(column)=", "find interface \(column)=",
      "add-port br0 veth3 -- set int veth3 \(column)=", "--may-exist add-port br0 veth1 \(column)=",
    ] {
      #expect(bench.refusal(line).contains("there is no value"), "\(line)")
    }
  }

  @Test(arguments: ["key", "remote", "local", "dst_port", "mtu", "mac", "type"])
  func ofShorthand(name: String) throws {
    var bench = try bench()
    for line in [
      "add-port br0 veth3 \(name)=", "--may-exist add-port br0 vxlan0 \(name)=",
      "attach br0 web2 eth0 tag=100 \(name)=", "--may-exist attach br0 web1 eth0 \(name)=",
    ] {
      #expect(bench.refusal(line).contains("there is no value"), "\(line)")
    }
  }

  @Test(arguments: [
    "datapath_type", "other_config", "other_config:mac-aging-time", "external_ids:a",
  ])
  func ofBridge(column: String) throws {
    var bench = try bench()
    #expect(bench.refusal("set bridge br0 \(column)=").contains("there is no value"))
  }

  @Test(
    arguments: [
      (["set", "port", "veth1", "tag= "], "there is no value"),
      (["set", "port", "veth2", "trunks=,"], "a value is missing"),
      (["set", "port", "veth2", "trunks=1,,2"], "a value is missing"),
      (["set", "port", "veth1", "external_ids=x="], "\"x\" has no value"),
      (["add", "port", "veth2", "trunks", ""], "there is no value"),
      (["add", "port", "veth1", "tag", "[]"], "names nothing to add"),
      (["add", "port", "veth2", "trunks", "[]"], "names nothing to add"),
      (["add", "bridge", "br0", "external_ids", ""], "there is no value"),
      (["add", "bridge", "br0", "external_ids", "x="], "\"x\" has no value"),
      (["add", "bridge", "br0", "external_ids", "{}"], "names nothing to add"),
      (["remove", "port", "veth2", "trunks", ""], "there is no value"),
      (["remove", "port", "veth2", "trunks", "[]"], "names nothing to remove"),
      (["remove", "port", "veth1", "tag", ""], "there is no value"),
      (["remove", "bridge", "br0", "external_ids", ""], "there is no value"),
      (["remove", "bridge", "br0", "external_ids", "a="], "\"a\" has no value"),
      (["remove", "bridge", "br0", "external_ids", "{}"], "names nothing to remove"),
      (["attach", "br0", "web2", "eth0", "tag=5", "ip="], "ip="),
      (["attach", "br0", "web2", "eth0", "tag=5", "gateway="], "gateway="),
    ] as [([String], String)])
  func elsewhere(words: [String], sentence: String) throws {
    var bench = try bench()
    let before = bench.configuration
    #expect {
      try bench.run(words)
    } throws: {
      ($0 as? ControlError)?.message.contains(sentence) == true
    }
    #expect(bench.configuration == before)
  }

  /// The ways to say nothing in so many words.
  @Test func emptied() throws {
    var bench = try bench()
    try bench.run(
      "set port veth1 tag=[] -- set port veth2 trunks=[] -- set bridge br0 external_ids={}")
    try bench.run("set bridge br0 external_ids:x=\"\" -- set interface veth1 type=\"\"")
    #expect(bench.configuration.ports["veth1"]?.tag == nil)
    #expect(bench.configuration.ports["veth2"]?.trunks == [])
    #expect(bench.configuration.bridges["br0"]?.externalIDs == ["x": ""])
    try bench.run("set port veth1 tag=5 -- clear port veth1 tag")
    #expect(bench.configuration.ports["veth1"]?.tag == nil)
  }

  @Test func ranges() throws {
    var bench = try bench()
    try bench.run("set port veth2 trunks=1-3,7 -- add port veth2 trunks 9-10")
    #expect(
      bench.configuration.ports["veth2"]?.trunks.map(\.rawValue).sorted() == [1, 2, 3, 7, 9, 10])
    for range in ["3-1", "1-4096", "1-", "-1-2", "1-2-3"] {
      #expect(bench.refusal("set port veth2 trunks=\(range)").contains("is not a valid integer"))
    }
  }

  // MARK: A bridge of several tenants

  /// What makes a bridge one of several VLANs.
  @Test(arguments: [
    "add-port br0 veth1 tag=5", "add-port br0 veth1 trunks=5,6", "set port br0 tag=5",
    "add-port br0 vxlan0 tag=5 key=5 remote=10.0.0.1",
    "add-port br0 veth1 tag=5 vlan_mode=native-untagged",
  ])
  func attachmentNeedsVLAN(line: String) throws {
    var bench = try Workbench("add-br br0", line)
    for settings in ["", " ip=10.0.0.5/24", " vlan_mode=trunk", " vlan_mode=native-tagged"] {
      let sentence = bench.refusal("attach br0 web1 eth0" + settings)
      #expect(sentence.contains("tag=VLAN") && sentence.contains("trunks="), "\(sentence)")
    }
    // As the last command leaves it.
    try bench.run("attach br0 web1 eth0 -- set port eth0@web1 tag=5")
    for (number, settings) in ["tag=5", "trunks=5", "trunks=[]", "tag=[]", "ta=5"].enumerated() {
      try bench.run("attach br0 web2 eth\(number) \(settings)")
      #expect(bench.notes == [])
    }
    // What is there already need not be said again.
    try bench.run("--may-exist attach br0 web1 eth0")
    #expect(bench.configuration.ports["eth0@web1"]?.tag?.rawValue == 5)
  }

  @Test func attachmentWithoutTenants() throws {
    var bench = try Workbench(
      "add-br br0", "add-port br0 vxlan0 key=5 remote=10.0.0.1", "attach br0 web1 eth0",
      "add-br br1", "add-port br1 veth1 tag=5", "attach br0 web2 eth0")
    #expect(bench.refusal("attach br1 web1 eth1").contains("tag=VLAN"))
  }

  /// Scripts for Open vSwitch set the tag in a command of its own.
  @Test func addedPortsAreTrunks() throws {
    let bench = try Workbench("add-br br0", "add-port br0 veth1 tag=5", "add-port br0 veth2")
    #expect(bench.configuration.ports["veth2"]?.vlans == .trunk(nil))
    #expect(bench.notes == [])
  }
}
