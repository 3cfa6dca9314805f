import Testing

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
}
