package import OVXDatapath

/// What a switch does to a frame and to the offload request that speaks of its bytes by offset.
extension PartialFrame {
  /// Inserts a tag behind the addresses.
  package mutating func insertTag(_ tag: VLANTag) {
    var octets: [UInt8] = []
    octets.append(number: tag.protocolID)
    octets.append(number: tag.control)
    bytes.insert(contentsOf: octets, at: 12)
    if offload.needsChecksum { offload.checksumStart &+= 4 }
    if offload.isSuperframe { offload.headerLength &+= 4 }
  }

  /// Takes the outermost tag out, which must be there.
  package mutating func removeTag() {
    bytes.removeSubrange(12..<16)
    if offload.needsChecksum { offload.checksumStart -= min(4, offload.checksumStart) }
    offload.headerLength -= min(4, offload.headerLength)
  }

  /// Whether a tag follows the addresses.
  package var hasTag: Bool {
    let type = bytes.number16(at: 12)
    return type == 0x8100 || type == 0x88A8
  }

  /// The tag that follows the addresses, if it is whole.
  package var firstTag: VLANTag? {
    guard hasTag, bytes.count >= 18, let type = bytes.number16(at: 12),
      let control = bytes.number16(at: 14)
    else { return nil }
    return VLANTag(control: control, protocolID: type)
  }

  /// Whether the sum that is asked for starts behind the Ethernet header and lands in the frame.
  package var hasPlausibleChecksumRequest: Bool {
    guard offload.needsChecksum else { return true }
    let start = Int(offload.checksumStart)
    return start >= 14 && start + Int(offload.checksumOffset) + 2 <= bytes.count
  }

  /// Whether the sum that is asked for starts in front of the network header, in a nested tag.
  ///
  /// Such a request is nonsense that an egress may refuse or pass on.
  package var hasDisputableChecksumRequest: Bool {
    guard offload.needsChecksum, !offload.isSuperframe else { return false }
    guard let anatomy = FrameAnatomy(bytes) else { return true }
    return Int(offload.checksumStart) < anatomy.network
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

  /// The most segments that the switch makes of one superframe.
  package static let segmentLimit = 1_400

  /// The frame for an egress whose IP packets have at most so many bytes.
  ///
  /// A TCP superframe is cut finer where its segments would be too large; nothing else can be
  /// helped.
  package func fitted(mtu: Int) -> Fit {
    guard offload.isSuperframe else {
      return bytes.count - 14 <= mtu ? .fitting(self) : .tooLarge
    }
    guard let anatomy = FrameAnatomy(bytes), let packet = anatomy.packet,
      let header = anatomy.transportHeaderLength(in: bytes), wireFrames != nil
    else {
      return .malformed(neededCapability.isEmpty ? .unsupportedOffload : .malformedOffload)
    }
    let headers = packet.transport + header
    let payload = packet.end - headers
    // A tag beside the frame is not counted, one inside of it is, as for any frame.
    let room = mtu + 14 - headers
    var result = self
    if min(Int(offload.segmentSize), payload) > room {
      guard packet.isTCP, room > 0 else { return .tooLarge }
      result.offload.segmentSize = UInt16(room)
    }
    return .fitting(result)
  }

  /// The number of segments that a superframe is cut into.
  package var segmentCount: Int {
    guard offload.isSuperframe, offload.segmentSize > 0, let anatomy = FrameAnatomy(bytes),
      let payload = anatomy.payload(in: bytes)
    else { return 1 }
    let size = Int(offload.segmentSize)
    return max(1, (payload.count + size - 1) / size)
  }

  /// What a frame that came out of a tunnel still needs, since no offload request came with it.
  ///
  /// A kernel VTEP leaves a TCP or UDP checksum at the pseudo-header's sum, and sends TCP
  /// superframes whole where the underlay lets it; another one may have a larger MTU, and then a
  /// right checksum. `nil` where a packet is larger than the MTU and cannot be cut.
  package func asArrived(mtu: Int) -> PartialFrame? {
    guard let anatomy = FrameAnatomy(bytes) else { return self }
    let isOversize = bytes.count - anatomy.network > mtu
    let asItIs = isOversize ? nil : self
    guard let packet = anatomy.packet, let field = anatomy.checksumField,
      let header = anatomy.transportHeaderLength(in: bytes)
    else { return asItIs }
    if packet.isUDP,
      bytes.number16(at: packet.transport + 4) != UInt16(packet.end - packet.transport)
    {
      return asItIs
    }
    var result = self
    let pseudo = anatomy.pseudoHeaderSum(in: bytes)
    let isPartial = bytes.number16(at: field) == pseudo
    if isPartial || isOversize {
      result.offload.flags = .needsChecksum
      result.offload.checksumStart = UInt16(packet.transport)
      result.offload.checksumOffset = UInt16(field - packet.transport)
    }
    guard isOversize else { return result }
    let headers = packet.transport + header
    let room = mtu - (headers - anatomy.network)
    guard packet.isTCP, packet.end == bytes.count, room > 0, headers < bytes.count,
      isPartial || anatomy.hasRightChecksum(in: bytes) == true
    else { return nil }
    if let pseudo { result.bytes.setNumber(pseudo, at: field) }
    result.offload.segmentation = packet.isIPv6 ? .tcp6 : .tcp4
    result.offload.segmentSize = UInt16(room)
    result.offload.headerLength = UInt16(headers)
    return result
  }
}
