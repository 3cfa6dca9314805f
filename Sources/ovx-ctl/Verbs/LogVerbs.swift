internal import ArgumentParser
internal import OVXControl

// The daemon's log. `vlog/set` and `vlog/list` are what ovs-appctl users type.

struct LogCommands: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "log",
    abstract: "How much the daemon logs.",
    subcommands: [SetLogLevel.self, ShowLogLevel.self],
    aliases: ["vlog"]
  )
}

struct SetLogLevel: Verb {
  static let configuration = CommandConfiguration(
    commandName: "set",
    abstract: "Have the daemon log from a level on, until it ends.",
    discussion: """
      LEVEL is trace, debug, info, notice, warning, error or critical, or one of Open vSwitch's dbg, warn, err and emer. \
      A daemon starts with the level of its option --log-level.

      As there is one log, of Open vSwitch's module:destination:level only the level counts: vlog/set ANY:file:dbg is \
      log set debug.

      EXAMPLES
        ovx-ctl log set debug
        ovx-ctl vlog/set dbg
      """
  )

  @OptionGroup var global: GlobalOptions
  @Argument(
    help: ArgumentHelp("The level.", valueName: "level"),
    completion: .list(LogLevel.allCases.map(\.rawValue)))
  var words: [String]

  /// Open vSwitch's names of levels.
  private static let synonyms: [String: LogLevel] = [
    "dbg": .debug, "warn": .warning, "err": .error, "emer": .critical,
  ]

  /// What stands for all of Open vSwitch's modules, and its destinations.
  private static let fillers = ["any", "console", "syslog", "file"]

  func command() throws -> Command {
    let parts = words.flatMap { $0.split(whereSeparator: { ":, ".contains($0) }) }
      .map { $0.lowercased() }
    let levels = parts.filter { !Self.fillers.contains($0) }
    guard levels.count == 1, let level = Self.synonyms[levels[0]] ?? LogLevel(rawValue: levels[0])
    else {
      let names = LogLevel.allCases.map(\.rawValue).joined(separator: ", ")
      throw ControlError(
        "\"\(words.joined(separator: " "))\" is not a level of the log; it is one of \(names), "
          + "and holds for all of the daemon")
    }
    return .setLogLevel(level)
  }
}

struct ShowLogLevel: Verb {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Print from which level on the daemon logs.",
    aliases: ["list"]
  )

  @OptionGroup var global: GlobalOptions

  func command() -> Command { .logLevel }
}
