internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

// Subnets of networks that the host has a route to, as their gateways do not translate: there a
// tenant's addresses and the host's own ways meet.
//
// All other networks may have any subnet, also one of the host's or another tenant's: nobody but
// their own members and their own router ever looks there for it.

/// Where the host itself gets by one of its devices: a route of the main table, or an address of
/// its own.
struct HostWay: Hashable {
  var destination: IPPrefix
  var device: String
  /// Whether it is the host's own address.
  var isAddress = false
  /// Where its packets go first; `nil` for neighbors, and where there are several.
  var nextHop: IPAddress?

  /// Whether it leads everywhere, if by two halves, as clients of VPNs have it: from such a way any
  /// narrower one takes what it is for.
  var isDefault: Bool { destination.length <= 1 }
}

extension HostWay: CustomStringConvertible {
  var description: String {
    isAddress
      ? "the address \(destination.base) on \(device)" : "a route to \(destination) by \(device)"
  }
}

extension KernelView {
  /// Where the host gets by devices that are no gateways' ways to it.
  func ways() throws(LinuxError) -> [HostWay] {
    if let hostWays { return hostWays }
    var ways: [HostWay] = []
    for route in try netlink.routes() where route.isInMainTable {
      let link = route.linkIndex.flatMap { self.link($0) }
      guard link?.name.hasPrefix(Configuration.Network.transitDevicePrefix) != true else {
        continue
      }
      ways.append(
        HostWay(
          destination: IPPrefix(route.destination, length: Int(route.prefixLength)),
          device: link?.name ?? "several devices", nextHop: route.gateway))
    }
    for (index, address) in try netlink.allAddresses() {
      guard let link = link(index),
        !link.name.hasPrefix(Configuration.Network.transitDevicePrefix)
      else { continue }
      ways.append(
        HostWay(destination: IPPrefix(address.address), device: link.name, isAddress: true))
    }
    hostWays = ways
    return ways
  }
}

extension HostCheck {
  /// Refuses a subnet that the host is to have a route to and has a way of its own to, or to a part
  /// of it: whatever it sent there would get to the tenant, or nothing would.
  ///
  /// Datagrams of tunnels are the worst of it: all tenants' frames.
  func checkSubnets() throws(ControlError) {
    let areTunnelsNew = changes.ports.contains {
      desired.tunnels[$0] != reconciler.desired.tunnels[$0]
    }
    guard !changes.networks.isEmpty || changes.host || areTunnelsNew else { return }
    try checkTransits()
    try checkFloating()
    let routed = configuration.networks.values
      .flatMap { network in network.routedSubnets.map { (network: network.name, subnet: $0) } }
      .sorted { ($0.subnet.length, $0.network) < ($1.subnet.length, $1.network) }
    var owners = PrefixIndex<String>()
    for (network, subnet) in routed {
      if let (other, owner) = owners.covering(subnet),
        isNew(subnet, of: network) || isNew(other, of: owner)
      {
        guard isNew(subnet, of: network) else {
          throw clash(owner, other, "network \(network) has one to \(subnet)")
        }
        throw clash(network, subnet, "network \(owner) has one to \(other)")
      }
      owners.insert(network, at: subnet)
    }
    guard !routed.isEmpty else { return }
    try checkUnderlay(owners)
    guard routed.contains(where: { isNew($0.subnet, of: $0.network) }) else { return }
    let ways = hostWays.filter { !$0.isDefault }
    var index = PrefixIndex<HostWay>()
    for way in ways { index.insert(way, at: way.destination) }
    for (network, subnet) in routed where isNew(subnet, of: network) {
      guard let (_, way) = index.covering(subnet) else { continue }
      throw clash(network, subnet, "the host has \(way)")
    }
    for way in ways {
      guard let (subnet, network) = owners.covering(way.destination), isNew(subnet, of: network)
      else { continue }
      throw clash(network, subnet, "the host has \(way)")
    }
  }

