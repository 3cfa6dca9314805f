import Foundation
import Testing

extension SystemTests {
  /// Stations that come back as others, or elsewhere, and how soon those reach them who knew them
  /// before.
  @Suite struct ReachabilityTests {
    private static let addresses = (ipv4: "172.17.42.12", ipv6: "fd42::12")

    /// Two hosts with one tenant, and a container red1 on host 1.
    private func scene(
      _ lab: Lab, by attachment: Attachment = .veth
    ) throws -> (host1: Namespace, host2: Namespace, red1: Namespace) {
      let (host1, host2) = try lab.twoHosts()
      try lab.overlay(on: host1, remotes: [2], tag: 100)
      try lab.overlay(on: host2, remotes: [1], tag: 100)
      let red1 = try container("red1", on: host1, by: attachment, number: 11, lab)
      return (host1, host2, red1)
    }

    private func container(
      _ name: String, on host: Namespace, by attachment: Attachment, number: Int, _ lab: Lab
    ) throws -> Namespace {
      let container = try lab.container(
        name, on: host, by: attachment, address: "172.17.42.\(number)/24", tag: 100)
      try container.must("ip addr add fd42::\(number)/64 dev eth0 nodad")
      return container
    }

    /// The first ping that is sent once the station is there is answered, or one soon after: 3 s
    /// are far less than a kernel takes to doubt what it knows.
    private func expectReached(
      _ address: String, from place: Namespace, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let output = try place.run("ping -c 6 -i 0.5 -W 1 \(address)")
      #expect(output.lostPings < 6, "\(output.standardOutput)", sourceLocation: sourceLocation)
    }

