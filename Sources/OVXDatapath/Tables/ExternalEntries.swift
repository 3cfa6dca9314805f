/// One thing that an agent tells of a segment of a bridge: see `EntryOrigin.external`.
package enum ExternalEntry: Equatable, Sendable {
  /// A station is behind a remote VTEP, also where a device has just said otherwise.
  case address(MACAddress, at: Destination, isSticky: Bool)
  case lostAddress(MACAddress)
  /// A station of a remote VTEP has an IP address, for which requests are answered.
  case neighbor(IPAddress, MACAddress, at: Destination, isRouter: Bool)
  case lostNeighbor(IPAddress)
}

extension Datapath {
  /// Takes what an agent tells of a VLAN of a bridge.
  ///
  /// A station of this host that is known without having been heard, such as the gateway, stays
  /// where it is.
  ///
  /// - Returns: How many entries found no place, as the table is full of those that do not age, an
  ///   operator has said otherwise, or there is no such remote.
  package mutating func take(_ entries: [ExternalEntry], vlan: VLANID, bridge: BridgeID) -> Int {
    guard hasBridge(bridge) else { return entries.count }
    hasStationNews = true
    var refused = 0
    for entry in entries where !take(entry, vlan, bridge) { refused += 1 }
    return refused
  }

  private mutating func take(_ entry: ExternalEntry, _ vlan: VLANID, _ bridge: BridgeID) -> Bool {
    switch entry {
    case .address(let address, let place, let isSticky):
      guard hasRemote(place, vlan, bridge) else { return false }
      if case .station = tables.owner(of: address, vlan: vlan, bridge: bridge) { return false }
      return fdb.set(
        AddressKey(vlan: vlan, address: address), at: place,
        isSticky ? .stickyExternal : .external, in: bridge)
    case .lostAddress(let address):
      _ = fdb.remove(
        AddressKey(vlan: vlan, address: address), in: bridge, of: .external ... .stickyExternal)
    case .neighbor(let ip, let address, let place, let isRouter):
      guard hasRemote(place, vlan, bridge) else { return false }
      return neighbors.set(
        NeighborKey(vlan: vlan, address: ip),
        at: Neighbor(address: address, place: place, isRouter: isRouter), .external, in: bridge)
    case .lostNeighbor(let ip):
      _ = neighbors.remove(
        NeighborKey(vlan: vlan, address: ip), in: bridge, of: .external ... .stickyExternal)
    }
    return true
  }

  /// Whether there is such a remote VTEP in a segment.
  private func hasRemote(_ place: Destination, _ vlan: VLANID, _ bridge: BridgeID) -> Bool {
    guard tables.ports.contains(place.port), tables.peers.contains(place.peer) else { return false }
    let port = tables.ports[place.port]
    return port.role == .tunnel && port.bridge == bridge && tables.carries(vlan, port: port)
      && tables.peers[place.peer].port == place.port
  }

  /// The addresses behind devices of a bridge, and not behind its tunnels; costs what there are of
  /// them.
  package func stations(of bridge: BridgeID) -> [KnownAddress] {
    guard hasBridge(bridge) else { return [] }
    let devices = devices(of: bridge)
    return fdb.records(of: bridge, now: now) { devices.contains($0) }.map { KnownAddress($0) }
  }

  /// The neighbors behind devices of a bridge.
  package func stationNeighbors(of bridge: BridgeID) -> [KnownNeighbor] {
    guard hasBridge(bridge) else { return [] }
    let devices = devices(of: bridge)
    return neighbors.records(of: bridge, now: now) { devices.contains($0) }.map {
      KnownNeighbor($0)
    }
  }

  /// The ports of a bridge that are no tunnels.
  private func devices(of bridge: BridgeID) -> Set<PortID> {
    var devices: Set<PortID> = []
    for member in tables.bridges[bridge].members {
      let port = tables.bridgeMembers[member]
      if tables.ports[port].role != .tunnel { devices.insert(port) }
    }
    return devices
  }

  /// Whether whoever watches stations, or waits for news of them, is to be told now.
  package mutating func hasAwaitedStationNews() -> Bool {
    guard watchesStations || awaitsStationNews, takeStationNews() else { return false }
    awaitsStationNews = false
    return true
  }

  /// Has the next news be told, once; what there was before is none, unless somebody watches.
  package mutating func awaitStationNews() {
    if !watchesStations { hasStationNews = false }
    awaitsStationNews = true
  }

  /// Whether stations or neighbors may be others than when this was called last.
  package mutating func takeStationNews() -> Bool {
    defer { hasStationNews = false }
    return hasStationNews
  }
}
