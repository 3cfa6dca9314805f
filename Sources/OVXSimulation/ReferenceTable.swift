package import OVXDatapath

/// A bridge's address table as a dictionary: what the switch's is measured against.
///
/// Recency counts in whole seconds, because the switch notes it no finer. So on overflow several
/// entries may be as good a victim as each other; `candidates` names them all, and whoever compares
/// says which one it was.
package struct ReferenceTable {
  package struct Key: Hashable, Comparable {
    package var vlan: VLANID
    package var address: MACAddress

    package init(vlan: VLANID, address: MACAddress) {
      self.vlan = vlan
      self.address = address
    }

    package static func < (left: Key, right: Key) -> Bool {
      (left.vlan, left.address) < (right.vlan, right.address)
    }
  }

  package struct Entry: Equatable {
    package var port: PortID
    package var peer: RemoteVTEPID
    /// When it was last seen, in seconds; `nil` for one that does not age.
    package var lastSeen: UInt32?
    package var origin = EntryOrigin.learned
  }

  package internal(set) var entries: [Key: Entry] = [:]
  package var statistics = AddressStatistics()
  package internal(set) var limit: Int

  package init(limit: Int) { self.limit = limit }

  package func lookUp(_ key: Key) -> Entry? { entries[key] }

  /// The entries that may be evicted for a new one of a port.
  ///
  /// The least recently seen learned ones of a port that holds the most, or of any such port where
  /// several do.
  package func candidates(now: UInt32) -> [Key] {
    let learned = entries.filter { $0.value.lastSeen != nil }
    let byPort = Dictionary(grouping: learned, by: \.value.port)
    let most = byPort.values.map(\.count).max() ?? 0
    return byPort.values.filter { $0.count == most }.flatMap { ofPort in
      let ages = ofPort.map { now &- ($0.value.lastSeen ?? now) }
      return zip(ofPort, ages).filter { $0.1 == ages.max() }.map(\.0.key)
    }
  }

  /// Notes where an address was seen; `choose` picks the victim where one is needed.
  ///
  /// `nil` where an entry that does not age says otherwise or takes the last place, or nothing may
  /// be learned there; else whether it was known there.
  @discardableResult
  package mutating func learn(
    _ key: Key,
    port: PortID,
    peer: RemoteVTEPID,
    now: UInt32,
    mayChange: Bool = true,
    overridesExternal: Bool = true,
    choose: ([Key]) -> Key?
  ) -> Bool? {
    let known = entries[key]
    let isThere = known?.port == port && known?.peer == peer
    if !mayChange, !isThere {
      if known?.lastSeen != nil || known == nil { statistics.unlearned += 1 }
      return nil
    }
    if let known {
      if known.lastSeen == nil {
        if isThere { return true }
        guard known.origin == .external, overridesExternal else { return nil }
      }
      if known.port != port || known.peer != peer { statistics.moved += 1 }
    } else {
      guard makeRoom(now: now, choose: choose) else { return nil }
      statistics.learned += 1
    }
    entries[key] = Entry(port: port, peer: peer, lastSeen: now)
    return isThere
  }

  /// Where a key is known to be, if that is another place than this and so is not to change before
  /// so many seconds.
  package func contradiction(
    _ key: Key, port: PortID, peer: RemoteVTEPID, within seconds: UInt32, now: UInt32
  ) -> Entry? {
    guard let known = entries[key], known.port != port || known.peer != peer else { return nil }
    guard let lastSeen = known.lastSeen else { return known }
    return now &- lastSeen < seconds ? known : nil
  }

  /// Sets an entry that does not age; `false` where only such are left to give way, or an operator
  /// has said otherwise.
  package mutating func set(
    _ key: Key,
    port: PortID,
    peer: RemoteVTEPID,
    origin: EntryOrigin,
    now: UInt32,
    choose: ([Key]) -> Key?
  ) -> Bool {
    if entries[key]?.origin == .static, origin != .static { return false }
    entries[key] = nil
    guard makeRoom(now: now, choose: choose) else { return false }
    entries[key] = Entry(port: port, peer: peer, lastSeen: nil, origin: origin)
    return true
  }

  package mutating func remove(_ key: Key) -> Bool {
    entries.removeValue(forKey: key) != nil
  }

  package mutating func expire(now: UInt32, agingTime: UInt32) {
    guard agingTime > 0 else { return }
    let stale = entries.filter { entry in
      entry.value.lastSeen.map { now &- $0 >= agingTime } ?? false
    }
    for key in stale.keys { entries[key] = nil }
    statistics.expired += UInt64(stale.count)
  }

  /// Forgets the learned entries, and says how many.
  package mutating func flush() -> Int {
    let before = entries.count
    entries = entries.filter { $0.value.lastSeen == nil }
    return before - entries.count
  }

  private mutating func makeRoom(now: UInt32, choose: ([Key]) -> Key?) -> Bool {
    guard entries.count >= limit else { return true }
    let candidates = candidates(now: now).sorted()
    guard let victim = choose(candidates) ?? candidates.first else { return false }
    entries[victim] = nil
    statistics.evicted += 1
    return true
  }

  /// The entries that the switch lists, to compare with `entries`.
  package static func entries(_ listed: [KnownAddress], now: UInt32) -> [Key: Entry] {
    var entries: [Key: Entry] = [:]
    for line in listed {
      entries[Key(vlan: line.vlan, address: line.address)] = Entry(
        port: line.port,
        peer: line.peer,
        lastSeen: line.age.map { now &- $0 },
        origin: line.origin
      )
    }
    return entries
  }

  /// Takes over what the switch kept where it had a choice; a sentence says what was wrong with it,
  /// if anything.
  package mutating func adopt(_ observed: [KnownAddress]) -> String? {
    let kept = Set(observed.map { Key(vlan: $0.vlan, address: $0.address) })
    if kept.count != observed.count { return "An address is listed twice." }
    if let invented = kept.subtracting(entries.keys).first {
      return "The table has come to know \(invented.address)."
    }
    if kept.count != min(limit, entries.count) {
      return "Of \(entries.count) addresses \(kept.count) were kept with a limit of \(limit)."
    }
    entries = entries.filter { kept.contains($0.key) }
    return nil
  }
}
