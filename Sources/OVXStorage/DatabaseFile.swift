internal import Glibc
internal import GRDB
internal import OVXControl
internal import SystemPackage

/// That a database file does not hold what was written into it.
struct Damage: Error {
  /// How that shows, part of a sentence.
  let reason: String
}

/// A database file that is open, whose content has been read and found to be whole.
struct DatabaseFile {
  /// `nil` where the file can only be read, and has been.
  let queue: DatabaseQueue?
  /// What was in it when it was opened.
  let configuration: Configuration
  /// Whether it was made to begin with nothing, and has not been settled since.
  let isNew: Bool
  /// Which file it is, whatever has its name now.
  let identity: (device: dev_t, inode: ino_t)
  /// The random number that was drawn for the host; see `Database.identity`.
  let hostIdentity: UInt64
  private let lock: Lock
  /// Of what is in the file now.
  var digest = Digest()

  /// That this is the one daemon that has the file.
  struct Lock {
    fileprivate let file: FileDescriptor
    let isReadOnly: Bool

    func release() { try? file.close() }
  }

  /// The user's number of SQLite's header, in a file that was made to begin with nothing.
  private static let newMark = 1

  /// Opens a file, checks it, and brings its schema up to date; on a read-only file system reads
  /// it.
  ///
  /// - Parameters:
  ///   - path: The file.
  ///   - lock: Its lock, which becomes this file's own; where it throws, it stays the caller's to
  ///     release.
  /// - Throws: `Damage`; else what SQLite or the daemon says of the place.
  init(_ path: FilePath, _ lock: Lock) throws {
    self.lock = lock
    do {
      let status = lock.status
      identity = (status.st_dev, status.st_ino)
      let isEmpty = status.st_size == 0
      if lock.isReadOnly {
        (configuration, isNew, hostIdentity) = try Self.read(path, isEmpty: isEmpty)
        queue = nil
        return
      }
      let queue = try Self.open(path.string)
      self.queue = queue
      try queue.read { database in
        try verify(database)
        // SQLite takes a file that is too short for one that is yet to be written.
        if try !isEmpty && !database.tableExists("bridge") {
          throw Damage(reason: "it has no tables")
        }
      }
      try Self.prepare(queue, path)
      let configuration = try queue.read { try Self.configuration(in: $0) }
      self.configuration = configuration
      hostIdentity = try queue.read { try Self.hostIdentity(in: $0) }
      let isBegun = try queue.read { try Int.fetchOne($0, sql: "PRAGMA user_version") ?? 0 }
      isNew = isEmpty || isBegun == Self.newMark
      digest = try queue.write { database in
        if isEmpty { try database.execute(sql: "PRAGMA user_version = \(Self.newMark)") }
        // Once, after which a row that is written as it is read has the same digest: another
        // version may write otherwise.
        var rows = Digest()
        for table in StoredState.tables { rows += try Digest(rowsOf: table, in: database) }
        if rows != (try StoredState(configuration).digest) {
          try StoredState(Configuration()).replace(StoredState(database), in: database)
          try StoredState(configuration).replace(StoredState(Configuration()), in: database)
        }
        let digest = try Digest(contentOf: database)
        if try Digest.stored(in: database) != digest.text { try digest.store(in: database) }
        return digest
      }
      try Self.copyIn(queue)
    } catch {
      throw damage(error, path: path.string).map(Damage.init(reason:)) ?? error
    }
  }

  /// Makes a file where there is none.
  init(new path: FilePath) throws(ControlError) {
    let lock = try Self.lock(path)
    do {
      try self.init(path, lock)
    } catch {
      lock.release()
      throw explain(error, path: path.string)
    }
  }

  /// A file that cannot be read, nor be put aside.
  init(unreadable lock: Lock) {
    self.lock = lock
    let status = lock.status
    identity = (status.st_dev, status.st_ino)
    configuration = Configuration()
    isNew = true
    hostIdentity = .random(in: .min ... .max)
    queue = nil
  }

