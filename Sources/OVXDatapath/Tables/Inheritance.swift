// What a datapath takes over from the one of a process that ran before: tables that it would else
// have to learn anew, while frames for stations that were known are flooded.

extension Datapath {
  /// Takes over an address that a former datapath knew.
  ///
  /// Of several the ones that were not seen for the longest time come first, so that they are the
  /// first to give way. What is known already stays.
  ///
  /// - Parameters:
  ///   - known: The address, in numbers of this datapath; one of an agent's is left to the agent.
  ///   - bridge: Whose table it is of.
  /// - Returns: Whether it has found its place: not on a port that is not there or not in the VLAN.
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
      tables.hasPlace(place, vlan: known.vlan, bridge: bridge)
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

  private func lastSeen(_ age: UInt32) -> UInt32 { now - min(age, now) }
}
