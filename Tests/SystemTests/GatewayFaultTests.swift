import Foundation
import Glibc
import Testing

/// What is wrong with gateways is seen on their networks, and not only in a log.
extension SystemTests.GatewayTests {
  private func expectError(
    _ words: String, _ state: String, of network: String = "red", on host: Namespace,
    within seconds: Double = 20
  ) throws {
    var shown = ""
    do {
      try eventually("network \(network) says: \(words)", within: seconds) {
        shown = try host.ctl("net show \(network)")
        return shown.contains(words)
      }
    } catch { throw LabError("\(error)\n\(shown)") }
    #expect(
      try host.ctl("get network \(network) status:gateway")
        .trimmingCharacters(in: .whitespacesAndNewlines) == state)
  }

  private func expectNoError(of network: String = "red", on host: Namespace) throws {
    var shown = ""
    do {
      try eventually("nothing is wrong with network \(network)", within: 20) {
        shown = try host.ctl("net show \(network)")
        // A daemon that has just started says neither good nor bad before it was told.
        return try host.ctl("get network \(network) error").hasPrefix("[]")
          && host.ctl("--if-exists get network \(network) status:gateway")
            .trimmingCharacters(in: .whitespacesAndNewlines) == "up"
      }
    } catch { throw LabError("\(error)\n\(shown)") }
  }

  @Test func whatIsNotInstalledIsSeenOnTheNetwork() throws {
    try run(settings: "nat=masquerade dhcp=true") { lab, site in
      let host = site.hosts[0]
      let red = try site.attach("red", to: "red", on: 0)
      try expectWayOut(red)
      try expectNoError(on: host)
      site.stop(0, SIGTERM)
      try site.start(0, without: ["nft"])
      try expectError("error: \"nft is not installed", "down", on: host)
      #expect(try host.ctl("get network blue error").contains("the package nftables"))
      #expect(try host.run("ovx-ctl doctor").standardOutput.contains("gateways of blue, red: nft"))
      #expect(try host.ctl("events").contains("gateways: nft is not installed"))
      #expect(try host.ctl("show").contains("    Network red\n        error: \"nft is not"))
      try site.install("nft", on: 0)
      try expectNoError(on: host)

      site.stop(0, SIGTERM)
      try site.start(0, without: ["dnsmasq"])
      // The router is in force, and what it is to serve is not.
      try expectError("as dnsmasq is not installed", "up", on: host)
      try expectWayOut(red)
      try host.ctl("set network blue dhcp=false")
      try expectNoError(of: "blue", on: host)
      try site.install("dnsmasq", on: 0)
      try expectNoError(on: host)
      #expect(try host.ctl("events").contains("gateway of network red: nothing is wrong any more"))
    }
  }

  @Test func aMakerThatIsGoneIsMissed() throws {
    try run { lab, site in
      let host = site.hosts[0]
      let red = try site.attach("red", to: "red", on: 0)
      try expectWayOut(red)
      try expectNoError(on: host)
      let monitor = try host.start("exec ovx-ctl monitor network")
      defer { monitor.signal(SIGTERM) }
      site.stop(0, SIGKILL)
      try expectError("no ovx-gatewayd runs, so its gateway stays", "unattended", on: host)
      try eventually("who watches is told") {
        monitor.standardOutput.contains("no ovx-gatewayd runs")
      }
      try expectWayOut(red)
      try host.ctl("add-net green vni=300 subnet=10.3.0.0/24 gateway=10.3.0.1")
      try expectError("so nobody makes its gateway", "down", of: "green", on: host)
      try host.ctl("set network green gateway_mode=remote")
      #expect(try host.ctl("get network green error").hasPrefix("[]"))
      #expect(try host.run("ovx-ctl doctor").standardOutput.contains("gateways of blue, red: no"))
      #expect(try host.ctl("events").contains("ovx-gatewayd has ended; 2 networks want a gateway"))
      try site.start(0)
      try expectNoError(on: host)

      // Of a daemon that starts nobody has told anything yet: no network is called ill for that.
      _ = try lab.daemons[0].stop(SIGTERM)
      try lab.daemon(on: host)
      #expect(try host.ctl("get network red error").hasPrefix("[]"))
      try expectNoError(on: host)
      #expect(try !host.ctl("export").contains("error"))
    }
  }

  @Test func whatIsInTheWayIsSeenOnTheNetwork() throws {
    try run { lab, site in
      let host = site.hosts[0]
      let red = try site.attach("red", to: "red", on: 0)
      try expectWayOut(red)
      // A packet filter that comes later, and goes again.
      try host.must(
        "nft add table ip filter && nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'"
      )
      try expectError("chain FORWARD of nftables table ip filter drops", "up", on: host)
      try host.must("nft delete table ip filter")
      try expectNoError(on: host)
      // A network of the provider's in the range of the transit pairs.
      try host.must(
        "ip link add cgn type bridge && ip addr add 100.64.0.9/24 dev cgn && ip link set cgn up")
      try expectError("the host has a route to 100.64.0.0/24 by cgn", "up", on: host)
      try host.ctl("set switch . other_config:gateway-transit=10.200.0.0/16")
      try expectNoError(on: host)
      try expectWayOut(red)
      // A device that is to be the way out, and is none.
      try host.ctl("set switch . other_config:gateway-uplinks=eth7")
      try expectError("names eth7, and the host has no such device", "up", on: host)
      try host.ctl("remove switch . other_config gateway-uplinks")
      try expectNoError(on: host)
      // Somebody else's device in the router.
      let name = "\(site.prefix(0))red"
      try host.must("ip -n \(name) link add mine type bridge && ip -n \(name) link set mine up")
      try expectError("which no gateway has", "down", on: host)
      try expectNoError(of: "blue", on: host)
      try host.must("ip -n \(name) link del mine")
      try expectNoError(on: host)
    }
  }

  /// Where the host would have two ways to one address, a network is refused, and told of what
  /// comes later; where it has none to the tenant's, anything goes.
  @Test func theHostsOwnRoutesAndTenantsSubnetsDoNotMeet() throws {
    try run { lab, site in
      let host = site.hosts[0]
      _ = try lab.announcedNamespace("r0-green")
      func refusal(_ line: String) throws -> String {
        let output = try host.run("ovx-ctl \(line)")
        #expect(!output.succeeded, "\(line)")
        return output.standardError
      }
      try host.must(
        "ip link add docker0 type bridge && ip addr add 10.5.0.1/16 dev docker0 && ip link set docker0 up"
      )
      let routed = "add-net green vni=300 subnet=10.5.7.0/24 gateway=10.5.7.1"
      #expect(try refusal(routed).contains("the host has a route to 10.5.0.0/16 by docker0; nat=m"))
      #expect(
        try refusal(
          "-- set switch . remotes=10.6.0.3 -- add-net green vni=300 subnet=10.6.0.0/24 gateway=10.6.0.1"
        )
        .contains("10.6.0.3 in it is a remote of tunnel vni"))
      #expect(try host.ctl("list-nets").contains("green") == false)
      // With the host's address outside: members have a neighbor's address, and are asked by one
      // who has an address of theirs.
      let said = try host.run(
        "ovx-ctl add-net green vni=300 subnet=203.0.113.0/24 gateway=203.0.113.77 nat=masquerade")
      #expect(said.succeeded)
      #expect(said.standardError.contains("and the host has a route to 203.0.113.0/24 by wan"))
      let green = try lab.namespace("green")
      try host.ctl("attach green \(green.name) eth0 publish=8080:80")
      try expectWayOut(green)
      let service = try green.start(
        "exec socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'echo green is asked'")
      defer { service.signal(SIGKILL) }
      try eventually("who has an address of the subnet is answered") {
        try site.outside.run("timeout 2 socat -t 1 - TCP:203.0.113.1:8080,connect-timeout=1")
          .standardOutput.contains("green is asked")
      }
      try host.ctl("detach \(green.name) eth0 -- del-net green")
      // What comes later is told of, for as long as it is there.
      try host.must("ip link del docker0")
      try host.ctl(routed)
      try expectNoError(of: "green", on: host)
      try host.must(
        "ip link add docker0 type bridge && ip addr add 10.5.0.1/16 dev docker0 && ip link set docker0 up"
      )
      try expectError("a route to 10.5.0.0/16 by docker0 beside", "up", of: "green", on: host)
      // Nobody is kept from changing something else.
      try host.ctl("set network green mtu_request=1400")
      try host.must("ip link del docker0 && ip addr add 10.5.7.9/32 dev lo")
      try expectError("the address 10.5.7.9 beside", "up", of: "green", on: host)
      try host.must("ip addr del 10.5.7.9/32 dev lo")
      try expectNoError(of: "green", on: host)
    }
  }
}
