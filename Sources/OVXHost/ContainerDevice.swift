private import Glibc
internal import OVXControl
internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

/// The interface of a container: a TAP, or one end of a veth.
///
/// A TAP is made in the daemon's namespace and moved into the container's: an open TAP holds the
/// namespace that it was opened in, and a container's must be able to end while the daemon has the
/// TAP. Only a device that a former daemon left there has to be opened where it is.
///
/// A veth is made with both ends where they belong, and found again by the name of the host's
/// (`hostEnd`): whatever the container calls its own, and whatever others it has, nothing else is
/// at the other end of that one.
struct ContainerDevice {
  private let interface: DesiredState.ContainerInterface
  private let ownership: DeviceOwnership
  let namespace: NetworkNamespace
  /// The host's end of a veth, where that is there and its other end in this namespace, or where
  /// its user has moved it.
  private var hostEnd: Link?
  /// Whether the other end is elsewhere.
  private var isElsewhere = false

  /// Finds the container.
  ///
  /// - Parameters:
  ///   - interface: Which container, and which interface of it.
  ///   - container: Which one it was when it was attached; see
  ///     `Configuration.Attachment.container`.
  ///   - ownership: Knows which devices are ours.
  ///   - containers: Knows where containers are.
  ///   - kernel: Has the host's end.
  /// - Throws: That there is no such container, or that it has no network of its own.
  init(
    _ interface: DesiredState.ContainerInterface, _ container: String?,
    ownership: DeviceOwnership, containers: Containers, kernel: KernelView
  ) throws(LinuxError) {
    let namespace = try containers.namespace(
      of: Containers.Target(name: interface.target, container: container))
    try self.init(interface, in: namespace, ownership: ownership, kernel: kernel)
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
    ownership: DeviceOwnership, kernel: KernelView
  ) throws(LinuxError) {
    self.interface = interface
    self.ownership = ownership
    self.namespace = namespace
    if interface.isVeth, let end = kernel.links[interface.hostEnd], ownership.isOurs(end),
      let number = end.peerNamespace
    {
      // A former daemon has had it in use until now.
      let isHere = try kernel.number(of: namespace) == number
      isElsewhere = !isHere && kernel.isHandedOver(end.name)
      if isHere || isElsewhere { hostEnd = end }
    }
  }

  /// Makes sure that the interface can be made, or is there and ours.
  func check() throws(LinuxError) {
    var netlink = try Netlink(in: namespace)
    if try link(&netlink) == nil { _ = try namesake(&netlink) }
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
    /// A process's number soon belongs to another process, which may be anybody's; so a device is
    /// made in a process's namespace then and at no other time.
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
    var netlink = try Netlink(in: namespace)
    if let inherited = kernel.takeTAP(in: interface) {
      let holdsNamespace = inherited.holdsNamespace
      let tap = inherited.take()
      if tap.isAlive { return try goOn(tap, holdsNamespace, order, &netlink, kernel: kernel) }
    }
    let existing = try present(order.newSettings.mac, &netlink)
    let name = existing?.name ?? interface.name
    do throws(LinuxError) {
      let tap: TAP
      if existing != nil {
        tap = try TAP.open(name: name, queues: order.queues, in: namespace)
      } else {
        try makeRoom(order, &netlink)
        tap = try kernel.makeTAP(
          order.newSettings, queues: order.queues, mark: ownership.mark, in: namespace, as: name)
      }
      guard let link = try netlink.link(named: name) else {
        throw LinuxError(action: "find", subject: name, errno: .operationNotSupportedByDevice)
      }
      let remark = try furnish(link, order.settings, &netlink, isNew: existing == nil)
      ProcSettings.keepNeighborsWithoutCarrier(on: name, in: namespace)
      let handle = try kernel.keep(tap)
      return OpenTAP(
        tap: tap, index: link.index, namespace: namespace.identity, wasThere: existing != nil,
        holdsNamespace: existing != nil, handle: handle,
        introduction: try introduction(of: link, &netlink), remark: remark)
    } catch {
      // It may have gone again while it was made, under a name that nobody knows.
      var error = error
      if error.errno.rawValue == EBADFD { error.subject = interface.name }
      throw error
    }
  }

