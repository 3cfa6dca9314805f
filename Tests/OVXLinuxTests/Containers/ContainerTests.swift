private import Foundation
private import Glibc
private import OVXLinux
private import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct ContainerTests {
  /// A directory with programs in it that pretend to be docker and podman.
  private struct Runtimes {
    let directory: String

    /// Writes a script from another process: while this one has a file open for writing, a child
    /// that another test is just starting has it as well, and the file cannot be run ("text file
    /// busy").
    func install(_ name: String, _ script: String) throws {
      let written = try run(
        "/bin/sh",
        [
          "-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", script,
          "\(directory)/\(name)",
        ], until: .now + .seconds(10))
      try #require(written.status == 0, "\(written.errors)")
    }

    func find(
      _ target: String,
      timeout: Duration = .seconds(5)
    ) throws(LinuxError) -> NetworkNamespace {
      try NetworkNamespace.find(target, searchPath: "relative::\(directory)", timeout: timeout)
    }

    func refusal(of target: String, timeout: Duration = .seconds(5)) throws -> String {
      try message { () throws(LinuxError) in _ = try find(target, timeout: timeout) }.description
    }
  }

  private func withRuntimes(_ body: (Runtimes) throws -> Void) throws {
    try withTemporaryDirectory { try body(Runtimes(directory: $0)) }
  }

  /// Lends a process in a network namespace of its own, as a container has it.
  private func withProcess(_ body: (Int32, NetworkNamespace) throws -> Void) throws {
    let namespace = try NetworkNamespace.anonymous()
    try withTemporaryDirectory { directory in
      // The shell goes away at once; what it left in the background keeps its namespace.
      let started = try namespace.perform { () throws(LinuxError) in
        try run(
          "/bin/sh",
          ["-c", "sleep 60 >/dev/null 2>&1 & echo $!"],
          until: .now + .seconds(10)
        )
      }
      let line = started.output.trimmingCharacters(in: .whitespacesAndNewlines)
      let pid = try #require(Int32(line))
      defer { kill(pid, SIGKILL) }
      try body(pid, namespace)
    }
  }

  @Test func `a container of docker is found by its process`() throws {
    try withRuntimes { runtimes in
      try withProcess { pid, namespace in
        try runtimes.install(
          "docker",
          "echo \"$@\" > '\(runtimes.directory)/arguments'; echo \(pid)"
        )
        let found = try runtimes.find("web_1.x-y")
        #expect(found.identity == namespace.identity)
        #expect(found.name == "web_1.x-y")
        let arguments = try String(
          contentsOfFile: "\(runtimes.directory)/arguments",
          encoding: .utf8
        )
        #expect(arguments == "inspect --type container -f {{.State.Pid}} {{.Id}} web_1.x-y\n")
      }
    }
  }

  @Test func `what docker does not know, podman is asked for`() throws {
    try withRuntimes { runtimes in
      try withProcess { pid, namespace in
        try runtimes.install(
          "docker",
          "echo 'Error response from daemon: No such container: web' >&2; exit 1"
        )
        try runtimes.install("podman", "echo \(pid)")
        #expect(try runtimes.find("web").identity == namespace.identity)
      }
    }
  }

  @Test func `the kinds of target are told apart in their order`() throws {
    try withRuntimes { runtimes in
      try withNamedNamespace { name in
        // Were docker asked, it would be wrong.
        try runtimes.install("docker", "echo 1")
        let named = try runtimes.find(name)
        #expect(named.identity == (try NetworkNamespace(named: name).identity))
        #expect(try runtimes.find("/run/netns/\(name)").identity == named.identity)
        try withProcess { pid, namespace in
          let byProcess = try runtimes.find("pid:\(pid)")
          let byPath = try runtimes.find("/proc/\(pid)/ns/net")
          #expect(byProcess.identity == namespace.identity)
          #expect(byPath.identity == namespace.identity)
        }
      }
    }
  }

  @Test func `a target that is nowhere names everything that was tried`() throws {
    try withRuntimes { runtimes in
      let remedy =
        "; create it with `ip netns add web`, or give pid:N, a path, or a container's name"
      #expect(
        try runtimes.refusal(of: "web")
          == "cannot find web: there is no network namespace of that name in /run/netns, docker is"
          + " not installed, podman is not installed" + remedy
      )
      try runtimes.install("docker", "echo 'error: no such object: web' >&2; exit 1")
      try runtimes.install("podman", "echo 'Error: no such container \"web\"' >&2; exit 125")
      #expect(
        try runtimes.refusal(of: "web")
          == "cannot find web: there is no network namespace of that name in /run/netns, docker knows"
          + " no such container, podman knows no such container" + remedy
      )
      try runtimes.install(
        "docker",
        "printf 'Cannot connect to the \\033[1mDocker daemon\\nmore\\n' >&2; exit 1"
      )
      #expect(
        try runtimes.refusal(of: "web")
          .contains("docker failed (Cannot connect to the [1mDocker daemon), podman knows")
      )
    }
  }

  @Test func `a container that is not running, or has the host's network, is refused`() throws {
    try withRuntimes { runtimes in
      try runtimes.install("docker", "echo 0")
      #expect(
        try runtimes.refusal(of: "web")
          == "cannot attach container web: it is not running; start it with `docker start web`"
      )
      try runtimes.install("docker", "echo \(getpid())")
      #expect(
        try runtimes.refusal(of: "web").contains("it has no network of its own but the host's")
      )
    }
  }

  @Test(arguments: ["-f", "--help", "a b", "a;b", "a\nb", "zero\0", "", "ä", "$(reboot)", ".x"])
  func `what can be no name never reaches a program`(target: String) throws {
    try withRuntimes { runtimes in
      try runtimes.install("docker", "touch '\(runtimes.directory)/called'; echo 1")
      #expect(try runtimes.refusal(of: target).contains("no container can have it"))
      #expect(!FileManager.default.fileExists(atPath: "\(runtimes.directory)/called"))
    }
  }

  @Test(arguments: ["pid:", "pid:0", "pid:-1", "pid:x", "pid:99999999999", "pid:1 ", "pid:+1"])
  func `what is no process id is said to be none`(target: String) throws {
    try withRuntimes { runtimes in
      let refusal = try runtimes.refusal(of: target)
      #expect(
        refusal
          == "cannot find \(target): what follows \"pid:\" is not a process id; give the number that"
          + " `ps` shows, as in pid:4711"
      )
    }
  }

  @Test(arguments: ["echo", "echo nonsense", "echo -5", "head -c 10000000 /dev/zero", "kill -9 $$"])
  func `strange answers are errors`(script: String) throws {
    try withRuntimes { runtimes in
      try runtimes.install("docker", script)
      #expect(try runtimes.refusal(of: "web").contains("docker failed ("))
    }
  }

  @Test(
    arguments: [
      "sleep 60", "sleep 60 & exec sleep 60", "exec >&- 2>&-; sleep 60",
      "while :; do echo x; done",
    ])
  func `a program that hangs is given up and killed`(script: String) throws {
    try withRuntimes { runtimes in
      try runtimes.install("docker", "echo $$ > '\(runtimes.directory)/pid'; \(script)")
      let start = ContinuousClock.now
      let refusal = try runtimes.refusal(of: "web", timeout: .milliseconds(500))
      #expect(refusal.contains("docker failed (it gave no answer in time)"))
      #expect(ContinuousClock.now - start < .seconds(20))
      let pid = try #require(
        Int32(
          try String(contentsOfFile: "\(runtimes.directory)/pid", encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        )
      )
      #expect(kill(pid, 0) == -1 && errno == ESRCH)
    }
  }

  @Test func `a grandchild that keeps the pipe open holds nothing up`() throws {
    try withRuntimes { runtimes in
      try withProcess { pid, namespace in
        try runtimes.install("docker", "sleep 10 & echo \(pid)")
        let start = ContinuousClock.now
        #expect(try runtimes.find("web").identity == namespace.identity)
        #expect(ContinuousClock.now - start < .seconds(5))
      }
    }
  }
}
