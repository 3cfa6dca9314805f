import Foundation
import Testing

/// The family of the underlay's addresses.
enum Family: String, CaseIterable, CustomTestStringConvertible {
  case ipv4, ipv6

  var testDescription: String { rawValue }

  /// The underlay address of the host with this number, from 1.
  func address(_ host: Int) -> String {
    self == .ipv4 ? "192.168.5.\(host + 1)" : "fd05::\(host + 1)"
  }

  /// What a container's interface may have when the underlay has 1500: an outer IPv6 header is 20
  /// bytes longer.
  var overlayMTU: Int { self == .ipv4 ? 1450 : 1430 }
}

extension Lab {
  static let traffic = packageRoot.appendingPathComponent("Tests/SystemTests/Traffic").path

  /// Two hosts joined by one veth, as a crossed cable would: eth0 on both ends, MTU 1500.
  func twoHosts() throws -> (Namespace, Namespace) {
    let host1 = try namespace("host1")
    let host2 = try namespace("host2")
    try host1.must(
      "ip link add eth0 mtu 1500 type veth peer name eth0 mtu 1500 netns \(host2.name)"
    )
    try address(host1, 1)
    try address(host2, 2)
    return (host1, host2)
  }

  /// As many hosts as asked for on one Ethernet: a kernel bridge in a namespace of its own.
  func hosts(_ count: Int) throws -> [Namespace] {
    let wire = try namespace("wire")
    try wire.must("ip link add lan type bridge && ip link set lan up")
    return try (1...count).map { number in
      let host = try namespace("host\(number)")
      try wire.must(
        """
        ip link add port\(number) mtu 1500 type veth peer name eth0 mtu 1500 netns \(host.name)
        ip link set port\(number) master lan up
        """
      )
      try address(host, number)
      return host
    }
  }

  private func address(_ host: Namespace, _ number: Int) throws {
    try host.must(
      """
      ip addr add \(Family.ipv4.address(number))/24 dev eth0
      ip addr add \(Family.ipv6.address(number))/64 dev eth0 nodad
      ip link set eth0 up
      """
    )
  }

  /// A container on a veth with the kernel's default offloads; the host's end has the container's
  /// name.
  func vethContainer(
    _ name: String,
    on host: Namespace,
    address: String,
    mtu: Int = 1450
  ) throws -> Namespace {
    let container = try namespace(name)
    try host.must(
      """
      ip link add \(name) mtu \(mtu) type veth peer name eth0 mtu \(mtu) netns \(container.name)
      ip link set \(name) up
      """
    )
    try container.must("ip link set eth0 up && ip addr add \(address) dev eth0")
    return container
  }
}

/// How a container hangs on the switch.
enum Attachment: String, CaseIterable, CustomTestStringConvertible {
  /// What `attach` makes.
  case tap, attachedVeth
  /// A veth that somebody else has made.
  case veth

  /// Those that differ in what the frames pass.
  static let allCases: [Attachment] = [.tap, .veth]
  /// Those that the daemon makes.
  static let attached: [Attachment] = [.tap, .attachedVeth]

  var testDescription: String { rawValue }
}

extension Lab {
  /// A container on bridge br0 of a host that runs ovx.
  func container(
    _ name: String,
    on host: Namespace,
    by attachment: Attachment,
    address: String,
    tag: Int? = nil,
    mtu: Int = 1450
  ) throws -> Namespace {
    let tagging = tag.map { " tag=\($0)" } ?? ""
    switch attachment {
    case .tap, .attachedVeth:
      let container = try namespace(name)
      let kind = attachment == .tap ? Lab.attachKind : "veth"
      try host.ctl(
        "attach br0 \(container.name) eth0 ip=\(address)\(tag == nil ? " trunks=[]" : tagging) "
          + "kind=\(kind)")
      return container
    case .veth:
      let container = try vethContainer(name, on: host, address: address, mtu: mtu)
      try host.ctl("add-port br0 \(name)\(tagging)")
      return container
    }
  }
}

extension Namespace {
  /// Makes this host a VTEP of the kernel's own: a bridge, a vxlan device, and ports put on it by
  /// name.
  func makeKernelVTEP(
    vni: Int,
    family: Family,
    number: Int,
    remote: Int,
    ports: [String]
  ) throws {
    let zeroChecksum = family == .ipv6 ? "udp6zerocsumrx" : ""
    try must(
      """
      ip link add br0 type bridge && ip link set br0 up
      ip link add vxlan0 type vxlan id \(vni) local \(family.address(number)) \
        remote \(family.address(remote)) dstport 4789 \(zeroChecksum)
      ip link set vxlan0 master br0 up
      for port in \(ports.joined(separator: " ")); do ip link set $port master br0 up; done
      """
    )
  }

