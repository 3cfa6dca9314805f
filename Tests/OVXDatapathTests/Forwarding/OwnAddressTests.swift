import OVXDatapath
import Testing

/// What becomes of frames to the addresses that ports' devices have themselves.
@Suite struct OwnAddressTests {
  /// The address of `frame(to:from:)` with this end.
  private func address(_ end: UInt8) -> MACAddress {
    MACAddress(truncating: 0x0200_0000_0000 | UInt64(end))
  }

  private func device(
    _ id: UInt16, _ vlans: VLANMembership, has end: UInt8, isStation: Bool = false
  ) -> Topology.Port {
    var port = OVXDatapathTests.device(id, vlans)
    port.attachment = .device(
      Topology.Device(
        mtu: 1500, capabilities: .all, address: address(end), isStation: isStation))
    return port
  }

  @Test func nobodyIsBehindADevicesOwnAddress() {
    let bench = Bench(
      topology([device(0, access100, has: 0x10), device(1, access100, has: 0x11)]))
    for end in [0x10, 0x11] as [UInt8] {
      #expect(bench.receive(frame(to: end, from: 1), from: 0) == [])
    }
    #expect(bench.counters(0)[.ownAddress] == 2)
    // Others are flooded as ever, and so is the address of a group.
    #expect(bench.receive(frame(to: 0x12, from: 1), from: 0).count == 1)
    #expect(bench.receive(frame(to: 0xFF, from: 1), from: 0).count == 1)
  }

  @Test func whoeverIsHeardWithTheAddressHasIt() {
    let bench = Bench(
      topology([device(0, access100, has: 0x10), device(1, access100, has: 0x11)]))
    _ = bench.receive(frame(to: 0xFF, from: 0x11), from: 1)
    #expect(bench.receive(frame(to: 0x11, from: 1), from: 0).map(\.port.rawValue) == [1])
    #expect(bench.flushAddresses() == 2)
    #expect(bench.receive(frame(to: 0x11, from: 1), from: 0) == [])
    #expect(bench.addStatic(address(0x11), vlan(100), on: 1))
    #expect(bench.receive(frame(to: 0x11, from: 1), from: 0).map(\.port.rawValue) == [1])
  }

  @Test func aStationIsKnownWithoutHavingBeenHeard() throws {
    let ports = [
      device(0, access100, has: 0x10), device(1, access100, has: 0x11),
      device(2, access100, has: 0x12, isStation: true),
      try tunnel(3, vni: 100, access100, remotes: [remoteA]),
    ]
    let bench = Bench(topology(ports))
    #expect(bench.receive(frame(to: 0x12, from: 1), from: 0).map(\.port.rawValue) == [2])
    let arrived = bench.receiveDatagrams(vxlan(100, frame(to: 0x12, from: 9)), from: remoteA)
    #expect(arrived.map(\.port.rawValue) == [2])
    #expect(bench.receive(frame(to: 0x12, from: 0x13), from: 2) == [])
    #expect(bench.counters(2)[.samePort] == 1)
    // Before somebody else's device that has the same address.
    let twins = Bench(
      topology([
        device(0, access100, has: 0x12), device(1, access100, has: 0x12, isStation: true),
        device(2, access100, has: 0x13),
      ]))
    #expect(twins.receive(frame(to: 0x12, from: 1), from: 2).map(\.port.rawValue) == [1])
  }

  /// In another VLAN, or another bridge, the address is anybody's.
  @Test func onlyTheDevicesSegmentsKnowIt() {
    let other = VLANMembership.access(vlan(200))
    let bench = Bench(
      topology([
        device(0, access100, has: 0x10), device(1, access100, has: 0x11, isStation: true),
        device(2, other, has: 0x12), device(3, other, has: 0x13),
        device(4, .trunk([vlan(300)]), has: 0x14), device(5, .trunk(nil), has: 0x15),
      ]))
    #expect(bench.receive(frame(to: 0x10, from: 1), from: 2).map(\.port.rawValue) == [3, 5])
    #expect(bench.receive(frame(to: 0x11, from: 1), from: 2).map(\.port.rawValue) == [3, 5])
    #expect(bench.receive(frame(to: 0x14, from: 1), from: 2).map(\.port.rawValue) == [3, 5])
    #expect(bench.receive(frame(to: 0x15, from: 1), from: 2) == [])
    bench.apply(
      topology([device(0, access100, has: 0x20), device(1, access100, has: 0x21)]))
    #expect(bench.receive(frame(to: 0x10, from: 1), from: 0).count == 1)
    #expect(bench.receive(frame(to: 0x20, from: 1), from: 0) == [])
  }
}

/// By which devices of the host a VTEP's datagrams may come.
@Suite struct ArrivalDeviceTests {
  private func tunnel(
    _ id: UInt16, vni: UInt32, remote: IPAddress, devices: [UInt32]?, firstPeer: UInt16
  ) throws -> Topology.Port {
    var port = try OVXDatapathTests.tunnel(
      id, vni: vni, .access(vlan(UInt16(vni))), remotes: [remote], firstPeer: firstPeer)
    guard case .tunnel(var tunnel) = port.attachment else { return port }
    tunnel.peers[0].devices = devices
    port.attachment = .tunnel(tunnel)
    return port
  }

  @Test func onlyThoseThatLeadToItAreBelieved() throws {
    let ipv6 = IPAddress(v6High: 0xFD05_0000_0000_0000, low: 3)
    for (remote, other) in [(remoteA, remoteB), (ipv6, remoteB)] {
      let bench = Bench(
        topology([
          device(0, access100),
          try tunnel(1, vni: 100, remote: remote, devices: [7, 9], firstPeer: 1),
          try tunnel(2, vni: 200, remote: other, devices: [8], firstPeer: 2),
        ]))
      let datagram = vxlan(100, frame(to: 0xFF, from: 9))
      for index in [7, 9] as [UInt32] {
        #expect(bench.receiveDatagrams(datagram, from: remote, by: index).count == 1)
      }
      #expect(bench.endpointDrops(.wrongDevice) == 0)
      for index in [0, 1, 6, 8, 10, .max] as [UInt32] {
        #expect(bench.receiveDatagrams(datagram, from: remote, by: index) == [])
      }
      #expect(bench.endpointDrops(.wrongDevice) == 6)
      let train = datagram + datagram + datagram.prefix(40)
      #expect(
        bench.receiveDatagrams(train, segmentSize: datagram.count, from: remote, by: 8) == [])
      #expect(bench.endpointDrops(.wrongDevice) == 9)
      #expect(bench.addresses().count == 1)
    }
  }

  @Test func tunnelsOfOneRemoteHaveTheirDevicesTogether() throws {
    let bench = Bench(
      topology([
        device(0, access100), try tunnel(1, vni: 100, remote: remoteA, devices: [7], firstPeer: 1),
        try tunnel(2, vni: 200, remote: remoteA, devices: [8], firstPeer: 2),
      ]))
    let datagram = vxlan(100, frame(to: 0xFF, from: 9))
    #expect(bench.receiveDatagrams(datagram, from: remoteA, by: 8).count == 1)
    #expect(bench.receiveDatagrams(datagram, from: remoteA, by: 9) == [])
    let none = Bench(
      topology([
        device(0, access100), try tunnel(1, vni: 100, remote: remoteA, devices: [], firstPeer: 1),
      ]))
    #expect(none.receiveDatagrams(datagram, from: remoteA, by: 9) == [])
  }
}
