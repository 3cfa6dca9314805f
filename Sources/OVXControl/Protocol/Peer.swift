private import Glibc

/// Who is at the other end of a Unix socket, as the kernel vouches for: the process that connected,
/// at the time when it did.
package struct Peer: Equatable, Sendable {
  /// 0 for a process that this PID namespace does not show.
  package var pid: Int32
  package var uid: UInt32
  /// All groups that it is in.
  package var groups: Set<UInt32>

  package init(pid: Int32, uid: UInt32, groups: Set<UInt32>) {
    self.pid = pid
    self.uid = uid
    self.groups = groups
  }

  /// Asks the kernel about a connection; `nil` where it does not tell.
  package init?(connection: Int32) {
    // struct ucred, which the C library shows to _GNU_SOURCE only: pid, uid and gid, 32 bits each
    // (unix(7)).
    var credentials: [UInt32] = [0, 0, 0]
    var size = socklen_t(credentials.count * MemoryLayout<UInt32>.size)
    let whole = size
    guard unsafe getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0,
      size == whole, let groups = Self.groups(of: connection)
    else { return nil }
    pid = Int32(bitPattern: credentials[0])
    uid = credentials[1]
    self.groups = Set(groups).union([credentials[2]])
  }

  /// The supplementary groups.
  private static func groups(of connection: Int32) -> [UInt32]? {
    // Most users are in few; how many it takes the kernel says itself. There are 65536 at most
    // (NGROUPS_MAX).
    var groups = [UInt32](repeating: 0, count: 32)
    while true {
      var size = socklen_t(groups.count * MemoryLayout<UInt32>.size)
      if unsafe getsockopt(connection, SOL_SOCKET, SO_PEERGROUPS, &groups, &size) == 0 {
        return Array(groups.prefix(Int(size) / MemoryLayout<UInt32>.size))
      }
      let needed = Int(size) / MemoryLayout<UInt32>.size
      guard errno == ERANGE, needed > groups.count, needed <= 65536 else { return nil }
      groups = [UInt32](repeating: 0, count: needed)
    }
  }
}

extension Peer: CustomStringConvertible {
  /// As logs have it.
  package var description: String { "uid \(uid), pid \(pid)" }
}
