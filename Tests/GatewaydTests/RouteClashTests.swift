import OVXControl
import OVXDatapath
import Testing

@testable import OVXLinux
@testable import ovx_gatewayd

/// What the host has a way to beside a network's subnet.
@Suite struct RouteClashTests {
  private func gateway(_ nat: Configuration.AddressTranslation) throws -> Gateway {
    Gateway(
      network: "red", vni: try #require(VNI(rawValue: 100)),
      subnets: try ["172.17.0.0/16", "fd42::/64"].map { try #require(IPPrefix($0)) },
      addresses: [try #require(IPAddress("172.17.0.1"))], nat: nat)
  }

  private func route(_ prefix: String, table: UInt32? = nil) throws -> RouteEntry {
    let prefix = try #require(IPPrefix(prefix))
    var route = RouteEntry(destination: prefix.base, prefixLength: UInt8(prefix.length))
    route.table = table
    route.linkIndex = 5
    return route
  }

  @Test func whatIsInTheWayIsNamed() throws {
    func faults(
      _ routes: [RouteEntry], own: [String] = [], nat: Configuration.AddressTranslation = .none
    ) throws -> [String] {
      RouteClashes.faults(of: try gateway(nat), routes, [], own: own.compactMap { IPAddress($0) })
    }
    let inside = try route("172.17.42.0/24")
    #expect(
      try faults([inside]).first?.hasPrefix("the host has a route to 172.17.42.0/24 ") == true)
    #expect(try faults([inside], nat: .masquerade) == [])
    #expect(try faults([route("172.17.42.0/24", table: 7)]) == [])
    #expect(try faults([route("0.0.0.0/0"), route("128.0.0.0/1"), route("10.0.0.0/8")]) == [])
    #expect(try faults([route("160.0.0.0/3")]).count == 1)
    #expect(try faults([], own: ["172.18.0.1", "fd42::9"]) == [])
    #expect(
      try faults([], own: ["172.17.0.9"]).first?.hasPrefix("the host has the address 172.17.0.9 ")
        == true)
  }

  @Test func whoAsksFromTheSubnetIsAnswered() throws {
    var gateway = try gateway(.masquerade)
    func rules(_ gateway: Gateway) throws -> String {
      HostRules(
        gateways: [gateway],
        transits: ["red": [try #require(Transit(0, of: Wishes().transit))]],
        pools: [Wishes().transit], uplinks: ["eth0"], opened: []
      ).script
    }
    let rule = "oifname \"ovx-gw100\" ip saddr { 172.17.0.0/16 } masquerade"
    #expect(try !rules(gateway).contains(rule))
    gateway.published = [
      Gateway.Published(
        port: try #require(PublishedPort("8080:80")),
        member: try #require(IPAddress("172.17.0.9")))
    ]
    #expect(try rules(gateway).contains(rule))
  }
}
