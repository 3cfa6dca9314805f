import Dispatch
import Glibc
import OVXDatapath
import OVXLinux
import SystemPackage
import Testing

extension KernelTests {
  /// The worker's life, and what is attached to it.
  @Suite struct SwitchTests {
    @Test func `starting and stopping leaves nothing behind`() throws {
      // Only what is a switch's own: other tests run in this process at the same time.
      func rings() throws -> Int {
        try Scene.count("ls -l /proc/\(getpid())/fd | grep -c io_uring || true")
      }
      func workers() throws -> Int {
        try Scene.count("cat /proc/\(getpid())/task/*/comm | grep -c ovx-worker || true")
      }
      for _ in 0..<5 { try Switch().stop() }
      let before = (rings: try rings(), workers: try workers())
      for _ in 0..<50 { try Switch().stop() }
      // The handle that is let go of without a word stops the worker as well.
      for _ in 0..<5 { _ = try Switch() }
      #expect(try rings() == before.rings)
      #expect(try workers() == before.workers)
    }

    @Test func `starting and stopping takes no memory for good`() throws {
      // A megabyte and a half would stay each time. What other tests use in the meantime counts
      // here as well, so it is enough that one time in many the process has not grown.
      func growth() throws -> Int {
        func memory() throws -> Int {
          try Scene.count("awk '/^VmRSS/ {print $2}' /proc/\(getpid())/status")
        }
        let before = try memory()
        for _ in 0..<20 { try Switch().stop() }
        return try memory() - before
      }
      for _ in 0..<5 { try Switch().stop() }
      var figures: [Int] = []
      repeat { figures.append(try growth()) } while figures.count < 20 && figures.last ?? 0 > 5_000
      #expect(figures.contains { $0 <= 5_000 }, "kB: \(figures)")
    }

    @Test func `a stopped switch still answers, and takes nothing`() throws {
      let host = try Scene.anonymous()
      let bridge = try Switch()
      bridge.apply(.bridge(devices: [.left]))
      bridge.stop()
      bridge.stop()
      #expect(bridge.perform { datapath in datapath.counters(of: .left) } == PortCounters())
      #expect(bridge.pathMTU(of: UnderlaySocketID(rawValue: 0)) == nil)
      bridge.detach(.left)
      let tap = try host.perform { () throws(LinuxError) in try TAP.open(name: "tap0") }
      do throws(LinuxError) {
        try bridge.attach(tap, as: .left)
        Issue.record("a stopped switch took a device")
      } catch {
        #expect(error.description.contains("stopped"))
      }
      // The device was closed all the same.
      #expect(try host.perform { () throws(LinuxError) in InterfaceIndex(name: "tap0") } == nil)
    }

    @Test func `numbers out of range are refused, and closed`() throws {
      let host = try Scene.anonymous()
      let bridge = try Switch()
      let tap = try host.perform { () throws(LinuxError) in try TAP.open(name: "tap0") }
      do throws(LinuxError) {
        try bridge.attach(tap, as: PortID(rawValue: 4096))
        Issue.record("a port number out of range was taken")
      } catch {
        #expect(error.description.contains("0 to 4095"))
      }
      #expect(try host.perform { () throws(LinuxError) in InterfaceIndex(name: "tap0") } == nil)
      bridge.detach(.none)
      bridge.close(UnderlaySocketID(rawValue: .max))
      #expect(bridge.pathMTU(of: UnderlaySocketID(rawValue: .max)) == nil)
    }

