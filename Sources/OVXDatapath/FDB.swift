/// Where a frame for an address goes: a port and, for a tunnel port, the remote VTEP behind it.
package struct Destination: Equatable, BitwiseCopyable, Sendable {
  package var port: PortID
  package var peer: PeerID

  package init(port: PortID, peer: PeerID = .none) {
    self.port = port
    self.peer = peer
  }
}

/// The forwarding database of one bridge: which address was seen where, by VLAN.
///
/// Entries lie in a slab in no order. An open-addressing index of 4 bytes a place, at most half
/// full and seeded so that nobody can aim at one chain, finds them: two cache lines touched per
/// look-up, 32 bytes per entry in all. Each entry is also in one of two lists of its port, learned
/// or static, the learned ones in the order in which they were last seen. Ageing and eviction take
/// from the old end, so that they cost what they remove and nothing per frame; an entry moves to
/// the young end once per second at most.
///
/// A full table evicts the least recently seen entry of the port that holds the most: whoever
/// floods addresses only harms itself (the rule of Open vSwitch's mac-learning).
struct FDB: ~Copyable {
  /// VLAN above address: 12 and 48 bits.
  struct Key: Equatable, BitwiseCopyable {
    let rawValue: UInt64

    @inline(__always) init(vlan: VLANID, address: MACAddress) {
      rawValue = UInt64(vlan.rawValue) << 48 | address.rawValue
    }

    var vlan: VLANID { VLANID(tagControl: UInt16(truncatingIfNeeded: rawValue >> 48)) }
    var address: MACAddress { MACAddress(truncating: rawValue) }
  }

  struct Entry: BitwiseCopyable {
    var key: Key
    var destination: Destination
    var lastSeen: UInt32
    var younger: UInt32
    var older: UInt32
  }

  /// The ends of a port's two lists and how long the one of learned addresses is.
  struct PortLists: BitwiseCopyable {
    fileprivate var youngest = FDB.nowhere
    fileprivate var oldest = FDB.nowhere
    fileprivate var firstStatic = FDB.nowhere
    fileprivate(set) var learnedCount: UInt32 = 0

    /// The lists of a port that knows nobody.
    static let empty = PortLists()
  }

  enum Learning {
    case known
    case learned
    case moved(from: Destination)
    /// A static entry says otherwise, or the table is full of them: nothing was changed.
    case refused
  }

  private static let nowhere = UInt32.max
  /// The time stamp of a static entry.
  private static let never = UInt32.max
  /// The largest time stamp of a learned one.
  static let lastSecond = never - 1

  private let seed: UInt64
  private let shift: UInt64
  private let mask: Int
  private var index: Slab<UInt32>
  private var entries: Slab<Entry>
  /// Entries from here on have never been used.
  private var firstUntouched = 0
  /// Freed entries, linked by `older`.
  private var firstFree = FDB.nowhere
  private(set) var statistics = AddressStatistics()

  /// Makes an empty table of at most `limit` entries; its memory is reserved at once, and touched
  /// as it fills.
  init(limit: Int, seed: UInt64) {
    let limit = min(max(limit, 0), 1_000_000)
    var bits = 4
    while 1 << bits < limit * 2 { bits += 1 }
    self.seed = seed
    shift = UInt64(64 - bits)
    mask = 1 << bits - 1
    index = Slab(repeating: FDB.nowhere, count: 1 << bits)
    entries = Slab(reserving: limit)
    statistics.limit = limit
  }

  // MARK: Looking up

  @inline(__always) private func home(_ key: Key) -> Int {
    let product = (key.rawValue ^ seed).multipliedFullWidth(by: 0x9E37_79B9_7F4A_7C15)
    return Int(truncatingIfNeeded: (product.high ^ product.low) &>> shift)
  }

  /// The place in the index that holds the key, or the empty one that ends its chain.
  @inline(__always) private func find(_ key: Key) -> (place: Int, entry: UInt32) {
    var place = home(key)
    while true {
      let entry = index[place]
      if entry == FDB.nowhere || entries[Int(entry)].key == key { return (place, entry) }
      place = (place &+ 1) & mask
    }
  }

  @inline(__always) func lookUp(_ key: Key) -> Destination? {
    let found = find(key)
    return found.entry == FDB.nowhere ? nil : entries[Int(found.entry)].destination
  }

  // MARK: Learning

