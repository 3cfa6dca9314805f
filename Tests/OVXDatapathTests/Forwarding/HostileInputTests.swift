import OVXDatapath
import OVXSimulation
import Testing

/// Bytes that nobody would send in good faith, in memory where one step aside is fatal.
///
/// Nothing is expected of the answers but that they come: no trap, no access outside of the frame,
/// no write where the frame was refused.
@Suite struct HostileInputTests {
  /// Random bytes, or a packet with some of its bytes changed, cut off anywhere or padded.
  private static func frame(_ random: inout SeededRandom) -> (bytes: [UInt8], offload: Offload) {
    if random.oneIn(8) {
      var bytes = random.octets(random.within(0...200))
      // Often enough something that looks like the start of IP.
      if bytes.count > 14, random.oneIn(2) {
        bytes.replaceSubrange(
          12..<15, with: random.pick([[8, 0, 0x45], [0x86, 0xDD, 0x60], [0x81, 0, 0]]))
      }
      return (bytes, offload(&random, ReferencePacket()))
    }
    let packet = ReferencePacket.random(
      &random, payloadCount: random.pick([0, 1, 20, 300, 2000, 9000]))
    var bytes = packet.frame(partial: random.oneIn(2))
    for _ in 0..<random.pick([0, 1, 1, 2, 5]) {
      let end = random.oneIn(2) ? min(bytes.count, packet.headerLength) : bytes.count
      bytes[random.within(0...end - 1)] = random.pick([0, 1, 4, 5, 6, 0x0F, 0x40, 0x7F, 0xF0, 0xFF])
    }
    if random.oneIn(3) { bytes.removeLast(random.within(0...bytes.count)) }
    if random.oneIn(6) { bytes += random.octets(random.within(0...64)) }
    return (bytes, offload(&random, packet))
  }

  private static func offload(_ random: inout SeededRandom, _ packet: ReferencePacket) -> Offload {
    var offload = GSOTests.offload(packet, segmentSize: random.pick([1, 536, 1448]))
    if random.oneIn(3) { offload.segmentation = .none }
    if random.oneIn(3) { offload.segmentation = .init(rawValue: random.octets(1)[0]) }
    if random.oneIn(3) { offload.flags = .init(rawValue: random.octets(1)[0]) }
    if random.oneIn(6) { offload.segmentSize = random.pick([0, 1, 65535]) }
    if random.oneIn(6) { offload.checksumStart = UInt16(random.within(0...65535)) }
    if random.oneIn(6) { offload.checksumOffset = UInt16(random.within(0...65535)) }
    if random.oneIn(6) { offload.headerLength = UInt16(random.within(0...65535)) }
    return offload
  }

  @Test func views() {
    var random = SeededRandom()
    let memory = GuardedMemory(20000)
    // What is read is summed up, so that no read can be left out.
    var sum = 0
    for _ in 0..<3000 {
      let frame = Self.frame(&random).bytes
      let offset = random.pick([0, 14, 18, 22, 34, 54])
      let bytes = [UInt8](frame.dropFirst(offset))
      let span = memory.view(bytes)
      if let header = EthernetHeader(span) {
        sum &+= Int(header.destination.rawValue) &+ Int(header.source.rawValue)
        sum &+= Int(header.etherType.rawValue) &+ header.payload.byteCount
      }
      if let header = VLANHeader(span) {
        sum &+= Int(header.control) &+ Int(header.etherType.rawValue) &+ header.payload.byteCount
      }
      if let packet = ARPPacket(span) {
        sum &+= Int(packet.operation.rawValue) &+ Int(packet.senderHardware.rawValue)
        sum &+= Int(packet.targetHardware.rawValue) &+ Int(packet.senderProtocol.low)
        sum &+= Int(packet.targetProtocol.low)
      }
      if let header = IPv4Header(span) {
        sum &+= Int(header.typeOfService) &+ Int(header.identification) &+ header.fragmentOffset
        sum &+= Int(header.timeToLive) &+ Int(header.checksum) &+ Int(header.destination.low)
        #expect(header.options.byteCount == header.headerLength - 20)
        #expect(header.payload.byteCount == header.totalLength - header.headerLength)
        sum &+= contents(header.options).count &+ contents(header.payload).count
      }
      if let header = IPv6Header(span) {
        sum &+= Int(header.flowLabel) &+ Int(header.trafficClass) &+ Int(header.hopLimit)
        sum &+= Int(truncatingIfNeeded: header.source.low ^ header.destination.low)
        #expect(header.payload.byteCount == header.payloadLength)
        if let layer = header.upperLayer {
          #expect(layer.offset >= 40 && layer.offset <= 40 + header.payloadLength)
        }
      }
      if let header = UDPHeader(span) {
        sum &+= Int(header.sourcePort) &+ Int(header.destinationPort) &+ Int(header.checksum)
        #expect(header.payload.byteCount == header.length - 8)
      }
      if let header = TCPHeader(span) {
        sum &+= Int(header.sequence) &+ Int(header.acknowledgment) &+ Int(header.window)
        sum &+= Int(header.urgentPointer) &+ Int(header.flags.rawValue)
        #expect(header.options.byteCount == header.headerLength - 20)
        #expect(header.payload.byteCount == bytes.count - header.headerLength)
      }
      if let header = VXLANHeader(span) {
        sum &+= Int(header.vni.rawValue) &+ (header.hasVNI ? 1 : 0) &+ header.payload.byteCount
      }
    }
    #expect(sum != 0)
  }

