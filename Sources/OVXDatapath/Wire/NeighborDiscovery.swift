/// A message of IPv6 neighbor discovery that passed all checks of RFC 4861, sections 6.1 and 7.1.
///
/// Solicitations and advertisements, of routers and of neighbors. Receivers accept them behind
/// extension headers, too, but not behind a fragment header, even of a packet that is whole (RFC
/// 6980, section 5), nor on the way to another stop of a routing header.
package struct NeighborDiscoveryMessage: ~Escapable {
  /// The ICMPv6 types of RFC 4861, section 4, but redirects.
  package enum Kind: UInt8, Sendable {
    case routerSolicitation = 133
    case routerAdvertisement = 134
    case neighborSolicitation = 135
    case neighborAdvertisement = 136
  }

  /// The ICMPv6 type of a redirect (RFC 4861, section 4.5), which is not viewed.
  package static let redirect: UInt8 = 137

  /// Whether an untagged frame, of an Ethernet header at least, may hold a message; if not, that is
  /// known at a glance.
  @inline(__always)
  static func mayBe(in frame: RawSpan) -> Bool {
    let type = EthernetHeader.byteCount + IPv6Header.byteCount
    // The shortest one is a router solicitation without options.
    guard EthernetHeader(known: frame).etherType == .ipv6, frame.byteCount >= type + 8
    else { return false }
    switch IPProtocol(rawValue: frame.octet(EthernetHeader.byteCount + 6)) {
    case .icmpv6: return frame.octet(type) &- Kind.routerSolicitation.rawValue < 4
    // What is behind them does not show at a glance; few frames have any.
    case .hopByHop, .routing, .destinationOptions: return true
    default: return false
    }
  }

  package let kind: Kind
  package let source: IPAddress
  package let destination: IPAddress
  /// The first link-layer address option: the sender's, or the target's in an advertisement.
  ///
  /// `nil` where there is none that has the length of an Ethernet address.
  package let linkLayerAddress: MACAddress?
  /// Whether there is an option for a link-layer address, of the sender or the target, that has
  /// something else in it than `linkLayerAddress`.
  package let hasOtherLinkLayerAddress: Bool
  private let bytes: RawSpan

  /// Views an IPv6 packet, or nothing unless it is a valid message.
  @_lifetime(copy packet)
  package init?(_ packet: RawSpan) {
    guard let header = IPv6Header(packet), header.hopLimit == 255, let layer = header.upperLayer,
      layer.transport == .icmpv6, !layer.hasFragmentHeader, !layer.isSourceRouted
    else { return nil }
    let bytes = header.payload.dropping(layer.offset &- IPv6Header.byteCount)
    guard bytes.byteCount >= 8, let kind = Kind(rawValue: bytes.octet(0)), bytes.octet(1) == 0,
      bytes.byteCount >= kind.fixedByteCount, Self.isChecksumValid(packet, bytes)
    else { return nil }
    // The one walk over options: none is empty, and all end within the message.
    let wanted: UInt8 = kind == .neighborAdvertisement ? 2 : 1
    var address: MACAddress?
    var isSourceAddressThere = false
    var isAnotherThere = false
    var offset = kind.fixedByteCount
    while offset < bytes.byteCount {
      guard bytes.byteCount &- offset >= 8 else { return nil }
      let length = Int(bytes.octet(offset &+ 1)) &* 8
      guard length > 0, length <= bytes.byteCount &- offset else { return nil }
      if bytes.octet(offset) == 1 { isSourceAddressThere = true }
      if bytes.octet(offset) == wanted, length == 8, address == nil {
        address = bytes.address(offset &+ 2)
      }
      if bytes.octet(offset) &- 1 < 2, length != 8 || bytes.address(offset &+ 2) != address {
        isAnotherThere = true
      }
      offset &+= length
    }
    self.kind = kind
    source = header.source
    destination = header.destination
    linkLayerAddress = address
    hasOtherLinkLayerAddress = isAnotherThere
    self.bytes = bytes
    let isValid =
      switch kind {
      case .routerSolicitation: !source.isUnspecified || !isSourceAddressThere
      case .routerAdvertisement: source.isLinkLocalIPv6
      case .neighborSolicitation:
        !target.isMulticast
          && (!source.isUnspecified || (!isSourceAddressThere && destination.isSolicitedNode))
      case .neighborAdvertisement:
        !target.isMulticast && (!destination.isMulticast || !isSolicited)
      }
    guard isValid else { return nil }
  }

  /// Whom a neighbor solicitation asks for, or whom a neighbor advertisement is about.
  ///
  /// Without meaning in messages of routers.
  package var target: IPAddress {
    kind.fixedByteCount == 24
      ? IPAddress(v6High: bytes.big64(8), low: bytes.big64(16)) : IPAddress(v6High: 0, low: 0)
  }

  /// Flag R of a neighbor advertisement: the target is a router.
  package var isFromRouter: Bool { bytes.octet(4) & 0x80 != 0 }
  /// Flag S of a neighbor advertisement: it answers a solicitation.
  package var isSolicited: Bool { bytes.octet(4) & 0x40 != 0 }
  /// Flag O of a neighbor advertisement: it replaces what was known.
  package var isOverriding: Bool { bytes.octet(4) & 0x20 != 0 }

  /// Bytes that `writeAdvertisement` writes.
  package static let advertisementByteCount = IPv6Header.byteCount + 32

  /// Writes the IPv6 packet by which a neighbor tells its address, with flag O, to 72 bytes of
  /// memory.
  ///
  /// - Parameters:
  ///   - target: Who was asked for; also the packet's source.
  ///   - hardware: The target's Ethernet address.
  ///   - isRouter: Flag R.
  ///   - isSolicited: Flag S: whether it answers a solicitation.
  ///   - asker: Who gets the packet.
  ///   - memory: Where to write.
  package static func writeAdvertisement(
    of target: IPAddress, at hardware: MACAddress, isRouter: Bool, isSolicited: Bool = true,
    to asker: IPAddress, memory: UnsafeMutableRawPointer
  ) {
    unsafe IPv6Header.write(
      payloadLength: 32, nextHeader: .icmpv6, hopLimit: 255, source: target, destination: asker,
      to: memory)
    let message = unsafe memory + IPv6Header.byteCount
    unsafe message.setBig32(0, UInt32(Kind.neighborAdvertisement.rawValue) << 24)
    unsafe message.setBig32(
      4, (isRouter ? 0x8000_0000 : 0) | (isSolicited ? 0x4000_0000 : 0) | 0x2000_0000)
    unsafe message.setBig64(8, target.high)
    unsafe message.setBig64(16, target.low)
    unsafe message.setBig16(24, 0x0201)
    unsafe message.setAddress(26, hardware)
    let sum = unsafe checksum(
      UnsafeRawPointer(memory).span(advertisementByteCount), UnsafeRawPointer(message).span(32))
    unsafe message.setBig16(2, sum.checksum)
  }

  /// Bytes that `writeProbe` writes.
  package static let probeByteCount = IPv6Header.byteCount + 24

  /// Writes the IPv6 packet that asks in nobody's name whether somebody has an address (RFC 4862,
  /// section 5.4.2), to 64 bytes of memory.
  ///
  /// - Parameters:
  ///   - target: Who is asked for.
  ///   - memory: Where to write.
  /// - Returns: The packet's destination, the target's solicited-node address (RFC 4291, section
  ///   2.7.1).
  @discardableResult package static func writeProbe(
    for target: IPAddress, to memory: UnsafeMutableRawPointer
  ) -> IPAddress {
    let group = IPAddress(
      v6High: 0xFF02_0000_0000_0000, low: 0x1_FF00_0000 | target.low & 0xFF_FFFF)
    unsafe IPv6Header.write(
      payloadLength: 24, nextHeader: .icmpv6, hopLimit: 255,
      source: IPAddress(v6High: 0, low: 0), destination: group, to: memory)
    let message = unsafe memory + IPv6Header.byteCount
    unsafe message.setBig32(0, UInt32(Kind.neighborSolicitation.rawValue) << 24)
    unsafe message.setBig32(4, 0)
    unsafe message.setBig64(8, target.high)
    unsafe message.setBig64(16, target.low)
    let sum = unsafe checksum(
      UnsafeRawPointer(memory).span(probeByteCount), UnsafeRawPointer(message).span(24))
    unsafe message.setBig16(2, sum.checksum)
    return group
  }

  private static func isChecksumValid(_ packet: RawSpan, _ message: RawSpan) -> Bool {
    checksum(packet, message).folded == 0xFFFF
  }

  /// The sum of a message and its pseudo-header (RFC 8200, section 8.1).
  private static func checksum(_ packet: RawSpan, _ message: RawSpan) -> InternetSum {
    var sum = InternetSum()
    sum.add(packet.big64(8))
    sum.add(packet.big64(16))
    sum.add(packet.big64(24))
    sum.add(packet.big64(32))
    sum.add(UInt64(IPProtocol.icmpv6.rawValue))
    sum.add(UInt64(truncatingIfNeeded: message.byteCount))
    unsafe message.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress { unsafe sum.add(base, count: bytes.count) }
    }
    return sum
  }
}

extension NeighborDiscoveryMessage.Kind {
  /// Bytes in front of the options.
  fileprivate var fixedByteCount: Int {
    switch self {
    case .routerSolicitation: 8
    case .routerAdvertisement: 16
    case .neighborSolicitation, .neighborAdvertisement: 24
    }
  }
}

extension IPAddress {
  /// Whether an IPv6 address is one of ff02::1:ff00:0/104, by which a neighbor is asked for
  /// (RFC 4291, section 2.7.1).
  fileprivate var isSolicitedNode: Bool {
    isIPv6 && high == 0xFF02_0000_0000_0000 && low >> 24 == 0x0000_0001_FF
  }
}
