// The frame path. Every frame takes the same four steps, in this order:
//
//     admit    Is it a frame, may it enter here, and which segment is it in?
//     learn    Its source address is behind this port. A question that the switch can answer ends here.
//     decide   One port, all ports of the segment, or none.
//     deliver  As the egress can take it: whole, cut, tagged, or in VXLAN.
//
// What dies on the way dies of a named `DropReason`, counted at a port.

/// A frame on its way: where it lies, where it came from, and what is still to be done to it.
@unsafe
struct Frame {
  var start: UnsafeMutableRawPointer
  var count: Int
  var offload: Offload
  /// The tag, which lies beside the frame from admission on.
  var tag: VLANTag
  var vlan = VLANID.untagged
  var ingress: PortID
  /// The VTEP it came from; none for a frame from a device.
  var peer: RemoteVTEPID
  /// Whether it goes to a whole segment, and so more than once.
  var isFlooded = false

  var isFromTunnel: Bool { unsafe peer != .none }

  /// Whether the type behind the addresses is that of a tag.
  ///
  /// From admission on, that is a second one.
  var hasTagInside: Bool { unsafe EtherType(rawValue: start.big16(12)).isVLAN }

  /// The address at an offset: 0 for the destination, 6 for the source.
  @inline(__always) func address(_ offset: Int) -> MACAddress {
    unsafe MACAddress(truncating: UnsafeRawPointer(start).big64(offset) >> 16)
  }
}

extension Datapath {
  // MARK: Receiving

  /// Forwards one frame from a device port.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header. At least 64 bytes in front of it are the datapath's to write
  ///     to.
  ///   - count: The frame's length in bytes, any value.
  ///   - offload: What the kernel handed over with the frame; not trusted.
  ///   - tag: A VLAN tag that the kernel took out of the frame.
  ///   - port: Where it came in.
  @unsafe package mutating func receiveFrame(
    _ frame: UnsafeMutableRawPointer, count: Int, offload: Offload, tag: VLANTag,
    from port: PortID
  ) {
    guard Int(port.rawValue) < tables.ports.count else { return }
    guard tables.ports[Int(port.rawValue)].role == .device else {
      return counters.dropped(.waitingPort, frames: 1, at: port)
    }
    counters.received(byteCount: count, from: port)
    if let reason = Self.refusal(count: count, offload: offload) {
      return counters.dropped(reason, frames: 1, at: port)
    }
    frameCount &+= 1
    var received = unsafe Frame(
      start: frame, count: count, offload: offload, tag: tag,
      ingress: port, peer: .none)
    unsafe forward(&received)
  }

  /// Why a frame of a device is not even looked at, if so.
  @inline(__always) static func refusal(count: Int, offload: Offload) -> DropReason? {
    guard count >= EthernetHeader.byteCount else { return .truncated }
    guard offload.needsChecksum else { return nil }
    // Sums written by offset land inside the frame, behind its addresses.
    let place = Int(offload.checksumStart) + Int(offload.checksumOffset)
    let isInside = Int(offload.checksumStart) >= EthernetHeader.byteCount && place + 2 <= count
    return isInside ? nil : .malformedOffload
  }

