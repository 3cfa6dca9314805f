internal import Glibc
internal import Logging
internal import OVXControl
internal import OVXHost
private import OVXLinux

/// The control sockets and the programs connected to them.
///
/// One thread serves all of them, so nothing here ever waits for one: descriptors do not block, and
/// what has not arrived or cannot leave yet stays in a buffer of bounded size. A client has one
/// request in progress; until its answer has left, nothing more is read from it, so the kernel's
/// socket buffer is all that a client can fill.
///
/// Answers are made in pieces, as clients take them, for `sliceLimit` milliseconds at a time;
/// requests go before that, so a short one waits for a piece and not for somebody else's table.
/// Memory is bounded over all clients together: while answers hold more than `answerLimit` bytes,
/// requests whose answer may be long wait, and while requests that have arrived in part hold more
/// than `requestLimit`, the one that has been on its way for the longest time is given up. A client
/// that takes no piece of its answer for `stallLimit` seconds, or for `pressedLimit` while others
/// wait for memory, is disconnected; when one too many connects, the one that has been idle for the
/// longest time makes room. A client that watches tables stays connected however slowly it reads:
/// what is kept for all of them together is bounded (`ChangeLog`), a snapshot that nobody takes is
/// given up, and the client is told that it has missed something.
///
/// A request that waits until something is so (`wait-until`) is held until there is news of what it
/// waits for, or until its time is over. It is looked at with each change that watchers are told,
/// so that it misses none that they see.
///
/// Who may do nothing (`ControlRights`) is told so as soon as he has connected, and is no client:
/// he costs no memory and takes nobody's place. He waits in the queue of the open socket, in which
/// nobody waits who may open the other one. Clients who may only look make room for each other, and
/// for those who may change something, never the other way round.
final class ControlServer {
  static let clientLimit = 256
  /// Clients who may only look, among them.
  static let readerLimit = 128
  /// Seconds for which a client may leave an answer unread, or a request unfinished.
  static let stallLimit: Int64 = 30
  /// Seconds for which it may leave one unread while others wait for the memory that it holds.
  static let pressedLimit: Int64 = 2
  /// Bytes that answers hold together, about, from which on no more long ones are begun.
  static let answerLimit = 64 << 20
  /// Bytes of requests that are not complete, together.
  static let requestLimit = 16 << 20
  /// Milliseconds that answers are made for before others have their turn.
  static let sliceLimit: Int64 = 10
  /// Bytes that are read at a time.
  private static let readSize = 65_536

  /// Who asks for something.
  struct Caller {
    let peer: Peer
    let right: Right
    let connection: Int32
    /// The client's number, which no other has had.
    let client: UInt64
    /// How many clients watch something.
    let watchCount: Int
    /// Those of them who may only look.
    let readerWatchCount: Int
  }

  /// What becomes of a request.
  enum Outcome {
    case response(AnswerStream)
    /// What was asked for holds for as long as the client is connected, and takes the place of
    /// another one's.
    case lasting(AnswerStream)
    /// It is answered with `done`, and what follows goes on from there.
    case watch(WatchStream)
    /// The connection's other end is somebody else's business from now on, who has a descriptor of
    /// his own.
    case elsewhere
    /// It is to be asked for again when there is news.
    case later
    /// It is to be asked for again with the news that it waits for, and when its time is over.
    case held(AwaitedNews)
  }

  /// Does what a request of a connection asks for, or what it has asked for so many milliseconds
  /// ago.
  typealias Answer = (Request, Caller, Int64) -> Outcome

  let listener: Int32
  /// For everybody.
  let openListener: Int32
  let rights: ControlRights
  /// What strangers are told.
  let refusal: [UInt8]
  var strangers: StrangerLog
  /// What watchers are told.
  let log: ChangeLog
  /// Descriptors that are kept for clients to come in by when ports and tunnels have all others:
  /// without them nobody could remove any of those.
  var spares: [Int32] = []
  static let spareLimit = 8
  var clients: [Client] = []
  var nextNumber: UInt64 = 1
  private var buffer = [UInt8](repeating: 0, count: readSize)
  /// The client whose answer is gone on with first.
  private var turn = 0

