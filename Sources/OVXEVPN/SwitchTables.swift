internal import OVXControl
internal import OVXDatapath

/// A station behind a device of this host: a row of table FDB.
struct LocalStation: Equatable {
  var network: String?
  var mac: MACAddress?
  var port = ""
  var kind = StationKind.learned

  /// Whether it is what somebody has said, rather than what was heard.
  var isAssigned: Bool { kind != .learned }

  mutating func update(_ columns: [String: Datum]) {
    if let value = columns["network"] { network = value.text }
    if let value = columns["mac"] { mac = value.text.flatMap(MACAddress.init) }
    if let value = columns["port"] { port = value.text ?? "" }
    if let value = columns["kind"] { kind = value.text.flatMap(StationKind.init) ?? .learned }
  }
}

/// The IP address of such a station: a row of table Neighbor.
struct LocalNeighbor: Equatable {
  var network: String?
  var ip: IPAddress?
  var mac: MACAddress?
  var isRouter = false

  mutating func update(_ columns: [String: Datum]) {
    if let value = columns["network"] { network = value.text }
    if let value = columns["ip"] { ip = value.text.flatMap(IPAddress.init) }
    if let value = columns["mac"] { mac = value.text.flatMap(MACAddress.init) }
    if let value = columns["router"] { isRouter = value.atoms.first == .boolean(true) }
  }
}

/// A station of a network.
struct StationPlace: Hashable {
  var network: String
  var mac: MACAddress
}

/// What the switch has told of itself, for as far as it matters for EVPN.
struct SwitchTables {
  /// What an event may have changed.
  enum Change {
    case nothing
    /// What networks there are, or what the switch is set to.
    case configuration
    /// Stations or their addresses; `heard` where the first of them has come, or come anew, at a
    /// device.
    case stations([StationPlace], heard: Bool)
    /// The snapshot is complete.
    case complete
    /// All is void, and comes again.
    case missed
  }

  private(set) var host: [String: Datum] = [:]
  private(set) var networks: [String: [String: Datum]] = [:]
  private var stations: [String: LocalStation] = [:]
  private var neighbors: [String: LocalNeighbor] = [:]
  private(set) var stationsByPlace: [StationPlace: LocalStation] = [:]
  private(set) var addresses: [StationPlace: Set<IPAddress>] = [:]

  mutating func apply(_ event: WatchEvent) -> Change {
    switch event.action {
    case .snapshotEnd: return .complete
    case .missed: return .missed
    case .initial, .insert, .modify, .delete: break
    }
    guard let table = event.table, let record = event.record else { return .nothing }
    let isGone = event.action == .delete
    let columns = event.new ?? [:]
    switch table {
    case .host:
      host.merge(columns) { $1 }
      return .configuration
    case .network:
      if isGone {
        networks[record] = nil
      } else {
        networks[record, default: [:]].merge(columns) { $1 }
      }
      return .configuration
    case .station: return applyStation(record, columns, isGone: isGone)
    case .neighbor: return applyNeighbor(record, columns, isGone: isGone)
    default: return .nothing
    }
  }

  private mutating func applyStation(
    _ record: String, _ columns: [String: Datum], isGone: Bool
  ) -> Change {
    let old = stations[record]
    var new = old ?? LocalStation()
    new.update(columns)
    stations[record] = isGone ? nil : new
    var places: [StationPlace] = []
    if !isGone, let place = new.place {
      stationsByPlace[place] = new
      places.append(place)
    }
    if let place = old?.place, isGone || place != new.place {
      stationsByPlace[place] = nil
      places.append(place)
    }
    return .stations(places, heard: !isGone && new.place != nil)
  }

  private mutating func applyNeighbor(
    _ record: String, _ columns: [String: Datum], isGone: Bool
  ) -> Change {
    let old = neighbors[record]
    var new = old ?? LocalNeighbor()
    new.update(columns)
    neighbors[record] = isGone ? nil : new
    var places: [StationPlace] = []
    if let place = old?.place, let ip = old?.ip {
      addresses[place]?.remove(ip)
      if addresses[place]?.isEmpty == true { addresses[place] = nil }
      places.append(place)
    }
    if !isGone, let place = new.place, let ip = new.ip {
      addresses[place, default: []].insert(ip)
      if places != [place] { places.append(place) }
    }
    return .stations(places, heard: false)
  }
}

extension LocalStation {
  fileprivate var place: StationPlace? {
    guard let network, let mac, !mac.isGroup, mac.rawValue != 0 else { return nil }
    return StationPlace(network: network, mac: mac)
  }
}

extension LocalNeighbor {
  fileprivate var place: StationPlace? {
    guard let network, let mac, let ip, !ip.isUnspecified, !ip.isMulticast else { return nil }
    return StationPlace(network: network, mac: mac)
  }
}

extension Datum {
  /// The text of a column that has one; `nil` for an absent one, and for an empty text.
  var text: String? {
    atoms.first.map(\.bare).flatMap { $0.isEmpty ? nil : $0 }
  }

  /// The entries of a map.
  var entries: [String: String] {
    if case .map(let entries) = self { entries.mapValues(\.bare) } else { [:] }
  }
}
