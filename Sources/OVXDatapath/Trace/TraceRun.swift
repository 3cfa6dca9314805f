/// A frame forwarded for show: by the code that forwards frames, without anything coming of it.
///
/// The frame goes through a switch of its own. That one has the topology of the real one, what the
/// real one knows of the frame's addresses, and nobody behind its ports. So nothing is learned,
/// counted or sent, and no frame waits for it. What is told is not decided here: it is read off
/// what that switch handed out, what it dropped and what it learned.
package struct TraceRun: ~Copyable {
  /// What comes in, and where.
  package enum Input: Equatable, Sendable {
    /// A frame on a device port, with what the kernel would hand over beside it.
    case frame([UInt8], offload: Offload = .none, tag: VLANTag = .none, port: PortID)
    /// A UDP payload on a tunnel's socket: a VXLAN header and a frame; and the outer header's DSCP
    /// and ECN.
    case datagram([UInt8], endpoint: ListenerID, remote: IPAddress, trafficClass: UInt8 = 0)
  }

  private let topology: Topology
  private let recorder = Recorder()
  private var datapath: Datapath

  /// Makes a switch with the topology of the real one.
  ///
  /// Costs about as much as a change of topology, on the thread that asks.
  package init(_ topology: Topology) {
    self.topology = topology
    let recorder = recorder
    datapath = unsafe Datapath(seed: 0) { transmissions, vectors in
      unsafe recorder.take(transmissions, vectors)
    }
    datapath.apply(topology)
  }

  /// Forwards one frame and tells what became of it.
  ///
  /// - Parameters:
  ///   - input: What comes in; any bytes.
  ///   - lookUp: Asks the real switch what it knows; called once at most.
  /// - Returns: What became of it.
  package mutating func run(
    _ input: Input, lookUp: (Question) -> Snapshot
  ) -> TraceResult {
    var result = TraceResult()
    result.ingress = ingress(of: input)
    let slot = Slot(input.bytes)
    if var frame = accept(input, in: slot) {
      if let reason = datapath.admit(&frame) {
        datapath.deliver(&frame, by: .drop(reason))
      } else {
        forward(&frame, lookUp, &result)
      }
      datapath.endBurst()
    }
    result.drops = drops(at: result.ingress?.port ?? .none)
    settle(&result)
    return result
  }

  // MARK: The steps of the frame path

  /// Where something comes in; `nil` for a port that is not there, and a datagram of no tunnel.
  private func ingress(of input: Input) -> Destination? {
    switch input {
    case .frame(_, _, _, let port):
      return datapath.tables.ports.contains(port) ? Destination(port: port) : nil
    case .datagram(let bytes, let endpoint, let remote, _):
      guard bytes.count >= VXLANHeader.byteCount + EthernetHeader.byteCount else { return nil }
      return unsafe datapath.origin(of: bytes.span.bytes, on: endpoint, from: remote)
    }
  }

  /// The frame as it comes through the switch's door; `nil` where it is dropped there.
  private mutating func accept(_ input: Input, in slot: borrowing Slot) -> Frame? {
    var accepted: Frame?
    switch input {
    case .frame(let bytes, let offload, let tag, let port):
      unsafe datapath.accept(
        slot.start, count: bytes.count, offload: offload, tag: tag, from: port
      ) { _, frame in accepted = frame }
    case .datagram(let bytes, let endpoint, let remote, let trafficClass):
      unsafe datapath.decapsulate(
        slot.start, count: bytes.count, segmentSize: 0, on: endpoint, from: remote,
        trafficClass: trafficClass
      ) { _, frame in accepted = frame }
    }
    return accepted
  }

  /// Has the switch decide on an admitted frame and carry that out, and notes both.
  private mutating func forward(
    _ frame: inout Frame, _ lookUp: (Question) -> Snapshot, _ result: inout TraceResult
  ) {
    let segment = segment(of: frame)
    let snapshot = lookUp(Question(segment, from: frame.ingress))
    restore(snapshot, segment)
    let decision = datapath.decide(&frame)
    result.segment = segment
    result.learning = learning(of: segment, from: frame, decision, snapshot)
    if decision != .drop(.loop) { result.neighbor = neighborLearned(from: segment, snapshot) }
    result.decision = describe(decision, on: frame, segment)
    result.deliveries = deliveries(of: decision, on: frame)
    datapath.deliver(&frame, by: decision)
  }

  /// The segment that an admitted frame is in, and what it tells and asks there.
  private func segment(of frame: borrowing Frame) -> TraceResult.Segment {
    var segment = TraceResult.Segment(
      bridge: datapath.tables.ports[frame.ingress].bridge, vlan: frame.vlan,
      tag: frame.tag, source: frame.source, target: frame.destination, byteCount: frame.count)
    if frame.mayConcernNeighborTable, let news = frame.neighborNews {
      switch news.claim {
      case .none: break
      case .announcement(let ip, let address, _):
        segment.claim = NeighborKey(vlan: segment.vlan, address: ip)
        segment.mayBeLearned = address == segment.source
      case .mention(let ip, _): segment.claim = NeighborKey(vlan: segment.vlan, address: ip)
      }
      segment.question = news.question.map { NeighborKey(vlan: segment.vlan, address: $0) }
    }
    return segment
  }

  /// Gives the switch of the trace the entries that matter.
  private mutating func restore(_ snapshot: Snapshot, _ segment: TraceResult.Segment) {
    datapath.now = snapshot.now
    let bridge = segment.bridge
    // What would be forgotten to make room for the source is not there when the target is looked
    // up.
    let addresses = snapshot.addresses.filter { $0 != snapshot.victim }
    datapath.fdb.resize(
      bridge, limit: addresses.count + (snapshot.isFullOfStatics ? 0 : 1), seed: 0,
      now: snapshot.now, portLimit: { _ in .max })
    for entry in addresses {
      let key = AddressKey(vlan: entry.vlan, address: entry.address)
      let destination = Destination(port: entry.port, peer: entry.peer)
      if let age = entry.age {
        _ = datapath.fdb.learn(
          key, at: destination, in: bridge, now: min(snapshot.now &- age, lastSecond))
      } else {
        _ = datapath.fdb.set(key, at: destination, entry.origin, in: bridge)
      }
    }
    let neighbors = snapshot.neighbors.filter { $0 != snapshot.neighborVictim }
    datapath.neighbors.resize(
      bridge, limit: neighbors.count + 1, seed: 0, now: snapshot.now, portLimit: { _ in .max })
    for known in neighbors {
      let key = NeighborKey(vlan: known.vlan, address: known.ip)
      let neighbor = Neighbor(
        address: known.address, place: Destination(port: known.port, peer: known.peer),
        isRouter: known.isRouter, doubt: known.doubt)
      if known.isExternal {
        _ = datapath.neighbors.set(key, at: neighbor, .external, in: bridge)
      } else {
        _ = datapath.neighbors.learn(
          key, at: neighbor, in: bridge, now: min(snapshot.now &- known.age, lastSecond))
      }
    }
  }

  // MARK: After

  private func drops(at port: PortID) -> [DropReason: Int] {
    var drops: [DropReason: Int] = [:]
    let counted = datapath.counters(of: port)
    for reason in DropReason.allCases where counted[reason] > 0 {
      drops[reason] = Int(clamping: counted[reason])
    }
    return drops
  }

  private func learning(
    of segment: TraceResult.Segment, from frame: borrowing Frame, _ decision: Decision,
    _ snapshot: Snapshot
  ) -> TraceResult.Learning {
    let key = AddressKey(vlan: segment.vlan, address: segment.source)
    let after = datapath.fdb.lookUp(key, in: segment.bridge, now: datapath.now)
    guard let after else { return .refused }
    guard
      let before = snapshot.addresses.first(where: { $0.address == segment.source })
    else { return .learned(insteadOf: snapshot.victim) }
    if after.origin != .learned { return .isStatic(before) }
    if Destination(port: before.port, peer: before.peer) != after.value {
      return .moved(from: before)
    }
    return decision == .drop(.loop) ? .held(before) : .known(before)
  }

  /// What the frame has told of a neighbor that was not known, or otherwise.
  private func neighborLearned(
    from segment: TraceResult.Segment, _ snapshot: Snapshot
  ) -> KnownNeighbor? {
    guard let claim = segment.claim,
      let after = datapath.neighbors.lookUp(claim, in: segment.bridge, now: datapath.now)
    else { return nil }
    let now = KnownNeighbor(after)
    let before = snapshot.neighbors.first { $0.ip == now.ip }
    let isNews = before.map {
      ($0.address, $0.port, $0.peer, $0.isRouter) != (now.address, now.port, now.peer, now.isRouter)
    }
    return isNews ?? true ? now : nil
  }

  /// The decision with what the tables say of those whom it names.
  private func describe(
    _ decision: Decision, on frame: borrowing Frame, _ segment: TraceResult.Segment
  ) -> TraceResult.Decision? {
    let bridge = segment.bridge
    let neighbor = segment.question.flatMap {
      datapath.neighbors.lookUp($0, in: bridge, now: datapath.now)
    }
    switch decision {
    case .drop(.ownAddress): return .nobody
    case .drop: return nil
    case .flood: return .flood(isUnknown: !segment.target.isGroup)
    case .answer: return neighbor.map { .answer(KnownNeighbor($0)) }
    case .unicast(let destination, _):
      let target = AddressKey(vlan: segment.vlan, address: frame.destination)
      let record = datapath.fdb.lookUp(target, in: bridge, now: datapath.now)
      let known =
        record.map { KnownAddress($0) }
        ?? KnownAddress(
          address: target.address, vlan: segment.vlan, port: destination.port,
          peer: destination.peer, age: nil)
      // Only a request for a neighbor goes to one station and was for a group.
      guard segment.target.isGroup else { return .destination(known) }
      return neighbor.map { .direction(KnownNeighbor($0), known) }
    }
  }

  /// What the decision says of every port that it concerns, as far as the port refuses the frame;
  /// the others are settled when the frame has been delivered.
  private mutating func deliveries(
    of decision: Decision, on frame: Frame
  ) -> [TraceResult.Delivery] {
    switch decision {
    case .drop, .answer, .unicast(_, .refuse(.ingress)): return []
    case .unicast(let destination, let verdict):
      let outcome: TraceResult.Outcome =
        switch verdict {
        case .leave: .passedOver(.unknown)
        case .refuse(let refusal): .dropped(refusal.dropReason)
        }
      return [
        TraceResult.Delivery(port: destination.port, peer: destination.peer, outcome: outcome)
      ]
    case .flood:
      let bridge = datapath.tables.ports[frame.ingress].bridge
      return topology.ports.filter { $0.bridge == bridge }.flatMap { port in
        let verdict = datapath.egress(of: frame.floodClass, by: port.id)
        let outcome = TraceResult.Outcome(ofFlood: verdict)
        guard case .tunnel(let tunnel) = port.attachment, !tunnel.peers.isEmpty else {
          return [TraceResult.Delivery(port: port.id, peer: .none, outcome: outcome)]
        }
        return tunnel.peers.map { peer in
          var outcome = outcome
          switch outcome {
          case .passedOver(.unknown) where !peer.takesFloods, .dropped where !peer.takesFloods:
            outcome = .passedOver(.withoutFloods)
          default: break
          }
          return TraceResult.Delivery(port: port.id, peer: peer.id, outcome: outcome)
        }
      }
    }
  }

  /// Adds what was sent, and what was dropped on the way out.
  private func settle(_ result: inout TraceResult) {
    let sent = Dictionary(grouping: recorder.sent) { destination(of: $0) }
    for index in result.deliveries.indices
    where result.deliveries[index].outcome == .passedOver(.unknown) {
      let port = result.deliveries[index].port
      let destination = Destination(port: port, peer: result.deliveries[index].peer)
      if let pieces = sent[destination] {
        result.deliveries[index].outcome = .sent(pieces)
      } else if let reason = drops(at: port).keys.first ?? result.drops.keys.first {
        // What is wrong with the frame itself is charged to the port that it came in by.
        result.deliveries[index].outcome = .dropped(reason)
      }
    }
    // Answers of the switch leave by the ingress, which no frame does that came in there.
    for destination in sent.keys.sorted(by: { $0.port < $1.port }) {
      guard let pieces = sent[destination] else { continue }
      let outcome = TraceResult.Outcome.sent(pieces)
      if let index = result.deliveries.firstIndex(where: {
        $0.port == destination.port && $0.peer == destination.peer
      }) {
        result.deliveries[index].outcome = outcome
      } else {
        result.deliveries.append(
          TraceResult.Delivery(port: destination.port, peer: destination.peer, outcome: outcome))
      }
    }
  }

  /// The port, and the remote of it, that something was sent to.
  private func destination(of sent: TraceResult.Sent) -> Destination {
    guard let path = sent.path, let port = topology.ports.first(where: { $0.id == sent.port }),
      case .tunnel(let tunnel) = port.attachment,
      let peer = tunnel.peers.first(where: { $0.paths.contains(path.rawValue) })
    else { return Destination(port: sent.port) }
    return Destination(port: sent.port, peer: peer.id)
  }
}

