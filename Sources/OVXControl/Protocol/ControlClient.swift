private import Glibc
package import SystemPackage

/// Asks a daemon, and waits for the answer no longer than the request says.
package struct ControlClient {
  package let socketPath: FilePath
  /// Where to ask where the other one must not be opened, if anywhere.
  private let openSocketPath: FilePath?
  /// Whether a daemon that is not there is waited for, as long as the request says.
  package var waitsForDaemon = false

  package init(runDirectory: String) {
    socketPath = ControlSocket.path(in: FilePath(runDirectory))
    openSocketPath = ControlSocket.openPath(in: FilePath(runDirectory))
  }

  /// Asks the daemon behind a socket that is named itself.
  package init(socket: String) {
    socketPath = FilePath(socket)
    openSocketPath = nil
  }

  /// Sends a request and returns the daemon's response.
  ///
  /// A request that waits until something is so is held by the daemon until it is. Where that
  /// daemon goes away meanwhile, the next one is asked, as long as there is time.
  ///
  /// - Throws: `.unavailable` where no daemon answers on the socket, `.timedOut` where the time
  ///   runs out; in words that name the socket and what to do.
  package func send(_ request: Request) throws(ControlError) -> Response {
    let deadline = Deadline(seconds: request.timeout)
    guard AwaitedNews(request) != nil else {
      return try exchange(request, on: try connect(deadline), deadline)
    }
    var response = try wait(request, deadline)
    if case .failed(let error) = response.outcome, error.kind == .timedOut {
      let sentence = "\(error.message) after \(deadline.text) s"
      response.outcome = .failed(ControlError(sentence, kind: .timedOut, record: error.record))
    }
    return response
  }

  private func wait(_ request: Request, _ deadline: Deadline) throws(ControlError) -> Response {
    var client = self
    while true {
      // The first daemon has to be there; from then on one is waited for.
      let connection = try client.connect(deadline)
      client.waitsForDaemon = true
      var rest = request
      rest.timeout = deadline.secondsLeft
      do {
        // It is the daemon that says when the time is over, and what was not so until then.
        return try exchange(
          rest, on: connection, Deadline(seconds: rest.timeout + Self.answerSeconds))
      } catch {
        // Where it was carried out after all, and only the answer is lost, the next daemon refuses
        // it or has nothing to do.
        guard error.kind == .unavailable, deadline.milliseconds > 0 else {
          throw error.kind == .timedOut ? timedOut(deadline) : error
        }
        _ = poll(nil, 0, min(deadline.milliseconds, 20))
      }
    }
  }

  /// Seconds that a daemon has to say that the time of a request that it holds is over.
  private static let answerSeconds = 5.0

  /// Has commands carried out, all of them or none.
  ///
  /// - Parameters:
  ///   - commands: One or more.
  ///   - timeout: Seconds that the daemon has for an answer.
  /// - Returns: As many replies.
  /// - Throws: What the daemon refuses, and as `send`.
  package func replies(
    to commands: [Command], timeout: Double
  ) throws(ControlError) -> [Reply] {
    switch try send(Request(commands: commands, timeout: timeout)).outcome {
    case .failed(let error): throw error
    case .done(let replies):
      guard replies.count == commands.count else {
        throw ControlError(
          "the daemon on \(socketPath) has answered \(replies.count) of \(commands.count) commands",
          kind: .unavailable)
      }
      return replies
    }
  }

  /// Sends a request whose answer goes on: gives the response, what has come behind it, and the
  /// connection.
  ///
  /// The connection does not block, and is the caller's to close. After a refusal there is none.
  package func open(
    _ request: Request
  ) throws(ControlError) -> (response: Response, rest: [UInt8], connection: FileDescriptor) {
    let deadline = Deadline(seconds: request.timeout)
    let bytes = try request.messageBytes()
    let connection = try connect(deadline)
    do throws(ControlError) {
      try write(bytes, to: connection, deadline)
      var decoder = MessageDecoder<Response>()
      let response = try read(from: connection, deadline, &decoder)
      return (response, decoder.takeRest(), connection)
    } catch {
      try? connection.close()
      throw error
    }
  }

  /// Sends a request on a connection, which is closed with the answer.
  private func exchange(
    _ request: Request, on connection: FileDescriptor, _ deadline: Deadline
  ) throws(ControlError) -> Response {
    defer { try? connection.close() }
    let bytes = try request.messageBytes()
    guard bytes.count <= MessageDecoder<Request>.byteLimit else {
      throw ControlError(
        "the request has \(bytes.count) bytes, and the daemon takes "
          + "\(MessageDecoder<Request>.byteLimit); split it into several"
      )
    }
    try write(bytes, to: connection, deadline)
    var decoder = MessageDecoder<Response>()
    let response = try read(from: connection, deadline, &decoder)
    if case .done = response.outcome, !request.dryRun,
      request.commands.contains(where: { if case .exit = $0 { true } else { false } })
    {
      try awaitEnd(of: connection, deadline)
    }
    return response
  }

  /// Waits until the daemon closes the connection, which it does when another one can take its
  /// place.
  private func awaitEnd(
    of connection: FileDescriptor, _ deadline: Deadline
  ) throws(ControlError) {
    var byte: UInt8 = 0
    while true {
      let count = unsafe recv(connection.rawValue, &byte, 1, 0)
      if count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR) { return }
      guard deadline.milliseconds > 0 else {
        throw ControlError(
          "the daemon on \(socketPath) ends, and has not ended within \(deadline.text) s; "
            + "-t waits for it longer", kind: .timedOut)
      }
      var entry = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&entry, 1, deadline.milliseconds)
    }
  }

  // MARK: Connecting

  private func connect(_ deadline: Deadline) throws(ControlError) -> FileDescriptor {
    let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | UInt32(O_NONBLOCK | O_CLOEXEC)), 0)
    guard number >= 0 else {
      throw ControlError("cannot make a socket: \(Errno(rawValue: errno))", kind: .unavailable)
    }
    let connection = FileDescriptor(rawValue: number)
    do throws(ControlError) {
      var path = socketPath
      while true {
        let failure = try unsafe ControlSocket.withAddress(of: path) { address, size in
          unsafe Glibc.connect(number, address, size) == 0 ? 0 : errno
        }
        switch failure {
        case 0: return connection
        case EACCES:
          guard let openSocketPath, path == socketPath else { throw unreachable(failure) }
          path = openSocketPath
        // A daemon that has no other socket.
        case ENOENT where path != socketPath: throw unreachable(EACCES)
        case EINTR: continue
        // The daemon's queue of connections is full; nothing announces room in it.
        case EAGAIN: try pause(deadline)
        case ENOENT, ECONNREFUSED:
          guard waitsForDaemon, deadline.milliseconds > 0 else { throw unreachable(failure) }
          _ = poll(nil, 0, min(deadline.milliseconds, 20))
        default: throw unreachable(failure)
        }
      }
    } catch {
      try? connection.close()
      throw error
    }
  }

  private func unreachable(_ cause: CInt) -> ControlError {
    let start = "start it with ovx-vswitchd, or name its directory with --rundir"
    let sentence =
      switch cause {
      case ENOENT:
        "no daemon answers on \(socketPath), which does not exist; \(start)"
      case ECONNREFUSED:
        "no daemon answers on \(socketPath), left behind by one that has ended; \(start)"
      case EACCES, EPERM:
        "no permission to use \(socketPath); run it as root or as a member of the socket's group"
      default:
        "no daemon answers on \(socketPath): \(Errno(rawValue: cause)); \(start)"
      }
    // A daemon may well answer there, but not this user: no use in waiting for one.
    let refused = cause == EACCES || cause == EPERM
    return ControlError(sentence, kind: refused ? .refused : .unavailable)
  }

  // MARK: Talking

  private func write(
    _ bytes: [UInt8],
    to connection: FileDescriptor,
    _ deadline: Deadline
  ) throws(ControlError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let sent = unsafe rest.withUnsafeBytes { buffer in
        // Without the flag a daemon that is gone would kill the program with SIGPIPE.
        unsafe Glibc.send(
          connection.rawValue,
          buffer.baseAddress,
          buffer.count,
          Int32(MSG_NOSIGNAL)
        )
      }
      if sent > 0 {
        rest = rest.dropFirst(sent)
      } else {
        switch errno {
        case EINTR: continue
        case EAGAIN: try wait(for: Int16(POLLOUT), on: connection, deadline)
        // The daemon may have refused the request before it had all of it: its answer is still to
        // be read.
        case EPIPE, ECONNRESET: return
        default: throw lost(Errno(rawValue: errno).description)
        }
      }
    }
  }

  private func read(
    from connection: FileDescriptor,
    _ deadline: Deadline,
    _ decoder: inout MessageDecoder<Response>
  ) throws(ControlError) -> Response {
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = unsafe chunk.withUnsafeMutableBytes { buffer in
        unsafe recv(connection.rawValue, buffer.baseAddress, buffer.count, 0)
      }
      if count > 0 {
        decoder.append(chunk[..<count])
        if let response = try decoder.next() { return response }
      } else if count == 0 {
        throw lost("it closed the connection")
      } else {
        switch errno {
        case EINTR: continue
        case EAGAIN: try wait(for: Int16(POLLIN), on: connection, deadline)
        default: throw lost(Errno(rawValue: errno).description)
        }
      }
    }
  }

  private func lost(_ what: String) -> ControlError {
    ControlError(
      "the daemon on \(socketPath) did not answer: \(what); "
        + "whether the change is in force, \"ovx-ctl show\" tells",
      kind: .unavailable
    )
  }

  // MARK: Waiting

  private func wait(
    for events: Int16,
    on connection: FileDescriptor,
    _ deadline: Deadline
  ) throws(ControlError) {
    var entry = pollfd(fd: connection.rawValue, events: events, revents: 0)
    let left = deadline.milliseconds
    guard left > 0 else { throw timedOut(deadline) }
    _ = unsafe poll(&entry, 1, left)
  }

  private func pause(_ deadline: Deadline) throws(ControlError) {
    let left = deadline.milliseconds
    guard left > 0 else { throw timedOut(deadline) }
    _ = poll(nil, 0, min(left, 20))
  }

  private func timedOut(_ deadline: Deadline) -> ControlError {
    ControlError(
      "the daemon on \(socketPath) did not answer within \(deadline.text) s; "
        + "-t gives it longer, and whether the change is in force, \"ovx-ctl show\" tells",
      kind: .timedOut
    )
  }
}

/// A point in time by which something must have happened.
private struct Deadline {
  private let seconds: Double
  private let end: ContinuousClock.Instant

  init(seconds: Double) {
    self.seconds =
      Request.timeoutRange.contains(seconds) ? seconds : Request.timeoutRange.upperBound
    end = .now + .seconds(self.seconds)
  }

  /// Milliseconds that are left, rounded up, 0 when there are none, as `poll` wants them.
  var milliseconds: CInt {
    let left = ContinuousClock.now.duration(to: end)
    guard left > .zero else { return 0 }
    return CInt(clamping: Int((left / .milliseconds(1)).rounded(.up)))
  }

  /// Seconds that are left, 0 when there are none.
  var secondsLeft: Double { max(0, ContinuousClock.now.duration(to: end) / .seconds(1)) }

  /// The time given, without a needless fraction.
  var text: String {
    seconds == seconds.rounded() ? String(Int(clamping: Int64(seconds))) : String(seconds)
  }
}
