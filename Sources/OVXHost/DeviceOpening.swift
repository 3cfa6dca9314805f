internal import OVXControl
internal import OVXDatapath
internal import OVXLinux

/// A device to be open.
struct DeviceOrder {
  var desired: DesiredState.Device
  var port: PortID
  var settings: DeviceSettings
  /// Whether an operator asks for it at this moment, rather than circumstances.
  var isCommanded: Bool
}

/// A device that is open for a port.
struct OpenDevice {
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
  /// For a device in a container: its number there.
  var indexInside: Int32?
  /// Whether the open device keeps the container's namespace from ending.
  var holdsNamespace = false
  /// For a device that the daemon made: takes it away again, wherever it is by now.
  var handle: (any TAPHandle)?
  /// The device's Ethernet address, as it was when it was opened or changed last.
  var address: MACAddress?
  /// For a veth of somebody else's: the MTU that it has from us.
  var adoption: Adoption?
  /// Where a veth is larger than its segments take because it could not be given another MTU: how
  /// it was then.
  var unadopted: Link?
  /// How often that is tried again when the device is otherwise than it was: its other end may be
  /// on the way into its container.
  var adoptionTries = adoptionTryLimit
  static let adoptionTryLimit = 8
  /// Whether it was to become what `settings` do not say, and may be that in part.
  var isUnfinished = false
  /// The switch cannot use it any more.
  var isLost = false
  /// What an operator should know of it, although it is in service.
  var remark: Fault?
  /// What it could not be given when it was found.
  var omission: LinuxError?

  init(_ order: DeviceOrder, index: Int32, capabilities: OffloadCapabilities) {
    desired = order.desired
    port = order.port
    settings = order.settings
    self.index = index
    self.capabilities = capabilities
  }

  /// The kernel's description of it, of a veth to a container of the host's end; `nil` where it is
  /// gone, or all of it in a container.
  func link(in kernel: any HostKernel, _ ownership: DeviceOwnership) -> Link? {
    if desired.place.nameOnHost == nil { return nil }
    if kernel.incarnation(index) == incarnation { return kernel.link(index) }
    // One of ours that has been away.
    guard case .host(let name) = desired.place else { return nil }
    return kernel.links[name].flatMap { ownership.isOurs($0) ? $0 : nil }
  }

  /// The namespace of a container in which it is.
  func containerNamespace() throws(LinuxError) -> NetworkNamespace? {
    if let handle { return try handle.namespace() }
    guard let namespace, let interface = desired.place.interface else { return nil }
    return try interface.namespace(namespace)
  }
}

/// Opens the devices of ports, one at a time, and changes those that are open.
struct DeviceOpening {
  let kernel: any HostKernel
  let dataplane: any DataPlaneCommands
  let ownership: DeviceOwnership
  /// The database's: what the addresses of devices are derived from.
  let identity: UInt64

  /// Opens a device that is not open, and gives it to the data plane.
  ///
  /// - Parameter order: What is to be open.
  /// - Returns: The device, and for one that the daemon makes what others are to know of it.
  /// - Throws: What the kernel or the data plane refuses.
  func open(
    _ order: DeviceOrder
  ) throws(LinuxError) -> (OpenDevice, Introduction?) {
    switch order.desired.place {
    case .existing(let name): (try take(name, order), nil)
    case .host(let name): try makeTAP(name, order)
    case .container(let interface):
      try interface.isVeth ? makeVeth(interface, order) : makeTAP(interface, order)
    }
  }

  /// What a device is to be while it is made: with an address of its own where nobody has given it
  /// one.
  private func settings(ofNew order: DeviceOrder) -> DeviceSettings {
    var settings = order.settings
    settings.mac = settings.mac ?? order.desired.place.stableAddress(identity)
    return settings
  }

  /// Takes an existing device of the host.
  private func take(_ name: String, _ order: DeviceOrder) throws(LinuxError)
    -> OpenDevice
  {
    // What was announced may be the first half of a change, such as the new name of a device that
    // is being set down.
    try kernel.refresh(kernel.deviceForPort(name, ownership))
    let link = try kernel.deviceForPort(name, ownership)
    let displaced = order.settings.displaced
    try kernel.checkAddresses(of: link, exceptFor: displaced, ownership.filter)
    // Before all else: from here on no frame of the port reaches the host's network stack.
    _ = try kernel.isolate(link, by: ownership.filter)
    do throws(LinuxError) {
      try kernel.displace(displaced, from: link)
      // Several sockets can share what a device brings only if it is up.
      try kernel.configure(link, order.settings, alias: nil, isNew: true)
      let remark = try kernel.remark(on: link)
      let socket = try kernel.openPacketSocket(name, queues: dataplane.queueCount)
      let capabilities = socket.capabilities
      try dataplane.attach(socket, as: order.port)
      var result = OpenDevice(order, index: link.index, capabilities: capabilities)
      result.incarnation = kernel.incarnation(link.index)
      result.remark = remark
      return result
    } catch {
      // Better on a device that the host does not hear than nowhere, where nobody finds it again.
      try? kernel.restore(displaced, to: link)
      throw error
    }
  }

