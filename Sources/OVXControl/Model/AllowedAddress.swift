package import OVXDatapath

/// What a port may use for its own beside what it was given: `02:00:00:00:00:05`, `172.17.42.9` or
/// `172.17.42.128/25`.
package enum AllowedAddress: Hashable, Sendable {
  case station(MACAddress)
  /// IP addresses, one or more.
  case addresses(IPPrefix)

  /// The Ethernet address; `nil` where it is an IP address.
  package var station: MACAddress? {
    if case .station(let station) = self { station } else { nil }
  }

  /// The IP addresses; `nil` where it is an Ethernet address.
  package var prefix: IPPrefix? {
    if case .addresses(let prefix) = self { prefix } else { nil }
  }

  /// Entries that a port may have.
  package static let limit = 64
}

extension AllowedAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Reads an Ethernet address of one station, an IP address, or `ADDRESS/LENGTH`, none of them a
  /// group's.
  package init?(_ text: String) {
    if let station = MACAddress(text) {
      guard !station.isGroup, station.rawValue != 0 else { return nil }
      self = .station(station)
      return
    }
    let prefix = IPPrefix(text) ?? IPAddress(text).map { IPPrefix($0) }
    guard let prefix, !prefix.base.isMulticast, !prefix.base.isLimitedBroadcast,
      !prefix.base.isUnspecified || prefix.length < prefix.base.bitCount
    else { return nil }
    self = .addresses(prefix)
  }

  package var description: String {
    switch self {
    case .station(let station): station.description
    case .addresses(let prefix):
      prefix.length == prefix.base.bitCount ? "\(prefix.base)" : "\(prefix)"
    }
  }
}

extension AllowedAddress: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "an Ethernet address, an IP address or a network")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}