    @Test func `an idle switch with a thousand devices costs next to no time`() throws {
      let host = try Scene.anonymous()
      let bridge = try Switch()
      let count: UInt16 = 1000
      let start = ContinuousClock.now
      for number in 0..<count {
        let tap = try host.perform { () throws(LinuxError) in try TAP.open(name: "tap\(number)") }
        try bridge.attach(tap, as: PortID(rawValue: number))
      }
      print("attaching \(count) TAPs took \(ContinuousClock.now - start)")
      bridge.apply(.bridge(devices: (0..<count).map(PortID.init(rawValue:))))
      let before = try workerTime()
      try Scene.must("sleep 3")
      let spent = try workerTime() - before
      print("the idle worker spent \(spent / 1000) us in 3 s")
      #expect(spent < 30_000_000, "1 % of the time, in ns")
      for number in 0..<count { bridge.detach(PortID(rawValue: number)) }
      // None is persistent: each went when the worker closed it.
      #expect(try host.perform { () throws(LinuxError) in InterfaceIndex(name: "tap999") } == nil)
      #expect(bridge.takeEvents().isEmpty)
    }

    @Test func `a device can be opened again as soon as it is detached`() throws {
      let host = try Scene.anonymous()
      let bridge = try Switch()
      for _ in 0..<100 {
        let tap = try host.perform { () throws(LinuxError) in
          try TAP.open(name: "tap0", persistent: true)
        }
        try bridge.attach(tap, as: .left)
        bridge.detach(.left)
      }
      // Attaching in place of what is attached closes that as well.
      for name in ["tap1", "tap2", "tap1"] {
        let tap = try host.perform { () throws(LinuxError) in try TAP.open(name: name) }
        try bridge.attach(tap, as: .left)
      }
      #expect(bridge.takeEvents().isEmpty)
    }

