import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import OVXHost
@testable import OVXLinux

/// In which order the host layer opens, applies and closes.
@Suite struct OrderTests {
  @Test func whatIsNewIsOpenedBeforeTheTopologyAndWhatIsOldClosedAfterIt() throws {
    let world = try World()
    world.prepare()
    world.kernel.add("veth2")
    world.kernel.route("192.0.2.3", over: "eth0")
    world.put(try World.everything())
    world.check()
    world.journal.clear()
    try world.change { configuration in
      for name in ["veth1", "tap1", "c1", "v1", "vx1"] { configuration.ports[name] = nil }
      try configuration.add("veth2", to: "br0", type: .system, tag: 100)
      try configuration.addTunnel(
        "vx2", to: "br0", key: 8, remotes: "192.0.2.3", tag: 100, port: "8472")
    }
    world.check()
    let journal = world.journal
    let applied = try #require(journal.index(of: "apply"), "one topology is enough")
    for opening in [
      "isolate veth2", "open socket on veth2", "attach veth2", "listen 8472", "open listener 8472",
    ] {
      #expect(try #require(journal.index(of: opening), "\(opening)") < applied)
    }
    for closing in [
      "detach veth1", "release veth1", "detach tap1", "delete tap1",
      "detach eth0 in /proc/self/ns/net", "detach \(World.hostEnd)", "delete \(World.hostEnd)",
      "close listener 4789",
    ] {
      #expect(try #require(journal.index(of: closing), "\(closing)") > applied)
    }
    let openings = journal.entries.indices.filter {
      journal.entries[$0] == "open socket to 192.0.2.3"
    }
    let closings = journal.entries.indices.filter {
      journal.entries[$0] == "close socket to 192.0.2.1"
    }
    #expect(openings.count == 16 && openings.allSatisfy { $0 < applied })
    #expect(closings.count == 16 && closings.allSatisfy { $0 > applied })
    #expect(world.kernel.made == ["br0"])
  }

