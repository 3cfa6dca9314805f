import OVXControl
import OVXDatapath
import Synchronization
import SystemPackage

@testable import OVXHost
@testable import OVXLinux

/// A host that exists in memory only: devices, addresses, filters, routes and containers.
///
/// A descriptor that it gives out is one end of a pipe, so that it can tell whether that is still
/// open.
final class FakeKernel: HostKernel {
  /// A TAP that was made, wherever it is.
  final class MadeTAP: TAPHandle {
    private let isPersistent = Mutex(false)

    func keep() { isPersistent.withLock { $0 = true } }
    func giveUp() { isPersistent.withLock { $0 = false } }
    var isAlive: Bool { true }
    var isKept: Bool { isPersistent.withLock { $0 } }
    func namespace() throws(LinuxError) -> NetworkNamespace { try .current() }
  }

  private let journal: Journal
  private let ownership: DeviceOwnership
  private var devices: [Int32: Link] = [:]
  private var incarnations: [Int32: UInt64] = [:]
  /// The devices that have been away, which nobody has been told of.
  private var returned: Set<Int32> = []
  private var nextIndex: Int32 = 10
  private var taps: [Int32: MadeTAP] = [:]
  /// Devices of ours in containers.
  private var inside: [DesiredState.ContainerInterface: MadeTAP] = [:]
  private(set) var filters: Set<Int32> = []
  var addresses: [String: [OVXLinux.InterfaceAddress]] = [:]
  var routes: [IPAddress: Route] = [:]
  /// Where the host itself gets.
  var hostWays: [HostWay] = []
  /// Who takes what comes for the host.
  var listening: [ListeningSocket] = []
  /// UDP ports that belong to others.
  var takenPorts: Set<UInt16> = []
  /// What the host holds its packets against.
  var filter: String?
  /// Where superframes can leave whole.
  var outlet: UnderlayRoute.Outlet?
  var doubtful: Set<Int32> = []
  /// The MTUs of veths' other ends, by the names of those that the host sees; 1500 of others.
  var peerMTUs: [String: Int] = [:]
  /// Devices without IPv6.
  var withoutIPv6: Set<String> = []
  /// What the host has from us on its own devices, by their names.
  private(set) var places: [String: HostPlace] = [:]
  /// What devices were given, by their names.
  private(set) var given: [String: DeviceSettings] = [:]

  init(_ journal: Journal, _ ownership: DeviceOwnership) {
    self.journal = journal
    self.ownership = ownership
  }

  // MARK: The world

  /// The filters on devices that the daemon has not made.
  var foreignFilters: Set<Int32> {
    filters.filter { index in devices[index].map { !ownership.isOurs($0) } ?? true }
  }

  /// Adds a device of somebody else's.
  @discardableResult
  func add(
    _ name: String, kind: String? = "veth", mtu: Int = 1500,
    _ change: (inout Link) -> Void = { _ in }
  ) -> Int32 {
    var link = Link(
      index: nextIndex, name: name, address: MACAddress(truncating: UInt64(nextIndex)), mtu: mtu,
      minimumMTU: 68, flags: [.up, .running], isEthernet: true, kind: kind, group: 0)
    nextIndex += 1
    change(&link)
    devices[link.index] = link
    incarnations[link.index] = UInt64(link.index)
    return link.index
  }

  func change(_ name: String, _ change: (inout Link) -> Void) {
    guard var link = links[name] else { return }
    change(&link)
    devices[link.index] = link
  }

  /// Takes a device to another network namespace and back, where it has its number again and no
  /// filter.
  ///
  /// What is announced of that is still to be read.
  func leavesAndReturns(_ name: String) {
    guard let index = links[name]?.index else { return }
    returned.insert(index)
    filters.remove(index)
  }

  func remove(_ name: String) {
    guard let index = links[name]?.index else { return }
    devices[index] = nil
    incarnations[index] = nil
    filters.remove(index)
    taps[index] = nil
  }

