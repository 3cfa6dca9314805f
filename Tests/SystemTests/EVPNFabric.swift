import Foundation
import Testing

/// Hosts of ovx with gobgpd and ovx-evpn, and two reflectors of FRR, on one wire; each host has a
/// container of network red.
///
/// Addresses are those of a `Family`: hosts from 1 on, then the reflectors, then whatever a test
/// puts beside them. Containers are 10.1.0.1 and so on.
final class EVPNFabric {
  static let vni = 100
  /// Seconds after which a silent speaker is given up.
  static let bgpHold = 9

  /// A host, and the programs of it that come and go.
  final class Host {
    let number: Int
    let place: Namespace
    let container: Namespace
    fileprivate(set) var gobgpd: Command?
    fileprivate(set) var agent: Command?

    private let family: Family
    private let reflectors: [String]

    fileprivate init(
      _ number: Int, _ place: Namespace, _ container: Namespace, family: Family,
      reflectors: [String]
    ) {
      (self.number, self.place, self.container) = (number, place, container)
      (self.family, self.reflectors) = (family, reflectors)
    }

    var address: String { family.address(number) }
    /// The container's.
    var inside: String { "10.1.0.\(number)" }

    fileprivate var socket: String { "\(place.rundir)/api.sock" }

    /// Kills gobgpd, as a crash does.
    func killSpeaker() throws {
      gobgpd?.signal(SIGKILL)
      _ = gobgpd?.wait(seconds: 5)
    }

    func startSpeaker() throws { gobgpd = try place.start(EVPNFabric.gobgpd(place)) }

    func startAgent() throws {
      agent = try place.start(
        "exec \(try EVPNFabric.program()) --gobgp unix:\(socket) --rundir \(place.rundir)")
    }

    /// Has no way to the reflectors, without a word from anybody, or has one again.
    func cutFromReflectors(_ isCut: Bool = true) throws {
      for reflector in reflectors {
        try place.must(
          "ip route \(isCut ? "add" : "del") blackhole \(reflector)\(family == .ipv4 ? "/32" : "/128")"
        )
      }
    }

    /// Whether the host's tables name another one's VTEP.
    func knows(_ other: Host) throws -> Bool {
      try place.ctl("fdb show br0").contains("\(other.address) ")
        || place.ctl("tunnel show").contains("\(other.address) ")
    }

    /// What ovx-evpn tells of itself.
    func shown() throws -> String { try place.ctl("evpn show") }
  }

  let lab: Lab
  let hosts: [Host]
  let wire: Namespace
  let family: Family
  /// Places on the wire for what a test has besides.
  let others: [Namespace]
  /// Of the reflectors.
  let reflectorAddresses: [String]
  private let reflectorPlaces: [Namespace]
  private var reflectors: [Command] = []

  /// Has so many hosts know each other, three unless told otherwise.
  ///
  /// - Parameters:
  ///   - lab: Where.
  ///   - count: How many hosts.
  ///   - family: Of the underlay, that is of VTEPs and of sessions of BGP.
  ///   - others: How many places are left for others.
  /// - Throws: What does not come up.
  init(_ lab: Lab, count: Int = 3, family: Family = .ipv4, others: Int = 0) throws {
    (self.lab, self.family) = (lab, family)
    let places = try lab.hosts(count + 2 + others)
    wire = try #require(lab.namespaces.first { $0.name.hasSuffix("wire") })
    self.others = Array(places.suffix(others))
    reflectorPlaces = Array(places[count..<count + 2])
    let addresses = (1...2).map { family.address(count + $0) }
    reflectorAddresses = addresses
    hosts = try places.prefix(count).enumerated().map { index, place in
      Host(
        index + 1, place, try lab.namespace("red\(index + 1)"), family: family,
        reflectors: addresses)
    }
    try startReflectors()
    for host in hosts {
      try lab.daemon(on: host.place)
      try Self.configuration(of: host, reflectors: addresses).write(
        toFile: "\(host.place.rundir)/gobgpd.conf", atomically: true, encoding: .utf8)
      try host.place.ctl("set switch . control_plane=evpn local_ip=\(host.address)")
      try host.place.ctl("add-net red vni=\(Self.vni) subnet=10.1.0.0/24")
      try host.place.ctl("attach red \(host.container.name) eth0 ip=\(host.inside)/24")
      try host.startSpeaker()
      try host.startAgent()
    }
    try awaitRest()
  }

