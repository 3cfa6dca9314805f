package import OVXControl
internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

// The addresses and routes of the host on bridges' own devices, and on the NICs that they come
// from.

extension KernelView {
  /// Gives a device of the host the addresses and routes that it is to have from us, and takes
  /// those that it has from us and is not to have any more.
  ///
  /// Which are from us the kernel remembers, so that also a daemon that was killed in between finds
  /// them again. What the host's administrator has given it stays, also where it is the same as one
  /// of ours.
  func settle(_ place: HostPlace, on link: Link) throws(LinuxError) {
    try address(link, with: place.addresses)
    let wanted = place.routes.map { RouteEntry($0, origin: .ovx) }
    let present = try routes(of: link)
    for route in present where route.origin == .ovx && !wanted.contains(where: route.isSame) {
      try netlink.remove(route, from: link)
    }
    // A gateway may be reached by another one of the routes.
    let missing = wanted.filter { route in !present.contains(where: route.isSame) }
    for route in missing.sorted(by: { $0.gateway == nil && $1.gateway != nil }) {
      try netlink.add(route, on: link)
    }
  }

  private func address(
    _ link: Link, with addresses: [OVXControl.InterfaceAddress]
  ) throws(LinuxError) {
    let wanted = Set(addresses.map(OVXLinux.InterfaceAddress.init))
    let before = try netlink.marksOfAddresses(of: link)
    let outdated = before.filter { $0.value == .ovx && !wanted.contains($0.key) }.keys
    for address in outdated { try remove(address, from: link) }
    var after = before
    if !outdated.isEmpty {
      after = try netlink.marksOfAddresses(of: link)
      for (address, mark) in before where after[address] == nil && !outdated.contains(address) {
        try netlink.add(address, to: link, mark: mark)
        after[address] = mark
      }
    }
    for address in addresses.map(OVXLinux.InterfaceAddress.init) where after[address] == nil {
      try netlink.add(address, to: link, mark: .ovx)
    }
  }

  /// Takes from a NIC what the host has on the bridge's own device instead, as far as it is there.
  func displace(_ place: HostPlace, from link: Link) throws(LinuxError) {
    // Of nearly all ports there is nothing to take, and nothing to ask the kernel for.
    guard !place.isEmpty else { return }
    for route in try routes(of: link)
    where place.routes.contains(where: { RouteEntry($0, origin: .ovx).isSame(as: route) }) {
      try netlink.remove(route, from: link)
    }
    let present = Set(try netlink.addresses(of: link))
    for address in place.addresses.map(OVXLinux.InterfaceAddress.init)
    where present.contains(address) {
      try remove(address, from: link)
    }
  }

  private func remove(
    _ address: OVXLinux.InterfaceAddress, from link: Link
  ) throws(LinuxError) {
    do { try netlink.remove(address, from: link) } catch {
      // With the first address of a network the kernel removes the others of the same network.
      if error.errno != .addressNotAvailable { throw error }
    }
  }

  /// Gives a NIC what `displace` has taken from it.
  func restore(_ place: HostPlace, to link: Link) throws(LinuxError) {
    for address in place.addresses.map(OVXLinux.InterfaceAddress.init) {
      do { try netlink.add(address, to: link) } catch {
        if error.errno != .fileExists { throw error }
      }
    }
    let routes = place.routes.map { RouteEntry($0, origin: .administrator) }
    for route in routes.sorted(by: { $0.gateway == nil && $1.gateway != nil }) {
      do { try netlink.add(route, on: link) } catch {
        if error.errno != .fileExists { throw error }
      }
    }
  }

  private func routes(of link: Link) throws(LinuxError) -> [RouteEntry] {
    try netlink.routes().filter { $0.linkIndex == link.index && $0.isInMainTable }
  }

  /// What the host has on one of its devices, and can have on another one in its place.
  ///
  /// - Parameter name: The device's.
  /// - Returns: Its addresses but those of its link, and its routes but those that follow from
  ///   addresses.
  /// - Throws: What cannot be moved, in words.
  package func place(of name: String) throws(ControlError) -> HostPlace {
    guard let link = links[name] else {
      throw ControlError("this host has no network device \(name)")
    }
    func refusal(_ what: String, _ remedy: String) -> ControlError {
      ControlError("cannot move what \(name) has to another device: \(what); \(remedy)")
    }
    do {
      let addresses = try netlink.widerAddresses(of: link)
      let leased = try netlink.leasedAddresses(of: link)
      if let address = addresses.first(where: leased.contains) {
        throw refusal(
          "the address \(address) is lent for a time, by DHCP or by a router",
          "end the client that renews it, `ip addr flush dev \(name)`, and have a client ask on the bridge's own device"
            + (address.address.isIPv6 ? ", or set its other_config:accept-ra=true" : ""))
      }
      var place = HostPlace(addresses: addresses.compactMap(OVXControl.InterfaceAddress.init))
      for route in try netlink.routes() where route.linkIndex == link.index {
        guard route.origin != .kernel else { continue }
        let prefix = "\(route.destination)/\(route.prefixLength)"
        guard route.isInMainTable else {
          throw refusal(
            "the route to \(prefix) stands in table \(route.table ?? 0)",
            "move it yourself, together with the rules that lead to it")
        }
        guard route.origin != .routerAdvertisement else {
          throw refusal(
            "the route to \(prefix) is from a router's advertisement",
            "remove it, and set other_config:accept-ra=true of the bridge's own interface")
        }
        guard route.mtu == nil, route.advertisedMSS == nil, let kept = HostRoute(route) else {
          throw refusal(
            "the route to \(prefix) has more to it than a gateway, a metric and a source",
            "remove it, and give it to the bridge's own device afterwards")
        }
        place.routes.append(kept)
      }
      place.addresses.sort { $0.description < $1.description }
      place.routes.sort { $0.description < $1.description }
      return place
    } catch let error as ControlError {
      throw error
    } catch let error as LinuxError {
      throw ControlError(error.description)
    } catch {
      throw ControlError("\(error)")
    }
  }
}

extension RouteEntry {
  fileprivate init(_ route: HostRoute, origin: RouteOrigin) {
    self.init(
      destination: route.destination.base,
      prefixLength: UInt8(clamping: route.destination.length), gateway: route.gateway)
    priority = route.metric
    source = route.source
    self.origin = origin
  }

  /// Whether two entries are one to the kernel, which gives IPv6 routes without a metric one of
  /// 1024.
  fileprivate func isSame(as other: RouteEntry) -> Bool {
    func metric(_ route: RouteEntry) -> UInt32 {
      route.priority ?? (route.destination.isIPv6 ? 1024 : 0)
    }
    return maskedDestination == other.maskedDestination && prefixLength == other.prefixLength
      && gateway == other.gateway && metric(self) == metric(other)
  }
}

extension HostRoute {
  /// `nil` for what is none of a host's.
  fileprivate init?(_ route: RouteEntry) {
    let prefix = IPPrefix(route.destination, length: Int(route.prefixLength))
    let metric = route.destination.isIPv6 && route.priority == 1024 ? nil : route.priority
    self.init(destination: prefix, gateway: route.gateway, metric: metric, source: route.source)
  }
}
