internal import OVXDatapath
internal import OVXLinux

/// Floating addresses as the host's neighbors see them: the host answers for each on its uplinks,
/// as if it had it.
///
/// So an address of the uplink's network works without being given to anybody; one that a router
/// outside leads to the host works anyway. What is ours among the kernel's proxy entries is told by
/// the number of who made it.
struct FloatingAddresses {
  private let tools: Tools
  /// Whether the host may answer for any: a former process may have left some.
  private var mayAnswer = true
  /// The protocol number of what ovx makes, as with addresses (`AddressMark.ovx`).
  private static let mark = "111"

  init(_ tools: Tools) {
    self.tools = tools
  }

  /// An address that the host answers for on a device.
  private struct Proxy: Hashable {
    var address: String
    var device: String
  }

  /// Has the host answer for floating addresses on its uplinks, and for none that there were
  /// before.
  ///
  /// - Parameters:
  ///   - addresses: Those outside.
  ///   - uplinks: The devices.
  /// - Throws: What the kernel refuses.
  mutating func answer(for addresses: [IPAddress], on uplinks: [String]) throws(LinuxError) {
    guard mayAnswer || !addresses.isEmpty else { return }
    mayAnswer = true
    let present = try proxies()
    var wanted: Set<Proxy> = []
    for address in addresses {
      for uplink in uplinks { wanted.insert(Proxy(address: address.description, device: uplink)) }
    }
    for proxy in present.subtracting(wanted) {
      try tools.ip("neigh", "delete", "proxy", proxy.address, "dev", proxy.device)
    }
    for proxy in wanted.subtracting(present) {
      try tools.ip(
        "neigh", "replace", "proxy", proxy.address, "dev", proxy.device, "protocol", Self.mark)
    }
    mayAnswer = !wanted.isEmpty
  }

  /// What the host answers for because of us: lines such as
  /// `203.0.113.50 dev eth0 proxy proto 111`.
  private func proxies() throws(LinuxError) -> Set<Proxy> {
    var found: Set<Proxy> = []
    for line in try tools.ip("neigh", "show", "proxy").split(separator: "\n") {
      let words = line.split(separator: " ").map(String.init)
      guard words.count >= 5, words[1] == "dev",
        let place = words.firstIndex(where: { $0 == "proto" || $0 == "protocol" }),
        place + 1 < words.count, words[place + 1] == Self.mark
      else { continue }
      found.insert(Proxy(address: words[0], device: words[2]))
    }
    return found
  }

  /// Tells of those that are the host's own, so that nothing is led to their members.
  static func faults(of gateway: Gateway, own: Set<IPAddress>) -> [String] {
    gateway.floating.filter { own.contains($0.outside) }.map {
      "the floating address \($0.outside) is the host's own, which keeps what is sent to it; "
        + "take it from its device with `ip address del`, and the host answers for it nevertheless"
    }
  }
}
