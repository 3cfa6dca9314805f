import Testing

@testable import OVXLinux

/// Which sources are left alone for a moment, in virtual time.
@Suite struct ModerationTests {
  /// A step that empties a source after so many small frames, one a read.
  private func step(
    _ frames: Int, refused: Int = 0, isLarge: Bool = false, isOfOnePort: Bool = true,
    sent: UInt64? = 0
  ) -> Moderation.Step {
    Moderation.Step(
      reads: frames, frames: Int64(frames), refused: Int64(refused), isDrained: true,
      isLarge: isLarge, isOfOnePort: isOfOnePort, sentFrames: sent)
  }

  /// Whether a source is ever left alone that wakes the worker so many times a millisecond for 40
  /// of them, and is sent so many frames for each that it brings.
  private func isModerated(
    wakes: Int, reads: Int = 1, isLarge: Bool = false, answers: Double? = 0
  ) -> Bool {
    var moderation = Moderation()
    var sent = 0.0
    for millisecond in 1...40 {
      for _ in 0..<wakes {
        if let answers { sent += answers * Double(reads) }
        let step = step(reads, isLarge: isLarge, sent: answers == nil ? nil : UInt64(sent))
        // A clock as coarse as the kernel's often is.
        if moderation.pause(after: step, now: UInt32(millisecond / 4 * 4)) != nil { return true }
      }
    }
    return false
  }

  @Test func frequentWakeUpsAreModerated() {
    #expect(isModerated(wakes: 24))
    #expect(!isModerated(wakes: 12))
    #expect(isModerated(wakes: 24, reads: 4))
  }

  @Test func whoIsWorthItWakesTheWorkerAtOnce() {
    #expect(!isModerated(wakes: 24, reads: 8), "a batch")
    #expect(!isModerated(wakes: 24, isLarge: true), "superframes")
    #expect(!isModerated(wakes: 24, answers: 1), "a conversation")
    #expect(!isModerated(wakes: 24, answers: nil), "what may be a conversation")
    #expect(isModerated(wakes: 60, answers: 1), "no conversation is so fast")
    #expect(isModerated(wakes: 60, answers: nil))
  }

  @Test func aQuietSourceIsWatchedAgain() {
    var moderation = Moderation()
    var now: UInt32 = 0
    var wakes = 0
    while moderation.pause(after: step(1), now: now) == nil {
      wakes += 1
      now = UInt32(wakes / 30)
      #expect(wakes < 1000)
    }
    #expect(moderation.pause(after: step(30), now: now) == .moderation)
    #expect(moderation.pause(after: step(2), now: now) == .moderation)
    #expect(moderation.pause(after: step(1), now: now) == nil)
    #expect(moderation.pause(after: step(1), now: now) == nil)
  }

  /// A flooder that is slower than the worker brings its frames one by one.
  @Test func aStormIsLeftAloneHoweverItComes() {
    for frames in [1, 3, 64] {
      var moderation = Moderation()
      var steps = 1
      while moderation.pause(after: step(frames, refused: frames), now: 0) != .storm { steps += 1 }
      #expect(steps == (15 + frames) / frames)
    }
    var other = Moderation()
    for _ in 0..<15 {
      #expect(other.pause(after: step(8, refused: 6), now: 0) == nil, "most of it, not all")
      #expect(other.pause(after: step(8, refused: 8, isOfOnePort: false), now: 0) == nil)
    }
  }
}
