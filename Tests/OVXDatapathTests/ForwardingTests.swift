import OVXDatapath
import Testing

/// A datapath with memory to receive into, and a record of what it sent.
@safe
final class Bench {
  struct Sent: Equatable {
    var port: PortID
    var kind: Transmission.Kind
    var bytes: [UInt8]
    var segmentSize = 0
    var path: UInt32 = 0
    var offload = Offload.none
  }

  final class Log { var sent: [Sent] = [] }

  private let log = Log()
  private var datapath: Datapath
  private let memory: UnsafeMutableRawPointer
  private static let headroom = 256

  init(_ topology: Topology) {
    let log = log
    datapath = unsafe Datapath(seed: 1) { transmissions, vectors in
      for index in transmissions.indices {
        let transmission = unsafe transmissions[index]
        var bytes: [UInt8] = []
        let first = Int(transmission.firstVector)
        let header = transmission.kind == .frame ? 1 : 0
        for index in (first + header)..<(first + Int(transmission.vectorCount)) {
          let vector = unsafe vectors[index]
          unsafe bytes += UnsafeRawBufferPointer(start: vector.base, count: vector.count)
        }
        log.sent.append(
          Sent(
            port: transmission.port,
            kind: transmission.kind,
            bytes: bytes,
            segmentSize: Int(transmission.segmentSize),
            path: transmission.path.rawValue,
            offload: transmission.offload
          )
        )
      }
    }
    unsafe memory = .allocate(byteCount: 70_000, alignment: 64)
    datapath.apply(topology)
  }

  deinit { unsafe memory.deallocate() }

  func apply(_ topology: Topology) { datapath.apply(topology) }
  func tick(_ now: UInt32) { datapath.tick(now: now) }
  func counters(_ port: UInt16) -> PortCounters { datapath.counters(of: PortID(rawValue: port)) }
  func endpointDrops(_ reason: DropReason) -> UInt64 {
    datapath.endpointDrops[Int(reason.rawValue)]
  }
  func addresses() -> [KnownAddress] { datapath.addresses(of: BridgeID(rawValue: 0)) }

  func receive(
    _ bytes: [UInt8],
    from port: UInt16,
    offload: Offload = .none,
    tag: VLANTag = .none
  ) -> [Sent] {
    let frame = unsafe memory + Bench.headroom
    unsafe frame.copyMemory(from: bytes, byteCount: bytes.count)
    unsafe datapath.receiveFrame(
      frame,
      count: bytes.count,
      capacity: 69_000,
      offload: offload,
      tag: tag,
      from: PortID(rawValue: port)
    )
    return finish()
  }

  /// Frames of up to 1000 bytes, forwarded as one burst.
  func receive(burst: [[UInt8]], from port: UInt16) -> [Sent] {
    for (index, bytes) in burst.enumerated() {
      let frame = unsafe memory + Bench.headroom + index * 1200
      unsafe frame.copyMemory(from: bytes, byteCount: bytes.count)
      unsafe datapath.receiveFrame(
        frame,
        count: bytes.count,
        capacity: 1000,
        offload: .none,
        tag: .none,
        from: PortID(rawValue: port)
      )
    }
    return finish()
  }

  func receiveDatagrams(
    _ bytes: [UInt8],
    segmentSize: Int = 0,
    endpoint: UInt16 = 0,
    from remote: IPAddress
  ) -> [Sent] {
    let train = unsafe memory + Bench.headroom
    unsafe train.copyMemory(from: bytes, byteCount: bytes.count)
    unsafe datapath.receiveDatagrams(
      train,
      count: bytes.count,
      capacity: 69_000,
      segmentSize: segmentSize,
      on: EndpointID(rawValue: endpoint),
      from: remote
    )
    return finish()
  }

  private func finish() -> [Sent] {
    datapath.endBurst()
    defer { log.sent = [] }
    return log.sent
  }
}

private let remoteA = IPAddress(v4: 0xC0A8_0503)
private let remoteB = IPAddress(v4: 0xC0A8_0504)
private let access100 = VLANMembership.access(vlan(100))

private func vlan(_ value: UInt16) -> VLANID { VLANID(rawValue: value) ?? .untagged }
private func vni(_ value: UInt32) -> VNI? { VNI(rawValue: value) }

private func device(_ id: UInt16, _ vlans: VLANMembership, mtu: Int = 1500) -> Topology.Port {
  Topology.Port(
    id: PortID(rawValue: id),
    bridge: BridgeID(rawValue: 0),
    vlans: vlans,
    attachment: .device(Topology.Device(mtu: mtu, capabilities: .all))
  )
}

