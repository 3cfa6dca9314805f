private import OVXDatapath
private import OVXSimulation

/// libFuzzer's door to decapsulation: what a known VTEP sends to a tunnel, from the VXLAN header on.
///
/// The first two bytes choose the topology. Then records follow:
///
///     0     the sender, counted among the peers of all tunnels
///     1     bits 0 and 1 the outer ECN; bit 2 ends the burst; bit 3 the fuzzer writes the VXLAN headers itself
///     2…5   bytes of each datagram of the train but the last, 0 for a single one; bytes of the train
///
/// and the bytes, in front of each datagram of which comes a header with the tunnel's VNI.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDatagrams(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let seed = UInt64(input.takeNumber(2))
  var generator = TopologyGenerator(seed: seed)
  let host = SimulatedHost(generator.generate(), seed: seed)
  let senders = host.topology.ports.flatMap { port -> [Sender] in
    guard case .tunnel(let tunnel) = port.attachment else { return [] }
    return tunnel.peers.map {
      Sender(vni: tunnel.vni, endpoint: tunnel.endpoint, address: $0.remote)
    }
  }
  guard !senders.isEmpty else { return -1 }
  while let number = input.take(1).first {
    let sender = senders[Int(number) % senders.count]
    let flags = input.takeNumber(1)
    let segmentSize = input.takeNumber(2)
    let bytes = input.take(input.takeNumber(2))
    guard !bytes.isEmpty else { break }
    let (train, size) =
      flags & 8 != 0 ? (bytes, segmentSize) : sender.encapsulate(bytes, in: segmentSize)
    host.receive(
      train: train, segmentSize: size, on: sender.endpoint, from: sender.address,
      trafficClass: UInt8(flags & 3))
    if flags & 4 != 0 { host.endBurst() }
  }
  host.endBurst()
  // What came in by a tunnel leaves by a device, whatever it was, or by the tunnel of a joined VNI.
  let joined = host.topology.ports.filter { port in
    guard case .tunnel(let tunnel) = port.attachment else { return false }
    return tunnel.isJoined
  }
  for case .datagram(_, _, let port, _) in host.takeSent()
  where !joined.contains(where: { $0.id == port }) {
    finding("\(port) sends on what a tunnel brought")
  }
  if let violation = host.violations.first { finding(violation) }
  return 0
}

private struct Sender {
  var vni: VNI
  var endpoint: EndpointID
  var address: IPAddress

  /// A train with a VXLAN header in front of so many bytes each, and the bytes of each with it.
  func encapsulate(_ bytes: [UInt8], in segmentSize: Int) -> (train: [UInt8], segmentSize: Int) {
    let word = VXLANHeader.encoded(vni: vni)
    let header = (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) }
    guard segmentSize > 0 else { return (header + bytes, 0) }
    let train = stride(from: 0, to: bytes.count, by: segmentSize).flatMap {
      header + bytes[$0..<min($0 + segmentSize, bytes.count)]
    }
    // The kernel joins no more than fit into an IP packet.
    return (Array(train.prefix(65_507)), segmentSize + header.count)
  }
}