  /// Makes a TAP in the daemon's own namespace, or finds it there.
  private func makeTAP(
    _ name: String, _ order: DeviceOrder
  ) throws(LinuxError) -> (OpenDevice, Introduction?) {
    if let tap = kernel.takeAwayTAP(name) { return (try take(tap, order), nil) }
    let former = kernel.links[name]
    if let former { try ownership.check(former) }
    let tap = try kernel.openTAP(name, queues: dataplane.queueCount)
    let link = try kernel.link(ofNew: name)
    // Before it is up. Later it is for an operator to say, by the setting or by the kernel's own.
    if link.alias != ownership.mark || order.settings.acceptsRouterAdvertisements {
      kernel.acceptRouterAdvertisements(
        order.settings.acceptsRouterAdvertisements, on: name)
    }
    let settings = former == nil ? settings(ofNew: order) : order.settings
    try kernel.configure(link, settings, alias: ownership.mark, isNew: true)
    if order.desired.isInternal { try kernel.settle(order.settings.place, on: link) }
    let handle = try kernel.keep(tap)
    var result = OpenDevice(order, index: link.index, capabilities: tap.capabilities)
    result.incarnation = kernel.incarnation(link.index)
    result.handle = handle
    do throws(LinuxError) {
      try dataplane.attach(tap, as: order.port)
    } catch {
      // What was made for the port goes with the attempt; what was there before stays.
      if former == nil { handle.giveUp() }
      throw error
    }
    return (result, introduction(of: link))
  }

  /// Takes up a TAP that its user has moved elsewhere, as it is.
  private func take(_ tap: consuming TAP, _ order: DeviceOrder) throws(LinuxError) -> OpenDevice {
    // No device of this namespace has the number 0.
    var result = OpenDevice(order, index: 0, capabilities: tap.capabilities)
    result.handle = try kernel.keep(tap)
    try dataplane.attach(tap, as: order.port)
    return result
  }

  /// What others are to know of a device of the host.
  private func introduction(of link: Link) -> Introduction {
    Introduction(
      address: kernel.link(link.index)?.address, isRouter: kernel.forwardsIPv6(on: link.name))
  }

  private func containerOrder(_ order: DeviceOrder) -> ContainerDevice.Order {
    ContainerDevice.Order(
      settings: order.settings, newSettings: settings(ofNew: order),
      queues: dataplane.queueCount, isCommanded: order.isCommanded)
  }

  /// Makes a TAP in a container, or finds it there.
  private func makeTAP(
    _ interface: DesiredState.ContainerInterface, _ order: DeviceOrder
  ) throws(LinuxError) -> (OpenDevice, Introduction?) {
    let device = try kernel.openTAP(
      in: interface, of: order.desired.container, containerOrder(order))
    var result = OpenDevice(order, index: device.index, capabilities: device.tap.capabilities)
    result.namespace = device.namespace
    result.indexInside = device.index
    result.holdsNamespace = device.holdsNamespace
    result.handle = device.handle
    result.omission = device.remark
    let introduction = device.introduction
    let (handle, wasThere) = (device.handle, device.wasThere)
    do throws(LinuxError) {
      try dataplane.attach(device.take(), as: order.port)
    } catch {
      if !wasThere { handle.giveUp() }
      throw error
    }
    return (result, introduction)
  }

  /// Makes a veth to a container, or finds it.
  private func makeVeth(
    _ interface: DesiredState.ContainerInterface, _ order: DeviceOrder
  ) throws(LinuxError) -> (OpenDevice, Introduction?) {
    let veth = try kernel.openVeth(
      in: interface, of: order.desired.container, containerOrder(order))
    do throws(LinuxError) {
      let socket = try kernel.openPacketSocket(veth.link.name, queues: dataplane.queueCount)
      var result = OpenDevice(order, index: veth.link.index, capabilities: socket.capabilities)
      result.incarnation = kernel.incarnation(veth.link.index)
      result.namespace = veth.namespace
      result.indexInside = veth.indexInside
      result.omission = veth.remark
      try dataplane.attach(socket, as: order.port)
      return (result, veth.introduction)
    } catch {
      if !veth.wasThere { kernel.end([DeviceRemains(link: veth.link)]) }
      throw error
    }
  }

  /// Makes an open device what it is to be now.
  ///
  /// - Parameters:
  ///   - device: As it is.
  ///   - order: What it is to be.
  /// - Returns: What others are to know, where that has changed.
  /// - Throws: What the kernel refuses; what came before that is done.
  func change(
    _ device: OpenDevice, to order: DeviceOrder
  ) throws(LinuxError) -> Introduction? {
    var settings = order.settings
    // An address that is taken back leaves the one that the device would have without.
    if device.settings.mac != nil { settings = self.settings(ofNew: order) }
    let isNews =
      device.settings.mac != settings.mac || device.settings.addresses != settings.addresses
    if let interface = device.desired.place.interface {
      guard let namespace = try device.containerNamespace() else { return nil }
      let introduction = try kernel.change(
        interface, in: namespace, from: device.settings, to: settings)
      return isNews ? introduction : nil
    } else if let link = device.link(in: kernel, ownership) {
      try kernel.configure(link, settings, alias: nil, isNew: false)
      if device.settings.acceptsRouterAdvertisements != settings.acceptsRouterAdvertisements {
        kernel.acceptRouterAdvertisements(
          settings.acceptsRouterAdvertisements, on: link.name)
      }
      // Those of a port that is not internal any more go, too. With an MTU that is too small for
      // IPv6 the kernel has taken addresses away that are to be there again.
      let mayMiss = device.isUnfinished || device.settings.mtu != settings.mtu
      if device.settings.place != settings.place || (mayMiss && !settings.place.isEmpty) {
        try kernel.settle(settings.place, on: link)
      }
      if device.settings.displaced != settings.displaced {
        try kernel.restore(device.settings.displaced, to: link)
        try kernel.displace(settings.displaced, from: link)
      }
      return isNews && device.desired.isMade ? introduction(of: link) : nil
    }
    return nil
  }
}
