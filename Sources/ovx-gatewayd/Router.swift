internal import OVXControl
internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

/// One gateway's router: a network namespace with the tenant's port on one side, which is the
/// switch's, and on the other a veth, the transit pair, to the host.
///
/// Whose a router is stands in the alias of the veth's end on the host: with that end everything is
/// found again that a process which was killed has left, also where the network is gone.
struct Router {
  /// The namespace's name.
  let namespace: String
  let gateway: Gateway

  /// What the alias of each transit pair begins with.
  static let mark = "ovx-gatewayd "

  /// A router that is there.
  struct Found {
    var namespace: String
    /// The host's end of its transit pair.
    var link: Link
  }

  /// All routers that this host has, by the names of their transit devices.
  static func all(_ netlink: inout Netlink) throws(LinuxError) -> [String: Found] {
    var found: [String: Found] = [:]
    for link in try netlink.links() where link.name.hasPrefix(Gateway.transitPrefix) {
      guard let alias = link.alias, alias.hasPrefix(mark) else { continue }
      found[link.name] = Found(namespace: String(alias.dropFirst(mark.count)), link: link)
    }
    return found
  }

  /// Makes the namespace and the transit pair, as far as they are not there, and the packet filter
  /// of the former.
  ///
  /// - Parameters:
  ///   - former: The router that is there for the gateway.
  ///   - transits: The addresses of the pair.
  ///   - isFiltered: Whether the packet filter inside is known to be in force, in this namespace.
  ///   - tools: What makes namespaces and packet filters.
  ///   - netlink: Of the host.
  /// - Returns: The namespace, held open.
  /// - Throws: What the kernel refuses, or that somebody else has such a namespace or device.
  func make(
    _ former: Found?, _ transits: [Transit], isFiltered: (NetworkNamespace) -> Bool,
    _ tools: Tools, _ netlink: inout Netlink
  ) throws(LinuxError) -> NetworkNamespace {
    if former == nil, let link = try netlink.link(named: gateway.transitDevice) {
      throw LinuxError(
        action: "make", subject: gateway.transitDevice, errno: .fileExists,
        detail: "a network device of that name exists, and ovx-gatewayd has not made it",
        remedy: "delete it with `ip link del \(link.name)`")
    }
    let place: NetworkNamespace
    if NetworkNamespace.names().contains(namespace) {
      if let known = try? NetworkNamespace(named: namespace) {
        place = known
      } else {
        // A name without a namespace: it was made in a mount namespace that has ended.
        try tools.deleteNamespace(namespace)
        place = try make(tools)
      }
    } else {
      place = try make(tools)
    }
    var inside = try Netlink(in: place)
    try checkOwner(&inside)
    var host = former?.link
    if let link = host, try inside.link(named: RouterRules.outside) == nil {
      // Its other end is in a namespace that is gone, or was kept from getting here.
      try netlink.delete(link)
      host = nil
    }
    try prepare(place)
    // A new namespace may have the number of one that is gone.
    let isNew = host == nil
    if isNew { host = try pair(place, &netlink) }
    if isNew || !isFiltered(place) {
      let script = RouterRules(gateway: gateway, transits: transits).script
      let relays = PortRelay.all(of: gateway, transits)
      try place.perform { () throws(LinuxError) in
        try tools.filter(script)
        try? PortRelay.forgetOthersInside(than: relays, transits: transits)
      }
    }
    guard let host else { return place }
    try address(host, transits, &netlink)
    try addressInside(&inside, transits)
    return place
  }

  private func make(_ tools: Tools) throws(LinuxError) -> NetworkNamespace {
    try tools.addNamespace(namespace)
  }

  /// Refuses a namespace that somebody else uses.
  private func checkOwner(_ inside: inout Netlink) throws(LinuxError) {
    let own = ["lo", RouterRules.outside, RouterRules.tenant]
    // Tunnel devices that some kernels put into each namespace (`tunl0`, `sit0`) have no peer and
    // are down.
    guard
      let other = try inside.links().first(where: { !own.contains($0.name) && $0.isUp })
    else { return }
    throw LinuxError(
      action: "use", subject: "network namespace \(namespace)", errno: .fileExists,
      detail: "it has the device \(other.name), which no gateway has",
      remedy: "rename or remove that namespace, whose name is network \(gateway.network)'s")
  }

