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
    return .watch(tables: CounterSamples.tables, interval: Int(delay * 1000))
  }
}

extension Top {
  /// Watches the counters, and prints the differences.
  ///
  /// - Throws: What the daemon refuses, or that it is gone.
  func run(_ command: Command, _ options: GlobalOptions.Values) throws(ControlError) {
    guard case .watch(let tables, let milliseconds) = command else { return }
    let interval = Duration.milliseconds(milliseconds)
    let watch = try options.client.watch(
      tables, interval: milliseconds, timeout: options.timeout)
    var source = SampleSource(watch, patience: interval + .seconds(options.timeout))
    let isScreen = options.format ?? .table == .table && isatty(STDOUT_FILENO) == 1
    if isScreen { try show("\u{1B}[2J") }
    var last = try source.next()
    for number in 1...(count ?? .max) {
      var sample = try source.next()
      // Another client may have the daemon look more often.
      while sample.time - last.time < interval { sample = try source.next() }
      let rates = Rates(from: last, to: sample)
      last = sample
      try show(text(of: rates, options.format ?? .table, isScreen, isFirst: number == 1))
    }
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

/// The counters of the daemon's ports, one sample after the other.
private struct SampleSource: ~Copyable {
  private var watch: WatchConnection
  private var samples = CounterSamples()
  private let patience: Duration

  /// Takes samples from a watch that is to tell one each `patience`.
  init(_ watch: consuming WatchConnection, patience: Duration) {
    self.watch = watch
    self.patience = patience
  }

  /// Waits for the next sample.
  ///
  /// - Throws: That the watch has ended, or `.timedOut` where the daemon has fallen silent.
  mutating func next() throws(ControlError) -> CounterSample {
    let end = ContinuousClock.now + patience
    while true {
      let left = ContinuousClock.now.duration(to: end)
      guard left > .zero else {
        throw ControlError(
          "the daemon has told nothing of its counters for "
            + "\(Int(patience / .seconds(1))) s; see whether it runs, with \"ovx-ctl version\"",
          kind: .timedOut)
      }
      let event = try watch.next(
        within: Int32(clamping: Int((left / .milliseconds(1)).rounded(.up))))
      if let event, let sample = samples.take(event) { return sample }
    }
  }
}
