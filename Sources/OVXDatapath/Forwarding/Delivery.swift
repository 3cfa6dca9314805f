// The last step of the frame path: a frame leaves by one port or several, each time as that port
// can take it. Whole, cut, tagged, or in VXLAN; nothing is done to a frame before it is known that
// its egress needs it.

extension Datapath {
  /// Carries out what was decided.
  @inline(always) mutating func deliver(_ frame: inout Frame, by decision: Decision) {
    switch decision {
    case .unicast(let destination, let verdict): deliver(&frame, to: destination, verdict)
    case .flood: flood(&frame)
    case .answer(let verdict): deliver(&frame, to: Destination(port: frame.ingress), verdict)
    case .drop(let reason):
      if reason == .stormLimit { refusedFloods &+= 1 }
      counters.dropped(reason, frames: 1, at: frame.ingress)
    }
  }

  /// Delivers to one port, unless that refuses the frame.
  @inline(always)
  mutating func deliver(
    _ frame: inout Frame, to destination: Destination, _ verdict: EgressVerdict
  ) {
    switch verdict {
    case .leave(let tag): deliver(&frame, to: destination, tag: tag)
    case .refuse(let refusal):
      counters.dropped(refusal.dropReason, frames: 1, at: destination.port)
    }
  }

  /// Delivers to every port of the segment that does not refuse the frame.
  private mutating func flood(_ frame: inout Frame) {
    // One frame is about to be referred to by many: what changes its bytes happens before.
    if frame.offload.needsChecksum && !frame.offload.isSuperframe && !frame.completeChecksum() {
      return counters.dropped(.malformedOffload, frames: 1, at: frame.ingress)
    }
    frame.isFlooded = true
    let bridge = tables.ports[frame.ingress].bridge
    let members = tables.flooding(vlan: frame.vlan, bridge: bridge)
    let frameClass = frame.floodClass
    var copies = 0
    var mayRelay: Bool?
    for member in Int(members.first)..<Int(members.first &+ members.count) {
      let id = tables.floodMembers[member]
      let port = tables.ports[id]
      let verdict = egress(of: frameClass, by: id)
      if case .refuse(let refusal) = verdict, !refusal.isCountedInFlood { continue }
      if port.role == .tunnel, frame.isFromTunnel {
        let isAllowed = mayRelay ?? takeJoinFlood(of: bridge)
        mayRelay = isAllowed
        guard isAllowed else { continue }
      }
      let count = port.role == .device ? 1 : Int(port.floodPeerCount)
      copies &+= count
      switch verdict {
      case .refuse(let refusal): counters.dropped(refusal.dropReason, frames: count, at: id)
      case .leave(let tag):
        guard port.role == .tunnel else {
          deliver(&frame, to: Destination(port: id), tag: tag, isShared: true)
          continue
        }
        for peer in Int(port.firstPeer)..<Int(port.firstPeer &+ port.peerCount) {
          let destination = Destination(port: id, peer: tables.tunnelPeers[peer])
          guard tables.peers[destination.peer].takesFloods else { continue }
          deliver(&frame, to: destination, tag: tag, isShared: true)
        }
      }
    }
    if mayRelay == false {
      counters.dropped(.joinFloodLimit, frames: 1, at: frame.ingress)
    } else if copies == 0 {
      if frameClass.isUnknownUnicast {
        counters.dropped(.nowhereToFlood, frames: 1, at: frame.ingress)
      } else {
        counters.unheard(at: frame.ingress)
      }
    }
    chargeFlood(max(copies, 1), to: frame.ingress)
  }

  /// Delivers to one port, and for a tunnel to one remote of it, by which the frame may leave.
  @inline(always)
  mutating func deliver(
    _ frame: inout Frame, to destination: Destination, tag: VLANTag, isShared: Bool = false
  ) {
    if egress.isFull { flush() }
    guard tables.ports[destination.port].role == .tunnel else {
      return deliverToDevice(&frame, id: destination.port, tag: tag, isShared: isShared)
    }
    if frame.isFromTunnel {
      return relay(&frame, to: destination, tag: tag, isShared: isShared)
    }
    // Putting a tag in front of a superframe moves its addresses for a while.
    if isShared && frame.offload.isSuperframe && tag.isPresent { flush() }
    deliverToPeer(&frame, at: destination, tag: tag)
  }

