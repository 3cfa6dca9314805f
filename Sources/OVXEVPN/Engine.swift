package import OVXControl
package import OVXDatapath

// What the engine tells: routes of other hosts, peers, and what it has of this host's own.

/// The engine's routes, as they are being listed.
struct Listing {
  /// What changes meanwhile is newer than the list.
  var newer: Set<RouteKey> = []
}

extension Agent {
  /// The engine answers; its routes are listed next.
  package mutating func engineConnected(_ identity: Identity, at now: Int64) {
    isEngineConnected = true
    hasListed = false
    wantsList = true
    announced = [:]
    adopted = [:]
    self.identity = identity
    configure(at: now)
  }

  /// The engine has gone, or the way to it: what it has told is held.
  package mutating func engineLost(at now: Int64) {
    guard isEngineConnected else { return }
    isEngineConnected = false
    (withdrawn, questioned) = ([], [])
    listing = nil
    peers = []
    loseRoutes(at: now)
  }

  /// A list of all routes is asked for; what changes from here on is told by `received`.
  package mutating func listBegan() {
    listing = Listing()
    wantsList = false
  }

  package mutating func listed(_ paths: [ReceivedPath], at now: Int64) {
    for path in paths { take(path, isListed: true, at: now) }
  }

  package mutating func listEnded(at now: Int64) {
    listing = nil
    guard !hasListed else { return }
    hasListed = true
    holding.routed(at: now)
    for (vni, routes) in announced {
      unannounced.insert(.network(vni))
      for mac in routes.stations.keys { unannounced.insert(.station(vni, mac)) }
    }
    for vni in networks.keys { unannounced.insert(.network(vni)) }
    prepareIfReady(at: now)
  }

  /// Routes have changed.
  package mutating func received(_ paths: [ReceivedPath], at now: Int64) {
    for path in paths { take(path, isListed: false, at: now) }
    if !paths.isEmpty { holding.routed(at: now) }
  }

  private mutating func take(_ path: ReceivedPath, isListed: Bool, at now: Int64) {
    do throws(RouteFault) {
      let key = try path.key()
      if isListed, listing?.newer.contains(key) == true { return }
      if !isListed { listing?.newer.insert(key) }
      if path.isWithdrawal {
        if rib[key] != nil { withdrawn.insert(key) }
        return
      }
      let isOwn =
        path.isLocal && key.distinguisher.address.map { UInt64($0) } == identity?.routerID.low
      let route: Route
      do throws(RouteFault) { route = try path.route() } catch {
        // What it was before is not so any more.
        forget(key, at: now)
        throw error
      }
      if isOwn {
        if isListed, !hasListed { adopt(route) }
        return
      }
      withdrawn.remove(key)
      questioned.remove(key)
      try importRoute(route, at: now)
    } catch {
      count(error, of: path)
    }
  }

  /// Counts a path that is of no use; the first for each reason is named, as it may be somebody's
  /// malice or mistake.
  private mutating func count(_ fault: RouteFault, of path: ReceivedPath) {
    guard fault != .otherType else { return }
    faults[fault, default: 0] += 1
    guard faults[fault] == 1 else { return }
    notices.append(
      Notice(
        .warning,
        "a route is refused: \(path.summary) has \(fault.rawValue); more of them are counted by \"ovx-ctl evpn show\""
      ))
  }

  private mutating func importRoute(_ route: Route, at now: Int64) throws(RouteFault) {
    let isOwnVTEP = route.vtep == localVTEP
    guard !isOwnVTEP, networks[route.vni]?.imports(route) == true else {
      forget(route.key, at: now)
      let isMeant = route.targets.contains { target in
        networks.values.contains { $0.settings.target == target }
          || VNI(rawValue: UInt32(truncatingIfNeeded: target.rawValue)).map {
            target.isAutomatic(for: $0) && networks[$0]?.settings.target == nil
              && networks[$0] != nil
          } == true
      }
      if isMeant { throw isOwnVTEP ? .ownVTEP : .otherVNI }
      return
    }
    if let old = rib[route.key], old.vni != route.vni || old.vtep != route.vtep {
      forget(route.key, at: now)
    }
    var touched = RemoteStations.Touched()
    let isTaken =
      networks[route.vni]?.remote.insert(
        route, generation: generation, limit: tables.routeLimit, &touched) == true
    guard isTaken else { throw .tooMany }
    let old = rib.updateValue(Imported(vni: route.vni, vtep: route.vtep), forKey: route.key)
    withdrawals.told(route.key, of: route.vtep, isNew: old == nil, at: now)
    touch(route.vni, touched, at: now)
  }

  /// A route is there no more.
  private mutating func forget(_ key: RouteKey, at now: Int64) {
    guard let route = rib.removeValue(forKey: key) else { return }
    withdrawals.removed(key, of: route.vtep)
    var touched = RemoteStations.Touched()
    networks[route.vni]?.remote.remove(key, &touched)
    touch(route.vni, touched, at: now)
  }

  /// A route was withdrawn, by peers that are there.
  private mutating func withdraw(_ key: RouteKey, at now: Int64) {
    guard let route = rib[key] else { return }
    withdrawals.withdrawn(key, of: route.vtep, at: now)
    var touched = RemoteStations.Touched()
    networks[route.vni]?.remote.withdraw(key, &touched)
    touch(route.vni, touched, at: now)
  }

  private mutating func touch(_ vni: VNI, _ touched: RemoteStations.Touched, at now: Int64) {
    untold[vni, default: .init()].vteps.formUnion(touched.vteps)
    untold[vni, default: .init()].addresses.formUnion(touched.addresses)
    var stations = touched.stations
    while let mac = stations.popFirst() { decide(vni, mac, at: now) }
  }

