import OVXControl
import Testing

/// Routes of the host, and how they move with a NIC.
@Suite struct HostRouteTests {
  @Test(
    arguments: [
      ("default via 203.0.113.9", nil),
      ("0.0.0.0/0 via 203.0.113.9", "default via 203.0.113.9"),
      ("::/0 via fd00::9 metric 5", "default via fd00::9 metric 5"),
      ("default via fd00::9", nil),
      (
        " 10.0.0.0/8   via 203.0.113.8 src 203.0.113.2 metric 0",
        "10.0.0.0/8 via 203.0.113.8 metric 0 src 203.0.113.2"
      ),
      ("default", nil),
      ("::/0", nil),
      ("10.1.0.0/16", nil),
      ("10.1.0.0/16 metric 4294967295", nil),
    ] as [(String, String?)])
  func whatIsWrittenIsReadAgain(_ text: String, _ canonical: String?) throws {
    let route = try #require(HostRoute(text))
    #expect(route.description == canonical ?? text)
    #expect(HostRoute(route.description) == route)
  }

  @Test(arguments: [
    "", "default via", "default via 203.0.113.9 metric", "default via 203.0.113.9 metric -1",
    "default via 203.0.113.9 metric 4294967296", "default via 203.0.113.9 via 203.0.113.8",
    "10.0.0.1/8 via 203.0.113.9", "10.0.0.0/8 via fd00::1", "224.0.0.0/4 via 203.0.113.9",
    "default via 224.0.0.1", "default via 0.0.0.0", "default dev eth0", "10.0.0.0 via 203.0.113.9",
    "10.0.0.0/8 src fd00::1", "default via ::", "via 203.0.113.9",
  ])
  func othersAreNoRoutes(_ text: String) { #expect(HostRoute(text) == nil) }

  @Test func whatTheHostHasOnANICMovesWithIt() throws {
    var bench = try Workbench("add-br br0")
    let place = HostPlace(
      addresses: [try #require(InterfaceAddress("203.0.113.2/24"))],
      routes: [try #require(HostRoute("default via 203.0.113.9"))])
    bench.places["veth1"] = place
    try bench.run("add-port br0 veth1 migrate=true")
    #expect(
      bench.notes
        == ["port veth1: 203.0.113.2/24, default via 203.0.113.9 move to br0"])
    let interface = try #require(bench.configuration.ports["veth1"]?.interface)
    #expect(interface.addresses == place.addresses && interface.routes == place.routes)
    // As it is there, nothing is asked of the host again.
    bench.places["veth1"] = HostPlace()
    try bench.run("--may-exist add-port br0 veth1 migrate=true")
    #expect(bench.configuration.ports["veth1"]?.interface == interface)
    bench.places["veth2"] = place
    #expect(bench.refusal("add-port br0 veth2 tag=5 migrate=true").contains("not in VLAN 5"))
    bench.places["veth2"] = HostPlace()
    try bench.run("add-port br0 veth2 migrate=true")
    #expect(
      bench.notes == [
        "port veth2: there is nothing to move, as it has neither addresses nor routes"
      ])
    try bench.run("add-port br0 veth3 migrate=false")
    #expect(bench.notes == [])
  }

  @Test(arguments: [
    ("add-port br0 eth9 migrate=true", "this host has no device eth9"),
    ("add-port br0 veth1 type=tap migrate=true", "what the host has on a device"),
    ("add-port br0 veth1 migrate=perhaps", "migrate of port veth1: \"perhaps\""),
    (
      "add-port br0 veth1 addresses=10.0.0.1/8 migrate=true",
      "leave it out, or addresses and routes"
    ),
    ("add-port br0 t type=tap routes=10.0.0.0/8", "routes are for internal interfaces"),
    ("set interface br0 routes=10.0.0.0", "is not a route; with its quotes"),
  ])
  func wrongLinesAreRefused(_ line: String, _ reason: String) throws {
    var bench = try Workbench("add-br br0")
    let sentence = bench.refusal(line)
    #expect(sentence.contains(reason), "\(sentence)")
  }

  /// What the host has on a device is reached by it in the VLAN of the bridge's own port, whoever
  /// says last what that is.
  @Test func theHostIsNotCutOffByAVLAN() throws {
    var bench = try Workbench("add-br br0", "add-port br0 veth1 tag=5", "add-port br0 veth2")
    for (line, words) in [
      (
        "set interface veth1 addresses=10.0.0.1/8",
        "port veth1: what the host has on it moves to br0"
      ),
      ("set interface veth1 routes=10.0.0.0/8", "set port br0 tag=5"),
      ("set interface veth2 addresses=10.0.0.1/8 -- set port veth2 tag=7", "not in VLAN 7"),
      (
        "set interface veth2 addresses=10.0.0.1/8 -- set port veth2 trunks=7,8", "one of its trunks"
      ),
    ] {
      let sentence = bench.refusal(line)
      #expect(sentence.contains(words), "\(line): \(sentence)")
    }
    try bench.run("set interface veth1 addresses=10.0.0.1/8 -- set port br0 tag=5")
    try bench.run("set interface veth2 addresses=10.0.0.2/8")
    for line in ["set port br0 tag=6", "clear port br0 tag", "set port veth1 tag=6"] {
      #expect(bench.refusal(line).contains("port veth1: what the host has on it moves to br0"))
    }
    try bench.run("set port br0 tag=6 -- set port veth1 tag=6")
    try bench.run("clear interface veth1 addresses -- clear port br0 tag")
  }

  @Test func aRequestSaysWithinWhichTimeItIsToBeConfirmed() throws {
    var bench = try Workbench("add-br br0")
    #expect(throws: ControlError.self) { try bench.run([.confirmWithin(seconds: 0)]) }
    #expect(throws: ControlError.self) { try bench.run([.confirmWithin(seconds: 3601)]) }
    try bench.run([.confirmWithin(seconds: 3600)])
  }
}
