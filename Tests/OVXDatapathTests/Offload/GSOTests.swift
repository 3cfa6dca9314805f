import OVXDatapath
import OVXSimulation
import Testing

@Suite struct GSOTests {
  /// What a kernel says of a superframe.
  static func offload(_ packet: ReferencePacket, segmentSize: Int) -> Offload {
    Offload(
      flags: .needsChecksum,
      segmentation: packet.isUDP ? .udp : packet.isIPv6 ? .tcp6 : .tcp4,
      // Forwarded frames carry any nonsense here.
      headerLength: 3,
      segmentSize: UInt16(segmentSize),
      checksumStart: UInt16(packet.transportOffset),
      checksumOffset: UInt16(packet.checksumOffset)
    )
  }

  /// What a host would have sent instead of the superframe, one packet for each segment.
  static func reference(_ packet: ReferencePacket, segmentSize: Int) -> [ReferencePacket] {
    var segments: [ReferencePacket] = []
    var start = 0
    repeat {
      let end = min(start + segmentSize, packet.payload.count)
      var segment = packet
      segment.payload = [UInt8](packet.payload[start..<end])
      if !packet.isIPv6 {
        segment.identification = (packet.identification + segments.count) & 0xFFFF
      }
      if !packet.isUDP {
        segment.sequence = packet.sequence &+ UInt32(start)
        if end < packet.payload.count { segment.flags &= ~0x09 }
        if start > 0 { segment.flags &= ~0x80 }
      }
      segments.append(segment)
      start = end
    } while start < packet.payload.count
    return segments
  }

  /// Cuts a frame in guarded memory, range by range; each segment without its prefix.
  static func cut(
    _ frame: [UInt8],
    _ offload: Offload,
    segmentSize: Int,
    prefix: [UInt8],
    train: Int
  ) -> [[UInt8]]? {
    let source = GuardedMemory(frame.count)
    let prefixMemory = GuardedMemory(64)
    let place = unsafe source.placeAtEnd(frame)
    guard let superframe = unsafe Superframe(place, count: frame.count, offload: offload)
    else { return nil }
    var segments: [[UInt8]] = []
    let count = superframe.segmentCount(segmentSize: segmentSize)
    for start in stride(from: 0, to: count, by: train) {
      // Ranges may reach beyond the end.
      let range = start..<start + train
      let byteCount = superframe.byteCount(
        segments: range,
        segmentSize: segmentSize,
        prefixCount: prefix.count
      )
      let output = GuardedMemory(byteCount)
      output.fill(0xA5)
      let destination = unsafe output.end - byteCount
      let result = unsafe superframe.write(
        segments: range,
        of: place,
        segmentSize: segmentSize,
        to: destination,
        prefix: prefixMemory.placeAtEnd(prefix),
        prefixCount: prefix.count
      )
      guard result == byteCount else { return nil }
      // What UDP_SEGMENT will do: cut into equal pieces, of which the last may be shorter.
      let piece =
        prefix.count + superframe.headerLength + superframe.effectiveSegmentSize(segmentSize)
      let train = unsafe octets(destination, byteCount)
      for begin in stride(from: 0, to: byteCount, by: piece) {
        let segment = [UInt8](train[begin..<min(begin + piece, byteCount)])
        guard segment.starts(with: prefix) else { return nil }
        segments.append([UInt8](segment[prefix.count...]))
      }
    }
    guard unsafe octets(place, frame.count) == frame else { return nil }
    return segments.count == count ? segments : nil
  }

