import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXControl
@testable import ovx_ctl

/// Gateways of networks: their columns, and the port that follows from them.
@Suite struct GatewayTests {
  private func bench(_ lines: String...) throws -> Workbench {
    var bench = try Workbench(
      "set switch . remotes=192.168.5.3",
      "add-net red vni=100 subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1")
    for line in lines { try bench.run(line) }
    return bench
  }

  private func open(_ bench: inout Workbench, in target: String = "ovx-red") throws {
    var configuration = bench.configuration
    _ = try Transaction.execute(
      [.openGateway(network: "red", target: target)], on: &configuration,
      live: LiveState(deviceExists: { _ in false }))
    bench.configuration = configuration
  }

  @Test func columnsHaveTheWholeGrammar() throws {
    var bench = try bench()
    #expect(try bench.output("get network red gateway_mode nat") == "distributed\nnone\n")
    try bench.run("set network red gateway_mode=central nat=masquerade")
    #expect(try bench.output("--columns=name find network nat=masquerade").contains("red"))
    #expect(try bench.output("get network red gateway_mode nat") == "central\nmasquerade\n")
    try bench.run(
      "add-net blue vni=200 subnet=10.0.0.0/24 gw=10.0.0.1 mode=central snat=masquerade")
    #expect(bench.configuration.networks["blue"]?.nat == .masquerade)
  }

  @Test func whatItServesIsSet() throws {
    var bench = try bench()
    #expect(try bench.output("get network red dhcp dns domain") == "false\nfalse\n[]\n")
    try bench.run("set network red dhcp=true dns=yes domain=red.example")
    #expect(try bench.output("get network red dhcp dns domain") == "true\ntrue\nred.example\n")
    #expect(try bench.output("--columns=name find network dns=true").contains("red"))
    let yaml = try ExportedFile(configuration: bench.configuration).yaml
    #expect(yaml.contains("dhcp: true") && yaml.contains("domain: red.example"), "\(yaml)")
    let file = try ConfigurationFile(name: "net.yaml", bytes: Array(yaml.utf8))
    #expect(file.configuration.networks["red"] == bench.configuration.networks["red"])
    try bench.run("clear network red domain -- set network red dhcp=false dns=false")
    let none = try ExportedFile(configuration: bench.configuration).yaml
    #expect(!none.contains("dhcp") && !none.contains("dns") && !none.contains("domain"), "\(none)")
  }

  @Test func aFileSaysOnlyWhatIsUnusual() throws {
    let bench = try bench("add-net blue vni=200 subnet=10.0.0.0/24 gateway=10.0.0.1 nat=masquerade")
    let yaml = try ExportedFile(configuration: bench.configuration).yaml
    #expect(yaml.components("nat: masquerade") == 1, "\(yaml)")
    #expect(!yaml.contains("nat: none") && !yaml.contains("gateway_mode"), "\(yaml)")
    let file = try ConfigurationFile(name: "net.yaml", bytes: Array(yaml.utf8))
    #expect(file.configuration.networks["blue"]?.nat == .masquerade)
  }

