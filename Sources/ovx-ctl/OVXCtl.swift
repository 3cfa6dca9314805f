internal import ArgumentParser
internal import OVXControl

/// The root of the command line: what `ovx-ctl --help` prints.
struct OVXCtl: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ovx-ctl",
    abstract: "Configures and explains the switch of this host.",
    usage: "ovx-ctl [--rundir DIR] [-t SECS] [-f FORMAT] [--dry-run] COMMAND [-- COMMAND]...",
    discussion: """
      Commands joined by -- are one transaction: all of them take effect, or none. The program ends when the change is \
      in force. --may-exist and --if-exists stand in front of a command or behind it.

      EXAMPLES
        A bridge, a container's veth and a tunnel to another host, for tenant 100:
          ovx-ctl add-br br0
          ovx-ctl add-port br0 veth1 tag=100
          ovx-ctl add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3

        A tenant's network on this host and others, and a container in it:
          ovx-ctl set switch . local_ip=192.168.5.2 remotes=192.168.5.3
          ovx-ctl add-net red vni=100 subnet=172.17.42.0/24
          ovx-ctl attach red web1 eth0

        The same tunnel as ovs-vsctl users type it:
          ovx-ctl add-port br0 vxlan0 tag=100 \\
            -- set interface vxlan0 type=vxlan options:key=100 \\
                   options:remote_ip=192.168.5.3

        An interface inside of a container, with an address:
          ovx-ctl attach br0 web1 eth0 ip=10.0.0.5/24 gateway=10.0.0.1 tag=100

        What is there, what it has learned, what it has lost and why:
          ovx-ctl show
          ovx-ctl fdb show br0
          ovx-ctl drops

        What would become of a frame, and why:
          ovx-ctl trace br0 veth1 arp,src=02:00:00:00:00:01,ip_dst=10.0.0.2

        The frames themselves, of a container or inside and outside of a tunnel:
          ovx-ctl capture veth1 icmp or arp
          ovx-ctl capture vxlan0 -w tunnel.pcap

        What changes, as it happens:
          ovx-ctl monitor interface

      EXIT STATUS
         0  done
         1  wrong or refused; nothing has changed, and the reason is on stderr
         2  the answer is "no" (br-exists)
        69  no daemon answers on the socket
        75  timed out
      """,
    groupedSubcommands: [
      CommandGroup(
        name: "Bridge and Port",
        subcommands: [
          AddBridge.self, DeleteBridge.self, AddPort.self, DeletePort.self, ListBridges.self,
          BridgeExists.self, ListPorts.self, PortToBridge.self, ShowAll.self,
          BridgeToVLAN.self, BridgeToParent.self, SetExternalID.self, GetExternalID.self,
        ]
      ),
      CommandGroup(
        name: "Network",
        subcommands: [
          AddNetwork.self, DeleteNetwork.self, ListNetworks.self, NetworkCommands.self,
        ]
      ),
      CommandGroup(name: "Container", subcommands: [Attach.self, Detach.self]),
      CommandGroup(
        name: "Table",
        subcommands: [
          SetColumns.self, GetColumns.self, ListRecords.self, FindRecords.self, AddValues.self,
          RemoveValues.self, ClearColumns.self, WaitUntil.self, CreateRecord.self,
          DestroyRecords.self, Comment.self,
        ]
      ),
      CommandGroup(name: "File", subcommands: [Apply.self, Diff.self, Export.self]),
      CommandGroup(
        name: "Switch",
        subcommands: [
          AddressCommands.self, NeighborCommands.self, TunnelCommands.self, EVPNCommands.self,
          Statistics.self,
          Drops.self, Doctor.self,
          Top.self, Monitor.self, Events.self, LogCommands.self, TraceFrame.self,
          CaptureFrames.self,
          ShowVersion.self, Confirm.self,
          ExitDaemon.self,
        ]
      ),
    ]
  )

  @Flag(name: [.customShort("V"), .long], help: "Print the version of ovx-ctl.")
  var version = false

  @OptionGroup var options: GlobalOptions
}

/// A command of the command line that becomes one command of the request.
protocol Verb: ParsableCommand {
  var global: GlobalOptions { get }

  /// The command, with its arguments read.
  ///
  /// - Throws: A `ControlError` that names the argument that cannot be read.
  func command() throws -> Command
}

/// A verb that makes its own requests, and goes on until it is ended.
///
/// It stands alone on the command line. With `--dry-run` its command is sent like any other, to be
/// checked.
protocol OngoingVerb: Verb {
  /// Runs it to its end.
  ///
  /// - Throws: What the daemon refuses, or that it is gone.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError)
}

/// Options that hold for the whole command line; they may stand in front of a command or behind it.
struct GlobalOptions: ParsableArguments {
  @Option(
    name: .customLong("rundir"),
    help: ArgumentHelp(
      "The daemon's run directory, where its socket is (default: $OVX_RUNDIR, else /run/ovx).",
      valueName: "dir"
    ),
    completion: .directory
  )
  var runDirectory: String?