extension TraceRun.Input {
  fileprivate var bytes: [UInt8] {
    switch self {
    case .frame(let bytes, _, _, _), .datagram(let bytes, _, _, _): bytes
    }
  }
}

extension TraceResult.Outcome {
  /// What a flood does at a port, as far as that is known before it is carried out.
  fileprivate init(ofFlood verdict: EgressVerdict) {
    guard case .refuse(let refusal) = verdict else {
      self = .passedOver(.unknown)
      return
    }
    self =
      switch refusal {
      case .ingress: .passedOver(.ingress)
      case .notInService: .passedOver(.waiting)
      case .otherVLAN: .passedOver(.otherVLAN)
      case .splitHorizon: .passedOver(.splitHorizon)
      case .noRemote: .passedOver(.noRemote)
      case .unknownUnicast: .passedOver(.unknownUnicast)
      case .tagInside: .dropped(refusal.dropReason)
      }
  }
}

extension Datapath {
  /// Tells a trace what it has to know.
  ///
  /// Some look-ups; frames wait that long.
  package func snapshot(for question: TraceRun.Question) -> TraceRun.Snapshot {
    var snapshot = TraceRun.Snapshot()
    snapshot.now = now
    let bridge = question.bridge
    guard hasBridge(bridge) else { return snapshot }
    let source = AddressKey(vlan: question.vlan, address: question.source)
    var keys = [source, AddressKey(vlan: question.vlan, address: question.target)]
    for key in [question.claim, question.question].compactMap(\.self) {
      guard let known = neighbors.lookUp(key, in: bridge, now: now) else { continue }
      snapshot.neighbors.append(KnownNeighbor(known))
      keys.append(AddressKey(vlan: question.vlan, address: known.value.address))
    }
    for key in keys {
      guard let record = fdb.lookUp(key, in: bridge, now: now) else { continue }
      let known = KnownAddress(record)
      if !snapshot.addresses.contains(known) { snapshot.addresses.append(known) }
    }
    let statistics = fdb.statistics(of: bridge)
    snapshot.isFullOfStatics = statistics.statics + statistics.external >= statistics.limit
    snapshot.victim = fdb.victim(of: source, from: question.ingress, in: bridge, now: now)
      .map { KnownAddress($0) }
    if let claim = question.claim,
      question.mayBeLearned || neighbors.lookUp(claim, in: bridge, now: now) != nil
    {
      snapshot.neighborVictim = neighbors.victim(
        of: claim, from: question.ingress, in: bridge,
        portLimit: tables.neighborLimit(of: question.ingress), now: now
      ).map { KnownNeighbor($0) }
    }
    return snapshot
  }
}

