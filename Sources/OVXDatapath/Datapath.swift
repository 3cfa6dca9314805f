/// The switch itself: frames in, frames out, no file descriptor and no clock.
///
/// A worker owns one. It hands in what it received, burst by burst, and the datapath hands back
/// what is to be sent by calling `flush`, at the latest in `endBurst()`. Frames stay where they
/// were received: their memory belongs to the burst, is the datapath's from the `receive` call on,
/// and is the worker's again once what refers to it was flushed.
package struct Datapath: ~Copyable {
  /// Takes the transmissions, in order, and the vectors they refer to.
  ///
  /// What comes within a `receive` call has to be carried out before it returns: the memory behind
  /// it is used again at once. What `endBurst` hands over stays as it is until the next `receive` or
  /// `apply` call.
  package typealias Flush =
    (UnsafeBufferPointer<Transmission>, UnsafePointer<Vector>) -> Void

  var egress: Egress
  var coalescer = Coalescer()
  var tables = ForwardingTables(Topology())
  var databases = DatabaseTable()
  var lists = Slab(repeating: FDB.PortLists.empty, count: PortID.limit)
  var counters = CounterTable()
  /// Seconds from some fixed point, as told last.
  var now: UInt32 = 0
  private let seed: UInt64

  /// Makes a switch with an empty topology.
  ///
  /// - Parameters:
  ///   - seed: Makes the hashing of the address tables unpredictable; tests give one to be
  ///     repeatable.
  ///   - flush: What to do with transmissions.
  package init(seed: UInt64 = .random(in: .min ... .max), flush: @escaping Flush) {
    self.seed = seed
    unsafe egress = Egress(handOver: flush)
  }

  /// Flushes what the burst left to be sent.
  package mutating func endBurst() {
    flush()
  }

  /// Hands over all transmissions; frames that grew by coalescing get their headers put right
  /// first.
  mutating func flush() {
    while let frame = coalescer.finishNext() {
      egress.setOffload(frame.offload, of: frame.transmission)
    }
    egress.flush()
  }

  // MARK: Time

  /// Tells the time, in seconds from any fixed point, once a second or so; addresses age by it.
  ///
  /// The last second before the number wraps counts as the one before it.
  package mutating func tick(now time: UInt32) {
    now = min(time, FDB.lastSecond)
    for bridge in 0..<tables.bridges.count where tables.bridges[bridge].isPresent {
      let record = tables.bridges[bridge]
      for member in record.members {
        databases[bridge].expire(
          port: tables.bridgeMembers[member], now: now, age: record.agingTime, lists: &lists)
      }
    }
  }

  // MARK: Topology

  /// Swaps in a new topology.
  ///
  /// Addresses learned on ports that are gone, or no longer in their VLAN, are forgotten.
  package mutating func apply(_ topology: Topology) {
    apply(ForwardingTables(topology))
  }

  /// Swaps in tables that were compiled beforehand, which is the long part of it.
  package mutating func apply(_ new: consuming ForwardingTables) {
    flush()
    for index in 0..<tables.ports.count {
      forgetStaleAddresses(PortID(rawValue: UInt16(index)), new: new)
    }
    for index in 0..<new.ports.count where new.ports[index].role != .absent {
      if index >= tables.ports.count || tables.ports[index].role == .absent {
        counters.reset(PortID(rawValue: UInt16(index)))
      }
    }
    for bridge in 0..<BridgeID.limit {
      let limit =
        bridge < new.bridges.count && new.bridges[bridge].isPresent
        ? new.bridges[bridge].addressLimit : 0
      if limit == databases[bridge].statistics.limit { continue }
      resize(bridge, limit: limit, members: new)
    }
    tables = new
  }

  private mutating func forgetStaleAddresses(
    _ id: PortID, new: borrowing ForwardingTables
  ) {
    let old = tables.ports[Int(id.rawValue)]
    guard old.role != .absent else { return }
    let record =
      Int(id.rawValue) < new.ports.count
      ? new.ports[Int(id.rawValue)] : ForwardingTables.Port()
    let isSameBridge = record.role != .absent && record.bridge == old.bridge
    // A port that waits keeps what it knew: its device is likely to be back soon.
    databases[Int(old.bridge.rawValue)].forget(port: id, lists: &lists) { key, peer in
      if !isSameBridge || !new.carries(key.vlan, port: record) { return true }
      if peer == .none { return record.role == .tunnel }
      return Int(peer.rawValue) >= new.peers.count || new.peers[Int(peer.rawValue)].port != id
        || record.role != .tunnel || record.vni != old.vni
    }
  }

  /// Gives a bridge a table of another size, with what was in the old one as far as it fits.
  private mutating func resize(
    _ bridge: Int, limit: Int, members new: borrowing ForwardingTables
  ) {
    var known: [KnownAddress] = []
    if databases[bridge].statistics.current > 0 {
      for member in tables.bridges[bridge].members {
        let port = tables.bridgeMembers[member]
        known += databases[bridge].addresses(of: port, now: now, lists: lists)
        databases[bridge].forget(port: port, lists: &lists) { _, _ in true }
      }
    }
    databases[bridge] = FDB(limit: limit, seed: seed &+ UInt64(bridge))
    guard limit > 0 else { return }
    // The longest unseen first, so that a smaller table keeps the youngest.
    for entry in known.sorted(by: { ($0.age ?? 0) > ($1.age ?? 0) }) {
      let key = FDB.Key(vlan: entry.vlan, address: entry.address)
      let destination = Destination(port: entry.port, peer: entry.peer)
      if let age = entry.age {
        _ = databases[bridge].learn(
          key, at: destination, now: min(now &- age, FDB.lastSecond), lists: &lists,
          members: new.bridgeMembers, new.bridges[bridge].members)
      } else {
        _ = databases[bridge].setStatic(
          key, at: destination, lists: &lists,
          members: new.bridgeMembers, new.bridges[bridge].members)
      }
    }
  }

  // MARK: Counters

  /// Charges frames that the kernel did not take to the port they were to leave by.
  package mutating func countFailure(_ reason: DropReason, port: PortID, frames: Int) {
    counters.notSent(frames: frames, to: port)
    counters.dropped(reason, frames: frames, at: port)
  }

  /// Charges a frame that could not be received to the port it came in by.
  package mutating func countDrop(_ reason: DropReason, port: PortID, frames: Int) {
    counters.dropped(reason, frames: frames, at: port)
  }

  /// What a port has carried since it was made; zeros for an unknown one.
  package func counters(of port: PortID) -> PortCounters {
    counters.counters(of: port)
  }

  /// Frames that died before they could be charged to a port: datagrams of no tunnel, by reason.
  package var endpointDrops: [UInt64] { counters.counters(of: .none).dropsByReason }

  // MARK: Addresses

  /// The addresses that a bridge knows.
  package func addresses(of bridge: BridgeID) -> [KnownAddress] {
    guard isPresent(bridge) else { return [] }
    var result: [KnownAddress] = []
    for member in tables.bridges[Int(bridge.rawValue)].members {
      result +=
        databases[Int(bridge.rawValue)].addresses(
          of: tables.bridgeMembers[member], now: now, lists: lists)
    }
    return result
  }

  /// Forgets the learned addresses of a bridge, and says how many; static ones stay.
  package mutating func flushAddresses(of bridge: BridgeID) -> Int {
    guard isPresent(bridge) else { return 0 }
    var count = 0
    for member in tables.bridges[Int(bridge.rawValue)].members {
      count +=
        databases[Int(bridge.rawValue)].flush(
          port: tables.bridgeMembers[member], lists: &lists)
    }
    return count
  }

  /// Adds a static address, in place of whatever was known of it.
  ///
  /// `false` where the table is full of static ones, or the port is not a member of the bridge and
  /// the VLAN. On a tunnel port the address is behind the first of its remotes, if it has any.
  package mutating func addStaticAddress(
    _ address: MACAddress, vlan: VLANID, on port: PortID, bridge: BridgeID
  ) -> Bool {
    guard isPresent(bridge), Int(port.rawValue) < tables.ports.count else { return false }
    let record = tables.ports[Int(port.rawValue)]
    guard record.role != .absent, record.bridge == bridge, tables.carries(vlan, port: record)
    else { return false }
    var peer = PeerID.none
    if record.role == .tunnel {
      guard record.peerCount > 0 else { return false }
      peer = tables.tunnelPeers[Int(record.firstPeer)]
    }
    return databases[Int(bridge.rawValue)].setStatic(
      FDB.Key(vlan: vlan, address: address), at: Destination(port: port, peer: peer),
      lists: &lists, members: tables.bridgeMembers, tables.bridges[Int(bridge.rawValue)].members)
  }

  /// Removes an address, learned or static.
  ///
  /// `false` where it is not known.
  package mutating func removeAddress(
    _ address: MACAddress, vlan: VLANID, bridge: BridgeID
  ) -> Bool {
    guard isPresent(bridge) else { return false }
    return databases[Int(bridge.rawValue)].remove(
      FDB.Key(vlan: vlan, address: address), lists: &lists)
  }

  /// What has happened to a bridge's table since the bridge was made.
  package func addressStatistics(of bridge: BridgeID) -> AddressStatistics {
    guard isPresent(bridge) else { return AddressStatistics() }
    return databases[Int(bridge.rawValue)].statistics
  }

  private func isPresent(_ bridge: BridgeID) -> Bool {
    Int(bridge.rawValue) < tables.bridges.count
      && tables.bridges[Int(bridge.rawValue)].isPresent
  }
}

