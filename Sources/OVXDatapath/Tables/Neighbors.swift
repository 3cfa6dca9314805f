// ARP and neighbor discovery: who has which IP address, learned from what the frames of a segment
// say, and answers in the place of neighbors on other ports.
//
// A question to everybody goes to every container of a tenant on every host. Most are for one of few
// addresses, and the switch has seen the answer before. So it answers itself what it is sure of, and
// the question goes no further (RFC 9161; Linux calls it `neigh_suppress`). Everything else takes its
// way: what is meant for one station, what looks for a duplicate, what announces, and what the switch
// cannot know.
//
// Being wrong would be worse than being silent, so a question is only answered if
//
// - its segment has a tunnel, which is what makes flooding dear, and it came from a device;
// - the neighbor told its address itself within the last half minute, and nobody has contradicted since;
// - the neighbor has answered what was passed on to it (`NeighborDoubt`);
// - the asker did not ask the same a moment ago: it would not, had the answer helped it;
// - the neighbor's Ethernet address is known to be on another port that is in service;
// - the asker told nothing new by asking. A station that was not seen here lately may have moved, and
//   the switches of other hosts learn that, too, from the first that they hear of it.
//
// Of a neighbor that told longer ago the question goes to that neighbor alone, which costs one frame and not one for
// each container of the tenant. Where it stays silent its entry is dropped, and the next question is flooded.
//
// As on any Ethernet, the latest announcement is believed. A tenant can disturb its own segment by
// that, and no other: what is learned is looked up by bridge and VLAN, and the answer goes to the port
// that asked, in that VLAN.

/// What a neighbor is known by: an IP address in a VLAN of a bridge.
struct NeighborKey: AgingTableKey, Hashable {
  /// IPv4 addresses are there as ::ffff:0:0/96, which no packet carries.
  let high: UInt64
  let low: UInt64
  let vlan: VLANID

  @inline(__always) init(vlan: VLANID, address: IPAddress) {
    high = address.high
    low = address.isIPv6 ? address.low : 0xFFFF << 32 | address.low
    self.vlan = vlan
  }

  var address: IPAddress {
    let address = IPAddress(v6High: high, low: low)
    return address.isIPv4Mapped ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : address
  }

  @inline(__always) func hash(seed: UInt64) -> UInt64 {
    let upper = (high ^ seed).scrambled() ^ UInt64(vlan.rawValue)
    return ((upper &+ low) ^ seed).scrambled(by: 0xD1B5_4A32_D192_ED03).scrambled()
  }
}

/// What is known of a neighbor; with its key 80 bytes per entry in all.
struct Neighbor: AgingTableValue {
  var address: MACAddress
  /// Where it told so.
  var place: Destination
  /// Whether it is a router, which only IPv6 tells.
  var isRouter: Bool
  /// What has come to speak against it since it told.
  var doubt = NeighborDoubt()

  var port: PortID { place.port }

  /// Whether both tell the same.
  static func == (left: Neighbor, right: Neighbor) -> Bool {
    left.address == right.address && left.place == right.place && left.isRouter == right.isRouter
  }
}

/// One line of a bridge's neighbor table.
package struct KnownNeighbor: Equatable, Sendable {
  package var ip: IPAddress
  package var vlan: VLANID
  package var address: MACAddress
  /// The port on which the neighbor told its address.
  package var port: PortID
  /// The remote VTEP behind which it was, for a tunnel port.
  package var peer: RemoteVTEPID
  package var isRouter: Bool
  /// Seconds since it last told.
  package var age: UInt32
  /// What has come to speak against it since.
  var doubt = NeighborDoubt()

  package init(
    ip: IPAddress, vlan: VLANID, address: MACAddress, port: PortID, peer: RemoteVTEPID,
    isRouter: Bool,
    age: UInt32
  ) {
    self.ip = ip
    self.vlan = vlan
    self.address = address
    self.port = port
    self.peer = peer
    self.isRouter = isRouter
    self.age = age
  }
}

