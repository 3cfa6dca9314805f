import Foundation
import Testing

extension SystemTests {
  /// The MTUs of containers and what becomes of packets that are too large: `SegmentMTU`,
  /// `Adoption` and `PathMTU`.
  @Suite struct PathMTUTests {
    /// Two hosts with a bridge and a tunnel in VLAN 100.
    private func hosts(
      _ lab: Lab, family: Family = .ipv4, arguments: [String] = []
    ) throws -> (Namespace, Namespace) {
      let (host1, host2) = try lab.twoHosts()
      for (number, host) in [(1, host1), (2, host2)] {
        try lab.overlay(
          on: host, family: family, remotes: [3 - number], tag: 100, arguments: arguments)
      }
      return (host1, host2)
    }

    /// A veth as `ovs-docker` and the tutorials make it, one end moved into a container.
    private func defaultVeth(
      _ name: String, on host: Namespace, in container: Namespace, _ number: Int
    ) throws {
      try host.must(
        """
        ip link add \(name) type veth peer name \(name)-c
        ip link set \(name)-c netns \(container.name)
        ip link set \(name) up
        """)
      try container.must(
        """
        ip link set \(name)-c name eth0
        ip addr add 172.17.42.1\(number)/24 dev eth0
        ip addr add fd42::1\(number)/64 dev eth0 nodad
        ip link set eth0 up
        """)
    }

    private func add(_ line: String, on host: Namespace) throws -> String {
      let output = try host.ctl(line.split(separator: " ").map(String.init))
      #expect(output.status == 0, "\(line): \(output)")
      return output.standardError
    }

    // MARK: Default veths

