import Foundation
import Testing

extension SystemTests {
  /// TCP that the kernel forwards by decisions of the switch.
  @Suite struct FastPathTests {
    private static func use(_ hosts: Namespace...) throws {
      for host in hosts { try host.ctl("set switch . other_config:fast-path=on") }
    }

    /// Bytes that a container has received.
    private static func received(_ container: Namespace) throws -> Int {
      try Int(
        container.must("cat /sys/class/net/eth0/statistics/rx_bytes")
          .trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
    }

    /// Bytes that a container receives in half a second.
    private static func rate(_ container: Namespace) throws -> Int {
      let before = try received(container)
      usleep(500_000)
      return try received(container) - before
    }

    /// One stream of TCP for a minute, of which the end is not waited for.
    private static func stream(
      from sender: Namespace, to receiver: Namespace, at address: String,
      _ body: () throws -> Void
    ) throws {
      let server = try receiver.start("exec iperf3 -s -1 -B \(address) -p 5201")
      defer { server.signal(SIGKILL) }
      try eventually("iperf3 listens in \(receiver.name)") {
        try receiver.must("cat /proc/net/tcp").contains(":1451 0")
      }
      let client = try sender.start("exec iperf3 -c \(address) -p 5201 -t 60 -b 200M")
      defer { client.signal(SIGKILL) }
      try eventually("the stream runs") { try rate(receiver) > 2_000_000 }
      try body()
    }

    /// A stream that goes on while the daemon is stopped goes by the kernel alone.
    private static func expectForwarding(
      without daemons: [Daemon], to receiver: Namespace, at least: Int = 2_000_000
    ) throws {
      try eventually("the stream does not need the switch") {
        for daemon in daemons { daemon.process.signal(SIGSTOP) }
        defer { for daemon in daemons { daemon.process.signal(SIGCONT) } }
        usleep(200_000)
        return try rate(receiver) > least
      }
    }

    @Test func betweenTwoHosts() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let daemons = [
          try lab.overlay(on: host1, remotes: [2]), try lab.overlay(on: host2, remotes: [1]),
        ]
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .veth, address: "172.17.42.12/24")
        #expect(try !host1.ctl("show").contains("fast_path"))
        try Self.use(host1, host2)
        #expect(try host1.ctl("show").contains("fast_path: \"ready\""))
        try red1.must("ip addr add fd17::11/64 dev eth0 nodad")
        try red2.must("ip addr add fd17::12/64 dev eth0 nodad")
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
        try red1.expectConversation(at: "fd17::11", with: red2, at: "fd17::12")
        #expect(try host1.ctl("show").contains("fast_path: \"in use\""))
        #expect(try host1.ctl("-f json tunnel show").contains("in use"))
        // Both ends have counted the same bytes; what the switch itself cuts has more of headers.
        let sent = try Self.statistic("tx_bytes", of: "vxlan0", on: host1)
        let received = try Self.statistic("rx_bytes", of: "vxlan0", on: host2)
        #expect(
          sent > 200_000_000 && abs(sent - received) < sent / 15, "\(sent), \(received)")
        try Self.stream(from: red1, to: red2, at: "172.17.42.12") {
          try Self.expectForwarding(without: daemons, to: red2)
        }
      }
    }

    private static func statistic(
      _ name: String, of port: String, on host: Namespace
    ) throws -> Int {
      try Int(
        host.ctl("get interface \(port) statistics:\(name)")
          .trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
    }

    @Test func withAKernelVTEP() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let daemon = try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        // The kernel's checksums of tunnels are left to the device, which a veth is not: what has
        // none needs no look.
        try host2.must(
          """
          ip link add br0 type bridge && ip link set br0 up
          ip link add vxlan0 type vxlan id 100 local 192.168.5.3 remote 192.168.5.2 dstport 4789 \
            noudpcsum
          for port in vxlan0 red2; do ip link set $port master br0 up; done
          """)
        try Self.use(host1)
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
        try Self.stream(from: red1, to: red2, at: "172.17.42.12") {
          try Self.expectForwarding(without: [daemon], to: red2)
        }
      }
    }

    /// One end has the fast path, the other sends trains and single segments of the same stream.
    @Test func withASwitchThatHasNone() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24")
        try Self.use(host1)
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
      }
    }

    /// Datagrams that come in one piece are not one segment, whatever a tenant writes into the
    /// first of them.
    @Test func aTrainThatPassesForASegment() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.daemon(on: host2)
        try host2.ctl(
          "add-br br0 -- add-port br0 vx100 key=100 remote=192.168.5.2 tag=100"
            + " -- add-port br0 vx200 key=200 remote=192.168.5.2 tag=200")
        let red = try lab.container(
          "red", on: host2, by: .veth, address: "172.17.42.22/24", tag: 100)
        _ = try lab.container("blue", on: host2, by: .veth, address: "172.17.42.22/24", tag: 200)
        try host1.must("ping -c 1 -W 1 192.168.5.3")
        try Self.use(host2)
        let sniffer = try Sniffer(in: red)
        try red.must("ping -c 1 -W 1 172.17.42.99 || true")
        let address = try red.must("cat /sys/class/net/eth0/address")
          .trimmingCharacters(in: .whitespacesAndNewlines)
        let before = try Self.received(red)
        try host1.must(
          "python3 $TRAFFIC/liar_stream.py 192.168.5.2 192.168.5.3 100 200 02:00:00:00:0b:ad \(address)"
        )
        #expect(try Self.received(red) - before > 20 * 200, "the conversation itself arrives")
        #expect(try host2.ctl("-f json tunnel show").contains("in use"))
        let heard = try sniffer.stop()
        #expect(heard == [:], "red gets what is blue's: \(heard)")
      }
    }

    /// What changes the network ends what was decided before it is answered.
    @Test(arguments: ["tag", "del-port", "kill"])
    func nothingOutlivesWhatItWasDecidedBy(_ change: String) throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "172.17.42.11/24", tag: 10)
        let blue = try lab.container(
          "blue", on: host, by: .veth, address: "172.17.42.12/24", tag: 10)
        try Self.use(host)
        try Self.stream(from: red, to: blue, at: "172.17.42.12") {
          try Self.expectForwarding(without: [daemon], to: blue)
          switch change {
          case "tag": try host.ctl("set port blue tag=20")
          case "del-port": try host.ctl("del-port br0 red")
          default: try daemon.stop(SIGKILL)
          }
          let rate = try Self.rate(blue)
          // A few frames may be on their way in the queues of the devices when a process is killed.
          #expect(rate < 10_000, "\(rate) bytes in half a second after \(change)")
        }
      }
    }

    /// A station that is heard elsewhere gets its frames there from then on.
    @Test func aStationMoves() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        var containers: [Namespace] = []
        for (number, name) in ["red", "blue", "green"].enumerated() {
          containers.append(
            try lab.container(
              name, on: host, by: .veth, address: "172.17.42.1\(number)/24"))
        }
        let (red, blue, green) = (containers[0], containers[1], containers[2])
        try Self.use(host)
        let address = try blue.must("cat /sys/class/net/eth0/address")
          .trimmingCharacters(in: .whitespacesAndNewlines)
        try red.expectPing("172.17.42.11")
        // Segments of a connection that blue knows nothing of. It says nothing to them, nor
        // anything else.
        try blue.must(
          """
          echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set eth0 arp off
          nft add table ip t && nft 'add chain ip t o { type filter hook output priority 0; policy drop; }'
          """)
        let frame = """
          import socket, struct, time
          out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
          out.bind(("eth0", 0))
          own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
          packet = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1000, 1, 0x4000, 64, 6, 0, \
              socket.inet_aton("172.17.42.10"), socket.inet_aton("172.17.42.11"))
          segment = struct.pack("!HHIIBBHHH", 4000, 4001, 1, 1, 0x50, 0x10, 500, 0, 0)
          frame = bytes.fromhex("\(address)".replace(":", "")) + own + b"\\x08\\x00" + packet + segment
          while True:
              out.send(frame.ljust(1014, b"x"))
              time.sleep(0.0002)
          """
        let sender = try red.start("exec python3 -c '\(frame)'")
        defer { sender.signal(SIGKILL) }
        try Self.expectForwarding(without: [daemon], to: blue, at: 300_000)
        try green.must("ip link set eth0 address \(address)")
        try green.must("ping -c 1 -W 1 172.17.42.99 || true")
        #expect(try Self.rate(blue) < 10_000)
        try Self.expectForwarding(without: [daemon], to: green, at: 300_000)
      }
    }

    /// Containers of a network, who are held to their addresses, on two hosts.
    private func network(_ lab: Lab) throws -> (hosts: [Namespace], containers: [Namespace]) {
      let (host1, host2) = try lab.twoHosts()
      var containers: [Namespace] = []
      for (number, host) in [host1, host2].enumerated() {
        try lab.daemon(on: host)
        try host.ctl(
          "set switch . local_ip=192.168.5.\(2 + number) remotes=192.168.5.\(3 - number)")
        try host.ctl("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64")
        let container = try lab.namespace("red\(number + 1)")
        try host.ctl(
          "attach red \(container.name) eth0 ip=172.17.42.1\(number + 1)/24,fd42::1\(number + 1)/64 "
            + "kind=veth")
        containers.append(container)
      }
      try Self.use(host1, host2)
      return ([host1, host2], containers)
    }

    /// What a port is told that it may send holds for what the kernel forwards, too.
    @Test func addressesAreHeldTo() throws {
      try Lab.run { lab in
        let (hosts, containers) = try network(lab)
        let (red1, red2) = (containers[0], containers[1])
        for family in ["172.17.42.1", "fd42::1"] {
          try red1.expectConversation(at: "\(family)1", with: red2, at: "\(family)2")
        }
        let state = try hosts[0].ctl("show") + hosts[0].ctl("tunnel show")
        #expect(state.contains("fast_path: \"in use\""), "\(state)")
        try Self.stream(from: red1, to: red2, at: "172.17.42.12") {
          try Self.expectForwarding(without: lab.daemons, to: red2)
        }
        // An address that it has not been given, and the same for which there is a decision.
        try red1.must("ip addr add 172.17.42.99/24 dev eth0")
        let refused = try red1.run("ping -c 1 -W 1 -I 172.17.42.99 172.17.42.12")
        #expect(!refused.succeeded)
        try red2.must("ip route add 172.17.42.99/32 dev eth0")
        let spoofed = try red1.run(
          "timeout 2 python3 -c 'import socket; socket.create_connection((\"172.17.42.12\", 22), 1, (\"172.17.42.99\", 0))'"
        )
        #expect(!spoofed.succeeded && spoofed.standardError.contains("timed out"), "\(spoofed)")
        let drops = try hosts[0].drops()
        #expect(drops["eth0@\(red1.name) ip-not-allowed"] ?? 0 > 0, "\(drops)")
      }
    }

    /// A checksum that the kernel writes later makes no other sender of a frame than was looked at.
    @Test(arguments: ["172.17.42.1", "fd42::1"]) func aMisplacedChecksum(_ family: String) throws {
      try Lab.run { lab in
        let (hosts, containers) = try network(lab)
        let (red1, red2) = (containers[0], containers[1])
        try red1.expectConversation(at: "\(family)1", with: red2, at: "\(family)2")
        let listener = try red2.start("exec python3 $TRAFFIC/misplaced_checksum.py listen eth0")
        defer { listener.signal(SIGKILL) }
        try eventually("it listens") { listener.standardOutput.contains("ready") }
        let station = try red2.must("cat /sys/class/net/eth0/address").trimmingCharacters(
          in: .whitespacesAndNewlines)
        let before = try hosts[0].drops()["eth0@\(red1.name) malformed-offload"] ?? 0
        let forms =
          ["right", "right-gso", "source", "target"]
          + (family.contains(":") ? ["source-gso"] : [])
        let taken = try red1.must(
          "python3 $TRAFFIC/misplaced_checksum.py send eth0 \(station) \(family)1 \(family)2 20 "
            + forms.joined(separator: " "))
        #expect(taken.contains("right 20") && taken.contains("source 20"), "\(taken)")
        try eventually("all are counted") {
          try hosts[0].drops()["eth0@\(red1.name) malformed-offload"] ?? 0 >= before + 40
        }
        let heard = Set(listener.standardOutput.split(separator: "\n").map(String.init))
        #expect(heard.contains("right \(family)1") && heard.contains("right-gso \(family)1"))
        for line in heard where line != "ready" {
          #expect(line.hasSuffix(" \(family)1") && line.hasPrefix("right"), "\(line)")
        }
      }
    }

    /// Who captures sees what would go by the kernel, which is used again afterwards.
    @Test func whatIsCapturedComesByTheSwitch() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "172.17.42.11/24")
        let blue = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        try Self.use(host)
        try Self.stream(from: red, to: blue, at: "172.17.42.12") {
          try Self.expectForwarding(without: [daemon], to: blue)
          let captured = try host.ctl("capture red -c 20 tcp port 5201")
          #expect(captured.split(separator: "\n").count >= 20, "\(captured)")
          try Self.expectForwarding(without: [daemon], to: blue)
        }
      }
    }

    @Test func whereItCannotBe() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .veth, address: "172.17.42.12/24")
        try host1.must("ethtool -K eth0 tx-udp_tnl-segmentation off")
        let refused = try host1.ctl(["set", "switch", ".", "other_config:fast-path=yes"])
        #expect(
          !refused.succeeded
            && refused.standardError.contains("\"yes\" is not one of auto, on and off"))
        try Self.use(host1, host2)
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
        let tunnels = try host1.ctl("-f json tunnel show")
        #expect(
          tunnels.contains(
            "off: eth0 does not segment tunnels (tx-udp_tnl-segmentation is off)"), "\(tunnels)")
        #expect(
          try host1.ctl("show").contains(
            "off: the device is no veth whose other end is in another network namespace"))
        try host2.ctl("remove switch . other_config fast-path")
        #expect(try !host2.ctl("show").contains("fast_path"))
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
      }
    }

    /// By itself it is used where it passes by none of the host's rules, and not where there are
    /// some; the other hosts' rules are theirs.
    @Test func byItself() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let daemons = [
          try lab.overlay(on: host1, remotes: [2]), try lab.overlay(on: host2, remotes: [1]),
        ]
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .veth, address: "172.17.42.12/24")
        for host in [host1, host2] { try host.ctl("set switch . other_config:fast-path=auto") }
        func expect(_ host: Namespace, _ words: String) throws {
          try eventually("\(host.name) says \(words)") {
            try host.ctl("-f json tunnel show").contains(words)
          }
        }
        // The switch's own rules, and a gateway's, are not meant for its packets; a chain without
        // rules does nothing, nor does one that others jump to or that sees what is forwarded.
        try host1.must(
          """
          nft 'add table inet ovx; add chain inet ovx out { type nat hook postrouting priority 100; };
            add rule inet ovx out counter;
            add table ip filter; add chain ip filter input { type filter hook input priority 0; };
            add chain ip filter own; add rule ip filter own counter drop;
            add chain ip filter forward { type filter hook forward priority 0; policy drop; };'
          """)
        #expect(try host1.must("nft list tables").contains("ovx-underlay-"))
        usleep(1_500_000)
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
        #expect(try host1.ctl("-f json tunnel show").contains("in use"))
        try Self.stream(from: red1, to: red2, at: "172.17.42.12") {
          try Self.expectForwarding(without: daemons, to: red2)
          for rule in [
            "ip filter input udp dport 4789 counter",
            "inet guard output 'type filter hook output priority 0; policy drop;'",
            "netdev guard eth0 'type filter hook ingress device eth0 priority 0;'",
          ] {
            let words = rule.split(separator: " ", maxSplits: 3).map(String.init)
            let name = "chain \(words[2]) of table \(words[0]) \(words[1])"
            if words[1] == "guard" {
              let accept = words[0] == "inet" ? "accept" : "counter"
              try host1.must(
                """
                nft 'add table \(words[0]) guard; add chain \(words[0]) guard \(words[2]) { \(words[3].dropFirst().dropLast()) };
                  add rule \(words[0]) guard \(words[2]) \(accept)'
                """)
            } else {
              try host1.must("nft add rule \(rule)")
            }
            try expect(host1, name)
            // All of the stream goes by the rule, and none of it is lost.
            #expect(try Self.rate(red2) > 2_000_000)
            try host1.must(
              words[1] == "guard"
                ? "nft delete table \(words[0]) guard" : "nft flush chain ip filter input")
            try expect(host1, "in use")
          }
          #expect(try host2.ctl("-f json tunnel show").contains("in use"))
          if try host1.run("ip xfrm policy list").succeeded {
            try host1.must("ip xfrm policy add src 10.1.1.1 dst 10.1.1.2 dir out action block")
            try expect(host1, "policies of IPsec")
            try host1.must("ip xfrm policy flush")
            try expect(host1, "in use")
          } else {
            print("byItself: without IPsec, which this kernel does not have")
          }
          try Self.expectForwarding(without: daemons, to: red2)
        }
      }
    }

    /// Without the right to load programs the switch does all by itself, and says why.
    @Test func withoutTheRights() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        lab.expectLog("lacks CAP_SYS_ADMIN")
        try lab.daemon(
          on: host,
          through: ["setpriv", "--bounding-set", "-sys_admin,-bpf,-perfmon"])
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "172.17.42.11/24")
        let blue = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        try Self.use(host)
        let shown = try host.ctl("show")
        #expect(shown.contains("off: ") && shown.contains("CAP_BPF"), "\(shown)")
        try red.expectConversation(at: "172.17.42.11", with: blue, at: "172.17.42.12")
      }
    }
  }
}
