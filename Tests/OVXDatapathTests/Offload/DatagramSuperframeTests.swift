import OVXDatapath
import OVXSimulation
import Testing

/// A superframe of UDP datagrams that a kernel's vxlan device sent whole, a train of datagrams, and
/// what looks like one or the other.
@Suite struct DatagramSuperframeTests {
  /// Devices 1 and 2 of two tenants, and a tunnel for each to the same VTEP.
  private static func bench() throws -> Bench {
    Bench(
      topology([
        device(1, .access(vlan(100))),
        device(2, .access(vlan(200))),
        try tunnel(8, vni: 100, .access(vlan(100)), remotes: [remoteA], firstPeer: 1),
        try tunnel(9, vni: 200, .access(vlan(200)), remotes: [remoteA], firstPeer: 2),
      ]))
  }

  private static func plan(_ payload: [UInt8], isIPv6: Bool = false) -> PacketPlan {
    var plan = PacketPlan(
      from: MACAddress(truncating: 0x0200_0000_0009), to: MACAddress(truncating: 0x0200_0000_0001))
    plan.isTCP = false
    plan.isIPv6 = isIPv6
    plan.payload = payload
    return plan
  }

  private static func total(_ bench: Bench) -> UInt64 {
    bench.endpointDrops(.ambiguousTrain) + bench.endpointDrops(.mixedVNIs)
      + bench.endpointDrops(.vxlanTooShort) + bench.counters(8)[.lengthBeyondFrame]
  }

  // MARK: What is right

