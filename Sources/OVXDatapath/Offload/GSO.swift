/// A frame that is to be cut into several (generic segmentation offload, GSO).
///
/// Up to 64 KB of TCP payload, or UDP datagrams of one size, behind one set of headers. Made by
/// parsing: of what the kernel claims of the frame only the kind and the segment size are used, and
/// the rest has to agree with the bytes.
///
/// A container that has a VXLAN of its own sends its superframes in it: then all headers, the outer
/// ones too, are in front of the payload, and those of the packet inside are meant below.
package struct Superframe: Sendable {
  /// Bytes in front of the payload, from the Ethernet header on.
  package let headerLength: Int
  /// Where the IP header starts, behind up to three VLAN tags.
  package let networkOffset: Int
  /// Where the TCP or UDP header starts, behind IPv4 options or IPv6 extension headers.
  package let transportOffset: Int
  package let payloadCount: Int
  /// Payload bytes of each segment but the last, as the sender chose them; at least 1.
  package let segmentSize: Int
  package let isIPv6: Bool
  package let isUDP: Bool
  /// What is around the packet, where that is in a tunnel of its sender's.
  private let envelope: Envelope?

  /// Whether it is in a tunnel of its sender's, which no device can be told of.
  package var isInTunnel: Bool { envelope != nil }

  /// Parses a superframe; `nil` where `refusal(of:)` says why.
  package init?(_ frame: UnsafeRawPointer, count: Int, offload: Offload) {
    let bytes = unsafe frame.span(count)
    self.init(bytes, FrameLayout(bytes), offload)
  }

  /// The same of a frame whose layout is known.
  init?(_ bytes: RawSpan, _ known: FrameLayout, _ offload: Offload) {
    guard offload.segmentSize > 0, known.isIP, !known.isFragment, !known.isSourceRouted
    else { return nil }
    var layout = known
    envelope = Envelope(bytes, &layout, offload)
    let checksumOffset: UInt16
    switch (offload.segmentation.kind, layout.transport, layout.isIPv6) {
    case (.tcp4, .tcp, false), (.tcp6, .tcp, true):
      guard let header = TCPHeader(bytes.slice(layout.transportOffset, layout.packetEnd))
      else { return nil }
      headerLength = layout.transportOffset &+ header.headerLength
      checksumOffset = Self.checksumOffset(isUDP: false)
      isUDP = false
    case (.udp, .udp, _):
      guard UDPHeader(bytes.slice(layout.transportOffset, layout.packetEnd)) != nil
      else { return nil }
      headerLength = layout.transportOffset &+ UDPHeader.byteCount
      checksumOffset = Self.checksumOffset(isUDP: true)
      isUDP = true
    default:
      return nil
    }
    if offload.needsChecksum {
      guard Int(offload.checksumStart) == layout.transportOffset,
        offload.checksumOffset == checksumOffset
      else { return nil }
    }
    networkOffset = layout.networkOffset
    transportOffset = layout.transportOffset
    payloadCount = layout.packetEnd &- headerLength
    segmentSize = Int(offload.segmentSize)
    isIPv6 = layout.isIPv6
  }

  /// Why a frame with this request is no superframe that can be cut.
  package static func refusal(of offload: Offload) -> DropReason {
    switch offload.segmentation.kind {
    case .tcp4, .tcp6, .udp: .malformedOffload
    default: .unsupportedOffload
    }
  }

  /// Where a TCP or UDP header has its checksum.
  @inline(__always)
  static func checksumOffset(isUDP: Bool) -> UInt16 { isUDP ? 6 : 16 }

  /// The payload bytes per segment that cutting really uses where `wanted` are asked for.
  ///
  /// TCP is a stream, and may be cut finer than the sender asked, for a tunnel with a smaller MTU;
  /// never coarser. UDP datagrams keep their size.
  package func effectiveSegmentSize(_ wanted: Int) -> Int {
    isUDP ? segmentSize : max(1, min(wanted, segmentSize))
  }

  /// The payload bytes per segment for an egress that takes so many at most; `nil` where the frame
  /// cannot be cut so small.
  package func segmentSize(fitting room: Int) -> Int? {
    if segmentSize <= room { return segmentSize }
    // A UDP segment is a datagram of its own: cutting it elsewhere would change what the receiver
    // gets.
    return room <= 0 || (isUDP && payloadCount > room) ? nil : room
  }

  /// The number of segments where a segment size is asked for, at least 1.
  package func segmentCount(segmentSize wanted: Int) -> Int {
    let size = effectiveSegmentSize(wanted)
    return max(1, (payloadCount &+ size &- 1) / size)
  }

  /// Bytes that `write` fills for some segments, prefixes included.
  package func byteCount(segments: Range<Int>, segmentSize wanted: Int, prefixCount: Int) -> Int {
    let size = effectiveSegmentSize(wanted)
    let range = segments.clamped(to: 0..<segmentCount(segmentSize: wanted))
    let payload = min(range.upperBound &* size, payloadCount) &- range.lowerBound &* size
    return range.count &* (prefixCount &+ headerLength) &+ (range.isEmpty ? 0 : payload)
  }

  /// Writes segments one after the other, each as prefix, headers and its share of the payload.
  ///
  /// All segments but the superframe's last have equal byte counts, so that a range of them is a
  /// train for `UDP_SEGMENT`. Lengths, identification, sequence numbers, flags and checksums are
  /// those that the sender would have written. The superframe is not changed.
  ///
  /// - Parameters:
  ///   - segments: Which ones; clamped to those that there are.
  ///   - frame: The frame that was parsed, unchanged since.
  ///   - wanted: Payload bytes per segment; see `effectiveSegmentSize`.
  ///   - destination: Memory of at least `byteCount(segments:segmentSize:prefixCount:)` that does
  ///     not overlap the frame.
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
    let size = effectiveSegmentSize(wanted)
    let count = segmentCount(segmentSize: wanted)
    let range = segments.clamped(to: 0..<count)
    let template = unsafe SegmentTemplate(self, frame)
    var place = unsafe destination
    var index = range.lowerBound
    while index < range.upperBound {
      let start = index &* size
      let payload = min(size, payloadCount &- start)
      if prefixCount == VXLANHeader.byteCount {
        unsafe place.setBig64(0, prefix.big64(0))
      } else {
        unsafe place.copyMemory(from: prefix, byteCount: prefixCount)
      }
      unsafe place += prefixCount
      unsafe place.copyMemory(from: frame, byteCount: headerLength)
      var sum = InternetSum()
      unsafe sum.addCopying(
        frame + (headerLength &+ start), to: place + headerLength, count: payload)
      unsafe template.finish(
        place, self, index: index, start: start, payloadCount: payload,
        isFirst: index == 0, isLast: index &+ 1 == count, payloadSum: sum)
      if let envelope {
        unsafe envelope.finish(place, count: headerLength &+ payload, index: index)
      }
      unsafe place += headerLength &+ payload
      index &+= 1
    }
    return unsafe place - destination
  }
}

