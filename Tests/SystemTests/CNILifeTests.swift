import Foundation
import Glibc
import Testing

extension SystemTests {
  /// ovx-cni where something dies, or is missing, or much happens at once.
  @Suite struct CNILifeTests {
    private func scene(
      _ lab: Lab, _ count: Int = 1
    ) throws -> (runtime: Runtime, daemon: Daemon, containers: [Namespace]) {
      let host = try lab.namespace("host1")
      let daemon = try lab.daemon(on: host)
      try host.ctl("add-br br0")
      let containers = try (0..<count).map { try lab.namespace("c\($0)") }
      return (Runtime(lab: lab, host: host), daemon, containers)
    }

    /// A plugin in the place of host-local that runs some lines of a shell before it.
    private func wrapped(_ lab: Lab, _ lines: String) throws -> String {
      let directory = lab.directory.appendingPathComponent("bin").path
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      let made = try Command([
        "sh", "-c", "printf '%s' \"$1\" > \"$2/host-local\"; chmod 755 \"$2/host-local\"", "sh",
        "#!/bin/sh\n\(lines)\nexec \(Runtime.others)/host-local\n", directory,
      ]).finish(seconds: 5)
      #expect(made.succeeded)
      return directory
    }

    @Test func killedAtItsSteps() throws {
      try Lab.run { lab in
        let (runtime, daemon, containers) = try scene(lab)
        let container = containers[0]
        let red = runtime.configuration(ipam: true)
        func recover(_ what: String) throws {
          let again = try runtime.must("ADD", container, red)
          #expect(again.addresses.count == 1, "\(what)")
          try runtime.must("CHECK", container, withResult(again, red))
          #expect(try runtime.ports().count == 1 && runtime.leased().count == 1, "\(what)")
          try runtime.must("DEL", container, red)
          try runtime.expectNothing(of: containers)
        }
        // Before an address was handed out, after that, and with the daemon in the middle of the
        // attachment.
        for (what, lines) in [
          ("before IPAM", "kill -9 $PPID; exit 1"),
          ("after IPAM", "\(Runtime.others)/host-local; kill -9 $PPID; exit 0"),
        ] {
          let path = try wrapped(lab, "[ $CNI_COMMAND = ADD ] && { \(lines); }")
          let command = try runtime.start(
            "ADD", container.name, in: "/run/netns/\(container.name)", as: "eth0", path: path, red)
          #expect(command.wait(seconds: 10)?.status == 137, "\(what)")
          try recover(what)
        }
        let path = try wrapped(lab, "[ $CNI_COMMAND = ADD ] && kill -STOP \(daemon.process.pid)")
        let command = try runtime.start(
          "ADD", container.name, in: "/run/netns/\(container.name)", as: "eth0", path: path, red)
        usleep(700_000)
        #expect(command.isRunning)
        command.signal(SIGKILL)
        _ = command.wait(seconds: 5)
        daemon.process.signal(SIGCONT)
        try recover("in the daemon")

        // And anywhere else.
        for _ in 0..<12 {
          let command = try runtime.start(
            "ADD", container.name, in: "/run/netns/\(container.name)", as: "eth0", red)
          usleep(.random(in: 0...150_000))
          let isFinished = !command.isRunning
          command.signal(SIGKILL)
          _ = command.wait(seconds: 5)
          if isFinished || Bool.random() {
            let command = try runtime.start("DEL", container.name, in: "", as: "eth0", red)
            usleep(.random(in: 0...100_000))
            command.signal(SIGKILL)
            _ = command.wait(seconds: 5)
            try runtime.must("DEL", container, red)
            try runtime.expectNothing(of: containers)
          } else {
            let again = try runtime.call("ADD", container, red)
            // Killed behind its last step, it has been told of to nobody, and DEL comes first.
            if again.code == 101 { try runtime.must("DEL", container, red) }
            if again.output.succeeded { try runtime.must("DEL", container, red) }
            try runtime.expectNothing(of: containers)
          }
        }
      }
    }

