/// What became of a traced frame.
package struct TraceResult: Equatable, Sendable {
  /// Where it entered; `nil` for a datagram of no tunnel.
  package var ingress: Destination?
  /// What it was admitted to; `nil` where it died before.
  package var segment: Segment?
  package var learning: Learning?
  /// What it tells of a neighbor, where that is news.
  package var neighbor: KnownNeighbor?
  package var decision: Decision?
  /// What happened at every port that the frame might have left by.
  package var deliveries: [Delivery] = []
  /// Frames lost at the ingress, or for a datagram of no tunnel at none, by reason.
  package var drops: [DropReason: Int] = [:]

  /// The segment that a frame is in, and the frame as it is there.
  package struct Segment: Equatable, Sendable {
    package var bridge: BridgeID
    package var vlan: VLANID
    /// The tag that lies beside the frame from here on.
    package var tag: VLANTag
    package var source: MACAddress
    package var target: MACAddress
    /// Bytes of the frame without that tag.
    package var byteCount: Int
    /// Whose address the frame tells, whether that may be learned where it is new, and for whose it
    /// asks.
    var claim: NeighborKey?
    var mayBeLearned = false
    var question: NeighborKey?

    init(
      bridge: BridgeID, vlan: VLANID, tag: VLANTag, source: MACAddress, target: MACAddress,
      byteCount: Int
    ) {
      self.bridge = bridge
      self.vlan = vlan
      self.tag = tag
      self.source = source
      self.target = target
      self.byteCount = byteCount
    }
  }

  /// What the source address adds to the address table.
  package enum Learning: Equatable, Sendable {
    /// It is known there already, and would be seen anew.
    case known(KnownAddress)
    case learned(insteadOf: KnownAddress?)
    case moved(from: KnownAddress)
    /// It was seen elsewhere a moment ago, and came by a joined VNI: the frame may have been round.
    case held(KnownAddress)
    /// An operator has said where it is, and a frame does not change that.
    case isStatic(KnownAddress)
    /// The table is full of static addresses.
    case refused
  }

  package enum Decision: Equatable, Sendable {
    case destination(KnownAddress)
    /// A question that the switch answers in the place of a neighbor.
    case answer(KnownNeighbor)
    /// A question that goes to the neighbor alone, which was not heard of lately.
    case direction(KnownNeighbor, KnownAddress)
    /// The destination is the address of a port's own device, behind which nobody is.
    case nobody
    /// To the whole segment: the destination is a group, or was not seen yet.
    case flood(isUnknown: Bool)
  }

  package struct Delivery: Equatable, Sendable {
    package var port: PortID
    /// For a tunnel port, which remote.
    package var peer: RemoteVTEPID
    package var outcome: Outcome
  }

  package enum Outcome: Equatable, Sendable {
    case sent([Sent])
    case dropped(DropReason)
    case passedOver(Absence)
  }

  /// Why a flood leaves out a port.
  package enum Absence: String, Equatable, Sendable {
    case ingress
    case otherVLAN
    case splitHorizon
    case waiting
    case noRemote
    case unknownUnicast
    case withoutFloods
    case unknown
  }

  /// One thing that was handed over to be sent.
  package struct Sent: Equatable, Sendable {
    package var port: PortID
    /// The sending socket, for datagrams.
    package var path: UnderlaySocketID?
    /// For datagrams: what their outer header has in place of the socket's own.
    package var outer: OuterHeader
    package var offload: Offload
    /// The frame, or the datagrams one behind the other.
    package var bytes: [UInt8]
    /// For several datagrams, bytes of each but the last.
    package var segmentSize: Int
    package var frameCount: Int
  }
}

extension TraceRun {
  /// What a trace asks the real switch.
  package struct Question: Sendable {
    package var bridge: BridgeID
    package var vlan: VLANID
    package var source: MACAddress
    package var target: MACAddress
    /// By which port it comes in.
    var ingress: PortID
    var claim: NeighborKey?
    var question: NeighborKey?
    /// Whether the claim may be learned where it is new.
    var mayBeLearned: Bool

    init(_ segment: TraceResult.Segment, from ingress: PortID) {
      bridge = segment.bridge
      vlan = segment.vlan
      source = segment.source
      target = segment.target
      self.ingress = ingress
      claim = segment.claim
      question = segment.question
      mayBeLearned = segment.mayBeLearned
    }
  }

  /// What the real switch knows of a frame's addresses.
  package struct Snapshot: Equatable, Sendable {
    var now: UInt32 = 0
    /// Of source, destination, and those of `neighbors`.
    var addresses: [KnownAddress] = []
    /// What the address table would forget to learn the source.
    var victim: KnownAddress?
    var isFullOfStatics = false
    /// Of the addresses that the frame tells of and asks for.
    var neighbors: [KnownNeighbor] = []
    /// What the neighbor table would forget to learn what the frame tells.
    var neighborVictim: KnownNeighbor?
  }
}