/// Copies what the switch of the trace sends.
private final class Recorder {
  private(set) var sent: [TraceResult.Sent] = []

  func take(
    _ transmissions: UnsafeBufferPointer<Transmission>, _ vectors: UnsafePointer<Vector>
  ) {
    for index in transmissions.indices {
      let transmission = unsafe transmissions[index]
      var bytes: [UInt8] = []
      // A frame's first vector is its virtio-net header.
      let isFrame = transmission.kind == .frame
      for number in (isFrame ? 1 : 0)..<Int(transmission.vectorCount) {
        let vector = unsafe vectors[Int(transmission.firstVector) + number]
        unsafe bytes += UnsafeRawBufferPointer(start: vector.base, count: vector.count)
      }
      if transmission.kind == .injected { bytes.removeFirst(InjectionHeader.payloadOffset) }
      sent.append(
        TraceResult.Sent(
          port: transmission.port, path: isFrame ? nil : transmission.path,
          outer: transmission.outer,
          offload: transmission.offload, bytes: bytes,
          segmentSize: Int(transmission.segmentSize), frameCount: Int(transmission.frameCount)))
    }
  }
}

/// A copy of a frame with the room around it that the frame path may write to.
@safe
private struct Slot: ~Copyable {
  private static let headroom = 64
  private let memory: UnsafeMutableRawPointer
  /// Bytes from `start` on.
  let capacity: Int

  init(_ bytes: [UInt8]) {
    capacity = bytes.count + 64
    unsafe memory = .allocate(byteCount: Self.headroom + capacity, alignment: 64)
    unsafe memory.initializeMemory(
      as: UInt8.self, repeating: 0, count: Self.headroom + capacity)
    unsafe bytes.withUnsafeBytes { source in
      guard let base = source.baseAddress else { return }
      unsafe start.copyMemory(from: base, byteCount: source.count)
    }
  }

  @unsafe var start: UnsafeMutableRawPointer { unsafe memory + Self.headroom }

  deinit { unsafe memory.deallocate() }
}
