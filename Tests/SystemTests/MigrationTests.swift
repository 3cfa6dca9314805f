import Foundation
import Testing

extension SystemTests {
  /// The host's own NIC becomes a port, and the host keeps its addresses and routes.
  @Suite struct MigrationTests {
    /// A host whose eth0 is the way to its neighbor 192.0.2.1.
    private func makeHost(_ lab: Lab) throws -> Namespace {
      let (host, outside) = (try lab.namespace("host1"), try lab.namespace("outside"))
      try host.must(
        """
        ip link add eth0 type veth peer name eth0 netns \(outside.name)
        ip addr add 192.0.2.2/24 dev eth0
        ip addr add 192.0.2.3/24 dev eth0
        ip -6 addr add 2001:db8::2/64 dev eth0 nodad
        ip link set eth0 up
        """)
      try outside.must(
        "ip addr add 192.0.2.1/24 dev eth0; ip -6 addr add 2001:db8::1/64 dev eth0 nodad; ip link set eth0 up"
      )
      try host.must(
        """
        ip route add default via 192.0.2.1
        ip route add 198.51.100.0/24 via 192.0.2.1 metric 50 src 192.0.2.3
        ip route add 203.0.113.0/24 dev eth0
        ip -6 route add default via 2001:db8::1
        """)
      return host
    }

    /// Addresses and routes without what says who has made them.
    private func place(of host: Namespace, device: String) throws -> [String] {
      try host.must(
        """
        for family in -4 -6; do
          ip $family -o addr show dev \(device) scope global | sed 's/.*inet6* \\([^ ]*\\).*/address \\1/'
          ip $family route show dev \(device) | sed 's/proto [^ ]* *//; s/pref medium//; s/linkdown//; s/ *$//'
        done
        """
      ).split(separator: "\n").map(String.init).filter { !$0.hasPrefix("fe80::") }.sorted()
    }

    private func expectReached(_ host: Namespace) throws {
      #expect(try host.run("ping -c 2 -i 0.2 -W 2 192.0.2.1").succeeded)
      #expect(try host.run("ping -c 2 -i 0.2 -W 2 2001:db8::1").succeeded)
    }

    @Test func addressesAndRoutesMoveAndComeBack() throws {
      try Lab.run { lab in
        let host = try makeHost(lab)
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let before = try place(of: host, device: "eth0")
        #expect(before.count >= 9, "\(before)")
        let added = try host.ctl(["add-port", "br0", "eth0", "migrate=true"])
        #expect(added.succeeded && added.standardError.contains("move to br0"), "\(added)")
        #expect(try place(of: host, device: "br0") == before)
        #expect(try place(of: host, device: "eth0") == [])
        try expectReached(host)
        // A file has all of it.
        let text = try host.ctl("export")
        #expect(text.contains("routes:") && text.contains("192.0.2.2/24"), "\(text)")
        try host.ctl("del-port eth0")
        #expect(try place(of: host, device: "eth0") == before)
        #expect(try place(of: host, device: "br0") == [])
        try expectReached(host)
        // With the devices that ovx made, the NIC's go back, too.
        try host.ctl("add-port br0 eth0 migrate=true")
        try host.ctl("exit --cleanup")
        lab.daemons.last?.mayBeDead = true
        #expect(try place(of: host, device: "eth0") == before)
        try expectReached(host)
      }
    }

