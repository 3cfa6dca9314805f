import Foundation
import OVXDatapath
import OVXSimulation
import Testing

/// The fast path against the switch: a decision that still holds is the one that the switch would
/// take.
@Suite struct FastPathProperties {
  @Test func nothingIsForwardedThatTheSwitchWouldNot() {
    var repeated = 0
    var repeatedOfSecured = 0
    checkProperty("fast path", rounds: 60) { seed in
      let run = FastPathRun(seed: seed)
      for _ in 0..<400 { try run.step() }
      repeated += run.repeated
      repeatedOfSecured += run.repeatedOfSecured
    }
    guard ProcessInfo.processInfo.environment["OVX_SEED"] == nil else { return }
    #expect(repeated > 500, "only \(repeated) frames met a decision that held")
    #expect(repeatedOfSecured > 20, "only \(repeatedOfSecured) of them by ports with rules")
  }
}

/// A switch, and what programs in the kernel would have of it: entries by what a frame is known by,
/// each with the numbers by which it holds, put in late and in any order, and never looked through.
@safe
private final class FastPathRun {
  /// What the programs find an entry by.
  private struct Key: Hashable {
    var device: UInt32
    var remote: IPAddress?
    var vni: VNI?
    var port: UInt16?
    var source: MACAddress
    var target: MACAddress
    var sender: IPAddress?
  }

  private struct Entry {
    var offer: FlowOffer
    var flow: FastPathFlow
  }

