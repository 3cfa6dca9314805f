import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

/// How a refusal ends that a join would lift.
private let join =
  "; where they are to be one, \"set bridge br0 other_config:joined-vnis=100,200\" joins them"

@Suite struct TenancyTests {
  /// Adds tunnels, each written `KEY REMOTE [SETTING]...`, to `br0`, and returns the sentence of
  /// the refusal, if any.
  private func outcome(_ tunnels: [String]) throws -> String? {
    var bench = try Workbench("add-br br0")
    let line = tunnels.enumerated().map { index, tunnel in
      let parts = tunnel.split(separator: " ")
      return "add-port br0 v\(index) key=\(parts[0]) remote=10.0.0.\(parts[1]) "
        + parts.dropFirst(2).joined(separator: " ")
    }.joined(separator: " -- ")
    do {
      try bench.run(line)
      return nil
    } catch let error as ControlError {
      return error.message
    }
  }

  @Test(arguments: [
    // One mesh: the same VNI, the same VLANs, another remote.
    ["1 1 tag=7", "1 2 tag=7"],
    ["1 1", "1 2"],
    ["1 1 trunks=7,8", "1 2 trunks=8,9"],
    ["1 1 trunks=7", "1 2"],
    ["1 1 vlan_mode=native-tagged tag=7", "1 2 vlan_mode=native-tagged tag=7"],
    ["1 1 vlan_mode=dot1q-tunnel tag=7", "2 1 vlan_mode=native-untagged tag=8 trunks=9"],
    // Tenants side by side.
    ["1 1 tag=7", "2 1 tag=8"],
    ["1 1 trunks=1,2,3", "2 1 trunks=4,5,6"],
    ["1 1 trunks=1,2,3", "2 1 tag=4"],
    ["1 1 tag=0", "2 1 tag=1"],
    // The same VNI and remote by another local address or UDP port.
    ["1 1 tag=7 local=10.0.0.8", "1 1 tag=7 local=10.0.0.9"],
    ["1 1 tag=7", "1 1 tag=7 dst_port=8472"],
    // Far ends that count differently: one tenant here, whatever it is called there.
    ["1 1 tag=7 options:out_key=5", "1 2 tag=7 options:out_key=6", "2 1 tag=8"],
    ["1 1 tag=7 options:out_key=2", "1 2 tag=7 options:out_key=2"],
  ])
  func accepted(tunnels: [String]) throws {
    #expect(try outcome(tunnels) == nil)
  }

