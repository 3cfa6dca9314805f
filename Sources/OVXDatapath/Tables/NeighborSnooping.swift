// ARP and neighbor discovery: who has which IP address, learned from what the frames of a segment
// say, and answers in the place of neighbors on other ports.
//
// A question to everybody goes to every container of a tenant on every host. Most are for one of
// few addresses, and the switch has seen the answer before. So it answers itself what it is sure
// of, and the question goes no further (RFC 9161; Linux calls it `neigh_suppress`). Everything else
// takes its way: what is meant for one station, what looks for a duplicate, what announces, and
// what the switch cannot know.
//
// Being wrong would be worse than being silent, so a question is only answered if
//
// - its segment has a tunnel, which is what makes flooding dear, and it came from a device;
// - the neighbor told its address itself within the last half minute, and nobody has contradicted
//   since, or looked whether the address can be had, or an agent tells it;
// - the neighbor has answered what was passed on to it (`NeighborDoubt`);
// - the asker did not ask the same a moment ago: it would not, had the answer helped it;
// - the neighbor's Ethernet address is known to be on another port that is in service;
// - the asker told nothing new by asking. A station that was not seen here lately may have moved,
//   and the switches of other hosts learn that, too, from the first that they hear of it; an agent
//   tells them by itself.
//
// Of a neighbor that told longer ago the question goes to that neighbor alone, which costs one
// frame and not one for each container of the tenant. Where it stays silent its entry is dropped,
// and the next question is flooded.
//
// As on any Ethernet, the latest announcement is believed. A tenant can disturb its own segment by
// that, and no other: what is learned is looked up by bridge and VLAN, and the answer goes to the
// port that asked, in that VLAN.

/// What one ARP or ND packet says about its segment.
struct NeighborNews {
  enum Claim {
    case none
    /// Somebody tells its own addresses, so that all may believe it.
    case announcement(IPAddress, MACAddress, isRouter: Bool)
    /// An address in passing: enough to doubt what was known, not to know better.
    case mention(IPAddress, MACAddress)
  }

  var claim = Claim.none
  /// The address that everybody is asked for.
  var question: IPAddress?
  /// The address that one station is asked for: whether it is alive, in most cases.
  var probe: IPAddress?
  /// The address that somebody wants to have, who looks for another that has it (RFC 5227, section
  /// 2.1.1; RFC 4862, section 5.4).
  var wanted: IPAddress?
  /// Who asks.
  var asker = IPAddress(v4: 0)

  /// Reads ARP (RFC 826).
  init(_ packet: borrowing ARPPacket, toEverybody: Bool) {
    guard packet.operation == .request || packet.operation == .reply else { return }
    let sender = packet.senderProtocol
    guard sender.isStation else {
      // Whoever asks one station alone is answered by nobody else.
      if toEverybody, sender == asker, packet.operation == .request,
        packet.targetProtocol.isStation
      {
        wanted = packet.targetProtocol
      }
      return
    }
    claim = .announcement(sender, packet.senderHardware, isRouter: false)
    let target = packet.targetProtocol
    guard packet.operation == .request, target != sender, target.isStation else { return }
    if toEverybody { question = target } else { probe = target }
    asker = sender
  }

  /// Reads neighbor discovery (RFC 4861) in a frame from a station.
  init(_ message: borrowing NeighborDiscoveryMessage, from station: MACAddress) {
    switch message.kind {
    case .neighborAdvertisement:
      guard message.target.isStation else { return }
      guard message.isOverriding, let address = message.linkLayerAddress else {
        // Without flag O it may be one of several with that address, or a proxy (section 7.2.8).
        // Without an address it answers a question to one station (section 4.4): that one is alive.
        claim = .mention(message.target, message.linkLayerAddress ?? station)
        return
      }
      claim = .announcement(message.target, address, isRouter: message.isFromRouter)
    case .routerAdvertisement:
      guard let address = message.linkLayerAddress else { return }
      claim = .announcement(message.source, address, isRouter: true)
    case .routerSolicitation, .neighborSolicitation:
      // Whether the sender is a router is not told. To say wrongly that it is none would take a
      // router away from its hosts (section 7.2.5), so this alone makes no neighbor known.
      if message.kind == .neighborSolicitation, message.source.isUnspecified,
        message.target.isStation
      {
        wanted = message.target
      }
      guard message.source.isStation, let address = message.linkLayerAddress else { return }
      claim = .mention(message.source, address)
      guard message.kind == .neighborSolicitation, message.target.isStation else { return }
      if message.destination.isMulticast {
        question = message.target
      } else {
        probe = message.target
      }
      asker = message.source
    }
  }
}

