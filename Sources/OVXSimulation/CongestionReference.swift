extension [UInt8] {
  /// A frame after decapsulation, told slowly; `nil` where it is to be dropped (RFC 6040, figure
  /// 4).
  func decapsulated(trafficClass outer: UInt8) -> [UInt8]? {
    var frame = self
    var at = 12
    for _ in 0..<3 {
      guard let type = frame.number16(at: at), type == 0x8100 || type == 0x88A8 else { break }
      at += 4
    }
    let start = at + 2
    guard let type = frame.number16(at: at), let version = frame.dropFirst(start).first,
      let isIPv6 = [0x0800: false, 0x86DD: true][type], version >> 4 == (isIPv6 ? 6 : 4),
      frame.count - start >= (isIPv6 ? 40 : 20)
    else { return frame }
    let inner = isIPv6 ? frame[start + 1] >> 4 & 3 : frame[start + 1] & 3
    let combined: UInt8
    switch (inner, outer & 3) {
    case (0, 3): return nil
    case (0, _): combined = 0
    case (_, 3), (3, _): combined = 3
    case (_, 1): combined = 1
    default: combined = inner
    }
    guard combined != inner else { return frame }
    guard !isIPv6 else {
      frame[start + 1] = frame[start + 1] & 0xCF | combined << 4
      return frame
    }
    // What the checksum is off by, if anything, it is off by afterwards.
    func sum() -> Int {
      stride(from: start, to: start + 20, by: 2).reduce(0) {
        $0 + Int(frame[$1]) << 8 + Int(frame[$1 + 1])
      } % 65535
    }
    let before = sum()
    frame[start + 1] = frame[start + 1] & 0xFC | combined
    frame[start + 10] = 0
    frame[start + 11] = 0
    let checksum = (before - sum() + 65535) % 65535
    frame[start + 10] = UInt8(checksum >> 8)
    frame[start + 11] = UInt8(checksum & 0xFF)
    return frame
  }
}
