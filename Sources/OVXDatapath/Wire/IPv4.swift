/// What an IP packet carries: IANA's protocol numbers, also those of IPv6's extension headers.
///
/// Unknown ones are kept.
package struct IPProtocol: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let hopByHop = IPProtocol(rawValue: 0)
  package static let icmp = IPProtocol(rawValue: 1)
  package static let tcp = IPProtocol(rawValue: 6)
  package static let udp = IPProtocol(rawValue: 17)
  package static let routing = IPProtocol(rawValue: 43)
  package static let fragment = IPProtocol(rawValue: 44)
  package static let icmpv6 = IPProtocol(rawValue: 58)
  package static let destinationOptions = IPProtocol(rawValue: 60)
  package static let sctp = IPProtocol(rawValue: 132)
}

/// An IPv4 header with its options (RFC 791, section 3.1).
///
/// Its lengths are consistent; its checksum is not verified.
package struct IPv4Header: ~Escapable {
  /// Bytes of a header without options.
  package static let minimumByteCount = 20

  private let bytes: RawSpan

  /// Views a packet, or nothing unless it is of version 4 and 20 <= header length <= total length
  /// <= bytes given.
  ///
  /// More bytes than the total length are legal: short frames are padded.
  @_lifetime(copy bytes)
  package init?(_ bytes: RawSpan) {
    guard bytes.byteCount >= Self.minimumByteCount else { return nil }
    let version = bytes.octet(0)
    let headerLength = Int(version & 0x0F) &* 4
    let totalLength = Int(bytes.big16(2))
    guard version >> 4 == 4, headerLength >= Self.minimumByteCount,
      headerLength <= totalLength, totalLength <= bytes.byteCount
    else { return nil }
    self.bytes = bytes
  }

  /// Bytes of the header with its options, 20...60.
  package var headerLength: Int { Int(bytes.octet(0) & 0x0F) &* 4 }
  package var typeOfService: UInt8 { bytes.octet(1) }
  /// Bytes of header and payload together.
  package var totalLength: Int { Int(bytes.big16(2)) }
  package var identification: UInt16 { bytes.big16(4) }
  package var isDontFragment: Bool { bytes.big16(6) & 0x4000 != 0 }
  package var hasMoreFragments: Bool { bytes.big16(6) & 0x2000 != 0 }
  /// Where in the datagram the payload belongs, in bytes.
  package var fragmentOffset: Int { Int(bytes.big16(6) & 0x1FFF) &* 8 }
  /// Whether the packet is a part of a datagram, the first one included.
  package var isFragment: Bool { bytes.big16(6) & 0x3FFF != 0 }
  package var timeToLive: UInt8 { bytes.octet(8) }
  package var transport: IPProtocol { IPProtocol(rawValue: bytes.octet(9)) }
  package var checksum: UInt16 { bytes.big16(10) }
  package var source: IPAddress { IPAddress(v4: bytes.big32(12)) }
  package var destination: IPAddress { IPAddress(v4: bytes.big32(16)) }

  package var options: RawSpan {
    @_lifetime(copy self) get { bytes.slice(Self.minimumByteCount, headerLength) }
  }

  /// What the total length covers behind the header; padding is not part of it.
  package var payload: RawSpan {
    @_lifetime(copy self) get { bytes.slice(headerLength, totalLength) }
  }

  /// Writes a header without options, its checksum included, to 20 bytes of memory.
  ///
  /// `totalLength` counts header and payload together.
  package static func write(
    typeOfService: UInt8 = 0,
    totalLength: UInt16,
    identification: UInt16 = 0,
    isDontFragment: Bool = true,
    timeToLive: UInt8 = 64,
    transport: IPProtocol,
    source: IPAddress,
    destination: IPAddress,
    to memory: UnsafeMutableRawPointer
  ) {
    unsafe memory.setBig16(0, 0x4500 | UInt16(typeOfService))
    unsafe memory.setBig16(2, totalLength)
    unsafe memory.setBig16(4, identification)
    unsafe memory.setBig16(6, isDontFragment ? 0x4000 : 0)
    unsafe memory.setOctet(8, timeToLive)
    unsafe memory.setOctet(9, transport.rawValue)
    unsafe memory.setBig16(10, 0)
    unsafe memory.setBig32(12, UInt32(truncatingIfNeeded: source.low))
    unsafe memory.setBig32(16, UInt32(truncatingIfNeeded: destination.low))
    var sum = InternetSum()
    unsafe sum.add(UnsafeRawPointer(memory), count: minimumByteCount)
    unsafe memory.setBig16(10, sum.checksum)
  }
}
