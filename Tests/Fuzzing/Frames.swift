private import OVXDatapath
private import OVXSimulation

/// libFuzzer's door to the datapath: a random topology, and bursts of frames and trains whose bytes the fuzzer chooses.
///
/// The first two bytes choose the topology. Then records follow, each with a door, a length and so many bytes:
///
///     0…6   door: bit 7 a tunnel's, bit 6 with an offload in front of the bytes, bits 0 to 5 which port or VTEP
///     1, 2  length, little-endian; what is missing is missing
///
/// A trap, a write out of bounds or a broken contract with the worker (`SimulatedHost.violations`) is a finding.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzFrames(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  var input = unsafe Input(start, count)
  let seed = input.take(2).reduce(0) { $0 << 8 | UInt64($1) }
  var generator = TopologyGenerator(seed: seed)
  let host = SimulatedHost(generator.generate(), seed: seed)
  var now: UInt32 = 1
  while let door = input.take(1).first {
    let length = input.takeNumber(2)
    let number = Int(door & 0x3F)
    if door & 0x80 != 0 {
      let segmentSize = input.takeNumber(2)
      let remotes = TopologyGenerator.remotes
      let train = input.take(length)
      guard !train.isEmpty else { break }
      host.receive(
        train: train, segmentSize: segmentSize, on: EndpointID(rawValue: UInt16(number & 1)),
        from: remotes[(number >> 1) % remotes.count])
    } else {
      let offload = door & 0x40 == 0 ? Offload.none : Offload(virtioHeader: input.take(10)) ?? .none
      host.receive(
        PartialFrame(input.take(length), offload: offload),
        from: PortID(rawValue: UInt16(number % 40)))
    }
    if length >> 8 == 0xFF {
      host.endBurst()
      host.tick(now: now)
      now &+= 7
    }
  }
  host.endBurst()
  _ = host.takeSent()
  if let violation = host.violations.first { finding(violation) }
  return 0
}
