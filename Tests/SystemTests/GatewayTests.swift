import Foundation
import Glibc
import Testing

extension SystemTests {
  /// Gateways of tenants' networks: the way out, and no way to anybody else.
  @Suite struct GatewayTests {
    /// Two hosts with switches and gateways' makers, a cable between them, and an outside that both
    /// reach by `wan`.
    final class Site {
      let hosts: [Namespace]
      let outside: Namespace
      private let lab: Lab
      private let isConfined: Bool
      private var makers: [Command?] = [nil, nil]
      /// What gives routers' namespaces their names, where the makers may not.
      private var names: [Command] = []

      init(
        _ lab: Lab, networks: [(name: String, vni: Int)], settings: String, isConfined: Bool = false
      ) throws {
        self.lab = lab
        self.isConfined = isConfined
        let (host1, host2) = try lab.twoHosts()
        hosts = [host1, host2]
        outside = try lab.namespace("outside")
        if isConfined { for index in 0...1 { try startNames(index) } }
        try outside.must("ip link add name lan type bridge && ip link set lan up")
        try outside.must(
          "ip addr add 203.0.113.254/24 dev lan && ip addr add 198.51.100.1/32 dev lo")
        for (index, host) in hosts.enumerated() {
          try host.must(
            """
            ip link add wan type veth peer name host\(index) netns \(outside.name)
            ip addr add 203.0.113.\(index + 1)/24 dev wan && ip link set wan up
            """)
          try outside.must("ip link set host\(index) master lan up")
          try host.must("ip route add default via 203.0.113.254")
          try lab.daemon(on: host)
          try host.ctl(
            "set switch . local_ip=\(Family.ipv4.address(index + 1)) remotes=\(Family.ipv4.address(1)),\(Family.ipv4.address(2))"
          )
          for (name, vni) in networks {
            _ = try lab.announcedNamespace("r\(index)-\(name)")
            try host.ctl(
              "add-net \(name) vni=\(vni) subnet=172.17.42.0/24 range=172.17.42.\(index + 1)0-172.17.42.\(index + 1)9 gateway=172.17.42.1 \(settings)"
            )
          }
          try start(index)
        }
      }

      /// What the names of a host's routers begin with; all hosts here share the names of
      /// namespaces.
      func prefix(_ index: Int) -> String { "\(Lab.prefix)r\(index)-" }

      private func socket(_ index: Int) -> String { "\(hosts[index].rundir)/names.socket" }

      /// Starts what gives names, with the rights of its unit; systemd starts it for each
      /// connection.
      private func startNames(_ index: Int) throws {
        names.append(
          try Command([
            "unshare", "--net", "systemd-socket-activate", "--accept", "--seqpacket", "-l",
            socket(index), "--", "/usr/bin/python3", "\(Lab.traffic)/confined.py",
            Lab.packageRoot.appendingPathComponent("deploy/ovx-names@.service").path,
            "\(Lab.binaries)/ovx-broker", "names", prefix(index),
          ]))
        let socket = socket(index)
        try eventually("names can be asked for") { FileManager.default.fileExists(atPath: socket) }
      }

      /// Ends all that was started.
      func end() {
        for index in 0...1 { stop(index, SIGTERM) }
        for process in names {
          process.signal(SIGTERM)
          _ = process.wait(seconds: 5)
        }
      }

      /// Starts a host's maker of gateways.
      ///
      /// `ip netns exec` would keep the names that it makes to itself.
      ///
      /// - Parameters:
      ///   - index: The host.
      ///   - programs: Programs that it does not find, as if they were not installed.
      /// - Throws: That it could not be started.
      func start(_ index: Int, without programs: [String] = []) throws {
        // The names of namespaces stay common to all.
        let hiding =
          programs.isEmpty
          ? []
          : [
            "unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
            programs.map {
              "mount --make-private \"$(findmnt -n -o TARGET -T /usr/sbin/\($0))\" && "
                + "mount --bind /dev/null /usr/sbin/\($0) && "
            }.joined() + "exec \"$@\"", "sh",
          ]
        let rights = [
          "env", "OVX_NAMES=\(socket(index))", "/usr/bin/python3", "\(Lab.traffic)/confined.py",
          Lab.packageRoot.appendingPathComponent("deploy/ovx-gatewayd.service").path,
        ]
        makers[index] = try Command(
          ["nsenter", "--net=/run/netns/\(hosts[index].name)"] + hiding
            + (isConfined ? rights : []) + [
              "\(Lab.binaries)/ovx-gatewayd",
              "--rundir", hosts[index].rundir, "--namespace-prefix", prefix(index),
              "--resolv-conf", "\(hosts[index].rundir)/resolv.conf",
            ])
      }