extension IPAddress {
  /// Whether one station of a segment can have the address.
  var isStation: Bool {
    if isIPv6 { return !isMulticast && !isIPv4Mapped && !(high == 0 && low <= 1) }
    // RFC 1122, section 3.2.1.3: this network, loopback, groups, reserved and broadcast.
    let first = low >> 24
    return first != 0 && first != 127 && first < 224
  }
}

extension Frame {
  /// Whether the frame may say something about neighbors; if not, that is known at a glance.
  @inline(__always) var mayConcernNeighborTable: Bool {
    etherType == .arp || NeighborDiscoveryMessage.mayBe(in: bytes)
  }

  /// What the frame says about neighbors; `nil` where it says nothing valid.
  var neighborNews: NeighborNews? {
    // A partial checksum cannot be verified, and a superframe holds several packets.
    guard !offload.needsChecksum && !offload.isSuperframe else { return nil }
    let packet = EthernetHeader(known: bytes).payload
    if etherType == .arp {
      guard let packet = ARPPacket(packet) else { return nil }
      return NeighborNews(packet, toEverybody: destination == .broadcast)
    }
    guard let message = NeighborDiscoveryMessage(packet) else { return nil }
    // What is meant for all of IPv6 and sent to one of Ethernet, or the other way round, is a
    // trick.
    guard message.destination.isMulticast == destination.isGroup else { return nil }
    return NeighborNews(message, from: source)
  }
}

extension Datapath {
  /// Snoops ARP and neighbor discovery: learns from a frame, and answers it if it asks for a
  /// neighbor that is known.
  ///
  /// A question for one that may have gone is addressed to that one alone.
  ///
  /// - Parameters:
  ///   - frame: An admitted frame with `mayConcernNeighborTable`.
  ///   - bridge: The bridge that it is in.
  ///   - learning: What its source address has changed in the address table.
  /// - Returns: Whether it was answered, and is to go no further.
  @inline(never) mutating func snoopNeighbors(
    _ frame: inout Frame, bridge: BridgeID, learning: FDB.Learning
  ) -> Bool {
    // Of what is behind other switches an agent tells.
    if frame.isFromTunnel, !tables.ports[frame.ingress].learns { return false }
    // Who contradicts a static address is not believed.
    let isKnown: Bool
    switch learning {
    case .refused, .held: return false
    case .known, .renewed: isKnown = true
    case .learned, .moved: isKnown = false
    }
    guard let news = frame.neighborNews else { return false }
    let isOld = learn(news.claim, from: frame, bridge: bridge)
    if let wanted = news.wanted {
      doubt(wanted, from: frame, bridge: bridge)
      return false
    }
    if let probe = news.probe {
      let key = NeighborKey(vlan: frame.vlan, address: probe)
      if let neighbor = neighbors.lookUp(key, in: bridge),
        neighbor.address == frame.destination
      {
        ask(neighbor, key, bridge: bridge)
      }
      return false
    }
    guard let question = news.question, !frame.isFromTunnel,
      tables.flooding(vlan: frame.vlan, bridge: bridge).answersQuestions
    else { return false }
    return take(
      question, of: news.asker, &frame, bridge: bridge, mayAnswer: isOld && isKnown)
  }

  /// Decides what becomes of a device's question to everybody.
  ///
  /// Its answer comes back this way, so it is noticed where there is none.
  ///
  /// - Returns: Whether it was answered.
  private mutating func take(
    _ question: IPAddress, of asker: IPAddress, _ frame: inout Frame, bridge: BridgeID,
    mayAnswer: Bool
  ) -> Bool {
    let vlan = frame.vlan
    let key = NeighborKey(vlan: vlan, address: question)
    guard let known = neighbors.lookUp(key, in: bridge, now: now) else { return false }
    var neighbor = known.value
    if known.origin == .learned, neighbor.doubt.isUnanswered(now: now) {
      forget(key, bridge: bridge)
      return false
    }
    // What an agent tells is true for as long as it does, and other hosts hear by it who has come
    // here.
    let isExternal = known.origin != .learned
    let isRepeated = !isExternal && neighbor.doubt.isRepetition(of: frame.source, now: now)
    guard mayAnswer || isExternal, !isRepeated,
      let place = fdb.lookUp(
        AddressKey(vlan: vlan, address: neighbor.address), in: bridge),
      place.port != frame.ingress, isInService(place.port)
    else {
      ask(neighbor, key, bridge: bridge)
      return false
    }
    if known.age ?? 0 >= NeighborDoubt.credit {
      ask(neighbor, key, bridge: bridge)
      frame.redirect(to: neighbor.address)
      directions[bridge] &+= 1
      return false
    }
    neighbors.revise(key, to: neighbor, in: bridge)
    answer(question, of: asker, &frame, bridge: bridge, neighbor)
    return true
  }

  /// Notes that a question passes to a neighbor, which ought to answer it.
  private mutating func ask(_ neighbor: Neighbor, _ key: NeighborKey, bridge: BridgeID) {
    var neighbor = neighbor
    neighbor.doubt.noteQuestion(now: now)
    neighbors.revise(key, to: neighbor, in: bridge)
  }

