import Testing

/// What the underlay's device does for the tunnel's datagrams, and what it does to them.
enum Underlay: String, CaseIterable, CustomTestStringConvertible {
  /// Passes superframes of datagrams, and of tunnels, on as they are.
  case whole
  /// Segments UDP, but not what is inside of a tunnel: what most NICs and virtio do.
  case noTunnelSegmentation
  /// Segments nothing: each datagram goes by itself.
  case noSegmentation
  /// No checksums either.
  case bare

  var testDescription: String { rawValue }

  /// Arguments of `ethtool -K`; `nil` for what a veth comes with.
  var features: String? {
    switch self {
    case .whole: nil
    case .noTunnelSegmentation:
      "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off"
    case .noSegmentation: "tso off gso off tx-udp-segmentation off gro on rx-udp-gro-forwarding on"
    case .bare: "tx off tso off gso off tx-udp-segmentation off gro off"
    }
  }
}

extension SystemTests {
  /// Whatever the underlay can do, what arrives is what was sent.
  @Suite struct UnderlayTests {
    @Test(arguments: Underlay.allCases, Attachment.allCases)
    func betweenSwitches(_ underlay: Underlay, _ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.degrade([host1, host2], underlay)
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number])
          containers.append(
            try lab.container(
              "red\(number)", on: host, by: attachment, address: "172.17.42.1\(number)/24"))
        }
        try containers[0].expectPing("172.17.42.12", size: 3200)
        try containers[0].expectTransfer(20_000_000, to: containers[1], at: "172.17.42.12")
        try containers[1].expectTransfer(20_000_000, to: containers[0], at: "172.17.42.11")
        try containers[0].expectDatagrams(to: containers[1], at: "172.17.42.12")
      }
    }

    @Test(arguments: Underlay.allCases)
    func withTheKernel(_ underlay: Underlay) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.degrade([host1, host2], underlay)
        try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try host2.makeKernelVTEP(vni: 100, family: .ipv4, number: 2, remote: 1, ports: ["red2"])
        try red1.expectPing("172.17.42.12", size: 3200)
        try red1.expectTransfer(20_000_000, to: red2, at: "172.17.42.12")
        try red2.expectTransfer(20_000_000, to: red1, at: "172.17.42.11")
        try red1.expectDatagrams(to: red2, at: "172.17.42.12")
        try red2.expectDatagrams(to: red1, at: "172.17.42.11")
      }
    }

    /// Every fiftieth datagram of the tunnel is lost, each way: TCP makes good what the switch must
    /// not make worse.
    @Test(arguments: Attachment.allCases)
    func lossyUnderlay(_ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        // So that single datagrams are lost, and not whole trains, of which there might be too few
        // to lose one.
        try lab.degrade([host1, host2], .bare)
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          try lab.overlay(on: host, remotes: [3 - number])
          containers.append(
            try lab.container(
              "red\(number)", on: host, by: attachment, address: "172.17.42.1\(number)/24"))
        }
        try containers[0].expectPing("172.17.42.12")
        for host in [host1, host2] {
          try host.must(
            """
            nft add table netdev lossy
            nft add chain netdev lossy ingress \
              '{ type filter hook ingress device eth0 priority 0; }'
            nft add rule netdev lossy ingress udp dport 4789 numgen random mod 50 == 0 counter drop
            """)
        }
        try containers[0].expectTransfer(5_000_000, to: containers[1], at: "172.17.42.12")
        try containers[1].expectTransfer(5_000_000, to: containers[0], at: "172.17.42.11")
        let rules = try host2.must("nft list chain netdev lossy ingress")
        #expect(!rules.contains("packets 0 "), "nothing was lost: \(rules)")
      }
    }
  }
}

extension Lab {
  /// Takes offloads away from the hosts' eth0.
  fileprivate func degrade(_ hosts: [Namespace], _ underlay: Underlay) throws {
    guard let features = underlay.features else { return }
    for host in hosts { try host.must("ethtool -K eth0 \(features)") }
  }
}

extension Namespace {
  /// Sends datagrams of many sizes, one flow beside the other, and expects each to arrive once and
  /// whole.
  func expectDatagrams(
    to peer: Namespace, at address: String, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let receiver = try peer.start("exec python3 $TRAFFIC/datagrams.py receive \(address) 5002")
    try eventually("the receiver of datagrams listens in \(peer.name)") {
      try peer.must("cat /proc/net/udp /proc/net/udp6").contains(":138A ")
    }
    let sent = try must(
      "python3 $TRAFFIC/datagrams.py send \(address) 5002 \(UInt32.random(in: 0...UInt32.max))",
      seconds: 30)
    let received = try receiver.finish(seconds: 20)
    #expect(
      received.standardOutput == sent && !sent.isEmpty,
      "datagrams from \(name) to \(peer.name): sent \(sent), received \(received)",
      sourceLocation: sourceLocation)
  }
}
