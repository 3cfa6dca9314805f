private import OVXControl
private import OVXDatapath

/// The packet filter inside of a router, as nft(8) reads it.
///
/// The tenant's side may ask the router itself for nothing but an echo of the gateway's addresses, and for what the network serves; what it sends further has addresses of its own,
/// and what comes back belongs to that.
struct RouterRules {
  let gateway: Gateway
  /// The addresses of its transit pairs, which published ports are led to.
  let transits: [Transit]

  /// Names of the router's two devices.
  static let outside = "outside"
  static var tenant: String { Configuration.Network.gatewayDevice }

  /// What members may ask of the router beside an echo.
  private var services: [String] {
    var rules: [String] = []
    for address in gateway.addresses {
      let family = address.isIPv6 ? "ip6" : "ip"
      if gateway.services.dhcp, !address.isIPv6 {
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
    // Who has been led to a member goes on only while that is so; errors that routers tell of a connection have no port.
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
        chain input {
          type filter hook input priority filter; policy drop;
          iifname lo accept
          ct state established,related accept
          iifname \(Self.outside) icmp type echo-request accept
          iifname \(Self.outside) icmpv6 type echo-request accept
          \((echoes + asked).joined(separator: "\n    "))
          icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept
        }
        chain forward {
          type filter hook forward priority filter; policy drop;
          ct state invalid drop
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
