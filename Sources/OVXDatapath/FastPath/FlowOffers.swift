// What the datapath offers to the fast path: decisions that hold for every further segment of TCP
// between two stations.
//
// The datapath offers, and whoever has a fast path takes, or does not. A decision is offered when
// it depends on nothing but what is in an offer: the port or VTEP that a frame came from, and the
// two stations; of a port that is told what it may send also the sender's IP address, as of TCP its
// rule looks at nothing else. All that the rules of admission, learning and egress make of a frame
// besides (tags, joined VNIs) keeps it from being offered.

/// A decision that the fast path may repeat.
package struct FlowOffer: BitwiseCopyable, Sendable {
  /// Where its frames come from.
  package var origin: Destination
  /// Where they go.
  package var destination: Destination
  package var bridge: BridgeID
  package var vlan: VLANID
  /// The station that sends, and the one that it sends to.
  package var source: MACAddress
  package var target: MACAddress
  /// The IP address that it sends from, where the port is told what it may send; `nil` for any.
  package var sender: IPAddress?
  /// The places of their generations, and these and the topology's as they were.
  package var sourceSlot: UInt32
  package var targetSlot: UInt32
  package var topologyGeneration: UInt64
  package var sourceGeneration: UInt64
  package var targetGeneration: UInt64
}

/// Offers that nobody has taken yet, and those made lately, which are not made again.
struct FlowOffers: ~Copyable {
  /// Offers of one burst at most; the next one brings others again.
  private static let limit = 32
  private static let memorySize = 1024

  private(set) var generations = Generations.none
  private var waiting = FixedArray<FlowOffer>(reserving: FlowOffers.limit)
  private(set) var count = 0
  /// Hashes of offers, by their low bits.
  private var lately = FixedArray<UInt64>(zeros: FlowOffers.memorySize)

  /// Begins or ceases to be asked, by other generations.
  mutating func use(_ generations: Generations) {
    self.generations = generations
    count = 0
    forget()
  }

  /// Has every offer made again.
  mutating func forget() {
    for place in 0..<Self.memorySize { lately[place] = 0 }
  }

  /// Adds an offer, unless it was made a moment ago.
  mutating func add(_ offer: FlowOffer) {
    guard count < Self.limit else { return }
    var hash = (offer.source.rawValue ^ offer.topologyGeneration << 48).scrambled()
    hash = (hash ^ offer.target.rawValue ^ offer.sourceGeneration << 48).scrambled()
    hash ^=
      UInt64(offer.origin.port.rawValue) << 48 ^ UInt64(offer.origin.peer.rawValue)
      ^ offer.targetGeneration << 24
    if let sender = offer.sender {
      hash = (hash.scrambled() ^ sender.high).scrambled() ^ sender.low ^ (sender.isIPv6 ? 1 : 2)
    }
    hash = hash.scrambled() | 1
    let place = Int(truncatingIfNeeded: hash >> 1) & (Self.memorySize - 1)
    guard lately[place] != hash else { return }
    lately[place] = hash
    waiting[count] = offer
    count += 1
  }

  /// Takes the latest one out.
  mutating func take() -> FlowOffer? {
    guard count > 0 else { return nil }
    count -= 1
    return waiting[count]
  }
}

/// What the fast path is to do for an offer.
package struct FastPathFlow: BitwiseCopyable, Sendable {
  /// The number of the device that the frames come in by.
  package var device: UInt32
  /// For those in a tunnel: how it is known; `nil` for those of a port's own device.
  package var tunnel: (header: FastPathHeader, vni: UInt32)?
  /// The number of the device that they leave by.
  package var egress: UInt32
  /// What goes in front of them; `nil` for those to a port's own device.
  package var header: FastPathHeader?
  /// The largest packet.
  package var mtu: Int
}

extension Datapath {
  /// Offers decisions from now on, or none any more where the generations are none.
  package mutating func offerFlows(by generations: Generations?) {
    offersFlows = generations != nil
    flowOffers.use(generations ?? .none)
    fdb.generations = generations ?? .none
  }

  /// Whether any decision is offered.
  package var hasFlowOffers: Bool { flowOffers.count > 0 }

  /// The next decision that is offered; `nil` where there is none.
  package mutating func takeFlowOffer() -> FlowOffer? { flowOffers.take() }

  /// Has decisions offered again that were offered before.
  package mutating func forgetFlowOffers() { flowOffers.forget() }

