internal import OVXDatapath
internal import OVXLinux
internal import SystemPackage

/// The sockets by which tunnels receive and send, and what is known of the ways to the remote
/// VTEPs.
///
/// Sockets belong to what they are for, not to tunnels: as many tunnels as want to share one
/// listening socket (its address and port), and one set of sending sockets for each VNI towards a
/// VTEP. A bound socket has a single source port, so a set has several, and the flows of a tunnel
/// are spread over them for the sake of routers that choose among equal ways by ports.
///
/// No two VNIs share a source port towards a VTEP. By its addresses and ports alone the far kernel
/// takes datagrams for parts of one train (`udp_gro_receive`), and nobody at the far end can tell
/// for sure what else it might be: tenants whose datagrams meet in one are at each other's mercy
/// (`TrainReading`).
///
/// What is no longer wanted is closed in two steps: `open` leaves it open, and `close` closes it,
/// once the data plane has a topology without it.
struct Underlay {
  /// The source ports of sending sockets (RFC 7348, section 5: the dynamic range of RFC 6335).
  private static let sourcePorts = 49152...65535

  /// The sockets towards a VTEP from one source address, for one VNI.
  private struct SocketSet: Hashable {
    var peer: DesiredState.Peer
    var source: IPAddress

    var addresses: AddressPair { AddressPair(source: source, remote: peer.remote.address) }
  }

  private struct AddressPair: Hashable {
    var source: IPAddress
    var remote: IPAddress
  }

  private let kernel: any HostKernel
  private let dataplane: any DataPlaneCommands
  /// Sending sockets at most.
  private let socketBudget: Int
  private var endpoints: IDAllocator<DesiredState.Endpoint>
  private var openEndpoints: Set<DesiredState.Endpoint> = []
  private var paths: IDRangeAllocator<SocketSet>
  private var ways: [DesiredState.Remote: UnderlayRoute] = [:]
  private var sets: [DesiredState.Peer: SocketSet] = [:]
  private var leavingPaths: [Int] = []
  private var sourcePorts: [SocketSet: [UInt16]] = [:]
  /// The source ports in use between two addresses.
  private var takenPorts: [AddressPair: Set<UInt16>] = [:]
  /// By the index of the underlay's device.
  private var injectors: IDAllocator<Int32>
  private var openInjectors: Set<Int32> = []
  /// Why superframes cannot be put on a device.
  private var injectorFaults: [Int32: String] = [:]
  private(set) var endpointFaults: [DesiredState.Endpoint: Fault] = [:]
  private(set) var peerFaults: [DesiredState.Peer: Fault] = [:]

  /// Makes an underlay without sockets.
  ///
  /// - Parameters:
  ///   - kernel: Knows the routes, and opens sockets.
  ///   - dataplane: Takes the sockets.
  ///   - descriptorLimit: Descriptors that the process may have; half of them are left to others.
  init(kernel: any HostKernel, dataplane: any DataPlaneCommands, descriptorLimit: Int) {
    self.kernel = kernel
    self.dataplane = dataplane
    // Each worker has a descriptor of each socket.
    socketBudget = min(RemoteVTEPID.limit, max(16, descriptorLimit / 2 / dataplane.queueCount))
    endpoints = IDAllocator(below: ListenerID.limit)
    injectors = IDAllocator(below: InjectorID.limit)
    // Twice the budget, because sockets are opened before the ones that they replace are closed.
    paths = IDRangeAllocator(below: 2 * RemoteVTEPID.limit)
  }

  /// The number of the socket that receives for an endpoint; `nil` while it is not open.
  func endpoint(_ endpoint: DesiredState.Endpoint) -> ListenerID? {
    guard openEndpoints.contains(endpoint), let number = endpoints[endpoint] else { return nil }
    return ListenerID(rawValue: UInt16(truncatingIfNeeded: number))
  }

