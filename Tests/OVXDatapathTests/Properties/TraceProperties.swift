import OVXDatapath
import OVXSimulation
import Testing

/// What a trace tells against what the switch then does: random topologies, tables that overflow,
/// frames whole and broken, from devices and from tunnels.
@Suite struct TraceProperties {
  @Test func whatIsToldIsWhatHappens() {
    checkProperty("trace", rounds: 40) { seed in
      var run = TraceComparison(seed: seed)
      for _ in 0..<60 { try run.step() }
    }
  }
}

private struct TraceComparison {
  private var random: SeededRandom
  private var frames: FrameGenerator
  private var topologies: TopologyGenerator
  private let host: SimulatedHost
  private var now: UInt32

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    topologies = TopologyGenerator(seed: random.next())
    topologies.hasAmpleMTU = random.oneIn(3)
    frames = FrameGenerator(seed: random.next(), stationCount: 16, vlans: topologies.vlans)
    now = random.bits(UInt32.self)
    host = SimulatedHost(topologies.generate(), seed: random.next())
    host.tick(now: now)
  }

  mutating func step() throws {
    if random.oneIn(15) { host.apply(topologies.change()) }
    if random.oneIn(8) {
      now &+= UInt32(random.below(20))
      host.tick(now: now)
    }
    if random.oneIn(5) { setStatic() }
    let input = random.oneIn(3) ? datagram() : frame()
    do {
      try check(input)
    } catch {
      throw Discrepancy(
        "\(error)\n\(input)\n"
          + host.topology.ports.map { "\($0)" }.joined(separator: "\n"))
    }
  }

  private mutating func setStatic() {
    guard let port = host.topology.ports.randomElement(using: &random) else { return }
    _ = host.datapath.addStaticAddress(
      random.pick(frames.stations), vlan: random.pick(topologies.vlans), on: port.id,
      bridge: port.bridge)
  }

  private mutating func frame() -> TraceRun.Input {
    let input = frames.input()
    let ports = host.topology.ports.map(\.id)
    let port = ports.isEmpty || random.oneIn(30) ? PortID(rawValue: 50) : random.pick(ports)
    return .frame(
      input.frame.bytes, offload: input.frame.offload, tag: input.tag, port: port)
  }

  private mutating func datagram() -> TraceRun.Input {
    var endpoint = ListenerID(rawValue: UInt16(random.below(2)))
    var remote = random.pick(TopologyGenerator.remotes)
    var vni = random.pick(TopologyGenerator.vnis)
    let tunnels = host.topology.ports.compactMap { port -> Topology.Tunnel? in
      guard case .tunnel(let tunnel) = port.attachment, !tunnel.peers.isEmpty else { return nil }
      return tunnel
    }
    if !random.oneIn(6), !tunnels.isEmpty {
      let tunnel = random.pick(tunnels)
      (endpoint, vni) = (tunnel.endpoint, tunnel.vni)
      remote = random.pick(tunnel.peers).remote
    }
    var frame = frames.frame(tags: frames.tags())
    if random.oneIn(25) { frame = frames.broken(frame) }
    var bytes = vxlanDatagram(vni: vni, frame: frame.bytes)
    if random.oneIn(30) { bytes[random.below(8)] ^= UInt8(1) << UInt8(random.below(8)) }
    if random.oneIn(30) { bytes = Array(bytes.prefix(random.below(24))) }
    return .datagram(
      bytes, endpoint: endpoint, remote: remote,
      trafficClass: random.oneIn(2) ? 0 : random.bits(UInt8.self))
  }

  // MARK: Checks

  private mutating func check(_ input: TraceRun.Input) throws {
    let before = State(host)
    var trace = TraceRun(host.topology)
    let result = trace.run(input) { host.datapath.snapshot(for: $0) }
    host.endBurst()
    guard State(host) == before, host.takeSent().isEmpty else {
      throw Discrepancy("The trace has changed the switch.")
    }
    switch input {
    case .frame(let bytes, let offload, let tag, let port):
      host.receive(PartialFrame(bytes, offload: offload), tag: tag, from: port)
    case .datagram(let bytes, let endpoint, let remote, let trafficClass):
      host.receive(
        train: bytes, segmentSize: 0, on: endpoint, from: remote, trafficClass: trafficClass)
    }
    host.endBurst()
    let sent = host.takeSent()
    let after = State(host)
    try checkSent(result, sent)
    try checkDrops(result, before, after)
    try checkLearning(result, before, after)
    try checkNeighbors(result, before, after)
  }

  private func checkNeighbors(
    _ result: TraceResult, _ before: State, _ after: State
  ) throws {
    var isAnswer = false
    if case .answer = result.decision { isAnswer = true }
    guard isAnswer == (after.answered != before.answered) else {
      throw Discrepancy("It was answered, or was not, and told: \(result)")
    }
    if let neighbor = result.neighbor, let bridge = result.segment?.bridge {
      guard after.neighbors[bridge]?.contains(neighbor) == true,
        before.neighbors[bridge]?.contains(neighbor) != true
      else { throw Discrepancy("It tells of a neighbor that was not learned: \(result)") }
    }
    for (bridge, now) in after.neighbors {
      let then = before.neighbors[bridge] ?? []
      for neighbor in now
      where neighbor != result.neighbor
        && !then.contains(where: {
          $0.ip == neighbor.ip && $0.vlan == neighbor.vlan && $0.address == neighbor.address
            && $0.port == neighbor.port && $0.peer == neighbor.peer
            && $0.isRouter == neighbor.isRouter
        })
      {
        throw Discrepancy("\(neighbor) was learned, and told: \(result)")
      }
    }
  }

  private func checkSent(_ result: TraceResult, _ sent: [Sent]) throws {
    var told: [Sent] = []
    for delivery in result.deliveries {
      guard case .sent(let pieces) = delivery.outcome else { continue }
      for piece in pieces {
        guard let path = piece.path else {
          told.append(.frame(PartialFrame(piece.bytes, offload: piece.offload), port: piece.port))
          continue
        }
        guard let (_, _, peer) = host.topology.peer(of: path), peer.id == delivery.peer else {
          throw Discrepancy("Path \(path.rawValue) is not one of peer \(delivery.peer.rawValue).")
        }
        let size = piece.segmentSize > 0 ? piece.segmentSize : max(piece.bytes.count, 1)
        for start in stride(from: 0, to: piece.bytes.count, by: size) {
          let end = min(start + size, piece.bytes.count)
          told.append(
            .datagram(
              Array(piece.bytes[start..<end]), path: path, port: piece.port, outer: piece.outer))
        }
      }
    }
    let missing = sent.filter { !told.contains($0) }
    guard missing.isEmpty, told.count == sent.count else {
      throw Discrepancy("It told of \(told.count) and sent \(sent.count): \(result)")
    }
  }

  private func checkDrops(
    _ result: TraceResult, _ before: State, _ after: State
  ) throws {
    var told: [State.Place: Set<DropReason>] = [:]
    for delivery in result.deliveries {
      switch delivery.outcome {
      case .dropped(let reason):
        // What is wrong with the frame itself is charged to the ingress.
        if result.drops[reason] == nil { told[delivery.port, default: []].insert(reason) }
      case .passedOver(.unknown): throw Discrepancy("It does not know why: \(result)")
      case .passedOver, .sent: break
      }
    }
    let ingress = result.ingress?.port ?? .none
    for reason in result.drops.keys { told[ingress, default: []].insert(reason) }
    let actual = after.drops(since: before)
    guard told == actual else {
      throw Discrepancy("It told of the drops \(told), and there were \(actual): \(result)")
    }
  }

  private func checkLearning(
    _ result: TraceResult, _ before: State, _ after: State
  ) throws {
    var learned: [KnownAddress] = []
    var gone: [KnownAddress] = []
    for (bridge, now) in after.addresses {
      let then = before.addresses[bridge] ?? []
      learned += now.filter { entry in
        !then.contains {
          $0.address == entry.address && $0.vlan == entry.vlan && $0.port == entry.port
            && $0.peer == entry.peer
        }
      }
      gone += then.filter { entry in
        !now.contains { $0.address == entry.address && $0.vlan == entry.vlan }
      }
    }
    let isRight =
      switch result.learning {
      case nil, .known, .held, .isStatic, .refused: learned.isEmpty && gone.isEmpty
      case .learned(let victim):
        learned.count == 1 && learned.first?.address == result.segment?.source
          && learned.first?.vlan == result.segment?.vlan && gone == [victim].compactMap(\.self)
      case .moved(let place):
        learned.count == 1 && gone.isEmpty && before.addresses.values.joined().contains(place)
          && learned.first?.address == result.segment?.source
      }
    guard isRight else {
      throw Discrepancy("Learned \(learned), forgot \(gone), and told: \(result)")
    }
  }
}

