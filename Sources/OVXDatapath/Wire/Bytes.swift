// The only place that loads and stores integers at raw, unaligned addresses.
//
// The wire's integers are big-endian; all of these convert. A load from a span is checked in debug
// builds only: the views of this folder check a header's length once, in their initialiser, and
// then read inside of it.

extension RawSpan {
  /// The octet at an offset that is known to lie inside.
  @inline(__always)
  func octet(_ offset: Int) -> UInt8 {
    assert(offset >= 0 && offset < byteCount)
    return unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt8.self)
  }

  /// The 16-bit integer at an offset of which all octets are known to lie inside.
  @inline(__always)
  func big16(_ offset: Int) -> UInt16 {
    assert(offset >= 0 && offset &+ 2 <= byteCount)
    return unsafe UInt16(
      bigEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt16.self)
    )
  }

  /// The 32-bit integer at an offset of which all octets are known to lie inside.
  @inline(__always)
  func big32(_ offset: Int) -> UInt32 {
    assert(offset >= 0 && offset &+ 4 <= byteCount)
    return unsafe UInt32(
      bigEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt32.self)
    )
  }

  /// The 64-bit integer at an offset of which all octets are known to lie inside.
  @inline(__always)
  func big64(_ offset: Int) -> UInt64 {
    assert(offset >= 0 && offset &+ 8 <= byteCount)
    return unsafe UInt64(
      bigEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: UInt64.self)
    )
  }

  /// The Ethernet address at an offset of which all six octets are known to lie inside.
  @inline(__always)
  func address(_ offset: Int) -> MACAddress {
    MACAddress(truncating: UInt64(big16(offset)) << 32 | UInt64(big32(offset &+ 2)))
  }

  /// What lies between two offsets that are known to be in order and inside.
  @inline(__always)
  @_lifetime(copy self)
  func slice(_ start: Int, _ end: Int) -> RawSpan {
    assert(start >= 0 && start <= end && end <= byteCount)
    return unsafe extracting(unchecked: Range(uncheckedBounds: (start, end)))
  }

  /// What lies behind an offset that is known to be inside.
  @inline(__always)
  @_lifetime(copy self)
  func dropping(_ count: Int) -> RawSpan {
    slice(count, byteCount)
  }
}

extension UnsafeRawPointer {
  @inline(__always)
  func octet(_ offset: Int) -> UInt8 {
    unsafe load(fromByteOffset: offset, as: UInt8.self)
  }

  @inline(__always)
  func big16(_ offset: Int) -> UInt16 {
    unsafe UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  @inline(__always)
  func big32(_ offset: Int) -> UInt32 {
    unsafe UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  @inline(__always)
  func big64(_ offset: Int) -> UInt64 {
    unsafe UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }

  /// The bytes from here on as a span; the caller vouches for `count` of them, which is not
  /// negative.
  @inline(__always)
  @_lifetime(borrow self)
  func span(_ count: Int) -> RawSpan {
    unsafe RawSpan(_unsafeStart: self, byteCount: count)
  }
}

extension UnsafeMutableRawPointer {
  @inline(__always)
  func octet(_ offset: Int) -> UInt8 {
    unsafe UnsafeRawPointer(self).octet(offset)
  }

  @inline(__always)
  func big16(_ offset: Int) -> UInt16 {
    unsafe UnsafeRawPointer(self).big16(offset)
  }

  @inline(__always)
  func big32(_ offset: Int) -> UInt32 {
    unsafe UnsafeRawPointer(self).big32(offset)
  }

  @inline(__always)
  func setOctet(_ offset: Int, _ value: UInt8) {
    unsafe storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
  }

  @inline(__always)
  func setBig16(_ offset: Int, _ value: UInt16) {
    unsafe storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
  }

  @inline(__always)
  func setBig32(_ offset: Int, _ value: UInt32) {
    unsafe storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
  }

  @inline(__always)
  func setBig64(_ offset: Int, _ value: UInt64) {
    unsafe storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
  }

  @inline(__always)
  func setAddress(_ offset: Int, _ value: MACAddress) {
    unsafe setBig16(offset, UInt16(truncatingIfNeeded: value.rawValue >> 32))
    unsafe setBig32(offset &+ 2, UInt32(truncatingIfNeeded: value.rawValue))
  }
}
