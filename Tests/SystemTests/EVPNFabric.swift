import Foundation
import Testing

/// Hosts of ovx with gobgpd and ovx-evpn, and two reflectors of FRR, on one wire; each host has a container of network red.
///
/// Addresses are those of `Family.ipv4`: hosts from 1 on, then the reflectors. Containers are 10.1.0.1 and so on.
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

    private let reflectors: [String]

    fileprivate init(
      _ number: Int, _ place: Namespace, _ container: Namespace, reflectors: [String]
    ) {
      (self.number, self.place, self.container) = (number, place, container)
      self.reflectors = reflectors
    }

    var address: String { Family.ipv4.address(number) }
    /// The container's.
    var inside: String { "10.1.0.\(number)" }

    fileprivate var socket: String { "\(place.rundir)/api.sock" }

    /// Kills gobgpd, as a crash does.
    func killSpeaker() throws {
      gobgpd?.signal(SIGKILL)
      _ = gobgpd?.wait(seconds: 5)
    }

    func startSpeaker() throws {
      gobgpd = try place.start(
        """
        rm -f \(socket)
        exec \(ProcessInfo.processInfo.environment["GOBGPD"] ?? "gobgpd") -f \(place.rundir)/gobgpd.conf \\
          --api-hosts unix://\(socket) --pprof-disable
        """)
    }

    func startAgent() throws {
      agent = try place.start(
        "exec \(try EVPNFabric.program()) --gobgp unix:\(socket) --rundir \(place.rundir)")
    }

    /// Has no way to the reflectors, without a word from anybody, or has one again.
    func cutFromReflectors(_ isCut: Bool = true) throws {
      for reflector in reflectors {
        try place.must("ip route \(isCut ? "add" : "del") blackhole \(reflector)/32")
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
  private let reflectors: [Command]

  /// Has so many hosts know each other, three unless told otherwise.
  init(_ lab: Lab, count: Int = 3) throws {
    self.lab = lab
    let places = try lab.hosts(count + 2)
    wire = try #require(lab.namespaces.first { $0.name.hasSuffix("wire") })
    reflectors = try places.suffix(2).enumerated().map { index, place in
      try Self.reflector(on: place, Family.ipv4.address(count + 1 + index))
    }
    let addresses = (1...2).map { Family.ipv4.address(count + $0) }
    hosts = try places.prefix(count).enumerated().map { index, place in
      Host(index + 1, place, try lab.namespace("red\(index + 1)"), reflectors: addresses)
    }
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

  private static func reflector(on place: Namespace, _ address: String) throws -> Command {
    try """
    frr defaults datacenter
    router bgp 65000
     bgp router-id \(address)
     no bgp default ipv4-unicast
     neighbor hosts peer-group
     neighbor hosts remote-as 65000
     neighbor hosts timers 3 \(bgpHold)
     bgp listen range 192.168.5.0/24 peer-group hosts
     address-family l2vpn evpn
      neighbor hosts activate
      neighbor hosts route-reflector-client
     exit-address-family

    """.write(toFile: "\(place.rundir)/bgpd.conf", atomically: true, encoding: .utf8)
    return try place.start(
      """
      chown -R frr:frr \(place.rundir)
      exec /usr/lib/frr/bgpd -f \(place.rundir)/bgpd.conf -i \(place.rundir)/bgpd.pid -n -Z \\
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
      router-id = "\(host.address)"

      """ + neighbors.joined()
  }

  /// Takes a host or a reflector, by its number, from the wire without a word, or puts it back.
  func cut(_ number: Int, _ isCut: Bool = true) throws {
    try wire.must("ip link set port\(number) \(isCut ? "down" : "up")")
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
