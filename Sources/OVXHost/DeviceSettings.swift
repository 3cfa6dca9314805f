internal import OVXControl
internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

/// What a device is told to be.
struct DeviceSettings: Equatable {
  /// `nil` leaves what is.
  var mac: MACAddress?
  /// `nil` leaves what is.
  var mtu: Int?
  /// The largest packet that the segments of the port take; `nil` where nothing limits them, or
  /// less than `mtu` says.
  var bound: SizeBound?
  /// `nil` leaves what is.
  var gsoMaxSize: Int?
  /// `nil` leaves what is.
  var queueLength: Int?
  /// Of an internal one, or in a container; nobody else's are touched.
  var addresses: [OVXControl.InterfaceAddress] = []
  /// Of an internal one.
  var routes: [HostRoute] = []
  /// Of an existing one.
  var displaced = HostPlace()
  /// In a container only.
  var gateways: [IPAddress] = []
  /// Of an internal one: whether it takes addresses and routes from routers.
  var acceptsRouterAdvertisements = false

  /// Of a veth to a container: what the host's end is to be.
  ///
  /// It takes whatever the other one sends, for what is too large is to be answered, and a veth
  /// drops without a word what is larger than the end where it arrives takes.
  var ofHostEnd: DeviceSettings {
    var settings = self
    settings.mac = nil
    settings.mtu = MTU.ofHostEnd
    settings.gsoMaxSize = nil
    settings.queueLength = nil
    return settings
  }

  /// What the host is to have on an internal one.
  var place: HostPlace { HostPlace(addresses: addresses, routes: routes) }

  /// Frames that may wait in a TAP to be read, four times the kernel's own `DEFAULT_TX_QUEUE_LEN`.
  ///
  /// A sender that shares its core with the worker may send for as long as its time slice lasts, 3
  /// to 4 ms, before the worker has its turn: at a million frames a second that is as many. What
  /// there is no room for is lost, and the sender is not told.
  static let queueLength = 4_000

  /// What the device of a port is to be; an existing one is left as it is, but for what was asked
  /// for and what fits.
  ///
  /// - Parameters:
  ///   - desired: What was asked for.
  ///   - limits: What fits the segments.
  ///   - hasIPv6: Whether the device has IPv6, or will have it.
  init(
    _ desired: DesiredState.Device, _ limits: DesiredState.Limits, hasIPv6: @autoclosure () -> Bool
  ) {
    mac = desired.mac
    mtu = desired.mtuRequest
    addresses = desired.addresses
    routes = desired.routes
    displaced = desired.displaced
    gateways = desired.gateways
    acceptsRouterAdvertisements = desired.acceptsRouterAdvertisements
    bound = limits.tunnel
    guard desired.isMade else { return }
    var (mtu, bound) = limits.mtu
    if mtu < MTU.ipv6MinimumMTU, desired.mtuRequest == nil, hasIPv6() {
      mtu = MTU.ipv6MinimumMTU
    }
    mtu = desired.mtuRequest ?? mtu
    self.mtu = mtu
    self.bound = desired.mtuRequest == nil ? bound : limits.tunnel
    // Superframes of elsewhere are as large as their sender's device takes them. By a smaller one
    // the kernel passes them on in single segments.
    gsoMaxSize = desired.isGateway ? MTU.wholeGSOMaxSize : limits.gsoMaxSize(mtu: mtu)
    // A veth has no queue.
    if !desired.place.hasPacketSocket { queueLength = Self.queueLength }
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
  package var target: Containers.Target? {
    place.interface.map { Containers.Target(name: $0.target, container: container) }
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
