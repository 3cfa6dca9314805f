import Foundation
import Glibc
import Testing

/// Router advertisements and DHCPv6 of gateways: the router for everybody, and for each member the
/// addresses that it has.
extension SystemTests.GatewayTests {
  private static let dualStack =
    "subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1,fd42::1 dhcp=true dns=true domain=red.example"
  /// The link-local address of red's gateway, on all hosts.
  private static let router = "fe80::6f:76ff:fe00:64"

  /// A client that asks for IPv6 addresses, and takes those that it is given.
  private struct Client {
    let process: Command
    let output: String

    /// What it was told last.
    var told: String { (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }
  }

  /// Starts a client of a container's `eth0`, which loses the addresses that it has, and what it
  /// knows of routers.
  private func client(_ container: Namespace, _ host: Namespace) throws -> Client {
    let program = try Command([
      Lab.packageRoot.appendingPathComponent("deploy/find-dhclient").path
    ])
    .finish(seconds: 120).standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
    let files = "\(host.rundir)/\(container.name)"
    try """
    #!/bin/sh
    case $reason in
    PREINIT6)
      for attempt in $(seq 100); do
        ip -6 addr show dev $interface scope link | grep inet6 | grep -qv tentative && exit 0
        sleep 0.1
      done ;;
    BOUND6 | REBIND6 | RENEW6)
      ip -6 addr replace $new_ip6_address/$new_ip6_prefixlen dev $interface nodad
      echo "$new_ip6_address dns=$new_dhcp6_name_servers domain=$new_dhcp6_domain_search" >> \(files).told ;;
    esac
    """.write(toFile: "\(files).script", atomically: true, encoding: .utf8)
    try container.must(
      """
      chmod 755 \(files).script; rm -f \(files).told
      ip -6 addr flush dev eth0 scope global; ip link set eth0 down; ip link set eth0 up
      """)
    let process = try container.start(
      "exec \(program) -6 -1 -d -cf /dev/null -sf \(files).script -lf \(files).leases -pf \(files).pid eth0"
    )
    return Client(process: process, output: "\(files).told")
  }

  private func expectAddresses(
    _ expected: [String], to container: Namespace, _ host: Namespace, _ parts: String...
  ) throws {
    let client = try client(container, host)
    defer {
      client.process.signal(SIGTERM)
      _ = client.process.wait(seconds: 5)
    }
    do {
      try eventually("\(container.name) is given \(expected)", within: 30) {
        let told = client.told
        return (expected.map { "\($0) " } + parts).allSatisfy(told.contains)
      }
    } catch { throw LabError("\(error)\n\(client.told)\n\(client.process.standardError)") }
    let given = Set(
      client.told.split(separator: "\n").compactMap { $0.split(separator: " ").first })
    #expect(given == Set(expected.map { $0[...] }), "and no others")
  }

  /// What the kernel of a container has been told by routers.
  private func expectRouter(of container: Namespace) throws {
    var routes = ""
    do {
      try eventually("\(container.name) knows the router") {
        routes = try container.must("ip -6 route show default")
        return routes.contains("default via \(Self.router) dev eth0 proto ra")
      }
    } catch { throw LabError("\(error)\n\(routes)") }
    let addresses = try container.must("ip -6 addr show dev eth0")
    #expect(!addresses.contains("dynamic"), "nobody has made itself an address: \(addresses)")
  }

  private func told(_ container: Namespace, _ words: String) throws -> [String] {
    let lines = try container.run("python3 $TRAFFIC/dhcp6.py eth0 \(words)", seconds: 30)
      .standardOutput.split(separator: "\n").map(String.init)
    #expect(lines.last == "end", "it has run")
    return lines.dropLast()
  }

  private func station(_ container: Namespace) throws -> String {
    try container.must("cat /sys/class/net/eth0/address").trimmingCharacters(
      in: .whitespacesAndNewlines)
  }

