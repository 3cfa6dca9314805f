import Foundation
import Glibc
import OVXControl
import SystemPackage
import Testing

extension SystemTests {
  /// `ovx-ctl wait-until`: a request that the daemon holds until what it waits for is so.
  @Suite struct WaitUntilTests {
    /// A request to wait, on a connection of its own.
    private struct Waiter: ~Copyable {
      private let connection: FileDescriptor
      private var decoder = MessageDecoder<Response>()

      init(_ host: Namespace, _ request: Request) throws {
        connection = FileDescriptor(rawValue: try host.hold(try request.messageBytes()))
      }

      deinit { try? connection.close() }

      /// The answer; `nil` where none comes in so many milliseconds.
      mutating func answer(within milliseconds: Int32) throws -> Response? {
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
          if let response = try decoder.next() { return response }
          var entry = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
          guard unsafe poll(&entry, 1, milliseconds) > 0 else { return nil }
          let count = try unsafe chunk.withUnsafeMutableBytes {
            try unsafe connection.read(into: $0)
          }
          guard count > 0 else { throw LabError("the daemon has hung up") }
          decoder.append(chunk[..<count])
        }
      }
    }

    private func request(_ record: String, tag: String, timeout: Double = 10) -> Request {
      Request(
        commands: [
          .waitUntil(
            table: "port", record: record,
            conditions: [Condition(column: "tag", comparison: .equal, value: tag)])
        ], timeout: timeout)
    }

    private func set(_ tag: Int, _ client: ControlClient) throws {
      let setting = Setting(column: "tag", value: "\(tag)")
      _ = try client.replies(
        to: [.set(table: "port", record: "p1", settings: [setting], ifExists: false)], timeout: 10)
    }

    private func isDone(_ response: Response?) -> Bool {
      if case .done? = response?.outcome { true } else { false }
    }

