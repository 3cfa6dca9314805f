import Foundation
import Testing

extension SystemTests {
  /// VTEPs and sessions of BGP over IPv6.
  @Suite struct EVPNUnderlayTests {
    @Test func allOfItWorksOverIPv6() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, family: .ipv6)
        let (first, second, third) = (fabric.hosts[0], fabric.hosts[1], fabric.hosts[2])
        for (from, to) in [(first, second), (second, third), (third, first)] {
          try from.container.expectPing(to.inside)
        }
        // Packets as large as the interface takes, as nothing is fragmented on the way.
        let mtu = Family.ipv6.overlayMTU
        #expect(
          try first.container.must("cat /sys/class/net/eth0/mtu").contains("\(mtu)"))
        try first.container.expectPing(second.inside, size: mtu - 28)
        try first.container.expectTransfer(2_000_000, to: third.container, at: third.inside)
        #expect(try first.place.ctl("evpn vteps red").contains(second.address))
        // Another tenant has the same addresses, on two of the hosts.
        var blue: [Namespace] = []
        for host in [first, second] {
          let container = try lab.namespace("blue\(host.number)")
          try host.place.ctl("add-net blue vni=200 subnet=10.1.0.0/24")
          try host.place.ctl("attach blue \(container.name) eth0 ip=\(host.inside)/24")
          blue.append(container)
        }
        try eventually("blue's containers reach each other", within: 30) {
          try blue[0].run("ping -c 1 -W 1 \(second.inside)").succeeded
        }
        try blue[0].expectNoPing(third.inside)
        // A container moves, and keeps its addresses.
        let mac = try second.container.mac()
        try second.place.ctl("detach \(second.container.name) eth0")
        try third.place.ctl(
          "attach red \(second.container.name) eth0 ip=\(second.inside)/24 mac=\(mac)")
        try eventually("host 1 sends to host 3 for it", within: 30) {
          try first.place.ctl("fdb show br0").split(separator: "\n").contains {
            $0.contains(mac) && $0.contains(third.address)
          }
        }
        try first.container.expectPing(second.inside)
        // It goes, and nothing of it stays.
        try third.place.ctl("detach \(second.container.name) eth0")
        for host in [first, second] {
          try eventually("host \(host.number) has nothing of what is gone", within: 30) {
            try !host.place.ctl("fdb show br0").contains(mac)
          }
        }
      }
    }

    @Test func noFrameIsLostOverIPv6WhileAGobgpdIsKilledAndComesBack() throws {
      try Lab.run { lab in
        let fabric = try EVPNFabric(lab, count: 2, family: .ipv6)
        let (first, second) = (fabric.hosts[0], fabric.hosts[1])
        let flows = try [(first, second, 7001), (second, first, 7002)].map { from, to, port in
          try NumberedFlow(
            from: from.container, to: [to.container], at: to.inside, port: port, rate: 500,
            seconds: 40)
        }
        try second.killSpeaker()
        try eventually("host 1 holds what host 2 has told") {
          try first.shown().contains("routes of \(second.address)")
        }
        try second.startSpeaker()
        try fabric.awaitRest()
        for flow in flows { try flow.expectNoneLost() }
        // A host that dies is gone here, too.
        try fabric.cut(2)
        try eventually("host 2 is gone", within: 30) { try !first.knows(second) }
      }
    }
  }
}
