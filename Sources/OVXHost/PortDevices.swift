internal import OVXControl
internal import OVXDatapath
internal import OVXLinux
internal import SystemPackage

/// The network devices of ports: those that exist and those that the daemon makes.
///
/// A device that the daemon makes is a persistent TAP, so it outlives the daemon with all that the
/// host or a container has given it, and the daemon finds it again when it starts. It is told from
/// other people's devices by its alias (`DeviceOwnership`), and it is persistent only once it has
/// that: a crash leaves either nothing behind or something that is recognised.
///
/// As with `Underlay`, what is no longer wanted stays until `close`.
struct PortDevices {
  let kernel: any HostKernel
  private let dataplane: any DataPlaneCommands
  let ownership: DeviceOwnership
  private let opening: DeviceOpening
  private var open: [String: OpenDevice] = [:]
  /// Addresses that devices have been given, and nobody knows yet, by their ports.
  private var news: [String: [Announcement]] = [:]
  private(set) var faults: [String: Fault] = [:]
  /// Where the devices are to be of ports that have none open, because that was refused.
  private var missing: [String: DesiredState.Place] = [:]
  /// Ports whose devices the host's network stack had got back, until the switch took them from it
  /// again.
  private(set) var retaken: [String] = []
  /// Why the packets of ports in service may be larger than their segments take.
  private(set) var sizeFaults: [String: Fault] = [:]
  /// What was done to devices of others, and whoever has them should know.
  private var notes: [String] = []
  /// The last time that the switch lost a port's device.
  private var losses: [String: Loss] = [:]
  private let containers: Containers

  init(
    kernel: any HostKernel, dataplane: any DataPlaneCommands, ownership: DeviceOwnership,
    identity: UInt64,
    containers: Containers
  ) {
    self.kernel = kernel
    self.dataplane = dataplane
    self.containers = containers
    self.ownership = ownership
    opening = DeviceOpening(
      kernel: kernel, dataplane: dataplane, ownership: ownership, identity: identity)
  }

  /// Takes out what is to be announced of devices that were opened or changed.
  mutating func takeAnnouncements() -> [String: [Announcement]] {
    defer { news = [:] }
    return news
  }

  /// What the switch has to know of a port's device; `nil` while it is not open.
  func device(of name: String) -> Topology.Device? {
    guard let device = open[name], faults[name] == nil else { return nil }
    let link = link(of: name)
    // What a container's end takes, as far as that is our doing.
    let own = device.namespace == nil ? link?.mtu : nil
    let mtu = own ?? device.settings.mtu ?? MTU.defaultMTU
    var result = Topology.Device(mtu: mtu, capabilities: device.capabilities)
    if device.desired.place.hasPacketSocket, let link {
      result = link.device(kernel.features(of: link), device.capabilities, mtu: mtu)
    }
    // A container's may be another one by now.
    result.address = device.namespace == nil ? link?.address : nil
    result.isStation = device.desired.isMade
    return result
  }

  /// The kernel's description of a port's device, of a veth to a container of the host's end; `nil`
  /// while it is not open, or where all of it is in a container.
  func link(of name: String) -> Link? {
    guard let device = open[name] else { return nil }
    return device.link(in: kernel, ownership)
  }

  /// Looks at the device of a port in a container.
  ///
  /// - Parameters:
  ///   - name: The port's.
  ///   - body: Gets a connection to the kernel of the container's namespace, and the device's
  ///     number there.
  /// - Returns: What it says, and the namespace; `nil` where the device is not open, or gone.
  func lookInContainer<Value>(
    of name: String, _ body: (inout Netlink, Int32) throws(LinuxError) -> Value?
  ) -> (value: Value, namespace: NetworkNamespace)? {
    guard let device = open[name], let index = device.indexInside,
      let namespace = (try? device.containerNamespace()) ?? nil
    else { return nil }
    guard var netlink = try? Netlink(in: namespace), let value = try? body(&netlink, index) else {
      return nil
    }
    return (value, namespace)
  }

