internal import OVXControl

// How `events` is printed.

extension SwitchEvent {
  /// The event as a line: when, what sort of thing, who, what, and how often.
  var line: String {
    var line = "\(time) \(kind.rawValue)"
    line += String(repeating: " ", count: max(1, 13 - kind.rawValue.count))
    if let uid { line += "uid \(uid)" + (pid.map { ", pid \($0)" } ?? "") + ": " }
    line += printable(text)
    if let latest, count > 1 { line += " (\(count) times until \(latest))" }
    return line + "\n"
  }
}

extension Output {
  func eventTable(_ events: [SwitchEvent]) -> TextTable {
    TextTable(
      [
        "Number", "Time", "Latest", "Count", "Kind", "Port", "Bridge", "UID", "PID", "Text",
      ],
      events.map {
        [
          .number($0.number), .text($0.time), .text($0.latest ?? ""), .number($0.count),
          .text($0.kind.rawValue), .text($0.port ?? ""), .text($0.bridge ?? ""),
          .scalar($0.uid.map { .integer(Int($0)) }), .scalar($0.pid.map { .integer(Int($0)) }),
          .text($0.text),
        ]
      })
  }
}
