internal import ArgumentParser
private import Glibc
internal import OVXControl

struct Top: OngoingVerb {
  static let configuration = CommandConfiguration(
    commandName: "top",
    abstract: "Print what the ports carry per second, again and again.",
    discussion: """
      The busiest port comes first. On a terminal each table takes the place of the one before, as far as there is \
      room; elsewhere, and with -f list, json or csv, one follows the other. Ctrl-C ends it.

      EXAMPLES
        ovx-ctl top
        ovx-ctl top -n 5 -d 0.5 > rates.txt
        ovx-ctl -f json top -n 1
      """)

  @OptionGroup var global: GlobalOptions
  @Option(
    name: [.customShort("n", allowingJoined: true), .customLong("count")],
    help: "End after this many tables (default: when interrupted).")
  var count: Int?
  @Option(
    name: .customLong("delay"),
    help: ArgumentHelp("Seconds between two, 0.1 to 3600.", valueName: "secs"))
  var delay = 1.0

  func command() throws -> Command {
    guard count.map({ $0 > 0 }) ?? true else {
      throw ControlError("top -n takes a number of tables, 1 or more")
    }
    guard (0.1...3600).contains(delay) else {
      throw ControlError("top -d takes the seconds between two tables, 0.1 to 3600")
    }
    return .statistics(port: nil)
  }
}

extension Top {
  /// Asks for the counters again and again, and prints the differences.
  ///
  /// - Throws: What the daemon refuses, or that it is gone.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    let client = options.client
    let request = Request(commands: [command], timeout: options.timeout)
    let isScreen = options.format ?? .table == .table && isatty(STDOUT_FILENO) == 1
    let clock = ContinuousClock()
    var (counters, time) = (try statistics(from: client, request), clock.now)
    if isScreen { try show("\u{1B}[2J") }
    for number in 1...(count ?? .max) {
      let delay = Duration.seconds(delay)
      // From the start on, so that the time that printing takes does not add up.
      sleep(until: time + delay, on: clock)
      let (now, then) = (try statistics(from: client, request), clock.now)
      let seconds = (then - time) / .seconds(1)
      let rates = Rates(from: counters, to: now, seconds: max(seconds, 0.001))
      (counters, time) = (now, then)
      try show(text(of: rates, options.format ?? .table, isScreen, isFirst: number == 1))
    }
  }

  private func statistics(
    from client: ControlClient, _ request: Request
  ) throws(ControlError) -> [PortStatistics] {
    switch try client.send(request).outcome {
    case .failed(let error): throw error
    case .done(let replies):
      guard case .statistics(let statistics)? = replies.first else { return [] }
      return statistics
    }
  }

  private func sleep(until end: ContinuousClock.Instant, on clock: ContinuousClock) {
    let microseconds = (end - clock.now) / .microseconds(1)
    guard microseconds > 0 else { return }
    var rest = timespec(
      tv_sec: Int(microseconds / 1_000_000),
      tv_nsec: Int(microseconds.truncatingRemainder(dividingBy: 1_000_000)) * 1000)
    unsafe nanosleep(&rest, nil)
  }

  private func text(
    of rates: Rates, _ format: OutputFormat, _ isScreen: Bool, isFirst: Bool
  ) throws(ControlError) -> String {
    switch format {
    case .json: return try Output.encode(rates.lines)
    case .csv:
      let text = rates.table().csv
      return isFirst ? text : String(text.drop { $0 != "\n" }.dropFirst())
    case .list: return rates.table().list + "\n"
    case .table where !isScreen: return rates.table().aligned + "\n"
    case .table:
      // To the top left corner; each line and the screen end where the new text ends.
      let lines = rates.table(limit: rows - 2).aligned.split(separator: "\n")
      return "\u{1B}[H" + lines.map { $0.prefix(columns) + "\u{1B}[K\n" }.joined() + "\u{1B}[J"
    }
  }

  private var rows: Int { max(3, Int(size.ws_row)) }
  private var columns: Int { max(20, Int(size.ws_col)) }

  private var size: winsize {
    var size = winsize(ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0)
    _ = unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size)
    return size
  }

  private func show(_ text: String) throws(ControlError) {
    guard Invocation.write(text, to: STDOUT_FILENO) else {
      throw ControlError.unwritten("answer")
    }
  }
}
