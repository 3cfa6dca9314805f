internal import OVXDatapath

extension Table<Configuration.Bridge> {
  static var bridges: Self {
    Table(
      name: .bridge,
      records: \.bridges,
      columns: [
        Column("_uuid", .one(.text)) { bridge, _, _ in
          .scalar(.text(RecordID.text(.bridge, bridge.name)))
        },
        Column("name", .one(.text)) { bridge, _, _ in .scalar(.text(bridge.name)) },
        Column("ports", .set(.text)) { bridge, configuration, _ in
          .set(configuration.ports(of: bridge.name).map { .text($0.name) })
        },
        // Users of Open vSwitch's userspace datapath say so for each bridge; ovx has no other.
        Column(
          "datapath_type",
          .one(
            .choice(
              ["netdev"],
              unsupported: [
                "system": "ovx forwards in user space and has no kernel module; leave it out"
              ], synonyms: ["": "netdev"])),
          read: { _, _, _ in .scalar(.text("netdev")) },
          write: { _, _ in }),
        .map("other_config", \.otherConfig),
        .map("external_ids", \.externalIDs),
      ] + Column.constants
    )
  }
}

extension Table<Configuration.SwitchRecord> {
  /// The switch's own record.
  static var hosts: Self {
    Table(
      name: .host,
      records: \.switchRecords,
      columns: [
        Column("_uuid", .one(.text)) { _, _, _ in .scalar(.text(RecordID.text(.host, "."))) },
        Column("bridges", .set(.text)) { _, configuration, _ in
          .set(configuration.bridges.keys.map { .text($0) })
        },
        Column("ovx_version", .one(.text)) { _, _, _ in .scalar(.text(OVXVersion.current)) },
        Column("datapath_types", .set(.text)) { _, _, _ in .set([.text("netdev")]) },
        Column("iface_types", .set(.text)) { _, _, _ in
          .set(Configuration.InterfaceType.allCases.map { .text($0.rawValue) })
        },
        Column("networks", .set(.text)) { _, configuration, _ in
          .set(configuration.networks.keys.sorted().map { .text($0) })
        },
        Column(
          "local_ip", .optional(.address),
          read: { record, _, _ in .scalar((record.localIP?.description).map(Atom.text)) },
          write: { record, datum in
            record.localIP = datum.atoms.first.flatMap { IPAddress($0.bare) }
          }),
        .set("remotes", .address, \.remotes),
        .choice("control_plane", \.controlPlane, usually: .none),
        .map("other_config", \.otherConfig),
        .map("external_ids", \.externalIDs),
        // What scripts ask for to see which switch they talk to.
        Column(
          "ovs_version", .one(.text),
          read: { _, _, _ in .scalar(.text(OVXVersion.current)) }, isListed: false),
      ] + Column.constants
    )
  }
}

extension Table<Configuration.Port> {
  static var ports: Self {
    Table(
      name: .port,
      records: \.ports,
      columns: [
        Column("_uuid", .one(.text)) { port, _, _ in
          .scalar(.text(RecordID.text(.port, port.name)))
        },
        Column("name", .one(.text)) { port, _, _ in .scalar(.text(port.name)) },
        Column("interfaces", .set(.text)) { port, _, _ in .set([.text(port.name)]) },
        Column(
          "tag",
          .optional(.integer(0...4095)),
          read: { port, _, _ in .scalar(port.tag.map { .integer(Int($0.rawValue)) }) },
          write: { port, datum in port.tag = datum.atoms.first.flatMap(VLANID.init) }
        ),
        Column(
          "trunks",
          .set(.integer(0...4095)),
          read: { port, _, _ in .set(port.trunks.sorted().map { .integer(Int($0.rawValue)) }) },
          write: { port, datum in port.trunks = Set(datum.atoms.compactMap(VLANID.init)) }
        ),
        Column(
          "cvlans", .set(.integer(0...4095)),
          read: { port, _, _ in .set(port.customerVLANs.sorted().map { Atom($0) }) },
          write: { port, datum in
            port.customerVLANs = Set(datum.atoms.compactMap(VLANID.init))
          }),
        Column(
          "vlan_mode", .optional(.choice(Configuration.VLANMode.allCases.map(\.rawValue))),
          read: { port, _, _ in .scalar((port.vlanMode?.rawValue).map(Atom.text)) },
          write: { port, datum in
            port.vlanMode = datum.atoms.first.flatMap { Configuration.VLANMode(rawValue: $0.bare) }
          }
        ),
        Column(
          "network", .optional(.text),
          read: { port, _, _ in .scalar(port.network.map(Atom.text)) },
          write: { port, datum in port.network = datum.atoms.first?.bare }),
        Column(
          "port_security", .optional(.boolean),
          read: { port, _, _ in .scalar(port.portSecurity.map(Atom.boolean)) },
          write: { port, datum in port.portSecurity = datum.atoms.first.map { $0 == .boolean(true) }
          }),
        .set("allowed_addresses", .allowedAddress, \.allowedAddresses),
        .set("publish", .publishedPort, \.published),
        .map("other_config", \.otherConfig),
        .map("external_ids", \.externalIDs),
      ] + Column.portConstants
    )
  }