  private mutating func deliverToDevice(
    _ frame: inout Frame, id: PortID, tag: VLANTag, isShared: Bool
  ) {
    let port = tables.ports[id]
    let mtu = Int(port.mtu)
    let limit = Self.limit(of: frame, mtu: mtu, tag: tag)
    var offload = frame.offload
    if frame.isFromTunnel && !offload.isSuperframe {
      // Finding out about a superframe may change its checksum.
      if isShared && frame.count - EthernetHeader.byteCount > mtu { flush() }
      let layout = frame.layout
      switch unsafe arrivalOffload(frame.start, count: frame.count, layout, mtu: mtu) {
      case .accepted(let found): offload = found
      case .refused(let reason):
        return refuseArrival(&frame, reason, at: Destination(port: id), limit: limit)
      }
    }
    let mayMerge =
      frame.isFromTunnel && !isShared && !tag.isPresent && !offload.isSuperframe
      && frame.layout.isIP
    if !mayMerge && gro.hasOpenFlows {
      let layout = frame.layout
      unsafe gro.pass(frame.start, layout, port: id)
    }
    if offload.isSuperframe {
      return deliverSuperframe(&frame, offload: offload, id: id, tag: tag)
    }
    guard frame.count <= limit else {
      return refuseOversize(
        &frame, .exceedsDeviceMTU, at: Destination(port: id), limit: limit)
    }
    if offload.needsChecksum && !port.capabilities.contains(.checksum) {
      return deliverSummed(&frame, offload: offload, id: id, tag: tag)
    }
    guard mayMerge else {
      unsafe emit(frame.start, count: frame.count, offload: offload, tag: tag, to: id)
      return
    }
    let layout = frame.layout
    let result = unsafe gro.absorb(
      frame.start, count: frame.count, layout, offload: offload, port: id,
      capabilities: Int(port.superframeLimit) < GRO.byteLimit ? [] : port.capabilities)
    if result == .merged {
      return counters.sent(byteCount: frame.count, frames: 1, to: id)
    }
    let number = unsafe emit(frame.start, count: frame.count, offload: offload, tag: tag, to: id)
    if result == .separate(mayOpen: true) {
      unsafe gro.open(frame.start, port: id, transmission: number)
    }
  }

  /// The bytes that a frame may have for a device, without the tag that it gets there.
  ///
  /// Linux gives an Ethernet device room for its MTU behind one tag: the one that the frame gets,
  /// or else one inside.
  private static func limit(of frame: borrowing Frame, mtu: Int, tag: VLANTag) -> Int {
    let tagLength = frame.hasTagInside && !tag.isPresent ? VLANHeader.byteCount : 0
    return mtu + EthernetHeader.byteCount + tagLength
  }

  /// Sends a copy of the frame with its checksum filled in: other egresses may refer to the frame
  /// as it is.
  private mutating func deliverSummed(
    _ frame: inout Frame, offload: Offload, id: PortID, tag: VLANTag
  ) {
    let count = frame.count
    if !egress.hasScratch(count) { flush() }
    let copy = unsafe egress.scratchStart()
    unsafe copy.copyMemory(from: frame.start, byteCount: count)
    guard unsafe completeChecksum(copy, count: count, offload: offload, frame.layout) else {
      return counters.dropped(.malformedOffload, frames: 1, at: frame.ingress)
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
  private func isShortEnough(
    _ frame: borrowing Frame, id: PortID, tag: VLANTag
  ) -> Bool {
    let port = tables.ports[id]
    let hasTagInside = frame.hasTagInside
    let length = frame.count + (tag.isPresent ? VLANHeader.byteCount : 0)
    let isTagged = tag.isPresent || hasTagInside
    return length <= Int(isTagged ? port.taggedSuperframeLimit : port.superframeLimit)
  }

  /// Sends a superframe whole where the device takes it so and its segments fit; else cuts it.
  private mutating func deliverSuperframe(
    _ frame: inout Frame, offload: Offload, id: PortID, tag: VLANTag
  ) {
    let port = tables.ports[id]
    let layout = frame.layout
    guard let superframe = Superframe(frame.bytes, layout, offload) else {
      return counters.dropped(
        Superframe.refusal(of: offload), frames: 1, at: frame.ingress)
    }
    let limit = Self.limit(of: frame, mtu: Int(port.mtu), tag: tag)
    let room = limit - superframe.headerLength
    guard let segmentSize = superframe.segmentSize(fitting: room) else {
      return refuseOversize(
        &frame, .exceedsDeviceMTU, at: Destination(port: id), limit: limit)
    }
    let isShort = isShortEnough(frame, id: id, tag: tag)
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
      return counters.dropped(.tooManySegments, frames: 1, at: frame.ingress)
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
}

extension Superframe {
  fileprivate var neededCapability: OffloadCapabilities {
    isUDP ? .udp : isIPv6 ? .tcp6 : .tcp4
  }
}
