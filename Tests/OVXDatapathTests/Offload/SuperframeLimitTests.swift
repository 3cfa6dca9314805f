import OVXDatapath
import OVXSimulation
import Testing

/// What a device cannot take whole, because of what it lacks or of its length, leaves in segments.
@Suite struct SuperframeLimitTests {
  /// How many frames a superframe of four segments becomes on its way to a device.
  private func count(
    _ device: Topology.Device, isIPv6: Bool = false, isUDP: Bool = false,
    vlans: VLANMembership = .access(vlan(10))
  ) -> Int {
    var packet = ReferencePacket()
    packet.isIPv6 = isIPv6
    packet.isUDP = isUDP
    packet.sourceAddress = [UInt8](1...(isIPv6 ? 16 : 4))
    packet.destinationAddress = [UInt8](21...(isIPv6 ? 36 : 24))
    packet.payload = [UInt8](repeating: 7, count: 4000)
    var port = OVXDatapathTests.device(2, vlans)
    port.attachment = .device(device)
    let bench = Bench(topology([OVXDatapathTests.device(1, .access(vlan(10))), port]))
    return bench.receive(
      packet.frame(partial: true), from: 1,
      offload: GSOTests.offload(packet, segmentSize: 1000)
    ).count
  }

  @Test(arguments: [false, true], [false, true])
  func capabilities(isIPv6: Bool, isUDP: Bool) {
    let needed: OffloadCapabilities = isUDP ? .udp : isIPv6 ? .tcp6 : .tcp4
    for capabilities in [OffloadCapabilities.all, [.checksum, needed]] {
      let device = Topology.Device(mtu: 1500, capabilities: capabilities)
      #expect(count(device, isIPv6: isIPv6, isUDP: isUDP) == 1)
    }
    for capabilities in [OffloadCapabilities.all.subtracting(needed), .checksum, []] {
      let device = Topology.Device(mtu: 1500, capabilities: capabilities)
      #expect(count(device, isIPv6: isIPv6, isUDP: isUDP) == 4)
    }
  }

  /// The limits are exact, and count the tag.
  @Test func lengths() {
    let whole = 14 + 20 + 20 + 4000
    func device(_ limit: Int, tagged: Int = .max) -> Topology.Device {
      Topology.Device(
        mtu: 1500, capabilities: .all, superframeLimit: limit, taggedSuperframeLimit: tagged)
    }
    #expect(count(device(whole)) == 1)
    #expect(count(device(whole - 1)) == 4)
    #expect(count(device(whole, tagged: 0)) == 1)
    let trunk = VLANMembership.trunk(nil)
    #expect(count(device(.max, tagged: whole + 4), vlans: trunk) == 1)
    #expect(count(device(.max, tagged: whole + 3), vlans: trunk) == 4)
    #expect(count(device(.max, tagged: 0), vlans: trunk) == 4)
  }
}
