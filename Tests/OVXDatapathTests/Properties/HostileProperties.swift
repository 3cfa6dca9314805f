import OVXDatapath
import OVXSimulation
import Testing

/// Bytes, lengths and offload requests that nobody honest would send, to every door of the switch.
@Suite struct HostileProperties {
  @Test func nothingStopsTheSwitchAndNothingIsLostUncounted() {
    checkProperty("hostile input", rounds: 40) { seed in
      var run = HostileRun(seed: seed)
      for _ in 0..<80 { try run.step() }
    }
  }
}

/// A switch that is handed rubbish, one piece per burst, so that each can be accounted for.
private struct HostileRun {
  private var random: SeededRandom
  private var frames: FrameGenerator
  private var topologies: TopologyGenerator
  private let host: SimulatedHost
  private var now: UInt32 = 0

  /// All that the switch counts.
  private struct Count: Equatable {
    var received: UInt64 = 0
    var sent: UInt64 = 0
    var dropped: UInt64 = 0
    /// For a group that nobody else is in.
    var unheard: UInt64 = 0
    /// Drops at no port.
    var undelivered: UInt64 = 0
  }

  init(seed: UInt64) {
    random = SeededRandom(seed: seed)
    topologies = TopologyGenerator(seed: random.next())
    frames = FrameGenerator(seed: random.next(), vlans: topologies.vlans)
    host = SimulatedHost(topologies.generate(), seed: random.next())
  }

  mutating func step() throws {
    if random.oneIn(20) { host.apply(topologies.change()) }
    if random.oneIn(10) {
      now &+= random.bits(UInt32.self) >> UInt32(random.below(32))
      host.tick(now: now)
    }
    let before = count()
    let (handedIn, ingress) = random.oneIn(2) ? receiveFrame() : receiveTrain()
    host.endBurst()
    let sent = host.takeSent()
    if let violation = host.violations.first { throw Discrepancy(violation) }
    for case .frame(_, let port) in sent where port == ingress {
      throw Discrepancy("A frame left by port \(port.rawValue), by which it had come.")
    }
    _ = try Traffic(sent, in: host.topology)
    try account(handedIn, isKnown: ingress.map { host.topology.port($0) != nil } ?? true, before)
  }

  /// Every frame is received or dropped at the door; and it leaves or is dropped, or both where it
  /// was flooded.
  private func account(_ handedIn: Int, isKnown: Bool, _ before: Count) throws {
    guard isKnown else { return }
    let after = count()
    let received = after.received - before.received
    let undelivered = after.undelivered - before.undelivered
    let dropped = after.dropped - before.dropped
    let sent = after.sent - before.sent
    // A waiting port receives nothing, and drops it.
    let accounted = received + undelivered + (received == 0 ? dropped : 0)
    // A train that is one superframe of datagrams in truth counts as a frame.
    guard accounted == handedIn || (accounted == 1 && handedIn > 1) else {
      throw Discrepancy(
        "\(handedIn) frames came in; \(received) were received, \(undelivered) belong to no port.")
    }
    let unheard = after.unheard - before.unheard
    guard sent + dropped + unheard + undelivered >= accounted else {
      throw Discrepancy(
        "\(handedIn) frames came in; \(sent) left, \(dropped + undelivered) were dropped.")
    }
  }

  private func count() -> Count {
    var count = Count()
    for port in topologies.topology.ports {
      let counters = host.datapath.counters(of: port.id)
      count.received += counters.receivedFrames
      count.sent += counters.sentFrames
      count.unheard += counters.unheardFrames
      count.dropped += counters.dropsByReason.reduce(0, +)
    }
    count.undelivered = host.datapath.counters(of: .none).dropsByReason.reduce(0, +)
    return count
  }

  // MARK: Rubbish

  private mutating func receiveFrame() -> (Int, PortID?) {
    var frame = PartialFrame(rubbish(), offload: random.oneIn(2) ? frames.offload() : .none)
    if random.oneIn(3) {
      frame = frames.input().frame
      for _ in 0..<random.below(3) { frame = frames.broken(frame) }
    }
    var tag = VLANTag.none
    if random.oneIn(4) {
      // The kernel knows no other tag protocols.
      tag = VLANTag(control: random.bits(UInt16.self), protocolID: random.pick([0x8100, 0x88A8]))
    }
    let known = host.topology.ports.map(\.id)
    let port =
      random.oneIn(10) || known.isEmpty
      ? PortID(rawValue: random.bits(UInt16.self)) : random.pick(known)
    host.receive(frame, tag: tag, from: port)
    return (1, port)
  }

  private mutating func receiveTrain() -> (Int, PortID?) {
    var bytes = rubbish()
    if random.oneIn(2) {
      let vni = random.pick(TopologyGenerator.vnis)
      bytes = (0..<random.within(1...5)).flatMap { _ in
        vxlanDatagram(vni: vni, frame: frames.broken(frames.input().frame).bytes)
      }
    }
    let size = random.pick([
      0, 1, 8, 22, 60, bytes.count, bytes.count - 1, bytes.count / 2, -1, Int.min, Int.max,
      random.below(2000),
    ])
    let remote =
      random.oneIn(8)
      ? IPAddress(v4: random.bits(UInt32.self)) : random.pick(TopologyGenerator.remotes)
    let endpoint = random.oneIn(8) ? random.bits(UInt16.self) : UInt16(random.below(2))
    host.receive(
      train: bytes, segmentSize: size, on: ListenerID(rawValue: endpoint), from: remote)
    let stride = size > 0 ? size : max(bytes.count, 1)
    return (max(1, (bytes.count - 1) / stride + 1), nil)
  }

  /// Any bytes, now and then as many as a socket can give.
  private mutating func rubbish() -> [UInt8] {
    let length = random.oneIn(40) ? random.below(65_536) : random.below(300)
    var bytes =
      random.oneIn(4)
      ? [UInt8](repeating: random.bits(UInt8.self), count: length) : random.octets(length)
    // Addresses and types that lead further into the switch.
    if random.oneIn(2), bytes.count >= 16 {
      bytes[6] &= 0xFE
      let types: [UInt16] = [0x0800, 0x86DD, 0x8100, 0x88A8, 0x0806]
      bytes.setNumber(random.pick(types), at: 12)
      if random.oneIn(2) { bytes[14] = random.pick([0x45, 0x4F, 0x46, 0x60]) }
      if random.oneIn(2) {
        bytes.setNumber(UInt16(truncatingIfNeeded: bytes.count - 14), at: 16)
      }
      if random.oneIn(2), bytes.count > 24 { bytes[23] = random.pick([6, 17]) }
    }
    if random.oneIn(4), bytes.count >= 8 {
      let vni = random.pick(TopologyGenerator.vnis)
      bytes.replaceSubrange(0..<8, with: vxlanDatagram(vni: vni, frame: []))
    }
    return bytes
  }
}
