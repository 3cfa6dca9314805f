internal import OVXControl

/// The switch of this host, asked by its control socket.
struct Daemon {
  private let client: ControlClient
  /// Seconds for one question.
  private static let patience = 10.0

  init(runDirectory: String) {
    client = ControlClient(runDirectory: runDirectory)
  }

  /// Has commands carried out, all of them or none.
  ///
  /// - Parameter commands: One or more.
  /// - Returns: As many replies.
  /// - Throws: Code 11 where no daemon answers, or not in time, and 100 where it refuses, in its words.
  func send(_ commands: [Command]) throws(PluginError) -> [Reply] {
    let response: Response
    do {
      response = try client.send(Request(commands: commands, timeout: Self.patience))
    } catch {
      throw PluginError(error)
    }
    switch response.outcome {
    case .failed(let error): throw PluginError(error)
    case .done(let replies):
      guard replies.count == commands.count else {
        throw PluginError(
          .inputOutput,
          "the daemon on \(client.socketPath) has answered \(replies.count) of \(commands.count) questions"
        )
      }
      return replies
    }
  }
}

extension PluginError {
  fileprivate init(_ error: ControlError) {
    switch error.kind {
    case .refused: self.init(.refused, error.message)
    case .unavailable, .timedOut:
      self.init(
        .tryLater, error.message,
        details: "\"rundir\" of the network configuration names the daemon's directory")
    }
  }
}

extension RecordList {
  /// The value of a column in a row; `nil` where there is no such column.
  func value(_ column: String, _ row: [Datum]) -> Datum? {
    columns.firstIndex(of: column).flatMap { row.indices.contains($0) ? row[$0] : nil }
  }

  /// The text of a column in a row.
  func text(_ column: String, _ row: [Datum]) -> String? {
    value(column, row)?.atoms.first.map(\.bare)
  }

  /// The entries of a map in a row.
  func entries(_ column: String, _ row: [Datum]) -> [String: String] {
    guard case .map(let entries)? = value(column, row) else { return [:] }
    return entries.mapValues(\.bare)
  }
}

extension Reply {
  /// The rows of `list` and `find`; none for another kind of reply.
  var rows: RecordList {
    if case .records(let list) = self { list } else { RecordList(columns: [], rows: []) }
  }

  /// Names of a list.
  var nameList: [String] { if case .names(let names) = self { names } else { [] } }

  var isYes: Bool { if case .answer(let isYes) = self { isYes } else { false } }
}
