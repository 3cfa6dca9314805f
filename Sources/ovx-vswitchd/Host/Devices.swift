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

    /// The network namespace that it is in.
    func namespace() throws(LinuxError) -> NetworkNamespace { try tap.namespace() }
  }

  private struct Open {
    var desired: DesiredState.Device
    var port: PortID
    /// The device's number in its network namespace.
    var index: Int32
    /// Which of the devices with that number: see `KernelView`.
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
    /// The device's Ethernet address, as it was when it was opened or changed last.
    var address: MACAddress?
    /// For a veth of somebody else's: the MTU that it has from us.
    var adoption: Adoption?
    /// Whether it was to become what `settings` do not say, and may be that in part.
    var isUnfinished = false
    /// The switch cannot use it any more.
    var isLost = false
    /// What an operator should know of it, although it is in service.
    var remark: Fault?

    init(_ order: Order, index: Int32, capabilities: OffloadCapabilities) {
      desired = order.desired
      port = order.port
      settings = order.settings
      self.index = index
      self.capabilities = capabilities
    }
  }

  private let dataplane: Switch
  private let ownership: Ownership
  /// The database's: what the addresses of devices are derived from.
  private let identity: UInt64
  private var open: [String: Open] = [:]
  /// Addresses that devices have been given, and nobody knows yet, by their ports.
  private var news: [String: [Announcement]] = [:]
  private(set) var faults: [String: Fault] = [:]
  /// Ports whose devices the host's network stack had got back, until the switch took them from it again.
  private(set) var retaken: [String] = []
  /// Why the packets of ports in service may be larger than their segments take.
  private(set) var sizeFaults: [String: Fault] = [:]
  /// What was done to devices of others, and whoever has them should know.
  private var notes: [String] = []
  /// When the switch last lost a port's device, in milliseconds on the monotonic clock.
  private var lastLosses: [String: Int64] = [:]
  private let containers: Containers

  init(dataplane: Switch, ownership: Ownership, identity: UInt64, containers: Containers) {
    self.dataplane = dataplane
    self.containers = containers
    self.ownership = ownership
    self.identity = identity
  }

  /// Takes out what is to be announced of devices that were opened or changed.
  mutating func takeAnnouncements() -> [String: [Announcement]] {
    defer { news = [:] }
    return news
  }

  /// What the switch has to know of a port's device; `nil` while it is not open.
  func device(of name: String, kernel: KernelView) -> Topology.Device? {
    guard let device = open[name], faults[name] == nil else { return nil }
    let link = link(of: name, kernel: kernel)
    let mtu = link?.mtu ?? device.settings.mtu ?? MTU.defaultMTU
    var result = Topology.Device(mtu: mtu, capabilities: device.capabilities)
    if case .existing = device.desired.place, let link {
      result = link.device(kernel.features(of: link), device.capabilities, mtu: mtu)
    }
    result.address = link?.address
    result.isStation = device.desired.isMade
    return result
  }

  /// The kernel's description of a port's device; `nil` while it is not open, or where it is in a container.
  func link(of name: String, kernel: KernelView) -> Link? {
    guard let device = open[name] else { return nil }
    return link(device, kernel)
  }

  /// The kernel's description of the device of a port in a container; `nil` where it is not open, or gone.
  func linkInContainer(of name: String) -> Link? {
    guard let device = open[name], device.namespace != nil, let handle = device.handle,
      let namespace = try? handle.namespace()
    else { return nil }
    let link = try? namespace.perform { () throws(LinuxError) in
      var netlink = try Netlink()
      return try netlink.link(index: device.index)
    }
    return link ?? nil
  }

  private func link(_ device: Open, _ kernel: KernelView) -> Link? {
    guard device.namespace == nil else { return nil }
    if kernel.incarnation(device.index) == device.incarnation { return kernel.link(device.index) }
    // One of ours that has been away.
    return kernel.links[device.desired.place.name].flatMap { ownership.isOurs($0) ? $0 : nil }
  }

  /// The Ethernet address of a device that the daemon made; `nil` while it is not open.
  func address(of name: String) -> MACAddress? { open[name]?.address }

  /// What a port's device was told to be; `nil` while it is not open.
  func settings(of name: String) -> DeviceSettings? { open[name]?.settings }

  /// What operators should know of ports that are in service.
  var remarks: [String: Fault] { open.compactMapValues(\.remark) }

  /// The ports whose devices had to be taken from the host's network stack again since this was asked last.
  mutating func takeRetaken() -> [String] {
    defer { retaken = [] }
    return retaken.sorted()
  }

  /// The MTU that an existing device has from its owner, rather than from us; `nil` where that is the one it has.
  func ownMTU(of name: String) -> Int? { open[name]?.adoption?.ownMTU }

  /// What was done to devices of others since this was last called.
  mutating func takeNotes() -> [String] {
    defer { notes = [] }
    return notes
  }

  /// Notes that the switch cannot use the device of a port any more.
  ///
  /// Returns the port's name, and whether to open the device again at once: not where that has helped for a moment only.
  mutating func lose(_ port: PortID, _ error: Errno) -> (name: String, isToReopen: Bool)? {
    guard let name = open.first(where: { $0.value.port == port })?.key else { return nil }
    open[name]?.isLost = true
    let now = monotonicMilliseconds()
    let isToReopen = now - (lastLosses[name] ?? .min / 2) > 2000
    lastLosses[name] = now
    if !isToReopen { faults[name] = Fault("its device fails: \(error)", isTransient: true) }
    return (name, isToReopen)
  }

  // MARK: Opening

  /// A device to be open.
  struct Order {
    var desired: DesiredState.Device
    var port: PortID
    var settings: DeviceSettings
    /// Whether an operator asks for it at this moment, rather than circumstances.
    var isCommanded: Bool
  }

  /// Opens the device of a port where it is not open, and gives it the settings that it is to have.
  mutating func open(_ name: String, _ order: Order, kernel: KernelView) {
    let desired = order.desired
    if faults[name] == nil, open[name].map({ isInOrder($0, order, kernel) }) == true { return }
    do throws(LinuxError) {
      if let device = open[name], !isUsable(device, order, kernel) {
        open[name] = nil
        if device.isLost || !device.desired.isSameDevice(as: desired) {
          var leaving = [device]
          remove(&leaving, kernel)
        } else {
          dataplane.detach(device.port)
          // One that was renamed is not this port's any more.
          if case .existing = device.desired.place, let link = kernel.link(device.index),
            link.name != desired.place.name
          {
            kernel.release(link, from: ownership.filter)
          }
        }
      }
      if let device = open[name] {
        try examine(name, device, kernel)
        if device.settings != order.settings || device.isUnfinished {
          open[name]?.isUnfinished = true
          // Those that it may have got before what comes next failed.
          open[name]?.settings.addresses += order.settings.addresses
          let introduction = try change(device, to: order, kernel)
          if let introduction { introduce(name, introduction, desired.addresses) }
          let adoption = adopt(name, order, former: device.adoption, kernel)
          open[name]?.adoption = adoption
          open[name]?.isUnfinished = false
        }
      } else {
        let (device, introduction) = try make(order, kernel)
        open[name] = device
        if let introduction { introduce(name, introduction, desired.addresses) }
        let adoption = adopt(name, order, former: nil, kernel)
        open[name]?.adoption = adoption
      }
      open[name]?.desired = desired
      open[name]?.settings = order.settings
      faults[name] = outage(of: desired, kernel)
      sizeFaults[name] = sizeFault(of: name)
    } catch {
      faults[name] = fault(error, order)
    }
  }

  /// What a failure means for a port.
  private func fault(_ error: LinuxError, _ order: Order) -> Fault {
    guard case .container = order.desired.place else {
      return Fault(error, isTransient: error.isMissingDevice && !order.desired.isMade)
    }
    var error = error
    if !order.isCommanded, error.errno == .noSuchFileOrDirectory {
      error.remedy =
        "it is attached to again when it is back, and `ovx-ctl detach --stale` removes its port"
    }
    var fault = Fault(error, isTransient: error.isWithoutAnswer)
    fault.isOpen = error.errno == .nowInProgress
    return fault
  }

  /// Takes a device from the host's network stack again where somebody has given it back.
  private mutating func examine(
    _ name: String, _ device: Open, _ kernel: KernelView
  ) throws(LinuxError) {
    guard case .existing = device.desired.place, kernel.isDoubtful(device.index),
      let link = kernel.link(device.index)
    else { return }
    if try kernel.isolate(link, by: ownership.filter) { retaken.append(name) }
    open[name]?.remark = try kernel.remark(on: link)
  }

  /// Gives a veth of somebody else's the MTU that fits its segments; see `Adoption`.
  ///
  /// What cannot be done stays as it is: the data plane answers packets that are too large.
  private mutating func adopt(
    _ name: String, _ order: Order, former: Adoption?, _ kernel: KernelView
  ) -> Adoption? {
    guard case .existing = order.desired.place, order.desired.mtuRequest == nil,
      let link = link(of: name, kernel: kernel)
    else { return nil }
    let bound = order.settings.bound
    do throws(LinuxError) {
      let adoption = try kernel.fit(link, to: bound, former: former)
      if let adoption, adoption != former, let bound {
        notes.append(
          "port \(name): both ends of the veth have an MTU of \(adoption.givenMTU) now instead of "
            + "\(adoption.ownMTU), as \(bound.owner) takes packets of up to \(bound.mtu) bytes")
      }
      if adoption != nil || bound.map({ link.mtu <= $0.mtu }) ?? true { return adoption }
    } catch {
      // Told of below.
    }
    if let bound, link.mtu > bound.mtu {
      notes.append(
        "port \(name) has an MTU of \(link.mtu), and \(bound.owner) takes packets of up to \(bound.mtu) bytes; "
          + "larger ones are answered with ICMP, and lost where they are not IP: give \(bound.mtu) to "
          + (link.kind == "veth" ? "both ends of the veth" : "whatever is connected to it"))
    }
    return former
  }

  /// Why packets of a port may be too large for its segments although it is in service.
  private func sizeFault(of name: String) -> Fault? {
    guard let device = open[name] else { return nil }
    return Self.sizeFault(
      mtu: device.adoption?.givenMTU ?? device.settings.mtu,
      isAsked: device.desired.mtuRequest != nil, bound: device.settings.bound)
  }

  /// Whether an open device is in every respect what it is to be.
  private func isInOrder(_ device: Open, _ order: Order, _ kernel: KernelView) -> Bool {
    device.settings == order.settings && !device.isUnfinished && device.desired == order.desired
      && !(kernel.isDoubtful(device.index) && !device.desired.isMade)
      && isUsable(device, order, kernel) && outage(of: order.desired, kernel) == nil
  }

  /// Why nothing passes a device although it is open.
  ///
  /// Of those that the daemon makes, whoever uses them may have reasons.
  private func outage(of desired: DesiredState.Device, _ kernel: KernelView) -> Fault? {
    guard case .existing(let name) = desired.place, let link = kernel.links[name], !link.isUp
    else { return nil }
    return Fault("its device is down; `ip link set \(name) up` sets it up", isTransient: true)
  }

  /// Whether an open device is the one that is wanted, and still there.
  private func isUsable(_ device: Open, _ order: Order, _ kernel: KernelView) -> Bool {
    guard device.desired.isSameDevice(as: order.desired), device.port == order.port, !device.isLost
    else { return false }
    let isInPlace =
      device.namespace == nil && kernel.links[order.desired.place.name]?.index == device.index
      && kernel.incarnation(device.index) == device.incarnation
    // One that was made and has been moved or renamed since is what its user wants it to be.
    return isInPlace || device.namespace != nil || device.handle?.isAlive == true
  }

  private mutating func introduce(
    _ name: String, _ introduction: Introduction, _ addresses: [OVXControl.InterfaceAddress]
  ) {
    open[name]?.address = introduction.address
    news[name] = introduction.announcements(of: addresses)
  }

  private func make(
    _ order: Order, _ kernel: KernelView
  ) throws(LinuxError) -> (Open, Introduction?) {
    switch order.desired.place {
    case .existing(let name): (try take(name, order, kernel), nil)
    case .host(let name): try makeTAP(name, order, kernel)
    case .container(let interface): try makeTAP(interface, order, kernel)
    }
  }

  /// What a device is to be while it is made: with an address of its own where nobody has given it one.
  private func settings(ofNew order: Order) -> DeviceSettings {
    var settings = order.settings
    settings.mac = settings.mac ?? order.desired.place.stableAddress(identity)
    return settings
  }

  /// Takes an existing device of the host.
  private func take(_ name: String, _ order: Order, _ kernel: KernelView) throws(LinuxError) -> Open
  {
    // What was announced may be the first half of a change, such as the new name of a device that is being set down.
    try kernel.refresh(kernel.deviceForPort(name))
    let link = try kernel.deviceForPort(name)
    try kernel.checkAddresses(of: link, ownership.filter)
    // Before all else: from here on no frame of the port reaches the host's network stack.
    _ = try kernel.isolate(link, by: ownership.filter)
    // Several sockets can share what a device brings only if it is up.
    try kernel.configure(link, order.settings, isNew: true)
    let socket = try PacketSocket.open(interface: name, queues: dataplane.queueCount)
    let capabilities = socket.capabilities
    try dataplane.attach(socket, as: order.port)
    var result = Open(order, index: link.index, capabilities: capabilities)
    result.incarnation = kernel.incarnation(link.index)
    result.remark = try kernel.remark(on: link)
    return result
  }

  /// Makes a TAP in the daemon's own namespace, or finds it there.
  private func makeTAP(
    _ name: String, _ order: Order, _ kernel: KernelView
  ) throws(LinuxError) -> (Open, Introduction?) {
    let former = kernel.links[name]
    if let former { try ownership.check(former) }
    let tap = try TAP.open(name: name, queues: dataplane.queueCount)
    let link = try kernel.link(ofNew: name)
    // Before it is up. Later it is for an operator to say, by the setting or by the kernel's own.
    if link.alias != ownership.mark || order.settings.acceptsRouterAdvertisements {
      ProcSettings.acceptRouterAdvertisements(
        order.settings.acceptsRouterAdvertisements, on: name)
    }
    let settings = former == nil ? settings(ofNew: order) : order.settings
    try kernel.configure(link, settings, alias: ownership.mark, isNew: true)
    if order.desired.isInternal { try kernel.address(link, with: order.settings.addresses) }
    try tap.setPersistent(true)
    var result = Open(order, index: link.index, capabilities: tap.capabilities)
    result.incarnation = kernel.incarnation(link.index)
    result.handle = try TAPHandle(tap)
    try dataplane.attach(tap, as: order.port)
    return (result, introduction(kernel, link))
  }

  /// What others are to know of a device of the host.
  private func introduction(_ kernel: KernelView, _ link: Link) -> Introduction {
    Introduction(
      address: kernel.link(link.index)?.address, isRouter: ProcSettings.forwardsIPv6(on: link.name))
  }

  /// Makes a TAP in a container, or finds it there.
  private func makeTAP(
    _ interface: DesiredState.ContainerInterface, _ order: Order, _ kernel: KernelView
  ) throws(LinuxError) -> (Open, Introduction?) {
    let container = try ContainerDevice(
      interface, order.desired.container, ownership: ownership, containers: containers)
    ownership.note(interface)
    let device = try container.open(
      settings: order.settings, ifNew: settings(ofNew: order), queues: dataplane.queueCount,
      isCommanded: order.isCommanded, kernel: kernel)
    var result = Open(order, index: device.index, capabilities: device.tap.capabilities)
    result.namespace = container.namespace.identity
    result.holdsNamespace = device.wasThere
    result.handle = try TAPHandle(device.tap)
    let introduction = device.introduction
    try dataplane.attach(device.take(), as: order.port)
    return (result, introduction)
  }

  /// Returns what others are to know, where that has changed.
  private func change(
    _ device: Open, to order: Order, _ kernel: KernelView
  ) throws(LinuxError) -> Introduction? {
    var settings = order.settings
    // An address that is taken back leaves the one that the device would have without.
    if device.settings.mac != nil { settings = self.settings(ofNew: order) }
    let isNews =
      device.settings.mac != settings.mac || device.settings.addresses != settings.addresses
    if case .container(let interface) = device.desired.place {
      guard let handle = device.handle else { return nil }
      let container = ContainerDevice(
        interface, in: try handle.namespace(), ownership: ownership)
      let introduction = try container.change(device.settings, to: settings)
      return isNews ? introduction : nil
    } else if let link = link(device, kernel) {
      try kernel.configure(link, settings, isNew: false)
      if device.settings.acceptsRouterAdvertisements != settings.acceptsRouterAdvertisements {
        ProcSettings.acceptRouterAdvertisements(
          settings.acceptsRouterAdvertisements, on: link.name)
      }
      // Those of a port that is not internal any more go, too. With an MTU that is too small for IPv6 the kernel has taken
      // addresses away that are to be there again.
      let mayMiss = device.isUnfinished || device.settings.mtu != settings.mtu
      if device.settings.addresses != settings.addresses
        || (mayMiss && !settings.addresses.isEmpty)
      {
        try kernel.address(link, with: settings.addresses)
      }
      return isNews && device.desired.isMade ? introduction(kernel, link) : nil
    }
    return nil
  }

  // MARK: Closing

  /// Whether a device is open in a container.
  var areInContainers: Bool { open.values.contains { $0.namespace != nil } }

  /// Marks devices as lost whose container is gone, or has another namespace than the one that the device is in: a
  /// process that is left behind, or our own device, may keep the former one.
  ///
  /// - Returns: Their ports.
  mutating func checkContainers() -> Set<String> {
    var lost: Set<String> = []
    for (name, device) in open where !device.isLost {
      guard case .container(let interface) = device.desired.place else { continue }
      let target = Containers.Target(name: interface.target, container: device.desired.container)
      guard let identity = containers.identity(of: target), identity != device.namespace else {
        continue
      }
      // A process is only a way to its namespace, in which others may live on.
      if interface.isProcess, !device.holdsNamespace { continue }
      open[name]?.isLost = true
      lost.insert(name)
    }
    return lost
  }

  /// Whether the device of a port is open and usable, as far as is known.
  func isOpen(_ name: String) -> Bool { open[name].map { !$0.isLost } ?? false }

  /// Closes the devices of those of some ports that are not desired any more, and removes those that the daemon made.
  ///
  /// The data plane has a topology that refers to none of them.
  mutating func close(_ names: Set<String>, exceptFor desired: DesiredState, kernel: KernelView) {
    var leaving: [Open] = []
    for name in names where desired.devices[name] == nil {
      faults[name] = nil
      sizeFaults[name] = nil
      lastLosses[name] = nil
      if let device = open.removeValue(forKey: name) {
        leaving.append(device)
      } else if let link = kernel.links[name] {
        // A port that waited may have its device already.
        kernel.release(link, from: ownership.filter)
      }
    }
    remove(&leaving, kernel)
  }

  /// Removes everything that the daemon has made, whether it is open or not.
  mutating func removeAll(kernel: KernelView) {
    close(Set(open.filter(\.value.desired.isMade).keys), exceptFor: DesiredState(), kernel: kernel)
    removeOrphans(exceptFor: DesiredState(), kernel: kernel)
  }

  /// Removes what the daemon has made and is not desired, and gives back to the host what it has taken: left behind by a
  /// crash between two steps, or of a port that was removed while no daemon ran.
  func removeOrphans(exceptFor desired: DesiredState, kernel: KernelView) {
    let orphans = findOrphans(exceptFor: desired, kernel: kernel)
    for link in orphans.taken { kernel.release(link, from: ownership.filter) }
    for link in orphans.links { kernel.forget(link) }
    end(orphans.links.map { Remains(link: $0) })
    for interface in orphans.interfaces { remove(interface) }
  }

  /// The names of what `removeOrphans` would remove or give back.
  func orphans(exceptFor desired: DesiredState, kernel: KernelView) -> [String] {
    let orphans = findOrphans(exceptFor: desired, kernel: kernel)
    return (orphans.links + orphans.taken).map(\.name).sorted()
      + orphans.interfaces.map { "\($0.name) in \($0.target)" }.sorted()
  }

  private func findOrphans(
    exceptFor desired: DesiredState, kernel: KernelView
  ) -> (links: [Link], taken: [Link], interfaces: [DesiredState.ContainerInterface]) {
    let wanted = Set(desired.devices.values.map(\.place))
    let links = kernel.links.values.filter {
      ownership.isOurs($0) && !wanted.contains(.host(name: $0.name))
    }
    let taken = kernel.isolatedLinks(by: ownership.filter).filter {
      !wanted.contains(.existing(name: $0.name))
    }
    return (links, taken, ownership.noted.filter { !wanted.contains(.container($0)) })
  }

  /// Detaches devices, and removes those that the daemon made; leaves those that it only used as they were.
  ///
  /// Frames of other ports do not wait for it. The kernel waits for itself with every device, so many of them are removed at
  /// the same time.
  private func remove(_ devices: inout [Open], _ kernel: KernelView) {
    var remains: [Remains] = []
    var forgotten: [DesiredState.ContainerInterface] = []
    for device in devices {
      let queues = dataplane.detach(device.port)
      var link: Link?
      switch device.desired.place {
      case .existing:
        if let link = kernel.link(device.index) {
          kernel.release(link, from: ownership.filter)
          if let adoption = device.adoption { _ = try? kernel.fit(link, to: nil, former: adoption) }
        }
      case .host(let name):
        link = kernel.links[name].flatMap { ownership.isOurs($0) ? $0 : nil }
        if let link { kernel.forget(link) }
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
  private func remove(_ interface: DesiredState.ContainerInterface) {
    // A container that is not there has taken its devices with it.
    do throws(LinuxError) {
      try ContainerDevice(interface, nil, ownership: ownership, containers: containers).delete()
    } catch {
      // Where nobody says, the next daemon finds it noted.
      if error.isWithoutAnswer || error.errno == .resourceTemporarilyUnavailable { return }
    }
    ownership.forget([interface])
  }
}

/// What others are to know of a device that the daemon made.
struct Introduction {
  var address: MACAddress?
  /// Whether its user passes IPv6 packets on.
  var isRouter: Bool

  /// The announcements of some addresses of the device.
  func announcements(of addresses: [OVXControl.InterfaceAddress]) -> [Announcement] {
    guard let address else { return [] }
    return addresses.map {
      Announcement(ip: $0.address, address: address, isRouter: isRouter && $0.address.isIPv6)
    }
  }
}

/// What a device is told to be.
struct DeviceSettings: Equatable {
  /// `nil` leaves what is.
  var mac: MACAddress?
  /// `nil` leaves what is.
  var mtu: Int?
  /// The largest packet that the segments of the port take; `nil` where nothing limits them, or less than `mtu` says.
  var bound: SizeBound?
  /// `nil` leaves what is.
  var gsoMaxSize: Int?
  /// `nil` leaves what is.
  var queueLength: Int?
  /// Of an internal one, or in a container; nobody else's are touched.
  var addresses: [OVXControl.InterfaceAddress] = []
  /// In a container only.
  var gateways: [IPAddress] = []
  /// Of an internal one: whether it takes addresses and routes from routers.
  var acceptsRouterAdvertisements = false

  /// What the device of a port is to be; an existing one is left as it is, but for what was asked for and what fits.
  init(_ desired: DesiredState.Device, _ limits: DesiredState.Limits) {
    mac = desired.mac
    mtu = desired.mtuRequest
    addresses = desired.addresses
    gateways = desired.gateways
    acceptsRouterAdvertisements = desired.acceptsRouterAdvertisements
    bound = limits.tunnel
    guard desired.isMade else { return }
    var (mtu, bound) = limits.mtu
    if mtu < MTU.ipv6MinimumMTU, desired.mtuRequest == nil, desired.hasIPv6 {
      mtu = MTU.ipv6MinimumMTU
    }
    mtu = desired.mtuRequest ?? mtu
    self.mtu = mtu
    self.bound = desired.mtuRequest == nil ? bound : limits.tunnel
    gsoMaxSize = limits.gsoMaxSize(mtu: mtu)
    queueLength = MTU.queueLength
  }
}

extension DesiredState.Device {
  /// Whether the daemon makes the device, rather than somebody else.
  var isMade: Bool {
    if case .existing = place { false } else { true }
  }

  /// Whether one desired device can become another.
  ///
  /// A default route cannot be taken back.
  func isSameDevice(as other: DesiredState.Device) -> Bool {
    place == other.place && Set(gateways).isSubset(of: other.gateways)
      && (container == other.container || container == nil)
  }

  /// For a device in a container: which container.
  var target: Containers.Target? {
    guard case .container(let interface) = place else { return nil }
    return Containers.Target(name: interface.target, container: container)
  }
}

extension DesiredState.Device {
  /// Whether the device has IPv6, or will have it.
  ///
  /// A container that has to be asked for is taken to have it.
  fileprivate var hasIPv6: Bool {
    switch place {
    case .existing(let name), .host(let name): ProcSettings.hasIPv6(on: name)
    case .container(let interface):
      interface.namespaceHere.map { ProcSettings.hasIPv6(on: interface.name, in: $0) } ?? true
    }
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
