package import OVXDatapath

/// Everything that an operator has asked for and that survives a restart, as one value.
///
/// What it needs of the kernel is another value, `DesiredState` of OVXHost, which follows from it.
///
/// Ports live in one table, keyed by name, because a port's name is unique over all bridges. Every
/// port has exactly one interface, of the same name. A bridge always owns an internal port of its
/// own name.
///
/// A value of this type may be half-finished, in the middle of a transaction. `validate()` says
/// whether it is one that the daemon may put in force; only such a value is ever stored.
package struct Configuration: Codable, Equatable, Sendable {
  package var bridges: [String: Bridge]
  package var ports: [String: Port]
  package var networks: [String: Network] = [:]
  /// What is configured of the switch as a whole.
  package var host = SwitchRecord()

  package init(bridges: [String: Bridge] = [:], ports: [String: Port] = [:]) {
    self.bridges = bridges
    self.ports = ports
  }

  /// Adds a bridge, which has none of that name, with its internal port.
  mutating func addBridge(_ name: String) {
    bridges[name] = Bridge(name: name)
    ports[name] = Port(name: name, bridge: name, interface: Interface(type: .internal))
  }

  /// The ports of one bridge in the order of their names, its internal port among them.
  package func ports(of bridge: String) -> [Port] {
    ports.values.filter { $0.bridge == bridge }.sorted { $0.name < $1.name }
  }

  /// The port that `attach` made for an interface of a container.
  package func attachedPort(target: String, interface: String) -> Port? {
    ports.values.first {
      $0.interface.attachment?.target == target && $0.interface.attachment?.interface == interface
    }
  }

  /// The names of interfaces whose type nobody has named and nothing implies: each must be an
  /// existing netdev.
  package var unresolvedInterfaces: [String] {
    ports.values.filter { $0.interface.type == nil }.map(\.name).sorted()
  }
}

extension Configuration {
  /// What operators keep with the switch as a whole: the record `.` of the table Switch.
  package struct SwitchRecord: Codable, Equatable, Sendable {
    /// The address that the tunnels of networks are sent from; `nil` for whichever the route has.
    package var localIP: IPAddress?
    /// The hosts of all networks that name none; this one may be among them.
    package var remotes: [IPAddress] = []
    /// Who tells the remote VTEPs and stations of networks that name no remotes.
    package var controlPlane = ControlPlane.none
    /// Unknown keys are kept and mean nothing, and the operator is told so.
    package var otherConfig: [String: String] = [:]
    /// Notes of other programs, such as `system-id`; ovx never reads them.
    package var externalIDs: [String: String] = [:]

    package init() {}
  }

  /// From where networks know what is on other hosts.
  package enum ControlPlane: String, Codable, CaseIterable, Sendable {
    /// From the `remotes` of the switch, and from what those send.
    case none
    /// From an agent that speaks BGP EVPN (RFC 8365).
    case evpn
  }

  /// The one record of the table Switch, under its name.
  var switchRecords: [String: SwitchRecord] {
    get { [".": host] }
    set { host = newValue["."] ?? SwitchRecord() }
  }

  /// A bridge: a switch of its own, with its own address table.
  package struct Bridge: Codable, Equatable, Sendable {
    package var name: String
    /// Settings by name, as in Open vSwitch; unknown ones are kept and mean nothing, and the
    /// operator is told so.
    package var otherConfig: [String: String] = [:]
    /// Notes of other programs; ovx never reads them.
    package var externalIDs: [String: String] = [:]

    package init(name: String) {
      self.name = name
    }
  }

  /// A port of a bridge, with its one interface.
  package struct Port: Codable, Equatable, Sendable {
    package var name: String
    /// The bridge that owns it.
    package var bridge: String
    package var tag: VLANID?
    /// The VLANs of a trunk; empty for all.
    package var trunks: Set<VLANID> = []
    /// The customer's VLANs that a `dot1q-tunnel` port takes; empty for all.
    package var customerVLANs: Set<VLANID> = []
    /// The network that it is a member of, or the tunnel of; then `tag` is the network's.
    package var network: String?
    /// Whether it may send only what it was given; `nil` for what its network says, and no without
    /// one.
    package var portSecurity: Bool?
    /// What it may use for its own beside what it was given, in order of their texts.
    package var allowedAddresses: [AllowedAddress] = []
    /// Ports of the host that its network's gateway leads to it, in order of their texts.
    package var published: [PublishedPort] = []
    package var vlanMode: VLANMode?
    package var otherConfig: [String: String] = [:]
    package var externalIDs: [String: String] = [:]
    package var interface: Interface

    package init(name: String, bridge: String, interface: Interface = Interface()) {
      self.name = name
      self.bridge = bridge
      self.interface = interface
    }

    /// Whether this is the port that was made with its bridge, and goes only with it.
    package var isBridgeInternal: Bool { name == bridge }

    /// Which VLANs the port carries: those of `vlanMode`, else `access` where there is a tag and
    /// `trunk` where not.
    ///
    /// A mode that needs a tag takes VLAN 0 without one, as in Open vSwitch.
    package var vlans: VLANMembership {
      let own = tag ?? .untagged
      let trunks = trunks.isEmpty ? nil : trunks
      return switch vlanMode ?? (tag == nil ? .trunk : .access) {
      case .access: .access(own)
      case .trunk: .trunk(trunks)
      case .nativeTagged: .nativeTagged(own, trunks: trunks)
      case .nativeUntagged: .nativeUntagged(own, trunks: trunks)
      case .dot1qTunnel:
        .dot1qTunnel(
          own, customers: customerVLANs.isEmpty ? nil : customerVLANs,
          protocolID: serviceTagType)
      }
    }
  }

