import OVXDatapath
import Testing

@Suite struct InjectionTests {
  private static let injector = InjectorID(rawValue: 3)

  private static func ports(
    local: IPAddress = IPAddress(v4: 0xC0A8_0502), sourcePorts: [UInt16]? = nil, mtu: Int = 1450,
    _ vlans: VLANMembership = access100
  ) throws -> [Topology.Port] {
    var port = try tunnel(1, vni: 0x64, vlans, remotes: [remoteA])
    guard case .tunnel(var tunnel) = port.attachment else { return [] }
    tunnel.peers[0].mtu = mtu
    tunnel.peers[0].injection = Injection(
      injector: injector,
      outer: OuterPath(
        source: MACAddress(truncating: 0x0A_0102_0304_05),
        destination: MACAddress(truncating: 0x0A_0607_0809_0A), local: local, remote: remoteA,
        port: 4789),
      sourcePorts: sourcePorts ?? tunnel.peers[0].paths.map { UInt16(50000 + $0) })
    port.attachment = .tunnel(tunnel)
    return [device(0, access100), port]
  }

  private static func packet(isIPv6: Bool = false, payload: Int = 10_000) -> ReferencePacket {
    var packet = ReferencePacket()
    packet.isIPv6 = isIPv6
    if isIPv6 {
      packet.sourceAddress = hex("FC000000000000000000000000000001")
      packet.destinationAddress = hex("FC000000000000000000000000000002")
    }
    packet.tcpOptions = hex("0101080A 00000001 00000002")
    packet.payload = (0..<payload).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    return packet
  }

  private static func offload(isIPv6: Bool = false, ecn: Bool = false) -> Offload {
    Offload(
      flags: .needsChecksum,
      segmentation: Offload.Segmentation(rawValue: (isIPv6 ? 4 : 1) | (ecn ? 0x80 : 0)),
      headerLength: 1, segmentSize: 1398, checksumStart: isIPv6 ? 54 : 34, checksumOffset: 16)
  }

  /// The headers, byte for byte: <linux/virtio_net.h> of Linux 6.17, RFC 791, RFC 768, RFC 7348.
  @Test(arguments: [false, true], [false, true])
  func aSuperframeLeavesWhole(isIPv6: Bool, ecn: Bool) throws {
    let bench = Bench(topology(try Self.ports()))
    let bytes = Self.packet(isIPv6: isIPv6).frame(partial: true)
    let sent = bench.receive(bytes, from: 0, offload: Self.offload(isIPv6: isIPv6, ecn: ecn))
    let one = try #require(sent.first)
    #expect(sent.count == 1)
    #expect(one.kind == .injected)
    #expect(one.injector == Self.injector.rawValue)
    let headers = isIPv6 ? 86 : 66
    var expected = hex("01") + [UInt8((isIPv6 ? 0x24 : 0x21) | (ecn ? 0x80 : 0))]
    let segment = isIPv6 ? 1378 : 1398
    for field in [50 + headers, segment, isIPv6 ? 104 : 84, 16] {
      expected += [UInt8(field & 0xFF), UInt8(field >> 8)]
    }
    expected += hex("0000 00000000 0000 0000 2200 4000")
    expected += hex("0A0607080 90A 0A0102030405 0800")
    let length = 36 + bytes.count
    var ip =
      hex("4500") + [UInt8(length >> 8), UInt8(length & 0xFF)]
      + hex("0000 4000 4011 0000 C0A80502 C0A80503")
    let sum = stride(from: 0, to: 20, by: 2).reduce(0) { $0 + Int(ip[$1]) << 8 + Int(ip[$1 + 1]) }
    let checksum = 0xFFFF - (sum & 0xFFFF + sum >> 16)
    ip[10] = UInt8(checksum >> 8)
    ip[11] = UInt8(checksum & 0xFF)
    expected += ip
    let port = 50000 + Int(one.path)
    for field in [port, 4789, length - 20, 0] {
      expected += [UInt8(field >> 8), UInt8(field & 0xFF)]
    }
    expected += hex("0800000000006400")
    #expect(Array(one.bytes.prefix(74)) == expected)
    #expect(Array(one.bytes.dropFirst(74)) == bytes)
    // What is counted is what the train would have counted.
    let cut = Bench(
      topology([device(0, access100), try tunnel(1, vni: 100, access100, remotes: [remoteA])]))
    _ = cut.receive(bytes, from: 0, offload: Self.offload(isIPv6: isIPv6))
    #expect(bench.counters(1).sentFrames == cut.counters(1).sentFrames)
    #expect(bench.counters(1).sentBytes == cut.counters(1).sentBytes)
  }

