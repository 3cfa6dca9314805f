import OVXDatapath
import OVXSimulation
import Testing

/// The address table against a dictionary, driven as an operator and tenants would: by frames and
/// commands.
@Suite struct FDBProperties {
  @Test func theTableIsWhatADictionaryWouldBe() {
    checkProperty("address table", rounds: 50) { seed in
      var run = TableRun(seed: seed)
      for _ in 0..<120 { try run.step() }
    }
  }

  @Test func whoFloodsAddressesOnlyHarmsItself() {
    checkProperty("fair eviction", rounds: 40) { seed in
      var random = SeededRandom(seed: seed)
      let limit = random.within(10...60)
      let victims = random.within(1...4)
      // Each of the ports stays below its fair share, so that the flooder always holds more.
      let share = limit / (victims + 1)
      let host = SimulatedHost(
        TableRun.topology(devices: victims + 1, limit: limit, agingTime: 300, tunnel: false),
        seed: seed)
      for victim in 0..<victims {
        for number in 0..<share - 1 {
          host.receive(
            TableRun.greeting(from: UInt64(victim * 1000 + number), vlan: nil),
            from: PortID(rawValue: UInt16(victim)))
        }
      }
      host.endBurst()
      let before = Set(host.datapath.addresses(of: TableRun.bridge).map(\.address))
      for number in 0..<limit * 5 {
        host.receive(
          TableRun.greeting(from: UInt64(1_000_000 + number), vlan: nil),
          from: PortID(rawValue: UInt16(victims)))
        if random.oneIn(8) { host.endBurst() }
        let known = host.datapath.addresses(of: TableRun.bridge)
        guard known.count <= limit else {
          throw Discrepancy("\(known.count) addresses are known with a limit of \(limit).")
        }
      }
      let after = Set(host.datapath.addresses(of: TableRun.bridge).map(\.address))
      guard before.isSubset(of: after) else {
        throw Discrepancy(
          "Ports that did not flood lost \(before.subtracting(after).count) of \(before.count) addresses, limit \(limit)."
        )
      }
    }
  }
}

/// One bridge with a small table, and the same in the reference.
private struct TableRun {
  static let bridge = BridgeID(rawValue: 0)
  private static let vlans = [0, 5, 6].compactMap(VLANID.init(rawValue:))
  private static let vni = VNI(rawValue: 77)
  private static let remotes = (1...3).map { IPAddress(v4: 0x0A00_0000 + UInt32($0)) }

