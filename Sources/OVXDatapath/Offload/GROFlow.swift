/// What is known of a frame that carries TCP or UDP plainly: no tags, no IP options or extension
/// headers, not a fragment.
struct Segment: BitwiseCopyable {
  var isIPv6 = false
  var isUDP = false
  /// Up to the payload.
  var headerLength = 0
  var payloadCount = 0
  /// The first of the places where GRO may have the flow.
  var home = 0
  /// Whether the checksum field holds the pseudo-header's sum only.
  var isPartial = false
  var isPush = false
  /// Whether the frame may be part of a superframe at all.
  var isJoinable = false

  static let none = Segment()

  /// Where the IP header starts.
  static let networkOffset = EthernetHeader.byteCount

  @inline(__always)
  static func transportOffset(isIPv6: Bool) -> Int {
    networkOffset &+ (isIPv6 ? IPv6Header.byteCount : IPv4Header.minimumByteCount)
  }

  /// Whether the frame may be the first part of a superframe; PSH would end it at once.
  var mayOpen: Bool { isJoinable && !isPush }

  /// What a device has to take for the frame to be joined with others.
  var neededCapabilities: OffloadCapabilities {
    isUDP ? [.checksum, .udp] : isIPv6 ? [.checksum, .tcp6] : [.checksum, .tcp4]
  }

  private init() {}

  init?(_ bytes: RawSpan, _ layout: FrameLayout, _ offload: Offload) {
    guard layout.isIP, layout.transport == .tcp || layout.transport == .udp, !layout.isFragment,
      layout.networkOffset == Self.networkOffset,
      layout.transportOffset == Self.transportOffset(isIPv6: layout.isIPv6)
    else { return nil }
    isIPv6 = layout.isIPv6
    isUDP = layout.transport == .udp
    isPartial = offload.needsChecksum
    let transport = bytes.slice(layout.transportOffset, layout.packetEnd)
    var isPlain: Bool
    if isUDP {
      guard let header = UDPHeader(transport) else { return nil }
      headerLength = layout.transportOffset &+ UDPHeader.byteCount
      // Without a checksum nothing says that what is joined was intact.
      isPlain = header.length == transport.byteCount && header.checksum != 0
    } else {
      guard let header = TCPHeader(transport) else { return nil }
      headerLength = layout.transportOffset &+ header.headerLength
      isPush = header.flags.contains(.psh)
      isPlain = header.flags.union(.psh) == [.ack, .psh]
    }
    payloadCount = layout.packetEnd &- headerLength
    isPlain =
      isPlain && payloadCount > 0 && !offload.isSuperframe
      && (!offload.needsChecksum
        || (Int(offload.checksumStart) == layout.transportOffset
          && offload.checksumOffset == Superframe.checksumOffset(isUDP: isUDP)))
    isJoinable = isPlain
    let addresses =
      layout.isIPv6
      ? bytes.big64(22) ^ bytes.big64(30) ^ bytes.big64(38) ^ bytes.big64(46) : bytes.big64(26)
    var hash = addresses ^ UInt64(bytes.big32(layout.transportOffset)) << 16
    hash = hash &* 0x9E37_79B9_7F4A_7C15
    hash = (hash ^ hash >> 32) &* 0x9E37_79B9_7F4A_7C15
    home = Int(truncatingIfNeeded: hash >> 58)
  }

  /// Whether the IPv4 header's checksum and, unless it is partial, that of TCP or UDP hold.
  @inline(__always)
  func isIntact(_ frame: UnsafeRawPointer) -> Bool {
    if !isIPv6 {
      guard unsafe Self.networkSum(frame).folded == 0xFFFF else { return false }
    }
    if isPartial { return true }
    let start = Self.transportOffset(isIPv6: isIPv6)
    let count = headerLength &+ payloadCount
    var sum = unsafe Self.pseudoHeaderSum(frame, count: count, isIPv6: isIPv6, isUDP: isUDP)
    unsafe sum.add(frame + start, count: count &- start)
    return sum.folded == 0xFFFF
  }

  /// The sum of an IPv4 header without options.
  @inline(__always)
  static func networkSum(_ frame: UnsafeRawPointer) -> InternetSum {
    var sum = InternetSum()
    unsafe sum.add(frame.big64(14))
    unsafe sum.add(frame.big64(22))
    unsafe sum.add(UInt64(frame.big32(30)))
    return sum
  }

  @inline(__always)
  static func pseudoHeaderSum(
    _ frame: UnsafeRawPointer,
    count: Int,
    isIPv6: Bool,
    isUDP: Bool
  ) -> InternetSum {
    var sum = InternetSum()
    if isIPv6 {
      unsafe sum.add(frame.big64(22))
      unsafe sum.add(frame.big64(30))
      unsafe sum.add(frame.big64(38))
      unsafe sum.add(frame.big64(46))
    } else {
      unsafe sum.add(frame.big64(26))
    }
    sum.add(UInt64((isUDP ? IPProtocol.udp : IPProtocol.tcp).rawValue))
    sum.add(UInt64(truncatingIfNeeded: count &- transportOffset(isIPv6: isIPv6)))
    return sum
  }
}

