internal import ArgumentParser
private import Foundation
private import Glibc
internal import OVXControl

struct Events: OngoingVerb {
  static let configuration = CommandConfiguration(
    commandName: "events",
    abstract: "Tell what has happened: who changed what, and what became of ports and links.",
    discussion: """
      Changes with the user and the process that made them, and what was refused; ports that went out of service, with the \
      reason, and that came back; links that went down and up; addresses that keep moving; starts and stops of the daemon. \
      Oldest first, times in UTC. What is repeated within a minute is one event, with a count.

      The daemon keeps 1,024 changes, as many refusals, and as many events of other kinds, also while it is restarted; of a \
      daemon that was killed the last ten seconds may be missing.

      NAME is a bridge, a port, or another word of an event's text. --since takes a time such as 90s, 15m, 2h or 7d. With \
      --follow, what happens from then on is printed as it happens, until Ctrl-C; an event that is repeated is printed again.

      EXAMPLES
        ovx-ctl events
        ovx-ctl events veth1 --since 2h
        ovx-ctl -f json events --follow | jq -c 'select(.kind == "outage")'
      """)

  @OptionGroup var global: GlobalOptions
  @Flag(help: "Go on with what happens, until interrupted.") var follow = false
  @Option(
    help: ArgumentHelp("Only what happened in the last so many s, m, h or d.", valueName: "time"))
  var since: String?
  @Option(
    name: [.customShort("n", allowingJoined: true), .customLong("count")],
    help: "Only the last so many of those that there are.")
  var count: Int?
  @Argument(
    help: "A bridge, a port or another name that they are about.", completion: .bridgesAndPorts)
  var name: String?

  func command() throws -> Command {
    guard count.map({ $0 >= 0 }) ?? true else {
      throw ControlError("events -n takes a number of events, 0 or more")
    }
    _ = try start
    guard !follow || [nil, .table, .json].contains(global.format) else {
      throw ControlError(
        "events --follow prints text, or with -f json an object a line; take -f away")
    }
    return .showEvents(last: name == nil && since == nil ? count : nil)
  }

  /// The time of the first event that is wanted, as events have theirs; `nil` for all.
  private var start: String? {
    get throws(ControlError) {
      guard let since else { return nil }
      let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
      guard let unit = since.last.flatMap({ units[$0] }),
        let number = Int(since.dropLast()), (0...1_000_000).contains(number)
      else {
        throw ControlError(
          "--since \"\(printable(since))\" is not a time; type a number and s, m, h or d, such as 15m"
        )
      }
      return timestamp(secondsAgo: number * unit)
    }
  }

  private func isWanted(_ event: SwitchEvent, since start: String?) -> Bool {
    if let start, event.latest ?? event.time < start { return false }
    return name.map(event.concerns) ?? true
  }

  /// Prints the events, and goes on where that is wanted.
  ///
  /// - Throws: What the daemon refuses, or that it is gone.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    let start = try start
    if follow { return try follow(since: start, options) }
    let replies = try options.client.replies(to: [command], timeout: options.timeout)
    guard case .events(let all)? = replies.first else {
      throw ControlError("the daemon has answered something else than was asked")
    }
    let events = all.filter { isWanted($0, since: start) }.suffix(count ?? .max)
    let output = Output(options, command: command)
    try Self.show(try output.text(of: .events(Array(events))))
  }

  private func follow(
    since start: String?, _ options: GlobalOptions.Values
  ) throws(ControlError) {
    var watch = try options.client.watch([.event], timeout: options.timeout)
    var events: [Int: SwitchEvent] = [:]
    var isFirst = true
    var last = 0
    while true {
      guard let change = try watch.next(within: 1000) else {
        try Invocation.checkReader("events")
        continue
      }
      switch change.action {
      case .missed: events = [:]
      case .delete: change.record.flatMap { Int($0) }.map { events[$0] = nil }
      case .initial:
        if let event = change.new.flatMap(SwitchEvent.init(row:)) { events[event.number] = event }
      case .snapshotEnd:
        var wanted = events.values.sorted { $0.number < $1.number }.filter {
          isWanted($0, since: start) && $0.number > last
        }
        if isFirst, let count { wanted = wanted.suffix(count) }
        isFirst = false
        try show(wanted, options)
        last = events.keys.max() ?? last
      case .insert, .modify:
        guard let record = change.record.flatMap({ Int($0) }), let new = change.new,
          let event = SwitchEvent(row: (events[record]?.row ?? [:]).merging(new) { $1 })
        else { continue }
        events[record] = event
        if isWanted(event, since: start) { try show([event], options) }
        last = max(last, record)
      }
    }
  }

  private func show(
    _ events: [SwitchEvent], _ options: GlobalOptions.Values
  ) throws(ControlError) {
    var text = ""
    for event in events {
      text +=
        options.format == .json
        ? try Self.json(of: event) : event.line
    }
    try Self.show(text)
  }

  /// An event as one line of JSON.
  private static func json(of event: SwitchEvent) throws(ControlError) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(event) else {
      throw ControlError("an event cannot be printed as JSON")
    }
    return String(decoding: data, as: UTF8.self) + "\n"
  }

  private static func show(_ text: String) throws(ControlError) {
    guard Invocation.write(text, to: STDOUT_FILENO) else { throw ControlError.unwritten("events") }
  }
}
