package import OVXDatapath

/// A network as `net show` describes it: what it is, who is in it, and what is wrong with it.
package struct NetworkDescription: Codable, Equatable, Sendable {
  package var name: String
  package var vni: VNI
  package var bridge: String
  package var tag: VLANID
  package var subnets: [IPPrefix]
  package var ranges: [AddressRange]
  package var gateways: [IPAddress]
  package var gatewayMode: Configuration.GatewayMode
  package var nat: Configuration.AddressTranslation
  /// Whether the gateway serves DHCP.
  package var dhcp: Bool
  /// Whether the gateway serves DNS.
  package var dns: Bool
  /// The domain of its members' names; absent where there is none.
  package var domain: String?
  /// The port that is the gateway on this host; absent where there is none.
  package var gatewayPort: String?
  /// How the gateway is on this host; absent where there is to be none, or where that is not known
  /// yet.
  package var gatewayState: GatewayState.Condition?
  /// What is wrong with the gateway, sentences.
  package var gatewayErrors: [String] = []
  /// Addresses of members and gateways.
  package var addressesUsed: Int
  /// Addresses that this host can still hand out.
  package var addressesFree: Int
  package var remotes: [Remote] = []
  package var members: [Member] = []
  /// What is wrong with the tunnel or the gateway, a sentence; the first, where there are several.
  package var error: String?

  /// A host that the network has a tunnel to.
  package struct Remote: Codable, Equatable, Sendable {
    package var address: IPAddress
    /// The largest IP packet of the network that fits, in bytes; absent where there is no way.
    package var mtu: Int?
    /// Why it cannot be reached, a sentence.
    package var error: String?

    package init(address: IPAddress, mtu: Int?, error: String?) {
      self.address = address
      self.mtu = mtu
      self.error = error
    }
  }

  /// A port of the network on this host.
  package struct Member: Codable, Equatable, Sendable {
    package var port: String
    /// For an attached one, the container and the interface inside.
    package var target: String?
    package var interface: String?
    package var addresses: [InterfaceAddress]
    package var mac: MACAddress?
    /// The Ethernet address that its device was given, whatever a container has made of it since.
    package var station: MACAddress?
    package var error: String?
    /// Ports of the host that lead to it.
    package var published: [PublishedPort]
  }

  /// Describes a network of the configuration; the daemon adds remotes, and what it knows of
  /// members.
  package init(_ network: Configuration.Network, in configuration: Configuration) {
    name = network.name
    vni = network.vni
    bridge = network.bridge
    tag = network.tag
    subnets = network.subnets
    ranges = network.ranges
    gateways = network.gateways
    gatewayMode = network.gatewayMode
    nat = network.nat
    dhcp = network.dhcp
    dns = network.dns
    domain = network.domain
    gatewayPort = configuration.ports[network.gatewayPort].flatMap {
      network.isGateway($0) ? $0.name : nil
    }
    let use = configuration.use(of: network)
    addressesUsed = use.used
    addressesFree = use.free
    members = configuration.members(of: network.name).map { port in
      let attachment = port.interface.attachment
      return Member(
        port: port.name, target: attachment?.target, interface: attachment?.interface,
        addresses: attachment?.addresses ?? port.interface.addresses, mac: port.interface.mac,
        published: port.published)
    }
  }
}
