package import OVXDatapath

/// A port of the host that leads to a port of a network's member: `8080:80/tcp`, or
/// `203.0.113.1:53:53/udp` for one address of the host.
package struct PublishedPort: Hashable, Sendable {
  /// The host's address; `nil` for all, and an unspecified one for all of its family.
  package var address: IPAddress?
  /// The host's port, 1...65535.
  package var port: UInt16
  /// The member's port, 1...65535.
  package var memberPort: UInt16
  package var transport: Transport

  package enum Transport: String, CaseIterable, Sendable {
    case tcp, udp, sctp
  }

  package init(
    address: IPAddress? = nil, port: UInt16, memberPort: UInt16, transport: Transport = .tcp
  ) {
    self.address = address
    self.port = port
    self.memberPort = memberPort
    self.transport = transport
  }

  /// Ports that a member may publish.
  package static let limit = 1024
  /// Ports that all members of a host may publish: a packet is compared with each.
  package static let hostLimit = 4096

  /// Whether it is about packets of a family.
  package func isOf(isIPv6: Bool) -> Bool { address.map { $0.isIPv6 == isIPv6 } ?? true }

  /// The same port of the host, whatever the address.
  fileprivate var place: Place { Place(port: port, transport: transport) }

  fileprivate struct Place: Hashable {
    var port: UInt16
    var transport: Transport
  }

  /// Whether some packet would be for both.
  fileprivate func overlaps(_ other: PublishedPort) -> Bool {
    guard place == other.place else { return false }
    guard let address, let theirs = other.address else { return true }
    guard address.isIPv6 == theirs.isIPv6 else { return false }
    return address == theirs || address.isUnspecified || theirs.isUnspecified
  }
}

extension PublishedPort: CustomStringConvertible, LosslessStringConvertible {
  /// Reads `[ADDRESS:]PORT:PORT[/PROTOCOL]`, the first port the host's, as `docker run -p` takes
  /// it; an IPv6 address stands in brackets.
  package init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count <= 2, let first = parts.first else { return nil }
    guard let transport = parts.count == 1 ? .tcp : Transport(rawValue: String(parts[1])) else {
      return nil
    }
    let words = first.split(separator: ":", omittingEmptySubsequences: false)
    guard words.count >= 2, let port = Self.number(words[words.count - 2]),
      let memberPort = Self.number(words[words.count - 1])
    else { return nil }
    self.init(port: port, memberPort: memberPort, transport: transport)
    guard words.count > 2 else { return }
    let host = words.dropLast(2).joined(separator: ":")
    let isBracketed = host.hasPrefix("[") && host.hasSuffix("]")
    guard let address = IPAddress(isBracketed ? String(host.dropFirst().dropLast()) : host),
      address.isIPv6 == isBracketed, address.isUnspecified || address.isUnicast
    else { return nil }
    self.address = address
  }

  private static func number(_ text: Substring) -> UInt16? {
    guard text.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }),
      let number = UInt16(text), number > 0
    else { return nil }
    return number
  }

  package var description: String {
    let host = address.map { $0.isIPv6 ? "[\($0)]:" : "\($0):" } ?? ""
    return "\(host)\(port):\(memberPort)/\(transport.rawValue)"
  }
}

extension PublishedPort: Codable {
  package init(from decoder: any Decoder) throws {
    self = try decodeText(from: decoder, what: "a port of the host and one of a member")
  }

  package func encode(to encoder: any Encoder) throws {
    try encodeText(self, to: encoder)
  }
}

// MARK: - Whose they are

extension PublishedPort {
  /// The addresses by which a member is reached from its network's gateways, at most one of each
  /// family.
  ///
  /// - Parameters:
  ///   - given: What it was given by `attach`, or has as an internal port.
  ///   - allowed: Its `allowed_addresses`, which say it of a port that was not attached, as
  ///     Docker's are not.
  ///   - gateways: Those of its network.
  ///   - subnets: Those of its network.
  /// - Returns: In the order of the gateways.
  package static func addresses(
    given: [IPAddress], allowed: [AllowedAddress], gateways: [IPAddress], subnets: [IPPrefix]
  ) -> [IPAddress] {
    let single = allowed.compactMap(\.prefix).filter { $0.length == $0.base.bitCount }.map(\.base)
    return gateways.compactMap { gateway in
      guard let subnet = subnets.first(where: { $0.contains(gateway) }) else { return nil }
      return (given.isEmpty ? single : given).first {
        subnet.stations.contains($0) && $0 != gateway
      }
    }
  }
}

extension PublishedPort.Transport {
  /// The protocol's number in IP.
  package var number: UInt8 {
    switch self {
    case .tcp: 6
    case .udp: 17
    case .sctp: 132
    }
  }
}

