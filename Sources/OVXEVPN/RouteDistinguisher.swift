internal import OVXDatapath

/// A route distinguisher: keeps routes apart that are of different hosts and networks (RFC 4364,
/// section 4.2).
package struct RouteDistinguisher: Hashable, Sendable {
  /// The eight octets, in the order of the wire.
  package let rawValue: UInt64

  package init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Of type 0: an AS number of 16 bits, and a number; `nil` where the first is longer.
  package init?(twoOctetASN asn: UInt32, number: UInt32) {
    guard asn <= 0xFFFF else { return nil }
    rawValue = UInt64(asn) << 32 | UInt64(number)
  }

  /// Of type 1: an IPv4 address, and a number of 16 bits.
  package init(address: UInt32, number: UInt16) {
    rawValue = 1 << 48 | UInt64(address) << 16 | UInt64(number)
  }

  /// Of type 2: an AS number of 32 bits, and a number; `nil` where that needs more than 16.
  package init?(fourOctetASN asn: UInt32, number: UInt32) {
    guard number <= 0xFFFF else { return nil }
    rawValue = 2 << 48 | UInt64(asn) << 16 | UInt64(number)
  }

  /// The address of one of type 1.
  package var address: UInt32? {
    rawValue >> 48 == 1 ? UInt32(truncatingIfNeeded: rawValue >> 16) : nil
  }
}

extension RouteDistinguisher: CustomStringConvertible {
  package var description: String {
    let low = UInt32(truncatingIfNeeded: rawValue)
    let middle = UInt32(truncatingIfNeeded: rawValue >> 16)
    switch rawValue >> 48 {
    case 0: return "\(middle >> 16):\(low)"
    case 1: return "\(IPAddress(v4: middle)):\(low & 0xFFFF)"
    case 2: return "\(middle):\(low & 0xFFFF)"
    default: return "0x" + String(rawValue, radix: 16)
    }
  }
}

/// The numbers behind the router id in the distinguishers of this host's networks: of 16 bits,
/// where a VNI has 24.
///
/// A network has its VNI's low 16 bits, or the next number that no other network has. It keeps it
/// for as long as it is served, whatever comes beside it.
struct DistinguisherNumbers {
  private(set) var numbers: [VNI: UInt16] = [:]
  private var taken: Set<UInt16> = []

  /// The number of a network; `nil` where all 65,535 are taken.
  mutating func number(of vni: VNI) -> UInt16? {
    if let number = numbers[vni] { return number }
    guard taken.count < 0xFFFF else { return nil }
    var number = UInt16(truncatingIfNeeded: vni.rawValue)
    // 0 is left alone, as some take it for none.
    while number == 0 || taken.contains(number) { number &+= 1 }
    numbers[vni] = number
    taken.insert(number)
    return number
  }

  mutating func release(_ vni: VNI) {
    if let number = numbers.removeValue(forKey: vni) { taken.remove(number) }
  }
}
