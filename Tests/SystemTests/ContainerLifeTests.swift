import Foundation
import Glibc
import Testing

extension SystemTests {
  /// Containers that go and come back, by whatever they are named.
  @Suite struct ContainerLifeTests {
    /// A host with two containers that are named by their network namespaces; more are made by the
    /// test.
    private func scene(
      _ lab: Lab, _ kind: Attachment = .tap
    ) throws -> (host: Namespace, red: Namespace) {
      let host = try lab.namespace("host1")
      try lab.daemon(on: host)
      try host.ctl("add-br br0")
      let red = try lab.container("red1", on: host, by: kind, address: "172.17.42.11/24")
      return (host, red)
    }

    private func expectNoFault(_ host: Namespace, within seconds: Double = 3) throws {
      try eventually("nothing waits", within: seconds) { try !host.ctl("show").contains("error:") }
    }

    /// A process that is left behind keeps the former namespace alive, with our interface in it.
    @Test(arguments: Attachment.attached)
    func aNameThatGoesToAnotherNamespaceIsFollowed(_ kind: Attachment) throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (host, red) = try scene(lab, kind)
        let web = try lab.container("web", on: host, by: kind, address: "172.17.42.12/24")
        try web.must("ip addr add fd42::12/64 dev eth0 nodad")
        try red.must("ip addr add fd42::11/64 dev eth0 nodad")
        try red.expectPing("172.17.42.12")
        let ghost = try web.start("exec sleep 1000")
        defer { ghost.signal(SIGKILL) }
        try eventually("it is in there") {
          try String(contentsOfFile: "/proc/\(ghost.pid)/comm", encoding: .utf8) == "sleep\n"
        }
        try web.makeAnew()
        try eventually("the new one has the interface", within: 3) {
          try web.run("test -e /sys/class/net/eth0").succeeded
        }
        try expectNoFault(host)
        for _ in 0..<3 where try red.run("ping -c 1 -W 1 172.17.42.12").succeeded { break }
        try red.expectPing("172.17.42.12")
        // Nobody answers from the former one, which has the interface no more.
        let left = try host.must("nsenter -t \(ghost.pid) -n ip -br link")
        #expect(!left.contains("eth0"), "\(left)")

