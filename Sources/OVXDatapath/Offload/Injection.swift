// Superframes that leave for a remote VTEP as they are.
//
// A train of datagrams costs a copy, a checksum and a VXLAN header for each segment, on both hosts,
// and a kernel VTEP at the other end takes each datagram on its own. Where the underlay's device
// segments tunnels itself, one frame with one outer header does: it is put on that device by way of
// an *injector*, a TAP whose traffic control redirects what is written to it, with a virtio-net
// header that says what is inside (Linux 6.17).

/// The number of an injector: one for each device of the underlay that superframes leave by.
package struct InjectorID: RawRepresentable, Hashable, BitwiseCopyable, Sendable {
  package let rawValue: UInt16
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let limit = 32
}

/// How superframes are injected for a remote VTEP.
package struct Injection: Hashable, Sendable {
  package var injector: InjectorID
  package var outer: OuterPath
  /// The source ports of the peer's sockets, in their order.
  ///
  /// A superframe has that of the socket which sends the flow's other frames: both take the same
  /// way.
  package var sourcePorts: [UInt16]

  package init(injector: InjectorID, outer: OuterPath, sourcePorts: [UInt16]) {
    self.injector = injector
    self.outer = outer
    self.sourcePorts = sourcePorts
  }
}

/// What precedes an injected superframe, with zeros where superframes differ.
///
/// A virtio-net header with its extension for UDP tunnels (`struct virtio_net_hdr_v1_hash_tunnel`
/// of Linux 6.17, little-endian, 24 bytes), then outer Ethernet, IPv4 and UDP headers. The VXLAN
/// header comes behind.
///
/// The outer UDP checksum is 0: there is none (RFC 7348, section 5). The checksum inside is the
/// device's to fill in.
package struct InjectionHeader: BitwiseCopyable {
  /// Bytes with the VXLAN header.
  package static let byteCount = outer + outerLength
  /// Bytes of it that the kernel calls the virtio-net header.
  package static let kernelByteCount = outer
  /// Where the datagram's payload begins: the VXLAN header.
  package static let payloadOffset = outer + OuterPath.payload
  /// Where the outer Ethernet header is.
  private static let outer = 24
  private static let network = outer + OuterPath.network
  private static let transport = outer + OuterPath.transport
  /// Outer Ethernet, IPv4, UDP and VXLAN headers together.
  private static let outerLength = payloadOffset - outer + VXLANHeader.byteCount

  /// The longest inner frame: with its outer headers it stays below 65,536 bytes, the kernel's
  /// `gso_max_size`.
  package static let frameLimit = 65_535 - outerLength

  private var words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) =
    (0, 0, 0, 0, 0, 0, 0, 0, 0)
  var injector: InjectorID
  /// The sum of the outer IPv4 header.
  private var networkSum = InternetSum()

  /// Makes one; `nil` for addresses that are not IPv4.
  package init?(_ injection: Injection) {
    guard injection.outer.isIPv4 else { return nil }
    injector = injection.injector
    unsafe withUnsafeMutableBytes(of: &words) { bytes in
      guard let start = bytes.baseAddress else { return }
      // Where the outer UDP header and the inner IP header are, from the outer Ethernet header on.
      unsafe start.storeBytes(
        of: UInt16(Self.transport - Self.outer).littleEndian, toByteOffset: 20, as: UInt16.self)
      unsafe start.storeBytes(
        of: UInt16(Self.outerLength + EthernetHeader.byteCount).littleEndian, toByteOffset: 22,
        as: UInt16.self)
      unsafe injection.outer.writeHeaders(to: start + Self.outer)
      unsafe networkSum.add(start + Self.network, count: IPv4Header.minimumByteCount)
    }
  }

  /// A small superframe with all its headers, addressed to nobody: to find out whether a kernel
  /// takes it.
  package static var probe: [UInt8] {
    let segmentSize = 100
    var packet = [UInt8](repeating: 0, count: 14 + 20 + 20 + 3 * segmentSize)
    packet[5] = 1
    packet[0] = 2
    packet[6] = 2
    packet[12] = 8
    packet[14] = 0x45
    packet[17] = UInt8(truncatingIfNeeded: packet.count - 14)
    packet[16] = UInt8(truncatingIfNeeded: (packet.count - 14) >> 8)
    packet[22] = 1
    packet[23] = IPProtocol.tcp.rawValue
    packet[46] = 5 << 4
    packet[47] = TCPHeader.Flags.ack.rawValue
    let nobody = MACAddress(truncating: 0x0200_0000_0001)
    let injection = Injection(
      injector: InjectorID(rawValue: 0),
      outer: OuterPath(
        source: nobody, destination: nobody, local: IPAddress(v4: 0xC000_0201),
        remote: IPAddress(v4: 0xC000_0202), port: 4789),
      sourcePorts: [])
    let offload = Offload(
      flags: .needsChecksum, segmentation: .tcp4, headerLength: 54,
      segmentSize: UInt16(segmentSize), checksumStart: 34, checksumOffset: 16)
    let superframe = unsafe packet.withUnsafeBytes { bytes in
      unsafe bytes.baseAddress.flatMap {
        unsafe Superframe($0, count: bytes.count, offload: offload)
      }
    }
    guard let superframe, let header = InjectionHeader(injection) else { return [] }
    var bytes = [UInt8](repeating: 0, count: byteCount)
    unsafe bytes.withUnsafeMutableBytes { place in
      guard let start = place.baseAddress else { return }
      unsafe withUnsafeBytes(of: UInt64(8).littleEndian) { vxlan in
        guard let vxlan = vxlan.baseAddress else { return }
        unsafe header.write(
          to: start, superframe, count: packet.count, segmentSize: segmentSize, hasCWR: false,
          sourcePort: 49152, outer: .plain, vxlanHeader: vxlan)
      }
    }
    return bytes + packet
  }

  /// Whether a superframe can leave whole.
  ///
  /// The kernel expects an untagged TCP superframe whose checksum is to be filled in. Of UDP it
  /// would be one that no other VTEP could cut again, since nothing on the wire tells where.
  @inline(__always)
  static func suits(_ superframe: Superframe, count: Int, offload: Offload) -> Bool {
    !superframe.isUDP && offload.needsChecksum && count <= frameLimit
      && superframe.networkOffset == EthernetHeader.byteCount
  }

  /// Writes the headers of one superframe: `byteCount` bytes.
  @inline(__always)
  func write(
    to place: UnsafeMutableRawPointer, _ superframe: Superframe, count: Int, segmentSize: Int,
    hasCWR: Bool, sourcePort: UInt16, outer: OuterHeader, vxlanHeader: UnsafeRawPointer
  ) {
    unsafe place.storeBytes(of: words, as: type(of: words))
    // A UDP tunnel over IPv4: VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4.
    let kind =
      (superframe.isIPv6 ? Offload.Segmentation.tcp6 : .tcp4).rawValue | 0x20
      | (hasCWR ? 0x80 : 0)
    let request = Offload(
      flags: .needsChecksum, segmentation: Offload.Segmentation(rawValue: kind),
      headerLength: UInt16(truncatingIfNeeded: Self.outerLength &+ superframe.headerLength),
      segmentSize: UInt16(truncatingIfNeeded: segmentSize),
      checksumStart: UInt16(truncatingIfNeeded: Self.outerLength &+ superframe.transportOffset),
      checksumOffset: Superframe.checksumOffset(isUDP: false))
    unsafe place.storeBytes(of: request, as: Offload.self)
    let datagramLength = UInt16(
      truncatingIfNeeded: UDPHeader.byteCount &+ VXLANHeader.byteCount &+ count)
    let packetLength = datagramLength &+ UInt16(IPv4Header.minimumByteCount)
    var sum = networkSum
    sum.add(UInt64(packetLength))
    if outer != .plain { unsafe setOuter(outer, at: place + Self.network, &sum) }
    unsafe (place + Self.network).setBig16(2, packetLength)
    unsafe (place + Self.network).setBig16(10, sum.checksum)
    unsafe (place + Self.transport).setBig16(0, sourcePort)
    unsafe (place + Self.transport).setBig16(4, datagramLength)
    unsafe (place + Self.payloadOffset).copyMemory(
      from: vxlanHeader, byteCount: VXLANHeader.byteCount)
  }
}

