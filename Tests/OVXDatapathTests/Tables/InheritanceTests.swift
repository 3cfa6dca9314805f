import Testing

@testable import OVXDatapath

/// What a datapath takes over from the one before.
///
/// Devices 1 and 2 and tunnel 3 are in VLAN 100, device 4 is in VLAN 200.
@Suite struct InheritanceTests {
  private static let bridge = BridgeID(rawValue: 0)
  private static let station = MACAddress(truncating: 0x0200_0000_0001)

  private static func makeDatapath() throws -> Datapath {
    var datapath = unsafe Datapath(seed: 1) { _, _ in }
    datapath.apply(
      Topology(
        bridges: [Topology.Bridge(id: bridge, agingTime: 300, addressLimit: 8)],
        ports: [
          device(1, .access(vlan(100))), device(2, .access(vlan(100))),
          try tunnel(3, vni: 100, .access(vlan(100)), remotes: [remoteA, remoteB]),
          device(4, .access(vlan(200))),
        ]))
    datapath.tick(now: 1000)
    return datapath
  }

  private static func known(
    _ address: MACAddress = station, at port: UInt16, vlan number: UInt16 = 100,
    peer: RemoteVTEPID = .none, age: UInt32? = 0
  ) -> KnownAddress {
    KnownAddress(
      address: address, vlan: vlan(number), port: PortID(rawValue: port), peer: peer, age: age,
      origin: age == nil ? .static : .learned)
  }

  @Test func addressesKeepTheirAge() throws {
    var datapath = try Self.makeDatapath()
    let isTaken = datapath.inherit(Self.known(at: 1, age: 290), bridge: Self.bridge)
    #expect(isTaken)
    #expect(datapath.addresses(of: Self.bridge) == [Self.known(at: 1, age: 290)])
    datapath.tick(now: 1009)
    #expect(datapath.addresses(of: Self.bridge).count == 1)
    datapath.tick(now: 1010)
    #expect(datapath.addresses(of: Self.bridge).isEmpty, "it was not seen for 300 s by any daemon")
  }

  /// Older than the clock is as old as the clock.
  @Test func agesOutOfRange() throws {
    var datapath = try Self.makeDatapath()
    datapath.inherit(Self.known(at: 1, age: .max), bridge: Self.bridge)
    #expect(datapath.addresses(of: Self.bridge).map(\.age) == [1000])
  }

  @Test func whatHasNoPlaceIsLeftOut() throws {
    var datapath = try Self.makeDatapath()
    let peer = RemoteVTEPID(rawValue: 9999)
    for entry in [
      Self.known(at: 4), Self.known(at: 7), Self.known(at: .max), Self.known(at: 3),
      Self.known(at: 3, peer: peer), Self.known(at: 1, peer: peer), Self.known(.broadcast, at: 1),
    ] {
      let isTaken = datapath.inherit(entry, bridge: Self.bridge)
      #expect(!isTaken, "\(entry)")
    }
    for bridge: UInt16 in [5, .max] {
      let isTaken = datapath.inherit(Self.known(at: 1), bridge: BridgeID(rawValue: bridge))
      #expect(!isTaken)
    }
    #expect(datapath.addresses(of: Self.bridge).isEmpty)
  }

  /// What this datapath has learned is younger, and a full table loses its oldest.
  @Test func whatIsKnownStays() throws {
    var datapath = try Self.makeDatapath()
    datapath.inherit(Self.known(at: 1), bridge: Self.bridge)
    datapath.inherit(Self.known(at: 2, age: 5), bridge: Self.bridge)
    #expect(datapath.addresses(of: Self.bridge) == [Self.known(at: 1)])
    for number in 2...12 {
      let address = MACAddress(truncating: 0x0200_0000_0000 | UInt64(number))
      datapath.inherit(Self.known(address, at: 2, age: UInt32(20 - number)), bridge: Self.bridge)
    }
    #expect(datapath.addresses(of: Self.bridge).count == 8)
    #expect(datapath.addresses(of: Self.bridge).allSatisfy { $0.age ?? 0 < 16 })
  }

  @Test func staticAddressesStayStatic() throws {
    var datapath = try Self.makeDatapath()
    let isTaken = datapath.inherit(Self.known(at: 1, age: nil), bridge: Self.bridge)
    #expect(isTaken)
    datapath.tick(now: 100_000)
    #expect(datapath.addresses(of: Self.bridge) == [Self.known(at: 1, age: nil)])
  }

  @Test func neighborsKeepTheirAge() throws {
    var datapath = try Self.makeDatapath()
    var neighbor = KnownNeighbor(
      ip: IPAddress(v4: 0x0A00_0001), vlan: vlan(100), address: Self.station,
      port: PortID(rawValue: 1), peer: .none, isRouter: true, age: 299)
    let isTaken = datapath.inherit(neighbor, bridge: Self.bridge)
    #expect(isTaken)
    #expect(datapath.neighbors(of: Self.bridge) == [neighbor])
    neighbor.port = PortID(rawValue: 4)
    neighbor.ip = IPAddress(v4: 0x0A00_0002)
    let isTakenElsewhere = datapath.inherit(neighbor, bridge: Self.bridge)
    #expect(!isTakenElsewhere, "that port is in another VLAN")
    datapath.tick(now: 1001)
    #expect(datapath.neighbors(of: Self.bridge).isEmpty)
  }

  @Test func countersGoOn() throws {
    var datapath = try Self.makeDatapath()
    var former = PortCounters()
    former.receivedFrames = 5
    former[.stormLimit] = 3
    datapath.inherit(former, of: PortID(rawValue: 1))
    datapath.inherit(former, of: PortID(rawValue: 1))
    datapath.inherit(former, of: .none)
    #expect(datapath.counters(of: PortID(rawValue: 1)).receivedFrames == 10)
    #expect(datapath.counters(of: PortID(rawValue: 1))[.stormLimit] == 6)
    #expect(datapath.counters(of: .none)[.stormLimit] == 3)
  }
}
