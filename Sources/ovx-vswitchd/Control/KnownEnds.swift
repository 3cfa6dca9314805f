internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

// What the switch knows of who is behind a port and of who has an address, for
// `trace PORT to ADDRESS`.

extension SwitchQueries {
  /// The frame that who is behind a port would send towards an address.
  ///
  /// A ping, or what the words say; to a station that nobody has told of, the question for it.
  ///
  /// - Throws: What is not known and has to be named.
  func frame(
    from port: String, to address: IPAddress, _ words: String
  ) throws(ControlError) -> TracedFrame {
    guard let bridge = configuration.ports[port]?.bridge else {
      throw ControlError("no port named \(port)")
    }
    let known = knownNeighbors(on: bridge)
    let family = known.filter { $0.ip.isIPv6 == address.isIPv6 }
    let own = addresses(behind: port, family).filter { $0.address.isIPv6 == address.isIPv6 }
    let near = own.first { $0.contains(address) } ?? own.first
    guard let mac = mac(behind: port, near?.address, family) else {
      throw ControlError(
        "the switch has not seen who is behind port \(port); have it send something, or name the frame: "
          + "trace \(bridge) \(port) icmp,src=MAC,ip_src=ADDRESS,ip_dst=\(address)")
    }
    if !words.isEmpty { _ = try TracedFrame(words) }
    guard let source = near else {
      throw ControlError(
        "no address of who is behind port \(port) (\(mac)) is known; name the frame: "
          + "trace \(bridge) \(port) icmp,src=\(mac),ip_src=ADDRESS,ip_dst=\(address)")
    }
    let isNear = source.contains(address)
    let gateway = configuration.ports[port]?.interface.attachment?.gateways
      .first { $0.isIPv6 == address.isIPv6 }
    let next = isNear ? address : gateway ?? address
    let isIPv6 = address.isIPv6
    var description = "src=\(mac),ip_src=\(source.address),"
    if let destination = self.mac(of: next, on: bridge, family) {
      description =
        (isIPv6 ? "icmp6," : "icmp,") + description + "dst=\(destination),ip_dst=\(address)"
      if !words.isEmpty {
        description =
          words + ",src=\(mac),dst=\(destination),ip_src=\(source.address),ip_dst=\(address)"
      }
    } else if isIPv6 {
      // The solicited-node group of the target (RFC 4291, section 2.7.1), and its Ethernet address
      // (RFC 2464, section 7).
      let low = UInt32(truncatingIfNeeded: next.low & 0xFF_FFFF)
      let hex = { (number: UInt32) in
        String(repeating: "0", count: number < 16 ? 1 : 0) + String(number, radix: 16)
      }
      let bytes = [low >> 16 & 0xFF, low >> 8 & 0xFF, low & 0xFF].map(hex)
      description =
        "icmp6,icmpv6_type=135,nd_target=\(next)," + description
        + "dst=33:33:ff:\(bytes.joined(separator: ":")),"
        + "ip_dst=ff02::1:ff\(bytes[0]):\(bytes[1])\(bytes[2])"
    } else {
      description = "arp," + description + "dst=ff:ff:ff:ff:ff:ff,ip_dst=\(next)"
    }
    return try TracedFrame(description)
  }

  /// The addresses of who is behind a port.
  private func addresses(
    behind port: String, _ known: [KnownNeighbor]
  ) -> [OVXControl.InterfaceAddress] {
    var interface = Show.Interface(name: port)
    var peers = VethPeers(running.kernel)
    interface.type = configuration.ports[port]?.interface.type
    fill(&interface, of: port, &peers)
    // Of what was overheard the length of the prefix is not known: all is near.
    return (interface.addresses ?? [])
      + known.filter { $0.port == reconciler.port(port) }.compactMap {
        OVXControl.InterfaceAddress("\($0.ip)/0")
      }
  }

  private func mac(
    behind port: String, _ address: IPAddress?, _ known: [KnownNeighbor]
  ) -> MACAddress? {
    let interface = configuration.ports[port]?.interface
    if interface?.attachment != nil || interface?.type == .internal {
      return link(of: port)?.address
    }
    if let told = known.first(where: { $0.port == reconciler.port(port) && $0.ip == address }) {
      return told.address
    }
    guard let bridge = configuration.ports[port]?.bridge else { return nil }
    return knownAddresses(on: bridge).first { $0.port == reconciler.port(port) }?.address
  }

  /// The Ethernet address of who has an address on a bridge.
  private func mac(
    of address: IPAddress, on bridge: String, _ known: [KnownNeighbor]
  ) -> MACAddress? {
    if let told = known.first(where: { $0.ip == address }) { return told.address }
    for port in configuration.ports(of: bridge) {
      let attachment = port.interface.attachment
      if attachment?.addresses.contains(where: { $0.address == address }) == true {
        return link(of: port.name)?.address
      }
      if port.interface.type == .internal, let link = link(of: port.name),
        running.kernel.addresses(of: link).contains(where: { $0.address == address })
      {
        return link.address
      }
    }
    return nil
  }
}
