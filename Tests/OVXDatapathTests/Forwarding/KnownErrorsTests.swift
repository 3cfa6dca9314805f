import OVXDatapath
import OVXSimulation
import Testing

/// What killed or fooled other switches, and has no test of a part's own; CONTRIBUTING.md has the
/// whole table.
@Suite struct KnownErrorsTests {
  private static func station(_ number: UInt64) -> MACAddress {
    MACAddress(truncating: 0x0200_0000_0000 | number)
  }

  /// A UDP packet from station 1 to all, to some port.
  private static func datagram(
    to port: UInt16 = 80, isIPv6: Bool = false, _ payload: [UInt8]
  ) -> PacketPlan {
    var plan = PacketPlan(from: station(1), to: .broadcast)
    plan.isTCP = false
    plan.isIPv6 = isIPv6
    plan.destinationPort = port
    plan.payload = payload
    return plan
  }

  private static func bench(tunnelMTU: Int = 1450, deviceMTU: Int = 70_000) throws -> Bench {
    var port = try tunnel(1, vni: 100, access100, remotes: [remoteA])
    guard case .tunnel(var way) = port.attachment else { throw Discrepancy("no tunnel") }
    way.peers[0].mtu = tunnelMTU
    port.attachment = .tunnel(way)
    return Bench(
      topology([
        device(0, access100, mtu: deviceMTU), port, device(2, access100, mtu: deviceMTU),
      ]))
  }

  /// A tunnel in a tunnel is payload: one layer more on the way out, one less on the way in, and
  /// nobody looks deeper.
  @Test(arguments: [false, true])
  func tunnelsInTunnelsArePayload(isIPv6: Bool) throws {
    var nested = Self.datagram([1, 2, 3]).frame
    // With the VNI, and to the port, that the switch's own tunnel has.
    for _ in 0..<10 { nested = Self.datagram(to: 4789, isIPv6: isIPv6, vxlan(100, nested)).frame }
    let bench = try Self.bench()
    let out = bench.receive(nested, from: 0)
    #expect(out.filter { $0.kind == .datagrams }.map(\.bytes) == [vxlan(100, nested)])
    #expect(out.filter { $0.kind == .frame }.map(\.bytes) == [nested])
    let back = bench.receiveDatagrams(vxlan(100, vxlanFrom(2, nested)), from: remoteA)
    #expect(back.map(\.bytes) == [vxlanFrom(2, nested), vxlanFrom(2, nested)])
    #expect(bench.counters(1).receivedFrames == 1)
    #expect(Set(bench.addresses().map(\.address)) == [Self.station(1), Self.station(2)])
  }

  /// The frame as another station sent it.
  private func vxlanFrom(_ number: UInt8, _ frame: [UInt8]) -> [UInt8] {
    Array(frame[..<11]) + [number] + frame[12...]
  }

