import Foundation
import OVXControl
import Testing

extension SystemTests {
  /// What users of Open vSwitch rely on, from its own tests, as black boxes.
  ///
  /// Others of the kind are where they belong: interoperation, segmentation, VLANs, bad input,
  /// restarts.
  @Suite struct AcceptanceTests {
    /// A listening socket lives as long as a tunnel that needs it, and no longer.
    @Test func listeningSockets() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        try lab.daemon(on: host)
        func listeners() throws -> [String: [String]] {
          let tunnels = try JSONDecoder().decode(
            Tunnels.self, from: Data(host.ctl("-f json tunnel show").utf8))
          let known = tunnels.listeners.map { ("\($0.port)", $0.tunnels.sorted()) }
          // The kernel is asked, too.
          let sockets = try host.must("ss -ulnH | awk '{print $4}'")
          for (port, _) in known { #expect(sockets.contains(":\(port)\n"), "\(sockets)") }
          for port in ["4789", "4790"] where !known.contains(where: { $0.0 == port }) {
            #expect(!sockets.contains(":\(port)\n"), "\(sockets)")
          }
          return Dictionary(uniqueKeysWithValues: known)
        }
        try host.ctl("add-br br0 -- set port br0 tag=9")
        #expect(try listeners() == [:])
        for key in 1...3 {
          try host.ctl("add-port br0 vx\(key) key=\(key) remote=192.168.5.3 tag=\(key)")
        }
        #expect(try listeners() == ["4789": ["vx1", "vx2", "vx3"]])
        try host.ctl("del-port vx1")
        #expect(try listeners() == ["4789": ["vx2", "vx3"]])
        try host.ctl("set interface vx2 options:dst_port=4790")
        #expect(try listeners() == ["4789": ["vx3"], "4790": ["vx2"]])
        try host.ctl("remove interface vx2 options dst_port")
        #expect(try listeners() == ["4789": ["vx2", "vx3"]])
        try host.ctl(
          "del-port vx2 -- del-port vx3 -- add-port br0 again key=2 remote=192.168.5.3 tag=2")
        #expect(try listeners() == ["4789": ["again"]])
        // Another type, and back.
        try host.ctl("set interface again type=tap -- clear interface again options")
        #expect(try listeners() == [:])
        try host.ctl(
          "set interface again type=vxlan options:key=2 options:remote_ip=192.168.5.3")
        #expect(try listeners() == ["4789": ["again"]])
        try host.ctl("del-port again")
        #expect(try listeners() == [:])
      }
    }