  /// A route of this host that the engine has, told by an agent before this one.
  private mutating func adopt(_ route: Route) {
    switch route.key {
    case .multicast: announced[route.vni, default: .init()].networks.append(route)
    case .station(_, let mac, _):
      announced[route.vni, default: .init()].stations[mac, default: []].append(route)
      let known = adopted[route.vni]?[mac] ?? 0
      adopted[route.vni, default: [:]][mac] = max(known, route.mobility.sequence)
    }
  }

  // MARK: Peers

  /// Whether it is to be asked what peers there are: routes were withdrawn, and it matters whether
  /// the last peer is lost.
  package var wantsPeers: Bool { !withdrawn.isEmpty }

  /// Whether the engine may have to be told or asked something.
  package var hasBusinessWithEngine: Bool { wantsList || wantsPeers || !unannounced.isEmpty }

  /// The question for the peers is on its way.
  package mutating func peersRequested() {
    questioned.formUnion(withdrawn)
    withdrawn = []
  }

  /// What peers there are.
  ///
  /// The engine withdraws a lost peer's routes before it says that the peer is lost; and answers no
  /// question meanwhile. So after each withdrawal it is asked: routes that went with the last peer
  /// are held.
  package mutating func peersTold(_ new: [EVPNPeer], at now: Int64) {
    for peer in new {
      let old = peers.first { $0.address == peer.address }
      if old?.isEstablished != peer.isEstablished, old != nil || peer.isEstablished {
        notices.append(
          Notice(
            peer.isEstablished ? .info : .warning,
            "peer \(peer.address) is \(peer.isEstablished ? "established" : "lost")"))
      }
    }
    peers = new
    let isEstablished = new.contains(where: \.isEstablished)
    if isEstablished {
      holding.peerEstablished(at: now)
    } else if holding.hasPeer {
      loseRoutes(at: now)
    }
    let gone = questioned
    questioned = []
    for key in gone {
      if !isEstablished, holding.isHolding {
        if let route = rib[key] { networks[route.vni]?.remote.expire(key) }
      } else {
        withdraw(key, at: now)
      }
    }
  }

  private mutating func loseRoutes(at now: Int64) {
    generation &+= 1
    holding.lost(at: now)
    notices.append(
      Notice(
        .warning,
        "nobody tells routes any more; what is known is held"
          + (tables.hold == 0 ? "" : " for \(tables.hold) s")))
  }

  /// Lets time pass.
  package mutating func tick(at now: Int64) {
    if holding.ends(at: now, hold: tables.hold, isListed: hasListed && isEngineConnected) {
      sweep(at: now)
    }
    settleWithdrawals(at: now)
    for vni in networks.keys where isReady && switchUpdates.isConnected {
      for mac in networks[vni]?.overdue(at: now) ?? [] {
        networks[vni]?.hear(mac)
        decide(vni, mac, at: now)
      }
    }
    for vni in networks.keys {
      guard networks[vni]?.moves.isEmpty == false else { continue }
      let over = networks[vni]?.moves.filter { $0.value.isOver(at: now) }.keys ?? [:].keys
      for mac in over where networks[vni]?.frozen[mac] == nil { networks[vni]?.moves[mac] = nil }
    }
  }

  /// Removes what nobody has told again.
  private mutating func sweep(at now: Int64) {
    var count = 0
    for vni in networks.keys {
      var touched = RemoteStations.Touched()
      var gone: [RouteKey] = []
      networks[vni]?.remote.sweep(before: generation, &touched) { gone.append($0) }
      for key in gone {
        if let route = rib.removeValue(forKey: key) { withdrawals.removed(key, of: route.vtep) }
      }
      count += gone.count
      touch(vni, touched, at: now)
    }
    if count > 0 {
      notices.append(Notice(.info, "\(count) routes were not told again, and are gone"))
    }
  }
}

// What was withdrawn, and is held while its host is there.

extension Agent {
  /// VTEPs of which the switch is to say whether anything comes from them; none while there is no
  /// switch.
  package func questions(at now: Int64) -> [IPAddress] {
    switchUpdates.isConnected ? withdrawals.questions(at: now) : []
  }

  /// What the switch has said of them.
  package mutating func heard(_ asked: [IPAddress], _ signs: [SignsOfLife], at now: Int64) {
    for vtep in withdrawals.heard(asked, signs, at: now) {
      // IP addresses have gone at once, and are back now.
      for key in withdrawals.heldRoutes(of: vtep) {
        guard case .station(_, _, let ip?) = key, let vni = rib[key]?.vni else { continue }
        untold[vni, default: .init()].addresses.insert(ip)
      }
      notices.append(
        Notice(
          .warning,
          "all routes of \(vtep) were withdrawn, and it is still there: they are held"
            + (tables.hold == 0 ? "" : ", for \(tables.hold) s at most")))
    }
  }

  /// Milliseconds until time is to pass by `tick`, and `questions` are to be asked.
  package func delay(at now: Int64) -> Int64 {
    guard switchUpdates.isConnected else { return Self.tickInterval }
    return min(withdrawals.delay(at: now) ?? Self.tickInterval, Self.tickInterval)
  }

  private static let tickInterval: Int64 = 500

  private mutating func settleWithdrawals(at now: Int64) {
    for (vtep, routes, wasHeld) in withdrawals.due(at: now, hold: tables.hold) {
      for key in routes { forget(key, at: now) }
      if wasHeld {
        notices.append(
          Notice(
            .warning, "\(vtep) is not there any more, or is held no longer: its routes are gone"))
      }
    }
    for vtep in withdrawals.returned {
      notices.append(Notice(.info, "\(vtep) tells its routes again"))
    }
    withdrawals.returned = []
  }
}
