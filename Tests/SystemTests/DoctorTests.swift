import Foundation
import Testing

extension SystemTests {
  /// What `ovx-ctl doctor` says of hosts that are as they should be, and of those that are not.
  @Suite struct DoctorTests {
    @Test func itFindsWhatIsWrong() throws {
      try Lab.run { lab in
        lab.expectLog("port vxlan1 waits")
        let (host1, host2) = try lab.twoHosts()
        try lab.daemon(on: host1)
        try lab.daemon(on: host2)
        try host1.ctl("add-br br0 -- add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3")

        func doctor() throws -> (output: Output, findings: [Substring]) {
          let output = try host1.ctl(["doctor"])
          return (output, output.standardOutput.split(separator: "\n"))
        }
        // The host is there; whether its switch is, nobody knows.
        let sound = try doctor()
        #expect(sound.output.succeeded, "\(sound.output)")
        #expect(sound.findings.contains { $0.hasPrefix("ok    tunnel vxlan0 to 192.168.5.3: ") })
        #expect(sound.findings.allSatisfy { !$0.hasPrefix("FAULT") })

        // A firewall that lets ping in, and no VXLAN.
        try host1.must(
          """
          nft add table inet filter
          nft 'add chain inet filter input { type filter hook input priority 0; policy drop; }'
          nft add rule inet filter input icmp type echo-reply accept
          """)
        let walled = try doctor()
        #expect(walled.output.status == 1)
        let remedy = try #require(
          walled.findings.first { $0.hasPrefix("FAULT firewall: chain input") }, "\(walled.output)")
        let command = try #require(remedy.split(separator: "`").dropFirst().first)
        try host1.must(String(command))
        #expect(try doctor().output.succeeded)

        // One that names it, to refuse it; and one that refuses all the rest, as some clouds' do.
        for rules in [
          "add rule inet filter input udp dport 4789 drop",
          "add rule inet filter input counter reject",
        ] {
          try host1.must(
            """
            nft delete table inet filter
            nft add table inet filter
            nft 'add chain inet filter input { type filter hook input priority 0; policy accept; }'
            nft add rule inet filter input icmp type echo-reply accept
            nft \(rules)
            """)
          let walled = try doctor()
          #expect(walled.output.status == 1)
          let remedy = try #require(
            walled.findings.first { $0.hasPrefix("FAULT firewall: chain input") },
            "\(walled.output)")
          let words = remedy.split(separator: "`")
          try host1.must(String(try #require(words.last { $0.hasPrefix("nft ") })))
          #expect(try doctor().output.succeeded)
        }
        try host1.must("nft delete table inet filter")

        // The other host is gone.
        try host2.must("ip link set eth0 down")
        let alone = try doctor()
        #expect(alone.output.status == 1)
        #expect(
          alone.findings.contains { $0.hasPrefix("FAULT") && $0.contains("does not answer ping") },
          "\(alone.output)")
        try host2.must("ip link set eth0 up")

        // A tunnel without a way.
        try host1.ctl("add-port br0 vxlan1 tag=200 key=200 remote=198.51.100.1")
        let astray = try host1.ctl(["-f", "json", "doctor"])
        #expect(astray.status == 1)
        #expect(astray.standardError.contains("1 thing is wrong"), "\(astray)")
        #expect(astray.standardOutput.contains("198.51.100.1"), "\(astray)")
        #expect(try host1.ctl(["-f", "csv", "doctor"]).status == 1)
        #expect(try host1.ctl(["--dry-run", "doctor"]).succeeded)
      }
    }
  }
}
