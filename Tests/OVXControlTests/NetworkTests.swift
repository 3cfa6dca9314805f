import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXControl
@testable import ovx_ctl

/// Tenants' networks: what their lines make of bridges, tunnels and ports, and what they refuse.
@Suite struct NetworkTests {
  private func bench(_ lines: String...) throws -> Workbench {
    var bench = try Workbench(
      "set switch . local_ip=192.168.5.2 remotes=192.168.5.2,192.168.5.3,192.168.5.4")
    for line in lines { try bench.run(line) }
    return bench
  }

  private func addresses(_ bench: Workbench, _ target: String) -> [String] {
    bench.configuration.attachedPort(target: target, interface: "eth0")?.interface.attachment?
      .addresses.map(\.description) ?? []
  }

  // MARK: What a network is made of

  @Test func aLineMakesBridgeTunnelAndVLAN() throws {
    let bench = try bench("add-net red vni=100 subnet=172.17.42.0/24")
    let tunnel = try #require(bench.configuration.ports["vni100"])
    #expect(
      tunnel.interface.options == [
        "key": "100", "remote_ip": "192.168.5.3,192.168.5.4", "local_ip": "192.168.5.2",
      ], "this host is not among its remotes")
    #expect(tunnel.bridge == "br0" && tunnel.tag?.rawValue == 1)
    #expect(bench.configuration.ports["br0"]?.interface.type == .internal)
  }

  @Test func eachNetworkHasAVLANOfItsOwnThatStays() throws {
    var bench = try bench(
      "add-br br0", "add-port br0 veth1 tag=2", "add-net red vni=100", "add-net blue vni=200",
      "add-net green vni=300 bridge=br1")
    func tag(_ network: String) -> UInt16? { bench.configuration.networks[network]?.tag.rawValue }
    #expect((tag("red"), tag("blue"), tag("green")) == (1, 3, 1))
    try bench.run("del-net red")
    #expect(tag("blue") == 3)
    #expect(bench.configuration.ports["vni100"] == nil)
    try bench.run("add-net gold vni=400")
    #expect(tag("gold") == 1)
  }

  @Test func withoutRemotesThereIsNoTunnel() throws {
    var bench = try Workbench("add-net red vni=100")
    #expect(bench.configuration.ports.keys.sorted() == ["br0"])
    try bench.run("set switch . remotes=192.168.5.3")
    #expect(bench.configuration.ports["vni100"]?.interface.options["remote_ip"] == "192.168.5.3")
    try bench.run("set network red remotes=192.168.5.9")
    #expect(bench.configuration.ports["vni100"]?.interface.options["remote_ip"] == "192.168.5.9")
    try bench.run("clear network red remotes -- clear switch . remotes")
    #expect(bench.configuration.ports["vni100"] == nil)
  }

  @Test func anotherVNIIsAnotherTunnel() throws {
    var bench = try bench("add-net red vni=100", "attach red c1 eth0 ip=10.0.0.1/24")
    try bench.run("set network red vni=101 tag=7")
    #expect(bench.configuration.ports["vni100"] == nil)
    #expect(bench.configuration.ports["vni101"]?.tag?.rawValue == 7)
    #expect(bench.configuration.ports["eth0@c1"]?.tag?.rawValue == 7, "its members follow")
  }

  @Test func otherOptionsOfTheTunnelStay() throws {
    var bench = try bench("add-net red vni=100", "set interface vni100 options:ttl=9")
    try bench.run("set switch . remotes=192.168.5.7")
    #expect(bench.configuration.ports["vni100"]?.interface.options["ttl"] == "9")
  }

  @Test func anyPortCanBeAMember() throws {
    var bench = try bench("add-net red vni=100", "add-port br0 veth1 network=red")
    #expect(bench.configuration.ports["veth1"]?.tag?.rawValue == 1)
    #expect(bench.refusal("del-net red").contains("has a member (veth1)"))
    try bench.run("del-port veth1 -- del-net red")
    #expect(bench.configuration.networks.isEmpty)
  }

  @Test func aLineIsRepeatedWithMayExist() throws {
    var bench = try bench("add-net red vni=100")
    let before = bench.configuration
    #expect(bench.refusal("add-net red vni=100").contains("--may-exist accepts that"))
    try bench.run("--may-exist add-net red vni=100")
    #expect(bench.configuration == before)
    try bench.run("--if-exists del-net green")
    #expect(bench.refusal("del-net green").contains("the networks are red"))
    #expect(try bench.output("list-nets") == "red\n")
  }

  // MARK: Addresses

  @Test func attachChoosesAddressesAndGateways() throws {
    var bench = try bench(
      "add-net red vni=100 subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1 mtu_request=1400")
    for number in 1...3 { try bench.run("attach red c\(number) eth0") }
    #expect(addresses(bench, "c1") == ["172.17.42.2/24", "fd42::2/64"])
    #expect(addresses(bench, "c3") == ["172.17.42.4/24", "fd42::4/64"])
    let port = try #require(bench.configuration.ports["eth0@c1"])
    #expect(port.interface.attachment?.gateways.map(\.description) == ["172.17.42.1"])
    #expect(port.interface.mtuRequest == 1400)
    try bench.run("detach c2 eth0 -- attach red c4 eth0")
    #expect(addresses(bench, "c4") == ["172.17.42.3/24", "fd42::3/64"])
    try bench.run("--may-exist attach red c3 eth0")
    #expect(addresses(bench, "c3") == ["172.17.42.4/24", "fd42::4/64"], "it keeps what it has")
  }

  @Test func whatIsAskedForIsGivenOrRefused() throws {
    var bench = try bench("add-net red vni=100 subnet=172.17.42.0/24,fd42::/64 gateway=172.17.42.1")
    try bench.run("attach red c1 eth0 ip=172.17.42.9/24")
    #expect(addresses(bench, "c1") == ["172.17.42.9/24", "fd42::2/64"])
    for (ip, part) in [
      ("172.17.42.9/24", "is port eth0@c1's"), ("172.17.42.1/24", "is the gateway's"),
      ("172.17.42.7/16", "type 172.17.42.7/24"), ("10.0.0.1/24", "no station's address"),
      ("172.17.42.255/24", "no station's address"), ("172.17.42.0/24", "no station's address"),
    ] {
      let refusal = bench.refusal("attach red c2 eth0 ip=\(ip)")
      #expect(refusal.contains(part), "\(ip): \(refusal)")
    }
  }

  @Test func remotesAreCountedThatAnAgentTells() throws {
    let bench = try bench(
      "set switch . control_plane=evpn local_ip=192.168.5.2 remotes=192.168.5.9",
      "add-net red vni=100", "add-net blue vni=200 remotes=192.168.5.7,192.168.5.8")
    var configuration = bench.configuration
    let live = LiveState(
      deviceExists: { _ in false }, toldRemotes: { $0 == "red" ? 3 : nil })
    for (name, count) in [("red", 3), ("blue", 2)] {
      let transaction = try Transaction.execute(
        [.get(table: "Network", record: name, columns: ["status:remotes"], ifExists: false)],
        on: &configuration, live: live)
      #expect(transaction.replies == [.values([.scalar(.integer(count))])])
    }
  }

  @Test func theLimitOfRoutesIsANumber() throws {
    var bench = try bench()
    for text in ["0", "16777217", "-1", "many", "1.5", "99999999999999999999"] {
      #expect(
        bench.refusal("set switch . other_config:evpn-limit=\(text)").contains(
          "other_config:evpn-limit \"\(text)\" is not a number of routes from 1 to 16777216"))
    }
    for text in ["1", "131072", "16777216"] {
      try bench.run("set switch . other_config:evpn-limit=\(text)")
      #expect(bench.configuration.host.agentRouteLimit == Int(text))
    }
    try bench.run("remove switch . other_config evpn-limit")
    #expect(bench.configuration.host.agentRouteLimit == 131_072)
  }

  @Test func aRangeIsUsedUp() throws {
    var bench = try bench("add-net red vni=100 subnet=10.0.0.0/24 range=10.0.0.8-10.0.0.9")
    try bench.run("attach red c1 eth0 -- attach red c2 eth0")
    #expect(addresses(bench, "c2") == ["10.0.0.9/24"])
    let refusal = bench.refusal("attach red c3 eth0")
    #expect(
      refusal.contains("no free address left in subnet 10.0.0.0/24 in the range"), "\(refusal)")
    #expect(try bench.output("get network red status:addresses_free") == "0\n")
    // Who is attached takes one of each subnet, so what one of them has not is nobody's.
    var two = try self.bench(
      "add-net red vni=100 subnet=10.0.0.0/24,fd00::/64 range=10.0.0.8-10.0.0.9")
    #expect(try two.output("get network red status:addresses_free") == "0\n")
    #expect(
      two.refusal("attach red c1 eth0").contains("its range has no address of subnet fd00::/64"))
    try two.run("add network red range fd00::8-fd00::f")
    #expect(try two.output("get network red status:addresses_free") == "2\n")
  }

  @Test func whoseAddressAnswersIsPassedOver() throws {
    var bench = try bench("add-net red vni=100 subnet=10.0.0.0/24")
    let station = try #require(MACAddress("02:00:00:00:00:09"))
    bench.answers = ["10.0.0.2": .taken(station), "10.0.0.3": .free]
    try bench.run("attach red c1 eth0")
    #expect(addresses(bench, "c1") == ["10.0.0.3/24"])
    #expect(bench.questions == [])
    let refusal = bench.refusal("attach red c2 eth0 ip=10.0.0.2/24")
    #expect(refusal.contains("in use in network red, by 02:00:00:00:00:09"), "\(refusal)")
    try bench.run("attach red c2 eth0")
    #expect(bench.questions.count == 32 && bench.questions[0].address.description == "10.0.0.4")
  }

  /// A segment of thousands of stations costs its newcomers no questions; a range that is full asks
  /// some whether they are still there.
  @Test func whoHasToldOfAnAddressIsNotAsked() throws {
    var bench = try bench(
      "add-net red vni=100 subnet=10.0.0.0/16 -- add-net blue vni=200 subnet=10.0.0.0/29")
    let station = try #require(MACAddress("02:00:00:00:00:09"))
    for number in 2...3000 {
      let address = IPAddress(number: 10 << 24 + UInt128(number), isIPv6: false)
      bench.answers[address.description] = .told(station)
    }
    bench.answers["10.0.11.185"] = .free
    try bench.run("attach red c1 eth0")
    #expect(addresses(bench, "c1") == ["10.0.11.185/16"] && bench.questions == [])
    try bench.run("attach red c2 eth0")
    #expect(bench.questions.count == 32)
    #expect(bench.questions[0].address.description == "10.0.11.186")
    try bench.run("attach blue c1 eth1")
    #expect(bench.questions.map(\.address.description) == (2...6).map { "10.0.0.\($0)" })
    try bench.run("detach c1 eth1")
    for number in 2...6 { bench.answers["10.0.0.\(number)"] = .taken(station) }
    let refusal = bench.refusal("attach blue c1 eth1")
    #expect(refusal.contains("0 are given to somebody, and 5 answered for"), "\(refusal)")
    // The very address is asked for.
    bench.answers["10.0.0.4"] = .told(station)
    try bench.run("attach blue c1 eth1 ip=10.0.0.4/29")
    #expect(bench.questions.map(\.address.description) == ["10.0.0.4"])
  }

  /// Whoever finds many that answer asks for more at a time.
  @Test func questionsGrowWithAnswers() throws {
    var bench = try bench("add-net red vni=100 subnet=10.0.0.0/16")
    let station = try #require(MACAddress("02:00:00:00:00:09"))
    var counts: [Int] = []
    bench.answers["-"] = .unknown
    for _ in 0..<5 {
      let container = "c\(counts.count)"
      try bench.run("attach red \(container) eth0")
      counts.append(bench.questions.count)
      for question in bench.questions {
        bench.answers[question.address.description] = .taken(station)
      }
      try bench.run("detach \(container) eth0")
    }
    #expect(counts == [32, 64, 192, 256, 256])
  }

  /// Whether another host has already told that the container is gone from there is a matter of
  /// milliseconds, on which no move may depend.
  @Test func whoMovesWithBothAddressesIsNobodyElse() throws {
    var bench = try bench("add-net red vni=100 subnet=10.0.0.0/24")
    let station = try #require(MACAddress("02:00:00:00:00:09"))
    bench.answers = ["10.0.0.2": .taken(station)]
    let line = "attach red c1 eth0 ip=10.0.0.2/24 mac="
    #expect(bench.refusal(line + "02:00:00:00:00:08").contains("in use in network red"))
    try bench.run(line + "02:00:00:00:00:09")
    #expect(addresses(bench, "c1") == ["10.0.0.2/24"])
  }

  /// Docker's driver has addresses before it has a port.
  @Test func aReservedAddressIsNobodyElses() throws {
    var bench = try bench("add-net red vni=100 subnet=10.0.0.0/29,fd00::/64 gateway=10.0.0.1")
    func reserve(_ address: String?, of subnet: String? = nil) -> Command {
      .reserveAddress(
        network: "red", subnet: subnet.flatMap { IPPrefix($0) },
        address: address.flatMap { IPAddress($0) })
    }
    #expect(try bench.run([reserve(nil)]) == [.names(["10.0.0.2/29"])])
    #expect(try bench.run([reserve(nil, of: "fd00::/64")]) == [.names(["fd00::2/64"])])
    #expect(try bench.run([reserve("10.0.0.4")]) == [.names(["10.0.0.4/29"])])
    try bench.run("attach red c1 eth0")
    #expect(addresses(bench, "c1") == ["10.0.0.3/29", "fd00::3/64"])
    for (address, part) in [
      ("10.0.0.2", "is reserved"), ("10.0.0.1", "is the gateway's"), ("10.0.0.3", "eth0@c1's"),
      ("10.0.1.1", "no station's address"),
    ] {
      let error = #expect(throws: ControlError.self) { try bench.run([reserve(address)]) }
      #expect(error?.message.contains(part) == true, "\(address): \(error?.message ?? "")")
    }
    #expect(throws: ControlError.self) { try bench.run([reserve(nil, of: "10.9.0.0/24")]) }
    #expect(bench.refusal("attach red c2 eth0 ip=10.0.0.4/29").contains("is reserved"))
    // A file says nothing of them.
    let file = try ConfigurationFile(
      name: "f",
      bytes: Array(
        "networks: {red: {vni: 100, subnet: [10.0.0.0/29, \"fd00::/64\"], gateway: 10.0.0.1}}".utf8)
    )
    try bench.run([.apply(file.configuration, declaresSwitch: false)])
    #expect(
      try bench.output("get network red reserved") == "[\"10.0.0.2\", \"10.0.0.4\", \"fd00::2\"]\n")
    for _ in 0..<2 {
      let address = try #require(IPAddress("10.0.0.2"))
      try bench.run([.releaseAddress(network: "red", address: address)])
    }
    #expect(try bench.run([reserve(nil)]) == [.names(["10.0.0.2/29"])])
  }

  @Test func aNetworkWithoutSubnetsNeedsAnAddress() throws {
    var bench = try bench("add-net red vni=100")
    #expect(bench.refusal("attach red c1 eth0").contains("give one with ip=ADDRESS/LENGTH"))
    try bench.run("attach red c1 eth0 ip=10.1.2.3/8")
  }

  // MARK: What is refused

  @Test(arguments: [
    ("add-net red", "needs a VNI"), ("add-net red vni=0", "not in the valid range 1"),
    ("add-net red vni=16777216", "not in the valid range 1"),
    ("add-net red vni=100 vni=101", "is there twice"),
    ("add-net a/b vni=100", "cannot be used"),
    ("add-net \(String(repeating: "n", count: 33)) vni=100", "cannot be used"),
    ("add-net red vni=100 subnet=10.0.0.1/24", "the one that this address is of is 10.0.0.0/24"),
    ("add-net red vni=100 subnet=10.0.0.0/24,10.0.0.128/25", "overlap"),
    ("add-net red vni=100 subnet=224.0.0.0/8", "no addresses of stations"),
    ("add-net red vni=100 subnet=0.0.0.0/0", "no addresses of stations"),
    ("add-net red vni=100 subnet=10.0.0.0/24 range=10.0.1.1-10.0.1.9", "in none of its subnets"),
    ("add-net red vni=100 range=9-1", "is not a range of addresses"),
    ("add-net red vni=100 subnet=10.0.0.0/24 gateway=10.0.1.1", "is no station's address"),
    ("add-net red vni=100 subnet=10.0.0.0/24 gateway=10.0.0.255", "is no station's address"),
    ("add-net red vni=100 subnet=10.0.0.0/24 gateway=10.0.0.1,10.0.0.2", "one default route"),
    ("add-net red vni=100 remotes=10.0.0.1,fd00::1", "two address families"),
    ("add-net red vni=100 remotes=224.0.0.1", "is no host's address"),
    ("add-net red vni=100 tag=0", "1 to 4094"), ("add-net red vni=100 colour=7", "colour"),
    (
      "add-net red vni=100 subnet=" + (0..<17).map { "10.\($0).0.0/16" }.joined(separator: ","),
      "may have 16"
    ),
    ("add-net red vni=", "vni of network red: there is no value"),
    ("add-net red vni=100 mtu=9", "not in the valid range"),
    ("add-net br0 vni=100", "both named br0"), ("create network name=red vni=1", "add-net red"),
    ("destroy network red", "no network named red"), ("set port veth1 network=red", "no network"),
  ])
  func aMistakeIsExplained(_ line: String, _ part: String) throws {
    var bench = try bench("add-br br0", "add-port br0 veth1")
    let refusal = bench.refusal(line)
    #expect(refusal.contains(part), "\(line): \(refusal)")
  }

  @Test(arguments: [
    ("add-net blue vni=100", "which is network red's"),
    ("add-net blue vni=200 tag=1", "both have VLAN 1 of bridge br0"),
    ("del-br br0", "bridge br0 has network red"), ("del-net red", "has a member (eth0@c1)"),
    ("del-port vni100", "is the tunnel of network red"),
    ("set port vni100 tag=9", "is the tunnel of network red"),
    ("set interface vni100 options:key=9", "is the tunnel of network red"),
    ("clear port vni100 network", "is the tunnel of network red"),
    ("set port eth0@c1 tag=9", "is a member of network red, which is VLAN 1"),
    ("set port eth0@c1 network=green", "no network named green"),
    ("attach red c2 eth0 tag=9", "is a member of network red, which is VLAN 1"),
    ("attach red c2 eth0 trunks=1,2", "trunks or a vlan_mode"),
    ("add-port br0 vx9 key=200 remote=10.0.0.9 tag=1", "joins two tenants"),
    ("add-port br0 vx9 key=100 remote=10.0.0.9 tag=9", "VLANs 1 and 9"),
    ("set network red bridge=br7", "stays there"),
    ("set network red subnet=10.9.0.0/24", "which would be in no subnet"),
    ("set network red gateway=10.0.0.2", "is the address of port"),
    ("set port br0 network=red", "bridge br0's own"), ("add-br red", "both named red"),
    ("add-br br1 -- add-port br1 veth1 network=red", "add it there"),
  ])
  func whatContradictsANetworkIsRefused(_ line: String, _ part: String) throws {
    var bench = try bench("add-net red vni=100 subnet=10.0.0.0/24", "attach red c1 eth0")
    let refusal = bench.refusal(line)
    #expect(refusal.contains(part), "\(line): \(refusal)")
  }

  /// A network on one host only keeps its VLAN and VNI to itself, too.
  @Test func nobodyJoinsANetworkWithoutATunnel() throws {
    var bench = try Workbench("add-net red vni=100")
    #expect(
      bench.refusal("add-port br0 vx key=200 remote=10.0.0.9 tag=1").contains("joins two tenants"))
    #expect(bench.refusal("add-port br0 vx key=200 remote=10.0.0.9").contains("joins two tenants"))
    #expect(
      bench.refusal("add-port br0 vx key=100 remote=10.0.0.9 tag=2").contains("network red's"))
    try bench.run("add-port br0 vx key=100 remote=10.0.0.9 tag=1")
  }

  // MARK: Prefixes and ranges

  @Test func prefixesAreExact() throws {
    #expect(IPPrefix("10.0.0.1/24") == nil && IPPrefix("10.0.0.0/33") == nil)
    let all = try #require(IPPrefix("::/0"))
    #expect(all.addresses.numbers == 0...UInt128.max && all.addresses.count == Int.max)
    let line = try #require(IPPrefix("10.0.0.6/31"))
    #expect(line.stations.description == "10.0.0.6-10.0.0.7")
    let host = try #require(IPPrefix("10.0.0.6/32"))
    #expect(host.stations.description == "10.0.0.6" && host.stations.count == 1)
    let last = try #require(IPPrefix("255.255.255.0/24"))
    #expect(last.stations.description == "255.255.255.1-255.255.255.254")
    let odd = try #require(IPPrefix("172.17.42.16/28"))
    #expect(odd.addresses.description == "172.17.42.16-172.17.42.31")
    #expect(IPPrefix("fd00::/64")?.stations.description == "fd00::1-fd00::ffff:ffff:ffff:ffff")
  }

  private func attach(_ target: String) -> Command {
    .attach(
      bridge: "red", attachment: Configuration.Attachment(target: target, interface: "eth0"),
      settings: [], mayExist: false)
  }

  /// What is handed out is in the subnet, nobody's, and the lowest, by a slow look at each address.
  @Test func handingOutIsWhatALookAtEachAddressWouldBe() throws {
    var random = SeededRandom(seed: .random(in: 0...UInt64.max))
    for _ in 0..<30 {
      let length = Int.random(in: 27...30, using: &random)
      let subnet = try #require(
        IPPrefix(
          of: InterfaceAddress(
            IPAddress(v4: random.bits(UInt32.self) & 0x5FFF_FFFF | 1), prefixLength: length)
        ).description as String?)
      var bench = try Workbench("add-net red vni=1 subnet=\(subnet)")
      let stations = try #require(IPPrefix(subnet)).stations
      var held: [String: IPAddress] = [:]
      for step in 0..<60 {
        let taken = Set(held.values)
        let free = stations.numbers.dropFirst(stations.count > 2 ? 1 : 0).map {
          IPAddress(number: $0, isIPv6: false)
        }
        .first { !taken.contains($0) }
        if let victim = held.keys.sorted().randomElement(using: &random),
          Bool.random(using: &random)
        {
          try bench.run([.detach(target: victim, interface: "eth0", ifExists: false)])
          held[victim] = nil
        } else if let free {
          try bench.run([attach("c\(step)")])
          #expect(addresses(bench, "c\(step)") == ["\(free)/\(length)"], "\(random)")
          held["c\(step)"] = free
        } else {
          let error = #expect(throws: ControlError.self) { try bench.run([attach("c\(step)")]) }
          #expect(error?.message.contains("no free address") == true, "\(random)")
        }
      }
    }
  }
}
