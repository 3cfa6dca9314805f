// The frame path. Every frame takes the same four steps, in this order:
//
//     admit    Is it a frame, may it enter here with what it says it is, and which segment is it
//              in?
//     learn    Its source address is behind this port. An ARP request that the switch can answer
//              ends here.
//     decide   One port, all ports of the segment, or none.
//     deliver  As the egress can take it: whole, cut, tagged, or in VXLAN.
//
// The first three make a `Decision`, which `deliver` carries out. A frame that is dropped on the
// way is counted at a port, with a `DropReason`.

/// What the switch has decided about a frame.
enum Decision: Equatable, BitwiseCopyable {
  /// It is dropped, and counted at the port that it came in by.
  case drop(DropReason)
  /// It goes to one port, or is dropped where that refuses it.
  case unicast(Destination, EgressVerdict)
  /// It goes to every port of its segment that does not refuse it.
  case flood
  /// The switch answers it: the frame is the answer from here on, and goes to where the request
  /// came from.
  case answer(EgressVerdict)
}

extension Datapath {
  /// Takes a frame all the way, from its arrival to its egress.
  ///
  /// One function, with all steps inlined: each call costs a frame more than some of the steps do.
  @inline(never) mutating func process(_ frame: inout Frame) {
    let decision = forward(&frame)
    if offersFlows { offerFlow(of: &frame, decision) }
    deliver(&frame, by: decision)
  }

  // MARK: Admit, learn, decide

  @inline(always) mutating func forward(_ frame: inout Frame) -> Decision {
    if let reason = admit(&frame) { return .drop(reason) }
    return decide(&frame)
  }

  /// Decides on the frame's segment, takes its tag out, and says why it may not enter, if so.
  @inline(always) mutating func admit(_ frame: inout Frame) -> DropReason? {
    if let reason = assignSegment(&frame) { return reason }
    let rule = tables.ports[frame.ingress].sourceRule
    guard rule >= 0 else { return nil }
    let layout = frame.layout
    return tables.sourceRules.refusal(of: frame.bytes, layout, frame.offload, by: rule)
  }

  @inline(always) private mutating func assignSegment(_ frame: inout Frame) -> DropReason? {
    let port = tables.ports[frame.ingress]
    let source = frame.source
    if frame.destination.isLinkLocalReserved { return .reservedDestination }
    if source.isGroup || source.rawValue == 0 { return .invalidSource }
    if port.vlanMode == .dot1qTunnel { return admitCustomer(&frame) }
    if !frame.tag.isPresent, frame.hasTagInside, let reason = frame.takeOutTag() { return reason }
    let vlan = frame.tag.isPresent ? frame.tag.vlan : .untagged
    switch port.vlanMode {
    case .access:
      if vlan != .untagged { return .taggedOnAccessPort }
      frame.vlan = port.ownVLAN
      return nil
    case .nativeTagged, .nativeUntagged:
      frame.vlan = vlan == .untagged ? port.ownVLAN : vlan
    case .trunk, .dot1qTunnel:
      frame.vlan = vlan
    }
    return tables.carries(frame.vlan, port: port) ? nil : .vlanNotOnPort
  }

  /// Puts a customer's frame, with the tag that it may have, in the service VLAN.
  private mutating func admitCustomer(_ frame: inout Frame) -> DropReason? {
    let port = tables.ports[frame.ingress]
    if frame.tag.isPresent { frame.putBackTag() }
    let customer = frame.tagInside
    if customer == nil, frame.hasTagInside { return .truncated }
    let control = customer?.control ?? 0
    frame.vlan = port.ownVLAN
    frame.tag = VLANTag(control: control & 0xE000, protocolID: port.serviceProtocol)
    return tables.isInSet(VLANID(tagControl: control), of: port) ? nil : .vlanNotOnPort
  }

  /// Learns what an admitted frame tells, and decides what becomes of it.
  @inline(always) mutating func decide(_ frame: inout Frame) -> Decision {
    let ingress = frame.ingress
    let bridge = tables.ports[ingress].bridge
    let source = AddressKey(vlan: frame.vlan, address: frame.source)
    // So it is with nearly every frame; what it takes to learn stays out of their way.
    let isCurrent = fdb.isCurrent(source, at: frame.origin, in: bridge, now: now)
    if !isCurrent, posesAsGateway(frame) { return .drop(.gatewayAddress) }
    let learning = isCurrent ? .known : learnSource(of: &frame)
    if case .held = learning { return .drop(.loop) }
    if frame.destination.isGroup && !mayFlood(from: ingress) { return .drop(.stormLimit) }
    if frame.mayConcernNeighborTable, mayTellOfNeighbors(ingress, bridge: bridge),
      snoopNeighbors(&frame, bridge: bridge, learning: learning)
    {
      chargeFlood(1, to: ingress)
      return .answer(egress(of: frame.egressClass, by: ingress))
    }

    // A request may have been addressed to the neighbor itself.
    let target = frame.destination
    guard !target.isGroup else { return .flood }
    if let known = fdb.lookUp(AddressKey(vlan: frame.vlan, address: target), in: bridge) {
      return .unicast(known, egress(of: frame.egressClass, by: known.port))
    }
    guard mayFlood(from: ingress) else { return .drop(.stormLimit) }
    // No frame has come from it, but it may be a device's own address.
    switch tables.owner(of: target, vlan: frame.vlan, bridge: bridge) {
    case .unowned: return .flood
    case .nobody: return .drop(.ownAddress)
    case .station(let owner):
      return .unicast(Destination(port: owner), egress(of: frame.egressClass, by: owner))
    }
  }

  /// Whether a frame has the address of its segment's gateway for a source, and does not come from
  /// there.
  ///
  /// What is in the address table has been asked, as such an address gets into it from nowhere
  /// else.
  @inline(never) private mutating func posesAsGateway(_ frame: borrowing Frame) -> Bool {
    let ingress = frame.ingress
    guard
      case .station(let owner) = tables.owner(
        of: frame.source, vlan: frame.vlan, bridge: tables.ports[ingress].bridge)
    else { return false }
    return owner != ingress && tables.ports[owner].isGateway
  }

  /// Enters a frame's source address in the address table, and tells the other workers what is new.
  ///
  /// Nothing of the frame is changed. If it were borrowed, it would be copied.
  @inline(never)
  private mutating func learnSource(of frame: inout Frame) -> FDB.Learning {
    let port = tables.ports[frame.ingress]
    let bridge = port.bridge
    let source = frame.source
    let learning = fdb.learn(
      AddressKey(vlan: frame.vlan, address: source), at: frame.origin, in: bridge, now: now,
      holding: port.group.isJoined ? Self.joinHold : 0,
      mayChange: port.learns && mayMoveAddresses(to: frame.ingress),
      overridesExternal: port.role == .device)
    switch learning {
    case .known, .refused: break
    case .renewed: publishAddress(of: frame, bridge: bridge)
    case .learned:
      hasStationNews = true
      chargeNewAddress(to: frame.ingress)
      publishAddress(of: frame, bridge: bridge)
    case .moved(let former):
      hasStationNews = true
      chargeNewAddress(to: frame.ingress)
      noteMove(of: source, vlan: frame.vlan, bridge: bridge, from: former, to: frame.origin)
      publishAddress(of: frame, bridge: bridge)
    case .held(let former):
      noteMove(of: source, vlan: frame.vlan, bridge: bridge, from: former, to: frame.origin)
    }
    return learning
  }
}
