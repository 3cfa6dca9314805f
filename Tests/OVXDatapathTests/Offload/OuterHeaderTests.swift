import OVXDatapath
import Testing

/// An IP packet in an Ethernet frame, for one station to another.
private func packet(isIPv6: Bool, trafficClass: UInt8, hopLimit: UInt8 = 7, tags: [UInt16] = [])
  -> [UInt8]
{
  var bytes = frame(to: 2, from: 1)
  bytes.removeLast(bytes.count - 12)
  for tag in tags { bytes += [0x81, 0x00, UInt8(tag >> 8), UInt8(tag & 0xFF)] }
  if isIPv6 {
    bytes += [0x86, 0xDD, 0x60 | trafficClass >> 4, trafficClass << 4 | 0x0A, 0xBC, 0xDE]
    bytes += [0, 8, 59, hopLimit] + (1...32).map { UInt8($0) }
  } else {
    let start = bytes.count + 2
    bytes += [0x08, 0x00, 0x45, trafficClass, 0, 28, 1, 2, 0x40, 0, hopLimit, 253, 0, 0]
    bytes += [10, 0, 0, 1, 10, 0, 0, 2]
    let checksum = headerChecksum(bytes[start...])
    bytes[start + 10] = UInt8(checksum >> 8)
    bytes[start + 11] = UInt8(checksum & 0xFF)
  }
  return bytes + (1...8).map { UInt8($0) }
}

/// RFC 1071, word by word.
private func headerChecksum(_ header: ArraySlice<UInt8>) -> UInt16 {
  var sum: UInt32 = 0
  for (position, octet) in header.enumerated() {
    sum += position % 2 == 0 ? UInt32(octet) << 8 : UInt32(octet)
    if sum > 0xFFFF { sum -= 0xFFFF }
  }
  return ~UInt16(sum)
}

@Suite struct OuterHeaderTests {
  /// RFC 6040, figure 4: rows are the inner header, columns the outer one, in the order Not-ECT,
  /// ECT(0), ECT(1), CE.
  private static let figure4: [[UInt8?]] = [
    [0b00, 0b00, 0b00, nil],
    [0b10, 0b10, 0b01, 0b11],
    [0b01, 0b01, 0b01, 0b11],
    [0b11, 0b11, 0b11, 0b11],
  ]
  private static let codepoints: [UInt8] = [0b00, 0b10, 0b01, 0b11]

  private static func overlay(_ rule: OuterHeaderRule = OuterHeaderRule()) throws -> Bench {
    var port = try tunnel(1, vni: 100, access100, remotes: [remoteA])
    if case .tunnel(var tunnel) = port.attachment {
      tunnel.outerHeader = rule
      port.attachment = .tunnel(tunnel)
    }
    return Bench(topology([device(0, access100), port]))
  }

