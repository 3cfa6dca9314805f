import Foundation
import Testing

extension SystemTests {
  /// What becomes of a port when somebody else does something to its device.
  @Suite struct PortLifeTests {
    /// A host with two containers on veths, of which the first one's port is to suffer.
    private func scene(_ lab: Lab) throws -> (host: Namespace, red: Namespace) {
      let host = try lab.namespace("host1")
      try lab.daemon(on: host)
      try host.ctl("add-br br0")
      let red = try lab.container("red1", on: host, by: .veth, address: "172.17.42.11/24")
      _ = try lab.container("red2", on: host, by: .veth, address: "172.17.42.12/24")
      try red.expectPing("172.17.42.12")
      return (host, red)
    }

    private func expectWaiting(_ host: Namespace, _ words: String...) throws {
      try eventually("show tells of \(words)") {
        let tree = try host.ctl("show")
        return tree.contains("error:") && words.allSatisfy { tree.contains($0) }
      }
    }

    /// The port is back within a moment, far sooner than anything is looked at again.
    private func expectInService(_ host: Namespace) throws {
      try eventually("nothing waits", within: 2) { try !host.ctl("show").contains("error:") }
    }

    @Test func deviceGoesAndComesBack() throws {
      try Lab.run { lab in
        lab.expectLog("red1 waits")
        let (host, red) = try scene(lab)
        for _ in 0..<5 {
          try host.must("ip link del red1")
          try expectWaiting(host, "red1", "no network device of that name")
          try host.must(
            "ip link add red1 mtu 1450 type veth peer name eth0 mtu 1450 netns \(red.name)")
          try red.must("ip link set eth0 up && ip addr add 172.17.42.11/24 dev eth0")
          try expectInService(host)
          try red.expectPing("172.17.42.12")
        }
      }
    }

    /// Gone and back before anybody has looked: the same name, another device.
    @Test func deviceIsReplacedAtOnce() throws {
      try Lab.run { lab in
        lab.expectLog("red1 waits")
        let (host, red) = try scene(lab)
        for _ in 0..<5 {
          try host.must(
            "ip link del red1; "
              + "ip link add red1 mtu 1450 type veth peer name eth0 mtu 1450 netns \(red.name)")
          try red.must("ip link set eth0 up && ip addr add 172.17.42.11/24 dev eth0")
          try red.expectPing("172.17.42.12")
          try expectInService(host)
        }
      }
    }

    @Test func deviceIsRenamed() throws {
      try Lab.run { lab in
        lab.expectLog("red1 waits")
        let (host, red) = try scene(lab)
        try host.must("ip link set red1 down name other && ip link set other up")
        try expectWaiting(host, "red1", "no network device of that name")
        try red.expectNoPing("172.17.42.12")
        try host.must("ip link set other down name red1")
        try expectInService(host)
        try red.expectPing("172.17.42.12")
        // The name goes to another device: the port is what has the name.
        let blue = try lab.vethContainer("blue1", on: host, address: "172.17.42.21/24")
        try host.must(
          "ip link set red1 down; ip link set red1 name other; ip link set blue1 down name red1")
        try expectInService(host)
        try blue.expectPing("172.17.42.12")
        try red.expectNoPing("172.17.42.12")
      }
    }

    @Test func deviceGoesDownAndUp() throws {
      try Lab.run { lab in
        lab.expectLog("red1 waits")
        let (host, red) = try scene(lab)
        for _ in 0..<5 {
          try host.must("ip link set red1 down")
          try expectWaiting(host, "red1", "is down", "ip link set red1 up")
          #expect(try host.ctl("get Interface red1 admin_state") == "down\n")
          try host.must("ip link set red1 up")
          try expectInService(host)
          try red.expectPing("172.17.42.12")
        }
        // Too short a time for anybody to look.
        for _ in 0..<20 { try host.must("ip link set red1 down; ip link set red1 up") }
        try red.expectPing("172.17.42.12")
        try expectInService(host)
      }
    }

