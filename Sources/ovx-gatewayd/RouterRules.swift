private import OVXControl
private import OVXDatapath

/// The packet filter inside of a router, as nft(8) reads it.
///
/// The tenant's side may ask the router itself for nothing but an echo of the gateway's addresses,
/// and for what the network serves; what it sends further has addresses of its own, and what comes
/// back belongs to that.
struct RouterRules {
  let gateway: Gateway
  /// The addresses of its transit pairs, which published ports are led to.
  let transits: [Transit]
  /// Connections that may be open at once, of each family and to each side.
  var connections = 1 << 16

  /// Names of the router's two devices.
  static let outside = "outside"
  static var tenant: String { Configuration.Network.gatewayDevice }

  /// What members may ask of the router beside an echo.
  private var services: [String] {
    var rules: [String] = []
    for address in gateway.addresses {
      let family = address.isIPv6 ? "ip6" : "ip"
      if !address.isIPv6, gateway.served(isIPv6: false) != nil {
        rules.append(
          "iifname \(Self.tenant) ip daddr { 255.255.255.255, \(address) } udp sport 68 udp dport 67 accept"
        )
      }
      if gateway.services.dns {
        rules.append(
          "iifname \(Self.tenant) \(family) daddr \(address) meta l4proto { tcp, udp } th dport 53 accept"
        )
      }
    }
    return rules
  }

  /// Whom dnsmasq may hear by DHCPv6, and how often; empty where it serves none.
  ///
  /// It looks for the Ethernet address of who asks among the neighbors, and waits half a second,
  /// and nobody else is served meanwhile, where the kernel does not know it. So those are heard
  /// whose link-local address is written there (`DHCPv6Clients`), and a member with another one
  /// seldom. Of messages it takes a member's word: by a relay's (12) for the Ethernet address, and
  /// in others for the identifier, which all members hear of each other. With Rebind (6) it gives
  /// any address to anybody, and with Decline (9) none to anybody for a while.
  private var solicitation: (sets: String, chain: String, input: [String]) {
    guard gateway.served(isIPv6: true) != nil else {
      return (
        "", "",
        [
          "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept"
        ]
      )
    }
    func memory(_ name: String) -> String {
      "set \(name) { type ether_addr; size \(Leases.limit); flags dynamic; timeout 1m; }"
    }
    let sets = [
      "set \(DHCPv6Clients.addresses) { type ether_addr . ipv6_addr; size \(Leases.limit); }",
      "set \(DHCPv6Clients.stations) { type ether_addr; size \(Leases.limit); }",
      memory("asking"), memory("seldom"), memory("seeking"),
    ]
    let chain = """
      chain dhcp6 {
          ip6 saddr != fe80::/10 drop
          ip6 daddr != ff02::1:2 drop
          @th,64,8 != { 1, 3, 4, 5, 8, 11 } drop
          ether saddr . ip6 saddr @\(DHCPv6Clients.addresses) update @asking { ether saddr limit rate 10/second burst 20 packets } accept
          ether saddr @\(DHCPv6Clients.stations) update @seldom { ether saddr limit rate 6/minute burst 6 packets } accept
          drop
        }
      """
    return (
      sets.joined(separator: "\n  "), chain,
      [
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
        "iifname \(Self.tenant) icmpv6 type nd-router-solicit ip6 hoplimit 255 "
          + "update @seeking { ether saddr limit rate 1/second burst 5 packets } accept",
      ]
    )
  }

  /// How many connections may be open by the router, so that no network takes the host's table of
  /// them (`nf_conntrack_max`) from the others: whoever answers himself has it keep one for days.
  ///
  /// In lists by the source's last bits, as the kernel walks a list for each new connection. A list
  /// of each source would bound nothing: members without port security may have any.
  private var bounds: (sets: String, rules: String) {
    var (sets, rules): ([String], [String]) = ([], [])
    for (device, direction) in [(Self.tenant, "out"), (Self.outside, "in")] {
      for (family, number, mask) in [("ip", 4, "0.0.0.15"), ("ip6", 6, "::f")] {
        sets.append(
          "set \(direction)\(number) { type ipv\(number)_addr; size \(Self.lists); flags dynamic; }"
        )
        rules.append(
          "iifname \(device) ct state new add @\(direction)\(number) "
            + "{ \(family) saddr & \(mask) ct count over \(connections / Self.lists) } counter drop"
        )
      }
    }
    return (sets.joined(separator: "\n  "), rules.joined(separator: "\n    "))
  }

