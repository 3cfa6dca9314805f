import Dispatch
import Testing

@testable import OVXDatapath
@testable import OVXLinux

/// The ring between two workers.
@Suite struct WorkerSyncTests {
  private let bridge = BridgeID(rawValue: 0)

  private func makeReceiver() -> Datapath {
    var datapath = unsafe Datapath(seed: 1) { _, _ in }
    datapath.apply(
      Topology(
        bridges: [Topology.Bridge(id: bridge, addressLimit: 1_000_000)],
        ports: [1, 2].map { number in
          Topology.Port(
            id: PortID(rawValue: number), bridge: bridge, vlans: .trunk(nil),
            attachment: .device(Topology.Device(mtu: 1500, capabilities: .all)))
        }))
    return datapath
  }

  /// Odd stations are on port 1, even ones on port 2.
  private static func update(_ station: Int) -> FDBUpdate {
    FDBUpdate(
      MACAddress(truncating: UInt64(station) << 1), vlan: .untagged,
      at: Destination(port: PortID(rawValue: station % 2 == 1 ? 1 : 2)),
      bridge: BridgeID(rawValue: 0))
  }

  private static func put(_ stations: Range<Int>, in queue: FDBUpdateQueue) {
    let updates = stations.map(update)
    unsafe updates.withUnsafeBufferPointer { unsafe queue.put($0) }
  }

  @Test func whatHasNoRoomIsLost() {
    let queue = FDBUpdateQueue()
    var receiver = makeReceiver()
    queue.takeAll(into: &receiver)
    #expect(receiver.addresses(of: bridge).isEmpty)
    Self.put(1..<10_000, in: queue)
    queue.takeAll(into: &receiver)
    #expect(receiver.addresses(of: bridge).count == 8192)
    // There is room again, also across the end of the memory.
    Self.put(10_000..<15_000, in: queue)
    queue.takeAll(into: &receiver)
    #expect(receiver.addresses(of: bridge).count == 8192 + 5000)
  }

  @Test func aWriterAndAReaderAtOnce() {
    let queue = FDBUpdateQueue()
    var receiver = makeReceiver()
    let count = 200_000
    let done = DispatchSemaphore(value: 0)
    DispatchQueue.global().async {
      var station = 1
      while station < count {
        let next = min(station + 1 + station % 97, count)
        Self.put(station..<next, in: queue)
        station = next
      }
      done.signal()
    }
    while done.wait(timeout: .now()) == .timedOut { queue.takeAll(into: &receiver) }
    queue.takeAll(into: &receiver)
    let known = receiver.addresses(of: bridge)
    #expect(known.count >= 8192)
    // Each update arrived as it was written.
    for entry in known {
      let station = Int(entry.address.rawValue >> 1)
      #expect(entry.port == PortID(rawValue: station % 2 == 1 ? 1 : 2) && station < count)
    }
  }

  @Test func eachIsJoinedToEach() {
    let workers = WorkerSync.joining(3)
    #expect(workers.map(\.incoming.count) == [2, 2, 2])
    #expect(workers.map(\.outgoing.count) == [2, 2, 2])
    #expect(workers.map(\.isLeader) == [true, false, false])
    for (number, worker) in workers.enumerated() {
      for queue in worker.outgoing {
        let readers = workers.indices.filter { reader in
          workers[reader].incoming.contains { $0 === queue }
        }
        #expect(readers.count == 1 && readers != [number])
      }
    }
    #expect(WorkerSync.joining(1)[0].outgoing.isEmpty)
  }
}
