/// What `ovx-ctl` asks of the daemon: commands that are one transaction.
package struct Request: Codable, Equatable, Sendable {
  /// The version of the protocol; the daemon refuses another one in words.
  package var version: Int
  package var commands: [Command]
  /// Seconds that the client waits; the daemon gives up on the request then.
  package var timeout: Double
  /// Check everything, change nothing.
  package var dryRun: Bool

  package static let currentVersion = 1

  package var timeoutMilliseconds: Int64 { Int64(timeout * 1000) }

  /// What `timeout` may be: up to a day.
  package static let timeoutRange: ClosedRange<Double> = 0...86400

  package init(commands: [Command], timeout: Double = 10, dryRun: Bool = false) {
    version = Self.currentVersion
    self.commands = commands
    self.timeout = timeout
    self.dryRun = dryRun
  }
}

extension Request {
  /// Reads a request, its version first: what another version says need not be understood to be
  /// refused in words.
  package init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    version = try container.decode(Int.self, forKey: .version)
    guard version == Self.currentVersion else {
      throw ControlError(
        "the request is of version \(version) of the protocol, and this ovx-vswitchd "
          + "(\(OVXVersion.current)) speaks version \(Self.currentVersion); "
          + "install ovx-ctl and ovx-vswitchd of the same release"
      )
    }
    commands = try container.decode([Command].self, forKey: .commands)
    timeout = try container.decode(Double.self, forKey: .timeout)
    dryRun = try container.decode(Bool.self, forKey: .dryRun)
    guard Self.timeoutRange.contains(timeout) else {
      throw DecodingError.dataCorruptedError(
        forKey: .timeout,
        in: container,
        debugDescription: "not in the range 0 to 86400 seconds"
      )
    }
  }
}

/// What the daemon answers to a request.
package struct Response: Codable, Equatable, Sendable {
  package var version: Int
  package var outcome: Outcome
  /// Sentences that the operator should read although all went well.
  package var notes: [String]

  package enum Outcome: Codable, Equatable, Sendable {
    /// All commands took effect; one reply for each.
    case done([Reply])
    /// Nothing has changed, and why.
    case failed(ControlError)
  }

  package init(_ outcome: Outcome, notes: [String] = []) {
    version = Request.currentVersion
    self.outcome = outcome
    // They quote names, as errors do.
    self.notes = notes.map { printable(brief($0)) }
  }

  /// The exit status of `ovx-ctl`: 0, or 2 where the answer is "no", or the failure's.
  package var exitStatus: Int32 {
    switch outcome {
    case .done(let replies): replies.contains(.answer(false)) ? 2 : 0
    case .failed(let error): error.kind.rawValue
    }
  }
}
