import OVXControl
import OVXDatapath
import Testing

@testable import OVXHost

@Suite struct DesiredStateTests {
  @Test func devicesAndTheirPlaces() throws {
    var configuration = try Configuration.make("add-br br0")
    try configuration.add("veth1", to: "br0", type: .system, tag: 100)
    try configuration.add("tap1", to: "br0", type: .tap)
    try configuration.add("c1", to: "br0", type: .tap) {
      $0.attachment = Configuration.Attachment(
        target: "red", interface: "eth0", addresses: [try #require(.init("10.0.0.2/24"))],
        gateways: [try #require(IPAddress("10.0.0.1"))])
      $0.mtuRequest = 1400
    }
    let desired = DesiredState(configuration)
    #expect(desired.tunnels.isEmpty)
    #expect(desired.devices["br0"]?.place == .host(name: "br0"))
    #expect(desired.devices["veth1"]?.place == .existing(name: "veth1"))
    #expect(desired.devices["veth1"]?.vlans == .access(try #require(VLANID(rawValue: 100))))
    #expect(desired.devices["tap1"]?.place == .host(name: "tap1"))
    #expect(desired.devices["tap1"]?.vlans == .trunk(nil))
    let inside = try #require(desired.devices["c1"])
    #expect(
      inside.place == .container(DesiredState.ContainerInterface(target: "red", name: "eth0")))
    #expect(inside.mtuRequest == 1400)
    #expect(inside.addresses.map(\.description) == ["10.0.0.2/24"])
    #expect(inside.gateways.map(\.description) == ["10.0.0.1"])
  }

  @Test func addressesOfInternalPorts() throws {
    var configuration = try Configuration.make("add-br br0")
    configuration.ports["br0"]?.interface.addresses = [try #require(.init("10.0.0.1/24"))]
    try configuration.add("tap1", to: "br0", type: .tap)
    let desired = DesiredState(configuration)
    #expect(desired.devices["br0"]?.isInternal == true)
    #expect(desired.devices["br0"]?.addresses.map(\.description) == ["10.0.0.1/24"])
    // A TAP of somebody else's is never given or taken any.
    #expect(desired.devices["tap1"]?.isInternal == false)
    #expect(desired.devices["tap1"]?.addresses.isEmpty == true)
  }

  @Test func tunnelsShareEndpointsAndRemotes() throws {
    var configuration = try Configuration.make("add-br br0")
    try configuration.addTunnel(
      "vx1", to: "br0", key: 100, remotes: "192.0.2.1,192.0.2.2", tag: 100)
    try configuration.addTunnel("vx2", to: "br0", key: 200, remotes: "192.0.2.1", tag: 200)
    try configuration.addTunnel("vx3", to: "br0", key: 300, remotes: "2001:db8::1", tag: 300)
    try configuration.addTunnel(
      "vx4", to: "br0", key: 400, remotes: "192.0.2.1", tag: 400, local: "192.0.2.9")
    let desired = DesiredState(configuration)
    let endpoints = Set(desired.tunnels.values.map(\.endpoint))
    #expect(endpoints.count == 3)
    #expect(desired.tunnels["vx1"]?.endpoint == desired.tunnels["vx2"]?.endpoint)
    #expect(desired.tunnels["vx3"]?.endpoint.isIPv6 == true)
    #expect(Set(desired.tunnels.values.flatMap(\.remotes)).count == 4)
    #expect(desired.tunnels["vx1"]?.remotes.first == desired.tunnels["vx2"]?.remotes.first)
    #expect(desired.tunnels["vx2"]?.remotes.first != desired.tunnels["vx4"]?.remotes.first)
  }
}
