/// An address that keeps moving between two places of its segment: a loop, or two stations that both
/// think it is theirs.
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

/// Watches addresses move, and tells of those that do so again and again.
///
/// A container that goes to another host moves once or twice; what moves four times within
/// `FlappingAddress.window` flaps. It is told of once a minute at most. The memory is fixed: who makes more addresses
/// flap than there are places is told of by some of them.
struct FlapWatch: ~Copyable {
  /// Moves that make an address flap.
  static let threshold: UInt32 = 4
  /// Seconds for which an address that was told of is not told of again.
  static let silence: UInt32 = 60
  /// Addresses that are watched at a time; a power of two.
  static let capacity = 64

  struct Watch: BitwiseCopyable {
    var address = MACAddress(truncating: 0)
    var vlan = VLANID.untagged
    var bridge = BridgeID(rawValue: 0)
    var former = Destination(port: .none)
    var latter = Destination(port: .none)
    /// 0 for a free place.
    var moves: UInt32 = 0
    var start: UInt32 = 0
    var isTold = false
  }

  private var watches = Slab(repeating: Watch(), count: FlapWatch.capacity)
  /// Whether there is an address to tell of.
  private(set) var hasNews = false

  /// Notes that an address has moved.
  @inline(never) mutating func note(
    _ address: MACAddress, vlan: VLANID, bridge: BridgeID, from former: Destination,
    to latter: Destination, now: UInt32
  ) {
    let hash = (address.rawValue ^ UInt64(vlan.rawValue) << 48 ^ UInt64(bridge.rawValue))
      .scrambled()
    let place = Int(truncatingIfNeeded: hash) & (FlapWatch.capacity - 1)
    var watch = watches[place]
    let isSame =
      watch.moves > 0 && watch.address == address && watch.vlan == vlan && watch.bridge == bridge
    let lifetime = watch.isTold ? FlapWatch.silence : FlappingAddress.window
    if watch.moves == 0 || now &- watch.start >= lifetime {
      watch = Watch(address: address, vlan: vlan, bridge: bridge, start: now)
    } else if !isSame {
      return
    }
    watch.former = former
    watch.latter = latter
    watch.moves &+= 1
    if watch.moves >= FlapWatch.threshold && !watch.isTold { hasNews = true }
    watches[place] = watch
  }

  /// The addresses that flap and were not told of yet.
  mutating func take(now: UInt32) -> [FlappingAddress] {
    guard hasNews else { return [] }
    hasNews = false
    var result: [FlappingAddress] = []
    for place in 0..<FlapWatch.capacity {
      let watch = watches[place]
      guard watch.moves >= FlapWatch.threshold, !watch.isTold else { continue }
      result.append(
        FlappingAddress(
          address: watch.address, vlan: watch.vlan, bridge: watch.bridge, former: watch.former,
          latter: watch.latter, moves: watch.moves))
      watches[place].isTold = true
      watches[place].start = now
    }
    return result
  }
}

extension Datapath {
  /// Whether an address has begun to flap that `takeFlappingAddresses` has not told of.
  package var hasFlappingAddresses: Bool { flapping.hasNews }

  /// The addresses that flap: those that moved four times within ten seconds.
  ///
  /// Each is told of once a minute at most.
  package mutating func takeFlappingAddresses() -> [FlappingAddress] { flapping.take(now: now) }
}
