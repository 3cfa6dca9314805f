internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// What dnsmasq is told to serve in a router.
///
/// All that gets into its files is of types whose texts have neither blanks nor commas nor line
/// ends, but for the domain, which the switch has checked and which is checked again here.
struct DnsmasqConfiguration: Equatable {
  let gateway: Gateway
  /// The number of the gateway's device: with another one dnsmasq has to open its sockets anew.
  let device: Int32
  /// The router, which the gateway's namespace may be made anew as.
  let place: NetworkNamespace.Identity
  /// The MTU of that device, in bytes of IP packet.
  let deviceMTU: Int
  /// Whom it asks for names outside; none where it is not to.
  let resolvers: [IPAddress]
  /// Where its files are, an absolute path.
  let directory: String

  /// The file with the leases, in the directory.
  static let leases = "leases"
  /// The file with the members' names.
  static let names = "names"

  /// The file with the number of the process.
  static let pid = "pid"

  private var services: Services { gateway.services }
  /// The MTU that members are told, in bytes of IP packet.
  private var mtu: Int { services.mtu ?? deviceMTU }

  private var domain: String? {
    services.domain.flatMap { domain in
      domain.split(separator: ".", omittingEmptySubsequences: false).allSatisfy(isHostLabel)
        ? domain.lowercased() : nil
    }
  }

  /// The configuration's text.
  var text: String {
    var lines = [
      "# The gateway of network \(gateway.network), by ovx-gatewayd; device \(device) in net:[\(place.inode)].",
      "interface=\(RouterRules.tenant)", "except-interface=lo", "bind-interfaces",
      "pid-file=\(directory)/\(Self.pid)",
      "no-hosts", "no-resolv", "no-poll",
    ]
    if let domain { lines.append("domain=\(domain)") }
    lines += services.dns ? dns : ["port=0"]
    if !gateway.servedSubnets.isEmpty { lines += addresses + dhcpIPv4 + dhcpIPv6 }
    return lines.map { $0 + "\n" }.joined()
  }

  private var dns: [String] {
    var lines = [
      "addn-hosts=\(directory)/\(Self.names)", "cache-size=1000", "dns-forward-max=150",
      "domain-needed", "bogus-priv",
    ]
    if let domain { lines.append("local=/\(domain)/") }
    // By that device alone: a resolver whose address a member has taken is not asked there.
    lines += resolvers.map { "server=\($0)@\(RouterRules.outside)" }
    return lines
  }

  private var addresses: [String] {
    [
      "dhcp-authoritative", "no-ping", "dhcp-hostsfile=\(directory)/\(Self.leases)", "leasefile-ro",
      "quiet-dhcp", "quiet-dhcp6", "quiet-ra", "dhcp-lease-max=\(Leases.limit)",
      // Who a member is says its Ethernet address, and what its name is says the switch.
      "dhcp-ignore-names", "dhcp-ignore-clid",
    ]
  }

  private var dhcpIPv4: [String] {
    guard let (address, subnet) = gateway.served(isIPv6: false) else { return [] }
    let mask = IPAddress(v4: subnet.length == 0 ? 0 : UInt32.max << UInt32(32 - subnet.length))
    return [
      "dhcp-range=\(subnet.base),static,\(mask),1h",
      "dhcp-option=option:router,\(address)",
      services.dns ? "dhcp-option=option:dns-server,\(address)" : "dhcp-option=option:dns-server",
      "dhcp-option=option:mtu,\(mtu)",
    ]
  }

  /// Router advertisements with the gateway's subnet as on-link, and DHCPv6 for the addresses in it
  /// and in the others.
  ///
  /// The subnet is not autonomous: an address that a member makes itself is none that it was given,
  /// from which it may send nothing with `port_security`.
  private var dhcpIPv6: [String] {
    guard let (address, own) = gateway.served(isIPv6: true) else { return [] }
    let subnets = gateway.servedSubnets.filter(\.base.isIPv6)
    // An address that a client has is no other client's at that member before it has run out: the
    // shorter, the better.
    var lines = subnets.map { "dhcp-range=\($0.base),static,\($0.length),10m" }
    lines += subnets.filter { $0 != own }.map {
      "shared-network=\(RouterRules.tenant),\($0.base)"
    }
    lines += [
      "enable-ra", "ra-param=\(RouterRules.tenant),mtu:\(mtu),0",
      // The same on all hosts, so that a member that moves is known there. It says nothing to
      // anybody (RFC 8415, section 11), and enterprise 0 is nobody.
      "dhcp-duid=0,\(serverName)",
      services.dns
        ? "dhcp-option=option6:dns-server,[\(address)]" : "dhcp-option=option6:dns-server",
    ]
    if let domain { lines.append("dhcp-option=option6:domain-search,\(domain)") }
    return lines
  }

  /// What the server's DUID ends with: the bytes of the gateway's Ethernet address, as dnsmasq
  /// reads them.
  private var serverName: String {
    Configuration.Network.gatewayEthernetAddress(of: gateway.vni).description
  }

  /// The file of the members' names.
  func names(of members: [Member]) -> String {
    var lines: [String] = []
    for member in members {
      guard let name = member.name, isHostLabel(name) else { continue }
      for address in member.addresses {
        lines.append("\(address) \(domain.map { "\(name).\($0) " } ?? "")\(name)\n")
      }
    }
    return lines.sorted().joined()
  }
}
