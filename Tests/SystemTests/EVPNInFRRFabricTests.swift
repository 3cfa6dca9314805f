import Foundation
import Testing

extension SystemTests {
  /// FRR's bgpd dies and comes back, as a reflector and as a host of the kernel's bridge, and so
  /// does an ovx host beside it.
  @Suite struct EVPNInFRRFabricTests {
    @Test func noFrameIsLostWhileAllReflectorsDieAndComeBack() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        let flows = try [(first, second, 7001), (second, first, 7002)].map { from, to, port in
          try NumberedFlow(
            from: from.container, to: [to.container], at: to.inside, port: port, rate: 1000,
            seconds: 40)
        }
        fabric.killReflectors()
        for host in fabric.hosts {
          try eventually("host \(host.number) holds what it knows") {
            try host.shown().contains("Holding what others have told")
          }
        }
        try fabric.startReflectors()
        try fabric.awaitRest()
        for flow in flows { try flow.expectNoneLost() }
        #expect(try first.knows(second) && second.knows(first))
      }
    }

    /// A reflector withdraws at once what a host has told whose bgpd dies: ovx holds it.
    ///
    /// FRR 8.4 keeps no EVPN routes by graceful restart, neither as helper nor as the one that
    /// restarts. So on the way back all is lost until bgpd is there again, as zebra takes out of
    /// the kernel what bgpd had told it; that is not ovx's.
    @Test func nothingIsLostOnTheWayToAHostOfFRRWhoseBgpdDies() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2, others: 1)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        let kernel = try KernelHost(fabric)
        try Self.awaitEachOther(first, kernel)
        for host in [first, second] { try Self.keepNeighbor(kernel, of: host) }
        let flows = try [(first, 7001), (second, 7002)].map { host, port in
          try NumberedFlow(
            from: host.container, to: [kernel.container], at: kernel.inside, port: port, rate: 500,
            seconds: 30)
        }
        kernel.killSpeaker()
        try eventually("host 1 holds what FRR's host has told") {
          try first.shown().contains("routes of \(kernel.address)")
        }
        try kernel.startSpeaker()
        try eventually("it is told again", within: 60) {
          try fabric.hosts.allSatisfy { try !$0.shown().contains("Holding") }
        }
        for flow in flows { try flow.expectNoneLost() }
        try Self.awaitEachOther(first, kernel)
      }
    }

    /// The other way around: gobgpd of the ovx host dies.
    ///
    /// It holds what it knows of the host of the kernel's bridge, and sends there; that host
    /// forgets it, and reaches it again when its routes are told again.
    @Test func anOVXHostLosesNothingToAHostOfFRRWhileItsGobgpdIsAway() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2, others: 1)
        let first = fabric.hosts[0]
        let kernel = try KernelHost(fabric)
        try Self.awaitEachOther(first, kernel)
        try Self.keepNeighbor(kernel, of: first)
        let flow = try NumberedFlow(
          from: first.container, to: [kernel.container], at: kernel.inside, port: 7001, rate: 1000,
          seconds: 30)
        try first.killSpeaker()
        try eventually("host 1 holds what it knows") {
          try first.shown().contains("Holding what others have told")
        }
        try first.startSpeaker()
        try fabric.awaitRest()
        try flow.expectNoneLost()
        try Self.awaitEachOther(first, kernel)
      }
    }

    /// Has a container not ask for its neighbor meanwhile, whose answers are among what is lost on
    /// the way back.
    private static func keepNeighbor(_ kernel: KernelHost, of host: EVPNFabric.Host) throws {
      try host.container.must(
        "ip neigh replace \(kernel.inside) lladdr \(kernel.container.mac()) dev eth0 nud permanent")
    }

    private static func awaitEachOther(_ host: EVPNFabric.Host, _ kernel: KernelHost) throws {
      try eventually("the hosts reach each other", within: 60) {
        try host.container.run("ping -c 1 -W 1 \(kernel.inside)").succeeded
          && kernel.container.run("ping -c 1 -W 1 \(host.inside)").succeeded
      }
    }
  }
}
