package import OVXDatapath

// Frames by which a container passes for somebody else, and those that look like it and are honest.

extension FrameGenerator {
  /// A frame that port security has an opinion of.
  package mutating func suspectFrame(tags: [VLANTag]) -> PartialFrame {
    var frame: PartialFrame
    switch random.below(8) {
    case 0, 1: frame = PartialFrame(dhcpFrame())
    case 2, 3: frame = PartialFrame(controlFrame())
    case 4: frame = PartialFrame(datagramBehindExtensions())
    case 5: frame = PartialFrame(honestDiscovery())
    case 6: frame = PartialFrame(probeFrame())
    default: frame = PartialFrame(logicalLinkFrame())
    }
    frame.bytes = tagged(frame.bytes, random.oneIn(12) ? tags + [tag(), tag(), tag()] : tags)
    if random.oneIn(12) { frame = askingForAChecksum(frame) }
    return frame
  }

  /// The IPv6 link-local address that a station makes of its own.
  private func linkLocal(_ station: MACAddress) -> IPAddress {
    var octets = station.octets
    octets[0] ^= 2
    let low = Array(octets[..<3]) + [0xFF, 0xFE] + octets[3...]
    return IPAddress(v6High: 0xFE80_0000_0000_0000, low: low.number(at: 0, count: 8) ?? 0)
  }

  private mutating func sourceIPv6(of station: MACAddress) -> IPAddress {
    switch random.below(6) {
    case 0: IPAddress(v6High: 0, low: 0)
    case 1: linkLocal(random.pick(stations))
    case 2: IPAddress(v6High: 0xFD00_0000_0000_0000, low: UInt64(random.below(6)))
    case 3: ip(of: station, isIPv6: true)
    default: linkLocal(station)
    }
  }

  /// A datagram of DHCP or one like it, over IPv4: whole, a fragment, or too short for its ports.
  private mutating func dhcpFrame() -> [UInt8] {
    let source = sourceAddress()
    var plan = PacketPlan(from: source, to: random.oneIn(2) ? .broadcast : random.pick(stations))
    plan.isTCP = random.oneIn(12)
    plan.dontFragment = false
    (plan.sourcePort, plan.destinationPort) = random.pick([
      (68, 67), (68, 67), (67, 68), (67, 67), (4000, 68), (67, 4000), (68, 4000), (4000, 67),
    ])
    if random.oneIn(8) { plan.ipOptions = [1, 1, 1, 0] }
    plan.payload = random.octets(random.below(40))
    var frame = plan.frame
    let address =
      random.oneIn(2)
      ? IPAddress(v4: 0) : random.oneIn(2) ? ip(of: source) : ip(of: random.pick(stations))
    frame.setNumber(UInt32(truncatingIfNeeded: address.low), at: 26)
    if random.oneIn(4) {
      frame.setNumber(UInt16(random.pick([0x2000, 0x2000, 0x0001, 0x2001, 0x8000])), at: 20)
    }
    if random.oneIn(6) {
      // Fewer bytes than the ports need, and the rest is padding.
      frame.setNumber(UInt16(20 + plan.ipOptions.count + random.below(9)), at: 16)
    }
    if random.oneIn(12) { frame[23] = random.bits(UInt8.self) }
    if random.oneIn(8) {
      frame[23] = 1
      frame[34 + plan.ipOptions.count] = random.pick([0, 3, 5, 8, 9, 9, 10])
    }
    FrameAnatomy(frame)?.fillChecksums(in: &frame)
    return frame
  }

  /// A chain of extension headers, and what is behind it; its first header's number.
  private mutating func extensions(_ upper: UInt8) -> (first: UInt8, octets: [UInt8]) {
    let kinds: [UInt8] = (0..<random.pick([0, 0, 1, 1, 2, 3, 9])).map { _ in
      random.pick([0, 43, 44, 44, 60])
    }
    var octets: [UInt8] = []
    for (number, kind) in kinds.enumerated() {
      let next = number + 1 < kinds.count ? kinds[number + 1] : upper
      switch kind {
      case 44:
        let fragment = random.pick([0, 0, 1, 1, 8, 9, 0x100])
        octets += [next, 0, UInt8(fragment >> 8), UInt8(fragment & 0xFF), 0, 0, 0, 7]
      case 43: octets += [next, 0, 4, random.oneIn(4) ? 1 : 0, 0, 0, 0, 0]
      default: octets += [next, random.oneIn(16) ? 1 : 0, 1, 4, 0, 0, 0, 0]
      }
    }
    return (kinds.first ?? upper, octets)
  }

