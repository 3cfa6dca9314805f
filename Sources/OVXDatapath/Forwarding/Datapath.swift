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
  /// it is used again at once. What `endBurst` hands over stays as it is until the next `receive`
  /// or `apply` call.
  package typealias Flush =
    (UnsafeBufferPointer<Transmission>, UnsafePointer<Vector>) -> Void

  var egress: Egress
  var gro = GRO()
  var tables = CompiledTopology(Topology())
  /// The forwarding databases: which address was seen where.
  var fdb = BridgeTables<AddressKey, Destination>()
  var neighbors = BridgeTables<NeighborKey, Neighbor>()
  /// Questions that each bridge has answered in the place of those who were asked.
  var answers = IDTable<BridgeID, UInt64>(zeros: BridgeID.limit)
  /// Questions that each bridge has addressed to those alone who were asked.
  var directions = IDTable<BridgeID, UInt64>(zeros: BridgeID.limit)
  /// Frames of each bridge that may have said something about neighbors, and were not read for it.
  var unread = IDTable<BridgeID, UInt64>(zeros: BridgeID.limit)
  /// Frames that each bridge has flooded from joined VNIs into others since the last tick.
  var joinFloods = IDTable<BridgeID, UInt32>(zeros: BridgeID.limit)
  var flapping = FlapWatch<AddressKey, Destination>(window: FlappingAddress.window)
  var contests = FlapWatch<NeighborKey, Neighbor>(window: ContestedNeighbor.window)
  var oversize = OversizeWatch()
  /// Who has sent datagrams lately and is a remote of no tunnel.
  package internal(set) var unknownVTEPs = UnknownVTEPs()
  /// What each port may still cost, by `PortLimits`.
  var buckets = IDTable<PortID, PortBuckets>(
    repeating: PortBuckets(.none, now: 0), count: PortID.limit)
  /// Milliseconds from some fixed point, as told with the latest burst.
  package internal(set) var burstTime: UInt32 = 0
  /// Frames that storm control has refused.
  package internal(set) var refusedFloods: Int64 = 0
  /// Whether it is for this datapath to tell which addresses keep moving: of several, one is
  /// enough.
  package var watchesFlapping = true
  /// Whether stations or neighbors may be others than when somebody asked last.
  package internal(set) var hasStationNews = false
  /// Whether anybody wants to know.
  package var watchesStations = false
  /// Whether somebody wants to know once; see `awaitStationNews`.
  var awaitsStationNews = false
  var updates: PendingFDBUpdates
  var counters = CounterTable()
  /// Seconds from some fixed point, as told last.
  var now: UInt32 = 0
  /// Whether there is a fast path, which is offered what it could repeat.
  package internal(set) var offersFlows = false
  var flowOffers = FlowOffers()
  /// Injectors that are not to be used, a bit each.
  var stoppedInjectors: UInt32 = 0
  private let seed: UInt64

  /// Makes a switch with an empty topology.
  ///
  /// - Parameters:
  ///   - seed: Makes the hashing of the address tables unpredictable; tests give one to be
  ///     repeatable.
  ///   - publish: Whom to tell what is learned; `nil` for the only worker of a switch.
  ///   - flush: What to do with transmissions.
  package init(
    seed: UInt64 = .random(in: .min ... .max), publish: FDBUpdate.Publish? = nil,
    flush: @escaping Flush
  ) {
    self.seed = seed
    unsafe updates = PendingFDBUpdates(publish)
    unsafe egress = Egress(handOver: flush)
  }

  /// Flushes what the burst left to be sent.
  package mutating func endBurst() {
    flush()
  }

  /// Hands over all transmissions; those that others were joined to get their payloads first.
  ///
  /// Kept out of those who call it where there is no room left: it is longer than they are.
  @inline(never) mutating func flush() {
    // First: an answer to what is sent may come to another worker.
    updates.handOver()
    while let frame = gro.finishNext() {
      egress.extend(frame, by: gro)
    }
    egress.flush()
  }

  // MARK: Time

  /// Tells the time, in seconds from any fixed point, once a second or so; addresses age by it.
  ///
  /// The last seconds before the number wraps count as the one before them.
  package mutating func tick(now time: UInt32) {
    now = min(time, lastSecond)
    for bridge in tables.bridges.ids where tables.bridges[bridge].isPresent {
      let record = tables.bridges[bridge]
      joinFloods[bridge] = 0
      for member in record.members { oversize.allowAnswers(of: tables.bridgeMembers[member]) }
      let known = fdb.statistics(of: bridge).current + neighbors.statistics(of: bridge).current
      fdb.expire(bridge, now: now, age: record.agingTime)
      neighbors.expire(bridge, now: now, age: record.agingTime)
      if fdb.statistics(of: bridge).current + neighbors.statistics(of: bridge).current != known {
        hasStationNews = true
      }
    }
  }

  // MARK: Topology

  /// Swaps in a new topology.
  ///
  /// Addresses learned on ports that are gone, or no longer in their VLAN, are forgotten.
  package mutating func apply(_ topology: Topology) {
    apply(CompiledTopology(topology))
  }

  /// Swaps in tables that were compiled beforehand, which is the long part of it.
  package mutating func apply(_ new: consuming CompiledTopology) {
    flush()
    hasStationNews = true
    stoppedInjectors = 0
    for port in tables.ports.ids { forgetStaleAddresses(port, new: new) }
    for port in new.ports.ids
    where new.role(of: port) != .absent && tables.role(of: port) == .absent {
      counters.reset(port)
    }
    fillBuckets(new: new)
    fdb.setPorts(new)
    neighbors.setPorts(new)
    for number in 0..<BridgeID.limit { resize(BridgeID(rawValue: UInt16(number)), new: new) }
    tables = new
    forgetImpostors()
  }

  /// Forgets where the addresses of gateways were seen before their ports had them.
  private mutating func forgetImpostors() {
    for place in 0..<tables.ownAddresses.entries.count {
      let entry = tables.ownAddresses.entries[place]
      guard entry.key != .max, entry.isStation, tables.ports[entry.port].isGateway else { continue }
      let port = tables.ports[entry.port]
      let key = AddressKey(vlan: port.ownVLAN, address: MACAddress(truncating: entry.key))
      if let known = fdb.lookUp(key, in: port.bridge), known.port != entry.port {
        _ = fdb.remove(key, in: port.bridge)
      }
    }
  }

  private mutating func forgetStaleAddresses(
    _ id: PortID, new: borrowing CompiledTopology
  ) {
    let old = tables.ports[id]
    guard old.role != .absent else { return }
    let record = new.ports.contains(id) ? new.ports[id] : CompiledTopology.Port()
    if tables.areSame(old, record, of: new) { return }
    let isSameBridge = record.role != .absent && record.bridge == old.bridge
    // A port that waits keeps what it knew: its device is likely to be back soon.
    func isStale(_ vlan: VLANID, _ peer: RemoteVTEPID) -> Bool {
      if !isSameBridge || !new.carries(vlan, port: record) { return true }
      if peer == .none { return record.role == .tunnel }
      return !new.peers.contains(peer) || new.peers[peer].port != id
        || record.role != .tunnel || record.vni != old.vni
    }
    fdb.forget(port: id, of: old.bridge) { isStale($0.vlan, $1.peer) }
    neighbors.forget(port: id, of: old.bridge) { isStale($0.vlan, $1.place.peer) }
  }

  /// Gives a bridge tables of the size that it is to have, with what was known as far as it fits.
  private mutating func resize(_ bridge: BridgeID, new: borrowing CompiledTopology) {
    let isPresent = new.hasBridge(bridge)
    if !isPresent {
      answers[bridge] = 0
      directions[bridge] = 0
      unread[bridge] = 0
    }
    let limit = isPresent ? new.bridges[bridge].addressLimit : 0
    guard limit != fdb.statistics(of: bridge).limit else { return }
    let seed = seed &+ UInt64(bridge.rawValue)
    fdb.resize(bridge, limit: limit, seed: seed, now: now, portLimit: { _ in .max })
    neighbors.resize(
      bridge, limit: limit, seed: seed, now: now, portLimit: { new.neighborLimit(of: $0) })
  }

  // MARK: Who belongs where

  /// The bridge of a port; `nil` for a port that is not there.
  package func bridge(of port: PortID) -> BridgeID? {
    guard tables.ports.contains(port) else { return nil }
    let record = tables.ports[port]
    return record.role == .absent ? nil : record.bridge
  }

  /// Whether there is a bridge of this number.
  package func hasBridge(_ bridge: BridgeID) -> Bool { tables.hasBridge(bridge) }

  /// The tunnel that a datagram belongs to, as `receiveDatagrams` finds it.
  ///
  /// - Parameters:
  ///   - datagram: The VXLAN header.
  ///   - count: The datagram's bytes, any number.
  ///   - endpoint: The socket it came in by.
  ///   - remote: The VTEP that sent it.
  /// - Returns: The tunnel's port, and a path back to the sender; `nil` where it belongs to none.
  @unsafe package func tunnel(
    of datagram: UnsafeRawPointer, count: Int, on endpoint: ListenerID, from remote: IPAddress
  ) -> (port: PortID, path: UnderlaySocketID)? {
    guard let tunnel = unsafe origin(of: datagram.span(max(count, 0)), on: endpoint, from: remote)
    else { return nil }
    let peer = tables.peers[tunnel.peer]
    return (tunnel.port, UnderlaySocketID(rawValue: peer.firstPath))
  }

  /// The tunnel, and the remote of it, that a datagram comes from; `nil` where it belongs to none.
  func origin(
    of datagram: RawSpan, on endpoint: ListenerID, from remote: IPAddress
  ) -> Destination? {
    guard let header = VXLANHeader(datagram), header.hasVNI,
      let vtep = tables.demultiplexer.vtep(remote)
    else { return nil }
    return tables.demultiplexer.tunnel(vni: header.vni, vtep: vtep, endpoint: endpoint)
  }

  /// The tunnel that sends to one of its remotes by a socket; none where no tunnel does.
  package func tunnel(sendingBy path: UnderlaySocketID) -> PortID {
    for number in tables.peers.ids {
      let peer = tables.peers[number]
      if path.rawValue &- peer.firstPath < peer.pathCount { return peer.port }
    }
    return .none
  }

  // MARK: Counters

  /// The frames sent to a port so far, modulo 2⁶⁴; only differences mean something.
  package func sentFrames(to port: PortID) -> UInt64 { counters.sentFrames(to: port) }

  /// Charges frames that the kernel did not take to the port they were to leave by.
  package mutating func countFailure(_ reason: DropReason, port: PortID, frames: Int) {
    counters.notSent(frames: frames, to: port)
    counters.dropped(reason, frames: frames, at: port)
  }

  /// Frames that came so far.
  package internal(set) var frameCount: Int64 {
    get { counters.frameCount }
    set { counters.frameCount = newValue }
  }

  /// Whether it is written down what is dropped, for those who want to see it.
  package var notesDrops: Bool {
    get { counters.journal.isOpen }
    set {
      counters.journal.isOpen = newValue
      _ = counters.journal.clear()
    }
  }

  /// How many drops are written down since `forgetDrops`.
  package var notedDropCount: Int { counters.journal.count }

  /// One of them, by its number from 0 on.
  package func notedDrop(_ index: Int) -> DroppedFrames { counters.journal[index] }

  /// Begins to write down anew.
  ///
  /// - Returns: The frames that were dropped and not written down, for want of room.
  package mutating func forgetDrops() -> UInt64 { counters.journal.clear() }

  /// Charges a frame that could not be received to the port it came in by.
  package mutating func countDrop(_ reason: DropReason, port: PortID, frames: Int) {
    counters.dropped(reason, frames: frames, at: port)
  }

  /// What a port has carried since it was made; zeros for an unknown one.
  ///
  /// `PortID.none` stands for frames that died before they could be charged to a port: datagrams of
  /// no tunnel.
  package func counters(of port: PortID) -> PortCounters {
    counters.counters(of: port)
  }

  /// A number for each remote of a tunnel, which has changed where something has come from it
  /// since, forwarded by the fast path or not.
  package func signs(of peers: [RemoteVTEPID]) -> [UInt64] { peers.map { counters.signs(of: $0) } }

  // MARK: Addresses

  /// The addresses that a bridge knows.
  package func addresses(of bridge: BridgeID) -> [KnownAddress] {
    guard hasBridge(bridge) else { return [] }
    return fdb.records(of: bridge, now: now).map { KnownAddress($0) }
  }

  /// Forgets the learned addresses of a bridge, and says how many; static ones stay.
  package mutating func flushAddresses(of bridge: BridgeID) -> Int {
    guard hasBridge(bridge) else { return 0 }
    hasStationNews = true
    return fdb.flush(bridge)
  }

  /// Adds a static address, in place of whatever was known of it.
  ///
  /// `false` where the table is full of static ones, or the port is not a member of the bridge and
  /// the VLAN. On a tunnel port the address is behind the first of its remotes, if it has any.
  package mutating func addStaticAddress(
    _ address: MACAddress, vlan: VLANID, on port: PortID, bridge: BridgeID
  ) -> Bool {
    guard hasBridge(bridge), tables.ports.contains(port) else { return false }
    let record = tables.ports[port]
    guard record.role != .absent, record.bridge == bridge, tables.carries(vlan, port: record)
    else { return false }
    var peer = RemoteVTEPID.none
    if record.role == .tunnel {
      guard record.peerCount > 0 else { return false }
      peer = tables.tunnelPeers[Int(record.firstPeer)]
    }
    hasStationNews = true
    return fdb.set(
      AddressKey(vlan: vlan, address: address), at: Destination(port: port, peer: peer), .static,
      in: bridge)
  }

  /// Removes an address, learned or static.
  ///
  /// `false` where it is not known.
  package mutating func removeAddress(
    _ address: MACAddress, vlan: VLANID, bridge: BridgeID
  ) -> Bool {
    guard hasBridge(bridge) else { return false }
    hasStationNews = true
    return fdb.remove(AddressKey(vlan: vlan, address: address), in: bridge)
  }

  /// What has happened to a bridge's table since the bridge was made.
  package func addressStatistics(of bridge: BridgeID) -> AddressStatistics {
    guard hasBridge(bridge) else { return AddressStatistics() }
    return fdb.statistics(of: bridge)
  }
}
