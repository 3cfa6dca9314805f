import OVXDatapath
import Testing

/// A tag as a person writes it.
private struct Tag: Equatable, CustomStringConvertible {
  var vlan: UInt16
  var priority: UInt16 = 0
  var type: UInt16 = 0x8100

  var bytes: [UInt8] {
    let control = priority << 13 | vlan
    return [
      UInt8(type >> 8), UInt8(type & 0xFF), UInt8(control >> 8), UInt8(control & 0xFF),
    ]
  }
  var description: String { "\(String(type, radix: 16)):\(vlan)/\(priority)" }
}

/// What ovs-vswitchd.conf.db(5) says of the VLAN modes, with lists of tags in place of bytes.
///
/// One rule is stricter: where a trunk does not show the frame's own VLAN, it shows no tag inside
/// of it either, because that one would be taken for the VLAN.
private enum Rules {
  struct Inside {
    var vlan: UInt16
    var outer: Tag?
    var inner: [Tag]
  }

  static func enter(_ mode: VLANMembership, _ tags: [Tag]) -> Inside? {
    let outer = tags.first
    let rest = Array(tags.dropFirst())
    let seen = outer?.vlan ?? 0
    switch mode {
    case .access(let own):
      return seen == 0 ? Inside(vlan: own.rawValue, outer: outer, inner: rest) : nil
    case .trunk(let vlans):
      return contains(vlans, seen) ? Inside(vlan: seen, outer: outer, inner: rest) : nil
    case .nativeTagged(let own, let vlans), .nativeUntagged(let own, let vlans):
      let vlan = seen == 0 ? own.rawValue : seen
      return vlan == own.rawValue || contains(vlans, vlan)
        ? Inside(vlan: vlan, outer: outer, inner: rest) : nil
    case .dot1qTunnel(let own, let customers, let type):
      guard contains(customers, seen) else { return nil }
      let service = Tag(vlan: own.rawValue, priority: outer?.priority ?? 0, type: type)
      return Inside(vlan: own.rawValue, outer: service, inner: tags)
    }
  }

  static func leave(_ mode: VLANMembership, _ frame: Inside, _ priorityTags: PriorityTags)
    -> [Tag]?
  {
    let priority = frame.outer?.priority ?? 0
    let tagged =
      [Tag(vlan: frame.vlan, priority: priority, type: frame.outer?.type ?? 0x8100)] + frame.inner
    let wantsPriority =
      frame.inner.isEmpty
      && (priorityTags == .always || priorityTags == .ifNonzero && priority != 0)
    let untagged = wantsPriority ? [Tag(vlan: 0, priority: priority)] : frame.inner
    let untaggedOnTrunk = frame.inner.isEmpty ? untagged : nil
    switch mode {
    case .access(let own):
      return frame.vlan == own.rawValue && frame.inner.isEmpty ? untagged : nil
    case .trunk(let vlans):
      guard contains(vlans, frame.vlan) else { return nil }
      return frame.vlan == 0 ? untaggedOnTrunk : tagged
    case .nativeTagged(let own, let vlans):
      guard frame.vlan == own.rawValue || (frame.vlan != 0 && contains(vlans, frame.vlan)) else {
        return nil
      }
      return tagged
    case .nativeUntagged(let own, let vlans):
      guard frame.vlan == own.rawValue || (frame.vlan != 0 && contains(vlans, frame.vlan)) else {
        return nil
      }
      return frame.vlan == own.rawValue ? untaggedOnTrunk : tagged
    case .dot1qTunnel(let own, let customers, _):
      guard frame.vlan == own.rawValue, contains(customers, frame.inner.first?.vlan ?? 0) else {
        return nil
      }
      return untagged
    }
  }

  private static func contains(_ vlans: Set<VLANID>?, _ value: UInt16) -> Bool {
    vlans?.contains(vlan(value)) ?? true
  }
}

