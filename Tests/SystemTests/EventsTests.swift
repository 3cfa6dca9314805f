import Foundation
import Testing

extension SystemTests {
  /// `ovx-ctl events`, and `ovx-ctl capture --drops`: what has happened, and what was lost.
  @Suite struct EventsTests {
    private struct Event: Decodable {
      var kind: String
      var text: String
      var uid: Int?
      var pid: Int?
      var port: String?
      var bridge: String?
      var count: Int
    }

    private func events(_ words: String, on host: Namespace) throws -> [Event] {
      try JSONDecoder().decode(
        [Event].self, from: Data(try host.ctl("-f json events \(words)").utf8))
    }

    @Test func whatHappensIsTold() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        try host.must("ip link add veth1 type veth peer name peer1 && ip link set veth1 up")
        try host.must("ip link set peer1 up")
        let follower = try host.start("exec ovx-ctl events --follow")
        try host.ctl("add-port br0 veth1 tag=100")
        _ = try host.ctl(["add-port", "br9", "veth1"])
        for _ in 0..<3 {
          try host.must("ip link set peer1 down")
          try eventually("it is down") { try host.ctl("show").contains("link_state: down") }
          try host.must("ip link set peer1 up")
          try eventually("it is up") { try !host.ctl("show").contains("link_state: down") }
        }
        lab.expectLog("port veth1 waits")
        try host.must("ip link del veth1")
        try eventually("it is out of service") {
          try events("veth1", on: host).contains { $0.kind == "outage" }
        }
        try host.must("ip link add veth1 type veth peer name peer1 && ip link set veth1 up")
        try eventually("it is back") {
          try events("veth1", on: host).contains { $0.kind == "recovery" }
        }
        let all = try events("", on: host)
        #expect(all.first?.kind == "start")
        let change = try #require(all.first { $0.text == "add-port br0 veth1 tag=100" })
        #expect(change.kind == "change" && change.uid == 0 && (change.pid ?? 0) > 1)
        try host.must(
          "ovx-ctl --if-exists del-br nosuch && ovx-ctl --may-exist add-br br0 && ovx-ctl detach --stale"
        )
        // Whoever begins to listen is told of, although he changes nothing.
        try host.must(
          "timeout 20 ovx-ctl capture veth1 -c 1 >/dev/null 2>&1 & echo $! >\(host.rundir)/c")
        try eventually("the capture is in the history") {
          try events("", on: host).contains { $0.text.hasPrefix("capture veth1") }
        }
        try host.must("kill $(cat \(host.rundir)/c)")
        let later = try events("", on: host).filter { !$0.text.hasPrefix("capture") }
        #expect(later.count { $0.kind == "change" } == all.count { $0.kind == "change" })
        let refusal = try #require(all.first { $0.kind == "refusal" })
        #expect(refusal.text.hasPrefix("add-port br9 veth1: no bridge named br9"))
        for kind in ["link-down", "link-up"] {
          let flap = try #require(all.first { $0.kind == kind }, "\(kind)")
          #expect(flap.port == "veth1" && flap.bridge == "br0" && flap.count >= 3, "\(flap)")
        }
        #expect(try events("--since 1s nothing", on: host).isEmpty)
        #expect(try events("-n 2", on: host).count == 2)
        try eventually("the follower was told") {
          let text = follower.standardOutput
          return text.contains("starts") && text.contains("is up (3 times")
            && text.contains("outage")
        }
        follower.signal(SIGINT)
        _ = follower.wait(seconds: 5)

