import OVXControl
import OVXDatapath

@testable import OVXEVPN

/// An agent between a switch and an engine that are only told of, with a clock that is set.
struct Bench {
  static let local = "10.0.0.1"
  static let vni: UInt32 = 100

  var agent = Agent(at: 0)
  var now: Int64 = 0
  /// What the engine was told: routes by their keys.
  var announced: [RouteKey: Route] = [:]
  /// What the switch was told, by network.
  var vteps: [String: Set<IPAddress>] = [:]
  var stations: [String: [MACAddress: AgentUpdate.Station]] = [:]
  var neighbors: [String: [IPAddress: AgentUpdate.Neighbor]] = [:]
  var phases: [AgentUpdate.Phase] = []
  var updates: [AgentUpdate] = []
  /// VTEPs from which frames come all the time, and those that only answer echo requests.
  var sending: Set<String> = []
  var answering: Set<String> = []
  private var signs: [IPAddress: SignsOfLife] = [:]

  /// - Parameters:
  ///   - hold: Seconds; 0 for ever.
  ///   - isUp: Whether both sides are there, and a peer is, and all that was held is past.
  init(hold: Int? = nil, isUp: Bool = true) {
    connectSwitch(hold: hold)
    guard isUp else { return }
    connectEngine()
    settle()
    notices = []
  }

  var notices: [Notice] {
    get { agent.notices }
    set { agent.notices = newValue }
  }

  mutating func connectSwitch(
    hold: Int? = nil, networks: [String: UInt32] = ["red": vni], stations: [WatchEvent] = []
  ) {
    agent.switchConnected()
    var config: [String: Atom] = [:]
    if let hold { config["evpn-hold"] = .text(hold == 0 ? "inf" : "\(hold)") }
    var events = [
      WatchEvent(
        .initial, table: .host, record: ".",
        new: [
          "control_plane": .scalar(.text("evpn")), "local_ip": .scalar(.text(Self.local)),
          "other_config": .map(config),
        ])
    ]
    events += networks.map { Self.network($0.key, $0.value, .initial) }
    events += stations
    for event in events + [WatchEvent(.snapshotEnd)] { agent.switchTold(event, at: now) }
    flush()
  }

  mutating func connectEngine(_ paths: [ReceivedPath] = [], peer: Bool = true) {
    agent.engineConnected(
      Agent.Identity(asn: 65000, routerID: ip("10.0.0.1")), at: now)
    agent.listBegan()
    agent.listed(paths, at: now)
    agent.listEnded(at: now)
    if peer { peers(established: 1) }
    flush()
  }

  mutating func peers(established: Int, of count: Int = 2) {
    agent.peersRequested()
    agent.peersTold(
      (0..<count).map {
        EVPNPeer(
          address: "10.0.0.\(200 + $0)", asn: 65000,
          state: $0 < established ? "established" : "active")
      }, at: now)
    flush()
  }

  mutating func settle() { advance(20) }

  /// Lets seconds pass.
  mutating func advance(_ seconds: Int) {
    pass(milliseconds: seconds * 1000)
  }

  mutating func pass(milliseconds: Int) {
    for _ in 0..<milliseconds / 100 {
      now += 100
      agent.tick(at: now)
      flush()
    }
  }

  /// Has the switch answer which VTEPs are there.
  private mutating func answer() {
    let asked = agent.questions(at: now)
    guard !asked.isEmpty else { return }
    var answers: [SignsOfLife] = []
    for vtep in asked {
      var answer = signs[vtep] ?? SignsOfLife(vtep: vtep, frames: 77)
      answer.frames += sending.contains("\(vtep)") ? 1 : 0
      answer.echoes += answering.contains("\(vtep)") ? 1 : 0
      signs[vtep] = answer
      answers.append(answer)
    }
    agent.heard(asked, answers, at: now)
  }

  /// Carries out what both sides are told.
  mutating func flush() {
    answer()
    while true {
      let announcements = agent.takeAnnouncements()
      if announcements.isEmpty { break }
      for announcement in announcements {
        announced[announcement.route.key] = announcement.isWithdrawal ? nil : announcement.route
      }
    }
    while let update = agent.takeUpdate(at: now) {
      updates.append(update)
      phases.append(update.phase)
      for (network, entries) in update.networks {
        vteps[network, default: []].formUnion(entries.vteps)
        vteps[network, default: []].subtract(entries.lostVTEPs)
        for station in entries.stations { stations[network, default: [:]][station.mac] = station }
        for mac in entries.lostStations { stations[network, default: [:]][mac] = nil }
        for neighbor in entries.neighbors {
          neighbors[network, default: [:]][neighbor.ip] = neighbor
        }
        for ip in entries.lostNeighbors { neighbors[network, default: [:]][ip] = nil }
      }
    }
  }

