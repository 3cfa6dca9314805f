private import OVXDatapath
private import OVXSimulation

@_silgen_name("LLVMFuzzerMutate")
private func mutate(_ start: UnsafeMutablePointer<UInt8>, _ count: Int, _ limit: Int) -> Int

/// How scripts are changed: mostly as what they are, frames with headers, and only now and then as
/// bytes.
///
/// Left to itself libFuzzer has to guess addresses that meet, lengths that contradict one another
/// and checksums, each of which hides what comes after it.
@_cdecl("LLVMFuzzerCustomMutator")
public func mutateScript(
  _ start: UnsafeMutablePointer<UInt8>, _ count: Int, _ limit: Int, _ seed: UInt32
) -> Int {
  var random = SeededRandom(seed: UInt64(seed))
  if random.oneIn(8) { return unsafe mutate(start, count, limit) }
  var script = unsafe Script(Input(start, count))
  for _ in 0..<random.within(1...4) { script.change(&random) }
  let bytes = script.bytes.prefix(limit)
  _ = unsafe UnsafeMutableBufferPointer(start: start, count: bytes.count).update(
    fromContentsOf: bytes)
  return bytes.count
}

extension Script {
  fileprivate mutating func change(_ random: inout SeededRandom) {
    guard !arrivals.isEmpty, !(arrivals.count < 12 && random.oneIn(5)) else {
      let position = random.within(0...arrivals.count)
      arrivals.insert(.generated(&random), at: position)
      return
    }
    let index = random.below(arrivals.count)
    switch random.below(12) {
    case 0: topology = random.bits(UInt8.self)
    case 1: arrivals.remove(at: index)
    case 2: arrivals.swapAt(index, random.below(arrivals.count))
    case 3:
      var copy = arrivals[index]
      copy.port = random.bits(UInt8.self)
      arrivals.insert(copy, at: index)
    default: arrivals[index].change(&random)
    }
  }
}

extension Script.Arrival {
  /// A frame, or a train of some, that are right in themselves.
  fileprivate static func generated(_ random: inout SeededRandom) -> Self {
    var generator = FrameGenerator(
      seed: random.next(), vlans: [0, 10, 20, 4095].compactMap(VLANID.init(rawValue:)))
    generator.payloadLimit = random.pick([8, 64, 300, 1400])
    generator.superframeLimit = random.pick([300, 3_000])
    var arrival = Self()
    arrival.port = random.bits(UInt8.self)
    arrival.flags = random.oneIn(2) ? .endsBurst : []
    guard random.oneIn(3) else {
      let input = generator.input()
      arrival.bytes = input.frame.bytes
      arrival.offload = input.frame.offload.virtioHeader
      if input.tag.isPresent {
        arrival.flags.insert(.hasTagBeside)
        arrival.tagControl = input.tag.control
      }
      return arrival
    }
    let frames = generator.conversations(tags: [], count: random.within(2...6))
    arrival.bytes = Array(frames.joined())
    arrival.segmentSize = frames[0].count
    arrival.offload[2] = random.bits(UInt8.self)
    return arrival
  }

  fileprivate mutating func change(_ random: inout SeededRandom) {
    switch random.below(10) {
    case 0: port = random.bits(UInt8.self)
    case 1: flags.formSymmetricDifference(Script.Flags(rawValue: 1 << UInt8(random.below(4))))
    case 2: offload[random.below(10)] = random.bits(UInt8.self)
    case 3:
      let choices = [0, 1, 14, 22, bytes.count, bytes.count / 2, bytes.count / 3, bytes.count - 1]
      segmentSize = max(random.pick(choices), 0)
    case 4:
      bytes = random.oneIn(2) ? Array(bytes.prefix(random.below(bytes.count + 1))) : bytes + bytes
    case 5: FrameAnatomy(bytes)?.fillChecksums(in: &bytes)
    case 6: changeBytes(limit: bytes.count + 64)
    default: changeField(&random)
    }
  }

  private mutating func changeBytes(limit: Int) {
    var memory = bytes + [UInt8](repeating: 0, count: limit - bytes.count)
    let count = unsafe memory.withUnsafeMutableBufferPointer {
      unsafe $0.baseAddress.map { unsafe mutate($0, bytes.count, limit) } ?? 0
    }
    bytes = Array(memory.prefix(count))
  }

  /// Writes a number that some length, type or offset could be into a place where one of the
  /// headers has such a field.
  private mutating func changeField(_ random: inout SeededRandom) {
    let network = FrameAnatomy(bytes)?.network ?? 14
    // EtherType; IPv4's length, fragment, protocol; IPv6's length, next header; ports, length and
    // checksum of UDP behind both; options of neighbor discovery.
    let fields = [
      12, network, network + 2, network + 4, network + 6, network + 8, network + 9, network + 10,
      network + 20, network + 22, network + 24, network + 26, network + 32, network + 33,
      network + 40, network + 41, network + 44, network + 46, network + 64, network + 65,
    ]
    let rest = bytes.count - network
    let numbers = [
      0, 1, 2, 7, 8, 17, 20, 28, 40, 43, 44, 58, 60, 67, 68, 134, 137, 546, 547, 0xAAAA, 0x0800,
      0x0806, 0x1FFF, 0x2000, 0x4000, 0x8000,
      0x8100, 0x86DD, 0x88A8, 0xFFFE, 0xFFFF, rest, rest - 20, rest - 40, rest - 1, rest + 1,
      bytes.count, segmentSize, segmentSize - network, 2 * segmentSize - network,
      random.below(65536),
    ]
    let field = random.pick(fields)
    if random.oneIn(3) {
      bytes.setNumber(UInt8(truncatingIfNeeded: random.pick(numbers)), at: field)
    } else {
      bytes.setNumber(UInt16(truncatingIfNeeded: random.pick(numbers)), at: field)
    }
  }
}

extension Offload {
  /// `struct virtio_net_hdr`, little-endian.
  fileprivate var virtioHeader: [UInt8] {
    func octets(_ number: UInt16) -> [UInt8] { [UInt8(number & 0xFF), UInt8(number >> 8)] }
    return [flags.rawValue, segmentation.rawValue] + octets(headerLength) + octets(segmentSize)
      + octets(checksumStart) + octets(checksumOffset)
  }
}
