internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

// Ports of the host that members of networks publish, beside what the host itself has there.

extension HostCheck {
  /// Refuses that the datagrams of tunnels are led to a member, who would have all tenants' frames.
  func checkPublished() throws(ControlError) {
    let old = Set(reconciler.desired.tunnels.values.map(\.endpoint))
    let endpoints = Set(desired.tunnels.values.map(\.endpoint))
    let isEndpointNew = !endpoints.isSubset(of: old)
    guard isEndpointNew || changes.ports.contains(where: { !newlyPublished(by: $0).isEmpty }) else {
      return
    }
    for endpoint in endpoints {
      let publishers =
        old.contains(endpoint) ? changes.ports.sorted() : configuration.ports.keys.sorted()
      for name in publishers {
        let all = configuration.ports[name]?.published ?? []
        let some = old.contains(endpoint) ? newlyPublished(by: name) : all
        for published in some where published.takesDatagrams(for: endpoint) {
          throw ControlError(
            "port \(name) publishes \(published), and at UDP port \(endpoint.port) the host's tunnels receive, whose datagrams "
              + "the container would get; publish another port of the host", record: name)
        }
      }
    }
  }

  /// What the operator is told of ports that are published now; see `PublishedPort.faults`.
  var notesOfPublished: [String] {
    let news = changes.ports.sorted().map { (name: $0, published: newlyPublished(by: $0)) }
      .filter { !$0.published.isEmpty }
    guard !news.isEmpty, let ways = try? kernel.ways() else { return [] }
    let own = Set(ways.filter(\.isAddress).map(\.destination.base))
    let listeners = kernel.listeners().map { ($0.address, $0.port, $0.transport) }
    return news.flatMap { name, published in
      published.flatMap { $0.faults(own: own, listeners: listeners) }.map { "port \(name): \($0)" }
    }
  }

  private func newlyPublished(by name: String) -> [PublishedPort] {
    let former = reconciler.configuration.ports[name]?.published ?? []
    return configuration.ports[name]?.published.filter { !former.contains($0) } ?? []
  }
}

extension PublishedPort {
  fileprivate func takesDatagrams(for endpoint: DesiredState.Endpoint) -> Bool {
    guard transport == .udp, port == endpoint.port, isOf(isIPv6: endpoint.isIPv6) else {
      return false
    }
    guard let address, !address.isUnspecified, let local = endpoint.local else { return true }
    return address == local
  }
}