  /// Neighbor discovery with some bytes changed and its checksum mended, so that the options are
  /// read.
  @Test func discoveryMessages() {
    var random = SeededRandom()
    let memory = GuardedMemory(4096)
    var accepted = 0
    for _ in 0..<6000 {
      var message: [UInt8] = [UInt8(random.within(133...136)), 0, 0, 0] + random.octets(20)
      message[8] = 0xFE
      for _ in 0..<random.within(0...4) {
        let length = random.pick([0, 1, 1, 2, 3, 255])
        message += [random.pick([1, 2, 3, 14]), UInt8(length)]
        message += random.octets(max(0, min(length, 3) * 8 - 2))
      }
      if random.oneIn(4) { message.removeLast(random.within(0...message.count)) }
      if random.oneIn(8), message.count > 1 {
        message[random.within(0...message.count - 1)] = random.octets(1)[0]
      }
      while message.count < 4 { message.append(0) }
      var frame = ndOctets(
        from: MACAddress(truncating: 1), IPAddress(v6High: 0xFE80 << 48, low: 1),
        to: MACAddress(truncating: 2), IPAddress(v6High: 0xFF02 << 48, low: 1), message: message)
      if random.oneIn(8) { frame[14 + random.within(0...39)] = random.octets(1)[0] }
      if random.oneIn(8) { frame.removeLast(random.within(0...frame.count - 14)) }
      guard let view = NeighborDiscoveryMessage(memory.view(Array(frame.dropFirst(14)))) else {
        continue
      }
      accepted += 1
      #expect(view.isFromRouter == (message[4] & 0x80 != 0))
      _ = (view.target, view.linkLayerAddress, view.isSolicited, view.isOverriding)
    }
    #expect(accepted > 300)
  }

