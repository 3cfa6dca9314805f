import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXControl
@testable import OVXEVPN

/// What an engine hands over may be anything.
@Suite struct ReceivedPathTests {
  @Test func targets() throws {
    for text in ["65000:100", "0:4294967295", "4200000000:7", "10.0.0.1:9"] {
      #expect(try #require(RouteTarget(text)).description == text)
    }
    for text in [
      "", "1", "1:2:3", "65536:65536", "4294967296:1", "10.0.0.1:65536", "fd00::1:1", "a:b", "-1:2",
    ] {
      #expect(RouteTarget(text) == nil, "\(text)")
    }
    let vni = try #require(VNI(rawValue: 100))
    // As FRR: of a long AS number its low 16 bits.
    #expect(RouteTarget(automatic: vni, asn: 4_200_000_000).description == "59904:100")
    #expect(RouteTarget(automatic: vni, asn: 1).isAutomatic(for: vni))
  }

  @Test func faults() throws {
    var path = Bench.path("02:00:00:00:00:01", ip: "172.17.0.5")
    #expect(try path.route().vni.rawValue == 100)
    func fault(_ change: (inout ReceivedPath) -> Void) -> RouteFault? {
      var changed = path
      change(&changed)
      do throws(RouteFault) { _ = try changed.route() } catch { return error }
      return nil
    }
    func station(
      rd: ReceivedPath.Distinguisher = .twoOctet(1, 2), tag: UInt32 = 0,
      mac: String = "02:00:00:00:00:01", ip: String = "", labels: [UInt32] = [100]
    ) -> ReceivedPath.Content { .station(rd, tag: tag, mac: mac, ip: ip, labels: labels) }
    #expect(fault { $0.content = .other } == .otherType)
    for rd in [
      ReceivedPath.Distinguisher.unknown, .twoOctet(65536, 1), .fourOctet(1, 65536),
      .address("x", 1), .address("fd00::1", 1), .address("1.2.3.4", 65536),
    ] {
      #expect(fault { $0.content = station(rd: rd) } == .distinguisher)
    }
    #expect(fault { $0.content = station(tag: 1) } == .ethernetTag)
    for mac in ["", "ff:ff:ff:ff:ff:ff", "01:00:00:00:00:00", "00:00:00:00:00:00", "02:00"] {
      #expect(fault { $0.content = station(mac: mac) } == .mac)
    }
    for ip in ["x", "224.0.0.1", "255.255.255.255", "ff02::1"] {
      #expect(fault { $0.content = station(ip: ip) } == .ip)
    }
    #expect(fault { $0.content = station(ip: "::") } == nil)
    for hop in [
      "", "0.0.0.0", "ff02::1", "fe80::1", "255.255.255.255", "224.0.0.5", "127.0.0.1", "::1", "::",
    ] {
      #expect(fault { $0.nextHop = hop } == .nextHop)
    }
    #expect(fault { $0.content = station(labels: []) } == .label)
    #expect(fault { $0.content = station(labels: [1 << 24]) } == .label)
    #expect(fault { $0.content = station(labels: [0]) } == .label)
    #expect(fault { $0.communities = [.encapsulation(7)] } == .encapsulation)
    #expect(fault { $0.communities = [.encapsulation(7), .encapsulation(8)] } == nil)
    #expect(fault { $0.communities = [] } == nil)
    #expect(
      fault { $0.communities = Array(repeating: .defaultGateway, count: 513) } == .communities)
    path = Bench.multicast()
    #expect(fault { $0.tunnel = nil } == .tunnel)
    #expect(fault { $0.tunnel?.type = 1 } == .tunnel)
  }

  /// What is refused is counted by its reason, and the first for each is named with its route
  /// distinguisher and next hop.
  @Test func whatIsRefusedIsCountedAndNamed() {
    var bench = Bench()
    let target = [ReceivedPath.Community.twoOctet(subType: 2, 65000, Bench.vni)]
    bench.receive(
      Bench.path("02:00:00:00:00:01", from: "10.0.0.7", vni: 200, targets: target),
      Bench.path("02:00:00:00:00:02", from: "10.0.0.8", vni: 200, targets: target),
      Bench.path("02:00:00:00:00:03", from: Bench.local), Bench.path("02:00:00:00:00:04", vni: 0),
      // Another tenant's route altogether is nobody's fault.
      Bench.path("02:00:00:00:00:05", vni: 300))
    #expect(
      bench.agent.state(at: bench.now).ignored == [
        RouteFault.otherVNI.rawValue: 2, RouteFault.ownVTEP.rawValue: 1,
        RouteFault.label.rawValue: 1,
      ])
    let named = bench.notices.map(\.text).filter { $0.contains("is refused") }
    #expect(named.count == 3)
    for word in ["02:00:00:00:00:01", "10.0.0.7:200", RouteFault.otherVNI.rawValue] {
      #expect(named.first?.contains(word) == true, "\(named)")
    }
    #expect(bench.stations["red"] ?? [:] == [:])
  }

  /// A gateway here stays here, whatever sequence number others tell its addresses with, and is
  /// told as a duplicate.
  @Test func theGatewayOfThisHostIsNobodyElses() {
    var bench = Bench()
    bench.hear("02:00:00:00:00:01", "gateway")
    bench.neighbor("172.17.0.1", "02:00:00:00:00:01")
    bench.receive(
      Bench.path(
        "02:00:00:00:00:01", ip: "172.17.0.1", from: "10.0.0.7", sequence: .max, sticky: true))
    #expect(bench.station("02:00:00:00:00:01") == nil)
    #expect(bench.neighbors["red"]?[ip("172.17.0.1")] == nil)
    #expect(bench.routes(of: "02:00:00:00:00:01").count == 1)
    #expect(bench.notices.contains { $0.text.contains("10.0.0.7 tells of 02:00:00:00:00:01") })
  }

  /// Random paths and events: nothing traps, what is told fits, and both sides come to rest at what
  /// the routes say.
  @Test(arguments: 0..<20) func anythingGoes(_ round: Int) {
    var random = SeededRandom(seed: UInt64(round) &* 7919 &+ 1)
    var bench = Bench()
    let texts = [
      "", "0.0.0.0", "10.0.0.2", "10.0.0.3", "9.9.9.9", "172.17.0.5", "fd00::1", "x", "\0",
      Bench.local,
    ]
    let macs = [
      "02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "", "02:00:00:00:00:03",
    ]
    let numbers: [UInt32] = [0, 1, 2, 6, 8, 100, 101, 65000, 65535, 65536, 1 << 24, .max]
    func pick<Element>(_ list: [Element]) -> Element {
      list[Int(random.next() % UInt64(list.count))]
    }
    func path() -> ReceivedPath {
      if random.next() % 2 == 0 {
        return Bench.path(
          pick(Array(macs.prefix(2))), ip: pick(["", "172.17.0.5"]),
          from: pick(["10.0.0.2", "10.0.0.3", "9.9.9.9"]),
          sequence: pick([0, 1, 2, .max]), sticky: random.next() % 8 == 0,
          withdrawn: random.next() % 4 == 0)
      }
      let rd: ReceivedPath.Distinguisher = pick([
        .unknown, .twoOctet(pick(numbers), pick(numbers)), .fourOctet(pick(numbers), pick(numbers)),
        .address(pick(texts), pick(numbers)),
      ])
      let content: ReceivedPath.Content = pick([
        .other, .multicast(rd, tag: 0, originator: pick(texts)),
        .station(
          rd, tag: pick([0, 0, 0, 5]), mac: pick(macs), ip: pick(texts),
          labels: pick([[], [100], [100, 5], [.max]])),
      ])
      let communities: [ReceivedPath.Community] = (0..<Int(random.next() % 5)).map { _ in
        pick([
          .twoOctet(subType: pick([2, 3]), pick(numbers), pick(numbers)),
          .address(subType: 2, pick(texts), pick(numbers)),
          .fourOctet(subType: 2, pick(numbers), pick(numbers)), .encapsulation(pick([7, 8])),
          .mobility(sequence: pick(numbers), isSticky: random.next() % 2 == 0), .defaultGateway,
          .twoOctet(subType: 2, 65000, 100),
        ])
      }
      return ReceivedPath(
        content, nextHop: pick(texts), communities: communities,
        tunnel: pick([
          nil, .init(type: 6, label: 100), .init(type: pick(numbers), label: pick(numbers)),
        ]),
        isWithdrawal: random.next() % 4 == 0, isLocal: random.next() % 8 == 0)
    }
    for _ in 0..<2000 {
      switch random.next() % 16 {
      case 0: bench.hear(pick(macs), pick(["learned", "attached", "static", "gateway", "?"]))
      case 1: bench.lose(pick(macs))
      case 2: bench.neighbor(pick(texts), pick(macs), pick([.insert, .modify, .delete]))
      case 3: bench.advance(Int(random.next() % 30))
      case 4:
        bench.agent.engineLost(at: bench.now)
        bench.connectEngine((0..<5).map { _ in path() }, peer: random.next() % 2 == 0)
      case 5: bench.peers(established: Int(random.next() % 2))
      case 6: bench.connectSwitch()
      case 7: bench.tell(Bench.network("red", pick([100, 101]), .modify))
      case 8:
        bench.sending = random.next() % 2 == 0 ? [] : Set(texts)
        bench.answering = random.next() % 2 == 0 ? [] : Set(texts)
      default: bench.receive(path(), path(), established: Int(random.next() % 3))
      }
      for update in bench.updates {
        #expect(throws: Never.self) { try update.validate() }
      }
      bench.updates = []
    }
    (bench.sending, bench.answering) = ([], [])
    // Where nothing more happens, what the switch has is what the routes say.
    bench.peers(established: 1)
    bench.advance(200)
    for (vni, network) in bench.agent.networks {
      let told = bench.agent.told[vni]
      for (mac, routes) in network.remote.routes {
        #expect(!routes.isEmpty)
        #expect(told?.stations[mac]?.vtep == network.place(of: mac)?.vtep, "seed \(round)")
      }
      #expect(
        Set(told?.stations.keys ?? [:].keys).subtracting(network.remote.routes.keys).allSatisfy {
          network.frozen[$0] != nil
        })
      #expect(told?.vteps ?? [] == Set(network.remote.vteps.keys))
      for mac in network.owned.keys { #expect(told?.stations[mac] == nil) }
      let count =
        network.remote.routes.values.reduce(0) { $0 + $1.count }
        + network.remote.vteps.values.reduce(0) { $0 + $1.count }
      #expect(network.remote.count == count)
      #expect(bench.agent.withdrawals.isEmpty)
      #expect(bench.agent.rib.values.count { $0.vni == vni } == count)
    }
  }
}
