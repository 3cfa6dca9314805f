import Foundation
import Testing

extension SystemTests {
  /// Tenants' networks over two hosts: addresses that are handed out, and tenants that stay apart.
  @Suite struct NetworkTests {
    /// Two hosts with daemons that know of each other.
    private func hosts(_ lab: Lab) throws -> (Namespace, Namespace) {
      let (host1, host2) = try lab.twoHosts()
      for (number, host) in [(1, host1), (2, host2)] {
        try lab.daemon(on: host)
        try host.ctl(
          "set switch . local_ip=\(Family.ipv4.address(number)) remotes=\(Family.ipv4.address(1)),\(Family.ipv4.address(2))"
        )
      }
      return (host1, host2)
    }

    private func attach(
      _ lab: Lab, _ name: String, to network: String, on host: Namespace
    ) throws -> Namespace {
      let container = try lab.namespace(name)
      try host.ctl("attach \(network) \(container.name) eth0")
      return container
    }

    /// The IPv4 address that a container has.
    private func address(of container: Namespace) throws -> String {
      let line = try container.must("ip -o -4 addr show dev eth0")
      let word = line.split(separator: " ").first { $0.contains("/") }
      return String(try #require(word).prefix { $0 != "/" })
    }

    @Test func twoTenantsHaveTheSameAddresses() throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab)
        for (host, range) in [(host1, "172.17.42.16/28"), (host2, "172.17.42.32/28")] {
          for (network, vni) in [("red", 100), ("blue", 200)] {
            try host.ctl(
              "add-net \(network) vni=\(vni) subnet=172.17.42.0/24,fd42::/64 range=\(range),fd42::\(host.name == host1.name ? 1 : 2)0/124"
            )
          }
        }
        let red1 = try attach(lab, "red1", to: "red", on: host1)
        let red2 = try attach(lab, "red2", to: "red", on: host2)
        let blue1 = try attach(lab, "blue1", to: "blue", on: host1)
        let blue2 = try attach(lab, "blue2", to: "blue", on: host2)
        #expect(try address(of: red1) == "172.17.42.16" && address(of: blue1) == "172.17.42.16")
        #expect(try address(of: red2) == "172.17.42.32" && address(of: blue2) == "172.17.42.32")
        for (from, to) in [(red1, red2), (blue1, blue2)] {
          try from.expectPing("172.17.42.32", size: 3000)
          try from.expectPing("fd42::20")
          try from.expectTransfer(5_000_000, to: to, at: "172.17.42.32")
        }
        // Where its own tenant's has gone, nobody else's answers.
        try host2.ctl("detach \(red2.name) eth0")
        try red1.expectNoPing("172.17.42.32")
        try blue1.expectPing("172.17.42.32")
        let shown = try host1.ctl("net show red")
        #expect(
          shown.contains("Remote 192.168.5.3") && shown.contains("mtu: 1450")
            && shown.contains("address: 172.17.42.16/24"), "\(shown)")
      }
    }

    @Test func anAddressOfSomebodyElseIsPassedOver() throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab)
        for host in [host1, host2] {
          try host.ctl("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64")
        }
        let veth = try lab.vethContainer("veth1", on: host1, address: "172.17.42.2/24")
        try veth.must("ip addr add fd42::2/64 dev eth0 nodad")
        try host1.ctl("add-port br0 veth1 network=red")
        // Where it was never heard of, here and on another host.
        for host in [host1, host2] { try host.ctl("neigh flush br0") }
        let far = try attach(lab, "far", to: "red", on: host2)
        #expect(try address(of: far) == "172.17.42.3")
        #expect(try far.must("ip -6 addr show dev eth0").contains("fd42::3/64"))
        let near = try attach(lab, "near", to: "red", on: host1)
        #expect(try address(of: near) == "172.17.42.4")
        for ip in ["172.17.42.2/24", "fd42::2/64", "172.17.42.3/24"] {
          let output = try host1.ctl(["attach", "red", near.name, "eth1", "ip=\(ip)"])
          #expect(
            output.status == 1 && output.standardError.contains("in use in network red, by"),
            "\(output)")
        }
        // What has gone is free again, although it was known a moment ago.
        try near.expectPing("172.17.42.3")
        try host2.ctl("detach \(far.name) eth0")
        usleep(600_000)
        try host1.ctl("attach red \(near.name) eth1 ip=172.17.42.3/24")
      }
    }

    /// More stations than can be asked while it is remembered who has answered.
    @Test func thousandsOfAddressesAreSomebodyElses() throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab)
        for host in [host1, host2] {
          try host.ctl("add-net red vni=100 subnet=10.7.0.0/16")
        }
        let veth = try lab.vethContainer("veth1", on: host2, address: "10.7.0.1/16")
        try host2.ctl("add-port br0 veth1 network=red")
        let lines = (2...2001).map { "addr add 10.7.\($0 / 256).\($0 % 256)/16 dev eth0" }
        try veth.must("ip -b - <<'EOF'\n\(lines.joined(separator: "\n"))\nEOF")
        let first = try attach(lab, "first", to: "red", on: host1)
        #expect(try address(of: first) == "10.7.7.210")
        let second = try attach(lab, "second", to: "red", on: host1)
        #expect(try address(of: second) == "10.7.7.211")
        try first.expectPing("10.7.7.209")
      }
    }

    /// Addresses that are kept ready, or that nobody had a while ago, are nobody's who has come by
    /// them without a word.
    @Test(arguments: [1, 70])
    func anAddressIsNotGivenThatSomebodyHasTakenMeanwhile(pause: UInt32) throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab)
        for host in [host1, host2] {
          try host.ctl("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64")
        }
        let near = try attach(lab, "near", to: "red", on: host1)
        #expect(try address(of: near) == "172.17.42.2")
        let veth = try lab.vethContainer("veth1", on: host2, address: "10.99.0.2/24")
        try host2.ctl("add-port br0 veth1 network=red")
        sleep(pause)
        try veth.must("ip addr add 172.17.42.3/24 dev eth0")
        try veth.must("ip addr add fd42::3/64 dev eth0 nodad")
        // What is known of it holds for five seconds.
        sleep(6)
        let next = try attach(lab, "next", to: "red", on: host1)
        #expect(try address(of: next) == "172.17.42.4")
        #expect(try next.must("ip -6 addr show dev eth0").contains("fd42::4/64"))
      }
    }

    @Test func manyAtOnceHaveAddressesOfTheirOwn() throws {
      try Lab.run { lab in
        let (host, _) = try hosts(lab)
        try host.ctl("add-net red vni=100 subnet=172.17.42.0/24")
        let containers = try (0..<40).map { try lab.namespace("c\($0)") }
        let commands = try containers.map { container in
          try host.start("exec \(Lab.binaries)/ovx-ctl attach red \(container.name) eth0")
        }
        for command in commands {
          let output = try command.finish(seconds: 20)
          #expect(output.succeeded, "\(output)")
        }
        let addresses = try Set(containers.map { try address(of: $0) })
        #expect(addresses.count == 40)
        try containers[0].expectPing(try address(of: containers[39]))
      }
    }

    @Test func aNetworkOutlivesItsDaemon() throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab)
        for host in [host1, host2] { try host.ctl("add-net red vni=100 subnet=172.17.42.0/24") }
        let near = try attach(lab, "near", to: "red", on: host1)
        let far = try attach(lab, "far", to: "red", on: host2)
        try near.expectPing(try address(of: far))
        let before = try host1.ctl("-f json net show")
        _ = try #require(lab.daemons.first).stop(SIGKILL)
        try lab.daemon(on: host1)
        #expect(try host1.ctl("-f json net show") == before)
        try near.expectPing(try address(of: far))
        // The same by a file, on the other host.
        let file = try host1.ctl("export")
        #expect(file.contains("red:") && !file.contains("vni100"), "\(file)")
        try host1.must(
          "ovx-ctl export > /tmp/\(host1.name).yaml && ovx-ctl apply -f /tmp/\(host1.name).yaml; rm /tmp/\(host1.name).yaml"
        )
        #expect(try host1.ctl("-f json net show") == before)
      }
    }
  }
}