  @Test(arguments: [
    (
      ["100 1 tag=7", "200 1 tag=8 options:out_key=100"],
      "tunnel v1 (in_key=200) would send with out_key 100, which tunnel v0 (in_key=100) receives, and that "
        + "joins two tenants; give v1 an out_key of its own, or both the same in_key"
    ),
    (
      ["100 1 tag=7 options:out_key=300", "200 1 tag=8 options:out_key=300"],
      "tunnel v1 (in_key=200) would send with out_key 300, which tunnel v0 (in_key=100) sends, and that "
        + "joins two tenants; give v1 an out_key of its own, or both the same in_key"
    ),
    (
      ["100 1", "200 1"],
      "tunnels v0 (key=100, no tag) and v1 (key=200, no tag) would both carry every VLAN of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v0 tag=100 -- set port v1 tag=200\", or a bridge of its own" + join
    ),
    (
      ["100 1 tag=7", "200 1 tag=7"],
      "tunnels v0 (key=100, tag=7) and v1 (key=200, tag=7) would both carry VLAN 7 of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v1 tag=200\", or a bridge of its own" + join
    ),
    (
      ["100 1 tag=0", "200 1 vlan_mode=access"],
      "tunnels v0 (key=100, tag=0) and v1 (key=200, tag=0) would both carry the untagged segment of "
        + "bridge br0, which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v1 tag=200\", or a bridge of its own" + join
    ),
    (
      ["100 1 tag=7", "200 1"],
      "tunnels v0 (key=100, tag=7) and v1 (key=200, no tag) would both carry VLAN 7 of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v1 tag=200\", or a bridge of its own" + join
    ),
    (
      ["100 1", "200 1 tag=7"],
      "tunnels v0 (key=100, no tag) and v1 (key=200, tag=7) would both carry VLAN 7 of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v0 tag=100\", or a bridge of its own" + join
    ),
    (
      ["100 1 trunks=6,7", "200 1 trunks=8,7"],
      "tunnels v0 (key=100, trunks=6,7) and v1 (key=200, trunks=7,8) would both carry VLAN 7 of bridge "
        + "br0, which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"clear port v0 trunks -- set port v0 tag=100 -- clear port v1 trunks -- set port v1 tag=200\", "
        + "or a bridge of its own" + join
    ),
    (
      ["100 1 trunks=6,7", "200 1 tag=6"],
      "tunnels v0 (key=100, trunks=6,7) and v1 (key=200, tag=6) would both carry VLAN 6 of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"clear port v0 trunks -- set port v0 tag=100\", or a bridge of its own" + join
    ),
    // Native VLANs count, and so do all that a native trunk carries.
    (
      ["100 1 vlan_mode=native-untagged tag=9 trunks=3,4", "200 1 tag=9"],
      "tunnels v0 (key=100, native-untagged, tag=9) and v1 (key=200, tag=9) would both carry VLAN 9 of bridge "
        + "br0, which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"clear port v0 trunks vlan_mode -- set port v0 tag=100\", or a bridge of its own" + join
    ),
    // A native VLAN of 0 without trunks carries all, too.
    (
      ["100 1 vlan_mode=native-untagged", "200 1 vlan_mode=native-untagged"],
      "tunnels v0 (key=100, native-untagged, tag=0) and v1 (key=200, native-untagged, tag=0) would both "
        + "carry every VLAN of bridge br0, which joins two tenants; give each VNI a VLAN of its own, for "
        + "example with \"clear port v0 vlan_mode -- set port v0 tag=100 -- clear port v1 vlan_mode -- set port v1 "
        + "tag=200\", or a bridge of its own" + join
    ),
    // The suggested tag avoids those in use, and VNIs that are no VLAN.
    (
      ["5000 1 tag=1", "6000 1 tag=1"],
      "tunnels v0 (key=5000, tag=1) and v1 (key=6000, tag=1) would both carry VLAN 1 of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v1 tag=2\", or a bridge of its own"
        + "; where they are to be one, \"set bridge br0 "
        + "other_config:joined-vnis=5000,6000\" joins them"
    ),
    // The tunnels of one VNI move together.
    (
      ["100 1", "100 2", "200 1 tag=7"],
      "tunnels v0 (key=100, no tag) and v2 (key=200, tag=7) would both carry VLAN 7 of bridge br0, "
        + "which joins two tenants; give each VNI a VLAN of its own, for example with "
        + "\"set port v0 tag=100 -- set port v1 tag=100\", or a bridge of its own" + join
    ),
    // One VNI, two meanings.
    (
      ["100 1 tag=7", "100 2 tag=8"],
      "tunnels v0 (tag=7) and v1 (tag=8) have the same key 100, which would join VLANs 7 and 8 of bridge "
        + "br0; give both the same tag, or v1 a key of its own"
    ),
    (
      ["100 1 tag=7", "100 2"],
      "tunnels v0 (tag=7) and v1 (no tag) have the same key 100, but carry VLANs differently, so a "
        + "frame of VNI 100 would mean two things; give both the same tag and vlan_mode, "
        + "or v1 a key of its own"
    ),
    // One datagram, two ports.
    (
      ["100 1 tag=7", "100 1 tag=7"],
      "tunnels v0 and v1 have the same key 100, remote_ip 10.0.0.1, local_ip and dst_port, so a datagram "
        + "could belong to either; give v1 another key or remote_ip, or delete one"
    ),
    (
      ["100 1,10.0.0.2 tag=7", "100 2 tag=7 dst_port=4789"],
      "tunnels v0 and v1 have the same key 100, remote_ip 10.0.0.2, local_ip and dst_port, so a datagram "
        + "could belong to either; give v1 another key or remote_ip, or delete one"
    ),
  ])
  func refused(tunnels: [String], sentence: String) throws {
    #expect(try outcome(tunnels) == sentence)
  }

