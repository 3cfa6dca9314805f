private import OVXDatapath
private import OVXSimulation

@MainActor private var hosts: [PersistentHost?] = []

/// libFuzzer's door to the datapath: a topology, and bursts of frames and trains whose bytes the
/// fuzzer chooses.
///
/// A trap, an access out of bounds or a broken contract with the worker
/// (`SimulatedHost.violations`) is a finding.
@MainActor @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFrames(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let script = unsafe Script(Input(start, count))
  PersistentHost.use(script.topology, of: &hosts, whose: { _ in true }) { host in
    for arrival in script.arrivals { host.receive(arrival) }
    host.host.endBurst()
    _ = host.host.takeSent()
    if let violation = host.host.violations.first { finding(violation) }
  }
  return 0
}
