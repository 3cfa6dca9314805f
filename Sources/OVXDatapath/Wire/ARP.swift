/// An ARP packet that maps IPv4 to Ethernet addresses (RFC 826).
///
/// Those of other hardware and protocols are not viewed.
package struct ARPPacket: ~Escapable {
  package static let byteCount = 28

  /// What a packet wants: 1 asks, 2 answers; others are kept as they are.
  package struct Operation: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let request = Operation(rawValue: 1)
    package static let reply = Operation(rawValue: 2)
  }

  private let bytes: RawSpan

  /// Views the payload of an EtherType 0x0806, or nothing where it is too short or not about
  /// Ethernet and IPv4.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    // Hardware type 1 (Ethernet), protocol 0x0800 (IPv4), address lengths 6 and 4.
    guard bytes.byteCount >= Self.byteCount, bytes.big64(0) >> 16 == Self.ethernetAndIPv4
    else { return nil }
    self.bytes = bytes
  }

  private static let ethernetAndIPv4: UInt64 = 0x0001_0800_0604

  package var operation: Operation { Operation(rawValue: bytes.big16(6)) }
  package var senderHardware: MACAddress { bytes.address(8) }
  package var senderProtocol: IPAddress { IPAddress(v4: bytes.big32(14)) }
  package var targetHardware: MACAddress { bytes.address(18) }
  package var targetProtocol: IPAddress { IPAddress(v4: bytes.big32(24)) }

  /// Writes a packet to 28 bytes of memory.
  ///
  /// Of IPv6 addresses, which ARP cannot carry, the low 32 bits are written.
  package static func write(
    operation: Operation,
    senderHardware: MACAddress,
    senderProtocol: IPAddress,
    targetHardware: MACAddress,
    targetProtocol: IPAddress,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setBig64(0, ethernetAndIPv4 << 16 | UInt64(operation.rawValue))
    unsafe memory.setAddress(8, senderHardware)
    unsafe memory.setBig32(14, UInt32(truncatingIfNeeded: senderProtocol.low))
    unsafe memory.setAddress(18, targetHardware)
    unsafe memory.setBig32(24, UInt32(truncatingIfNeeded: targetProtocol.low))
  }
}
