private import OVXControl
private import OVXDatapath

/// The packet filter inside of a router, as nft(8) reads it.
///
/// The tenant's side may ask the router itself for nothing but an echo; what it sends further has addresses of its own,
/// and what comes back belongs to that.
struct RouterRules {
  let gateway: Gateway

  /// Names of the router's two devices.
  static let outside = "outside"
  static var tenant: String { Configuration.Network.gatewayDevice }

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
    let translation =
      gateway.nat == .masquerade
      ? """
        chain postrouting {
          type nat hook postrouting priority srcnat; policy accept;
          oifname \(Self.outside) masquerade
        }
      """ : ""
    return """
      table inet ovx
      delete table inet ovx
      table inet ovx {
        comment "the gateway of network \(gateway.network), made and kept by ovx-gatewayd"
        chain input {
          type filter hook input priority filter; policy drop;
          iifname lo accept
          ct state established,related accept
          icmp type echo-request accept
          icmpv6 type echo-request accept
          icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } ip6 hoplimit 255 accept
        }
        chain forward {
          type filter hook forward priority filter; policy drop;
          ct state invalid drop
          ct state established,related accept
          \(forward.joined(separator: "\n    "))
        }
      \(translation)
      }

      """
  }
}
