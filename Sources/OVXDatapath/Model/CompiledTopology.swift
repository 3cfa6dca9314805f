/// A topology as the frame path wants it: plain records in fixed arrays, numbers for names, flood
/// lists made ready.
///
/// Compiled once per change, on the control thread, and read-only from then on. Each worker gets a
/// `copy`, so that no memory on a frame's way is shared.
package struct CompiledTopology: ~Copyable, Sendable {
  /// How a port takes part in forwarding.
  enum Role: UInt8, BitwiseCopyable {
    case absent
    case waiting
    case device
    case tunnel
  }

  /// How a port's frames carry their VLAN; see `VLANMembership`.
  enum VLANMode: UInt8, BitwiseCopyable {
    case access
    case trunk
    case nativeTagged
    case nativeUntagged
    case dot1qTunnel
  }

  struct Port: BitwiseCopyable {
    var role = Role.absent
    var vlanMode = VLANMode.trunk
    var priorityTags = PriorityTags.never
    var capabilities: OffloadCapabilities = []
    var bridge = BridgeID(rawValue: 0)
    /// The VLAN of an access port, the native VLAN of a native one, the service VLAN of a tunnel
    /// one.
    var ownVLAN = VLANID.untagged
    /// For a dot1q-tunnel port: the tag protocol of its service VLAN.
    var serviceProtocol: UInt16 = 0
    /// Where the port's VLANs begin in `vlanSets`, 64 words of 64 bits; negative for all VLANs.
    ///
    /// The customer's for a dot1q-tunnel port.
    var vlanSet: Int32 = -1
    /// The VLAN whose frames leave without a tag, beside those of none; `.untagged` where there is
    /// no such VLAN.
    var bareVLAN = VLANID.untagged
    /// Which other ports do not get what this one has received, nor the other way round.
    var group = SplitHorizonGroup.none
    /// Whether the port's device is the gateway of its segment.
    var isGateway = false
    /// Whether addresses and neighbors are learned from what it receives.
    var learns = true
    /// Whether frames to stations that are not known leave by it.
    var floodsUnknown = true
    /// For a tunnel: its peers in `tunnelPeers`.
    var peerCount: UInt32 = 0
    var firstPeer: UInt32 = 0
    /// Those among them that get what is flooded.
    var floodPeerCount: UInt32 = 0
    var limits = PortLimits.none
    /// Where `sourceRules` says what the port may send; negative for anything.
    var sourceRule: Int32 = -1
    /// For a device: its MTU.
    var mtu: Int32 = 0
    /// For a device: see `Topology.Device`.
    var superframeLimit: Int32 = 0
    var taggedSuperframeLimit: Int32 = 0
    /// For a tunnel: the VXLAN header of all it sends, as it lies in memory.
    var vxlanHeader: UInt64 = 0
    /// For a tunnel.
    var outerHeader = OuterHeaderRule()
    /// For a tunnel: the VNI of what it receives.
    var vni: UInt32 = 0
    /// For a device: its number, where the fast path may be used; else 0.
    var fastPathIndex: UInt32 = 0
  }

  struct Peer: BitwiseCopyable {
    var port = PortID.none
    var firstPath: UInt32 = 0
    var pathCount: UInt32 = 0
    var mtu: Int32 = 0
    /// Where `injectionHeaders` has the headers of superframes that leave whole.
    var injectionHeader: UInt32 = 0
    /// Where `injectionPorts` has the source ports of the paths; `.max` where superframes are cut.
    var firstInjectionPort = UInt32.max
    /// Where `fastPathHeaders` has the outer headers for the fast path; `.max` where that does not
    /// reach it.
    var fastPathHeader = UInt32.max
    /// Whether it gets what is flooded.
    var takesFloods = true
  }

  struct Bridge: BitwiseCopyable {
    var isPresent = false
    var agingTime: UInt32 = 0
    var addressLimit: Int = 0
    /// Where the bridge's 4096 flood list numbers begin in `floodListOfVLAN`, and its lists in
    /// `floodLists`.
    var firstVLAN: Int = 0
    var firstFloodList: Int = 0
    /// The bridge's ports in `bridgeMembers`.
    var firstMember: Int = 0
    var memberCount: Int = 0

    var members: Range<Int> { firstMember..<(firstMember + memberCount) }
  }

  private(set) var ports: IDTable<PortID, Port>
  private(set) var peers: IDTable<RemoteVTEPID, Peer>
  private(set) var bridges: IDTable<BridgeID, Bridge>
  let tunnelPeers: FixedArray<RemoteVTEPID>
  let injectionHeaders: FixedArray<InjectionHeader>
  let injectionPorts: FixedArray<UInt16>
  let fastPathHeaders: FixedArray<FastPathHeader>
  private let vlanSets: FixedArray<UInt64>
  private let floodListOfVLAN: FixedArray<UInt16>
  private let floodLists: FixedArray<Span>
  /// The ports of the flood lists, one list after the other.
  let floodMembers: FixedArray<PortID>
  let bridgeMembers: FixedArray<PortID>
  let demultiplexer: Demultiplexer
  let ownAddresses: OwnAddresses
  let sourceRules: SourceRules

  /// A stretch of `floodMembers`.
  struct Span: BitwiseCopyable {
    var first: UInt32
    var count: UInt32
    /// Whether questions for a known neighbor are answered instead of flooded.
    var answersQuestions: Bool
  }

  /// Compiles a topology.
  ///
  /// Objects whose numbers are out of range, or that name a bridge that is not there, are left out.
  package init(_ topology: Topology) {
    let knownBridges = Set(topology.bridges.map(\.id))
    let accepted = topology.ports.filter { port in
      Int(port.id.rawValue) < PortID.limit && knownBridges.contains(port.bridge)
    }
    ports = IDTable(
      repeating: Port(), count: (accepted.map { Int($0.id.rawValue) }.max() ?? -1) + 1)
    bridges = IDTable(
      repeating: Bridge(), count: (topology.bridges.map { Int($0.id.rawValue) }.max() ?? -1) + 1)

    var sets: [UInt64] = []
    var allPeers: [(RemoteVTEPID, Peer)] = []
    var peersOfTunnels: [RemoteVTEPID] = []
    var headers: [InjectionHeader] = []
    var sourcePorts: [UInt16] = []
    var securities: [PortSecurity] = []
    var fastPathHeaders: [FastPathHeader] = []
    let ambiguousOrigins = Self.ambiguousOrigins(of: accepted)
    for port in accepted {
      var record = Port()
      record.bridge = port.bridge
      record.priorityTags = port.priorityTags
      record.limits = port.limits
      let vlans = VLANRule(port.vlans)
      record.vlanMode = vlans.mode
      record.ownVLAN = vlans.own
      record.bareVLAN =
        switch vlans.mode {
        case .access, .dot1qTunnel, .nativeUntagged: vlans.own
        case .trunk, .nativeTagged: .untagged
        }
      record.serviceProtocol = vlans.serviceProtocol
      if let set = vlans.set {
        record.vlanSet = Int32(sets.count)
        var words = [UInt64](repeating: 0, count: 64)
        for vlan in set { words[Int(vlan.rawValue) >> 6] |= 1 << UInt64(vlan.rawValue & 63) }
        sets += words
      }
      switch port.attachment {
      case .waiting: record.role = .waiting
      case .device(let device):
        record.role = .device
        record.isGateway = port.gateway != nil
        if port.gateway == .distributed { record.group = .tunnels }
        record.mtu = Int32(clamping: device.mtu)
        record.capabilities = device.capabilities
        record.superframeLimit = Int32(clamping: device.superframeLimit)
        record.taggedSuperframeLimit = Int32(clamping: device.taggedSuperframeLimit)
        record.fastPathIndex = device.fastPathIndex ?? 0
        if let security = port.security {
          record.sourceRule = Int32(securities.count)
          securities.append(security)
        }
      case .tunnel(let tunnel):
        record.role = .tunnel
        record.vni = tunnel.vni.rawValue
        record.learns = tunnel.learns
        record.floodsUnknown = tunnel.floodsUnknown
        record.group = tunnel.isJoined ? .joined(tunnel.vni) : .tunnels
        record.vxlanHeader = VXLANHeader.encoded(vni: tunnel.outgoingVNI).bigEndian
        record.outerHeader = tunnel.outerHeader
        record.firstPeer = UInt32(peersOfTunnels.count)
        record.peerCount = UInt32(tunnel.peers.count)
        record.floodPeerCount = UInt32(tunnel.peers.count(where: \.takesFloods))
        for peer in tunnel.peers {
          peersOfTunnels.append(peer.id)
          var entry = Peer(
            port: port.id, firstPath: peer.paths.lowerBound,
            pathCount: UInt32(peer.paths.count), mtu: Int32(clamping: peer.mtu),
            takesFloods: peer.takesFloods)
          if let injection = peer.injection, let header = InjectionHeader(injection),
            injection.sourcePorts.count == peer.paths.count
          {
            entry.injectionHeader = UInt32(headers.count)
            entry.firstInjectionPort = UInt32(sourcePorts.count)
            headers.append(header)
            sourcePorts += injection.sourcePorts
          }
          if let route = peer.fastPath, let header = FastPathHeader(route, tunnel),
            !ambiguousOrigins.contains(VTEPOrigin(vni: tunnel.vni, remote: peer.remote))
          {
            entry.fastPathHeader = UInt32(fastPathHeaders.count)
            fastPathHeaders.append(header)
          }
          allPeers.append((peer.id, entry))
        }
      }
      ports[port.id] = record
    }
    peers = IDTable(
      repeating: Peer(), count: (allPeers.map { Int($0.0.rawValue) }.max() ?? -1) + 1)
    for (id, peer) in allPeers { peers[id] = peer }
    vlanSets = FixedArray(sets)
    tunnelPeers = FixedArray(peersOfTunnels)
    injectionHeaders = FixedArray(headers)
    injectionPorts = FixedArray(sourcePorts)
    self.fastPathHeaders = FixedArray(fastPathHeaders)

    let flooding = FloodLists(bridges: topology.bridges, ports: accepted)
    floodListOfVLAN = FixedArray(flooding.listOfVLAN)
    floodLists = FixedArray(flooding.lists)
    floodMembers = FixedArray(flooding.members)
    var members: [PortID] = []
    let byBridge = Dictionary(grouping: accepted, by: \.bridge)
    for (position, bridge) in topology.bridges.enumerated() {
      let first = members.count
      members += (byBridge[bridge.id] ?? []).map(\.id)
      bridges[bridge.id] = Bridge(
        isPresent: true, agingTime: bridge.agingTime, addressLimit: bridge.addressLimit,
        firstVLAN: position * 4096, firstFloodList: flooding.firstListOfBridge[position],
        firstMember: first, memberCount: members.count - first)
    }
    bridgeMembers = FixedArray(members)

    demultiplexer = Demultiplexer(accepted)
    ownAddresses = OwnAddresses(accepted)
    sourceRules = SourceRules(securities)
  }

  private struct VTEPOrigin: Hashable {
    var vni: VNI
    var remote: IPAddress
  }

  /// The VTEPs and VNIs of which several tunnels receive: which one depends on more than the fast
  /// path looks at.
  private static func ambiguousOrigins(of ports: [Topology.Port]) -> Set<VTEPOrigin> {
    var known: Set<VTEPOrigin> = []
    var ambiguous: Set<VTEPOrigin> = []
    for case .tunnel(let tunnel) in ports.map(\.attachment) {
      for peer in tunnel.peers {
        let origin = VTEPOrigin(vni: tunnel.vni, remote: peer.remote)
        if !known.insert(origin).inserted { ambiguous.insert(origin) }
      }
    }
    return ambiguous
  }

  /// A copy in memory of its own, which is made much faster than another compilation.
  package func copy() -> CompiledTopology { CompiledTopology(copying: self) }

  private init(copying other: borrowing CompiledTopology) {
    ports = other.ports.copy()
    peers = other.peers.copy()
    bridges = other.bridges.copy()
    tunnelPeers = other.tunnelPeers.copy()
    injectionHeaders = other.injectionHeaders.copy()
    injectionPorts = other.injectionPorts.copy()
    fastPathHeaders = other.fastPathHeaders.copy()
    vlanSets = other.vlanSets.copy()
    floodListOfVLAN = other.floodListOfVLAN.copy()
    floodLists = other.floodLists.copy()
    floodMembers = other.floodMembers.copy()
    bridgeMembers = other.bridgeMembers.copy()
    demultiplexer = other.demultiplexer.copy()
    ownAddresses = other.ownAddresses.copy()
    sourceRules = other.sourceRules.copy()
  }

  /// Whether there is a bridge of this number.
  func hasBridge(_ bridge: BridgeID) -> Bool {
    bridges.contains(bridge) && bridges[bridge].isPresent
  }

  /// How a port takes part in forwarding, also one that is not there.
  func role(of port: PortID) -> Role { ports.contains(port) ? ports[port].role : .absent }

  /// Neighbors that a port may have in its bridge's table: the share of one device, or all.
  ///
  /// A tunnel stands for the devices of other hosts, which have been limited there.
  func neighborLimit(of port: PortID) -> Int {
    let record = ports[port]
    let limit = bridges[record.bridge].addressLimit
    return record.role == .tunnel ? .max : max(limit / 8, 8)
  }

  /// Whether addresses that were learned on a port of these tables are all where they were in newer
  /// ones.
  func areSame(_ port: Port, _ newer: Port, of tables: borrowing CompiledTopology) -> Bool {
    guard port.role == newer.role, port.bridge == newer.bridge, port.vlanMode == newer.vlanMode,
      port.ownVLAN == newer.ownVLAN, (port.vlanSet < 0) == (newer.vlanSet < 0),
      port.vni == newer.vni, port.peerCount == newer.peerCount
    else { return false }
    for peer in 0..<Int(port.peerCount)
    where tunnelPeers[Int(port.firstPeer) + peer] != tables.tunnelPeers[Int(newer.firstPeer) + peer]
    {
      return false
    }
    guard port.vlanSet >= 0 else { return true }
    for word in 0..<64
    where vlanSets[Int(port.vlanSet) + word] != tables.vlanSets[Int(newer.vlanSet) + word] {
      return false
    }
    return true
  }

  // MARK: VLANs

  /// Whether a port is a member of a VLAN.
  @inline(__always) func carries(_ vlan: VLANID, port: borrowing Port) -> Bool {
    switch port.vlanMode {
    case .access, .dot1qTunnel: vlan == port.ownVLAN
    case .trunk, .nativeTagged, .nativeUntagged: isInSet(vlan, of: port)
    }
  }

  /// Whether a VLAN is among those that the port's mode lists: trunks, or the customer's.
  @inline(__always) func isInSet(_ vlan: VLANID, of port: borrowing Port) -> Bool {
    if port.vlanSet < 0 { return true }
    let word = vlanSets[Int(port.vlanSet) + Int(vlan.rawValue >> 6)]
    return word & (1 << UInt64(vlan.rawValue & 63)) != 0
  }

  /// The ports of a segment, as a stretch of `floodMembers`.
  @inline(__always) func flooding(vlan: VLANID, bridge: BridgeID) -> Span {
    let record = bridges[bridge]
    let list = floodListOfVLAN[record.firstVLAN + Int(vlan.rawValue)]
    return floodLists[record.firstFloodList + Int(list)]
  }
}