extension KnownNeighbor {
  init(_ record: AgingTable<NeighborKey, Neighbor>.Record) {
    self.init(
      ip: record.key.address, vlan: record.key.vlan, address: record.value.address,
      port: record.value.place.port, peer: record.value.place.peer,
      isRouter: record.value.isRouter, age: record.age ?? 0)
    doubt = record.value.doubt
  }
}

/// Events in a bridge's neighbor table, counted, and its size.
package struct NeighborStatistics: Equatable, Sendable {
  /// `moved` counts neighbors that came to have another address, port or role.
  package var table = AddressStatistics()
  /// Questions answered instead of flooded.
  package var answered: UInt64 = 0
  /// Frames that came faster by one port than they are read for what they say about neighbors.
  package var unread: UInt64 = 0

  package init() {}
}

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
  /// Who asks.
  var asker = IPAddress(v4: 0)

  /// Reads ARP (RFC 826).
  init(_ packet: borrowing ARPPacket, toEverybody: Bool) {
    guard packet.operation == .request || packet.operation == .reply else { return }
    let sender = packet.senderProtocol
    // A probe (RFC 5227) has no sender yet. It must reach whoever has the address.
    guard sender.isStation else { return }
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
        // Without flag O it may be one of several with that address, or a proxy (section 7.2.8). Without an address it
        // answers a question to one station (section 4.4): that one is alive.
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
    let type = unsafe start.big16(12)
    if type == EtherType.arp.rawValue { return true }
    guard type == EtherType.ipv6.rawValue,
      unsafe count >= NeighborDiscoveryMessage.minimumFrameByteCount
    else { return false }
    switch unsafe IPProtocol(rawValue: start.octet(20)) {
    case .icmpv6:
      return unsafe start.octet(54) &- NeighborDiscoveryMessage.Kind.routerSolicitation.rawValue < 4
    // What is behind them does not show at a glance; few frames have any.
    case .hopByHop, .routing, .destinationOptions: return true
    default: return false
    }
  }

  /// What the frame says about neighbors; `nil` where it says nothing valid.
  var neighborNews: NeighborNews? {
    // A partial checksum cannot be verified, and a superframe holds several packets.
    guard unsafe !offload.needsChecksum && !offload.isSuperframe else { return nil }
    let packet = unsafe UnsafeRawPointer(start).span(count).dropping(EthernetHeader.byteCount)
    if unsafe start.big16(12) == EtherType.arp.rawValue {
      guard let packet = ARPPacket(packet) else { return nil }
      return unsafe NeighborNews(packet, toEverybody: address(0) == .broadcast)
    }
    guard let message = NeighborDiscoveryMessage(packet) else { return nil }
    // What is meant for all of IPv6 and sent to one of Ethernet, or the other way round, is a trick.
    guard unsafe message.destination.isMulticast == address(0).isGroup else { return nil }
    return unsafe NeighborNews(message, from: address(6))
  }
}

extension Datapath {
  /// Snoops ARP and neighbor discovery: learns from a frame, and answers it if it asks for a neighbor that is known.
  ///
  /// A question for one that may have gone is addressed to that one alone.
  ///
  /// - Parameters:
  ///   - frame: An admitted frame with `mayConcernNeighborTable`.
  ///   - bridge: The bridge that it is in.
  ///   - learning: What its source address has changed in the address table.
  /// - Returns: Whether it was answered, and is to go no further.
  @unsafe @inline(never) mutating func snoopNeighbors(
    _ frame: inout Frame, bridge: BridgeID, learning: FDB.Learning
  ) -> Bool {
    // Who contradicts a static address is not believed.
    let isKnown: Bool
    switch learning {
    case .refused, .held: return false
    case .known, .renewed: isKnown = true
    case .learned, .moved: isKnown = false
    }
    guard let news = unsafe frame.neighborNews else { return false }
    let number = Int(bridge.rawValue)
    let isOld = unsafe learn(news.claim, from: frame, bridge: number)
    if let probe = news.probe {
      let key = unsafe NeighborKey(vlan: frame.vlan, address: probe)
      if let neighbor = neighbors[number].lookUp(key),
        unsafe neighbor.address == frame.address(0)
      {
        ask(neighbor, key, bridge: number)
      }
      return false
    }
    guard let question = news.question, unsafe !frame.isFromTunnel,
      unsafe tables.flooding(vlan: frame.vlan, bridge: bridge).answersQuestions
    else { return false }
    return unsafe take(
      question, of: news.asker, &frame, bridge: number, mayAnswer: isOld && isKnown)
  }

