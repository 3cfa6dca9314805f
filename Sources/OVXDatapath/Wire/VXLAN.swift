/// A VXLAN header (RFC 7348, section 5): eight flag bits, of which only I is assigned, and a 24-bit
/// VNI.
///
/// Reserved bits are ignored on receipt and zero on sending, as the RFC demands.
package struct VXLANHeader: ~Escapable {
  package static let byteCount = 8

  private let bytes: RawSpan

  /// Views a datagram's payload, or nothing where it is shorter than the header.
  ///
  /// Flag I is not looked at.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.byteCount else { return nil }
    self.bytes = bytes
  }

  /// Flag I: without it the VNI means nothing, and the packet is to be dropped.
  package var hasVNI: Bool { bytes.octet(0) & 0x08 != 0 }
  /// Whether all bits that RFC 7348 reserves are zero, flag I being set; on receipt they mean
  /// nothing.
  package var hasZerosOnly: Bool { bytes.big64(0) & 0xFFFF_FFFF_0000_00FF == 0x08 << 56 }
  package var vni: VNI { VNI(truncating: bytes.big32(4) >> 8) }

  /// The frame inside.
  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.dropping(Self.byteCount) }
  }

  /// The header as one integer, the first octet on the wire most significant.
  package static func encoded(vni: VNI) -> UInt64 {
    0x08 << 56 | UInt64(vni.rawValue) << 8
  }

  /// Writes a header to eight bytes of memory.
  package static func write(vni: VNI, to memory: UnsafeMutableRawPointer) {
    unsafe memory.setBig64(0, encoded(vni: vni))
  }
}
