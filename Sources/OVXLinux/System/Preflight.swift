private import CLinux
private import Glibc
package import SystemPackage

/// What the host must offer, looked at once at start-up, so that what is missing is told before
/// anything fails of it.
///
/// `Preflight.problems(in: .observed())` is all the daemon needs. Facts and conclusions are apart
/// so that each conclusion can be tested on a host that offers everything.
package enum Preflight {
  /// Something that is missing.
  package struct Problem: Equatable, Sendable {
    /// What is wrong, without a full stop.
    package var sentence: String
    /// What the user can do about it, without a full stop.
    package var remedy: String
    /// Whether the switch cannot work at all.
    package var isFatal: Bool
  }

  /// What was found.
  package struct Facts: Equatable, Sendable {
    /// Why /dev/net/tun cannot be opened.
    package var tun: Errno?
    /// Why the kernel gives no ring of the kind that the worker needs at least.
    package var ring: Errno?
    /// Whether the kernel gives one that leaves completions alone until asked for them.
    package var canDeferCompletions: Bool
    /// The value of kernel.io_uring_disabled, 0...2; `nil` on kernels before 6.6, which do not have
    /// it.
    package var ringPolicy: Int?
    /// The effective capabilities of the process and its broker, bit N for capability N
    /// (capabilities(7)); `nil` where /proc does not tell.
    package var capabilities: UInt64?
    /// What `uname -r` says.
    package var release: String

    package init(
      tun: Errno? = nil,
      ring: Errno? = nil,
      canDeferCompletions: Bool = true,
      ringPolicy: Int? = nil,
      capabilities: UInt64? = nil,
      release: String = ""
    ) {
      self.tun = tun
      self.ring = ring
      self.canDeferCompletions = canDeferCompletions
      self.ringPolicy = ringPolicy
      self.capabilities = capabilities
      self.release = release
    }
  }

  /// Draws the conclusions, the fatal ones first.
  package static func problems(in facts: Facts) -> [Problem] {
    var problems = capabilityProblems(in: facts)
    if let errno = facts.tun { problems.append(tunProblem(errno)) }
    if let errno = facts.ring {
      problems.append(ringProblem(errno, facts))
    } else if !facts.canDeferCompletions {
      problems.append(
        Problem(
          sentence: "Linux \(facts.release) interrupts the worker for each completion of io_uring,"
            + " which costs throughput",
          remedy: "use Linux 6.1 or later",
          isFatal: false
        )
      )
    }
    return problems.filter(\.isFatal) + problems.filter { !$0.isFatal }
  }
}

// MARK: - Conclusions

extension Preflight {
  private static func tunProblem(_ errno: Errno) -> Problem {
    switch errno {
    case .noSuchFileOrDirectory:
      Problem(
        sentence: "/dev/net/tun is missing, so there can be no TAP and no internal port",
        remedy: "`modprobe tun`, or `mknod /dev/net/tun c 10 200`; start a container with"
          + " `--device /dev/net/tun`",
        isFatal: true
      )
    case .operationNotSupportedByDevice, .noSuchAddressOrDevice:
      Problem(
        sentence: "/dev/net/tun is there, but the kernel has no driver for it",
        remedy: "`modprobe tun`",
        isFatal: true
      )
    case .notPermitted, .permissionDenied:
      Problem(
        sentence: "/dev/net/tun must not be opened (\(errno))",
        remedy: "run ovx-vswitchd as root; start a container with `--device /dev/net/tun`",
        isFatal: true
      )
    default:
      Problem(
        sentence: "/dev/net/tun cannot be opened (\(errno))",
        remedy: "`modprobe tun`",
        isFatal: true
      )
    }
  }

