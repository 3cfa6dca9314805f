import OVXControl
import OVXDatapath
import Testing

@testable import OVXEVPN

private let one = "02:00:00:00:00:01"
private let two = "02:00:00:00:00:02"

/// What a host tells of itself (RFC 7432, RFC 8365).
@Suite struct AnnouncementTests {
  @Test func aNetworkIsToldAtOnce() throws {
    let bench = Bench()
    let route = try #require(bench.announced.values.first)
    #expect(bench.announced.count == 1)
    #expect(
      route.key == .multicast(RouteDistinguisher(address: 0x0A00_0001, number: 100), ip("10.0.0.1"))
    )
    #expect(route.vtep == ip("10.0.0.1"))
    #expect(route.vni.rawValue == 100)
    #expect(route.targets.map(\.description) == ["65000:100"])
  }

  @Test func aStationIsToldAloneOrWithItsAddresses() {
    var bench = Bench()
    bench.hear(one)
    #expect(
      bench.routes(of: one).map(\.key) == [
        .station(
          RouteDistinguisher(address: 0x0A00_0001, number: 100), MACAddress(one) ?? .broadcast, nil)
      ])
    bench.neighbor("172.17.0.5", one)
    bench.neighbor("fd00::5", one)
    #expect(bench.routes(of: one).count == 2)
    #expect(bench.routes(of: one).allSatisfy { $0.mobility == Mobility() && !$0.isGateway })
    bench.neighbor("fd00::5", one, .delete)
    bench.neighbor("172.17.0.5", two, .modify)
    #expect(bench.routes(of: one).count == 1)
    bench.lose(one)
    #expect(bench.routes(of: one).isEmpty)
  }

  @Test func kinds() throws {
    var bench = Bench()
    bench.hear(one, "attached")
    bench.hear(two, "gateway")
    #expect(try #require(bench.routes(of: one).first).mobility.isSticky)
    #expect(try #require(bench.routes(of: two).first).isGateway)
    bench.tell(Bench.station("02:00:00:00:00:03", network: nil))
    #expect(bench.routes(of: "02:00:00:00:00:03").isEmpty)
  }

  @Test func aNetworkThatGoesTakesItsRoutesWithIt() {
    var bench = Bench()
    bench.hear(one)
    bench.tell(Bench.network("red", 100, .modify, remotes: ["10.0.0.9"]))
    #expect(bench.announced.isEmpty)
    bench.tell(Bench.network("red", 100, .modify))
    #expect(bench.announced.count == 2)
    bench.tell(
      WatchEvent(.modify, table: .host, record: ".", new: ["control_plane": .scalar(.text("none"))])
    )
    #expect(bench.announced.isEmpty)
  }

  @Test func distinguishersOfLongVNIsCollideWithNone() {
    var bench = Bench()
    bench.tell(Bench.network("blue", 0x10064, .insert))
    bench.tell(Bench.network("green", 0x20064, .insert))
    let numbers = Set(bench.announced.keys.map(\.distinguisher.rawValue))
    #expect(numbers.count == 3)
  }

  @Test func aGivenRouteTargetCounts() {
    var bench = Bench()
    bench.tell(Bench.network("red", 100, .modify, config: ["route-target": "64999:7"]))
    #expect(bench.announced.values.allSatisfy { $0.targets.map(\.description) == ["64999:7"] })
    bench.receive(Bench.path(two))
    #expect(bench.station(two) == nil)
    bench.receive(Bench.path(two, targets: [.twoOctet(subType: 2, 64999, 7)]))
    #expect(bench.station(two)?.vtep == ip("10.0.0.2"))
    bench.tell(Bench.network("red", 100, .modify, config: ["route-target": "so"]))
    #expect(bench.announced.isEmpty)
    #expect(bench.agent.state(at: bench.now).errors.count == 1)
  }

  @Test func whatAnEarlierAgentHasLeftIsTakenBack() {
    var bench = Bench(isUp: false)
    var left = Bench.path(one, from: "10.0.0.1", sequence: 4)
    left.isLocal = true
    var kept = Bench.path(two, from: "10.0.0.1", sequence: 7)
    kept.isLocal = true
    bench.hear(two)
    bench.announced[try! left.key()] = try! left.route()
    bench.connectEngine([left, kept])
    #expect(bench.routes(of: one).isEmpty)
    // What has not changed is not told again, and keeps its sequence number.
    #expect(
      bench.agent.announced[VNI(rawValue: 100)!]?.stations[MACAddress(two)!]?.first?.mobility
        .sequence == 7)
  }
}

