// The last step of the frame path: a frame leaves by one port, as that port can take it. Whole, cut,
// tagged, or in VXLAN; nothing is done to a frame before it is known that its egress needs it.

extension Datapath {
  /// The one place that decides how a frame leaves.
  ///
  /// Every egress rule is here.
  @unsafe mutating func deliver(
    _ frame: inout Frame, to destination: Destination, isShared: Bool = false
  ) {
    let id = destination.port
    let port = tables.ports[Int(id.rawValue)]
    guard unsafe tables.carries(frame.vlan, port: port) else {
      return counters.dropped(.vlanNotOnPort, frames: 1, at: id)
    }
    guard unsafe mayShowTagInside(frame, port: port) else {
      return counters.dropped(.nestedTag, frames: 1, at: id)
    }
    let tag = unsafe egressTag(frame, port: port)
    if egress.isFull { flush() }
    switch port.role {
    case .device:
      unsafe deliverToDevice(&frame, id: id, port: port, tag: tag, isShared: isShared)
    case .tunnel:
      if unsafe frame.isFromTunnel {
        return unsafe relay(&frame, to: destination, port: port, tag: tag, isShared: isShared)
      }
      // Putting a tag in front of a superframe moves its addresses for a while.
      if unsafe isShared && frame.offload.isSuperframe && tag.isPresent { flush() }
      unsafe deliverToPeer(&frame, id: id, port: port, peer: destination.peer, tag: tag)
    case .waiting, .absent:
      counters.dropped(.waitingPort, frames: 1, at: id)
    }
  }

  /// The tag that the frame carries on the port, with the priority it came with.
  @unsafe private mutating func egressTag(
    _ frame: borrowing Frame, port: ForwardingTables.Port
  ) -> VLANTag {
    let vlan = unsafe frame.vlan
    let tag = unsafe frame.tag
    let priority = tag.isPresent ? tag.control & 0xF000 : 0
    let isUntagged =
      switch port.vlanMode {
      case .access, .dot1qTunnel: true
      case .nativeUntagged: vlan == port.ownVLAN || vlan == .untagged
      case .trunk, .nativeTagged: vlan == .untagged
      }
    if !isUntagged {
      return VLANTag(
        control: priority | vlan.rawValue, protocolID: tag.isPresent ? tag.protocolID : 0x8100)
    }
    switch port.priorityTags {
    case .never: return .none
    case .ifNonzero where priority & 0xE000 == 0: return .none
    // What shows a customer's tag has its priority there.
    case .ifNonzero, .always:
      return unsafe frame.hasTagInside ? .none : VLANTag(control: priority & 0xE000)
    }
  }

  /// Whether the tags inside the frame may be seen on the port.
  @unsafe private mutating func mayShowTagInside(
    _ frame: borrowing Frame, port: ForwardingTables.Port
  ) -> Bool {
    let count = unsafe frame.count
    let isTagged = unsafe frame.hasTagInside
    let vlan = unsafe frame.vlan
    switch port.vlanMode {
    // Where the frame has no tag of its own, the one inside would pass for it: the frame would have
    // hopped from the untagged VLAN to any that its sender chose.
    case .trunk, .nativeTagged: return !isTagged || vlan != .untagged
    case .nativeUntagged: return !isTagged || (vlan != .untagged && vlan != port.ownVLAN)
    case .access: return !isTagged
    case .dot1qTunnel:
      guard isTagged, count >= EthernetHeader.byteCount + VLANHeader.byteCount else {
        return !isTagged && tables.isInSet(.untagged, of: port)
      }
      return unsafe tables.isInSet(VLANID(tagControl: frame.start.big16(14)), of: port)
    }
  }

