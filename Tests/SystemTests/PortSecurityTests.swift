import Foundation
import Testing

extension SystemTests {
  /// What a container of a network may send, and what becomes of the rest: nobody hears it, and it
  /// is counted.
  @Suite struct PortSecurityTests {
    /// What `spoof.py` sends, and what each is dropped for.
    private static let forged = [
      "mac": "mac-not-allowed", "ip": "ip-not-allowed", "ip6": "ip-not-allowed",
      "gateway": "gateway-address", "arp": "arp-not-allowed", "arp-mac": "arp-not-allowed",
      "arp-gateway": "gateway-address", "arp-snap": "hidden-headers",
      "neighbor": "neighbor-not-allowed", "neighbor-mac": "neighbor-not-allowed",
      "duplicate": "neighbor-not-allowed", "router": "router-advertisement",
      "router-options": "router-advertisement", "router-fragment": "hidden-headers",
      "redirect": "router-advertisement", "dhcp": "dhcp-server", "dhcp-fragment": "hidden-headers",
      "dhcp6": "dhcp-server", "router4": "router-advertisement",
    ]
    private static let reasons = Set(forged.values)

    /// A host with the network red, whose gateway is a port of the host's own.
    private func scene(_ lab: Lab) throws -> Namespace {
      let host = try lab.namespace("host1")
      try lab.daemon(on: host)
      try host.ctl("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1")
      try host.ctl("add-port br0 gw type=internal network=red addresses=172.17.42.1/24")
      return host
    }

    private func attach(
      _ lab: Lab, _ name: String, on host: Namespace, _ settings: String = ""
    ) throws -> Container {
      let namespace = try lab.namespace(name)
      try host.ctl("attach red \(namespace.name) eth0 \(settings)")
      return try Container(namespace)
    }

    /// An attached container, and the addresses that it was given.
    private struct Container {
      let namespace: Namespace
      let ipv4: String
      let ipv6: String

      var port: String { "eth0@\(namespace.name)" }

      init(_ namespace: Namespace) throws {
        self.namespace = namespace
        func address(_ family: Int, _ scope: String) throws -> String {
          let words = try namespace.must("ip -o -\(family) addr show dev eth0 scope \(scope)")
            .split(separator: " ")
          return String(try #require(words.first { $0.contains("/") }).prefix { $0 != "/" })
        }
        ipv4 = try address(4, "global")
        ipv6 = try address(6, "global")
      }

      /// Sends forged frames.
      func send(_ kinds: [String]) throws {
        try namespace.must(
          "python3 $TRAFFIC/spoof.py eth0 \(ipv4) \(ipv6) \(kinds.joined(separator: " "))")
      }
    }

    /// The kinds of forged frames that a container hears meanwhile.
    private func heard(by listener: Namespace, _ body: () throws -> Void) throws -> Set<String> {
      let sniffer = try listener.start("exec python3 $TRAFFIC/sniff.py eth0")
      try eventually("it listens") { sniffer.standardError.contains("ready") }
      try body()
      usleep(300_000)
      sniffer.signal(SIGTERM)
      let lines = try sniffer.finish(seconds: 5).standardOutput.split(separator: "\n")
      return Set(lines.compactMap { $0.split(separator: " ").dropFirst().first.map(String.init) })
    }

    /// What was dropped of a container by port security, by reason.
    private func refused(_ container: Container, on host: Namespace) throws -> [String: UInt64] {
      var refused: [String: UInt64] = [:]
      let drops = try host.drops()
      for reason in Self.reasons {
        if let count = drops["\(container.port) \(reason)"] { refused[reason] = count }
      }
      return refused
    }