  func close() {
    try? queue?.close()
    lock.release()
  }

  /// Writes what is otherwise in a state, in one transaction that is on disk when this returns.
  ///
  /// - Parameters:
  ///   - configuration: The state.
  ///   - changes: What is otherwise in it; `nil` to find out.
  ///   - old: What is in the file; `nil` to find out.
  /// - Throws: What SQLite says; nothing is written then.
  mutating func write(
    _ configuration: Configuration, _ changes: Configuration.Changes?, since old: Configuration?
  ) throws {
    guard let queue else { return }
    let before = digest
    digest = try queue.write { database in
      var sum = before
      if let old {
        let changes = changes ?? configuration.changes(since: old)
        let rows = StoredState(configuration.restricted(to: changes))
        let oldRows = StoredState(old.restricted(to: changes))
        try rows.replace(oldRows, in: database)
        sum -= try oldRows.digest
        sum += try rows.digest
      } else {
        try StoredState(configuration).replace(StoredState(database), in: database)
        sum = try Digest(contentOf: database)
      }
      try sum.store(in: database)
      return sum
    }
    try Self.copyIn(queue)
  }

  /// Keeps the number that was drawn for the host in a file that takes the place of another.
  mutating func adopt(hostIdentity: UInt64) throws {
    guard let queue else { return }
    digest = try queue.write { database in
      try database.execute(
        sql: "UPDATE host SET identity = ?", arguments: [Int64(bitPattern: hostIdentity)])
      let digest = try Digest(contentOf: database)
      try digest.store(in: database)
      return digest
    }
  }

  /// Takes away the mark of a new file.
  mutating func settle() throws {
    guard let queue else { return }
    digest = try queue.write { database in
      try database.execute(sql: "PRAGMA user_version = 0")
      let digest = try Digest(contentOf: database)
      try digest.store(in: database)
      return digest
    }
    try Self.copyIn(queue)
  }

  /// Copies what was committed from the log into the file.
  ///
  /// A log that has lost its end is a shorter one, of which nothing tells; a file that has lost
  /// something is not what its digest says. Where somebody reads the file at the moment, the next
  /// transaction copies.
  private static func copyIn(_ queue: DatabaseQueue) throws {
    do {
      _ = try queue.writeWithoutTransaction { try $0.checkpoint(.passive) }
    } catch let error as DatabaseError where error.resultCode == .SQLITE_FULL {
      // It is in the log, and on disk.
    }
  }
}

// MARK: - Opening

extension DatabaseFile {
  /// Makes the file where it is missing, for its owner only, and takes the lock of the one daemon.
  ///
  /// Whoever may open the file can lock it, so what was open to others is closed.
  static func lock(_ path: FilePath) throws(ControlError) -> Lock {
    var isReadOnly = false
    let file: FileDescriptor
    do throws(Errno) {
      do throws(Errno) {
        file = try TrustedFile.open(
          path, .readWrite, options: .create, permissions: .ownerReadWrite, isPrivate: true)
      } catch Errno.readOnlyFileSystem where unsafe access(path.string, F_OK) == 0 {
        file = try TrustedFile.open(path, .readOnly)
        isReadOnly = true
      }
    } catch {
      throw ControlError(
        "cannot open the database \(path): \(error); \(remedy(error.rawValue))"
      )
    }
    guard flock(file.rawValue, LOCK_EX | LOCK_NB) == 0 else {
      try? file.close()
      throw ControlError(
        "the database \(path) is in use by another ovx-vswitchd; stop it first, "
          + "or give this one a file of its own with --database"
      )
    }
    do {
      if !isReadOnly { try closeNeighbors(of: path) }
    } catch {
      try? file.close()
      throw error
    }
    return Lock(file: file, isReadOnly: isReadOnly)
  }

