internal import OVXControl
internal import OVXDatapath

// What this host tells the others.

/// Something of this host that routes tell of.
enum LocalSubject: Hashable {
  /// That it wants a network's broadcasts.
  case network(VNI)
  case station(VNI, MACAddress)
}

/// What the engine has of this host's routes of a network.
struct AnnouncedRoutes {
  /// One, or more where an agent before this one has left some.
  var networks: [Route] = []
  var stations: [MACAddress: [Route]] = [:]

  var isEmpty: Bool { networks.isEmpty && stations.isEmpty }
}

/// A route that the engine is to tell, or to tell no more.
package struct RouteChange: Equatable, Sendable {
  package var route: Route
  package var isWithdrawal: Bool

  package init(_ route: Route, isWithdrawal: Bool = false) {
    self.route = route
    self.isWithdrawal = isWithdrawal
  }
}

extension Agent {
  /// What the engine is to be told next.
  ///
  /// - Parameter limit: How many subjects are looked at, most of which are one route each.
  /// - Returns: Routes and withdrawals; none where the engine knows all.
  package mutating func takeAnnouncements(limit: Int = 500) -> [RouteChange] {
    guard isEngineConnected, isReady else { return [] }
    var announcements: [RouteChange] = []
    // Of a burst of subjects many are told already.
    while announcements.count < limit, let subject = unannounced.popFirst() {
      let (vni, old): (VNI, [Route])
      switch subject {
      case .network(let number): (vni, old) = (number, announced[number]?.networks ?? [])
      case .station(let number, let mac):
        (vni, old) = (number, announced[number]?.stations[mac] ?? [])
      }
      let new = routes(of: subject)
      guard old != new else { continue }
      // What replaces a route comes before it goes, so that others do not lose the station
      // meanwhile.
      announcements += new.filter { !old.contains($0) }.map { RouteChange($0) }
      let keys = new.map(\.key)
      announcements += old.filter { !keys.contains($0.key) }.map {
        RouteChange($0, isWithdrawal: true)
      }
      switch subject {
      case .network: announced[vni, default: .init()].networks = new
      case .station(_, let mac):
        announced[vni, default: .init()].stations[mac] = new.isEmpty ? nil : new
      }
      if announced[vni]?.isEmpty == true { announced[vni] = nil }
    }
    return announcements
  }

  /// What is to be told of a subject; nothing of one that is not there.
  private func routes(of subject: LocalSubject) -> [Route] {
    guard let localVTEP else { return [] }
    switch subject {
    case .network(let vni):
      guard let network = networks[vni] else { return [] }
      return [
        Route(
          .multicast(network.distinguisher, localVTEP), vtep: localVTEP, vni: vni,
          targets: [network.target])
      ]
    case .station(let vni, let mac):
      guard let network = networks[vni], let sequence = network.sequence(of: mac) else { return [] }
      let place = StationPlace(network: network.settings.name, mac: mac)
      guard let station = tables.stationsByPlace[place] else { return [] }
      // With its addresses, or alone where none is known.
      let addresses: [IPAddress?] = tables.addresses[place]?.sorted() ?? [nil]
      return addresses.map { ip in
        Route(
          .station(network.distinguisher, mac, ip), vtep: localVTEP, vni: vni,
          targets: [network.target],
          mobility: Mobility(sequence: sequence, isSticky: station.kind == .attached),
          isGateway: station.kind == .gateway)
      }
    }
  }
}
