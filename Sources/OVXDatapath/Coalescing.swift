/// What became of a frame that was offered to a `Coalescer`.
package enum Absorption: Equatable, Sendable {
  /// The payload was appended to the frame that was emitted as this transmission, which has `byteCount` bytes now.
  case merged(transmission: Int, byteCount: Int)
  /// The frame is to be emitted as it is; `mayOpen` tells whether it is worth a call of `open` then.
  case separate(mayOpen: Bool)
}

/// A superframe that is complete: what is to be done to the transmission that it was emitted as.
package struct CoalescedFrame: Equatable, Sendable {
  package var transmission: Int
  package var offload: Offload
}

/// Joins TCP segments of one flow, in place, to superframes.
///
/// This is generic receive offload for frames that leave by a device: one superframe costs the device, and the host behind
/// it, little more than one segment does. Cutting it again yields the very frames that were joined. So a segment joins only
/// what it continues without a gap, with headers that are equal in all that a segment of a superframe takes over: MAC header,
/// IP header but for length, identification and checksum, TCP header but for sequence, checksum and PSH. The IPv4
/// identification is kept where it means something, that is where the packet may be fragmented. All segments but the last are of one size;
/// PSH ends a superframe. Checksums are verified, or are on both sides partial as the kernel handed them over.
///
/// The frames of a burst lie in a few buffers, those of one train one behind the other. The payload moves down, right
/// behind what the superframe has already: over memory of frames that are merged, never over one that is still to
/// be read or sent. `limit` and `restrict(below:)` say where that is.
@safe
package struct Coalescer: ~Copyable {
  /// Flows that are open at a time; a further one closes the one that was opened first.
  package static let openLimit = 8
  /// Superframes of one round: as many as fit the datapath's burst of frames if each has two segments.
  package static let superframeLimit = 128
  /// Bytes of a superframe: the kernel compares its length, Ethernet header included, with `gso_max_size`, 65536.
  package static let byteLimit = 65535

  private let flows: UnsafeMutablePointer<OpenFlow>
  private var openCount = 0
  private let finished: UnsafeMutablePointer<CoalescedFrame>
  private var finishedCount = 0

  package init() {
    unsafe flows = .allocate(capacity: Self.openLimit)
    unsafe finished = .allocate(capacity: Self.superframeLimit)
  }

  deinit {
    unsafe flows.deallocate()
    unsafe finished.deallocate()
  }

  /// Appends a frame's payload to an open superframe, if it continues one.
  ///
  /// A frame of an open flow that does not, closes that flow: frames of a flow stay in order.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header.
  ///   - count: Bytes of the frame, any number.
  ///   - offload: What is still to be done to it.
  ///   - port: The device that it leaves by, untagged.
  /// - Returns: What to do with the frame. If it was merged, its memory is free from now on.
  package mutating func absorb(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    offload: Offload,
    port: PortID
  ) -> Absorption {
    guard let segment = unsafe Segment(frame, count: count, offload: offload) else {
      // Not plain TCP, but perhaps a frame of an open flow in another shape: a fragment, or with IP options.
      if openCount > 0 { unsafe closeFlows(of: frame, count: count, port: port) }
      return .separate(mayOpen: false)
    }
    guard let index = unsafe indexOfFlow(of: frame, segment, port: port) else {
      return .separate(mayOpen: segment.mayOpen)
    }
    let flow = unsafe flows + index
    // Every open flow may need a place among the finished ones.
    guard finishedCount &+ openCount <= Self.superframeLimit,
      unsafe flow.pointee.isContinued(by: frame, segment), unsafe flow.pointee.verifyFirst()
    else {
      close(index)
      return .separate(mayOpen: segment.mayOpen)
    }
    guard unsafe segment.isIntact(frame) else {
      close(index)
      return .separate(mayOpen: false)
    }
    unsafe flow.pointee.append(frame, segment)
    let result = unsafe Absorption.merged(
      transmission: flow.pointee.transmission, byteCount: flow.pointee.byteCount)
    if unsafe segment.isPush || segment.payloadCount < flow.pointee.segmentSize {
      close(index)
    }
    return result
  }

  /// Lets later frames be appended to a frame for which `absorb` said `.separate(mayOpen: true)`, now emitted.
  ///
  /// The frame's memory must be that transmission's alone: its headers are rewritten at the end. No other open superframe
  /// grows over it from now on, as after `restrict(below: frame)`.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header; it stays there until the superframe is finished.
  ///   - count: Bytes of the frame.
  ///   - offload: What was given to `absorb`.
  ///   - limit: The end of the memory that the frame may grow into.
  ///   - port: Where it leaves.
  ///   - transmission: The number that `absorb` and `finishNext` name it by.
  package mutating func open(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    offload: Offload,
    limit: UnsafeMutableRawPointer,
    port: PortID,
    transmission: Int
  ) {
    unsafe restrict(below: frame)
    guard let segment = unsafe Segment(frame, count: count, offload: offload), segment.mayOpen
    else { return }
    if openCount == Self.openLimit { close(0) }
    unsafe (flows + openCount).initialize(
      to: OpenFlow(frame, segment, limit: limit, port: port, transmission: transmission))
    openCount &+= 1
  }

  /// Tells that memory from `pointer` on is going to be used as it is: no open superframe grows over it.
  ///
  /// Needed for each frame that stays where it is; `pointer` is the lowest byte of it that is used, with headers that are
  /// written in front.
  package mutating func restrict(below pointer: UnsafeRawPointer) {
    var index = 0
    while index < openCount {
      let flow = unsafe flows + index
      if unsafe flow.pointee.frame < pointer && pointer < UnsafeRawPointer(flow.pointee.limit) {
        unsafe flow.pointee.limit = UnsafeMutableRawPointer(mutating: pointer)
      }
      index &+= 1
    }
  }

  /// Closes all flows, and hands out one superframe that has absorbed something, its headers rewritten.
  ///
  /// `nil` when none is left. To be called until then before the frames are sent, and before new ones are absorbed.
  package mutating func finishNext() -> CoalescedFrame? {
    while openCount > 0 { close(openCount &- 1) }
    guard finishedCount > 0 else { return nil }
    finishedCount &-= 1
    return unsafe finished[finishedCount]
  }

  /// Finishes the superframe of a flow, if it is one, and forgets the flow.
  private mutating func close(_ index: Int) {
    let flow = unsafe flows + index
    if unsafe flow.pointee.isMerged {
      unsafe (finished + finishedCount).initialize(to: flow.pointee.finish())
      finishedCount &+= 1
    }
    // In order of opening, so that the first is the one to give way.
    openCount &-= 1
    unsafe flow.update(from: flow + 1, count: openCount &- index)
  }

  private func indexOfFlow(
    of frame: UnsafeRawPointer,
    _ segment: Segment,
    port: PortID
  ) -> Int? {
    var index = 0
    while index < openCount {
      let flow = unsafe flows + index
      if unsafe flow.pointee.key == segment.key && flow.pointee.port == port
        && flow.pointee.isOfFlow(frame, segment)
      {
        return index
      }
      index &+= 1
    }
    return nil
  }

  /// Closes the flows between the two addresses of a frame that is not plain TCP.
  private mutating func closeFlows(of frame: UnsafeRawPointer, count: Int, port: PortID) {
    guard count >= EthernetHeader.byteCount,
      let layout = unsafe FrameLayout(frame.span(count)),
      layout.transport == .tcp || layout.isFragment
    else { return }
    var index = openCount &- 1
    while index >= 0 {
      let flow = unsafe flows + index
      if unsafe flow.pointee.port == port && flow.pointee.hasAddresses(of: frame, layout) {
        close(index)
      }
      index &-= 1
    }
  }
}