  @Test func aVNIBelongsToOneBridge() throws {
    var bench = try Workbench(
      "add-br br0", "add-br br1", "add-port br0 v0 key=1 remote=10.0.0.1 tag=7")
    #expect(
      bench.refusal("add-port br1 v1 key=1 remote=10.0.0.2 tag=7")
        == "tunnels v0 of bridge br0 and v1 of bridge br1 have the same key 1, but a VNI belongs to one "
        + "bridge of a host; add v1 to br0, or give it a key of its own")
    // The same VLANs of two bridges are different segments.
    try bench.run("add-port br1 v1 key=2 remote=10.0.0.2 tag=7")
  }

  @Test func whatTheSentenceSuggestsIsAccepted() throws {
    for tunnels in [
      ["100 1", "200 1"], ["100 1 tag=7", "200 1 tag=7"], ["100 1 tag=7", "200 1"],
      ["100 1", "200 1 tag=7"], ["100 1 trunks=6,7", "200 1 trunks=8,7"],
      ["5000 1 tag=1", "6000 1 tag=1"],
      ["100 1", "100 2", "200 1 tag=7"],
      ["100 1 vlan_mode=native-untagged tag=9 trunks=3,4", "200 1 tag=9"],
    ] {
      let sentence = try #require(try outcome(tunnels))
      let quoted = sentence.split(separator: "\"")
      try #require(quoted.count > 3)
      let line = tunnels.enumerated().map { index, tunnel in
        let parts = tunnel.split(separator: " ")
        return "add-port br0 v\(index) key=\(parts[0]) remote=10.0.0.\(parts[1]) "
          + parts.dropFirst(2).joined(separator: " ")
      }.joined(separator: " -- ")
      for remedy in [quoted[1], quoted[3]] {
        var bench = try Workbench("add-br br0")
        try bench.run("\(line) -- \(remedy)")
      }
    }
  }

  @Test func joinedVNIsMayShareVLANs() throws {
    var bench = try Workbench("add-br br0", "set bridge br0 other_config:joined-vnis=100,200,300")
    try bench.run("add-port br0 v0 key=100 remote=10.0.0.1 tag=7")
    try bench.run("add-port br0 v1 key=200 remote=10.0.0.1 tag=7")
    try bench.run("add-port br0 v2 key=300 remote=10.0.0.1")
    // With nobody else.
    #expect(
      bench.refusal("add-port br0 v3 key=400 remote=10.0.0.1 tag=7")
        == "tunnels v2 (key=300, no tag) and v3 (key=400, tag=7) would both carry VLAN 7 of bridge br0, which "
        + "joins two tenants; give each VNI a VLAN of its own, for example with \"set port v2 tag=300\", or a "
        + "bridge of its own; where they are to be one, \"set bridge br0 "
        + "other_config:joined-vnis=100,200,300,400\" joins them")
    // The word cannot be taken back while it counts.
    #expect(
      bench.refusal("remove bridge br0 other_config joined-vnis").contains(
        "would both carry VLAN 7 of bridge br0, which joins two tenants"))
    #expect(
      bench.refusal("set bridge br0 other_config:joined-vnis=100,300").hasSuffix(
        "\"set bridge br0 other_config:joined-vnis=100,200,300\" joins them"))
    // What a tunnel sends is still nobody else's to receive.
    #expect(
      bench.refusal("set interface v0 options:out_key=200").hasPrefix(
        "tunnel v0 (in_key=100) would send with out_key 200, which tunnel v1 (in_key=200) receives")
    )
    try bench.run(
      "set port v1 tag=8 -- set port v2 tag=9 -- remove bridge br0 other_config joined-vnis")
    // It counts for its own bridge.
    try bench.run("add-br br1 -- set bridge br1 other_config:joined-vnis=100,200")
    #expect(bench.refusal("set port v1 tag=7").contains("would both carry VLAN 7 of bridge br0"))
  }

  @Test func whatIsJoinedIsSaid() throws {
    var bench = try Workbench("add-br br0")
    try bench.run("set bridge br0 other_config:joined-vnis=200,100,300")
    #expect(
      bench.notes == [
        "bridge br0: tunnels of VNIs 100, 200 and 300 may share VLANs, and what is sent in one of these VNIs "
          + "then reaches the others; join them on one host only: with a second one, hosts that have one of "
          + "them get twice what is flooded"
      ])
    for text in [",", "100", "100,100", "a,b", "100,16777216", "1;2", "-1,2"] {
      #expect(
        bench.refusal("set bridge br0 other_config:joined-vnis=\(text)")
          == "bridge br0: other_config:joined-vnis \"\(text)\" is not a list of two or more VNIs, 0 to "
          + "16777215, separated by commas, whose tunnels are to share VLANs; \"remove bridge br0 other_config "
          + "joined-vnis\" keeps all apart")
    }
  }

  /// No accepted set of tunnels binds a segment to two VNIs, however the operator came to it;
  /// checked against the rule in its plainest form, segment by segment.
  @Test func noSegmentHasTwoVNIsThatAreNotJoined() throws {
    var random = SeededRandom()
    var accepted = 0
    let bridges = try Workbench("add-br br0", "add-br br1")
    for _ in 0..<400 {
      var bench = bridges
      var joined: Set<UInt32> = []
      if Int.random(in: 0..<4, using: &random) == 0 {
        joined = [1, 3]
        try bench.run("set bridge br0 other_config:joined-vnis=1,3")
      }
      for index in 0..<Int.random(in: 2...6, using: &random) {
        let bridge = Int.random(in: 0...1, using: &random)
        let key = Int.random(in: 1...3, using: &random)
        let vlans =
          [
            [], [Setting(column: "vlan_mode", value: "native-untagged")],
            [Setting(column: "tag", value: "\(Int.random(in: 0...3, using: &random))")],
            [Setting(column: "trunks", value: "1,2")], [Setting(column: "trunks", value: "0,3")],
          ].randomElement(using: &random) ?? []
        let tunnel = [
          Setting(column: "key", value: "\(key)"),
          Setting(column: "remote", value: "10.0.0.\(index + 1)"),
        ]
        do {
          try bench.run([
            .addPort(
              bridge: "br\(bridge)", port: "v\(index)", settings: tunnel + vlans, mayExist: false)
          ])
          accepted += 1
        } catch is ControlError {
          continue
        }
      }
      try bench.configuration.validate()
      var vnis: [String: VNI] = [:]
      var owners: [VNI: String] = [:]
      for port in bench.configuration.ports.values {
        guard let tunnel = port.interface.tunnel else { continue }
        #expect(owners.updateValue(port.bridge, forKey: tunnel.vni) ?? port.bridge == port.bridge)
        for vlan in UInt16(0)...4 where carries(port, vlan) {
          let before = vnis.updateValue(tunnel.vni, forKey: "\(port.bridge) \(vlan)") ?? tunnel.vni
          let isJoined =
            port.bridge == "br0" && joined.isSuperset(of: [before.rawValue, tunnel.vni.rawValue])
          #expect(before == tunnel.vni || isJoined, "\(random)")
        }
      }
    }
    #expect(accepted > 400, "the test has to get somewhere; \(random)")
  }

  private func carries(_ port: Configuration.Port, _ vlan: UInt16) -> Bool {
    VLANID(rawValue: vlan).map { port.vlans.carries($0) } ?? false
  }
}
