/// What somebody may do with the switch.
package enum Right: Int, Comparable, Sendable {
  /// Ask, and be told.
  case look
  /// Change what the switch does or knows, end it, and see tenants' frames.
  case change

  package static func < (left: Right, right: Right) -> Bool { left.rawValue < right.rawValue }
}

extension Request {
  /// The right that all of its commands together take.
  ///
  /// `diff` is an `apply` that changes nothing, and only looks. Every other command that is only
  /// checked has the daemon ask container engines and the network, so it takes what the command
  /// takes.
  package var right: Right {
    commands.contains { command in
      if dryRun, case .apply = command { return false }
      return command.right == .change
    } ? .change : .look
  }
}