  /// Decapsulates and forwards a train of datagrams that one VTEP sent, as `UDP_GRO` hands it over.
  ///
  /// `TrainReading` tells it from a superframe. All of it belongs to the VNI of its first header.
  ///
  /// - Parameters:
  ///   - train: The first datagram's VXLAN header. At least 64 bytes in front of it are the
  ///     datapath's to write to.
  ///   - count: The bytes of all datagrams together.
  ///   - segmentSize: The bytes of each datagram but the last; 0 or `count` for a single one. Or
  ///     those of each UDP datagram inside a superframe.
  ///   - endpoint: The socket it came in by.
  ///   - remote: The VTEP that sent it.
  ///   - trafficClass: DSCP and ECN of the outer headers, all the same.
  ///   - device: The index of the host's device that they came in by; `nil` for one that is as it should be.
  @unsafe package mutating func receiveDatagrams(
    _ train: UnsafeMutableRawPointer, count: Int, segmentSize: Int,
    on endpoint: ListenerID, from remote: IPAddress, trafficClass: UInt8, device: UInt32? = nil
  ) {
    var stride = segmentSize > 0 && segmentSize < count ? segmentSize : max(count, 1)
    let frames = count > 0 ? (count - 1) / stride + 1 : 1
    guard let vtep = tables.demultiplexer.vtep(remote) else {
      unknownVTEPs.note(remote)
      return counters.dropped(.unknownVTEP, frames: frames, at: .none)
    }
    if let device, !tables.demultiplexer.arrivals.isExpected(vtep, by: device) {
      return counters.dropped(.wrongDevice, frames: frames, at: .none)
    }
    var offload = Offload.none
    if stride < count {
      switch unsafe reading(of: train, count: count, stride: stride, on: endpoint, from: vtep) {
      case .datagrams: break
      case .superframe(let found):
        offload = found
        stride = count
      case .neither:
        return counters.dropped(.ambiguousTrain, frames: frames, at: .none)
      }
    }
    let isTrain = stride < count
    var vni: VNI?
    var tunnel: Destination?
    var offset = 0
    repeat {
      let datagram = unsafe train + offset
      let length = min(stride, count - offset)
      let isFirst = offset == 0
      offset += stride
      frameCount &+= 1
      guard length >= VXLANHeader.byteCount + EthernetHeader.byteCount else {
        counters.dropped(.vxlanTooShort, frames: 1, at: .none)
        continue
      }
      let bytes = UnsafeRawPointer(datagram)
      guard let header = unsafe VXLANHeader(bytes.span(length)), header.hasVNI else {
        counters.dropped(.vniFlagMissing, frames: 1, at: .none)
        continue
      }
      if isFirst {
        vni = header.vni
        tunnel = tables.demultiplexer.tunnel(vni: header.vni, vtep: vtep, endpoint: endpoint)
      } else if header.vni != vni {
        let isKnown =
          tables.demultiplexer.tunnel(vni: header.vni, vtep: vtep, endpoint: endpoint) != nil
        counters.dropped(isKnown ? .mixedVNIs : .unknownVNI, frames: 1, at: .none)
        continue
      }
      guard let tunnel else {
        counters.dropped(.unknownVNI, frames: 1, at: .none)
        continue
      }
      let frameLength = length - VXLANHeader.byteCount
      let ahead = offset + (Self.prefetchDistance - 1) * stride + VXLANHeader.byteCount
      if ahead < count {
        unsafe prefetch(train + ahead, count: count - ahead, tag: .none, from: tunnel.port)
      }
      counters.received(byteCount: frameLength, from: tunnel.port)
      if isTrain,
        unsafe !FrameLayout.holdsItsLengths((bytes + VXLANHeader.byteCount).span(frameLength))
      {
        counters.dropped(.lengthBeyondFrame, frames: 1, at: tunnel.port)
        continue
      }
      if trafficClass & ECN.mask != 0,
        unsafe !ECN.decapsulate(
          datagram + VXLANHeader.byteCount, count: frameLength, outer: trafficClass)
      {
        counters.dropped(.congestionExperienced, frames: 1, at: tunnel.port)
        continue
      }
      var frame = unsafe Frame(
        start: datagram + VXLANHeader.byteCount, count: frameLength,
        offload: offload, tag: .none, ingress: tunnel.port, peer: tunnel.peer)
      unsafe forward(&frame)
    } while offset < count
  }

  // MARK: Prefetching

  /// Fetches into the cache what a frame will need that is going to be received a few frames later.
  ///
  /// In a large address table each look-up otherwise waits for memory, longer than all else takes.
  /// Nothing depends on it.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header.
  ///   - count: The frame's length in bytes, any value.
  ///   - tag: A VLAN tag that the kernel took out of the frame.
  ///   - port: Where it came in.
  @inline(__always)
  @unsafe package func prefetch(
    _ frame: UnsafeRawPointer, count: Int, tag: VLANTag, from port: PortID
  ) {
    guard mayPrefetch(from: port), count >= EthernetHeader.byteCount + 2 else { return }
    let record = tables.ports[Int(port.rawValue)]
    var vlan = record.ownVLAN
    if record.vlanMode != .access && record.vlanMode != .dot1qTunnel {
      let isTagged = unsafe EtherType(rawValue: frame.big16(12)).isVLAN
      let tagged = unsafe isTagged ? VLANID(tagControl: frame.big16(14)) : .untagged
      let shown = tag.isPresent ? tag.vlan : tagged
      if shown != .untagged || record.vlanMode == .trunk { vlan = shown }
    }
    let bridge = Int(record.bridge.rawValue)
    let target = unsafe MACAddress(truncating: frame.big64(0) >> 16)
    let source = unsafe MACAddress(truncating: frame.big64(6) >> 16)
    databases[bridge].prefetch(AddressKey(vlan: vlan, address: source))
    if !target.isGroup { databases[bridge].prefetch(AddressKey(vlan: vlan, address: target)) }
  }

  /// Whether `prefetch` would do anything for frames of a port.
  @inline(__always)
  package func mayPrefetch(from port: PortID) -> Bool {
    Int(port.rawValue) < tables.ports.count
      && databases[Int(tables.ports[Int(port.rawValue)].bridge.rawValue)].isLarge
  }

  /// How many frames ahead of the one that is received `prefetch` pays most.
  package static var prefetchDistance: Int { 8 }

