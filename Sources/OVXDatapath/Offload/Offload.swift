/// What is still to be done to a frame: the virtio-net header that the kernel hands over with it,
/// bit for bit.
///
/// `struct virtio_net_hdr` of <linux/virtio_net.h>, 10 bytes, little-endian. TAP devices with
/// `IFF_VNET_HDR` and packet sockets with `PACKET_VNET_HDR` put it in front of each frame. It
/// travels with the frame through the switch, so that a superframe or a missing checksum is dealt
/// with once, at the egress that cannot take it as it is, or never.
package struct Offload: Equatable, BitwiseCopyable, Sendable {
  package var flags: Flags
  package var segmentation: Segmentation
  /// Bytes in front of the payload of a superframe, as the kernel claims them.
  ///
  /// Not to be trusted: parse instead.
  package var headerLength: UInt16
  /// Payload bytes per segment of a superframe.
  package var segmentSize: UInt16
  /// Where summing starts, in bytes from the Ethernet header.
  package var checksumStart: UInt16
  /// Where the sum goes, in bytes from `checksumStart`.
  package var checksumOffset: UInt16

  package struct Flags: OptionSet, BitwiseCopyable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The checksum field holds the pseudo-header's sum only: `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
    package static let needsChecksum = Flags(rawValue: 1)
    /// The checksum has been verified: `VIRTIO_NET_HDR_F_DATA_VALID`.
    package static let checksumVerified = Flags(rawValue: 2)
  }

  /// How a superframe is to be cut: the `VIRTIO_NET_HDR_GSO_*` values.
  ///
  /// Unknown ones are kept as they are.
  package struct Segmentation: RawRepresentable, Equatable, BitwiseCopyable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    package static let none = Segmentation(rawValue: 0)
    package static let tcp4 = Segmentation(rawValue: 1)
    /// UDP fragmentation: never negotiated, refused on sight.
    package static let udpFragments = Segmentation(rawValue: 3)
    package static let tcp6 = Segmentation(rawValue: 4)
    /// UDP datagrams of one size: `VIRTIO_NET_HDR_GSO_UDP_L4`.
    package static let udp = Segmentation(rawValue: 5)

    /// The same without the ECN bit (0x80), which says that the first segment carries CWR.
    package var kind: Segmentation { Segmentation(rawValue: rawValue & 0x7F) }
  }

  package static let byteCount = 10

  package static let none = Offload()

  package init(
    flags: Flags = [],
    segmentation: Segmentation = .none,
    headerLength: UInt16 = 0,
    segmentSize: UInt16 = 0,
    checksumStart: UInt16 = 0,
    checksumOffset: UInt16 = 0
  ) {
    self.flags = flags
    self.segmentation = segmentation
    self.headerLength = headerLength
    self.segmentSize = segmentSize
    self.checksumStart = checksumStart
    self.checksumOffset = checksumOffset
  }

  package var isSuperframe: Bool { segmentation != .none }
  package var needsChecksum: Bool { flags.contains(.needsChecksum) }
}

/// What an egress device accepts without help.
package struct OffloadCapabilities: OptionSet, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }

  package static let checksum = OffloadCapabilities(rawValue: 1)
  package static let tcp4 = OffloadCapabilities(rawValue: 2)
  package static let tcp6 = OffloadCapabilities(rawValue: 4)
  package static let udp = OffloadCapabilities(rawValue: 8)

  package static let all: OffloadCapabilities = [.checksum, .tcp4, .tcp6, .udp]
}
