internal import ArgumentParser
internal import OVXControl

// Bridges and ports: what ovs-vsctl users type.

struct AddBridge: Verb {
  static let configuration = CommandConfiguration(
    commandName: "add-br",
    abstract: "Make a bridge, with an internal port of the same name.",
    discussion: """
      The internal port is an ordinary network device of this host, to give addresses to:

        ovx-ctl add-br br0
        ip addr add 172.17.42.1/24 dev br0
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var mayExist: MayExist
  @Argument(help: "The bridge.") var bridge: String

  func command() -> Command { .addBridge(bridge: bridge, mayExist: mayExist.isSet) }
}

struct DeleteBridge: Verb {
  static let configuration = CommandConfiguration(
    commandName: "del-br",
    abstract: "Delete a bridge and all of its ports."
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String

  func command() -> Command { .deleteBridge(bridge: bridge, ifExists: ifExists.isSet) }
}

struct AddPort: Verb {
  static let configuration = CommandConfiguration(
    commandName: "add-port",
    abstract: "Add a port to a bridge.",
    discussion: """
      SETTINGS
        type=TYPE        internal, tap, vxlan or system; without it, key= or
                         remote= make it vxlan, an existing device system
        key=VNI          of a vxlan port, 0 to 16777215
        remote=ADDR,...  of a vxlan port, the other hosts
        local=ADDR       of a vxlan port, this host's address (default: any)
        dst_port=PORT    of a vxlan port, the UDP port (default: 4789)
        options:superframes=HOW  of a vxlan port, segment (default) or inject
        tag=VLAN         makes it an access port of that VLAN, 0 to 4095
        trunks=VLAN,...  narrows a trunk to these VLANs
        vlan_mode=MODE   access, trunk, native-tagged, native-untagged or
                         dot1q-tunnel, with the meaning of Open vSwitch
        mac=MAC mtu=N    of an internal or tap port's device
        COL[:KEY]=VALUE  any column of Port or Interface

      EXAMPLES
        ovx-ctl add-port br0 veth1 tag=100
        ovx-ctl add-port br0 vxlan0 key=100 remote=192.168.5.3
        ovx-ctl add-port br0 vxlan1 key=200 tag=200 local=192.168.5.2 \\
          remote=192.168.5.3,192.168.5.4
        ovx-ctl add-port br0 tap0 type=tap mtu=1450
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var mayExist: MayExist
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String
  @Argument(help: "The port, and its network device.") var port: String
  @Argument(help: ArgumentHelp("Settings, COLUMN=VALUE.", valueName: "setting"))
  var settings: [String] = []

  func command() throws -> Command {
    .addPort(
      bridge: bridge,
      port: port,
      settings: try settings.map(Setting.init(parsing:)),
      mayExist: mayExist.isSet
    )
  }
}

struct DeletePort: Verb {
  static let configuration = CommandConfiguration(
    commandName: "del-port",
    abstract: "Delete a port.",
    usage: "ovx-ctl [--if-exists] del-port [BRIDGE] PORT"
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Argument(
    help: ArgumentHelp("The port, after the bridge that it must belong to.", valueName: "port"),
    completion: .bridgesAndPorts
  )
  var names: [String]

  func command() throws -> Command {
    switch names.count {
    case 1: .deletePort(bridge: nil, port: names[0], ifExists: ifExists.isSet)
    case 2: .deletePort(bridge: names[0], port: names[1], ifExists: ifExists.isSet)
    default:
      throw ControlError(
        "del-port takes a port, or a bridge and a port, and not \(names.count) names"
      )
    }
  }
}

struct ListBridges: Verb {
  static let configuration = CommandConfiguration(
    commandName: "list-br",
    abstract: "List the bridges, one per line."
  )

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .listBridges }
}

struct BridgeExists: Verb {
  static let configuration = CommandConfiguration(
    commandName: "br-exists",
    abstract: "Exit with 0 where a bridge exists, with 2 where not."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String

  func command() -> Command { .bridgeExists(bridge: bridge) }
}

struct ListPorts: Verb {
  static let configuration = CommandConfiguration(
    commandName: "list-ports",
    abstract: "List the ports of a bridge, one per line, without its internal one.",
    aliases: ["list-ifaces"]
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String

  func command() -> Command { .listPorts(bridge: bridge) }
}

struct PortToBridge: Verb {
  static let configuration = CommandConfiguration(
    commandName: "port-to-br",
    abstract: "Print the bridge that a port belongs to.",
    aliases: ["iface-to-br"]
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The port.", completion: .ports) var port: String

  func command() -> Command { .portToBridge(port: port) }
}

struct BridgeToVLAN: Verb {
  static let configuration = CommandConfiguration(
    commandName: "br-to-vlan", abstract: "Print 0: no bridge is a VLAN of another one.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String

  func command() -> Command { .bridgeVLAN(bridge: bridge) }
}

struct BridgeToParent: Verb {
  static let configuration = CommandConfiguration(
    commandName: "br-to-parent", abstract: "Print the bridge itself: none is a part of another one."
  )

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String

