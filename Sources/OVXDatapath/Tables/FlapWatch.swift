/// An address that keeps moving between two places of its segment: a loop, or two stations that
/// both think it is theirs.
package struct FlappingAddress: Equatable, Sendable {
  package var address: MACAddress
  package var vlan: VLANID
  package var bridge: BridgeID
  /// The two places of its latest move.
  package var former: Destination
  package var latter: Destination
  /// How often it moved until it was told of, four times or more.
  package var moves: UInt32

  /// Seconds within which it has moved that often.
  package static let window: UInt32 = 10

  package init(
    address: MACAddress, vlan: VLANID, bridge: BridgeID, former: Destination, latter: Destination,
    moves: UInt32
  ) {
    self.address = address
    self.vlan = vlan
    self.bridge = bridge
    self.former = former
    self.latter = latter
    self.moves = moves
  }
}

/// Watches things move, and tells of those that do so again and again.
///
/// A container that goes to another host moves once or twice; what moves four times within a window
/// flaps. It is told of once a minute at most. The memory is fixed: who makes more things flap than
/// there are places is told of by some of them.
struct FlapWatch<Key: AgingTableKey, Place: BitwiseCopyable>: ~Copyable {
  /// Moves that make a thing flap.
  static var threshold: UInt32 { 4 }
  /// Seconds for which a thing that was told of is not told of again.
  static var silence: UInt32 { 60 }
  /// Things that are watched at a time; a power of two.
  static var capacity: Int { 64 }

  /// A thing that moves.
  struct Watch: BitwiseCopyable {
    var key: Key
    var bridge: BridgeID
    /// The two places of its latest move.
    var former: Place
    var latter: Place
    var moves: UInt32
    fileprivate var start: UInt32
    fileprivate var isTold = false
  }

  /// Seconds within which a thing that flaps moves that often.
  private let window: UInt32
  /// Memory that is not touched before `areUsed` says so.
  private var watches = FixedArray<Watch>(reserving: FlapWatch.capacity)
  private var areUsed: UInt64 = 0
  /// Whether there is something to tell of.
  private(set) var hasNews = false

  init(window: UInt32) { self.window = window }

  /// Notes that a thing has moved.
  ///
  /// - Parameters:
  ///   - key: Which thing.
  ///   - bridge: Where it is known.
  ///   - former: Where it was.
  ///   - latter: Where it is now.
  ///   - now: The time in seconds.
  ///   - isReturn: Whether it goes on to and fro, given where it was before `former`; the count
  ///     begins anew where not.
  @inline(never) mutating func note(
    _ key: Key, bridge: BridgeID, from former: Place, to latter: Place, now: UInt32,
    isReturn: (Place) -> Bool = { _ in true }
  ) {
    let hash = (key.hash(seed: UInt64(bridge.rawValue))).scrambled()
    let place = Int(truncatingIfNeeded: hash) & (Self.capacity - 1)
    var watch = Watch(
      key: key, bridge: bridge, former: former, latter: latter, moves: 0, start: now)
    if areUsed & 1 &<< UInt64(place) != 0 {
      let known = watches[place]
      let lifetime = known.isTold ? Self.silence : window
      if now &- known.start < lifetime {
        guard known.key == key, known.bridge == bridge else { return }
        if known.isTold || isReturn(known.former) {
          watch.moves = known.moves
          watch.start = known.start
          watch.isTold = known.isTold
        }
      }
    }
    areUsed |= 1 &<< UInt64(place)
    watch.moves &+= 1
    if watch.moves >= Self.threshold && !watch.isTold { hasNews = true }
    watches[place] = watch
  }

  /// What flaps and was not told of yet.
  mutating func take(now: UInt32) -> [Watch] {
    guard hasNews else { return [] }
    hasNews = false
    var result: [Watch] = []
    for place in 0..<Self.capacity where areUsed & 1 &<< UInt64(place) != 0 {
      let watch = watches[place]
      guard watch.moves >= Self.threshold, !watch.isTold else { continue }
      result.append(watch)
      watches[place].isTold = true
      watches[place].start = now
    }
    return result
  }

  /// What flaps in a bridge: what was told of a moment ago, and what is to be.
  func flapping(in bridge: BridgeID, now: UInt32) -> [Watch] {
    (0..<Self.capacity).compactMap { place in
      guard areUsed & 1 &<< UInt64(place) != 0 else { return nil }
      let watch = watches[place]
      let isCurrent = watch.moves >= Self.threshold && now &- watch.start < Self.silence
      return isCurrent && watch.bridge == bridge ? watch : nil
    }
  }
}

extension Datapath {
  /// Whether an address has begun to flap that `takeFlappingAddresses` has not told of.
  package var hasFlappingAddresses: Bool { flapping.hasNews }

  /// The addresses that flap: those that moved four times within ten seconds.
  ///
  /// Each is told of once a minute at most.
  package mutating func takeFlappingAddresses() -> [FlappingAddress] {
    flapping.take(now: now).map { watch in
      FlappingAddress(
        address: watch.key.address, vlan: watch.key.vlan, bridge: watch.bridge,
        former: watch.former, latter: watch.latter, moves: watch.moves)
    }
  }
}
