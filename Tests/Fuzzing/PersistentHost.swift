import OVXDatapath
import OVXSimulation

/// Hosts that stay from one input to the next, one for each of a few small topologies: to make one
/// takes a hundred times as long as to forward what a typical input holds.
///
/// Before each input everything that a host has learned is forgotten, and enough time passes that
/// nothing it counts by time is left either, so that an input does the same whatever came before
/// it.
struct PersistentHost {
  /// The topology's.
  let number: Int
  let host: SimulatedHost
  /// What has ports of its own in a script: devices, tunnels, or both.
  let ports: [Topology.Port]
  /// Sees what leaves its tenant.
  let watch: TenancyWatch
  private var now: UInt32 = 0

  /// Topologies that an input can choose from.
  static let topologyCount = 48
  /// The VLANs that their ports are members of.
  static let vlans = [0, 10, 20, 4095].compactMap(VLANID.init(rawValue:))
  /// Seconds between two inputs: more than anything lives for.
  private static let pause: UInt32 = 4_000

  private init(number: Int, _ takesPart: (Topology.Port) -> Bool) {
    self.number = number
    var generator = TopologyGenerator(seed: UInt64(number), vlans: Self.vlans)
    generator.bridgeCount = 1...2
    host = SimulatedHost(generator.generate(), seed: UInt64(number))
    ports = host.topology.ports.filter(takesPart)
    watch = TenancyWatch(host.topology, vlans: Self.vlans)
  }

  /// The host of a topology, as it is when nothing has arrived yet.
  static func use<Result>(
    _ number: UInt8, of hosts: inout [PersistentHost?],
    whose takesPart: (Topology.Port) -> Bool, _ body: (inout PersistentHost) -> Result
  ) -> Result {
    let index = Int(number) % topologyCount
    if hosts.isEmpty { hosts = Array(repeating: nil, count: topologyCount) }
    var host = hosts[index] ?? PersistentHost(number: index, takesPart)
    // Time does not run out: the switch counts its seconds in 32 bits.
    if host.now > .max / 2 { host = PersistentHost(number: index, takesPart) }
    host.forgetEverything()
    defer { hosts[index] = host }
    return body(&host)
  }

  private mutating func forgetEverything() {
    for bridge in host.topology.bridges {
      _ = host.datapath.flushAddresses(of: bridge.id)
      _ = host.datapath.flushNeighbors(of: bridge.id)
    }
    now += Self.pause
    host.tick(now: now)
  }

  /// Has something arrive, and all happen that it says.
  mutating func receive(_ arrival: Script.Arrival) {
    guard !ports.isEmpty else { return }
    let port = ports[Int(arrival.port) % ports.count]
    if case .tunnel(let tunnel) = port.attachment {
      receive(arrival, by: tunnel)
    } else {
      let tag =
        arrival.flags.contains(.hasTagBeside)
        ? VLANTag(control: arrival.tagControl) : VLANTag.none
      host.receive(
        PartialFrame(arrival.bytes, offload: Offload(virtioHeader: arrival.offload) ?? .none),
        tag: tag, from: port.id)
    }
    finish(arrival)
  }

  /// Ends the burst and lets time pass where an arrival says so.
  mutating func finish(_ arrival: Script.Arrival) {
    if arrival.flags.contains(.endsBurst) { host.endBurst() }
    if arrival.flags.contains(.lets7SecondsPass) {
      now += 7
      host.tick(now: now)
    }
  }

  private func receive(_ arrival: Script.Arrival, by tunnel: Topology.Tunnel) {
    guard !arrival.bytes.isEmpty, !tunnel.peers.isEmpty else { return }
    let (train, segmentSize) =
      arrival.flags.contains(.hasVXLANHeaders)
      ? (arrival.bytes, arrival.segmentSize)
      : encapsulate(arrival.bytes, in: arrival.segmentSize, vni: tunnel.vni)
    host.receive(
      train: train, segmentSize: segmentSize, on: tunnel.endpoint,
      from: tunnel.peers[arrival.remote % tunnel.peers.count].remote,
      trafficClass: arrival.trafficClass)
  }

}

/// A train with a VXLAN header in front of so many bytes each, and the bytes of each with it.
func encapsulate(
  _ bytes: [UInt8], in segmentSize: Int, vni: VNI
) -> (train: [UInt8], segmentSize: Int) {
  let word = VXLANHeader.encoded(vni: vni)
  let header = (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) }
  guard segmentSize > 0 else { return (header + bytes, 0) }
  var train: [UInt8] = []
  train.reserveCapacity(bytes.count + header.count * (1 + bytes.count / segmentSize))
  var start = 0
  while start < bytes.count {
    train += header
    train += bytes[start..<min(start + segmentSize, bytes.count)]
    start += segmentSize
  }
  // The kernel joins no more than fit into an IP packet.
  train.removeLast(max(0, train.count - 65_507))
  return (train, segmentSize + header.count)
}
