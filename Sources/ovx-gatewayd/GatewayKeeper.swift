internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// Keeps the gateways of this host what the switch says that they are to be.
///
/// Each round compares the kernel with the wishes, and does what is missing: after a start, a crash
/// or a reboot it is the same work. The packet filters come before the packets: a tenant's port is
/// put into its router when those of the router and of the host are in force, and the host's are
/// the last to go.
struct GatewayKeeper: ~Copyable {
  private let tools: Tools
  private let connection: SwitchConnection
  /// What the names of routers begin with.
  private let namespacePrefix: String
  private let messages: Messages
  private var netlink: Netlink
  /// News of the packet filter, to see that somebody has flushed it.
  private var events: NftablesEvents
  private var wishes = Wishes()
  /// Whether the switch has been asked so far; before that, nothing is known to be too much.
  private var areWishesKnown = false
  /// The filters that are in force in routers, by network.
  private var routers: [String: Filtered] = [:]
  /// The host's filter that is in force; `nil` where that is not known.
  private var hostRules: HostRules?
  /// How nft told these when they had been put in force; `nil` where it did not.
  private var hostListing: String?
  private var floating: FloatingAddresses
  /// Uplinks that were opened for the gateways' sake.
  private var opened: [String]
  /// Whether the table of the host may be otherwise than it was made.
  private var isHostFilterDoubtful = true
  /// Whether others' packet filters may be otherwise than they were when they were read.
  private var areOthersDoubtful = true
  /// What is wrong with these.
  private var foreignFaults: [String] = []
  /// Who is in the networks that something is served to.
  private var members: [String: [Member]] = [:]
  /// The networks to whose members something is served, as far as this process has seen to it, and
  /// since when.
  private var served: [String: ContinuousClock.Instant] = [:]
  /// How long what serves goes on at least, where only other hosts have something else to tell.
  private static let restInterval = Duration.seconds(60)
  /// Who may ask for IPv6 addresses in routers, by network, as far as that is known to be in force.
  private var clients: [String: DHCPv6Clients] = [:]
  /// How often has been looked at the packet filter alone since all was looked at.
  private var looks = 0

  /// A router's filter as it was put in force.
  private struct Filtered: Equatable {
    var gateway: Gateway
    var transits: [Transit]
    var place: NetworkNamespace.Identity
    /// The rule set's number when that was done: another one says that somebody has changed it.
    var generation: UInt32?
  }

  /// The number of the rule set in a namespace; `nil` where the kernel does not say.
  private static func generation(in place: NetworkNamespace) -> UInt32? {
    try? place.perform { () throws(LinuxError) in
      var filters = try Nftables()
      return try filters.generation()
    }
  }

  /// Begins with what a former process has left.
  init(
    _ connection: SwitchConnection, _ tools: Tools, namespacePrefix: String, _ messages: Messages
  ) throws(LinuxError) {
    let netlink = try Netlink()
    let events = try NftablesEvents(exceptFor: Nftables())
    self.connection = connection
    self.tools = tools
    floating = FloatingAddresses(tools)
    self.namespacePrefix = namespacePrefix
    self.messages = messages
    self.netlink = netlink
    self.events = events
    let set = tools.list("set", "inet", "ovx", HostRules.openedSet) ?? ""
    opened = set.split(separator: "\"", omittingEmptySubsequences: false).enumerated()
      .filter { !$0.offset.isMultiple(of: 2) }.map { String($0.element) }
  }

  /// Asks the switch what there is to be, and makes it so.
  mutating func follow() throws(ControlError) {
    wishes = try connection.wishes()
    areWishesKnown = true
    messages.forget(exceptFor: Set(wishes.gateways.map(\.network)))
    try askForMembers()
    keep()
    for gateway in wishes.gateways {
      guard routers[gateway.network]?.gateway == gateway else { continue }
      do throws(ControlError) {
        try connection.openGateway(
          of: gateway.network, in: namespacePrefix + gateway.network)
        messages.clear(.port(gateway.network))
      } catch {
        if error.kind == .unavailable { throw error }
        messages.tell(error.message, about: .port(gateway.network))
      }
    }
  }

