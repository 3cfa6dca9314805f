internal import ArgumentParser
private import Glibc
internal import OVXControl

struct Monitor: OngoingVerb {
  static let configuration = CommandConfiguration(
    commandName: "monitor",
    abstract: "Print the rows of tables, and then each change as it happens.",
    discussion: """
      TABLE is Switch, Bridge, Network, Port, Interface, Tunnel (remotes of tunnels), FDB and Neighbor (stations of this \
      host), Statistics (counters of ports, every -d seconds), Sample (when they were read) or Event (what "events" tells); \
      an unambiguous beginning is enough. Without one, the first six.

      First come the rows that there are, each as "initial", and "snapshot-end" behind the last; then a line for each \
      change, in the order in which they happened. Whoever reads more slowly than things change is told "missed", and gets \
      all rows anew. With -f json each line is an object. Ctrl-C ends it.

      EXAMPLES
        ovx-ctl monitor
        ovx-ctl monitor interface
        ovx-ctl -f json monitor interface tunnel | jq -c 'select(.action != "initial")'
        ovx-ctl monitor statistics -d 5
      """)

  @OptionGroup var global: GlobalOptions
  @Option(
    name: [.customShort("n", allowingJoined: true), .customLong("count")],
    help: "End after this many changes (default: when interrupted).")
  var count: Int?
  @Option(
    name: .customLong("delay"),
    help: ArgumentHelp("Seconds between two looks at counters, 0.1 to 3600.", valueName: "secs"))
  var delay = 1.0
  @Argument(
    help: "The tables.",
    completion: .list(WatchedTable.allCases.map(\.rawValue)))
  var table: [String] = []

  func command() throws -> Command {
    guard count.map({ $0 > 0 }) ?? true else {
      throw ControlError("monitor -n takes a number of changes, 1 or more")
    }
    guard (0.1...3600).contains(delay) else {
      throw ControlError("monitor -d takes the seconds between two looks at counters, 0.1 to 3600")
    }
    guard [nil, .table, .json].contains(global.format) else {
      throw ControlError("monitor prints text, or with -f json an object a line; take -f away")
    }
    return .watch(
      tables: try table.map { name throws(ControlError) in try WatchedTable(matching: name) },
      interval: Int(delay * 1000))
  }

  /// Prints what the daemon tells until interrupted.
  ///
  /// - Throws: What the daemon refuses, or that it is gone.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    guard case .watch(let tables, let interval) = command else { return }
    var watch = try options.client.watch(tables, interval: interval, timeout: options.timeout)
    var changes = 0
    var text = ""
    while count.map({ changes < $0 }) ?? true {
      guard let event = try watch.next(within: text.isEmpty ? 1000 : 0) else {
        try Invocation.checkReader("changes")
        // Nothing is on its way: what has come is to be seen.
        try Self.show(&text)
        continue
      }
      text += options.format == .json ? try Self.json(of: event) : Self.line(for: event)
      if event.isChange { changes += 1 }
      if text.utf8.count > 1 << 16 { try Self.show(&text) }
    }
    try Self.show(&text)
  }

  private static func show(_ text: inout String) throws(ControlError) {
    guard Invocation.write(text, to: STDOUT_FILENO) else { throw ControlError.unwritten("changes") }
    text = ""
  }

  /// An event in words.
  static func line(for event: WatchEvent, time: String = now) -> String {
    guard let table = event.table, let record = event.record else {
      return "\(time) \(event.action.rawValue)\n"
    }
    var line = "\(time) \(table.rawValue) \(printable(record)) \(event.action.rawValue)"
    let columns = (event.new ?? event.old ?? [:]).sorted { $0.key < $1.key }
    for (name, value) in columns {
      if event.action == .modify {
        line += " \(name): \(event.old?[name]?.description ?? "[]") -> \(value)"
      } else if !value.isEmpty {
        line += " \(name)=\(value)"
      }
    }
    return line + "\n"
  }

  /// An event as one line of JSON.
  static func json(of event: WatchEvent) throws(ControlError) -> String {
    String(decoding: try event.messageBytes(), as: UTF8.self)
  }

  private static var now: String {
    var now = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &now)
    return timeOfDay(UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec))
  }
}

extension WatchEvent {
  /// Whether it tells of something that has happened to a row.
  fileprivate var isChange: Bool { [.insert, .modify, .delete].contains(action) }
}
