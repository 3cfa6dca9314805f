import CLinux
import Glibc
import OVXDatapath
import OVXLinux
import SystemPackage
import Testing

extension KernelTests {
  /// Real traffic through a switch: pings, TCP and UDP between namespaces.
  @Suite struct TrafficTests {
    @Test func `TAPs of two namespaces reach each other`() throws {
      let scene = Scene()
      let (a, b) = (try scene.host("a"), try scene.host("b"))
      let bridge = try Switch()
      try bridge.attach(a.tap("eth0", address: "10.0.0.1/24"), as: .left)
      try bridge.attach(b.tap("eth0", address: "10.0.0.2/24"), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      try expectTraffic(from: a, to: b, "10.0.0.2", "TAP to TAP")
      try expectSuperframes(bridge, .left)
    }

    @Test func `veths with their default offloads reach each other`() throws {
      let scene = Scene()
      let (a, b, host) = (try scene.host("a"), try scene.host("b"), try scene.host("s"))
      let bridge = try Switch()
      try bridge.attach(host.packetSocket("va", to: a, address: "10.0.0.1/24"), as: .left)
      try bridge.attach(host.packetSocket("vb", to: b, address: "10.0.0.2/24"), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      try expectTraffic(from: a, to: b, "10.0.0.2", "veth to veth")
      try expectSuperframes(bridge, .left)
    }

    @Test func `a tag that the kernel took out of a frame is put back`() throws {
      let scene = Scene()
      let (a, b, host) = (try scene.host("a"), try scene.host("b"), try scene.host("s"))
      let bridge = try Switch()
      try bridge.attach(host.packetSocket("va", to: a), as: .left)
      try bridge.attach(host.packetSocket("vb", to: b), as: .right)
      let left = try LinkEnd(a, "eth0")
      let right = try LinkEnd(b, "eth0")
      var topology = Topology.bridge(devices: [.left, .right])
      let addresses: [UInt8] = Array(repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1]
      let payload: [UInt8] = [0x88, 0xB5] + (0..<60).map { UInt8($0) }
      let tagged = addresses + [0x81, 0x00, 0xA0, 0x07] + payload
      // Trunk to trunk: the tag arrives as it was sent, its priority included.
      bridge.apply(topology)
      try left.send(tagged)
      #expect(
        try right.receive() == LinkEnd.Frame(bytes: addresses + payload, tag: [0x8100, 0xA007]))
      // Trunk to access: it arrives without.
      topology.ports[1].vlans = .access(try #require(VLANID(rawValue: 7)))
      bridge.apply(topology)
      try left.send(tagged)
      #expect(try right.receive() == LinkEnd.Frame(bytes: addresses + payload, tag: []))
      // Access to trunk: it arrives with one.
      try right.send(addresses + payload)
      #expect(
        try left.receive() == LinkEnd.Frame(bytes: addresses + payload, tag: [0x8100, 0x0007]))
      // A service tag is taken out by the kernel as well, and it is another protocol.
      topology.ports[1].vlans = .trunk(nil)
      bridge.apply(topology)
      try left.send(addresses + [0x88, 0xA8, 0x00, 0x07] + payload)
      let service = try right.receive()
      #expect(service.tag == [0x88A8, 7] || service.bytes.starts(with: addresses + [0x88, 0xA8]))
    }

    @Test func `a packet socket hears only its own interface, and not what the host sends`() throws
    {
      let scene = Scene()
      let (a, b, host) = (try scene.host("a"), try scene.host("b"), try scene.host("s"))
      let bridge = try Switch()
      let noisy = try host.packetSocket("va", to: a, address: "10.0.0.1/24")
      try host.must("ip addr add 10.0.0.3/24 dev va")
      try a.must("(ping -f -w 2 10.0.0.3 >/dev/null 2>&1 &)")
      try bridge.attach(host.packetSocket("vb", to: b, address: "10.0.1.1/24"), as: .right)
      try Scene.must("sleep 1")
      #expect(noisy.capabilities == .all)
      try bridge.attach(noisy, as: .left)
      bridge.apply(.bridge(devices: [.left, .right]))
      _ = try a.ping("10.0.0.3")
      let (left, right) = bridge.perform { datapath in
        (datapath.counters(of: .left), datapath.counters(of: .right))
      }
      #expect(left.receivedFrames >= 5)
      #expect(right.receivedFrames == 0)
    }

    @Test(arguments: [false, true])
    func `two switches over UDP are one bridge`(_ isIPv6: Bool) throws {
      let tunnel = try TunnelScene(isIPv6: isIPv6)
      try tunnel.connect(mtu: 1500)
      let overlayMTU = 1500 - (isIPv6 ? 70 : 50)
      try expectTraffic(
        from: tunnel.left, to: tunnel.right, "10.0.0.2", "tunnel over \(isIPv6 ? "IPv6" : "IPv4")")
      let whole = try tunnel.left.ping("10.0.0.2", options: "-M do -s \(overlayMTU - 28)")
      #expect(whole.received == 5, "\(whole.text)")
      try expectSuperframes(tunnel.switches[0], .left)
    }

    @Test func `a path that gets narrower is reported, and tells its MTU`() throws {
      let tunnel = try TunnelScene(isIPv6: false)
      try tunnel.connect(mtu: 1500)
      #expect(try tunnel.left.ping("10.0.0.2").received == 5)
      let bridge = tunnel.switches[0]
      #expect(bridge.pathMTU(of: UnderlaySocketID(rawValue: 0)) == 1500)
      try tunnel.hosts[0].must("ip link set underlay mtu 1400")
      #expect(try tunnel.left.ping("10.0.0.2", options: "-s 1400").received == 0)
      let events = bridge.takeEvents()
      #expect(!events.isEmpty)
      for event in events {
        guard case .pathNarrowed(let path) = event else {
          Issue.record("\(event)")
          continue
        }
        #expect(bridge.pathMTU(of: path) == 1400)
      }
      #expect(bridge.perform { $0.counters(of: .tunnel)[.exceedsTunnelMTU] } >= 5)
      #expect(try tunnel.left.ping("10.0.0.2").received == 5)
    }

    @Test func `a remote that refuses costs frames only while it does`() throws {
      let tunnel = try TunnelScene(isIPv6: false)
      try tunnel.connect(mtu: 1500)
      #expect(try tunnel.left.ping("10.0.0.2").received == 5)
      // Without its socket, the far host answers with ICMP, which the near sockets remember until
      // it is taken from them.
      tunnel.switches[1].close(ListenerID(rawValue: 0))
      #expect(try tunnel.left.ping("10.0.0.2").received == 0)
      func refused() -> UInt64 {
        tunnel.switches[0].perform { $0.counters(of: .tunnel)[.remoteNotListening] }
      }
      let before = refused()
      #expect(before > 0)
      try tunnel.listen(1)
      // The first frame after the far side is back is not the one to find that error.
      let ping = try tunnel.left.ping("10.0.0.2")
      #expect(ping.received == 5, "\(ping.text)")
      #expect(refused() == before)
    }

    private func expectTraffic(
      from client: Host, to server: Host, _ address: String, _ name: String
    ) throws {
      let ping = try client.ping(address)
      #expect(ping.received == 5, "\(ping.text)")
      let tcp = try Throughput.tcp(from: client, to: server, address, seconds: 1)
      print("\(name): \(tcp)")
      #expect(tcp.gigabitsPerSecond > 0.01, "even the debug build on a busy machine")
    }

    /// TCP has to have come in superframes: else the offloads that make it fast are not in use.
    private func expectSuperframes(_ bridge: Switch, _ port: PortID) throws {
      let counters = bridge.perform { datapath in datapath.counters(of: port) }
      let average = counters.receivedBytes / max(1, counters.receivedFrames)
      #expect(average > 3000, "bytes per frame")
    }
  }
}

/// A host's end of a link, to put single frames on and to take them off.
struct LinkEnd: ~Copyable {
  private let descriptor: Descriptor

