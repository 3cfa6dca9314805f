private import OVXControl

extension NetworkTask {
  /// Looks whether `ADD` can do its work.
  ///
  /// - Throws: Code 51 where no daemon answers, as then nobody forwards what containers send; 50
  ///   where the network or its bridge or tunnel is not there; what the IPAM plugin says.
  func status() throws(PluginError) {
    do throws(PluginError) {
      try checkPlace()
    } catch {
      guard error.code != PluginError.Code.tryLater.rawValue else {
        throw PluginError(.unavailableAndDegraded, error.message, details: error.details)
      }
      throw PluginError(.unavailable, error.message, details: error.details)
    }
    try addressPlugin?.status()
  }

  private func checkPlace() throws(PluginError) {
    guard case .bridge(let bridge, _) = configuration.place else {
      let network = try knownNetwork()
      guard
        addressPlugin != nil || network?.subnets.isEmpty != false
          || network?.freeAddresses != 0
      else {
        throw PluginError(
          .unavailable,
          "\(configuration.description) has no free address left on this host; detach something, or widen range or subnet"
        )
      }
      return
    }
    guard try daemon.send([.bridgeExists(bridge: bridge)])[0].isYes else {
      throw PluginError(
        .unavailable, "there is no bridge \(bridge); make it with ovx-ctl add-br \(bridge)")
    }
    _ = try daemon.settings(of: configuration.place)
  }
}
