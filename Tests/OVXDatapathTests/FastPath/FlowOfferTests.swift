import OVXDatapath
import OVXSimulation
import Testing

/// Which decisions are offered to be repeated, what is told of them, and what follows from their
/// use.
@Suite struct FlowOfferTests {
  private static let here = MACAddress(truncating: 0x0200_0000_0001)
  private static let there = MACAddress(truncating: 0x0200_0000_0002)

  /// Two veths and a tunnel on the fast path.
  private static func ports() throws -> [Topology.Port] {
    var ports = [device(0, access100), device(1, access100)]
    for number in ports.indices {
      guard case .device(var device) = ports[number].attachment else { continue }
      device.fastPathIndex = UInt32(number) + 10
      ports[number].attachment = .device(device)
    }
    var port = try tunnel(2, vni: 0x64, access100, remotes: [remoteA])
    guard case .tunnel(var tunnel) = port.attachment else { return [] }
    tunnel.peers[0].mtu = 1450
    tunnel.peers[0].fastPath = FastPathRoute(
      device: 20,
      outer: OuterPath(
        source: MACAddress(truncating: 0x0A_0102_0304_05),
        destination: MACAddress(truncating: 0x0A_0607_0809_0A), local: IPAddress(v4: 0xC0A8_0502),
        remote: remoteA, port: 4789, trafficClass: 0x28))
    port.attachment = .tunnel(tunnel)
    return ports + [port]
  }

  /// A host that has heard both stations: one on port 0, the other by the port that is given.
  @safe private final class Host {
    let host: SimulatedHost
    private let numbers: UnsafeMutablePointer<UInt64>

    init(_ ports: [Topology.Port], there port: UInt16) {
      unsafe numbers = .allocate(capacity: 1024)
      unsafe numbers.initialize(repeating: 1, count: 1024)
      host = SimulatedHost(topology(ports), seed: 1)
      unsafe host.datapath.offerFlows(by: Generations(numbers, count: 1024, seed: 7))
      host.tick(now: 100)
      send(PacketPlan(from: there, to: here), from: port)
    }

    deinit { unsafe numbers.deallocate() }

    /// Receives a packet, and returns what is offered then.
    @discardableResult
    func send(_ plan: PacketPlan, from port: UInt16, tag: VLANTag = .none) -> [FlowOffer] {
      if port == 2 {
        host.receive(
          train: vxlan(0x64, plan.frame), segmentSize: 0,
          on: ListenerID(rawValue: 0), from: remoteA)
      } else {
        host.receive(PartialFrame(plan.frame), tag: tag, from: PortID(rawValue: port))
      }
      host.endBurst()
      var offers: [FlowOffer] = []
      while let offer = host.datapath.takeFlowOffer() { offers.append(offer) }
      return offers
    }
  }

  @Test func betweenTwoDevices() throws {
    let host = Host(try Self.ports(), there: 1)
    let offers = host.send(PacketPlan(from: Self.here, to: Self.there), from: 0)
    let offer = try #require(offers.first)
    #expect(offers.count == 1)
    #expect(offer.origin == Destination(port: PortID(rawValue: 0)))
    #expect(offer.destination == Destination(port: PortID(rawValue: 1)))
    #expect(offer.source == Self.here && offer.target == Self.there)
    let found = host.host.datapath.flow(of: offer)
    let flow = try #require(found)
    #expect(flow.device == 10 && flow.egress == 11 && flow.mtu == 1500)
    #expect(flow.tunnel == nil && flow.header == nil)
    // Once is enough, until it is forgotten.
    #expect(host.send(PacketPlan(from: Self.here, to: Self.there), from: 0).isEmpty)
    host.host.datapath.forgetFlowOffers()
    #expect(host.send(PacketPlan(from: Self.here, to: Self.there), from: 0).count == 1)
  }

