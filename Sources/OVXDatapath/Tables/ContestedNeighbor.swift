/// An IP address that two stations of a segment announce in turn: both have it.
package struct ContestedNeighbor: Equatable, Sendable {
  package var ip: IPAddress
  package var vlan: VLANID
  package var bridge: BridgeID
  /// The two Ethernet addresses of its latest change, and where each was announced.
  package var former: MACAddress
  package var formerPlace: Destination
  package var latter: MACAddress
  package var latterPlace: Destination
  /// How often it changed until it was told of, four times or more.
  package var changes: UInt32

  /// Seconds within which it has changed that often.
  ///
  /// Stations tell their IP addresses far less often than their Ethernet addresses.
  package static let window: UInt32 = 60

  fileprivate init(_ watch: FlapWatch<NeighborKey, Neighbor>.Watch) {
    ip = watch.key.address
    vlan = watch.key.vlan
    bridge = watch.bridge
    former = watch.former.address
    formerPlace = watch.former.place
    latter = watch.latter.address
    latterPlace = watch.latter.place
    changes = watch.moves
  }
}

extension Datapath {
  /// Watches who announces an IP address that another station had.
  mutating func noteContest(
    _ key: NeighborKey, bridge: BridgeID, from former: Neighbor, to latter: Neighbor
  ) {
    guard watchesFlapping else { return }
    // One that is made anew again and again, each time with another address, is contested by
    // nobody.
    contests.note(
      key, bridge: bridge, from: former, to: latter, now: now
    ) { $0.address == latter.address }
  }

  /// Whether there is an IP address that `takeContestedNeighbors` has not told of.
  package var hasContestedNeighbors: Bool { contests.hasNews }

  /// The IP addresses that two stations announce in turn: those that changed four times within a
  /// minute.
  ///
  /// Each is told of once a minute at most.
  package mutating func takeContestedNeighbors() -> [ContestedNeighbor] {
    contests.take(now: now).map { ContestedNeighbor($0) }
  }

  /// The IP addresses of a bridge that are contested at present.
  package func contestedNeighbors(of bridge: BridgeID) -> [ContestedNeighbor] {
    contests.flapping(in: bridge, now: now).map { ContestedNeighbor($0) }
  }
}