  /// Decides what becomes of a device's question to everybody.
  ///
  /// Its answer comes back this way, so it is noticed where there is none.
  ///
  /// - Returns: Whether it was answered.
  @unsafe private mutating func take(
    _ question: IPAddress, of asker: IPAddress, _ frame: inout Frame, bridge: Int, mayAnswer: Bool
  ) -> Bool {
    let vlan = unsafe frame.vlan
    let key = NeighborKey(vlan: vlan, address: question)
    guard let known = neighbors[bridge].lookUp(key, now: now) else { return false }
    var neighbor = known.value
    if neighbor.doubt.isUnanswered(now: now) {
      forget(key, bridge: bridge)
      return false
    }
    let isRepeated = unsafe neighbor.doubt.isRepetition(of: frame.address(6), now: now)
    guard mayAnswer, !isRepeated,
      let place = databases[bridge].lookUp(AddressKey(vlan: vlan, address: neighbor.address)),
      unsafe place.port != frame.ingress, isInService(place.port)
    else {
      ask(neighbor, key, bridge: bridge)
      return false
    }
    if known.age ?? 0 >= NeighborDoubt.credit {
      ask(neighbor, key, bridge: bridge)
      unsafe frame.start.setAddress(0, neighbor.address)
      directions[bridge] &+= 1
      return false
    }
    neighbors[bridge].revise(key, to: neighbor)
    unsafe answer(question, of: asker, frame, bridge: bridge, neighbor)
    return true
  }

  /// Notes that a question passes to a neighbor, which ought to answer it.
  private mutating func ask(_ neighbor: Neighbor, _ key: NeighborKey, bridge: Int) {
    var neighbor = neighbor
    neighbor.doubt.noteQuestion(now: now)
    neighbors[bridge].revise(key, to: neighbor)
  }

  private mutating func forget(_ key: NeighborKey, bridge: Int) {
    _ = neighbors[bridge].remove(key, lists: &neighborLists)
    updates.publish(FDBUpdate(forgetting: key, bridge: BridgeID(rawValue: UInt16(bridge))))
  }

  /// Forgets a neighbor of a bridge, where it is known.
  mutating func forgetNeighbor(_ address: IPAddress, vlan: VLANID, bridge: BridgeID) {
    let key = NeighborKey(vlan: vlan, address: address)
    guard neighbors[Int(bridge.rawValue)].lookUp(key) != nil else { return }
    forget(key, bridge: Int(bridge.rawValue))
  }

  private func isInService(_ port: PortID) -> Bool {
    switch tables.ports[Int(port.rawValue)].role {
    case .device, .tunnel: true
    case .waiting, .absent: false
    }
  }

