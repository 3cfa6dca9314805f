internal import OVXControl
private import OVXDatapath
private import OVXHost
private import OVXLinux

/// Follows the tables that somebody watches: finds out which rows are to be looked at anew, and has
/// the log tell of those that have changed.
///
/// Nothing of this costs anything while nobody watches. Rows are looked at a few hundred at a time,
/// so that other clients need not wait for a change that concerns all ports.
final class TableWatch {
  /// Ports that are looked at at a time.
  private static let sliceLength = 256
  /// Watches at a time.
  static let limit = 64
  /// Those of them that users who may only look can have: the rest is left to agents.
  static let readerLimit = 32
  /// Milliseconds between two looks at the stations, at least.
  private static let stationInterval: Int64 = 5

  let log = ChangeLog()
  private let running: RunningSwitch
  private let events: EventHistory
  private var watched: Set<WatchedTable> = []
  /// Ports whose rows may not be what the log says.
  private var stalePorts: Set<String> = []
  private var areBridgesStale = false
  /// What requests that wait have not been told yet.
  private var published: (ports: Set<String>, isConfigured: Bool) = ([], false)
  /// The records that a tunnel's remotes have in the log, by its port.
  private var remotes: [String: Set<String>] = [:]
  /// Whether stations may be others than the log says, and when they are looked at next, in
  /// milliseconds on the monotonic clock.
  private var areStationsStale = false
  private var nextStationLook: Int64 = 0
  /// Milliseconds between two samples of the counters.
  private var interval: Int64?
  /// When the rows of `statistics` were sampled, in microseconds on the monotonic clock.
  private var sampled: Int64 = 0

  init(_ running: RunningSwitch, events: EventHistory) {
    self.running = running
    self.events = events
  }

  private var reconciler: Reconciler { running.reconciler }
  private var queries: SwitchQueries { SwitchQueries(running, reconciler.configuration) }

