import OVXDatapath
import OVXSimulation
import Testing

/// What an agent tells of stations behind a tunnel that does not learn; what the tables do of it is
/// in `FDBProperties`.
///
/// Station N has the address 02:00:00:00:00:0N, 10.0.0.N and fd00::N. Devices 1 and 2 and tunnel 3
/// are in VLAN 100.
@Suite struct ExternalEntryTests {
  private static func address(_ station: UInt8) -> MACAddress {
    MACAddress(truncating: 0x0200_0000_0000 | UInt64(station))
  }

  private static func ip(_ station: UInt8, _ isIPv6: Bool) -> IPAddress {
    isIPv6
      ? IPAddress(v6High: 0xFD00_0000_0000_0000, low: UInt64(station))
      : IPAddress(v4: 0x0A00_0000 | UInt32(station))
  }

  private static func question(_ target: UInt8, from asker: UInt8, _ isIPv6: Bool) -> [UInt8] {
    neighborQuestion(for: ip(target, isIPv6), from: address(asker), ip(asker, isIPv6))
  }

  private static func bench(floodsUnknown: Bool = false) throws -> Bench {
    var port = try tunnel(3, vni: 100, access100, remotes: [remoteA, remoteB])
    guard case .tunnel(var record) = port.attachment else { return Bench(Topology()) }
    record.learns = false
    record.floodsUnknown = floodsUnknown
    port.attachment = .tunnel(record)
    return Bench(
      Topology(
        bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))],
        ports: [device(1, access100), device(2, access100), port]))
  }

  /// A switch that was told of station 2 behind the tunnel.
  private static func acquainted(_ isIPv6: Bool = false) throws -> Bench {
    let bench = try bench()
    let place = Destination(port: PortID(rawValue: 3), peer: RemoteVTEPID(rawValue: 1))
    let refused = bench.take(
      [
        .address(address(2), at: place, isSticky: false),
        .neighbor(ip(2, isIPv6), address(2), at: place, isRouter: false),
      ], vlan(100))
    #expect(refused == 0)
    return bench
  }

  /// A station that was never heard before asks at once, and again and again: it is answered each
  /// time.
  @Test(arguments: [false, true])
  func whoAsksForWhatWasToldIsAnswered(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    for time in [0, 0, 1, 100] as [UInt32] {
      bench.tick(time)
      let sent = bench.receive(Self.question(2, from: 1, isIPv6), from: 1)
      #expect(sent.map(\.port.rawValue) == [1])
    }
    #expect(bench.counters(3).sentFrames == 0)
  }

  @Test(arguments: [false, true])
  func whatStationsSayOfItInPassingChangesNothing(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    // Station 1 claims the address, in a question and with another station's source.
    _ = bench.receive(
      neighborQuestion(for: Self.ip(9, isIPv6), from: Self.address(5), Self.ip(2, isIPv6)), from: 1)
    let isTold = bench.neighbors().contains {
      $0.ip == Self.ip(2, isIPv6) && $0.address == Self.address(2) && $0.isExternal
    }
    // ARP tells with every question; IPv6 only mentions.
    #expect(isTold == isIPv6)
  }

  @Test func nothingIsLearnedFromTheTunnel() throws {
    let bench = try Self.acquainted()
    let sent = bench.receiveDatagrams(
      vxlan(100, neighborAnnouncement(of: Self.ip(7, false), at: Self.address(7), isRouter: false)),
      from: remoteA)
    #expect(sent.map(\.port.rawValue).sorted() == [1, 2], "it is forwarded all the same")
    #expect(bench.addresses().map(\.address) == [Self.address(2)])
    #expect(bench.neighbors().map(\.ip) == [Self.ip(2, false)])
    // Nor is a station that another VTEP claims moved there.
    _ = bench.receiveDatagrams(
      vxlan(100, neighborAnnouncement(of: Self.ip(2, false), at: Self.address(2), isRouter: false)),
      from: remoteB)
    #expect(bench.addresses().first?.origin == .external)
    #expect(bench.addresses().first?.peer == RemoteVTEPID(rawValue: 1))
  }

  @Test func aDeviceTakesAStationOverAndTheAgentTakesItBack() throws {
    let bench = try Self.acquainted()
    _ = bench.takeStationNews()
    let hello = neighborAnnouncement(of: Self.ip(2, false), at: Self.address(2), isRouter: false)
    _ = bench.receive(hello, from: 2)
    #expect(bench.takeStationNews())
    #expect(bench.stations().map(\.port.rawValue) == [2])
    #expect(bench.neighbors().first?.isExternal == false)
    let place = Destination(port: PortID(rawValue: 3), peer: RemoteVTEPID(rawValue: 2))
    #expect(bench.take([.address(Self.address(2), at: place, isSticky: true)], vlan(100)) == 0)
    #expect(bench.stations() == [])
    _ = bench.receive(hello, from: 2)
    #expect(bench.stations() == [], "it stays there")
    #expect(bench.take([.lostAddress(Self.address(2))], vlan(100)) == 0)
    _ = bench.receive(hello, from: 2)
    #expect(bench.stations().map(\.port.rawValue) == [2])
  }

  @Test func aStationThatNobodyHasToldOfIsFloodedToDevicesAlone() throws {
    let unknown = plainFrame(
      from: Self.address(1), to: Self.address(9), tags: [], etherType: 0x88B5,
      payload: [UInt8](repeating: 0, count: 46))
    #expect(try Self.bench().receive(unknown, from: 1).map(\.port.rawValue) == [2])
    #expect(
      try Self.bench(floodsUnknown: true).receive(unknown, from: 1).map(\.port.rawValue).sorted()
        == [2, 3, 3])
    let broadcast = plainFrame(
      from: Self.address(1), to: .broadcast, tags: [], etherType: 0x88B5,
      payload: [UInt8](repeating: 0, count: 46))
    #expect(
      try Self.bench().receive(broadcast, from: 1).map(\.port.rawValue).sorted() == [2, 3, 3])
  }

  @Test func whatNamesNoRemoteOfTheSegmentIsRefused() throws {
    let bench = try Self.bench()
    let peer = RemoteVTEPID(rawValue: 1)
    for place in [
      Destination(port: PortID(rawValue: 1)), Destination(port: PortID(rawValue: 1), peer: peer),
      Destination(port: PortID(rawValue: 3)), Destination(port: PortID(rawValue: 4000), peer: peer),
      Destination(port: PortID(rawValue: 3), peer: RemoteVTEPID(rawValue: 16_000)),
    ] {
      #expect(bench.take([.address(Self.address(2), at: place, isSticky: false)], vlan(100)) == 1)
      #expect(
        bench.take(
          [.neighbor(Self.ip(2, false), Self.address(2), at: place, isRouter: false)], vlan(100))
          == 1)
    }
    let place = Destination(port: PortID(rawValue: 3), peer: peer)
    #expect(bench.take([.address(Self.address(2), at: place, isSticky: false)], vlan(200)) == 1)
    #expect(bench.addresses() == [] && bench.neighbors() == [])
  }
}
