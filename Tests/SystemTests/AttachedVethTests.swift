import Foundation
import Testing

extension SystemTests {
  /// Containers whose interface is one end of a veth that the daemon makes.
  @Suite struct AttachedVethTests {
    private struct Scene {
      let host: Namespace
      let daemon: Daemon
      let red: Namespace
      let blue: Namespace
    }

    private func bareHost(_ lab: Lab) throws -> (Namespace, Daemon) {
      let host = try lab.namespace("host1")
      let daemon = try lab.daemon(on: host)
      try host.ctl("add-br br0")
      return (host, daemon)
    }

    private func scene(_ lab: Lab) throws -> Scene {
      let (host, daemon) = try bareHost(lab)
      return Scene(
        host: host, daemon: daemon,
        red: try lab.container(
          "red1", on: host, by: .attachedVeth, address: "172.17.42.11/24", tag: 100),
        blue: try lab.container(
          "blue1", on: host, by: .attachedVeth, address: "172.17.42.12/24", tag: 100))
    }

    /// The names of the host's ends.
    private func hostEnds(_ host: Namespace) throws -> [String] {
      try host.must("ls /sys/class/net").split(separator: "\n").map(String.init)
        .filter { $0.hasPrefix("ovx") }
    }

    @Test func whatItIsGiven() throws {
      try Lab.run { lab in
        let (host, _) = try bareHost(lab)
        let red = try lab.namespace("red1")
        try host.ctl(
          "attach br0 \(red.name) web0 ip=172.17.42.11/24,fd42::11/64 gateway=172.17.42.1 mtu=1400 "
            + "mac=02:00:00:00:00:07 kind=veth")
        let link = try red.must("ip -d link show dev web0")
        #expect(link.contains("veth") && link.contains("mtu 1400"), "\(link)")
        #expect(link.contains("02:00:00:00:00:07"), "\(link)")
        let addresses = try red.must("ip addr show dev web0; ip route; ip -br link show dev lo")
        for text in ["172.17.42.11/24", "fd42::11/64", "default via 172.17.42.1", "LOOPBACK,UP"] {
          #expect(addresses.contains(text), "\(addresses)")
        }
        let end = try #require(try hostEnds(host).first)
        // What is too large is the switch's to answer, and so has to get there.
        #expect(try host.must("cat /sys/class/net/\(end)/mtu") == "65535\n")
        for mtu in [9000, 1300] {
          try host.ctl("set interface web0@\(red.name) mtu_request=\(mtu)")
          #expect(try red.must("cat /sys/class/net/web0/mtu") == "\(mtu)\n")
        }
        let links = try host.ctl("show --links")
        #expect(links.contains("web0") && links.contains(red.name), "\(links)")
        #expect(try host.ctl("get interface web0@\(red.name) type") == "veth\n")
        // The other end is the switch's own: what the host sends there, or has there, reaches
        // nobody.
        try red.must("ip addr add 198.51.100.1/24 dev web0")
        try host.must("ip addr add 198.51.100.2/24 dev \(end)")
        try host.expectNoPing("198.51.100.1")
        try red.expectNoPing("198.51.100.2")
        let refused = try host.ctl(["add-port", "br0", end])
        #expect(
          refused.status == 1 && refused.standardError.contains("show --links"),
          "\(refused.standardError)")
        try host.ctl("detach \(red.name) web0")
        #expect(try hostEnds(host) == [])
        #expect(try !red.run("test -e /sys/class/net/web0").succeeded)
      }
    }

