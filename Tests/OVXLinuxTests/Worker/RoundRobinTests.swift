import Testing

@testable import OVXLinux

/// Whose turn it is, in virtual time: work is what the tests say it is.
@Suite struct RoundRobinTests {
  private let quantum = RoundRobin.quantum

  /// Lets sources of which each read costs so much be read for so long, all of them ready all the
  /// time; returns what each has had.
  private func shares(_ costs: [Int64], until total: Int64) -> [Int64] {
    var turns = RoundRobin(limit: costs.count)
    for source in costs.indices { turns.enqueue(Int32(source)) }
    var had = costs.map { _ in Int64(0) }
    while had.reduce(0, +) < total, let source = turns.next() {
      let cost = costs[Int(source)]
      let reads = min(turns.reads(of: source), 64)
      turns.charge(source, cost: cost * Int64(reads), reads: reads)
      had[Int(source)] += cost * Int64(reads)
      turns.enqueue(source)
    }
    return had
  }

  @Test func whoeverIsReadyHasTheSameShareOfTheWork() {
    // Small frames, superframes, broadcasts to a hundred remotes: what one read costs does not
    // matter.
    let had = shares([800, 10_000, 300_000, 2500], until: 1_000_000_000)
    for share in had {
      #expect(share > 225_000_000 && share < 275_000_000, "\(had)")
    }
  }

  /// Beside a source whose single reads cost six rounds, another one is served in every round.
  @Test func nobodyWaitsForLongerThanARoundAndARead() throws {
    var turns = RoundRobin(limit: 2)
    turns.enqueue(0)
    turns.enqueue(1)
    var between: Int64 = 0
    var most: Int64 = 0
    for _ in 0..<10_000 {
      let turn = turns.next()
      let source = try #require(turn)
      let cost: Int64 = source == 0 ? 300_000 : 9000
      if source == 1 {
        most = max(most, between)
        between = 0
      } else {
        between += cost
      }
      turns.charge(source, cost: cost, reads: 1)
      turns.enqueue(source)
    }
    #expect(most == 300_000)
  }

  @Test func whoIsAloneIsNeverKeptWaiting() {
    var turns = RoundRobin(limit: 3)
    turns.enqueue(2)
    for _ in 0..<1000 {
      let found1 = turns.next()
      #expect(found1 == 2)
      let found2 = turns.next()
      #expect(found2 == nil)
      turns.charge(2, cost: 1_000_000_000, reads: 64)
      turns.enqueue(2)
    }
  }

  /// A source that comes rarely has a turn at once, however much others have been charged.
  @Test func whoComesRarelyIsServedFirst() {
    var turns = RoundRobin(limit: 3)
    for source in [0, 1] as [Int32] {
      turns.enqueue(source)
      let found3 = turns.next()
      #expect(found3 == source)
      turns.charge(source, cost: 40 * quantum, reads: 1)
      turns.enqueue(source)
    }
    turns.enqueue(2)
    let found4 = turns.next()
    #expect(found4 == 2)
    // And when it is done, those who owe go on, the one that owes least first.
    let next = turns.next()
    #expect(next == 0 || next == 1)
  }

  @Test func debtsArePaidBackAndNobodySavesUp() {
    var turns = RoundRobin(limit: 2)
    turns.enqueue(0)
    let found5 = turns.next()
    #expect(found5 == 0)
    turns.charge(0, cost: 5 * quantum, reads: 1)
    turns.enqueue(0)
    // Another one has four rounds to itself.
    var own = 0
    for _ in 0..<100 {
      turns.enqueue(1)
      guard let source = turns.next(), source == 1 else { break }
      own += 1
      turns.charge(1, cost: quantum, reads: 1)
    }
    #expect(own >= 3 && own <= 5, "\(own)")
    // A source that was not ready for a thousand rounds has the credit of one.
    var late = RoundRobin(limit: 2)
    for _ in 0..<1000 {
      late.enqueue(0)
      _ = late.next()
    }
    late.enqueue(1)
    _ = late.next()
    late.charge(1, cost: quantum, reads: 50)
    let found6 = late.reads(of: 1)
    #expect(found6 == 1)
  }

  @Test func readsFollowWhatTheyHaveCost() {
    var turns = RoundRobin(limit: 1)
    for _ in 0..<20 {
      turns.enqueue(0)
      _ = turns.next()
      turns.charge(0, cost: 10 * 5000, reads: 10)
    }
    turns.enqueue(0)
    _ = turns.next()
    let found7 = turns.reads(of: 0)
    #expect(found7 == 10)
    turns.forget(0)
    turns.enqueue(0)
    _ = turns.next()
    let found8 = turns.reads(of: 0)
    #expect(found8 == 50)
  }

  @Test func aSourceIsInTheQueueOnce() {
    var turns = RoundRobin(limit: 4)
    for _ in 0..<3 { for source in [3, 1, 3, 2] as [Int32] { turns.enqueue(source) } }
    let found9 = turns.count
    #expect(found9 == 3)
    let found10 = turns.next()
    #expect(found10 == 3)
    let found11 = turns.next()
    #expect(found11 == 1)
    let found12 = turns.next()
    #expect(found12 == 2)
    let found13 = turns.next()
    #expect(found13 == nil)
  }
}
