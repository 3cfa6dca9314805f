internal import ArgumentParser
private import OVXControl
private import OVXLinux

// What the shell offers for a word, when the tabulator is pressed: the names of what there is at
// the moment. The scripts that complete (--generate-completion-script) run `ovx-ctl ---completion`
// for it.

extension CompletionKind {
  static var bridges: CompletionKind { .live { $0.bridges } }
  static var ports: CompletionKind { .live { $0.ports } }
  static var networks: CompletionKind { .live { $0.networks } }
  /// What `attach` takes: networks, and bridges.
  static var segments: CompletionKind { .live { $0.networks + $0.bridges } }
  static var bridgesAndPorts: CompletionKind { .live { $0.bridges + $0.ports } }
  /// Names of network namespaces, which are the containers that can be told without asking an
  /// engine.
  static var containers: CompletionKind { .live { _ in NetworkNamespace.names() } }
  static var attachedContainers: CompletionKind { .live { $0.attachments.map(\.container) } }
  /// The interfaces of the container in front.
  static var attachedInterfaces: CompletionKind {
    .live { live in
      live.attachments.filter { $0.container == live.wordInFront }.map(\.interface)
    }
  }
  static var tables: CompletionKind { .list(["Bridge", "Port", "Interface", "Network", "Switch"]) }
  /// The records of the table that was named.
  static var records: CompletionKind { .live { $0.records } }

  private static func live(
    _ names: @escaping @Sendable (LiveNames) -> [String]
  ) -> CompletionKind {
    .custom { words, index, prefix in
      // The scripts leave it to the program to tell what the word begins with.
      Set(names(LiveNames(words: words, index: index))).filter { $0.hasPrefix(prefix) }.sorted()
    }
  }
}

/// The names that the switch knows, to offer them to whoever types.
///
/// Where there is no daemon, or this user may not ask it, there are none: a word that is being
/// typed is no place for an error.
private struct LiveNames {
  /// Longer than any answer takes, and no longer than one waits for the next letter.
  private static let seconds = 0.3

  /// The command line so far, with the program's name, and the place of the word in question.
  let words: [String]
  let index: Int

  var bridges: [String] { names(of: .listBridges) }
  var networks: [String] { names(of: .listNetworks) }
  var ports: [String] { records(of: "Port") }

  /// What `attach` has made, by the names of its ports.
  var attachments: [(interface: String, container: String)] {
    ports.compactMap { port in
      guard let at = port.firstIndex(of: "@") else { return nil }
      return (String(port[..<at]), String(port[port.index(after: at)...]))
    }
  }

  var records: [String] {
    let verbs: Set = [
      "set", "get", "list", "find", "add", "remove", "clear", "wait-until", "destroy",
    ]
    guard let verb = words.firstIndex(where: verbs.contains),
      let table = words[words.index(after: verb)...].first(where: { !$0.hasPrefix("-") })
    else { return [] }
    return records(of: table)
  }

  var wordInFront: String? { words.indices.contains(index - 1) ? words[index - 1] : nil }

  private func records(of table: String) -> [String] {
    let list = Command.list(table: table, records: [], columns: ["name"], ifExists: true)
    guard case .records(let records)? = reply(to: list) else {
      // The one record of Switch has no name.
      return reply(to: .list(table: table, records: [], columns: [], ifExists: true)) == nil
        ? [] : ["."]
    }
    return records.rows.flatMap { $0 }.flatMap(\.atoms).compactMap { atom in
      if case .text(let name) = atom { name } else { nil }
    }
  }

  private func names(of command: Command) -> [String] {
    guard case .names(let names)? = reply(to: command) else { return [] }
    return names
  }

  private func reply(to command: Command) -> Reply? {
    var directory = ControlSocket.runDirectoryOfEnvironment
    for (place, word) in words.enumerated() {
      if word == "--rundir", words.indices.contains(place + 1) { directory = words[place + 1] }
      if word.hasPrefix("--rundir=") { directory = String(word.dropFirst("--rundir=".count)) }
    }
    let client = ControlClient(runDirectory: directory)
    return try? client.replies(to: [command], timeout: Self.seconds).first
  }
}