  /// Goes on with a TAP that a former daemon had open: wherever its user has moved it, and whatever
  /// he calls it by now.
  private func goOn(
    _ tap: consuming TAP, _ holdsNamespace: Bool, _ order: Order, _ netlink: inout Netlink,
    kernel: KernelView
  ) throws(LinuxError) -> OpenTAP {
    let name = tap.name
    var link: Link?
    if try tap.namespace().identity == namespace.identity {
      link = try netlink.links().first { $0.kind == "tun" && $0.name == name }
    }
    var introduction = Introduction(address: order.newSettings.mac, isRouter: false)
    var remark: LinuxError? = LinuxError(
      action: "find", subject: name, errno: .noSuchFileOrDirectory,
      detail: "it is in another network namespace than \(interface.target), and stays there")
    if let link {
      remark = try furnish(link, order.settings, &netlink, isNew: false)
      ProcSettings.keepNeighborsWithoutCarrier(on: link.name, in: namespace)
      introduction = try self.introduction(of: link, &netlink)
    }
    let handle = try kernel.keep(tap)
    // No device of this namespace has the number 0.
    return OpenTAP(
      tap: tap, index: link?.index ?? 0, namespace: namespace.identity, wasThere: true,
      holdsNamespace: holdsNamespace, handle: handle, introduction: introduction, remark: remark)
  }

  /// Makes the veth, or finds it, and keeps the host's own network stack off its end.
  ///
  /// - Parameters:
  ///   - order: What it is to be.
  ///   - kernel: Makes the veth.
  /// - Returns: What was made or found.
  /// - Throws: What the kernel refuses, or that somebody else has such an interface; nothing is
  ///   made then.
  func openVeth(_ order: Order, kernel: KernelView) throws(LinuxError) -> OpenVeth {
    if isElsewhere, let hostEnd {
      _ = try kernel.isolate(hostEnd, by: ownership.filter)
      // No device of this namespace has the number 0.
      return OpenVeth(
        link: hostEnd, indexInside: 0, namespace: namespace.identity, wasThere: true,
        introduction: Introduction(address: order.newSettings.mac, isRouter: false), remark: nil)
    }
    var netlink = try Netlink(in: namespace)
    let existing = try link(&netlink)
    if existing == nil {
      try makeRoom(order, &netlink)
      try kernel.makeVeth(
        named: interface.hostEnd, mark: ownership.mark, otherEnd: interface.name, in: namespace,
        address: order.newSettings.mac)
    }
    let host = try kernel.link(ofNew: interface.hostEnd)
    do throws(LinuxError) {
      guard
        let end = try host.peer.flatMap({ index throws(LinuxError) in try netlink.link(index: index)
        })
      else {
        throw LinuxError(
          action: "find", subject: interface.name, errno: .operationNotSupportedByDevice)
      }
      // Before it is up: from there on no frame of the container reaches the host's network stack.
      _ = try kernel.isolate(host, by: ownership.filter)
      try kernel.configure(host, order.settings.ofHostEnd, isNew: true)
      let remark = try furnish(end, order.settings, &netlink, isNew: existing == nil)
      return OpenVeth(
        link: host, indexInside: end.index, namespace: namespace.identity,
        wasThere: existing != nil, introduction: try introduction(of: end, &netlink),
        remark: remark)
    } catch {
      if existing == nil { kernel.end([DeviceRemains(link: host)]) }
      throw error
    }
  }

  /// Makes sure that the interface can be made: what former settings have left goes.
  private func makeRoom(_ order: Order, _ netlink: inout Netlink) throws(LinuxError) {
    guard order.isCommanded || !interface.isProcess else {
      throw LinuxError(
        action: "attach to", subject: interface.target, errno: .noSuchProcess,
        detail: "the process that had this number when it was attached is gone",
        remedy: "`ovx-ctl detach \(interface.target) \(interface.name)`")
    }
    if let remains = try namesake(&netlink) { try netlink.delete(remains) }
  }

  /// Makes the interface what it is to be, and sets it up.
  ///
  /// - Returns: What one that was there before could not be given: what its user has made of its
  ///   addresses and routes is his, and takes nothing else from him.
  private func furnish(
    _ link: Link, _ settings: DeviceSettings, _ netlink: inout Netlink, isNew: Bool
  ) throws(LinuxError) -> LinuxError? {
    try netlink.configure(link, settings, alias: ownership.mark, isNew: true)
    let remark =
      isNew ? nil : firstError(addressing: link, settings, &netlink)
    if isNew { try address(link, settings, &netlink, isNew: true) }
    // A namespace is made with its loopback down, and programs expect to reach themselves.
    if let loopback = try netlink.link(named: "lo"), !loopback.isUp {
      try netlink.setUp(true, loopback)
    }
    return remark
  }

  /// Gives an interface back as many of its addresses and routes as can be.
  private func firstError(
    addressing link: Link, _ settings: DeviceSettings, _ netlink: inout Netlink
  ) -> LinuxError? {
    var first: LinuxError?
    var parts = settings.addresses.map { ([$0], [] as [IPAddress]) }
    parts += settings.gateways.map { ([], [$0]) }
    for (addresses, gateways) in parts {
      var part = settings
      (part.addresses, part.gateways) = (addresses, gateways)
      do { try address(link, part, &netlink, isNew: false) } catch { first = first ?? error }
    }
    return first
  }

