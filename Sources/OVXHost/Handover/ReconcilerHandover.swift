internal import OVXControl
package import OVXDatapath
package import OVXLinux

// What a reconciler knows, by names, for the daemon that takes this one's place; and the other way
// round.

extension Reconciler {
  // MARK: Giving

  /// What each descriptor is of that the data plane reads, in the order of a device's queues.
  package func handed(_ sources: Switch.Sources) -> [(HandedDescriptor, Int32)] {
    var result: [(HandedDescriptor, Int32)] = []
    for (port, descriptor) in devices.handed {
      for number in sources.devices[port] ?? [] { result.append((descriptor, number)) }
    }
    for (listener, endpoint) in underlay.listeners {
      let descriptor = HandedDescriptor.listener(
        local: endpoint.local, isIPv6: endpoint.isIPv6, port: endpoint.port)
      for number in sources.listeners[listener] ?? [] { result.append((descriptor, number)) }
    }
    return result
  }

  /// The messages that tell the tables of all bridges.
  ///
  /// - Parameter tables: Asks the data plane for the two tables of a bridge, without what an agent
  ///   has told.
  /// - Returns: The messages, of each bridge what was not seen for the longest time first.
  package func handedTables(
    _ tables: (BridgeID) -> ([KnownAddress], [KnownNeighbor])
  ) -> [HandoverMessage] {
    let ports = portNames
    let remotes = remoteAddresses
    /// `nil` for what is behind a VTEP that is not one any more.
    func remote(_ peer: RemoteVTEPID) -> IPAddress?? {
      peer == .none ? .some(nil) : remotes[peer].map { .some($0) }
    }
    var messages: [HandoverMessage] = []
    for name in configuration.bridges.keys.sorted() {
      guard let id = bridge(name) else { continue }
      let (addresses, neighbors) = tables(id)
      let known = addresses.sorted { ($0.age ?? 0) > ($1.age ?? 0) }
      let handed = known.compactMap { entry -> HandedAddress? in
        guard let port = ports[entry.port], let remote = remote(entry.peer) else { return nil }
        return HandedAddress(
          vlan: entry.vlan, address: entry.address, port: port, remote: remote, age: entry.age)
      }
      messages += handed.chunks(of: HandoverMessage.entryLimit)
        .map { .addresses(bridge: name, $0) }
      let stations = neighbors.sorted { $0.age > $1.age }
      let told = stations.compactMap { entry -> HandedNeighbor? in
        guard let port = ports[entry.port], let remote = remote(entry.peer) else { return nil }
        return HandedNeighbor(
          vlan: entry.vlan, ip: entry.ip, address: entry.address, port: port, remote: remote,
          isRouter: entry.isRouter, age: entry.age)
      }
      messages += told.chunks(of: HandoverMessage.entryLimit).map { .neighbors(bridge: name, $0) }
    }
    return messages
  }

  /// The messages that tell what ports have carried.
  ///
  /// - Parameter counters: Asks the data plane for those of a port.
  /// - Returns: The messages; of ports that have carried nothing there is none.
  package func handedCounters(_ counters: (PortID) -> PortCounters) -> [HandoverMessage] {
    var handed = portNames.map { HandedCounters(port: $1, counters: counters($0)) }
    handed.append(HandedCounters(port: "", counters: counters(.none)))
    return handed.filter { $0.counters != PortCounters() }
      .chunks(of: HandoverMessage.countersLimit).map { .counters($0) }
  }

  private var portNames: [PortID: String] {
    var names: [PortID: String] = [:]
    for name in configuration.ports.keys {
      if let id = port(name) { names[id] = name }
    }
    return names
  }

  private var remoteAddresses: [RemoteVTEPID: IPAddress] {
    var addresses: [RemoteVTEPID: IPAddress] = [:]
    for (name, tunnel) in desired.tunnels {
      for remote in tunnel.remotes {
        if let id = remoteVTEP(remote.address, of: name) { addresses[id] = remote.address }
      }
    }
    return addresses
  }

  // MARK: Taking

  /// The addresses that a former daemon knew on a bridge, in this one's numbers; what has none is
  /// left out.
  package func known(_ handed: [HandedAddress]) -> [KnownAddress] {
    handed.compactMap { entry in
      guard let place = place(entry.port, entry.remote) else { return nil }
      return KnownAddress(
        address: entry.address, vlan: entry.vlan, port: place.port, peer: place.peer,
        age: entry.age, origin: entry.age == nil ? .static : .learned)
    }
  }

  /// The same for neighbors.
  package func known(_ handed: [HandedNeighbor]) -> [KnownNeighbor] {
    handed.compactMap { entry in
      guard let place = place(entry.port, entry.remote) else { return nil }
      return KnownNeighbor(
        ip: entry.ip, vlan: entry.vlan, address: entry.address, port: place.port,
        peer: place.peer, isRouter: entry.isRouter, age: entry.age)
    }
  }

  private func place(_ name: String, _ remote: IPAddress?) -> Destination? {
    guard let port = port(name) else { return nil }
    guard let remote else { return Destination(port: port) }
    return remoteVTEP(remote, of: name).map { Destination(port: port, peer: $0) }
  }
}

extension Array {
  /// The elements in their order, in portions of so many.
  fileprivate func chunks(of size: Int) -> [[Element]] {
    stride(from: 0, to: count, by: size).map { Array(self[$0..<Swift.min($0 + size, count)]) }
  }
}
