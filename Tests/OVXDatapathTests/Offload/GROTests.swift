import OVXDatapath
import OVXSimulation
import Testing

/// Plays the datapath: offers frames to GRO as the protocol of its documentation says, and
/// collects what is to be sent.
@safe
private struct Burst: ~Copyable {
  @safe struct Emission {
    let frame: UnsafeMutableRawPointer
    let count: Int
    var offload: Offload
    /// What is sent, where GRO has changed it.
    var superframe: [UInt8]?
    var frameCount = 1
  }

  var gro = GRO()
  var emissions: [Emission] = []
  var mergedCount = 0

  /// Offers a frame that leaves by a device, and emits it if it does not merge.
  mutating func offer(
    _ frame: UnsafeMutableRawPointer, count: Int, offload: Offload, port: PortID,
    capabilities: OffloadCapabilities = .all
  ) {
    switch unsafe gro.absorb(
      frame, count: count, FrameLayout(frame, count: count), offload: offload, port: port,
      capabilities: capabilities)
    {
    case .merged: mergedCount += 1
    case .separate(let mayOpen):
      unsafe emissions.append(Emission(frame: frame, count: count, offload: offload))
      if mayOpen {
        unsafe gro.open(frame, port: port, transmission: emissions.count - 1)
      }
    }
  }

  /// The frames on the wire: what was joined is cut again, what is partial completed.
  mutating func finish() -> [[UInt8]] {
    while let done = gro.finishNext() {
      var bytes = unsafe octets(emissions[done.transmission].frame, done.headCount)
      unsafe gro.forEachPayload(of: done) { payload in
        unsafe bytes += UnsafeRawBufferPointer(start: payload.base, count: payload.count)
      }
      #expect(bytes.count == done.byteCount)
      emissions[done.transmission].superframe = bytes
      emissions[done.transmission].offload = done.offload
      emissions[done.transmission].frameCount = done.frameCount
    }
    #expect(emissions.reduce(0) { $0 + $1.frameCount } == emissions.count + mergedCount)
    var frames: [[UInt8]] = []
    for emission in emissions {
      guard let superframe = emission.superframe else {
        _ = unsafe completeChecksum(
          emission.frame, count: emission.count, offload: emission.offload,
          FrameLayout(emission.frame, count: emission.count))
        frames.append(unsafe octets(emission.frame, emission.count))
        continue
      }
      #expect(superframe.count <= 65535)
      guard
        let segments = GSOTests.cut(
          superframe, emission.offload, segmentSize: Int(emission.offload.segmentSize), prefix: [],
          train: 1000)
      else {
        Issue.record("not a superframe")
        continue
      }
      #expect(segments.count == emission.frameCount)
      frames += segments
    }
    return frames
  }
}

@Suite struct GROTests {
  private let port = PortID(rawValue: 3)