  private var random: SeededRandom
  private let host: SimulatedHost
  private var reference = ReferenceSwitch()
  private var topology: Topology
  private let devices: Int
  private var now: UInt32
  private var journal = ""

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    devices = random.within(2...4)
    topology = Self.topology(
      devices: devices, limit: random.within(10...24),
      agingTime: random.oneIn(4) ? 0 : UInt32(random.within(15...60)), tunnel: true)
    now = random.oneIn(3) ? UInt32.max - UInt32(random.below(100)) : random.bits(UInt32.self)
    host = SimulatedHost(topology, seed: random.next())
    reference.apply(topology)
    host.tick(now: now)
    reference.tick(now: now)
  }

  /// Trunk ports for devices from 0, and a tunnel port 9 with three remotes.
  static func topology(devices: Int, limit: Int, agingTime: UInt32, tunnel: Bool) -> Topology {
    var ports = (0..<devices).map { number in
      Topology.Port(
        id: PortID(rawValue: UInt16(number)), bridge: bridge, vlans: .trunk(nil),
        attachment: .device(Topology.Device(mtu: 1500, capabilities: .all)))
    }
    if tunnel, let vni {
      let peers = remotes.enumerated().map { index, remote in
        let number = UInt32(index)
        return Topology.Peer(
          id: RemoteVTEPID(rawValue: UInt16(number + 1)), remote: remote,
          paths: number..<number + 1,
          mtu: 1450)
      }
      ports.append(
        Topology.Port(
          id: PortID(rawValue: 9), bridge: bridge, vlans: .trunk(nil),
          attachment: .tunnel(
            Topology.Tunnel(vni: vni, endpoint: ListenerID(rawValue: 0), peers: peers))))
    }
    return Topology(
      bridges: [Topology.Bridge(id: bridge, agingTime: agingTime, addressLimit: limit)],
      ports: ports)
  }

  /// A broadcast, by which an address becomes known.
  static func greeting(from station: UInt64, vlan: VLANID?) -> PartialFrame {
    let tags = vlan.map { [VLANTag(control: $0.rawValue)] } ?? []
    return PartialFrame(
      plainFrame(
        from: MACAddress(truncating: 0x0200_0000_0000 + station), to: .broadcast, tags: tags,
        etherType: 0x88B5, payload: [UInt8](repeating: 0, count: 46)))
  }

  // MARK: Steps

  mutating func step() throws {
    switch random.below(46) {
    case 40...: try tell()
    case 0..<26: greet()
    case 26..<30: pass()
    case 30..<33: try addStatic()
    case 33..<36: try remove()
    case 36: try flush()
    case 37, 38: try reconfigure()
    default: try resize()
    }
    try check()
  }

  private mutating func greet() {
    let vlan = random.pick(Self.vlans)
    let frame = Self.greeting(
      from: UInt64(random.within(1...30)), vlan: random.oneIn(4) ? nil : vlan)
    let port = random.below(devices + 3)
    if port < devices {
      let id = PortID(rawValue: UInt16(port))
      journal = "frame from port \(port)"
      host.receive(frame, from: id)
      host.endBurst()
      expectVictimAmongMissing()
      _ = reference.receive(frame, tag: .none, from: id)
    } else if let vni = Self.vni {
      let datagram = vxlanDatagram(vni: vni, frame: frame.bytes)
      let remote = Self.remotes[port - devices]
      journal = "datagram from remote \(port - devices)"
      host.receive(train: datagram, segmentSize: 0, on: ListenerID(rawValue: 0), from: remote)
      host.endBurst()
      expectVictimAmongMissing()
      _ = reference.receive(datagram: datagram, on: ListenerID(rawValue: 0), from: remote)
    }
    _ = host.takeSent()
  }

  private mutating func pass() {
    now &+= random.oneIn(4) ? UInt32(random.below(70)) : UInt32(random.below(6))
    journal = "time \(now)"
    host.tick(now: now)
    reference.tick(now: now)
  }

  private mutating func addStatic() throws {
    let address = MACAddress(truncating: 0x0200_0000_0000 + UInt64(random.within(1...30)))
    let vlan = random.pick(Self.vlans)
    let port = PortID(rawValue: random.oneIn(4) ? 9 : UInt16(random.below(devices + 1)))
    journal = "static \(address) in \(vlan) on \(port.rawValue)"
    let actual = host.datapath.addStaticAddress(address, vlan: vlan, on: port, bridge: Self.bridge)
    expectVictimAmongMissing()
    let expected = reference.addStatic(address, vlan: vlan, on: port, bridge: Self.bridge)
    guard actual == expected else { throw Discrepancy("\(journal): \(actual), not \(expected)") }
  }

  /// An agent says where an address is, or that it is nowhere.
  private mutating func tell() throws {
    let address = MACAddress(truncating: 0x0200_0000_0000 + UInt64(random.within(1...30)))
    let vlan = random.pick(Self.vlans)
    let place: Destination? =
      random.oneIn(3)
      ? nil
      : Destination(
        port: PortID(rawValue: random.oneIn(8) ? 0 : 9),
        peer: RemoteVTEPID(rawValue: UInt16(random.within(0...4))))
    let isSticky = random.oneIn(4)
    journal =
      "agent: \(address) in \(vlan) at \(place.map { "\($0)" } ?? "nowhere"), sticky: \(isSticky)"
    let entry =
      place.map { ExternalEntry.address(address, at: $0, isSticky: isSticky) }
      ?? .lostAddress(address)
    let actual = host.datapath.take([entry], vlan: vlan, bridge: Self.bridge) == 0
    expectVictimAmongMissing()
    let expected = reference.setExternal(
      address, vlan: vlan, at: place, isSticky: isSticky, bridge: Self.bridge)
    guard actual == expected else { throw Discrepancy("\(journal): \(actual), not \(expected)") }
  }

  private mutating func remove() throws {
    let address = MACAddress(truncating: 0x0200_0000_0000 + UInt64(random.within(1...30)))
    let vlan = random.pick(Self.vlans)
    journal = "remove \(address) in \(vlan)"
    let actual = host.datapath.removeAddress(address, vlan: vlan, bridge: Self.bridge)
    let key = ReferenceTable.Key(vlan: vlan, address: address)
    let expected = reference.tables[Self.bridge]?.remove(key) ?? false
    guard actual == expected else { throw Discrepancy("\(journal): \(actual), not \(expected)") }
  }

  private mutating func flush() throws {
    journal = "flush"
    let actual = host.datapath.flushAddresses(of: Self.bridge)
    let expected = reference.tables[Self.bridge]?.flush() ?? 0
    guard actual == expected else { throw Discrepancy("\(journal): \(actual), not \(expected)") }
  }

  /// A port changes its VLANs or waits, or a remote goes and comes.
  private mutating func reconfigure() throws {
    let port = random.below(topology.ports.count)
    if case .tunnel(var tunnel) = topology.ports[port].attachment {
      let whole = Self.topology(devices: 0, limit: 10, agingTime: 0, tunnel: true)
      guard case .tunnel(let original) = whole.ports[0].attachment else { return }
      tunnel.peers = original.peers.filter { _ in !random.oneIn(3) }
      tunnel.learns = !random.oneIn(3)
      topology.ports[port].attachment = .tunnel(tunnel)
    } else {
      let some = VLANMembership.trunk(Set(Self.vlans.filter { _ in !random.oneIn(4) }))
      topology.ports[port].vlans = random.oneIn(2) ? .trunk(nil) : some
      let device = Topology.Device(mtu: 1500, capabilities: .all)
      topology.ports[port].attachment = random.oneIn(4) ? .waiting : .device(device)
    }
    journal = "port \(topology.ports[port])"
    host.apply(topology)
    reference.apply(topology)
  }

  private mutating func resize() throws {
    topology.bridges[0].addressLimit = random.within(10...24)
    topology.bridges[0].agingTime = UInt32(random.within(15...60))
    journal = "limit \(topology.bridges[0].addressLimit)"
    host.apply(topology)
    reference.apply(topology)
    let kept = host.datapath.addresses(of: Self.bridge)
    let lasting = reference.tables[Self.bridge]?.entries.filter { $0.value.lastSeen == nil }.count
    if let wrong = reference.tables[Self.bridge]?.adopt(kept) { throw Discrepancy(wrong) }
    guard
      kept.filter({ $0.age == nil }).count == min(lasting ?? 0, topology.bridges[0].addressLimit)
    else { throw Discrepancy("A smaller table lost addresses that do not age and fit.") }
    let fresh = host.datapath.addressStatistics(of: Self.bridge)
    reference.tables[Self.bridge]?.statistics = fresh
  }

  // MARK: Checks

  /// Lets the reference evict what the switch did, if that is one of the entries it may evict.
  private mutating func expectVictimAmongMissing() {
    let listed = host.datapath.addresses(of: Self.bridge)
    let kept = Set(listed.map { ReferenceTable.Key(vlan: $0.vlan, address: $0.address) })
    reference.chooseVictim = { candidates in candidates.first { !kept.contains($0) } }
  }

  private func check() throws {
    if let violation = host.violations.first { throw Discrepancy(violation) }
    guard let table = reference.tables[Self.bridge] else { return }
    let listed = host.datapath.addresses(of: Self.bridge)
    var statistics = table.statistics
    statistics.statics = table.entries.values.filter { $0.origin == .static }.count
    statistics.external =
      table.entries.values.filter {
        $0.origin == .external || $0.origin == .stickyExternal
      }.count
    try checkTable(
      ReferenceTable.entries(listed, now: reference.now), lineCount: listed.count,
      is: table.entries, counted: host.datapath.addressStatistics(of: Self.bridge),
      as: statistics, limit: topology.bridges[0].addressLimit, after: journal)
  }
}
