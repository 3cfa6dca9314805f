import Foundation
import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@testable import OVXHost

/// What an agent tells of other hosts: how it is put in force, and how it goes.
@Suite struct AgentTests {
  private static let red = "red"

  private static func mac(_ number: Int) -> MACAddress {
    MACAddress(truncating: 0x0200_0000_0000 + UInt64(number))
  }

  private static func vtep(_ number: Int) -> IPAddress {
    IPAddress(v4: 0xC000_0200 + UInt32(number))
  }

  private static func ip(_ number: Int) -> IPAddress {
    IPAddress(v4: 0xAC11_0000 + UInt32(number))
  }

  /// A host with ways to four others, and two networks that an agent serves.
  private func world() throws -> World {
    let world = try World()
    for number in 1...4 { world.kernel.route("192.0.2.\(number)", over: "eth0") }
    world.change(to: try Self.configuration())
    return world
  }

  private static func configuration(_ more: Command...) throws -> Configuration {
    var configuration = Configuration()
    let commands: [Command] =
      [
        .addBridge(bridge: "br0", mayExist: true),
        .set(
          table: "switch", record: ".",
          settings: [
            Setting(column: "local_ip", value: "192.0.2.100"),
            Setting(column: "control_plane", value: "evpn"),
          ], ifExists: false),
        .addNetwork(
          network: "red", settings: [Setting(column: "vni", value: "100")], mayExist: false),
        .addNetwork(
          network: "blue", settings: [Setting(column: "vni", value: "200")], mayExist: false),
      ] + more
    _ = try Transaction.execute(
      commands, on: &configuration, live: LiveState(deviceExists: { _ in false }))
    return configuration
  }

  private static func tableSize(_ size: Int) -> Command {
    .set(
      table: "bridge", record: "br0",
      settings: [Setting(column: "other_config", key: "mac-table-size", value: "\(size)")],
      ifExists: false)
  }

  private func entries(_ world: World, of network: String = red) throws -> [MACAddress: IPAddress] {
    let configuration = world.reconciler.configuration
    let network = try #require(configuration.networks[network])
    let bridge = try #require(world.reconciler.bridge(network.bridge))
    var found: [MACAddress: IPAddress] = [:]
    for known in world.dataplane.addresses(of: bridge) where known.vlan == network.tag {
      let port = world.dataplane.topology.ports.first { $0.id == known.port }
      guard case .tunnel(let tunnel) = port?.attachment else { continue }
      found[known.address] = tunnel.peers.first { $0.id == known.peer }?.remote
    }
    return found
  }

  private func neighbors(_ world: World) throws -> [IPAddress: MACAddress] {
    let bridge = try #require(world.reconciler.bridge("br0"))
    return Dictionary(
      uniqueKeysWithValues: world.dataplane.neighbors(of: bridge).map { ($0.ip, $0.address) })
  }

  private func remotes(_ world: World, _ port: String = "vni100") -> [IPAddress] {
    world.reconciler.desired.tunnels[port]?.remotes.map(\.address) ?? []
  }

  private func station(_ number: Int, at vtep: Int) -> AgentUpdate.Station {
    AgentUpdate.Station(mac: Self.mac(number), vtep: Self.vtep(vtep))
  }

  /// Who has not asked for broadcasts gets none, and frames to his stations all the same.
  @Test func aVTEPOfWhichOnlyStationsAreToldIsNotFloodedTo() throws {
    let world = try world()
    func flooded() throws -> [IPAddress] {
      let tunnels = world.dataplane.topology.ports.compactMap { port in
        if case .tunnel(let tunnel) = port.attachment { tunnel } else { nil }
      }
      return try #require(tunnels.first { $0.vni.rawValue == 100 }).peers.filter(\.takesFloods)
        .map(\.remote).sorted()
    }
    _ = world.reconciler.take(
      AgentUpdate(
        networks: [
          "red": .init(vteps: [Self.vtep(1)], stations: [station(1, at: 1), station(2, at: 2)])
        ]), now: 0)
    #expect(remotes(world) == [Self.vtep(1), Self.vtep(2)])
    #expect(try flooded() == [Self.vtep(1)])
    #expect(try entries(world)[Self.mac(2)] == Self.vtep(2))
    // It asks for them, and ceases to.
    _ = world.reconciler.take(
      AgentUpdate(networks: ["red": .init(vteps: [Self.vtep(2)], lostVTEPs: [Self.vtep(1)])]),
      now: 0)
    #expect(try flooded() == [Self.vtep(2)])
    #expect(remotes(world) == [Self.vtep(1), Self.vtep(2)])
    _ = world.reconciler.take(
      AgentUpdate(
        networks: [
          "red": .init(lostVTEPs: [Self.vtep(2)], lostStations: [Self.mac(1)])
        ]), now: 0)
    #expect(try flooded() == [])
    #expect(remotes(world) == [Self.vtep(2)])
    world.check()
  }