      /// Lets it find a program that it was started without.
      func install(_ program: String, on index: Int) throws {
        let pid = try #require(makers[index]?.pid)
        let output = try Command(
          ["nsenter", "--mount", "--target", "\(pid)", "umount", "/usr/sbin/\(program)"]
        ).finish(seconds: 5)
        #expect(output.succeeded, "\(output.standardError)")
      }

      func stop(_ index: Int, _ signal: Int32) {
        makers[index]?.signal(signal)
        _ = makers[index]?.wait(seconds: 5)
        makers[index] = nil
      }

      func log(_ index: Int) -> String { makers[index]?.standardError ?? "" }

      func attach(_ name: String, to network: String, on index: Int) throws -> Namespace {
        let container = try lab.namespace(name)
        try hosts[index].ctl("attach \(network) \(container.name) eth0")
        return container
      }
    }

    func run(
      settings: String = "nat=masquerade", isConfined: Bool = false,
      _ body: (Lab, Site) throws -> Void
    ) throws {
      try Lab.run { lab in
        let site = try Site(
          lab, networks: [("red", 100), ("blue", 200)], settings: settings, isConfined: isConfined)
        defer { site.end() }
        do { try body(lab, site) } catch {
          print(site.log(0), site.log(1))
          throw error
        }
      }
    }

    func expectWayOut(_ container: Namespace, _ address: String = "198.51.100.1") throws {
      try eventually("\(container.name) gets outside") {
        try container.run("ping -c 1 -W 1 \(address)").succeeded
      }
    }

    @Test func tenantsWithTheSameAddressesGetOutside() throws {
      try run { lab, site in
        let red = try site.attach("red", to: "red", on: 0)
        let blue = try site.attach("blue", to: "blue", on: 0)
        let far = try site.attach("far", to: "red", on: 1)
        for container in [red, blue, far] {
          try expectWayOut(container)
          try container.expectPing("172.17.42.1")
        }
        try red.expectPing("172.17.42.20")
        try red.expectTransfer(2_000_000, to: site.outside, at: "198.51.100.1")
        let shown = try site.hosts[0].ctl("net show red")
        #expect(shown.contains("gateway: 172.17.42.1 (distributed, nat masquerade, port gw100)"))
        // What comes from outside in superframes is passed on in superframes.
        let device = try site.hosts[0].must("ip -d -n \(site.prefix(0))red link show tenant")
        #expect(device.contains("gso_max_size 65536"), "\(device)")
        #expect(try site.hosts[0].must("cat /proc/sys/net/ipv4/ip_forward") == "0\n")
      }
    }

    /// With the fast path the router has a veth, to and from which the kernel forwards; without, it
    /// has a TAP.
    @Test func theKernelForwardsToTheRouter() throws {
      try run { lab, site in
        let host = site.hosts[0]
        let red = try lab.namespace("red")
        try host.ctl("attach red \(red.name) eth0 kind=veth")
        try expectWayOut(red)
        for (setting, type) in [
          ("set switch . other_config:fast-path=on", "veth"),
          ("remove switch . other_config fast-path", "tap"),
          ("set switch . other_config:fast-path=auto", "veth"),
        ] {
          try host.ctl(setting)
          #expect(try host.ctl("get interface gw100 type") == "\(type)\n")
          try expectWayOut(red)
          try red.expectTransfer(20_000_000, to: site.outside, at: "198.51.100.1")
          let shown = try host.ctl("show")
          #expect(shown.contains("fast_path: \"in use\"") == (type == "veth"), "\(shown)")
          #expect(try host.run("ip netns exec \(site.prefix(0))red ip link show tenant").succeeded)
        }
      }
    }

