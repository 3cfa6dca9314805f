private import CChecksum

/// What an `AgingTable` finds its entries by.
protocol AgingTableKey: Equatable, BitwiseCopyable {
  /// 64 bits of which the high ones are as good as random to whoever does not know the seed.
  func hash(seed: UInt64) -> UInt64
}

/// What an `AgingTable` knows of a key, among it the port that told so and is charged for it.
protocol AgingTableValue: Equatable, BitwiseCopyable {
  var port: PortID { get }
}

extension UInt64 {
  /// The halves of a 128-bit product, folded together: a step of hashing.
  @inline(__always) func scrambled(by factor: UInt64 = 0x9E37_79B9_7F4A_7C15) -> UInt64 {
    let product = multipliedFullWidth(by: factor)
    return product.high ^ product.low
  }
}

private let nowhere = UInt32.max
/// What is learned from ports and forgotten with time: the machinery of a bridge's address table
/// and of its neighbor table.
///
/// Entries lie in a `FixedArray` in no order. An open-addressing index of 4 bytes a place, at most
/// half full and seeded so that nobody can aim at one chain, finds them: two cache lines touched
/// per look-up. Each entry is also in one of two lists of its port, learned or lasting, the learned
/// ones in the order in which they were last seen. Ageing and eviction take from the old end, so
/// that they cost what they remove and nothing per frame; an entry moves to the young end once per
/// second at most.
///
/// A full table evicts the least recently seen entry of the port that holds the most: whoever
/// floods it only harms itself (the rule of Open vSwitch's mac-learning).
struct AgingTable<Key: AgingTableKey, Value: AgingTableValue>: ~Copyable {
  struct Entry: BitwiseCopyable {
    var key: Key
    var value: Value
    var lastSeen: UInt32
    var younger: UInt32
    var older: UInt32
  }

  /// The ends of a port's two lists in a table, and how long the one of learned entries is.
  struct PortLists: BitwiseCopyable {
    fileprivate var youngest = nowhere
    fileprivate var oldest = nowhere
    fileprivate var firstLasting = nowhere
    fileprivate(set) var learnedCount: UInt32 = 0

    /// The lists of a port that has told nothing.
    static var empty: PortLists { PortLists() }
  }

  /// An entry as it is told to others.
  struct Record {
    var key: Key
    var value: Value
    /// Seconds since it was last seen; `nil` for one that does not age.
    var age: UInt32?
    var origin: EntryOrigin
  }

  enum Learning {
    case known
    /// Known, and told for the first time in this second.
    case renewed
    case learned
    case moved(from: Value)
    /// A static entry says otherwise, the table is full of them, or it comes too fast: nothing was
    /// changed.
    case refused
    /// It was told otherwise a moment ago, and that is to hold: nothing was changed.
    case held(Value)
  }

  private let seed: UInt64
  private let shift: UInt64
  private let mask: Int
  private var index: FixedArray<UInt32>
  private var entries: FixedArray<Entry>
  /// Entries from here on have never been used.
  private var firstUntouched = 0
  /// Freed entries, linked by `older`.
  private var firstFree = nowhere
  private(set) var statistics = AddressStatistics()
  /// What is told that an entry is another one, or gone.
  var generations = Generations.none

  /// Makes an empty table of at most `limit` entries; its memory is reserved at once, and touched
  /// as it fills.
  init(limit: Int, seed: UInt64) {
    let limit = min(max(limit, 0), 1_000_000)
    var bits = 4
    while 1 << bits < limit * 2 { bits += 1 }
    self.seed = seed
    shift = UInt64(64 - bits)
    mask = 1 << bits - 1
    index = FixedArray(repeating: nowhere, count: 1 << bits)
    entries = FixedArray(reserving: limit)
    statistics.limit = limit
  }

  // MARK: Looking up

  @inline(__always) private func home(_ key: Key) -> Int {
    Int(truncatingIfNeeded: key.hash(seed: seed) &>> shift)
  }

