// VNIs that the operator has joined: what arrives by a tunnel of one may leave by a tunnel of
// another.
//
// Otherwise nothing that a tunnel brought leaves by a tunnel, and so no loop can be made of
// tunnels. A join gives that up, and where two hosts join the same VNIs there is one: what the
// first passes on from one VNI to the other the second passes back. Ethernet frames have no hop
// limit. Two rules see to it that such a loop carries nothing:
//
// - A frame that comes by a joined VNI is only taken from where its source address was seen last,
//   for as long as that is no more than a moment ago. Among the copies of a flood the first one to
//   arrive decides where that is, and the later ones are dropped. So each joining host takes a
//   source's frames from the host that had them earlier, and the way back from there leads to the
//   source, in no circle. (Switches know the rule as ARP-Path.) The price is that a station which
//   moves from one remote host to another is heard again only when it has not been heard at its
//   former place for that moment.
// - What is flooded from one joined VNI into another is limited. The first rule goes by a memory of
//   seconds, which fails where frames wait longer than that: before a process that was stopped, or
//   in a table that somebody overflows. A frame in a circle uses up any limit, and the first time
//   that it is not passed on ends it.

extension Datapath {
  /// Seconds for which the place of a source address holds; as the clock counts, one less may pass.
  static let joinHold: UInt32 = 2
  /// Frames that a bridge floods from joined VNIs into others between two ticks of the clock.
  static let joinFloodLimit: UInt32 = 1000

  /// Whether one more frame may be flooded from a joined VNI into others.
  mutating func takeJoinFlood(of bridge: BridgeID) -> Bool {
    guard joinFloods[bridge] < Self.joinFloodLimit else { return false }
    joinFloods[bridge] &+= 1
    return true
  }

  /// Whether another worker says that a source is elsewhere than this one saw it a moment ago, and
  /// is to give way.
  ///
  /// Copies of a flood that come to two workers at once would have each believe another one. Both
  /// then believe the one of the lower number.
  func contradictsJoin(_ update: FDBUpdate) -> Bool {
    guard tables.ports[update.place.port].group.isJoined,
      let known = fdb.lookUp(
        AddressKey(vlan: update.vlan, address: update.address), in: update.bridge, now: now),
      known.value != update.place, known.age ?? 0 < Self.joinHold
    else { return false }
    return (known.value.peer.rawValue, known.value.port)
      < (update.place.peer.rawValue, update.place.port)
  }

  /// Sends to a remote VTEP what came from another one.
  mutating func relay(
    _ frame: inout Frame, to destination: Destination, tag: VLANTag, isShared: Bool
  ) {
    let request = frame.offload
    if !request.isSuperframe {
      // As for a device: the sender may have left the checksum, or the cutting, to others.
      let tags = (tag.isPresent ? 1 : 0) + (frame.hasTagInside ? 1 : 0)
      let peer = tables.peers[destination.peer]
      let mtu = Int(peer.mtu) - tags * VLANHeader.byteCount
      let layout = frame.layout
      switch unsafe arrivalOffload(frame.start, count: frame.count, layout, mtu: mtu) {
      case .accepted(let found): frame.offload = found
      case .refused:
        return refuseOversize(
          &frame, .exceedsTunnelMTU, at: destination, limit: Self.limit(of: peer, tag: tag))
      }
    }
    let offload = frame.offload
    // Filling in a checksum changes the frame for good, and putting in a tag for a while.
    let changes = offload.isSuperframe ? tag.isPresent : offload.needsChecksum
    if isShared && changes { flush() }
    deliverToPeer(&frame, at: destination, tag: tag)
    // What was found out goes by the MTU of this remote. A checksum that was filled in is not found
    // missing again.
    frame.offload = request
  }
}