  @unsafe private mutating func deliverToDevice(
    _ frame: inout Frame, id: PortID, port: ForwardingTables.Port, tag: VLANTag, isShared: Bool
  ) {
    let mtu = Int(port.mtu)
    let limit = unsafe Self.limit(of: frame, mtu: mtu, tag: tag)
    var offload = unsafe frame.offload
    if unsafe frame.isFromTunnel && !offload.isSuperframe {
      // Finding out about a superframe may change its checksum.
      if unsafe isShared && frame.count - EthernetHeader.byteCount > mtu { flush() }
      switch unsafe arrivalOffload(frame.start, count: frame.count, mtu: mtu) {
      case .accepted(let found): offload = found
      case .refused(let reason):
        return unsafe refuseArrival(frame, reason, at: Destination(port: id), limit: limit)
      }
    }
    let mayMerge =
      unsafe frame.isFromTunnel && !isShared && !tag.isPresent && !offload.isSuperframe
    if !mayMerge && gro.hasOpenFlows {
      unsafe gro.pass(frame.start, count: frame.count, port: id)
    }
    if offload.isSuperframe {
      return unsafe deliverSuperframe(frame, offload: offload, id: id, port: port, tag: tag)
    }
    guard unsafe frame.count <= limit else {
      return unsafe refuseOversize(
        frame, .exceedsDeviceMTU, at: Destination(port: id), limit: limit)
    }
    if offload.needsChecksum && !port.capabilities.contains(.checksum) {
      return unsafe deliverSummed(frame, offload: offload, id: id, tag: tag)
    }
    guard mayMerge else {
      unsafe emit(frame.start, count: frame.count, offload: offload, tag: tag, to: id)
      return
    }
    let result = unsafe gro.absorb(
      frame.start, count: frame.count, offload: offload, port: id,
      capabilities: Int(port.superframeLimit) < GRO.byteLimit ? [] : port.capabilities)
    if result == .merged {
      return unsafe counters.sent(byteCount: frame.count, frames: 1, to: id)
    }
    let number = unsafe emit(frame.start, count: frame.count, offload: offload, tag: tag, to: id)
    if result == .separate(mayOpen: true) {
      unsafe gro.open(frame.start, port: id, transmission: number)
    }
  }

  /// The bytes that a frame may have for a device, without the tag that it gets there.
  ///
  /// Linux gives an Ethernet device room for its MTU behind one tag: the one that the frame gets, or else one inside.
  @unsafe private static func limit(of frame: borrowing Frame, mtu: Int, tag: VLANTag) -> Int {
    let tagLength = unsafe frame.hasTagInside && !tag.isPresent ? VLANHeader.byteCount : 0
    return mtu + EthernetHeader.byteCount + tagLength
  }

  /// Sends a copy of the frame with its checksum filled in: other egresses may refer to the frame
  /// as it is.
  @unsafe private mutating func deliverSummed(
    _ frame: borrowing Frame, offload: Offload, id: PortID, tag: VLANTag
  ) {
    let count = unsafe frame.count
    if !egress.hasScratch(count) { flush() }
    let copy = unsafe egress.scratchStart()
    unsafe copy.copyMemory(from: frame.start, byteCount: count)
    guard unsafe completeChecksum(copy, count: count, offload: offload) else {
      return unsafe counters.dropped(.malformedOffload, frames: 1, at: frame.ingress)
    }
    egress.useScratch(count)
    unsafe emit(copy, count: count, offload: .none, tag: tag, to: id)
  }

  /// Adds a frame for a device to what is to be sent.
  @unsafe @discardableResult
  private mutating func emit(
    _ start: UnsafeRawPointer, count: Int, offload: Offload, tag: VLANTag, to id: PortID
  ) -> Int {
    var offload = offload
    if tag.isPresent {
      offload.checksumStart &+= offload.needsChecksum ? UInt16(VLANHeader.byteCount) : 0
      offload.headerLength &+= offload.isSuperframe ? UInt16(VLANHeader.byteCount) : 0
    }
    counters.sent(byteCount: count, frames: 1, to: id)
    return unsafe egress.addFrame(start, count: count, offload: offload, tag: tag, to: id)
  }

  /// Whether a superframe is short enough for the device to take it whole.
  @unsafe private func isShortEnough(
    _ frame: borrowing Frame, port: ForwardingTables.Port, tag: VLANTag
  ) -> Bool {
    let hasTagInside = unsafe frame.hasTagInside
    let length = unsafe frame.count + (tag.isPresent ? VLANHeader.byteCount : 0)
    let isTagged = tag.isPresent || hasTagInside
    return length <= Int(isTagged ? port.taggedSuperframeLimit : port.superframeLimit)
  }

