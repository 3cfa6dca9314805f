import OVXSimulation
import Testing

@testable import OVXDatapath

/// What a port with port security may send, and what each thing that it may not is dropped for.
@Suite struct PortSecurityTests {
  private static let own = MACAddress(truncating: 0x0200_0000_0001)
  private static let other = MACAddress(truncating: 0x0200_0000_0002)
  private static let extra = MACAddress(truncating: 0x0000_5E00_0107)
  private static let gatewayStation = MACAddress(truncating: 0x026F_7600_0064)
  private static let gateway = IPAddress(v4: 0x0A00_00FE)
  private static let nobody = IPAddress(v6High: 0, low: 0)
  private static let everybody = IPAddress(v6High: 0xFF02_0000_0000_0000, low: 1)
  private static let toAll = MACAddress(truncating: 0x3333_0000_0001)

  private static func v4(_ number: UInt32) -> IPAddress { IPAddress(v4: 0x0A00_0000 | number) }
  private static func v6(_ number: UInt64) -> IPAddress {
    IPAddress(v6High: 0xFD00_0000_0000_0000, low: number)
  }

  private static func whole(_ ip: IPAddress) -> PortSecurity.Prefix {
    PortSecurity.Prefix(base: ip, length: 128)
  }

  /// The container has 10.0.0.1 and fd00::1, and may have 10.0.0.8/29 and 00:00:5e:00:01:07
  /// besides.
  private static let security = PortSecurity(
    stations: [own, extra],
    addresses: [whole(v4(1)), whole(v6(1)), PortSecurity.Prefix(base: v4(8), length: 29)],
    gateways: [gateway], gatewayStation: gatewayStation)

  private func bench(
    _ security: PortSecurity?, vlans: VLANMembership = access100
  ) throws -> Bench {
    var secure = device(0, vlans)
    secure.security = security
    return Bench(
      topology([secure, device(5, vlans), try tunnel(1, vni: 100, vlans, remotes: [remoteA])]))
  }

