internal import OVXDatapath

// Counters as a watch tells them: the rows of tables Statistics and Sample, for the daemon that
// writes them and for clients that read them.

/// The counters of all ports at one moment.
package struct CounterSample: Equatable, Sendable {
  /// When they were read, by the daemon's monotonic clock.
  package var time: Duration
  package var ports: [PortStatistics]

  package init(time: Duration, ports: [PortStatistics]) {
    self.time = time
    self.ports = ports
  }
}

/// Puts samples together from what a watch of Statistics and Sample tells.
///
/// The daemon tells of the counters that have changed first, and then of the time at which it has
/// read all of them: with that the sample is complete. So is the snapshot at its end.
package struct CounterSamples {
  /// What a client watches for them.
  package static let tables: [WatchedTable] = [.statistics, .sample]

  private var rows: [String: [String: Datum]] = [:]
  private var time: Duration?
  private var isSnapshot = true

  package init() {}

  /// The row of Sample: when the counters were read, in microseconds.
  package static func row(time: Int64) -> [String: Datum] {
    ["time": .scalar(.integer(Int(time)))]
  }

  /// Takes what the watch tells.
  ///
  /// - Returns: A sample, where that has completed one.
  package mutating func take(_ event: WatchEvent) -> CounterSample? {
    switch (event.action, event.table) {
    case (.missed, _): self = CounterSamples()
    case (.snapshotEnd, _):
      isSnapshot = false
      return sample
    case (.delete, .statistics?): event.record.map { rows[$0] = nil }
    case (_, .statistics?):
      event.record.map { rows[$0, default: [:]].merge(event.new ?? [:]) { $1 } }
    case (_, .sample?):
      guard case .scalar(.integer(let microseconds)?)? = event.new?["time"] else { break }
      time = .microseconds(microseconds)
      if !isSnapshot { return sample }
    default: break
    }
    return nil
  }

  private var sample: CounterSample? {
    time.map { time in
      CounterSample(time: time, ports: rows.map { PortStatistics(port: $0.key, row: $0.value) })
    }
  }
}

extension PortStatistics {
  /// The counters as columns.
  package var row: [String: Datum] {
    var row = Self.counters.mapValues { Datum.scalar(.integer(Int(clamping: self[keyPath: $0]))) }
    row["bridge"] = .scalar(.text(bridge))
    row["drops"] = .map(drops.mapValues { .integer(Int(clamping: $0)) })
    return row
  }

  /// Counters from their columns; 0 where one is missing.
  fileprivate init(port: String, row: [String: Datum]) {
    self.init(bridge: row["bridge"]?.bare ?? "", port: port, PortCounters())
    for (name, counter) in Self.counters {
      guard case .scalar(.integer(let count)?)? = row[name] else { continue }
      self[keyPath: counter] = UInt64(clamping: count)
    }
    guard case .map(let drops)? = row["drops"] else { return }
    for (reason, count) in drops {
      guard case .integer(let count) = count else { continue }
      self.drops[reason] = UInt64(clamping: count)
    }
  }

  private static let counters: [String: any WritableKeyPath<PortStatistics, UInt64> & Sendable] = [
    "receivedFrames": \.receivedFrames, "receivedBytes": \.receivedBytes,
    "sentFrames": \.sentFrames, "sentBytes": \.sentBytes,
    "answeredFrames": \.answeredFrames, "reportedFrames": \.reportedFrames,
    "unheardFrames": \.unheardFrames,
  ]
}