  /// Looks whether all is as it was made, and makes it so where it is not.
  ///
  /// To be called each second. The packet filter is looked after at once, and all else each fifth
  /// time: it takes a few system calls for each gateway.
  mutating func look() {
    takeNews()
    looks += 1
    let isForwardingAnew = !opened.isEmpty && Uplinks.opened(opened, former: opened).isEmpty
    if isHostFilterDoubtful || isForwardingAnew || looks >= 5 { keep() }
  }

  /// Removes all gateways, with the host's filter and what was opened for them.
  mutating func removeAll() throws(LinuxError) {
    wishes = Wishes()
    try makeAll()
  }

  private mutating func askForMembers() throws(ControlError) {
    var known: [String: [Member]] = [:]
    for gateway in wishes.gateways where gateway.services.isAny {
      do throws(ControlError) {
        known[gateway.network] = try connection.members(
          of: gateway.network, isCentral: wishes.central.contains(gateway.network))
      } catch {
        // Where it is gone by now, the watch tells of that next.
        if error.kind == .unavailable || error.kind == .timedOut { throw error }
      }
    }
    members = known
  }

  /// Looks who is in the networks that something is served to, and whether that goes on.
  ///
  /// The watch does not tell of other hosts' members, nor of a device's Ethernet address that came
  /// later.
  mutating func serve() throws(ControlError) {
    guard wishes.gateways.contains(where: \.services.isAny) else { return }
    try askForMembers()
    for gateway in wishes.gateways where gateway.services.isAny {
      guard let place = try? NetworkNamespace(named: namespacePrefix + gateway.network),
        routers[gateway.network]?.place == place.identity
      else { continue }
      serve(gateway, in: place)
    }
  }

  /// Has what a network asks for served in its router, once the gateway's port is there.
  private mutating func serve(_ gateway: Gateway, in place: NetworkNamespace) {
    let subject = Messages.Subject.services(gateway.network)
    guard let program = tools.dnsmasq else {
      return messages.tell(
        "neither DHCP nor DNS is served, as dnsmasq is not installed; "
          + "Debian has it in the package dnsmasq-base", about: subject)
    }
    do throws(LinuxError) {
      var inside = try Netlink(in: place)
      guard let link = try inside.link(named: RouterRules.tenant), link.isUp else { return }
      let present = Set(try inside.addresses(of: link).map(\.address))
      guard present.isSuperset(of: gateway.addresses), let members = members[gateway.network] else {
        return
      }
      let dnsmasq = Dnsmasq(of: gateway.network, in: tools.directory)
      let configuration = DnsmasqConfiguration(
        gateway: gateway, device: link.index, place: place.identity, deviceMTU: link.mtu,
        resolvers: try resolvers(for: gateway), directory: dnsmasq.directory)
      let begun = served[gateway.network]
      let result = try dnsmasq.serve(
        program, configuration, members, in: place, isKnown: begun != nil,
        isDue: begun.map { $0.duration(to: .now) >= Self.restInterval } ?? true)
      if result.isNew, begun == nil {
        messages.note("the gateway of network \(gateway.network) serves its members")
      }
      if result.isNew || begun == nil { served[gateway.network] = .now }
      if gateway.served(isIPv6: true) != nil {
        try inside.routeOnLink(gateway, on: link)
        let clients = DHCPv6Clients(
          place: place.identity, device: link.index, members: result.leases.clients)
        if self.clients[gateway.network] != clients {
          try clients.admit(on: link, in: place, &inside, tools)
          routers[gateway.network]?.generation = Self.generation(in: place)
          self.clients[gateway.network] = clients
        }
      }
      messages.tell(gateway.unservedSubnets + hiddenResolvers(of: gateway), about: subject)
    } catch {
      messages.tell("neither DHCP nor DNS is served: \(error)", about: subject)
    }
  }

  /// Whom a gateway may ask for names outside.
  private mutating func resolvers(for gateway: Gateway) throws(LinuxError) -> [IPAddress] {
    guard gateway.services.dns, gateway.nat == .masquerade else { return [] }
    return Resolvers.usable(
      in: Files.read(tools.resolvConf, limit: 1 << 16) ?? "",
      own: Set(try netlink.allAddresses().map(\.address.address)),
      closed: [wishes.transit, Transit.ipv6Pool] + gateway.subnets
    )
    .filter { gateway.routes(isIPv6: $0.isIPv6) }
  }

