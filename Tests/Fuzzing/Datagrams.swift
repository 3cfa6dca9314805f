private import OVXDatapath
private import OVXSimulation

@MainActor private var hosts: [PersistentHost?] = []
/// The VTEPs that have more than one VNI in common with the host of a topology.
@MainActor private var neighbors: [Int: [Sender]] = [:]

/// libFuzzer's door to decapsulation: what a known VTEP sends to a tunnel, from the VXLAN header
/// on.
///
/// For kinds 2 to 5 the port counts among the remotes of tunnels behind which another VNI is, too.
/// Bits 3 to 5 of the byte that has the outer ECN field tell how an arrival's bytes get into what
/// the kernel hands over:
///
///     0   with a VXLAN header of the tunnel's in front of each datagram
///     1   the fuzzer writes the VXLAN headers itself
///     2   they are a superframe of a container, with VXLAN headers of another VNI, and addresses,
///         at the strides
///     3   they are a frame of a container, in front of frames of another VNI
///     4   as 2, the lengths and the checksum made those of a superframe, and the headers where
///         there are none
///     5   as 3, likewise
@MainActor @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDatagrams(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let script = unsafe Script(Input(start, count))
  return PersistentHost.use(script.topology, of: &hosts, whose: \.isTunnel) { host in
    let watch = host.watch
    let neighbors = neighborsOf(host)
    for arrival in script.arrivals {
      guard let sender = Sender(arrival, at: host.ports, among: neighbors) else { continue }
      guard var train = sender.train(arrival, among: host.ports, watch) else { return -1 }
      // The kernel hands over no more than fits into an IP packet.
      train.bytes.removeLast(max(0, train.bytes.count - 65_507))
      // All of a superframe is of the VNI in its first header, however it is written.
      let isOneTenants = [2, 4].contains(arrival.kind) && train.segmentSize > 0
      let before = isOneTenants ? host.host.framesReceived(outside: sender.tunnel.vni) : 0
      host.host.receive(
        train: train.bytes, segmentSize: train.segmentSize,
        on: sender.tunnel.endpoint, from: sender.address, trafficClass: arrival.trafficClass)
      if isOneTenants, host.host.framesReceived(outside: sender.tunnel.vni) != before {
        finding("another VNI receives what VNI \(sender.tunnel.vni) has forged")
      }
      host.finish(arrival)
    }
    host.host.endBurst()
    // What came in by a tunnel leaves by a device, whatever it was, or by the tunnel of a joined
    // VNI. Only that a packet is too long for a device its sender is told.
    let joined = host.ports.filter { port in
      guard case .tunnel(let tunnel) = port.attachment else { return false }
      return tunnel.isJoined
    }
    let sent = host.host.takeSent()
    for case .datagram(let bytes, _, let port, _) in sent
    where !joined.contains(where: { $0.id == port }) && !saysPacketTooBig(bytes) {
      finding("\(port) sends on what a tunnel brought: \(bytes.prefix(128))")
    }
    // Joined VNIs are one network.
    if joined.isEmpty, let violation = watch.violation(in: sent) { finding(violation) }
    if let violation = host.host.violations.first { finding(violation) }
    return 0
  }
}

extension Script.Arrival {
  fileprivate var kind: UInt8 { offload[3] >> 3 & 7 }
}

extension Topology.Port {
  fileprivate var isTunnel: Bool { vni != nil }

  fileprivate var vni: VNI? {
    guard case .tunnel(let tunnel) = attachment else { return nil }
    return tunnel.vni
  }
}

extension SimulatedHost {
  /// The frames that all ports but the tunnels of a VNI have received.
  fileprivate func framesReceived(outside vni: VNI) -> UInt64 {
    var frames: UInt64 = 0
    for port in topology.ports where port.vni != vni {
      frames += datapath.counters(of: port.id).receivedFrames
    }
    return frames
  }
}

@MainActor private func neighborsOf(_ host: PersistentHost) -> [Sender] {
  if let known = neighbors[host.number] { return known }
  let found = Sender.neighbors(among: host.ports)
  neighbors[host.number] = found
  return found
}

