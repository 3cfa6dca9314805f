// ARP and neighbour discovery: who has which IP address, learned from what the frames of a segment
// say, and answers in the place of neighbours on other ports.
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
// - the neighbour told its address itself, and nobody has contradicted since;
// - the neighbour's Ethernet address is known to be on another port that is in service;
// - the asker told nothing new by asking. A station that was not seen here lately may have moved, and
//   the switches of other hosts learn that, too, from the first that they hear of it.
//
// As on any Ethernet, the latest announcement is believed. A tenant can disturb its own segment by
// that, and no other: what is learned is looked up by bridge and VLAN, and the answer goes to the port
// that asked, in that VLAN.

/// What a neighbour is known by: an IP address in a VLAN of a bridge.
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

/// What is known of a neighbour; with its key 56 bytes per entry in all.
struct Neighbor: AgingTableValue {
  var address: MACAddress
  /// Where it told so.
  var place: Destination
  /// Whether it is a router, which only IPv6 tells.
  var isRouter: Bool

  var port: PortID { place.port }
}

/// One line of a bridge's neighbour table.
package struct KnownNeighbor: Equatable, Sendable {
  package var ip: IPAddress
  package var vlan: VLANID
  package var address: MACAddress
  /// The port on which the neighbour told its address.
  package var port: PortID
  /// The remote VTEP behind which it was, for a tunnel port.
  package var peer: PeerID
  package var isRouter: Bool
  /// Seconds since it last told.
  package var age: UInt32

  package init(
    ip: IPAddress, vlan: VLANID, address: MACAddress, port: PortID, peer: PeerID, isRouter: Bool,
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
  }
}

/// Events in a bridge's neighbour table, counted, and its size.
package struct NeighborStatistics: Equatable, Sendable {
  /// `moved` counts neighbours that came to have another address, port or role.
  package var table = AddressStatistics()
  /// Questions answered instead of flooded.
  package var answered: UInt64 = 0

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
    guard packet.operation == .request, toEverybody, target != sender, target.isStation else {
      return
    }
    question = target
    asker = sender
  }

  /// Reads neighbour discovery (RFC 4861).
  init(_ message: borrowing NeighborDiscoveryMessage) {
    switch message.kind {
    case .neighborAdvertisement:
      // Without flag O it may be one of several with that address, or a proxy (section 7.2.8).
      guard message.isOverriding, message.target.isStation,
        let address = message.linkLayerAddress
      else { return }
      claim = .announcement(message.target, address, isRouter: message.isFromRouter)
    case .routerAdvertisement:
      guard let address = message.linkLayerAddress else { return }
      claim = .announcement(message.source, address, isRouter: true)
    case .routerSolicitation, .neighborSolicitation:
      // Whether the sender is a router is not told. To say wrongly that it is none would take a
      // router away from its hosts (section 7.2.5), so this alone makes no neighbour known.
      guard message.source.isStation, let address = message.linkLayerAddress else { return }
      claim = .mention(message.source, address)
      guard message.kind == .neighborSolicitation, message.destination.isMulticast,
        message.target.isStation
      else { return }
      question = message.target
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
  /// Whether the frame may say something about neighbours; if not, that is known at a glance.
  @inline(__always) var concernsNeighbors: Bool {
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

  /// What the frame says about neighbours; `nil` where it says nothing valid.
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
    return NeighborNews(message)
  }
}

extension Datapath {
  /// Learns from a frame about neighbours, and answers it if it asks for one that is known.
  ///
  /// - Parameters:
  ///   - frame: An admitted frame with `concernsNeighbors`.
  ///   - bridge: The bridge that it is in.
  ///   - learning: What its source address has changed in the address table.
  /// - Returns: Whether it was answered, and is to go no further.
  @unsafe @inline(never) mutating func heed(
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
    let isOld = unsafe learn(news.claim, from: frame, bridge: Int(bridge.rawValue))
    guard let question = news.question, isOld, isKnown, unsafe !frame.isFromTunnel,
      unsafe tables.flooding(vlan: frame.vlan, bridge: bridge).answersQuestions
    else { return false }
    return unsafe answer(question, of: news.asker, frame, bridge: Int(bridge.rawValue))
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
        _ = neighbors[bridge].remove(key, lists: &neighborLists)
        lessons.teach(Lesson(forgetting: key, bridge: BridgeID(rawValue: UInt16(bridge))))
        return false
      }
      guard isCredible else { return false }
      neighbor.isRouter = known.isRouter
    }
    let learning = unsafe neighbors[bridge].learn(
      key, at: neighbor, now: now, portLimit: tables.neighborLimit(of: frame.ingress),
      lists: &neighborLists, members: tables.bridgeMembers, tables.bridges[bridge].members)
    switch learning {
    case .known, .refused, .held: return true
    case .learned, .renewed, .moved:
      lessons.teach(Lesson(key, neighbor, bridge: BridgeID(rawValue: UInt16(bridge))))
    }
    if case .moved(let former) = learning { return former.address == neighbor.address }
    return true
  }

  /// Answers in the place of the neighbour who is asked for, if it is known and in reach.
  @unsafe private mutating func answer(
    _ question: IPAddress, of asker: IPAddress, _ frame: borrowing Frame, bridge: Int
  ) -> Bool {
    let vlan = unsafe frame.vlan
    let ingress = unsafe frame.ingress
    guard let neighbor = neighbors[bridge].lookUp(NeighborKey(vlan: vlan, address: question)),
      let place = databases[bridge].lookUp(AddressKey(vlan: vlan, address: neighbor.address)),
      place.port != ingress
    else { return false }
    switch tables.ports[Int(place.port.rawValue)].role {
    case .device, .tunnel: break
    case .waiting, .absent: return false
    }
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
      vlan: vlan, ingress: ingress, peer: .none)
    unsafe deliver(&reply, to: Destination(port: ingress))
    counters.answered(at: ingress)
    answers[bridge] &+= 1
    return true
  }
}

// MARK: - For the control side

extension Datapath {
  /// The neighbours that a bridge knows.
  package func neighbors(of bridge: BridgeID) -> [KnownNeighbor] {
    guard hasBridge(bridge) else { return [] }
    return neighbors[Int(bridge.rawValue)].records(
      members: tables.bridgeMembers, tables.bridges[Int(bridge.rawValue)].members, now: now,
      lists: neighborLists
    ).map { KnownNeighbor($0) }
  }

  /// Forgets the neighbours of a bridge, and says how many.
  package mutating func flushNeighbors(of bridge: BridgeID) -> Int {
    guard hasBridge(bridge) else { return 0 }
    return neighbors[Int(bridge.rawValue)].flush(
      members: tables.bridgeMembers, tables.bridges[Int(bridge.rawValue)].members,
      lists: &neighborLists)
  }

  /// What has happened to a bridge's neighbour table since the bridge was made.
  package func neighborStatistics(of bridge: BridgeID) -> NeighborStatistics {
    var statistics = NeighborStatistics()
    guard hasBridge(bridge) else { return statistics }
    statistics.table = neighbors[Int(bridge.rawValue)].statistics
    statistics.answered = answers[Int(bridge.rawValue)]
    return statistics
  }
}
