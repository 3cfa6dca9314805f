/// A piece of memory to send: the layout of `struct iovec`.
@unsafe
package struct Vector: BitwiseCopyable {
  package var base: UnsafeRawPointer?
  package var count: Int

  package init(base: UnsafeRawPointer?, count: Int) {
    unsafe self.base = unsafe base
    unsafe self.count = count
  }
}

/// One thing to hand to the kernel: a frame for a device, or a train of datagrams or a whole
/// superframe for a remote VTEP.
///
/// A frame's first vector is its 10-byte virtio-net header, `offload` below.
/// A train is sent with `UDP_SEGMENT` where `segmentSize` is not 0, else as one datagram.
/// What is injected has all its outer headers: its first vector is an `InjectionHeader`.
package struct Transmission: BitwiseCopyable {
  package enum Kind: UInt8, BitwiseCopyable {
    case frame
    case datagrams
    case injected
  }

  /// For a frame: its virtio-net header, which is sent from where it lies; so it comes first.
  package var offload = Offload.none
  package var kind: Kind
  /// The port to charge with a failure, and for a frame the port to send it to.
  package var port: PortID
  /// For datagrams: the socket to send with.
  package var path = UnderlaySocketID(rawValue: 0)
  /// For datagrams and what is injected: what their outer header has in place of the socket's own.
  package var outer = OuterHeader.plain
  /// For a superframe that is injected: what to write it to.
  package var injector = InjectorID(rawValue: 0)
  package var firstVector: UInt32 = 0
  package var vectorCount: UInt32 = 0
  /// For datagrams: bytes of each but the last, 0 for a single one.
  package var segmentSize: UInt16 = 0
  /// How many frames it carries, to count a failure in.
  package var frameCount: UInt16 = 1
  /// Bytes in all vectors together, a virtio-net header not counted.
  package var byteCount: UInt32

  /// Bytes of a train: the longest UDP payload that travels as one `UDP_SEGMENT` send over both
  /// IPv4 and IPv6, as the kernel counts outer headers and a MAC header against 65,536 bytes.
  package static let trainByteLimit = 65_473
  /// Frames of a train: `UDP_MAX_SEGMENTS` of <linux/udp.h> before Linux 6.9, which takes 128.
  package static let trainFrameLimit = 64
}

/// What a burst leaves to be sent, until it is flushed.
///
/// Nothing is copied into it but headers: the vectors point at the frames where they were received.
/// Headers that differ between the egresses of one frame (a VLAN tag, a VXLAN header, a virtio
/// header) are vectors of their own, so that a flooded frame is never changed for one egress while
/// another one still refers to it.
@safe
struct Egress: ~Copyable {
  /// Transmissions at most between two flushes: 64 reads of a step with some flooding.
  static let transmissionLimit = 512
  /// Up to three vectors each: virtio or VXLAN header, tagged Ethernet header, the rest; for each
  /// that is extended two anew, and the payloads.
  static let vectorLimit = transmissionLimit * 5 + GRO.pieceLimit
  /// Bytes for cut superframes: seven full ones, few enough to stay in the second-level cache.
  static let scratchLimit = 7 * 72 * 1024
  /// Segments that one superframe is cut into at most: 64 KB at TCP's smallest segment, 48 bytes.
  ///
  /// A tenant can ask for single bytes, and would have the switch send thousands of frames for one.
  static let segmentLimit = 1_400

  private(set) var count = 0
  /// What all that was added so far costs, by `Work`.
  private(set) var work: Int64 = 0
  private var vectorCount = 0
  private var scratchUsed = 0
  private var transmissions = FixedArray<Transmission>(reserving: Egress.transmissionLimit)
  private var vectors = unsafe FixedArray<Vector>(reserving: Egress.vectorLimit)
  private var scratch = FixedArray<UInt8>(reserving: Egress.scratchLimit)
  /// An Ethernet header with a tag for each transmission.
  private var taggedHeaders = FixedArray<(UInt64, UInt64)>(reserving: Egress.transmissionLimit)
  private var openTrains = FixedArray(repeating: OpenTrain.none, count: Egress.openTrainLimit)
  private let handOver: Datapath.Flush

  init(handOver: @escaping Datapath.Flush) {
    unsafe self.handOver = handOver
  }