/// What a host takes of others.
@Suite struct ImportTests {
  @Test func stationsVTEPsAndNeighbors() {
    var bench = Bench()
    bench.receive(Bench.multicast(), Bench.path(one, ip: "172.17.0.5", gateway: true))
    #expect(bench.vteps["red"] == [ip("10.0.0.2")])
    #expect(bench.station(one) == AgentUpdate.Station(mac: MACAddress(one)!, vtep: ip("10.0.0.2")))
    #expect(bench.neighbors["red"]?[ip("172.17.0.5")]?.isRouter == true)
    bench.receive(
      Bench.multicast(withdrawn: true), Bench.path(one, ip: "172.17.0.5", withdrawn: true))
    bench.advance(1)
    #expect(bench.vteps["red"] == [])
    #expect(bench.station(one) == nil)
    #expect(bench.neighbors["red"]?.isEmpty == true)
  }

  @Test func onlyWhatIsForANetworkHere() {
    var bench = Bench()
    bench.receive(Bench.path(one, vni: 101), Bench.path(one, targets: []))
    bench.receive(Bench.path(one, vni: 101, targets: [.twoOctet(subType: 2, 65000, 100)]))
    bench.receive(Bench.path(one, from: Bench.local))
    #expect(bench.stations["red"] == nil)
    #expect(bench.agent.faults == [.otherVNI: 1, .ownVTEP: 1])
    // Hosts with another AS derive another target.
    bench.receive(Bench.path(one, targets: [.twoOctet(subType: 2, 65001, 100)]))
    #expect(bench.station(one) != nil)
  }

  @Test func theBestOfSeveral() {
    var bench = Bench()
    bench.receive(Bench.path(one, from: "10.0.0.9"), Bench.path(one, from: "10.0.0.10"))
    #expect(bench.station(one)?.vtep == ip("10.0.0.9"))
    bench.receive(Bench.path(one, from: "10.0.0.10", sequence: 1))
    #expect(bench.station(one)?.vtep == ip("10.0.0.10"))
    bench.receive(Bench.path(one, from: "10.0.0.11", sticky: true))
    #expect(bench.station(one)?.vtep == ip("10.0.0.11"))
    #expect(bench.station(one)?.isSticky == true)
    bench.receive(Bench.path(one, from: "10.0.0.11", withdrawn: true))
    #expect(bench.station(one)?.vtep == ip("10.0.0.10"))
  }

  @Test func anAddressThatTwoStationsClaim() {
    var bench = Bench()
    bench.receive(Bench.path(one, ip: "172.17.0.5"), Bench.path(two, ip: "172.17.0.5", sequence: 1))
    #expect(bench.neighbors["red"]?[ip("172.17.0.5")]?.mac == MACAddress(two))
    bench.receive(Bench.path(two, ip: "172.17.0.5", withdrawn: true))
    #expect(bench.neighbors["red"]?[ip("172.17.0.5")]?.mac == MACAddress(one))
  }

  @Test func theLimitOfANetwork() {
    var bench = Bench()
    bench.tell(
      WatchEvent(
        .modify, table: .host, record: ".", new: ["other_config": .map(["evpn-limit": .text("2")])])
    )
    bench.receive(Bench.multicast(), Bench.path(one), Bench.path(two))
    #expect(bench.station(one) != nil)
    #expect(bench.station(two) == nil)
    #expect(bench.agent.faults[.tooMany] == 1)
  }

