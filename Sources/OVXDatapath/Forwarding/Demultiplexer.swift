/// Which tunnel port a datagram belongs to, by VNI, local socket and sending VTEP.
///
/// Looked up in two steps, so that datagrams of strangers cost the least: the VTEP once per train,
/// then the VNI once per run of datagrams with the same one.
struct Demultiplexer: ~Copyable, Sendable {
  struct Entry: BitwiseCopyable {
    var key: UInt64 = .max
    var destination = Destination(port: .none)
  }

  struct VTEP: BitwiseCopyable {
    var address = IPAddress(v4: 0)
    var number: UInt32 = .max
  }

  private var vteps: FixedArray<VTEP>
  private var entries: FixedArray<Entry>
  /// By the numbers of VTEPs.
  let arrivals: Arrivals

  /// Enters the tunnels among the ports.
  ///
  /// Those on a socket of their own address come before those on a wildcard one.
  init(_ ports: [Topology.Port]) {
    var numbers: [IPAddress: UInt32] = [:]
    var destinations: [UInt64: Destination] = [:]
    for isFallback in [false, true] {
      for port in ports {
        guard case .tunnel(let tunnel) = port.attachment else { continue }
        for peer in tunnel.peers {
          let number = numbers[peer.remote] ?? UInt32(numbers.count)
          numbers[peer.remote] = number
          for endpoint in isFallback ? tunnel.fallbackEndpoints : [tunnel.endpoint] {
            let key = Demultiplexer.key(vni: tunnel.vni, vtep: number, endpoint: endpoint)
            guard destinations[key] == nil else { continue }
            destinations[key] = Destination(port: port.id, peer: peer.id)
          }
        }
      }
    }
    arrivals = Arrivals(ports, numbers)
    vteps = FixedArray(repeating: VTEP(), count: Demultiplexer.placesFor(numbers.count))
    for (address, number) in numbers {
      var place = Demultiplexer.hash(address) & (vteps.count - 1)
      while vteps[place].number != .max { place = (place + 1) & (vteps.count - 1) }
      vteps[place] = VTEP(address: address, number: number)
    }
    entries = FixedArray(repeating: Entry(), count: Demultiplexer.placesFor(destinations.count))
    for (key, destination) in destinations {
      var place = Demultiplexer.hash(key) & (entries.count - 1)
      while entries[place].key != .max { place = (place + 1) & (entries.count - 1) }
      entries[place] = Entry(key: key, destination: destination)
    }
  }

  private init(copying other: borrowing Demultiplexer) {
    vteps = other.vteps.copy()
    entries = other.entries.copy()
    arrivals = other.arrivals.copy()
  }

  func copy() -> Demultiplexer { Demultiplexer(copying: self) }

  /// The number of a VTEP that is a remote of some tunnel, or `nil`.
  func vtep(_ address: IPAddress) -> UInt32? {
    let mask = vteps.count - 1
    var place = Demultiplexer.hash(address) & mask
    while vteps[place].number != .max {
      if vteps[place].address == address { return vteps[place].number }
      place = (place &+ 1) & mask
    }
    return nil
  }

  /// The tunnel port, and the peer, that a frame with this VNI from this VTEP belongs to.
  func tunnel(vni: VNI, vtep: UInt32, endpoint: ListenerID) -> Destination? {
    let key = Demultiplexer.key(vni: vni, vtep: vtep, endpoint: endpoint)
    let mask = entries.count - 1
    var place = Demultiplexer.hash(key) & mask
    while entries[place].key != .max {
      if entries[place].key == key { return entries[place].destination }
      place = (place &+ 1) & mask
    }
    return nil
  }

  private static func key(vni: VNI, vtep: UInt32, endpoint: ListenerID) -> UInt64 {
    UInt64(vni.rawValue) << 40 | UInt64(vtep & 0xFF_FFFF) << 16 | UInt64(endpoint.rawValue)
  }

  private static func hash(_ key: UInt64) -> Int {
    Int(truncatingIfNeeded: key.scrambled() >> 1)
  }

  private static func hash(_ address: IPAddress) -> Int {
    hash(address.high &* 0xD6E8_FEB8_6659_FD93 ^ address.low)
  }

  /// A power of two that leaves an open-addressing table at most half full.
  private static func placesFor(_ count: Int) -> Int {
    var places = 4
    while places < count * 2 { places *= 2 }
    return places
  }
}