    /// Who sent it, to which of the own addresses, and by which VNI: the tunnel that says most of
    /// that gets a frame.
    @Test func tunnelsByKeyAndAddress() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try host1.must("ip addr add 192.168.5.22/24 dev eth0; ip addr add 192.168.5.23/24 dev eth0")
        try host2.must("ip addr add 192.168.5.99/24 dev eth0")
        let (own, far) = (Family.ipv4.address(1), Family.ipv4.address(2))
        try lab.daemon(on: host1)
        try host1.ctl(
          "add-br br0"
            + " -- add-port br0 a tag=1 key=1 remote=\(far)"
            + " -- add-port br0 special tag=1 key=1 local=192.168.5.22 remote=\(far)"
            + " -- add-port br0 b tag=2 remote=\(far) options:in_key=2 options:out_key=3"
            + " -- add-port br0 c tag=3 remote=\(far) options:out_key=5")
        let trunk = try lab.container(
          "trunk", on: host1, by: .veth, address: "172.17.42.11/24")
        let names = ["a", "special", "b", "c"]
        let frame = "ffffffffffff" + "020000000012" + "88b5" + String(repeating: "00", count: 46)
        func counts() throws -> [String: UInt64] {
          let ports = try JSONDecoder().decode(
            [PortStatistics].self, from: Data(host1.ctl("-f json stats").utf8))
          return Dictionary(uniqueKeysWithValues: ports.map { ($0.port, $0.receivedFrames) })
        }
        /// Which port gets a frame with a VNI; or which reason it is dropped for.
        func way(_ vni: Int, from source: String = far, to destination: String = own) throws
          -> String
        {
          let before = try counts()
          let dropsBefore = try host1.drops()
          try host2.must(
            "python3 $TRAFFIC/send_vxlan.py \(source) \(destination) 1 08000000"
              + String(format: "%06x00 ", vni) + frame)
          var ways: [String] = []
          try eventually("VNI \(vni) from \(source) to \(destination) is counted", within: 3) {
            let after = try counts()
            ways = names.filter { after[$0] != before[$0] }
            for (key, value) in try host1.drops()
            where key.hasPrefix("- ") && value != dropsBefore[key] {
              ways.append(String(key.dropFirst(2)))
            }
            return !ways.isEmpty
          }
          return ways.joined(separator: " ")
        }
        #expect(try way(1) == "a")
        #expect(try way(2) == "b")
        #expect(try way(0) == "c")
        for vni in [3, 5, 15] { #expect(try way(vni) == "unknown-vni") }
        #expect(try way(1, from: "192.168.5.99") == "unknown-vtep")
        #expect(try host1.ctl("drops").contains("Lately from 192.168.5.99."))
        #expect(try way(1, to: "192.168.5.22") == "special")
        #expect(try way(1, to: "192.168.5.23") == "a")
        #expect(try way(2, to: "192.168.5.22") == "b")
        // Moved while in use: the former address is the less special one's.
        try host1.ctl("set Interface special options:local_ip=192.168.5.23")
        #expect(try way(1, to: "192.168.5.22") == "a")
        #expect(try way(1, to: "192.168.5.23") == "special")
        try host1.ctl("del-port special")
        #expect(try way(1, to: "192.168.5.23") == "a")

        // What leaves has the other key.
        let sent = try host1.datagrams {
          for tag in 1...3 {
            try trunk.must(
              "python3 $TRAFFIC/send_frame.py eth0 1 ffffffffffff020000000099"
                + String(format: "8100%04x", tag) + "88b5" + String(repeating: "00", count: 46))
          }
        }.filter { $0.inner.hasPrefix("ffffffffffff020000000099") }
        #expect(sent.map(\.vni).sorted() == [1, 3, 5])
        let shown = try host1.ctl("tunnel show")
        #expect(shown.contains("VNI-out"), "\(shown)")
      }
    }

    /// The ends of the VNI's range, over the kernel's device as the far VTEP.
    @Test(arguments: [0, 0xFF_FFFF])
    func extremeKeys(_ vni: Int) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, vni: vni, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try host2.makeKernelVTEP(vni: vni, family: .ipv4, number: 2, remote: 1, ports: ["red2"])
        for size in [56, 1600, 3200] { try red1.expectPing("172.17.42.12", size: size) }
        try red1.expectTransfer(60_000, to: red2, at: "172.17.42.12")
        try red2.expectTransfer(60_000, to: red1, at: "172.17.42.11")
      }
    }

    /// Packets that contradict themselves, from a container and from the underlay, while others
    /// talk.
    @Test func contradictionsDisturbNobody() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          // The hosts send, too.
          try lab.overlay(
            on: host, remotes: [3 - number], arguments: ["--no-underlay-filter"])
        }
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24")
        try red1.expectPing("172.17.42.12")
        /// From a station of its own for each way in: it is not to seem to move.
        func frames(from source: String) -> [String] {
          func packet(_ header: String, _ rest: String) -> String {
            "020000000012" + source + header + rest + String(repeating: "00", count: 30)
          }
          let addresses = "ac112a0bac112a0c"
          let tcp = { (offset: String) in "03e800090000000100000001\(offset)" }
          return [
            packet(
              "0800", "45000028000140004006" + "0000" + addresses + tcp("10") + "10ffff00000000"),
            packet(
              "0800", "45000028000140004006" + "0000" + addresses + tcp("f0") + "10ffff00000000"),
            // IHL * 4 > total length; total length > frame; IHL below 5; protocol 0.
            packet("0800", "4f000018000140004011" + "0000" + addresses),
            packet("0800", "4500ffff000140004011" + "0000" + addresses),
            packet("0800", "40000024000140004011" + "0000" + addresses),
            packet("0800", "45000024000140004000" + "0000" + addresses),
            // IPv6: payload longer than the frame; protocol 0 in the extension header's place.
            packet("86dd", "60000000ffff1140" + String(repeating: "fd", count: 32)),
            packet("86dd", "6000000000000040" + String(repeating: "fd", count: 32)),
            // LLDP, cut off in a TLV.
            "0180c200000e" + source + "88cc" + "0207",
            "ffffffffffff" + source + "8100",
            "ffffffffffff" + source + "0806" + "0001",
          ]
        }
        let (inside, outside) = (frames(from: "020000000013"), frames(from: "020000000014"))
        let pings = try [(red1, "172.17.42.12"), (red2, "172.17.42.11")].map {
          try $0.start("exec ping -i 0.02 -W 1 \($1)")
        }
        usleep(200_000)
        for _ in 0..<5 {
          try red1.must("python3 $TRAFFIC/send_frame.py eth0 20 \(inside.joined(separator: " "))")
          for frame in outside {
            try host2.must(
              "python3 $TRAFFIC/send_vxlan.py \(Family.ipv4.address(2)) \(Family.ipv4.address(1)) 20 "
                + "0800000000006400 \(frame)")
          }
        }
        for ping in pings {
          ping.signal(SIGINT)
          #expect(
            try ping.finish(seconds: 5).lostPings <= 1, "but for the last, which was on its way")
        }
        #expect(try host1.drops()["red1 reserved-destination"] == 100)
        #expect(try host1.drops()["vxlan0 reserved-destination"] == 100)
      }
    }

    /// Learning, moving and forgetting of addresses, told by what `fdb show` says.
    @Test func addressesAreLearned() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        // The bridge's own interface has nothing to say.
        try host.must("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        var containers: [Namespace] = []
        for number in 1...3 {
          containers.append(
            try lab.container(
              "p\(number)", on: host, by: .veth, address: "172.17.42.1\(number)/24"))
        }
        for container in containers {
          try container.must("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        }
        try host.ctl("fdb flush br0")
        func send(_ frame: String, from number: Int) throws {
          try containers[number - 1].must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
        }
        func place(of address: String) throws -> String? {
          try host.fdb("br0").first { $0.mac == address }?.port
        }
        let x = "02000000aa01"
        let y = "02000000aa02"
        let body = "88b5" + String(repeating: "00", count: 46)
        try send("ffffffffffff" + x + body, from: 3)
        try eventually("X is on p3") { try place(of: "02:00:00:00:aa:01") == "p3" }
        // A frame for X reaches nobody else.
        let before = try ["p2", "p3"].map { try host.sentFrames($0) }
        try send(x + y + body, from: 1)
        try eventually("Y is on p1") { try place(of: "02:00:00:00:aa:02") == "p1" }
        try eventually("p3 got the frame") { try host.sentFrames("p3") > before[1] }
        #expect(try host.sentFrames("p2") == before[0])
        // X moves, and goes with its port.
        try send("ffffffffffff" + x + body, from: 2)
        try eventually("X is on p2") { try place(of: "02:00:00:00:aa:01") == "p2" }
        #expect(try host.ctl("-f json fdb stats br0").contains("\"moved\" : 1"))
        try host.ctl("del-port p2")
        #expect(try place(of: "02:00:00:00:aa:01") == nil)
        #expect(try place(of: "02:00:00:00:aa:02") == "p1")
      }
    }

    /// Static addresses stay where they were put, whatever frames say, and outlive a flush.
    @Test func staticAddresses() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let p1 = try lab.container("p1", on: host, by: .veth, address: "172.17.42.11/24")
        let p2 = try lab.container("p2", on: host, by: .veth, address: "172.17.42.12/24")
        let address = "02:00:00:00:bb:01"
        let frame = "ffffffffffff" + "02000000bb01" + "88b5" + String(repeating: "00", count: 46)
        func place() throws -> String? {
          try host.fdb("br0").first { $0.mac == address }?.port
        }
        try host.ctl("fdb add br0 p1 0 \(address)")
        #expect(try place() == "p1")
        let before = try host.sentFrames("p1")
        try p2.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
        try eventually("the frame is forwarded") { try host.sentFrames("p1") > before }
        #expect(try place() == "p1")
        try host.ctl("fdb flush br0")
        #expect(try place() == "p1")
        try host.ctl("fdb add br0 p2 0 \(address)")
        #expect(try place() == "p2")
        try host.ctl("fdb del br0 0 \(address)")
        try p1.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
        try eventually("it is learned again") { try place() == "p1" }
      }
    }

    /// Waiters that are there before what they wait for.
    @Test func waitUntil() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        let waiters = try [
          "wait-until bridge br0", "wait-until port p1 tag=7",
          "wait-until interface p1 options:key=5",
          "wait-until bridge br0 other_config:mac-aging-time=60",
        ].map { try host.start("exec ovx-ctl -t 10 \($0)") }
        usleep(200_000)
        for waiter in waiters { #expect(waiter.isRunning) }
        try host.ctl("add-br br0")
        #expect(try waiters[0].finish(seconds: 5).succeeded)
        try host.ctl("add-port br0 p1 key=5 remote=192.168.5.3")
        #expect(try waiters[2].finish(seconds: 5).succeeded)
        #expect(waiters[1].isRunning)
        try host.ctl("set port p1 tag=7")
        #expect(try waiters[1].finish(seconds: 5).succeeded)
        try host.ctl("set bridge br0 other_config:mac-aging-time=60")
        #expect(try waiters[3].finish(seconds: 5).succeeded)
        let late = try host.ctl(["-t", "1", "wait-until", "port", "p1", "tag=8"])
        #expect(late.status == 75)
        lab.expectLog("p1 waits")
      }
    }

    /// A veth goes and comes back under the same name: traffic resumes by itself.
    @Test func deviceChurn() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        lab.expectLog("waits")
        lab.expectLog("device is gone")
        try host.ctl("add-br br0")
        let far = try lab.container("far", on: host, by: .tap, address: "172.17.42.12/24")
        let near = try lab.container(
          "near", on: host, by: .veth, address: "172.17.42.11/24", mtu: 1500)
        try near.expectPing("172.17.42.12")
        for _ in 0..<3 {
          try host.must("ip link del near")
          try eventually("show says so") { try host.ctl("show").contains("error:") }
          try host.must(
            """
            ip link add near type veth peer name eth0 netns \(near.name)
            ip link set near up
            """)
          try near.must("ip link set eth0 up && ip addr add 172.17.42.11/24 dev eth0")
          try near.must("until ping -c 1 -W 0.2 172.17.42.12 >/dev/null; do :; done", seconds: 5)
          try eventually("show has no error") { try !host.ctl("show").contains("error:") }
        }
        try host.must("ip link del near")
        try host.ctl("del-port near")
        try far.must("true")
      }
    }
  }
}

extension Namespace {
  /// What `fdb show` says of a bridge.
  fileprivate func fdb(_ bridge: String) throws -> [FDBLine] {
    let tables = try JSONDecoder().decode(
      [String: [FDBLine]].self, from: Data(ctl("-f json fdb show \(bridge)").utf8))
    return tables[bridge] ?? []
  }

  fileprivate func sentFrames(_ port: String) throws -> UInt64 {
    let json = try ctl("-f json stats \(port)")
    let match = try #require(json.firstMatch(of: /"sentFrames" : (\d+)/), "\(json)")
    return try #require(UInt64(match.1))
  }
}

private struct FDBLine: Decodable {
  var mac: String
  var port: String
}
