import OVXDatapath
import Testing

@testable import OVXControl
@testable import ovx_ctl

/// `publish`: ports of the host that lead to members of networks, and what is refused.
@Suite struct PublishedPortTests {
  private func bench(_ lines: String...) throws -> Workbench {
    var bench = try Workbench(
      "add-net red vni=100 subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1",
      "add-net blue vni=200 subnet=172.17.42.0/24 gateway=172.17.42.1",
      "add-net bare vni=300 subnet=172.17.43.0/24",
      "add-net far vni=400 subnet=172.17.44.0/24 gateway=172.17.44.1 gateway_mode=remote")
    for line in lines { try bench.run(line) }
    return bench
  }

  // MARK: Words

  @Test(arguments: [
    ("8080:80", "8080:80/tcp"), ("8080:80/udp", "8080:80/udp"), ("1:65535/sctp", "1:65535/sctp"),
    ("203.0.113.1:53:53/udp", "203.0.113.1:53:53/udp"), ("0.0.0.0:8080:80", "0.0.0.0:8080:80/tcp"),
    ("[2001:db8::1]:8080:80", "[2001:db8::1]:8080:80/tcp"), ("[::]:8080:80", "[::]:8080:80/tcp"),
    ("080:080", "80:80/tcp"),
  ])
  func words(_ text: String, _ written: String) throws {
    let published = try #require(PublishedPort(text))
    #expect(published.description == written)
    #expect(PublishedPort(written) == published)
  }

  @Test(arguments: [
    "", "80", ":80", "80:", "0:80", "80:0", "65536:80", "80:65536", "8080:80/icmp", "8080:80/",
    "8080:80/tcp/udp", "+80:80", "-1:80", " 80:80", "8080-8081:80", "1.2.3:80:80",
    "2001:db8::1:8080:80", "[203.0.113.1]:80:80", "[2001:db8::1:8080:80", "224.0.0.1:80:80",
    "255.255.255.255:80:80", "[ff02::1]:80:80", "x:80:80", "8080:80:", "::80:80", "٨٠:80",
    "8080:80/TCP",
  ])
  func noWords(_ text: String) {
    #expect(PublishedPort(text) == nil)
  }

  // MARK: What is accepted