  struct Frame: Equatable {
    var bytes: [UInt8]
    /// The protocol and the control field of a tag that the kernel took out of the frame.
    var tag: [UInt16]
  }

  init(_ host: Host, _ interface: String) throws {
    descriptor = try host.namespace.perform { () throws(LinuxError) in
      try PacketSocket.open(interface: interface)
    }.takeQueues().takeOnly()
  }

  func send(_ frame: [UInt8], offload: Offload = .none) throws {
    let bytes = unsafe withUnsafeBytes(of: offload) { unsafe Array($0) } + frame
    let sent = unsafe bytes.withUnsafeBytes { bytes in
      unsafe write(descriptor.rawValue, bytes.baseAddress, bytes.count)
    }
    guard sent == bytes.count else { throw SceneError(description: "sending failed: \(errno)") }
  }

  /// The next frame, within a second.
  func receive() throws -> Frame {
    var request = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
    guard unsafe poll(&request, 1, 1000) == 1 else {
      throw SceneError(description: "no frame came")
    }
    var bytes = Array(repeating: UInt8(0), count: 2048)
    var receipt = unsafe ovx_receipt()
    let count = unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe recvmsg(
        descriptor.rawValue, ovx_receipt_prepare(&receipt, bytes.baseAddress, bytes.count), 0)
    }
    guard count >= Offload.byteCount else { throw SceneError(description: "no frame came") }
    let facts = unsafe ovx_receipt_read(&receipt)
    return Frame(
      bytes: Array(bytes[Offload.byteCount..<count]),
      tag: facts.vlan_protocol == 0 ? [] : [facts.vlan_protocol, facts.vlan_control])
  }
}

