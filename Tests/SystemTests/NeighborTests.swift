import Foundation
import Testing

extension SystemTests {
  /// ARP and neighbor discovery over the tunnel: what the switch answers itself, and what has to
  /// pass.
  @Suite struct NeighborTests {
    /// Two hosts with one tenant: red1 on host 1; red2 and red3 on host 2.
    private struct Scene {
      var host1: Namespace
      var host2: Namespace
      var red1: Namespace
      var red2: Namespace
      var red3: Namespace

      init(_ lab: Lab) throws {
        (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2], tag: 100)
        try lab.overlay(on: host2, remotes: [1], tag: 100)
        func container(_ number: Int, on host: Namespace) throws -> Namespace {
          let container = try lab.container(
            "red\(number)", on: host, by: .veth, address: "172.17.42.1\(number)/24", tag: 100)
          try container.must("ip addr add fd42::1\(number)/64 dev eth0 nodad")
          return container
        }
        red1 = try container(1, on: host1)
        red2 = try container(2, on: host2)
        red3 = try container(3, on: host2)
        for target in ["172.17.42.12", "172.17.42.13", "fd42::12", "fd42::13"] {
          try red1.expectPing(target)
        }
        // What the kernel says by itself while it brings interfaces up is over then.
        for container in [red1, red2, red3] {
          try eventually("\(container.name) has its addresses") {
            try container.must("ip -6 addr show dev eth0 tentative").isEmpty
          }
        }
      }

      /// Packets of which tcpdump says this, on the wire between the hosts while something happens;
      /// those that leave as one train count once.
      func onTheWire(_ text: String, _ body: () throws -> Void) throws -> Int {
        try heard(text, in: host1, "udp port 4789", body)
      }

      /// Packets of which tcpdump says this, at a container or host while something happens.
      func heard(
        _ text: String, in place: Namespace, _ filter: String, _ body: () throws -> Void
      ) throws -> Int {
        let listener = try place.start("exec tcpdump -n -l -i eth0 -Z root \(filter)")
        try eventually("tcpdump listens") { listener.standardError.contains("listening on") }
        try body()
        usleep(500_000)
        listener.signal(SIGINT)
        let output = try listener.finish(seconds: 10)
        return output.standardOutput.split(separator: "\n").count { $0.contains(text) }
      }

      func answered() throws -> Int {
        try statistics("answered")
      }

      func statistics(_ name: String) throws -> Int {
        let json = try host1.ctl("-f json neigh stats br0")
        let value = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [[String: Any]]
        return try #require(value?.first?[name] as? Int)
      }
    }

    @Test(arguments: [false, true])
    func aKnownNeighborIsNotAskedForOnTheUnderlay(isIPv6: Bool) throws {
      try Lab.run { lab in
        let scene = try Scene(lab)
        let (address, other) = isIPv6 ? ("fd42::12", "fd42::13") : ("172.17.42.12", "172.17.42.13")
        let question = isIPv6 ? "neighbor solicitation, who has" : "ARP, Request who-has"
        let answered = try scene.answered()
        let count = try scene.onTheWire("\(question) \(address)") {
          for _ in 0..<2 {
            // Who asks again at once was not served by the answer: that is flooded.
            sleep(5)
            try scene.red1.must("ip neigh flush dev eth0")
            try scene.red1.expectPing(address)
            try scene.red1.expectPing(other)
          }
        }
        #expect(count == 0)
        #expect(try scene.answered() >= answered + 4)
        let shown = try scene.host1.ctl("neigh/show br0")
        #expect(shown.contains(address) && shown.contains("192.168.5.3"), "\(shown)")
        let statistics = try scene.host1.ctl("-f json stats red1")
        #expect(!statistics.contains("\"answeredFrames\" : 0"), "\(statistics)")

        // Switched off, all of it is flooded; switched on, it is not.
        try scene.host1.ctl("set bridge br0 other_config:neighbor-suppression=false")
        let flooded = try scene.onTheWire("\(question) \(address)") {
          try scene.red1.must("ip neigh flush dev eth0")
          try scene.red1.expectPing(address)
        }
        #expect(flooded >= 1)
        try scene.host1.ctl("remove bridge br0 other_config neighbor-suppression")
        let again = try scene.onTheWire("\(question) \(address)") {
          try scene.red1.must("ip neigh flush dev eth0")
          try scene.red1.expectPing(address)
        }
        #expect(again == 0)

        // Forgotten, it is asked for.
        #expect(try scene.host1.ctl("neigh flush br0").hasSuffix("forgotten\n"))
        let forgotten = try scene.onTheWire("\(question) \(address)") {
          try scene.red1.must("ip neigh flush dev eth0")
          try scene.red1.expectPing(address)
        }
        #expect(forgotten >= 1)
      }
    }

