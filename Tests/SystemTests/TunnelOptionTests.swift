import Foundation
import Testing

/// An IPv4 datagram of eight bytes in a frame, in hexadecimal, its header checksum right.
private func ipv4Frame(tos: Int, ttl: Int = 64, to: String = "020000000012") -> String {
  let words = [0x4500 | tos, 36, 1, 0x4000, ttl << 8 | 17, 0, 0xAC11, 0x2A0B, 0xAC11, 0x2A0C]
  var sum = words.reduce(0, +)
  while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
  var header = words
  header[5] = sum ^ 0xFFFF
  return to + "020000000011" + "0800" + header.map { String(format: "%04x", $0) }.joined()
    + "03e80009001000006f76786f76786f76"
}

private func ipv6Frame(trafficClass: Int, hopLimit: Int) -> String {
  "020000000012" + "020000000011" + "86dd" + String(format: "6%02x00000", trafficClass) + "000811"
    + String(format: "%02x", hopLimit) + "fd170000000000000000000000000011"
    + "fd170000000000000000000000000012" + "03e8000900080000"
}

extension String {
  fileprivate var trimmed: String { trimmingCharacters(in: .whitespacesAndNewlines) }
}

extension SystemTests {
  /// The options of a tunnel, on the wire.
  @Suite struct TunnelOptionTests {
    private struct Wanted {
      var options: String
      /// Of the outer header: for a frame of traffic class 0xB9 and hop limit 9, and for ARP.
      var ip: (tos: Int, ttl: Int)
      var arp: (tos: Int, ttl: Int)
      var dontFragment = true
      var hasChecksum = true
    }