  private mutating func forget(_ key: NeighborKey, bridge: BridgeID) {
    // What an agent tells goes when it says so.
    guard neighbors.remove(key, in: bridge, of: .learned ... .learned) else { return }
    hasStationNews = true
    updates.publish(FDBUpdate(forgetting: key, bridge: bridge))
  }

  /// Forgets a neighbor whose address another station wants: it answers that one, or has it no
  /// more.
  private mutating func doubt(
    _ address: IPAddress, from frame: borrowing Frame, bridge: BridgeID
  ) {
    let key = NeighborKey(vlan: frame.vlan, address: address)
    guard let known = neighbors.lookUp(key, in: bridge), known.address != frame.source else {
      return
    }
    forget(key, bridge: bridge)
  }

  /// Forgets a neighbor of a bridge, where it is known.
  mutating func forgetNeighbor(_ address: IPAddress, vlan: VLANID, bridge: BridgeID) {
    let key = NeighborKey(vlan: vlan, address: address)
    guard neighbors.lookUp(key, in: bridge) != nil else { return }
    forget(key, bridge: bridge)
  }

  private func isInService(_ port: PortID) -> Bool {
    switch tables.ports[port].role {
    case .device, .tunnel: true
    case .waiting, .absent: false
    }
  }

  /// Notes what a frame claims.
  ///
  /// - Returns: Whether it is credible and contradicts nothing, so that nobody need hear of it.
  private mutating func learn(
    _ claim: NeighborNews.Claim, from frame: borrowing Frame, bridge: BridgeID
  ) -> Bool {
    let place = Destination(port: frame.ingress, peer: frame.peer)
    let key: NeighborKey
    var neighbor: Neighbor
    var isAnnounced = true
    switch claim {
    case .none: return false
    case .announcement(let ip, let address, let isRouter):
      key = NeighborKey(vlan: frame.vlan, address: ip)
      neighbor = Neighbor(address: address, place: place, isRouter: isRouter)
    case .mention(let ip, let address):
      key = NeighborKey(vlan: frame.vlan, address: ip)
      neighbor = Neighbor(address: address, place: place, isRouter: false)
      isAnnounced = false
    }
    // A frame of another station than it tells of: bonds, proxies and liars send such.
    let isCredible = neighbor.address == frame.source
    if !isCredible || !isAnnounced {
      guard let known = neighbors.lookUp(key, in: bridge) else { return isCredible }
      if known.address != neighbor.address {
        if isCredible { noteContest(key, bridge: bridge, from: known, to: neighbor) }
        forget(key, bridge: bridge)
        return false
      }
      guard isCredible else { return false }
      neighbor.isRouter = known.isRouter
    }
    let learning = neighbors.learn(
      key, at: neighbor, in: bridge, now: now, portLimit: tables.neighborLimit(of: frame.ingress),
      overridesExternal: !frame.isFromTunnel)
    switch learning {
    case .refused, .held: return true
    case .known:
      // It has told already in this second, and may have been asked since.
      neighbors.revise(key, to: neighbor, in: bridge)
      return true
    case .learned, .renewed, .moved:
      updates.publish(FDBUpdate(key, neighbor, bridge: bridge))
    }
    if case .renewed = learning {} else { hasStationNews = true }
    guard case .moved(let former) = learning, former.address != neighbor.address else {
      return true
    }
    noteContest(key, bridge: bridge, from: former, to: neighbor)
    return false
  }

  /// Makes of a question the answer that the neighbor would give.
  private mutating func answer(
    _ question: IPAddress, of asker: IPAddress, _ frame: inout Frame, bridge: BridgeID,
    _ neighbor: Neighbor
  ) {
    let length =
      EthernetHeader.byteCount
      + (question.isIPv6 ? NeighborDiscoveryMessage.advertisementByteCount : ARPPacket.byteCount)
    let asking = frame.source
    unsafe frame = makeAnswer(to: frame, byteCount: length) { start in
      unsafe EthernetHeader.write(
        destination: asking, source: neighbor.address,
        etherType: question.isIPv6 ? .ipv6 : .arp, to: start)
      if question.isIPv6 {
        unsafe NeighborDiscoveryMessage.writeAdvertisement(
          of: question, at: neighbor.address, isRouter: neighbor.isRouter, to: asker,
          memory: start + EthernetHeader.byteCount)
      } else {
        unsafe ARPPacket.write(
          operation: .reply, senderHardware: neighbor.address, senderProtocol: question,
          targetHardware: asking, targetProtocol: asker, to: start + EthernetHeader.byteCount)
      }
    }
    counters.answered(at: frame.ingress)
    answers[bridge] &+= 1
  }
}