/// Two hosts with an underlay between them, a switch on each, and a container with a TAP behind
/// each.
final class TunnelScene {
  let scene = Scene()
  let hosts: [Host]
  let left: Host
  let right: Host
  let switches: [Switch]
  let addresses: [IPAddress]
  let isIPv6: Bool

  init(isIPv6: Bool, workers: Int = 1) throws {
    self.isIPv6 = isIPv6
    hosts = [try scene.host("h1"), try scene.host("h2")]
    left = try scene.host("a")
    right = try scene.host("b")
    switches = [try Switch(workers: workers), try Switch(workers: workers)]
    addresses = [1, 2].map { last in
      isIPv6
        ? IPAddress(v6High: 0x2001_0db8_0000_0000, low: last)
        : IPAddress(192, 0, 2, UInt8(last))
    }
  }

  /// Joins the hosts by an underlay of an MTU, and the containers by a tunnel.
  func connect(mtu: Int) throws {
    try Scene.must(
      "ip link add underlay mtu \(mtu) netns \(hosts[0].name) type veth peer name underlay mtu \(mtu) netns \(hosts[1].name)"
    )
    let overlayMTU = mtu - (isIPv6 ? 70 : 50)
    for (index, host) in hosts.enumerated() {
      let address = isIPv6 ? "2001:db8::\(index + 1)/64" : "192.0.2.\(index + 1)/24"
      try host.must(
        "ip link set underlay up; ip addr add \(address) dev underlay \(isIPv6 ? "nodad" : "")")
    }
    for (index, host) in hosts.enumerated() {
      let container = [left, right][index]
      let tap = try container.tap(
        "eth0", address: "10.0.0.\(index + 1)/24", mtu: overlayMTU,
        queues: switches[index].queueCount)
      try switches[index].attach(tap, as: .left)
      try listen(index)
      let remote = addresses[1 - index]
      for path: UInt32 in 0..<16 {
        let socket = try host.namespace.perform { () throws(LinuxError) in
          try UDPSocket.connect(
            local: nil, remote: remote, port: 4789, sourcePort: 50_000 + UInt16(path))
        }
        try switches[index].open(UnderlaySocketID(rawValue: path), socket: socket)
      }
      var topology = Topology.bridge(devices: [.left], mtu: overlayMTU)
      let peer = Topology.Peer(
        id: RemoteVTEPID(rawValue: 1), remote: remote, paths: 0..<16, mtu: overlayMTU)
      topology.ports.append(
        Topology.Port(
          id: .tunnel, bridge: BridgeID(rawValue: 0), vlans: .trunk(nil),
          attachment: .tunnel(
            Topology.Tunnel(
              vni: try #require(VNI(rawValue: 100)), endpoint: ListenerID(rawValue: 0),
              peers: [peer]))))
      switches[index].apply(topology)
    }
  }

  /// Opens a host's listening socket.
  func listen(_ index: Int) throws {
    let count = switches[index].queueCount
    let socket = try hosts[index].namespace.perform { [isIPv6] () throws(LinuxError) in
      try UDPSocket.listen(local: nil, isIPv6: isIPv6, port: 4789, queues: count)
    }
    try switches[index].open(ListenerID(rawValue: 0), socket: socket)
  }
}