        // What has happened is known after a restart, and after the process was killed.
        try daemon.stop(SIGTERM)
        let second = try lab.daemon(on: host)
        let kept = try events("", on: host)
        #expect(kept.prefix(all.count).map(\.text) == all.map(\.text))
        #expect(kept.contains { $0.kind == "stop" })
        #expect(kept.last { $0.kind == "start" }?.text.contains("killed") == false)
        try host.ctl("add-br br1")
        // It is written some seconds later.
        try eventually("it is written", within: 15) {
          let file = try host.must(
            "cat \(host.rundir)/conf.db \(host.rundir)/conf.db-wal | strings")
          return file.contains("add-br br1")
        }
        _ = try second.stop(SIGKILL)
        try lab.daemon(on: host)
        let last = try events("", on: host)
        #expect(last.contains { $0.text == "add-br br1" })
        #expect(last.last { $0.kind == "start" }?.text.contains("was killed") == true)
      }
    }

    @Test func whatIsDroppedIsShownWithItsReason() throws {
      try Lab.run { lab in
        let (host, other) = try lab.twoHosts()
        try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3")
        let red = try lab.container("c1", on: host, by: .veth, address: "10.0.0.1/24", tag: 100)
        let file = lab.directory.appendingPathComponent("drops.pcapng").path
        func capture(_ words: String) throws -> Command {
          let command = try host.start("exec ovx-ctl capture --drops \(words)")
          try eventually("capture --drops \(words) runs") {
            guard command.isRunning else { throw LabError(command.standardError) }
            return command.standardError.contains("Ctrl-C")
          }
          return command
        }
        let all = try capture("-w \(file)")
        let ofPort = try capture("c1")
        let ofTunnel = try capture("vxlan0")
        // A frame with a tag at an access port, one to a reserved address, and a datagram of a VNI
        // that there is not.
        let script = Lab.packageRoot.appendingPathComponent(
          "Tests/SystemTests/Traffic/send_frame.py"
        ).path
        let tagged = "02000000000902000000000181000005080045" + String(repeating: "42", count: 50)
        let reserved = "0180c20000000200000000010026" + String(repeating: "43", count: 50)
        for frame in [tagged, reserved] { try red.must("python3 \(script) eth0 1 \(frame)") }
        let datagram = "0800000000ffff00" + String(repeating: "44", count: 60)
        try other.must(
          "python3 -c 'import socket; socket.socket(2, 2).sendto(bytes.fromhex(\"\(datagram)\"), (\"192.168.5.2\", 4789))'"
        )
        try eventually("all three are counted") {
          let drops = try host.ctl("drops")
          return ["tagged-on-access-port", "reserved-destination", "unknown-vni"]
            .allSatisfy(drops.contains)
        }
        try red.must("ping -c 1 -W 1 10.0.0.77 || true")
        func end(_ command: Command) throws -> Output {
          command.signal(SIGINT)
          return try command.finish(seconds: 10)
        }
        let output = try end(all)
        #expect(output.standardError.contains(" 0 lost"), "\(output)")
        let lines = try end(ofPort).standardOutput
        #expect(
          lines.contains(
            "c1 in  tagged-on-access-port: 02:00:00:00:00:01 > 02:00:00:00:00:09, vlan 5"))
        #expect(lines.contains("c1 in  reserved-destination:") && !lines.contains("unknown-vni"))
        #expect(try !end(ofTunnel).standardOutput.contains("reserved"))
        // What Wireshark makes of it.
        let fields = try host.must(
          "tshark -r \(file) -T fields -e frame.interface_name -e frame.packet_flags_direction -e frame.comment "
            + "-e eth.src -e vlan.id -e vxlan.vni 2>/dev/null"
        ).split(separator: "\n").map { $0.split(separator: "\t", omittingEmptySubsequences: false) }
        func packet(_ reason: String) throws -> [Substring] {
          try #require(
            fields.first { $0.count > 2 && $0[2].hasPrefix(reason + ": ") },
            "\(reason) in \(fields)")
        }
        let first = try packet("tagged-on-access-port")
        #expect(first[0] == "c1" && first[1].hasSuffix("1") && first[4] == "5", "\(first)")
        #expect(first[3] == "02:00:00:00:00:01")
        #expect(try packet("reserved-destination")[0] == "c1")
        let outer = try packet("unknown-vni")
        #expect(outer[0] == "none" && outer[5] == "65535", "\(outer)")
      }
    }

    /// A flood that is dropped holds nobody up, and what a capture has no room for it counts.
    @Test func aFloodOfDropsIsCounted() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("c1", on: host, by: .veth, address: "10.0.0.1/24", tag: 100)
        let blue = try lab.container("c2", on: host, by: .veth, address: "10.0.0.2/24", tag: 200)
        let green = try lab.container("c3", on: host, by: .veth, address: "10.0.0.3/24", tag: 200)
        _ = green
        let slow = try host.start("exec ovx-ctl -f json capture --drops c1")
        try eventually("it runs") { slow.standardError.contains("Ctrl-C") }
        slow.signal(SIGSTOP)
        try red.must(
          """
          python3 -c '
          import socket
          s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
          frame = bytes.fromhex("0180c2000000020000000001" + "0026") + b"x" * 1400
          for _ in range(20000): s.send(frame)
          '
          """)
        try blue.expectPing("10.0.0.3")
        try eventually("they are counted") {
          let row = try host.ctl("-f csv drops").split(separator: "\n")
            .first { $0.contains("reserved-destination") }
          return Int(row?.split(separator: ",")[2] ?? "0") ?? 0 > 10000
        }
        slow.signal(SIGCONT)
        try eventually("it has read") { slow.standardOutput.contains("reserved") }
        slow.signal(SIGINT)
        let output = try slow.finish(seconds: 20)
        let counts = try #require(
          output.standardError.firstMatch(of: /(\d+) frames captured, (\d+) lost/), "\(output)")
        let lost = Int(counts.2) ?? 0
        #expect((Int(counts.1) ?? 0) > 1000 && lost > 1000, "\(counts.0)")
        // All that the port has dropped of these is one or the other.
        let row = try host.ctl("-f csv drops").split(separator: "\n")
          .first { $0.contains("reserved-destination") }
        let dropped = Int(row?.split(separator: ",")[2] ?? "0") ?? 0
        let told = (Int(counts.1) ?? 0) + lost
        #expect(told >= dropped && told <= dropped + 200, "\(told) of \(dropped)")
      }
    }
  }
}