  /// RFC 791, RFC 768 and RFC 7348, byte for byte.
  @Test func intoATunnel() throws {
    let host = Host(try Self.ports(), there: 2)
    let offer = try #require(
      host.send(PacketPlan(from: Self.here, to: Self.there), from: 0).first)
    let found = host.host.datapath.flow(of: offer)
    let flow = try #require(found)
    #expect(flow.device == 10 && flow.egress == 20 && flow.mtu == 1450)
    let header = try #require(flow.header)
    let bytes = unsafe withUnsafeBytes(of: header.words) { unsafe Array($0.prefix(50)) }
    #expect(
      bytes
        == hex("0A0607080 90A 0A0102030405 0800 45280000 00004000 40110000 C0A80502 C0A80503")
        + hex("0000 12B5 0000 0000 08000000 00006400"))
    var sum: UInt32 = 0
    for word in stride(from: 14, to: 34, by: 2) {
      sum += UInt32(bytes[word]) | UInt32(bytes[word + 1]) << 8
    }
    #expect(header.sum == sum)
  }

  @Test func outOfATunnel() throws {
    let host = Host(try Self.ports(), there: 2)
    host.send(PacketPlan(from: Self.here, to: Self.there), from: 0)
    let offer = try #require(
      host.send(PacketPlan(from: Self.there, to: Self.here), from: 2).first)
    let found = host.host.datapath.flow(of: offer)
    let flow = try #require(found)
    #expect(flow.device == 20 && flow.egress == 10 && flow.header == nil)
    let tunnel = try #require(flow.tunnel)
    #expect(tunnel.vni == 0x64 && tunnel.header.remote == 0xC0A8_0503)
    #expect(tunnel.header.local == 0xC0A8_0502 && tunnel.header.port == 4789)
  }

  /// What depends on more than where a frame came from and its addresses is never offered.
  @Test func nothingElse() throws {
    let plan = PacketPlan(from: Self.here, to: Self.there)
    var ports = try Self.ports()
    func offers(_ ports: [Topology.Port], _ plan: PacketPlan = plan, tag: VLANTag = .none) -> Int {
      Host(ports, there: 2).send(plan, from: 0, tag: tag).count
    }
    #expect(offers(ports) == 1)
    var datagram = plan
    datagram.isTCP = false
    #expect(offers(ports, datagram) == 0, "a datagram")
    #expect(
      offers(ports, PacketPlan(from: Self.here, to: MACAddress(truncating: 0x0200_0000_0009))) == 0,
      "unknown")
    #expect(offers(ports, PacketPlan(from: Self.here, to: .broadcast)) == 0, "flooded")
    ports[0].vlans = .trunk([vlan(100)])
    #expect(
      offers(ports, tag: VLANTag(control: 100)) == 0, "a tagged frame")
    ports = try Self.ports()
    ports[2].vlans = .trunk([vlan(100)])
    #expect(offers(ports) == 0, "a frame that gets a tag")
    for change in ["inherit", "two tunnels", "IPv6", "no route"] {
      ports = try Self.ports()
      guard case .tunnel(var tunnel) = ports[2].attachment else { return }
      switch change {
      case "inherit": tunnel.outerHeader.inheritsHopLimit = true
      case "two tunnels":
        ports.append(
          try OVXDatapathTests.tunnel(3, vni: 0x64, access100, remotes: [remoteA], firstPeer: 5))
      case "IPv6": tunnel.peers[0].fastPath?.outer.local = IPAddress(v6High: 1, low: 1)
      default: tunnel.peers[0].fastPath = nil
      }
      ports[2].attachment = .tunnel(tunnel)
      #expect(offers(ports) == 0, "\(change)")
    }
  }

  /// Of a port that is told what it may send, a decision is for one of the addresses that it may
  /// send from.
  @Test func byASender() throws {
    var ports = try Self.ports()
    let plan = PacketPlan(from: Self.here, to: Self.there)
    var other = plan
    other.sourceHost = 9
    let address = try #require(IPAddress(octets: plan.frame[26..<30]))
    ports[0].security = PortSecurity(
      stations: [Self.here], addresses: [PortSecurity.Prefix(base: address, length: 32)])
    let host = Host(ports, there: 2)
    let offers = host.send(plan, from: 0)
    #expect(offers.map(\.sender) == [address])
    #expect(host.send(other, from: 0).isEmpty, "and of what is refused there is none")
    #expect(host.send(PacketPlan(from: Self.there, to: Self.here), from: 2).map(\.sender) == [nil])
    let offer = try #require(offers.first)
    host.host.datapath.noteRefused(offer, frames: 3)
    #expect(host.host.datapath.counters(of: PortID(rawValue: 0))[.malformedOffload] == 3)
    // Each of its addresses has a decision of its own.
    ports[0].security = PortSecurity(stations: [Self.here])
    let both = Host(ports, there: 2)
    #expect(both.send(plan, from: 0).count + both.send(other, from: 0).count == 2)
    #expect(both.send(plan, from: 0).isEmpty, "once")
  }

  /// What was forwarded elsewhere is counted, and keeps a station as young as a frame does.
  @Test func whatIsForwardedCounts() throws {
    let host = Host(try Self.ports(), there: 2)
    let offer = try #require(
      host.send(PacketPlan(from: Self.here, to: Self.there), from: 0).first)
    let before = host.host.datapath.counters(of: PortID(rawValue: 2))
    func age() -> UInt32? {
      host.host.datapath.addresses(of: BridgeID(rawValue: 0)).first { $0.address == Self.here }?.age
    }
    host.host.tick(now: 250)
    #expect(age() == 150)
    host.host.datapath.noteForwarded(
      offer, frames: 2, segments: 90, byteCount: 130_000, isCurrent: false)
    #expect(age() == 150, "what is revoked says nothing of where a station is")
    host.host.datapath.noteForwarded(
      offer, frames: 2, segments: 90, byteCount: 130_000, isCurrent: true)
    #expect(age() == 0)
    let after = host.host.datapath.counters(of: PortID(rawValue: 2))
    #expect(after.sentFrames - before.sentFrames == 180)
    #expect(after.sentBytes - before.sentBytes == 260_000)
    // A superframe counts once where it came in whole.
    #expect(host.host.datapath.counters(of: PortID(rawValue: 0)).receivedFrames == 1 + 4)
  }
}
