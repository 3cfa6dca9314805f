internal import OVXControl
internal import OVXLinux

/// What the host layer reads of the kernel and does with it.
///
/// `KernelView` is the real one. Everything that decides is on this side: which devices can be
/// ports (`DeviceAdmission.swift`), what they are to be, in which order things happen, and what a
/// refusal means.
protocol HostKernel: AnyObject {
  // MARK: Devices as they are

  /// The devices of the daemon's network namespace, by their names.
  var links: [String: Link] { get }

  /// The device with an index.
  func link(_ index: Int32) -> Link?

  /// Which of the devices that have had a number has it now.
  func incarnation(_ index: Int32) -> UInt64?

  /// Whether what has a number by now, all announcements taken in, is what had it.
  func isStill(_ index: Int32, _ incarnation: UInt64?) throws(LinuxError) -> Bool

  /// Whether the filters or addresses of a device may be other ones than when they were looked at.
  func isDoubtful(_ index: Int32) -> Bool

  /// What a device cuts by itself.
  func features(of link: Link) -> DeviceFeatures

  /// The addresses of a device by which the host can be reached from further than its own link.
  func widerAddresses(of link: Link) throws(LinuxError) -> [OVXLinux.InterfaceAddress]

  /// Whether a device has IPv6, or will have it when it is made; `true` where that cannot be found
  /// out.
  func hasIPv6(_ place: DesiredState.Place) -> Bool

  /// Whether a device of the host passes IPv6 packets on, as a router does.
  func forwardsIPv6(on device: String) -> Bool

  /// Where the host gets by devices that are no gateways' ways to it.
  func ways() throws(LinuxError) -> [HostWay]

  /// The sockets that take what comes for a port of the host.
  func listeners() -> [ListeningSocket]

  // MARK: Changing devices

  /// Asks how a device is now; that waits for changes that are being made.
  func refresh(_ link: Link) throws(LinuxError)

  /// A device that was made a moment ago.
  func link(ofNew name: String) throws(LinuxError) -> Link

  /// Makes a device what it is told to be, and switches it on where `isNew`; with an alias, gives
  /// it that first.
  func configure(
    _ link: Link, _ settings: DeviceSettings, alias: String?, isNew: Bool
  ) throws(LinuxError)

  /// Gives a veth of somebody else's the MTU that fits; see `Adoption`.
  func fit(
    _ link: Link, to bound: SizeBound?, former: Adoption?, noting note: (Adoption) -> Void
  ) throws(LinuxError) -> Adoption?

  /// Gives a device of the host what it is to have from us, and takes back what else is from us.
  func settle(_ place: HostPlace, on link: Link) throws(LinuxError)

  /// Takes from a NIC what the host has on the bridge's own device instead, as far as it is there.
  func displace(_ place: HostPlace, from link: Link) throws(LinuxError)

  /// Gives a NIC what `displace` has taken from it.
  func restore(_ place: HostPlace, to link: Link) throws(LinuxError)

  /// Has the host take addresses and routes from IPv6 routers that it hears by a device, or take
  /// none.
  func acceptRouterAdvertisements(_ isAccepting: Bool, on device: String)

  /// Takes a device for gone that is about to be deleted.
  func forget(_ link: Link)

  /// Removes or closes many devices at a time.
  func end(_ remains: consuming [DeviceRemains])

  // MARK: Devices that belong to the switch alone

  /// Keeps the host's own network stack off a device; `false` where it was kept off already. See
  /// `StackFilter`.
  func isolate(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool

  /// Whether the host's network stack is kept off a device.
  func isIsolated(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool

  /// Gives a device back to the host's network stack.
  func release(_ link: Link, from filter: StackFilter)

  /// The devices that are kept for the switch by a filter.
  func isolatedLinks(by filter: StackFilter) -> [Link]

  // MARK: Opening devices

  /// Opens a TAP of the host, and makes it if there is none of that name; it is not persistent
  /// then.
  func openTAP(_ name: String, queues: Int) throws(LinuxError) -> TAP

  /// A TAP of a port that a former daemon has left open, and that is not in its place any more:
  /// whoever uses it has moved or renamed it. `nil` where there is none.
  func takeAwayTAP(_ name: String) -> TAP?

  /// Makes a TAP outlive its descriptors, until its handle gives it up.
  func keep(_ tap: borrowing TAP) throws(LinuxError) -> any TAPHandle

  /// Opens an existing device of the host.
  func openPacketSocket(_ name: String, queues: Int) throws(LinuxError) -> PacketSocket

  // MARK: Devices in containers

  /// Makes sure that an interface of a container can be made, or is there and ours.
  func check(
    _ interface: DesiredState.ContainerInterface, of container: String?
  ) throws(LinuxError)

  /// Makes an interface of a container, or finds it; see `ContainerDevice`.
  ///
  /// It is noted before it is made, for a daemon that comes after a crash.
  func openTAP(
    in interface: DesiredState.ContainerInterface, of container: String?,
    _ order: ContainerDevice.Order
  ) throws(LinuxError) -> OpenTAP

  /// Makes a veth to a container, or finds it; see `ContainerDevice`.
  func openVeth(
    in interface: DesiredState.ContainerInterface, of container: String?,
    _ order: ContainerDevice.Order
  ) throws(LinuxError) -> OpenVeth

  /// Gives an interface of a container other settings than it had, and returns what others are to
  /// know of it then.
  func change(
    _ interface: DesiredState.ContainerInterface, in namespace: NetworkNamespace,
    from old: DeviceSettings, to settings: DeviceSettings
  ) throws(LinuxError) -> Introduction?

  /// Removes a TAP of a container, if it is there and ours.
  func delete(_ interface: DesiredState.ContainerInterface) throws(LinuxError)

  // MARK: The underlay

  /// How packets get to a VTEP at present; `isInjected` asks whether superframes can leave whole,
  /// too.
  func way(to remote: DesiredState.Remote, isInjected: Bool) throws(Fault) -> UnderlayRoute

  /// What of the host's own rules packets would not be held against that go past the IP stack, for
  /// people; `nil` for nothing.
  func passedFilter() -> String?

  /// Opens the socket by which a VTEP receives; `isShared` says that there are others of ours at
  /// the same port.
  func listen(
    at endpoint: DesiredState.Endpoint, isShared: Bool, queues: Int
  ) throws(LinuxError) -> UDPSocket

  /// Opens a socket that sends to a VTEP.
  func connect(to remote: DesiredState.Remote, sourcePort: UInt16) throws(LinuxError) -> UDPSocket

  /// Makes an injector for a device of the underlay.
  func makeInjector(to index: Int32) throws(LinuxError) -> Injector

  /// When `examineClaims` has something to do next, in milliseconds on the monotonic clock; `nil`
  /// for never.
  var nextExamination: Int64? { get }

  /// Goes on finding out whether paths are as narrow as ICMP messages say; returns whether some way
  /// is another one now.
  ///
  /// `now` is in milliseconds on the monotonic clock.
  func examineClaims(to remotes: Set<DesiredState.Remote>, now: Int64) -> Bool
}
