private import ArgumentParser
private import Glibc
internal import OVXControl

/// One run of `ovx-ctl`: arguments to commands, commands to one request, its answer to text and an
/// exit status.
struct Invocation {
  var commands: [Command] = []
  var options = GlobalOptions.Values()
  /// `drops --watch`: ask again every second until interrupted.
  var repeats = false
  /// What `apply` or `diff` reads: knows where in it something is.
  private var file: ConfigurationFile?
  /// `diff`: the exit status tells whether there is a difference.
  private var isComparison = false
  /// `show --brief`: one line a port.
  private(set) var isBrief = false
  /// `top`, `monitor` and `capture`: no request is made but their own.
  private var ongoing: (any OngoingVerb)?

  /// Runs the program.
  ///
  /// - Parameter arguments: Without the program's name.
  /// - Returns: The exit status: 0 done, 1 refused, 2 "no", 69 no daemon, 75 timed out.
  static func run(_ arguments: [String]) -> Int32 {
    let invocation: Invocation
    do {
      invocation = try Invocation(parsing: arguments)
    } catch let exit as CleanExit {
      if write(exit.text + "\n", to: STDOUT_FILENO) { return 0 }
      complain(ControlError.unwritten("text").message)
      return ControlError.Kind.refused.rawValue
    } catch {
      complain("\(error)")
      return ControlError.Kind.refused.rawValue
    }
    return invocation.execute()
  }

  private func execute() -> Int32 {
    do throws(ControlError) {
      if let ongoing, !options.dryRun {
        try ongoing.run(commands[0], options)
        return 0
      }
      let client = options.client
      let request = Request(
        commands: commands + (options.confirmWithin.map { [.confirmWithin(seconds: $0)] } ?? []),
        timeout: options.timeout,
        dryRun: options.dryRun
      )
      var status: Int32
      repeat {
        let response = try client.send(request)
        for note in response.notes { Invocation.complain("note: \(note)") }
        if case .failed(let error) = response.outcome { throw error }
        if case .done(let replies) = response.outcome {
          // In front of a repeated answer a terminal is wiped.
          var text = repeats && isatty(STDOUT_FILENO) == 1 ? "\u{1B}[H\u{1B}[2J" : ""
          for (command, reply) in zip(commands, replies) {
            var output = Output(options, command: command)
            output.isBrief = isBrief
            text += try output.text(of: reply)
          }
          guard Invocation.write(text, to: STDOUT_FILENO) else {
            throw ControlError.unwritten("answer")
          }
        }
        status = response.exitStatus
        if isComparison, case .done(let replies) = response.outcome, replies != [.changes([])] {
          status = 2
        }
        if repeats { sleep(1) }
      } while repeats
      return status
    } catch {
      Invocation.complain((file?.locating(error) ?? error).message)
      return error.kind.rawValue
    }
  }

  static func complain(_ sentence: String) {
    _ = write("ovx-ctl: \(printable(brief(sentence)))\n", to: STDERR_FILENO)
  }

  /// Writes a whole text; a reader that has gone, such as head(1), ends the program with SIGPIPE,
  /// as it does any other.
  static func write(_ text: String, to descriptor: Int32) -> Bool {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      let count = unsafe rest.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress, buffer.count)
      }
      guard count > 0 || errno == EINTR else { return false }
      rest = rest.dropFirst(max(count, 0))
    }
    return true
  }

  /// Ends the program where the reader of standard output has gone, as `write` would: what waits
  /// for news may have nothing to write for long.
  static func checkReader(_ what: String) throws(ControlError) {
    var entry = pollfd(fd: STDOUT_FILENO, events: 0, revents: 0)
    guard unsafe poll(&entry, 1, 0) > 0, entry.revents & Int16(POLLERR) != 0 else { return }
    raise(SIGPIPE)
    // Who has started it wants no signal.
    errno = EPIPE
    throw .unwritten(what)
  }
}

extension ControlError {
  /// That standard output takes no more, with the system's reason; to be made right behind the
  /// `write` that failed.
  static func unwritten(_ what: String) -> ControlError {
    let reason = unsafe String(cString: strerror(errno))
    return ControlError("the \(what) cannot be written to standard output: \(reason)")
  }
}

/// Text that was asked for instead of a command: help, the version, a completion script.
struct CleanExit: Error {
  let text: String
}