  @Test(arguments: [
    ("set network red gateway_mode=here", "distributed, central, remote"),
    ("set network red nat=snat", "none, masquerade"),
    ("add-net blue vni=200 nat=masquerade", "it has none; name its address with gateway=ADDRESS"),
    (
      "set network red nat=masquerade gateway_mode=remote",
      "which gateway_mode=remote says is another host"
    ),
    ("set network red nat=masquerade -- clear network red gateway", "leave nat=none"),
    ("set network red floating:203.0.113.5=172.17.99.9", "no station's address in its subnets"),
    ("set network red floating:203.0.113.5=web", "looks like floating:203.0.113.50=172.17.42.10"),
    ("set network red floating:172.17.42.7=172.17.42.8", "is none outside of the network"),
    ("set network red floating:2001.db8=172.17.42.8", "is not an address outside"),
    ("set network red floating:203.0.113.5=172.17.42.1", "which the member is not itself"),
    ("set network red floating:\"2001:db8::5\"=\"fd42::5\"", "takes a gateway of its family"),
    (
      "set network red floating:203.0.113.5=172.17.42.8 floating:203.0.113.6=172.17.42.8",
      "are both 172.17.42.8's"
    ),
    (
      "set network red floating:203.0.113.5=172.17.42.8 -- add-net blue vni=200 subnet=10.0.0.0/24 "
        + "gateway=10.0.0.1 floating:203.0.113.5=10.0.0.8", "networks blue and red both have"
    ),
    ("add-net blue vni=200 dhcp=true", "name its address with subnet=ADDRESS/LENGTH and gateway="),
    (
      "add-net blue vni=200 subnet=10.0.0.0/24 dhcp=true",
      "it has none; name its address with gateway="
    ),
    ("add-net blue vni=200 dns=true", "dns=true is what its gateway does"),
    ("set network red dhcp=true gateway_mode=remote", "dhcp=true is done where the gateway is"),
    ("set network red dns=true gateway_mode=remote", "say dns there"),
    (
      "set network red subnet=fd42::/48 gateway=\"fd42::1\" dhcp=true",
      "IPv6 ones are to be /64 or longer"
    ),
    ("set network red dhcp=true -- clear network red gateway", "or leave dhcp=false"),
    ("set network red dhcp=maybe", "dhcp"),
    ("set network red domain=-red.example", "is no domain name: its parts are 1 to 63"),
    ("set network red domain=red..example", "is no domain name"),
    ("set network red domain=red.example.", "is no domain name"),
    ("set network red domain=\"red\\naddress=/#/1.2.3.4\"", "is no domain name"),
    ("set network red domain=\"red,172.17.42.0/24\"", "is no domain name"),
    ("set network red domain=rød.example", "is no domain name"),
    ("set network red domain=\(String(repeating: "a.", count: 127))aa", "it has 256 bytes"),
    ("set switch . other_config:gateway-transit=10.0.0.1/24", "is not an IPv4 network"),
    ("set switch . other_config:gateway-transit=fd00::/64", "is not an IPv4 network"),
    ("set switch . other_config:gateway-transit=10.0.0.0/31", "is not an IPv4 network"),
    ("set switch . other_config:gateway-uplinks=\"a/b\"", "gateway-uplinks device"),
    ("set switch . other_config:gateway-uplinks=\",\"", "gateway-uplinks"),
    ("set switch . other_config:gateway-uplinks=\"a\\\"b\"", "with a quotation mark"),
  ])
  func aMistakeIsExplained(_ line: String, _ part: String) throws {
    var bench = try bench()
    let before = bench.configuration
    let refusal = bench.refusal(line)
    #expect(refusal.contains(part), "\(line): \(refusal)")
    #expect(bench.configuration == before)
  }

  @Test func theHostsSettingsAreRead() throws {
    var bench = try bench()
    #expect(bench.configuration.host.gatewayTransit.description == "100.64.0.0/10")
    #expect(bench.configuration.host.gatewayUplinks == nil)
    try bench.run(
      "set switch . other_config:gateway-transit=10.200.0.0/16 other_config:gateway-uplinks=\"eth0,eth1\""
    )
    #expect(bench.configuration.host.gatewayTransit.description == "10.200.0.0/16")
    #expect(bench.configuration.host.gatewayUplinks == ["eth0", "eth1"])
  }

  // MARK: The port