/// A flow of which the last frame may be followed by more, and the superframe that it has become so
/// far.
@unsafe
struct GROFlow: BitwiseCopyable {
  let frame: UnsafeMutableRawPointer
  let transmission: Int
  /// Bytes of the superframe.
  private var byteCount: Int
  /// The first segment.
  private let first: Segment
  private var frameCount = 1
  private var nextSequence: UInt32 = 0
  private var firstPiece: Int32 = -1
  private(set) var lastPiece: Int32 = -1
  let port: PortID
  private var isVerified = false
  private var isPush = false

  @inline(__always)
  init(
    _ frame: UnsafeMutableRawPointer,
    _ segment: Segment,
    port: PortID,
    transmission: Int
  ) {
    unsafe self.frame = unsafe frame
    unsafe self.port = port
    unsafe self.transmission = transmission
    unsafe first = segment
    unsafe byteCount = segment.headerLength &+ segment.payloadCount
    if !segment.isUDP {
      let transport = Segment.transportOffset(isIPv6: segment.isIPv6)
      unsafe nextSequence =
        frame.big32(transport &+ 4) &+ UInt32(truncatingIfNeeded: segment.payloadCount)
    }
  }

  var isMerged: Bool { unsafe frameCount > 1 }
  var segmentSize: Int { unsafe first.payloadCount }

  private var transportOffset: Int { unsafe Segment.transportOffset(isIPv6: first.isIPv6) }

  /// Whether a frame has the flow's MAC header, IP addresses and ports.
  @inline(__always)
  func isOfFlow(_ other: UnsafeRawPointer, _ segment: Segment) -> Bool {
    let own = unsafe UnsafeRawPointer(frame)
    // The EtherType is part of the 14 bytes, so from here on both are of one IP version.
    guard unsafe segment.isUDP == first.isUDP,
      unsafe own.big64(0) == other.big64(0) && own.big64(6) == other.big64(6)
    else { return false }
    guard unsafe first.isIPv6 else {
      return unsafe own.big64(26) == other.big64(26) && own.big32(34) == other.big32(34)
    }
    return unsafe own.big64(22) == other.big64(22) && own.big64(30) == other.big64(30)
      && own.big64(38) == other.big64(38) && own.big64(46) == other.big64(46)
      && own.big32(54) == other.big32(54)
  }

  /// Whether a frame of any shape goes between the flow's two IP addresses.
  func hasAddresses(of other: UnsafeRawPointer, _ layout: FrameLayout) -> Bool {
    guard unsafe layout.isIPv6 == first.isIPv6 else { return false }
    let own = unsafe frame + Segment.networkOffset
    let other = unsafe other + layout.networkOffset
    guard unsafe first.isIPv6 else {
      return unsafe own.big32(12) == other.big32(12) && own.big32(16) == other.big32(16)
    }
    var offset = 8
    while offset < IPv6Header.byteCount {
      guard unsafe own.big32(offset) == other.big32(offset) else { return false }
      offset &+= 4
    }
    return true
  }

  /// What a frame is, if it is what a segmenting sender would have sent behind what is there; its
  /// checksums not verified.
  ///
  /// It is not parsed: the first frame was, and this one has the same bytes wherever the parse
  /// depends on them.
  @inline(__always)
  func continuation(_ other: UnsafeRawPointer, count: Int, offload: Offload) -> Segment? {
    let own = unsafe UnsafeRawPointer(frame)
    let headerLength = unsafe first.headerLength
    guard count > headerLength, unsafe offload.needsChecksum == first.isPartial,
      !offload.isSuperframe,
      unsafe own.big64(0) == other.big64(0) && own.big64(6) == other.big64(6)
    else { return nil }
    let end: Int
    if unsafe first.isIPv6 {
      // Version, traffic class and flow label; next header and hop limit; addresses.
      guard unsafe own.big32(14) == other.big32(14) && own.big16(20) == other.big16(20),
        unsafe own.big64(22) == other.big64(22) && own.big64(30) == other.big64(30),
        unsafe own.big64(38) == other.big64(38) && own.big64(46) == other.big64(46)
      else { return nil }
      end = unsafe 54 &+ Int(other.big16(18))
    } else {
      // Version, header length and ToS; flags and fragment offset, TTL and protocol; addresses.
      guard unsafe own.big16(14) == other.big16(14) && own.big32(20) == other.big32(20),
        unsafe own.big64(26) == other.big64(26)
      else { return nil }
      let number = unsafe own.big16(18) &+ UInt16(truncatingIfNeeded: frameCount)
      guard unsafe own.big16(20) & 0x4000 != 0 || other.big16(18) == number else { return nil }
      end = unsafe 14 &+ Int(other.big16(16))
    }
    var segment = unsafe first
    segment.payloadCount = end &- headerLength
    guard end > headerLength, end <= count,
      unsafe segment.payloadCount <= first.payloadCount,
      unsafe byteCount &+ segment.payloadCount <= GRO.byteLimit
    else { return nil }
    let start = unsafe transportOffset
    guard unsafe own.big32(start) == other.big32(start) else { return nil }
    if unsafe first.isUDP {
      guard unsafe Int(other.big16(start &+ 4)) == end &- start,
        unsafe other.big16(start &+ 6) != 0, unsafe frameCount < GRO.datagramLimit
      else { return nil }
    } else {
      guard unsafe continuesTCP(other, start: start) else { return nil }
      let flags = unsafe TCPHeader.Flags(rawValue: other.octet(start &+ 13))
      guard flags.union(.psh) == [.ack, .psh] else { return nil }
      segment.isPush = flags.contains(.psh)
    }
    if segment.isPartial {
      guard Int(offload.checksumStart) == start,
        offload.checksumOffset == Superframe.checksumOffset(isUDP: segment.isUDP)
      else { return nil }
    }
    return segment
  }