  /// Why a frame is dropped; `nil` where it goes on.
  private func fate(
    _ bytes: [UInt8], offload: Offload = .none, tag: VLANTag = .none,
    _ security: PortSecurity = security, vlans: VLANMembership = access100
  ) throws -> DropReason? {
    let bench = try bench(security, vlans: vlans)
    let sent = bench.receive(bytes, from: 0, offload: offload, tag: tag)
    let counters = bench.counters(0)
    let reasons = DropReason.allCases.filter { counters[$0] > 0 }
    #expect(sent.isEmpty == !reasons.isEmpty && reasons.count <= 1)
    #expect(
      bench.addresses().isEmpty == !reasons.isEmpty, "nobody learns from what is refused")
    return reasons.first
  }

  // MARK: Frames

  private static func ipv4(
    _ source: IPAddress, from station: MACAddress = own, ports: (UInt16, UInt16)? = nil,
    fragment: UInt16 = 0, payload: [UInt8] = [1, 2, 3, 4], options: [UInt8] = []
  ) -> [UInt8] {
    var plan = PacketPlan(from: station, to: .broadcast)
    plan.isTCP = ports == nil
    plan.ipOptions = options
    (plan.sourcePort, plan.destinationPort) = ports ?? (40000, 80)
    plan.payload = payload
    var frame = plan.frame
    frame.setNumber(UInt32(truncatingIfNeeded: source.low), at: 26)
    frame.setNumber(fragment, at: 20)
    FrameAnatomy(frame)?.fillChecksums(in: &frame)
    return frame
  }

  /// ICMPv4 of a type; `nil` for a packet that ends before it.
  private static func ipv4(
    _ source: IPAddress, icmp type: UInt8?, fragment: UInt16 = 0
  ) -> [UInt8] {
    var frame = ipv4(source, ports: (0, 0), fragment: fragment, payload: [0, 0, 0, 0])
    frame[23] = 1
    if let type {
      frame[34] = type
    } else {
      frame.setNumber(UInt16(20), at: 16)
    }
    FrameAnatomy(frame)?.fillChecksums(in: &frame)
    return frame
  }

  private static func ipv6(
    _ source: IPAddress, from station: MACAddress = own, next: UInt8 = 6,
    _ payload: [UInt8] = [UInt8](repeating: 0, count: 20)
  ) -> [UInt8] {
    var frame: [UInt8] = []
    frame.append(address: toAll)
    frame.append(address: station)
    frame += [0x86, 0xDD, 0x60, 0, 0, 0]
    frame.append(number: UInt16(payload.count))
    frame += [next, 255]
    for ip in [source, everybody] {
      frame.append(number: ip.high)
      frame.append(number: ip.low)
    }
    return frame + payload
  }

  private static func arp(
    _ operation: UInt16, _ sender: IPAddress, for target: IPAddress, hardware: MACAddress = own
  ) -> [UInt8] {
    arpOctets(
      operation: operation, from: hardware, sender, to: MACAddress(truncating: 0), target,
      source: own)
  }

  private static func advertisement(
    of target: IPAddress, at station: MACAddress = own, from source: IPAddress = v6(1),
    options: [MACAddress]? = nil
  ) -> [UInt8] {
    var message: [UInt8] = [136, 0, 0, 0, 0x20, 0, 0, 0]
    message.append(number: target.high)
    message.append(number: target.low)
    for option in options ?? [station] {
      message += [2, 1]
      message.append(address: option)
    }
    return ndOctets(from: own, source, to: toAll, everybody, message: message)
  }

  /// A solicitation in nobody's name (RFC 4862).
  private static func duplicateQuestion(_ target: IPAddress) -> [UInt8] {
    var message: [UInt8] = [135, 0, 0, 0, 0, 0, 0, 0]
    message.append(number: target.high)
    message.append(number: target.low)
    let group = 0x0000_0001_FF00_0000 | target.low & 0xFF_FFFF
    return ndOctets(
      from: own, nobody, to: MACAddress(truncating: 0x3333_0000_0000 | group & 0xFFFF_FFFF),
      IPAddress(v6High: 0xFF02_0000_0000_0000, low: group), message: message)
  }

  private static func icmp(
    _ type: UInt8, from source: IPAddress, _ rest: [UInt8] = [UInt8](repeating: 0, count: 12),
    extensions: [UInt8] = []
  ) -> [UInt8] {
    ndOctets(
      from: own, source, to: toAll, everybody, message: [type, 0, 0, 0] + rest,
      extensions: extensions)
  }

  private static func fragmentHeader(next: UInt8, offset: UInt16, isLast: Bool) -> [UInt8] {
    [next, 0, UInt8(offset >> 8), UInt8(offset & 0xF8) | (isLast ? 0 : 1), 0, 0, 0, 9]
  }

  /// A message behind a fragment header that says that it is whole (RFC 6946).
  private static func wholeFragment(_ type: UInt8, from source: IPAddress) -> [UInt8] {
    let message: [UInt8] = [type, 0, 0, 0] + [UInt8](repeating: 0, count: 20)
    return ipv6(source, next: 44, fragmentHeader(next: 58, offset: 0, isLast: true) + message)
  }

  /// A frame of 802.3 with a length in the place of a type.
  private static func logicalLink(_ payload: [UInt8]) -> [UInt8] {
    Array(frame(to: 9, from: 1)[..<12]) + [0, UInt8(payload.count)] + payload
  }

  /// ARP in the name of another, behind SNAP.
  private static let snap: [UInt8] =
    [0xAA, 0xAA, 3, 0, 0, 0, 8, 6] + Array(arp(2, v4(2), for: v4(7))[14...])

  private static let shortFragment: [UInt8] = {
    var frame = ipv4(v4(1), ports: (67, 68), fragment: 0x2000)
    frame.setNumber(UInt16(24), at: 16)
    return frame
  }()

  // MARK: What may be sent

  private static let honest: [(String, [UInt8])] = [
    ("TCP", ipv4(v4(1))), ("UDP", ipv4(v4(1), ports: (4000, 53))),
    ("an allowed address", ipv4(v4(9))), ("an allowed station", ipv4(v4(1), from: extra)),
    ("IPv6", ipv6(v6(1))), ("link-local", ipv6(own.linkLocal)),
    ("link-local of an allowed station", ipv6(extra.linkLocal, from: extra)),
    ("DHCP from nobody", ipv4(IPAddress(v4: 0), ports: (68, 67))),
    ("DHCP, renewed", ipv4(v4(1), ports: (68, 67))),
    ("DHCPv6 from link-local", ipv6(own.linkLocal, next: 17, [2, 0x22, 2, 0x23, 0, 8, 0, 1])),
    ("a question", arp(1, v4(1), for: gateway)), ("an answer", arp(2, v4(1), for: v4(7))),
    ("an answer of an allowed address", arp(2, v4(10), for: v4(7), hardware: extra)),
    ("a probe", arp(1, IPAddress(v4: 0), for: v4(1))),
    ("duplicate address detection", duplicateQuestion(v6(1))),
    ("the same for link-local", duplicateQuestion(own.linkLocal)),
    ("a solicitation", neighborQuestion(for: v6(2), from: own, v6(1))),
    ("an advertisement", advertisement(of: v6(1))),
    ("an advertisement without an address", advertisement(of: v6(1), options: [])),
    ("router solicitation from nobody", icmp(133, from: nobody, [0, 0, 0, 0])),
    ("router solicitation", icmp(133, from: own.linkLocal, [0, 0, 0, 0, 1, 1] + own.octets)),
    ("MLD from nobody", icmp(143, from: nobody, extensions: [0])),
    ("MLD", icmp(143, from: own.linkLocal, extensions: [0])), ("ping", icmp(128, from: v6(1))),
    ("first fragment of UDP", ipv4(v4(1), ports: (4000, 53), fragment: 0x2000)),
    ("later fragment", ipv4(v4(1), ports: (67, 68), fragment: 0x2003)),
    (
      "later fragment of IPv6",
      ipv6(v6(1), next: 44, fragmentHeader(next: 58, offset: 64, isLast: true) + [134, 0, 0, 0])
    ),
    (
      "first fragment of IPv6",
      ipv6(v6(1), next: 44, fragmentHeader(next: 58, offset: 0, isLast: false) + [128, 0, 0, 0])
    ),
    ("something else", frame(to: 9, from: 1)),
    ("LLC", logicalLink([0x42, 0x42, 3, 0, 0, 0, 0, 0])),
  ]

  @Test(arguments: honest)
  func whatAContainerSends(name: String, bytes: [UInt8]) throws {
    #expect(try fate(bytes) == nil, "\(name)")
  }

  // MARK: What may not

  private static let spoofed: [(String, [UInt8], DropReason)] = [
    ("another station", frame(to: 9, from: 2), .macNotAllowed),
    ("the gateway's station", ipv4(v4(1), from: gatewayStation), .gatewayAddress),
    ("another IPv4", ipv4(v4(2)), .ipNotAllowed),
    ("beside the prefix", ipv4(v4(16)), .ipNotAllowed),
    ("nobody's IPv4", ipv4(IPAddress(v4: 0)), .ipNotAllowed),
    ("another UDP from nobody", ipv4(IPAddress(v4: 0), ports: (68, 69)), .ipNotAllowed),
    (
      "DHCP from nobody in fragments",
      ipv4(IPAddress(v4: 0), ports: (68, 67), fragment: 0x2000), .ipNotAllowed
    ),
    ("the gateway", ipv4(gateway), .gatewayAddress),
    ("another IPv6", ipv6(v6(2)), .ipNotAllowed),
    ("another link-local", ipv6(other.linkLocal), .ipNotAllowed),
    ("the gateway's link-local", ipv6(gatewayStation.linkLocal), .gatewayAddress),
    ("TCP from ::", ipv6(nobody), .ipNotAllowed),
    ("ping from ::", icmp(128, from: nobody), .ipNotAllowed),
    ("another's later fragment", ipv4(v4(2), fragment: 0x2003), .ipNotAllowed),
    ("an answer for another", arp(2, v4(2), for: v4(7)), .arpNotAllowed),
    ("an answer at another", arp(2, v4(1), for: v4(7), hardware: other), .arpNotAllowed),
    ("an answer for the gateway", arp(2, gateway, for: v4(7)), .gatewayAddress),
    ("an answer of nobody", arp(2, IPAddress(v4: 0), for: v4(1)), .arpNotAllowed),
    ("a probe for another's", arp(1, IPAddress(v4: 0), for: v4(2)), .arpNotAllowed),
    ("an advertisement of another", advertisement(of: v6(2)), .neighborNotAllowed),
    ("of the gateway", advertisement(of: gatewayStation.linkLocal), .gatewayAddress),
    ("at another", advertisement(of: v6(1), at: other), .neighborNotAllowed),
    ("at two", advertisement(of: v6(1), options: [own, other]), .neighborNotAllowed),
    ("from another", advertisement(of: v6(1), from: v6(2)), .ipNotAllowed),
    ("from nobody", advertisement(of: v6(1), from: nobody), .ipNotAllowed),
    ("in a whole fragment", wholeFragment(136, from: v6(1)), .neighborNotAllowed),
    ("in nobody's name for another", duplicateQuestion(v6(2)), .neighborNotAllowed),
    ("a question at another", neighborQuestion(for: v6(2), from: other, v6(1)), .macNotAllowed),
    ("a DHCP server", ipv4(v4(1), ports: (67, 68)), .dhcpServer),
    ("a DHCP server by another port", ipv4(v4(1), ports: (4000, 68)), .dhcpServer),
    ("a DHCP relay", ipv4(v4(1), ports: (67, 67)), .dhcpServer),
    ("behind options", ipv4(v4(1), ports: (67, 68), options: [1, 1, 1, 0]), .dhcpServer),
    ("in a first fragment", ipv4(v4(1), ports: (67, 68), fragment: 0x2000), .dhcpServer),
    ("in a first fragment that ends early", shortFragment, .hiddenHeaders),
    ("a DHCPv6 server", ipv6(v6(1), next: 17, [2, 0x23, 2, 0x22, 0, 8, 0, 1]), .dhcpServer),
    ("by another port", ipv6(v6(1), next: 17, [9, 9, 2, 0x22, 0, 8, 0, 1]), .dhcpServer),
    (
      "behind extension headers",
      ipv6(v6(1), next: 60, [17, 0, 1, 4, 0, 0, 0, 0, 2, 0x23, 2, 0x22, 0, 8, 0, 1]), .dhcpServer
    ),
    ("a router advertisement of ICMPv4", ipv4(v4(1), icmp: 9), .routerAdvertisement),
    ("in a first fragment", ipv4(v4(1), icmp: 9, fragment: 0x2000), .routerAdvertisement),
    ("a redirect of ICMPv4", ipv4(v4(1), icmp: 5), .routerAdvertisement),
    ("ICMPv4 without a type", ipv4(v4(1), icmp: nil), .hiddenHeaders),
    ("another's ping", ipv4(v4(2), icmp: 8), .ipNotAllowed),
    ("a router advertisement", icmp(134, from: own.linkLocal), .routerAdvertisement),
    ("a redirect", icmp(137, from: own.linkLocal), .routerAdvertisement),
    (
      "behind extension headers", icmp(134, from: own.linkLocal, extensions: [0, 60]),
      .routerAdvertisement
    ),
    ("in a whole fragment", wholeFragment(134, from: own.linkLocal), .routerAdvertisement),
    (
      "behind nine headers",
      icmp(134, from: own.linkLocal, extensions: [60, 60, 60, 60, 60, 60, 60, 60, 60]),
      .hiddenHeaders
    ),
    (
      "in a first fragment",
      ipv6(
        own.linkLocal, next: 44,
        fragmentHeader(next: 58, offset: 0, isLast: false) + [134, 0, 0, 0]),
      .routerAdvertisement
    ),
    (
      "behind options of a first fragment",
      ipv6(
        own.linkLocal, next: 44,
        fragmentHeader(next: 60, offset: 0, isLast: false) + [58, 0, 1, 4, 0, 0, 0, 0]),
      .hiddenHeaders
    ),
    (
      "behind a first fragment's end",
      ipv6(own.linkLocal, next: 44, fragmentHeader(next: 58, offset: 0, isLast: false)),
      .hiddenHeaders
    ),
    (
      "behind a header that is too long", ipv6(own.linkLocal, next: 60, [58, 9, 1, 4, 0, 0, 0, 0]),
      .hiddenHeaders
    ),
    ("ARP of another hardware", arpOfKind6, .hiddenHeaders),
    ("ARP behind SNAP", logicalLink(snap), .hiddenHeaders),
    ("half an ARP", Array(arp(2, v4(2), for: v4(7))[..<40]), .hiddenHeaders),
    ("half an IPv4 header", Array(ipv4(v4(2))[..<30]), .hiddenHeaders),
  ]

  private static let arpOfKind6: [UInt8] = {
    var frame = arp(2, v4(1), for: v4(7))
    frame[15] = 6
    return frame
  }()

  @Test(arguments: spoofed)
  func whatAContainerDoesNotSend(name: String, bytes: [UInt8], reason: DropReason) throws {
    #expect(try fate(bytes) == reason, "\(name)")
    // Behind a priority tag all is the same, whether it is in the frame or the kernel has taken it
    // out.
    let tagged = Array(bytes[..<12]) + [0x81, 0, 0xE0, 0] + Array(bytes[12...])
    #expect(try fate(tagged) == reason, "\(name), tagged")
    #expect(try fate(bytes, tag: VLANTag(control: 0xE000)) == reason, "\(name), tagged beside")
    // So it is behind a customer's tag.
    let customer = VLANMembership.dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8)
    #expect(try fate(tagged, vlans: customer) == reason, "\(name), of a customer")
    // Without a rule it goes.
    let sent = try bench(nil).receive(bytes, from: 0)
    #expect(!sent.isEmpty, "\(name)")
  }

  @Test func tagsComeToAnEnd() throws {
    let bytes = Self.ipv4(Self.v4(2))
    var tagged = bytes
    for _ in 0..<4 { tagged.insert(contentsOf: [0x81, 0, 0, 0], at: 12) }
    let customer = VLANMembership.dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8)
    #expect(try fate(tagged, vlans: customer) == .hiddenHeaders)
  }

  // MARK: What is asked for with a frame

  @Test func aSuperframeIsLookedAtOnce() throws {
    for isIPv6 in [false, true] {
      var plan = PacketPlan(from: Self.own, to: Self.other)
      plan.isIPv6 = isIPv6
      plan.payload = [UInt8](repeating: 1, count: 4000)
      let honest = plan.superframe(segmentSize: 1000)
      #expect(try fate(honest.bytes, offload: honest.offload) == nil)
      plan.sourceHost = 3
      let spoofed = plan.superframe(segmentSize: 1000)
      #expect(try fate(spoofed.bytes, offload: spoofed.offload) == .ipNotAllowed)
      (plan.isTCP, plan.sourceHost, plan.sourcePort) = (false, 1, isIPv6 ? 547 : 67)
      let server = plan.superframe(segmentSize: 1000)
      #expect(try fate(server.bytes, offload: server.offload) == .dhcpServer)
    }
  }

  @Test func noChecksumIsWrittenOverWhatWasLookedAt() throws {
    func fate(_ bytes: [UInt8], start: UInt16, offset: UInt16) throws -> DropReason? {
      var offload = Offload(flags: .needsChecksum)
      (offload.checksumStart, offload.checksumOffset) = (start, offset)
      return try self.fate(bytes, offload: offload)
    }
    let packet = Self.ipv4(Self.v4(1), ports: (4000, 53))
    // The source address, the ports and the length; then the checksum and the payload.
    for place in [26, 28, 34, 36, 38, 39] as [UInt16] {
      #expect(try fate(packet, start: 14, offset: place - 14) == .malformedOffload, "\(place)")
    }
    #expect(try fate(packet, start: 34, offset: 6) == nil)
    let ping = Self.icmp(128, from: Self.v6(1))
    #expect(try fate(ping, start: 54, offset: 0) == .malformedOffload, "its type")
    #expect(try fate(ping, start: 54, offset: 2) == nil)
    let question = Self.arp(1, Self.v4(1), for: Self.v4(7))
    #expect(try fate(question, start: 14, offset: 14) == .malformedOffload, "its sender")
    let neighbor = Self.advertisement(of: Self.v6(1))
    #expect(try fate(neighbor, start: 54, offset: 2) == .neighborNotAllowed)
  }

  @Test func aBurstIsLookedAtFrameByFrame() throws {
    let bench = try bench(Self.security)
    let frames = [
      Self.ipv4(Self.v4(1)), Self.ipv4(Self.v4(2)), Self.ipv4(Self.v4(9)), Self.ipv4(Self.gateway),
    ]
    let sent = bench.receive(burst: frames, from: 0)
    #expect(sent.count { $0.port.rawValue == 5 } == 2)
    #expect(bench.counters(0)[.ipNotAllowed] == 1)
    #expect(bench.counters(0)[.gatewayAddress] == 1)
  }

  // MARK: Other rules

  @Test func whoIsBoundToNothingIsStillNoRouter() throws {
    let unbound = PortSecurity(gateways: [Self.gateway], gatewayStation: Self.gatewayStation)
    for (name, bytes, reason) in Self.spoofed {
      let expected: DropReason?
      switch reason {
      case .macNotAllowed, .ipNotAllowed, .arpNotAllowed: expected = nil
      case .neighborNotAllowed where name != "at two" && name != "in a whole fragment":
        expected = nil
      default: expected = reason
      }
      #expect(try fate(bytes, unbound) == expected, "\(name)")
    }
  }

  @Test func anotherPortAndATunnelAreLeftAlone() throws {
    let bench = try bench(Self.security)
    #expect(!bench.receive(Self.ipv4(Self.v4(2), from: Self.other), from: 5).isEmpty)
    let datagram = vxlan(100, Self.icmp(134, from: Self.other.linkLocal))
    #expect(!bench.receiveDatagrams(datagram, from: remoteA).isEmpty)
  }

  @Test func aRuleIsAnotherFromOneBurstToTheNext() throws {
    let bench = try bench(nil)
    let spoofed = Self.ipv4(Self.v4(2))
    #expect(!bench.receive(spoofed, from: 0).isEmpty)
    var secure = device(0, access100)
    secure.security = Self.security
    bench.apply(topology([secure, device(5, access100)]))
    #expect(bench.receive(spoofed, from: 0).isEmpty)
    secure.security?.addresses?.append(Self.whole(Self.v4(2)))
    bench.apply(topology([secure, device(5, access100)]))
    #expect(!bench.receive(spoofed, from: 0).isEmpty)
  }

  @Test func linkLocalAddressesAreMadeOfEthernetAddresses() {
    #expect("\(MACAddress(truncating: 0x5254_0012_3456).linkLocal)" == "fe80::5054:ff:fe12:3456")
  }
}
