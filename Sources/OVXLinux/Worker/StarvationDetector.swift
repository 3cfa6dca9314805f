/// Tells by looks at a thread, a few milliseconds apart, whether it is left without a core, and
/// when it has had help for long enough.
///
/// Only a thread that takes little is helped: one that has a core for half of the time waits for
/// its turn as others do.
struct StarvationDetector {
  /// What is seen of a thread.
  struct Look: Equatable {
    /// Whether it runs, or would.
    var isRunnable: Bool
    /// Nanoseconds for which it has had a core so far.
    var ran: UInt64
  }

  enum Verdict: Equatable {
    case unchanged
    /// From now on it has to go first.
    case starves
    /// It goes without help again.
    case recovers
  }

  /// Nanoseconds between two looks.
  ///
  /// Before a thread is called starved the kernel has counted what it had, even if it never sleeps
  /// (every 10 ms with CONFIG_HZ=100).
  static let interval: UInt64 = 5_000_000
  /// Looks that show nothing new, of a thread that is ready to run, until it starves: the first
  /// time, where it may wait for its turn among several, and after it has starved lately.
  static let patience = (first: 5, again: 1)
  /// Looks for which it has help, at first, and where it starves again and again.
  static let holds = 20...1000
  /// Looks without anything to do until it is at rest.
  private static let quietness = 40

  private var last: Look?
  private var waits = 0
  private var rests = 0
  /// What it has had lately of a core, in 1/1024.
  private var share: UInt64 = 0
  private var hold = Self.holds.lowerBound
  /// Looks for which it has help yet; 0 where it has none.
  private var helped = 0
  /// Looks since it had some.
  private var alone = Int.max

  /// Whether it may be looked at less often.
  var isQuiet: Bool { rests >= Self.quietness && helped == 0 }

  /// Takes what has been seen now.
  mutating func take(_ look: Look) -> Verdict {
    guard let last else {
      last = look
      return .unchanged
    }
    let gained = look.ran &- last.ran
    share = (share * 7 + min(gained, Self.interval) * 1024 / Self.interval) / 8
    waits = look.isRunnable && last.isRunnable && gained == 0 ? waits + 1 : 0
    rests = !look.isRunnable && gained == 0 ? min(rests + 1, Self.quietness) : 0
    self.last = look
    return helped > 0 ? goOn() : judge()
  }

  private mutating func goOn() -> Verdict {
    helped -= 1
    if share > 512 {
      helped = 0
      hold = Self.holds.lowerBound
    }
    guard helped == 0 else { return .unchanged }
    alone = 0
    return .recovers
  }

  private mutating func judge() -> Verdict {
    if alone < .max { alone += 1 }
    let isUsual = alone <= 4 * hold
    let patience = isUsual ? Self.patience.again : Self.patience.first
    guard waits >= patience, share <= 512 else { return .unchanged }
    waits = 0
    hold = isUsual ? min(4 * hold, Self.holds.upperBound) : Self.holds.lowerBound
    helped = hold
    return .starves
  }
}
