internal import OVXDatapath
internal import OVXLinux

/// What ICMP messages claim of paths through routers, and what comes of asking the far end.
///
/// Whoever knows or guesses the ports of a tunnel can forge a message, and a path that is believed
/// to be narrow takes from every tenant. So none is believed before a packet of the size that is in
/// use was sent to the far end by an echo request (RFC 8899, section 4.6.1, has messages verified;
/// section 3 knows padding of any kind that the far end confirms). If that is answered, the message
/// is wrong. If not, not even after some attempts, it is believed, down to the floor that
/// `KernelView` knows: then the path is narrow, or the far end answers none. What is in use may
/// also have become too small: that is tried once a minute.
struct PathClaims {
  private struct Path {
    /// The MTU in use.
    var inUse: Int
    /// The largest that there can be: the device's, or what is configured for the route.
    var widest: Int
    /// The claim that was asked about last.
    var claimed: Int
    var round: Round?
    /// When the last round ended, in milliseconds.
    var decided: Int64
  }

  /// Some attempts with packets of one size.
  private final class Round {
    let probe: PathProbe
    let size: Int
    /// The MTU to use where none of them is answered.
    let fallback: Int
    var attempts = 0
    var next: Int64

    init(_ probe: consuming PathProbe, size: Int, fallback: Int, now: Int64) {
      self.probe = probe
      self.size = size
      self.fallback = fallback
      next = now
    }
  }

  private static let attemptLimit = 4
  /// Milliseconds between two attempts.
  private static let attemptInterval: Int64 = 150
  /// Milliseconds after which a claim that was found wrong is asked about again, if it is still
  /// there.
  private static let doubtInterval: Int64 = 5_000
  /// Milliseconds after which a wider path is tried.
  private static let wideningInterval: Int64 = 60_000
  /// Rounds at a time; each has a socket.
  private static let roundLimit = 64

  private var paths: [DesiredState.Remote: Path] = [:]

  /// The MTU to use for a path of which something is claimed.
  ///
  /// - Parameters:
  ///   - remote: The far end.
  ///   - claimed: What an ICMP message has said.
  ///   - widest: The MTU of the device or the route.
  ///   - source: The address to ask from.
  ///   - now: Milliseconds on the monotonic clock.
  /// - Returns: The largest packet that gets there, as far as is known.
  mutating func mtu(
    to remote: DesiredState.Remote, claimed: Int, widest: Int, from source: IPAddress?, now: Int64
  ) -> Int {
    var path =
      paths[remote]
      ?? Path(inUse: widest, widest: widest, claimed: widest, decided: now - Self.doubtInterval)
    path.widest = widest
    path.inUse = min(path.inUse, widest)
    let isNews = path.claimed != claimed || now - path.decided >= Self.doubtInterval
    if claimed < path.inUse, path.round == nil, isNews {
      path.claimed = claimed
      path.round = round(
        to: remote, from: source, size: path.inUse, fallback: claimed, now: now)
    }
    paths[remote] = path
    return path.inUse
  }

  /// Forgets all paths but those to some remotes.
  mutating func keep(_ remotes: Set<DesiredState.Remote>) {
    paths = paths.filter { remotes.contains($0.key) }
  }

  /// Forgets a path of which nothing is claimed any more.
  mutating func forget(_ remote: DesiredState.Remote) { paths[remote] = nil }

  private func round(
    to remote: DesiredState.Remote, from source: IPAddress?, size: Int, fallback: Int, now: Int64
  ) -> Round? {
    guard paths.values.count(where: { $0.round != nil }) < Self.roundLimit else { return nil }
    do throws(LinuxError) {
      let probe = try PathProbe(to: remote.address, from: source)
      return Round(probe, size: size, fallback: fallback, now: now)
    } catch {
      return nil
    }
  }

  /// When there is something to do next, in milliseconds on the monotonic clock; `nil` for never.
  var nextStep: Int64? {
    paths.values.compactMap { path in
      path.round?.next ?? (path.inUse < path.widest ? path.decided + Self.wideningInterval : nil)
    }.min()
  }

  /// Takes in answers, and asks again.
  ///
  /// - Parameter now: Milliseconds on the monotonic clock.
  /// - Returns: Whether another MTU is to be used for some path.
  mutating func proceed(now: Int64) -> Bool {
    var isChanged = false
    for (remote, path) in paths {
      var path = path
      if path.round == nil, path.inUse < path.widest,
        now >= path.decided + Self.wideningInterval
      {
        path.round = round(
          to: remote, from: remote.local, size: path.widest, fallback: path.inUse, now: now)
        if path.round == nil { path.decided = now }
      }
      guard let round = path.round else {
        paths[remote] = path
        continue
      }
      let isAnswered = round.probe.takeAnswers().contains(round.size)
      if isAnswered || (now >= round.next && round.attempts == Self.attemptLimit) {
        let mtu = isAnswered ? round.size : round.fallback
        isChanged = isChanged || mtu != path.inUse
        path.inUse = mtu
        path.round = nil
        path.decided = now
      } else if now >= round.next {
        round.probe.send(byteCount: round.size)
        round.attempts += 1
        round.next = now + Self.attemptInterval
      }
      paths[remote] = path
    }
    return isChanged
  }
}