  /// A flow's packets, each of `size` bytes of payload, one continuing the other.
  private static func train(
    _ count: Int, size: Int = 1448, isIPv6: Bool = false, isUDP: Bool = false
  ) -> [ReferencePacket] {
    (0..<count).map { index in
      var packet = ReferencePacket()
      packet.isUDP = isUDP
      packet.isIPv6 = isIPv6
      packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
      packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
      packet.tcpOptions = hex("0101080A0000000100000002")
      packet.sequence = 0xFFFF_F000 &+ UInt32(index * size)
      packet.identification += index
      packet.payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index) }
      return packet
    }
  }

  /// Lays frames out as a train of datagrams, each behind 8 bytes, and offers them all.
  ///
  /// - Returns: Transmissions, and the frames that they amount to on the wire.
  private func run(_ frames: [[UInt8]], _ offload: Offload = .none) -> (Int, [[UInt8]]) {
    let total = frames.reduce(0) { $0 + 8 + $1.count }
    let memory = GuardedMemory(total)
    var place = unsafe memory.end - total
    var burst = Burst()
    var places: [UnsafeMutableRawPointer] = unsafe []
    for frame in frames {
      unsafe place += 8
      unsafe place.copyMemory(from: frame, byteCount: frame.count)
      unsafe places.append(place)
      unsafe place += frame.count
    }
    for (index, frame) in frames.enumerated() {
      unsafe burst.offer(
        places[index], count: frame.count, offload: offload, port: port)
    }
    let sent = burst.finish()
    return (burst.emissions.count, sent)
  }

  @Test(arguments: [false, true])
  func wholeTrain(isIPv6: Bool) {
    var packets = Self.train(44, isIPv6: isIPv6)
    packets[43].payload.removeLast(448)
    packets[43].flags |= 0x08
    let frames = packets.map(\.frame)
    let (count, sent) = run(frames)
    #expect(count == 1)
    let isSame = sent == frames
    #expect(isSame)
  }

  @Test(arguments: [false, true])
  func partialChecksums(isIPv6: Bool) {
    let packets = Self.train(10, isIPv6: isIPv6)
    let offload = Offload(
      flags: .needsChecksum, checksumStart: UInt16(packets[0].transportOffset), checksumOffset: 16)
    let (count, sent) = run(packets.map { $0.frame(partial: true) }, offload)
    #expect(count == 1)
    let isSame = sent == packets.map(\.frame)
    #expect(isSame)
  }

  @Test func superframeIsFinished() throws {
    let packets = Self.train(3)
    let memory = GuardedMemory(8192)
    var burst = Burst()
    for (index, packet) in packets.enumerated() {
      let place = unsafe memory.start + 2000 * index
      unsafe place.copyMemory(from: packet.frame, byteCount: packet.frame.count)
      unsafe burst.offer(
        place, count: packet.frame.count, offload: .none, port: port)
    }
    let frames = burst.finish()
    #expect(frames == packets.map(\.frame))
    #expect(burst.emissions.count == 1)
    let done = burst.emissions[0]
    #expect(
      done.offload
        == Offload(
          flags: .needsChecksum, segmentation: .tcp4, headerLength: 66, segmentSize: 1448,
          checksumStart: 34, checksumOffset: 16))
    var whole = packets[0]
    whole.payload = packets.flatMap(\.payload)
    let isWhole = done.superframe == whole.frame(partial: true)
    #expect(isWhole)
  }

  /// Changes to the second of three segments, and how many transmissions come of it.
  @Test(arguments: [false, true])
  func whatDoesNotJoin(isIPv6: Bool) {
    func transmissions(
      broken: (inout [UInt8]) -> Void = { _ in }, _ change: (inout ReferencePacket) -> Void
    ) -> Int {
      var packets = Self.train(3, size: 100, isIPv6: isIPv6)
      change(&packets[1])
      var frames = packets.map(\.frame)
      broken(&frames[1])
      let (count, sent) = run(frames)
      let isSame = sent == frames
      #expect(isSame)
      return count
    }
    func broken(_ change: (inout [UInt8]) -> Void) -> Int {
      transmissions(broken: change) { _ in }
    }
    #expect(transmissions { _ in } == 1)
    // The second opens a superframe of its own, which the third does or does not continue.
    #expect(transmissions { $0.acknowledgment += 1 } == 3)
    #expect(transmissions { $0.window += 1 } == 3)
    #expect(transmissions { $0.urgentPointer += 1 } == 3)
    #expect(transmissions { $0.reserved = 1 } == 3)
    #expect(transmissions { $0.timeToLive -= 1 } == 3)
    #expect(transmissions { $0.trafficClass = 2 } == 3)
    #expect(transmissions { $0.tcpOptions[11] = 3 } == 3)
    #expect(transmissions { $0.tcpOptions = [] } == 3)
    #expect(transmissions { $0.sequence += 1 } == 3)
    #expect(transmissions { $0.sequence -= 100 } == 3)
    #expect(transmissions { $0.payload += [1] } == 3)
    for flag: UInt8 in [0x01, 0x02, 0x04, 0x20, 0x40, 0x80] {
      #expect(transmissions { $0.flags |= flag } == 3)
    }
    #expect(transmissions { $0.flags = 0 } == 3)
    #expect(transmissions { $0.payload = [] } == 3)
    // Joins, and is the last one.
    #expect(transmissions { $0.payload.removeLast() } == 2)
    #expect(transmissions { $0.flags |= 0x08 } == 2)
    // Another flow in between does not disturb.
    #expect(transmissions { $0.sourcePort += 1 } == 3)
    #expect(transmissions { $0.source[0] ^= 4 } == 3)
    #expect(transmissions { $0.destination[5] ^= 1 } == 3)
    #expect(transmissions { $0.sourceAddress[3] ^= 1 } == 3)
    #expect(transmissions { $0.tags = [[0x8100, 9]] } == 3)
    if isIPv6 {
      #expect(transmissions { $0.flowLabel = 5 } == 3)
      #expect(
        transmissions {
          $0.extensions = [.init(number: 60, bytes: [UInt8](repeating: 0, count: 7))]
        } == 3)
    } else {
      #expect(transmissions { $0.fragment = 0 } == 3)
      #expect(transmissions { $0.fragment = 0xC000 } == 3)
      #expect(transmissions { $0.fragment = 0x6000 } == 3)
      #expect(transmissions { $0.ipOptions = [1, 1, 1, 1] } == 3)
      // Broken IPv4 header checksum.
      #expect(broken({ $0[24] ^= 1 }) == 3)
    }
    // Broken TCP checksum, or payload; data offset of 4.
    #expect(broken({ $0[$0.count - 1] ^= 1 }) == 3)
    let offset = isIPv6 ? 54 + 12 : 34 + 12
    #expect(broken({ $0[offset] = 0x40 }) == 3)
  }

  @Test func brokenFirstFrame() {
    for byte in [24, 36 + 16, 200] {
      var frames = Self.train(4, size: 200).map(\.frame)
      frames[0][byte] ^= 0x10
      let (count, sent) = run(frames)
      #expect(count == 2)
      let isSame = sent == frames
      #expect(isSame)
    }
  }

  /// Where a packet may be fragmented, its identification means something.
  @Test func identification() {
    var packets = Self.train(6)
    for index in packets.indices {
      packets[index].fragment = 0
      if index > 2 { packets[index].identification += 1 }
    }
    let frames = packets.map(\.frame)
    var (count, sent) = run(frames)
    #expect(count == 2)
    var isSame = sent == frames
    #expect(isSame)
    // With DF set it does not.
    for index in packets.indices {
      packets[index].fragment = 0x4000
      packets[index].identification = 0
    }
    (count, sent) = run(packets.map(\.frame))
    #expect(count == 1)
    for index in packets.indices { packets[index].identification = index }
    isSame = sent == packets.map(\.frame)
    #expect(isSame)
  }

  @Test func otherRequests() {
    let packets = Self.train(3)
    let frames = packets.map(\.frame)
    // Frames that are superframes already, and requests that are not those of TCP.
    for offload in [
      Offload(segmentation: .tcp4, segmentSize: 500),
      Offload(flags: .needsChecksum, checksumStart: 34, checksumOffset: 6),
      Offload(flags: .needsChecksum, checksumStart: 14, checksumOffset: 16),
    ] {
      #expect(run(frames, offload).0 == 3)
    }
  }

  @Test func partialAndCompleteDoNotMix() {
    let packets = Self.train(4)
    let partial = Offload(flags: .needsChecksum, checksumStart: 34, checksumOffset: 16)
    let memory = GuardedMemory(8192)
    var burst = Burst()
    for (index, packet) in packets.enumerated() {
      let place = unsafe memory.start + 2000 * index
      let frame = packet.frame(partial: index < 2)
      unsafe place.copyMemory(from: frame, byteCount: frame.count)
      unsafe burst.offer(
        place, count: frame.count, offload: index < 2 ? partial : .none, port: port)
    }
    let isSame = burst.finish() == packets.map(\.frame)
    #expect(isSame)
    #expect(burst.emissions.count == 2)
  }

  @Test func longestSuperframe() {
    let frames = Self.train(100).map(\.frame)
    let (count, sent) = run(frames)
    // 45 segments fit 65535 bytes.
    #expect(count == 3)
    let isSame = sent == frames
    #expect(isSame)
  }

  /// Flows that arrive interleaved in one train: each is joined, in order.
  @Test(arguments: [false, true])
  func interleavedInOneTrain(isUDP: Bool) {
    for flows in [2, 5, 16] {
      var frames: [[UInt8]] = []
      for round in Self.train(4, size: 50, isUDP: isUDP) {
        for flow in 0..<flows {
          var packet = round
          packet.sourcePort = 1000 + flow
          frames.append(packet.frame)
        }
      }
      let (count, sent) = run(frames)
      #expect(count == flows)
      let isSame = Set(sent) == Set(frames) && sent.count == frames.count
      #expect(isSame)
      for flow in 0..<flows {
        let own = { (frame: [UInt8]) in frame[34...35].elementsEqual(big16(1000 + flow)) }
        let isInOrder = sent.filter(own) == frames.filter(own)
        #expect(isInOrder)
      }
    }
  }

  /// A flood of flows: places are taken over, and nothing is lost.
  @Test func moreFlowsThanPlaces() {
    var frames: [[UInt8]] = []
    for round in Self.train(3, size: 10, isUDP: true) {
      for flow in 0..<100 {
        var packet = round
        packet.sourcePort = 1000 + flow
        frames.append(packet.frame)
      }
    }
    let (count, sent) = run(frames)
    #expect(count > GRO.openLimit && count <= 300)
    let isSame = Set(sent) == Set(frames) && sent.count == frames.count
    #expect(isSame)
  }

  @Test func moreSegmentsThanASuperframeHas() {
    var frames = Self.train(130, size: 20, isUDP: true).map(\.frame)
    var (count, sent) = run(frames)
    #expect(count == 3)  // 64, 64 and 2 datagrams.
    var isSame = sent == frames
    #expect(isSame)
    frames = Self.train(1030, size: 20).map(\.frame)
    (count, sent) = run(frames)
    #expect(count == 3)  // 512, 512 and 6 segments.
    isSame = sent == frames
    #expect(isSame)
  }

  /// More payloads than there is room for in a round are sent as they are.
  @Test func morePayloadsThanARoundHolds() {
    let frames = Self.train(GRO.pieceLimit + 300, size: 1).map(\.frame)
    let (count, sent) = run(frames)
    #expect(count == 9 + 300 - 9)
    let isSame = sent == frames
    #expect(isSame)
  }

  /// Datagrams: what joins, and what does not.
  @Test(arguments: [false, true])
  func datagrams(isIPv6: Bool) {
    func transmissions(
      broken: (inout [UInt8]) -> Void = { _ in }, _ change: (inout ReferencePacket) -> Void
    ) -> Int {
      var packets = Self.train(3, size: 18, isIPv6: isIPv6, isUDP: true)
      change(&packets[1])
      var frames = packets.map(\.frame)
      broken(&frames[1])
      let (count, sent) = run(frames)
      let isSame = Set(sent.map(RandomFlows.normal)) == Set(frames.map(RandomFlows.normal))
      #expect(isSame && sent.count == 3)
      return count
    }
    #expect(transmissions { _ in } == 1)
    #expect(transmissions { $0.payload.removeLast() } == 2)
    // The second opens a superframe of its own, which the third ends.
    #expect(transmissions { $0.payload += [1] } == 2)
    #expect(transmissions { $0.payload = [] } == 3)
    #expect(transmissions { $0.timeToLive -= 1 } == 3)
    #expect(transmissions { $0.trafficClass = 2 } == 3)
    // Another flow in between does not disturb.
    #expect(transmissions { $0.sourcePort += 1 } == 2)
    #expect(transmissions { $0.destinationAddress[3] ^= 1 } == 2)
    let length = isIPv6 ? 54 + 4 : 34 + 4
    // A length that is not the packet's, no checksum, a wrong one, a broken payload.
    #expect(transmissions(broken: { $0[length + 1] -= 1 }) { _ in } == 3)
    #expect(
      transmissions(broken: { $0.replaceSubrange(length + 2..<length + 4, with: [0, 0]) }) { _ in }
        == 3)
    #expect(transmissions(broken: { $0[length + 2] ^= 1 }) { _ in } == 3)
    #expect(transmissions(broken: { $0[$0.count - 1] ^= 1 }) { _ in } == 3)
  }

  /// A datagram that leaves by itself, as a flooded one does, is not overtaken by those behind it.
  @Test func nobodyOvertakes() {
    let packets = Self.train(4, size: 10, isUDP: true)
    let memory = GuardedMemory(4096)
    var burst = Burst()
    for (index, packet) in packets.enumerated() {
      let place = unsafe memory.start + 300 * index
      unsafe place.copyMemory(from: packet.frame, byteCount: packet.frame.count)
      if index == 2 {
        unsafe burst.gro.pass(
          place, FrameLayout(place, count: packet.frame.count), port: port)
        unsafe burst.emissions.append(
          Burst.Emission(frame: place, count: packet.frame.count, offload: .none))
      } else {
        unsafe burst.offer(place, count: packet.frame.count, offload: .none, port: port)
      }
    }
    #expect(burst.finish() == packets.map(\.frame))
    #expect(burst.emissions.count == 3)
  }

  /// Ethernet padding is no part of a superframe.
  @Test func padding() {
    let packets = Self.train(3, size: 10, isUDP: true)
    let (count, sent) = run(packets.map { $0.frame + [0, 0, 0, 0] })
    #expect(count == 1)
    let isSame = sent == packets.map(\.frame)
    #expect(isSame)
  }

  /// What a device cannot cut is not joined for it.
  @Test func capabilities() {
    for (isUDP, isIPv6, needed) in [
      (false, false, OffloadCapabilities.tcp4), (false, true, .tcp6), (true, false, .udp),
      (true, true, .udp),
    ] {
      for capabilities in [needed, .checksum, [.checksum, needed], .all.subtracting(needed)] {
        let memory = GuardedMemory(4096)
        var burst = Burst()
        for (index, packet) in Self.train(3, size: 100, isIPv6: isIPv6, isUDP: isUDP).enumerated() {
          let place = unsafe memory.start + 300 * index
          unsafe place.copyMemory(from: packet.frame, byteCount: packet.frame.count)
          unsafe burst.offer(
            place, count: packet.frame.count, offload: .none, port: port,
            capabilities: capabilities)
        }
        #expect(
          burst.emissions.count == (capabilities.isSuperset(of: [.checksum, needed]) ? 1 : 3))
        #expect(burst.finish().count == 3)
      }
    }
  }

  @Test func portsAreApart() {
    let packets = Self.train(6, size: 100)
    let memory = GuardedMemory(4096)
    var burst = Burst()
    for (index, packet) in packets.enumerated() {
      let place = unsafe memory.start + 200 * index
      unsafe place.copyMemory(from: packet.frame, byteCount: packet.frame.count)
      unsafe burst.offer(
        place, count: packet.frame.count, offload: .none, port: PortID(rawValue: UInt16(index % 2)))
    }
    #expect(burst.emissions.count == 6)
    #expect(burst.finish().count == 6)
  }

  /// Random flows, interleaved, with everything that can go wrong; per flow, the very same frames
  /// come out in the same order.
  @Test func anyBurst() {
    var random = SeededRandom()
    var mergedCount = 0
    for _ in 0..<100 {
      var flows = RandomFlows(&random)
      var burst = Burst()
      var expected: [[[UInt8]]] = Array(repeating: [], count: flows.count)
      // Two trains, in one memory each.
      let first = GuardedMemory(1 << 17)
      let second = GuardedMemory(1 << 17)
      for isFirst in [true, false] {
        let frames = (0..<random.pick([1, 5, 40, 40])).map { _ in flows.next(&random) }
        var place = unsafe isFirst ? first.end : second.end
        unsafe place -= frames.reduce(0) { $0 + 8 + $1.bytes.count }
        for frame in frames {
          unsafe place += 8
          unsafe place.copyMemory(from: frame.bytes, byteCount: frame.bytes.count)
          unsafe burst.offer(
            place, count: frame.bytes.count, offload: frame.offload, port: frame.port)
          expected[frame.flow].append(frame.wire)
          unsafe place += frame.bytes.count
        }
      }
      var sent: [[[UInt8]]] = Array(repeating: [], count: flows.count)
      for frame in burst.finish() { sent[Int(frame[11])].append(frame) }
      mergedCount += burst.mergedCount
      for flow in 0..<flows.count {
        let isSame = sent[flow].map(RandomFlows.normal) == expected[flow].map(RandomFlows.normal)
        #expect(isSame, "OVX_SEED=\(random.seed)")
      }
    }
    #expect(mergedCount > 400)
  }
}

