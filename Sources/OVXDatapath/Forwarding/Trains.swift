// What a socket hands over with a segment size (`UDP_GRO`) is one of two things, and the kernel
// does not say which:
//
//     a train        datagrams that one VTEP sent, with equal outer headers; a VXLAN header at each
//                    stride
//     a superframe   one frame behind one VXLAN header: many UDP datagrams of a container behind a
//                    kernel's VTEP, where the underlay takes tunnels whole (`SKB_GSO_UDP_TUNNEL`
//                    with `SKB_GSO_UDP_L4`)
//
// In a train the VXLAN headers are the VTEP's and the frames are of several flows; in a superframe
// all but the first header is a container's, the size of the strides included, and no kernel on the
// way holds its lengths or its checksum against the bytes. What is taken for the other thing is one
// tenant's bytes read as another's. So nothing but the first VXLAN header is believed to be the
// VTEP's:
//
//     - a train names one VNI only, that of its first header, and each of its frames holds all that
//       its lengths claim;
//     - a superframe covers everything with its own lengths, and no stride but the first begins
//       with a VXLAN header;
//     - anything else is dropped.
//
// A superframe that is written like a train then reaches the VNI that it came from, and nobody
// else. The datagrams of a train are never taken for a superframe, for each begins with a VXLAN
// header of the VTEP's.

/// How what a socket handed over in one piece is to be read.
package enum TrainReading: Equatable, Sendable {
  /// As datagrams, each with a VXLAN header.
  case datagrams
  /// As one frame behind one VXLAN header, with this request.
  case superframe(Offload)
  /// As nothing: it is neither, or could be both.
  case neither
}

extension Datapath {
  /// How bytes that came with a segment size are to be read, as `receiveDatagrams` reads them.
  ///
  /// - Parameters:
  ///   - train: The first VXLAN header.
  ///   - count: All bytes, any number.
  ///   - segmentSize: What the kernel says, any number; 0 for a single datagram.
  ///   - endpoint: The socket it came in by.
  ///   - remote: The VTEP that sent it.
  /// - Returns: `.datagrams` also for a single one, and for what comes from no VTEP of ours.
  @unsafe package func reading(
    of train: UnsafeRawPointer, count: Int, segmentSize: Int, on endpoint: ListenerID,
    from remote: IPAddress
  ) -> TrainReading {
    guard segmentSize > 0, segmentSize < count,
      let vtep = tables.demultiplexer.vtep(remote)
    else { return .datagrams }
    return unsafe reading(
      of: train, count: count, stride: segmentSize, on: endpoint, from: vtep)
  }

  /// The same for `0 < stride < count` and a known VTEP.
  @unsafe func reading(
    of train: UnsafeRawPointer, count: Int, stride: Int, on endpoint: ListenerID,
    from vtep: UInt32
  ) -> TrainReading {
    var vni: VNI?
    if count >= VXLANHeader.byteCount, let first = unsafe VXLANHeader(train.span(count)),
      first.hasVNI
    {
      vni = first.vni
    }
    var strides = 0
    var headers = 0
    var offset = stride
    while offset < count {
      strides += 1
      let bytes = unsafe (train + offset).span(min(stride, count - offset))
      if let header = VXLANHeader(bytes), header.hasVNI,
        header.vni == vni || header.hasZerosOnly
          || tables.demultiplexer.tunnel(vni: header.vni, vtep: vtep, endpoint: endpoint) != nil
      {
        headers += 1
      }
      offset += stride
    }
    if headers == strides { return .datagrams }
    guard headers == 0,
      let offload = unsafe superframeOfDatagrams(
        train + VXLANHeader.byteCount, count: count - VXLANHeader.byteCount, segmentSize: stride)
    else { return .neither }
    return .superframe(offload)
  }
}

/// The offload request of what came from a tunnel as one superframe of UDP datagrams; `nil` for
/// anything else.
///
/// Its IP and UDP headers cover everything, and its checksum is the pseudo-header's sum.
///
/// - Parameters:
///   - frame: The first Ethernet header.
///   - count: Bytes from there to the end of all that was received, any number.
///   - segmentSize: What the kernel says: payload bytes of each datagram inside but the last.
/// - Returns: The request with which the frame can be handed to a device, or cut.
func superframeOfDatagrams(_ frame: UnsafeRawPointer, count: Int, segmentSize: Int) -> Offload? {
  guard count >= EthernetHeader.byteCount else { return nil }
  let bytes = unsafe frame.span(count)
  let layout = FrameLayout(bytes)
  guard layout.isIP, layout.packetEnd == count, layout.transport == .udp,
    !layout.isFragment, !layout.isSourceRouted,
    let header = UDPHeader(bytes.slice(layout.transportOffset, layout.packetEnd)),
    header.length == layout.transportCount,
    layout.transportCount &- UDPHeader.byteCount > segmentSize,
    header.checksum
      == layout.pseudoHeaderSum(bytes, transportCount: layout.transportCount).folded
  else { return nil }
  return Offload(
    flags: .needsChecksum,
    segmentation: .udp,
    headerLength: UInt16(truncatingIfNeeded: layout.transportOffset &+ UDPHeader.byteCount),
    segmentSize: UInt16(clamping: segmentSize),
    checksumStart: UInt16(truncatingIfNeeded: layout.transportOffset),
    checksumOffset: Superframe.checksumOffset(isUDP: true))
}

extension Frame {
  /// Whether the frame holds all that the lengths in its headers claim, so that it can travel with
  /// others in a train.
  ///
  /// Those of 802.3, ARP, IPv4, IPv6 and UDP, behind the tags that `FrameLayout` looks behind; what
  /// more tags hide is not known, so it is `false` there as well. The UDP length of a fragment
  /// counts the other fragments, too, and is not looked at. What is behind the packet is padding.
  var holdsItsLengths: Bool {
    @inline(__always) mutating get {
      let layout = layout
      return layout.isIP ? layout.holdsDatagram(bytes) : layout.holdsOtherLengths(bytes)
    }
  }
}

extension FrameLayout {
  /// Whether an IP packet holds the UDP datagram that it may have inside.
  @inline(__always)
  fileprivate func holdsDatagram(_ frame: RawSpan) -> Bool {
    guard transport == .udp, !isFragment, transportCount >= UDPHeader.byteCount else {
      return true
    }
    return Int(frame.big16(transportOffset &+ 4)) <= transportCount
  }

  /// The same of a frame that has no IP packet, or one that contradicts itself.
  @inline(__always)
  fileprivate func holdsOtherLengths(_ frame: RawSpan) -> Bool {
    let start = networkOffset
    let rest = frame.byteCount &- start
    switch etherType {
    case .ipv4:
      return rest >= IPv4Header.minimumByteCount && Int(frame.big16(start &+ 2)) <= rest
    case .ipv6:
      return rest >= IPv6Header.byteCount
        && Int(frame.big16(start &+ 4)) <= rest &- IPv6Header.byteCount
    case .arp:
      return rest >= 8
        && 8 &+ 2 &* (Int(frame.octet(start &+ 4)) &+ Int(frame.octet(start &+ 5))) <= rest
    case let type:
      return !type.isVLAN && (type.rawValue >= 0x0600 || Int(type.rawValue) <= rest)
    }
  }
}
