package import OVXDatapath

// A network's gateway: the router that its members have for a default route, as a port of the
// network.
//
// The port is a TAP in a network namespace, its router, which `ovx-gatewayd` makes with all that is
// beyond the port. That says when there is one (`openGateway`); everything else about the port
// follows from the network, as its tunnel does, and with the network it goes.

extension Configuration {
  /// Which hosts have a network's gateway: the column `gateway_mode`.
  package enum GatewayMode: String, Codable, CaseIterable, Sendable {
    /// Every host, with the same addresses; nothing from or to it crosses a tunnel.
    case distributed
    /// This host, for all hosts of the network.
    case central
    /// Another host.
    case remote
  }

  /// By which addresses a network's members are seen beyond its gateway: the column `nat`.
  package enum AddressTranslation: String, Codable, CaseIterable, Sendable {
    /// Their own.
    case none
    /// The host's.
    case masquerade
  }
}

extension Configuration.Network {
  /// The name of the port that is its gateway.
  package var gatewayPort: String { "gw\(vni.rawValue)" }

  /// The name that the gateway's device has in its namespace.
  package static let gatewayDevice = "tenant"

  /// What the names of the host's ends of ways to routers begin with; the VNI follows.
  package static let transitDevicePrefix = "ovx-gw"

  /// The subnets that the host has a route to, as the gateway here does not translate.
  package var routedSubnets: [IPPrefix] {
    guard hasGatewayHere, nat == .none else { return [] }
    return subnets.filter { !$0.base.isIPv6 || gateways.contains(where: \.isIPv6) }
  }

  /// The gateway's Ethernet address: 02:6f:76 and the VNI.
  ///
  /// The same on all hosts, so that a container which moves between hosts goes on with the gateway
  /// of the host it is on.
  package var gatewayEthernetAddress: MACAddress { Self.gatewayEthernetAddress(of: vni) }

  /// The gateway's Ethernet address of a network with a VNI.
  package static func gatewayEthernetAddress(of vni: VNI) -> MACAddress {
    MACAddress(truncating: 0x026F_7600_0000 | UInt64(vni.rawValue))
  }

  /// Whether this host is to have the gateway.
  package var hasGatewayHere: Bool { !gateways.isEmpty && gatewayMode != .remote }

  /// The gateway's addresses with the lengths of their subnets.
  package var gatewayAddresses: [InterfaceAddress] {
    gateways.compactMap { gateway in
      subnet(of: gateway).map { InterfaceAddress(gateway, prefixLength: $0.length) }
    }
  }

  /// Whether a port is the network's gateway.
  package func isGateway(_ port: Configuration.Port) -> Bool {
    port.network == name && port.name == gatewayPort && port.interface.attachment != nil
  }

  /// The addresses outside and those of the members that have them there, by the former; what is
  /// none is left out.
  package var floatingAddresses: [(outside: IPAddress, member: IPAddress)] {
    floating.compactMap { outside, member in
      guard let outside = IPAddress(outside), let member = IPAddress(member) else { return nil }
      return (outside, member)
    }
    .sorted { $0.outside < $1.outside }
  }

  /// Checks that each floating address is one, of one member of the network.
  private func validateFloating() throws(ControlError) {
    guard !floating.isEmpty else { return }
    guard floating.count <= 1024 else {
      throw ControlError(
        "network \(name) has \(floating.count) floating addresses; it may have 1024")
    }
    for (outside, member) in floating.sorted(by: { $0.key < $1.key }) {
      guard let outside = IPAddress(outside), let member = IPAddress(member),
        outside.isIPv6 == member.isIPv6
      else {
        throw ControlError(
          "network \(name): floating:\(printable(outside))=\(printable(member)) is not an address outside and one of a "
            + "member, both of one family; it looks like floating:203.0.113.50=172.17.42.10")
      }
      guard let subnet = subnet(of: member), subnet.stations.contains(member) else {
        throw ControlError(
          "network \(name): floating:\(outside)=\(member) names no station's address in its subnets ("
            + shortened(subnets.map(\.description)) + ")")
      }
      guard outside.isUnicast, self.subnet(of: outside) == nil else {
        throw ControlError(
          "network \(name): floating address \(outside) is none outside of the network; name one that the host's "
            + "network leads to the host")
      }
      guard gateways.contains(where: { $0.isIPv6 == member.isIPv6 }), gatewayMode != .remote,
        !gateways.contains(member)
      else {
        throw ControlError(
          "network \(name): floating:\(outside)=\(member) takes a gateway of its family on this host, which the "
            + "member is not itself; name one with gateway=ADDRESS, or \"remove network \(name) floating \(outside)\""
        )
      }
    }
    let addresses = floatingAddresses
    for (index, (outside, member)) in addresses.enumerated() {
      if let other = addresses[..<index].first(where: {
        $0.member == member || $0.outside == outside
      }) {
        throw ControlError(
          "network \(name): floating addresses \(other.outside) and \(outside) are both \(member)'s, which can have one; "
            + "\"remove network \(name) floating \(other.outside)\", or \(outside), leaves the other"
        )
      }
    }
  }

