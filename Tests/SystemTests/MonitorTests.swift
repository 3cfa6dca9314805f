import Foundation
import Testing

extension SystemTests {
  /// `ovx-ctl monitor`: what is there, and each change as it happens.
  @Suite struct MonitorTests {
    private struct Event: Decodable {
      var action: String
      var table: String?
      var record: String?
    }

    /// What has been written so far; there is no file before the shell has made it.
    private func lines(_ file: String) -> [Substring] {
      ((try? String(contentsOfFile: file, encoding: .utf8)) ?? "").split(separator: "\n")
    }

    private func events(_ file: String) -> [Event] {
      lines(file).compactMap { try? JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
    }

    @Test func portsThatComeChangeAndGo() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let file = lab.directory.appendingPathComponent("events").path
        let monitor = try host.start("exec ovx-ctl monitor > \(file)")
        func expect(_ line: String) throws {
          try eventually(line) { lines(file).contains { $0.contains(line) } }
        }
        try expect("Port br0 initial")
        try expect("snapshot-end")
        try host.must("ip link add veth1 type veth peer name peer1 && ip link set veth1 up")
        try host.must("ip link set peer1 up")
        try host.ctl("add-port br0 veth1 tag=100 -- set bridge br0 external_ids:a=b")
        try expect("Interface veth1 insert")
        try expect("Bridge br0 modify external_ids: {} -> {a=b} ports: [br0] -> [br0, veth1]")
        try host.ctl("add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3")
        try expect("Tunnel vxlan0/192.168.5.3 insert bridge=br0")
        try host.must("ip link set peer1 down")
        try expect("Interface veth1 modify link_state: up -> down")
        try host.must("ip link set peer1 up")
        try expect("Interface veth1 modify link_state: down -> up")
        lab.expectLog("port veth1 waits")
        try host.must("ip link del veth1")
        try expect("-> \"cannot use veth1")
        try host.ctl("del-port vxlan0")
        try expect("Tunnel vxlan0/192.168.5.3 delete")
        monitor.signal(SIGINT)
        #expect(monitor.wait(seconds: 2) != nil)

        // Counters, in JSON, up to a number of changes.
        let line = try host.ctl("-f json monitor statistics -d 0.2 -n 1")
        #expect(line.contains("{\"action\":\"snapshot-end\"}"))
      }
    }

    /// A reader that stops is told that it has missed something, once it reads again, and keeps nobody from anything.
    @Test func whoReadsTooSlowlyIsTold() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        try lab.daemon(on: host)
        let pid = try host.must("cat \(host.rundir)/vswitchd.pid")
          .trimmingCharacters(in: .whitespacesAndNewlines)
        try host.ctl("add-br br0 -- add-port br0 t0 type=tap")
        let files = ["slow", "fast"].map { lab.directory.appendingPathComponent($0).path }
        let slow = try host.start("exec ovx-ctl -f json monitor bridge > \(files[0])")
        let fast = try host.start("exec ovx-ctl -f json monitor bridge > \(files[1])")
        for file in files {
          try eventually("a snapshot") { events(file).contains { $0.action == "snapshot-end" } }
        }
        slow.signal(SIGSTOP)
        func memory() throws -> Int {
          let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
          guard let match = text.firstMatch(of: /VmRSS:\s+(\d+) kB/) else {
            throw LabError("no VmRSS of \(pid)")
          }
          return Int(match.1) ?? 0
        }
        let before = try memory()
        // Each change takes 400 KiB, old and new; the ring holds 16 MiB of them, the socket none.
        let values = ["a", "b"].map { letter in
          (0..<50).map { "external_ids:x\($0)=" + String(repeating: letter, count: 4000) }
        }
        for round in 0..<80 {
          let output = try host.ctl(["set", "bridge", "br0"] + values[round % 2])
          guard output.succeeded else { throw LabError(output.standardError) }
        }
        #expect(try memory() - before < 60_000, "kB, for what is kept for who does not read")
        slow.signal(SIGCONT)
        try eventually("the slow reader is told") {
          let actions = events(files[0]).map(\.action)
          guard let missed = actions.lastIndex(of: "missed") else { return false }
          return actions[missed...].contains("snapshot-end")
        }
        try eventually("the fast reader has all") {
          events(files[1]).count { $0.action == "modify" } == 80
        }
        #expect(!events(files[1]).contains { $0.action == "missed" })
        for command in [slow, fast] {
          command.signal(SIGINT)
          #expect(command.wait(seconds: 2) != nil)
        }
      }
    }

    @Test func aMonitorEndsWithItsDaemon() throws {
      try Lab.run { lab in
        let (host, _) = try lab.twoHosts()
        let daemon = try lab.daemon(on: host)
        let monitor = try host.start("exec ovx-ctl monitor")
        try eventually("it runs") { monitor.standardOutput.contains("snapshot-end") }
        try daemon.stop(SIGTERM)
        let output = try monitor.finish(seconds: 5)
        #expect(output.status == 69)
        #expect(output.standardError.contains("has ended the watch"))
      }
    }
  }
}
