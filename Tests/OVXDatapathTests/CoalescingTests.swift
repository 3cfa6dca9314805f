import OVXDatapath
import Testing

/// Plays the datapath: offers frames to a coalescer as the protocol of its documentation says, and collects what is to be sent.
@safe
private struct Burst: ~Copyable {
  @safe struct Emission {
    let frame: UnsafeMutableRawPointer
    var byteCount: Int
    let limit: UnsafeMutableRawPointer
    var offload: Offload
  }

  @safe struct Stay {
    let place: UnsafeMutableRawPointer
    let bytes: [UInt8]
  }

  var coalescer = Coalescer()
  var emissions: [Emission] = []
  var mergedCount = 0
  /// What stays where it is, without having been offered.
  private var stays: [Stay] = []

  /// Offers a frame that leaves by a device, and emits it if it does not merge.
  mutating func offer(
    _ frame: UnsafeMutableRawPointer, count: Int, offload: Offload, port: PortID,
    limit: UnsafeMutableRawPointer
  ) {
    switch unsafe coalescer.absorb(frame, count: count, offload: offload, port: port) {
    case .merged(let transmission, let byteCount):
      emissions[transmission].byteCount = byteCount
      mergedCount += 1
    case .separate(let mayOpen):
      unsafe emissions.append(
        Emission(frame: frame, byteCount: count, limit: limit, offload: offload))
      if mayOpen {
        unsafe coalescer.open(
          frame, count: count, offload: offload, limit: limit, port: port,
          transmission: emissions.count - 1)
      } else {
        unsafe coalescer.restrict(below: frame)
      }
    }
  }

  /// Leaves a frame where it is, with a header in front, as one that goes to a tunnel.
  mutating func keep(_ frame: UnsafeMutableRawPointer, count: Int) {
    unsafe coalescer.restrict(below: frame - 8)
    unsafe stays.append(Stay(place: frame - 8, bytes: octets(frame - 8, count + 8)))
  }

  /// The frames on the wire: what was joined is cut again, what is partial completed.
  mutating func finish() -> [[UInt8]] {
    while let done = coalescer.finishNext() {
      emissions[done.transmission].offload = done.offload
    }
    for stay in stays {
      let isUnchanged = unsafe octets(stay.place, stay.bytes.count) == stay.bytes
      #expect(isUnchanged, "a superframe grew over a frame")
    }
    var frames: [[UInt8]] = []
    for emission in emissions {
      #expect(emission.byteCount <= 65535)
      unsafe #expect(emission.byteCount <= emission.limit - emission.frame)
      let frame = unsafe octets(emission.frame, emission.byteCount)
      let offload = emission.offload
      if offload.isSuperframe {
        guard
          let segments = SegmentationTests.cut(
            frame, offload, segmentSize: Int(offload.segmentSize), prefix: [], train: 1000)
        else {
          Issue.record("not a superframe")
          continue
        }
        frames += segments
      } else {
        _ = unsafe completeChecksum(emission.frame, count: emission.byteCount, offload: offload)
        frames.append(unsafe octets(emission.frame, emission.byteCount))
      }
    }
    return frames
  }
}

@Suite struct CoalescingTests {
  private let port = PortID(rawValue: 3)

