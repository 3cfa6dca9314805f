internal import OVXControl
private import OVXDatapath
internal import OVXLinux

/// The devices by which the host gets outside, and whether it takes packets from them that are for
/// others.
///
/// The answers to a tenant's packets come in by an uplink, and Linux passes on what a device brings
/// only if it is told to. Where it is not, that is switched on for the gateways' sake; the host's
/// packet filter then lets nothing else pass that comes by that device, so that nobody outside has
/// a router into the host's other networks (`HostRules.opened`).
enum Uplinks {
  /// The devices of the host's default routes.
  static func ofDefaultRoutes(_ routes: [RouteEntry], _ links: [Link]) -> [String] {
    let indices = routes.filter(\.isDefault).compactMap(\.linkIndex)
    let names = links.filter { indices.contains($0.index) }.map(\.name)
    // nft(8) has no way to write a quotation mark.
    return Set(names.filter { !$0.hasPrefix(Gateway.transitPrefix) && !$0.contains("\"") }).sorted()
  }

  /// Those of some uplinks that are, or have to be, opened for the gateways' sake.
  ///
  /// - Parameters:
  ///   - uplinks: The devices.
  ///   - former: Those that are open because of us.
  /// - Returns: The devices that are to be open because of us.
  static func opened(_ uplinks: [String], former: [String]) -> [String] {
    // Where the host forwards everything, somebody else wants it to.
    guard !ProcSettings.isOn(family: "ipv4", device: "all", "forwarding") else { return [] }
    return uplinks.filter {
      former.contains($0) || !ProcSettings.isOn(family: "ipv4", device: $0, "forwarding")
    }
  }

  /// Switches forwarding on or off for what a device brings.
  static func setForwarding(_ isOn: Bool, on device: String) {
    ProcSettings.write(isOn ? "1" : "0", family: "ipv4", device: device, "forwarding")
  }

  /// What keeps packets of IPv6 from being passed on; `nil` where nothing does.
  ///
  /// Its switch is one for the whole host, and a host that forwards believes no router any more:
  /// that is not for us to decide. Linux has one for each device since 6.17.
  static func fault(ofIPv6On uplinks: [String]) -> String? {
    if ProcSettings.isOn(family: "ipv6", device: "all", "forwarding") { return nil }
    let closed = uplinks.first {
      !ProcSettings.isOn(family: "ipv6", device: $0, "force_forwarding")
    }
    guard let closed else { return nil }
    return
      "the host passes on no packets of IPv6 that come in by \(closed), so that tenants get no answers; "
      + "`sysctl -w net.ipv6.conf.all.forwarding=1` has it do so, or since Linux 6.17 "
      + "`sysctl -w net.ipv6.conf.\(closed).force_forwarding=1` for that device alone"
  }
}
