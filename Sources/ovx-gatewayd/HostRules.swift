internal import OVXControl
internal import OVXDatapath

/// The packet filter of the host, as nft(8) reads it: one table, in which no rule is about anybody
/// else's packets.
///
/// A tenant gets outside by the uplinks and by no other device, which might be another tenant's, a
/// container engine's or a bridge of the host's own; the host itself answers nothing.
struct HostRules: Equatable {
  var gateways: [Gateway]
  /// Of each gateway, by its network.
  var transits: [String: [Transit]]
  /// Where the transit pairs' addresses are from.
  var pools: [IPPrefix]
  /// The devices by which tenants get outside.
  var uplinks: [String]
  /// Those of them whose packets the host forwards for the gateways' sake alone.
  var opened: [String]

  /// The name of the set that has `opened`, for a successor to read.
  static let openedSet = "opened"

  /// All published ports on their ways.
  var relays: [PortRelay] {
    gateways.flatMap { PortRelay.all(of: $0, transits[$0.network] ?? []) }
  }

  /// One transaction that makes the table, in the place of the one that is there.
  var script: String {
    let any = "\"\(Gateway.transitPrefix)*\""
    var sources: [String] = []
    var inward: [String] = []
    var translated: [String] = []
    for gateway in gateways {
      let device = "\"\(gateway.transitDevice)\""
      for transit in transits[gateway.network] ?? [] {
        let isIPv6 = transit.host.isIPv6
        let family = isIPv6 ? "ip6" : "ip"
        switch gateway.nat {
        case .masquerade:
          sources.append("iifname \(device) \(family) saddr \(transit.router) accept")
          translated.append(
            "iifname \(device) \(family) saddr \(transit.router) oifname @uplinks masquerade")
        case .none:
          let subnets = gateway.subnets(isIPv6: isIPv6).map(\.description).joined(separator: ", ")
          // One of IPv6 alone has a pair of IPv4 as well.
          guard !subnets.isEmpty else { break }
          sources.append("iifname \(device) \(family) saddr { \(subnets) } accept")
          inward.append("oifname \(device) \(family) daddr { \(subnets) } accept")
        }
      }
    }
    for gateway in gateways {
      for floating in gateway.floating {
        let device = "\"\(gateway.transitDevice)\""
        let family = floating.outside.isIPv6 ? "ip6" : "ip"
        sources.append("iifname \(device) \(family) saddr \(floating.outside) accept")
        inward.append("oifname \(device) \(family) daddr \(floating.outside) accept")
      }
    }
    // The answers of members and, before them, what a network's own members send to its published
    // ports.
    var returned: [String] = []
    var led: [String] = []
    var arriving: [String] = []
    var leaving: [String] = []
    // The pairs' own addresses are no places to publish at.
    if gateways.contains(where: { !$0.published.isEmpty }) {
      arriving = pools.map { "\($0.base.isIPv6 ? "ip6" : "ip") daddr \($0) return" }
    }
    for gateway in gateways where !gateway.published.isEmpty {
      let device = "\"\(gateway.transitDevice)\""
      let transits = transits[gateway.network] ?? []
      for transit in transits {
        let family = transit.host.isIPv6 ? "ip6" : "ip"
        returned.append(
          "iifname \(device) \(family) saddr \(transit.router) ct direction reply ct status dnat "
            + "ct state established,related accept")
      }
      for relay in PortRelay.all(of: gateway, transits) {
        arriving.append("\(relay.question) dnat \(relay.family) to \(relay.router)")
        leaving.append("\(relay.ownQuestion) dnat \(relay.family) to \(relay.router)")
        led.append("oifname \(device) ct status dnat \(relay.arrival) accept")
        returned.append(
          "iifname \(device) oifname \(device) ct status dnat \(relay.arrival) accept")
      }
      // Else the answers would not come back this way.
      translated.append("iifname \(device) oifname \(device) ct status dnat masquerade")
    }
    for gateway in gateways where !gateway.published.isEmpty || !gateway.floating.isEmpty {
      // A member takes somebody outside for its neighbor who has an address of its own subnet.
      for isIPv6 in [false, true] where gateway.routes(isIPv6: isIPv6) {
        let subnets = gateway.subnets(isIPv6: isIPv6).map(\.description).joined(separator: ", ")
        guard !subnets.isEmpty else { continue }
        translated.append(
          "oifname \"\(gateway.transitDevice)\" \(isIPv6 ? "ip6" : "ip") saddr { \(subnets) } masquerade"
        )
      }
    }
    if !led.isEmpty {
      translated.append("oifname \(any) ct status dnat fib saddr type local masquerade")
    }
    led += pools.map {
      "\($0.base.isIPv6 ? "ip6" : "ip") daddr \($0) \(PortRelay.stale) drop"
    }
    let forbidden =
      ["ct state invalid drop"]
      + pools.map { "iifname \(any) \($0.base.isIPv6 ? "ip6" : "ip") daddr \($0) drop" }
    return """
      table inet ovx
      delete table inet ovx
      table inet ovx {
        comment "gateways of networks, made and kept by ovx-gatewayd"
        set uplinks {
          type ifname
          \(Self.elements(uplinks))
        }
        set \(Self.openedSet) {
          type ifname
          \(Self.elements(opened))
        }
        chain input {
          type filter hook input priority filter - 10; policy accept;
          iifname \(any) ct state established,related accept
          iifname \(any) icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
          iifname \(any) counter drop
        }
        chain forward {
          type filter hook forward priority filter - 10; policy accept;
          iifname \(any) jump from-tenants
          oifname \(any) jump to-tenants
          iifname @opened counter drop
        }
        chain from-tenants {
          \(returned.joined(separator: "\n    "))
          oifname != @uplinks counter drop
          \(forbidden.joined(separator: "\n    "))
          ip daddr 169.254.0.0/16 counter drop
          \(sources.joined(separator: "\n    "))
          counter drop
        }
        chain to-tenants {
          \(led.joined(separator: "\n    "))
          iifname != @uplinks counter drop
          ct state established,related accept
          \(inward.joined(separator: "\n    "))
          counter drop
        }
        chain prerouting {
          type nat hook prerouting priority dstnat; policy accept;
          \(arriving.joined(separator: "\n    "))
        }
        chain output {
          type nat hook output priority -100; policy accept;
          \(leaving.joined(separator: "\n    "))
        }
        chain postrouting {
          type nat hook postrouting priority srcnat; policy accept;
          \(translated.joined(separator: "\n    "))
        }
      }

      """
  }

  private static func elements(_ devices: [String]) -> String {
    devices.isEmpty
      ? "" : "elements = { \(devices.map { "\"\($0)\"" }.joined(separator: ", ")) }"
  }
}
