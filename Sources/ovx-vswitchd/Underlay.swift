internal import OVXDatapath
internal import OVXLinux
private import SystemPackage

/// The sockets by which tunnels receive and send, and what is known of the ways to the remote VTEPs.
///
/// Sockets belong to what they are for, not to tunnels: as many tunnels as want to share one listening socket (its
/// address and port), and one set of sending sockets towards a VTEP. A bound socket has a single source port, so a set
/// has several, and the flows of a tunnel are spread over them for the sake of routers that choose among equal ways by
/// ports.
///
/// What is no longer wanted is closed in two steps: `open` leaves it open, and `close` closes it, once the data plane
/// has a topology without it.
struct Underlay {
  /// The source ports of sending sockets (RFC 7348, section 5: the dynamic range of RFC 6335).
  private static let sourcePorts = 49152...65535

  /// The way to a VTEP.
  struct Way: Equatable {
    /// The address to send from.
    ///
    /// When the kernel would choose another one, the sockets are opened anew.
    var source: IPAddress
    /// The largest IP packet that gets through, as far as the kernel knows.
    var pathMTU: Int
    var innerMTU: Int
    /// The device that packets leave by.
    var device: String
    /// Whether less gets through than the device takes.
    ///
    /// The kernel forgets that without saying so.
    var isNarrow: Bool
  }

  /// The sockets towards a VTEP from one source address.
  private struct SocketSet: Hashable {
    var remote: Plan.Remote
    var source: IPAddress
  }

  private let dataplane: Switch
  /// Sending sockets at most.
  private let socketBudget: Int
  private var endpoints: Numbers<Plan.Endpoint>
  private var openEndpoints: Set<Plan.Endpoint> = []
  private var paths: NumberRanges<SocketSet>
  private var ways: [Plan.Remote: Way] = [:]
  private var sets: [Plan.Remote: SocketSet] = [:]
  private var leavingPaths: [Int] = []
  private(set) var endpointFaults: [Plan.Endpoint: Fault] = [:]
  private(set) var remoteFaults: [Plan.Remote: Fault] = [:]

  /// Makes an underlay without sockets.
  ///
  /// - Parameters:
  ///   - dataplane: Takes the sockets.
  ///   - descriptorLimit: Descriptors that the process may have; half of them are left to others.
  init(dataplane: Switch, descriptorLimit: Int) {
    self.dataplane = dataplane
    socketBudget = min(8192, max(16, descriptorLimit / 2))
    endpoints = Numbers(below: EndpointID.limit)
    // Twice the budget, because sockets are opened before the ones that they replace are closed.
    paths = NumberRanges(below: 2 * 8192)
  }

  /// The number of the socket that receives for an endpoint; `nil` while it is not open.
  func endpoint(_ endpoint: Plan.Endpoint) -> EndpointID? {
    guard openEndpoints.contains(endpoint), let number = endpoints[endpoint] else { return nil }
    return EndpointID(rawValue: UInt16(truncatingIfNeeded: number))
  }

  /// The numbers of the sockets towards a VTEP; `nil` while there is no way to it.
  func sockets(to remote: Plan.Remote) -> Range<UInt32>? {
    guard remoteFaults[remote] == nil, let set = sets[remote], let range = paths[set]
    else { return nil }
    return UInt32(range.lowerBound)..<UInt32(range.upperBound)
  }

  /// The way to a VTEP, as last known; `nil` where none has ever been.
  func way(to remote: Plan.Remote) -> Way? { ways[remote] }

  /// Whether there is a way that may widen without the kernel saying so.
  var hasNarrowWays: Bool { ways.values.contains(where: \.isNarrow) }

  /// Whether ways are other ones than when they were looked up, or something is waited for.
  func isChanged(_ plan: Plan, host: Host) -> Bool {
    guard endpointFaults.isEmpty, remoteFaults.isEmpty else { return true }
    return Set(plan.tunnels.values.flatMap(\.remotes)).contains { remote in
      (try? host.way(to: remote)) != ways[remote]
    }
  }

  /// Opens what a plan wants and is not open.
  ///
  /// - Parameters:
  ///   - plan: What is wanted.
  ///   - host: Knows the routes.
  ///   - isRefreshing: Whether routes may have changed, so that ways already known are looked up again.
  mutating func open(_ plan: Plan, host: Host, isRefreshing: Bool) {
    endpointFaults = [:]
    for endpoint in Set(plan.tunnels.values.map(\.endpoint)) where !openEndpoints.contains(endpoint)
    {
      do {
        try open(endpoint, host: host)
      } catch {
        endpointFaults[endpoint] = error
      }
    }
    let wanted = Set(plan.tunnels.values.flatMap(\.remotes))
    let count = Sizes.socketsPerRemote(remotes: wanted.count, budget: socketBudget)
    for remote in wanted
    where isRefreshing || remoteFaults[remote] != nil || sets[remote] == nil {
      do {
        try open(remote, count: count, host: host)
        remoteFaults[remote] = nil
      } catch {
        remoteFaults[remote] = error
      }
    }
    for set in sets.values { shrink(set, to: count) }
  }

