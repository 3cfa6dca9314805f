import OVXDatapath
import Testing

/// A datapath with memory to receive into, and a record of what it sent.
@safe
final class Bench {
  struct Sent: Equatable {
    var port: PortID
    var kind: Transmission.Kind
    var bytes: [UInt8]
    var segmentSize = 0
    var path: UInt32 = 0
    var injector: UInt16 = 0
    var offload = Offload.none
    var outer = OuterHeader.plain
  }

  final class Log { var sent: [Sent] = [] }

  private let log = Log()
  private var datapath: Datapath
  private let memory: UnsafeMutableRawPointer
  private static let headroom = 256
  /// Room for a superframe, and for a burst of 64 frames.
  private static let byteCount = headroom + 64 * 1200

  init(_ topology: Topology) {
    let log = log
    datapath = unsafe Datapath(seed: 1) { transmissions, vectors in
      for index in transmissions.indices {
        let transmission = unsafe transmissions[index]
        var bytes: [UInt8] = []
        let first = Int(transmission.firstVector)
        let header = transmission.kind == .frame ? 1 : 0
        for index in (first + header)..<(first + Int(transmission.vectorCount)) {
          let vector = unsafe vectors[index]
          unsafe bytes += UnsafeRawBufferPointer(start: vector.base, count: vector.count)
        }
        log.sent.append(
          Sent(
            port: transmission.port,
            kind: transmission.kind,
            bytes: bytes,
            segmentSize: Int(transmission.segmentSize),
            path: transmission.path.rawValue,
            injector: transmission.injector.rawValue,
            offload: transmission.offload,
            outer: transmission.outer
          )
        )
      }
    }
    unsafe memory = .allocate(byteCount: Bench.byteCount, alignment: 64)
    datapath.apply(topology)
  }

  deinit { unsafe memory.deallocate() }

  func apply(_ topology: Topology) { datapath.apply(topology) }
  func stopInjecting(_ injector: InjectorID) { datapath.stopInjecting(by: injector) }
  func tick(_ now: UInt32) { datapath.tick(now: now) }
  func beginBurst(_ milliseconds: UInt32) { datapath.beginBurst(now: milliseconds) }
  var work: Int64 { datapath.work }
  func addressStatistics() -> AddressStatistics {
    datapath.addressStatistics(of: BridgeID(rawValue: 0))
  }
  func counters(_ port: UInt16) -> PortCounters { datapath.counters(of: PortID(rawValue: port)) }
  func endpointDrops(_ reason: DropReason) -> UInt64 {
    datapath.counters(of: .none)[reason]
  }
  func addresses() -> [KnownAddress] { datapath.addresses(of: BridgeID(rawValue: 0)) }
  func neighbors() -> [KnownNeighbor] { datapath.neighbors(of: BridgeID(rawValue: 0)) }
  func neighborStatistics() -> NeighborStatistics {
    datapath.neighborStatistics(of: BridgeID(rawValue: 0))
  }
  func probe(_ ip: IPAddress, _ vlan: VLANID, from source: MACAddress) -> [Sent] {
    datapath.probe(ip, vlan: vlan, bridge: BridgeID(rawValue: 0), from: source)
    return finish()
  }
  func neighbor(_ ip: IPAddress, _ vlan: VLANID) -> MACAddress? {
    datapath.neighbor(ip, vlan: vlan, bridge: BridgeID(rawValue: 0))
  }
  func flushNeighbors() -> Int { datapath.flushNeighbors(of: BridgeID(rawValue: 0)) }
  func flushAddresses() -> Int { datapath.flushAddresses(of: BridgeID(rawValue: 0)) }
  func addStatic(_ address: MACAddress, _ vlan: VLANID, on port: UInt16) -> Bool {
    datapath.addStaticAddress(
      address, vlan: vlan, on: PortID(rawValue: port), bridge: BridgeID(rawValue: 0))
  }
  func take(_ entries: [ExternalEntry], _ vlan: VLANID) -> Int {
    datapath.take(entries, vlan: vlan, bridge: BridgeID(rawValue: 0))
  }
  func takeStationNews() -> Bool { datapath.takeStationNews() }
  func stations() -> [KnownAddress] { datapath.stations(of: BridgeID(rawValue: 0)) }
  func takeFlappingAddresses() -> [FlappingAddress] { datapath.takeFlappingAddresses() }
  func takeContestedNeighbors() -> [ContestedNeighbor] { datapath.takeContestedNeighbors() }
  func contestedNeighbors() -> [ContestedNeighbor] {
    datapath.contestedNeighbors(of: BridgeID(rawValue: 0))
  }

