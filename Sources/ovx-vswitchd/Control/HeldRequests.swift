internal import OVXControl
private import OVXLinux

// Requests that wait until something is so: `wait-until`.

extension ControlServer {
  /// Requests that are held at a time, and those of them whose clients may only look.
  static let heldLimit = 128
  static let readerHeldLimit = 64
  /// Bytes that they came in, together.
  static let heldByteLimit = 16 << 20
  /// Milliseconds between two looks at counters that a request waits for.
  private static let counterInterval: Int64 = 100

  /// A request that waits until something is so.
  struct HeldRequest {
    let request: Request
    let news: AwaitedNews
    /// Bytes that it came in.
    let size: Int
    /// When it came, in milliseconds on the monotonic clock.
    let time: Int64
    /// When it is to be looked at next, on that clock: when its time is over, or before.
    var nextLook: Int64

    init(_ request: Request, _ news: AwaitedNews, size: Int, time: Int64, now: Int64) {
      self.request = request
      self.news = news
      self.size = size
      self.time = time
      let end = time + request.timeoutMilliseconds
      nextLook = news.includesCounters ? min(end, now + counterInterval) : end
    }
  }

  /// Looks anew at held requests: those for which there is news, and those whose time is over.
  ///
  /// To be called with all news before anything else is done. Where it takes long, some have their
  /// turn with the next call.
  ///
  /// - Parameters:
  ///   - examined: The ports of which something may have become.
  ///   - isConfigured: Whether the configuration has changed.
  ///   - answer: Says what becomes of requests.
  /// - Returns: Whether any was looked at, which may have made news.
  func resumeHeld(examined: Set<String>, isConfigured: Bool, answer: Answer) -> Bool {
    let now = monotonicMilliseconds()
    var isAnyResumed = false
    for index in clients.indices {
      guard let held = clients[index].held else { continue }
      if held.news.isAmong(examined, isConfigured: isConfigured) {
        clients[index].held?.nextLook = now
      } else if held.nextLook > now {
        continue
      }
      guard monotonicMilliseconds() < now + Self.sliceLimit else { continue }
      clients[index].mayHoldRequest = true
      takeRequest(index, now: now / 1000, answer: answer)
      isAnyResumed = true
    }
    return isAnyResumed
  }

  /// Why one more request cannot be held; `nil` where it can.
  func refusalToHold(_ size: Int, right: Right) -> ControlError? {
    let holding = clients.filter { $0.held != nil }
    let bytes = holding.reduce(size) { $0 + ($1.held?.size ?? 0) }
    guard holding.count < Self.heldLimit, bytes <= Self.heldByteLimit else {
      return ControlError(
        "\(holding.count) requests wait already, and there can be no more; end one of them first")
    }
    guard right > .look || holding.count(where: { $0.right == .look }) < Self.readerHeldLimit
    else {
      return ControlError(
        "\(Self.readerHeldLimit) requests of users who may only look wait already, and there can be no more; end one of "
          + "them first")
    }
    return nil
  }
}