  /// A flow's packets, each of `size` bytes of payload, one continuing the other.
  private static func train(
    _ count: Int, size: Int = 1448, isIPv6: Bool = false
  ) -> [ReferencePacket] {
    (0..<count).map { index in
      var packet = ReferencePacket()
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
        places[index], count: frame.count, offload: offload, port: port, limit: memory.end)
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
        place, count: packet.frame.count, offload: .none, port: port, limit: memory.end)
    }
    let first = burst.coalescer.finishNext()
    let second = burst.coalescer.finishNext()
    let done = try #require(first)
    #expect(second == nil)
    #expect(done.transmission == 0)
    #expect(
      done.offload
        == Offload(
          flags: .needsChecksum, segmentation: .tcp4, headerLength: 66, segmentSize: 1448,
          checksumStart: 34, checksumOffset: 16))
    var whole = packets[0]
    whole.payload = packets.flatMap(\.payload)
    let isWhole =
      unsafe octets(memory.start, 66 + 3 * 1448) == whole.frame(partial: true)
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
    // Broken TCP checksum, or payload; padding; data offset of 4.
    #expect(broken({ $0[$0.count - 1] ^= 1 }) == 3)
    #expect(broken({ $0.append(0) }) == 3)
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
        place, count: frame.count, offload: index < 2 ? partial : .none, port: port,
        limit: memory.end)
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

  /// Flows that arrive interleaved, each in a buffer of its own.
  @Test func moreFlowsThanAreOpen() {
    for flows in 1...12 {
      let memory = GuardedMemory(flows * 1024)
      var burst = Burst()
      var frames: Set<[UInt8]> = []
      for (round, template) in Self.train(5, size: 50).enumerated() {
        for flow in 0..<flows {
          var packet = template
          packet.sourcePort = 1000 + flow
          let frame = packet.frame
          frames.insert(frame)
          let place = unsafe memory.start + flow * 1024 + round * 124
          unsafe place.copyMemory(from: frame, byteCount: frame.count)
          unsafe burst.offer(
            place, count: frame.count, offload: .none, port: port,
            limit: memory.start + (flow + 1) * 1024)
        }
      }
      // Round robin over more than are kept open never meets an open one.
      #expect(burst.emissions.count == (flows <= Coalescer.openLimit ? flows : 5 * flows))
      let sent = burst.finish()
      let isSame = Set(sent) == frames && sent.count == frames.count
      #expect(isSame)
    }
  }

  /// In one train, a frame that stays where it is leaves the superframe in front of it no room.
  @Test func interleavedInOneTrain() {
    var frames: [[UInt8]] = []
    for round in Self.train(4, size: 50) {
      for flow in 0..<2 {
        var packet = round
        packet.sourcePort = 1000 + flow
        frames.append(packet.frame)
      }
    }
    let (count, sent) = run(frames)
    #expect(count == 8)
    let isSame = sent == frames
    #expect(isSame)
  }

  @Test func moreSuperframesThanOneRoundHolds() {
    var packets = Self.train(400, size: 20)
    for index in packets.indices where index % 2 == 1 { packets[index].flags |= 0x08 }
    let frames = packets.map(\.frame)
    let (count, sent) = run(frames)
    #expect(count == Coalescer.superframeLimit + 400 - 2 * Coalescer.superframeLimit)
    let isSame = sent == frames
    #expect(isSame)
  }

  /// The places among the finished ones suffice for what is still open, too.
  @Test(arguments: [(120, 128), (121, 121)])
  func openSuperframesWhenTheRoundIsNearlyFull(pairCount: Int, expected: Int) {
    let memory = GuardedMemory(1 << 20)
    var burst = Burst()
    var place = unsafe memory.start
    func offer(_ packet: ReferencePacket, at place: UnsafeMutableRawPointer) {
      let frame = packet.frame
      unsafe place.copyMemory(from: frame, byteCount: frame.count)
      unsafe burst.offer(
        place, count: frame.count, offload: .none, port: port, limit: memory.end)
    }
    for (index, template) in Self.train(2 * pairCount, size: 20).enumerated() {
      var packet = template
      if index % 2 == 1 { packet.flags |= 0x08 }
      unsafe offer(packet, at: place)
      unsafe place += 100
    }
    let pairs = Self.train(2, size: 20)
    for pair in pairs {
      for flow in 0..<Coalescer.openLimit {
        var packet = pair
        packet.sourcePort = 1000 + flow
        // Apart from each other, the last one first, so that none is in the way of one below.
        unsafe offer(
          packet,
          at: memory.end - 4096 * (flow + 1) + (pair.sequence == pairs[0].sequence ? 0 : 100))
      }
    }
    var finishedCount = 0
    while burst.coalescer.finishNext() != nil { finishedCount += 1 }
    #expect(finishedCount == expected)
  }

  @Test func portsAreApart() {
    let packets = Self.train(6, size: 100)
    let memory = GuardedMemory(4096)
    var burst = Burst()
    for (index, packet) in packets.enumerated() {
      let place = unsafe memory.start + 200 * index
      unsafe place.copyMemory(from: packet.frame, byteCount: packet.frame.count)
      unsafe burst.offer(
        place, count: packet.frame.count, offload: .none, port: PortID(rawValue: UInt16(index % 2)),
        limit: memory.end)
    }
    #expect(burst.emissions.count == 6)
    #expect(burst.finish().count == 6)
  }

  /// Random flows, interleaved, with everything that can go wrong; per flow, the very same frames come out in the same order.
  @Test func anyBurst() {
    var random = WireRandom()
    var mergedCount = 0
    for _ in 0..<100 {
      var flows = RandomFlows(&random)
      var burst = Burst()
      var expected: [[[UInt8]]] = Array(repeating: [], count: flows.count)
      // Two trains at most, in one memory each; or one train whose flows lie apart in the second.
      let first = GuardedMemory(1 << 17)
      let second = GuardedMemory(1 << 17)
      let isApart = random.oneIn(2)
      for isFirst in [true, false] {
        let frames = (0..<random.pick([1, 5, 40, 40])).map { _ in flows.next(&random) }
        let end = unsafe isFirst ? first.end : second.end
        var places: [Int] = []
        var next = 0
        for flow in 0..<(isApart ? flows.count : 1) {
          for (index, frame) in frames.enumerated() where !isApart || frame.flow == flow {
            if places.isEmpty { places = Array(repeating: 0, count: frames.count) }
            next += 8
            places[index] = next
            next += frame.bytes.count
          }
        }
        let start = unsafe end - next
        for (index, frame) in frames.enumerated() {
          unsafe (start + places[index]).copyMemory(
            from: frame.bytes, byteCount: frame.bytes.count)
        }
        for (index, frame) in frames.enumerated() {
          let place = unsafe start + places[index]
          let count = frame.bytes.count
          if random.oneIn(30) {
            unsafe burst.keep(place, count: count)
            continue
          }
          // Behind the last frame of the flow lies what is not to be touched.
          var room = next - places[index]
          if isApart, let last = frames.lastIndex(where: { $0.flow == frame.flow }) {
            room = places[last] + frames[last].bytes.count - places[index]
          }
          if random.oneIn(10) { room = random.int(count...room) }
          unsafe burst.offer(
            place, count: count, offload: frame.offload, port: frame.port, limit: place + room)
          expected[frame.flow].append(frame.wire)
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

  init(_ random: inout WireRandom) {
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

  mutating func next(_ random: inout WireRandom) -> Frame {
    let flow = random.int(0...packets.count - 1)
    var packet = packets[flow]
    packet.payload = random.bytes(sizes[flow])
    var isBroken = false
    var isPadded = false
    var hasBadHeader = false
    switch random.int(1...60) {
    case 1: packet.payload = []
    case 2: packet.payload.removeLast()
    case 3: packet.payload += [1, 2]
    case 4: packet.flags |= 0x08
    case 5: packet.flags = random.bytes(1)[0]
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
        packets[flow].identification = random.int(0...0xFFFF)
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

  /// The frame without what joining is free to change: the identification of IPv4 packets that are not to be fragmented.
  ///
  /// And with one of the two zeros of ones' complement in place of the other, in checksum fields.
  static func normal(_ frame: [UInt8]) -> [UInt8] {
    var frame = frame
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