/// The outer IP and UDP headers of a superframe that its sender has put in a tunnel: VXLAN, or
/// another one whose header behind UDP has eight bytes and an Ethernet frame behind it.
///
/// virtio-net cannot say that there is one. It shows by the checksum that is to be filled in, which
/// starts further inside.
private struct Envelope {
  let networkOffset: Int
  let transportOffset: Int
  let isIPv6: Bool

  /// Finds out whether there is one; `layout` is then that of the packet inside.
  @inline(__always)
  init?(_ frame: RawSpan, _ layout: inout FrameLayout, _ offload: Offload) {
    guard layout.transport == .udp, offload.needsChecksum,
      Int(offload.checksumStart) > layout.transportOffset
    else { return nil }
    self.init(beneath: &layout, frame)
  }

  @inline(never)
  private init?(beneath layout: inout FrameLayout, _ frame: RawSpan) {
    let start = layout.transportOffset &+ UDPHeader.byteCount &+ VXLANHeader.byteCount
    guard let header = UDPHeader(frame.slice(layout.transportOffset, layout.packetEnd)),
      header.length == layout.transportCount, start <= layout.packetEnd
    else { return nil }
    let inner = FrameLayout(frame.slice(start, layout.packetEnd)).behind(start)
    guard inner.isIP, !inner.isFragment, !inner.isSourceRouted,
      inner.packetEnd == layout.packetEnd
    else { return nil }
    networkOffset = layout.networkOffset
    transportOffset = layout.transportOffset
    isIPv6 = layout.isIPv6
    layout = inner
  }

  /// Rewrites the outer headers of one segment, which is `count` bytes long and otherwise as it is
  /// to be.
  @inline(never)
  func finish(_ place: UnsafeMutableRawPointer, count: Int, index: Int) {
    let network = unsafe place + networkOffset
    let transport = unsafe place + transportOffset
    var addresses = InternetSum()
    if isIPv6 {
      let length = count &- networkOffset &- IPv6Header.byteCount
      unsafe network.setBig16(4, UInt16(truncatingIfNeeded: length))
      unsafe addresses.add(network + 8, count: 32)
    } else {
      unsafe network.setBig16(2, UInt16(truncatingIfNeeded: count &- networkOffset))
      unsafe network.setBig16(4, network.big16(4) &+ UInt16(truncatingIfNeeded: index))
      unsafe network.setBig16(10, 0)
      var sum = InternetSum()
      unsafe sum.add(network, count: Int(network.octet(0) & 0x0F) &* 4)
      unsafe network.setBig16(10, sum.checksum)
      unsafe addresses.add(network + 12, count: 8)
    }
    let length = count &- transportOffset
    unsafe transport.setBig16(4, UInt16(truncatingIfNeeded: length))
    // One that was not sent with a checksum (RFC 7348, section 5) is not given one.
    guard unsafe transport.big16(6) != 0 else { return }
    unsafe transport.setBig16(6, 0)
    addresses.add(UInt64(IPProtocol.udp.rawValue) &+ UInt64(truncatingIfNeeded: length))
    unsafe addresses.add(transport, count: length)
    unsafe transport.setBig16(6, addresses.nonZeroChecksum)
  }
}

