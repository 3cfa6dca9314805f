package import OVXControl
package import OVXDatapath

/// What an EVPN route is told apart by (RFC 7432, section 7): route types 2 and 3, which are all
/// that ovx has a use for.
///
/// The Ethernet tag is 0: one network is one broadcast domain (RFC 8365, section 5.1.2).
package enum RouteKey: Hashable, Sendable {
  /// Type 2, MAC/IP advertisement: a station, alone or with one of its addresses.
  case station(RouteDistinguisher, MACAddress, IPAddress?)
  /// Type 3, inclusive multicast: a VTEP that wants a network's broadcasts.
  case multicast(RouteDistinguisher, IPAddress)

  package var distinguisher: RouteDistinguisher {
    switch self {
    case .station(let distinguisher, _, _), .multicast(let distinguisher, _): distinguisher
    }
  }
}

/// How new a place of a station is (RFC 7432, section 7.7).
package struct Mobility: Hashable, Sendable {
  /// Which move it is that has brought the station there.
  package var sequence: UInt32
  /// Whether the station never moves.
  package var isSticky: Bool

  package init(sequence: UInt32 = 0, isSticky: Bool = false) {
    self.sequence = sequence
    self.isSticky = isSticky
  }
}

/// An EVPN route: where something of a network is.
package struct Route: Hashable, Sendable {
  package var key: RouteKey
  /// Where it is: the next hop.
  package var vtep: IPAddress
  /// Of the label, or of the multicast tunnel.
  package var vni: VNI
  /// The networks that it is for.
  package var targets: [RouteTarget]
  package var mobility = Mobility()
  /// Whether the station routes for the others (RFC 7432, section 10.1).
  package var isGateway = false

  package init(
    _ key: RouteKey, vtep: IPAddress, vni: VNI, targets: [RouteTarget],
    mobility: Mobility = Mobility(), isGateway: Bool = false
  ) {
    self.key = key
    self.vtep = vtep
    self.vni = vni
    self.targets = targets
    self.mobility = mobility
    self.isGateway = isGateway
  }
}
