import Testing

@testable import OVXDatapath

/// What a datapath takes over from the one before.
///
/// Devices 1 and 2 and tunnel 3 are in VLAN 100, device 4 is in VLAN 200.
@Suite struct InheritanceTests {
  private static let bridge = BridgeID(rawValue: 0)
  private static let station = MACAddress(truncating: 0x0200_0000_0001)

  private static func makeDatapath(
    agingTime: UInt32 = 300, _ change: (inout [Topology.Port]) -> Void = { _ in }
  ) throws -> Datapath {
    var datapath = unsafe Datapath(seed: 1) { _, _ in }
    var ports = [
      device(1, .access(vlan(100))), device(2, .access(vlan(100))),
      try tunnel(3, vni: 100, .access(vlan(100)), remotes: [remoteA, remoteB]),
      device(4, .access(vlan(200))),
    ]
    change(&ports)
    datapath.apply(
      Topology(
        bridges: [Topology.Bridge(id: bridge, agingTime: agingTime, addressLimit: 8)], ports: ports)
    )
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

  private static func neighbor(
    _ address: MACAddress = station, _ ip: IPAddress = IPAddress(v4: 0x0A00_0005), at port: UInt16,
    peer: RemoteVTEPID = .none, age: UInt32 = 0
  ) -> KnownNeighbor {
    KnownNeighbor(
      ip: ip, vlan: vlan(100), address: address, port: PortID(rawValue: port), peer: peer,
      isRouter: false, age: age)
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

  /// What would be forgotten by now is not taken, however old it says that it is.
  @Test(arguments: [300, 1001, UInt32.max])
  func whatIsTooOldIsLeftOut(_ age: UInt32) throws {
    var datapath = try Self.makeDatapath()
    let isTaken = datapath.inherit(Self.known(at: 1, age: age), bridge: Self.bridge)
    #expect(!isTaken)
    let isNeighborTaken = datapath.inherit(Self.neighbor(at: 1, age: age), bridge: Self.bridge)
    #expect(!isNeighborTaken)
    #expect(datapath.usedSlots.isEmpty)
  }

  /// Older than the clock is as old as the clock.
  @Test func agesOutOfRange() throws {
    var datapath = try Self.makeDatapath(agingTime: 3600)
    datapath.inherit(Self.known(at: 1, age: 1500), bridge: Self.bridge)
    #expect(datapath.addresses(of: Self.bridge).map(\.age) == [1000])
  }

  /// A port takes nothing over that it could not be learned from now.
  @Test func whatCouldNotBeLearnedIsLeftOut() throws {
    let (other, router) = (MACAddress(truncating: 0x0200_0000_0002), Self.station)
    let (own, gateway) = (IPAddress(v4: 0x0A00_0005), IPAddress(v4: 0x0A00_0001))
    var datapath = try Self.makeDatapath { ports in
      ports[0].security = PortSecurity(
        stations: [other], addresses: [PortSecurity.Prefix(base: own, length: 32)],
        gateways: [gateway], gatewayStation: router)
      if case .tunnel(var tunnel) = ports[2].attachment {
        tunnel.learns = false
        ports[2].attachment = .tunnel(tunnel)
      }
      ports[1].gateway = .central
      ports[1].attachment = .device(
        Topology.Device(mtu: 1450, capabilities: .all, address: router, isStation: true))
    }
    let remote = RemoteVTEPID(rawValue: 1)
    let third = MACAddress(truncating: 0x0200_0000_0003)
    for entry in [
      Self.known(third, at: 1), Self.known(router, at: 1), Self.known(third, at: 3, peer: remote),
      Self.known(MACAddress(truncating: 0), at: 2),
    ] {
      let isTaken = datapath.inherit(entry, bridge: Self.bridge)
      #expect(!isTaken, "\(entry)")
    }
    for neighbor in [
      Self.neighbor(third, own, at: 1), Self.neighbor(other, gateway, at: 1),
      Self.neighbor(other, IPAddress(v4: 0x0A00_0006), at: 1),
      Self.neighbor(third, own, at: 3, peer: remote),
    ] {
      let isTaken = datapath.inherit(neighbor, bridge: Self.bridge)
      #expect(!isTaken, "\(neighbor)")
    }
    #expect(datapath.usedSlots.isEmpty)
    let areTaken = [
      datapath.inherit(Self.known(other, at: 1), bridge: Self.bridge),
      datapath.inherit(Self.known(router, at: 2), bridge: Self.bridge),
      datapath.inherit(Self.neighbor(other, own, at: 1), bridge: Self.bridge),
    ]
    #expect(areTaken == [true, true, true])
  }

  /// A gateway's address is nobody else's, be there a rule for the port or none.
  @Test func nobodyTakesOverAGateway() throws {
    var datapath = try Self.makeDatapath { ports in
      ports[1].gateway = .central
      ports[1].attachment = .device(
        Topology.Device(mtu: 1450, capabilities: .all, address: Self.station, isStation: true))
    }
    let isTaken = datapath.inherit(Self.known(at: 1), bridge: Self.bridge)
    #expect(!isTaken)
    let isTakenByTunnel = datapath.inherit(
      Self.known(at: 3, peer: RemoteVTEPID(rawValue: 1)), bridge: Self.bridge)
    #expect(!isTakenByTunnel)
  }

  // MARK: Giving

  /// Read part by part, tables are what they are as a whole, whatever has been freed in them.
  @Test(arguments: [1, 3, Int.max])
  func partsMakeTheWhole(_ size: Int) throws {
    var datapath = try Self.makeDatapath()
    for number in 0..<8 {
      let station = MACAddress(truncating: 0x0200_0000_0100 | UInt64(number))
      datapath.inherit(Self.known(station, at: 1, age: number < 3 ? 299 : 5), bridge: Self.bridge)
      datapath.inherit(
        Self.neighbor(station, IPAddress(v4: 0x0A00_0000 | UInt32(number)), at: 1, age: 5),
        bridge: Self.bridge)
    }
    datapath.tick(now: 1001)
    datapath.inherit(Self.known(at: 2), bridge: Self.bridge)
    let end = try #require(datapath.usedSlots[Self.bridge])
    var (addresses, neighbors): ([KnownAddress], [KnownNeighbor]) = ([], [])
    for first in stride(from: 0, to: end, by: size) {
      let part = datapath.known(of: Self.bridge, in: first..<min(end, first &+ size))
      addresses += part.addresses
      neighbors += part.neighbors
    }
    func sorted(_ list: [KnownAddress]) -> [KnownAddress] {
      list.sorted { $0.address.rawValue < $1.address.rawValue }
    }
    #expect(sorted(addresses) == sorted(datapath.addresses(of: Self.bridge)))
    #expect(addresses.count == 6)
    #expect(Set(neighbors.map(\.ip)) == Set(datapath.neighbors(of: Self.bridge).map(\.ip)))
    #expect(neighbors.count == 8)
    let elsewhere = datapath.known(of: BridgeID(rawValue: 9), in: 0..<9)
    #expect(elsewhere.addresses.isEmpty && elsewhere.neighbors.isEmpty)
  }

  /// Whoever awaits news hears of the next one, once; who watches hears of each.
  @Test func awaitedNews() throws {
    var datapath = try Self.makeDatapath()
    func isTold() -> Bool { datapath.hasAwaitedStationNews() }
    #expect(!isTold())
    datapath.awaitStationNews()
    #expect(!isTold(), "what there was before is none")
    datapath.inherit(Self.known(at: 1), bridge: Self.bridge)
    #expect(isTold() && !isTold())
    datapath.inherit(
      Self.known(MACAddress(truncating: 0x0200_0000_0002), at: 1), bridge: Self.bridge)
    #expect(!isTold())
    datapath.watchesStations = true
    datapath.awaitStationNews()
    #expect(isTold(), "who watches has not heard of it yet")
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
