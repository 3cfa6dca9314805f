private import CChecksum
private import OVXDatapath

/// What it costs to handle 64 KB of TCP: summing, copying, cutting and joining, in memory that fits
/// a core's cache.
@safe
struct LargeFrames: ~Copyable {
  private let source: UnsafeMutableRawPointer
  private let target: UnsafeMutableRawPointer
  private static let size = 65_536
  private static let segmentSize = 1398
  private static let headerLength = 14 + 20 + 32
  private static let segmentCount = 44

  init() {
    unsafe source = .allocate(byteCount: 2 * LargeFrames.size, alignment: 4096)
    unsafe target = .allocate(byteCount: 2 * LargeFrames.size, alignment: 4096)
    for index in 0..<2 * LargeFrames.size {
      unsafe source.storeBytes(
        of: UInt8(truncatingIfNeeded: index &* 31), toByteOffset: index, as: UInt8.self)
      unsafe target.storeBytes(of: 0, toByteOffset: index, as: UInt8.self)
    }
  }

  deinit {
    unsafe source.deallocate()
    unsafe target.deallocate()
  }

  /// Nanoseconds of each step.
  func figures() -> [(String, Double)] {
    var figures: [(String, Double)] = []
    figures.append(
      (
        "sum (\(unsafe String(cString: ovx_checksum_name())))",
        median { unsafe _ = ovx_checksum_sum(source, LargeFrames.size) }
      ))
    figures.append(
      (
        "copy and sum",
        median { unsafe _ = ovx_checksum_copy(target, source, LargeFrames.size) }
      ))
    figures.append(
      ("copy", median { unsafe target.copyMemory(from: source, byteCount: LargeFrames.size) }))
    let frame = unsafe source + 256
    unsafe LargeFrames.writeHeaders(
      at: frame, payloadCount: LargeFrames.segmentCount * LargeFrames.segmentSize)
    let count = LargeFrames.headerLength + LargeFrames.segmentCount * LargeFrames.segmentSize
    let offload = Offload(
      flags: .needsChecksum, segmentation: .tcp4, headerLength: UInt16(LargeFrames.headerLength),
      segmentSize: UInt16(LargeFrames.segmentSize), checksumStart: 34, checksumOffset: 16)
    var trainLength = 0
    figures.append(
      (
        "cut into a train of 44 datagrams",
        median {
          guard let superframe = unsafe Superframe(frame, count: count, offload: offload) else {
            return
          }
          unsafe trainLength = superframe.write(
            segments: 0..<LargeFrames.segmentCount, of: frame,
            segmentSize: LargeFrames.segmentSize, to: target, prefix: source, prefixCount: 8)
        }
      ))
    var gro = GRO()
    var joined = 0
    let stride = 8 + LargeFrames.headerLength + LargeFrames.segmentSize
    let train = trainLength
    figures.append(
      (
        "verify and join them again",
        median {
          joined = 0
          // The first one's headers are those of the superframe after each round.
          guard let superframe = unsafe Superframe(frame, count: count, offload: offload) else {
            return
          }
          unsafe _ = superframe.write(
            segments: 0..<1, of: frame, segmentSize: LargeFrames.segmentSize, to: target,
            prefix: source, prefixCount: 8)
          var offset = 8
          while offset < train {
            let result = unsafe gro.absorb(
              target + offset, count: stride - 8,
              FrameLayout(target + offset, count: stride - 8), offload: .none,
              port: PortID(rawValue: 1), capabilities: .all)
            switch result {
            case .merged: joined += 1
            case .separate(let mayOpen):
              if mayOpen {
                unsafe gro.open(target + offset, port: PortID(rawValue: 1), transmission: 0)
              }
            }
            offset += stride
          }
          while gro.finishNext() != nil {}
        }
      ))
    guard joined == LargeFrames.segmentCount - 1 else {
      return [("FAILED: only \(joined) segments were joined", 0)]
    }
    return figures
  }

  /// An Ethernet, an IPv4 and a TCP header with time stamps, of a superframe whose checksum is
  /// partial.
  @unsafe private static func writeHeaders(at frame: UnsafeMutableRawPointer, payloadCount: Int) {
    let length = 20 + 32 + payloadCount
    let bytes: [UInt8] =
      [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]
      + [0x45, 0, UInt8(length >> 8), UInt8(length & 0xFF), 0, 1, 0x40, 0, 64, 6, 0, 0]
      + [10, 0, 0, 1, 10, 0, 0, 2]
      + [0x9C, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x80, 0x10, 1, 0, 0, 0, 0, 0]
      + [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]
    for (index, byte) in bytes.enumerated() {
      unsafe frame.storeBytes(of: byte, toByteOffset: index, as: UInt8.self)
    }
  }

  private func median(_ body: () -> Void) -> Double {
    let figures = (0..<21).map { _ -> Double in
      let start = now()
      for _ in 0..<50 { body() }
      return Double(now() - start) / 50
    }
    return figures.sorted()[10]
  }
}
