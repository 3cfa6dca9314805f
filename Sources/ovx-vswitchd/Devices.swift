internal import OVXControl
internal import OVXDatapath
internal import OVXLinux
internal import SystemPackage

/// The network devices of ports: those that exist and those that the daemon makes.
///
/// A device that the daemon makes is a persistent TAP, so it outlives the daemon with all that the host or a container
/// has given it, and the daemon finds it again when it starts. It is told from other people's devices by its alias
/// (`Ownership`), and it is persistent only once it has that: a crash leaves either nothing behind or something that is
/// recognised.
///
/// As with `Underlay`, what is no longer wanted stays until `close`.
struct Devices {
  private final class TAPHandle: Sendable {
    private let tap: TAP

    init(_ tap: borrowing TAP) throws(LinuxError) {
      self.tap = try tap.duplicate()
    }

    /// Has the device go when it is closed.
    func giveUp() { try? tap.setPersistent(false) }

    /// Whether the device still exists, in whatever network namespace and by whatever name.
    var isAlive: Bool { tap.isAlive }
  }

  private struct Open {
    var plan: Plan.Device
    var port: PortID
    /// The device's number in its network namespace.
    var index: Int32
    /// Which of the devices with that number: see `Host`.
    var incarnation: UInt64?
    var capabilities: OffloadCapabilities
    /// What the device was last told to be.
    ///
    /// An operator's own changes stay until this changes.
    var settings: DeviceSettings
    /// For a device in a container: its namespace.
    var namespace: NetworkNamespace.Identity?
    /// Whether the open device keeps the container's namespace from ending.
    var holdsNamespace = false
    /// For a device that the daemon made: takes it away again, wherever it is by now.
    var handle: TAPHandle?
    /// The switch cannot use it any more.
    var isLost = false

    init(_ order: Order, index: Int32, capabilities: OffloadCapabilities) {
      plan = order.plan
      port = order.port
      settings = order.settings
      self.index = index
      self.capabilities = capabilities
    }
  }

  private let dataplane: Switch
  private let ownership: Ownership
  private var open: [String: Open] = [:]
  private(set) var faults: [String: Fault] = [:]
  /// When the switch last lost a port's device, in milliseconds on the monotonic clock.
  private var lastLosses: [String: Int64] = [:]
  /// When to look again for containers that are not there.
  private var searches: [String: Search] = [:]
  /// The port whose container was asked for last.
  private var lastAsked = ""
  /// How long to wait for the program that runs a container.
  static let askingLimit = Duration.seconds(2)

  init(dataplane: Switch, ownership: Ownership) {
    self.dataplane = dataplane
    self.ownership = ownership
  }

  /// What the switch has to know of a port's device; `nil` while it is not open.
  func device(of name: String, host: Host) -> Topology.Device? {
    guard let device = open[name], faults[name] == nil else { return nil }
    let link = link(of: name, host: host)
    let mtu = link?.mtu ?? device.settings.mtu ?? Sizes.defaultMTU
    if case .existing = device.plan.place, let link {
      return link.device(host.features(of: link), device.capabilities, mtu: mtu)
    }
    return Topology.Device(mtu: mtu, capabilities: device.capabilities)
  }

  /// The kernel's description of a port's device; `nil` while it is not open, or where it is in a container.
  func link(of name: String, host: Host) -> Link? {
    guard let device = open[name] else { return nil }
    return link(device, host)
  }

  private func link(_ device: Open, _ host: Host) -> Link? {
    guard device.namespace == nil else { return nil }
    if host.incarnation(device.index) == device.incarnation { return host.link(device.index) }
    // One of ours that has been away.
    return host.links[device.plan.place.name].flatMap { ownership.isOurs($0) ? $0 : nil }
  }

  /// What a port's device was told to be; `nil` while it is not open.
  func settings(of name: String) -> DeviceSettings? { open[name]?.settings }

  /// Notes that the switch cannot use the device of a port any more.
  ///
  /// Returns the port's name, and whether to open the device again at once: not where that has helped for a moment only.
  mutating func lose(_ port: PortID, _ error: Errno) -> (name: String, isToReopen: Bool)? {
    guard let name = open.first(where: { $0.value.port == port })?.key else { return nil }
    open[name]?.isLost = true
    let now = monotonicMilliseconds()
    let isToReopen = now - (lastLosses[name] ?? .min / 2) > 2000
    lastLosses[name] = now
    if !isToReopen { faults[name] = Fault("its device fails: \(error)", isAwaited: true) }
    return (name, isToReopen)
  }

  // MARK: Opening

