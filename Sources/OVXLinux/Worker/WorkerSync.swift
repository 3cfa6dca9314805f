internal import OVXDatapath
private import Synchronization

/// The way of FDB updates from one worker to another: a ring in memory that one of them writes and
/// the other one reads.
///
/// Nobody is woken by an update, since a worker that sleeps has no frame to use it for: it looks
/// before each burst, and once a second. What a full ring has no room for is lost, and published
/// again within the next second.
@safe
final class FDBUpdateQueue: @unchecked Sendable {
  /// A power of two; memory is only touched as far as it is used.
  private static let capacity = 8192

  private let updates: UnsafeMutablePointer<FDBUpdate>
  /// Updates that were written and read since the beginning, modulo the machine's word.
  private let written = Atomic<Int>(0)
  private let read = Atomic<Int>(0)

  init() {
    unsafe updates = .allocate(capacity: Self.capacity)
  }

  deinit {
    unsafe updates.deallocate()
  }

  /// Adds as many updates as there is room for; for the writing worker only.
  func put(_ new: UnsafeBufferPointer<FDBUpdate>) {
    let end = written.load(ordering: .relaxed)
    let room = Self.capacity &- (end &- read.load(ordering: .acquiring))
    let count = min(new.count, room)
    for offset in 0..<count {
      let place = (end &+ offset) & (Self.capacity &- 1)
      unsafe (updates + place).initialize(to: new[offset])
    }
    written.store(end &+ count, ordering: .releasing)
  }

  /// Takes all updates there are; for the reading worker only.
  func takeAll(into datapath: inout Datapath) {
    let start = read.load(ordering: .relaxed)
    let end = written.load(ordering: .acquiring)
    guard start != end else { return }
    var next = start
    while next != end {
      datapath.learn(unsafe updates[next & (Self.capacity &- 1)])
      next &+= 1
    }
    read.store(end, ordering: .releasing)
  }
}

/// The queues by which one worker gets the updates of each other worker of its switch, and
/// publishes its own.
struct WorkerSync: Sendable {
  /// Whether the worker is the one that reports for all what is to be reported once.
  private(set) var isLeader = false
  private(set) var incoming: [FDBUpdateQueue] = []
  private(set) var outgoing: [FDBUpdateQueue] = []

  /// Joins some workers, each to each.
  static func joining(_ count: Int) -> [WorkerSync] {
    var workers = Array(repeating: WorkerSync(), count: count)
    workers[0].isLeader = true
    for sender in 0..<count {
      for receiver in 0..<count where receiver != sender {
        let queue = FDBUpdateQueue()
        workers[sender].outgoing.append(queue)
        workers[receiver].incoming.append(queue)
      }
    }
    return workers
  }
}