  private func ipv6Frame(
    from source: MACAddress, _ sourceIP: IPAddress, to target: MACAddress, _ targetIP: IPAddress,
    _ chain: (first: UInt8, octets: [UInt8]), _ upper: [UInt8], hopLimit: UInt8 = 255
  ) -> [UInt8] {
    var frame: [UInt8] = []
    frame.append(address: target)
    frame.append(address: source)
    frame += [0x86, 0xDD, 0x60, 0, 0, 0]
    frame.append(number: UInt16(chain.octets.count + upper.count))
    frame += [chain.first, hopLimit]
    for ip in [sourceIP, targetIP] {
      frame.append(number: ip.high)
      frame.append(number: ip.low)
    }
    return frame + chain.octets + upper
  }

  /// ICMPv6 of routers, neighbors and listeners, behind extension headers and in fragments.
  private mutating func controlFrame() -> [UInt8] {
    let source = sourceAddress()
    let sourceIP = sourceIPv6(of: source)
    let everybody = IPAddress(v6High: 0xFF02_0000_0000_0000, low: 1)
    let kind: UInt8 = random.pick([128, 130, 131, 132, 133, 134, 134, 135, 136, 137, 137, 143])
    var message: [UInt8] = [kind, 0, 0, 0] + random.octets(random.pick([0, 4, 20, 20, 28, 36]))
    var pseudo: [UInt8] = []
    for ip in [sourceIP, everybody] {
      pseudo.append(number: ip.high)
      pseudo.append(number: ip.low)
    }
    pseudo.append(number: UInt32(message.count))
    pseudo += [0, 0, 0, 58]
    let sum = onesComplementSum(message[...], startingFrom: UInt64(onesComplementSum(pseudo[...])))
    message.setNumber(~sum, at: 2)
    if random.oneIn(12) { message = Array(message.prefix(random.below(5))) }
    return ipv6Frame(
      from: source, sourceIP, to: MACAddress(truncating: 0x3333_0000_0001), everybody,
      extensions(58), message)
  }

  /// UDP over IPv6, of DHCP or not, behind extension headers and in fragments.
  private mutating func datagramBehindExtensions() -> [UInt8] {
    let source = sourceAddress()
    var datagram: [UInt8] = []
    for port: UInt16 in [random.pick([546, 547, 4000]), random.pick([546, 547, 4000])] {
      datagram.append(number: port)
    }
    datagram += [0, 12, 0, 1, 1, 2, 3, 4]
    if random.oneIn(8) { datagram = Array(datagram.prefix(random.below(9))) }
    return ipv6Frame(
      from: source, sourceIPv6(of: source), to: random.pick(stations),
      ip(of: random.pick(stations), isIPv6: true), extensions(17), datagram)
  }

