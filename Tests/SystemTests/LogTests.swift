import Foundation
import OVXSimulation
import Testing

extension SystemTests {
  /// The log, which nothing ever waits for.
  @Suite struct LogTests {
    /// A pipe, a FIFO and a terminal that nobody reads: all goes on, SIGTERM too; what is lost is
    /// counted and told.
    @Test(arguments: ["pipe", "fifo", "terminal"])
    func nobodyReads(_ kind: String) throws {
      try Lab.run { lab in
        lab.expectLog("of this log are lost")
        let host = try lab.namespace("host1")
        let reader = try host.start(
          """
          exec python3 -u -c '
          import os, pty, signal, subprocess, sys
          kind, rundir = sys.argv[1:]
          args = ["ovx-vswitchd", "--rundir", rundir, "--log-level", "trace"]
          signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
          if kind == "fifo":
              path = rundir + "/log"
              os.mkfifo(path)
              reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
              args += ["--log-file", path]
              child = subprocess.Popen(args)
          else:
              reading, writing = os.pipe() if kind == "pipe" else pty.openpty()
              child = subprocess.Popen(args, stderr=writing)
              os.close(writing)
          print("pid", child.pid)
          signal.sigwait([signal.SIGUSR1])
          os.set_blocking(reading, True)
          text = b""
          while True:
              try: got = os.read(reading, 65536)
              except OSError: break
              if not got: break
              text += got
              if b"of this log are lost" in text: print("told")
          print("lost" if b"of this log are lost" in text else "nothing lost")
          print("status", child.wait())
          ' \(kind) \(host.rundir)
          """)
        try eventually("it answers") { try host.ctl(["version"]).succeeded }
        try host.ctl("add-br br0")
        // A line each: more than fits the pipe and what the daemon keeps.
        try host.must(
          """
          exec python3 -c '
          import json, socket, sys
          s = socket.socket(socket.AF_UNIX)
          s.connect(sys.argv[1])
          for round in range(6000):
              level = "trace" if round % 2 else "debug"
              s.sendall((json.dumps({"version": 1, "commands": [{"setLogLevel": {"_0": level}}], "timeout": 10,
                  "dryRun": False}) + "\\n").encode())
              answer = b""
              while not answer.endswith(b"\\n"): answer += s.recv(65536)
              assert b"done" in answer, answer
          ' \(host.rundir)/vswitchd.sock
          """, seconds: 60)
        #expect(try host.ctl("list-br") == "br0\n")
        let pid = try #require(
          reader.standardOutput.firstMatch(of: /pid (\d+)/).flatMap { pid_t($0.1) })
        if kind == "pipe" {
          // It ends although nobody reads.
          kill(pid, SIGTERM)
          try eventually("it has ended") {
            try host.must("cat /proc/\(pid)/stat").split(separator: " ")[2] == "Z"
          }
          reader.signal(SIGUSR1)
        } else {
          reader.signal(SIGUSR1)
          try eventually("what was lost is told once there is room") {
            try host.ctl("log set debug")
            return reader.standardOutput.contains("told")
          }
          kill(pid, SIGTERM)
        }
        let end = try #require(reader.wait(seconds: 10))
        #expect(end.standardOutput.contains("status 0"), "\(end)")
        if kind != "pipe" { #expect(end.standardOutput.contains("lost"), "\(end)") }
      }
    }

    /// A log on a full disk: what finds no room is lost and counted, and told once there is some.
    @Test func aFullDisk() throws {
      try Lab.run { lab in
        lab.expectLog("of this log")
        let host = try lab.namespace("host1")
        let disk = "\(host.rundir)/disk"
        let log = "\(disk)/ovx.log"
        // In one script, as each has mounts of its own.
        try host.must(
          """
          mkdir -m 755 \(disk)
          mount -t tmpfs -o size=64k,mode=755 ovx-test \(disk)
          ovx-vswitchd --rundir \(host.rundir) --log-file \(log) >/dev/null 2>&1 &
          daemon=$!
          until ovx-ctl version >/dev/null 2>&1; do :; done
          dd if=/dev/zero of=\(disk)/filler bs=1k >/dev/null 2>&1 || true
          python3 -c '
          import json, socket, sys
          s = socket.socket(socket.AF_UNIX)
          s.connect(sys.argv[1])
          for _ in range(200):
              s.sendall((json.dumps({"version": 1, "commands": [{"setLogLevel": {"_0": "debug"}}], "timeout": 10,
                  "dryRun": False}) + "\\n").encode())
              s.recv(65536)
          ' \(host.rundir)/vswitchd.sock
          ovx-ctl add-br br0
          rm \(disk)/filler
          ovx-ctl add-br br1
          ovx-ctl add-br br2
          kill $daemon; wait $daemon
          cp \(log) \(host.rundir)/copy
          umount \(disk)
          """, seconds: 60)
        let text = try host.must("cat \(host.rundir)/copy")
        #expect(text.contains(/warning: \d+ lines of this log are lost/), "\(text)")
        for line in text.split(separator: "\n") {
          #expect(
            line.contains(/^[0-9]{4}-[0-9][0-9]-[0-9][0-9]T[^ ]*Z [a-z]+:/)
              || line.utf8.count < 200, "\(line)")
        }
        #expect(text.hasSuffix("ovx-vswitchd has stopped\n"), "\(text)")
      }
    }

    /// A daemon that cannot start and cannot say so ends nevertheless.
    @Test func nobodyHearsWhyItFails() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let output = try host.run(
          """
          exec python3 -c '
          import os, subprocess, sys
          reading, writing = os.pipe()
          os.set_blocking(writing, False)
          try:
              while True: os.write(writing, b"x")
          except BlockingIOError: pass
          os.set_blocking(writing, True)
          print("status", subprocess.call(["ovx-vswitchd", "--rundir", "/nonexistent/ovx/run"], stderr=writing))
          '
          """, seconds: 15)
        #expect(output.standardOutput == "status 1\n", "\(output)")
      }
    }

    /// A log that is renamed away is opened anew, and a link in its place is not followed.
    @Test func noLinkIsOpenedAnew() throws {
      try Lab.run { lab in
        lab.expectLog("The log file cannot be opened anew")
        let host = try lab.namespace("host1")
        let log = "\(host.rundir)/ovx.log"
        let daemon = try lab.daemon(on: host, arguments: ["--log-file", log])
        try host.must(
          "cd \(host.rundir); echo precious > victim; mv ovx.log ovx.log.1; ln -s victim ovx.log")
        daemon.process.signal(SIGHUP)
        try eventually("it says so in the old one") {
          try host.must("cat \(log).1").contains("cannot be opened anew")
        }
        #expect(try host.must("cat \(host.rundir)/victim") == "precious\n")
      }
    }
  }
}
