import OVXDatapath
import OVXSimulation
import Testing

/// Who is told that a packet is too large, how, and by which way.
@Suite struct PathMTUTests {
  private static func station(_ number: UInt64) -> MACAddress {
    MACAddress(truncating: 0x0200_0000_0000 | number)
  }

  /// A UDP packet of so many bytes from station 1 to station 2.
  private static func packet(
    _ byteCount: Int, isIPv6: Bool = false, from: UInt64 = 1, to: UInt64 = 2
  ) -> PacketPlan {
    var plan = PacketPlan(from: station(from), to: station(to))
    plan.isTCP = false
    plan.isIPv6 = isIPv6
    plan.payload = [UInt8](repeating: 7, count: byteCount - (isIPv6 ? 48 : 28))
    return plan
  }

  /// A wide device, a tunnel of MTU 1450, a second wide device and a narrow one, and where stations
  /// 1 to 4 are behind them.
  private func bench(
    _ vlans: VLANMembership = access100, narrow: Int = 1400
  ) throws -> Bench {
    let bench = Bench(
      topology([
        device(0, vlans, mtu: 9000),
        try tunnel(1, vni: 100, access100, remotes: [remoteA, remoteB]),
        device(2, access100, mtu: 9000), device(3, access100, mtu: narrow),
      ]))
    for (number, port) in [(1, 0), (2, 1), (3, 2), (4, 3)] as [(UInt64, UInt16)] {
      #expect(bench.addStatic(Self.station(number), vlan(100), on: port))
    }
    return bench
  }

  @Test(arguments: [false, true])
  func theSenderIsToldOfATunnel(_ isIPv6: Bool) throws {
    let bench = try bench()
    let fitting = Self.packet(1450, isIPv6: isIPv6).frame
    #expect(bench.receive(fitting, from: 0).map(\.port.rawValue) == [1])
    let tooLarge = Self.packet(1451, isIPv6: isIPv6).frame
    let answer = try #require(packetTooBigAnswer(to: tooLarge, mtu: 1450))
    let sent = bench.receive(tooLarge, from: 0)
    #expect(sent.map(\.port.rawValue) == [0])
    #expect(sent.map(\.bytes) == [answer])
    #expect(bench.counters(1)[.exceedsTunnelMTU] == 1)
    #expect(bench.counters(0).reportedFrames == 1)
    #expect(bench.counters(0).sentFrames == 1)
  }

  @Test(arguments: [false, true])
  func theSenderIsToldOfADevice(_ isIPv6: Bool) throws {
    let bench = try bench()
    let tooLarge = Self.packet(1401, isIPv6: isIPv6, to: 4).frame
    let answer = try #require(packetTooBigAnswer(to: tooLarge, mtu: 1400))
    #expect(bench.receive(tooLarge, from: 0).map(\.bytes) == [answer])
    #expect(bench.counters(3)[.exceedsDeviceMTU] == 1)
  }

  /// By the tunnel, to the one remote that it came from.
  @Test(arguments: [false, true])
  func aRemoteSenderIsTold(_ isIPv6: Bool) throws {
    let bench = try bench()
    let tooLarge = Self.packet(1401, isIPv6: isIPv6, from: 2, to: 4).frame
    let answer = try #require(packetTooBigAnswer(to: tooLarge, mtu: 1400))
    for (remote, paths) in [(remoteA, 16..<32), (remoteB, 32..<48)] {
      let sent = bench.receiveDatagrams(vxlan(100, tooLarge), from: remote)
      #expect(sent.map(\.bytes) == [vxlan(100, answer)])
      #expect(sent.allSatisfy { $0.kind == .datagrams && paths.contains(Int($0.path)) })
    }
    #expect(bench.counters(3)[.exceedsDeviceMTU] == 2)
  }

  @Test func datagramsOfASuperframeAreTold() throws {
    let bench = try bench()
    var plan = Self.packet(3000)
    plan.payload = [UInt8](repeating: 7, count: 2900)
    let superframe = plan.superframe(segmentSize: 1450)
    let sent = bench.receive(superframe.bytes, from: 0, offload: superframe.offload)
    #expect(sent.map(\.bytes) == [packetTooBigAnswer(to: superframe.bytes, mtu: 1450)])
    // TCP's are cut finer.
    plan.isTCP = true
    let stream = plan.superframe(segmentSize: 1450)
    let trains = bench.receive(stream.bytes, from: 0, offload: stream.offload)
    #expect(trains.allSatisfy { $0.port.rawValue == 1 && $0.kind == .datagrams })
    #expect(bench.counters(1)[.exceedsTunnelMTU] == 1)
  }

