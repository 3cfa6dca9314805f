// Whether a frame may leave by a port.
//
// One predicate decides it, as `should_deliver` does in Linux's bridge, for a frame to one station,
// for each copy of a flood, for what is passed on between joined VNIs, and for a trace. The rules,
// in order:
//
//     ingress        not by the port that it came in by (hairpin)
//     notInService   not by a port without a device or an underlay
//     otherVLAN      not by a port that does not carry its VLAN
//     splitHorizon   not by a port of the same split-horizon group
//     noRemote       not by a tunnel without remotes
//     unknownUnicast not by a tunnel whose stations an agent tells all of, for a station that
//                    nobody has told
//     tagInside      not where a tag inside the frame would pass for the VLAN, or is none of the
//                    port's customers

/// Why a frame may not leave by a port.
enum EgressRefusal: UInt8, BitwiseCopyable {
  case ingress
  case notInService
  case otherVLAN
  case splitHorizon
  case noRemote
  case unknownUnicast
  case tagInside

  /// What a frame is dropped for that had this port as its only egress.
  var dropReason: DropReason {
    switch self {
    case .ingress: .samePort
    // No station is known behind a tunnel without remotes.
    case .notInService, .noRemote: .waitingPort
    case .otherVLAN: .vlanNotOnPort
    case .splitHorizon: .splitHorizon
    case .unknownUnicast: .nowhereToFlood
    case .tagInside: .nestedTag
    }
  }

  /// Whether a flood, which passes the port over, counts a drop there.
  ///
  /// Only what depends on the frame's content is a loss; all else is how the network is configured.
  var isCountedInFlood: Bool { self == .tagInside }
}

/// Whether a frame leaves by a port, and with which tag.
enum EgressVerdict: Equatable, BitwiseCopyable {
  case leave(tag: VLANTag)
  case refuse(EgressRefusal)
}

/// Which ports do not pass on to each other what they receive.
///
/// A mesh of tunnels needs it: everybody in a VNI sends to everybody, so that what one tunnel
/// brought need not leave by another one, and would go in circles. Only VNIs that the operator has
/// joined are groups of their own. A gateway that every host has belongs to the tunnels: the other
/// hosts have theirs.
struct SplitHorizonGroup: Equatable, BitwiseCopyable {
  private let rawValue: UInt32

  /// Of a device, which is in no group unless it is a distributed gateway.
  static let none = SplitHorizonGroup(rawValue: .max)
  /// Of all tunnels whose VNIs are not joined, and of distributed gateways.
  static let tunnels = SplitHorizonGroup(rawValue: .max - 1)
  /// Of the tunnels of a joined VNI.
  static func joined(_ vni: VNI) -> SplitHorizonGroup { SplitHorizonGroup(rawValue: vni.rawValue) }

  /// Whether it is one of a joined VNI.
  var isJoined: Bool { rawValue <= VNI.max }

  /// Whether what a port of one group has received may not leave by a port of the other.
  @inline(__always) func isSeparate(from other: SplitHorizonGroup) -> Bool {
    if self == .none || other == .none { return false }
    return self == other || self == .tunnels || other == .tunnels
  }
}

/// What the rules go by in a frame: frames of one class leave by the same ports, with the same
/// tags.
///
/// A few numbers, which stay in registers; a frame would be copied for each port of a flood.
struct EgressClass: BitwiseCopyable {
  /// The port that the frame came in by; none for an answer of the switch, which leaves by it.
  let ingress: PortID
  let vlan: VLANID
  /// The tag that the frame came with, for its priority and protocol.
  let tag: VLANTag
  let group: SplitHorizonGroup
  let hasTagInside: Bool
  /// The VLAN of that tag; `nil` also where the frame ends within it.
  let vlanInside: VLANID?
  /// Whether it is flooded although it is for one station.
  var isUnknownUnicast = false
}

extension Datapath {
  /// Whether a frame may leave by a port: the one place that decides it.
  ///
  /// Nothing is changed. The compiler hands a borrowed datapath over as a copy of a kilobyte, and
  /// one that may be changed as it is. And `__always` would be a hint, which it does not follow for
  /// as much as this.
  ///
  /// - Parameters:
  ///   - frame: The class of an admitted frame, or of an answer of the switch.
  ///   - id: The port.
  /// - Returns: The tag with which it leaves, or the first rule that refuses it.
  @inline(always)
  mutating func egress(of frame: EgressClass, by id: PortID) -> EgressVerdict {
    if id == frame.ingress { return .refuse(.ingress) }
    let port = tables.ports[id]
    guard port.role == .device || port.role == .tunnel else { return .refuse(.notInService) }
    guard tables.carries(frame.vlan, port: port) else { return .refuse(.otherVLAN) }
    if frame.group.isSeparate(from: port.group) { return .refuse(.splitHorizon) }
    guard port.role == .device || port.peerCount > 0 else { return .refuse(.noRemote) }
    if frame.isUnknownUnicast, !port.floodsUnknown { return .refuse(.unknownUnicast) }
    if frame.hasTagInside || port.vlanMode == .dot1qTunnel {
      guard mayShowTagInside(frame, id) else { return .refuse(.tagInside) }
    }
    return .leave(tag: egressTag(frame, id))
  }

  /// Whether the tag inside the frame may be seen on the port; of a dot1q-tunnel port, also whether
  /// there may be none.
  @inline(never) private mutating func mayShowTagInside(_ frame: EgressClass, _ id: PortID) -> Bool
  {
    let port = tables.ports[id]
    switch port.vlanMode {
    // Where the frame has no tag of its own, the one inside would pass for it: the frame would have
    // hopped from the untagged VLAN to any that its sender chose.
    case .trunk, .nativeTagged: return frame.vlan != .untagged
    case .nativeUntagged: return frame.vlan != .untagged && frame.vlan != port.ownVLAN
    case .access: return false
    case .dot1qTunnel:
      guard frame.hasTagInside else { return tables.isInSet(.untagged, of: port) }
      guard let customer = frame.vlanInside else { return false }
      return tables.isInSet(customer, of: port)
    }
  }

  /// The tag that the frame carries on the port, with the priority it came with.
  @inline(__always)
  private mutating func egressTag(_ frame: EgressClass, _ id: PortID) -> VLANTag {
    let port = tables.ports[id]
    let tag = frame.tag
    if frame.vlan != .untagged && frame.vlan != port.bareVLAN {
      let priority = tag.isPresent ? tag.control & 0xF000 : 0
      return VLANTag(
        control: priority | frame.vlan.rawValue, protocolID: tag.isPresent ? tag.protocolID : 0x8100
      )
    }
    if port.priorityTags == .never { return .none }
    return priorityTag(frame, port.priorityTags)
  }

  /// The tag of no VLAN that a frame carries for its priority.
  @inline(never) private func priorityTag(_ frame: EgressClass, _ rule: PriorityTags) -> VLANTag {
    let priority = frame.tag.isPresent ? frame.tag.control & 0xE000 : 0
    switch rule {
    case .never: return .none
    case .ifNonzero where priority == 0: return .none
    // What shows a customer's tag has its priority there.
    case .ifNonzero, .always: return frame.hasTagInside ? .none : VLANTag(control: priority)
    }
  }
}
