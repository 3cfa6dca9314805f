import Foundation
import Testing

extension SystemTests {
  /// A daemon with several workers is the same switch as one with a single one.
  @Suite struct WorkersTests {
    /// What was made under one number of workers goes on under another one.
    @Test func theirNumberChangesBetweenStarts() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        var daemon = try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let blue1 = try lab.container("blue1", on: host1, by: .veth, address: "172.17.42.21/24")
        let red2 = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24")
        for workers in [3, 1, 2] {
          _ = try daemon.stop(SIGTERM)
          daemon = try lab.daemon(on: host1, arguments: ["--workers", "\(workers)"])
          let threads = try host1.must(
            "grep -l ovx-worker /proc/\(daemon.process.pid)/task/*/comm | wc -l")
          #expect(threads.trimmingCharacters(in: .whitespacesAndNewlines) == "\(workers)")
          let features = try host1.ctl("tunnel show")
          #expect(features.contains("\(workers) workers") == (workers > 1), "\(features)")
          for (from, address) in [
            (red1, "172.17.42.12"), (blue1, "172.17.42.12"), (red1, "172.17.42.21"),
            (red2, "172.17.42.21"),
          ] {
            try from.expectPing(address)
          }
          // A TAP that was made now has a queue for each worker, one that was there what it was
          // made with.
          let name = "green\(workers)"
          let green = try lab.container(
            name, on: host1, by: .tap, address: "172.17.42.3\(workers)/24")
          try green.expectPing("172.17.42.12")
          try green.expectConversation(
            at: "172.17.42.3\(workers)", with: red2, at: "172.17.42.12")
          try blue1.expectConversation(at: "172.17.42.21", with: red2, at: "172.17.42.12")
        }
      }
    }

    /// A host with so many workers and a container, which reaches 172.17.42.12 on another host.
    private func scene(_ lab: Lab, workers: Int) throws -> (host1: Namespace, red1: Namespace) {
      let (host1, host2) = try lab.twoHosts()
      try lab.overlay(on: host1, remotes: [2], arguments: ["--workers", "\(workers)"])
      try lab.overlay(on: host2, remotes: [1])
      let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
      _ = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24")
      try red1.expectPing("172.17.42.12")
      return (host1, red1)
    }

    /// What the workers know and count apart is told as one.
    @Test func tablesAndCountersAreOne() throws {
      try Lab.run { lab in
        let (host1, red1) = try scene(lab, workers: 4)
        // Forty flows, which the kernel gives to whichever worker it likes.
        try red1.must(
          "for p in $(seq 2000 2039); do echo x | socat -u - UDP:172.17.42.12:9,sourceport=$p; done"
        )
        let table = try host1.ctl("fdb show br0")
        let addresses = table.matches(of: /([0-9a-f]{2}:){5}[0-9a-f]{2}/).map { String($0.0) }
        #expect(addresses.count >= 3 && Set(addresses).count == addresses.count, "\(table)")
        // What was sent before the other host's daemon ran is no concern of theirs.
        let drops = try host1.drops().filter {
          $0.key.hasPrefix("vxlan0") && !$0.key.hasSuffix("remote-not-listening")
        }
        #expect(drops.isEmpty, "\(drops)")
        // A static address is known to all of them, and so is that it is gone.
        try host1.ctl("fdb add br0 vxlan0 0 02:00:00:00:00:77")
        try host1.ctl("fdb del br0 0 02:00:00:00:00:77")
        let gone = try host1.ctl(["fdb", "del", "br0", "0", "02:00:00:00:00:77"])
        #expect(!gone.succeeded)
        // A container's interface that is new announces itself a few times.
        try eventually("all workers have forgotten") {
          try host1.ctl("fdb flush br0")
          return try !host1.ctl("fdb show br0").contains("eth0")
        }
      }
    }

    /// What several workers see comes out as one capture, each record whole.
    @Test func aCaptureShowsAllOfThem() throws {
      try Lab.run { lab in
        let (host1, red1) = try scene(lab, workers: 2)
        let capture = try host1.start(
          "exec ovx-ctl --rundir \(host1.rundir) capture br0 'udp and src host 172.17.42.11' -c 60 -w \(host1.rundir)/c.pcap"
        )
        Thread.sleep(forTimeInterval: 0.5)
        try red1.must(
          "for p in $(seq 2000 2059); do echo $p | socat -u - UDP:172.17.42.12:9,sourceport=$p; done"
        )
        let output = try capture.finish(seconds: 10)
        #expect(output.succeeded, "\(output)")
        let lines = try host1.must("tcpdump -nr \(host1.rundir)/c.pcap 2>/dev/null")
        for port in 2000..<2060 { #expect(lines.contains("172.17.42.11.\(port) >"), "\(port)") }
      }
    }
  }
}
