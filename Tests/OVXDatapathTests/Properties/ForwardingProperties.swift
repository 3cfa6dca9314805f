import Foundation
import OVXDatapath
import OVXSimulation
import Testing

/// The switch against the reference: the same frames, in the same bursts, in the same random
/// topologies.
@Suite struct ForwardingProperties {
  @Test func everyFrameLeavesAsTheReferenceSays() {
    var answers: UInt64 = 0
    checkProperty("forwarding", rounds: 40) { seed in
      var run = Comparison(seed: seed)
      for _ in 0..<40 { try run.step() }
      answers += run.answers
    }
    // One seed alone, replayed, may have none.
    guard ProcessInfo.processInfo.environment["OVX_SEED"] == nil else { return }
    #expect(answers > 0, "No question was answered: the frames show nothing of suppression.")
  }
}

/// A switch and the reference, side by side, and the dice.
private struct Comparison {
  private var random: SeededRandom
  private var frames: FrameGenerator
  private var topologies: TopologyGenerator
  private let host: SimulatedHost
  private var reference = ReferenceSwitch()
  private var rules = SegmentRules(Topology())
  /// Drops that the reference counted since each port was made.
  private var drops: [ReferenceSwitch.Drop: UInt64] = [:]
  private var now: UInt32
  /// What the current burst brought, for the report of a failure.
  private var journal: [String] = []

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    topologies = TopologyGenerator(seed: random.next())
    topologies.addressLimits = 1000...1000
    topologies.hasAmpleMTU = random.oneIn(3)
    frames = FrameGenerator(seed: random.next(), vlans: topologies.vlans)
    frames.payloadLimit = random.oneIn(4) ? 1600 : 1400
    if random.oneIn(10) { frames.superframeLimit = 64_000 }
    now = random.bits(UInt32.self)
    let topology = topologies.generate()
    host = SimulatedHost(topology, seed: random.next())
    reference.apply(topology)
    tick()
  }

  /// Questions that were answered so far instead of flooded.
  var answers: UInt64 { reference.answers.values.reduce(0, &+) }

  private mutating func tick() {
    now &+= UInt32(random.below(20))
    host.tick(now: now)
    reference.tick(now: now)
  }

  /// One burst, preceded now and then by a change of the topology or by time.
  mutating func step() throws {
    journal = []
    do {
      try burst()
    } catch let error as Discrepancy {
      let ports = host.topology.ports.map { "\($0)" }
      throw Discrepancy("\(error)\n" + (journal + ports).joined(separator: "\n"))
    }
  }

  private mutating func burst() throws {
    if random.oneIn(12) { reconfigure() }
    if random.oneIn(8) { tick() }
    if random.oneIn(8) { try setStatic() }
    rules = SegmentRules(host.topology)
    var outcome = ReferenceSwitch.Outcome()
    for _ in 0..<random.within(1...4) {
      switch random.below(12) {
      case 0: outcome += askAround()
      case 1..<5: outcome += receiveTrain()
      default: outcome += receiveFrame()
      }
    }
    host.endBurst()
    let sent = host.takeSent()
    if let violation = host.violations.first { throw Discrepancy(violation) }
    let broken = rules.violation(in: sent)
    if outcome.isDisputable { return adoptDrops() }
    let actual = try Traffic(sent, in: host.topology)
    let expected = try Traffic(outcome.deliveries)
    if let difference = actual.difference(from: expected) { throw Discrepancy(difference) }
    if let broken { throw Discrepancy(broken) }
    try checkWhole(outcome.deliveries.filter { $0.isWhole }, sent)
    try checkDrops(outcome.drops)
    try checkAddresses()
  }

  /// An operator names the place of an address, or takes one back.
  private mutating func setStatic() throws {
    let address = random.pick(frames.stations)
    let vlan = random.pick(topologies.vlans)
    guard let port = host.topology.ports.randomElement(using: &random) else { return }
    if random.oneIn(3) {
      let actual = host.datapath.removeAddress(address, vlan: vlan, bridge: port.bridge)
      let key = ReferenceTable.Key(vlan: vlan, address: address)
      guard actual == reference.tables[port.bridge]?.remove(key) else {
        throw Discrepancy("Removing \(address) in VLAN \(vlan) says \(actual).")
      }
    } else {
      let actual = host.datapath.addStaticAddress(
        address, vlan: vlan, on: port.id, bridge: port.bridge)
      let expected = reference.addStatic(address, vlan: vlan, on: port.id, bridge: port.bridge)
      guard actual == expected else {
        throw Discrepancy("\(address) on port \(port.id.rawValue) in VLAN \(vlan): \(actual).")
      }
    }
  }

  private mutating func reconfigure() {
    let before = Set(topologies.topology.ports.map(\.id))
    let topology = topologies.change()
    let added = Set(topology.ports.map(\.id)).subtracting(before)
    drops = drops.filter { !added.contains($0.key.port) }
    host.apply(topology)
    reference.apply(topology)
  }

  // MARK: Inputs

  private mutating func receiveFrame() -> ReferenceSwitch.Outcome {
    let input = frames.input()
    let ports = host.topology.ports.map(\.id)
    let port = ports.isEmpty || random.oneIn(30) ? PortID(rawValue: 50) : random.pick(ports)
    return receive(input.frame, tag: input.tag, from: port)
  }

  private mutating func receive(
    _ frame: PartialFrame, tag: VLANTag = .none, from port: PortID
  ) -> ReferenceSwitch.Outcome {
    journal.append("port \(port.rawValue) \(tag) \(frame.offload) \(frame.bytes.hexadecimal)")
    rules.note(frame, tag: tag, from: port)
    host.receive(frame, tag: tag, from: port)
    return reference.receive(frame, tag: tag, from: port)
  }

  /// One station tells its address, most of the time behind a tunnel, and another one asks for it.
  private mutating func askAround() -> ReferenceSwitch.Outcome {
    let tunnels = host.topology.ports.filter { port in
      guard case .tunnel(let tunnel) = port.attachment else { return false }
      return !tunnel.peers.isEmpty
    }
    let devices = host.topology.ports.filter { port in
      guard case .device = port.attachment else { return false }
      return true
    }
    guard !tunnels.isEmpty, !devices.isEmpty else { return ReferenceSwitch.Outcome() }
    let vlan = random.pick(topologies.vlans)
    let tunnel = random.pick(tunnels)
    let near = devices.filter { $0.bridge == tunnel.bridge && $0.vlans.carries(vlan) }
    guard !near.isEmpty else { return ReferenceSwitch.Outcome() }
    let place = random.pick(near)
    let (asker, other) = (random.pick(frames.stations), random.pick(frames.stations))
    let isIPv6 = random.oneIn(2)
    var outcome = ReferenceSwitch.Outcome()
    let introduction = frames.announcement(of: other, isIPv6: isIPv6, tags: tags(vlan, on: tunnel))
    if random.oneIn(4) {
      outcome += receive(
        frames.announcement(of: other, isIPv6: isIPv6, tags: tags(vlan, on: place)),
        from: random.pick(near).id)
    } else if case .tunnel(let tunnel) = tunnel.attachment {
      let datagram = vxlanDatagram(vni: tunnel.vni, frame: introduction.bytes)
      let remote = random.pick(tunnel.peers).remote
      journal.append("\(remote.low) \(tunnel.endpoint.rawValue) \(datagram.hexadecimal)")
      rules.note(datagrams: [datagram], on: tunnel.endpoint, from: remote, trafficClass: 0)
      host.receive(train: datagram, segmentSize: 0, on: tunnel.endpoint, from: remote)
      outcome += reference.receive(datagram: datagram, on: tunnel.endpoint, from: remote)
    }
    if !random.oneIn(4) {
      let greeting = frames.announcement(of: asker, isIPv6: isIPv6, tags: tags(vlan, on: place))
      outcome += receive(greeting, from: place.id)
    }
    let question = frames.question(
      for: other, from: asker, isIPv6: isIPv6, tags: tags(vlan, on: place))
    outcome += receive(question, from: place.id)
    return outcome
  }

  /// How a port tags frames of a VLAN.
  private func tags(_ vlan: VLANID, on port: Topology.Port) -> [VLANTag] {
    switch port.vlans {
    case .access, .dot1qTunnel: []
    case .trunk, .nativeTagged, .nativeUntagged:
      vlan == .untagged ? [] : [VLANTag(control: vlan.rawValue)]
    }
  }

  private mutating func receiveTrain() -> ReferenceSwitch.Outcome {
    var endpoint = ListenerID(rawValue: UInt16(random.below(2)))
    var remote = random.pick(TopologyGenerator.remotes)
    var vni = random.pick(TopologyGenerator.vnis)
    if !random.oneIn(6), let tunnel = randomTunnel(), !tunnel.peers.isEmpty {
      (endpoint, vni) = (tunnel.endpoint, tunnel.vni)
      remote = random.pick(tunnel.peers).remote
    }
    let datagrams = train(vni: vni)
    journal += datagrams.map { "\(remote.low) \(endpoint.rawValue) \($0.hexadecimal)" }
    let trafficClass = random.oneIn(2) ? 0 : UInt8(random.below(256))
    journal.append("with traffic class \(trafficClass)")
    rules.note(datagrams: datagrams, on: endpoint, from: remote, trafficClass: trafficClass)
    host.receive(
      train: datagrams.flatMap { $0 },
      segmentSize: datagrams.count > 1 ? datagrams[0].count : 0,
      on: endpoint,
      from: remote,
      trafficClass: trafficClass
    )
    return reference.receive(
      train: datagrams, on: endpoint, from: remote, trafficClass: trafficClass)
  }

  private mutating func randomTunnel() -> Topology.Tunnel? {
    let tunnels = host.topology.ports.compactMap { port -> Topology.Tunnel? in
      guard case .tunnel(let tunnel) = port.attachment else { return nil }
      return tunnel
    }
    return tunnels.isEmpty ? nil : random.pick(tunnels)
  }

  /// Datagrams of one size but the last: the segments of a stream, some of another VNI or spoilt.
  private mutating func train(vni: VNI) -> [[UInt8]] {
    if random.oneIn(2) { return [datagram(vni: vni)] }
    var segments = frames.conversations(tags: frames.tags(), count: random.within(2...30))
    for index in segments.indices where random.oneIn(25) {
      let position = random.below(min(segments[index].count, 90))
      segments[index][position] ^= UInt8(1) << UInt8(random.below(8))
    }
    if random.oneIn(6) { segments.swapAt(0, random.below(segments.count - 1)) }
    return segments.map { frame in
      vxlanDatagram(vni: random.oneIn(40) ? random.pick(TopologyGenerator.vnis) : vni, frame: frame)
    }
  }

  private mutating func datagram(vni: VNI) -> [UInt8] {
    var frame = frames.frame(tags: frames.tags())
    if random.oneIn(25) { frame = frames.broken(frame) }
    var datagram = vxlanDatagram(vni: vni, frame: frame.bytes)
    if random.oneIn(40) { datagram[random.below(8)] ^= UInt8(1) << UInt8(random.below(8)) }
    if random.oneIn(40) { datagram = Array(datagram.prefix(random.below(24))) }
    return datagram
  }

  // MARK: Checks

  /// A superframe goes to a device that takes it exactly as it came.
  private func checkWhole(_ whole: [ReferenceSwitch.Delivery], _ sent: [Sent]) throws {
    for delivery in whole {
      let isThere = sent.contains { sent in
        guard case .frame(var actual, delivery.port) = sent else { return false }
        if delivery.frame.segmentCount == 1 {
          actual.offload.segmentSize = delivery.frame.offload.segmentSize
        }
        actual.offload.headerLength = delivery.frame.offload.headerLength
        return actual == delivery.frame
      }
      if !isThere {
        throw Discrepancy(
          "Port \(delivery.port.rawValue) did not get a superframe whole: "
            + delivery.frame.bytes.hexadecimal
        )
      }
    }
  }

  private mutating func checkDrops(_ new: [ReferenceSwitch.Drop]) throws {
    for drop in new { drops[drop, default: 0] += 1 }
    for reason in DropReason.allCases {
      for port in host.topology.ports {
        let actual = host.datapath.counters(of: port.id)[reason]
        let expected = drops[ReferenceSwitch.Drop(reason: reason, port: port.id)] ?? 0
        guard actual == expected else {
          throw Discrepancy(
            "Port \(port.id.rawValue) counts \(actual) × \(reason.symbol), not \(expected)."
          )
        }
      }
      let actual = host.datapath.counters(of: .none)[reason]
      let expected = drops[ReferenceSwitch.Drop(reason: reason, port: .none)] ?? 0
      guard actual == expected else {
        throw Discrepancy("No port counts \(actual) × \(reason.symbol), not \(expected).")
      }
    }
  }

  /// Starts counting from what the switch counts.
  private mutating func adoptDrops() {
    for reason in DropReason.allCases {
      for port in host.topology.ports.map(\.id) + [.none] {
        drops[ReferenceSwitch.Drop(reason: reason, port: port)] =
          host.datapath.counters(of: port)[reason]
      }
    }
  }

  private func checkAddresses() throws {
    for bridge in host.topology.bridges {
      let listed = host.datapath.addresses(of: bridge.id)
      let actual = ReferenceTable.entries(listed, now: reference.now)
      let expected = reference.tables[bridge.id]?.entries ?? [:]
      guard actual == expected, listed.count == expected.count else {
        throw Discrepancy("Bridge \(bridge.id.rawValue) knows \(actual), not \(expected).")
      }
      let known = host.datapath.neighbors(of: bridge.id)
      let neighbors = ReferenceNeighbors.entries(known, now: reference.now)
      let wanted = reference.neighbors[bridge.id]?.entries ?? [:]
      guard neighbors == wanted, known.count == wanted.count else {
        throw Discrepancy("Bridge \(bridge.id.rawValue) has \(neighbors), not \(wanted).")
      }
      let answers = host.datapath.neighborStatistics(of: bridge.id).answered
      guard answers == reference.answers[bridge.id] ?? 0 else {
        throw Discrepancy("Bridge \(bridge.id.rawValue) has answered \(answers) questions.")
      }
    }
  }
}