    @Test func tenantsReachNobodyElse() throws {
      try run { lab, site in
        let red = try site.attach("red", to: "red", on: 0)
        let blue = try site.attach("blue", to: "blue", on: 0)
        for container in [red, blue] { try expectWayOut(container) }
        let host = site.hosts[0]
        // What the host has beside its uplink: another network of its own, and its services.
        let own = try lab.vethContainer("own", on: host, address: "10.99.0.2/24")
        try host.must("ip addr add 10.99.0.1/24 dev own")
        try own.must("ip route add default via 10.99.0.1")
        let services = try [host, own].map {
          try $0.start("exec socat TCP-LISTEN:8080,fork,reuseaddr EXEC:'echo hello'")
        }
        defer { for service in services { service.signal(SIGTERM) } }
        func answers(_ address: String, from container: Namespace) throws -> Bool {
          try container.run("timeout 2 socat -u TCP:\(address):8080,connect-timeout=1 -")
            .standardOutput.contains("hello")
        }
        try eventually("the services listen") {
          try answers("127.0.0.1", from: host) && answers("10.99.0.2", from: host)
        }
        #expect(try answers("203.0.113.1", from: site.outside), "it is open to others")
        let transit = try host.must("ip -o -4 addr show dev ovx-gw200").split(separator: " ")
          .first { $0.contains("/31") }
        let blueTransit = String(try #require(transit).prefix { $0 != "/" })
        let blueRouter = blueTransit.replacing(/\d+$/) { "\((Int($0.output) ?? 0) + 1)" }
        let addresses = [
          Family.ipv4.address(1), "203.0.113.1", "10.99.0.1", "10.99.0.2", Family.ipv4.address(2),
          blueTransit, blueRouter, "100.64.0.0", "100.64.0.1", "100.64.0.2", "100.64.0.3",
        ]
        for address in addresses {
          #expect(try !answers(address, from: red), "\(address) has answered")
          try red.expectNoPing(address)
        }
        // Blue has the same address as red, and one that red has not: by no route does red get
        // there.
        try blue.must("ip addr add 172.17.99.9/24 dev eth0")
        let service = try blue.start("exec socat TCP-LISTEN:8080,fork,reuseaddr EXEC:'echo hello'")
        defer { service.signal(SIGTERM) }
        try red.must("ip route add 172.17.99.0/24 via 172.17.42.1")
        #expect(try !answers("172.17.99.9", from: red))
        // Nor does the host pass on for others, outside of which it is no router.
        try site.outside.must(
          "ip route add 10.99.0.0/24 via 203.0.113.1 && ip route add 100.64.0.0/10 via 203.0.113.1")
        for address in ["10.99.0.2", blueRouter] { try site.outside.expectNoPing(address) }
        // Sources that are not the tenant's own go nowhere.
        try red.must("ip addr add 9.9.9.9/32 dev lo")
        #expect(try !red.run("ping -c 2 -W 1 -I 9.9.9.9 198.51.100.1").succeeded)
        // Nor can red write VXLAN in the host's name, where the underlay is a way out.
        try host.ctl("set switch . other_config:gateway-uplinks=\"eth0,wan\"")
        try expectWayOut(red, Family.ipv4.address(2))
        func refused() throws -> Int {
          let text = try host.ctl("-f json tunnel show")
          return Int(try #require(text.firstMatch(of: /"refused" ?: ?(\d+)/)).output.1) ?? -1
        }
        #expect(try refused() == 0)
        try red.must("echo x | socat -u - UDP:\(Family.ipv4.address(2)):4789")
        try eventually("it is refused") { try refused() > 0 }
        for container in [red, blue] { try expectWayOut(container) }
      }
    }

    @Test func aDistributedGatewayIsEachHostsOwn() throws {
      try run { lab, site in
        let near = try site.attach("near", to: "red", on: 0)
        let far = try site.attach("far", to: "red", on: 1)
        let sniffer = try site.hosts[0].start(
          "exec tcpdump -lnnei eth0 udp port 4789 and 'ether[50:4] = 0x026f7600 or ether[56:4] = 0x026f7600'"
        )
        defer { sniffer.signal(SIGTERM) }
        for container in [near, far] {
          try expectWayOut(container)
          try container.must("ip neigh flush dev eth0")
          try container.expectPing("172.17.42.1")
          #expect(try container.must("ip neigh show 172.17.42.1").contains("02:6f:76:00:00:64"))
        }
        try near.expectPing("172.17.42.20")
        #expect(!sniffer.standardOutput.contains("02:6f:76"), "\(sniffer.standardOutput)")
        // Who has taken the gateway's address is not heard, and does not take it from anybody.
        let thief = try site.attach("thief", to: "red", on: 0)
        try thief.must("ip link set eth0 address 02:6f:76:00:00:64")
        _ = try thief.run("arping -c 3 -w 2 -U -I eth0 172.17.42.1 || ping -c 2 -W 1 172.17.42.10")
        #expect(try site.hosts[0].ctl("drops").contains("gateway-address"))
        for container in [near, far] { try expectWayOut(container) }
      }
    }

    @Test func aCentralGatewayServesBothHosts() throws {
      try run(settings: "gateway_mode=remote") { lab, site in
        for network in ["red", "blue"] {
          try site.hosts[0].ctl("set network \(network) gateway_mode=central nat=masquerade")
        }
        let far = try site.attach("far", to: "red", on: 1)
        try expectWayOut(far)
        #expect(try !site.hosts[1].ctl("list-ports br0").contains("gw100"))
        try site.hosts[0].ctl("set network red gateway_mode=distributed")
        try eventually("the gateway is host 1's alone") {
          try !far.run("ping -c 1 -W 1 172.17.42.1").succeeded
        }
      }
    }

    @Test func gatewaysOutliveWhatIsKilled() throws {
      try run { lab, site in
        let red = try site.attach("red", to: "red", on: 0)
        try expectWayOut(red)
        // Without its maker a gateway works on, and a new one finds it as it is.
        let ping = try red.start("exec ping -i 0.05 -c 60 -W 1 -q 198.51.100.1")
        usleep(500_000)
        site.stop(0, SIGKILL)
        usleep(500_000)
        try site.start(0)
        let output = try ping.finish(seconds: 15)
        #expect(output.standardOutput.contains(" 0% packet loss"), "\(output)")
        // What has changed meanwhile is made, and what has gone is made again.
        site.stop(0, SIGTERM)
        try site.hosts[0].ctl("set network red gateway=172.17.42.9")
        try red.must("ip route replace default via 172.17.42.9")
        try site.start(0)
        try expectWayOut(red)
        _ = try #require(lab.daemons.first).stop(SIGKILL)
        try lab.daemon(on: site.hosts[0])
        try expectWayOut(red)
        // The filter goes at any moment, also while it is being made.
        for step in 0..<6 {
          try site.hosts[0].ctl(
            "set switch . other_config:gateway-uplinks=\(step.isMultiple(of: 2) ? "wan,lo" : "wan")"
          )
          usleep(UInt32(step) * 20_000)
          try site.hosts[0].must("nft flush ruleset")
          try expectWayOut(red)
        }
        // The namespace of its port is gone for a moment.
        lab.expectLog("port gw100 waits")
        for damage in [
          "ip netns del \(site.prefix(0))red", "nft flush ruleset", "ip link del ovx-gw100",
          "ip netns exec \(site.prefix(0))red nft flush ruleset",
          "ip -n \(site.prefix(0))red addr flush dev tenant",
          "ip -n \(site.prefix(0))red link set tenant down",
          "ip -n \(site.prefix(0))red route flush table main",
        ] {
          _ = try Command(
            ["nsenter", "--net=/run/netns/\(site.hosts[0].name)"]
              + damage.split(separator: " ").map(String.init)
          ).finish(seconds: 5)
          do { try expectWayOut(red) } catch { throw LabError("after \(damage): \(error)") }
        }
      }
    }

    /// What dnsmasq and nft do with root's rights must not be the switch's user's to write.
    @Test func itsFilesAreInNobodyElsesDirectory() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.must("chown nobody $OVX_RUNDIR && mkdir -m 755 $OVX_RUNDIR.own")
        let refused = try host.start("exec ovx-gatewayd")
        try eventually("it says whose the directory is") {
          refused.standardError.contains("belongs to user 65534")
            && refused.standardError.contains("name a directory of root's with --directory")
        }
        refused.signal(SIGKILL)
        _ = refused.wait(seconds: 5)
        let content = try host.start("exec ovx-gatewayd --directory $OVX_RUNDIR.own")
        try eventually("it has its lock there") {
          try host.run("test -e $OVX_RUNDIR.own/gatewayd.lock").succeeded
        }
        usleep(500_000)
        #expect(content.isRunning && !content.standardError.contains("belongs to"))
        content.signal(SIGTERM)
        _ = content.wait(seconds: 5)
        try host.must("chown root $OVX_RUNDIR")
      }
    }

