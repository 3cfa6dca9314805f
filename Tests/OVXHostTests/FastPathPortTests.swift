import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import OVXHost
@testable import OVXLinux

/// Which ports and VTEPs are on the fast path, and what is said of the others.
@Suite struct FastPathPortTests {
  private static func world(refusing refusal: LinuxError? = nil) throws -> World {
    let world = try World()
    world.prepare()
    world.kernel.add("veth2") { $0.peerNamespace = 3 }
    world.kernel.outlet = UnderlayRoute.Outlet(
      linkIndex: try #require(world.kernel.links["eth0"]?.index), device: "eth0",
      source: MACAddress(truncating: 1), nextHop: MACAddress(truncating: 2))
    world.dataplane.fastPathRefusal = refusal
    var configuration = try World.everything()
    try configuration.add("veth2", to: "br0", type: .system, tag: 100)
    world.put(configuration)
    return world
  }

  /// The ports that have the fast path, and remotes to which it leads.
  private static func onFastPath(_ world: World) -> (ports: Set<PortID>, remotes: Set<IPAddress>) {
    var ports: Set<PortID> = []
    var remotes: Set<IPAddress> = []
    for port in world.dataplane.topology.ports {
      switch port.attachment {
      case .device(let device): if device.fastPathIndex != nil { ports.insert(port.id) }
      case .tunnel(let tunnel):
        remotes.formUnion(tunnel.peers.filter { $0.fastPath != nil }.map(\.remote))
      case .waiting: break
      }
    }
    return (ports, remotes)
  }

  private static func peer(of world: World) throws -> DesiredState.Peer {
    try #require(world.reconciler.desired.tunnels["vx1"]?.peers.first)
  }

  @Test func itIsForVethsOfOtherNamespacesAndWhereTunnelsGoWhole() throws {
    let world = try Self.world()
    #expect(Self.onFastPath(world).ports.isEmpty && Self.onFastPath(world).remotes.isEmpty)
    #expect(world.reconciler.describeFastPath(ofDevice: "veth2") == nil)
    world.change { $0.host.otherConfig["fast-path"] = "on" }
    world.check()
    let switchedOn = try #require(world.journal.index(of: "fast path true"))
    #expect(try #require(world.journal.entries.lastIndex(of: "apply")) > switchedOn)
    #expect(Self.onFastPath(world).ports == [try #require(world.reconciler.port("veth2"))])
    #expect(Self.onFastPath(world).remotes.count == 2)
    #expect(world.reconciler.describeFastPath(ofDevice: "veth2") == "ready")
    #expect(
      world.reconciler.describeFastPath(ofDevice: "veth1")
        == "off: the device is no veth whose other end is in another network namespace")
    #expect(try world.reconciler.describeFastPath(to: Self.peer(of: world)) == "in use")
    #expect(world.dataplane.injector("injector") == nil, "nobody has asked for one")

    world.change { $0.host.otherConfig["fast-path"] = nil }
    world.check()
    #expect(Self.onFastPath(world).ports.isEmpty && Self.onFastPath(world).remotes.isEmpty)
    #expect(world.journal.index(of: "fast path false") != nil)
  }

  @Test func whereTheKernelRefusesAllGoesOnWithout() throws {
    let world = try Self.world(
      refusing: LinuxError(action: "load", subject: "the fast path", errno: .notPermitted))
    world.change { $0.host.otherConfig["fast-path"] = "on" }
    world.check()
    #expect(Self.onFastPath(world).ports.isEmpty && Self.onFastPath(world).remotes.isEmpty)
    let sentence = try #require(world.reconciler.describeFastPath(ofDevice: "veth2"))
    #expect(sentence.hasPrefix("off: ") && sentence.contains("fast path"), "\(sentence)")
  }

  /// By itself it does not pass by what the host holds its packets against; that stops it only on
  /// the underlay.
  @Test func rulesOfTheHostAreNotPassedByUnasked() throws {
    let world = try Self.world()
    world.kernel.filter = "chain input of table inet filter"
    world.change { $0.host.otherConfig["fast-path"] = "auto" }
    world.check()
    #expect(Self.onFastPath(world).remotes.isEmpty && Self.onFastPath(world).ports.count == 1)
    let sentence = try world.reconciler.describeFastPath(to: Self.peer(of: world))
    #expect(sentence?.hasPrefix("off: ") == true)
    #expect(sentence?.contains("(chain input of table inet filter)") == true, "\(sentence ?? "")")
    #expect(world.reconciler.describeFastPath(ofDevice: "veth2") == "ready")

    // Rules come and go; they are looked at once in a second.
    #expect(!world.reconciler.examineFilters(now: 5000))
    world.kernel.filter = nil
    #expect(!world.reconciler.examineFilters(now: 5999))
    #expect(world.reconciler.examineFilters(now: 6000))
    world.reconciler.reconcile(isRefreshing: false)
    world.check()
    #expect(Self.onFastPath(world).remotes.count == 2)
    #expect(world.reconciler.nextFilterExamination == 7000)

    // Who asks for it in so many words gets it.
    world.kernel.filter = "policies of IPsec"
    world.change { $0.host.otherConfig["fast-path"] = "on" }
    world.check()
    #expect(Self.onFastPath(world).remotes.count == 2)
    #expect(world.reconciler.nextFilterExamination == nil)
  }

  @Test func aWayThatTakesNoTunnelsWholeIsSaid() throws {
    let world = try Self.world()
    world.kernel.outlet = nil
    world.change { $0.host.otherConfig["fast-path"] = "on" }
    world.check()
    #expect(Self.onFastPath(world).remotes.isEmpty && Self.onFastPath(world).ports.count == 1)
    let sentence = try world.reconciler.describeFastPath(to: Self.peer(of: world))
    #expect(sentence == "off: nobody asked", "as the fake kernel says")
  }
}