    /// What is so for less than a millisecond is seen, each time.
    @Test func nothingIsMissed() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 p1 type=tap tag=1")
        let client = ControlClient(runDirectory: host.rundir)
        for round in 0..<40 {
          var waiter = try Waiter(host, request("p1", tag: "7"))
          // It is behind the waiter in the daemon's queue, so that the waiter is held by now.
          _ = try client.replies(to: [.version], timeout: 10)
          try set(7, client)
          try set(8, client)
          #expect(isDone(try waiter.answer(within: 5000)), "round \(round)")
        }
        // Who waits for a change that another one makes, who waits himself.
        let chain = try host.start(
          "exec ovx-ctl -t 10 wait-until port p1 tag=9 -- set port p1 tag=10")
        var last = try Waiter(host, request("p1", tag: "10"))
        #expect(try last.answer(within: 200) == nil)
        try set(9, client)
        #expect(try chain.finish(seconds: 5).succeeded)
        #expect(isDone(try last.answer(within: 5000)))
      }
    }

    /// The waiter sleeps, and so does the daemon; the history does not tell of it until it has come
    /// to an end.
    @Test func waitingCostsNothing() throws {
      try Lab.run { lab in
        // Namespaces that others make on this machine wake both; nobody waits at the second.
        let (host, idle) = (try lab.namespace("host1"), try lab.namespace("host2"))
        let (daemon, idleDaemon) = (try lab.daemon(on: host), try lab.daemon(on: idle))
        for each in [host, idle] { try each.ctl("add-br br0 -- add-port br0 p1 type=tap tag=1") }
        let waiter = try host.start(
          "exec ovx-ctl -t 3 wait-until port p1 tag=5 -- set port p1 tag=6")
        func switches(_ pid: pid_t) throws -> Int {
          let text = try String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
          guard let match = text.firstMatch(of: /\nvoluntary_ctxt_switches:\s+(\d+)/) else {
            throw LabError("no voluntary_ctxt_switches of \(pid)")
          }
          return Int(match.1) ?? 0
        }
        usleep(700_000)
        func lead() throws -> Int {
          try switches(daemon.process.pid) - switches(idleDaemon.process.pid)
        }
        let before = try (switches(waiter.pid), lead())
        usleep(1_500_000)
        #expect(waiter.isRunning)
        #expect(try switches(waiter.pid) - before.0 <= 3)
        // Twenty questions a second would be 30 of them.
        #expect(try lead() - before.1 < 25)
        let output = try waiter.finish(seconds: 5)
        #expect(output.status == 75)
        #expect(output.standardError.contains("tag of Port p1 is still 1 after 3 s"))
        let history = try host.ctl("events").split(separator: "\n")
        #expect(history.count { $0.contains("tag=6") } == 1, "\(history)")
      }
    }

    @Test func theNextDaemonIsAsked() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        var daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 p1 type=tap tag=1")
        let waiter = try host.start(
          "exec ovx-ctl -t 30 wait-until port p1 tag=5 -- get port p1 tag")
        let hopeless = try host.start("exec ovx-ctl -t 30 wait-until port p9 -- get port p9 tag")
        for signal in [SIGTERM, SIGKILL] {
          usleep(300_000)
          try daemon.stop(signal)
          usleep(300_000)
          #expect(waiter.isRunning)
          daemon = try lab.daemon(on: host)
        }
        usleep(300_000)
        daemon.mayBeDead = true
        _ = try lab.daemon(on: host, arguments: ["--take-over"])
        usleep(300_000)
        #expect(waiter.isRunning)
        try host.ctl("set port p1 tag=5")
        let output = try waiter.finish(seconds: 5)
        #expect(output.succeeded, "\(output.standardError)")
        #expect(output.standardOutput == "5\n")
        #expect(hopeless.isRunning)
      }
    }

    @Test func noDaemonComesBack() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        let waiter = try host.start("exec ovx-ctl -t 2 wait-until bridge br0")
        usleep(500_000)
        try daemon.stop(SIGTERM)
        let output = try waiter.finish(seconds: 10)
        #expect(output.status == 69)
        #expect(output.standardError.contains("start it with ovx-vswitchd"))
      }
    }

    /// Counters, of which no watch tells by itself, links, networks, and records by other names.
    @Test func whateverAColumnSays() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 p1 type=tap")
        try host.must(
          "ip link add v1 type veth peer name v1p && ip link set v1 up && ip link set v1p up")
        try host.ctl("add-port br0 v1")
        let id = try host.ctl("get port p1 _uuid").trimmingCharacters(in: .whitespacesAndNewlines)
        let waiters = try [
          "wait-until interface v1 'statistics:rx_packets>900'",
          "wait-until interface v1 link_state=down", "wait-until port \(id) tag=5",
          "wait-until switch . external_ids:a=b", "wait-until network net1 vni=70",
          "-- wait-until bridge br0 external_ids:c=d -- wait-until port p1 tag=5",
        ].map { try host.start("exec ovx-ctl -t 20 \($0)") }
        usleep(500_000)
        for waiter in waiters { #expect(waiter.isRunning, "\(waiter.line)") }
        try host.must("python3 $TRAFFIC/send_frame.py v1p 1000 ffffffffffff02000000000908004500")
        try host.must("ip link set v1p down")
        try host.ctl("set port p1 tag=5 -- set switch . external_ids:a=b")
        try host.ctl("add-net net1 vni=70")
        try host.ctl("set bridge br0 external_ids:c=d")
        for waiter in waiters {
          let output = try waiter.finish(seconds: 10)
          #expect(output.succeeded, "\(waiter.line): \(output.standardError)")
        }
      }
    }

    /// Requests that wait are bounded, leave clients their places, and go with whoever made them.
    @Test func theyAreBounded() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 p1 type=tap tag=1")
        do {
          // Each waits by itself, so that nobody's answer comes.
          let waiters = try (0..<128).map { _ in
            try host.hold(try request("p1", tag: "5", timeout: 60).messageBytes())
          }
          defer { for waiter in waiters { close(waiter) } }
          try eventually("one more is refused") {
            let output = try host.ctl(["-t", "1", "wait-until", "bridge", "br9"])
            return output.status == 1
              && output.standardError.contains(
                "128 requests wait already, and there can be no more")
          }
          for _ in 0..<100 { try host.ctl("version") }
        }
        try eventually("there is room again") {
          try host.ctl(["-t", "0.2", "wait-until", "bridge", "br9"]).status == 75
        }
      }
    }
  }
}

extension Namespace {
  /// Sends something to this host's daemon, and gives the open connection.
  fileprivate func hold(_ bytes: [UInt8]) throws -> Int32 {
    let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    let isConnected = try unsafe ControlSocket.withAddress(of: FilePath("\(rundir)/vswitchd.sock"))
    {
      address, size in unsafe connect(number, address, size) == 0
    }
    guard isConnected else { throw LabError("no connection to the daemon of \(name)") }
    try FileDescriptor(rawValue: number).writeAll(bytes)
    return number
  }
}