  private static let slotCount = 256
  private var random: SeededRandom
  private var frames: FrameGenerator
  private var topologies: TopologyGenerator
  private let host: SimulatedHost
  private let numbers: UnsafeMutablePointer<UInt64>
  private let generations: Generations
  private var entries: [Key: Entry] = [:]
  private var late: [(Key, Entry)] = []
  private var now: UInt32 = 1000
  /// Frames for which there was a decision that held.
  private(set) var repeated = 0
  /// Those of them by ports that are told what they may send.
  private(set) var repeatedOfSecured = 0
  /// Where stations are, most of the time.
  private var homes: [MACAddress: (port: PortID, remote: IPAddress?)] = [:]

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    topologies = TopologyGenerator(seed: random.next())
    topologies.addressLimits = 20...1000
    frames = FrameGenerator(seed: random.next(), vlans: topologies.vlans)
    unsafe numbers = .allocate(capacity: Self.slotCount)
    unsafe numbers.initialize(repeating: 1, count: Self.slotCount)
    unsafe generations = Generations(numbers, count: Self.slotCount, seed: random.next())
    host = SimulatedHost(Self.onFastPath(topologies.generate()), seed: random.next())
    host.datapath.offerFlows(by: generations)
    host.tick(now: now)
  }

  deinit { unsafe numbers.deallocate() }

  /// Half of the addresses that packets are sent from, of both families.
  private static let security: PortSecurity = {
    var plan = PacketPlan(
      from: MACAddress(truncating: 1), to: MACAddress(truncating: 2))
    plan.sourceHost = 0
    let prefixes = [false, true].map { isIPv6 in
      plan.isIPv6 = isIPv6
      let base = sender(of: plan.frame)
      return PortSecurity.Prefix(base: base, length: isIPv6 ? 127 : 31)
    }
    return PortSecurity(addresses: prefixes)
  }()

  /// The same topology with the fast path for all that may have it, and most ports in one segment,
  /// so that stations meet.
  private static func onFastPath(_ topology: Topology) -> Topology {
    var topology = topology
    for number in topology.ports.indices {
      if topology.ports[number].id.rawValue % 4 != 0 {
        topology.ports[number].vlans = .trunk(nil)
        topology.ports[number].priorityTags = .never
        let isSecured = topology.ports[number].id.rawValue % 4 == 1
        topology.ports[number].security = isSecured ? security : nil
      }
      switch topology.ports[number].attachment {
      case .device(var device):
        device.fastPathIndex = UInt32(topology.ports[number].id.rawValue) + 1
        topology.ports[number].attachment = .device(device)
      case .tunnel(var tunnel):
        for peer in tunnel.peers.indices {
          tunnel.peers[peer].fastPath = FastPathRoute(
            device: 9999,
            outer: OuterPath(
              source: MACAddress(truncating: 1),
              destination: MACAddress(truncating: 2), local: IPAddress(v4: 1),
              remote: tunnel.peers[peer].remote, port: 4789))
        }
        topology.ports[number].attachment = .tunnel(tunnel)
      case .waiting: break
      }
    }
    return topology
  }

  func step() throws {
    switch random.below(40) {
    case 0:
      host.apply(Self.onFastPath(topologies.change()))
      generations.change(Generations.topology)
    case 1:
      now &+= UInt32(random.below(60))
      host.tick(now: now)
      host.datapath.forgetFlowOffers()
    case 2: changeTable()
    default: try converse()
    }
    while !late.isEmpty, random.oneIn(2) {
      let (key, entry) = late.remove(at: random.below(late.count))
      entries[key] = entry
    }
  }

  /// Somebody else than a frame changes the address table.
  private func changeTable() {
    guard let port = host.topology.ports.randomElement(using: &random) else { return }
    let station = random.pick(frames.stations)
    let vlan = random.pick(topologies.vlans)
    switch random.below(4) {
    case 0: _ = host.datapath.flushAddresses(of: port.bridge)
    case 1: _ = host.datapath.removeAddress(station, vlan: vlan, bridge: port.bridge)
    default:
      _ = host.datapath.addStaticAddress(station, vlan: vlan, on: port.id, bridge: port.bridge)
    }
  }

  /// The few stations that talk, so that they meet again.
  private var stations: [MACAddress] { Array(frames.stations.prefix(5)) }

  /// Where a station is: it moves now and then, and when its place is gone.
  private func home(of station: MACAddress) -> (Topology.Port, IPAddress?)? {
    if let home = homes[station], !random.oneIn(25), let port = host.topology.port(home.port) {
      switch (port.attachment, home.remote) {
      case (.device, nil): return (port, nil)
      case (.tunnel(let tunnel), let remote?):
        if tunnel.peers.contains(where: { $0.remote == remote }) { return (port, remote) }
      default: break
      }
    }
    guard let port = host.topology.ports.randomElement(using: &random) else { return nil }
    var remote: IPAddress?
    if case .tunnel(let tunnel) = port.attachment {
      guard let peer = tunnel.peers.randomElement(using: &random) else { return nil }
      remote = peer.remote
    }
    homes[station] = (port.id, remote)
    return (port, remote)
  }

  /// Has a segment of TCP come in somewhere, and holds what the programs would do with it against
  /// what the switch does.
  private func converse() throws {
    let source = random.pick(stations)
    let target = random.oneIn(20) ? random.pick(frames.stations) : random.pick(stations)
    guard let (port, remote) = home(of: source) else { return }
    var bytes = frames.packet(tags: [], isTCP: true).frame
    bytes.replaceSubrange(0..<12, with: target.octets + source.octets)
    guard let anatomy = FrameAnatomy(bytes), let packet = anatomy.packet, packet.isTCP,
      !packet.isFragment
    else { return }
    var key = Key(device: 0, source: source, target: target)
    switch port.attachment {
    case .waiting: return
    case .device(let device): key.device = device.fastPathIndex ?? 0
    case .tunnel(let tunnel):
      (key.device, key.remote, key.vni, key.port) = (9999, remote, tunnel.vni, 4789)
    }
    var secured = key
    secured.sender = Self.sender(of: bytes)
    let decided = (entries[key] ?? entries[secured]).flatMap { entry in
      isCurrent(entry.offer) && bytes.count - 14 <= entry.flow.mtu ? entry : nil
    }
    host.receive(bytes, by: port, from: remote)
    while let offer = host.datapath.takeFlowOffer() {
      guard let flow = host.datapath.flow(of: offer) else { continue }
      late.append((self.key(of: offer, flow), Entry(offer: offer, flow: flow)))
    }
    let sent = host.takeSent()
    if let violation = host.violations.first { throw Discrepancy(violation) }
    guard let decided else { return }
    repeated += 1
    if decided.offer.sender != nil { repeatedOfSecured += 1 }
    let ways = try ways(of: sent)
    let expected = WayOut(
      port: decided.offer.destination.port, peer: decided.offer.destination.peer)
    guard ways == [expected] else {
      throw Discrepancy(
        """
        The fast path sends to \(expected), the switch to \(ways):
        \(bytes.hexadecimal) by port \(port.id.rawValue)
        \(decided.offer)
        \(host.topology.ports.map { "\($0)" }.joined(separator: "\n"))
        """)
    }
  }

  /// The address that an IPv4 packet or one of IPv6 is sent from, read where the programs read it.
  private static func sender(of frame: [UInt8]) -> IPAddress {
    func word(_ at: Int) -> UInt64 { frame[at..<at + 4].reduce(0) { $0 << 8 | UInt64($1) } }
    guard frame[12] == 0x86 else { return IPAddress(v4: UInt32(word(26))) }
    return IPAddress(v6High: word(22) << 32 | word(26), low: word(30) << 32 | word(34))
  }

  private func ways(of sent: [Sent]) throws -> [WayOut] {
    try sent.map { sent in
      switch sent {
      case .frame(_, let port): return WayOut(port: port, peer: .none)
      case .datagram(_, let path, let port, _):
        guard let (owner, _, peer) = host.topology.peer(of: path), owner == port else {
          throw Discrepancy("A datagram of port \(port.rawValue) left by path \(path.rawValue).")
        }
        return WayOut(port: port, peer: peer.id)
      }
    }
  }

  private func isCurrent(_ offer: FlowOffer) -> Bool {
    offer.topologyGeneration == generations[Generations.topology]
      && offer.sourceGeneration == generations[offer.sourceSlot]
      && offer.targetGeneration == generations[offer.targetSlot]
  }

  private func key(of offer: FlowOffer, _ flow: FastPathFlow) -> Key {
    Key(
      device: flow.device, remote: flow.tunnel.map { IPAddress(v4: $0.header.remote) },
      vni: flow.tunnel.flatMap { VNI(rawValue: $0.vni) }, port: flow.tunnel?.header.port,
      source: offer.source, target: offer.target, sender: offer.sender)
  }
}