  /// With the tag that the sender uses, and a customer's tags inside.
  @Test func tagsAreKept() throws {
    let bench = try bench(.trunk([vlan(100)]))
    var plan = Self.packet(1451)
    plan.tags = [VLANTag(control: 0x6064, protocolID: 0x8100)]
    let tooLarge = plan.frame
    let sent = bench.receive(tooLarge, from: 0)
    #expect(sent.map(\.bytes) == [packetTooBigAnswer(to: tooLarge, mtu: 1450)])

    let customers = Bench(
      topology([
        device(0, .dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8), mtu: 9000),
        try tunnel(1, vni: 100, .trunk(nil), remotes: [remoteA]),
      ]))
    #expect(customers.addStatic(Self.station(2), vlan(100), on: 1))
    plan.tags = [VLANTag(control: 7, protocolID: 0x8100)]
    let inside = customers.receive(plan.frame, from: 0)
    // Both tags are in the tunnel.
    #expect(inside.map(\.bytes) == [packetTooBigAnswer(to: plan.frame, mtu: 1442)])
  }

  /// Errors, fragments, groups, nobody's addresses, what is not IP, and MTUs that nobody heeds.
  @Test(arguments: [false, true])
  func someAreNeverTold(_ isIPv6: Bool) throws {
    func changed(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
      var frame = Self.packet(1460, isIPv6: isIPv6).frame
      change(&frame)
      return frame
    }
    let network = 14
    let source = network + (isIPv6 ? 8 : 12)
    let target = network + (isIPv6 ? 24 : 16)
    let transport = network + (isIPv6 ? 40 : 20)
    let proto = network + (isIPv6 ? 6 : 9)
    let icmp: UInt8 = isIPv6 ? 58 : 1
    var silent = [
      changed { $0[12] = 0x88 },
      changed { $0[network] = 0x50 },
      changed { $0[source] = isIPv6 ? 0xFF : 224 },
      changed { $0[source] = isIPv6 ? 0xFF : 127 },
      changed { $0[target] = isIPv6 ? 0xFF : 239 },
      changed { frame in
        for offset in source..<source + (isIPv6 ? 16 : 4) { frame[offset] = 0 }
      },
    ]
    for type in isIPv6 ? [0, 1, 2, 3, 4, 127, 137] : [3, 4, 5, 11, 12, 40] as [UInt8] {
      silent.append(
        changed {
          $0[proto] = icmp
          $0[transport] = type
        })
    }
    if isIPv6 {
      // A fragment that is not the first, and an error behind a fragment header.
      for (offset, next) in [(8, 17), (1, 58), (1, 60)] as [(UInt8, UInt8)] {
        silent.append(
          changed {
            $0[proto] = 44
            $0[transport] = next
            $0[transport + 3] = offset
            $0[transport + 8] = 1
          })
      }
    } else {
      silent.append(changed { $0[network + 7] = 1 })
    }
    let bench = try bench()
    for frame in silent {
      #expect(bench.receive(frame, from: 0).isEmpty, "\(frame.hexadecimal)")
    }
    #expect(bench.counters(1)[.exceedsTunnelMTU] == UInt64(silent.count))
    #expect(bench.counters(0).reportedFrames == 0)

    let queries: [UInt8] = isIPv6 ? [128, 129, 135] : [0, 8, 13, 42]
    for type in queries {
      let query = changed {
        $0[proto] = icmp
        $0[transport] = type
      }
      #expect(bench.receive(query, from: 0).map(\.port.rawValue) == [0])
    }
    // Of a datagram in fragments the first one is answered.
    let first = changed {
      if isIPv6 {
        $0[proto] = 44
        $0[transport + 2] = 0
        $0[transport + 3] = 1
        $0[transport] = 17
      } else {
        $0[network + 6] = 0x20
      }
    }
    #expect(bench.receive(first, from: 0).map(\.port.rawValue) == [0])

    // Less than the least MTU is told to nobody.
    let narrow = try self.bench(narrow: isIPv6 ? 1279 : 67)
    let lost = Self.packet(1300, isIPv6: isIPv6, to: 4).frame
    #expect(narrow.receive(lost, from: 0).isEmpty)
    #expect(narrow.counters(3)[.exceedsDeviceMTU] == 1)
  }

  /// An answer would teach others that the destination is here.
  @Test func whatIsFloodedIsNotAnswered() throws {
    let bench = try bench()
    let unknown = Self.packet(1460, to: 99).frame
    let sent = bench.receive(unknown, from: 0)
    #expect(sent.map(\.port.rawValue) == [2])
    #expect(bench.counters(1)[.exceedsTunnelMTU] == 2)
    #expect(bench.counters(3)[.exceedsDeviceMTU] == 1)
    #expect(bench.counters(0).reportedFrames == 0)
  }

  @Test func answersAreLimited() throws {
    let bench = try bench()
    let tooLarge = Self.packet(1460).frame
    var answers = 0
    for _ in 0..<1000 { answers += bench.receive(tooLarge, from: 0).count }
    #expect(answers == 100)
    // Each port has its own share, and has it again a second later.
    #expect(bench.receive(Self.packet(1460, from: 3).frame, from: 2).count == 1)
    bench.tick(1)
    #expect(bench.receive(tooLarge, from: 0).count == 1)
    #expect(bench.counters(1)[.exceedsTunnelMTU] == 1002)
  }

  /// A packet of UDP or ICMP that a wider tunnel brought is too large, and no superframe.
  @Test func whatATunnelBringsIsNoSuperframe() throws {
    let bench = try bench()
    var plan = Self.packet(1440, from: 2, to: 4)
    plan.isTCP = true
    var broken = plan.frame
    broken[broken.count - 1] ^= 1
    #expect(bench.receiveDatagrams(vxlan(100, broken), from: remoteA).isEmpty)
    #expect(bench.counters(3)[.superframeOfUnknownSize] == 1)
    // A right one is cut.
    #expect(bench.receiveDatagrams(vxlan(100, plan.frame), from: remoteA).count == 1)
    let arp = frame(to: 4, from: 2) + [UInt8](repeating: 0, count: 1500)
    #expect(bench.receiveDatagrams(vxlan(100, arp), from: remoteA).isEmpty)
    #expect(bench.counters(3)[.exceedsDeviceMTU] == 1)
  }
}