    /// What is set while the tunnel is in use, by what then leaves.
    @Test(arguments: Family.allCases)
    func outerHeaders(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, family: family, remotes: [2])
        let red1 = try lab.container(
          "red1", on: host1, by: .veth, address: "172.17.42.11/24", mtu: family.overlayMTU)
        // A VTEP at the far end: a host without one would answer that nobody listens.
        try host2.makeKernelVTEP(vni: 1, family: family, number: 2, remote: 1, ports: [])
        try host1.expectPing(family.address(2))
        for wanted in [
          Wanted(options: "", ip: (1, 64), arp: (0, 64)),
          Wanted(options: "options:tos=0x28", ip: (0x29, 64), arp: (0x28, 64)),
          Wanted(options: "options:tos=inherit", ip: (0xB9, 64), arp: (0, 64)),
          Wanted(
            options: "options:tos=inherit options:ttl=inherit", ip: (0xB9, 9), arp: (0, 64)),
          Wanted(options: "options:ttl=3", ip: (1, 3), arp: (0, 3)),
          Wanted(
            options: "options:df_default=false", ip: (1, 64), arp: (0, 64),
            dontFragment: family == .ipv6),
          Wanted(options: "options:csum=false", ip: (1, 64), arp: (0, 64), hasChecksum: false),
          Wanted(options: "options:csum=true", ip: (1, 64), arp: (0, 64)),
        ] {
          for option in ["tos", "ttl", "df_default", "csum"] {
            try host1.ctl("remove Interface vxlan0 options \(option)")
          }
          if !wanted.options.isEmpty { try host1.ctl("set Interface vxlan0 \(wanted.options)") }
          let frames = [
            ipv4Frame(tos: 0xB9, ttl: 9), ipv6Frame(trafficClass: 0xB9, hopLimit: 9),
            EncapsulationTests.request,
          ]
          let seen = try host1.datagrams {
            for frame in frames {
              try red1.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
            }
          }
          for frame in frames {
            let datagrams = seen.filter { $0.inner == frame }
            #expect(datagrams.count == 1, "\(wanted.options): \(frame)")
            for datagram in datagrams {
              let expected = frame == EncapsulationTests.request ? wanted.arp : wanted.ip
              let comment: Comment = "\(wanted.options): \(datagram)"
              #expect((datagram.tos, datagram.ttl) == expected, comment)
              #expect(datagram.dontFragment == wanted.dontFragment, comment)
              #expect((datagram.udpChecksum != 0) == wanted.hasChecksum, comment)
              #expect(datagram.headerChecksumValid, comment)
            }
          }
        }
      }
    }

    /// RFC 6040 as a container sees it: what a router of the underlay marked, and what is lost to
    /// it.
    @Test(arguments: Family.allCases)
    func congestionReachesTheContainer(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, family: family, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        try host2.expectPing(family.address(1))
        // Inner and outer ECN, and what becomes of them; 3 is "congestion experienced".
        let cases = [(0, 0, 0), (2, 3, 3), (1, 3, 3), (3, 0, 3), (2, 1, 1), (0, 2, 0)]
        let capture = try red1.start(
          "exec tcpdump -lnn -i eth0 -v -c \(cases.count) 'ip and udp port 9'")
        try eventually("tcpdump listens") { capture.standardError.contains("listening on") }
        func send(_ inner: Int, _ outer: Int) throws {
          try host2.must(
            "python3 $TRAFFIC/send_vxlan.py \(family.address(2)) \(family.address(1)) 1 "
              + "0800000000006400 \(ipv4Frame(tos: 0xB8 | inner)) \(0x28 | outer)")
        }
        for (inner, outer, _) in cases { try send(inner, outer) }
        for _ in 0..<3 { try send(0, 3) }
        let seen = try capture.finish(seconds: 10).standardOutput
        let classes = seen.matches(of: /tos 0x([0-9a-f]+)/).compactMap { Int($0.1, radix: 16) }
        #expect(classes == cases.map { 0xB8 | $0.2 }, "\(seen)")
        #expect(!seen.contains("bad cksum"), "\(seen)")
        try eventually("what cannot be marked is dropped, and counted") {
          try host1.drops()["vxlan0 congestion-experienced"] == 3
        }
      }
    }

    /// The kernel joins datagrams of a flow on their way in; a mark of one must not become the
    /// others'.
    @Test(arguments: Family.allCases)
    func marksOfOneTrainStayApart(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, family: family, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        try host2.expectPing(family.address(1))
        // As a NIC's driver would, and with patience enough to find something to join.
        try host1.must(
          """
          ethtool -K eth0 gro on rx-udp-gro-forwarding on
          echo 20000000 >/sys/class/net/eth0/gro_flush_timeout
          """)
        try host2.must("ethtool -K eth0 tso off")
        func joined() throws -> Int {
          let name = family == .ipv4 ? "^Udp: [0-9]" : "^Udp6InDatagrams"
          let file = family == .ipv4 ? "snmp" : "snmp6"
          return try #require(
            Int(try host1.must("grep -E '\(name)' /proc/net/\(file) | awk '{print $2}'").trimmed))
        }
        for (runs, length) in [(8, 8), (64, 1), (2, 32), (1, 64)] {
          let capture = try red1.start(
            "exec tcpdump -lnn -i eth0 -v -c \(runs * length) 'ip proto 253'")
          try eventually("tcpdump listens") { capture.standardError.contains("listening on") }
          let before = try joined()
          try host2.must(
            "python3 $TRAFFIC/marked_train.py \(family.address(2)) \(family.address(1)) 100 \(runs) \(length)"
          )
          let seen = try capture.finish(seconds: 10).standardOutput
          let marks = seen.matches(of: /tos 0x([0-9a-f]+).*? id (\d+)/).compactMap { match in
            Int(match.1, radix: 16).flatMap { mark in Int(match.2).map { ($0, mark) } }
          }.sorted { $0.0 < $1.0 }
          #expect(marks.map(\.0) == Array(1...(runs * length)), "\(seen)")
          for (number, mark) in marks {
            #expect(mark == ((number - 1) / length % 2 == 0 ? 2 : 3), "number \(number) of \(runs)")
          }
          // Else this would show nothing.
          let reads = try joined() - before
          print("\(family), \(runs) runs of \(length): \(reads) reads")
          if length > 1 { #expect(reads < runs * length, "the kernel joined nothing") }
          #expect(reads >= runs)
        }
        #expect(try host1.drops()["vxlan0 congestion-experienced"] == nil)
      }
    }

    /// ECN from end to end: a TCP connection that negotiated it keeps its marks.
    @Test func connectionsWithECN() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number])
          let container = try lab.container(
            "red\(number)", on: host, by: .tap, address: "172.17.42.1\(number)/24")
          try container.must("echo 1 > /proc/sys/net/ipv4/tcp_ecn")
          containers.append(container)
        }
        try containers[0].expectPing("172.17.42.12")
        let seen = try host1.datagrams {
          try containers[0].expectTransfer(3_000_000, to: containers[1], at: "172.17.42.12")
        }
        #expect(
          Set(seen.map { $0.tos & 3 }).isSuperset(of: [0, 2]), "SYN without, data with ECT(0)")
        for datagram in seen where datagram.inner.dropFirst(24).hasPrefix("0800") {
          #expect(
            datagram.tos & 3 == (Int(datagram.inner.dropFirst(30).prefix(2), radix: 16) ?? -1) & 3)
        }
      }
    }

    /// Without a checksum the kernel takes no trains; all else must work.
    @Test(arguments: Family.allCases)
    func conversationWithoutChecksums(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, family: family, remotes: [3 - number])
          try host.ctl(
            "set Interface vxlan0 options:csum=false options:df_default=false options:tos=inherit "
              + "options:ttl=inherit")
          containers.append(
            try lab.container(
              "red\(number)", on: host, by: .tap, address: "172.17.42.1\(number)/24"))
        }
        try containers[0].expectPing("172.17.42.12", size: 1600)
        try containers[0].expectTransfer(20_000_000, to: containers[1], at: "172.17.42.12")
        try containers[1].expectTransfer(20_000_000, to: containers[0], at: "172.17.42.11")
      }
    }

    /// Two local addresses, two UDP ports, and two ends that count differently, all at once.
    @Test func manyWaysAtOnce() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          try host.must("ip addr add 10.99.0.\(number)/24 dev eth0")
          try lab.daemon(on: host)
          let (own, other) = (Family.ipv4.address(number), Family.ipv4.address(3 - number))
          let (inKey, outKey) = number == 1 ? (40, 41) : (41, 40)
          try host.ctl(
            "add-br br0"
              + " -- add-port br0 v1 tag=1 key=1 local=\(own) remote=\(other)"
              + " -- add-port br0 v2 tag=2 key=2 local=10.99.0.\(number) remote=10.99.0.\(3 - number)"
              + " -- add-port br0 v3 tag=3 key=3 remote=\(other) dst_port=4790"
              + " -- add-port br0 v4 tag=4 remote=\(other) options:in_key=\(inKey)"
              + " options:out_key=\(outKey)"
              + " -- add-port br0 v5 tag=5 key=1 local=10.99.0.\(number) remote=10.99.0.\(3 - number)"
              + " dst_port=4790 options:out_key=5 options:in_key=5")
        }
        for tag in 1...5 {
          let containers = try [host1, host2].enumerated().map { number, host in
            try lab.container(
              "t\(tag)-\(number + 1)", on: host, by: .tap, address: "172.17.42.1\(number + 1)/24",
              tag: tag)
          }
          // Each tenant has the same addresses, and an answer of its own.
          try containers[1].must("ip addr add 172.17.42.2\(tag)/24 dev eth0")
          try containers[0].expectPing("172.17.42.2\(tag)")
          if tag > 1 { try containers[0].expectNoPing("172.17.42.21") }
        }
        let shown = try host1.ctl("tunnel show")
        for listener in ["192.168.5.2:4789", "10.99.0.1:4789", "*:4790", "*:4789"] {
          #expect(shown.contains(listener), "\(shown)")
        }
      }
    }

    /// Whatever is done to one tunnel, another one carries on.
    @Test func changesLeaveOtherTunnelsAlone() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, vni: 1, remotes: [3 - number], tag: 1)
          _ = try lab.container(
            "red\(number)", on: host, by: .tap, address: "172.17.42.1\(number)/24", tag: 1)
        }
        let other = Family.ipv4.address(2)
        let red1 = try #require(lab.namespaces.first { $0.name.hasSuffix("-red1") })
        try red1.expectPing("172.17.42.12")
        let flood = try red1.start("exec ping -q -i 0.01 -c 100000 172.17.42.12")
        usleep(300_000)
        for round in 0..<50 {
          try host1.ctl("add-port br0 b tag=2 key=2 remote=\(other)")
          try host1.ctl("set Interface b options:remote_ip=192.168.5.\(10 + round),\(other)")
          try host1.ctl("set Interface b options:key=\(3 + round) options:tos=inherit")
          try host1.ctl(
            "set Interface b options:csum=false options:ttl=9 options:dst_port=\(4790 + round % 2)")
          try host1.ctl("del-port b")
        }
        flood.signal(SIGINT)
        let report = try flood.finish(seconds: 10).standardOutput
        let counts = try #require(
          report.firstMatch(of: /(\d+) packets transmitted, (\d+) received/))
        #expect(counts.1 == counts.2, "\(report)")
        #expect((Int(counts.1) ?? 0) > 200, "\(report)")
      }
    }

    /// What was sent before the far VTEP was there costs nothing afterwards.
    @Test func firstFrameAfterTheFarEndCameUp() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        try host1.expectPing(Family.ipv4.address(2))
        let frame = ipv4Frame(tos: 0)
        for _ in 0..<3 {
          let first = try host1.datagrams {
            try red1.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
          }
          #expect(first.count { $0.inner == frame } == 1)
        }
        try host2.makeKernelVTEP(vni: 100, family: .ipv4, number: 2, remote: 1, ports: [])
        let seen = try host2.must(
          "cat /sys/class/net/vxlan0/statistics/rx_packets"
        ).trimmingCharacters(in: .whitespacesAndNewlines)
        let after = try host1.datagrams {
          try red1.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
        }
        #expect(after.count { $0.inner == frame } == 1)
        try eventually("it arrives") {
          try host2.must("cat /sys/class/net/vxlan0/statistics/rx_packets")
            .trimmingCharacters(in: .whitespacesAndNewlines) != seen
        }
        // Those that nobody was there for are counted, and no send was refused for them.
        let lost = try host1.drops().filter { $0.key.hasSuffix("remote-not-listening") }
        #expect(Array(lost.keys) == ["vxlan0 remote-not-listening"])
      }
    }
  }
}
