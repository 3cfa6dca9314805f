package import OVXControl
internal import OVXDatapath

// How what an agent tells is put in force: the remote VTEPs as those of the networks' tunnels,
// which are opened and closed as configured ones are, and the stations and neighbors in the tables
// of the data plane.

extension Reconciler {
  /// Entries that the data plane is told at a time; frames wait that long.
  private static let batch = 512

  /// Takes what an agent tells.
  ///
  /// - Parameters:
  ///   - update: A valid one.
  ///   - now: Milliseconds on the monotonic clock.
  /// - Returns: What of it cannot be in force, a sentence each.
  package func take(_ update: AgentUpdate, now: Int64) -> [String] {
    let isServed = configuration.isServedByAgent(_:) as (String) -> Bool
    var sentences: [String] = []
    for name in update.networks.keys.sorted() where !isServed(name) {
      let reason = configuration.networks[name] == nil ? "there is none" : "it has its own remotes"
      sentences.append("network \(printable(name)) is not the agent's, as \(reason)")
    }
    refusals = []
    give(agent.take(update, isServed: isServed, now: now))
    let names =
      update.phase == .end ? agent.networks.keys.map(\.self) : update.networks.keys.map(\.self)
    sentences += takeRemotes(of: Set(names))
    return sentences + refusals
  }

  /// What the agent has told, all of it, as the agent would tell it; `now` is in milliseconds on
  /// the monotonic clock.
  package func handedAgent(now: Int64) -> [AgentUpdate] {
    guard !agent.isEmpty else { return [] }
    let hold = agent.deadline.map { Int(min(max(($0 - now) / 1000, 1), 86400)) } ?? 0
    var updates = [AgentUpdate(.begin, hold: hold)]
    for (name, told) in agent.networks {
      for portion in told.portions(of: 128) {
        updates.append(AgentUpdate(.change, hold: hold, networks: [name: portion]))
      }
    }
    return updates + [AgentUpdate(.end, hold: hold)]
  }

  /// When what the agent has told goes unless it tells something, in milliseconds on the monotonic
  /// clock.
  package var agentDeadline: Int64? { agent.isEmpty ? nil : agent.deadline }

  /// Forgets what the agent has told where it has been silent for too long; says whether it was so.
  package func expireAgent(now: Int64) -> Bool {
    guard let deadline = agentDeadline, deadline <= now else { return false }
    give(agent.forget { _ in false })
    tell(configuration.networks.mapValues { _ in DesiredState.ToldRemotes() })
    return true
  }

  /// Makes the VTEPs of networks those of their tunnels.
  func takeRemotes(of networks: Set<String>) -> [String] {
    var sentences: [String] = []
    var remotes: [String: DesiredState.ToldRemotes] = [:]
    for name in networks.sorted() {
      // A network that is made after its VTEPs were told has none yet.
      guard let told = agent.takeRemotes(of: name), let local = configuration.host.localIP else {
        continue
      }
      let addresses = told.remotes.filter { $0 != local && $0.isIPv6 == local.isIPv6 }
      remotes[name] = DesiredState.ToldRemotes(
        remotes: addresses, withoutFloods: told.withoutFloods.intersection(addresses))
      if let other = told.remotes.first(where: { $0.isIPv6 != local.isIPv6 }) {
        sentences.append(
          "network \(name): \(other) is of another address family than local_ip \(local)")
      }
    }
    tell(remotes)
    let count = desired.tunnels.values.reduce(0) { $0 + $1.remotes.count }
    if count >= RemoteVTEPID.limit {
      sentences.append(
        "there are \(count) remotes of tunnels, and one daemon can have \(RemoteVTEPID.limit - 1)")
    }
    return sentences
  }

  /// Gives the data plane what it lacks after another topology.
  func settleAgent() {
    guard !agent.isEmpty else { return }
    var tunnels: [PortID: Topology.Port] = [:]
    for port in topology.ports {
      if case .tunnel = port.attachment { tunnels[port.id] = port }
    }
    for name in agent.networks.keys {
      let place = configuration.networks[name].flatMap { force(of: $0, tunnels) }
      give([name: agent.settle(name, at: place)])
    }
  }

  private func force(
    of network: Configuration.Network, _ tunnels: [PortID: Topology.Port]
  ) -> AgentEntries.Force? {
    guard let id = port(network.tunnelPort), let record = tunnels[id],
      case .tunnel(let tunnel) = record.attachment
    else { return nil }
    return AgentEntries.Force(
      bridge: record.bridge, port: id, vlan: network.tag,
      addressLimit: configuration.bridges[network.bridge]?.addressLimit ?? 0,
      peers: Dictionary(tunnel.peers.map { ($0.remote, $0.id) }, uniquingKeysWith: { $1 }))
  }

  /// Tells the data plane; what finds no place is in `refusals`.
  func give(_ orders: [String: [ExternalEntry]]) {
    for (name, entries) in orders.sorted(by: { $0.key < $1.key }) where !entries.isEmpty {
      guard let network = configuration.networks[name],
        let number = bridge(network.bridge)
      else { continue }
      var refused = 0
      var rest = entries[...]
      while !rest.isEmpty {
        refused += dataplane.take(Array(rest.prefix(Self.batch)), vlan: network.tag, bridge: number)
        rest = rest.dropFirst(Self.batch)
      }
      guard refused > 0 else { continue }
      refusals.append(
        "network \(name): \(refused) of \(entries.count) entries are not in force, as the tables of bridge "
          + "\(network.bridge) are full (other_config:mac-table-size), or the switch knows better")
    }
  }
}