extension PublishedPort {
  /// What the operator is told of it: that a service of the host is hidden by it, or that the host
  /// has not the address.
  ///
  /// - Parameters:
  ///   - own: The host's addresses.
  ///   - listeners: Sockets of the host that take what comes for a port, at an address or, where
  ///     that is all zeros, at all; the protocol by its number in IP.
  /// - Returns: Sentences without the member's name.
  package func faults(
    own: Set<IPAddress>, listeners: [(address: IPAddress, port: UInt16, transport: UInt8)]
  ) -> [String] {
    var faults: [String] = []
    if let address, !address.isUnspecified, !own.contains(address), !address.isLoopback {
      faults.append(
        "the host has no address \(address), so that \(self) leads nowhere; publish it at one of the host's, or at all without one"
      )
    }
    let isHidden = listeners.contains { listener in
      guard listener.port == port, listener.transport == transport.number else { return false }
      // A socket of IPv6 for all addresses takes IPv4 as well.
      if listener.address.isUnspecified, listener.address.isIPv6 { return true }
      guard isOf(isIPv6: listener.address.isIPv6) else { return false }
      guard let address, !address.isUnspecified else { return true }
      return listener.address.isUnspecified || listener.address == address
    }
    if isHidden {
      faults.append(
        "a service of the host listens at port \(port)/\(transport.rawValue), too, and \(self) takes what comes for it; "
          + "`ss -Hln\(transport == .tcp ? "t" : "u")p sport = :\(port)` names it: end that, or publish another port"
      )
    }
    return faults
  }
}

extension IPAddress {
  /// Whether a host itself has it on its loopback device, as all of 127.0.0.0/8.
  fileprivate var isLoopback: Bool { isIPv6 ? number == 1 : number >> 24 == 127 }
}

extension Configuration {
  /// Checks the ports that a member publishes.
  func validatePublished(of port: Port) throws(ControlError) {
    guard let first = port.published.first else { return }
    let name = printable(port.name)
    func without(_ what: String) -> ControlError {
      ControlError(
        "port \(name) publishes \(first), which \(what), or take it back with \"clear port \(name) publish\""
      )
    }
    guard port.interface.type != .vxlan, let network = port.network.flatMap({ networks[$0] }),
      !isGateway(port)
    else { throw without("is for members of networks: make it one with network=NAME") }
    guard !network.gateways.isEmpty else {
      throw without(
        "a gateway does, and network \(network.name) has none: \"set network \(network.name) gateway=ADDRESS\" names one"
      )
    }
    guard network.hasGatewayHere else {
      throw without(
        "the gateway of network \(network.name) does, and gateway_mode=remote says that another host has it: publish it "
          + "there, or let this host have it with \"set network \(network.name) gateway_mode=distributed\""
      )
    }
    guard port.published.count <= PublishedPort.limit else {
      throw ControlError(
        "port \(name) publishes \(port.published.count) ports; it may publish \(PublishedPort.limit)"
      )
    }
    let addresses = PublishedPort.addresses(
      given: (port.interface.attachment?.addresses ?? port.interface.addresses).map(\.address),
      allowed: port.allowedAddresses, gateways: network.gateways, subnets: network.subnets)
    for published in port.published
    where !addresses.contains(where: { published.isOf(isIPv6: $0.isIPv6) }) {
      throw ControlError(
        "port \(name) publishes \(published), and has no address of "
          + "\(published.address.map { $0.isIPv6 ? "IPv6" : "IPv4" } ?? "its own") in the subnet of a gateway of network "
          + "\(network.name); \"set port \(name) allowed_addresses=ADDRESS\" says which it has, or take it back with "
          + "\"clear port \(name) publish\"")
    }
  }

  /// Checks that no port of the host is published twice.
  func validatePublishedTogether() throws(ControlError) {
    var owners: [PublishedPort.Place: [(PublishedPort, Port)]] = [:]
    var count = 0
    for port in ports.values.filter({ !$0.published.isEmpty }).sorted(by: { $0.name < $1.name }) {
      count += port.published.count
      for published in port.published {
        if let (other, owner) = owners[published.place]?.first(where: { $0.0.overlaps(published) })
        {
          throw ControlError(
            "port \(printable(port.name)) cannot publish \(published), as port \(printable(owner.name)) of network "
              + "\(owner.network ?? "") publishes \(other); take another port of the host",
            record: port.name)
        }
        owners[published.place, default: []].append((published, port))
      }
    }
    guard count <= PublishedPort.hostLimit else {
      throw ControlError(
        "\(count) ports are published on this host, which can have \(PublishedPort.hostLimit)")
    }
  }
}
