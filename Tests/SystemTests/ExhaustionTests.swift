import Glibc
import Testing

extension SystemTests {
  /// What is used up is refused in words, costs nothing that is there, and can be had again later.
  @Suite struct ExhaustionTests {
    @Test func fileDescriptors() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        try red.expectPing("172.17.42.12")
        let ping = try red.start("exec ping -i 0.05 -W 1 172.17.42.12")
        let process = daemon.process.pid
        let open = try host.must("ls /proc/\(process)/fd").split(separator: "\n").count
        try host.must("prlimit --pid \(process) --nofile=\(open + 12):")

        var refusal: Output?
        var before = ""
        for number in 0..<40 where refusal == nil {
          before = try host.ctl("-f json show")
          let output = try host.ctl([
            "add-br", "half\(number)", "--", "add-port", "br0", "t\(number)", "type=tap",
          ])
          if !output.succeeded { refusal = output }
        }
        let refused = try #require(refusal, "the descriptors never ran out")
        #expect(refused.status == 1)
        #expect(
          refused.standardError.contains("Too many open files")
            && refused.standardError.contains("LimitNOFILE="), "\(refused)")
        #expect(try host.ctl("-f json show") == before, "nothing was applied")

        // Those of what was removed serve again, and so do new ones.
        try host.ctl("del-br half0")
        try host.ctl("del-port t0")
        try host.ctl("add-port br0 t100 type=tap")
        try host.must("prlimit --pid \(process) --nofile=1024:")
        for number in 200..<220 { try host.ctl("add-port br0 t\(number) type=tap") }
        #expect(try !host.ctl("show").contains("error:"))
        ping.signal(SIGINT)
        let pings = try ping.finish(seconds: 5)
        #expect(pings.standardOutput.contains(" 0% packet loss"), "\(pings)")
      }
    }
  }
}
