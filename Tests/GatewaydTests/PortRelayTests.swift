import OVXControl
import OVXDatapath
import Testing

@testable import ovx_gatewayd

/// Published ports as packet filters have them.
@Suite struct PortRelayTests {
  private func gateway(_ published: [(String, String)]) throws -> Gateway {
    var gateway = Gateway(
      network: "red", vni: try #require(VNI(rawValue: 100)),
      subnets: [try #require(IPPrefix("172.17.42.0/24"))],
      addresses: [try #require(IPAddress("172.17.42.1"))], nat: .masquerade)
    gateway.published = try published.map { port, member in
      Gateway.Published(
        port: try #require(PublishedPort(port)), member: try #require(IPAddress(member)))
    }
    return gateway
  }

  private func relays(_ published: (String, String)...) throws -> [PortRelay] {
    let pool = try #require(IPPrefix("100.64.0.0/10"))
    return PortRelay.all(
      of: try gateway(published),
      [pool, Transit.ipv6Pool].compactMap { Transit(0, of: $0) })
  }

  @Test func aPortIsLedInTwoSteps() throws {
    let all = try relays(("8080:80", "172.17.42.9"), ("[2001:db8::1]:53:5353/udp", "fd42::9"))
    try #require(all.count == 2)
    let (relay, other) = (all[0], all[1])
    #expect(relay.question == "meta nfproto ipv4 fib daddr type local tcp dport 8080")
    #expect(relay.router == "100.64.0.1:8080" && relay.member == "172.17.42.9:80")
    #expect(relay.arrival == "ip daddr 100.64.0.1 tcp dport 8080")
    #expect(relay.delivery == "ip daddr 172.17.42.9 tcp dport 80")
    #expect(other.question == "ip6 daddr 2001:db8::1 fib daddr type local udp dport 53")
    #expect(other.ownQuestion == "ip6 daddr != ::1 \(other.question)")
    #expect(other.member == "[fd42::9]:5353")
  }

  @Test func twoAddressesOfTheHostDoNotMeet() throws {
    let relays = try relays(
      ("203.0.113.1:65535:80", "172.17.42.9"), ("203.0.113.2:65535:80", "172.17.42.8"),
      ("203.0.113.2:65535:80/udp", "172.17.42.8"), ("[::]:65535:80", "fd42::9"),
      ("1:1", "172.17.42.7"))
    #expect(relays.map(\.relayPort) == [65535, 1, 65535, 65535, 2])
  }

  @Test func nothingIsLedWithoutAWay() throws {
    #expect(PortRelay.all(of: try gateway([("1:1", "172.17.42.9")]), []) == [])
  }
}
