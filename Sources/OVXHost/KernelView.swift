internal import OVXControl
internal import OVXDatapath
package import OVXLinux
private import SystemPackage

/// The host as the kernel describes it: its network devices and its routes.
///
/// Devices are kept in a table that the kernel's announcements keep up to date. An announcement is
/// in the socket before the system call that caused it returns, so reading the socket before each
/// request means never to decide by the past.
package final class KernelView: HostKernel {
  var netlink: Netlink
  var events: LinkEvents
  package private(set) var links: [String: Link] = [:]
  private var names: [Int32: Known] = [:]
  private var appearances: UInt64 = 0
  /// What is known of the next hops of injected superframes.
  var nextHops: [NextHop: MACAddress?] = [:]
  /// Where the host gets, as far as that was asked for since it became otherwise.
  var hostWays: [HostWay]?
  /// What devices cut by themselves, by index, as far as that was asked for.
  private var features: [Int32: DeviceFeatures] = [:]

  /// The indices of devices whose filters or addresses may have become otherwise since they were
  /// looked at.
  private var doubtful: Set<Int32> = []

  /// Announcements that were taken in before anybody asked for them.
  private var early = Changes()

  /// A device by its number.
  private struct Known {
    var name: String
    /// Which of the devices that had the number it is.
    ///
    /// One that leaves for another network namespace may come back with the number that it had, and
    /// is a new one to whoever had a socket on it.
    var incarnation: UInt64
  }

  /// The smallest path MTU, in bytes, that ICMP messages are believed over IPv4.
  let pathMTUFloor: Int
  var claims = PathClaims()
  /// What a former daemon has left open.
  private let inherited: InheritedDescriptors
  private let ownership: DeviceOwnership
  private let containers: Containers

  /// Reads what there is, and begins to listen to what changes.
  ///
  /// - Parameters:
  ///   - pathMTUFloor: The smallest path MTU, in bytes, that ICMP messages are believed over IPv4.
  ///   - ownership: Knows which devices are ours.
  ///   - containers: Knows where containers are.
  ///   - inherited: What a former daemon has left open.
  /// - Throws: What the kernel refuses.
  package init(
    pathMTUFloor: Int, ownership: DeviceOwnership, containers: Containers,
    inherited: InheritedDescriptors = InheritedDescriptors()
  ) throws(LinuxError) {
    self.inherited = inherited
    self.pathMTUFloor = pathMTUFloor
    self.ownership = ownership
    self.containers = containers
    netlink = try Netlink()
    // Subscribed before the table is read, so that nothing falls in between.
    events = try LinkEvents([.addresses, .routes, .filters])
    try readLinks()
  }

  /// To be polled for `POLLIN`.
  package var descriptor: Int32 { events.rawValue }

  /// What has changed since it was asked last.
  package struct Changes: Equatable {
    /// The names of devices that have come, gone, or become otherwise.
    package var devices: Set<String> = []
    /// Whether ways to remote VTEPs may be other ones.
    package var ways = false
    /// Whether more has changed than could be told.
    package var everything = false

    package init() {}

    package mutating func merge(_ other: Changes) {
      devices.formUnion(other.devices)
      ways = ways || other.ways
      everything = everything || other.everything
    }
  }

  /// Takes the kernel's announcements in.
  ///
  /// Most are the echo of what the daemon has done itself, and come to nothing in the end.
  package func takeChanges() throws(LinuxError) -> Changes {
    var changes = try readChanges()
    changes.merge(early)
    early = Changes()
    return changes
  }

  /// Whether `takeChanges` has something to tell that the descriptor does not announce.
  package var hasEarlyChanges: Bool { early != Changes() }

  private func readChanges() throws(LinuxError) -> Changes {
    var changes = Changes()
    var before: [Int32: Link?] = [:]
    var gone: Set<Int32> = []
    let formerFeatures = features
    while let event = try events.next() {
      switch event {
      case .appeared(let link), .changed(let link):
        // Offloads that are switched on or off are announced, but not named.
        features[link.index] = nil
        if nextHops.keys.contains(where: { $0.linkIndex == link.index }) { changes.ways = true }
        if before[link.index] == nil { before[link.index] = .some(self.link(link.index)) }
        take(link)
      case .disappeared(_, let index, _):
        if before[index] == nil { before[index] = .some(self.link(index)) }
        features[index] = nil
        remove(index)
        gone.insert(index)
      case .addressesChanged(let index):
        changes.ways = true
        doubt(index, &changes)
      case .routesChanged:
        changes.ways = true
      case .filtersChanged(let index):
        doubt(index, &changes)
      case .neighborChanged(let linkIndex, let address):
        let hop = NextHop(linkIndex: linkIndex, address: address)
        if let known = nextHops[hop],
          known != (try? netlink.linkAddress(of: address, on: linkIndex))
        {
          changes.ways = true
        }
      case .overrun:
        changes.everything = true
        features = [:]
        try readLinks()
        doubtful = Set(names.keys)
      }
    }
    for (index, old) in before where gone.contains(index) || old != link(index) {
      for name in [old?.name, link(index)?.name] {
        if let name { changes.devices.insert(name) }
      }
      if old?.master != link(index)?.master { doubt(index, &changes) }
    }
    for (index, former) in formerFeatures where features[index] == nil {
      guard let link = link(index) else { continue }
      if features(of: link) != former { changes.devices.insert(link.name) }
    }
    // A route goes with its device without being announced.
    if !changes.devices.isEmpty || changes.everything { changes.ways = true }
    if changes.ways { hostWays = nil }
    return changes
  }

  private func doubt(_ index: Int32, _ changes: inout Changes) {
    guard let name = names[index]?.name else { return }
    doubtful.insert(index)
    changes.devices.insert(name)
  }

  private func readLinks() throws(LinuxError) {
    let present = try netlink.links()
    let known = names
    links = [:]
    names = [:]
    for link in present {
      names[link.index] = known[link.index]
      take(link)
    }
  }

  private func take(_ link: Link) {
    if let old = names[link.index]?.name, old != link.name, links[old]?.index == link.index {
      links[old] = nil
    }
    if names[link.index] == nil {
      appearances += 1
      names[link.index] = Known(name: link.name, incarnation: appearances)
    }
    names[link.index]?.name = link.name
    links[link.name] = link
  }

  private func remove(_ index: Int32) {
    doubtful.remove(index)
    if let name = names.removeValue(forKey: index)?.name, links[name]?.index == index {
      links[name] = nil
    }
  }

  /// The device with an index.
  package func link(_ index: Int32) -> Link? { names[index].flatMap { links[$0.name] } }

  /// The addresses that a device has, whoever gave them; none where the kernel does not say.
  package func addresses(of link: Link) -> [OVXLinux.InterfaceAddress] {
    (try? netlink.addresses(of: link)) ?? []
  }

  /// The namespaces that have a name, by the number that this one has for each.
  package func namedNamespaces() -> [Int32: NetworkNamespace] {
    var namespaces: [Int32: NetworkNamespace] = [:]
    for name in NetworkNamespace.names() {
      guard let namespace = try? NetworkNamespace(named: name),
        let number = (try? netlink.number(of: namespace)) ?? nil
      else { continue }
      namespaces[number] = namespace
    }
    return namespaces
  }

  /// Which of the devices that have had a number has it now.
  func incarnation(_ index: Int32) -> UInt64? { names[index]?.incarnation }

  /// Whether what has a number by now is what had it.
  func isStill(_ index: Int32, _ incarnation: UInt64?) throws(LinuxError) -> Bool {
    early.merge(try readChanges())
    return names[index]?.incarnation == incarnation
  }

  // MARK: Devices

  /// Asks the kernel how a device is now; that waits for changes that are being made.
  func refresh(_ link: Link) throws(LinuxError) {
    if let link = try netlink.link(index: link.index) { take(link) } else { remove(link.index) }
  }

  /// A device that was made a moment ago.
  func link(ofNew name: String) throws(LinuxError) -> Link {
    guard let link = try netlink.link(named: name) else {
      throw LinuxError(action: "find", subject: name, errno: .operationNotSupportedByDevice)
    }
    take(link)
    return link
  }

  /// Makes a device what it is told to be; see `Netlink.configure`.
  func configure(
    _ link: Link, _ settings: DeviceSettings, alias: String? = nil, isNew: Bool
  ) throws(LinuxError) {
    try netlink.configure(link, settings, alias: alias, isNew: isNew)
    if let link = try netlink.link(index: link.index) { take(link) }
  }

  /// Gives a veth of somebody else's the MTU that fits; see `Adoption`.
  func fit(
    _ link: Link, to bound: SizeBound?, former: Adoption?, noting note: (Adoption) -> Void
  ) throws(LinuxError) -> Adoption? {
    // To find the other end may take long.
    guard Adoption.concerns(link.mtu, bound: bound, former: former) else { return nil }
    var ends = try KernelVethEnds(of: link, &netlink)
    let adoption = try Adoption.fit(&ends, to: bound, former: former, noting: note)
    if let link = try netlink.link(index: link.index) { take(link) }
    return adoption
  }

  /// What a device cuts by itself.
  func features(of link: Link) -> DeviceFeatures {
    if let known = features[link.index] { return known }
    let found = DeviceFeatures(of: link)
    features[link.index] = found
    return found
  }

  /// Takes a device for gone that is about to be deleted.
  func forget(_ link: Link) { remove(link.index) }

  /// Makes a TAP and moves it into a namespace.
  ///
  /// It is not persistent.
  func makeTAP(
    _ settings: DeviceSettings, queues: Int, mark: String, in namespace: NetworkNamespace,
    as name: String
  ) throws(LinuxError) -> TAP {
    // A name that is free, as it has a random number in it; nobody needs to know it.
    let tap = try TAP.open(
      name: "ovx\(UInt32.random(in: 0...UInt32.max))", queues: queues)
    let link = try link(ofNew: tap.name)
    try netlink.configure(link, settings, alias: mark, isNew: false)
    try netlink.move(link, to: namespace, as: name)
    remove(link.index)
    return tap
  }

  /// Makes a veth with its other end in a namespace; what has the name of the host's end and is
  /// ours goes.
  ///
  /// Both ends are down.
  func makeVeth(
    named name: String, mark: String, otherEnd: String, in namespace: NetworkNamespace,
    address: MACAddress?
  ) throws(LinuxError) {
    if let former = try netlink.link(named: name) {
      // One without a mark is what a crash has left before it got that: nobody else makes such a
      // name.
      if former.kind != "veth" || former.alias != nil { try ownership.check(former) }
      try netlink.delete(former)
      remove(former.index)
    }
    try netlink.makeVeth(named: name, otherEnd: otherEnd, in: namespace, address: address)
    let link = try link(ofNew: name)
    do throws(LinuxError) {
      try netlink.setAlias(mark, of: link)
    } catch {
      end([DeviceRemains(link: link)])
      throw error
    }
  }

  /// The number that this namespace has for another; `nil` for none.
  func number(of namespace: NetworkNamespace) throws(LinuxError) -> Int32? {
    try netlink.number(of: namespace)
  }

  // MARK: Devices that belong to the switch alone

  /// Whether the filters or addresses of a device may be other ones than when they were looked at.
  func isDoubtful(_ index: Int32) -> Bool { doubtful.contains(index) }

  /// Keeps the host's own network stack off the device of a port; `false` where it was kept off
  /// already.
  ///
  /// See `StackFilter`.
  func isolate(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool {
    let isNews = try netlink.isolate(link, by: filter)
    doubtful.remove(link.index)
    return isNews
  }

  func widerAddresses(of link: Link) throws(LinuxError) -> [OVXLinux.InterfaceAddress] {
    try netlink.widerAddresses(of: link)
  }

  func isIsolated(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool {
    try netlink.isIsolated(link, by: filter)
  }

  /// Gives a device back to the host's network stack.
  func release(_ link: Link, from filter: StackFilter) {
    do {
      try netlink.release(link, from: filter)
    } catch {
      // It is gone, and the filter with it.
    }
  }

  /// The devices that are kept for the switch by a filter.
  func isolatedLinks(by filter: StackFilter) -> [Link] {
    let indices = (try? netlink.classifiedLinks()) ?? []
    return indices.compactMap(link).filter { (try? netlink.holds($0, filter)) == true }
  }

  // MARK: Opening

  func openTAP(_ name: String, queues: Int) throws(LinuxError) -> TAP {
    if let tap = inherited.tap(named: name, isAway: false) { return tap }
    let tap = try TAP.open(name: name, queues: queues)
    ProcSettings.keepNeighborsWithoutCarrier(on: name)
    return tap
  }

  func takeAwayTAP(_ name: String) -> TAP? { inherited.tap(named: name, isAway: true) }

  /// The TAP in a container that a former daemon has left open; see `InheritedDescriptors`.
  func takeTAP(
    in interface: DesiredState.ContainerInterface
  ) -> InheritedDescriptors.ContainerTAP? { inherited.tap(in: interface) }

  /// Whether a former daemon has left a device of the host open.
  func isHandedOver(_ name: String) -> Bool { inherited.hasDevice(named: name) }

  func openPacketSocket(_ name: String, queues: Int) throws(LinuxError) -> PacketSocket {
    if let socket = inherited.packetSocket(on: name) { return socket }
    return try PacketSocket.open(interface: name, queues: queues)
  }

  func keep(_ tap: borrowing TAP) throws(LinuxError) -> any TAPHandle {
    let handle = try TAPDescriptor(tap)
    try tap.setPersistent(true)
    return handle
  }

  func listen(
    at endpoint: DesiredState.Endpoint, isShared: Bool, queues: Int
  ) throws(LinuxError) -> UDPSocket {
    if let socket = inherited.listener(at: endpoint, queues: queues) { return socket }
    return try UDPSocket.listen(
      local: endpoint.local, isIPv6: endpoint.isIPv6, port: endpoint.port, isShared: isShared,
      queues: queues)
  }

  func connect(
    to remote: DesiredState.Remote, sourcePort: UInt16
  ) throws(LinuxError) -> UDPSocket {
    try UDPSocket.connect(
      local: remote.local, remote: remote.address, port: remote.port, sourcePort: sourcePort,
      header: remote.header)
  }

  // MARK: Settings

  func hasIPv6(_ place: DesiredState.Place) -> Bool {
    switch place {
    case .existing(let name), .host(let name): ProcSettings.hasIPv6(on: name)
    case .container(let interface):
      interface.namespaceHere.map { ProcSettings.hasIPv6(on: interface.name, in: $0) } ?? true
    }
  }

  func forwardsIPv6(on device: String) -> Bool { ProcSettings.forwardsIPv6(on: device) }

  func acceptRouterAdvertisements(_ isAccepting: Bool, on device: String) {
    ProcSettings.acceptRouterAdvertisements(isAccepting, on: device)
  }

  // MARK: Containers

  func check(
    _ interface: DesiredState.ContainerInterface, of container: String?
  ) throws(LinuxError) {
    try device(interface, container).check()
  }

  func openTAP(
    in interface: DesiredState.ContainerInterface, of container: String?,
    _ order: ContainerDevice.Order
  ) throws(LinuxError) -> OpenTAP {
    let device: ContainerDevice
    do throws(LinuxError) { device = try self.device(interface, container) } catch {
      // Where nobody can say at present where the container is, what is open knows.
      guard let namespace = inherited.namespace(ofTAPIn: interface) else { throw error }
      device = try ContainerDevice(
        interface, in: namespace, ownership: ownership, kernel: self)
    }
    ownership.note(interface)
    return try device.open(order, kernel: self)
  }

  func openVeth(
    in interface: DesiredState.ContainerInterface, of container: String?,
    _ order: ContainerDevice.Order
  ) throws(LinuxError) -> OpenVeth {
    try device(interface, container).openVeth(order, kernel: self)
  }

  func change(
    _ interface: DesiredState.ContainerInterface, in namespace: NetworkNamespace,
    from old: DeviceSettings, to settings: DeviceSettings
  ) throws(LinuxError) -> Introduction? {
    let device = try ContainerDevice(
      interface, in: namespace, ownership: ownership, kernel: self)
    return try device.change(old, to: settings)
  }

  func delete(_ interface: DesiredState.ContainerInterface) throws(LinuxError) {
    try device(interface, nil).delete()
  }

  private func device(
    _ interface: DesiredState.ContainerInterface, _ container: String?
  ) throws(LinuxError) -> ContainerDevice {
    try ContainerDevice(
      interface, container, ownership: ownership, containers: containers, kernel: self)
  }

  /// Has the kernel remove or close many devices at a time; with more than so many it gets no
  /// faster.
  func end(_ remains: consuming [DeviceRemains]) {
    forEachConcurrently(remains, threads: 64) { $0.end() }
  }
}