    /// The host's table of connections is everybody's: one who opens more and more has a share.
    @Test func noNetworkTakesAllConnections() throws {
      try run { lab, site in
        let red = try site.attach("red", to: "red", on: 0)
        try expectWayOut(red)
        try red.must(
          """
          python3 -c '
          import socket, time
          s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
          for port in range(6000):
            s.sendto(b"x", ("203.0.113.9", 10000 + port))
            if port % 20 == 0: time.sleep(0.005)'
          """)
        let count = try Int(
          site.hosts[0].must("cat /proc/sys/net/netfilter/nf_conntrack_count").dropLast())
        #expect(try (3500...4200).contains(#require(count)), "\(count ?? -1)")
      }
    }

    @Test func nothingIsLeftOfAGateway() throws {
      try run { lab, site in
        let host = site.hosts[0]
        let red = try site.attach("red", to: "red", on: 0)
        try expectWayOut(red)
        #expect(try host.must("cat /proc/sys/net/ipv4/conf/wan/forwarding") == "1\n")
        try host.ctl("detach \(red.name) eth0")
        try host.ctl("del-net red")
        try eventually("the network's router is gone") {
          try !host.must("ip netns list; ip link; nft list ruleset").contains(
            /r0-red|ovx-gw100/)
        }
        try host.ctl("set network blue nat=none -- clear network blue gateway")
        try eventually("all is as it was") {
          try !host.must("ip netns list; ip link; ip route; nft list tables").contains(
            /r0-|ovx-gw|100\.64|inet ovx$/)
            && host.must("cat /proc/sys/net/ipv4/conf/wan/forwarding") == "0\n"
        }
        // The file of the last transaction goes when nft has ended.
        try eventually("no file is left") {
          try !host.must("ls \(host.rundir)").contains("gatewayd.nft")
        }
        // A second maker would take the first one's work for damage.
        for flags in ["", " --cleanup"] {
          let second = try host.run("ovx-gatewayd --rundir \(host.rundir)\(flags)", seconds: 10)
          #expect(second.status == 1 && second.standardError.contains("another ovx-gatewayd"))
        }
      }
    }

