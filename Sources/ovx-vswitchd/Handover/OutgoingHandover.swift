private import CLinux
internal import Logging
internal import OVXControl
internal import OVXHost
internal import OVXLinux
private import SystemPackage

/// The old daemon's part of a handover; see `HandoverMessage`.
///
/// The switch forwards until the new daemon is ready, while the control thread does nothing else:
/// what is configured does not change meanwhile. Then nobody reads, for as long as the tables take.
/// Whatever fails, this daemon goes on, unless the new one has said that it reads from now on.
struct OutgoingHandover: ~Copyable {
  /// Milliseconds that the new daemon has to say who it is; to be ready; and to take the tables.
  private static let greetingLimit = 1000
  private static let startLimit = 30_000
  private static let tableLimit = 5000

  private let socket: MessageSocket
  private let daemon: Daemon
  private let logger: Logger

  init(_ socket: consuming MessageSocket, _ daemon: Daemon, logger: Logger) {
    self.socket = socket
    self.daemon = daemon
    self.logger = logger
  }

  /// Why nothing comes of it.
  struct Failure: Error {
    let sentence: String
  }

  /// What of the daemon is the run directory's: descriptors that stay open.
  struct Doors {
    var lock: Int32
    var control: Int32
    var openControl: Int32
    var handover: Int32
  }

  /// Does it all.
  ///
  /// - Parameters:
  ///   - doors: What is the run directory's.
  ///   - options: What the daemon was started with; see `HandoverMessage.Hello`.
  ///   - whenDone: What to do when it has come about, before the new daemon says that it is ready.
  /// - Returns: Whether the new daemon has taken this one's place, which must not touch anything
  ///   any more.
  consuming func run(_ doors: Doors, options: [String], whenDone: () -> Void) -> Bool {
    do throws(Failure) {
      let program = try greet(options)
      logger.notice("another ovx-vswitchd, \(printable(program)), asks to take this one's place")
      do throws(ControlError) { try daemon.lend() } catch { throw Failure(sentence: error.message) }
      do throws(Failure) {
        try offer(doors)
        try handTables()
      } catch {
        // First of all frames.
        daemon.takeBack()
        throw error
      }
    } catch {
      logger.warning("the new ovx-vswitchd does not take this one's place: \(error.sentence)")
      try? socket.send(.cancelled(error.sentence))
      return false
    }
    for message in daemon.handedCounters where (try? socket.send(message)) == nil { break }
    daemon.giveUp()
    whenDone()
    return true
  }

  /// Returns the new daemon's version.
  private func greet(_ options: [String]) throws(Failure) -> String {
    socket.wait(upTo: Self.greetingLimit)
    guard case .hello(let hello)? = try receive() else {
      throw Failure(sentence: "it has not said what it is")
    }
    guard hello.version == HandoverMessage.version else {
      throw Failure(
        sentence:
          "it hands over in another way (\(hello.version)) than this one (\(HandoverMessage.version)); "
          + "restart ovx-vswitchd")
    }
    if let option = hello.options.first(where: { !options.contains($0) }) {
      throw Failure(
        sentence:
          "it is started with \(printable(option)), and this one is not; restart ovx-vswitchd to change that"
      )
    }
    if let option = options.first(where: { !hello.options.contains($0) }) {
      throw Failure(
        sentence:
          "it is started without \(option), which this one has; restart ovx-vswitchd to change that"
      )
    }
    return hello.program
  }

  /// Hands over what stays open, and waits until the new daemon has everything but the tables.
  private func offer(_ doors: Doors) throws(Failure) {
    var offers = daemon.handedDescriptors
    offers += [
      (.lock, doors.lock), (.control, doors.control), (.openControl, doors.openControl),
      (.handover, doors.handover),
    ]
    while !offers.isEmpty {
      let portion = offers.prefix(MessageSocket.descriptorLimit)
      try send(.descriptors(portion.map(\.0)), portion.map(\.1))
      offers.removeFirst(portion.count)
    }
    for message in daemon.handedAgent { try send(message) }
    try send(.offered)
    socket.wait(upTo: Self.startLimit)
    // All is read before anything is refused: what is unread when this end closes would be taken
    // for this daemon's death.
    var faults: [String: String] = [:]
    var isReady = false
    while !isReady {
      switch try receive() {
      case .fault(let port, let sentence): if !daemon.hasFault(port) { faults[port] = sentence }
      case .ready: isReady = true
      case .cancelled(let sentence): throw Failure(sentence: printable(sentence))
      default: throw Failure(sentence: "it says what makes no sense")
      }
    }
    try judge(faults)
  }

  /// Refuses a daemon that has ports out of service which this one has in service.
  ///
  /// What is in a container is its user's: he is not to keep the host from another version by what
  /// he makes of it. Where more than half of these fail, it is the new daemon's doing.
  private func judge(_ faults: [String: String]) throws(Failure) {
    guard !daemon.areContainersRestarted else {
      throw Failure(sentence: "a container was started anew meanwhile; try again")
    }
    let all = faults.sorted { $0.key < $1.key }
    let isGeneral =
      2 * all.count { daemon.isInContainer($0.key) } > max(daemon.containerPortCount, 1)
    for (port, sentence) in all {
      let words = "port \(printable(port)): \(printable(sentence))"
      guard daemon.isInContainer(port), !isGeneral else { throw Failure(sentence: words) }
      logger.warning("with the new ovx-vswitchd it is out of service: \(words)")
    }
  }

  /// Stops reading, hands the tables over, and waits until the new daemon reads.
  private func handTables() throws(Failure) {
    socket.wait(upTo: Self.tableLimit)
    // Frames wait for this thread from here on.
    ovx_take_short_turns(0)
    daemon.suspend()
    for message in daemon.handedTables { try send(message) }
    try send(.go)
    var isTaken = (try? receive()) == .took
    if !isTaken {
      // What it says from here on does not arrive, and it knows; what has arrived counts.
      socket.stopReceiving()
      isTaken = (try? receive()) == .took
      guard isTaken else { throw Failure(sentence: "it has not taken the tables in time") }
    }
    // Only its end can keep it from reading now, and that is heard of.
    socket.wait(upTo: 0)
    if (try? receive()) != .reads {
      throw Failure(sentence: "it has ended before it read anything")
    }
  }

  private func send(
    _ message: HandoverMessage, _ descriptors: [Int32] = []
  ) throws(Failure) {
    do throws(Errno) { try socket.send(message, descriptors) } catch {
      throw Failure(sentence: Self.reason(error))
    }
  }

  /// Receives a message; descriptors are none of this daemon's business, and are closed.
  private func receive() throws(Failure) -> HandoverMessage? {
    let message: MessageSocket.Message?
    do throws(Errno) { message = try socket.receive() } catch {
      throw Failure(sentence: Self.reason(error))
    }
    guard let message else { throw Failure(sentence: "it has ended") }
    for number in message.descriptors { _ = Descriptor(owning: number) }
    return HandoverMessage(bytes: message.bytes)
  }

  private static func reason(_ error: Errno) -> String {
    switch error {
    case .resourceTemporarilyUnavailable: "it has not answered in time"
    case .brokenPipe, .connectionReset: "it has ended"
    default: "\(error)"
    }
  }
}