  @Test func aStationOfATunnelThatWasNotThereIsInForceAtOnce() throws {
    let world = try world()
    #expect(remotes(world) == [])
    let answer = world.reconciler.take(
      AgentUpdate(
        networks: [
          "red": .init(
            vteps: [Self.vtep(1)], stations: [station(1, at: 1), station(2, at: 2)],
            neighbors: [.init(ip: Self.ip(1), mac: Self.mac(1))])
        ]), now: 0)
    #expect(answer == [])
    #expect(remotes(world) == [Self.vtep(1), Self.vtep(2)])
    #expect(try entries(world) == [Self.mac(1): Self.vtep(1), Self.mac(2): Self.vtep(2)])
    #expect(try neighbors(world) == [Self.ip(1): Self.mac(1)])
    #expect(remotes(world, "vni200") == [], "of another network nobody has told")
    world.check()
  }

  /// What was told goes on with the daemon that takes this one's place, for as long as it would
  /// have.
  @Test func handedOver() throws {
    let world = try world()
    _ = world.reconciler.take(
      AgentUpdate(
        hold: 60,
        networks: [
          "red": .init(
            vteps: [Self.vtep(1)], stations: (1...300).map { station($0, at: 1 + $0 % 3) },
            neighbors: [.init(ip: Self.ip(1), mac: Self.mac(1), isRouter: true)]),
          "blue": .init(vteps: [Self.vtep(4)]),
        ]), now: 0)
    let next = try self.world()
    let updates = world.reconciler.handedAgent(now: 20_000)
    #expect(updates.allSatisfy { (try? $0.validate()) != nil && $0.hold == 40 })
    for update in updates { #expect(next.reconciler.take(update, now: 20_000) == []) }
    #expect(try entries(next).count == 300)
    #expect(try entries(next) == entries(world))
    #expect(try neighbors(next) == neighbors(world))
    for port in ["vni100", "vni200"] { #expect(remotes(next, port) == remotes(world, port)) }
    #expect(next.reconciler.agentDeadline == 60_000)
    #expect(try self.world().reconciler.handedAgent(now: 0).isEmpty)
    next.check()
  }

  @Test func whatIsNotToldAgainGoesAtTheEndAndNotBefore() throws {
    let world = try world()
    _ = world.reconciler.take(
      AgentUpdate(networks: [
        "red": .init(vteps: [Self.vtep(1)], stations: [station(1, at: 1), station(2, at: 2)])
      ]),
      now: 0)
    _ = world.reconciler.take(
      AgentUpdate(
        .begin, networks: ["red": .init(vteps: [Self.vtep(1)], stations: [station(1, at: 1)])]),
      now: 1)
    #expect(try entries(world).count == 2)
    _ = world.reconciler.take(AgentUpdate(.end), now: 2)
    #expect(try entries(world) == [Self.mac(1): Self.vtep(1)])
    #expect(remotes(world) == [Self.vtep(1)])
    world.check()
  }

  @Test func entriesGoWhenTheAgentIsSilentForLongerThanItSaid() throws {
    let world = try world()
    let entries = AgentUpdate.Entries(vteps: [Self.vtep(1)], stations: [station(1, at: 1)])
    _ = world.reconciler.take(AgentUpdate(hold: 5, networks: ["red": entries]), now: 1000)
    #expect(world.reconciler.agentDeadline == 6000)
    #expect(!world.reconciler.expireAgent(now: 5999))
    _ = world.reconciler.take(AgentUpdate(hold: 5), now: 5999)
    #expect(!world.reconciler.expireAgent(now: 10998))
    #expect(world.reconciler.expireAgent(now: 10999))
    #expect(try self.entries(world) == [:])
    #expect(remotes(world) == [])
    #expect(world.reconciler.agentDeadline == nil)
    _ = world.reconciler.take(AgentUpdate(hold: 0, networks: ["red": entries]), now: 20000)
    #expect(world.reconciler.agentDeadline == nil && !world.reconciler.expireAgent(now: .max))
    #expect(try self.entries(world).count == 1)
    world.check()
  }

  @Test func networksThatAreNotTheAgentsAreLeftAlone() throws {
    let world = try world()
    let entries = AgentUpdate.Entries(vteps: [Self.vtep(1)], stations: [station(1, at: 1)])
    #expect(
      world.reconciler.take(AgentUpdate(networks: ["green": entries]), now: 0)
        == ["network green is not the agent's, as there is none"])
    _ = world.reconciler.take(AgentUpdate(networks: ["red": entries, "blue": entries]), now: 0)
    // One gets remotes of its own, among them the one that was told.
    let remotes = Setting(column: "remotes", value: "192.0.2.1")
    world.change(
      to: try Self.configuration(
        .set(table: "network", record: "red", settings: [remotes], ifExists: false)))
    #expect(try self.entries(world) == [:], "what was told is not believed any more")
    #expect(try self.entries(world, of: "blue").count == 1)
    #expect(
      world.reconciler.take(AgentUpdate(networks: ["red": entries]), now: 0)
        == ["network red is not the agent's, as it has its own remotes"])
    world.change(to: try Self.configuration())
    #expect(self.remotes(world) == [])
    world.check()
  }

