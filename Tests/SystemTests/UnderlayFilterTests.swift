import Foundation
import Testing

extension SystemTests {
  /// Nobody but the switch sends to its remotes from its host.
  @Suite struct UnderlayFilterTests {
    struct Case: CustomTestStringConvertible {
      var family: Family
      var attachment: Attachment
      var port = 4789
      var testDescription: String { "\(family), \(attachment), port \(port)" }
    }

    /// A user of the host, root without the daemon's sockets, and a container behind masquerading
    /// try to get into VNI 200 of another host.
    ///
    /// That they would get in without the rules is shown, too.
    @Test(arguments: [
      Case(family: .ipv4, attachment: .veth), Case(family: .ipv6, attachment: .tap),
      Case(family: .ipv4, attachment: .tap, port: 8472),
      Case(family: .ipv6, attachment: .veth, port: 8472),
    ])
    func nobodyElseGetsIntoATenantsNetwork(_ test: Case) throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        for (host, other) in [(host1, 2), (host2, 1)] {
          try lab.overlay(
            on: host, vni: 200, family: test.family, remotes: [other], port: test.port)
        }
        let red1 = try lab.container(
          "red1", on: host1, by: test.attachment, address: "172.17.42.11/24", tag: 200, mtu: 1430)
        let red2 = try lab.container(
          "red2", on: host2, by: test.attachment, address: "172.17.42.12/24", tag: 200, mtu: 1430)
        let guest = try lab.masqueradedContainer(on: host1)
        let others = try host1.rulesOfOthers()
        let target = "\(test.family.address(2)) \(test.port) 200"

        var sniffer = try Sniffer(in: red2)
        #expect(try host1.forge(target, as: "user", uid: 65534) == 3)
        #expect(try host1.forge(target, as: "root") == 3)
        #expect(try guest.forge(target, as: "guest", uid: 65534) == 0)
        // A neighboring port is nobody's business here.
        #expect(try host1.forge("\(test.family.address(2)) 4790 200", as: "user") == 0)
        try red1.expectPing("172.17.42.12")
        #expect(try sniffer.stop().isEmpty)
        let shown = try host1.ctl("tunnel show")
        #expect(shown.contains("nobody else of this host can send to the remotes"), "\(shown)")
        #expect(shown.contains(" 9 packets refused"), "\(shown)")

