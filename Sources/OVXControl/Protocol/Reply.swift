package import OVXDatapath

/// The answer to one command.
///
/// `ovx-ctl -f json` prints a case's value with its members' names as they stand here, unless said
/// otherwise. Members may be added; those that are there keep their name and meaning. An absent
/// optional member is left out.
package enum Reply: Codable, Equatable, Sendable {
  /// It is done, and there is nothing to print.
  case done
  /// A list of names, one per line; in JSON an array of strings.
  case names([String])
  /// Yes, or no: exit status 0 or 2, nothing printed.
  case answer(Bool)
  /// Values of `get`, one per line in the grammar of `set`; in JSON an array.
  case values([Datum])
  /// Records of `list` and `find`; in JSON an array of objects whose members are named as the
  /// columns.
  case records(RecordList)
  case show(Show)
  /// In JSON an array.
  case links([PortLink])
  /// In JSON an object whose members are named as the bridges, each an array of entries, as Open
  /// vSwitch prints them.
  case addresses([BridgeAddresses])
  case addressStatistics([BridgeAddressStatistics])
  /// In JSON as `addresses`.
  case neighbors([BridgeNeighbors])
  case neighborStatistics([BridgeNeighborStatistics])
  /// How many addresses or neighbors were forgotten; in JSON an object with the member `flushed`.
  case flushed(Int)
  case statistics([PortStatistics])
  case drops([Drop])
  case tunnels(Tunnels)
  /// In JSON an array.
  case events([SwitchEvent])
  case networks([NetworkDescription])
  /// What `apply` has changed; in JSON an array.
  case changes([Change])
  /// What `export` writes; in JSON the file that `apply` takes, which is also YAML.
  case configuration(Configuration)
  /// In JSON an object with the member `level`.
  case logLevel(LogLevel)
  case trace(Trace)
  case capture(CaptureStart)
  case captureEnd(CaptureEnd)
  case version(Versions)
  case signs([SignsOfLife])
  case evpn(EVPNState)
  case evpnRoutes([EVPNRoute])
  case evpnVTEPs([EVPNVTEP])
}

/// From which level on a log line is written; each includes those behind it.
///
/// The names are those of syslog, but for `trace`.
package enum LogLevel: String, Codable, CaseIterable, Sendable {
  case trace, debug, info, notice, warning, error, critical
}

/// Rows of a table.
package struct RecordList: Codable, Equatable, Sendable {
  package var columns: [String]
  /// One row per record, one value per column.
  package var rows: [[Datum]]

  package init(columns: [String], rows: [[Datum]]) {
    self.columns = columns
    self.rows = rows
  }
}