  var isFull: Bool { count == Egress.transmissionLimit }

  /// Hands over what has gathered and starts anew.
  mutating func flush() {
    guard count > 0 else {
      scratchUsed = 0
      return
    }
    unsafe handOver(
      UnsafeBufferPointer(start: transmissions.address(of: 0), count: count),
      vectors.address(of: 0)
    )
    count = 0
    vectorCount = 0
    scratchUsed = 0
    for index in 0..<Egress.openTrainLimit { openTrains[index] = .none }
  }

  // MARK: Memory for cut superframes

  func hasScratch(_ byteCount: Int) -> Bool { byteCount <= Egress.scratchLimit - scratchUsed }

  /// The start of the free scratch memory.
  @unsafe func scratchStart() -> UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(scratch.address(of: 0)) + scratchUsed
  }

  mutating func useScratch(_ byteCount: Int) { scratchUsed += byteCount }

  // MARK: Adding

  /// Adds a frame for a device; the caller has seen to it that there is room.
  ///
  /// Returns its number, by which it can still be changed until the next flush.
  @unsafe @discardableResult
  mutating func addFrame(
    _ frame: UnsafeRawPointer,
    count frameLength: Int,
    offload: Offload,
    tag: VLANTag,
    to port: PortID
  ) -> Int {
    let number = begin(
      Transmission(
        offload: offload, kind: .frame, port: port,
        byteCount: UInt32(truncatingIfNeeded: frameLength)))
    work &+= Work.frame &+ Int64(frameLength >> 10) &* Work.kilobyte
    unsafe append(
      UnsafeRawPointer(transmissions.address(of: number)),
      Offload.byteCount
    )
    unsafe appendFrame(frame, count: frameLength, tag: tag, number: number)
    finish(number)
    return number
  }

  /// Adds a frame as one datagram, or to the train that its path has open.
  ///
  /// The VXLAN header lies in memory that stays as it is until the flush. A frame that claims more
  /// than it has (`Frame.holdsItsLengths`) may not join, and travels alone: a receiver might take
  /// what follows for a part of it.
  @unsafe mutating func addDatagram(
    header: UnsafeRawPointer,
    frame: UnsafeRawPointer,
    count frameLength: Int,
    tag: VLANTag,
    port: PortID,
    path: UnderlaySocketID,
    outer: OuterHeader,
    mayJoin: Bool
  ) {
    let size =
      VXLANHeader.byteCount &+ frameLength &+ (tag.isPresent ? VLANHeader.byteCount : 0)
    let place = Self.openTrain(of: path)
    if mayJoin && openTrains[place].path == path.rawValue && openTrains[place].port == port
      && openTrains[place].outer == outer
    {
      let joined = unsafe join(
        place,
        header: header,
        frame: frame,
        count: frameLength,
        tag: tag,
        size: size
      )
      if joined { return }
    }
    let number = begin(
      Transmission(
        kind: .datagrams, port: port, path: path, outer: outer,
        byteCount: UInt32(truncatingIfNeeded: frameLength &+ VXLANHeader.byteCount)))
    work &+= Work.datagrams &+ Int64(frameLength >> 10) &* Work.kilobyteOfDatagrams
    unsafe append(header, VXLANHeader.byteCount)
    unsafe appendFrame(frame, count: frameLength, tag: tag, number: number)
    finish(number)
    guard mayJoin else {
      openTrains[place] = .none
      return
    }
    openTrains[place] = OpenTrain(
      path: path.rawValue,
      port: port,
      transmission: UInt16(truncatingIfNeeded: number),
      size: UInt16(clamping: size),
      outer: outer
    )
  }

  // MARK: Trains of small frames

  /// The latest transmission of a path, while more frames of a burst may still join it.
  ///
  /// A send costs microseconds and a further datagram in it tens of nanoseconds, so frames of a
  /// burst for one path leave together. The first is sent from where it lies; when a second one
  /// comes, both are copied to a train.
  struct OpenTrain: BitwiseCopyable {
    var path = UInt32.max
    var port = PortID.none
    var transmission: UInt16 = 0
    /// Bytes of each datagram.
    var size: UInt16 = 0
    /// One for all: the kernel takes one per send.
    var outer = OuterHeader.plain

    static let none = OpenTrain()
  }

  /// Paths that may have a train open at a time; a power of two.
  private static let openTrainLimit = 64
  /// Zeros that a frame may be followed by to be as long as the others of its train.
  ///
  /// Receivers go by the length in the IP header; behind it, Ethernet padding is legal.
  private static let paddingLimit = 64

  /// Adds a frame to the train that its path has open.
  ///
  /// `false` where it does not fit in.
  @unsafe private mutating func join(
    _ place: Int,
    header: UnsafeRawPointer,
    frame: UnsafeRawPointer,
    count frameLength: Int,
    tag: VLANTag,
    size: Int
  ) -> Bool {
    let fullSize = Int(openTrains[place].size)
    let number = Int(openTrains[place].transmission)
    var train = transmissions[number]
    guard size <= fullSize, Int(train.frameCount) < Transmission.trainFrameLimit,
      Int(train.byteCount) &+ fullSize <= Transmission.trainByteLimit
    else { return false }
    let first = Int(train.firstVector)
    if train.vectorCount > 1 {
      let room =
        min(Transmission.trainFrameLimit, Transmission.trainByteLimit / fullSize) &* fullSize
      guard hasScratch(room) else { return false }
      unsafe gather(first, Int(train.vectorCount))
      useScratch(room)
      train.vectorCount = 1
      train.segmentSize = UInt16(truncatingIfNeeded: fullSize)
    }
    guard let base = unsafe vectors[first].base else { return false }
    let used = unsafe vectors[first].count
    var end = unsafe UnsafeMutableRawPointer(mutating: base) + used
    unsafe end.copyMemory(from: header, byteCount: VXLANHeader.byteCount)
    unsafe end += VXLANHeader.byteCount
    let addresses = tag.isPresent ? EthernetHeader.addressByteCount : 0
    if tag.isPresent {
      unsafe tag.write(behindAddressesOf: frame, to: end)
      unsafe end += VLANTag.addressedByteCount
    }
    unsafe end.copyMemory(from: frame + addresses, byteCount: frameLength &- addresses)
    var written = size
    let missing = fullSize &- size
    if missing > 0 && missing <= Egress.paddingLimit, unsafe Egress.mayBePadded(frame) {
      unsafe (end + (frameLength &- addresses)).initializeMemory(
        as: UInt8.self,
        repeating: 0,
        count: missing
      )
      written = fullSize
    }
    unsafe vectors[first].count = used &+ written
    train.byteCount &+= UInt32(truncatingIfNeeded: written)
    train.frameCount &+= 1
    transmissions[number] = train
    work &+= Work.joined &+ Int64(written >> 10) &* Work.kilobyteOfDatagrams
    // A shorter datagram is the last of its train.
    if written < fullSize { openTrains[place] = .none }
    return true
  }

  /// Copies the vectors of a transmission to where the scratch memory is free, and points the first
  /// of them there.
  @unsafe private mutating func gather(_ first: Int, _ vectorCount: Int) {
    let start = unsafe scratchStart()
    var length = 0
    for index in first..<(first + vectorCount) {
      let vector = unsafe vectors[index]
      guard let base = unsafe vector.base else { continue }
      unsafe (start + length).copyMemory(from: base, byteCount: vector.count)
      unsafe length &+= vector.count
    }
    unsafe vectors[first] = Vector(base: start, count: length)
  }

  /// Whether receivers find the end of the frame by themselves.
  @unsafe private static func mayBePadded(_ frame: UnsafeRawPointer) -> Bool {
    let type = unsafe EthernetHeader(known: frame.span(EthernetHeader.byteCount)).etherType
    return type == .ipv4 || type == .ipv6 || type == .arp
  }

  /// Adds datagrams that lie one behind the other, all but the last of one size.
  @unsafe mutating func addTrain(
    _ train: UnsafeRawPointer,
    count trainLength: Int,
    segmentSize: Int,
    frameCount: Int,
    port: PortID,
    path: UnderlaySocketID,
    outer: OuterHeader
  ) {
    let number = begin(
      Transmission(
        kind: .datagrams, port: port, path: path, outer: outer,
        segmentSize: frameCount > 1 ? UInt16(clamping: segmentSize) : 0,
        frameCount: UInt16(clamping: frameCount),
        byteCount: UInt32(truncatingIfNeeded: trainLength)))
    work &+= Work.datagrams &+ Int64(trainLength >> 10) &* Work.kilobyteOfDatagrams
    unsafe append(train, trainLength)
    finish(number)
    closeTrain(of: path)
  }

  /// Adds a superframe that leaves with all its outer headers.
  @unsafe mutating func addInjected(
    _ header: UnsafeRawPointer,
    frame: UnsafeRawPointer,
    count frameLength: Int,
    frameCount: Int,
    port: PortID,
    path: UnderlaySocketID,
    outer: OuterHeader,
    injector: InjectorID
  ) {
    let number = begin(
      Transmission(
        kind: .injected, port: port, path: path, outer: outer, injector: injector,
        frameCount: UInt16(clamping: frameCount),
        byteCount: UInt32(truncatingIfNeeded: InjectionHeader.byteCount &+ frameLength)))
    work &+= Work.datagrams &+ Int64(frameLength >> 10) &* Work.kilobyteOfDatagrams
    unsafe append(header, InjectionHeader.byteCount)
    unsafe append(frame, frameLength)
    finish(number)
    closeTrain(of: path)
  }

  /// Where the train is that a path has open, if it has one.
  @inline(__always)
  private static func openTrain(of path: UnderlaySocketID) -> Int {
    Int(truncatingIfNeeded: path.rawValue) & (openTrainLimit - 1)
  }

  /// Lets no later frame of a path join a train that leaves before what was just added.
  private mutating func closeTrain(of path: UnderlaySocketID) {
    openTrains[Self.openTrain(of: path)] = .none
  }

  /// Lets the payloads that were joined to a frame follow it; to be called right before the flush.
  mutating func extend(_ frame: GROFrame, by gro: borrowing GRO) {
    let number = frame.transmission
    let first = vectorCount
    let old = Int(transmissions[number].firstVector)
    transmissions[number].firstVector = UInt32(truncatingIfNeeded: first)
    unsafe vectors[first] = unsafe vectors[old]
    unsafe vectors[first + 1] = unsafe Vector(base: vectors[old + 1].base, count: frame.headCount)
    var count = first + 2
    unsafe gro.forEachPayload(of: frame) { payload in
      unsafe vectors[count] = unsafe payload
      count &+= 1
    }
    vectorCount = count
    transmissions[number].offload = frame.offload
    transmissions[number].byteCount = UInt32(truncatingIfNeeded: frame.byteCount)
    transmissions[number].frameCount = UInt16(truncatingIfNeeded: frame.frameCount)
    finish(number)
  }

  /// Adds a transmission, whose vectors are appended next, and gives back its number.
  @inline(__always)
  private mutating func begin(_ transmission: Transmission) -> Int {
    let number = count
    transmissions[number] = transmission
    transmissions[number].firstVector = UInt32(truncatingIfNeeded: vectorCount)
    count = number + 1
    return number
  }

  /// Gives a transmission the vectors that were appended since it was begun.
  @inline(__always)
  private mutating func finish(_ number: Int) {
    transmissions[number].vectorCount =
      UInt32(truncatingIfNeeded: vectorCount) &- transmissions[number].firstVector
  }

  @unsafe private mutating func append(_ base: UnsafeRawPointer, _ byteCount: Int) {
    unsafe vectors[vectorCount] = Vector(base: base, count: byteCount)
    vectorCount &+= 1
  }

  @unsafe private mutating func appendFrame(
    _ frame: UnsafeRawPointer,
    count frameLength: Int,
    tag: VLANTag,
    number: Int
  ) {
    guard tag.isPresent else {
      unsafe append(frame, frameLength)
      return
    }
    let header = unsafe UnsafeMutableRawPointer(taggedHeaders.address(of: number))
    unsafe tag.write(behindAddressesOf: frame, to: header)
    unsafe append(header, VLANTag.addressedByteCount)
    unsafe append(
      frame + EthernetHeader.addressByteCount, frameLength &- EthernetHeader.addressByteCount)
    transmissions[number].byteCount &+= UInt32(VLANHeader.byteCount)
  }
}
