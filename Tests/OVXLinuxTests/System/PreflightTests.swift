private import OVXDatapath
private import OVXLinux
internal import SystemPackage
import Testing

@Suite struct PreflightTests {
  private let everything: UInt64 = 1 << 12 | 1 << 13 | 1 << 21

  private func only(_ facts: Preflight.Facts) throws -> Preflight.Problem {
    let problems = Preflight.problems(in: facts)
    #expect(problems.count == 1)
    return try #require(problems.first)
  }

  @Test func `a host that offers everything has no problems`() {
    #expect(Preflight.problems(in: Preflight.Facts(capabilities: everything)).isEmpty)
    #expect(Preflight.problems(in: Preflight.Facts()).isEmpty)
  }

  @Test(arguments: [
    (Errno.noSuchFileOrDirectory, "missing", "--device /dev/net/tun"),
    (.operationNotSupportedByDevice, "no driver", "modprobe tun"),
    (.notPermitted, "must not be opened (Operation not permitted)", "run ovx-vswitchd as root"),
    (.permissionDenied, "must not be opened (Permission denied)", "--device /dev/net/tun"),
    (.tooManyOpenFiles, "cannot be opened (Too many open files)", "modprobe"),
  ])
  func `without TUN nothing works`(errno: Errno, sentence: String, remedy: String) throws {
    let problem = try only(Preflight.Facts(tun: errno))
    #expect(problem.isFatal)
    #expect(problem.sentence.hasPrefix("/dev/net/tun "))
    #expect(problem.sentence.contains(sentence))
    #expect(problem.remedy.contains(remedy))
  }

  @Test(arguments: [
    (
      Errno.notPermitted, Int?.some(2), "kernel.io_uring_disabled is 2",
      "sysctl kernel.io_uring_disabled=0"
    ),
    (.notPermitted, 1, "kernel.io_uring_disabled is 1", "kernel.io_uring_group"),
    (.notPermitted, 0, "seccomp", "seccomp=unconfined"),
    (.notPermitted, nil, "seccomp", "seccomp=unconfined"),
    (.permissionDenied, nil, "SELinux", "io_uring_setup"),
    (.noFunction, nil, "the kernel has no io_uring", "CONFIG_IO_URING"),
    (.invalidArgument, nil, "Linux 5.10.0 is too old", "Linux 6.1"),
    (.noMemory, nil, "not enough memory", "LimitMEMLOCK"),
    (.tooManyOpenFiles, nil, "Too many open files", "kernel's log"),
  ])
  func `without io_uring nothing works`(
    errno: Errno,
    policy: Int?,
    sentence: String,
    remedy: String
  ) throws {
    let problem = try only(
      Preflight.Facts(
        ring: errno,
        canDeferCompletions: false,
        ringPolicy: policy,
        release: "5.10.0"
      )
    )
    #expect(problem.isFatal)
    #expect(problem.sentence.contains(sentence))
    #expect(problem.remedy.contains(remedy))
  }

  @Test func `a kernel that is merely old costs throughput`() throws {
    let problem = try only(Preflight.Facts(canDeferCompletions: false, release: "5.19.17"))
    #expect(!problem.isFatal)
    #expect(problem.sentence.contains("Linux 5.19.17"))
    #expect(problem.remedy == "use Linux 6.1 or later")
  }

  @Test func `each missing capability is named with what it is for, the fatal one first`() {
    let problems = Preflight.problems(in: Preflight.Facts(capabilities: 0))
    #expect(problems.map(\.isFatal) == [true, false, false])
    for (problem, name) in zip(problems, ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]) {
      #expect(problem.sentence.hasSuffix("as it lacks CAP_\(name)"))
      #expect(problem.remedy.contains("`--cap-add \(name)`"))
    }
    let tun = Preflight.Facts(tun: .noSuchFileOrDirectory, capabilities: everything & ~(1 << 13))
    #expect(Preflight.problems(in: tun).map(\.isFatal) == [true, false])
  }

  @Test func `this host is seen as it is`() throws {
    let facts = Preflight.Facts.observed()
    let release = try run("/bin/uname", ["-r"], until: .now + .seconds(5))
    #expect("\(facts.release)\n" == release.output)
    let status = try run("/bin/grep", ["CapEff", "/proc/self/status"], until: .now + .seconds(5))
    let capabilities = try #require(facts.capabilities)
    let text = String(capabilities, radix: 16)
    #expect(status.output.hasSuffix("\(text)\n"))
    let tun = try run("/bin/sh", ["-c", "exec 3<>/dev/net/tun"], until: .now + .seconds(5))
    #expect((facts.tun == nil) == (tun.status == 0))
    if isRoot, facts.tun == nil, facts.ring == nil {
      #expect(Preflight.problems(in: facts).allSatisfy { !$0.isFatal })
    }
  }

  @Test(.enabled(if: isRoot, "drops a capability, which takes having it"))
  func `a process without rights finds out`() throws {
    // setpriv drops what root has; the shell tells what a daemon started so would read.
    let status = try run(
      "/usr/bin/setpriv",
      [
        "--bounding-set", "-net_admin", "--inh-caps", "-all", "/bin/grep", "CapEff",
        "/proc/self/status",
      ],
      until: .now + .seconds(5)
    )
    try #require(status.status == 0, "\(status.errors)")
    let text = try #require(status.output.split(whereSeparator: \.isWhitespace).last)
    let capabilities = try #require(UInt64(text, radix: 16))
    let problems = Preflight.problems(in: Preflight.Facts(capabilities: capabilities))
    #expect(problems.first?.sentence.contains("CAP_NET_ADMIN") == true)
  }
}
