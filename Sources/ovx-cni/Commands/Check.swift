private import OVXControl
private import OVXDatapath
private import OVXLinux

extension NetworkTask {
  /// Looks whether an attachment is still as `ADD` left it: to the daemon, and to the kernel.
  ///
  /// - Parameter call: Which container, and which interface.
  /// - Throws: What is different: code 102, or 3 where nothing of the container is known.
  func check(_ call: Call) throws(PluginError) {
    guard let previous = configuration.previous else {
      throw PluginError(
        .invalidConfiguration,
        "CHECK needs \"prevResult\" in the network configuration, the result of ADD")
    }
    let expected = try ExpectedInterface(call.interface, in: previous)
    let ports = try daemon.ports(
      of: configuration.name, container: call.containerID, interface: call.interface)
    guard let port = ports.first else {
      throw PluginError(
        .containerUnknown,
        "the daemon knows no interface \(call.interface) of container \(call.containerID) in \(configuration.description); "
          + "ADD attaches it")
    }
    let state = try daemon.state(of: port.name)
    if let error = state.error { throw difference(call, "is not in service: \(error)") }
    try checkKernel(call, expected)
    if let mac = expected.mac, state.mac != mac {
      throw difference(
        call,
        "has the Ethernet address \(state.mac.map(\.description) ?? "of nobody") to the daemon, and ADD gave \(mac)"
      )
    }
    try addressPlugin?.check()
  }

  private func difference(_ call: Call, _ what: String) -> PluginError {
    PluginError(.notAsAdded, "\(call.interface) in \(call.namespace) \(what)")
  }

  private func checkKernel(
    _ call: Call, _ expected: ExpectedInterface
  ) throws(PluginError) {
    let namespace = try ContainerNamespace(path: call.namespace)
    guard let link = try namespace.link(call.interface) else {
      throw difference(call, "does not exist")
    }
    guard link.isUp else {
      throw difference(call, "is down; set it up with `ip link set \(call.interface) up`")
    }
    if let mac = expected.mac, link.address != mac {
      throw difference(
        call,
        "has the Ethernet address \(link.address.map(\.description) ?? "none"), and ADD gave \(mac)"
      )
    }
    let present = try namespace.addresses(of: link)
    for address in expected.addresses.addresses.map(\.address) {
      guard
        present.contains(where: {
          $0.address == address.address && Int($0.prefixLength) == address.prefixLength
        })
      else { throw difference(call, "does not have the address \(address) that ADD gave") }
    }
    guard !expected.addresses.routes.isEmpty else { return }
    let routes = try namespace.routes()
    for route in expected.addresses.routes.map(RouteEntry.init) {
      guard
        routes.contains(where: {
          $0.destination == route.maskedDestination && $0.prefixLength == route.prefixLength
        })
      else {
        throw difference(
          call, "has lost the route to \(route.destination)/\(route.prefixLength) that ADD gave")
      }
    }
  }
}
