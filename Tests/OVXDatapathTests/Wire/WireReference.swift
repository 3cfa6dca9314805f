// What the wire tests measure the code by: memory that traps on any access outside of it, and a
// slow and obvious reading and writing of packets with arrays, which shares nothing with the code
// under test.

import Glibc
import OVXSimulation
import Testing

/// A piece of memory between two pages that nobody may touch.
@safe struct GuardedMemory: ~Copyable {
  private let mapping: UnsafeMutableRawPointer
  private let mappedCount: Int
  /// The first usable byte, at a page's start.
  let start: UnsafeMutableRawPointer
  /// Behind the last usable byte, at a page's end.
  let end: UnsafeMutableRawPointer

  init(_ count: Int) {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let usable = (count + page - 1) / page * page
    mappedCount = usable + 2 * page
    guard
      let memory = unsafe mmap(
        nil,
        mappedCount,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS,
        -1,
        0
      ),
      unsafe memory != MAP_FAILED
    else { fatalError("no memory for the test") }
    unsafe mapping = memory
    unsafe start = memory + page
    unsafe end = memory + page + usable
    unsafe mprotect(memory, page, PROT_NONE)
    unsafe mprotect(memory + page + usable, page, PROT_NONE)
  }

  deinit {
    unsafe munmap(mapping, mappedCount)
  }

  /// Puts bytes where the next one behind them is out of reach.
  func placeAtEnd(_ bytes: [UInt8]) -> UnsafeMutableRawPointer {
    let place = unsafe end - bytes.count
    unsafe place.copyMemory(from: bytes, byteCount: bytes.count)
    return unsafe place
  }

  /// Puts bytes where the one in front of them is out of reach.
  func placeAtStart(_ bytes: [UInt8]) -> UnsafeMutableRawPointer {
    unsafe start.copyMemory(from: bytes, byteCount: bytes.count)
    return unsafe start
  }

  /// The bytes as a span behind which nothing may be touched.
  @_lifetime(borrow self)
  func view(_ bytes: [UInt8]) -> RawSpan {
    let place = unsafe placeAtEnd(bytes)
    let span = unsafe RawSpan(_unsafeStart: place, byteCount: bytes.count)
    return unsafe _overrideLifetime(span, borrowing: self)
  }

  func fill(_ value: UInt8) {
    unsafe start.initializeMemory(as: UInt8.self, repeating: value, count: end - start)
  }
}

/// The bytes at an address.
func octets(_ pointer: UnsafeRawPointer, _ count: Int) -> [UInt8] {
  unsafe [UInt8](UnsafeRawBufferPointer(start: pointer, count: count))
}

/// The bytes of a span.
func contents(_ span: RawSpan) -> [UInt8] {
  (0..<span.byteCount).map { unsafe span.unsafeLoad(fromByteOffset: $0, as: UInt8.self) }
}

/// The bytes that a writer leaves in memory filled with 0xA5, so that a byte which it forgot shows.
@safe
func written(_ count: Int, by write: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
  let memory = GuardedMemory(count)
  memory.fill(0xA5)
  let place = unsafe memory.end - count
  unsafe write(place)
  return unsafe octets(place, count)
}

/// The bytes that hexadecimal digits stand for; blanks are skipped.
func hex(_ text: String) -> [UInt8] {
  let digits = text.compactMap(\.hexDigitValue)
  return stride(from: 0, to: digits.count - 1, by: 2).map {
    UInt8(digits[$0] << 4 | digits[$0 + 1])
  }
}

/// The ones' complement sum of RFC 1071, byte by byte.
func referenceSum(_ bytes: [UInt8]) -> UInt16 {
  var sum = 0
  var isHigh = true
  for byte in bytes {
    sum += isHigh ? Int(byte) << 8 : Int(byte)
    if sum > 0xFFFF { sum -= 0xFFFF }
    isHigh.toggle()
  }
  return UInt16(sum)
}

func big16(_ value: Int) -> [UInt8] {
  [UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)]
}

func big32(_ value: UInt32) -> [UInt8] {
  big16(Int(value >> 16)) + big16(Int(value & 0xFFFF))
}