  /// Closes what SQLite keeps beside the file to others, and refuses what it has not made.
  private static func closeNeighbors(of path: FilePath) throws(ControlError) {
    for suffix in ["-wal", "-shm", "-journal"] {
      do {
        let file = try TrustedFile.open(
          FilePath(path.string + suffix), .readWrite, permissions: .ownerReadWrite, isPrivate: true)
        try? file.close()
      } catch Errno.noSuchFileOrDirectory {
        continue
      } catch {
        throw ControlError(
          "the database \(path) cannot be used: \(path)\(suffix): \(error); remove that file, or name another "
            + "database with --database")
      }
    }
  }

  fileprivate static func open(_ path: String) throws -> DatabaseQueue {
    var configuration = GRDB.Configuration()
    configuration.foreignKeysEnabled = true
    configuration.busyMode = .timeout(5)
    configuration.label = "ovx database"
    return try DatabaseQueue(path: path, configuration: configuration)
  }

  /// Has changes survive a crash, and the schema be this version's.
  fileprivate static func prepare(_ queue: DatabaseQueue, _ path: FilePath) throws {
    // Not by the library's journalMode, which writes before the check and settles for
    // synchronous=NORMAL.
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
    try queue.read { try refuseNewer($0, path) }
    try migrator.migrate(queue)
  }

  private static func refuseNewer(_ database: GRDB.Database, _ path: FilePath) throws {
    guard try !migrator.hasBeenSuperseded(database) else {
      throw ControlError(
        "the database \(path) was written by a newer ovx-vswitchd; install that version again, "
          + "or name another file with --database"
      )
    }
  }

  fileprivate static func configuration(in database: GRDB.Database) throws -> Configuration {
    let configuration: Configuration
    do {
      configuration = try StoredState(database).configuration
      try configuration.validate()
    } catch let error as ControlError {
      throw Damage(reason: error.message)
    }
    return configuration
  }

  fileprivate static func hostIdentity(in database: GRDB.Database) throws -> UInt64 {
    guard let number = try Int64.fetchOne(database, sql: "SELECT identity FROM host") else {
      throw Damage(reason: "the host's identity is gone")
    }
    return UInt64(bitPattern: number)
  }

  /// Reads a file that nobody can write.
  ///
  /// Without its log, which SQLite cannot read there: what was acknowledged is in the file.
  fileprivate static func read(
    _ path: FilePath, isEmpty: Bool
  ) throws -> (Configuration, isNew: Bool, hostIdentity: UInt64) {
    guard !isEmpty else { return (Configuration(), true, .random(in: .min ... .max)) }
    var configuration = GRDB.Configuration()
    configuration.readonly = true
    let name = path.string.map { character in
      "%?#".contains(character)
        ? "%" + String(character.asciiValue ?? 0, radix: 16, uppercase: true) : String(character)
    }.joined()
    let queue = try DatabaseQueue(path: "file:\(name)?immutable=1", configuration: configuration)
    defer { try? queue.close() }
    return try queue.read { database in
      try verify(database)
      try refuseNewer(database, path)
      guard try migrator.hasCompletedMigrations(database) else {
        throw ControlError(
          "the database \(path) was written by an older ovx-vswitchd, and cannot be converted on a read-only file "
            + "system; make it writable")
      }
      let mark = try Int.fetchOne(database, sql: "PRAGMA user_version") ?? 0
      return (
        try Self.configuration(in: database), mark == newMark, try Self.hostIdentity(in: database)
      )
    }
  }
}

extension DatabaseFile.Lock {
  fileprivate var status: stat {
    var status = stat()
    _ = unsafe fstat(file.rawValue, &status)
    return status
  }
}

/// Refuses a file that SQLite finds fault with, or whose digest is not that of its content.
func verify(_ database: GRDB.Database) throws {
  let verdict = try String.fetchAll(database, sql: "PRAGMA integrity_check(1)")
  guard verdict == ["ok"] else { throw Damage(reason: verdict.first ?? "no verdict") }
  guard try database.tableExists("digest") else {
    // Of a version that had none; in any other it is missing.
    guard try !database.tableExists("grdb_migrations") || !hasDigestMigration(database) else {
      throw Damage(reason: "its digest is gone")
    }
    return
  }
  guard try Digest.stored(in: database) == Digest(contentOf: database).text else {
    throw Damage(reason: "its content is not what was written")
  }
}

