import Foundation
import Testing

extension SystemTests {
  /// ovx on both sides.
  @Suite struct SwitchToSwitchTests {
    @Test(arguments: OverlayCase.all)
    func conversation(_ overlay: OverlayCase) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(
            on: host,
            family: overlay.family,
            remotes: [3 - number],
            tag: overlay.tag
          )
          containers.append(
            try lab.container(
              "red\(number)",
              on: host,
              by: overlay.attachment,
              address: "172.17.42.1\(number)/24",
              tag: overlay.tag,
              mtu: overlay.family.overlayMTU
            )
          )
        }
        try containers[0].expectConversation(
          at: "172.17.42.11",
          with: containers[1],
          at: "172.17.42.12"
        )
      }
    }

    /// A trunk: the tunnel has no tag, its containers have, and the tag travels inside.
    @Test func tagsInsideTheTunnel() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Int: [Namespace]] = [:]
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number])
          for tag in [10, 20] {
            containers[tag, default: []].append(
              try lab.container(
                "v\(tag)-\(number)",
                on: host,
                by: .veth,
                address: "172.17.42.1\(number)/24",
                tag: tag,
                mtu: 1446
              )
            )
          }
          // The same address everywhere but in VLAN 10 of host 2.
          if number == 2 { try containers[10]?[1].must("ip addr add 172.17.42.99/24 dev eth0") }
        }
        let ten = try #require(containers[10])
        let twenty = try #require(containers[20])
        try ten[0].expectConversation(at: "172.17.42.11", with: ten[1], at: "172.17.42.12")
        try twenty[0].expectConversation(at: "172.17.42.11", with: twenty[1], at: "172.17.42.12")
        try ten[0].expectPing("172.17.42.99")
        try twenty[0].expectNoPing("172.17.42.99")
      }
    }

    /// Containers that have a VXLAN of their own, of the kernel's make, over the one that they are
    /// in: as they have it from Kubernetes and the like.
    @Test(arguments: Attachment.allCases)
    func tunnelsInsideOfContainers(_ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number])
          let container = try lab.container(
            "red\(number)", on: host, by: attachment, address: "172.17.42.1\(number)/24")
          // The same VNI and the same port as the tunnel below.
          try container.must(
            """
            ip link add vx0 mtu 1400 type vxlan id 100 local 172.17.42.1\(number) \
              remote 172.17.42.1\(3 - number) dstport 4789
            ip addr add 10.9.0.\(number)/24 dev vx0 && ip link set vx0 up
            """)
          containers.append(container)
        }
        try containers[0].expectConversation(at: "10.9.0.1", with: containers[1], at: "10.9.0.2")
        for host in [host1, host2] {
          // What the host's own IPv6 says while nobody is there yet is no concern of theirs.
          let drops = try host.drops().filter {
            ($0.key.hasPrefix("red") || $0.key.hasPrefix("vxlan"))
              && !$0.key.hasSuffix("remote-not-listening")
          }
          #expect(drops.isEmpty, "\(drops)")
        }
      }
    }

    /// Sustained TCP each way without a second at zero, and what the kernel's bridge and vxlan
    /// device do in its place.
    @Test func throughput() throws {
      let seconds = Lab.isLong ? 60 : 10
      var figures: [String: Double] = [:]
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number], tag: 100)
        }
        for attachment in Attachment.allCases {
          let red1 = try lab.container(
            "\(attachment)1",
            on: host1,
            by: attachment,
            address: "172.17.42.11/24",
            tag: 100
          )
          let red2 = try lab.container(
            "\(attachment)2",
            on: host2,
            by: attachment,
            address: "172.17.42.12/24",
            tag: 100
          )
          let there = try red1.measureTCP(to: red2, at: "172.17.42.12", seconds: seconds)
          let back = try red2.measureTCP(to: red1, at: "172.17.42.11", seconds: seconds)
          #expect(
            there.stalls == 0,
            "1 to 2 by \(attachment), bits in each second: \(there.seconds)"
          )
          #expect(back.stalls == 0, "2 to 1 by \(attachment), bits in each second: \(back.seconds)")
          figures["\(attachment) 1→2"] = there.gigabitsPerSecond
          figures["\(attachment) 2→1"] = back.gigabitsPerSecond
          // The addresses are the next pair's.
          try red1.must("ip addr flush dev eth0")
          try red2.must("ip addr flush dev eth0")
        }
      }
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let red1 = try lab.vethContainer("red1", on: host1, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try host1.makeKernelVTEP(vni: 100, family: .ipv4, number: 1, remote: 2, ports: ["red1"])
        try host2.makeKernelVTEP(vni: 100, family: .ipv4, number: 2, remote: 1, ports: ["red2"])
        try red1.expectPing("172.17.42.12")
        figures["kernel"] =
          try red1.measureTCP(to: red2, at: "172.17.42.12", seconds: min(seconds, 10))
          .gigabitsPerSecond
      }
      let kernel = try #require(figures["kernel"])
      for (name, value) in figures.sorted(by: { $0.key < $1.key }) {
        print(
          String(
            format: "throughput, 1 TCP stream, %@: %.2f Gb/s (%.2f of the kernel's)",
            name as NSString,
            value,
            value / kernel
          )
        )
      }
    }
  }

  /// Containers of one host, with no tunnel between them.
  @Suite struct SameHostTests {
    @Test(arguments: [
      [Attachment.tap, .tap], [.veth, .veth], [.tap, .veth],
    ])
    func conversation(_ attachments: [Attachment]) throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red1 = try lab.container(
          "red1",
          on: host,
          by: attachments[0],
          address: "172.17.42.11/24",
          tag: 100,
          mtu: 1500
        )
        let red2 = try lab.container(
          "red2",
          on: host,
          by: attachments[1],
          address: "172.17.42.12/24",
          tag: 100,
          mtu: 1500
        )
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
        for (from, to, address) in [
          (red1, red2, "172.17.42.12"), (red2, red1, "172.17.42.11"),
        ] {
          let speed = try from.measureTCP(to: to, at: address, seconds: 3)
          #expect(speed.stalls == 0, "bits in each second: \(speed.seconds)")
          print(
            String(
              format: "same host, %@: %.2f Gb/s",
              attachments.map(\.rawValue).joined(separator: " and ") as NSString,
              speed.gigabitsPerSecond
            )
          )
        }
      }
    }

    /// The host itself on the bridge, by its internal port.
    @Test(arguments: Attachment.allCases)
    func hostAndContainer(_ attachment: Attachment) throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        try host.ctl("set Port br0 tag=100")
        try host.must("ip addr add 172.17.42.1/24 dev br0 && ip link set br0 up")
        let red1 = try lab.container(
          "red1",
          on: host,
          by: attachment,
          address: "172.17.42.11/24",
          tag: 100,
          mtu: 1500
        )
        try red1.expectConversation(at: "172.17.42.11", with: host, at: "172.17.42.1")
      }
    }
  }

  /// Three hosts, each with a tunnel to the two others.
  @Suite struct MeshTests {
    @Test func broadcastArrivesOnce() throws {
      try Lab.run { lab in
        let hosts = try lab.hosts(3)
        // Both ways to write a mesh: one port with many remotes, and one port for each.
        try lab.overlay(on: hosts[0], remotes: [2, 3], tag: 100)
        try lab.overlay(on: hosts[1], remotes: [1], tag: 100)
        try hosts[1].ctl("add-port br0 vxlan1 key=100 remote=\(Family.ipv4.address(3)) tag=100")
        try lab.overlay(on: hosts[2], remotes: [1, 2], tag: 100)
        let containers = try hosts.enumerated().map { number, host in
          try lab.container(
            "red\(number + 1)",
            on: host,
            by: .veth,
            address: "172.17.42.1\(number + 1)/24",
            tag: 100
          )
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
          try containers[from].expectPing("172.17.42.1\(to + 1)")
        }
        let sniffers = try containers.map { try Sniffer(in: $0) }
        let count = 50
        for (number, container) in containers.enumerated() {
          try container.must(
            "python3 $TRAFFIC/send_frame.py eth0 \(count) \(markedBroadcast(origin: "red\(number + 1)"))"
          )
        }
        usleep(300_000)
        for (number, sniffer) in sniffers.enumerated() {
          let heard = try sniffer.stop()
          for origin in 1...3 {
            let expected = origin == number + 1 ? 0 : count
            #expect(
              heard[Mark(origin: "red\(origin)", tag: nil), default: 0] == expected,
              "red\(number + 1) heard of red\(origin)"
            )
          }
        }
      }
    }

    private func markedBroadcast(origin: String) -> String {
      let mark = "OVXMARK:\(origin):-:".utf8.map { String(format: "%02x", $0) }.joined()
      return "ffffffffffff" + "02000000000a" + "88b5" + mark
        + String(repeating: "0", count: max(0, 92 - mark.count))
    }
  }
}
