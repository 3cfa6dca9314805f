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
  private let listeners = Mutex<[Int: AsyncStream<Void>.Continuation]>([:])

  init() { agent = Mutex(Agent(at: 0)) }

  /// A stream that says when there may be news, and by which it can be said as well; what comes
  /// while nobody looks is said once.
  func listen() -> (news: AsyncStream<Void>, tick: AsyncStream<Void>.Continuation) {
    let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
    let number = listeners.withLock { listeners in
      let number = (listeners.keys.max() ?? 0) + 1
      listeners[number] = continuation
      return number
    }
    continuation.onTermination = { _ in
      _ = self.listeners.withLock { $0.removeValue(forKey: number) }
    }
    continuation.yield()
    return (stream, continuation)
  }

  /// Has the agent take something in, logs what it has to say, and wakes those who may have
  /// something to do.
  ///
  /// - Parameters:
  ///   - wakesSwitch: Whether the switch may have to be told of it.
  ///   - body: Is given the time in milliseconds.
  func update(wakesSwitch: Bool = true, _ body: (inout Agent, Int64) -> Void) {
    let (notices, wakesEngine) = agent.withLock { agent in
      body(&agent, now)
      defer { agent.notices = [] }
      return (agent.notices, agent.hasBusinessWithEngine)
    }
    for notice in notices { Self.log(notice) }
    if wakesSwitch { switchNews.signal() }
    // Of thousands of routes that come in nothing has to be told to anybody but the switch, and to
    // wake a thread for each takes more than to take it in.
    if wakesEngine { wake() }
  }

  /// Wakes those who tell or ask the engine.
  func wake() {
    let listeners = listeners.withLock { Array($0.values) }
    for listener in listeners { listener.yield() }
  }

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
      // Sentences of the switch have numbers in them; those of long ago may be told again.
      if faults.count >= 256 { faults = [:] }
      let isNew = faults[subject] != sentence
      faults[subject] = sentence
      return isNew
    }
    if isNew { Self.log(Notice(.warning, sentence)) }
  }

  /// Takes notice that nothing is wrong with something any more.
  ///
  /// - Parameters:
  ///   - subject: The something.
  ///   - sentence: What is said where something was wrong.
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