  /// Makes a VTEP one that is reached by a device.
  func route(
    _ remote: String, over device: String, from source: String = "192.0.2.100", mtu: Int? = nil
  ) {
    guard let remote = IPAddress(remote), let link = links[device] else { return }
    routes[remote] = Route(
      linkIndex: link.index, source: IPAddress(source), mtu: mtu, isLocal: false)
  }

  /// The devices that the daemon has made and that are there, those in containers with the
  /// container's name.
  var made: [String] {
    closeWhatNobodyHolds()
    return devices.values.filter(ownership.isOurs).map(\.name).sorted()
      + inside.keys.map { "\($0.name) in \($0.target)" }.sorted()
  }

  /// The container of an interface has gone, and its devices with it.
  func removeContainer(_ target: String, interface: String = "eth0") {
    remove(DesiredState.ContainerInterface(target: target, name: interface).hostEnd)
    for interface in inside.keys where interface.target == target { inside[interface] = nil }
  }

  /// Removes TAPs that are not persistent and that nobody has open.
  private func closeWhatNobodyHolds() {
    let open = journal.openDescriptors
    for (index, tap) in taps {
      guard let name = devices[index]?.name, !tap.isKept, !open.contains(name) else { continue }
      devices[index] = nil
      taps[index] = nil
    }
    for (interface, tap) in inside
    where !tap.isKept && !open.contains("\(interface.name) in \(interface.target)") {
      inside[interface] = nil
    }
  }

  // MARK: Devices as they are

