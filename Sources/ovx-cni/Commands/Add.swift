private import OVXControl
private import OVXDatapath

extension NetworkTask {
  /// Attaches a container to the network.
  ///
  /// Where a step is refused, what the steps before it have done is undone.
  ///
  /// - Parameter call: Which container, and which interface.
  /// - Returns: The result, to be printed.
  /// - Throws: Why there is no attachment.
  func add(_ call: Call) throws(PluginError) -> JSON {
    let namespace = try ContainerNamespace(path: call.namespace)
    let known = try known(of: call)
    let stale = try staleAttachments(known.ports, call, in: namespace)
    let mac = try requestedMAC(call)
    let requested = try requestedAddresses(call, of: try known.network())
    var settings = try daemon.settings(of: configuration.place)
    if let mac { settings.append(Setting(column: "mac", value: mac.description)) }
    settings.append(Setting(column: "kind", value: configuration.kind))
    if let mtu = configuration.mtu { settings.append(Setting(column: "mtu", value: String(mtu))) }
    if !configuration.published.isEmpty {
      let texts = configuration.published.map { Atom.text($0.description).description }
      settings.append(
        Setting(column: "publish", value: "[\(texts.joined(separator: ","))]"))
    }

    // What a former call has left goes with its addresses, before others are asked for.
    if !stale.isEmpty { try delete(call) }
    var addresses: AddressResult
    if let addressPlugin {
      addresses = try addressPlugin.add()
    } else {
      addresses = AddressResult(addresses: requested.map { AddressResult.Assigned(address: $0) })
    }
    do throws(PluginError) {
      let routes = try routes(of: addresses, in: namespace)
      let order = Daemon.Order(
        place: configuration.place, settings: settings,
        addresses: addresses.addresses.map(\.address), gateways: routes.gateways)
      // Where the daemon does all that is left, it is done or not, and needs no mark that costs
      // another transaction.
      let isStep = !routes.others.isEmpty
      let port = try daemon.attach(call, to: configuration.name, order, isStep: isStep)
      try namespace.add(routes.others, by: call.interface)
      let state = try daemon.state(of: port, finishing: isStep)
      if let error = state.error {
        throw PluginError(.refused, "\(call.interface) is not in service: \(error)")
      }
      let given = AddressResult(state)
      if addressPlugin == nil {
        addresses = given
      } else {
        // A network gives a default route where the plugin gives none.
        addresses.routes += given.routes.filter { route in
          !addresses.routes.contains {
            $0.isDefault && $0.destination.address.isIPv6 == route.destination.address.isIPv6
          }
        }
      }
      addresses.dns = configuration.dns ?? addresses.dns
      return AddResult(
        interface: call.interface, sandbox: call.namespace, mac: state.mac, mtu: state.mtu,
        addresses: addresses
      ).json(configuration.version, behind: configuration.previous)
    } catch {
      throw error.leaving(undo(call))
    }
  }

  /// Takes away what an `ADD` has made.
  ///
  /// Addresses are given back only where nobody has them any more.
  ///
  /// - Parameter call: What it was called for.
  /// - Returns: What could not be undone.
  private func undo(_ call: Call) -> [PluginError] {
    do throws(PluginError) {
      try delete(call)
      return []
    } catch {
      return [error]
    }
  }

  // MARK: What is there already

  /// What the daemon knows before: ports of this very interface, and the network; asked for at
  /// once.
  private func known(
    of call: Call
  ) throws(PluginError) -> (ports: [AttachedPort], network: () throws(PluginError) -> KnownNetwork?)
  {
    let findPorts = Daemon.findPorts(
      of: configuration.name, container: call.containerID, interface: call.interface)
    guard case .network(let name) = configuration.place else {
      return (
        Daemon.ports(in: try daemon.send([findPorts])[0].rows), { () throws(PluginError) in nil }
      )
    }
    let replies = try daemon.send([findPorts, Daemon.findNetwork(name)])
    return (
      Daemon.ports(in: replies[0].rows),
      { () throws(PluginError) in try Daemon.network(name, in: replies[1].rows) }
    )
  }

