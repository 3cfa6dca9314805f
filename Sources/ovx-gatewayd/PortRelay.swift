internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// A published port on its way: the host leads what is for it to the router, by a port of the
/// router's own, and that leads it to the member.
///
/// Two steps, as members of two networks may have the same address, which the host has no route to.
struct PortRelay: Equatable {
  let published: PublishedPort
  let destination: IPAddress
  /// The router's end of the transit pair.
  let relayAddress: IPAddress
  /// The port there, which no other publication of the network has.
  let relayPort: UInt16

  /// All of a gateway's.
  ///
  /// - Parameters:
  ///   - gateway: With what it publishes.
  ///   - transits: The addresses of its transit pairs; what is of a family without one is left out.
  /// - Returns: In the order in which they are published.
  static func all(of gateway: Gateway, _ transits: [Transit]) -> [PortRelay] {
    var taken: Set<Place> = []
    return gateway.published.compactMap { published in
      let isIPv6 = published.member.isIPv6
      guard let transit = transits.first(where: { $0.host.isIPv6 == isIPv6 }) else { return nil }
      // The port of the host, but where another member publishes that at another address of the
      // host.
      var place = Place(
        port: published.port.port, transport: published.port.transport, isIPv6: isIPv6)
      while !taken.insert(place).inserted { place.port = place.port == .max ? 1 : place.port + 1 }
      return PortRelay(
        published: published.port, destination: published.member, relayAddress: transit.router,
        relayPort: place.port)
    }
  }

  private struct Place: Hashable {
    var port: UInt16
    var transport: PublishedPort.Transport
    var isIPv6: Bool
  }

  // MARK: As nft(8) reads it

  /// `ip` or `ip6`.
  var family: String { destination.isIPv6 ? "ip6" : "ip" }

  /// Matches what is for the port of the host.
  var question: String {
    let address = published.address.flatMap { $0.isUnspecified ? nil : $0 }
    return
      (address.map { "\(family) daddr \($0) " }
      ?? "meta nfproto \(destination.isIPv6 ? "ipv6" : "ipv4") ")
      + "fib daddr type local \(published.transport.rawValue) dport \(published.port)"
  }

  /// Matches what the host itself sends there: not to `::1`, from which Linux lets nothing leave.
  var ownQuestion: String { destination.isIPv6 ? "ip6 daddr != ::1 \(question)" : question }

  /// Matches what the host has led to the router.
  var arrival: String {
    "\(family) daddr \(relayAddress) \(published.transport.rawValue) dport \(relayPort)"
  }

  /// Matches what the router has led to the member.
  var delivery: String {
    "\(family) daddr \(destination) \(published.transport.rawValue) dport \(published.memberPort)"
  }

  /// The router, to be led to.
  var router: String { Self.end(relayAddress, relayPort) }

  /// The member, to be led to.
  var member: String { Self.end(destination, published.memberPort) }

  private static func end(_ address: IPAddress, _ port: UInt16) -> String {
    address.isIPv6 ? "[\(address)]:\(port)" : "\(address):\(port)"
  }

  /// Matches what goes on to where it was led once, and is not any more; errors that routers tell
  /// of a connection, which have no port, are not meant.
  static let stale = "ct direction original ct status dnat ct state != related"
}

// MARK: - What was led elsewhere before

extension PortRelay {
  /// Has the host forget the connections that go on to where nothing is led any more, and those
  /// that were the host's own before their port was published: whoever sends datagrams without
  /// pause would never get to where they are led now.
  ///
  /// - Parameters:
  ///   - relays: All of the host's.
  ///   - own: The host's addresses.
  ///   - pools: Where the transit pairs' addresses are from.
  /// - Throws: What the kernel refuses.
  static func forgetOthers(
    than relays: [PortRelay], own: Set<IPAddress>, pools: [IPPrefix]
  ) throws(LinuxError) {
    let known = Dictionary(grouping: relays) { $0.published.port }
    try Netlink.forgetConnections { connection in
      let led = (known[connection.destination.port] ?? []).filter { relay in
        relay.destination.isIPv6 == connection.destination.address.isIPv6
          && relay.published.transport.number == connection.transport
          && relay.published.address.map {
            $0.isUnspecified || $0 == connection.destination.address
          }
            ?? true
      }
      let isLed = pools.contains { $0.contains(connection.responder.address) }
      if isLed, connection.responder != connection.destination {
        return !led.contains {
          connection.responder == TrackedConnection.End($0.relayAddress, $0.relayPort)
        }
      }
      // A connection of TCP that the host has is left to it.
      return connection.transport != PublishedPort.Transport.tcp.number && !led.isEmpty
        && own.contains(connection.destination.address)
        && connection.responder == connection.destination
    }
  }

  /// The same within a router, called there.
  static func forgetOthersInside(
    than relays: [PortRelay], transits: [Transit]
  ) throws(LinuxError) {
    let own = Set(transits.map(\.router))
    try Netlink.forgetConnections { connection in
      guard own.contains(connection.destination.address),
        connection.responder != connection.destination
      else { return false }
      return !relays.contains { relay in
        relay.published.transport.number == connection.transport
          && connection.destination == TrackedConnection.End(relay.relayAddress, relay.relayPort)
          && connection.responder
            == TrackedConnection.End(relay.destination, relay.published.memberPort)
      }
    }
  }
}
