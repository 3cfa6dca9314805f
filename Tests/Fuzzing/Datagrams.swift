private import OVXDatapath
private import OVXSimulation

@MainActor private var hosts: [PersistentHost?] = []

/// libFuzzer's door to decapsulation: what a known VTEP sends to a tunnel, from the VXLAN header on.
///
/// For kinds 2 to 5 the port counts among the remotes of tunnels behind which another VNI is, too. Bits 3 to 5 of the byte that has the outer ECN field tell how an arrival's bytes get into what the kernel hands over:
///
///     0   with a VXLAN header of the tunnel's in front of each datagram
///     1   the fuzzer writes the VXLAN headers itself
///     2   they are a superframe of a container, with VXLAN headers of another VNI, and addresses, at the strides
///     3   they are a frame of a container, in front of frames of another VNI
///     4   as 2, the lengths and the checksum made those of a superframe, and the headers where there are none
///     5   as 3, likewise
@MainActor @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDatagrams(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let script = unsafe Script(Input(start, count))
  return PersistentHost.use(script.topology, of: &hosts, whose: \.isTunnel) { host in
    let watch = host.watch
    for arrival in script.arrivals {
      guard let sender = Sender(arrival, at: host.ports) else { continue }
      guard let train = sender.train(arrival, among: host.ports, watch) else { return -1 }
      // All of a superframe is of the VNI in its first header, however it is written.
      let isOneTenants = [2, 4].contains(arrival.kind) && train.segmentSize > 0
      let before = isOneTenants ? host.host.receivedFrames : [:]
      host.host.receive(
        train: Array(train.bytes.prefix(65_507)), segmentSize: train.segmentSize,
        on: sender.tunnel.endpoint, from: sender.address, trafficClass: arrival.trafficClass)
      for (port, count) in isOneTenants ? host.host.receivedFrames : [:]
      where count != before[port] {
        guard host.ports.contains(where: { $0.id == port && $0.vni == sender.tunnel.vni }) else {
          finding("\(port) receives what VNI \(sender.tunnel.vni) has forged")
        }
      }
      host.finish(arrival)
    }
    host.host.endBurst()
    // What came in by a tunnel leaves by a device, whatever it was, or by the tunnel of a joined VNI. Only that a packet is
    // too long for a device its sender is told.
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
  /// The frames that each port has received.
  fileprivate var receivedFrames: [PortID: UInt64] {
    var frames: [PortID: UInt64] = [:]
    for port in topology.ports { frames[port.id] = datapath.counters(of: port.id).receivedFrames }
    return frames
  }
}

/// The VTEP that an arrival comes from, and the tunnel that it is meant for.
private struct Sender {
  var tunnel: Topology.Tunnel
  var address: IPAddress

  /// `nil` where there is no such tunnel, or nothing to send.
  init?(_ arrival: Script.Arrival, at ports: [Topology.Port]) {
    let neighbors = (2...5).contains(arrival.kind) ? Self.neighbors(among: ports) : []
    if !neighbors.isEmpty, !arrival.bytes.isEmpty {
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
  private static func neighbors(among ports: [Topology.Port]) -> [Sender] {
    ports.flatMap { port -> [Sender] in
      guard case .tunnel(let tunnel) = port.attachment else { return [] }
      return tunnel.peers.map { Sender(tunnel: tunnel, address: $0.remote) }
    }.filter { $0.other(among: ports) != nil }
  }

  /// What the kernel hands over of an arrival; `nil` where its bytes hold by chance what is looked for.
  func train(
    _ arrival: Script.Arrival, among ports: [Topology.Port], _ watch: TenancyWatch
  ) -> HostileTrain? {
    var bytes = arrival.bytes
    let segmentSize = arrival.segmentSize
    let vni = tunnel.vni
    // Where there is no other tenant, one that is not known here.
    let other = other(among: ports) ?? TopologyGenerator.vnis.first { $0 != vni } ?? vni
    var plan = PacketPlan(from: MACAddress(truncating: 0x0200_0000_00AA), to: .broadcast)
    plan.isTCP = false
    plan.isIPv6 = arrival.port & 0x80 != 0
    if arrival.kind == 4 || arrival.kind == 5, FrameAnatomy(bytes)?.packet?.isUDP != true {
      bytes = plan.frame + bytes
    }
    switch arrival.kind {
    case 1: return HostileTrain(raw: bytes, segmentSize: segmentSize)
    case 2, 4:
      if arrival.kind == 4 { bytes.claim(bytes.count) }
      return HostileTrain(
        superframe: bytes, of: vni, segmentSize: segmentSize,
        header: vxlanDatagram(vni: other, frame: Array(plan.frame.prefix(12))), where: { _ in true }
      )
    case 3, 5:
      let size = max(segmentSize, 60)
      bytes += [UInt8](repeating: 0, count: max(0, size - bytes.count))
      bytes.removeLast(bytes.count - size)
      if arrival.kind == 5 { bytes.claim(4 * (8 + size) - 8) }
      guard !watch.holdsMark(bytes, except: vni) else { return nil }
      plan.payload = TenancyWatch.payload(of: other, count: size - plan.headerLength)
      return HostileTrain(
        datagrams: [(vni, bytes)] + Array(repeating: (other, plan.frame), count: 3))
    default:
      let (train, size) = encapsulate(bytes, in: segmentSize, vni: vni)
      return HostileTrain(raw: train, segmentSize: size)
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