  /// Sends a superframe whole where the device takes it so and its segments fit; else cuts it.
  @unsafe private mutating func deliverSuperframe(
    _ frame: borrowing Frame, offload: Offload, id: PortID, port: ForwardingTables.Port,
    tag: VLANTag
  ) {
    guard let superframe = unsafe Superframe(frame.start, count: frame.count, offload: offload)
    else {
      return unsafe counters.dropped(
        Superframe.refusal(of: offload), frames: 1, at: frame.ingress)
    }
    let limit = unsafe Self.limit(of: frame, mtu: Int(port.mtu), tag: tag)
    let room = limit - superframe.headerLength
    guard let segmentSize = superframe.segmentSize(fitting: room) else {
      return unsafe refuseOversize(
        frame, .exceedsDeviceMTU, at: Destination(port: id), limit: limit)
    }
    let isShort = unsafe isShortEnough(frame, port: port, tag: tag)
    if isShort && !superframe.isInTunnel
      && port.capabilities.contains(superframe.neededCapability)
    {
      var whole = offload
      whole.segmentSize = UInt16(clamping: segmentSize)
      whole.headerLength = UInt16(clamping: superframe.headerLength)
      unsafe emit(frame.start, count: frame.count, offload: whole, tag: tag, to: id)
      return
    }
    let stride = superframe.headerLength + segmentSize
    var next = 0
    let count = superframe.segmentCount(segmentSize: segmentSize)
    guard count <= Egress.segmentLimit else {
      return unsafe counters.dropped(.tooManySegments, frames: 1, at: frame.ingress)
    }
    while next < count {
      if egress.isFull || !egress.hasScratch(stride) { flush() }
      let start = unsafe egress.scratchStart()
      let length = unsafe superframe.write(
        segments: next..<(next + 1), of: frame.start, segmentSize: segmentSize, to: start,
        prefix: start, prefixCount: 0)
      egress.useScratch(length)
      unsafe emit(start, count: length, offload: .none, tag: tag, to: id)
      next += 1
    }
  }

  /// Sends a frame in VXLAN to one remote VTEP.
  @unsafe mutating func deliverToPeer(
    _ frame: inout Frame, id: PortID, port: ForwardingTables.Port, peer number: RemoteVTEPID,
    tag: VLANTag
  ) {
    let peer = tables.peers[Int(number.rawValue)]
    let hash = unsafe flowHash(frame.start, count: frame.count)
    let choice = (UInt64(hash) &* UInt64(peer.pathCount)) >> 32
    let path = UnderlaySocketID(rawValue: peer.firstPath &+ UInt32(truncatingIfNeeded: choice))
    let outer = unsafe port.outerHeader.header(for: frame.start, count: frame.count)
    if unsafe frame.offload.isSuperframe {
      let isFitting = unsafe deliverSuperframe(
        frame, inside: id, peer: peer, path: path, outer: outer, tag: tag)
      guard isFitting else {
        return unsafe refuseOversize(
          frame, .exceedsTunnelMTU, at: Destination(port: id, peer: number),
          limit: Self.limit(of: peer, tag: tag))
      }
      return
    }
    guard unsafe frame.count <= Self.limit(of: peer, tag: tag) else {
      return unsafe refuseOversize(
        frame, .exceedsTunnelMTU, at: Destination(port: id, peer: number),
        limit: Self.limit(of: peer, tag: tag))
    }
    if unsafe frame.offload.needsChecksum {
      guard unsafe completeChecksum(frame.start, count: frame.count, offload: frame.offload)
      else {
        return unsafe counters.dropped(.malformedOffload, frames: 1, at: frame.ingress)
      }
      unsafe frame.offload = .none
    }
    unsafe counters.sent(byteCount: frame.count, frames: 1, to: id)
    unsafe egress.addDatagram(
      header: tables.vxlanHeader(of: id), frame: frame.start, count: frame.count, tag: tag,
      port: id, path: path, outer: outer)
  }

