import Testing

@testable import OVXLinux

/// When a thread is helped to a core, and for how long: looks without a kernel.
@Suite struct StarvationDetectorTests {
  /// A thread as it is seen, and what the detector says of it.
  private struct Subject {
    var detector = StarvationDetector()
    private var ran: UInt64 = 0

    /// Looks so many times at one that has run for a part of the time in between.
    mutating func look(
      _ count: Int = 1, isRunnable: Bool, running percent: UInt64
    ) -> [StarvationDetector.Verdict] {
      (0..<count).map { _ in
        ran += StarvationDetector.interval * percent / 100
        return detector.take(.init(isRunnable: isRunnable, ran: ran))
      }
    }

    /// Has it starve until it is helped, and says at which look; 20 where it is not.
    mutating func starve() -> Int {
      var looks = 0
      while looks < 20, look(isRunnable: true, running: 0) == [.unchanged] { looks += 1 }
      return looks
    }
  }

  /// One that sleeps, works now and then, or has all that it wants is let alone.
  @Test(arguments: [(false, 0), (false, 3), (true, 3), (true, 40), (true, 100)])
  func nobodyIsHelpedWithoutNeed(isRunnable: Bool, percent: UInt64) {
    var subject = Subject()
    let verdicts = subject.look(2_000, isRunnable: isRunnable, running: percent)
    #expect(verdicts.allSatisfy { $0 == .unchanged })
  }

  /// It is ready to run, and has no core: helped within 30 ms, and after a while not any more.
  @Test func oneThatStarvesIsHelped() {
    var subject = Subject()
    _ = subject.look(10, isRunnable: false, running: 2)
    #expect(subject.starve() == 5)
    let verdicts = subject.look(20, isRunnable: false, running: 10)
    #expect(verdicts.firstIndex(of: .recovers) == 19)
  }

  /// One that has just had a core for itself waits as others do: it has had its part.
  @Test func oneThatTakesMuchIsNotHelped() {
    var subject = Subject()
    _ = subject.look(100, isRunnable: true, running: 100)
    #expect((5..<20).contains(subject.starve()))
    // Nor is it helped for long where it takes all that it gets.
    let verdicts = subject.look(20, isRunnable: true, running: 100)
    #expect(verdicts.firstIndex(of: .recovers).map { $0 < 10 } == true)
  }

  /// Where it starves again as soon as it is without help, it has help for longer, up to a bound;
  /// and for a moment where that was long ago.
  @Test func helpLastsLongerWhereItIsNeededAgain() {
    var subject = Subject()
    var lengths: [Int] = []
    for _ in 0..<5 {
      #expect(subject.starve() == (lengths.isEmpty ? 5 : 1))
      var length = 1
      while subject.look(isRunnable: false, running: 4) == [.unchanged] { length += 1 }
      lengths.append(length)
    }
    #expect(lengths == [20, 80, 320, 1_000, 1_000])
    _ = subject.look(5_000, isRunnable: false, running: 4)
    #expect(subject.starve() == 5)
    #expect(subject.look(20, isRunnable: false, running: 4).last == .recovers)
  }

  /// Who has nothing to do is looked at seldom, and at once again as often when there is something.
  @Test func oneAtRestIsQuiet() {
    var subject = Subject()
    _ = subject.look(50, isRunnable: false, running: 0)
    #expect(subject.detector.isQuiet)
    _ = subject.look(isRunnable: false, running: 1)
    #expect(!subject.detector.isQuiet)
  }

  /// The counter of a thread that ended and one that began in its place: no trap.
  @Test func aCounterThatGoesBackIsNoTrap() {
    var subject = StarvationDetector()
    _ = subject.take(.init(isRunnable: true, ran: 1 << 60))
    #expect(subject.take(.init(isRunnable: true, ran: 0)) == .unchanged)
  }
}