  /// The numbers of the sockets towards a VTEP for a VNI; `nil` while there is no way to it.
  func sockets(to peer: DesiredState.Peer) -> Range<UInt32>? {
    guard peerFaults[peer] == nil, let set = sets[peer], let range = paths[set]
    else { return nil }
    return UInt32(range.lowerBound)..<UInt32(range.upperBound)
  }

  /// The way to a VTEP, as last known; `nil` where none has ever been.
  func way(to remote: DesiredState.Remote) -> UnderlayRoute? { ways[remote] }

  /// Where the desired tunnels send to, as far as they are in service.
  ///
  /// One that cannot receive is left out: somebody else has its port, who may have the same
  /// remotes.
  func destinations(of desired: DesiredState) -> Set<UnderlayRules.Destination> {
    var destinations: Set<UnderlayRules.Destination> = []
    for tunnel in desired.tunnels.values where openEndpoints.contains(tunnel.endpoint) {
      for remote in tunnel.remotes {
        destinations.insert(
          UnderlayRules.Destination(address: remote.address, port: remote.port))
      }
    }
    return destinations
  }

  /// The sockets to receive by that are open, by the data plane's numbers.
  var listeners: [ListenerID: DesiredState.Endpoint] {
    var listeners: [ListenerID: DesiredState.Endpoint] = [:]
    for endpoint in openEndpoints {
      if let number = self.endpoint(endpoint) { listeners[number] = endpoint }
    }
    return listeners
  }

  /// Whether there is a way that may widen without the kernel saying so.
  var hasNarrowWays: Bool { ways.values.contains(where: \.isNarrow) }

  /// Whether ways are other ones than when they were looked up, or something is waited for.
  func isChanged(_ desired: DesiredState) -> Bool {
    guard endpointFaults.isEmpty, peerFaults.isEmpty else { return true }
    let watched = desired.watchedRemotes
    return Set(desired.tunnels.values.flatMap(\.remotes)).contains { remote in
      (try? kernel.way(to: remote, isInjected: watched.contains(remote))) != ways[remote]
    }
  }

  /// Opens what is desired and not open.
  ///
  /// - Parameters:
  ///   - desired: What is wanted.
  ///   - isRefreshing: Whether routes may have changed, so that ways already known are looked up
  ///     again.
  mutating func open(_ desired: DesiredState, isRefreshing: Bool) {
    endpointFaults = [:]
    for endpoint in Set(desired.tunnels.values.map(\.endpoint))
    where !openEndpoints.contains(endpoint) {
      do {
        try open(endpoint)
      } catch {
        endpointFaults[endpoint] = error
      }
    }
    var wanted: [DesiredState.Remote: Set<VNI>] = [:]
    for peer in desired.tunnels.values.flatMap(\.peers) {
      wanted[peer.remote, default: []].insert(peer.vni)
    }
    let watched = desired.watchedRemotes
    let peerCount = wanted.values.reduce(0) { $0 + $1.count }
    let count = Self.socketsPerPeer(peers: peerCount, budget: socketBudget)
    let isWithinBudget = peerCount <= socketBudget
    for set in sets.values { shrink(set, to: count) }
    for (remote, vnis) in wanted {
      let peers = vnis.map { DesiredState.Peer(remote: remote, vni: $0) }
      guard
        isRefreshing || watched.contains(remote) != watchedRemotes.contains(remote)
          || peers.contains(where: { peerFaults[$0] != nil || sets[$0] == nil })
      else { continue }
      do {
        let way = try kernel.way(to: remote, isInjected: watched.contains(remote))
        ways[remote] = way
        for peer in peers {
          open(peer, from: way.source, count: count, isWithinBudget: isWithinBudget)
        }
      } catch {
        for peer in peers { peerFaults[peer] = error }
      }
    }
    watchedRemotes = watched
    injectedRemotes = desired.injectedRemotes
    openMissingInjectors()
  }

