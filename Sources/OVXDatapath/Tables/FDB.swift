/// Where a frame for an address goes: a port and, for a tunnel port, the remote VTEP behind it.
package struct Destination: Hashable, BitwiseCopyable, Sendable {
  package var port: PortID
  package var peer: RemoteVTEPID

  package init(port: PortID, peer: RemoteVTEPID = .none) {
    self.port = port
    self.peer = peer
  }
}

extension Destination: AgingTableValue {}

/// The forwarding database of one bridge: which address was seen where, by VLAN; 32 bytes per entry
/// in all.
typealias FDB = AgingTable<AddressKey, Destination>

/// VLAN above address: 12 and 48 bits.
struct AddressKey: AgingTableKey, Hashable {
  let rawValue: UInt64

  @inline(__always) init(vlan: VLANID, address: MACAddress) {
    rawValue = UInt64(vlan.rawValue) << 48 | address.rawValue
  }

  var vlan: VLANID { VLANID(tagControl: UInt16(truncatingIfNeeded: rawValue >> 48)) }
  var address: MACAddress { MACAddress(truncating: rawValue) }

  @inline(__always) func hash(seed: UInt64) -> UInt64 { (rawValue ^ seed).scrambled() }
}

/// One line of a bridge's address table.
package struct KnownAddress: Equatable, Sendable {
  package var address: MACAddress
  package var vlan: VLANID
  package var port: PortID
  /// The remote VTEP behind which the address is, for a tunnel port.
  package var peer: RemoteVTEPID
  /// Seconds since it was last seen; `nil` for one that does not age.
  package var age: UInt32?
  package var origin = EntryOrigin.learned

  package init(
    address: MACAddress, vlan: VLANID, port: PortID, peer: RemoteVTEPID, age: UInt32?,
    origin: EntryOrigin = .learned
  ) {
    self.address = address
    self.vlan = vlan
    self.port = port
    self.peer = peer
    self.age = age
    self.origin = origin
  }
}

extension KnownAddress {
  init(_ record: FDB.Record) {
    self.init(
      address: record.key.address, vlan: record.key.vlan, port: record.value.port,
      peer: record.value.peer, age: record.age, origin: record.origin)
  }
}

/// Events in a bridge's address table, counted, and its size.
package struct AddressStatistics: Equatable, Sendable {
  package var current = 0
  package var limit = 0
  package var statics = 0
  /// Entries of agents.
  package var external = 0
  package var learned: UInt64 = 0
  package var expired: UInt64 = 0
  /// Entries that gave way because the table was full.
  package var evicted: UInt64 = 0
  /// Entries that gave way because their port held as many as it may.
  package var limited: UInt64 = 0
  package var moved: UInt64 = 0
  /// New places of addresses that a port told of faster than they are learned.
  package var unlearned: UInt64 = 0

  package init() {}
}
