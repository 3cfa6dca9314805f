import OVXDatapath
import OVXSimulation
import Testing

/// The switch against the reference: the same frames, in the same bursts, in the same random topologies.
@Suite struct ForwardingProperties {
  @Test func everyFrameLeavesAsTheReferenceSays() {
    checkProperty("forwarding", rounds: 40) { seed in
      var run = Comparison(seed: seed)
      for _ in 0..<40 { try run.step() }
    }
  }
}

/// A switch and the reference, side by side, and the dice.
private struct Comparison {
  private var random: SeededRandom
  private var frames: FrameGenerator
  private var topologies: TopologyGenerator
  private let host: SimulatedHost
  private var reference = ReferenceSwitch()
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
    var outcome = ReferenceSwitch.Outcome()
    for _ in 0..<random.within(1...4) {
      outcome += random.oneIn(3) ? receiveTrain() : receiveFrame()
    }
    host.endBurst()
    let sent = host.takeSent()
    if let violation = host.violations.first { throw Discrepancy(violation) }
    if outcome.isDisputable { return adoptDrops() }
    let actual = try Traffic(sent, in: host.topology)
    let expected = try Traffic(outcome.deliveries)
    if let difference = actual.difference(from: expected) { throw Discrepancy(difference) }
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

  // MARK: Stimuli

  private mutating func receiveFrame() -> ReferenceSwitch.Outcome {
    let stimulus = frames.stimulus()
    let ports = host.topology.ports.map(\.id)
    let port = ports.isEmpty || random.oneIn(30) ? PortID(rawValue: 50) : random.pick(ports)
    journal.append(
      "port \(port.rawValue) \(stimulus.tag) \(stimulus.frame.offload) \(stimulus.frame.bytes.hexadecimal)"
    )
    host.receive(stimulus.frame, tag: stimulus.tag, from: port)
    return reference.receive(stimulus.frame, tag: stimulus.tag, from: port)
  }

  private mutating func receiveTrain() -> ReferenceSwitch.Outcome {
    var endpoint = EndpointID(rawValue: UInt16(random.below(2)))
    var remote = random.pick(TopologyGenerator.remotes)
    var vni = random.pick(TopologyGenerator.vnis)
    if !random.oneIn(6), let tunnel = randomTunnel(), !tunnel.peers.isEmpty {
      (endpoint, vni) = (tunnel.endpoint, tunnel.vni)
      remote = random.pick(tunnel.peers).remote
    }
    let datagrams = train(vni: vni)
    journal += datagrams.map { "\(remote.low) \(endpoint.rawValue) \($0.hexadecimal)" }
    host.receive(
      train: datagrams.flatMap { $0 },
      segmentSize: datagrams.count > 1 ? datagrams[0].count : 0,
      on: endpoint,
      from: remote
    )
    var outcome = ReferenceSwitch.Outcome()
    for datagram in datagrams {
      outcome += reference.receive(datagram: datagram, on: endpoint, from: remote)
    }
    return outcome
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
      let actual = host.datapath.endpointDrops[Int(reason.rawValue)]
      let expected = drops[ReferenceSwitch.Drop(reason: reason, port: .none)] ?? 0
      guard actual == expected else {
        throw Discrepancy("No port counts \(actual) × \(reason.symbol), not \(expected).")
      }
    }
  }

  /// Starts counting from what the switch counts.
  private mutating func adoptDrops() {
    for reason in DropReason.allCases {
      for port in host.topology.ports {
        drops[ReferenceSwitch.Drop(reason: reason, port: port.id)] =
          host.datapath.counters(of: port.id)[reason]
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
    }
  }
}
