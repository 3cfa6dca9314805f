internal import Logging
internal import OVXControl
private import OVXLinux
internal import OVXStorage

/// What has happened to the switch, kept across restarts: who has changed what, and what has become
/// of ports.
///
/// Bounded in number: of changes that somebody made, of what was refused, and of all else, each
/// apart, so that whoever makes a link come and go takes nobody's trace away. What is repeated
/// within a minute is counted instead. The database gets what is new some seconds later and all at
/// once, so that no change waits for it and a disk is not worn by what flaps.
final class EventHistory {
  private enum Sort: CaseIterable { case change, refusal, happening }

  /// Events of each sort that are kept.
  static let limit = 1024
  /// Milliseconds within which the same is one event.
  private static let repetition: Int64 = 60_000
  /// Latest events of a sort that are looked at for the same.
  private static let lookback = 64
  /// Milliseconds between two transactions of the database, and before the first after a while.
  private static let interval: Int64 = 10_000
  private static let delay: Int64 = 1000

  private let database: Database
  private let logger: Logger
  /// Of each sort, oldest first.
  private var lists: [Sort: [SwitchEvent]] = [:]
  /// When each of them happened last, in milliseconds on the monotonic clock, of those of this
  /// process.
  private var latest: [Int: Int64] = [:]
  private var next = 1
  /// Numbers of events that the database does not have as they are.
  private var unstored: Set<Int> = []
  /// The same for whoever watches.
  private var untold: Set<Int> = []
  private var lastStore: Int64 = .min / 2
  private var due: Int64?
  private var fault: ControlError?

  /// Reads what the database has.
  ///
  /// - Parameters:
  ///   - database: Where events are kept.
  ///   - logger: Is told where that fails.
  init(_ database: Database, logger: Logger) {
    self.database = database
    self.logger = logger
    for event in database.events() {
      lists[Self.sort(of: event), default: []].append(event)
      next = max(next, event.number &+ 1)
    }
  }

  /// All events that are kept, oldest first.
  var events: [SwitchEvent] { lists.values.joined().sorted { $0.number < $1.number } }

  /// Whether the last process had begun, and not said that it ends.
  var endedWithoutAWord: Bool { events.last.map { $0.kind != .stop } ?? false }

  // MARK: Noting

  /// Notes that something has happened now.
  ///
  /// - Parameters:
  ///   - kind: What sort of thing.
  ///   - port: The port that it happened to, if to one.
  ///   - bridge: That port's bridge.
  ///   - peer: Who did it.
  ///   - text: What happened, for a person; what is too long of it is cut.
  func note(
    _ kind: SwitchEvent.Kind, port: String? = nil, bridge: String? = nil, by peer: Peer? = nil,
    _ text: String
  ) {
    let now = monotonicMilliseconds()
    let event = SwitchEvent(
      number: next, time: timestamp(), kind: kind, port: port, bridge: bridge, uid: peer?.uid,
      pid: peer?.pid, text: printable(brief(text)))
    note(event, in: &lists[Self.sort(of: event), default: []], now)
    if due == nil { due = max(now + Self.delay, lastStore + Self.interval) }
  }

  private func note(_ event: SwitchEvent, in list: inout [SwitchEvent], _ now: Int64) {
    let recent = list.indices.suffix(Self.lookback)
    if let index = recent.last(where: { list[$0].isRepeated(by: event) }),
      let time = latest[list[index].number], now - time < Self.repetition
    {
      list[index].count += 1
      list[index].latest = event.time
      return touch(list[index].number, now)
    }
    next += 1
    list.append(event)
    touch(event.number, now)
    while list.count > Self.limit {
      let number = list.removeFirst().number
      latest[number] = nil
      untold.insert(number)
      unstored.remove(number)
    }
  }

  private func touch(_ number: Int, _ now: Int64) {
    latest[number] = now
    unstored.insert(number)
    untold.insert(number)
  }

  private static func sort(of event: SwitchEvent) -> Sort {
    switch event.kind {
    case .change: .change
    case .refusal: .refusal
    default: .happening
    }
  }

  // MARK: Telling

  /// The numbers of events that have come, changed or gone since they were asked for last.
  func takeNews() -> Set<Int> {
    defer { untold = [] }
    return untold
  }

  /// An event as a row of table Event; `nil` for one that is forgotten.
  func row(_ number: Int) -> ChangeLog.Row? {
    func find(_ list: [SwitchEvent]) -> SwitchEvent? {
      // Numbers rise.
      var (low, high) = (0, list.count)
      while low < high {
        let middle = (low + high) / 2
        if list[middle].number < number { low = middle + 1 } else { high = middle }
      }
      return low < list.count && list[low].number == number ? list[low] : nil
    }
    return lists.values.lazy.compactMap(find).first?.row
  }

  // MARK: Storing

  /// When `work` has something to do, in milliseconds on the monotonic clock; `nil` for never.
  var nextWork: Int64? { due }

  /// Stores what is new, once it is due; at once with `.max`.
  func work(now: Int64) {
    guard let due, due <= now else { return }
    self.due = nil
    lastStore = now == .max ? due : now
    do throws(ControlError) {
      try database.store(events, changed: unstored)
      (unstored, fault) = ([], nil)
    } catch {
      // With the next event it is tried again.
      if fault != error {
        logger.error("The history of the switch is not stored: \(error.message)")
      }
      fault = error
    }
  }
}

extension SwitchEvent {
  fileprivate func isRepeated(by other: SwitchEvent) -> Bool {
    (kind, port, bridge, uid, text) == (other.kind, other.port, other.bridge, other.uid, other.text)
      && (kind == .refusal || pid == other.pid)
  }
}
