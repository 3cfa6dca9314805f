package import OVXDatapath

/// The addresses that begin with the same bits: `172.17.42.0/24`.
package struct IPPrefix: Hashable, Sendable {
  /// The lowest of the addresses; its bits behind the prefix are 0.
  package let base: IPAddress
  /// Leading bits that all have in common, 0...32 or 0...128.
  package let length: Int

  /// The network that an interface with an address is in.
  package init(of address: InterfaceAddress) {
    self.init(address.address, length: address.prefixLength)
  }

  /// The prefix of a length to which an address belongs.
  ///
  /// - Parameters:
  ///   - address: One of its addresses.
  ///   - length: 0...32 or 0...128; the address by itself if not given.
  package init(_ address: IPAddress, length: Int? = nil) {
    self.init(
      numbered: address.number, length: length ?? address.bitCount, isIPv6: address.isIPv6)
  }

  /// The prefix of a length to which the address with a number belongs.
  ///
  /// - Parameters:
  ///   - number: As `IPAddress.number` has it.
  ///   - length: 0...32 or 0...128.
  ///   - isIPv6: Of which family it is.
  package init(numbered number: UInt128, length: Int, isIPv6: Bool) {
    let bits = (isIPv6 ? 128 : 32) - length
    base = IPAddress(number: bits >= 128 ? 0 : (number >> bits) << bits, isIPv6: isIPv6)
    self.length = length
  }

  /// Whether an address is one of them.
  package func contains(_ address: IPAddress) -> Bool {
    address.isIPv6 == base.isIPv6 && addresses.numbers.contains(address.number)
  }

  /// Whether some address is in both.
  package func overlaps(_ other: IPPrefix) -> Bool {
    contains(other.base) || other.contains(base)
  }

  /// All of them, in order.
  package var addresses: AddressRange {
    let bits = base.bitCount - length
    let last = bits >= 128 ? UInt128.max : base.number | ((UInt128(1) << bits) - 1)
    return AddressRange(numbers: base.number...last, isIPv6: base.isIPv6)
  }

  /// Those that a station can have: in IPv4 neither the network's own nor the broadcast address, in
  /// IPv6 not the subnet-router anycast address (RFC 4291, section 2.6.1).
  package var stations: AddressRange {
    let all = addresses.numbers
    // Two ends of a line have no need of them (RFC 3021, RFC 6164).
    guard length < base.bitCount - 1 else { return addresses }
    return AddressRange(
      numbers: all.lowerBound + 1...(base.isIPv6 ? all.upperBound : all.upperBound - 1),
      isIPv6: base.isIPv6)
  }
}

extension IPPrefix: CustomStringConvertible, LosslessStringConvertible {
  /// Reads `ADDRESS/LENGTH`; `nil` where bits behind the prefix are not 0.
  package init?(_ text: String) {
    guard let address = InterfaceAddress(text) else { return nil }
    self.init(of: address)
    guard base == address.address else { return nil }
  }

  package var description: String { "\(base)/\(length)" }
}

extension IPPrefix: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "a network with a prefix length")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

/// Addresses of one family from one to another: `172.17.42.100-172.17.42.199`.
package struct AddressRange: Hashable, Sendable {
  /// The addresses as numbers.
  package let numbers: ClosedRange<UInt128>
  package let isIPv6: Bool

  package init(numbers: ClosedRange<UInt128>, isIPv6: Bool) {
    self.numbers = numbers
    self.isIPv6 = isIPv6
  }

  package var first: IPAddress { IPAddress(number: numbers.lowerBound, isIPv6: isIPv6) }
  package var last: IPAddress { IPAddress(number: numbers.upperBound, isIPv6: isIPv6) }

  package func contains(_ address: IPAddress) -> Bool {
    address.isIPv6 == isIPv6 && numbers.contains(address.number)
  }

  /// The addresses that are in both; `nil` where there are none.
  package func clamped(to other: AddressRange) -> AddressRange? {
    guard isIPv6 == other.isIPv6, numbers.overlaps(other.numbers) else { return nil }
    return AddressRange(numbers: numbers.clamped(to: other.numbers), isIPv6: isIPv6)
  }

  /// How many there are, `Int.max` at most.
  package var count: Int {
    let others = Int(clamping: numbers.upperBound - numbers.lowerBound)
    return others == .max ? .max : others + 1
  }
}

extension AddressRange: CustomStringConvertible, LosslessStringConvertible {
  /// Reads `ADDRESS-ADDRESS`, `ADDRESS/LENGTH`, or one address.
  package init?(_ text: String) {
    if let prefix = IPPrefix(text) {
      self = prefix.addresses
      return
    }
    let ends = text.split(separator: "-", omittingEmptySubsequences: false)
      .map { IPAddress(String($0)) }
    guard (1...2).contains(ends.count), let first = ends[0], let last = ends[ends.count - 1],
      first.isIPv6 == last.isIPv6, first <= last
    else { return nil }
    self.init(numbers: first.number...last.number, isIPv6: first.isIPv6)
  }

  package var description: String { first == last ? "\(first)" : "\(first)-\(last)" }
}

extension AddressRange: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "a range of addresses")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

extension IPAddress {
  /// The address as a number: of 32 bits in IPv4, of 128 in IPv6.
  package var number: UInt128 { UInt128(high) << 64 | UInt128(low) }

  /// The address that has a number; of an IPv4 address the lower 32 bits count.
  package init(number: UInt128, isIPv6: Bool) {
    self =
      isIPv6
      ? IPAddress(
        v6High: UInt64(truncatingIfNeeded: number >> 64), low: UInt64(truncatingIfNeeded: number))
      : IPAddress(v4: UInt32(truncatingIfNeeded: number))
  }
}
