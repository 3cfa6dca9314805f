package import Logging
package import OVXControl
internal import OVXLinux
private import SystemPackage

/// Keeps everybody but the daemon from sending VXLAN to its tunnels' remotes, by rules of the
/// host's packet filter.
///
/// The rules are there from the first tunnel that is in service to the last, and survive the
/// daemon, as containers' interfaces do: what ends it lets nobody through. Whoever loads another
/// rule set over them (`flush ruleset`) has them back within a moment.
package final class UnderlayFilter {
  private let rules: UnderlayRules
  private let isWanted: Bool
  private let logger: Logger
  private var connection: Nftables?
  private var events: NftablesEvents?
  /// What the rules are in force for.
  private var installed: Set<UnderlayRules.Destination> = []
  /// Why there are none although there should be.
  private var failure: String?
  /// Whether somebody has been at the table since it was made.
  private var isDamaged = false
  /// Who was at it last.
  private var culprit: String?
  /// Milliseconds on the monotonic clock before which the table is not made again, and not told of
  /// again.
  private var nextRepair: Int64 = 0
  private var nextReport: Int64 = 0

  /// Milliseconds between two repairs: against somebody who removes the rules all the time there is
  /// no winning.
  private static let repairInterval: Int64 = 100
  /// Milliseconds between two log lines about repairs.
  private static let reportInterval: Int64 = 60_000

  /// Prepares a filter; nothing is done before the first tunnel.
  ///
  /// - Parameters:
  ///   - database: The daemon's, which no other daemon has.
  ///   - isWanted: Whether there are to be rules at all.
  ///   - logger: Takes what an operator should know.
  package init(database: String, isWanted: Bool, logger: Logger) {
    rules = UnderlayRules(owner: database)
    self.isWanted = isWanted
    self.logger = logger
  }

  // MARK: Rules

  /// Has the rules be for these destinations, and no others.
  func update(to wanted: Set<UnderlayRules.Destination>) {
    guard isWanted, wanted != installed else { return }
    guard !wanted.isEmpty else { return removeAll() }
    do throws(LinuxError) {
      if installed.isEmpty || isDamaged {
        try install(wanted)
      } else {
        try change(to: wanted)
      }
      failure = nil
    } catch {
      fail(error)
    }
  }

  private func install(_ wanted: Set<UnderlayRules.Destination>) throws(LinuxError) {
    // Rules that took the daemon's own sockets for somebody else's would end all tunnels.
    guard UnderlayRules.canTellSockets else {
      throw LinuxError(
        action: "mark", subject: "the sockets of the tunnels", errno: .notPermitted,
        remedy: "run ovx-vswitchd as root, or with the capability CAP_SETGID")
    }
    try connect()
    try connection?.install(rules, for: wanted)
    installed = wanted
    isDamaged = false
  }

  private func change(to wanted: Set<UnderlayRules.Destination>) throws(LinuxError) {
    do {
      try connection?.change(
        rules, adding: wanted.subtracting(installed), removing: installed.subtracting(wanted))
      installed = wanted
    } catch {
      // Somebody has changed it, and the news of it is on its way.
      try install(wanted)
    }
  }

  /// Removes the rules, also those that a former daemon has left.
  func removeAll() {
    // Without rules others' are no news.
    events = nil
    installed = []
    isDamaged = false
    failure = nil
    do throws(LinuxError) {
      if connection == nil { connection = try Nftables() }
      try connection?.remove(rules)
    } catch {
      // Where there is no packet filter there is nothing to be removed either.
      logger.debug("\(error)")
    }
  }

  /// Removes the rules that a former daemon has left, where this one has none.
  func removeOrphan() {
    if installed.isEmpty { removeAll() }
  }

  private func connect() throws(LinuxError) {
    if connection == nil { connection = try Nftables() }
    guard events == nil else { return }
    switch connection {
    case .some(let connection): events = try NftablesEvents(exceptFor: connection)
    case .none: break
    }
  }

  private func fail(_ error: LinuxError) {
    installed = []
    guard failure != error.description else { return }
    failure = error.description
    logger.notice(
      """
      Other programs of this host, and containers behind its masquerading, can send VXLAN to the tunnels' remotes as \
      if they were this switch: \(error)
      """)
  }

  // MARK: News

  /// To be polled for `POLLIN`; -1, which poll(2) passes over, while there are no rules.
  package var descriptor: Int32 {
    switch events {
    case .some(let events): events.rawValue
    case .none: -1
    }
  }

  /// When `takeNews` has to be called whatever poll(2) says, in milliseconds on the monotonic
  /// clock.
  package var nextWork: Int64? { isDamaged ? nextRepair : nil }

  /// Looks at what others have done to the packet filter, and makes the rules again where they are
  /// not what they were.
  ///
  /// - Parameter now: Milliseconds on the monotonic clock.
  package func takeNews(now: Int64) {
    var isConcerned = false
    do throws(LinuxError) {
      while let event = try events?.next() {
        switch event {
        case .changed(let table):
          if table == rules.table { isConcerned = true }
        case .committed(let name):
          if isConcerned { culprit = name }
          isDamaged = isDamaged || isConcerned
          isConcerned = false
        case .overrun:
          // Whether it was this table that changed is not known.
          culprit = nil
          isDamaged = true
        }
      }
    } catch {
      events = nil
      isDamaged = true
    }
    isDamaged = isDamaged || isConcerned
    if isDamaged, !installed.isEmpty, now >= nextRepair { repair(now: now) }
  }

  private func repair(now: Int64) {
    nextRepair = now + Self.repairInterval
    do throws(LinuxError) {
      try install(installed)
    } catch {
      isDamaged = false
      return fail(error)
    }
    guard now >= nextReport, let culprit else { return }
    nextReport = now + Self.reportInterval
    logger.notice(
      """
      \(culprit) has changed or removed the nftables table inet \(rules.table), which keeps others from sending VXLAN to \
      the tunnels' remotes; it is made again, as it will be each time
      """)
  }

  // MARK: What has become of it

  /// What is in force, for people.
  ///
  /// `nil` where there is nothing to be filtered.
  package func state() -> Tunnels.Filter? {
    guard isWanted else { return Tunnels.Filter(.off) }
    if let failure { return Tunnels.Filter(.failed, error: failure) }
    guard !installed.isEmpty else { return nil }
    let refused = try? connection?.refused(rules)
    return Tunnels.Filter(.on, table: rules.table, refused: refused ?? 0)
  }
}
