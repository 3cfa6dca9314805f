package import OVXDatapath

/// A frame to be traced: what was typed, as bytes, and how it comes in.
package struct TracedFrame: Codable, Equatable, Sendable {
  /// From the Ethernet header on.
  package var bytes: [UInt8]
  /// For a superframe, the payload bytes per segment; checksums are to be filled in then.
  package var segmentSize: Int?
  /// On a tunnel port: the VTEP that it comes from.
  package var tunnelSource: IPAddress?
  /// On a tunnel port: the VNI that it comes with; the port's own where absent.
  package var vni: VNI?

  /// Bytes of a frame at most: a superframe of 64 KB of IP, with room for tags.
  package static let byteLimit = 65_535 + 14 + 12

  package init(
    bytes: [UInt8], segmentSize: Int? = nil, tunnelSource: IPAddress? = nil, vni: VNI? = nil
  ) {
    self.bytes = bytes
    self.segmentSize = segmentSize
    self.tunnelSource = tunnelSource
    self.vni = vni
  }

  private enum CodingKeys: String, CodingKey {
    case bytes, segmentSize, tunnelSource, vni
  }

  package init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: CodingKeys.self)
    let text = try members.decode(String.self, forKey: .bytes)
    guard let bytes = octets(hexadecimal: text), bytes.count <= Self.byteLimit else {
      throw DecodingError.dataCorruptedError(
        forKey: .bytes, in: members,
        debugDescription: "not up to \(Self.byteLimit) bytes as pairs of hexadecimal digits")
    }
    self.bytes = bytes
    segmentSize = try members.decodeIfPresent(Int.self, forKey: .segmentSize)
    guard segmentSize.map({ 1...65_535 ~= $0 }) ?? true else {
      throw DecodingError.dataCorruptedError(
        forKey: .segmentSize, in: members, debugDescription: "not in the range 1 to 65535")
    }
    tunnelSource = try members.decodeIfPresent(IPAddress.self, forKey: .tunnelSource)
    vni = try members.decodeIfPresent(VNI.self, forKey: .vni)
  }

  package func encode(to encoder: any Encoder) throws {
    var members = encoder.container(keyedBy: CodingKeys.self)
    try members.encode(hexadecimal(bytes), forKey: .bytes)
    try members.encodeIfPresent(segmentSize, forKey: .segmentSize)
    try members.encodeIfPresent(tunnelSource, forKey: .tunnelSource)
    try members.encodeIfPresent(vni, forKey: .vni)
  }
}

extension TracedFrame {
  /// Reads the frame of `ovx-ctl trace`.
  ///
  /// Either hexadecimal digits, or a description after the flow syntax of ovs-fields(7): words and
  /// `key=value` pairs, separated by commas or spaces. A protocol is named by its word (`arp`,
  /// `icmp`, `tcp`, `udp`, ...); keys that the frame has no place for are refused.
  ///
  /// - Throws: Which word is wrong, and the valid ones.
  package init(_ text: String) throws(ControlError) {
    let digits = text.filter { !" ,:.-\n\t".contains($0) }
    let bare = digits.hasPrefix("0x") ? String(digits.dropFirst(2)) : digits
    if !bare.isEmpty, bare.allSatisfy(\.isHexDigit) {
      guard let bytes = octets(hexadecimal: bare) else {
        throw ControlError(
          "the frame has \(bare.count) hexadecimal digits; each byte takes two")
      }
      try self.init(hexadecimal: bytes)
      return
    }
    let description = try FrameDescription(text)
    var frame = TracedFrame(bytes: [])
    frame.tunnelSource = description.tunnelSource
    frame.vni = description.vni
    frame.segmentSize = description.segmentSize
    frame.bytes = try description.bytes()
    self = frame
  }

  /// The keys of a description, one line each, for people.
  package static var grammar: String { FrameDescription.grammar }

  private init(hexadecimal bytes: [UInt8]) throws(ControlError) {
    guard bytes.count <= Self.byteLimit else {
      throw ControlError("the frame has \(bytes.count) bytes; \(Self.byteLimit) are the most")
    }
    self.init(bytes: bytes)
  }
}

/// The words of a frame's description, read and not yet put together.
struct FrameDescription {
  /// What stands behind the Ethernet header.
  enum Kind: String, CaseIterable {
    case arp, ip, ipv6, icmp, icmp6, tcp, tcp6, udp, udp6, sctp, sctp6
  }

