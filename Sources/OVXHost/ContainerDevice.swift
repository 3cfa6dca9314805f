internal import OVXControl
internal import OVXLinux
private import SystemPackage

/// A TAP device inside a container.
///
/// It is made in the daemon's namespace and moved into the container's: an open TAP holds the namespace that it was
/// opened in, and a container's must be able to end while the daemon has the TAP. Only a device that a former daemon
/// left there has to be opened where it is.
struct ContainerDevice {
  private let interface: DesiredState.ContainerInterface
  private let ownership: DeviceOwnership
  let namespace: NetworkNamespace

  /// Finds the container.
  ///
  /// - Parameters:
  ///   - interface: Which container, and which interface of it.
  ///   - container: Which one it was when it was attached; see `Configuration.Attachment.container`.
  ///   - ownership: Knows which devices are ours.
  ///   - containers: Knows where containers are.
  /// - Throws: That there is no such container, or that it has no network of its own.
  init(
    _ interface: DesiredState.ContainerInterface, _ container: String?, ownership: DeviceOwnership,
    containers: Containers
  ) throws(LinuxError) {
    self.interface = interface
    self.ownership = ownership
    namespace = try containers.namespace(
      of: Containers.Target(name: interface.target, container: container))
    guard try namespace.identity != NetworkNamespace.current().identity else {
      throw LinuxError(
        action: "attach to", subject: interface.target, errno: .invalidArgument,
        detail: "its network is the one of the daemon itself",
        remedy: "add a port of type tap or internal instead")
    }
  }

  /// Takes up the interface in the namespace where it is.
  init(
    _ interface: DesiredState.ContainerInterface, in namespace: NetworkNamespace,
    ownership: DeviceOwnership
  ) {
    self.interface = interface
    self.ownership = ownership
    self.namespace = namespace
  }

  /// Makes sure that the interface can be made, or is there and ours.
  func check() throws(LinuxError) {
    var netlink = try namespace.perform { () throws(LinuxError) in try Netlink() }
    _ = try link(&netlink)
  }

  /// What a device is to be.
  struct Order {
    var settings: DeviceSettings
    /// What it is to be where it has to be made.
    var newSettings: DeviceSettings
    /// How many queues to have.
    var queues: Int
    /// Whether an operator asks for it at this moment.
    ///
    /// A process's number soon belongs to another process, which may be anybody's; so a device is made in a process's
    /// namespace then and at no other time.
    var isCommanded: Bool
  }

  /// Makes the device, or finds it.
  ///
  /// - Parameters:
  ///   - order: What it is to be.
  ///   - kernel: Makes the device.
  /// - Returns: The device, and its number inside.
  /// - Throws: What the kernel refuses, or that somebody else has such an interface.
  func open(
    _ order: Order, kernel: KernelView
  ) throws(LinuxError) -> OpenTAP {
    var netlink = try namespace.perform { () throws(LinuxError) in try Netlink() }
    let name = interface.name
    let existing = try link(&netlink)
    let tap: TAP
    if existing != nil {
      tap = try namespace.perform { () throws(LinuxError) in
        try TAP.open(name: name, queues: order.queues)
      }
    } else {
      guard order.isCommanded || !interface.isProcess else {
        throw LinuxError(
          action: "attach to", subject: interface.target, errno: .noSuchProcess,
          detail: "the process that had this number when it was attached is gone",
          remedy: "`ovx-ctl detach \(interface.target) \(name)`")
      }
      tap = try kernel.makeTAP(
        order.newSettings, queues: order.queues, mark: ownership.mark, in: namespace, as: name)
    }
    guard let link = try netlink.link(named: name) else {
      throw LinuxError(action: "find", subject: name, errno: .operationNotSupportedByDevice)
    }
    try netlink.configure(link, order.settings, alias: ownership.mark, isNew: true)
    try address(link, order.settings, &netlink, isNew: existing == nil)
    // A namespace is made with its loopback down, and programs expect to reach themselves.
    if let loopback = try netlink.link(named: "lo"), !loopback.isUp {
      try netlink.setUp(true, loopback)
    }
    let handle = try kernel.keep(tap)
    return OpenTAP(
      tap: tap, index: link.index, namespace: namespace.identity, wasThere: existing != nil,
      handle: handle,
      introduction: try introduction(&netlink))
  }

