import Foundation
import OVXSimulation
import Testing

extension SystemTests {
  /// How the daemon starts, tells of itself, and ends.
  @Suite struct DaemonLifeTests {
    @Test func detachReturnsWhenReady() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try host.must("ovx-vswitchd --rundir \(host.rundir) --detach")
        defer { _ = try? host.run("kill $(cat \(host.rundir)/vswitchd.pid)") }
        #expect(try host.ctl(["version"]).succeeded, "it answers at once")
        let pid = try host.must("cat \(host.rundir)/vswitchd.pid").trimmingCharacters(
          in: .whitespacesAndNewlines
        )
        #expect(try host.must("cat /proc/\(pid)/comm; ls -l /proc/\(pid)/cwd").contains("-> /\n"))
        let log = try host.must("cat \(host.rundir)/vswitchd.log")
        #expect(log.contains("is ready"), "\(log)")

        let second = try host.run("ovx-vswitchd --rundir \(host.rundir) --detach")
        #expect(second.status == 1)
        #expect(second.standardError.contains(pid), "\(second)")
        #expect(second.standardError.hasSuffix(".\n"), "\(second)")

        try host.ctl("exit")
        try eventually("it has ended and removed its traces") {
          try !host.run("ls \(host.rundir)/vswitchd.pid \(host.rundir)/vswitchd.sock").succeeded
            && !host.run("kill -0 \(pid)").succeeded
        }
      }
    }

    @Test(arguments: [
      ("--rundir /nonexistent/ovx/run", ["/nonexistent/ovx/run", "--rundir"]),
      ("--rundir RUNDIR --database /proc/no/conf.db", ["/proc/no", "--database"]),
      ("--rundir RUNDIR --log-file /proc/no/log", ["/proc/no/log", "--log-file"]),
      ("--rundir RUNDIR --pidfile /proc/no/pid", ["/proc/no/pid", "--pidfile"]),
      ("--rundir RUNDIR/\(String(repeating: "x", count: 108))", ["--rundir"]),
      ("--rundir RUNDIR --workers 0", ["--workers", "0", "16"]),
      ("--rundir RUNDIR --workers 17", ["--workers", "17", "16"]),
      ("--rundir RUNDIR --log-level loud", ["loud", "warning"]),
      ("--rundir RUNDIR --colour red", ["--colour"]),
    ])
    func refusesToStart(_ options: String, _ names: [String]) throws {
      try Lab.run { lab in
        lab.expectLog("critical: ")
        let host = try lab.namespace("host1")
        let line = options.replacingOccurrences(of: "RUNDIR", with: host.rundir)
        var sentences: [String] = []
        for detach in ["", " --detach"] {
          let output = try host.run("exec ovx-vswitchd \(line)\(detach)", seconds: 10)
          #expect(output.status == 1 || output.status == 64, "\(output)")
          for name in names { #expect(output.standardError.contains(name), "\(output)") }
          sentences.append(output.standardError)
        }
        #expect(sentences[0] == sentences[1], "the same reason in the foreground and behind it")
      }
    }

    /// What systemd is told, over a socket with a path and over one of the abstract name space.
    @Test(arguments: ["/notify", "@ovx-notify"])
    func notifiesServiceManager(_ name: String) throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let address = name.hasPrefix("/") ? host.rundir + name : name + host.name
        let manager = try host.start(
          """
          exec python3 -u -c '
          import socket, sys
          name = sys.argv[1]
          s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
          s.bind("\\0" + name[1:] if name[0] == "@" else name)
          print("bound")
          while True: print(s.recv(4096).decode())
          ' \(address)
          """
        )
        try eventually("the manager listens") { manager.standardOutput.contains("bound") }
        let daemon = try host.start(
          "NOTIFY_SOCKET=\(address) exec ovx-vswitchd --rundir \(host.rundir)"
        )
        try eventually("it is ready") { manager.standardOutput.contains("READY=1") }
        #expect(manager.standardOutput.contains("STATUS=0 bridges, 0 ports"))
        #expect(try host.ctl(["version"]).succeeded)
        daemon.signal(SIGTERM)
        #expect(daemon.wait(seconds: 10)?.succeeded == true)
        try eventually("it has said goodbye") { manager.standardOutput.contains("STOPPING=1") }
        lab.expectNoAlarm(in: daemon.standardError, of: "the daemon")
        manager.signal(SIGKILL)
      }
    }

    @Test func logFileIsOpenedAnew() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let log = "\(host.rundir)/ovx.log"
        let daemon = try lab.daemon(on: host, arguments: ["--log-file", log])
        try host.ctl("add-br br0")
        try host.must("mv \(log) \(log).1")
        daemon.process.signal(SIGHUP)
        try eventually("there is a new log") { try host.run("test -e \(log)").succeeded }
        try host.ctl("add-br br1")
        #expect(try host.must("cat \(log).1").contains("br0"))
        let new = try host.must("cat \(log)")
        #expect(new.contains("br1") && !new.contains("br0"), "\(new)")
      }
    }

    /// The next daemon can start when `exit` has answered, however much there is to close.
    @Test func exitAnswersWhenTheDaemonHasGone() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let start = "ovx-vswitchd --rundir \(host.rundir) --detach"
        defer { _ = try? host.run("kill $(cat \(host.rundir)/vswitchd.pid)") }
        try host.must(
          """
          \(start)
          ovx-ctl add-br br0 $(for n in $(seq 200); do echo -- add-port br0 tap$n type=tap; done)
          """, seconds: 120)
        let rounds = Lab.isLong ? 20 : 5
        for round in 0..<rounds {
          let output = try host.run(
            """
            ovx-ctl -t 60 exit
            test ! -e \(host.rundir)/vswitchd.pid && test ! -e \(host.rundir)/vswitchd.sock
            \(start)
            ovx-ctl -t 60 list-ports br0 | wc -l
            """, seconds: 120)
          #expect(output.standardOutput == "200\n", "round \(round): \(output)")
        }
        // What is left to remove takes longest.
        let output = try host.run(
          "ovx-ctl -t 60 exit --cleanup && ! ip -br link | grep -q tap && exec \(start)",
          seconds: 120)
        #expect(output.succeeded, "\(output)")
      }
    }

    /// 400 who say nothing, 100 who never read and 200 who stop in the middle of a word.
    @Test func manyClients() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let crowd = try host.start(
          """
          exec python3 -u -c '
          import socket, sys, time
          show = b"{\\"version\\":1,\\"commands\\":[{\\"show\\":{}}],\\"timeout\\":10,\\"dryRun\\":false}\\n"
          def connect():
              s = socket.socket(socket.AF_UNIX)
              s.connect(sys.argv[1])
              s.settimeout(0.1)
              return s
          crowd = [connect() for _ in range(400)]
          print("idle")
          time.sleep(1)
          for s in crowd: s.close()
          crowd = [connect() for _ in range(200)]
          for number, s in enumerate(crowd):
              try: s.sendall(show * 3000 if number % 2 else show[:20] + b"x" * 500000)
              except OSError: pass
          print("busy")
          time.sleep(60)
          ' \(host.rundir)/vswitchd.sock
          """
        )
        try eventually("they have come") { crowd.standardOutput.contains("idle") }
        #expect(try host.ctl("list-br") == "br0\n")
        try eventually("they talk", within: 30) { crowd.standardOutput.contains("busy") }
        #expect(try host.ctl("list-br") == "br0\n")
        crowd.signal(SIGKILL)
        _ = crowd.wait(seconds: 5)
        #expect(try host.ctl("list-br") == "br0\n")
      }
    }

    /// Whatever is going on when the daemon is killed: afterwards there is what was acknowledged,
    /// its devices and no others.
    @Test func killedAtAnyMoment() throws {
      try Lab.run { lab in
        var random = SeededRandom()
        let host = try lab.namespace("host1")
        let container = try lab.namespace("red1")
        var daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        for round in 0..<(Lab.isLong ? 40 : 8) {
          let script = (0..<60).map { _ in
            let number = Int.random(in: 0..<5, using: &random)
            return [
              "--may-exist add-port br0 tap\(number) type=tap", "--if-exists del-port tap\(number)",
              "attach br0 \(container.name) eth\(number)", "detach \(container.name) eth\(number)",
              "--may-exist add-br br\(number + 1)", "--if-exists del-br br\(number + 1)",
            ][Int.random(in: 0..<6, using: &random)]
          }
          let before = try host.ctl("list-ports br0")
          let commands = try host.start(
            script.map { "ovx-ctl \($0) && echo done || true" }.joined(separator: "\n")
          )
          usleep(UInt32.random(in: 5_000...500_000, using: &random))
          try daemon.stop(SIGKILL)
          commands.signal(SIGKILL)
          _ = commands.wait(seconds: 5)
          daemon = try lab.daemon(on: host)

          let tree = try host.ctl("show")
          let context: Comment =
            "round \(round), repeat with \(random)\nbefore:\n\(before)\n\(tree)"
          #expect(!tree.contains("error:"), context)
          var wanted: [Set<String>] = [[], []]
          for port in tree.matches(of: /Interface "?([^\s"]+)"?/).map({ String($0.1) }) {
            let parts = port.split(separator: "@")
            wanted[parts.count - 1].insert(String(parts[0]))
          }
          for (namespace, expected) in zip([host, container], wanted) {
            let links = try namespace.must("ip -o link show type tun | cut -d: -f2")
            let found = Set(links.split(whereSeparator: \.isWhitespace).map(String.init))
            #expect(found == expected, context)
          }
        }
      }
    }
  }
}
