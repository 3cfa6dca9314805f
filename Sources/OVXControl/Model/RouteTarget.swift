package import OVXDatapath

/// A route target: which networks a route is for (RFC 4360, section 4; RFC 5668 for AS numbers of
/// four octets).
package struct RouteTarget: Hashable, Sendable {
  /// The eight octets of the extended community, in the order of the wire.
  package let rawValue: UInt64

  /// The second octet of a route target.
  package static let subType: UInt32 = 2

  package init(rawValue: UInt64) { self.rawValue = rawValue }

  /// A target of an AS number and a number; `nil` where the two do not fit: one of them has 16
  /// bits, the other 32.
  package init?(asn: UInt32, number: UInt32) {
    if asn <= 0xFFFF {
      rawValue = 0x0002 << 48 | UInt64(asn) << 32 | UInt64(number)
    } else if number <= 0xFFFF {
      rawValue = 0x0202 << 48 | UInt64(asn) << 16 | UInt64(number)
    } else {
      return nil
    }
  }

  /// A target of an IPv4 address and a number.
  package init(address: UInt32, number: UInt16) {
    rawValue = 0x0102 << 48 | UInt64(address) << 16 | UInt64(number)
  }

  /// The target of a network that is given none: AS:VNI (RFC 8365, section 5.1.2.1), of a long AS
  /// number its low 16 bits, as FRR derives it.
  package init(automatic vni: VNI, asn: UInt32) {
    rawValue = 0x0002 << 48 | UInt64(asn & 0xFFFF) << 32 | UInt64(vni.rawValue)
  }

  /// Whether it is of an IPv4 address, and not of an AS.
  package var isOfAddress: Bool { rawValue >> 48 == 0x0102 }

  /// Whether some AS would derive the target of a VNI by itself: hosts of a fabric may each have an
  /// AS of their own, and FRR looks at the VNI alone, too.
  package func isAutomatic(for vni: VNI) -> Bool {
    rawValue >> 48 == 0x0002 && UInt32(truncatingIfNeeded: rawValue) == vni.rawValue
  }
}

extension RouteTarget: LosslessStringConvertible {
  /// Reads `A:B`, where A is an AS number or an IPv4 address.
  package init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, parts.allSatisfy({ $0.first?.isNumber == true }),
      let number = UInt32(parts[1])
    else { return nil }
    if let asn = UInt32(parts[0]) {
      self.init(asn: asn, number: number)
    } else if let address = IPAddress(String(parts[0])), !address.isIPv6,
      let number = UInt16(exactly: number)
    {
      self.init(address: UInt32(truncatingIfNeeded: address.low), number: number)
    } else {
      return nil
    }
  }

  package var description: String {
    let low = UInt32(truncatingIfNeeded: rawValue)
    let middle = UInt32(truncatingIfNeeded: rawValue >> 16)
    switch rawValue >> 48 {
    case 0x0002: return "\(middle >> 16):\(low)"
    case 0x0102: return "\(IPAddress(v4: middle)):\(low & 0xFFFF)"
    case 0x0202: return "\(middle):\(low & 0xFFFF)"
    default: return "0x" + String(rawValue, radix: 16)
    }
  }
}