@Suite struct VLANMatrixTests {
  private static let modes: [VLANMembership] = [
    .access(vlan(100)), .access(vlan(0)), .trunk(nil), .trunk([vlan(0), vlan(100)]),
    .trunk([vlan(200)]), .nativeTagged(vlan(100), trunks: nil),
    .nativeTagged(vlan(100), trunks: [vlan(200)]), .nativeUntagged(vlan(100), trunks: nil),
    .nativeUntagged(vlan(200), trunks: [vlan(0), vlan(100)]),
    .dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8),
    .dot1qTunnel(vlan(100), customers: [vlan(0), vlan(200)], protocolID: 0x8100),
    .dot1qTunnel(vlan(200), customers: [vlan(7)], protocolID: 0x88A8),
  ]

  private static let inputs: [[Tag]] = [
    [], [Tag(vlan: 0, priority: 5)], [Tag(vlan: 0)], [Tag(vlan: 100)],
    [Tag(vlan: 100, priority: 3)], [Tag(vlan: 200)], [Tag(vlan: 7)], [Tag(vlan: 4095)],
    [Tag(vlan: 100, type: 0x88A8)], [Tag(vlan: 100), Tag(vlan: 200)],
    [Tag(vlan: 100, priority: 2, type: 0x88A8), Tag(vlan: 7, priority: 6)],
    [Tag(vlan: 200), Tag(vlan: 7)], [Tag(vlan: 0, priority: 4), Tag(vlan: 200)],
  ]

  /// Every frame from every port to every other, with the tag in the frame and beside it.
  @Test(arguments: [PriorityTags.never, .ifNonzero, .always], [false, true])
  func everyPairOfModes(priorityTags: PriorityTags, isTagBeside: Bool) {
    let ports = Self.modes.enumerated().map { index, mode in
      Topology.Port(
        id: PortID(rawValue: UInt16(index)), bridge: BridgeID(rawValue: 0), vlans: mode,
        priorityTags: priorityTags,
        attachment: .device(Topology.Device(mtu: 1500, capabilities: .all)))
    }
    let bench = Bench(topology(ports))
    let plain = frame(to: 0xFF, from: 1)
    func bytes(_ tags: [Tag]) -> [UInt8] {
      Array(plain[..<12]) + tags.flatMap(\.bytes) + Array(plain[12...])
    }
    var delivered = 0
    for (ingress, mode) in Self.modes.enumerated() {
      for tags in Self.inputs {
        var inside = tags
        var beside = VLANTag.none
        if isTagBeside, let first = tags.first {
          inside.removeFirst()
          beside = VLANTag(control: first.priority << 13 | first.vlan, protocolID: first.type)
        }
        let sent = bench.receive(bytes(inside), from: UInt16(ingress), tag: beside)
        let entered = Rules.enter(mode, tags)
        for (egress, other) in Self.modes.enumerated() where egress != ingress {
          let expected = entered.flatMap { Rules.leave(other, $0, priorityTags) }.map(bytes)
          let actual = sent.filter { Int($0.port.rawValue) == egress }.map(\.bytes)
          #expect(
            actual == (expected.map { [$0] } ?? []), "\(mode) \(tags) to \(other)")
          delivered += actual.count
        }
      }
    }
    #expect(delivered > 100)
  }

  @Test func frequentCasesAreAsTheManualSays() {
    let modes: [VLANMembership] = [
      .access(vlan(100)), .trunk(nil), .nativeUntagged(vlan(100), trunks: nil),
      .dot1qTunnel(vlan(100), customers: nil, protocolID: 0x88A8),
    ]
    let ports = modes.enumerated().map { device(UInt16($0.offset), $0.element) }
    let bench = Bench(topology(ports))
    func sent(_ bytes: [UInt8], _ port: UInt16) -> [[UInt8]] {
      bench.receive(bytes, from: port).sorted { $0.port < $1.port }.map(\.bytes)
    }
    let untagged = frame(to: 0xFF, from: 1)
    let in100 = frame(to: 0xFF, from: 1, tagged: 100)
    #expect(sent(untagged, 0) == [in100, untagged, untagged])
    #expect(sent(in100, 1) == [untagged, untagged, untagged])
    #expect(sent(untagged, 2) == [untagged, in100, untagged])
    let stacked = Array(in100[..<12]) + [0x88, 0xA8, 0, 100] + Array(in100[12...])
    #expect(sent(in100, 3) == [stacked])
    #expect(bench.counters(0)[.nestedTag] == 1)
    #expect(bench.counters(2)[.nestedTag] == 1)
  }

  /// Double tagging: a container in the untagged segment must not reach the VLAN of its choice by
  /// way of the next switch, or of the remote end of a tunnel that carries all VLANs.
  @Test func aTagBehindAPriorityTagDoesNotBecomeTheVLAN() {
    let modes: [VLANMembership] = [
      .access(vlan(0)), .trunk(nil), .nativeUntagged(vlan(0), trunks: nil),
      .nativeTagged(vlan(0), trunks: nil),
    ]
    let bench = Bench(topology(modes.enumerated().map { device(UInt16($0.offset), $0.element) }))
    let in200 = frame(to: 0xFF, from: 1, tagged: 200)
    let hidden = Array(in200[..<12]) + [0x81, 0, 0, 0] + Array(in200[12...])
    #expect(bench.receive(hidden, from: 0).isEmpty)
    #expect(bench.receive(in200, from: 0, tag: VLANTag(control: 0)).isEmpty)
    #expect((1...3).map { bench.counters($0)[.nestedTag] } == [2, 2, 2])
  }
}