  /// The Ethernet address that a device was given, whatever a container has made of it since; `nil`
  /// while it is not open, and for one that the host has only lent.
  func station(of name: String) -> MACAddress? {
    guard let device = open[name], device.desired.isMade else { return nil }
    if device.namespace == nil { return link(of: name)?.address }
    return device.settings.mac ?? device.desired.place.stableAddress(opening.identity)
  }

  /// The Ethernet address of a device that the daemon made; `nil` while it is not open.
  func address(of name: String) -> MACAddress? { open[name]?.address }

  /// What a port's device was told to be; `nil` while it is not open.
  func settings(of name: String) -> DeviceSettings? { open[name]?.settings }

  /// What operators should know of ports that are in service.
  var remarks: [String: Fault] { open.compactMapValues(\.remark) }

  /// The ports whose devices had to be taken from the host's network stack again since this was
  /// asked last.
  mutating func takeRetaken() -> [String] {
    defer { retaken = [] }
    return retaken.sorted()
  }

  /// The MTU that an existing device has from its owner, rather than from us; `nil` where that is
  /// the one it has.
  func ownMTU(of name: String) -> Int? { open[name]?.adoption?.ownMTU }

  /// What was done to devices of others since this was last called.
  mutating func takeNotes() -> [String] {
    defer { notes = [] }
    return notes
  }

  /// Notes that the switch cannot use the device of a port any more.
  ///
  /// Returns the port's name, and whether to open the device again at once: not where that has
  /// helped for a moment only.
  mutating func lose(_ port: PortID, _ error: Errno) -> (name: String, isToReopen: Bool)? {
    guard let name = open.first(where: { $0.value.port == port })?.key else { return nil }
    open[name]?.isLost = true
    noteLoss(of: name)
    let isRepeated = losses[name]?.isRepeated == true
    if isRepeated { faults[name] = Fault("its device fails: \(error)", isTransient: true) }
    return (name, !isRepeated)
  }

  private struct Loss {
    /// In milliseconds on the monotonic clock.
    var time: Int64
    /// Whether opening the device again had helped for a moment only.
    var isRepeated: Bool
    static let interval: Int64 = 2000
  }

  private mutating func noteLoss(of name: String) {
    let now = monotonicMilliseconds()
    let isRepeated = losses[name].map { now - $0.time <= Loss.interval } ?? false
    losses[name] = Loss(time: now, isRepeated: isRepeated)
  }

  /// Why a container's veth that is gone is not made anew at once: whoever deletes it as fast as it
  /// is made would keep the switch busy with nothing else.
  private mutating func hesitation(_ name: String, _ device: OpenDevice) -> Fault? {
    guard device.desired.place.interface?.isVeth == true,
      device.link(in: kernel, ownership) == nil
    else { return nil }
    if !device.isLost { noteLoss(of: name) }
    guard let loss = losses[name], loss.isRepeated,
      monotonicMilliseconds() - loss.time <= Loss.interval
    else { return nil }
    return Fault("the container deletes its interface again and again", isTransient: true)
  }

  // MARK: Opening

  /// Opens the device of a port where it is not open, and gives it the settings that it is to have.
  mutating func open(_ name: String, _ order: DeviceOrder) {
    let desired = order.desired
    if faults[name] == nil, let device = open[name], isInOrder(device, order) {
      if let unadopted = device.unadopted, device.adoptionTries > 0, link(of: name) != unadopted {
        open[name]?.adoptionTries -= 1
        adopt(name, order, former: device.adoption)
      }
      return
    }
    do throws(LinuxError) {
      if let device = open[name], !isUsable(device, order) {
        let hesitation = order.isCommanded ? nil : hesitation(name, device)
        open[name] = nil
        if device.isLost || !device.desired.isSameDevice(as: desired) {
          var leaving = [device]
          remove(&leaving)
        } else {
          dataplane.detach(device.port)
          // One that was renamed is not this port's any more.
          if case .existing = device.desired.place, let link = kernel.link(device.index),
            link.name != desired.place.name
          {
            kernel.release(link, from: ownership.filter)
          }
        }
        if let hesitation {
          missing[name] = desired.place
          faults[name] = hesitation
          return
        }
      }
      if let device = open[name] {
        try examine(name, device)
        if device.settings != order.settings || device.isUnfinished {
          open[name]?.isUnfinished = true
          // Those that it may have got before what comes next failed.
          open[name]?.settings.addresses += order.settings.addresses
          open[name]?.settings.routes += order.settings.routes
          let introduction = try opening.change(device, to: order)
          if let introduction { introduce(name, introduction, desired.addresses) }
          open[name]?.unadopted = nil
          open[name]?.adoptionTries = OpenDevice.adoptionTryLimit
          adopt(name, order, former: device.adoption)
          open[name]?.isUnfinished = false
        }
      } else {
        let (device, introduction) = try opening.open(order)
        open[name] = device
        if let omission = device.omission {
          notes.append("port \(name): \(omission); it is in service all the same")
        }
        if let introduction { introduce(name, introduction, desired.addresses) }
        adopt(name, order, former: link(of: name).flatMap(ownership.adopted.adoption))
      }
      open[name]?.desired = desired
      open[name]?.settings = order.settings
      missing[name] = nil
      faults[name] = outage(of: desired)
      sizeFaults[name] = sizeFault(of: name)
    } catch {
      if open[name] == nil { missing[name] = desired.place }
      faults[name] = fault(error, order)
    }
  }