  /// Has the namespace route packets, and believe no neighbor in it.
  private func prepare(_ place: NetworkNamespace) throws(LinuxError) {
    let isIPv6 = gateway.routes(isIPv6: true)
    try place.perform { () throws(LinuxError) in
      for kind in ["all", "default"] {
        ProcSettings.write("0", family: "ipv6", device: kind, "accept_ra")
        ProcSettings.write("0", family: "ipv4", device: kind, "accept_redirects")
        ProcSettings.write("0", family: "ipv6", device: kind, "accept_redirects")
      }
      ProcSettings.write("1", family: "ipv4", device: "all", "forwarding")
      ProcSettings.write(isIPv6 ? "1" : "0", family: "ipv6", device: "all", "forwarding")
      var netlink = try Netlink()
      if let loopback = try netlink.link(named: "lo"), !loopback.isUp {
        try netlink.setUp(true, loopback)
      }
    }
  }

  /// Makes the transit pair, marked before its other end leaves, so that it is never nobody's.
  private func pair(
    _ place: NetworkNamespace, _ netlink: inout Netlink
  ) throws(LinuxError) -> Link? {
    let name = gateway.transitDevice
    let other = "\(name)-"
    // A process that was killed before the mark has left it.
    if let stale = try netlink.link(named: other) { try netlink.delete(stale) }
    try netlink.makeVeth(named: name, otherEnd: other)
    guard let link = try netlink.link(named: name), let end = try netlink.link(named: other) else {
      return nil
    }
    try netlink.setAlias(Self.mark + namespace, of: link)
    try netlink.move(end, to: place, as: RouterRules.outside)
    return try netlink.link(named: name)
  }

  private func address(
    _ link: Link, _ transits: [Transit], _ netlink: inout Netlink
  ) throws(LinuxError) {
    ProcSettings.write("0", family: "ipv6", device: link.name, "accept_ra")
    ProcSettings.write("1", family: "ipv4", device: link.name, "forwarding")
    ProcSettings.write("1", family: "ipv6", device: link.name, "force_forwarding")
    // What the host sends to its own 127.0.0.1 leaves by the device where the port is published; no
    // tenant's packet for such an address gets through its router, nor through the host's filter.
    ProcSettings.write(
      gateway.published.isEmpty ? "0" : "1", family: "ipv4", device: link.name, "route_localnet")
    if !link.isUp { try netlink.setUp(true, link) }
    let wanted = transits.map { OVXLinux.InterfaceAddress($0.host, prefixLength: UInt8($0.length)) }
    try netlink.give(wanted, to: link)
    try route(link, transits, &netlink)
  }

  /// Leads packets to the tenant to its router: to floating addresses, and to the tenant's own
  /// where they are not translated.
  private func route(
    _ link: Link, _ transits: [Transit], _ netlink: inout Netlink
  ) throws(LinuxError) {
    let all = try netlink.routes().filter { !$0.isDefault && $0.isInMainTable }
    let present = all.filter { $0.linkIndex == link.index && $0.gateway != nil }
    var wanted: Set<IPPrefix> = []
    for transit in transits {
      let isIPv6 = transit.host.isIPv6
      let floating = gateway.floating.map(\.outside).filter { $0.isIPv6 == isIPv6 }
      wanted.formUnion(floating.map { IPPrefix($0) })
      if gateway.nat == .none { wanted.formUnion(gateway.subnets(isIPv6: isIPv6)) }
    }
    for route in present where !wanted.contains(route.prefix) {
      try netlink.remove(route, from: link)
    }
    for transit in transits {
      for prefix in wanted.sorted(by: { $0.base < $1.base })
      where prefix.base.isIPv6 == transit.host.isIPv6 {
        if present.contains(where: { $0.prefix == prefix && $0.gateway == transit.router }) {
          continue
        }
        // A floating address is one of the uplink's network, in most cases, and more narrow than
        // that.
        let isSubnet = prefix.length < prefix.base.bitCount
        let other = all.first {
          $0.linkIndex != link.index
            && (isSubnet ? $0.isInTheWay(of: prefix) : $0.prefix == prefix)
        }
        if let other {
          throw LinuxError(
            action: "route", subject: "\(prefix) to network \(gateway.network)", errno: .fileExists,
            detail: "the host has a route to \(other.prefix) already",
            remedy: isSubnet
              ? RouteClashes.remedy
              : "remove it, or name another floating address")
        }
        let route = RouteEntry(
          destination: prefix.base, prefixLength: UInt8(prefix.length), gateway: transit.router)
        try netlink.add(route, on: link)
      }
    }
  }

