import Glibc
import OVXControl
import SystemPackage
import Testing

/// A daemon's socket, with a thread behind it that plays the daemon.
private final class FakeDaemon {
  private let scratch: Scratch
  let path: FilePath
  private let listener: Int32

  var directory: String { scratch.path.string }

  init(backlog: Int32 = 4) throws {
    scratch = try Scratch()
    path = ControlSocket.path(in: scratch.path)
    listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    let number = listener
    let bound = try unsafe ControlSocket.withAddress(of: path) { address, size in
      unsafe bind(number, address, size) == 0
    }
    try #require(bound)
    try #require(listen(listener, backlog) == 0)
  }

  /// Accepts one client and does with it as told.
  func serve(_ body: @escaping @Sendable (FileDescriptor) -> Void) {
    serve(times: 1) { client, _ in body(client) }
  }

  /// Accepts clients one after another and does with them as told.
  func serve(times: Int, _ body: @escaping @Sendable (FileDescriptor, Int) -> Void) {
    // The thread may outlive the daemon, and the number of a closed socket may become another
    // one's.
    let listener = dup(listener)
    Thread.run {
      defer { close(listener) }
      for number in 0..<times {
        let client = accept(listener, nil, nil)
        guard client >= 0 else { return }
        body(FileDescriptor(rawValue: client), number)
        close(client)
      }
    }
  }

  deinit {
    // Wakes a thread that is still waiting for a client.
    shutdown(listener, Int32(SHUT_RDWR))
    close(listener)
  }
}

/// A detached POSIX thread for one closure.
private enum Thread {
  private final class Body {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
  }

  static func run(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let context = unsafe Unmanaged.passRetained(Body(body)).toOpaque()
    unsafe pthread_create(
      &thread, nil,
      { context in
        if let context = unsafe context {
          unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run()
        }
        return nil
      }, context)
    pthread_detach(thread)
  }
}

private func receive(from client: FileDescriptor) -> Request? {
  var decoder = MessageDecoder<Request>()
  var chunk = [UInt8](repeating: 0, count: 4096)
  while true {
    guard
      let count = try? unsafe chunk.withUnsafeMutableBytes({ try unsafe client.read(into: $0) }),
      count > 0
    else { return nil }
    decoder.append(chunk[..<count])
    if let request = try? decoder.next() { return request }
  }
}

/// Sends to a client that may have gone, which is no reason for a test to die of SIGPIPE.
private func answer(_ client: FileDescriptor, _ bytes: [UInt8]) {
  _ = unsafe bytes.withUnsafeBytes { buffer in
    unsafe send(client.rawValue, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL))
  }
}

@Suite struct ControlClientTests {
  private func failure(_ client: ControlClient, _ request: Request) -> ControlError? {
    do {
      let response = try client.send(request)
      Issue.record("there was an answer: \(response)")
      return nil
    } catch {
      return error
    }
  }