/// What is known of a frame that carries TCP plainly: no tags, no IP options or extension headers, not a fragment.
private struct Segment {
  let isIPv6: Bool
  /// Up to the payload.
  let headerLength: Int
  let payloadCount: Int
  /// Equal for all segments of a flow, and seldom for those of two.
  let key: UInt64
  /// Whether the checksum field holds the pseudo-header's sum only.
  let isPartial: Bool
  let isPush: Bool
  /// Whether the frame may be part of a superframe at all.
  let isJoinable: Bool

  /// Where the IP header starts.
  static let networkOffset = EthernetHeader.byteCount

  @inline(__always)
  static func transportOffset(isIPv6: Bool) -> Int {
    networkOffset &+ (isIPv6 ? IPv6Header.byteCount : IPv4Header.minimumByteCount)
  }

  /// Whether the frame may be the first part of a superframe; PSH would end it at once.
  var mayOpen: Bool { isJoinable && !isPush }

  @inline(__always)
  init?(_ frame: UnsafeRawPointer, count: Int, offload: Offload) {
    guard count >= EthernetHeader.byteCount else { return nil }
    let bytes = unsafe frame.span(count)
    guard let layout = FrameLayout(bytes), layout.transport == .tcp, !layout.isFragment,
      layout.networkOffset == Self.networkOffset,
      layout.transportOffset == Self.transportOffset(isIPv6: layout.isIPv6),
      let header = TCPHeader(bytes.slice(layout.transportOffset, layout.packetEnd))
    else { return nil }
    isIPv6 = layout.isIPv6
    headerLength = layout.transportOffset &+ header.headerLength
    payloadCount = layout.packetEnd &- headerLength
    isPush = header.flags.contains(.psh)
    isPartial = offload.needsChecksum
    isJoinable =
      header.flags.union(.psh) == [.ack, .psh] && payloadCount > 0 && layout.packetEnd == count
      && !offload.isSuperframe
      && (!offload.needsChecksum
        || (Int(offload.checksumStart) == layout.transportOffset
          && offload.checksumOffset == Superframe.checksumOffset(isUDP: false)))
    let addresses =
      layout.isIPv6
      ? bytes.big64(22) ^ bytes.big64(30) ^ bytes.big64(38) ^ bytes.big64(46) : bytes.big64(26)
    key = addresses ^ UInt64(bytes.big32(layout.transportOffset)) << 16
  }

