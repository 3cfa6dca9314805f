/// What a neighbor is known by: an IP address in a VLAN of a bridge.
struct NeighborKey: AgingTableKey, Hashable {
  /// IPv4 addresses are there as ::ffff:0:0/96, which no packet carries.
  let high: UInt64
  let low: UInt64
  let vlan: VLANID

  @inline(__always) init(vlan: VLANID, address: IPAddress) {
    high = address.high
    low = address.isIPv6 ? address.low : 0xFFFF << 32 | address.low
    self.vlan = vlan
  }

  var address: IPAddress {
    let address = IPAddress(v6High: high, low: low)
    return address.isIPv4Mapped ? IPAddress(v4: UInt32(truncatingIfNeeded: low)) : address
  }

  @inline(__always) func hash(seed: UInt64) -> UInt64 {
    let upper = (high ^ seed).scrambled() ^ UInt64(vlan.rawValue)
    return ((upper &+ low) ^ seed).scrambled(by: 0xD1B5_4A32_D192_ED03).scrambled()
  }
}

/// What is known of a neighbor; with its key 80 bytes per entry in all.
struct Neighbor: AgingTableValue {
  var address: MACAddress
  /// Where it told so.
  var place: Destination
  /// Whether it is a router, which only IPv6 tells.
  var isRouter: Bool
  /// What has come to speak against it since it told.
  var doubt = NeighborDoubt()

  var port: PortID { place.port }

  /// Whether both tell the same.
  static func == (left: Neighbor, right: Neighbor) -> Bool {
    left.address == right.address && left.place == right.place && left.isRouter == right.isRouter
  }
}

/// One line of a bridge's neighbor table.
package struct KnownNeighbor: Equatable, Sendable {
  package var ip: IPAddress
  package var vlan: VLANID
  package var address: MACAddress
  /// The port on which the neighbor told its address.
  package var port: PortID
  /// The remote VTEP behind which it was, for a tunnel port.
  package var peer: RemoteVTEPID
  package var isRouter: Bool
  /// Seconds since it last told; 0 for an agent's.
  package var age: UInt32
  /// Whether an agent says so.
  package var isExternal = false
  /// What has come to speak against it since.
  var doubt = NeighborDoubt()

  package init(
    ip: IPAddress, vlan: VLANID, address: MACAddress, port: PortID, peer: RemoteVTEPID,
    isRouter: Bool,
    age: UInt32
  ) {
    self.ip = ip
    self.vlan = vlan
    self.address = address
    self.port = port
    self.peer = peer
    self.isRouter = isRouter
    self.age = age
  }
}

extension KnownNeighbor {
  init(_ record: AgingTable<NeighborKey, Neighbor>.Record) {
    self.init(
      ip: record.key.address, vlan: record.key.vlan, address: record.value.address,
      port: record.value.place.port, peer: record.value.place.peer,
      isRouter: record.value.isRouter, age: record.age ?? 0)
    isExternal = record.origin != .learned
    doubt = record.value.doubt
  }
}

/// Events in a bridge's neighbor table, counted, and its size.
package struct NeighborStatistics: Equatable, Sendable {
  /// `moved` counts neighbors that came to have another address, port or role.
  package var table = AddressStatistics()
  /// Questions answered instead of flooded.
  package var answered: UInt64 = 0
  /// Frames that came faster by one port than they are read for what they say about neighbors.
  package var unread: UInt64 = 0

  package init() {}
}

extension Datapath {
  /// The neighbors that a bridge knows.
  package func neighbors(of bridge: BridgeID) -> [KnownNeighbor] {
    guard hasBridge(bridge) else { return [] }
    return neighbors.records(of: bridge, now: now).map { KnownNeighbor($0) }
  }

  /// Forgets the neighbors of a bridge, and says how many.
  package mutating func flushNeighbors(of bridge: BridgeID) -> Int {
    guard hasBridge(bridge) else { return 0 }
    hasStationNews = true
    return neighbors.flush(bridge)
  }

  /// What has happened to a bridge's neighbor table since the bridge was made.
  package func neighborStatistics(of bridge: BridgeID) -> NeighborStatistics {
    var statistics = NeighborStatistics()
    guard hasBridge(bridge) else { return statistics }
    statistics.table = neighbors.statistics(of: bridge)
    statistics.answered = answers[bridge]
    statistics.unread = unread[bridge]
    return statistics
  }
}
