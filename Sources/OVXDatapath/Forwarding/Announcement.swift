/// What a station tells of itself unasked: that it has an IP address.
package struct Announcement: Equatable, Sendable {
  package var ip: IPAddress
  package var address: MACAddress
  /// Whether it is a router, which only IPv6 tells.
  package var isRouter: Bool

  package init(ip: IPAddress, address: MACAddress, isRouter: Bool) {
    self.ip = ip
    self.address = address
    self.isRouter = isRouter
  }
}

extension IPAddress {
  /// All nodes of a link, ff02::1 (RFC 4291, section 2.7.1).
  fileprivate static let allNodes = IPAddress(v6High: 0xFF02_0000_0000_0000, low: 1)
}

extension MACAddress {
  /// Where packets to `allNodes` go (RFC 2464, section 7).
  fileprivate static let allNodes = MACAddress(truncating: 0x3333_0000_0001)
}

extension Datapath {
  /// Tells the segment of a port, on all hosts, which address a station there has, as if the
  /// station had.
  ///
  /// By an ARP announcement (RFC 5227, section 3) or an unsolicited neighbor advertisement (RFC
  /// 4861, section 7.2.6), which the frame path takes as any frame of the port's device. Nothing is
  /// sent, nor counted as lost, where the port is not in service or nobody else is in the segment.
  ///
  /// - Parameters:
  ///   - announcement: What to tell.
  ///   - port: The device's port.
  ///   - isRepetition: Whether it was told before: what others have told since then counts more.
  package mutating func announce(
    _ announcement: Announcement, on port: PortID, isRepetition: Bool
  ) {
    guard tables.ports.contains(port),
      tables.ports[port].role == .device
    else { return }
    unsafe originate(upTo: 128) {
      unsafe Self.write(announcement, to: $0)
    } _: {
      (datapath, start, count) in
      unsafe datapath.announce(
        announcement, in: start, count: count, on: port, isRepetition: isRepetition)
    }
  }

  /// The same with the frame that tells it.
  @unsafe private mutating func announce(
    _ announcement: Announcement, in start: UnsafeMutableRawPointer, count: Int, on port: PortID,
    isRepetition: Bool
  ) {
    let record = tables.ports[port]
    let untouched = unsafe Frame(
      start, count: count, offload: .none, from: Destination(port: port), group: record.group)
    var frame = untouched
    guard admit(&frame) == nil else { return }
    let key = NeighborKey(vlan: frame.vlan, address: announcement.ip)
    if isRepetition,
      let known = neighbors.lookUp(key, in: record.bridge),
      known.address != announcement.address || known.port != port
    {
      return
    }
    guard hasOthers(than: port, vlan: frame.vlan, bridge: record.bridge) else { return }
    frame = untouched
    process(&frame)
  }

  /// Writes the frame, of at most 86 bytes; returns their number.
  @unsafe private static func write(
    _ announcement: Announcement, to start: UnsafeMutableRawPointer
  ) -> Int {
    let (ip, address) = (announcement.ip, announcement.address)
    unsafe EthernetHeader.write(
      destination: ip.isIPv6 ? .allNodes : .broadcast, source: address,
      etherType: ip.isIPv6 ? .ipv6 : .arp, to: start)
    let packet = unsafe start + EthernetHeader.byteCount
    guard ip.isIPv6 else {
      unsafe ARPPacket.write(
        operation: .request, senderHardware: address, senderProtocol: ip,
        targetHardware: MACAddress(truncating: 0), targetProtocol: ip, to: packet)
      return EthernetHeader.byteCount + ARPPacket.byteCount
    }
    unsafe NeighborDiscoveryMessage.writeAdvertisement(
      of: ip, at: address, isRouter: announcement.isRouter, isSolicited: false, to: .allNodes,
      memory: packet)
    return EthernetHeader.byteCount + NeighborDiscoveryMessage.advertisementByteCount
  }

  /// Whether what is flooded from a port would reach anybody.
  private func hasOthers(than port: PortID, vlan: VLANID, bridge: BridgeID) -> Bool {
    let members = tables.flooding(vlan: vlan, bridge: bridge)
    return (Int(members.first)..<Int(members.first &+ members.count)).contains { member in
      let id = tables.floodMembers[member]
      let record = tables.ports[id]
      return id != port && (record.role == .device || record.floodPeerCount > 0)
    }
  }
}
