import Foundation
import Testing

extension SystemTests {
  /// What is lost, and what stays, while BGP speakers die, hosts die, and reflectors are out of reach.
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

    /// Both ways: the host whose gobgpd dies is the local one for one flow, and the far one for the other.
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

    /// A flow in one direction only: nothing but its answers to echo requests comes from the host whose gobgpd dies.
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
  }
}
