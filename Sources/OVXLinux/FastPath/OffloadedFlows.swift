internal import OVXDatapath

/// What one worker has put into the fast path.
///
/// Looked after between bursts: what was counted is taken over into the datapath's counters, which
/// also keeps the stations that have sent it from ageing, and what is revoked or not in use is
/// taken out.
struct OffloadedFlows: ~Copyable {
  /// Decisions that frames of one device may have in the fast path, so that none leaves the others
  /// without.
  private static let deviceLimit = 256
  /// The same for a tunnel, behind which there are many devices.
  private static let tunnelLimit = 2048
  /// Ticks without a frame after which a decision is taken out.
  private static let idleLimit = 30

  private struct Flow {
    var number: UInt32
    var key: FlowKey
    var offer: FlowOffer
    var counted = FastPathCount()
    var idleTicks = 0
    /// Taken out, and not yet free: a program may still be at it.
    var isLeaving = false
  }

  let path: FastPath
  private var flows: [Flow] = []
  private var counts: [PortID: Int] = [:]

  init(_ path: FastPath) { self.path = path }

  /// Puts in what the datapath offers.
  mutating func take(from datapath: inout Datapath) {
    while let offer = datapath.takeFlowOffer() {
      guard let flow = datapath.flow(of: offer) else { continue }
      let port = offer.origin.port
      let limit = flow.tunnel == nil ? Self.deviceLimit : Self.tunnelLimit
      guard counts[port, default: 0] < limit else { continue }
      switch path.attach(FastPath.Hook(device: flow.device, isUnderlay: flow.tunnel != nil)) {
      case .attached: break
      case .ready:
        // In some milliseconds. Until then each burst offers it again.
        datapath.forgetFlowOffers()
        continue
      case .off, .refused: continue
      }
      guard let (number, key) = path.install(flow, for: offer) else { continue }
      flows.append(Flow(number: number, key: key, offer: offer))
      counts[port, default: 0] += 1
    }
  }

  /// Takes over what was counted.
  mutating func harvest(to datapath: inout Datapath) {
    for place in flows.indices { harvest(place, to: &datapath) }
  }

  private mutating func harvest(_ place: Int, to datapath: inout Datapath) {
    let count = path.count(of: flows[place].number)
    let counted = flows[place].counted
    let refused = count.refused &- counted.refused
    if refused > 0 {
      datapath.noteRefused(flows[place].offer, frames: refused)
      flows[place].counted.refused = count.refused
    }
    let frames = count.frames &- counted.frames
    guard frames > 0 else { return }
    let isCurrent =
      !flows[place].isLeaving && path.isCurrent(flows[place].offer, flows[place].number)
    datapath.noteForwarded(
      flows[place].offer, frames: frames, segments: count.segments &- counted.segments,
      byteCount: count.bytes &- counted.bytes, isCurrent: isCurrent)
    flows[place].counted = count
    flows[place].idleTicks = -1
  }

  /// Takes over what was counted, and takes out what is revoked or not in use.
  ///
  /// Called once a second, which is how long a number rests before it is used again.
  mutating func tick(_ datapath: inout Datapath) {
    datapath.forgetFlowOffers()
    harvest(to: &datapath)
    for place in flows.indices.reversed() {
      let flow = flows[place]
      if flow.isLeaving {
        path.free(flow.number, of: flow.offer)
        let last = flows.removeLast()
        if place < flows.count { flows[place] = last }
      } else if flow.idleTicks >= Self.idleLimit || !path.isCurrent(flow.offer, flow.number) {
        leave(place)
      } else {
        flows[place].idleTicks += 1
      }
    }
    if let segment = path.fullestSegment { thin(segment) }
  }

  /// Takes out some of what is idle longest of a segment.
  private mutating func thin(_ segment: EntryPool.Segment) {
    let places = flows.indices.filter {
      !flows[$0].isLeaving && flows[$0].offer.segment == segment
    }
    for place in places.sorted(by: { flows[$0].idleTicks > flows[$1].idleTicks }).prefix(64) {
      leave(place)
    }
  }

  private mutating func leave(_ place: Int) {
    let flow = flows[place]
    path.remove(flow.number, flow.key)
    flows[place].isLeaving = true
    let port = flow.offer.origin.port
    counts[port, default: 1] -= 1
    if counts[port] == 0 { counts[port] = nil }
  }

  /// Takes everything out, for good.
  mutating func end(_ datapath: inout Datapath) {
    for place in flows.indices where !flows[place].isLeaving { leave(place) }
    harvest(to: &datapath)
  }
}
