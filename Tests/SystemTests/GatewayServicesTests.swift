import Foundation
import Glibc
import Testing

/// What gateways serve to the members of their networks: addresses by DHCP, and names.
extension SystemTests.GatewayTests {
  private static let settings = "nat=masquerade dhcp=true dns=true domain=red.example"

  /// Asks for an address, as a real client does, and takes it.
  ///
  /// - Parameters:
  ///   - container: Whose `eth0` it is for, which loses the addresses that it has.
  ///   - device: The device.
  /// - Returns: What the client was told; `nil` where nobody answered.
  /// - Throws: That the client could not be run.
  private func lease(_ container: Namespace, _ device: String = "eth0") throws -> String? {
    let script = container.rundir + "/udhcpc"
    try """
    #!/bin/sh
    [ "$1" = bound ] || exit 0
    echo "ip=$ip/$mask router=$router dns=$dns mtu=$mtu domain=$domain"
    ip addr add "$ip/$mask" dev "$interface" && ip route add default via "$router"
    """.write(toFile: script, atomically: true, encoding: .utf8)
    let output = try container.run(
      """
      chmod 755 \(script)
      ip -4 addr flush dev \(device)
      \(try busybox()) udhcpc -i \(device) -n -q -f -t 3 -T 1 -A 1 -O mtu -O domain -O dns -s \(script)
      """, seconds: 20)
    return output.standardOutput.split(separator: "\n").first { $0.hasPrefix("ip=") }.map(
      String.init)
  }

