/// Everything the data plane has to know of the configuration, as one value.
///
/// The control side builds it from the configuration and from what the kernel gave (devices,
/// sockets, path MTUs), and hands it to a worker, which swaps it in between two bursts. Numbers
/// (`PortID`, `BridgeID`, `RemoteVTEPID`, `ListenerID`, `UnderlaySocketID`) are given out by the
/// control side and stay with their object for as long as it exists: learned addresses survive a
/// change of topology through them.
package struct Topology: Equatable, Sendable {
  package var bridges: [Bridge]
  package var ports: [Port]

  package init(bridges: [Bridge] = [], ports: [Port] = []) {
    self.bridges = bridges
    self.ports = ports
  }

  package struct Bridge: Equatable, Sendable {
    package var id: BridgeID
    /// Seconds after which an address that was not seen again is forgotten, 15...3600; 0 never.
    package var agingTime: UInt32
    /// Learned and static addresses at most, and as many neighbors, 10...1,000,000.
    package var addressLimit: Int
    /// Whether questions for a known neighbor are answered here instead of flooded, in segments
    /// that have a tunnel.
    package var suppressesNeighborQuestions: Bool

    package init(
      id: BridgeID, agingTime: UInt32 = 300, addressLimit: Int = 8192,
      suppressesNeighborQuestions: Bool = true
    ) {
      self.id = id
      self.agingTime = agingTime
      self.addressLimit = addressLimit
      self.suppressesNeighborQuestions = suppressesNeighborQuestions
    }
  }

  package struct Port: Equatable, Sendable {
    package var id: PortID
    package var bridge: BridgeID
    package var vlans: VLANMembership
    package var priorityTags: PriorityTags
    package var limits: PortLimits
    /// What it may send; `nil` for anything, as with tunnels.
    package var security: PortSecurity?
    package var attachment: Attachment
    /// Whether the port's device is the gateway of its segment; `nil` where it is not.
    package var gateway: Gateway?

    package init(
      id: PortID, bridge: BridgeID, vlans: VLANMembership, priorityTags: PriorityTags = .never,
      limits: PortLimits = .none, security: PortSecurity? = nil, attachment: Attachment,
      gateway: Gateway? = nil
    ) {
      self.id = id
      self.bridge = bridge
      self.vlans = vlans
      self.priorityTags = priorityTags
      self.limits = limits
      self.security = security
      self.attachment = attachment
      self.gateway = gateway
    }
  }

  /// A router whose address nobody else of its segment may have for a source.
  package enum Gateway: Equatable, Sendable {
    /// Of all hosts that have the segment.
    case central
    /// Of this host alone, as the others have each their own: nothing from or to it crosses a
    /// tunnel.
    case distributed
  }

  package enum Attachment: Equatable, Sendable {
    /// A network device of this host.
    ///
    /// Absent while the device is: nothing is sent to such a port.
    case device(Device)
    case tunnel(Tunnel)
    /// Configured, but its device or underlay is not there: the port waits.
    case waiting
  }

  package struct Device: Equatable, Sendable {
    /// The largest IP packet the device takes, in bytes, without Ethernet header and tag.
    package var mtu: Int
    package var capabilities: OffloadCapabilities
    /// The device's own Ethernet address; `nil` where it is not known.
    package var address: MACAddress?
    /// Whether whoever uses the device as an interface is a station behind the port, and has that
    /// address.
    ///
    /// So it is with an internal port, which is the host's. Behind the address of a veth, of a
    /// virtual machine's TAP and of a NIC there is nobody.
    package var isStation: Bool
    /// The longest superframe that the device takes whole, in bytes from the Ethernet header on.
    package var superframeLimit: Int
    /// The same for one with a tag, its own or one inside, counted with its tags; 0 where it takes
    /// none.
    package var taggedSuperframeLimit: Int
    /// The number of the host's end of a veth for which the fast path may be used; `nil` for any
    /// other device.
    package var fastPathIndex: UInt32?

    package init(
      mtu: Int, capabilities: OffloadCapabilities, superframeLimit: Int = .max,
      taggedSuperframeLimit: Int = .max, address: MACAddress? = nil, isStation: Bool = false
    ) {
      self.mtu = mtu
      self.capabilities = capabilities
      self.address = address
      self.isStation = isStation
      self.superframeLimit = superframeLimit
      self.taggedSuperframeLimit = taggedSuperframeLimit
    }
  }

  package struct Tunnel: Equatable, Sendable {
    /// The VNI of frames that arrive.
    package var vni: VNI
    /// The VNI of frames that are sent: the same one, unless the two ends count differently.
    package var outgoingVNI: VNI
    /// How the outer headers of what is sent follow from what is inside.
    package var outerHeader: OuterHeaderRule
    /// The socket on which frames of this tunnel arrive.
    package var endpoint: ListenerID
    /// For a tunnel without a local address: the sockets of the same family and port that are bound
    /// to one.
    ///
    /// The kernel delivers to them what is sent to their address, also for this tunnel, unless a
    /// tunnel of theirs claims it.
    package var fallbackEndpoints: [ListenerID]
    package var peers: [Peer]
    /// Whether the operator has asked that the VNI be joined with others: what arrives by it may
    /// leave by tunnels of other joined VNIs of its segment.
    package var isJoined: Bool
    /// Whether addresses and neighbors are learned from what arrives; else only an agent tells
    /// them.
    package var learns: Bool
    /// Whether frames to stations that are not known leave by it.
    package var floodsUnknown: Bool

    package init(
      vni: VNI, outgoingVNI: VNI? = nil, outerHeader: OuterHeaderRule = OuterHeaderRule(),
      endpoint: ListenerID, fallbackEndpoints: [ListenerID] = [], peers: [Peer],
      isJoined: Bool = false, learns: Bool = true, floodsUnknown: Bool = true
    ) {
      self.vni = vni
      self.outgoingVNI = outgoingVNI ?? vni
      self.outerHeader = outerHeader
      self.endpoint = endpoint
      self.fallbackEndpoints = fallbackEndpoints
      self.peers = peers
      self.isJoined = isJoined
      self.learns = learns
      self.floodsUnknown = floodsUnknown
    }
  }

  /// One remote VTEP of a tunnel port.
  package struct Peer: Equatable, Sendable {
    package var id: RemoteVTEPID
    package var remote: IPAddress
    /// The sockets to send with, one per source port; a frame's flow picks one.
    ///
    /// Never empty.
    package var paths: Range<UInt32>
    /// The largest inner IP packet that fits the underlay without fragmentation, in bytes.
    package var mtu: Int
    /// How superframes leave whole; `nil` where they are to be cut.
    package var injection: Injection?
    /// How the fast path reaches the remote; `nil` where it does not.
    package var fastPath: FastPathRoute?
    /// The indices of the devices by which the remote's datagrams may come in; `nil` for all.
    package var devices: [UInt32]?
    /// Whether it gets what is flooded.
    package var takesFloods: Bool

    package init(
      id: RemoteVTEPID, remote: IPAddress, paths: Range<UInt32>, mtu: Int,
      injection: Injection? = nil, fastPath: FastPathRoute? = nil,
      devices: [UInt32]? = nil, takesFloods: Bool = true
    ) {
      self.takesFloods = takesFloods
      self.id = id
      self.remote = remote
      self.paths = paths
      self.mtu = mtu
      self.injection = injection
      self.fastPath = fastPath
      self.devices = devices
    }
  }
}