  /// Whether a TCP header but for its flags is the next one.
  @inline(__always)
  private func continuesTCP(_ other: UnsafeRawPointer, start: Int) -> Bool {
    let own = unsafe UnsafeRawPointer(frame)
    guard unsafe other.big32(start &+ 4) == nextSequence,
      unsafe own.big32(start &+ 8) == other.big32(start &+ 8),
      unsafe own.octet(start &+ 12) == other.octet(start &+ 12),
      unsafe own.big16(start &+ 14) == other.big16(start &+ 14),
      unsafe own.big16(start &+ 18) == other.big16(start &+ 18),
      unsafe frameCount < GRO.segmentLimit
    else { return false }
    var offset = start &+ TCPHeader.minimumByteCount
    while unsafe offset < first.headerLength {
      guard unsafe own.big32(offset) == other.big32(offset) else { return false }
      offset &+= 4
    }
    return true
  }

  /// Verifies the checksums of the frame that opened the flow, once.
  @inline(__always)
  mutating func verifyFirst() -> Bool {
    if unsafe !isVerified { unsafe isVerified = first.isIntact(frame) }
    return unsafe isVerified
  }

  @inline(__always)
  mutating func append(_ segment: Segment, piece: Int32) {
    if unsafe firstPiece < 0 { unsafe firstPiece = piece }
    unsafe lastPiece = piece
    unsafe byteCount &+= segment.payloadCount
    unsafe nextSequence &+= UInt32(truncatingIfNeeded: segment.payloadCount)
    unsafe frameCount &+= 1
    unsafe isPush = segment.isPush
  }

  /// Makes one set of headers out of those of the first frame.
  func finish() -> GROFrame {
    let start = unsafe transportOffset
    let isIPv6 = unsafe first.isIPv6
    let isUDP = unsafe first.isUDP
    let packetCount = unsafe byteCount &- Segment.networkOffset
    if isIPv6 {
      unsafe frame.setBig16(18, UInt16(truncatingIfNeeded: packetCount &- IPv6Header.byteCount))
    } else {
      unsafe frame.setBig16(16, UInt16(truncatingIfNeeded: packetCount))
      unsafe frame.setBig16(24, 0)
      unsafe frame.setBig16(24, Segment.networkSum(frame).checksum)
    }
    if isUDP {
      unsafe frame.setBig16(start &+ 4, UInt16(truncatingIfNeeded: byteCount &- start))
    } else if unsafe isPush {
      unsafe frame.setOctet(start &+ 13, frame.octet(start &+ 13) | TCPHeader.Flags.psh.rawValue)
    }
    let seed = unsafe Segment.pseudoHeaderSum(
      frame, count: byteCount, isIPv6: isIPv6, isUDP: isUDP
    ).folded
    let checksumOffset = Superframe.checksumOffset(isUDP: isUDP)
    unsafe frame.setBig16(start &+ Int(checksumOffset), seed)
    let headCount = unsafe first.headerLength &+ first.payloadCount
    let offload = unsafe Offload(
      flags: .needsChecksum,
      segmentation: isUDP ? .udp : isIPv6 ? .tcp6 : .tcp4,
      headerLength: UInt16(truncatingIfNeeded: first.headerLength),
      segmentSize: UInt16(truncatingIfNeeded: first.payloadCount),
      checksumStart: UInt16(truncatingIfNeeded: start),
      checksumOffset: checksumOffset
    )
    return unsafe GROFrame(
      transmission: transmission, offload: offload, headCount: headCount, byteCount: byteCount,
      frameCount: frameCount, firstPiece: firstPiece)
  }
}