/// Flows whose packets come in any order and in any condition.
///
/// The last octet of the source MAC tells the flow.
private struct RandomFlows {
  struct Frame {
    var flow: Int
    var port: PortID
    var bytes: [UInt8]
    var offload: Offload
    /// What a wire would carry of it: with the checksum complete.
    var wire: [UInt8]
  }

  private var packets: [ReferencePacket] = []
  private var sizes: [Int] = []
  private var partials: [Bool] = []

  init(_ random: inout SeededRandom) {
    for flow in 0..<random.pick([1, 2, 4, 12]) {
      var packet = ReferencePacket.random(&random, payloadCount: 0)
      if flow > 0, random.oneIn(4) { packet = packets[flow - 1] }
      packet.source[5] = UInt8(flow)
      packet.tags = []
      packet.ipOptions = []
      packet.extensions = []
      packet.flags = 0x10
      packets.append(packet)
      sizes.append(random.pick([1, 100, 536, 1448]))
      partials.append(random.oneIn(4))
    }
  }

  var count: Int { packets.count }

  mutating func next(_ random: inout SeededRandom) -> Frame {
    let flow = random.within(0...packets.count - 1)
    var packet = packets[flow]
    packet.payload = random.octets(sizes[flow])
    var isBroken = false
    var isPadded = false
    var hasBadHeader = false
    switch random.within(1...60) {
    case 1: packet.payload = []
    case 2: packet.payload.removeLast()
    case 3: packet.payload += [1, 2]
    case 4: packet.flags |= 0x08
    case 5: packet.flags = random.octets(1)[0]
    case 6: packet.acknowledgment &+= 1
    case 7: packet.window ^= 1
    case 8: packet.timeToLive ^= 1
    case 9: packet.trafficClass ^= 4
    case 10: packet.sequence &+= 1
    case 11: packet.sequence &-= 1
    case 12: packet.identification ^= 0x4000
    case 13: packet.tags = [[0x8100, 5]]
    case 14: packet.fragment ^= 0x4000
    case 15: packet.fragment = 0x2000
    case 16: packet.ipOptions = [1, 1, 1, 1]
    case 17: packet.extensions = [.init(number: 44, bytes: [0, 0, 1, 9, 9, 9, 9])]
    case 18: packet.extensions = [.init(number: 0, bytes: [0, 1, 4, 0, 0, 0, 0])]
    case 19: packet.urgentPointer ^= 1
    case 20: packet.reserved ^= 2
    case 21: if !packet.tcpOptions.isEmpty { packet.tcpOptions[0] ^= 1 }
    case 22: packet.flowLabel ^= 1
    case 23, 24: isBroken = true
    case 25: isPadded = true
    case 26: hasBadHeader = true
    default: break
    }
    if packet.isIPv6 { packet.ipOptions = [] } else { packet.extensions = [] }
    if !packet.isUDP, !random.oneIn(40) {
      packets[flow].sequence = packet.sequence &+ UInt32(packet.payload.count)
      packets[flow].acknowledgment = packet.acknowledgment
      if packet.fragment == 0x4000, random.oneIn(2) {
        packets[flow].identification = random.within(0...0xFFFF)
      } else {
        packets[flow].identification = (packet.identification + 1) & 0xFFFF
      }
    }
    let isPartial = !isBroken && partials[flow]
    var frame = Frame(
      flow: flow, port: PortID(rawValue: UInt16(flow % 3)), bytes: packet.frame(partial: isPartial),
      offload: .none, wire: packet.frame)
    if isPartial {
      frame.offload = Offload(
        flags: .needsChecksum, checksumStart: UInt16(packet.transportOffset),
        checksumOffset: UInt16(packet.checksumOffset))
    }
    func change(_ body: (inout [UInt8]) -> Void) {
      body(&frame.bytes)
      body(&frame.wire)
    }
    if isBroken { change { $0[$0.count - 1] ^= 0x40 } }
    if isPadded { change { $0 += [0, 0] } }
    if hasBadHeader, !packet.isIPv6 { change { $0[$0[12] == 0x81 ? 28 : 24] ^= 0x40 } }
    return frame
  }

