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
  package struct Input {
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

  // MARK: Inputs

  /// A frame as a device port may hand it over: tagged or not, whole or super, now and then broken.
  package mutating func input() -> Input {
    let frame = frame(tags: tags())
    var input = Input(frame: frame, tag: .none)
    if random.oneIn(3) { input = takingOutTag(input) }
    if random.oneIn(25) { input.frame = broken(input.frame) }
    return input
  }

  /// A valid frame with these tags.
  package mutating func frame(tags: [VLANTag]) -> PartialFrame {
    switch random.below(16) {
    case 14, 15: suspectFrame(tags: tags)
    case 0, 12: arpFrame(tags: tags)
    case 13: discoveryFrame(tags: tags)
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
  private func takingOutTag(_ input: Input) -> Input {
    guard let tag = FrameAnatomy(input.frame.bytes)?.tags.first else { return input }
    var result = input
    result.tag = tag
    result.frame.removeTag()
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
    let usual = min(500, payloadLimit)...payloadLimit
    let segmentSize = random.within(random.oneIn(4) ? 64...256 : usual)
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

  /// A request or reply of RFC 826: most of them honest, and each station with an address of its
  /// own.
  package mutating func arpFrame(tags: [VLANTag]) -> PartialFrame {
    let source = sourceAddress()
    let operation = random.oneIn(20) ? random.bits(UInt16.self) : random.oneIn(3) ? 2 : 1
    let unspecified = IPAddress(v4: 0)
    let sender =
      random.oneIn(12) ? random.pick([unspecified, IPAddress(v4: 0xE000_0001)]) : ip(of: source)
    let isAnnouncement = random.oneIn(8)
    let target = isAnnouncement ? sender : ip(of: random.pick(stations))
    let isToAll = operation == 1 ? !random.oneIn(6) : random.oneIn(4)
    let frame = arpOctets(
      operation: operation, from: random.oneIn(12) ? random.pick(stations) : source, sender,
      to: MACAddress(truncating: 0), target, source: source,
      destination: isToAll ? .broadcast : destinationAddress())
    return PartialFrame(padded(tagged(frame, tags)))
  }

  /// A message of RFC 4861: most of them honest and valid.
  package mutating func discoveryFrame(tags: [VLANTag]) -> PartialFrame {
    let source = sourceAddress()
    let sourceIP = random.oneIn(12) ? IPAddress(v6High: 0, low: 0) : ip(of: source, isIPv6: true)
    let targetIP = ip(of: random.pick(stations), isIPv6: true)
    if random.oneIn(2) {
      return PartialFrame(tagged(neighborQuestion(for: targetIP, from: source, sourceIP), tags))
    }
    let kind = random.oneIn(20) ? random.bits(UInt8.self) : random.pick([133, 134, 135, 136, 136])
    let flags = random.oneIn(3) ? random.bits(UInt8.self) : random.pick([0x20, 0x60, 0xA0, 0xE0])
    var message: [UInt8] = [kind, random.oneIn(20) ? 1 : 0, 0, 0, flags, 0, 0, 0]
    if kind == 134 { message += random.octets(8) }
    if kind == 135 || kind == 136 {
      let subject = kind == 136 && !random.oneIn(6) ? sourceIP : targetIP
      message.append(number: subject.high)
      message.append(number: subject.low)
    }
    for _ in 0..<random.pick([0, 1, 1, 1, 2]) {
      let type = random.oneIn(8) ? random.bits(UInt8.self) : kind == 136 ? 2 : 1
      message += [type, random.oneIn(12) ? UInt8(random.below(4)) : 1]
      message.append(address: random.oneIn(8) ? random.pick(stations) : source)
    }
    let isToAll = random.oneIn(2)
    let everybody = IPAddress(v6High: 0xFF02_0000_0000_0000, low: 1)
    var frame = ndOctets(
      from: source, sourceIP,
      to: isToAll != random.oneIn(20)
        ? MACAddress(truncating: 0x3333_0000_0001) : destinationAddress(),
      isToAll ? everybody : targetIP, message: message, hopLimit: random.oneIn(20) ? 64 : 255,
      extensions: (0..<(random.oneIn(6) ? random.below(10) : 0)).map { _ in
        random.pick([0, 43, 60, 60, random.oneIn(3) ? 44 : 0])
      })
    if random.oneIn(15) {
      let place = random.within(14...frame.count - 1)
      frame[place] ^= UInt8(1) << UInt8(random.below(8))
    }
    return PartialFrame(padded(tagged(frame, tags)))
  }

  /// What a station says to all when it gets its address.
  package func announcement(of station: MACAddress, isIPv6: Bool, tags: [VLANTag]) -> PartialFrame {
    let ip = ip(of: station, isIPv6: isIPv6)
    return PartialFrame(tagged(neighborAnnouncement(of: ip, at: station), tags))
  }

  /// A question of one station to all for the address of another.
  package func question(
    for station: MACAddress, from asker: MACAddress, isIPv6: Bool, tags: [VLANTag]
  ) -> PartialFrame {
    let question = neighborQuestion(
      for: ip(of: station, isIPv6: isIPv6), from: asker, ip(of: asker, isIPv6: isIPv6))
    return PartialFrame(tagged(question, tags))
  }

  /// The address that an honest station has.
  func ip(of station: MACAddress, isIPv6: Bool = false) -> IPAddress {
    let number = station.rawValue & 0xFFFF
    return isIPv6
      ? IPAddress(v6High: 0xFE80_0000_0000_0000, low: number)
      : IPAddress(v4: 0x0A00_0000 | UInt32(truncatingIfNeeded: number))
  }

  /// The frame with tags put in.
  func tagged(_ frame: [UInt8], _ tags: [VLANTag]) -> [UInt8] {
    var header = Array(frame[..<12])
    for tag in tags {
      header.append(number: tag.protocolID)
      header.append(number: tag.control)
    }
    return header + frame[12...]
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

  mutating func sourceAddress() -> MACAddress {
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
