/// What became of a frame that was offered to `GRO`.
package enum GROResult: Equatable, Sendable {
  /// The payload belongs to an open superframe now, and stays where it lies until the frames are
  /// sent.
  case merged
  /// The frame is to be emitted as it is; `mayOpen` tells whether `open` is to be called then.
  case separate(mayOpen: Bool)
}

/// A superframe that is complete: what is to be done to the transmission that it was emitted as.
package struct GROFrame: Equatable, BitwiseCopyable, Sendable {
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
/// This is generic receive offload (GRO) for frames that leave by a device: one superframe costs
/// the device, and the host behind it, little more than one segment does. Cutting it again yields
/// the very frames that were joined, but for padding. So a segment joins only what it continues
/// without a gap, with headers that are equal in all that a segment of a superframe takes over: MAC
/// header, IP header but for length, identification and checksum, TCP header but for sequence,
/// checksum and PSH. The IPv4 identification is kept where it means something, that is where the
/// packet may be fragmented. All segments but the last are of one size; PSH ends a superframe.
/// Checksums are verified, or are on both sides partial as the kernel handed them over.
///
/// Nothing is copied: a superframe is the first frame, whose headers are rewritten at the end, and
/// the payloads of the others where they were received.
@safe
package struct GRO: ~Copyable {
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

  private var flows = unsafe FixedArray<GROFlow>(reserving: GRO.openLimit)
  /// A bit for each place that has an open flow.
  private var open: UInt64 = 0
  /// The flow that absorbed or was opened last: the next frame is likely to be of it.
  private var latest = 0
  /// What `absorb` found out of the frame that it said may open a flow.
  private var candidate = Segment.none
  private var finished = FixedArray<GROFrame>(reserving: GRO.superframeLimit)
  private var finishedCount = 0
  private var pieces = unsafe FixedArray<Piece>(reserving: GRO.pieceLimit)
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
  ///   - layout: Its layout.
  ///   - offload: What is still to be done to it.
  ///   - port: The device that it leaves by, untagged.
  ///   - capabilities: What that device takes.
  /// - Returns: What to do with the frame. If it was merged, its payload stays where it is until
  ///   the superframe is sent.
  @inline(__always)
  package mutating func absorb(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    _ layout: FrameLayout,
    offload: Offload,
    port: PortID,
    capabilities: OffloadCapabilities
  ) -> GROResult {
    if open & (1 << UInt64(latest)) != 0, unsafe flows[latest].port == port,
      let segment = unsafe flows[latest].continuation(frame, count: count, offload: offload)
    {
      return unsafe merge(frame, segment, latest)
    }
    return unsafe absorbOther(
      frame, count: count, layout, offload: offload, port: port, capabilities: capabilities)
  }

  /// Lets a frame's payload follow an open superframe that is not the latest.
  private mutating func absorbOther(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    _ layout: FrameLayout,
    offload: Offload,
    port: PortID,
    capabilities: OffloadCapabilities
  ) -> GROResult {
    candidate = .none
    guard let segment = unsafe Segment(UnsafeRawPointer(frame).span(count), layout, offload) else {
      // Neither plain TCP nor plain UDP, but perhaps a frame of an open flow in another shape: a
      // fragment, or with IP options.
      if hasOpenFlows { unsafe pass(frame, layout, port: port) }
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
  ) -> GROResult {
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
    unsafe flows[place] = GROFlow(frame, candidate, port: port, transmission: transmission)
    open |= 1 << UInt64(place)
    latest = place
  }

  /// Closes all flows, and hands out one superframe that has absorbed something, its headers
  /// rewritten.
  ///
  /// `nil` when none is left. To be called until then before the frames are sent, and before new
  /// ones are absorbed.
  package mutating func finishNext() -> GROFrame? {
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
  @unsafe package func forEachPayload(of frame: GROFrame, _ body: (Vector) -> Void) {
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

  /// Tells of a frame that leaves by itself: what is open between its two addresses is closed, for
  /// later frames must not overtake it.
  package mutating func pass(_ frame: UnsafeRawPointer, _ layout: FrameLayout, port: PortID) {
    guard layout.isIP,
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