  /// Waits until each host knows all others, and nothing is held any more.
  func awaitRest() throws {
    for host in hosts {
      try eventually("host \(host.number) knows the others", within: 60) {
        try hosts.allSatisfy { try $0.number == host.number || host.knows($0) }
      }
      try eventually("host \(host.number) holds nothing", within: 60) {
        try !host.shown().contains("Holding")
      }
    }
  }

  /// ovx-evpn, which is built apart.
  static func program() throws -> String {
    let environment = ProcessInfo.processInfo.environment
    let directories = [
      environment["OVX_EVPN_BIN"] ?? "", Lab.packageRoot.path + "/.build-evpn/release",
      Lab.packageRoot.path + "/.build-evpn/debug",
    ]
    guard
      let found = directories.map({ "\($0)/ovx-evpn" }).first(where: {
        FileManager.default.isExecutableFile(atPath: $0)
      })
    else {
      throw LabError("there is no ovx-evpn; deploy/build-evpn builds it, and Tests/run calls that")
    }
    return found
  }

  /// Kills bgpd of both reflectors, as crashes do.
  func killReflectors() {
    for reflector in reflectors {
      reflector.signal(SIGKILL)
      _ = reflector.wait(seconds: 5)
    }
  }

  func startReflectors() throws {
    reflectors = try reflectorPlaces.enumerated().map { index, place in
      let identifier = Family.ipv4.address(hosts.count + 1 + index)
      guard family == .ipv4 else { return try Self.goReflector(on: place, identifier) }
      try """
      frr defaults datacenter
      router bgp 65000
       bgp router-id \(identifier)
       no bgp default ipv4-unicast
       neighbor hosts peer-group
       neighbor hosts remote-as 65000
       neighbor hosts timers 3 \(Self.bgpHold)
       bgp listen range 192.168.5.0/24 peer-group hosts
       address-family l2vpn evpn
        neighbor hosts activate
        neighbor hosts route-reflector-client
       exit-address-family

      """.write(toFile: "\(place.rundir)/bgpd.conf", atomically: true, encoding: .utf8)
      return try Self.frr("bgpd", on: place, "-n -Z")
    }
  }

  /// A reflector over IPv6: FRR 8.4 refuses routes of type 3 of a host whose address is of IPv6.
  private static func goReflector(on place: Namespace, _ identifier: String) throws -> Command {
    try """
    [global.config]
    as = 65000
    router-id = "\(identifier)"
    [[peer-groups]]
    [peer-groups.config]
    peer-group-name = "hosts"
    peer-as = 65000
    [peer-groups.timers.config]
    hold-time = \(bgpHold)
    keepalive-interval = 3
    [peer-groups.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "\(identifier)"
    [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
    afi-safi-name = "l2vpn-evpn"
    [[dynamic-neighbors]]
    [dynamic-neighbors.config]
    prefix = "fd05::/64"
    peer-group = "hosts"

    """.write(toFile: "\(place.rundir)/gobgpd.conf", atomically: true, encoding: .utf8)
    return try place.start(gobgpd(place))
  }

  /// The line that becomes gobgpd, with the configuration and the socket that are in the run
  /// directory.
  fileprivate static func gobgpd(_ place: Namespace) -> String {
    """
    rm -f \(place.rundir)/api.sock
    exec \(ProcessInfo.processInfo.environment["GOBGPD"] ?? "gobgpd") -f \(place.rundir)/gobgpd.conf \\
      --api-hosts unix://\(place.rundir)/api.sock --pprof-disable
    """
  }