/// The tree of `ovx-ctl show`.
package struct Show: Codable, Equatable, Sendable {
  package var bridges: [Bridge]
  /// The daemon's version.
  package var version: String

  package struct Bridge: Codable, Equatable, Sendable {
    package var name: String
    package var ports: [Port]
    /// Networks with whose gateways something is wrong; absent where there is none.
    package var gateways: [Gateway]?

    package init(name: String, ports: [Port]) {
      self.name = name
      self.ports = ports
    }
  }

  /// A network's gateway that is not as it is to be on this host.
  package struct Gateway: Codable, Equatable, Sendable {
    package var network: String
    /// Sentences.
    package var errors: [String]

    package init(network: String, errors: [String]) {
      self.network = network
      self.errors = errors
    }
  }

  package struct Port: Codable, Equatable, Sendable {
    package var name: String
    package var tag: VLANID?
    package var trunks: [VLANID]
    package var customerVLANs: [VLANID]
    package var vlanMode: Configuration.VLANMode?
    /// The network that it is a member of, or the tunnel of.
    package var network: String?
    package var interface: Interface

    /// Describes a port of the configuration; the daemon adds what is wrong with it.
    package init(_ port: Configuration.Port, error: String?) {
      name = port.name
      tag = port.tag
      trunks = port.trunks.sorted()
      customerVLANs = port.customerVLANs.sorted()
      vlanMode = port.vlanMode
      network = port.network
      interface = Interface(name: port.name)
      interface.type = port.interface.type
      interface.options = port.interface.options
      interface.target = port.interface.attachment?.target
      interface.inside = port.interface.attachment?.interface
      interface.error = error
    }
  }

  package struct Interface: Codable, Equatable, Sendable {
    package var name: String
    package var type: Configuration.InterfaceType?
    package var options: [String: String]
    /// For an attached interface, the container.
    package var target: String?
    /// For an attached interface, its name inside the container.
    package var inside: String?
    /// Why the interface is not in service, a sentence.
    package var error: String?
    /// The addresses of the device: of the host's own devices those that they have, of attached
    /// ones those they were given.
    package var addresses: [InterfaceAddress]?
    /// The device's Ethernet address.
    package var mac: MACAddress?
    package var mtu: Int?
    /// Whether the device carries frames: `up` or `down`; absent where there is none.
    package var linkState: String?
    /// The other end of a veth: its name, and " in NAMESPACE" where it is elsewhere.
    package var peer: String?
    /// Whether the port is on the fast path, "in use" or "ready", and if not, why: "off: ...";
    /// absent where the switch has none.
    package var fastPath: String?

    package init(name: String) {
      self.name = name
      options = [:]
    }
  }

  /// Describes a whole configuration, with `error` telling what is wrong with a port of the given
  /// name.
  package init(_ configuration: Configuration, error: (String) -> String?) {
    bridges = configuration.bridges.keys.sorted().map { name in
      Bridge(
        name: name,
        ports: configuration.ports(of: name).map { Port($0, error: error($0.name)) }
      )
    }
    version = OVXVersion.current
  }
}

/// The addresses that a bridge knows: `ovx-ctl fdb show`.
package struct BridgeAddresses: Codable, Equatable, Sendable {
  package var bridge: String
  package var entries: [Entry]

  package struct Entry: Codable, Equatable, Sendable {
    package var port: String
    package var vlan: VLANID
    package var mac: MACAddress
    /// Seconds since it was last seen; absent for one that does not age.
    package var age: UInt32?
    /// The remote VTEP behind which the address is, for a tunnel port.
    package var remote: IPAddress?
    /// Whether an agent has told it.
    package var isExternal = false

    package init(
      port: String,
      vlan: VLANID,
      mac: MACAddress,
      age: UInt32?,
      remote: IPAddress? = nil,
      isExternal: Bool = false
    ) {
      self.isExternal = isExternal
      self.port = port
      self.vlan = vlan
      self.mac = mac
      self.age = age
      self.remote = remote
    }

    /// Adds `static`, so that a reader need not conclude it from what is missing.
    package func encode(to encoder: any Encoder) throws {
      var members = encoder.container(keyedBy: CodingKeys.self)
      try members.encode(port, forKey: .port)
      try members.encode(vlan, forKey: .vlan)
      try members.encode(mac, forKey: .mac)
      try members.encodeIfPresent(age, forKey: .age)
      try members.encodeIfPresent(remote, forKey: .remote)
      try members.encode(age == nil && !isExternal, forKey: .static)
      if isExternal { try members.encode(true, forKey: .external) }
    }

    package init(from decoder: any Decoder) throws {
      let members = try decoder.container(keyedBy: CodingKeys.self)
      port = try members.decode(String.self, forKey: .port)
      vlan = try members.decode(VLANID.self, forKey: .vlan)
      mac = try members.decode(MACAddress.self, forKey: .mac)
      age = try members.decodeIfPresent(UInt32.self, forKey: .age)
      remote = try members.decodeIfPresent(IPAddress.self, forKey: .remote)
      isExternal = try members.decodeIfPresent(Bool.self, forKey: .external) ?? false
    }

    private enum CodingKeys: String, CodingKey {
      case port, vlan, mac, age, remote, `static`, external
    }
  }

  package init(bridge: String, entries: [Entry]) {
    self.bridge = bridge
    self.entries = entries
  }
}

