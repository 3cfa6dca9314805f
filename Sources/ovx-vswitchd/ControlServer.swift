internal import Glibc
internal import OVXControl
private import SystemPackage

/// The control socket and the programs connected to it.
///
/// One thread serves all of them, so nothing here ever waits for one: descriptors do not block, and what has not
/// arrived or cannot leave yet stays in a buffer of bounded size. A client has one request in progress; until its
/// answer has left, nothing more is read from it, so the kernel's socket buffer is all that a client can fill.
///
/// Memory is bounded by `clientLimit` × (the codec's largest request + one answer). A client that does not take its
/// answer for `stallLimit` seconds is disconnected; when one too many connects, the one that has been idle for the
/// longest time makes room.
final class ControlServer {
  static let clientLimit = 256
  /// Seconds for which a client may leave an answer unread, or a request unfinished.
  static let stallLimit: Int64 = 30
  /// Connections that may wait to be taken in; a client that comes when it is full is told to try again.
  private static let backlog: Int32 = 1024
  /// Bytes that are read at a time.
  private static let readSize = 65_536

  private struct Client {
    let descriptor: Int32
    var decoder = MessageDecoder<Request>()
    var output: [UInt8] = []
    var sentCount = 0
    /// Seconds on the monotonic clock when bytes last moved.
    var lastActive: Int64
    /// Nothing is read any more, and the client goes once its output has left.
    var isClosing = false
    /// There may be a whole request among what has been received.
    var mayHoldRequest = false

    var hasOutput: Bool { sentCount < output.count }
  }

  private let listener: Int32
  /// Descriptors that are kept for clients to come in by when ports and tunnels have all others: without them nobody
  /// could remove any of those.
  private var spares: [Int32] = []
  private static let spareLimit = 8
  private var clients: [Client] = []
  private var buffer = [UInt8](repeating: 0, count: readSize)

  /// Listens at a path, in place of a socket that a former daemon left there.
  ///
  /// The run directory's lock is held.
  init(path: String) throws(StartFailure) {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    listener = socket(AF_UNIX, type, 0)
    unsafe unlink(path)
    // From the first moment on with the mode that it is to have: 0660.
    let mask = umask(0o117)
    defer { umask(mask) }
    do {
      let status = unsafe try ControlSocket.withAddress(of: FilePath(path)) { address, size in
        unsafe bind(listener, address, size) == 0 && listen(listener, Self.backlog) == 0 ? 0 : errno
      }
      guard status == 0 else {
        throw StartFailure(
          "the control socket \(path) cannot be made: \(Errno(rawValue: status)); choose another "
            + "directory with --rundir")
      }
    } catch let error as ControlError {
      throw StartFailure(error.message)
    } catch let error as StartFailure {
      throw error
    } catch {
      throw StartFailure("\(error)")
    }
    keepSpares()
  }

  deinit {
    close(listener)
    for spare in spares { close(spare) }
    for client in clients { close(client.descriptor) }
  }

  /// Ends all connections, and listens no more.
  func disconnectAll() {
    for client in clients { close(client.descriptor) }
    clients.removeAll()
  }

  /// Whether an answer is still on its way to a client.
  var hasOutput: Bool { clients.contains(where: \.hasOutput) }

  /// The milliseconds after which `serve` has to be called whatever poll(2) says: -1 for never.
  var timeout: Int32 {
    if clients.contains(where: { $0.mayHoldRequest && !$0.hasOutput }) { return 0 }
    return clients.contains { $0.hasOutput || $0.decoder.isMidMessage } ? 1000 : -1
  }

  /// Adds what is to be polled for: the listening socket, then each client.
  func addDescriptors(to list: inout [pollfd]) {
    list.append(pollfd(fd: listener, events: Int16(POLLIN), revents: 0))
    for client in clients {
      let events = client.hasOutput ? POLLOUT : POLLIN
      list.append(pollfd(fd: client.descriptor, events: Int16(events), revents: 0))
    }
  }

