/// A frame on its way: where it lies, where it came from, and what is still to be done to it.
///
/// Its memory is the burst's. Whoever makes one vouches for an Ethernet header's length at least,
/// and for the headroom in front of it; from then on nothing but `start` hands the address out.
@safe
struct Frame {
  /// Bytes in front of a frame that are the datapath's to write to.
  static let headroom = 64

  private var memory: UnsafeMutableRawPointer
  /// Its bytes, an Ethernet header at least.
  private(set) var count: Int
  var offload: Offload
  /// The tag, which lies beside the frame from admission on.
  var tag: VLANTag
  var vlan = VLANID.untagged
  /// The port that it came in by; for an answer, that of the frame which is answered.
  let ingress: PortID
  /// The VTEP it came from; none for a frame from a device.
  let peer: RemoteVTEPID
  /// Whose frames it is among: see `EgressRules.swift`.
  let group: SplitHorizonGroup
  /// Whether it goes to a whole segment, and so more than once.
  var isFlooded = false
  /// Whether the switch itself has made it, and it is to leave by its ingress.
  let isAnswer: Bool
  /// Whether the type behind the addresses is that of a tag.
  ///
  /// From admission on, that is a second one.
  private(set) var hasTagInside: Bool
  /// What `layout` has found.
  private var knownLayout = FrameLayout.unread

  /// A frame that came in by a port.
  ///
  /// - Parameters:
  ///   - start: The Ethernet header, with `headroom` in front of it.
  ///   - count: Bytes from there on, an Ethernet header's at least.
  ///   - offload: What is still to be done to it.
  ///   - tag: A VLAN tag that was taken out of it.
  ///   - origin: The port, and for a tunnel the remote VTEP.
  ///   - group: The port's.
  @unsafe init(
    _ start: UnsafeMutableRawPointer, count: Int, offload: Offload, tag: VLANTag = .none,
    from origin: Destination, group: SplitHorizonGroup
  ) {
    assert(count >= EthernetHeader.byteCount)
    unsafe memory = unsafe start
    self.count = count
    self.offload = offload
    self.tag = tag
    ingress = origin.port
    peer = origin.peer
    self.group = group
    isAnswer = false
    hasTagInside = unsafe EtherType(rawValue: start.big16(EthernetHeader.addressByteCount)).isVLAN
  }

  /// A frame of the switch's own that answers another one, in its segment and with its tag.
  @unsafe init(
    answering frame: borrowing Frame, with start: UnsafeMutableRawPointer, count: Int
  ) {
    assert(count >= EthernetHeader.byteCount)
    unsafe memory = unsafe start
    self.count = count
    offload = .none
    tag = frame.tag
    vlan = frame.vlan
    ingress = frame.ingress
    peer = .none
    group = .none
    isAnswer = true
    hasTagInside = unsafe EtherType(rawValue: start.big16(EthernetHeader.addressByteCount)).isVLAN
  }

  var isFromTunnel: Bool { peer != .none }

  /// Where the frame came from, and where an answer to it goes.
  var origin: Destination { Destination(port: ingress, peer: peer) }

  // MARK: Bytes

  /// The Ethernet header's address, for what leaves the safe part: vectors, checksums and copies.
  @unsafe var start: UnsafeMutableRawPointer {
    @inline(__always) get { unsafe memory }
  }

  var bytes: RawSpan {
    @inline(__always) @_lifetime(borrow self) get {
      let span = unsafe RawSpan(_unsafeStart: memory, byteCount: count)
      return unsafe _overrideLifetime(span, borrowing: self)
    }
  }

  private var header: EthernetHeader {
    @inline(__always) @_lifetime(borrow self) get {
      // A length that the compiler knows costs no check.
      let span = unsafe RawSpan(_unsafeStart: memory, byteCount: EthernetHeader.byteCount)
      return EthernetHeader(known: unsafe _overrideLifetime(span, borrowing: self))
    }
  }

  var destination: MACAddress {
    @inline(__always) get { header.destination }
  }

  var source: MACAddress {
    @inline(__always) get { header.source }
  }

  /// What is behind the addresses.
  var etherType: EtherType {
    @inline(__always) get { header.etherType }
  }

  /// Where its headers are: looked for once, when somebody wants to know.
  var layout: FrameLayout {
    @inline(__always) mutating get {
      if knownLayout.isUnread { knownLayout = FrameLayout(bytes) }
      return knownLayout
    }
  }

  /// Addresses the frame to another station.
  mutating func redirect(to station: MACAddress) {
    unsafe EthernetHeader.setDestination(station, of: memory)
  }

  // MARK: Tags

  /// That tag; `nil` where there is none, or the frame ends within it.
  var tagInside: VLANTag? {
    @inline(__always) get { VLANTag(behindAddressesOf: bytes) }
  }

  /// Takes out the tag behind the addresses: moves them up over it, and what counts from the
  /// frame's start along.
  ///
  /// - Returns: Why the frame is to be dropped, if so.
  mutating func takeOutTag() -> DropReason? {
    guard let found = tagInside else { return .truncated }
    if offload.needsChecksum {
      guard Int(offload.checksumStart) >= EthernetHeader.byteCount + VLANHeader.byteCount
      else { return .malformedOffload }
      offload.checksumStart -= UInt16(VLANHeader.byteCount)
    }
    offload.headerLength -= min(offload.headerLength, UInt16(VLANHeader.byteCount))
    tag = found
    unsafe (memory + VLANHeader.byteCount).copyMemory(
      from: memory, byteCount: EthernetHeader.addressByteCount)
    unsafe memory += VLANHeader.byteCount
    count -= VLANHeader.byteCount
    hasTagInside = etherType.isVLAN
    knownLayout = .unread
    return nil
  }

  /// Puts the tag that was taken out back into the frame, which grows into the headroom.
  mutating func putBackTag() {
    unsafe tag.write(behindAddressesOf: memory, to: memory - VLANHeader.byteCount)
    unsafe memory -= VLANHeader.byteCount
    count += VLANHeader.byteCount
    if offload.needsChecksum { offload.checksumStart &+= UInt16(VLANHeader.byteCount) }
    if offload.isSuperframe { offload.headerLength &+= UInt16(VLANHeader.byteCount) }
    tag = .none
    hasTagInside = etherType.isVLAN
    knownLayout = .unread
  }

  /// What the egress rules go by.
  var egressClass: EgressClass {
    @inline(__always) get {
      EgressClass(
        ingress: isAnswer ? .none : ingress, vlan: vlan, tag: tag, group: group,
        hasTagInside: hasTagInside, vlanInside: hasTagInside ? tagInside?.vlan : nil)
    }
  }

  /// The same where the frame is flooded.
  var floodClass: EgressClass {
    @inline(__always) get {
      var frameClass = egressClass
      frameClass.isUnknownUnicast = !destination.isGroup
      return frameClass
    }
  }

  // MARK: Checksum

  /// Fills in the checksum that is asked for; `false` where the request contradicts the frame.
  mutating func completeChecksum() -> Bool {
    let layout = layout
    guard unsafe OVXDatapath.completeChecksum(memory, count: count, offload: offload, layout) else {
      return false
    }
    // Its sender chooses where the sum goes: that may be in the headers that were looked at.
    let place = Int(offload.checksumStart) &+ Int(offload.checksumOffset)
    if !layout.isIP || place < layout.transportOffset { knownLayout = .unread }
    offload = .none
    return true
  }
}
