internal import OVXDatapath
internal import OVXLinux

/// Who may ask a router for IPv6 addresses: members that have been given some, as the router's
/// kernel is told of them.
///
/// Their Ethernet addresses are in sets of the packet filter, and neighbors for good by the
/// link-local addresses that they make of these: dnsmasq tells by the neighbor who has asked, and
/// nobody is asked for that while others wait.
struct DHCPv6Clients: Equatable {
  /// The router.
  var place: NetworkNamespace.Identity
  /// The gateway's device.
  var device: Int32
  var members: Set<MACAddress>

  /// The set of Ethernet addresses together with the link-local ones made of them.
  static let addresses = "clients"
  /// The set of Ethernet addresses.
  static let stations = "stations"

  /// Has the kernel know them, and forget others that it was told before.
  func admit(
    on link: Link, in namespace: NetworkNamespace, _ inside: inout Netlink, _ tools: Tools
  ) throws(LinuxError) {
    let present = try inside.permanentNeighbors(on: link).filter(\.isLinkLocalIPv6)
    let wanted = Dictionary(
      members.map { ($0.linkLocal, $0) }, uniquingKeysWith: { first, _ in first })
    for address in present.subtracting(wanted.keys) {
      try inside.removeNeighbor(address, from: link)
    }
    for (address, station) in wanted where !present.contains(address) {
      try inside.setPermanentNeighbor(address, at: station, on: link)
    }
    let script = script
    try namespace.perform { () throws(LinuxError) in try tools.filter(script) }
  }

  /// One transaction that fills the sets.
  private var script: String {
    var lines = ["flush set inet ovx \(Self.addresses)", "flush set inet ovx \(Self.stations)"]
    if !members.isEmpty {
      let stations = members.sorted { $0.rawValue < $1.rawValue }
      let pairs = stations.map { "\($0) . \($0.linkLocal)" }.joined(separator: ", ")
      lines += [
        "add element inet ovx \(Self.addresses) { \(pairs) }",
        "add element inet ovx \(Self.stations) { \(stations.map(\.description).joined(separator: ", ")) }",
      ]
    }
    return lines.map { $0 + "\n" }.joined()
  }
}
