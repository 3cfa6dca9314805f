/// What became of a frame that was offered to a `Coalescer`.
package enum Absorption: Equatable, Sendable {
  /// The payload belongs to an open superframe now, and stays where it lies until the frames are
  /// sent.
  case merged
  /// The frame is to be emitted as it is; `mayOpen` tells whether `open` is to be called then.
  case separate(mayOpen: Bool)
}

/// A superframe that is complete: what is to be done to the transmission that it was emitted as.
package struct CoalescedFrame: Equatable, BitwiseCopyable, Sendable {
  package var transmission: Int
  package var offload: Offload
  /// Bytes of the first frame that are sent: all but padding.
  package var headCount: Int
  /// Bytes of the superframe.
  package var byteCount: Int
  /// Frames that it was made of.
  package var frameCount: Int
  /// The first of the payloads that follow the first frame.
  var firstPiece: Int32
}

/// Joins TCP segments of one flow to superframes, and UDP datagrams of one flow and one size.
///
/// This is generic receive offload for frames that leave by a device: one superframe costs the
/// device, and the host behind it, little more than one segment does. Cutting it again yields the
/// very frames that were joined, but for padding. So a segment joins only what it continues without
/// a gap, with headers that are equal in all that a segment of a superframe takes over: MAC header,
/// IP header but for length, identification and checksum, TCP header but for sequence, checksum and
/// PSH. The IPv4 identification is kept where it means something, that is where the packet may be
/// fragmented. All segments but the last are of one size; PSH ends a superframe. Checksums are
/// verified, or are on both sides partial as the kernel handed them over.
///
/// Nothing is copied: a superframe is the first frame, whose headers are rewritten at the end, and
/// the payloads of the others where they were received.
@safe
package struct Coalescer: ~Copyable {
  /// Flows that are open at a time; a power of two, and the bits of `open`.
  package static let openLimit = 64
  /// Places that a flow may be in; when all are taken, the flow in the first one gives way.
  private static let choice = 4
  /// Superframes of one round: any transmission may become one.
  package static let superframeLimit = Egress.transmissionLimit
  /// Payloads of one round: of all segments of full trains, in all slots of a burst.
  package static let pieceLimit = 4096
  /// Bytes of a superframe: the kernel compares its length, Ethernet header included, with
  /// `gso_max_size`, 65536.
  package static let byteLimit = 65535
  /// Segments of TCP: a write takes no more than 1,024 vectors (`UIO_MAXIOV`).
  static let segmentLimit = 512
  /// Datagrams of UDP: those that Linux joins itself (`UDP_GRO_CNT_MAX`), and cuts since 4.18.
  static let datagramLimit = 64

  private var flows = unsafe Slab<OpenFlow>(reserving: Coalescer.openLimit)
  /// A bit for each place that has an open flow.
  private var open: UInt64 = 0
  /// The flow that absorbed or was opened last: the next frame is likely to be of it.
  private var latest = 0
  /// What `absorb` found out of the frame that it said may open a flow.
  private var candidate = Segment.none
  private var finished = Slab<CoalescedFrame>(reserving: Coalescer.superframeLimit)
  private var finishedCount = 0
  private var pieces = unsafe Slab<Piece>(reserving: Coalescer.pieceLimit)
  private var pieceCount = 0

  /// The payload of a segment, and the number of the one behind it.
  @unsafe struct Piece: BitwiseCopyable {
    var payload: Vector
    var next: Int32
  }

  package init() {}

  /// Lets a frame's payload follow an open superframe, if it continues one.
  ///
  /// A frame of an open flow that does not, closes that flow: frames of a flow stay in order.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header.
  ///   - count: Bytes of the frame, any number.
  ///   - offload: What is still to be done to it.
  ///   - port: The device that it leaves by, untagged.
  ///   - capabilities: What that device takes.
  /// - Returns: What to do with the frame. If it was merged, its payload stays where it is until
  ///   the superframe is sent.
  @inline(__always)
  package mutating func absorb(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    offload: Offload,
    port: PortID,
    capabilities: OffloadCapabilities
  ) -> Absorption {
    if open & (1 << UInt64(latest)) != 0, unsafe flows[latest].port == port,
      let segment = unsafe flows[latest].continuation(frame, count: count, offload: offload)
    {
      return unsafe merge(frame, segment, latest)
    }
    return unsafe absorbOther(
      frame, count: count, offload: offload, port: port, capabilities: capabilities)
  }

  /// Lets a frame's payload follow an open superframe that is not the latest.
  private mutating func absorbOther(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    offload: Offload,
    port: PortID,
    capabilities: OffloadCapabilities
  ) -> Absorption {
    candidate = .none
    guard let segment = unsafe Segment(frame, count: count, offload: offload) else {
      // Neither plain TCP nor plain UDP, but perhaps a frame of an open flow in another shape: a
      // fragment, or with IP options.
      if hasOpenFlows { unsafe pass(frame, count: count, port: port) }
      return .separate(mayOpen: false)
    }
    let mayOpen = segment.mayOpen && capabilities.contains(segment.neededCapabilities)
    if mayOpen { candidate = segment }
    guard let place = unsafe place(of: frame, segment, port: port) else {
      return .separate(mayOpen: mayOpen)
    }
    guard let next = unsafe flows[place].continuation(frame, count: count, offload: offload) else {
      close(place)
      return .separate(mayOpen: mayOpen)
    }
    return unsafe merge(frame, next, place)
  }

  /// Where a frame's flow is open.
  private func place(of frame: UnsafeRawPointer, _ segment: Segment, port: PortID) -> Int? {
    for distance in 0..<Self.choice {
      let place = (segment.home &+ distance) & (Self.openLimit - 1)
      if open & (1 << UInt64(place)) != 0, unsafe flows[place].port == port,
        unsafe flows[place].isOfFlow(frame, segment)
      {
        return place
      }
    }
    return nil
  }

  /// Appends what continues a flow in all but, perhaps, the checksums.
  @inline(__always)
  private mutating func merge(
    _ frame: UnsafeMutableRawPointer, _ segment: Segment, _ place: Int
  ) -> Absorption {
    guard pieceCount < Self.pieceLimit, unsafe flows[place].verifyFirst() else {
      close(place)
      candidate = segment.mayOpen ? segment : .none
      return .separate(mayOpen: segment.mayOpen)
    }
    guard unsafe segment.isIntact(frame) else {
      close(place)
      candidate = .none
      return .separate(mayOpen: false)
    }
    latest = place
    let number = Int32(truncatingIfNeeded: pieceCount)
    unsafe pieces[pieceCount] = unsafe Piece(
      payload: Vector(base: frame + segment.headerLength, count: segment.payloadCount), next: -1)
    pieceCount &+= 1
    let last = unsafe flows[place].lastPiece
    if last >= 0 { unsafe pieces[Int(last)].next = number }
    unsafe flows[place].append(segment, piece: number)
    if unsafe segment.isPush || segment.payloadCount < flows[place].segmentSize { close(place) }
    return .merged
  }

  /// Lets later frames follow the frame for which `absorb` just said `.separate(mayOpen: true)`,
  /// now emitted.
  ///
  /// The frame's memory must be that transmission's alone: its headers are rewritten at the end.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header; it stays there until the superframe is sent.
  ///   - port: Where it leaves.
  ///   - transmission: The number that `finishNext` names it by, below `superframeLimit`.
  package mutating func open(
    _ frame: UnsafeMutableRawPointer,
    port: PortID,
    transmission: Int
  ) {
    guard candidate.isJoinable, transmission < Self.superframeLimit else { return }
    var place = candidate.home
    for distance in 0..<Self.choice {
      let other = (candidate.home &+ distance) & (Self.openLimit - 1)
      if open & (1 << UInt64(other)) == 0 {
        place = other
        break
      }
    }
    if open & (1 << UInt64(place)) != 0 { close(place) }
    unsafe flows[place] = OpenFlow(frame, candidate, port: port, transmission: transmission)
    open |= 1 << UInt64(place)
    latest = place
  }

  /// Closes all flows, and hands out one superframe that has absorbed something, its headers
  /// rewritten.
  ///
  /// `nil` when none is left. To be called until then before the frames are sent, and before new
  /// ones are absorbed.
  package mutating func finishNext() -> CoalescedFrame? {
    while open != 0 { close(open.trailingZeroBitCount) }
    guard finishedCount > 0 else {
      pieceCount = 0
      return nil
    }
    finishedCount &-= 1
    return finished[finishedCount]
  }

  /// Calls a function with the payloads that follow the first frame of a superframe, in order.
  ///
  /// They are known until new frames are absorbed.
  @unsafe package func forEachPayload(of frame: CoalescedFrame, _ body: (Vector) -> Void) {
    var number = frame.firstPiece
    while number >= 0 {
      unsafe body(pieces[Int(number)].payload)
      number = unsafe pieces[Int(number)].next
    }
  }

  /// Finishes the superframe of a flow, if it is one, and forgets the flow.
  private mutating func close(_ place: Int) {
    open &= ~(1 << UInt64(place))
    guard unsafe flows[place].isMerged else { return }
    unsafe finished[finishedCount] = flows[place].finish()
    finishedCount &+= 1
  }

  /// Whether any flow is open, so that `pass` has something to do.
  @inline(__always)
  package var hasOpenFlows: Bool { open != 0 }

  /// Tells of a frame that leaves by itself: what is open between its two addresses is closed, for later frames must not
  /// overtake it.
  package mutating func pass(_ frame: UnsafeRawPointer, count: Int, port: PortID) {
    guard count >= EthernetHeader.byteCount,
      let layout = unsafe FrameLayout(frame.span(count)),
      layout.transport == .tcp || layout.transport == .udp || layout.isFragment
    else { return }
    var rest = open
    while rest != 0 {
      let place = rest.trailingZeroBitCount
      rest &= rest &- 1
      if unsafe flows[place].port == port && flows[place].hasAddresses(of: frame, layout) {
        close(place)
      }
    }
  }
}

