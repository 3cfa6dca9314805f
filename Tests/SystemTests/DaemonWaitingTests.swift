import Foundation
import Testing

extension SystemTests {
  /// What the host does not have at the moment is waited for, said in `show`, and taken into
  /// service by itself.
  @Suite struct DaemonWaitingTests {
    private func expectWaiting(_ host: Namespace, _ words: String...) throws {
      try eventually("show tells of \(words)") {
        let tree = try host.ctl("show")
        return tree.contains("error:") && words.allSatisfy { tree.contains($0) }
      }
    }

    private func expectInService(_ host: Namespace) throws {
      try eventually("nothing waits") { try !host.ctl("show").contains("error:") }
    }

    @Test func tunnelWaitsForRouteAndAddress() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (host1, host2) = try lab.twoHosts()
        try host2.must("ip addr add 10.99.0.2/32 dev lo")
        try lab.overlay(on: host2, remotes: [1])
        try host2.ctl("set Interface vxlan0 options:local_ip=10.99.0.2 options:remote_ip=10.99.0.1")
        try host2.must(
          "ip addr add 172.17.42.2/24 dev br0 && ip route add 10.99.0.1 via 192.168.5.2")
        try lab.daemon(on: host1)
        try host1.ctl("add-br br0")
        try host1.must("ip addr add 172.17.42.1/24 dev br0")
        let added = try host1.ctl(
          "add-port br0 vxlan0 key=100 remote=10.99.0.2 local=10.99.0.1".split(separator: " ")
            .map(String.init)
        )
        #expect(added.succeeded && added.standardError.contains("vxlan0 waits"), "\(added)")
        try expectWaiting(host1, "10.99.0.1")
        try host1.must("ip addr add 10.99.0.1/32 dev lo")
        try expectWaiting(host1, "10.99.0.2", "route")
        try host1.must("ip route add 10.99.0.2 via 192.168.5.3 src 10.99.0.1")
        try expectInService(host1)
        try host1.expectPing("172.17.42.2")

