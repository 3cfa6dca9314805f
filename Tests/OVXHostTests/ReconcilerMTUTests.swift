import OVXControl
@testable import OVXDatapath
import SystemPackage
import Testing

@testable import OVXHost
@testable import OVXLinux

/// Which MTU devices get, and what is said where packets cannot fit.
@Suite struct ReconcilerMTUTests {
  private func world(underlay mtu: Int = 1500) throws -> World {
    let world = try World()
    world.prepare()
    world.kernel.change("eth0") { $0.mtu = mtu }
    return world
  }

  @Test(arguments: [(1500, 1450), (1400, 1350), (9000, 8950), (65_536, 9000)])
  func aNewDeviceFitsTheTunnelOfItsSegment(_ underlay: Int, _ expected: Int) throws {
    let world = try world(underlay: underlay)
    world.kernel.change("veth1") { $0.mtu = 65_535 }
    world.put(try World.everything())
    #expect(world.kernel.links["tap1"]?.mtu == expected)
    #expect(world.kernel.given["eth0 in /proc/self/ns/net"]?.mtu == expected)
    #expect(world.fault("tap1") == nil)
  }

  @Test func anIPv6UnderlayTakesTwentyBytesMore() throws {
    let world = try world()
    world.kernel.route("2001:db8::1", over: "eth0", from: "2001:db8::100")
    var configuration = try World.everything()
    try configuration.addTunnel("vx1", to: "br0", key: 7, remotes: "2001:db8::1", tag: 100)
    world.put(configuration)
    #expect(world.kernel.links["tap1"]?.mtu == 1430)
  }

  @Test func withoutATunnelNothingIsSmaller() throws {
    let world = try world()
    var configuration = try World.everything()
    configuration.ports["vx1"] = nil
    world.put(configuration)
    #expect(world.kernel.links["tap1"]?.mtu == 1500)
    #expect(world.kernel.links["veth1"]?.mtu == 1500)
  }

  @Test func anotherSegmentOfTheBridgeDoesNotCount() throws {
    let world = try world()
    var configuration = try World.everything()
    try configuration.add("tap2", to: "br0", type: .tap, tag: 200)
    world.put(configuration)
    #expect(world.kernel.links["tap1"]?.mtu == 1450)
    #expect(world.kernel.links["tap2"]?.mtu == 1500)
  }

  @Test func aWayThatNarrowsNarrowsItsSegmentAndOneThatWidensWidensIt() throws {
    let world = try world()
    world.put(try World.everything())
    world.kernel.route("192.0.2.2", over: "eth0", mtu: 1400)
    world.reconciler.reconcile(isRefreshing: true)
    #expect(world.kernel.links["tap1"]?.mtu == 1350)
    #expect(world.kernel.links["veth1"]?.mtu == 1350)
    #expect(world.reconciler.hasNarrowWays)
    guard
      case .tunnel(let tunnel)? = world.dataplane.topology.ports.first(where: {
        $0.id == world.reconciler.port("vx1")
      })?.attachment
    else {
      Issue.record("the tunnel is in service")
      return
    }
    #expect(Set(tunnel.peers.map(\.mtu)) == [1450, 1350], "by VTEP")
    world.kernel.route("192.0.2.2", over: "eth0")
    world.reconciler.reconcile(isRefreshing: true)
    #expect(world.kernel.links["tap1"]?.mtu == 1450)
    #expect(!world.reconciler.hasNarrowWays)
    world.check()
  }