/// A packet of TCP or UDP, field by field; `frame` writes it out.
struct ReferencePacket: Equatable {
  var destination: [UInt8] = hex("02 00 00 00 00 02")
  var source: [UInt8] = hex("02 00 00 00 00 01")
  /// Tag protocol and control of each VLAN tag, the outer one first.
  var tags: [[Int]] = []
  var isIPv6 = false
  var sourceAddress: [UInt8] = [10, 0, 0, 1]
  var destinationAddress: [UInt8] = [10, 0, 0, 2]
  /// ToS or traffic class.
  var trafficClass: UInt8 = 0
  var flowLabel: UInt32 = 0
  var identification = 0x1234
  /// The 16 bits with flags and fragment offset.
  var fragment = 0x4000
  var timeToLive: UInt8 = 64
  var ipOptions: [UInt8] = []
  /// The IPv6 extension headers: number, and the bytes behind the next-header octet (7, 15 and so
  /// on).
  var extensions: [Extension] = []
  var isUDP = false
  var sourcePort = 40000
  var destinationPort = 5201
  var sequence: UInt32 = 1000
  var acknowledgment: UInt32 = 77
  /// The low nibble of the octet with the data offset.
  var reserved: UInt8 = 0
  var flags: UInt8 = 0x10
  var window = 502
  var urgentPointer = 0
  var tcpOptions: [UInt8] = []
  var payload: [UInt8] = []

  struct Extension: Equatable {
    var number: UInt8
    var bytes: [UInt8]
  }

  var networkOffset: Int { 14 + 4 * tags.count }
  var transportOffset: Int {
    networkOffset
      + (isIPv6
        ? 40 + extensions.reduce(0) { $0 + $1.bytes.count + 1 } : 20 + ipOptions.count)
  }
  var headerLength: Int { transportOffset + (isUDP ? 8 : 20 + tcpOptions.count) }
  var transport: UInt8 { isUDP ? 17 : 6 }
  var checksumOffset: Int { isUDP ? 6 : 16 }

  /// Pseudo-header of a packet with this many bytes behind the IP headers.
  func pseudoHeader(_ count: Int) -> [UInt8] {
    sourceAddress + destinationAddress + [0, transport] + big16(count)
  }

  private var segmentWithoutChecksum: [UInt8] {
    var header = big16(sourcePort) + big16(destinationPort)
    if isUDP {
      header += big16(8 + payload.count) + [0, 0]
    } else {
      header += big32(sequence) + big32(acknowledgment)
      header += [UInt8((20 + tcpOptions.count) * 4) | reserved, flags]
      header += big16(window) + [0, 0] + big16(urgentPointer) + tcpOptions
    }
    return header + payload
  }

  init() {}

  /// The frame with all checksums complete.
  var frame: [UInt8] { frame(partial: false) }

  /// The frame; with only the pseudo-header's sum as TCP or UDP checksum if `partial`.
  func frame(partial: Bool) -> [UInt8] {
    var segment = segmentWithoutChecksum
    let pseudo = pseudoHeader(segment.count)
    var checksum = Int(partial ? referenceSum(pseudo) : ~referenceSum(pseudo + segment))
    if !partial, isUDP, checksum == 0 { checksum = 0xFFFF }
    segment.replaceSubrange(checksumOffset..<checksumOffset + 2, with: big16(checksum))

    var types = tags.map { $0[0] }
    types.append(isIPv6 ? 0x86DD : 0x0800)
    var frame = destination + source + big16(types[0])
    for (index, tag) in tags.enumerated() { frame += big16(tag[1]) + big16(types[index + 1]) }
    return frame + networkHeaders(segment.count) + segment
  }

  private func networkHeaders(_ count: Int) -> [UInt8] {
    guard isIPv6 else {
      let length = 20 + ipOptions.count
      var header = [UInt8(0x40 | length / 4), trafficClass] + big16(length + count)
      header += big16(identification) + big16(fragment) + [timeToLive, transport, 0, 0]
      header += sourceAddress + destinationAddress + ipOptions
      header.replaceSubrange(10..<12, with: big16(Int(~referenceSum(header))))
      return header
    }
    let numbers = extensions.map(\.number) + [transport]
    var chain: [UInt8] = []
    for (index, header) in extensions.enumerated() { chain += [numbers[index + 1]] + header.bytes }
    var header = big32(6 << 28 | UInt32(trafficClass) << 20 | flowLabel)
    header += big16(chain.count + count) + [numbers[0], timeToLive]
    return header + sourceAddress + destinationAddress + chain
  }