  /// Ports of this very interface that a former `ADD` has left behind, be it that it was killed or
  /// that the container has another namespace now.
  ///
  /// - Throws: Code 101 where the interface is there and is not such a one.
  private func staleAttachments(
    _ ports: [AttachedPort], _ call: Call, in namespace: ContainerNamespace
  ) throws(PluginError) -> [AttachedPort] {
    guard try namespace.link(call.interface) != nil, !ports.contains(where: \.isPending) else {
      return ports
    }
    throw PluginError(
      .interfaceExists,
      "CNI_IFNAME: there is an interface \(call.interface) in \(call.namespace) already"
        + (ports.isEmpty
          ? "; take another name, or delete it"
          : ", which ADD has made for container \(call.containerID); DEL removes it"))
  }

  // MARK: What is asked for

  private func requestedMAC(_ call: Call) throws(PluginError) -> MACAddress? {
    if let text = configuration.mac {
      guard let mac = MACAddress(text) else {
        throw PluginError(
          .invalidConfiguration,
          "\"runtimeConfig.mac\" \"\(text)\" is not an Ethernet address, such as 02:00:00:00:00:01")
      }
      return mac
    }
    guard let text = call.arguments.mac else { return nil }
    guard let mac = MACAddress(text) else {
      throw PluginError(
        .badEnvironment,
        "CNI_ARGS: MAC \"\(text)\" is not an Ethernet address, such as 02:00:00:00:00:01")
    }
    return mac
  }

  /// The daemon's network; `nil` for a bridge.
  func knownNetwork() throws(PluginError) -> KnownNetwork? {
    guard case .network(let name) = configuration.place else { return nil }
    return try daemon.network(name)
  }

  /// The addresses asked for, where no plugin hands them out that is asked for them, too.
  ///
  /// In a network, the length of the prefix is its subnet's.
  private func requestedAddresses(
    _ call: Call, of network: KnownNetwork?
  ) throws(PluginError) -> [InterfaceAddress] {
    guard addressPlugin == nil else { return [] }
    let isConfigured = !configuration.addresses.isEmpty
    var addresses: [InterfaceAddress] = []
    for text in isConfigured ? configuration.addresses : call.arguments.addresses {
      let subnet = IPAddress(text).flatMap { address in
        network?.subnets.first { $0.contains(address) }
      }
      let whole = subnet.map { "\(text)/\($0.length)" } ?? text
      guard let address = InterfaceAddress(whole) else {
        let name = isConfigured ? "\"runtimeConfig.ips\"" : "CNI_ARGS: IP"
        throw PluginError(
          isConfigured ? .invalidConfiguration : .badEnvironment,
          network == nil || IPAddress(text) == nil
            ? "\(name) \"\(text)\" is not an address with the length of its prefix, such as 10.0.0.5/24, which a "
              + "bridge without \"ipam\" needs"
            : "\(name) \"\(text)\" is in no subnet of \(configuration.description)")
      }
      addresses.append(address)
    }
    return addresses
  }

  // MARK: Routes

  /// Who makes which route.
  private struct Routes {
    /// Default routes that the daemon makes, and makes again whenever it makes the interface anew.
    var gateways: [IPAddress] = []
    /// Those that the plugin makes.
    var others: [AddressResult.Route] = []
  }

  /// Divides the routes.
  ///
  /// The first of several default routes counts; one that the container has already stays.
  private func routes(
    of result: AddressResult, in namespace: ContainerNamespace
  ) throws(PluginError) -> Routes {
    var routes = Routes()
    guard !result.routes.isEmpty else { return routes }
    let present = try namespace.defaultRoutes()
    for route in result.resolvedRoutes {
      let isIPv6 = route.destination.address.isIPv6
      guard route.isDefault, route.isPlain else {
        routes.others.append(route)
        continue
      }
      let isTaken =
        (isIPv6 ? present.ipv6 : present.ipv4)
        || routes.gateways.contains { $0.isIPv6 == isIPv6 }
      guard !isTaken else { continue }
      if let gateway = route.gateway,
        result.addresses.contains(where: {
          $0.address.contains(gateway) && $0.address.address != gateway
        })
      {
        routes.gateways.append(gateway)
      } else {
        routes.others.append(route)
      }
    }
    return routes
  }
}

extension AddressResult {
  /// What a network has chosen for a port.
  fileprivate init(_ state: PortState) {
    addresses = state.addresses.map { address in
      Assigned(address: address, gateway: state.gateways.first { address.contains($0) })
    }
    routes = state.gateways.compactMap { gateway in
      InterfaceAddress(gateway.isIPv6 ? "::/0" : "0.0.0.0/0").map {
        Route(destination: $0, gateway: gateway)
      }
    }
  }
}