    @Test func probesAndAnnouncementsPass() throws {
      try Lab.run { lab in
        let scene = try Scene(lab)
        let probes = try scene.heard(
          "ARP, Request who-has 172.17.42.12 tell 0.0.0.0", in: scene.red3, "arp"
        ) {
          // Duplicate address detection finds the other one, over there.
          try scene.red1.sendARP(1, from: "0.0.0.0", for: "172.17.42.12", count: 3)
        }
        #expect(probes == 3)
        let answers = try scene.heard("ARP, Reply 172.17.42.12", in: scene.red1, "arp") {
          try scene.red1.sendARP(1, from: "0.0.0.0", for: "172.17.42.12", count: 3)
        }
        #expect(answers == 3)
        let announcements = try scene.heard(
          "ARP, Request who-has 172.17.42.11 tell 172.17.42.11", in: scene.red3, "arp"
        ) { try scene.red1.sendARP(1, from: "172.17.42.11", for: "172.17.42.11", count: 2) }
        #expect(announcements == 2)
        // Kernels ask red1 now and then, too.
        let broadcast = "arp and ether broadcast"
        let replies = try scene.heard("ARP, Reply 172.17.42.11", in: scene.red3, broadcast) {
          try scene.red1.sendARP(2, from: "172.17.42.11", for: "172.17.42.11", count: 2)
        }
        #expect(replies == 2)
        // The same in IPv6: the kernel's own detection must see that the address is taken.
        let solicitations = try scene.onTheWire("neighbor solicitation, who has fd42::12") {
          try scene.red1.must("ip addr add fd42::12/64 dev eth0")
          try eventually("the kernel has found the duplicate") {
            try scene.red1.must("ip -6 addr show dev eth0").contains("dadfailed")
          }
          try scene.red1.must("ip addr del fd42::12/64 dev eth0")
        }
        #expect(solicitations >= 1)
      }
    }

    /// An address goes from one container to another one, and a container from one host to the
    /// other.
    @Test func changesCountAtOnce() throws {
      try Lab.run { lab in
        let scene = try Scene(lab)
        func mac(_ container: Namespace) throws -> String {
          try container.mac()
        }
        func binding() throws -> String {
          try scene.red1.must("ip neigh flush dev eth0")
          try scene.red1.expectPing("172.17.42.12")
          return try scene.red1.must("ip neigh show 172.17.42.12 dev eth0")
        }
        #expect(try binding().contains(try mac(scene.red2)))
        try scene.red2.must("ip addr del 172.17.42.12/24 dev eth0")
        try scene.red3.must("ip addr add 172.17.42.12/24 dev eth0")
        try scene.red3.sendARP(1, from: "172.17.42.12", for: "172.17.42.12")
        #expect(try binding().contains(try mac(scene.red3)))
        #expect(try scene.statistics("moved") >= 1)

        // red3 goes to host 1, with its addresses; its first frame there tells the switches.
        let address = try mac(scene.red3)
        try scene.host2.ctl("del-port red3")
        try scene.host2.must("ip link del red3")
        let moved = try lab.container(
          "red4", on: scene.host1, by: .veth, address: "172.17.42.99/24", tag: 100)
        try moved.must(
          """
          ip link set eth0 down && ip link set eth0 address \(address) && ip link set eth0 up
          ip addr flush dev eth0 && ip addr add 172.17.42.12/24 dev eth0
          """)
        try moved.sendARP(1, from: "172.17.42.12", for: "172.17.42.12")
        #expect(try binding().contains(address))
      }
    }

