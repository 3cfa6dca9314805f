internal import OVXControl
internal import OVXHost
private import OVXLinux

/// What is known of the gateways of this host, which another process makes: what that has told by a
/// connection that still lasts, or that there is no such process.
final class GatewayReports {
  /// Milliseconds from the daemon's start on for which the maker of gateways may not have come back
  /// yet.
  private static let patience: Int64 = 10_000
  /// Events of one report at most.
  private static let eventLimit = 16

  private var report: GatewayReport?
  /// The client whose connection it lasts as long as.
  private(set) var teller: UInt64?
  /// When it is told that nobody makes gateways, in milliseconds on the monotonic clock; `nil` for
  /// that it was.
  private var deadline: Int64? = monotonicMilliseconds() + patience
  /// The faults that the history has, by network; those of all gateways by the empty name.
  private var noted: [String: [String]] = [:]

  /// When `expire` has something to do, in milliseconds on the monotonic clock; `nil` for never.
  var nextWork: Int64? { deadline }

  // MARK: Telling

  /// Takes a report in place of the former.
  ///
  /// - Parameters:
  ///   - report: A valid one.
  ///   - client: Whose it is.
  ///   - networks: Those that there are.
  ///   - events: Takes what is new.
  func take(
    _ report: GatewayReport, from client: UInt64, networks: [String: Configuration.Network],
    events: EventHistory
  ) {
    if noted.removeValue(forKey: Self.absence) != nil {
      events.note(.recovery, "ovx-gatewayd makes gateways again")
    }
    // Whoever reads the sentences may do so on a terminal.
    let report = GatewayReport(
      faults: report.faults.map(printable),
      gateways: report.gateways.mapValues {
        GatewayReport.Gateway(isInForce: $0.isInForce, faults: $0.faults.map(printable))
      })
    self.report = report
    teller = client
    deadline = nil
    var faults = report.gateways.filter { networks[$0.key] != nil }.mapValues(\.faults)
    faults[""] = report.faults
    note(faults.filter { !$0.value.isEmpty }, networks, events)
  }

  /// Forgets what was told, as whoever told it is gone.
  func end(networks: [String: Configuration.Network], events: EventHistory) {
    (report, teller, noted) = (nil, nil, [:])
    noteAbsence("ovx-gatewayd has ended", networks, events)
  }

  /// Takes notice that nobody makes gateways, where nobody has come in time; says whether it was
  /// so.
  func expire(
    now: Int64, networks: [String: Configuration.Network], events: EventHistory
  ) -> Bool {
    guard let deadline, deadline <= now else { return false }
    self.deadline = nil
    noteAbsence("no ovx-gatewayd runs", networks, events)
    return true
  }

  /// The key of `noted` for that there is no maker of gateways: no network has such a name.
  private static let absence = "."

  private func noteAbsence(
    _ what: String, _ networks: [String: Configuration.Network], _ events: EventHistory
  ) {
    let count = networks.values.count(where: \.hasGatewayHere)
    guard count > 0 else { return }
    noted[Self.absence] = []
    events.note(
      .outage,
      "\(what); \(count == 1 ? "one network wants" : "\(count) networks want") a gateway here")
  }

  private func note(
    _ faults: [String: [String]], _ networks: [String: Configuration.Network],
    _ events: EventHistory
  ) {
    let changed = Set(faults.keys).union(noted.keys).filter { faults[$0] != noted[$0] }.sorted()
    for name in changed.prefix(Self.eventLimit) {
      let subject = name.isEmpty ? "gateways" : "gateway of network \(name)"
      let isInForce = name.isEmpty || report?.gateways[name]?.isInForce == true
      let former = noted[name] ?? []
      guard let list = faults[name] else {
        if name.isEmpty || networks[name]?.hasGatewayHere == true {
          events.note(.recovery, "\(subject): nothing is wrong any more")
        }
        continue
      }
      for fault in list where !former.contains(fault) {
        events.note(isInForce ? .restriction : .outage, "\(subject): \(fault)")
      }
    }
    if changed.count > Self.eventLimit {
      events.note(
        .notice, "gateways of \(changed.count - Self.eventLimit) more networks have changed")
    }
    noted = faults
  }

  // MARK: Asking

  /// Tells how a network's gateway is.
  ///
  /// - Parameters:
  ///   - network: The network.
  ///   - hasPort: Whether its port is there, in a router that was made some time.
  /// - Returns: What is known; `nil` where this host is to have none, or nobody can have told of it
  ///   yet.
  func state(of network: Configuration.Network, hasPort: Bool) -> GatewayState? {
    guard network.hasGatewayHere else { return nil }
    guard let report else {
      guard deadline == nil else { return nil }
      return hasPort
        ? GatewayState(
          .unattended,
          faults: [
            "no ovx-gatewayd runs, so its gateway stays as it was made, whatever changes; start it (`systemctl start ovx-gatewayd`)"
          ])
        : GatewayState(
          .down,
          faults: [
            "no ovx-gatewayd runs, so nobody makes its gateway; start it (`systemctl start ovx-gatewayd`), or say "
              + "gateway_mode=remote where the router is yours to make"
          ])
    }
    guard let gateway = report.gateways[network.name] else {
      return GatewayState(.down, faults: report.faults)
    }
    return GatewayState(
      gateway.isInForce ? .up : .down, faults: gateway.faults + report.faults)
  }
}
