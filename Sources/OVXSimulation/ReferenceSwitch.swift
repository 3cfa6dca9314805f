package import OVXDatapath

/// The switch as plainly as it can be written: dictionaries, arrays, one frame at a time, nothing
/// fast.
///
/// Written from the design (segments, tenancy, learning, flooding, split horizon) and not from the
/// switch's code, so that a random comparison of the two finds the errors of either. It forwards
/// frames as a whole; `PartialFrame.wireFrames` says what becomes of superframes and missing
/// checksums.
package struct ReferenceSwitch {
  /// A frame that leaves: for a device, or for one remote VTEP of a tunnel.
  package struct Delivery {
    package var port: PortID
    /// The remote VTEP, or none for a device.
    package var peer: RemoteVTEPID
    /// The frame with its tag, as the egress sends it; a superframe's segment size fits the egress.
    package var frame: PartialFrame
    /// Whether the egress is to get it exactly so, as one superframe.
    package var isWhole = false
  }

  /// A frame, or a copy of it, that dies, and the port that is charged.
  package struct Drop: Hashable {
    package var reason: DropReason
    /// `PortID.none` for a datagram of no tunnel.
    package var port: PortID

    package init(reason: DropReason, port: PortID) {
      self.reason = reason
      self.port = port
    }
  }

  /// All that becomes of one or several frames.
  package struct Outcome {
    package var deliveries: [Delivery]
    package var drops: [Drop]
    /// Whether a frame was such nonsense that what the switch does with it is not laid down.
    package var isDisputable = false

    package init(deliveries: [Delivery] = [], drops: [Drop] = []) {
      self.deliveries = deliveries
      self.drops = drops
    }

    package static func += (left: inout Outcome, right: Outcome) {
      left.deliveries += right.deliveries
      left.drops += right.drops
      left.isDisputable = left.isDisputable || right.isDisputable
    }
  }

  package private(set) var topology = Topology()
  package var tables: [BridgeID: ReferenceTable] = [:]
  package var neighbors: [BridgeID: ReferenceNeighbors] = [:]
  /// Questions that each bridge answered instead of forwarding them.
  package private(set) var answers: [BridgeID: UInt64] = [:]
  package private(set) var now: UInt32 = 0
  /// Frames that each bridge has flooded from joined VNIs into others since the last tick.
  private var joinFloods: [BridgeID: Int] = [:]
  /// Packets of each port that were too large and were answered since the last tick.
  private var oversizeAnswers: [PortID: Int] = [:]
  /// Picks the victim of an eviction among equals; the first one by default.
  package var chooseVictim: ([ReferenceTable.Key]) -> ReferenceTable.Key? = { $0.first }
  package var chooseNeighbor: ([ReferenceNeighbors.Key]) -> ReferenceNeighbors.Key? = { $0.first }

  /// A frame within the switch: its outermost tag beside it.
  private struct Passage {
    var frame: PartialFrame
    var tag: VLANTag
    var vlan = VLANID.untagged
    var ingress: Topology.Port
    var peer: RemoteVTEPID
    var source = MACAddress(truncating: 0)
    var target = MACAddress(truncating: 0)
    var isFlooded = false

    var isFromTunnel: Bool { peer != .none }

    /// Whether anything may be learned from it.
    var isLearnedFrom: Bool {
      guard case .tunnel(let tunnel) = ingress.attachment else { return true }
      return tunnel.learns
    }
  }

  package init() {}

  // MARK: Configuration and time

  package mutating func apply(_ new: Topology) {
    for bridge in topology.bridges {
      let known = tables[bridge.id]?.entries ?? [:]
      let kept = known.filter { survives($0.vlan, $1.port, $1.peer, new) }
      tables[bridge.id]?.entries = kept
      let told = neighbors[bridge.id]?.entries ?? [:]
      let stillTold = told.filter { survives($0.vlan, $1.port, $1.peer, new) }
      neighbors[bridge.id]?.entries = stillTold
    }
    tables = tables.filter { id, _ in new.bridges.contains { $0.id == id } }
    neighbors = neighbors.filter { id, _ in new.bridges.contains { $0.id == id } }
    answers = answers.filter { id, _ in new.bridges.contains { $0.id == id } }
    for bridge in new.bridges {
      var table = tables[bridge.id] ?? ReferenceTable(limit: bridge.addressLimit)
      table.limit = bridge.addressLimit
      tables[bridge.id] = table
      var neighbors = self.neighbors[bridge.id] ?? ReferenceNeighbors(limit: bridge.addressLimit)
      neighbors.limit = bridge.addressLimit
      self.neighbors[bridge.id] = neighbors
    }
    topology = new
  }

  /// Whether an address is still where it was after a change: same bridge, VLAN, tunnel and remote.
  private func survives(
    _ vlan: VLANID, _ id: PortID, _ peer: RemoteVTEPID, _ new: Topology
  ) -> Bool {
    guard let port = new.port(id), port.bridge == topology.port(id)?.bridge,
      new.bridges.contains(where: { $0.id == port.bridge }), port.vlans.includes(vlan)
    else { return false }
    switch (topology.port(id)?.attachment, port.attachment) {
    case (.tunnel(let old), .tunnel(let tunnel)):
      return old.vni == tunnel.vni && tunnel.peers.contains { $0.id == peer }
    case (_, .tunnel): return false
    default: return peer == .none
    }
  }

  /// Tells the time; the last seconds before the number wraps count as the one before them.
  package mutating func tick(now time: UInt32) {
    now = min(time, .max - 3)
    joinFloods = [:]
    oversizeAnswers = [:]
    for bridge in topology.bridges {
      tables[bridge.id]?.expire(now: now, agingTime: bridge.agingTime)
      neighbors[bridge.id]?.expire(now: now, agingTime: bridge.agingTime)
    }
  }

  package mutating func addStatic(
    _ address: MACAddress,
    vlan: VLANID,
    on port: PortID,
    bridge: BridgeID
  ) -> Bool {
    guard let record = topology.port(port), record.bridge == bridge, record.vlans.includes(vlan)
    else { return false }
    var peer = RemoteVTEPID.none
    if case .tunnel(let tunnel) = record.attachment {
      guard let first = tunnel.peers.first else { return false }
      peer = first.id
    }
    return tables[bridge]?.set(
      ReferenceTable.Key(vlan: vlan, address: address),
      port: port,
      peer: peer,
      origin: .static,
      now: now,
      choose: chooseVictim
    ) ?? false
  }

  /// Takes what an agent tells of an address: where it is, or that it is nowhere.
  package mutating func setExternal(
    _ address: MACAddress, vlan: VLANID, at place: Destination?, isSticky: Bool = false,
    bridge: BridgeID
  ) -> Bool {
    let key = ReferenceTable.Key(vlan: vlan, address: address)
    let known = tables[bridge]?.entries[key]?.origin
    guard let place else {
      if known == .external || known == .stickyExternal { tables[bridge]?.entries[key] = nil }
      return true
    }
    guard let port = topology.port(place.port), port.bridge == bridge, port.vlans.includes(vlan),
      case .tunnel(let tunnel) = port.attachment,
      tunnel.peers.contains(where: { $0.id == place.peer })
    else { return false }
    let isStation = topology.ports.contains {
      $0.bridge == bridge && $0.vlans.includes(vlan) && $0.ownAddress == address && $0.isStation
    }
    guard !isStation else { return false }
    return tables[bridge]?.set(
      key, port: place.port, peer: place.peer, origin: isSticky ? .stickyExternal : .external,
      now: now, choose: chooseVictim) ?? false
  }

  // MARK: Receiving

  /// What becomes of a frame from a device.
  package mutating func receive(
    _ frame: PartialFrame,
    tag: VLANTag,
    from id: PortID
  ) -> Outcome {
    guard let port = topology.port(id) else { return Outcome() }
    func died(_ reason: DropReason) -> Outcome {
      Outcome(drops: [Drop(reason: reason, port: id)])
    }
    guard case .device = port.attachment else { return died(.waitingPort) }
    guard frame.bytes.count >= 14 else { return died(.truncated) }
    var passage = Passage(frame: frame, tag: tag, ingress: port, peer: .none)
    if !passage.frame.hasPlausibleChecksumRequest { return died(.malformedOffload) }
    return forward(&passage)
  }

  /// What becomes of one datagram that a socket received, by itself or together with others.
  package mutating func receive(
    datagram: [UInt8],
    on endpoint: ListenerID,
    from remote: IPAddress,
    trafficClass: UInt8 = 0,
    isInTrain: Bool = false
  ) -> Outcome {
    func died(_ reason: DropReason) -> Outcome {
      Outcome(drops: [Drop(reason: reason, port: .none)])
    }
    guard topology.hasRemote(remote) else { return died(.unknownVTEP) }
    guard datagram.count >= 8 + 14 else { return died(.vxlanTooShort) }
    guard datagram[0] & 0x08 != 0 else { return died(.vniFlagMissing) }
    let number = UInt32(truncatingIfNeeded: datagram.number(at: 4, count: 4) ?? 0) >> 8
    guard let vni = VNI(rawValue: number),
      let (port, peer) = topology.tunnel(vni: vni, endpoint: endpoint, remote: remote)
    else { return died(.unknownVNI) }
    if isInTrain, !Array(datagram[8...]).holdsItsLengths {
      return Outcome(drops: [Drop(reason: .lengthBeyondFrame, port: port.id)])
    }
    guard let frame = Array(datagram[8...]).decapsulated(trafficClass: trafficClass) else {
      return Outcome(drops: [Drop(reason: .congestionExperienced, port: port.id)])
    }
    var passage = Passage(
      frame: PartialFrame(frame),
      tag: .none,
      ingress: port,
      peer: peer
    )
    return forward(&passage)
  }

  // MARK: Forwarding

  private mutating func forward(_ passage: inout Passage) -> Outcome {
    let ingress = passage.ingress.id
    if let reason = admit(&passage) { return Outcome(drops: [Drop(reason: reason, port: ingress)]) }
    if let security = passage.ingress.security, !passage.isFromTunnel,
      let reason = ReferenceSecurity.refusal(of: passage.frame, by: security)
    {
      return Outcome(drops: [Drop(reason: reason, port: ingress)])
    }
    let bridge = passage.ingress.bridge
    let sourceKey = ReferenceTable.Key(vlan: passage.vlan, address: passage.source)
    if case .tunnel(let tunnel) = passage.ingress.attachment, tunnel.isJoined,
      tables[bridge]?.contradiction(
        sourceKey, port: ingress, peer: passage.peer, within: 2, now: now) != nil
    {
      return Outcome(drops: [Drop(reason: .loop, port: ingress)])
    }
    let wasThere = tables[bridge]?.learn(
      sourceKey,
      port: ingress,
      peer: passage.peer,
      now: now,
      mayChange: passage.isLearnedFrom,
      overridesExternal: !passage.isFromTunnel,
      choose: chooseVictim
    )

    var outcome = Outcome()
    outcome.isDisputable = passage.frame.hasDisputableChecksumRequest
    if let wasThere, passage.isLearnedFrom,
      let answer = snoopNeighbors(&passage, wasThere: wasThere)
    {
      deliver(answer, to: passage.ingress, peer: .none, &outcome)
      answers[bridge, default: 0] += 1
      return outcome
    }
    let key = ReferenceTable.Key(vlan: passage.vlan, address: passage.target)
    if !passage.target.isGroup, let known = tables[bridge]?.lookUp(key) {
      if known.port == ingress {
        outcome.drops = [Drop(reason: .samePort, port: ingress)]
      } else if let port = topology.port(known.port) {
        deliver(passage, to: port, peer: known.peer, &outcome)
      }
      return outcome
    }
    if !passage.target.isGroup {
      let owners = topology.ports.filter {
        $0.bridge == bridge && $0.vlans.includes(passage.vlan)
          && $0.ownAddress == passage.target
      }
      if let station = owners.first(where: \.isStation) {
        if station.id == ingress {
          outcome.drops = [Drop(reason: .samePort, port: ingress)]
        } else {
          deliver(passage, to: station, peer: .none, &outcome)
        }
        return outcome
      }
      if !owners.isEmpty {
        outcome.drops = [Drop(reason: .ownAddress, port: ingress)]
        return outcome
      }
    }
    var segment = topology.ports.filter { port in
      if case .waiting = port.attachment { return false }
      if passage.isFromTunnel, !port.isJoined(to: passage.ingress) { return false }
      if case .tunnel(let tunnel) = port.attachment, !tunnel.floodsUnknown, !passage.target.isGroup
      {
        return false
      }
      return port.bridge == bridge && port.vlans.includes(passage.vlan) && port.id != ingress
    }
    passage.isFlooded = true
    let joined = segment.filter { $0.hasPeers }
    if passage.isFromTunnel, !joined.isEmpty {
      if joinFloods[bridge, default: 0] < 1000 {
        joinFloods[bridge, default: 0] += 1
      } else {
        segment.removeAll { $0.hasPeers }
        outcome.drops = [Drop(reason: .joinFloodLimit, port: ingress)]
      }
    }
    for port in segment {
      guard case .tunnel(let tunnel) = port.attachment else {
        deliver(passage, to: port, peer: .none, &outcome)
        continue
      }
      for peer in tunnel.peers where peer.takesFloods {
        deliver(passage, to: port, peer: peer.id, &outcome)
      }
    }
    let hasAnywhereToGo = segment.contains { port in
      guard case .tunnel(let tunnel) = port.attachment else { return true }
      return tunnel.peers.contains(where: \.takesFloods)
    }
    // What is over a limit is counted as that; what is for a group and heard by nobody is not lost.
    if !hasAnywhereToGo, outcome.drops.isEmpty, !passage.target.isGroup {
      outcome.drops = [Drop(reason: .nowhereToFlood, port: ingress)]
    }
    return outcome
  }

  // MARK: Neighbors

  /// Learns about neighbors from a frame, and returns the answer, if it asks what is known.
  ///
  /// A question for one that has not told for half a minute is addressed to that one.
  private mutating func snoopNeighbors(_ passage: inout Passage, wasThere: Bool) -> Passage? {
    let bridge = passage.ingress.bridge
    guard !passage.frame.offload.needsChecksum, !passage.frame.offload.isSuperframe,
      let news = ReferenceNews(passage.frame.bytes)
    else { return nil }
    if let wanted = news.wanted {
      let key = ReferenceNeighbors.Key(vlan: passage.vlan, ip: wanted)
      if neighbors[bridge]?.entries[key]?.address != passage.source {
        neighbors[bridge]?.entries[key] = nil
      }
      return nil
    }
    let isOld = isOld(news, from: passage, bridge)
    if let probe = news.probe {
      let key = ReferenceNeighbors.Key(vlan: passage.vlan, ip: probe)
      if neighbors[bridge]?.entries[key]?.address == passage.target {
        neighbors[bridge]?.doubts[key, default: NeighborDoubt()].noteQuestion(now: now)
      }
      return nil
    }
    guard let question = news.question, !passage.isFromTunnel, suppresses(passage.vlan, bridge)
    else { return nil }
    let key = ReferenceNeighbors.Key(vlan: passage.vlan, ip: question)
    guard let neighbor = neighbors[bridge]?.entries[key] else { return nil }
    var doubt = neighbors[bridge]?.doubts[key] ?? NeighborDoubt()
    if doubt.isUnanswered(now: now) {
      neighbors[bridge]?.entries[key] = nil
      return nil
    }
    let isRepeated = doubt.isRepetition(of: passage.source, now: now)
    let isRecent = now &- neighbor.lastSeen < 30
    let isToBeSure =
      isOld && wasThere && !isRepeated && isInReach(neighbor, from: passage, bridge)
    if !isToBeSure || !isRecent { doubt.noteQuestion(now: now) }
    neighbors[bridge]?.doubts[key] = doubt
    guard isToBeSure else { return nil }
    guard isRecent else {
      passage.frame.bytes.replaceSubrange(0..<6, with: neighbor.address.octets)
      passage.target = neighbor.address
      return nil
    }
    var answer = passage
    answer.frame = PartialFrame(
      neighborAnswer(
        from: neighbor.address, question, isRouter: neighbor.isRouter, to: passage.source, news.ip))
    return answer
  }

  /// Whether a neighbor's Ethernet address is known to be on another port, which is in service.
  private func isInReach(
    _ neighbor: ReferenceNeighbors.Entry, from passage: Passage, _ bridge: BridgeID
  ) -> Bool {
    let key = ReferenceTable.Key(vlan: passage.vlan, address: neighbor.address)
    guard let place = tables[bridge]?.lookUp(key), place.port != passage.ingress.id,
      let port = topology.port(place.port)
    else { return false }
    if case .waiting = port.attachment { return false }
    return true
  }

  /// Notes what a frame says; whether it is credible and nothing that others know differently.
  private mutating func isOld(
    _ news: ReferenceNews, from passage: Passage, _ bridge: BridgeID
  ) -> Bool {
    let key = ReferenceNeighbors.Key(vlan: passage.vlan, ip: news.ip)
    let known = neighbors[bridge]?.entries[key]
    let isCredible = news.address == passage.source
    if !news.isAnnouncement || !isCredible {
      if let known, known.address != news.address {
        neighbors[bridge]?.entries[key] = nil
        return false
      }
      guard isCredible, known != nil else { return isCredible }
    }
    let entry = ReferenceNeighbors.Entry(
      address: news.address, port: passage.ingress.id, peer: passage.peer,
      isRouter: news.isRouter ?? known?.isRouter ?? false, lastSeen: now)
    let limit = topology.bridges.first { $0.id == bridge }?.addressLimit ?? 0
    let portLimit = passage.isFromTunnel ? Int.max : max(limit / 8, 8)
    let isChanged = neighbors[bridge]?.learn(
      key, entry, portLimit: portLimit, choose: chooseNeighbor)
    return isChanged == false
  }

  /// Whether a segment has a tunnel, and its bridge answers in it.
  private func suppresses(_ vlan: VLANID, _ bridge: BridgeID) -> Bool {
    let hasTunnel = topology.ports.contains { port in
      guard case .tunnel = port.attachment else { return false }
      return port.bridge == bridge && port.vlans.includes(vlan)
    }
    let record = topology.bridges.first { $0.id == bridge }
    return hasTunnel && record?.suppressesNeighborQuestions == true
  }

  /// Finds the frame's segment, and takes the tag out that named it.
  private func admit(_ passage: inout Passage) -> DropReason? {
    guard let target = passage.frame.bytes.address(at: 0),
      let source = passage.frame.bytes.address(at: 6)
    else { return .truncated }
    passage.source = source
    passage.target = target
    if target.rawValue & ~15 == 0x0180_C200_0000 { return .reservedDestination }
    if source.isGroup || source.rawValue == 0 { return .invalidSource }
    if case .dot1qTunnel(let service, let customers, let type) = passage.ingress.vlans {
      if passage.tag.isPresent { passage.frame.insertTag(passage.tag) }
      let customer = passage.frame.firstTag
      if customer == nil, passage.frame.hasTag { return .truncated }
      passage.vlan = service
      passage.tag = VLANTag(control: (customer?.control ?? 0) & 0xE000, protocolID: type)
      let isWelcome = customers?.contains(customer?.vlan ?? .untagged) ?? true
      return isWelcome ? nil : .vlanNotOnPort
    }
    if !passage.tag.isPresent, passage.frame.hasTag {
      guard let tag = passage.frame.firstTag else { return .truncated }
      if passage.frame.offload.needsChecksum, passage.frame.offload.checksumStart < 18 {
        return .malformedOffload
      }
      passage.tag = tag
      passage.frame.removeTag()
    }
    let named = passage.tag.isPresent ? passage.tag.vlan : .untagged
    switch passage.ingress.vlans {
    case .access(let vlan):
      passage.vlan = vlan
      return named == .untagged ? nil : .taggedOnAccessPort
    case .nativeTagged(let native, _), .nativeUntagged(let native, _):
      passage.vlan = named == .untagged ? native : named
    case .trunk, .dot1qTunnel:
      passage.vlan = named
    }
    return passage.ingress.vlans.includes(passage.vlan) ? nil : .vlanNotOnPort
  }

  /// Tells the sender of a packet what fits where it was to go.
  private mutating func answer(tooLarge passage: Passage, mtu: Int, _ outcome: inout Outcome) {
    let ingress = passage.ingress.id
    guard !passage.isFlooded, !passage.target.isGroup, oversizeAnswers[ingress, default: 0] < 100,
      let bytes = packetTooBigAnswer(to: passage.frame.bytes, mtu: mtu)
    else { return }
    oversizeAnswers[ingress, default: 0] += 1
    var answer = passage
    answer.frame = PartialFrame(bytes)
    answer.peer = .none
    deliver(answer, to: passage.ingress, peer: passage.peer, &outcome)
  }

  private mutating func deliver(
    _ passage: Passage,
    to port: Topology.Port,
    peer: RemoteVTEPID,
    _ outcome: inout Outcome
  ) {
    func die(_ reason: DropReason) {
      outcome.drops.append(Drop(reason: reason, port: port.id))
    }
    func dieOfSize(_ reason: DropReason, mtu: Int) {
      die(reason)
      answer(tooLarge: passage, mtu: mtu, &outcome)
    }
    let tagsInside = FrameAnatomy(passage.frame.bytes)?.tags.count ?? 0
    if case .waiting = port.attachment { return die(.waitingPort) }
    guard port.vlans.includes(passage.vlan) else { return die(.vlanNotOnPort) }
    if case .tunnel = port.attachment, passage.isFromTunnel, !port.isJoined(to: passage.ingress) {
      return die(.splitHorizon)
    }
    guard mayShowTagInside(passage, port) else { return die(.nestedTag) }
    var frame = passage.frame
    switch port.attachment {
    case .waiting: return
    case .tunnel(let tunnel):
      guard let remote = tunnel.peers.first(where: { $0.id == peer }) else { return }
      let packetLimit =
        remote.mtu - 4 * tagsInside - (egressTag(passage, port) == nil ? 0 : 4)
      if passage.isFromTunnel {
        let tags = (egressTag(passage, port) == nil ? 0 : 1) + (frame.hasTag ? 1 : 0)
        guard let arrived = frame.asArrived(mtu: remote.mtu - 4 * tags) else {
          return dieOfSize(.exceedsTunnelMTU, mtu: packetLimit)
        }
        frame = arrived
      }
      if let tag = egressTag(passage, port) { frame.insertTag(tag) }
      switch frame.fitted(mtu: remote.mtu) {
      case .fitting(let fitted):
        guard fitted.segmentCount <= PartialFrame.segmentLimit else {
          return outcome.drops.append(Drop(reason: .tooManySegments, port: passage.ingress.id))
        }
        outcome.deliveries.append(Delivery(port: port.id, peer: peer, frame: fitted))
      case .tooLarge: dieOfSize(.exceedsTunnelMTU, mtu: packetLimit)
      case .malformed(let reason):
        outcome.drops.append(Drop(reason: reason, port: passage.ingress.id))
      }
    case .device(let device):
      // A device's MTU does not count one tag: the one that the frame gets, or else one inside.
      let tag = egressTag(passage, port)
      let packetLimit = device.mtu - 4 * (tagsInside - (tag == nil && frame.hasTag ? 1 : 0))
      if passage.isFromTunnel {
        guard let arrived = frame.asArrived(mtu: device.mtu) else {
          if FrameAnatomy(frame.bytes)?.packet?.isTCP == true {
            return die(.superframeOfUnknownSize)
          }
          return dieOfSize(.exceedsDeviceMTU, mtu: packetLimit)
        }
        frame = arrived
      }
      switch frame.fitted(mtu: device.mtu + (tag == nil && frame.hasTag ? 4 : 0)) {
      case .fitting(var fitted):
        let isTakenWhole = device.capabilities.contains(fitted.neededCapability)
        if !isTakenWhole, fitted.segmentCount > PartialFrame.segmentLimit {
          return outcome.drops.append(Drop(reason: .tooManySegments, port: passage.ingress.id))
        }
        let isWhole =
          fitted.offload.isSuperframe && !passage.isFromTunnel && isTakenWhole
          && device.capabilities.contains(.checksum)
        if let tag { fitted.insertTag(tag) }
        outcome.deliveries.append(
          Delivery(port: port.id, peer: .none, frame: fitted, isWhole: isWhole)
        )
      case .tooLarge: dieOfSize(.exceedsDeviceMTU, mtu: packetLimit)
      case .malformed(let reason):
        outcome.drops.append(Drop(reason: reason, port: passage.ingress.id))
      }
    }
  }

  /// Whether frames of a VLAN have no VLAN tag on a port.
  private func isHidden(_ vlan: VLANID, on port: Topology.Port) -> Bool {
    switch port.vlans {
    case .access, .dot1qTunnel: true
    case .nativeUntagged(let native, _): vlan == native || vlan == .untagged
    case .trunk, .nativeTagged: vlan == .untagged
    }
  }

  /// Whether a tag inside the frame may show on a port: behind the VLAN's own, or a customer's.
  private func mayShowTagInside(_ passage: Passage, _ port: Topology.Port) -> Bool {
    if case .dot1qTunnel(_, let customers, _) = port.vlans {
      if passage.frame.hasTag, passage.frame.firstTag == nil { return false }
      return customers?.contains(passage.frame.firstTag?.vlan ?? .untagged) ?? true
    }
    return !passage.frame.hasTag || !isHidden(passage.vlan, on: port)
  }

  /// The tag on the egress, with the priority that came in.
  private func egressTag(_ passage: Passage, _ port: Topology.Port) -> VLANTag? {
    let priority = passage.tag.isPresent ? passage.tag.control & 0xF000 : 0
    if !isHidden(passage.vlan, on: port) {
      return VLANTag(
        control: priority | passage.vlan.rawValue,
        protocolID: passage.tag.isPresent ? passage.tag.protocolID : 0x8100)
    }
    if passage.frame.hasTag { return nil }
    return switch port.priorityTags {
    case .never: nil
    case .ifNonzero: priority & 0xE000 == 0 ? nil : VLANTag(control: priority & 0xE000)
    case .always: VLANTag(control: priority & 0xE000)
    }
  }
}
