/// A UDP header (RFC 768).
///
/// Its length is consistent; its checksum is not verified.
package struct UDPHeader: ~Escapable {
  package static let byteCount = 8
  /// Where the checksum is.
  static let checksumOffset = 6

  private let bytes: RawSpan

  /// Views a datagram, or nothing unless 8 <= length <= bytes given.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.byteCount, Int(bytes.big16(4)) >= Self.byteCount,
      Int(bytes.big16(4)) <= bytes.byteCount
    else { return nil }
    self.bytes = bytes
  }

  /// The ports of a datagram, or of one of which there is only the first fragment; `nil` where the
  /// header is not whole.
  @inline(__always)
  static func ports(_ bytes: RawSpan) -> (source: UInt16, destination: UInt16)? {
    guard bytes.byteCount >= byteCount else { return nil }
    return (bytes.big16(0), bytes.big16(2))
  }

  package var sourcePort: UInt16 { bytes.big16(0) }
  package var destinationPort: UInt16 { bytes.big16(2) }
  /// Bytes of header and payload together.
  package var length: Int { Int(bytes.big16(4)) }
  /// 0 says that there is none.
  package var checksum: UInt16 { bytes.big16(6) }

  /// What the length covers behind the header.
  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.slice(Self.byteCount, length) }
  }

  /// Writes a header to eight bytes of memory.
  package static func write(
    sourcePort: UInt16,
    destinationPort: UInt16,
    length: UInt16,
    checksum: UInt16 = 0,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setBig16(0, sourcePort)
    unsafe memory.setBig16(2, destinationPort)
    unsafe memory.setBig16(4, length)
    unsafe memory.setBig16(6, checksum)
  }
}