/// What has happened to a bridge's address table: `ovx-ctl fdb stats`.
package struct BridgeAddressStatistics: Codable, Equatable, Sendable {
  package var bridge: String
  package var current: Int
  package var limit: Int
  package var statics: Int
  /// Entries of agents.
  package var external: Int
  package var learned: UInt64
  package var expired: UInt64
  package var evicted: UInt64
  package var moved: UInt64
  /// New places of addresses that a port told of faster than they are learned.
  package var unlearned: UInt64

  package init(bridge: String, _ statistics: AddressStatistics) {
    self.bridge = bridge
    current = statistics.current
    limit = statistics.limit
    statics = statistics.statics
    external = statistics.external
    learned = statistics.learned
    expired = statistics.expired
    evicted = statistics.evicted
    moved = statistics.moved
    unlearned = statistics.unlearned
  }
}

/// What a port has carried: `ovx-ctl stats`.
package struct PortStatistics: Codable, Equatable, Sendable {
  package var bridge: String
  package var port: String
  package var receivedFrames: UInt64
  package var receivedBytes: UInt64
  package var sentFrames: UInt64
  package var sentBytes: UInt64
  /// Frames received that asked for a neighbor, and were answered instead of forwarded.
  package var answeredFrames: UInt64
  /// Frames received that were too large for where they were to go, and whose senders were told so
  /// by ICMP.
  package var reportedFrames: UInt64
  /// Frames received that were for a group, and that nobody else was there to hear.
  package var unheardFrames: UInt64
  /// Lost frames by the reason's symbol; reasons that never happened are left out.
  package var drops: [String: UInt64]

  package init(bridge: String, port: String, _ counters: PortCounters) {
    self.bridge = bridge
    self.port = port
    receivedFrames = counters.receivedFrames
    receivedBytes = counters.receivedBytes
    sentFrames = counters.sentFrames
    sentBytes = counters.sentBytes
    answeredFrames = counters.answeredFrames
    reportedFrames = counters.reportedFrames
    unheardFrames = counters.unheardFrames
    drops = [:]
    for reason in DropReason.allCases where counters[reason] != 0 {
      drops[reason.symbol] = counters[reason]
    }
  }

  /// Frames lost for any reason.
  package var droppedFrames: UInt64 { drops.values.reduce(0, &+) }
}

/// Frames lost at one place for one reason: a line of `ovx-ctl drops`.
package struct Drop: Codable, Equatable, Sendable {
  /// Absent for datagrams that belong to no tunnel.
  package var port: String?
  /// The reason's symbol.
  package var reason: String
  package var count: UInt64
  /// The reason, for a person.
  package var sentence: String

  /// `senders` are addresses that the lost datagrams came from lately, where they are nobody's.
  package init(port: String?, reason: DropReason, count: UInt64, senders: [IPAddress] = []) {
    self.port = port
    self.reason = reason.symbol
    self.count = count
    sentence = reason.sentence
    if !senders.isEmpty {
      sentence += " Lately from \(senders.map(\.description).joined(separator: ", "))."
    }
  }
}

