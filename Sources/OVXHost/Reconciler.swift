package import OVXControl
package import OVXDatapath
package import OVXLinux
package import SystemPackage

/// Makes the kernel and the data plane into what a configuration asks for, as far as the host
/// allows.
///
/// There is one way to get there, whatever has happened — a command, a device that came or went, a
/// start after a crash: compare what is wanted with what is open, and do what is missing. The order
/// keeps traffic that is not concerned flowing, and never lets the data plane refer to something
/// that is not open:
///
///     open what is new → apply the topology → close what is old → give its numbers free
///
/// Only ports are looked at that may be otherwise than they are to be: a host with a thousand is
/// changed one at a time.
package final class Reconciler {
  package private(set) var configuration = Configuration()
  package private(set) var desired = DesiredState()
  let dataplane: any DataPlaneCommands
  let kernel: any HostKernel
  private(set) var datapathIDs = DatapathIDs()
  private(set) var devices: PortDevices
  private(set) var underlay: Underlay
  private let filter: UnderlayFilter
  /// What an agent tells of other hosts.
  var agent = AgentEntries()
  /// What of that found no place in the data plane, a sentence each, since it was asked for last.
  var refusals: [String] = []
  /// Why there is no fast path although there is to be one.
  private(set) var fastPathFault: Fault?
  /// What the fast path would pass by of the host's rules, as far as that matters.
  private(set) var passedFilter: String?
  /// When it is looked at again, in milliseconds on the monotonic clock.
  private var nextFilterLook: Int64 = 0
  /// Milliseconds from one look to the next: for as long, rules that somebody loads are passed by.
  private static let filterLookInterval: Int64 = 1000
  /// What the data plane has.
  package private(set) var topology = Topology()
  /// The numbers by which it has ports, by name.
  private var numbers: [String: PortID] = [:]
  /// What limits the packets of ports, as devices were last told, by name.
  private var limits: [String: DesiredState.Limits] = [:]
  /// The network cards that give bridges their Ethernet address.
  private var uplinks = Uplinks()
  private var introductions = Introductions()
  /// Ports that lose packets for their size.
  private(set) var oversize = OversizeFaults()
  /// Ports that were looked at so far to make them what they are to be: what reconciling costs.
  package private(set) var examinedPorts = 0
  /// Those since `takeExamined` was called last, and whether the configuration is another one than
  /// then.
  private var examined: (ports: Set<String>, isConfigured: Bool) = ([], false)

  /// - Parameters:
  ///   - dataplane: Forwards frames.
  ///   - kernel: Has the devices and the routes.
  ///   - ownership: Knows which devices are ours.
  ///   - identity: The database's: what the addresses of devices are derived from.
  ///   - containers: Knows where containers are.
  ///   - descriptorLimit: Descriptors that the process may have.
  ///   - filter: Keeps others from sending to the tunnels' remotes.
  package convenience init(
    dataplane: Switch, kernel: KernelView, ownership: DeviceOwnership, identity: UInt64,
    containers: Containers, descriptorLimit: Int, filter: UnderlayFilter
  ) {
    self.init(
      of: kernel, and: dataplane, ownership: ownership, identity: identity, containers: containers,
      descriptorLimit: descriptorLimit, filter: filter)
  }

  /// As the other one, for any kernel and any data plane.
  init(
    of kernel: any HostKernel, and dataplane: any DataPlaneCommands, ownership: DeviceOwnership,
    identity: UInt64, containers: Containers, descriptorLimit: Int, filter: UnderlayFilter
  ) {
    self.dataplane = dataplane
    self.kernel = kernel
    devices = PortDevices(
      kernel: kernel, dataplane: dataplane, ownership: ownership, identity: identity,
      containers: containers)
    underlay = Underlay(
      kernel: kernel, dataplane: dataplane, descriptorLimit: descriptorLimit)
    self.filter = filter
  }

  /// Makes a configuration the one in force.
  ///
  /// Costs what is otherwise than in the one before. What the host does not allow is in `faults`
  /// afterwards, and its port waits.
  ///
  /// - Parameters:
  ///   - configuration: A valid one.
  ///   - changes: What is otherwise in it than in the one in force.
  ///   - desired: What it needs.
  ///   - isCommanded: Whether an operator asks for it at this moment.
  package func reconcile(
    to configuration: Configuration, _ changes: Configuration.Changes, _ desired: DesiredState,
    isCommanded: Bool = false
  ) {
    let oldDesired = self.desired
    examined.isConfigured = true
    let old = self.configuration
    var desired = desired
    let forgotten = agent.forget { name in
      // What was told is told of a VNI.
      configuration.isServedByAgent(name)
        && old.networks[name]?.vni == configuration.networks[name]?.vni
    }
    for name in forgotten.keys {
      guard let port = old.networks[name]?.tunnelPort else { continue }
      desired.tell(DesiredState.ToldRemotes(), of: port, in: configuration)
    }
    self.configuration = configuration
    self.desired = desired
    datapathIDs.update(for: configuration, desired, changes)
    let isFastPathConcerned = desired.fastPath != oldDesired.fastPath
    let isUnderlayConcerned =
      isFastPathConcerned
      || changes.ports.contains { oldDesired.tunnels[$0] != desired.tunnels[$0] }
    let commanded = changes.ports.filter {
      isCommanded && oldDesired.devices[$0]?.place != desired.devices[$0]?.place
    }
    var names = changes.ports
    for network in changes.networks {
      // What their members may send follows from them, and whether a gateway is this host's alone.
      names.formUnion(configuration.members(of: network).map(\.name))
      if let port = configuration.networks[network]?.gatewayPort, configuration.ports[port] != nil {
        names.insert(port)
      }
    }
    for name in changes.ports {
      // What the host had on a port's device it has on the bridge's own.
      for bridge in [desired.devices[name]?.bridge, oldDesired.devices[name]?.bridge] {
        guard let bridge, desired.devices[bridge] != oldDesired.devices[bridge] else { continue }
        names.insert(bridge)
      }
    }
    if isFastPathConcerned {
      fastPathFault = startFastPath()
      passedFilter = lookForPassedFilter()
      names.formUnion(configuration.ports.keys)
    }
    if !changes.bridges.isEmpty { names.formUnion(changes.bridges.union(desired.tunnels.keys)) }
    reconcile(
      names,
      commanded: commanded, isUnderlayConcerned: isUnderlayConcerned)
    give(forgotten)
    _ = takeRemotes(of: changes.networks)
  }

  /// What the kernel is to have for another configuration, as far as that has changed; what an
  /// agent has told stays.
  package func desired(
    for configuration: Configuration, _ changes: Configuration.Changes
  ) -> DesiredState {
    var desired = desired
    // A bridge's own settings are those of its internal port, too.
    desired.update(to: configuration, changes.ports.union(changes.bridges))
    return desired
  }

  /// Makes VTEPs that an agent tells, by networks, those of the networks' tunnels.
  func tell(_ told: [String: DesiredState.ToldRemotes]) {
    var ports: Set<String> = []
    for (network, told) in told {
      guard let port = configuration.networks[network]?.tunnelPort,
        desired.toldRemotes[port] ?? DesiredState.ToldRemotes() != told
      else { continue }
      desired.tell(told, of: port, in: configuration)
      datapathIDs.update(for: configuration, desired, port: port)
      ports.insert(port)
    }
    if !ports.isEmpty { reconcile(ports, isUnderlayConcerned: true) }
  }

  /// Does again what the present configuration asks for.
  ///
  /// - Parameter isRefreshing: Whether ways to remote VTEPs may have changed.
  package func reconcile(isRefreshing: Bool) {
    reconcile(
      Set(configuration.ports.keys), isUnderlayConcerned: true, isRefreshing: isRefreshing)
  }

  /// Does again what the present configuration asks for of some ports, whose devices are otherwise
  /// than they were.
  package func reconcile(_ names: Set<String>) { reconcile(names, isUnderlayConcerned: false) }

  /// Does what is to be done for some ports, and for those that depend on them.
  private func reconcile(
    _ names: Set<String>, commanded: Set<String> = [], isUnderlayConcerned: Bool,
    isRefreshing: Bool = false
  ) {
    var names = names
    if isUnderlayConcerned {
      underlay.open(desired, isRefreshing: isRefreshing)
      filter.update(to: underlay.destinations(of: desired))
      names.formUnion(desired.tunnels.keys)
    }
    let limits = desired.limits(
      innerMTU: { self.underlay.way(to: $0)?.innerMTU },
      deviceMTU: { self.devices.ownMTU(of: $0) ?? self.kernel.links[$0]?.mtu })
    if limits != self.limits {
      for name in desired.devices.keys where limits[name] != self.limits[name] {
        names.insert(name)
      }
      self.limits = limits
    }
    names.formUnion(uplinks.update(desired, kernel.links).filter { desired.devices[$0] != nil })
    announceReturn(of: names.filter { desired.devices[$0] == nil })
    // What moves to the host's own devices has to have left the others.
    let ordered = names.sorted {
      desired.devices[$0]?.isInternal != true && desired.devices[$1]?.isInternal == true
    }
    for name in ordered {
      guard let device = desired.devices[name], let number = port(name) else { continue }
      var settings = DeviceSettings(
        device, limits[name] ?? DesiredState.Limits(), hasIPv6: kernel.hasIPv6(device.place))
      if name == device.bridge, settings.mac == nil { settings.mac = uplinks.addresses[name] }
      devices.open(
        name,
        DeviceOrder(
          desired: device, port: number, settings: settings, isCommanded: commanded.contains(name)))
    }
    examinedPorts += names.count
    examined.ports.formUnion(names)

    let isChanged = topology.update(
      names, &numbers, configuration, desired, datapathIDs,
      Provision(
        device: { self.device(of: $0) },
        station: { self.devices.station(of: $0) },
        isUplink: { self.devices.link(of: $0)?.isCard == true },
        endpoint: { self.underlay.endpoint($0) },
        path: { peer in
          guard let sockets = self.underlay.sockets(to: peer),
            let way = self.underlay.way(to: peer.remote)
          else { return nil }
          return (sockets, way.innerMTU)
        },
        injection: { self.underlay.injection(to: $0) },
        fastPath: { self.fastPath(to: $0) },
        arrivals: { self.underlay.way(to: $0)?.devices }))
    if isChanged {
      dataplane.apply(topology)
      settleAgent()
    }
    for (name, announcements) in devices.takeAnnouncements() {
      introductions.add(announcements, of: name)
    }
    introduce()

    devices.close(names, exceptFor: desired)
    if isUnderlayConcerned { underlay.close(exceptFor: desired) }
    datapathIDs.releaseQuarantined()
  }

  /// Tells neighbors by NICs that are no ports any more that the host is behind the NIC's address
  /// again, as long as the switch still can: else they send to the bridge's, which nobody has then.
  private func announceReturn(of names: Set<String>) {
    let orders = names.compactMap { name in
      devices.farewell(of: name).flatMap { bridge, announcements in
        numbers[bridge].map {
          AnnouncementOrder(port: $0, announcements: announcements, isRepetition: false)
        }
      }
    }
    if !orders.isEmpty { dataplane.announce(orders) }
  }

  /// When `introduce` has something to do next, in milliseconds on the monotonic clock; `nil` for
  /// never.
  package var nextIntroduction: Int64? { introductions.next }

  /// Announces the addresses of devices that are due to be announced.
  package func introduce() {
    introductions.make(now: monotonicMilliseconds(), in: dataplane) { self.port($0) }
  }

  /// The ports whose device on the host has one of these names.
  package func ports(ofDevices names: Set<String>) -> Set<String> {
    Set(
      names.compactMap { name in
        desired.devices[name]?.place.nameOnHost == name ? name : desired.hostEnds[name]
      })
  }

  /// Whether something that tunnels stand on is otherwise than when they were reconciled, or may
  /// now be there.
  package func isUnderlayChanged() -> Bool { underlay.isChanged(desired) }

  /// The names of devices that the daemon made and that nothing refers to, those in containers with
  /// the container's.
  package var orphans: [String] { devices.orphans(exceptFor: desired) }

  /// Removes what the daemon made and nothing refers to: a crash has left it.
  package func removeOrphans() {
    devices.removeOrphans(exceptFor: desired)
    filter.removeOrphan()
  }

  /// Removes all devices that the daemon made, and its rules.
  package func removeDevices() {
    announceReturn(of: Set(desired.devices.keys))
    devices.removeAll()
    filter.removeAll()
  }

  /// Gives devices of the host that are no ports what it had on them; `places` by their names.
  package func restore(_ places: [String: HostPlace]) {
    for (name, place) in places where desired.devices[name] == nil {
      devices.restore(place, to: name)
    }
  }

  /// Closes all devices for good, and leaves them in place.
  package func closeDevices() { devices.closeAll() }

  /// The ports whose devices had to be taken from the host's network stack again since this was
  /// asked last.
  package func takeRetaken() -> [String] { devices.takeRetaken() }

  /// Lets go of containers that are gone or have another namespace, and looks for those that were
  /// not there.
  ///
  /// - Returns: The ports that were looked at anew.
  @discardableResult
  package func checkContainers() -> Set<String> {
    let missing = desired.devices.filter { $0.value.target != nil && devices.faults[$0.key] != nil }
    let names = devices.checkContainers().union(missing.keys)
    if !names.isEmpty { reconcile(names) }
    return names
  }

  /// Whether `checkContainers` would find a container that is another one.
  package var areContainersRestarted: Bool { devices.areContainersRestarted }

  /// Takes note of which containers attachments are, which changes nothing for their devices.
  package func note(_ configuration: Configuration, ports: Set<String>) {
    self.configuration = configuration
    examined = (examined.ports.union(ports), true)
    desired.update(to: configuration, ports)
  }

  /// Notes that the switch cannot use a port's device any more; see `PortDevices.lose`.
  package func lose(_ port: PortID, _ error: Errno) -> (name: String, isToReopen: Bool)? {
    let lost = devices.lose(port, error)
    if let lost { examined.ports.insert(lost.name) }
    return lost
  }

  /// Looks at a port's device anew, of which the kernel may not have announced everything, such as
  /// another `IFLA_GSO_MAX_SIZE`.
  package func examineDevice(of port: PortID) {
    guard let name = numbers.first(where: { $0.value == port })?.key,
      devices.isChanged(name)
    else { return }
    reconcile([name])
  }

  /// Notes that an injector takes nothing any more.
  package func lose(_ injector: InjectorID, _ error: Errno) { underlay.lose(injector, error) }

  /// What was done to devices of others since this was last called.
  package func takeNotes() -> [String] { devices.takeNotes() }

  /// Notes which ports have lost packets for their size; `now` is in milliseconds on the monotonic
  /// clock.
  package func noteOversize(now: Int64) {
    let names = Dictionary(
      numbers.map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })
    for report in dataplane.takeOversizeReports() {
      guard let name = names[report.port] else { continue }
      var remote: IPAddress?
      let port = topology.ports.first { $0.id == report.port }
      if case .tunnel(let tunnel) = port?.attachment {
        remote = tunnel.peers.first { $0.id == report.peer }?.remote
      }
      oversize.note(report, at: name, remote: remote, now: now)
      examined.ports.insert(name)
    }
  }

  /// Goes on finding out whether paths are as narrow as ICMP messages say, and says whether some
  /// way is another one.
  package func examineClaims(now: Int64) -> Bool {
    guard let next = kernel.nextExamination, next <= now else { return false }
    return kernel.examineClaims(to: Set(desired.tunnels.values.flatMap(\.remotes)), now: now)
  }

  /// When `examineClaims` has something to do next, in milliseconds on the monotonic clock; `nil`
  /// for never.
  package var nextExamination: Int64? { kernel.nextExamination }

  /// Looks whether the host's rules are such that the fast path is not to pass by them, and says
  /// whether that is otherwise now.
  package func examineFilters(now: Int64) -> Bool {
    guard let next = nextFilterExamination, next <= now else { return false }
    nextFilterLook = now + Self.filterLookInterval
    let found = lookForPassedFilter()
    defer { passedFilter = found }
    return (found == nil) != (passedFilter == nil)
  }

  /// When `examineFilters` has something to do next, in milliseconds on the monotonic clock; `nil`
  /// for never.
  package var nextFilterExamination: Int64? {
    desired.fastPath == .auto && usesFastPath && !desired.tunnels.isEmpty ? nextFilterLook : nil
  }

  /// When `expireOversize` has something to do next, in milliseconds on the monotonic clock; `nil`
  /// for never.
  package var nextOversizeEnd: Int64? { oversize.nextEnd }

  /// Forgets which ports have lost packets for their size, where that is over; says whether there
  /// was any.
  package func expireOversize(now: Int64) -> Bool {
    let names = oversize.faults.keys
    let isChanged = oversize.expire(now: now) { configuration.ports[$0] != nil }
    if isChanged { examined.ports.formUnion(names) }
    return isChanged
  }

  /// The ports that were looked at since this was called last, of which something may have become,
  /// and whether the configuration has changed.
  package func takeExamined() -> (ports: Set<String>, isConfigured: Bool) {
    defer { examined = ([], false) }
    return examined
  }
}
