internal import OVXControl
internal import OVXDatapath

/// Routes that were withdrawn, and are in force all the same.
///
/// A reflector withdraws all that a host has told when that host's BGP speaker dies, be the host as
/// well as ever: with it goes all of its routes at about the same time, also that for broadcasts.
/// So they stay for as long as the host gives signs of life, and until it has told its routes
/// again. Whoever tells otherwise meanwhile is right: see `StationRoute.precedes`.
///
/// A single route that is withdrawn, of a station that has gone, waits only for as long as it may
/// be the first of all. Its IP address does not wait: whoever is given it next is not to be told
/// that it is in use.
///
/// Times are in milliseconds.
struct Withdrawals {
  /// For how long nothing more of a VTEP is to be withdrawn, so that what was is all.
  static let quiet: Int64 = 200
  /// For how long that goes on at most where more and more is withdrawn.
  static let settling: Int64 = 10_000
  /// Within which time a host has to give a sign of life when all of its routes were withdrawn.
  static let doubt: Int64 = 500
  /// The same later on.
  static let silence: Int64 = 3000
  /// For how long a host is believed that answers echo requests and sends no frame: as long as a
  /// BGP speaker takes to be back.
  static let idleness: Int64 = 30_000
  /// Between two questions for signs of life, while in doubt and later on.
  static let doubtfulPause: Int64 = 100
  static let pause: Int64 = 1000

  /// What becomes of a VTEP of which routes were withdrawn.
  private enum Phase {
    /// It is not known whether that was all.
    case settling
    /// All of its routes are gone, and it has given no sign of life since it was first asked for
    /// one.
    case doubted(since: Int64?)
    case held(lastSign: Int64)
  }

  private struct VTEP {
    /// Routes that are told, and were not withdrawn.
    var told = 0
    var withdrawn: Set<RouteKey> = []
    /// Those among the withdrawn by which it takes broadcasts.
    var multicasts = 0
    var phase = Phase.settling
    /// When the first route was withdrawn, and the last.
    var since: Int64 = 0
    var latest: Int64 = 0
    /// When a route was told again.
    var toldAgain: Int64?
    var signs: SignsOfLife?
    var lastFrame: Int64 = 0
    var asked: Int64?
  }

  private var vteps: [IPAddress: VTEP] = [:]
  /// Those of which something was withdrawn.
  private var affected: Set<IPAddress> = []
  /// Those that were held, and have told all of their routes again.
  var returned: [IPAddress] = []

  /// Whether anything was withdrawn that is in force.
  var isEmpty: Bool { affected.isEmpty }

  /// A VTEP whose routes are held, for `evpn show`.
  struct Held {
    var vtep: IPAddress
    var since: Int64
    var routes: Int
  }

  var held: [Held] {
    affected.sorted().compactMap { address in
      guard let vtep = vteps[address], case .held = vtep.phase else { return nil }
      return Held(vtep: address, since: vtep.since, routes: vtep.withdrawn.count)
    }
  }

  /// The routes of a VTEP that are held; none where that is not known yet.
  func heldRoutes(of address: IPAddress) -> Set<RouteKey> {
    guard let vtep = vteps[address], case .held = vtep.phase else { return [] }
    return vtep.withdrawn
  }

  /// Whether a VTEP's routes that were withdrawn are held.
  func isHeld(_ address: IPAddress) -> Bool {
    guard let vtep = vteps[address], case .held = vtep.phase else { return false }
    return true
  }

  // MARK: Routes

  /// A route is told, or told again.
  ///
  /// - Parameters:
  ///   - key: The route.
  ///   - address: Its VTEP.
  ///   - isNew: Whether it is not in force yet.
  ///   - now: The time.
  mutating func told(_ key: RouteKey, of address: IPAddress, isNew: Bool, at now: Int64) {
    if isNew { vteps[address, default: VTEP()].told += 1 }
    guard affected.contains(address), var vtep = vteps.removeValue(forKey: address) else { return }
    if vtep.withdrawn.remove(key) != nil {
      vtep.told += 1
      if key.isMulticast { vtep.multicasts -= 1 }
    }
    switch vtep.phase {
    case .settling: break
    case .doubted, .held:
      vtep.phase = .held(lastSign: now)
      vtep.toldAgain = now
    }
    put(vtep, of: address)
  }

  /// A route in force is withdrawn.
  mutating func withdrawn(_ key: RouteKey, of address: IPAddress, at now: Int64) {
    guard var vtep = vteps[address], !vtep.withdrawn.contains(key) else { return }
    // One copy, and that changed in place.
    vteps[address] = nil
    if vtep.withdrawn.isEmpty { vtep.since = now }
    vtep.withdrawn.insert(key)
    vtep.told -= 1
    if key.isMulticast { vtep.multicasts += 1 }
    vtep.latest = now
    if case .settling = vtep.phase, vtep.told == 0, vtep.multicasts > 0 {
      vtep.phase = .doubted(since: nil)
      vtep.signs = nil
      vtep.asked = nil
      vtep.lastFrame = now
    }
    put(vtep, of: address)
  }