  func busybox() throws -> String {
    try Command([Lab.packageRoot.appendingPathComponent("deploy/find-busybox").path])
      .finish(seconds: 120).standardOutput.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// What the gateway answers to a question for a name.
  private func answer(_ name: String, to container: Namespace) throws -> String {
    let output = try container.run("timeout 5 \(try busybox()) nslookup \(name) 172.17.42.1 2>&1")
    return output.standardOutput
  }

  private func expectAnswer(
    _ part: String, for name: String, to container: Namespace
  ) throws {
    var last = ""
    do {
      try eventually("\(name) is told to \(container.name) as \(part)") {
        last = try answer(name, to: container)
        return last.contains(part)
      }
    } catch { throw LabError("\(error)\n\(last)") }
  }

  private func expectLease(_ parts: [String], to container: Namespace) throws {
    var last: String?
    do {
      try eventually("\(container.name) is given \(parts)", within: 20) {
        last = try lease(container)
        return last.map { told in parts.allSatisfy(told.contains) } ?? false
      }
    } catch { throw LabError("\(error)\n\(last ?? "no answer")") }
  }

  /// The processes of dnsmasq for a network of a host that are nobody's children but init's.
  private func servers(_ site: Site, _ index: Int, _ network: String) throws -> [pid_t] {
    try Command(["pgrep", "-f", "conf-file=\(site.hosts[index].rundir)/dnsmasq-\(network)/"])
      .finish(seconds: 5).standardOutput.split(separator: "\n").compactMap { pid_t($0) }
  }

  /// With no more system calls and capabilities than the unit file leaves it, all of it works.
  @Test func withTheRightsOfTheUnit() throws {
    try run(settings: Self.settings, isConfined: true) { lab, site in
      let web = try site.attach("web", to: "red", on: 0)
      let other = try site.attach("other", to: "blue", on: 0)
      // Somebody to ask for other names, which takes rights as well.
      try "nameserver 198.51.100.1\n".write(
        toFile: site.hosts[0].rundir + "/resolv.conf", atomically: true, encoding: .utf8)
      try eventually("it asks for other names") {
        let configuration = site.hosts[0].rundir + "/dnsmasq-red/conf"
        return try site.hosts[0].run("cat \(configuration)").standardOutput.contains(
          "server=198.51.100.1@outside")
      }
      for container in [web, other] { try expectWayOut(container) }
      try expectLease(["ip=172.17.42.10/24", "dns=172.17.42.1"], to: web)
      try expectAnswer("172.17.42.10", for: "\(web.name).red.example", to: web)
      site.stop(0, SIGKILL)
      try site.start(0)
      try expectWayOut(web)
      try site.hosts[0].ctl("detach \(other.name) eth0 -- del-net blue")
      try eventually("the router has gone") {
        try !site.hosts[0].must("ip netns list").contains("\(site.prefix(0))blue")
      }
    }
  }

  @Test func membersAreGivenWhatTheyHave() throws {
    try run(settings: Self.settings) { lab, site in
      let web = try site.attach("web", to: "red", on: 0)
      let other = try site.attach("oth", to: "blue", on: 0)
      let mtu = try web.must("cat /sys/class/net/eth0/mtu")
        .trimmingCharacters(in: .whitespacesAndNewlines)
      for container in [web, other] {
        try expectLease(
          [
            "ip=172.17.42.10/24 ", "router=172.17.42.1 ", "dns=172.17.42.1 ", "mtu=\(mtu) ",
            "domain=red.example",
          ], to: container)
        try expectWayOut(container)
      }
      // A port to which nobody has given an address is given none, and then what it is told it may
      // have.
      let machine = try lab.vethContainer("vm1", on: site.hosts[0], address: "10.99.0.2/24")
      try site.hosts[0].ctl("add-port br0 vm1 network=red")
      #expect(try lease(machine) == nil)
      let station = try machine.must("cat /sys/class/net/eth0/address")
        .trimmingCharacters(in: .whitespacesAndNewlines)
      try site.hosts[0].ctl(
        "set port vm1 allowed_addresses=\"\(station)\",172.17.42.77")
      try expectLease(["ip=172.17.42.77/24 "], to: machine)
      // Who has the address after another gets it at once.
      try site.hosts[0].ctl("detach \(web.name) eth0")
      let next = try lab.namespace("nxt")
      try site.hosts[0].ctl("attach red \(next.name) eth0 ip=172.17.42.10/24")
      try expectLease(["ip=172.17.42.10/24 "], to: next)
    }
  }

  @Test func namesAreTold() throws {
    try run(settings: Self.settings) { lab, site in
      let resolver = try site.outside.start(
        "exec dnsmasq --no-daemon --conf-file=/dev/null --no-hosts --no-resolv --pid-file --user=root "
          + "--address=/example.org/192.0.2.55 --listen-address=198.51.100.1 --bind-interfaces")
      defer { resolver.signal(SIGTERM) }
      try "nameserver 127.0.0.1\nnameserver 203.0.113.1\nnameserver 198.51.100.1\n".write(
        toFile: site.hosts[0].rundir + "/resolv.conf", atomically: true, encoding: .utf8)
      let web = try site.attach("web", to: "red", on: 0)
      let db = try site.attach("db", to: "red", on: 0)
      try expectAnswer("172.17.42.11", for: "\(db.name).red.example", to: web)
      try expectAnswer("172.17.42.10", for: web.name, to: db)
      try expectAnswer("192.0.2.55", for: "www.example.org", to: web)
      let before = try servers(site, 0, "red")
      // Blue knows nothing of red.
      let blue = try site.attach("blu", to: "blue", on: 0)
      try expectAnswer("172.17.42.10", for: "\(blue.name).red.example", to: blue)
      try expectAnswer("NXDOMAIN", for: "\(web.name).red.example", to: blue)
      // Members come and go, and the server stays.
      let new = try site.attach("new", to: "red", on: 0)
      try expectAnswer("172.17.42.12", for: "\(new.name).red.example", to: web)
      try site.hosts[0].ctl("detach \(db.name) eth0")
      try expectAnswer("NXDOMAIN", for: "\(db.name).red.example", to: web)
      #expect(try servers(site, 0, "red") == before)
      // Nobody is asked outside for a tenant that does not get there.
      try site.hosts[0].ctl(
        "set network red nat=none -- set network blue nat=none dhcp=false dns=false -- clear network blue gateway"
      )
      try expectAnswer("REFUSED", for: "www.example.org", to: web)
      try expectAnswer("172.17.42.12", for: "\(new.name).red.example", to: web)
    }
  }

  @Test func aCentralGatewayServesMembersOfAllHosts() throws {
    try run(settings: "gateway_mode=remote") { lab, site in
      try site.hosts[0].ctl("set network red gateway_mode=central \(Self.settings)")
      let far = try site.attach("far", to: "red", on: 1)
      let near = try site.attach("nea", to: "red", on: 0)
      try expectLease(["ip=172.17.42.20/24 ", "router=172.17.42.1 "], to: far)
      try expectLease(["ip=172.17.42.10/24 "], to: near)
      try expectWayOut(far)
      try expectAnswer("172.17.42.10", for: "\(near.name).red.example", to: far)
    }
  }

  @Test func whatIsKilledIsServedAgain() throws {
    try run(settings: Self.settings) { lab, site in
      let web = try site.attach("web", to: "red", on: 0)
      let name = "\(web.name).red.example"
      try expectAnswer("172.17.42.10", for: name, to: web)
      let first = try servers(site, 0, "red")
      #expect(first.count == 1)
      // Who serves a connection that a member keeps open outlives the server, and passes for none.
      let connection = try web.start("sleep 60 | socat - TCP:172.17.42.1:53")
      defer { connection.signal(SIGTERM) }
      try eventually("a connection is served") { try servers(site, 0, "red").count == 2 }
      let both = try servers(site, 0, "red")
      kill(first[0], SIGKILL)
      try eventually("another is there") {
        let now = try servers(site, 0, "red")
        return now.count == 1 && !both.contains(now[0])
      }
      try expectAnswer("172.17.42.10", for: name, to: web)
      // It goes on without its maker, who finds it again.
      let second = try servers(site, 0, "red")
      site.stop(0, SIGKILL)
      #expect(try answer(name, to: web).contains("172.17.42.10"))
      try site.start(0)
      let db = try site.attach("db", to: "red", on: 0)
      try expectAnswer("172.17.42.11", for: "\(db.name).red.example", to: web)
      #expect(try servers(site, 0, "red") == second)
      // What was removed meanwhile goes.
      site.stop(0, SIGKILL)
      for container in [web, db] { try site.hosts[0].ctl("detach \(container.name) eth0") }
      try site.hosts[0].ctl("del-net red")
      try site.start(0)
      try eventually("nothing is left") {
        try servers(site, 0, "red").isEmpty
          && !site.hosts[0].must("ls \(site.hosts[0].rundir)").contains("dnsmasq-red")
          && !site.hosts[0].must("ip netns list").contains("r0-red")
      }
      #expect(try servers(site, 0, "blue").count == 1)
      try site.hosts[0].ctl("set network blue dhcp=false dns=false")
      try eventually("it serves no more") { try servers(site, 0, "blue").isEmpty }
    }
  }
}