  /// What others are to know of the device.
  private func introduction(_ netlink: inout Netlink) throws(LinuxError) -> Introduction {
    let name = interface.name
    return Introduction(
      address: try netlink.link(named: name)?.address,
      isRouter: try namespace.perform { () throws(LinuxError) in
        ProcSettings.forwardsIPv6(on: name)
      })
  }

  /// Gives a device that is there other settings than it had, and returns what others are to know of it then.
  func change(
    _ old: DeviceSettings, to settings: DeviceSettings
  ) throws(LinuxError) -> Introduction? {
    var netlink = try namespace.perform { () throws(LinuxError) in try Netlink() }
    guard let link = try link(&netlink) else { return nil }
    try netlink.configure(link, settings, isNew: false)
    for address in old.addresses where !settings.addresses.contains(address) {
      do { try netlink.remove(OVXLinux.InterfaceAddress(address), from: link) } catch {
        // It never got there, or somebody has taken it already.
        if error.errno != .addressNotAvailable { throw error }
      }
    }
    try address(link, settings, &netlink, isNew: false)
    return try introduction(&netlink)
  }

  /// Removes the device, if it is there and ours.
  func delete() {
    do throws(LinuxError) {
      var netlink = try namespace.perform { () throws(LinuxError) in try Netlink() }
      if let link = try link(&netlink) { try netlink.delete(link) }
    } catch {
      // It is gone already, or it is not ours.
    }
  }

  /// The interface, if it is there; refuses one that somebody else made.
  private func link(_ netlink: inout Netlink) throws(LinuxError) -> Link? {
    guard let link = try netlink.link(named: interface.name) else { return nil }
    guard ownership.isOurs(link) else {
      throw LinuxError(
        action: "attach", subject: interface.name, errno: .fileExists,
        detail: "\(interface.target) has an interface of that name already",
        remedy: "choose another name, or delete that interface")
    }
    return link
  }

  /// Gives the interface its addresses and routes; it is up, which a route needs.
  private func address(
    _ link: Link, _ settings: DeviceSettings, _ netlink: inout Netlink, isNew: Bool
  ) throws(LinuxError) {
    // One that was there before may have kept what it was given.
    for address in settings.addresses {
      do { try netlink.add(OVXLinux.InterfaceAddress(address), to: link) } catch {
        if isNew || error.errno != .fileExists { throw error }
      }
    }
    for gateway in settings.gateways {
      do { try netlink.addDefaultRoute(via: gateway, on: link) } catch {
        guard error.errno == .fileExists else { throw error }
        guard isNew else { continue }
        // In a container with several networks, that of the first stays in force, and this one waits to take its place.
        let metric = Self.reserveMetric + UInt32(bitPattern: link.index)
        try netlink.addDefaultRoute(via: gateway, on: link, metric: metric)
      }
    }
  }

  /// More than what the kernel gives to routes without a metric: 0 for IPv4, 1024 for IPv6.
  private static let reserveMetric: UInt32 = 2048
}

extension DesiredState.ContainerInterface {
  /// Whether the container is named by the number of a process.
  var isProcess: Bool { target.hasPrefix("pid:") || target.hasPrefix("/proc/") }

  /// The container's namespace, where it is found without the help of the program that runs it.
  var namespaceHere: NetworkNamespace? {
    if target.contains("/") { return try? NetworkNamespace(path: target) }
    if target.hasPrefix("pid:") {
      return try? NetworkNamespace(pid: Int32(target.dropFirst("pid:".count)) ?? 0)
    }
    return try? NetworkNamespace(named: target)
  }
}

extension OVXLinux.InterfaceAddress {
  init(_ address: OVXControl.InterfaceAddress) {
    self.init(address.address, prefixLength: UInt8(clamping: address.prefixLength))
  }
}

/// A TAP in a container, and the number of its interface there.
struct OpenTAP: ~Copyable {
  let tap: TAP
  let index: Int32
  /// Where it is.
  let namespace: NetworkNamespace.Identity
  /// Whether it was opened inside the container, rather than made outside and moved.
  let wasThere: Bool
  /// By which it can be taken away again.
  let handle: any TAPHandle
  let introduction: Introduction

  consuming func take() -> TAP { tap }
}
