import Foundation
import Testing

extension SystemTests {
  /// What an operator is shown of frames: captured ones, and those that were only thought of.
  @Suite struct SeeingTests {
    /// Two hosts with a container each, c1 at 10.0.0.1 and c2 at 10.0.0.2, that can reach each
    /// other.
    private func twoContainers(_ lab: Lab) throws -> (
      hosts: (Namespace, Namespace), containers: (Namespace, Namespace)
    ) {
      let (host1, host2) = try lab.twoHosts()
      try lab.daemon(on: host1)
      try lab.daemon(on: host2)
      try host1.ctl("add-br br0 -- add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3")
      try host2.ctl("add-br br0 -- add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.2")
      let c1 = try lab.container("c1", on: host1, by: .veth, address: "10.0.0.1/24", tag: 100)
      let c2 = try lab.container("c2", on: host2, by: .veth, address: "10.0.0.2/24", tag: 100)
      try c1.expectPing("10.0.0.2")
      return ((host1, host2), (c1, c2))
    }

    /// What `show --links` prints of a port.
    private struct OtherEnd: Decodable {
      var port: String
      var index: Int?
      var peer: String?
      var peerIndex: Int?
      var namespace: Place?
      var addresses: [String]
      var remotes: [String]

      struct Place: Decodable {
        var name: String?
        var pid: pid_t?
      }
    }

    /// Starts a capture and waits until it runs.
    private func capture(_ words: String, on host: Namespace) throws -> Command {
      let command = try host.start("exec ovx-ctl capture \(words)")
      try eventually("capture \(words) runs") {
        guard command.isRunning else { throw LabError(command.standardError) }
        return command.standardError.contains("Ctrl-C")
      }
      return command
    }

    private func end(_ capture: Command, by signal: Int32 = SIGINT) throws -> Output {
      capture.signal(signal)
      return try capture.finish(seconds: 10)
    }

    /// What tcpdump reads in a file, a line for each packet, tunnelled ones on one line with what
    /// is inside.
    private func read(_ file: URL, _ host: Namespace) throws -> [String] {
      var lines: [String] = []
      for line in try host.must("tcpdump -tnr \(file.path) 2>/dev/null").split(separator: "\n") {
        if lines.last?.contains("VXLAN") == true, !line.contains("VXLAN") {
          lines[lines.count - 1] += " | " + line
        } else {
          lines.append(String(line))
        }
      }
      return lines
    }

