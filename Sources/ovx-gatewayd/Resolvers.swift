internal import OVXControl
internal import OVXDatapath
private import OVXLinux

/// The resolvers of the host that tenants' questions may be passed on to.
enum Resolvers {
  /// How many are asked at most; the C library takes no more, either.
  private static let limit = 3

  /// Those that the host names and that are none of its own, nor where tenants do not get.
  ///
  /// - Parameters:
  ///   - text: The content of resolv.conf(5).
  ///   - own: The host's addresses.
  ///   - closed: Where tenants do not get: the transit pairs, and their own subnets, in which
  ///     somebody else would be asked.
  /// - Returns: In the order in which they are asked.
  static func usable(in text: String, own: Set<IPAddress>, closed: [IPPrefix]) -> [IPAddress] {
    var found: [IPAddress] = []
    for line in text.split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == "\t" || $0 == "\r" }
      guard words.count >= 2, words[0] == "nameserver", let address = IPAddress(String(words[1])),
        !address.isIPv4Mapped, !address.isUnspecified, !address.isMulticast,
        !address.isLinkLocalIPv6,
        !Self.closed.contains(where: { $0.contains(address) }),
        !closed.contains(where: { $0.contains(address) }), !own.contains(address),
        !found.contains(address), found.count < limit
      else { continue }
      found.append(address)
    }
    return found
  }

  /// Loopback, and what is on the host's link alone.
  private static let closed = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "0.0.0.0/8"].compactMap {
    IPPrefix($0)
  }
}
