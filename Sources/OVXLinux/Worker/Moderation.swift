/// Why a source is left alone for a moment instead of being read, or watched by a poll.
enum Pause: Int, CaseIterable {
  /// Next to nothing came but what storm control refuses. To read frames only to drop them takes
  /// the time that others need; the kernel drops them as well, where its queue has no room.
  case storm
  /// It wakes the worker for every few of its frames, as a network adapter would interrupt it
  /// without moderation.
  case moderation

  /// Nanoseconds.
  var duration: Int {
    switch self {
    case .storm: 2_000_000
    case .moderation: 200_000
    }
  }
}

/// How one source has been read lately, and whether it had better be left alone for a moment.
///
/// A wake-up costs the sender and the worker tens of microseconds each, many times what a small
/// frame costs that is read along with others. A source that keeps waking the worker is read by the
/// clock instead (interrupt moderation; NAPI in the kernel). Who is answered is spared: its next
/// frame waits for the answer, so latency is all that counts there.
struct Moderation: BitwiseCopyable {
  /// What the reads of one step have brought.
  struct Step {
    /// Reads that brought something.
    var reads: Int
    /// Frames in them, and how many of these storm control refused.
    var frames: Int64
    var refused: Int64
    /// Whether nothing is left to be read.
    var isDrained: Bool
    /// Whether there was a large frame among them.
    var isLarge: Bool
    /// Whether all of the source is one port's, so that nobody else has to wait for it.
    var isOfOnePort: Bool
    /// Frames sent to the source's port so far; `nil` where that is not known.
    var sentFrames: UInt64?
  }

  /// Frames from which on they can be the reason to pause.
  private static let leastFlood: Int64 = 16
  /// Wake-ups in a millisecond that are too many.
  private static let mostWakes: UInt32 = 16
  /// The same for a source of which it is not known whether it is answered, and for one that is.
  private static let mostWakesOfTalkers: UInt32 = 48
  /// A step that brings no more reads than this was hardly worth waking up for.
  private static let fewReads = 4

  private var frames: Int64 = 0
  private var refused: Int64 = 0
  private var wakes: UInt32 = 0
  /// Milliseconds, as of `pause(after:now:)`.
  private var countedSince: UInt32 = 0
  private var sentBefore: UInt64 = 0
  /// Whether it is read by the clock.
  private var isModerated = false

  /// Whether and why to leave the source alone after a step.
  ///
  /// The time is in milliseconds, modulo 2³², by a clock that may be coarse.
  mutating func pause(after step: Step, now: UInt32) -> Pause? {
    if isStorm(step) { return .storm }
    guard step.isDrained else { return nil }
    if isModerated {
      isModerated = step.reads > 1 && !step.isLarge
    } else if step.reads > 0, step.reads <= Self.fewReads, !step.isLarge {
      countWake(step, now)
    }
    return isModerated ? .moderation : nil
  }

  private mutating func isStorm(_ step: Step) -> Bool {
    frames &+= step.frames
    refused &+= step.refused
    guard frames >= Self.leastFlood else { return false }
    defer {
      frames = 0
      refused = 0
    }
    return step.isOfOnePort && refused &* 8 >= frames &* 7
  }

  private mutating func countWake(_ step: Step, _ now: UInt32) {
    wakes &+= 1
    let elapsed = now &- countedSince
    guard elapsed != 0 else { return }
    var most = Self.mostWakesOfTalkers
    if let sentFrames = step.sentFrames {
      if (sentFrames &- sentBefore) &* 4 < UInt64(wakes) { most = Self.mostWakes }
      sentBefore = sentFrames
    }
    isModerated = UInt64(wakes) >= UInt64(elapsed) &* UInt64(most)
    countedSince = now
    wakes = 0
  }
}
