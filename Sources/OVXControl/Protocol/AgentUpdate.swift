package import OVXDatapath

/// What an agent, such as the one for EVPN, tells the switch of other hosts: entries of networks
/// beside those that are configured and learned.
///
/// They are never stored. They are the agent's for as long as it tells something every now and
/// then: `hold` seconds after its last update they go. An agent that has begun anew, or has lost
/// track, tells all of it between a `begin` and an `end`; only what it has not told again by then
/// goes, so that no frame is lost meanwhile.
///
/// Of one network and VLAN an address is what an operator has said, else what the agent says, else
/// what was learned. A station that is heard at a device of this host is taken to be here from then
/// on, whatever the agent has said, until it says so again; only a sticky entry holds against that.
package struct AgentUpdate: Codable, Equatable, Sendable {
  /// The part of a whole picture that an update is.
  package enum Phase: String, Codable, Sendable {
    /// What is told from here on replaces all that was told before.
    case begin
    /// Changes.
    case change
    /// All is told: what was not told again since `begin` goes.
    case end
  }

  package var phase: Phase
  /// Seconds for which entries stay after the last update, in `holdRange`; 0 for ever.
  package var hold: Int
  /// What has changed, by the networks' names; of networks that are not the agent's nothing is
  /// taken.
  package var networks: [String: Entries]

  package static let holdRange = 0...86400
  /// Entries in one update at most, of all kinds.
  package static let limit = 4096

  package init(_ phase: Phase = .change, hold: Int = 120, networks: [String: Entries] = [:]) {
    self.phase = phase
    self.hold = hold
    self.networks = networks
  }

  /// What is told of one network.
  ///
  /// An entry is named once at most in one update.
  package struct Entries: Codable, Equatable, Sendable {
    /// Remote VTEPs that have the network, to which broadcasts and multicasts go.
    package var vteps: [IPAddress]
    package var lostVTEPs: [IPAddress]
    package var stations: [Station]
    package var lostStations: [MACAddress]
    package var neighbors: [Neighbor]
    package var lostNeighbors: [IPAddress]

    package init(
      vteps: [IPAddress] = [], lostVTEPs: [IPAddress] = [], stations: [Station] = [],
      lostStations: [MACAddress] = [], neighbors: [Neighbor] = [],
      lostNeighbors: [IPAddress] = []
    ) {
      self.vteps = vteps
      self.lostVTEPs = lostVTEPs
      self.stations = stations
      self.lostStations = lostStations
      self.neighbors = neighbors
      self.lostNeighbors = lostNeighbors
    }

    /// How many entries there are, of all kinds.
    package var count: Int {
      vteps.count + lostVTEPs.count + stations.count + lostStations.count + neighbors.count
        + lostNeighbors.count
    }
  }

  /// A station of another host.
  package struct Station: Codable, Equatable, Sendable {
    package var mac: MACAddress
    /// Where it is.
    package var vtep: IPAddress
    /// Whether it stays there even where it is heard at a device of this host.
    package var isSticky: Bool

    package init(mac: MACAddress, vtep: IPAddress, isSticky: Bool = false) {
      self.mac = mac
      self.vtep = vtep
      self.isSticky = isSticky
    }
  }

  /// The IP address of a station of another host, for which ARP requests and neighbor solicitations
  /// are answered.
  ///
  /// It counts for as long as the station is told, too.
  package struct Neighbor: Codable, Equatable, Sendable {
    package var ip: IPAddress
    package var mac: MACAddress
    package var isRouter: Bool

    package init(ip: IPAddress, mac: MACAddress, isRouter: Bool = false) {
      self.ip = ip
      self.mac = mac
      self.isRouter = isRouter
    }
  }
}

extension AgentUpdate {
  /// Checks what an agent says, which may be wrong as anything else may be.
  package func validate() throws(ControlError) {
    guard Self.holdRange.contains(hold) else {
      throw ControlError(
        "an agent's entries are held for 0 to \(Self.holdRange.upperBound) seconds, not \(hold)")
    }
    let count = networks.values.reduce(0) { $0 + $1.count }
    guard count <= Self.limit else {
      throw ControlError("an update has at most \(Self.limit) entries, not \(count)")
    }
    for (network, entries) in networks.sorted(by: { $0.key < $1.key }) {
      try entries.validate(network)
    }
  }
}

extension AgentUpdate.Entries {
  fileprivate func validate(_ network: String) throws(ControlError) {
    let hosts = vteps + stations.map(\.vtep)
    if let vtep = hosts.first(where: { !$0.isUnicast }) {
      throw ControlError("network \(printable(network)): \(vtep) is no host's address")
    }
    let addresses = stations.map(\.mac) + neighbors.map(\.mac)
    if let mac = addresses.first(where: { $0.isGroup || $0.rawValue == 0 }) {
      throw ControlError("network \(printable(network)): \(mac) is no station's address")
    }
    if let ip = neighbors.map(\.ip).first(where: { $0.isUnspecified || $0.isMulticast }) {
      throw ControlError("network \(printable(network)): \(ip) is no station's address")
    }
  }
}
