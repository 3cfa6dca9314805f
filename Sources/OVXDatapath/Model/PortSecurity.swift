/// What a port may send: which addresses it may give out as its own.
///
/// Beside that, a port that has one never sends what only routers and servers do: see
/// `SourceRules`.
package struct PortSecurity: Equatable, Sendable {
  /// The Ethernet addresses that it may send from; `nil` for any but the gateway's.
  ///
  /// The IPv6 link-local addresses that are made of them (RFC 4291, appendix A) are among
  /// `addresses` by themselves.
  package var stations: [MACAddress]?
  /// The IP addresses that it may send from; `nil` for any but the gateways'.
  package var addresses: [Prefix]?
  /// The IP addresses that no such port may have.
  package var gateways: [IPAddress]
  /// The Ethernet address that no such port may have; `nil` where it is not known.
  package var gatewayStation: MACAddress?

  /// The IP addresses that begin with the same bits.
  package struct Prefix: Hashable, Sendable {
    package var base: IPAddress
    /// Leading bits that count, 0...32 or 0...128; more count as all.
    package var length: Int

    package init(base: IPAddress, length: Int) {
      self.base = base
      self.length = length
    }
  }

  package init(
    stations: [MACAddress]? = nil, addresses: [Prefix]? = nil, gateways: [IPAddress] = [],
    gatewayStation: MACAddress? = nil
  ) {
    self.stations = stations
    self.addresses = addresses
    self.gateways = gateways
    self.gatewayStation = gatewayStation
  }
}

extension MACAddress {
  /// The IPv6 link-local address that a station makes of its Ethernet address (RFC 4291, appendix
  /// A).
  package var linkLocal: IPAddress {
    let high = rawValue >> 24
    let low = rawValue & 0xFF_FFFF
    return IPAddress(
      v6High: 0xFE80_0000_0000_0000,
      low: (high << 40 | 0xFF_FE00_0000 | low) ^ 0x0200_0000_0000_0000)
  }
}