    @Test func `commands are carried out under full load, and traffic goes on`() throws {
      let scene = Scene()
      let (a, b) = (try scene.host("a"), try scene.host("b"))
      let bridge = try Switch()
      try bridge.attach(a.tap("eth0", address: "10.0.0.1/24"), as: .left)
      try bridge.attach(b.tap("eth0", address: "10.0.0.2/24"), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      // Both end by themselves: an iperf3 whose switch went away under it runs, and turns, for
      // ever.
      try b.must("timeout -s KILL 6 iperf3 -s -1 >/dev/null 2>&1 & sleep 0.3")
      try a.must("timeout -s KILL 5 iperf3 -c 10.0.0.2 -t 4 >/dev/null 2>&1 & sleep 0.5")
      var last = bridge.perform { datapath in datapath.counters(of: .left).receivedFrames }
      let first = last
      var longest = Duration.zero
      for _ in 0..<200 {
        let start = ContinuousClock.now
        let frames = bridge.perform { datapath in datapath.counters(of: .left).receivedFrames }
        longest = max(longest, ContinuousClock.now - start)
        #expect(frames >= last)
        last = frames
      }
      print("the longest of 200 commands under load took \(longest)")
      #expect(longest < .seconds(1))
      // Devices come and go beside the traffic.
      for _ in 0..<100 {
        let tap = try a.namespace.perform { () throws(LinuxError) in try TAP.open(name: "other") }
        try bridge.attach(tap, as: PortID(rawValue: 9))
        bridge.detach(PortID(rawValue: 9))
      }
      try Scene.must("sleep 0.5")
      let end = bridge.perform { datapath in datapath.counters(of: .left) }
      #expect(end.receivedFrames > first)
      #expect(end[.deviceRefused] == 0)
      #expect(try a.ping("10.0.0.2").received == 5)
    }

    @Test func `a device taking another's place under load is never taken for it`() throws {
      let scene = Scene()
      let (a, b) = (try scene.host("a"), try scene.host("b"))
      let bridge = try Switch()
      try bridge.attach(a.tap("eth0", address: "10.0.0.1/24"), as: .left)
      bridge.apply(.bridge(devices: [.left, .right]))
      // What comes in by `left` is flooded to `right` all the while.
      try a.must(
        "ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev eth0; (ping -f -w 3 10.0.0.2 >/dev/null 2>&1 &)"
      )
      for round in 0..<200 {
        let tap = try b.namespace.perform { () throws(LinuxError) in
          try TAP.open(name: "tap\(round % 2)")
        }
        try bridge.attach(tap, as: .right)
      }
      bridge.detach(.right)
      #expect(bridge.takeEvents().isEmpty)
      try bridge.attach(b.tap("eth0", address: "10.0.0.2/24"), as: .right)
      try a.must("ip neigh del 10.0.0.2 dev eth0")
      let ping = try a.ping("10.0.0.2")
      #expect(ping.received == 5, "\(ping.text)")
    }

    @Test func `a TAP that is deleted is reported, once, and its successor works`() throws {
      let scene = Scene()
      let (a, b) = (try scene.host("a"), try scene.host("b"))
      let bridge = try Switch()
      try bridge.attach(a.tap("eth0", address: "10.0.0.1/24"), as: .left)
      try bridge.attach(b.tap("eth0", address: "10.0.0.2/24"), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      #expect(try a.ping("10.0.0.2").received == 5)
      try b.must("ip link del eth0")
      let events = try waitForEvents(of: bridge)
      #expect(events == [.deviceLost(.right, Errno(rawValue: EBADFD))])
      _ = try a.ping("10.0.0.2")
      #expect(bridge.takeEvents().isEmpty)
      #expect(bridge.perform { $0.counters(of: .right)[.deviceDown] } > 0)
      try bridge.attach(b.tap("eth0", address: "10.0.0.2/24"), as: .right)
      try a.must("ip neigh flush all")
      let ping = try a.ping("10.0.0.2")
      #expect(ping.received == 5, "\(ping.text)")
    }

    @Test func `a veth that goes down is reported, and comes back by itself`() throws {
      let scene = Scene()
      let (a, b, host) = (try scene.host("a"), try scene.host("b"), try scene.host("s"))
      let bridge = try Switch()
      try bridge.attach(host.packetSocket("va", to: a, address: "10.0.0.1/24"), as: .left)
      try bridge.attach(host.packetSocket("vb", to: b, address: "10.0.0.2/24"), as: .right)
      bridge.apply(.bridge(devices: [.left, .right]))
      #expect(try a.ping("10.0.0.2").received == 5)
      try host.must("ip link set vb down")
      let events = try waitForEvents(of: bridge)
      #expect(events == [.deviceDown(.right)])
      #expect(try a.ping("10.0.0.2").received == 0)
      #expect(bridge.perform { $0.counters(of: .right)[.deviceDown] } > 0)
      try host.must("ip link set vb up")
      try b.must("ip neigh flush all; sleep 1.2")
      let ping = try a.ping("10.0.0.2")
      #expect(ping.received == 5, "\(ping.text)")
    }

    @Test func `what a queue had no room for is counted`() throws {
      let scene = Scene()
      let (a, host) = (try scene.host("a"), try scene.host("s"))
      let bridge = try Switch()
      try bridge.attach(host.packetSocket("va", to: a), as: .left)
      bridge.apply(.bridge(devices: [.left]))
      let left = try LinkEnd(a, "eth0")
      let isBusy = DispatchSemaphore(value: 0)
      let isFree = DispatchSemaphore(value: 0)
      DispatchQueue.global().async {
        bridge.perform { _ in
          isBusy.signal()
          isFree.wait()
        }
      }
      isBusy.wait()
      // 30,000 frames take some 70 MB in a queue that takes 32.
      let frame: [UInt8] =
        Array(repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x88, 0xB5]
        + Array(repeating: 0, count: 1486)
      for _ in 0..<30_000 { try left.send(frame) }
      isFree.signal()
      try Scene.must("sleep 2.5")
      let counters = bridge.perform { datapath in datapath.counters(of: .left) }
      #expect(counters[.receiveQueueFull] > 1000)
      #expect(counters.receivedFrames + counters[.receiveQueueFull] >= 30_000)
    }

    /// Open vSwitch believed the length that the kernel reports, which is that of the frame and not
    /// of what was read.
    @Test func `what is longer than a buffer is dropped and counted`() throws {
      let scene = Scene()
      let (a, b, host) = (try scene.host("a"), try scene.host("b"), try scene.host("s"))
      let bridge = try Switch()
      try bridge.attach(host.packetSocket("va", to: a), as: .left)
      try bridge.attach(host.packetSocket("vb", to: b), as: .right)
      // As containers can set it for themselves (BIG TCP).
      try a.must("ip link set eth0 gso_max_size 200000")
      bridge.apply(.bridge(devices: [.left, .right]))
      let left = try LinkEnd(a, "eth0")
      let right = try LinkEnd(b, "eth0")
      // A TCP superframe; the payload length of one so large is 0.
      let headers: [UInt8] =
        Array(repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x86, 0xDD]
        + [0x60, 0, 0, 0, 0, 0, 6, 64] + Array(repeating: 0xFD, count: 32)
        + [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0, 0, 0, 0]
      let offload = Offload(
        flags: .needsChecksum, segmentation: .tcp6, headerLength: 74, segmentSize: 1400,
        checksumStart: 54, checksumOffset: 16)
      for _ in 0..<5 {
        try left.send(headers + [UInt8](repeating: 7, count: 100_000), offload: offload)
      }
      let small: [UInt8] =
        Array(repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x88, 0xB5]
        + Array(repeating: 3, count: 46)
      try left.send(small)
      #expect(try right.receive() == LinkEnd.Frame(bytes: small, tag: []), "and nothing before it")
      let counters = bridge.perform { datapath in datapath.counters(of: .left) }
      #expect(counters[.tooLong] == 5)
    }

    @Test func `more failures than the completion queue holds are all counted`() throws {
      let host = try Scene.anonymous()
      let scene = Scene()
      let (a, outside) = (try scene.host("a"), try scene.host("s"))
      let bridge = try Switch()
      try bridge.attach(outside.packetSocket("va", to: a), as: .left)
      // Devices that are down refuse each frame; a burst of 64 is flooded to 128 of them.
      let down = (10..<138).map { PortID(rawValue: $0) }
      for port in down {
        let tap = try host.perform { () throws(LinuxError) in
          try TAP.open(name: "tap\(port.rawValue)")
        }
        try bridge.attach(tap, as: port)
      }
      bridge.apply(.bridge(devices: [.left] + down))
      let left = try LinkEnd(a, "eth0")
      let frame: [UInt8] =
        Array(repeating: 0xFF, count: 6) + [2, 0, 0, 0, 0, 1, 0x88, 0xB5]
        + Array(repeating: 0, count: 46)
      let before = bridge.perform { datapath in datapath.counters(of: .left).receivedFrames }
      for _ in 0..<2000 { try left.send(frame) }
      try Scene.must("sleep 1.5")
      let received =
        bridge.perform { datapath in datapath.counters(of: .left).receivedFrames } - before
      #expect(received >= 2000)
      for port in down {
        let counters = bridge.perform { datapath in datapath.counters(of: port) }
        #expect(counters[.deviceDown] >= received)
      }
      #expect(bridge.takeEvents().isEmpty)
    }

    /// The events that a switch reports within 5 s; they have to be announced by its descriptor.
    private func waitForEvents(of bridge: Switch) throws -> [Switch.Event] {
      var request = pollfd(fd: bridge.eventDescriptor, events: Int16(POLLIN), revents: 0)
      #expect(unsafe poll(&request, 1, 5000) == 1)
      let events = bridge.takeEvents()
      #expect(unsafe poll(&request, 1, 0) == 0)
      return events
    }

    /// Nanoseconds that the workers of this process have spent so far.
    private func workerTime() throws -> Int {
      try Scene.count(
        """
        for t in /proc/\(getpid())/task/*; do [ $(cat $t/comm) = ovx-worker ] && cat $t/schedstat; done \
        | awk '{s += $1} END {printf "%d", s}'
        """)
    }
  }
}
