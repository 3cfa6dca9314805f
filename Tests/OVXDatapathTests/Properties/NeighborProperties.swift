import Foundation
import OVXDatapath
import OVXSimulation
import Testing

/// The neighbor table against a dictionary, when it is small, full and old.
@Suite struct NeighborProperties {
  @Test func theTableIsWhatADictionaryWouldBe() {
    var crowded = AddressStatistics()
    checkProperty("neighbor table", rounds: 50) { seed in
      var run = NeighborRun(seed: seed)
      for _ in 0..<150 { try run.step() }
      crowded.evicted += run.statistics.evicted
      crowded.limited += run.statistics.limited
      crowded.expired += run.statistics.expired
    }
    // One seed alone, replayed, may show less.
    guard ProcessInfo.processInfo.environment["OVX_SEED"] == nil else { return }
    #expect(crowded.evicted > 0 && crowded.limited > 0 && crowded.expired > 0)
  }
}

/// One bridge with a small table, and the same in the reference.
private struct NeighborRun {
  private static let bridge = BridgeID(rawValue: 0)

  private var random: SeededRandom
  private let host: SimulatedHost
  private var reference = ReferenceSwitch()
  private var topology: Topology
  private var now: UInt32
  private var journal = ""

  var statistics: AddressStatistics { host.datapath.neighborStatistics(of: Self.bridge).table }

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    let devices = random.within(2...4)
    var ports = (0..<devices).map { number in
      Topology.Port(
        id: PortID(rawValue: UInt16(number)), bridge: Self.bridge, vlans: .trunk(nil),
        attachment: .device(Topology.Device(mtu: 1500, capabilities: .all)))
    }
    let peers = (1...2).map { number in
      Topology.Peer(
        id: RemoteVTEPID(rawValue: UInt16(number)), remote: Self.remote(number),
        paths: UInt32(number)..<UInt32(number + 1), mtu: 1450)
    }
    if let vni = VNI(rawValue: 77) {
      ports.append(
        Topology.Port(
          id: PortID(rawValue: 9), bridge: Self.bridge, vlans: .trunk(nil),
          attachment: .tunnel(
            Topology.Tunnel(vni: vni, endpoint: ListenerID(rawValue: 0), peers: peers))))
    }
    topology = Topology(
      bridges: [
        Topology.Bridge(
          id: Self.bridge, agingTime: random.oneIn(4) ? 0 : UInt32(random.within(15...60)),
          addressLimit: random.within(10...90))
      ], ports: ports)
    now = random.oneIn(3) ? UInt32.max - UInt32(random.below(100)) : random.bits(UInt32.self)
    host = SimulatedHost(topology, seed: random.next())
    reference.apply(topology)
    host.tick(now: now)
    reference.tick(now: now)
  }

  private static func remote(_ number: Int) -> IPAddress {
    IPAddress(v4: 0x0A09_0000 + UInt32(number))
  }

  mutating func step() throws {
    switch random.below(60) {
    case 0..<48: for _ in 0..<random.within(1...4) { try announce() }
    case 48..<54: pass()
    case 54: try flush()
    case 55, 56: reconfigure()
    default: resize()
    }
    try check()
  }

  /// A station, of many on one port and few on the others, tells its address.
  private mutating func announce() throws {
    let port = random.oneIn(2) ? 0 : random.below(topology.ports.count)
    let station = UInt64(port * 1000 + random.below(port == 0 ? 60 : 20))
    let isIPv6 = random.oneIn(3)
    // Most have an address of their own, some one that another has as well.
    let number = random.oneIn(8) ? UInt64(random.below(20)) : station
    let ip =
      isIPv6
      ? IPAddress(v6High: 0xFD00_0000_0000_0000, low: number + 2)
      : IPAddress(v4: 0x0A00_0001 + UInt32(number))
    let address = MACAddress(truncating: 0x0200_0000_0000 + station)
    var frame = neighborAnnouncement(of: ip, at: address, isRouter: random.oneIn(10))
    if random.oneIn(2) { frame.insert(contentsOf: [0x81, 0, 0, 5], at: 12) }
    journal = "\(frame.hexadecimal) from \(port)"
    if case .tunnel(let tunnel) = topology.ports[port].attachment {
      let datagram = vxlanDatagram(vni: tunnel.vni, frame: frame)
      let remote = Self.remote(random.within(1...2))
      host.receive(train: datagram, segmentSize: 0, on: ListenerID(rawValue: 0), from: remote)
      host.endBurst()
      expectVictimsAmongMissing()
      _ = reference.receive(datagram: datagram, on: ListenerID(rawValue: 0), from: remote)
    } else {
      host.receive(PartialFrame(frame), from: topology.ports[port].id)
      host.endBurst()
      expectVictimsAmongMissing()
      _ = reference.receive(PartialFrame(frame), tag: .none, from: topology.ports[port].id)
    }
    _ = host.takeSent()
  }

  private mutating func pass() {
    now &+= random.oneIn(4) ? UInt32(random.below(70)) : UInt32(random.below(6))
    journal = "time \(now)"
    host.tick(now: now)
    reference.tick(now: now)
  }

  private mutating func flush() throws {
    journal = "flush"
    let actual = host.datapath.flushNeighbors(of: Self.bridge)
    let expected = reference.neighbors[Self.bridge]?.flush() ?? 0
    guard actual == expected else { throw Discrepancy("\(journal): \(actual), not \(expected)") }
  }

  /// A port changes its VLANs, or waits.
  private mutating func reconfigure() {
    let port = random.below(topology.ports.count)
    topology.ports[port].vlans =
      random.oneIn(2) ? .trunk(nil) : .trunk(Set([0, 5].compactMap(VLANID.init).prefix(1)))
    if case .tunnel = topology.ports[port].attachment {
    } else {
      let device = Topology.Device(mtu: 1500, capabilities: .all)
      topology.ports[port].attachment = random.oneIn(4) ? .waiting : .device(device)
    }
    journal = "port \(topology.ports[port])"
    host.apply(topology)
    reference.apply(topology)
  }

  private mutating func resize() {
    topology.bridges[0].addressLimit = random.within(10...90)
    journal = "limit \(topology.bridges[0].addressLimit)"
    host.apply(topology)
    reference.apply(topology)
    // Which of equals stay is the switch's choice, in both tables.
    _ = reference.tables[Self.bridge]?.adopt(host.datapath.addresses(of: Self.bridge))
    let kept = host.datapath.neighbors(of: Self.bridge)
    let time = reference.now
    reference.neighbors[Self.bridge]?.adopt(kept, now: time)
    let counted = statistics
    reference.neighbors[Self.bridge]?.statistics = counted
  }

  /// Lets the reference give up what the switch did, where it has a choice.
  private mutating func expectVictimsAmongMissing() {
    let neighbors = ReferenceNeighbors.entries(
      host.datapath.neighbors(of: Self.bridge), now: reference.now)
    reference.chooseNeighbor = { candidates in candidates.first { neighbors[$0] == nil } }
    let listed = host.datapath.addresses(of: Self.bridge)
    let kept = Set(listed.map { ReferenceTable.Key(vlan: $0.vlan, address: $0.address) })
    reference.chooseVictim = { candidates in candidates.first { !kept.contains($0) } }
  }

  private func check() throws {
    if let violation = host.violations.first { throw Discrepancy(violation) }
    guard let table = reference.neighbors[Self.bridge] else { return }
    let listed = host.datapath.neighbors(of: Self.bridge)
    let limit = topology.bridges[0].addressLimit
    try checkTable(
      ReferenceNeighbors.entries(listed, now: reference.now), lineCount: listed.count,
      is: table.entries, counted: statistics, as: table.statistics, limit: limit, after: journal)
    for port in topology.ports where port.id.rawValue < 9 {
      let held = listed.count { $0.port == port.id }
      guard held <= max(limit / 8, 8) else {
        throw Discrepancy("\(journal): port \(port.id.rawValue) holds \(held), limit \(limit)")
      }
    }
  }
}
