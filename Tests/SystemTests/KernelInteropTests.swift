import Testing

/// Which underlay, which kind of container, and whether the tunnel is bound to one VLAN.
struct OverlayCase: CustomTestStringConvertible {
  var family: Family
  var attachment: Attachment
  var tag: Int?

  var testDescription: String {
    "\(family), \(attachment), \(tag.map { "tag \($0)" } ?? "no tag")"
  }

  /// Every value of each column at least twice, and every pair of columns' values at least once.
  static let all = [
    OverlayCase(family: .ipv4, attachment: .tap, tag: 100),
    OverlayCase(family: .ipv4, attachment: .veth, tag: nil),
    OverlayCase(family: .ipv6, attachment: .tap, tag: nil),
    OverlayCase(family: .ipv6, attachment: .veth, tag: 100),
  ]
}

extension Lab {
  /// Starts ovx on a host with bridge br0 and, on it, a tunnel vxlan0 to other hosts by their
  /// numbers.
  @discardableResult
  func overlay(
    on host: Namespace,
    vni: Int = 100,
    family: Family = .ipv4,
    remotes: [Int],
    tag: Int? = nil,
    arguments: [String] = []
  ) throws -> Daemon {
    let daemon = try daemon(on: host, arguments: arguments)
    try host.ctl("add-br br0")
    let addresses = remotes.map { family.address($0) }.joined(separator: ",")
    let tagging = tag.map { " tag=\($0)" } ?? ""
    try host.ctl("add-port br0 vxlan0 key=\(vni) remote=\(addresses)\(tagging)")
    return daemon
  }
}

extension SystemTests {
  /// The kernel on both sides.
  ///
  /// It proves the lab, not ovx: when it fails, the other suites' failures mean nothing.
  @Suite struct LabTests {
    @Test(arguments: Family.allCases)
    func kernelToKernel(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let mtu = family.overlayMTU
        let red1 = try lab.vethContainer("red1", on: host1, address: "172.17.42.11/24", mtu: mtu)
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24", mtu: mtu)
        try host1.makeKernelVTEP(vni: 100, family: family, number: 1, remote: 2, ports: ["red1"])
        try host2.makeKernelVTEP(vni: 100, family: family, number: 2, remote: 1, ports: ["red2"])
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
        let speed = try red1.measureTCP(to: red2, at: "172.17.42.12", seconds: 2)
        #expect(speed.stalls == 0)
      }
    }
  }

  /// ovx on one side, the kernel's vxlan device on the other.
  @Suite struct KernelInteropTests {
    @Test(arguments: OverlayCase.all)
    func conversation(_ overlay: OverlayCase) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let mtu = overlay.family.overlayMTU
        try lab.overlay(on: host1, family: overlay.family, remotes: [2], tag: overlay.tag)
        let red1 = try lab.container(
          "red1",
          on: host1,
          by: overlay.attachment,
          address: "172.17.42.11/24",
          tag: overlay.tag,
          mtu: mtu
        )
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24", mtu: mtu)
        try host2.makeKernelVTEP(
          vni: 100,
          family: overlay.family,
          number: 2,
          remote: 1,
          ports: ["red2"]
        )
        try red1.expectConversation(at: "172.17.42.11", with: red2, at: "172.17.42.12")
      }
    }

    /// IPv6 inside, where neighbors are found by multicast and checksums are not optional.
    @Test func ipv6Inside() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try host2.makeKernelVTEP(vni: 100, family: .ipv4, number: 2, remote: 1, ports: ["red2"])
        try red1.must("ip addr add fd17::11/64 dev eth0 nodad")
        try red2.must("ip addr add fd17::12/64 dev eth0 nodad")
        try red1.expectConversation(at: "fd17::11", with: red2, at: "fd17::12")
      }
    }
  }
}
