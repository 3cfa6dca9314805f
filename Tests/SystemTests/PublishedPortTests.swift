import Foundation
import Glibc
import Testing

/// Ports of the host that lead to members of networks, by way of their gateways.
extension SystemTests.GatewayTests {
  /// Has a container answer at a port, with a word and the address that it is asked from, until the
  /// test has ended.
  private func serve(
    _ container: Namespace, _ word: String, at listener: String = "TCP-LISTEN:80"
  ) throws -> Command {
    try container.start(
      "exec socat \(listener),fork,reuseaddr SYSTEM:'read line; echo \(word) is asked by \\$SOCAT_PEERADDR'"
    )
  }

  /// What is answered at `ADDRESS:PORT`; empty where nobody answers.
  private func answer(
    _ place: String, from container: Namespace, by transport: String = "TCP"
  ) throws -> String {
    let limit = transport == "TCP" ? ",connect-timeout=1" : ""
    return try container.run("echo hello | timeout 2 socat -t 1 - \(transport):\(place)\(limit)")
      .standardOutput
  }

  private func expectAnswer(
    _ word: String, _ place: String, from container: Namespace, by transport: String = "TCP"
  ) throws {
    try eventually("\(place) is \(word)'s to \(container.name)") {
      try answer(place, from: container, by: transport).contains(word)
    }
  }

  @Test func aPublishedPortLeadsToItsMember() throws {
    try run { lab, site in
      let host = site.hosts[0]
      let red = try lab.namespace("red")
      try host.ctl("attach red \(red.name) eth0 publish=8080:80,5353:53/udp,203.0.113.1:443:80")
      let blue = try lab.namespace("blue")
      try host.ctl("attach blue \(blue.name) eth0 publish=8081:80,127.0.0.1:443:80")
      let neighbor = try site.attach("near", to: "red", on: 0)
      let far = try site.attach("far", to: "red", on: 1)
      let services = [
        try serve(red, "red"), try serve(red, "names", at: "UDP-LISTEN:53"),
        try serve(red, "hidden", at: "TCP-LISTEN:81"), try serve(blue, "blue"),
      ]
      defer { for service in services { service.signal(SIGKILL) } }
      // From outside, each with the address that it has there.
      for (port, word) in [("8080", "red"), ("8081", "blue"), ("443", "red")] {
        try expectAnswer(
          "\(word) is asked by 203.0.113.254", "203.0.113.1:\(port)", from: site.outside)
      }
      try expectAnswer("names", "203.0.113.1:5353", from: site.outside, by: "UDP")
      // From the host, from the network itself on either host, and from another network of the
      // host's.
      let docker = try lab.vethContainer("docker", on: host, address: "10.99.0.2/24")
      try host.must(
        "ip addr add 10.99.0.1/24 dev docker; sysctl -qw net.ipv4.conf.docker.forwarding=1")
      try docker.must("ip route add default via 10.99.0.1")
      for (place, container) in [
        ("203.0.113.1", host), ("127.0.0.1", host), ("203.0.113.1", neighbor), ("203.0.113.1", red),
        ("203.0.113.1", far), ("10.99.0.1", docker),
      ] {
        try expectAnswer("red", "\(place):8080", from: container)
      }
      try expectAnswer("blue", "127.0.0.1:443", from: host)
      try expectAnswer("names", "127.0.0.1:5353", from: host, by: "UDP")
      try expectAnswer("names", "203.0.113.1:5353", from: neighbor, by: "UDP")
      // To nothing else, and from no tenant to another.
      for (place, container) in [
        ("203.0.113.1:81", site.outside), ("203.0.113.1:80", site.outside),
        ("203.0.113.1:8080", blue), ("203.0.113.1:8081", red), ("127.0.0.1:8080", blue),
      ] {
        #expect(try answer(place, from: container) == "", "\(place) from \(container.name)")
      }
      // Nor to the way that they take, for who knows it.
      try site.outside.must("ip route add 100.64.0.0/10 via 203.0.113.1")
      for number in 0...3 {
        for (port, container) in [("8080", site.outside), ("8081", site.outside), ("8080", blue)] {
          #expect(try answer("100.64.0.\(number):\(port)", from: container) == "")
        }
      }
      #expect(try host.ctl("net show red").contains("8080:80/tcp"))

      // Without its maker the port works on; what has changed meanwhile is made.
      site.stop(0, SIGKILL)
      try expectAnswer("red", "203.0.113.1:8080", from: site.outside)
      try host.ctl("add port eth0@\(red.name) publish 8082:81")
      try site.start(0)
      try expectAnswer("hidden", "203.0.113.1:8082", from: site.outside)
      _ = try #require(lab.daemons.first).stop(SIGKILL)
      try lab.daemon(on: host)
      try expectAnswer("red", "203.0.113.1:8080", from: site.outside)
      try host.must("nft flush ruleset")
      try expectAnswer("red", "203.0.113.1:8080", from: site.outside)

      // What is taken back ends at once, also what is under way.
      let stream = try site.outside.start(
        "exec socat -u 'SYSTEM:while sleep 0.2; do echo hello; done' TCP:203.0.113.1:8083")
      defer { stream.signal(SIGKILL) }
      let sink = try red.start("exec socat -u TCP-LISTEN:83,fork,reuseaddr -")
      defer { sink.signal(SIGKILL) }
      try host.ctl("add port eth0@\(red.name) publish 8083:83")
      let second = try site.outside.start(
        "sleep 1; exec socat -u 'SYSTEM:while sleep 0.2; do echo hello; done' TCP:203.0.113.1:8083,retry=20"
      )
      defer { second.signal(SIGKILL) }
      try eventually("something is under way") { sink.standardOutput.contains("hello") }
      try host.ctl("set port eth0@\(red.name) publish=8084:80")
      try expectAnswer("red", "203.0.113.1:8084", from: site.outside)
      let received = sink.standardOutput.utf8.count
      usleep(1_500_000)
      #expect(sink.standardOutput.utf8.count == received)
      #expect(try answer("203.0.113.1:8080", from: site.outside) == "")

      // Who has sent to another before is led to where it is now.
      try host.ctl("add port eth0@\(red.name) publish 5353:53/udp")
      let former = try site.outside.start(
        "while :; do echo hello | socat -t 1 - UDP:203.0.113.1:5353,sourceport=7778,reuseaddr || true; done"
      )
      defer { former.signal(SIGKILL) }
      try eventually("red is asked") { former.standardOutput.contains("names") }
      try host.ctl(
        "remove port eth0@\(red.name) publish 5353:53/udp -- add port eth0@\(neighbor.name) publish 5353:53/udp"
      )
      let moved = try serve(neighbor, "neighbor", at: "UDP-LISTEN:53")
      defer { moved.signal(SIGKILL) }
      try eventually("its neighbor is asked") { former.standardOutput.contains("neighbor") }
      try host.ctl("clear port eth0@\(neighbor.name) publish")

      // With the container it goes.
      try host.ctl("detach \(red.name) eth0 -- detach \(blue.name) eth0")
      try eventually("nothing is left of it") {
        try !host.must("nft list ruleset").contains(/dport (80|443|53)/)
          && host.must("cat /proc/sys/net/ipv4/conf/ovx-gw100/route_localnet") == "0\n"
      }
      // Its successor has another address, which who has asked before is led to as well.
      let next = try lab.namespace("next")
      let names = try serve(next, "next", at: "UDP-LISTEN:53")
      defer { names.signal(SIGKILL) }
      let client = try site.outside.start(
        "while :; do echo hello | socat -t 1 - UDP:203.0.113.1:5353,sourceport=7777,reuseaddr || true; done"
      )
      defer { client.signal(SIGKILL) }
      usleep(500_000)
      try host.ctl("attach red \(next.name) eth0 ip=172.17.42.19/24 publish=5353:53/udp")
      try eventually("who has asked before is answered") {
        client.standardOutput.contains("next is asked by 203.0.113.254")
      }
    }
  }

