private import Glibc
private import Synchronization
internal import SystemPackage

/// Questions to the programs that run containers, asked on a thread of its own: such a program may
/// take long to answer, or hang, and the control thread must not wait for it.
///
/// Questions are asked one after the other. Where one is not answered in time, those that wait are
/// not asked either: the program has a problem that they share.
package final class ContainerInquiries: Sendable {
  /// Which container is asked for.
  package struct Question: Hashable, Sendable {
    /// Its name or id, as a user wrote it.
    package var name: String
    /// The id of the container that had the name when it was attached; `nil` where that is not
    /// known.
    package var id: String?

    package init(name: String, id: String?) {
      self.name = name
      self.id = id
    }
  }

  /// A container that runs; or `ENOENT` where there is none, `ESRCH` where it does not run, and
  /// `EAGAIN` where no answer is to be had.
  package typealias Answer = Result<Container, LinuxError>

  private struct State {
    var waiting: [Question] = []
    var current: Question?
    var answers: [(Question, Answer)] = []
  }

  /// How long a program may take for one answer.
  package static let limit = Duration.seconds(5)

  private let searchPath: String?
  private let state = Mutex(State())
  private let signal: Descriptor

  /// - Parameter searchPath: Where to look for the programs; `nil` for `PATH`.
  /// - Throws: Where there are too many open files.
  package init(searchPath: String? = nil) throws(LinuxError) {
    self.searchPath = searchPath
    signal = try .event()
  }

  /// Readable while there are answers.
  package var descriptor: Int32 { signal.rawValue }

  /// Asks what is not being asked already.
  package func ask(_ question: Question) {
    let isFirst = state.withLock { state in
      guard state.current != question, !state.waiting.contains(question) else { return false }
      state.waiting.append(question)
      return state.waiting.count == 1 && state.current == nil
    }
    guard isFirst else { return }
    do throws(Errno) {
      pthread_detach(try startThread { self.serve() })
    } catch {
      let reason = LinuxError(
        action: "ask for", subject: "container \(question.name)",
        errno: .resourceTemporarilyUnavailable, detail: "there is no thread to do it (\(error))")
      abandon(reason)
    }
  }

  /// Whether something is asked and not answered yet.
  package var areUnderWay: Bool {
    state.withLock { $0.current != nil || !$0.waiting.isEmpty }
  }

  /// Takes the answers there are, the oldest first.
  package func takeAnswers() -> [(Question, Answer)] {
    state.withLock { state in
      signal.lower()
      defer { state.answers = [] }
      return state.answers
    }
  }

  /// Waits for answers, but not longer than so many milliseconds.
  package func wait(milliseconds: Int32) {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    _ = unsafe poll(&entry, 1, milliseconds)
  }

  private func serve() {
    while let question = next() {
      let answer = Self.answer(question, searchPath)
      state.withLock { state in
        state.answers.append((question, answer))
        state.current = nil
      }
      signal.raise()
      if case .failure(let error) = answer, error.errno == .timedOut { abandon(error) }
    }
  }

  private func next() -> Question? {
    state.withLock { state in
      state.current = state.waiting.isEmpty ? nil : state.waiting.removeFirst()
      return state.current
    }
  }

  /// Gives all that waits the same answer.
  private func abandon(_ error: LinuxError) {
    state.withLock { state in
      for question in state.waiting {
        var error = error
        error.subject = "container \(question.name)"
        state.answers.append((question, .failure(error)))
      }
      state.waiting = []
    }
    signal.raise()
  }

  private static func answer(_ question: Question, _ searchPath: String?) -> Answer {
    let deadline = ContinuousClock.now + limit
    var isReplaced = false
    do throws(LinuxError) {
      let container = try Container.find(question.name, searchPath: searchPath, until: deadline)
      if question.id == nil || container.id == nil || container.id == question.id {
        return .success(container)
      }
      isReplaced = true
    } catch {
      guard error.errno == .noSuchFileOrDirectory, question.id != nil else {
        return .failure(error)
      }
    }
    // It may have another name by now.
    guard let id = question.id else { return .failure(gone(question, isReplaced)) }
    do throws(LinuxError) {
      return .success(try Container.find(id, searchPath: searchPath, until: deadline))
    } catch {
      return .failure(
        error.errno == .noSuchFileOrDirectory ? gone(question, isReplaced) : error)
    }
  }

  private static func gone(_ question: Question, _ isReplaced: Bool) -> LinuxError {
    let id = question.id.map { " (\($0.prefix(12)))" } ?? ""
    return LinuxError(
      action: "find", subject: "container \(question.name)", errno: .noSuchFileOrDirectory,
      detail: "the one that was attached\(id) has been removed"
        + (isReplaced ? ", and the one that has its name now is another one" : ""))
  }
}
