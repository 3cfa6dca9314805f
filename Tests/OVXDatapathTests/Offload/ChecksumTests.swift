import CChecksum
import OVXDatapath
import OVXSimulation
import Testing

@Suite struct ChecksumTests {
  private func sum(_ pointer: UnsafeRawPointer, _ count: Int) -> UInt16 {
    var sum = InternetSum()
    unsafe sum.add(pointer, count: count)
    return sum.folded
  }

  /// Every implementation that this processor can run, not only the one that is used on it.
  @Test func kernels() throws {
    var list: UnsafePointer<ovx_checksum_kernel>?
    let count = unsafe ovx_checksum_kernels(&list)
    let kernels = unsafe UnsafeBufferPointer(start: list, count: count)
    #expect(count >= 1)
    var random = SeededRandom()
    let source = GuardedMemory(1 << 17)
    let destination = GuardedMemory(1 << 17)
    let lengths =
      [Int](0...300) + [65535, 65536] + (0..<10).map { _ in random.within(300...100_000) }
    for length in lengths {
      let bytes = random.oneIn(4) ? [UInt8](repeating: 0xFF, count: length) : random.octets(length)
      let place = unsafe source.placeAtEnd(bytes)
      let expected = referenceSum(bytes)
      for index in kernels.indices {
        let kernel = unsafe kernels[index]
        destination.fill(0xA5)
        let target = unsafe destination.end - length
        let sum = unsafe kernel.sum(place, length).bigEndian
        let copySum = unsafe kernel.copy(target, place, length).bigEndian
        let isRight =
          unsafe sum == expected && copySum == expected && octets(target, length) == bytes
        #expect(isRight, "kernel \(index), \(length) bytes, OVX_SEED=\(random.seed)")
      }
    }
    // The last one is in use.
    let name = unsafe kernels.last.map { unsafe String(cString: $0.name) }
    #expect(unsafe name == String(cString: ovx_checksum_name()))
  }

  /// RFC 1071, section 3, numbers its example in this way.
  @Test func exampleOfTheRFC() {
    let memory = GuardedMemory(64)
    let bytes = hex("0001 F203 F4F5 F6F7")
    #expect(unsafe sum(memory.placeAtEnd(bytes), 8) == 0xDDF2)
    var sum = InternetSum()
    unsafe sum.add(memory.placeAtEnd(bytes), count: 8)
    #expect(sum.checksum == 0x220D)
  }

  @Test func shortAtAnyAlignment() {
    var random = SeededRandom()
    let memory = GuardedMemory(512)
    for count in 0...300 {
      let bytes = random.octets(count)
      let expected = referenceSum(bytes)
      for shift in 0..<5 {
        let place = unsafe memory.end - count - shift * 13
        unsafe place.copyMemory(from: bytes, byteCount: count)
        let isEqual = unsafe sum(place, count) == expected
        #expect(isEqual, "\(count) bytes, OVX_SEED=\(random.seed)")
      }
      let isEqual = unsafe sum(memory.placeAtStart(bytes), count) == expected
      #expect(isEqual, "\(count) bytes, OVX_SEED=\(random.seed)")
    }
  }

  @Test func anyLengthAndAlignment() {
    var random = SeededRandom()
    let memory = GuardedMemory(70000)
    for _ in 0..<60 {
      let bytes = random.octets(
        random.oneIn(2) ? random.within(0...3000) : random.within(0...65535))
      let place = unsafe memory.end - bytes.count - random.within(0...70)
      unsafe place.copyMemory(from: bytes, byteCount: bytes.count)
      let isEqual = unsafe sum(place, bytes.count) == referenceSum(bytes)
      #expect(isEqual, "\(bytes.count) bytes, OVX_SEED=\(random.seed)")
    }
  }

  /// All ones make the most carries, and must not be taken for zero; zeros must.
  @Test func carries() {
    let memory = GuardedMemory(1 << 20)
    for count in [1, 2, 3, 4, 31, 64, 65, 255, 1448, 65535, 65536, 1 << 20] {
      for value: UInt8 in [0xFF, 0x00] {
        memory.fill(value)
        let place = unsafe memory.end - count
        let odd: UInt16 = count % 2 == 1 ? 0xFF00 : 0xFFFF
        let expected = value == 0 ? 0 : count == 1 ? 0xFF00 : odd
        #expect(unsafe sum(place, count) == expected, "\(count) bytes of \(value)")
      }
    }
  }

  @Test func copying() {
    var random = SeededRandom()
    let source = GuardedMemory(70000)
    let destination = GuardedMemory(70000)
    let lengths = [Int](0...300) + (0..<10).map { _ in random.within(300...65535) }
    for count in lengths {
      let bytes = random.octets(count)
      for atEnd in [true, false] {
        destination.fill(0xA5)
        let from = unsafe atEnd ? source.placeAtEnd(bytes) : source.placeAtStart(bytes)
        let gap = random.within(0...70)
        let to = unsafe atEnd ? destination.end - count : destination.start + gap
        var sum = InternetSum()
        unsafe sum.addCopying(from, to: to, count: count)
        let isEqual =
          unsafe sum.folded == referenceSum(bytes) && octets(to, count) == bytes
        #expect(isEqual, "\(count) bytes, OVX_SEED=\(random.seed)")
        // Nothing is written beside the destination.
        let before = unsafe min(128, to - destination.start)
        let behind = unsafe min(128, destination.end - to - count)
        let around = unsafe octets(to - before, before) + octets(to + count, behind)
        let isUntouched = around.allSatisfy { $0 == 0xA5 }
        #expect(isUntouched, "\(count) bytes, OVX_SEED=\(random.seed)")
      }
    }
  }

