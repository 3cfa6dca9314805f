internal import ArgumentParser
internal import OVXControl

// Tenants' networks, each on all hosts that have it.

struct AddNetwork: Verb {
  static let configuration = CommandConfiguration(
    commandName: "add-net",
    abstract: "Make a tenant's network.",
    discussion: """
      The same line on every host makes one network of them all: its VNI says which it is, and the switch's remotes say \
      who has it. On each host it is a VLAN of a bridge, which is made where it is missing, with a tunnel to the others.

      SETTINGS
        vni=VNI          1 to 16777215, the same on all hosts; required
        subnet=NET,...   where its members' addresses are from, such as
                         172.17.42.0/24; none for layer 2 only
        range=A-B,...    what this host hands out of them (default: all); give
                         hosts that share a subnet disjoint ones
        gateway=ADDR     the members' router, one of each address family
        gateway_mode=M   who is that router: distributed (every host by itself,
                         the default), central (this host) or remote
        nat=masquerade   members are seen as this host beyond the gateway
        floating:OUT=IN  the member with address IN has address OUT outside
        dhcp=true        the gateway gives members their addresses by DHCP
        dns=true         the gateway knows members' names, and asks for others
                         outside where there is nat=masquerade
        domain=NAME      what members' names are in, such as red.example
        remotes=ADDR,... the hosts of this network (default: the switch's)
        bridge=BRIDGE    where it is (default: br0)
        tag=VLAN         its VLAN there (default: a free one)
        mtu_request=N    of attached interfaces (default: what fits)
        port_security=false  lets members send from any address, and be routers
                         and DHCP servers (default: true)

      EXAMPLES
        ovx-ctl set switch . local_ip=192.168.5.2 remotes=192.168.5.3,192.168.5.4
        ovx-ctl add-net red vni=100 subnet=172.17.42.0/24
        ovx-ctl add-net blue vni=200 subnet=10.0.0.0/24,fd00::/64 range=10.0.0.64/26
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var mayExist: MayExist
  @Argument(help: "The network.") var network: String
  @Argument(help: ArgumentHelp("Settings, COLUMN=VALUE.", valueName: "setting"))
  var settings: [String] = []

  func command() throws -> Command {
    .addNetwork(
      network: network, settings: try settings.map(Setting.init(parsing:)),
      mayExist: mayExist.isSet)
  }
}

struct DeleteNetwork: Verb {
  static let configuration = CommandConfiguration(
    commandName: "del-net", abstract: "Delete a network on this host that has no members.")

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "The network.", completion: .networks) var network: String

  func command() -> Command { .deleteNetwork(network: network, ifExists: ifExists.isSet) }
}

struct ListNetworks: Verb {
  static let configuration = CommandConfiguration(
    commandName: "list-nets", abstract: "List the networks, one per line.")

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .listNetworks }
}

struct NetworkCommands: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "net", abstract: "Networks and who is in them.",
    subcommands: [ShowNetworks.self])
}

struct ShowNetworks: Verb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print a network, or all, with remotes, members and their addresses.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The network.", completion: .networks) var network: String?

  func command() -> Command { .showNetworks(network: network) }
}