  /// The frame without what joining is free to change: the identification of IPv4 packets that are
  /// not to be fragmented, and padding.
  ///
  /// And with one of the two zeros of ones' complement in place of the other, in checksum fields.
  static func normal(_ frame: [UInt8]) -> [UInt8] {
    var frame = frame
    let end =
      frame[12] == 8
      ? 14 + Int(frame[16]) << 8 + Int(frame[17])
      : frame[12] == 0x86 ? 54 + Int(frame[18]) << 8 + Int(frame[19]) : frame.count
    if end < frame.count { frame.removeLast(frame.count - end) }
    if frame[12] == 8, frame[13] == 0, frame[14] == 0x45, frame[20] == 0x40,
      referenceSum([UInt8](frame[14..<34])) == 0xFFFF
    {
      frame.replaceSubrange(18..<20, with: [0, 0])
      frame.replaceSubrange(24..<26, with: [0, 0])
      let sum = referenceSum([UInt8](frame[14..<34]))
      frame.replaceSubrange(24..<26, with: big16(Int(~sum)))
    }
    for transport in [50, 70] where frame.count > transport + 1 {
      if frame[transport] == 0xFF, frame[transport + 1] == 0xFF {
        frame.replaceSubrange(transport..<transport + 2, with: [0, 0])
      }
    }
    return frame
  }
}