  /// The place in the index that holds the key, or the empty one that ends its chain.
  @inline(__always) private func find(_ key: Key) -> (place: Int, entry: UInt32) {
    var place = home(key)
    while true {
      let entry = index[place]
      if entry == nowhere || entries[Int(entry)].key == key { return (place, entry) }
      place = (place &+ 1) & mask
    }
  }

  @inline(__always) func lookUp(_ key: Key) -> Value? {
    let found = find(key)
    return found.entry == nowhere ? nil : entries[Int(found.entry)].value
  }

  /// Whether the entries are too many to be in a core's cache anyway.
  @inline(__always) var isLarge: Bool { statistics.current > 16_384 }

  /// Fetches into the cache what a look-up of the key is going to need.
  @inline(__always) func prefetch(_ key: Key) {
    let entry = index[home(key)]
    if entry != nowhere { unsafe ovx_prefetch(entries.address(of: Int(entry))) }
  }

  /// What is known of a key, and for how long nobody has told so; `nil` where nothing is.
  func lookUp(_ key: Key, now: UInt32) -> Record? {
    let found = find(key)
    return found.entry == nowhere ? nil : record(of: found.entry, now: now)
  }

  private func record(of number: UInt32, now: UInt32) -> Record {
    let entry = entries[Int(number)]
    let origin = EntryOrigin(stamp: entry.lastSeen)
    let age = origin == .learned ? now &- entry.lastSeen : nil
    return Record(key: entry.key, value: entry.value, age: age, origin: origin)
  }

  // MARK: Learning

  /// Whether `learn` would change nothing: the value is known, and does not age or was told of in
  /// this second.
  @inline(__always) func isCurrent(_ key: Key, at value: Value, now: UInt32) -> Bool {
    let found = find(key)
    guard found.entry != nowhere else { return false }
    let entry = entries[Int(found.entry)]
    return entry.value == value && (entry.lastSeen == now || entry.lastSeen > lastSecond)
  }

  /// Notes what a port has told.
  ///
  /// - Parameters:
  ///   - key: What it is about.
  ///   - value: What it is now.
  ///   - now: The time in seconds.
  ///   - portLimit: Learned entries that a port holds at most, 1 or more: its least recently seen
  ///     one gives way.
  ///   - holding: Seconds for which what was told before is believed rather than this, where they
  ///     differ; a static entry is then held, not refused.
  ///   - mayChange: Whether a key that is new, or has another value, is to be noted; else it is
  ///     refused.
  ///   - overridesExternal: Whether an external entry gives way.
  ///   - lists: The lists of all ports.
  ///   - ports: The ports of all bridges, to find one to evict from.
  ///   - stretch: Where in it this bridge's are.
  /// - Returns: What that changed.
  @inline(__always) mutating func learn(
    _ key: Key, at value: Value, now: UInt32, portLimit: Int = .max, holding: UInt32 = 0,
    mayChange: Bool = true, overridesExternal: Bool = true,
    lists: inout IDTable<PortID, PortLists>,
    ports: borrowing FixedArray<PortID>,
    _ stretch: Range<Int>
  ) -> Learning {
    let found = find(key)
    if found.entry != nowhere {
      let entry = entries[Int(found.entry)]
      if entry.value == value && entry.lastSeen == now { return .known }
      return renew(
        found.entry, at: value, now: now, portLimit: portLimit, holding: holding,
        mayChange: mayChange, overridesExternal: overridesExternal, lists: &lists)
    }
    guard mayChange else {
      statistics.unlearned &+= 1
      return .refused
    }
    if limit(value.port, to: portLimit, lists: &lists) { statistics.limited &+= 1 }
    guard
      insert(key, at: value, lastSeen: now, lists: &lists, ports: ports, stretch)
    else { return .refused }
    statistics.learned &+= 1
    return .learned
  }