    /// A container makes up neighbors: it has its share of the table, and the others keep theirs.
    @Test func exhaustionIsCountedAndRecovered() throws {
      try Lab.run { lab in
        let scene = try Scene(lab)
        try scene.host1.ctl("set bridge br0 other_config:mac-table-size=400")
        try scene.red1.must("python3 $TRAFFIC/arp_flood.py eth0 500")
        try eventually("the table has counted what it did not keep") {
          try scene.statistics("limited") >= 400
        }
        #expect(try scene.statistics("current") <= 70)
        let answered = try scene.answered()
        let count = try scene.onTheWire("ARP, Request who-has 172.17.42.12") {
          try scene.red1.must("ip neigh flush dev eth0")
          try scene.red1.expectPing("172.17.42.12")
        }
        #expect(count == 0)
        #expect(try scene.answered() > answered)

        // Room is had by forgetting, and by a larger table.
        #expect(try scene.host1.ctl("neigh flush br0").hasSuffix("forgotten\n"))
        try scene.host1.ctl("set bridge br0 other_config:mac-table-size=8000")
        let limited = try scene.statistics("limited")
        try scene.red1.must("python3 $TRAFFIC/arp_flood.py eth0 500")
        try eventually("all of them are kept") { try scene.statistics("current") >= 500 }
        #expect(try scene.statistics("limited") == limited)
      }
    }

    /// Two containers with one Ethernet address: the log names it and both ports.
    @Test func flappingAddressesAreLogged() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let containers = try (1...2).map { number in
          try lab.container(
            "red\(number)", on: host, by: .veth, address: "172.17.42.1\(number)/24", tag: 100)
        }
        let sentence =
          "address 02:00:00:00:00:0a in VLAN 100 of bridge br0 keeps moving between port red"
        lab.expectLog(sentence)
        let frame =
          "ffffffffffff" + "02000000000a" + "88b5" + String(repeating: "00", count: 46)
        for _ in 0..<4 {
          for container in containers {
            try container.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
          }
        }
        try eventually("the log tells") { daemon.log.contains(sentence) }
        sleep(2)
        for container in containers + containers {
          try container.must("python3 $TRAFFIC/send_frame.py eth0 1 \(frame)")
        }
        sleep(2)
        let lines = daemon.log.split(separator: "\n").filter { $0.contains("keeps moving") }
        #expect(lines.count == 1, "\(lines)")
        #expect(lines.allSatisfy { $0.contains("port red1") && $0.contains("port red2") })
        let moved = try host.ctl("-f csv fdb stats br0")
        #expect(
          moved.split(separator: "\n").last?.split(separator: ",").dropLast().last != "0",
          "\(moved)")
        let bad = try host.ctl(["set", "bridge", "br0", "other_config:neighbor-suppression=maybe"])
        #expect(bad.status == 1)
        #expect(bad.standardError.contains("(true, false)"), "\(bad.standardError)")
      }
    }
  }
}

extension Namespace {
  /// Sends ARP packets to all, of operation 1 (request) or 2 (reply).
  fileprivate func sendARP(
    _ operation: Int, from sender: String, for target: String, count: Int = 1
  ) throws {
    let address = try mac().replacingOccurrences(of: ":", with: "")
    func octets(_ ip: String) -> String {
      ip.split(separator: ".").map { String(format: "%02x", Int($0) ?? 0) }.joined()
    }
    let frame =
      "ffffffffffff\(address)080600010800060400" + String(format: "%02x", operation) + address
      + octets(sender) + "000000000000" + octets(target)
    try must("python3 $TRAFFIC/send_frame.py eth0 \(count) \(frame)")
  }
}