  /// Notes that a frame from the address came from there.
  ///
  /// - Parameters:
  ///   - key: The frame's VLAN and source address.
  ///   - destination: Where it came from.
  ///   - now: The time in seconds.
  ///   - lists: The lists of all ports.
  ///   - members: The ports of all bridges, to find one to evict from.
  ///   - stretch: Where in it this bridge's are.
  /// - Returns: What that changed.
  @inline(__always) mutating func learn(
    _ key: Key, at destination: Destination, now: UInt32, lists: inout Slab<PortLists>,
    members: borrowing Slab<PortID>, _ stretch: Range<Int>
  ) -> Learning {
    let found = find(key)
    if found.entry != FDB.nowhere {
      let entry = entries[Int(found.entry)]
      if entry.destination == destination && entry.lastSeen == now { return .known }
      return renew(found.entry, at: destination, now: now, lists: &lists)
    }
    guard
      insert(key, at: destination, lastSeen: now, lists: &lists, members: members, stretch)
    else { return .refused }
    statistics.learned &+= 1
    return .learned
  }

  private mutating func renew(
    _ number: UInt32, at destination: Destination, now: UInt32, lists: inout Slab<PortLists>
  ) -> Learning {
    let entry = entries[Int(number)]
    if entry.lastSeen == FDB.never {
      return entry.destination == destination ? .known : .refused
    }
    unlink(number, lists: &lists)
    entries[Int(number)].destination = destination
    entries[Int(number)].lastSeen = now
    link(number, lists: &lists)
    guard entry.destination != destination else { return .known }
    statistics.moved &+= 1
    return .moved(from: entry.destination)
  }

  /// Adds an entry; `false` where the table is full of static ones.
  private mutating func insert(
    _ key: Key, at destination: Destination, lastSeen: UInt32, lists: inout Slab<PortLists>,
    members: borrowing Slab<PortID>, _ stretch: Range<Int>
  ) -> Bool {
    var number = firstFree
    if number != FDB.nowhere {
      firstFree = entries[Int(number)].older
    } else if firstUntouched < entries.count {
      number = UInt32(truncatingIfNeeded: firstUntouched)
      firstUntouched += 1
    } else {
      guard evict(lists: &lists, members: members, stretch) else { return false }
      number = firstFree
      firstFree = entries[Int(number)].older
    }
    entries[Int(number)] = Entry(
      key: key, destination: destination, lastSeen: lastSeen, younger: FDB.nowhere,
      older: FDB.nowhere)
    link(number, lists: &lists)
    // Eviction may have moved places around: look again.
    index[find(key).place] = number
    statistics.current += 1
    if lastSeen == FDB.never { statistics.statics += 1 }
    return true
  }

  // MARK: Forgetting

  /// Makes room for one entry.
  ///
  /// `false` where all entries are static.
  private mutating func evict(
    lists: inout Slab<PortLists>, members: borrowing Slab<PortID>, _ stretch: Range<Int>
  ) -> Bool {
    var fullest = FDB.nowhere
    var most: UInt32 = 0
    for member in stretch {
      let port = members[member].rawValue
      let held = lists[Int(port)].learnedCount
      if held > most {
        most = held
        fullest = lists[Int(port)].oldest
      }
    }
    guard fullest != FDB.nowhere else { return false }
    remove(fullest, lists: &lists)
    statistics.evicted &+= 1
    return true
  }

  /// Forgets what a port's addresses did not show for `age` seconds.
  ///
  /// Costs what it forgets.
  mutating func expire(port: PortID, now: UInt32, age: UInt32, lists: inout Slab<PortLists>) {
    guard age > 0 else { return }
    while true {
      let oldest = lists[Int(port.rawValue)].oldest
      guard oldest != FDB.nowhere, now &- entries[Int(oldest)].lastSeen >= age else { return }
      remove(oldest, lists: &lists)
      statistics.expired &+= 1
    }
  }

  /// Forgets the addresses of a port, learned and static, for which the condition holds.
  mutating func forget(
    port: PortID, lists: inout Slab<PortLists>, where isStale: (Key, PeerID) -> Bool
  ) {
    for first in [lists[Int(port.rawValue)].youngest, lists[Int(port.rawValue)].firstStatic] {
      var number = first
      while number != FDB.nowhere {
        let entry = entries[Int(number)]
        if isStale(entry.key, entry.destination.peer) { remove(number, lists: &lists) }
        number = entry.older
      }
    }
  }

