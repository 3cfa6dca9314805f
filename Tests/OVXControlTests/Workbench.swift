import OVXControl
import OVXDatapath
import Testing

@testable import ovx_ctl

/// A configuration that is worked on as a person would, by command lines.
struct Workbench {
  var configuration = Configuration()
  /// The network devices that the host has.
  var devices: Set<String> = ["veth1", "veth2", "veth3"]
  var states: [String: InterfaceState] = [:]
  /// What the host has on devices.
  var places: [String: HostPlace] = [:]
  private(set) var notes: [String] = []
  /// Who answers for addresses, by their texts; where there are some, of all others nothing is
  /// known.
  var answers: [String: AddressState] = [:]
  /// What is to be asked for before the last command line may be carried out.
  private(set) var questions: [AddressQuestion] = []

  init(_ lines: String...) throws {
    for line in lines { try run(line) }
  }

  /// Carries out one command line; words are separated by spaces, without quoting.
  @discardableResult
  mutating func run(_ line: String) throws -> [Reply?] {
    try run(Invocation(parsing: line.split(separator: " ").map(String.init)).commands)
  }

  /// Carries out one command line, given by its words.
  @discardableResult
  mutating func run(_ words: [String]) throws -> [Reply?] {
    try run(Invocation(parsing: words).commands)
  }

  /// Carries out commands.
  @discardableResult
  mutating func run(_ commands: [Command]) throws -> [Reply?] {
    let devices = devices
    let states = states
    let answers = answers
    let places = places
    let before = configuration
    let transaction = try Transaction.execute(
      commands, on: &configuration,
      live: LiveState(
        deviceExists: { devices.contains($0) }, interface: { states[$0] },
        addressStates: {
          $0.map { answers.isEmpty ? .free : answers[$0.address.description] ?? .unknown }
        }, place: { places[$0] ?? HostPlace() }))
    questions = transaction.questions
    #expect(transaction.changes == configuration.changes(since: before), "\(commands)")
    notes = transaction.notes
    return transaction.replies
  }

  /// The sentence with which a command line is refused; it must leave the configuration as it was.
  mutating func refusal(
    _ line: String, sourceLocation: SourceLocation = #_sourceLocation
  ) -> String {
    let before = configuration
    do {
      try run(line)
      Issue.record("\(line) was accepted", sourceLocation: sourceLocation)
      return ""
    } catch {
      #expect(configuration == before, sourceLocation: sourceLocation)
      return (error as? ControlError)?.message ?? "\(error)"
    }
  }

  /// What a command line that only asks prints.
  mutating func output(_ line: String) throws -> String {
    let invocation = try Invocation(parsing: line.split(separator: " ").map(String.init))
    let replies = try run(line)
    return try zip(invocation.commands, replies).map { command, reply in
      let reply = try #require(reply)
      return try Output(invocation.options, command: command).text(of: reply)
    }.joined()
  }
}