  /// The milliseconds after which `publish` has to be called: -1 for never.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func timeout(now: Int64) -> Int32 {
    if !stalePorts.isEmpty || areBridgesStale { return 0 }
    var next: [Int64] = []
    if areStationsStale { next.append(nextStationLook) }
    if let interval { next.append(nextSample(after: interval)) }
    return next.min().map { Int32(clamping: max(0, $0 - now)) } ?? -1
  }

  /// When counters are due, in milliseconds on the monotonic clock; rounded up, so that two samples
  /// are never closer than whoever watches has asked for.
  private func nextSample(after interval: Int64) -> Int64 { (sampled + 999) / 1000 + interval }

  // MARK: What is watched

  /// Begins to follow tables, before a watch of them takes its snapshot.
  func begin(_ tables: Set<WatchedTable>) {
    takeNews()
    if !tables.isDisjoint(with: Self.stationTables) { watchStations(true) }
    // Counters before the time of their sample.
    for table in WatchedTable.allCases where tables.contains(table) && !watched.contains(table) {
      watched.insert(table)
      log.begin(table, rows: rows(of: table))
    }
    log.replace(.sample, rows(of: .sample))
  }

  /// Follows no tables but these, and samples the counters so often.
  ///
  /// `interval` is in milliseconds; `nil` where nobody watches the counters.
  func keep(_ tables: Set<WatchedTable>, interval: Int64?) {
    self.interval = interval
    guard tables != watched else { return }
    watched = tables
    log.keep(tables)
    if !tables.contains(.tunnel) { remotes = [:] }
    if tables.isDisjoint(with: Self.stationTables) { watchStations(false) }
  }

  private static let stationTables: Set<WatchedTable> = [.station, .neighbor]

  private func watchStations(_ isWatched: Bool) {
    _ = running.dataplane.performOnAll { datapath in datapath.watchesStations = isWatched }
    areStationsStale = areStationsStale && isWatched
  }

  /// Notes that stations or neighbors have come, moved or gone.
  func noteStations() {
    areStationsStale = areStationsStale || !watched.isDisjoint(with: Self.stationTables)
  }

  /// Notes that what is known of networks' gateways is something else.
  func noteGateways() {
    areBridgesStale = true
    // Whoever waits for a network to be right waits for its gateway, too.
    published.isConfigured = true
  }

  /// The ports of which something may have become since this was called last, and whether the
  /// configuration has changed: what rows may be others, whoever watches them.
  func takePublished() -> (ports: Set<String>, isConfigured: Bool) {
    defer { published = ([], false) }
    return published
  }

  private func takeNews() {
    let (ports, isConfigured) = reconciler.takeExamined()
    for number in events.takeNews().sorted() where watched.contains(.event) {
      log.set(.event, "\(number)", events.row(number))
    }
    published.ports.formUnion(ports)
    published.isConfigured = published.isConfigured || isConfigured
    guard !watched.isEmpty else { return }
    stalePorts.formUnion(ports)
    let configuration = reconciler.configuration
    // A network's row says what is wrong with its tunnel.
    let isOfNetwork =
      !configuration.networks.isEmpty && ports.contains { configuration.ports[$0]?.network != nil }
    areBridgesStale = areBridgesStale || isConfigured || isOfNetwork
    // What was attached is there without having been heard.
    if !watched.isDisjoint(with: Self.stationTables), isConfigured || !ports.isEmpty {
      areStationsStale = true
    }
  }

  // MARK: What has changed

  /// Tells the log what has become of the rows that may have changed; of many, a part.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func publish(now: Int64) {
    takeNews()
    guard !watched.isEmpty else {
      (stalePorts, areBridgesStale) = ([], false)
      return
    }
    let live = self.live
    for name in stalePorts.prefix(Self.sliceLength) {
      stalePorts.remove(name)
      for table in [WatchedTable.port, .interface] where watched.contains(table) {
        log.set(table, name, reconciler.configuration.row(name, in: table, live))
      }
      if watched.contains(.tunnel) { publishRemotes(of: name) }
    }
    if areBridgesStale {
      areBridgesStale = false
      for table in [WatchedTable.bridge, .network, .host] where watched.contains(table) {
        log.replace(table, rows(of: table))
      }
    }
    if areStationsStale, now >= nextStationLook {
      areStationsStale = false
      let rows = self.queries.stations()
      for table in Self.stationTables where watched.contains(table) {
        log.replace(table, rows[table] ?? [:])
      }
      // What takes long is not done all the time.
      let end = monotonicMilliseconds()
      nextStationLook = end + max(Self.stationInterval, 10 * (end - now))
    }
    if let interval, now >= nextSample(after: interval) {
      log.replace(.statistics, rows(of: .statistics))
      log.replace(.sample, rows(of: .sample))
    }
  }

  private func publishRemotes(of port: String) {
    let new = queries.remotes(of: port)
    for record in remotes[port] ?? [] where new[record] == nil { log.set(.tunnel, record, nil) }
    for (record, row) in new { log.set(.tunnel, record, row) }
    remotes[port] = new.isEmpty ? nil : Set(new.keys)
  }

  // MARK: Rows

  private func rows(of table: WatchedTable) -> [String: ChangeLog.Row] {
    let configuration = reconciler.configuration
    switch table {
    case .host, .bridge, .network, .port, .interface:
      let live = self.live
      var rows: [String: ChangeLog.Row] = [:]
      for name in configuration.records(in: table) {
        rows[name] = configuration.row(name, in: table, live)
      }
      return rows
    case .tunnel:
      remotes = [:]
      var rows: [String: ChangeLog.Row] = [:]
      for port in reconciler.desired.tunnels.keys {
        let new = queries.remotes(of: port)
        remotes[port] = Set(new.keys)
        rows.merge(new) { $1 }
      }
      return rows
    case .station, .neighbor: return queries.stations()[table] ?? [:]
    case .event:
      return Dictionary(uniqueKeysWithValues: events.events.map { ("\($0.number)", $0.row) })
    case .statistics:
      let statistics = queries.statistics(of: nil)
      sampled = monotonicMicroseconds()
      return Dictionary(uniqueKeysWithValues: statistics.map { ($0.port, $0.row) })
    case .sample: return [".": CounterSamples.row(time: sampled)]
    }
  }

  /// What the rows of interfaces say of the host, without counters.
  private var live: LiveState {
    let queries = self.queries
    return LiveState(
      deviceExists: { self.running.kernel.links[$0] != nil },
      interface: { queries.interface($0, countsFrames: false) },
      toldRemotes: { queries.toldRemotes(of: $0) },
      gateway: { queries.gateway(of: $0) })
  }
}

extension SwitchQueries {
  /// The remotes of a tunnel's port as rows by name; none for another port.
  fileprivate func remotes(of port: String) -> [String: ChangeLog.Row] {
    guard let tunnel = reconciler.desired.tunnels[port] else { return [:] }
    var rows: [String: ChangeLog.Row] = [:]
    for remote in tunnel.remotes {
      let state = describe(remote, of: tunnel)
      rows["\(port)/\(remote.address)"] = [
        "port": .scalar(.text(port)),
        "bridge": .scalar(.text(tunnel.bridge)),
        "vni": .scalar(Atom(tunnel.vni)),
        "remote": .scalar(.text(remote.address.description)),
        "mtu": .scalar(state.mtu.map(Atom.integer)),
        "device": .scalar(state.device.map(Atom.text)),
        "error": .scalar(state.error.map(Atom.text)),
      ]
    }
    return rows
  }
}
