import Foundation
import Testing

extension SystemTests {
  /// What is lost, and what stays, while BGP speakers die, hosts die, and reflectors are out of
  /// reach.
  @Suite struct EVPNHoldingTests {
    /// Between the containers of hosts 1 and 2 both ways, to addresses that are known and to all.
    private static func flows(_ fabric: EVPNFabric, seconds: Double) throws -> [NumberedFlow] {
      let (first, second) = (fabric.hosts[0], fabric.hosts[1])
      let third = fabric.hosts.dropFirst(2).map(\.container)
      func flow(
        _ sender: EVPNFabric.Host, _ receivers: [Namespace], _ address: String, _ port: Int,
        _ rate: Int
      ) throws -> NumberedFlow {
        try NumberedFlow(
          from: sender.container, to: receivers, at: address, port: port, rate: rate,
          seconds: seconds)
      }
      return [
        try flow(first, [second.container], second.inside, 7001, 1000),
        try flow(second, [first.container], first.inside, 7002, 1000),
        try flow(first, [second.container] + third, "10.1.0.255", 7003, 100),
        try flow(second, [first.container] + third, "10.1.0.255", 7004, 100),
      ]
    }

    /// Both ways: the host whose gobgpd dies is the local one for one flow, and the far one for the
    /// other.
    @Test func noFrameIsLostWhileAGobgpdIsKilledAndComesBack() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        let flows = try Self.flows(fabric, seconds: 45)
        sleep(2)
        try second.killSpeaker()
        try eventually("host 1 holds what host 2 has told") {
          try first.shown().contains("routes of \(second.address)")
        }
        sleep(3)
        #expect(try first.knows(second))
        try second.startSpeaker()
        try eventually("host 2 tells its routes again", within: 60) {
          try !first.shown().contains("Holding") && !second.shown().contains("Holding")
        }
        for flow in flows { try flow.expectNoneLost() }
        #expect(try first.knows(second) && second.knows(first))
      }
    }

    /// A flow in one direction only: nothing but its answers to echo requests comes from the host
    /// whose gobgpd dies.
    @Test func noFrameIsLostToAHostThatSendsNone() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        let flow = try NumberedFlow(
          from: first.container, to: [second.container], at: second.inside, port: 7001, rate: 1000,
          seconds: 25)
        sleep(2)
        try second.killSpeaker()
        sleep(4)
        try second.startSpeaker()
        try flow.expectNoneLost()
      }
    }

    @Test func aHostThatDiesIsGoneWithinTheHoldTime() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab)
        let (first, second, third) = (fabric.hosts[0], fabric.hosts[1], fabric.hosts[2])
        try first.container.expectPing(second.inside)
        // One as it is, and one that is held already, as its gobgpd has died before.
        try third.killSpeaker()
        try eventually("host 1 holds what host 3 has told") {
          try first.shown().contains("routes of \(third.address)")
        }
        let began = ContinuousClock.now
        try fabric.cut(2)
        try fabric.cut(3)
        try eventually("host 3 is gone", within: 6) { try !first.knows(third) }
        try eventually("host 2 is gone", within: 20) { try !first.knows(second) }
        let seconds = (ContinuousClock.now - began) / .seconds(1)
        #expect(seconds <= Double(EVPNFabric.bgpHold) + 1, "after \(seconds) s")
      }
    }

    /// One host has no way to the reflectors for a while: it holds what it knows of others, and
    /// they what they know of it.
    @Test func noFrameIsLostWhileAHostIsCutFromTheReflectors() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        let flows = try Self.flows(fabric, seconds: 60)
        try first.cutFromReflectors()
        try eventually("host 2 holds what host 1 has told", within: 20) {
          try second.shown().contains("routes of \(first.address)")
        }
        try eventually("host 1 holds what it knows", within: 20) {
          try first.shown().contains("Holding what others have told")
        }
        // A container comes meanwhile, and is told when there is a way again.
        let late = try lab.namespace("late")
        try first.place.ctl("attach red \(late.name) eth0 ip=10.1.0.99/24")
        sleep(5)
        #expect(try first.knows(second) && second.knows(first))
        try first.cutFromReflectors(false)
        try fabric.awaitRest()
        for flow in flows { try flow.expectNoneLost() }
        try second.container.expectPing("10.1.0.99")
        try Self.expectQuiet(fabric)
      }
    }

    /// Both reflectors are away, and then one host: what has changed meanwhile is put right, and
    /// nothing stale stays.
    @Test func aPartitionHeals() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab)
        let (first, second, third) = (fabric.hosts[0], fabric.hosts[1], fabric.hosts[2])
        let mac = try second.container.mac()
        for reflector in [4, 5] { try fabric.cut(reflector) }
        for host in fabric.hosts {
          try eventually("host \(host.number) holds what it knows", within: 20) {
            try host.shown().contains("Holding what others have told")
          }
        }
        try first.container.expectPing(second.inside)
        // A container goes, and another one comes.
        try second.place.ctl("detach \(second.container.name) eth0")
        let late = try lab.namespace("late")
        try third.place.ctl("attach red \(late.name) eth0 ip=10.1.0.99/24")
        for reflector in [4, 5] { try fabric.cut(reflector, false) }
        for host in fabric.hosts {
          try eventually("host \(host.number) has been told again", within: 60) {
            try !host.shown().contains("Holding")
          }
        }
        for host in [first, third] {
          try eventually("host \(host.number) has nothing of what is gone") {
            try !host.place.ctl("fdb show br0").contains(mac)
          }
        }
        try first.container.expectPing("10.1.0.99")
        try second.place.ctl("attach red \(second.container.name) eth0 ip=\(second.inside)/24")
        try first.container.expectPing(second.inside)
        // A host is away, with frames and all.
        try fabric.cut(1)
        for host in [second, third] {
          try eventually("host \(host.number) has lost host 1", within: 20) {
            try !host.knows(first)
          }
        }
        #expect(try first.knows(second))
        try fabric.cut(1, false)
        try fabric.awaitRest()
        for host in [second, third] { try host.container.expectPing(first.inside) }
        try Self.expectQuiet(fabric)
      }
    }

    /// Host 3 is sent no frame while the containers of hosts 1 and 2 look for each other, and find
    /// each other.
    private static func expectQuiet(_ fabric: EVPNFabric) throws {
      func received() throws -> String {
        try fabric.hosts[2].container.must("cat /sys/class/net/eth0/statistics/rx_packets")
      }
      // Kernels have something to say now and then, to whomever it may concern.
      try eventually("host 3 hears nothing of the others", within: 60) {
        try fabric.hosts[0].container.must("ip neigh flush dev eth0")
        let before = try received()
        try fabric.hosts[0].container.expectPing(fabric.hosts[1].inside)
        return try received() == before
      }
    }
  }
}
