private import Glibc
internal import OVXControl
package import OVXLinux
private import SystemPackage

/// What is known of the containers that interfaces are attached to: where their namespaces are, and
/// whether they are still the ones that were attached.
///
/// A container is its network namespace. One that is named as `ip netns` does it, by a path or by a
/// process is looked for whenever there is a reason, at the cost of a system call. One of docker or
/// podman has an id, by which it is told from another of the same name, and has to be asked for:
/// `ContainerInquiries` does that on a thread of its own, and whoever needs the answer comes back
/// when it is there.
///
/// What happens to containers is announced by the directory of names, and by the programs that run
/// them (`docker events`). Where those announce nothing, they are asked from time to time.
package final class Containers {
  /// Milliseconds for which an answer is good enough to do something in a container.
  ///
  /// Its process may end at any time,
  /// and its number be given to another one's.
  private static let freshness: Int64 = 2000
  /// Milliseconds between two rounds of questions where nothing is announced; more where a round
  /// takes long.
  private static let interval: Int64 = 3000

  private struct Answer {
    var answer: ContainerInquiries.Answer
    /// When it came, in milliseconds on the monotonic clock.
    var time: Int64
  }

  private let inquiries: ContainerInquiries
  private let watch: NamespaceWatch?
  private var answers: [ContainerInquiries.Question: Answer] = [:]
  private var announcers: [EngineEvents] = []
  private var nextStart: Int64 = 0
  private var nextRound: Int64 = 0
  private var roundStart: Int64?

  package init() throws(LinuxError) {
    inquiries = try ContainerInquiries()
    watch = try? NamespaceWatch()
  }

  /// To be polled for `POLLIN`.
  package var descriptors: [Int32] {
    [inquiries.descriptor, watch?.rawValue ?? -1] + announcers.map(\.rawValue)
  }

  // MARK: Asking

  /// A container as an attachment names it.
  package struct Target: Hashable {
    /// As it was typed.
    package var name: String
    /// Which one it is; see `Configuration.Attachment.container`.
    package var container: String?

    package init(name: String, container: String? = nil) {
      self.name = name
      self.container = container
    }

    /// What has to be asked to find it; `nil` where nobody need be asked.
    fileprivate var question: ContainerInquiries.Question? {
      if container == "" { return nil }
      guard container != nil || NetworkNamespace.needsAsking(for: name) else { return nil }
      return ContainerInquiries.Question(name: name, id: container)
    }
  }

  /// Whether it is known, as of now, where a container is, or that it cannot be known; asks where
  /// not.
  package func isKnown(_ target: Target) -> Bool {
    guard let question = target.question, freshAnswer(question) == nil else { return true }
    inquiries.ask(question)
    return false
  }

  private func freshAnswer(
    _ question: ContainerInquiries.Question
  ) -> ContainerInquiries.Answer? {
    guard let known = answers[question],
      monotonicMilliseconds() - known.time < Self.freshness
    else { return nil }
    return known.answer
  }

  /// The namespace of a container, under the name that its user gave it.
  ///
  /// - Throws: `ENOENT` where it is gone; `EINPROGRESS` where it is being asked for, and the answer
  ///   is news to come.
  package func namespace(of target: Target) throws(LinuxError) -> NetworkNamespace {
    guard let question = target.question else {
      return try NetworkNamespace.find(withoutAsking: target.name)
    }
    if let answer = freshAnswer(question) {
      return try NetworkNamespace.of(try answer.get(), name: target.name)
    }
    // What has gone, or cannot be known, is asked for again when that has been announced, or it is
    // time.
    if case .failure(let error) = answers[question]?.answer { throw error }
    inquiries.ask(question)
    throw LinuxError(
      action: "find", subject: "container \(target.name)", errno: .nowInProgress,
      detail: "docker and podman have not answered yet",
      remedy: "the port is in service as soon as they have")
  }

  /// What is to be noted as the container of a target that was found; `nil` where nobody has said.
  package func container(of target: Target) -> String? {
    guard let question = target.question else {
      return target.name.contains("/") || target.name.hasPrefix("pid:") ? nil : ""
    }
    guard case .success(let container) = freshAnswer(question) else { return nil }
    return container.id
  }

  /// Which namespace a container has; `nil` where that is not known at the moment, and the inner
  /// one where the container is gone or does not run.
  package func identity(of target: Target) -> NetworkNamespace.Identity?? {
    guard let question = target.question else {
      do throws(LinuxError) {
        return .some(try NetworkNamespace.find(withoutAsking: target.name).identity)
      } catch {
        return error.isOfShortage ? nil : .some(nil)
      }
    }
    switch freshAnswer(question) {
    case .success(let container):
      do throws(LinuxError) {
        return .some(try NetworkNamespace(pid: container.pid).identity)
      } catch {
        return error.isOfShortage ? nil : .some(nil)
      }
    case .failure(let error) where error.isOfGoneContainer: return .some(nil)
    case .failure, nil: return nil
    }
  }

  /// Whether a container is certain to be gone for good.
  package func isGone(_ target: Target) -> Bool {
    guard let question = target.question else {
      do throws(LinuxError) {
        _ = try NetworkNamespace.find(withoutAsking: target.name)
        return false
      } catch {
        return !error.isOfShortage
      }
    }
    guard case .failure(let error) = freshAnswer(question) else { return false }
    return error.errno == .noSuchFileOrDirectory
  }

  /// Waits for the answers to all questions that were asked, but not longer than so many
  /// milliseconds.
  package func settle(milliseconds: Int64) {
    let end = monotonicMilliseconds() + milliseconds
    while inquiries.areUnderWay, monotonicMilliseconds() < end {
      inquiries.wait(milliseconds: 50)
      takeAnswers()
    }
    takeAnswers()
  }

  // MARK: News

  /// What has become known since it was asked last.
  package struct News {
    /// Whether docker or podman has answered something.
    package var areAnswered = false
    /// Whether names of namespaces may have come or gone.
    package var areNamesChanged = false
    /// Whether docker or podman has announced something.
    package var areEnginesChanged = false
  }

  package func takeNews() -> News {
    var news = News()
    news.areAnswered = takeAnswers()
    news.areNamesChanged = watch?.takeChanges() ?? false
    for announcer in announcers where announcer.takeNews() { news.areEnginesChanged = true }
    announcers.removeAll { $0.hasEnded }
    return news
  }

  /// Returns whether there were any.
  @discardableResult
  private func takeAnswers() -> Bool {
    let now = monotonicMilliseconds()
    let taken = inquiries.takeAnswers()
    for (question, answer) in taken {
      answers[question] = Answer(answer: answer, time: now)
      // From now on it may be asked for by its id.
      if question.id == nil, case .success(let container) = answer, let id = container.id {
        answers[ContainerInquiries.Question(name: question.name, id: id)] = answers[question]
      }
    }
    let isHanging = taken.contains { _, answer in
      if case .failure(let error) = answer { error.errno == .timedOut } else { false }
    }
    // What hangs announces nothing, either.
    if isHanging { stop() }
    if let start = roundStart, !inquiries.areUnderWay {
      roundStart = nil
      // A tenth of the time at most is spent on it, unless that is spent waiting.
      nextRound = max(nextRound, now + (isHanging ? 0 : min((now - start) * 10, 30_000)))
    }
    return !taken.isEmpty
  }

  /// Whether something has to be asked for because nothing announces it.
  ///
  /// Not all that announces announces everything.
  package func isRoundDue(now: Int64) -> Bool {
    now >= nextRound + (announcers.isEmpty ? 0 : 9 * Self.interval)
  }

  /// Whether something is asked and not answered yet.
  package var areAsking: Bool { inquiries.areUnderWay }

  /// Asks for all containers that are attached to, and has what happens to them announced from now
  /// on.
  package func beginRound(_ targets: Set<Target>, now: Int64) {
    let questions = Set(targets.compactMap(\.question))
    answers = answers.filter { questions.contains($0.key) || now - $0.value.time < Self.freshness }
    guard !questions.isEmpty else { return stop() }
    nextRound = now + Self.interval
    if announcers.isEmpty, now >= nextStart {
      nextStart = now + Self.interval
      announcers = EngineEvents.startAll()
    }
    if roundStart == nil { roundStart = now }
    for question in questions { inquiries.ask(question) }
  }

  /// Ends the programs that announce.
  package func stop() {
    for announcer in announcers { announcer.stop() }
    announcers = []
  }
}

extension LinuxError {
  /// Whether a container is certain to be gone, or not to run.
  var isOfGoneContainer: Bool { errno == .noSuchFileOrDirectory || errno == .noSuchProcess }

  /// Whether the daemon has no descriptor left to look with, or nobody who looks for it, which says
  /// nothing of what it looks for.
  var isOfShortage: Bool {
    [.tooManyOpenFiles, .tooManyOpenFilesInSystem, .noMemory, .resourceTemporarilyUnavailable]
      .contains(errno)
  }

  /// Whether somebody was asked where a container is, and has not answered so far.
  var isWithoutAnswer: Bool { errno == .nowInProgress || errno == .timedOut }
}
