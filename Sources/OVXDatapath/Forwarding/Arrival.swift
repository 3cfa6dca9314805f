/// What a decapsulated frame turns out to be.
package enum Arrival: Equatable, Sendable {
  case accepted(Offload)
  case refused(DropReason)
}

/// Finds out what is still to be done to a frame that arrived in a tunnel, since no virtio-net
/// header came with it.
///
/// A kernel peer across a veth underlay hands over frames whose TCP or UDP checksum field holds the
/// pseudo-header's sum only, and whole TCP superframes without a word about their segment size. A
/// complete checksum looks like the former once in 65535 frames; that does no harm, because
/// completing such a frame yields the very same checksum.
///
/// A TCP packet longer than the MTU with a complete checksum, from a peer with a larger one, is a
/// superframe, too: its checksum is verified here, since those of the segments will be computed
/// anew. The request says nothing of it then; the kernel takes that.
///
/// - Parameters:
///   - frame: The Ethernet header.
///   - count: Bytes of the frame, any number.
///   - layout: Its layout.
///   - mtu: The largest IP packet, in bytes, that the frame's segment takes.
/// - Returns: `.accepted(.none)` for an ordinary frame, and for one that is not understood but
///   short enough; `.refused(.superframeOfUnknownSize)` for one that is longer than `mtu` and not
///   TCP, or broken.
package func arrivalOffload(
  _ frame: UnsafeRawPointer, count: Int, _ layout: FrameLayout, mtu: Int
) -> Arrival {
  let bytes = unsafe frame.span(count)
  let isOversize = count &- layout.networkOffset > mtu
  let unknown: Arrival =
    isOversize ? .refused(.superframeOfUnknownSize) : .accepted(.none)
  guard layout.isIP, !layout.isFragment, !layout.isSourceRouted else { return unknown }
  let segment = bytes.slice(layout.transportOffset, layout.packetEnd)
  let seed = layout.pseudoHeaderSum(bytes, transportCount: layout.transportCount).folded
  var offload = Offload(
    flags: .needsChecksum,
    checksumStart: UInt16(truncatingIfNeeded: layout.transportOffset))
  switch layout.transport {
  case .tcp:
    guard let header = TCPHeader(segment) else { return unknown }
    offload.checksumOffset = Superframe.checksumOffset(isUDP: false)
    guard isOversize else {
      return .accepted(header.checksum == seed ? offload : .none)
    }
    let headerLength = layout.transportOffset &+ header.headerLength
    let size = mtu &- (headerLength &- layout.networkOffset)
    guard size > 0, layout.packetEnd == count, headerLength < count else { return unknown }
    if header.checksum != seed {
      guard unsafe layout.isTransportChecksumValid(frame) else { return unknown }
      offload = .none
    }
    offload.segmentation = layout.isIPv6 ? .tcp6 : .tcp4
    offload.segmentSize = UInt16(clamping: size)
    offload.headerLength = UInt16(truncatingIfNeeded: headerLength)
    return .accepted(offload)
  case .udp:
    // A length that covers less than the packet leaves bytes that are not part of the sum.
    guard !isOversize, let header = UDPHeader(segment), header.length == layout.transportCount,
      header.checksum == seed
    else { return unknown }
    offload.checksumOffset = Superframe.checksumOffset(isUDP: true)
    return .accepted(offload)
  default:
    return unknown
  }
}
