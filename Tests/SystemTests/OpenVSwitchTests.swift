import Foundation
import Testing

/// Open vSwitch's userspace datapath on a host, in a directory and a network namespace of its own.
struct OpenVSwitch {
  let host: Namespace
  private let environment: String
  private let directory: String

  /// Starts it with a bridge br-phy for the underlay, as its manual prescribes, and a bridge br0.
  init(on host: Namespace, address: String) throws {
    self.host = host
    directory = host.rundir
    let found = try Command(
      [Lab.packageRoot.appendingPathComponent("deploy/find-openvswitch").path]
    ).finish(seconds: 120)
    guard found.succeeded else { throw LabError(found.standardError) }
    let root = found.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
    let prefix = root == "/" ? "" : root
    let paths = ["bin", "sbin", "lib/openvswitch-switch"].map { "\(prefix)/usr/\($0)" }
    let variables = ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"].map { "OVS_\($0)=\(host.rundir)" }
    environment =
      "export PATH=\(paths.joined(separator: ":")):$PATH \(variables.joined(separator: " "))\n"
      + (prefix.isEmpty
        ? "" : "export LD_LIBRARY_PATH=$(find \(prefix) -name '*.so*' -printf '%h:')\n")
    try host.must(
      environment
        + """
        cd \(directory)
        ovsdb-tool create conf.db \(prefix)/usr/share/openvswitch/vswitch.ovsschema
        ovsdb-server conf.db --remote=punix:db.sock --no-chdir --detach --pidfile -vsyslog:off \
          --log-file=ovsdb.log -vconsole:off
        ovs-vsctl --db=unix:db.sock --no-wait init
        ovs-vswitchd unix:db.sock --no-chdir --detach --pidfile -vsyslog:off -vconsole:off \
          --log-file=vswitchd.log
        """)
    // The underlay's address moves to the bridge, whose own address is the device's.
    try control(
      "add-br br-phy -- set bridge br-phy datapath_type=netdev other_config:hwaddr=$(cat /sys/class/net/eth0/address)"
        + " -- add-port br-phy eth0 -- add-br br0 -- set bridge br0 datapath_type=netdev")
    try host.must(
      "ip addr del \(address)/24 dev eth0 && ip addr add \(address)/24 dev br-phy && ip link set br-phy up"
    )
  }

  /// Runs a line of ovs-vsctl.
  func control(_ line: String) throws {
    try host.must(environment + "ovs-vsctl --db=unix:\(directory)/db.sock --timeout=10 \(line)")
  }

  /// What ovs-vsctl says to a line, without waiting for the switch.
  func answer(_ line: String) throws -> Output {
    try host.run(
      environment + "ovs-vsctl --db=unix:\(directory)/db.sock --timeout=10 --no-wait \(line)")
  }

  /// Its last words, for when something fails.
  var log: String {
    (try? host.must("tail -n 20 \(directory)/vswitchd.log")) ?? "no log"
  }
}

extension SystemTests {
  /// ovx on one side, Open vSwitch on the other, both with what its users type.
  @Suite struct OpenVSwitchTests {
    /// Two hosts whose cable carries what a real one would.
    ///
    /// Open vSwitch takes the half-made checksums that one end of a veth hands to the other for
    /// wrong ones.
    private static func hosts(_ lab: Lab) throws -> (Namespace, Namespace) {
      // What Open vSwitch warns of, in its own words, is its own business.
      lab.expectLog("|WARN|")
      let (host1, host2) = try lab.twoHosts()
      try host1.must("ethtool -K eth0 tx off")
      return (host1, host2)
    }

