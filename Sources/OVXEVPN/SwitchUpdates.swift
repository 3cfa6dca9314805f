package import OVXControl
internal import OVXDatapath

// What the switch is told of other hosts.

/// What the switch was told of a network, and is to hold.
struct ToldEntries {
  var vteps: Set<IPAddress> = []
  var stations: [MACAddress: AgentUpdate.Station] = [:]
  var neighbors: [IPAddress: AgentUpdate.Neighbor] = [:]
}

/// How far the switch has been told, and when.
struct UpdateClock {
  var isConnected = false
  var hasBegun = false
  var hasEnded = false
  var lastUpdate: Int64?

  /// Milliseconds after which the switch is told that nothing has changed: its entries go without
  /// that.
  static let interval: Int64 = 5000
}

extension Agent {
  /// Bytes of JSON in an update, about; a request has 1 MiB at most.
  private static let byteLimit = 800_000

  /// All is to be told anew.
  mutating func tellAll() {
    told = [:]
    for (vni, network) in networks {
      untold[vni, default: .init()].vteps.formUnion(network.remote.vteps.keys)
      untold[vni, default: .init()].stations.formUnion(network.remote.routes.keys)
      untold[vni, default: .init()].addresses.formUnion(network.remote.owners.keys)
    }
  }

  /// The switch has not taken an update: all is told anew.
  package mutating func updateFailed(at now: Int64) {
    switchUpdates.hasBegun = false
    switchUpdates.hasEnded = false
    tellAll()
  }

  /// What the switch is to be told next; `nil` where there is nothing to tell now.
  ///
  /// Each is taken to be in force; after a failure `updateFailed` begins anew.
  package mutating func takeUpdate(at now: Int64) -> AgentUpdate? {
    guard switchUpdates.isConnected else { return nil }
    let hold = tables.hold
    func update(_ phase: AgentUpdate.Phase, _ networks: [String: AgentUpdate.Entries] = [:])
      -> AgentUpdate
    {
      AgentUpdate(phase, hold: hold, networks: networks)
    }
    guard switchUpdates.hasBegun else {
      switchUpdates.hasBegun = true
      switchUpdates.lastUpdate = now
      return update(.begin)
    }
    let changes = takeChanges()
    if !changes.isEmpty {
      switchUpdates.lastUpdate = now
      return update(.change, changes)
    }
    if !switchUpdates.hasEnded, !holding.isHolding {
      switchUpdates.hasEnded = true
      switchUpdates.lastUpdate = now
      return update(.end)
    }
    if let last = switchUpdates.lastUpdate, now - last < UpdateClock.interval { return nil }
    switchUpdates.lastUpdate = now
    return update(.change)
  }

  /// As many changes as one update holds.
  private mutating func takeChanges() -> [String: AgentUpdate.Entries] {
    var changes: [String: AgentUpdate.Entries] = [:]
    var (count, bytes) = (0, 0)
    while count < AgentUpdate.limit, bytes < Self.byteLimit, let vni = untold.keys.first {
      guard let network = networks[vni] else {
        untold[vni] = nil
        continue
      }
      var touched = untold.removeValue(forKey: vni) ?? .init()
      var known = told.removeValue(forKey: vni) ?? ToldEntries()
      var entries = AgentUpdate.Entries()
      bytes += 200 + 6 * network.settings.name.utf8.count
      let room = AgentUpdate.limit - count
      while entries.count < room, bytes + 120 * entries.count < Self.byteLimit {
        if let vtep = touched.vteps.popFirst() {
          let isWanted = network.remote.vteps[vtep] != nil && vtep != localVTEP
          if isWanted, known.vteps.insert(vtep).inserted { entries.vteps.append(vtep) }
          if !isWanted, known.vteps.remove(vtep) != nil { entries.lostVTEPs.append(vtep) }
        } else if let mac = touched.stations.popFirst() {
          let new = station(mac, of: network)
          guard new != known.stations[mac] else { continue }
          known.stations[mac] = new
          if let new { entries.stations.append(new) } else { entries.lostStations.append(mac) }
          touched.addresses.formUnion(network.remote.routes[mac]?.compactMap(\.ip) ?? [])
        } else if let ip = touched.addresses.popFirst() {
          let new = neighbor(ip, of: network)
          guard new != known.neighbors[ip] else { continue }
          known.neighbors[ip] = new
          if let new { entries.neighbors.append(new) } else { entries.lostNeighbors.append(ip) }
        } else {
          break
        }
      }
      if !touched.isEmpty { untold[vni] = touched }
      told[vni] = known
      count += entries.count
      bytes += 120 * entries.count
      if entries.count > 0 { changes[network.settings.name] = entries }
    }
    return changes
  }

  private func station(_ mac: MACAddress, of network: ServedNetwork) -> AgentUpdate.Station? {
    guard let place = network.place(of: mac), place.vtep != localVTEP else { return nil }
    // Whose it is cannot be said before both sides are known.
    if !isReady,
      tables.stationsByPlace[StationPlace(network: network.settings.name, mac: mac)] != nil
    {
      return nil
    }
    return AgentUpdate.Station(mac: mac, vtep: place.vtep, isSticky: place.isSticky)
  }

  /// The station that has an address: of several that claim it the one whose place precedes, then
  /// the lower one.
  private func neighbor(_ ip: IPAddress, of network: ServedNetwork) -> AgentUpdate.Neighbor? {
    var found: (mac: MACAddress, route: StationRoute)?
    for mac in network.remote.owners[ip] ?? [] {
      guard station(mac, of: network) != nil, let route = network.remote.best(mac, ip),
        !route.isWithdrawn || withdrawals.isHeld(route.vtep)
      else { continue }
      if let (other, best) = found {
        guard route.precedes(best) || (!best.precedes(route) && mac < other) else { continue }
      }
      found = (mac, route)
    }
    return found.map { AgentUpdate.Neighbor(ip: ip, mac: $0.mac, isRouter: $0.route.isGateway) }
  }
}
