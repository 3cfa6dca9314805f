internal import OVXControl
internal import OVXDatapath

/// The two addresses of a transit pair: the host's and the router's, the two of a /31 or /127 (RFC
/// 3021, RFC 6164).
struct Transit: Hashable {
  var host: IPAddress
  var router: IPAddress
  /// Of both.
  var length: Int { host.bitCount - 1 }

  /// The pair of a number within a prefix; `nil` beyond its end.
  init?(_ number: Int, of prefix: IPPrefix) {
    let first = prefix.base.number + 2 * UInt128(clamping: number)
    guard number >= 0, first < prefix.addresses.numbers.upperBound else { return nil }
    host = IPAddress(number: first, isIPv6: prefix.base.isIPv6)
    router = IPAddress(number: first + 1, isIPv6: prefix.base.isIPv6)
  }

  /// Which of a prefix's pairs has an address for the host's; `nil` where none has.
  static func number(ofHost address: IPAddress, in prefix: IPPrefix) -> Int? {
    guard prefix.contains(address) else { return nil }
    let offset = address.number - prefix.base.number
    return offset.isMultiple(of: 2) ? Int(exactly: offset / 2) : nil
  }

  /// Where pairs of IPv6 are from: addresses that are unique to ovx as far as chance goes (RFC
  /// 4193), and seen by nobody.
  static let ipv6Pool = IPPrefix(
    numbered: 0xFD6F_7678_6777 << 80, length: 64, isIPv6: true)
}