  /// A container that was not there when it was looked for.
  ///
  /// To look for one can mean to run `docker`, during which the control thread waits. So it is done again after 3
  /// seconds, after 6 more, and so on up to half a minute; at once where a command names the port.
  private struct Search {
    static let intervals = 3...30 as ClosedRange<Int64>

    var plan: Plan.Device
    var next: Int64
    var interval: Int64
  }

  private mutating func noteSearch(_ name: String, _ plan: Plan.Device) {
    guard case .container = plan.place else { return }
    let interval = searches[name].map { min($0.interval * 2, Search.intervals.upperBound) }
    searches[name] = Search(
      plan: plan, next: monotonicSeconds() + (interval ?? Search.intervals.lowerBound),
      interval: interval ?? Search.intervals.lowerBound)
  }

  /// A device to be open.
  struct Order {
    var plan: Plan.Device
    var port: PortID
    var settings: DeviceSettings
    /// Whether an operator asks for it at this moment, rather than circumstances.
    var isCommanded: Bool
  }

  /// Opens the device of a port where it is not open, and gives it the settings that it is to have.
  mutating func open(_ name: String, _ order: Order, host: Host) {
    let plan = order.plan
    if faults[name] == nil, open[name].map({ isInOrder($0, order, host) }) == true { return }
    if let search = searches[name], search.plan == plan, search.next > monotonicSeconds() { return }
    do throws(LinuxError) {
      if let device = open[name], !isUsable(device, order, host) {
        open[name] = nil
        if device.isLost || !device.plan.isSameDevice(as: plan) {
          var leaving = [device]
          remove(&leaving, host)
        } else {
          dataplane.detach(device.port)
        }
      }
      if let device = open[name] {
        if device.settings != order.settings { try change(device, to: order, host) }
      } else {
        open[name] = try make(order, host)
      }
      open[name]?.plan = plan
      open[name]?.settings = order.settings
      faults[name] = outage(of: plan, host)
      searches[name] = nil
    } catch {
      noteSearch(name, plan)
      faults[name] = Fault(error, isAwaited: error.isMissingDevice && !plan.isMade)
    }
  }

  /// Whether an open device is in every respect what it is to be.
  private func isInOrder(_ device: Open, _ order: Order, _ host: Host) -> Bool {
    device.settings == order.settings && device.plan == order.plan
      && isUsable(device, order, host) && outage(of: order.plan, host) == nil
  }

  /// Why nothing passes a device although it is open.
  ///
  /// Of those that the daemon makes, whoever uses them may have reasons.
  private func outage(of plan: Plan.Device, _ host: Host) -> Fault? {
    guard case .existing(let name) = plan.place, let link = host.links[name], !link.isUp
    else { return nil }
    return Fault("its device is down; `ip link set \(name) up` sets it up", isAwaited: true)
  }

  /// Whether an open device is the one that is wanted, and still there.
  private func isUsable(_ device: Open, _ order: Order, _ host: Host) -> Bool {
    guard device.plan.isSameDevice(as: order.plan), device.port == order.port, !device.isLost
    else { return false }
    let isInPlace =
      device.namespace == nil && host.links[order.plan.place.name]?.index == device.index
      && host.incarnation(device.index) == device.incarnation
    // One that was made and has been moved or renamed since is what its user wants it to be.
    return isInPlace || device.namespace != nil || device.handle?.isAlive == true
  }

  private func make(_ order: Order, _ host: Host) throws(LinuxError) -> Open {
    switch order.plan.place {
    case .existing(let name): try take(name, order, host)
    case .host(let name): try makeTAP(name, order, host)
    case .container(let interface): try makeTAP(interface, order, host)
    }
  }

  /// Takes an existing device of the host.
  private func take(_ name: String, _ order: Order, _ host: Host) throws(LinuxError) -> Open {
    // What was announced may be the first half of a change, such as the new name of a device that is being set down.
    try host.refresh(host.deviceForPort(name))
    let link = try host.deviceForPort(name)
    host.setIPv6(false, on: link)
    // Several sockets can share what a device brings only if it is up.
    try host.configure(link, order.settings, isNew: true)
    let socket = try PacketSocket.open(interface: name, queues: dataplane.queueCount)
    let capabilities = socket.capabilities
    try dataplane.attach(socket, as: order.port)
    var result = Open(order, index: link.index, capabilities: capabilities)
    result.incarnation = host.incarnation(link.index)
    return result
  }

  /// Makes a TAP in the daemon's own namespace, or finds it there.
  private func makeTAP(_ name: String, _ order: Order, _ host: Host) throws(LinuxError) -> Open {
    if let link = host.links[name] { try ownership.check(link) }
    let tap = try TAP.open(name: name, queues: dataplane.queueCount)
    let link = try host.link(ofNew: name)
    try host.configure(link, order.settings, alias: ownership.mark, isNew: true)
    if order.plan.isInternal { try host.address(link, with: order.settings.addresses) }
    try tap.setPersistent(true)
    var result = Open(order, index: link.index, capabilities: tap.capabilities)
    result.incarnation = host.incarnation(link.index)
    result.handle = try TAPHandle(tap)
    try dataplane.attach(tap, as: order.port)
    return result
  }

