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
      // Somebody else's device in the router.
      let name = "\(site.prefix(0))red"
      try host.must("ip -n \(name) link add mine type bridge && ip -n \(name) link set mine up")
      try expectError("which no gateway has", "down", on: host)
      try expectNoError(of: "blue", on: host)
      try host.must("ip -n \(name) link del mine")
      try expectNoError(on: host)
    }
  }
}