  /// What others are to know of the device.
  private func introduction(
    of link: Link, _ netlink: inout Netlink
  ) throws(LinuxError) -> Introduction {
    Introduction(
      address: try netlink.link(index: link.index)?.address,
      isRouter: ProcSettings.forwardsIPv6(on: link.name, in: namespace))
  }

  /// Gives a device that is there other settings than it had, and returns what others are to know
  /// of it then.
  func change(
    _ old: DeviceSettings, to settings: DeviceSettings
  ) throws(LinuxError) -> Introduction? {
    var netlink = try Netlink(in: namespace)
    guard let link = try link(&netlink) else { return nil }
    try netlink.configure(link, settings, isNew: false)
    for address in old.addresses where !settings.addresses.contains(address) {
      do { try netlink.remove(OVXLinux.InterfaceAddress(address), from: link) } catch {
        // It never got there, or somebody has taken it already.
        if error.errno != .addressNotAvailable { throw error }
      }
    }
    try address(link, settings, &netlink, isNew: false)
    return try introduction(of: link, &netlink)
  }

  /// Removes the device, if it is there and ours.
  func delete() {
    do throws(LinuxError) {
      var netlink = try Netlink(in: namespace)
      if let link = try link(&netlink) { try netlink.delete(link) }
    } catch {
      // It is gone already, or it is not ours.
    }
  }

  /// The interface, if it is there and of its kind.
  private func link(_ netlink: inout Netlink) throws(LinuxError) -> Link? {
    guard interface.isVeth else {
      return try namesake(&netlink).flatMap { $0.kind == "tun" ? $0 : nil }
    }
    guard let hostEnd, !isElsewhere, let index = hostEnd.peer,
      let link = try netlink.link(index: index),
      link.kind == "veth", link.peer == hostEnd.index
    else { return nil }
    return link
  }

  /// The TAP if it is there and ours, also under another name: what its user has renamed stays his.
  ///
  /// - Parameters:
  ///   - address: The port's own, by which it is known then.
  ///   - netlink: Of the container.
  /// - Returns: The device, if it is there.
  /// - Throws: That somebody else's has the interface's name.
  private func present(
    _ address: MACAddress?, _ netlink: inout Netlink
  ) throws(LinuxError) -> Link? {
    var refusal: LinuxError?
    do throws(LinuxError) {
      if let link = try link(&netlink) { return link }
    } catch {
      refusal = error
    }
    let found = try netlink.links().first { link in
      link.kind == "tun" && ownership.isOurs(link) && link.name != interface.name
        && address != nil && link.address == address
    }
    if found == nil, let refusal { throw refusal }
    return found
  }

  /// What has the interface's name inside and is ours; refuses what somebody else made.
  private func namesake(_ netlink: inout Netlink) throws(LinuxError) -> Link? {
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
        // In a container with several networks, that of the first stays in force, and this one
        // waits to take its place.
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

  /// The namespace with an identity in which it is: the container's, or another one that it has
  /// been moved to.
  func namespace(
    _ identity: NetworkNamespace.Identity
  ) throws(LinuxError) -> NetworkNamespace {
    if let namespace = namespaceHere, namespace.identity == identity { return namespace }
    let found = try NetworkNamespace.firstOccupied { namespace throws(LinuxError) in
      namespace.identity == identity
    }
    guard let found else {
      throw LinuxError(
        action: "find the network namespace of", subject: target, errno: .noSuchFileOrDirectory)
    }
    return found
  }
}

extension OVXLinux.InterfaceAddress {
  init(_ address: OVXControl.InterfaceAddress) {
    self.init(address.address, prefixLength: UInt8(clamping: address.prefixLength))
  }
}

/// A veth one end of which is in a container.
struct OpenVeth {
  /// The host's end.
  let link: Link
  /// The number of the other end where that is.
  let indexInside: Int32
  /// Where the other end is.
  let namespace: NetworkNamespace.Identity
  /// Whether it was found, rather than made.
  let wasThere: Bool
  let introduction: Introduction
  /// What it could not be given; see `ContainerDevice.furnish`.
  let remark: LinuxError?
}

/// A TAP in a container, and the number of its interface there.
struct OpenTAP: ~Copyable {
  let tap: TAP
  let index: Int32
  /// Where it is.
  let namespace: NetworkNamespace.Identity
  /// Whether it was found inside the container, rather than made outside and moved.
  let wasThere: Bool
  /// Whether it keeps the container's namespace from ending, as it was opened inside.
  let holdsNamespace: Bool
  /// By which it can be taken away again.
  let handle: any TAPHandle
  let introduction: Introduction
  /// What it could not be given; see `ContainerDevice.furnish`.
  let remark: LinuxError?

  consuming func take() -> TAP { tap }
}