  /// What a failure means for a port.
  private func fault(_ error: LinuxError, _ order: DeviceOrder) -> Fault {
    guard order.desired.place.interface != nil else {
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
    _ name: String, _ device: OpenDevice
  ) throws(LinuxError) {
    guard device.desired.place.hasPacketSocket, kernel.isDoubtful(device.index),
      let link = kernel.link(device.index)
    else { return }
    do throws(LinuxError) {
      let incarnation = kernel.incarnation(device.index)
      // One that has left for another network namespace and come back has lost its filter on the
      // way, by nobody's doing; the kernel announces its leaving after that.
      if try kernel.isolate(link, by: ownership.filter),
        try kernel.isStill(device.index, incarnation)
      {
        retaken.append(name)
      }
    } catch  where error.isMissingDevice && device.desired.isMade {
      // It goes with its container, which is told of next.
      return
    }
    guard !device.desired.isMade else { return }
    // What set the host up as it was before, such as ifup(8), has given it again what it has
    // elsewhere.
    try kernel.displace(device.settings.displaced, from: link)
    open[name]?.remark = try kernel.remark(on: link)
  }

  /// Asks the kernel whether a port's device is another one than it has announced.
  func isChanged(_ name: String) -> Bool {
    guard let known = link(of: name) else { return false }
    // It is announced where it is gone.
    guard (try? kernel.refresh(known)) != nil else { return false }
    return kernel.link(known.index) != known
  }

  /// Gives a veth of somebody else's the MTU that fits its segments; see `Adoption`.
  ///
  /// What cannot be done stays as it is, until the device changes: the data plane answers packets
  /// that are too large.
  private mutating func adopt(_ name: String, _ order: DeviceOrder, former: Adoption?) {
    guard case .existing = order.desired.place, order.desired.mtuRequest == nil,
      let link = link(of: name)
    else {
      open[name]?.adoption = nil
      open[name]?.unadopted = nil
      ownership.adopted.forget([name])
      return
    }
    let bound = order.settings.bound
    do throws(LinuxError) {
      let adopted = ownership.adopted
      let adoption = try kernel.fit(
        link, to: bound, former: former, noting: { adopted.note($0, of: link) })
      open[name]?.adoption = adoption
      if adoption == nil { adopted.forget([name]) }
      if let adoption, adoption != former, let bound {
        notes.append(
          "port \(name): both ends of the veth have an MTU of \(adoption.givenMTU) now instead of "
            + "\(adoption.ownMTU), as \(bound.owner) takes packets of up to \(bound.mtu) bytes")
      }
      if adoption != nil || bound.map({ link.mtu <= $0.mtu }) ?? true {
        open[name]?.unadopted = nil
        return
      }
    } catch {
      // Told of below.
    }
    // Something of it may have been done.
    open[name]?.adoption = ownership.adopted.adoption(of: link) ?? former
    guard let bound, link.mtu > bound.mtu else { return }
    if open[name]?.unadopted == nil {
      notes.append(
        "port \(name) has an MTU of \(link.mtu), and \(bound.owner) takes packets of up to \(bound.mtu) bytes; "
          + "larger ones are answered with ICMP, and lost where they are not IP: give \(bound.mtu) to "
          + (link.kind == "veth" ? "both ends of the veth" : "whatever is connected to it"))
    }
    let now = self.link(of: name)
    open[name]?.unadopted = now
  }

  /// Why packets of a port may be too large for its segments although it is in service.
  private func sizeFault(of name: String) -> Fault? {
    guard let device = open[name] else { return nil }
    return Self.sizeFault(
      mtu: device.adoption?.givenMTU ?? device.settings.mtu,
      isAsked: device.desired.mtuRequest != nil, bound: device.settings.bound)
  }

  /// Whether an open device is in every respect what it is to be.
  private func isInOrder(_ device: OpenDevice, _ order: DeviceOrder) -> Bool {
    device.settings == order.settings && !device.isUnfinished && device.desired == order.desired
      && !(device.desired.place.hasPacketSocket && kernel.isDoubtful(device.index))
      && isUsable(device, order) && outage(of: order.desired) == nil
  }

  /// Why nothing passes a device although it is open.
  ///
  /// Of those that the daemon makes, whoever uses them may have reasons.
  private func outage(of desired: DesiredState.Device) -> Fault? {
    guard case .existing(let name) = desired.place, let link = kernel.links[name], !link.isUp
    else { return nil }
    return Fault("its device is down; `ip link set \(name) up` sets it up", isTransient: true)
  }

  /// Whether an open device is the one that is wanted, and still there.
  private func isUsable(_ device: OpenDevice, _ order: DeviceOrder) -> Bool {
    guard device.desired.isSameDevice(as: order.desired), device.port == order.port, !device.isLost
    else { return false }
    if device.desired.place.interface?.isVeth == true {
      return device.link(in: kernel, ownership) != nil
    }
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

  // MARK: Closing

  /// Whether a device is open in a container.
  var areInContainers: Bool { open.values.contains { $0.namespace != nil } }

  /// Marks devices as lost whose container is gone, or has another namespace than the one that the
  /// device is in: a process that is left behind, or our own device, may keep the former one.
  ///
  /// - Returns: Their ports.
  mutating func checkContainers() -> Set<String> {
    var lost: Set<String> = []
    for (name, device) in open where !device.isLost {
      guard let interface = device.desired.place.interface else { continue }
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

  /// Whether a container is known to have another namespace than its device is in; see
  /// `checkContainers`.
  var areContainersRestarted: Bool {
    open.values.contains { device in
      guard !device.isLost, let interface = device.desired.place.interface else { return false }
      let target = Containers.Target(name: interface.target, container: device.desired.container)
      guard case .some(.some(let identity)) = containers.identity(of: target) else { return false }
      return identity != device.namespace && (!interface.isProcess || device.holdsNamespace)
    }
  }

  /// Whether the device of a port is open and usable, as far as is known.
  func isOpen(_ name: String) -> Bool { open[name].map { !$0.isLost } ?? false }

  /// What the open devices are, by the numbers of their ports, for a daemon that is to have them as
  /// they are.
  var handed: [PortID: HandedDescriptor] {
    var handed: [PortID: HandedDescriptor] = [:]
    for device in open.values where !device.isLost {
      switch device.desired.place {
      case .existing(let name): handed[device.port] = .device(name: name, isAway: false)
      case .host(let name):
        let isInPlace =
          kernel.links[name]?.index == device.index
          && kernel.incarnation(device.index) == device.incarnation
        handed[device.port] = .device(name: name, isAway: !isInPlace)
      case .container(let interface):
        handed[device.port] =
          interface.isVeth
          ? .device(name: interface.hostEnd, isAway: false)
          : .container(
            target: interface.target, name: interface.name, holdsNamespace: device.holdsNamespace)
      }
    }
    return handed
  }

  /// Closes the devices of those of some ports that are not desired any more, and removes those
  /// that the daemon made.
  ///
  /// The data plane has a topology that refers to none of them.
  mutating func close(_ names: Set<String>, exceptFor desired: DesiredState) {
    var leaving: [OpenDevice] = []
    for name in names where desired.devices[name] == nil {
      faults[name] = nil
      sizeFaults[name] = nil
      losses[name] = nil
      if let device = open.removeValue(forKey: name) {
        leaving.append(device)
      } else if let place = missing[name] {
        // A port that waited may have its device already.
        abandon(place)
      }
      missing[name] = nil
    }
    remove(&leaving)
  }

  /// Gives a device back to the host that could not be opened, or removes it where it is ours.
  private func abandon(_ place: DesiredState.Place) {
    switch place {
    case .existing(let name):
      if let link = kernel.links[name] { kernel.release(link, from: ownership.filter) }
    case .host(let name):
      guard let link = kernel.links[name], ownership.isOurs(link) else { return }
      kernel.forget(link)
      kernel.end([DeviceRemains(link: link)])
    case .container:
      // By another name of its container it may be in use, by another port. What was made for this
      // one has gone already.
      break
    }
  }

  /// Removes everything that the daemon has made, whether it is open or not.
  mutating func removeAll() {
    close(Set(open.filter(\.value.desired.isMade).keys), exceptFor: DesiredState())
    removeOrphans(exceptFor: DesiredState())
    for device in open.values {
      guard case .existing = device.desired.place, let link = kernel.link(device.index) else {
        continue
      }
      restore(device.settings.displaced, to: link)
    }
  }

  /// What others are to know once the host has the addresses of a NIC on that again, and the bridge
  /// by whose own device they have known it so far; `nil` where it has none elsewhere.
  func farewell(of name: String) -> (bridge: String, announcements: [Announcement])? {
    guard let device = open[name], !device.settings.displaced.addresses.isEmpty else { return nil }
    let introduction = Introduction(
      address: link(of: name)?.address, isRouter: kernel.forwardsIPv6(on: name))
    return (
      device.desired.bridge, introduction.announcements(of: device.settings.displaced.addresses)
    )
  }

  /// Gives a device of the host that is no port what it had on it.
  mutating func restore(_ place: HostPlace, to name: String) {
    if let link = kernel.links[name] { restore(place, to: link) }
  }

  /// Gives a NIC what the host had on it.
  private mutating func restore(_ place: HostPlace, to link: Link) {
    guard !place.isEmpty else { return }
    do { try kernel.restore(place, to: link) } catch {
      notes.append("port \(link.name): what the host had on it is not there again: \(error)")
    }
  }

  /// Detaches devices, and removes those that the daemon made; leaves those that it only used as
  /// they were.
  ///
  /// Frames of other ports do not wait for it. The kernel waits for itself with every device, so
  /// many of them are removed at the same time.
  private mutating func remove(_ devices: inout [OpenDevice]) {
    var remains: [DeviceRemains] = []
    var forgotten: [DesiredState.ContainerInterface] = []
    var returned: [(Link, HostPlace)] = []
    var fitted: [String] = []
    for device in devices {
      let queues = dataplane.detach(device.port)
      var link: Link?
      switch device.desired.place {
      case .existing:
        if let link = kernel.link(device.index) {
          kernel.release(link, from: ownership.filter)
          returned.append((link, device.settings.displaced))
          if let adoption = device.adoption {
            giveBackMTU(of: link, adoption)
            fitted.append(link.name)
          }
        }
      case .host, .container:
        link = device.link(in: kernel, ownership).flatMap { ownership.isOurs($0) ? $0 : nil }
        if let link { kernel.forget(link) }
      }
      if let interface = device.desired.place.interface { forgotten.append(interface) }
      remains.append(DeviceRemains(queues: queues, link: link, handle: device.handle))
    }
    // From here on only what is to be ended holds the devices, so that each is closed in its turn.
    devices = []
    kernel.end(consume remains)
    ownership.forget(forgotten)
    ownership.adopted.forget(fitted)
    // The bridge's own device has lost it, or is gone.
    for (link, place) in returned { restore(place, to: link) }
  }

  /// Closes all devices, and leaves them in place.
  mutating func closeAll() {
    let leaving = open.values.map(\.port)
    open = [:]
    kernel.end(leaving.map { DeviceRemains(queues: dataplane.detach($0)) })
  }
}
