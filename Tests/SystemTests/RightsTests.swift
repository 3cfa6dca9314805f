import Foundation
import OVXControl
import OVXDatapath
import Testing

extension SystemTests {
  /// Who may do what on the control socket: real users, who are in real groups.
  @Suite struct RightsTests {
    static let groups = ["--socket-group", "61001", "--reader-group", "61002"]
    static let stranger = "setpriv --reuid=61000 --regid=61000 --clear-groups --"
    static let changer = "setpriv --reuid=61000 --regid=61000 --groups=61001 --"
    static let reader = "setpriv --reuid=61000 --regid=61000 --groups=61002 --"
    /// Nobody in particular, by the group of a group that the kernel tells apart from supplementary
    /// ones.
    static let readerByMainGroup = "setpriv --reuid=61000 --regid=61002 --clear-groups --"

    @Test func whoMayDoWhat() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host, arguments: Self.groups)
        #expect(
          try host.must("stat -c %a:%u:%g \(host.rundir)/vswitchd.sock") == "660:0:61001\n")
        #expect(try host.must("stat -c %a:%u \(host.rundir)/vswitchd-open.sock") == "666:0\n")

        try host.must("exec \(Self.changer) ovx-ctl add-br br0")
        for reader in [Self.reader, Self.readerByMainGroup] {
          #expect(try host.must("exec \(reader) ovx-ctl list-br") == "br0\n")
          let refused = try host.run("exec \(reader) ovx-ctl add-br br1")
          #expect(refused.status == 1 && refused.standardOutput.isEmpty, "\(refused)")
          #expect(
            refused.standardError
              == "ovx-ctl: no permission for that: the group 61002 may look, and not change anything or capture "
              + "frames; run it as root or as a member of the group 61001\n")
        }
        let refused = try host.run("exec \(Self.stranger) ovx-ctl show")
        #expect(refused.status == 1 && refused.standardOutput.isEmpty, "\(refused)")
        #expect(
          refused.standardError
            == "ovx-ctl: no permission to use \(host.rundir)/vswitchd.sock; run it as root or as a member of the "
            + "group 61001; members of the group 61002 may look\n")
        // A user of another user namespace is root there, and nobody here.
        let elsewhere = try host.run(
          "exec \(Self.stranger) unshare --user --map-root-user ovx-ctl show")
        #expect(
          elsewhere.standardError.contains("no permission")
            || elsewhere.standardError.contains("unshare"), "\(elsewhere)")
        #expect(try host.ctl("list-br") == "br0\n")

        let log = daemon.log
        #expect(log.contains(/changed by uid 61000, pid [1-9]\d*: add-br br0/), "\(log)")
        #expect(!log.contains("add-br br1") && !log.contains("list-br"), "\(log)")
        #expect(
          log.contains(/refused 1 connection .* the latest of uid 61000, pid [1-9]/), "\(log)")
      }
    }

    /// Without groups on the host it is root's alone, also where the group root is somebody's.
    @Test func rootAlone() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let rooted = "setpriv --reuid=61000 --regid=0 --groups=0 --"
        for user in [Self.stranger, Self.changer, Self.reader, rooted] {
          let refused = try host.run("exec \(user) ovx-ctl list-br")
          #expect(
            refused.status == 1 && refused.standardError.contains("no permission"), "\(refused)")
        }
        let unknown = try host.run(
          "exec ovx-vswitchd --rundir \(host.rundir) --reader-group no-such-group")
        #expect(
          unknown.status == 1 && unknown.standardError.contains("--reader-group"), "\(unknown)")
      }
    }

    /// Each command that there is, from somebody who may only look: answered or refused, as its
    /// right is, and nothing changes.
    @Test func aReaderChangesNothing() throws {
      let source = try String(
        contentsOf: Lab.packageRoot.appendingPathComponent(
          "Sources/OVXControl/Protocol/Command.swift"), encoding: .utf8)
      let declaration = try #require(
        source.firstMatch(of: /enum Command: [\s\S]*?\n}\n/)?.output)
      let declared = Set(declaration.matches(of: /\n  case (\w+)/).map { String($0.1) })
      let commands = try Self.samples()
      let names = try commands.map { command in
        let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(command))
        return try #require((object as? [String: Any])?.keys.first)
      }
      #expect(Set(names) == declared)

      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let red = try lab.namespace("red")
        let daemon = try lab.daemon(on: host, arguments: Self.groups)
        try host.ctl("add-net net1 vni=7 subnet=10.9.0.0/24")
        try host.ctl("add-port br0 t0 type=tap")
        try host.ctl("fdb add br0 t0 0 02:00:00:00:00:05")
        func state() throws -> String {
          let stations = try host.ctl("fdb show br0").matches(of: /(..:){5}../).map { $0.0 }
          return try host.ctl("export") + stations.sorted().joined() + host.ctl("log show")
            + host.must("ip -o link | grep -v lo: | cut -d: -f2")
            + red.must("ip -o link | cut -d: -f2")
        }
        let before = try state()
        for (command, name) in zip(commands, names) {
          for request in [
            Request(commands: [command]), Request(commands: [command], dryRun: true),
            Request(commands: [.show, command]),
          ] {
            let line = String(decoding: try request.messageBytes(), as: UTF8.self)
            let answer = try host.must(
              """
              exec \(Self.reader) /usr/bin/python3 -c '
              import socket, sys
              s = socket.socket(socket.AF_UNIX)
              s.settimeout(10)
              s.connect(sys.argv[1])
              s.sendall(sys.stdin.buffer.read())
              print(s.makefile().readline())
              ' \(host.rundir)/vswitchd-open.sock <<'END'
              \(line.trimmingCharacters(in: .newlines).replacing("$TARGET", with: red.name))
              END
              """)
            let isRefused = answer.contains("no permission for that")
            #expect(isRefused == (request.right == .change), "\(name): \(answer)")
            #expect(answer.contains("outcome"), "\(name): \(answer)")
            let response = try JSONDecoder().decode(Response.self, from: Data(answer.utf8))
            if !request.dryRun, case .done(let replies) = response.outcome {
              let last = try #require(replies.last)
              let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(last))
              let kind = (object as? [String: Any])?.keys.first
              #expect(kind == command.declaration.answer.rawValue, "\(name)")
            }
          }
        }
        #expect(try state() == before)
        #expect(!daemon.log.contains("changed by uid 61000"))
      }
    }

    /// The programs that look, as somebody who may do no more.
    @Test func whatReadersRun() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let red = try lab.namespace("red")
        try lab.daemon(on: host, arguments: Self.groups)
        try host.ctl("add-br br0")
        try host.ctl("attach br0 \(red.name) eth0 ip=172.17.42.11/24")
        for line in [
          "show", "show --brief", "list port", "get port eth0@\(red.name) tag", "fdb show",
          "neigh show",
          "fdb stats", "stats", "drops", "tunnel show", "export", "version", "log show",
          "find interface type=internal", "wait-until port br0 name=br0",
          "trace br0 eth0@\(red.name) arp,src=02:00:00:00:00:01,ip_dst=172.17.42.12",
        ] {
          let output = try host.run("exec \(Self.reader) ovx-ctl \(line)")
          #expect(output.status == 0, "\(line): \(output)")
        }
        let doctor = try host.run("exec \(Self.reader) ovx-ctl doctor")
        #expect([0, 1].contains(doctor.status) && !doctor.standardOutput.isEmpty, "\(doctor)")
        #expect(!doctor.standardError.contains("no permission"), "\(doctor)")
        let difference = try host.run(
          "ovx-ctl export > \(host.rundir)/f; chmod 644 \(host.rundir)/f; exec \(Self.reader) ovx-ctl diff -f \(host.rundir)/f"
        )
        #expect(difference.status == 0, "\(difference)")
        let capture = try host.run("exec \(Self.reader) ovx-ctl capture br0 -w -", seconds: 10)
        #expect(
          capture.status == 1 && capture.standardError.contains("no permission for that"),
          "\(capture)")
        let monitor = try host.start("exec \(Self.reader) ovx-ctl monitor port")
        try eventually("it is told") { monitor.standardOutput.contains("br0") }
        monitor.signal(SIGTERM)
        _ = monitor.wait(seconds: 5)
      }
    }

    /// A stranger connects a thousand times and stays, and again and again: root, and readers, are
    /// answered, and the daemon keeps nothing of it.
    @Test func aStrangerFloods() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host, arguments: Self.groups)
        try host.ctl("add-br br0")
        func descriptors() throws -> Int {
          try FileManager.default.contentsOfDirectory(atPath: "/proc/\(daemon.process.pid)/fd")
            .count
        }
        func memory() throws -> Int {
          let status = try String(
            contentsOfFile: "/proc/\(daemon.process.pid)/status", encoding: .utf8)
          return Int(try #require(status.firstMatch(of: /VmRSS:\s+(\d+)/)).1) ?? 0
        }
        let (descriptorsBefore, memoryBefore) = (try descriptors(), try memory())
        // What may not be opened is not: the queue of those who may change something is theirs.
        let barred = try host.run(
          "exec \(Self.stranger) socat - UNIX-CONNECT:\(host.rundir)/vswitchd.sock")
        #expect(barred.standardError.contains("Permission denied"), "\(barred)")
        let floods = try (0..<3).map { _ in
          try host.start(
            """
            ulimit -n 4096
            exec \(Self.stranger) /usr/bin/python3 -u -c '
            import os, socket, sys, time
            kept = []
            for n in range(1000):
                s = socket.socket(socket.AF_UNIX)
                s.connect(sys.argv[1])
                kept.append(s)
            print("kept", kept[0].makefile().readline())
            end = time.time() + 60
            n = 0
            while time.time() < end:
                s = socket.socket(socket.AF_UNIX)
                s.setblocking(False)
                try: s.connect(sys.argv[1]); n += 1
                except BlockingIOError: pass
                s.close()
            ' \(host.rundir)/vswitchd-open.sock
            """)
        }
        for flood in floods {
          try eventually("they are refused", within: 30) {
            flood.standardOutput.contains("no permission to use")
          }
        }
        var longest = Duration.zero
        for number in 0..<20 {
          let start = ContinuousClock.now
          try host.ctl("add-br b\(number)")
          longest = max(longest, ContinuousClock.now - start)
        }
        print("the longest change of root's took \(longest) under a flood of strangers")
        #expect(longest < .seconds(5))
        #expect(try host.must("exec \(Self.reader) ovx-ctl list-br").contains("b19"))
        // Each bridge of those is a TAP: its descriptors are not the strangers'.
        #expect(try descriptors() < descriptorsBefore + 20 * 4 + 16)
        let growth = try memory() - memoryBefore
        print("memory grew by \(growth) kB")
        #expect(growth < 30_000)
        for flood in floods {
          flood.signal(SIGKILL)
          _ = flood.wait(seconds: 5)
        }
        let lines = daemon.log.split(separator: "\n").count { $0.contains("users without a right") }
        #expect((1...3).contains(lines), "\(daemon.log)")
      }
    }

    /// Readers who take all places that they get, and all watches: root and agents have theirs.
    @Test func readersTakeAllTheyGet() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host, arguments: Self.groups)
        try host.ctl("add-br br0")
        let crowd = try host.start(
          """
          ulimit -n 4096
          exec \(Self.reader) /usr/bin/python3 -u -c '
          import json, socket, sys, time
          def connect(commands):
              s = socket.socket(socket.AF_UNIX)
              s.settimeout(10)
              s.connect(sys.argv[1])
              s.sendall((json.dumps({"version": 1, "commands": commands, "timeout": 10, "dryRun": False}) + "\\n").encode())
              return s
          watches = [connect([{"watch": {"tables": ["Port"], "interval": 1000}}]) for _ in range(80)]
          answers = [s.makefile().readline() for s in watches]
          print("watching", sum("done" in a for a in answers), sum("may only look" in a for a in answers))
          idle = [socket.socket(socket.AF_UNIX) for _ in range(1000)]
          for s in idle: s.connect(sys.argv[1])
          print("connected")
          time.sleep(60)
          ' \(host.rundir)/vswitchd-open.sock
          """)
        let agent = try host.start("exec ovx-ctl monitor port")
        try eventually("they are connected", within: 30) {
          crowd.standardOutput.contains("connected")
        }
        #expect(crowd.standardOutput.contains("watching 32 48"), "\(crowd.standardOutput)")
        try host.ctl("add-br br1")
        try eventually("the agent is told") { agent.standardOutput.contains("br1") }
        let second = try host.start("exec ovx-ctl monitor port")
        try eventually("another agent is told") { second.standardOutput.contains("br1") }
        for process in [crowd, agent, second] {
          process.signal(SIGKILL)
          _ = process.wait(seconds: 5)
        }
      }
    }

    /// The exporter needs no more than to look.
    @Test func theExporterLooks() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host, arguments: Self.groups)
        try host.ctl("add-br br0")
        let exporter = try host.start("exec \(Self.reader) ovx-exporter --listen 127.0.0.1:9475")
        try eventually("it is ready") {
          try host.run("exec curl -fsS http://127.0.0.1:9475/readyz").succeeded
        }
        let metrics = try host.must("exec curl -fsS http://127.0.0.1:9475/metrics")
        #expect(metrics.contains("br0"), "\(metrics.prefix(2000))")
        exporter.signal(SIGTERM)
        _ = exporter.wait(seconds: 5)
      }
    }

    /// One of each command.
    private static func samples() throws -> [OVXControl.Command] {
      let mac = try #require(MACAddress("02:00:00:00:00:07"))
      let vlan = try #require(VLANID(rawValue: 0))
      let address = try #require(IPAddress("10.9.0.7"))
      let setting = Setting(column: "tag", value: "5")
      return [
        .addBridge(bridge: "brx", mayExist: true), .deleteBridge(bridge: "br0", ifExists: true),
        .addPort(
          bridge: "br0", port: "t1", settings: [Setting(column: "type", value: "tap")],
          mayExist: true),
        .deletePort(bridge: nil, port: "t0", ifExists: true),
        .attach(
          bridge: "br0", attachment: .init(target: "$TARGET", interface: "eth0"), settings: [],
          mayExist: true),
        .detach(target: "$TARGET", interface: "eth0", ifExists: true), .detachStale,
        .addNetwork(
          network: "net2", settings: [Setting(column: "vni", value: "8")], mayExist: true),
        .deleteNetwork(network: "net1", ifExists: true),
        .reserveAddress(network: "net1", subnet: nil, address: address),
        .releaseAddress(network: "net1", address: address),
        .openGateway(network: "net1", target: "$TARGET"), .listNetworks,
        .showNetworks(network: nil),
        .set(table: "port", record: "t0", settings: [setting], ifExists: true),
        .add(table: "port", record: "t0", column: "trunks", values: ["5"], ifExists: true),
        .remove(table: "port", record: "t0", column: "trunks", values: ["5"], ifExists: true),
        .clear(table: "port", record: "t0", columns: ["tag"], ifExists: true),
        .get(table: "port", record: "t0", columns: ["tag"], ifExists: true),
        .list(table: "port", records: [], columns: [], ifExists: true),
        .find(table: "port", conditions: [], columns: []),
        .waitUntil(table: "port", record: "t0", conditions: []),
        .create(table: "port", id: "@p", settings: [Setting(column: "name", value: "t2")]),
        .destroy(table: "port", records: ["t0"], ifExists: true),
        .reference(id: "@r", table: "port", record: "t0"), .comment("nothing"),
        .apply(Configuration(), declaresSwitch: false), .export, .listBridges,
        .bridgeExists(bridge: "br0"), .listPorts(bridge: "br0"), .portToBridge(port: "t0"),
        .bridgeParent(bridge: "br0"), .bridgeVLAN(bridge: "br0"),
        .bridgeExternalIDs(bridge: "br0", key: nil), .show, .showBridge(bridge: "br0"),
        .showLinks(bridge: nil), .showAddresses(bridges: []), .flushAddresses(bridge: nil),
        .addAddress(bridge: "br0", port: "t0", vlan: vlan, address: mac),
        .deleteAddress(
          bridge: "br0", vlan: vlan, address: try #require(MACAddress("02:00:00:00:00:05"))),
        .addressStatistics(bridges: []), .agent(AgentUpdate(.begin)),
        .gateways(GatewayReport()), .signs(vteps: [address]), .showNeighbors(bridges: []),
        .flushNeighbors(bridge: nil), .neighborStatistics(bridges: []), .statistics(port: nil),
        .drops, .showTunnels, .showEvents(last: -1), .logLevel, .setLogLevel(.debug),
        .trace(
          bridge: "br0", port: "t0",
          frame: TracedFrame(bytes: Array(repeating: 0x02, count: 60))),
        .traceTo(port: "t0", address: address, words: ""),
        .capture(target: "br0", program: [], snapshotLength: 100),
        .captureDrops(target: nil, program: [], snapshotLength: 64), .endCapture(number: 1),
        .watch(tables: [.port], interval: 1000), .version, .showEVPN,
        .showEVPNRoutes(network: nil), .showEVPNVTEPs(network: nil),
        .unfreezeStation(network: "net1", mac: mac), .confirmWithin(seconds: 100),
        .confirm(undo: true), .exit(cleanup: true),
      ]
    }
  }
}