  private static func ringProblem(_ errno: Errno, _ facts: Facts) -> Problem {
    let sentence: String
    let remedy: String
    switch (errno, facts.ringPolicy) {
    case (.notPermitted, 2):
      sentence = "io_uring is switched off for everybody (kernel.io_uring_disabled is 2)"
      remedy = "`sysctl kernel.io_uring_disabled=0`"
    case (.notPermitted, 1):
      sentence = "io_uring is switched off for this process (kernel.io_uring_disabled is 1)"
      remedy =
        "give ovx-vswitchd CAP_SYS_ADMIN or the group of kernel.io_uring_group, or"
        + " `sysctl kernel.io_uring_disabled=0`"
    case (.notPermitted, _), (.permissionDenied, _):
      sentence = "a security policy (seccomp or SELinux) forbids io_uring"
      remedy =
        "start the container with a seccomp profile that allows io_uring_setup, io_uring_enter and"
        + " io_uring_register, or with `--security-opt seccomp=unconfined`"
    case (.noFunction, _):
      sentence = "the kernel has no io_uring, or a seccomp filter hides it"
      remedy =
        "use a kernel built with CONFIG_IO_URING; start a container with"
        + " `--security-opt seccomp=unconfined`"
    case (.invalidArgument, _):
      sentence = "the io_uring of Linux \(facts.release) is too old"
      remedy = "use Linux 6.1 or later; 5.19 is the oldest that works"
    case (.noMemory, _):
      sentence = "there is not enough memory for an io_uring"
      remedy = "raise the limit of locked memory (`LimitMEMLOCK=` of systemd, `ulimit -l`)"
    default:
      sentence = "the kernel gives no io_uring (\(errno))"
      remedy = "see the kernel's log"
    }
    return Problem(sentence: sentence, remedy: remedy, isFatal: true)
  }

  /// A capability that the switch uses, by its bit (linux/capability.h).
  private struct Capability {
    var bit: UInt64
    var name: String
    var purpose: String
    var isFatal: Bool

    static let all = [
      Capability(bit: 12, name: "CAP_NET_ADMIN", purpose: "make network devices", isFatal: true),
      Capability(
        bit: 13,
        name: "CAP_NET_RAW",
        purpose: "use veths and NICs as ports",
        isFatal: false
      ),
      Capability(
        bit: 21,
        name: "CAP_SYS_ADMIN",
        purpose: "enter the network of a container",
        isFatal: false
      ),
    ]
  }

  private static func capabilityProblems(in facts: Facts) -> [Problem] {
    guard let capabilities = facts.capabilities else { return [] }
    return Capability.all.filter { capabilities >> $0.bit & 1 == 0 }.map {
      Problem(
        sentence: "ovx-vswitchd may not \($0.purpose), as it lacks \($0.name)",
        remedy: "run it as root, give it AmbientCapabilities=\($0.name) in its systemd unit, or"
          + " start its container with `--cap-add \($0.name.dropFirst("CAP_".count))`",
        isFatal: $0.isFatal
      )
    }
  }
}

// MARK: - Facts

extension Preflight.Facts {
  /// Looks at this host, as the calling process may see it.
  package static func observed() -> Preflight.Facts {
    let ring = ovx_probe_ring(0)
    return Preflight.Facts(
      tun: openingTUN(),
      ring: ring == 0 ? nil : Errno(rawValue: 0 &- ring),
      canDeferCompletions: ovx_probe_ring(1) == 0,
      ringPolicy: ProcSettings.ioUringPolicy,
      capabilities: effectiveCapabilities().map { $0 | Broker.capabilities },
      release: firstLine(of: "/proc/sys/kernel/osrelease") ?? ""
    )
  }

  private static func openingTUN() -> Errno? {
    do throws(Errno) {
      _ = try NetworkNamespace.openHere(.tun)
      return nil
    } catch {
      return error
    }
  }

  static func effectiveCapabilities() -> UInt64? {
    contents(of: "/proc/thread-self/status")?.split(separator: "\n")
      .first { $0.hasPrefix("CapEff:") }
      .flatMap { UInt64($0.split(whereSeparator: \.isWhitespace).last ?? "", radix: 16) }
  }

  private static func firstLine(of path: String) -> String? {
    contents(of: path)?.split(separator: "\n").first.map(String.init)
  }

  /// The first 4 KiB of a file of the kernel's, which gives such a file whole or not at all.
  private static func contents(of path: String) -> String? {
    let number = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard number >= 0 else { return nil }
    defer { close(number) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = unsafe read(number, &bytes, bytes.count)
    guard count >= 0 else { return nil }
    return String(decoding: bytes.prefix(count), as: UTF8.self)
  }
}