        // The same with the rules switched off.
        try lab.restart(on: host1, arguments: ["--no-underlay-filter"])
        try red1.expectPing("172.17.42.12")
        #expect(try host1.ownTables() == [])
        #expect(try host1.ctl("tunnel show").contains("anybody of this host can send"))
        sniffer = try Sniffer(in: red2)
        #expect(try host1.forge(target, as: "user", uid: 65534) == 0)
        #expect(try guest.forge(target, as: "guest", uid: 65534) == 0)
        try red1.expectPing("172.17.42.12")
        #expect(
          try sniffer.stop()
            == [Mark(origin: "user", tag: nil): 3, Mark(origin: "guest", tag: nil): 3])
        #expect(try host1.rulesOfOthers() == others)
      }
    }

    /// The rules come with the first tunnel, follow what remotes there are, and go with the last.
    @Test func theRulesFollowTheTunnels() throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        try lab.daemon(on: host1)
        try host1.ctl("add-br br0")
        #expect(try host1.ownTables() == [])
        #expect(try !host1.ctl("tunnel show").contains("of this host"))

        try host1.ctl("add-port br0 v0 tag=1 key=1 remote=192.168.5.3")
        #expect(try host1.protected() == ["192.168.5.3 . 4789"])
        try host1.ctl("add-port br0 v1 tag=2 key=2 remote=192.168.5.3,192.168.5.4 dst_port=8472")
        try host1.ctl("add-port br0 v2 tag=3 key=3 remote=fd05::3")
        let three = [
          "192.168.5.3 . 4789", "192.168.5.3 . 8472", "192.168.5.4 . 8472", "fd05::3 . 4789",
        ]
        #expect(try host1.protected() == three)
        try host1.ctl("set interface v1 options:remote_ip=192.168.5.5")
        #expect(
          try host1.protected()
            == ["192.168.5.3 . 4789", "192.168.5.5 . 8472", "fd05::3 . 4789"])
        #expect(try host1.forge("192.168.5.4 8472 2", as: "root") == 0)
        #expect(try host1.forge("192.168.5.5 8472 2", as: "root") == 3)

        try host1.ctl("del-port v1 -- del-port v2")
        #expect(try host1.protected() == ["192.168.5.3 . 4789"])
        #expect(try host1.ctl("tunnel show").contains(" 3 packets refused"), "counted on")
        try host1.ctl("del-port v0")
        #expect(try host1.ownTables() == [])
        #expect(try host1.forge("192.168.5.3 4789 1", as: "root") == 0)

        // A mesh that does not fit one message of netlink.
        let many = (1...300).map { "10.1.\($0 / 250).\($0 % 250)" }
        try host1.must("ip route add 10.1.0.0/16 via 192.168.5.3")
        try host1.ctl("add-port br0 v0 tag=1 key=1 remote=\(many.joined(separator: ","))")
        #expect(try host1.protected().count == 300)
        try host1.ctl("del-br br0")
        #expect(try host1.ownTables() == [])
      }
    }

    /// A daemon that ends leaves the rules for the next one, unless it is to clean up.
    @Test(arguments: [SIGKILL, SIGTERM])
    func theRulesOutliveTheDaemon(_ signal: Int32) throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        try lab.daemon(on: host1).stop(SIGTERM)
        try host1.must("cp \(host1.rundir)/conf.db \(host1.rundir)/empty.db")
        let daemon = try lab.overlay(on: host1, remotes: [2])
        try daemon.stop(signal)
        #expect(try host1.protected() == ["192.168.5.3 . 4789"])
        #expect(try host1.forge("192.168.5.3 4789 100", as: "root") == 3)

        let next = try lab.daemon(on: host1)
        #expect(try host1.ownTables().count == 1)
        #expect(try host1.protected() == ["192.168.5.3 . 4789"])
        try next.stop(SIGKILL)
        // What one leaves that is killed between a change and what it comes to.
        try host1.must("cd \(host1.rundir) && rm conf.db* && cp empty.db conf.db")
        try lab.daemon(on: host1)
        #expect(try host1.ownTables() == [])

        try host1.ctl("add-br br0 -- add-port br0 v0 key=1 remote=192.168.5.3")
        #expect(try host1.ownTables().count == 1)
        lab.daemons.last?.mayBeDead = true
        try host1.ctl("exit --cleanup")
        try eventually("the rules are gone") { try host1.ownTables() == [] }
      }
    }

    /// Others load their rules over ours, or take ours away.
    @Test(arguments: [
      "nft flush ruleset", "nft delete table inet $table",
      "nft flush chain inet $table postrouting",
      "nft flush set inet $table remotes4",
      "nft flush table inet $table",
      "printf 'flush ruleset\\ntable inet filter { chain input { type filter hook input priority 0; }; }\\n' | nft -f -",
    ])
    func whatOthersRemoveComesBack(_ script: String) throws {
      try Lab.run { lab in
        let (host1, _) = try lab.twoHosts()
        let daemon = try lab.overlay(on: host1, remotes: [2])
        let before = try host1.must(
          "nft -s list table inet \(try #require(host1.ownTables().first))")
        let table = try #require(try host1.ownTables().first)
        for _ in 0..<3 {
          try host1.must(script.replacing("$table", with: table))
          try eventually("the rules are back") {
            try host1.run("nft -s list table inet \(table)").standardOutput == before
          }
        }
        #expect(try host1.forge("192.168.5.3 4789 100", as: "root") == 3)
        // One line, however often.
        let lines = daemon.log.split(separator: "\n").filter { $0.contains(table) }
        #expect(lines.count == 1 && lines[0].contains("nft has changed or removed"), "\(lines)")
      }
    }

    /// Two switches in one network namespace have rules of their own, and let each other pass.
    @Test func twoDaemonsOnOneHost() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try host1.must("ip addr add 192.168.5.20/24 dev eth0")
        try host2.must("ip addr add 192.168.5.30/24 dev eth0")
        let second = Namespace(name: host1.name, rundir: host1.rundir + "/second")
        try FileManager.default.createDirectory(
          atPath: second.rundir, withIntermediateDirectories: false)
        for (host, bridge, local, container) in [
          (host1, "br0", 2, "red1"), (second, "br1", 20, "blue1"),
        ] {
          try lab.daemon(on: host)
          try host.ctl(
            "add-br \(bridge) -- add-port \(bridge) vx\(local) key=\(local) local=192.168.5.\(local) "
              + "remote=192.168.5.3")
          _ = try lab.namespace(container)
          try host.ctl(
            "attach \(bridge) \(Lab.prefix)\(container) eth0 ip=172.17.42.\(local)/24")
        }
        #expect(try host1.ownTables().count == 2)

        try lab.daemon(on: host2)
        try host2.ctl("add-br br0")
        for (local, name) in [(2, "red2"), (20, "blue2")] {
          try host2.ctl(
            "add-port br0 vx\(local) key=\(local) remote=192.168.5.\(local) tag=\(local)")
          _ = try lab.namespace(name)
          try host2.ctl(
            "attach br0 \(Lab.prefix)\(name) eth0 ip=172.17.42.100/24 tag=\(local)")
        }
        for name in ["red1", "blue1"] {
          let container = try #require(lab.namespaces.first { $0.name == Lab.prefix + name })
          try container.expectPing("172.17.42.100")
        }
        // One goes, the other's stay.
        try second.ctl("del-br br1")
        #expect(try host1.ownTables().count == 1)
        #expect(try host1.forge("192.168.5.3 4789 2", as: "root") == 3)
      }
    }

    /// A daemon that cannot mark its sockets makes no rules that would stop itself.
    @Test func withoutTheRightToMarkSockets() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host2, remotes: [1])
        let red2 = try lab.container("red2", on: host2, by: .tap, address: "172.17.42.12/24")
        _ = red2
        let daemon = try lab.daemon(
          on: host1, through: ["setpriv", "--bounding-set", "-setgid", "--inh-caps", "-setgid"])
        try host1.ctl("add-br br0 -- add-port br0 vxlan0 key=100 remote=192.168.5.3")
        let red1 = try lab.container("red1", on: host1, by: .tap, address: "172.17.42.11/24")
        try red1.expectPing("172.17.42.12")
        #expect(try host1.ownTables() == [])
        #expect(try host1.ctl("tunnel show").contains("CAP_SETGID"))
        let notes = daemon.log.split(separator: "\n").filter { $0.contains("CAP_SETGID") }
        #expect(notes.count == 1, "\(daemon.log)")
      }
    }
  }
}

