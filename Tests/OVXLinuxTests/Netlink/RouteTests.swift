private import Glibc
private import OVXDatapath
private import OVXLinux
private import SystemPackage
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct RouteTests {
  /// A namespace with 10.0.0.1/24 and fd00::1/64 on veth0, which is up.
  private func prepare() throws -> NetworkNamespace {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    let veth0 = try netlink.existing("veth0")
    try netlink.setUp(true, veth0)
    try netlink.setUp(true, try netlink.existing("veth1"))
    try netlink.setUp(true, try netlink.existing("lo"))
    try netlink.add(InterfaceAddress(v4(10, 0, 0, 1), prefixLength: 24), to: veth0)
    try netlink.add(InterfaceAddress(v6(1), prefixLength: 64), to: veth0)
    return namespace
  }

  @Test func `a neighbor is reached without a gateway, this host locally`() throws {
    var netlink = try prepare().netlink()
    let veth0 = try netlink.existing("veth0")
    for (here, there) in [(v4(10, 0, 0, 1), v4(10, 0, 0, 2)), (v6(1), v6(2))] {
      let route = try netlink.route(to: there)
      #expect(route.linkIndex == veth0.index)
      #expect(route.gateway == nil)
      #expect(route.source == here)
      #expect(route.mtu == nil)
      #expect(!route.isLocal)
      // A worker of the kernel enters the route to an own IPv6 address a moment after the address.
      let end = ContinuousClock.now + .seconds(10)
      while try !netlink.route(to: here).isLocal, .now < end { usleep(1000) }
      #expect(try netlink.route(to: here).isLocal)
    }
  }

  @Test func `a default route leads everywhere else`() throws {
    let namespace = try prepare()
    var netlink = try namespace.netlink()
    let veth0 = try netlink.existing("veth0")
    let far = [v4(198, 51, 100, 7), IPAddress(v6High: 0x2001_0DB8 << 32, low: 7)]
    for destination in far {
      let unreachable = try message { () throws(LinuxError) in
        _ = try netlink.route(to: destination)
      }
      #expect(unreachable.errno == .networkUnreachable)
      #expect(unreachable.description.contains("find a route to "))
      #expect(unreachable.description.contains("`ip route add`"))
    }
    try netlink.addDefaultRoute(via: v4(10, 0, 0, 254))
    try netlink.addDefaultRoute(via: v6(254), on: veth0)
    for (destination, gateway) in zip(far, [v4(10, 0, 0, 254), v6(254)]) {
      let route = try netlink.route(to: destination)
      #expect(route.gateway == gateway)
      #expect(route.linkIndex == veth0.index)
    }
    let shown = try ip("route", in: namespace)
    #expect(shown.contains("default via 10.0.0.254 dev veth0 proto static"))

    let second = try message { () throws(LinuxError) in
      try netlink.addDefaultRoute(via: v4(10, 0, 0, 253))
    }
    #expect(second.errno == .fileExists)
    #expect(second.description.contains("there is a default route already"))
    // Two with different metrics are not in each other's way.
    for (gateway, other) in [(v4(10, 0, 0, 253), v4(10, 0, 0, 254)), (v6(253), v6(254))] {
      try netlink.addDefaultRoute(via: gateway, on: veth0, metric: 2050)
      let destination = gateway.isIPv6 ? far[1] : far[0]
      #expect(try netlink.route(to: destination).gateway == other)
    }
  }

  @Test func `a gateway out of reach is refused with the reason`() throws {
    var netlink = try prepare().netlink()
    let veth0 = try netlink.existing("veth0")
    let refusal = try message { () throws(LinuxError) in
      try netlink.addDefaultRoute(via: v4(192, 0, 2, 1), on: veth0)
    }
    #expect(refusal.errno == .networkUnreachable)
    #expect(
      refusal.description
        == "cannot route by default via 192.0.2.1 on veth0: Nexthop has invalid gateway; the gateway"
        + " must be in the subnet of an address of a device that is up"
    )
  }

  @Test func `a route's own MTU and source address are told`() throws {
    let namespace = try prepare()
    try ip("address", "add", "10.0.0.9/24", "dev", "veth0", in: namespace)
    try ip(
      "route",
      "add",
      "198.51.100.0/24",
      "via",
      "10.0.0.254",
      "src",
      "10.0.0.9",
      "mtu",
      "1380",
      in: namespace
    )
    try ip("-6", "route", "add", "2001:db8::/32", "via", "fd00::fe", "mtu", "1400", in: namespace)
    var netlink = try namespace.netlink()
    let route = try netlink.route(to: v4(198, 51, 100, 7))
    #expect(route.mtu == 1380)
    #expect(route.source == v4(10, 0, 0, 9))
    #expect(route.gateway == v4(10, 0, 0, 254))
    #expect(try netlink.route(to: IPAddress(v6High: 0x2001_0DB8 << 32, low: 7)).mtu == 1400)
  }

  @Test func `the source asked for must be an address of this host`() throws {
    var netlink = try prepare().netlink()
    #expect(try netlink.route(to: v4(10, 0, 0, 2), from: v4(10, 0, 0, 1)).source != v4(10, 0, 0, 3))
    let refusal = try message { () throws(LinuxError) in
      _ = try netlink.route(to: v4(10, 0, 0, 2), from: v4(10, 0, 0, 3))
    }
    #expect(
      refusal.description.contains("the source 10.0.0.3 must be an address of this host"),
      "\(refusal)"
    )
  }

  @Test func `routes that forbid sending are named`() throws {
    let namespace = try prepare()
    var netlink = try namespace.netlink()
    for (number, kind) in ["blackhole", "unreachable", "prohibit"].enumerated() {
      try ip("route", "add", kind, "198.51.\(number).0/24", in: namespace)
      let refusal = try message { () throws(LinuxError) in
        _ = try netlink.route(to: v4(198, 51, UInt32(number), 1))
      }
      #expect(refusal.description.contains("\(kind) route covers it"), "\(refusal)")
    }
    #expect(try netlink.route(to: v4(10, 0, 0, 255)).isBroadcast)
    #expect(try !netlink.route(to: v4(10, 0, 0, 2)).isBroadcast)
  }

  @Test func `routes that forbid sending are errors`() throws {
    let namespace = try prepare()
    try ip("route", "add", "unreachable", "198.51.100.0/24", in: namespace)
    try ip("route", "add", "prohibit", "203.0.113.0/24", in: namespace)
    var netlink = try namespace.netlink()
    for (destination, errno) in [
      (v4(198, 51, 100, 1), Errno.noRouteToHost), (v4(203, 0, 113, 1), .permissionDenied),
    ] {
      let refusal = try message { () throws(LinuxError) in _ = try netlink.route(to: destination) }
      #expect(refusal.errno == errno)
    }
  }

  @Test func `routes are added with all that belongs to them, and listed`() throws {
    let namespace = try prepare()
    var netlink = try namespace.netlink()
    let veth0 = try netlink.existing("veth0")
    // Bits behind the prefix mean nothing.
    var far = RouteEntry(
      destination: v4(198, 51, 100, 7), prefixLength: 23, gateway: v4(10, 0, 0, 254))
    (far.mtu, far.advertisedMSS, far.priority, far.table) = (1300, 1200, 7, 1000)
    let near = RouteEntry(destination: v4(203, 0, 113, 0), prefixLength: 24)
    let six = RouteEntry(
      destination: IPAddress(v6High: 0x2001_0DB8 << 32, low: 0), prefixLength: 33, gateway: v6(254))
    let everywhere = RouteEntry(
      destination: v4(0, 0, 0, 0), prefixLength: 0, gateway: v4(10, 0, 0, 9))
    for route in [far, near, six, everywhere] { try netlink.add(route, on: veth0) }
    let again = try message { () throws(LinuxError) in try netlink.add(near, on: veth0) }
    #expect(again.errno == .fileExists)
    let lost = try message { () throws(LinuxError) in
      try netlink.add(
        RouteEntry(destination: v4(192, 0, 2, 0), prefixLength: 24, gateway: v4(172, 16, 0, 1)),
        on: veth0)
    }
    #expect(lost.errno == .networkUnreachable && lost.description.contains("192.0.2.0/24"))

    let routes = try netlink.routes()
    let listed = try #require(routes.first { $0.table == 1000 })
    #expect(listed.destination == v4(198, 51, 100, 0) && listed.prefixLength == 23)
    #expect(listed.mtu == 1300 && listed.advertisedMSS == 1200 && listed.priority == 7)
    #expect(listed.gateway == v4(10, 0, 0, 254) && listed.linkIndex == veth0.index)
    #expect(routes.contains { $0.destination == v4(203, 0, 113, 0) && $0.gateway == nil })
    #expect(routes.contains { $0.destination == six.destination && $0.gateway == v6(254) })
    #expect(routes.contains { $0.isDefault && $0.gateway == v4(10, 0, 0, 9) })
    #expect(
      try ip("route", "show", "table", "1000", in: namespace).contains("mtu 1300 advmss 1200"))
  }
}
