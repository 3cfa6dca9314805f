import OVXDatapath
import OVXSimulation
import Testing

@Suite struct FlowTests {
  private func hash(_ frame: [UInt8]) -> UInt32 {
    let memory = GuardedMemory(65536)
    let place = unsafe memory.placeAtEnd(frame)
    let bytes = unsafe RawSpan(_unsafeStart: place, byteCount: frame.count)
    return unsafe flowHash(bytes, FrameLayout(place, count: frame.count))
  }

  @Test func sameFlowSameHash() {
    var random = SeededRandom()
    for _ in 0..<200 {
      let packet = ReferencePacket.random(&random, payloadCount: 100)
      var other = packet
      other.payload = random.octets(random.within(0...200))
      other.sequence = random.bits(UInt32.self)
      other.flags = 0x11
      other.timeToLive = 3
      other.identification = 5
      other.flowLabel ^= 1
      #expect(hash(packet.frame) == hash(other.frame), "OVX_SEED=\(random.seed)")
      // Trailing padding and a partial checksum are nothing of the flow.
      #expect(hash(packet.frame) == hash(packet.frame(partial: true) + [1, 2, 3]))
    }
  }

  @Test func tagsAndExtensionsAreLookedBehind() {
    for isIPv6 in [false, true] {
      var packet = ReferencePacket()
      packet.isIPv6 = isIPv6
      packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
      packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
      let plain = hash(packet.frame)
      packet.tags = [[0x8100, 100]]
      #expect(hash(packet.frame) == plain)
      packet.tags = [[0x88A8, 7], [0x8100, 100]]
      #expect(hash(packet.frame) == plain)
      packet.extensions = [.init(number: 0, bytes: [UInt8](repeating: 0, count: 7))]
      packet.ipOptions = [1, 1, 1, 1]
      #expect(hash(packet.frame) == plain)
    }
  }

  @Test func eachPartOfTheFlowCounts() {
    for isIPv6 in [false, true] {
      var packet = ReferencePacket()
      packet.isIPv6 = isIPv6
      packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
      packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
      packet.payload = [UInt8](repeating: 7, count: 30)
      var hashes: Set<UInt32> = [hash(packet.frame)]
      var variants = 1
      func add(_ change: (inout ReferencePacket) -> Void) {
        var other = packet
        change(&other)
        hashes.insert(hash(other.frame))
        variants += 1
      }
      for index in packet.sourceAddress.indices {
        add { $0.sourceAddress[index] ^= 1 }
        add { $0.destinationAddress[index] ^= 0x80 }
      }
      add { $0.sourcePort ^= 1 }
      add { $0.destinationPort ^= 1 }
      add { $0.isUDP = true }
      // The way back is another flow.
      add {
        swap(&$0.sourceAddress, &$0.destinationAddress)
        swap(&$0.sourcePort, &$0.destinationPort)
      }
      #expect(hashes.count == variants)
    }
  }

  @Test func fragmentsAgree() {
    var random = SeededRandom()
    for isIPv6 in [false, true] {
      let source = random.octets(isIPv6 ? 16 : 4)
      let destination = random.octets(isIPv6 ? 16 : 4)
      var hashes: Set<UInt32> = []
      for offset in [0, 1, 2, 1000] {
        var packet = ReferencePacket()
        packet.isIPv6 = isIPv6
        packet.sourceAddress = source
        packet.destinationAddress = destination
        // What stands where the ports of the first one are is payload in the others.
        packet.sourcePort = random.within(0...0xFFFF)
        packet.isUDP = true
        packet.payload = random.octets(64)
        if isIPv6 {
          packet.extensions = [
            .init(number: 44, bytes: [0] + big16(offset << 3 | 1) + [9, 9, 9, 9])
          ]
        } else {
          packet.fragment = 0x2000 | offset
        }
        hashes.insert(hash(packet.frame))
      }
      #expect(hashes.count == 1, "OVX_SEED=\(random.seed)")
    }
  }

  @Test func otherFramesHashTheirAddresses() {
    let arp = hex("FFFFFFFFFFFF 02AABBCCDDEE 0806 0001 0800")
    #expect(hash(arp) == hash(arp + [9, 9, 9]))
    #expect(hash(arp) == hash([UInt8](arp.prefix(14))))
    for index in 0..<14 {
      var other = arp
      other[index] ^= 0x01
      #expect(hash(arp) != hash(other), "byte \(index)")
    }
    for count in 0..<14 { #expect(hash([UInt8](arp.prefix(count))) == 0) }
  }

  /// Neighboring addresses and ports must fill few and many paths evenly, by the low and by the
  /// high bits.
  @Test(arguments: [false, true], [true, false])
  func spread(isIPv6: Bool, byPort: Bool) {
    var packet = ReferencePacket()
    packet.isIPv6 = isIPv6
    packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
    packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
    let flows = 4096
    let paths = 64
    var low = [Int](repeating: 0, count: paths)
    var high = low
    var scaled = low
    for flow in 0..<flows {
      if byPort {
        packet.sourcePort = 32768 + flow
      } else {
        packet.sourceAddress.replaceSubrange(
          (packet.sourceAddress.count - 2)...,
          with: big16(flow)
        )
      }
      let value = hash(packet.frame)
      low[Int(value) % paths] += 1
      high[Int(value >> 26)] += 1
      scaled[(Int(value) * 63) >> 32] += 1
    }
    // Chi-squared with 63 degrees of freedom exceeds 130 by chance once in a million times.
    for buckets in [low, high] {
      let expected = Double(flows) / Double(paths)
      let chiSquared = buckets.reduce(0.0) {
        $0 + (Double($1) - expected) * (Double($1) - expected) / expected
      }
      #expect(chiSquared < 130)
    }
    #expect(scaled[63] == 0 && scaled[0..<63].allSatisfy { $0 > 20 })
  }
}