  /// Makes a TAP in a container, or finds it there.
  private func makeTAP(
    _ interface: Plan.ContainerInterface, _ order: Order, _ host: Host
  ) throws(LinuxError) -> Open {
    let container = try ContainerDevice(interface, ownership: ownership)
    ownership.note(interface)
    let device = try container.open(
      settings: order.settings, queues: dataplane.queueCount, isCommanded: order.isCommanded,
      host: host)
    var result = Open(order, index: device.index, capabilities: device.tap.capabilities)
    result.namespace = container.namespace.identity
    result.holdsNamespace = device.wasThere
    result.handle = try TAPHandle(device.tap)
    try dataplane.attach(device.take(), as: order.port)
    return result
  }

  private func change(
    _ device: Open, to order: Order, _ host: Host
  ) throws(LinuxError) {
    let settings = order.settings
    if case .container(let interface) = device.plan.place {
      try ContainerDevice(interface, ownership: ownership).change(device.settings, to: settings)
    } else if let link = link(device, host) {
      try host.configure(link, settings, isNew: false)
      // Those of a port that is not internal any more go, too.
      if device.settings.addresses != settings.addresses {
        try host.address(link, with: settings.addresses)
      }
    }
  }

  // MARK: Closing

  /// Whether a device is open that keeps its container's namespace from ending.
  var holdsNamespaces: Bool { open.values.contains(where: \.holdsNamespace) }

  /// Marks devices as lost whose container is gone and whose namespace only we hold.
  ///
  /// To be called now and then; nothing announces it. Containers that have to be asked for are taken in turn, one in
  /// each call.
  mutating func releaseNamespaces() {
    var toAsk: [String] = []
    for (name, device) in open.sorted(by: { $0.key < $1.key }) where device.holdsNamespace {
      guard case .container(let interface) = device.plan.place else { continue }
      switch interface.namespaceWithoutAsking {
      case .some(let identity?): open[name]?.isLost = identity != device.namespace
      case .some(nil): open[name]?.isLost = true
      case nil: toAsk.append(name)
      }
    }
    guard let name = toAsk.first(where: { $0 > lastAsked }) ?? toAsk.first,
      let device = open[name], case .container(let interface) = device.plan.place
    else { return }
    lastAsked = name
    let namespace = try? NetworkNamespace.find(interface.target, timeout: Self.askingLimit)
    open[name]?.isLost = namespace?.identity != device.namespace
  }

  /// Closes the devices of those of some ports that a plan does not have, and removes those that the daemon made.
  ///
  /// The data plane has a topology that refers to none of them.
  mutating func close(_ names: Set<String>, exceptFor plan: Plan, host: Host) {
    var leaving: [Open] = []
    for name in names where plan.devices[name] == nil {
      faults[name] = nil
      searches[name] = nil
      lastLosses[name] = nil
      if let device = open.removeValue(forKey: name) { leaving.append(device) }
    }
    remove(&leaving, host)
  }

  /// Removes everything that the daemon has made, whether it is open or not.
  mutating func removeAll(host: Host) {
    close(Set(open.filter(\.value.plan.isMade).keys), exceptFor: Plan(), host: host)
    removeOrphans(exceptFor: Plan(), host: host)
  }

  /// Removes what the daemon has made and a plan does not have: left behind by a crash between two steps.
  func removeOrphans(exceptFor plan: Plan, host: Host) {
    let wanted = Set(plan.devices.values.map(\.place))
    let links = host.links.values.filter {
      ownership.isOurs($0) && !wanted.contains(.host(name: $0.name))
    }
    for link in links { host.forget(link) }
    end(links.map { Remains(link: $0) })
    for interface in ownership.noted where !wanted.contains(.container(interface)) {
      remove(interface)
    }
  }

  /// Detaches devices, and removes those that the daemon made; leaves those that it only used as they were.
  ///
  /// Frames of other ports do not wait for it. The kernel waits for itself with every device, so many of them are removed at
  /// the same time.
  private func remove(_ devices: inout [Open], _ host: Host) {
    var remains: [Remains] = []
    var forgotten: [Plan.ContainerInterface] = []
    for device in devices {
      let queues = dataplane.detach(device.port)
      var link: Link?
      switch device.plan.place {
      case .existing:
        if let link = host.link(device.index) { host.setIPv6(true, on: link) }
      case .host(let name):
        link = host.links[name].flatMap { ownership.isOurs($0) ? $0 : nil }
        if let link { host.forget(link) }
      case .container(let interface): forgotten.append(interface)
      }
      remains.append(Remains(queues: queues, link: link, handle: device.handle))
    }
    // From here on only what is to be ended holds the devices, so that each is closed in its turn.
    devices = []
    end(consume remains)
    ownership.forget(forgotten)
  }

