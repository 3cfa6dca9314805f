import OVXDatapath
import Testing

@testable import OVXHost

@Suite struct SegmentMTUTests {
  /// The desired state of one bridge: tunnels with the path MTU of their underlay, and devices of
  /// others with their MTU.
  private struct Scene {
    var desired = DesiredState()
    private var paths: [DesiredState.Remote: Int] = [:]
    private var devices: [String: Int] = [:]

    mutating func add(
      tunnel name: String, _ vlans: VLANMembership, path: Int?, isIPv6: Bool = false
    ) {
      let number = UInt64(desired.tunnels.count + 1)
      let address =
        isIPv6 ? IPAddress(v6High: 0xFD05 << 48, low: number) : IPAddress(v4: UInt32(number))
      let remote = DesiredState.Remote(local: nil, address: address, port: 4789)
      paths[remote] = path.map { MTU.innerMTU(pathMTU: $0, isIPv6: isIPv6) }
      guard let vni = VNI(rawValue: UInt32(number)) else { return }
      desired.tunnels[name] = DesiredState.Tunnel(
        bridge: "br0", vni: vni, outgoingVNI: vni,
        endpoint: DesiredState.Endpoint(local: nil, isIPv6: isIPv6, port: 4789), remotes: [remote],
        vlans: vlans)
    }

    mutating func add(device name: String, _ vlans: VLANMembership, mtu: Int) {
      devices[name] = mtu
      desired.devices[name] = DesiredState.Device(
        bridge: "br0", place: .existing(name: name), vlans: vlans)
    }

    /// The limits of a port that the daemon makes.
    mutating func limits(of vlans: VLANMembership) -> DesiredState.Limits {
      desired.devices["made"] = DesiredState.Device(
        bridge: "br0", place: .host(name: "made"), vlans: vlans)
      let all = desired.limits(innerMTU: { paths[$0] }, deviceMTU: { devices[$0] })
      return all["made"] ?? DesiredState.Limits()
    }
  }

  private static let none = VLANID.untagged
  private static let vlan100 = VLANID(rawValue: 100) ?? .untagged
  private static let vlan200 = VLANID(rawValue: 200) ?? .untagged

  @Test func withoutTunnels() {
    var scene = Scene()
    #expect(scene.limits(of: .trunk(nil)).mtu.mtu == 1500)
    #expect(scene.limits(of: .trunk(nil)).gsoMaxSize(mtu: 1500) == 65_536)
    scene.add(device: "veth1", .access(Self.vlan100), mtu: 9000)
    #expect(scene.limits(of: .access(Self.vlan100)).mtu.mtu == 1500)
    scene.add(device: "veth2", .access(Self.vlan100), mtu: 1400)
    let limits = scene.limits(of: .access(Self.vlan100))
    #expect(limits.mtu.mtu == 1400)
    #expect(limits.mtu.bound?.owner == "port veth2")
    #expect(limits.tunnel == nil)
  }