  /// Three pings of one payload size, all of which must come back once the way is up.
  ///
  /// What was sent before the far VTEP had its socket was answered with "port unreachable", and a
  /// kernel's VTEP comes up within milliseconds of the first ping: a first one that is lost to that
  /// says nothing of the switch. A far side that loses packets by itself may get more than one
  /// attempt.
  func expectPing(
    _ address: String,
    size: Int = 56,
    attempts: Int = 1,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    for _ in 0..<5 where try run("ping -c 1 -W 1 \(address)").succeeded { break }
    var output = try run("ping -c 3 -i 0.2 -W 2 -s \(size) \(address)")
    for _ in 1..<attempts where !output.standardOutput.contains(" 3 received") {
      output = try run("ping -c 3 -i 0.2 -W 2 -s \(size) \(address)")
    }
    #expect(
      output.standardOutput.contains(" 3 received"),
      "ping of \(size) bytes from \(name) to \(address):\n\(output.standardOutput)\(output.standardError)",
      sourceLocation: sourceLocation
    )
  }

  /// Pings that must all be lost.
  func expectNoPing(
    _ address: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let output = try run("ping -c 2 -i 0.2 -W 1 \(address)")
    #expect(
      output.standardOutput.contains(" 0 received"),
      "ping from \(name) to \(address) should be lost:\n\(output.standardOutput)",
      sourceLocation: sourceLocation
    )
  }

  /// Sends bytes by TCP to a container and compares what arrives.
  func expectTransfer(
    _ bytes: Int,
    to peer: Namespace,
    at address: String,
    seconds: Double = 60,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let receiver = try peer.start("exec python3 $TRAFFIC/transfer.py receive \(address) 5001")
    let sent = try must(
      "python3 $TRAFFIC/transfer.py send \(address) 5001 \(bytes) \(UInt32.random(in: 0...UInt32.max))",
      seconds: seconds
    )
    let received = try receiver.finish(seconds: 10)
    #expect(
      received.standardOutput == sent && sent.hasPrefix("\(bytes) "),
      "\(bytes) bytes from \(name) to \(peer.name): sent \(sent), received \(received)",
      sourceLocation: sourceLocation
    )
  }

  /// Pings and TCP, both ways: what every pair of containers must manage.
  func expectConversation(
    at address: String,
    with peer: Namespace,
    at peerAddress: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    for size in [56, 1600, 3200] {
      try expectPing(peerAddress, size: size, sourceLocation: sourceLocation)
    }
    for bytes in [60_000, 100_000_000] {
      try expectTransfer(bytes, to: peer, at: peerAddress, sourceLocation: sourceLocation)
      try peer.expectTransfer(bytes, to: self, at: address, sourceLocation: sourceLocation)
    }
  }
}

extension Output {
  /// Pings without an answer, as ping itself tells at its end; all of them where it tells nothing.
  var lostPings: Int {
    guard let counts = standardOutput.firstMatch(of: /(\d+) packets transmitted, (\d+) received/),
      let sent = Int(counts.1), let received = Int(counts.2), sent > 0
    else { return .max }
    return sent - received
  }
}

/// What one run of iperf3 gave.
struct Throughput {
  var gigabitsPerSecond: Double
  /// Bits per second of each second of the run.
  var seconds: [Double]
  /// The seconds that carried nothing.
  var stalls: Int { seconds.count { $0 == 0 } }
}

extension Namespace {
  /// One TCP stream to a container for some seconds.
  func measureTCP(to peer: Namespace, at address: String, seconds: Int) throws -> Throughput {
    let server = try peer.start("exec iperf3 -s -1 -B \(address) -p 5201")
    defer { server.signal(SIGKILL) }
    try eventually("iperf3 listens in \(peer.name)") {
      try peer.must("cat /proc/net/tcp /proc/net/tcp6").contains(":1451 0")
    }
    let json = try must(
      "iperf3 -J -c \(address) -p 5201 -t \(seconds) -i 1",
      seconds: Double(seconds) + 20
    )
    struct Report: Decodable {
      struct Interval: Decodable {
        struct Sum: Decodable { var bits_per_second: Double }
        var sum: Sum
      }
      struct End: Decodable { var sum_received: Interval.Sum }
      var intervals: [Interval]
      var end: End
    }
    let report = try JSONDecoder().decode(Report.self, from: Data(json.utf8))
    return Throughput(
      gigabitsPerSecond: report.end.sum_received.bits_per_second / 1e9,
      seconds: report.intervals.map(\.sum.bits_per_second)
    )
  }
}
