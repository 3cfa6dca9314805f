internal import OVXControl

/// What ports carried between two samples of their counters, per second: the lines of `top`.
struct Rates {
  struct Line: Codable, Equatable {
    var bridge: String
    var port: String
    var receivedFramesPerSecond: Int
    var receivedBitsPerSecond: Int
    var sentFramesPerSecond: Int
    var sentBitsPerSecond: Int
    var dropsPerSecond: Int

    /// What the port carried both ways, by which `top` sorts.
    var bitsPerSecond: Int { receivedBitsPerSecond &+ sentBitsPerSecond }
  }

  /// The busiest port first.
  let lines: [Line]

  /// Compares counters.
  ///
  /// A port whose counters went back has been made anew, or the daemon has, and one that was not
  /// there before has none to compare with: such a port has carried nothing yet.
  ///
  /// - Parameters:
  ///   - old: The counters before.
  ///   - new: The counters at a later time.
  init(from old: CounterSample, to new: CounterSample) {
    let seconds = (new.time - old.time) / .seconds(1)
    let before = Dictionary(
      old.ports.map { ($0.port, $0) }, uniquingKeysWith: { first, _ in first })
    lines = new.ports.map { now in
      let then = before[now.port].flatMap { $0.isBefore(now) ? $0 : nil } ?? now
      func rate(_ count: (PortStatistics) -> UInt64, times factor: Double = 1) -> Int {
        let difference = Double(count(now) &- count(then))
        return Int(exactly: (difference * factor / seconds).rounded()) ?? .max
      }
      return Line(
        bridge: now.bridge, port: now.port,
        receivedFramesPerSecond: rate(\.receivedFrames),
        receivedBitsPerSecond: rate(\.receivedBytes, times: 8),
        sentFramesPerSecond: rate(\.sentFrames), sentBitsPerSecond: rate(\.sentBytes, times: 8),
        dropsPerSecond: rate(\.droppedFrames))
    }
    .sorted {
      ($1.bitsPerSecond, $0.bridge, $0.port) < ($0.bitsPerSecond, $1.bridge, $1.port)
    }
  }

  /// The lines as a table, at most as many as a terminal has room for.
  func table(limit: Int = .max) -> TextTable {
    TextTable(
      ["Bridge", "Port", "RX-frames/s", "RX-bits/s", "TX-frames/s", "TX-bits/s", "Drops/s"],
      lines.prefix(limit).map { line in
        [
          .scalar(.text(line.bridge)), .scalar(.text(line.port)),
          .scalar(.integer(line.receivedFramesPerSecond)),
          .scalar(.integer(line.receivedBitsPerSecond)),
          .scalar(.integer(line.sentFramesPerSecond)), .scalar(.integer(line.sentBitsPerSecond)),
          .scalar(.integer(line.dropsPerSecond)),
        ]
      })
  }
}

extension PortStatistics {
  /// Whether the counters can have become those of the other.
  fileprivate func isBefore(_ other: PortStatistics) -> Bool {
    bridge == other.bridge && receivedFrames <= other.receivedFrames
      && receivedBytes <= other.receivedBytes && sentFrames <= other.sentFrames
      && sentBytes <= other.sentBytes && droppedFrames <= other.droppedFrames
  }
}