        try host1.must("ip route del 10.99.0.2")
        try expectWaiting(host1, "10.99.0.2", "route")
        try host1.must("ip route add 10.99.0.2 via 192.168.5.3 src 10.99.0.1")
        try expectInService(host1)
        try host1.expectPing("172.17.42.2")
      }
    }

    /// The underlay's MTU, on the own device and behind a router, is what containers' interfaces go
    /// by.
    @Test func interfacesFollowTheUnderlay() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number])
        }
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24")
        func mtu(_ namespace: Namespace, _ device: String) throws -> String {
          try namespace.must("cat /sys/class/net/\(device)/mtu").trimmingCharacters(in: .newlines)
        }
        #expect(try mtu(red1, "eth0") == "1450")
        #expect(try mtu(host1, "br0") == "1450")
        // Room for what a sender sends while the worker waits for its turn.
        #expect(try red1.must("cat /sys/class/net/eth0/tx_queue_len") == "4000\n")
        try host1.must("ip link set eth0 mtu 1400")
        try eventually("they shrink") {
          try mtu(red1, "eth0") == "1350" && mtu(host1, "br0") == "1350"
        }
        try red1.expectPing("172.17.42.12", size: 1322)
        try host1.must("ip link set eth0 mtu 1500")
        try eventually("they grow again") { try mtu(red1, "eth0") == "1450" }
        try red1.expectPing("172.17.42.12", size: 1422)

        // A way that is narrower than its device.
        let route = "ip route change 192.168.5.0/24 dev eth0 src 192.168.5.2"
        try host1.must("\(route) mtu 1340")
        try eventually("they follow the route") { try mtu(red1, "eth0") == "1290" }
        // IPv6 is lost with less than 1280, for good: that is told, and not done.
        try red1.must("ip addr add fd42::11/64 dev eth0 nodad")
        try host1.must("\(route) mtu 1300")
        try eventually("they follow it down to what IPv6 needs") {
          try mtu(red1, "eth0") == "1280" && host1.ctl("show").contains("packets of up to 1250")
        }
        try host1.must(route)
        try eventually("they grow again") { try mtu(red1, "eth0") == "1450" }
        #expect(try red1.must("ip -6 addr show dev eth0").contains("fd42::11"))
        try eventually("the error is gone") { try !host1.ctl("show").contains("error:") }
      }
    }

    /// An underlay that has become narrower than containers' interfaces is no reason to refuse what
    /// is about something else.
    @Test func aNarrowerUnderlayHindersNoOtherCommand() throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        try lab.overlay(on: host, remotes: [2], tag: 100)
        try host.must(
          "for name in veth1 veth2; do ip link add $name mtu 1450 type veth peer name $name-c mtu 1450; done"
        )
        try host.must("ip link set veth1 up")
        try host.ctl("add-port br0 veth1 tag=100")
        try host.must("ip link set eth0 mtu 1400")
        try eventually("the tunnel carries less") { try host.ctl("tunnel show").contains(" 1350 ") }
        #expect(try host.must("cat /sys/class/net/veth1*/mtu") == "1350\n1350\n")
        try host.ctl("set port veth1 external_ids:owner=ops -- set port veth1 tag=101")
        #expect(try host.must("cat /sys/class/net/veth1*/mtu") == "1450\n1450\n")
        try host.ctl("add-port br0 veth2 tag=100 -- clear port veth1 tag")
        #expect(try host.must("cat /sys/class/net/veth[12]*/mtu") == "1350\n1350\n1350\n1350\n")
        let refused = try host.ctl(["set", "interface", "veth1", "mtu_request=1450"])
        #expect(
          refused.status == 1 && refused.standardError.contains("1350"), "\(refused)")
      }
    }

    /// One thing to know is one note.
    @Test func aDeviceThatIsNotThereIsToldOfOnce() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let note = "ovx-ctl: note: port veth1 waits until this host has a network device veth1\n"
        for words in [["--dry-run"], []] {
          let output = try host.ctl(words + ["add-port", "br0", "veth1", "type=system"])
          #expect(output.succeeded && output.standardError == note, "\(output)")
        }
      }
    }

    @Test func kernelDeviceInTheWay() throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        try host.must(
          """
          ip link add kernelvx type vxlan id 5 local 192.168.5.2 remote 192.168.5.3 dstport 4789
          ip link set kernelvx up
          """
        )
        let line = ["add-port", "br0", "vxlan0", "key=100", "remote=192.168.5.3"]
        for words in [["--dry-run"] + line, line] {
          let output = try host.ctl(words)
          #expect(output.status == 1)
          #expect(output.standardError.contains("kernelvx"), "\(output)")
          #expect(output.standardError.contains("4789"), "\(output)")
        }
        #expect(try !host.ctl("show").contains("vxlan0"))
        try host.ctl("add-port br0 vxlan0 key=100 remote=192.168.5.3 dst_port=4790")
        try host.must("ip link del kernelvx")
        try host.ctl("set Interface vxlan0 options:dst_port=4789")
        #expect(try host.ctl("tunnel show").contains("*:4789"))
      }
    }

    /// The host's devices as they come and go at the hands of somebody else.
    @Test func internalPortIsMadeAnew() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red1", on: host, by: .tap, address: "172.17.42.11/24")
        try host.must("ip link del br0")
        try eventually("it is there again") { try host.run("ip link show br0").succeeded }
        try host.must("ip addr add 172.17.42.1/24 dev br0")
        try red.expectPing("172.17.42.1")
      }
    }

    /// A container that is started again has the name of the old one and a new namespace.
    @Test(arguments: [false, true])
    func containerComesBack(_ afterRestart: Bool) throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        try host.must("ip addr add 172.17.42.1/24 dev br0")
        let red = try lab.container("red1", on: host, by: .tap, address: "172.17.42.11/24")
        if afterRestart {
          // The new daemon opens the device inside, which by itself would keep the namespace alive.
          try daemon.stop(SIGKILL)
          try lab.daemon(on: host)
        }
        try red.expectPing("172.17.42.1")
        try Command(["ip", "netns", "del", red.name]).finish(seconds: 5).expectSuccess()
        try expectWaiting(host, red.name)
        try Command(["ip", "netns", "add", red.name]).finish(seconds: 5).expectSuccess()
        try eventually("it is attached again", within: 40) {
          try red.run("ip addr show dev eth0").standardOutput.contains("172.17.42.11/24")
        }
        try expectInService(host)
        try red.expectPing("172.17.42.1")
      }
    }

    /// The number of a process that has ended may be given to another one, whose network is none of
    /// the tenant's.
    @Test func processNumberIsNotTrustedForLong() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.namespace("red1")
        let process = try red.start("exec sleep 1000")
        let own = try red.must("readlink /proc/self/ns/net")
        try eventually("it sleeps in the container") {
          try red.run("readlink /proc/\(process.pid)/ns/net").standardOutput == own
        }
        try host.ctl("attach br0 pid:\(process.pid) eth0 ip=172.17.42.11/24")
        #expect(try red.must("ip -br addr show eth0").contains("172.17.42.11"))
        process.signal(SIGKILL)
        _ = process.wait(seconds: 5)
        try daemon.stop(SIGKILL)
        try red.must("ip link del eth0")
        try lab.daemon(on: host)
        try expectWaiting(host, "pid:\(process.pid)")
        try host.ctl("detach pid:\(process.pid) eth0")
        try expectInService(host)
      }
    }
  }
}

extension Output {
  fileprivate func expectSuccess(sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(succeeded, "\(self)", sourceLocation: sourceLocation)
  }
}
