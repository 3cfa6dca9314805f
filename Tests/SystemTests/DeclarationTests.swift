import Foundation
import Testing

extension SystemTests {
  /// `apply`, `diff` and `export` against the real daemon.
  @Suite struct DeclarationTests {
    static let directory = Lab.packageRoot.appendingPathComponent("configs").path

    static func examples() throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: directory).filter {
        $0.hasSuffix(".yaml")
      }
      .sorted()
    }

    /// Makes what a file's ports stand on: a veth for each device of the host that it names.
    private func makeDevices(of file: String, on host: Namespace) throws {
      let lines = try host.ctl("--dry-run -f csv apply -f \(file)").split(separator: "\n")
      for line in lines {
        let cells = line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard cells.count >= 6, cells[3] == "type", cells[5] == "system" else { continue }
        try host.must("ip link add \(cells[2]) mtu 1400 type veth peer name \(cells[2])-c")
      }
    }

    @Test func examplesAreThere() throws {
      #expect(try Self.examples().count >= 7)
    }

    /// Each example takes effect, a second time changes nothing, and what is exported is the same.
    @Test(arguments: try examples())
    func example(name: String) throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        let daemon = try lab.daemon(on: host)
        let file = "\(Self.directory)/\(name)"
        if name.contains("-2") || name.contains("-3") {
          // The file of another host: this one is that host.
          let number = name.contains("-2") ? 3 : 4
          try host.must(
            "ip addr flush dev eth0 && ip addr add 192.168.5.\(number)/24 dev eth0")
        }
        try makeDevices(of: file, on: host)
        let before = try host.ctl(["diff", "-f", file])
        #expect(before.status == 2, "\(before)")
        let printed = try host.ctl("apply -f \(file)")
        #expect(printed == before.standardOutput)
        #expect(printed.contains("+ bridge br0"))
        #expect(try host.ctl("apply -f \(file)") == "")
        let after = try host.ctl(["diff", "-f", file])
        #expect(after.status == 0 && after.standardOutput.isEmpty, "\(after)")
        #expect(!(try host.ctl("show")).contains("error:"))
        for format in ["table", "json"] {
          let words = format == "json" ? "-f json " : ""
          let back = try host.run(
            "ovx-ctl \(words)export > \(host.rundir)/out && ovx-ctl diff -f - < \(host.rundir)/out")
          #expect(back.succeeded && back.standardOutput.isEmpty, "\(format): \(back)")
        }
        // It is stored, not only in force.
        try daemon.stop(SIGKILL)
        try lab.daemon(on: host)
        #expect(try host.ctl(["diff", "-f", file]).status == 0)
        // Nothing is left of it.
        try host.must("echo 'bridges: {}' | ovx-ctl apply -f -")
        #expect(try host.ctl("list-br") == "")
      }
    }

    @Test func twoHostsReachEachOther() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.daemon(on: host)
          let file = "\(Self.directory)/two-hosts-\(number).yaml"
          try makeDevices(of: file, on: host)
          try host.ctl("apply -f \(file)")
        }
        try host1.expectPing("172.17.42.2")
        try host2.expectPing("172.17.42.1")
      }
    }

    @Test func threeHostsReachEachOther() throws {
      try Lab.run { lab in
        let hosts = try lab.hosts(3)
        for (index, host) in hosts.enumerated() {
          try lab.daemon(on: host)
          try host.ctl("apply -f \(Self.directory)/mesh-\(index + 1).yaml")
        }
        for (index, host) in hosts.enumerated() {
          for other in hosts.indices where other != index {
            try host.expectPing("10.42.0.\(other + 1)")
            try host.expectPing("fd42::\(other + 1)")
          }
        }
      }
    }

    /// Addresses from a file come and go with it; the administrator's own are never touched.
    @Test func addresses() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        func apply(_ addresses: String) throws {
          try host.must("echo 'bridges: {br0: {address: [\(addresses)]}}' | ovx-ctl apply -f -")
        }
        func addresses() throws -> Set<String> {
          let lines = try host.must("ip -o addr show dev br0 scope global").split(separator: "\n")
          return Set(lines.map { String($0.split(separator: " ")[3]) })
        }
        try apply("10.1.0.1/24, \"fd01::1/64\"")
        #expect(try addresses() == ["10.1.0.1/24", "fd01::1/64"])
        // The administrator adds some, among them one that the file names later.
        try host.must(
          """
          ip addr add 10.1.0.7/24 dev br0
          ip addr add 10.2.0.7/24 dev br0
          ip addr add fd01::7/64 dev br0
          """)
        try apply("10.1.0.2/24, 10.2.0.7/24")
        let own: Set = ["10.1.0.7/24", "10.2.0.7/24", "fd01::7/64"]
        #expect(try addresses() == own.union(["10.1.0.2/24"]))
        try apply("")
        #expect(try addresses() == own)
        // A daemon that was killed finds its own, and gives them to a device that it has to make
        // anew.
        try apply("10.1.0.3/24")
        try daemon.stop(SIGKILL)
        let second = try lab.daemon(on: host)
        #expect(try addresses() == own.union(["10.1.0.3/24"]))
        try apply("10.1.0.4/24")
        #expect(try addresses() == own.union(["10.1.0.4/24"]))
        try second.stop(SIGKILL)
        try host.must("ip link del br0")
        try lab.daemon(on: host)
        #expect(try addresses() == ["10.1.0.4/24"])
        #expect(try host.ctl("get interface br0 addresses") == "[\"10.1.0.4/24\"]\n")
      }
    }

    /// What attach has made stays as it is, whatever a file says.
    @Test func containersAreNotTouched() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        let container = try lab.namespace("web")
        let file = "\(host.rundir)/net.yaml"
        try host.must("echo 'bridges: {br0: {address: 10.0.0.1/24}}' > \(file)")
        try host.ctl("apply -f \(file)")
        try host.ctl("attach br0 \(container.name) eth0 ip=10.0.0.2/24")
        let port = try host.ctl("list-ports br0").trimmingCharacters(in: .newlines)
        #expect(try host.ctl(["diff", "-f", file]).status == 0)
        #expect(try host.ctl("apply -f \(file)") == "")
        try container.expectPing("10.0.0.1")
        #expect(try host.ctl("export").contains("# Not in here, as attach made it: \(port)\n"))
        for text in ["{}", "{br1: {}}", "{br0: {ports: {\"\(port)\": {type: tap}}}}"] {
          let output = try host.run("echo 'bridges: \(text)' | ovx-ctl apply -f -")
          #expect(output.status == 1 && output.standardError.contains(port), "\(output)")
        }
        try container.expectPing("10.0.0.1")
        #expect(try host.ctl("list-ports br0") == port + "\n")
      }
    }

    /// What the daemon refuses changes nothing, and the error shows the place in the file.
    @Test func refusedAsAWhole() throws {
      try Lab.run { lab in
        let host = try lab.twoHosts().0
        try lab.daemon(on: host)
        try host.must(
          """
          ip link add veth1 mtu 1400 type veth peer name veth1-c
          ip link add jumbo mtu 9000 type veth peer name jumbo-c
          ip link add taken type dummy 2>/dev/null || ip link add taken type veth peer name taken-c
          """)
        try host.ctl("add-br br0 -- add-port br0 veth1 tag=7")
        let before = try host.ctl("-f json export")
        let start = "bridges:\n  br0:\n    ports:\n      veth1: {tag: 8}\n"
        let cases = [
          ("      lo: {}\n", 5, "lo"),
          (
            "      jumbo: {tag: 8, mtu: 9000}\n      vx: {key: 8, tag: 8, remote: 192.168.5.3}\n",
            5, "9000"
          ),
          ("      vx: {key: 8, tag: 8, remote: 192.168.5.2}\n", 5, "192.168.5.2"),
          (
            "      vx: {key: 8, tag: 8, remote: 192.168.5.3}\n      vy: {key: 9, tag: 8, remote: 192.168.5.3}\n",
            6, "joins two tenants"
          ),
          ("  br1: {}\n  taken: {}\n", 6, "taken"),
        ]
        for (text, line, word) in cases {
          let file = "\(host.rundir)/net.yaml"
          try Data((start + text).utf8).write(to: URL(fileURLWithPath: file))
          for words in [["apply"], ["--dry-run", "apply"], ["diff"]] {
            let output = try host.ctl(words + ["-f", file])
            #expect(output.status == 1, "\(output)")
            #expect(output.standardOutput.isEmpty, "\(output)")
            #expect(output.standardError.hasPrefix("ovx-ctl: \(file):\(line):"), "\(output)")
            #expect(output.standardError.contains(word), "\(output)")
            #expect(try host.ctl("-f json export") == before)
          }
        }
        #expect(!(try host.run("ip link show br1").succeeded))
      }
    }
  }

  @Suite struct WatchingTests {
    @Test func logLevel() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        #expect(try host.ctl("log show") == "info\n")
        try host.ctl("vlog/set ANY:file:warn")
        #expect(try host.ctl("vlog/list") == "warning\n")
        try host.ctl("add-br quiet")
        try host.ctl("log set info")
        try host.ctl("add-br loud")
        #expect(!daemon.log.contains("port quiet"))
        #expect(daemon.log.contains("port loud"))
        let output = try host.ctl(["log", "set", "loud"])
        #expect(output.status == 1 && output.standardError.contains("debug"), "\(output)")
      }
    }

    @Test func rates() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        let container = try lab.namespace("web")
        try host.must("echo 'bridges: {br0: {address: 10.0.0.1/24}}' | ovx-ctl apply -f -")
        try host.ctl("attach br0 \(container.name) eth0 ip=10.0.0.2/24")
        try container.expectPing("10.0.0.1")
        let pings = try container.start("ping -i 0.01 -s 1000 -w 5 10.0.0.1")
        let lines = try host.ctl("top -n 3 -d 0.5").split(
          separator: "\n", omittingEmptySubsequences: false)
        pings.signal(SIGINT)
        _ = pings.wait(seconds: 5)
        #expect(lines.filter { $0.hasPrefix("Bridge") }.count == 3, "\(lines)")
        // 100 pings a second of 1042 bytes, there and back.
        let rates = try #require(lines.filter { $0.hasPrefix("br0     br0") }.last)
        let cells = rates.split(separator: " ").map(String.init)
        let frames = try #require(Int(cells[2]))
        let bits = try #require(Int(cells[3]))
        #expect((50...130).contains(frames), "\(rates)")
        #expect(abs(bits - frames * 1042 * 8) < frames * 800, "\(rates)")
        let csv = try host.ctl("-f csv top -n 2 -d 0.2").split(separator: "\n")
        #expect(csv.count == 5, "one heading, two ports twice: \(csv)")
        // Ctrl-C ends it at once.
        let top = try host.start("exec ovx-ctl top")
        usleep(300_000)
        top.signal(SIGINT)
        #expect(top.wait(seconds: 2) != nil)
      }
    }
  }
}