  /// Every inner traffic class, whatever its DSCP, behind no tag and two, against every outer one.
  @Test(arguments: [false, true], [[], [5, 6]] as [[UInt16]])
  func decapsulation(isIPv6: Bool, tags: [UInt16]) throws {
    let isTagged = !tags.isEmpty
    let bench = Bench(
      topology([
        device(
          0,
          isTagged ? .dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8) : access100),
        try tunnel(
          1, vni: 100, isTagged ? .trunk([vlan(100)]) : access100, remotes: [remoteA]),
      ]))
    var dropped = 0
    for inner in UInt8.min ... .max {
      for outer in UInt8.min ... .max {
        let frame = packet(isIPv6: isIPv6, trafficClass: inner, tags: tags)
        let inside =
          isTagged
          ? packet(isIPv6: isIPv6, trafficClass: inner, tags: [100] + tags) : frame
        let sent = bench.receiveDatagrams(
          vxlan(100, inside), from: remoteA, trafficClass: outer)
        let row = Self.codepoints.firstIndex(of: inner & 3) ?? 0
        let column = Self.codepoints.firstIndex(of: outer & 3) ?? 0
        guard let combined = Self.figure4[row][column] else {
          dropped += 1
          if sent != [] { Issue.record("\(inner) in \(outer) passed") }
          continue
        }
        // Its checksum included, it is the frame that would have been sent so in the first place.
        let expected = packet(isIPv6: isIPv6, trafficClass: inner & 0xFC | combined, tags: tags)
        if sent.map(\.bytes) != [expected] {
          Issue.record("\(inner) in \(outer) became \(sent.map(\.bytes))")
        }
      }
    }
    #expect(bench.counters(1)[.congestionExperienced] == UInt64(dropped))
    #expect(dropped == 64 * 64)
  }

  @Test func aWrongHeaderChecksumStaysAsWrong() throws {
    let bench = try Self.overlay()
    var bytes = packet(isIPv6: false, trafficClass: 0b10)
    var expected = packet(isIPv6: false, trafficClass: 0b11)
    for place in [24, 25] {
      bytes[place] ^= 0x10
      expected[place] ^= 0x10
    }
    let sent = bench.receiveDatagrams(vxlan(100, bytes), from: remoteA, trafficClass: 0b11)
    let header = try #require(sent.first).bytes[14..<34]
    #expect(headerChecksum(header) != 0)
    #expect(headerChecksum(header) == headerChecksum(bytes[14..<34]))
  }

  @Test func framesWithoutIPPassHoweverCongestedTheirWay() throws {
    let bench = try Self.overlay()
    for bytes in [frame(to: 2, from: 1), Array(packet(isIPv6: false, trafficClass: 0).prefix(33))] {
      let sent = bench.receiveDatagrams(vxlan(100, bytes), from: remoteA, trafficClass: 0b11)
      #expect(sent.map(\.bytes) == [bytes])
    }
  }

  /// A datagram of a train that may not pass takes none of the others with it.
  @Test func oneOfATrainIsDropped() throws {
    let bench = try Self.overlay()
    let classes: [UInt8] = [0b10, 0b00, 0b01]
    let train = classes.flatMap { vxlan(100, packet(isIPv6: true, trafficClass: $0)) }
    let sent = bench.receiveDatagrams(
      train, segmentSize: train.count / 3, from: remoteA, trafficClass: 0b11)
    let marked = packet(isIPv6: true, trafficClass: 0b11)
    #expect(sent.map(\.bytes) == [marked, marked])
    #expect(bench.counters(1)[.congestionExperienced] == 1)
  }

  // MARK: Sending

  @Test(arguments: [false, true])
  func theOuterHeaderFollowsTheRule(isIPv6: Bool) throws {
    let plain = try Self.overlay()
    let fixed = try Self.overlay(OuterHeaderRule(trafficClass: 0x28))
    let inherited = try Self.overlay(
      OuterHeaderRule(inheritsTrafficClass: true, inheritsHopLimit: true))
    for inner in UInt8.min ... .max {
      let bytes = packet(isIPv6: isIPv6, trafficClass: inner, hopLimit: 9)
      let ecn = inner & 3
      let rules: [(Bench, OuterHeader)] = [
        (plain, OuterHeader(trafficClass: ecn)),
        (fixed, OuterHeader(trafficClass: ecn == 0 ? 0 : 0x28 | ecn)),
        (inherited, OuterHeader(trafficClass: inner, hopLimit: 9)),
      ]
      for (bench, expected) in rules {
        let outer = bench.receive(bytes, from: 0).map(\.outer)
        if outer != [expected] { Issue.record("\(inner) was sent with \(outer)") }
      }
    }
    // What is no IP has nothing to copy.
    for bench in [plain, fixed, inherited] {
      for bytes in [
        frame(to: 9, from: 1), Array(packet(isIPv6: isIPv6, trafficClass: 3).prefix(33)),
      ] {
        #expect(bench.receive(bytes, from: 0).map(\.outer) == [.plain])
      }
    }
  }

  /// The kernel takes one traffic class per send.
  @Test func aTrainHasOneOuterHeader() throws {
    let bench = try Self.overlay()
    let classes: [UInt8] = [0, 0, 2, 2, 2, 0]
    let sent = bench.receive(
      burst: classes.map { packet(isIPv6: false, trafficClass: $0) }, from: 0)
    #expect(sent.map(\.outer.trafficClass) == [0, 2, 0])
    #expect(sent.map { $0.bytes.count / (8 + 42) } == [2, 3, 1])
    #expect(sent.map(\.bytes).joined().count == classes.count * (8 + 42))
  }

  @Test func theTwoEndsMayCountDifferently() throws {
    var port = try tunnel(1, vni: 100, access100, remotes: [remoteA])
    guard case .tunnel(var tunnel) = port.attachment, let other = vni(200) else { return }
    tunnel.outgoingVNI = other
    port.attachment = .tunnel(tunnel)
    let bench = Bench(topology([device(0, access100), port]))
    let bytes = frame(to: 0xFF, from: 1)
    #expect(bench.receive(bytes, from: 0).map(\.bytes) == [vxlan(200, bytes)])
    #expect(bench.receiveDatagrams(vxlan(100, bytes), from: remoteA).map(\.bytes) == [bytes])
    #expect(bench.receiveDatagrams(vxlan(200, bytes), from: remoteA) == [])
  }
}

@Suite struct TagRoomTests {
  /// The room that an Ethernet device has behind its MTU is for one tag, wherever it is.
  @Test(arguments: [0, 1, 2])
  func aDeviceTakesItsMTUBehindOneTag(_ excess: Int) throws {
    let service = VLANMembership.dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8)
    let bench = Bench(
      topology([
        device(0, service, mtu: 1400), device(1, service, mtu: 1400),
        device(2, .trunk([vlan(100)]), mtu: 1400),
        try tunnel(3, vni: 100, .trunk([vlan(100)]), remotes: [remoteA]),
      ]))
    func bytes(_ tags: [UInt8], _ payload: Int) -> [UInt8] {
      Array(frame(to: 0xFF, from: 1).prefix(12)) + tags + [0x88, 0xB5]
        + [UInt8](repeating: 7, count: payload)
    }
    let customer: [UInt8] = [0x81, 0, 0, 5]
    let inside = bytes(customer, 1400 + excess - 1)
    let fits = excess <= 1
    // One tag inside: the device of the same kind takes the full MTU behind it.
    let sent = bench.receive(inside, from: 0)
    #expect(sent.filter { $0.port.rawValue == 1 }.count == (fits ? 1 : 0))
    #expect(bench.counters(1)[.exceedsDeviceMTU] == (fits ? 0 : 1))
    // On the trunk it gets a second one, for which there is no room.
    #expect(sent.filter { $0.port.rawValue == 2 } == [])
    // The same for what comes from a tunnel.
    let arrived = bench.receiveDatagrams(
      vxlan(100, bytes([0x88, 0xA8, 0, 100] + customer, 1400 + excess - 1)), from: remoteA)
    #expect(arrived.filter { $0.port.rawValue == 1 }.map(\.bytes) == (fits ? [inside] : []))
    // With four bytes less there is room for both.
    let small = bench.receive(bytes(customer, 1396 + excess - 1), from: 0)
    #expect(small.filter { $0.port.rawValue == 2 }.count == (fits ? 1 : 0))
  }
}
