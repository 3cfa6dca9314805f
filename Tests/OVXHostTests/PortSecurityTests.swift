import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXHost

/// What ports may send, as the data plane is told of it.
@Suite struct PortSecurityTests {
  private func scene() throws -> (World, Configuration) {
    let world = try World()
    world.kernel.add("veth1")
    world.kernel.add("eth1", kind: nil)
    var configuration = try Configuration.make("add-br br0")
    var network = Configuration.Network(
      name: "red", vni: try #require(VNI(rawValue: 100)), bridge: "br0",
      tag: try #require(VLANID(rawValue: 5)))
    network.gateways = ["172.17.42.1"].compactMap(IPAddress.init)
    configuration.networks["red"] = network
    try configuration.add("veth1", to: "br0", type: .system, tag: 5)
    try configuration.add("eth1", to: "br0", type: .system, tag: 5)
    try configuration.add("gw", to: "br0", type: .internal, tag: 5)
    try configuration.add("c1", to: "br0", type: .tap, tag: 5) {
      $0.attachment = Configuration.Attachment(
        target: "/proc/self/ns/net", interface: "eth0",
        addresses: ["172.17.42.9/24"].compactMap(InterfaceAddress.init))
    }
    for name in ["veth1", "eth1", "gw", "c1"] { configuration.ports[name]?.network = "red" }
    return (world, configuration)
  }

  private func security(_ world: World, _ name: String) throws -> PortSecurity? {
    let id = try #require(world.reconciler.port(name))
    return try #require(world.dataplane.topology.port(id)).security
  }

  @Test func attachmentsAndMembersButNotTheHost() throws {
    let (world, configuration) = try scene()
    world.put(configuration)
    let attached = try #require(try security(world, "c1"))
    #expect(
      attached.stations?.count == 1 && attached.addresses?.map { "\($0.base)" } == ["172.17.42.9"])
    let member = try #require(try security(world, "veth1"))
    #expect(member.stations == nil && member.addresses == nil && member.gateways.count == 1)
    for name in ["eth1", "gw", "br0"] { #expect(try security(world, name) == nil, "\(name)") }
    world.check()
  }

  @Test func theStationIsTheOneThatWasGiven() throws {
    let (world, configuration) = try scene()
    world.put(configuration)
    let own = try #require(try security(world, "c1")?.stations)
    #expect(own.count == 1 && own.allSatisfy { $0.rawValue >> 40 & 3 == 2 })
    world.change { $0.ports["c1"]?.interface.mac = MACAddress(rawValue: 0x0200_0000_0042) }
    #expect(
      try security(world, "c1")?.stations ?? []
        == [0x0200_0000_0042].compactMap(MACAddress.init(rawValue:)))
    world.change { $0.ports["c1"]?.interface.mac = nil }
    #expect(try security(world, "c1")?.stations == own, "the same that it had")
  }

  @Test func aNetworksWordReachesItsMembersAtOnce() throws {
    let (world, configuration) = try scene()
    world.put(configuration)
    world.change { $0.networks["red"]?.portSecurity = false }
    #expect(try security(world, "c1") == nil && security(world, "veth1") == nil)
    world.change { $0.networks["red"]?.portSecurity = true }
    world.change { $0.networks["red"]?.gateways = [] }
    #expect(try security(world, "c1")?.gateways == [])
    world.change { $0.ports["c1"]?.portSecurity = false }
    #expect(try security(world, "c1") == nil && security(world, "veth1") != nil)
    world.change { $0.ports["eth1"]?.portSecurity = true }
    #expect(try security(world, "eth1") != nil)
  }
}
