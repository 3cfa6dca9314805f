internal import OVXDatapath

/// The ports that lose packets for their size, for as long as they do.
///
/// What is too large is a matter between those who send and the way that it is to go, so the port
/// is in service. But whoever is told nothing looks for long: tenants whose packets are not IP, or
/// who do not heed ICMP, see a black hole.
struct OversizeFaults {
  /// Milliseconds without a packet that is too large, after which it is over.
  static let quietTime: Int64 = 30_000

  private struct Spell {
    var fault: Fault
    /// When the latest was lost, in milliseconds on the monotonic clock.
    var last: Int64
  }

  private var spells: [String: Spell] = [:]

  /// By the names of the ports.
  var faults: [String: Fault] { spells.mapValues(\.fault) }

  /// The fault of a port, if it has one.
  subscript(name: String) -> Fault? { spells[name]?.fault }

  /// When the next of them is over, unless something is lost; `nil` without any.
  var nextEnd: Int64? { spells.values.map { $0.last + Self.quietTime }.min() }

  /// Takes in that a port has lost packets.
  ///
  /// The sentence stays as it is for as long as that lasts: it is told once.
  ///
  /// - Parameters:
  ///   - report: What was lost.
  ///   - name: The port's name.
  ///   - remote: For a tunnel, where it was to go.
  ///   - now: Milliseconds on the monotonic clock.
  mutating func note(_ report: OversizeReport, at name: String, remote: IPAddress?, now: Int64) {
    guard spells[name] == nil else {
      spells[name]?.last = now
      return
    }
    let place = remote.map { "the path to \($0)" } ?? "its device"
    spells[name] = Spell(
      fault: .partial(
        "packets of \(report.largest) bytes come for it, and \(place) takes \(report.mtu); larger ones are dropped, and "
          + "their senders told by ICMP"), last: now)
  }

  /// Forgets what is over, and ports that are gone; says whether there was any.
  mutating func expire(now: Int64, isPort: (String) -> Bool) -> Bool {
    let before = spells.count
    spells = spells.filter { now - $0.value.last < Self.quietTime && isPort($0.key) }
    return spells.count != before
  }
}
