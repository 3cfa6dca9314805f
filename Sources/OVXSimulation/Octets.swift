package import OVXDatapath

/// Slow and obvious access to the fields of a frame, for what checks the fast kind.
extension [UInt8] {
  /// The big-endian number at an offset, or `nil` where the bytes do not reach.
  package func number(at offset: Int, count: Int) -> UInt64? {
    guard offset >= 0, offset + count <= self.count else { return nil }
    return self[offset..<offset + count].reduce(0) { $0 << 8 | UInt64($1) }
  }

  package func number16(at offset: Int) -> UInt16? {
    number(at: offset, count: 2).map { UInt16(truncatingIfNeeded: $0) }
  }

  /// Writes a big-endian number; nothing where the bytes do not reach.
  package mutating func setNumber<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
    let width = Value.bitWidth / 8
    guard offset >= 0, offset + width <= count else { return }
    for index in 0..<width {
      self[offset + index] = UInt8(truncatingIfNeeded: value >> Value((width - 1 - index) * 8))
    }
  }

  package mutating func append<Value: FixedWidthInteger>(number: Value) {
    for shift in stride(from: Value.bitWidth - 8, through: 0, by: -8) {
      append(UInt8(truncatingIfNeeded: number >> Value(shift)))
    }
  }

  package mutating func append(address: MACAddress) {
    append(number: UInt16(truncatingIfNeeded: address.rawValue >> 32))
    append(number: UInt32(truncatingIfNeeded: address.rawValue))
  }

  package func address(at offset: Int) -> MACAddress? {
    number(at: offset, count: 6).map { MACAddress(truncating: $0) }
  }

  /// The bytes in hexadecimal, for a failure's report; a long frame is cut.
  package var hexadecimal: String {
    let digits = prefix(96).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    return count > 96 ? "\(digits)… (\(count) bytes)" : digits
  }
}

/// The ones' complement sum of 16-bit words (RFC 1071), folded but not inverted.
///
/// An odd last byte counts as the high half of a word.
package func onesComplementSum(_ octets: ArraySlice<UInt8>, startingFrom sum: UInt64 = 0) -> UInt16
{
  var sum = sum
  var index = octets.startIndex
  // Plain steps: tests call this more than anything else, and without optimisation.
  while index + 1 < octets.endIndex {
    sum &+= UInt64(octets[index]) << 8 | UInt64(octets[index + 1])
    index += 2
  }
  if index < octets.endIndex { sum &+= UInt64(octets[index]) << 8 }
  while sum >> 16 != 0 { sum = sum & 0xFFFF + sum >> 16 }
  return UInt16(truncatingIfNeeded: sum)
}
