internal import OVXDatapath

/// The headers that a datagram has outside, as far as a socket knows them.
///
/// Addresses, ports and lengths are those of the wire. What only the kernel knows is not: Ethernet
/// addresses and the identification are zero, a UDP checksum is not given, and where the socket
/// decides, the traffic class is 0 and the TTL is 64.
enum OuterHeaders {
  static func bytes(
    from source: IPAddress, _ sourcePort: UInt16, to target: IPAddress, _ targetPort: UInt16,
    payloadCount: Int, trafficClass: UInt8, hopLimit: UInt8 = 0
  ) -> [UInt8] {
    let hopLimit = hopLimit == 0 ? 64 : hopLimit
    let isIPv6 = source.isIPv6 || target.isIPv6
    var header = [UInt8](repeating: 0, count: 14 + (isIPv6 ? 40 : 20) + 8)
    let segment = UInt16(clamping: 8 + payloadCount)
    unsafe header.withUnsafeMutableBytes { bytes in
      guard let base = bytes.baseAddress else { return }
      let zero = MACAddress(truncating: 0)
      unsafe EthernetHeader.write(
        destination: zero, source: zero, etherType: isIPv6 ? .ipv6 : .ipv4, to: base)
      if isIPv6 {
        unsafe IPv6Header.write(
          trafficClass: trafficClass, payloadLength: segment, nextHeader: .udp, hopLimit: hopLimit,
          source: source, destination: target,
          to: base + 14)
      } else {
        unsafe IPv4Header.write(
          typeOfService: trafficClass, totalLength: UInt16(clamping: 28 + payloadCount),
          timeToLive: hopLimit, transport: .udp, source: source,
          destination: target, to: base + 14)
      }
      unsafe UDPHeader.write(
        sourcePort: sourcePort, destinationPort: targetPort, length: segment,
        to: base + bytes.count - 8)
    }
    return header
  }
}