extension Invocation {
  /// Takes a command line apart.
  ///
  /// - Throws: `CleanExit` for help and the like, else a `ControlError` that says what is wrong.
  init(parsing arguments: [String]) throws {
    // Where bytes are none the standard library puts U+FFFD, and the name of a bridge would be
    // another one than was typed.
    if let argument = arguments.first(where: { $0.unicodeScalars.contains("\u{FFFD}") }) {
      throw ControlError("the word \"\(argument)\" is not UTF-8; type it in that encoding")
    }
    // What a completion script asks has a "--" of its own.
    if arguments.first == "---completion" {
      try parse(arguments)
      return
    }
    let arguments = Self.withoutLogOptions(arguments)
    var pieces = arguments.split(separator: "--", omittingEmptySubsequences: false).map(Array.init)
    // As with ovs-vsctl, the first command, too, may have a "--" in front, and options in front of
    // that.
    if pieces.count > 1, Self.commandIndex(in: pieces[0]) == nil {
      let front = pieces.removeFirst()
      pieces[0] = front + pieces[0]
    }
    // As ovs-vsctl does: scripts end in "-- $EXTRA", and there is nothing in the variable.
    if pieces.contains(where: { !$0.isEmpty }) { pieces.removeAll(where: \.isEmpty) }
    for (index, piece) in pieces.enumerated() {
      guard pieces.count == 1 || !piece.isEmpty else {
        throw ControlError("there is no command after the \"--\" at place \(index)")
      }
      try parse(Self.normalized(piece))
    }
    guard commands.count > 1 else { return }
    if isComparison {
      throw ControlError("diff stands alone, as it changes nothing; take the \"--\" away")
    }
    if let name = repeats ? "drops --watch" : ongoing.map({ type(of: $0)._commandName }) {
      throw ControlError("\(name) stands alone, as it goes on; take the \"--\" away")
    }
  }

  /// What is left without options in front that say what ovs-vsctl is to log: there is no log here.
  private static func withoutLogOptions(_ arguments: [String]) -> [String] {
    let front = arguments.prefix { $0.hasPrefix("-") && $0 != "--" }
    return front.filter { option in
      !(["--no-syslog", "--verbose"].contains(option)
        || ["--verbose=", "--log-file", "--syslog-"].contains { option.hasPrefix($0) }
        || option.hasPrefix("-v"))
    } + arguments.dropFirst(front.count)
  }

  private mutating func parse(_ arguments: [String]) throws {
    let verb: any Verb
    do {
      verb = try Self.verb(arguments)
    } catch let error as CleanExit {
      throw error
    } catch let error as ControlError {
      throw error
    } catch {
      guard OVXCtl.exitCode(for: error) != .success else {
        throw CleanExit(text: OVXCtl.fullMessage(for: error))
      }
      throw Self.explained(OVXCtl.message(for: error), arguments)
    }
    options.merge(verb.global)
    if let verb = verb as? any FileVerb {
      guard file == nil else {
        throw ControlError("one file is all that a transaction can apply; take the second one away")
      }
      let file = try verb.file.read()
      self.file = file
      commands.append(.apply(file.configuration, declaresSwitch: file.declaresSwitch))
    } else {
      if let get = verb as? GetColumns, let id = get.id {
        commands.append(.reference(id: id, table: get.table, record: get.record))
        if get.columns.isEmpty { return }
      }
      commands.append(try verb.command())
    }
    if let ongoing = verb as? any OngoingVerb { self.ongoing = ongoing }
    if verb is Diff { (isComparison, options.dryRun) = (true, true) }
    if let show = verb as? ShowAll, show.brief { isBrief = true }
    if let drops = verb as? Drops, drops.watch { repeats = true }
  }

  private static func verb(_ arguments: [String]) throws -> any Verb {
    var parsed = try OVXCtl.parseAsRoot(arguments)
    if let verb = parsed as? any Verb { return verb }
    if let root = parsed as? OVXCtl, root.version {
      throw CleanExit(text: "ovx-ctl \(OVXVersion.current)")
    }
    let path = words(in: arguments)
    switch parsed {
    case is OVXCtl: throw ControlError("there is no command; ovx-ctl --help lists them")
    case is AddressCommands, is NeighborCommands, is TunnelCommands, is EVPNCommands,
      is LogCommands, is NetworkCommands:
      throw ControlError("\(path) needs one of its commands: \(commands(of: path))")
    default:
      if let index = commandIndex(in: arguments), path.isEmpty, arguments[index] != "help" {
        throw unknownCommand(arguments[index])
      }
      // The parser answers a call for help with a command that throws it when it is run.
      try parsed.run()
      throw CleanExit(text: "")
    }
  }

  /// Puts the arguments of one command into the order that the parser wants.
  ///
  /// `--may-exist`, `--if-exists` and `--columns` go behind the command that they belong to,
  /// `fdb/show` becomes `fdb show`, and `apply -f` becomes `apply --file`.
  static func normalized(_ arguments: [String]) -> [String] {
    let index = commandIndex(in: arguments) ?? arguments.count
    let isMoved = { (argument: String) in
      ["--may-exist", "--if-exists", "--all", "--brief"].contains(argument)
        || argument.hasPrefix("--columns=") || argument.hasPrefix("--id=")
    }
    var front = Array(arguments[..<index])
    while let place = front.firstIndex(of: "--columns"), place + 1 < front.count {
      front.replaceSubrange(place...place + 1, with: ["--columns=\(front[place + 1])"])
    }
    var rest = Array(arguments[index...].dropFirst())
    // Behind these, -f is the file; the parser would take it for the format, as it is in front of
    // them.
    if index < arguments.count, ["apply", "diff"].contains(arguments[index]) {
      for place in rest.indices where rest[place].hasPrefix("-f") {
        let name = rest[place].dropFirst(2)
        rest[place] = name.isEmpty ? "--file" : "--file=\(name)"
      }
    }
    // Behind these, -d is the delay, as of the top(1) of processes.
    if index < arguments.count, ["top", "monitor"].contains(arguments[index]) {
      for place in rest.indices where rest[place].hasPrefix("-d") {
        let delay = rest[place].dropFirst(2)
        rest[place] = delay.isEmpty ? "--delay" : "--delay=\(delay)"
      }
    }
    let command = arguments[index...].prefix(1).flatMap {
      $0.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    }
    return front.filter { !isMoved($0) } + command + rest + front.filter(isMoved)
  }