  @Test func framesAtBothEndsOfMemory() {
    var random = SeededRandom()
    let memory = GuardedMemory(20000)
    let prefix = GuardedMemory(8)
    var superframes = 0
    for _ in 0..<4000 {
      let (bytes, offload) = Self.frame(&random)
      for atEnd in [true, false] {
        let place = unsafe atEnd ? memory.placeAtEnd(bytes) : memory.placeAtStart(bytes)
        let layout = unsafe FrameLayout(place, count: bytes.count)
        let span = unsafe RawSpan(_unsafeStart: place, byteCount: bytes.count)
        let hash = flowHash(span, layout)
        #expect(bytes.count >= 14 || hash == 0)
        if let superframe = unsafe Superframe(place, count: bytes.count, offload: offload) {
          superframes += 1
          #expect(superframe.headerLength <= bytes.count)
          #expect(superframe.headerLength + superframe.payloadCount <= bytes.count)
          let range = 0..<min(superframe.segmentCount(segmentSize: superframe.segmentSize), 20)
          let size = random.pick([0, 1, 100, superframe.segmentSize, .max])
          let count = superframe.byteCount(segments: range, segmentSize: size, prefixCount: 8)
          let output = GuardedMemory(count)
          #expect(
            unsafe superframe.write(
              segments: range, of: place, segmentSize: size, to: output.end - count,
              prefix: prefix.start, prefixCount: 8) == count)
        }
        let mtu = random.pick([0, 68, 1450, 9000, 65535])
        _ = unsafe arrivalOffload(place, count: bytes.count, layout, mtu: mtu)
        if unsafe !completeChecksum(place, count: bytes.count, offload: offload, layout) {
          #expect(unsafe octets(place, bytes.count) == bytes)
        }
      }
    }
    #expect(superframes > 300)
  }

  @Test func receiveOffload() {
    var random = SeededRandom()
    let memory = GuardedMemory(1 << 17)
    for _ in 0..<150 {
      // Of few flows, or nothing would ever meet.
      let seed = Self.frame(&random)
      var gro = GRO()
      var frames: [[UInt8]] = []
      var total = 0
      for _ in 0..<40 {
        var bytes = random.oneIn(3) ? Self.frame(&random).bytes : seed.bytes
        if !bytes.isEmpty, random.oneIn(2) {
          bytes[random.within(0...min(bytes.count, 70) - 1)] = random.octets(1)[0]
        }
        guard total + bytes.count < 1 << 17 else { break }
        frames.append(bytes)
        total += bytes.count
      }
      var place = unsafe memory.end - total
      for frame in frames {
        unsafe place.copyMemory(from: frame, byteCount: frame.count)
        unsafe place += frame.count
      }
      unsafe place = memory.end - total
      for (index, frame) in frames.enumerated() {
        let port = PortID(rawValue: 1)
        let result = unsafe gro.absorb(
          place, count: frame.count, FrameLayout(place, count: frame.count),
          offload: seed.offload, port: port, capabilities: .all)
        if case .separate(let mayOpen) = result, mayOpen || random.oneIn(3) {
          // Opening what must not be opened is to be harmless.
          unsafe gro.open(place, port: port, transmission: index)
        }
        unsafe place += frame.count
      }
      while let done = gro.finishNext() { #expect(done.offload.isSuperframe) }
    }
  }

  /// Lengths that no frame has, down to nothing at all.
  @Test func everyTruncation() {
    for isIPv6 in [false, true] {
      for isUDP in [false, true] {
        var packet = ReferencePacket()
        packet.isIPv6 = isIPv6
        packet.isUDP = isUDP
        packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
        packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
        packet.tags = [[0x8100, 1]]
        packet.ipOptions = isIPv6 ? [] : [1, 1, 1, 1]
        packet.extensions = [.init(number: 60, bytes: [UInt8](repeating: 0, count: 7))]
        packet.payload = [UInt8](repeating: 1, count: 50)
        let frame = packet.frame(partial: true)
        let offload = GSOTests.offload(packet, segmentSize: 10)
        let memory = GuardedMemory(frame.count)
        var gro = GRO()
        for count in 0...frame.count {
          let bytes = [UInt8](frame.prefix(count))
          let place = unsafe memory.placeAtEnd(bytes)
          let isWhole = count == frame.count
          let layout = unsafe FrameLayout(place, count: count)
          let span = unsafe RawSpan(_unsafeStart: place, byteCount: count)
          #expect(
            (unsafe Superframe(place, count: count, offload: offload) != nil) == isWhole)
          let arrival = unsafe arrivalOffload(place, count: count, layout, mtu: 1500)
          #expect((arrival != .accepted(.none)) == isWhole)
          #expect(
            unsafe gro.absorb(
              place, count: count, layout, offload: .none, port: PortID(rawValue: 0),
              capabilities: .all)
              == .separate(mayOpen: false))
          _ = flowHash(span, layout)
          _ = unsafe completeChecksum(place, count: count, offload: offload, layout)
        }
      }
    }
  }
}
