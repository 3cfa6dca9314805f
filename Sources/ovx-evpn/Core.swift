private import Dispatch
private import Glibc
internal import OVXControl
internal import OVXEVPN
private import Synchronization

/// The agent, which several threads have news for, and who waits for what comes of it.
final class Core: Sendable {
  private let agent: Mutex<Agent>
  private let start = ContinuousClock.now
  private let faults = Mutex<[String: String]>([:])
  /// Whoever tells the switch.
  private let switchNews = DispatchSemaphore(value: 0)
  /// Whoever tells the engine, and who asks it.
  let engineNews: AsyncStream<Void>
  private let engineContinuation: AsyncStream<Void>.Continuation
  let questions: AsyncStream<Void>
  private let questionContinuation: AsyncStream<Void>.Continuation

  init() {
    agent = Mutex(Agent(at: 0))
    (engineNews, engineContinuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    (questions, questionContinuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
  }

  /// Has the agent take something in, logs what it has to say, and wakes those who may have something to do.
  ///
  /// - Parameter body: Is given the time in milliseconds.
  func update<Result: Sendable>(_ body: (inout Agent, Int64) -> Result) -> Result {
    let (result, notices) = agent.withLock { agent in
      let result = body(&agent, now)
      let notices = agent.notices
      agent.notices = []
      return (result, notices)
    }
    for notice in notices { Self.log(notice) }
    switchNews.signal()
    engineContinuation.yield()
    questionContinuation.yield()
    return result
  }

  /// The engine says that something is new of its peers.
  func peersChanged() { questionContinuation.yield() }

  /// Takes something out of the agent, which gives nobody news.
  func take<Result: Sendable>(_ body: (inout Agent, Int64) throws(ControlError) -> Result)
    throws(ControlError) -> Result
  {
    let result: Swift.Result<Result, ControlError> = agent.withLock { agent in
      do throws(ControlError) { return .success(try body(&agent, now)) } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// Waits for news for the switch.
  func awaitSwitchNews(milliseconds: Int) {
    guard switchNews.wait(timeout: .now() + .milliseconds(milliseconds)) == .success else { return }
    // However often it was signaled, it is looked at once.
    while switchNews.wait(timeout: .now()) == .success {}
  }

  private var now: Int64 { Int64((ContinuousClock.now - start) / .milliseconds(1)) }

  // MARK: Log

  /// Tells what is wrong with something, unless that has been told.
  func tell(_ sentence: String, about subject: String) {
    let isNew = faults.withLock { faults in
      let isNew = faults[subject] != sentence
      faults[subject] = sentence
      return isNew
    }
    if isNew { Self.log(Notice(.warning, sentence)) }
  }

  /// Takes notice that nothing is wrong with something any more.
  ///
  /// - Parameter sentence: What is said where something was.
  func clear(_ subject: String, _ sentence: String) {
    if faults.withLock({ $0.removeValue(forKey: subject) }) != nil {
      Self.log(Notice(.info, sentence))
    }
  }

  private static func log(_ notice: Notice) {
    // What others named must not forge lines, nor drive the terminal that shows them.
    var bytes = Array("ovx-evpn: \(notice.level.rawValue): \(printable(brief(notice.text)))\n".utf8)
    _ = unsafe Glibc.write(STDERR_FILENO, &bytes, bytes.count)
  }
}
