package import OVXDatapath

// What the reference asks of a topology, looked for anew each time.

extension Topology.Port {
  /// Whether what the other port brings may leave by this one; between two tunnels, where their
  /// VNIs are joined.
  func isJoined(to other: Topology.Port) -> Bool {
    guard case .tunnel(let left) = attachment, case .tunnel(let right) = other.attachment else {
      return true
    }
    return left.isJoined && right.isJoined && left.vni != right.vni
  }

  /// The address that its device has itself.
  var ownAddress: MACAddress? {
    guard case .device(let device) = attachment else { return nil }
    return device.address
  }

  /// Whether whoever uses its device has that address.
  var isStation: Bool {
    guard case .device(let device) = attachment else { return false }
    return device.isStation
  }

  /// Whether it is a tunnel with remotes.
  var hasPeers: Bool {
    guard case .tunnel(let tunnel) = attachment else { return false }
    return !tunnel.peers.isEmpty
  }
}

extension VLANMembership {
  /// Whether a port is a member of a VLAN, by the rules of `vlan_mode` in ovs-vswitchd.conf.db(5).
  func includes(_ vlan: VLANID) -> Bool {
    switch self {
    case .access(let only), .dot1qTunnel(let only, _, _): vlan == only
    case .trunk(let vlans): vlans?.contains(vlan) ?? true
    case .nativeTagged(let native, let vlans), .nativeUntagged(let native, let vlans):
      // A native VLAN is always carried, and then VLAN 0 is not.
      if native == .untagged {
        vlans?.contains(vlan) ?? true
      } else {
        vlan == native || (vlan != .untagged && vlans?.contains(vlan) ?? true)
      }
    }
  }
}

extension Topology {
  package func port(_ id: PortID) -> Port? { ports.first { $0.id == id } }

  /// Whether any tunnel has this VTEP as a remote.
  func hasRemote(_ remote: IPAddress) -> Bool {
    ports.contains { port in
      guard case .tunnel(let tunnel) = port.attachment else { return false }
      return tunnel.peers.contains { $0.remote == remote }
    }
  }

  /// The tunnel port and peer of a datagram.
  func tunnel(vni: VNI, endpoint: ListenerID, remote: IPAddress) -> (Port, RemoteVTEPID)? {
    for isFallback in [false, true] {
      for port in ports {
        guard case .tunnel(let tunnel) = port.attachment, tunnel.vni == vni,
          isFallback ? tunnel.fallbackEndpoints.contains(endpoint) : tunnel.endpoint == endpoint,
          let peer = tunnel.peers.first(where: { $0.remote == remote })
        else { continue }
        return (port, peer.id)
      }
    }
    return nil
  }
}
