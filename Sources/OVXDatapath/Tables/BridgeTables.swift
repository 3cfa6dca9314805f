/// The tables of all bridges of one kind: what each has learned of its ports.
///
/// A bridge that is not there has one of no size. What a port has told is in lists of its own
/// (`AgingTable`), and a port is of one bridge, so the lists of all ports are here together.
@safe
struct BridgeTables<Key: AgingTableKey, Value: AgingTableValue>: ~Copyable {
  typealias Table = AgingTable<Key, Value>

  private let tables: UnsafeMutablePointer<Table>
  private var lists = IDTable<PortID, Table.PortLists>(repeating: .empty, count: PortID.limit)
  /// The ports of all bridges, and where in it those of each are.
  private var ports = FixedArray<PortID>(reserving: 0)
  private var stretches = IDTable<BridgeID, Stretch>(
    repeating: Stretch(), count: BridgeID.limit)
  /// What is told that an entry is another one, or gone.
  var generations = Generations.none {
    didSet {
      for bridge in 0..<BridgeID.limit {
        unsafe (tables + bridge).pointee.generations = generations
      }
    }
  }

  private struct Stretch: BitwiseCopyable {
    var first: UInt32 = 0
    var count: UInt32 = 0
    var range: Range<Int> { Int(first)..<Int(first &+ count) }
  }

  init() {
    unsafe tables = .allocate(capacity: BridgeID.limit)
    for bridge in 0..<BridgeID.limit {
      unsafe (tables + bridge).initialize(to: Table(limit: 0, seed: 0))
    }
  }

  deinit {
    unsafe tables.deinitialize(count: BridgeID.limit)
    unsafe tables.deallocate()
  }

  /// One bridge's table, which is given the lists with each call.
  @unsafe @inline(__always)
  private func table(of bridge: BridgeID) -> UnsafeMutablePointer<Table> {
    precondition(Int(bridge.rawValue) < BridgeID.limit)
    return unsafe tables + Int(bridge.rawValue)
  }

  // MARK: Topology

  /// Tells which ports the bridges have.
  ///
  /// What was known of others has been forgotten before.
  mutating func setPorts(_ topology: borrowing CompiledTopology) {
    ports = topology.bridgeMembers.copy()
    for bridge in stretches.ids {
      var stretch = Stretch()
      if topology.hasBridge(bridge) {
        let members = topology.bridges[bridge].members
        stretch.first = UInt32(members.lowerBound)
        stretch.count = UInt32(members.count)
      }
      stretches[bridge] = stretch
    }
  }

  /// Gives a bridge a table of another size, with what was known as far as it fits: the most
  /// recently seen.
  mutating func resize(
    _ bridge: BridgeID, limit: Int, seed: UInt64, now: UInt32, portLimit: (PortID) -> Int
  ) {
    let known = records(of: bridge, now: now)
    for port in stretches[bridge].range {
      unsafe table(of: bridge).pointee.forget(port: ports[port], lists: &lists) { _, _ in true }
    }
    unsafe table(of: bridge).pointee = Table(limit: limit, seed: seed)
    unsafe table(of: bridge).pointee.generations = generations
    guard limit > 0 else { return }
    // The longest unseen first, so that a smaller table keeps the youngest.
    for record in known.sorted(by: { ($0.age ?? 0) > ($1.age ?? 0) }) {
      if let age = record.age {
        _ = learn(
          record.key, at: record.value, in: bridge, now: min(now &- age, lastSecond),
          portLimit: portLimit(record.value.port))
      } else {
        _ = set(record.key, at: record.value, record.origin, in: bridge)
      }
    }
  }

  // MARK: Looking up

  @inline(always) func lookUp(_ key: Key, in bridge: BridgeID) -> Value? {
    unsafe table(of: bridge).pointee.lookUp(key)
  }

  /// What is known of a key, and for how long nobody has told so; `nil` where nothing is.
  func lookUp(_ key: Key, in bridge: BridgeID, now: UInt32) -> Table.Record? {
    unsafe table(of: bridge).pointee.lookUp(key, now: now)
  }

  /// Whether a bridge has too many entries to be in a core's cache anyway.
  @inline(__always) func isLarge(_ bridge: BridgeID) -> Bool {
    unsafe table(of: bridge).pointee.isLarge
  }

  /// Fetches into the cache what a look-up of the key is going to need.
  @inline(__always) func prefetch(_ key: Key, in bridge: BridgeID) {
    unsafe table(of: bridge).pointee.prefetch(key)
  }

