import OVXDatapath
import OVXSimulation
import Testing

/// Frames do not meddle with each other: there is no memory of what was decided that could be too
/// wide.
@Suite struct IndependenceProperties {
  /// What becomes of a frame is the same whichever frame came before, as long as that told the same
  /// by its source.
  ///
  /// The frame before differs from it in one field of its headers, or is of another kind
  /// altogether.
  @Test func noDecisionIsTakenOverFromAnotherFrame() {
    checkProperty("independence", rounds: 40) { seed in
      // Nobody learns from what a port may not send, so it would not tell the same.
      var run = IndependenceRun(seed: seed, hasSecurity: false)
      for _ in 0..<40 { try run.step() }
    }
  }

  /// What is on its way when the topology changes leaves as if it had left before: nothing refers
  /// to what is gone.
  @Test func aChangeWithinABurstChangesNothingOfIt() {
    checkProperty("change within a burst", rounds: 60) { seed in
      var run = IndependenceRun(seed: seed, hasSecurity: true)
      for _ in 0..<20 { try run.changeWithinABurst() }
    }
  }
}

/// Two switches with the same past.
private struct IndependenceRun {
  private var random: SeededRandom
  private var frames: FrameGenerator
  private var topologies: TopologyGenerator
  private let hosts: [SimulatedHost]
  private var now: UInt32 = 1000

  init(seed: UInt64, hasSecurity: Bool) {
    random = SeededRandom(seed: seed)
    topologies = TopologyGenerator(seed: random.next())
    topologies.hasSecurity = hasSecurity
    topologies.addressLimits = 1000...1000
    topologies.hasAmpleMTU = random.oneIn(3)
    frames = FrameGenerator(seed: random.next(), vlans: topologies.vlans)
    let topology = topologies.generate()
    let seed = random.next()
    hosts = [SimulatedHost(topology, seed: seed), SimulatedHost(topology, seed: seed)]
    for host in hosts { host.tick(now: now) }
  }

  // MARK: Independence

  mutating func step() throws {
    if random.oneIn(10) {
      let topology = topologies.change()
      for host in hosts { host.apply(topology) }
    }
    greet()
    guard let (port, remote) = door() else { return }
    let tags = frames.tags()
    let before: [UInt8]
    if random.oneIn(3) {
      before = frames.frame(tags: tags).bytes
    } else {
      before = frames.packet(tags: tags).frame
    }
    guard let anatomy = FrameAnatomy(before), !mayTeach(before) else { return }
    let after = changed(before, behind: anatomy.network)
    // The same to learn from, and nothing else: addresses, tags, and an unknown type.
    let plain =
      Array(before[..<(anatomy.network - 2)]) + [0x88, 0xB5] + [UInt8](repeating: 0, count: 46)

    hosts[0].receive(before, by: port, from: remote)
    hosts[1].receive(plain, by: port, from: remote)
    var outcomes: [([Sent], [UInt64])] = []
    for host in hosts {
      _ = host.takeSent()
      let drops = drops(host)
      host.receive(after, by: port, from: remote)
      outcomes.append((host.takeSent(), zip(self.drops(host), drops).map { $0 &- $1 }))
      if let violation = host.violations.first { throw Discrepancy(violation) }
    }
    guard outcomes[0].0 == outcomes[1].0, outcomes[0].1 == outcomes[1].1 else {
      throw Discrepancy(
        """
        \(after.hexadecimal)
        by port \(port.id.rawValue) became
        \(outcomes[0].0)
        behind \(before.hexadecimal), and
        \(outcomes[1].0)
        behind \(plain.hexadecimal)
        """)
    }
  }

  /// Whether it may tell of neighbors, and so rightly change what becomes of others.
  private func mayTeach(_ frame: [UInt8]) -> Bool {
    guard let anatomy = FrameAnatomy(frame) else { return true }
    return anatomy.etherType == 0x0806 || anatomy.packet?.transportProtocol == 58
      || anatomy.source.isGroup
  }

  /// The frame with one field changed; where it comes from stays.
  private mutating func changed(_ frame: [UInt8], behind network: Int) -> [UInt8] {
    var frame = frame
    switch random.below(6) {
    case 0:
      // Another destination.
      frame.replaceSubrange(0..<6, with: frames.frame(tags: []).bytes.prefix(6))
    case 1:
      frame.setNumber(random.pick([0x0800, 0x86DD, 0x88B5, 0x88CC] as [UInt16]), at: network - 2)
    case 2:
      // The protocol: 0 is one.
      let place = network + (frame[network] >> 4 == 6 ? 6 : 9)
      if place < frame.count { frame[place] = random.pick([0, 0, 1, 6, 17, 44, 60, 255]) }
    default:
      let place = network + random.below(60)
      if place < frame.count { frame[place] ^= UInt8(1) << UInt8(random.below(8)) }
    }
    if random.oneIn(2) { FrameAnatomy(frame)?.fillChecksums(in: &frame) }
    return frame
  }

  /// A port by which frames come in, and for a tunnel from whom.
  private mutating func door() -> (Topology.Port, IPAddress?)? {
    guard let port = hosts[0].topology.ports.randomElement(using: &random) else { return nil }
    guard case .tunnel(let tunnel) = port.attachment else { return (port, nil) }
    return tunnel.peers.isEmpty ? nil : (port, random.pick(tunnel.peers).remote)
  }

  /// Some station says something somewhere, to both.
  private mutating func greet() {
    guard let (port, remote) = door() else { return }
    let frame = frames.frame(tags: frames.tags()).bytes
    for host in hosts {
      host.receive(frame, by: port, from: remote)
      _ = host.takeSent()
    }
  }

  private func drops(_ host: SimulatedHost) -> [UInt64] {
    host.topology.ports.flatMap { host.datapath.counters(of: $0.id).dropsByReason }
      + host.datapath.counters(of: .none).dropsByReason
  }

  // MARK: Changes

  mutating func changeWithinABurst() throws {
    for _ in 0..<random.below(4) { greet() }
    let inputs = (0..<random.within(1...6)).compactMap { _ in
      door().map { ($0.0, $0.1, frames.input()) }
    }
    // Whatever may go at once: ports, tunnels, the size of the tables.
    var next = topologies.topology
    for _ in 0..<random.within(1...5) { next = topologies.change() }
    for index in next.bridges.indices where random.oneIn(2) {
      next.bridges[index].addressLimit = random.within(200...1000)
    }
    var outcomes: [[Sent]] = []
    for (index, host) in hosts.enumerated() {
      for (port, remote, input) in inputs {
        if let remote, case .tunnel(let tunnel) = port.attachment {
          host.receive(
            train: vxlanDatagram(vni: tunnel.vni, frame: input.frame.bytes), segmentSize: 0,
            on: tunnel.endpoint, from: remote)
        } else {
          host.receive(input.frame, tag: input.tag, from: port.id)
        }
      }
      if index == 0 { host.endBurst() }
      var sent = index == 0 ? host.takeSent() : []
      host.apply(next)
      if index == 1 {
        host.endBurst()
        sent = host.takeSent()
      }
      if let violation = host.violations.first { throw Discrepancy(violation) }
      outcomes.append(sent)
    }
    guard outcomes[0] == outcomes[1] else {
      throw Discrepancy("A burst came to\n\(outcomes[0])\nor, cut short, to\n\(outcomes[1])")
    }
    for host in hosts { host.apply(topologies.topology) }
  }
}
