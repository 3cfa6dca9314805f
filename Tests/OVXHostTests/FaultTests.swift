import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import OVXHost
@testable import OVXLinux

/// Why ports wait: each reason is told in a sentence, and is over when the reason is.
@Suite struct FaultTests {
  private func world(_ prepare: (World) -> Void = { _ in }) throws -> World {
    let world = try World()
    world.prepare()
    prepare(world)
    world.put(try World.everything())
    world.check()
    return world
  }

  // MARK: Existing devices

  @Test func aMissingDeviceIsWaitedFor() throws {
    let world = try world { $0.kernel.remove("veth1") }
    #expect(world.fault("veth1")?.contains("has no network device of that name") == true)
    #expect(world.reconciler.fault(of: "veth1")?.isTransient == true)
    world.kernel.add("veth1")
    world.reconciler.reconcile(world.reconciler.ports(ofDevices: ["veth1", "eth0"]))
    #expect(world.fault("veth1") == nil && world.isInService("veth1"))
    world.check()
  }

  @Test func aDeviceThatGoesIsWaitedForAgain() throws {
    let world = try world()
    world.kernel.remove("veth1")
    world.reconciler.reconcile(["veth1"])
    #expect(world.fault("veth1") != nil && !world.isInService("veth1"))
    world.check()
    world.kernel.add("veth1")
    world.reconciler.reconcile(["veth1"])
    #expect(world.isInService("veth1"))
    world.check()
  }

  @Test(arguments: ["loopback", "no Ethernet device", "part of bond0 already"])
  func aDeviceThatCannotBeAPortIsRefused(_ reason: String) throws {
    let world = try world { world in
      let bond = world.kernel.add("bond0", kind: "bond")
      world.kernel.change("veth1") { link in
        switch reason {
        case "loopback": link.flags.insert(.loopback)
        case "no Ethernet device": link.isEthernet = false
        default: link.master = bond
        }
      }
    }
    #expect(world.fault("veth1")?.contains(reason) == true)
    #expect(world.reconciler.fault(of: "veth1")?.isTransient == false, "a command is refused")
    #expect(world.kernel.foreignFilters == [])
  }