  /// Members of TAPs and of veths, attached and not, on both hosts of a distributed gateway.
  @Test(arguments: [false, true])
  func membersAreToldOfTheRouterAndGivenWhatTheyHave(isConfined: Bool) throws {
    try run(isConfined: isConfined) { lab, site in
      let sniffer = try site.hosts[0].start(
        "exec tcpdump -lnnei eth0 udp port 4789 and 'ether[50:4] = 0x026f7600 or ether[56:4] = 0x026f7600'"
      )
      defer { sniffer.signal(SIGTERM) }
      for host in site.hosts { try host.ctl("set network red \(Self.dualStack)") }
      let (near, far) = (try lab.namespace("near"), try lab.namespace("far"))
      try site.hosts[0].ctl(
        "attach red \(near.name) eth0 kind=veth ip=172.17.42.10/24,fd42::a/64")
      try site.hosts[1].ctl("attach red \(far.name) eth0 kind=tap ip=172.17.42.20/24,fd42::b/64")
      // The host's own port in the network is no host that takes routers' word.
      try site.hosts[0].ctl(
        "add-port br0 own type=internal network=red addresses=172.17.42.99/24,fd42::99/64")
      for container in [near, far] { try expectRouter(of: container) }
      try expectAddresses(
        ["fd42::a"], to: near, site.hosts[0], "dns=fd42::1 ", "domain=red.example")
      try expectAddresses(["fd42::b"], to: far, site.hosts[1])
      try near.expectPing("fd42::1", attempts: 3)
      try near.expectPing("fd42::b", attempts: 3)
      let routes = try site.hosts[0].must("ip -6 route show default; ip -6 addr show dev own")
      #expect(!routes.contains("proto ra") && !routes.contains("dynamic"), "\(routes)")
      #expect(!sniffer.standardOutput.contains("02:6f:76:00:00:64"), "\(sniffer.standardOutput)")

      // A port to which nobody has given an address is given none, and then what it is told it may
      // have.
      let machine = try lab.vethContainer("vm1", on: site.hosts[0], address: "10.99.0.2/24")
      try site.hosts[0].ctl("add-port br0 vm1 network=red")
      #expect(try told(machine, "solicit") == [])
      try expectRouter(of: machine)
      // Its device lets larger packets pass than the overlay does.
      try machine.must(
        "ip link set eth0 mtu 1500; ip link set eth0 down; ip link set eth0 up")
      let mtu = try near.must("cat /sys/class/net/eth0/mtu")
      #expect(mtu != "1500\n")
      try eventually("it is told of the MTU") {
        try machine.must("cat /proc/sys/net/ipv6/conf/eth0/mtu") == mtu
      }
      try site.hosts[0].ctl(
        "set port vm1 allowed_addresses=\"\(try station(machine))\",172.17.42.77,\"fd42::77\"")
      try expectAddresses(["fd42::77"], to: machine, site.hosts[0])
      // Who has the address after another gets it at once.
      try site.hosts[0].ctl("detach \(near.name) eth0")
      let next = try lab.namespace("nxt")
      try site.hosts[0].ctl("attach red \(next.name) eth0 ip=172.17.42.10/24,fd42::a/64")
      try expectAddresses(["fd42::a"], to: next, site.hosts[0])
    }
  }

  /// IPv6 alone, and addresses of two subnets, of which the gateway is in one; of a central
  /// gateway, too.
  @Test func severalSubnetsAndNoIPv4() throws {
    try run(settings: "gateway_mode=remote") { lab, site in
      let subnets = "subnet=fd42::/64,fd43::/64 gateway=fd42::1"
      try site.hosts[0].ctl(
        "clear network red range -- set network red gateway_mode=central dhcp=true \(subnets)")
      try site.hosts[1].ctl("clear network red range -- set network red \(subnets)")
      let (near, far) = (try lab.namespace("near"), try lab.namespace("far"))
      try site.hosts[0].ctl("attach red \(near.name) eth0 ip=fd42::a/64,fd43::a/64")
      try site.hosts[1].ctl("attach red \(far.name) eth0 ip=fd43::b/64")
      for container in [near, far] { try expectRouter(of: container) }
      try expectAddresses(["fd42::a", "fd43::a"], to: near, site.hosts[0])
      try expectAddresses(["fd43::b"], to: far, site.hosts[1])
      // The other subnet is on the link as well, though nobody has told the member so: its router
      // does.
      try near.expectPing("fd43::b", attempts: 5)
      // What is wider than dnsmasq knows it is said so, and all else goes on.
      try site.hosts[0].ctl("set network red subnet=fd42::/64,fd43::/64,fd44::/48")
      try eventually("it is told") {
        try site.hosts[0].ctl("get network red error").contains("fd44::/48 are not given by DHCP")
      }
      try expectAddresses(["fd42::a", "fd43::a"], to: near, site.hosts[0])
    }
  }

  /// What a member asks for is nobody else's, and what it asks without end keeps nobody from being
  /// answered.
  @Test(arguments: [true, false])
  func whoAsksForOthersAddressesGetsNone(portSecurity: Bool) throws {
    try run { lab, site in
      let host = site.hosts[0]
      try host.ctl("set network red port_security=\(portSecurity) \(Self.dualStack)")
      let (web, evil) = (try lab.namespace("web"), try lab.namespace("evil"))
      try host.ctl("attach red \(web.name) eth0 ip=172.17.42.10/24,fd42::a/64")
      try host.ctl("attach red \(evil.name) eth0 ip=172.17.42.11/24,fd42::b/64")
      try expectAddresses(["fd42::b"], to: evil, host)
      for words in ["rebind fd42::a", "rebind fd42::77", "relay \(try station(web))"] {
        #expect(try told(evil, words) == [], "\(words)")
      }
      try expectAddresses(["fd42::a"], to: web, host)
      // It says nothing of itself either when it is looked for among the neighbors.
      try evil.must(
        """
        nft add table ip6 mute
        nft add chain ip6 mute input '{ type filter hook input priority 0; }'
        nft add rule ip6 mute input icmpv6 type nd-neighbor-solicit drop
        """)
      let flood = try evil.start("exec python3 $TRAFFIC/dhcp6.py eth0 flood 60")
      defer { flood.signal(SIGKILL) }
      try eventually("it asks without end") { flood.standardOutput.contains("begin") }
      try expectAddresses(["fd42::a"], to: web, host)
      for _ in 0..<5 {
        try eventually("names are told") {
          try web.run("timeout 2 \(busybox()) nslookup \(web.name).red.example 172.17.42.1")
            .standardOutput.contains("172.17.42.10")
        }
      }
      #expect(flood.isRunning, "it asks still")
    }
  }
}
