private import OVXDatapath
private import OVXSimulation

/// libFuzzer's door to decapsulation: what a known VTEP sends to a tunnel, from the VXLAN header on.
///
/// The first two bytes choose the topology. Then records follow:
///
///     0     the sender, counted among the peers of all tunnels; for kinds 2 to 5 among those that have another VNI, too
///     1     bits 0 and 1 the outer ECN; bit 2 ends the burst; bits 3 to 5 how the bytes get into a train:
///           0 with a VXLAN header of the sender's in front of each datagram   1 the fuzzer writes the VXLAN headers itself
///           2 they are a superframe of a container, with VXLAN headers of another VNI, and addresses, at the strides
///           3 they are a frame of a container, in front of frames of another VNI
///           4, 5 as 2 and 3, the lengths and the checksum made those of a superframe, and the headers where there are none
///     2…5   bytes of each datagram of the train but the last, 0 for a single one; bytes of the train
///
/// and the bytes.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDatagrams(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let seed = UInt64(input.takeNumber(2))
  var generator = TopologyGenerator(seed: seed)
  let host = SimulatedHost(generator.generate(), seed: seed)
  let watch = TenancyWatch(host.topology, vlans: generator.vlans)
  let senders = host.topology.ports.flatMap { port -> [Sender] in
    guard case .tunnel(let tunnel) = port.attachment else { return [] }
    return tunnel.peers.map {
      Sender(port: port.id, vni: tunnel.vni, endpoint: tunnel.endpoint, address: $0.remote)
    }
  }
  guard !senders.isEmpty else { return -1 }
  let neighbors = senders.filter { other(than: $0, among: senders) != nil }
  while let number = input.take(1).first {
    let flags = input.takeNumber(1)
    let kind = flags >> 3 & 7
    let among = (2...5).contains(kind) && !neighbors.isEmpty ? neighbors : senders
    let sender = among[Int(number) % among.count]
    let segmentSize = input.takeNumber(2)
    var bytes = input.take(input.takeNumber(2))
    guard !bytes.isEmpty else { break }
    // Where there is no other tenant, one that is not known here.
    let other =
      other(than: sender, among: senders)
      ?? TopologyGenerator.vnis.first { $0 != sender.vni } ?? sender.vni
    var plan = PacketPlan(
      from: MACAddress(truncating: 0x0200_0000_00AA), to: .broadcast)
    plan.isTCP = false
    plan.isIPv6 = number & 0x80 != 0
    if kind == 4 || kind == 5, FrameAnatomy(bytes)?.packet?.isUDP != true {
      bytes = plan.frame + bytes
    }
    let train: HostileTrain
    switch kind {
    case 1: train = HostileTrain(raw: bytes, segmentSize: segmentSize)
    case 2, 4:
      if kind == 4 { bytes.claim(bytes.count) }
      train = HostileTrain(
        superframe: bytes, of: sender.vni, segmentSize: segmentSize,
        header: vxlanDatagram(vni: other, frame: Array(plan.frame.prefix(12))), where: { _ in true }
      )
    case 3, 5:
      let size = max(segmentSize, 60)
      bytes += [UInt8](repeating: 0, count: max(0, size - bytes.count))
      bytes.removeLast(bytes.count - size)
      if kind == 5 { bytes.claim(4 * (8 + size) - 8) }
      // What is looked for is nowhere else, unless the fuzzer has guessed it.
      if watch.holdsMark(bytes, except: sender.vni) { return -1 }
      plan.payload = TenancyWatch.payload(of: other, count: size - plan.headerLength)
      train = HostileTrain(
        datagrams: [(sender.vni, bytes)] + Array(repeating: (other, plan.frame), count: 3))
    default: train = sender.encapsulate(bytes, in: segmentSize)
    }
    let before = host.receivedFrames
    host.receive(
      train: Array(train.bytes.prefix(65_507)), segmentSize: train.segmentSize, on: sender.endpoint,
      from: sender.address, trafficClass: UInt8(flags & 3))
    // All of a superframe is of the VNI in its first header, however it is written.
    let isOneTenants = [2, 4].contains(kind) && train.segmentSize > 0
    for (port, count) in host.receivedFrames where isOneTenants && count != before[port] {
      guard senders.contains(where: { $0.port == port && $0.vni == sender.vni }) else {
        finding("\(port) receives what VNI \(sender.vni) has forged")
      }
    }
    if flags & 4 != 0 { host.endBurst() }
  }
  host.endBurst()
  // What came in by a tunnel leaves by a device, whatever it was, or by the tunnel of a joined VNI.
  let joined = host.topology.ports.filter { port in
    guard case .tunnel(let tunnel) = port.attachment else { return false }
    return tunnel.isJoined
  }
  let sent = host.takeSent()
  for case .datagram(_, _, let port, _) in sent where !joined.contains(where: { $0.id == port }) {
    finding("\(port) sends on what a tunnel brought")
  }
  // Joined VNIs are one network.
  if joined.isEmpty, let violation = watch.violation(in: sent) { finding(violation) }
  if let violation = host.violations.first { finding(violation) }
  return 0
}

extension SimulatedHost {
  /// The frames that each port has received.
  fileprivate var receivedFrames: [PortID: UInt64] {
    var frames: [PortID: UInt64] = [:]
    for port in topology.ports { frames[port.id] = datapath.counters(of: port.id).receivedFrames }
    return frames
  }
}

/// Another VNI behind the same VTEP.
private func other(than sender: Sender, among senders: [Sender]) -> VNI? {
  senders.first {
    $0.vni != sender.vni && $0.address == sender.address && $0.endpoint == sender.endpoint
  }?.vni
}

private struct Sender {
  var port: PortID
  var vni: VNI
  var endpoint: EndpointID
  var address: IPAddress

  /// A train with a VXLAN header in front of so many bytes each, and the bytes of each with it.
  func encapsulate(_ bytes: [UInt8], in segmentSize: Int) -> HostileTrain {
    let header = vxlanDatagram(vni: vni, frame: [])
    guard segmentSize > 0 else { return HostileTrain(raw: header + bytes, segmentSize: 0) }
    let train = stride(from: 0, to: bytes.count, by: segmentSize).flatMap {
      header + bytes[$0..<min($0 + segmentSize, bytes.count)]
    }
    // The kernel joins no more than fit into an IP packet.
    return HostileTrain(
      raw: Array(train.prefix(65_507)), segmentSize: segmentSize + header.count)
  }
}
