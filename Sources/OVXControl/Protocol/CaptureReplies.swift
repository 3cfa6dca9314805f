/// How a capture begins: what `Command.capture` is answered with before the frames come.
package struct CaptureStart: Codable, Equatable, Sendable {
  /// By which to end it.
  package var number: UInt64
  /// What is captured, for a person.
  package var subject: String
  /// The names of the ports whose frames may come.
  package var ports: [Port]

  package struct Port: Codable, Equatable, Sendable {
    package var number: UInt16
    package var name: String

    package init(number: UInt16, name: String) {
      self.number = number
      self.name = name
    }
  }

  package init(number: UInt64, subject: String, ports: [Port]) {
    self.number = number
    self.subject = subject
    self.ports = ports
  }
}

/// What a capture has come to.
package struct CaptureEnd: Codable, Equatable, Sendable {
  /// Frames that were put in the reader's way.
  package var captured: UInt64
  /// Frames that the reader was too slow for.
  package var lost: UInt64

  package init(captured: UInt64, lost: UInt64) {
    self.captured = captured
    self.lost = lost
  }
}

/// What precedes each frame of a capture on the control connection: 32 bytes, in the byte order of
/// the machine.
package struct CapturedFrame: Equatable, Sendable {
  package static let headerByteCount = 32

  package var bytes: [UInt8]
  /// Bytes that the frame had.
  package var length: Int
  /// Since 1970.
  package var nanoseconds: UInt64
  /// Frames lost before this one.
  package var lost: UInt64
  package var port: UInt16
  package var isOutgoing: Bool
  /// One more than the `DropReason` for which it was dropped; 0 for a frame on its way.
  package var drop: UInt32

  /// Whether it stands for frames that were dropped and cannot be shown, as many as `length` says.
  package var isUnseen: Bool { drop != 0 && bytes.isEmpty }

  /// Takes the first frame out of a stream's bytes, from `offset` on, which moves behind it.
  ///
  /// `nil` where not all of it has come yet.
  package init?(_ stream: [UInt8], at offset: inout Int) {
    func number(_ place: Int, _ count: Int) -> UInt64 {
      (0..<count).reduce(0) { $0 | UInt64(stream[offset + place + $1]) << UInt64(8 * $1) }
    }
    guard stream.count - offset >= Self.headerByteCount else { return nil }
    let captured = Int(number(0, 4))
    guard stream.count - offset - Self.headerByteCount >= captured else { return nil }
    length = Int(number(4, 4))
    nanoseconds = number(8, 8)
    lost = number(16, 8)
    port = UInt16(truncatingIfNeeded: number(24, 2))
    isOutgoing = number(26, 2) != 0
    drop = UInt32(truncatingIfNeeded: number(28, 4))
    offset += Self.headerByteCount
    bytes = Array(stream[offset..<offset + captured])
    offset += captured
  }
}
