private import Glibc
private import SystemPackage

/// The group of the control socket: its members may use `ovx-ctl` as root does.
struct SocketGroup {
  private let name: String
  private let number: gid_t

  /// Looks a group up.
  ///
  /// - Parameter name: Its name, or its number.
  /// - Throws: That there is none of that name.
  init(named name: String) throws(StartFailure) {
    self.name = name
    if let number = gid_t(name), number != .max {
      self.number = number
      return
    }
    // Groups with many members need more room than the system says (getgrnam(3)).
    var buffer = [CChar](repeating: 0, count: 1 << 20)
    var entry = unsafe group()
    var found: UnsafeMutablePointer<group>?
    let failure = unsafe getgrnam_r(name, &entry, &buffer, buffer.count, &found)
    guard failure == 0, unsafe found != nil else {
      let reason = failure == 0 ? "there is no such group" : "\(Errno(rawValue: failure))"
      throw StartFailure(
        "the group \"\(name)\" cannot have the control socket: \(reason); make it with groupadd, or name "
          + "another with --socket-group")
    }
    number = unsafe entry.gr_gid
  }

  /// Gives the group a socket that has been bound.
  func take(over path: String) throws(StartFailure) {
    guard unsafe lchown(path, uid_t.max, number) == 0 else {
      throw StartFailure(
        "the control socket \(path) cannot be given to the group \"\(name)\": \(Errno(rawValue: errno)); "
          + "make the daemon a member of it (SupplementaryGroups= of the service)")
    }
  }
}