  /// Tells of resolvers that are asked nothing, as their addresses are the tenant's own.
  private func hiddenResolvers(of gateway: Gateway) -> [String] {
    guard gateway.services.dns, gateway.nat == .masquerade else { return [] }
    let text = Files.read(tools.resolvConf, limit: 1 << 16) ?? ""
    return Resolvers.usable(in: text, own: [], closed: []).compactMap { resolver in
      gateway.subnets.first { $0.contains(resolver) }.map {
        "the host's resolver \(resolver) is not asked for names, as its address is one of the network's own subnet \($0); "
          + "give the network another subnet, or the host another resolver"
      }
    }
  }

  private mutating func keep() {
    guard areWishesKnown else { return }
    looks = 0
    takeNews()
    do throws(LinuxError) {
      try makeAll()
      messages.clear(.gateways)
    } catch {
      messages.tell("\(error)", about: .gateways)
    }
  }

  private mutating func takeNews() {
    do throws(LinuxError) {
      while let event = try events.next() {
        if event == .changed(table: "ovx") || event == .overrun { isHostFilterDoubtful = true }
        areOthersDoubtful = true
      }
    } catch {
      isHostFilterDoubtful = true
    }
  }

  private mutating func makeAll() throws(LinuxError) {
    Dnsmasq.removeAll(
      except: Set(wishes.gateways.filter(\.services.isAny).map(\.network)), in: tools.directory)
    let found = try Router.all(&netlink)
    let wanted = Dictionary(
      wishes.gateways.map { ($0.transitDevice, $0) }, uniquingKeysWith: { first, _ in first })
    for (device, router) in found.sorted(by: { $0.key < $1.key }) {
      let gateway = wanted[device]
      // Another daemon's on the same host are not ours to remove.
      guard router.namespace.hasPrefix(namespacePrefix),
        gateway.map({ namespacePrefix + $0.network }) != router.namespace
      else { continue }
      try Router.remove(router, tools, &netlink)
      messages.note("the gateway in namespace \(router.namespace) is removed")
    }
    let present = try Router.all(&netlink)
    let transits = try chooseTransits(present)
    try filterHost(transits)
    var kept: [String: Filtered] = [:]
    for gateway in wishes.gateways {
      let router = Router(
        namespace: namespacePrefix + gateway.network, gateway: gateway)
      let former = routers[gateway.network]
      let transits = transits[gateway.network] ?? []
      do throws(LinuxError) {
        var isNew = true
        let place = try router.make(
          present[gateway.transitDevice], transits,
          isFiltered: {
            isNew =
              former
              != Filtered(
                gateway: gateway, transits: transits, place: $0.identity,
                generation: Self.generation(in: $0))
            return !isNew
          },
          tools,
          &netlink)
        // With the filter went what its sets had.
        if isNew { clients[gateway.network] = nil }
        if former?.place != place.identity {
          messages.note("the gateway of network \(gateway.network) is in namespace \(place.name)")
        }
        messages.clear(.router(gateway.network))
        if gateway.services.isAny {
          serve(gateway, in: place)
        } else {
          messages.clear(.services(gateway.network))
        }
        // What is served has changed the filter's sets.
        kept[gateway.network] = Filtered(
          gateway: gateway, transits: transits, place: place.identity,
          generation: Self.generation(in: place))
      } catch {
        messages.clear(.routes(gateway.network))
        messages.tell(
          "its gateway is not in force: \(error)", about: .router(gateway.network))
      }
    }
    routers = kept
    clients = clients.filter { kept[$0.key] != nil }
    try tellOfRoutes(to: wishes.gateways.filter { kept[$0.network] != nil })
  }

  /// Tells of ways of the host that are beside its routes to gateways' subnets.
  private mutating func tellOfRoutes(to gateways: [Gateway]) throws(LinuxError) {
    var (routes, links, own): ([RouteEntry], [Link], [IPAddress]) = ([], [], [])
    // Most hosts have no route to any tenant.
    if gateways.contains(where: { $0.nat == .none }) {
      let pools = [wishes.transit, Transit.ipv6Pool]
      routes = try netlink.routes()
      links = try netlink.links()
      own = try netlink.allAddresses().map(\.address.address).filter { address in
        !pools.contains { $0.contains(address) }
      }
    }
    for gateway in gateways {
      messages.tell(
        RouteClashes.faults(of: gateway, routes, links, own: own), about: .routes(gateway.network))
    }
  }

  // MARK: Transit pairs