  /// Checks that what is said of the gateway goes together.
  func validateGateway() throws(ControlError) {
    try validateFloating()
    guard nat != .none else { return }
    guard !gateways.isEmpty else {
      throw ControlError(
        "network \(name): nat=\(nat.rawValue) is what its gateway does, and it has none; "
          + "name its address with gateway=ADDRESS, or leave nat=none")
    }
    guard gatewayMode != .remote else {
      throw ControlError(
        "network \(name): nat=\(nat.rawValue) is done where the gateway is, which gateway_mode=remote says is "
          + "another host; say nat there, and leave nat=none here")
    }
  }
}

extension Configuration {
  /// Whether a port is the gateway of its network.
  package func isGateway(_ port: Port) -> Bool {
    port.network.flatMap { networks[$0] }?.isGateway(port) ?? false
  }
}

// MARK: - What follows

extension Configuration {
  /// The gateway's port of a network, made of the one that there is; `nil` where this host is to
  /// have none.
  ///
  /// The kernel forwards between the tenant's containers and their router where that has a veth,
  /// and the switch does where it has a TAP. What tunnels bring, to a gateway that other hosts use
  /// as well, goes on faster by a TAP either way: there it arrives as superframes.
  func gateway(of network: Network, from old: Port) -> Port? {
    guard network.hasGatewayHere else { return nil }
    var port = old
    port.bridge = network.bridge
    port.tag = network.tag
    port.network = network.name
    port.interface.type =
      host.fastPath != .off && network.gatewayMode == .distributed ? .veth : .tap
    port.interface.mac = network.gatewayEthernetAddress
    port.interface.attachment?.addresses = network.gatewayAddresses
    port.interface.attachment?.gateways = []
    return port
  }
}

extension Transaction {
  /// Makes the gateway's port of a network in a namespace, its router, or moves it there.
  ///
  /// - Parameters:
  ///   - name: The network.
  ///   - target: The namespace, as `attach` takes it.
  /// - Throws: That there is no such network, or no gateway of it on this host, or that its port's
  ///   name is taken.
  mutating func openGateway(of name: String, in target: String) throws(ControlError) {
    guard let network = configuration.networks[name] else { throw noNetwork(name) }
    guard network.hasGatewayHere else {
      throw ControlError(
        "network \(name) has no gateway on this host; "
          + (network.gateways.isEmpty
            ? "\"set network \(name) gateway=ADDRESS\" names one" : "its gateway_mode is remote"),
        record: name)
    }
    var port: Configuration.Port
    if let old = configuration.ports[network.gatewayPort] {
      guard network.isGateway(old) else {
        throw ControlError(
          "network \(name) needs the name \(network.gatewayPort) for its gateway, and there is a port of that name "
            + "on bridge \(old.bridge); delete that, or take another VNI", record: name)
      }
      port = old
    } else {
      port = Configuration.Port(
        name: network.gatewayPort, bridge: network.bridge,
        interface: Configuration.Interface(type: .tap))
    }
    if port.interface.attachment?.target != target {
      port.interface.attachment = Configuration.Attachment(
        target: target, interface: Configuration.Network.gatewayDevice)
      port.interface.mtuRequest = network.mtuRequest
    }
    configuration.ports[port.name] = configuration.gateway(of: network, from: port)
  }

  /// Makes the gateway's port of a network what the network says now, or removes it where that has
  /// none any more.
  mutating func settleGateway(
    of network: Configuration.Network, after former: Configuration.Network?,
    _ changes: inout Configuration.Changes
  ) {
    if let former, former.gatewayPort != network.gatewayPort {
      removeGateway(of: former, &changes)
    }
    guard let port = configuration.ports[network.gatewayPort], network.isGateway(port) else {
      return
    }
    configuration.ports[port.name] = configuration.gateway(of: network, from: port)
    changes.ports.insert(port.name)
  }

  /// Removes the gateway's port of a network, where there is one.
  mutating func removeGateway(
    of network: Configuration.Network, _ changes: inout Configuration.Changes
  ) {
    guard let port = configuration.ports[network.gatewayPort], network.isGateway(port) else {
      return
    }
    configuration.ports[port.name] = nil
    changes.ports.insert(port.name)
  }

  func refusal(
    of gateway: Configuration.Port, of network: Configuration.Network
  ) -> ControlError {
    ControlError(
      "port \(gateway.name) is the gateway of network \(network.name), and its tag, mac and addresses are the "
        + "network's; \"set network \(network.name) gateway=ADDRESS\" changes them, and "
        + "\"\(network.lineWithoutGateway)\" removes it", record: gateway.name)
  }
}

extension Configuration.Network {
  /// The commands that take its gateway away, with what only a gateway does.
  fileprivate var lineWithoutGateway: String {
    let settings =
      (nat == .none ? "" : " nat=none") + (dhcp ? " dhcp=false" : "") + (dns ? " dns=false" : "")
    let set = settings.isEmpty ? "" : "set network \(name)\(settings) -- "
    return "\(set)clear network \(name)\(floating.isEmpty ? "" : " floating") gateway"
  }
}

// MARK: - Of all gateways of a host

extension Configuration.SwitchRecord {
  /// A record of which nothing is said but this.
  package init(otherConfig: [String: String]) {
    self.init()
    self.otherConfig = otherConfig
  }
}
