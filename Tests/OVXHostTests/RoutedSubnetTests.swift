import OVXControl
import OVXDatapath
import Testing

@testable import OVXHost
@testable import OVXLinux

/// Subnets that the host has a route to, beside its own ways.
@Suite struct RoutedSubnetTests {
  private func world() throws -> World {
    let world = try World()
    world.kernel.hostWays = try [
      ("0.0.0.0/0", "eth0"), ("0.0.0.0/1", "tun0"), ("128.0.0.0/1", "tun0"),
      ("203.0.113.0/24", "eth0"), ("172.17.0.0/16", "docker0"),
    ].map { HostWay(destination: try #require(IPPrefix($0)), device: $1) }
    world.kernel.hostWays.append(
      HostWay(
        destination: try #require(IPPrefix("10.7.0.9/32")), device: "lo", isAddress: true))
    for remote in ["10.9.0.3", "192.0.2.1"] { world.kernel.route(remote, over: "eth0") }
    world.put(try Configuration.make("add-br br0"))
    return world
  }

  /// A network of the bridge; its VLAN is its VNI.
  private func network(
    _ name: String, _ vni: UInt32, _ subnet: String, _ gateway: String,
    _ change: (inout Configuration.Network) -> Void = { _ in }
  ) throws -> Configuration.Network {
    var network = Configuration.Network(
      name: name, vni: try #require(VNI(rawValue: vni)), bridge: "br0",
      tag: try #require(VLANID(rawValue: UInt16(vni))))
    network.subnets = [try #require(IPPrefix(subnet))]
    network.gateways = [try #require(IPAddress(gateway))]
    change(&network)
    return network
  }

  /// What a change is refused for, with nothing done; `nil` where it is in force.
  private func refusal(
    _ world: World,
    _ change: (inout Configuration) throws -> Void
  ) throws -> String? {
    var configuration = world.reconciler.configuration
    try change(&configuration)
    world.journal.clear()
    let check = HostCheck(
      configuration, configuration.changes(since: world.reconciler.configuration),
      after: world.reconciler, ownership: world.ownership)
    do { try check.check() } catch {
      #expect(world.journal.entries == [])
      return error.message
    }
    world.put(configuration)
    return nil
  }

  private func refusal(
    of network: Configuration.Network, in world: World
  ) throws -> String? {
    try refusal(world) { $0.networks[network.name] = network }
  }

  @Test(
    arguments: [
      ("172.17.42.0/24", "172.17.42.1", "the host has a route to 172.17.0.0/16 by docker0"),
      ("172.16.0.0/12", "172.16.0.1", "the host has a route to 172.17.0.0/16 by docker0"),
      ("203.0.113.0/25", "203.0.113.1", "the host has a route to 203.0.113.0/24 by eth0"),
      ("10.7.0.0/24", "10.7.0.1", "the host has the address 10.7.0.9 on lo"),
      ("10.9.0.0/16", "10.9.0.1", "10.9.0.3 in it is a remote of tunnel vx1"),
      ("10.8.0.0/24", "10.8.0.1", nil),
    ] as [(String, String, String?)])
  func whatTheHostHasAWayToIsNotRouted(
    _ subnet: String, _ gateway: String, _ reason: String?
  ) throws {
    let world = try world()
    try world.change { try $0.addTunnel("vx1", to: "br0", key: 7, remotes: "10.9.0.3", tag: 700) }
    let sentence = try refusal(of: network("red", 100, subnet, gateway), in: world)
    if let reason {
      #expect(sentence?.hasPrefix("network red: ") == true)
      #expect(sentence?.contains(reason + "; nat=") == true, "\(sentence ?? "")")
    } else {
      #expect(sentence == nil)
    }
    // Without a route of the host's nobody meets.
    for change: (inout Configuration.Network) -> Void in [
      { $0.nat = .masquerade }, { $0.gatewayMode = .remote }, { $0.gateways = [] },
    ] {
      #expect(try refusal(of: network("red", 100, subnet, gateway, change), in: world) == nil)
    }
  }

  @Test func twoTenantsMayHaveOneSubnetButNotOneRoute() throws {
    let world = try world()
    let red = try network("red", 100, "10.3.0.0/24", "10.3.0.1")
    #expect(try refusal(of: red, in: world) == nil)
    var blue = try network("blue", 200, "10.3.0.0/16", "10.3.0.1")
    #expect(
      try refusal(of: blue, in: world)?.contains(
        "network blue: with nat=none the host has a route to its subnet 10.3.0.0/16, and network red has one to 10.3.0.0/24"
      )
        == true)
    blue.nat = .masquerade
    #expect(try refusal(of: blue, in: world) == nil)
    blue.nat = .none
    #expect(try refusal(of: blue, in: world) != nil)
    // In one step one gives way to the other.
    #expect(
      try refusal(world) {
        $0.networks["red"]?.nat = .masquerade
        $0.networks["blue"]?.nat = .none
      } == nil)
  }

  @Test func whatCameLaterIsInNobodysWay() throws {
    let world = try world()
    let red = try network("red", 100, "10.3.0.0/24", "10.3.0.1")
    #expect(try refusal(of: red, in: world) == nil)
    world.kernel.hostWays.append(
      HostWay(destination: try #require(IPPrefix("10.3.0.0/16")), device: "eth0"))
    #expect(try refusal(world) { $0.networks["red"]?.mtuRequest = 1400 } == nil)
    // A tunnel to there is another matter: its datagrams would get to the tenant.
    let sentence = try refusal(world) {
      try $0.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1,10.3.0.3", tag: 700)
    }
    #expect(sentence?.contains("10.3.0.3 in it is a remote of tunnel vx1") == true)
  }

  @Test func datagramsOfTunnelsGetToNoTenant() throws {
    let world = try world()
    world.kernel.add("ovx-gw100")
    world.kernel.route("10.3.0.3", over: "ovx-gw100")
    try world.change {
      try $0.addTunnel("vx1", to: "br0", key: 7, remotes: "10.3.0.3", tag: 700)
    }
    #expect(world.fault("vx1")?.contains("leads to the gateway of a network") == true)
  }

  @Test func waysToRoutersAreNoTenants() throws {
    let world = try world()
    let red = try network("red", 100, "100.64.0.0/24", "100.64.0.5") { $0.nat = .masquerade }
    #expect(try refusal(of: red, in: world)?.contains("overlaps with 100.64.0.0/10") == true)
    #expect(
      try refusal(world) {
        $0.host.otherConfig["gateway-transit"] = "10.200.0.0/16"
        $0.networks["red"] = red
      } == nil)
    #expect(
      try refusal(world) { $0.host.otherConfig = [:] }?.contains("overlaps with 100.64.0.0/10")
        == true)
  }

  @Test func whatMembersDoNotReachIsToldOnce() throws {
    let world = try world()
    func notes(_ change: (inout Configuration) throws -> Void) throws -> [String] {
      var configuration = world.reconciler.configuration
      try change(&configuration)
      let check = HostCheck(
        configuration, configuration.changes(since: world.reconciler.configuration),
        after: world.reconciler, ownership: world.ownership)
      defer { world.put(configuration) }
      return check.notes
    }
    let red = try network("red", 100, "203.0.113.0/25", "203.0.113.1") { $0.nat = .masquerade }
    let told = try notes { $0.networks["red"] = red }
    #expect(told.count == 1)
    #expect(told.first?.contains("the host has a route to 203.0.113.0/24 by eth0") == true)
    #expect(try notes { $0.networks["red"]?.mtuRequest = 1400 } == [])
    // By docker0 nobody gets outside.
    let blue = try network("blue", 200, "172.17.0.0/16", "172.17.0.1") { $0.nat = .masquerade }
    #expect(try notes { $0.networks["blue"] = blue } == [])
  }

  // MARK: Floating addresses

  @Test func whomTheHostNeedsIsNobodysFloatingAddress() throws {
    let world = try world()
    world.kernel.hostWays[0].nextHop = IPAddress("203.0.113.9")
    try world.change { try $0.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1", tag: 700) }
    func refusal(_ outside: String) throws -> String? {
      let red = try network("red", 100, "10.3.0.0/24", "10.3.0.1") {
        $0.nat = .masquerade
        $0.floating = [outside: "10.3.0.9"]
      }
      return try self.refusal(of: red, in: world)
    }
    #expect(
      try refusal("203.0.113.9")?.contains(
        "address 203.0.113.9 is the next router's on the host's route to everywhere") == true)
    #expect(try refusal("192.0.2.1")?.contains("192.0.2.1 is a remote's of tunnel vx1") == true)
    // Neighbors have the addresses between.
    #expect(try refusal("203.0.113.0")?.contains("the first or the last of 203.0.113.0/24") == true)
    #expect(try refusal("203.0.113.255")?.contains("can be no station's") == true)
    #expect(try refusal("203.0.113.254") == nil)
    #expect(try refusal("10.9.0.3") == nil)
    // Nor is one a remote that comes later.
    let sentence = try self.refusal(world) {
      try $0.addTunnel("vx2", to: "br0", key: 8, remotes: "10.9.0.3", tag: 800)
    }
    #expect(sentence?.contains("10.9.0.3 is a remote's of tunnel vx2") == true)
  }

  // MARK: Members

  @Test func whoWasAttachedBeforeTheGatewayIsToldOf() throws {
    let world = try world()
    let bare = try network("red", 100, "10.3.0.0/24", "10.3.0.1") { $0.gateways = [] }
    try world.change {
      $0.networks["red"] = bare
      try $0.add("eth0@c1", to: "br0", type: .tap, tag: 100) {
        $0.attachment = Configuration.Attachment(
          target: "/proc/self/ns/net", interface: "eth0",
          addresses: ["10.3.0.9/24"].compactMap { InterfaceAddress($0) }, gateways: [])
      }
      $0.ports["eth0@c1"]?.network = "red"
    }
    func notes(_ change: (inout Configuration) -> Void) -> [String] {
      var configuration = world.reconciler.configuration
      change(&configuration)
      return HostCheck(
        configuration, configuration.changes(since: world.reconciler.configuration),
        after: world.reconciler, ownership: world.ownership
      ).notes
    }
    let told = notes { $0.networks["red"]?.gateways = [IPAddress("10.3.0.1")!] }
    #expect(
      told.first?.hasPrefix("network red: eth0@c1, attached before, keeps the routes") == true)
    #expect(notes { $0.networks["red"]?.mtuRequest = 1400 } == [])
  }

  // MARK: Published ports

  @Test func aPublishedPortTakesNoTunnelsDatagrams() throws {
    let world = try world()
    try world.change {
      try $0.addTunnel("vx1", to: "br0", key: 7, remotes: "192.0.2.1", tag: 700)
      try $0.add("tap1", to: "br0", type: .tap, tag: 100)
    }
    func refusal(publishing port: String) throws -> String? {
      try self.refusal(world) {
        $0.ports["tap1"]?.published = [try #require(PublishedPort(port))]
      }
    }
    for port in ["4789:80/udp", "0.0.0.0:4789:80/udp", "192.0.2.100:4789:80/udp"] {
      #expect(
        try refusal(publishing: port)?.hasPrefix("port tap1 publishes \(port), and at UDP port")
          == true)
    }
    for port in ["4789:80", "4790:80/udp", "[2001:db8::1]:4789:80/udp", "4789:80/sctp"] {
      #expect(try refusal(publishing: port) == nil)
    }
    // Nor a tunnel's that comes later.
    #expect(try refusal(publishing: "8472:80/udp") == nil)
    let sentence = try self.refusal(world) {
      try $0.addTunnel("vx2", to: "br0", key: 8, remotes: "192.0.2.1", tag: 800, port: "8472")
    }
    #expect(sentence?.contains("8472") == true)
  }

  @Test func whatAPublishedPortHidesIsToldOnce() throws {
    let world = try world()
    try world.change { try $0.add("tap1", to: "br0", type: .tap, tag: 100) }
    world.kernel.listening = [
      ListeningSocket(
        address: try #require(IPAddress("0.0.0.0")), port: 22, transport: 6)
    ]
    var configuration = world.reconciler.configuration
    configuration.ports["tap1"]?.published = ["22:22", "10.7.0.8:80:80"].compactMap {
      PublishedPort($0)
    }
    func notes() -> [String] {
      HostCheck(
        configuration, configuration.changes(since: world.reconciler.configuration),
        after: world.reconciler, ownership: world.ownership
      ).notes
    }
    let told = notes()
    #expect(told.count == 2)
    #expect(
      told.first?.hasPrefix("port tap1: a service of the host listens at port 22/tcp") == true)
    #expect(told.last?.contains("the host has no address 10.7.0.8") == true)
    world.put(configuration)
    #expect(notes() == [])
  }
}
