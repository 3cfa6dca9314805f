import Foundation
import Testing

extension SystemTests {
  /// Where datagrams of several tenants, or what looks like them, come in one piece: one tenant's
  /// bytes are never taken for another's.
  @Suite struct TenantTrainTests {
    /// Two tenants on a host that runs ovx; its tunnels lead to host 2.
    private static func tenants(
      _ lab: Lab, on host: Namespace, number: Int, family: Family = .ipv4, by attachment: Attachment
    ) throws -> (red: Namespace, blue: Namespace) {
      try lab.daemon(on: host)
      try host.ctl("add-br br0")
      let remote = family.address(3 - number)
      try host.ctl("add-port br0 vx100 key=100 remote=\(remote) tag=100")
      try host.ctl("add-port br0 vx200 key=200 remote=\(remote) tag=200")
      let (red, blue) = (
        try lab.container(
          "red\(number)", on: host, by: attachment, address: "172.17.42.1\(number)/24", tag: 100,
          mtu: family.overlayMTU),
        try lab.container(
          "blue\(number)", on: host, by: attachment, address: "172.17.42.1\(number)/24", tag: 200,
          mtu: family.overlayMTU)
      )
      for container in [red, blue] {
        try container.must("ip addr add fd17::1\(number)/64 dev eth0 nodad")
      }
      return (red, blue)
    }

    private static func drops(_ host: Namespace, _ reason: String) throws -> Int {
      try host.ctl("drops").split(separator: "\n").filter { $0.contains(reason) }
        .flatMap { $0.split(separator: " ").compactMap { Int($0) } }.reduce(0, +)
    }

    /// A container behind a kernel's VTEP writes superframes that hold VXLAN headers of another
    /// tenant.
    @Test(arguments: Family.allCases, Attachment.allCases)
    func forgedSuperframes(_ family: Family, _ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let (red1, blue1) = try Self.tenants(
          lab, on: host1, number: 1, family: family, by: attachment)
        let mtu = family.overlayMTU
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24", mtu: mtu)
        try host2.makeKernelVTEP(vni: 100, family: family, number: 2, remote: 1, ports: ["red2"])
        try red2.must("ip addr add fd17::12/64 dev eth0 nodad")
        try red2.expectPing("172.17.42.11")
        let sniffers = [try Sniffer(in: red1), try Sniffer(in: blue1)]
        let output = try red2.must("python3 $TRAFFIC/forged_superframe.py eth0 200 3 all")
        // What the kernel takes at all is 15 forms of 18, in two families.
        let taken = output.split(separator: "\n").count { $0.hasSuffix(" 3") }
        #expect(taken >= 28, "\(output)")
        try red2.expectPing("172.17.42.11")
        let heard = try sniffers.map { try $0.stop() }
        #expect(heard[1] == [:], "Another tenant gets what red2 forged: \(heard[1])")
        #expect(!heard[0].keys.contains { $0.origin == "forged" }, "\(heard[0])")
        #expect(try !host1.ctl("fdb show br0").contains("02:de:ad:be:ef:00"))
        for reason in ["ambiguous-train", "mixed-vnis"] {
          #expect(try Self.drops(host1, reason) > 0, "\(reason)")
        }
        // An honest container's superframes pass.
        for address in ["172.17.42.11", "fd17::11"] {
          let receiver = try red1.start(
            "exec python3 $TRAFFIC/datagrams.py receive \(address) 5002")
          try eventually("red1 listens") {
            try red1.must("cat /proc/net/udp /proc/net/udp6").contains(":138A ")
          }
          let seed = UInt32.random(in: 0...UInt32.max)
          let sent = try red2.must("python3 $TRAFFIC/datagrams.py send \(address) 5002 \(seed)")
          let received = try receiver.finish(seconds: 20)
          #expect(received.standardOutput == sent, "\(received)")
        }
      }
    }

    /// What the receiving kernel would join if two VNIs shared a source port: a liar, and frames of
    /// another tenant.
    @Test(arguments: zip(Family.allCases, Attachment.allCases))
    func liarInFrontOfAnotherTenant(_ family: Family, _ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let (red1, blue1) = try Self.tenants(
          lab, on: host1, number: 1, family: family, by: attachment)
        let sniffers = [try Sniffer(in: red1), try Sniffer(in: blue1)]
        let ends = "\(family.address(2)) \(family.address(1))"
        try host2.must("python3 $TRAFFIC/liar_train.py \(ends) 100 200")
        usleep(300_000)
        let heard = try sniffers.map { try $0.stop() }
        #expect(heard == [[:], [:]])
        // 1, 4 and 19 frames in two families.
        try eventually("the victim's frames are dropped") {
          try Self.drops(host1, "mixed-vnis") == 48
        }
      }
    }

    /// The source ports of the sockets that are connected to somebody, of one family.
    private static func sourcePorts(_ host: Namespace, _ family: Family) throws -> [Int] {
      try host.must("cat /proc/net/udp\(family == .ipv6 ? "6" : "")").split(separator: "\n")
        .compactMap { line in
          let words = line.split(separator: " ")
          guard words.count > 2, words[2].hasSuffix(":12B5") else { return nil }
          return words[1].split(separator: ":").last.flatMap { Int($0, radix: 16) }
        }
    }

    /// Each VNI has source ports of its own, which nobody can tell from outside.
    @Test(arguments: Family.allCases)
    func sourcePorts(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        let daemon = try lab.daemon(on: host1)
        try host1.ctl("add-br br0")
        for vni in 1...5 {
          try host1.ctl("add-port br0 vx\(vni) key=\(vni) remote=\(family.address(2)) tag=\(vni)")
        }
        let ports = try Self.sourcePorts(host1, family)
        #expect(ports.count == 80)
        #expect(Set(ports).count == 80, "\(ports.sorted())")
        #expect(ports.allSatisfy { $0 >= 49_152 })
        // Another tunnel of the same VNI shares them; without tunnels there are none.
        try host1.ctl("del-port br0 vx5")
        #expect(try Self.sourcePorts(host1, family).count == 64)
        #expect(try Set(Self.sourcePorts(host1, family)).isSubset(of: ports))
        try daemon.stop(SIGTERM)
        try lab.daemon(on: host1)
        let again = try Self.sourcePorts(host1, family)
        #expect(again.count == 64)
        #expect(Set(again).intersection(ports).count < 16, "They are the same after a restart.")
      }
    }
  }
}
