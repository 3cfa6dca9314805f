/// What speaks against a neighbor that is known: who was answered in its place lately, and whether
/// it was asked itself and has said nothing.
///
/// Whoever asks again soon after an answer was not served by it, and a neighbor that does not
/// answer for itself has gone. Both are forgotten as soon as the neighbor tells its address.
package struct NeighborDoubt: BitwiseCopyable, Equatable, Sendable {
  /// Seconds after which a neighbor that was asked ought to have answered; one second at least has
  /// passed then.
  static let patience: UInt32 = 2
  /// Seconds after an answer, at least, for which a second question of the same station counts as a
  /// repetition; twice as many at most.
  static let memory: UInt32 = 2
  /// Seconds for which a neighbor that has told its address is vouched for: as long as a host
  /// itself would believe it (`REACHABLE_TIME` of RFC 4861, section 10).
  static let credit: UInt32 = 30

  private static let never = UInt32.max

  /// When the first question was passed on that the neighbor has not answered.
  private var askedAt = never
  /// When the present period began, and the stations that have asked in it and in the one before, a
  /// bit each.
  private var start: UInt32 = 0
  private var askers: UInt64 = 0
  private var formerAskers: UInt64 = 0

  package init() {}

  /// Notes that a question has gone to the neighbor itself.
  package mutating func noteQuestion(now: UInt32) {
    if askedAt == Self.never { askedAt = now }
  }

  /// Whether the neighbor was asked and has not answered for too long.
  package func isUnanswered(now: UInt32) -> Bool {
    askedAt != Self.never && now &- askedAt >= Self.patience
  }

  /// Notes who asks, and says whether it has asked a moment ago.
  ///
  /// Some two of 64 stations are taken for each other. A question is flooded then that need not be.
  package mutating func isRepetition(of asker: MACAddress, now: UInt32) -> Bool {
    let elapsed = now &- start
    if elapsed >= Self.memory {
      formerAskers = elapsed < 2 &* Self.memory ? askers : 0
      askers = 0
      start = now
    }
    let bit: UInt64 = 1 &<< (asker.rawValue.scrambled() & 63)
    defer { askers |= bit }
    return (askers | formerAskers) & bit != 0
  }
}
