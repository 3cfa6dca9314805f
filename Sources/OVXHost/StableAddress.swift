internal import OVXDatapath

extension DesiredState.Place {
  /// The Ethernet address of a device that the daemon makes and that nobody has given one: always
  /// the same for one database and place, whatever is restarted or made anew.
  ///
  /// Other hosts, and the tables of the switches on the way, then need not learn it again.
  ///
  /// - Parameter identity: The database's.
  /// - Returns: The address; `nil` for a device that somebody else makes.
  func stableAddress(_ identity: UInt64) -> MACAddress? {
    switch self {
    case .existing: nil
    case .host(let name): Self.address(identity, name)
    case .container(let interface):
      Self.address(identity, "\(interface.name)@\(interface.target)")
    }
  }

  /// A unicast address that is locally administered (IEEE 802, section 8.2.2).
  private static func address(_ identity: UInt64, _ name: String) -> MACAddress {
    let hash = StableHash(of: name, seed: identity).value
    return MACAddress(truncating: hash & ~0x0300_0000_0000 | 0x0200_0000_0000)
  }
}

/// A number that is the same for one text in every process: FNV-1a and the finalizer of
/// MurmurHash3.
struct StableHash {
  let value: UInt64

  init(of text: String, seed: UInt64 = 0) {
    var hash = text.utf8.fnv1a(from: 0xCBF2_9CE4_8422_2325 ^ seed)
    hash = (hash ^ hash >> 33) &* 0xFF51_AFD7_ED55_8CCD
    hash = (hash ^ hash >> 33) &* 0xC4CE_B9FE_1A85_EC53
    value = hash ^ hash >> 33
  }
}
