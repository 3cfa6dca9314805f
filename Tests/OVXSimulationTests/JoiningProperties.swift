import Foundation
import OVXDatapath
import OVXSimulation
import Testing

/// Hosts that share two VNIs, of which some join them: whoever joins, and however many, nothing
/// goes round for ever.
@Suite struct JoiningProperties {
  @Test func oneHostThatJoinsCarriesEverythingOnce() {
    check("one joins", rounds: 15, joining: 1...1)
  }

  @Test func severalHostsThatJoinMakeNoLoop() {
    check("several join", rounds: 25, joining: 2...5)
  }

  private func check(_ name: String, rounds: Int, joining: ClosedRange<Int>) {
    let rounds = PropertyRounds(name, rounds, environment: ProcessInfo.processInfo.environment)
    let failure = rounds.firstFailure { seed in
      var run = JoiningRun(seed: seed, joining: joining)
      for _ in 0..<20 { try run.step() }
    }
    if let failure { Issue.record("\(failure)") }
  }
}

/// A container in each VNI on every host, and what they shout.
private struct JoiningRun {
  private var random: SeededRandom
  private var network: SimulatedNetwork
  private let hostCount: Int
  private let joining: Set<Int>
  private let workers: Int
  private var clock: UInt32 = 100
  private var counter: UInt8 = 0

  init(seed: UInt64, joining: ClosedRange<Int>) {
    random = SeededRandom(seed: seed)
    hostCount = random.within(max(2, joining.lowerBound)...5)
    workers = random.oneIn(3) ? 2 : 1
    var conditions = SimulatedNetwork.Conditions()
    conditions.reordering = random.oneIn(2) ? 0.3 : 0
    network = SimulatedNetwork(seed: random.next(), conditions: conditions)
    let count = random.within(joining.lowerBound...min(joining.upperBound, hostCount))
    self.joining = Set(Array(0..<hostCount).shuffled(using: &random).prefix(count))
    for host in 0..<hostCount {
      let simulated = SimulatedHost(
        topology(of: host), workers: workers, seed: random.next())
      simulated.tick(now: clock)
      _ = network.attach(
        simulated, address: Overlay.address(of: host), endpoint: ListenerID(rawValue: 0))
    }
  }

  private static let vnis = [100, 200].compactMap { VNI(rawValue: $0) }

  /// Ports 0 and 1 are the containers', 2 and 3 the tunnels; one VLAN for all where the host joins,
  /// else two.
  private func topology(of host: Int) -> Topology {
    var topology = Topology(bridges: [Topology.Bridge(id: BridgeID(rawValue: 0))])
    let isJoining = joining.contains(host)
    for (index, vni) in Self.vnis.enumerated() {
      let vlan = VLANID(rawValue: isJoining ? 7 : UInt16(index) + 8) ?? .untagged
      func add(_ number: Int, _ attachment: Topology.Attachment) {
        topology.ports.append(
          Topology.Port(
            id: PortID(rawValue: UInt16(number)), bridge: BridgeID(rawValue: 0),
            vlans: .access(vlan), attachment: attachment))
      }
      add(index, .device(Topology.Device(mtu: 1450, capabilities: .all)))
      let peers = (0..<hostCount).filter { $0 != host }.map { remote in
        let number = index * hostCount + remote + 1
        return Topology.Peer(
          id: RemoteVTEPID(rawValue: UInt16(number)), remote: Overlay.address(of: remote),
          paths: UInt32(number)..<UInt32(number) + 1, mtu: 1450)
      }
      add(
        index + 2,
        .tunnel(
          Topology.Tunnel(
            vni: vni, endpoint: ListenerID(rawValue: 0), peers: peers, isJoined: isJoining)))
    }
    return topology
  }

  /// Some containers shout at once, and time passes.
  mutating func step() throws {
    var shouts: [[UInt8]: (host: Int, port: Int)] = [:]
    for _ in 0..<random.within(1...6) {
      counter &+= 1
      let (host, port) = (random.below(hostCount), random.below(2))
      let source: [UInt8] = [2, 0, 0, 0, UInt8(port), UInt8(host)]
      let frame =
        [UInt8](repeating: 0xFF, count: 6) + source + [0x88, 0xB5, counter]
        + [UInt8](repeating: 0, count: 45)
      shouts[frame] = (host, port)
      network.host(host).receive(PartialFrame(frame), from: PortID(rawValue: UInt16(port)))
      network.host(host).endBurst()
    }
    network.run(bursts: 2000)
    guard network.isQuiet else { throw Discrepancy("Frames go round and round.") }
    var arrivals: [[UInt8]: [[Int]: Int]] = [:]
    for delivery in network.takeDeliveries() {
      arrivals[delivery.frame.bytes, default: [:]][
        [delivery.host, Int(delivery.port.rawValue)], default: 0] += 1
    }
    for (frame, sender) in shouts {
      for host in 0..<hostCount {
        for port in 0..<2 where (host, port) != sender {
          let count = arrivals[frame]?[[host, port]] ?? 0
          let limit =
            joining.count == 1 || joining.contains(host) && workers == 1 ? 1 : joining.count + 1
          // Workers that are told of a source at the same time may each take the copy that the
          // other one drops.
          let least = joining.count > 1 && workers > 1 ? 0 : 1
          guard (least...limit).contains(count) else {
            throw Discrepancy(
              "Container \(port) of host \(host) got \(count) copies of what \(sender) shouted; \(joining) join."
            )
          }
        }
      }
      let echoes = arrivals[frame]?[[sender.host, sender.port]] ?? 0
      guard echoes == 0 || joining.count > 1 && !joining.contains(sender.host) else {
        throw Discrepancy("\(sender) heard its own voice.")
      }
    }
    if random.oneIn(3) {
      clock += UInt32(random.below(4))
      for host in 0..<hostCount { network.host(host).tick(now: clock) }
    }
  }
}
