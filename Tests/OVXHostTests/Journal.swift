import Glibc
import SystemPackage

@testable import OVXLinux

/// What the fakes were asked to do, in order, and which of it they are to refuse.
final class Journal {
  private(set) var entries: [String] = []
  /// An operation that can be refused, and the how many-th of its kind it is, from 1 on.
  struct Step: Hashable {
    var entry: String
    var occurrence: Int
  }

  /// The operations that can be refused, and were asked for so far.
  private(set) var steps: [Step] = []
  private var counts: [String: Int] = [:]
  /// Which of them to refuse.
  var failing: Step?
  /// Beginnings of operations to refuse, each time, and with what.
  var refusals: [String: Errno] = [:]

  /// Called before each of them is done.
  var beforeStep: () -> Void = {}

  func clear() {
    entries = []
    steps = []
    counts = [:]
  }

  /// Notes an operation that cannot be refused.
  func note(_ entry: String) { entries.append(entry) }

  /// Notes an operation, and refuses it where it is its turn.
  func perform(_ entry: String) throws(LinuxError) {
    counts[entry, default: 0] += 1
    beforeStep()
    let step = Step(entry: entry, occurrence: counts[entry, default: 0])
    steps.append(step)
    let errno =
      step == failing ? Errno.noMemory : refusals.first { entry.hasPrefix($0.key) }?.value
    entries.append(errno == nil ? entry : "refused: \(entry)")
    if let errno { throw LinuxError(action: "perform", subject: entry, errno: errno) }
  }

  /// Where an operation is, if it was asked for once.
  func index(of entry: String) -> Int? {
    let indices = entries.indices.filter { entries[$0] == entry }
    return indices.count == 1 ? indices[0] : nil
  }

  // MARK: Descriptors

  private struct Pipe {
    var name: String
    /// The end that stays here; the other one was given out.
    var end: Int32
    var givenNumber: Int32
  }

  private var pipes: [Pipe] = []

  deinit {
    for pipe in pipes { close(pipe.end) }
  }

  /// A descriptor that stands for something.
  func descriptor(for name: String) -> Descriptor {
    forgetClosed()
    var ends: [Int32] = [-1, -1]
    let made = unsafe ends.withUnsafeMutableBufferPointer {
      unsafe pipe($0.baseAddress)
    }
    precondition(made == 0, "no pipe")
    pipes.append(Pipe(name: name, end: ends[0], givenNumber: ends[1]))
    return Descriptor(owning: ends[1])
  }

  /// What a descriptor that is open stands for.
  func name(of number: Int32) -> String {
    forgetClosed()
    return pipes.first { $0.givenNumber == number }?.name ?? "?"
  }

  /// What the descriptors stand for that are open, in alphabetical order.
  var openDescriptors: [String] {
    forgetClosed()
    return pipes.map(\.name).sorted()
  }

  private func forgetClosed() {
    pipes.removeAll { pipe in
      var entry = pollfd(fd: pipe.end, events: 0, revents: 0)
      _ = unsafe poll(&entry, 1, 0)
      guard Int32(entry.revents) & POLLHUP != 0 else { return false }
      close(pipe.end)
      return true
    }
  }
}