  /// What the operator is told of networks whose members get outside, but not to where their own
  /// subnet has the addresses of what is there.
  var notesOfSubnets: [String] {
    let translated = changes.networks.sorted().compactMap { configuration.networks[$0] }.filter {
      network in
      let old = reconciler.configuration.networks[network.name]
      let known = old?.isTranslatedHere == true ? old?.subnets ?? [] : []
      return network.isTranslatedHere && !network.subnets.allSatisfy(known.contains)
    }
    guard !translated.isEmpty else { return [] }
    let ways = hostWays.filter { !$0.isAddress }
    let uplinks = Set(
      configuration.host.gatewayUplinks ?? ways.filter { $0.destination.length == 0 }.map(\.device))
    let outside = ways.filter { !$0.isDefault && uplinks.contains($0.device) }
    return translated.compactMap { network in
      for subnet in network.subnets {
        guard let way = outside.first(where: { $0.destination.overlaps(subnet) }) else { continue }
        return
          "network \(network.name): outside, its members reach nothing that has an address of their own subnet "
          + "\(subnet), and the host has \(way); another subnet would let them"
      }
      return nil
    }
  }

  private var hostWays: [HostWay] { (try? kernel.ways()) ?? [] }

  /// Whether the host is to have a route to a subnet that it has none to by now.
  private func isNew(_ subnet: IPPrefix, of network: String) -> Bool {
    reconciler.configuration.networks[network]?.routedSubnets.contains(subnet) != true
  }

  /// Refuses subnets with addresses that ways between routers and the host have.
  private func checkTransits() throws(ControlError) {
    let pool = configuration.host.gatewayTransit
    let isPoolNew = pool != reconciler.configuration.host.gatewayTransit
    for network in configuration.networks.values.sorted(by: { $0.name < $1.name })
    where network.hasGatewayHere && (isPoolNew || changes.networks.contains(network.name)) {
      let old = reconciler.configuration.networks[network.name]
      let known = !isPoolNew && old?.hasGatewayHere == true ? old?.subnets ?? [] : []
      guard
        let subnet = network.subnets.first(where: { $0.overlaps(pool) && !known.contains($0) })
      else { continue }
      throw ControlError(
        "network \(network.name): its subnet \(subnet) overlaps with \(pool), of which gateways' ways to the host have their "
          + "addresses; give the network another subnet, or those another range with \"set switch . "
          + "other_config:gateway-transit=10.200.0.0/16\"", record: network.name)
    }
  }

  /// Refuses that what tunnels send, or listen at, is led to a tenant.
  private func checkUnderlay(_ owners: PrefixIndex<String>) throws(ControlError) {
    for (name, tunnel) in desired.tunnels.sorted(by: { $0.key < $1.key }) {
      let old = reconciler.desired.tunnels[name]
      for (address, what) in tunnel.remotes.map({ ($0.address, "a remote") })
        + (tunnel.endpoint.local.map { [($0, "the local address")] } ?? [])
      {
        guard
          let (subnet, network) = owners.covering(IPPrefix(address)),
          old != tunnel || isNew(subnet, of: network)
        else { continue }
        throw clash(network, subnet, "\(address) in it is \(what) of tunnel \(name)")
      }
    }
  }