  @Test func aNetworkThatComesLaterHasTheRoutesListed() {
    var bench = Bench()
    #expect(!bench.agent.wantsList)
    bench.tell(Bench.network("blue", 200, .insert))
    #expect(bench.agent.wantsList)
    bench.agent.listBegan()
    // What changes meanwhile is newer than the list.
    bench.receive(Bench.path(one, from: "10.0.0.3", vni: 200))
    bench.agent.listed(
      [Bench.path(one, from: "10.0.0.3", sequence: 9, vni: 200), Bench.path(two, vni: 200)],
      at: bench.now)
    bench.agent.listEnded(at: bench.now)
    bench.flush()
    #expect(bench.stations["blue"]?.count == 2)
    #expect(
      bench.agent.networks[VNI(rawValue: 200)!]?.remote.best(MACAddress(one)!)?.mobility.sequence
        == 0)
  }

  @Test func updatesAreBounded() throws {
    var bench = Bench()
    bench.updates = []
    let paths = (0..<10_000).map { number in
      Bench.path(
        "\(MACAddress(rawValue: 0x0200_0000_0000 + UInt64(number))!)",
        ip: "\(IPAddress(v4: 0xAC11_0000 + UInt32(number)))")
    }
    bench.agent.received(paths, at: bench.now)
    // What changes twice before it is told is told once.
    bench.agent.received(paths, at: bench.now)
    bench.flush()
    #expect(bench.stations["red"]?.count == 10_000)
    #expect(bench.neighbors["red"]?.count == 10_000)
    #expect(
      bench.updates.reduce(0) { $0 + $1.networks.values.reduce(0) { $0 + $1.count } } == 20_000)
    for update in bench.updates {
      #expect(update.networks.values.reduce(0) { $0 + $1.count } <= AgentUpdate.limit)
      #expect(try Request(commands: [.agent(update)]).messageBytes().count < 900_000)
    }
  }
}

/// Stations that move, and those that are in two places (RFC 7432, sections 7.7 and 15).
@Suite struct MoveTests {
  @Test func aStationComesHere() {
    var bench = Bench()
    bench.receive(Bench.path(one, sequence: 3))
    #expect(bench.station(one) != nil)
    bench.hear(one)
    #expect(bench.routes(of: one).map(\.mobility.sequence) == [4])
    #expect(bench.station(one) == nil)
  }

  @Test func aStationGoes() {
    var bench = Bench()
    bench.hear(one)
    bench.receive(Bench.path(one, sequence: 1))
    #expect(bench.routes(of: one).isEmpty)
    #expect(bench.station(one)?.vtep == ip("10.0.0.2"))
    // The switch says that it is not here any more.
    bench.lose(one)
    #expect(bench.station(one)?.vtep == ip("10.0.0.2"))
    bench.hear(one)
    #expect(bench.routes(of: one).map(\.mobility.sequence) == [2])
  }

  @Test func whoeverHasTheLowerVTEPKeepsIt() {
    var bench = Bench()
    bench.hear(one)
    bench.receive(Bench.path(one))
    #expect(bench.routes(of: one).count == 1)
    bench.receive(Bench.path(one, from: "9.0.0.1"))
    #expect(bench.routes(of: one).isEmpty)
    #expect(bench.station(one)?.vtep == ip("9.0.0.1"))
  }

  @Test func anAttachedStationStays() {
    var bench = Bench()
    bench.hear(one, "attached")
    bench.receive(Bench.path(one, sequence: 9))
    bench.receive(Bench.path(one, sequence: 10, sticky: true))
    #expect(bench.station(one) == nil)
    #expect(bench.routes(of: one).count == 1)
    #expect(bench.agent.state(at: 0).networks[0].duplicates.map(\.vtep) == [ip("10.0.0.2")])
    #expect(bench.notices.count == 1)
    bench.receive(Bench.path(one, withdrawn: true))
    bench.advance(1)
    #expect(bench.agent.state(at: 0).networks[0].duplicates.isEmpty)
  }