  @Test(arguments: [false, true])
  func isHandedOverWhole(isIPv6: Bool) throws {
    let bench = try Self.bench()
    let plan = Self.plan((0..<7 * 700 + 9).map { UInt8($0 & 0xFF) }, isIPv6: isIPv6)
    let frame = plan.partialFrame.bytes
    let sent = bench.receiveDatagrams(vxlan(100, frame), segmentSize: 700, from: remoteA)
    #expect(sent.map(\.port.rawValue) == [1])
    #expect(sent.map(\.bytes) == [frame])
    #expect(
      sent.first?.offload
        == Offload(
          flags: .needsChecksum, segmentation: .udp, headerLength: UInt16(plan.headerLength),
          segmentSize: 700, checksumStart: UInt16(plan.headerLength - 8), checksumOffset: 6))
    #expect(bench.counters(8).receivedFrames == 1)
  }

  /// Whatever an honest container sends: random bytes look like a VXLAN header once in 2^40
  /// strides.
  @Test(arguments: [false, true])
  func honestSuperframesPassWhateverTheirPayload(isIPv6: Bool) throws {
    let bench = try Self.bench()
    var random = SeededRandom(seed: 9)
    for round in 1...200 {
      let size = random.within(1...1400)
      let payload = random.octets(size * random.within(1...min(60, 60_000 / size)) + 1)
      let frame = Self.plan(payload, isIPv6: isIPv6).partialFrame.bytes
      let sent = bench.receiveDatagrams(vxlan(100, frame), segmentSize: size, from: remoteA)
      #expect(sent.map(\.bytes) == [frame], "round \(round): \(payload.count) bytes by \(size)")
    }
  }

  /// Frames that honest hosts send, each in a train with two equal ones, the last of which is
  /// shorter where it can be.
  @Test func honestTrainsPass() throws {
    var fragment = Self.plan([UInt8](repeating: 3, count: 900)).frame
    // The first of several: its UDP length is that of all of them.
    fragment.replaceSubrange(20..<22, with: [0x20, 0])
    fragment.replaceSubrange(38..<40, with: [0x0F, 0xA8])
    var options = Self.plan([UInt8](repeating: 3, count: 100))
    options.ipOptions = [1, 1, 1, 0]
    var extended = Self.plan([UInt8](repeating: 3, count: 100), isIPv6: true)
    extended.hasExtensionHeader = true
    let address = MACAddress(truncating: 0x0200_0000_0009)
    let llc = plainFrame(
      from: address, to: .broadcast, etherType: 43,
      payload: [0x42, 0x42, 3] + [UInt8](repeating: 0, count: 43))
    let question = neighborQuestion(
      for: IPAddress(v4: 0x0A00_0002), from: address, IPAddress(v4: 0x0A00_0003))
    var small = Self.plan([1])
    small.isTCP = true
    let padding = [UInt8](repeating: 0, count: 64)
    let frames = [
      fragment, options.frame, extended.frame, llc, question, question + padding,
      small.frame, small.frame + padding, frame(to: 1, from: 9),
      Self.plan([], isIPv6: true).frame,
    ]
    for frame in frames {
      let bench = try Self.bench()
      let datagram = vxlan(100, frame)
      _ = bench.receiveDatagrams(
        datagram + datagram + datagram, segmentSize: datagram.count, from: remoteA)
      #expect(bench.counters(8).receivedFrames == 3)
      #expect(bench.counters(1).sentFrames == 3, "\(frame.hexadecimal)")
    }
  }

  // MARK: Forged trains

  /// The ways in which a container can keep its superframe from being taken for one.
  enum Form: String, CaseIterable, CustomTestStringConvertible {
    case right, wrongChecksum, noChecksum, moreFragments, laterFragment, longUDPLength,
      shortUDPLength
    case longIPLength, shortIPLength, endsInFirstStride, routingHeader, manyExtensions, options
    case unknownType, arp, llc, tagged, manyTags, tcp

    var testDescription: String { rawValue }

    func frame(_ payload: [UInt8], isIPv6: Bool, stride: Int) -> [UInt8] {
      var plan = DatagramSuperframeTests.plan(payload, isIPv6: isIPv6)
      if self == .tcp { plan.isTCP = true }
      if self == .tagged { plan.tags = [VLANTag(control: 0)] }
      if self == .manyTags { plan.tags = Array(repeating: VLANTag(control: 5), count: 4) }
      if self == .options { plan.ipOptions = [1, 1, 1, 0] }
      var frame = plan.partialFrame.bytes
      let lengthField = isIPv6 ? 18 : 16
      let udp = isIPv6 ? 54 : 34
      func length(_ value: Int, at field: Int) {
        frame.setNumber(UInt16(clamping: value), at: field)
      }
      switch self {
      case .right, .options, .tagged, .manyTags, .tcp: break
      case .wrongChecksum: frame[udp + 7] ^= 0x55
      case .noChecksum: frame.setNumber(UInt16(0), at: udp + 6)
      case .moreFragments: if !isIPv6 { frame[20] |= 0x20 }
      case .laterFragment: if !isIPv6 { frame[21] |= 1 }
      case .longUDPLength: length(0xFFFF, at: udp + 4)
      case .shortUDPLength: length(stride - 8 - udp, at: udp + 4)
      case .longIPLength: length(0xFFFF, at: lengthField)
      case .shortIPLength: length(frame.count - 14 - (isIPv6 ? 40 : 0) - 1, at: lengthField)
      case .endsInFirstStride:
        length(stride - 8 - (isIPv6 ? 54 : 14), at: lengthField)
        length(stride - 8 - udp, at: udp + 4)
      case .routingHeader, .manyExtensions:
        if isIPv6 {
          // Eight bytes each: next header, length 0, routing type or padding, segments left.
          let kind: UInt8 = self == .routingHeader ? 43 : 60
          let chain = self == .routingHeader ? 1 : 10
          frame[20] = kind
          for index in 0..<chain {
            let next = index + 1 == chain ? 17 : kind
            let header: [UInt8] = [next, 0, 1, self == .routingHeader ? 1 : 4, 0, 0, 0, 0]
            frame.replaceSubrange(54 + 8 * index..<62 + 8 * index, with: header)
          }
        }
      case .unknownType: frame.setNumber(UInt16(0x88B5), at: 12)
      case .arp: frame.setNumber(UInt16(0x0806), at: 12)
      case .llc: length(stride - 22, at: 12)
      }
      return frame
    }
  }

  /// A container behind a kernel's VTEP writes VXLAN headers where the datagrams of a train would
  /// start.
  @Test(arguments: Form.allCases, [false, true])
  func cannotReachAnotherTenant(_ form: Form, isIPv6: Bool) throws {
    let stride = 200
    let genuine = vxlan(200, [])
    let flagged: [UInt8] = [0x88, 0x48, 0x12, 0x34, 0, 0, 200, 0xFF]
    for header in [genuine, flagged] {
      for places in [[1], [4], [1, 4], [1, 2, 3, 4]] {
        let bench = try Self.bench()
        let payload = [UInt8](repeating: 0x55, count: stride * 5 - 90)
        let train = HostileTrain(
          superframe: form.frame(payload, isIPv6: isIPv6, stride: stride),
          of: try #require(vni(100)), segmentSize: stride,
          header: header + frame(to: 0xFF, from: 7), where: { places.contains($0) })
        let sent = bench.receiveDatagrams(train.bytes, segmentSize: stride, from: remoteA)
        #expect(sent.allSatisfy { $0.port.rawValue == 1 })
        #expect(bench.counters(9).receivedFrames == 0)
        #expect(!bench.addresses().contains { $0.vlan == vlan(200) })
        #expect(Self.total(bench) > 0, "\(places)")
        // Where only some strides have a header it is neither.
        if places.count < 4 { #expect(sent.isEmpty) }
      }
    }
  }

  /// The same without any header: nothing says what it is, so nothing of it is forwarded.
  @Test(arguments: Form.allCases, [false, true])
  func whatCannotBeReadIsDropped(_ form: Form, isIPv6: Bool) throws {
    let bench = try Self.bench()
    let payload = [UInt8](repeating: 0x55, count: 900)
    let frame = form.frame(payload, isIPv6: isIPv6, stride: 200)
    let bytes = vxlan(100, frame)
    let sent = bench.receiveDatagrams(bytes, segmentSize: 200, from: remoteA)
    var isReadable = [.right, .tagged].contains(form)
    if isIPv6 { isReadable = isReadable || form == .moreFragments || form == .laterFragment }
    if isIPv6 { isReadable = isReadable || form == .options }
    if !isIPv6 {
      isReadable = isReadable || [.options, .routingHeader, .manyExtensions].contains(form)
    }
    #expect(sent.isEmpty == !isReadable)
    #expect(bench.counters(8).receivedFrames == (isReadable ? 1 : 0))
    let strides = (bytes.count + 199) / 200
    #expect(bench.endpointDrops(.ambiguousTrain) == (isReadable ? 0 : UInt64(strides)))
  }

  // MARK: Liars in trains

  /// What a liar claims in front of others' datagrams, whose kernel joined them.
  @Test(arguments: [false, true], [false, true])
  func cannotReadAnotherTenant(isIPv6: Bool, isTCP: Bool) throws {
    let bench = try Self.bench()
    var plan = Self.plan([UInt8](repeating: 1, count: 300), isIPv6: isIPv6)
    plan.isTCP = isTCP
    var victim = plan
    victim.payload = [UInt8](repeating: 0xEE, count: 300)
    var liar = plan.partialFrame.bytes
    let stride = 8 + liar.count
    liar.claim(5 * stride - 8)
    let hundred = try #require(vni(100))
    let other = try #require(vni(200))
    let train = HostileTrain(
      datagrams: [(hundred, liar)] + Array(repeating: (other, victim.frame), count: 4))
    #expect(train.segmentSize == stride)
    let sent = bench.receiveDatagrams(train.bytes, segmentSize: stride, from: remoteA)
    #expect(sent.isEmpty)
    #expect(bench.counters(8)[.lengthBeyondFrame] == 1)
    #expect(bench.endpointDrops(.mixedVNIs) == 4)
    #expect(bench.counters(9).receivedFrames == 0)
  }

  /// A liar behind the first datagram, in the same VNI or in another one.
  @Test(arguments: [100, 200] as [UInt32])
  func liesOfLaterDatagramsReachNothing(_ other: UInt32) throws {
    let bench = try Self.bench()
    let honest = Self.plan([UInt8](repeating: 3, count: 100)).frame
    var liar = honest
    liar.claim(2 * (8 + honest.count) - 8)
    let train = vxlan(100, honest) + vxlan(other, liar) + vxlan(100, honest)
    let sent = bench.receiveDatagrams(train, segmentSize: 8 + honest.count, from: remoteA)
    #expect(sent.allSatisfy { $0.port.rawValue == 1 })
    #expect(bench.counters(1).sentFrames == 2)
    #expect(bench.endpointDrops(.mixedVNIs) == (other == 200 ? 1 : 0))
    #expect(bench.counters(8)[.lengthBeyondFrame] == (other == 100 ? 1 : 0))
  }

  /// The lengths that a frame must hold to travel with others, each one byte too long.
  @Test func everyLengthIsHeld() throws {
    var udp4 = Self.plan([1, 2, 3]).frame
    udp4[39] += 1
    var udp6 = Self.plan([1, 2, 3], isIPv6: true).frame
    udp6[59] += 1
    var ip4 = Self.plan([1, 2, 3]).frame
    ip4[17] += 1
    var ip6 = Self.plan([1, 2, 3], isIPv6: true).frame
    ip6[19] += 1
    var tagged = Self.plan([1, 2, 3])
    tagged.tags = [VLANTag(control: 0)]
    var inTag = tagged.frame
    inTag[21] += 1
    var extended = Self.plan([1, 2, 3], isIPv6: true)
    extended.hasExtensionHeader = true
    var behindExtension = extended.frame
    behindExtension[67] += 1
    let station = MACAddress(truncating: 0x0200_0000_0009)
    var arp = neighborQuestion(
      for: IPAddress(v4: 0x0A00_0002), from: station, IPAddress(v4: 0x0A00_0003))
    arp[18] += 1
    let llc = plainFrame(from: station, to: .broadcast, etherType: 47, payload: Array(1...46))
    for liar in [udp4, udp6, ip4, ip6, inTag, behindExtension, arp, llc] {
      let bench = try Self.bench()
      let datagram = vxlan(100, liar)
      let sent = bench.receiveDatagrams(
        datagram + datagram, segmentSize: datagram.count, from: remoteA)
      #expect(sent.isEmpty, "\(liar.hexadecimal)")
      #expect(bench.counters(8)[.lengthBeyondFrame] == 2)
      // It is nobody's harm but its own where it comes alone.
      #expect(bench.receiveDatagrams(datagram, from: remoteA).count == 1)
    }
  }

  /// Whatever its checksum: a frame whose header claims more than the frame has travels by itself.
  @Test func liarsDoNotTravelInTrains() throws {
    let bench = try Self.bench()
    let honest = Self.plan([UInt8](repeating: 3, count: 100)).frame
    var liar = honest
    liar[17] += 1
    func transmissions(_ frames: [[UInt8]]) -> Int {
      bench.receive(burst: frames, from: 1).count { $0.port.rawValue == 8 }
    }
    #expect(transmissions([honest, honest, honest]) == 1)
    #expect(transmissions([liar, honest, honest]) == 2)
    // Its flow is another one for the spreading over paths, so it does not part the two.
    #expect(transmissions([honest, liar, honest]) == 2)
    var six = Self.plan([UInt8](repeating: 3, count: 100), isIPv6: true).frame
    #expect(transmissions([six, six]) == 1)
    six[19] += 1
    #expect(transmissions([six, six]) == 2)
    var datagram = honest
    datagram[39] += 1
    #expect(transmissions([datagram, datagram]) == 2)
  }
}
