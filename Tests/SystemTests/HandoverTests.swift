import Foundation
import Testing

extension SystemTests {
  /// One daemon takes another one's place while frames flow.
  @Suite struct HandoverTests {
    /// The first byte of each message; see `HandoverMessage`.
    private enum Step: UInt8, CaseIterable {
      case hello = 1
      case descriptors = 2
      case offered = 4
      case ready = 6
      case addresses = 7
      case go = 10
      case took = 11
      case reads = 12
    }

    /// A TAP, a veth and an idle station beside a far one, all of which know each other.
    private struct Scene {
      let host1: Namespace
      let daemon: Daemon
      let tap: Namespace
      let veth: Namespace
      let idle: Namespace
      let far: Namespace
      static let farAddress = "172.17.42.12"

      init(_ lab: Lab, arguments: [String] = [], by kind: Attachment = .veth) throws {
        let (host1, host2) = try lab.twoHosts()
        self.host1 = host1
        daemon = try lab.overlay(on: host1, remotes: [2], tag: 100, arguments: arguments)
        try lab.overlay(on: host2, remotes: [1], tag: 100)
        tap = try lab.container("tap1", on: host1, by: .tap, address: "172.17.42.11/24", tag: 100)
        veth = try lab.container(
          "veth1", on: host1, by: kind, address: "172.17.42.21/24", tag: 100)
        idle = try lab.container("idle", on: host1, by: .veth, address: "172.17.42.31/24", tag: 100)
        far = try lab.container(
          "far", on: host2, by: .tap, address: "\(Self.farAddress)/24", tag: 100)
        for container in [tap, veth, idle] { try container.expectPing(Self.farAddress) }
        try veth.expectPing("172.17.42.11")
      }

      /// What this daemon has taken from the sender, a former one's aside.
      func framesReceived() throws -> Int {
        let statistics = try host1.ctl("-f json stats veth1")
        let count = statistics.firstMatch(of: /"receivedFrames" *: *(\d+)/)?.1
        return try #require(count.flatMap { Int($0) }, "\(statistics)")
      }

      /// Whether a daemon answers, and not the one whose place it takes, which may disconnect.
      func isAnswered(by daemon: Command) -> Bool {
        guard let version = try? host1.ctl("-f json version") else { return false }
        return version.firstMatch(of: /"pid" *: *(\d+)/)?.1 == "\(daemon.pid)"
      }
    }