        // Gone for good, its address is nobody's, and its port says so.
        try lab.remove(web)
        try eventually("show tells", within: 3) {
          let tree = try host.ctl("show")
          return tree.contains("error:") && tree.contains("detach --stale")
        }
        try red.expectNoPing("172.17.42.12")
        // After a while it is back within a moment.
        sleep(10)
        try web.makeAnew()
        try eventually("it is back", within: 3) {
          try web.run("test -e /sys/class/net/eth0").succeeded
        }
        try expectNoFault(host)
      }
    }

    @Test(arguments: Attachment.attached) func whatIsGoneIsDetached(_ kind: Attachment) throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (host, red) = try scene(lab, kind)
        let web = try lab.container("web", on: host, by: kind, address: "172.17.42.12/24")
        let process = try lab.namespace("process")
        let sleeper = try process.start("exec sleep 1000")
        try host.ctl(
          "attach br0 pid:\(sleeper.pid) eth0 ip=172.17.42.13/24 "
            + (kind == .tap ? "" : "kind=veth"))
        #expect(try host.ctl("detach --stale").isEmpty)
        #expect(try host.ctl("list-ports br0").split(separator: "\n").count == 3)
        try lab.remove(web)
        sleeper.signal(SIGKILL)
        _ = sleeper.wait(seconds: 5)
        try lab.remove(process)
        try eventually("both wait") {
          try host.ctl("show").components(separatedBy: "error:").count == 3
        }
        try host.ctl("detach --stale")
        let ports = try host.ctl("list-ports br0")
        #expect(ports == "eth0@\(red.name)\n", "\(ports)")
        let bad = try host.ctl(["detach", "--stale", red.name])
        #expect(bad.status != 0 && bad.standardError.contains("--stale"), "\(bad.standardError)")
      }
    }

    /// A docker that is a script: what it knows is in files, "NAME" with process and id, and it
    /// hangs while there is a file "hang".
    private struct Docker {
      let directory: String

      init(_ lab: Lab) throws {
        directory = lab.directory.appendingPathComponent("docker").path
        try FileManager.default.createDirectory(
          atPath: directory + "/known", withIntermediateDirectories: true)
        let script = """
          #!/bin/sh
          cd '\(directory)'
          [ -e hang ] && exec sleep 1000
          case $1 in
          inspect)
            for name; do :; done
            file=$(grep -ls "^[0-9]* $name\\$" known/* | head -1)
            [ -e "known/$name" ] && file="known/$name"
            [ -n "$file" ] || { echo "Error: No such container: $name" >&2; exit 1; }
            cat "$file";;
          events) exec tail -n 0 -f events;;
          *) exit 1;;
          esac
          """
        try "".write(toFile: directory + "/events", atomically: false, encoding: .utf8)
        let made = try Command([
          "sh", "-c", "printf '%s\\n' \"$1\" > \"$2\"; chmod 755 \"$2\"", "sh", script,
          directory + "/docker",
        ]).finish(seconds: 10)
        #expect(made.succeeded)
      }

      func set(_ name: String, pid: pid_t, id: String) throws {
        try "\(pid) \(id)\n".write(
          toFile: "\(directory)/known/\(name)", atomically: true, encoding: .utf8)
        try announce(pid == 0 ? "die" : "start")
      }

      func remove(_ name: String) throws {
        try FileManager.default.removeItem(atPath: "\(directory)/known/\(name)")
        try announce("destroy")
      }

      private func announce(_ word: String) throws {
        let made = try Command(["sh", "-c", "echo \(word) >> '\(directory)/events'"])
          .finish(seconds: 10)
        #expect(made.succeeded)
      }

      func hang(_ isHanging: Bool) throws {
        if isHanging {
          try "".write(toFile: directory + "/hang", atomically: true, encoding: .utf8)
        } else {
          try FileManager.default.removeItem(atPath: directory + "/hang")
        }
      }
    }

    /// A container of docker is the one that was attached, by its id, whatever becomes of its
    /// processes and its name.
    @Test func aContainerOfDockerIsItself() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let host = try lab.namespace("host1")
        let docker = try Docker(lab)
        try lab.daemon(on: host, searchPath: docker.directory)
        try host.ctl("add-br br0")
        let red = try lab.container("red1", on: host, by: .tap, address: "172.17.42.11/24")
        let places = try (1...3).map { try lab.namespace("inside\($0)") }
        let processes = try places.map { try $0.start("exec sleep 1000") }
        defer { for process in processes { process.signal(SIGKILL) } }
        func hasInterface(_ place: Namespace) throws -> Bool {
          try place.run("test -e /sys/class/net/eth0").succeeded
        }
        let first = String(repeating: "a1", count: 32)
        try docker.set("web", pid: processes[0].pid, id: first)
        try host.ctl("attach br0 web eth0 ip=172.17.42.12/24")
        #expect(try hasInterface(places[0]))
        try red.expectPing("172.17.42.12")
        #expect(try host.ctl("get interface eth0@web attachment:container").contains(first))

        // Restarted, while a process is left in the former namespace.
        try docker.set("web", pid: processes[1].pid, id: first)
        try eventually("it is followed", within: 5) { try hasInterface(places[1]) }
        #expect(try !hasInterface(places[0]))
        try red.expectPing("172.17.42.12")

        // Stopped, it keeps its port.
        try docker.set("web", pid: 0, id: first)
        try eventually("show tells", within: 5) { try host.ctl("show").contains("not running") }
        try host.ctl("detach --stale")
        #expect(try host.ctl("list-ports br0").contains("eth0@web"))

        // Removed, and another one of that name does not inherit its address.
        try docker.remove("web")
        try docker.set("web", pid: processes[2].pid, id: String(repeating: "b2", count: 32))
        try eventually("show tells", within: 5) { try host.ctl("show").contains("another one") }
        #expect(try !hasInterface(places[2]))
        // Renamed, it is the same one.
        try docker.set("old", pid: processes[0].pid, id: first)
        try eventually("it is found", within: 5) { try hasInterface(places[0]) }
        try docker.remove("old")
        try eventually("show tells", within: 5) {
          try host.ctl("show").contains("has been removed")
        }
        try host.ctl("detach --stale")
        #expect(try !host.ctl("list-ports br0").contains("eth0@web"))
        try host.ctl("attach br0 web eth0 ip=172.17.42.12/24")
        #expect(try hasInterface(places[2]))
      }
    }

    /// A docker that hangs keeps nobody waiting but who asks for one of its containers.
    @Test func aDockerThatHangsHoldsUpNobodyElse() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let host = try lab.namespace("host1")
        let docker = try Docker(lab)
        try lab.daemon(on: host, searchPath: docker.directory)
        try host.ctl("add-br br0")
        let place = try lab.namespace("inside")
        let process = try place.start("exec sleep 1000")
        defer { process.signal(SIGKILL) }
        try docker.set("web", pid: process.pid, id: "c3")
        try docker.hang(true)
        let attaching = try Command(
          ["ip", "netns", "exec", host.name, "\(Lab.binaries)/ovx-ctl"]
            + "attach br0 web eth0 ip=172.17.42.12/24".split(separator: " ").map(String.init),
          environment: ["OVX_RUNDIR": host.rundir])
        for number in 0..<3 {
          let start = ContinuousClock.now
          try host.ctl("add-port br0 tap\(number) type=tap")
          #expect(ContinuousClock.now - start < .seconds(4), "while docker hangs")
        }
        #expect(attaching.isRunning)
        let output = try attaching.finish(seconds: 9)
        #expect(output.succeeded, "\(output.standardError)")
        #expect(output.standardError.contains("waits"), "\(output.standardError)")
        try docker.hang(false)
        try eventually("it is attached to", within: 60) {
          try place.run("test -e /sys/class/net/eth0").succeeded
        }
      }
    }
  }
}

extension Lab {
  /// Removes the name of a namespace.
  fileprivate func remove(_ namespace: Namespace) throws {
    let removed = try Command(["ip", "netns", "del", namespace.name]).finish(seconds: 10)
    guard removed.succeeded else { throw LabError(removed.standardError) }
  }
}
