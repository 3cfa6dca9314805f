internal import Glibc
internal import OVXControl
private import SystemPackage

// Who comes in to the control sockets, and who makes room for him.

extension ControlServer {
  /// Connections that may wait to be taken in; a client that comes when it is full is told to try
  /// again.
  static let backlog: Int32 = 1024
  /// Connections to the open socket that are taken in, or turned away, before others have their
  /// turn.
  static let strangerLimit = 64

  /// Makes a socket that has its mode from the first moment on.
  static func listen(at path: String, mode: mode_t) throws(StartFailure) -> Int32 {
    let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let listener = socket(AF_UNIX, type, 0)
    unsafe unlink(path)
    let mask = umask(~mode & 0o777)
    defer { umask(mask) }
    do {
      let status = unsafe try ControlSocket.withAddress(of: FilePath(path)) { address, size in
        unsafe bind(listener, address, size) == 0 && Glibc.listen(listener, backlog) == 0
          ? 0 : errno
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
    return listener
  }

  /// Gives up requests that are not complete while all together are too long.
  func dropUnfinished() {
    while clients.reduce(0, { $0 + $1.decoder.pendingCount }) > Self.requestLimit,
      let index = clients.indices.filter({ clients[$0].decoder.pendingCount > 0 })
        .min(by: { order(of: clients[$0]) < order(of: clients[$1]) })
    {
      close(clients[index].descriptor)
      clients.remove(at: index)
    }
  }

  /// Who goes first when there is no memory for all unfinished requests: those who may only look,
  /// then the oldest.
  private func order(of client: Client) -> (Int, Int64) {
    (client.right.rawValue, client.requestStart ?? 0)
  }

  func keepSpares() {
    while spares.count < Self.spareLimit {
      let spare = fcntl(listener, F_DUPFD_CLOEXEC, 0)
      guard spare >= 0 else { return }
      spares.append(spare)
    }
  }

  func accept(on listener: Int32, atMost limit: Int, now: Int64) {
    // Bounded, so that a flood of connections cannot keep the loop here.
    for round in 0..<limit {
      var descriptor = Glibc.accept(listener, nil, nil)
      if descriptor < 0, errno == EMFILE || errno == ENFILE, let spare = spares.popLast() {
        close(spare)
        descriptor = Glibc.accept(listener, nil, nil)
      }
      guard descriptor >= 0 else {
        // Out of descriptors: the connection stays in the queue, and would wake the loop for ever.
        // After the first round there need not be one: the kernel says so before it looks, and the
        // idlest may be the one just accepted.
        if round == 0, errno == EMFILE || errno == ENFILE, !disconnectIdlest(of: .look) {
          disconnectIdlest(of: .change)
        }
        return
      }
      _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
      _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
      admit(descriptor, now: now)
    }
  }

  /// Makes a client of a connection, or tells a stranger that he is none.
  private func admit(_ descriptor: Int32, now: Int64) {
    guard let peer = Peer(connection: descriptor), let right = rights.right(of: peer) else {
      strangers.note(Peer(connection: descriptor))
      // A new socket has room for a sentence.
      _ = unsafe send(
        descriptor, refusal, refusal.count, Int32(MSG_NOSIGNAL))
      close(descriptor)
      return
    }
    if right == .look, clients.count(where: { $0.right == .look }) >= Self.readerLimit {
      disconnectIdlest(of: .look)
    }
    if clients.count >= Self.clientLimit, !disconnectIdlest(of: .look) {
      guard right == .change, disconnectIdlest(of: .change) else {
        close(descriptor)
        return
      }
    }
    clients.append(
      Client(
        number: nextNumber, descriptor: descriptor, peer: peer, right: right, lastActive: now))
    nextNumber += 1
  }

  /// Whether a client is connected still.
  func isConnected(_ number: UInt64) -> Bool { clients.contains { $0.number == number } }

  /// Returns whether there was one.
  @discardableResult
  private func disconnectIdlest(of right: Right) -> Bool {
    // Whoever watches or waits is idle by nature; of those there are fewer than clients. So is the
    // one whose report lasts.
    let asking = clients.indices.filter {
      clients[$0].watch == nil && clients[$0].held == nil && !clients[$0].isLasting
        && clients[$0].right == right
    }
    let idle = asking.filter { !clients[$0].hasOutput(log) }
    let candidates = idle.isEmpty ? asking : idle
    guard let index = candidates.min(by: { clients[$0].lastActive < clients[$1].lastActive })
    else { return false }
    close(clients[index].descriptor)
    clients.remove(at: index)
    return true
  }
}
