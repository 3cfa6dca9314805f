import OVXControl
import OVXDatapath
import OVXLinux
import Testing

@testable import ovx_gatewayd

/// What dnsmasq is told of a network, and of its members.
@Suite struct ServiceTests {
  private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
  private func station(_ text: String) throws -> MACAddress { try #require(MACAddress(text)) }

  private func configuration(
    dhcp: Bool = true, dns: Bool = true, domain: String? = "red.example", resolvers: [String] = [],
    subnets: [String] = ["172.17.42.0/23"], gateways: [String] = ["172.17.42.1"]
  ) throws -> DnsmasqConfiguration {
    DnsmasqConfiguration(
      gateway: try gateway(
        subnets, gateways, Services(dhcp: dhcp, dns: dns, domain: domain)), device: 7,
      place: try NetworkNamespace.current().identity, deviceMTU: 1450,
      resolvers: try resolvers.map(address), directory: "/run/ovx/dnsmasq-red")
  }

  private func gateway(
    _ subnets: [String], _ addresses: [String], _ services: Services
  ) throws -> Gateway {
    Gateway(
      network: "red", vni: try #require(VNI(rawValue: 100)),
      subnets: try subnets.map { try #require(IPPrefix($0)) },
      addresses: try addresses.map(address), nat: .masquerade, services: services)
  }

  private func lines(_ configuration: DnsmasqConfiguration) -> [String] {
    configuration.text.split(separator: "\n").map(String.init)
  }

  @Test func onlyWhatIsAskedForIsServed() throws {
    let all = lines(try configuration(resolvers: ["9.9.9.9"]))
    for line in [
      "interface=tenant", "bind-interfaces", "no-resolv", "no-hosts", "domain=red.example",
      "local=/red.example/", "server=9.9.9.9@outside",
      "dhcp-range=172.17.42.0,static,255.255.254.0,1h", "dhcp-ignore-names", "leasefile-ro",
      "dhcp-option=option:router,172.17.42.1", "dhcp-option=option:dns-server,172.17.42.1",
      "dhcp-option=option:mtu,1450",
    ] {
      #expect(all.contains(line), "\(line)")
    }
    let addresses = lines(try configuration(dns: false, domain: nil))
    #expect(addresses.contains("port=0") && addresses.contains("dhcp-option=option:dns-server"))
    #expect(!addresses.contains { $0.hasPrefix("domain=") || $0.hasPrefix("addn-hosts") })
    let names = lines(try configuration(dhcp: false))
    #expect(!names.contains { $0.hasPrefix("dhcp") || $0.hasPrefix("server=") })
  }

  @Test func iPv6IsServedBesideOrAlone() throws {
    let subnets = ["172.17.42.0/24", "fd42::/64", "fd43:0:0:1::/80", "fd44::/48"]
    let both = lines(
      try configuration(subnets: subnets, gateways: ["172.17.42.1", "fd43:0:0:1::1"]))
    for line in [
      "dhcp-range=172.17.42.0,static,255.255.255.0,1h", "dhcp-range=fd42::,static,64,10m",
      "dhcp-range=fd43:0:0:1::,static,80,10m", "shared-network=tenant,fd42::", "enable-ra",
      "ra-param=tenant,mtu:1450,0", "dhcp-duid=0,02:6f:76:00:00:64",
      "dhcp-option=option6:dns-server,[fd43:0:0:1::1]",
      "dhcp-option=option6:domain-search,red.example",
    ] {
      #expect(both.contains(line), "\(line)")
    }
    #expect(!both.contains { $0.contains("fd44") || $0.hasPrefix("shared-network=tenant,fd43") })
    let alone = lines(
      try configuration(
        dns: false, domain: nil, subnets: ["172.17.42.0/24", "fd42::/64"], gateways: ["fd42::1"]))
    #expect(alone.contains("dhcp-range=fd42::,static,64,10m") && alone.contains("leasefile-ro"))
    #expect(alone.contains("dhcp-option=option6:dns-server"))
    #expect(!alone.contains { $0.contains("172.17.42") || $0.contains("domain-search") })
    // One that is wider than dnsmasq knows them would keep it from starting.
    for gateways in [["172.17.42.1"], ["172.17.42.1", "fd44::1"]] {
      let without = lines(try configuration(subnets: subnets, gateways: gateways))
      #expect(!without.contains { $0.contains("fd4") || $0 == "enable-ra" })
      #expect(without.contains("dhcp-range=172.17.42.0,static,255.255.255.0,1h"))
    }
  }

  @Test func nothingOfADomainGetsIntoAnotherLine() throws {
    for domain in ["a\naddress=/#/1.2.3.4", "a,b", "a b", "", "a/b", "#"] {
      let text = try configuration(domain: domain).text
      #expect(text == (try configuration(domain: nil)).text, "\(domain)")
    }
  }

  @Test(arguments: [
    ("eth0@web1", "web1"), ("eth0@Web_1~2", "web-1-2"), ("eth0@-", nil), ("veth7", "veth7"),
    ("eth0@a\nb", "a-b"), ("eth0@bär", "b-r"),
  ])
  func aPortHasAName(_ port: String, _ name: String?) {
    #expect(Member.name(ofPort: port) == name)
  }

  @Test func membersAreNamed() throws {
    let members = [
      Member(
        station: nil, name: "web", addresses: [try address("172.17.42.10"), try address("fd42::a")]),
      Member(station: nil, name: nil, addresses: [try address("172.17.42.11")]),
    ]
    #expect(
      try configuration().names(of: members)
        == "172.17.42.10 web.red.example web\nfd42::a web.red.example web\n")
    #expect(
      try configuration(domain: nil).names(of: members) == "172.17.42.10 web\nfd42::a web\n")
  }