  @Option(
    name: [.customShort("t", allowingJoined: true), .long],
    help: ArgumentHelp("Give up after this many seconds (default: 10).", valueName: "secs")
  )
  var timeout: String?

  @Option(
    name: [.customShort("f", allowingJoined: true), .long],
    help: "How to print (default: list for list and find, else table)."
  )
  var format: OutputFormat?

  @Flag(help: "Have the daemon check everything, and change nothing.")
  var dryRun = false

  @Option(
    help: ArgumentHelp(
      "Take back what is changed after this many seconds, unless confirm comes.", valueName: "secs")
  )
  var confirmWithin: String?

  @Flag(help: "Print what a command prints in one line, with \\n where a line ends.")
  var oneline = false

  @Flag(help: "The same as -f list -d bare --no-headings.")
  var bare = false

  @Flag(name: [.customLong("no-headings"), .customLong("no-heading")], help: "Print no headings.")
  var noHeadings = false

  @Option(
    name: [.customShort("d", allowingJoined: true), .long],
    help: "How to print values: string (as set reads them), bare or json.")
  var data: DataFormat?

  @Flag(help: "Wait for a daemon to be there, as long as -t says.")
  var retry = false

  @Flag(help: "For scripts of Open vSwitch: what is asked for is in force when the daemon answers.")
  var noWait = false

  @Option(
    name: .customLong("db"),
    help: ArgumentHelp(
      "For scripts of Open vSwitch: unix:SOCKET, the daemon's socket.", valueName: "database"))
  var database: String?

  func validate() throws {
    if let database { _ = try Self.socket(database) }
    if let timeout { _ = try Self.seconds(timeout) }
    if let confirmWithin { _ = try Self.confirmSeconds(confirmWithin) }
    guard runDirectory != "" else {
      throw ControlError(
        "--rundir is empty; name a directory, or leave it out for $OVX_RUNDIR, else /run/ovx")
    }
  }

  fileprivate static func seconds(_ text: String) throws(ControlError) -> Double {
    guard let seconds = Double(text), seconds > 0, Request.timeoutRange.contains(seconds) else {
      throw ControlError(
        "the timeout \"\(text)\" is not a number of seconds above 0 and up to 86400"
      )
    }
    return seconds
  }

  fileprivate static func confirmSeconds(_ text: String) throws(ControlError) -> Int {
    guard let seconds = Int(text), Command.confirmRange.contains(seconds) else {
      throw ControlError(
        "--confirm-within \"\(text)\" is not a number of seconds from 1 to "
          + "\(Command.confirmRange.upperBound)")
    }
    return seconds
  }

  /// The socket that `--db` names; `nil` where it is Open vSwitch's own, which stands for the usual
  /// one.
  fileprivate static func socket(_ text: String) throws(ControlError) -> String? {
    let path = text.dropFirst("unix:".count)
    guard text.hasPrefix("unix:"), !path.isEmpty else {
      throw ControlError(
        "--db \"\(text)\" is not the socket of this host's daemon; type unix:SOCKET, or name its directory with --rundir"
      )
    }
    let usual = ["/var/run/openvswitch/db.sock", "/run/openvswitch/db.sock"]
    return usual.contains(String(path)) ? nil : String(path)
  }

  /// The options of all commands of a command line together.
  struct Values {
    var runDirectory = ControlSocket.runDirectoryOfEnvironment
    var timeout = 10.0
    var format: OutputFormat?
    var dryRun = false
    /// Seconds after which a change is taken back that nobody confirms.
    var confirmWithin: Int?
    /// The socket itself, where that is named instead of the run directory.
    var socket: String?
    var retries = false
    var isOneLine = false
    var hasHeadings = true
    var data: DataFormat?

    /// Asks the daemon that the options name.
    var client: ControlClient {
      var client =
        socket.map(ControlClient.init(socket:)) ?? ControlClient(runDirectory: runDirectory)
      client.waitsForDaemon = retries
      return client
    }

    mutating func merge(_ options: GlobalOptions) {
      if options.bare { (format, data, hasHeadings) = (.list, .bare, false) }
      if let database = options.database { socket = try? GlobalOptions.socket(database) }
      data = options.data ?? data
      retries = retries || options.retry
      isOneLine = isOneLine || options.oneline
      hasHeadings = hasHeadings && !options.noHeadings
      if let directory = options.runDirectory { runDirectory = directory }
      if let text = options.timeout, let seconds = try? GlobalOptions.seconds(text) {
        timeout = seconds
      }
      format = options.format ?? format
      dryRun = dryRun || options.dryRun
      if let text = options.confirmWithin {
        confirmWithin = try? GlobalOptions.confirmSeconds(text)
      }
    }
  }
}

/// `--may-exist`, for commands that make something.
struct MayExist: ParsableArguments {
  @Flag(
    name: .customLong("may-exist"),
    help: "Accept that it is there already, and give it what else is said.")
  var isSet = false
}

/// `--if-exists`, for commands that need something to be there.
struct IfExists: ParsableArguments {
  @Flag(name: .customLong("if-exists"), help: "Accept that it is not there.")
  var isSet = false
}
