package import OVXDatapath

/// One TCP or UDP conversation's next packet, from which a frame is built byte by byte.
package struct PacketPlan {
  package var source: MACAddress
  package var destination: MACAddress
  /// Tags to write into the frame, outermost first.
  package var tags: [VLANTag] = []
  package var isIPv6 = false
  package var isTCP = true
  /// The low halves of the addresses; the rest is fixed.
  package var sourceHost: UInt16 = 1
  package var destinationHost: UInt16 = 2
  package var sourcePort: UInt16 = 40000
  package var destinationPort: UInt16 = 80
  package var sequence: UInt32 = 0
  package var acknowledgement: UInt32 = 1
  /// CWR 0x80, ECE 0x40, ACK 0x10, PSH 0x08, RST 0x04, SYN 0x02, FIN 0x01.
  package var tcpFlags: UInt8 = 0x10
  /// TCP options, a multiple of 4 bytes, at most 40.
  package var tcpOptions: [UInt8] = []
  package var identification: UInt16 = 0
  package var dontFragment = true
  package var timeToLive: UInt8 = 64
  /// Type of service or traffic class.
  package var trafficClass: UInt8 = 0
  /// IPv4 options, a multiple of 4 bytes, at most 40.
  package var ipOptions: [UInt8] = []
  /// Whether an IPv6 destination options header stands in front of the transport header.
  package var hasExtensionHeader = false
  package var payload: [UInt8] = []

  package init(from source: MACAddress, to destination: MACAddress) {
    self.source = source
    self.destination = destination
  }

  /// The bytes in front of the payload.
  package var headerLength: Int { transportOffset + (isTCP ? 20 + tcpOptions.count : 8) }

  private var networkOffset: Int { 14 + 4 * tags.count }

  private var transportOffset: Int {
    networkOffset + (isIPv6 ? 40 + (hasExtensionHeader ? 8 : 0) : 20 + ipOptions.count)
  }

  /// The frame with all its checksums.
  package var frame: [UInt8] {
    var frame = ethernetHeader
    let transportLength = (isTCP ? 20 + tcpOptions.count : 8) + payload.count
    frame += isIPv6 ? ipv6Header(transportLength) : ipv4Header(transportLength)
    frame += isTCP ? tcpHeader : udpHeader(transportLength)
    frame += payload
    FrameAnatomy(frame)?.fillChecksums(in: &frame)
    return frame
  }

  /// The frame with only the pseudo-header's sum in place of its checksum, as a local stack hands
  /// it over.
  package var partialFrame: PartialFrame {
    var bytes = frame
    guard let anatomy = FrameAnatomy(bytes), let field = anatomy.checksumField,
      let pseudo = anatomy.pseudoHeaderSum(in: bytes)
    else { return PartialFrame(bytes) }
    bytes.setNumber(pseudo, at: field)
    var offload = Offload(flags: .needsChecksum)
    offload.checksumStart = UInt16(truncatingIfNeeded: transportOffset)
    offload.checksumOffset = UInt16(truncatingIfNeeded: field - transportOffset)
    return PartialFrame(bytes, offload: offload)
  }

  /// The frame as a superframe that is to be cut into pieces of so many payload bytes.
  package func superframe(segmentSize: Int) -> PartialFrame {
    var result = partialFrame
    result.offload.segmentation = isTCP ? (isIPv6 ? .tcp6 : .tcp4) : .udp
    if isTCP, tcpFlags & 0x80 != 0 {
      result.offload.segmentation = Offload.Segmentation(
        rawValue: result.offload.segmentation.rawValue | 0x80
      )
    }
    result.offload.segmentSize = UInt16(truncatingIfNeeded: segmentSize)
    result.offload.headerLength = UInt16(truncatingIfNeeded: headerLength)
    return result
  }

  private var ethernetHeader: [UInt8] {
    var octets: [UInt8] = []
    octets.append(address: destination)
    octets.append(address: source)
    for tag in tags {
      octets.append(number: tag.protocolID)
      octets.append(number: tag.control)
    }
    octets.append(number: UInt16(isIPv6 ? 0x86DD : 0x0800))
    return octets
  }

  private func ipv4Header(_ transportLength: Int) -> [UInt8] {
    var octets: [UInt8] = [0x40 | UInt8(5 + ipOptions.count / 4), trafficClass]
    octets.append(number: UInt16(truncatingIfNeeded: 20 + ipOptions.count + transportLength))
    octets.append(number: identification)
    octets.append(number: UInt16(dontFragment ? 0x4000 : 0))
    octets += [timeToLive, isTCP ? 6 : 17, 0, 0]
    for host in [sourceHost, destinationHost] {
      octets.append(number: 0x0A00_0000 | UInt32(host))
    }
    return octets + ipOptions
  }

  private func ipv6Header(_ transportLength: Int) -> [UInt8] {
    var octets: [UInt8] = []
    octets.append(number: 0x6000_0000 | UInt32(trafficClass) << 20 | 0x1234)
    let kind: UInt8 = isTCP ? 6 : 17
    octets.append(
      number: UInt16(truncatingIfNeeded: transportLength + (hasExtensionHeader ? 8 : 0))
    )
    octets += [hasExtensionHeader ? 60 : kind, timeToLive]
    for host in [sourceHost, destinationHost] {
      octets.append(number: UInt64(0xFD00_0000_0000_0000))
      octets.append(number: UInt64(host))
    }
    return octets + (hasExtensionHeader ? [kind, 0, 1, 4, 0, 0, 0, 0] : [])
  }

  private var tcpHeader: [UInt8] {
    var octets: [UInt8] = []
    octets.append(number: sourcePort)
    octets.append(number: destinationPort)
    octets.append(number: sequence)
    octets.append(number: acknowledgement)
    octets += [UInt8(5 + tcpOptions.count / 4) << 4, tcpFlags, 0xFF, 0xFF, 0, 0, 0, 0]
    return octets + tcpOptions
  }

  private func udpHeader(_ transportLength: Int) -> [UInt8] {
    var octets: [UInt8] = []
    octets.append(number: sourcePort)
    octets.append(number: destinationPort)
    octets.append(number: UInt16(truncatingIfNeeded: transportLength))
    return octets + [0, 0]
  }
}

/// A frame of any type with any payload.
package func plainFrame(
  from source: MACAddress,
  to destination: MACAddress,
  tags: [VLANTag] = [],
  etherType: UInt16,
  payload: [UInt8]
) -> [UInt8] {
  var octets: [UInt8] = []
  octets.append(address: destination)
  octets.append(address: source)
  for tag in tags {
    octets.append(number: tag.protocolID)
    octets.append(number: tag.control)
  }
  octets.append(number: etherType)
  return octets + payload
}

/// A VXLAN header with a frame behind it (RFC 7348, section 5).
package func vxlanDatagram(vni: VNI, frame: [UInt8]) -> [UInt8] {
  var octets: [UInt8] = []
  octets.append(number: UInt32(0x0800_0000))
  octets.append(number: vni.rawValue << 8)
  return octets + frame
}