  /// All that the kernel or the far VTEP could not make sense of is cut, as without injection.
  @Test func theRestIsCut() throws {
    let offload = Self.offload()
    let bytes = Self.packet().frame(partial: true)
    func kinds(
      _ ports: [Topology.Port], _ bytes: [UInt8], _ offload: Offload
    ) -> Set<Transmission.Kind> {
      Set(Bench(topology(ports)).receive(bytes, from: 0, offload: offload).map(\.kind))
    }
    #expect(kinds(try Self.ports(), bytes, offload) == [.injected])
    // A checksum that is complete already.
    var complete = offload
    complete.flags = []
    complete.checksumStart = 0
    #expect(kinds(try Self.ports(), Self.packet().frame(partial: false), complete) == [.datagrams])
    // UDP.
    var udp = Self.packet()
    udp.isUDP = true
    var udpOffload = offload
    udpOffload.segmentation = .udp
    udpOffload.checksumOffset = 6
    udpOffload.segmentSize = 1000
    #expect(kinds(try Self.ports(), udp.frame(partial: true), udpOffload) == [.datagrams])
    // A tag inside.
    #expect(kinds(try Self.ports(.trunk(nil)), bytes, offload) == [.datagrams])
    // Longer than an IPv4 packet can be with the outer headers.
    let long = Self.packet(payload: 65_536 - 66 - 14).frame(partial: true)
    #expect(kinds(try Self.ports(), long, offload) == [.datagrams])
    let longest = Self.packet(payload: InjectionHeader.frameLimit - 66).frame(partial: true)
    #expect(kinds(try Self.ports(), longest, offload) == [.injected])
    // An underlay of IPv6, and source ports that are not those of the sockets.
    let v6 = IPAddress(v6High: 1, low: 2)
    #expect(kinds(try Self.ports(local: v6), bytes, offload) == [.datagrams])
    #expect(kinds(try Self.ports(sourcePorts: [1]), bytes, offload) == [.datagrams])
    // Small frames go by the sockets.
    #expect(kinds(try Self.ports(), frame(to: 0xFF, from: 1), .none) == [.datagrams])
  }

  @Test func segmentsFitTheUnderlay() throws {
    let bench = Bench(topology(try Self.ports(mtu: 1000)))
    let sent = bench.receive(
      Self.packet().frame(partial: true), from: 0, offload: Self.offload())
    let bytes = try #require(sent.first).bytes
    #expect(Int(bytes[4]) | Int(bytes[5]) << 8 == 1000 - 52)
  }

  @Test func aLostInjectorIsNotUsedUntilTheNextTopology() throws {
    let ports = try Self.ports()
    let bench = Bench(topology(ports))
    let bytes = Self.packet().frame(partial: true)
    func kind() -> Transmission.Kind? {
      bench.receive(bytes, from: 0, offload: Self.offload()).first?.kind
    }
    #expect(kind() == .injected)
    bench.stopInjecting(InjectorID(rawValue: 4))
    #expect(kind() == .injected)
    bench.stopInjecting(Self.injector)
    #expect(kind() == .datagrams)
    bench.apply(topology(ports))
    #expect(kind() == .injected)
  }

  /// The outer header follows the tunnel's options and the packet inside, and its checksum holds.
  @Test func theOuterHeaderIsTheTunnels() throws {
    var ports = try Self.ports()
    guard case .tunnel(var tunnel) = ports[1].attachment else { return }
    tunnel.peers[0].injection?.outer.trafficClass = 0x28
    tunnel.peers[0].injection?.outer.hopLimit = 9
    tunnel.peers[0].injection?.outer.forbidsFragments = false
    tunnel.outerHeader = OuterHeaderRule(trafficClass: 0x28, inheritsHopLimit: true)
    ports[1].attachment = .tunnel(tunnel)
    for (inside, outside) in [(UInt8(0), UInt8(0x28)), (0xB9, 0x29)] {
      var packet = Self.packet()
      packet.trafficClass = inside
      packet.timeToLive = 33
      let sent = Bench(topology(ports)).receive(
        packet.frame(partial: true), from: 0, offload: Self.offload())
      let ip = Array(try #require(sent.first).bytes[38..<58])
      #expect(ip[1] == outside)
      #expect(ip[6] == 0)
      #expect(ip[8] == 33)
      let sum = stride(from: 0, to: 20, by: 2).reduce(0) { $0 + Int(ip[$1]) << 8 + Int(ip[$1 + 1]) }
      #expect(sum & 0xFFFF + sum >> 16 == 0xFFFF)
    }
  }

  /// A flow's small frames and its superframes leave in the order in which they came, with one
  /// source port.
  @Test func orderIsKept() throws {
    let bench = Bench(topology(try Self.ports()))
    var small = Self.packet(payload: 100)
    small.flags = 0x18
    let superframe = Self.packet(payload: 900)
    var offload = Self.offload()
    offload.segmentSize = 300
    let sent = bench.receive(
      burst: [
        small.frame(partial: false), superframe.frame(partial: true), small.frame(partial: false),
        small.frame(partial: false),
      ],
      offloads: [.none, offload, .none, .none], from: 0)
    #expect(sent.map(\.kind) == [.datagrams, .injected, .datagrams])
    #expect(Set(sent.map(\.path)).count == 1)
  }
}
