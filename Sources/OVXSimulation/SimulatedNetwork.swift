package import OVXDatapath

/// An underlay between hosts: it carries datagrams in virtual time, and loses, doubles and reorders
/// them as told.
///
/// Datagrams of one path, that is of one source port, arrive in the order in which they were sent
/// unless they are reordered on purpose; those of different paths may overtake each other. What
/// arrives together on one path may be handed over as one train, as `UDP_GRO` does.
package struct SimulatedNetwork {
  /// How well the underlay works; probabilities are 0...1 and per datagram.
  package struct Conditions {
    package var loss = 0.0
    package var duplication = 0.0
    package var reordering = 0.0
    /// How likely a datagram joins the train of the one before it, where it could.
    package var trains = 0.5
    /// Microseconds under way.
    package var delay: ClosedRange<UInt64> = 50...80
    /// The largest UDP payload in bytes that passes; larger ones are counted in `oversized` and
    /// lost.
    package var datagramLimit = 9000

    package init() {}
  }

  /// A frame that a host handed to one of its devices.
  package struct Delivery {
    package var host: Int
    package var port: PortID
    package var frame: PartialFrame
  }

  private struct Node {
    var host: SimulatedHost
    var address: IPAddress
    var endpoint: ListenerID
    /// When the last datagram to this node by each path arrives, which later ones may not precede.
    var lastArrival: [Lane: UInt64] = [:]
  }

  /// A sender and one of its source ports.
  private struct Lane: Hashable {
    var sender: Int
    var path: UnderlaySocketID
  }

  private struct Underway {
    var arrival: UInt64
    var number: UInt64
    var lane: Lane
    var receiver: Int
    var bytes: [UInt8]
    var trafficClass: UInt8
  }

  package var conditions: Conditions
  /// Virtual microseconds since the start.
  package private(set) var now: UInt64 = 0
  /// What hosts handed to their devices since it was last taken.
  package private(set) var deliveries: [Delivery] = []
  package private(set) var sentDatagrams = 0
  package private(set) var lostDatagrams = 0
  /// Datagrams that would have needed fragmentation.
  package private(set) var oversized = 0
  /// Datagrams for addresses that no host has.
  package private(set) var unroutable = 0
  private var nodes: [Node] = []
  private var underway: [Underway] = []
  private var counter: UInt64 = 0
  private var random: SeededRandom

  package init(seed: UInt64, conditions: Conditions = Conditions()) {
    random = SeededRandom(seed: seed)
    self.conditions = conditions
  }

  /// Connects a host; its number counts from 0.
  package mutating func attach(
    _ host: SimulatedHost,
    address: IPAddress,
    endpoint: ListenerID
  ) -> Int {
    nodes.append(Node(host: host, address: address, endpoint: endpoint))
    return nodes.count - 1
  }

  /// Puts a freshly started host in the place of one that died; datagrams under way will reach it.
  package mutating func restart(_ number: Int, as host: SimulatedHost) {
    nodes[number].host = host
  }

  package func host(_ number: Int) -> SimulatedHost { nodes[number].host }
  package var hostCount: Int { nodes.count }
  package var isQuiet: Bool { underway.isEmpty }

  /// Takes what the hosts were given to send, after a burst of theirs ended.
  package mutating func collect() {
    for number in nodes.indices {
      for sent in nodes[number].host.takeSent() {
        switch sent {
        case .frame(let frame, let port):
          deliveries.append(Delivery(host: number, port: port, frame: frame))
        case .datagram(let bytes, let path, _, let outer):
          send(bytes, from: number, path: path, trafficClass: outer.trafficClass)
        }
      }
    }
  }

  package mutating func takeDeliveries() -> [Delivery] {
    defer { deliveries.removeAll(keepingCapacity: true) }
    return deliveries
  }

  /// Lets time pass until nothing is under way, or until so many bursts have arrived.
  package mutating func run(bursts: Int = .max) {
    collect()
    var left = bursts
    while left > 0, deliverNext() { left -= 1 }
  }

  private mutating func send(
    _ bytes: [UInt8], from sender: Int, path: UnderlaySocketID, trafficClass: UInt8
  ) {
    sentDatagrams += 1
    if bytes.count > conditions.datagramLimit {
      oversized += 1
      return
    }
    let lane = Lane(sender: sender, path: path)
    guard let remote = nodes[sender].host.topology.remote(of: path),
      let receiver = nodes.firstIndex(where: { $0.address == remote })
    else {
      unroutable += 1
      return
    }
    if random.chance(conditions.loss) {
      lostDatagrams += 1
      return
    }
    for copy in 0...(random.chance(conditions.duplication) ? 1 : 0) {
      var arrival = now + random.pick(conditions.delay)
      if copy > 0 || random.chance(conditions.reordering) {
        arrival += random.next() % 200
      } else {
        arrival = max(arrival, nodes[receiver].lastArrival[lane] ?? 0)
        nodes[receiver].lastArrival[lane] = arrival
      }
      counter += 1
      underway.append(
        Underway(
          arrival: arrival,
          number: counter,
          lane: lane,
          receiver: receiver,
          bytes: bytes,
          trafficClass: trafficClass
        )
      )
    }
  }

  /// Delivers to one host what has arrived there by the time of the first arrival.
  ///
  /// `false` where nothing is under way.
  private mutating func deliverNext() -> Bool {
    guard let first = underway.min(by: { ($0.arrival, $0.number) < ($1.arrival, $1.number) })
    else { return false }
    now = max(now, first.arrival)
    // What arrives a little later is there as well by the time the host has woken.
    let deadline = now + random.next() % 30
    let due = underway.filter { $0.receiver == first.receiver && $0.arrival <= deadline }
      .sorted { ($0.arrival, $0.number) < ($1.arrival, $1.number) }
    let numbers = Set(due.map(\.number))
    underway.removeAll { numbers.contains($0.number) }
    let node = nodes[first.receiver]
    for train in trains(due) {
      node.host.receive(
        train: train.flatMap(\.bytes),
        segmentSize: train.count > 1 ? train[0].bytes.count : 0,
        on: node.endpoint,
        from: nodes[train[0].lane.sender].address,
        trafficClass: train[0].trafficClass
      )
    }
    node.host.endBurst()
    collect()
    return true
  }

  /// Groups datagrams as `UDP_GRO` would: same path, same traffic class, same size, only the last
  /// one shorter, 64 at most.
  private mutating func trains(_ due: [Underway]) -> [[Underway]] {
    var trains: [[Underway]] = []
    for datagram in due {
      if var train = trains.last, let last = train.last, last.lane == datagram.lane,
        last.trafficClass == datagram.trafficClass,
        last.bytes.count == train[0].bytes.count, datagram.bytes.count <= last.bytes.count,
        train.count < 64, (train.count + 1) * last.bytes.count <= 65_507,
        random.chance(conditions.trains)
      {
        train.append(datagram)
        trains[trains.count - 1] = train
      } else {
        trains.append([datagram])
      }
    }
    return trains
  }
}

extension Topology {
  /// The remote VTEP that a path leads to.
  package func remote(of path: UnderlaySocketID) -> IPAddress? {
    peer(of: path)?.peer.remote
  }

  /// The tunnel port and peer that a path belongs to.
  package func peer(of path: UnderlaySocketID) -> (port: PortID, tunnel: Tunnel, peer: Peer)? {
    for port in ports {
      guard case .tunnel(let tunnel) = port.attachment else { continue }
      for peer in tunnel.peers where peer.paths.contains(path.rawValue) {
        return (port.id, tunnel, peer)
      }
    }
    return nil
  }
}