  var kind: Kind?
  var source: MACAddress?
  var destination: MACAddress?
  /// The outermost first.
  var vlans: [VLANID] = []
  var priority: UInt8 = 0
  var tagProtocol: UInt16?
  var etherType: UInt16?
  var sourceIP: IPAddress?
  var destinationIP: IPAddress?
  var sourcePort: UInt16?
  var destinationPort: UInt16?
  var ipProtocol: UInt8?
  var timeToLive: UInt8?
  var typeOfService: UInt8?
  var tcpFlags: UInt8?
  var operation: UInt16?
  var senderHardware: MACAddress?
  var targetHardware: MACAddress?
  var icmpType: UInt8?
  var icmpCode: UInt8?
  var neighbor: IPAddress?
  var size: Int?
  var segmentSize: Int?
  var tunnelSource: IPAddress?
  var vni: VNI?
  /// A whole frame in hexadecimal digits, in place of everything but where it comes from.
  var wholeFrame: [UInt8]?

  /// The keys that were given, by their first names.
  private(set) var given: [String] = []

  /// A key, and the names that Open vSwitch has for it.
  private struct Key {
    var names: [String]
    /// The kinds of frame that have a place for it; all where empty.
    var kinds: Set<Kind> = []
    var read: (inout FrameDescription, String) -> Bool
    var valid: String
  }

  private static let ip: Set<Kind> = [
    .ip, .ipv6, .icmp, .icmp6, .tcp, .tcp6, .udp, .udp6, .sctp, .sctp6,
  ]
  private static let transport: Set<Kind> = [.tcp, .tcp6, .udp, .udp6, .sctp, .sctp6]

  private static var keys: [Key] {
    [
      Key(names: ["src", "dl_src", "eth_src"], read: store(\.source, MACAddress.init), valid: mac),
      Key(
        names: ["dst", "dl_dst", "eth_dst"], read: store(\.destination, MACAddress.init),
        valid: mac),
      Key(
        names: ["vlan", "dl_vlan", "vlan_vid"],
        read: { description, text in
          guard let number = UInt16(text), let vlan = VLANID(rawValue: number),
            description.vlans.count < 3
          else { return false }
          description.vlans.append(vlan)
          return true
        }, valid: "0 to 4095, three times at most, the outermost first"),
      Key(
        names: ["pcp", "dl_vlan_pcp", "vlan_pcp"],
        read: store(\.priority) { number($0, 0...7) }, valid: "0 to 7"),
      Key(
        names: ["tpid"], read: store(\.tagProtocol) { number($0, 0...0xFFFF) },
        valid: "0x8100 or 0x88a8"),
      Key(
        names: ["type", "dl_type", "eth_type"],
        read: store(\.etherType) { number($0, 0...0xFFFF) }, valid: "0x0000 to 0xffff"),
      Key(
        names: ["ip_src", "nw_src", "ipv6_src", "arp_spa"], kinds: ip.union([.arp]),
        read: store(\.sourceIP, IPAddress.init), valid: address),
      Key(
        names: ["ip_dst", "nw_dst", "ipv6_dst", "arp_tpa"], kinds: ip.union([.arp]),
        read: store(\.destinationIP, IPAddress.init), valid: address),
      Key(
        names: ["sport", "tp_src", "tcp_src", "udp_src", "sctp_src"], kinds: transport,
        read: store(\.sourcePort) { number($0, 0...65535) }, valid: "0 to 65535"),
      Key(
        names: ["dport", "tp_dst", "tcp_dst", "udp_dst", "sctp_dst"], kinds: transport,
        read: store(\.destinationPort) { number($0, 0...65535) }, valid: "0 to 65535"),
      Key(
        names: ["proto", "nw_proto", "ip_proto"], kinds: [.ip, .ipv6],
        read: store(\.ipProtocol) { number($0, 0...255) }, valid: "0 to 255"),
      Key(
        names: ["ttl", "nw_ttl"], kinds: ip, read: store(\.timeToLive) { number($0, 0...255) },
        valid: "0 to 255"),
      Key(
        names: ["tos", "nw_tos"], kinds: ip, read: store(\.typeOfService) { number($0, 0...255) },
        valid: "0 to 255"),
      Key(
        names: ["flags", "tcp_flags"], kinds: [.tcp, .tcp6],
        read: store(\.tcpFlags, flags), valid: "a number, or names like syn+ack"),
      Key(
        names: ["arp_op", "op"], kinds: [.arp],
        read: store(\.operation) {
          $0 == "request" ? 1 : $0 == "reply" ? 2 : number($0, 0...0xFFFF)
        }, valid: "request, reply or a number"),
      Key(
        names: ["arp_sha"], kinds: [.arp], read: store(\.senderHardware, MACAddress.init),
        valid: mac),
      Key(
        names: ["arp_tha"], kinds: [.arp], read: store(\.targetHardware, MACAddress.init),
        valid: mac),
      Key(
        names: ["icmp_type", "icmpv6_type"], kinds: [.icmp, .icmp6],
        read: store(\.icmpType) { number($0, 0...255) }, valid: "0 to 255"),
      Key(
        names: ["icmp_code", "icmpv6_code"], kinds: [.icmp, .icmp6],
        read: store(\.icmpCode) { number($0, 0...255) }, valid: "0 to 255"),
      Key(
        names: ["nd_target"], kinds: [.icmp6], read: store(\.neighbor, IPAddress.init),
        valid: "an IPv6 address"),
      Key(
        names: ["size"], read: store(\.size) { number($0, 14...TracedFrame.byteLimit) },
        valid: "the bytes of the frame, 14 to \(TracedFrame.byteLimit)"),
      Key(
        names: ["segment", "mss", "gso_size"], kinds: [.tcp, .tcp6, .udp, .udp6],
        read: store(\.segmentSize) { number($0, 1...65535) },
        valid: "the payload bytes per segment of a superframe, 1 to 65535"),
      Key(
        names: ["tun_src", "remote", "tun_ipv6_src"], read: store(\.tunnelSource, IPAddress.init),
        valid: address),
      Key(
        names: ["tun_id", "vni", "key"],
        read: store(\.vni) { number($0, 0...VNI.max).flatMap(VNI.init(rawValue:)) },
        valid: "0 to 16777215"),
      Key(
        names: ["hex", "packet"], read: store(\.wholeFrame, octets(hexadecimal:)),
        valid: "pairs of hexadecimal digits"),
    ]
  }

