import Foundation
import Testing

/// What hangs on a port's device that the daemon did not make.
enum ForeignDevice: String, CaseIterable, CustomTestStringConvertible {
  /// One end of a veth pair, whose other end is in a container.
  case veth
  /// A TAP that another process has open, as that of a virtual machine.
  case vm
  var testDescription: String { rawValue }
}

extension Lab {
  /// Makes a device of the host, and a namespace behind it whose eth0 has addresses; it is not a
  /// port yet.
  func stranger(
    _ name: String, on host: Namespace, by device: ForeignDevice, addresses: [String]
  ) throws -> Namespace {
    let guest: Namespace
    switch device {
    case .veth:
      guest = try vethContainer(name, on: host, address: addresses[0])
    case .vm:
      guest = try namespace(name)
      // It ends with its namespace.
      try host.must("python3 $TRAFFIC/vm.py \(name) \(guest.name) >/dev/null 2>&1 &")
      try eventually("the virtual machine \(name) runs") {
        try guest.run("ip link show eth0").succeeded
      }
      try host.must("ip link set \(name) mtu 1450 up")
      try guest.must("ip link set eth0 mtu 1450 up; ip addr add \(addresses[0]) dev eth0")
    }
    for address in addresses.dropFirst() {
      try guest.must(
        "ip addr add \(address) dev eth0\(address.contains(":") ? " nodad" : "")")
    }
    return guest
  }
}

extension Namespace {
  /// The Ethernet address of a device.
  func mac(_ device: String) throws -> String {
    try must("cat /sys/class/net/\(device)/address").trimmingCharacters(
      in: .whitespacesAndNewlines)
  }

  /// Sends all that does not stay on eth0 to an Ethernet address, whoever has it.
  fileprivate func routeEverything(to mac: String) throws {
    try must(
      """
      ip route replace default via 10.66.0.1 dev eth0 onlink
      ip neigh replace 10.66.0.1 lladdr \(mac) dev eth0 nud permanent
      ip -6 route replace default via fd66::1 dev eth0
      ip -6 neigh replace fd66::1 lladdr \(mac) dev eth0 nud permanent
      """)
  }

  /// Drops of a reason that `ovx-ctl drops` tells, at all ports together.
  fileprivate func drops(_ reason: String) throws -> Int {
    try ctl("drops").split(separator: "\n").filter { $0.contains(reason) }
      .compactMap { $0.firstMatch(of: /\b(\d+)\b/).flatMap { Int($0.1) } }.reduce(0, +)
  }

  /// What `hear.py` in a namespace hears meanwhile.
  fileprivate func whileListening(_ body: () throws -> Void) throws -> String {
    let listener = try start("exec python3 $TRAFFIC/hear.py")
    try eventually("\(name) listens") { listener.standardError.contains("ready") }
    try body()
    usleep(200_000)
    listener.signal(SIGTERM)
    return try listener.finish(seconds: 5).standardOutput
  }
}

extension SystemTests {
  /// A device that is a port's is the switch's alone: the host's network stack hears nothing of it
  /// and says nothing by it.
  @Suite struct HostStackTests {
    /// Of the host, in another tenant's VLAN, on its underlay, and of another tenant's container.
    private static let targets = [
      "172.17.42.1", "fd17::1", "192.168.5.2", "fd05::2", "172.17.42.11", "fd17::11",
    ]

