package import OVXDatapath

/// What a switch does to a frame and to the offload request that speaks of its bytes by offset.
extension PartialFrame {
  /// Inserts a tag behind the addresses.
  package mutating func insertTag(_ tag: VLANTag) {
    var octets: [UInt8] = []
    octets.append(number: tag.protocolID)
    octets.append(number: tag.control)
    bytes.insert(contentsOf: octets, at: 12)
    if offload.needsChecksum { offload.checksumStart += 4 }
    if offload.isSuperframe { offload.headerLength += 4 }
  }

  /// Takes the outermost tag out, which must be there.
  package mutating func removeTag() {
    bytes.removeSubrange(12..<16)
    if offload.needsChecksum { offload.checksumStart -= min(4, offload.checksumStart) }
    offload.headerLength -= min(4, offload.headerLength)
  }

  /// Whether the sum that is asked for starts behind the Ethernet header and its tags, and lands in the frame.
  package var hasPlausibleChecksumRequest: Bool {
    guard offload.needsChecksum else { return true }
    guard let anatomy = FrameAnatomy(bytes) else { return false }
    let start = Int(offload.checksumStart)
    return start >= anatomy.network && start + Int(offload.checksumOffset) + 2 <= bytes.count
  }

  /// What a device has to be able to do to take the superframe whole.
  package var neededCapability: OffloadCapabilities {
    switch offload.segmentation.kind {
    case .tcp4: .tcp4
    case .tcp6: .tcp6
    case .udp: .udp
    default: []
    }
  }

  /// How a frame fares at an egress of some MTU.
  package enum Fit {
    case fitting(PartialFrame)
    case tooLarge
    case malformed(DropReason)
  }

  /// The frame for an egress whose IP packets have at most so many bytes.
  ///
  /// A TCP superframe is cut finer where its segments would be too large; nothing else can be helped.
  package func fitted(mtu: Int) -> Fit {
    guard offload.isSuperframe else {
      return bytes.count - 14 <= mtu ? .fitting(self) : .tooLarge
    }
    guard wireFrames != nil, let anatomy = FrameAnatomy(bytes), let packet = anatomy.packet,
      let header = anatomy.transportHeaderLength(in: bytes)
    else { return .malformed(.malformedOffload) }
    let headers = packet.transport + header
    let room = mtu + 14 - headers
    let largest = min(Int(offload.segmentSize), bytes.count - headers)
    if largest <= room { return .fitting(self) }
    guard packet.isTCP, room > 0 else { return .tooLarge }
    var result = self
    result.offload.segmentSize = UInt16(room)
    return .fitting(result)
  }

  /// What a frame that came out of a tunnel still needs, since no offload request came with it.
  ///
  /// A kernel VTEP leaves a TCP or UDP checksum at the pseudo-header's sum, and sends TCP superframes whole where the
  /// underlay lets it. `nil` where a packet larger than the MTU cannot be cut.
  package func asArrived(mtu: Int) -> PartialFrame? {
    var result = self
    guard let anatomy = FrameAnatomy(bytes), let packet = anatomy.packet,
      let field = anatomy.checksumField, let header = anatomy.transportHeaderLength(in: bytes)
    else { return bytes.count - 14 <= mtu ? self : nil }
    let isPartial = bytes.number16(at: field) == anatomy.pseudoHeaderSum(in: bytes)
    if isPartial {
      result.offload.flags = .needsChecksum
      result.offload.checksumStart = UInt16(packet.transport)
      result.offload.checksumOffset = UInt16(field - packet.transport)
    }
    if packet.end - anatomy.network > mtu {
      guard packet.isTCP else { return nil }
      result.offload.segmentation = packet.isIPv6 ? .tcp6 : .tcp4
      result.offload.segmentSize = UInt16(max(1, mtu + 14 - packet.transport - header))
      result.offload.headerLength = UInt16(packet.transport + header)
    }
    return result
  }
}
