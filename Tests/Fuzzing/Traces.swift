private import OVXControl
private import OVXDatapath
private import OVXSimulation

/// libFuzzer's door to `trace`: a port, and words for a frame, which is put together and forwarded.
///
/// The first two bytes choose the topology and the port, the rest are the words. Findings are a
/// trap, a frame that the daemon would not take from ovx-ctl, one that cannot be told in words, and
/// one that is forwarded otherwise on the switch itself than on the side.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzTraces(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let seed = UInt64(input.takeNumber(1))
  let number = input.takeNumber(1)
  let frame: TracedFrame
  do throws(ControlError) {
    frame = try TracedFrame(String(decoding: input.takeRest(), as: UTF8.self))
  } catch {
    check(error)
    return 0
  }
  checkTravel(of: frame)
  check(summary: FrameSummary(frame: frame.bytes, length: frame.bytes.count).text)
  check(summary: FrameSummary(packet: frame.bytes, length: frame.bytes.count).text)

  var generator = TopologyGenerator(seed: seed)
  let topology = generator.generate()
  let port = topology.ports[number % topology.ports.count]
  guard let arrival = TraceRun.Input(frame, by: port) else { return 0 }
  var trace = TraceRun(topology)
  let host = SimulatedHost(topology, seed: seed)
  let result = trace.run(arrival) { host.datapath.snapshot(for: $0) }
  switch arrival {
  case .frame(let bytes, let offload, _, let port):
    host.receive(PartialFrame(bytes, offload: offload), from: port)
  case .datagram(let bytes, let endpoint, let remote, let trafficClass):
    host.receive(
      train: bytes, segmentSize: 0, on: endpoint, from: remote, trafficClass: trafficClass)
  }
  host.endBurst()
  let sent = Set(
    host.takeSent().map { sent in
      switch sent {
      case .frame(_, let port), .datagram(_, _, let port, _): port
      }
    })
  var told: Set<PortID> = []
  for delivery in result.deliveries {
    if case .sent = delivery.outcome { told.insert(delivery.port) }
  }
  guard sent == told else { finding("Sent by \(sent), and told of \(told)") }
  if let violation = host.violations.first { finding(violation) }
  return 0
}

extension TraceRun.Input {
  /// `nil` where the daemon would refuse it.
  fileprivate init?(_ traced: TracedFrame, by port: Topology.Port) {
    guard case .tunnel(let tunnel) = port.attachment else {
      var offload = Offload.none
      if let size = traced.segmentSize {
        guard let request = Offload(segmenting: traced.bytes, into: size) else { return nil }
        offload = request
      }
      self = .frame(traced.bytes, offload: offload, port: port.id)
      return
    }
    guard let remote = traced.tunnelSource ?? tunnel.peers.first?.remote else { return nil }
    let word = VXLANHeader.encoded(vni: traced.vni ?? tunnel.vni)
    let header = (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(56 - 8 * $0)) }
    self = .datagram(header + traced.bytes, endpoint: tunnel.endpoint, remote: remote)
  }
}

/// What ovx-ctl has made of the words, the daemon takes.
private func checkTravel(of frame: TracedFrame) {
  let request = Request(commands: [.trace(bridge: "br0", port: "p", frame: frame)])
  do throws(ControlError) {
    var decoder = MessageDecoder<Request>()
    decoder.append(try request.messageBytes())
    guard try decoder.next() == request else { finding("A frame comes back otherwise.") }
  } catch {
    finding("A frame does not come back: \(error)")
  }
}

private func check(summary: String) {
  let isClean = summary.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
  guard isClean, !summary.isEmpty else { finding("No summary: \(summary)") }
}
