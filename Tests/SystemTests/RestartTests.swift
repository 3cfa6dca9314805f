import Foundation
import Testing

extension SystemTests {
  /// The daemon goes and comes back; containers keep their interfaces and traffic resumes.
  @Suite struct RestartTests {
    @Test(arguments: [SIGKILL, SIGTERM])
    func underTraffic(_ signal: Int32) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let daemon = try lab.overlay(on: host1, remotes: [2], tag: 100)
        try lab.overlay(on: host2, remotes: [1], tag: 100)
        try host1.ctl("set Port br0 tag=100")
        try host1.must("ip addr add 172.17.42.1/24 dev br0 && ip link set br0 up")
        let tap = try lab.container(
          "tap1",
          on: host1,
          by: .tap,
          address: "172.17.42.11/24",
          tag: 100
        )
        let veth = try lab.container(
          "veth1",
          on: host1,
          by: .veth,
          address: "172.17.42.21/24",
          tag: 100
        )
        let far = try lab.container(
          "far",
          on: host2,
          by: .tap,
          address: "172.17.42.12/24",
          tag: 100
        )
        for container in [tap, veth, host1] { try container.expectPing("172.17.42.12") }
        let tree = try host1.ctl("show")
        let json = try host1.ctl("-f json show")
        let interface = try tap.must("ip -o -4 addr show dev eth0; cat /sys/class/net/eth0/address")
        let bridge = try host1.must("ip -o -4 addr show dev br0; cat /sys/class/net/br0/address")

        let pings = try [tap, veth].map { container in
          try container.start("exec ping -D -O -i 0.05 -W 1 172.17.42.12")
        }
        usleep(300_000)
        let neighbors = try tap.must("ip neigh show dev eth0 | cut -d' ' -f1-3 | sort")
        #expect(neighbors.contains("172.17.42.12 lladdr"))
        let end = try daemon.stop(signal)
        #expect(signal == SIGKILL ? end.status == 128 + SIGKILL : end.succeeded)
        #expect(
          try tap.must("ip -o -4 addr show dev eth0; cat /sys/class/net/eth0/address").contains(
            "172.17.42.11/24"
          ),
          "the container's interface and address outlive the daemon"
        )
        usleep(300_000)
        // Who had to ask anew would ask in vain now, and again a second later.
        #expect(try tap.must("ip neigh show dev eth0 | cut -d' ' -f1-3 | sort") == neighbors)

        let clock = ContinuousClock()
        let start = clock.now
        try lab.daemon(on: host1)
        try tap.must("until ping -c 1 -W 0.2 172.17.42.12 >/dev/null; do :; done", seconds: 10)
        try veth.must("until ping -c 1 -W 0.2 172.17.42.12 >/dev/null; do :; done", seconds: 10)
        print("restart after signal \(signal): traffic flows \(clock.now - start) after the start")
        usleep(500_000)
        for ping in pings {
          ping.signal(SIGINT)
          let output = try ping.finish(seconds: 5)
          // The last line of a running ping says how it stands at the end.
          let replies = output.standardOutput.split(separator: "\n").filter {
            $0.contains("bytes from") || $0.contains("no answer")
          }
          #expect(
            replies.suffix(3).allSatisfy { $0.contains("bytes from") },
            "the ping that ran all the time has resumed: \(replies.suffix(3))"
          )
        }
        #expect(try host1.ctl("show") == tree)
        #expect(try host1.ctl("-f json show") == json)
        #expect(
          try tap.must("ip -o -4 addr show dev eth0; cat /sys/class/net/eth0/address") == interface
        )
        #expect(
          try host1.must("ip -o -4 addr show dev br0; cat /sys/class/net/br0/address") == bridge
        )
        try host1.expectPing("172.17.42.12")
        try far.expectTransfer(1_000_000, to: tap, at: "172.17.42.11")
      }
    }

    @Test func cleanupRemovesDevices() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        try host.ctl("add-port br0 tap7 type=tap")
        let red = try lab.container("red1", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue1", on: host, by: .veth, address: "172.17.42.12/24")
        daemon.mayBeDead = true
        try host.ctl("exit --cleanup")
        let end = daemon.process.wait(seconds: 10)
        #expect(end?.succeeded == true)
        #expect(try !red.run("ip link show eth0").succeeded, "the container's TAP is gone")
        #expect(try !host.run("ip link show br0").succeeded, "the bridge's internal port is gone")
        #expect(try !host.run("ip link show tap7").succeeded, "the host's TAP is gone")
        #expect(try host.run("ip link show blue1").succeeded, "the veth, not ovx's own, is there")
      }
    }

    @Test func exitLeavesDevices() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red1", on: host, by: .tap, address: "172.17.42.11/24")
        daemon.mayBeDead = true
        try host.ctl("exit")
        #expect(daemon.process.wait(seconds: 10)?.succeeded == true)
        #expect(try red.must("ip addr show eth0").contains("172.17.42.11/24"))
        #expect(try host.run("ip link show br0").succeeded)
      }
    }

    /// What was acknowledged survives a kill at once after it.
    @Test func acknowledgedMeansDurable() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        for round in 1...5 {
          let daemon = try lab.daemon(on: host)
          try host.ctl("add-br br\(round)")
          try daemon.stop(SIGKILL)
        }
        try lab.daemon(on: host)
        #expect(try host.ctl("list-br") == "br1\nbr2\nbr3\nbr4\nbr5\n")
      }
    }

    /// A device that goes away leaves its port waiting, and takes it into service again when it
    /// reappears.
    @Test func vanishedDeviceComesBack() throws {
      try Lab.run { lab in
        lab.expectLog("blue1")
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red1", on: host, by: .tap, address: "172.17.42.11/24")
        let blue = try lab.container(
          "blue1",
          on: host,
          by: .veth,
          address: "172.17.42.12/24",
          mtu: 1500
        )
        try red.expectPing("172.17.42.12")
        let mac = try blue.must("cat /sys/class/net/eth0/address").trimmingCharacters(in: .newlines)
        try host.must("ip link del blue1")
        try eventually("show tells that blue1 is missing") {
          try host.ctl("show").contains("error:")
        }
        try host.must(
          "ip link add blue1 type veth peer name eth0 address \(mac) netns \(blue.name) && ip link set blue1 up"
        )
        try blue.must("ip link set eth0 up && ip addr add 172.17.42.12/24 dev eth0")
        try eventually("the port is back in service") {
          try red.run("ping -c 1 -W 1 172.17.42.12").succeeded
        }
        #expect(try !host.ctl("show").contains("error:"))
      }
    }

    @Test func secondDaemonIsRefused() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        let second = try host.run("ovx-vswitchd --rundir \(host.rundir)", seconds: 10)
        #expect(second.status != 0)
        #expect(second.standardError.contains("\(daemon.process.pid)"), "\(second.standardError)")
        #expect(try host.ctl(["version"]).succeeded, "the first one still answers")
      }
    }
  }
}
