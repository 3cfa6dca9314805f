import OVXDatapath
import OVXSimulation
import Testing

/// What is learned from ARP and neighbor discovery, and which questions the switch answers itself.
///
/// Station N has the address 02:00:00:00:00:0N, 10.0.0.N and fd00::N. Devices 1 and 2 and tunnel 3
/// are in VLAN 100, devices 4 and 5 in VLAN 200, which has no tunnel.
@Suite struct NeighborTests {
  private let families = [false, true]

  private static func address(_ station: UInt8) -> MACAddress {
    MACAddress(truncating: 0x0200_0000_0000 | UInt64(station))
  }

  private static func ip(_ station: UInt8, _ isIPv6: Bool) -> IPAddress {
    isIPv6
      ? IPAddress(v6High: 0xFD00_0000_0000_0000, low: UInt64(station))
      : IPAddress(v4: 0x0A00_0000 | UInt32(station))
  }

  private static func ports() throws -> [Topology.Port] {
    [
      device(1, access100), device(2, access100),
      try tunnel(3, vni: 100, access100, remotes: [remoteA, remoteB]),
      device(4, .access(vlan(200))), device(5, .access(vlan(200))),
    ]
  }

  private static func topology(
    suppresses: Bool = true, limit: Int = 8192, ports: [Topology.Port]? = nil
  ) throws -> Topology {
    Topology(
      bridges: [
        Topology.Bridge(
          id: BridgeID(rawValue: 0), addressLimit: limit, suppressesNeighborQuestions: suppresses)
      ], ports: try ports ?? Self.ports())
  }

  private static func announcement(
    _ station: UInt8, _ isIPv6: Bool, at address: MACAddress? = nil, isRouter: Bool = false
  ) -> [UInt8] {
    neighborAnnouncement(
      of: ip(station, isIPv6), at: address ?? self.address(station), isRouter: isRouter)
  }

  private static func question(_ target: UInt8, from asker: UInt8, _ isIPv6: Bool) -> [UInt8] {
    neighborQuestion(for: ip(target, isIPv6), from: address(asker), ip(asker, isIPv6))
  }

  private static func answer(
    _ target: UInt8, to asker: UInt8, _ isIPv6: Bool, at address: MACAddress? = nil,
    isRouter: Bool = false
  ) -> [UInt8] {
    neighborAnswer(
      from: address ?? self.address(target), ip(target, isIPv6), isRouter: isRouter,
      to: self.address(asker), ip(asker, isIPv6))
  }

  /// A switch that knows station 2 behind the tunnel and station 1 on port 1.
  private static func acquainted(_ isIPv6: Bool, suppresses: Bool = true) throws -> Bench {
    let bench = Bench(try topology(suppresses: suppresses))
    _ = bench.receiveDatagrams(vxlan(100, announcement(2, isIPv6)), from: remoteA)
    _ = bench.receive(announcement(1, isIPv6), from: 1)
    return bench
  }

  /// Ports that a frame left by, the tunnel once for each remote.
  private static func ways(_ sent: [Bench.Sent]) -> [UInt16] { sent.map(\.port.rawValue).sorted() }

  // MARK: Answering

  @Test(arguments: [false, true])
  func aKnownNeighborIsAnsweredFor(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    for time in [0, 4, 8] as [UInt32] {
      bench.tick(time)
      let sent = bench.receive(Self.question(2, from: 1, isIPv6), from: 1)
      let expected = Bench.Sent(
        port: PortID(rawValue: 1), kind: .frame, bytes: Self.answer(2, to: 1, isIPv6))
      #expect(sent == [expected])
    }
    #expect(bench.counters(1).answeredFrames == 3)
    #expect(bench.counters(1).dropsByReason.allSatisfy { $0 == 0 })
    #expect(bench.counters(3).sentFrames == 2, "the announcement of station 1, to each remote")
    #expect(bench.neighborStatistics().answered == 3)
  }

