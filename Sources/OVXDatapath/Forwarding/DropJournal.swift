/// Frames that were dropped for one reason at one place.
package struct DroppedFrames: BitwiseCopyable, Sendable {
  /// How many frames had come until then: which of those of a batch it was.
  package var frameCount: Int64 = 0
  package var frames: UInt32 = 0
  /// The port at which they are counted.
  package var port = PortID.none
  package var reason = DropReason.truncated
}

/// What was dropped while a frame was on its way, written down for whoever wants to see dropped
/// frames.
///
/// While nobody does, that costs each drop one branch, and what is not dropped nothing.
struct DropJournal: ~Copyable {
  /// Entries at most: more than one batch of datagrams has.
  private static let capacity = 4096

  /// Whether anybody wants to see them.
  var isOpen = false
  private var entries = FixedArray<DroppedFrames>(reserving: capacity)
  private(set) var count = 0
  private var overflow: UInt64 = 0

  @inline(never)
  mutating func note(_ reason: DropReason, frames: Int, at port: PortID, frame: Int64) {
    guard count < Self.capacity else {
      overflow &+= UInt64(clamping: frames)
      return
    }
    entries[count] = DroppedFrames(
      frameCount: frame, frames: UInt32(clamping: frames), port: port, reason: reason)
    count &+= 1
  }

  /// An entry, of `count`.
  subscript(index: Int) -> DroppedFrames { entries[index] }

  /// Begins anew.
  ///
  /// - Returns: The frames for which there was no entry.
  mutating func clear() -> UInt64 {
    defer { (count, overflow) = (0, 0) }
    return overflow
  }
}