  private static let mac = "an Ethernet address like 02:00:00:00:00:01"
  private static let address = "an IPv4 or IPv6 address"

  /// The keys, one line each.
  static var grammar: String {
    keys.map { key in
      let aliases = key.names.dropFirst()
      return "  " + key.names[0].padded(to: 10) + key.valid
        + (aliases.isEmpty ? "" : " (also \(aliases.joined(separator: ", ")))")
    }.joined(separator: "\n")
  }

  private static func store<Value>(
    _ path: WritableKeyPath<FrameDescription, Value?>, _ read: @escaping (String) -> Value?
  ) -> (inout FrameDescription, String) -> Bool {
    { description, text in
      guard let value = read(text) else { return false }
      description[keyPath: path] = value
      return true
    }
  }

  private static func store<Value>(
    _ path: WritableKeyPath<FrameDescription, Value>, _ read: @escaping (String) -> Value?
  ) -> (inout FrameDescription, String) -> Bool {
    { description, text in
      guard let value = read(text) else { return false }
      description[keyPath: path] = value
      return true
    }
  }

  init(_ text: String) throws(ControlError) {
    var pairs: [(key: Key, text: String)] = []
    let words = text.split { $0 == "," || $0.isWhitespace }.map(String.init)
    guard !words.isEmpty else {
      throw ControlError(
        "the frame is empty; describe it like arp,src=02:00:00:00:00:01,ip_src=10.0.0.1,ip_dst=10.0.0.2, "
          + "or give its bytes in hexadecimal digits")
    }
    for word in words {
      let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = parts[0].lowercased()
      guard parts.count == 2 else {
        try takeWord(name)
        continue
      }
      guard let key = Self.keys.first(where: { $0.names.contains(name) }) else {
        throw ControlError(
          "a frame has no \"\(printable(String(parts[0])))\"; valid are "
            + Self.keys.map { $0.names[0] }.joined(separator: ", "))
      }
      guard !given.contains(key.names[0]) || key.names[0] == "vlan" else {
        throw ControlError("the frame's \(name) is given twice; leave one out")
      }
      guard key.read(&self, String(parts[1])) else {
        throw ControlError(
          "the frame's \(name)=\(printable(String(parts[1]))) is not valid; it is \(key.valid)")
      }
      given.append(key.names[0])
      pairs.append((key, name))
    }
    try settleKind()
    for (key, name) in pairs where !key.kinds.isEmpty {
      guard let kind, key.kinds.contains(kind) else {
        let kinds = Kind.allCases.filter(key.kinds.contains).map(\.rawValue)
        throw ControlError(
          "\(kind.map { "a frame of \($0.rawValue)" } ?? "a frame without a protocol") has no \(name); that belongs to "
            + kinds.joined(separator: ", "))
      }
    }
  }