  private mutating func renew(
    _ number: UInt32, at value: Value, now: UInt32, portLimit: Int, holding: UInt32,
    mayChange: Bool, overridesExternal: Bool, lists: inout IDTable<PortID, PortLists>
  ) -> Learning {
    let entry = entries[Int(number)]
    if entry.lastSeen > lastSecond {
      if entry.value == value { return .known }
      guard entry.lastSeen == externalStamp, overridesExternal else {
        return holding > 0 ? .held(entry.value) : .refused
      }
    } else if entry.value != value && now &- entry.lastSeen < holding {
      return .held(entry.value)
    }
    guard mayChange || entry.value == value else {
      statistics.unlearned &+= 1
      return .refused
    }
    unlink(number, lists: &lists)
    if entry.lastSeen > lastSecond { statistics.external -= 1 }
    if limit(value.port, to: portLimit, lists: &lists) { statistics.limited &+= 1 }
    entries[Int(number)].value = value
    entries[Int(number)].lastSeen = now
    link(number, lists: &lists)
    guard entry.value != value else { return .renewed }
    generations.change(entry.key)
    statistics.moved &+= 1
    return .moved(from: entry.value)
  }

  /// Changes what is known of a key, where that is of the same port; its age stays.
  mutating func revise(_ key: Key, to value: Value) {
    let found = find(key)
    guard found.entry != nowhere, entries[Int(found.entry)].value.port == value.port else { return }
    entries[Int(found.entry)].value = value
  }

  /// Notes what another worker's table of the same bridge has learned, and counted.
  @discardableResult
  mutating func adopt(
    _ key: Key, at value: Value, now: UInt32, portLimit: Int, overridesExternal: Bool,
    lists: inout IDTable<PortID, PortLists>,
    ports: borrowing FixedArray<PortID>, _ stretch: Range<Int>
  ) -> Learning {
    let counted = statistics
    let learning = learn(
      key, at: value, now: now, portLimit: portLimit, overridesExternal: overridesExternal,
      lists: &lists, ports: ports, stretch)
    statistics.learned = counted.learned
    statistics.moved = counted.moved
    return learning
  }

  /// Makes room for one more entry of a port that holds as many as it may; says whether it did.
  @inline(__always) private mutating func limit(
    _ port: PortID, to portLimit: Int, lists: inout IDTable<PortID, PortLists>
  ) -> Bool {
    let held = lists[port]
    guard Int(held.learnedCount) >= portLimit, held.oldest != nowhere else { return false }
    remove(held.oldest, lists: &lists)
    return true
  }

  /// Adds an entry; `false` where the table is full of those that do not age.
  private mutating func insert(
    _ key: Key, at value: Value, lastSeen: UInt32, lists: inout IDTable<PortID, PortLists>,
    ports: borrowing FixedArray<PortID>, _ stretch: Range<Int>
  ) -> Bool {
    var number = firstFree
    if number != nowhere {
      firstFree = entries[Int(number)].older
    } else if firstUntouched < entries.count {
      number = UInt32(truncatingIfNeeded: firstUntouched)
      firstUntouched += 1
    } else {
      guard evict(lists: &lists, ports: ports, stretch) else { return false }
      number = firstFree
      firstFree = entries[Int(number)].older
    }
    entries[Int(number)] = Entry(
      key: key, value: value, lastSeen: lastSeen, younger: nowhere,
      older: nowhere)
    link(number, lists: &lists)
    // Eviction may have moved places around: look again.
    index[find(key).place] = number
    statistics.current += 1
    count(EntryOrigin(stamp: lastSeen), by: 1)
    return true
  }

  // MARK: Forgetting

  /// Makes room for one entry.
  ///
  /// `false` where no entry ages.
  private mutating func evict(
    lists: inout IDTable<PortID, PortLists>, ports: borrowing FixedArray<PortID>,
    _ stretch: Range<Int>
  ) -> Bool {
    let oldest = oldestOfFullest(lists: lists, ports: ports, stretch)
    guard oldest != nowhere else { return false }
    remove(oldest, lists: &lists)
    statistics.evicted &+= 1
    return true
  }

  /// The least recently seen entry of the port that holds the most; `nowhere` where none ages.
  private func oldestOfFullest(
    lists: borrowing IDTable<PortID, PortLists>, ports: borrowing FixedArray<PortID>,
    _ stretch: Range<Int>
  ) -> UInt32 {
    var oldest = nowhere
    var most: UInt32 = 0
    for number in stretch {
      let held = lists[ports[number]]
      if held.learnedCount > most {
        most = held.learnedCount
        oldest = held.oldest
      }
    }
    return oldest
  }