  /// A checksum that is left to be filled in deep inside, as a container's own tunnel leaves it.
  @Test func aPartialChecksumInsideOfANestedTunnelIsFilledInThere() throws {
    var inner = Self.datagram([UInt8](repeating: 7, count: 99))
    inner.isTCP = true
    let complete = inner.frame
    let partial = inner.partialFrame
    // Over IPv4 a tunnel may send no checksum of its own (RFC 7348, section 5).
    func wrap(_ frame: [UInt8]) -> [UInt8] {
      var packet = Self.datagram(to: 4789, vxlan(7, frame)).frame
      packet.setNumber(UInt16(0), at: 40)
      return packet
    }
    var offload = partial.offload
    offload.checksumStart += 50
    let sent = try Self.bench().receive(wrap(partial.bytes), from: 0, offload: offload)
    #expect(
      sent.filter { $0.kind == .datagrams }.map(\.bytes) == [vxlan(100, wrap(complete))])
  }

  /// A superframe in a container's own tunnel, which virtio-net has no word for, is cut along with
  /// its outer headers.
  @Test(arguments: [false, true], [false, true])
  func superframesInNestedTunnelsAreCut(isIPv6: Bool, isUDP: Bool) throws {
    for isOuterIPv6 in [false, true] {
      for hasChecksum in [false, true] {
        var inner = Self.datagram([UInt8](0..<250) + [UInt8](repeating: 9, count: 5000))
        inner.isTCP = !isUDP
        inner.isIPv6 = isIPv6
        inner.tcpFlags = 0x19
        inner.identification = 65_533
        let superframe = inner.superframe(segmentSize: 1200)
        func wrap(_ frame: [UInt8], number: Int) -> [UInt8] {
          var outer = Self.datagram(to: 4789, isIPv6: isOuterIPv6, vxlan(7, frame))
          outer.identification = UInt16(truncatingIfNeeded: 65_534 + number)
          var bytes = outer.frame
          if !hasChecksum { bytes.setNumber(UInt16(0), at: isOuterIPv6 ? 60 : 40) }
          return bytes
        }
        let bytes = wrap(superframe.bytes, number: 0)
        let shift = UInt16(bytes.count - superframe.bytes.count)
        var offload = superframe.offload
        offload.checksumStart += shift
        offload.headerLength += shift
        let expected = try #require(superframe.wireFrames).enumerated().map {
          wrap($1, number: $0)
        }
        #expect(expected.count == 5)
        let bench = try Self.bench()
        let sent = bench.receive(bytes, from: 0, offload: offload)
        #expect(sent.filter { $0.kind == .frame }.map(\.bytes) == expected)
        #expect(sent.filter { $0.kind == .frame }.allSatisfy { $0.offload == .none })
        #expect(
          sent.filter { $0.kind == .datagrams }.map(\.bytes)
            == [expected.flatMap { vxlan(100, $0) }])
        // What contradicts itself is not cut.
        for place in [isOuterIPv6 ? 18 : 16, isOuterIPv6 ? 58 : 38, Int(shift) + 13] {
          var broken = bytes
          broken[place] ^= 1
          #expect(bench.receive(broken, from: 0, offload: offload).isEmpty)
        }
        #expect(bench.counters(0)[.malformedOffload] > 0)
      }
    }
  }

  /// First fragments, whose rest never comes: each leaves in the burst that it came in.
  @Test(arguments: [false, true])
  func fragmentsAreNotHeld(isIPv6: Bool) throws {
    let bench = try Self.bench()
    for number in 0..<5000 {
      var plan = Self.datagram(isIPv6: isIPv6, [UInt8](repeating: 5, count: 64))
      plan.dontFragment = false
      plan.sourceHost = UInt16(number)
      plan.identification = UInt16(number)
      plan.hasExtensionHeader = isIPv6
      var bytes = plan.frame
      if isIPv6 {
        bytes[20] = 44
        bytes.replaceSubrange(
          54..<62, with: [17, 0, 0, 1, 0, 0, UInt8(number >> 8), UInt8(number & 0xFF)])
      } else {
        bytes.setNumber(UInt16(0x2000), at: 20)
        FrameAnatomy(bytes)?.fillChecksums(in: &bytes)
      }
      #expect(FrameAnatomy(bytes)?.packet?.isFragment == true)
      let isBack = number % 2 == 1
      let sent =
        isBack
        ? bench.receiveDatagrams(vxlan(100, bytes), from: remoteA)
        : bench.receive(bytes, from: 0)
      // It goes on as it is, by the two other ports.
      #expect(sent.count == 2, "fragment \(number)")
      #expect(sent.allSatisfy { $0.bytes == bytes || $0.bytes == vxlan(100, bytes) })
    }
  }

  /// Lengths around the powers of two that a narrow integer would wrap at, on their way through.
  @Test func lengthsAreNotNarrowed() throws {
    // The largest that fits a UDP datagram over IPv4.
    let limit = 65_507 - 8
    let bench = try Self.bench(tunnelMTU: limit - 14)
    _ = bench.receive(frame(to: 0xFF, from: 9), from: 2)
    var lengths = Array(14...600)
    for power in 10...16 { lengths += (1 << power) - 20...(1 << power) + 20 }
    lengths += (limit - 3)...(limit + 3)
    lengths += [69_000, 70_014]
    for length in lengths {
      let bytes =
        Array(frame(to: 0xFF, from: 1).prefix(14))
        + (0..<max(length - 14, 0)).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ length) }
      let before = bench.counters(1)[.exceedsTunnelMTU]
      let sent = bench.receive(bytes, from: 0)
      #expect(sent.filter { $0.kind == .frame }.map(\.bytes) == [bytes], "\(length) bytes")
      let datagrams = sent.filter { $0.kind == .datagrams }
      if length <= limit {
        #expect(datagrams.map(\.bytes) == [vxlan(100, bytes)], "\(length) bytes")
        let back = bench.receiveDatagrams(vxlan(100, bytes), from: remoteA)
        #expect(back.map(\.bytes) == [bytes, bytes], "\(length) bytes")
      } else {
        #expect(datagrams.isEmpty)
        #expect(bench.counters(1)[.exceedsTunnelMTU] == before + 1)
      }
    }
    // What says itself how long it is, up to the largest packet that there is.
    for payload in [255, 256, 4095, 4096, 32_767, 32_768, 65_460, 65_507] {
      let bytes = Self.datagram([UInt8](repeating: 3, count: payload)).frame
      let sent = bench.receive(bytes, from: 0)
      #expect(sent.filter { $0.kind == .frame }.map(\.bytes) == [bytes])
    }
  }

  /// 0 is a protocol like any other, and not the absence of one.
  @Test(arguments: [false, true])
  func protocolZeroIsAProtocol(isIPv6: Bool) throws {
    let bench = try Self.bench()
    let plain = Self.datagram(isIPv6: isIPv6, [UInt8](repeating: 1, count: 40)).frame
    var zero = plain
    zero[isIPv6 ? 20 : 23] = 0
    FrameAnatomy(zero)?.fillChecksums(in: &zero)
    for bytes in [zero, plain, zero, plain] {
      let sent = bench.receive(bytes, from: 0)
      #expect(sent.map(\.bytes).contains(bytes) && sent.map(\.bytes).contains(vxlan(100, bytes)))
      #expect(sent.count == 2)
    }
    #expect(bench.counters(0).dropsByReason.allSatisfy { $0 == 0 })
  }

  /// LLDP, LACP, STP and their like are neither forwarded nor read, whatever they hold.
  @Test func linkProtocolsAreNotRead() throws {
    let bench = try Self.bench()
    var random = SeededRandom(seed: 1)
    var count: UInt64 = 0
    for last in 0..<16 as Range<UInt8> {
      for type: UInt16 in [0x88CC, 0x8809, 0x0026, 0x888E] {
        var bytes = frame(to: 0xFF, from: 7)
        bytes.replaceSubrange(0..<6, with: [1, 0x80, 0xC2, 0, 0, last])
        bytes.setNumber(type, at: 12)
        // TLVs of any length, also of none and past the end.
        bytes.replaceSubrange(14..., with: random.octets(random.below(80)))
        #expect(bench.receive(bytes, from: 0).isEmpty)
        #expect(bench.receiveDatagrams(vxlan(100, bytes), from: remoteA).isEmpty)
        count += 1
      }
    }
    #expect(bench.counters(0)[.reservedDestination] == count)
    #expect(bench.counters(1)[.reservedDestination] == count)
    #expect(bench.addresses().isEmpty)
  }

  /// What no tunnel is there for ends at the door, and leaves nothing behind; what that costs
  /// `ovx-benchmark` tells.
  @Test func strangersLeaveNothingBehind() throws {
    let bench = try Self.bench()
    _ = bench.receive(frame(to: 0xFF, from: 1), from: 0)
    func train(_ vni: UInt32) -> [UInt8] {
      (0..<64).flatMap { _ in vxlan(vni, frame(to: 1, from: 9)) }
    }
    let (welcome, unknown) = (train(100), train(101))
    func receive(_ bytes: [UInt8], from remote: IPAddress) -> Bool {
      bench.receiveDatagrams(bytes, segmentSize: bytes.count / 64, from: remote).isEmpty
    }
    #expect(!receive(welcome, from: remoteA))
    let addresses = bench.addresses()
    #expect(receive(unknown, from: remoteA))
    #expect(receive(welcome, from: remoteB))
    #expect(bench.endpointDrops(.unknownVNI) == 64)
    #expect(bench.endpointDrops(.unknownVTEP) == 64)
    #expect(bench.addresses() == addresses)
  }
}