  func command() -> Command { .bridgeParent(bridge: bridge) }
}

struct SetExternalID: Verb {
  static let configuration = CommandConfiguration(
    commandName: "br-set-external-id",
    abstract: "Set a key of a bridge's external_ids; without a value, remove it.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String
  @Argument(help: "The key.") var key: String
  @Argument(help: "The value, as it stands.") var value: String?

  func command() -> Command {
    guard let value else {
      return .remove(
        table: "Bridge", record: bridge, column: "external_ids",
        values: [Atom.text(key).description], ifExists: false)
    }
    return .set(
      table: "Bridge", record: bridge,
      settings: [
        Setting(column: "external_ids", key: key, value: Atom.text(value).description)
      ], ifExists: false)
  }
}

struct GetExternalID: Verb {
  static let configuration = CommandConfiguration(
    commandName: "br-get-external-id",
    abstract: "Print the value of a key of a bridge's external_ids, or all as KEY=VALUE.")

  @OptionGroup var global: GlobalOptions
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String
  @Argument(help: "The key.") var key: String?

  func command() -> Command { .bridgeExternalIDs(bridge: bridge, key: key) }
}

struct ShowAll: Verb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print bridges and ports, and what is wrong with them; all where no bridge is named.",
    discussion: """
      EXAMPLES
        ovx-ctl show br0
        ovx-ctl show --brief
        ovx-ctl show --links
      """)

  @OptionGroup var global: GlobalOptions
  @Flag(help: "Print one line for each port.") var brief = false
  @Flag(help: "Print who is at the other end of each port, and in which namespace or container.")
  var links = false
  @Argument(help: "The bridge.", completion: .bridges) var bridge: String?

  func validate() throws {
    if brief, links { throw ValidationError("--brief and --links are two different tables") }
  }

  func command() -> Command {
    guard !links else { return .showLinks(bridge: bridge) }
    return bridge.map { .showBridge(bridge: $0) } ?? .show
  }
}

// MARK: Containers

struct Attach: Verb {
  static let configuration = CommandConfiguration(
    commandName: "attach",
    abstract: "Make an interface inside of a container, and its port.",
    discussion: """
      Attached to a network, the interface gets a free address of each subnet, the network's MTU and gateway, and keeps \
      them until it is detached; to a bridge, what is asked for.

      The target is the name of a network namespace, pid:N, the path of a network namespace, or a container's name or \
      id (docker, podman). The interface is up and addressed; the port is named INTERFACE@TARGET.

      SETTINGS
        ip=ADDR/LEN,...  addresses, any number of either family
        gateway=ADDR     the default route, one of each family
        mac=MAC mtu=N    of the interface (default MTU: what fits the underlay)
        kind=tap|veth    the device: a TAP (default), or one end of a veth, which
                         is made sooner and can be on the fast path
        tag=VLAN         and the other settings of add-port
        allowed_addresses=ADDR,...  what it may send from besides: MAC addresses,
                         IP addresses, networks
        port_security=BOOL  whether it is held to its addresses (default: as the
                         network says)
        publish=PORT:PORT,...  ports of the host that the network's gateway leads to
                         ports of the container: 8080:80, 203.0.113.1:53:53/udp

      EXAMPLES
        ovx-ctl attach red web1 eth0
        ovx-ctl attach red web2 eth0 publish=8080:80
        ovx-ctl attach br0 web1 eth0 ip=10.0.0.5/24 gateway=10.0.0.1 tag=100
        ovx-ctl attach br0 pid:4711 eth0 ip=10.0.0.6/24 ip=fd00::6/64
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var mayExist: MayExist
  @Argument(help: "The network, or the bridge.", completion: .segments) var network: String
  @Argument(help: "The container.", completion: .containers) var target: String
  @Argument(help: "The interface's name inside.") var interface: String
  @Argument(help: ArgumentHelp("Settings, NAME=VALUE.", valueName: "setting"))
  var settings: [String] = []

  func command() throws -> Command {
    var settings = try settings.map(Setting.init(parsing:))
    let attachment = try Configuration.Attachment(
      target: target,
      interface: interface,
      takingFrom: &settings
    )
    return .attach(
      bridge: network,
      attachment: attachment,
      settings: settings,
      mayExist: mayExist.isSet
    )
  }
}

struct Detach: Verb {
  static let configuration = CommandConfiguration(
    commandName: "detach",
    abstract: "Remove an interface that attach made, and its port.",
    discussion: """
      With --stale, all those of containers that are gone: of network namespaces and processes that do not exist any more, \
      and of containers that docker or podman has removed. One that is only stopped keeps its port.
      """
  )

  @OptionGroup var global: GlobalOptions
  @OptionGroup var ifExists: IfExists
  @Flag(help: "Remove the interfaces of all containers that are gone.") var stale = false
  @Argument(help: "The container, typed as for attach.", completion: .attachedContainers)
  var target: String?
  @Argument(help: "The interface's name inside.", completion: .attachedInterfaces)
  var interface: String?

  func validate() throws {
    guard stale == (target == nil), stale == (interface == nil) else {
      throw ValidationError(
        "detach takes a container and an interface's name, or --stale for all that are gone.")
    }
  }

  func command() -> Command {
    guard let target, let interface else { return .detachStale }
    return .detach(target: target, interface: interface, ifExists: ifExists.isSet)
  }
}
