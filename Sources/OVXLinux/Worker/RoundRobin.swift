/// Whose turn it is among the sources that are ready: deficit round robin (Shreedhar and Varghese,
/// 1995), by work.
///
/// Work is what the worker does for what a source brought: reading it, and every send and answer
/// that it causes (`Work`). In each round every ready source is given the same credit. Who has used
/// more than it had waits, in the kernel's queue of its own, until rounds have made up for it; the
/// kernel drops what that queue has no room for. Nobody waits while no one else is ready.
@safe struct RoundRobin: ~Copyable {
  /// Credit of a round.
  ///
  /// 50 microseconds: what four superframes of 64 KB take through a tunnel, or as many small frames
  /// as a step reads.
  static let quantum: Int64 = 50_000

  private struct Entry {
    /// The next one in the queue, -1 for none.
    var next: Int32 = -1
    var isQueued = false
    /// What is left of its credit; negative where it has used more.
    var credit: Int64 = 0
    /// What one read of it has cost lately, 1 or more.
    var costPerRead: Int64 = RoundRobin.firstGuess
  }

  private static let firstGuess: Int64 = 1000

  private let entries: UnsafeMutablePointer<Entry>
  /// The queue of ready sources, linked through them; -1 for none.
  private var first: Int32 = -1
  private var last: Int32 = -1
  /// Sources in the queue.
  private(set) var count = 0

  /// Makes one without ready sources, which are numbered below a limit.
  init(limit: Int) {
    unsafe entries = .allocate(capacity: limit)
    unsafe entries.initialize(repeating: Entry(), count: limit)
  }

  deinit { unsafe entries.deallocate() }

  /// Adds a source that is ready at the end of the queue, unless it is in it.
  mutating func enqueue(_ index: Int32) {
    guard unsafe !entries[Int(index)].isQueued else { return }
    unsafe entries[Int(index)].isQueued = true
    unsafe entries[Int(index)].next = -1
    if last >= 0 {
      unsafe entries[Int(last)].next = index
    } else {
      first = index
    }
    last = index
    count &+= 1
  }

  /// Takes the next source out of the queue that has credit left; `nil` where none is ready.
  ///
  /// Those that have none get a round's and go to the end.
  mutating func next() -> Int32? {
    var passedOver = 0
    while let index = removeFirst() {
      let credit = min(
        unsafe entries[Int(index)].credit &+ Self.quantum, Self.quantum)
      unsafe entries[Int(index)].credit = credit
      if credit > 0 { return index }
      enqueue(index)
      passedOver &+= 1
      if passedOver == count {
        forgive()
        passedOver = 0
      }
    }
    return nil
  }

  /// How many reads of a source its credit is good for, 1 or more.
  func reads(of index: Int32) -> Int {
    let entry = unsafe entries[Int(index)]
    return Int(max(entry.credit / entry.costPerRead, 1))
  }

  /// Takes from a source's credit what its reads have cost.
  mutating func charge(_ index: Int32, cost: Int64, reads: Int) {
    unsafe entries[Int(index)].credit &-= cost
    guard reads > 0 else { return }
    let old = unsafe entries[Int(index)].costPerRead
    unsafe entries[Int(index)].costPerRead = max((3 &* old &+ cost / Int64(reads)) / 4, 1)
  }

  /// Takes what a source was charged for; for one that is something else from now on.
  mutating func forget(_ index: Int32) {
    unsafe entries[Int(index)].credit = 0
    unsafe entries[Int(index)].costPerRead = Self.firstGuess
  }

  private mutating func removeFirst() -> Int32? {
    guard first >= 0 else { return nil }
    let index = first
    first = unsafe entries[Int(index)].next
    if first < 0 { last = -1 }
    unsafe entries[Int(index)].isQueued = false
    count &-= 1
    return index
  }

  /// Lets rounds pass in which nobody would have a turn, until there is one who has: nothing else
  /// is to be done.
  private mutating func forgive() {
    var least = Int64.min
    var index = first
    while index >= 0 {
      least = max(least, unsafe entries[Int(index)].credit)
      index = unsafe entries[Int(index)].next
    }
    guard least <= 0 else { return }
    let rounds = -least / Self.quantum
    index = first
    while index >= 0 {
      unsafe entries[Int(index)].credit &+= rounds &* Self.quantum
      index = unsafe entries[Int(index)].next
    }
  }
}