  /// How a port deals with VLAN tags: the `vlan_mode` column.
  package enum VLANMode: String, Codable, CaseIterable, Sendable {
    case access
    case trunk
    case nativeTagged = "native-tagged"
    case nativeUntagged = "native-untagged"
    case dot1qTunnel = "dot1q-tunnel"
  }

  /// What a port is made of.
  package struct Interface: Codable, Equatable, Sendable {
    /// `nil` while nothing has settled it; never so in a stored configuration.
    package var type: InterfaceType?
    /// The tunnel's parameters, by Open vSwitch's names: those of `Tunnel.optionNames`.
    package var options: [String: String] = [:]
    /// The Ethernet address to give the device.
    package var mac: MACAddress?
    /// The MTU to give the device, in bytes of IP packet.
    package var mtuRequest: Int?
    package var otherConfig: [String: String] = [:]
    package var externalIDs: [String: String] = [:]
    /// The addresses to give the device of an internal interface, which is the host's own; in order
    /// of their texts.
    ///
    /// Beside them stand those that the host's administrator has given it, which the daemon leaves
    /// alone. Of a device of the host, such as a NIC: those that the host has on it when it is no
    /// port, and on the bridge's own device while it is one.
    package var addresses: [InterfaceAddress] = []
    /// The routes of the host by the device, as with `addresses`.
    package var routes: [HostRoute] = []
    /// For a TAP that lives in a container, or a veth: where, and how it is addressed.
    package var attachment: Attachment?

    package init(type: InterfaceType? = nil) {
      self.type = type
    }

    /// The tunnel's parameters, read; `nil` for another type of interface or parameters that do not
    /// make sense.
    package var tunnel: Tunnel? {
      guard type == .vxlan else { return nil }
      return try? Tunnel(options: options)
    }
  }

  /// The kinds of interface: the `type` column.
  package enum InterfaceType: String, Codable, CaseIterable, Sendable {
    /// A device of the host that the daemon makes, for the host itself to talk to the bridge.
    case `internal`
    /// A TAP device that the daemon makes.
    case tap
    /// A veth that the daemon makes for a container, which has one end of it; see `Attachment`.
    case veth
    /// A VXLAN tunnel to one or more remote VTEPs.
    case vxlan
    /// A network device that exists: one end of a veth pair, a NIC.
    case system
  }

  /// Where an attached interface lives and what it is given there.
  package struct Attachment: Codable, Equatable, Sendable {
    /// The container as it was typed: a network namespace's name, `pid:N`, a path, or a container's
    /// name or id.
    package var target: String
    /// The device's name inside.
    package var interface: String
    package var addresses: [InterfaceAddress]
    /// Default routes, at most one of each address family.
    package var gateways: [IPAddress]
    /// Which container it is, as found out when it was attached; `nil` while that is not known.
    ///
    /// The id that docker or podman has given it, or "" for the network namespace that has the
    /// target for its name. A container that only has the name of the one that was attached does
    /// not inherit its address and tenant.
    package var container: String?

    package init(
      target: String,
      interface: String,
      addresses: [InterfaceAddress] = [],
      gateways: [IPAddress] = []
    ) {
      self.target = target
      self.interface = interface
      self.addresses = addresses
      self.gateways = gateways
    }
  }

  /// The parameters of a VXLAN tunnel.
  package struct Tunnel: Equatable, Sendable {
    /// The VNI of frames that arrive: `in_key`, else `key`.
    package var vni: VNI
    /// The VNI of frames that are sent: `out_key`, else `key`.
    package var outgoingVNI: VNI
    /// The remote VTEPs, in the order given, all of one family, none twice; empty only where an
    /// agent tells them.
    package var remotes: [IPAddress]
    /// Whether an agent tells the remote VTEPs and what is behind them: `remote_ip=evpn`.
    package var isServedByAgent = false
    /// Whether frames for stations that are not known go to all remote VTEPs: `flood_unknown`.
    package var floodsUnknown = true
    /// The local VTEP address; `nil` for any.
    package var local: IPAddress?
    /// The UDP port of both ends.
    package var destinationPort: UInt16
    /// DSCP and ECN of outer headers: `tos`; the ECN bits are 0, as ECN is always copied from
    /// inside.
    package var trafficClass = OuterField.value(0)
    /// The time to live of outer headers: `ttl`.
    package var hopLimit = OuterField.value(64)
    /// Whether routers may not fragment outer IPv4 packets: `df_default`.
    package var forbidsFragments = true
    /// Whether outer UDP headers have a checksum: `csum`.
    ///
    /// Open vSwitch's default for IPv4 is that they have none. Here it is `true` for both, since
    /// Linux takes datagrams many at a time only with one (`udp_send_skb`), and gives it to the
    /// network card to compute.
    package var hasChecksum = true

    /// A field of the outer header.
    package enum OuterField: Equatable, Sendable {
      /// As in the IP header inside; where there is none, 0 for `tos` and 64 for `ttl`.
      case inherited
      case value(UInt8)
    }
    /// Whether TCP superframes leave whole where the underlay segments tunnels:
    /// `superframes=inject`.
    package var injectsSuperframes = false

    /// The UDP port that IANA assigned to VXLAN (RFC 7348, section 8).
    package static let defaultPort: UInt16 = 4789
  }
}
