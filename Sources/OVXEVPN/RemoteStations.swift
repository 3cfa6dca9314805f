internal import OVXDatapath

/// One route to a station of a network.
struct StationRoute {
  var distinguisher: RouteDistinguisher
  var ip: IPAddress?
  var vtep: IPAddress
  var mobility: Mobility
  var isGateway: Bool
  /// Of the time between two losses of all peers, which one it was told in.
  var generation: UInt32
  /// Whether it was withdrawn, and is in force until it is known what that means: see
  /// `Withdrawals`.
  var isWithdrawn = false

  /// Whether the station is rather where this one says (RFC 7432, section 7.7): one that never
  /// moves, then the later move, then the lower VTEP.
  ///
  /// Before all that, what is told counts for more than what was withdrawn.
  func precedes(_ other: StationRoute) -> Bool {
    if isWithdrawn != other.isWithdrawn { return !isWithdrawn }
    if mobility.isSticky != other.mobility.isSticky { return mobility.isSticky }
    if mobility.sequence != other.mobility.sequence {
      return mobility.sequence > other.mobility.sequence
    }
    return vtep < other.vtep
  }
}

/// What other hosts say of a network: its VTEPs, stations and their addresses.
struct RemoteStations {
  /// Routes to each station; none is empty.
  private(set) var routes: [MACAddress: [StationRoute]] = [:]
  /// The stations that have an address, after all that is said; none is empty.
  private(set) var owners: [IPAddress: [MACAddress]] = [:]
  /// VTEPs that want broadcasts, by the routes that say so.
  private(set) var vteps: [IPAddress: [RouteKey: UInt32]] = [:]
  /// The VTEP that such a route is of.
  private var vtepsByRoute: [RouteKey: IPAddress] = [:]
  /// How many routes there are.
  private(set) var count = 0

  /// Routes to one station, and stations that claim one address, at most: whoever tells of more
  /// than that would have the rest looked at over and over.
  static let stationLimit = 1024
  static let ownerLimit = 16

  /// What has to be looked at anew.
  struct Touched {
    var stations = Pending<MACAddress>()
    var addresses = Pending<IPAddress>()
    var vteps = Pending<IPAddress>()

    var isEmpty: Bool { stations.isEmpty && addresses.isEmpty && vteps.isEmpty }
  }

  /// Takes a route; `false` where there are as many as may be.
  mutating func insert(
    _ route: Route, generation: UInt32, limit: Int, _ touched: inout Touched
  ) -> Bool {
    switch route.key {
    case .multicast:
      if let old = vtepsByRoute[route.key], old != route.vtep {
        removeMulticast(route.key, at: old, &touched)
      }
      let isNew = vteps[route.vtep]?[route.key] == nil
      guard !isNew || count < limit else { return false }
      if isNew { count += 1 }
      if vteps[route.vtep] == nil { touched.vteps.insert(route.vtep) }
      vteps[route.vtep, default: [:]][route.key] = generation
      vtepsByRoute[route.key] = route.vtep
    case .station(let distinguisher, let mac, let ip):
      let new = StationRoute(
        distinguisher: distinguisher, ip: ip, vtep: route.vtep, mobility: route.mobility,
        isGateway: route.isGateway, generation: generation)
      var list = routes[mac] ?? []
      // One copy of the list, and that changed in place.
      routes[mac] = nil
      defer { routes[mac] = list.isEmpty ? nil : list }
      if let index = list.firstIndex(where: { $0.distinguisher == distinguisher && $0.ip == ip }) {
        list[index] = new
      } else {
        guard count < limit, list.count < Self.stationLimit else { return false }
        count += 1
        list.append(new)
        if let ip, owners[ip]?.contains(mac) != true, owners[ip]?.count ?? 0 < Self.ownerLimit {
          owners[ip, default: []].append(mac)
        }
      }
      if let ip { touched.addresses.insert(ip) }
      touched.stations.insert(mac)
    }
    return true
  }

