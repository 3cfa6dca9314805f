import OVXDatapath
import OVXSimulation
import Testing

/// What hosts rely on when they leave cutting and summing to the switch, stated without a
/// reference.
@Suite struct OffloadProperties {
  @Test func aSuperframeCrossesATunnelAsEqualSegmentsOfTheSameStream() {
    checkProperty("segments in a tunnel", rounds: 100) { seed in
      var run = OffloadRun(seed: seed)
      try run.sendSuperframe()
    }
  }

  @Test func aFloodedSuperframeReachesEverybodyWhole() {
    checkProperty("flooded superframe", rounds: 12) { seed in
      var random = SeededRandom(seed: seed)
      try flood(&random)
    }
  }

  @Test func aMissingChecksumIsThereBehindATunnel() {
    checkProperty("checksums in a tunnel", rounds: 100) { seed in
      var run = OffloadRun(seed: seed)
      try run.sendPartialFrame()
    }
  }

  @Test func aTrainIsDeliveredAsTheStreamThatItWas() {
    checkProperty("GRO", rounds: 100) { seed in
      var run = OffloadRun(seed: seed)
      try run.receiveTrain()
    }
  }
}

/// More datagrams than the switch has memory for at a time, besides devices that take the frame as
/// it is: nothing that is done for one egress may show at another.
private func flood(_ random: inout SeededRandom) throws {
  let vlan = VLANID(rawValue: 7) ?? .untagged
  var ports = (0..<4).map { number in
    let capabilities: OffloadCapabilities = random.oneIn(2) ? .all : [.checksum]
    return Topology.Port(
      id: PortID(rawValue: UInt16(number)), bridge: BridgeID(rawValue: 0),
      vlans: random.oneIn(2) ? .trunk(nil) : .access(vlan),
      attachment: .device(
        Topology.Device(mtu: random.pick([1400, 9000]), capabilities: capabilities)))
  }
  for number in 0..<10 {
    let peer = Topology.Peer(
      id: RemoteVTEPID(rawValue: UInt16(number + 1)), remote: TopologyGenerator.remotes[number],
      paths: UInt32(number)..<UInt32(number) + 1, mtu: random.pick([1280, 1450]))
    ports.append(
      Topology.Port(
        id: PortID(rawValue: UInt16(number + 4)), bridge: BridgeID(rawValue: 0),
        vlans: random.oneIn(2) ? .trunk(nil) : .access(vlan),
        attachment: .tunnel(
          Topology.Tunnel(
            vni: TopologyGenerator.vnis[1], endpoint: ListenerID(rawValue: 0), peers: [peer]))))
  }
  ports.shuffle(using: &random)
  let topology = Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))], ports: ports)
  let host = SimulatedHost(topology, seed: random.next())
  var reference = ReferenceSwitch()
  reference.apply(topology)
  var plan = PacketPlan(from: MACAddress(truncating: 0x0200_0000_0001), to: .broadcast)
  plan.isIPv6 = random.oneIn(2)
  plan.payload = random.octets(random.within(50_000...64_000))
  let frame = plan.superframe(segmentSize: random.within(1000...1380))
  let ingress = PortID(rawValue: UInt16(random.below(4)))
  let tag =
    topology.port(ingress)?.vlans == .access(vlan) ? VLANTag.none : VLANTag(control: 0x6007)
  let outcome = reference.receive(frame, tag: tag, from: ingress)
  host.receive(frame, tag: tag, from: ingress)
  host.endBurst()
  let sent = host.takeSent()
  if let violation = host.violations.first { throw Discrepancy(violation) }
  let actual = try Traffic(sent, in: topology)
  if let difference = actual.difference(from: try Traffic(outcome.deliveries)) {
    throw Discrepancy(difference)
  }
}

/// A device and a tunnel with one remote in a segment; the tunnel carries tags or not.
private struct OffloadRun {
  private static let device = PortID(rawValue: 0)
  private static let remote = IPAddress(v4: 0xC0A8_0503)
  private static let station = MACAddress(truncating: 0x0200_0000_0001)
  private static let stranger = MACAddress(truncating: 0x0200_0000_0002)