  private static let lists = 16

  /// One transaction that makes the table, in the place of the one that is there.
  var script: String {
    var forward: [String] = []
    for isIPv6 in [false, true] where gateway.routes(isIPv6: isIPv6) {
      let subnets = gateway.subnets(isIPv6: isIPv6).map(\.description).joined(separator: ", ")
      let family = isIPv6 ? "ip6" : "ip"
      forward.append(
        "iifname \(Self.tenant) \(family) saddr { \(subnets) } oifname { \(Self.tenant), \(Self.outside) } accept"
      )
      if gateway.nat == .none {
        forward.append(
          "iifname \(Self.outside) oifname \(Self.tenant) \(family) daddr { \(subnets) } accept")
      }
    }
    let echoes = gateway.addresses.map {
      $0.isIPv6
        ? "iifname \(Self.tenant) ip6 daddr \($0) icmpv6 type echo-request accept"
        : "iifname \(Self.tenant) ip daddr \($0) icmp type echo-request accept"
    }
    let asked = services
    let solicitation = solicitation
    // Before what belongs to a connection: the answers make one, by which others would pass.
    let diverted =
      solicitation.chain.isEmpty ? "" : "iifname \(Self.tenant) udp dport 547 goto dhcp6"
    var inward: [String] = []
    var outward: [String] = []
    for floating in gateway.floating {
      let family = floating.outside.isIPv6 ? "ip6" : "ip"
      inward.append(
        "iifname \(Self.outside) \(family) daddr \(floating.outside) dnat \(family) to \(floating.member)"
      )
      outward.append(
        "oifname \(Self.outside) \(family) saddr \(floating.member) snat \(family) to \(floating.outside)"
      )
    }
    let relays = PortRelay.all(of: gateway, transits)
    for relay in relays {
      inward.append(
        "iifname \(Self.outside) \(relay.arrival) dnat \(relay.family) to \(relay.member)")
    }
    // Who has been led to a member goes on only while that is so; errors that routers tell of a
    // connection have no port.
    var led = gateway.floating.map { floating in
      "iifname \(Self.outside) ct status dnat \(floating.member.isIPv6 ? "ip6" : "ip") daddr \(floating.member) accept"
    }
    led += relays.map { "iifname \(Self.outside) ct status dnat \($0.delivery) accept" }
    led.append("iifname \(Self.outside) \(PortRelay.stale) drop")
    if gateway.nat == .masquerade { outward.append("oifname \(Self.outside) masquerade") }
    return """
      table inet ovx
      delete table inet ovx
      table inet ovx {
        comment "the gateway of network \(gateway.network), made and kept by ovx-gatewayd"
        \(solicitation.sets)
        \(solicitation.chain)
        \(bounds.sets)
        chain input {
          type filter hook input priority filter; policy drop;
          iifname lo accept
          \(diverted)
          ct state established,related accept
          iifname \(Self.outside) icmp type echo-request accept
          iifname \(Self.outside) icmpv6 type echo-request accept
          \((echoes + asked).joined(separator: "\n    "))
          \(solicitation.input.joined(separator: "\n    "))
        }
        chain forward {
          type filter hook forward priority filter; policy drop;
          ct state invalid drop
          \(bounds.rules)
          \(led.joined(separator: "\n    "))
          ct state established,related accept
          \(forward.joined(separator: "\n    "))
        }
        chain prerouting {
          type nat hook prerouting priority dstnat; policy accept;
          \(inward.joined(separator: "\n    "))
        }
        chain postrouting {
          type nat hook postrouting priority srcnat; policy accept;
          \(outward.joined(separator: "\n    "))
        }
      }

      """
  }
}
