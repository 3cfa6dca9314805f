/// What an Ethernet frame carries (IEEE 802.3, clause 3.2.6).
///
/// Values below 0x0600 are lengths of 802.2 frames. Unknown ones are kept.
package struct EtherType: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let ipv4 = EtherType(rawValue: 0x0800)
  package static let arp = EtherType(rawValue: 0x0806)
  /// An 802.1Q customer tag.
  package static let vlan = EtherType(rawValue: 0x8100)
  package static let ipv6 = EtherType(rawValue: 0x86DD)
  /// An 802.1ad service tag.
  package static let serviceVLAN = EtherType(rawValue: 0x88A8)

  /// Whether a VLAN tag follows.
  package var isVLAN: Bool { self == .vlan || self == .serviceVLAN }
}

/// The 14 bytes at the start of every frame: destination, source, EtherType (IEEE 802.3, clause
/// 3.1).
package struct EthernetHeader: ~Escapable {
  package static let byteCount = 14
  /// Bytes of the two addresses.
  package static let addressByteCount = 12

  private let bytes: RawSpan

  /// Views a frame, or nothing where it is shorter than the header.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.byteCount else { return nil }
    self.bytes = bytes
  }

  /// Views a frame that is known to hold the header.
  @inline(__always)
  @_lifetime(copy bytes)
  init(known bytes: RawSpan) {
    assert(bytes.byteCount >= Self.byteCount)
    self.bytes = bytes
  }

  // Eight bytes are one load, and there are that many behind each.
  package var destination: MACAddress { MACAddress(truncating: bytes.big64(0) >> 16) }
  package var source: MACAddress { MACAddress(truncating: bytes.big64(6) >> 16) }
  package var etherType: EtherType { EtherType(rawValue: bytes.big16(12)) }

  /// All that follows the header, padding included.
  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.dropping(Self.byteCount) }
  }

  /// Writes a header to 14 bytes of memory.
  package static func write(
    destination: MACAddress,
    source: MACAddress,
    etherType: EtherType,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setAddress(0, destination)
    unsafe memory.setAddress(6, source)
    unsafe memory.setBig16(12, etherType.rawValue)
  }

  /// Writes the header of an answer to a frame: the addresses exchanged, VLAN tags and type as they
  /// are.
  ///
  /// `byteCount` is that of the header with its tags, of both.
  static func writeAnswer(
    to frame: UnsafeRawPointer, byteCount: Int, memory: UnsafeMutableRawPointer
  ) {
    let asked = unsafe EthernetHeader(known: frame.span(byteCount))
    unsafe memory.setAddress(0, asked.source)
    unsafe memory.setAddress(6, asked.destination)
    unsafe (memory + addressByteCount).copyMemory(
      from: frame + addressByteCount, byteCount: byteCount &- addressByteCount)
  }

  /// Writes another destination into a header.
  static func setDestination(_ destination: MACAddress, of header: UnsafeMutableRawPointer) {
    unsafe header.setAddress(0, destination)
  }
}

/// The four bytes that a VLAN tag inserts: tag control, then the EtherType of what follows (IEEE
/// 802.1Q, clause 9).
///
/// The tag's own protocol, 0x8100 or 0x88A8, stands in front of it, where the EtherType of an
/// untagged frame would be.
package struct VLANHeader: ~Escapable {
  package static let byteCount = 4

  private let bytes: RawSpan

  /// Views what follows an EtherType of `.vlan` or `.serviceVLAN`, or nothing where it is shorter
  /// than the header.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.byteCount else { return nil }
    self.bytes = bytes
  }

  /// Priority (3 bits), drop eligibility (1 bit) and VLAN (12 bits).
  package var control: UInt16 { bytes.big16(0) }
  package var priority: UInt8 { UInt8(truncatingIfNeeded: control >> 13) }
  package var isDropEligible: Bool { control & 0x1000 != 0 }
  package var vlan: VLANID { VLANID(tagControl: control) }
  package var etherType: EtherType { EtherType(rawValue: bytes.big16(2)) }

  /// All that follows the tag.
  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.dropping(Self.byteCount) }
  }

  /// Writes a tag's control field and the EtherType of what follows to four bytes of memory.
  package static func write(
    control: UInt16,
    etherType: EtherType,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setBig16(0, control)
    unsafe memory.setBig16(2, etherType.rawValue)
  }
}
