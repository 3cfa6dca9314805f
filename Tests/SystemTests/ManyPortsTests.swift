import Foundation
import Testing

extension SystemTests {
  /// A thousand ports: what one change costs, and what many at once do to those that are not
  /// concerned.
  @Suite struct ManyPortsTests {
    @Test func aThousandPortsComeAndGoBesideTraffic() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        // Or each of the thousand, which all end in this namespace, would greet all the others.
        try host.must("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        let daemon = try lab.daemon(on: host, arguments: ["--log-level", "debug"])
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24", tag: 5)
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24", tag: 5)
        try red.expectPing("172.17.42.12")
        let ping = try red.start("exec ping -i 0.02 -W 1 172.17.42.12")

        func many(_ verb: (Int) -> String) -> String {
          (0..<1000).map(verb).joined(separator: " -- ")
        }
        try host.ctl("-t 60 \(many { "add-port br0 t\($0) type=tap" })", seconds: 70)
        #expect(try host.must("ls /sys/class/net | grep -c '^t[0-9]'") == "1000\n")

        // One port more has the daemon look at that port, and not at a thousand.
        var looked: [Int] = []
        try eventually("the thousand have settled") {
          try host.ctl("add-port br0 x\(looked.count) type=tap")
          looked.append(examined(daemon.log))
          return looked.count > 1 && looked[looked.count - 1] - looked[looked.count - 2] < 20
        }

        // By the ten seconds that ovx-ctl waits unless told otherwise, with time to spare on a
        // machine that is not busy.
        try host.ctl("\(many { "del-port t\($0)" })")
        #expect(try host.must("ls /sys/class/net | grep -c '^t[0-9]' || true") == "0\n")
        ping.signal(SIGINT)
        let pings = try ping.finish(seconds: 5)
        #expect(pings.standardOutput.contains(" 0% packet loss"), "\(pings)")
      }
    }

    /// The number in the last line that tells how many ports were looked at.
    private func examined(_ log: String) -> Int {
      let line = log.split(separator: "\n").last { $0.contains("looked at so far") }
      return line?.firstMatch(of: /and (\d+) looked at/).flatMap { Int($0.1) } ?? 0
    }
  }
}