  @Test(arguments: [false, true])
  func anUnknownOneIsFlooded(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    #expect(Self.ways(bench.receive(Self.question(9, from: 1, isIPv6), from: 1)) == [2, 3, 3])
  }

  @Test(arguments: [false, true])
  func switchedOffAllIsFlooded(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6, suppresses: false)
    #expect(Self.ways(bench.receive(Self.question(2, from: 1, isIPv6), from: 1)) == [2, 3, 3])
    #expect(bench.neighbors().count == 2, "what is known is known all the same")
    bench.apply(try Self.topology())
    #expect(Self.ways(bench.receive(Self.question(2, from: 1, isIPv6), from: 1)) == [1])
  }

  @Test(arguments: [false, true])
  func withoutATunnelAllIsFlooded(isIPv6: Bool) throws {
    let bench = Bench(try Self.topology())
    _ = bench.receive(Self.announcement(5, isIPv6), from: 5)
    _ = bench.receive(Self.announcement(4, isIPv6), from: 4)
    #expect(Self.ways(bench.receive(Self.question(5, from: 4, isIPv6), from: 4)) == [5])
    #expect(bench.neighbors().count == 2)
  }

  @Test(arguments: [false, true])
  func whatCameFromATunnelIsFlooded(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    let sent = bench.receiveDatagrams(vxlan(100, Self.question(1, from: 2, isIPv6)), from: remoteA)
    #expect(Self.ways(sent) == [1, 2])
  }

  /// What an ingress switch learns from the first frames of a station, others learn by the same.
  @Test(arguments: [false, true])
  func aStationThatIsNewHereIsHeardEverywhere(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    let question = Self.question(2, from: 7, isIPv6)
    func answer() {
      let answer = Self.answer(2, to: 7, isIPv6)
      _ = bench.receiveDatagrams(vxlan(100, answer), from: remoteA)
    }
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
    answer()
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
    // It moves to another port; from there, too, the first is heard by all.
    #expect(Self.ways(bench.receive(question, from: 2)) == [1, 3, 3])
    answer()
    #expect(Self.ways(bench.receive(question, from: 2)) == [2])
    answer()
    // Another address of its own is news as well.
    let renumbered = neighborQuestion(
      for: Self.ip(2, isIPv6), from: Self.address(7), Self.ip(1, isIPv6))
    #expect(Self.ways(bench.receive(renumbered, from: 2)) == [1, 3, 3])
  }

  @Test(arguments: [false, true])
  func aNeighborThatIsOutOfReachIsNotAnsweredFor(isIPv6: Bool) throws {
    let question = Self.question(2, from: 1, isIPv6)
    // Its address is not known any more.
    var bench = try Self.acquainted(isIPv6)
    #expect(bench.flushAddresses() == 2)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 1)
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
    // It is on the port that asks.
    bench = try Self.acquainted(isIPv6)
    _ = bench.receive(frame(to: 0xFF, from: 2), from: 1)
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
    // Its port waits.
    bench = Bench(try Self.topology())
    _ = bench.receive(Self.announcement(2, isIPv6), from: 2)
    _ = bench.receive(Self.announcement(1, isIPv6), from: 1)
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
    var ports = try Self.ports()
    ports[1].attachment = .waiting
    bench.apply(try Self.topology(ports: ports))
    #expect(Self.ways(bench.receive(question, from: 1)) == [3, 3])
    // Its port is gone.
    ports.remove(at: 1)
    bench.apply(try Self.topology(ports: ports))
    #expect(bench.neighbors().map(\.port) == [PortID(rawValue: 1)])
  }

  @Test(arguments: [false, true])
  func neighborsAge(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    let question = Self.question(2, from: 1, isIPv6)
    bench.tick(29)
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
    // Known by its traffic, but it has not told its IP address for a while: it is asked itself.
    for time in [60, 299] as [UInt32] {
      bench.tick(time)
      _ = bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 2)), from: remoteA)
      _ = bench.receive(frame(to: 0xFF, from: 1), from: 1)
      let directed = bench.receive(question, from: 1)
      #expect(Self.ways(directed) == [3])
      let asked = Self.address(2).octets + question.dropFirst(6)
      #expect(directed.map { Array($0.bytes.dropFirst(8)) } == [asked], "behind the VXLAN header")
      guard time == 60 else { break }
      _ = bench.receiveDatagrams(vxlan(100, Self.answer(2, to: 1, isIPv6)), from: remoteA)
      bench.tick(64)
      #expect(Self.ways(bench.receive(question, from: 1)) == [1], "it has answered")
    }
    // It told last at 60.
    bench.tick(360)
    #expect(Self.ways(bench.receive(Self.question(2, from: 1, isIPv6), from: 1)) == [2, 3, 3])
    #expect(bench.neighborStatistics().table.expired >= 1)
  }

  // MARK: Not vouching for the dead

  /// Who asks again at once was not served by the answer.
  @Test(arguments: [false, true])
  func aRepeatedQuestionIsFlooded(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    let question = Self.question(2, from: 1, isIPv6)
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
    bench.tick(1)
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
    #expect(bench.neighbors().contains { $0.ip == Self.ip(2, isIPv6) }, "it may answer yet")
    // Another station has not asked lately.
    _ = bench.receive(Self.announcement(5, isIPv6), from: 2)
    #expect(Self.ways(bench.receive(Self.question(2, from: 5, isIPv6), from: 2)) == [2])
    // Nobody has answered what was flooded.
    bench.tick(3)
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
    #expect(!bench.neighbors().contains { $0.ip == Self.ip(2, isIPv6) })
    _ = bench.receiveDatagrams(vxlan(100, Self.answer(2, to: 1, isIPv6)), from: remoteA)
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
  }

  /// A probe is a question to one station, by which a kernel finds out whether that one is alive.
  private static func probe(_ target: UInt8, from asker: UInt8, _ isIPv6: Bool) -> [UInt8] {
    let (address, ip) = (address(asker), ip(asker, isIPv6))
    guard isIPv6 else {
      return arpOctets(
        operation: 1, from: address, ip, to: self.address(target), self.ip(target, false),
        destination: self.address(target))
    }
    var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0] + [0xFD] + [UInt8](repeating: 0, count: 14)
    message += [target, 1, 1] + address.octets
    return ndOctets(
      from: address, ip, to: self.address(target), self.ip(target, true), message: message)
  }

  /// The answer to a probe; of IPv6 as Linux gives it, without an address and flag O.
  private static func sign(of target: UInt8, to asker: UInt8, _ isIPv6: Bool) -> [UInt8] {
    guard isIPv6 else { return answer(target, to: asker, false) }
    var message: [UInt8] =
      [136, 0, 0, 0, 0x40, 0, 0, 0] + [0xFD] + [UInt8](repeating: 0, count: 14)
    message += [target]
    return ndOctets(
      from: address(target), ip(target, true), to: address(asker), ip(asker, true), message: message
    )
  }

  @Test(arguments: [false, true])
  func aNeighborThatDoesNotAnswerProbesIsForgotten(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    _ = bench.receive(Self.announcement(5, isIPv6), from: 2)
    let question = Self.question(2, from: 5, isIPv6)
    for time in 10...12 as ClosedRange<UInt32> {
      bench.tick(time)
      #expect(Self.ways(bench.receive(Self.probe(2, from: 1, isIPv6), from: 1)) == [3])
    }
    #expect(Self.ways(bench.receive(question, from: 2)) == [1, 3, 3])
    #expect(!bench.neighbors().contains { $0.ip == Self.ip(2, isIPv6) })
    #expect(bench.neighborStatistics().answered == 0)
  }

  @Test(arguments: [false, true])
  func aNeighborThatAnswersProbesIsVouchedFor(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    _ = bench.receive(Self.announcement(5, isIPv6), from: 2)
    for time in [10, 20, 30, 40] as [UInt32] {
      bench.tick(time)
      _ = bench.receive(Self.probe(2, from: 1, isIPv6), from: 1)
      _ = bench.receiveDatagrams(vxlan(100, Self.sign(of: 2, to: 1, isIPv6)), from: remoteA)
    }
    bench.tick(50)
    #expect(Self.ways(bench.receive(Self.question(2, from: 5, isIPv6), from: 2)) == [2])
    // What another one is asked says nothing of it.
    var other = Self.probe(2, from: 1, isIPv6)
    other.replaceSubrange(0..<6, with: Self.address(9).octets)
    _ = bench.receive(other, from: 1)
    bench.tick(55)
    #expect(Self.ways(bench.receive(Self.question(2, from: 5, isIPv6), from: 2)) == [2])
  }

  /// The station that answers a probe is another one than the one that was known.
  @Test func aSignOfAnotherStationContradicts() throws {
    let bench = try Self.acquainted(true)
    var sign = Self.sign(of: 2, to: 1, true)
    sign.replaceSubrange(6..<12, with: Self.address(9).octets)
    _ = bench.receiveDatagrams(vxlan(100, sign), from: remoteA)
    #expect(!bench.neighbors().contains { $0.ip == Self.ip(2, true) })
  }

  // MARK: One address, two stations

  @Test(arguments: [false, true])
  func anAddressOfTwoStationsIsToldOf(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    for round in 0..<4 as Range<UInt32> {
      bench.tick(round * 5)
      #expect(bench.takeContestedNeighbors().isEmpty)
      let isOther = round % 2 == 0
      let frame = Self.announcement(2, isIPv6, at: Self.address(isOther ? 8 : 2))
      if isOther {
        _ = bench.receive(frame, from: 2)
      } else {
        _ = bench.receiveDatagrams(vxlan(100, frame), from: remoteA)
      }
    }
    let told = try #require(bench.takeContestedNeighbors().first)
    #expect(told.ip == Self.ip(2, isIPv6) && told.changes == 4)
    #expect(Set([told.former, told.latter]) == [Self.address(2), Self.address(8)])
    #expect(Set([told.formerPlace.port, told.latterPlace.port].map(\.rawValue)) == [2, 3])
    #expect(bench.takeContestedNeighbors().isEmpty)
    #expect(bench.contestedNeighbors() == [told])
    bench.tick(80)
    #expect(bench.contestedNeighbors().isEmpty)
  }

  /// A station that is made anew again and again has another Ethernet address each time.
  @Test func anAddressOfManyStationsInSuccessionIsNotContested() throws {
    let bench = try Self.acquainted(false)
    for station in 10..<30 as Range<UInt8> {
      _ = bench.receive(Self.announcement(2, false, at: Self.address(station)), from: 2)
    }
    #expect(bench.takeContestedNeighbors().isEmpty)
  }

  /// Failing over, and back, is no contest.
  @Test func anAddressThatMovesIsNotContested() throws {
    let bench = try Self.acquainted(false)
    for round in 0..<20 as Range<UInt32> {
      bench.tick(round * 25)
      let address = Self.address(round % 2 == 0 ? 8 : 2)
      _ = bench.receive(Self.announcement(2, false, at: address), from: 2)
      _ = bench.receive(Self.announcement(2, false, at: address), from: 2)
    }
    #expect(bench.takeContestedNeighbors().isEmpty)
  }

  // MARK: Never answered for others

  @Test func unicastRequests() throws {
    let bench = try Self.acquainted(false)
    let probe = arpOctets(
      operation: 1, from: Self.address(1), Self.ip(1, false), to: MACAddress(truncating: 0),
      Self.ip(2, false), destination: Self.address(2))
    #expect(Self.ways(bench.receive(probe, from: 1)) == [3])
    #expect(bench.neighborStatistics().answered == 0)
  }

  @Test func unicastSolicitations() throws {
    let bench = try Self.acquainted(true)
    var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0] + [0xFD] + [UInt8](repeating: 0, count: 14)
    message += [2, 1, 1, 2, 0, 0, 0, 0, 1]
    let probe = ndOctets(
      from: Self.address(1), Self.ip(1, true), to: Self.address(2), Self.ip(2, true),
      message: message)
    #expect(Self.ways(bench.receive(probe, from: 1)) == [3])
    // The same to all of Ethernet, or to all of IPv6 only, is a trick.
    var trick = probe
    trick.replaceSubrange(0..<6, with: [0x33, 0x33, 0xFF, 0, 0, 2])
    #expect(Self.ways(bench.receive(trick, from: 1)) == [2, 3, 3])
    trick = Self.question(2, from: 1, true)
    trick.replaceSubrange(0..<6, with: [2, 0, 0, 0, 0, 2])
    #expect(Self.ways(bench.receive(trick, from: 1)) == [3])
    #expect(bench.neighborStatistics().answered == 0)
  }

  @Test func probesAndAnnouncements() throws {
    let bench = try Self.acquainted(false)
    let nobody = IPAddress(v4: 0)
    let probe = arpOctets(
      operation: 1, from: Self.address(1), nobody, to: MACAddress(truncating: 0), Self.ip(2, false))
    #expect(Self.ways(bench.receive(probe, from: 1)) == [2, 3, 3])
    #expect(Self.ways(bench.receive(Self.announcement(1, false), from: 1)) == [2, 3, 3])
    let reply = arpOctets(
      operation: 2, from: Self.address(1), Self.ip(1, false), to: Self.address(1),
      Self.ip(1, false))
    #expect(Self.ways(bench.receive(reply, from: 1)) == [2, 3, 3])
    #expect(bench.neighborStatistics().answered == 0)
    #expect(bench.neighbors().map(\.ip) == [Self.ip(1, false)])
  }

  /// Who wants an address may get it without a word to others: of IPv6 that is how Linux does it.
  @Test(arguments: [false, true])
  func whoseAddressIsWantedIsNotVouchedFor(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    let nobody = isIPv6 ? IPAddress(v6High: 0, low: 0) : IPAddress(v4: 0)
    func probe(from station: UInt8) -> [UInt8] {
      neighborQuestion(for: Self.ip(2, isIPv6), from: Self.address(station), nobody)
    }
    let question = Self.question(2, from: 1, isIPv6)
    // Its own is no other's.
    _ = bench.receiveDatagrams(vxlan(100, probe(from: 2)), from: remoteA)
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
    bench.tick(10)
    #expect(
      Self.ways(bench.receiveDatagrams(vxlan(100, probe(from: 7)), from: remoteB)) == [1, 2])
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
    // It has it still, and says so to all, or to who has asked.
    _ = bench.receiveDatagrams(vxlan(100, Self.answer(2, to: 1, isIPv6)), from: remoteA)
    bench.tick(20)
    #expect(Self.ways(bench.receive(question, from: 1)) == [1])
  }

  @Test func duplicateAddressDetection() throws {
    let bench = try Self.acquainted(true)
    var probe = Self.question(2, from: 1, true)
    let target = [UInt8](probe[62..<78])
    let message = [135, 0, 0, 0, 0, 0, 0, 0] + target
    probe = ndOctets(
      from: Self.address(1), IPAddress(v6High: 0, low: 0),
      to: MACAddress(truncating: 0x3333_FF00_0002),
      IPAddress(v6High: 0xFF02_0000_0000_0000, low: 0x1_FF00_0002), message: message)
    #expect(Self.ways(bench.receive(probe, from: 1)) == [2, 3, 3])
    #expect(Self.ways(bench.receive(Self.announcement(1, true), from: 1)) == [2, 3, 3])
    #expect(bench.neighborStatistics().answered == 0)
    #expect(bench.neighbors().map(\.ip) == [Self.ip(1, true)])
  }

  // MARK: Learning

  @Test(arguments: [false, true])
  func theLatestAnnouncementCounts(isIPv6: Bool) throws {
    let bench = try Self.acquainted(isIPv6)
    let other = Self.address(8)
    _ = bench.receiveDatagrams(
      vxlan(100, Self.announcement(2, isIPv6, at: other)), from: remoteB)
    let sent = bench.receive(Self.question(2, from: 1, isIPv6), from: 1)
    #expect(sent.map(\.bytes) == [Self.answer(2, to: 1, isIPv6, at: other)])
    #expect(bench.neighborStatistics().table.moved == 1)
  }

  /// Whoever tells of another one is not believed, and neither is what it contradicts.
  @Test func hearsay() throws {
    let bench = try Self.acquainted(false)
    let lie = arpOctets(
      operation: 2, from: Self.address(9), Self.ip(2, false), to: Self.address(1),
      Self.ip(1, false), source: Self.address(2), destination: Self.address(1))
    _ = bench.receiveDatagrams(vxlan(100, lie), from: remoteA)
    #expect(bench.neighbors().map(\.ip) == [Self.ip(1, false)])
    #expect(Self.ways(bench.receive(Self.question(2, from: 1, false), from: 1)) == [2, 3, 3])
    // A question in the name of another station goes to all, as does what its answer would be.
    _ = bench.receiveDatagrams(vxlan(100, Self.announcement(2, false)), from: remoteA)
    let question = arpOctets(
      operation: 1, from: Self.address(2), Self.ip(2, false), to: MACAddress(truncating: 0),
      Self.ip(2, false), source: Self.address(1))
    #expect(Self.ways(bench.receive(question, from: 1)) == [2, 3, 3])
  }

  @Test func whatNoStationCanHaveIsNotLearned() throws {
    let bench = Bench(try Self.topology())
    for ip in [0, 0x7F00_0001, 0xE000_0001, 0xF000_0001, 0xFFFF_FFFF] as [UInt32] {
      _ = bench.receive(
        neighborAnnouncement(of: IPAddress(v4: ip), at: Self.address(1)), from: 1)
    }
    let groups: [(UInt64, UInt64)] = [
      (0, 0), (0, 1), (0xFF02 << 48, 1), (0, 0xFFFF_0A00_0001),
    ]
    for (high, low) in groups {
      _ = bench.receive(
        neighborAnnouncement(of: IPAddress(v6High: high, low: low), at: Self.address(1)), from: 1)
    }
    #expect(bench.neighbors().isEmpty)
  }

  /// A solicitation does not tell whether its sender is a router, so it makes nobody known, but
  /// contradicts.
  @Test func solicitationsOnlyContradict() throws {
    let bench = try Self.acquainted(true)
    _ = bench.receiveDatagrams(vxlan(100, Self.question(1, from: 5, true)), from: remoteA)
    #expect(bench.neighbors().count == 2)
    bench.tick(10)
    _ = bench.receiveDatagrams(vxlan(100, Self.question(1, from: 2, true)), from: remoteA)
    #expect(bench.neighbors().first { $0.ip == Self.ip(2, true) }?.age == 0)
    let other = neighborQuestion(
      for: Self.ip(1, true), from: Self.address(9), Self.ip(2, true))
    _ = bench.receiveDatagrams(vxlan(100, other), from: remoteA)
    #expect(bench.neighbors().map(\.ip) == [Self.ip(1, true)])
  }

  @Test func routersAreAnsweredForAsRouters() throws {
    let bench = try Self.acquainted(true)
    _ = bench.receiveDatagrams(
      vxlan(100, Self.announcement(2, true, isRouter: true)), from: remoteA)
    let sent = bench.receive(Self.question(2, from: 1, true), from: 1)
    #expect(sent.map(\.bytes) == [Self.answer(2, to: 1, true, isRouter: true)])
    // Its own solicitation does not make it less of one.
    _ = bench.receiveDatagrams(vxlan(100, Self.question(9, from: 2, true)), from: remoteA)
    #expect(
      bench.receive(Self.question(2, from: 1, true), from: 1).map(\.bytes) == sent.map(\.bytes))
    // A router's advertisement tells the same of its link-local address.
    let local = IPAddress(v6High: 0xFE80 << 48, low: 7)
    var message: [UInt8] = [134, 0, 0, 0, 64, 0, 7, 8] + [UInt8](repeating: 0, count: 8) + [1, 1]
    message.append(address: Self.address(7))
    _ = bench.receiveDatagrams(
      vxlan(
        100,
        ndOctets(
          from: Self.address(7), local, to: MACAddress(truncating: 0x3333_0000_0001),
          IPAddress(v6High: 0xFF02 << 48, low: 1), message: message)), from: remoteA)
    #expect(bench.neighbors().first { $0.ip == local }?.isRouter == true)
  }

  /// Without flag O: an anycast address, or a proxy's advertisement.
  @Test func advertisementsThatDoNotOverride() throws {
    let bench = Bench(try Self.topology())
    let frame = Self.announcement(2, true)
    var message = [UInt8](frame[54...])
    message[4] = 0
    _ = bench.receive(
      ndOctets(
        from: Self.address(2), Self.ip(2, true), to: MACAddress(truncating: 0x3333_0000_0001),
        IPAddress(v6High: 0xFF02 << 48, low: 1), message: message), from: 2)
    #expect(bench.neighbors().isEmpty)
  }

  @Test func staticAddressesCannotBeContradicted() throws {
    let bench = Bench(try Self.topology())
    #expect(bench.addStatic(Self.address(2), vlan(100), on: 2))
    _ = bench.receive(Self.announcement(2, false), from: 1)
    #expect(bench.neighbors().isEmpty)
    _ = bench.receive(Self.announcement(2, false), from: 2)
    #expect(bench.neighbors().count == 1)
  }

  // MARK: Segments

  /// Two tenants with the same addresses: what one says, the other never hears.
  @Test func tenantsStayApart() throws {
    let other = VLANMembership.access(vlan(200))
    let ports = [
      device(1, access100), try tunnel(3, vni: 100, access100, remotes: [remoteA]),
      device(4, other), try tunnel(6, vni: 200, other, remotes: [remoteA], firstPeer: 5),
    ]
    let bench = Bench(try Self.topology(ports: ports))
    _ = bench.receiveDatagrams(vxlan(100, Self.announcement(2, false)), from: remoteA)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 1)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 4)
    #expect(Self.ways(bench.receive(Self.question(2, from: 1, false), from: 1)) == [1])
    _ = bench.receive(Self.announcement(1, false), from: 4)
    #expect(Self.ways(bench.receive(Self.question(2, from: 1, false), from: 4)) == [6])
    bench.tick(4)
    let theirs = Self.address(0x22)
    _ = bench.receiveDatagrams(
      vxlan(200, Self.announcement(2, false, at: theirs)), from: remoteA)
    let sent = bench.receive(Self.question(2, from: 1, false), from: 4)
    #expect(sent.map(\.bytes) == [Self.answer(2, to: 1, false, at: theirs)])
    #expect(Self.ways(sent) == [4])
    #expect(
      bench.receive(Self.question(2, from: 1, false), from: 1).map(\.bytes)
        == [Self.answer(2, to: 1, false)])
  }

  /// The answer is tagged as the port that asked has its frames.
  @Test(arguments: [
    (VLANMembership.trunk(nil), 100 as UInt16?), (.trunk([vlan(100)]), 100),
    (.access(vlan(100)), nil),
    (.nativeUntagged(vlan(100), trunks: nil), nil), (.nativeTagged(vlan(100), trunks: nil), 100),
    (.dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8), nil),
  ])
  func theAnswerIsTaggedAsTheAskerExpects(membership: VLANMembership, tag: UInt16?) throws {
    var ports = try Self.ports()
    ports[0] = device(1, membership)
    let bench = Bench(try Self.topology(ports: ports))
    _ = bench.receiveDatagrams(vxlan(100, Self.announcement(2, false)), from: remoteA)
    let tagging: [UInt8] = tag.map { [0x81, 0, 0x60 | UInt8($0 >> 8), UInt8($0 & 0xFF)] } ?? []
    func tagged(_ frame: [UInt8]) -> [UInt8] { frame[..<12] + tagging + frame[12...] }
    _ = bench.receive(tagged(Self.announcement(1, false)), from: 1)
    let sent = bench.receive(tagged(Self.question(2, from: 1, false)), from: 1)
    #expect(sent.map(\.bytes) == [tagged(Self.answer(2, to: 1, false))])
    // The same with the tag beside the frame, as a packet socket hands it over.
    guard let tag else { return }
    bench.tick(4)
    let beside = bench.receive(
      Self.question(2, from: 1, false), from: 1, tag: VLANTag(control: 0x6000 | tag))
    #expect(beside.map(\.bytes) == [tagged(Self.answer(2, to: 1, false))])
  }

  // MARK: Limits

  /// A device that makes up neighbors has its share; what the others said stays.
  @Test func oneDeviceCannotFillTheTable() throws {
    let bench = Bench(try Self.topology(limit: 800))
    _ = bench.receive(Self.announcement(2, false), from: 2)
    for number in 0..<500 as Range<UInt32> {
      _ = bench.receive(
        neighborAnnouncement(of: IPAddress(v4: 0x0A01_0000 + number), at: Self.address(1)), from: 1)
    }
    let statistics = bench.neighborStatistics().table
    #expect(statistics.current == 101)
    #expect(statistics.limited == 400)
    #expect(statistics.evicted == 0)
    #expect(bench.neighbors().contains { $0.ip == Self.ip(2, false) })
    #expect(bench.flushNeighbors() == 101)
    #expect(bench.neighborStatistics().table.current == 0)
    _ = bench.receive(Self.announcement(2, false), from: 2)
    #expect(bench.neighbors().count == 1)
  }

  /// A tunnel may fill what the devices leave, and gives way to them.
  @Test func aFullTableTakesFromWhoHoldsTheMost() throws {
    let bench = Bench(try Self.topology(limit: 50))
    for number in 0..<200 as Range<UInt32> {
      let announcement = neighborAnnouncement(
        of: IPAddress(v4: 0x0A01_0000 + number), at: Self.address(9))
      _ = bench.receiveDatagrams(vxlan(100, announcement), from: remoteA)
    }
    #expect(bench.neighborStatistics().table.current == 50)
    #expect(bench.neighborStatistics().table.evicted == 150)
    for station in 1...8 as ClosedRange<UInt8> {
      _ = bench.receive(Self.announcement(station, false), from: 1)
    }
    #expect(bench.neighbors().count { $0.port == PortID(rawValue: 1) } == 8)
    #expect(bench.neighborStatistics().table.current == 50)
  }

  /// Answers of a burst lie side by side until they are sent.
  @Test func aBurstOfQuestions() throws {
    let bench = Bench(try Self.topology())
    for station in 10..<40 as Range<UInt8> {
      _ = bench.receiveDatagrams(vxlan(100, Self.announcement(station, false)), from: remoteA)
      _ = bench.receiveDatagrams(vxlan(100, Self.announcement(station, true)), from: remoteA)
    }
    _ = bench.receive(Self.announcement(1, false), from: 1)
    _ = bench.receive(Self.announcement(1, true), from: 1)
    let stations = (10..<40 as Range<UInt8>).flatMap { [($0, false), ($0, true)] }
    let sent = bench.receive(
      burst: stations.map { Self.question($0.0, from: 1, $0.1) }, from: 1)
    #expect(sent.map(\.bytes) == stations.map { Self.answer($0.0, to: 1, $0.1) })
  }
}
