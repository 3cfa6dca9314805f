package import OVXDatapath

/// The neighbors that a bridge knows: `ovx-ctl neigh show`.
package struct BridgeNeighbors: Codable, Equatable, Sendable {
  package var bridge: String
  package var entries: [Entry]

  package struct Entry: Codable, Equatable, Sendable {
    /// The port on which the neighbor told its address.
    package var port: String
    package var vlan: VLANID
    package var ip: IPAddress
    package var mac: MACAddress
    /// Seconds since it last told; 0 for an agent's.
    package var age: UInt32
    /// Whether an agent has told it; absent where not.
    package var external: Bool?
    /// Whether it is a router, as far as IPv6 tells; false for IPv4.
    package var router: Bool
    /// The remote VTEP behind which it was, for a tunnel port.
    package var remote: IPAddress?
    /// Another station that has announced the same IP address in turn with this one within the last
    /// minute.
    package var rival: MACAddress?

    /// Describes a neighbor by the names of its port and remote.
    package init(
      _ neighbor: KnownNeighbor, port: String, remote: IPAddress?, rival: MACAddress? = nil
    ) {
      self.port = port
      vlan = neighbor.vlan
      ip = neighbor.ip
      mac = neighbor.address
      age = neighbor.age
      external = neighbor.isExternal ? true : nil
      router = neighbor.isRouter
      self.remote = remote
      self.rival = rival
    }
  }

  package init(bridge: String, entries: [Entry]) {
    self.bridge = bridge
    self.entries = entries
  }
}

/// What has happened to a bridge's neighbor table: `ovx-ctl neigh stats`.
package struct BridgeNeighborStatistics: Codable, Equatable, Sendable {
  package var bridge: String
  package var current: Int
  package var limit: Int
  package var learned: UInt64
  /// Neighbors that came to have another address, port or role.
  package var moved: UInt64
  package var expired: UInt64
  /// Neighbors that gave way because the table was full.
  package var evicted: UInt64
  /// Neighbors that gave way because their port had as many as it may.
  package var limited: UInt64
  /// Questions answered instead of flooded.
  package var answered: UInt64
  /// Frames that came faster by one port than they are read for what they say.
  package var unread: UInt64

  package init(bridge: String, _ statistics: NeighborStatistics) {
    self.bridge = bridge
    current = statistics.table.current
    limit = statistics.table.limit
    learned = statistics.table.learned
    moved = statistics.table.moved
    expired = statistics.table.expired
    evicted = statistics.table.evicted
    limited = statistics.table.limited
    answered = statistics.answered
    unread = statistics.unread
  }
}
