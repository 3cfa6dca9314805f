internal import OVXControl
internal import OVXDatapath

/// What an agent has told of other hosts, by networks: it stays beside the configuration, and is
/// never stored.
///
/// The data plane has a copy of what can be in force: a station behind a VTEP to which there is a
/// way. What it loses by another topology, or cannot have yet, it is given again as soon as it can;
/// what a device of this host says against an entry stands, until the agent tells it again.
struct AgentEntries {
  /// What is told of one network.
  struct Told {
    /// Those that have asked for broadcasts, each with the round in which it was told last.
    var vteps: [IPAddress: UInt32] = [:]
    var stations: [MACAddress: Station] = [:]
    var neighbors: [IPAddress: Neighbor] = [:]
    /// The stations behind each VTEP, by number.
    var stationCounts: [IPAddress: Int] = [:]
    /// The IP addresses of each station.
    var addresses: [MACAddress: Set<IPAddress>] = [:]
    /// What the data plane has of it.
    var force: Force?
    /// Whether `remotes` may be others than when they were asked for last.
    var hasOtherRemotes = false

    /// The VTEPs to which frames are sent, in order; what is flooded goes to those that have asked
    /// for it.
    var remotes: DesiredState.ToldRemotes {
      DesiredState.ToldRemotes(
        remotes: Set(vteps.keys).union(stationCounts.keys).sorted(),
        withoutFloods: Set(stationCounts.keys).subtracting(vteps.keys))
    }
  }

  struct Station {
    var vtep: IPAddress
    var isSticky: Bool
    var round: UInt32
  }

  struct Neighbor {
    var mac: MACAddress
    var isRouter: Bool
    var round: UInt32
  }

  /// Where entries of a network are in the data plane.
  struct Force: Equatable {
    var bridge: BridgeID
    var port: PortID
    var vlan: VLANID
    /// The bridge's, as a larger table takes what a smaller one has refused.
    var addressLimit: Int
    /// The VTEPs that it knows.
    var peers: [IPAddress: RemoteVTEPID]
  }

  private(set) var networks: [String: Told] = [:]
  /// Counts the times that an agent has begun to tell all of it.
  private var round: UInt32 = 0
  /// When all of it goes, in milliseconds on the monotonic clock; `nil` for never.
  private(set) var deadline: Int64?

  /// Whether there is anything.
  var isEmpty: Bool { networks.isEmpty }

  /// Takes an update; `now` is in milliseconds on the monotonic clock.
  ///
  /// - Parameters:
  ///   - update: A valid one.
  ///   - isServed: Whether a network is the agent's; of others nothing is taken.
  ///   - now: The time.
  /// - Returns: What the data plane is to be told, by networks.
  mutating func take(
    _ update: AgentUpdate, isServed: (String) -> Bool, now: Int64
  ) -> [String: [ExternalEntry]] {
    deadline = update.hold == 0 ? nil : now + Int64(update.hold) * 1000
    if update.phase == .begin { round &+= 1 }
    var orders: [String: [ExternalEntry]] = [:]
    for (name, entries) in update.networks where isServed(name) {
      orders[name] = take(entries, of: name, tellsAll: update.phase == .change)
    }
    if update.phase == .end {
      for name in networks.keys { orders[name, default: []] += sweep(name) }
    }
    return orders
  }

  /// Forgets all of it, or what is told of networks that are not the agent's any more.
  ///
  /// - Parameter isServed: Which are.
  /// - Returns: What the data plane is to be told, by networks.
  mutating func forget(exceptFor isServed: (String) -> Bool) -> [String: [ExternalEntry]] {
    var orders: [String: [ExternalEntry]] = [:]
    for (name, told) in networks where !isServed(name) {
      orders[name] =
        told.stations.keys.map(ExternalEntry.lostAddress)
        + told.neighbors.keys.map(ExternalEntry.lostNeighbor)
      networks[name] = nil
    }
    if networks.isEmpty { deadline = nil }
    return orders
  }

  /// Takes what is told of one network.
  ///
  /// - Parameters:
  ///   - entries: What it is.
  ///   - name: The network's.
  ///   - tellsAll: Whether the data plane is told also what was known: the agent says it once more,
  ///     as a device may have said otherwise.
  /// - Returns: What the data plane is to be told.
  private mutating func take(
    _ entries: AgentUpdate.Entries, of name: String, tellsAll: Bool
  ) -> [ExternalEntry] {
    var told = networks.removeValue(forKey: name) ?? Told()
    var orders: [ExternalEntry] = []
    for vtep in entries.vteps where told.vteps.updateValue(round, forKey: vtep) == nil {
      told.hasOtherRemotes = true
    }
    for vtep in entries.lostVTEPs where told.vteps.removeValue(forKey: vtep) != nil {
      told.hasOtherRemotes = true
    }
    for mac in entries.lostStations { orders += told.remove(mac) }
    for station in entries.stations {
      let old = told.stations[station.mac]
      let new = Station(vtep: station.vtep, isSticky: station.isSticky, round: round)
      told.set(new, of: station.mac)
      guard tellsAll || old?.vtep != new.vtep || old?.isSticky != new.isSticky else { continue }
      orders += told.orders(of: station.mac, withNeighbors: old?.vtep != new.vtep)
    }
    for ip in entries.lostNeighbors where told.removeNeighbor(ip) {
      orders.append(.lostNeighbor(ip))
    }
    for neighbor in entries.neighbors {
      let old = told.neighbors[neighbor.ip]
      let new = Neighbor(mac: neighbor.mac, isRouter: neighbor.isRouter, round: round)
      told.set(new, of: neighbor.ip)
      guard tellsAll || old?.mac != new.mac || old?.isRouter != new.isRouter else { continue }
      orders += told.orders(of: neighbor.ip)
    }
    networks[name] = told
    return orders
  }

