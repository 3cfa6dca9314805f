internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

// Routes to remote VTEPs, and whether superframes can leave by them whole.

extension KernelView {
  /// More than there can be at a time.
  private static let nextHopLimit = 65_536

  struct NextHop: Hashable {
    var linkIndex: Int32
    var address: IPAddress
  }

  /// How packets get to a VTEP at present.
  ///
  /// `isInjected` asks whether superframes can leave whole, too.
  func way(
    to remote: DesiredState.Remote, isInjected: Bool = false
  ) throws(Fault) -> UnderlayRoute {
    let route: Route
    do {
      route = try netlink.route(to: remote.address, from: remote.local)
    } catch {
      // With EINVAL and EACCES a route says that nothing is to be sent.
      let isForbidden = error.errno == .invalidArgument || error.errno == .permissionDenied
      throw Fault(error, isTransient: error.isMissingRoute || isForbidden)
    }
    let source = try UnderlayRoute.source(to: remote, by: route)
    let link = link(route.linkIndex)
    var way = try UnderlayRoute(
      to: remote, from: source, over: link, pathMTU: believedMTU(of: route, to: remote, link),
      devices: netlink.devices(to: remote.address, from: remote.local, by: route))
    if isInjected { way.superframes = superframes(to: remote, by: route, link) }
    return way
  }

  /// The MTU of a route that has one of its own, where it is to be believed.
  ///
  /// What an ICMP message has said of a path may be forged. On an Ethernet that the remote is on
  /// itself nobody is on the way who might say so. Elsewhere it is asked about (`PathClaims`), and
  /// counts as the floor where it is below that: RFC 8201 has the one of IPv6, and that of IPv4 is
  /// a setting of the daemon.
  private func believedMTU(of route: Route, to remote: DesiredState.Remote, _ link: Link?) -> Int? {
    guard route.isMTULearned, let claimed = route.mtu else {
      claims.forget(remote)
      return route.mtu
    }
    let configured = (try? netlink.configuredMTU(to: remote.address, from: remote.local)) ?? nil
    if route.gateway == nil, link?.isEthernet == true {
      claims.forget(remote)
      return configured
    }
    let floor = remote.address.isIPv6 ? MTU.ipv6MinimumMTU : pathMTUFloor
    return claims.mtu(
      to: remote, claimed: max(claimed, floor),
      widest: configured ?? link?.mtu ?? MTU.defaultMTU, from: remote.local,
      now: monotonicMilliseconds())
  }

  func listeners() -> [ListeningSocket] { ListeningSocket.all() }

  func passedFilter() -> String? { HostFilters.first() }

  /// When `examineClaims` has something to do next, in milliseconds on the monotonic clock; `nil`
  /// for never.
  var nextExamination: Int64? { claims.nextStep }

  /// Goes on finding out whether paths are as narrow as ICMP messages say.
  ///
  /// - Parameters:
  ///   - remotes: The far ends that matter.
  ///   - now: Milliseconds on the monotonic clock.
  /// - Returns: Whether the way to some remote is another one now.
  func examineClaims(to remotes: Set<DesiredState.Remote>, now: Int64) -> Bool {
    claims.keep(remotes)
    return claims.proceed(now: now)
  }

  // MARK: Superframes that leave whole

  private func superframes(
    to remote: DesiredState.Remote, by route: Route, _ link: Link?
  ) -> UnderlayRoute.Superframes {
    guard !remote.address.isIPv6 else {
      return .segmented("the underlay is IPv6, for which ovx does not inject")
    }
    guard let link, !route.isLocal, link.isEthernet, let source = link.address else {
      return .segmented("the way leads to no Ethernet device")
    }
    let hop = NextHop(linkIndex: link.index, address: route.gateway ?? remote.address)
    if nextHops.isEmpty, (try? events.subscribeToNeighbors()) == nil {
      return .segmented("the kernel does not tell of its neighbors")
    }
    // First of all, so that the change of any of what follows is heard of.
    let nextHop = (try? netlink.linkAddress(of: hop.address, on: link.index)) ?? nil
    if nextHops.count >= Self.nextHopLimit { nextHops = [:] }
    nextHops[hop] = .some(nextHop)
    guard features(of: link).contains(.tunnel) else {
      return .segmented("\(link.name) does not segment tunnels (tx-udp_tnl-segmentation is off)")
    }
    guard let nextHop else {
      return .segmented("the Ethernet address of \(hop.address) is not known at the moment")
    }
    return .injected(
      UnderlayRoute.Outlet(
        linkIndex: link.index, device: link.name, source: source, nextHop: nextHop))
  }

  /// Makes an injector for a device of the underlay.
  func makeInjector(to index: Int32) throws(LinuxError) -> Injector {
    guard let link = link(index) else {
      throw LinuxError(
        action: "find", subject: "device \(index)", errno: .operationNotSupportedByDevice)
    }
    return try Injector.open(to: link, &netlink) { ProcSettings.setIPv6(false, on: $0.name) }
  }
}
