import Foundation
import Glibc
import OVXDatapath
import OVXLinux
import SystemPackage
import Testing

extension KernelTests {
  /// Several workers: each flow stays with one of them, and all know what one has learned.
  @Suite struct WorkersTests {
    @Test func `flows through a tunnel are spread, and each keeps its order`() throws {
      let tunnel = try TunnelScene(isIPv6: false, workers: 2)
      try tunnel.connect(mtu: 1500)
      let ping = try tunnel.left.ping("10.0.0.2")
      #expect(ping.received == 5 && !ping.text.contains("DUP"), "\(ping.text)")
      try expectOrder(from: tunnel.left, to: tunnel.right, "10.0.0.2")
      let tcp = try Throughput.tcp(
        from: tunnel.left, to: tunnel.right, "10.0.0.2", seconds: 1, options: "-P 8")
      print("Two workers, a tunnel, 8 streams: \(tcp)")
      // The other way there are but eight streams' acknowledgments: a coin falls eight times
      // on one side once in 128 rounds.
      expectShares(tunnel.switches[0], .left)
      expectShares(tunnel.switches[1], .tunnel)
      for bridge in tunnel.switches { #expect(bridge.takeEvents().isEmpty) }
      try expectEqualKnowledge(tunnel.switches)
    }

    @Test func `flows between veths are spread, and each keeps its order`() throws {
      let scene = Scene()
      let (a, b, host) = (try scene.host("a"), try scene.host("b"), try scene.host("s"))
      let bridge = try Switch(workers: 3)
      let count = bridge.queueCount
      try bridge.attach(
        host.packetSocket("va", to: a, address: "10.0.0.1/24", queues: count), as: .left)
      try bridge.attach(
        host.packetSocket("vb", to: b, address: "10.0.0.2/24", queues: count), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      let ping = try a.ping("10.0.0.2")
      #expect(ping.received == 5 && !ping.text.contains("DUP"), "\(ping.text)")
      try expectOrder(from: a, to: b, "10.0.0.2")
      expectShares(bridge, .left)
      // What the switch itself puts on a device does not come back by one of its sockets.
      let (left, right) = (counters(bridge, .left), counters(bridge, .right))
      #expect(left.map(\.sentFrames).reduce(0, +) <= right.map(\.receivedFrames).reduce(0, +))
      #expect(right.map(\.sentFrames).reduce(0, +) <= left.map(\.receivedFrames).reduce(0, +))
      try expectEqualKnowledge([bridge])
    }

    @Test func `a TAP made for one worker serves several, and one made for several serves one`()
      throws
    {
      let scene = Scene()
      let host = try scene.host("h")
      for (before, after) in [(1, 2), (2, 1), (2, 3)] {
        _ = try host.namespace.perform { () throws(LinuxError) in
          try TAP.open(name: "tap0", persistent: true, queues: before)
        }
        let other = try scene.host("o\(before)\(after)")
        let bridge = try Switch(workers: after)
        try bridge.attach(host.tap("tap0", address: "10.0.0.1/24", queues: after), as: .left)
        try bridge.attach(
          other.tap("tap0", address: "10.0.0.2/24", queues: after), as: .right)
        bridge.apply(.bridge(devices: [.left, .right]))
        let ping = try host.ping("10.0.0.2")
        #expect(ping.received == 5, "\(before) queues, \(after) workers: \(ping.text)")
        try expectOrder(from: other, to: host, "10.0.0.1")
        bridge.stop()
      }
    }

    @Test func `what happens to a device is told once`() throws {
      let scene = Scene()
      let (a, host) = (try scene.host("a"), try scene.host("s"))
      let bridge = try Switch(workers: 4)
      try bridge.attach(
        host.packetSocket("va", to: a, address: "10.0.0.1/24", queues: 4), as: .left)
      try bridge.attach(host.tap("tap0", address: "10.0.0.2/24", queues: 4), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      try host.must("ip link del tap0; ip link del va")
      var events: [Switch.Event] = []
      // Whoever reads the TAP in the instant of its end learns of it at the next tick.
      for _ in 0..<50 {
        usleep(50_000)
        events += bridge.takeEvents()
      }
      #expect(
        events.filter { $0 == .deviceLost(.right, Errno(rawValue: EBADFD)) }.count == 1, "\(events)"
      )
      #expect(events.count { $0 == .deviceDown(.left) } <= 1, "\(events)")
    }

    @Test func `a refused share leaves nothing attached`() throws {
      let host = try Scene.anonymous()
      let bridge = try Switch(workers: 2)
      let tap = try host.perform { () throws(LinuxError) in try TAP.open(name: "tap0", queues: 2) }
      do throws(LinuxError) {
        try bridge.attach(tap, as: PortID(rawValue: 4096))
        Issue.record("a port number out of range was taken")
      } catch {
        #expect(error.errno == .invalidArgument)
      }
      #expect(try host.perform { () throws(LinuxError) in InterfaceIndex(name: "tap0") } == nil)
    }

    // MARK: What is expected

    /// Thirty-two flows of datagrams, of which none overtakes another one of its flow.
    private func expectOrder(from client: Host, to server: Host, _ address: String) throws {
      try server.must("iperf3 -s -1 -D >/dev/null 2>&1")
      try Scene.must("sleep 0.3")
      let text = try client.must("iperf3 -u -c \(address) -t 1 -P 32 -b 2M -l 200 -J")
      let report = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
      let end = report?["end"] as? [String: Any]
      let streams = try #require(end?["streams"] as? [[String: Any]], "\(text)")
      let facts = streams.compactMap { $0["udp"] as? [String: Any] }
      #expect(facts.count == 32)
      for fact in facts { #expect(fact["out_of_order"] as? Int == 0, "\(fact)") }
    }

    private func counters(_ bridge: Switch, _ port: PortID) -> [PortCounters] {
      bridge.performOnAll { datapath in datapath.counters(of: port) }
    }

    private func expectShares(_ bridge: Switch, _ port: PortID) {
      for (worker, counters) in counters(bridge, port).enumerated() {
        #expect(counters.receivedFrames > 50, "worker \(worker) of port \(port)")
      }
    }

    /// A moment after the last frame, the tables of all workers have the same addresses at the same
    /// places.
    private func expectEqualKnowledge(_ bridges: [Switch]) throws {
      try Scene.must("sleep 1.5")
      for bridge in bridges {
        let tables = bridge.performOnAll { datapath in
          datapath.addresses(of: BridgeID(rawValue: 0)).map {
            "\($0.address) \($0.vlan) \($0.port) \($0.peer.rawValue)"
          }.sorted()
        }
        #expect(tables[0].count >= 2)
        for table in tables { #expect(table == tables[0]) }
      }
    }
  }
}
