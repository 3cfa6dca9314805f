// What one port may cost the others. A frame to one station costs the switch a send; one to
// everybody costs as many sends as its segment has ports and remotes, and one from an address that
// nobody has seen costs an entry of a table. So what comes in by a port may cause only so much of
// either in a second:
//
// - broadcast, multicast and unknown unicast by the copies that are made of it, answers to
//   questions for neighbors among them (storm control, settable by port). What is over it is
//   dropped, as `stormLimit`;
// - new places of addresses, and reading what frames say about neighbors, by number. What is over
//   it is forwarded all the same, and nobody learns from it.
//
// Each is a token bucket that holds what a second brings, so that whoever was silent may begin with
// a burst.

/// What a port may cost in a second, and at once after a second of silence; 1 or more of each,
/// `UInt32.max` for no limit.
package struct PortLimits: BitwiseCopyable, Equatable, Sendable {
  /// Copies that are made of what is flooded from it, and answers in the place of its neighbors.
  package var floodedCopies: UInt32
  /// New places of addresses that it tells of.
  package var newAddresses: UInt32
  /// Frames of it that are read for what they say about neighbors.
  package var neighborMessages: UInt32

  package init(
    floodedCopies: UInt32 = .max, newAddresses: UInt32 = .max, neighborMessages: UInt32 = .max
  ) {
    self.floodedCopies = floodedCopies
    self.newAddresses = newAddresses
    self.neighborMessages = neighborMessages
  }

  package static let none = PortLimits()
  /// Of a device, where nothing else is said: a container that starts, resolves hundreds of
  /// addresses and is then asked by all others stays below it, and so does a table of the default
  /// size.
  package static let device = PortLimits(
    floodedCopies: 20_000, newAddresses: 8192, neighborMessages: 8192)
  /// Of a tunnel, which stands for the containers of other hosts.
  package static let tunnel = PortLimits(
    floodedCopies: 100_000, newAddresses: 32_768, neighborMessages: 32_768)
}

/// Tokens that come at a rate and are spent, down to a debt that has to be paid back first.
struct TokenBucket: BitwiseCopyable, Equatable {
  /// In thousandths of a token; negative for a debt.
  private var level: Int64
  /// Milliseconds, modulo 2³², of the clock by which it was filled last.
  private var filledAt: UInt32

  /// A bucket that holds a second's tokens.
  init(rate: UInt32, now: UInt32) {
    level = Int64(rate) * 1000
    filledAt = now
  }

  /// Whether there is a token, or a part of one, at a time in milliseconds, modulo 2³².
  ///
  /// The rate is in tokens a second, of which it holds those of one second at most.
  @inline(__always) mutating func hasToken(rate: UInt32, now: UInt32) -> Bool {
    let elapsed = now &- filledAt
    if elapsed != 0 {
      filledAt = now
      // A token a second is a thousandth in a millisecond.
      // In a quarter of an hour any debt is paid; more would overflow.
      let counted = Int64(min(elapsed, 1_000_000))
      level = min(level &+ counted &* Int64(rate), Int64(rate) &* 1000)
    }
    return level > 0
  }

  /// Takes tokens out, whether or not they are there.
  @inline(__always) mutating func spend(_ tokens: Int) {
    level &-= Int64(tokens) &* 1000
  }
}

/// The buckets of a port.
struct PortBuckets: BitwiseCopyable {
  var floodedCopies: TokenBucket
  var newAddresses: TokenBucket
  var neighborMessages: TokenBucket

  init(_ limits: PortLimits, now: UInt32) {
    floodedCopies = TokenBucket(rate: limits.floodedCopies, now: now)
    newAddresses = TokenBucket(rate: limits.newAddresses, now: now)
    neighborMessages = TokenBucket(rate: limits.neighborMessages, now: now)
  }
}

extension Datapath {
  /// Tells the time in milliseconds, modulo 2³², from any fixed point: once a burst, or less often.
  ///
  /// What ports may cost comes with it.
  package mutating func beginBurst(now milliseconds: UInt32) { burstTime = milliseconds }

  /// Whether what comes by a port may be flooded, or answered in the place of all.
  @inline(__always) mutating func mayFlood(from ingress: PortID) -> Bool {
    let rate = tables.ports[ingress].limits.floodedCopies
    return rate == .max || buckets[ingress].floodedCopies.hasToken(rate: rate, now: burstTime)
  }

  /// Drops a frame that was to be flooded.
  mutating func refuseFlood(from ingress: PortID) {
    refusedFloods &+= 1
    counters.dropped(.stormLimit, frames: 1, at: ingress)
  }

  /// Charges a port with the copies that were made of its frame.
  @inline(__always) mutating func chargeFlood(_ copies: Int, to ingress: PortID) {
    if tables.ports[ingress].limits.floodedCopies != .max {
      buckets[ingress].floodedCopies.spend(copies)
    }
  }

  /// Whether a port may tell of a new place of an address.
  @inline(__always) mutating func mayMoveAddresses(to ingress: PortID) -> Bool {
    let rate = tables.ports[ingress].limits.newAddresses
    return rate == .max || buckets[ingress].newAddresses.hasToken(rate: rate, now: burstTime)
  }

  /// Charges a port with a new place of an address.
  @inline(__always) mutating func chargeNewAddress(to ingress: PortID) {
    if tables.ports[ingress].limits.newAddresses != .max { buckets[ingress].newAddresses.spend(1) }
  }

  /// Whether a frame of a port is to be read for what it says about neighbors; the port is charged
  /// for it.
  mutating func mayTellOfNeighbors(_ ingress: PortID, bridge: BridgeID) -> Bool {
    let rate = tables.ports[ingress].limits.neighborMessages
    guard rate != .max else { return true }
    guard buckets[ingress].neighborMessages.hasToken(rate: rate, now: burstTime) else {
      unread[bridge] &+= 1
      return false
    }
    buckets[ingress].neighborMessages.spend(1)
    return true
  }

  /// Fills the buckets of the ports that are new in some tables, or have other limits there.
  mutating func fillBuckets(new: borrowing CompiledTopology) {
    for id in new.ports.ids where new.ports[id].role != .absent {
      let limits = new.ports[id].limits
      if tables.role(of: id) != .absent, tables.ports[id].limits == limits { continue }
      buckets[id] = PortBuckets(limits, now: burstTime)
    }
  }
}
