import Foundation
import Glibc
import OVXDatapath
import OVXLinux
import Testing

/// Network namespaces with names, for programs to run in; all gone when the scene is.
final class Scene {
  private let prefix: String
  private var names: [String] = []

  init() {
    prefix = "ovxio\(getpid())-\(UInt16.random(in: 0 ... .max))-"
  }

  deinit {
    for name in names { _ = try? Self.run("ip netns del \(name)") }
  }

  /// Makes a namespace whose loopback is up.
  func host(_ name: String) throws -> Host {
    let full = prefix + name
    try Self.must("ip netns add \(full)")
    names.append(full)
    let host = try Host(name: full, namespace: NetworkNamespace(named: full))
    try host.must("ip link set lo up")
    return host
  }

  /// A namespace without a name, for what needs no programs.
  static func anonymous() throws -> NetworkNamespace { try NetworkNamespace.anonymous() }

  struct Outcome {
    var status: Int32
    var output: String
  }

  /// Runs a shell command to its end.
  @discardableResult
  static func run(_ command: String) throws -> Outcome {
    guard let stream = unsafe popen("exec 2>&1 </dev/null; " + command, "r") else {
      throw SceneError(description: "`\(command)` cannot be started")
    }
    var output: [UInt8] = []
    while true {
      let byte = unsafe getc_unlocked(stream)
      if byte == EOF { break }
      output.append(UInt8(truncatingIfNeeded: byte))
    }
    let status = unsafe pclose(stream)
    return Outcome(status: status, output: String(decoding: output, as: UTF8.self))
  }

  /// Runs a shell command that prints a number.
  static func count(_ command: String) throws -> Int {
    let output = try must(command)
    guard let number = Int(output.filter { !$0.isWhitespace }) else {
      throw SceneError(description: "`\(command)` printed: \(output)")
    }
    return number
  }

  /// Runs a shell command that has to succeed, and returns what it printed.
  @discardableResult
  static func must(_ command: String) throws -> String {
    let outcome = try run(command)
    guard outcome.status == 0 else {
      throw SceneError(description: "`\(command)` failed: \(outcome.output)")
    }
    return outcome.output
  }
}

struct SceneError: Error, CustomStringConvertible {
  var description: String
}

/// A namespace of a scene.
struct Host {
  let name: String
  let namespace: NetworkNamespace

  @discardableResult
  func run(_ command: String) throws -> Scene.Outcome {
    try Scene.run("export CMD='\(command)'; ip netns exec \(name) timeout 60 bash -c \"$CMD\"")
  }

  @discardableResult
  func must(_ command: String) throws -> String {
    try Scene.must("export CMD='\(command)'; ip netns exec \(name) timeout 60 bash -c \"$CMD\"")
  }

  /// Opens a TAP of the host that lives as long as its descriptor, and sets it up with an address.
  func tap(
    _ interface: String, address: String, mtu: Int = 1500, queues: Int = 1
  ) throws -> TAP {
    let tap = try namespace.perform { () throws(LinuxError) in
      try TAP.open(name: interface, persistent: false, queues: queues)
    }
    try must("ip link set \(interface) mtu \(mtu) up && ip addr add \(address) dev \(interface)")
    return tap
  }

  /// Makes a veth pair between this host and another one, whose end is `eth0`, and opens a packet
  /// socket on this end.
  ///
  /// Offloads stay as the kernel sets them.
  func packetSocket(
    _ interface: String, to peer: Host, address: String? = nil, queues: Int = 1
  ) throws -> PacketSocket {
    try Scene.must(
      "ip link add \(interface) netns \(name) type veth peer name eth0 netns \(peer.name)")
    try must(
      "sysctl -qw net.ipv6.conf.\(interface).disable_ipv6=1; ip link set \(interface) up")
    if let address { try peer.must("ip addr add \(address) dev eth0") }
    try peer.must("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1; ip link set eth0 up")
    return try namespace.perform { () throws(LinuxError) in
      try PacketSocket.open(interface: interface, queues: queues)
    }
  }

  /// How many of five pings to an address come back, and what ping says.
  func ping(_ address: String, options: String = "") throws -> (received: Int, text: String) {
    let text = try run("ping -c 5 -i 0.05 -W 1 \(options) \(address)").output
    let received = text.firstMatch(of: /(\d+) received/).flatMap { Int($0.1) } ?? 0
    return (received, text)
  }
}

/// What iperf3 measured.
struct Throughput {
  var gigabitsPerSecond: Double
  var retransmits: Int

  /// Measures one TCP stream between two hosts.
  static func tcp(
    from client: Host, to server: Host, _ address: String, seconds: Int, options: String = ""
  ) throws -> Throughput {
    try server.must("iperf3 -s -1 -D >/dev/null 2>&1")
    try Scene.must("sleep 0.3")
    let text = try client.must("iperf3 -c \(address) -t \(seconds) -J \(options)")
    let report = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    let end = report?["end"] as? [String: Any]
    let received = end?["sum_received"] as? [String: Any]
    let sent = end?["sum_sent"] as? [String: Any]
    guard let bits = received?["bits_per_second"] as? Double else {
      throw SceneError(description: "iperf3 said: \(text.prefix(300))")
    }
    return Throughput(
      gigabitsPerSecond: bits / 1e9, retransmits: sent?["retransmits"] as? Int ?? -1)
  }
}

extension PortID {
  static let left = PortID(rawValue: 0)
  static let right = PortID(rawValue: 1)
  static let tunnel = PortID(rawValue: 2)
}

extension Topology {
  /// One bridge with device ports, all in the segment of untagged frames.
  static func bridge(devices: [PortID], mtu: Int = 1500) -> Topology {
    Topology(
      bridges: [Bridge(id: BridgeID(rawValue: 0))],
      ports: devices.map { id in
        Port(
          id: id, bridge: BridgeID(rawValue: 0), vlans: .trunk(nil),
          attachment: .device(Device(mtu: mtu, capabilities: .all)))
      })
  }
}
