import Foundation
import OVXSimulation
import Testing

extension SystemTests {
  /// The database through kills at any moment, a full disk, a read-only one, and damage.
  @Suite struct DurabilityTests {
    /// kill -9 in a loop, under traffic, each time while a random transaction is on its way.
    ///
    /// What was acknowledged is there afterwards; what was not is there as a whole or not at all.
    @Test func killedAtAnyMoment() throws {
      try Lab.run { lab in
        var random = SeededRandom()
        print("kill -9 in a loop: \(random)")
        let (host, host2) = try lab.twoHosts()
        var daemon = try lab.overlay(on: host, remotes: [2], tag: 100)
        try lab.overlay(on: host2, remotes: [1], tag: 100)
        let red = try lab.container(
          "red", on: host, by: .tap, address: "172.17.42.11/24", tag: 100)
        _ = try lab.container("far", on: host2, by: .tap, address: "172.17.42.12/24", tag: 100)
        let containers = try ["c1", "c2", "c3"].map { try lab.namespace($0) }
        try red.expectPing("172.17.42.12")
        let interface = try red.must("cat /sys/class/net/eth0/ifindex /sys/class/net/eth0/address")
        let ping = try red.start("exec ping -O -i 0.05 -W 1 172.17.42.12")

        var model = try HostState(shownOn: host)
        var lastDuration = Duration.milliseconds(50)
        var (rounds, acknowledged, kept, lost) = (0, 0, 0, 0)
        let end = ContinuousClock.now + .seconds(Lab.isLong ? 120 : 20)
        while ContinuousClock.now < end {
          rounds += 1
          for _ in 0..<Int.random(in: 0...2, using: &random) {
            let (words, next) = model.change(containers.map(\.name), &random)
            let start = ContinuousClock.now
            let output = try host.ctl(words)
            lastDuration = ContinuousClock.now - start
            guard output.succeeded else { throw LabError("\(random): \(words): \(output)") }
            model = next
            acknowledged += 1
          }
          let (words, next) = model.change(containers.map(\.name), &random)
          let inFlight = try host.start("exec ovx-ctl " + words.joined(separator: " "))
          let moment = lastDuration * Double.random(in: 0...1.3, using: &random)
          usleep(UInt32(moment / .microseconds(1)))
          try daemon.stop(SIGKILL)
          let isAcknowledged = try inFlight.finish(seconds: 20).succeeded

          daemon = try lab.daemon(on: host)
          let found = try HostState(shownOn: host)
          let story = "\(random), round \(rounds), in flight: \(words)"
          if isAcknowledged {
            acknowledged += 1
            try #require(found == next, "acknowledged and not there: \(story)")
          } else {
            try #require(found == model || found == next, "half applied: \(story)")
            if found == model { lost += 1 } else { kept += 1 }
          }
          model = found
          try #require(
            red.must("cat /sys/class/net/eth0/ifindex /sys/class/net/eth0/address") == interface,
            "\(story)")
          for container in containers {
            let isThere = try container.run("ip link show eth0").succeeded
            #expect(isThere == model.ports.keys.contains("in " + container.name), "\(story)")
          }
          let taps = try host.must("ls /sys/class/net").split(separator: "\n")
            .filter { $0.wholeMatch(of: /t[0-9]/) != nil }.map(String.init)
          #expect(
            Set(taps) == Set(model.ports.keys.filter { $0.hasPrefix("t") }), "TAPs, \(story)")
          try red.must("until ping -c 1 -W 0.2 172.17.42.12 >/dev/null; do :; done", seconds: 10)
        }
        ping.signal(SIGINT)
        let output = try ping.finish(seconds: 5)
        let replies = output.standardOutput.split(separator: "\n").count {
          $0.contains("bytes from")
        }
        #expect(replies > rounds, "the ping went on through all of it")
        #expect(rounds >= 3)
        print(
          "\(rounds) kills, \(acknowledged) transactions acknowledged, of those cut off \(kept) were kept "
            + "and \(lost) lost, \(replies) pings answered")
      }
    }

    /// A disk that is full refuses changes, whole, with the file's name and the remedy; frames go
    /// on all the while.
    @Test func aFullDisk() throws {
      let disk = try Disk(size: "512k")
      defer { disk.unmount() }
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host, arguments: ["--database", disk.database])
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        try red.expectPing("172.17.42.12")
        let ping = try red.start("exec ping -i 0.05 -W 1 172.17.42.12")
        _ = try host.run("dd if=/dev/zero of=\(disk.directory)/filler bs=1k")

        var refusal: Output?
        var before = ""
        for number in 0..<100 where refusal == nil {
          before = try host.ctl("-f json list Bridge")
          let output = try host.ctl([
            "set", "Bridge", "br0",
            "external_ids:k\(number)=" + String(repeating: "x", count: 4000),
            "--", "add-br", "half\(number)",
          ])
          if !output.succeeded { refusal = output }
        }
        let full = try #require(refusal, "the disk never became full")
        #expect(full.status == 1)
        #expect(
          full.standardError.contains(
            "the database \(disk.database) cannot be written: its file system is full; free some space"
          ), "\(full)")
        #expect(try host.ctl("-f json list Bridge") == before, "nothing was applied")
        #expect(try !host.ctl("list-br").isEmpty, "questions are answered")
        let devices = try host.must("ls /sys/class/net").split(separator: "\n").count {
          $0.hasPrefix("half")
        }
        #expect(try host.ctl("list-br").split(separator: "\n").count == devices + 1)

        try host.must("rm \(disk.directory)/filler")
        try host.ctl("add-br br1")
        ping.signal(SIGINT)
        let pings = try ping.finish(seconds: 5)
        #expect(pings.standardOutput.contains(" 0% packet loss"), "\(pings)")

        let after = try host.ctl("-f json list Bridge")
        try daemon.stop(SIGKILL)
        try lab.daemon(on: host, arguments: ["--database", disk.database])
        #expect(try host.ctl("-f json list Bridge") == after)
        try red.expectPing("172.17.42.12")
      }
    }

    /// The disk is full when the daemon starts, with a database or without one: it says so, and
    /// what is there stays.
    ///
    /// One that was killed has left the room that the next one needs, which starts and refuses
    /// changes.
    @Test(arguments: [SIGTERM, SIGKILL, nil] as [Int32?])
    func aFullDiskAtTheStart(_ end: Int32?) throws {
      let disk = try Disk(size: "1m")
      defer { disk.unmount() }
      let options = ["--database", disk.database]
      try Lab.run { lab in
        lab.expectLog("its file system is full")
        let host = try lab.namespace("host1")
        var before = ""
        let red = try lab.namespace("red")
        if let end {
          let daemon = try lab.daemon(on: host, arguments: options)
          try host.ctl("add-br br0")
          try host.ctl("attach br0 \(red.name) eth0 ip=172.17.42.11/24")
          before = try host.ctl("-f json show")
          try daemon.stop(end)
        }
        // To the last byte: what is left of a block, too.
        try host.must(
          "for size in 64k 1; do dd if=/dev/zero of=\(disk.directory)/$size bs=$size || true; done")
        let sentence =
          "the database \(disk.database) cannot be written: its file system is full; free some space there"
        if end == SIGKILL {
          let daemon = try lab.daemon(on: host, arguments: options)
          #expect(try host.ctl("-f json show") == before)
          let value = String(repeating: "x", count: 4000)
          let refused = try host.ctl(
            ["set", "Bridge", "br0"] + (0..<250).map { "external_ids:k\($0)=\(value)" })
          #expect(refused.status == 1 && refused.standardError.contains(sentence), "\(refused)")
          try daemon.stop(SIGTERM)
        } else {
          for detach in ["", " --detach"] {
            let refused = try host.run(
              "exec ovx-vswitchd --rundir \(host.rundir) \(options.joined(separator: " "))\(detach)",
              seconds: 20)
            #expect(refused.status == 1, "\(refused)")
            #expect(refused.standardError == "ovx-vswitchd: \(sentence).\n", "\(refused)")
          }
        }
        #expect(try !host.run("ls \(disk.directory)/*corrupt*").succeeded, "nothing was damaged")
        if end != nil { #expect(try red.must("ip addr show eth0").contains("172.17.42.11/24")) }
        try host.must("rm \(disk.directory)/64k \(disk.directory)/1")
        try lab.daemon(on: host, arguments: options)
        if end == nil {
          try host.ctl("add-br br0")
        } else {
          #expect(try host.ctl("-f json show") == before)
        }
      }
    }

    /// A daemon that cannot write its database runs with what is stored, refuses changes, and says
    /// why.
    @Test func aReadOnlyDisk() throws {
      let disk = try Disk(size: "512k")
      defer { disk.unmount() }
      try Lab.run { lab in
        lab.expectLog("is on a read-only file system, so the switch runs with what was stored")
        let host = try lab.namespace("host1")
        let options = ["--database", disk.database]
        var daemon = try lab.daemon(on: host, arguments: options)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        let before = try host.ctl("-f json show")
        for end in [SIGTERM, SIGKILL] {
          try daemon.stop(end)
          try disk.remount("ro")
          daemon = try lab.daemon(on: host, arguments: options)
          #expect(try host.ctl("-f json show") == before)
          try red.expectPing("172.17.42.12")
          let refused = try host.ctl(["add-br", "br1"])
          #expect(refused.status == 1)
          #expect(
            refused.standardError.contains(
              "the database \(disk.database) cannot be written: its file system is read-only; make it writable and "
                + "restart ovx-vswitchd"), "\(refused)")
          #expect(try host.ctl("-f json show") == before, "nothing was applied")
          try daemon.stop(SIGTERM)
          try disk.remount("rw")
          daemon = try lab.daemon(on: host, arguments: options)
          try red.expectPing("172.17.42.12")
        }
        try host.ctl("add-br br1")
        // Where there is no database, there is nothing to run with.
        try daemon.stop(SIGTERM)
        try host.must("rm \(disk.directory)/*")
        try disk.remount("ro")
        let none = try host.run(
          "exec ovx-vswitchd --rundir \(host.rundir) --database \(disk.database)", seconds: 20)
        #expect(none.status == 1)
        #expect(
          none.standardError.contains(
            "cannot open the database \(disk.database): Read-only file system; the file system is read-only, "
              + "so name another file with --database"), "\(none)")
        #expect(try red.must("ip addr show eth0").contains("172.17.42.11/24"))
      }
    }

    /// A database that is gone is no wish for a switch without bridges: while it runs, the daemon
    /// writes it anew; when it starts, it leaves devices in place, that time and any other, and
    /// tells of them.
    @Test func aVanishedDatabase() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let database = host.rundir + "/conf.db"
        var daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        lab.expectLog("was gone while ovx-vswitchd used it")
        let before = try host.ctl("-f json show")
        // Noticed with the next command, whatever it is, with a change, and at the end.
        for command in ["list-br", "set bridge br0 external_ids:a=b", nil] {
          try host.must("rm \(database)*")
          if let command { try host.ctl(command) }
          try daemon.stop(command == nil ? SIGTERM : SIGKILL)
          #expect(daemon.log.contains("the database \(database) was gone"), "\(daemon.log)")
          daemon = try lab.daemon(on: host)
          #expect(try host.ctl("-f json show") == before, "\(command ?? "nothing")")
        }
        // Noticed by nobody, as the daemon was killed.
        lab.expectLog("knows nothing of 3 network devices")
        try host.must("cp \(database) \(database).good")
        for damage in ["rm \(database)*", ": > \(database); rm -f \(database)-*"] {
          try host.must("mv \(database).good \(host.rundir)/good")
          try daemon.stop(SIGKILL)
          try host.must(damage)
          for _ in 1...2 {
            daemon = try lab.daemon(on: host)
            #expect(try host.ctl("list-br") == "")
            #expect(
              daemon.log.contains(
                "the database \(database) knows nothing of 3 network devices made or taken for it (blue, br0, eth0 in"
              ),
              "\(daemon.log)")
            #expect(try red.must("ip addr show eth0").contains("172.17.42.11/24"))
            #expect(try host.run("ip link show br0").succeeded)
            // The host's own stack still hears nothing of it.
            #expect(try host.must("tc filter show dev blue ingress").contains("bytecode '4,"))
            try daemon.stop(SIGTERM)
          }
          try host.must(
            "rm \(database)*; cp \(host.rundir)/good \(database); mv \(host.rundir)/good \(database).good"
          )
          daemon = try lab.daemon(on: host)
          #expect(try host.ctl("-f json show") == before)
          try red.expectPing("172.17.42.12")
        }
        // And where nobody has a copy: the operator says so.
        try daemon.stop(SIGKILL)
        try host.must("rm \(database)*")
        daemon = try lab.daemon(on: host)
        try host.ctl("exit --cleanup")
        daemon.mayBeDead = true
        #expect(daemon.process.wait(seconds: 10)?.succeeded == true)
        #expect(try !host.run("ip link show br0").succeeded)
        #expect(try !red.run("ip link show eth0").succeeded)
        #expect(try host.must("tc filter show dev blue ingress") == "")
        let clean = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        #expect(!clean.log.contains("knows nothing"), "\(clean.log)")
      }
    }

    /// A damaged database is kept aside and named, and costs no container its interface.
    @Test func aDamagedDatabase() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let database = host.rundir + "/conf.db"
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        try daemon.stop(SIGTERM)
        try host.must(
          """
          cp \(database) \(database).good
          dd if=/dev/urandom of=\(database) bs=1k count=8 conv=notrunc 2>/dev/null
          cp \(database) \(database).bad
          """)
        lab.expectLog("is damaged")
        lab.expectLog("knows nothing of 3 network devices")
        let damaged = try lab.daemon(on: host)
        #expect(
          damaged.log.contains("the database \(database) is damaged")
            && damaged.log.contains("it is kept as \(database).corrupt-1"), "\(damaged.log)")
        try host.must("cmp \(database).bad \(database).corrupt-1")
        #expect(try host.ctl("list-br") == "")
        #expect(
          try red.run("ip addr show eth0").standardOutput.contains("172.17.42.11/24"),
          "the container's interface is still there")
        // The next start finds nothing wrong with the file that took its place, and knows what that
        // one is.
        try damaged.stop(SIGKILL)
        let second = try lab.daemon(on: host)
        #expect(
          try red.run("ip addr show eth0").standardOutput.contains("172.17.42.11/24"))
        // The operator's remedy: the last good copy, and all is as it was.
        try second.stop(SIGTERM)
        try host.must("rm -f \(database)-wal \(database)-shm; cp \(database).good \(database)")
        try lab.daemon(on: host)
        try red.expectPing("172.17.42.12")
      }
    }
  }
}