  @Test func anEntryWhoseWayComesLaterIsInForceThen() throws {
    let world = try world()
    world.kernel.routes[Self.vtep(3)] = nil
    _ = world.reconciler.take(
      AgentUpdate(networks: ["red": .init(stations: [station(1, at: 3), station(2, at: 1)])]),
      now: 0)
    #expect(try entries(world) == [Self.mac(2): Self.vtep(1)])
    world.kernel.route("192.0.2.3", over: "eth0")
    world.reconciler.reconcile(isRefreshing: true)
    #expect(try entries(world) == [Self.mac(1): Self.vtep(3), Self.mac(2): Self.vtep(1)])
    world.check()
  }

  @Test func whatAFullTableHasRefusedComesWithALargerOne() throws {
    let world = try world()
    world.change(to: try Self.configuration(Self.tableSize(10)))
    let answer = world.reconciler.take(
      AgentUpdate(networks: ["red": .init(stations: (1...20).map { station($0, at: 1) })]), now: 0)
    #expect(try entries(world).count == 10)
    #expect(answer.count == 1 && answer[0].contains("10 of 20 entries are not in force"))
    world.change(to: try Self.configuration(Self.tableSize(100)))
    #expect(try entries(world).count == 20)
  }

  @Test func theHostItselfAndOtherFamiliesAreNoRemotes() throws {
    let world = try world()
    let own = try #require(IPAddress("192.0.2.100"))
    let other = try #require(IPAddress("2001:db8::1"))
    let answer = world.reconciler.take(
      AgentUpdate(networks: ["red": .init(vteps: [own, other, Self.vtep(1)])]), now: 0)
    #expect(remotes(world) == [Self.vtep(1)])
    #expect(
      answer == ["network red: 2001:db8::1 is of another address family than local_ip 192.0.2.100"])
  }

  /// Whatever is told in whatever order, what is in force in the end is what was told last, as far
  /// as there is a way.
  @Test func whatIsInForceIsWhatWasToldLast() throws {
    let rounds = PropertyRounds(
      "what an agent tells", 60, environment: ProcessInfo.processInfo.environment)
    let failure = rounds.firstFailure { seed in try checkRandomHistory(seed) }
    #expect(failure == nil)
  }

  private func checkRandomHistory(_ seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let world = try world()
    var told: [String: [MACAddress: IPAddress]] = [:]
    var fresh: [String: Set<MACAddress>]?
    var reachable = Set((1...4).map(Self.vtep))
    for _ in 0..<60 {
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<6:
        var update = AgentUpdate()
        for network in ["red", "blue"] where Bool.random(using: &random) {
          var entries = AgentUpdate.Entries()
          var named: Set<Int> = []
          for _ in 0..<Int.random(in: 0..<6, using: &random) {
            let number = Int.random(in: 1...8, using: &random)
            guard named.insert(number).inserted else { continue }
            if Int.random(in: 0..<3, using: &random) == 0 {
              entries.lostStations.append(Self.mac(number))
              told[network, default: [:]][Self.mac(number)] = nil
            } else {
              let vtep = Self.vtep(Int.random(in: 1...4, using: &random))
              entries.stations.append(.init(mac: Self.mac(number), vtep: vtep))
              told[network, default: [:]][Self.mac(number)] = vtep
              fresh?[network, default: []].insert(Self.mac(number))
            }
          }
          update.networks[network] = entries
        }
        _ = world.reconciler.take(update, now: 0)
      case 6:
        _ = world.reconciler.take(AgentUpdate(.begin), now: 0)
        fresh = [:]
      case 7:
        guard let anew = fresh else { continue }
        _ = world.reconciler.take(AgentUpdate(.end), now: 0)
        for network in told.keys {
          told[network] = told[network]?.filter { anew[network]?.contains($0.key) == true }
        }
        fresh = nil
      default:
        let vtep = Self.vtep(Int.random(in: 1...4, using: &random))
        if reachable.remove(vtep) != nil {
          world.kernel.routes[vtep] = nil
        } else {
          reachable.insert(vtep)
          world.kernel.route("\(vtep)", over: "eth0")
        }
        world.reconciler.reconcile(isRefreshing: true)
      }
      guard world.dataplane.violations == [] else {
        throw Discrepancy(world.dataplane.violations.joined(separator: ", "))
      }
    }
    for vtep in (1...4).map(Self.vtep) where !reachable.contains(vtep) {
      world.kernel.route("\(vtep)", over: "eth0")
    }
    world.reconciler.reconcile(isRefreshing: true)
    for network in ["red", "blue"] {
      let found = try entries(world, of: network)
      guard found == told[network] ?? [:] else {
        throw Discrepancy(
          "Of \(network), \(found) is in force, and \(told[network] ?? [:]) was told.")
      }
    }
  }
}

extension World {
  /// Puts a configuration in force as the daemon does, which keeps what an agent has told.
  fileprivate func change(to configuration: Configuration) {
    let changes = configuration.changes(since: reconciler.configuration)
    reconciler.reconcile(
      to: configuration, changes, reconciler.desired(for: configuration, changes),
      isCommanded: true)
  }
}
