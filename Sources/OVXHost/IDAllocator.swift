/// Small numbers for named objects, dense from a first one, each stable for as long as its object
/// exists.
///
/// The data plane's tables are indexed by them, so the lowest free number is always given out. A
/// number that was taken back is in *quarantine* until the data plane has been told of a topology
/// without it: only then can nothing that was learned under the old owner be mistaken for the new
/// one's. `releaseQuarantined()` ends the quarantine.
struct IDAllocator<Name: Hashable> {
  private let first: Int
  private let limit: Int
  private var given: [Name: Int] = [:]
  private var quarantined: [Int] = []
  private var taken: [Bool] = []
  /// No number below this one is free.
  private var lowest = 0

  /// Makes an empty set of numbers.
  ///
  /// - Parameters:
  ///   - first: The lowest number.
  ///   - limit: All numbers are below it.
  init(from first: Int = 0, below limit: Int) {
    self.first = first
    self.limit = limit
  }

  /// The names that have a number.
  var names: Dictionary<Name, Int>.Keys { given.keys }

  /// The number of an object, if it has one.
  subscript(name: Name) -> Int? { given[name] }

  /// The number of an object, given out now where it had none; `nil` where all are taken.
  mutating func number(for name: Name) -> Int? {
    if let number = given[name] { return number }
    while lowest < taken.count, taken[lowest] { lowest += 1 }
    guard lowest < limit - first else { return nil }
    if lowest == taken.count { taken.append(true) } else { taken[lowest] = true }
    given[name] = first + lowest
    return first + lowest
  }

  /// Takes back the number of an object that is gone.
  mutating func release(_ name: Name) {
    if let number = given.removeValue(forKey: name) { quarantined.append(number) }
  }

  /// Frees the numbers that were taken back: the data plane has a topology without them.
  mutating func releaseQuarantined() {
    for number in quarantined {
      taken[number - first] = false
      lowest = min(lowest, number - first)
    }
    quarantined.removeAll(keepingCapacity: true)
  }
}

/// Ranges of consecutive numbers, for the sockets towards one remote VTEP; otherwise as
/// `IDAllocator`.
struct IDRangeAllocator<Name: Hashable> {
  private var given: [Name: Range<Int>] = [:]
  private var quarantined: [Range<Int>] = []
  private var taken: [Bool]
  /// No number below this one is free.
  private var lowest = 0
  /// How many numbers are given out.
  private(set) var count = 0

  /// Makes an empty set of the numbers 0..<limit.
  init(below limit: Int) {
    taken = Array(repeating: false, count: limit)
  }

  /// The numbers of an object, if it has any.
  subscript(name: Name) -> Range<Int>? { given[name] }

  /// Gives `count` consecutive numbers to an object that has none; `nil` where no gap is that wide.
  mutating func assign(_ count: Int, to name: Name) -> Range<Int>? {
    guard given[name] == nil, count > 0 else { return given[name] }
    while lowest < taken.count, taken[lowest] { lowest += 1 }
    var start = lowest
    for number in lowest..<taken.count {
      if taken[number] { start = number + 1 }
      if number + 1 - start == count {
        let range = start..<number + 1
        for number in range { taken[number] = true }
        given[name] = range
        self.count += count
        return range
      }
    }
    return nil
  }

  /// Takes back all numbers of an object from the `count`-th on, and returns them.
  mutating func release(_ name: Name, keeping count: Int = 0) -> Range<Int>? {
    guard let range = given[name], count < range.count else { return nil }
    let released = range.dropFirst(count)
    given[name] = count > 0 ? range.prefix(count) : nil
    quarantined.append(released)
    self.count -= released.count
    return released
  }

  /// Frees the numbers that were taken back.
  mutating func releaseQuarantined() {
    for range in quarantined {
      for number in range { taken[number] = false }
      lowest = min(lowest, range.lowerBound)
    }
    quarantined.removeAll(keepingCapacity: true)
  }
}