  /// No frame of the port may reach the host's network stack, so it is kept off before there is a
  /// socket, and given the device back after there is none.
  @Test func theHostIsKeptOffADeviceForAsLongAsTheSwitchHasIt() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    world.change { $0.ports["veth1"] = nil }
    let entries = world.journal.entries.filter {
      ["isolate veth1", "open socket on veth1", "attach veth1", "detach veth1", "release veth1"]
        .contains($0)
    }
    #expect(
      entries == [
        "isolate veth1", "open socket on veth1", "attach veth1", "detach veth1", "release veth1",
      ])
  }

  /// A crash leaves nothing behind, or something that is recognised.
  @Test func aTAPIsPersistentOnlyOnceItHasItsMark() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    let mark = try #require(world.journal.index(of: "mark tap1"))
    #expect(try #require(world.journal.index(of: "keep tap1")) > mark)
  }

  @Test func whatIsAsItIsToBeIsLeftAlone() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    world.journal.clear()
    world.reconciler.reconcile(isRefreshing: true)
    world.put(world.reconciler.configuration)
    #expect(world.journal.entries == [])
  }

  /// A port without carrier stays in service, and what the kernel does not take for it is counted:
  /// a link that flaps costs the host's other ports nothing.
  @Test func aCarrierThatComesAndGoesMakesNoTopology() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    world.journal.clear()
    for isRunning in [false, true] {
      for name in ["veth1", "tap1"] {
        world.kernel.change(name) { link in
          if isRunning { link.flags.insert(.running) } else { link.flags.remove(.running) }
        }
      }
      world.reconciler.reconcile(["veth1", "tap1"])
      #expect(world.reconciler.linkOnHost(of: "veth1")?.isRunning == isRunning)
      #expect(world.journal.entries == [])
      #expect(world.isInService("veth1") && world.isInService("tap1"))
    }
  }

  @Test func aWayFromAnotherAddressIsOpenBeforeTheFormerOneIsClosed() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    let former = world.dataplane.sockets("socket to 192.0.2.1")
    world.journal.clear()
    world.kernel.route("192.0.2.1", over: "eth0", from: "192.0.2.101")
    #expect(world.reconciler.isUnderlayChanged())
    world.reconciler.reconcile(isRefreshing: true)
    world.check()
    let applied = try #require(world.journal.index(of: "apply"))
    let entries = world.journal.entries
    #expect(entries.lastIndex(of: "open socket to 192.0.2.1").map { $0 < applied } == true)
    #expect(entries.firstIndex(of: "close socket to 192.0.2.1").map { $0 > applied } == true)
    #expect(Set(former).isDisjoint(with: world.dataplane.sockets("socket to 192.0.2.1")))
    #expect(!world.reconciler.isUnderlayChanged())
  }

  @Test func injectorsAreOpenedAndClosedAsSocketsAre() throws {
    let world = try World()
    world.prepare()
    world.kernel.outlet = UnderlayRoute.Outlet(
      linkIndex: try #require(world.kernel.links["eth0"]?.index), device: "eth0",
      source: MACAddress(truncating: 1), nextHop: MACAddress(truncating: 2))
    var configuration = try World.everything()
    configuration.ports["vx1"]?.interface.options["superframes"] = "inject"
    #expect(configuration.ports["vx1"]?.interface.tunnel?.injectsSuperframes == true)
    world.put(configuration)
    world.check()
    let injector = try #require(world.dataplane.injector("injector"))
    world.reconciler.lose(injector, .ioError)
    #expect(world.dataplane.injector("injector") == nil)
    #expect(
      world.reconciler.describeSuperframes(
        to: try #require(world.reconciler.desired.tunnels["vx1"]?.remotes.first),
        of: try #require(world.reconciler.desired.tunnels["vx1"])
      ).hasPrefix("segmented: the injector fails"))
    world.reconciler.reconcile(isRefreshing: true)
    world.check()
    #expect(world.isInService("vx1"), "superframes are cut")
    world.change { $0.ports["vx1"]?.interface.options["superframes"] = nil }
    world.put(configuration)
    world.check()
    #expect(world.dataplane.injector("injector") != nil, "to be asked for anew is to be tried anew")
    world.journal.clear()
    world.change { $0.ports["vx1"]?.interface.options["superframes"] = nil }
    world.check()
    let applied = try #require(world.journal.index(of: "apply"))
    #expect(try #require(world.journal.index(of: "close injector")) > applied)
  }

  // MARK: Numbers

  /// What was learned under the number of a port that has gone must not be believed of another one.
  @Test func aNumberIsGivenAgainOnlyAfterATopologyWithoutIt() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    let old = [world.reconciler.port("tap1"), world.reconciler.port("vx1")].compactMap { $0 }
    let oldListener = try #require(world.dataplane.listener("listener 4789"))
    let oldRemotes = try ["192.0.2.1", "192.0.2.2"].map { try world.remoteVTEP($0, of: "vx1") }
    let oldSockets = world.dataplane.sockets("socket to 192.0.2.1")
    world.kernel.route("192.0.2.3", over: "eth0")
    try world.change { configuration in
      configuration.ports["tap1"] = nil
      configuration.ports["vx1"] = nil
      try configuration.add("tap2", to: "br0", type: .tap, tag: 100)
      try configuration.addTunnel(
        "vx2", to: "br0", key: 8, remotes: "192.0.2.3", tag: 100, port: "8472")
    }
    #expect(!old.contains(try #require(world.reconciler.port("tap2"))))
    #expect(try #require(world.dataplane.listener("listener 8472")) != oldListener)
    let remote = try world.remoteVTEP("192.0.2.3", of: "vx2")
    #expect(!oldRemotes.contains(remote))
    #expect(Set(oldSockets).isDisjoint(with: world.dataplane.sockets("socket to 192.0.2.3")))
    try world.change { try $0.add("tap3", to: "br0", type: .tap, tag: 100) }
    #expect(world.reconciler.port("tap3") == old.min(), "the lowest number that is free")
    world.check()
  }

  /// Nor of the same port, where what was learned is another network's.
  @Test func aPortOfAnotherVNIOrBridgeIsAnotherPort() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    let tunnel = world.reconciler.port("vx1")
    let tap = world.reconciler.port("tap1")
    world.change { $0.ports["vx1"]?.interface.options["key"] = "9" }
    #expect(world.reconciler.port("vx1") != tunnel)
    world.check()
    try world.change { configuration in
      configuration.bridges["br1"] = try Configuration.make("add-br br1").bridges["br1"]
      configuration.ports["br1"] = try Configuration.make("add-br br1").ports["br1"]
      configuration.ports["tap1"]?.bridge = "br1"
    }
    #expect(world.reconciler.port("tap1") != tap)
    world.check()
    #expect(world.isInService("tap1"))
  }

  // MARK: The end

  @Test func devicesStayWhenTheDaemonEndsAndAreFoundAgain() throws {
    let world = try World()
    world.prepare()
    world.put(try World.everything())
    let made = world.kernel.made
    #expect(made == ["br0", World.hostEnd, "tap1", "eth0 in /proc/self/ns/net"])
    world.reconciler.closeDevices()
    #expect(world.kernel.made == made)
    #expect(world.kernel.filters.count == 2, "the host's stack is kept off meanwhile")
  }

  @Test func whatACrashHasLeftIsRemovedAndNobodyElsesIs() throws {
    let world = try World()
    world.prepare()
    world.kernel.add("old", kind: "tun") { $0.alias = world.ownership.mark }
    world.kernel.add("others", kind: "tun") { $0.alias = "ovx:/elsewhere/conf.db" }
    world.kernel.add("mine", kind: "tun")
    world.put(try World.everything())
    #expect(world.reconciler.orphans == ["old"])
    world.reconciler.removeOrphans()
    #expect(world.kernel.links["old"] == nil)
    #expect(world.kernel.links["others"] != nil && world.kernel.links["mine"] != nil)
    world.check()
  }
}