  @Test func anySuperframe() {
    var random = SeededRandom()
    for _ in 0..<150 {
      let segmentSize = random.pick([1, 7, 100, 1398, 1448, 9000, 65535])
      let payloadCount = min(
        random.within(1...60000),
        segmentSize * 130,
        random.pick([200, 5000, 60000])
      )
      let packet = ReferencePacket.random(&random, payloadCount: payloadCount)
      let wanted = random.oneIn(3) ? random.within(1...segmentSize) : segmentSize
      let used = packet.isUDP ? segmentSize : max(wanted, payloadCount / 200, 1)
      let prefix = random.octets(random.pick([0, 8, 8, 13]))
      // The kernel's superframes hold the pseudo-header's sum; it is not relied upon.
      let segments = Self.cut(
        packet.frame(partial: random.oneIn(2)),
        Self.offload(packet, segmentSize: segmentSize),
        segmentSize: packet.isUDP ? wanted : used,
        prefix: prefix,
        train: random.pick([1, 3, 44, 500])
      )
      let expected = Self.reference(packet, segmentSize: used)
      let isAsExpected = segments == expected.map(\.frame)
      #expect(isAsExpected, "OVX_SEED=\(random.seed)")
      // And not only the same as what the reference writes, but right when it reads it.
      let parsed = segments?.compactMap { ReferencePacket($0, like: packet) }
      let isReassembled = parsed?.flatMap(\.payload) == packet.payload
      #expect(isReassembled, "OVX_SEED=\(random.seed)")
    }
  }

  /// Open vSwitch's case: 2,000 payload bytes at 500 become four packets.
  @Test(arguments: [false, true])
  func fourSegments(isIPv6: Bool) throws {
    var packet = ReferencePacket()
    packet.isIPv6 = isIPv6
    if isIPv6 {
      packet.sourceAddress = hex("FC000000000000000000000000000001")
      packet.destinationAddress = hex("FC000000000000000000000000000002")
    }
    packet.identification = 0xFFFE
    packet.sequence = 0xFFFF_FF00
    packet.flags = 0x99  // CWR, ACK, PSH, FIN
    packet.payload = (0..<2000).map { UInt8($0 % 251) }
    let segments = try #require(
      Self.cut(
        packet.frame(partial: true),
        Self.offload(packet, segmentSize: 500),
        segmentSize: 500,
        prefix: hex("0800000000007B00"),
        train: 100
      )
    )
    let parsed = try segments.map { try #require(ReferencePacket($0, like: packet)) }
    #expect(parsed.map(\.sequence) == [0xFFFF_FF00, 0xF4, 0x2E8, 0x4DC])
    #expect(parsed.map(\.flags) == [0x90, 0x10, 0x10, 0x19])
    #expect(parsed.map(\.payload.count) == [500, 500, 500, 500])
    if !isIPv6 { #expect(parsed.map(\.identification) == [0xFFFE, 0xFFFF, 0, 1]) }
  }

  /// A checksum that comes out as 0 would say "none" in a UDP header.
  @Test func zeroChecksumOfUDP() throws {
    var packet = ReferencePacket()
    packet.isUDP = true
    packet.payload = [UInt8](repeating: 0, count: 10)
    // Fill the first datagram's payload up to a sum of 0xFFFF.
    let sum = referenceSum(packet.pseudoHeader(12) + big16(40000) + big16(5201) + big16(12))
    packet.payload.replaceSubrange(0..<2, with: big16(Int(~sum)))
    let segments = try #require(
      Self.cut(
        packet.frame(partial: true),
        Self.offload(packet, segmentSize: 4),
        segmentSize: 4,
        prefix: [],
        train: 9
      )
    )
    #expect(segments.count == 3)
    #expect([UInt8](segments[0][40..<42]) == [0xFF, 0xFF])
    #expect(ReferencePacket(segments[0], like: packet)?.payload.count == 4)
  }