    @Test func whatNobodyConfirmsIsTakenBack() throws {
      try Lab.run { lab in
        lab.expectLog("The last change is taken back")
        // To and fro several times within a minute.
        lab.expectLog("is announced in turn by")
        let host = try makeHost(lab)
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let before = try place(of: host, device: "eth0")
        let line = "add-port br0 eth0 migrate=true --confirm-within"
        try host.ctl("\(line) 2")
        #expect(try place(of: host, device: "br0") == before)
        let other = try host.ctl(["add-br", "br1"])
        #expect(other.status == 1 && other.standardError.contains("ovx-ctl confirm"), "\(other)")
        #expect(
          try host.ctl(["show"]).standardError.contains("unless ovx-ctl confirm comes"))
        try eventually("it is taken back") { try place(of: host, device: "eth0") == before }
        #expect(try host.ctl("list-ports br0") == "")
        try expectReached(host)
        #expect(try host.ctl(["confirm"]).status == 1)

        // Also by a daemon that was killed meanwhile.
        try host.ctl("\(line) 2")
        daemon.mayBeDead = true
        daemon.process.signal(SIGKILL)
        _ = daemon.process.wait(seconds: 5)
        let second = try lab.daemon(on: host)
        try eventually("it is taken back") { try place(of: host, device: "eth0") == before }
        #expect(try host.ctl("list-ports br0") == "")

        // At once where that is asked for.
        try host.ctl("\(line) 600")
        try host.ctl("confirm --undo")
        #expect(try place(of: host, device: "eth0") == before)

        try host.ctl("\(line) 2")
        try host.ctl("confirm")
        try host.must("sleep 2.5")
        #expect(try place(of: host, device: "br0") == before)
        #expect(try !host.run("ls \(host.rundir)/conf.db.unconfirmed").succeeded)

        // The next boot of the host: what sets up its NIC knows nothing of a bridge.
        try second.stop(SIGTERM)
        try host.must("ip link del br0; ip link del eth0")
        let rebooted = try lab.namespace("host2")
        try rebooted.must(
          "mkdir -p \(rebooted.rundir); cp \(host.rundir)/conf.db* \(rebooted.rundir)")
        let outside = try #require(lab.namespaces.first { $0.name.hasSuffix("outside") })
        try rebooted.must(
          """
          ip link add eth0 type veth peer name eth0 netns \(outside.name)
          ip addr add 192.0.2.2/24 dev eth0
          ip link set eth0 up
          """)
        try outside.must(
          "ip addr add 192.0.2.1/24 dev eth0; ip -6 addr add 2001:db8::1/64 dev eth0 nodad; ip link set eth0 up"
        )
        try lab.daemon(on: rebooted)
        #expect(try place(of: rebooted, device: "br0") == before)
        #expect(try place(of: rebooted, device: "eth0") == [])
        try expectReached(rebooted)
        // And one that is late.
        try rebooted.must("ip addr add 192.0.2.2/24 dev eth0")
        try eventually("it goes") { try place(of: rebooted, device: "eth0") == [] }
        #expect(try !rebooted.ctl("show").contains("error:"))
      }
    }

    @Test func whatCannotMoveIsNamed() throws {
      try Lab.run { lab in
        let host = try makeHost(lab)
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        func refusal() throws -> String {
          let output = try host.ctl(["add-port", "br0", "eth0", "migrate=true"])
          #expect(output.status == 1)
          #expect(try host.ctl("list-ports br0") == "")
          return output.standardError
        }
        try host.must("ip addr add 192.0.2.9/24 dev eth0 valid_lft 900 preferred_lft 900")
        #expect(try refusal().contains("192.0.2.9/24 is lent for a time"))
        try host.must("ip addr del 192.0.2.9/24 dev eth0")
        try host.must("ip route add 10.0.0.0/8 via 192.0.2.1 table 7")
        #expect(try refusal().contains("stands in table 7"))
        try host.must(
          "ip route del 10.0.0.0/8 table 7; ip route add 10.0.0.0/8 via 192.0.2.1 mtu 1400")
        #expect(try refusal().contains("10.0.0.0/8 has more to it"))
        try host.must("ip route del 10.0.0.0/8")
        let before = try place(of: host, device: "eth0")
        // Where it cannot be put in force after all, the host has what it had.
        let wrong = try host.ctl(
          [
            "add-port", "br0", "eth0", "migrate=true", "--", "set", "interface", "br0",
            "routes=\"10.0.0.0/8 via 198.18.0.1\"",
          ])
        #expect(wrong.status == 1, "\(wrong)")
        #expect(try place(of: host, device: "eth0") == before)
        #expect(try place(of: host, device: "br0") == [])
        try expectReached(host)
      }
    }
  }
}
