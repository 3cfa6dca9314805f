package import OVXDatapath

/// A frame as it passes between the switch and the kernel: bytes, and what is still to be done to
/// them.
package struct PartialFrame: Equatable {
  package var bytes: [UInt8]
  package var offload: Offload

  package init(_ bytes: [UInt8], offload: Offload = .none) {
    self.bytes = bytes
    self.offload = offload
  }

  /// The frames that a network card would put on the wire for this one: cut, and with their
  /// checksums complete.
  ///
  /// `nil` where the offload request contradicts the bytes. Segments as Linux makes them
  /// (net/ipv4/tcp_offload.c, udp_offload.c): the IPv4 identification counts up, FIN and PSH stay
  /// with the last one and CWR with the first.
  package var wireFrames: [[UInt8]]? {
    guard offload.isSuperframe else {
      return offload.needsChecksum ? completed.map { [$0] } : [bytes]
    }
    guard offload.segmentSize > 0, let anatomy = FrameAnatomy(bytes), let packet = anatomy.packet,
      let headerLength = anatomy.transportHeaderLength(in: bytes)
    else { return nil }
    switch offload.segmentation.kind {
    case .tcp4: guard packet.isTCP, !packet.isIPv6 else { return nil }
    case .tcp6: guard packet.isTCP, packet.isIPv6 else { return nil }
    case .udp: guard packet.isUDP else { return nil }
    default: return nil
    }
    if offload.needsChecksum {
      guard Int(offload.checksumStart) == packet.transport,
        offload.checksumOffset == (packet.isTCP ? 16 : 6)
      else { return nil }
    }
    let headers = packet.transport + headerLength
    let payload = bytes[headers..<packet.end]
    let size = Int(offload.segmentSize)
    let count = max(1, (payload.count + size - 1) / size)
    return (0..<count).map { index in
      let start = headers + index * size
      var segment = Array(bytes[..<headers] + bytes[start..<min(start + size, packet.end)])
      Self.renumber(&segment, anatomy, index: index, of: count, size: size)
      FrameAnatomy(segment)?.fillChecksums(in: &segment)
      return segment
    }
  }

  private static func renumber(
    _ segment: inout [UInt8],
    _ anatomy: FrameAnatomy,
    index: Int,
    of count: Int,
    size: Int
  ) {
    guard let packet = anatomy.packet else { return }
    if packet.isIPv6 {
      segment.setNumber(
        UInt16(truncatingIfNeeded: segment.count - anatomy.network - 40),
        at: anatomy.network + 4
      )
    } else {
      segment.setNumber(
        UInt16(truncatingIfNeeded: segment.count - anatomy.network),
        at: anatomy.network + 2
      )
      let identification = segment.number16(at: anatomy.network + 4) ?? 0
      segment.setNumber(
        identification &+ UInt16(truncatingIfNeeded: index),
        at: anatomy.network + 4
      )
    }
    if packet.isUDP {
      segment.setNumber(
        UInt16(truncatingIfNeeded: segment.count - packet.transport),
        at: packet.transport + 4
      )
    } else {
      let sequence = segment.number(at: packet.transport + 4, count: 4) ?? 0
      segment.setNumber(
        UInt32(truncatingIfNeeded: sequence) &+ UInt32(truncatingIfNeeded: index * size),
        at: packet.transport + 4
      )
      if index > 0 { segment[packet.transport + 13] &= ~0x80 }
      if index < count - 1 { segment[packet.transport + 13] &= ~0x09 }
    }
  }

  /// The frame with the checksum that `needsChecksum` asks for, as `skb_checksum_help()` of Linux
  /// makes it.
  private var completed: [UInt8]? {
    let start = Int(offload.checksumStart)
    let field = start + Int(offload.checksumOffset)
    guard start < bytes.count, field + 2 <= bytes.count else { return nil }
    var frame = bytes
    let sum = ~onesComplementSum(frame[start...])
    frame.setNumber(sum == 0 ? 0xFFFF : sum, at: field)
    return frame
  }
}
