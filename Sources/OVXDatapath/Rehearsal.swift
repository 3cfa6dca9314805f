/// A frame forwarded for show: by the code that forwards frames, without anything coming of it.
///
/// The frame goes through a switch of its own. That one has the topology of the real one, what the
/// real one knows of the frame's addresses, and nobody behind its ports. So nothing is learned,
/// counted or sent, and no frame waits for it. What is told is not decided here: it is read off what
/// that switch handed out, what it dropped and what it learned.
package struct Rehearsal: ~Copyable {
  /// What comes in, and where.
  package enum Stimulus: Equatable, Sendable {
    /// A frame on a device port, with what the kernel would hand over beside it.
    case frame([UInt8], offload: Offload = .none, tag: VLANTag = .none, port: PortID)
    /// A UDP payload on a tunnel's socket: a VXLAN header and a frame; and the outer header's DSCP and ECN.
    case datagram([UInt8], endpoint: EndpointID, remote: IPAddress, trafficClass: UInt8 = 0)
  }

  private let topology: Topology
  private let audience = Audience()
  private var datapath: Datapath

  /// Sets the stage.
  ///
  /// Costs about as much as a change of topology, on the thread that asks.
  package init(_ topology: Topology) {
    self.topology = topology
    let audience = audience
    datapath = unsafe Datapath(seed: 0) { transmissions, vectors in
      unsafe audience.take(transmissions, vectors)
    }
    datapath.apply(topology)
  }

  /// Forwards one frame and tells what became of it.
  ///
  /// - Parameters:
  ///   - stimulus: What comes in; any bytes.
  ///   - recall: Asks the real switch what it knows; called once at most.
  /// - Returns: What became of it.
  package mutating func run(
    _ stimulus: Stimulus, recalling recall: (Question) -> Recollection
  ) -> Account {
    var account = Account()
    var recollection = Recollection()
    if let admission = admission(of: stimulus) {
      account.ingress = admission.ingress
      if let segment = admission.segment {
        account.segment = segment
        recollection = recall(Question(segment, from: admission.ingress.port))
        remember(recollection, segment)
      }
    }
    perform(stimulus)
    account.drops = drops(at: account.ingress?.port ?? .none)
    guard let segment = account.segment else { return account }
    let bridge = Int(segment.bridge.rawValue)
    account.learning = learning(of: segment, from: account.ingress, recollection)
    if account.drops[.loop] != nil { return account }
    account.neighbor = neighborLearned(from: segment, recollection)
    let target = AddressKey(vlan: segment.vlan, address: segment.target)
    if datapath.answers[bridge] > 0, let question = segment.question,
      let known = datapath.neighbors[bridge].recall(question, now: datapath.now)
    {
      account.decision = .answer(KnownNeighbor(known))
    } else if datapath.directions[bridge] > 0, let question = segment.question,
      let known = datapath.neighbors[bridge].recall(question, now: datapath.now),
      let place = datapath.databases[bridge].recall(
        AddressKey(vlan: segment.vlan, address: known.value.address), now: datapath.now)
    {
      account.decision = .direction(KnownNeighbor(known), KnownAddress(place))
    } else if segment.target.isGroup {
      account.decision = .flood(isUnknown: false)
    } else if let known = datapath.databases[bridge].recall(target, now: datapath.now) {
      account.decision = .destination(KnownAddress(known))
    } else {
      account.decision = unknownDecision(segment)
    }
    account.deliveries = deliveries(of: account, segment)
    return account
  }

  /// What is decided about a destination that is not in the address table.
  private func unknownDecision(_ segment: Account.Segment) -> Account.Decision {
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
    of stimulus: Stimulus
  ) -> (ingress: Destination, segment: Account.Segment?)? {
    switch stimulus {
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
  ) -> Account.Segment? {
    guard Datapath.refusal(count: bytes.count - offset, offload: offload) == nil else {
      return nil
    }
    let slot = Slot(bytes)
    var frame = unsafe Frame(
      start: slot.start + offset, count: bytes.count - offset, offload: offload, tag: tag,
      ingress: ingress.port, peer: ingress.peer)
    let port = datapath.tables.ports[Int(ingress.port.rawValue)]
    guard unsafe datapath.admit(&frame, at: port) == nil else { return nil }
    var segment = unsafe Account.Segment(
      bridge: port.bridge, vlan: frame.vlan, tag: frame.tag, source: frame.address(6),
      target: frame.address(0), byteCount: frame.count)
    if unsafe frame.mayConcernNeighborTable, let news = unsafe frame.neighborNews {
      switch news.claim {
      case .none: break
      case .announcement(let ip, let address, _):
        segment.claim = NeighborKey(vlan: segment.vlan, address: ip)
        segment.mayTeach = address == segment.source
      case .mention(let ip, _): segment.claim = NeighborKey(vlan: segment.vlan, address: ip)
      }
      segment.question = news.question.map { NeighborKey(vlan: segment.vlan, address: $0) }
    }
    return segment
  }

  /// Gives the switch on stage the memory that matters.
  private mutating func remember(_ recollection: Recollection, _ segment: Account.Segment) {
    datapath.now = recollection.now
    let bridge = Int(segment.bridge.rawValue)
    let members = datapath.tables.bridges[bridge].members
    // What would be forgotten to make room for the source is not there when the target is looked up.
    let addresses = recollection.addresses.filter { $0 != recollection.victim }
    let room = recollection.isFullOfStatics ? 0 : 1
    datapath.databases[bridge] = FDB(limit: addresses.count + room, seed: 0)
    for entry in addresses {
      let key = AddressKey(vlan: entry.vlan, address: entry.address)
      let destination = Destination(port: entry.port, peer: entry.peer)
      if let age = entry.age {
        _ = datapath.databases[bridge].learn(
          key, at: destination, now: min(recollection.now &- age, lastSecond),
          lists: &datapath.lists, members: datapath.tables.bridgeMembers, members)
      } else {
        _ = datapath.databases[bridge].setStatic(
          key, at: destination, lists: &datapath.lists, members: datapath.tables.bridgeMembers,
          members)
      }
    }
    let neighbors = recollection.neighbors.filter { $0 != recollection.neighborVictim }
    datapath.neighbors[bridge] = AgingTable(limit: neighbors.count + 1, seed: 0)
    for known in neighbors {
      _ = datapath.neighbors[bridge].learn(
        NeighborKey(vlan: known.vlan, address: known.ip),
        at: Neighbor(
          address: known.address, place: Destination(port: known.port, peer: known.peer),
          isRouter: known.isRouter, doubt: known.doubt),
        now: min(recollection.now &- known.age, lastSecond), lists: &datapath.neighborLists,
        members: datapath.tables.bridgeMembers, members)
    }
  }

  // MARK: The performance

  private mutating func perform(_ stimulus: Stimulus) {
    switch stimulus {
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
    of segment: Account.Segment, from ingress: Destination?, _ recollection: Recollection
  ) -> Account.Learning {
    let key = AddressKey(vlan: segment.vlan, address: segment.source)
    let after = datapath.databases[Int(segment.bridge.rawValue)].recall(key, now: datapath.now)
    guard let after else { return .refused }
    guard
      let before = recollection.addresses.first(where: { $0.address == segment.source })
    else { return .learned(insteadOf: recollection.victim) }
    if before.age == nil { return .isStatic(before) }
    if Destination(port: before.port, peer: before.peer) != after.value {
      return .moved(from: before)
    }
    return after.value == ingress ? .known(before) : .held(before)
  }

  /// What the frame has told of a neighbor that was not known, or otherwise.
  private func neighborLearned(
    from segment: Account.Segment, _ recollection: Recollection
  ) -> KnownNeighbor? {
    guard let claim = segment.claim,
      let after = datapath.neighbors[Int(segment.bridge.rawValue)].recall(claim, now: datapath.now)
    else { return nil }
    let now = KnownNeighbor(after)
    let before = recollection.neighbors.first { $0.ip == now.ip }
    let isNews = before.map {
      ($0.address, $0.port, $0.peer, $0.isRouter) != (now.address, now.port, now.peer, now.isRouter)
    }
    return isNews ?? true ? now : nil
  }

  /// What became of the frame at every port that it might have left by.
  private func deliveries(
    of account: Account, _ segment: Account.Segment
  ) -> [Account.Delivery] {
    let sent = Dictionary(grouping: audience.sent) { wayOut(of: $0) }
    var waysOut: [Destination] = []
    switch account.decision {
    case .direction(_, let known):
      waysOut.append(Destination(port: known.port, peer: known.peer))
    case .destination(let known):
      let isBack = known.port == account.ingress?.port
      if !isBack { waysOut.append(Destination(port: known.port, peer: known.peer)) }
    case .flood: waysOut = waysOutOfAll(in: segment.bridge)
    case .answer, .nobody, nil: break
    }
    for wayOut in sent.keys.sorted(by: { $0.port < $1.port }) where !waysOut.contains(wayOut) {
      waysOut.append(wayOut)
    }
    return waysOut.map { wayOut in
      Account.Delivery(
        port: wayOut.port, peer: wayOut.peer,
        outcome: outcome(at: wayOut, sent[wayOut] ?? [], account, segment))
    }
  }

  private func outcome(
    at wayOut: Destination, _ sent: [Account.Sent], _ account: Account,
    _ segment: Account.Segment
  ) -> Account.Outcome {
    if !sent.isEmpty { return .sent(sent) }
    if wayOut.port == account.ingress?.port { return .passedOver(.ingress) }
    if let reason = drops(at: wayOut.port).keys.first { return .dropped(reason) }
    let port = datapath.tables.ports[Int(wayOut.port.rawValue)]
    if port.role == .waiting { return .passedOver(.waiting) }
    if !datapath.tables.carries(segment.vlan, port: port) { return .passedOver(.otherVLAN) }
    if port.role == .tunnel {
      if let ingress = account.ingress, ingress.peer != .none,
        !datapath.tables.relays(from: ingress.port, to: port)
      {
        return .passedOver(.splitHorizon)
      }
      if wayOut.peer == .none { return .passedOver(.noRemote) }
    }
    // What is wrong with the frame itself is charged to the port that it came in by.
    return account.drops.keys.first.map { .dropped($0) } ?? .passedOver(.unknown)
  }

  /// The port, and the remote of it, that something was sent to.
  private func wayOut(of sent: Account.Sent) -> Destination {
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
  /// Tells a rehearsal what it has to know.
  ///
  /// Some look-ups; frames wait that long.
  package func recall(_ question: Rehearsal.Question) -> Rehearsal.Recollection {
    var recollection = Rehearsal.Recollection()
    recollection.now = now
    let bridge = Int(question.bridge.rawValue)
    guard bridge < tables.bridges.count, tables.bridges[bridge].isPresent else {
      return recollection
    }
    let members = tables.bridges[bridge].members
    let source = AddressKey(vlan: question.vlan, address: question.source)
    var keys = [source, AddressKey(vlan: question.vlan, address: question.target)]
    for key in [question.claim, question.question].compactMap(\.self) {
      guard let known = neighbors[bridge].recall(key, now: now) else { continue }
      recollection.neighbors.append(KnownNeighbor(known))
      keys.append(AddressKey(vlan: question.vlan, address: known.value.address))
    }
    for key in keys {
      guard let record = databases[bridge].recall(key, now: now) else { continue }
      let known = KnownAddress(record)
      if !recollection.addresses.contains(known) { recollection.addresses.append(known) }
    }
    let statistics = databases[bridge].statistics
    recollection.isFullOfStatics = statistics.statics >= statistics.limit
    recollection.victim = databases[bridge].victim(
      of: source, from: question.ingress, now: now, lists: lists, members: tables.bridgeMembers,
      members
    ).map { KnownAddress($0) }
    if let claim = question.claim,
      question.mayTeach || neighbors[bridge].recall(claim, now: now) != nil
    {
      recollection.neighborVictim = neighbors[bridge].victim(
        of: claim, from: question.ingress, portLimit: tables.neighborLimit(of: question.ingress),
        now: now, lists: neighborLists, members: tables.bridgeMembers, members
      ).map { KnownNeighbor($0) }
    }
    return recollection
  }
}

/// Who gets what the switch on stage sends: copies it.
private final class Audience {
  private(set) var sent: [Rehearsal.Account.Sent] = []

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
        Rehearsal.Account.Sent(
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