/// The tunnels and what they stand on: `ovx-ctl tunnel show`.
package struct Tunnels: Codable, Equatable, Sendable {
  package var tunnels: [Tunnel]
  /// The receiving sockets.
  package var listeners: [Listener]
  /// The ways of sending and receiving that the probes at start-up found usable, by their kernel
  /// names.
  package var features: [String]
  /// What keeps others from sending to the remotes; absent while there are none to send to.
  package var filter: Filter?

  package init(
    tunnels: [Tunnel], listeners: [Listener], features: [String], filter: Filter? = nil
  ) {
    self.tunnels = tunnels
    self.listeners = listeners
    self.features = features
    self.filter = filter
  }

  /// The rules in the host's packet filter that let nobody but the daemon send to the tunnels'
  /// remotes.
  package struct Filter: Codable, Equatable, Sendable {
    package enum State: String, Codable, Sendable {
      case on
      /// As asked for.
      case off
      /// Asked for, but not there.
      case failed
    }

    package var state: State
    /// The table of nftables, of family `inet`.
    package var table: String?
    /// Packets that were dropped since the table was made.
    package var refused: UInt64?
    /// Why there are no rules, a sentence.
    package var error: String?

    package init(
      _ state: State, table: String? = nil, refused: UInt64? = nil, error: String? = nil
    ) {
      self.state = state
      self.table = table
      self.refused = refused
      self.error = error
    }

    /// What it comes to, for people.
    package var sentence: String {
      switch state {
      case .on:
        "nobody else of this host can send to the remotes: nftables table inet \(table ?? "?"), "
          + "\(refused ?? 0) packets refused"
      case .off: "anybody of this host can send to the remotes: --no-underlay-filter"
      case .failed: "anybody of this host can send to the remotes: \(error ?? "?")"
      }
    }
  }

  package struct Tunnel: Codable, Equatable, Sendable {
    package var port: String
    package var bridge: String
    /// Of what arrives.
    package var vni: VNI
    /// Of what is sent, where that is another one.
    package var outgoingVNI: VNI?
    package var local: IPAddress?
    package var destinationPort: UInt16
    package var remotes: [Remote]

    package init(
      port: String,
      bridge: String,
      vni: VNI,
      outgoingVNI: VNI? = nil,
      local: IPAddress?,
      destinationPort: UInt16,
      remotes: [Remote]
    ) {
      self.port = port
      self.bridge = bridge
      self.vni = vni
      self.outgoingVNI = outgoingVNI == vni ? nil : outgoingVNI
      self.local = local
      self.destinationPort = destinationPort
      self.remotes = remotes
    }
  }

  package struct Remote: Codable, Equatable, Sendable {
    package var address: IPAddress
    /// The largest inner IP packet that fits the path, in bytes; absent while there is no path.
    package var mtu: Int?
    /// The device that the path leaves by.
    package var device: String?
    /// Sending sockets, each with a source port of its own.
    package var sourcePorts: Int
    /// How superframes are sent, and why so: "injected into eth0", "segmented: ...".
    package var superframes: String?
    /// Whether the fast path reaches the remote, "in use" or "ready", and if not, why: "off: ...";
    /// absent where the switch has none.
    package var fastPath: String?
    /// Why the remote cannot be reached, a sentence.
    package var error: String?

    package init(
      address: IPAddress,
      mtu: Int?,
      device: String? = nil,
      sourcePorts: Int,
      superframes: String? = nil,
      fastPath: String? = nil,
      error: String? = nil
    ) {
      self.address = address
      self.mtu = mtu
      self.device = device
      self.sourcePorts = sourcePorts
      self.superframes = superframes
      self.fastPath = fastPath
      self.error = error
    }
  }

  package struct Listener: Codable, Equatable, Sendable {
    /// Absent for any address.
    package var address: IPAddress?
    package var port: UInt16
    /// The tunnel ports that receive by it.
    package var tunnels: [String]

    /// Address and port as one: `192.168.5.2:4789`, `[fd00::1]:4789`, `*:4789`.
    package var endpoint: String {
      let host = address.map { $0.isIPv6 ? "[\($0)]" : "\($0)" } ?? "*"
      return "\(host):\(port)"
    }

    package init(address: IPAddress?, port: UInt16, tunnels: [String]) {
      self.address = address
      self.port = port
      self.tunnels = tunnels
    }
  }
}

/// Who answers: `ovx-ctl version`.
package struct Versions: Codable, Equatable, Sendable {
  package var daemon: String
  /// The daemon's process id.
  package var pid: Int32
  /// The running kernel's release.
  package var kernel: String

  package init(daemon: String = OVXVersion.current, pid: Int32, kernel: String) {
    self.daemon = daemon
    self.pid = pid
    self.kernel = kernel
  }
}
