private import Foundation
private import GRDB
private import Glibc
private import Synchronization
package import SystemPackage

/// The desired state on disk: one SQLite file, the only thing that must survive.
///
/// A change is one SQLite transaction in write-ahead mode with `synchronous=FULL`: when `save` returns it is on disk, and
/// a crash at any instant leaves either the old state or the new one. The file belongs to one daemon at a time, by a lock
/// that ends with its process; `sqlite3` may read it meanwhile.
package final class Database: Sendable {
  /// What was put aside because it could not be read, a sentence; the daemon logs it.
  package let note: String?

  private let path: String
  private let queue: DatabaseQueue
  private let lock: FileDescriptor
  /// What is stored, once it has been read or written; nobody else writes, as the lock says.
  ///
  /// Without it a change of one port would read the rows of all of them.
  private let stored = Mutex<Configuration?>(nil)
  private let isClosed = Mutex(false)

  /// Opens the database, and makes it and its directory where they are missing.
  ///
  /// A file that is damaged is kept aside as `FILE.corrupt-N`, named in `note`, and an empty one takes its place.
  ///
  /// - Parameter path: The file; beside it SQLite keeps two more, `-wal` and `-shm`.
  /// - Throws: What is wrong with the file or its directory and what to do, in words.
  package init(path: FilePath) throws(ControlError) {
    self.path = path.string
    let directory = path.removingLastComponent()
    if !directory.isEmpty { try makeDirectory(directory) }
    var lock = try lockFile(path)
    do {
      do {
        queue = try open(path.string)
        note = nil
      } catch let error as DatabaseError where error.isDamage {
        let aside = try moveAside(path.string)
        let lockOfDamaged = lock
        lock = try lockFile(path)
        try? lockOfDamaged.close()
        queue = try open(path.string)
        note =
          "the database \(path) is damaged (\(error.message ?? "no details")); it is kept as \(aside), "
          + "and the switch starts with no bridges"
      }
    } catch {
      try? lock.close()
      throw explain(error, path: path.string)
    }
    self.lock = lock
    synchronize(directory.isEmpty ? "." : directory)
  }

  /// Closes the file and gives its lock back, so that another daemon can open it; nothing can be stored any more.
  package func close() {
    let isFirst = isClosed.withLock { isClosed in
      defer { isClosed = true }
      return !isClosed
    }
    guard isFirst else { return }
    try? queue.close()
    try? lock.close()
  }

  deinit { close() }

  /// Reads the whole state.
  ///
  /// - Throws: That the file cannot be read, or that what it holds is no valid state (somebody edited it).
  package func load() throws(ControlError) -> Configuration {
    let configuration: Configuration
    do {
      configuration = try queue.read { database in try StoredState(database).configuration }
    } catch {
      throw explain(error, path: path)
    }
    do {
      try configuration.validate()
    } catch {
      throw ControlError("the database \(path) holds an invalid state: \(error.message)")
    }
    stored.withLock { $0 = configuration }
    return configuration
  }

  /// Makes the stored state equal to the given one, in one transaction that is on disk when this returns.
  ///
  /// - Parameters:
  ///   - configuration: A valid state.
  ///   - changes: What is otherwise in it than in the one that was loaded or saved last; `nil` to find out.
  /// - Throws: That it could not be written; the stored state is the old one then.
  package func save(
    _ configuration: Configuration, _ changes: Configuration.Changes? = nil
  ) throws(ControlError) {
    do {
      let old = stored.withLock { $0 }
      try queue.write { database in
        guard let old else {
          return try StoredState(configuration).replace(StoredState(database), in: database)
        }
        let changes = changes ?? configuration.changes(since: old)
        try StoredState(configuration.restricted(to: changes)).replace(
          StoredState(old.restricted(to: changes)), in: database)
      }
      stored.withLock { $0 = configuration }
    } catch {
      // What the caller takes for saved from here on may be something else: next time all is compared.
      stored.withLock { $0 = nil }
      throw explain(error, path: path)
    }
  }
}

// MARK: - Opening

/// Makes a directory and those above it, for its owner only.
private func makeDirectory(_ path: FilePath) throws(ControlError) {
  if unsafe mkdir(path.string, 0o700) == 0 || errno == EEXIST { return }
  var cause = errno
  if cause == ENOENT {
    let parent = path.removingLastComponent()
    if !parent.isEmpty {
      try makeDirectory(parent)
      if unsafe mkdir(path.string, 0o700) == 0 || errno == EEXIST { return }
      cause = errno
    }
  }
  throw ControlError(
    "cannot make the directory \(path) for the database: \(Errno(rawValue: cause)); "
      + remedy(cause)
  )
}

/// Makes the file where it is missing, readable by its owner only, and takes the lock of the one daemon.
private func lockFile(_ path: FilePath) throws(ControlError) -> FileDescriptor {
  let file: FileDescriptor
  do {
    file = try FileDescriptor.open(
      path,
      .readWrite,
      options: [.create, .closeOnExec],
      permissions: .ownerReadWrite
    )
  } catch {
    let cause = (error as? Errno ?? .ioError).rawValue
    throw ControlError(
      "cannot open the database \(path): \(Errno(rawValue: cause)); \(remedy(cause))"
    )
  }
  guard flock(file.rawValue, LOCK_EX | LOCK_NB) == 0 else {
    try? file.close()
    throw ControlError(
      "the database \(path) is in use by another ovx-vswitchd; stop it first, "
        + "or give this one a file of its own with --database"
    )
  }
  return file
}