  @Test func smallerTunnelMTU() throws {
    var packet = ReferencePacket()
    packet.tags = [[0x8100, 5]]
    packet.tcpOptions = [UInt8](repeating: 1, count: 12)
    packet.payload = [UInt8](repeating: 3, count: 4000)
    let memory = GuardedMemory(8192)
    let frame = packet.frame
    var superframe = try #require(
      unsafe Superframe(
        memory.placeAtEnd(frame),
        count: frame.count,
        offload: Self.offload(packet, segmentSize: 1448)
      )
    )
    #expect(superframe.headerLength == 18 + 20 + 32)
    #expect(superframe.networkOffset == 18)
    #expect(superframe.transportOffset == 38)
    #expect(superframe.payloadCount == 4000)
    #expect(superframe.segmentSize == 1448)
    #expect(superframe.segmentCount(segmentSize: superframe.segmentSize) == 3)
    #expect(superframe.segmentSize(fitting: 1448) == 1448)
    #expect(superframe.segmentSize(fitting: 1398) == 1398)
    #expect(superframe.segmentSize(fitting: 8948) == 1448)
    #expect(superframe.segmentSize(fitting: 1) == 1)
    #expect(superframe.segmentSize(fitting: 0) == nil)
    #expect(superframe.segmentSize(fitting: -52) == nil)
    #expect(superframe.segmentCount(segmentSize: 1) == 4000)
    #expect(superframe.segmentCount(segmentSize: 0) == 4000)
    #expect(superframe.segmentCount(segmentSize: .min) == 4000)
    #expect(superframe.segmentCount(segmentSize: .max) == 3)

    // Datagrams are not to be cut finer.
    packet.isUDP = true
    let datagrams = packet.frame
    superframe = try #require(
      unsafe Superframe(
        memory.placeAtEnd(datagrams),
        count: datagrams.count,
        offload: Self.offload(packet, segmentSize: 1448)
      )
    )
    #expect(superframe.segmentSize(fitting: 1448) == 1448)
    #expect(superframe.segmentSize(fitting: 1447) == nil)
    #expect(superframe.segmentCount(segmentSize: 100) == 3)
  }

  @Test func rangesBeyondTheEnd() throws {
    var packet = ReferencePacket()
    packet.payload = [UInt8](repeating: 3, count: 1000)
    let frame = packet.frame
    let memory = GuardedMemory(8192)
    let place = unsafe memory.placeAtEnd(frame)
    let superframe = try #require(
      unsafe Superframe(
        place,
        count: frame.count,
        offload: Self.offload(packet, segmentSize: 100)
      )
    )
    for range in [10..<20, 0..<0, 5..<5, (-5)..<0, Int.max..<Int.max] {
      #expect(superframe.byteCount(segments: range, segmentSize: 100, prefixCount: 8) == 0)
      #expect(
        unsafe superframe.write(
          segments: range,
          of: place,
          segmentSize: 100,
          to: memory.start,
          prefix: place,
          prefixCount: 8
        ) == 0
      )
    }
    #expect(superframe.byteCount(segments: 9..<Int.max, segmentSize: 100, prefixCount: 8) == 162)
    #expect(superframe.byteCount(segments: Int.min..<1, segmentSize: 100, prefixCount: 8) == 162)
  }

  /// A superframe with as much as its request or its bytes changed so that they disagree.
  @Test(arguments: [false, true], [false, true])
  func contradictions(isIPv6: Bool, isUDP: Bool) {
    var packet = ReferencePacket()
    packet.isIPv6 = isIPv6
    packet.isUDP = isUDP
    packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
    packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
    packet.payload = [UInt8](repeating: 7, count: 300)
    let good = Self.offload(packet, segmentSize: 100)
    let memory = GuardedMemory(8192)
    func accepts(_ frame: [UInt8], _ change: (inout Offload) -> Void = { _ in }) -> Bool {
      var offload = good
      change(&offload)
      return unsafe Superframe(memory.placeAtEnd(frame), count: frame.count, offload: offload)
        != nil
    }
    let frame = packet.frame
    #expect(accepts(frame))
    #expect(accepts(frame) { $0.segmentation = .init(rawValue: $0.segmentation.rawValue | 0x80) })
    #expect(accepts(frame) { $0.flags = [] })
    #expect(accepts(frame + [0, 0]))
    #expect(!accepts(frame) { $0.segmentSize = 0 })
    #expect(!accepts(frame) { $0.checksumStart &+= 1 })
    #expect(!accepts(frame) { $0.checksumStart = 0 })
    #expect(!accepts(frame) { $0.checksumStart = .max })
    #expect(!accepts(frame) { $0.checksumOffset = 4 })
    for kind in [Offload.Segmentation.tcp4, .tcp6, .udp, .udpFragments, .none, .init(rawValue: 99)]
    where kind != good.segmentation {
      #expect(!accepts(frame) { $0.segmentation = kind })
    }
    for count in 0..<frame.count { #expect(!accepts([UInt8](frame.prefix(count)))) }
    func changed(_ offset: Int, _ value: UInt8) -> [UInt8] {
      var other = frame
      other[offset] = value
      return other
    }
    #expect(!accepts(changed(13, 0x06)))
    #expect(!accepts(changed(14, isIPv6 ? 0x40 : 0x60)))
    #expect(!accepts(changed(isIPv6 ? 20 : 23, 1)))
    if isUDP {
      #expect(!accepts(changed(packet.transportOffset + 4, 0xFF)))
    } else {
      #expect(!accepts(changed(packet.transportOffset + 12, 0x40)))
    }
    // Fragments, and packets whose pseudo-header has another destination.
    if isIPv6 {
      packet.extensions = [.init(number: 44, bytes: [0, 0, 1, 0, 0, 0, 0])]
      #expect(!accepts(packet.frame) { $0.checksumStart &+= 8 })
      packet.extensions = [.init(number: 43, bytes: [0, 4, 1, 0, 0, 0, 0])]
      #expect(!accepts(packet.frame) { $0.checksumStart &+= 8 })
      packet.extensions = [.init(number: 43, bytes: [0, 4, 0, 0, 0, 0, 0])]
      #expect(accepts(packet.frame) { $0.checksumStart &+= 8 })
    } else {
      packet.fragment = 0x2000
      #expect(!accepts(packet.frame))
      packet.fragment = 1
      #expect(!accepts(packet.frame))
    }
  }

  @Test func refusals() {
    for kind in [Offload.Segmentation.tcp4, .tcp6, .udp] {
      #expect(Superframe.refusal(of: Offload(segmentation: kind)) == .malformedOffload)
      let withECN = Offload.Segmentation(rawValue: kind.rawValue | 0x80)
      #expect(Superframe.refusal(of: Offload(segmentation: withECN)) == .malformedOffload)
    }
    for kind in [Offload.Segmentation.udpFragments, .init(rawValue: 2), .init(rawValue: 0x21)] {
      #expect(Superframe.refusal(of: Offload(segmentation: kind)) == .unsupportedOffload)
    }
  }
}

