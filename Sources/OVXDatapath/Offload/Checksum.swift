private import CChecksum

/// The Internet checksum (RFC 1071): a ones' complement sum of 16-bit big-endian words.
///
/// Words of 32 and 64 bits are added whole, because 2^16 is 1 modulo 65535; the carries come back
/// in at the low end.
package struct InternetSum: Equatable, BitwiseCopyable, Sendable {
  private var accumulator: UInt64 = 0

  package init() {}

  /// Adds an integer as it stands on the wire: its lowest 16 bits are the last word.
  @inline(__always)
  package mutating func add(_ value: UInt64) {
    let (sum, overflow) = accumulator.addingReportingOverflow(value)
    accumulator = sum &+ (overflow ? 1 : 0)
  }

  /// Adds what another sum has collected, of which an even number of bytes precedes this one's or
  /// follows it.
  @inline(__always)
  package mutating func add(_ other: InternetSum) {
    add(other.accumulator)
  }

  /// Takes out a word that was added before.
  @inline(__always)
  package mutating func subtract(_ word: UInt16) {
    add(UInt64(~word))
  }

  /// Adds bytes, of which the first is the high one of a word; an odd last one counts as followed
  /// by zero.
  ///
  /// So of several pieces of one message only the last may be odd.
  @inline(__always)
  package mutating func add(_ bytes: UnsafeRawPointer, count: Int) {
    add(UInt64(unsafe ovx_checksum_sum(bytes, count).bigEndian))
  }

  /// Adds bytes while copying them.
  ///
  /// The two places must not overlap.
  @inline(__always)
  package mutating func addCopying(
    _ source: UnsafeRawPointer,
    to destination: UnsafeMutableRawPointer,
    count: Int
  ) {
    add(UInt64(unsafe ovx_checksum_copy(destination, source, count).bigEndian))
  }

  /// The sum in 16 bits.
  ///
  /// 0 only where all that was added is zero; what verifies sums to 0xFFFF.
  @inline(__always)
  package var folded: UInt16 {
    var sum = (accumulator & 0xFFFF_FFFF) &+ accumulator >> 32
    sum = (sum & 0xFFFF) &+ (sum >> 16 & 0xFFFF) &+ sum >> 32
    sum = (sum & 0xFFFF) &+ sum >> 16
    sum = (sum & 0xFFFF) &+ sum >> 16
    return UInt16(truncatingIfNeeded: sum)
  }

  /// What goes into a checksum field: the complement.
  @inline(__always)
  package var checksum: UInt16 { ~folded }

  /// What goes into the checksum field of UDP, where 0 would say that there is none (RFC 768).
  @inline(__always)
  package var nonZeroChecksum: UInt16 { checksum == 0 ? 0xFFFF : checksum }
}

/// Does what `VIRTIO_NET_HDR_F_NEEDS_CSUM` asks for: sums from `checksumStart` to the end of the
/// frame.
///
/// The checksum field holds the pseudo-header's sum already. Frames that ask for nothing are left
/// alone.
///
/// - Returns: `false` where the request contradicts the frame (`DropReason.malformedOffload`); it
///   is not changed then.
package func completeChecksum(
  _ frame: UnsafeMutableRawPointer,
  count: Int,
  offload: Offload,
  _ layout: FrameLayout
) -> Bool {
  guard offload.needsChecksum else { return true }
  guard isChecksumRequestValid(count: count, offload: offload, layout) else { return false }
  let start = Int(offload.checksumStart)
  var sum = InternetSum()
  unsafe sum.add(UnsafeRawPointer(frame + start), count: count &- start)
  unsafe frame.setBig16(start &+ Int(offload.checksumOffset), sum.nonZeroChecksum)
  return true
}

/// Whether what a frame asks to be summed lies inside of it, and behind its Ethernet header and
/// VLAN tags.
///
/// The second half keeps a tenant from having its frame's tag rewritten, and itself moved to
/// another segment, after the switch has decided: whoever writes to a packet socket chooses
/// `checksumStart` and `checksumOffset` freely.
package func isChecksumRequestValid(
  count: Int, offload: Offload, _ layout: FrameLayout
) -> Bool {
  guard offload.needsChecksum else { return true }
  let start = Int(offload.checksumStart)
  return start >= layout.networkOffset && start &+ Int(offload.checksumOffset) &+ 2 <= count
}
