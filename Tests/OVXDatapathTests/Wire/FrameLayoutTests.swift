import OVXSimulation
import Testing

@testable import OVXDatapath

@Suite struct FrameLayoutTests {
  private func layout(_ frame: [UInt8]) -> FrameLayout {
    let memory = GuardedMemory(max(frame.count, 1))
    return unsafe FrameLayout(memory.placeAtEnd(frame), count: frame.count)
  }

  @Test func anyPacket() {
    var random = SeededRandom()
    for _ in 0..<500 {
      let packet = ReferencePacket.random(&random, payloadCount: random.within(0...1400))
      let layout = layout(packet.frame + random.octets(random.within(0...20)))
      #expect(layout.isIP && layout.hasIPHeader, "OVX_SEED=\(random.seed)")
      #expect(layout.isIPv6 == packet.isIPv6)
      #expect(layout.networkOffset == 14 + 4 * packet.tags.count)
      #expect(layout.transportOffset == packet.transportOffset)
      #expect(layout.packetEnd == packet.frame.count)
      #expect(layout.transport == (packet.isUDP ? .udp : .tcp))
    }
  }

  @Test func inside() {
    var packet = ReferencePacket()
    packet.payload = [1, 2, 3]
    let plain = layout(packet.frame)
    let behind = plain.behind(50)
    #expect(behind.networkOffset == plain.networkOffset + 50)
    #expect(behind.transportOffset == plain.transportOffset + 50)
    #expect(behind.packetEnd == plain.packetEnd + 50)
    #expect(behind.isIP && behind.transport == plain.transport)
  }

  /// What ends within its tags carries nothing, and is nowhere to be written to behind them.
  @Test func tags() {
    let addresses = [UInt8](repeating: 2, count: 12)
    for tags in 0...5 {
      let frame = addresses + (0..<tags).flatMap { _ in hex("8100 0001") } + hex("88B5 0000")
      let whole = layout(frame)
      #expect(whole.networkOffset == 14 + 4 * min(tags, 3))
      #expect(whole.etherType.isVLAN == (tags > 3))
      for count in 0..<14 + 4 * min(tags, 3) {
        let part = layout([UInt8](frame.prefix(count)))
        #expect(part.networkOffset == count && part.etherType.isVLAN && !part.isIP)
      }
    }
  }

  @Test func contradictions() {
    var packet = ReferencePacket()
    packet.payload = [1, 2, 3]
    var frame = packet.frame
    // The total length of IPv4 is longer than the frame: there is a header, and no packet.
    frame[16] = 0xFF
    #expect(layout(frame).hasIPHeader && !layout(frame).isIP)
    frame[14] = 0x65
    #expect(!layout(frame).hasIPHeader)
  }

  /// A sender chooses where its checksum goes: what is known of the headers is not, if that is in
  /// front of them.
  @Test func aChecksumInTheHeadersIsReadAgain() {
    var packet = ReferencePacket()
    packet.isUDP = true
    packet.payload = [UInt8](repeating: 0, count: 20)
    for (start, offset) in [(14, 2), (14, 9), (34, 4)] {
      let memory = GuardedMemory(Frame.headroom + packet.frame.count)
      let place = unsafe memory.placeAtEnd(packet.frame)
      let offload = Offload(
        flags: .needsChecksum, checksumStart: UInt16(start), checksumOffset: UInt16(offset))
      var frame = unsafe Frame(
        place, count: packet.frame.count, offload: offload,
        from: Destination(port: PortID(rawValue: 0)), group: .none)
      let heldItsLengths = frame.holdsItsLengths
      #expect(heldItsLengths)
      let isDone = frame.completeChecksum()
      #expect(isDone)
      let again = unsafe FrameLayout(place, count: packet.frame.count)
      let layout = frame.layout
      #expect(layout.isIP == again.isIP)
      #expect(layout.transport == again.transport)
      #expect(layout.packetEnd == again.packetEnd)
      // The first is a length of the packet, the last one of the datagram; between is the protocol.
      let holdsItsLengths = frame.holdsItsLengths
      #expect(holdsItsLengths == (offset == 9))
    }
  }

  /// Taking out a tag and putting it back moves the headers.
  @Test func movedHeaders() {
    var packet = ReferencePacket()
    packet.tags = [[0x8100, 7]]
    packet.payload = [1, 2, 3]
    let memory = GuardedMemory(Frame.headroom + packet.frame.count)
    var frame = unsafe Frame(
      memory.placeAtEnd(packet.frame), count: packet.frame.count, offload: .none,
      from: Destination(port: PortID(rawValue: 0)), group: .none)
    let tagged = frame.layout
    let refusal = frame.takeOutTag()
    let bare = frame.layout
    frame.putBackTag()
    let again = frame.layout
    #expect(refusal == nil)
    #expect([tagged, bare, again].map(\.networkOffset) == [18, 14, 18])
    #expect([tagged, bare, again].map(\.isIP) == [true, true, true])
  }
}