@Suite struct ArrivalTests {
  private func arrival(_ frame: [UInt8], mtu: Int = 1450) -> (Arrival, [UInt8]) {
    let memory = GuardedMemory(frame.count)
    let place = unsafe memory.placeAtEnd(frame)
    let result = unsafe arrivalOffload(
      place, count: frame.count, FrameLayout(place, count: frame.count), mtu: mtu)
    return unsafe (result, octets(place, frame.count))
  }

  private func packet(_ isIPv6: Bool, _ isUDP: Bool, payloadCount: Int) -> ReferencePacket {
    var packet = ReferencePacket()
    packet.isIPv6 = isIPv6
    packet.isUDP = isUDP
    packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
    packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
    packet.tcpOptions = isUDP ? [] : [UInt8](repeating: 1, count: 12)
    packet.payload = (0..<payloadCount).map { UInt8($0 * 7 % 256) }
    return packet
  }

  @Test(arguments: [false, true], [false, true])
  func checksums(isIPv6: Bool, isUDP: Bool) {
    for tags in [[], [[0x8100, 7]], [[0x88A8, 1], [0x8100, 7]]] {
      var packet = packet(isIPv6, isUDP, payloadCount: 11)
      packet.tags = tags
      #expect(arrival(packet.frame).0 == .accepted(.none))
      let expected = Offload(
        flags: .needsChecksum,
        checksumStart: UInt16(packet.transportOffset),
        checksumOffset: isUDP ? 6 : 16
      )
      let partial = packet.frame(partial: true)
      #expect(arrival(partial).0 == .accepted(expected))
      #expect(arrival(partial).1 == partial)
      // Completing it gives what the sender's host would have sent.
      let memory = GuardedMemory(partial.count)
      let place = unsafe memory.placeAtEnd(partial)
      #expect(
        unsafe completeChecksum(
          place, count: partial.count, offload: expected,
          FrameLayout(place, count: partial.count)))
      #expect(unsafe octets(place, partial.count) == packet.frame)
    }
  }

  @Test func datagramWithoutChecksum() {
    let packet = packet(false, true, payloadCount: 30)
    var frame = packet.frame
    frame.replaceSubrange(40..<42, with: [0, 0])
    #expect(arrival(frame).0 == .accepted(.none))
  }

  @Test func datagramShorterThanItsPacket() {
    var packet = packet(false, true, payloadCount: 30)
    packet.payload += [0, 0]
    var frame = packet.frame(partial: true)
    frame.replaceSubrange(38..<40, with: big16(38))
    frame.replaceSubrange(40..<42, with: big16(Int(referenceSum(packet.pseudoHeader(38)))))
    #expect(arrival(frame).0 == .accepted(.none))
  }

  @Test(arguments: [false, true], [false, true])
  func superframe(isIPv6: Bool, isPartial: Bool) {
    var packet = packet(isIPv6, false, payloadCount: 20000)
    packet.tags = [[0x8100, 7]]
    let superframe = packet.frame(partial: isPartial)
    let (result, frame) = arrival(superframe)
    let size = 1450 - (isIPv6 ? 40 : 20) - 32
    // A complete checksum is verified, and left alone.
    let expected = Offload(
      flags: isPartial ? .needsChecksum : [], segmentation: isIPv6 ? .tcp6 : .tcp4,
      headerLength: UInt16(packet.headerLength), segmentSize: UInt16(size),
      checksumStart: isPartial ? UInt16(packet.transportOffset) : 0,
      checksumOffset: isPartial ? 16 : 0)
    #expect(result == .accepted(expected))
    let isUnchanged = frame == superframe
    #expect(isUnchanged)
    let segments = GSOTests.cut(
      frame,
      expected,
      segmentSize: size,
      prefix: [],
      train: 100
    )
    let isAsReference =
      segments == GSOTests.reference(packet, segmentSize: size).map(\.frame)
    #expect(isAsReference)
  }

  @Test func whatCannotBeCut() {
    let unknown = Arrival.refused(.superframeOfUnknownSize)
    for isIPv6 in [false, true] {
      #expect(arrival(packet(isIPv6, true, payloadCount: 2000).frame(partial: true)).0 == unknown)
      var bad = packet(isIPv6, false, payloadCount: 2000).frame
      bad[bad.count - 1] ^= 1
      #expect(arrival(bad).0 == unknown)
      #expect(arrival(bad).1 == bad)
      let good = packet(isIPv6, false, payloadCount: 2000).frame(partial: true)
      #expect(arrival(good + [0]).0 == unknown)
      // An MTU that leaves no room for payload.
      #expect(arrival(good, mtu: isIPv6 ? 72 : 52).0 == unknown)
      #expect(arrival(good, mtu: isIPv6 ? 73 : 53).0 != unknown)
      #expect(arrival(good, mtu: 0).0 == unknown)
      #expect(arrival(good, mtu: -1).0 == unknown)
    }
    var fragment = packet(false, false, payloadCount: 2000)
    fragment.fragment = 0x2000
    #expect(arrival(fragment.frame(partial: true)).0 == unknown)
    let other = hex("FFFFFFFFFFFF 02AABBCCDDEE 88B5") + [UInt8](repeating: 1, count: 1450)
    #expect(arrival(other).0 == .accepted(.none))
    #expect(arrival(other + [1]).0 == unknown)
  }

  /// The MTU is that of the IP packet, and exact.
  @Test func exactMTU() {
    let packet = packet(false, false, payloadCount: 1450 - 52)
    #expect(arrival(packet.frame).0 == .accepted(.none))
    #expect(arrival(packet.frame, mtu: 1449).0 != .accepted(.none))
  }
}
