import Foundation
import OVXSimulation
import Testing

extension SystemTests {
  /// What users of the host who are not root can do to a daemon of root's: nothing.
  @Suite struct LocalUserTests {
    /// A shell's words for the user nobody, with no rights.
    static let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups --"

    /// Nobody can open what a daemon locks, so nobody can keep the next one from starting.
    @Test func locks() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        // As a former version made them.
        try host.must(
          "cd \(host.rundir); umask 022; touch vswitchd.lock; chmod 644 vswitchd.lock")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        for file in ["vswitchd.lock", "conf.db", "conf.db-wal", "conf.db-shm"] {
          #expect(
            try host.must("stat -c %a:%U \(host.rundir)/\(file)") == "600:root\n", "\(file)")
          let locked = try host.run(
            "exec \(Self.nobody) flock --nonblock --shared \(host.rundir)/\(file) true")
          #expect(
            !locked.succeeded && locked.standardError.contains("Permission denied"),
            "\(file): \(locked)")
        }
        #expect(try host.must("stat -c %a \(host.rundir)/vswitchd.sock") == "660\n")
        let open = try host.must(
          "find \(host.rundir) -perm /022 ! -type l ! -type s")
        #expect(open.isEmpty, "others may write to \(open)")
        try daemon.stop(SIGKILL)
        try lab.daemon(on: host)
        #expect(try host.ctl("list-br") == "br0\n")
      }
    }

    /// Directories in which somebody else could put a file in the place of the daemon's.
    @Test(arguments: [
      "chown nobody DIR", "chmod g+w DIR", "chmod o+w DIR", "chmod 1777 DIR",
      "chmod 777 PARENT", "chown nobody PARENT",
      "mv DIR DIR.real; ln -s DIR.real DIR; chown -h nobody DIR",
    ])
    func directories(_ spoil: String) throws {
      try Lab.run { lab in
        lab.expectLog("critical: ")
        let host = try lab.namespace("host1")
        let parent = "\(host.rundir)/parent"
        let directory = "\(parent)/dir"
        let good = "\(host.rundir)/good"
        try host.must(
          """
          mkdir -m 755 \(parent) \(directory) \(good)
          echo precious > \(host.rundir)/victim
          for name in vswitchd.lock vswitchd.pid conf.db a.log a.pid; do ln -s \(host.rundir)/victim \(directory)/$name; done
          """)
        try host.must(
          spoil.replacingOccurrences(of: "DIR", with: directory)
            .replacingOccurrences(of: "PARENT", with: parent))
        for (options, remedy) in [
          ("--rundir \(directory)", "--rundir"),
          ("--rundir \(good) --database \(directory)/conf.db", "--database"),
          ("--rundir \(good) --pidfile \(directory)/a.pid", "--pidfile"),
          ("--rundir \(good) --log-file \(directory)/a.log", "--log-file"),
        ] {
          let refused = try host.run("exec ovx-vswitchd \(options)", seconds: 20)
          #expect(refused.status == 1, "\(options): \(refused)")
          let sentence = refused.standardError
          #expect(sentence.contains(parent) && sentence.contains(remedy), "\(refused)")
          // In a directory like /tmp the link itself is what is wrong.
          guard remedy == "--rundir" || !spoil.contains("1777") else { continue }
          #expect(
            sentence.contains("chown it to root") || sentence.contains("chmod go-w it")
              || sentence.contains("make one of its own"),
            "\(refused)")
        }
        #expect(try host.must("cat \(host.rundir)/victim") == "precious\n")
      }
    }

    /// In a directory like /tmp a database of somebody else's, or what SQLite would read beside it,
    /// is not taken.
    @Test(arguments: ["conf.db", "conf.db-wal", "conf.db-shm", "conf.db-journal", "a.log"])
    func foreignFiles(_ name: String) throws {
      try Lab.run { lab in
        lab.expectLog("critical: ")
        let host = try lab.namespace("host1")
        let directory = "\(host.rundir)/tmp"
        try host.must(
          "mkdir \(directory); chmod 1777 \(directory); touch \(directory)/\(name); chown nobody \(directory)/\(name)"
        )
        let refused = try host.run(
          "exec ovx-vswitchd --rundir \(host.rundir) --database \(directory)/conf.db --log-file \(directory)/a.log",
          seconds: 20)
        #expect(refused.status == 1 && refused.standardError.contains(name), "\(refused)")
        #expect(try host.must("stat -c %s \(directory)/\(name)") == "0\n")
        try host.must("rm \(directory)/*")
        try lab.daemon(
          on: host,
          arguments: ["--database", "\(directory)/conf.db", "--log-file", "\(directory)/a.log"])
        try host.ctl("add-br br0")
      }
    }

    /// Links in a directory of root's own, as a former owner may have left them: none is followed.
    @Test(arguments: [
      ("--rundir DIR", "vswitchd.lock"), ("--rundir DIR", "vswitchd.pid"),
      ("--rundir DIR", "conf.db"),
      ("--rundir DIR --log-file DIR/a.log", "a.log"), ("--rundir DIR --pidfile DIR/a.pid", "a.pid"),
    ])
    func links(_ options: String, _ name: String) throws {
      try Lab.run { lab in
        lab.expectLog("critical: ")
        let host = try lab.namespace("host1")
        let line = options.replacingOccurrences(of: "DIR", with: host.rundir)
        for target in ["victim", "missing"] {
          try host.must(
            "cd \(host.rundir); echo precious > victim; ln -sfn \(host.rundir)/\(target) \(name)")
          let refused = try host.run("exec ovx-vswitchd \(line)", seconds: 20)
          #expect(refused.status == 1 && refused.standardError.contains(name), "\(refused)")
          #expect(try host.must("cat \(host.rundir)/victim") == "precious\n")
          #expect(try !host.run("test -e \(host.rundir)/missing").succeeded)
        }
      }
    }

    /// The daemon removes its own pid file, and not that of another one that was given the same.
    @Test func pidFile() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let file = "\(host.rundir)/shared.pid"
        let daemon = try lab.daemon(on: host, arguments: ["--pidfile", file])
        #expect(try host.must("cat \(file)") == "\(daemon.process.pid)\n")
        try host.must("echo 4711 > \(file)")
        #expect(try daemon.stop(SIGTERM).succeeded)
        #expect(try host.must("cat \(file)") == "4711\n")
        let second = try lab.daemon(on: host, arguments: ["--pidfile", file])
        #expect(try second.stop(SIGTERM).succeeded)
        #expect(try !host.run("test -e \(file)").succeeded)
      }
    }

    /// A library that is loaded first and changes the environment: both programs know what they
    /// were told.
    @Test func argumentsAreTheKernels() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let library = "\(host.rundir)/preload.so"
        try host.must(
          """
          cat > \(host.rundir)/preload.c <<'END'
          #include <stdlib.h>
          static void change(void) __attribute__((constructor));
          static void change(void) { setenv("OVX_TEST_PRELOAD", "1", 1); }
          END
          PATH="\(try Self.toolchain()):$PATH" clang -shared -fPIC -o \(library) \(host.rundir)/preload.c
          """)
        let version = try host.run(
          "LD_PRELOAD=\(library) exec ovx-vswitchd --rundir \(host.rundir) --version", seconds: 10)
        #expect(
          version.succeeded && version.standardOutput.hasPrefix("ovx-vswitchd "), "\(version)")
        let control = try host.run("LD_PRELOAD=\(library) exec ovx-ctl --version", seconds: 10)
        #expect(control.succeeded && control.standardOutput.hasPrefix("ovx-ctl "), "\(control)")
        try host.must("LD_PRELOAD=\(library) ovx-vswitchd --rundir \(host.rundir) --detach")
        try host.must("LD_PRELOAD=\(library) ovx-ctl add-br br0")
        #expect(try host.ctl("list-br") == "br0\n")
        try host.ctl("exit")
        try eventually("it has ended") {
          try !host.run("test -e \(host.rundir)/vswitchd.pid").succeeded
        }
      }
    }

    /// Where the compiler is that came with the tests' own.
    private static func toolchain() throws -> String {
      let path = try Command(["\(Lab.packageRoot.path)/deploy/find-swift"]).finish(seconds: 20)
      return path.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Started without standard streams, no file of the daemon's gets their numbers, and so what is
    /// said on them.
    @Test func closedStandardStreams() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try host.must("ovx-vswitchd --rundir \(host.rundir) <&- >&- 2>&- &")
        try eventually("it answers") { try host.ctl(["version"]).succeeded }
        try host.ctl("add-br br0")
        let pid = try host.must("cat \(host.rundir)/vswitchd.pid").trimmingCharacters(
          in: .whitespacesAndNewlines)
        for number in 0...2 {
          #expect(try host.must("readlink /proc/\(pid)/fd/\(number)") == "/dev/null\n")
        }
        #expect(try host.must("cat \(host.rundir)/vswitchd.lock") == "\(pid)\n")
        try host.ctl("exit")
        try eventually("it has ended") { try !host.run("kill -0 \(pid)").succeeded }
      }
    }

    /// The socket's group may use ovx-ctl, also after a restart; others may not.
    @Test func socketGroup() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let member =
          "setpriv --reuid=65534 --regid=65534 --groups=$(getent group games | cut -d: -f3) --"
        for round in 1...2 {
          let daemon = try lab.daemon(on: host, arguments: ["--socket-group", "games"])
          #expect(
            try host.must("stat -c %a:%U:%G \(host.rundir)/vswitchd.sock") == "660:root:games\n")
          try host.must("exec \(member) ovx-ctl add-br br\(round)")
          let refused = try host.run("exec \(Self.nobody) ovx-ctl show")
          #expect(
            refused.status == 1 && refused.standardError.contains("no permission"), "\(refused)")
          try daemon.stop(round == 1 ? SIGKILL : SIGTERM)
        }
        let unknown = try host.run(
          "exec ovx-vswitchd --rundir \(host.rundir) --socket-group no-such-group")
        #expect(unknown.status == 1, "\(unknown)")
        for word in ["\"no-such-group\"", "groupadd", "--socket-group"] {
          #expect(unknown.standardError.contains(word), "\(unknown)")
        }
      }
    }

    /// A name of a megabyte is not sent back, nor logged.
    @Test func longNames() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host, arguments: ["--log-level", "trace"])
        try host.ctl("add-br br0")
        let answers = try host.must(
          """
          exec python3 -c '
          import json, socket, sys
          long = "n" * 900000
          words = "many words " * 80000
          for name in (long, words, "\\u001b[2J" * 100000):
              for command in ({"listPorts": {"bridge": name}}, {"portToBridge": {"port": name}},
                  {"addBridge": {"bridge": name, "mayExist": False}},
                  {"set": {"table": "bridge", "record": "br0", "settings":
                      [{"column": "other_config", "key": name, "value": "1"}], "ifExists": False}},
                  {"get": {"table": name, "record": "br0", "columns": [], "ifExists": False}}, {name: {}}):
                  s = socket.socket(socket.AF_UNIX)
                  s.connect(sys.argv[1])
                  s.sendall((json.dumps({"version": 1, "commands": [command], "timeout": 10,
                      "dryRun": True}) + "\\n").encode())
                  answer = b""
                  while not answer.endswith(b"\\n"):
                      got = s.recv(65536)
                      if not got: break
                      answer += got
                  print(len(answer), b"\\\\u001b" in answer)
          ' \(host.rundir)/vswitchd.sock
          """)
        let lines = answers.split(separator: "\n")
        #expect(lines.count == 18, "\(answers)")
        for line in lines {
          let parts = line.split(separator: " ")
          #expect((20...5000).contains(Int(parts[0]) ?? 0) && parts[1] == "False", "\(answers)")
        }
        #expect(daemon.log.utf8.count < 100_000)
      }
    }

    /// The daemon with no more system calls and rights than its unit file gives it, beside a broker
    /// with no more than its own gives that, and used by root and a member of the socket's group.
    @Test func withTheRightsOfTheUnits() throws {
      try Lab.run { lab in
        let deploy = Lab.packageRoot.appendingPathComponent("deploy").path
        let host = try lab.namespace("host1")
        let other = try lab.namespace("host2")
        let red = try lab.namespace("red")
        let blue = try lab.namespace("blue")
        // A container whose processes are another user's.
        let sleeper = try blue.start("exec \(Self.nobody) sleep 60")
        try host.must("chown nobody:nogroup \(host.rundir)")
        let socket = "\(host.rundir)/broker.socket"
        // In a network namespace of its own, as PrivateNetwork= has it.
        let broker = try host.start(
          """
          exec unshare --net systemd-socket-activate --accept --seqpacket -l \(socket) -- \
            /usr/bin/python3 $TRAFFIC/confined.py \(deploy)/ovx-broker@.service $(command -v ovx-broker)
          """)
        try eventually("the broker listens") { try host.run("chown nobody \(socket)").succeeded }
        // systemd gives the memory and the descriptors by LimitMEMLOCK= and LimitNOFILE=.
        func start(_ option: String) throws -> Command {
          try host.start(
            """
            ulimit -l unlimited 2>/dev/null || true
            export OVX_BROKER=\(socket)
            exec setpriv --groups $(getent group games | cut -d: -f3) -- /usr/bin/python3 $TRAFFIC/confined.py \
              \(deploy)/ovx-vswitchd.service ovx-vswitchd --rundir \(host.rundir) --socket-group games \(option)
            """)
        }
        let daemon = try start("--log-level info")
        try eventually("it answers") { try host.ctl(["version"]).succeeded }
        let status = try host.must("grep -E 'CapEff|Uid' /proc/\(daemon.pid)/status")
        // CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF.
        #expect(status.contains("000000c000003000") && status.contains("65534"), "\(status)")
        #expect(
          try host.must("stat -c %a:%U:%G \(host.rundir)/vswitchd.sock") == "660:nobody:games\n")
        try host.ctl("add-br br0")
        try host.ctl("set switch . other_config:fast-path=on")
        try host.must(
          "ip link add veth1 type veth peer name eth0 netns \(other.name); ip link set veth1 up")
        try other.must("ip addr add 172.17.42.13/24 dev eth0; ip link set eth0 up")
        try host.ctl("add-port br0 veth1")
        try host.ctl("add-port br0 t0 type=tap")
        try host.ctl("attach br0 \(red.name) eth0 ip=172.17.42.11/24")
        try host.ctl("attach br0 pid:\(sleeper.pid) eth0 ip=172.17.42.12/24,fd00::12/64 kind=veth")
        try host.must("ip addr add 10.9.0.1/24 dev lo; ip addr add fd00:9::1/64 dev lo")
        try host.ctl("add-port br0 vxlan0 type=vxlan key=100 remote=10.9.0.2")
        let shown = try host.ctl("show")
        #expect(!shown.contains("error:") && shown.contains("fast_path: \"ready\""), "\(shown)")
        let tunnels = try host.ctl("tunnel show")
        #expect(tunnels.contains("nobody else of this host can send to the remotes"), "\(tunnels)")
        try red.expectPing("172.17.42.12")
        try red.expectPing("172.17.42.13")
        try host.ctl("set Interface br0 addresses=172.17.42.1/24")
        let links = try host.ctl("show --links")
        #expect(links.contains("eth0") && links.contains("pid"), "\(links)")
        // A setting of a device in its own namespace, which it cannot write to by itself.
        #expect(
          try red.must("cat /proc/sys/net/ipv4/conf/eth0/arp_evict_nocarrier") == "0\n"
            && host.must("cat /proc/sys/net/ipv6/conf/br0/accept_ra") == "0\n")
        // Another broker takes the place of one that has ended.
        try host.must("kill -KILL $(cat /proc/\(broker.pid)/task/\(broker.pid)/children)")
        try host.ctl("attach br0 \(red.name) eth1 ip=172.17.43.11/24")
        let successor = try start("--log-level info --take-over")
        #expect(daemon.wait(seconds: 20)?.succeeded == true)
        try eventually("the next one answers") {
          try host.ctl(["version"]).standardOutput.contains("pid \(successor.pid)")
        }
        try red.expectPing("172.17.42.12")
        try host.ctl("detach \(red.name) eth1")
        successor.signal(SIGTERM)
        #expect(successor.wait(seconds: 10)?.succeeded == true)
        lab.expectNoAlarm(in: daemon.standardError, of: "the daemon")
        lab.expectNoAlarm(in: successor.standardError, of: "the next daemon")
        broker.signal(SIGTERM)
        _ = broker.wait(seconds: 5)
        sleeper.signal(SIGKILL)
      }
    }

    /// A request has three descriptors at most: the kernel is not to write more than there is room
    /// for.
    @Test func theBrokerHasRoomForAllThatItTakes() throws {
      try Lab.run { lab in
        let told = try lab.namespace("host1").must(
          "python3 $TRAFFIC/descriptors.py $(command -v ovx-broker)")
        #expect(
          told == "1 answered\n2 answered\n3 answered\n4 refused\n5 refused\n1 answered\n",
          "\(told)")
      }
    }

    /// Where the broker's service is not there, the daemon says so and does not start without it.
    @Test func withoutTheBrokersService() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let refused = try host.run(
          "OVX_BROKER=\(host.rundir)/broker.socket ovx-vswitchd --rundir \(host.rundir)")
        #expect(
          refused.status == 1 && refused.standardError.contains("start ovx-broker.socket"),
          "\(refused)")
        let alone = try host.run("ovx-broker")
        #expect(
          alone.status == 2 && alone.standardError.contains("ovx-broker.socket"), "\(alone)")
      }
    }
  }
}
