/// What a port has carried and lost since it was made. A superframe counts as one frame.
package struct PortCounters: Equatable, Sendable {
  package var receivedFrames: UInt64 = 0
  package var receivedBytes: UInt64 = 0
  package var sentFrames: UInt64 = 0
  package var sentBytes: UInt64 = 0
  package var dropsByReason: [UInt64] = Array(repeating: 0, count: DropReason.allCases.count)

  package init() {}

  /// The number of frames lost for one reason.
  package subscript(reason: DropReason) -> UInt64 {
    get { dropsByReason[Int(reason.rawValue)] }
    set { dropsByReason[Int(reason.rawValue)] = newValue }
  }
}