private func hasDigestMigration(_ database: GRDB.Database) throws -> Bool {
  try String.fetchAll(database, sql: "SELECT identifier FROM grdb_migrations")
    .contains { $0.hasSuffix(": a digest of the content") }
}

// MARK: - What goes wrong

/// Renames a damaged file, and what SQLite keeps beside it, to the first free `FILE.corrupt-N`.
func moveAside(_ path: String) throws(ControlError) -> String {
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

/// How an error shows that the file itself is at fault; `nil` where access to it is.
func damage(_ error: any Error, path: String) -> String? {
  switch error {
  case let error as Damage: return error.reason
  case is ControlError: return nil
  case let error as DatabaseError:
    switch error.resultCode {
    case .SQLITE_FULL, .SQLITE_CANTOPEN, .SQLITE_PERM, .SQLITE_AUTH, .SQLITE_BUSY, .SQLITE_LOCKED,
      .SQLITE_NOMEM, .SQLITE_INTERRUPT, .SQLITE_PROTOCOL, .SQLITE_IOERR:
      return nil
    // A header can say so, too.
    case .SQLITE_READONLY where unsafe access(path, W_OK) != 0: return nil
    default: return error.message ?? "SQLite's error \(error.resultCode.rawValue)"
    }
  // Rows that are none of ours: of a decoder, whose own words are for programmers.
  default: return "a row cannot be understood"
  }
}

/// Says what SQLite's error means for the operator.
func explain(_ error: any Error, path: String) -> ControlError {
  switch error {
  case let error as ControlError: return error
  case let error as DatabaseError:
    switch error.resultCode {
    case .SQLITE_FULL: return fullDisk(path)
    // No room for the memory that SQLite shares with other readers, in FILE-shm, is an input/output
    // error to it.
    case .SQLITE_IOERR where isDiskFull(path): return fullDisk(path)
    case .SQLITE_READONLY where unsafe access(path, W_OK) != 0:
      return ControlError(
        "the database \(path) cannot be written: it is read-only; \(remedy(EROFS))")
    case .SQLITE_CANTOPEN, .SQLITE_PERM:
      return ControlError(
        "the database \(path) cannot be opened: \(error.message ?? ""); \(remedy(EACCES))")
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      return ControlError(
        "the database \(path) is locked by another program; end that one, such as sqlite3, and try again"
      )
    default: break
    }
  default: break
  }
  if let reason = damage(error, path: path) {
    return ControlError(
      "the database \(path) is damaged (\(reason)); restart ovx-vswitchd, which keeps it aside")
  }
  return ControlError(
    "the database \(path) fails: \((error as? DatabaseError)?.message ?? "\(error)"); "
      + "look after its file system, or name another file with --database")
}

func remedy(_ cause: CInt) -> String {
  switch cause {
  case EROFS: "the file system is read-only, so name another file with --database"
  case EACCES, EPERM:
    geteuid() == 0
      ? "let it and its directory be root's, or name another file with --database"
      : "run ovx-vswitchd as root, or name another file with --database"
  case ENOSPC, EDQUOT: "free some space there"
  case ELOOP: "it is a symbolic link, so name the file itself with --database"
  default: "name another file with --database"
  }
}

private func fullDisk(_ path: String) -> ControlError {
  ControlError(
    "the database \(path) cannot be written: its file system is full; free some space there")
}

/// Whether a file's file system has less room than SQLite's shared memory takes, 32 KiB, or no more
/// files.
private func isDiskFull(_ path: String) -> Bool {
  var system = statvfs()
  guard unsafe statvfs(path, &system) == 0 else { return false }
  let free = UInt64(system.f_bavail).multipliedReportingOverflow(by: UInt64(system.f_frsize))
  return !free.overflow && free.partialValue < 32_768
    || system.f_files > 0 && system.f_favail == 0
}