  /// A route is in force no more.
  mutating func removed(_ key: RouteKey, of address: IPAddress) {
    guard var vtep = vteps.removeValue(forKey: address) else { return }
    if vtep.withdrawn.remove(key) != nil {
      if key.isMulticast { vtep.multicasts -= 1 }
    } else {
      vtep.told -= 1
    }
    put(vtep, of: address)
  }

  private mutating func put(_ vtep: VTEP, of address: IPAddress) {
    var vtep = vtep
    if vtep.withdrawn.isEmpty {
      if case .held = vtep.phase, vtep.told > 0 { returned.append(address) }
      affected.remove(address)
      vtep = VTEP(told: vtep.told)
    } else {
      affected.insert(address)
    }
    vteps[address] = vtep.told == 0 && vtep.withdrawn.isEmpty ? nil : vtep
  }

  // MARK: Signs of life

  /// Whose signs of life are to be asked for now.
  func questions(at now: Int64) -> [IPAddress] {
    Array(affected.filter { nextQuestion($0).map { $0 <= now } == true }.prefix(SignsOfLife.limit))
  }

  private func nextQuestion(_ address: IPAddress) -> Int64? {
    guard let vtep = vteps[address] else { return nil }
    switch vtep.phase {
    case .settling: return nil
    case .doubted: return vtep.asked.map { $0 + Self.doubtfulPause } ?? .min
    case .held: return vtep.asked.map { $0 + Self.pause } ?? .min
    }
  }

  /// What the switch answers.
  ///
  /// - Parameters:
  ///   - asked: Whom it was asked about.
  ///   - answer: Without those that it does not know.
  ///   - now: The time.
  /// - Returns: VTEPs that are held from now on.
  mutating func heard(_ asked: [IPAddress], _ answer: [SignsOfLife], at now: Int64) -> [IPAddress] {
    let signs = Dictionary(answer.map { ($0.vtep, $0) }, uniquingKeysWith: { $1 })
    var held: [IPAddress] = []
    for address in asked where affected.contains(address) {
      guard var vtep = vteps[address] else { continue }
      vtep.asked = now
      let (old, new) = (vtep.signs, signs[address])
      vtep.signs = new
      let hasSent = old.map { $0.frames != new?.frames } ?? false
      if hasSent { vtep.lastFrame = now }
      let isThere = new != nil && old.map { $0 != new } ?? false
      switch vtep.phase {
      case .settling: break
      case .doubted(let since):
        vtep.phase = isThere ? .held(lastSign: now) : .doubted(since: since ?? now)
        if isThere { held.append(address) }
      case .held: if isThere { vtep.phase = .held(lastSign: now) }
      }
      vteps[address] = vtep
    }
    return held
  }

  // MARK: Time

  /// Finds what is not to be in force any more.
  ///
  /// - Parameters:
  ///   - now: The time.
  ///   - hold: Seconds for which routes are held at most; 0 for ever.
  /// - Returns: VTEPs, with the routes that are to go, and whether they were held until now.
  func due(at now: Int64, hold: Int) -> [(vtep: IPAddress, routes: [RouteKey], wasHeld: Bool)] {
    affected.compactMap { address in
      guard let vtep = vteps[address] else { return nil }
      let isOver = hold > 0 && now - vtep.since >= Int64(hold) * 1000
      let isDue: Bool
      var wasHeld = false
      switch vtep.phase {
      case .settling:
        isDue = now - vtep.latest >= Self.quiet || now - vtep.since >= Self.settling
      case .doubted(let since):
        isDue = isOver || since.map { now - $0 >= Self.doubt } == true
      case .held(let lastSign):
        wasHeld = vtep.toldAgain == nil
        isDue =
          isOver || now - lastSign >= Self.silence || now - vtep.lastFrame >= Self.idleness
          || vtep.toldAgain.map { now - $0 >= Holding.silence } == true
      }
      return isDue ? (address, Array(vtep.withdrawn), wasHeld) : nil
    }
  }

  /// Milliseconds until there may be something to do.
  func delay(at now: Int64) -> Int64? {
    affected.compactMap { address -> Int64? in
      guard let vtep = vteps[address] else { return nil }
      switch vtep.phase {
      case .settling: return min(vtep.latest + Self.quiet, vtep.since + Self.settling)
      case .doubted(let since):
        return [nextQuestion(address), since.map { $0 + Self.doubt }].compactMap(\.self).min()
      case .held: return nextQuestion(address)
      }
    }.min().map { max(0, $0 == .min ? 0 : $0 - now) }
  }
}

extension RouteKey {
  /// Whether it is of a VTEP that takes broadcasts.
  var isMulticast: Bool { if case .multicast = self { true } else { false } }
}