  /// A valid message of neighbor discovery, about its sender or somebody else.
  private mutating func honestDiscovery() -> [UInt8] {
    let source = sourceAddress()
    let told = random.oneIn(4) ? random.pick(stations) : source
    let subject = linkLocal(random.oneIn(3) ? random.pick(stations) : source)
    switch random.below(4) {
    case 0: return neighborAnnouncement(of: subject, at: told)
    case 1: return neighborQuestion(for: subject, from: source, sourceIPv6(of: source))
    case 2:
      var message: [UInt8] = [136, 0, 0, 0, 0x20, 0, 0, 0]
      message.append(number: subject.high)
      message.append(number: subject.low)
      for station in [told, random.oneIn(2) ? told : random.pick(stations)] {
        message += [random.oneIn(6) ? 1 : 2, 1]
        message.append(address: station)
      }
      return ndOctets(
        from: source, sourceIPv6(of: source), to: MACAddress(truncating: 0x3333_0000_0001),
        IPAddress(v6High: 0xFF02_0000_0000_0000, low: 1), message: message)
    default:
      // Whether somebody has the address already.
      var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0]
      message.append(number: subject.high)
      message.append(number: subject.low)
      let group = 0x0000_0001_FF00_0000 | subject.low & 0xFF_FFFF
      return ndOctets(
        from: source, IPAddress(v6High: 0, low: 0),
        to: MACAddress(truncating: 0x3333_0000_0000 | group & 0xFFFF_FFFF),
        IPAddress(v6High: 0xFF02_0000_0000_0000, low: group), message: message)
    }
  }

  /// ARP that asks in nobody's name, or of another kind of hardware.
  private mutating func probeFrame() -> [UInt8] {
    let source = sourceAddress()
    var frame = arpOctets(
      operation: random.pick([1, 1, 1, 2, 3]), from: source, IPAddress(v4: 0),
      to: MACAddress(truncating: 0), ip(of: random.oneIn(2) ? source : random.pick(stations)))
    if random.oneIn(4) { frame[15] = 6 }
    return frame
  }

  /// A frame of 802.3 with LLC behind its length, and something of ARP or IP behind SNAP.
  private mutating func logicalLinkFrame() -> [UInt8] {
    let inner = random.oneIn(2) ? probeFrame() : dhcpFrame()
    let header: [UInt8] = random.pick([
      [0xAA, 0xAA, 3, 0, 0, 0], [0xAB, 0xAA, 3, 0, 0, 0], [0xAA, 0xAB, 3, 0, 0, 0xF8],
      [0x42, 0x42, 3, 0, 0, 0], [0xAA],
    ])
    let payload = header + inner[12...]
    var frame = Array(inner[..<12])
    frame.append(number: UInt16(random.oneIn(4) ? 0x05FF : payload.count))
    return frame + payload
  }

  /// The frame with a checksum asked for that would be written over something of its headers, or
  /// just behind.
  private mutating func askingForAChecksum(_ frame: PartialFrame) -> PartialFrame {
    var frame = frame
    let start = FrameAnatomy(frame.bytes)?.network ?? 14
    frame.offload = Offload(flags: .needsChecksum)
    frame.offload.checksumStart = UInt16(start)
    frame.offload.checksumOffset = UInt16(random.below(70))
    return frame
  }
}

extension TopologyGenerator {
  /// What a port may send, of what `FrameGenerator` sends; `nil` for anything.
  mutating func security() -> PortSecurity? {
    guard hasSecurity, random.oneIn(3) else { return nil }
    func station(_ number: Int) -> MACAddress {
      MACAddress(truncating: 0x0200_0000_0001 + UInt64(number))
    }
    var security = PortSecurity()
    if !random.oneIn(4) {
      security.stations = (0..<random.within(1...9)).map { _ in station(random.below(12)) }
    }
    if !random.oneIn(4) {
      security.addresses = (0..<random.within(1...12)).map { _ in
        let number = UInt64(random.below(14))
        return switch random.below(4) {
        case 0: PortSecurity.Prefix(base: IPAddress(v4: 0x0A00_0000 | UInt32(number)), length: 32)
        case 1:
          PortSecurity.Prefix(
            base: IPAddress(v4: 0x0A00_0000 | UInt32(number)),
            length: random.pick([0, 8, 28, 30, 31]))
        case 2:
          PortSecurity.Prefix(
            base: IPAddress(v6High: 0xFD00_0000_0000_0000, low: number),
            length: random.pick([0, 7, 64, 65, 124, 127, 128, 128]))
        default:
          PortSecurity.Prefix(
            base: IPAddress(v6High: 0xFE80_0000_0000_0000, low: number), length: 128)
        }
      }
    }
    if random.oneIn(2) {
      security.gateways = [
        IPAddress(v4: 0x0A00_0000 | UInt32(random.below(13))),
        IPAddress(v6High: 0xFE80_0000_0000_0000, low: UInt64(random.below(13))),
      ]
      if random.oneIn(2) { security.gatewayStation = station(random.below(12)) }
    }
    return security
  }
}
