/// A frame forwarded for show: by the code that forwards frames, without anything coming of it.
///
/// The frame goes through a switch of its own. That one has the topology of the real one, what the
/// real one knows of the frame's addresses, and nobody behind its ports. So nothing is learned,
/// counted or sent, and no frame waits for it. What is told is not decided here: it is read off what
/// that switch handed out, what it dropped and what it learned.
package struct TraceRun: ~Copyable {
  /// What comes in, and where.
  package enum Input: Equatable, Sendable {
    /// A frame on a device port, with what the kernel would hand over beside it.
    case frame([UInt8], offload: Offload = .none, tag: VLANTag = .none, port: PortID)
    /// A UDP payload on a tunnel's socket: a VXLAN header and a frame; and the outer header's DSCP and ECN.
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
    var snapshot = Snapshot()
    if let admission = admission(of: input) {
      result.ingress = admission.ingress
      if let segment = admission.segment {
        result.segment = segment
        snapshot = lookUp(Question(segment, from: admission.ingress.port))
        restore(snapshot, segment)
      }
    }
    forward(input)
    result.drops = drops(at: result.ingress?.port ?? .none)
    guard let segment = result.segment else { return result }
    let bridge = Int(segment.bridge.rawValue)
    result.learning = learning(of: segment, from: result.ingress, snapshot)
    if result.drops[.loop] != nil { return result }
    result.neighbor = neighborLearned(from: segment, snapshot)
    let target = AddressKey(vlan: segment.vlan, address: segment.target)
    if datapath.answers[bridge] > 0, let question = segment.question,
      let known = datapath.neighbors[bridge].lookUp(question, now: datapath.now)
    {
      result.decision = .answer(KnownNeighbor(known))
    } else if datapath.directions[bridge] > 0, let question = segment.question,
      let known = datapath.neighbors[bridge].lookUp(question, now: datapath.now),
      let place = datapath.databases[bridge].lookUp(
        AddressKey(vlan: segment.vlan, address: known.value.address), now: datapath.now)
    {
      result.decision = .direction(KnownNeighbor(known), KnownAddress(place))
    } else if segment.target.isGroup {
      result.decision = .flood(isUnknown: false)
    } else if let known = datapath.databases[bridge].lookUp(target, now: datapath.now) {
      result.decision = .destination(KnownAddress(known))
    } else {
      result.decision = unknownDecision(segment)
    }
    result.deliveries = deliveries(of: result, segment)
    return result
  }

  /// What is decided about a destination that is not in the address table.
  private func unknownDecision(_ segment: TraceResult.Segment) -> TraceResult.Decision {
    let owner = datapath.tables.owner(
      of: segment.target, vlan: segment.vlan, bridge: segment.bridge)
    switch owner {
    case .unowned: return .flood(isUnknown: true)
    case .nobody: return .nobody
    case .station(let port):
      return .destination(
        KnownAddress(
          address: segment.target, vlan: segment.vlan, port: port, peer: .none, age: nil))
    }
  }

  // MARK: Before

  /// Where the frame enters and in which segment it would be, both by the functions of the frame path.
  private mutating func admission(
    of input: Input
  ) -> (ingress: Destination, segment: TraceResult.Segment?)? {
    switch input {
    case .frame(let bytes, let offload, let tag, let port):
      guard Int(port.rawValue) < datapath.tables.ports.count else { return nil }
      let ingress = Destination(port: port)
      guard datapath.tables.ports[Int(port.rawValue)].role == .device else {
        return (ingress, nil)
      }
      return (ingress, segment(of: bytes, skipping: 0, offload, tag, ingress))
    case .datagram(let bytes, let endpoint, let remote, _):
      guard bytes.count >= VXLANHeader.byteCount + EthernetHeader.byteCount,
        let header = unsafe VXLANHeader(bytes.span.bytes), header.hasVNI,
        let vtep = datapath.tables.demultiplexer.vtep(remote),
        let ingress = datapath.tables.demultiplexer.tunnel(
          vni: header.vni, vtep: vtep, endpoint: endpoint)
      else { return nil }
      return (
        ingress, segment(of: bytes, skipping: VXLANHeader.byteCount, .none, .none, ingress)
      )
    }
  }

  private mutating func segment(
    of bytes: [UInt8], skipping offset: Int, _ offload: Offload, _ tag: VLANTag,
    _ ingress: Destination
  ) -> TraceResult.Segment? {
    guard Datapath.refusal(count: bytes.count - offset, offload: offload) == nil else {
      return nil
    }
    let slot = Slot(bytes)
    var frame = unsafe Frame(
      start: slot.start + offset, count: bytes.count - offset, offload: offload, tag: tag,
      ingress: ingress.port, peer: ingress.peer)
    let port = datapath.tables.ports[Int(ingress.port.rawValue)]
    guard unsafe datapath.admit(&frame, at: port) == nil else { return nil }
    var segment = unsafe TraceResult.Segment(
      bridge: port.bridge, vlan: frame.vlan, tag: frame.tag, source: frame.address(6),
      target: frame.address(0), byteCount: frame.count)
    if unsafe frame.mayConcernNeighborTable, let news = unsafe frame.neighborNews {
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
    let bridge = Int(segment.bridge.rawValue)
    let members = datapath.tables.bridges[bridge].members
    // What would be forgotten to make room for the source is not there when the target is looked up.
    let addresses = snapshot.addresses.filter { $0 != snapshot.victim }
    let room = snapshot.isFullOfStatics ? 0 : 1
    datapath.databases[bridge] = FDB(limit: addresses.count + room, seed: 0)
    for entry in addresses {
      let key = AddressKey(vlan: entry.vlan, address: entry.address)
      let destination = Destination(port: entry.port, peer: entry.peer)
      if let age = entry.age {
        _ = datapath.databases[bridge].learn(
          key, at: destination, now: min(snapshot.now &- age, lastSecond),
          lists: &datapath.lists, members: datapath.tables.bridgeMembers, members)
      } else {
        _ = datapath.databases[bridge].setStatic(
          key, at: destination, lists: &datapath.lists, members: datapath.tables.bridgeMembers,
          members)
      }
    }
    let neighbors = snapshot.neighbors.filter { $0 != snapshot.neighborVictim }
    datapath.neighbors[bridge] = AgingTable(limit: neighbors.count + 1, seed: 0)
    for known in neighbors {
      _ = datapath.neighbors[bridge].learn(
        NeighborKey(vlan: known.vlan, address: known.ip),
        at: Neighbor(
          address: known.address, place: Destination(port: known.port, peer: known.peer),
          isRouter: known.isRouter, doubt: known.doubt),
        now: min(snapshot.now &- known.age, lastSecond), lists: &datapath.neighborLists,
        members: datapath.tables.bridgeMembers, members)
    }
  }

  // MARK: Run

  private mutating func forward(_ input: Input) {
    switch input {
    case .frame(let bytes, let offload, let tag, let port):
      let slot = Slot(bytes)
      unsafe datapath.receiveFrame(
        slot.start, count: bytes.count, offload: offload, tag: tag,
        from: port)
      datapath.endBurst()
    case .datagram(let bytes, let endpoint, let remote, let trafficClass):
      let slot = Slot(bytes)
      unsafe datapath.receiveDatagrams(
        slot.start, count: bytes.count, segmentSize: 0, on: endpoint, from: remote,
        trafficClass: trafficClass)
      datapath.endBurst()
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
    of segment: TraceResult.Segment, from ingress: Destination?, _ snapshot: Snapshot
  ) -> TraceResult.Learning {
    let key = AddressKey(vlan: segment.vlan, address: segment.source)
    let after = datapath.databases[Int(segment.bridge.rawValue)].lookUp(key, now: datapath.now)
    guard let after else { return .refused }
    guard
      let before = snapshot.addresses.first(where: { $0.address == segment.source })
    else { return .learned(insteadOf: snapshot.victim) }
    if before.age == nil { return .isStatic(before) }
    if Destination(port: before.port, peer: before.peer) != after.value {
      return .moved(from: before)
    }
    return after.value == ingress ? .known(before) : .held(before)
  }

  /// What the frame has told of a neighbor that was not known, or otherwise.
  private func neighborLearned(
    from segment: TraceResult.Segment, _ snapshot: Snapshot
  ) -> KnownNeighbor? {
    guard let claim = segment.claim,
      let after = datapath.neighbors[Int(segment.bridge.rawValue)].lookUp(claim, now: datapath.now)
    else { return nil }
    let now = KnownNeighbor(after)
    let before = snapshot.neighbors.first { $0.ip == now.ip }
    let isNews = before.map {
      ($0.address, $0.port, $0.peer, $0.isRouter) != (now.address, now.port, now.peer, now.isRouter)
    }
    return isNews ?? true ? now : nil
  }

  /// What became of the frame at every port that it might have left by.
  private func deliveries(
    of result: TraceResult, _ segment: TraceResult.Segment
  ) -> [TraceResult.Delivery] {
    let sent = Dictionary(grouping: recorder.sent) { wayOut(of: $0) }
    var waysOut: [Destination] = []
    switch result.decision {
    case .direction(_, let known):
      waysOut.append(Destination(port: known.port, peer: known.peer))
    case .destination(let known):
      let isBack = known.port == result.ingress?.port
      if !isBack { waysOut.append(Destination(port: known.port, peer: known.peer)) }
    case .flood: waysOut = waysOutOfAll(in: segment.bridge)
    case .answer, .nobody, nil: break
    }
    for wayOut in sent.keys.sorted(by: { $0.port < $1.port }) where !waysOut.contains(wayOut) {
      waysOut.append(wayOut)
    }
    return waysOut.map { wayOut in
      TraceResult.Delivery(
        port: wayOut.port, peer: wayOut.peer,
        outcome: outcome(at: wayOut, sent[wayOut] ?? [], result, segment))
    }
  }

  private func outcome(
    at wayOut: Destination, _ sent: [TraceResult.Sent], _ result: TraceResult,
    _ segment: TraceResult.Segment
  ) -> TraceResult.Outcome {
    if !sent.isEmpty { return .sent(sent) }
    if wayOut.port == result.ingress?.port { return .passedOver(.ingress) }
    if let reason = drops(at: wayOut.port).keys.first { return .dropped(reason) }
    let port = datapath.tables.ports[Int(wayOut.port.rawValue)]
    if port.role == .waiting { return .passedOver(.waiting) }
    if !datapath.tables.carries(segment.vlan, port: port) { return .passedOver(.otherVLAN) }
    if port.role == .tunnel {
      if let ingress = result.ingress, ingress.peer != .none,
        !datapath.tables.relays(from: ingress.port, to: port)
      {
        return .passedOver(.splitHorizon)
      }
      if wayOut.peer == .none { return .passedOver(.noRemote) }
    }
    // What is wrong with the frame itself is charged to the port that it came in by.
    return result.drops.keys.first.map { .dropped($0) } ?? .passedOver(.unknown)
  }

  /// The port, and the remote of it, that something was sent to.
  private func wayOut(of sent: TraceResult.Sent) -> Destination {
    guard let path = sent.path, let port = topology.ports.first(where: { $0.id == sent.port }),
      case .tunnel(let tunnel) = port.attachment,
      let peer = tunnel.peers.first(where: { $0.paths.contains(path.rawValue) })
    else { return Destination(port: sent.port) }
    return Destination(port: sent.port, peer: peer.id)
  }

  private func waysOutOfAll(in bridge: BridgeID) -> [Destination] {
    topology.ports.filter { $0.bridge == bridge }.flatMap { port in
      guard case .tunnel(let tunnel) = port.attachment, !tunnel.peers.isEmpty else {
        return [Destination(port: port.id)]
      }
      return tunnel.peers.map { Destination(port: port.id, peer: $0.id) }
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
    let bridge = Int(question.bridge.rawValue)
    guard bridge < tables.bridges.count, tables.bridges[bridge].isPresent else {
      return snapshot
    }
    let members = tables.bridges[bridge].members
    let source = AddressKey(vlan: question.vlan, address: question.source)
    var keys = [source, AddressKey(vlan: question.vlan, address: question.target)]
    for key in [question.claim, question.question].compactMap(\.self) {
      guard let known = neighbors[bridge].lookUp(key, now: now) else { continue }
      snapshot.neighbors.append(KnownNeighbor(known))
      keys.append(AddressKey(vlan: question.vlan, address: known.value.address))
    }
    for key in keys {
      guard let record = databases[bridge].lookUp(key, now: now) else { continue }
      let known = KnownAddress(record)
      if !snapshot.addresses.contains(known) { snapshot.addresses.append(known) }
    }
    let statistics = databases[bridge].statistics
    snapshot.isFullOfStatics = statistics.statics >= statistics.limit
    snapshot.victim = databases[bridge].victim(
      of: source, from: question.ingress, now: now, lists: lists, members: tables.bridgeMembers,
      members
    ).map { KnownAddress($0) }
    if let claim = question.claim,
      question.mayBeLearned || neighbors[bridge].lookUp(claim, now: now) != nil
    {
      snapshot.neighborVictim = neighbors[bridge].victim(
        of: claim, from: question.ingress, portLimit: tables.neighborLimit(of: question.ingress),
        now: now, lists: neighborLists, members: tables.bridgeMembers, members
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