    /// Nothing is lost, nothing is flooded that was known, a TCP stream lives, and what is counted
    /// goes on.
    @Test(arguments: [1, 2])
    func underTraffic(workers: Int) throws {
      try Lab.run { lab in
        let options = ["--workers", "\(workers)"]
        // One of them is a veth of the daemon's own.
        let kind = workers == 1 ? Attachment.veth : .attachedVeth
        let scene = try Scene(lab, arguments: options, by: kind)
        let port = kind == .veth ? "veth1" : "eth0@\(scene.veth.name)"
        try scene.host1.ctl("fdb add br0 \(port) 100 02:00:00:00:00:77")
        let addresses = try scene.host1.ctl("fdb show br0").split(separator: "\n").count
        let receiver = try scene.far.start("exec python3 $TRAFFIC/stream.py receive 7000")
        let strays = try scene.idle.start("exec python3 $TRAFFIC/strays.py eth0")
        try eventually("they listen") {
          receiver.standardError.contains("ready") && strays.standardError.contains("ready")
        }
        let sender = try scene.veth.start(
          "exec python3 $TRAFFIC/stream.py send \(Scene.farAddress) 7000 3000 6")
        let sink = try scene.far.start("exec python3 $TRAFFIC/stream.py sink 7001")
        try eventually("it listens") { sink.standardError.contains("ready") }
        let pouring = try scene.tap.start(
          "exec python3 $TRAFFIC/stream.py pour \(Scene.farAddress) 7001 5")
        usleep(500_000)
        var former = scene.daemon
        let first = try scene.host1.ctl("-f json stats br0")
        for _ in 1...3 {
          former.mayBeDead = true
          let next = try lab.daemon(on: scene.host1, arguments: options + ["--take-over"])
          try eventually("the former daemon ends") { !former.process.isRunning }
          #expect(former.process.wait(seconds: 1)?.status == 0, "\(former.log)")
          try eventually("the new daemon answers") { scene.isAnswered(by: next.process) }
          former = next
          usleep(500_000)
        }
        let last = try scene.host1.ctl("-f json stats br0")
        #expect(first != last)
        let poured = try pouring.finish(seconds: 20).standardOutput
        #expect(try sink.finish(seconds: 5).standardOutput == poured, "all of one TCP connection")
        let sent = try sender.finish(seconds: 20).standardOutput.trimmingCharacters(in: .newlines)
        usleep(300_000)
        receiver.signal(SIGTERM)
        strays.signal(SIGTERM)
        #expect(try receiver.finish(seconds: 5).standardOutput == "\(sent) 0 0\n")
        #expect(
          try strays.finish(seconds: 5).standardOutput == "0\n", "what was known is not flooded")
        let known = try scene.host1.ctl("fdb show br0")
        #expect(known.split(separator: "\n").count == addresses)
        #expect(known.contains("02:00:00:00:00:77"), "\(known)")
        let history = try scene.host1.ctl("events")
        #expect(history.components(separatedBy: "hands over").count == 4, "\(history)")
        #expect(!history.contains("crashed"), "\(history)")
        // It is a whole daemon: what it is told is in force.
        try scene.host1.ctl("add-br br1")
        try scene.tap.expectPing(Scene.farAddress)
        #expect(
          try scene.host1.must("cat \(scene.host1.rundir)/vswitchd.pid")
            == "\(former.process.pid)\n")
      }
    }

    /// Whoever dies at whatever step, one daemon goes on.
    @Test(arguments: Step.allCases.map(\.rawValue), ["old", "new"])
    func deathAtEachStep(step: UInt8, victim: String) throws {
      try Lab.run { lab in
        lab.expectLog("the new ovx-vswitchd does not take this one's place")
        let scene = try Scene(lab)
        let proxy = try scene.host1.start(
          "exec python3 $TRAFFIC/handover_proxy.py \(scene.host1.rundir) \(victim) \(step)")
        try eventually("it listens") { proxy.standardOutput.contains("ready") }
        if victim == "old" { scene.daemon.mayBeDead = true }
        let next = try scene.host1.start(
          "exec ovx-vswitchd --take-over --rundir \(scene.host1.rundir)")
        #expect(proxy.wait(seconds: 20)?.standardOutput == "ready\nkilled\n")
        let survivor = victim == "old" ? next : scene.daemon.process
        try eventually("the other one answers") {
          let version = try scene.host1.ctl(["version"])
          return version.succeeded && scene.isAnswered(by: survivor)
        }
        let dead = victim == "old" ? scene.daemon.process : next
        #expect(dead.wait(seconds: 5)?.status == 128 + SIGKILL)
        for container in [scene.tap, scene.veth] {
          try container.must("until ping -c 1 -W 0.2 \(Scene.farAddress); do :; done", seconds: 5)
          try container.expectPing("172.17.42.31")
        }
        // What it is told is stored and in force, and it hands over in its turn.
        try scene.host1.ctl("add-br br1")
        scene.daemon.mayBeDead = true
        let third = try lab.daemon(on: scene.host1, arguments: ["--take-over"])
        try eventually("the next one answers") { scene.isAnswered(by: third.process) }
        #expect(try scene.host1.ctl("list-br") == "br0\nbr1\n")
        #expect(survivor.wait(seconds: 5)?.status == 0)
        try scene.tap.expectPing(Scene.farAddress)
      }
    }

    /// A daemon that is to be another one does not take the place, and one that finds none starts
    /// as ever.
    @Test func refusals() throws {
      try Lab.run { lab in
        lab.expectLog("the new ovx-vswitchd does not take this one's place")
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host, arguments: ["--take-over"])
        try host.ctl("add-br br0")
        for (options, part) in [
          ("--workers 2", "it is started with --workers 2"),
          ("--database \(host.rundir)/other.db", "it is started with --database"),
        ] {
          let output = try host.run(
            "ovx-vswitchd --take-over --rundir \(host.rundir) \(options)", seconds: 10)
          #expect(output.status == 1)
          #expect(output.standardError.contains(part), "\(output.standardError)")
          #expect(output.standardError.contains("restart ovx-vswitchd"), "\(output.standardError)")
        }
        // Somebody who says nothing, or nonsense, keeps nobody waiting for long.
        try host.must(
          """
          python3 -c '
          import socket
          for bytes in None, b"x", b"\\1", b"\\1" * 50000:
              end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
              end.connect("\(host.rundir)/handover.sock")
              if bytes: end.send(bytes)
              end.recv(1000)
          '
          """)
        #expect(
          try !host.run(
            "setpriv --reuid 1234 --regid 1234 --clear-groups python3 -c 'import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(\"\(host.rundir)/handover.sock\")'"
          ).succeeded)
        #expect(try host.ctl("list-br") == "br0\n")
        #expect(daemon.process.isRunning)
      }
    }

    /// What its user has made of a TAP stays his: moved, renamed, or both.
    @Test func movedTAPs() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let guest = try lab.namespace("guest")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        try host.ctl("add-port br0 tap7 type=tap")
        try host.must("ip link set tap7 netns \(guest.name)")
        try guest.must(
          "ip link set tap7 name eth7 && ip link set eth7 up && ip addr add 172.17.42.12/24 dev eth7"
        )
        try red.expectPing("172.17.42.12")
        daemon.mayBeDead = true
        let next = try lab.daemon(on: host, arguments: ["--take-over"])
        #expect(daemon.process.wait(seconds: 5)?.status == 0)
        try red.expectPing("172.17.42.12")
        #expect(try !host.ctl("show").contains("error"))
        #expect(try !host.run("ip link show tap7").succeeded, "no second one is made")
        #expect(next.process.isRunning)
      }
    }

    /// The same of an attached one.
    @Test func renamedTAPs() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        var daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let guest = try lab.container("guest", on: host, by: .tap, address: "172.17.42.12/24")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        try guest.must(
          "ip link set eth0 down && ip link set eth0 name lan0 && ip link set lan0 up && ip link add eth0 type veth"
        )
        try red.expectPing("172.17.42.12")
        for isTakeOver in [true, false] {
          if isTakeOver {
            daemon.mayBeDead = true
            let next = try lab.daemon(on: host, arguments: ["--take-over"])
            #expect(daemon.process.wait(seconds: 5)?.status == 0)
            daemon = next
          } else {
            try daemon.stop(SIGTERM)
            daemon = try lab.daemon(on: host)
          }
          try red.expectPing("172.17.42.12")
          #expect(try !host.ctl("show").contains("error"))
          #expect(try guest.must("ip -br link | wc -l") == "4\n", "a second one was made")
        }
        try host.ctl("detach \(guest.name) eth0")
        #expect(try !guest.run("ip link show lan0").succeeded)
      }
    }

    /// A container keeps its host from no upgrade, whatever it makes of its interface; what it has
    /// moved stays where it is.
    @Test func whatContainersMakeOfTheirInterfaces() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        var daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        let guest = try lab.namespace("guest")
        try host.ctl(
          "attach br0 \(guest.name) eth0 ip=172.17.42.12/24 ip=fd42::12/64 gateway=172.17.42.1")
        let child = try lab.namespace("child")
        for (index, line) in [
          "ip link set eth0 alias foo",
          "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6",
          "ip route flush dev eth0; ip route add 172.17.42.11 dev eth0",
        ].enumerated() {
          try guest.must(line)
          for isTakeOver in [true, false] {
            // Without its descriptors a TAP with another alias is somebody else's.
            if !isTakeOver, index == 0 { continue }
            if isTakeOver {
              daemon.mayBeDead = true
              let next = try lab.daemon(on: host, arguments: ["--take-over"])
              #expect(daemon.process.wait(seconds: 5)?.status == 0, "\(line)")
              daemon = next
            } else {
              try daemon.stop(SIGTERM)
              daemon = try lab.daemon(on: host)
            }
            try red.expectPing("172.17.42.12")
            let shown = try host.ctl("show")
            #expect(!shown.contains("error"), "\(line): \(shown)")
          }
        }
        for kind in ["tap", "veth"] {
          try host.ctl("attach br0 \(guest.name) \(kind)1 ip=172.17.42.13/24 kind=\(kind)")
          try guest.must("ip link set \(kind)1 netns \(child.name)")
          try child.must("ip addr add 172.17.42.13/24 dev \(kind)1 && ip link set \(kind)1 up")
          try red.expectPing("172.17.42.13")
          daemon.mayBeDead = true
          let next = try lab.daemon(on: host, arguments: ["--take-over"])
          #expect(daemon.process.wait(seconds: 5)?.status == 0, "\(kind)")
          daemon = next
          try red.expectPing("172.17.42.13")
          #expect(try !guest.run("ip link show \(kind)1").succeeded, "a second one was made")
          try host.ctl("detach \(guest.name) \(kind)1")
          _ = try child.run("ip link del \(kind)1")
        }
      }
    }

    /// What one daemon says last is heard by the other, also where something of that one's is
    /// unread: taken for its death, it would leave two daemons running.
    @Test func aRefusalIsHeard() throws {
      try Lab.run { lab in
        lab.expectLog("the new ovx-vswitchd does not take this one's place")
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        try host.ctl("add-port br0 tap7 type=tap")
        // What another has taken is no container's doing.
        try host.must("ip link set tap7 alias foo")
        for _ in 0..<8 {
          let next = try host.start("exec ovx-vswitchd --rundir \(host.rundir) --take-over")
          let output = try next.finish(seconds: 20)
          #expect(output.status == 1 && output.standardError.contains("goes on"), "\(output)")
          #expect(daemon.process.isRunning)
          #expect(try host.ctl("list-ports br0") == "tap7\n")
        }
      }
    }

    /// The service manager is told by the old process which one to look after, and by that one that
    /// it is ready.
    @Test func serviceManager() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let manager = try host.start(
          """
          exec python3 -u -c '
          import socket, sys
          s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
          s.bind(sys.argv[1])
          print("bound")
          while True: print(s.recv(4096).decode())
          ' \(host.rundir)/notify
          """)
        try eventually("the manager listens") { manager.standardOutput.contains("bound") }
        let command =
          "NOTIFY_SOCKET=\(host.rundir)/notify exec ovx-vswitchd --rundir \(host.rundir)"
        let daemon = try host.start(command)
        try eventually("it is ready") { manager.standardOutput.contains("READY=1") }
        let reload = try host.run("\(command) --detach --take-over", seconds: 20)
        #expect(reload.status == 0, "\(reload.standardError)")
        #expect(reload.standardError.contains("is ready"), "it logs where it was started")
        #expect(daemon.wait(seconds: 5)?.status == 0)
        let pid = try host.must("cat \(host.rundir)/vswitchd.pid").trimmingCharacters(in: .newlines)
        let told = manager.standardOutput.split(separator: "\n").filter { $0.contains("MAINPID") }
        #expect(told == ["MAINPID=\(daemon.pid)", "MAINPID=\(pid)", "MAINPID=\(pid)"], "\(told)")
        #expect(!manager.standardOutput.contains("STOPPING=1"))
        try host.ctl("exit")
        try eventually("it has ended") { try !host.run("kill -0 \(pid)").succeeded }
        manager.signal(SIGKILL)
      }
    }

    /// A restart floods nothing that was known, nor does it count anew; nonsense is not taken.
    @Test func tablesAreKeptOverARestart() throws {
      try Lab.run { lab in
        lab.expectLog("are not taken over: they are of another boot of the host")
        let scene = try Scene(lab)
        let before = try scene.host1.ctl("fdb show br0").split(separator: "\n").count
        let tables = "\(scene.host1.rundir)/tables"
        try scene.daemon.stop(SIGTERM)
        #expect(try scene.host1.must("stat -c %a \(tables)") == "600\n")
        let strays = try scene.idle.start("exec python3 $TRAFFIC/strays.py eth0")
        try eventually("it listens") { strays.standardError.contains("ready") }
        let next = try lab.daemon(on: scene.host1)
        #expect(try scene.host1.ctl("fdb show br0").split(separator: "\n").count == before)
        for container in [scene.tap, scene.veth] { try container.expectPing(Scene.farAddress) }
        strays.signal(SIGTERM)
        #expect(try strays.finish(seconds: 5).standardOutput == "0\n")
        try next.stop(SIGKILL)
        try scene.host1.must("head -c 100000 /dev/urandom >\(tables)")
        let last = try lab.daemon(on: scene.host1)
        try scene.tap.expectPing(Scene.farAddress)
        #expect(last.log.contains("are not taken over"))
        last.mayBeDead = true
        try scene.host1.ctl("exit --cleanup")
        #expect(last.process.wait(seconds: 10)?.succeeded == true)
        #expect(try !scene.host1.run("test -e \(tables)").succeeded)
      }
    }

    /// A kill floods nothing either, although who is sent to says nothing for it to be learned by.
    @Test func tablesAreKeptOverAKill() throws {
      try Lab.run { lab in
        let scene = try Scene(lab)
        let tables = "\(scene.host1.rundir)/tables"
        let far = try scene.far.must("cat /sys/class/net/eth0/address")
          .trimmingCharacters(in: .newlines)
        try eventually("the receiver's address is written down") {
          try scene.host1.run(
            """
            python3 -c 'import sys; sys.exit(bytes.fromhex(sys.argv[1].replace(":", "")) not in open(sys.argv[2], "rb").read())' \
              \(far) \(tables)
            """
          ).succeeded
        }
        #expect(try scene.host1.must("stat -c %a \(tables)") == "600\n")
        // Nobody asks it anything.
        try scene.veth.must(
          "ip neigh replace \(Scene.farAddress) lladdr \(far) dev eth0 nud permanent")
        let receiver = try scene.far.start("exec python3 $TRAFFIC/stream.py receive 7000")
        let strays = try scene.idle.start("exec python3 $TRAFFIC/strays.py eth0")
        try eventually("they listen") {
          receiver.standardError.contains("ready") && strays.standardError.contains("ready")
        }
        let sender = try scene.veth.start(
          "exec python3 $TRAFFIC/stream.py send \(Scene.farAddress) 7000 1000 60")
        try eventually("it sends") { try scene.framesReceived() > 100 }
        var former = scene.daemon
        for _ in 1...2 {
          try former.stop(SIGKILL)
          former = try lab.daemon(on: scene.host1)
          #expect(try scene.host1.ctl("fdb show br0").contains(far))
          try eventually("frames pass") { try scene.framesReceived() > 500 }
          // Another one may follow once this one has written down what it knows.
          try eventually("the tables are there again") {
            try scene.host1.run("test -s \(tables)").succeeded
          }
        }
        sender.signal(SIGTERM)
        _ = try sender.finish(seconds: 10)
        for process in [receiver, strays] { process.signal(SIGTERM) }
        _ = try receiver.finish(seconds: 5)
        #expect(try strays.finish(seconds: 5).standardOutput == "0\n")
      }
    }
  }
}
