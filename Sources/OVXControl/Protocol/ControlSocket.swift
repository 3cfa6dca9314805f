package import Glibc
package import SystemPackage

/// Where daemon and CLI meet: a Unix stream socket in the daemon's run directory.
///
/// Who may do what is decided by who has connected (`Peer`), on either of the daemon's sockets.
///
/// The client sends one request, a line of JSON, and the daemon answers with one response, a line
/// of JSON. A client may send another request on the same connection when it has the answer.
package enum ControlSocket {
  /// The run directory when neither `--rundir` nor `OVX_RUNDIR` names one.
  package static let defaultRunDirectory: FilePath = "/run/ovx"

  /// The run directory that the environment names with `OVX_RUNDIR`, else the default.
  package static var runDirectoryOfEnvironment: String {
    // An empty variable counts as none, as everywhere.
    let variable = unsafe getenv("OVX_RUNDIR").map { unsafe String(cString: $0) } ?? ""
    return variable.isEmpty ? defaultRunDirectory.string : variable
  }

  /// The socket of the daemon that has the given run directory.
  package static func path(in runDirectory: FilePath) -> FilePath {
    runDirectory.appending("vswitchd.sock")
  }

  /// The socket of the same daemon for everybody who may not open that one: those who may only
  /// look, and those who are told that they may not do that either.
  ///
  /// A socket of its own, so that strangers, however many times they connect, wait in a queue in
  /// which nobody waits who may change something.
  package static func openPath(in runDirectory: FilePath) -> FilePath {
    runDirectory.appending("vswitchd-open.sock")
  }

  /// The longest path that fits a socket's address, in bytes (`sun_path` of <linux/un.h> less its
  /// NUL).
  package static let pathLimit = 107

  /// Calls a function with the socket's address, ready for `bind` or `connect`.
  ///
  /// - Throws: That the path is too long, with the limit.
  package static func withAddress<Result>(
    of path: FilePath,
    _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
  ) throws(ControlError) -> Result {
    let bytes = Array(path.string.utf8)
    guard bytes.count <= pathLimit else {
      throw ControlError(
        "the path of the control socket, \(path), has \(bytes.count) bytes, but a socket's address has "
          + "room for \(pathLimit); name a shorter directory with --rundir"
      )
    }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
    return unsafe withUnsafeBytes(of: address) { raw in
      // The address family stands first in every kind of socket address, so the bytes may be read
      // as any.
      unsafe raw.withMemoryRebound(to: sockaddr.self) { buffer in
        unsafe body(UnsafePointer(buffer.baseAddress.unsafelyUnwrapped), socklen_t(raw.count))
      }
    }
  }
}
