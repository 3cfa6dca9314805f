import OVXSimulation
import Testing

@testable import OVXDatapath

/// What the datapaths of one switch learn from each other.
///
/// Devices 1 and 2 and tunnel 3 are in VLAN 100, device 4 is in VLAN 200.
@Suite struct FDBUpdateTests {
  private final class Board {
    var updates: [FDBUpdate] = []
  }

  private static func topology() throws -> Topology {
    Topology(
      bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))],
      ports: [
        device(1, .access(vlan(100))), device(2, .access(vlan(100))),
        try tunnel(3, vni: 100, .access(vlan(100)), remotes: [remoteA, remoteB]),
        device(4, .access(vlan(200))),
      ])
  }

  private static func makeDatapath(_ board: Board?) throws -> Datapath {
    let publish: FDBUpdate.Publish = { updates in unsafe board?.updates += updates }
    var datapath = unsafe Datapath(seed: 1, publish: board == nil ? nil : publish) { _, _ in }
    datapath.apply(try topology())
    return datapath
  }

  private static func receive(
    _ bytes: [UInt8], from port: UInt16, _ datapath: inout Datapath
  ) {
    let headroom = 64
    var memory = [UInt8](repeating: 0, count: headroom) + bytes
    unsafe memory.withUnsafeMutableBytes { memory in
      guard let base = memory.baseAddress else { return }
      unsafe datapath.receiveFrame(
        base + headroom, count: bytes.count, offload: .none, tag: .none,
        from: PortID(rawValue: port))
      datapath.endBurst()
    }
  }

  private static func broadcast(from station: UInt8) -> [UInt8] {
    plainFrame(
      from: MACAddress(truncating: 0x0200_0000_0000 | UInt64(station)), to: .broadcast,
      etherType: 0x88B5, payload: [UInt8](repeating: 7, count: 60))
  }

  private let bridge = BridgeID(rawValue: 0)

  @Test func whatOneLearnsTheOtherKnows() throws {
    let board = Board()
    var sender = try Self.makeDatapath(board)
    var receiver = try Self.makeDatapath(nil)
    sender.tick(now: 1000)
    receiver.tick(now: 1000)
    Self.receive(Self.broadcast(from: 7), from: 1, &sender)
    #expect(board.updates.count == 1)
    for update in board.updates { receiver.learn(update) }
    #expect(receiver.addresses(of: bridge) == sender.addresses(of: bridge))
    // Learned by one, known by two, counted once.
    let statistics = AddressStatistics.merged([
      sender.addressStatistics(of: bridge), receiver.addressStatistics(of: bridge),
    ])
    #expect(statistics.learned == 1 && statistics.current == 1)

    // Once a second and no more, and again when it is elsewhere.
    Self.receive(Self.broadcast(from: 7), from: 1, &sender)
    #expect(board.updates.count == 1)
    sender.tick(now: 1001)
    receiver.tick(now: 1001)
    Self.receive(Self.broadcast(from: 7), from: 1, &sender)
    #expect(board.updates.count == 2)
    Self.receive(Self.broadcast(from: 7), from: 2, &sender)
    #expect(board.updates.count == 3)
    for update in board.updates.dropFirst() { receiver.learn(update) }
    #expect(receiver.addresses(of: bridge) == sender.addresses(of: bridge))
    #expect(receiver.addressStatistics(of: bridge).moved == 0)
    #expect(sender.addressStatistics(of: bridge).moved == 1)
  }

  /// The first to forget would flood what the other ones still know.
  @Test func whatOneSeesKeepsItYoungForTheOther() throws {
    let board = Board()
    var sender = try Self.makeDatapath(board)
    var receiver = try Self.makeDatapath(nil)
    var now: UInt32 = 0
    while now < 1000 {
      sender.tick(now: now)
      receiver.tick(now: now)
      Self.receive(Self.broadcast(from: 7), from: 1, &sender)
      for update in board.updates { receiver.learn(update) }
      board.updates = []
      now += 50
    }
    #expect(receiver.addresses(of: bridge).count == 1)
    #expect(receiver.addressStatistics(of: bridge).expired == 0)
  }

  /// Half of the moves are seen here and half there; all of them are told once.
  @Test func oneWatchesFlappingForAll() throws {
    let (first, second) = (Board(), Board())
    var leader = try Self.makeDatapath(first)
    var other = try Self.makeDatapath(second)
    other.watchesFlapping = false
    for now in 1...60 as ClosedRange<UInt32> {
      leader.tick(now: now)
      other.tick(now: now)
      for (board, port) in [(first, UInt16(1)), (second, 2)] {
        if board === first {
          Self.receive(Self.broadcast(from: 7), from: port, &leader)
        } else {
          Self.receive(Self.broadcast(from: 7), from: port, &other)
        }
        for update in first.updates { other.learn(update) }
        for update in second.updates { leader.learn(update) }
        first.updates = []
        second.updates = []
      }
    }
    #expect(leader.hasFlappingAddresses && !other.hasFlappingAddresses)
    let told = leader.takeFlappingAddresses()
    #expect(told.count == 1)
    #expect(leader.addressStatistics(of: bridge).moved > 50)
    #expect(other.addressStatistics(of: bridge).moved > 50)
    #expect((told.first?.moves ?? 0) > 10)
  }

  @Test func neighborsArePublishedAndForgotten() throws {
    let board = Board()
    var sender = try Self.makeDatapath(board)
    var receiver = try Self.makeDatapath(nil)
    let address = MACAddress(truncating: 0x0200_0000_0001)
    let ip = IPAddress(v4: 0x0A00_0001)
    Self.receive(neighborAnnouncement(of: ip, at: address, isRouter: false), from: 1, &sender)
    for update in board.updates { receiver.learn(update) }
    #expect(receiver.neighbors(of: bridge).map(\.ip) == [ip])
    #expect(receiver.neighbors(of: bridge) == sender.neighbors(of: bridge))
    // A contradiction in passing: what was known is doubted, by all.
    board.updates = []
    let liar = MACAddress(truncating: 0x0200_0000_0002)
    var doubtful = neighborAnnouncement(of: ip, at: liar, isRouter: false)
    doubtful.replaceSubrange(6..<12, with: [2, 0, 0, 0, 0, 9])
    Self.receive(doubtful, from: 2, &sender)
    for update in board.updates { receiver.learn(update) }
    #expect(sender.neighbors(of: bridge).isEmpty)
    #expect(receiver.neighbors(of: bridge).isEmpty)
  }

  /// The workers swap topologies one after the other.
  @Test func updatesOfAnotherTopologyAreIgnored() throws {
    let board = Board()
    var sender = try Self.makeDatapath(board)
    Self.receive(Self.broadcast(from: 1), from: 1, &sender)
    Self.receive(
      neighborAnnouncement(
        of: IPAddress(v4: 0x0A00_0001), at: MACAddress(truncating: 0x0200_0000_0001),
        isRouter: false),
      from: 1, &sender)
    #expect(board.updates.count >= 2)
    let changes: [(inout Topology) -> Void] = [
      { $0.ports[0].vlans = .access(vlan(300)) },
      { $0.ports.remove(at: 0) },
      { $0.ports[0].bridge = BridgeID(rawValue: 1) },
      { $0.bridges = [] },
      { topology in
        topology.bridges.append(Topology.Bridge(id: BridgeID(rawValue: 1)))
        topology.ports[0].bridge = BridgeID(rawValue: 1)
      },
      { $0.ports[0].attachment = $0.ports[2].attachment },
    ]
    for (number, change) in changes.enumerated() {
      var topology = try Self.topology()
      change(&topology)
      var receiver = unsafe Datapath(seed: 1) { _, _ in }
      receiver.apply(topology)
      for update in board.updates { receiver.learn(update) }
      for bridge in [UInt16(0), 1] {
        let id = BridgeID(rawValue: bridge)
        #expect(receiver.addresses(of: id).isEmpty, "change \(number)")
        #expect(receiver.neighbors(of: id).isEmpty, "change \(number)")
      }
    }
  }

  @Test func tablesAreMergedByTheLatest() {
    func entry(_ station: UInt64, _ port: UInt16, _ age: UInt32?) -> KnownAddress {
      KnownAddress(
        address: MACAddress(truncating: station), vlan: vlan(1), port: PortID(rawValue: port),
        peer: .none, age: age)
    }
    let merged = KnownAddress.merged([
      [entry(1, 1, 5), entry(2, 1, nil), entry(3, 1, 0)],
      [entry(1, 2, 3), entry(2, 2, 0), entry(4, 2, 9)],
    ]).sorted { $0.address < $1.address }
    #expect(merged == [entry(1, 2, 3), entry(2, 1, nil), entry(3, 1, 0), entry(4, 2, 9)])
  }
}
