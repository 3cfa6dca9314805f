/// A frame that is to be cut into several: up to 64 KB of TCP payload, or UDP datagrams of one size, behind one set of headers.
///
/// Made by parsing: of what the kernel claims of the frame only the kind and the segment size are used, and both have to
/// agree with the bytes.
package struct Superframe: Sendable {
  /// Bytes in front of the payload, from the Ethernet header on, at most 65535.
  package let headerLength: Int
  package let networkOffset: Int
  package let transportOffset: Int
  package let payloadCount: Int
  /// Payload bytes of each segment but the last, as the sender chose them.
  package let segmentSize: Int
  package let isIPv6: Bool
  package let isUDP: Bool

  /// Segments that the frame was meant to be cut into, at least 1.
  package var segmentCount: Int { segmentCount(segmentSize: segmentSize) }

  /// Parses a superframe; `nil` where `refusal(of:)` says why.
  package init?(_ frame: UnsafeRawPointer, count: Int, offload: Offload) {
    return nil
  }

  /// Why a frame with this request is no superframe that can be cut.
  package static func refusal(of offload: Offload) -> DropReason {
    switch offload.segmentation.kind {
    case .tcp4, .tcp6, .udp: .malformedOffload
    default: .unsupportedOffload
    }
  }

  /// The payload bytes per segment that cutting really uses.
  ///
  /// TCP is a stream, and may be cut finer than the sender asked, for a tunnel with a smaller MTU; never coarser. UDP
  /// datagrams keep their size.
  package func effectiveSegmentSize(_ wanted: Int) -> Int {
    isUDP ? segmentSize : max(1, min(wanted, segmentSize))
  }

  /// The number of segments for a wanted segment size, at least 1.
  package func segmentCount(segmentSize wanted: Int) -> Int {
    let size = effectiveSegmentSize(wanted)
    return max(1, (payloadCount &+ size &- 1) / size)
  }

  /// Bytes that `write` fills for some segments, prefixes included.
  package func byteCount(segments: Range<Int>, segmentSize wanted: Int, prefixCount: Int) -> Int {
    0
  }

  /// Writes segments one after the other, each as prefix, headers and its share of the payload.
  ///
  /// All segments but the superframe's last have equal byte counts, so that a range of them is a train for
  /// `UDP_SEGMENT`. Checksums are complete. The superframe is not changed.
  ///
  /// - Parameters:
  ///   - segments: Which ones; clamped to those that there are.
  ///   - frame: The frame that was parsed.
  ///   - wanted: Payload bytes per segment; see `effectiveSegmentSize`.
  ///   - destination: Memory of at least `byteCount(segments:segmentSize:prefixCount:)` that does not overlap the frame.
  ///   - prefix: What precedes every segment, a VXLAN header for instance.
  ///   - prefixCount: Its bytes, may be 0.
  /// - Returns: The bytes written.
  package func write(
    segments: Range<Int>,
    of frame: UnsafeRawPointer,
    segmentSize wanted: Int,
    to destination: UnsafeMutableRawPointer,
    prefix: UnsafeRawPointer,
    prefixCount: Int
  ) -> Int {
    0
  }
}

/// What a decapsulated frame turns out to be.
package enum Arrival: Equatable, Sendable {
  case accepted(Offload)
  case refused(DropReason)
}

/// Finds out what is still to be done to a frame that arrived in a tunnel, since no virtio-net header came with it.
///
/// A kernel peer hands over, across a veth underlay, frames whose TCP or UDP checksum field holds the pseudo-header's sum
/// only, and whole TCP superframes without a word about their segment size.
///
/// - Parameters:
///   - frame: The Ethernet header.
///   - count: Bytes of the frame.
///   - mtu: The largest IP packet, in bytes, that a port of this segment takes.
/// - Returns: `.accepted(.none)` for an ordinary frame, and for whatever is not understood and short enough.
package func arrivalOffload(
  _ frame: UnsafeMutableRawPointer,
  count: Int,
  mtu: Int
) -> Arrival {
  .accepted(.none)
}