    /// Two tenants on a host that forwards: a container in VLAN 100, where the host has addresses,
    /// and a stranger to be put into VLAN 200.
    private func scene(
      _ lab: Lab, _ device: ForeignDevice
    ) throws -> (host: Namespace, far: Namespace, victim: Namespace, stranger: Namespace) {
      let (host, far) = try lab.twoHosts()
      // Link-local addresses that can be used at once.
      try host.must("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
      try lab.daemon(on: host)
      try host.ctl(
        "add-br br0 -- set port br0 tag=100 "
          + "-- add-port br0 vxlan0 key=100 remote=192.168.5.3 tag=100 "
          + "-- add-port br0 vxlan6 key=101 remote=fd05::3 tag=101 "
          + "-- add-port br0 vxlan1 key=200 remote=192.168.5.3 tag=200")
      try host.must(
        """
        ip addr add 172.17.42.1/24 dev br0; ip addr add fd17::1/64 dev br0 nodad; ip link set br0 up
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        """)
      let victim = try lab.namespace("victim")
      try host.ctl(
        "attach br0 \(victim.name) eth0 ip=172.17.42.11/24 ip=fd17::11/64 tag=100")
      let stranger = try lab.stranger(
        "s0", on: host, by: device, addresses: ["10.66.0.2/24", "fd66::2/64"])
      // So that the host could answer, and reverse path filters are content.
      try host.must("ip route add 10.66.0.0/24 dev s0; ip -6 route add fd66::/64 dev s0")
      try victim.must(
        "ip route add default via 172.17.42.1; ip -6 route add default via fd17::1")
      try stranger.routeEverything(to: try host.mac("s0"))
      return (host, far, victim, stranger)
    }

    /// What the host and the victim hear of a stranger who tries all their addresses.
    private func heard(
      _ host: Namespace, _ victim: Namespace, _ stranger: Namespace
    ) throws -> Set<String> {
      var atVictim = ""
      let atHost = try host.whileListening {
        atVictim = try victim.whileListening {
          try stranger.must("python3 $TRAFFIC/knock.py \(Self.targets.joined(separator: " "))")
        }
      }
      return Set((atHost + atVictim).split(separator: "\n").map(String.init))
    }

    @Test(arguments: ForeignDevice.allCases)
    func theHostHearsNothingOfAPort(_ device: ForeignDevice) throws {
      try Lab.run { lab in
        let (host, _, victim, stranger) = try scene(lab, device)
        let everything = Set(Self.targets.flatMap { ["udp \($0)", "tcp \($0)"] })
        try eventually("the host hears its own interface") {
          try heard(host, victim, stranger) == everything
        }
        try host.ctl("add-port br0 s0 tag=200")
        for filter in 0...2 {
          try host.must(
            "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo \(filter) > $f; done")
          #expect(try heard(host, victim, stranger) == [], "rp_filter \(filter)")
        }
        try stranger.expectNoPing("172.17.42.1")
        try stranger.expectNoPing("fd05::2")
        // Nor does the host talk to it past the switch.
        let before = try stranger.must("cat /sys/class/net/eth0/statistics/rx_packets")
        _ = try host.run(
          "ping -c 1 -W 1 10.66.0.2; ping -c 1 -W 1 fd66::2; ping -c 1 -W 1 ff02::1%s0")
        #expect(try stranger.must("cat /sys/class/net/eth0/statistics/rx_packets") == before)
        try host.ctl("del-port s0")
        try eventually("the host hears it as before") {
          try heard(host, victim, stranger) == everything
        }
      }
    }

    @Test(arguments: ForeignDevice.allCases)
    func aPortStaysClosedWithoutADaemon(_ device: ForeignDevice) throws {
      try Lab.run { lab in
        let (host, _, victim, stranger) = try scene(lab, device)
        // Somebody else's filter, which leaves all as it is.
        try host.must(
          "tc qdisc add dev s0 clsact; "
            + "tc filter add dev s0 ingress pref 7 protocol all bpf da bytecode '1,6 0 0 4294967295'"
        )
        let others = try host.must("tc filter show dev s0 ingress")
        try host.ctl("add-port br0 s0 tag=200")
        #expect(try heard(host, victim, stranger) == [])
        try lab.daemons[0].stop(SIGKILL)
        #expect(try heard(host, victim, stranger) == [], "after a crash")
        try lab.daemon(on: host)
        try lab.daemons[1].stop(SIGTERM)
        #expect(try heard(host, victim, stranger) == [], "after an orderly stop")
        // Its port is removed by a daemon that does not run here.
        let other = try lab.daemon(on: host)
        let again = try host.must("tc filter show dev s0 ingress")
        #expect(
          again.components(separatedBy: "handle").count == 3,
          "one filter beside the other's:\n\(again)")
        try host.ctl("exit --cleanup")
        other.mayBeDead = true
        _ = other.process.wait(seconds: 10)
        #expect(try host.must("tc filter show dev s0 ingress") == others)
        #expect(try host.must("tc filter show dev s0 egress") == "")
        try host.must("tc filter del dev s0 ingress pref 7")
        #expect(try !heard(host, victim, stranger).isEmpty, "given back")
      }
    }