  var links: [String: Link] {
    closeWhatNobodyHolds()
    return Dictionary(devices.values.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  func link(_ index: Int32) -> Link? { devices[index] }
  func incarnation(_ index: Int32) -> UInt64? { incarnations[index] }
  func isStill(_ index: Int32, _ incarnation: UInt64?) throws(LinuxError) -> Bool {
    if returned.remove(index) != nil { incarnations[index]? += 1000 }
    return incarnations[index] == incarnation
  }
  func isDoubtful(_ index: Int32) -> Bool { doubtful.contains(index) }
  func features(of link: Link) -> DeviceFeatures { [] }

  func widerAddresses(of link: Link) throws(LinuxError) -> [OVXLinux.InterfaceAddress] {
    try journal.perform("look at addresses of \(link.name)")
    return addresses[link.name] ?? []
  }

  func hasIPv6(_ place: DesiredState.Place) -> Bool { !withoutIPv6.contains(place.name) }
  func forwardsIPv6(on device: String) -> Bool { false }
  func listeners() -> [ListeningSocket] { listening }
  func ways() throws(LinuxError) -> [HostWay] { hostWays }

  // MARK: Changing devices

  func refresh(_ link: Link) throws(LinuxError) { try journal.perform("refresh \(link.name)") }

  func link(ofNew name: String) throws(LinuxError) -> Link {
    try journal.perform("find \(name)")
    guard let link = links[name] else {
      throw LinuxError(action: "find", subject: name, errno: .operationNotSupportedByDevice)
    }
    return link
  }

  func configure(
    _ link: Link, _ settings: DeviceSettings, alias: String?, isNew: Bool
  ) throws(LinuxError) {
    if let alias {
      try journal.perform("mark \(link.name)")
      devices[link.index]?.alias = alias
    }
    try journal.perform("configure \(link.name)")
    given[link.name] = settings
    if let mtu = settings.mtu { devices[link.index]?.mtu = mtu }
    if let mac = settings.mac { devices[link.index]?.address = mac }
    if isNew { devices[link.index]?.flags.insert([.up, .running]) }
  }

  func fit(
    _ link: Link, to bound: SizeBound?, former: Adoption?, noting note: (Adoption) -> Void
  ) throws(LinuxError) -> Adoption? {
    guard Adoption.concerns(link.mtu, bound: bound, former: former) else { return nil }
    try journal.perform("fit \(link.name)")
    var ends = Ends(kernel: self, index: link.index, name: link.name)
    return try Adoption.fit(&ends, to: bound, former: former, noting: note)
  }

  /// A veth, whose other end is nowhere else to be seen.
  private struct Ends: VethEnds {
    let kernel: FakeKernel
    let index: Int32
    let name: String

    var ownMTU: Int { kernel.devices[index]?.mtu ?? 0 }
    var peerMTU: Int { kernel.peerMTU(of: name) }
    var hasIPv6: Bool { !kernel.withoutIPv6.contains(name) }

    mutating func setOwnMTU(_ mtu: Int) throws(LinuxError) {
      try kernel.journal.perform("fit \(name), this end")
      kernel.devices[index]?.mtu = mtu
    }

    mutating func setPeerMTU(_ mtu: Int) throws(LinuxError) {
      try kernel.journal.perform("fit \(name), the other end")
      kernel.peerMTUs[name] = mtu
    }
  }

  /// The MTU of a veth's other end.
  func peerMTU(of name: String) -> Int { peerMTUs[name] ?? 1500 }

  func settle(_ place: HostPlace, on link: Link) throws(LinuxError) {
    try journal.perform("address \(link.name)")
    places[link.name] = place
  }

  func displace(_ place: HostPlace, from link: Link) throws(LinuxError) {
    guard !place.isEmpty else { return }
    try journal.perform("displace from \(link.name)")
    addresses[link.name]?.removeAll { address in
      place.addresses.contains { $0.description == address.description }
    }
  }

  func restore(_ place: HostPlace, to link: Link) throws(LinuxError) {
    guard !place.isEmpty else { return }
    try journal.perform("restore to \(link.name)")
    addresses[link.name, default: []] += place.addresses.map(OVXLinux.InterfaceAddress.init)
  }

  func acceptRouterAdvertisements(_ isAccepting: Bool, on device: String) {}
  func forget(_ link: Link) {}

  func end(_ remains: consuming [DeviceRemains]) {
    for device in remains {
      device.handle?.giveUp()
      guard let link = device.link else { continue }
      journal.note("delete \(link.name)")
      remove(link.name)
    }
  }

  // MARK: Devices that belong to the switch alone

  func isolate(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool {
    try journal.perform("isolate \(link.name)")
    doubtful.remove(link.index)
    return filters.insert(link.index).inserted
  }

  func isIsolated(_ link: Link, by filter: StackFilter) throws(LinuxError) -> Bool {
    filters.contains(link.index)
  }

  func release(_ link: Link, from filter: StackFilter) {
    if filters.remove(link.index) != nil { journal.note("release \(link.name)") }
  }

  func isolatedLinks(by filter: StackFilter) -> [Link] { filters.compactMap { devices[$0] } }

  // MARK: Opening devices

  func openTAP(_ name: String, queues: Int) throws(LinuxError) -> TAP {
    try journal.perform("open TAP \(name)")
    if links[name] == nil {
      let index = add(name, kind: "tun") { $0.flags = [] }
      taps[index] = MadeTAP()
    }
    return tap(name)
  }

  private func tap(_ name: String) -> TAP {
    TAP(queues: Queues(journal.descriptor(for: name)), name: name, capabilities: .all)
  }

  func keep(_ tap: borrowing TAP) throws(LinuxError) -> any TAPHandle {
    try journal.perform("keep \(tap.name)")
    guard let index = links[tap.name]?.index, let made = taps[index] else { return MadeTAP() }
    made.keep()
    return made
  }

  func takeAwayTAP(_ name: String) -> TAP? { nil }

  func openPacketSocket(_ name: String, queues: Int) throws(LinuxError) -> PacketSocket {
    try journal.perform("open socket on \(name)")
    return PacketSocket(
      queues: Queues(journal.descriptor(for: name)), interface: InterfaceIndex(rawValue: 1),
      capabilities: .all)
  }

  // MARK: Devices in containers

  func check(
    _ interface: DesiredState.ContainerInterface, of container: String?
  ) throws(LinuxError) {
    try journal.perform("check \(interface.name) in \(interface.target)")
  }

  func openTAP(
    in interface: DesiredState.ContainerInterface, of container: String?,
    _ order: ContainerDevice.Order
  ) throws(LinuxError) -> OpenTAP {
    let name = "\(interface.name) in \(interface.target)"
    ownership.note(interface)
    try journal.perform("open TAP \(name)")
    let wasThere = inside[interface] != nil
    let made = inside[interface] ?? MadeTAP()
    inside[interface] = made
    let tap = tap(name)
    try journal.perform("keep \(name)")
    made.keep()
    given[name] = order.settings
    return OpenTAP(
      tap: tap, index: 2, namespace: try NetworkNamespace.current().identity, wasThere: wasThere,
      holdsNamespace: wasThere,
      handle: made, introduction: Introduction(address: order.newSettings.mac, isRouter: false),
      remark: nil)
  }

  func openVeth(
    in interface: DesiredState.ContainerInterface, of container: String?,
    _ order: ContainerDevice.Order
  ) throws(LinuxError) -> OpenVeth {
    let end = interface.hostEnd
    try journal.perform("make veth \(end)")
    let former = links[end]
    if former == nil { add(end) { $0.alias = ownership.mark } }
    do throws(LinuxError) {
      let link = try link(ofNew: end)
      _ = try isolate(link, by: ownership.filter)
      try configure(link, order.settings.ofHostEnd, alias: nil, isNew: true)
      try journal.perform("furnish \(interface.name) in \(interface.target)")
      given["\(interface.name) in \(interface.target)"] = order.settings
      return OpenVeth(
        link: link, indexInside: 2, namespace: try NetworkNamespace.current().identity,
        wasThere: former != nil,
        introduction: Introduction(address: order.newSettings.mac, isRouter: false),
        remark: nil)
    } catch {
      if former == nil { remove(end) }
      throw error
    }
  }

  func change(
    _ interface: DesiredState.ContainerInterface, in namespace: NetworkNamespace,
    from old: DeviceSettings, to settings: DeviceSettings
  ) throws(LinuxError) -> Introduction? {
    let name = "\(interface.name) in \(interface.target)"
    try journal.perform("change \(name)")
    given[name] = settings
    return nil
  }

  func delete(_ interface: DesiredState.ContainerInterface) throws(LinuxError) {
    try journal.perform("delete \(interface.name) in \(interface.target)")
    inside[interface] = nil
  }

  // MARK: The underlay

  func way(to remote: DesiredState.Remote, isInjected: Bool) throws(Fault) -> UnderlayRoute {
    guard let route = routes[remote.address] else {
      throw Fault("no route to \(remote.address)", isTransient: true)
    }
    var way = try UnderlayRoute(
      to: remote, from: UnderlayRoute.source(to: remote, by: route), over: link(route.linkIndex),
      pathMTU: route.mtu, devices: [UInt32(bitPattern: route.linkIndex)])
    if isInjected, let outlet { way.superframes = .injected(outlet) }
    return way
  }

  func passedFilter() -> String? { filter }

  func listen(
    at endpoint: DesiredState.Endpoint, isShared: Bool, queues: Int
  ) throws(LinuxError) -> UDPSocket {
    let name = "listener \(endpoint.port)"
    try journal.perform("listen \(endpoint.port)")
    if takenPorts.contains(endpoint.port) {
      throw LinuxError(action: "listen on", subject: name, errno: .addressInUse)
    }
    return UDPSocket(queues: Queues(journal.descriptor(for: name)), pathMTU: 0)
  }

  func connect(
    to remote: DesiredState.Remote, sourcePort: UInt16
  ) throws(LinuxError) -> UDPSocket {
    let name = "socket to \(remote.address)"
    try journal.perform("connect to \(remote.address)")
    return UDPSocket(queues: Queues(journal.descriptor(for: name)), pathMTU: 1500)
  }

  func makeInjector(to index: Int32) throws(LinuxError) -> Injector {
    try journal.perform("make injector")
    return Injector(descriptor: journal.descriptor(for: "injector"))
  }

  var nextExamination: Int64? { nil }
  func examineClaims(to remotes: Set<DesiredState.Remote>, now: Int64) -> Bool { false }
}
