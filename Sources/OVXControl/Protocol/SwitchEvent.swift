private import Glibc

/// Something that has happened to the switch, as its history has it.
package struct SwitchEvent: Codable, Equatable, Sendable {
  package enum Kind: String, Codable, CaseIterable, Sendable {
    /// Somebody has changed something.
    case change
    /// Somebody wanted to change something, or to connect, and was refused.
    case refusal
    case linkDown = "link-down"
    case linkUp = "link-up"
    /// A port has gone out of service.
    case outage
    /// A port is in service, with a restriction.
    case restriction
    /// A port is back in service, or without a restriction.
    case recovery
    /// An address keeps moving from one port to another.
    case flap
    case start
    case stop
    /// Something else that an operator should know.
    case notice
  }

  /// Counted from 1 on, in the order in which events happened; never given twice while the database
  /// lasts.
  package var number: Int
  /// When it happened first, in UTC: as `timestamp` writes it, so that texts compare as times do.
  package var time: String
  /// When it happened last, where it was repeated.
  package var latest: String?
  /// How often it happened.
  package var count = 1
  package var kind: Kind
  /// The port that it happened to, if to one.
  package var port: String?
  /// That port's bridge.
  package var bridge: String?
  /// Who did it, as the kernel tells; absent for what nobody did.
  package var uid: UInt32?
  package var pid: Int32?
  /// What happened, for a person: a sentence, or the words of a command.
  package var text: String

  package init(
    number: Int, time: String, kind: Kind, port: String? = nil, bridge: String? = nil,
    uid: UInt32? = nil, pid: Int32? = nil, text: String
  ) {
    self.number = number
    self.time = time
    self.kind = kind
    self.port = port
    self.bridge = bridge
    self.uid = uid
    self.pid = pid
    self.text = text
  }
}

extension SwitchEvent {
  /// Whether it concerns a bridge, a port or another record: it happened there, or its text has
  /// that name for a word.
  package func concerns(_ name: String) -> Bool {
    if port == name || bridge == name { return true }
    return text.split(separator: " ").contains { word in
      word == name || word.drop { "\"(".contains($0) }.prefix { !"\"(),;:".contains($0) } == name
    }
  }

  /// The event as a row of table Event of a watch.
  package var row: [String: Datum] {
    [
      "number": .scalar(.integer(number)), "time": .scalar(.text(time)),
      "latest": .scalar(latest.map(Atom.text)), "count": .scalar(.integer(count)),
      "kind": .scalar(.text(kind.rawValue)), "port": .scalar(port.map(Atom.text)),
      "bridge": .scalar(bridge.map(Atom.text)),
      "uid": .scalar(uid.map { .integer(Int($0)) }),
      "pid": .scalar(pid.map { .integer(Int($0)) }), "text": .scalar(.text(text)),
    ]
  }

  /// Reads a row of table Event; `nil` where it is none.
  package init?(row: [String: Datum]) {
    func text(_ name: String) -> String? {
      if case .scalar(.text(let value)?)? = row[name] { value } else { nil }
    }
    func integer(_ name: String) -> Int? {
      if case .scalar(.integer(let value)?)? = row[name] { value } else { nil }
    }
    guard let number = integer("number"), let time = text("time"), let sentence = text("text"),
      let kind = text("kind").flatMap(Kind.init(rawValue:))
    else { return nil }
    self.init(
      number: number, time: time, kind: kind, port: text("port"), bridge: text("bridge"),
      uid: integer("uid").flatMap { UInt32(exactly: $0) },
      pid: integer("pid").flatMap { Int32(exactly: $0) }, text: sentence)
    latest = text("latest")
    count = integer("count") ?? 1
  }
}

/// A time in UTC, to the millisecond, as RFC 3339 writes it.
///
/// - Parameter secondsAgo: How long ago, from 0 on.
/// - Returns: Such as `2026-01-31T12:00:00.123Z`.
package func timestamp(secondsAgo: Int = 0) -> String {
  var now = timespec()
  unsafe clock_gettime(CLOCK_REALTIME, &now)
  now.tv_sec = max(0, now.tv_sec - secondsAgo)
  var parts = unsafe tm()
  unsafe gmtime_r(&now.tv_sec, &parts)
  func digits(_ value: Int, _ count: Int) -> String {
    let text = String(value)
    return String(repeating: "0", count: max(0, count - text.utf8.count)) + text
  }
  let date = [
    unsafe digits(Int(parts.tm_year) + 1900, 4), unsafe digits(Int(parts.tm_mon) + 1, 2),
    unsafe digits(Int(parts.tm_mday), 2),
  ].joined(separator: "-")
  let clock = [
    unsafe digits(Int(parts.tm_hour), 2), unsafe digits(Int(parts.tm_min), 2),
    unsafe digits(Int(parts.tm_sec), 2),
  ].joined(separator: ":")
  return "\(date)T\(clock).\(digits(now.tv_nsec / 1_000_000, 3))Z"
}