  /// Each line: what a tunnel carries, the path MTU, what a port carries, and the MTU that it is
  /// given.
  @Test(arguments: [
    (VLANMembership.trunk(nil), 1500 as Int?, VLANMembership.trunk(nil), 1450),
    (.trunk(nil), nil, .trunk(nil), 1450),
    (.trunk(nil), 1500, .access(vlan100), 1446),
    (.trunk(nil), 1500, .access(none), 1450),
    (.trunk(nil), 1500, .nativeUntagged(vlan100, trunks: nil), 1446),
    (.trunk([vlan100]), 1500, .access(vlan100), 1446),
    (.trunk([vlan100]), 1500, .access(vlan200), 1500),
    (.access(vlan100), 1500, .access(vlan100), 1450),
    (.access(vlan100), 1500, .access(vlan200), 1500),
    (.access(vlan100), 1500, .trunk([vlan200]), 1500),
    (.access(vlan100), 1500, .trunk([vlan100, vlan200]), 1450),
    (.access(vlan100), 1500, .trunk(nil), 1450),
    (.nativeUntagged(vlan100, trunks: nil), 1500, .access(vlan100), 1450),
    (.nativeUntagged(vlan100, trunks: nil), 1500, .access(vlan200), 1446),
    (.access(vlan100), 9000, .access(vlan100), 8950),
    (.access(vlan100), 65_536, .access(vlan100), 9000),
    (.access(vlan100), 60, .access(vlan100), 68),
  ])
  func ofOneTunnel(
    _ tunnel: VLANMembership, _ path: Int?, _ port: VLANMembership, _ expected: Int
  ) {
    var scene = Scene()
    scene.add(tunnel: "vx", tunnel, path: path)
    let limits = scene.limits(of: port)
    #expect(limits.mtu.mtu == expected)
    #expect((limits.tunnel == nil) == (limits.gsoMaxSize(mtu: 1450) == 65_536))
    #expect((limits.tunnel == nil) == (expected == 1500))
  }

  /// What one tenant has limits no other one, and a trunk of both has the least of them.
  @Test func segmentsApart() {
    var scene = Scene()
    scene.add(tunnel: "vx100", .access(Self.vlan100), path: 1300)
    scene.add(tunnel: "vx200", .access(Self.vlan200), path: 1500, isIPv6: true)
    scene.add(device: "narrow", .access(Self.vlan100), mtu: 1000)
    #expect(scene.limits(of: .access(Self.vlan100)).mtu.mtu == 1000)
    #expect(scene.limits(of: .access(Self.vlan100)).tunnel?.mtu == 1250)
    #expect(scene.limits(of: .access(Self.vlan200)).mtu.mtu == 1430)
    #expect(scene.limits(of: .access(Self.vlan200)).mtu.bound?.owner == "tunnel vx200 to fd05::2")
    #expect(scene.limits(of: .access(VLANID(rawValue: 7) ?? .untagged)).mtu.mtu == 1500)
    #expect(scene.limits(of: .trunk([Self.vlan100, Self.vlan200])).mtu.mtu == 1000)
    #expect(scene.limits(of: .trunk(nil)).mtu.mtu == 1000)
    #expect(scene.limits(of: .trunk([])).mtu.mtu == 1500)
  }

  @Test func ofSeveralRemotes() {
    var scene = Scene()
    scene.add(tunnel: "wide", .access(Self.vlan100), path: 9000)
    #expect(scene.limits(of: .access(Self.vlan100)).mtu.mtu == 8950)
    scene.add(tunnel: "narrow", .access(Self.vlan100), path: 1400)
    #expect(scene.limits(of: .access(Self.vlan100)).mtu.mtu == 1350)
    scene.add(device: "veth", .access(Self.vlan100), mtu: 1320)
    #expect(scene.limits(of: .access(Self.vlan100)).mtu.mtu == 1320)
  }

  @Test func whatIsAskedForOrNeededByIPv6IsToldOf() {
    let bound = SizeBound(mtu: 1230, culprit: .tunnel("vx", remote: IPAddress(v4: 0x0A00_0001)))
    #expect(PortDevices.sizeFault(mtu: 1230, isAsked: false, bound: bound) == nil)
    #expect(PortDevices.sizeFault(mtu: nil, isAsked: false, bound: bound) == nil)
    #expect(PortDevices.sizeFault(mtu: 1280, isAsked: false, bound: nil) == nil)
    for isAsked in [false, true] {
      let fault = PortDevices.sizeFault(mtu: 1280, isAsked: isAsked, bound: bound)
      #expect(fault?.isOutage == false && fault?.isTransient == true)
      #expect(fault?.sentence.contains("tunnel vx to 10.0.0.1") == true)
      #expect(fault?.sentence.contains(isAsked ? "mtu_request" : "IPv6") == true)
    }
  }
}
