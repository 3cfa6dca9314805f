/// What the outer headers of frames for a remote VTEP hold: what the kernel would look up for a
/// datagram.
package struct OuterPath: Hashable, Sendable {
  /// The Ethernet address of the underlay's device.
  package var source: MACAddress
  /// That of the next hop.
  package var destination: MACAddress
  /// The addresses of the two VTEPs, both IPv4.
  package var local: IPAddress
  package var remote: IPAddress
  /// The UDP port of the remote VTEP.
  package var port: UInt16
  /// What outer headers have where the frame inside does not say otherwise.
  package var trafficClass: UInt8
  package var hopLimit: UInt8
  /// Whether routers may not fragment the outer packets.
  package var forbidsFragments: Bool

  package init(
    source: MACAddress, destination: MACAddress, local: IPAddress, remote: IPAddress, port: UInt16,
    trafficClass: UInt8 = 0, hopLimit: UInt8 = 64, forbidsFragments: Bool = true
  ) {
    self.source = source
    self.destination = destination
    self.local = local
    self.remote = remote
    self.port = port
    self.trafficClass = trafficClass
    self.hopLimit = hopLimit
    self.forbidsFragments = forbidsFragments
  }

  /// Where the outer IPv4 and UDP headers are, and what is in UDP, from the Ethernet header on.
  static let network = EthernetHeader.byteCount
  static let transport = network + IPv4Header.minimumByteCount
  static let payload = transport + UDPHeader.byteCount

  /// Whether both addresses are IPv4, as the headers are.
  var isIPv4: Bool { !local.isIPv6 && !remote.isIPv6 }

  /// Writes Ethernet, IPv4 and UDP headers over `payload` zeros, and leaves those where frames
  /// differ: lengths, source port and checksums.
  func writeHeaders(to start: UnsafeMutableRawPointer) {
    unsafe EthernetHeader.write(
      destination: destination, source: source, etherType: .ipv4, to: start)
    let network = unsafe start + Self.network
    unsafe network.setBig16(0, 0x4500 | UInt16(trafficClass))
    unsafe network.setBig16(6, forbidsFragments ? 0x4000 : 0)
    unsafe network.setBig16(8, UInt16(hopLimit) << 8 | UInt16(IPProtocol.udp.rawValue))
    unsafe network.setBig32(12, UInt32(truncatingIfNeeded: local.low))
    unsafe network.setBig32(16, UInt32(truncatingIfNeeded: remote.low))
    unsafe (start + Self.transport).setBig16(2, port)
  }
}
