import OVXDatapath
import OVXSimulation
import Testing

/// Liars and forgers in one VNI, beside others in other ones behind the same VTEP.
@Suite struct TrainProperties {
  @Test func whatOneTenantWritesNoOtherGets() {
    checkProperty("forged superframes", rounds: 150) { seed in
      var run = TrainRun(seed: seed)
      for _ in 0..<40 { try run.forge() }
    }
  }

  @Test func whatOneTenantGetsNoOtherReads() {
    checkProperty("liars in trains", rounds: 150) { seed in
      var run = TrainRun(seed: seed)
      for _ in 0..<40 { try run.lie() }
    }
  }
}

private struct TrainRun {
  private var random: SeededRandom
  private var frames: FrameGenerator
  private let host: SimulatedHost
  private let watch: TenancyWatch
  /// Tunnels of different VNIs to one VTEP.
  private let tunnels: [(port: PortID, vni: VNI)]
  private static let endpoint = ListenerID(rawValue: 0)
  private static let remote = TopologyGenerator.remotes[0]

  /// A bridge with three tenants, each in a VLAN of its own, on devices of different capabilities.
  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    let vlans = [10, 20, 30].compactMap { VLANID(rawValue: $0) }
    frames = FrameGenerator(seed: random.next(), vlans: vlans)
    var topology = Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))])
    var tunnels: [(port: PortID, vni: VNI)] = []
    for (number, vlan) in vlans.enumerated() {
      let first = UInt16(number)
      topology.ports.append(
        Topology.Port(
          id: PortID(rawValue: first), bridge: BridgeID(rawValue: 0), vlans: .access(vlan),
          attachment: .device(
            Topology.Device(mtu: 1450, capabilities: random.oneIn(3) ? [] : .all))))
      let vni = TopologyGenerator.vnis[2 + number]
      let tunnel = PortID(rawValue: 10 + first)
      topology.ports.append(
        Topology.Port(
          id: tunnel, bridge: BridgeID(rawValue: 0), vlans: .access(vlan),
          attachment: .tunnel(
            Topology.Tunnel(
              vni: vni, endpoint: Self.endpoint,
              peers: [
                Topology.Peer(
                  id: RemoteVTEPID(rawValue: 1 + first), remote: Self.remote,
                  paths: UInt32(number) * 16..<UInt32(number) * 16 + 16, mtu: 1450)
              ]))))
      tunnels.append((tunnel, vni))
    }
    self.tunnels = tunnels
    host = SimulatedHost(topology, seed: random.next())
    watch = TenancyWatch(topology, vlans: vlans)
  }

  /// A container's superframe, of any kind and spoilt in any way, with another VNI's header at some
  /// strides.
  mutating func forge() throws {
    let own = random.pick(tunnels)
    let other = random.pick(tunnels)
    let segmentSize = random.oneIn(8) ? random.within(1...70) : random.within(70...700)
    var frame = packet(of: own.vni, payload: random.within(1...12) * segmentSize)
    let segmentEnd = segmentSize - 8
    // The lengths may be right, end in the first stride, or be anything.
    frame.claim(random.oneIn(2) ? frame.count : random.oneIn(2) ? segmentEnd : random.below(3000))
    spoil(&frame)
    // Behind each header a frame that could be forwarded.
    var header = vxlanDatagram(vni: other.vni, frame: [])
    if random.oneIn(4) { header[0] = random.bits(UInt8.self) | 8 }
    if random.oneIn(4) { header[random.within(1...3)] = random.bits(UInt8.self) }
    if random.oneIn(2) { header += packet(of: own.vni, payload: segmentSize).prefix(segmentSize) }
    let mask = random.oneIn(2) ? UInt64.max : random.next()
    let train = HostileTrain(
      superframe: frame, of: own.vni, segmentSize: segmentSize, header: header,
      where: { mask >> UInt64($0 % 64) & 1 != 0 })
    try receive(train, onlyFor: own.port)
  }

  /// A liar whose lengths reach over others' datagrams, at any place of the train.
  mutating func lie() throws {
    let size = random.within(60...600)
    var datagrams: [(vni: VNI, frame: [UInt8])] = []
    for _ in 0..<random.within(2...12) {
      let tenant = random.pick(tunnels).vni
      datagrams.append((tenant, Array(packet(of: tenant, payload: size).prefix(size))))
    }
    for index in datagrams.indices where index == 0 || random.oneIn(4) {
      let rest = (datagrams.count - index) * (size + 8) - 8
      datagrams[index].frame.claim(random.oneIn(3) ? random.below(rest + 100) : rest)
      spoil(&datagrams[index].frame)
    }
    try receive(HostileTrain(datagrams: datagrams), onlyFor: nil)
  }

  private mutating func receive(_ train: HostileTrain, onlyFor port: PortID?) throws {
    let before = tunnels.map { host.datapath.counters(of: $0.port).receivedFrames }
    host.receive(
      train: train.bytes, segmentSize: train.segmentSize, on: Self.endpoint, from: Self.remote,
      trafficClass: random.oneIn(3) ? random.bits(UInt8.self) : 0)
    if random.oneIn(3) { host.endBurst() }
    for (tunnel, count) in zip(tunnels, before) where port != nil && tunnel.port != port {
      guard host.datapath.counters(of: tunnel.port).receivedFrames == count else {
        throw Discrepancy(
          "VNI \(tunnel.vni) gets \(train.bytes.hexadecimal), cut by \(train.segmentSize).")
      }
    }
    if let violation = watch.violation(in: host.takeSent()) ?? host.violations.first {
      throw Discrepancy("\(violation) Cut by \(train.segmentSize): \(train.bytes.hexadecimal)")
    }
  }

  private mutating func packet(of vni: VNI, payload count: Int) -> [UInt8] {
    let source = MACAddress(truncating: 0x0200_0000_0000 | UInt64(vni.rawValue))
    let target = random.oneIn(2) ? MACAddress.broadcast : random.pick(frames.stations)
    var plan = PacketPlan(from: source, to: target)
    plan.isTCP = random.oneIn(3)
    plan.isIPv6 = random.oneIn(2)
    plan.hasExtensionHeader = random.oneIn(4)
    if random.oneIn(4) { plan.tags = [VLANTag(control: random.pick([0, 10, 20]))] }
    plan.payload = TenancyWatch.payload(of: vni, count: count)
    return plan.frame
  }

  /// Changes some bytes of the headers.
  private mutating func spoil(_ frame: inout [UInt8]) {
    for _ in 0..<random.below(4) {
      frame[random.within(12...min(frame.count - 1, 70))] = random.bits(UInt8.self)
    }
  }
}
