private import OVXDatapath

/// The rule that keeps tenants apart: a segment is bound to at most one VNI, and a VNI to one
/// bridge of a host.
///
/// A tunnel with a tag binds its VNI to that segment. One without is a trunk and binds its VNI to
/// all segments of the bridge, or those of `trunks`, told apart by the inner tag. Two tunnels of
/// one VNI must mean the same by a frame: both access ports of the same segment, or both trunks.
/// Two tunnels of different VNIs must have no segment in common, unless the operator asks for it in
/// so many words: `other_config:joined-vnis` of the bridge has both VNIs.
///
/// Where the two ends count differently, a tunnel's VNI is the one of what it receives (`in_key`),
/// and that of what it sends (`out_key`) belongs to the same tenant: no tunnel of another one may
/// receive or send it.
extension Configuration {
  func validateTenancy() throws(ControlError) {
    let tunnels = boundTunnels
    try validateUniqueness(of: tunnels)
    try validateMeshes(of: tunnels)
    try validateOutgoingVNIs(of: tunnels)
    for bridge in Dictionary(grouping: tunnels, by: \.bridge).sorted(by: { $0.key < $1.key }) {
      try validateSegments(of: bridge.value, joined: bridges[bridge.key]?.joinedVNIs ?? [])
    }
  }

  /// A tunnel port with what it binds together.
  private struct BoundTunnel {
    var name: String
    var bridge: String
    var tunnel: Tunnel
    var vlans: VLANMembership
    /// The columns that would contradict a tag.
    var obstacles: [String]

    /// How the port carries VLANs, for a sentence.
    var membership: String {
      switch vlans {
      case .access(let vlan): "tag=\(vlan)"
      case .trunk(nil): "no tag"
      case .trunk(let vlans?): "trunks=" + vlans.sorted().map(\.description).joined(separator: ",")
      case .nativeTagged(let vlan, _): "native-tagged, tag=\(vlan)"
      case .nativeUntagged(let vlan, _): "native-untagged, tag=\(vlan)"
      case .dot1qTunnel(let vlan, _, _): "dot1q-tunnel, tag=\(vlan)"
      }
    }
  }

  private var boundTunnels: [BoundTunnel] {
    ports.values.sorted { $0.name < $1.name }.compactMap { port in
      port.interface.tunnel.map {
        BoundTunnel(
          name: port.name, bridge: port.bridge, tunnel: $0, vlans: port.vlans,
          obstacles: (port.trunks.isEmpty ? [] : ["trunks"])
            + (port.vlanMode == nil || port.vlanMode == .access ? [] : ["vlan_mode"]))
      }
    }
  }

  // MARK: Demultiplexing

  /// What a received datagram is told apart by.
  private struct Wire: Hashable {
    var vni: VNI
    var local: IPAddress?
    var remote: IPAddress
    var port: UInt16
  }

  private func validateUniqueness(of tunnels: [BoundTunnel]) throws(ControlError) {
    var owners: [Wire: String] = [:]
    for each in tunnels {
      for remote in each.tunnel.remotes {
        let wire = Wire(
          vni: each.tunnel.vni,
          local: each.tunnel.local,
          remote: remote,
          port: each.tunnel.destinationPort
        )
        guard let owner = owners.updateValue(each.name, forKey: wire) else { continue }
        throw ControlError(
          "tunnels \(owner) and \(each.name) have the same key \(wire.vni), remote_ip \(remote), "
            + "local_ip and dst_port, so a datagram could belong to either; "
            + "give \(each.name) another key or remote_ip, or delete one", record: each.name
        )
      }
    }
  }

  // MARK: One VNI

  private func validateMeshes(of tunnels: [BoundTunnel]) throws(ControlError) {
    var first: [VNI: BoundTunnel] = [:]
    for each in tunnels {
      let vni = each.tunnel.vni
      guard let other = first[vni] else {
        first[vni] = each
        continue
      }
      guard other.bridge == each.bridge else {
        throw ControlError(
          "tunnels \(other.name) of bridge \(other.bridge) and \(each.name) of bridge \(each.bridge) "
            + "have the same key \(vni), but a VNI belongs to one bridge of a host; "
            + "add \(each.name) to \(other.bridge), or give it a key of its own", record: each.name
        )
      }
      switch (other.vlans, each.vlans) {
      case (.trunk, .trunk): break
      case (let left, let right) where left == right: break
      case (.access(let left), .access(let right)):
        throw ControlError(
          "tunnels \(other.name) (tag=\(left)) and \(each.name) (tag=\(right)) have the same key \(vni), "
            + "which would join VLANs \(left) and \(right) of bridge \(each.bridge); "
            + "give both the same tag, or \(each.name) a key of its own", record: each.name)
      default:
        throw ControlError(
          "tunnels \(other.name) (\(other.membership)) and \(each.name) (\(each.membership)) have the "
            + "same key \(vni), but carry VLANs differently, so a frame of VNI \(vni) would mean two things; "
            + "give both the same tag and vlan_mode, or \(each.name) a key of its own",
          record: each.name)
      }
    }
  }