/// A small file system in memory for a database, outside of the lab's directory, which is removed
/// while it is mounted.
private struct Disk {
  let directory: String
  var database: String { directory + "/conf.db" }

  init(size: String) throws {
    directory = "/tmp/\(Lab.prefix)disk-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: false)
    try run(["mount", "-t", "tmpfs", "-o", "size=\(size)", "ovx-test", directory])
  }

  func remount(_ option: String) throws {
    try run(["mount", "-o", "remount,\(option)", directory])
  }

  /// Lets go of it, also where a daemon that failed to end still holds it.
  func unmount() {
    do {
      try run(["umount", "-l", directory])
      try FileManager.default.removeItem(atPath: directory)
    } catch {
      Issue.record("\(directory) is left behind: \(error)")
    }
  }

  private func run(_ words: [String]) throws {
    let output = try Command(words).finish(seconds: 10)
    guard output.succeeded else { throw LabError("\(words): \(output.standardError)") }
  }
}

/// What a host is configured to be, as far as the transactions of the test change it.
private struct HostState: Equatable {
  struct Port: Equatable {
    var bridge: String
    var tag: Int?
    var remote: String?
  }

  var bridges: Set<String> = []
  /// By name; attached ones as "in" and the container's name.
  var ports: [String: Port] = [:]