  mutating func remove(_ key: RouteKey, _ touched: inout Touched) {
    switch key {
    case .multicast:
      guard let vtep = vtepsByRoute[key] else { return }
      removeMulticast(key, at: vtep, &touched)
    case .station(let distinguisher, let mac, let ip):
      remove(mac, &touched) { $0.distinguisher == distinguisher && $0.ip == ip }
    }
  }

  /// Has a station's route count for less than any that is told.
  mutating func withdraw(_ key: RouteKey, _ touched: inout Touched) {
    guard case .station(let distinguisher, let mac, let ip) = key,
      let index = routes[mac]?.firstIndex(where: {
        $0.distinguisher == distinguisher && $0.ip == ip
      })
    else { return }
    routes[mac]?[index].isWithdrawn = true
    touched.stations.insert(mac)
    if let ip { touched.addresses.insert(ip) }
  }

  /// Has a route be swept unless it is told again.
  mutating func expire(_ key: RouteKey) {
    switch key {
    case .multicast:
      guard let vtep = vtepsByRoute[key] else { return }
      vteps[vtep]?[key] = 0
    case .station(let distinguisher, let mac, let ip):
      guard
        let index = routes[mac]?.firstIndex(where: {
          $0.distinguisher == distinguisher && $0.ip == ip
        })
      else { return }
      routes[mac]?[index].generation = 0
    }
  }

  /// Removes what is older than a generation.
  ///
  /// - Parameters:
  ///   - generation: The first that stays.
  ///   - touched: What has to be looked at anew.
  ///   - removed: Is told of each.
  mutating func sweep(
    before generation: UInt32, _ touched: inout Touched, removed: (RouteKey) -> Void
  ) {
    let stale = routes.filter { $0.value.contains { $0.generation < generation } }
    for (mac, list) in stale {
      for route in list where route.generation < generation {
        removed(.station(route.distinguisher, mac, route.ip))
      }
      remove(mac, &touched) { $0.generation < generation }
    }
    for (vtep, keys) in vteps {
      for (key, told) in keys where told < generation {
        removed(key)
        removeMulticast(key, at: vtep, &touched)
      }
    }
  }

  private mutating func remove(
    _ mac: MACAddress, _ touched: inout Touched, where isGone: (StationRoute) -> Bool
  ) {
    guard var list = routes[mac] else { return }
    let gone = list.filter(isGone)
    guard !gone.isEmpty else { return }
    list.removeAll(where: isGone)
    count -= gone.count
    routes[mac] = list.isEmpty ? nil : list
    touched.stations.insert(mac)
    touched.addresses.formUnion(gone.compactMap(\.ip))
    for ip in gone.compactMap(\.ip) where !list.contains(where: { $0.ip == ip }) {
      owners[ip]?.removeAll { $0 == mac }
      if owners[ip]?.isEmpty == true { owners[ip] = nil }
    }
  }

  private mutating func removeMulticast(
    _ key: RouteKey, at vtep: IPAddress, _ touched: inout Touched
  ) {
    guard vteps[vtep]?.removeValue(forKey: key) != nil else { return }
    vtepsByRoute[key] = nil
    count -= 1
    guard vteps[vtep]?.isEmpty == true else { return }
    vteps[vtep] = nil
    touched.vteps.insert(vtep)
  }

  /// Where a station is, after all that is said.
  func best(_ mac: MACAddress) -> StationRoute? {
    routes[mac]?.reduce(nil) { best, route in
      guard let best, !route.precedes(best) else { return route }
      return best
    }
  }

  /// The route that tells a station's address; only what is said of the place where the station is
  /// counts.
  func best(_ mac: MACAddress, _ ip: IPAddress) -> StationRoute? {
    guard let place = best(mac) else { return nil }
    return routes[mac]?.filter { $0.ip == ip && $0.vtep == place.vtep }.reduce(nil) {
      best, route in
      guard let best, !route.precedes(best) else { return route }
      return best
    }
  }
}