  // MARK: The switch

  static func network(
    _ name: String, _ vni: UInt32, _ action: WatchEvent.Action, config: [String: String] = [:],
    remotes: [String] = []
  ) -> WatchEvent {
    WatchEvent(
      action, table: .network, record: name,
      new: [
        "vni": .scalar(.integer(Int(vni))), "remotes": .set(remotes.map { .text($0) }),
        "other_config": .map(config.mapValues { .text($0) }),
      ])
  }

  static func station(
    _ mac: String, _ kind: String = "learned", _ action: WatchEvent.Action = .insert,
    network: String? = "red"
  ) -> WatchEvent {
    let columns: [String: Datum] = [
      "bridge": .scalar(.text("br0")), "vlan": .scalar(.integer(7)), "mac": .scalar(.text(mac)),
      "port": .scalar(.text("p1")), "network": network.map { .scalar(.text($0)) } ?? .set([]),
      "kind": .scalar(.text(kind)),
    ]
    return WatchEvent(
      action, table: .station, record: "br0/7/\(mac)", new: action == .delete ? nil : columns,
      old: action == .delete ? columns : nil)
  }

  mutating func tell(_ event: WatchEvent) {
    agent.switchTold(event, at: now)
    flush()
  }

  mutating func hear(_ mac: String, _ kind: String = "learned") { tell(Self.station(mac, kind)) }
  mutating func lose(_ mac: String) { tell(Self.station(mac, "learned", .delete)) }

  mutating func neighbor(_ address: String, _ mac: String, _ action: WatchEvent.Action = .insert) {
    let columns: [String: Datum] = [
      "ip": .scalar(.text(address)), "mac": .scalar(.text(mac)), "network": .scalar(.text("red")),
      "router": .scalar(.boolean(false)),
    ]
    tell(
      WatchEvent(
        action, table: .neighbor, record: "br0/7/\(address)",
        new: action == .delete ? nil : columns, old: action == .delete ? columns : nil))
  }

  // MARK: The engine

  static func path(
    _ mac: String, ip: String = "", from vtep: String = "10.0.0.2", sequence: UInt32? = nil,
    sticky: Bool = false, vni: UInt32 = vni, targets: [ReceivedPath.Community]? = nil,
    withdrawn: Bool = false, gateway: Bool = false
  ) -> ReceivedPath {
    var communities = targets ?? [.twoOctet(subType: 2, 65000, vni)]
    communities.append(.encapsulation(8))
    if sequence != nil || sticky {
      communities.append(.mobility(sequence: sequence ?? 0, isSticky: sticky))
    }
    if gateway { communities.append(.defaultGateway) }
    return ReceivedPath(
      .station(.address(vtep, vni & 0xFFFF), tag: 0, mac: mac, ip: ip, labels: [vni]),
      nextHop: withdrawn ? "" : vtep, communities: withdrawn ? [] : communities,
      isWithdrawal: withdrawn)
  }

  static func multicast(
    from vtep: String = "10.0.0.2", vni: UInt32 = vni, withdrawn: Bool = false
  ) -> ReceivedPath {
    ReceivedPath(
      .multicast(.address(vtep, vni & 0xFFFF), tag: 0, originator: vtep), nextHop: vtep,
      communities: [.twoOctet(subType: 2, 65000, vni), .encapsulation(8)],
      tunnel: .init(type: 6, label: vni), isWithdrawal: withdrawn)
  }

  mutating func receive(_ paths: ReceivedPath..., established: Int = 1) {
    agent.received(paths, at: now)
    if agent.wantsPeers { peers(established: established) }
    flush()
  }

  /// The routes that this host tells of a station.
  func routes(of mac: String) -> [Route] {
    announced.values.filter {
      if case .station(_, let found, _) = $0.key { "\(found)" == mac } else { false }
    }
  }

  func station(_ mac: String) -> AgentUpdate.Station? {
    stations["red"]?[MACAddress(mac) ?? .broadcast]
  }
}

func ip(_ text: String) -> IPAddress { IPAddress(text) ?? IPAddress(v4: 0) }