  /// Closes what is not desired any more, and what has been replaced.
  ///
  /// The data plane has a topology that refers to none of it.
  mutating func close(exceptFor desired: DesiredState) {
    let wantedEndpoints = Set(desired.tunnels.values.map(\.endpoint))
    for endpoint in openEndpoints.subtracting(wantedEndpoints) {
      if let number = self.endpoint(endpoint) { dataplane.close(number) }
      openEndpoints.remove(endpoint)
    }
    for endpoint in Array(endpoints.names) where !openEndpoints.contains(endpoint) {
      endpoints.release(endpoint)
    }
    let wantedPeers = Set(desired.tunnels.values.flatMap(\.peers))
    for (peer, set) in sets where !wantedPeers.contains(peer) {
      shrink(set, to: 0)
      sets[peer] = nil
    }
    let wantedRemotes = Set(wantedPeers.map(\.remote))
    ways = ways.filter { wantedRemotes.contains($0.key) }
    peerFaults = peerFaults.filter { wantedPeers.contains($0.key) }
    closeInjectors()
    for number in leavingPaths { dataplane.close(UnderlaySocketID(rawValue: UInt32(number))) }
    leavingPaths = []
    endpoints.releaseQuarantined()
    paths.releaseQuarantined()
    injectors.releaseQuarantined()
  }

  // MARK: Receiving

  /// Finds out whether a socket to receive by could be opened.
  func probe(_ endpoint: DesiredState.Endpoint) throws(Fault) {
    guard !openEndpoints.contains(endpoint) else { return }
    do { _ = try socket(endpoint, queues: 1) } catch { throw fault(error, endpoint) }
  }

  private mutating func open(_ endpoint: DesiredState.Endpoint) throws(Fault) {
    guard let number = endpoints.number(for: endpoint) else {
      throw Fault(
        "there are no more than \(ListenerID.limit) pairs of local address and UDP port to receive by; "
          + "let tunnels share them", isTransient: false)
    }
    do {
      let number = ListenerID(rawValue: UInt16(truncatingIfNeeded: number))
      try dataplane.open(
        number, socket: socket(endpoint, queues: dataplane.queueCount(of: number)))
    } catch {
      throw fault(error, endpoint)
    }
    openEndpoints.insert(endpoint)
  }

  private func socket(
    _ endpoint: DesiredState.Endpoint, queues: Int
  ) throws(LinuxError) -> UDPSocket {
    // A socket of ours on the same port, for other addresses, is no obstacle; anybody else's is.
    let isShared = openEndpoints.contains {
      $0.port == endpoint.port && $0.isIPv6 == endpoint.isIPv6
    }
    return try kernel.listen(at: endpoint, isShared: isShared, queues: queues)
  }

  /// Says what is in the way of a socket to receive by.
  private func fault(_ error: LinuxError, _ endpoint: DesiredState.Endpoint) -> Fault {
    switch error.errno {
    case .addressInUse:
      // The kernel's own sockets are invisible to the tools that people look for the culprit with.
      let culprit = kernel.links.values.first { $0.vxlan?.port == endpoint.port && $0.isUp }
      guard let culprit else { return Fault(error) }
      return Fault(
        "UDP port \(endpoint.port) belongs to the kernel's vxlan device \(culprit.name); delete it "
          + "(`ip link del \(culprit.name)`), or choose another port with dst_port=",
        isTransient: false)
    case .addressNotAvailable:
      return Fault(error, isTransient: true)
    default:
      return Fault(error)
    }
  }

  // MARK: Sending

  /// How many sockets, each with its own source port, to send with to each of `peers` pairs of a
  /// remote VTEP and a VNI.
  ///
  /// 16 spread a tunnel's flows well over ECMP links; beyond 512 pairs there are fewer each, by
  /// powers of two so that they are not resized with every pair. At least 1, even where `budget`
  /// has not one for each: then some pairs get none.
  static func socketsPerPeer(peers: Int, budget: Int) -> Int {
    var count = 16
    while count > 1, count * peers > min(budget, 8192) { count /= 2 }
    return count
  }