  /// Closes what a plan does not want, and what has been replaced.
  ///
  /// The data plane has a topology that refers to none of it.
  mutating func close(exceptFor plan: Plan) {
    let wantedEndpoints = Set(plan.tunnels.values.map(\.endpoint))
    for endpoint in openEndpoints.subtracting(wantedEndpoints) {
      if let number = self.endpoint(endpoint) { dataplane.close(number) }
      openEndpoints.remove(endpoint)
    }
    for endpoint in Array(endpoints.names) where !openEndpoints.contains(endpoint) {
      endpoints.release(endpoint)
    }
    let wantedRemotes = Set(plan.tunnels.values.flatMap(\.remotes))
    for (remote, set) in sets where !wantedRemotes.contains(remote) {
      shrink(set, to: 0)
      sets[remote] = nil
    }
    ways = ways.filter { wantedRemotes.contains($0.key) }
    remoteFaults = remoteFaults.filter { wantedRemotes.contains($0.key) }
    for number in leavingPaths { dataplane.close(PathID(rawValue: UInt32(number))) }
    leavingPaths = []
    endpoints.rested()
    paths.rested()
  }

  /// The VTEP that a sending socket is for.
  func remote(of path: PathID) -> Plan.Remote? {
    sets.first { paths[$0.value]?.contains(Int(path.rawValue)) == true }?.key
  }

  // MARK: Receiving

  /// Finds out whether a socket to receive by could be opened.
  func probe(_ endpoint: Plan.Endpoint, host: Host) throws(Fault) {
    guard !openEndpoints.contains(endpoint) else { return }
    do { _ = try socket(endpoint) } catch { throw host.explain(error, endpoint) }
  }

  private mutating func open(_ endpoint: Plan.Endpoint, host: Host) throws(Fault) {
    guard let number = endpoints.number(for: endpoint) else {
      throw Fault(
        "there are no more than \(EndpointID.limit) pairs of local address and UDP port to receive by; "
          + "let tunnels share them", isAwaited: false)
    }
    do {
      let number = EndpointID(rawValue: UInt16(truncatingIfNeeded: number))
      try dataplane.open(number, socket: socket(endpoint))
    } catch {
      throw host.explain(error, endpoint)
    }
    openEndpoints.insert(endpoint)
  }

  private func socket(_ endpoint: Plan.Endpoint) throws(LinuxError) -> UDPSocket {
    // A socket of ours on the same port, for other addresses, is no obstacle; anybody else's is.
    let isShared = openEndpoints.contains {
      $0.port == endpoint.port && $0.isIPv6 == endpoint.isIPv6
    }
    return try UDPSocket.listen(
      local: endpoint.local, isIPv6: endpoint.isIPv6, port: endpoint.port, isShared: isShared)
  }

  // MARK: Sending

  private mutating func open(_ remote: Plan.Remote, count: Int, host: Host) throws(Fault) {
    let way = try host.way(to: remote)
    ways[remote] = way
    let set = SocketSet(remote: remote, source: way.source)
    if let old = sets[remote], old != set { shrink(old, to: 0) }
    sets[remote] = nil
    if paths[set] == nil {
      guard count > 0, let range = paths.assign(count, to: set) else {
        throw Fault(
          "more than \(socketBudget) remote VTEPs, each of which needs a socket; raise the limit "
            + "of open files (ulimit -n) up to 20000, or use fewer", isAwaited: false)
      }
      do {
        try open(range, set)
      } catch {
        shrink(set, to: 0)
        throw Fault(error, isAwaited: error.isMissingRoute)
      }
    }
    sets[remote] = set
  }

  /// Opens one socket for each number, each with a source port of its own.
  private func open(_ range: Range<Int>, _ set: SocketSet) throws(LinuxError) {
    let remote = set.remote
    // Where to begin differs between remotes, so that one who guesses ports has the more to guess.
    var offset = Int(truncatingIfNeeded: (remote.address.low ^ remote.address.high) &* 0x9E37_79B9)
    for number in range {
      var refusal: LinuxError?
      // A port that somebody else has is passed over; 64 in a row mean something else than bad luck.
      for _ in 0..<64 {
        let port = Self.sourcePorts.lowerBound + (offset & (Self.sourcePorts.count - 1))
        offset &+= 1
        do {
          let socket = try UDPSocket.connect(
            local: remote.local, remote: remote.address, port: remote.port,
            sourcePort: UInt16(truncatingIfNeeded: port), header: remote.header)
          try dataplane.open(PathID(rawValue: UInt32(number)), socket: socket)
          refusal = nil
          break
        } catch {
          refusal = error
          if error.errno != .addressInUse { break }
        }
      }
      if let refusal { throw refusal }
    }
  }

  /// Takes a set's last sockets out of use; `close` will close them.
  private mutating func shrink(_ set: SocketSet, to count: Int) {
    if let range = paths.release(set, keeping: count) { leavingPaths += range }
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