    /// A container goes with its interface, and comes back: it is the same station as before, and
    /// told of.
    @Test func aRestartedContainerIsReachedAtOnce() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let (_, host2, red1) = try scene(lab)
        let web = try lab.namespace("web")
        try host2.ctl(
          "attach br0 \(web.name) eth0 ip=172.17.42.12/24 ip=fd42::12/64 tag=100")
        for address in [Self.addresses.ipv4, Self.addresses.ipv6] { try red1.expectPing(address) }
        let former = try web.mac(of: "eth0")
        for _ in 0..<2 {
          try web.makeAnew()
          try eventually("the interface is back") {
            try web.run("test -e /sys/class/net/eth0").succeeded
          }
          for address in [Self.addresses.ipv4, Self.addresses.ipv6] {
            try expectReached(address, from: red1)
          }
          #expect(try web.mac(of: "eth0") == former)
        }
        // Another address, by which others cannot have known it.
        for (number, other) in ["02:00:00:00:77:01", "02:00:00:00:77:02"].enumerated() {
          try host2.ctl("set interface eth0@\(web.name) mac=\"\(other)\"")
          #expect(try web.mac(of: "eth0") == other)
          let address = number == 0 ? Self.addresses.ipv4 : Self.addresses.ipv6
          try expectReached(address, from: red1)
        }
        // Taken back, it is the first one again.
        try host2.ctl("clear interface eth0@\(web.name) mac")
        #expect(try web.mac(of: "eth0") == former)
        for address in [Self.addresses.ipv4, Self.addresses.ipv6] {
          try expectReached(address, from: red1)
        }
      }
    }

    /// The host's own addresses on a bridge, which comes to have another Ethernet address.
    @Test func anInternalPortIsReachedAtOnce() throws {
      try Lab.run { lab in
        let (_, host2, red1) = try scene(lab)
        try host2.ctl(
          "set port br0 tag=100 -- set interface br0 addresses=[172.17.42.12/24,fd42::12/64]")
        for address in [Self.addresses.ipv4, Self.addresses.ipv6] { try red1.expectPing(address) }
        let former = try host2.mac(of: "br0")
        try host2.ctl("set bridge br0 other_config:hwaddr=\"02:00:00:00:77:03\"")
        #expect(try host2.mac(of: "br0") == "02:00:00:00:77:03")
        #expect(try host2.ctl("get interface br0 mac_in_use").contains("02:00:00:00:77:03"))
        for address in [Self.addresses.ipv4, Self.addresses.ipv6] {
          try expectReached(address, from: red1)
        }
        // The interface's own word counts more.
        try host2.ctl("set interface br0 mac=\"02:00:00:00:77:04\"")
        #expect(try host2.mac(of: "br0") == "02:00:00:00:77:04")
        try host2.ctl("clear interface br0 mac -- remove bridge br0 other_config hwaddr")
        #expect(try host2.mac(of: "br0") == former)
        let bad = try host2.ctl(["set", "bridge", "br0", "other_config:hwaddr=01:00:00:00:00:01"])
        #expect(bad.status == 1 && bad.standardError.contains("hwaddr"), "\(bad.standardError)")
      }
    }

    /// What ovx makes has the same addresses whenever it is made anew; two hosts have different
    /// ones.
    @Test func addressesOutliveTheirDevices() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let other = try lab.namespace("host2")
        let app = try lab.namespace("app")
        func addresses(of host: Namespace) throws -> [String] {
          try ["br0", "tap0"].map { try host.mac(of: $0) }
        }
        try lab.daemon(on: other)
        try other.ctl("add-br br0 -- add-port br0 tap0 type=tap")
        var daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 tap0 type=tap -- attach br0 \(app.name) eth0")
        let former = try addresses(of: host) + [app.mac(of: "eth0")]
        #expect(Set(former + (try addresses(of: other))).count == 5)
        // Locally administered, and of one station.
        for address in former { #expect("26ae".contains(address.dropFirst().first ?? "0")) }
        try host.ctl("exit --cleanup")
        daemon.mayBeDead = true
        _ = daemon.process.wait(seconds: 10)
        #expect(try host.run("test -e /sys/class/net/br0").status != 0)
        daemon = try lab.daemon(on: host)
        #expect(try addresses(of: host) + [app.mac(of: "eth0")] == former)
        try host.ctl("del-br br0")
        try host.ctl("add-br br0 -- add-port br0 tap0 type=tap -- attach br0 \(app.name) eth0")
        #expect(try addresses(of: host) + [app.mac(of: "eth0")] == former)
      }
    }

    /// A bridge with one network card has the card's address, whatever else comes and goes.
    @Test func aBridgeTakesTheAddressOfItsCard() throws {
      try Lab.run { lab in
        lab.expectLog("waits")
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let former = try host.mac(of: "br0")
        // What leads out of the host; a namespace has no card of its own.
        try host.must(
          """
          ip link add cable type veth peer name far
          ip link add nic0 link cable type macvlan && ip link set nic0 up
          ip link add nic1 link far type macvlan && ip link set nic1 up
          """)
        let card = try host.mac(of: "nic0")
        try host.ctl("add-port br0 nic0")
        #expect(try host.mac(of: "br0") == card)
        _ = try lab.container("red1", on: host, by: .veth, address: "172.17.42.11/24")
        _ = try lab.container("red2", on: host, by: .tap, address: "172.17.42.12/24")
        #expect(try host.mac(of: "br0") == card)
        // Away for a moment, it stays.
        try host.must("ip link del nic0")
        try eventually("the port waits") { try host.ctl("show").contains("error:") }
        #expect(try host.mac(of: "br0") == card)
        try host.must("ip link add nic0 link cable address \(card) type macvlan")
        try host.must("ip link set nic0 up")
        // What is asked for counts more; with two cards it is nobody's.
        try host.ctl("set interface br0 mac=\"02:00:00:00:77:05\"")
        #expect(try host.mac(of: "br0") == "02:00:00:00:77:05")
        try host.ctl("clear interface br0 mac")
        #expect(try host.mac(of: "br0") == card)
        try host.ctl("del-port nic0")
        #expect(try host.mac(of: "br0") == former)
        try host.ctl("add-port br0 nic0 -- add-port br0 nic1")
        #expect(try host.mac(of: "br0") == former)
      }
    }

    /// An address that goes to another container, which says nothing: a kernel that doubts what it
    /// knows finds it as if there were no switch that answers for others.
    ///
    /// To save time, the kernel's patience is a twentieth of what it is elsewhere.
    @Test(arguments: Attachment.allCases, [false, true])
    func anAddressThatMovedSilentlyIsFound(attachment: Attachment, isIPv6: Bool) throws {
      try Lab.run { lab in
        let (host1, host2, red1) = try scene(lab, by: attachment)
        let red2 = try container("red2", on: host2, by: attachment, number: 12, lab)
        let red3 = try container("red3", on: host2, by: attachment, number: 13, lab)
        let other = try container("red4", on: host1, by: attachment, number: 14, lab)
        let (family, vip, length) = isIPv6 ? ("ipv6", "fd42::99", 64) : ("ipv4", "172.17.42.99", 24)
        for container in [red1, other] {
          try container.must(
            """
            cd /proc/sys/net/\(family)/neigh/eth0
            echo 1500 > base_reachable_time_ms; echo 1 > delay_first_probe_time
            """)
        }
        let detection = isIPv6 ? "nodad" : ""
        try red2.must("ip addr add \(vip)/\(length) dev eth0 \(detection)")
        for container in [red1, other] { try container.expectPing(vip) }
        #expect(try host1.ctl("neigh show br0").contains(vip))
        try red2.must("ip addr del \(vip)/\(length) dev eth0")
        try red3.must("ip addr add \(vip)/\(length) dev eth0 \(detection)")
        // At most 1.5 times 1.5 s of trust, 1 s of delay and 3 s of probes; a second more where the
        // machine is slow.
        for container in [red1, other] {
          try eventually("\(container.name) finds the address again", within: 20) {
            try container.run("ping -c 1 -W 1 \(vip)").succeeded
          }
        }
        // Back again, and whoever asks anew by himself is answered wrongly once at most.
        try red3.must("ip addr del \(vip)/\(length) dev eth0")
        try red2.must("ip addr add \(vip)/\(length) dev eth0 \(detection)")
        var rounds = 0
        try eventually("who asks anew finds it", within: 10) {
          rounds += 1
          try red1.must("ip neigh flush dev eth0")
          return try red1.run("ping -c 1 -W 1 \(vip)").succeeded
        }
        #expect(rounds <= 3)
      }
    }

    /// A container that announces an address while another one does so, too: the log and
    /// `neigh show` name both.
    @Test func anAddressOfTwoStationsIsShown() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let containers = try (1...2).map { number in
          try lab.container(
            "red\(number)", on: host, by: number == 1 ? .veth : .tap,
            address: "172.17.42.1\(number)/24", tag: 100)
        }
        let sentence = "IP address 172.17.42.99 in VLAN 100 of bridge br0 is announced in turn by"
        lab.expectLog(sentence)
        for _ in 0..<4 {
          for container in containers { try container.announceIPv4("172.17.42.99") }
        }
        try eventually("the log tells") { daemon.log.contains(sentence) }
        let line = try #require(
          daemon.log.split(separator: "\n").first { $0.contains(sentence) })
        let shown = try host.ctl("neigh show br0")
        for container in containers {
          let address = try container.mac(of: "eth0")
          #expect(line.contains(address) && shown.contains(address), "\(line)\n\(shown)")
        }
        #expect(shown.contains("Rival"))
        sleep(2)
        for container in containers + containers { try container.announceIPv4("172.17.42.99") }
        sleep(2)
        #expect(daemon.log.split(separator: "\n").count { $0.contains(sentence) } == 1)
      }
    }
  }
}

extension Namespace {
  /// Replaces the namespace by another one of the same name.
  ///
  /// Not in another namespace's shell, which has a table of mounts of its own.
  func makeAnew() throws {
    let made = try Command(["sh", "-c", "ip netns del \(name); ip netns add \(name)"])
      .finish(seconds: 10)
    guard made.succeeded else { throw LabError(made.standardError) }
  }

  /// Sends a gratuitous ARP request.
  fileprivate func announceIPv4(_ ip: String) throws {
    let address = try mac().replacingOccurrences(of: ":", with: "")
    let octets = ip.split(separator: ".").map { String(format: "%02x", Int($0) ?? 0) }.joined()
    let frame =
      "ffffffffffff\(address)08060001080006040001\(address)\(octets)000000000000\(octets)"
    try must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
  }
}