extension Lab {
  /// A daemon with a bridge and a tunnel in a VLAN that has the VNI's number.
  fileprivate func overlay(
    on host: Namespace, vni: Int, family: Family, remotes: [Int], port: Int
  ) throws {
    try daemon(on: host)
    let addresses = remotes.map { family.address($0) }.joined(separator: ",")
    try host.ctl(
      "add-br br0 -- add-port br0 vxlan0 tag=\(vni) key=\(vni) remote=\(addresses) dst_port=\(port)"
    )
  }

  fileprivate func restart(on host: Namespace, arguments: [String]) throws {
    try #require(daemons.first { $0.host.name == host.name && !$0.mayBeDead }).stop(SIGTERM)
    try daemon(on: host, arguments: arguments)
  }

  /// A container that is no port of the switch, behind a host that translates addresses, as Docker
  /// sets one up.
  fileprivate func masqueradedContainer(on host: Namespace) throws -> Namespace {
    let guest = try namespace("guest")
    try host.must(
      """
      ip link add guest type veth peer name eth0 netns \(guest.name)
      ip addr add 10.9.0.1/24 dev guest && ip addr add fd09::1/64 dev guest nodad
      ip link set guest up
      echo 1 > /proc/sys/net/ipv4/ip_forward && echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
      nft -f - <<END
      table inet docker {
        set friends { type ipv4_addr; elements = { 10.9.0.2 } }
        chain nat {
          type nat hook postrouting priority srcnat;
          oifname "eth0" masquerade
        }
      }
      END
      """)
    try guest.must(
      """
      ip addr add 10.9.0.2/24 dev eth0 && ip addr add fd09::2/64 dev eth0 nodad
      ip link set eth0 up
      ip route add default via 10.9.0.1 && ip route add default via fd09::1
      """)
    return guest
  }
}

extension Namespace {
  /// Tries to send three marked frames to another host's VTEP; returns how many the kernel refused.
  fileprivate func forge(_ target: String, as mark: String, uid: Int = 0) throws -> Int? {
    try Int(
      must("python3 $TRAFFIC/plain_vxlan.py \(target) \(mark) \(uid)")
        .trimmingCharacters(in: .whitespacesAndNewlines))
  }

  /// The tables of ovx.
  fileprivate func ownTables() throws -> [String] {
    try must("nft list tables").split(separator: "\n").compactMap {
      $0.wholeMatch(of: /table inet (ovx-underlay-[0-9a-f]{8})/).map { String($0.1) }
    }
  }

  /// Addresses and ports that are closed to others.
  fileprivate func protected() throws -> [String] {
    let table = try #require(try ownTables().first)
    return try ["remotes4", "remotes6"].flatMap { set in
      let listing = try must("nft -j list set inet \(table) \(set)")
      struct Listing: Decodable {
        struct Object: Decodable { var set: Members? }
        struct Members: Decodable { var elem: [Element]? }
        struct Element: Decodable {
          struct Word: Decodable {
            var text: String
            init(from decoder: any Decoder) throws {
              let value = try decoder.singleValueContainer()
              if let number = try? value.decode(Int.self) {
                text = "\(number)"
              } else {
                text = try value.decode(String.self)
              }
            }
          }
          var concat: [Word]
        }
        var nftables: [Object]
      }
      return try JSONDecoder().decode(Listing.self, from: Data(listing.utf8)).nftables
        .flatMap { $0.set?.elem ?? [] }.map { $0.concat.map(\.text).joined(separator: " . ") }
        .sorted()
    }
  }

  /// The tables of others, as they are listed.
  fileprivate func rulesOfOthers() throws -> String {
    try must(
      "nft list tables | grep -v ovx-underlay | while read -r t f n; do nft list table $f $n; done")
  }
}