  /// Where the command's name stands: behind the options in front, and their values.
  private static func commandIndex(in arguments: [String]) -> Int? {
    var index = 0
    while index < arguments.count {
      guard arguments[index].hasPrefix("-") else { return index }
      let takesValue = [
        "-t", "--timeout", "-f", "--format", "-d", "--data", "--db", "--rundir", "--columns",
        "--confirm-within",
      ].contains(arguments[index])
      index += takesValue ? 2 : 1
    }
    return nil
  }

  /// The words of a command line that name its command.
  private static func words(in arguments: [String]) -> String {
    var words: [String] = []
    var commands = OVXCtl.configuration.subcommands
    for argument in arguments[(commandIndex(in: arguments) ?? arguments.count)...] {
      guard let command = commands.first(where: { $0.names.contains(argument) }) else {
        if words.isEmpty { break }
        continue
      }
      words.append(argument)
      commands = command.configuration.subcommands
    }
    return words.joined(separator: " ")
  }

  /// The commands of a group, such as fdb, for a sentence; empty for a command that is none.
  private static func commands(of path: String) -> String {
    let group = OVXCtl.configuration.subcommands.first { $0.names.contains(path) }
    return (group?.configuration.subcommands ?? []).map { $0._commandName }.joined(separator: ", ")
  }

  /// The parser's complaint as one of ours: lower case, and where to read on.
  private static func explained(_ message: String, _ arguments: [String]) -> ControlError {
    let path = words(in: arguments)
    // Of a command that there is not, its options say nothing.
    if path.isEmpty, let index = commandIndex(in: arguments),
      message.contains("nexpected argument") || Absent.command(arguments[index]) != nil
    {
      return unknownCommand(arguments[index])
    }
    var line = withoutHarm(message.prefix(1).lowercased() + message.dropFirst())
    line = line.split(separator: "\n").joined(separator: " ")
    if line.hasSuffix(".") { line.removeLast() }
    if let match = message.firstMatch(of: /nknown option '([^'= ]+)/),
      let instead = Absent.option(String(match.1))
    {
      return ControlError("there is no option \"\(match.1)\"; type \(instead)")
    }
    if message.contains("nexpected argument"), let instead = Absent.words(of: path) {
      return ControlError("\(path): \(line); \(instead)")
    }
    let names = commands(of: path)
    if !names.isEmpty, message.contains("nexpected argument") {
      return ControlError("\(path): \(line); its commands are \(names)")
    }
    return ControlError(
      path.isEmpty
        ? "\(line); ovx-ctl --help lists the commands"
        : "\(path): \(line); see ovx-ctl \(path) --help"
    )
  }
}

extension Invocation {
  /// The parser's complaint without its guess, where that is an option that takes something away.
  private static func withoutHarm(_ message: String) -> String {
    guard let guess = message.firstMatch(of: /\.? *Did you mean '([^']+)'\??/),
      Absent.neverSuggested.contains(String(guess.1))
    else { return message }
    return message.replacingCharacters(of: guess.range, by: "")
  }

  private static func unknownCommand(_ word: String) -> ControlError {
    if let sentence = Absent.command(word) {
      return ControlError("there is no command \"\(word)\": \(sentence)")
    }
    let names = OVXCtl.configuration.subcommands.flatMap { $0.names }
      .filter { !Absent.neverSuggested.contains($0) }
    let nearest = names.min { distance($0, word) < distance($1, word) } ?? ""
    return ControlError(
      "there is no command \"\(word)\"; "
        + (distance(nearest, word) <= 2
          ? "did you mean \(nearest)?" : "ovx-ctl --help lists the commands"))
  }
}

/// How many letters have to be put in, taken out or replaced to make one word of another
/// (Levenshtein).
func distance(_ left: String, _ right: String) -> Int {
  var row = Array(0...right.count)
  for (index, letter) in left.enumerated() {
    var diagonal = row[0]
    row[0] = index + 1
    for (column, other) in right.enumerated() {
      let replaced = diagonal + (letter == other ? 0 : 1)
      diagonal = row[column + 1]
      row[column + 1] = min(replaced, row[column] + 1, row[column + 1] + 1)
    }
  }
  return row[right.count]
}

extension String {
  fileprivate func replacingCharacters(
    of range: Range<String.Index>, by text: String
  ) -> String {
    var result = self
    result.replaceSubrange(range, with: text)
    return result
  }
}

extension ParsableCommand {
  fileprivate static var names: [String] { [_commandName] + configuration.aliases }
}