  @Test func itIsAColumn() throws {
    var bench = try bench("attach red c1 eth0 publish=8080:80,5353:53/udp")
    #expect(
      try bench.output("get port eth0@c1 publish") == "[\"5353:53/udp\", \"8080:80/tcp\"]\n")
    try bench.run("add port eth0@c1 publish 203.0.113.1:443:443")
    try bench.run("remove port eth0@c1 publish 8080:80/tcp")
    #expect(
      bench.configuration.ports["eth0@c1"]?.published.map(\.description)
        == ["203.0.113.1:443:443/tcp", "5353:53/udp"])
    try bench.run("clear port eth0@c1 publish")
    #expect(bench.configuration.ports["eth0@c1"]?.published == [])
    try bench.run(["set", "port", "eth0@c1", "publish=[\"0.0.0.0:8080:80\"]"])
    // What it has once it is detached is nobody's.
    try bench.run("detach c1 eth0")
    try bench.run("attach blue c2 eth0 publish=8080:80")
  }

  @Test func whoOverlapsIsRefused() throws {
    var bench = try bench("attach red c1 eth0 publish=8080:80,203.0.113.1:53:53/udp")
    try bench.run("attach blue c2 eth0 publish=8080:80/udp,8081:80,203.0.113.2:53:53/udp")
    #expect(
      bench.refusal("set port eth0@c2 publish=8080:81")
        == "port eth0@c2 cannot publish 8080:81/tcp, as port eth0@c1 of network red publishes 8080:80/tcp; take another "
        + "port of the host")
    for line in [
      "set port eth0@c2 publish=203.0.113.7:8080:81", "add port eth0@c2 publish 53:53/udp",
      "attach blue c3 eth0 publish=0.0.0.0:53:53/udp", "set port eth0@c1 publish=1:2,1:3",
    ] {
      #expect(bench.refusal(line).contains("cannot publish"), "\(line)")
    }
    #expect(
      bench.refusal("set port eth0@c1 publish=0.0.0.0:53:53/udp").contains("cannot publish"))
    // Of another family nothing overlaps.
    try bench.run("set network red gateway=172.17.42.1,fd42::1")
    try bench.run("detach c1 eth0")
    try bench.run(["attach", "red", "c1", "eth0", "publish=[\"[::]:53:53/udp\"]"])
  }

  @Test(arguments: [
    ("attach bare c1 eth0 publish=8080:80", "network bare has none: \"set network bare gateway="),
    ("attach far c1 eth0 publish=8080:80", "gateway_mode=remote says that another host has it"),
    ("attach br0 c1 eth0 tag=7 publish=8080:80", "is for members of networks"),
    ("add-port br0 veth1 publish=8080:80", "is for members of networks"),
    ("add-port br0 veth1 network=red publish=8080:80", "allowed_addresses=ADDRESS"),
    (
      "add-port br0 veth1 network=red allowed_addresses=172.17.42.0/25 publish=8080:80",
      "allowed_addresses=ADDRESS"
    ),
    ("attach red c1 eth0 publish=80", "is no port of the host with one of the container"),
    ("attach red c1 eth0 publish=[\"[fd00::1]:8080:80\"]", "has no address of IPv6"),
    ("set network red gateway_mode=remote", "port eth0@c9 publishes 9000:90/tcp"),
    ("clear network red gateway", "port eth0@c9 publishes 9000:90/tcp"),
    ("set port eth0@c9 publish=", "there is no value"),
  ])
  func refusals(_ line: String, _ part: String) throws {
    var bench = try bench("attach red c9 eth0 publish=9000:90")
    let sentence = bench.refusal(line)
    #expect(sentence.contains(part), "\(sentence)")
    #expect(!sentence.contains("\n"))
  }

  @Test func theNumberIsBounded() throws {
    var bench = try bench("attach red c1 eth0", "attach red c2 eth0")
    func many(_ first: Int, _ count: Int) -> String {
      (first..<first + count).map { "\($0):80" }.joined(separator: ",")
    }
    #expect(
      bench.refusal("set port eth0@c1 publish=\(many(1000, 1025))").contains("may publish 1024"))
    for number in 1...4 {
      try bench.run("attach red m\(number) eth0 publish=\(many(number * 2000, 1024))")
    }
    #expect(bench.refusal("set port eth0@c1 publish=1:1").contains("which can have 4096"))
  }

  // MARK: Where they lead

  @Test func theAddressIsOneThatTheGatewayReaches() throws {
    func addresses(_ given: [String], _ allowed: [String]) -> [String] {
      PublishedPort.addresses(
        given: given.compactMap { IPAddress($0) },
        allowed: allowed.compactMap { AllowedAddress($0) },
        gateways: ["172.17.42.1", "fd42::1"].compactMap { IPAddress($0) },
        subnets: ["10.0.0.0/8", "172.17.42.0/24", "fd42::/64"].compactMap { IPPrefix($0) }
      ).map(\.description)
    }
    #expect(addresses(["10.0.0.5", "172.17.42.9", "fd42::9"], []) == ["172.17.42.9", "fd42::9"])
    #expect(addresses(["172.17.42.9"], ["172.17.42.7", "fd42::7"]) == ["172.17.42.9"])
    #expect(
      addresses([], ["02:00:00:00:00:01", "172.17.42.128/25", "172.17.42.7"]) == ["172.17.42.7"])
    #expect(addresses(["172.17.42.1", "172.17.42.255", "10.1.1.1"], []) == [])
  }

  @Test func aNetworkTellsOfThem() throws {
    let bench = try bench("attach red c1 eth0 publish=8080:80")
    let network = try #require(bench.configuration.networks["red"])
    let text = NetworkDescription(network, in: bench.configuration).tree
    #expect(text.contains("    published: 8080:80/tcp\n"), "\(text)")
  }

  @Test(
    arguments: [
      ("22:22", "0.0.0.0", true), ("22:22", "::", true), ("22:22", "127.0.0.1", true),
      ("203.0.113.1:22:22", "0.0.0.0", true), ("203.0.113.1:22:22", "::", true),
      ("203.0.113.1:22:22", "203.0.113.1", true), ("203.0.113.1:22:22", "203.0.113.2", false),
      ("203.0.113.1:22:22", "2001:db8::1", false), ("0.0.0.0:22:22", "203.0.113.2", true),
      ("0.0.0.0:22:22", "2001:db8::1", false), ("[::]:22:22", "0.0.0.0", false),
      ("23:22", "0.0.0.0", false), ("22:22/udp", "0.0.0.0", false),
    ])
  func whoIsHiddenIsToldOf(_ port: String, _ listener: String, _ isHidden: Bool) throws {
    let own = try Set(["203.0.113.1"].map { try #require(IPAddress($0)) })
    let port = try #require(PublishedPort(port))
    let faults = port.faults(
      own: own, listeners: [(address: try #require(IPAddress(listener)), port: 22, transport: 6)])
    #expect(faults.isEmpty == !isHidden)
    #expect(faults.allSatisfy { $0.contains("`ss -Hlntp sport = :22` names it") })
  }

  @Test(arguments: [
    ("192.0.2.7:22:22", true), ("203.0.113.1:22:22", false), ("0.0.0.0:22:22", false),
    ("127.0.0.9:22:22", false), ("[::1]:22:22", false), ("22:22", false),
  ])
  func anAddressThatTheHostHasNotIsToldOf(_ port: String, _ isMissing: Bool) throws {
    let own = try Set(["203.0.113.1"].map { try #require(IPAddress($0)) })
    let faults = try #require(PublishedPort(port)).faults(own: own, listeners: [])
    #expect(faults.isEmpty == !isMissing)
  }
}
