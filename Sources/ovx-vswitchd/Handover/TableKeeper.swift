private import Logging
internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

/// Writes down while the switch runs what stations and neighbors it knows, so that after a crash
/// the next daemon floods nothing that was known.
///
/// The tables are read in small parts, between which frames are forwarded, and written by the
/// control thread: soon after something in them has changed, and else before what is written would
/// count as too old. Of counters nothing is written down: whoever follows them copes with a start
/// from 0, but not with one from a little less than there was.
final class TableKeeper {
  /// Milliseconds between two times at least; what takes long is done less often.
  private static let interval: Int64 = 2000
  /// The control thread's time is somebody else's but for one part in so many.
  private static let share: Int64 = 50
  /// Milliseconds after which ages are written anew, at most.
  private static let renewal: Int64 = 60_000

  private let running: RunningSwitch
  private let file: KeptTables
  private var areTablesNew = true
  /// Whether something is written down that grows older.
  private var isAnythingKept = false
  /// When it was written last, and may be next, in milliseconds on the monotonic clock.
  private var written: Int64 = 0
  private var earliest: Int64 = 0

  init(_ running: RunningSwitch, _ file: KeptTables) {
    self.running = running
    self.file = file
  }

  /// Notes that stations or neighbors have come, moved or gone.
  func noteStations() { areTablesNew = true }

  /// When `work` has something to do, in milliseconds on the monotonic clock.
  var nextWork: Int64? {
    if areTablesNew { return earliest }
    guard isAnythingKept else { return nil }
    let ageingTimes = running.reconciler.configuration.bridges.values.map(\.agingTime)
    // A third of the shortest one, in milliseconds.
    let renewal = min(Self.renewal, Int64(ageingTimes.min() ?? .max) * 1000 / 3)
    return max(earliest, written + renewal)
  }

  /// Writes what there is, if it is time for it; `now` is in milliseconds on the monotonic clock.
  func work(now: Int64) {
    guard let nextWork, now >= nextWork else { return }
    areTablesNew = false
    // First: what changes while the tables are read may be missed.
    _ = running.dataplane.performOnAll { $0.awaitStationNews() }
    let tables = running.handedTables(slotsAtATime: Datapath.slotsAtATime)
    isAnythingKept = !tables.isEmpty
    if isAnythingKept { file.write(tables) } else { file.remove() }
    written = monotonicMilliseconds()
    earliest = written + max(Self.interval, (written - now) * Self.share)
  }
}

extension RunningSwitch {
  /// The messages that tell all tables.
  ///
  /// - Parameter count: Places in a bridge's tables that are read at a time; frames wait that long.
  /// - Returns: The messages, of each bridge what was not seen for the longest time first.
  func handedTables(slotsAtATime count: Int) -> [HandoverMessage] {
    let dataplane = dataplane
    let used = dataplane.performOnAll { $0.usedSlots }
    return reconciler.handedTables { bridge in
      let end = used.compactMap { $0[bridge] }.max() ?? 0
      var addresses: [[KnownAddress]] = []
      var neighbors: [[KnownNeighbor]] = []
      for first in stride(from: 0, to: end, by: count) {
        let slots = first..<min(end, first + count)
        let parts = dataplane.performOnAll { $0.known(of: bridge, in: slots) }
        addresses += parts.map(\.addresses)
        neighbors += parts.map(\.neighbors)
      }
      return (KnownAddress.merged(addresses), KnownNeighbor.merged(neighbors))
    }
  }
}
