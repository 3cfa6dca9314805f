// What a port with `port_security` may send, looked at where a frame comes in, before anybody
// learns from it. Frames of tunnels have been looked at where they came from.
//
// - From the Ethernet and IP addresses that it was given, and no others: in the headers, and where
//   ARP and neighbor discovery tell them. Who has no address yet may ask for one (DHCP from
//   0.0.0.0), and whether one that it was given is somebody else's (ARP from 0.0.0.0, RFC 5227;
//   neighbor solicitations from ::, RFC 4862), and for routers and groups.
// - Never from a gateway's address, and never as a DHCP server, nor router advertisements and
//   redirects (RFC 4861; of ICMPv4 RFC 1256 and RFC 792).
// - Nothing that hides from this what it is: RFC 7113 and CVE-2021-27853 and following list what
//   others were got past by. A fragment that is the first shows what it carries, extension headers
//   come to an end, and behind VLAN tags there is no LLC/SNAP header.
//
// A superframe is one packet here, as all of its segments have its headers. What is asked for with
// a frame is not done before this, so that a checksum is not written over what was looked at: where
// it would go is looked at, too.

extension SourceRules {
  /// Why a port may not send a frame; `nil` where it may.
  ///
  /// - Parameters:
  ///   - frame: An admitted frame, its own tag taken out.
  ///   - layout: Its layout.
  ///   - offload: What is still to be done to it.
  ///   - number: The port's rule.
  /// - Returns: The first reason.
  @inline(never)
  func refusal(
    of frame: RawSpan, _ layout: FrameLayout, _ offload: Offload, by number: Int32
  ) -> DropReason? {
    let rule = self[number]
    let header = EthernetHeader(known: frame)
    if header.source == rule.gatewayStation { return .gatewayAddress }
    guard mayUse(header.source, rule) else { return .macNotAllowed }
    let (offset, type) = (layout.networkOffset, layout.etherType)
    if type.isVLAN { return .hiddenHeaders }
    let packet = frame.dropping(offset)
    // Bytes of it that were looked at.
    var examined = 0
    var reason: DropReason?
    switch type {
    case .ipv4: reason = refusal(ofIPv4: packet, rule, &examined)
    case .ipv6: reason = refusal(ofIPv6: packet, layout, offload, rule, &examined)
    case .arp: reason = refusal(ofARP: packet, rule, &examined)
    default:
      // A length, and LLC with SNAP behind it, by which some read IP and ARP as well (RFC 1042).
      let isLength = type.rawValue < 0x0600
      if isLength, packet.byteCount >= 2, packet.big16(0) & 0xFEFE == 0xAAAA {
        return .hiddenHeaders
      }
      // A checksum written there could make one of them of something else.
      if isLength { examined = 8 }
    }
    if let reason { return reason }
    guard offload.needsChecksum else { return nil }
    let place = Int(offload.checksumStart) &+ Int(offload.checksumOffset)
    return place < offset &+ examined ? .malformedOffload : nil
  }

  private func refusal(
    ofIPv4 packet: RawSpan, _ rule: borrowing Rule, _ examined: inout Int
  ) -> DropReason? {
    guard let header = IPv4Header(packet) else { return .hiddenHeaders }
    examined = header.headerLength
    let source = header.source
    let owner = owner(of: source, rule)
    if owner == .gateway { return .gatewayAddress }
    // Later fragments have no ports, and cannot change those of the first.
    guard header.transport == .udp || header.transport == .icmp, header.fragmentOffset == 0 else {
      return owner == .port ? nil : .ipNotAllowed
    }
    if header.transport == .icmp {
      guard header.payload.byteCount >= 4 else { return .hiddenHeaders }
      examined &+= 2
      let type = header.payload.octet(0)
      if type == ICMP.routerAdvertisement || type == ICMP.redirect { return .routerAdvertisement }
      return owner == .port ? nil : .ipNotAllowed
    }
    guard let ports = UDPHeader.ports(header.payload) else { return .hiddenHeaders }
    examined &+= UDPHeader.checksumOffset
    // A client looks at no more than that it is the port of clients.
    if ports.source == DHCP.serverPort || ports.destination == DHCP.clientPort {
      return .dhcpServer
    }
    if owner == .port { return nil }
    let asksForAnAddress =
      source.isUnspecified && ports.source == DHCP.clientPort
      && ports.destination == DHCP.serverPort && !header.isFragment
    return asksForAnAddress ? nil : .ipNotAllowed
  }

