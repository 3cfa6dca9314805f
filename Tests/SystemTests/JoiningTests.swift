import Foundation
import Testing

extension SystemTests {
  /// VNIs that the operator has joined, with the real daemon.
  @Suite struct JoiningTests {
    /// Red is on host 1, blue on host 2, and both are one network because of host 3; then also
    /// because of host 4.
    @Test func joinedVNIsAreOneNetworkWithoutALoop() throws {
      try Lab.run { lab in
        let hosts = try lab.hosts(4)
        for host in hosts {
          try lab.daemon(on: host)
          try host.ctl("add-br br0")
        }
        func remotes(of number: Int) -> String {
          (1...4).filter { $0 != number }.map(Family.ipv4.address).joined(separator: ",")
        }
        let red = try lab.container(
          "red", on: hosts[0], by: .tap, address: "172.17.42.11/24", tag: 10)
        let blue = try lab.container(
          "blue", on: hosts[1], by: .veth, address: "172.17.42.12/24", tag: 20)
        try hosts[0].ctl("add-port br0 red0 tag=10 key=100 remote=\(remotes(of: 1))")
        try hosts[1].ctl("add-port br0 blue0 tag=20 key=200 remote=\(remotes(of: 2))")

        func join(_ number: Int) throws {
          let host = hosts[number - 1]
          try host.ctl("add-port br0 red0 tag=7 key=100 remote=\(remotes(of: number))")
          let tunnel = [
            "add-port", "br0", "blue0", "tag=7", "key=200", "remote=\(remotes(of: number))",
          ]
          let refusal = try host.ctl(tunnel)
          #expect(refusal.status == 1)
          #expect(
            refusal.standardError.contains(
              "\"set bridge br0 other_config:joined-vnis=100,200\" joins them"), "\(refusal)")
          let word = try host.ctl(["set", "bridge", "br0", "other_config:joined-vnis=100,200"])
          #expect(word.succeeded && word.standardError.contains("on one host only"), "\(word)")
          #expect(try host.ctl(tunnel).succeeded)
          let back = try host.ctl(["remove", "bridge", "br0", "other_config", "joined-vnis"])
          #expect(
            back.status == 1 && back.standardError.contains("would both carry VLAN 7"), "\(back)")
        }
        try join(3)
        let green = try lab.container(
          "green", on: hosts[2], by: .tap, address: "172.17.42.13/24", tag: 7)
        for address in ["172.17.42.12", "172.17.42.13"] { try red.expectPing(address) }
        try blue.expectPing("172.17.42.13")
        try red.expectTransfer(20_000_000, to: blue, at: "172.17.42.12")
        try blue.expectTransfer(20_000_000, to: red, at: "172.17.42.11")
        let frame =
          "arp,tun_src=192.168.5.2,src=02:00:00:00:00:01,ip_src=172.17.42.99,ip_dst=172.17.42.98"
        let trace = try hosts[2].ctl("trace br0 red0 \(frame)")
        #expect(trace.contains("by blue0") && trace.contains("VNI 200"), "\(trace)")

        // A second one that joins makes a loop, which carries nothing.
        lab.expectLog("or for a second host that joins the same VNIs (other_config:joined-vnis)")
        lab.expectLog("look for a loop, or for two stations")
        try join(4)
        _ = try lab.container("white", on: hosts[3], by: .tap, address: "172.17.42.14/24", tag: 7)
        let shout = "ffffffffffff" + "02000000000a" + "88b5" + String(repeating: "00", count: 46)
        try green.must("python3 $TRAFFIC/send_frame.py eth0 20 \(shout)")
        try red.must("ping -c 3 -i 0.2 -W 2 -b 172.17.42.255 || true")
        let before = try datagrams(hosts)
        try hosts[0].must("sleep 1")
        let after = try datagrams(hosts)
        #expect(after - before < 500, "\(after - before) datagrams in a second when all are quiet")
        #expect(
          try hosts[2].ctl("drops").contains("loop") || hosts[3].ctl("drops").contains("loop"))
        try hosts[0].must("sleep 2")
        try red.expectPing("172.17.42.14", attempts: 3)
        try blue.expectPing("172.17.42.14", attempts: 3)
      }
    }

    /// Packets that the hosts have sent by their underlay.
    private func datagrams(_ hosts: [Namespace]) throws -> Int {
      try hosts.reduce(0) { sum, host in
        let text = try host.must("cat /sys/class/net/eth0/statistics/tx_packets")
        return sum + (Int(text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0)
      }
    }
  }
}
