internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// What dnsmasq is told to serve in a router.
///
/// All that gets into its files is of types whose texts have neither blanks nor commas nor line ends, but for the domain, which
/// the switch has checked and which is checked again here.
struct DnsmasqConfiguration: Equatable {
  let gateway: Gateway
  let services: Services
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

  /// The gateway's IPv4 address with its subnet; `nil` where it has none.
  var ipv4: (address: IPAddress, subnet: IPPrefix)? {
    guard let address = gateway.addresses.first(where: { !$0.isIPv6 }),
      let subnet = gateway.subnets.first(where: { $0.contains(address) })
    else { return nil }
    return (address, subnet)
  }

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
    if services.dhcp { lines += dhcp }
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

  private var dhcp: [String] {
    guard let (address, subnet) = ipv4 else { return [] }
    let mask = IPAddress(v4: subnet.length == 0 ? 0 : UInt32.max << UInt32(32 - subnet.length))
    return [
      "dhcp-range=\(subnet.base),static,\(mask),1h", "dhcp-authoritative", "no-ping",
      "dhcp-hostsfile=\(directory)/\(Self.leases)", "leasefile-ro", "quiet-dhcp",
      "dhcp-lease-max=\(Leases.limit)",
      // Who a member is says its Ethernet address, and what its name is says the switch.
      "dhcp-ignore-names", "dhcp-ignore-clid",
      "dhcp-option=option:router,\(address)",
      services.dns ? "dhcp-option=option:dns-server,\(address)" : "dhcp-option=option:dns-server",
      "dhcp-option=option:mtu,\(services.mtu ?? deviceMTU)",
    ]
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
