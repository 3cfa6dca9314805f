private import Glibc
internal import Logging
private import OVXControl
internal import OVXLinux

/// The one loop of the control thread: signals, the control socket, the kernel's news and the
/// switch's.
///
/// It sleeps in poll(2) until one of them has something, and does one thing after the other;
/// nothing it calls waits for a client.
struct ControlLoop: ~Copyable {
  private let signals: Signals
  private let confinement: Confinement
  private let server: ControlServer
  /// Where a daemon asks that is to take this one's place.
  private let handover: Descriptor
  private let lock: Int32
  /// What the daemon was started with.
  private let options: [String]
  private let daemon: Daemon
  private let log: LogDestination
  private let logger: Logger

  init(
    signals: consuming Signals, confinement: Confinement, server: ControlServer,
    handover: consuming Descriptor, lock: Int32, options: [String], daemon: Daemon,
    log: LogDestination, logger: Logger
  ) {
    self.handover = handover
    self.lock = lock
    self.options = options
    self.signals = signals
    self.confinement = confinement
    self.server = server
    self.daemon = daemon
    self.log = log
    self.logger = logger
  }

  /// Seconds that answers under way are given to leave once the daemon is to end.
  private static let farewellLimit: Int64 = 2

  /// Runs until a signal or a command ends it, and the answers under way have left.
  ///
  /// - Parameter whenHandedOver: What to do at once when another process has taken this one's
  ///   place; is given its number.
  /// - Returns: Whether that is why it has ended.
  func run(whenHandedOver: (Int32) -> Void) -> Bool {
    var isStopping = false
    var isHandedOver = false
    while !isStopping {
      var list = [pollfd(fd: signals.descriptor, events: Int16(POLLIN), revents: 0)]
      for descriptor in [confinement.descriptor, handover.rawValue] + daemon.descriptors {
        list.append(pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0))
      }
      let first = list.count
      if let teller = daemon.gatewayTeller, !server.isConnected(teller) {
        daemon.endGatewayReport()
      }
      daemon.watch.keep(server.watchedTables, interval: server.watchInterval)
      daemon.watch.publish(now: monotonicMilliseconds())
      let (examined, isConfigured) = daemon.watch.takePublished()
      let isAnyResumed = server.resumeHeld(examined: examined, isConfigured: isConfigured) {
        daemon.answer($0, of: $1, age: $2)
      }
      server.addDescriptors(to: &list)
      let now = monotonicMilliseconds()
      // What they have changed is to be told, too.
      let resumed: Int32 = isAnyResumed ? 0 : -1
      let timeouts = [
        resumed, server.timeout, daemon.timeout(now: now), daemon.watch.timeout(now: now),
      ]
      // As poll(2) has it, -1 is for ever.
      wait(&list, timeout: timeouts.filter { $0 >= 0 }.min() ?? -1)
      if list[0].revents != 0 { isStopping = takeSignals() }
      if list[1].revents != 0 { confinement.takeNews(logger) }
      daemon.takeNews(now: monotonicMilliseconds())
      serve(list[first...])
      isStopping = isStopping || daemon.isStopping
      if list[2].revents != 0, !isStopping, let socket = HandoverSocket.accept(handover.rawValue) {
        let process = Peer(connection: socket.rawValue)?.pid
        isHandedOver = handOver(to: socket) { if let process { whenHandedOver(process) } }
        isStopping = isHandedOver
      }
    }

    let end = monotonicSeconds() + Self.farewellLimit
    while server.hasOutput, monotonicSeconds() < end {
      var list: [pollfd] = []
      server.addDescriptors(to: &list)
      // Connections from here on, and requests, are the other daemon's.
      if isHandedOver { for place in 0..<2 { list[place].fd = -1 } }
      wait(&list, timeout: 100)
      serve(list[...])
    }
    return isHandedOver
  }

  private func handOver(to socket: consuming MessageSocket, whenDone: () -> Void) -> Bool {
    OutgoingHandover(socket, daemon, logger: logger).run(
      OutgoingHandover.Doors(
        lock: lock, control: server.listener, openControl: server.openListener,
        handover: handover.rawValue), options: options, whenDone: whenDone)
  }

  private func serve(_ list: ArraySlice<pollfd>) {
    server.serve(list, now: monotonicSeconds()) { daemon.answer($0, of: $1, age: $2) }
  }

  /// Returns whether one of them was to end the daemon.
  private func takeSignals() -> Bool {
    var isStopping = false
    while let signal = signals.next() {
      switch signal {
      case .stop:
        isStopping = true
      case .reopenLog:
        do { try log.reopen() } catch {
          logger.error("The log file cannot be opened anew: \(error)")
        }
      }
    }
    return isStopping
  }

  private func wait(_ list: inout [pollfd], timeout: Int32) {
    let count = unsafe list.withUnsafeMutableBufferPointer { buffer in
      unsafe poll(buffer.baseAddress, nfds_t(buffer.count), timeout)
    }
    guard count < 0 else { return }
    for index in list.indices { list[index].revents = 0 }
  }
}