  @Test func anAttachedStationOfAnotherHostIsNotHeardHere() {
    var bench = Bench()
    bench.receive(Bench.path(one, sticky: true))
    bench.hear(one)
    #expect(bench.routes(of: one).isEmpty)
    #expect(bench.station(one)?.isSticky == true)
    // A container that has come here is newer than there.
    bench.hear(two)
    bench.receive(Bench.path(two, sticky: true))
    #expect(bench.routes(of: two).isEmpty)
    bench.hear(two, "attached")
    #expect(bench.routes(of: two).map(\.mobility) == [Mobility(sequence: 1, isSticky: true)])
  }

  @Test func aRestlessStationIsFrozen() throws {
    var bench = Bench()
    bench.hear(one)
    var sequence: UInt32 = 0
    for _ in 0..<2 {
      bench.receive(Bench.path(one, sequence: sequence + 1))
      bench.lose(one)
      bench.hear(one)
      sequence += 2
    }
    #expect(bench.routes(of: one).map(\.mobility.sequence) == [4])
    bench.notices = []
    bench.receive(Bench.path(one, sequence: 5))
    // The fifth move is not carried out.
    #expect(bench.routes(of: one).map(\.mobility.sequence) == [4])
    #expect(bench.station(one) == nil)
    #expect(bench.agent.state(at: 0).networks[0].frozen == [MACAddress(one)!])
    #expect(bench.notices.count == 1)
    bench.advance(1000)
    #expect(bench.agent.state(at: 0).networks[0].frozen.count == 1)
    try bench.agent.unfreeze(network: "red", MACAddress(one)!, at: bench.now)
    bench.flush()
    #expect(bench.station(one)?.vtep == ip("10.0.0.2"))
    #expect(throws: ControlError.self) {
      try bench.agent.unfreeze(network: "red", MACAddress(one)!, at: bench.now)
    }
  }

  @Test func aStationFrozenElsewhereStaysThere() {
    var bench = Bench()
    for sequence in [1, 3, 5, 7, 9] as [UInt32] {
      bench.receive(Bench.path(one, sequence: sequence))
      bench.lose(one)
      bench.hear(one)
    }
    #expect(bench.agent.state(at: 0).networks[0].frozen == [MACAddress(one)!])
    #expect(bench.station(one)?.isSticky == true)
    #expect(bench.routes(of: one).isEmpty)
    // When neither has it any more nothing is left to be frozen.
    bench.lose(one)
    bench.receive(Bench.path(one, withdrawn: true))
    bench.advance(1)
    #expect(bench.agent.state(at: 0).networks[0].frozen.isEmpty)
    #expect(bench.station(one) == nil)
  }

  @Test func aStationThatSeldomMovesIsNotFrozen() {
    var bench = Bench()
    for sequence in 1...20 {
      bench.receive(Bench.path(one, sequence: UInt32(2 * sequence)))
      bench.lose(one)
      bench.hear(one)
      bench.advance(100)
    }
    #expect(bench.agent.state(at: 0).networks[0].frozen.isEmpty)
  }

  @Test func theLastSequenceNumber() {
    var bench = Bench()
    bench.receive(Bench.path(one, sequence: .max))
    bench.hear(one)
    #expect(bench.routes(of: one).map(\.mobility.sequence) == [.max])
  }
}

