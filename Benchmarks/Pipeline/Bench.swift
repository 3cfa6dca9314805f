private import CLinux
internal import Glibc
internal import OVXDatapath

/// A switch with eight device ports and a tunnel, and a burst of 64-byte frames among many
/// addresses.
@safe
struct Bench: ~Copyable {
  private var datapath: Datapath
  private let memory: UnsafeMutableRawPointer
  private let hosts: Int
  private var cursor = 0
  private static let slot = 4096 + 64
  private static let frameLength = 60

  init(hosts: Int, remotes: Int = 1, limit: Int = 1_000_000) {
    self.hosts = hosts
    datapath = unsafe Datapath(seed: 7) { _, _ in }
    unsafe memory = .allocate(byteCount: 64 * Bench.slot, alignment: 64)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: 64 * Bench.slot)
    var ports = (0..<8).map { index in
      Topology.Port(
        id: PortID(rawValue: UInt16(index)), bridge: BridgeID(rawValue: 0), vlans: .trunk(nil),
        attachment: .device(Topology.Device(mtu: 1500, capabilities: .all)))
    }
    var peers: [Topology.Peer] = []
    for index in 0..<remotes {
      let firstPath = UInt32(16 * index)
      peers.append(
        Topology.Peer(
          id: RemoteVTEPID(rawValue: UInt16(1 + index)),
          remote: IPAddress(v4: 0xC0A8_0503 + UInt32(index)),
          paths: firstPath..<firstPath + 16, mtu: 1450))
    }
    if let vni = VNI(rawValue: 100) {
      ports.append(
        Topology.Port(
          id: PortID(rawValue: 8), bridge: BridgeID(rawValue: 0), vlans: .trunk(nil),
          attachment: .tunnel(
            Topology.Tunnel(vni: vni, endpoint: ListenerID(rawValue: 0), peers: peers))))
    }
    datapath.apply(
      Topology(
        bridges: [
          Topology.Bridge(id: BridgeID(rawValue: 0), agingTime: 0, addressLimit: limit)
        ], ports: ports))
    // Even addresses are on port 1, odd ones behind the tunnel.
    for host in 0..<hosts {
      if host % 2 == 0 {
        unsafe write(to: 1, from: UInt64(host), at: frame(0))
        unsafe receive(frame(0), from: PortID(rawValue: 1))
      } else {
        unsafe write(to: 1, from: UInt64(host), vni: 100, at: frame(0))
        unsafe receiveDatagram(frame(0))
      }
      datapath.endBurst()
    }
  }

  deinit { unsafe memory.deallocate() }

  private static let remote = IPAddress(v4: 0xC0A8_0503)

  /// The median cost of a frame over 21 rounds.
  mutating func nanoseconds(_ verdict: Verdict, batch: Int) -> Double {
    var rounds: [Double] = []
    let repetitions = max(20_000 / batch, 1)
    for _ in 0..<21 {
      let start = now()
      run(verdict, batch: batch, rounds: repetitions)
      rounds.append(Double(now() - start) / Double(repetitions * batch))
    }
    return rounds.sorted()[10]
  }

  /// Forwards bursts of frames for one verdict, as a worker does: all of a burst are there when the
  /// first is received.
  mutating func run(_ verdict: Verdict, batch: Int, rounds: Int) {
    for _ in 0..<rounds {
      for slot in 0..<batch {
        // A step that is prime to any power of two and of ten visits all addresses in a scattered
        // order.
        cursor = (cursor &+ 7_368_787) % hosts
        let even = UInt64(cursor & ~1)
        let odd = UInt64(min(cursor | 1, hosts - 1))
        switch verdict.withoutUDP {
        case .local, .localUDP: unsafe write(to: even, from: 0xFFFF_0001, at: frame(slot))
        case .encapsulate, .encapsulateUDP:
          unsafe write(to: odd, from: 0xFFFF_0001, at: frame(slot))
        case .decapsulate, .decapsulateUDP:
          unsafe write(to: even, from: odd, vni: 100, at: frame(slot))
        case .unknownVNI: unsafe write(to: even, from: odd, vni: 999, at: frame(slot))
        case .flood: unsafe write(to: 0x7FFF_FFFF, from: 0xFFFF_0001, at: frame(slot))
        }
        if verdict != verdict.withoutUDP { unsafe writeDatagram(at: frame(slot)) }
      }
      let port = PortID(rawValue: 0)
      let looksAhead = verdict.isFromDevice && datapath.mayPrefetch(from: port)
      if looksAhead {
        for slot in 0..<min(Datapath.prefetchDistance, batch) {
          unsafe datapath.prefetch(
            frame(slot), count: Bench.frameLength, tag: .none, from: port)
        }
      }
      for slot in 0..<batch {
        if looksAhead, slot + Datapath.prefetchDistance < batch {
          unsafe datapath.prefetch(
            frame(slot + Datapath.prefetchDistance), count: Bench.frameLength, tag: .none,
            from: port)
        }
        if verdict.isFromDevice {
          unsafe receive(frame(slot), from: port)
        } else {
          unsafe receiveDatagram(frame(slot))
        }
      }
      datapath.endBurst()
    }
  }

  /// Where a slot's frame starts.
  @unsafe private func frame(_ slot: Int) -> UnsafeMutableRawPointer {
    unsafe memory + slot * Bench.slot + 128
  }

  @unsafe private func write(to: UInt64, from: UInt64, at frame: UnsafeMutableRawPointer) {
    unsafe frame.storeBytes(of: (0x0200 << 48 | to << 16).bigEndian, as: UInt64.self)
    unsafe frame.storeBytes(of: UInt16(0x0200).bigEndian, toByteOffset: 6, as: UInt16.self)
    unsafe frame.storeBytes(
      of: (from << 32 | 0x88B5 << 16).bigEndian, toByteOffset: 8, as: UInt64.self)
  }

  /// The same behind a VXLAN header.
  @unsafe private func write(
    to: UInt64, from: UInt64, vni: UInt32, at frame: UnsafeMutableRawPointer
  ) {
    let header = (UInt64(8) << 56 | UInt64(vni) << 8).bigEndian
    unsafe (frame - 8).storeBytes(of: header, as: UInt64.self)
    unsafe write(to: to, from: from, at: frame)
  }

  /// Puts a UDP datagram over IPv4 into a frame, of a flow for each pair of stations.
  @unsafe private func writeDatagram(at frame: UnsafeMutableRawPointer) {
    let stations = unsafe frame.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
    let length = UInt64(Bench.frameLength - 14)
    unsafe frame.storeBytes(of: UInt16(0x0800).bigEndian, toByteOffset: 12, as: UInt16.self)
    unsafe frame.storeBytes(
      of: (0x4500 << 48 | length << 32 | 0x4000).bigEndian, toByteOffset: 14, as: UInt64.self)
    unsafe frame.storeBytes(
      of: UInt64(0x4011_0000_0A00_0001).bigEndian, toByteOffset: 22, as: UInt64.self)
    unsafe frame.storeBytes(
      of: (0x0A01 << 48 | UInt64(stations) << 32 | 0x1000_2000).bigEndian, toByteOffset: 30,
      as: UInt64.self)
    unsafe frame.storeBytes(
      of: UInt32((length - 20) << 16).bigEndian, toByteOffset: 38, as: UInt32.self)
  }

  @unsafe private mutating func receive(_ frame: UnsafeMutableRawPointer, from port: PortID) {
    unsafe datapath.receiveFrame(
      frame, count: Bench.frameLength, offload: .none, tag: .none, from: port)
  }

  @unsafe private mutating func receiveDatagram(_ frame: UnsafeMutableRawPointer) {
    unsafe datapath.receiveDatagrams(
      frame - 8, count: Bench.frameLength + 8, segmentSize: 0,
      on: ListenerID(rawValue: 0), from: Bench.remote, trafficClass: 0)
  }

  /// What a table that is full of learned addresses has taken of the machine's memory, by the
  /// address.
  static func bytesPerAddress(_ hosts: Int) -> Double {
    let before = resident()
    let bench = Bench(hosts: hosts, limit: hosts)
    let after = resident()
    withExtendedLifetime(bench) {}
    return Double(after - before) / Double(hosts)
  }

  /// Bytes of memory that are the process's own (proc_pid_statm(5): resident less shared pages).
  private static func resident() -> Int {
    guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard unsafe fgets(&line, 256, file) != nil else { return 0 }
    let text = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    let numbers = text.split(separator: " ").compactMap { Int($0) }
    return numbers.count > 2 ? (numbers[1] - numbers[2]) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
  }

  /// The median times to compile a topology of so many access ports, as the control thread does, to
  /// copy it for a worker, and to swap it in, for which frames wait.
  static func microsecondsToApply(ports: Int) -> (compile: Double, copy: Double, swap: Double) {
    var datapath = unsafe Datapath(seed: 7) { _, _ in }
    let all = (0..<ports).map { index in
      Topology.Port(
        id: PortID(rawValue: UInt16(index)), bridge: BridgeID(rawValue: 0),
        vlans: .access(VLANID(rawValue: UInt16(1 + index / 10)) ?? .untagged),
        attachment: .device(Topology.Device(mtu: 1500, capabilities: .all)))
    }
    var rounds: [[Double]] = [[], [], []]
    for round in 0..<21 {
      // One port more or less, as when a container comes or goes.
      let topology = Topology(
        bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))],
        ports: Array(all.dropLast(round % 2)))
      let start = now()
      let compiled = CompiledTopology(topology)
      let middle = now()
      let copy = compiled.copy()
      let end = now()
      datapath.apply(copy)
      for (number, time) in [middle - start, end - middle, now() - end].enumerated() {
        rounds[number].append(Double(time) / 1000)
      }
    }
    let medians = rounds.map { $0.sorted()[10] }
    return (medians[0], medians[1], medians[2])
  }
}

/// Nanoseconds since some fixed point.
func now() -> Int {
  var time = timespec()
  _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return time.tv_sec * 1_000_000_000 + time.tv_nsec
}