  /// Offers a decision, if it is one that can be repeated.
  @inline(never) mutating func offerFlow(of frame: inout Frame, _ decision: Decision) {
    guard case .unicast(let destination, .leave(let tag)) = decision,
      !tag.isPresent, !frame.tag.isPresent, !frame.hasTagInside, !frame.isAnswer,
      isOnFastPath(frame.origin), isOnFastPath(destination),
      !frame.isFromTunnel || destination.peer == .none
    else { return }
    let layout = frame.layout
    guard layout.isIP, layout.transport == .tcp, !layout.isFragment else { return }
    var sender: IPAddress?
    if tables.ports[frame.ingress].sourceRule >= 0 {
      sender = layout.source(of: frame.bytes)
      guard sender != nil else { return }
    }
    let bridge = tables.ports[frame.ingress].bridge
    let source = AddressKey(vlan: frame.vlan, address: frame.source)
    let target = AddressKey(vlan: frame.vlan, address: frame.destination)
    // A station that could not be learned, and a gateway that has not spoken, are in no table that
    // would revoke it.
    guard fdb.lookUp(source, in: bridge) == frame.origin,
      fdb.lookUp(target, in: bridge) == destination
    else { return }
    let generations = flowOffers.generations
    let sourceSlot = generations.slot(of: source)
    let targetSlot = generations.slot(of: target)
    flowOffers.add(
      FlowOffer(
        origin: frame.origin, destination: destination, bridge: bridge, vlan: frame.vlan,
        source: frame.source, target: frame.destination, sender: sender, sourceSlot: sourceSlot,
        targetSlot: targetSlot, topologyGeneration: generations[Generations.topology],
        sourceGeneration: generations[sourceSlot], targetGeneration: generations[targetSlot]))
  }

  /// Takes note of frames that were dropped in the place of the switch, for what is still to be
  /// done to them.
  package mutating func noteRefused(_ offer: FlowOffer, frames: UInt64) {
    counters.dropped(
      .malformedOffload, frames: Int(truncatingIfNeeded: frames), at: offer.origin.port)
  }

  private func isOnFastPath(_ place: Destination) -> Bool {
    if place.peer != .none { return tables.peers[place.peer].fastPathHeader != .max }
    return tables.ports[place.port].fastPathIndex != 0
  }

  /// What the fast path is to do for an offer of this burst.
  package func flow(of offer: FlowOffer) -> FastPathFlow? {
    guard tables.ports.contains(offer.origin.port), tables.ports.contains(offer.destination.port)
    else { return nil }
    let ingress = tables.ports[offer.origin.port]
    let port = tables.ports[offer.destination.port]
    var flow = FastPathFlow(
      device: ingress.fastPathIndex, egress: port.fastPathIndex, mtu: Int(port.mtu))
    if let header = header(of: offer.origin.peer) {
      flow.device = header.device
      flow.tunnel = (header, ingress.vni)
    }
    if let header = header(of: offer.destination.peer) {
      flow.egress = header.device
      flow.header = header
      flow.mtu = Int(tables.peers[offer.destination.peer].mtu)
    }
    return flow.device == 0 || flow.egress == 0 ? nil : flow
  }

  private func header(of peer: RemoteVTEPID) -> FastPathHeader? {
    guard peer != .none, tables.peers.contains(peer), tables.peers[peer].fastPathHeader != .max
    else { return nil }
    return tables.fastPathHeaders[Int(tables.peers[peer].fastPathHeader)]
  }

  /// Takes note of what the fast path has forwarded in the place of the switch.
  ///
  /// Counts it at both ports, and keeps the station that has sent it from ageing.
  ///
  /// - Parameters:
  ///   - offer: The decision that was repeated.
  ///   - frames: How many times, superframes counted once.
  ///   - segments: The packets that these are on the wire.
  ///   - byteCount: Bytes of the frames.
  ///   - isCurrent: Whether the decision holds still: a station that is elsewhere by now was not
  ///     heard here.
  package mutating func noteForwarded(
    _ offer: FlowOffer, frames: UInt64, segments: UInt64, byteCount: UInt64, isCurrent: Bool
  ) {
    counters.forwarded(
      from: offer.origin.port, isTunnel: offer.origin.peer != .none, to: offer.destination.port,
      isTunnel: offer.destination.peer != .none, frames: frames, segments: segments,
      byteCount: byteCount)
    if offer.origin.peer != .none { counters.heard(offer.origin.peer) }
    let source = AddressKey(vlan: offer.vlan, address: offer.source)
    guard isCurrent, hasBridge(offer.bridge), fdb.lookUp(source, in: offer.bridge) == offer.origin
    else { return }
    let learning = fdb.learn(source, at: offer.origin, in: offer.bridge, now: now)
    guard case .renewed = learning else { return }
    updates.publish(
      FDBUpdate(offer.source, vlan: offer.vlan, at: offer.origin, bridge: offer.bridge))
  }
}
