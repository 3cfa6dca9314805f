import OVXDatapath
import Testing

@testable import OVXControl
@testable import ovx_ctl

/// `port_security` and `allowed_addresses`: whom they hold to what, and what is refused.
@Suite struct PortSecurityTests {
  private static let station = MACAddress(truncating: 0x0200_0000_0009)

  private func bench(_ lines: String...) throws -> Workbench {
    var bench = try Workbench(
      "add-net red vni=100 subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1")
    for line in lines { try bench.run(line) }
    return bench
  }

  private func security(
    _ bench: Workbench, _ port: String, isUplink: Bool = false
  ) throws -> PortSecurity? {
    let port = try #require(bench.configuration.ports[port])
    return bench.configuration.security(of: port, station: Self.station, isUplink: isUplink)
  }

  private func texts(_ security: PortSecurity?) -> [String]? {
    security?.addresses?.map { "\($0.base)/\($0.length)" }
  }

  // MARK: Whom it is for

  @Test func anAttachedPortIsHeldToWhatItWasGiven() throws {
    let bench = try bench("attach red c1 eth0")
    let security = try #require(try security(bench, "eth0@c1"))
    #expect(security.stations == [Self.station])
    #expect(texts(security) == ["172.17.42.2/32", "fd42::2/128"])
    #expect(security.gateways.map(\.description) == ["172.17.42.1"])
    #expect(security.gatewayStation?.description == "02:6f:76:00:00:64")
  }

