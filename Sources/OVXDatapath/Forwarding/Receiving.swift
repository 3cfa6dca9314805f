// Where frames enter: by a device, or in datagrams that a listening socket received.

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
    unsafe accept(frame, count: count, offload: offload, tag: tag, from: port) {
      datapath, frame in datapath.process(&frame)
    }
  }

  /// Takes in a frame of a device, and calls a function with it, unless it is dropped at the door.
  @inline(__always)
  @unsafe mutating func accept(
    _ frame: UnsafeMutableRawPointer, count: Int, offload: Offload, tag: VLANTag,
    from port: PortID, _ body: (inout Datapath, inout Frame) -> Void
  ) {
    guard tables.ports.contains(port) else { return }
    guard tables.ports[port].role == .device else {
      return counters.dropped(.waitingPort, frames: 1, at: port)
    }
    counters.received(byteCount: count, from: port)
    if let reason = Self.refusal(count: count, offload: offload) {
      return counters.dropped(reason, frames: 1, at: port)
    }
    frameCount &+= 1
    var accepted = unsafe Frame(
      frame, count: count, offload: offload, tag: tag, from: Destination(port: port),
      group: tables.ports[port].group)
    body(&self, &accepted)
  }

  /// Why a frame of a device is not even looked at, if so.
  @inline(__always) private static func refusal(count: Int, offload: Offload) -> DropReason? {
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
  ///   - device: The index of the host's device that they came in by; `nil` for one that is as it
  ///     should be.
  @unsafe package mutating func receiveDatagrams(
    _ train: UnsafeMutableRawPointer, count: Int, segmentSize: Int,
    on endpoint: ListenerID, from remote: IPAddress, trafficClass: UInt8, device: UInt32? = nil
  ) {
    unsafe decapsulate(
      train, count: count, segmentSize: segmentSize, on: endpoint, from: remote,
      trafficClass: trafficClass, device: device
    ) { datapath, frame in datapath.process(&frame) }
  }

  /// Takes the frames out of a batch of datagrams, and calls a function with each that is not
  /// dropped at the door.
  @inline(__always)
  @unsafe mutating func decapsulate(
    _ train: UnsafeMutableRawPointer, count: Int, segmentSize: Int,
    on endpoint: ListenerID, from remote: IPAddress, trafficClass: UInt8, device: UInt32? = nil,
    _ body: (inout Datapath, inout Frame) -> Void
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
        if let tunnel { counters.heard(tunnel.peer) }
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
      var frame = unsafe Frame(
        datagram + VXLANHeader.byteCount, count: frameLength, offload: offload, from: tunnel,
        group: tables.ports[tunnel.port].group)
      if isTrain, !frame.holdsItsLengths {
        counters.dropped(.lengthBeyondFrame, frames: 1, at: tunnel.port)
        continue
      }
      if trafficClass & ECN.mask != 0, !frame.takeOverCongestion(from: trafficClass) {
        counters.dropped(.congestionExperienced, frames: 1, at: tunnel.port)
        continue
      }
      body(&self, &frame)
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
    guard mayPrefetch(from: port), count >= EthernetHeader.byteCount else { return }
    let bytes = unsafe frame.span(count)
    let header = EthernetHeader(known: bytes)
    let record = tables.ports[port]
    var vlan = record.ownVLAN
    if record.vlanMode != .access && record.vlanMode != .dot1qTunnel {
      let tagged = VLANTag(behindAddressesOf: bytes)?.vlan ?? .untagged
      let shown = tag.isPresent ? tag.vlan : tagged
      if shown != .untagged || record.vlanMode == .trunk { vlan = shown }
    }
    let bridge = record.bridge
    fdb.prefetch(AddressKey(vlan: vlan, address: header.source), in: bridge)
    let target = header.destination
    if !target.isGroup { fdb.prefetch(AddressKey(vlan: vlan, address: target), in: bridge) }
  }

  /// Whether `prefetch` would do anything for frames of a port.
  @inline(__always)
  package func mayPrefetch(from port: PortID) -> Bool {
    tables.ports.contains(port)
      && fdb.isLarge(tables.ports[port].bridge)
  }

  /// How many frames ahead of the one that is received `prefetch` pays most.
  package static var prefetchDistance: Int { 8 }
}
