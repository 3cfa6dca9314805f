package import OVXDatapath

extension IPAddress {
  /// Whether the address is 255.255.255.255.
  package var isLimitedBroadcast: Bool { !isIPv6 && low == 0xFFFF_FFFF }

  /// Whether it can be one host's: no group's, nobody's and not everybody's.
  package var isUnicast: Bool { !isUnspecified && !isMulticast && !isLimitedBroadcast }

  /// Bits in an address of this family: 32 or 128.
  package var bitCount: Int { isIPv6 ? 128 : 32 }
}

extension IPAddress: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "an IPv4 or IPv6 address")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

extension MACAddress: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "an Ethernet address")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

extension VLANID: Codable {}
extension VNI: Codable {}

/// An address of an interface and how much of it is the network: `10.0.0.5/24`.
package struct InterfaceAddress: Hashable, Codable, Sendable {
  package let address: IPAddress
  /// Leading bits that name the network, 0...32 or 0...128.
  package let prefixLength: Int

  /// Whether another address lies in the same network.
  package func contains(_ other: IPAddress) -> Bool {
    IPPrefix(of: self).contains(other)
  }

  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "an address with a prefix length")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

extension InterfaceAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Reads `ADDRESS/LENGTH`; `nil` without a length.
  package init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, let address = IPAddress(String(parts[0])),
      parts[1].utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }),
      let length = Int(parts[1]), length <= address.bitCount
    else { return nil }
    self.address = address
    prefixLength = length
  }

  package var description: String { "\(address)/\(prefixLength)" }
}

/// Reads a value that travels as its text.
func decodeText<Value: LosslessStringConvertible>(
  from decoder: any Decoder,
  what: String
) throws -> Value {
  let container = try decoder.singleValueContainer()
  let text = try container.decode(String.self)
  guard let value = Value(text) else {
    throw DecodingError.dataCorruptedError(in: container, debugDescription: "not \(what)")
  }
  return value
}

func encodeText<Value: LosslessStringConvertible>(
  _ value: Value,
  to encoder: any Encoder
) throws {
  var container = encoder.singleValueContainer()
  try container.encode(value.description)
}