/// What is known of a frame that carries TCP or UDP plainly: no tags, no IP options or extension
/// headers, not a fragment.
struct Segment: BitwiseCopyable {
  var isIPv6 = false
  var isUDP = false
  /// Up to the payload.
  var headerLength = 0
  var payloadCount = 0
  /// The first of the places where a coalescer may have the flow.
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

  init?(_ frame: UnsafeRawPointer, count: Int, offload: Offload) {
    guard count >= EthernetHeader.byteCount else { return nil }
    let bytes = unsafe frame.span(count)
    guard let layout = FrameLayout(bytes),
      layout.transport == .tcp || layout.transport == .udp, !layout.isFragment,
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
struct OpenFlow: BitwiseCopyable {
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
      unsafe byteCount &+ segment.payloadCount <= Coalescer.byteLimit
    else { return nil }
    let start = unsafe transportOffset
    guard unsafe own.big32(start) == other.big32(start) else { return nil }
    if unsafe first.isUDP {
      guard unsafe Int(other.big16(start &+ 4)) == end &- start,
        unsafe other.big16(start &+ 6) != 0, unsafe frameCount < Coalescer.datagramLimit
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
      unsafe frameCount < Coalescer.segmentLimit
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
  func finish() -> CoalescedFrame {
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
    return unsafe CoalescedFrame(
      transmission: transmission, offload: offload, headCount: headCount, byteCount: byteCount,
      frameCount: frameCount, firstPiece: firstPiece)
  }
}