  @Test func aWayTooNarrowForATunnelIsNone() throws {
    let world = try world()
    world.kernel.route("192.0.2.2", over: "eth0", mtu: 100)
    world.put(try World.everything())
    #expect(
      world.fault("vx1")
        == "the way to 192.0.2.2 takes packets of 100 bytes, too small for a tunnel")
    #expect(world.isInService("vx1"), "by the other VTEP")
    #expect(world.reconciler.fault(of: "vx1")?.isTransient == true)
    world.check()
  }

  @Test func aVethGetsWhatFitsAndHasItsOwnBackLater() throws {
    let world = try world()
    world.put(try World.everything())
    #expect(world.kernel.links["veth1"]?.mtu == 1450)
    #expect(
      world.reconciler.takeNotes() == [
        "port veth1: both ends of the veth have an MTU of 1450 now instead of 1500, as tunnel vx1 to 192.0.2.1 "
          + "takes packets of up to 1450 bytes"
      ])
    world.change { $0.ports["vx1"] = nil }
    #expect(world.kernel.links["veth1"]?.mtu == 1500)
    world.put(try World.everything())
    world.change { $0.ports["veth1"] = nil }
    #expect(world.kernel.links["veth1"]?.mtu == 1500, "given back with the device")
  }

  /// Whatever a daemon was doing to a veth when it died, the next one does the rest, and gives both
  /// ends back what they had.
  @Test func aCrashAtAnyStepLosesNoMTU() throws {
    /// What a crash leaves.
    struct Wreck: Hashable {
      var own: Int?
      var peer: Int
      var notes: String
    }
    func make(_ wreck: Wreck) throws -> World {
      let world = try World(adoptedVeths: wreck.notes)
      world.prepare()
      world.kernel.change("veth1") { $0.mtu = wreck.own ?? 0 }
      world.kernel.peerMTUs["veth1"] = wreck.peer
      return world
    }
    func mtus(_ world: World) -> [Int?] {
      [world.kernel.links["veth1"]?.mtu, world.kernel.peerMTU(of: "veth1")]
    }
    let untouched = Wreck(own: 1500, peer: 1480, notes: "")
    let world = try make(untouched)
    var wrecks: Set<Wreck> = []
    func crash() {
      wrecks.insert(
        Wreck(
          own: world.kernel.links["veth1"]?.mtu, peer: world.kernel.peerMTU(of: "veth1"),
          notes: world.adoptedVeths))
    }
    world.journal.beforeStep = crash
    world.put(try World.everything())
    crash()
    for mtu in [1400, 1450, nil] {
      world.kernel.route("192.0.2.2", over: "eth0", mtu: mtu)
      world.reconciler.reconcile(isRefreshing: true)
      crash()
    }
    world.change { $0.ports["vx1"] = nil }
    #expect(mtus(world) == [1500, 1480])
    world.put(try World.everything())
    world.change { $0.ports["veth1"] = nil }
    #expect(mtus(world) == [1500, 1480])
    world.journal.beforeStep = {}
    #expect(wrecks.count > 12, "before, between and after the two ends, and each time it changed")

    for wreck in wrecks {
      let next = try make(wreck)
      next.put(try World.everything(), isCommanded: false)
      #expect(mtus(next) == [1450, 1450], "\(wreck)")
      next.change { $0.ports["veth1"] = nil }
      #expect(mtus(next) == [1500, 1480], "\(wreck)")
      #expect(next.adoptedVeths == "")

      let empty = try make(wreck)
      empty.put(Configuration(), isCommanded: false)
      empty.reconciler.removeOrphans()
      #expect(mtus(empty) == [1500, 1480], "\(wreck)")
      #expect(empty.adoptedVeths == "")
    }
  }

  /// Who has given an end another MTU meanwhile wants it as it is.
  @Test func whatSomebodyElseHasSetIsNotGivenBack() throws {
    let world = try world()
    world.put(try World.everything())
    world.kernel.peerMTUs["veth1"] = 1400
    world.change { $0.ports["veth1"] = nil }
    #expect(world.kernel.links["veth1"]?.mtu == 1500)
    #expect(world.kernel.peerMTU(of: "veth1") == 1400)
    world.put(try World.everything())
    world.kernel.change("veth1") { $0.mtu = 1430 }
    world.change { $0.ports["veth1"] = nil }
    #expect(world.kernel.links["veth1"]?.mtu == 1430)
  }

  /// The other end may be on its way into a container at the moment when the port is opened.
  @Test func aVethIsTriedAgainWhenItChanges() throws {
    let world = try world()
    world.journal.refusals = ["fit veth1": .operationNotSupportedByDevice]
    world.put(try World.everything())
    #expect(world.kernel.links["veth1"]?.mtu == 1500)
    #expect(world.reconciler.takeNotes().count == 1)
    world.journal.clear()
    world.reconciler.reconcile(["veth1"])
    #expect(world.journal.steps.isEmpty, "nothing has changed")
    world.journal.refusals = [:]
    world.kernel.change("veth1") { $0.peerNamespace = 3 }
    world.reconciler.reconcile(["veth1"])
    #expect(world.kernel.links["veth1"]?.mtu == 1450)
    #expect(world.reconciler.takeNotes().first?.contains("have an MTU of 1450 now") == true)
    world.change { $0.ports["vx1"] = nil }
    #expect(world.kernel.links["veth1"]?.mtu == 1500)
  }

  /// A container that sets its end up and down must not make the daemon look through all namespaces
  /// each time.
  @Test func aVethThatCannotBeAdoptedIsTriedAFewTimesAndToldOfOnce() throws {
    let world = try world()
    world.journal.refusals = ["fit veth1": .operationNotSupportedByDevice]
    world.put(try World.everything())
    for round in 0..<100 {
      world.kernel.change("veth1") { $0.peerNamespace = Int32(round) }
      world.reconciler.reconcile(["veth1"])
    }
    #expect(world.journal.entries.count { $0 == "refused: fit veth1" } == 9)
    #expect(world.reconciler.takeNotes().count == 1)
  }

  /// Less than IPv6 needs would take its addresses away for good.
  @Test func whatIPv6NeedsIsKept() throws {
    let world = try world(underlay: 1300)
    world.kernel.withoutIPv6 = ["tap1"]
    var configuration = try World.everything()
    try configuration.add("tap2", to: "br0", type: .tap, tag: 100)
    world.put(configuration)
    #expect(world.kernel.links["tap1"]?.mtu == 1250)
    #expect(world.kernel.links["tap2"]?.mtu == 1280)
    #expect(world.fault("tap2")?.contains("its MTU stays at 1280, which IPv6 needs") == true)
    #expect(world.reconciler.fault(of: "tap2")?.isOutage == false)
    #expect(world.isInService("tap2"))
  }

  @Test func anMTUThatIsAskedForIsGivenAndToldOf() throws {
    let world = try world()
    var configuration = try World.everything()
    configuration.ports["tap1"]?.interface.mtuRequest = 1480
    world.put(configuration)
    #expect(world.kernel.links["tap1"]?.mtu == 1480)
    #expect(world.fault("tap1")?.contains("1480 is what mtu_request asks for") == true)
    #expect(world.reconciler.fault(of: "tap1")?.isOutage == false)
    world.change { $0.ports["tap1"]?.interface.mtuRequest = 1450 }
    #expect(world.fault("tap1") == nil)
  }

  /// A command that asks for it is refused before anything is done.
  @Test func aCommandForAnMTUThatTheTunnelDoesNotCarryIsRefused() throws {
    let world = try world()
    world.put(try World.everything())
    world.journal.clear()
    var configuration = world.reconciler.configuration
    configuration.ports["tap1"]?.interface.mtuRequest = 1451
    let refusal = #expect(throws: ControlError.self) {
      try HostCheck(
        configuration, configuration.changes(since: world.reconciler.configuration),
        after: world.reconciler, ownership: world.ownership
      ).check()
    }
    #expect(refusal?.message.contains("take 1450 or less") == true)
    #expect(world.journal.entries == [])
    configuration.ports["tap1"]?.interface.mtuRequest = 1450
    #expect(throws: Never.self) {
      try HostCheck(
        configuration, configuration.changes(since: world.reconciler.configuration),
        after: world.reconciler, ownership: world.ownership
      ).check()
    }
  }

  // MARK: Packets that are lost for their size

  @Test func lostPacketsAreToldOfForAsLongAsTheyAreLost() throws {
    let world = try world()
    world.put(try World.everything())
    let remote = try world.remoteVTEP("192.0.2.2", of: "vx1")
    world.dataplane.oversizeReports = [
      OversizeReport(
        port: try #require(world.reconciler.port("vx1")), peer: remote, mtu: 1450, largest: 1500)
    ]
    world.reconciler.noteOversize(now: 1000)
    #expect(
      world.fault("vx1")?.hasPrefix(
        "packets of 1500 bytes come for it, and the path to 192.0.2.2 takes 1450") == true)
    #expect(world.reconciler.fault(of: "vx1")?.isOutage == false)
    #expect(world.isInService("vx1"))
    #expect(world.reconciler.nextOversizeEnd == 1000 + OversizeFaults.quietTime)
    #expect(!world.reconciler.expireOversize(now: 1000 + OversizeFaults.quietTime - 1))
    #expect(world.reconciler.expireOversize(now: 1000 + OversizeFaults.quietTime))
    #expect(world.fault("vx1") == nil && world.reconciler.nextOversizeEnd == nil)
  }
}