  /// The addresses of each gateway's transit pairs: those that it has, or the first that are free.
  private mutating func chooseTransits(
    _ present: [String: Router.Found]
  ) throws(LinuxError) -> [String: [Transit]] {
    var transits: [String: [Transit]] = [:]
    var taken: Set<Int> = []
    var waiting: [Gateway] = []
    for gateway in wishes.gateways {
      var number: Int?
      if let link = present[gateway.transitDevice]?.link {
        let pool = wishes.transit
        let addresses = try netlink.addresses(of: link)
        number = addresses.lazy.compactMap { Transit.number(ofHost: $0.address, in: pool) }.first
      }
      guard let number, taken.insert(number).inserted else {
        waiting.append(gateway)
        continue
      }
      transits[gateway.network] = pairs(number, gateway)
    }
    var next = 0
    for gateway in waiting {
      while taken.contains(next) { next += 1 }
      taken.insert(next)
      transits[gateway.network] = pairs(next, gateway)
    }
    return transits
  }

  private func pairs(_ number: Int, _ gateway: Gateway) -> [Transit] {
    var pools = [wishes.transit]
    if gateway.routes(isIPv6: true) { pools.append(Transit.ipv6Pool) }
    return pools.compactMap { Transit(number, of: $0) }
  }

  // MARK: The host

  /// Puts the host's filter in force, and opens the uplinks behind it; removes both where there are
  /// no gateways.
  private mutating func filterHost(_ transits: [String: [Transit]]) throws(LinuxError) {
    guard !wishes.gateways.isEmpty else { return try unfilterHost() }
    let links = try netlink.links()
    let routes = try netlink.routes()
    let own = Set(try netlink.allAddresses().map(\.address.address))
    let uplinks = wishes.uplinks ?? Uplinks.ofDefaultRoutes(routes, links)
    let toOpen = Uplinks.opened(uplinks, former: opened)
    // Nobody is let in by a device that was opened for us and is none of the uplinks any more.
    for device in opened where !toOpen.contains(device) && !uplinks.contains(device) {
      Uplinks.setForwarding(false, on: device)
    }
    let rules = HostRules(
      gateways: wishes.gateways, transits: transits,
      pools: [wishes.transit, Transit.ipv6Pool], uplinks: uplinks,
      opened: toOpen)
    if rules != hostRules || isHostFilterDoubtful {
      // What was heard may be our own change: no news is thrown away, as somebody else's may be
      // among it.
      let isInForce = rules == hostRules && hostListing != nil && tools.hostFilter() == hostListing
      if !isInForce {
        try tools.filter(rules.script)
        if hostRules?.relays != rules.relays {
          // A kernel that does not tell of connections has no more than datagrams that are lost for
          // a while.
          try? PortRelay.forgetOthers(than: rules.relays, own: own, pools: rules.pools)
        }
        hostRules = rules
        hostListing = tools.hostFilter()
        areOthersDoubtful = true
      }
      isHostFilterDoubtful = hostListing == nil
    }
    opened = toOpen
    for device in opened { Uplinks.setForwarding(true, on: device) }
    try floating.answer(
      for: wishes.gateways.flatMap { $0.floating.map(\.outside) }, on: uplinks)
    for gateway in wishes.gateways {
      messages.tell(
        FloatingAddresses.faults(of: gateway, own: own), about: .floating(gateway.network))
    }
    let isPublishing = wishes.gateways.contains { !$0.published.isEmpty }
    let listeners = (isPublishing ? ListeningSocket.all() : []).map {
      ($0.address, $0.port, $0.transport)
    }
    for gateway in wishes.gateways {
      messages.tell(
        Set(gateway.published.map(\.port)).sorted { $0.description < $1.description }.flatMap {
          $0.faults(own: own, listeners: listeners)
        }, about: .published(gateway.network))
    }
    tellOfTransits(transits.values.flatMap { $0 }, routes, links)
    tellOfOthers(uplinks, links)
  }

  private mutating func unfilterHost() throws(LinuxError) {
    for device in opened { Uplinks.setForwarding(false, on: device) }
    opened = []
    try floating.answer(for: [], on: [])
    if hostRules != nil || (isHostFilterDoubtful && tools.list("table", "inet", "ovx") != nil) {
      try tools.removeFilter()
    }
    hostRules = nil
    hostListing = nil
    isHostFilterDoubtful = false
    for subject in [Messages.Subject.host, .hostIPv6, .transit] { messages.clear(subject) }
  }

