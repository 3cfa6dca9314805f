package import OVXDatapath

/// What EVPN has come to on this host: `ovx-ctl evpn show`.
package struct EVPNState: Codable, Equatable, Sendable {
  /// Whether the engine that speaks BGP, gobgpd, answers.
  package var engine: Bool
  /// The engine's AS and router id; absent until it has answered once.
  package var asn: UInt32?
  package var routerID: IPAddress?
  /// This host's VTEP; absent where the switch has no EVPN.
  package var local: IPAddress?
  package var peers: [EVPNPeer] = []
  /// Seconds for which what is known is held already, as nobody tells of it; absent where somebody
  /// does.
  package var holding: Int?
  /// Seconds after which that ends; 0 for never.
  package var hold = 120
  /// Whether BGP sessions are resumed without a loss of routes: not with gobgpd 3.10, which ends
  /// upon it.
  package var gracefulRestart = false
  package var networks: [Network] = []
  /// Hosts whose routes were all withdrawn, and are held as something comes from them still.
  package var held: [Held] = []
  /// Routes that were of no use, by why.
  package var ignored: [String: Int] = [:]
  /// What is wrong, a sentence each.
  package var errors: [String] = []

  package init(engine: Bool) { self.engine = engine }

  package struct Network: Codable, Equatable, Sendable {
    package var name: String
    package var vni: VNI
    /// The route distinguisher of its routes, ADDRESS:NUMBER.
    package var distinguisher: String
    /// The route target, A:B.
    package var target: String
    /// Other hosts that take its broadcasts.
    package var vteps: Int
    /// Stations that other hosts tell of.
    package var stations: Int
    /// Stations that this host tells of.
    package var localStations: Int
    /// Stations that have moved too often, and stay where they are.
    package var frozen: [MACAddress]
    package var duplicates: [Duplicate]

    package init(
      name: String, vni: VNI, distinguisher: String, target: String, vteps: Int, stations: Int,
      localStations: Int, frozen: [MACAddress], duplicates: [Duplicate]
    ) {
      self.name = name
      self.vni = vni
      self.distinguisher = distinguisher
      self.target = target
      self.vteps = vteps
      self.stations = stations
      self.localStations = localStations
      self.frozen = frozen
      self.duplicates = duplicates
    }
  }

  /// A host whose routes are held.
  package struct Held: Codable, Equatable, Sendable {
    package var vtep: IPAddress
    /// How many they are.
    package var routes: Int
    /// Seconds since they were withdrawn.
    package var seconds: Int

    package init(vtep: IPAddress, routes: Int, seconds: Int) {
      self.vtep = vtep
      self.routes = routes
      self.seconds = seconds
    }
  }

  /// A station that two hosts have, at least one of which is sure of it.
  package struct Duplicate: Codable, Equatable, Sendable {
    package var mac: MACAddress
    /// The other host that tells of it.
    package var vtep: IPAddress

    package init(mac: MACAddress, vtep: IPAddress) {
      self.mac = mac
      self.vtep = vtep
    }
  }
}

/// A BGP peer of the engine, such as a route reflector.
package struct EVPNPeer: Codable, Equatable, Sendable {
  package var address: String
  package var asn: UInt32
  /// In lower case, as BGP has it: idle, connect, active, opensent, openconfirm, established.
  package var state: String
  package var isEstablished: Bool { state == "established" }

  package init(address: String, asn: UInt32, state: String) {
    self.address = address
    self.asn = asn
    self.state = state
  }
}

/// A route: a line of `ovx-ctl evpn routes`.
package struct EVPNRoute: Codable, Equatable, Sendable {
  package var network: String
  /// 2 for a station, 3 for a VTEP that takes broadcasts.
  package var type = 3
  package var distinguisher: String
  package var mac: MACAddress?
  package var ip: IPAddress?
  package var vtep: IPAddress
  /// How often the station has moved.
  package var sequence: UInt32?
  package var isSticky = false
  package var isGateway = false
  /// Whether this host tells it.
  package var isLocal: Bool
  /// Whether it is in force.
  package var isBest: Bool

  package init(
    network: String, distinguisher: String, vtep: IPAddress, isLocal: Bool, isBest: Bool
  ) {
    self.network = network
    self.distinguisher = distinguisher
    self.vtep = vtep
    self.isLocal = isLocal
    self.isBest = isBest
  }

  private enum CodingKeys: String, CodingKey {
    case network, type, distinguisher, mac, ip, vtep, sequence
    case isSticky = "sticky"
    case isGateway = "gateway"
    case isLocal = "local"
    case isBest = "best"
  }
}

/// Another host of a network: a line of `ovx-ctl evpn vteps`.
package struct EVPNVTEP: Codable, Equatable, Sendable {
  package var network: String
  package var vtep: IPAddress
  /// Stations that are behind it.
  package var stations: Int
  /// Whether it takes the network's broadcasts.
  package var takesBroadcasts: Bool

  package init(network: String, vtep: IPAddress, stations: Int, takesBroadcasts: Bool) {
    self.network = network
    self.vtep = vtep
    self.stations = stations
    self.takesBroadcasts = takesBroadcasts
  }

  private enum CodingKeys: String, CodingKey {
    case network, vtep, stations
    case takesBroadcasts = "broadcasts"
  }
}