  private mutating func open(
    _ peer: DesiredState.Peer, from source: IPAddress, count: Int, isWithinBudget: Bool
  ) {
    let set = SocketSet(peer: peer, source: source)
    if let old = sets[peer], old != set { shrink(old, to: 0) }
    sets[peer] = nil
    peerFaults[peer] = nil
    if paths[set] == nil {
      guard isWithinBudget || paths.count < socketBudget,
        let range = paths.assign(count, to: set)
      else {
        peerFaults[peer] = Fault(
          "more than \(socketBudget) pairs of a VNI and a remote VTEP, each of which needs a socket; "
            + "raise the limit of open files (ulimit -n) up to 40000 for each worker, or use fewer",
          isTransient: false)
        return
      }
      do {
        for number in range { try open(UnderlaySocketID(rawValue: UInt32(number)), set) }
      } catch {
        shrink(set, to: 0)
        peerFaults[peer] = Fault(error, isTransient: error.isMissingRoute)
        return
      }
    }
    sets[peer] = set
  }

  /// Opens a socket with a source port that no other one of ours has between its two addresses.
  ///
  /// It is a random one. Who knows it can have a forged ICMP message believed, so nothing that is
  /// known of the host tells it, nor does another port.
  private mutating func open(_ path: UnderlaySocketID, _ set: SocketSet) throws(LinuxError) {
    let remote = set.peer.remote
    let first = Int.random(in: 0..<Self.sourcePorts.count)
    var refusals = 0
    for offset in first..<first + Self.sourcePorts.count {
      let port = UInt16(
        truncatingIfNeeded: Self.sourcePorts.lowerBound + offset % Self.sourcePorts.count)
      if takenPorts[set.addresses]?.contains(port) == true { continue }
      do {
        let socket = try kernel.connect(to: remote, sourcePort: port)
        try dataplane.open(path, socket: socket)
        sourcePorts[set, default: []].append(port)
        takenPorts[set.addresses, default: []].insert(port)
        return
      } catch {
        // A port that somebody else has is passed over; 64 in a row mean something else than bad
        // luck.
        refusals += 1
        if error.errno != .addressInUse || refusals == 64 { throw error }
      }
    }
    throw LinuxError(
      action: "send to", subject: "\(remote.address)", errno: .addressInUse,
      remedy: "all source ports from 49152 on are taken")
  }

  /// Takes a set's last sockets out of use; `close` will close them.
  private mutating func shrink(_ set: SocketSet, to count: Int) {
    if let range = paths.release(set, keeping: count) { leavingPaths += range }
    guard let ports = sourcePorts[set], ports.count > count else { return }
    sourcePorts[set] = count == 0 ? nil : Array(ports.prefix(count))
    takenPorts[set.addresses]?.subtract(ports.dropFirst(count))
    if takenPorts[set.addresses]?.isEmpty == true { takenPorts[set.addresses] = nil }
  }

  // MARK: Superframes that leave whole

  /// The remotes for which it is known how superframes can leave.
  private var watchedRemotes: Set<DesiredState.Remote> = []
  /// Those of them that they are to leave for by an injector.
  private var injectedRemotes: Set<DesiredState.Remote> = []

  private func outlet(to remote: DesiredState.Remote) -> UnderlayRoute.Outlet? {
    guard case .injected(let outlet) = ways[remote]?.superframes else { return nil }
    return outlet
  }

  /// All that the data plane has to know to inject superframes for a VTEP; `nil` where they are to
  /// be cut.
  func injection(to peer: DesiredState.Peer) -> Injection? {
    guard let (outlet, outer) = outerPath(to: peer), let set = sets[peer],
      let ports = sourcePorts[set], openInjectors.contains(outlet.linkIndex),
      let number = injectors[outlet.linkIndex]
    else { return nil }
    return Injection(
      injector: InjectorID(rawValue: UInt16(truncatingIfNeeded: number)), outer: outer,
      sourcePorts: ports)
  }

