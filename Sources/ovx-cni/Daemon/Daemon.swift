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
  /// - Throws: Code 11 where no daemon answers, or not in time, and 100 where it refuses, in its
  ///   words.
  func send(_ commands: [Command]) throws(PluginError) -> [Reply] {
    do {
      return try client.replies(to: commands, timeout: Self.patience)
    } catch {
      throw PluginError(error)
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