private func tunnel(
  _ id: UInt16,
  vni value: UInt32,
  _ vlans: VLANMembership,
  remotes: [IPAddress],
  firstPeer: UInt16 = 1
) throws -> Topology.Port {
  let identifier = try #require(vni(value))
  let peers = remotes.enumerated().map { index, remote in
    Topology.Peer(
      id: PeerID(rawValue: firstPeer + UInt16(index)),
      remote: remote,
      paths: (UInt32(firstPeer) + UInt32(index)) * 16..<(UInt32(firstPeer) + UInt32(index)) * 16
        + 16,
      mtu: 1450
    )
  }
  return Topology.Port(
    id: PortID(rawValue: id),
    bridge: BridgeID(rawValue: 0),
    vlans: vlans,
    attachment: .tunnel(
      Topology.Tunnel(vni: identifier, endpoint: EndpointID(rawValue: 0), peers: peers)
    )
  )
}

private func topology(_ ports: [Topology.Port]) -> Topology {
  Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))], ports: ports)
}

/// A frame of the least length: addresses ending in the given octets, an unknown type, zeros.
private func frame(to: UInt8, from: UInt8, tagged tag: UInt16? = nil) -> [UInt8] {
  let target: [UInt8] = to == 0xFF ? .init(repeating: 0xFF, count: 6) : [2, 0, 0, 0, 0, to]
  let tagging: [UInt8] = tag.map { [0x81, 0, UInt8($0 >> 8), UInt8($0 & 0xFF)] } ?? []
  return target + [2, 0, 0, 0, 0, from] + tagging + [0x88, 0xB5]
    + [UInt8](repeating: 7, count: 46)
}

private func vxlan(_ vni: UInt32, _ frame: [UInt8], flags: UInt8 = 8) -> [UInt8] {
  [flags, 0, 0, 0, UInt8(vni >> 16 & 0xFF), UInt8(vni >> 8 & 0xFF), UInt8(vni & 0xFF), 0] + frame
}

@Suite struct ForwardingTests {
  @Test func unknownAddressesAreFloodedAndLearnedOnesAreNot() {
    let bench = Bench(topology([device(0, access100), device(1, access100), device(2, access100)]))
    #expect(bench.receive(frame(to: 2, from: 1), from: 0).map(\.port.rawValue) == [1, 2])
    #expect(bench.receive(frame(to: 1, from: 2), from: 1).map(\.port.rawValue) == [0])
    #expect(bench.receive(frame(to: 2, from: 1), from: 0).map(\.port.rawValue) == [1])
    #expect(bench.counters(1).sentFrames == 2)
    #expect(bench.counters(0).receivedFrames == 2)
  }