  /// Listens at two paths, in place of sockets that a former daemon left there.
  ///
  /// The run directory's lock is held.
  ///
  /// - Parameters:
  ///   - path: Where those connect who may change something.
  ///   - openPath: Where everybody may connect.
  ///   - inherited: May have the sockets of a former daemon, in which clients wait.
  ///   - rights: Who may do what.
  ///   - log: What watchers are told.
  ///   - events: Takes who was refused.
  ///   - logger: Takes what an operator should know.
  /// - Throws: Why nobody could connect there.
  init(
    path: String, openPath: String, inherited: InheritedDescriptors, rights: ControlRights,
    log: ChangeLog, events: EventHistory, logger: Logger
  ) throws(StartFailure) {
    self.log = log
    self.rights = rights
    strangers = StrangerLog(logger, events: events)
    refusal = (try? Response(.failed(rights.refusal(of: path))).messageBytes()) ?? []
    if let socket = inherited.take(.control), let openSocket = inherited.take(.openControl) {
      listener = socket.release()
      openListener = openSocket.release()
    } else {
      listener = try Self.listen(at: path, mode: 0o660)
      openListener = try Self.listen(at: openPath, mode: 0o666)
    }
    if let group = rights.changers, let failure = group.take(over: path) {
      logger.warning(
        "the control socket \(path) cannot be given to the group \"\(group.name)\" (\(failure)), whose members share \(openPath) with everybody; make the daemon a member of the group (SupplementaryGroups= of the service)"
      )
    }
    keepSpares()
  }

  deinit {
    close(listener)
    close(openListener)
    for spare in spares { close(spare) }
    for client in clients { close(client.descriptor) }
  }

  /// Ends all connections, and listens no more.
  func disconnectAll() {
    for client in clients { close(client.descriptor) }
    clients.removeAll()
  }

  /// Whether an answer is still on its way to a client.
  var hasOutput: Bool { clients.contains { $0.watch == nil && $0.hasOutput(log) } }

  /// What is watched by any client.
  var watchedTables: Set<WatchedTable> {
    clients.reduce(into: []) { $0.formUnion($1.watch?.tables ?? []) }
  }

  /// The shortest interval, in milliseconds, at which a client wants to see counters; `nil` where
  /// none does.
  var watchInterval: Int64? {
    clients.compactMap { client in
      client.watch.flatMap { $0.tables.contains(.statistics) ? $0.interval : nil }
    }.min()
  }

  /// Whether answers hold as much memory as they may.
  private var isFull: Bool { clients.reduce(0) { $0 + $1.cost } >= Self.answerLimit }

  /// The milliseconds after which `serve` has to be called whatever poll(2) says: -1 for never.
  var timeout: Int32 {
    if clients.contains(where: {
      $0.mayHoldRequest && !$0.hasOutput(log) && $0.waiting == nil && $0.postponed == nil
    }) {
      return 0
    }
    if clients.contains(where: { $0.waiting != nil }), !isFull { return 0 }
    var times: [Int64] = []
    if clients.contains(where: { $0.postponed != nil }) { times.append(100) }
    if clients.contains(where: { $0.waiting != nil }) { times.append(250) }
    if clients.contains(where: { $0.hasOutput(log) || $0.decoder.isMidMessage }) {
      times.append(1000)
    }
    if let look = clients.compactMap({ $0.held?.nextLook }).min() {
      times.append(max(0, look - monotonicMilliseconds()))
    }
    return times.min().map { Int32(clamping: $0) } ?? -1
  }

