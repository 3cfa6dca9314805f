package import OVXDatapath

/// A route of the host by one of its devices, as `ip route` writes it:
/// `default via 203.0.113.9 metric 100`.
package struct HostRoute: Hashable, Sendable {
  /// Where it leads.
  package let destination: IPPrefix
  /// The next hop; `nil` for neighbors on the link.
  package let gateway: IPAddress?
  /// Of several routes to a destination the one with the least counts; `nil` for the kernel's
  /// choice.
  package let metric: UInt32?
  /// The address that the host sends from by it; `nil` for the kernel's choice.
  package let source: IPAddress?

  /// Routes that an interface may have.
  package static let limit = 256

  package init(
    destination: IPPrefix, gateway: IPAddress?, metric: UInt32? = nil, source: IPAddress? = nil
  ) {
    self.destination = destination
    self.gateway = gateway
    self.metric = metric
    self.source = source
  }
}

extension HostRoute: CustomStringConvertible, LosslessStringConvertible {
  /// Reads `PREFIX [via GATEWAY] [metric NUMBER] [src ADDRESS]`, where `default` stands for
  /// `0.0.0.0/0` or, with an IPv6 gateway, for `::/0`; all of one address family, none of them a
  /// group's.
  package init?(_ text: String) {
    let words = text.split(separator: " ").map(String.init)
    guard let first = words.first, words.count % 2 == 1 else { return nil }
    var gateway: IPAddress?
    var source: IPAddress?
    var metric: UInt32?
    for index in stride(from: 1, to: words.count, by: 2) {
      let value = words[index + 1]
      switch words[index] {
      case "via" where gateway == nil:
        guard let address = IPAddress(value), !address.isMulticast, !address.isUnspecified else {
          return nil
        }
        gateway = address
      case "src" where source == nil:
        guard let address = IPAddress(value), !address.isMulticast, !address.isUnspecified else {
          return nil
        }
        source = address
      case "metric" where metric == nil:
        guard value.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }),
          let number = UInt32(value)
        else { return nil }
        metric = number
      default: return nil
      }
    }
    let everywhere = gateway?.isIPv6 == true ? "::/0" : "0.0.0.0/0"
    guard let destination = IPPrefix(first == "default" ? everywhere : first),
      !destination.base.isMulticast,
      [gateway, source].allSatisfy({ $0.map { $0.isIPv6 == destination.base.isIPv6 } ?? true })
    else { return nil }
    self.init(destination: destination, gateway: gateway, metric: metric, source: source)
  }

  package var description: String {
    let isDefault = destination.length == 0 && (gateway != nil || !destination.base.isIPv6)
    var text = isDefault ? "default" : "\(destination)"
    if let gateway { text += " via \(gateway)" }
    if let metric { text += " metric \(metric)" }
    if let source { text += " src \(source)" }
    return text
  }
}

extension HostRoute: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "a route")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

/// What the host has on one of its devices, and keeps when that becomes a bridge's port.
package struct HostPlace: Codable, Equatable, Sendable {
  package var addresses: [InterfaceAddress] = []
  package var routes: [HostRoute] = []

  package var isEmpty: Bool { addresses.isEmpty && routes.isEmpty }

  package init(addresses: [InterfaceAddress] = [], routes: [HostRoute] = []) {
    self.addresses = addresses
    self.routes = routes
  }
}

extension Configuration.Interface {
  /// What the host has on its device, or on the bridge's own for it.
  package var place: HostPlace { HostPlace(addresses: addresses, routes: routes) }
}