    /// What is lost for a container whose interface is down, or for a remote host without a switch,
    /// says so.
    @Test func lossesOfWhoIsDownSayWhoIsDown() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host1, by: .veth, address: "172.17.42.12/24")
        try red2.expectPing("172.17.42.11")
        let mac = try red1.must("cat /sys/class/net/eth0/address")
          .trimmingCharacters(in: .whitespacesAndNewlines)
        try red1.must("ip link set eth0 down")
        try red2.must("ip neigh replace 172.17.42.11 lladdr \(mac) dev eth0 nud permanent")
        try eventually("the container is down") {
          _ = try red2.run("ping -c 1 -W 1 172.17.42.11")
          return try host1.drops().contains { $0.key.hasSuffix(" device-down") }
        }
        #expect(try !host1.drops().keys.contains { $0.hasSuffix(" device-full") })
        try red2.must(
          "ip neigh replace 172.17.42.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
        try eventually("nobody listens") {
          _ = try red2.run("ping -c 1 -W 1 172.17.42.99")
          return try host1.drops()["vxlan0 remote-not-listening", default: 0] > 0
        }
        #expect(try !host1.drops().keys.contains { $0.hasPrefix("- ") })
      }
    }

    /// Each kind of port says whom it leads to: where `ethtool -S` and `ip link` had to be put
    /// together.
    @Test func theOtherEndOfEachPort() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        let named = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let attached = try lab.container("red2", on: host1, by: .tap, address: "172.17.42.12/24")
        let hidden = try host1.start("exec unshare -n sleep 60")
        try host1.must("ip link add v3 type veth peer name v3x")
        try eventually("the namespace is there") {
          try host1.run("ip link set v3x netns \(hidden.pid) name eth7").succeeded
        }
        try host1.must("nsenter -n -t \(hidden.pid) ip addr add 172.17.42.13/24 dev eth7")
        try host1.must("ip link add v4 type veth peer name v4x; ip addr add 10.4.0.1/24 dev v4x")
        try host1.ctl("add-port br0 v3 -- add-port br0 v4")
        let text = try host1.ctl("-f json show --links br0")
        let ends = try JSONDecoder().decode([OtherEnd].self, from: Data(text.utf8))
        func end(_ port: String) throws -> OtherEnd {
          try #require(ends.first { $0.port == port }, "\(text)")
        }
        func index(_ device: String, _ namespace: Namespace) throws -> Int? {
          let text = try namespace.must("cat /sys/class/net/\(device)/ifindex")
          return Int(text.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        let veth = try #require(ends.first { $0.namespace?.name == named.name }, "\(text)")
        #expect(try veth.peer == "eth0" && veth.peerIndex == index("eth0", named))
        #expect(veth.addresses.contains("172.17.42.11/24") && veth.index != nil)
        let inside = try end("eth0@\(attached.name)")
        #expect(inside.peer == "eth0" && inside.namespace?.name == attached.name)
        #expect(try inside.peerIndex == index("eth0", attached) && inside.index == nil)
        let process = try end("v3")
        #expect(process.peer == "eth7" && process.namespace?.pid == hidden.pid, "\(text)")
        #expect(process.addresses == ["172.17.42.13/24"])
        let here = try end("v4")
        #expect(try here.peer == "v4x" && here.namespace == nil && here.index == index("v4", host1))
        #expect(try end("vxlan0").remotes == ["192.168.5.3"])
        #expect(try end("br0").peer == "br0")
        #expect(try host1.ctl("show --links").contains("pid \(hidden.pid)"))
        // The process takes its namespace along, and v3 with it.
        try host1.ctl("del-port v3")
        hidden.signal(SIGKILL)
      }
    }

    @Test func aTunnelsCaptureIsWhatIsOnTheWire() throws {
      try Lab.run { lab in
        let ((host1, _), (c1, _)) = try twoContainers(lab)
        let wireFile = lab.directory.appendingPathComponent("wire.pcap")
        let file = lab.directory.appendingPathComponent("tunnel.pcap")
        let inner = lab.directory.appendingPathComponent("bridge.pcap")
        let wire = try host1.start(
          "exec tcpdump --immediate-mode -Uni eth0 -w \(wireFile.path) udp port 4789")
        try eventually("tcpdump runs") { wire.standardError.contains("listening on") }
        let tunnel = try capture("vxlan0 -w \(file.path) host 192.168.5.3", on: host1)
        let bridge = try capture("br0 -w \(inner.path) icmp", on: host1)
        try c1.must("ping -c 10 -i 0.05 -s 700 10.0.0.2")
        let output = try end(tunnel)
        #expect(output.succeeded && output.standardError.contains(" 0 lost"), "\(output)")
        let bridgeOutput = try end(bridge, by: SIGTERM)
        #expect(
          bridgeOutput.standardError.contains("20 frames captured, 0 lost"), "\(bridgeOutput)")
        let pings = { (lines: [String]) in lines.filter { $0.contains("ICMP echo") } }
        try eventually("tcpdump has written all pings") {
          pings(try read(wireFile, host1)).count >= 20
        }
        wire.signal(SIGINT)
        _ = try wire.finish(seconds: 10)
        let seen = pings(try read(file, host1))
        #expect(seen.count == 20)
        #expect(seen.contains { $0.hasPrefix("IP 192.168.5.2.") && $0.contains("vni 100") })
        // Addresses, both UDP ports, VNI, lengths, and everything inside: as the kernel saw it
        // leave and arrive.
        let onTheWire = pings(try read(wireFile, host1))
        #expect(
          onTheWire.sorted() == seen.sorted(),
          "\(Set(onTheWire).symmetricDifference(seen).sorted().joined(separator: "\n"))")
        let within = try read(inner, host1)
        #expect(within.count == 20)
        #expect(within.allSatisfy { $0.contains("ICMP echo") && !$0.contains("VXLAN") })
      }
    }

    @Test func theFilterAndTheCountAreKept() throws {
      try Lab.run { lab in
        let ((host1, _), (c1, c2)) = try twoContainers(lab)
        let file = lab.directory.appendingPathComponent("icmp.pcap")
        let filtered = try capture("c1 -w \(file.path) icmp and host 10.0.0.2", on: host1)
        let counted = try capture("c1 -c 3", on: host1)
        let json = try host1.start("exec ovx-ctl -f json capture c1 -c 2 icmp")
        try eventually("the third capture runs") { json.standardError.contains("Ctrl-C") }
        try c1.expectTransfer(1_000_000, to: c2, at: "10.0.0.2")
        try c1.must("ping -c 4 -i 0.1 10.0.0.2")
        let output = try end(filtered)
        #expect(output.standardError.contains("8 frames captured, 0 lost"), "\(output)")
        #expect(try read(file, host1).count == 8)
        #expect(try read(file, host1).allSatisfy { $0.contains("ICMP echo") })
        let lines = try counted.finish(seconds: 10).standardOutput.split(separator: "\n")
        #expect(lines.count == 3, "\(lines)")
        let documents = try json.finish(seconds: 10).standardOutput.split(separator: "\n")
        #expect(documents.count == 2)
        struct Document: Decodable {
          var port: String
          var direction: String
          var length: Int
          var bytes: String
        }
        for text in documents {
          let document = try JSONDecoder().decode(Document.self, from: Data(text.utf8))
          #expect(document.port == "c1" && document.bytes.count == 2 * document.length)
        }
      }
    }

    @Test func captureToStandardOutputIsPcap() throws {
      try Lab.run { lab in
        let ((host1, _), (c1, _)) = try twoContainers(lab)
        let pipeline = try host1.start("ovx-ctl capture c1 -w - -c 2 icmp | tcpdump -tnr -")
        try eventually("it runs") { pipeline.standardError.contains("Ctrl-C") }
        try c1.must("ping -c 2 -i 0.1 10.0.0.2")
        let lines = try pipeline.finish(seconds: 10).standardOutput.split(separator: "\n")
        #expect(lines.count == 2 && lines.allSatisfy { $0.contains("ICMP echo") }, "\(lines)")
        let refused = try host1.ctl(["capture", "c1", "-w", "/nodirectory/file"])
        #expect(refused.status == 1 && refused.standardError.contains("/nodirectory/file"))
      }
    }

    @Test func noMoreThanEightAndEachEndsWithItsReader() throws {
      try Lab.run { lab in
        let ((host1, _), (c1, _)) = try twoContainers(lab)
        var captures = try (0..<8).map { _ in try capture("c1", on: host1) }
        for _ in 0..<8 {
          let refused = try host1.ctl(["capture", "c1"])
          #expect(refused.status == 1 && refused.standardError.contains("8 captures"), "\(refused)")
        }
        let first = try end(captures.removeFirst())
        #expect(first.succeeded)
        captures.append(try capture("vxlan0", on: host1))
        // Killed while frames come: the daemon notices by itself, and nobody else does.
        let ping = try c1.start("exec ping -c 40 -i 0.05 -W 1 10.0.0.2")
        for capture in captures { capture.signal(SIGKILL) }
        for capture in captures { _ = capture.wait(seconds: 5) }
        try eventually("there is room for eight again", within: 5) {
          var again: [Command] = []
          defer { for capture in again { _ = try? end(capture) } }
          for _ in 0..<8 {
            guard let capture = try? capture("br0", on: host1) else { return false }
            again.append(capture)
          }
          return true
        }
        #expect(try ping.finish(seconds: 10).standardOutput.contains(" 40 received"))
      }
    }

    @Test func aReaderThatStopsLosesFramesAndDelaysNone() throws {
      try Lab.run { lab in
        let ((host1, _), (c1, c2)) = try twoContainers(lab)
        let slow = try capture("c1", on: host1)
        slow.signal(SIGSTOP)
        try c1.expectTransfer(60_000_000, to: c2, at: "10.0.0.2")
        try c1.must("ping -c 5 -i 0.05 -W 1 10.0.0.2")
        slow.signal(SIGCONT)
        let output = try end(slow)
        let counts = output.standardError.matches(of: /(\d+) frames captured, (\d+) lost/).last
        #expect(counts.flatMap { Int($0.2) } ?? 0 > 0, "\(output.standardError)")
      }
    }

    @Test func aCaptureEndsWithItsPort() throws {
      try Lab.run { lab in
        let ((host1, _), _) = try twoContainers(lab)
        let port = try capture("c1", on: host1)
        let tunnel = try capture("vxlan0", on: host1)
        let bridge = try capture("br0", on: host1)
        try host1.ctl("del-port c1")
        #expect(try port.finish(seconds: 5).status == 1)
        #expect(tunnel.isRunning && bridge.isRunning)
        try host1.ctl("del-br br0")
        #expect(try tunnel.finish(seconds: 5).standardError.contains("is gone"))
        #expect(try bridge.finish(seconds: 5).status == 1)
      }
    }

    @Test func aTraceTellsWhatHappensAndChangesNothing() throws {
      try Lab.run { lab in
        let ((host1, _), (c1, _)) = try twoContainers(lab)
        let mac1 = try c1.must("cat /sys/class/net/eth0/address").trimmed
        let frame = "icmp,src=\(mac1),dst=ff:ff:ff:ff:ff:ff,ip_src=10.0.0.1,ip_dst=10.0.0.255"
        let before = try host1.ctl("-f json stats") + host1.ctl("fdb stats")
        let text = try host1.ctl("trace br0 c1 \(frame)")
        #expect(text.contains("VLAN 100 of br0, VNI 100"), "\(text)")
        #expect(text.contains("send     by vxlan0 to 192.168.5.3, VNI 100"), "\(text)")
        #expect(text.contains("verdict  sent by br0, vxlan0 (192.168.5.3)"), "\(text)")
        #expect(text.contains("tos 0x0, ttl 64"), "\(text)")
        try host1.ctl("set Interface vxlan0 options:tos=0x28 options:ttl=9")
        let marked = try host1.ctl("trace br0 c1 \(frame),tos=0x2,ttl=7")
        #expect(marked.contains("tos 0x2a, ttl 9"), "\(marked)")
        try host1.ctl("set Interface vxlan0 options:tos=inherit options:ttl=inherit")
        let inherited = try host1.ctl("trace br0 c1 \(frame),tos=0xb8,ttl=7")
        #expect(inherited.contains("tos 0xb8, ttl 7"), "\(inherited)")
        try host1.ctl("remove Interface vxlan0 options tos -- remove Interface vxlan0 options ttl")
        // A whole packet of the underlay is taken with its mark, which the packet inside cannot
        // bear.
        let inside = "ffffffffffff0200000000ee08004500001400010000400100000a0000090a0000ff"
        let outer =
          "02000000000102000000000208004503004600010000401100 00c0a80503c0a80502c00012b50032 0000"
          .replacing(" ", with: "")
        let congested = try host1.ctl(
          "trace br0 vxlan0 \(outer)0800000000006400\(inside)")
        #expect(congested.contains("dropped (vxlan0: congestion-experienced)"), "\(congested)")
        let strange = try host1.ctl(
          "trace br0 c1 tcp,src=02:00:00:00:00:99,dst=\(mac1),size=1400")
        #expect(strange.contains("dropped (c1: same-port)"), "\(strange)")
        let tagged = try host1.ctl("trace br0 c1 \(frame),vlan=7")
        #expect(tagged.contains("dropped (c1: tagged-on-access-port)"), "\(tagged)")
        let stranger = try host1.ctl("trace br0 vxlan0 \(frame),tun_src=192.168.5.77")
        #expect(stranger.contains("dropped (unknown-vtep)"), "\(stranger)")
        let large = try host1.ctl("trace br0 c1 \(frame),size=1465")
        #expect(large.contains("vxlan0: exceeds-tunnel-mtu"), "\(large)")
        #expect(try !host1.ctl("fdb show br0").contains("02:00:00:00:00:99"))
        // Stations say something by themselves now and then: nothing but that may be counted.
        let after = try host1.ctl("-f json stats") + host1.ctl("fdb stats")
        #expect(!after.contains("tagged-on-access-port") && !after.contains("same-port"))
        #expect(before.contains("\"drops\"") && !after.contains("exceeds-tunnel-mtu"))
      }
    }
  }
}

extension String {
  fileprivate var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}
