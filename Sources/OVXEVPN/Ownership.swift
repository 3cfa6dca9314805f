internal import OVXDatapath

// Whether a station is here or at another host (RFC 7432, section 7.7).

extension ServedNetwork {
  /// Decides where a station is, after something was said or heard of it.
  ///
  /// - Parameters:
  ///   - mac: The station.
  ///   - local: What this host knows of it; `nil` where it is not behind one of its devices.
  ///   - adopted: The sequence number with which this host told of it before the agent was started;
  ///     `nil` for none.
  ///   - vtep: This host.
  ///   - now: In milliseconds.
  ///   - notices: Where it is said what an operator should know.
  mutating func decide(
    _ mac: MACAddress, local: LocalStation?, adopted: UInt32?, vtep: IPAddress, at now: Int64,
    _ notices: inout [Notice]
  ) {
    let rival = remote.best(mac)
    if frozen[mac] != nil {
      guard local == nil, rival == nil else { return }
      (frozen[mac], moves[mac]) = (nil, nil)
    }
    guard let local else {
      owned[mac] = nil
      yielded[mac] = nil
      duplicates[mac] = nil
      return
    }
    guard let rival else {
      yielded[mac] = nil
      duplicates[mac] = nil
      if owned[mac] == nil { owned[mac] = adopted ?? 0 }
      return
    }
    if local.isAssigned {
      yielded[mac] = nil
      // Other hosts are to see that it is newer here than there, where it may have been until now.
      if owned[mac] == nil { owned[mac] = adopted ?? rival.mobility.successor }
      noteDuplicate(
        mac, rival.vtep, "it is assigned to port \(local.port) here, which counts", &notices)
      return
    }
    guard !rival.mobility.isSticky else {
      owned[mac] = nil
      if yielded[mac] == nil { yielded[mac] = now }
      noteDuplicate(mac, rival.vtep, "it is assigned there, which counts", &notices)
      return
    }
    duplicates[mac] = nil
    if owned[mac] == nil, yielded[mac] == nil, let adopted { owned[mac] = adopted }
    if let mine = owned[mac] {
      guard
        rival.mobility.sequence > mine || (rival.mobility.sequence == mine && rival.vtep < vtep)
      else { return }
      guard !isRestless(mac, at: now, &notices) else {
        frozen[mac] = .here(mine)
        return
      }
      owned[mac] = nil
      if yielded[mac] == nil { yielded[mac] = now }
    } else if yielded[mac] == nil {
      guard !isRestless(mac, at: now, &notices) else {
        frozen[mac] = .there(rival.vtep)
        return
      }
      owned[mac] = rival.mobility.successor
    }
  }

  /// Takes notice that a station was heard here, whatever others say.
  mutating func hear(_ mac: MACAddress) { yielded[mac] = nil }

  /// Stations that are still known here although the switch was told long ago that they are
  /// elsewhere, and does not hold them there: they were heard again before it could say that they
  /// had gone.
  func overdue(at now: Int64) -> [MACAddress] {
    yielded.filter { mac, time in
      now - time >= Self.yieldTime && frozen[mac] == nil
        && remote.best(mac)?.mobility.isSticky == false
    }.map(\.key)
  }

  /// Milliseconds within which the switch says that a station has gone from here.
  private static let yieldTime: Int64 = 2000

  /// Where the switch is to take a station to be; `nil` where that is not at another host.
  func place(of mac: MACAddress) -> (vtep: IPAddress, isSticky: Bool)? {
    switch frozen[mac] {
    case .here: return nil
    // The switch, too, is to leave it where it is.
    case .there(let vtep): return (vtep, true)
    case nil: break
    }
    guard owned[mac] == nil, let best = remote.best(mac) else { return nil }
    return (best.vtep, best.mobility.isSticky)
  }

  /// The sequence number with which this host tells of a station; `nil` where it does not.
  func sequence(of mac: MACAddress) -> UInt32? {
    if case .here(let sequence)? = frozen[mac] { return sequence }
    if case .there? = frozen[mac] { return nil }
    return owned[mac]
  }

  private mutating func isRestless(
    _ mac: MACAddress, at now: Int64, _ notices: inout [Notice]
  ) -> Bool {
    guard moves[mac, default: MoveHistory()].note(at: now) else { return false }
    notices.append(
      Notice(
        .warning,
        "network \(settings.name): \(mac) has moved \(MoveHistory.limit) times within "
          + "\(MoveHistory.span / 1000) s, as an address does that two stations have; it is frozen until "
          + "\"ovx-ctl evpn unfreeze \(settings.name) \(mac)\""))
    return true
  }

  private mutating func noteDuplicate(
    _ mac: MACAddress, _ vtep: IPAddress, _ what: String, _ notices: inout [Notice]
  ) {
    guard duplicates[mac] != vtep else { return }
    duplicates[mac] = vtep
    notices.append(
      Notice(
        .warning,
        "network \(settings.name): \(vtep) tells of \(mac), which is known here as well: \(what)"))
  }
}

extension Mobility {
  /// The sequence number of the next move; the last one has none that is higher.
  var successor: UInt32 { sequence == .max ? .max : sequence + 1 }
}

/// What an operator should know.
package struct Notice: Equatable, Sendable {
  package enum Level: String, Sendable { case info, warning }

  package var level: Level
  package var text: String

  package init(_ level: Level, _ text: String) {
    self.level = level
    self.text = text
  }
}
