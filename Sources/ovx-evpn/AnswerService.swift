private import Foundation
private import Glibc
internal import OVXControl
private import OVXEVPN
private import SystemPackage

/// Answers `ovx-ctl evpn`, one client after the other.
struct AnswerService {
  private let core: Core
  private let path: String
  /// Milliseconds that a client has for its question, and for taking the answer.
  private static let patience: Int32 = 2000

  init(_ core: Core, runDirectory: String) {
    self.core = core
    path = EVPNSocket.path(in: runDirectory)
  }

  /// Listens, on a thread of its own.
  ///
  /// - Throws: Why nobody could connect, also that another ovx-evpn is there.
  func start() throws(ControlError) {
    let lock = unsafe open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard lock >= 0 else {
      throw ControlError(
        "\(path).lock cannot be made: \(Errno(rawValue: errno)); the directory comes with ovx-vswitchd, or name "
          + "its directory with --rundir")
    }
    // The lock goes with the process.
    guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
      let owner = Self.readPID(lock).map { " (process \($0))" } ?? ""
      throw ControlError("another ovx-evpn\(owner) serves the switch of \(path); end it first")
    }
    Self.writePID(lock)
    let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    unsafe unlink(path)
    // From the first moment on with the mode that it is to have: 0660.
    let mask = umask(0o117)
    defer { umask(mask) }
    let failure = unsafe try ControlSocket.withAddress(of: FilePath(path)) { address, size in
      unsafe bind(listener, address, size) == 0 && listen(listener, 16) == 0 ? 0 : errno
    }
    guard failure == 0 else {
      throw ControlError("the socket \(path) cannot be made: \(Errno(rawValue: failure))")
    }
    let (core, path) = (core, path)
    Thread { AnswerService(core, path: path).serve(listener) }.start()
  }

  /// Whose process has the lock, for whoever meets it.
  private static func readPID(_ lock: Int32) -> Int? {
    var bytes = [UInt8](repeating: 0, count: 20)
    let count = unsafe pread(lock, &bytes, bytes.count, 0)
    guard count > 0 else { return nil }
    return Int(String(decoding: bytes[..<count].prefix { $0 != 0x0A }, as: UTF8.self))
  }

  private static func writePID(_ lock: Int32) {
    let bytes = Array("\(getpid())\n".utf8)
    _ = ftruncate(lock, 0)
    _ = unsafe pwrite(lock, bytes, bytes.count, 0)
  }

  /// Gives the socket to the group that may use the daemon's: whoever may do the one may do the
  /// other.
  ///
  /// - Parameters:
  ///   - path: The socket's.
  ///   - daemonPath: The daemon's.
  /// - Returns: Why the group's members cannot use it, where they cannot.
  static func share(_ path: String, with daemonPath: String) -> String? {
    var (daemon, own) = (stat(), stat())
    guard unsafe stat(daemonPath, &daemon) == 0, unsafe stat(path, &own) == 0,
      daemon.st_gid != own.st_gid
    else { return nil }
    guard unsafe lchown(path, uid_t.max, daemon.st_gid) != 0 else { return nil }
    return
      "\(path) cannot be given to the group that may use \(daemonPath): \(Errno(rawValue: errno)); only root "
      + "can use it"
  }

  private init(_ core: Core, path: String) {
    self.core = core
    self.path = path
  }

  private func serve(_ listener: Int32) -> Never {
    while true {
      let client = accept(listener, nil, nil)
      guard client >= 0 else {
        usleep(10_000)
        continue
      }
      // A client that is slow is waited for by poll(2).
      _ = fcntl(client, F_SETFL, O_NONBLOCK)
      _ = fcntl(client, F_SETFD, FD_CLOEXEC)
      serve(client: client)
      close(client)
    }
  }

  private func serve(client: Int32) {
    var decoder = MessageDecoder<Request>()
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let request: Request?
      do throws(ControlError) { request = try decoder.next() } catch {
        send(Response(.failed(error)), to: client)
        return
      }
      if let request {
        send(answer(request), to: client)
        continue
      }
      var entry = pollfd(fd: client, events: Int16(POLLIN), revents: 0)
      guard unsafe poll(&entry, 1, Self.patience) > 0 else { return }
      let count = unsafe recv(client, &chunk, chunk.count, 0)
      guard count > 0 else { return }
      decoder.append(chunk[..<count])
    }
  }

  private func answer(_ request: Request) -> Response {
    do throws(ControlError) {
      var replies: [Reply] = []
      for command in request.commands { replies.append(try reply(to: command, request.dryRun)) }
      return Response(.done(replies))
    } catch {
      return Response(.failed(error))
    }
  }

  private func reply(to command: Command, _ isDryRun: Bool) throws(ControlError) -> Reply {
    try core.take { (agent, now) throws(ControlError) in
      switch command {
      case .showEVPN: return .evpn(agent.state(at: now))
      case .showEVPNRoutes(let network): return .evpnRoutes(try agent.routes(network: network))
      case .showEVPNVTEPs(let network): return .evpnVTEPs(try agent.vteps(network: network))
      case .unfreezeStation(let network, let mac):
        if !isDryRun { try agent.unfreeze(network: network, mac, at: now) }
        return .done
      default:
        throw ControlError("that is asked of ovx-vswitchd; ovx-evpn answers to ovx-ctl evpn alone")
      }
    }
  }

  private func send(_ response: Response, to client: Int32) {
    var rest: ArraySlice<UInt8>
    do throws(ControlError) { rest = try response.messageBytes()[...] } catch {
      guard let bytes = try? Response(.failed(error)).messageBytes() else { return }
      rest = bytes[...]
    }
    while !rest.isEmpty {
      var entry = pollfd(fd: client, events: Int16(POLLOUT), revents: 0)
      guard unsafe poll(&entry, 1, Self.patience) > 0 else { return }
      let count = unsafe rest.withUnsafeBytes { bytes in
        unsafe Glibc.send(client, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }
}