  /// Reads it off `ovx-ctl show`.
  init(shownOn host: Namespace) throws {
    struct Shown: Decodable {
      struct Bridge: Decodable {
        var name: String
        var ports: [Port]
      }
      struct Port: Decodable {
        var name: String
        var tag: Int?
        var interface: Interface
      }
      struct Interface: Decodable {
        var options: [String: String]?
        var target: String?
      }
      var bridges: [Bridge]
    }
    let json = try host.ctl("-f json show")
    for bridge in try JSONDecoder().decode(Shown.self, from: Data(json.utf8)).bridges {
      bridges.insert(bridge.name)
      for port in bridge.ports {
        let name = port.interface.target.map { "in " + $0 } ?? port.name
        ports[name] = Port(
          bridge: bridge.name, tag: port.tag, remote: port.interface.options?["remote_ip"])
      }
    }
  }

  /// A random transaction of one to four commands, and what it makes of this state.
  ///
  /// No name is used twice in it, and what the traffic needs is left alone.
  func change(_ containers: [String], _ random: inout SeededRandom) -> (
    words: [String], next: HostState
  ) {
    var next = self
    var commands: [String] = []
    var names = [
      "br1", "br2", "br3", "t1", "t2", "t3", "t4", "t5", "v1", "v2", "v3",
    ]
    names = (names + containers.map { "in " + $0 }).shuffled(using: &random)
    for name in names.prefix(Int.random(in: 1...4, using: &random)) {
      next.change(name, &commands, &random)
    }
    return (
      Array(commands.map { $0.split(separator: " ").map(String.init) }.joined(separator: ["--"])),
      next
    )
  }