  /// What would give way if a port told of a key now, as `learn` does it; `nil` where nothing
  /// would.
  func victim(
    of key: Key, from port: PortID, portLimit: Int = .max, now: UInt32,
    lists: borrowing IDTable<PortID, PortLists>, ports: borrowing FixedArray<PortID>,
    _ stretch: Range<Int>
  ) -> Record? {
    let found = find(key)
    let isKnown = found.entry != nowhere
    if isKnown {
      let entry = entries[Int(found.entry)]
      guard entry.lastSeen <= lastSecond || entry.lastSeen == externalStamp,
        entry.value.port != port
      else { return nil }
    }
    let held = lists[port]
    var victim = nowhere
    if Int(held.learnedCount) >= portLimit {
      victim = held.oldest
    } else if !isKnown, firstFree == nowhere, firstUntouched == entries.count {
      victim = oldestOfFullest(lists: lists, ports: ports, stretch)
    }
    return victim == nowhere ? nil : record(of: victim, now: now)
  }

  /// Forgets what of a port was not seen for `age` seconds.
  ///
  /// Costs what it forgets.
  mutating func expire(
    port: PortID, now: UInt32, age: UInt32, lists: inout IDTable<PortID, PortLists>
  ) {
    guard age > 0 else { return }
    while true {
      let oldest = lists[port].oldest
      guard oldest != nowhere, now &- entries[Int(oldest)].lastSeen >= age else { return }
      remove(oldest, lists: &lists)
      statistics.expired &+= 1
    }
  }

  /// Forgets the entries of a port, of any origin, for which the condition holds.
  mutating func forget(
    port: PortID, lists: inout IDTable<PortID, PortLists>, where isStale: (Key, Value) -> Bool
  ) {
    for first in [lists[port].youngest, lists[port].firstLasting] {
      var number = first
      while number != nowhere {
        let entry = entries[Int(number)]
        if isStale(entry.key, entry.value) { remove(number, lists: &lists) }
        number = entry.older
      }
    }
  }

  /// Forgets the learned entries of some ports; gives back how many.
  mutating func flush(
    ports: borrowing FixedArray<PortID>, _ stretch: Range<Int>,
    lists: inout IDTable<PortID, PortLists>
  ) -> Int {
    var count = 0
    for number in stretch {
      let port = ports[number]
      while lists[port].youngest != nowhere {
        remove(lists[port].youngest, lists: &lists)
        count += 1
      }
    }
    return count
  }

  // MARK: Entries that do not age

  /// Sets an entry that does not age, over what was known of the key.
  ///
  /// - Parameters:
  ///   - key: What it is about.
  ///   - value: What it is.
  ///   - origin: Whose it is; not `learned`.
  ///   - lists: The lists of all ports.
  ///   - ports: The ports of all bridges, to find one to evict from.
  ///   - stretch: Where in it this bridge's are.
  /// - Returns: `false` where an operator has said otherwise, or the table is full of such entries.
  mutating func set(
    _ key: Key, at value: Value, _ origin: EntryOrigin, lists: inout IDTable<PortID, PortLists>,
    ports: borrowing FixedArray<PortID>, _ stretch: Range<Int>
  ) -> Bool {
    let found = find(key)
    if found.entry != nowhere {
      let entry = entries[Int(found.entry)]
      if entry.lastSeen == staticStamp, origin != .static { return false }
      if entry.lastSeen == origin.stamp {
        guard entry.value != value else { return true }
      }
      remove(found.entry, lists: &lists)
    }
    return insert(
      key, at: value, lastSeen: origin.stamp, lists: &lists, ports: ports, stretch)
  }

  /// Removes an entry of one of some origins.
  ///
  /// `false` where there is none.
  mutating func remove(
    _ key: Key, of origins: ClosedRange<EntryOrigin>, lists: inout IDTable<PortID, PortLists>
  ) -> Bool {
    let found = find(key)
    guard found.entry != nowhere,
      origins.contains(EntryOrigin(stamp: entries[Int(found.entry)].lastSeen))
    else { return false }
    remove(found.entry, lists: &lists)
    return true
  }

