internal import OVXControl
internal import OVXDatapath

/// What the switch says of one network's gateway: all that a router is made of.
struct Gateway: Equatable {
  /// The network's name.
  var network: String
  var vni: VNI
  var subnets: [IPPrefix]
  /// The gateway's addresses, at most one of each family.
  var addresses: [IPAddress]
  var nat: Configuration.AddressTranslation
  /// Members that have an address of their own outside, in the order of these.
  var floating: [Floating] = []
  /// Ports of the host that lead to members, in the order of these.
  var published: [Published] = []
  /// What it serves to the members.
  var services = Services(dhcp: false, dns: false)

  /// An address outside, and whose it is.
  struct Floating: Hashable {
    var outside: IPAddress
    var member: IPAddress
  }

  /// A port of the host, and the member's to which it leads.
  struct Published: Hashable {
    var port: PublishedPort
    var member: IPAddress
  }

  /// The host's end of the transit pair: at most 14 bytes.
  var transitDevice: String { Self.transitPrefix + "\(vni.rawValue)" }

  /// What the names of all transit pairs on the host begin with.
  static let transitPrefix = Configuration.Network.transitDevicePrefix

  /// Whether it routes packets of a family.
  func routes(isIPv6: Bool) -> Bool { addresses.contains { $0.isIPv6 == isIPv6 } }

  /// Its own address of a family with the subnet of that, where members are served there; `nil`
  /// where they are not.
  func served(isIPv6: Bool) -> (address: IPAddress, subnet: IPPrefix)? {
    guard services.dhcp, let address = addresses.first(where: { $0.isIPv6 == isIPv6 }),
      let subnet = subnets.first(where: { $0.contains(address) }), subnet.takesDHCP
    else { return nil }
    return (address, subnet)
  }

  /// The subnets of which members are given addresses by DHCP: in IPv4 the gateway's own, in IPv6
  /// also the others.
  var servedSubnets: [IPPrefix] {
    var served = self.served(isIPv6: false).map { [$0.subnet] } ?? []
    if let own = self.served(isIPv6: true)?.subnet {
      served.append(own)
      served += subnets(isIPv6: true).filter { $0 != own && $0.takesDHCP }
    }
    return served
  }

  /// The subnets of a family.
  func subnets(isIPv6: Bool) -> [IPPrefix] { subnets.filter { $0.base.isIPv6 == isIPv6 } }
}

/// What the switch says of all gateways of this host.
struct Wishes: Equatable {
  /// In the order of their networks' names.
  var gateways: [Gateway] = []
  /// The networks that are on other hosts, too, and have their gateway here for all of these.
  var central: Set<String> = []
  /// The devices by which tenants get outside; `nil` for those of the host's default routes.
  var uplinks: [String]?
  /// Where the addresses of transit pairs are from.
  var transit = Configuration.SwitchRecord(otherConfig: [:]).gatewayTransit
}