  /// Whether the IPv4 header's checksum and, unless it is partial, that of TCP hold.
  @inline(__always)
  func isIntact(_ frame: UnsafeRawPointer) -> Bool {
    unsafe Self.isIntact(
      frame,
      count: headerLength &+ payloadCount,
      isIPv6: isIPv6,
      isPartial: isPartial
    )
  }

  @inline(__always)
  static func isIntact(
    _ frame: UnsafeRawPointer,
    count: Int,
    isIPv6: Bool,
    isPartial: Bool
  ) -> Bool {
    if !isIPv6 {
      guard unsafe networkSum(frame).folded == 0xFFFF else { return false }
    }
    if isPartial { return true }
    let start = transportOffset(isIPv6: isIPv6)
    var sum = unsafe pseudoHeaderSum(frame, count: count, isIPv6: isIPv6)
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
    isIPv6: Bool
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
    sum.add(UInt64(IPProtocol.tcp.rawValue))
    sum.add(UInt64(truncatingIfNeeded: count &- transportOffset(isIPv6: isIPv6)))
    return sum
  }
}

/// A flow of which the last frame may be followed by more, and the superframe that it has become so far.
@unsafe
private struct OpenFlow {
  let frame: UnsafeMutableRawPointer
  var limit: UnsafeMutableRawPointer
  let key: UInt64
  let transmission: Int
  /// Bytes of the superframe.
  var byteCount: Int
  let headerLength: Int
  let segmentSize: Int
  private var segmentCount = 1
  private var nextSequence: UInt32
  let port: PortID
  private let isIPv6: Bool
  private let isPartial: Bool
  private var isVerified = false
  private var isPush = false

  @inline(__always)
  init(
    _ frame: UnsafeMutableRawPointer,
    _ segment: Segment,
    limit: UnsafeMutableRawPointer,
    port: PortID,
    transmission: Int
  ) {
    unsafe self.frame = unsafe frame
    unsafe self.limit = unsafe limit
    unsafe self.port = port
    unsafe self.transmission = transmission
    unsafe key = segment.key
    unsafe byteCount = segment.headerLength &+ segment.payloadCount
    unsafe headerLength = segment.headerLength
    unsafe segmentSize = segment.payloadCount
    unsafe isIPv6 = segment.isIPv6
    unsafe isPartial = segment.isPartial
    let transport = Segment.transportOffset(isIPv6: segment.isIPv6)
    unsafe nextSequence =
      frame.big32(transport &+ 4) &+ UInt32(truncatingIfNeeded: segment.payloadCount)
  }

  var isMerged: Bool { unsafe segmentCount > 1 }

  private var transportOffset: Int { unsafe Segment.transportOffset(isIPv6: isIPv6) }

  /// Whether a frame has the flow's MAC header, IP addresses and ports.
  @inline(__always)
  func isOfFlow(_ other: UnsafeRawPointer, _ segment: Segment) -> Bool {
    let own = unsafe UnsafeRawPointer(frame)
    // The EtherType is part of the 14 bytes, so from here on both are of one IP version.
    guard unsafe own.big64(0) == other.big64(0) && own.big64(6) == other.big64(6) else {
      return false
    }
    guard unsafe isIPv6 else {
      return unsafe own.big64(26) == other.big64(26) && own.big32(34) == other.big32(34)
    }
    return unsafe own.big64(22) == other.big64(22) && own.big64(30) == other.big64(30)
      && own.big64(38) == other.big64(38) && own.big64(46) == other.big64(46)
      && own.big32(54) == other.big32(54)
  }