  private var random: SeededRandom
  private var frames: FrameGenerator
  private let host: SimulatedHost
  private let mtu: Int

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    frames = FrameGenerator(seed: random.next(), vlans: [])
    mtu = random.pick([1280, 1450, 1450, 8950])
    let vlan = VLANID(rawValue: random.oneIn(2) ? 0 : 7) ?? .untagged
    let device = Topology.Port(
      id: Self.device, bridge: BridgeID(rawValue: 0), vlans: .access(vlan),
      attachment: .device(Topology.Device(mtu: mtu, capabilities: .all)))
    let peer = Topology.Peer(
      id: RemoteVTEPID(rawValue: 1), remote: Self.remote, paths: 0..<4, mtu: mtu)
    let tunnel = Topology.Port(
      id: PortID(rawValue: 1), bridge: BridgeID(rawValue: 0),
      vlans: random.oneIn(2) ? .trunk(nil) : .access(vlan),
      attachment: .tunnel(
        Topology.Tunnel(
          vni: TopologyGenerator.vnis[2], endpoint: ListenerID(rawValue: 0), peers: [peer])))
    host = SimulatedHost(
      Topology(
        bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))], ports: [device, tunnel]),
      seed: random.next())
  }

  private mutating func packet(isTCP: Bool?) -> PacketPlan {
    var plan = frames.packet(tags: [], isTCP: isTCP)
    plan.source = Self.station
    plan.destination = Self.stranger
    plan.ipOptions = []
    plan.hasExtensionHeader = false
    return plan
  }

  /// What left by the tunnel, without the VXLAN header.
  private func tunnelled() throws -> [[UInt8]] {
    host.endBurst()
    let sent = host.takeSent()
    if let violation = host.violations.first { throw Discrepancy(violation) }
    return try sent.map { sent in
      guard case .datagram(let bytes, _, _, _) = sent else {
        throw Discrepancy("A frame went back to the only device.")
      }
      return Array(bytes.dropFirst(8))
    }
  }

  mutating func sendSuperframe() throws {
    var plan = packet(isTCP: nil)
    let room = mtu + 14 - plan.headerLength - 4
    let segmentSize = random.within(plan.isTCP ? 48...room + 300 : 48...room)
    plan.payload = random.octets(random.within(1...min(30_000, segmentSize * 64)))
    host.receive(plan.superframe(segmentSize: segmentSize), from: Self.device)
    let segments = try tunnelled()
    var stream: [UInt8] = []
    var sequence = plan.sequence
    for (index, segment) in segments.enumerated() {
      guard let anatomy = FrameAnatomy(segment), let payload = anatomy.payload(in: segment),
        anatomy.hasRightChecksum(in: segment) == true, let packet = anatomy.packet
      else { throw Discrepancy("Segment \(index) is broken: \(segment.hexadecimal)") }
      guard packet.end == segment.count, segment.count - 14 <= mtu else {
        throw Discrepancy("Segment \(index) has \(segment.count) bytes, MTU \(mtu).")
      }
      guard index + 1 == segments.count || segment.count == segments[0].count,
        segment.count <= segments[0].count
      else { throw Discrepancy("Segment \(index) differs in size from the first.") }
      if !packet.isIPv6 {
        let header = segment[anatomy.network..<packet.transport]
        guard onesComplementSum(header) == 0xFFFF else {
          throw Discrepancy("Segment \(index) has a wrong IPv4 checksum.")
        }
      }
      if packet.isTCP {
        let actual = segment.number(at: packet.transport + 4, count: 4)
        guard actual == UInt64(sequence) else {
          throw Discrepancy("Segment \(index) has a wrong sequence number.")
        }
        sequence &+= UInt32(payload.count)
      } else if payload.count != segmentSize, index + 1 < segments.count {
        throw Discrepancy("Datagram \(index) has \(payload.count) bytes, not \(segmentSize).")
      }
      stream += payload
    }
    guard stream == plan.payload else { throw Discrepancy("The payload has changed.") }
  }

  mutating func sendPartialFrame() throws {
    var plan = packet(isTCP: nil)
    plan.payload = random.octets(random.below(1000))
    host.receive(plan.partialFrame, from: Self.device)
    let sent = try tunnelled()
    guard sent.count == 1, let anatomy = FrameAnatomy(sent[0]),
      anatomy.hasRightChecksum(in: sent[0]) == true,
      anatomy.payload(in: sent[0]) == plan.payload[...]
    else { throw Discrepancy("\(sent.map(\.hexadecimal)) for \(plan.frame.hexadecimal)") }
  }

  /// The segments of one stream, in trains; superframes may come out, and have to hold the stream.
  mutating func receiveTrain() throws {
    guard case .tunnel(let tunnel) = host.topology.ports[1].attachment else { return }
    var plan = packet(isTCP: true)
    plan.tcpFlags = 0x18
    let segmentSize = random.within(100...mtu + 14 - plan.headerLength - 4)
    plan.payload = random.octets(random.within(1...min(30_000, segmentSize * 60)))
    if case .trunk = host.topology.ports[1].vlans,
      case .access(let vlan) = host.topology.ports[0].vlans
    {
      plan.tags = vlan == .untagged ? [] : [VLANTag(control: vlan.rawValue)]
    }
    let segments = plan.superframe(segmentSize: segmentSize).wireFrames ?? []
    var rest = segments.map { vxlanDatagram(vni: tunnel.vni, frame: $0) }[...]
    while !rest.isEmpty {
      let train = rest.prefix(random.within(1...40))
      rest = rest.dropFirst(train.count)
      host.receive(
        train: train.flatMap { $0 }, segmentSize: train.first?.count ?? 0,
        on: tunnel.endpoint, from: Self.remote)
      if random.oneIn(3) { host.endBurst() }
    }
    host.endBurst()
    let sent = host.takeSent()
    if let violation = host.violations.first { throw Discrepancy(violation) }
    var stream: [UInt8] = []
    for case .frame(let frame, Self.device) in sent {
      for wire in frame.wireFrames ?? [] {
        guard let anatomy = FrameAnatomy(wire), let payload = anatomy.payload(in: wire),
          anatomy.hasRightChecksum(in: wire) == true
        else { throw Discrepancy("A delivered frame is broken: \(wire.hexadecimal)") }
        stream += payload
      }
    }
    guard stream == plan.payload else {
      throw Discrepancy("\(stream.count) bytes of \(plan.payload.count) were delivered, or others.")
    }
    // The whole point: a long train is delivered as few frames.
    guard sent.count <= segments.count else {
      throw Discrepancy("There are more frames than came.")
    }
  }
}
