private import Glibc
internal import SystemPackage

/// The descriptors of a device or a listening socket, one for each of its queues; closed when the
/// owner lets go of them.
///
/// Each queue is read by one worker, and the kernel chooses the queue by the flow, so that the
/// frames of a flow stay in their order.
package struct Queues: ~Copyable, Sendable {
  private var descriptors: [Int32]

  /// The first queue.
  init(_ first: consuming Descriptor) {
    descriptors = [first.release()]
  }

  /// Descriptors that nobody else closes, of one device; -1 stands for none, and `nil` means that
  /// there are none.
  package init?(owning shares: [Int32]) {
    descriptors = shares.filter { $0 >= 0 }
    if descriptors.isEmpty { return nil }
  }

  deinit {
    for number in descriptors { _ = Descriptor(owning: number) }
  }

  /// The first queue's descriptor, valid for as long as the owner lives.
  package var first: Int32 { descriptors[0] }

  package var count: Int { descriptors.count }

  /// All of them, valid for as long as the owner lives.
  var all: [Int32] { descriptors }

  mutating func append(_ queue: consuming Descriptor) {
    descriptors.append(queue.release())
  }

  /// Gives up ownership: the caller has to see to it that the numbers are closed.
  consuming func release() -> [Int32] {
    let numbers = descriptors
    descriptors = []
    return numbers
  }

  /// What one worker gets.
  struct Share: Sendable {
    /// The worker's own, to be closed by it.
    var descriptor: Int32
    /// Whether it reads by it; all write.
    var isRead: Bool
    /// Whether it is the one to tell what happens to the device.
    var isReporter: Bool
  }

  /// Deals the descriptors out in turns; each worker gets one at least.
  ///
  /// - Throws: As `shared`, which it is where there are no more descriptors than workers.
  consuming func dealt(among workers: Int) throws(LinuxError) -> [[Share]] {
    guard count > workers else { return try shared(among: workers, offset: 0).map { [$0] } }
    let descriptors = release()
    return (0..<workers).map { worker in
      stride(from: worker, to: descriptors.count, by: workers).map {
        Share(descriptor: descriptors[$0], isRead: true, isReporter: worker == 0)
      }
    }
  }

  /// Gives each worker a descriptor of its own.
  ///
  /// Where there are fewer queues than workers, those without one get a duplicate to write by.
  ///
  /// - Parameters:
  ///   - workers: How many there are.
  ///   - offset: Any number, to have different devices read by different workers.
  /// - Returns: A share for each worker.
  /// - Throws: Where no more descriptors can be open; all are closed then.
  consuming func shared(
    among workers: Int, offset: Int
  ) throws(LinuxError) -> [Share] {
    let descriptors = release()
    var shares: [Share?] = Array(repeating: nil, count: workers)
    var refusal: LinuxError?
    for turn in 0..<workers {
      let number =
        turn < descriptors.count
        ? descriptors[turn] : fcntl(descriptors[0], F_DUPFD_CLOEXEC, 0)
      if number < 0 {
        refusal = LinuxError(
          action: "duplicate", subject: "a descriptor for another worker", errno: .latest,
          remedy:
            "raise the limit of open files (LimitNOFILE= of the service), or use fewer workers")
        continue
      }
      shares[(turn + offset) % workers] = Share(
        descriptor: number, isRead: turn < descriptors.count, isReporter: turn == 0)
    }
    for number in descriptors.dropFirst(workers) { _ = Descriptor(owning: number) }
    if let refusal {
      for share in shares { if let share { _ = Descriptor(owning: share.descriptor) } }
      throw refusal
    }
    return shares.compactMap { $0 }
  }
}