  // MARK: Admit, learn, decide

  @unsafe mutating func forward(_ frame: inout Frame) {
    let ingress = unsafe frame.ingress
    let port = tables.ports[Int(ingress.rawValue)]
    if let reason = unsafe admit(&frame, at: port) {
      return counters.dropped(reason, frames: 1, at: ingress)
    }

    let bridge = Int(port.bridge.rawValue)
    let vlan = unsafe frame.vlan
    let source = unsafe frame.address(6)
    let learning = unsafe databases[bridge].learn(
      AddressKey(vlan: vlan, address: source), at: Destination(port: ingress, peer: frame.peer),
      now: now, holding: port.isJoined ? Self.joinHold : 0,
      mayChange: mayMoveAddresses(to: ingress),
      lists: &lists, members: tables.bridgeMembers, tables.bridges[bridge].members)
    switch learning {
    case .known, .refused: break
    case .renewed: unsafe publishAddress(of: frame, bridge: port.bridge)
    case .learned:
      chargeNewAddress(to: ingress)
      unsafe publishAddress(of: frame, bridge: port.bridge)
    case .moved(let former):
      chargeNewAddress(to: ingress)
      unsafe noteMove(
        of: source, vlan: vlan, bridge: port.bridge, from: former,
        to: Destination(port: ingress, peer: frame.peer))
      unsafe publishAddress(of: frame, bridge: port.bridge)
    case .held(let place):
      unsafe noteMove(
        of: source, vlan: vlan, bridge: port.bridge, from: place,
        to: Destination(port: ingress, peer: frame.peer))
      return counters.dropped(.loop, frames: 1, at: ingress)
    }
    if unsafe frame.address(0).isGroup && !mayFlood(from: ingress) {
      return refuseFlood(from: ingress)
    }
    if unsafe frame.mayConcernNeighborTable, mayTellOfNeighbors(ingress, bridge: bridge) {
      let isAnswered = unsafe snoopNeighbors(&frame, bridge: port.bridge, learning: learning)
      if isAnswered { return chargeFlood(1, to: ingress) }
    }

    // A question may have been addressed to the neighbor itself.
    let target = unsafe frame.address(0)
    guard !target.isGroup else { return unsafe flood(&frame, bridge: port.bridge) }
    guard let destination = databases[bridge].lookUp(AddressKey(vlan: vlan, address: target))
    else {
      guard mayFlood(from: ingress) else { return refuseFlood(from: ingress) }
      return unsafe deliver(&frame, toUnknown: target, bridge: port.bridge)
    }

    if destination.port == ingress {
      return counters.dropped(.samePort, frames: 1, at: ingress)
    }
    unsafe deliver(&frame, to: destination)
  }

  /// Decides about a destination that no frame has come from: it may be a device's own address.
  @unsafe private mutating func deliver(
    _ frame: inout Frame, toUnknown target: MACAddress, bridge: BridgeID
  ) {
    let ingress = unsafe frame.ingress
    switch unsafe tables.owner(of: target, vlan: frame.vlan, bridge: bridge) {
    case .unowned: unsafe flood(&frame, bridge: bridge)
    case .nobody: counters.dropped(.ownAddress, frames: 1, at: ingress)
    case .station(ingress): counters.dropped(.samePort, frames: 1, at: ingress)
    case .station(let port): unsafe deliver(&frame, to: Destination(port: port))
    }
  }

  /// Decides on the frame's segment, takes its tag out, and says why it may not enter, if so.
  @unsafe mutating func admit(
    _ frame: inout Frame, at port: ForwardingTables.Port
  ) -> DropReason? {
    let target = unsafe frame.address(0)
    let source = unsafe frame.address(6)
    if target.isLinkLocalReserved { return .reservedDestination }
    if source.isGroup || source.rawValue == 0 { return .invalidSource }
    if port.vlanMode == .dot1qTunnel { return unsafe admitCustomer(&frame, at: port) }
    if unsafe !frame.tag.isPresent, unsafe frame.hasTagInside {
      if let reason = unsafe takeOutTag(&frame) { return reason }
    }
    let vlan = unsafe frame.tag.isPresent ? frame.tag.vlan : .untagged
    switch port.vlanMode {
    case .access:
      if vlan != .untagged { return .taggedOnAccessPort }
      unsafe frame.vlan = port.ownVLAN
      return nil
    case .nativeTagged, .nativeUntagged:
      unsafe frame.vlan = vlan == .untagged ? port.ownVLAN : vlan
    case .trunk, .dot1qTunnel:
      unsafe frame.vlan = vlan
    }
    return unsafe tables.carries(frame.vlan, port: port) ? nil : .vlanNotOnPort
  }