/// The address tables of all bridges; one of no size stands for a bridge that is not there.
@safe
struct DatabaseTable: ~Copyable {
  private let places: UnsafeMutablePointer<FDB>

  init() {
    unsafe places = .allocate(capacity: BridgeID.limit)
    for bridge in 0..<BridgeID.limit {
      unsafe (places + bridge).initialize(to: FDB(limit: 0, seed: 0))
    }
  }

  subscript(bridge: Int) -> FDB {
    @inline(__always) _read {
      precondition(bridge >= 0 && bridge < BridgeID.limit)
      yield unsafe places[bridge]
    }
    @inline(__always) _modify {
      precondition(bridge >= 0 && bridge < BridgeID.limit)
      yield unsafe &places[bridge]
    }
  }

  deinit {
    unsafe places.deinitialize(count: BridgeID.limit)
    unsafe places.deallocate()
  }
}

/// One line of a bridge's address table.
package struct KnownAddress: Equatable, Sendable {
  package var address: MACAddress
  package var vlan: VLANID
  package var port: PortID
  /// The remote VTEP behind which the address is, for a tunnel port.
  package var peer: PeerID
  /// Seconds since it was last seen; `nil` for a static one.
  package var age: UInt32?
}

/// Events in a bridge's address table, counted, and its size.
package struct AddressStatistics: Equatable, Sendable {
  package var current = 0
  package var limit = 0
  package var statics = 0
  package var learned: UInt64 = 0
  package var expired: UInt64 = 0
  package var evicted: UInt64 = 0
  package var moved: UInt64 = 0

  package init() {}
}
