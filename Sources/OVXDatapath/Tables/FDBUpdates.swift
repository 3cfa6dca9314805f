// What the workers of one switch publish to each other.
//
// Each worker has a datapath of its own with tables of its own, so that no frame waits for a lock
// or for memory that another core writes to. The flows of one station may come to several workers,
// though, and what one of them learns from a frame all have to know, or the others would flood what
// is for that station. So a datapath hands out what it learns, once a second for each address at
// most, and takes in what others have learned.
//
// Nothing depends on an update: where one gets lost, a frame is flooded that need not be, and the
// next second brings it again.

/// What one datapath has learned, for the others of the same switch.
package struct FDBUpdate: BitwiseCopyable, Sendable {
  /// Takes updates, in order, before the call returns.
  package typealias Publish = (UnsafeBufferPointer<FDBUpdate>) -> Void

  fileprivate enum Kind: UInt8, BitwiseCopyable {
    case address
    case neighbor
    case neighborGone
  }

  fileprivate let kind: Kind
  fileprivate let isRouter: Bool
  let bridge: BridgeID
  let vlan: VLANID
  let place: Destination
  let address: MACAddress
  /// Of a neighbor.
  fileprivate let ip: IPAddress

  /// A station's address.
  init(_ address: MACAddress, vlan: VLANID, at place: Destination, bridge: BridgeID) {
    kind = .address
    isRouter = false
    self.bridge = bridge
    self.vlan = vlan
    self.place = place
    self.address = address
    ip = IPAddress(v4: 0)
  }

  /// A neighbor.
  init(_ key: NeighborKey, _ neighbor: Neighbor, bridge: BridgeID) {
    kind = .neighbor
    isRouter = neighbor.isRouter
    self.bridge = bridge
    vlan = key.vlan
    place = neighbor.place
    address = neighbor.address
    ip = key.address
  }

  /// That nothing is known of a neighbor any more.
  init(forgetting key: NeighborKey, bridge: BridgeID) {
    kind = .neighborGone
    isRouter = false
    self.bridge = bridge
    vlan = key.vlan
    place = Destination(port: .none)
    address = MACAddress(truncating: 0)
    ip = key.address
  }
}

/// Updates that have not been handed out yet.
@safe
struct PendingFDBUpdates: ~Copyable {
  private static let limit = 256

  private let publish: FDBUpdate.Publish?
  private var waiting: FixedArray<FDBUpdate>
  private var count = 0

  init(_ publish: FDBUpdate.Publish?) {
    unsafe self.publish = unsafe publish
    waiting = unsafe FixedArray(reserving: publish == nil ? 0 : Self.limit)
  }

  /// Adds an update, if there is anybody to publish it to.
  mutating func publish(_ update: FDBUpdate) {
    guard unsafe publish != nil else { return }
    if count == waiting.count { handOver() }
    waiting[count] = update
    count += 1
  }

  mutating func handOver() {
    guard count > 0, let publish = unsafe publish else { return }
    unsafe publish(UnsafeBufferPointer(start: waiting.address(of: 0), count: count))
    count = 0
  }
}

extension Datapath {
  /// Watches what keeps moving, wherever the moves are seen.
  mutating func noteMove(
    of address: MACAddress, vlan: VLANID, bridge: BridgeID, from former: Destination,
    to latter: Destination
  ) {
    guard watchesFlapping else { return }
    flapping.note(
      AddressKey(vlan: vlan, address: address), bridge: bridge, from: former, to: latter, now: now)
  }

  @inline(never) mutating func publishAddress(
    of frame: borrowing Frame, bridge: BridgeID
  ) {
    updates.publish(
      FDBUpdate(
        frame.source, vlan: frame.vlan,
        at: Destination(port: frame.ingress, peer: frame.peer), bridge: bridge))
  }

  /// Takes in what another datapath of the same switch has learned.
  ///
  /// That one may have had another topology than this one has now: what does not fit is ignored.
  package mutating func learn(_ update: FDBUpdate) {
    let bridge = update.bridge
    guard hasBridge(bridge) else { return }
    if update.kind == .neighborGone {
      let key = NeighborKey(vlan: update.vlan, address: update.ip)
      _ = neighbors.remove(key, in: bridge, of: .learned ... .learned)
      return
    }
    guard tables.hasPlace(update.place, vlan: update.vlan, bridge: update.bridge) else { return }
    if update.kind == .address {
      guard !contradictsJoin(update) else { return }
      let learning = fdb.adopt(
        AddressKey(vlan: update.vlan, address: update.address), at: update.place, in: bridge,
        now: now, portLimit: .max, overridesExternal: update.place.peer == .none)
      switch learning {
      case .learned: hasStationNews = true
      case .moved(let former):
        hasStationNews = true
        noteMove(
          of: update.address, vlan: update.vlan, bridge: update.bridge, from: former,
          to: update.place)
      case .known, .renewed, .refused, .held: break
      }
    } else {
      let key = NeighborKey(vlan: update.vlan, address: update.ip)
      let neighbor = Neighbor(
        address: update.address, place: update.place, isRouter: update.isRouter)
      let learning = neighbors.adopt(
        key, at: neighbor, in: bridge, now: now,
        portLimit: tables.neighborLimit(of: update.place.port),
        overridesExternal: update.place.peer == .none)
      switch learning {
      case .known: neighbors.revise(key, to: neighbor, in: bridge)
      case .moved(let former) where former.address != neighbor.address:
        noteContest(key, bridge: bridge, from: former, to: neighbor)
      case .learned, .renewed, .moved, .refused, .held: break
      }
    }
  }
}