  /// Whether a frame of any shape goes between the flow's two IP addresses.
  func hasAddresses(of other: UnsafeRawPointer, _ layout: FrameLayout) -> Bool {
    guard unsafe layout.isIPv6 == isIPv6 else { return false }
    let own = unsafe frame + Segment.networkOffset
    let other = unsafe other + layout.networkOffset
    guard unsafe isIPv6 else {
      return unsafe own.big32(12) == other.big32(12) && own.big32(16) == other.big32(16)
    }
    var offset = 8
    while offset < IPv6Header.byteCount {
      guard unsafe own.big32(offset) == other.big32(offset) else { return false }
      offset &+= 4
    }
    return true
  }

  /// Whether a frame of the flow is what a segmenting sender would have sent behind what is there.
  @inline(__always)
  func isContinued(by other: UnsafeRawPointer, _ segment: Segment) -> Bool {
    guard segment.isJoinable,
      unsafe segment.isPartial == isPartial,
      unsafe segment.headerLength == headerLength,
      unsafe segment.payloadCount <= segmentSize,
      unsafe byteCount &+ segment.payloadCount <= Coalescer.byteLimit,
      unsafe segment.payloadCount <= limit - (frame + byteCount)
    else { return false }
    let own = unsafe UnsafeRawPointer(frame)
    if unsafe isIPv6 {
      // Version, traffic class and flow label; next header and hop limit.
      guard unsafe own.big32(14) == other.big32(14) && own.big16(20) == other.big16(20) else {
        return false
      }
    } else {
      // Version, header length and ToS; flags and fragment offset, TTL and protocol.
      guard unsafe own.big16(14) == other.big16(14) && own.big32(20) == other.big32(20) else {
        return false
      }
      let number = unsafe own.big16(18) &+ UInt16(truncatingIfNeeded: segmentCount)
      guard unsafe own.big16(20) & 0x4000 != 0 || other.big16(18) == number else { return false }
    }
    let start = unsafe transportOffset
    guard unsafe other.big32(start &+ 4) == nextSequence,
      unsafe own.big32(start &+ 8) == other.big32(start &+ 8),
      unsafe own.octet(start &+ 12) == other.octet(start &+ 12),
      unsafe own.big16(start &+ 14) == other.big16(start &+ 14),
      unsafe own.big16(start &+ 18) == other.big16(start &+ 18)
    else { return false }
    var offset = start &+ TCPHeader.minimumByteCount
    while unsafe offset < headerLength {
      guard unsafe own.big32(offset) == other.big32(offset) else { return false }
      offset &+= 4
    }
    return true
  }

  /// Verifies the checksums of the frame that opened the flow, once.
  @inline(__always)
  mutating func verifyFirst() -> Bool {
    if unsafe !isVerified {
      unsafe isVerified = Segment.isIntact(
        frame,
        count: byteCount,
        isIPv6: isIPv6,
        isPartial: isPartial
      )
    }
    return unsafe isVerified
  }

  @inline(__always)
  mutating func append(_ other: UnsafeRawPointer, _ segment: Segment) {
    // The two may overlap; `copyMemory` minds that.
    unsafe (frame + byteCount).copyMemory(
      from: other + segment.headerLength,
      byteCount: segment.payloadCount
    )
    unsafe byteCount &+= segment.payloadCount
    unsafe nextSequence &+= UInt32(truncatingIfNeeded: segment.payloadCount)
    unsafe segmentCount &+= 1
    unsafe isPush = segment.isPush
  }

  /// Makes one set of headers out of those of the first frame.
  func finish() -> CoalescedFrame {
    let start = unsafe transportOffset
    let packetCount = unsafe byteCount &- Segment.networkOffset
    if unsafe isIPv6 {
      unsafe frame.setBig16(18, UInt16(truncatingIfNeeded: packetCount &- IPv6Header.byteCount))
    } else {
      unsafe frame.setBig16(16, UInt16(truncatingIfNeeded: packetCount))
      unsafe frame.setBig16(24, 0)
      unsafe frame.setBig16(24, Segment.networkSum(frame).checksum)
    }
    if unsafe isPush {
      unsafe frame.setOctet(start &+ 13, frame.octet(start &+ 13) | TCPHeader.Flags.psh.rawValue)
    }
    let seed = unsafe Segment.pseudoHeaderSum(frame, count: byteCount, isIPv6: isIPv6).folded
    let checksumOffset = Superframe.checksumOffset(isUDP: false)
    unsafe frame.setBig16(start &+ Int(checksumOffset), seed)
    let offload = unsafe Offload(
      flags: .needsChecksum,
      segmentation: isIPv6 ? .tcp6 : .tcp4,
      headerLength: UInt16(truncatingIfNeeded: headerLength),
      segmentSize: UInt16(truncatingIfNeeded: segmentSize),
      checksumStart: UInt16(truncatingIfNeeded: start),
      checksumOffset: checksumOffset
    )
    return unsafe CoalescedFrame(transmission: transmission, offload: offload)
  }
}
