private import Glibc
private import SystemPackage

// What a user writes for TARGET in `ovx-ctl attach BR TARGET IFNAME`, and how a container's name
// becomes the namespace of its first process: by asking the program that runs it.

extension NetworkNamespace {
  /// Finds the namespace that the user means.
  ///
  /// A text with a "/" is a path, "pid:N" a process, the name of a namespace that is there means
  /// that one, and anything else is the name or id of a container of docker or podman, which are
  /// asked and waited for.
  ///
  /// - Parameters:
  ///   - target: What the user wrote.
  ///   - searchPath: The directories in which to look for docker and podman, separated by colons;
  ///     `nil` for `PATH`.
  ///   - timeout: How long both of them may take together.
  /// - Returns: The namespace, under the name the user gave it.
  /// - Throws: A sentence that names everything that was tried.
  package static func find(
    _ target: String,
    searchPath: String? = nil,
    timeout: Duration = .seconds(5)
  ) throws(LinuxError) -> NetworkNamespace {
    guard needsAsking(for: target) else { return try find(withoutAsking: target) }
    let container = try Container.find(target, searchPath: searchPath, until: .now + timeout)
    return try of(container, name: target)
  }

  /// Whether it takes a program that runs containers to find what the user means.
  package static func needsAsking(for target: String) -> Bool {
    !target.contains("/") && !target.hasPrefix("pid:") && !exists(named: target)
  }

  /// Finds the namespace of a path, of a process, or of that name.
  package static func find(withoutAsking target: String) throws(LinuxError) -> NetworkNamespace {
    if target.contains("/") { return try NetworkNamespace(path: target) }
    guard target.hasPrefix("pid:") else { return try NetworkNamespace(named: target) }
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

  /// The namespace of a container that runs.
  ///
  /// - Parameters:
  ///   - container: The container.
  ///   - name: What the user called it.
  /// - Returns: Its namespace, under that name.
  /// - Throws: That it has gone since, or that it has no network of its own.
  package static func of(
    _ container: Container, name: String
  ) throws(LinuxError) -> NetworkNamespace {
    let namespace = try NetworkNamespace(pid: container.pid, name: name)
    // Such a container is on the underlay: a tenant's device there would be everybody's.
    guard try namespace.identity != current().identity else {
      throw LinuxError(
        action: "attach",
        subject: "container \(name)",
        errno: .invalidArgument,
        detail: "it has no network of its own but the host's",
        remedy: "start it without `--network host`, or add a port to the bridge instead"
      )
    }
    return namespace
  }
}

/// A container of docker or podman that runs.
package struct Container: Equatable, Sendable {
  /// Its first process.
  package var pid: Int32
  /// What tells it from others of the same name; `nil` where its program does not say.
  package var id: String?

  /// What the programs that run containers are called, in the order in which they are asked.
  static let runtimes = ["docker", "podman"]

  /// Where they are looked for.
  static var defaultSearchPath: String {
    unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? ""
  }

  /// Asks the programs that run containers for one that is running, and waits for them.
  ///
  /// - Parameters:
  ///   - name: Its name or id.
  ///   - searchPath: The directories in which to look for docker and podman, separated by colons;
  ///     `nil` for `PATH`.
  ///   - deadline: When to give up.
  /// - Returns: The container.
  /// - Throws: `ENOENT` where nobody knows it, `ESRCH` where it is not running; `ETIMEDOUT`, or
  ///   else `EAGAIN`, where a program that may know it gave no answer.
  package static func find(
    _ name: String,
    searchPath: String? = nil,
    until deadline: ContinuousClock.Instant
  ) throws(LinuxError) -> Container {
    var errno = Errno.noSuchFileOrDirectory
    func failure(_ reasons: [String]) -> LinuxError {
      LinuxError(
        action: "find",
        subject: name,
        errno: errno,
        detail: reasons.joined(separator: ", "),
        remedy: NetworkNamespace.remedy(for: name)
      )
    }
    var reasons = [
      "there is no network namespace of that name in \(NetworkNamespace.directories[0])"
    ]
    guard isContainerName(name) else {
      throw failure(reasons + ["and no container can have it"])
    }
    for runtime in runtimes {
      let path = searchPath ?? defaultSearchPath
      guard let program = OVXLinux.find(program: runtime, in: path) else {
        reasons.append("\(runtime) is not installed")
        continue
      }
      switch inspect(name, with: program, until: deadline) {
      case .running(let container): return container
      case .stopped:
        throw LinuxError(
          action: "attach",
          subject: "container \(name)",
          errno: .noSuchProcess,
          detail: "it is not running",
          remedy: "start it with `\(runtime) start \(name)`"
        )
      case .unknown: reasons.append("\(runtime) knows no such container")
      case .failed(let cause, let reason):
        if errno != .timedOut {
          errno = cause == .timedOut ? .timedOut : .resourceTemporarilyUnavailable
        }
        reasons.append("\(runtime) failed (\(reason))")
      }
    }
    throw failure(reasons)
  }

  private enum Answer {
    case running(Container)
    case stopped
    case unknown
    case failed(Errno?, String)
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
        ["inspect", "--type", "container", "-f", "{{.State.Pid}} {{.Id}}", name],
        until: deadline
      )
    } catch {
      return .failed(error.errno, error.detail ?? "\(error.errno)")
    }
    let first = answer.errors.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    guard answer.status == 0 else {
      // docker: "Error: No such container: x" or "error: no such object: x"; podman: "no such
      // container x".
      return first.lowercased().contains("no such ")
        ? .unknown
        : .failed(nil, first.isEmpty ? "exit status \(answer.status)" : printable(first))
    }
    let words = answer.output.split(whereSeparator: \.isWhitespace)
    let word = words.first ?? ""
    guard let pid = Int32(word), pid >= 0 else {
      return .failed(
        nil, "it answered \"\(printable(String(word)))\" where a process id was asked for")
    }
    // Such as docker's 64 hexadecimal digits.
    let id = words.dropFirst().first.map(String.init).flatMap { isContainerName($0) ? $0 : nil }
    return pid == 0 ? .stopped : .running(Container(pid: pid, id: id))
  }

  /// Whether docker and podman would accept a name: [a-zA-Z0-9][a-zA-Z0-9_.-]*, which is never an
  /// option.
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
