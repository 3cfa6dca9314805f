/// A TCP header with its options (RFC 9293, section 3.1).
///
/// Its data offset is consistent; its checksum is not verified.
package struct TCPHeader: ~Escapable {
  /// Bytes of a header without options.
  package static let minimumByteCount = 20

  package struct Flags: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let fin = Flags(rawValue: 0x01)
    package static let syn = Flags(rawValue: 0x02)
    package static let rst = Flags(rawValue: 0x04)
    package static let psh = Flags(rawValue: 0x08)
    package static let ack = Flags(rawValue: 0x10)
    package static let urg = Flags(rawValue: 0x20)
    package static let ece = Flags(rawValue: 0x40)
    package static let cwr = Flags(rawValue: 0x80)
  }

  private let bytes: RawSpan

  /// Views a segment, or nothing unless its data offset is 5...15 words and within the bytes given.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.minimumByteCount else { return nil }
    let headerLength = Int(bytes.octet(12) >> 4) &* 4
    guard headerLength >= Self.minimumByteCount, headerLength <= bytes.byteCount
    else { return nil }
    self.bytes = bytes
  }

  package var sourcePort: UInt16 { bytes.big16(0) }
  package var destinationPort: UInt16 { bytes.big16(2) }
  package var sequence: UInt32 { bytes.big32(4) }
  package var acknowledgment: UInt32 { bytes.big32(8) }
  /// Bytes of the header with its options, 20...60.
  package var headerLength: Int { Int(bytes.octet(12) >> 4) &* 4 }
  package var flags: Flags { Flags(rawValue: bytes.octet(13)) }
  package var window: UInt16 { bytes.big16(14) }
  package var checksum: UInt16 { bytes.big16(16) }
  package var urgentPointer: UInt16 { bytes.big16(18) }

  package var options: RawSpan {
    @_lifetime(copy self) get { bytes.slice(Self.minimumByteCount, headerLength) }
  }

  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.dropping(headerLength) }
  }

  /// Writes a header without options to 20 bytes of memory.
  package static func write(
    sourcePort: UInt16,
    destinationPort: UInt16,
    sequence: UInt32,
    acknowledgment: UInt32,
    flags: Flags,
    window: UInt16,
    checksum: UInt16 = 0,
    urgentPointer: UInt16 = 0,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setBig16(0, sourcePort)
    unsafe memory.setBig16(2, destinationPort)
    unsafe memory.setBig32(4, sequence)
    unsafe memory.setBig32(8, acknowledgment)
    unsafe memory.setBig16(12, 5 << 12 | UInt16(flags.rawValue))
    unsafe memory.setBig16(14, window)
    unsafe memory.setBig16(16, checksum)
    unsafe memory.setBig16(18, urgentPointer)
  }
}
