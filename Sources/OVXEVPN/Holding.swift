/// Whether what is known of other hosts is held although nobody tells of it.
///
/// That begins with the agent, and with each loss of the engine or of its last peer. It ends when a
/// peer is there and has said all that it has to say, or when the hold time is over. GoBGP 3.10
/// does not tell of a peer's End-of-RIB (RFC 4724, section 2), so that a peer counts as having said
/// all when it has said nothing for a while.
struct Holding {
  /// Milliseconds for which a peer is to be silent.
  static let silence: Int64 = 5000

  private var since: Int64?
  private var peerSince: Int64?
  private var lastRoute: Int64

  init(since now: Int64) {
    since = now
    lastRoute = now
  }

  var isHolding: Bool { since != nil }
  var hasPeer: Bool { peerSince != nil }

  /// Milliseconds since it has begun; `nil` while nothing is held.
  func age(at now: Int64) -> Int64? { since.map { now - $0 } }

  mutating func lost(at now: Int64) {
    since = now
    peerSince = nil
  }

  mutating func peerEstablished(at now: Int64) {
    if peerSince == nil { peerSince = now }
  }

  /// A route was told.
  mutating func routed(at now: Int64) { lastRoute = now }

  /// Whether it ends now: what was not told again is to go.
  ///
  /// - Parameters:
  ///   - now: In milliseconds.
  ///   - hold: Seconds; 0 for ever.
  ///   - isListed: Whether the engine's routes are all known.
  /// - Returns: Once, that it does.
  mutating func ends(at now: Int64, hold: Int, isListed: Bool) -> Bool {
    guard let since else { return false }
    let isTold =
      isListed && peerSince.map { now - $0 >= Self.silence } == true
      && now - lastRoute >= Self.silence
    guard isTold || (hold > 0 && now - since >= Int64(hold) * 1000) else { return false }
    self.since = nil
    return true
  }
}
