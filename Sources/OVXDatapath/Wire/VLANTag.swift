/// An 802.1Q tag that travels beside a frame instead of inside it.
package struct VLANTag: Equatable, BitwiseCopyable, Sendable {
  /// Priority (3 bits), drop eligibility (1 bit) and VLAN (12 bits).
  package var control: UInt16
  /// The tag protocol: 0x8100 or 0x88A8; 0 means that there is no tag.
  package var protocolID: UInt16

  package init(control: UInt16, protocolID: UInt16 = 0x8100) {
    self.control = control
    self.protocolID = protocolID
  }

  package static let none = VLANTag(control: 0, protocolID: 0)

  /// Reads the tag behind a frame's addresses; `nil` where there is none, or the frame ends within
  /// it.
  @inline(__always)
  init?(behindAddressesOf frame: RawSpan) {
    guard frame.byteCount >= EthernetHeader.byteCount + VLANHeader.byteCount,
      EtherType(rawValue: frame.big16(12)).isVLAN
    else { return nil }
    control = frame.big16(14)
    protocolID = frame.big16(12)
  }

  package var isPresent: Bool { protocolID != 0 }
  package var vlan: VLANID { VLANID(tagControl: control) }

  /// Bytes that `write` writes.
  package static let addressedByteCount = EthernetHeader.addressByteCount + VLANHeader.byteCount

  /// Writes the addresses of a frame and the tag behind them to 16 bytes of memory, which may
  /// overlap the frame.
  ///
  /// What follows the tag is the frame from its EtherType on, byte 12.
  @inline(__always)
  package func write(behindAddressesOf frame: UnsafeRawPointer, to memory: UnsafeMutableRawPointer)
  {
    unsafe memory.copyMemory(from: frame, byteCount: EthernetHeader.addressByteCount)
    unsafe memory.setBig16(12, protocolID)
    unsafe memory.setBig16(14, control)
  }
}