/// What stays when nobody tells of it.
@Suite struct HoldingTests {
  @Test func theLossOfAllPeers() {
    var bench = Bench()
    bench.receive(Bench.path(one), Bench.path(two), Bench.multicast())
    // One of two: its routes are withdrawn.
    bench.peers(established: 2)
    bench.receive(Bench.path(two, withdrawn: true), established: 1)
    bench.advance(1)
    #expect(bench.station(two) == nil)
    // The last: its routes stay.
    bench.receive(
      Bench.path(one, withdrawn: true), Bench.multicast(withdrawn: true), established: 0)
    #expect(bench.station(one) != nil)
    #expect(bench.agent.state(at: bench.now).holding == 0)
    bench.advance(110)
    #expect(bench.station(one) != nil)
    #expect(bench.vteps["red"]?.count == 1)
    bench.advance(15)
    #expect(bench.station(one) == nil)
    #expect(bench.vteps["red"] == [])
  }

  @Test func peersThatComeBack() {
    var bench = Bench()
    bench.receive(Bench.path(one), Bench.path(two))
    bench.receive(
      Bench.path(one, withdrawn: true), Bench.path(two, withdrawn: true), established: 0)
    bench.advance(60)
    bench.peers(established: 1)
    bench.receive(Bench.path(one))
    bench.advance(3)
    #expect(bench.station(two) != nil)
    bench.advance(4)
    // What it has not told again is gone.
    #expect(bench.station(one) != nil)
    #expect(bench.station(two) == nil)
    #expect(bench.agent.state(at: bench.now).holding == nil)
  }

  @Test func theLossOfTheEngine() {
    var bench = Bench()
    bench.receive(Bench.path(one), Bench.path(two))
    bench.agent.engineLost(at: bench.now)
    bench.advance(100)
    #expect(bench.station(one) != nil)
    // It comes back with nothing, as no peer is there yet.
    bench.connectEngine(peer: false)
    bench.advance(10)
    #expect(bench.station(one) != nil)
    bench.peers(established: 1)
    bench.receive(Bench.path(two))
    bench.advance(6)
    #expect(bench.station(one) == nil)
    #expect(bench.station(two) != nil)
  }

  @Test func forEver() {
    var bench = Bench(hold: 0)
    bench.receive(Bench.path(one))
    bench.agent.engineLost(at: bench.now)
    bench.advance(3600)
    #expect(bench.station(one) != nil)
    #expect(bench.updates.last?.hold == 0)
  }

  @Test func aStartSweepsWhenAllIsKnown() {
    var bench = Bench(isUp: false)
    #expect(bench.phases == [.begin])
    bench.connectEngine(peer: false)
    bench.advance(30)
    #expect(!bench.phases.contains(.end))
    bench.peers(established: 1)
    bench.receive(Bench.path(one))
    #expect(bench.station(one) != nil)
    #expect(!bench.phases.contains(.end))
    bench.advance(6)
    #expect(bench.phases.last { $0 != .change } == .end)
  }

  @Test func aStartWithoutPeersSweepsAfterTheHoldTime() {
    var bench = Bench(hold: 30, isUp: false)
    bench.connectEngine(peer: false)
    bench.advance(29)
    #expect(!bench.phases.contains(.end))
    bench.advance(2)
    #expect(bench.phases.contains(.end))
  }

  @Test func aSwitchThatIsStartedAnewIsToldAll() {
    var bench = Bench()
    bench.hear(two)
    bench.receive(Bench.path(one), Bench.multicast())
    let routes = bench.announced
    bench.agent.switchLost()
    bench.advance(1)
    (bench.stations, bench.vteps, bench.phases) = ([:], [:], [])
    bench.connectSwitch(stations: [Bench.station(two, "learned", .initial)])
    #expect(bench.station(one) != nil)
    #expect(bench.vteps["red"] == [ip("10.0.0.2")])
    #expect(bench.phases == [.begin, .change, .end])
    #expect(bench.announced == routes)
  }

  @Test func theSwitchIsToldThatNothingHasChanged() {
    var bench = Bench()
    bench.updates = []
    bench.advance(60)
    #expect(bench.updates.count >= 6)
  }
}
