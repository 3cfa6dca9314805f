import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import OVXHost
@testable import OVXLinux

/// A NIC's addresses, which the host has on the bridge's own device while the NIC is a port.
@Suite struct HostAddressTests {
  private let place = HostPlace(
    addresses: ["203.0.113.2/24"].compactMap(OVXControl.InterfaceAddress.init),
    routes: ["default via 203.0.113.9"].compactMap(HostRoute.init))

  private func world() throws -> World {
    let world = try World()
    world.kernel.add("eth1", kind: nil)
    world.kernel.addresses["eth1"] = place.addresses.map(OVXLinux.InterfaceAddress.init)
    world.put(try Configuration.make("add-br br0"))
    world.journal.clear()
    return world
  }

  private func add(_ world: World) throws {
    try world.change { configuration in
      try configuration.add("eth1", to: "br0", type: .system)
      configuration.ports["eth1"]?.interface.addresses = place.addresses
      configuration.ports["eth1"]?.interface.routes = place.routes
    }
  }

  @Test func theyLeaveTheNICBeforeTheBridgeHasThem() throws {
    let world = try world()
    try add(world)
    world.check()
    #expect(world.kernel.addresses["eth1"] == [])
    #expect(world.kernel.places["br0"] == place)
    let (isolated, displaced, given) = (
      try #require(world.journal.index(of: "isolate eth1")),
      try #require(world.journal.index(of: "displace from eth1")),
      try #require(world.journal.index(of: "address br0"))
    )
    #expect(isolated < displaced && displaced < given)
  }

  @Test func theyComeBackWithTheNIC() throws {
    let world = try world()
    try add(world)
    world.journal.clear()
    world.change { $0.ports["eth1"] = nil }
    world.check()
    #expect(world.kernel.addresses["eth1"]?.map(\.description) == ["203.0.113.2/24"])
    #expect(world.kernel.places["br0"] == HostPlace())
    #expect(
      try #require(world.journal.index(of: "address br0"))
        < #require(world.journal.index(of: "restore to eth1")))
  }

  @Test func theyComeBackWhereTheNICCannotBeUsed() throws {
    let world = try world()
    world.journal.refusals["open socket on eth1"] = .resourceBusy
    try add(world)
    #expect(world.fault("eth1") != nil)
    #expect(world.kernel.addresses["eth1"]?.map(\.description) == ["203.0.113.2/24"])
  }

  @Test func whoGivesThemToTheNICAgainDoesNotTakeThemFromTheHost() throws {
    let world = try world()
    try add(world)
    world.kernel.addresses["eth1"] = place.addresses.map(OVXLinux.InterfaceAddress.init)
    world.kernel.doubtful.insert(try #require(world.kernel.links["eth1"]?.index))
    world.reconciler.reconcile(["eth1"])
    #expect(world.kernel.addresses["eth1"] == [])
    #expect(world.fault("eth1") == nil)
  }

  @Test func anAddressThatIsNotTheirsIsInTheWay() throws {
    let world = try world()
    world.kernel.addresses["eth1"]?.append(
      OVXLinux.InterfaceAddress(try #require(IPAddress("192.0.2.1")), prefixLength: 24))
    try add(world)
    #expect(try #require(world.fault("eth1")).contains("192.0.2.1/24"))
    #expect(world.kernel.addresses["eth1"]?.count == 2)
  }
}
