private import CLinux
internal import OVXDatapath

// What is dropped, for those who want to see it. The datapath writes down the reasons; the bytes
// are those that were read, as they were before it changed them. What the kernel loses, or does not
// take, nobody has any more: it is told by its number.

extension CaptureSet {
  /// Shows what a frame of a device came to that was kept, where it was dropped on some way.
  ///
  /// - Parameters:
  ///   - tag: A VLAN tag that the kernel took out of it.
  ///   - port: Where it came in.
  ///   - datapath: Has written down what was dropped.
  func showDrops(ofFrameWith tag: VLANTag, from port: PortID, _ datapath: inout Datapath) {
    guard datapath.notedDropCount > 0, let frame = unsafe snapshot else { return forget(&datapath) }
    let now = ovx_realtime_nanoseconds()
    let count = snapshotCount
    for index in 0..<datapath.notedDropCount {
      let drop = datapath.notedDrop(index)
      guard tag.isPresent, count >= VLANTag.addressedByteCount - 4 else {
        unsafe show(frame, count: count, drop, from: port, datapath, now)
        continue
      }
      // It goes back to where it was.
      var front = [UInt8](repeating: 0, count: VLANTag.addressedByteCount)
      unsafe front.withUnsafeMutableBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        unsafe tag.write(behindAddressesOf: UnsafeRawPointer(frame), to: base)
      }
      unsafe show(frame + 12, count: count - 12, behind: front, drop, from: port, datapath, now)
    }
    forget(&datapath)
  }

  /// The same for datagrams, which are shown with the headers that they had outside where they
  /// belong to no tunnel, and as the frames that are in them otherwise.
  ///
  /// - Parameters:
  ///   - stride: The bytes of each but the last; 0 for a single one.
  ///   - first: The datapath's `frameCount` before them.
  ///   - endpoint: The listener by which they came.
  ///   - socket: Its socket.
  ///   - remote: Who has sent them.
  ///   - remotePort: By which UDP port.
  ///   - trafficClass: DSCP and ECN of the outer headers.
  ///   - datapath: Has written down what was dropped.
  func showDrops(
    ofDatagrams stride: Int, after first: Int64, on endpoint: ListenerID, socket: Int32,
    from remote: IPAddress, port remotePort: UInt16, trafficClass: UInt8,
    _ datapath: inout Datapath
  ) {
    guard datapath.notedDropCount > 0, let train = unsafe snapshot else { return forget(&datapath) }
    let now = ovx_realtime_nanoseconds()
    let count = snapshotCount
    // What was taken for one frame is one.
    let isWhole = datapath.frameCount &- first == 1 || stride <= 0
    let stride = isWhole ? max(count, 1) : stride
    for index in 0..<datapath.notedDropCount {
      let drop = datapath.notedDrop(index)
      let number = Int(truncatingIfNeeded: drop.frameCount &- first) - 1
      // Those that nobody has told apart were dropped together.
      var offset = number < 0 ? 0 : number * stride
      let end = number < 0 ? count : min(count, offset + stride)
      while offset < end {
        let datagram = unsafe UnsafeRawPointer(train) + offset
        let length = min(stride, count - offset)
        offset += stride
        guard drop.port == .none || length <= VXLANHeader.byteCount else {
          let tunnel = unsafe datapath.tunnel(
            of: datagram, count: length, on: endpoint, from: remote)
          unsafe show(
            datagram + VXLANHeader.byteCount, count: length - VXLANHeader.byteCount, drop,
            from: tunnel?.port ?? .none, datapath, now)
          continue
        }
        let ends = listener(socket)
        let front = OuterHeaders.bytes(
          from: remote, remotePort, to: ends.local, ends.localPort, payloadCount: length,
          trafficClass: trafficClass)
        unsafe show(datagram, count: length, behind: front, drop, from: .none, datapath, now)
      }
    }
    forget(&datapath)
  }

  /// Tells of drops that belong to no frame that is there: what the kernel has lost, or has not
  /// taken.
  func showUnseenDrops(_ datapath: inout Datapath) {
    guard datapath.notedDropCount > 0 else { return }
    let now = ovx_realtime_nanoseconds()
    for index in 0..<datapath.notedDropCount {
      let drop = datapath.notedDrop(index)
      for capture in captures where capture.wants(drop, from: .none, datapath) {
        capture.recordUnseen(drop, nanoseconds: now)
      }
    }
    forget(&datapath)
  }

  private func forget(_ datapath: inout Datapath) {
    let lost = datapath.forgetDrops()
    guard lost > 0 else { return }
    for capture in captures where capture.place.isOfDrops { capture.lose(lost) }
  }

  private func show(
    _ bytes: UnsafeRawPointer, count: Int, behind front: [UInt8] = [], _ drop: DroppedFrames,
    from ingress: PortID, _ datapath: borrowing Datapath, _ now: UInt64
  ) {
    var piece = unsafe Vector(base: bytes, count: count)
    for capture in captures where capture.wants(drop, from: ingress, datapath) {
      unsafe front.withUnsafeBytes { front in
        unsafe withUnsafePointer(to: &piece) { piece in
          unsafe capture.record(
            front: front, pieces: UnsafeBufferPointer(start: piece, count: 1), offset: 0,
            count: count, port: drop.port,
            isOutgoing: drop.port != .none && drop.port != ingress, reason: drop.reason,
            nanoseconds: now)
        }
      }
    }
  }
}

extension Capture {
  /// Whether a drop is to be shown of a frame that came in by some port.
  fileprivate func wants(
    _ drop: DroppedFrames, from ingress: PortID, _ datapath: borrowing Datapath
  ) -> Bool {
    switch place {
    case .device, .tunnel, .bridge: false
    case .drops(nil): true
    case .drops(let port?): drop.port == port || ingress == port
    case .bridgeDrops(let bridge): datapath.bridge(of: drop.port) == bridge
    }
  }
}
