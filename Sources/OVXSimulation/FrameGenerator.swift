package import OVXDatapath

/// Makes random frames, mostly valid ones, between a few stations, so that addresses meet again.
package struct FrameGenerator {
  package var random: SeededRandom
  /// The addresses that frames come from and go to.
  package var stations: [MACAddress]
  /// The VLANs that tags name.
  package var vlans: [VLANID]
  /// The largest payload of a superframe, in bytes.
  package var superframeLimit = 12_000
  /// The largest payload of an ordinary frame, in bytes.
  package var payloadLimit = 1400

  /// A frame and the tag that the kernel took out of it, if it did.
  package struct Stimulus {
    package var frame: PartialFrame
    package var tag: VLANTag
  }

  /// - Parameters:
  ///   - seed: What decides all frames.
  ///   - stationCount: How many unicast addresses take part.
  ///   - vlans: The VLANs that tags name; VLAN 0 makes a priority tag.
  package init(seed: UInt64, stationCount: Int = 12, vlans: [VLANID]) {
    random = SeededRandom(seed: seed)
    stations = (0..<max(stationCount, 1)).map {
      MACAddress(truncating: 0x0200_0000_0001 + UInt64($0))
    }
    self.vlans = vlans.isEmpty ? [.untagged] : vlans
  }

  // MARK: Stimuli

  /// A frame as a device port may hand it over: tagged or not, whole or super, now and then broken.
  package mutating func stimulus() -> Stimulus {
    let frame = frame(tags: tags())
    var stimulus = Stimulus(frame: frame, tag: .none)
    if random.oneIn(3) { stimulus = takingOutTag(stimulus) }
    if random.oneIn(25) { stimulus.frame = broken(stimulus.frame) }
    return stimulus
  }

  /// A valid frame with these tags.
  package mutating func frame(tags: [VLANTag]) -> PartialFrame {
    switch random.below(12) {
    case 0: arpFrame(tags: tags)
    case 1: otherFrame(tags: tags)
    case 2: fragment(tags: tags)
    case 3, 4: superframe(tags: tags)
    case 5, 6, 7: partial(packet(tags: tags))
    default: PartialFrame(padded(zeroingChecksum(packet(tags: tags))))
    }
  }

  /// None, one, or seldom two tags.
  package mutating func tags() -> [VLANTag] {
    switch random.below(20) {
    case 0..<9: []
    case 9..<18: [tag()]
    case 18: [tag(), tag()]
    default:
      [VLANTag(control: tag().control, protocolID: 0x88A8)] + (random.oneIn(2) ? [tag()] : [])
    }
  }

  package mutating func tag() -> VLANTag {
    let vlan = random.oneIn(6) ? VLANID.untagged : random.pick(vlans)
    let priority = random.oneIn(2) ? 0 : UInt16(random.below(16)) << 12
    return VLANTag(control: priority | vlan.rawValue)
  }

  /// The same frame with its outermost tag beside it instead of inside.
  private func takingOutTag(_ stimulus: Stimulus) -> Stimulus {
    let bytes = stimulus.frame.bytes
    guard let tag = FrameAnatomy(bytes)?.tags.first else { return stimulus }
    var result = stimulus
    result.tag = tag
    result.frame.bytes = Array(bytes[..<12] + bytes[16...])
    if result.frame.offload.needsChecksum { result.frame.offload.checksumStart -= 4 }
    if result.frame.offload.isSuperframe { result.frame.offload.headerLength -= 4 }
    return result
  }

  // MARK: Kinds

  /// A TCP or UDP packet with random contents.
  package mutating func packet(tags: [VLANTag], isTCP: Bool? = nil) -> PacketPlan {
    var plan = PacketPlan(from: sourceAddress(), to: destinationAddress())
    plan.tags = tags
    plan.isIPv6 = random.oneIn(3)
    plan.isTCP = isTCP ?? random.oneIn(2)
    plan.sourceHost = UInt16(random.below(4))
    plan.destinationHost = UInt16(random.below(4))
    plan.sourcePort = 40000 + UInt16(random.below(4))
    plan.sequence = random.bits(UInt32.self)
    plan.acknowledgement = random.bits(UInt32.self)
    plan.identification = random.bits(UInt16.self)
    plan.dontFragment = !random.oneIn(4)
    if random.oneIn(4) { plan.tcpFlags = random.bits(UInt8.self) }
    if random.oneIn(2) { plan.tcpOptions = [1, 1, 8, 10] + random.octets(8) }
    if random.oneIn(10) { plan.trafficClass = random.bits(UInt8.self) }
    if random.oneIn(12) { plan.ipOptions = [1, 1, 1, 0] }
    if random.oneIn(12) { plan.hasExtensionHeader = true }
    let length = random.oneIn(4) ? 0 : random.within(1...max(payloadLimit, 1))
    plan.payload = random.octets(length)
    return plan
  }

  /// A superframe of at least one segment.
  package mutating func superframe(tags: [VLANTag]) -> PartialFrame {
    var plan = packet(tags: tags)
    plan.ipOptions = []
    plan.hasExtensionHeader = false
    let segmentSize = random.within(random.oneIn(4) ? 64...256 : 500...payloadLimit)
    let most = max(1, min(superframeLimit, segmentSize * 60))
    plan.payload = random.octets(random.within(1...most))
    return plan.superframe(segmentSize: segmentSize)
  }

  /// The frames of some conversations between two stations, mixed, all of one length but the last.
  ///
  /// Each conversation is in order, and its TCP segments follow one another without a gap: what a
  /// sender's superframes look like on the wire.
  package mutating func conversations(tags: [VLANTag], count: Int) -> [[UInt8]] {
    var first = packet(tags: tags, isTCP: true)
    first.ipOptions = []
    first.hasExtensionHeader = false
    first.tcpFlags = 0x10
    let length = first.headerLength + random.within(1...max(min(payloadLimit, 1380), 1))
    var plans = (0..<random.within(1...3)).map { number in
      var plan = first
      plan.sourcePort &+= UInt16(number)
      plan.sequence = random.bits(UInt32.self)
      plan.identification = random.bits(UInt16.self)
      if random.oneIn(4) { plan.isTCP = false }
      return plan
    }
    let arePartial = plans.map { _ in random.oneIn(4) }
    return (0..<count).map { number in
      let index = random.below(plans.count)
      let room = length - plans[index].headerLength
      let isLast = number + 1 == count
      plans[index].payload = random.octets(isLast ? random.within(1...max(room, 1)) : room)
      plans[index].tcpFlags = random.oneIn(8) ? 0x18 : 0x10
      defer {
        plans[index].sequence &+= UInt32(plans[index].payload.count)
        plans[index].identification &+= 1
      }
      return arePartial[index] ? plans[index].partialFrame.bytes : plans[index].frame
    }
  }

  private mutating func partial(_ plan: PacketPlan) -> PartialFrame { plan.partialFrame }

  private mutating func zeroingChecksum(_ plan: PacketPlan) -> [UInt8] {
    var frame = plan.frame
    if !plan.isTCP, !plan.isIPv6, random.oneIn(4), let field = FrameAnatomy(frame)?.checksumField {
      frame.setNumber(UInt16(0), at: field)
    }
    return frame
  }

  /// A request or reply of RFC 826.
  package mutating func arpFrame(tags: [VLANTag]) -> PartialFrame {
    let source = sourceAddress()
    var payload: [UInt8] = [0, 1, 8, 0, 6, 4, 0, random.oneIn(2) ? 1 : 2]
    payload.append(address: source)
    payload.append(number: 0x0A00_0000 | UInt32(random.below(8)))
    payload += [0, 0, 0, 0, 0, 0]
    payload.append(number: 0x0A00_0000 | UInt32(random.below(8)))
    let target = random.oneIn(2) ? MACAddress.broadcast : destinationAddress()
    let frame = plainFrame(
      from: source,
      to: target,
      tags: tags,
      etherType: 0x0806,
      payload: payload
    )
    return PartialFrame(padded(frame))
  }

  /// An unknown type, or a length as in 802.3, over random bytes.
  private mutating func otherFrame(tags: [VLANTag]) -> PartialFrame {
    let payload = random.octets(random.below(payloadLimit))
    let type = random.oneIn(2) ? UInt16(truncatingIfNeeded: payload.count) : 0x88B5
    return PartialFrame(
      plainFrame(
        from: sourceAddress(),
        to: destinationAddress(),
        tags: tags,
        etherType: type,
        payload: payload
      )
    )
  }

  /// A fragment of an IPv4 datagram; its transport header is not to be looked at.
  private mutating func fragment(tags: [VLANTag]) -> PartialFrame {
    var plan = packet(tags: tags)
    plan.isIPv6 = false
    plan.dontFragment = false
    var frame = plan.frame
    let network = 14 + 4 * tags.count
    frame.setNumber(UInt16(random.oneIn(2) ? 0x2000 : random.within(1...0x3FFF)), at: network + 6)
    FrameAnatomy(frame)?.fillChecksums(in: &frame)
    return PartialFrame(frame)
  }

  /// The frame as a card pads it to the smallest Ethernet frame, or not.
  private mutating func padded(_ frame: [UInt8]) -> [UInt8] {
    guard frame.count < 60, random.oneIn(2) else { return frame }
    return frame + [UInt8](repeating: 0, count: 60 - frame.count)
  }

  // MARK: Addresses

  private mutating func sourceAddress() -> MACAddress {
    switch random.below(60) {
    case 0: MACAddress(truncating: 0)
    case 1: MACAddress(truncating: random.next() | 1 << 40)
    default: random.pick(stations)
    }
  }

  private mutating func destinationAddress() -> MACAddress {
    switch random.below(30) {
    case 0: MACAddress(truncating: 0x0180_C200_0000 + UInt64(random.below(16)))
    case 1: MACAddress(truncating: 0x0180_C200_0010 + UInt64(random.below(16)))
    case 2, 3: MACAddress(truncating: 0x0100_5E00_0000 + UInt64(random.below(4)))
    case 4...6: .broadcast
    default: random.pick(stations)
    }
  }

  // MARK: Broken ones

  /// The frame cut short, overwritten in places, or with an offload request that does not fit it.
  package mutating func broken(_ frame: PartialFrame) -> PartialFrame {
    var frame = frame
    switch random.below(4) {
    case 0:
      frame.bytes = Array(frame.bytes.prefix(random.below(frame.bytes.count + 1)))
    case 1:
      for _ in 0..<random.within(1...4) where !frame.bytes.isEmpty {
        let front = random.oneIn(2) ? min(frame.bytes.count, 80) : frame.bytes.count
        frame.bytes[random.below(front)] = random.bits(UInt8.self)
      }
    case 2:
      frame.offload = offload()
    default:
      frame.bytes = random.octets(random.below(200))
    }
    return frame
  }

  /// Any offload request, most of them nonsense.
  package mutating func offload() -> Offload {
    let kinds: [UInt8] = [0, 0, 1, 3, 4, 5, 0x81, 0x84, random.bits(UInt8.self)]
    return Offload(
      flags: Offload.Flags(
        rawValue: random.oneIn(4) ? random.bits(UInt8.self) : UInt8(random.below(4))
      ),
      segmentation: Offload.Segmentation(rawValue: random.pick(kinds)),
      headerLength: UInt16(truncatingIfNeeded: random.below(random.oneIn(3) ? 65536 : 100)),
      segmentSize: UInt16(truncatingIfNeeded: random.below(random.oneIn(3) ? 65536 : 1500)),
      checksumStart: UInt16(truncatingIfNeeded: random.below(random.oneIn(3) ? 65536 : 100)),
      checksumOffset: UInt16(truncatingIfNeeded: random.below(random.oneIn(3) ? 65536 : 20))
    )
  }
}
