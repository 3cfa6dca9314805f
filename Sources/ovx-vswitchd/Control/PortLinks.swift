internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

// Who is at the other end of each port, and where: `ovx-ctl show --links`.

extension SwitchQueries {
  /// The other ends of the ports of a bridge, or of all bridges.
  func links(_ bridge: String?) -> [PortLink] {
    var namespaces = NamespaceNumbers()
    return configuration.bridges.keys.sorted().filter { bridge ?? $0 == $0 }.flatMap { bridge in
      configuration.ports(of: bridge).map { link(of: $0, &namespaces) }
    }
  }

  private func link(
    of port: Configuration.Port, _ namespaces: inout NamespaceNumbers
  ) -> PortLink {
    var result = PortLink(bridge: port.bridge, port: port.name)
    if port.interface.type == .vxlan {
      result.remotes =
        (try? Configuration.Tunnel(options: port.interface.options))?.remotes ?? []
    }
    if let end = reconciler.endInContainer(of: port.name) {
      result.index = reconciler.linkOnHost(of: port.name)?.index
      result.take(end.link, end.addresses)
      result.namespace = namespaces.description(of: end.namespace)
      let target = port.interface.attachment?.target ?? ""
      // A container's name says more than its id.
      if result.namespace?.name == nil, !target.contains("/"), !target.hasPrefix("pid:") {
        result.namespace?.container = target
      }
      return result
    }
    guard let link = reconciler.linkOnHost(of: port.name) else { return result }
    if port.interface.type == .internal {
      result.take(link, running.kernel.addresses(of: link))
      return result
    }
    result.index = link.index
    guard link.kind == "veth", let peer = link.peer else { return result }
    result.peerIndex = peer
    guard let number = link.peerNamespace else {
      if let end = running.kernel.link(peer) {
        result.take(end, running.kernel.addresses(of: end))
      }
      return result
    }
    result.namespace = PortLink.Namespace()
    guard let namespace = namespaces.namespace(number) else { return result }
    result.namespace = namespaces.description(of: namespace)
    if var netlink = try? Netlink(in: namespace),
      let end = (try? netlink.link(index: peer)) ?? nil,
      let addresses = try? netlink.addresses(of: end)
    {
      result.take(end, addresses)
    }
    return result
  }
}

extension PortLink {
  /// Fills in the other end.
  fileprivate mutating func take(_ link: Link, _ addresses: [OVXLinux.InterfaceAddress]) {
    peer = link.name
    peerIndex = link.index
    self.addresses = addresses.compactMap { OVXControl.InterfaceAddress($0) }
  }
}

/// The namespaces in which other ends may be: all that have a name or a process, looked at once a
/// question.
private struct NamespaceNumbers {
  private var byNumber: [Int32: NetworkNamespace] = [:]
  private var occupants: [NetworkNamespace.Identity: NetworkNamespace.Occupant] = [:]
  private var isFilled = false

  /// The namespace for which this one has a number.
  mutating func namespace(_ number: Int32) -> NetworkNamespace? {
    fill()
    return byNumber[number]
  }

  /// By what people know a namespace.
  mutating func description(of namespace: NetworkNamespace) -> PortLink.Namespace {
    fill()
    let occupant = occupants[namespace.identity]
    return PortLink.Namespace(
      name: occupant?.name, pid: occupant?.pid, container: occupant?.container)
  }

  private mutating func fill() {
    guard !isFilled else { return }
    isFilled = true
    guard var netlink = try? Netlink() else { return }
    // One that cannot be asked for is as one that has gone.
    try? NetworkNamespace.forEachOccupied { namespace, occupant throws(LinuxError) in
      occupants[namespace.identity] = occupant
      if let number = try? netlink.number(of: namespace) { byNumber[number] = namespace }
      return true
    }
  }
}
