internal import CLinux
private import Glibc
internal import OVXDatapath

/// Which of an endpoint's sockets gets which VNI's datagrams.
///
/// All remotes and all tenants send to one UDP port. In one socket's queue a tenant who is sent
/// more than is read would have the others' datagrams dropped with its own, and wait behind them.
/// So an endpoint has several sockets (`SO_REUSEPORT`), and a filter that the kernel asks for each
/// datagram (classic BPF, `SO_ATTACH_REUSEPORT_CBPF`) gives each VNI that is configured one of
/// them, for itself as far as they suffice. The first one is for what is of no VNI.
///
/// Among several workers, which have as many sockets each, it chooses by the outer source port,
/// which stands for a flow. Without the filter the kernel chooses by addresses and ports: nothing
/// is lost but the order of tenants.
struct VNIQueues: Equatable, Sendable {
  /// Sockets of an endpoint for each worker.
  static let count = 16
  /// Endpoints that have so many, those of the lowest numbers; the others have one, so that
  /// descriptors suffice.
  static let endpointLimit = 16
  /// VNIs that are told apart; where there are more, all are spread by their numbers.
  static let vniLimit = 256

  /// The VNIs of an endpoint, in order.
  private(set) var vnis: [VNI] = []
  /// The port that receives each of them; none where it depends on the sender.
  private var ports: [PortID] = []

  init() {}

  /// What the sockets are for of every endpoint that has several.
  static func all(in topology: borrowing Topology) -> [ListenerID: VNIQueues] {
    var all: [ListenerID: VNIQueues] = [:]
    for number in 0..<endpointLimit {
      let endpoint = ListenerID(rawValue: UInt16(number))
      all[endpoint] = VNIQueues(of: endpoint, in: topology)
    }
    return all
  }

  /// Gathers the VNIs that tunnels of a topology receive by an endpoint.
  init(of endpoint: ListenerID, in topology: borrowing Topology) {
    var found: [VNI: PortID] = [:]
    for port in topology.ports {
      guard case .tunnel(let tunnel) = port.attachment,
        tunnel.endpoint == endpoint || tunnel.fallbackEndpoints.contains(endpoint)
      else { continue }
      found[tunnel.vni] = found[tunnel.vni] == nil ? port.id : PortID.none
    }
    vnis = found.keys.sorted { $0.rawValue < $1.rawValue }
    ports = vnis.map { found[$0] ?? .none }
  }

  /// The socket of each VNI, where they are told apart.
  private func queue(_ place: Int) -> Int { 1 + place % (Self.count - 1) }

  /// The port that gets all that one of the sockets receives, if it is one.
  func port(of queue: Int) -> PortID {
    guard vnis.count <= Self.vniLimit else { return .none }
    let places = vnis.indices.filter { self.queue($0) == queue }
    return places.count == 1 ? ports[places[0]] : .none
  }

  /// The program that returns the number of the socket for a datagram, which begins with its VXLAN
  /// header.
  ///
  /// Sockets are numbered in the order in which they were bound: first those of all workers for the
  /// first queue.
  func program(workers: Int, isIPv6: Bool) -> [sock_filter] {
    var program: [sock_filter] = []
    func add(_ code: Int32, _ operand: UInt32, _ yes: UInt8 = 0, _ no: UInt8 = 0) {
      program.append(
        sock_filter(code: UInt16(truncatingIfNeeded: code), jt: yes, jf: no, k: operand))
    }
    // What is too short for a VNI gets the first socket: a load that fails ends the program with 0.
    add(BPF_LD | BPF_W | BPF_ABS, 4)
    add(BPF_ALU | BPF_RSH | BPF_K, 8)
    if vnis.count > Self.vniLimit {
      add(BPF_ALU | BPF_MOD | BPF_K, UInt32(Self.count - 1))
      add(BPF_ALU | BPF_ADD | BPF_K, 1)
      add(BPF_ALU | BPF_MUL | BPF_K, UInt32(workers))
    } else {
      for (place, vni) in vnis.enumerated() {
        // Past the two instructions that follow, if it is another one; the second of them goes to
        // the end.
        add(BPF_JMP | BPF_JEQ | BPF_K, vni.rawValue, 0, 2)
        add(BPF_LD | BPF_IMM, UInt32(queue(place) * workers))
        add(BPF_JMP | BPF_JA, UInt32((vnis.count - place - 1) * 3 + 1))
      }
      add(BPF_LD | BPF_IMM, 0)
    }
    if workers > 1 {
      let network = UInt32(bitPattern: SKF_NET_OFF)
      add(BPF_ST, 0)
      if isIPv6 {
        add(BPF_LD | BPF_H | BPF_ABS, network &+ 40)
      } else {
        add(BPF_LDX | BPF_B | BPF_MSH, network)
        add(BPF_LD | BPF_H | BPF_IND, network)
      }
      add(BPF_ALU | BPF_MOD | BPF_K, UInt32(workers))
      add(BPF_LDX | BPF_MEM, 0)
      add(BPF_ALU | BPF_ADD | BPF_X, 0)
    }
    add(BPF_RET | BPF_A, 0)
    return program
  }

  /// Has the kernel ask the program for a socket and the others of its group.
  ///
  /// - Returns: Whether it does.
  func attach(to descriptor: Int32, workers: Int) -> Bool {
    var instructions = program(workers: workers, isIPv6: ovx_is_ipv6(descriptor))
    let count = instructions.count
    return unsafe instructions.withUnsafeMutableBufferPointer { buffer in
      var program = unsafe sock_fprog(
        len: UInt16(truncatingIfNeeded: count), filter: buffer.baseAddress)
      return unsafe setsockopt(
        descriptor, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program,
        socklen_t(MemoryLayout<sock_fprog>.size)) == 0
    }
  }
}