/// The VTEP that an arrival comes from, and the tunnel that it is meant for.
private struct Sender {
  var tunnel: Topology.Tunnel
  var address: IPAddress

  /// `nil` where there is no such tunnel, or nothing to send.
  init?(
    _ arrival: Script.Arrival, at ports: [Topology.Port], among neighbors: [Sender]
  ) {
    if (2...5).contains(arrival.kind), !neighbors.isEmpty, !arrival.bytes.isEmpty {
      self = neighbors[Int(arrival.port) % neighbors.count]
      return
    }
    guard !ports.isEmpty, !arrival.bytes.isEmpty,
      case .tunnel(let tunnel) = ports[Int(arrival.port) % ports.count].attachment,
      !tunnel.peers.isEmpty
    else { return nil }
    self.tunnel = tunnel
    address = tunnel.peers[arrival.remote % tunnel.peers.count].remote
  }

  private init(tunnel: Topology.Tunnel, address: IPAddress) {
    self.tunnel = tunnel
    self.address = address
  }

  /// The VTEPs that have more than one VNI in common with this host.
  fileprivate static func neighbors(among ports: [Topology.Port]) -> [Sender] {
    ports.flatMap { port -> [Sender] in
      guard case .tunnel(let tunnel) = port.attachment else { return [] }
      return tunnel.peers.map { Sender(tunnel: tunnel, address: $0.remote) }
    }.filter { $0.other(among: ports) != nil }
  }

  /// What the kernel hands over of an arrival; `nil` where its bytes hold by chance what is looked
  /// for.
  func train(
    _ arrival: Script.Arrival, among ports: [Topology.Port], _ watch: TenancyWatch
  ) -> HostileTrain? {
    var bytes = arrival.bytes
    let segmentSize = arrival.segmentSize
    let vni = tunnel.vni
    switch arrival.kind {
    case 1: return HostileTrain(raw: bytes, segmentSize: segmentSize)
    case 2...5: break
    default:
      let (train, size) = encapsulate(bytes, in: segmentSize, vni: vni)
      return HostileTrain(raw: train, segmentSize: size)
    }
    // Where there is no other tenant, one that is not known here.
    let other = other(among: ports) ?? TopologyGenerator.vnis.first { $0 != vni } ?? vni
    var plan = PacketPlan(from: MACAddress(truncating: 0x0200_0000_00AA), to: .broadcast)
    plan.isTCP = false
    plan.isIPv6 = arrival.port & 0x80 != 0
    if arrival.kind == 4 || arrival.kind == 5, FrameAnatomy(bytes)?.packet?.isUDP != true {
      bytes = plan.frame + bytes
    }
    switch arrival.kind {
    case 2, 4:
      if arrival.kind == 4 { bytes.claim(bytes.count) }
      return HostileTrain(
        superframe: bytes, of: vni, segmentSize: segmentSize,
        header: vxlanDatagram(vni: other, frame: Array(plan.frame.prefix(12))), where: { _ in true }
      )
    default:
      let size = max(segmentSize, 60)
      bytes += [UInt8](repeating: 0, count: max(0, size - bytes.count))
      bytes.removeLast(bytes.count - size)
      if arrival.kind == 5 { bytes.claim(4 * (8 + size) - 8) }
      guard !watch.holdsMark(bytes, except: vni) else { return nil }
      plan.payload = TenancyWatch.payload(of: other, count: size - plan.headerLength)
      return HostileTrain(
        datagrams: [(vni, bytes)] + Array(repeating: (other, plan.frame), count: 3))
    }
  }

  /// Another VNI behind the same VTEP.
  private func other(among ports: [Topology.Port]) -> VNI? {
    for port in ports {
      guard case .tunnel(let other) = port.attachment, other.vni != tunnel.vni,
        other.endpoint == tunnel.endpoint, other.peers.contains(where: { $0.remote == address })
      else { continue }
      return other.vni
    }
    return nil
  }
}
