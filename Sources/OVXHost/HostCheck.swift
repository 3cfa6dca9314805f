package import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// Checks a configuration against the host before it is stored: what a command may still be refused
/// for.
///
/// Nothing is changed, so this is also all that a dry run does. Only what differs from the present
/// configuration is looked at: a device that has vanished since, or an underlay that has become
/// narrower, must not stand in the way of commands about something else.
package struct HostCheck {
  let reconciler: Reconciler
  private let ownership: DeviceOwnership
  let configuration: Configuration
  package let desired: DesiredState
  let changes: Configuration.Changes
  var kernel: any HostKernel { reconciler.kernel }

  /// - Parameters:
  ///   - configuration: What is to be checked.
  ///   - changes: What is otherwise in it than in the one in force.
  ///   - reconciler: Has that.
  ///   - ownership: Knows which devices are ours.
  package init(
    _ configuration: Configuration, _ changes: Configuration.Changes, after reconciler: Reconciler,
    ownership: DeviceOwnership
  ) {
    self.reconciler = reconciler
    self.ownership = ownership
    self.configuration = configuration
    self.changes = changes
    desired = reconciler.desired(for: configuration, changes)
  }

  /// Refuses what cannot be put in force.
  package func check() throws(ControlError) {
    try checkLimits()
    try checkSubnets()
    try checkPublished()
    for name in changes.ports.sorted() {
      guard let device = desired.devices[name],
        reconciler.desired.devices[name]?.place != device.place
      else { continue }
      do throws(LinuxError) { try check(device) } catch {
        throw refusal(name, error.description)
      }
    }
    let ways = try checkTunnels()
    try checkSizes(ways)
  }

  /// What the operator is told of what can be put in force, and will not do all that it seems to.
  package var notes: [String] { notesOfSubnets + notesOfGateways + notesOfPublished }

  private func refusal(_ port: String, _ sentence: String) -> ControlError {
    let device = desired.devices[port]?.place.name
    return ControlError(device == port ? sentence : "port \(port): \(sentence)", record: port)
  }

  /// The data plane's tables have fixed sizes.
  private func checkLimits() throws(ControlError) {
    let peers = desired.tunnels.values.reduce(0) { $0 + $1.remotes.count }
    let endpoints = Set(desired.tunnels.values.map(\.endpoint)).count
    let sizes = [
      ("bridges", configuration.bridges.count, BridgeID.limit),
      ("ports", configuration.ports.count, PortID.limit),
      ("remotes of tunnels", peers, RemoteVTEPID.limit - 1),
      ("pairs of local address and UDP port", endpoints, ListenerID.limit),
    ]
    for (name, count, limit) in sizes where count > limit {
      throw ControlError("there would be \(count) \(name), and one daemon can have \(limit)")
    }
  }

  private func check(_ device: DesiredState.Device) throws(LinuxError) {
    switch device.place {
    case .existing(let name):
      // One that is not there yet is waited for.
      if kernel.links[name] != nil {
        try kernel.checkAddresses(
          of: kernel.deviceForPort(name, ownership), exceptFor: device.displaced, ownership.filter)
      }
    case .host(let name):
      // One of ours is there, where the port only moves or is made anew in one transaction.
      if let link = kernel.links[name] { try ownership.check(link) }
    case .container(let interface):
      do throws(LinuxError) {
        try kernel.check(interface, of: device.container)
      } catch  where error.isWithoutAnswer {
        // It is waited for.
      }
    }
  }

  /// Makes sure that new tunnels can receive, and finds the ways to all remotes.
  private func checkTunnels() throws(ControlError) -> [DesiredState.Remote: UnderlayRoute] {
    var ways: [DesiredState.Remote: UnderlayRoute] = [:]
    var checked: Set<DesiredState.Endpoint> = []
    for (name, tunnel) in desired.tunnels.sorted(by: { $0.key < $1.key }) {
      let isNew = reconciler.desired.tunnels[name] != tunnel
      for remote in tunnel.remotes where ways[remote] == nil {
        if !isNew, let way = reconciler.underlay.way(to: remote) {
          ways[remote] = way
          continue
        }
        do {
          ways[remote] = try kernel.way(to: remote, isInjected: false)
        } catch  where !error.isTransient && isNew {
          throw ControlError("port \(name): \(error.sentence)", record: name)
        } catch {
          // It waits until the way is there.
        }
      }
      guard isNew, checked.insert(tunnel.endpoint).inserted else { continue }
      do {
        try reconciler.underlay.probe(tunnel.endpoint)
      } catch  where !error.isTransient {
        throw ControlError("port \(name): \(error.sentence)", record: name)
      } catch {
        // It waits until the address is there.
      }
    }
    return ways
  }

  /// Refuses ports that are to have an MTU which the tunnels of their segments do not carry.
  ///
  /// Devices that merely have a larger one are given what fits; see `Adoption`.
  private func checkSizes(_ ways: [DesiredState.Remote: UnderlayRoute]) throws(ControlError) {
    let limits = desired.limits(innerMTU: { ways[$0]?.innerMTU }, deviceMTU: { _ in nil })
    let newTunnels = changes.ports.filter { reconciler.desired.tunnels[$0] != desired.tunnels[$0] }
    let bridgesWithNewTunnels = Set(newTunnels.compactMap { desired.tunnels[$0]?.bridge })
    for (name, network) in configuration.networks.sorted(by: { $0.key < $1.key }) {
      let isNew =
        reconciler.configuration.networks[name]?.mtuRequest != network.mtuRequest
        || newTunnels.contains(network.tunnelPort)
      guard isNew, let mtu = network.mtuRequest, let tunnel = desired.tunnels[network.tunnelPort],
        let carried = tunnel.remotes.compactMap({ ways[$0]?.innerMTU }).min(), mtu > carried
      else { continue }
      throw ControlError(
        "network \(name): mtu_request is \(mtu), but its tunnel carries packets of up to \(carried) bytes; "
          + "take \(carried) or less, or leave it out (clear network \(name) mtu_request)",
        record: name)
    }
    for (name, device) in desired.devices.sorted(by: { $0.key < $1.key }) {
      guard
        reconciler.desired.devices[name] != device || bridgesWithNewTunnels.contains(device.bridge),
        let mtu = device.mtuRequest, let bound = limits[name]?.tunnel, mtu > bound.mtu
      else { continue }
      throw ControlError(
        "port \(name) is to have an MTU of \(mtu), but \(bound.owner), which has VLANs in common with it, "
          + "carries packets of up to \(bound.mtu) bytes; leave out mtu=, or take \(bound.mtu) or less",
        record: name)
    }
  }
}