  @Test func aFrameIsSentAsItCame() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    let bytes = frame(to: 2, from: 1)
    #expect(bench.receive(bytes, from: 0).first?.bytes == bytes)
  }

  @Test func aFrameForWhereItCameFromIsDropped() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    _ = bench.receive(frame(to: 9, from: 1), from: 0)
    _ = bench.receive(frame(to: 9, from: 2), from: 0)
    #expect(bench.receive(frame(to: 1, from: 2), from: 0) == [])
    #expect(bench.counters(0)[.samePort] == 1)
  }

  @Test func segmentsAreKeptApart() {
    let bench = Bench(topology([device(0, access100), device(1, .access(vlan(200)))]))
    #expect(bench.receive(frame(to: 0xFF, from: 1), from: 0) == [])
    #expect(bench.counters(0)[.nowhereToFlood] == 1)
  }

  @Test func trunksTagAndAccessPortsDoNot() {
    let bench = Bench(topology([device(0, access100), device(1, .trunk(nil))]))
    #expect(
      bench.receive(frame(to: 0xFF, from: 1), from: 0).first?.bytes
        == frame(to: 0xFF, from: 1, tagged: 100)
    )
    #expect(
      bench.receive(frame(to: 0xFF, from: 2, tagged: 0xA064), from: 1).first?.bytes
        == frame(to: 0xFF, from: 2)
    )
    #expect(
      bench.receive(
        frame(to: 0xFF, from: 2),
        from: 1,
        tag: VLANTag(control: 100)
      ).first?.bytes == frame(to: 0xFF, from: 2)
    )
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 100), from: 0) == [])
    #expect(bench.counters(0)[.taggedOnAccessPort] == 1)
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 0), from: 0).count == 1)
  }

  @Test func aTrunkCarriesItsVLANsOnly() {
    let bench = Bench(
      topology([device(0, .trunk([vlan(5), vlan(4000)])), device(1, .trunk(nil))])
    )
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 6), from: 0) == [])
    #expect(bench.receive(frame(to: 0xFF, from: 1), from: 0) == [])
    #expect(bench.counters(0)[.vlanNotOnPort] == 2)
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 4000), from: 0).count == 1)
    #expect(bench.receive(frame(to: 0xFF, from: 1, tagged: 6), from: 1) == [])
  }

  @Test func invalidFramesAreNamed() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    #expect(bench.receive([1, 2, 3], from: 0) == [])
    #expect(bench.counters(0)[.truncated] == 1)
    var reserved = frame(to: 2, from: 1)
    reserved.replaceSubrange(0..<6, with: [0x01, 0x80, 0xC2, 0, 0, 0x0E])
    #expect(bench.receive(reserved, from: 0) == [])
    #expect(bench.counters(0)[.reservedDestination] == 1)
    var group = frame(to: 2, from: 1)
    group[6] = 0x03
    #expect(bench.receive(group, from: 0) == [])
    #expect(bench.counters(0)[.invalidSource] == 1)
    #expect(bench.addresses() == [])
    #expect(bench.receive([UInt8](frame(to: 2, from: 1, tagged: 1).prefix(16)), from: 0) == [])
    #expect(bench.counters(0)[.truncated] == 2)
  }

  @Test func framesAreEncapsulatedForEveryRemote() throws {
    let bench = Bench(
      topology([
        device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA, remoteB]),
      ])
    )
    let bytes = frame(to: 0xFF, from: 1)
    let sent = bench.receive(bytes, from: 0)
    #expect(sent.map(\.bytes) == [vxlan(100, bytes), vxlan(100, bytes)])
    #expect(sent.map { $0.path / 16 } == [1, 2])
    #expect(bench.counters(1).sentFrames == 2)
  }

  @Test func framesAreDecapsulatedLearnedAndAnswered() throws {
    let bench = Bench(
      topology([
        device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA, remoteB]),
      ])
    )
    let bytes = frame(to: 0xFF, from: 9)
    let sent = bench.receiveDatagrams(vxlan(100, bytes), from: remoteB)
    #expect(sent.map(\.bytes) == [bytes])
    let reply = bench.receive(frame(to: 9, from: 1), from: 0)
    #expect(reply.map { $0.path / 16 } == [2])
    #expect(bench.receiveDatagrams(vxlan(100, bytes), from: remoteA).count == 1)
    #expect(bench.receive(frame(to: 9, from: 1), from: 0).map { $0.path / 16 } == [1])
  }

  @Test func strangersAreTurnedAway() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let bytes = frame(to: 0xFF, from: 9)
    #expect(bench.receiveDatagrams(vxlan(100, bytes), from: remoteB) == [])
    #expect(bench.endpointDrops(.unknownVTEP) == 1)
    #expect(bench.receiveDatagrams(vxlan(101, bytes), from: remoteA) == [])
    #expect(bench.receiveDatagrams(vxlan(100, bytes), endpoint: 1, from: remoteA) == [])
    #expect(bench.endpointDrops(.unknownVNI) == 2)
    #expect(bench.receiveDatagrams(vxlan(100, bytes, flags: 0xF7), from: remoteA) == [])
    #expect(bench.endpointDrops(.vniFlagMissing) == 1)
    #expect(bench.receiveDatagrams([8, 0, 0, 0], from: remoteA) == [])
    #expect(bench.endpointDrops(.vxlanTooShort) == 1)
    #expect(bench.receiveDatagrams(vxlan(100, bytes, flags: 0xFF), from: remoteA).count == 1)
    #expect(bench.addresses().count == 1)
  }

  @Test func aTrainIsSplit() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let datagrams = (1...3).map { vxlan($0 == 2 ? 7 : 100, frame(to: 0xFF, from: UInt8($0))) }
    let sent = bench.receiveDatagrams(
      Array(datagrams.joined()),
      segmentSize: datagrams[0].count,
      from: remoteA
    )
    #expect(sent.map(\.bytes) == [frame(to: 0xFF, from: 1), frame(to: 0xFF, from: 3)])
    #expect(bench.endpointDrops(.unknownVNI) == 1)
  }

  @Test func nothingGoesFromTunnelToTunnel() throws {
    let ports = [
      device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA]),
      try tunnel(2, vni: 100, access100, remotes: [remoteB], firstPeer: 2),
    ]
    let bench = Bench(topology(ports))
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 0xFF, from: 9)), from: remoteA)
        .map(\.port.rawValue) == [0]
    )
    #expect(
      bench.receiveDatagrams(vxlan(100, frame(to: 9, from: 8)), from: remoteB) == []
    )
    #expect(bench.counters(1)[.splitHorizon] == 1)
  }

  @Test func aWildcardSocketsTunnelIsReachedThroughASpecificOne() throws {
    var port = try tunnel(1, vni: 100, access100, remotes: [remoteA])
    guard case .tunnel(var wildcard) = port.attachment else { return }
    wildcard.fallbackEndpoints = [EndpointID(rawValue: 5)]
    port.attachment = .tunnel(wildcard)
    let bench = Bench(topology([device(0, access100), port]))
    let datagram = vxlan(100, frame(to: 0xFF, from: 9))
    #expect(bench.receiveDatagrams(datagram, endpoint: 5, from: remoteA).count == 1)
    #expect(bench.receiveDatagrams(datagram, endpoint: 0, from: remoteA).count == 1)
  }

  @Test func framesTooLargeForTheUnderlayAreCounted() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let fitting = frame(to: 0xFF, from: 1) + [UInt8](repeating: 0, count: 1450 + 14 - 60)
    #expect(bench.receive(fitting, from: 0).count == 1)
    #expect(bench.receive(fitting + [0], from: 0) == [])
    #expect(bench.counters(1)[.exceedsTunnelMTU] == 1)
  }

  @Test func framesOfABurstForOnePeerLeaveTogether() throws {
    let bench = Bench(
      topology([
        device(0, .trunk(nil)), device(1, access100),
        try tunnel(2, vni: 100, .trunk(nil), remotes: [remoteA]),
      ])
    )
    let bytes = frame(to: 0xFF, from: 1)
    let joined = vxlan(100, bytes) + vxlan(100, bytes) + vxlan(100, bytes)
    let sent = bench.receive(burst: [bytes, bytes, bytes], from: 0).filter { $0.kind == .datagrams }
    #expect(sent.map(\.bytes) == [joined])
    #expect(sent.map(\.segmentSize) == [68])
    #expect(bench.counters(2).sentFrames == 3)
    // An IP frame is padded into the train; one of a protocol without a length of its own ends it.
    for (type, padding) in [(UInt8(0), 10), (UInt8(0x7F), 0)] {
      let long = Array(bytes[..<12]) + [8, type] + Array(bytes[14...])
      let pair = bench.receive(burst: [long, Array(long[..<50])], from: 0)
        .filter { $0.kind == .datagrams }
      #expect(
        pair.map(\.bytes) == [
          vxlan(100, long)
            + vxlan(100, Array(long[..<50]) + [UInt8](repeating: 0, count: padding))
        ]
      )
    }
    let tagged = frame(to: 0xFF, from: 1, tagged: 100)
    let two = bench.receive(burst: [tagged, tagged], from: 0).filter { $0.kind == .datagrams }
    #expect(two.map(\.bytes) == [vxlan(100, tagged) + vxlan(100, tagged)])
    #expect(two.map(\.segmentSize) == [72])
  }

  @Test func aLargerFrameStartsATrainOfItsOwnInOrder() throws {
    let bench = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])])
    )
    let small = frame(to: 0xFF, from: 1)
    let large = small + [UInt8](repeating: 9, count: 100)
    let sent = bench.receive(burst: [small, large, large, small], from: 0)
    #expect(
      sent.map(\.bytes) == [
        vxlan(100, small), vxlan(100, large) + vxlan(100, large) + vxlan(100, small),
      ]
    )
    #expect(sent.map(\.segmentSize) == [0, 168])
  }

  @Test func addressesAgeAndGoWithTheirPort() {
    let ports = [device(0, access100), device(1, access100), device(2, access100)]
    let bench = Bench(topology(ports))
    bench.tick(1000)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    _ = bench.receive(frame(to: 0xFF, from: 2), from: 1)
    bench.tick(1299)
    #expect(bench.addresses().count == 2)
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    bench.tick(1300)
    #expect(bench.addresses().map(\.address.rawValue) == [0x0200_0000_0001])
    bench.apply(topology(Array(ports.dropFirst())))
    #expect(bench.addresses() == [])
    bench.apply(topology(ports))
    #expect(bench.counters(0) == PortCounters())
  }

  @Test func aPortThatLeavesItsVLANLosesItsAddresses() {
    let bench = Bench(topology([device(0, access100), device(1, access100)]))
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    bench.apply(topology([device(0, .access(vlan(200))), device(1, access100)]))
    #expect(bench.addresses() == [])
  }

  @Test func everyDropReasonHasASymbolAndASentence() {
    let symbols = Set(DropReason.allCases.map(\.symbol))
    #expect(symbols.count == DropReason.allCases.count)
    for reason in DropReason.allCases {
      #expect(reason.symbol.allSatisfy { $0.isLowercase || $0 == "-" })
      #expect(reason.sentence.hasSuffix("."))
    }
  }
}
