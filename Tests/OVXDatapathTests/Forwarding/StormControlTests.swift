import OVXDatapath
import OVXSimulation
import Testing

/// What one port may cost the others in a second.
@Suite struct StormControlTests {
  /// Devices 0 and 5 and a tunnel with three remotes in VLAN 100: a frame that device 0 floods is
  /// copied four times.
  private func bench(_ limits: PortLimits, tunnel tunnelLimits: PortLimits = .none) throws -> Bench
  {
    let third = IPAddress(v4: 0xC0A8_0505)
    var tunnel = try tunnel(1, vni: 100, access100, remotes: [remoteA, remoteB, third])
    tunnel.limits = tunnelLimits
    var noisy = device(0, access100)
    noisy.limits = limits
    var quiet = device(5, access100)
    quiet.limits = limits
    return Bench(topology([noisy, quiet, tunnel]))
  }

  private static let flooded: [(String, [UInt8])] = [
    ("broadcast", frame(to: 0xFF, from: 1)),
    ("multicast", [0x33, 0x33] + frame(to: 0x09, from: 1)[2...]),
    ("unknown unicast", frame(to: 77, from: 1)),
    ("ARP", arpQuestion(from: 1)),
  ]

  private static func arpQuestion(from: UInt8, for address: UInt8 = 99) -> [UInt8] {
    [UInt8](repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, from]
      + [8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, from, 10, 0, 0, from]
      + [0, 0, 0, 0, 0, 0, 10, 0, 0, address] + [UInt8](repeating: 0, count: 18)
  }

