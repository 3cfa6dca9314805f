import OVXDatapath
import Testing

/// Addresses that move, and those that do not stop to.
@Suite struct FlapWatchTests {
  private let address = MACAddress(truncating: 0x0200_0000_0001)

  private func bench() throws -> Bench {
    Bench(
      topology([
        device(1, access100), device(2, access100),
        try tunnel(3, vni: 100, access100, remotes: [remoteA, remoteB]),
      ]))
  }

  @Test func whatMovesToAndFroIsToldOf() throws {
    let bench = try bench()
    for round in 0..<4 {
      _ = bench.receive(frame(to: 0xFF, from: 1), from: round % 2 == 0 ? 1 : 2)
      #expect(bench.takeFlappingAddresses().isEmpty, "after \(round) moves")
    }
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 1)
    let expected = FlappingAddress(
      address: address, vlan: vlan(100), bridge: BridgeID(rawValue: 0),
      former: Destination(port: PortID(rawValue: 2)),
      latter: Destination(port: PortID(rawValue: 1)), moves: 4)
    #expect(bench.takeFlappingAddresses() == [expected])
    #expect(bench.takeFlappingAddresses().isEmpty)
  }

  @Test func remotesOfOneTunnelAreTwoPlaces() throws {
    let bench = try bench()
    for round in 0..<5 {
      _ = bench.receiveDatagrams(
        vxlan(100, frame(to: 0xFF, from: 1)), from: round % 2 == 0 ? remoteA : remoteB)
    }
    let told = bench.takeFlappingAddresses()
    #expect(
      told.map(\.former) == [
        Destination(port: PortID(rawValue: 3), peer: RemoteVTEPID(rawValue: 2))
      ])
    #expect(
      told.map(\.latter) == [
        Destination(port: PortID(rawValue: 3), peer: RemoteVTEPID(rawValue: 1))
      ])
  }

  @Test func fewMovesOverALongTimeAreNone() throws {
    let bench = try bench()
    for round in 0..<30 as Range<UInt32> {
      bench.tick(round * 4)
      _ = bench.receive(frame(to: 0xFF, from: 1), from: round % 2 == 0 ? 1 : 2)
    }
    #expect(bench.takeFlappingAddresses().isEmpty)
  }

  @Test func itIsToldOfOnceAMinute() throws {
    let bench = try bench()
    var told = 0
    for second in 0..<180 as Range<UInt32> {
      bench.tick(second)
      for port in [1, 2] as [UInt16] { _ = bench.receive(frame(to: 0xFF, from: 1), from: port) }
      told += bench.takeFlappingAddresses().count
    }
    #expect(told == 3)
  }

  /// Who makes thousands flap is told of by a few of them.
  @Test func theMemoryIsBounded() throws {
    let bench = try bench()
    for _ in 0..<6 {
      for port in [1, 2] as [UInt16] {
        for number in 0..<250 as Range<UInt8> {
          _ = bench.receive(frame(to: 0xFF, from: number), from: port)
        }
      }
    }
    let told = bench.takeFlappingAddresses()
    #expect(told.count > 10 && told.count <= 64)
  }

  @Test func staticAddressesDoNotMove() throws {
    let bench = try bench()
    #expect(bench.addStatic(address, vlan(100), on: 1))
    for round in 0..<8 {
      _ = bench.receive(frame(to: 0xFF, from: 1), from: round % 2 == 0 ? 1 : 2)
    }
    #expect(bench.takeFlappingAddresses().isEmpty)
    #expect(bench.addresses().map(\.port) == [PortID(rawValue: 1)])
  }
}
