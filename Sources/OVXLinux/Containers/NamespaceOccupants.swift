extension NetworkNamespace {
  /// Who lives in a namespace, by which people know it.
  package struct Occupant: Equatable, Sendable {
    /// What `ip netns` calls it; `nil` where it has no name.
    package var name: String?
    /// One of its processes; `nil` where a name was found first.
    package var pid: Int32?
    /// The id of the container that the process is in, of which engines show the first twelve
    /// digits; `nil` for none.
    package var container: String?
  }

  /// Goes through the namespaces that have a name or a process, the named ones first, and each
  /// once.
  ///
  /// - Parameter visit: Gets a namespace and who lives there, and returns whether to go on.
  /// - Throws: What `visit` throws.
  package static func forEachOccupied(
    _ visit: (NetworkNamespace, Occupant) throws(LinuxError) -> Bool
  ) throws(LinuxError) {
    var seen: Set<Identity> = []
    for directory in directories {
      for name in entries(of: directory) {
        guard let namespace = try? NetworkNamespace(path: "\(directory)/\(name)"),
          seen.insert(namespace.identity).inserted
        else { continue }
        guard try visit(namespace, Occupant(name: name)) else { return }
      }
    }
    // Processes that share one are many, and the first of a container mostly has the lowest number.
    for (pid, identity) in Broker.processes() where !seen.contains(identity) {
      // What has the number by now may be another process.
      guard let namespace = try? NetworkNamespace(pid: pid),
        seen.insert(namespace.identity).inserted
      else { continue }
      let container = Broker.container(of: pid)
      guard try visit(namespace, Occupant(pid: pid, container: container)) else { return }
    }
  }

  /// The first of them that is the one that is looked for; `nil` where none is.
  package static func firstOccupied(
    where isWanted: (NetworkNamespace) throws(LinuxError) -> Bool
  ) throws(LinuxError) -> NetworkNamespace? {
    var found: NetworkNamespace?
    try forEachOccupied { namespace, _ throws(LinuxError) in
      if try isWanted(namespace) { found = namespace }
      return found == nil
    }
    return found
  }
}
