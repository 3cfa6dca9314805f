package import OVXDatapath

/// Makes random topologies of one host that the control side would accept, and changes them step by
/// step.
///
/// A segment is bound to one VNI at most, unless VNIs are joined, and a VNI to one bridge; a remote
/// VTEP appears once per VNI and endpoint; numbers of ports and peers stay with their object and
/// are given anew only in a later change.
package struct TopologyGenerator {
  package private(set) var topology = Topology()
  package var random: SeededRandom
  /// The VLANs that ports are made members of.
  package var vlans: [VLANID]
  package var bridgeCount = 1...3
  package var addressLimits = 10...40
  /// Whether every device has an MTU that no generated frame exceeds.
  package var hasAmpleMTU = false
  /// Whether some devices may only send what `PortSecurity` says.
  package var hasSecurity = true

  private var nextPath: UInt32 = 1
  private var vnisOfSegment: [Segment: Set<VNI>] = [:]
  /// The VNIs that may share segments.
  private var joinedVNIs: Set<VNI> = []
  private var bridgeOfVNI: [VNI: BridgeID] = [:]

  private struct Segment: Hashable {
    var bridge: BridgeID
    var vlan: VLANID
  }

  package init(
    seed: UInt64,
    vlans: [VLANID] = [0, 10, 20, 4095].compactMap(VLANID.init(rawValue:))
  ) {
    random = SeededRandom(seed: seed)
    self.vlans = vlans.isEmpty ? [.untagged] : vlans
  }

  /// Sixteen VTEPs to choose remotes from, IPv4 and IPv6.
  package static let remotes: [IPAddress] = (0..<16).map { number in
    number < 12
      ? IPAddress(v4: 0xC0A8_0501 + UInt32(number))
      : IPAddress(v6High: 0xFD00_0000_0000_0001, low: UInt64(number))
  }

  /// Eight VNIs to choose from, the ends of the range among them.
  package static let vnis: [VNI] = [0, 1, 100, 200, 0x12_3456, 0x80_0000, 0xFF_FFFE, 0xFF_FFFF]
    .compactMap { VNI(rawValue: $0) }

  /// Starts anew with some bridges, devices and tunnels.
  package mutating func generate() -> Topology {
    topology = Topology()
    vnisOfSegment = [:]
    joinedVNIs = random.oneIn(2) ? [] : Set(Self.vnis.filter { _ in random.oneIn(2) })
    bridgeOfVNI = [:]
    for number in 0..<random.within(bridgeCount) { topology.bridges.append(bridge(number)) }
    for _ in 0..<random.within(2...8) { addPort(device: true) }
    for _ in 0..<random.below(6) { addPort(device: false) }
    return topology
  }

  /// Changes one thing.
  package mutating func change() -> Topology {
    let victim = topology.ports.isEmpty ? nil : random.below(topology.ports.count)
    switch random.below(10) {
    case 0, 1: addPort(device: true)
    case 2: addPort(device: false)
    case 3:
      if let victim { remove(victim) }
    case 4:
      let bridge = random.below(topology.bridges.count)
      topology.bridges[bridge] = self.bridge(Int(topology.bridges[bridge].id.rawValue))
    case 5:
      if let victim { changePeers(victim) }
    default:
      if let victim, case .tunnel = topology.ports[victim].attachment { break }
      if let victim {
        topology.ports[victim].vlans = membership()
        topology.ports[victim].priorityTags = priorityTags()
        topology.ports[victim].security = security()
        topology.ports[victim].attachment = random.oneIn(4) ? .waiting : .device(device())
      }
    }
    return topology
  }

  // MARK: Parts

  private mutating func bridge(_ number: Int) -> Topology.Bridge {
    Topology.Bridge(
      id: BridgeID(rawValue: UInt16(number)),
      agingTime: random.oneIn(8) ? 0 : UInt32(random.within(15...40)),
      addressLimit: random.within(addressLimits),
      suppressesNeighborQuestions: !random.oneIn(6)
    )
  }

  private mutating func device() -> Topology.Device {
    let mtu = hasAmpleMTU ? 70_000 : random.pick([1400, 1500, 1500, 9000])
    let some = OffloadCapabilities(rawValue: UInt8(random.below(16)))
    // Some have the address of a station of `FrameGenerator`.
    let address =
      random.oneIn(3) ? MACAddress(truncating: 0x0200_0000_0001 + UInt64(random.below(12))) : nil
    return Topology.Device(
      mtu: mtu, capabilities: random.oneIn(2) ? .all : some, address: address,
      isStation: random.oneIn(2))
  }

  private mutating func someVLANs() -> Set<VLANID> {
    Set(vlans.filter { _ in random.oneIn(2) })
  }

  /// Any of the five modes, the two simple ones more often.
  private mutating func membership() -> VLANMembership {
    let some = random.oneIn(3) ? nil : someVLANs()
    return switch random.below(10) {
    case 0..<4: .access(random.pick(vlans))
    case 4..<7: .trunk(some)
    case 7: .nativeTagged(random.pick(vlans), trunks: some)
    case 8: .nativeUntagged(random.pick(vlans), trunks: some)
    default:
      .dot1qTunnel(
        random.pick(vlans), customers: some, protocolID: random.oneIn(2) ? 0x8100 : 0x88A8)
    }
  }

  private mutating func priorityTags() -> PriorityTags {
    random.pick([.never, .never, .ifNonzero, .always])
  }

  private mutating func addPort(device isDevice: Bool) {
    let taken = Set(topology.ports.map(\.id.rawValue))
    guard
      let number = (0..<40).map({ UInt16($0) }).filter({ !taken.contains($0) }).randomElement(
        using: &random
      )
    else { return }
    let id = PortID(rawValue: number)
    if isDevice {
      let attachment = random.oneIn(10) ? Topology.Attachment.waiting : .device(device())
      topology.ports.append(
        Topology.Port(
          id: id,
          bridge: random.pick(topology.bridges).id,
          vlans: membership(), priorityTags: priorityTags(), security: security(),
          attachment: attachment
        )
      )
    } else if let port = tunnelPort(id) {
      topology.ports.append(port)
    }
  }

  /// A tunnel port that joins no two VNIs but those that may be, or `nil` where the dice fell
  /// badly.
  private mutating func tunnelPort(_ id: PortID) -> Topology.Port? {
    let vni = random.pick(Self.vnis)
    let bridge = bridgeOfVNI[vni] ?? random.pick(topology.bridges).id
    let membership: VLANMembership =
      switch random.below(8) {
      case 0..<4: .access(random.pick(vlans))
      case 4, 5: .trunk(someVLANs())
      case 6: .nativeTagged(random.pick(vlans), trunks: someVLANs())
      default: .nativeUntagged(random.pick(vlans), trunks: someVLANs())
      }
    let segments = vlans.filter(membership.includes).map { Segment(bridge: bridge, vlan: $0) }
    for segment in segments {
      let vnis = (vnisOfSegment[segment] ?? []).union([vni])
      guard vnis.count == 1 || vnis.isSubset(of: joinedVNIs) else { return nil }
    }
    var tunnel = Topology.Tunnel(
      vni: vni,
      outerHeader: OuterHeaderRule(
        trafficClass: random.pick([0, 0, 0x28]), inheritsHopLimit: random.oneIn(4)),
      endpoint: ListenerID(rawValue: UInt16(random.below(2))),
      peers: [],
      isJoined: joinedVNIs.contains(vni),
      learns: !random.oneIn(6),
      floodsUnknown: !random.oneIn(6)
    )
    for _ in 0..<random.below(5) { addPeer(to: &tunnel) }
    for segment in segments { vnisOfSegment[segment, default: []].insert(vni) }
    bridgeOfVNI[vni] = bridge
    return Topology.Port(
      id: id, bridge: bridge, vlans: membership, priorityTags: priorityTags(),
      attachment: .tunnel(tunnel))
  }

  private mutating func addPeer(to tunnel: inout Topology.Tunnel) {
    var takenRemotes = Set(tunnel.peers.map(\.remote))
    var takenNumbers = Set(tunnel.peers.map(\.id))
    for port in topology.ports {
      guard case .tunnel(let other) = port.attachment else { continue }
      takenNumbers.formUnion(other.peers.map(\.id))
      guard other.vni == tunnel.vni, other.endpoint == tunnel.endpoint else { continue }
      takenRemotes.formUnion(other.peers.map(\.remote))
    }
    let remotes = Self.remotes.filter { !takenRemotes.contains($0) }
    let numbers = (1...200).map { RemoteVTEPID(rawValue: $0) }.filter { !takenNumbers.contains($0) }
    guard !remotes.isEmpty, !numbers.isEmpty else { return }
    let pathCount = UInt32(random.within(1...4))
    tunnel.peers.append(
      Topology.Peer(
        id: random.pick(numbers),
        remote: random.pick(remotes),
        paths: nextPath..<nextPath + pathCount,
        mtu: hasAmpleMTU ? 8950 : random.pick([1280, 1450, 1450, 8950]),
        takesFloods: !random.oneIn(6)
      )
    )
    nextPath += pathCount
  }

  private mutating func changePeers(_ index: Int) {
    guard case .tunnel(var tunnel) = topology.ports[index].attachment else { return }
    if !tunnel.peers.isEmpty, random.oneIn(2) {
      tunnel.peers.remove(at: random.below(tunnel.peers.count))
    } else {
      addPeer(to: &tunnel)
    }
    topology.ports[index].attachment = .tunnel(tunnel)
  }

  private mutating func remove(_ index: Int) {
    topology.ports.remove(at: index)
    let vnis = Set(
      topology.ports.compactMap { port -> VNI? in
        guard case .tunnel(let tunnel) = port.attachment else { return nil }
        return tunnel.vni
      }
    )
    vnisOfSegment = vnisOfSegment.mapValues { $0.intersection(vnis) }
    bridgeOfVNI = bridgeOfVNI.filter { vnis.contains($0.key) }
  }
}
