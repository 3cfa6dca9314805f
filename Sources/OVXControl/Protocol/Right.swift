/// What somebody may do with the switch.
package enum Right: Int, Comparable, Sendable {
  /// Ask, and be told.
  case look
  /// Change what the switch does or knows, end it, and see tenants' frames.
  case change

  package static func < (left: Right, right: Right) -> Bool { left.rawValue < right.rawValue }
}

extension Command {
  /// The right that it takes: the one place that decides which commands change something.
  ///
  /// A capture changes nothing, but shows what tenants say to each other.
  package var right: Right {
    switch self {
    case .addBridge, .deleteBridge, .addPort, .deletePort, .attach, .detach, .detachStale,
      .addNetwork, .deleteNetwork, .reserveAddress, .releaseAddress, .openGateway,
      .set, .add, .remove, .clear, .create, .destroy, .apply,
      .flushAddresses, .addAddress, .deleteAddress, .flushNeighbors, .agent, .gateways,
      .unfreezeStation,
      .setLogLevel, .capture, .captureDrops, .endCapture, .confirmWithin, .confirm, .exit:
      .change
    case .get, .list, .find, .waitUntil, .reference, .comment, .export,
      .listNetworks, .showNetworks, .listBridges, .bridgeExists, .listPorts, .portToBridge,
      .bridgeParent, .bridgeVLAN, .bridgeExternalIDs,
      .show, .showBridge, .showLinks, .showAddresses, .addressStatistics, .showNeighbors,
      .neighborStatistics, .statistics, .drops, .showTunnels, .showEvents, .logLevel, .trace,
      .traceTo, .watch, .signs,
      .version, .showEVPN, .showEVPNRoutes, .showEVPNVTEPs:
      .look
    }
  }
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