/// Which VLANs a port is a member of, and how its frames carry them: the VLAN modes of Open
/// vSwitch.
///
/// See `vlan_mode` in ovs-vswitchd.conf.db(5). A frame with a tag of VLAN 0 (a priority tag) counts
/// as untagged in every mode.
package enum VLANMembership: Equatable, Sendable {
  /// Member of one VLAN; frames are untagged on the port, tagged ones are dropped.
  ///
  /// `tag=`.
  case access(VLANID)
  /// Member of the given VLANs, or of all where `nil`; frames carry a tag, except those of VLAN 0.
  case trunk(Set<VLANID>?)
  /// A trunk on which untagged frames that come in belong to the given VLAN.
  case nativeTagged(VLANID, trunks: Set<VLANID>?)
  /// A trunk on which frames of the given VLAN are untagged, both ways.
  case nativeUntagged(VLANID, trunks: Set<VLANID>?)
  /// Member of one VLAN, the service VLAN, which frames do not show on the port.
  ///
  /// The tags that they do show are the customer's, of the given VLANs, or of any where `nil`; they
  /// travel inside. `protocolID` is the tag protocol of the service VLAN on trunks, 0x88A8 or
  /// 0x8100.
  case dot1qTunnel(VLANID, customers: Set<VLANID>?, protocolID: UInt16)
}

extension VLANMembership {
  /// The VLANs of which the port is a member; `nil` for all.
  package var vlans: Set<VLANID>? {
    switch self {
    case .access(let own), .dot1qTunnel(let own, _, _): return [own]
    case .trunk(let vlans): return vlans
    case .nativeTagged(let own, let vlans), .nativeUntagged(let own, let vlans):
      // The native VLAN is always carried. VLAN 0 is not, since what comes in without a VLAN is in
      // the native one.
      guard own != .untagged else { return vlans }
      var result = vlans ?? Set((0...4095).map { VLANID(tagControl: $0) })
      result.remove(.untagged)
      result.insert(own)
      return result
    }
  }

  /// Whether the port is a member of a VLAN.
  package func carries(_ vlan: VLANID) -> Bool { vlans?.contains(vlan) ?? true }
}

/// Whether a port tells the priority of frames that it sends without a VLAN: `priority-tags`.
package enum PriorityTags: UInt8, BitwiseCopyable, Sendable {
  /// Frames of no VLAN have no tag.
  case never
  /// They have a tag of VLAN 0 where their priority is not 0.
  case ifNonzero
  /// They always have one.
  case always
}
