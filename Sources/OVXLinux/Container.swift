private import Glibc
private import SystemPackage

// What a user writes for TARGET in `ovx-ctl attach BR TARGET IFNAME`, and how a container's name becomes the namespace
// of its first process: by asking the program that runs it.

extension NetworkNamespace {
  /// Finds the namespace that the user means.
  ///
  /// A text with a "/" is a path, "pid:N" a process, the name of a namespace that is there means that one, and anything
  /// else is the name or id of a container of docker or podman.
  ///
  /// - Parameters:
  ///   - target: What the user wrote.
  ///   - searchPath: The directories in which to look for docker and podman, separated by colons; `nil` for `PATH`.
  ///   - timeout: How long both of them may take together.
  /// - Returns: The namespace, under the name the user gave it.
  /// - Throws: A sentence that names everything that was tried.
  package static func find(
    _ target: String,
    searchPath: String? = nil,
    timeout: Duration = .seconds(5)
  ) throws(LinuxError) -> NetworkNamespace {
    if target.contains("/") { return try NetworkNamespace(path: target) }
    if target.hasPrefix("pid:") {
      let digits = target.dropFirst("pid:".count)
      guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
        let pid = Int32(digits), pid > 0
      else {
        throw LinuxError(
          action: "find",
          subject: target,
          errno: .invalidArgument,
          detail: "what follows \"pid:\" is not a process id",
          remedy: "give the number that `ps` shows, as in pid:4711"
        )
      }
      return try NetworkNamespace(pid: pid)
    }
    if exists(named: target) { return try NetworkNamespace(named: target) }

    let path = unsafe searchPath ?? getenv("PATH").map { unsafe String(cString: $0) } ?? ""
    let container = try findContainer(target, path, until: .now + timeout)
    let namespace = try NetworkNamespace(pid: container, name: target)
    // Such a container is on the underlay: a tenant's device there would be everybody's.
    guard try namespace.identity != current().identity else {
      throw LinuxError(
        action: "attach",
        subject: "container \(target)",
        errno: .invalidArgument,
        detail: "it has no network of its own but the host's",
        remedy: "start it without `--network host`, or add a port to the bridge instead"
      )
    }
    return namespace
  }

  /// What the programs that run containers are called, in the order in which they are asked.
  private static let runtimes = ["docker", "podman"]

  /// The process of a container that is running.
  private static func findContainer(
    _ name: String,
    _ searchPath: String,
    until deadline: ContinuousClock.Instant
  ) throws(LinuxError) -> Int32 {
    func failure(_ reasons: [String]) -> LinuxError {
      LinuxError(
        action: "find",
        subject: name,
        errno: .noSuchFileOrDirectory,
        detail: reasons.joined(separator: ", "),
        remedy: remedy(for: name)
      )
    }
    var reasons = ["there is no network namespace of that name in \(directories[0])"]
    guard isContainerName(name) else {
      throw failure(reasons + ["and no container can have it"])
    }
    for runtime in runtimes {
      guard let program = Self.program(runtime, searchPath) else {
        reasons.append("\(runtime) is not installed")
        continue
      }
      switch inspect(name, with: program, until: deadline) {
      case .running(let pid): return pid
      case .stopped:
        throw LinuxError(
          action: "attach",
          subject: "container \(name)",
          errno: .noSuchProcess,
          detail: "it is not running",
          remedy: "start it with `\(runtime) start \(name)`"
        )
      case .unknown: reasons.append("\(runtime) knows no such container")
      case .failed(let reason): reasons.append("\(runtime) failed (\(reason))")
      }
    }
    throw failure(reasons)
  }

  private static func program(_ name: String, _ searchPath: String) -> String? {
    OVXLinux.find(program: name, in: searchPath)
  }

  private enum Answer {
    case running(Int32)
    case stopped
    case unknown
    case failed(String)
  }

  private static func inspect(
    _ name: String,
    with program: String,
    until deadline: ContinuousClock.Instant
  ) -> Answer {
    let answer: ProgramOutput
    do throws(LinuxError) {
      answer = try run(
        program,
        ["inspect", "--type", "container", "-f", "{{.State.Pid}}", name],
        until: deadline
      )
    } catch {
      return .failed(error.detail ?? "\(error.errno)")
    }
    let first = answer.errors.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    guard answer.status == 0 else {
      // docker: "Error: No such container: x" or "error: no such object: x"; podman: "no such container x".
      return first.lowercased().contains("no such ")
        ? .unknown : .failed(first.isEmpty ? "exit status \(answer.status)" : printable(first))
    }
    let line = answer.output.split(whereSeparator: \.isWhitespace).first ?? ""
    guard let pid = Int32(line), pid >= 0 else {
      return .failed("it answered \"\(printable(String(line)))\" where a process id was asked for")
    }
    return pid == 0 ? .stopped : .running(pid)
  }

  /// Whether docker and podman would accept a name: [a-zA-Z0-9][a-zA-Z0-9_.-]*, which is never an option.
  private static func isContainerName(_ name: String) -> Bool {
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: false
      }
    }
    let others = Set("_.-".utf8)
    return (1...255).contains(name.utf8.count) && name.utf8.first.map(isAlphanumeric) == true
      && name.utf8.allSatisfy { isAlphanumeric($0) || others.contains($0) }
  }

  /// Another program's words, fit for a sentence of ours: no control characters, and not too many.
  private static func printable(_ text: String) -> String {
    String(
      text.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }.prefix(200).map(
        Character.init
      )
    )
  }
}
