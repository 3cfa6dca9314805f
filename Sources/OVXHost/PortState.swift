private import OVXControl
package import OVXDatapath
package import OVXLinux

// What has become of ports, tunnels and bridges, for those who ask the running switch.

extension Reconciler {
  /// The number of a port.
  package func port(_ name: String) -> PortID? {
    guard let port = configuration.ports[name] else { return nil }
    return datapathIDs.port(
      DatapathIDs.PortName(name: name, bridge: port.bridge, vni: desired.tunnels[name]?.vni))
  }

  /// Why a port is not in service, or only in part; `nil` where all is well.
  package func fault(of name: String) -> Fault? {
    if let fault = devices.faults[name] ?? devices.sizeFaults[name] ?? devices.remarks[name] {
      return fault
    }
    guard let tunnel = desired.tunnels[name] else { return oversize[name] }
    if let fault = underlay.endpointFaults[tunnel.endpoint] { return fault }
    let faults = tunnel.peers.compactMap { underlay.peerFaults[$0] }
    guard var fault = faults.first(where: { !$0.isTransient }) ?? faults.first else {
      return oversize[name]
    }
    if faults.count > 1 {
      fault.sentence += " (and \(faults.count - 1) more of its \(tunnel.remotes.count) remotes)"
    }
    return fault
  }

  /// The faults of all ports that have one.
  package var faults: [String: Fault] {
    var faults = devices.faults.merging(devices.sizeFaults) { outage, _ in outage }
      .merging(devices.remarks) { other, _ in other }
      .merging(oversize.faults) { other, _ in other }
    guard !underlay.endpointFaults.isEmpty || !underlay.peerFaults.isEmpty else { return faults }
    for name in desired.tunnels.keys {
      if let fault = fault(of: name) { faults[name] = fault }
    }
    return faults
  }

  // MARK: Bridges and devices

  /// The number of a bridge.
  package func bridge(_ name: String) -> BridgeID? { datapathIDs.bridge(name) }

  /// Whether a device is open in a container.
  package var hasDevicesInContainers: Bool { devices.areInContainers }

  /// Whether the device of a port is open and usable, as far as is known.
  package func isDeviceOpen(_ port: String) -> Bool { devices.isOpen(port) }

  /// The kernel's description of a port's device on the host, of a veth to a container of the
  /// host's end; `nil` while it is not open, or where all of it is in a container.
  package func linkOnHost(of port: String) -> Link? { devices.link(of: port) }

  /// The kernel's description of a port's device in a container; `nil` where it is not open, or
  /// gone.
  package func linkInContainer(of port: String) -> Link? {
    devices.lookInContainer(of: port) {
      (netlink: inout Netlink, index: Int32) throws(LinuxError) -> Link? in
      try netlink.link(index: index)
    }?.value
  }

  /// The same with its addresses, and the namespace that it is in.
  package func endInContainer(
    of port: String
  ) -> (link: Link, addresses: [OVXLinux.InterfaceAddress], namespace: NetworkNamespace)? {
    devices.lookInContainer(of: port) {
      (netlink: inout Netlink, index: Int32) throws(LinuxError)
        -> (Link, [OVXLinux.InterfaceAddress])? in
      guard let link = try netlink.link(index: index) else { return nil }
      return (link, try netlink.addresses(of: link))
    }.map { ($0.value.0, $0.value.1, $0.namespace) }
  }

  /// The Ethernet address that the device of a port was given, and the MTU in bytes, where the
  /// kernel does not tell; `nil` while it is not open.
  package func assigned(to port: String) -> (address: MACAddress?, mtu: Int?)? {
    devices.settings(of: port).map { (devices.address(of: port) ?? $0.mac, $0.mtu) }
  }

  /// The Ethernet address that a port's device was given, whatever a container has made of it
  /// since; `nil` while it is not open, and for one that is not the daemon's.
  package func station(of port: String) -> MACAddress? { devices.station(of: port) }

  // MARK: Tunnels

  /// The number of a remote VTEP of a tunnel.
  package func remoteVTEP(_ remote: IPAddress, of tunnel: String) -> RemoteVTEPID? {
    guard let port = configuration.ports[tunnel] else { return nil }
    let name = DatapathIDs.PortName(
      name: tunnel, bridge: port.bridge, vni: desired.tunnels[tunnel]?.vni)
    return datapathIDs.peer(DatapathIDs.PeerName(port: name, remote: remote))
  }

  /// Whether the sockets that receive for an endpoint are open.
  package func isListening(at endpoint: DesiredState.Endpoint) -> Bool {
    underlay.endpoint(endpoint) != nil
  }

  /// How many sockets there are towards a VTEP for a VNI; `nil` while there is no way to it.
  package func socketCount(to peer: DesiredState.Peer) -> Int? {
    underlay.sockets(to: peer)?.count
  }

  /// The way to a VTEP, as last known; `nil` where none has ever been.
  package func way(to remote: DesiredState.Remote) -> UnderlayRoute? { underlay.way(to: remote) }

  /// Whether there is a way that may widen without the kernel saying so.
  package var hasNarrowWays: Bool { underlay.hasNarrowWays }

  /// Why nothing can be sent to a VTEP for a VNI; `nil` where it can.
  package func fault(of peer: DesiredState.Peer) -> Fault? { underlay.peerFaults[peer] }

  /// How a tunnel's superframes get to a VTEP, for people.
  package func describeSuperframes(
    to remote: DesiredState.Remote, of tunnel: DesiredState.Tunnel
  ) -> String {
    underlay.describeSuperframes(to: remote, of: tunnel)
  }
}

extension OVXControl.InterfaceAddress {
  /// An address of a device as the protocol has it; `nil` for a prefix that is longer than the
  /// address.
  package init?(_ address: OVXLinux.InterfaceAddress) { self.init("\(address)") }
}
