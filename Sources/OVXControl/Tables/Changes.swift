extension Configuration {
  /// Which records of two configurations are not the same, by name.
  ///
  /// Who has that need not look at the records of a thousand ports to carry out the change of one.
  package struct Changes: Equatable, Sendable {
    /// Bridges that are new, gone or otherwise.
    package var bridges: Set<String> = []
    /// Ports that are new, gone or otherwise.
    package var ports: Set<String> = []
    /// Networks that are new, gone or otherwise.
    package var networks: Set<String> = []
    /// Whether the switch's own record is otherwise.
    package var host = false

    package var isEmpty: Bool { bridges.isEmpty && ports.isEmpty && networks.isEmpty && !host }
  }

  /// What is otherwise than in another configuration, of some records to which all differences are
  /// confined.
  func changes(since old: Configuration, among candidates: Changes) -> Changes {
    Changes(
      bridges: candidates.bridges.filter { bridges[$0] != old.bridges[$0] },
      ports: candidates.ports.filter { ports[$0] != old.ports[$0] },
      networks: candidates.networks.filter { networks[$0] != old.networks[$0] },
      host: candidates.host && host != old.host)
  }

  /// What is otherwise than in another configuration.
  package func changes(since old: Configuration) -> Changes {
    func changed<Record: Equatable>(_ new: [String: Record], _ old: [String: Record]) -> Set<String>
    {
      var names: Set<String> = []
      var stayed = 0
      for (name, record) in new {
        let former = old[name]
        if former != nil { stayed += 1 }
        if former != record { names.insert(name) }
      }
      if stayed < old.count { names.formUnion(old.keys.filter { new[$0] == nil }) }
      return names
    }
    return Changes(
      bridges: changed(bridges, old.bridges), ports: changed(ports, old.ports),
      networks: changed(networks, old.networks), host: host != old.host)
  }

  /// The records that are among some changes.
  package func restricted(to changes: Changes) -> Configuration {
    var result = Configuration()
    for name in changes.bridges { result.bridges[name] = bridges[name] }
    for name in changes.ports { result.ports[name] = ports[name] }
    for name in changes.networks { result.networks[name] = networks[name] }
    if changes.host { result.host = host }
    return result
  }
}