    /// A package that is removed leaves no routers behind: nobody would know of them any more.
    @Test func allIsRemovedAtOnceWithoutTheSwitch() throws {
      try run(settings: "nat=masquerade dhcp=true") { lab, site in
        lab.expectLog("waits: cannot find network namespace")
        let host = site.hosts[0]
        let red = try site.attach("red", to: "red", on: 0)
        try expectWayOut(red)
        // The brackets keep it from finding itself.
        let search = "pgrep -f '[c]onf-file=\(host.rundir)/dnsmasq-red/conf'"
        try eventually("it serves") { try host.run(search).succeeded }
        site.stop(0, SIGTERM)
        let isOfGateways = /r0-|ovx-gw|inet ovx$/
        #expect(try host.must("ip netns list; ip link; nft list tables").contains(isOfGateways))
        let nowhere = try host.run("ovx-gatewayd --cleanup --directory /nowhere", seconds: 10)
        #expect(nowhere.status == 1 && nowhere.standardError.contains("/nowhere"))
        let prefix = site.prefix(0)
        let cleanup = try host.run(
          "ovx-gatewayd --cleanup --rundir \(host.rundir) --namespace-prefix \(prefix)", seconds: 20
        )
        #expect(cleanup.succeeded, "\(cleanup.standardError)")
        #expect(try !host.must("ip netns list; ip link; nft list tables").contains(isOfGateways))
        #expect(try host.must("cat /proc/sys/net/ipv4/conf/wan/forwarding") == "0\n")
        #expect(try !host.run(search).succeeded)
        #expect(try !host.must("ls \(host.rundir)").contains("dnsmasq-"))
        // The second time there is nothing to be done.
        try host.must(
          "ovx-gatewayd --cleanup --rundir \(host.rundir) --namespace-prefix \(prefix)")
        try site.start(0)
        try expectWayOut(red)
      }
    }