  private func refusal(
    ofIPv6 packet: RawSpan, _ layout: FrameLayout, _ offload: Offload, _ rule: borrowing Rule,
    _ examined: inout Int
  ) -> DropReason? {
    guard layout.isIP, let header = IPv6Header(packet) else { return .hiddenHeaders }
    examined = layout.transportOffset &- layout.networkOffset
    let owner = owner(of: header.source, rule)
    if owner == .gateway { return .gatewayAddress }
    guard !layout.isLaterFragment else { return owner == .port ? nil : .ipNotAllowed }
    let payload = header.payload.dropping(examined &- IPv6Header.byteCount)
    switch layout.transport {
    case .hopByHop, .routing, .destinationOptions, .fragment: return .hiddenHeaders
    case .udp:
      guard let ports = UDPHeader.ports(payload) else { return .hiddenHeaders }
      examined &+= UDPHeader.checksumOffset
      if ports.source == DHCP.serverPortIPv6 || ports.destination == DHCP.clientPortIPv6 {
        return .dhcpServer
      }
    case .icmpv6:
      guard payload.byteCount >= 4 else { return .hiddenHeaders }
      examined &+= 2
      return refusal(ofICMPv6: packet, type: payload.octet(0), isOwn: owner == .port, offload, rule)
    default: break
    }
    return owner == .port ? nil : .ipNotAllowed
  }

  private func refusal(
    ofICMPv6 packet: RawSpan, type: UInt8, isOwn: Bool, _ offload: Offload, _ rule: borrowing Rule
  ) -> DropReason? {
    let isNobodys = IPv6Header(packet)?.source.isUnspecified == true
    guard let kind = NeighborDiscoveryMessage.Kind(rawValue: type) else {
      if type == NeighborDiscoveryMessage.redirect { return .routerAdvertisement }
      // Who has no address yet says so what groups it listens to (RFC 3810, section 5.2.13).
      let isReport = type == 131 || type == 132 || type == 143
      return isOwn || (isReport && isNobodys) ? nil : .ipNotAllowed
    }
    guard kind != .routerAdvertisement else { return .routerAdvertisement }
    guard isOwn || (isNobodys && kind != .neighborAdvertisement) else { return .ipNotAllowed }
    // One that receivers would not take is none that somebody sends for good.
    guard !offload.needsChecksum, !offload.isSuperframe,
      let message = NeighborDiscoveryMessage(packet), !message.hasOtherLinkLayerAddress
    else { return .neighborNotAllowed }
    if let address = message.linkLayerAddress {
      if address == rule.gatewayStation { return .gatewayAddress }
      guard mayUse(address, rule) else { return .neighborNotAllowed }
    }
    guard kind == .neighborAdvertisement || (kind == .neighborSolicitation && isNobodys) else {
      return nil
    }
    return refusal(ofClaim: message.target, otherwise: .neighborNotAllowed, rule)
  }

  private func refusal(
    ofARP packet: RawSpan, _ rule: borrowing Rule, _ examined: inout Int
  ) -> DropReason? {
    guard let arp = ARPPacket(packet) else { return .hiddenHeaders }
    examined = ARPPacket.byteCount
    if arp.senderHardware == rule.gatewayStation { return .gatewayAddress }
    guard mayUse(arp.senderHardware, rule) else { return .arpNotAllowed }
    // A probe tells by its target which address its sender means to have (RFC 5227, section 2.1.1).
    let isProbe = arp.operation == .request && arp.senderProtocol.isUnspecified
    return refusal(
      ofClaim: isProbe ? arp.targetProtocol : arp.senderProtocol, otherwise: .arpNotAllowed, rule)
  }

  /// Why a port may not say that it has an address.
  private func refusal(
    ofClaim address: IPAddress, otherwise reason: DropReason, _ rule: borrowing Rule
  ) -> DropReason? {
    switch owner(of: address, rule) {
    case .port: nil
    case .gateway: .gatewayAddress
    case .somebodyElse: reason
    }
  }
}

/// Types of ICMPv4 messages that routers send to hosts (RFC 792; RFC 1256, section 3).
private enum ICMP {
  static let redirect: UInt8 = 5
  static let routerAdvertisement: UInt8 = 9
}

/// The UDP ports of DHCP (RFC 2131, section 4.1; RFC 8415, section 7.2).
private enum DHCP {
  static let serverPort: UInt16 = 67
  static let clientPort: UInt16 = 68
  static let serverPortIPv6: UInt16 = 547
  static let clientPortIPv6: UInt16 = 546
}
