package import OVXDatapath

// Whom `port_security` holds to what.
//
// It is for those whom a network's operator does not know: containers and virtual machines. A port
// of type internal is the host's own, a network card leads to where routers are, and what comes by
// a tunnel has been looked at on the host that it is from; so these have it only where they are
// told to, and tunnels never.

extension Configuration {
  /// What a port may send; `nil` for anything.
  ///
  /// An attached port is held to what it was given. Of another nobody has said what it is given but
  /// `allowed_addresses`: to that it is held, to its Ethernet addresses and to its IP addresses
  /// where there are some of the kind.
  ///
  /// - Parameters:
  ///   - port: The port.
  ///   - station: The Ethernet address that its device was given, or an internal port's has; `nil`
  ///     while that is not known.
  ///   - isUplink: Whether its device leads out of the host.
  /// - Returns: Addresses, and the gateways of its network.
  package func security(
    of port: Port, station: MACAddress?, isUplink: Bool
  ) -> PortSecurity? {
    let network = port.network.flatMap { networks[$0] }
    guard isSecured(port, isUplink: isUplink) else { return nil }
    var security = PortSecurity(gateways: network?.gateways ?? [])
    if let network, !network.gateways.isEmpty {
      security.gatewayStation = network.gatewayEthernetAddress
    }
    let interface = port.interface
    let stations = port.allowedAddresses.compactMap(\.station)
    if interface.attachment != nil || interface.type == .internal {
      security.stations = (station.map { [$0] } ?? []) + stations
    } else if !stations.isEmpty {
      security.stations = stations
    }
    let given = (interface.attachment?.addresses ?? interface.addresses).map(\.address)
    let prefixes =
      given.map { PortSecurity.Prefix(base: $0, length: $0.bitCount) }
      + port.allowedAddresses.compactMap(\.prefix).map {
        PortSecurity.Prefix(base: $0.base, length: $0.length)
      }
    if !prefixes.isEmpty { security.addresses = prefixes }
    return security
  }

  /// Whether `port_security` is in force for a port: its own, else its network's.
  package func isSecured(_ port: Port, isUplink: Bool = false) -> Bool {
    guard port.interface.type != .vxlan else { return false }
    if let own = port.portSecurity { return own }
    guard let network = port.network.flatMap({ networks[$0] }) else { return false }
    return network.portSecurity && port.interface.type != .internal && !isUplink
      && !isGateway(port)
  }

  /// Checks what a port is told it may send.
  func validateSecurity(of port: Port) throws(ControlError) {
    let name = port.name
    guard port.portSecurity != nil || !port.allowedAddresses.isEmpty else { return }
    guard port.interface.type != .vxlan else {
      throw ControlError(
        "port \(name) is a tunnel, whose frames the hosts look at that send them, so it takes no port_security and no "
          + "allowed_addresses; set them on ports of those hosts")
    }
    guard port.allowedAddresses.count <= AllowedAddress.limit else {
      throw ControlError(
        "port \(name) has \(port.allowedAddresses.count) allowed_addresses; it may have \(AllowedAddress.limit), of "
          + "which one can be a whole network, such as 172.17.42.0/24")
    }
    guard isSecured(port), let network = port.network.flatMap({ networks[$0] }) else { return }
    for allowed in port.allowedAddresses {
      let isGateway: Bool
      switch allowed {
      case .station(let station):
        isGateway = !network.gateways.isEmpty && station == network.gatewayEthernetAddress
      case .addresses(let prefix):
        isGateway =
          prefix.length == prefix.base.bitCount && network.gateways.contains(prefix.base)
      }
      guard !isGateway else {
        throw ControlError(
          "port \(name): allowed_addresses has \(allowed), the gateway's of network \(network.name), which no port may "
            + "have while it has port_security; a router has it with \"set port \(name) port_security=false\""
        )
      }
    }
  }
}
