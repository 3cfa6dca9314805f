private import Glibc
private import OVXControl
internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

/// The network namespace of a container, and what the plugin itself does in it.
///
/// The daemon makes the interface, its addresses and its default route there; what is left are
/// routes to elsewhere.
struct ContainerNamespace {
  private let namespace: NetworkNamespace

  /// Opens the namespace of a call.
  ///
  /// - Parameter path: `CNI_NETNS`.
  /// - Throws: Code 3 where nothing is there, 4 where it is no network namespace.
  init(path: String) throws(PluginError) {
    do {
      namespace = try NetworkNamespace(path: path)
    } catch {
      let isGone = unsafe access(path, F_OK) != 0
      throw PluginError(
        isGone ? .containerUnknown : .badEnvironment,
        isGone
          ? "CNI_NETNS \"\(path)\" does not exist; the container has gone, or has not been started"
          : "CNI_NETNS: \(error)")
    }
  }

  /// Runs something with a netlink socket of the namespace.
  private func perform<Value>(
    _ body: (inout Netlink) throws(LinuxError) -> Value
  ) throws(PluginError) -> Value {
    do {
      var netlink = try Netlink(in: namespace)
      return try body(&netlink)
    } catch {
      throw PluginError(.refused, "in network namespace \(namespace.name): \(error)")
    }
  }

  /// The interface of a name; `nil` where there is none.
  func link(_ name: String) throws(PluginError) -> Link? {
    try perform { (netlink) throws(LinuxError) in try netlink.link(named: name) }
  }

  /// The addresses of an interface.
  func addresses(of link: Link) throws(PluginError) -> [OVXLinux.InterfaceAddress] {
    try perform { (netlink) throws(LinuxError) in try netlink.addresses(of: link) }
  }

  /// The routes of all interfaces, in all tables.
  func routes() throws(PluginError) -> [RouteEntry] {
    try perform { (netlink) throws(LinuxError) in try netlink.routes() }
  }

  /// Whether there is a default route of each family.
  func defaultRoutes() throws(PluginError) -> (ipv4: Bool, ipv6: Bool) {
    let routes = try routes().filter(\.isDefault)
    return (
      routes.contains { !$0.destination.isIPv6 }, routes.contains { $0.destination.isIPv6 }
    )
  }

  /// Adds routes by an interface; where there is such a route already, that one stays.
  ///
  /// - Parameters:
  ///   - routes: In the order in which they depend on each other.
  ///   - name: The interface.
  /// - Throws: Code 100 with what the kernel says.
  func add(_ routes: [AddressResult.Route], by name: String) throws(PluginError) {
    guard !routes.isEmpty else { return }
    try perform { (netlink: inout Netlink) throws(LinuxError) -> Void in
      guard let link = try netlink.link(named: name) else {
        throw LinuxError(
          action: "find", subject: name, errno: .operationNotSupportedByDevice,
          detail: "there is no such interface")
      }
      for route in routes.map(RouteEntry.init) {
        do throws(LinuxError) { try netlink.add(route, on: link) } catch {
          if error.errno != .fileExists { throw error }
        }
      }
    }
  }
}

extension RouteEntry {
  init(_ route: AddressResult.Route) {
    self.init(
      destination: route.destination.address,
      prefixLength: UInt8(clamping: route.destination.prefixLength), gateway: route.gateway)
    mtu = route.mtu.map { UInt32(clamping: $0) }
    advertisedMSS = route.advertisedMSS.map { UInt32(clamping: $0) }
    priority = route.priority.map { UInt32(clamping: $0) }
    table = route.table.map { UInt32(clamping: $0) }
    scope = route.scope.map { UInt8(clamping: $0) }
  }
}