  /// The entries of those ports that are wanted, of each those first that do not age, and then the
  /// youngest.
  func records(
    ports: borrowing FixedArray<PortID>, _ stretch: Range<Int>, now: UInt32,
    lists: borrowing IDTable<PortID, PortLists>, isWanted: (PortID) -> Bool
  ) -> [Record] {
    var result: [Record] = []
    for number in stretch {
      let port = ports[number]
      guard isWanted(port) else { continue }
      for first in [lists[port].firstLasting, lists[port].youngest] {
        var number = first
        while number != nowhere {
          result.append(record(of: number, now: now))
          number = entries[Int(number)].older
        }
      }
    }
    return result
  }

  /// Where entries are, or have been: the places that `records(in:now:)` is asked for.
  var slots: Range<Int> { 0..<firstUntouched }

  /// The entries in some places of memory, in no order.
  ///
  /// What reads a large table part by part, between which frames are forwarded, may miss an entry
  /// that is forgotten and learned anew meanwhile, or find it twice.
  func records(in slots: Range<Int>, now: UInt32) -> [Record] {
    var result: [Record] = []
    for number in slots.clamped(to: self.slots) {
      let number = UInt32(truncatingIfNeeded: number)
      // What is not found by its key any more is a freed place.
      if find(entries[Int(number)].key).entry == number {
        result.append(record(of: number, now: now))
      }
    }
    return result
  }

  // MARK: Links

  private mutating func link(_ number: UInt32, lists: inout IDTable<PortID, PortLists>) {
    let port = entries[Int(number)].value.port
    let isLasting = entries[Int(number)].lastSeen > lastSecond
    let next = isLasting ? lists[port].firstLasting : lists[port].youngest
    entries[Int(number)].younger = nowhere
    entries[Int(number)].older = next
    if next != nowhere { entries[Int(next)].younger = number }
    if isLasting {
      lists[port].firstLasting = number
    } else {
      lists[port].youngest = number
      if next == nowhere { lists[port].oldest = number }
      lists[port].learnedCount &+= 1
    }
  }

  private mutating func unlink(_ number: UInt32, lists: inout IDTable<PortID, PortLists>) {
    let entry = entries[Int(number)]
    let port = entry.value.port
    let isLasting = entry.lastSeen > lastSecond
    if entry.older != nowhere {
      entries[Int(entry.older)].younger = entry.younger
    } else if !isLasting {
      lists[port].oldest = entry.younger
    }
    if entry.younger != nowhere {
      entries[Int(entry.younger)].older = entry.older
    } else if isLasting {
      lists[port].firstLasting = entry.older
    } else {
      lists[port].youngest = entry.older
    }
    if !isLasting { lists[port].learnedCount &-= 1 }
  }

  /// Counts an entry that comes or goes.
  private mutating func count(_ origin: EntryOrigin, by change: Int) {
    switch origin {
    case .learned: break
    case .external, .stickyExternal: statistics.external += change
    case .static: statistics.statics += change
    }
  }

  private mutating func remove(_ number: UInt32, lists: inout IDTable<PortID, PortLists>) {
    let entry = entries[Int(number)]
    count(EntryOrigin(stamp: entry.lastSeen), by: -1)
    statistics.current -= 1
    unlink(number, lists: &lists)
    close(find(entry.key).place)
    generations.change(entry.key)
    entries[Int(number)].older = firstFree
    firstFree = number
  }

  /// Empties a place of the index and moves up what its chain would otherwise lose.
  private mutating func close(_ emptied: Int) {
    var hole = emptied
    var place = (hole &+ 1) & mask
    while index[place] != nowhere {
      let home = home(entries[Int(index[place])].key)
      if (place &- home) & mask >= (place &- hole) & mask {
        index[hole] = index[place]
        hole = place
      }
      place = (place &+ 1) & mask
    }
    index[hole] = nowhere
  }
}