  private func addressInside(
    _ inside: inout Netlink, _ transits: [Transit]
  ) throws(LinuxError) {
    guard let link = try inside.link(named: RouterRules.outside) else { return }
    if !link.isUp { try inside.setUp(true, link) }
    let wanted = transits.map {
      OVXLinux.InterfaceAddress($0.router, prefixLength: UInt8($0.length))
    }
    try inside.give(wanted, to: link)
    try routeAnew(wanted, on: link, &inside)
    for transit in transits {
      do { try inside.addDefaultRoute(via: transit.host, on: link) } catch {
        if error.errno != .fileExists { throw error }
      }
    }
    try addressTenant(&inside)
  }

  /// Gives the tenant's port back what somebody has taken from it; the switch gives it all of that
  /// once.
  private func addressTenant(_ inside: inout Netlink) throws(LinuxError) {
    guard let link = try inside.link(named: RouterRules.tenant) else { return }
    if !link.isUp { try inside.setUp(true, link) }
    let wanted = gateway.addresses.compactMap { address in
      gateway.subnets.first { $0.contains(address) }.map {
        OVXLinux.InterfaceAddress(address, prefixLength: UInt8($0.length))
      }
    }
    let present = Set(try inside.addresses(of: link).map(\.address))
    for address in wanted where !present.contains(address.address) {
      try inside.add(address, to: link)
    }
    try routeAnew(wanted, on: link, &inside)
  }

  /// Has a device's neighbors reached again whose route somebody has taken away: that comes with an
  /// address alone.
  private func routeAnew(
    _ addresses: [OVXLinux.InterfaceAddress], on link: Link, _ inside: inout Netlink
  ) throws(LinuxError) {
    let routed = Set(try inside.routes().filter { $0.linkIndex == link.index }.map(\.prefix))
    let present = try inside.addresses(of: link)
    for address in addresses where present.contains(address) {
      let prefix = IPPrefix(address.address, length: Int(address.prefixLength))
      guard prefix.length < prefix.base.bitCount, !routed.contains(prefix) else { continue }
      try inside.remove(address, from: link)
      try inside.add(address, to: link)
    }
  }

  /// Removes a router with everything in it.
  static func remove(
    _ found: Found, _ tools: Tools, _ netlink: inout Netlink
  ) throws(LinuxError) {
    if NetworkNamespace.names().contains(found.namespace) {
      try tools.deleteNamespace(found.namespace)
    }
    // With the namespace the pair goes, but not at once.
    do { try netlink.delete(found.link) } catch {
      if error.errno != .operationNotSupportedByDevice { throw error }
    }
  }
}

extension Netlink {
  /// Gives a device addresses, and takes all others from it but those that IPv6 devices give
  /// themselves.
  fileprivate mutating func give(
    _ wanted: [OVXLinux.InterfaceAddress], to link: Link
  ) throws(LinuxError) {
    let present = try addresses(of: link)
    for address in present where !wanted.contains(address) && !address.address.isLinkLocalIPv6 {
      try remove(address, from: link)
    }
    for address in wanted where !present.contains(address) { try add(address, to: link) }
  }
}
