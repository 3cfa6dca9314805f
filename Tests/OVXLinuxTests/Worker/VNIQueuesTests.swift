import CLinux
import Glibc
import OVXDatapath
import Testing

@testable import OVXLinux

/// Which socket of an endpoint gets which VNI.
@Suite struct VNIQueuesTests {
  private func topology(_ vnis: [UInt32]) throws -> Topology {
    let ports = try vnis.enumerated().map { index, value in
      Topology.Port(
        id: PortID(rawValue: UInt16(index)), bridge: BridgeID(rawValue: 0), vlans: .trunk(nil),
        attachment: .tunnel(
          Topology.Tunnel(
            vni: try #require(VNI(rawValue: value)), endpoint: ListenerID(rawValue: 0), peers: [])))
    }
    return Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))], ports: ports)
  }

  /// What a program answers for a datagram, by the rules of classic BPF.
  private func run(_ program: [sock_filter], vni: UInt32, sourcePort: UInt32) throws -> UInt32 {
    var (accumulator, index, memory): (UInt32, UInt32, UInt32) = (0, 0, 0)
    let network = UInt32(bitPattern: SKF_NET_OFF)
    var place = 0
    while true {
      let instruction = try #require(place < program.count ? program[place] : nil)
      place += 1
      let operand = instruction.k
      switch Int32(instruction.code) {
      case BPF_LD | BPF_W | BPF_ABS: accumulator = operand == 4 ? vni << 8 | 7 : 0
      case BPF_LD | BPF_H | BPF_ABS: accumulator = operand == network &+ 40 ? sourcePort : 0
      case BPF_LD | BPF_H | BPF_IND:
        accumulator = operand == network && index == 20 ? sourcePort : 0
      case BPF_LDX | BPF_B | BPF_MSH: index = 20
      case BPF_LD | BPF_IMM: accumulator = operand
      case BPF_LDX | BPF_MEM: index = memory
      case BPF_ST: memory = accumulator
      case BPF_ALU | BPF_RSH | BPF_K: accumulator >>= operand
      case BPF_ALU | BPF_MOD | BPF_K: accumulator %= operand
      case BPF_ALU | BPF_ADD | BPF_K: accumulator &+= operand
      case BPF_ALU | BPF_MUL | BPF_K: accumulator &*= operand
      case BPF_ALU | BPF_ADD | BPF_X: accumulator &+= index
      case BPF_JMP | BPF_JA: place += Int(operand)
      case BPF_JMP | BPF_JEQ | BPF_K:
        place += Int(accumulator == operand ? instruction.jt : instruction.jf)
      case BPF_RET | BPF_A: return accumulator
      default:
        Issue.record("no such instruction: \(instruction)")
        return 0
      }
    }
  }

  @Test(arguments: [1, 3], [false, true])
  func eachHasOneOfItsOwnAsFarAsTheySuffice(workers: Int, isIPv6: Bool) throws {
    for count in [0, 1, 2, 15, 16, 50] {
      let vnis = (0..<UInt32(count)).map { 16_777_215 - $0 * 65_537 }
      let queues = VNIQueues(of: ListenerID(rawValue: 0), in: try topology(vnis))
      let program = queues.program(workers: workers, isIPv6: isIPv6)
      var users = Array(repeating: 0, count: VNIQueues.count)
      var places: [Int: [Int]] = [:]
      for vni in vnis {
        var own: Set<UInt32> = []
        for port in 50_000..<50_004 as Range<UInt32> {
          let socket = try run(program, vni: vni, sourcePort: port)
          #expect(socket % UInt32(workers) == port % UInt32(workers))
          own.insert(socket / UInt32(workers))
        }
        let queue = Int(try #require(own.count == 1 ? own.first : nil))
        #expect(queue > 0 && queue < VNIQueues.count)
        if queue < users.count { users[queue] += 1 }
        places[queue, default: []].append(try #require(vnis.firstIndex(of: vni)))
      }
      #expect((users.max() ?? 0) - (users.dropFirst().min() ?? 0) <= 1)
      // Who is alone in a queue is charged with what it has no room for.
      for (queue, places) in places {
        let port = queues.port(of: queue).rawValue
        #expect(port == (places.count == 1 ? UInt16(places[0]) : .max))
      }
      // Strangers' VNIs are none of theirs.
      #expect(try run(program, vni: 4711, sourcePort: 50_000) / UInt32(workers) == 0)
    }
  }

  @Test func tooManyAreSpreadByNumber() throws {
    let vnis = Array(1...300 as ClosedRange<UInt32>)
    let queues = VNIQueues(of: ListenerID(rawValue: 0), in: try topology(vnis))
    let program = queues.program(workers: 2, isIPv6: false)
    #expect(program.count < 30)
    let used = Set(try vnis.map { try run(program, vni: $0, sourcePort: 50_001) })
    #expect(used.count == VNIQueues.count - 1 && used.allSatisfy { $0 % 2 == 1 && $0 < 32 })
  }

  @Test func otherEndpointsAndSeveralTunnelsOfOneVNI() throws {
    #expect(VNIQueues(of: ListenerID(rawValue: 1), in: try topology([5, 6])).vnis == [])
    let shared = VNIQueues(of: ListenerID(rawValue: 0), in: try topology([5, 5, 6]))
    #expect(shared.vnis.map(\.rawValue) == [5, 6])
    #expect(shared.port(of: 1) == .none)
    #expect(shared.port(of: 2) == PortID(rawValue: 2))
  }
}

extension KernelTests {
  @Suite struct VNIQueueKernelTests {
    /// The kernel does as the program says, with the sockets in the order in which they were made.
    @Test(arguments: [false, true], [1, 2])
    func `each VNI's datagrams come by a socket of its own`(isIPv6: Bool, workers: Int) throws {
      let scene = Scene()
      let host = try scene.host("a")
      try host.must("ip link set lo up")
      let home =
        isIPv6 ? IPAddress(v6High: 0, low: 1) : IPAddress(127, 0, 0, 1)
      let socket = try host.namespace.perform { () throws(LinuxError) in
        try UDPSocket.listen(
          local: nil, isIPv6: isIPv6, port: 4789, queues: workers * VNIQueues.count)
      }
      let shares = try socket.takeQueues().dealt(among: workers)
      defer { for share in shares.joined() { close(share.descriptor) } }
      #expect(shares.map(\.count) == Array(repeating: VNIQueues.count, count: workers))
      let ports = [100, 200, 300].enumerated().compactMap { index, value in
        VNI(rawValue: value).map { vni in
          Topology.Port(
            id: PortID(rawValue: UInt16(index)), bridge: BridgeID(rawValue: 0), vlans: .trunk(nil),
            attachment: .tunnel(
              Topology.Tunnel(vni: vni, endpoint: ListenerID(rawValue: 0), peers: [])))
        }
      }
      let queues = VNIQueues(
        of: ListenerID(rawValue: 0),
        in: Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))], ports: ports))
      #expect(queues.attach(to: shares[0][0].descriptor, workers: workers))
      for (turn, (vni, queue)) in [(100, 1), (200, 2), (300, 3), (400, 0), (200, 2)].enumerated() {
        let sourcePort = UInt16(50_000 + turn)
        let sender = try host.namespace.perform { () throws(LinuxError) in
          try UDPSocket.connect(
            local: nil, remote: home, port: 4789, sourcePort: sourcePort)
        }
        let out = sender.takeQueues()
        let datagram: [UInt8] = [8, 0, 0, 0, 0, UInt8(vni >> 8), UInt8(vni & 255), 0, 1, 2, 3]
        #expect(unsafe send(out.first, datagram, datagram.count, 0) == datagram.count)
        var buffer = [UInt8](repeating: 0, count: 100)
        var found: [String] = []
        for (worker, own) in shares.enumerated() {
          for (number, share) in own.enumerated() {
            if unsafe recv(share.descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
              > 0
            {
              found.append("worker \(worker) queue \(number)")
            }
          }
        }
        #expect(found == ["worker \(Int(sourcePort) % workers) queue \(queue)"])
      }
    }
  }
}