  @Test func whatIsAllowedBesidesIsAdded() throws {
    let bench = try bench(
      "attach red c1 eth0 allowed_addresses=[172.17.42.99,\"00:00:5e:00:01:07\",fd42:1::/64]")
    let security = try #require(try security(bench, "eth0@c1"))
    #expect(security.stations?.map(\.description) == ["02:00:00:00:00:09", "00:00:5e:00:01:07"])
    #expect(
      texts(security) == ["172.17.42.2/32", "fd42::2/128", "172.17.42.99/32", "fd42:1::/64"])
  }

  @Test func aPortOfTheNetworkIsHeldToWhatIsSaidOfIt() throws {
    var bench = try bench("add-port br0 veth1 network=red")
    let unsaid = try #require(try security(bench, "veth1"))
    #expect(unsaid.stations == nil && unsaid.addresses == nil && unsaid.gateways.count == 1)
    try bench.run("set port veth1 allowed_addresses=172.17.42.7")
    let bound = try #require(try security(bench, "veth1"))
    #expect(bound.stations == nil && texts(bound) == ["172.17.42.7/32"])
    try bench.run("add port veth1 allowed_addresses 02:00:00:00:00:07")
    #expect(try security(bench, "veth1")?.stations?.map(\.description) == ["02:00:00:00:00:07"])
  }

  @Test func theHostItsUplinksAndOtherBridgesAreNotHeld() throws {
    var bench = try bench(
      "add-port br0 gw type=internal network=red", "add-port br0 veth1 network=red",
      "add-br br1", "add-port br1 tap1 type=tap", "attach br1 c9 eth0 ip=10.0.0.1/24",
      "set switch . remotes=192.0.2.1")
    for name in ["gw", "tap1", "eth0@c9", "vni100", "br0"] {
      #expect(try security(bench, name) == nil, "\(name)")
    }
    #expect(try security(bench, "veth1", isUplink: true) == nil)
    #expect(try security(bench, "veth1") != nil)
    // Unless they are told to.
    try bench.run("set port gw port_security=true -- set port eth0@c9 port_security=true")
    try bench.run("set port veth1 port_security=true")
    #expect(try security(bench, "gw")?.stations == [Self.station])
    #expect(texts(try security(bench, "eth0@c9")) == ["10.0.0.1/32"])
    #expect(try security(bench, "veth1", isUplink: true) != nil)
  }

  @Test func aPortsOwnWordCountsBeforeTheNetworks() throws {
    var bench = try bench("attach red c1 eth0", "attach red c2 eth0 port_security=false")
    #expect(try security(bench, "eth0@c2") == nil)
    try bench.run("set network red port_security=false -- set port eth0@c2 port_security=true")
    #expect(try security(bench, "eth0@c1") == nil)
    #expect(try security(bench, "eth0@c2") != nil)
    try bench.run("clear port eth0@c2 port_security")
    #expect(try security(bench, "eth0@c2") == nil)
  }

  @Test func withoutAGatewayNobodyHasItsAddress() throws {
    var bench = try Workbench("add-net blue vni=200 subnet=10.0.0.0/24", "attach blue c1 eth0")
    let port = try #require(bench.configuration.ports["eth0@c1"])
    let security = bench.configuration.security(of: port, station: nil, isUplink: false)
    #expect(security?.gatewayStation == nil && security?.gateways == [])
    #expect(security?.stations == [], "until its address is known it has none")
    try bench.run("detach c1 eth0")
  }

  // MARK: The grammar

  @Test func columnsReadAndPrint() throws {
    var bench = try bench("attach red c1 eth0")
    #expect(try bench.output("get network red port_security") == "true\n")
    #expect(try bench.output("get port eth0@c1 port_security") == "[]\n")
    try bench.run("set network red port_security=no")
    #expect(try bench.output("get network red port_security") == "false\n")
    try bench.run("set port eth0@c1 port_security=on allowed_addresses=10.0.0.0/8,10.9.9.9/32")
    #expect(try bench.output("get port eth0@c1 port_security") == "true\n")
    #expect(
      try bench.output("get port eth0@c1 allowed_addresses") == "[\"10.0.0.0/8\", \"10.9.9.9\"]\n")
    try bench.run("remove port eth0@c1 allowed_addresses 10.9.9.9")
    #expect(try bench.output("find port port_security=true --columns=name").contains("eth0@c1"))
    try bench.run("clear port eth0@c1 allowed_addresses")
    #expect(bench.configuration.ports["eth0@c1"]?.allowedAddresses == [])
  }

  @Test(arguments: [
    (
      "set network red port_security=maybe", "\"maybe\" is not a valid boolean; it is true or false"
    ),
    ("clear network red port_security", "is not allowed to be empty"),
    ("set port veth1 port_security=true,false", "one value at most"),
    ("set port veth1 allowed_addresses=10.0.0.0/33", "is no station's Ethernet or IP address"),
    ("set port veth1 allowed_addresses=10.0.0.1/24", "is no station's Ethernet or IP address"),
    ("set port veth1 allowed_addresses=224.0.0.5", "is no station's Ethernet or IP address"),
    ("set port veth1 allowed_addresses=01:00:5e:00:00:05", "is no station's Ethernet"),
    ("set port veth1 allowed_addresses=0.0.0.0", "is no station's Ethernet or IP address"),
    (
      "set port veth1 allowed_addresses=172.17.42.1",
      "the gateway's of network red, which no port may have while it has port_security"
    ),
    ("set port veth1 allowed_addresses=02:6f:76:00:00:64", "the gateway's of network red"),
    ("set port vni100 port_security=true", "is a tunnel"),
    ("set port vni100 allowed_addresses=10.0.0.1", "is a tunnel"),
  ])
  func refusals(line: String, part: String) throws {
    var bench = try bench("set switch . remotes=192.0.2.1", "add-port br0 veth1 network=red")
    let before = bench.configuration
    let refusal = bench.refusal(line)
    #expect(refusal.contains(part), "\(refusal)")
    #expect(bench.configuration == before)
  }

  @Test func aPortIsAllowedSoMany() throws {
    var bench = try bench("add-port br0 veth1 network=red")
    let many = (1...65).map { "10.0.0.\($0)" }
    #expect(
      bench.refusal("set port veth1 allowed_addresses=\(many.joined(separator: ","))")
        .contains("has 65 allowed_addresses; it may have 64"))
    try bench.run("set port veth1 allowed_addresses=\(many.dropLast().joined(separator: ","))")
  }

  @Test func aGatewayThatAPortIsAllowedIsRefused() throws {
    var bench = try bench("add-port br0 veth1 network=red allowed_addresses=172.17.42.5")
    #expect(bench.refusal("set network red gateway=172.17.42.5").contains("port veth1"))
    try bench.run("set port veth1 port_security=false -- set network red gateway=172.17.42.5")
    #expect(bench.refusal("clear port veth1 port_security").contains("the gateway's"))
  }

  @Test func addressesOfAnInsecurePortAreNoted() throws {
    var bench = try Workbench("add-br br0")
    try bench.run("add-port br0 veth1 allowed_addresses=10.0.0.1")
    #expect(bench.notes.contains { $0.contains("allowed_addresses mean nothing") })
  }
}