  // MARK: Leases

  private func leases(
    _ members: [Member], after old: Leases = Leases(), subnets: [String] = ["172.17.42.0/24"],
    gateways: [String] = ["172.17.42.1"]
  ) throws -> Leases {
    Leases(
      members,
      of: try gateway(subnets, gateways, Services(dhcp: true, dns: false, domain: nil)), after: old)
  }

  private func member(
    _ station: String?, _ addresses: String..., isRemote: Bool = false
  ) throws -> Member {
    Member(
      station: try station.map(self.station), addresses: try addresses.map(address),
      isRemote: isRemote)
  }

  @Test func onlyWhatWasAssignedIsGiven() throws {
    let a = "02:00:00:00:00:0a"
    let b = "02:00:00:00:00:0b"
    let c = "02:00:00:00:00:0c"
    let leases = try leases([
      member(b, "172.17.42.10", isRemote: true), member(a, "172.17.42.1", "172.17.42.10"),
      member(nil, "172.17.42.12"), member(c, "10.0.0.1", "fd42::1", "172.17.42.0", "172.17.42.255"),
      member(b, "172.17.42.11", isRemote: true), member("03:00:00:00:00:01", "172.17.42.13"),
    ])
    #expect(leases.text == "\(a),172.17.42.10\n\(b),172.17.42.11,set:remote\n")
    #expect(Leases(leases.text) == leases && !leases.isContradicting)
  }

  @Test func oneAddressOfEachIPv6SubnetIsGiven() throws {
    let a = "02:00:00:00:00:0a"
    let b = "02:00:00:00:00:0b"
    let c = "02:00:00:00:00:0c"
    let subnets = ["172.17.42.0/24", "fd42::/64", "fd43::/64", "fd44::/48"]
    let gateways = ["172.17.42.1", "fd42::1"]
    func leases(_ members: [Member], after old: Leases = Leases()) throws -> Leases {
      try self.leases(members, after: old, subnets: subnets, gateways: gateways)
    }
    let found = try leases([
      member(a, "fd43::a", "172.17.42.10", "fd42::a", "fd42::b", "fd42::1", "fe80::1"),
      member(b, "fd42::a", "fd42::", "fd44::1", "fd42::c"), member(c, "fd43::b", isRemote: true),
      member(a, "fd42::d", "fd42::a", isRemote: true),
    ])
    #expect(
      found.text
        == "\(a),172.17.42.10\n\(a),[fd42::a],[fd43::a]\n\(b),[fd42::c]\n\(c),[fd43::b],set:remote\n"
    )
    #expect(try Leases(found.text) == found && found.clients == Set([a, b, c].map(station)))
    // What was another's is known as that, and what is told of others is forgotten for those here.
    let next = try leases([member(b, "fd42::a"), member(c, "fd42::9")], after: found)
    #expect(next.text.contains("\n\(b),[fd42::a]\n") && next.text.contains("# \(a),fd42::a\n"))
    #expect(next.isContradicting && Leases(next.text) == next)
    #expect(try next.clients == Set([b, c].map(station)) && !next.text.contains("remote"))
    // Without a gateway of the family nothing is given.
    let none = try self.leases(
      [member(a, "fd43::a", "172.17.42.10")], subnets: subnets, gateways: ["172.17.42.1"])
    #expect(none.text == "\(a),172.17.42.10\n" && none.clients.isEmpty)
  }

  @Test func whoIsSilentIsStillThere() throws {
    let a = "02:00:00:00:00:0a"
    let b = "02:00:00:00:00:0b"
    let known = try leases([member(a, "172.17.42.10", isRemote: true), member(b, "172.17.42.11")])
    let later = try leases([], after: known)
    #expect(later.text == "# \(b),172.17.42.11\n\(a),172.17.42.10,set:remote\n")
    #expect(!later.isContradicting && Leases(later.text) == later)
    // Whom dnsmasq remembers keeps its address from the next one who is given it.
    let next = try leases([member(a, "172.17.42.11")], after: later)
    #expect(next.stations == [try address("172.17.42.11"): try station(a)])
    #expect(next.isContradicting && !next.withoutFormer.isContradicting)
    // Who comes back is remembered rightly.
    #expect(try !leases([member(b, "172.17.42.11")], after: later).isContradicting)
  }

  @Test func aStrangeFileIsNone() {
    #expect(
      Leases("# \n,,\nx,y\n02:00:00:00:00:0a\n#,1.2.3.4\n02:00:00:00:00:0a,[],[x").text == "")
  }

  // MARK: Resolvers

  @Test func theHostsOwnAreNotAsked() throws {
    let text = """
      # nameserver 1.1.1.1
      search example
      nameserver 127.0.0.53
      nameserver ::1
      nameserver fe80::1%eth0
      nameserver fe80::1
      nameserver 169.254.169.253
      nameserver 100.64.0.1
      nameserver 192.168.5.2
      nameserver 0.0.0.0
      nameserver ::ffff:127.0.0.1
      nameserver x@outside
      nameserver\t9.9.9.9
      nameserver 9.9.9.9
      nameserver 2001:db8::1
      nameserver 8.8.8.8
      nameserver 8.8.4.4
      """
    let found = Resolvers.usable(
      in: text, own: [try address("192.168.5.2")], closed: [try #require(IPPrefix("100.64.0.0/10"))]
    )
    #expect(found.map(\.description) == ["9.9.9.9", "2001:db8::1", "8.8.8.8"])
  }
}