  /// A daemon of FRR, with the configuration that is in the run directory.
  fileprivate static func frr(_ daemon: String, on place: Namespace, _ options: String = "") throws
    -> Command
  {
    try place.start(
      """
      chown -R frr:frr \(place.rundir)
      exec /usr/lib/frr/\(daemon) -f \(place.rundir)/\(daemon).conf -i \(place.rundir)/\(daemon).pid \(options) \\
        -z \(place.rundir)/zserv --vty_socket \(place.rundir) --log stdout --log-level warnings
      """)
  }

  private static func configuration(of host: Host, reflectors: [String]) -> String {
    let neighbors = reflectors.map { address in
      """
      [[neighbors]]
      [neighbors.config]
      neighbor-address = "\(address)"
      peer-as = 65000
      [neighbors.timers.config]
      connect-retry = 1
      idle-hold-time-after-reset = 1
      hold-time = \(bgpHold)
      keepalive-interval = 3
      [[neighbors.afi-safis]]
      [neighbors.afi-safis.config]
      afi-safi-name = "l2vpn-evpn"

      """
    }
    return """
      [global.config]
      as = 65000
      router-id = "\(Family.ipv4.address(host.number))"

      """ + neighbors.joined()
  }

  /// Takes a host or a reflector, by its number, from the wire without a word, or puts it back.
  func cut(_ number: Int, _ isCut: Bool = true) throws {
    try wire.must("ip link set port\(number) \(isCut ? "down" : "up")")
  }
}

/// A host of FRR with the kernel's bridge and vxlan device, and a container of network red.
final class KernelHost {
  let place: Namespace
  let container: Namespace
  let address: String
  let inside = "10.1.0.200"
  private let zebra: Command
  private var bgpd: Command

  /// - Parameters:
  ///   - fabric: Whose reflectors it speaks to.
  ///   - index: Its place among the others of the fabric.
  /// - Throws: What does not come up.
  init(_ fabric: EVPNFabric, at index: Int = 0) throws {
    place = fabric.others[index]
    address = fabric.family.address(fabric.hosts.count + 3 + index)
    container = try fabric.lab.namespace("kernel")
    let vni = EVPNFabric.vni
    try place.must(
      """
      ip link add br\(vni) type bridge
      ip link add vxlan\(vni) type vxlan id \(vni) local \(address) dstport 4789 nolearning
      ip link set vxlan\(vni) master br\(vni)
      bridge link set dev vxlan\(vni) learning off flood off neigh_suppress on
      ip link add port0 mtu 1430 type veth peer name eth0 mtu 1430 netns \(container.name)
      for device in br\(vni) vxlan\(vni) port0; do ip link set $device up; done
      ip link set port0 master br\(vni)
      """)
    try container.must("ip link set eth0 up && ip addr add \(inside)/24 dev eth0")
    try "!\n".write(toFile: "\(place.rundir)/zebra.conf", atomically: true, encoding: .utf8)
    try """
    frr defaults datacenter
    router bgp 65000
     bgp router-id \(Family.ipv4.address(fabric.hosts.count + 3 + index))
     no bgp default ipv4-unicast
     neighbor reflectors peer-group
     neighbor reflectors remote-as 65000
     neighbor reflectors timers 3 \(EVPNFabric.bgpHold)
     neighbor reflectors timers connect 1
    \(fabric.reflectorAddresses.map { " neighbor \($0) peer-group reflectors" }.joined(separator: "\n"))
     address-family l2vpn evpn
      neighbor reflectors activate
      advertise-all-vni
     exit-address-family

    """.write(toFile: "\(place.rundir)/bgpd.conf", atomically: true, encoding: .utf8)
    // With a smaller buffer zebra loses news of the kernel.
    zebra = try EVPNFabric.frr("zebra", on: place, "-s 90000000")
    let socket = "\(place.rundir)/zserv"
    try eventually("zebra runs") { FileManager.default.fileExists(atPath: socket) }
    bgpd = try EVPNFabric.frr("bgpd", on: place)
  }

