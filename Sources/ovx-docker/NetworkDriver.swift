internal import OVXControl
private import OVXDatapath
private import OVXLinux

/// Docker's networks and containers as networks and ports of the switch.
///
/// It keeps nothing: which network is which, and whose a port is, stands in `external_ids` of the
/// switch's records, so that a driver that is started anew goes on. A container is on a veth, whose
/// one end is a port of the host: it stays over restarts of the switch, of Docker and of the
/// driver. Or on a TAP, of which the switch has to hold the other end.
struct NetworkDriver {
  private let connection: SwitchConnection

  init(_ connection: SwitchConnection) {
    self.connection = connection
  }

  // MARK: Networks

  /// Makes a network of the switch, or notes that Docker uses one.
  func createNetwork(_ request: CreateNetworkRequest) throws(ControlError) {
    let id = try checked(request.networkID, "network")
    var options = request.options?.generic ?? [:]
    let network = options.removeValue(forKey: "network")
    let vni = options.removeValue(forKey: "vni")
    let mtu =
      options.removeValue(forKey: "mtu")
      ?? options.removeValue(forKey: "com.docker.network.driver.mtu")
    let kind = options.removeValue(forKey: "kind") ?? "veth"
    if let unknown = options.keys.min() {
      throw ControlError(
        "ovx has no option \"\(printable(unknown))\"; it takes network=NAME or vni=NUMBER, mtu=BYTES, and "
          + "kind=veth or kind=tap")
    }
    guard kind == "veth" || kind == "tap" else {
      throw ControlError(
        "-o kind=\(printable(kind)) is no kind of interface; it is veth, which is usual, or tap")
    }
    let pools = (request.ipv4Data ?? []) + (request.ipv6Data ?? [])
    let subnets = pools.compactMap(\.pool).filter { !$0.isEmpty }
    switch (network, vni) {
    case (let name?, nil):
      guard mtu == nil else {
        throw ControlError("network \(printable(name)) has its own MTU; \"set network\" changes it")
      }
      try adopt(name, id: id, kind: kind, subnets: subnets)
    case (nil, let vni?):
      let gateways = pools.compactMap(\.gateway).filter { !$0.isEmpty }
        .map { String($0.prefix { $0 != "/" }) }
      var settings = [
        Setting(column: "vni", value: vni),
        Setting(column: "external_ids", key: Self.made, value: id),
      ]
      if kind == "tap" {
        settings.append(Setting(column: "external_ids", key: Self.kind(id), value: kind))
      }
      if let mtu { settings.append(Setting(column: "mtu_request", value: mtu)) }
      if !subnets.isEmpty {
        settings.append(Setting(column: "subnet", value: subnets.joined(separator: ",")))
      }
      if !gateways.isEmpty {
        settings.append(Setting(column: "gateway", value: gateways.joined(separator: ",")))
      }
      _ = try connection.send([
        .addNetwork(network: "docker-\(id.prefix(12))", settings: settings, mayExist: false)
      ])
    default:
      throw ControlError(
        "a network of ovx needs -o network=NAME, of one that add-net has made, or -o vni=NUMBER for a new one"
      )
    }
  }

  /// The key under which a network has the id of the one of Docker for which it was made.
  private static let made = "docker-network"

  /// The key under which a network has the id of one of Docker that uses it.
  private static func use(_ id: String) -> String { "docker-use-\(id.prefix(12))" }

  /// The key under which a network has what containers of one of Docker are on, where that is no
  /// veth.
  private static func kind(_ id: String) -> String { "docker-kind-\(id.prefix(12))" }

  private func adopt(
    _ name: String, id: String, kind: String, subnets: [String]
  ) throws(ControlError) {
    guard let network = try connection.networks().first(where: { $0.name == name }) else {
      throw ControlError(
        "the switch has no network \(printable(name)); \"ovx-ctl add-net\" makes one, and -o vni=NUMBER another"
      )
    }
    let strange = subnets.filter { !network.subnets.contains($0) }
    guard network.subnets.isEmpty || strange.isEmpty else {
      let words = network.subnets.map { "--subnet \($0)" }.joined(separator: " ")
      throw ControlError(
        "network \(name) has other subnets than \(strange.joined(separator: ", ")); type \(words), and --ip-range for "
          + "this host's share")
    }
    var settings = [Setting(column: "external_ids", key: Self.use(id), value: id)]
    if kind == "tap" {
      settings.append(Setting(column: "external_ids", key: Self.kind(id), value: kind))
    }
    _ = try connection.send([
      .set(table: "Network", record: name, settings: settings, ifExists: false)
    ])
  }

  /// Deletes a network that was made for Docker, or forgets that Docker uses it; does nothing where
  /// there is none.
  func deleteNetwork(_ request: NetworkRequest) throws(ControlError) {
    let id = try checked(request.networkID, "network")
    guard let network = try self.network(of: id, isNeeded: false) else { return }
    if network.externalIDs[Self.made] == id {
      _ = try connection.send([.deleteNetwork(network: network.name, ifExists: true)])
    } else {
      _ = try connection.send([
        .remove(
          table: "Network", record: network.name, column: "external_ids",
          values: [Self.use(id), Self.kind(id)], ifExists: true)
      ])
    }
  }

