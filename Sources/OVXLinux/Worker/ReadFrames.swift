internal import CLinux
internal import OVXDatapath

// What a read has brought, as others take it: the datapath, and whoever captures. Beside the bytes
// there are the virtio-net header of a port's frame, and what the kernel says of a message.

extension Receiver {
  /// Shows what was read to whoever captures, before forwarding changes it.
  func show(to captures: CaptureSet, _ datapath: borrowing Datapath) {
    for index in 0..<batchCount {
      let batch = unsafe batches[index]
      for slot in batch.firstSlot..<(batch.firstSlot &+ batch.count) {
        let result = unsafe results[slot]
        guard result >= 0 else { continue }
        let frame = unsafe UnsafeRawPointer(buffers.frame(slot))
        let source = Int(batch.source)
        let facts = unsafe ovx_receipt_read(receipts + slot)
        guard source < PortID.limit else {
          unsafe captures.showReceived(
            frame, count: min(Int(result), ReceiveBuffers.capacity),
            segmentSize: Int(facts.segment_size),
            on: Self.endpoint(of: source),
            socket: sources[source].descriptor, from: facts.remote,
            port: ovx_receipt_port(receipts + slot), trafficClass: facts.traffic_class, datapath)
          continue
        }
        let count = min(Int(result) &- Offload.byteCount, ReceiveBuffers.capacity)
        guard count >= 0 else { continue }
        let isPacket = unsafe sources[source].kind == .packet
        unsafe captures.showReceived(
          frame, count: count, tag: isPacket ? facts.tag : .none,
          from: PortID(rawValue: UInt16(truncatingIfNeeded: source)), datapath)
      }
    }
  }

  /// Tells the datapath what of a port it is going to get soon.
  func prefetch(_ slot: Int, _ port: PortID, _ datapath: borrowing Datapath) {
    guard unsafe results[slot] >= 0 else { return }
    var tag = VLANTag.none
    if unsafe sources[Int(port.rawValue)].kind == .packet {
      tag = unsafe ovx_receipt_read(receipts + slot).tag
    }
    unsafe datapath.prefetch(
      buffers.frame(slot), count: Int(results[slot]) - Offload.byteCount, tag: tag, from: port)
  }

  /// Hands over a frame or a batch of datagrams, and shows it where it is dropped.
  func handOver(
    _ count: Int, _ slot: Int, _ index: Int, _ datapath: inout Datapath,
    showingDropsTo captures: CaptureSet
  ) {
    captures.showUnseenDrops(&datapath)
    let isFrame = index < PortID.limit
    let frame = unsafe UnsafeRawPointer(buffers.frame(slot))
    unsafe captures.keep(frame, count: isFrame ? count &- Offload.byteCount : count)
    let facts = unsafe ovx_receipt_read(receipts + slot)
    let before = datapath.frameCount
    handOver(count, slot, index, &datapath)
    guard isFrame else {
      return unsafe captures.showDrops(
        ofDatagrams: Int(facts.segment_size), after: before, on: Self.endpoint(of: index),
        socket: sources[index].descriptor, from: facts.remote,
        port: ovx_receipt_port(receipts + slot), trafficClass: facts.traffic_class, &datapath)
    }
    let isPacket = unsafe sources[index].kind == .packet
    captures.showDrops(
      ofFrameWith: isPacket ? facts.tag : .none,
      from: PortID(rawValue: UInt16(truncatingIfNeeded: index)), &datapath)
  }

  func handOver(_ count: Int, _ slot: Int, _ index: Int, _ datapath: inout Datapath) {
    let frame = unsafe buffers.frame(slot)
    guard index < PortID.limit else {
      let facts = unsafe ovx_receipt_read(receipts + slot)
      guard !facts.truncated, count <= ReceiveBuffers.capacity else {
        return datapath.countDrop(.tooLong, port: .none, frames: 1)
      }
      return unsafe datapath.receiveDatagrams(
        frame,
        count: count,
        segmentSize: Int(facts.segment_size),
        on: Self.endpoint(of: index),
        from: facts.remote,
        trafficClass: facts.traffic_class,
        device: facts.device
      )
    }
    let port = PortID(rawValue: UInt16(truncatingIfNeeded: index))
    var tag = VLANTag.none
    // A TAP cuts off what does not fit and says nothing.
    var isCut = count >= ReceiveBuffers.capacity &+ Offload.byteCount
    if unsafe sources[index].kind == .packet {
      let facts = unsafe ovx_receipt_read(receipts + slot)
      isCut = facts.truncated
      tag = facts.tag
    }
    let length = count &- Offload.byteCount
    guard !isCut, length >= 0, length <= ReceiveBuffers.capacity else {
      return datapath.countDrop(length < 0 ? .truncated : .tooLong, port: port, frames: 1)
    }
    let offload = unsafe (frame - Offload.byteCount).loadUnaligned(as: Offload.self)
    unsafe datapath.receiveFrame(
      frame,
      count: length,
      offload: offload,
      tag: tag,
      from: port
    )
  }
}

extension ovx_receipt_facts {
  /// Who sent a datagram.
  fileprivate var remote: IPAddress {
    is_ipv6 ? IPAddress(v6High: high, low: low) : IPAddress(v4: UInt32(truncatingIfNeeded: low))
  }

  /// The tag that the kernel took out of a frame.
  fileprivate var tag: VLANTag { VLANTag(control: vlan_control, protocolID: vlan_protocol) }
}