/// What tracing must not change, and forwarding does.
private struct State: Equatable {
  typealias Place = PortID
  var counters: [PortID: PortCounters] = [:]
  var addresses: [BridgeID: [KnownAddress]] = [:]
  var statistics: [AddressStatistics] = []
  var neighbors: [BridgeID: [KnownNeighbor]] = [:]
  var neighborStatistics: [NeighborStatistics] = []
  var answered: UInt64 { neighborStatistics.reduce(0) { $0 &+ $1.answered } }

  init(_ host: SimulatedHost) {
    counters[.none] = PortCounters()
    counters[.none]?.dropsByReason = host.datapath.counters(of: .none).dropsByReason
    for number in 0...50 {
      let port = PortID(rawValue: UInt16(number))
      counters[port] = host.datapath.counters(of: port)
    }
    for bridge in host.topology.bridges {
      addresses[bridge.id] = host.datapath.addresses(of: bridge.id)
      statistics.append(host.datapath.addressStatistics(of: bridge.id))
      neighbors[bridge.id] = host.datapath.neighbors(of: bridge.id)
      neighborStatistics.append(host.datapath.neighborStatistics(of: bridge.id))
    }
  }

  func drops(since before: State) -> [Place: Set<DropReason>] {
    var drops: [Place: Set<DropReason>] = [:]
    for (port, counted) in counters {
      for reason in DropReason.allCases
      where counted[reason] != before.counters[port]?[reason] {
        drops[port, default: []].insert(reason)
      }
    }
    return drops
  }
}
