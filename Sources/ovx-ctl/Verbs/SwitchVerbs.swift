internal import ArgumentParser
internal import OVXControl

// The running switch: what ovs-appctl users type, with a slash or a space.

struct AddressCommands: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fdb",
    abstract: "The address tables of the bridges.",
    subcommands: [
      ShowAddresses.self, FlushAddresses.self, AddAddress.self, DeleteAddress.self,
      AddressStatistics.self,
    ]
  )
}

struct ShowAddresses: Verb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print the addresses that bridges know, all where none is named."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: ArgumentHelp("The bridges.", valueName: "bridge"), completion: .bridges)
  var bridges: [String] = []

  func command() -> Command { .showAddresses(bridges: bridges) }
}

struct FlushAddresses: Verb {
  static let configuration = CommandConfiguration(
    commandName: "flush",
    abstract: "Forget what a bridge, or every bridge, has learned; static addresses stay."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String?

  func command() -> Command { .flushAddresses(bridge: bridge) }
}

struct AddAddress: Verb {
  static let configuration = CommandConfiguration(
    commandName: "add",
    abstract: "Add a static address, which neither ages nor moves.",
    discussion: """
      VLAN is 0 for frames without a tag.

      EXAMPLES
        ovx-ctl fdb add br0 veth1 100 02:00:00:00:00:05
      """
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String
  @Argument(help: "The port behind which the address is.", completion: .ports) var port: String
  @Argument(help: "The VLAN, 0 to 4095.") var vlan: String
  @Argument(help: "The address.") var mac: String

  func command() throws -> Command {
    .addAddress(
      bridge: bridge,
      port: port,
      vlan: try Command.vlan(vlan),
      address: try Command.address(mac)
    )
  }
}

struct DeleteAddress: Verb {
  static let configuration = CommandConfiguration(
    commandName: "del",
    abstract: "Remove an address, learned or static."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String
  @Argument(help: "The VLAN, 0 to 4095.") var vlan: String
  @Argument(help: "The address.") var mac: String

  func command() throws -> Command {
    .deleteAddress(bridge: bridge, vlan: try Command.vlan(vlan), address: try Command.address(mac))
  }
}

struct AddressStatistics: Verb {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Print what has happened to the address tables.",
    aliases: ["stats-show"]
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: ArgumentHelp("The bridges.", valueName: "bridge"), completion: .bridges)
  var bridges: [String] = []

  func command() -> Command { .addressStatistics(bridges: bridges) }
}

struct NeighborCommands: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "neigh",
    abstract: "The neighbors that the bridges know from ARP and IPv6 neighbor discovery.",
    discussion: """
      In segments that have a tunnel, the switch answers a question for a neighbor that it knows itself, instead of \
      sending it to every host. set bridge BR other_config:neighbor-suppression=false ends that.
      """,
    subcommands: [ShowNeighbors.self, FlushNeighbors.self, NeighborStatistics.self]
  )
}

struct ShowNeighbors: Verb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print the neighbors that bridges know, all where none is named."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: ArgumentHelp("The bridges.", valueName: "bridge"), completion: .bridges)
  var bridges: [String] = []

  func command() -> Command { .showNeighbors(bridges: bridges) }
}

struct FlushNeighbors: Verb {
  static let configuration = CommandConfiguration(
    commandName: "flush",
    abstract: "Forget the neighbors of a bridge, or of every bridge."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String?

  func command() -> Command { .flushNeighbors(bridge: bridge) }
}

struct NeighborStatistics: Verb {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Print what has happened to the neighbor tables, and the questions answered.",
    aliases: ["stats-show"]
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: ArgumentHelp("The bridges.", valueName: "bridge"), completion: .bridges)
  var bridges: [String] = []

  func command() -> Command { .neighborStatistics(bridges: bridges) }
}

struct TunnelCommands: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tunnel",
    abstract: "The tunnels and the sockets that they stand on.",
    subcommands: [ShowTunnels.self]
  )
}

struct ShowTunnels: Verb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print tunnels, remotes and their MTU, listening sockets and kernel features in use."
  )

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .showTunnels }
}

struct Statistics: Verb {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Print the counters of a port, or of all ports."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The port.", completion: .ports) var port: String?

  func command() -> Command { .statistics(port: port) }
}

struct Drops: Verb {
  static let configuration = CommandConfiguration(
    commandName: "drops",
    abstract: "Print how many frames were lost, where and why."
  )

  @OptionGroup var global: GlobalOptions
  @Flag(help: "Print again every second, until interrupted.")
  var watch = false

  func command() -> Command { .drops }
}

struct ShowVersion: Verb {
  static let configuration = CommandConfiguration(
    commandName: "version",
    abstract: "Print the versions of ovx-ctl, the daemon and the kernel."
  )

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .version }
}

struct Confirm: Verb {
  static let configuration = CommandConfiguration(
    commandName: "confirm",
    abstract: "Keep the last change, which was made with --confirm-within.",
    discussion: """
      With --confirm-within SECS behind a command, what it changes is taken back after that time, unless this comes: who \
      has cut himself off from the host need only wait. Until then no other change is made.

      EXAMPLES
        ovx-ctl add-port br0 eno0 migrate=true --confirm-within 30
        ovx-ctl confirm
      """
  )

  @OptionGroup var global: GlobalOptions
  @Flag(help: "Take the change back at once.") var undo = false

  func command() -> Command { .confirm(undo: undo) }
}

struct ExitDaemon: Verb {
  static let configuration = CommandConfiguration(
    commandName: "exit",
    abstract: "End the daemon.",
    discussion: """
      Containers keep their interfaces, and a daemon that is started later takes them up again; with --cleanup the \
      daemon removes every device that it made before it ends. The configuration stays in either case.
      """
  )

  @OptionGroup var global: GlobalOptions
  @Flag(help: "Remove the devices that the daemon made.") var cleanup = false

  func command() -> Command { .exit(cleanup: cleanup) }
}
