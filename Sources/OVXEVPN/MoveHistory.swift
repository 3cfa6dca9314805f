internal import OVXDatapath

/// How often a station has moved lately, between this host and others.
///
/// A station that moves too often is most likely in two places at once, and neither host would come
/// to rest: it is frozen where it was, until an operator has looked at it (RFC 7432, section 15.1).
struct MoveHistory {
  /// So many moves, within so many milliseconds, are too many.
  static let limit = 5
  static let span: Int64 = 180_000

  private var times: [Int64] = []

  /// Notes a move; `true` where it is one too many, and is not to be carried out.
  mutating func note(at now: Int64) -> Bool {
    times.removeAll { now - $0 > Self.span }
    times.append(now)
    return times.count >= Self.limit
  }

  /// Whether nothing is left of it that would count.
  func isOver(at now: Int64) -> Bool { times.allSatisfy { now - $0 > Self.span } }
}

/// Where a frozen station stays.
enum FrozenPlace: Equatable {
  /// At this host, told with a sequence number.
  case here(UInt32)
  case there(IPAddress)
}
