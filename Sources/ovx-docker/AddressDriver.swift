internal import OVXControl
private import OVXDatapath
private import OVXLinux

/// Docker's addresses as addresses of the switch's networks: with it two networks may have the same
/// ones, and Docker hands out none that somebody else has.
///
/// A pool of Docker is a subnet of a network, and its id both names: `red 172.17.42.0/24`. What is
/// handed out is reserved in the network's record until Docker gives it back.
struct AddressDriver {
  private let connection: SwitchConnection

  init(_ connection: SwitchConnection) {
    self.connection = connection
  }

  /// Finds the subnet that Docker is to take addresses from.
  func requestPool(_ request: RequestPoolRequest) throws(ControlError) -> RequestPoolResponse {
    guard let name = request.options?["network"] else {
      throw ControlError(
        "addresses of ovx are those of a network; name it with --ipam-opt network=NAME, as for -o")
    }
    guard let network = try connection.networks().first(where: { $0.name == name }) else {
      throw ControlError(
        "the switch has no network \(printable(name)); \"ovx-ctl add-net\" makes one")
    }
    let wanted = request.pool.flatMap { $0.isEmpty ? nil : $0 }
    let isIPv6 = request.v6 ?? false
    let subnet = network.subnets.first { wanted == nil ? $0.contains(":") == isIPv6 : $0 == wanted }
    guard let subnet else {
      throw ControlError(
        "network \(name) has no subnet \(wanted.map { printable($0) } ?? (isIPv6 ? "of IPv6" : "of IPv4")); it has "
          + (network.subnets.isEmpty ? "none" : network.subnets.joined(separator: ", ")))
    }
    if let part = request.subPool, !part.isEmpty {
      throw ControlError(
        "--ip-range is this host's range of the network; \"ovx-ctl set network \(name) range=\(printable(part))\" says so"
      )
    }
    if wanted == nil, let prefix = IPPrefix(subnet), let route = Self.route(into: prefix) {
      throw ControlError(
        "subnet \(subnet) of network \(name) is in the way of the host's route to \(route), so Docker would ask for another one "
          + "for ever; type --subnet \(subnet), and it takes it")
    }
    return RequestPoolResponse(poolID: "\(name) \(subnet)", pool: subnet)
  }

  /// Where a route of the host leads that has addresses in common with a subnet, as Docker looks
  /// for it (`CheckRouteOverlaps` of libnetwork's netutils); `nil` where there is none.
  private static func route(into subnet: IPPrefix) -> IPPrefix? {
    guard var netlink = try? Netlink(), let routes = try? netlink.routes() else { return nil }
    return routes.lazy.filter { !$0.isDefault && $0.isInMainTable }.map {
      IPPrefix($0.destination, length: Int($0.prefixLength))
    }.first { $0.overlaps(subnet) }
  }

  /// Reserves an address: the one that is asked for, or a free one; for a router the network's, or
  /// the subnet's first.
  ///
  /// - Returns: ADDRESS/LENGTH.
  func requestAddress(_ request: AddressRequest) throws(ControlError) -> String {
    let (name, subnet) = try pool(request.poolID)
    let asked = request.address.flatMap { $0.isEmpty ? nil : $0 }
    if request.options?["RequestAddressType"] == "com.docker.network.gateway" {
      let network = try connection.networks().first { $0.name == name }
      let router = network?.gateways.compactMap { IPAddress($0) }.first { subnet.contains($0) }
      guard let asked else { return "\(router ?? subnet.stations.first)/\(subnet.length)" }
      guard router == nil || router?.description == asked else {
        throw ControlError(
          "--gateway \(printable(asked)) is not the gateway of network \(name), which is \(router.map { "\($0)" } ?? "")"
        )
      }
      return "\(asked)/\(subnet.length)"
    }
    var address: IPAddress?
    if let asked {
      guard let parsed = IPAddress(asked) else {
        throw ControlError("\"\(printable(asked))\" is not an address")
      }
      address = parsed
    }
    let replies = try connection.send([
      .reserveAddress(network: name, subnet: subnet, address: address)
    ])
    guard case .names(let names)? = replies.first, let given = names.first else {
      throw ControlError("the switch has given no address")
    }
    return given
  }

  /// Gives an address back; does nothing where it was not reserved.
  func releaseAddress(_ request: AddressRequest) throws(ControlError) {
    let (name, _) = try pool(request.poolID)
    guard let address = request.address.flatMap({ IPAddress($0) }) else { return }
    _ = try connection.send([.releaseAddress(network: name, address: address)])
  }

  private func pool(_ id: String) throws(ControlError) -> (network: String, subnet: IPPrefix) {
    let parts = id.split(separator: " ")
    guard parts.count == 2, let subnet = IPPrefix(String(parts[1])) else {
      throw ControlError("\"\(printable(id))\" is no pool of ovx")
    }
    return (String(parts[0]), subnet)
  }
}
