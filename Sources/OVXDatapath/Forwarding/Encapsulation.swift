// A frame leaves for a remote VTEP: behind a VXLAN header, a superframe cut into batches of
// datagrams.

extension Datapath {
  /// Sends a frame in VXLAN to one remote VTEP.
  mutating func deliverToPeer(
    _ frame: inout Frame, at destination: Destination, tag: VLANTag
  ) {
    let id = destination.port
    let peer = tables.peers[destination.peer]
    let layout = frame.layout
    let hash = flowHash(frame.bytes, layout)
    let choice = (UInt64(hash) &* UInt64(peer.pathCount)) >> 32
    let path = UnderlaySocketID(rawValue: peer.firstPath &+ UInt32(truncatingIfNeeded: choice))
    let outer = tables.ports[id].outerHeader.header(for: frame.bytes, layout)
    if frame.offload.isSuperframe {
      let isFitting = deliverSuperframe(
        frame, inside: id, peer: peer, path: path, outer: outer, tag: tag)
      guard isFitting else {
        return refuseOversize(
          &frame, .exceedsTunnelMTU, at: destination,
          limit: Self.limit(of: peer, tag: tag))
      }
      return
    }
    guard frame.count <= Self.limit(of: peer, tag: tag) else {
      return refuseOversize(
        &frame, .exceedsTunnelMTU, at: destination,
        limit: Self.limit(of: peer, tag: tag))
    }
    if frame.offload.needsChecksum && !frame.completeChecksum() {
      return counters.dropped(.malformedOffload, frames: 1, at: frame.ingress)
    }
    counters.sent(byteCount: frame.count, frames: 1, to: id)
    let mayJoin = frame.holdsItsLengths
    unsafe egress.addDatagram(
      header: tables.vxlanHeader(of: id), frame: frame.start, count: frame.count, tag: tag,
      port: id, path: path, outer: outer, mayJoin: mayJoin)
  }

  /// The bytes that a frame may have for a remote VTEP, without the tag that it gets there.
  static func limit(of peer: CompiledTopology.Peer, tag: VLANTag) -> Int {
    Int(peer.mtu) + EthernetHeader.byteCount - (tag.isPresent ? VLANHeader.byteCount : 0)
  }

  /// Cuts a superframe into trains of ready-made VXLAN datagrams, unless it can leave whole.
  ///
  /// `false` where its segments are too large and cannot be made smaller: nothing was done then.
  private mutating func deliverSuperframe(
    _ frame: borrowing Frame, inside id: PortID, peer: CompiledTopology.Peer,
    path: UnderlaySocketID,
    outer: OuterHeader, tag: VLANTag
  ) -> Bool {
    var start = unsafe frame.start
    var count = frame.count
    var offload = frame.offload
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
      unsafe (start + VLANHeader.byteCount).copyMemory(
        from: start, byteCount: EthernetHeader.addressByteCount)
    }
    return isFitting
  }

  @unsafe private mutating func writeTrains(
    _ start: UnsafeMutableRawPointer, count: Int, offload: Offload, ingress: PortID, id: PortID,
    peer: CompiledTopology.Peer, path: UnderlaySocketID, outer: OuterHeader
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

extension CompiledTopology {
  /// The VXLAN header of a tunnel port, in memory that stays until the next change of topology.
  @unsafe func vxlanHeader(of port: PortID) -> UnsafeRawPointer {
    unsafe UnsafeRawPointer(ports.address(of: port))
      + (MemoryLayout<Port>.offset(of: \.vxlanHeader) ?? 0)
  }
}