/// What the headers of all segments of a superframe have in common, summed up once.
private struct SegmentTemplate {
  /// The IPv4 header without total length, identification and checksum.
  private var networkSum = InternetSum()
  /// Pseudo-header and transport header without what differs from segment to segment.
  private var transportSum: InternetSum
  private var identification: UInt16 = 0
  private var sequence: UInt32 = 0
  /// TCP data offset and flags.
  private var control: UInt16 = 0

  @inline(__always)
  init(_ superframe: Superframe, _ frame: UnsafeRawPointer) {
    let network = unsafe frame + superframe.networkOffset
    let transport = unsafe frame + superframe.transportOffset
    transportSum = InternetSum()
    if superframe.isIPv6 {
      unsafe transportSum.add(network + 8, count: 32)
    } else {
      unsafe transportSum.add(network + 12, count: 8)
      identification = unsafe network.big16(4)
      unsafe networkSum.add(network, count: Int(network.octet(0) & 0x0F) &* 4)
      unsafe networkSum.subtract(network.big16(2))
      unsafe networkSum.subtract(network.big16(4))
      unsafe networkSum.subtract(network.big16(10))
    }
    if superframe.isUDP {
      transportSum.add(UInt64(IPProtocol.udp.rawValue))
      unsafe transportSum.add(UInt64(transport.big32(0)))
    } else {
      transportSum.add(UInt64(IPProtocol.tcp.rawValue))
      sequence = unsafe transport.big32(4)
      control = unsafe transport.big16(12)
      unsafe transportSum.add(
        transport, count: superframe.headerLength &- superframe.transportOffset)
      transportSum.subtract(UInt16(truncatingIfNeeded: sequence >> 16))
      transportSum.subtract(UInt16(truncatingIfNeeded: sequence))
      transportSum.subtract(control)
      unsafe transportSum.subtract(transport.big16(16))
    }
  }

  /// Rewrites the headers of one segment, which were copied to `place`.
  @inline(__always)
  func finish(
    _ place: UnsafeMutableRawPointer,
    _ superframe: Superframe,
    index: Int,
    start: Int,
    payloadCount: Int,
    isFirst: Bool,
    isLast: Bool,
    payloadSum: InternetSum
  ) {
    let network = unsafe place + superframe.networkOffset
    let transport = unsafe place + superframe.transportOffset
    let end = superframe.headerLength &+ payloadCount
    if superframe.isIPv6 {
      let length = end &- superframe.networkOffset &- IPv6Header.byteCount
      unsafe network.setBig16(4, UInt16(truncatingIfNeeded: length))
    } else {
      let length = UInt16(truncatingIfNeeded: end &- superframe.networkOffset)
      let number = identification &+ UInt16(truncatingIfNeeded: index)
      var sum = networkSum
      sum.add(UInt64(length) &+ UInt64(number))
      unsafe network.setBig16(2, length)
      unsafe network.setBig16(4, number)
      unsafe network.setBig16(10, sum.checksum)
    }
    let transportCount = end &- superframe.transportOffset
    var sum = transportSum
    sum.add(payloadSum)
    sum.add(UInt64(truncatingIfNeeded: transportCount))
    if superframe.isUDP {
      // The length is summed twice: in the pseudo-header and in the header.
      sum.add(UInt64(truncatingIfNeeded: transportCount))
      unsafe transport.setBig16(4, UInt16(truncatingIfNeeded: transportCount))
      unsafe transport.setBig16(6, sum.nonZeroChecksum)
    } else {
      var cleared: TCPHeader.Flags = []
      if !isLast { cleared.formUnion([.fin, .psh]) }
      if !isFirst { cleared.formUnion(.cwr) }
      let control = control & ~UInt16(cleared.rawValue)
      let number = sequence &+ UInt32(truncatingIfNeeded: start)
      sum.add(UInt64(number) &+ UInt64(control))
      unsafe transport.setBig32(4, number)
      unsafe transport.setBig16(12, control)
      unsafe transport.setBig16(16, sum.checksum)
    }
  }
}

extension Offload {
  /// What a sender asks for with a superframe: to be cut into segments of so many payload bytes,
  /// checksums filled in.
  ///
  /// `nil` for a frame that carries neither TCP nor UDP.
  package init?(segmenting bytes: [UInt8], into segmentSize: Int) {
    let layout = FrameLayout(unsafe bytes.span.bytes)
    guard layout.isIP else { return nil }
    let kind: Segmentation
    switch layout.transport {
    case .tcp: kind = layout.isIPv6 ? .tcp6 : .tcp4
    case .udp: kind = .udp
    default: return nil
    }
    self.init(
      flags: .needsChecksum, segmentation: kind,
      headerLength: UInt16(clamping: layout.transportOffset),
      segmentSize: UInt16(clamping: segmentSize),
      checksumStart: UInt16(clamping: layout.transportOffset),
      checksumOffset: Superframe.checksumOffset(isUDP: kind == .udp))
  }
}