    /// A container that comes back with another namespace, as after a restart of the host, gets its
    /// interface.
    @Test func anotherNamespaceOfTheSameContainer() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (runtime, _, containers) = try scene(lab, 2)
        let red = runtime.configuration(ipam: true)
        try runtime.must("ADD", containers[0], red)
        let moved = try runtime.finish(
          runtime.start(
            "ADD", containers[0].name, in: "/run/netns/\(containers[1].name)", as: "eth0", red))
        #expect(moved.output.succeeded, "\(moved.text)")
        #expect(try runtime.ports().count == 1 && runtime.leased().count == 1)
        #expect(try !containers[0].must("ip -br link").contains("eth0"))
        #expect(try containers[1].must("ip -br link").contains("eth0"))
      }
    }

    @Test func withoutADaemon() throws {
      try Lab.run { lab in
        let (runtime, daemon, containers) = try scene(lab)
        let red = runtime.configuration(ipam: true)
        let result = try runtime.must("ADD", containers[0], red)
        #expect(try runtime.call("STATUS", red).output.succeeded)
        try daemon.stop(SIGKILL)
        let other = try lab.namespace("other")
        let valid = String(red.dropLast()) + ", \"cni.dev/valid-attachments\": []}"
        for (verb, code, configuration) in [
          ("ADD", 11, red), ("DEL", 11, red), ("CHECK", 11, withResult(result, red)),
          ("GC", 11, valid), ("STATUS", 51, red),
        ] {
          let outcome = try runtime.call(
            verb, verb == "ADD" ? other : containers[0], configuration)
          #expect(outcome.code == code, "\(verb): \(outcome.text)")
          #expect(outcome.message.contains("\(runtime.host.rundir)/vswitchd.sock"), "\(verb)")
        }
        // Its address stays its own until it is detached.
        #expect(runtime.leased().count == 1)
        try lab.daemon(on: runtime.host)
        try runtime.must("CHECK", containers[0], withResult(result, red))
        try runtime.must("DEL", containers[0], red)
        try runtime.expectNothing(of: containers + [other])
      }
    }

    @Test func garbageIsCollected() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (runtime, _, containers) = try scene(lab, 4)
        let red = runtime.configuration(ipam: true)
        for container in containers { try runtime.must("ADD", container, red) }
        try runtime.must("ADD", containers[0], as: "eth1", runtime.configuration(name: "blue"))
        #expect(
          try Command(["ip", "netns", "del", containers[3].name]).finish(seconds: 5).succeeded)
        func collect(_ valid: String) throws -> Runtime.Outcome {
          try runtime.call(
            "GC", String(red.dropLast()) + ", \"cni.dev/valid-attachments\": \(valid)}")
        }
        // What cannot be read is no reason to remove everything.
        for valid in ["null", "1", "[1]", "[{\"containerID\": \"\(containers[0].name)\"}]"] {
          #expect(try collect(valid).code == 7, "\(valid)")
        }
        #expect(try runtime.call("GC", red).code == 7)
        #expect(try runtime.ports().count == 5)
        let kept = containers[1].name
        let outcome = try collect("[{\"containerID\": \"\(kept)\", \"ifname\": \"eth0\"}]")
        #expect(outcome.output.succeeded && outcome.text.isEmpty, "\(outcome.text)")
        let ports = try runtime.ports()
        #expect(ports.count == 2 && ports.contains { $0.hasPrefix("eth1@") }, "\(ports)")
        #expect(runtime.leased() == ["172.17.42.3"])
        #expect(try collect("[]").output.succeeded)
        #expect(runtime.leased() == [])

        // One that fails does not keep the others.
        for container in containers[..<3] { try runtime.must("ADD", container, red) }
        let path = try wrapped(
          lab, "[ \"$CNI_CONTAINERID\" != \(containers[1].name) ] || exit 1")
        let partly = try runtime.call(
          "GC", path: path, String(red.dropLast()) + ", \"cni.dev/valid-attachments\": []}")
        #expect(partly.code == 100, "\(partly.text)")
        #expect(try runtime.ports().count == 1 && runtime.leased().count == 1)
      }
    }

    @Test func checkFindsWhatHasChanged() throws {
      try Lab.run { lab in
        let (runtime, _, containers) = try scene(lab)
        let container = containers[0]
        let red = runtime.configuration("\"tag\": 5", ipam: true)
        let whole = withResult(try runtime.must("ADD", container, red), red)
        func expect(
          _ word: String, _ change: String, _ back: String,
          sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
          try container.must(change)
          let outcome = try runtime.call("CHECK", container, whole)
          #expect(
            outcome.code == 102 && outcome.message.contains(word), "\(change): \(outcome.text)",
            sourceLocation: sourceLocation)
          try container.must(back)
          try runtime.must("CHECK", container, whole, sourceLocation: sourceLocation)
        }
        try expect(
          "10.9.0.0/16", "ip route del 10.9.0.0/16",
          "ip route add 10.9.0.0/16 via 172.17.42.2 dev eth0")
        try expect(
          "0.0.0.0/0", "ip route del default", "ip route add default via 172.17.42.1")
        try expect(
          "172.17.42.2/24",
          "ip addr add 172.17.42.9/24 dev eth0; ip addr del 172.17.42.2/24 dev eth0",
          """
          ip addr flush dev eth0; ip addr add 172.17.42.2/24 dev eth0
          ip route add default via 172.17.42.1; ip route add 10.9.0.0/16 via 172.17.42.2
          """)
        #expect(try runtime.call("CHECK", container, red).code == 7)
        let foreign = whole.replacing("\"sandbox\":\"/run", with: "\"sandbox\":\"\",\"x\":\"")
        #expect(try runtime.call("CHECK", container, foreign).code == 7)
        // host-local does not know of an address that has been taken from it.
        for address in runtime.leased() {
          try FileManager.default.removeItem(atPath: "\(runtime.leases)/red/\(address)")
        }
        let lost = try runtime.call("CHECK", container, whole)
        #expect(lost.message.contains("host-local"), "\(lost.text)")
        try runtime.must("DEL", container, red)
      }
    }

    @Test func status() throws {
      try Lab.run { lab in
        let (runtime, _, _) = try scene(lab)
        for (members, word) in [
          ("\"bridge\": \"br9\"", "br9"), ("\"vni\": 5", "VNI 5"),
          ("\"network\": \"nowhere\"", "nowhere"),
        ] {
          let outcome = try runtime.call("STATUS", runtime.configuration(members))
          #expect(outcome.code == 50 && outcome.message.contains(word), "\(outcome.text)")
        }
        let fine = try runtime.call("STATUS", runtime.configuration("\"tag\": 5", ipam: true))
        #expect(fine.output.succeeded && fine.text.isEmpty, "\(fine.text)")
      }
    }

    @Test func fiftyAtOnce() throws {
      try Lab.run { lab in
        let (runtime, _, containers) = try scene(lab, 50)
        let red = runtime.configuration("\"tag\": 5", ipam: true)
        func all(_ verb: String) throws -> [Runtime.Outcome] {
          let commands = try containers.map {
            try runtime.start(
              verb, $0.name, in: "/run/netns/\($0.name)", as: "eth0", red)
          }
          return try commands.map { try runtime.finish($0) }
        }
        let start = ContinuousClock.now
        let added = try all("ADD")
        let middle = ContinuousClock.now
        let refused = added.filter { !$0.output.succeeded }.map(\.text)
        #expect(refused == [])
        #expect(Set(added.flatMap(\.addresses)).count == 50)
        #expect(try runtime.ports().count == 50)
        try containers[0].expectPing(String(added[49].addresses[0].dropLast(3)))
        let end = ContinuousClock.now
        let deleted = try all("DEL")
        print("50 ADD at once: \(middle - start), 50 DEL: \(ContinuousClock.now - end)")
        #expect(deleted.allSatisfy { $0.output.succeeded && $0.text.isEmpty })
        try runtime.expectNothing(of: containers)
      }
    }

    /// With a network's addresses, one half of the containers on TAPs and the other on veths.
    ///
    /// Where the machine is so slow that the daemon has not answered a call in time, the runtime is
    /// told to try later.
    @Test func twoHundredAtOnce() throws {
      try Lab.run { lab in
        let count = 200
        let (runtime, _, containers) = try scene(lab, count)
        try runtime.host.ctl("add-net red vni=100 subnet=172.17.42.0/23")
        let devices = try runtime.host.must("ip -br link")
        func all(_ verb: String, _ containers: [Namespace]) throws -> [Runtime.Outcome] {
          let commands = try containers.enumerated().map { number, container in
            try runtime.start(
              verb, container.name, in: "/run/netns/\(container.name)", as: "eth0",
              runtime.configuration(
                "\"network\": \"red\", \"kind\": \"\(number.isMultiple(of: 2) ? "tap" : "veth")\""))
          }
          return try commands.map { try runtime.finish($0) }
        }
        let start = ContinuousClock.now
        let outcomes = try all("ADD", containers)
        let middle = ContinuousClock.now
        let added = outcomes.filter(\.output.succeeded)
        #expect(
          outcomes.allSatisfy { $0.output.succeeded || ($0.code == 11 && !$0.message.isEmpty) })
        #expect(Set(added.flatMap(\.addresses)).count == added.count && !added.isEmpty)
        var left = containers
        for _ in 0..<5 where !left.isEmpty {
          let deleted = try all("DEL", left)
          #expect(deleted.allSatisfy { $0.output.succeeded || $0.code == 11 })
          left = zip(left, deleted).filter { !$0.1.output.succeeded }.map(\.0)
        }
        print("\(added.count) of 200 ADD: \(middle - start), DEL: \(ContinuousClock.now - middle)")
        #expect(left.isEmpty)
        try runtime.expectNothing(of: containers)
        #expect(try runtime.host.must("ip -br link") == devices)
        #expect(try runtime.host.ctl("get network red status:addresses_used") == "0\n")
      }
    }
  }
}