  /// Puts a customer's frame, with the tag that it may have, in the service VLAN.
  @unsafe private mutating func admitCustomer(
    _ frame: inout Frame, at port: ForwardingTables.Port
  ) -> DropReason? {
    if unsafe frame.tag.isPresent { unsafe putBackTag(&frame) }
    var control: UInt16 = 0
    if unsafe frame.hasTagInside {
      guard unsafe frame.count >= EthernetHeader.byteCount + VLANHeader.byteCount else {
        return .truncated
      }
      control = unsafe frame.start.big16(14)
    }
    unsafe frame.vlan = port.ownVLAN
    unsafe frame.tag = VLANTag(control: control & 0xE000, protocolID: port.serviceProtocol)
    return tables.isInSet(VLANID(tagControl: control), of: port) ? nil : .vlanNotOnPort
  }

  /// Puts a tag that the kernel took out back into the frame, which grows into the headroom.
  @unsafe private mutating func putBackTag(_ frame: inout Frame) {
    let start = unsafe frame.start - VLANHeader.byteCount
    unsafe frame.tag.write(behindAddressesOf: frame.start, to: start)
    unsafe frame.start = unsafe start
    unsafe frame.count += VLANHeader.byteCount
    if unsafe frame.offload.needsChecksum {
      unsafe frame.offload.checksumStart &+= UInt16(VLANHeader.byteCount)
    }
    if unsafe frame.offload.isSuperframe {
      unsafe frame.offload.headerLength &+= UInt16(VLANHeader.byteCount)
    }
    unsafe frame.tag = .none
  }

  /// Moves the addresses up over the tag, and what counts from the frame's start along.
  @unsafe private mutating func takeOutTag(_ frame: inout Frame) -> DropReason? {
    guard unsafe frame.count >= EthernetHeader.byteCount + VLANHeader.byteCount else {
      return .truncated
    }
    if unsafe frame.offload.needsChecksum {
      guard
        unsafe Int(frame.offload.checksumStart)
          >= EthernetHeader.byteCount + VLANHeader.byteCount
      else { return .malformedOffload }
      unsafe frame.offload.checksumStart -= UInt16(VLANHeader.byteCount)
    }
    unsafe frame.offload.headerLength -= min(
      frame.offload.headerLength, UInt16(VLANHeader.byteCount))
    unsafe frame.tag = VLANTag(
      control: frame.start.big16(14), protocolID: frame.start.big16(12))
    unsafe (frame.start + VLANHeader.byteCount).copyMemory(from: frame.start, byteCount: 12)
    unsafe frame.start += VLANHeader.byteCount
    unsafe frame.count -= VLANHeader.byteCount
    return nil
  }

  /// Delivers to every port of the segment but where it came from; what came from a tunnel to no
  /// tunnel, except those of VNIs that are joined to its own.
  @unsafe private mutating func flood(_ frame: inout Frame, bridge: BridgeID) {
    // One frame is about to be referred to by many: what changes its bytes happens before.
    if unsafe frame.offload.needsChecksum && !frame.offload.isSuperframe {
      guard unsafe completeChecksum(frame.start, count: frame.count, offload: frame.offload)
      else {
        return unsafe counters.dropped(.malformedOffload, frames: 1, at: frame.ingress)
      }
      unsafe frame.offload = .none
    }
    unsafe frame.isFlooded = true
    let members = unsafe tables.flooding(vlan: frame.vlan, bridge: bridge)
    var copies = 0
    var mayRelay: Bool?
    for member in Int(members.first)..<Int(members.first &+ members.count) {
      let id = tables.floodMembers[member]
      let port = tables.ports[Int(id.rawValue)]
      if unsafe id == frame.ingress { continue }
      if port.role == .tunnel, unsafe frame.isFromTunnel {
        guard unsafe tables.relays(from: frame.ingress, to: port), port.peerCount > 0 else {
          continue
        }
        let isAllowed = mayRelay ?? takeJoinFlood(of: bridge)
        mayRelay = isAllowed
        guard isAllowed else { continue }
      }
      copies &+= port.role == .device ? 1 : Int(port.peerCount)
      if port.role == .tunnel {
        for peer in Int(port.firstPeer)..<Int(port.firstPeer &+ port.peerCount) {
          unsafe deliver(
            &frame, to: Destination(port: id, peer: tables.tunnelPeers[peer]), isShared: true)
        }
      } else {
        unsafe deliver(&frame, to: Destination(port: id), isShared: true)
      }
    }
    if mayRelay == false {
      unsafe counters.dropped(.joinFloodLimit, frames: 1, at: frame.ingress)
    } else if copies == 0 {
      unsafe counters.dropped(.nowhereToFlood, frames: 1, at: frame.ingress)
    }
    unsafe chargeFlood(max(copies, 1), to: frame.ingress)
  }
}