  /// Sees to it that nobody sends what belongs to another tenant.
  private func validateOutgoingVNIs(of tunnels: [BoundTunnel]) throws(ControlError) {
    var owners: [VNI: BoundTunnel] = [:]
    for each in tunnels where owners[each.tunnel.vni] == nil { owners[each.tunnel.vni] = each }
    for each in tunnels {
      let vni = each.tunnel.outgoingVNI
      guard let owner = owners[vni] else {
        owners[vni] = each
        continue
      }
      guard owner.tunnel.vni != each.tunnel.vni else { continue }
      let use = owner.tunnel.vni == vni ? "receives" : "sends"
      throw ControlError(
        "tunnel \(each.name) (in_key=\(each.tunnel.vni)) would send with out_key \(vni), which "
          + "tunnel \(owner.name) (in_key=\(owner.tunnel.vni)) \(use), and that joins two tenants; "
          + "give \(each.name) an out_key of its own, or both the same in_key", record: each.name)
    }
  }

  // MARK: One bridge

  private func validateSegments(
    of tunnels: [BoundTunnel], joined: Set<VNI>
  ) throws(ControlError) {
    // The first tunnel of each VNI, by segment; those that carry every VLAN apart.
    var owners: [VLANID: [BoundTunnel]] = [:]
    var ownersOfAll: [BoundTunnel] = []
    func clash(_ owners: [BoundTunnel], _ tunnel: BoundTunnel) -> BoundTunnel? {
      owners.first { other in
        let vnis: Set = [other.tunnel.vni, tunnel.tunnel.vni]
        return vnis.count > 1 && !vnis.isSubset(of: joined)
      }
    }
    func isNew(_ tunnel: BoundTunnel, _ owners: [BoundTunnel]) -> Bool {
      !owners.contains { $0.tunnel.vni == tunnel.tunnel.vni }
    }
    for each in tunnels {
      if let other = clash(ownersOfAll, each) {
        throw conflict(other, each, on: each.vlans.first, among: tunnels, joined: joined)
      }
      guard let vlans = each.vlans.vlans else {
        for (vlan, others) in owners.sorted(by: { $0.key < $1.key }) {
          guard let other = clash(others, each) else { continue }
          throw conflict(other, each, on: vlan, among: tunnels, joined: joined)
        }
        if isNew(each, ownersOfAll) { ownersOfAll.append(each) }
        continue
      }
      for vlan in vlans.sorted() {
        let others = owners[vlan] ?? []
        if let other = clash(others, each) {
          throw conflict(other, each, on: vlan, among: tunnels, joined: joined)
        }
        if isNew(each, others) { owners[vlan] = others + [each] }
      }
    }
  }

  /// Explains that two tunnels of different VNIs would share a segment, and what to type so that
  /// they do not.
  private func conflict(
    _ left: BoundTunnel,
    _ right: BoundTunnel,
    on vlan: VLANID?,
    among tunnels: [BoundTunnel],
    joined: Set<VNI>
  ) -> ControlError {
    let segment =
      switch vlan {
      case nil: "every VLAN"
      case VLANID.untagged?: "the untagged segment"
      case let vlan?: "VLAN \(vlan)"
      }
    var taken = Set(tunnels.compactMap(\.vlans.accessed))
    var remedies: [String] = []
    // A trunk in the way needs a tag even where the other tunnel has one; of two access ports the
    // second one moves.
    for each in [left, right]
    where each.vlans.accessed == nil || (each.name == right.name && remedies.isEmpty) {
      let tag = freeTag(for: each.tunnel.vni, taken: taken)
      taken.insert(tag)
      // The tunnels of one VNI move together.
      for port in tunnels where port.tunnel.vni == each.tunnel.vni {
        let clear = port.obstacles.joined(separator: " ")
        if !clear.isEmpty { remedies.append("clear port \(port.name) \(clear)") }
        remedies.append("set port \(port.name) tag=\(tag)")
      }
    }
    if remedies.count > 4 { remedies = remedies.prefix(3) + ["..."] }
    let vnis = joined.union([left.tunnel.vni, right.tunnel.vni]).sorted().map(\.description)
    return ControlError(
      "tunnels \(left.name) (key=\(left.tunnel.vni), \(left.membership)) and \(right.name) "
        + "(key=\(right.tunnel.vni), \(right.membership)) would both carry \(segment) of bridge "
        + "\(left.bridge), which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"\(remedies.joined(separator: " -- "))\", or a bridge of its own; where they are to be one, "
        + "\"set bridge \(left.bridge) other_config:joined-vnis=\(vnis.joined(separator: ","))\" joins them",
      record: right.name
    )
  }

  /// A tag to suggest: the VNI's own number where it can be, else the lowest that no tunnel uses.
  private func freeTag(for vni: VNI, taken: Set<VLANID>) -> VLANID {
    let candidates = [UInt16(clamping: vni.rawValue)] + Array(1...4094)
    return candidates.lazy.filter { 1...4094 ~= $0 }.compactMap(VLANID.init(rawValue:))
      .first { !taken.contains($0) } ?? .untagged
  }
}

extension VLANMembership {
  /// The VLAN of an access port.
  fileprivate var accessed: VLANID? {
    switch self {
    case .access(let vlan), .dot1qTunnel(let vlan, _, _): vlan
    default: nil
    }
  }

  /// The lowest VLAN of the port; `nil` where it carries all.
  fileprivate var first: VLANID? {
    vlans?.min()
  }
}