  /// Notes what a frame claims.
  ///
  /// - Returns: Whether it is credible and contradicts nothing, so that nobody need hear of it.
  @unsafe private mutating func learn(
    _ claim: NeighborNews.Claim, from frame: borrowing Frame, bridge: Int
  ) -> Bool {
    let place = unsafe Destination(port: frame.ingress, peer: frame.peer)
    let key: NeighborKey
    var neighbor: Neighbor
    var isAnnounced = true
    switch claim {
    case .none: return false
    case .announcement(let ip, let address, let isRouter):
      key = unsafe NeighborKey(vlan: frame.vlan, address: ip)
      neighbor = Neighbor(address: address, place: place, isRouter: isRouter)
    case .mention(let ip, let address):
      key = unsafe NeighborKey(vlan: frame.vlan, address: ip)
      neighbor = Neighbor(address: address, place: place, isRouter: false)
      isAnnounced = false
    }
    // A frame of another station than it tells of: bonds, proxies and liars send such.
    let isCredible = unsafe neighbor.address == frame.address(6)
    if !isCredible || !isAnnounced {
      guard let known = neighbors[bridge].lookUp(key) else { return isCredible }
      if known.address != neighbor.address {
        if isCredible { noteContest(key, bridge: bridge, from: known, to: neighbor) }
        forget(key, bridge: bridge)
        return false
      }
      guard isCredible else { return false }
      neighbor.isRouter = known.isRouter
    }
    let learning = unsafe neighbors[bridge].learn(
      key, at: neighbor, now: now, portLimit: tables.neighborLimit(of: frame.ingress),
      lists: &neighborLists, members: tables.bridgeMembers, tables.bridges[bridge].members)
    switch learning {
    case .refused, .held: return true
    case .known:
      // It has told already in this second, and may have been asked since.
      neighbors[bridge].revise(key, to: neighbor)
      return true
    case .learned, .renewed, .moved:
      updates.publish(FDBUpdate(key, neighbor, bridge: BridgeID(rawValue: UInt16(bridge))))
    }
    guard case .moved(let former) = learning, former.address != neighbor.address else {
      return true
    }
    noteContest(key, bridge: bridge, from: former, to: neighbor)
    return false
  }

  /// Answers in the place of a neighbor.
  @unsafe private mutating func answer(
    _ question: IPAddress, of asker: IPAddress, _ frame: borrowing Frame, bridge: Int,
    _ neighbor: Neighbor
  ) {
    let ingress = unsafe frame.ingress
    let length =
      EthernetHeader.byteCount
      + (question.isIPv6 ? NeighborDiscoveryMessage.advertisementByteCount : ARPPacket.byteCount)
    // Made room for here, so that delivery does not flush, and give the memory to another one.
    if egress.isFull || !egress.hasScratch(length) { flush() }
    let start = unsafe egress.scratchStart()
    let asking = unsafe frame.address(6)
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
    egress.useScratch(length)
    var reply = unsafe Frame(
      start: start, count: length, offload: .none, tag: frame.tag,
      vlan: frame.vlan, ingress: ingress, peer: .none)
    unsafe deliver(&reply, to: Destination(port: ingress))
    counters.answered(at: ingress)
    answers[bridge] &+= 1
  }
}

// MARK: - For the control side

extension Datapath {
  /// The neighbors that a bridge knows.
  package func neighbors(of bridge: BridgeID) -> [KnownNeighbor] {
    guard hasBridge(bridge) else { return [] }
    return neighbors[Int(bridge.rawValue)].records(
      members: tables.bridgeMembers, tables.bridges[Int(bridge.rawValue)].members, now: now,
      lists: neighborLists
    ).map { KnownNeighbor($0) }
  }

  /// Forgets the neighbors of a bridge, and says how many.
  package mutating func flushNeighbors(of bridge: BridgeID) -> Int {
    guard hasBridge(bridge) else { return 0 }
    return neighbors[Int(bridge.rawValue)].flush(
      members: tables.bridgeMembers, tables.bridges[Int(bridge.rawValue)].members,
      lists: &neighborLists)
  }

  /// What has happened to a bridge's neighbor table since the bridge was made.
  package func neighborStatistics(of bridge: BridgeID) -> NeighborStatistics {
    var statistics = NeighborStatistics()
    guard hasBridge(bridge) else { return statistics }
    statistics.table = neighbors[Int(bridge.rawValue)].statistics
    statistics.answered = answers[Int(bridge.rawValue)]
    statistics.unread = unread[Int(bridge.rawValue)]
    return statistics
  }
}