  /// The bytes that a frame may have for a remote VTEP, without the tag that it gets there.
  static func limit(of peer: ForwardingTables.Peer, tag: VLANTag) -> Int {
    Int(peer.mtu) + EthernetHeader.byteCount - (tag.isPresent ? VLANHeader.byteCount : 0)
  }

  /// Cuts a superframe into trains of ready-made VXLAN datagrams, unless it can leave whole.
  ///
  /// `false` where its segments are too large and cannot be made smaller: nothing was done then.
  @unsafe private mutating func deliverSuperframe(
    _ frame: borrowing Frame, inside id: PortID, peer: ForwardingTables.Peer,
    path: UnderlaySocketID,
    outer: OuterHeader, tag: VLANTag
  ) -> Bool {
    var start = unsafe frame.start
    var count = unsafe frame.count
    var offload = unsafe frame.offload
    if tag.isPresent {
      // The tag goes into the headroom for as long as it takes to copy the segments out.
      unsafe tag.write(behindAddressesOf: start, to: start - VLANHeader.byteCount)
      unsafe start -= VLANHeader.byteCount
      count += VLANHeader.byteCount
      offload.checksumStart &+= UInt16(VLANHeader.byteCount)
    }
    let isFitting = unsafe writeTrains(
      start, count: count, offload: offload, ingress: frame.ingress, id: id, peer: peer,
      path: path, outer: outer)
    if tag.isPresent {
      unsafe (start + VLANHeader.byteCount).copyMemory(from: start, byteCount: 12)
    }
    return isFitting
  }

  @unsafe private mutating func writeTrains(
    _ start: UnsafeMutableRawPointer, count: Int, offload: Offload, ingress: PortID, id: PortID,
    peer: ForwardingTables.Peer, path: UnderlaySocketID, outer: OuterHeader
  ) -> Bool {
    guard let superframe = unsafe Superframe(start, count: count, offload: offload) else {
      counters.dropped(Superframe.refusal(of: offload), frames: 1, at: ingress)
      return true
    }
    let room = Int(peer.mtu) + EthernetHeader.byteCount - superframe.headerLength
    guard let segmentSize = superframe.segmentSize(fitting: room) else { return false }
    let stride = VXLANHeader.byteCount + superframe.headerLength + segmentSize
    let perTrain = max(1, min(Transmission.trainFrameLimit, Transmission.trainByteLimit / stride))
    let segmentCount = superframe.segmentCount(segmentSize: segmentSize)
    guard segmentCount <= Egress.segmentLimit else {
      counters.dropped(.tooManySegments, frames: 1, at: ingress)
      return true
    }
    let isInjected = unsafe inject(
      superframe, start, count: count, offload: offload, segmentSize: segmentSize, id: id,
      peer: peer, path: path, outer: outer)
    if isInjected { return true }
    var next = 0
    while next < segmentCount {
      let end = min(next + perTrain, segmentCount)
      if egress.isFull || !egress.hasScratch(stride * (end - next)) { flush() }
      let train = unsafe egress.scratchStart()
      let length = unsafe superframe.write(
        segments: next..<end, of: start, segmentSize: segmentSize, to: train,
        prefix: tables.vxlanHeader(of: id), prefixCount: VXLANHeader.byteCount)
      egress.useScratch(length)
      counters.sent(
        byteCount: length - (end - next) * VXLANHeader.byteCount, frames: end - next, to: id)
      unsafe egress.addTrain(
        train, count: length, segmentSize: stride, frameCount: end - next, port: id, path: path,
        outer: outer)
      next = end
    }
    return true
  }
}

extension Superframe {
  fileprivate var neededCapability: OffloadCapabilities {
    isUDP ? .udp : isIPv6 ? .tcp6 : .tcp4
  }
}

extension ForwardingTables {
  /// The VXLAN header of a tunnel port, in memory that stays until the next change of topology.
  @unsafe func vxlanHeader(of port: PortID) -> UnsafeRawPointer {
    unsafe UnsafeRawPointer(ports.address(of: Int(port.rawValue)))
      + (MemoryLayout<Port>.offset(of: \.vxlanHeader) ?? 0)
  }
}