    @Test func whatAContainerForgesIsDroppedAndCounted() throws {
      try Lab.run { lab in
        let host = try scene(lab)
        let evil = try attach(lab, "evil", on: host)
        let victim = try attach(lab, "victim", on: host)
        let friend = try attach(lab, "friend", on: host)
        try victim.namespace.expectPing(friend.ipv4)
        try victim.namespace.expectPing(friend.ipv6)
        try victim.namespace.expectPing("172.17.42.1")
        func neighbors() throws -> [Substring] {
          try victim.namespace.must("ip neigh show; ip -6 route show default").split(
            separator: "\n"
          )
          .map { $0.prefix { $0 != "R" && $0 != "S" && $0 != "D" && $0 != "P" } }.sorted()
        }
        let before = try neighbors()
        let kinds = Self.forged.keys.sorted()
        #expect(try refused(evil, on: host) == [:], "it has not done anything yet")
        #expect(try heard(by: victim.namespace) { try evil.send(kinds) } == [])
        let expected = Dictionary(
          kinds.map { (Self.forged[$0] ?? "", UInt64(1)) }, uniquingKeysWith: +)
        #expect(try refused(evil, on: host) == expected)
        #expect(try neighbors() == before, "the victim has not noticed")
        try victim.namespace.expectPing(friend.ipv4)
        try victim.namespace.expectPing("172.17.42.1")
        // What it may send passes all the same.
        try evil.namespace.expectPing(victim.ipv4)
        try evil.namespace.expectPing(victim.ipv6)
        let honest: Set = ["ask-dhcp", "ask-arp", "ask-duplicate"]
        #expect(try heard(by: victim.namespace) { try evil.send(honest.sorted()) } == honest)
        #expect(try refused(evil, on: host) == expected)
        // The same container without it, and a network without it.
        try host.ctl("set port \(evil.port) port_security=false")
        #expect(try heard(by: victim.namespace) { try evil.send(kinds) } == Set(kinds))
        try host.ctl(
          "clear port \(evil.port) port_security -- set network red port_security=false")
        #expect(try heard(by: victim.namespace) { try evil.send(kinds) } == Set(kinds))
        try host.ctl("set network red port_security=true")
        #expect(try heard(by: victim.namespace) { try evil.send(kinds) } == [])
      }
    }

