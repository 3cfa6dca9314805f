import OVXDatapath
import Testing

/// A gateway among the ports of a segment: whose address nobody else has, and which tunnels do not
/// reach.
@Suite struct GatewayTests {
  /// Port 0 is a container's, 1 the gateway with the address of end 0x10, 2 a tunnel, 3 a
  /// container's of another VLAN.
  private func ports(_ gateway: Topology.Gateway?) throws -> [Topology.Port] {
    var router = device(1, access100)
    router.attachment = .device(
      Topology.Device(
        mtu: 1450, capabilities: .all, address: MACAddress(truncating: 0x0200_0000_0010),
        isStation: true))
    router.gateway = gateway
    return [
      device(0, access100), router, try tunnel(2, vni: 100, access100, remotes: [remoteA]),
      device(3, .access(vlan(200))),
    ]
  }

  @Test func nothingOfADistributedGatewayCrossesATunnel() throws {
    let bench = Bench(topology(try ports(.distributed)))
    #expect(bench.receive(frame(to: 0xFF, from: 0x10), from: 1).map(\.port.rawValue) == [0])
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 9)), from: remoteA)
        .map(\.port.rawValue) == [0])
    #expect(bench.receiveDatagrams(vxlan(100, frame(to: 0x10, from: 9)), from: remoteA) == [])
    #expect(bench.counters(2)[.splitHorizon] == 0 && bench.counters(1)[.splitHorizon] == 1)
    #expect(bench.receive(frame(to: 9, from: 0x10), from: 1) == [])
    // Containers reach it, and others by the tunnel, as ever.
    #expect(bench.receive(frame(to: 0x10, from: 1), from: 0).map(\.port.rawValue) == [1])
    #expect(bench.receive(frame(to: 9, from: 1), from: 0).map(\.port.rawValue) == [2])
  }

  @Test func aCentralGatewayIsReachedByTunnels() throws {
    let bench = Bench(topology(try ports(.central)))
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 0x10, from: 9)), from: remoteA)
        .map(\.port.rawValue) == [1])
    #expect(bench.receive(frame(to: 9, from: 0x10), from: 1).map(\.port.rawValue) == [2])
  }

  @Test(arguments: [Topology.Gateway.central, .distributed])
  func nobodyElseHasItsAddress(_ gateway: Topology.Gateway) throws {
    let bench = Bench(topology(try ports(gateway)))
    // Before it has been heard, and after.
    for _ in 0..<2 {
      for _ in 0..<3 { #expect(bench.receive(frame(to: 0xFF, from: 0x10), from: 0) == []) }
      #expect(bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 0x10)), from: remoteA) == [])
      #expect(bench.receive(frame(to: 0x10, from: 1), from: 0).map(\.port.rawValue) == [1])
      #expect(!bench.receive(frame(to: 1, from: 0x10), from: 1).isEmpty)
    }
    #expect(bench.counters(0)[.gatewayAddress] == 6 && bench.counters(2)[.gatewayAddress] == 2)
    // In another VLAN the address is anybody's.
    _ = bench.receive(frame(to: 0xFF, from: 0x10), from: 3)
    #expect(bench.counters(3)[.gatewayAddress] == 0)
  }

  @Test func whoHadTheAddressBeforeLosesIt() throws {
    let bench = Bench(topology(try ports(nil)))
    _ = bench.receive(frame(to: 0xFF, from: 0x10), from: 0)
    #expect(bench.receive(frame(to: 0x10, from: 2), from: 0) == [])
    bench.apply(topology(try ports(.distributed)))
    #expect(bench.receive(frame(to: 0x10, from: 2), from: 0).map(\.port.rawValue) == [1])
  }
}