/// Puts the names of new files on disk, without which a power failure would lose the files with all that is in them.
private func synchronize(_ directory: FilePath) {
  // A file system that cannot do it for directories has no need to.
  guard let descriptor = try? FileDescriptor.open(directory, .readOnly, options: .closeOnExec)
  else {
    return
  }
  _ = fsync(descriptor.rawValue)
  try? descriptor.close()
}

private func remedy(_ cause: CInt) -> String {
  switch cause {
  case EROFS: "the file system is read-only, so name another file with --database"
  case EACCES, EPERM: "run ovx-vswitchd as root, or name another file with --database"
  case ENOSPC, EDQUOT: "free some space there"
  default: "name another file with --database"
  }
}

/// Opens the file, checks it, and brings its schema up to date.
private func open(_ path: String) throws -> DatabaseQueue {
  var configuration = GRDB.Configuration()
  configuration.foreignKeysEnabled = true
  configuration.busyMode = .timeout(5)
  configuration.label = "ovx database"
  let queue = try DatabaseQueue(path: path, configuration: configuration)
  let verdict = try queue.read { database in
    try String.fetchAll(database, sql: "PRAGMA quick_check(1)")
  }
  guard verdict == ["ok"] else {
    throw DatabaseError(resultCode: .SQLITE_CORRUPT, message: verdict.first)
  }
  // Not by the library's journalMode, which writes before the check and settles for synchronous=NORMAL.
  let settings = try queue.writeWithoutTransaction { database in
    try database.execute(sql: "PRAGMA synchronous = FULL")
    return [
      try String.fetchOne(database, sql: "PRAGMA journal_mode = WAL"),
      try String.fetchOne(database, sql: "PRAGMA synchronous"),
    ]
  }
  guard settings == ["wal", "2"] else {
    throw ControlError(
      "the database \(path) cannot be made to survive a crash (\(settings.map { $0 ?? "none" })); "
        + "name a file on another file system with --database")
  }
  guard try !queue.read(migrator.hasBeenSuperseded) else {
    throw ControlError(
      "the database \(path) was written by a newer ovx-vswitchd; install that version again, "
        + "or name another file with --database"
    )
  }
  try migrator.migrate(queue)
  return queue
}

/// Renames a damaged file, and what SQLite keeps beside it, to the first free `FILE.corrupt-N`.
private func moveAside(_ path: String) throws(ControlError) -> String {
  var number = 1
  while unsafe access("\(path).corrupt-\(number)", F_OK) == 0 { number &+= 1 }
  let aside = "\(path).corrupt-\(number)"
  for suffix in ["-wal", "-shm"] { _ = unsafe rename(path + suffix, aside + suffix) }
  guard unsafe rename(path, aside) == 0 else {
    let cause = errno
    throw ControlError(
      "the database \(path) is damaged and cannot be renamed to \(aside): \(Errno(rawValue: cause)); "
        + remedy(cause)
    )
  }
  return aside
}

extension DatabaseError {
  /// Whether the file itself is at fault, rather than access to it.
  fileprivate var isDamage: Bool {
    resultCode == .SQLITE_CORRUPT || resultCode == .SQLITE_NOTADB
  }
}

/// Says what SQLite's error means for the operator.
private func explain(_ error: any Error, path: String) -> ControlError {
  switch error {
  case let error as ControlError: error
  case let error as DatabaseError:
    switch error.resultCode {
    case .SQLITE_FULL: fullDisk(path)
    // No room for the memory that SQLite shares with other readers, in FILE-shm, is an input/output error to it.
    case .SQLITE_IOERR where isDiskFull(path): fullDisk(path)
    case .SQLITE_READONLY:
      ControlError("the database \(path) cannot be written: it is read-only; \(remedy(EROFS))")
    case .SQLITE_CANTOPEN, .SQLITE_PERM:
      ControlError("the database \(path) cannot be opened: \(error); \(remedy(EACCES))")
    case .SQLITE_CORRUPT, .SQLITE_NOTADB:
      ControlError(
        "the database \(path) is damaged: \(error); restart ovx-vswitchd, which keeps it aside"
      )
    default:
      ControlError("the database \(path) fails: \(error)")
    }
  default:
    ControlError("the database \(path) cannot be read: \(error)")
  }
}

private func fullDisk(_ path: String) -> ControlError {
  ControlError(
    "the database \(path) cannot be written: its file system is full; free some space there")
}

/// Whether a file's file system has less room than SQLite's shared memory takes, 32 KiB, or no more files.
private func isDiskFull(_ path: String) -> Bool {
  var system = statvfs()
  guard unsafe statvfs(path, &system) == 0 else { return false }
  let free = UInt64(system.f_bavail).multipliedReportingOverflow(by: UInt64(system.f_frsize))
  return !free.overflow && free.partialValue < 32_768
    || system.f_files > 0 && system.f_favail == 0
}