  private mutating func change(
    _ name: String, _ commands: inout [String], _ random: inout SeededRandom
  ) {
    let tag = Int.random(in: 200...210, using: &random)
    let remote = "192.168.5.\(Int.random(in: 3...9, using: &random))"
    let bridge = bridges.sorted().randomElement(using: &random) ?? "br0"
    let number = Int(name.suffix(1)) ?? 0
    let isNew = ports[name] == nil
    let isToGo = !isNew && Bool.random(using: &random)
    switch name.first {
    case "b" where bridges.contains(name):
      commands.append("del-br \(name)")
      bridges.remove(name)
      ports = ports.filter { $0.value.bridge != name }
    case "b":
      commands.append("add-br \(name)")
      bridges.insert(name)
      ports[name] = Port(bridge: name)
    case "i" where isNew:
      commands.append("attach br0 \(name.dropFirst(3)) eth0 tag=\(tag)")
      ports[name] = Port(bridge: "br0", tag: tag)
    case "i":
      commands.append("detach \(name.dropFirst(3)) eth0")
      ports[name] = nil
    case _ where isToGo:
      commands.append("del-port \(name)")
      ports[name] = nil
    case "t" where isNew:
      commands.append("add-port \(bridge) \(name) type=tap tag=\(tag)")
      ports[name] = Port(bridge: bridge, tag: tag)
    case "t":
      commands.append("set Port \(name) tag=\(tag)")
      ports[name]?.tag = tag
    case _ where isNew:
      commands.append(
        "add-port \(bridge) \(name) type=vxlan key=\(3000 + number) tag=\(3000 + number) remote=\(remote)"
      )
      ports[name] = Port(bridge: bridge, tag: 3000 + number, remote: remote)
    default:
      commands.append("set Interface \(name) options:remote_ip=\(remote)")
      ports[name]?.remote = remote
    }
  }
}
