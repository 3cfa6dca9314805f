private import OVXDatapath
private import OVXLinux
import Testing

@Suite(.enabled(if: isRoot, "makes network namespaces, which takes root"))
struct DeviceFeaturesTests {
  @Test func theyAreWhatEthtoolSwitches() throws {
    let namespace = try NetworkNamespace.anonymous()
    var netlink = try namespace.netlink()
    try netlink.createVeth(VethEnd("veth0"), peer: VethEnd("veth1"))
    var link = try netlink.existing("veth0")

    func device(_ words: String...) throws -> Topology.Device {
      let link = link
      return try namespace.perform { () throws(LinuxError) in
        if !words.isEmpty {
          let output = try run(
            "/sbin/ethtool", ["-K", "veth0"] + words, until: .now + .seconds(10))
          #expect(output.status == 0, "\(output.errors)")
        }
        return link.device(DeviceFeatures(of: link), .all, mtu: 1500)
      }
    }
    let whole = try device()
    #expect(
      whole
        == Topology.Device(
          mtu: 1500, capabilities: .all, superframeLimit: 65_535, taggedSuperframeLimit: 65_535))
    #expect(try device("tx-tcp6-segmentation", "off").capabilities == [.checksum, .tcp4, .udp])
    #expect(try device("tx-udp-segmentation", "off").capabilities == [.checksum, .tcp4])
    #expect(try device("tx-tcp-ecn-segmentation", "off").capabilities == .checksum)
    #expect(try device("tso", "on", "tx-udp-segmentation", "on") == whole)
    #expect(try device("tx", "off").capabilities == .checksum)
    #expect(try device("tx", "on", "tso", "on", "tx-udp-segmentation", "on") == whole)

    // Of a kind of which nothing is known of tagged frames; of one that takes short ones.
    link.kind = nil
    link.gsoIPv4MaxSize = 20_000
    #expect(try device().superframeLimit == 19_999)
    #expect(try device().taggedSuperframeLimit == 0)
  }
}
