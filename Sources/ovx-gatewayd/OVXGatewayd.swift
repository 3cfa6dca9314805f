internal import ArgumentParser
private import FoundationEssentials
private import Glibc
internal import OVXControl
private import OVXLinux
private import SystemPackage

/// The maker of gateways: follows the networks of the switch, and makes their routers.
@main
struct OVXGatewayd: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ovx-gatewayd",
    abstract: "Makes the gateways of ovx's networks.",
    discussion: """
      Started beside ovx-vswitchd, it makes of each network with a gateway a router in a network namespace of its own, \
      ovx-NETWORK:

        ovx-ctl set network red gateway=172.17.42.1 nat=masquerade

      Ended or killed, it leaves the gateways in force as they are; what has changed meanwhile is made when it is started \
      again. "ovx-ctl set network red nat=none -- clear network red gateway" removes one, with all that was made for it; \
      "ovx-gatewayd --cleanup" all of them, where none is to run on this host any more.
      """,
    version: OVXVersion.current)

  @Option(help: "The run directory of the daemon (default: OVX_RUNDIR, or /run/ovx).")
  var rundir = ProcessInfo.processInfo.environment["OVX_RUNDIR"] ?? "/run/ovx"

  @Option(
    help: ArgumentHelp(
      "Where its own files are, in which nobody but root may write (default: RUNTIME_DIRECTORY, which systemd sets, or the run directory).",
      valueName: "directory"))
  var directory: String?

  @Option(
    help: ArgumentHelp(
      "Where the resolvers stand that tenants' questions are passed on to, as in resolv.conf(5).",
      valueName: "file"))
  var resolvConf = "/etc/resolv.conf"

  @Option(
    help: ArgumentHelp(
      "What the names of routers begin with; of use where several hosts share their network namespaces' names.",
      valueName: "text"))
  var namespacePrefix = "ovx-"

  private var ownDirectory: String? {
    if let own = directory ?? ProcessInfo.processInfo.environment["RUNTIME_DIRECTORY"] {
      return own
    }
    // Where the service has its own, of which systemd tells that alone.
    let ofService = "/run/ovx-gatewayd"
    guard cleanup, rundir == "/run/ovx", unsafe access(ofService, F_OK) == 0 else { return nil }
    return ofService
  }

  @Flag(help: "Remove all gateways of this host, whatever the switch says, and end.")
  var cleanup = false

  /// Milliseconds between two looks at the kernel.
  private static let interval: Int32 = 1000

  func validate() throws {
    let isName = namespacePrefix.utf8.allSatisfy {
      Character(UnicodeScalar($0)).isLetter || Character(UnicodeScalar($0)).isNumber
        || "-_.".utf8.contains($0)
    }
    guard isName, namespacePrefix.first?.isLetter == true, namespacePrefix.utf8.count <= 64 else {
      throw ValidationError(
        "--namespace-prefix is up to 64 letters, digits, '-', '_' and '.', and begins with a letter"
      )
    }
  }

  func run() throws {
    umask(0o077)
    // What it says goes to a log whose reader may have gone.
    signal(SIGPIPE, SIG_IGN)
    let messages = Messages()
    do throws(ControlError) {
      let lock = try lock(messages)
      defer { try? lock.close() }
      if cleanup { return try removeAll(messages) }
      let client = ControlClient(runDirectory: rundir)
      let connection = SwitchConnection(client)
      var report = ToldReport(client, messages)
      var keeper = makeKeeper(connection, &report, messages)
      while true {
        do throws(ControlError) {
          try follow(connection, &keeper, &report, messages)
        } catch {
          // The gateways stay in force without the switch, which comes back.
          guard error.kind == .unavailable || error.kind == .timedOut else { throw error }
          messages.tell(error.message, about: .switch)
          keeper.look()
          usleep(200_000)
        }
      }
    } catch {
      _ = try? FileDescriptor.standardError.writeAll("ovx-gatewayd: \(error.message)\n".utf8)
      throw ExitCode(1)
    }
  }

  /// Makes sure that no other process makes the same gateways: each would take the other's work for
  /// damage.
  ///
  /// The lock goes with the process. The file stays, as two processes could each lock one of that
  /// name otherwise.
  ///
  /// - Parameter messages: Where it is told that the run directory is not there yet; the switch
  ///   makes it.
  /// - Returns: What holds the lock.
  /// - Throws: That there is another process, or that the file cannot be used.
  private func lock(_ messages: Messages) throws(ControlError) -> FileDescriptor {
    let path = FilePath(ownDirectory ?? rundir).appending("gatewayd.lock")
    while true {
      do throws(Errno) {
        let file = try TrustedFile.open(
          path, .readWrite, options: .create, permissions: .ownerReadWrite, isPrivate: true)
        if flock(file.rawValue, LOCK_EX | LOCK_NB) == 0 { return file }
        try? file.close()
        throw .wouldBlock
      } catch {
        switch error {
        case .noSuchFileOrDirectory where !cleanup:
          messages.tell(
            ownDirectory.map {
              "there is no directory \($0); make it, or name another one with --directory"
            }
              ?? "there is no run directory \(rundir); it comes with ovx-vswitchd, or name its directory with --rundir",
            about: .switch)
          usleep(200_000)
        case .wouldBlock:
          throw ControlError(
            "another ovx-gatewayd makes the gateways of the switch in \(rundir); end it first")
        default: throw ControlError("\(path) cannot be used: \(error)")
        }
      }
    }
  }

  /// Removes what this or a former process has made; the switch may have gone.
  private func removeAll(_ messages: Messages) throws(ControlError) {
    let tools = try Tools(directory: ownDirectory ?? rundir, resolvConf: resolvConf)
    if tools.directory != rundir { Dnsmasq.endAll(in: rundir) }
    do throws(LinuxError) {
      var keeper = try GatewayKeeper(
        SwitchConnection(ControlClient(runDirectory: rundir)), tools,
        namespacePrefix: namespacePrefix, messages)
      try keeper.removeAll()
    } catch {
      throw ControlError("\(error)")
    }
  }

  /// Waits until there is all that gateways are made with, and tells the switch what is missing
  /// meanwhile.
  private func makeKeeper(
    _ connection: SwitchConnection, _ report: inout ToldReport, _ messages: Messages
  ) -> GatewayKeeper {
    while true {
      do throws(ControlError) {
        let tools = try Tools(directory: ownDirectory ?? rundir, resolvConf: resolvConf)
        if tools.directory != rundir { Dnsmasq.endAll(in: rundir) }
        do throws(LinuxError) {
          let keeper = try GatewayKeeper(
            connection, tools, namespacePrefix: namespacePrefix, messages)
          messages.clear(.tools)
          return keeper
        } catch {
          throw ControlError("\(error)")
        }
      } catch {
        messages.tell(error.message, about: .tools)
        // Where the switch is not there either, it is told when it is.
        try? report.tell(GatewayReport(faults: [error.message]))
        usleep(UInt32(Self.interval) * 1000)
      }
    }
  }

  /// Follows the switch until it ends.
  private func follow(
    _ connection: SwitchConnection, _ keeper: inout GatewayKeeper, _ report: inout ToldReport,
    _ messages: Messages
  ) throws(ControlError) {
    var watch = try connection.watch()
    messages.clear(.switch)
    var quiet = 0
    while true {
      var isNew = false
      if let event = try watch.next(within: Self.interval) {
        isNew = event.isOfWishes
        // All that has been told by now is asked for at once.
        for _ in 0..<1000 {
          guard let event = try watch.next(within: 20) else { break }
          isNew = isNew || event.isOfWishes
        }
      }
      if isNew {
        try keeper.follow()
      } else {
        keeper.look()
        quiet += 1
        if quiet.isMultiple(of: 2) { try keeper.serve() }
      }
      if let news = keeper.report { try report.tell(news) }
    }
  }
}

extension WatchEvent {
  /// Whether what there is to be may be something else: of what is, such as what was told by
  /// ourselves, nothing follows.
  fileprivate var isOfWishes: Bool {
    guard action == .modify, table == .network, let new else { return true }
    return !Set(new.keys).isSubset(of: ["status", "error"])
  }
}