  /// The entries of a bridge's ports that are wanted, of each port those first that do not age, and
  /// then the youngest.
  func records(
    of bridge: BridgeID, now: UInt32, at isWanted: (PortID) -> Bool = { _ in true }
  ) -> [Table.Record] {
    guard unsafe table(of: bridge).pointee.statistics.current > 0 else { return [] }
    return unsafe table(of: bridge).pointee.records(
      ports: ports, stretches[bridge].range, now: now, lists: lists, isWanted: isWanted)
  }

  /// Where a bridge's entries are; see `AgingTable.records(in:now:)`.
  func slots(of bridge: BridgeID) -> Range<Int> { unsafe table(of: bridge).pointee.slots }

  /// The entries of a bridge in some of these places, in no order.
  func records(of bridge: BridgeID, in slots: Range<Int>, now: UInt32) -> [Table.Record] {
    unsafe table(of: bridge).pointee.records(in: slots, now: now)
  }

  /// What has happened to a bridge's table since the bridge was made.
  func statistics(of bridge: BridgeID) -> AddressStatistics {
    unsafe table(of: bridge).pointee.statistics
  }

  /// What would give way if a port told of a key now, as `learn` does it; `nil` where nothing
  /// would.
  func victim(
    of key: Key, from port: PortID, in bridge: BridgeID, portLimit: Int = .max, now: UInt32
  ) -> Table.Record? {
    unsafe table(of: bridge).pointee.victim(
      of: key, from: port, portLimit: portLimit, now: now, lists: lists, ports: ports,
      stretches[bridge].range)
  }

  // MARK: Learning

  /// Whether `learn` would change nothing: the value is known, and does not age or was told of in
  /// this second.
  @inline(always) func isCurrent(
    _ key: Key, at value: Value, in bridge: BridgeID, now: UInt32
  ) -> Bool {
    unsafe table(of: bridge).pointee.isCurrent(key, at: value, now: now)
  }

  /// Notes what a port has told: see `AgingTable.learn`.
  @inline(always) mutating func learn(
    _ key: Key, at value: Value, in bridge: BridgeID, now: UInt32, portLimit: Int = .max,
    holding: UInt32 = 0, mayChange: Bool = true, overridesExternal: Bool = true
  ) -> Table.Learning {
    unsafe table(of: bridge).pointee.learn(
      key, at: value, now: now, portLimit: portLimit, holding: holding, mayChange: mayChange,
      overridesExternal: overridesExternal, lists: &lists, ports: ports, stretches[bridge].range)
  }

  /// Notes what another worker's table of the same bridge has learned, and counted.
  mutating func adopt(
    _ key: Key, at value: Value, in bridge: BridgeID, now: UInt32, portLimit: Int,
    overridesExternal: Bool
  ) -> Table.Learning {
    unsafe table(of: bridge).pointee.adopt(
      key, at: value, now: now, portLimit: portLimit, overridesExternal: overridesExternal,
      lists: &lists, ports: ports,
      stretches[bridge].range)
  }

  /// Changes what is known of a key, where that is of the same port; its age stays.
  mutating func revise(_ key: Key, to value: Value, in bridge: BridgeID) {
    unsafe table(of: bridge).pointee.revise(key, to: value)
  }

  /// Sets an entry that does not age: see `AgingTable.set`.
  mutating func set(
    _ key: Key, at value: Value, _ origin: EntryOrigin, in bridge: BridgeID
  ) -> Bool {
    unsafe table(of: bridge).pointee.set(
      key, at: value, origin, lists: &lists, ports: ports, stretches[bridge].range)
  }

  // MARK: Forgetting

  /// Removes an entry of one of some origins; `false` where there is none.
  mutating func remove(
    _ key: Key, in bridge: BridgeID, of origins: ClosedRange<EntryOrigin> = .learned ... .static
  ) -> Bool {
    unsafe table(of: bridge).pointee.remove(key, of: origins, lists: &lists)
  }

  /// Forgets what of a bridge's ports was not seen for `age` seconds; costs what it forgets.
  mutating func expire(_ bridge: BridgeID, now: UInt32, age: UInt32) {
    for port in stretches[bridge].range {
      unsafe table(of: bridge).pointee.expire(port: ports[port], now: now, age: age, lists: &lists)
    }
  }

  /// Forgets the entries of a port, of any origin, for which the condition holds.
  mutating func forget(port: PortID, of bridge: BridgeID, where isStale: (Key, Value) -> Bool) {
    unsafe table(of: bridge).pointee.forget(port: port, lists: &lists, where: isStale)
  }

  /// Forgets the learned entries of a bridge; gives back how many.
  mutating func flush(_ bridge: BridgeID) -> Int {
    unsafe table(of: bridge).pointee.flush(ports: ports, stretches[bridge].range, lists: &lists)
  }
}
