/// An IPv6 header (RFC 8200, section 3), without its extension headers.
package struct IPv6Header: ~Escapable {
  package static let byteCount = 40

  private let bytes: RawSpan

  /// Views a packet, or nothing unless it is of version 6 and its payload length is at most what is
  /// left.
  ///
  /// More bytes than that are legal: short frames are padded. Jumbograms (RFC 2675) do not fit any
  /// buffer here.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.byteCount, bytes.octet(0) >> 4 == 6,
      Int(bytes.big16(4)) <= bytes.byteCount &- Self.byteCount
    else { return nil }
    self.bytes = bytes
  }

  package var trafficClass: UInt8 { UInt8(truncatingIfNeeded: bytes.big16(0) >> 4) }
  /// The low 20 bits are used.
  package var flowLabel: UInt32 { bytes.big32(0) & 0xF_FFFF }
  /// Bytes behind the header, extension headers included.
  package var payloadLength: Int { Int(bytes.big16(4)) }
  package var nextHeader: IPProtocol { IPProtocol(rawValue: bytes.octet(6)) }
  package var hopLimit: UInt8 { bytes.octet(7) }
  package var source: IPAddress { IPAddress(v6High: bytes.big64(8), low: bytes.big64(16)) }
  package var destination: IPAddress { IPAddress(v6High: bytes.big64(24), low: bytes.big64(32)) }

  /// What the payload length covers, extension headers included; padding is not part of it.
  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.slice(Self.byteCount, Self.byteCount &+ payloadLength) }
  }

  /// What is behind the extension headers.
  package struct UpperLayer: Equatable, Sendable {
    /// The first header that is not walked over: a transport protocol, or an extension header where
    /// the chain is longer than `extensionLimit` or goes on in another fragment.
    package var transport: IPProtocol
    /// Where it starts, in bytes from the IPv6 header; at most 40 and the payload length.
    package var offset: Int
    /// Whether the packet is a part of a datagram, the first one included.
    package var isFragment: Bool
    /// Whether there is a fragment header, also one that says that the packet is whole (RFC 6946).
    package var hasFragmentHeader: Bool
    /// Where in its datagram the fragment belongs that the packet is, in bytes; 0 for the first,
    /// and for what is whole.
    package var fragmentOffset: Int
    /// Whether a routing header has stops left, so that the destination is not the last one.
    package var isSourceRouted: Bool

    package init(
      transport: IPProtocol,
      offset: Int,
      isFragment: Bool = false,
      hasFragmentHeader: Bool? = nil,
      fragmentOffset: Int = 0,
      isSourceRouted: Bool = false
    ) {
      self.transport = transport
      self.offset = offset
      self.isFragment = isFragment
      self.hasFragmentHeader = hasFragmentHeader ?? isFragment
      self.fragmentOffset = fragmentOffset
      self.isSourceRouted = isSourceRouted
    }
  }

  /// Extension headers walked over at most: RFC 8200, section 4.1, knows six in one packet.
  package static let extensionLimit = 8

  /// Walks over hop-by-hop, routing, destination options and fragment headers (RFC 8200, section
  /// 4).
  ///
  /// `nil` where one of them is longer than what is left of the packet.
  package var upperLayer: UpperLayer? {
    var layer = UpperLayer(
      transport: nextHeader,
      offset: Self.byteCount,
      isFragment: false,
      isSourceRouted: false
    )
    let end = Self.byteCount &+ payloadLength
    for _ in 0..<Self.extensionLimit {
      let length: Int
      switch layer.transport {
      case .hopByHop, .routing, .destinationOptions:
        guard end &- layer.offset >= 8 else { return nil }
        length = (Int(bytes.octet(layer.offset &+ 1)) &+ 1) &* 8
        if layer.transport == .routing, bytes.octet(layer.offset &+ 3) != 0 {
          layer.isSourceRouted = true
        }
      case .fragment:
        guard end &- layer.offset >= 8 else { return nil }
        length = 8
        layer.hasFragmentHeader = true
        // A fragment header on an undivided datagram is legal: an atomic fragment (RFC 6946).
        if bytes.big16(layer.offset &+ 2) & 0xFFF9 != 0 { layer.isFragment = true }
        layer.fragmentOffset = Int(bytes.big16(layer.offset &+ 2) & 0xFFF8)
      default:
        return layer
      }
      guard length <= end &- layer.offset else { return nil }
      layer.transport = IPProtocol(rawValue: bytes.octet(layer.offset))
      layer.offset &+= length
      // Only the first fragment has what would follow, and nobody here looks for it there.
      if layer.isFragment { return layer }
    }
    return layer
  }

  /// Writes a header to 40 bytes of memory.
  ///
  /// Of `flowLabel` the low 20 bits are used; `payloadLength` counts extension headers, too.
  package static func write(
    trafficClass: UInt8 = 0,
    flowLabel: UInt32 = 0,
    payloadLength: UInt16,
    nextHeader: IPProtocol,
    hopLimit: UInt8 = 64,
    source: IPAddress,
    destination: IPAddress,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setBig32(0, 6 << 28 | UInt32(trafficClass) << 20 | flowLabel & 0xF_FFFF)
    unsafe memory.setBig16(4, payloadLength)
    unsafe memory.setOctet(6, nextHeader.rawValue)
    unsafe memory.setOctet(7, hopLimit)
    unsafe memory.setBig64(8, source.high)
    unsafe memory.setBig64(16, source.low)
    unsafe memory.setBig64(24, destination.high)
    unsafe memory.setBig64(32, destination.low)
  }
}
