import Foundation
import Testing

extension SystemTests {
  /// Tenants share the time of the hosts as well: whatever one does, the others' frames go on
  /// passing.
  ///
  /// The limits are far from what a victim has left on a quiet machine: they tell one that is
  /// slowed down from one that is cut off, with daemons that are not optimised, on cores that they
  /// share with the attacker and the tests.
  @Suite struct HostileNeighborTests {
    struct Attack: CustomTestStringConvertible {
      var kind: String
      var attachment: Attachment
      var remotes = 1

      var testDescription: String {
        "\(kind) from a \(attachment)" + (remotes > 1 ? ", \(remotes) remotes" : "")
      }
    }

    static let attacks =
      Attachment.allCases.flatMap { attachment in
        [
          Attack(kind: "macs", attachment: attachment),
          Attack(kind: "broadcast", attachment: attachment, remotes: 10),
        ]
      } + [Attack(kind: "arp", attachment: .tap), Attack(kind: "unknown", attachment: .veth)]

    /// Red in VNI 200 on both hosts, and a tunnel of VNI 100 between them for someone else.
    private func scene(
      _ lab: Lab, _ hosts: [Namespace], by attachment: Attachment, remotes: [Int] = [2],
      family: Family = .ipv4, arguments: [String] = []
    ) throws -> [Namespace] {
      var reds: [Namespace] = []
      for (index, host) in hosts.enumerated() {
        try lab.daemon(on: host, arguments: arguments)
        let far = index == 0 ? remotes.map(family.address) : [family.address(1)]
        try host.ctl(
          "add-br br0 -- add-port br0 vxlan2 tag=200 key=200 remote=\(family.address(2 - index)) "
            + "-- add-port br0 vxlan1 tag=100 key=100 remote=\(far.joined(separator: ","))")
        reds.append(
          try lab.container(
            "red\(index + 1)", on: host, by: attachment, address: "172.17.42.1\(index + 1)/24",
            tag: 200, mtu: family.overlayMTU))
      }
      try reds[0].expectPing("172.17.42.12")
      return reds
    }

    /// Two seconds of pings, and a transfer, beside an attack.
    private func expectService(
      _ reds: [Namespace], beside storm: Command, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      try eventually("the attack begins") { storm.standardOutput.contains("ready") }
      let pings = try reds[0].run("ping -q -i 0.1 -c 20 -W 2 172.17.42.12", seconds: 20)
      let received = try #require(
        pings.standardOutput.firstMatch(of: /(\d+) received/).flatMap { Int($0.1) }, "\(pings)")
      #expect(received >= 16, "\(pings)", sourceLocation: sourceLocation)
      let receiver = try reds[1].start(
        "exec python3 $TRAFFIC/transfer.py receive 172.17.42.12 7000")
      try reds[0].must(
        "exec python3 $TRAFFIC/transfer.py send 172.17.42.12 7000 8000000 1", seconds: 30)
      #expect(try receiver.finish(seconds: 10).standardOutput.contains("8000000"))
      #expect(storm.wait(seconds: 0) == nil, "the attack went on to the end")
      storm.signal(SIGKILL)
    }

    @Test(arguments: attacks)
    func fromAContainer(attack: Attack) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        // Remotes that nobody is cost the sender what others do.
        for number in 3...11 {
          try host1.must(
            "ip neigh add \(Family.ipv4.address(number)) lladdr 02:00:00:00:05:0\(number % 10) dev eth0 nud permanent"
          )
        }
        let reds = try scene(
          lab, [host1, host2], by: attack.attachment, remotes: Array(2..<(2 + attack.remotes)))
        let rogue = try lab.container(
          "rogue", on: host1, by: attack.attachment, address: "10.0.0.1/16", tag: 100)
        let storm = try rogue.start("exec python3 $TRAFFIC/storm.py eth0 \(attack.kind)")
        try expectService(reds, beside: storm)
      }
    }

    /// A host that floods one VNI, as one behind a kernel's VTEP can, does not reach what comes by
    /// another one.
    @Test(arguments: zip(Family.allCases, ["", "--workers 2"]))
    func fromAnotherHost(family: Family, arguments: String) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let reds = try scene(
          lab, [host1, host2], by: .veth, family: family,
          arguments: arguments.split(separator: " ").map(String.init))
        _ = try lab.container("blue", on: host2, by: .tap, address: "10.0.0.2/16", tag: 100)
        let storm = try host1.start(
          "exec python3 $TRAFFIC/storm.py \(family.address(2)) vxlan 100")
        try expectService(reds, beside: storm)
      }
    }

    /// The limit of a port is what it is set to, and none where it is off.
    @Test func theLimitIsSettable() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "10.0.0.1/16")
        _ = try lab.container("blue", on: host, by: .veth, address: "10.0.0.2/16")
        func flood() throws { try red.must("python3 $TRAFFIC/mac_flood.py eth0 4000") }
        func limited() throws -> UInt64 { try host.drops()["red storm-limit", default: 0] }
        try host.ctl("set port red other_config:storm-control=10")
        try flood()
        // The port is read less often then, so its queue overflows, too. Each frame is counted as
        // the one or the other.
        try eventually("all but a few are lost") {
          try limited() + host.drops()["red receive-queue-full", default: 0] > 3900
        }
        let before = try limited()
        #expect(before > 500)
        try host.ctl("set port red other_config:storm-control=off")
        try flood()
        #expect(try limited() == before)
      }
    }
  }
}
