// What a datapath takes over from the one of a process that ran before: tables that it would else
// have to learn anew, while frames for stations that were known are flooded.

extension Datapath {
  // MARK: Giving

  /// Places in a bridge's two tables that are told of at a time; frames wait that long.
  package static let slotsAtATime = 2048

  /// How many of the places in tables have been used, of each bridge that is there.
  package var usedSlots: [BridgeID: Int] {
    var used: [BridgeID: Int] = [:]
    for bridge in tables.bridges.ids where tables.bridges[bridge].isPresent {
      let count = max(fdb.slots(of: bridge).upperBound, neighbors.slots(of: bridge).upperBound)
      if count > 0 { used[bridge] = count }
    }
    return used
  }

  /// What is in some places of a bridge's tables, in no order: without what an agent has told,
  /// which may be a hundred thousand entries, and is the agent's to tell again.
  package func known(
    of bridge: BridgeID, in slots: Range<Int>
  ) -> (addresses: [KnownAddress], neighbors: [KnownNeighbor]) {
    guard hasBridge(bridge) else { return ([], []) }
    return (
      fdb.records(of: bridge, in: slots, now: now).map { KnownAddress($0) }
        .filter { $0.origin == .learned || $0.origin == .static },
      neighbors.records(of: bridge, in: slots, now: now).map { KnownNeighbor($0) }
        .filter { !$0.isExternal }
    )
  }

  // MARK: Taking

  /// Takes over an address that a former datapath knew.
  ///
  /// Of several the ones that were not seen for the longest time come first, so that they are the
  /// first to give way. What is known already stays.
  ///
  /// - Parameters:
  ///   - known: The address, in numbers of this datapath; one of an agent's is left to the agent.
  ///   - bridge: Whose table it is of.
  /// - Returns: Whether it has found its place: not on a port that is not there, not in the VLAN,
  ///   or from which it could not be learned now; nor where it is too old.
  @discardableResult
  package mutating func inherit(_ known: KnownAddress, bridge: BridgeID) -> Bool {
    let place = Destination(port: known.port, peer: known.peer)
    guard hasBridge(bridge), !known.address.isGroup,
      tables.hasPlace(place, vlan: known.vlan, bridge: bridge)
    else { return false }
    let key = AddressKey(vlan: known.vlan, address: known.address)
    switch known.origin {
    case .static:
      guard fdb.set(key, at: place, .static, in: bridge) else { return false }
    case .external, .stickyExternal: return false
    case .learned:
      guard isYoung(known.age ?? 0, bridge),
        tables.admits(known.address, from: known.port, vlan: known.vlan)
      else { return false }
      guard fdb.lookUp(key, in: bridge) == nil else { return true }
      _ = fdb.adopt(
        key, at: place, in: bridge, now: lastSeen(known.age ?? 0), portLimit: .max,
        overridesExternal: false)
    }
    hasStationNews = true
    return true
  }

  /// Takes over a neighbor that a former datapath knew; see `inherit(_:bridge:)` for addresses.
  @discardableResult
  package mutating func inherit(_ known: KnownNeighbor, bridge: BridgeID) -> Bool {
    let place = Destination(port: known.port, peer: known.peer)
    guard hasBridge(bridge), !known.isExternal, !known.address.isGroup,
      tables.hasPlace(place, vlan: known.vlan, bridge: bridge), isYoung(known.age, bridge),
      tables.admits(known.address, from: known.port, vlan: known.vlan),
      tables.admits(known.ip, from: known.port)
    else { return false }
    let key = NeighborKey(vlan: known.vlan, address: known.ip)
    guard neighbors.lookUp(key, in: bridge) == nil else { return true }
    let neighbor = Neighbor(address: known.address, place: place, isRouter: known.isRouter)
    _ = neighbors.adopt(
      key, at: neighbor, in: bridge, now: lastSeen(known.age),
      portLimit: tables.neighborLimit(of: known.port), overridesExternal: false)
    hasStationNews = true
    return true
  }

  /// Counts on from what a port had carried and lost before; `PortID.none` stands for no port.
  package mutating func inherit(_ former: PortCounters, of port: PortID) {
    counters.add(former, to: port)
  }

  private func isYoung(_ age: UInt32, _ bridge: BridgeID) -> Bool {
    let limit = tables.bridges[bridge].agingTime
    return limit == 0 || age < limit
  }

  private func lastSeen(_ age: UInt32) -> UInt32 { now - min(age, now) }
}

extension CompiledTopology {
  /// Whether a station of a port could be learned from its frames: what `admit`, `decide` and
  /// `learnSource` ask of a frame.
  fileprivate func admits(_ station: MACAddress, from port: PortID, vlan: VLANID) -> Bool {
    let record = ports[port]
    guard record.learns, !station.isGroup, station.rawValue != 0 else { return false }
    if record.sourceRule >= 0 {
      let rule = sourceRules[record.sourceRule]
      guard station != rule.gatewayStation, sourceRules.mayUse(station, rule) else { return false }
    }
    guard case .station(let owner) = self.owner(of: station, vlan: vlan, bridge: record.bridge)
    else { return true }
    return owner == port || !ports[owner].isGateway
  }

  /// Whether a port could say that it has an IP address.
  fileprivate func admits(_ ip: IPAddress, from port: PortID) -> Bool {
    let number = ports[port].sourceRule
    return number < 0 || sourceRules.owner(of: ip, sourceRules[number]) == .port
  }
}