  @Test func piecesAndSubtraction() {
    var random = SeededRandom()
    let memory = GuardedMemory(4096)
    for _ in 0..<300 {
      let bytes = random.octets(2 * random.within(2...400))
      let cut = 2 * random.within(1...(bytes.count / 2 - 1))
      let place = unsafe memory.placeAtEnd(bytes)
      var first = InternetSum()
      unsafe first.add(place, count: cut)
      var second = InternetSum()
      unsafe second.add(place + cut, count: bytes.count - cut)
      second.add(first)
      #expect(second.folded == referenceSum(bytes), "OVX_SEED=\(random.seed)")
      let word = UInt16(bytes[cut]) << 8 | UInt16(bytes[cut + 1])
      second.subtract(word)
      var without = bytes
      without.removeSubrange(cut..<cut + 2)
      let expected = referenceSum(without)
      // 0 and 0xFFFF are the same number of ones' complement.
      #expect(
        second.folded == expected || second.folded == 0xFFFF && expected == 0,
        "OVX_SEED=\(random.seed)"
      )
    }
  }

  @Test func integers() {
    var sum = InternetSum()
    sum.add(.max)
    sum.add(.max)
    #expect(sum.folded == 0xFFFF)
    sum.add(1)
    #expect(sum.folded == 1)
    sum = InternetSum()
    sum.add(0x0001_0002_0003_0004)
    #expect(sum.folded == 10)
    #expect(InternetSum().folded == 0)
    sum = InternetSum()
    sum.add(0xFFFF)
    #expect(sum.checksum == 0)
    #expect(sum.nonZeroChecksum == 0xFFFF)
  }
}

@Suite struct CompletionTests {
  private func complete(_ frame: [UInt8], _ offload: Offload) -> [UInt8]? {
    let memory = GuardedMemory(max(frame.count, 1))
    let place = unsafe memory.placeAtEnd(frame)
    let layout = unsafe FrameLayout(place, count: frame.count)
    let isValid = isChecksumRequestValid(count: frame.count, offload: offload, layout)
    let isDone = unsafe completeChecksum(place, count: frame.count, offload: offload, layout)
    guard isDone == isValid else {
      Issue.record("two answers to one question")
      return nil
    }
    let result = unsafe octets(place, frame.count)
    if !isDone { #expect(result == frame) }
    return isDone ? result : nil
  }

  @Test func anyPacket() {
    var random = SeededRandom()
    for _ in 0..<300 {
      let packet = ReferencePacket.random(&random, payloadCount: random.within(0...2000))
      let offload = Offload(
        flags: .needsChecksum,
        checksumStart: UInt16(packet.transportOffset),
        checksumOffset: UInt16(packet.checksumOffset)
      )
      var expected = packet.frame
      let field = packet.transportOffset + packet.checksumOffset
      // The kernel, too, writes 0xFFFF for 0 whatever the protocol.
      if expected[field] == 0, expected[field + 1] == 0 {
        expected.replaceSubrange(field..<field + 2, with: [0xFF, 0xFF])
      }
      let isEqual = complete(packet.frame(partial: true), offload) == expected
      #expect(isEqual, "OVX_SEED=\(random.seed)")
    }
  }

  @Test func nothingAskedFor() {
    let frame = ReferencePacket().frame
    #expect(complete(frame, .none) == frame)
    #expect(complete(frame, Offload(flags: .checksumVerified, checksumStart: 9000)) == frame)
    #expect(complete([], .none) == [])
  }

  @Test func outsideOfTheFrame() {
    let frame = ReferencePacket().frame
    func accepts(_ start: Int, _ offset: Int) -> Bool {
      complete(
        frame,
        Offload(
          flags: .needsChecksum,
          checksumStart: UInt16(start),
          checksumOffset: UInt16(offset)
        )
      )
        != nil
    }
    #expect(frame.count == 54)
    #expect(accepts(34, 16))
    #expect(accepts(34, 18))
    #expect(!accepts(34, 19))
    #expect(accepts(52, 0))
    #expect(!accepts(53, 0))
    #expect(!accepts(54, 0))
    #expect(!accepts(0xFFFF, 0xFFFF))
    #expect(!accepts(34, 0xFFFF))
  }

  /// A tenant must not have its frame's addresses or tags rewritten behind the switch's decision.
  @Test func ethernetHeaderAndTagsAreOutOfReach() {
    var packet = ReferencePacket()
    for tags in 0...2 {
      packet.tags = [[0x88A8, 10], [0x8100, 20]].suffix(tags)
      for start in 0..<(14 + 4 * tags) {
        for offset in 0...2 {
          let offload = Offload(
            flags: .needsChecksum,
            checksumStart: UInt16(start),
            checksumOffset: UInt16(offset)
          )
          #expect(complete(packet.frame, offload) == nil)
        }
      }
      let first = Offload(flags: .needsChecksum, checksumStart: UInt16(14 + 4 * tags))
      #expect(complete(packet.frame, first) != nil)
    }
  }
}