  @Test func portsOfIPv6ArePublished() throws {
    try run { lab, site in
      let host = site.hosts[0]
      try host.must(
        "sysctl -qw net.ipv6.conf.all.forwarding=1 && ip addr add 2001:db8::1/64 dev wan nodad")
      try site.outside.must("ip addr add 2001:db8::fe/64 dev lan nodad")
      try host.ctl(
        "set network red subnet=172.17.42.0/24,fd42::/64 range=172.17.42.10-172.17.42.19,fd42::10-fd42::19 gateway=172.17.42.1,fd42::1"
      )
      let red = try lab.namespace("red")
      try host.ctl("attach red \(red.name) eth0 publish=8080:80,\"[2001:db8::1]:8081:80\"")
      let service = try serve(red, "red", at: "TCP6-LISTEN:80")
      defer { service.signal(SIGKILL) }
      for (place, container) in [
        ("[2001:db8::1]:8080", site.outside), ("[2001:db8::1]:8081", site.outside),
        ("203.0.113.1:8080", site.outside), ("[2001:db8::1]:8080", host),
        ("[2001:db8::1]:8080", red),
        ("127.0.0.1:8080", host),
      ] {
        try expectAnswer("red", place, from: container)
      }
      #expect(try answer("203.0.113.1:8081", from: site.outside) == "")
      // Which programs try before 127.0.0.1, and go on at once.
      let refused = try host.run("timeout 2 socat - TCP:[::1]:8080")
      #expect(refused.standardError.contains("refused"), "\(refused)")
    }
  }

  /// What a port of the host loses by being published, or lacks for it, is not for the operator to
  /// find out.
  @Test func whatTheHostHasAtAPublishedPortIsToldOf() throws {
    try run { lab, site in
      let host = site.hosts[0]
      let red = try site.attach("red", to: "red", on: 0)
      let service = try host.start("exec socat TCP-LISTEN:22,fork,reuseaddr SYSTEM:'echo host'")
      defer { service.signal(SIGKILL) }
      try expectAnswer("host", "203.0.113.1:22", from: site.outside)
      let port = "eth0@\(red.name)"
      let tunnels = try host.run("ovx-ctl set port \(port) publish=4789:80/udp")
      #expect(!tunnels.succeeded)
      #expect(tunnels.standardError.contains("at UDP port 4789 the host's tunnels receive"))
      let hiding = try host.run("ovx-ctl set port \(port) publish=22:80,192.0.2.7:81:80")
      #expect(hiding.succeeded)
      let sentences = [
        "a service of the host listens at port 22/tcp", "the host has no address 192.0.2.7",
      ]
      for words in sentences { #expect(hiding.standardError.contains(words)) }
      try eventually("the network tells of both, for as long as it is so", within: 20) {
        let shown = try host.ctl("net show red")
        return sentences.allSatisfy(shown.contains)
      }
      service.signal(SIGKILL)
      try host.must("ip addr add 192.0.2.7/32 dev lo")
      try eventually("nothing is wrong any more", within: 20) {
        try host.ctl("get network red error").hasPrefix("[]")
      }
    }
  }
}