    @Test func deviceChangesItsMTU() throws {
      try Lab.run { lab in
        let (host, red) = try scene(lab)
        for mtu in [1400, 1450, 9000, 1450] {
          try host.must("ip link set red1 mtu \(mtu)")
          try eventually("the column follows") {
            try host.ctl("get Interface red1 mtu") == "\(mtu)\n"
          }
          try red.expectPing("172.17.42.12", size: min(mtu, 1450) - 28)
        }
      }
    }

    /// Away to another network namespace, and back, with the number that it had or another one.
    @Test func deviceMovesAwayAndComesBack() throws {
      try Lab.run { lab in
        lab.expectLog("red1 waits")
        let (host, red) = try scene(lab)
        let attic = try lab.namespace("attic")
        let pid = try attic.start("exec sleep 1000")
        defer { pid.signal(SIGKILL) }
        for _ in 0..<3 {
          try host.must("ip link set red1 netns \(attic.name)")
          try expectWaiting(host, "red1", "no network device of that name")
          try attic.must("ip link set red1 netns \(host.name)")
          try expectInService(host)
          try red.expectPing("172.17.42.12")
        }
        for _ in 0..<10 {
          try host.must(
            "ip link set red1 netns \(attic.name); "
              + "ip netns exec \(attic.name) ip link set red1 netns \(host.name)")
        }
        try red.expectPing("172.17.42.12")
        try expectInService(host)
      }
    }

    /// A TAP that ovx made goes on working in the namespace that somebody moves it to, and as what
    /// they call it there.
    @Test func tapsAreMovedIntoContainers() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 tap1 type=tap -- add-port br0 tap2 type=tap")
        let containers = try [1, 2].map { number in
          let container = try lab.namespace("red\(number)")
          try host.must("ip link set tap\(number) netns \(container.name)")
          try container.must(
            "ip link set tap\(number) name eth0; ip link set eth0 up; "
              + "ip addr add 172.17.42.1\(number)/24 dev eth0")
          return container
        }
        for size in [56, 1600, 3200] { try containers[0].expectPing("172.17.42.12", size: size) }
        try containers[0].expectTransfer(10_000_000, to: containers[1], at: "172.17.42.12")
        #expect(try host.run("ip link show tap1").status != 0, "no second one is made")
        #expect(try !host.ctl("show").contains("error:"))
        // And back home.
        try containers[0].must(
          "ip link set eth0 down name tap1; ip link set tap1 netns \(host.name)")
        try host.must("ip link set tap1 up && ip addr add 172.17.42.11/24 dev tap1")
        try host.expectPing("172.17.42.12")
        // Where it goes with its port, and leaves nothing behind.
        try host.ctl("del-port tap1 -- del-port tap2")
        #expect(try host.run("ip link show tap1").status != 0)
        try eventually("it goes with its port") {
          try containers[1].run("ip link show eth0").status != 0
        }
      }
    }

    /// The internal port has the MTU that its user asks for, else what fits.
    @Test func internalPortsMTU() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        func mtu() throws -> Int? {
          Int(
            try host.must("cat /sys/class/net/br0/mtu").trimmingCharacters(
              in: .whitespacesAndNewlines))
        }
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        #expect(try mtu() == 1500)
        try host.ctl("add-port br0 vxlan0 key=1 remote=\(Family.ipv4.address(2))")
        #expect(try mtu() == 1450)
        try host.ctl("set Interface br0 mtu_request=1300")
        #expect(try mtu() == 1300)
        try host.ctl("del-port vxlan0")
        #expect(try mtu() == 1300)
        try host.ctl("clear Interface br0 mtu_request")
        #expect(try mtu() == 1500)
        // What its user has set with ip(8) stays as long as nothing else is asked for.
        try host.must("ip link set br0 mtu 1280")
        try host.ctl("add-port br0 t type=tap")
        #expect(try mtu() == 1280)
      }
    }
  }
}