  /// Closes all devices, and leaves them in place.
  mutating func closeAll() {
    let leaving = open.values.map(\.port)
    open = [:]
    end(leaving.map { Remains(queues: dataplane.detach($0)) })
  }

  /// Has the kernel remove or close many devices at a time; with more than so many it gets no faster.
  private func end(_ remains: consuming [Remains]) {
    forEachConcurrently(remains, threads: 64) { $0.end() }
  }

  /// What is left to do when the switch has let go of a device; its queues are closed when this is let go of.
  private final class Remains: Sendable {
    private let queues: Queues?
    /// A device of the host, to be deleted.
    private let link: Link?
    private let handle: TAPHandle?

    init(
      queues: consuming Queues? = nil, link: Link? = nil, handle: TAPHandle? = nil
    ) {
      self.queues = queues
      self.link = link
      self.handle = handle
    }

    func end() {
      if let link {
        do throws(LinuxError) {
          var netlink = try Netlink()
          try netlink.delete(link)
        } catch {
          // It is gone already; or it goes when it is closed.
        }
      }
      // Wherever it has been moved to.
      handle?.giveUp()
    }
  }

  /// Removes what a former daemon has left in a container.
  private func remove(_ interface: Plan.ContainerInterface) {
    // A container that is not there has taken its devices with it.
    if let container = try? ContainerDevice(interface, ownership: ownership) { container.delete() }
    ownership.forget([interface])
  }
}

/// What a device is told to be.
struct DeviceSettings: Equatable {
  /// `nil` leaves what is.
  var mac: MACAddress?
  /// `nil` leaves what is.
  var mtu: Int?
  /// `nil` leaves what is.
  var gsoMaxSize: Int?
  /// `nil` leaves what is.
  var queueLength: Int?
  /// Of an internal one, or in a container; nobody else's are touched.
  var addresses: [OVXControl.InterfaceAddress] = []
  /// In a container only.
  var gateways: [IPAddress] = []

  /// What the device of a port is to be; an existing one is left as it is, but for what was asked for.
  init(_ plan: Plan.Device, _ limits: Plan.Limits) {
    mac = plan.mac
    mtu = plan.mtuRequest
    addresses = plan.addresses
    gateways = plan.gateways
    guard plan.isMade else { return }
    let mtu = plan.mtuRequest ?? limits.mtu(isTagged: plan.isTagged)
    self.mtu = mtu
    gsoMaxSize = limits.gsoMaxSize(mtu: mtu)
    queueLength = Sizes.queueLength
  }
}

extension Plan.Device {
  /// Whether the daemon makes the device, rather than somebody else.
  var isMade: Bool {
    if case .existing = place { false } else { true }
  }

  /// Whether the device of one plan can become that of another.
  ///
  /// A default route cannot be taken back.
  func isSameDevice(as other: Plan.Device) -> Bool {
    place == other.place && Set(gateways).isSubset(of: other.gateways)
  }
}

extension LinuxError {
  /// Whether a device is not there.
  var isMissingDevice: Bool {
    errno == .operationNotSupportedByDevice || errno == .noSuchAddressOrDevice
  }
}

extension Netlink {
  /// Makes a device what it is told to be.
  ///
  /// - Parameters:
  ///   - link: The device as it is.
  ///   - settings: What it is to be.
  ///   - alias: The alias to give it; `nil` leaves it.
  ///   - isNew: Whether to switch it on, too. An operator who switches it off later has a reason.
  /// - Throws: What the kernel refuses.
  mutating func configure(
    _ link: Link, _ settings: DeviceSettings, alias: String? = nil, isNew: Bool
  ) throws(LinuxError) {
    if let alias, link.alias != alias { try setAlias(alias, of: link) }
    if let mac = settings.mac, link.address != mac { try setAddress(mac, of: link) }
    if let mtu = settings.mtu, link.mtu != mtu { try setMTU(mtu, of: link) }
    if let size = settings.gsoMaxSize, link.gsoMaxSize != size {
      // It only costs speed where the kernel does not know it (before Linux 5.19 for TAPs).
      try? setGSOMaxSize(size, of: link)
    }
    if let length = settings.queueLength, isNew, link.queueLength != length {
      try setQueueLength(length, of: link)
    }
    if isNew, !link.isUp { try setUp(true, link) }
  }
}
