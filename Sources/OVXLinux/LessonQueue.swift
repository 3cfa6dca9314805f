internal import OVXDatapath
private import Synchronization

/// The way of lessons from one worker to another: a ring in memory that one of them writes and the other one reads.
///
/// Nobody is woken by a lesson, since a worker that sleeps has no frame to use it for: it looks before each burst, and
/// once a second. What a full ring has no room for is lost, and taught again with the next second.
@safe
final class LessonQueue: @unchecked Sendable {
  /// A power of two; memory is only touched as far as it is used.
  private static let capacity = 8192

  private let lessons: UnsafeMutablePointer<Lesson>
  /// Lessons that were written and read since the beginning, modulo the machine's word.
  private let written = Atomic<Int>(0)
  private let read = Atomic<Int>(0)

  init() {
    unsafe lessons = .allocate(capacity: Self.capacity)
  }

  deinit {
    unsafe lessons.deallocate()
  }

  /// Adds as many lessons as there is room for; for the writing worker only.
  func put(_ new: UnsafeBufferPointer<Lesson>) {
    let end = written.load(ordering: .relaxed)
    let room = Self.capacity &- (end &- read.load(ordering: .acquiring))
    let count = min(new.count, room)
    for offset in 0..<count {
      let place = (end &+ offset) & (Self.capacity &- 1)
      unsafe (lessons + place).initialize(to: new[offset])
    }
    written.store(end &+ count, ordering: .releasing)
  }

  /// Takes all lessons there are; for the reading worker only.
  func takeAll(into datapath: inout Datapath) {
    let start = read.load(ordering: .relaxed)
    let end = written.load(ordering: .acquiring)
    guard start != end else { return }
    var next = start
    while next != end {
      datapath.learn(unsafe lessons[next & (Self.capacity &- 1)])
      next &+= 1
    }
    read.store(end, ordering: .releasing)
  }
}

/// The ways by which one worker hears from each other worker of its switch, and tells them.
struct LessonExchange: Sendable {
  /// Whether the worker is the one that tells for all what one is to tell.
  private(set) var isSpokesman = false
  private(set) var incoming: [LessonQueue] = []
  private(set) var outgoing: [LessonQueue] = []

  /// Joins some workers, each to each.
  static func joining(_ count: Int) -> [LessonExchange] {
    var exchanges = Array(repeating: LessonExchange(), count: count)
    exchanges[0].isSpokesman = true
    for sender in 0..<count {
      for receiver in 0..<count where receiver != sender {
        let queue = LessonQueue()
        exchanges[sender].outgoing.append(queue)
        exchanges[receiver].incoming.append(queue)
      }
    }
    return exchanges
  }
}