  @Test(arguments: flooded)
  func copiesAreCountedAndWhatIsOverTheLimitIsDropped(name: String, bytes: [UInt8]) throws {
    let bench = try bench(PortLimits(floodedCopies: 100))
    bench.beginBurst(5000)
    for _ in 0..<25 { #expect(!bench.receive(bytes, from: 0).isEmpty) }
    #expect(bench.receive(bytes, from: 0) == [])
    #expect(bench.counters(0)[.stormLimit] == 1)
    // Another port has its own, and so has what the same port sends to a known station.
    #expect(!bench.receive(frame(to: 0xFF, from: 5), from: 5).isEmpty)
    #expect(bench.receive(frame(to: 5, from: 1), from: 0).map(\.port.rawValue) == [5])
    #expect(bench.counters(5)[.stormLimit] == 0)
    // A tenth of a second brings ten copies: a debt is paid back first, so two frames and half of a
    // third.
    bench.beginBurst(5100)
    for _ in 0..<3 { #expect(!bench.receive(bytes, from: 0).isEmpty) }
    #expect(bench.receive(bytes, from: 0) == [])
    bench.beginBurst(5120)
    #expect(bench.receive(bytes, from: 0) == [])
    bench.beginBurst(5130)
    #expect(!bench.receive(bytes, from: 0).isEmpty)
    // Nobody saves up more than a second's.
    bench.beginBurst(900_000)
    for _ in 0..<25 { #expect(!bench.receive(bytes, from: 0).isEmpty) }
    #expect(bench.receive(bytes, from: 0) == [])
  }

  @Test func aTunnelHasItsOwn() throws {
    let bench = try bench(.none, tunnel: PortLimits(floodedCopies: 10))
    let datagram = vxlan(100, frame(to: 0xFF, from: 9))
    for _ in 0..<5 { #expect(bench.receiveDatagrams(datagram, from: remoteA).count == 2) }
    #expect(bench.receiveDatagrams(datagram, from: remoteB) == [])
    #expect(bench.counters(1)[.stormLimit] == 1)
  }

  @Test func answersInThePlaceOfNeighborsCountAsCopies() throws {
    let bench = try bench(PortLimits(floodedCopies: 8))
    #expect(!bench.receive(Self.arpQuestion(from: 1), from: 0).isEmpty)
    #expect(!bench.receive(Self.arpQuestion(from: 5), from: 5).isEmpty)
    // Four copies are gone; four answers are left. They are so far apart (`NeighborDoubt`) that
    // none is a repetition.
    let question = Self.arpQuestion(from: 1, for: 5)
    for time in 1...4 as ClosedRange<UInt32> {
      bench.tick(time * 4)
      #expect(bench.receive(question, from: 0).map(\.port.rawValue) == [0])
    }
    bench.tick(5 * 4)
    #expect(bench.receive(question, from: 0) == [])
    #expect(bench.counters(0).answeredFrames == 4)
    #expect(bench.counters(0)[.stormLimit] == 1)
  }

  /// A thousand containers of one host ask at once, each as much as it may need when it starts.
  @Test func anHonestStartIsBelowIt() throws {
    var ports = try [
      tunnel(
        1, vni: 100, access100, remotes: (1...10 as ClosedRange<UInt32>).map { IPAddress(v4: $0) })
    ]
    for number in 2..<52 as Range<UInt16> {
      var port = device(number, access100)
      port.limits = .device
      ports.append(port)
    }
    let bench = Bench(topology(ports))
    for number in 2..<52 as Range<UInt16> {
      for target in 0..<300 {
        let question = Self.arpQuestion(from: UInt8(number), for: UInt8(target % 50 + 100))
        #expect(!bench.receive(question, from: number).isEmpty)
      }
      #expect(bench.counters(number)[.stormLimit] == 0)
    }
  }

  // MARK: Learning

  @Test func newPlacesOfAddressesHaveARate() throws {
    let bench = try bench(PortLimits(newAddresses: 10))
    for station in 100..<110 as Range<UInt8> {
      _ = bench.receive(frame(to: 0xFF, from: station), from: 0)
    }
    #expect(bench.addresses().count == 10)
    // What comes too fast is forwarded, and not learned; what is known is not touched by it.
    #expect(bench.receive(frame(to: 0xFF, from: 110), from: 0).count == 4)
    #expect(bench.addresses().count == 10)
    #expect(bench.addressStatistics().unlearned == 1)
    #expect(bench.receive(frame(to: 100, from: 5), from: 5).map(\.port.rawValue) == [0])
    #expect(bench.receive(frame(to: 5, from: 100), from: 0).map(\.port.rawValue) == [5])
    // Nor does a station move too fast.
    _ = bench.receive(frame(to: 0xFF, from: 5), from: 0)
    #expect(
      bench.addresses().first { $0.address == MACAddress(truncating: 0x0200_0000_0005) }?.port
        .rawValue == 5)
    #expect(bench.addressStatistics().moved == 0)
    bench.beginBurst(100)
    _ = bench.receive(frame(to: 0xFF, from: 110), from: 0)
    #expect(bench.addresses().count == 12)
  }

  @Test func neighborMessagesHaveARate() throws {
    let bench = try bench(PortLimits(neighborMessages: 3))
    for station in 1..<6 as Range<UInt8> {
      #expect(!bench.receive(Self.arpQuestion(from: station), from: 0).isEmpty)
    }
    #expect(bench.neighbors().count == 3)
    #expect(bench.neighborStatistics().unread == 2)
    bench.beginBurst(400)
    _ = bench.receive(Self.arpQuestion(from: 6), from: 0)
    #expect(bench.neighbors().count == 4)
  }

  @Test func otherLimitsBeginAnew() throws {
    let bench = try bench(PortLimits(floodedCopies: 4))
    let bytes = frame(to: 0xFF, from: 1)
    #expect(!bench.receive(bytes, from: 0).isEmpty)
    #expect(bench.receive(bytes, from: 0) == [])
    var noisy = device(0, access100)
    noisy.limits = PortLimits(floodedCopies: 8)
    let quiet = device(5, access100)
    let tunnel = try tunnel(1, vni: 100, access100, remotes: [remoteA])
    bench.apply(topology([noisy, quiet, tunnel]))
    #expect(!bench.receive(bytes, from: 0).isEmpty)
    // The same ones go on where they were.
    for _ in 0..<3 { #expect(!bench.receive(bytes, from: 0).isEmpty) }
    #expect(bench.receive(bytes, from: 0) == [])
    bench.apply(topology([noisy, quiet, tunnel]))
    #expect(bench.receive(bytes, from: 0) == [])
  }

  /// Whatever a port sends, and whenever: never more than a second's and what the time has brought,
  /// and never a frame refused that this would have allowed.
  @Test func theRateHoldsWhateverComes() throws {
    for _ in 0..<20 {
      var random = SeededRandom()
      let rate = UInt32(random.within(1...500))
      let bench = try bench(PortLimits(floodedCopies: rate))
      // In thousandths of a copy.
      var level = Int(rate) * 1000
      var now: UInt32 = .max - 500
      bench.beginBurst(now)
      _ = bench.receive(frame(to: 0xFF, from: 1), from: 5)
      for _ in 0..<400 {
        if random.oneIn(4) {
          let pause = random.below(50)
          now &+= UInt32(pause)
          level = min(level + pause * Int(rate), Int(rate) * 1000)
          bench.beginBurst(now)
        }
        let isAllowed = level > 0
        #expect(bench.receive(frame(to: 0xFF, from: 2), from: 0).isEmpty == !isAllowed, "\(random)")
        if isAllowed { level -= 4000 }
      }
    }
  }

  // MARK: Work

  /// What is sent is what a source is charged for: more for more copies, much less for what joins a
  /// train.
  @Test func workFollowsWhatIsSent() throws {
    let bench = try bench(.none)
    func work(_ body: () -> Void) -> Int64 {
      let before = bench.work
      body()
      return bench.work - before
    }
    _ = bench.receive(frame(to: 0xFF, from: 5), from: 5)
    let toOne = work { _ = bench.receive(frame(to: 5, from: 1), from: 0) }
    let toAll = work { _ = bench.receive(frame(to: 0xFF, from: 1), from: 0) }
    #expect(toAll > 3 * toOne)
    let burst = work {
      _ = bench.receive(burst: .init(repeating: frame(to: 0xFF, from: 1), count: 30), from: 0)
    }
    #expect(burst > toAll && burst < 15 * toAll)
    let nothing = work { _ = bench.receive([1, 2, 3], from: 0) }
    #expect(nothing < toOne)
  }
}
