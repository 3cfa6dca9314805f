import Foundation
import OVXControl
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

    /// A reader that stops is told that it has missed something, once it reads again, and keeps
    /// nobody from anything.
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

    /// The rows that a reader knows of, by what it was told since it missed something last; `nil`
    /// in the middle of a snapshot.
    private func picture(_ file: String) throws -> [WatchedTable: [String: [String: Datum]]]? {
      var rows: [WatchedTable: [String: [String: Datum]]] = [:]
      var isWhole = false
      for line in lines(file) {
        // The last line may be on its way.
        guard let event = try? JSONDecoder().decode(WatchEvent.self, from: Data(line.utf8)) else {
          return nil
        }
        switch (event.action, event.table, event.record) {
        case (.missed, _, _): (rows, isWhole) = ([:], false)
        case (.snapshotEnd, _, _): isWhole = true
        case (.delete, let table?, let record?): rows[table]?[record] = nil
        case (_, let table?, let record?):
          rows[table, default: [:]][record, default: [:]].merge(event.new ?? [:]) { $1 }
        default: throw LabError("what is \(line)?")
        }
      }
      return isWhole ? rows : nil
    }

    /// The same of a reader that comes now.
    private func present(
      _ tables: [WatchedTable], _ client: ControlClient
    ) throws -> [WatchedTable: [String: [String: Datum]]] {
      var rows: [WatchedTable: [String: [String: Datum]]] = [:]
      var watch = try client.watch(tables)
      while let event = try watch.next(), event.action != .snapshotEnd {
        guard let table = event.table, let record = event.record else { continue }
        rows[table, default: [:]][record] = event.new
      }
      return rows
    }

    /// A reader is stopped while an operator and a tenant change as much as the daemon takes: its
    /// memory is bounded, other tenants' frames get through, and once the reader goes on it knows
    /// what there is.
    @Test func aStoppedReaderAndAllThatCanChange() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-br br1")
        let red = try (1...3).map {
          try lab.container("red\($0)", on: host, by: .veth, address: "172.17.42.1\($0)/24")
        }
        try red[0].expectPing("172.17.42.12")
        let ports = (0..<128).map { "t\($0)" }
        try host.ctl(ports.map { "add-port br1 \($0) type=tap" }.joined(separator: " -- "))
        let tables: [WatchedTable] = [.port, .interface, .station]
        let (file, other) = ("\(host.rundir)/events", "\(host.rundir)/others")
        let reader = try host.start("exec ovx-ctl -f json monitor port interface fdb > \(file)")
        let running = try host.start("exec ovx-ctl -f json monitor port interface fdb > \(other)")
        for file in [file, other] {
          try eventually("a snapshot") { try picture(file) != nil }
        }
        reader.signal(SIGSTOP)
        let ping = try red[0].start("exec ping -i 0.02 -W 5 172.17.42.12")
        // Addresses that nobody has had, each from now on behind this port.
        let target = try red[1].must("cat /sys/class/net/eth0/address")
          .trimmingCharacters(in: .whitespacesAndNewlines)
        let tenant = try red[2].start(
          "exec python3 $TRAFFIC/many_addresses.py eth0 \(target) 5000")

        let client = ControlClient(runDirectory: host.rundir)
        func memory() throws -> Int {
          let status = try String(
            contentsOfFile: "/proc/\(daemon.process.pid)/status", encoding: .utf8)
          guard let match = status.firstMatch(of: /VmRSS:\s+(\d+) kB/) else {
            throw LabError("no VmRSS of the daemon")
          }
          return Int(match.1) ?? 0
        }
        func change(_ round: Int) throws {
          let setting = Setting(column: "external_ids", key: "round", value: "\(round)")
          _ = try client.replies(
            to: ports.map {
              .set(table: "port", record: $0, settings: [setting], ifExists: false)
            }, timeout: 20)
        }
        // What the first rounds take is taken once.
        for round in 0..<10 { try change(round) }
        let start = ContinuousClock.now
        var (round, before, peak) = (10, try memory(), 0)
        // Several times what is kept of changes.
        while ContinuousClock.now - start < .seconds(5) || round < 80 {
          try change(round)
          round += 1
          peak = max(peak, try memory())
        }
        #expect(peak - before < 60_000, "kB, for what is kept for who does not read")
        ping.signal(SIGINT)
        let pings = try ping.finish(seconds: 10)
        #expect(pings.standardOutput.contains(" 0% packet loss"), "\(pings)")
        tenant.signal(SIGKILL)

        let silent = lines(file).count
        reader.signal(SIGCONT)
        try eventually("both readers know what there is", within: 30) {
          let present = try present(tables, client)
          return try lines(file).count > silent && picture(file) == present
            && picture(other) == present
        }
        #expect(events(file).contains { $0.action == "missed" })
        let list = try client.replies(
          to: [
            .list(table: "port", records: [], columns: ["name", "external_ids"], ifExists: false)
          ],
          timeout: 10)
        guard case .records(let records)? = list.first, let rows = try picture(file)?[.port] else {
          throw LabError("no list")
        }
        #expect(records.rows.count == rows.count)
        for row in records.rows { #expect(rows["\(row[0])"]?["external_ids"] == row[1]) }
        for command in [reader, running] {
          command.signal(SIGINT)
          #expect(command.wait(seconds: 2) != nil)
        }
      }
    }

    /// Samples of counters have their time from the daemon, whoever reads them and when.
    @Test func samplesOfCounters() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let client = ControlClient(runDirectory: host.rundir)
        func next(
          _ watch: inout WatchConnection, _ samples: inout CounterSamples
        ) throws -> CounterSample {
          while true {
            guard let event = try watch.next(within: 10_000) else { throw LabError("no sample") }
            if let sample = samples.take(event) { return sample }
          }
        }
        var first = try client.watch(CounterSamples.tables, interval: 100)
        var reader = CounterSamples()
        var all = [try next(&first, &reader)]
        for _ in 0..<5 {
          let sample = try next(&first, &reader)
          #expect(sample.time - all[all.count - 1].time >= .milliseconds(100))
          #expect(sample.ports.map(\.port) == ["br0"])
          all.append(sample)
        }
        // Who comes later is told of a sample that was taken, and when that was.
        var second = try client.watch(CounterSamples.tables, interval: 3_600_000)
        var other = CounterSamples()
        let late = try next(&second, &other)
        #expect(late.time >= all[all.count - 1].time)
        while let last = all.last, last.time < late.time { all.append(try next(&first, &reader)) }
        #expect(all.contains { $0.time == late.time })
        // The shortest interval is everybody's.
        #expect(try next(&second, &other).time > late.time)
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