  @Test func thePortFollowsFromTheNetwork() throws {
    var bench = try bench()
    #expect(bench.configuration.ports["gw100"] == nil, "nobody has made a router")
    try open(&bench)
    let port = try #require(bench.configuration.ports["gw100"])
    #expect(port.interface.mac?.description == "02:6f:76:00:00:64")
    #expect(port.interface.attachment?.target == "ovx-red" && port.tag?.rawValue == 1)
    #expect(port.interface.attachment?.addresses.map(\.description) == ["172.17.42.1/24"])
    try bench.run("set network red gateway=172.17.42.9,fd42::1 tag=7")
    #expect(
      bench.configuration.ports["gw100"]?.interface.attachment?.addresses.map(\.description)
        == ["172.17.42.9/24", "fd42::1/64"])
    #expect(bench.configuration.ports["gw100"]?.tag?.rawValue == 7)
    let before = bench.configuration
    try open(&bench)
    #expect(bench.configuration == before)
    try open(&bench, in: "other-red")
    #expect(bench.configuration.ports["gw100"]?.interface.attachment?.target == "other-red")
  }

  @Test func whereTheKernelForwardsTheRouterHasAVeth() throws {
    var bench = try bench()
    try open(&bench)
    func type() -> Configuration.InterfaceType? {
      bench.configuration.ports["gw100"]?.interface.type
    }
    #expect(type() == .tap)
    try bench.run("set switch . other_config:fast-path=auto")
    #expect(type() == .veth)
    let before = bench.configuration
    try open(&bench)
    #expect(bench.configuration == before)
    try bench.run("set network red gateway_mode=central")
    #expect(type() == .tap, "it is for tunnels, too")
    try bench.run("set network red gateway_mode=distributed")
    #expect(type() == .veth)
    try bench.run("remove switch . other_config fast-path")
    #expect(type() == .tap)
    #expect(
      bench.refusal("set interface gw100 type=veth").contains("is the gateway of network red"))
  }

  @Test(arguments: [
    "clear network red gateway", "set network red gateway_mode=remote", "del-net red",
    "set network red vni=101", "destroy network red",
  ])
  func thePortGoesWithTheGateway(_ line: String) throws {
    var bench = try bench()
    try open(&bench)
    try bench.run(line)
    #expect(bench.configuration.ports["gw100"] == nil)
  }

  @Test func theGatewayIsNoMember() throws {
    var bench = try bench()
    try open(&bench)
    #expect(try bench.output("get network red members") == "[]\n")
    #expect(try bench.output("get network red status:addresses_used") == "1\n")
    try bench.run("attach red c1 eth0")
    #expect(bench.refusal("del-net red").contains("has a member (eth0@c1)"))
    let yaml = try ExportedFile(configuration: bench.configuration).yaml
    #expect(!yaml.contains("gw100"), "\(yaml)")
  }

  @Test func aFileLeavesTheGatewayOrTakesItWithTheNetwork() throws {
    var bench = try bench()
    try open(&bench)
    let yaml = try ExportedFile(configuration: bench.configuration).yaml
    let same = try ConfigurationFile(name: "net.yaml", bytes: Array(yaml.utf8)).configuration
    var configuration = bench.configuration
    _ = try Transaction.execute(
      [.apply(same, declaresSwitch: true)], on: &configuration,
      live: LiveState(deviceExists: { _ in false }))
    #expect(configuration == bench.configuration)
    let empty = try ConfigurationFile(name: "net.yaml", bytes: Array("bridges: {}".utf8))
      .configuration
    _ = try Transaction.execute(
      [.apply(empty, declaresSwitch: false)], on: &configuration,
      live: LiveState(deviceExists: { _ in false }))
    #expect(configuration.ports.isEmpty && configuration.networks.isEmpty)
  }

  @Test(arguments: [
    "set port gw100 tag=9", "set interface gw100 mac=02:00:00:00:00:01",
    "set interface gw100 addresses=172.17.42.7/24",
  ])
  func whatContradictsTheNetworkIsRefused(_ line: String) throws {
    var bench = try bench()
    try open(&bench)
    let refusal = bench.refusal(line)
    #expect(refusal.contains("is the gateway of network red"), "\(line): \(refusal)")
  }

  @Test func aGatewayThatIsNotHereIsNotOpened() throws {
    func refusal(_ bench: Workbench, _ network: String = "red") -> String {
      var configuration = bench.configuration
      do throws(ControlError) {
        _ = try Transaction.execute(
          [.openGateway(network: network, target: "ovx-red")], on: &configuration,
          live: LiveState(deviceExists: { _ in false }))
        return ""
      } catch {
        return error.message
      }
    }
    #expect(refusal(try bench(), "green").contains("no network named green"))
    #expect(
      refusal(try bench("set network red gateway_mode=remote")).contains("gateway_mode is remote"))
    #expect(refusal(try bench("clear network red gateway")).contains("gateway=ADDRESS"))
    #expect(
      refusal(try bench("add-port br0 gw100 type=tap")).contains("needs the name gw100"))
  }
}

extension String {
  fileprivate func components(_ part: String) -> Int { ranges(of: part).count }
}