  /// By what device a VTEP can be reached whole, and what the outer headers are to hold then.
  private func outerPath(
    to peer: DesiredState.Peer
  ) -> (outlet: UnderlayRoute.Outlet, outer: OuterPath)? {
    let remote = peer.remote
    guard let outlet = outlet(to: remote), let set = sets[peer] else { return nil }
    let outer = OuterPath(
      source: outlet.source, destination: outlet.nextHop, local: set.source,
      remote: remote.address, port: remote.port, trafficClass: remote.header.trafficClass,
      hopLimit: remote.header.hopLimit, forbidsFragments: remote.header.forbidsFragments)
    return (outlet, outer)
  }

  /// How the fast path reaches a VTEP; `nil` where it does not.
  func fastPath(to peer: DesiredState.Peer) -> FastPathRoute? {
    outerPath(to: peer).map { outlet, outer in
      FastPathRoute(device: UInt32(bitPattern: outlet.linkIndex), outer: outer)
    }
  }

  /// Why the fast path does not reach a VTEP, where it does not.
  func fastPathFault(to peer: DesiredState.Peer) -> String {
    if case .segmented(let reason) = ways[peer.remote]?.superframes { return reason }
    return "there is no way"
  }

  /// How a tunnel's superframes get to a VTEP, for people.
  func describeSuperframes(to remote: DesiredState.Remote, of tunnel: DesiredState.Tunnel) -> String
  {
    guard tunnel.injectsSuperframes else { return "segmented" }
    switch ways[remote]?.superframes {
    case .injected(let outlet):
      if injection(to: DesiredState.Peer(remote: remote, vni: tunnel.outgoingVNI)) != nil {
        return "injected into \(outlet.device)"
      }
      return "segmented: \(injectorFaults[outlet.linkIndex] ?? "the injector is not open")"
    case .segmented(let reason): return "segmented: \(reason)"
    case nil: return "segmented: there is no way"
    }
  }

  private mutating func openMissingInjectors() {
    for outlet in injectedRemotes.compactMap(outlet) {
      let index = outlet.linkIndex
      guard !openInjectors.contains(index), injectorFaults[index] == nil else { continue }
      guard let number = injectors.number(for: index) else {
        injectorFaults[index] = "there are no more than \(InjectorID.limit) devices for it"
        continue
      }
      do throws(LinuxError) {
        let injector = try kernel.makeInjector(to: outlet.linkIndex)
        try dataplane.open(
          InjectorID(rawValue: UInt16(truncatingIfNeeded: number)), injector: injector)
        openInjectors.insert(index)
      } catch {
        injectors.release(index)
        injectorFaults[index] = error.description
      }
    }
  }

  private mutating func closeInjectors() {
    let wanted = Set(injectedRemotes.compactMap { outlet(to: $0)?.linkIndex })
    for index in openInjectors.subtracting(wanted) { closeInjector(index) }
    // To be asked for anew is to be tried anew.
    injectorFaults = injectorFaults.filter { wanted.contains($0.key) }
  }

  private mutating func closeInjector(_ index: Int32) {
    openInjectors.remove(index)
    guard let number = injectors[index] else { return }
    dataplane.close(InjectorID(rawValue: UInt16(truncatingIfNeeded: number)))
    injectors.release(index)
  }

  /// Notes that an injector takes nothing any more.
  mutating func lose(_ injector: InjectorID, _ error: Errno) {
    guard let index = openInjectors.first(where: { injectors[$0] == Int(injector.rawValue) })
    else { return }
    injectorFaults[index] = "the injector fails: \(error)"
    closeInjector(index)
  }
}

extension LinuxError {
  /// Whether the way to the remote is what is missing, which may come.
  var isMissingRoute: Bool {
    [
      .networkUnreachable, .noRouteToHost, .addressNotAvailable, .networkDown, .hostIsDown,
    ].contains(errno)
  }
}