/// The flood lists of all segments.
///
/// VLANs that no port names share one list of their bridge: its trunks of all VLANs.
private struct FloodLists {
  /// 4096 numbers per bridge, each counted from the bridge's first list.
  var listOfVLAN: [UInt16] = []
  var firstListOfBridge: [Int] = []
  var lists: [CompiledTopology.Span] = []
  var members: [PortID] = []

  init(bridges: [Topology.Bridge], ports: [Topology.Port]) {
    let portsOfBridge = Dictionary(grouping: ports, by: \.bridge)
    for bridge in bridges {
      var everywhere: [PortID] = []
      var named: [VLANID: [PortID]] = [:]
      var tunnels: Set<PortID> = []
      for port in portsOfBridge[bridge.id] ?? [] {
        if case .waiting = port.attachment { continue }
        if case .tunnel = port.attachment { tunnels.insert(port.id) }
        let rule = VLANRule(port.vlans)
        switch rule.mode {
        case .access, .dot1qTunnel: named[rule.own, default: []].append(port.id)
        case .trunk, .nativeTagged, .nativeUntagged:
          guard let vlans = rule.set else {
            everywhere.append(port.id)
            continue
          }
          for vlan in vlans { named[vlan, default: []].append(port.id) }
        }
      }
      let firstList = lists.count
      let firstVLAN = listOfVLAN.count
      firstListOfBridge.append(firstList)
      listOfVLAN += [UInt16](repeating: 0, count: 4096)
      append(everywhere, of: bridge, tunnels)
      for (vlan, ports) in named {
        listOfVLAN[firstVLAN + Int(vlan.rawValue)] = UInt16(lists.count - firstList)
        append(ports + everywhere, of: bridge, tunnels)
      }
    }
  }

  private mutating func append(
    _ ports: [PortID], of bridge: Topology.Bridge, _ tunnels: Set<PortID>
  ) {
    lists.append(
      CompiledTopology.Span(
        first: UInt32(members.count), count: UInt32(ports.count),
        answersQuestions: bridge.suppressesNeighborQuestions
          && ports.contains(where: tunnels.contains)))
    members += ports
  }
}

/// A port's VLAN membership, taken apart.
private struct VLANRule {
  var mode: CompiledTopology.VLANMode
  var own = VLANID.untagged
  var set: Set<VLANID>?
  var serviceProtocol: UInt16 = 0

  init(_ membership: VLANMembership) {
    switch membership {
    case .access(let vlan):
      mode = .access
      own = vlan
    case .trunk(let vlans):
      mode = .trunk
      set = vlans
    case .nativeTagged(let vlan, _):
      mode = .nativeTagged
      own = vlan
      set = membership.vlans
    case .nativeUntagged(let vlan, _):
      mode = .nativeUntagged
      own = vlan
      set = membership.vlans
    case .dot1qTunnel(let vlan, let customers, let protocolID):
      mode = .dot1qTunnel
      own = vlan
      set = customers
      serviceProtocol = protocolID
    }
  }
}