extension CompiledTopology {
  /// Whether something in a VLAN of a bridge can be at a place.
  func hasPlace(_ place: Destination, vlan: VLANID, bridge: BridgeID) -> Bool {
    guard ports.contains(place.port) else { return false }
    let port = ports[place.port]
    guard port.role != .absent, port.bridge == bridge, carries(vlan, port: port) else {
      return false
    }
    if place.peer == .none { return port.role != .tunnel }
    return port.role == .tunnel && peers.contains(place.peer)
      && peers[place.peer].port == place.port
  }
}

// MARK: - What several datapaths know together

/// The tables of one bridge in several datapaths as one.
///
/// - Parameters:
///   - tables: What each of them knows.
///   - key: What an entry is about.
///   - age: Seconds since it was told; `nil` for what an operator has said, which is younger than
///     all.
/// - Returns: Of each key the youngest entry, in no order.
private func youngest<Entry, Key: Hashable>(
  of tables: [[Entry]], by key: (Entry) -> Key, age: (Entry) -> UInt32?
) -> [Entry] {
  guard tables.count > 1 else { return tables.first ?? [] }
  func isYounger(_ entry: Entry, _ known: Entry) -> Bool {
    guard let since = age(known) else { return false }
    return age(entry).map { $0 < since } ?? true
  }
  var latest: [Key: Entry] = [:]
  for entry in tables.joined() {
    if let known = latest[key(entry)], !isYounger(entry, known) { continue }
    latest[key(entry)] = entry
  }
  return Array(latest.values)
}

extension KnownAddress {
  /// The address tables of one bridge in several datapaths as one.
  package static func merged(_ tables: [[KnownAddress]]) -> [KnownAddress] {
    youngest(of: tables, by: { AddressKey(vlan: $0.vlan, address: $0.address) }, age: \.age)
  }
}

extension KnownNeighbor {
  /// The neighbor tables of one bridge in several datapaths as one.
  package static func merged(_ tables: [[KnownNeighbor]]) -> [KnownNeighbor] {
    youngest(of: tables, by: { NeighborKey(vlan: $0.vlan, address: $0.ip) }, age: { $0.age })
  }
}

extension AddressStatistics {
  /// The events in the tables of one bridge in several datapaths.
  ///
  /// Each learns by itself what the others are then told, and each forgets what all forget.
  package static func merged(_ tables: [AddressStatistics]) -> AddressStatistics {
    var sum = AddressStatistics()
    for table in tables {
      sum.current = max(sum.current, table.current)
      sum.limit = max(sum.limit, table.limit)
      sum.statics = max(sum.statics, table.statics)
      sum.external = max(sum.external, table.external)
      sum.learned &+= table.learned
      sum.moved &+= table.moved
      sum.unlearned &+= table.unlearned
      sum.expired = max(sum.expired, table.expired)
      sum.evicted = max(sum.evicted, table.evicted)
      sum.limited = max(sum.limited, table.limited)
    }
    return sum
  }
}

extension NeighborStatistics {
  /// The events in the tables of one bridge in several datapaths.
  package static func merged(_ tables: [NeighborStatistics]) -> NeighborStatistics {
    var sum = NeighborStatistics()
    sum.table = .merged(tables.map(\.table))
    sum.answered = tables.reduce(0) { $0 &+ $1.answered }
    sum.unread = tables.reduce(0) { $0 &+ $1.unread }
    return sum
  }
}

extension PortCounters {
  /// What several datapaths have counted of one port.
  package static func sum(_ counters: [PortCounters]) -> PortCounters {
    var sum = PortCounters()
    for part in counters {
      sum.receivedFrames &+= part.receivedFrames
      sum.receivedBytes &+= part.receivedBytes
      sum.sentFrames &+= part.sentFrames
      sum.sentBytes &+= part.sentBytes
      sum.answeredFrames &+= part.answeredFrames
      sum.reportedFrames &+= part.reportedFrames
      sum.unheardFrames &+= part.unheardFrames
      for reason in DropReason.allCases { sum[reason] &+= part[reason] }
    }
    return sum
  }
}
