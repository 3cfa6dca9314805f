/// Lines about ports in the log, of which a crowd becomes one: where 300 devices go at a time, 600
/// lines tell less than three.
struct CrowdLog {
  enum Event: CaseIterable {
    case lost, waits, isBack
  }

  /// Lines of one kind within `window` milliseconds that are written as they are.
  private static let lineLimit = 8
  private static let window: Int64 = 2000

  /// Milliseconds on the monotonic clock.
  private var start: Int64 = .min / 2
  private var counts: [Event: Int] = [:]
  private var held: [Event: [String]] = [:]

  /// When `takeSummaries` has something to tell, in milliseconds on the monotonic clock; `nil` for
  /// never.
  var due: Int64? { held.isEmpty ? nil : start + Self.window }

  /// Whether the line about a port is to be written now; else it is told of in a summary.
  mutating func admits(_ event: Event, _ port: String, now: Int64) -> Bool {
    if held.isEmpty, now - start >= Self.window { (start, counts) = (now, [:]) }
    counts[event, default: 0] += 1
    guard counts[event, default: 0] > Self.lineLimit else { return true }
    if !held[event, default: []].contains(port) { held[event, default: []].append(port) }
    return false
  }

  /// What was held back, once it is due; at once with `.max`.
  mutating func takeSummaries(now: Int64) -> [(event: Event, sentence: String)] {
    guard let due, now >= due else { return [] }
    let summaries = Event.allCases.compactMap { event in
      held[event].map { ports in (event, Self.sentence(event, ports)) }
    }
    // As long as there is a crowd, all of it is held back.
    (start, held) = (now == .max ? start : now, [:])
    return summaries
  }

  private static func sentence(_ event: Event, _ ports: [String]) -> String {
    let names = ports.prefix(8).joined(separator: ", ")
    let count = ports.count
    let list = names + (count > 8 ? " and \(count - 8) others" : "")
    if let port = ports.first, count == 1 {
      return switch event {
      case .lost: "port \(port) has lost its device"
      case .waits: "port \(port) waits, and ovx-ctl show tells why"
      case .isBack: "port \(port) is in service"
      }
    }
    return switch event {
    case .lost:
      "\(count) more ports have lost their devices: \(list)"
    case .waits: "\(count) more ports wait, and ovx-ctl show tells why: \(list)"
    case .isBack: "\(count) more ports are in service: \(list)"
    }
  }
}