  /// Refuses a floating address that is somebody's whom the host needs: it would lead to a member
  /// what is for him, and answer in his place on the uplinks.
  private func checkFloating() throws(ControlError) {
    var owners: [IPAddress: String] = [:]
    for network in configuration.networks.values {
      for (outside, _) in network.floatingAddresses { owners[outside] = network.name }
    }
    guard !owners.isEmpty else { return }
    func isNew(_ address: IPAddress, of network: String) -> Bool {
      let old = reconciler.configuration.networks[network]?.floatingAddresses ?? []
      return !old.contains { $0.outside == address }
    }
    func refusal(_ address: IPAddress, _ network: String, _ whose: String) -> ControlError {
      ControlError(
        "network \(network): the floating address \(address) is \(whose), which a member would have in its place; name an "
          + "address that nobody has", record: network)
    }
    for (name, tunnel) in desired.tunnels.sorted(by: { $0.key < $1.key }) {
      for remote in tunnel.remotes {
        guard let network = owners[remote.address],
          reconciler.desired.tunnels[name] != tunnel || isNew(remote.address, of: network)
        else { continue }
        throw refusal(remote.address, network, "a remote's of tunnel \(name)")
      }
    }
    guard owners.contains(where: { isNew($0.key, of: $0.value) }) else { return }
    for way in hostWays {
      if let hop = way.nextHop, let network = owners[hop], isNew(hop, of: network) {
        throw refusal(
          hop, network,
          "the next router's on the host's route to \(way.destination.length == 0 ? "everywhere" : "\(way.destination)")"
        )
      }
      let subnet = way.destination
      guard way.nextHop == nil, !way.isDefault else { continue }
      for end in [subnet.addresses.first, subnet.addresses.last] {
        guard !subnet.stations.contains(end), let network = owners[end], isNew(end, of: network)
        else { continue }
        throw ControlError(
          "network \(network): the floating address \(end) is the first or the last of \(subnet), where the host has its neighbors, and can be no station's; "
            + "name another address", record: network)
      }
    }
  }

  /// What the operator is told of members that were attached before their network had its gateway,
  /// and keep the routes that they were given.
  var notesOfGateways: [String] {
    changes.networks.sorted().flatMap { name -> [String] in
      guard let network = configuration.networks[name],
        let old = reconciler.configuration.networks[name]
      else { return [] }
      return network.gateways.filter { !old.gateways.contains($0) }.compactMap { gateway in
        let members = configuration.ports.values.filter { port in
          guard port.network == name, !network.isGateway(port),
            let attachment = port.interface.attachment
          else { return false }
          return attachment.addresses.contains { $0.address.isIPv6 == gateway.isIPv6 }
            && !attachment.gateways.contains(gateway)
        }.map(\.name).sorted()
        guard let first = members.first else { return nil }
        let others = members.count > 1 ? " and \(members.count - 1) more" : ""
        return "network \(name): \(first)\(others), attached before, "
          + "\(members.count > 1 ? "keep" : "keeps") the routes of then and \(members.count > 1 ? "do" : "does") not use the gateway "
          + "\(gateway); detach and attach anew, or type `ip route replace default via \(gateway)` inside"
      }
    }
  }

  private func clash(_ network: String, _ subnet: IPPrefix, _ reason: String) -> ControlError {
    ControlError(
      "network \(network): with nat=none the host has a route to its subnet \(subnet), and \(reason); nat=masquerade "
        + "takes no route, nor does gateway_mode=remote where somebody else is the router; or give the network another subnet",
      record: network)
  }
}

extension Configuration.Network {
  /// Whether its members get outside by this host, with the host's address.
  fileprivate var isTranslatedHere: Bool { hasGatewayHere && nat == .masquerade }
}

/// Prefixes, to find those that have all addresses of another one: as many steps as there are
/// lengths.
private struct PrefixIndex<Value> {
  private var values: [IPPrefix: Value] = [:]
  private var lengths: Set<Int> = []

  /// Keeps the first of several values.
  mutating func insert(_ value: Value, at prefix: IPPrefix) {
    guard values[prefix] == nil else { return }
    values[prefix] = value
    lengths.insert(prefix.length)
  }

  /// A prefix with all addresses of another one, and its value.
  func covering(_ prefix: IPPrefix) -> (prefix: IPPrefix, value: Value)? {
    for length in lengths where length <= prefix.length {
      let wider = IPPrefix(prefix.base, length: length)
      if let value = values[wider] { return (wider, value) }
    }
    return nil
  }
}