  func receive(
    _ bytes: [UInt8],
    from port: UInt16,
    offload: Offload = .none,
    tag: VLANTag = .none
  ) -> [Sent] {
    let frame = unsafe memory + Bench.headroom
    unsafe frame.copyMemory(from: bytes, byteCount: bytes.count)
    unsafe datapath.receiveFrame(
      frame,
      count: bytes.count,
      offload: offload,
      tag: tag,
      from: PortID(rawValue: port)
    )
    return finish()
  }

  /// Frames of up to 1000 bytes, forwarded as one burst.
  func receive(burst: [[UInt8]], offloads: [Offload] = [], from port: UInt16) -> [Sent] {
    precondition(burst.count <= 64 && burst.allSatisfy { $0.count <= 1000 })
    for (index, bytes) in burst.enumerated() {
      let frame = unsafe memory + Bench.headroom + index * 1200
      unsafe frame.copyMemory(from: bytes, byteCount: bytes.count)
      unsafe datapath.receiveFrame(
        frame,
        count: bytes.count,
        offload: index < offloads.count ? offloads[index] : .none,
        tag: .none,
        from: PortID(rawValue: port)
      )
    }
    return finish()
  }

  func receiveDatagrams(
    _ bytes: [UInt8],
    segmentSize: Int = 0,
    endpoint: UInt16 = 0,
    from remote: IPAddress,
    trafficClass: UInt8 = 0,
    by device: UInt32? = nil
  ) -> [Sent] {
    let train = unsafe memory + Bench.headroom
    unsafe train.copyMemory(from: bytes, byteCount: bytes.count)
    unsafe datapath.receiveDatagrams(
      train,
      count: bytes.count,
      segmentSize: segmentSize,
      on: ListenerID(rawValue: endpoint),
      from: remote,
      trafficClass: trafficClass,
      device: device
    )
    return finish()
  }

  private func finish() -> [Sent] {
    datapath.endBurst()
    defer { log.sent = [] }
    return log.sent
  }
}

let remoteA = IPAddress(v4: 0xC0A8_0503)
let remoteB = IPAddress(v4: 0xC0A8_0504)
let access100 = VLANMembership.access(vlan(100))

func vlan(_ value: UInt16) -> VLANID { VLANID(rawValue: value) ?? .untagged }
func vni(_ value: UInt32) -> VNI? { VNI(rawValue: value) }

func device(_ id: UInt16, _ vlans: VLANMembership, mtu: Int = 1500) -> Topology.Port {
  Topology.Port(
    id: PortID(rawValue: id),
    bridge: BridgeID(rawValue: 0),
    vlans: vlans,
    attachment: .device(Topology.Device(mtu: mtu, capabilities: .all))
  )
}

func tunnel(
  _ id: UInt16,
  vni value: UInt32,
  _ vlans: VLANMembership,
  remotes: [IPAddress],
  firstPeer: UInt16 = 1
) throws -> Topology.Port {
  let identifier = try #require(vni(value))
  let peers = remotes.enumerated().map { index, remote in
    Topology.Peer(
      id: RemoteVTEPID(rawValue: firstPeer + UInt16(index)),
      remote: remote,
      paths: (UInt32(firstPeer) + UInt32(index)) * 16..<(UInt32(firstPeer) + UInt32(index)) * 16
        + 16,
      mtu: 1450
    )
  }
  return Topology.Port(
    id: PortID(rawValue: id),
    bridge: BridgeID(rawValue: 0),
    vlans: vlans,
    attachment: .tunnel(
      Topology.Tunnel(vni: identifier, endpoint: ListenerID(rawValue: 0), peers: peers)
    )
  )
}

func topology(_ ports: [Topology.Port]) -> Topology {
  Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))], ports: ports)
}

/// A frame of the least length: addresses ending in the given octets, an unknown type, zeros.
func frame(to: UInt8, from: UInt8, tagged tag: UInt16? = nil) -> [UInt8] {
  let target: [UInt8] = to == 0xFF ? .init(repeating: 0xFF, count: 6) : [2, 0, 0, 0, 0, to]
  let tagging: [UInt8] = tag.map { [0x81, 0, UInt8($0 >> 8), UInt8($0 & 0xFF)] } ?? []
  return target + [2, 0, 0, 0, 0, from] + tagging + [0x88, 0xB5]
    + [UInt8](repeating: 7, count: 46)
}

func vxlan(_ vni: UInt32, _ frame: [UInt8], flags: UInt8 = 8) -> [UInt8] {
  [flags, 0, 0, 0, UInt8(vni >> 16 & 0xFF), UInt8(vni >> 8 & 0xFF), UInt8(vni & 0xFF), 0] + frame
}
