internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// Ways of the host to where a network's subnet is, which came after its route to that: the switch
/// refuses what it can see when it is told of the network.
enum RouteClashes {
  /// What to tell the operator; our route stays, as others may have come to rely on it.
  ///
  /// - Parameters:
  ///   - gateway: Of the network.
  ///   - routes: Of the host.
  ///   - links: The host's devices.
  ///   - own: The host's addresses.
  /// - Returns: At most one sentence for each subnet.
  static func faults(
    of gateway: Gateway, _ routes: [RouteEntry], _ links: [Link], own: [IPAddress]
  ) -> [String] {
    guard gateway.nat == .none else { return [] }
    let device = links.first { $0.name == gateway.transitDevice }
    return gateway.subnets.compactMap { subnet in
      guard !subnet.base.isIPv6 || gateway.routes(isIPv6: true) else { return nil }
      var culprit = own.first(where: subnet.contains).map { "the address \($0)" }
      if let route = routes.first(where: {
        $0.isInTheWay(of: subnet) && $0.linkIndex != device?.index
      }) {
        let name = links.first { $0.index == route.linkIndex }?.name
        culprit = "a route to \(route.prefix)" + (name.map { " by \($0)" } ?? "")
      }
      return culprit.map {
        "the host has \($0) beside the one to the network's subnet \(subnet), and what is for both gets to one of them alone; "
          + remedy
      }
    }
  }

  /// What to do where a subnet is in the way.
  static let remedy =
    "with nat=masquerade its members need no route, or give the network another subnet"
}

extension RouteEntry {
  /// Where it leads.
  var prefix: IPPrefix { IPPrefix(destination, length: Int(prefixLength)) }

  /// Whether it leads to addresses of a subnet, and is none that leads everywhere, if by two
  /// halves, as clients of VPNs have it.
  func isInTheWay(of subnet: IPPrefix) -> Bool {
    isInMainTable && prefixLength > 1 && prefix.overlaps(subnet)
  }
}
