import OVXDatapath
import OVXSimulation

/// A container's interface: which host and port it is plugged into, and whose it is.
struct Container: Hashable {
  var tenant: Int
  var address: MACAddress
  var host: Int
  var port: PortID
}

/// Several hosts, a few tenants with containers on each, and the tunnels that join them.
///
/// Tenants use the same addresses on purpose. The topology of a host follows from where containers
/// are and which hosts there are, so that a change is made in one place.
struct Overlay {
  let hostCount: Int
  let tenantCount: Int
  /// Whether a tenant's tunnel is one port with all remotes, or a port for each.
  let hasOnePortPerRemote: Bool
  /// Whether each tenant has a bridge of its own.
  let hasBridgePerTenant: Bool
  var containers: [Container] = []

  private static let tunnelMTU = 1450

  static func address(of host: Int) -> IPAddress { IPAddress(v4: 0x0A09_0000 + UInt32(host) + 1) }

  /// One for each tenant, as different from the VLAN as can be.
  private static let vnis = (0..<8).compactMap { VNI(rawValue: UInt32($0) * 77 + 5) }

  /// Numbers of devices count from 0, so that a container keeps its port as long as it stays.
  func freePort(on host: Int) -> PortID? {
    let taken = Set(containers.filter { $0.host == host }.map(\.port))
    return (0..<64).map { PortID(rawValue: $0) }.first { !taken.contains($0) }
  }

  func container(host: Int, port: PortID) -> Container? {
    containers.first { $0.host == host && $0.port == port }
  }

  func topology(of host: Int) -> Topology {
    var topology = Topology()
    for number in 0..<(hasBridgePerTenant ? tenantCount : 1) {
      topology.bridges.append(Topology.Bridge(id: BridgeID(rawValue: UInt16(number))))
    }
    for container in containers where container.host == host {
      topology.ports.append(
        Topology.Port(
          id: container.port, bridge: bridge(of: container.tenant),
          vlans: .access(vlan(of: container.tenant)),
          attachment: .device(Topology.Device(mtu: Self.tunnelMTU, capabilities: .all))))
    }
    for tenant in 0..<tenantCount { topology.ports += tunnels(of: tenant, on: host) }
    return topology
  }

  private func bridge(of tenant: Int) -> BridgeID {
    BridgeID(rawValue: hasBridgePerTenant ? UInt16(tenant) : 0)
  }

  private func vlan(of tenant: Int) -> VLANID {
    hasBridgePerTenant ? .untagged : VLANID(rawValue: UInt16(tenant) + 10) ?? .untagged
  }

  private func tunnels(of tenant: Int, on host: Int) -> [Topology.Port] {
    let peers = (0..<hostCount).filter { $0 != host }.map { remote in
      let number = tenant * hostCount + remote + 1
      return Topology.Peer(
        id: RemoteVTEPID(rawValue: UInt16(number)), remote: Self.address(of: remote),
        paths: UInt32(number) * 4..<UInt32(number) * 4 + 4, mtu: Self.tunnelMTU)
    }
    let groups = hasOnePortPerRemote ? peers.map { [$0] } : [peers]
    return groups.enumerated().map { index, group in
      Topology.Port(
        id: PortID(rawValue: UInt16(100 + tenant * 16 + index)), bridge: bridge(of: tenant),
        vlans: .access(vlan(of: tenant)),
        attachment: .tunnel(
          Topology.Tunnel(
            vni: Self.vnis[tenant], endpoint: ListenerID(rawValue: 0), peers: group)))
    }
  }
}
