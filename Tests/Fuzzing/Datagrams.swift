private import OVXDatapath
private import OVXSimulation

@MainActor private var hosts: [PersistentHost?] = []

/// libFuzzer's door to decapsulation: what a known VTEP sends to a tunnel, from the VXLAN header on.
@MainActor @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzDatagrams(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let script = unsafe Script(Input(start, count))
  PersistentHost.use(script.topology, of: &hosts, whose: \.isTunnel) { host in
    for arrival in script.arrivals { host.receive(arrival) }
    host.host.endBurst()
    // What came in by a tunnel leaves by a device, whatever it was, or by the tunnel of a joined VNI.
    let joined = host.ports.filter { port in
      guard case .tunnel(let tunnel) = port.attachment else { return false }
      return tunnel.isJoined
    }
    for case .datagram(_, _, let port, _) in host.host.takeSent()
    where !joined.contains(where: { $0.id == port }) {
      finding("\(port) sends on what a tunnel brought")
    }
    if let violation = host.host.violations.first { finding(violation) }
  }
  return 0
}

extension Topology.Port {
  fileprivate var isTunnel: Bool {
    if case .tunnel = attachment { true } else { false }
  }
}