  private mutating func takeWord(_ word: String) throws(ControlError) {
    guard let kind = Kind(rawValue: word == "icmpv6" ? "icmp6" : word) else {
      throw ControlError(
        "the frame's \"\(printable(word))\" is neither a protocol nor key=value; protocols are "
          + Kind.allCases.map(\.rawValue).joined(separator: ", "))
    }
    guard self.kind == nil else {
      throw ControlError(
        "the frame has two protocols, \(self.kind?.rawValue ?? "") and \(kind.rawValue); name one")
    }
    self.kind = kind
  }

  /// `tcp` between IPv6 addresses is `tcp6`.
  private mutating func settleKind() throws(ControlError) {
    let addresses = [sourceIP, destinationIP].compactMap(\.self)
    if kind == nil, !addresses.isEmpty {
      kind = addresses.contains(where: \.isIPv6) ? .ipv6 : .ip
    }
    if addresses.contains(where: \.isIPv6) {
      switch kind {
      case .ip: kind = .ipv6
      case .tcp: kind = .tcp6
      case .udp: kind = .udp6
      case .sctp: kind = .sctp6
      case .icmp: kind = .icmp6
      default: break
      }
    }
    for address in addresses where address.isIPv6 != (kind?.isIPv6 ?? false) {
      throw ControlError(
        "the frame is \(kind?.rawValue ?? ""), and \(address) is an address of the other family; "
          + "give both addresses of one family")
    }
    if let neighbor, !neighbor.isIPv6 {
      throw ControlError("the frame's nd_target=\(neighbor) is not valid; it is an IPv6 address")
    }
  }

  private static func number<Number: FixedWidthInteger>(
    _ text: String, _ range: ClosedRange<Number>
  ) -> Number? {
    let isHexadecimal = text.lowercased().hasPrefix("0x")
    guard
      let number = Number(
        isHexadecimal ? String(text.dropFirst(2)) : text,
        radix: isHexadecimal ? 16 : 10), range.contains(number)
    else { return nil }
    return number
  }

  private static let flagNames = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"]

  private static func flags(_ text: String) -> UInt8? {
    if let number: UInt8 = number(text, 0...255) { return number }
    var flags: UInt8 = 0
    for name in text.lowercased().split(whereSeparator: { "+|".contains($0) }) {
      guard let bit = flagNames.firstIndex(of: String(name)) else { return nil }
      flags |= 1 << UInt8(bit)
    }
    return flags
  }
}

extension FrameDescription.Kind {
  var isIPv6: Bool { self == .ipv6 || rawValue.hasSuffix("6") }
}

/// Reads pairs of hexadecimal digits, with nothing between them; `nil` where something else stands
/// there.
func octets(hexadecimal text: String) -> [UInt8]? {
  let digits = text.utf8.map { digit -> UInt8? in
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }
  guard digits.count.isMultiple(of: 2) else { return nil }
  var octets: [UInt8] = []
  octets.reserveCapacity(digits.count / 2)
  for index in stride(from: 0, to: digits.count, by: 2) {
    guard let high = digits[index], let low = digits[index + 1] else { return nil }
    octets.append(high << 4 | low)
  }
  return octets
}

/// Pairs of lower-case hexadecimal digits.
package func hexadecimal(_ octets: [UInt8]) -> String {
  let digits = Array("0123456789abcdef".utf8)
  var text: [UInt8] = []
  text.reserveCapacity(octets.count * 2)
  for octet in octets {
    text.append(digits[Int(octet >> 4)])
    text.append(digits[Int(octet & 15)])
  }
  return String(decoding: text, as: UTF8.self)
}

extension String {
  fileprivate func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(1, width - count))
  }
}