  /// Serves everyone for whom poll(2) reported something.
  ///
  /// - Parameters:
  ///   - list: What `addDescriptors` added, in the same order.
  ///   - now: Seconds on the monotonic clock.
  ///   - answer: Does what a request of the connection asks for; `nil` where it has made the connection's other end its
  ///     own business, with a descriptor of its own.
  func serve(_ list: ArraySlice<pollfd>, now: Int64, answer: (Request, Int32) -> Response?) {
    guard let first = list.first else { return }
    for (index, entry) in zip(clients.indices, list.dropFirst())
    where entry.revents != 0 || clients[index].mayHoldRequest {
      serve(index, now: now, answer: answer)
    }
    for client in clients where isFinished(client, now: now) { close(client.descriptor) }
    clients.removeAll { isFinished($0, now: now) }
    if first.revents != 0 { accept(now: now) }
    keepSpares()
  }

  private func keepSpares() {
    while spares.count < Self.spareLimit {
      let spare = fcntl(listener, F_DUPFD_CLOEXEC, 0)
      guard spare >= 0 else { return }
      spares.append(spare)
    }
  }

  private func accept(now: Int64) {
    // Bounded, so that a flood of connections cannot keep the loop here.
    for round in 0..<Self.clientLimit {
      var descriptor = Glibc.accept(listener, nil, nil)
      if descriptor < 0, errno == EMFILE || errno == ENFILE, let spare = spares.popLast() {
        close(spare)
        descriptor = Glibc.accept(listener, nil, nil)
      }
      guard descriptor >= 0 else {
        // Out of descriptors: the connection stays in the queue, and would wake the loop for ever. After the first round
        // there need not be one: the kernel says so before it looks, and the idlest may be the one just accepted.
        if round == 0, errno == EMFILE || errno == ENFILE { disconnectIdlest() }
        return
      }
      _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      if clients.count >= Self.clientLimit { disconnectIdlest() }
      clients.append(Client(descriptor: descriptor, lastActive: now))
    }
  }

  private func disconnectIdlest() {
    let idle = clients.indices.filter { !clients[$0].hasOutput }
    let candidates = idle.isEmpty ? Array(clients.indices) : idle
    guard let index = candidates.min(by: { clients[$0].lastActive < clients[$1].lastActive })
    else { return }
    close(clients[index].descriptor)
    clients.remove(at: index)
  }

  private func serve(_ index: Int, now: Int64, answer: (Request, Int32) -> Response?) {
    if !clients[index].hasOutput {
      if !clients[index].mayHoldRequest { receive(index, now: now) }
      // One request each turn: no client waits for more than one of everybody else's.
      do {
        let request = try clients[index].decoder.next()
        clients[index].mayHoldRequest = request != nil
        if let request {
          // Whoever has given up waiting must not see his command carried out afterwards.
          if hasHungUp(clients[index].descriptor) {
            clients[index].isClosing = true
          } else {
            let descriptor = clients[index].descriptor
            if let response = answer(request, descriptor) {
              send(response, to: index)
            } else {
              clients[index].mayHoldRequest = false
              clients[index].isClosing = true
            }
          }
        }
      } catch {
        clients[index].mayHoldRequest = false
        clients[index].isClosing = true
        send(Response(.failed(error)), to: index)
      }
    }
    transmit(index, now: now)
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

  private func send(_ response: Response, to index: Int) {
    do {
      clients[index].output = try response.messageBytes()
    } catch {
      clients[index].output = (try? Response(.failed(error)).messageBytes()) ?? []
    }
    clients[index].sentCount = 0
  }

  private func transmit(_ index: Int, now: Int64) {
    while clients[index].hasOutput {
      let client = clients[index]
      let count = unsafe client.output.withUnsafeBytes { bytes in
        let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[client.sentCount...])
        return unsafe write(client.descriptor, rest.baseAddress, rest.count)
      }
      if count > 0 {
        clients[index].sentCount += count
        clients[index].lastActive = now
      } else if errno == EAGAIN {
        return
      } else if errno != EINTR {
        clients[index].output = []
        clients[index].sentCount = 0
        clients[index].isClosing = true
        return
      }
    }
    clients[index].output = []
    clients[index].sentCount = 0
  }

  private func isFinished(_ client: Client, now: Int64) -> Bool {
    if client.hasOutput { return now - client.lastActive > Self.stallLimit }
    return (client.isClosing && !client.mayHoldRequest)
      || (client.decoder.isMidMessage && now - client.lastActive > Self.stallLimit)
  }
}
