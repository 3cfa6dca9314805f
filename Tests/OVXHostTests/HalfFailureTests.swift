import OVXControl
import OVXDatapath
import SystemPackage
import Testing

@testable import OVXHost
@testable import OVXLinux

/// What becomes of a command of which the kernel or the data plane refuses one step, whichever that
/// is.
@Suite struct HalfFailureTests {
  /// The steps that can be refused.
  private func steps(_ run: (World) throws -> Void) throws -> [Journal.Step] {
    let world = try World()
    world.prepare()
    world.journal.clear()
    try run(world)
    return world.journal.steps
  }

  /// A command that is refused leaves nothing of itself.
  @Test func whatWasBegunIsUndone() throws {
    let steps = try steps { $0.put(try World.everything()) }
    #expect(steps.count > 50, "there is much that can go wrong")
    for step in steps {
      let world = try World()
      world.prepare()
      world.journal.failing = step
      world.put(try World.everything())
      world.journal.failing = nil
      let refused = step.entry
      #expect(world.journal.entries.contains("refused: \(refused)"))
      #expect(!world.reconciler.faults.isEmpty || refused.hasPrefix("fit "), "\(refused)")
      world.check("\(refused)")
      world.put(Configuration())
      world.checkEmpty("\(refused), and all of it is taken back")
      #expect(world.kernel.links["veth1"]?.mtu == 1500, "\(refused)")
    }
  }

  /// What waits because of it goes into service when it is tried again.
  @Test func whatWaitsGoesIntoServiceLater() throws {
    let steps = try steps { $0.put(try World.everything()) }
    for step in steps {
      let world = try World()
      world.prepare()
      world.journal.failing = step
      world.put(try World.everything())
      world.journal.failing = nil
      let refused = step.entry
      #expect(world.journal.entries.contains("refused: \(refused)"))
      world.reconciler.reconcile(isRefreshing: true)
      #expect(world.reconciler.faults.isEmpty, "\(refused)")
      world.check("\(refused), and it is tried again")
      for name in world.reconciler.configuration.ports.keys {
        #expect(world.isInService(name), "\(refused)")
      }
    }
  }

  /// Ports that a change does not concern stay in service whatever becomes of it.
  @Test func othersStayInService() throws {
    let change = { (world: World) throws in
      try world.change { configuration in
        configuration.ports["tap1"] = nil
        configuration.ports["vx1"]?.interface.options["remote_ip"] = "192.0.2.2"
        try configuration.add("tap2", to: "br0", type: .tap, tag: 100) { $0.mtuRequest = 1300 }
      }
    }
    let steps = try steps {
      $0.put(try World.everything())
      $0.journal.clear()
      try change($0)
    }
    #expect(steps.count > 5)
    for step in steps {
      let world = try World()
      world.prepare()
      world.put(try World.everything())
      let former = world.reconciler.configuration
      world.journal.clear()
      world.journal.failing = step
      try change(world)
      world.journal.failing = nil
      let refused = step.entry
      #expect(world.journal.entries.contains("refused: \(refused)"))
      world.check("\(refused)")
      for (name, device) in [
        ("br0", "br0"), ("veth1", "veth1"), ("c1", "eth0"), ("vx1", "192.0.2"),
      ] where !refused.contains(device) {
        #expect(world.isInService(name), "\(refused)")
      }
      world.put(former)
      #expect(world.reconciler.faults.isEmpty, "\(refused), and the former one is put in force")
      world.check("\(refused), and the former one is put in force")
      #expect(
        world.kernel.made == ["br0", World.hostEnd, "tap1", "eth0 in /proc/self/ns/net"],
        "\(refused)")
    }
  }

  /// A device of a former daemon that cannot be used is ours all the same, and goes with its port.
  @Test func whatAFormerDaemonHasMadeGoesWithAPortThatWaits() throws {
    let world = try World()
    world.prepare()
    world.kernel.add("tap1", kind: "tun") { $0.alias = world.ownership.mark }
    world.journal.refusals["attach tap1"] = .noMemory
    world.put(try World.everything())
    #expect(world.fault("tap1") != nil)
    #expect(world.kernel.made.contains("tap1"), "it stays while the port waits")
    world.put(Configuration())
    world.checkEmpty()
  }

  /// Of sixteen sockets towards a VTEP the last one is refused: none stays.
  @Test func aSetOfSocketsIsOpenAsAWholeOrNotAtAll() throws {
    let world = try World()
    world.prepare()
    world.journal.refusals["connect to 192.0.2.2"] = .tooManyOpenFiles
    world.put(try World.everything())
    #expect(world.dataplane.sockets("socket to 192.0.2.2") == [])
    #expect(world.dataplane.sockets("socket to 192.0.2.1").count == 16)
    #expect(world.isInService("vx1"), "the other VTEP is sent to")
    #expect(world.reconciler.fault(of: "vx1") != nil, "and it is said that this one is not")
    world.journal.refusals = [:]
    world.reconciler.reconcile(isRefreshing: true)
    #expect(world.dataplane.sockets("socket to 192.0.2.2").count == 16)
    world.check()
  }

  /// A source port that another program has is passed over.
  @Test func takenSourcePortsArePassedOver() throws {
    let world = try World()
    world.prepare()
    world.journal.refusals["connect to 192.0.2.2"] = .addressInUse
    world.put(try World.everything())
    #expect(world.journal.entries.count { $0 == "refused: connect to 192.0.2.2" } == 64)
    #expect(world.dataplane.sockets("socket to 192.0.2.2") == [])
    #expect(world.reconciler.fault(of: "vx1") != nil)
    world.check()
  }
}