  /// Tells of a route of the host by another device to where transit pairs have taken their
  /// addresses from.
  private mutating func tellOfTransits(
    _ transits: [Transit], _ routes: [RouteEntry], _ links: [Link]
  ) {
    let taken = transits.map { IPPrefix($0.host, length: $0.length) }
    let own = Set(links.filter { $0.name.hasPrefix(Gateway.transitPrefix) }.map(\.index))
    let clash = routes.first { route in
      guard !route.isDefault, let index = route.linkIndex, !own.contains(index) else {
        return false
      }
      let prefix = route.prefix
      return taken.contains { $0.overlaps(prefix) }
    }
    guard let clash else { return messages.clear(.transit) }
    let device = links.first { $0.index == clash.linkIndex }?.name ?? "another device"
    messages.tell(
      "the host has a route to \(clash.prefix) by \(device), and gateways' ways to the host have taken addresses of it, which "
        + "it does not lead to any more; name another range with `ovx-ctl set switch . "
        + "other_config:gateway-transit=10.200.0.0/16`", about: .transit)
  }

  /// Tells what outside of our reach keeps tenants from getting outside.
  ///
  /// Others' packet filters are read when somebody has changed one, and while they are at fault.
  private mutating func tellOfOthers(_ uplinks: [String], _ links: [Link]) {
    if areOthersDoubtful || !foreignFaults.isEmpty {
      areOthersDoubtful = false
      foreignFaults = ForeignFilters.faults(tools)
    }
    var faults = foreignFaults
    if uplinks.isEmpty {
      faults.append(
        "the host has no default route, so tenants have no way out; add one, or name the devices with "
          + "`ovx-ctl set switch . other_config:gateway-uplinks=DEVICE,...`")
    }
    faults += uplinks.filter { uplink in !links.contains { $0.name == uplink } }.map {
      "other_config:gateway-uplinks of the switch names \($0), and the host has no such device; tenants get outside by the "
        + "others, or not at all"
    }
    messages.tell(faults, about: .host)
    let routesIPv6 = wishes.gateways.contains { $0.routes(isIPv6: true) }
    let fault = routesIPv6 ? Uplinks.fault(ofIPv6On: uplinks) : nil
    messages.tell(fault.map { [$0] } ?? [], about: .hostIPv6)
  }

  // MARK: Telling the switch

  /// How the gateways are; `nil` before the switch has been asked what there is to be.
  var report: GatewayReport? {
    guard areWishesKnown else { return nil }
    var report = GatewayReport(faults: messages.faults(of: [.gateways, .transit, .host]))
    for gateway in wishes.gateways {
      let name = gateway.network
      let subjects: [Messages.Subject] = [
        .router(name), .port(name), .services(name), .floating(name),
        .routes(name), .published(name),
      ]
      let isInForce =
        routers[name]?.gateway == gateway
        && messages.faults(of: [.router(name), .port(name)]).isEmpty
      report.gateways[name] = GatewayReport.Gateway(
        isInForce: isInForce,
        faults: messages.faults(
          of: subjects + (gateway.routes(isIPv6: true) ? [.hostIPv6] : [])))
    }
    return report
  }
}

extension Gateway {
  /// What keeps addresses of its IPv6 subnets from being served: sentences.
  fileprivate var unservedSubnets: [String] {
    guard services.dhcp else { return [] }
    return subnets(isIPv6: true).filter { !$0.takesDHCP }.map {
      "addresses of \($0) are not given by DHCP, which knows no IPv6 subnet wider than /64; give the network a /64 of it, "
        + "or set the addresses of virtual machines in them"
    }
  }
}

extension Netlink {
  /// Leads packets for members that have addresses of other IPv6 subnets than the gateway's own to
  /// their link.
  fileprivate mutating func routeOnLink(_ gateway: Gateway, on link: Link) throws(LinuxError) {
    let others = gateway.servedSubnets.filter { subnet in
      subnet.base.isIPv6 && !gateway.addresses.contains { subnet.contains($0) }
    }
    guard !others.isEmpty else { return }
    let present = Set(try routes().filter { $0.linkIndex == link.index }.map(\.prefix))
    for subnet in others where !present.contains(subnet) {
      try add(
        RouteEntry(destination: subnet.base, prefixLength: UInt8(subnet.length)), on: link)
    }
  }
}