  @Test func aDeviceByWhichTheHostIsReachedIsRefused() throws {
    let address = OVXLinux.InterfaceAddress(
      try #require(IPAddress("198.51.100.1")), prefixLength: 24)
    let world = try world { $0.kernel.addresses["veth1"] = [address] }
    #expect(world.fault("veth1")?.contains("198.51.100.1/24") == true)
    #expect(world.kernel.foreignFilters == [], "and is left to the host")
  }

  /// An address that it is given later does not take it out of service.
  @Test func anAddressOfADeviceInServiceIsRemarkedOn() throws {
    let world = try world()
    world.kernel.addresses["veth1"] = [
      OVXLinux.InterfaceAddress(try #require(IPAddress("198.51.100.1")), prefixLength: 24)
    ]
    world.kernel.doubtful.insert(try #require(world.kernel.links["veth1"]?.index))
    world.reconciler.reconcile(["veth1"])
    #expect(world.fault("veth1")?.contains("does not work") == true)
    #expect(world.isInService("veth1"))
  }

  /// Nor does a bridge or bond that somebody makes it a part of, be it before another daemon
  /// starts.
  @Test func aMasterOfADeviceInServiceIsRemarkedOn() throws {
    let world = try world()
    let bridge = world.kernel.add("docker0", kind: "bridge")
    world.kernel.change("veth1") { $0.master = bridge }
    let link = try #require(world.kernel.links["veth1"])
    world.kernel.doubtful.insert(link.index)
    world.reconciler.reconcile(["veth1"])
    #expect(world.fault("veth1")?.contains("part of docker0, too") == true)
    #expect(world.isInService("veth1"))
    #expect(try world.kernel.deviceForPort("veth1", world.ownership) == link)
    world.kernel.change("veth1") { $0.master = nil }
    world.kernel.doubtful.insert(link.index)
    world.reconciler.reconcile(["veth1"])
    #expect(world.fault("veth1") == nil)
  }

  @Test func aFilterThatSomebodyRemovedIsPutBackAndToldOf() throws {
    let world = try world()
    let link = try #require(world.kernel.links["veth1"])
    world.kernel.release(link, from: world.ownership.filter)
    world.kernel.doubtful.insert(link.index)
    world.reconciler.reconcile(["veth1"])
    #expect(world.kernel.foreignFilters == [link.index])
    #expect(world.reconciler.takeRetaken() == ["veth1"])
    #expect(world.reconciler.takeRetaken() == [], "once")
    world.kernel.doubtful.insert(link.index)
    world.reconciler.reconcile(["veth1"])
    #expect(world.reconciler.takeRetaken() == [], "nobody has removed it again")
  }

  /// A device loses its filter on the way to another network namespace, and the kernel tells of
  /// that first.
  @Test func aDeviceThatHasBeenAwayIsNobodysDoing() throws {
    let world = try world()
    let link = try #require(world.kernel.links["veth1"])
    world.kernel.leavesAndReturns("veth1")
    world.kernel.doubtful.insert(link.index)
    world.reconciler.reconcile(["veth1"])
    #expect(world.kernel.foreignFilters == [link.index])
    world.reconciler.reconcile(["veth1"])
    #expect(world.isInService("veth1"))
    #expect(world.reconciler.takeRetaken() == [])
  }

  @Test func aDeviceThatIsDownIsWaitedFor() throws {
    let world = try world()
    world.kernel.change("veth1") { $0.flags.remove(.up) }
    world.reconciler.reconcile(["veth1"])
    #expect(world.fault("veth1")?.contains("ip link set veth1 up") == true)
    #expect(!world.isInService("veth1"))
    world.kernel.change("veth1") { $0.flags.insert(.up) }
    world.reconciler.reconcile(["veth1"])
    #expect(world.fault("veth1") == nil && world.isInService("veth1"))
  }

  @Test func anotherDeviceOfTheSameNameIsOpenedAnew() throws {
    let world = try world()
    world.kernel.remove("veth1")
    world.kernel.add("veth1")
    world.reconciler.reconcile(["veth1"])
    #expect(world.isInService("veth1"))
    #expect(world.journal.entries.count { $0 == "attach veth1" } == 2)
    world.check()
  }

  // MARK: Devices of ours

  @Test(arguments: [nil, "ovx:/elsewhere/conf.db"])
  func aDeviceOfSomebodyElseIsNotTaken(_ alias: String?) throws {
    let world = try world { $0.kernel.add("tap1", kind: "tun") { $0.alias = alias } }
    let sentence = try #require(world.fault("tap1"))
    #expect(sentence.contains(alias == nil ? "ovx has not made it" : "/elsewhere/conf.db"))
    #expect(world.reconciler.fault(of: "tap1")?.isTransient == false)
    world.change { $0.ports["tap1"] = nil }
    #expect(world.kernel.links["tap1"] != nil, "and is not removed")
  }

  @Test func aDeviceOfAFormerDaemonIsTakenUpAndKeepsItsAddress() throws {
    let world = try world { world in
      world.kernel.add("tap1", kind: "tun") {
        $0.alias = world.ownership.mark
        $0.address = MACAddress(truncating: 0x0200_0000_0001)
      }
    }
    #expect(world.isInService("tap1"))
    #expect(world.kernel.links["tap1"]?.address == MACAddress(truncating: 0x0200_0000_0001))
  }

  @Test func aNewDeviceHasAnAddressThatIsAlwaysTheSame() throws {
    let first = try world().kernel.links["tap1"]?.address
    let second = try world().kernel.links["tap1"]?.address
    #expect(first != nil && first == second)
  }

  @Test func aDeviceThatIsLostIsOpenedAgainButNotForEver() throws {
    let world = try world()
    let port = try #require(world.reconciler.port("tap1"))
    let lost = try #require(world.reconciler.lose(port, .ioError))
    #expect(lost.name == "tap1" && lost.isToReopen)
    world.reconciler.reconcile(isRefreshing: true)
    #expect(world.isInService("tap1"))
    let again = try #require(world.reconciler.lose(port, .ioError))
    #expect(!again.isToReopen)
    #expect(world.fault("tap1")?.hasPrefix("its device fails") == true)
    world.reconciler.reconcile(["tap1"])
    #expect(world.isInService("tap1") && world.fault("tap1") == nil)
    world.check()
  }

  @Test func aContainerThatIsNotThereIsWaitedFor() throws {
    let world = try World()
    world.prepare()
    world.journal.refusals["open TAP eth0 in"] = .nowInProgress
    world.put(try World.everything())
    let fault = try #require(world.reconciler.fault(of: "c1"))
    #expect(fault.isTransient && fault.isOpen, "nobody need be told before it is known")
    world.journal.refusals["open TAP eth0 in"] = .noSuchFileOrDirectory
    world.reconciler.reconcile(["c1"])
    #expect(world.fault("c1")?.contains("detach --stale") == true)
    #expect(!world.reconciler.isDeviceOpen("c1"))
    world.journal.refusals = [:]
    #expect(world.reconciler.checkContainers() == ["c1"])
    #expect(world.isInService("c1") && world.reconciler.hasDevicesInContainers)
    world.check()
  }

  // MARK: Tunnels

  @Test func aVTEPWithoutARouteIsWaitedFor() throws {
    let world = try world { $0.kernel.routes = [:] }
    #expect(world.fault("vx1") == "no route to 192.0.2.1 (and 1 more of its 2 remotes)")
    #expect(world.reconciler.isUnderlayChanged(), "it is looked for each time routes change")
    world.kernel.route("192.0.2.2", over: "eth0")
    world.reconciler.reconcile(isRefreshing: true)
    #expect(world.isInService("vx1"))
    #expect(world.fault("vx1") == "no route to 192.0.2.1")
    world.check()
  }

  @Test func aVTEPThatIsThisHostIsRefused() throws {
    let world = try world { $0.kernel.route("192.0.2.1", over: "eth0", from: "192.0.2.1") }
    #expect(world.fault("vx1")?.contains("is this host's own address") == true)
    #expect(world.reconciler.fault(of: "vx1")?.isTransient == false)
  }

  @Test func aVTEPThatIsABroadcastAddressIsRefused() throws {
    let world = try world { world in
      guard let remote = IPAddress("192.0.2.1") else { return }
      world.kernel.routes[remote]?.isBroadcast = true
    }
    #expect(world.fault("vx1")?.contains("192.0.2.1 is the broadcast address") == true)
    #expect(world.reconciler.fault(of: "vx1")?.isTransient == false)
  }

  @Test func aPortOfTheKernelsOwnTunnelIsNamed() throws {
    let world = try world { world in
      world.kernel.takenPorts = [4789]
      world.kernel.add("vxlan7", kind: "vxlan") { $0.vxlan = Link.VXLAN(vni: nil, port: 4789) }
    }
    #expect(world.fault("vx1")?.contains("ip link del vxlan7") == true)
    #expect(!world.isInService("vx1"))
    #expect(world.dataplane.listener("listener 4789") == nil)
    world.kernel.takenPorts = []
    world.reconciler.reconcile(isRefreshing: true)
    #expect(world.isInService("vx1") && world.fault("vx1") == nil)
    world.check()
  }

  @Test func anAddressThatTheHostDoesNotHaveIsWaitedFor() throws {
    let world = try World()
    world.prepare()
    world.journal.refusals["listen"] = .addressNotAvailable
    world.put(try World.everything())
    #expect(world.reconciler.fault(of: "vx1")?.isTransient == true)
    world.check()
  }

  @Test func moreTunnelsThanThereAreSocketsForAreToldOf() throws {
    let world = try World(descriptorLimit: 40)
    world.kernel.add("veth1")
    let addresses = (1...30).map { "192.0.2.\($0)" }
    for address in addresses { world.kernel.route(address, over: "eth0") }
    var configuration = try Configuration.make("add-br br0")
    try configuration.addTunnel(
      "vx1", to: "br0", key: 7, remotes: addresses.joined(separator: ","), tag: 100)
    world.put(configuration)
    #expect(world.fault("vx1")?.contains("more than 20 pairs") == true)
    #expect(world.isInService("vx1"), "for as many as there are")
    world.check()
    world.put(Configuration())
    world.checkEmpty()
  }
}