    @Test func anInterfaceThatTheContainerHasIsLeftToIt() throws {
      try Lab.run { lab in
        let (host, _) = try bareHost(lab)
        let red = try lab.namespace("red1")
        try red.must("ip link add eth0 type veth peer name other")
        let refused = try host.ctl(["attach", "br0", red.name, "eth0", "kind=veth"])
        #expect(
          refused.status == 1
            && refused.standardError.contains("an interface of that name already"),
          "\(refused.standardError)")
        #expect(try hostEnds(host) == [], "and nothing is left")
        #expect(try host.ctl("list-ports br0").isEmpty)
      }
    }

    /// Whatever a container makes of its interfaces, what comes by one is never another's.
    @Test func aContainerThatRenamesItsInterfaces() throws {
      try Lab.run { lab in
        let scene = try scene(lab)
        let (host, red, blue) = (scene.host, scene.red, scene.blue)
        try host.ctl("attach br0 \(red.name) eth1 ip=172.17.43.11/24 tag=200 kind=veth")
        try red.expectPing("172.17.42.12")
        try red.must(
          """
          for name in eth0 eth1; do ip link set $name down; done
          ip link set eth0 name x && ip link set eth1 name eth0 && ip link set x name eth1
          for name in eth0 eth1; do ip link set $name up; done
          """)
        try red.expectPing("172.17.42.12")
        var daemon = scene.daemon
        for signal in [SIGTERM, SIGKILL] {
          _ = try daemon.stop(signal)
          daemon = try lab.daemon(on: host)
          try red.expectPing("172.17.42.12")
          // What is called eth0 now is in VLAN 200 as before.
          try red.must("ip addr add 172.17.42.99/32 dev eth0")
          try red.expectNoPing("-I eth0 172.17.42.12")
          try red.must("ip addr del 172.17.42.99/32 dev eth0")
        }
        #expect(try hostEnds(host).count == 3)
        try blue.expectPing("172.17.42.11")
      }
    }

    /// An interface that is deleted is made anew, and not as fast as somebody deletes it.
    @Test func aContainerThatDeletesItsInterface() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let scene = try scene(lab)
        let red = scene.red
        try red.expectPing("172.17.42.12")
        let former = try red.must("cat /sys/class/net/eth0/address")
        try red.must("ip link del eth0")
        try eventually("it is back") { try red.run("test -e /sys/class/net/eth0").succeeded }
        try red.expectPing("172.17.42.12")
        #expect(try red.must("cat /sys/class/net/eth0/address") == former)
        let begin = ContinuousClock.now
        var deletions = 0
        while ContinuousClock.now - begin < .seconds(4) {
          if try red.run("ip link del eth0 2>/dev/null").succeeded { deletions += 1 }
          usleep(20_000)
        }
        #expect((1...20).contains(deletions), "\(deletions) in four seconds")
        try eventually("it is back in the end", within: 10) {
          try red.run("test -e /sys/class/net/eth0").succeeded
        }
        try red.expectPing("172.17.42.12")
        #expect(try hostEnds(scene.host).count == 2)
      }
    }

    @Test func fromATAPToAVethAndBack() throws {
      try Lab.run { lab in
        let scene = try scene(lab)
        let red = scene.red
        let port = "eth0@\(red.name)"
        let before = try red.must("cat /sys/class/net/eth0/address")
        for type in ["tap", "veth", "tap", "veth"] {
          try scene.host.ctl("set interface \(port) type=\(type)")
          let link = try red.must("ip -d link show dev eth0")
          #expect(link.contains(type == "tap" ? "tun" : "veth"), "\(link)")
          #expect(try red.must("cat /sys/class/net/eth0/address") == before, "the address stays")
          try red.expectPing("172.17.42.12")
          #expect(try hostEnds(scene.host).count == (type == "tap" ? 1 : 2))
        }
      }
    }

    /// A crash between two steps leaves what the next daemon uses or removes.
    @Test func whatACrashLeaves() throws {
      try Lab.run { lab in
        let scene = try scene(lab)
        let (host, red) = (scene.host, scene.red)
        let ends = try hostEnds(host)
        #expect(ends.count == 2)
        _ = try scene.daemon.stop(SIGKILL)
        // Made, and not marked yet.
        for end in ends { try host.must("ip link set \(end) alias ''") }
        let daemon = try lab.daemon(on: host)
        try red.expectPing("172.17.42.12")
        #expect(try hostEnds(host) == ends)
        // Of a port that is none any more, and of somebody else.
        _ = try daemon.stop(SIGKILL)
        try host.must(
          """
          mark=$(cat /sys/class/net/\(ends[0])/ifalias)
          ip link add ovx000000000001 type veth peer name left1
          ip link set ovx000000000001 alias "$mark"
          ip link add ovx000000000002 type veth peer name left2
          """)
        try lab.daemon(on: host)
        #expect(try hostEnds(host) == ["ovx000000000002"] + ends)
        try red.expectPing("172.17.42.12")
      }
    }

    /// What a container of a veth sends over TCP the kernel forwards, where that is asked for.
    @Test func onTheFastPath() throws {
      try Lab.run { lab in
        let scene = try scene(lab)
        try scene.host.ctl("set switch . other_config:fast-path=on")
        #expect(try scene.host.ctl("show").contains("fast_path: \"ready\""))
        try scene.red.expectConversation(at: "172.17.42.11", with: scene.blue, at: "172.17.42.12")
        #expect(try scene.host.ctl("show").contains("fast_path: \"in use\""))
      }
    }
  }
}