  /// Forgets the learned addresses of a port; gives back how many.
  mutating func flush(port: PortID, lists: inout Slab<PortLists>) -> Int {
    var count = 0
    while lists[Int(port.rawValue)].youngest != FDB.nowhere {
      remove(lists[Int(port.rawValue)].youngest, lists: &lists)
      count += 1
    }
    return count
  }

  // MARK: Static entries

  /// Sets a static entry, over whatever was known of the address.
  ///
  /// `false` where the table is full of static ones.
  mutating func setStatic(
    _ key: Key, at destination: Destination, lists: inout Slab<PortLists>,
    members: borrowing Slab<PortID>, _ stretch: Range<Int>
  ) -> Bool {
    let found = find(key)
    if found.entry != FDB.nowhere { remove(found.entry, lists: &lists) }
    return insert(
      key, at: destination, lastSeen: FDB.never, lists: &lists, members: members, stretch)
  }

  /// Removes an entry of either kind.
  ///
  /// `false` where there is none.
  mutating func remove(_ key: Key, lists: inout Slab<PortLists>) -> Bool {
    let found = find(key)
    guard found.entry != FDB.nowhere else { return false }
    remove(found.entry, lists: &lists)
    return true
  }

  /// The entries of a port, the youngest learned ones first.
  func addresses(of port: PortID, now: UInt32, lists: borrowing Slab<PortLists>) -> [KnownAddress] {
    var result: [KnownAddress] = []
    for first in [lists[Int(port.rawValue)].firstStatic, lists[Int(port.rawValue)].youngest] {
      var number = first
      while number != FDB.nowhere {
        let entry = entries[Int(number)]
        result.append(
          KnownAddress(
            address: entry.key.address, vlan: entry.key.vlan, port: port,
            peer: entry.destination.peer,
            age: entry.lastSeen == FDB.never ? nil : now &- entry.lastSeen))
        number = entry.older
      }
    }
    return result
  }

  // MARK: Links

  private mutating func link(_ number: UInt32, lists: inout Slab<PortLists>) {
    let port = Int(entries[Int(number)].destination.port.rawValue)
    let isStatic = entries[Int(number)].lastSeen == FDB.never
    let next = isStatic ? lists[port].firstStatic : lists[port].youngest
    entries[Int(number)].younger = FDB.nowhere
    entries[Int(number)].older = next
    if next != FDB.nowhere { entries[Int(next)].younger = number }
    if isStatic {
      lists[port].firstStatic = number
    } else {
      lists[port].youngest = number
      if next == FDB.nowhere { lists[port].oldest = number }
      lists[port].learnedCount &+= 1
    }
  }

  private mutating func unlink(_ number: UInt32, lists: inout Slab<PortLists>) {
    let entry = entries[Int(number)]
    let port = Int(entry.destination.port.rawValue)
    let isStatic = entry.lastSeen == FDB.never
    if entry.older != FDB.nowhere {
      entries[Int(entry.older)].younger = entry.younger
    } else if !isStatic {
      lists[port].oldest = entry.younger
    }
    if entry.younger != FDB.nowhere {
      entries[Int(entry.younger)].older = entry.older
    } else if isStatic {
      lists[port].firstStatic = entry.older
    } else {
      lists[port].youngest = entry.older
    }
    if !isStatic { lists[port].learnedCount &-= 1 }
  }

  private mutating func remove(_ number: UInt32, lists: inout Slab<PortLists>) {
    let entry = entries[Int(number)]
    if entry.lastSeen == FDB.never { statistics.statics -= 1 }
    statistics.current -= 1
    unlink(number, lists: &lists)
    close(find(entry.key).place)
    entries[Int(number)].older = firstFree
    firstFree = number
  }

  /// Empties a place of the index and moves up what its chain would otherwise lose.
  private mutating func close(_ emptied: Int) {
    var hole = emptied
    var place = (hole &+ 1) & mask
    while index[place] != FDB.nowhere {
      let home = home(entries[Int(index[place])].key)
      if (place &- home) & mask >= (place &- hole) & mask {
        index[hole] = index[place]
        hole = place
      }
      place = (place &+ 1) & mask
    }
    index[hole] = FDB.nowhere
  }
}
