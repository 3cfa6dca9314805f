private import Glibc
internal import OVXControl
internal import OVXHost
internal import OVXLinux
internal import SystemPackage

/// Where a daemon that runs is found by the one that is to take its place: a socket in the run
/// directory, for the daemon's own user alone.
enum HandoverSocket {
  static func path(in rundir: String) -> String { rundir + "/handover.sock" }

  /// The socket of the former daemon, in which others may wait already, or one of this daemon's
  /// own.
  static func open(
    in rundir: String, _ inherited: InheritedDescriptors
  ) throws(StartFailure) -> Descriptor {
    if let socket = inherited.take(.handover) { return socket }
    return try listen(in: rundir)
  }

  /// Makes the socket, in place of one that a former daemon left there; the run directory's lock is
  /// held.
  private static func listen(in rundir: String) throws(StartFailure) -> Descriptor {
    let path = path(in: rundir)
    let listener = try open(path)
    unsafe unlink(path)
    let mask = umask(0o177)
    defer { umask(mask) }
    let number = listener.rawValue
    let status = unsafe try withAddress(of: path) { address, size in
      unsafe bind(number, address, size) == 0 && Glibc.listen(number, 4) == 0 ? 0 : errno
    }
    guard status == 0 else {
      throw StartFailure(
        "the socket \(path) cannot be made: \(Errno(rawValue: status)); choose another directory with --rundir"
      )
    }
    let flags = fcntl(number, F_GETFL)
    _ = fcntl(number, F_SETFL, flags | O_NONBLOCK)
    return listener
  }

  /// Takes in whoever has connected; `nil` where there is nobody, or somebody who may not.
  static func accept(_ listener: Int32) -> MessageSocket? {
    let number = Glibc.accept(listener, nil, nil)
    guard number >= 0 else { return nil }
    _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    let socket = MessageSocket(Descriptor(owning: number))
    guard let peer = Peer(connection: number), isTrusted(peer) else { return nil }
    return socket
  }

  /// Connects to the daemon that runs; `nil` where none does.
  static func connect(in rundir: String) throws(StartFailure) -> MessageSocket? {
    let path = path(in: rundir)
    let socket = try open(path)
    let number = socket.rawValue
    let status = unsafe try withAddress(of: path) { address, size in
      unsafe Glibc.connect(number, address, size) == 0 ? 0 : errno
    }
    if status == ENOENT || status == ECONNREFUSED { return nil }
    guard status == 0 else {
      throw StartFailure("the daemon cannot be reached by \(path): \(Errno(rawValue: status))")
    }
    guard let peer = Peer(connection: number), isTrusted(peer) else {
      throw StartFailure("the socket \(path) is somebody else's; remove it")
    }
    return MessageSocket(socket)
  }

  private static func isTrusted(_ peer: Peer) -> Bool { peer.uid == 0 || peer.uid == geteuid() }

  private static func open(_ path: String) throws(StartFailure) -> Descriptor {
    let type = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
    let number = socket(AF_UNIX, type, 0)
    guard number >= 0 else {
      throw StartFailure("the socket \(path) cannot be made: \(Errno(rawValue: errno))")
    }
    return Descriptor(owning: number)
  }

  private static func withAddress(
    of path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
  ) throws(StartFailure) -> Int32 {
    do throws(ControlError) {
      return unsafe try ControlSocket.withAddress(of: FilePath(path), body)
    } catch {
      throw StartFailure(error.message)
    }
  }
}

extension MessageSocket {
  /// Sends a message of a handover; see `HandoverMessage`.
  func send(
    _ message: HandoverMessage, _ descriptors: [Int32] = []
  ) throws(Errno) { try send(message.bytes, descriptors) }
}