  // MARK: Endpoints

  /// Makes a veth and puts its one end into the network, or a TAP where Docker's network is of
  /// these.
  ///
  /// - Returns: The container's Ethernet address; `nil` where the request has one.
  func createEndpoint(_ request: CreateEndpointRequest) throws(ControlError) -> String? {
    let id = try checked(request.endpointID, "endpoint")
    let networkID = try checked(request.networkID, "network")
    guard let network = try self.network(of: networkID, isNeeded: true) else { return nil }
    // Where there is no gateway, Docker says nothing more of the ports that it is to publish.
    if network.gateways.isEmpty, let port = request.options?.ports?.first {
      throw ControlError(
        "network \(network.name) has no gateway, which publishes ports (-p \(port.port ?? 0)); "
          + "\"ovx-ctl set network \(network.name) gateway=ADDRESS\" names one, or leave out -p")
    }
    let interface = request.interface
    var settings = [
      Setting(column: "network", value: network.name),
      Setting(column: "external_ids", key: "docker-endpoint", value: id),
    ]
    for address in [interface?.address, interface?.addressIPv6].compactMap(\.self)
    where !address.isEmpty {
      try check(address, network)
      settings.append(
        Setting(
          column: "external_ids", key: address.contains(":") ? "docker-ipv6" : "docker-ip",
          value: Atom.text(address).description))
    }
    let isTAP = network.externalIDs[Self.kind(networkID)] != nil
    let port = Self.names(id).port
    let asked = interface?.macAddress.flatMap { $0.isEmpty ? nil : $0 }
    let wanted = asked ?? interface?.address.flatMap(Self.ethernetAddress)?.description
    let made = try isTAP ? makeTAP(port, of: network, wanted, settings) : makeVeth(id)
    // Whose the port is says nobody but this: the container's end is out of the switch's sight.
    let own = wanted ?? made?.description
    let given =
      [own].compactMap(\.self)
      + [interface?.address, interface?.addressIPv6].compactMap { text in
        text.flatMap { InterfaceAddress($0) }?.address.description
      }
    if !given.isEmpty {
      settings.append(
        Setting(
          column: "allowed_addresses",
          value: given.map { Atom.text($0).description }.joined(separator: ",")))
    }
    do throws(ControlError) {
      _ = try connection.send([
        .addPort(bridge: network.bridge, port: port, settings: settings, mayExist: true)
      ])
    } catch {
      // A TAP goes with its port.
      if isTAP {
        _ = try? connection.send([.deletePort(bridge: nil, port: port, ifExists: true)])
      } else {
        deleteDevice(port)
      }
      throw error
    }
    return asked == nil ? own : nil
  }

  /// The Ethernet address of a container that asks for none, made of its IPv4 address as Docker's
  /// own bridges do: who knows a container still does when it has been restarted.
  ///
  /// - Parameter text: ADDRESS/LENGTH.
  /// - Returns: `nil` where it is none of IPv4.
  private static func ethernetAddress(of text: String) -> MACAddress? {
    guard let address = InterfaceAddress(text)?.address, !address.isIPv6 else { return nil }
    return MACAddress(truncating: 0x0242_0000_0000 | UInt64(truncatingIfNeeded: address.number))
  }

  /// Makes a veth, or anew where a driver that was killed in between has left it.
  ///
  /// - Parameter id: The endpoint's.
  /// - Returns: The Ethernet address of the container's end.
  /// - Throws: What the kernel refuses.
  private func makeVeth(_ id: String) throws(ControlError) -> MACAddress? {
    let (port, inside) = Self.names(id)
    do {
      var netlink = try Netlink()
      if let stale = try netlink.link(named: port) { try netlink.delete(stale) }
      try netlink.makeVeth(named: port, otherEnd: inside)
      if let link = try netlink.link(named: port) { try netlink.setUp(true, link) }
      return try netlink.link(named: inside)?.address
    } catch {
      throw ControlError("a veth for endpoint \(id.prefix(12)) cannot be made: \(error)")
    }
  }

  /// Has the switch make a TAP, which Docker moves into the container.
  ///
  /// - Parameters:
  ///   - port: Its name.
  ///   - network: Which it is in.
  ///   - address: The Ethernet address that is asked for; `nil` for any.
  ///   - settings: More of the port's.
  /// - Returns: Its Ethernet address.
  /// - Throws: What the switch refuses; there is no port then.
  private func makeTAP(
    _ port: String, of network: SwitchConnection.Network, _ address: String?, _ settings: [Setting]
  ) throws(ControlError) -> MACAddress? {
    var settings = settings + [Setting(column: "type", value: "tap")]
    if let address {
      settings.append(Setting(column: "mac", value: Atom.text(address).description))
    }
    _ = try connection.send([
      .deletePort(bridge: nil, port: port, ifExists: true),
      .addPort(bridge: network.bridge, port: port, settings: settings, mayExist: false),
    ])
    do {
      var netlink = try Netlink()
      return try netlink.link(named: port)?.address
    } catch {
      throw ControlError("the TAP \(port) cannot be found: \(error)")
    }
  }

