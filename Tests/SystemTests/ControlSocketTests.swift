import Foundation
import OVXControl
import Testing

extension SystemTests {
  /// What clients of the control socket can cost, all of them together.
  @Suite struct ControlSocketTests {
    /// A hundred clients ask for sixteen full tables each and read nothing: little memory, and
    /// others are answered.
    @Test func tablesThatNobodyReads() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "172.17.42.11/24")
        try red.must("python3 $TRAFFIC/mac_flood.py eth0 8000")
        func entries() throws -> Int {
          try JSONDecoder().decode(
            [String: [BridgeAddresses.Entry]].self,
            from: Data(host.ctl("-t 60 -f json fdb show br0", seconds: 60).utf8)
          )["br0"]?.count ?? 0
        }
        try eventually("the table is full") { try entries() >= 8000 }
        let before = try memory(of: daemon)
        let crowd = try host.start(
          """
          exec python3 -u -c '
          import json, socket, sys, time
          tables = (json.dumps({"version": 1, "commands": [{"showAddresses": {"bridges": ["br0"]}}] * 16,
              "timeout": 10, "dryRun": False}) + "\\n").encode()
          def client():
              s = socket.socket(socket.AF_UNIX)
              s.connect(sys.argv[1])
              s.sendall(tables)
              return s
          crowd = [client() for _ in range(100)]
          print("asked")
          time.sleep(120)
          ' \(host.rundir)/vswitchd.sock
          """)
        try eventually("they have asked") { crowd.standardOutput.contains("asked") }
        // While tables are made for them, and when they have what their sockets hold.
        for _ in 0..<4 {
          let start = ContinuousClock.now
          #expect(try host.ctl("show").contains("Port red"))
          #expect(ContinuousClock.now - start < .seconds(8))
          usleep(300_000)
        }
        let growth = try memory(of: daemon) - before
        print("memory grew by \(growth) kB with 100 clients that do not read")
        #expect(growth < 120_000)
        #expect(try entries() >= 8000)
        crowd.signal(SIGKILL)
        _ = crowd.wait(seconds: 5)
        #expect(try host.ctl("list-br") == "br0\n")
      }
    }

    /// Forty requests of 900 kB that never end: they are bounded together, and others are answered.
    @Test func requestsWithoutAnEnd() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let before = try memory(of: daemon)
        let crowd = try host.start(
          """
          exec python3 -u -c '
          import socket, sys, time
          crowd = []
          for number in range(40):
              s = socket.socket(socket.AF_UNIX)
              s.connect(sys.argv[1])
              s.settimeout(5)
              try: s.sendall(b"x" * 900000)
              except OSError: pass
              crowd.append(s)
          print("sent")
          time.sleep(60)
          ' \(host.rundir)/vswitchd.sock
          """)
        try eventually("they have sent", within: 120) { crowd.standardOutput.contains("sent") }
        #expect(try host.ctl("list-br") == "br0\n")
        let growth = try memory(of: daemon) - before
        print("memory grew by \(growth) kB with 40 requests without an end")
        #expect(growth < 34_000)
        crowd.signal(SIGKILL)
        _ = crowd.wait(seconds: 5)
      }
    }

    /// An answer of many pieces is whole however slowly it is read, and the same as one that is
    /// read at once.
    @Test func slowReaders() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "172.17.42.11/24")
        try red.must("python3 $TRAFFIC/mac_flood.py eth0 4000")
        let output = try host.must(
          """
          exec python3 -c '
          import json, socket, sys, time
          request = (json.dumps({"version": 1, "commands": [{"showAddresses": {"bridges": []}}, {"show": {}},
              {"list": {"table": "port", "records": [], "columns": [], "ifExists": False}}] * 3,
              "timeout": 10, "dryRun": False}) + "\\n").encode()
          def read(pause):
              s = socket.socket(socket.AF_UNIX)
              s.connect(sys.argv[1])
              s.sendall(request * 2)
              lines = b""
              while lines.count(b"\\n") < 2:
                  got = s.recv(65536)
                  assert got
                  lines += got
                  time.sleep(pause)
              return [json.loads(line)["outcome"]["done"]["_0"] for line in lines.splitlines()]
          answers = read(0) + read(0.05)
          for answer in answers:
              assert len(answer) == 9
              for table in answer[0::3]:
                  assert len(table["addresses"]["_0"][0]["entries"]) >= 4000
              assert answer[1::3] == answers[0][1::3] and answer[2::3] == answers[0][2::3]
          print("all the same")
          ' \(host.rundir)/vswitchd.sock
          """, seconds: 60)
        #expect(output == "all the same\n")
      }
    }

    /// Resident memory of a daemon's process, in kB.
    private func memory(of daemon: Daemon) throws -> Int {
      let status = try String(
        contentsOfFile: "/proc/\(daemon.process.pid)/status", encoding: .utf8)
      let match = try #require(status.firstMatch(of: /VmRSS:\s+(\d+) kB/))
      return try #require(Int(match.1))
    }
  }
}