    @Test func withoutTranslationTheSubnetIsRouted() throws {
      try run { lab, site in
        let red = try site.attach("red", to: "red", on: 0)
        try site.outside.must("ip route add 172.17.42.0/24 via 203.0.113.1")
        try site.hosts[0].ctl("set network red nat=none")
        // Both networks have the same subnet, of which one can be routed.
        let refusal = try site.hosts[0].run("ovx-ctl set network blue nat=none")
        #expect(refusal.standardError.contains("network red has one to 172.17.42.0/24; nat=masq"))
        #expect(!refusal.succeeded)
        try expectWayOut(red)
        try site.outside.expectPing("172.17.42.10")
      }
    }

    @Test func aFloatingAddressIsOneMembersBothWays() throws {
      try run { lab, site in
        let red = try site.attach("red", to: "red", on: 0)
        let blue = try site.attach("blue", to: "blue", on: 0)
        try expectWayOut(red)
        // The host answers for one address; the other is led to it by a route.
        try site.hosts[0].ctl("set network red floating:203.0.113.50=172.17.42.10")
        try site.hosts[0].ctl("set network blue floating:198.51.100.77=172.17.42.10")
        try site.outside.must("ip route add 198.51.100.77/32 via 203.0.113.1")
        for (container, address) in [(red, "203.0.113.50"), (blue, "198.51.100.77")] {
          try expectWayOut(site.outside, address)
          let service = try container.start(
            "exec socat TCP-LISTEN:8080,fork,reuseaddr EXEC:'echo \(address)'")
          defer { service.signal(SIGTERM) }
          try eventually("\(address) is \(container.name)'s") {
            try site.outside.run("timeout 2 socat -u TCP:\(address):8080,connect-timeout=1 -")
              .standardOutput.contains(address)
          }
          let sniffer = try site.outside.start(
            "exec tcpdump -lnni lan -c 1 icmp and src \(address)")
          try eventually("\(container.name) is seen as \(address)") {
            _ = try container.run("ping -c 1 -W 1 198.51.100.1")
            return sniffer.standardOutput.contains(address)
          }
        }
        try red.expectNoPing("198.51.100.77")
        try site.hosts[0].ctl("clear network red floating")
        try site.hosts[0].ctl("set network blue nat=none -- clear network blue floating gateway")
        try eventually("the host answers for nobody any more") {
          try !site.hosts[0].must("ip neigh show proxy; ip route").contains(/\.50|\.77/)
        }
        try site.outside.expectNoPing("203.0.113.50")
        try expectWayOut(red)
      }
    }

    @Test func whatEatsThePacketsIsNamed() throws {
      try run { lab, site in
        site.stop(0, SIGTERM)
        try site.hosts[0].must(
          "nft add table ip filter && nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'"
        )
        try site.start(0)
        try eventually("the chain is named") {
          site.log(0).contains("chain FORWARD of nftables table ip filter drops")
        }
        #expect(try site.hosts[0].must("nft list table ip filter").contains("policy drop"))
      }
    }
  }
}
