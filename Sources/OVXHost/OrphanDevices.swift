internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

// Devices that a crash has left behind, or of ports that were removed while no daemon ran.

extension PortDevices {
  /// Removes what the daemon has made and is not desired, and gives back to the host what it has
  /// taken: left behind by a crash between two steps, or of a port that was removed while no daemon
  /// ran.
  func removeOrphans(exceptFor desired: DesiredState) {
    let orphans = findOrphans(exceptFor: desired)
    for link in orphans.taken { kernel.release(link, from: ownership.filter) }
    giveBackMTU(exceptFor: desired)
    for link in orphans.links { kernel.forget(link) }
    kernel.end(orphans.links.map { DeviceRemains(link: $0) })
    for interface in orphans.interfaces { remove(interface) }
  }

  /// Gives veths of others that are no ports the MTU that they had.
  private func giveBackMTU(exceptFor desired: DesiredState) {
    let wanted = Set(desired.devices.values.map(\.place))
    let names = ownership.adopted.names.filter { !wanted.contains(.existing(name: $0)) }
    for link in names.compactMap({ kernel.links[$0] }) {
      guard let adoption = ownership.adopted.adoption(of: link) else { continue }
      giveBackMTU(of: link, adoption)
    }
    ownership.adopted.forget(names)
  }

  /// Gives a veth the MTU that it had, as far as that can be done.
  func giveBackMTU(of link: Link, _ adoption: Adoption) {
    let adopted = ownership.adopted
    _ = try? kernel.fit(link, to: nil, former: adoption, noting: { adopted.note($0, of: link) })
  }

  /// The names of what `removeOrphans` would remove or give back.
  func orphans(exceptFor desired: DesiredState) -> [String] {
    let orphans = findOrphans(exceptFor: desired)
    return (orphans.links + orphans.taken).map(\.name).sorted()
      + orphans.interfaces.map { "\($0.name) in \($0.target)" }.sorted()
  }

  private func findOrphans(
    exceptFor desired: DesiredState
  ) -> (links: [Link], taken: [Link], interfaces: [DesiredState.ContainerInterface]) {
    let wanted = Set(desired.devices.values.map(\.place))
    let links = kernel.links.values.filter {
      ownership.isOurs($0) && !wanted.contains(.host(name: $0.name))
        && desired.hostEnds[$0.name] == nil
    }
    let taken = kernel.isolatedLinks(by: ownership.filter).filter {
      !wanted.contains(.existing(name: $0.name)) && !ownership.isOurs($0)
    }
    return (links, taken, ownership.noted.filter { !wanted.contains(.container($0)) })
  }

  /// Removes what a former daemon has left in a container.
  private func remove(_ interface: DesiredState.ContainerInterface) {
    // A container that is not there has taken its devices with it.
    do throws(LinuxError) {
      try kernel.delete(interface)
    } catch {
      // Where nobody says, the next daemon finds it noted.
      if error.isWithoutAnswer || error.errno == .resourceTemporarilyUnavailable { return }
    }
    ownership.forget([interface])
  }
}
