private import Glibc
internal import OVXControl
internal import SystemPackage

/// Who may do what on the control sockets.
///
/// Root and the daemon's own user may do anything, and so may the members of one group; those of
/// another may look. Being in the group root is nothing.
struct ControlRights {
  /// The group whose members may change things, unless another is named.
  static let defaultChangers = "ovx"
  /// The group whose members may look, unless another is named.
  static let defaultReaders = "ovx-ro"

  private let owner: UInt32
  let changers: Group?
  let readers: Group?

  init(owner: UInt32, changers: Group?, readers: Group?) {
    self.owner = owner
    self.changers = changers
    self.readers = readers
  }

  /// Looks the groups up: those that are named have to exist, the usual ones need not.
  init(changers: String?, readers: String?) throws(StartFailure) {
    owner = geteuid()
    self.changers =
      try changers.map { name throws(StartFailure) in
        try Group(named: name, by: "--socket-group")
      } ?? Group.find(Self.defaultChangers)
    self.readers =
      try readers.map { name throws(StartFailure) in
        try Group(named: name, by: "--reader-group")
      } ?? Group.find(Self.defaultReaders)
  }

  /// What somebody may do; `nil` for a stranger.
  func right(of peer: Peer) -> Right? {
    if peer.uid == 0 || peer.uid == owner { return .change }
    if let changers, peer.groups.contains(changers.number) { return .change }
    if let readers, peer.groups.contains(readers.number) { return .look }
    return nil
  }

  /// Why a stranger is not answered.
  func refusal(of socket: String) -> ControlError {
    let reader = readers.map { "; members of the group \($0.name) may look" } ?? ""
    return ControlError("no permission to use \(socket); run it as \(whoMayChange)\(reader)")
  }

  /// Why somebody who may only look is not obeyed.
  var refusalOfChange: ControlError {
    let reader = readers.map { "the group \($0.name)" } ?? "who asks"
    return ControlError(
      "no permission for that: \(reader) may look, and not change anything or capture frames; run it as \(whoMayChange)"
    )
  }

  private var whoMayChange: String {
    changers.map { "root or as a member of the group \($0.name)" } ?? "root"
  }
}

/// A group of the host's.
struct Group {
  let name: String
  let number: UInt32

  init(name: String, number: UInt32) {
    self.name = name
    self.number = number
  }

  /// Looks a group up.
  ///
  /// - Parameters:
  ///   - name: Its name, or its number.
  ///   - option: By which it was named.
  /// - Throws: That there is none of that name.
  init(named name: String, by option: String) throws(StartFailure) {
    if let number = gid_t(name), number != .max {
      self.init(name: name, number: number)
      return
    }
    do throws(Errno) {
      self.init(name: name, number: try Self.number(of: name))
    } catch {
      let reason = error == .noSuchFileOrDirectory ? "there is no such group" : "\(error)"
      throw StartFailure(
        "the group \"\(name)\" cannot be given rights on the control socket: \(reason); make it with groupadd, or "
          + "name another with \(option)")
    }
  }

  /// A group that need not exist.
  static func find(_ name: String) -> Group? {
    (try? number(of: name)).map { Group(name: name, number: $0) }
  }

  /// The number that the host has for a name; `ENOENT` where it has none.
  private static func number(of name: String) throws(Errno) -> UInt32 {
    // Groups with many members need more room than the system says (getgrnam(3)).
    var buffer = [CChar](repeating: 0, count: 1 << 20)
    var entry = unsafe group()
    var found: UnsafeMutablePointer<group>?
    let failure = unsafe getgrnam_r(name, &entry, &buffer, buffer.count, &found)
    guard failure == 0 else { throw Errno(rawValue: failure) }
    guard unsafe found != nil else { throw .noSuchFileOrDirectory }
    return unsafe entry.gr_gid
  }

  /// Gives the group a socket that has been bound.
  ///
  /// Returns the kernel's reason where it does not let the daemon.
  func take(over path: String) -> Errno? {
    unsafe lchown(path, uid_t.max, number) == 0 ? nil : Errno(rawValue: errno)
  }
}