  /// Types of Open vSwitch's interfaces that ovx has not, and what it has instead.
  private static var absentTypes: [String: String] {
    var types = [
      "patch":
        "ovx joins no bridges; ports of one bridge that are to reach each other have the same tag"
    ]
    for tunnel in ["geneve", "gre", "erspan", "lisp", "stt", "gtpu", "srv6", "bareudp", "ip6gre"] {
      types[tunnel] = "ovx's tunnels are of type vxlan"
    }
    for device in ["dpdk", "dpdkvhostuser", "dpdkvhostuserclient", "afxdp", "afxdp-nonpmd"] {
      types[device] =
        "ovx takes devices as the kernel has them, without a type, and needs no DPDK and no XDP"
    }
    return types
  }

  /// Every interface is the one of its port, so its record is the port's.
  static var interfaces: Self {
    Table(
      name: .interface,
      records: \.ports,
      columns: [
        Column("_uuid", .one(.text)) { port, _, _ in
          .scalar(.text(RecordID.text(.interface, port.name)))
        },
        Column("name", .one(.text)) { port, _, _ in .scalar(.text(port.name)) },
        Column(
          "type",
          .one(
            .choice(
              Configuration.InterfaceType.allCases.map(\.rawValue),
              unsupported: absentTypes, synonyms: ["": Configuration.InterfaceType.system.rawValue]
            )
          ),
          read: { port, _, _ in .scalar((port.interface.type?.rawValue).map(Atom.text)) },
          write: { port, datum in
            port.interface.type = datum.atoms.first.flatMap {
              Configuration.InterfaceType(rawValue: $0.bare)
            }
          }
        ),
        .map("options", \.interface.options),
        Column(
          "mac",
          .optional(.ethernetAddress),
          read: { port, _, _ in .scalar((port.interface.mac?.description).map(Atom.text)) },
          write: { port, datum in
            port.interface.mac = datum.atoms.first.flatMap { MACAddress($0.bare) }
          }
        ),
        Column(
          "mtu_request",
          .optional(.integer(Configuration.mtuRange)),
          read: { port, _, _ in .scalar(port.interface.mtuRequest.map(Atom.integer)) },
          write: { port, datum in
            port.interface.mtuRequest = datum.atoms.first.flatMap { Int($0.bare) }
          }
        ),
        Column(
          "addresses",
          .set(.interfaceAddress),
          read: { port, _, _ in
            let addresses = port.interface.attachment?.addresses ?? port.interface.addresses
            return .set(addresses.map { .text($0.description) })
          },
          write: { port, datum in
            let addresses = datum.atoms.compactMap { InterfaceAddress($0.bare) }
            if port.interface.attachment == nil {
              port.interface.addresses = addresses
            } else {
              port.interface.attachment?.addresses = addresses
            }
          }
        ),
        .set("routes", .route, \.interface.routes),
        Column("attachment", .map) { port, _, _ in .map(port.interface.attachment?.entries ?? [:])
        },
        .live("mac_in_use", .optional(.text)) { .scalar($0.macInUse.map(Atom.text)) },
        .live("mtu", .optional(.integer(0...Int.max))) { .scalar($0.mtu.map(Atom.integer)) },
        .live("ifindex", .optional(.integer(0...Int.max))) {
          .scalar($0.ifindex.map(Atom.integer))
        },
        .live("admin_state", .optional(.text)) { .scalar($0.isAdministrativelyUp.map(upOrDown)) },
        .live("link_state", .optional(.text)) { .scalar($0.hasCarrier.map(upOrDown)) },
        .live("link_speed", .optional(.integer(0...Int.max))) {
          .scalar($0.linkSpeed.map(Atom.integer))
        },
        .live("duplex", .optional(.text)) { .scalar($0.linkSpeed.map { _ in .text("full") }) },
        .live("ofport", .optional(.integer(-1...65534))) { .scalar($0.ofport.map(Atom.integer)) },
        .live("error", .optional(.text)) { .scalar($0.error.map(Atom.text)) },
        .live("status", .map) { .map($0.status.mapValues(Atom.text)) },
        .live("statistics", .map) { .map($0.statistics.mapValues { .integer(Int(clamping: $0)) }) },
        .map("other_config", \.interface.otherConfig),
        .map("external_ids", \.interface.externalIDs),
      ] + Column.interfaceConstants
    )
  }
}

extension Column<Configuration.Port> {
  /// A column that only the running switch knows; empty for an interface that it does not know.
  fileprivate static func live(
    _ name: String,
    _ shape: ColumnShape,
    _ value: @escaping (InterfaceState) -> Datum
  ) -> Self {
    Column(name, shape) { port, _, live in
      live.interface(port.name).map(value) ?? shape.empty ?? .scalar(nil)
    }
  }
}

extension VLANID {
  /// Makes an identifier from a column's value, whose range has been checked.
  init?(_ atom: Atom) {
    guard case .integer(let number) = atom, let value = UInt16(exactly: number) else { return nil }
    self.init(rawValue: value)
  }
}

extension Configuration.Attachment {
  /// The attachment as `list` and `show` print it.
  var entries: [String: Atom] {
    var entries: [String: Atom] = ["target": .text(target), "interface": .text(interface)]
    if !addresses.isEmpty {
      entries["ip"] = .text(addresses.map(\.description).joined(separator: ","))
    }
    if let container, !container.isEmpty { entries["container"] = .text(container) }
    if !gateways.isEmpty {
      entries["gateway"] = .text(gateways.map(\.description).joined(separator: ","))
    }
    return entries
  }
}

private func upOrDown(_ isUp: Bool) -> Atom { .text(isUp ? "up" : "down") }

extension Configuration {
  /// The MTUs that a TAP device can have, in bytes: IPv4's least (RFC 791), and what `tun.c` allows
  /// an Ethernet TAP.
  package static let mtuRange = 68...65521
}
