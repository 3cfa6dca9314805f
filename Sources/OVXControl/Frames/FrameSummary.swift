internal import OVXDatapath

/// A frame or packet in one line, for a person:
/// `02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP who-has 10.0.0.2 tell 10.0.0.1, 42 bytes`.
///
/// Whatever the bytes are: what contradicts itself, or was cut off, is named by what could still be
/// read.
package struct FrameSummary: Sendable {
  package let text: String

  /// Summarises an Ethernet frame.
  ///
  /// - Parameters:
  ///   - bytes: From the Ethernet header on; may have been cut off.
  ///   - length: How long the frame was.
  package init(frame bytes: [UInt8], length: Int) {
    text = "\(Self.frame(bytes, depth: 0)), \(length) bytes"
  }

  /// Summarises an IP packet without a frame around it.
  package init(packet bytes: [UInt8], length: Int) {
    text = "\(Self.packet(bytes, depth: 0)), \(length) bytes"
  }

  /// UDP ports behind which a VXLAN header is looked for.
  private static let vxlanPort: UInt16 = 4789

  private static func frame(_ bytes: [UInt8], depth: Int) -> String {
    guard let header = EthernetHeader(unsafe bytes.span.bytes) else {
      return "a frame cut off in its Ethernet header"
    }
    var text = "\(header.source) > \(header.destination)"
    var offset = EthernetHeader.byteCount
    var type = header.etherType
    // Nobody stacks more tags than that; whoever does is shown the rest as a type.
    for _ in 0..<4 where type.isVLAN {
      let rest = Array(bytes.dropFirst(offset))
      guard let tag = VLANHeader(unsafe rest.span.bytes) else { break }
      text += ", vlan \(tag.vlan)" + (tag.priority > 0 ? " pcp \(tag.priority)" : "")
      type = tag.etherType
      offset += VLANHeader.byteCount
    }
    let rest = Array(bytes.dropFirst(offset))
    switch type {
    case .ipv4, .ipv6: return "\(text), \(packet(rest, depth: depth))"
    case .arp: return "\(text), \(arp(rest))"
    default:
      let number = String(type.rawValue, radix: 16)
      return type.rawValue < 0x600
        ? "\(text), 802.2 of \(type.rawValue) bytes"
        : "\(text), type 0x\(String(repeating: "0", count: 4 - number.count))\(number)"
    }
  }

  private static func arp(_ bytes: [UInt8]) -> String {
    guard let packet = ARPPacket(unsafe bytes.span.bytes) else { return "ARP, not understood" }
    switch packet.operation {
    case .request:
      return "ARP who-has \(packet.targetProtocol) tell \(packet.senderProtocol)"
    case .reply: return "ARP \(packet.senderProtocol) is-at \(packet.senderHardware)"
    default: return "ARP operation \(packet.operation.rawValue)"
    }
  }

  private static func packet(_ bytes: [UInt8], depth: Int) -> String {
    if bytes.first.map({ $0 >> 4 }) == 6 {
      guard let header = IPv6Header(unsafe bytes.span.bytes), let layer = header.upperLayer else {
        return "IPv6, cut off or broken"
      }
      let payload = Array(bytes.dropFirst(layer.offset))
      return transport(
        layer.transport, layer.isFragment ? nil : payload, from: header.source,
        to: header.destination, depth: depth)
    }
    guard let header = IPv4Header(unsafe bytes.span.bytes) else { return "IPv4, cut off or broken" }
    let payload = Array(bytes[header.headerLength..<header.totalLength])
    return transport(
      header.transport, header.isFragment ? nil : payload, from: header.source,
      to: header.destination, depth: depth)
  }

  /// Describes what an IP packet carries; `nil` stands for a fragment.
  private static func transport(
    _ number: IPProtocol, _ payload: [UInt8]?, from source: IPAddress, to destination: IPAddress,
    depth: Int
  ) -> String {
    let hosts = "\(source) > \(destination)"
    guard let payload else { return "\(hosts): a fragment of protocol \(number.rawValue)" }
    switch number {
    case .tcp:
      guard let header = TCPHeader(unsafe payload.span.bytes) else {
        return "\(hosts): TCP, broken"
      }
      let count = payload.count - header.headerLength
      return "\(source).\(header.sourcePort) > \(destination).\(header.destinationPort): TCP "
        + "[\(letters(of: header.flags))] seq \(header.sequence)"
        + (header.flags.contains(.ack) ? " ack \(header.acknowledgment)" : "")
        + " win \(header.window) payload \(count)"
    case .udp:
      guard let header = UDPHeader(unsafe payload.span.bytes) else {
        return "\(hosts): UDP, broken"
      }
      let ports = "\(source).\(header.sourcePort) > \(destination).\(header.destinationPort)"
      let data = Array(payload[UDPHeader.byteCount..<header.length])
      if header.destinationPort == vxlanPort, depth == 0,
        let vxlan = VXLANHeader(unsafe data.span.bytes), vxlan.hasVNI
      {
        let inner = Array(data.dropFirst(VXLANHeader.byteCount))
        return "\(ports): VXLAN vni \(vxlan.vni): \(frame(inner, depth: depth + 1))"
      }
      return "\(ports): UDP payload \(data.count)"
    case .icmp, .icmpv6:
      return "\(hosts): \(control(payload, isIPv6: number == .icmpv6))"
    default:
      return "\(hosts): protocol \(number.rawValue)"
    }
  }

  private static func control(_ bytes: [UInt8], isIPv6: Bool) -> String {
    let name = isIPv6 ? "ICMPv6" : "ICMP"
    guard bytes.count >= 4 else { return "\(name), broken" }
    let target =
      bytes.count >= 24 ? IPAddress(octets: bytes[8..<24]).map { " \($0)" } ?? "" : ""
    switch (isIPv6, bytes[0]) {
    case (false, 0), (true, 129): return "\(name) echo reply"
    case (false, 8), (true, 128): return "\(name) echo request"
    case (false, 3), (true, 1): return "\(name) unreachable, code \(bytes[1])"
    case (true, 2): return "\(name) packet too big"
    case (true, 135): return "\(name) neighbor solicitation, who has\(target)"
    case (true, 136): return "\(name) neighbor advertisement, target\(target)"
    case (true, 133): return "\(name) router solicitation"
    case (true, 134): return "\(name) router advertisement"
    default: return "\(name) type \(bytes[0]) code \(bytes[1])"
    }
  }

  private static func letters(of flags: TCPHeader.Flags) -> String {
    let names: [(TCPHeader.Flags, String)] = [
      (.syn, "S"), (.fin, "F"), (.rst, "R"), (.psh, "P"), (.ack, "."), (.urg, "U"), (.ece, "E"),
      (.cwr, "W"),
    ]
    let letters = names.filter { flags.contains($0.0) }.map(\.1).joined()
    return letters.isEmpty ? "none" : letters
  }
}
