private import Glibc
internal import OVXControl
internal import OVXDatapath
internal import OVXHost
internal import OVXLinux

/// Begins captures for those who ask, each on the connection on which it was asked for.
struct CaptureRequests {
  /// Ports whose names the greeting has: the others are shown by their numbers.
  private static let nameLimit = 500

  private var nextNumber: UInt64 = 1

  /// Checks what a capture asks for.
  static func filter(_ program: [UInt64]) throws(ControlError) -> CaptureFilter {
    guard let filter = CaptureFilter(program) else {
      throw ControlError(
        "the program of \(program.count) instructions is none that the packet filter can run; "
          + "at most \(CaptureFilter.instructionLimit), each jumping ahead, the last returning")
    }
    return filter
  }

  /// Has the switch show frames on a connection, which gets the answer to its request first.
  ///
  /// - Parameters:
  ///   - target: A bridge or a port of the configuration; the bridge where both have the name.
  ///     `nil` for all, of drops.
  ///   - drops: Whether to show what is dropped, and nothing else.
  ///   - program: The packet filter's, empty for all frames.
  ///   - snapshotLength: Bytes of each frame at most.
  ///   - running: The switch.
  ///   - connection: The client's; stays the caller's to close.
  /// - Throws: Why there is nothing to see, or that there are too many captures.
  mutating func start(
    _ target: String?, drops: Bool, program: [UInt64], snapshotLength: Int,
    _ running: RunningSwitch,
    on connection: Int32
  ) throws(ControlError) {
    let filter = try Self.filter(program)
    let (place, start) =
      drops
      ? try describeDrops(target, running.reconciler)
      : try describe(target ?? "", running.reconciler)
    let greeting = try Response(.done([.capture(start)])).messageBytes()
    let own = fcntl(connection, F_DUPFD_CLOEXEC, 0)
    guard own >= 0 else {
      throw ControlError("no more files can be open; raise LimitNOFILE= of the service")
    }
    let capture = Capture(
      number: start.number, place: place, filter: filter, snapshotLength: snapshotLength,
      greeting: greeting, socket: Descriptor(owning: own))
    guard running.dataplane.start(capture) else {
      throw ControlError(
        "\(Switch.captureLimit) captures are running, and there can be no more; end one of them first"
      )
    }
    nextNumber += 1
  }

  private func describeDrops(
    _ target: String?, _ reconciler: Reconciler
  ) throws(ControlError) -> (Capture.Place, CaptureStart) {
    guard let target else {
      let names = reconciler.configuration.ports.keys.sorted().prefix(Self.nameLimit)
      return (
        .drops(nil),
        CaptureStart(
          number: nextNumber, subject: "what is dropped",
          ports: names.compactMap { name in
            reconciler.port(name).map { CaptureStart.Port(number: $0.rawValue, name: name) }
          })
      )
    }
    var (place, start) = try describe(target, reconciler)
    switch place {
    case .bridge(let bridge):
      start.subject = "what is dropped at bridge \(target)"
      place = .bridgeDrops(bridge)
    case .device(let port), .tunnel(let port):
      start.subject = "what is dropped at port \(target)"
      place = .drops(port)
    default: break
    }
    return (place, start)
  }

  private func describe(
    _ target: String, _ reconciler: Reconciler
  ) throws(ControlError) -> (Capture.Place, CaptureStart) {
    let configuration = reconciler.configuration
    func ports(_ names: [String]) -> [CaptureStart.Port] {
      names.compactMap { name in
        reconciler.port(name).map { CaptureStart.Port(number: $0.rawValue, name: name) }
      }
    }
    if configuration.bridges[target] != nil, let bridge = reconciler.bridge(target) {
      // As many as fit into the greeting; the others are shown by their numbers.
      let names = configuration.ports(of: target).map(\.name).prefix(Self.nameLimit)
      return (
        .bridge(bridge),
        CaptureStart(
          number: nextNumber, subject: "what enters bridge \(target)", ports: ports(Array(names)))
      )
    }
    guard let port = reconciler.port(target) else {
      throw ControlError("port \(target) is not in force, so there is nothing to see of it")
    }
    let isTunnel = reconciler.desired.tunnels[target] != nil
    return (
      isTunnel ? .tunnel(port) : .device(port),
      CaptureStart(
        number: nextNumber,
        subject: isTunnel ? "the datagrams of tunnel \(target)" : "the frames of port \(target)",
        ports: ports([target]))
    )
  }
}
