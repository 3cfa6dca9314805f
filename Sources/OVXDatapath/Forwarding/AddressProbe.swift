extension Datapath {
  /// Asks a segment, on all hosts, whether somebody has an address, in nobody's name.
  ///
  /// By an ARP probe (RFC 5227, section 2.1.1) or a neighbor solicitation as duplicate address
  /// detection sends it (RFC 4862, section 5.4.2). Who has the address answers, and is a neighbor
  /// of the bridge from then on. Before, whatever the bridge knew of that neighbor is forgotten, so
  /// that a station that has gone does not answer.
  ///
  /// - Parameters:
  ///   - address: What to ask for.
  ///   - vlan: The segment.
  ///   - bridge: The segment's bridge; nothing is asked where there is none.
  ///   - source: The Ethernet address that the question comes from, which no station has.
  package mutating func probe(
    _ address: IPAddress, vlan: VLANID, bridge: BridgeID, from source: MACAddress
  ) {
    guard hasBridge(bridge) else { return }
    forgetNeighbor(address, vlan: vlan, bridge: bridge)
    unsafe originate(upTo: 128) {
      unsafe Self.writeProbe(for: address, from: source, to: $0)
    } _: {
      (datapath, start, count) in
      unsafe datapath.sendToAll(start, count: count, vlan: vlan, bridge: bridge)
    }
  }

  /// Sends a frame to all of a segment.
  @unsafe private mutating func sendToAll(
    _ start: UnsafeMutableRawPointer, count: Int, vlan: VLANID, bridge: BridgeID
  ) {
    let members = tables.flooding(vlan: vlan, bridge: bridge)
    for member in Int(members.first)..<Int(members.first &+ members.count) {
      let id = tables.floodMembers[member]
      let port = tables.ports[id]
      switch port.role {
      case .device:
        unsafe send(start, count: count, vlan: vlan, to: Destination(port: id))
      case .tunnel:
        for place in Int(port.firstPeer)..<Int(port.firstPeer &+ port.peerCount) {
          let peer = tables.tunnelPeers[place]
          guard tables.peers[peer].takesFloods else { continue }
          unsafe send(
            start, count: count, vlan: vlan, to: Destination(port: id, peer: peer))
        }
      case .waiting, .absent: break
      }
    }
  }

  /// Who has told that an address of a segment is its own; `nil` where nobody is known to.
  package func neighbor(
    _ address: IPAddress, vlan: VLANID, bridge: BridgeID
  ) -> MACAddress? {
    guard hasBridge(bridge) else { return nil }
    return neighbors.lookUp(NeighborKey(vlan: vlan, address: address), in: bridge)?.address
  }

  @unsafe private mutating func send(
    _ start: UnsafeMutableRawPointer, count: Int, vlan: VLANID, to destination: Destination
  ) {
    var frame = unsafe Frame(
      start, count: count, offload: .none, from: Destination(port: .none), group: .none)
    frame.vlan = vlan
    frame.isFlooded = true
    switch egress(of: frame.egressClass, by: destination.port) {
    case .leave(let tag): deliver(&frame, to: destination, tag: tag, isShared: true)
    case .refuse(let refusal):
      guard refusal.isCountedInFlood else { return }
      counters.dropped(refusal.dropReason, frames: 1, at: destination.port)
    }
  }

  /// Writes the frame, of at most 78 bytes; returns their number.
  @unsafe private static func writeProbe(
    for address: IPAddress, from source: MACAddress, to start: UnsafeMutableRawPointer
  ) -> Int {
    let packet = unsafe start + EthernetHeader.byteCount
    guard address.isIPv6 else {
      unsafe EthernetHeader.write(
        destination: .broadcast, source: source, etherType: .arp, to: start)
      unsafe ARPPacket.write(
        operation: .request, senderHardware: source, senderProtocol: IPAddress(v4: 0),
        targetHardware: MACAddress(truncating: 0), targetProtocol: address, to: packet)
      return EthernetHeader.byteCount + ARPPacket.byteCount
    }
    let group = unsafe NeighborDiscoveryMessage.writeProbe(for: address, to: packet)
    // RFC 2464, section 7.
    let multicast = MACAddress(truncating: 0x3333_0000_0000 | group.low & 0xFFFF_FFFF)
    unsafe EthernetHeader.write(
      destination: multicast, source: source, etherType: .ipv6, to: start)
    return EthernetHeader.byteCount + NeighborDiscoveryMessage.probeByteCount
  }
}