extension InjectionHeader {
  /// Puts in what the frame inside says of the outer IPv4 header.
  private func setOuter(
    _ outer: OuterHeader, at network: UnsafeMutableRawPointer, _ sum: inout InternetSum
  ) {
    if outer.trafficClass != 0 {
      sum.subtract(unsafe network.big16(0))
      unsafe network.setBig16(0, 0x4500 | UInt16(outer.trafficClass))
      sum.add(UInt64(unsafe network.big16(0)))
    }
    if outer.hopLimit != 0 {
      sum.subtract(unsafe network.big16(8))
      unsafe network.setBig16(8, UInt16(outer.hopLimit) << 8 | UInt16(IPProtocol.udp.rawValue))
      sum.add(UInt64(unsafe network.big16(8)))
    }
  }
}

extension Datapath {
  /// Lets a superframe leave whole; `false` where it has to be cut.
  @unsafe mutating func inject(
    _ superframe: Superframe, _ start: UnsafeRawPointer, count: Int, offload: Offload,
    segmentSize: Int, id: PortID, peer: CompiledTopology.Peer, path: UnderlaySocketID,
    outer: OuterHeader
  ) -> Bool {
    guard peer.firstInjectionPort != .max,
      InjectionHeader.suits(superframe, count: count, offload: offload)
    else { return false }
    let header = unsafe tables.injectionHeaders.address(of: Int(peer.injectionHeader))
    let injector = unsafe header.pointee.injector
    guard stoppedInjectors & 1 << UInt32(injector.rawValue & 31) == 0 else { return false }
    if egress.isFull || !egress.hasScratch(InjectionHeader.byteCount) { flush() }
    let place = unsafe egress.scratchStart()
    let port = peer.firstInjectionPort &+ path.rawValue &- peer.firstPath
    unsafe header.pointee.write(
      to: place, superframe, count: count, segmentSize: segmentSize,
      hasCWR: offload.segmentation != offload.segmentation.kind,
      sourcePort: tables.injectionPorts[Int(port)], outer: outer,
      vxlanHeader: tables.vxlanHeader(of: id))
    egress.useScratch(InjectionHeader.byteCount)
    let frameCount = superframe.segmentCount(segmentSize: segmentSize)
    counters.sent(
      byteCount: count &+ (frameCount &- 1) &* superframe.headerLength, frames: frameCount, to: id)
    unsafe egress.addInjected(
      place, frame: start, count: count, frameCount: frameCount, port: id, path: path,
      outer: outer, injector: injector)
    return true
  }

  /// Cuts what would leave by an injector from now on, until the next change of topology: it does
  /// not work any more.
  package mutating func stopInjecting(by injector: InjectorID) {
    stoppedInjectors |= 1 << UInt32(injector.rawValue & 31)
  }
}
