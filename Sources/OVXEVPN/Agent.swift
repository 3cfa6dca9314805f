package import OVXControl
package import OVXDatapath

/// All that EVPN is for one host: what it hears of its switch and of the engine that speaks BGP,
/// and what it tells each.
///
/// It does no I/O and knows no clock: each call says what the time is, in milliseconds since some
/// moment.
package struct Agent {
  /// Networks that are served at most.
  package static let networkLimit = 4096

  /// Who the engine is.
  package struct Identity: Equatable, Sendable {
    package var asn: UInt32
    package var routerID: IPAddress

    package init(asn: UInt32, routerID: IPAddress) {
      self.asn = asn
      self.routerID = routerID
    }
  }

  struct Imported {
    var vni: VNI
    var vtep: IPAddress
  }

  // What the switch has told.
  var tables = SwitchTables()
  /// A snapshot that is not complete.
  var snapshot: SwitchTables?
  var isSwitchKnown = false
  var localVTEP: IPAddress?
  var networkFaults: [String] = []

  var networks: [VNI: ServedNetwork] = [:]
  var vnis: [String: VNI] = [:]
  var numbers = DistinguisherNumbers()

  // What the engine has told.
  var identity: Identity?
  var isEngineConnected = false
  var peers: [EVPNPeer] = []
  /// The network that each imported route is of, and its VTEP.
  var rib: [RouteKey: Imported] = [:]
  /// Those among them that were withdrawn.
  var withdrawals = Withdrawals()
  var faults: [RouteFault: Int] = [:]
  /// Routes that were withdrawn, and of which it is not known yet whether the loss of the last peer
  /// is why; those that the question is on its way for.
  var withdrawn: Set<RouteKey> = []
  var questioned: Set<RouteKey> = []
  var listing: Listing?
  var hasListed = false
  /// The engine's routes are to be listed anew, as routes that were of no use may be so now.
  package internal(set) var wantsList = false
  /// Sequence numbers with which this host told of its stations before the agent was started.
  var adopted: [VNI: [MACAddress: UInt32]] = [:]

  // Holding what is known while nobody tells of it.
  var holding: Holding
  var generation: UInt32 = 1

  // What is to be told.
  var announced: [VNI: AnnouncedRoutes] = [:]
  var unannounced = Pending<LocalSubject>()
  var told: [VNI: ToldEntries] = [:]
  var untold: [VNI: RemoteStations.Touched] = [:]
  var switchUpdates = UpdateClock()
  package var notices: [Notice] = []

  package init(at now: Int64) { holding = Holding(since: now) }

  /// Whether both sides are known, so that it can be said which of them has a station.
  var isReady: Bool { isSwitchKnown && hasListed }

  // MARK: The switch

  /// The switch tells its tables from the beginning on.
  package mutating func switchConnected() {
    snapshot = SwitchTables()
    switchUpdates = UpdateClock()
  }

  package mutating func switchLost() { switchUpdates.isConnected = false }

  package mutating func switchTold(_ event: WatchEvent, at now: Int64) {
    if snapshot != nil {
      switch snapshot?.apply(event) {
      case .complete: adoptSnapshot(at: now)
      case .missed: snapshot = SwitchTables()
      default: break
      }
      return
    }
    switch tables.apply(event) {
    case .nothing, .complete: break
    case .missed: snapshot = SwitchTables()
    case .configuration: configure(at: now)
    case .stations(let places, let isHeard):
      if isHeard, let place = places.first, let vni = vnis[place.network] {
        networks[vni]?.hear(place.mac)
      }
      for place in places { if let vni = vnis[place.network] { decide(vni, place.mac, at: now) } }
    }
  }

  private mutating func adoptSnapshot(at now: Int64) {
    guard let new = snapshot else { return }
    let old = tables
    (tables, snapshot) = (new, nil)
    isSwitchKnown = true
    switchUpdates.isConnected = true
    tellAll()
    configure(at: now)
    for place in new.stationsByPlace.keys where old.stationsByPlace[place] == nil {
      if let vni = vnis[place.network] { networks[vni]?.hear(place.mac) }
    }
    let places = Set(old.stationsByPlace.keys).union(new.stationsByPlace.keys)
    for place in places { if let vni = vnis[place.network] { decide(vni, place.mac, at: now) } }
    prepareIfReady(at: now)
  }

  /// Serves the networks that are to be served now.
  mutating func configure(at now: Int64) {
    let (served, faults) = tables.served()
    for fault in faults where !networkFaults.contains(fault) {
      notices.append(Notice(.warning, fault))
    }
    networkFaults = faults
    let hasMoved = localVTEP != tables.localVTEP
    localVTEP = tables.localVTEP
    for (vni, network) in networks where served[vni] != network.settings { drop(vni) }
    guard let identity else { return }
    for (vni, settings) in served.sorted(by: { $0.key < $1.key }) {
      guard let number = numbers.number(of: vni) else { continue }
      let distinguisher = RouteDistinguisher(
        address: UInt32(truncatingIfNeeded: identity.routerID.low), number: number)
      let target = settings.target ?? RouteTarget(automatic: vni, asn: identity.asn)
      guard let network = networks[vni] else {
        networks[vni] = ServedNetwork(settings, distinguisher: distinguisher, target: target)
        vnis[settings.name] = vni
        wantsList = true
        announceAll(of: vni, at: now)
        continue
      }
      if network.distinguisher != distinguisher || network.target != target {
        networks[vni]?.distinguisher = distinguisher
        networks[vni]?.target = target
        wantsList = true
        announceAll(of: vni, at: now)
      } else if hasMoved {
        announceAll(of: vni, at: now)
      }
    }
  }

  /// A network is EVPN's no more; what the switch was told of it is gone with that.
  private mutating func drop(_ vni: VNI) {
    guard let network = networks.removeValue(forKey: vni) else { return }
    vnis[network.settings.name] = nil
    numbers.release(vni)
    untold[vni] = nil
    told[vni] = nil
    for (key, route) in rib where route.vni == vni {
      rib[key] = nil
      withdrawals.removed(key, of: route.vtep)
    }
    unannounced.insert(.network(vni))
    for mac in announced[vni]?.stations.keys ?? [:].keys { unannounced.insert(.station(vni, mac)) }
  }

  /// Looks at all that is told of a network's local side.
  private mutating func announceAll(of vni: VNI, at now: Int64) {
    guard let name = networks[vni]?.settings.name else { return }
    unannounced.insert(.network(vni))
    for place in tables.stationsByPlace.keys where place.network == name {
      decide(vni, place.mac, at: now)
    }
  }

  // MARK: Where stations are

  /// Decides where a station is, and has both sides told what comes of it.
  mutating func decide(_ vni: VNI, _ mac: MACAddress, at now: Int64) {
    guard let name = networks[vni]?.settings.name else { return }
    if isReady, let localVTEP {
      let local = tables.stationsByPlace[StationPlace(network: name, mac: mac)]
      networks[vni]?.decide(
        mac, local: local, adopted: adopted[vni]?[mac], vtep: localVTEP, at: now, &notices)
      if local != nil || announced[vni]?.stations[mac] != nil {
        unannounced.insert(.station(vni, mac))
      }
    }
    untold[vni, default: .init()].stations.insert(mac)
  }

  /// Decides on all stations of this host once both sides are known.
  mutating func prepareIfReady(at now: Int64) {
    guard isReady else { return }
    for place in tables.stationsByPlace.keys {
      if let vni = vnis[place.network] { decide(vni, place.mac, at: now) }
    }
    adopted = [:]
  }

  /// Lets a frozen station move again.
  package mutating func unfreeze(
    network name: String, _ mac: MACAddress, at now: Int64
  ) throws(ControlError) {
    guard let vni = vnis[name], networks[vni] != nil else {
      throw ControlError(
        "EVPN serves no network \(name); \"ovx-ctl evpn show\" lists those it serves")
    }
    guard let place = networks[vni]?.frozen.removeValue(forKey: mac) else {
      throw ControlError("\(mac) is not frozen in network \(name)")
    }
    networks[vni]?.moves[mac] = nil
    if case .here(let sequence) = place { networks[vni]?.owned[mac] = sequence }
    if case .there = place { networks[vni]?.yielded[mac] = now }
    decide(vni, mac, at: now)
  }
}