  /// The answer to `exit` is waited for until the daemon has gone, which the end of the connection
  /// tells.
  @Test func exitWaitsForTheEnd() throws {
    let daemon = try FakeDaemon()
    daemon.serve { client in
      _ = receive(from: client)
      if let bytes = try? Response(.done([.done])).messageBytes() { answer(client, bytes) }
      usleep(300_000)
    }
    let start = ContinuousClock.now
    let client = ControlClient(runDirectory: daemon.directory)
    #expect(
      try client.send(Request(commands: [.exit(cleanup: false)])) == Response(.done([.done])))
    #expect(ContinuousClock.now - start >= .milliseconds(250))
  }

  @Test func exitThatNeverEndsTimesOut() throws {
    let daemon = try FakeDaemon()
    daemon.serve { client in
      _ = receive(from: client)
      if let bytes = try? Response(.done([.done])).messageBytes() { answer(client, bytes) }
      usleep(1_500_000)
    }
    let client = ControlClient(runDirectory: daemon.directory)
    #expect {
      try client.send(Request(commands: [.exit(cleanup: false)], timeout: 0.2))
    } throws: {
      ($0 as? ControlError)?.kind == .timedOut
    }
  }

  @Test func anAnswerComesBackInPieces() throws {
    let daemon = try FakeDaemon()
    daemon.serve { client in
      guard let request = receive(from: client),
        let bytes = try? Response(.done([.names(["\(request.commands.count)"])])).messageBytes()
      else { return }
      for byte in bytes { answer(client, [byte]) }
    }
    let client = ControlClient(runDirectory: daemon.directory)
    // Larger than a socket's buffer, so that the writing has to wait for the reading.
    let commands = Array(
      repeating: Command.listPorts(bridge: String(repeating: "x", count: 100)), count: 6000)
    let response = try client.send(Request(commands: commands))
    #expect(response.outcome == .done([.names(["6000"])]))
  }

  private func wait(_ timeout: Double) -> Request {
    Request(commands: [.waitUntil(table: "port", record: "p", conditions: [])], timeout: timeout)
  }

  /// A daemon that goes away while it holds a request is followed by another one, which is told how
  /// much time is left.
  @Test func theNextDaemonIsAsked() throws {
    let daemon = try FakeDaemon()
    daemon.serve(times: 3) { client, number in
      guard let request = receive(from: client), request.commands == wait(1).commands else {
        return
      }
      usleep(100_000)
      let isInTime = (29.0...30).contains(request.timeout) && (number == 0 || request.timeout < 30)
      guard number == 2, isInTime, let bytes = try? Response(.done([.done])).messageBytes() else {
        return
      }
      answer(client, bytes)
    }
    let client = ControlClient(runDirectory: daemon.directory)
    #expect(try client.send(wait(30)).outcome == .done([.done]))

    // Any other request is asked once.
    daemon.serve { client in _ = receive(from: client) }
    #expect(failure(client, Request(commands: [.show]))?.kind == .unavailable)
  }

  /// It is the daemon that says when the time is over, and what was not so.
  @Test func waitingEndsInTime() throws {
    let daemon = try FakeDaemon()
    daemon.serve { client in
      _ = receive(from: client)
      usleep(350_000)
      let notYet = Response(.failed(ControlError("tag of Port p is still []", kind: .timedOut)))
      if let bytes = try? notYet.messageBytes() { answer(client, bytes) }
    }
    let client = ControlClient(runDirectory: daemon.directory)
    let response = try client.send(wait(0.3))
    #expect(response.exitStatus == 75)
    #expect(
      response.outcome
        == .failed(ControlError("tag of Port p is still [] after 0.3 s", kind: .timedOut)))

    // One that goes and does not come back.
    let directory = try {
      let daemon = try FakeDaemon()
      daemon.serve { client in _ = receive(from: client) }
      let directory = daemon.directory
      let error = failure(ControlClient(runDirectory: directory), wait(0))
      #expect(error?.kind == .unavailable)
      return directory
    }()
    #expect(failure(ControlClient(runDirectory: directory), wait(30))?.kind == .unavailable)
  }

  @Test func noSocket() throws {
    let error = failure(ControlClient(runDirectory: "/nowhere"), Request(commands: [.show]))
    #expect(error?.kind == .unavailable)
    #expect(
      error?.message
        == "no daemon answers on /nowhere/vswitchd.sock, which does not exist; "
        + "start it with ovx-vswitchd, or name its directory with --rundir")
  }

  @Test func aSocketLeftBehind() throws {
    let directory = try {
      let daemon = try FakeDaemon(backlog: 0)
      let directory = daemon.directory + "-left"
      try #require(unsafe mkdir(directory, 0o700) == 0)
      try #require(unsafe rename(daemon.path.string, directory + "/vswitchd.sock") == 0)
      return directory
    }()
    defer {
      _ = unsafe unlink(directory + "/vswitchd.sock")
      _ = unsafe rmdir(directory)
    }
    let error = failure(ControlClient(runDirectory: directory), Request(commands: [.show]))
    #expect(error?.kind == .unavailable)
    #expect(
      error?.message
        == "no daemon answers on \(directory)/vswitchd.sock, left behind by one that has ended; "
        + "start it with ovx-vswitchd, or name its directory with --rundir")
  }

  @Test func aPathThatIsTooLong() {
    let directory = "/" + String(repeating: "d", count: 93)
    let error = failure(ControlClient(runDirectory: directory), Request(commands: [.show]))
    #expect(
      error?.message
        == "the path of the control socket, \(directory)/vswitchd.sock, has 108 bytes, but a socket's "
        + "address has room for 107; name a shorter directory with --rundir")
  }

  @Test func aDaemonThatHangsUp() throws {
    let daemon = try FakeDaemon()
    daemon.serve { client in
      _ = receive(from: client)
      answer(client, Array("{\"version\":1,".utf8))
    }
    let error = failure(
      ControlClient(runDirectory: daemon.directory), Request(commands: [.show]))
    #expect(error?.kind == .unavailable)
    #expect(
      error?.message
        == "the daemon on \(daemon.path) did not answer: it closed the connection; "
        + "whether the change is in force, \"ovx-ctl show\" tells")
  }

  @Test func aDaemonThatSpeaksNonsense() throws {
    let daemon = try FakeDaemon()
    daemon.serve { client in answer(client, Array("HTTP/1.1 200 OK\r\n\r\n".utf8)) }
    let error = failure(
      ControlClient(runDirectory: daemon.directory), Request(commands: [.show]))
    #expect(error?.message.hasPrefix("a message on the control socket is not understood: ") == true)
  }

  @Test func aDaemonThatIsSilent() throws {
    // Nobody accepts; the kernel does, until its queue is full.
    let daemon = try FakeDaemon()
    let clock = ContinuousClock()
    let took = clock.measure {
      let error = failure(
        ControlClient(runDirectory: daemon.directory),
        Request(commands: [.show], timeout: 0.25))
      #expect(error?.kind == .timedOut)
      #expect(
        error?.message
          == "the daemon on \(daemon.path) did not answer within 0.25 s; "
          + "-t gives it longer, and whether the change is in force, \"ovx-ctl show\" tells")
    }
    #expect(took >= .milliseconds(250) && took < .seconds(5))
  }

  @Test func aFullQueueOfConnections() throws {
    let daemon = try FakeDaemon(backlog: 0)
    var fillers: [Int32] = []
    defer { for filler in fillers { close(filler) } }
    while fillers.count < 64 {
      let filler = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | UInt32(O_NONBLOCK)), 0)
      fillers.append(filler)
      let connected = try unsafe ControlSocket.withAddress(of: daemon.path) { address, size in
        unsafe connect(filler, address, size) == 0
      }
      if !connected { break }
    }
    let error = failure(
      ControlClient(runDirectory: daemon.directory), Request(commands: [.show], timeout: 0.1)
    )
    #expect(error?.kind == .timedOut)
  }

  @Test func aRequestThatIsTooLong() throws {
    let daemon = try FakeDaemon()
    let huge = Request(commands: [.listPorts(bridge: String(repeating: "x", count: 1 << 20))])
    let error = failure(ControlClient(runDirectory: daemon.directory), huge)
    #expect(error?.message.hasSuffix("and the daemon takes 1048576; split it into several") == true)
  }
}