    @Test(arguments: [nil, 100] as [Int?], Attachment.allCases)
    func conversation(_ tag: Int?, _ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try Self.hosts(lab)
        try lab.overlay(on: host1, remotes: [2], tag: tag)
        let red1 = try lab.container(
          "red1", on: host1, by: attachment, address: "172.17.42.11/24", tag: tag)
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        // Open vSwitch passes half a checksum on, which no TCP survives; ovx needs nothing of the
        // kind.
        try red2.must("ethtool -K eth0 tx off")
        let switch2 = try OpenVSwitch(on: host2, address: Family.ipv4.address(2))
        let tagging = tag.map { "tag=\($0)" } ?? ""
        try switch2.control(
          "add-port br0 vxlan0 \(tagging) -- set interface vxlan0 type=vxlan options:key=100"
            + " options:remote_ip=\(Family.ipv4.address(1)) -- add-port br0 red2 \(tagging)")
        for size in [56, 1600, 3200] {
          try red1.expectPing("172.17.42.12", size: size, attempts: 4)
          try red2.expectPing("172.17.42.11", size: size, attempts: 4)
        }
        for bytes in [60_000, 5_000_000] {
          try red1.expectTransfer(bytes, to: red2, at: "172.17.42.12")
          try red2.expectTransfer(bytes, to: red1, at: "172.17.42.11")
        }
      }
    }

    /// The tunnel is a trunk on both sides, and the tag travels inside.
    @Test func tagsInside() throws {
      try Lab.run { lab in
        let (host1, host2) = try Self.hosts(lab)
        try lab.overlay(on: host1, remotes: [2])
        let switch2 = try OpenVSwitch(on: host2, address: Family.ipv4.address(2))
        try switch2.control(
          "add-port br0 vxlan0 -- set interface vxlan0 type=vxlan options:key=100"
            + " options:remote_ip=\(Family.ipv4.address(1))")
        for tag in [10, 20] {
          let near = try lab.container(
            "v\(tag)-1", on: host1, by: .tap, address: "172.17.42.11/24", tag: tag)
          let far = try lab.vethContainer(
            "v\(tag)-2", on: host2, address: "172.17.42.12/24", mtu: 1446)
          try far.must("ethtool -K eth0 tx off; ip addr add 172.17.42.\(tag)/24 dev eth0")
          try switch2.control("add-port br0 v\(tag)-2 tag=\(tag)")
          for size in [56, 1600, 3200] {
            try near.expectPing("172.17.42.12", size: size, attempts: 4)
          }
          try near.expectPing("172.17.42.\(tag)", attempts: 4)
          if tag == 20 { try near.expectNoPing("172.17.42.10") }
          try near.expectTransfer(1_000_000, to: far, at: "172.17.42.12")
          try far.expectTransfer(1_000_000, to: near, at: "172.17.42.11")
        }
      }
    }

    /// The options of either end mean the same to the other one.
    @Test func options() throws {
      try Lab.run { lab in
        let (host1, host2) = try Self.hosts(lab)
        try lab.overlay(on: host1, remotes: [2])
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try red2.must("ethtool -K eth0 tx off")
        let switch2 = try OpenVSwitch(on: host2, address: Family.ipv4.address(2))
        try switch2.control(
          "add-port br0 vxlan0 -- set interface vxlan0 type=vxlan options:key=100"
            + " options:remote_ip=\(Family.ipv4.address(1)) -- add-port br0 red2")
        for (ours, theirs) in [
          ("options:csum=false", "options:csum=true"), ("options:csum=true", "options:csum=false"),
          ("options:tos=inherit options:ttl=inherit", "options:tos=inherit options:ttl=inherit"),
          ("options:in_key=7 options:out_key=8", "options:in_key=8 options:out_key=7"),
          ("options:dst_port=4790", "options:dst_port=4790"),
        ] {
          try host1.ctl("set Interface vxlan0 \(ours)")
          try switch2.control("set interface vxlan0 \(theirs)")
          try red1.expectPing("172.17.42.12", size: 1600, attempts: 4)
          try red1.expectTransfer(1_000_000, to: red2, at: "172.17.42.12")
          try red2.expectTransfer(1_000_000, to: red1, at: "172.17.42.11")
        }
      }
    }
  }
}
