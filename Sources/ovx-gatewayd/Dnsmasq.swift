private import FoundationEssentials
private import Glibc
private import OVXControl
internal import OVXLinux
private import SystemPackage

/// The dnsmasq of one gateway: a process in its router, with its files in a directory of root's.
///
/// It goes on without the process that has started it. Whose it is says its command line, so that
/// it is found again.
struct Dnsmasq {
  /// Where its files are, an absolute path.
  let directory: String

  private static let prefix = "dnsmasq-"

  /// Of a network's gateway.
  init(of network: String, in rundir: String) {
    directory = "\(Self.absolute(rundir))/\(Self.prefix)\(network)"
  }

  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
  }

  private var file: String { directory + "/conf" }
  private var option: String { "--conf-file=\(file)" }

  /// What the options of those begin with that have their files in a directory.
  private static func optionStart(in rundir: String) -> String {
    "--conf-file=\(absolute(rundir))/\(prefix)"
  }

  /// A process that runs.
  private struct Running {
    var pid: Int32
    /// Its only option.
    var option: String
  }

  /// Its processes: the one that serves, and those that it has made for connections.
  private var running: [Running] { Self.processes.filter { $0.option == option } }

  /// All processes that are a dnsmasq with a file named by the only option, as ours are.
  ///
  /// A container's own may call itself what it likes; it is told by the number that it has in
  /// there.
  private static var processes: [Running] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { name in
      guard let pid = Int32(name),
        let words = Files.read("/proc/\(name)/cmdline", limit: 4096)?.split(separator: "\0"),
        words.count == 2, words[0].hasSuffix("/dnsmasq"), words[1].hasPrefix("--conf-file="),
        let status = Files.read("/proc/\(name)/status", limit: 4096)
      else { return nil }
      let numbers = status.split(separator: "\n").first { $0.hasPrefix("NSpid:") }?
        .split(separator: "\t").dropFirst()
      guard numbers?.count == 1 else { return nil }
      return Running(pid: pid, option: String(words[1]))
    }
  }

  /// Makes it serve.
  ///
  /// - Parameters:
  ///   - program: dnsmasq's path.
  ///   - configuration: What to serve.
  ///   - members: Whom.
  ///   - place: The router.
  ///   - isKnown: Whether this process has had it serve before. One that was killed may have
  ///     changed files and not said so.
  ///   - isDue: Whether it may be started anew for what other hosts tell: that may change with each
  ///     frame there.
  /// - Returns: Whether it was started, and what it gives to whom.
  /// - Throws: What keeps it from running.
  func serve(
    _ program: String, _ configuration: DnsmasqConfiguration, _ members: [Member],
    in place: NetworkNamespace, isKnown: Bool, isDue: Bool
  ) throws(LinuxError) -> (isNew: Bool, leases: Leases) {
    let oldLeases = Leases(read(DnsmasqConfiguration.leases))
    let leases = Leases(members, of: configuration.gateway, after: oldLeases)
    let names = configuration.names(of: members)
    let processes = running
    // One that serves a connection outlives who has made it. What the file says counts among ours
    // alone.
    let number = read(DnsmasqConfiguration.pid).split(separator: "\n").first.flatMap { Int32($0) }
    let server = processes.first { $0.pid == number }
    // The text names the namespace and the device, so that who was started by it is in these.
    let mustForget = leases.isContradictingHere || (isDue && leases.isContradicting)
    if let server, read("conf") == configuration.text, !mustForget {
      guard !isKnown || leases != oldLeases || names != read(DnsmasqConfiguration.names) else {
        return (false, leases)
      }
      try write(leases.text, to: DnsmasqConfiguration.leases)
      try write(names, to: DnsmasqConfiguration.names)
      kill(server.pid, SIGHUP)
      return (false, leases)
    }
    end()
    do throws(Errno) { try makeDirectory() } catch {
      throw LinuxError(action: "make", subject: directory, errno: error)
    }
    try write(leases.withoutFormer.text, to: DnsmasqConfiguration.leases)
    try write(names, to: DnsmasqConfiguration.names)
    try write(configuration.text, to: "conf")
    let option = option
    _ = try place.perform { () throws(LinuxError) in try Tools.run(program, [option]) }
    return (true, leases)
  }

  /// Ends it, and removes its files.
  func remove() {
    end()
    try? FileManager.default.removeItem(atPath: directory)
  }

  /// Ends what runs, and waits for that: its sockets are needed by the next one.
  private func end() {
    for _ in 0..<200 {
      let processes = running
      guard !processes.isEmpty else { return }
      for process in processes { kill(process.pid, SIGKILL) }
      usleep(5000)
    }
  }

  /// Removes what is there of networks that are to have none.
  static func removeAll(except networks: Set<String>, in rundir: String) {
    let start = optionStart(in: rundir)
    let files = (try? FileManager.default.contentsOfDirectory(atPath: absolute(rundir))) ?? []
    var found = Set(
      files.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) })
    guard !found.isEmpty || networks.isEmpty else { return }
    for process in processes where process.option.hasPrefix(start) {
      let rest = process.option.dropFirst(start.count)
      if let network = rest.split(separator: "/").first { found.insert(String(network)) }
    }
    for network in found.subtracting(networks) { Dnsmasq(of: network, in: rundir).remove() }
  }

  /// Ends what a process with another directory has started; its files are left alone, as the
  /// directory may be somebody else's.
  static func endAll(in rundir: String) {
    let start = optionStart(in: rundir)
    for process in processes where process.option.hasPrefix(start) { kill(process.pid, SIGKILL) }
  }

  // MARK: Files

  private func read(_ name: String) -> String {
    Files.read("\(directory)/\(name)", limit: 8 << 20) ?? ""
  }

  private func makeDirectory() throws(Errno) {
    if unsafe mkdir(directory, 0o755) != 0, errno != EEXIST { throw Errno(rawValue: errno) }
    do {
      let opened = try FileDescriptor.open(
        FilePath(directory), .readOnly, options: [.directory, .noFollow, .closeOnExec])
      // It reads its files again as who it is then: nobody with rights.
      try opened.closeAfter { _ = fchmod(opened.rawValue, 0o755) }
    } catch {
      throw error as? Errno ?? .ioError
    }
  }

  private func write(_ text: String, to name: String) throws(LinuxError) {
    let path = FilePath(directory).appending(name)
    guard read(name) != text || text.isEmpty else { return }
    do throws(Errno) {
      try TrustedFile.replace(
        path, with: text, permissions: [.ownerReadWrite, .groupRead, .otherRead])
    } catch {
      throw LinuxError(action: "write", subject: path.string, errno: error)
    }
    _ = unsafe chmod(path.string, 0o644)
  }
}
