import Foundation
import Glibc
import OVXControl
import Testing

extension SystemTests {
  /// What is used up is refused in words, costs nothing that is there, and can be had again later.
  @Suite struct ExhaustionTests {
    @Test func fileDescriptors() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .tap, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        try red.expectPing("172.17.42.12")
        let ping = try red.start("exec ping -i 0.05 -W 1 172.17.42.12")
        let process = daemon.process.pid
        let open = try host.must("ls /proc/\(process)/fd").split(separator: "\n").count
        try host.must("prlimit --pid \(process) --nofile=\(open + 12):")

        var refusal: Output?
        var before = ""
        for number in 0..<40 where refusal == nil {
          before = try host.ctl("-f json show")
          let output = try host.ctl([
            "add-br", "half\(number)", "--", "add-port", "br0", "t\(number)", "type=tap",
          ])
          if !output.succeeded { refusal = output }
        }
        let refused = try #require(refusal, "the descriptors never ran out")
        #expect(refused.status == 1)
        #expect(
          refused.standardError.contains("Too many open files")
            && refused.standardError.contains("LimitNOFILE="), "\(refused)")
        #expect(try host.ctl("-f json show") == before, "nothing was applied")

        // Those of what was removed serve again, and so do new ones.
        try host.ctl("del-br half0")
        try host.ctl("del-port t0")
        try host.ctl("add-port br0 t100 type=tap")
        try host.must("prlimit --pid \(process) --nofile=1024:")
        for number in 200..<220 { try host.ctl("add-port br0 t\(number) type=tap") }
        #expect(try !host.ctl("show").contains("error:"))
        ping.signal(SIGINT)
        let pings = try ping.finish(seconds: 5)
        #expect(pings.standardOutput.contains(" 0% packet loss"), "\(pings)")
      }
    }

    /// When ports have every last descriptor, an operator can still come in and remove one.
    @Test func descriptorsForTheOperator() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        let daemon = try lab.daemon(on: host)
        try host.ctl("add-br br0 -- add-port br0 t0 type=tap")
        let process = daemon.process.pid
        // From the first number on that is free, none can be had any more.
        let open = Set(
          try host.must("ls /proc/\(process)/fd").split(separator: "\n").compactMap { Int($0) })
        let free = try #require((0...open.count).first { !open.contains($0) })
        try host.must("prlimit --pid \(process) --nofile=\(free):")
        for number in 1...3 {
          let refused = try host.ctl(["-t", "5", "add-port", "br0", "t\(number)", "type=tap"])
          #expect(refused.status == 1, "\(refused)")
          #expect(refused.standardError.contains("Too many open files"), "\(refused)")
          #expect(try host.ctl("list-ports br0") == "t0\n")
        }
        // Also by way of several at once, of which most say nothing.
        let idle = try host.start(
          """
          exec python3 -c '
          import socket, time
          clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
          for client in clients: client.connect("\(host.rundir)/vswitchd.sock")
          print("connected", flush=True)
          time.sleep(60)'
          """)
        try eventually("they are connected") { idle.standardOutput.contains("connected") }
        #expect(try host.ctl("show").contains("Port t0"))
        idle.signal(SIGKILL)
        try host.ctl("del-port t0")
        #expect(try host.ctl("list-ports br0") == "")
        try host.must("prlimit --pid \(process) --nofile=1024:")
        try host.ctl("add-port br0 t1 type=tap")
      }
    }

    /// Where the kernel gives no thread, the daemon ends and says so.
    @Test func threads() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        // A thread's stack is as large as the limit of the main one, and nobody has so much memory.
        let refused = try host.run(
          "exec prlimit --stack=\(1 << 47) ovx-vswitchd --rundir \(host.rundir)")
        #expect(refused.status == 1, "\(refused)")
        #expect(
          refused.standardError.contains("the worker's thread")
            && refused.standardError.contains("TasksMax="), "\(refused)")
      }
    }

    /// A container makes up addresses: the table keeps its size, the flooder pays, and what is
    /// given back serves again.
    @Test func addresses() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0 -- set bridge br0 other_config:mac-table-size=100")
        let red = try (1...3).map {
          try lab.container("red\($0)", on: host, by: .veth, address: "172.17.42.1\($0)/24")
        }
        try host.ctl("fdb add br0 red3 0 02:00:00:00:00:77")
        try red[1].expectPing("172.17.42.13")
        func statistics() throws -> BridgeAddressStatistics {
          try #require(
            try JSONDecoder().decode(
              [BridgeAddressStatistics].self, from: Data(host.ctl("-f json fdb stats br0").utf8)
            ).first)
        }
        let before = try statistics()
        let others = try red[1...].map {
          try $0.mac()
        }
        let ping = try red[1].start("exec ping -i 0.02 -W 1 172.17.42.13")
        try red[0].must("python3 $TRAFFIC/mac_flood.py eth0 5000")
        try eventually("all of it was learned, and most forgotten") {
          try statistics().evicted >= before.evicted + 4900
        }
        ping.signal(SIGINT)
        #expect(
          try ping.finish(seconds: 5).lostPings <= 1, "but for the last, which was on its way")
        let full = try statistics()
        #expect(full.current == 100 && full.limit == 100 && full.statics == 1, "\(full)")
        let table = try host.ctl("fdb show br0")
        for address in others + ["02:00:00:00:00:77"] {
          #expect(table.contains(address), "\(address) gave way:\n\(table)")
        }
        // Room is had by forgetting, and by a larger table; both hold at once.
        #expect(try host.ctl("fdb flush br0").contains("addresses forgotten"))
        #expect(try statistics().current < 10)
        try host.ctl("set bridge br0 other_config:mac-table-size=6000")
        let evicted = try statistics().evicted
        try red[0].must("python3 $TRAFFIC/mac_flood.py eth0 5000")
        try eventually("all of it is kept") { try statistics().current >= 5000 }
        #expect(try statistics().evicted == evicted)
      }
    }

    /// The switch gets no time, and the queues in front of it run over: what is lost is counted by
    /// place, and it goes on as if nothing had been.
    @Test func receiveQueues() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        let daemon = try lab.overlay(on: host1, remotes: [2])
        // Its host sends, too.
        try lab.overlay(on: host2, remotes: [1], arguments: ["--no-underlay-filter"])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .veth, address: "172.17.42.12/24")
        try red1.expectPing("172.17.42.12")
        func large(from source: String) -> String {
          "020000000099" + source + "88b5" + String(repeating: "00", count: 1400)
        }
        daemon.process.signal(SIGSTOP)
        try red1.must(
          "python3 $TRAFFIC/send_frame.py eth0 40000 \(large(from: "020000000011"))")
        try host2.must(
          "python3 $TRAFFIC/send_vxlan.py \(Family.ipv4.address(2)) \(Family.ipv4.address(1)) 40000 "
            + "0800000000006400 \(large(from: "020000000012"))")
        daemon.process.signal(SIGCONT)
        try eventually("both queues' losses are counted") {
          let drops = try host1.drops()
          return drops["red1 receive-queue-full", default: 0] > 1000
            && drops["vxlan0 receive-queue-full", default: 0] > 1000
        }
        try red2.expectPing("172.17.42.11")
        let settled = try host1.drops()
        try red1.expectTransfer(5_000_000, to: red2, at: "172.17.42.12")
        let after = try host1.drops()
        for key in ["red1 receive-queue-full", "vxlan0 receive-queue-full"] {
          #expect(after[key] == settled[key], "\(key)")
        }
      }
    }

    /// A device whose reader has stopped reading: what it has no room for is counted there, and
    /// others miss nothing.
    @Test func deviceQueues() throws {
      try Lab.run { lab in
        let host = try lab.namespace("host1")
        try lab.daemon(on: host)
        try host.ctl("add-br br0")
        let red = try lab.container("red", on: host, by: .veth, address: "172.17.42.11/24")
        _ = try lab.container("blue", on: host, by: .veth, address: "172.17.42.12/24")
        // Another program's TAP: its queue is as long as the device's, 1000 frames.
        let reader = try host.start(
          """
          exec python3 -u -c '
          import fcntl, os, signal, struct
          signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
          tap = os.open("/dev/net/tun", os.O_RDWR)
          fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"slow0", 0x1002))
          print("open")
          signal.sigwait([signal.SIGUSR1])
          while True: os.read(tap, 65536)'
          """)
        try eventually("the device is there") { reader.standardOutput.contains("open") }
        try host.must("ip link set slow0 up")
        try host.ctl("add-port br0 slow0")
        let ping = try red.start("exec ping -i 0.05 -W 1 172.17.42.12")
        let broadcast = "ffffffffffff02000000001188b5" + String(repeating: "00", count: 100)
        try red.must("python3 $TRAFFIC/send_frame.py eth0 5000 \(broadcast)")
        try eventually("what there is no room for is counted") {
          try host.drops()["slow0 device-full", default: 0] > 1000
        }
        ping.signal(SIGINT)
        #expect(
          try ping.finish(seconds: 5).lostPings <= 1, "but for the last, which was on its way")
        reader.signal(SIGUSR1)
        try eventually("it takes frames again") {
          let before = try host.drops()["slow0 device-full", default: 0]
          try red.must("python3 $TRAFFIC/send_frame.py eth0 20 \(broadcast)")
          return try host.drops()["slow0 device-full", default: 0] == before
        }
        // Before it goes with its owner.
        try host.ctl("del-port slow0")
      }
    }

    /// The underlay takes datagrams slower than they come: what a socket has no room for is
    /// counted, and nothing after it.
    @Test func sendQueues() throws {
      try Lab.run { lab in
        let (host1, host2) = try lab.twoHosts()
        try lab.overlay(on: host1, remotes: [2])
        try lab.overlay(on: host2, remotes: [1])
        let red1 = try lab.container("red1", on: host1, by: .veth, address: "172.17.42.11/24")
        let red2 = try lab.container("red2", on: host2, by: .veth, address: "172.17.42.12/24")
        try red1.expectPing("172.17.42.12")
        // A queue with more room than a socket's own buffer, and hardly any way out of it.
        try host1.must("tc qdisc add dev eth0 root tbf rate 100kbit burst 20k limit 500m")
        let flood = try red1.start(
          """
          exec python3 -c '
          import socket
          out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
          while True: out.sendto(bytes(1400), ("172.17.42.12", 9))'
          """)
        try eventually("what there is no room for is counted", within: 20) {
          try host1.drops()["vxlan0 underlay-full", default: 0] > 1000
        }
        flood.signal(SIGKILL)
        _ = flood.wait(seconds: 5)
        try host1.must("tc qdisc del dev eth0 root")
        try red1.expectPing("172.17.42.12")
        let settled = try host1.drops()["vxlan0 underlay-full"]
        try red1.expectTransfer(1_000_000, to: red2, at: "172.17.42.12")
        #expect(try host1.drops()["vxlan0 underlay-full"] == settled)
      }
    }
  }
}
