/// What became of a frame that was offered to a `Coalescer`.
package enum Absorption: Equatable, Sendable {
  /// The payload was appended to the frame that was emitted as this transmission, which has `byteCount` bytes now.
  case merged(transmission: Int, byteCount: Int)
  /// The frame is to be emitted as it is. `mayOpen` tells whether it is worth a call of `open` then.
  case separate(mayOpen: Bool)
}

/// A superframe that is complete: what is to be done to the transmission that it was emitted as.
package struct CoalescedFrame: Equatable, Sendable {
  package var transmission: Int
  package var offload: Offload
}

/// Joins TCP segments of one flow, in place, to superframes: generic receive offload for frames that leave by a device.
package struct Coalescer: ~Copyable {
  package init() {}

  /// Appends a frame's payload to an open superframe, if it continues one.
  ///
  /// A frame of an open flow that does not, closes that flow: frames of a flow stay in order.
  package mutating func absorb(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    offload: Offload,
    port: PortID
  ) -> Absorption {
    .separate(mayOpen: false)
  }

  /// Lets later frames be appended to a frame for which `absorb` said `.separate(mayOpen: true)`, now emitted.
  ///
  /// The frame's memory must be that transmission's alone: its headers are rewritten at the end.
  ///
  /// - Parameters:
  ///   - frame: The Ethernet header; it stays there until the superframe is finished.
  ///   - count: Bytes of the frame.
  ///   - offload: What was given to `absorb`.
  ///   - limit: The end of the memory that the frame may grow into.
  ///   - port: Where it leaves.
  ///   - transmission: The number that `absorb` and `finishNext` name it by.
  package mutating func open(
    _ frame: UnsafeMutableRawPointer,
    count: Int,
    offload: Offload,
    limit: UnsafeMutableRawPointer,
    port: PortID,
    transmission: Int
  ) {
  }

  /// Tells that memory from `pointer` on is going to be used as it is: no open superframe grows over it.
  package mutating func restrict(below pointer: UnsafeRawPointer) {
  }

  /// Closes all flows, and finishes one superframe that has absorbed something; `nil` when none is left.
  package mutating func finishNext() -> CoalescedFrame? {
    nil
  }
}