  /// Reads a frame of the shape of `like`: the same number of tags, options and extension headers.
  ///
  /// `nil` if lengths or any checksum are wrong, or anything stands behind the packet.
  init?(_ frame: [UInt8], like shape: ReferencePacket) {
    self = shape
    guard frame.count >= shape.headerLength else { return nil }
    func word(_ offset: Int) -> Int { Int(frame[offset]) << 8 | Int(frame[offset + 1]) }
    func long(_ offset: Int) -> UInt32 { UInt32(word(offset)) << 16 | UInt32(word(offset + 2)) }
    destination = [UInt8](frame[0..<6])
    source = [UInt8](frame[6..<12])
    for index in tags.indices { tags[index] = [word(12 + 4 * index), word(14 + 4 * index)] }
    let ip = shape.networkOffset
    let upper = shape.transportOffset
    if isIPv6 {
      trafficClass = UInt8(long(ip) >> 20 & 0xFF)
      flowLabel = long(ip) & 0xF_FFFF
      timeToLive = frame[ip + 7]
      sourceAddress = [UInt8](frame[ip + 8..<ip + 24])
      destinationAddress = [UInt8](frame[ip + 24..<ip + 40])
      guard word(ip + 4) == frame.count - ip - 40 else { return nil }
    } else {
      trafficClass = frame[ip + 1]
      identification = word(ip + 4)
      fragment = word(ip + 6)
      timeToLive = frame[ip + 8]
      sourceAddress = [UInt8](frame[ip + 12..<ip + 16])
      destinationAddress = [UInt8](frame[ip + 16..<ip + 20])
      ipOptions = [UInt8](frame[ip + 20..<upper])
      guard word(ip + 2) == frame.count - ip,
        referenceSum([UInt8](frame[ip..<upper])) == 0xFFFF
      else { return nil }
    }
    sourcePort = word(upper)
    destinationPort = word(upper + 2)
    if isUDP {
      guard word(upper + 4) == frame.count - upper, word(upper + 6) != 0 else { return nil }
    } else {
      sequence = long(upper + 4)
      acknowledgment = long(upper + 8)
      reserved = frame[upper + 12] & 0x0F
      flags = frame[upper + 13]
      window = word(upper + 14)
      urgentPointer = word(upper + 18)
      tcpOptions = [UInt8](frame[upper + 20..<shape.headerLength])
    }
    payload = [UInt8](frame[shape.headerLength...])
    let segment = [UInt8](frame[upper...])
    guard referenceSum(pseudoHeader(segment.count) + segment) == 0xFFFF else { return nil }
    // What was not read into a field must be as in the shape.
    guard self.frame.count == frame.count, self.frame[ip..<upper] == frame[ip..<upper] else {
      return nil
    }
  }

  /// Any TCP or UDP packet that a host might send, with a payload of the given size.
  static func random(_ random: inout SeededRandom, payloadCount: Int) -> ReferencePacket {
    var packet = ReferencePacket()
    packet.destination = [0x02] + random.octets(5)
    packet.source = [0x02] + random.octets(5)
    for _ in 0..<random.pick([0, 0, 1, 2]) {
      packet.tags.append([random.pick([0x8100, 0x88A8]), random.within(0...0xFFFF)])
    }
    packet.isIPv6 = random.oneIn(2)
    packet.sourceAddress = random.octets(packet.isIPv6 ? 16 : 4)
    packet.destinationAddress = random.octets(packet.isIPv6 ? 16 : 4)
    packet.trafficClass = random.octets(1)[0]
    packet.flowLabel = UInt32(random.within(0...0xF_FFFF))
    packet.identification = random.within(0...0xFFFF)
    packet.fragment = random.pick([0, 0x4000])
    packet.timeToLive = UInt8(random.within(1...255))
    if packet.isIPv6 {
      for _ in 0..<random.pick([0, 0, 0, 1, 2, 5]) {
        let length = random.pick([0, 0, 1, 5])
        switch random.pick([0, 43, 60, 44] as [UInt8]) {
        case 44:
          // An atomic fragment: offset 0 and nothing to follow.
          packet.extensions.append(.init(number: 44, bytes: [0, 0, 0] + random.octets(4)))
        case 43:
          // No stops left.
          packet.extensions.append(
            .init(number: 43, bytes: [UInt8(length), 4, 0] + random.octets(4 + 8 * length))
          )
        case let number:
          packet.extensions.append(
            .init(number: number, bytes: [UInt8(length)] + random.octets(6 + 8 * length))
          )
        }
      }
    } else {
      packet.ipOptions = random.octets(4 * random.pick([0, 0, 0, 1, 5, 10]))
    }
    packet.isUDP = random.oneIn(3)
    packet.sourcePort = random.within(0...0xFFFF)
    packet.destinationPort = random.within(0...0xFFFF)
    packet.sequence =
      random.oneIn(3) ? .max - UInt32(random.within(0...5000)) : random.bits(UInt32.self)
    packet.acknowledgment = random.bits(UInt32.self)
    packet.flags = random.octets(1)[0]
    packet.window = random.within(0...0xFFFF)
    packet.tcpOptions = random.octets(4 * random.pick([0, 0, 3, 10]))
    packet.payload = random.octets(payloadCount)
    if packet.isUDP {
      packet.sequence = 1000
      packet.acknowledgment = 77
      packet.flags = 0x10
      packet.window = 502
      packet.tcpOptions = []
    }
    return packet
  }
}
