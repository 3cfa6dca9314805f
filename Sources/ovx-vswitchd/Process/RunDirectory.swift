private import Glibc
internal import OVXLinux
private import OVXControl
internal import SystemPackage

/// The directory in which one running daemon shows itself: its lock, pid file and control sockets.
///
/// The lock is an flock(2) on `vswitchd.lock`, which the kernel gives back when the process is
/// gone, however it went. So a file that was left behind never keeps a daemon from starting, and a
/// running daemon always does. The lock file itself is never removed: two daemons could otherwise
/// each hold a lock on a file of that name. Only its owner may open it, as whoever can open a file
/// can lock it.
struct RunDirectory: ~Copyable {
  let path: String
  let pidfile: String
  private let lock: FileDescriptor
  private var holdsLock = true

  /// Where the control socket is.
  var socketPath: String { ControlSocket.path(in: FilePath(path)).string }

  /// Where the one is that everybody may connect to.
  var openSocketPath: String { ControlSocket.openPath(in: FilePath(path)).string }

  /// Makes the directory where it is missing, and takes the lock.
  init(path: String, pidfile: String?) throws(StartFailure) {
    self.init(path, pidfile, try Self.lock(path))
  }

  private init(_ path: String, _ pidfile: String?, _ lock: FileDescriptor) {
    self.path = path
    self.pidfile = pidfile ?? path + "/vswitchd.pid"
    self.lock = lock
  }

  /// Takes over the directory of a daemon that has handed its lock over, which both have then.
  ///
  /// - Parameters:
  ///   - path: The directory.
  ///   - pidfile: Where to write the process id; `nil` for the usual place.
  ///   - lock: The open file; where it is not the directory's lock, that is taken as ever.
  /// - Throws: Why the directory cannot be used.
  init(path: String, pidfile: String?, inheriting lock: consuming Descriptor) throws(StartFailure) {
    try checkPlace(
      of: "the run directory \(path)", directory: FilePath(path), option: "--rundir",
      isClosed: true)
    var (own, other) = (stat(), stat())
    guard unsafe fstat(lock.rawValue, &own) == 0,
      unsafe lstat(Self.lockPath(in: path), &other) == 0,
      own.st_dev == other.st_dev, own.st_ino == other.st_ino
    else {
      try self.init(path: path, pidfile: pidfile)
      return
    }
    self.init(path, pidfile, FileDescriptor(rawValue: lock.release()))
  }

  /// The open lock, valid for as long as the directory is held.
  var lockDescriptor: Int32 { lock.rawValue }

  private static func lock(_ path: String) throws(StartFailure) -> FileDescriptor {
    if unsafe mkdir(path, 0o755) != 0, errno != EEXIST {
      throw StartFailure(
        "the run directory \(path) cannot be made: \(Errno(rawValue: errno)); "
          + "make its parent, or choose another with --rundir")
    }
    try checkPlace(
      of: "the run directory \(path)", directory: FilePath(path), option: "--rundir",
      isClosed: true)
    let lock: FileDescriptor
    do throws(Errno) {
      lock = try TrustedFile.open(
        FilePath(lockPath(in: path)), .readWrite, options: .create,
        permissions: .ownerReadWrite, isPrivate: true)
    } catch {
      throw StartFailure(
        "the run directory \(path) cannot be used: \(path)/vswitchd.lock: \(error); choose another with --rundir"
      )
    }
    guard flock(lock.rawValue, LOCK_EX | LOCK_NB) == 0 else {
      let first = lock.readAll(limit: 32).prefix { !$0.isNewline }
      try? lock.close()
      throw StartFailure(
        "another ovx-vswitchd\(first.isEmpty ? "" : ", pid \(first),") is running on \(path); "
          + "stop it, or give this one a directory of its own with --rundir")
    }
    return lock
  }

  /// Waits until the locks of a daemon that has just been killed are free, for two seconds at most.
  ///
  /// The kernel lets them go one after the other while the process ends.
  static func outlast(_ files: [String]) {
    let end = ContinuousClock.now + .seconds(2)
    for path in files {
      guard let file = try? TrustedFile.open(FilePath(path), .readOnly) else { continue }
      while flock(file.rawValue, LOCK_EX | LOCK_NB) != 0, ContinuousClock.now < end {
        usleep(5000)
      }
      try? file.close()
    }
  }

  /// The file whose lock says that a daemon has a run directory.
  static func lockPath(in path: String) -> String { path + "/vswitchd.lock" }

  /// Writes this process's id into the lock, for a second daemon to name, and into the pid file.
  func writeProcessID() throws(StartFailure) {
    try checkPlace(
      of: "the pid file \(pidfile)", directory: FilePath(pidfile).removingLastComponent(),
      option: "--pidfile")
    do {
      try lock.resize(to: 0)
      _ = try lock.writeAll(toAbsoluteOffset: 0, processID.utf8)
      try TrustedFile.replace(
        FilePath(pidfile), with: processID, permissions: [.ownerReadWrite, .groupRead, .otherRead])
    } catch {
      throw StartFailure(
        "the pid file \(pidfile) cannot be written: \(error); choose another with --pidfile")
    }
  }

  /// Removes what says that a daemon is running here.
  func clear() {
    unsafe unlink(socketPath)
    unsafe unlink(openSocketPath)
    unsafe unlink(HandoverSocket.path(in: path))
    // Another daemon may have been given the same file meanwhile.
    if Files.read(pidfile, limit: 32) == processID { unsafe unlink(pidfile) }
    try? lock.resize(to: 0)
  }

  private var processID: String { "\(getpid())\n" }

  /// Gives the lock back: the directory is another daemon's to take.
  mutating func release() {
    guard holdsLock else { return }
    holdsLock = false
    try? lock.close()
  }

  deinit {
    if holdsLock { try? lock.close() }
  }
}

/// Refuses to put a file where somebody else could have it replaced.
///
/// - Parameters:
///   - subject: What is to be there, as a sentence begins with it.
///   - directory: The directory, which is there.
///   - option: By which another place can be named.
///   - isClosed: The directory must not be one like `/tmp` either.
/// - Throws: Who could, and the remedy.
func checkPlace(
  of subject: String, directory: FilePath, option: String, isClosed: Bool = false
) throws(StartFailure) {
  do {
    try TrustedFile.checkDirectory(directory, isClosed: isClosed)
  } catch {
    throw StartFailure(
      "\(subject) cannot be used: \(error.message)\(error.message.contains(";") ? ", or" : ";") choose another with \(option)"
    )
  }
}