    @Test func whatWasMadeForAPortGoesWithIt() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        _ = try lab.vethContainer("v1", on: host, address: "10.66.0.2/24")
        let state = "tc qdisc show dev v1; ip -d link show v1; sysctl -a 2>&1 | grep conf.v1"
        let before = try host.must(state)
        try host.ctl("add-br br0 -- add-port br0 v1")
        #expect(try host.must("tc qdisc show dev v1").contains("clsact"))
        try host.ctl("del-port v1")
        #expect(try host.must(state) == before)
        // A daemon with another configuration does not give it back.
        try host.ctl("add-port br0 v1")
        try daemon.stop(SIGKILL)
        let other = Namespace(name: host.name, rundir: host.rundir + "/other")
        try host.must("mkdir $OVX_RUNDIR/other")
        try lab.daemon(on: other).stop(SIGTERM)
        #expect(try host.must("tc qdisc show dev v1").contains("clsact"))
        // Nor one that runs elsewhere; but then the port is gone, and the next one here sees to the
        // device.
        let elsewhere = Namespace(name: try lab.namespace("elsewhere").name, rundir: host.rundir)
        lab.expectLog("port v1 waits")
        let distant = try lab.daemon(on: elsewhere)
        try elsewhere.ctl("del-port v1")
        try distant.stop(SIGTERM)
        #expect(try host.must("tc qdisc show dev v1").contains("clsact"))
        try lab.daemon(on: host)
        #expect(try !host.must("tc qdisc show dev v1").contains("clsact"))
      }
    }

    /// Whoever takes the filter away is told of, and does not get far.
    @Test func aFilterThatWasRemovedComesBack() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        lab.expectLog("port v1: somebody removed ovx's filter")
        lab.expectLog("port v1 waits")
        let daemon = try lab.daemon(on: host)
        _ = try lab.vethContainer("v1", on: host, address: "10.66.0.2/24")
        try host.ctl("add-br br0 -- add-port br0 v1")
        func isClosed() throws -> Bool {
          try ["ingress", "egress"].allSatisfy {
            try host.must("tc filter show dev v1 \($0)").contains("bytecode '4,")
          }
        }
        #expect(try isClosed())
        for (number, command) in [
          "tc qdisc del dev v1 clsact", "tc filter del dev v1 ingress",
          "tc filter del dev v1 egress",
        ].enumerated() {
          try host.must(command)
          try eventually("it is back after \(command)") { try isClosed() }
          try eventually("the log tells") {
            daemon.log.components(separatedBy: "somebody removed ovx's filter").count > number + 1
          }
        }
        // One that is made anew under the name gets it, too.
        try host.must(
          "ip link del v1; ip link add v1 type veth peer name w1; ip link set v1 up; ip link set w1 up"
        )
        try eventually("the new device is closed") { try isClosed() }
      }
    }

    /// What is added last comes first, so that a filter that was there lets nothing pass; and it is
    /// there afterwards.
    @Test func somebodyElsesFilterOfTheSamePriorityIsBehind() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        _ = try lab.vethContainer("v1", on: host, address: "10.66.0.2/24")
        try host.must(
          "tc qdisc add dev v1 clsact; "
            + "tc filter add dev v1 ingress pref 1 protocol all bpf da bytecode '1,6 0 0 0'")
        func filters() throws -> String {
          try host.must("tc filter show dev v1 ingress; tc filter show dev v1 egress")
        }
        let before = try filters()
        try host.ctl("add-br br0 -- add-port br0 v1")
        let programs = try host.must("tc filter show dev v1 ingress").split(separator: "\n")
          .filter { $0.contains("bytecode") }
        #expect(programs.count == 2)
        #expect(programs.last?.contains("'1,6 0 0 0'") == true, "\(programs)")
        // So it is when somebody adds another one later.
        lab.expectLog("port v1: somebody removed ovx's filter")
        try host.must(
          "tc filter add dev v1 ingress pref 1 protocol all bpf da bytecode '1,6 0 0 1'")
        try eventually("ours comes first again") {
          let programs = try host.must("tc filter show dev v1 ingress").split(separator: "\n")
            .filter { $0.contains("bytecode") }
          return programs.count == 3 && programs.first?.contains("bytecode '4,") == true
        }
        #expect(try !host.ctl("show").contains("error:"))
        try host.must("tc filter del dev v1 ingress pref 1 handle 3 bpf")
        try host.ctl("del-port v1")
        #expect(try filters() == before)
      }
    }

    @Test func aDeviceWithTheHostsAddressesIsRefused() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        lab.expectLog("does not work, as the device is the switch's")
        lab.expectLog("by which the host could not be reached")
        let daemon = try lab.daemon(on: host)
        _ = try lab.vethContainer("v1", on: host, address: "10.66.0.2/24")
        try host.ctl("add-br br0")
        for address in ["192.0.2.1/24", "2001:db8::1/64"] {
          try host.must("ip addr add \(address) dev v1")
          let refused = try host.ctl(["add-port", "br0", "v1"])
          #expect(refused.status == 1)
          #expect(
            refused.standardError.contains("add it with migrate=true"), "\(refused.standardError)")
          try host.must("ip addr flush dev v1 scope global")
        }
        try host.ctl("add-port br0 v1")
        #expect(try !host.ctl("show").contains("error:"))
        try host.must("ip addr add 192.0.2.1/24 dev v1")
        try eventually("show tells") { try host.ctl("show").contains("192.0.2.1/24") }
        #expect(try host.ctl("list-ports br0").contains("v1"))
        try host.must("ip addr flush dev v1 scope global")
        try eventually("show tells no more") { try !host.ctl("show").contains("error:") }
        // One that it got while no daemon ran and no port was closed is not taken from it.
        try host.must("ip addr add 192.0.2.1/24 dev v1")
        try daemon.stop(SIGTERM)
        try host.must("tc qdisc del dev v1 clsact")
        try lab.daemon(on: host)
        #expect(try host.ctl("show").contains("192.0.2.1/24"))
        #expect(try !host.must("tc qdisc show dev v1").contains("clsact"))
      }
    }

    /// The verdict is the same when it happens and after a restart, and neither cuts a container
    /// off.
    @Test func aDeviceThatBecomesPartOfABridgeOfTheKernelsStaysAPort() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        lab.expectLog("port v1: its device is part of kb, too")
        let daemon = try lab.daemon(on: host)
        let inside = try lab.vethContainer("v1", on: host, address: "10.66.0.2/24")
        try host.ctl("add-br br0 -- add-port br0 v1")
        try host.must(
          """
          ip addr add 10.66.0.1/24 dev br0
          ip link set br0 up
          ip link add kb type bridge
          ip link set kb up
          """)
        try host.must("ip link set v1 master kb")
        try eventually("show tells") { try host.ctl("show").contains("nomaster") }
        try inside.must("ping -c 1 -W 2 10.66.0.1")
        try daemon.stop(SIGTERM)
        try lab.daemon(on: host)
        #expect(try host.ctl("show").contains("nomaster"))
        try inside.must("ping -c 1 -W 2 10.66.0.1")
        try host.must("ip link set v1 nomaster")
        try eventually("show tells no more") { try !host.ctl("show").contains("error:") }
        // As a new port it is somebody else's.
        try host.ctl("del-port v1")
        try host.must("ip link set v1 master kb")
        #expect(try host.ctl(["add-port", "br0", "v1"]).status == 1)
      }
    }

    // MARK: Forged datagrams

    /// A broadcast that sniffers know.
    private var frame: String {
      "ffffffffffff02000000006688b5"
        + "OVXMARK:forged:0:".utf8.map { String($0, radix: 16) }.joined()
    }

    /// Who can write what comes in by the bridge's own device, or by a port, is not a remote VTEP.
    @Test(arguments: ForeignDevice.allCases)
    func forgedDatagramsReachNobody(_ device: ForeignDevice) throws {
      try Lab.run { lab in
        let (host, far, victim, stranger) = try scene(lab, device)
        let victim6 = try lab.namespace("victim6")
        try host.ctl("attach br0 \(victim6.name) eth0 ip=10.7.0.1/24 tag=101")
        /// Frames that the victims hear of datagrams by a device of some namespace.
        func heard(
          _ sender: Namespace, mac: String, remotes: (String, String) = ("192.168.5.3", "fd05::3")
        ) throws -> Int {
          let sniffers = try [victim, victim6].map { try Sniffer(in: $0) }
          try sender.must(
            """
            python3 $TRAFFIC/forge.py eth0 \(mac) vxlan 5 \(remotes.0) 192.168.5.2 100 \(frame)
            python3 $TRAFFIC/forge.py eth0 \(mac) vxlan 5 \(remotes.1) fd05::2 101 \(frame)
            """)
          usleep(300_000)
          return try sniffers.reduce(0) { try $0 + $1.stop().values.reduce(0, +) }
        }
        #expect(try heard(far, mac: try host.mac("eth0")) == 10, "the remote itself is heard")
        try host.ctl("add-port br0 s0 tag=200")
        for filter in [0, 2] {
          try host.must(
            "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo \(filter) > $f; done")
          #expect(try heard(stranger, mac: try host.mac("s0")) == 0, "by its port")
          #expect(try heard(stranger, mac: "ff:ff:ff:ff:ff:ff") == 0, "by its port")
          // In the host's VLAN it reaches the host by the bridge's own device, as any container of
          // it.
          try host.ctl("set port s0 tag=100")
          let before = try host.drops("wrong-device")
          #expect(try heard(stranger, mac: try host.mac("br0")) == 0, "by the bridge's device")
          #expect(try host.drops("wrong-device") == before + 10)
          try host.ctl("set port s0 tag=200")
        }
        #expect(try heard(far, mac: try host.mac("eth0")) == 10, "the remote itself is still heard")
      }
    }

    /// A route with several next hops leads by each of them.
    @Test func datagramsMayComeByEachNextHop() throws {
      try Lab.run { lab in
        let (host, far) = try lab.twoHosts()
        try host.must(
          """
          ip link add eth1 mtu 1500 type veth peer name eth1 mtu 1500 netns \(far.name)
          ip addr add 192.168.6.2/24 dev eth1; ip link set eth1 up
          """)
        try far.must(
          """
          ip addr add 192.168.6.3/24 dev eth1; ip link set eth1 up; ip addr add 10.99.0.2/32 dev lo
          for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done
          """)
        try host.must(
          """
          for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done
          ip route add 10.99.0.2 nexthop via 192.168.5.3 dev eth0 nexthop via 192.168.6.3 dev eth1
          """)
        try lab.daemon(on: host)
        let victim = try lab.namespace("victim")
        try host.ctl(
          "add-br br0 -- add-port br0 vxlan0 key=100 remote=10.99.0.2 tag=100 "
            + "-- attach br0 \(victim.name) eth0 ip=172.17.42.11/24 tag=100")
        func heard(by device: String) throws -> Int {
          let sniffer = try Sniffer(in: victim)
          try far.must(
            "python3 $TRAFFIC/forge.py \(device) \(try host.mac(device)) vxlan 5 10.99.0.2 192.168.5.2 100 \(frame)"
          )
          usleep(300_000)
          return try sniffer.stop().values.reduce(0, +)
        }
        #expect(try heard(by: "eth0") == 5)
        #expect(try heard(by: "eth1") == 5)
        // And a change of the route is followed.
        try host.must("ip route replace 10.99.0.2 via 192.168.6.3 dev eth1")
        try eventually("the route is followed") { try heard(by: "eth0") == 0 }
        #expect(try heard(by: "eth1") == 5)
        #expect(try host.drops("wrong-device") >= 5)
      }
    }

    // MARK: Router advertisements

    @Test(arguments: ForeignDevice.allCases)
    func theHostTakesNoRoutersFromTenants(_ device: ForeignDevice) throws {
      try Lab.run { lab in
        let (host, _, _, stranger) = try scene(lab, device)
        try host.must("sysctl -qw net.ipv6.conf.all.forwarding=0")
        func advertise(_ prefix: String) throws -> Bool {
          try stranger.must("python3 $TRAFFIC/forge.py eth0 33:33:00:00:00:01 router \(prefix)")
          usleep(300_000)
          let state = try host.must("ip -6 addr; ip -6 route")
          return state.contains(prefix.dropLast(2)) || state.contains("fe80::bad")
        }
        #expect(try advertise("fdaa::"), "as a host's own interface")
        try host.must(
          "ip -6 addr flush dev s0 scope global; ip -6 route flush proto ra; ip -6 route del fdaa::/64 || true"
        )
        try host.ctl("add-port br0 s0 tag=200")
        #expect(try !advertise("fdab::"), "by its port")
        try host.ctl("set port s0 tag=100")
        #expect(try !advertise("fdac::"), "by the bridge's device")
        // Unless the operator says so.
        try host.ctl("set interface br0 other_config:accept-ra=true")
        #expect(try advertise("fdad::"), "asked for")
      }
    }

    // MARK: Own addresses

    @Test(arguments: ForeignDevice.allCases)
    func aDevicesOwnAddressIsNotFlooded(_ device: ForeignDevice) throws {
      try Lab.run { lab in
        let (host, _, victim, stranger) = try scene(lab, device)
        try host.ctl("add-port br0 s0 tag=100")
        // The host answers for its address once, and with the bridge's own.
        let answers = try stranger.must(
          "python3 $TRAFFIC/forge.py eth0 ff:ff:ff:ff:ff:ff arp 1 172.17.42.66 172.17.42.1")
        #expect(answers == "\(try host.mac("br0"))\n")
        let sniffer = try Sniffer(in: victim)
        let before = try host.drops("own-address")
        try stranger.must("python3 $TRAFFIC/forge.py eth0 \(try host.mac("s0")) frame 5")
        // What is for the bridge's own device goes there alone, also when nothing was ever heard of
        // it.
        try host.ctl("fdb flush br0")
        try stranger.must("python3 $TRAFFIC/forge.py eth0 \(try host.mac("br0")) frame 5")
        #expect(try host.drops("own-address") == before + 5)
        #expect(try sniffer.stop() == [:])
        // A new address counts at once, and who has been heard with one has it.
        try host.must("ip link set s0 address 02:00:00:00:77:01")
        try eventually("the new address is known") {
          let before = try host.drops("own-address")
          try stranger.must("python3 $TRAFFIC/forge.py eth0 02:00:00:00:77:01 frame 1")
          return try host.drops("own-address") == before + 1
        }
        try host.ctl("fdb add br0 \(victimPort(host)) 100 02:00:00:00:77:01")
        let second = try Sniffer(in: victim)
        try stranger.must("python3 $TRAFFIC/forge.py eth0 02:00:00:00:77:01 frame 3")
        usleep(200_000)
        #expect(try second.stop().values.reduce(0, +) == 3)
      }
    }

    /// The port of the container that is attached.
    private func victimPort(_ host: Namespace) throws -> String {
      let ports = try host.ctl("list-ports br0").split(separator: "\n").map(String.init)
      return try #require(ports.first { !$0.hasPrefix("vxlan") && $0 != "s0" && $0 != "br0" })
    }
  }
}
