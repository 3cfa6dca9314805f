import Foundation
import Testing

extension SystemTests {
  /// Superframes that leave whole, and what happens where they cannot.
  @Suite struct InjectionTests {
    /// What `tunnel show` says of the only tunnel's superframes.
    private static func mode(_ host: Namespace) throws -> String {
      let json = try host.ctl("-f json tunnel show")
      let match = json.firstMatch(of: /"(injected|segmented)[^"]*"/)
      return match.map { String($0.0.dropFirst().dropLast()) } ?? json
    }

    private static func injectors(_ host: Namespace) throws -> [String] {
      try host.must("ls /sys/class/net").split(separator: "\n").map(String.init)
        .filter { $0.hasPrefix("ovxi") }
    }

    /// Bytes per packet that a device has received since it was made.
    private static func meanSize(_ host: Namespace, _ device: String) throws -> Int {
      let statistics = "/sys/class/net/\(device)/statistics"
      let numbers = try host.must("cat \(statistics)/rx_bytes \(statistics)/rx_packets")
        .split(separator: "\n").compactMap { Int($0) }
      return numbers.count == 2 && numbers[1] > 0 ? numbers[0] / numbers[1] : 0
    }

    /// A kernel VTEP gets superframes, where a train gives it single segments.
    @Test(arguments: [(true, 172), (false, 172), (true, 6), (false, 6)])
    func toTheKernel(isInjected: Bool, inside: Int) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        if isInjected { try host1.ctl("set Interface vxlan0 options:superframes=inject") }
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try host2.makeKernelVTEP(vni: 100, family: .ipv4, number: 2, remote: 1, ports: ["red2"])
        try red1.must("ip addr add fd17::11/64 dev eth0 nodad")
        try red2.must("ip addr add fd17::12/64 dev eth0 nodad")
        let address = inside == 6 ? "fd17::12" : "172.17.42.12"
        try red1.expectPing(address)
        if isInjected {
          try eventually("superframes are injected") {
            try Self.mode(host1) == "injected into eth0"
          }
        } else {
          #expect(try Self.mode(host1) == "segmented")
          #expect(try Self.injectors(host1) == [])
        }
        // What is injected shows in a capture of the tunnel as what the sockets send does.
        let capture = try host1.start(
          "exec \(Lab.binaries)/ovx-ctl --rundir \(host1.rundir) capture vxlan0 -c 1 'greater 10000'"
        )
        defer { capture.signal(SIGKILL) }
        usleep(500_000)
        try red1.expectTransfer(100_000_000, to: red2, at: address)
        if isInjected {
          let shown = try capture.finish(seconds: 10).standardOutput
          #expect(shown.contains("192.168.5.3.4789: VXLAN"), "\(shown)")
        }
        let size = try Self.meanSize(host2, "vxlan0")
        #expect(isInjected ? size > 10_000 : size < 2000, "\(size) bytes per packet")
        try red1.expectConversation(
          at: inside == 6 ? "fd17::11" : "172.17.42.11", with: red2, at: address)
        #expect(try !host1.ctl("drops").contains("underlay-refused"))
      }
    }

    /// The feature of the underlay, the far host's address, and the injector itself come and go
    /// under traffic.
    @Test func whatIsMissingIsDoneWithout() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let daemon = try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        for host in [host1, host2] {
          try host.ctl("set Interface vxlan0 options:superframes=inject")
        }
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .veth, address: "172.17.42.12/24")
        try red1.expectPing("172.17.42.12")
        for host in [host1, host2] {
          try eventually("superframes are injected") {
            try Self.mode(host) == "injected into eth0"
          }
        }
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")

        func underTraffic(_ title: String, _ change: String, _ condition: () throws -> Bool) throws
        {
          let receiver = try red2.start(
            "exec python3 $TRAFFIC/transfer.py receive 172.17.42.12 5002")
          let sender = try red1.start(
            "exec python3 $TRAFFIC/transfer.py send 172.17.42.12 5002 1000000000 7")
          usleep(300_000)
          try host1.must(change)
          try eventually("\(title): \(change)") { try condition() }
          let sent = try sender.finish(seconds: 60).standardOutput
          let received = try receiver.finish(seconds: 10).standardOutput
          #expect(sent == received && sent.hasPrefix("1000000000 "), "\(title): \(sent)")
        }
        let off = "segmented: eth0 does not segment tunnels (tx-udp_tnl-segmentation is off)"
        try underTraffic("feature off", "ethtool -K eth0 tx-udp_tnl-segmentation off") {
          try Self.mode(host1) == off
        }
        #expect(try Self.injectors(host1) == [])
        try underTraffic("feature on", "ethtool -K eth0 tx-udp_tnl-segmentation on") {
          try Self.mode(host1) == "injected into eth0"
        }
        let injector = try #require(try Self.injectors(host1).first)
        try underTraffic("injector gone", "ip link del \(injector)") {
          try Self.mode(host1).hasPrefix("segmented: the injector fails")
        }
        // To be asked anew is to be tried anew.
        try host1.ctl("set Interface vxlan0 options:superframes=segment")
        #expect(try Self.mode(host1) == "segmented")
        try host1.ctl("set Interface vxlan0 options:superframes=inject")
        #expect(try Self.mode(host1) == "injected into eth0")
        // The far host gets another network card, and its kernel says so (arp_notify).
        try host2.must("echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_notify")
        try underTraffic(
          "next hop", "ip -n \(host2.name) link set eth0 address 02:00:00:00:05:03"
        ) {
          try Self.mode(host1) == "injected into eth0"
        }
        #expect(try Self.injectors(host1).count == 1)
        try daemon.stop(SIGKILL)
        try eventually("nothing is left of the injector") { try Self.injectors(host1) == [] }
      }
    }

    @Test func whereTheUnderlayIsIPv6() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        try lab.overlay(on: host1, family: .ipv6, remotes: [2])
        try host1.ctl("set Interface vxlan0 options:superframes=inject")
        #expect(
          try Self.mode(host1) == "segmented: the underlay is IPv6, for which ovx does not inject")
        let refusal = try host1.ctl(["set", "Interface", "vxlan0", "options:superframes=maybe"])
        #expect(!refusal.succeeded)
        #expect(refusal.standardError.contains("neither segment, which is the default, nor inject"))
      }
    }
  }
}