  /// The device to move into the container, and the routers that it gets.
  func join(_ request: EndpointRequest) throws(ControlError) -> JoinResponse {
    let id = try checked(request.endpointID, "endpoint")
    let networkID = try checked(request.networkID, "network")
    let network = try network(of: networkID, isNeeded: true)
    let gateways = network?.gateways ?? []
    let (port, inside) = Self.names(id)
    let isTAP = network?.externalIDs[Self.kind(networkID)] != nil
    return JoinResponse(
      interfaceName: JoinResponse.Name(srcName: isTAP ? port : inside),
      gateway: gateways.first { !$0.contains(":") },
      gatewayIPv6: gateways.first { $0.contains(":") })
  }

  /// Takes a container out of its network; does nothing where it is not in one.
  func deleteEndpoint(_ request: EndpointRequest) throws(ControlError) {
    let port = Self.names(try checked(request.endpointID, "endpoint")).port
    _ = try connection.send([.deletePort(bridge: nil, port: port, ifExists: true)])
    deleteDevice(port)
  }

  /// Has the network's gateway lead ports of the host to a container, whose way out this endpoint
  /// is now.
  func publish(_ request: ConnectivityRequest) throws(ControlError) {
    let port = Self.names(try checked(request.endpointID, "endpoint")).port
    var published: [PublishedPort] = []
    for mapping in request.options?.ports ?? [] { published.append(try PublishedPort(mapping)) }
    guard !published.isEmpty else { return }
    let texts = published.map { Atom.text($0.description).description }
    _ = try connection.send([
      .set(
        table: "Port", record: port,
        settings: [
          Setting(column: "publish", value: "[\(texts.joined(separator: ","))]")
        ], ifExists: false)
    ])
  }

  /// Leads no more ports to a container; does nothing where it is gone.
  func unpublish(_ request: ConnectivityRequest) throws(ControlError) {
    let port = Self.names(try checked(request.endpointID, "endpoint")).port
    _ = try connection.send([
      .clear(table: "Port", record: port, columns: ["publish"], ifExists: true)
    ])
  }

  /// The two ends of an endpoint's veth: 15 bytes at most, which the kernel allows.
  private static func names(_ id: String) -> (port: String, inside: String) {
    ("dk\(id.prefix(12))", "dc\(id.prefix(12))")
  }

  private func deleteDevice(_ name: String) {
    guard var netlink = try? Netlink(), let link = try? netlink.link(named: name) else { return }
    try? netlink.delete(link)
  }

  private func check(_ address: String, _ network: SwitchConnection.Network) throws(ControlError) {
    let prefixes = network.subnets.compactMap(IPPrefix.init)
    guard let parsed = InterfaceAddress(address) else {
      throw ControlError(
        "\"\(printable(address))\" is not an address with the length of its prefix")
    }
    guard prefixes.isEmpty || prefixes.contains(where: { $0.contains(parsed.address) }) else {
      throw ControlError(
        "\(address) is in no subnet of network \(network.name) (\(network.subnets.joined(separator: ", ")))"
      )
    }
  }

  /// The network of the switch that one of Docker is.
  private func network(of id: String, isNeeded: Bool) throws(ControlError) -> SwitchConnection
    .Network?
  {
    let found = try connection.networks().first {
      $0.externalIDs[Self.made] == id || $0.externalIDs[Self.use(id)] == id
    }
    if found == nil, isNeeded {
      throw ControlError(
        "the switch has no network for Docker's \(id.prefix(12)); remove that and create it anew")
    }
    return found
  }

  /// An id of Docker: hexadecimal digits, 12 at least.
  private func checked(_ id: String, _ what: String) throws(ControlError) -> String {
    guard (12...128).contains(id.utf8.count),
      id.utf8.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit })
    else { throw ControlError("\"\(printable(id))\" is no \(what)'s id") }
    return id
  }
}

extension PublishedPort {
  /// Reads what `docker run -p` has made of it.
  fileprivate init(_ mapping: PublishedPorts.Port) throws(ControlError) {
    let numbers: [Int: Transport] = [6: .tcp, 17: .udp, 132: .sctp]
    guard let port = mapping.port.flatMap(UInt16.init(exactly:)), port > 0,
      let transport = numbers[mapping.proto ?? 6]
    else { throw ControlError("Docker publishes a port that is none of tcp, udp or sctp") }
    let first = mapping.hostPort ?? 0
    guard let hostPort = UInt16(exactly: first), hostPort > 0,
      first == mapping.hostPortEnd ?? first || mapping.hostPortEnd == 0
    else {
      throw ControlError(
        "-p leaves it open which port of the host leads to \(port)/\(transport.rawValue), and Docker does not show "
          + "which one a driver takes; name one, as in -p 8080:\(port)")
    }
    self.init(port: hostPort, memberPort: port, transport: transport)
    guard let text = mapping.hostIP, !text.isEmpty else { return }
    guard let address = IPAddress(text) else {
      throw ControlError("-p names \"\(printable(text))\", which is no address of the host")
    }
    self.address = address
  }
}