    /// Who lives with the addresses that he was given notices nothing, over a tunnel as well.
    @Test func whoIsHonestIsNotHindered() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.daemon(on: host)
          try host.ctl(
            "set switch . local_ip=\(Family.ipv4.address(number)) remotes=\(Family.ipv4.address(3 - number))"
          )
          try host.ctl("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64")
        }
        let near = try attach(lab, "near", on: host1)
        let far = try attach(lab, "far", on: host2)
        try near.namespace.expectPing(far.ipv4, size: 3000)
        try near.namespace.expectPing(far.ipv6, size: 3000)
        try near.namespace.expectTransfer(5_000_000, to: far.namespace, at: far.ipv4)
        try near.namespace.expectTransfer(5_000_000, to: far.namespace, at: far.ipv6)
        // Its own link-local address, found to be nobody else's; and groups that it joins.
        var linkLocal = ""
        try eventually("its link-local address is found to be nobody else's") {
          linkLocal = try far.namespace.must("ip -6 -o addr show dev eth0 scope link")
          return !linkLocal.contains("tentative")
        }
        #expect(!linkLocal.contains("dadfailed"), "\(linkLocal)")
        let address = try #require(linkLocal.firstMatch(of: /fe80::[0-9a-f:]+/)).0
        try near.namespace.expectPing("\(address)%eth0")
        try near.namespace.must("ip maddr add 33:33:00:00:01:23 dev eth0")
        try near.namespace.must("ip link set eth0 down && ip link set eth0 up")
        try near.namespace.must("ip -6 addr replace \(near.ipv6)/64 dev eth0")
        // Until then it has no address to send from, and would take ::1.
        try eventually("its addresses are found to be nobody else's") {
          try !near.namespace.must("ip -6 addr show dev eth0").contains("tentative")
        }
        try near.namespace.expectPing(far.ipv6, attempts: 3)
        #expect(try !near.namespace.must("ip -6 addr show dev eth0").contains("dadfailed"))
        for (container, host) in [(near, host1), (far, host2)] {
          let refused = try refused(container, on: host)
          #expect(refused == [:], "\(container.port)")
        }
      }
    }

    /// An address that two containers have in turn, as VRRP does it.
    @Test func anAllowedAddressIsTakenOver() throws {
      try Lab.run { lab in
        let host = try scene(lab)
        let (first, second) = (
          try attach(lab, "one", on: host), try attach(lab, "two", on: host)
        )
        let client = try attach(lab, "asker", on: host)
        try first.namespace.must("ip addr add 172.17.42.99/32 dev eth0")
        try client.namespace.expectNoPing("172.17.42.99")
        #expect(try refused(first, on: host).keys.contains("arp-not-allowed"))
        for port in [first.port, second.port] {
          try host.ctl("set port \(port) allowed_addresses=172.17.42.99")
        }
        try client.namespace.expectPing("172.17.42.99", attempts: 3)
        try first.namespace.must("ip addr del 172.17.42.99/32 dev eth0")
        try second.namespace.must(
          "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_notify; ip addr add 172.17.42.99/32 dev eth0; "
            + "ip link set eth0 down; ip link set eth0 up")
        try client.namespace.must("ip neigh flush all")
        try client.namespace.expectPing("172.17.42.99", attempts: 3)
        #expect(try refused(second, on: host) == [:])
        try host.ctl("clear port \(second.port) allowed_addresses")
        try client.namespace.expectNoPing("172.17.42.99")
      }
    }

    /// Whoever changes his Ethernet address is not taken for its owner, also where the daemon finds
    /// it so when it starts.
    @Test func anAddressIsNotTakenByChangingIt() throws {
      try Lab.run { lab in
        let host = try scene(lab)
        let evil = try attach(lab, "evil", on: host)
        let victim = try attach(lab, "victim", on: host)
        try evil.namespace.expectPing(victim.ipv4)
        let own = try evil.namespace.must("cat /sys/class/net/eth0/address")
          .trimmingCharacters(in: .newlines)
        try evil.namespace.must("ip link set eth0 address 02:00:00:00:00:77")
        try evil.namespace.expectNoPing(victim.ipv4)
        _ = try #require(lab.daemons.first).stop(SIGTERM)
        try lab.daemon(on: host)
        try evil.namespace.expectNoPing(victim.ipv4)
        #expect(try refused(evil, on: host)["mac-not-allowed", default: 0] > 0)
        try evil.namespace.must("ip link set eth0 address \(own)")
        try evil.namespace.expectPing(victim.ipv4, attempts: 3)
      }
    }

    /// The host's own port is a router, and a port of a veth is held to what is said of it.
    @Test func theHostIsARouterAndAVethIsNone() throws {
      try Lab.run { lab in
        let host = try scene(lab)
        let victim = try attach(lab, "victim", on: host)
        let veth = try lab.vethContainer("veth1", on: host, address: "172.17.42.50/24")
        try host.ctl("add-port br0 veth1 network=red")
        func send(_ kinds: [String], by namespace: Namespace, _ device: String = "eth0") throws {
          try namespace.must(
            "python3 $TRAFFIC/spoof.py \(device) 172.17.42.50 fd42::50 \(kinds.joined(separator: " "))"
          )
        }
        let services = ["router", "dhcp", "dhcp6", "gateway"]
        let addresses = ["ip", "arp", "mac"]
        #expect(
          try heard(by: victim.namespace) { try send(services + addresses, by: host, "gw") }
            == Set(services + addresses))
        #expect(
          try heard(by: victim.namespace) { try send(services + addresses, by: veth) }
            == Set(addresses))
        let mac = try veth.must("cat /sys/class/net/eth0/address").trimmingCharacters(in: .newlines)
        let words = ["set", "port", "veth1", "allowed_addresses=[\"\(mac)\",172.17.42.50]"]
        #expect(try host.ctl(words).succeeded)
        #expect(
          try heard(by: victim.namespace) { try send(services + addresses, by: veth) } == [])
        try veth.expectPing(victim.ipv4)
      }
    }
  }
}
