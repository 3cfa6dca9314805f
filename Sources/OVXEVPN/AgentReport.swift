package import OVXControl
internal import OVXDatapath

// What the agent answers to `ovx-ctl evpn`.

extension Agent {
  /// The most routes that are shown at once; a reply has 64 MiB at most.
  private static let shownLimit = 200_000

  package func state(at now: Int64) -> EVPNState {
    var state = EVPNState(engine: isEngineConnected)
    state.asn = identity?.asn
    state.routerID = identity?.routerID
    state.local = localVTEP
    state.peers = peers.sorted { $0.address < $1.address }
    state.holding = holding.age(at: now).map { Int($0 / 1000) }
    state.hold = tables.hold
    state.held = withdrawals.held.map {
      EVPNState.Held(vtep: $0.vtep, routes: $0.routes, seconds: Int((now - $0.since) / 1000))
    }
    state.ignored = Dictionary(
      uniqueKeysWithValues: faults.map { ($0.key.rawValue, $0.value) })
    state.errors = networkFaults
    if isSwitchKnown, localVTEP == nil {
      state.errors.append(
        "the switch has no EVPN: \"ovx-ctl set switch . control_plane=evpn local_ip=ADDRESS\"")
    }
    state.networks = networks.sorted { $0.key < $1.key }.map { vni, network in
      EVPNState.Network(
        name: network.settings.name, vni: vni, distinguisher: "\(network.distinguisher)",
        target: "\(network.target)", vteps: network.remote.vteps.count,
        stations: network.remote.routes.count, localStations: network.owned.count,
        frozen: network.frozen.keys.sorted(),
        duplicates: network.duplicates.sorted { $0.key < $1.key }.map {
          EVPNState.Duplicate(mac: $0.key, vtep: $0.value)
        })
    }
    return state
  }

  /// The routes of a network, or of all: this host's, and those of others.
  package func routes(network name: String?) throws(ControlError) -> [EVPNRoute] {
    var routes: [EVPNRoute] = []
    for vni in try selected(name) {
      guard let network = networks[vni] else { continue }
      func add(
        _ key: RouteKey, _ vtep: IPAddress, _ mobility: Mobility?, isGateway: Bool, isLocal: Bool,
        isBest: Bool
      ) {
        guard routes.count < Self.shownLimit else { return }
        var route = EVPNRoute(
          network: network.settings.name, distinguisher: "\(key.distinguisher)", vtep: vtep,
          isLocal: isLocal, isBest: isBest)
        switch key {
        case .multicast: route.type = 3
        case .station(_, let mac, let ip): (route.type, route.mac, route.ip) = (2, mac, ip)
        }
        route.sequence = mobility?.sequence
        route.isSticky = mobility?.isSticky ?? false
        route.isGateway = isGateway
        routes.append(route)
      }
      for route in announced[vni]?.networks ?? [] {
        add(route.key, route.vtep, nil, isGateway: false, isLocal: true, isBest: true)
      }
      for (vtep, keys) in network.remote.vteps.sorted(by: { $0.key < $1.key }) {
        for key in keys.keys {
          add(key, vtep, nil, isGateway: false, isLocal: false, isBest: true)
        }
      }
      let local = announced[vni]?.stations ?? [:]
      for mac in Set(local.keys).union(network.remote.routes.keys).sorted() {
        for route in local[mac] ?? [] {
          add(
            route.key, route.vtep, route.mobility, isGateway: route.isGateway, isLocal: true,
            isBest: true)
        }
        let place = network.place(of: mac)?.vtep
        for route in network.remote.routes[mac] ?? [] {
          add(
            .station(route.distinguisher, mac, route.ip), route.vtep, route.mobility,
            isGateway: route.isGateway, isLocal: false, isBest: route.vtep == place)
        }
      }
    }
    return routes
  }

  /// The VTEPs of a network, or of all.
  package func vteps(network name: String?) throws(ControlError) -> [EVPNVTEP] {
    var vteps: [EVPNVTEP] = []
    for vni in try selected(name) {
      guard let network = networks[vni] else { continue }
      var counts: [IPAddress: Int] = [:]
      for mac in network.remote.routes.keys {
        if let place = network.place(of: mac) { counts[place.vtep, default: 0] += 1 }
      }
      for vtep in Set(counts.keys).union(network.remote.vteps.keys).sorted() {
        vteps.append(
          EVPNVTEP(
            network: network.settings.name, vtep: vtep, stations: counts[vtep] ?? 0,
            takesBroadcasts: network.remote.vteps[vtep] != nil))
      }
    }
    return vteps
  }

  private func selected(_ name: String?) throws(ControlError) -> [VNI] {
    guard let name else { return networks.keys.sorted() }
    guard let vni = vnis[name] else {
      throw ControlError(
        "EVPN serves no network \(name); \"ovx-ctl evpn show\" lists those it serves")
    }
    return [vni]
  }
}