    @Test(arguments: Family.allCases)
    func aDefaultVethIsNoError(_ family: Family) throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (host1, host2) = try hosts(lab, family: family)
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          let container = try lab.namespace("red\(number)")
          containers.append(container)
          try defaultVeth("red\(number)", on: host, in: container, number)
          let note = try add("add-port br0 red\(number) tag=100", on: host)
          #expect(
            note.contains("note:") && note.contains("\(family.overlayMTU)")
              && note.contains("vxlan0"), "\(note)")
          #expect(try host.mtu("red\(number)") == family.overlayMTU)
          #expect(try container.mtu("eth0") == family.overlayMTU)
        }
        for (from, to, number) in [(0, 1, 2), (1, 0, 1)] {
          for address in ["172.17.42.1\(number)", "fd42::1\(number)"] {
            try containers[from].expectPing(address, size: 3200)
            try containers[from].expectTransfer(5_000_000, to: containers[to], at: address)
          }
        }
        #expect(try !host1.ctl("show").contains("error:"))

        // Made anew while the daemon runs, it is judged as when it was added.
        try host1.must("ip link del red1")
        try eventually("it is missed") { try host1.ctl("show").contains("error:") }
        try defaultVeth("red1", on: host1, in: containers[0], 1)
        try eventually("it is adopted anew") {
          try host1.mtu("red1") == family.overlayMTU
            && containers[0].mtu("eth0") == family.overlayMTU
        }
        try containers[0].expectPing("172.17.42.12", size: 3200)

        // It comes back with what limited it, and goes by what its segment has.
        try host1.ctl("set port red1 tag=7")
        #expect(try (host1.mtu("red1"), containers[0].mtu("eth0")) == (1500, 1500))
        try host1.ctl("set port red1 tag=100")
        #expect(
          try (host1.mtu("red1"), containers[0].mtu("eth0")) == (
            family.overlayMTU, family.overlayMTU
          ))
        try host1.ctl("del-port vxlan0")
        #expect(try (host1.mtu("red1"), containers[0].mtu("eth0")) == (1500, 1500))
        // As does one that is no port any more.
        try host2.ctl("del-port red2")
        #expect(try (host2.mtu("red2"), containers[1].mtu("eth0")) == (1500, 1500))
      }
    }

    /// What a veth had is known to the next daemon, too, however the former one has ended.
    @Test(arguments: ["SIGTERM", "SIGKILL", "--take-over", "exit --cleanup", "remade"])
    func theNextDaemonGivesItBack(_ how: String) throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (host, _) = try lab.twoHosts()
        var daemon = try lab.daemon(on: host)
        let container = try lab.namespace("red1")
        try host.ctl("add-br br0 -- add-port br0 vxlan0 tag=100 key=100 remote=192.168.5.3")
        try defaultVeth("red1", on: host, in: container, 1)
        try host.ctl("add-port br0 red1 tag=100")
        func mtus() throws -> [Int] { try [host.mtu("red1"), container.mtu("eth0")] }
        #expect(try mtus() == [1450, 1450])
        switch how {
        case "exit --cleanup":
          daemon.mayBeDead = true
          try host.ctl(how)
          #expect(try mtus() == [1500, 1500])
          daemon = try lab.daemon(on: host)
          #expect(try mtus() == [1450, 1450])
        case "--take-over":
          daemon.mayBeDead = true
          daemon = try lab.daemon(on: host, arguments: [how])
        case "remade":
          // One of the same name, to which its owner has given that MTU himself.
          try daemon.stop(SIGTERM)
          try host.must("ip link del red1")
          try defaultVeth("red1", on: host, in: container, 1)
          try host.must("ip link set red1 mtu 1450")
          try container.must("ip link set eth0 mtu 1450")
          daemon = try lab.daemon(on: host)
        default:
          try daemon.stop(how == "SIGTERM" ? SIGTERM : SIGKILL)
          #expect(try mtus() == [1450, 1450])
          daemon = try lab.daemon(on: host)
        }
        #expect(try mtus() == [1450, 1450])
        try host.ctl("del-port red1")
        #expect(try mtus() == (how == "remade" ? [1450, 1450] : [1500, 1500]))
        // And it is forgotten.
        try daemon.stop(SIGTERM)
        try lab.daemon(on: host)
        try host.ctl("add-port br0 red1 tag=100 -- del-port vxlan0")
        #expect(try mtus() == (how == "remade" ? [1450, 1450] : [1500, 1500]))
      }
    }

    /// A namespace that has no name, only processes; and the other end still on the host.
    @Test func theOtherEndIsFound() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (host1, _) = try hosts(lab)
        let process = try host1.start("exec unshare -n sleep 1000")
        defer { process.signal(SIGKILL) }
        try eventually("the process has a namespace of its own") {
          try host1.must("readlink /proc/\(process.pid)/ns/net /proc/self/ns/net")
            .split(separator: "\n").reduce(into: Set<Substring>()) { $0.insert($1) }.count == 2
        }
        try host1.must(
          """
          ip link add v1 type veth peer name v1-c && ip link set v1-c netns \(process.pid)
          ip link add v2 type veth peer name v2-c
          ip link add v3 type veth peer name v3-c
          ip link add lan type bridge && ip link set v3-c master lan
          """)
        _ = try add("add-port br0 v1 tag=100 -- add-port br0 v2 tag=100", on: host1)
        #expect(try host1.mtu("v1") == 1450)
        let shown = try host1.must("nsenter -t \(process.pid) -n ip link show v1-c")
        #expect(shown.contains("mtu 1450"), "\(shown)")
        #expect(try (host1.mtu("v2"), host1.mtu("v2-c")) == (1450, 1450))
        // A bridge of the kernel's would have to follow, with all that hangs on it.
        let note = try add("add-port br0 v3 tag=100", on: host1)
        #expect(note.contains("v3") && note.contains("ICMP"), "\(note)")
        #expect(try (host1.mtu("v3"), host1.mtu("v3-c")) == (1500, 1500))
      }
    }

    /// What is asked for in so many words and cannot be is an error, and changes nothing.
    @Test func whatIsAskedForIsRefusedWithItsReason() throws {
      try Lab.run { lab in
        let (host1, _) = try hosts(lab)
        let red = try lab.namespace("red1")
        try defaultVeth("red1", on: host1, in: red, 1)
        try host1.must("ip link add v2 type veth peer name v2-c")
        for line in [
          "add-port br0 red1 tag=100 mtu=1500", "add-port br0 t1 type=tap tag=100 mtu=1451",
          "add-port br0 t1 type=tap trunks=7,100 mtu=1500",
          "attach br0 \(red.name) eth1 tag=100 mtu=1500", "set interface br0 mtu_request=1500",
        ] {
          let output = try host1.ctl(line.split(separator: " ").map(String.init))
          #expect(
            output.status == 1 && output.standardError.contains("tunnel vxlan0 to 192.168.5.3")
              && output.standardError.contains("1450"), "\(line): \(output)")
        }
        #expect(try host1.mtu("red1") == 1500)
        // In another tenant's VLAN all that fits.
        let note = try add("add-port br0 red1 tag=7 mtu=1500 -- add-port br0 v2 tag=7", on: host1)
        #expect(note.isEmpty)
        #expect(try (host1.mtu("red1"), host1.mtu("v2")) == (1500, 1500))
      }
    }

    // MARK: Segments

    /// A narrow port is a matter of its own segment, and IPv6 outlasts it there.
    @Test func aNarrowPortLimitsItsSegmentOnly() throws {
      try Lab.run { lab in
        let (host1, _) = try hosts(lab)
        try host1.ctl("add-port br0 vxlan1 key=200 remote=192.168.5.3 tag=200")
        var containers: [Namespace] = []
        for (number, tag) in [(1, 100), (2, 200)] {
          let container = try lab.namespace("c\(number)")
          containers.append(container)
          try host1.ctl(
            "attach br0 \(container.name) eth0 ip=172.17.42.1\(number)/24 ip=fd42::1\(number)/64 tag=\(tag)"
          )
          try container.must("ip route add 2001:db8::/32 via fd42::1 dev eth0")
        }
        try host1.must("ip link add narrow mtu 1000 type veth peer name narrow-c mtu 1000")
        try host1.must("ip link set narrow up")
        let note = try add("add-port br0 narrow tag=100", on: host1)
        #expect(
          note.contains("1000") && note.contains("narrow") && note.contains("IPv6"), "\(note)")
        #expect(try containers[0].mtu("eth0") == 1280)
        #expect(try containers[1].mtu("eth0") == 1450)
        #expect(try host1.ctl("show").contains("port narrow takes packets of up to 1000 bytes"))
        for container in containers {
          let network = try container.must("ip -6 addr show dev eth0; ip -6 route")
          #expect(network.contains("fd42::1") && network.contains("2001:db8::/32"), "\(network)")
        }
        // Without IPv6 nothing is in the way.
        let plain = try lab.namespace("plain")
        try plain.must("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        try host1.ctl("attach br0 \(plain.name) eth0 ip=172.17.42.13/24 tag=100")
        #expect(try plain.mtu("eth0") == 1000)
        try host1.ctl("del-port narrow")
        #expect(try containers[0].mtu("eth0") == 1450)
        #expect(try plain.mtu("eth0") == 1450)
        #expect(try !host1.ctl("show").contains("error:"))
      }
    }

    /// A command that fails half-way leaves all as it was, on TAPs in containers and on the host.
    @Test func nothingIsLeftHalfChanged() throws {
      try Lab.run { lab in
        let (host1, _) = try hosts(lab)
        let red = try lab.namespace("red1")
        try host1.ctl(
          "attach br0 \(red.name) eth0 ip=172.17.42.11/24 ip=fd42::11/64 tag=100")
        let name = try host1.ctl("list-ports br0").split(separator: "\n").first {
          $0.contains(red.name)
        }
        let tap = String(try #require(name))
        try host1.ctl("set interface br0 addresses=fd42::1/64,172.17.42.1/24")
        for interface in [tap, "br0"] {
          // IPv6 addresses cannot be had with this.
          let output = try host1.ctl(["set", "interface", interface, "mtu_request=1000"])
          #expect(output.status == 1, "\(output)")
        }
        for (place, device, address) in [(red, "eth0", "fd42::11"), (host1, "br0", "fd42::1")] {
          #expect(try place.mtu(device) == 1450)
          #expect(try place.must("ip -6 addr show dev \(device)").contains(address))
        }
        // So does one that was too small by hand.
        try host1.must("ip link set br0 mtu 1000")
        try host1.ctl("set interface br0 mtu_request=1400")
        #expect(try host1.must("ip -6 addr show dev br0").contains("fd42::1"))
      }
    }

    // MARK: What ICMP says of the path

    /// On one link nobody may say that the path is narrower; in no way below the floor.
    @Test(arguments: Family.allCases)
    func forgedMessagesAreNotBelieved(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab, family: family)
        let red1 = try lab.container(
          "red1", on: host1, by: .tap, address: "172.17.42.11/24", tag: 100)
        _ = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24", tag: 100)
        let largest = family.overlayMTU
        try red1.expectPing("172.17.42.12", size: largest - 28)
        let ends = try host1.must("ss -unH | awk '{print $(NF-1)}'")
        let ports = ends.split(separator: "\n").compactMap { $0.split(separator: ":").last }
        #expect(ports.count >= 16)
        for mtu in [68, 600, 1280, 1400] {
          try host2.must(
            "python3 $TRAFFIC/forge_too_big.py \(family.address(1)) \(family.address(2)) \(mtu) "
              + ports.joined(separator: " "))
        }
        // The kernel itself has taken it in.
        let route = try host1.must("ip route get \(family.address(2))")
        #expect(route.contains("mtu"), "\(route)")
        for _ in 0..<5 {
          try red1.expectPing("172.17.42.12", size: largest - 28)
          #expect(try red1.mtu("eth0") == largest)
        }
        #expect(try host1.ctl("tunnel show").contains(" \(largest) "))
        #expect(try !host1.ctl("show").contains("error:"))
      }
    }

    /// Behind a router a message is believed where the far end bears it out, or answers nothing;
    /// down to the floor.
    @Test(arguments: Family.allCases)
    func messagesOfRoutersAreAskedAbout(_ family: Family) throws {
      try Lab.run { lab in
        let (host1, router) = try lab.twoHosts()
        let far = try lab.namespace("far")
        let isIPv6 = family == .ipv6
        let (remote, gateway) = isIPv6 ? ("fd99::2", "fd99::1") : ("10.99.0.2", "10.99.0.1")
        let (length, version) = isIPv6 ? ("64 dev", "-6") : ("24 dev", "-4")
        let nodad = isIPv6 ? "nodad" : ""
        try router.must(
          """
          echo 1 > /proc/sys/net/ipv4/ip_forward
          echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
          ip link add far type veth peer name eth0 netns \(far.name)
          ip addr add \(gateway)/\(length) far \(nodad)
          ip link set far up
          """)
        try far.must(
          """
          ip addr add \(remote)/\(length) eth0 \(nodad)
          ip link set eth0 up
          ip \(version) route add default via \(gateway)
          """)
        try host1.must("ip \(version) route add \(remote) via \(family.address(2))")
        try host1.must("until ping -c 1 -W 1 \(remote); do :; done")
        let arguments = isIPv6 ? [] : ["--path-mtu-floor", "700"]
        try lab.daemon(on: host1, arguments: arguments)
        try host1.ctl("add-br br0 -- add-port br0 vxlan0 key=1 remote=\(remote)")
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        let ports = try host1.must("ss -unH | awk '{print $(NF-1)}'").split(separator: "\n")
          .compactMap { $0.split(separator: ":").last }.joined(separator: " ")
        func forge(_ mtu: Int) throws {
          try router.must(
            "python3 $TRAFFIC/forge_too_big.py \(family.address(1)) \(remote) \(mtu) \(ports)")
        }
        let overhead = isIPv6 ? 70 : 50
        // The path takes all that the device does, as the far end itself confirms.
        for mtu in [600, 1280, 1400] {
          try forge(mtu)
          usleep(1_200_000)
          #expect(try red1.mtu("eth0") == 1500 - overhead)
        }
        // Now it does not.
        try host1.must("ip \(version) route flush cache")
        try router.must("ip link set far mtu 1400")
        try forge(1400)
        try eventually("it is believed") { try red1.mtu("eth0") == 1400 - overhead }
        // An even smaller one is forged, and what is in use still gets through.
        try forge(1300)
        usleep(1_200_000)
        #expect(try red1.mtu("eth0") == 1400 - overhead)
        // Whoever answers nothing has to be believed the router, down to the floor.
        try far.must(
          "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all; echo 1 > /proc/sys/net/ipv6/icmp/echo_ignore_all"
        )
        try host1.must("ip \(version) route flush cache")
        try forge(isIPv6 ? 1280 : 600)
        let floor = isIPv6 ? 1280 : 700
        try eventually("it is believed down to the floor") {
          try host1.ctl("tunnel show").contains(" \(floor - overhead) ")
        }
        #expect(try red1.mtu("eth0") == 1280)
        #expect(try host1.ctl("show").contains("IPv6 needs"))
      }
    }

    // MARK: Too large

    /// TCP and pings of a sender whose MTU is larger than the tunnel's, by veth and TAP, with IPv4
    /// and IPv6.
    @Test(arguments: Attachment.allCases + [.attachedVeth])
    func sendersAreTold(_ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try hosts(lab)
        var containers: [Namespace] = []
        for (number, host) in [(1, host1), (2, host2)] {
          let container = try lab.container(
            "red\(number)", on: host, by: attachment, address: "172.17.42.1\(number)/24", tag: 100)
          containers.append(container)
          // What somebody has set since stays, and is too large. Each segment is a frame of its
          // own.
          if attachment == .veth { try host.must("ip link set red\(number) mtu 1500") }
          try container.must(
            """
            ip addr add fd42::1\(number)/64 dev eth0 nodad
            ip link set eth0 mtu 1500
            ethtool -K eth0 tso off gso off tx-udp-segmentation off
            """)
        }
        let red = containers[0]
        for (address, family) in [("172.17.42.12", "-4"), ("fd42::12", "-6")] {
          try red.expectPing(address)
          let headers = family == "-4" ? 28 : 48
          let told = try red.run(
            "ping \(family) -c 2 -i 0.2 -W 1 -M do -s \(1500 - headers) \(address)")
          #expect(told.standardOutput.contains(/mtu ?= ?1450/), "\(told)")
          try red.must("ip \(family) route flush cache")
          let start = ContinuousClock.now
          try red.expectTransfer(3_000_000, to: containers[1], at: address)
          // The first segments are lost, and sent again without delay.
          #expect(ContinuousClock.now - start < .seconds(8))
          let route = try red.must("ip \(family) route get \(address)")
          #expect(route.contains("mtu 1450"), "\(route)")
          try red.must("ip \(family) route flush cache")
          // Without "don't fragment" it is the sender that cuts, once it knows.
          try red.expectPing(address, size: 3200, attempts: 3)
        }
        #expect(try host1.ctl("drops").contains("exceeds-tunnel-mtu"))
        try eventually("show tells of it") {
          try host1.ctl("show").contains("the path to 192.168.5.3 takes 1450")
        }
        let lines = try #require(lab.daemons.first).log.split(separator: "\n").filter {
          $0.contains("the path to 192.168.5.3 takes 1450")
        }
        #expect(lines.count == 1, "\(lines)")
      }
    }

    /// What comes by a tunnel for a device that takes less is answered by that tunnel, also to a
    /// VTEP of the kernel's.
    @Test(arguments: Attachment.allCases)
    func remoteSendersAreTold(_ attachment: Attachment) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2], tag: 100)
        let red1 = try lab.container(
          "red1", on: host1, by: attachment, address: "172.17.42.11/24", tag: 100)
        let red2 = try lab.vethContainer("red2", on: host2, address: "172.17.42.12/24")
        try host2.makeKernelVTEP(vni: 100, family: .ipv4, number: 2, remote: 1, ports: ["red2"])
        for (number, container) in [(1, red1), (2, red2)] {
          try container.must("ip addr add fd42::1\(number)/64 dev eth0 nodad")
        }
        switch attachment {
        case .veth:
          try host1.must("ip link set red1 mtu 1300")
          try red1.must("ip link set eth0 mtu 1300")
        case .tap, .attachedVeth: try red1.must("ip link set eth0 mtu 1300")
        }
        for (address, family, headers) in [("172.17.42.11", "-4", 28), ("fd42::11", "-6", 48)] {
          try red2.expectPing(address)
          if attachment == .veth {
            let told = try red2.run(
              "ping \(family) -c 2 -i 0.2 -W 1 -M do -s \(1400 - headers) \(address)")
            #expect(told.standardOutput.contains(/mtu ?= ?1300/), "\(told)")
          }
          try red2.expectTransfer(3_000_000, to: red1, at: address)
        }
      }
    }
  }
}

extension Namespace {
  /// The MTU of a device in bytes, 0 where it is not there.
  fileprivate func mtu(_ device: String) throws -> Int {
    let output = try run("cat /sys/class/net/\(device)/mtu")
    return Int(output.standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)) ?? 0
  }
}
