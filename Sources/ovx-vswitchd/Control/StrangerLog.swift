internal import Logging
internal import OVXControl

/// Tells of those who connect without a right to, in a line a minute at most, however many there
/// are.
struct StrangerLog {
  private static let interval: Int64 = 60

  private let logger: Logger
  private let events: EventHistory
  private var count = 0
  private var latest: Peer?
  /// Seconds on the monotonic clock.
  private var lastTold = Int64.min / 2

  init(_ logger: Logger, events: EventHistory) {
    self.logger = logger
    self.events = events
  }

  /// Notes a connection that was refused.
  mutating func note(_ peer: Peer?) {
    count += 1
    latest = peer ?? latest
  }

  /// Tells, where there is something to tell and it is time.
  mutating func tell(now: Int64) {
    guard count > 0, now - lastTold >= Self.interval else { return }
    let who = latest.map { ", the latest of \($0)" } ?? ""
    let sentence =
      "refused \(count) connection\(count == 1 ? "" : "s") of users without a right to the control socket"
    logger.notice("\(sentence)\(who)")
    events.note(.refusal, by: latest, sentence)
    (count, lastTold) = (0, now)
  }
}