  /// Forgets what was not told since the last beginning.
  private mutating func sweep(_ name: String) -> [ExternalEntry] {
    guard var told = networks.removeValue(forKey: name) else { return [] }
    var orders: [ExternalEntry] = []
    let round = round
    told.vteps = told.vteps.filter { $0.value == round }
    told.hasOtherRemotes = true
    for mac in told.stations.filter({ $0.value.round != round }).keys { orders += told.remove(mac) }
    for ip in told.neighbors.filter({ $0.value.round != round }).keys where told.removeNeighbor(ip)
    {
      orders.append(.lostNeighbor(ip))
    }
    networks[name] = told
    return orders
  }

  /// The VTEPs of a network, where they may be others than when this was called last.
  mutating func takeRemotes(of name: String) -> DesiredState.ToldRemotes? {
    guard networks[name]?.hasOtherRemotes == true else { return nil }
    networks[name]?.hasOtherRemotes = false
    return networks[name]?.remotes
  }

  /// Notes where entries of a network are now, and says what the data plane lacks there.
  mutating func settle(_ name: String, at force: Force?) -> [ExternalEntry] {
    guard var told = networks.removeValue(forKey: name) else { return [] }
    defer { networks[name] = told }
    let old = told.force
    guard old != force else { return [] }
    told.force = force
    guard let force else { return [] }
    let isElsewhere =
      old?.bridge != force.bridge || old?.port != force.port || old?.vlan != force.vlan
      || old?.addressLimit != force.addressLimit
    let added = force.peers.filter { isElsewhere || old?.peers[$0.key] != $0.value }
    guard !added.isEmpty else { return [] }
    return told.stations.filter { added[$0.value.vtep] != nil }.keys
      .flatMap { told.orders(of: $0, withNeighbors: true) }
  }
}

extension AgentEntries.Told {
  /// All of it, in portions of so many entries at most.
  func portions(of size: Int) -> [AgentUpdate.Entries] {
    var portions: [AgentUpdate.Entries] = []
    var portion = AgentUpdate.Entries()
    func close() {
      portions.append(portion)
      portion = AgentUpdate.Entries()
    }
    for vtep in vteps.keys {
      portion.vteps.append(vtep)
      if portion.count == size { close() }
    }
    for (mac, station) in stations {
      portion.stations.append(
        AgentUpdate.Station(mac: mac, vtep: station.vtep, isSticky: station.isSticky))
      if portion.count == size { close() }
    }
    for (ip, neighbor) in neighbors {
      portion.neighbors.append(
        AgentUpdate.Neighbor(ip: ip, mac: neighbor.mac, isRouter: neighbor.isRouter))
      if portion.count == size { close() }
    }
    if portion.count > 0 { close() }
    return portions
  }

  fileprivate mutating func set(_ station: AgentEntries.Station, of mac: MACAddress) {
    let old = stations.updateValue(station, forKey: mac)
    guard old?.vtep != station.vtep else { return }
    if let old { uncount(old.vtep) }
    stationCounts[station.vtep, default: 0] += 1
    if stationCounts[station.vtep] == 1 { hasOtherRemotes = true }
  }

  /// Forgets a station, and says what the data plane is to be told: that its IP addresses are
  /// nobody's, too.
  fileprivate mutating func remove(_ mac: MACAddress) -> [ExternalEntry] {
    guard let old = stations.removeValue(forKey: mac) else { return [] }
    uncount(old.vtep)
    return [.lostAddress(mac)] + (addresses[mac] ?? []).map(ExternalEntry.lostNeighbor)
  }

  private mutating func uncount(_ vtep: IPAddress) {
    let count = (stationCounts[vtep] ?? 1) - 1
    stationCounts[vtep] = count == 0 ? nil : count
    if count == 0 { hasOtherRemotes = true }
  }

  fileprivate mutating func set(_ neighbor: AgentEntries.Neighbor, of ip: IPAddress) {
    _ = removeNeighbor(ip)
    neighbors[ip] = neighbor
    addresses[neighbor.mac, default: []].insert(ip)
  }

  fileprivate mutating func removeNeighbor(_ ip: IPAddress) -> Bool {
    guard let old = neighbors.removeValue(forKey: ip) else { return false }
    addresses[old.mac]?.remove(ip)
    if addresses[old.mac]?.isEmpty == true { addresses[old.mac] = nil }
    return true
  }

  /// What the data plane is told of a station; nothing while there is no way to it.
  fileprivate func orders(of mac: MACAddress, withNeighbors: Bool) -> [ExternalEntry] {
    guard let station = stations[mac], let place = place(of: station) else { return [] }
    let order = ExternalEntry.address(mac, at: place, isSticky: station.isSticky)
    return withNeighbors ? [order] + (addresses[mac] ?? []).flatMap { orders(of: $0) } : [order]
  }

  /// The same of an IP address.
  fileprivate func orders(of ip: IPAddress) -> [ExternalEntry] {
    guard let neighbor = neighbors[ip], let station = stations[neighbor.mac],
      let place = place(of: station)
    else { return [] }
    return [.neighbor(ip, neighbor.mac, at: place, isRouter: neighbor.isRouter)]
  }

  private func place(of station: AgentEntries.Station) -> Destination? {
    guard let force, let peer = force.peers[station.vtep] else { return nil }
    return Destination(port: force.port, peer: peer)
  }
}