  /// Adds what is to be polled for: the listening sockets, then each client.
  func addDescriptors(to list: inout [pollfd]) {
    list.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0))
    list.append(pollfd(fd: openListener, events: Int16(POLLIN), revents: 0))
    for client in clients {
      // Whoever waits for memory, or for news, is only looked at for whether he has gone.
      let isWaiting = client.waiting != nil || client.postponed != nil || client.held != nil
      let events = client.hasOutput(log) ? POLLOUT : isWaiting ? 0 : POLLIN
      list.append(pollfd(fd: client.descriptor, events: Int16(events), revents: 0))
    }
  }

  /// Serves everyone for whom poll(2) reported something.
  ///
  /// - Parameters:
  ///   - list: What `addDescriptors` added, in the same order.
  ///   - now: Seconds on the monotonic clock.
  ///   - answer: Says what becomes of requests.
  func serve(_ list: ArraySlice<pollfd>, now: Int64, answer: Answer) {
    let doors = list.prefix(2)
    guard let door = doors.first, let openDoor = doors.last else { return }
    // Those who want something new, then those whose answers go on.
    var goingOn: [Int] = []
    for (index, entry) in zip(clients.indices, list.dropFirst(2)) {
      if clients[index].hasOutput(log) {
        if entry.revents != 0 { goingOn.append(index) }
      } else if entry.revents != 0 || clients[index].mayHoldRequest {
        takeRequest(index, now: now, answer: answer)
        if clients[index].hasOutput(log) { goingOn.append(index) }
      }
    }
    goOn(goingOn, now: now)
    for index in clients.indices where now - clients[index].lastActive > Self.pressedLimit {
      clients[index].watch?.fallBehind()
    }
    let limit =
      clients.contains { $0.waiting != nil } && isFull ? Self.pressedLimit : Self.stallLimit
    for client in clients where isFinished(client, now: now, limit) { close(client.descriptor) }
    clients.removeAll { isFinished($0, now: now, limit) }
    dropUnfinished()
    if door.revents != 0 { accept(on: listener, atMost: Self.clientLimit, now: now) }
    if openDoor.revents != 0 { accept(on: openListener, atMost: Self.strangerLimit, now: now) }
    strangers.tell(now: now)
    keepSpares()
  }

  /// Sends what there is, and makes more of it while there is time: short answers first, and each
  /// time another client's.
  private func goOn(_ indices: [Int], now: Int64) {
    let end = monotonicMilliseconds() + Self.sliceLimit
    for isTable in [false, true] {
      let those = indices.filter { clients[$0].isTable == isTable }
      let start = those.firstIndex { $0 >= turn } ?? 0
      for index in those[start...] + those[..<start] {
        guard monotonicMilliseconds() < end else {
          turn = index
          return
        }
        // Most answers are of few pieces.
        for _ in 0..<4 where clients[index].hasOutput(log) {
          if !transmit(index, now: now) { break }
        }
      }
    }
    turn = 0
  }

  /// The client as whoever answers sees him.
  private func caller(_ index: Int) -> Caller {
    let watching = clients.filter { $0.watch != nil }
    return Caller(
      peer: clients[index].peer, right: clients[index].right,
      connection: clients[index].descriptor, client: clients[index].number,
      watchCount: watching.count,
      readerWatchCount: watching.count { $0.right == .look })
  }

  func takeRequest(_ index: Int, now: Int64, answer: Answer) {
    guard clients[index].watch == nil else {
      // It has hung up, or says something that nobody is going to answer.
      clients[index].watch = nil
      return hangUp(index)
    }
    guard clients[index].held == nil || clients[index].mayHoldRequest else {
      // It has given up waiting.
      return hangUp(index)
    }
    if !clients[index].mayHoldRequest { receive(index, now: now) }
    // One request each turn: no client waits for more than one of everybody else's.
    do throws(ControlError) {
      let held = clients[index].held
      var request = held?.request ?? clients[index].waiting ?? clients[index].postponed?.request
      let time = held?.time ?? clients[index].postponed?.time ?? monotonicMilliseconds()
      if request == nil { request = try clients[index].decoder.next() }
      clients[index].mayHoldRequest = request != nil
      clients[index].requestStart =
        clients[index].decoder.isMidMessage ? clients[index].requestStart ?? now : nil
      guard let request else { return }
      clients[index].waiting = nil
      clients[index].postponed = nil
      clients[index].held = nil
      let descriptor = clients[index].descriptor
      if hasHungUp(descriptor) {
        // Whoever has given up waiting must not see his command carried out afterwards.
        clients[index].mayHoldRequest = false
        clients[index].isClosing = true
        return
      }
      if request.mayHaveLongAnswer, isFull {
        clients[index].waiting = request
        return
      }
      switch answer(request, caller(index), monotonicMilliseconds() - time) {
      case .response(let response):
        clients[index].answer = response
        clients[index].isTable = request.mayHaveTable
        clients[index].lastActive = now
      case .lasting(let response):
        for other in clients.indices { clients[other].isLasting = other == index }
        clients[index].answer = response
        clients[index].lastActive = now
      case .watch(let watch):
        clients[index].answer = AnswerStream(Response(.done([.done])))
        clients[index].watch = watch
        clients[index].isTable = true
        clients[index].mayHoldRequest = false
        clients[index].lastActive = now
      case .later:
        clients[index].postponed = (request, time)
      case .held(let news):
        let size = clients[index].decoder.messageLength
        if let refusal = refusalToHold(size, right: clients[index].right) { throw refusal }
        clients[index].held = HeldRequest(
          request, news, size: size, time: time, now: monotonicMilliseconds())
        clients[index].mayHoldRequest = false
        clients[index].lastActive = now
      case .elsewhere:
        clients[index].mayHoldRequest = false
        clients[index].isClosing = true
      }
    } catch {
      clients[index].mayHoldRequest = false
      clients[index].isClosing = true
      clients[index].answer = AnswerStream(Response(.failed(error)))
      clients[index].lastActive = now
    }
  }

  /// Whether the other end is closed for both directions, not only for sending.
  private func hasHungUp(_ descriptor: Int32) -> Bool {
    var entry = pollfd(fd: descriptor, events: 0, revents: 0)
    return unsafe poll(&entry, 1, 0) > 0 && Int32(entry.revents) & POLLHUP != 0
  }

  private func receive(_ index: Int, now: Int64) {
    let descriptor = clients[index].descriptor
    let count = unsafe buffer.withUnsafeMutableBytes {
      unsafe read(descriptor, $0.baseAddress, $0.count)
    }
    if count > 0 {
      clients[index].decoder.append(buffer[..<count])
      clients[index].lastActive = now
    } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
      clients[index].isClosing = true
    }
  }

  /// Sends what is left of a piece, or makes the next one and sends what there is room for.
  ///
  /// Returns whether all of it has left.
  private func transmit(_ index: Int, now: Int64) -> Bool {
    if clients[index].sentCount == clients[index].output.count {
      do throws(ControlError) {
        clients[index].output = try clients[index].answer?.next() ?? []
        clients[index].sentCount = 0
        if clients[index].output.isEmpty {
          clients[index].answer = nil
          clients[index].output = try clients[index].watch?.takePiece(log) ?? []
        }
      } catch {
        hangUp(index)
        return false
      }
    }
    while clients[index].sentCount < clients[index].output.count {
      let client = clients[index]
      let count = unsafe client.output.withUnsafeBytes { bytes in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[client.sentCount...])
        return unsafe write(client.descriptor, rest.baseAddress, rest.count)
      }
      if count > 0 {
        clients[index].sentCount += count
      } else if errno == EAGAIN {
        return false
      } else if errno != EINTR {
        hangUp(index)
        return false
      }
    }
    // A whole piece is what counts: byte by byte, a client could hold its table for ever.
    clients[index].lastActive = now
    clients[index].output = []
    clients[index].sentCount = 0
    return true
  }

  /// Has nothing more to do with a client, who is gone, or has half an answer.
  private func hangUp(_ index: Int) {
    clients[index].answer = nil
    clients[index].held = nil
    clients[index].watch = nil
    clients[index].output = []
    clients[index].sentCount = 0
    clients[index].mayHoldRequest = false
    clients[index].isClosing = true
  }

  private func isFinished(_ client: Client, now: Int64, _ limit: Int64) -> Bool {
    // Who watches may be as slow as he likes: he is told what he misses.
    if client.watch != nil || client.held != nil { return client.isClosing }
    if client.hasOutput(log) { return now - client.lastActive > limit }
    if client.waiting != nil { return false }
    return (client.isClosing && !client.mayHoldRequest)
      || client.requestStart.map { now - $0 > Self.stallLimit } ?? false
  }
}

extension Request {
  /// Whether its answer may describe all of the switch or of its configuration, or a large part.
  fileprivate var mayHaveLongAnswer: Bool { commands.contains { $0.declaration.extent != .short } }

  /// Whether its answer may be a table with thousands of lines.
  fileprivate var mayHaveTable: Bool { commands.contains(where: \.declaration.answer.mayBeTable) }
}
