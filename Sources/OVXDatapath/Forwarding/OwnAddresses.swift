/// The Ethernet addresses that the devices of bridges have themselves.
///
/// A frame to one of them is for the device's user, whom the switch knows without having heard from
/// them; or for nobody, where the device is only the switch's end of a cable. To flood it would
/// show it to the whole segment for nothing. What was learned or set comes before: a virtual
/// machine may have the address of its TAP.
struct OwnAddresses: ~Copyable, Sendable {
  /// Whose an address is.
  enum Owner: Equatable {
    /// No device of the segment has it.
    case unowned
    /// A device has it, behind which there is nobody of that address.
    case nobody
    case station(PortID)
  }

  struct Entry: BitwiseCopyable {
    /// Bridge and address in one; `.max`, a group address, for a free place.
    var key = UInt64.max
    var port = PortID.none
    var isStation = false
  }

  /// Open addressing, at most half full.
  let entries: FixedArray<Entry>

  init(_ ports: [Topology.Port]) {
    var known: [Entry] = []
    for port in ports {
      guard case .device(let device) = port.attachment, let address = device.address,
        !address.isGroup
      else { continue }
      known.append(
        Entry(
          key: Self.key(address, port.bridge), port: port.id, isStation: device.isStation))
    }
    var places = 4
    while places < known.count * 2 { places *= 2 }
    var entries = FixedArray(repeating: Entry(), count: places)
    for entry in known {
      var place = Self.hash(entry.key) & (places - 1)
      while entries[place].key != .max { place = (place + 1) & (places - 1) }
      entries[place] = entry
    }
    self.entries = entries
  }

  private init(_ entries: consuming FixedArray<Entry>) { self.entries = entries }

  func copy() -> OwnAddresses { OwnAddresses(entries.copy()) }

  /// Where an address may be entered first; entries follow each other up to a free place.
  fileprivate func place(of address: MACAddress, bridge: BridgeID) -> (key: UInt64, place: Int) {
    let key = Self.key(address, bridge)
    return (key, Self.hash(key) & (entries.count - 1))
  }

  private static func key(_ address: MACAddress, _ bridge: BridgeID) -> UInt64 {
    UInt64(bridge.rawValue) << 48 | address.rawValue
  }

  private static func hash(_ key: UInt64) -> Int {
    Int(truncatingIfNeeded: key.scrambled() >> 1)
  }
}

extension CompiledTopology {
  /// Whose an address is that devices of a segment have themselves; a station's before nobody's,
  /// where several have it.
  func owner(of address: MACAddress, vlan: VLANID, bridge: BridgeID) -> OwnAddresses.Owner {
    let (key, first) = ownAddresses.place(of: address, bridge: bridge)
    var place = first
    var owner = OwnAddresses.Owner.unowned
    while ownAddresses.entries[place].key != .max {
      let entry = ownAddresses.entries[place]
      if entry.key == key, carries(vlan, port: ports[entry.port]) {
        if entry.isStation { return .station(entry.port) }
        owner = .nobody
      }
      place = (place &+ 1) & (ownAddresses.entries.count &- 1)
    }
    return owner
  }
}
