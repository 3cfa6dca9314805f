private import CLinux
private import Glibc
internal import OVXControl
internal import OVXHost
internal import OVXLinux
private import SystemPackage

/// The new daemon's part of a handover; see `HandoverMessage`.
///
/// As long as the old daemon lives, nothing is read before it has said so. If it dies, whenever
/// that may be, this daemon goes on as one that starts after a crash, with what it has been handed
/// until then.
struct IncomingHandover: ~Copyable {
  /// Milliseconds that the old daemon has for each message.
  private static let patience = 30_000
  /// Bytes of agents' updates that are kept until they can be taken.
  private static let agentLimit = 64 << 20

  private let socket: MessageSocket

  /// Asks the daemon of a run directory to hand over, and takes what is open.
  ///
  /// - Parameters:
  ///   - rundir: The directory.
  ///   - hello: What this daemon is.
  ///   - descriptors: Gets what the old daemon has open.
  ///   - agent: Gets what it knows from an agent: requests, as the control socket has them.
  /// - Returns: The handover that has begun; `nil` where no daemon runs any more.
  /// - Throws: Why the old one does not; it goes on.
  static func begin(
    in rundir: String, _ hello: HandoverMessage.Hello, _ descriptors: InheritedDescriptors,
    _ agent: inout [[UInt8]]
  ) throws(StartFailure) -> IncomingHandover? {
    guard let socket = try HandoverSocket.connect(in: rundir) else { return nil }
    socket.wait(upTo: Self.patience)
    let handover = IncomingHandover(socket: socket)
    do throws(Errno) { try handover.socket.send(.hello(hello)) } catch { return nil }
    guard try handover.takeOffer(descriptors, &agent) else { return nil }
    return handover
  }

  private init(socket: consuming MessageSocket) { self.socket = socket }

  /// Takes what is offered; `false` where the old daemon has died.
  private borrowing func takeOffer(
    _ descriptors: InheritedDescriptors, _ agent: inout [[UInt8]]
  ) throws(StartFailure) -> Bool {
    var agentSize = 0
    while let (message, numbers) = try receive() {
      if case .descriptors(let list) = message, list.count == numbers.count {
        for (descriptor, number) in zip(list, numbers) { descriptors.add(number, as: descriptor) }
        continue
      }
      for number in numbers { _ = Descriptor(owning: number) }
      switch message {
      case .agent(let update):
        agentSize += update.count
        guard agentSize <= Self.agentLimit else { throw Self.nonsense }
        agent.append(update)
      case .offered: return true
      case .cancelled(let sentence): throw Self.refusal(sentence)
      default: throw Self.nonsense
      }
    }
    descriptors.closeAll()
    return false
  }

  /// Takes the old daemon's place.
  ///
  /// - Parameters:
  ///   - faults: Why ports are not in service, by their names; ports that are in service with the
  ///     old daemon must not be among them.
  ///   - take: Takes a message with a table.
  ///   - resume: Has the switch read.
  /// - Throws: Why the old one goes on; nothing has been read then.
  consuming func takeOver(
    faults: [String: String], take: (HandoverMessage) -> Void, resume: () -> Void
  ) throws(StartFailure) {
    // A message that does not leave means an end, which receiving tells.
    for (port, sentence) in faults { try? socket.send(.fault(port: port, sentence: sentence)) }
    // Frames wait for this thread from here on.
    ovx_take_short_turns(0)
    try? socket.send(.ready)
    var isGiven = false
    while !isGiven, let (message, numbers) = try receive() {
      for number in numbers { _ = Descriptor(owning: number) }
      switch message {
      case .addresses, .neighbors: take(message)
      case .go: isGiven = true
      case .cancelled(let sentence): throw Self.refusal(sentence)
      default: throw Self.nonsense
      }
    }
    if isGiven, (try? socket.send(.took)) == nil {
      // Either it has died, or it has waited for too long and goes on.
      while let (message, _) = try receive() {
        if case .cancelled(let sentence) = message { throw Self.refusal(sentence) }
      }
    }
    resume()
    guard isGiven, (try? socket.send(.reads)) != nil else { return }
    // Until it has told all that it has to tell.
    while let received = try? receive() {
      for number in received.descriptors { _ = Descriptor(owning: number) }
      if case .counters = received.message { take(received.message) }
    }
  }

  /// The next message and its descriptors; `nil` where the old daemon has ended.
  private func receive() throws(StartFailure) -> (
    message: HandoverMessage, descriptors: [Int32]
  )? {
    let received: MessageSocket.Message?
    do throws(Errno) { received = try socket.receive() } catch {
      if error == .connectionReset || error == .brokenPipe { return nil }
      throw StartFailure("the daemon that runs does not hand over: \(error); it goes on")
    }
    guard let received else { return nil }
    guard let message = HandoverMessage(bytes: received.bytes) else {
      for number in received.descriptors { _ = Descriptor(owning: number) }
      throw Self.nonsense
    }
    return (message, received.descriptors)
  }

  private static func refusal(_ sentence: String) -> StartFailure {
    StartFailure("the daemon that runs goes on: \(printable(sentence))")
  }

  private static var nonsense: StartFailure {
    StartFailure(
      "the daemon that runs hands over what makes no sense, and goes on; restart ovx-vswitchd")
  }
}