  func killSpeaker() {
    bgpd.signal(SIGKILL)
    _ = bgpd.wait(seconds: 5)
  }

  func startSpeaker() throws { bgpd = try EVPNFabric.frr("bgpd", on: place) }
}

/// evpn-generator: a speaker of BGP that tells of hosts that are not there, by one reflector.
final class RouteGenerator {
  private let place: Namespace
  private let command: Command
  private var told = 0

  /// Tells routes of network red.
  init(_ fabric: EVPNFabric, at index: Int = 0) throws {
    place = fabric.others[index]
    let number = fabric.hosts.count + 3 + index
    for host in fabric.hosts {
      for subnet in ["10.1.0.0/16", "192.0.2.0/24"] {
        try host.place.must("ip route add \(subnet) via \(Family.ipv4.address(number))")
      }
    }
    let program = Lab.packageRoot.appendingPathComponent("Benchmarks/evpn-generator").path
    command = try place.start(
      """
      mkfifo \(place.rundir)/words
      exec 3<>\(place.rundir)/words
      exec python3 \(program) --local \(fabric.family.address(number)) --router-id \(Family.ipv4.address(number)) \
        --vni \(EVPNFabric.vni) \(fabric.reflectorAddresses[0]) <&3
      """)
    let command = command
    try eventually("the generator's session is up", within: 60) {
      command.standardOutput.contains("up\n")
    }
  }

  /// Says something, and waits until all of it was sent.
  func tell(_ words: String) throws {
    try place.must("echo '\(words)' >\(place.rundir)/words")
    told += 1
    let (command, told) = (command, told)
    try eventually("the generator has done \(words)", within: 60) {
      command.standardOutput.split(separator: "\n").count { $0.hasPrefix("done ") } >= told
    }
  }
}

/// Numbered datagrams between containers, each of which counts.
final class NumberedFlow {
  private let what: String
  private let sender: Command
  private let receivers: [Command]

  /// - Parameters:
  ///   - sender: Where they come from.
  ///   - receivers: Who is to get each of them.
  ///   - address: Where they are sent to, which may be a broadcast address.
  ///   - port: A UDP port that no other flow has.
  ///   - rate: Datagrams a second.
  ///   - seconds: For how long.
  /// - Throws: What cannot be started.
  init(
    from sender: Namespace, to receivers: [Namespace], at address: String, port: Int, rate: Int,
    seconds: Double
  ) throws {
    what = "from \(sender.name) to \(address)"
    self.receivers = try receivers.map {
      try $0.start("exec python3 $TRAFFIC/numbered.py receive \(port)")
    }
    for receiver in self.receivers {
      try eventually("it receives") { receiver.standardError.contains("ready") }
    }
    self.sender = try sender.start(
      "exec python3 $TRAFFIC/numbered.py send \(address) \(port) \(rate) \(seconds)")
  }

  /// Waits until all is sent, and expects all to have come.
  func expectNoneLost(sourceLocation: SourceLocation = #_sourceLocation) throws {
    let sent = try sender.finish(seconds: 300).standardOutput
    let count = try #require(Int(sent.trimmingCharacters(in: .whitespacesAndNewlines)))
    #expect(count > 0)
    for receiver in receivers {
      let lines = try receiver.finish(seconds: 30).standardOutput.split(separator: "\n")
      let came = lines.first.flatMap { Int($0) } ?? 0
      #expect(
        came == count,
        "\(count - came) of \(count) lost, \(what): \(lines.dropFirst().joined(separator: "; "))",
        sourceLocation: sourceLocation)
    }
  }
}
