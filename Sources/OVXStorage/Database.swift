private import Glibc
private import GRDB
package import OVXControl
package import SystemPackage

/// The desired state on disk: one SQLite file, the only thing that must survive.
///
/// A change is one SQLite transaction in write-ahead mode with `synchronous=FULL`, copied into the
/// file itself before `save` returns: what was saved is on disk, and a crash at any instant leaves
/// either the old state or the new one. With each transaction goes a digest of the whole content,
/// so that a file that is damaged is known to be, wherever that may be. The file belongs to one
/// daemon at a time, by a lock that ends with its process; `sqlite3` may read it meanwhile.
package final class Database {
  /// What was wrong with the file when it was opened, and what has been done about it, a sentence;
  /// the daemon logs it.
  package let note: String?
  /// A random number that was drawn when the database was made, and stays with it: what the
  /// Ethernet addresses of the devices that the daemon makes are derived from.
  package let identity: UInt64

  /// The state, as it was read or saved last.
  package private(set) var configuration: OVXControl.Configuration

  /// Whether the file may stand in the place of one that was lost, so that devices it knows nothing
  /// of may be in use.
  ///
  /// It is so from the moment it was made, until ``settle()`` is called.
  package private(set) var mayReplaceLostOne: Bool

  private let path: FilePath
  private var file: DatabaseFile
  /// Whether `configuration` is what the file has; else a change compares all.
  private var isKnown = true
  private var isClosed = false
  private var news: [String] = []

  /// Opens the database, and makes it and its directory where they are missing.
  ///
  /// A file that is damaged is kept aside as `FILE.corrupt-N`, named in `note`, and an empty one
  /// takes its place. On a read-only file system it is only read.
  ///
  /// - Parameter path: The file; beside it SQLite keeps two more, `-wal` and `-shm`.
  /// - Throws: What is wrong with the file or its directory and what to do, in words.
  package init(path: FilePath) throws(ControlError) {
    self.path = path
    try prepareDirectory(of: path)
    let lock = try DatabaseFile.lock(path)
    do {
      file = try DatabaseFile(path, lock)
      note =
        lock.isReadOnly
        ? "the database \(path) is on a read-only file system, so the switch runs with what was stored, and "
          + "changes are refused; make it writable and restart ovx-vswitchd" : nil
    } catch let error as Damage {
      let damage = "the database \(path) is damaged (\(error.reason))"
      let remedy = "put a good copy in its place and restart ovx-vswitchd"
      if lock.isReadOnly {
        file = DatabaseFile(unreadable: lock)
        note =
          "\(damage), on a read-only file system; the switch starts with no bridges, and changes are refused; "
          + remedy
      } else {
        let aside: String
        (file, aside) = try Self.replace(path, lock)
        note = "\(damage); it is kept as \(aside), and the switch starts with no bridges; \(remedy)"
      }
    } catch {
      lock.release()
      throw explain(error, path: path.string)
    }
    configuration = file.configuration
    identity = file.hostIdentity
    mayReplaceLostOne = file.isNew
    synchronize(path)
  }

  /// Closes the file and gives its lock back, so that another daemon can open it; nothing can be
  /// stored any more.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    file.close()
  }

  deinit { close() }

  // MARK: Another daemon's turn

  /// Where the file is kept as it was while another daemon has it.
  private var keptPath: FilePath { FilePath(path.string + ".handover") }

  /// Closes the file for another daemon to open; `reclaim` takes it back.
  ///
  /// That one may be of a later version, whose form this one cannot read: the file is kept as it
  /// is.
  ///
  /// - Throws: That it cannot be kept; nothing has changed then.
  package func lend() throws(ControlError) {
    guard !isClosed else { return }
    if file.queue != nil {
      do throws(Errno) {
        try TrustedFile.copy(path, to: keptPath)
      } catch {
        throw ControlError("the database \(path) cannot be copied to \(keptPath): \(error)")
      }
    }
    close()
  }

  /// Opens the file again after the other daemon has come to nothing.
  ///
  /// - Throws: That it cannot be opened; nothing can be stored then.
  package func reclaim() throws(ControlError) {
    guard isClosed else { return }
    do throws(ControlError) {
      file = try reopened()
      guard file.configuration == configuration else {
        file.close()
        throw ControlError("the database \(path) is not as it was")
      }
    } catch {
      // Another daemon has it now, or has written it in a form of its own.
      guard unsafe rename(keptPath.string, path.string) == 0 else { throw error }
      for suffix in ["-wal", "-shm"] { unsafe unlink(path.string + suffix) }
      file = try DatabaseFile(new: path)
    }
    isClosed = false
    isKnown = false
    unsafe unlink(keptPath.string)
  }

  private func reopened() throws(ControlError) -> DatabaseFile {
    // The lock of a process that was killed is there a moment longer.
    for _ in 0..<50 {
      if let file = try? DatabaseFile(new: path) { return file }
      usleep(20_000)
    }
    return try DatabaseFile(new: path)
  }

  /// Lets the file go that was lent: it is the other daemon's.
  package func giveUp() { unsafe unlink(keptPath.string) }

  /// Keeps a damaged file aside and makes a new one, whose lock is held before the old one's is let
  /// go.
  private static func replace(
    _ path: FilePath, _ damaged: DatabaseFile.Lock
  ) throws(ControlError) -> (DatabaseFile, aside: String) {
    defer { damaged.release() }
    let aside = try moveAside(path.string)
    return (try DatabaseFile(new: path), aside)
  }

  /// Reads the whole state anew.
  ///
  /// - Throws: That the file cannot be read, or that it is damaged.
  package func load() throws(ControlError) -> OVXControl.Configuration {
    guard let queue = file.queue else { return configuration }
    do {
      configuration = try queue.read { database in
        try verify(database)
        return try StoredState(database).configuration
      }
    } catch {
      throw explain(error, path: path.string)
    }
    isKnown = true
    return configuration
  }

  /// Makes the stored state equal to the given one, in one transaction that is on disk when this
  /// returns.
  ///
  /// Where the file is gone, or has come to damage, all of it is written into a new one; `takeNews`
  /// tells.
  ///
  /// - Parameters:
  ///   - configuration: A valid state.
  ///   - changes: What is otherwise in it than in the one that was read or saved last; `nil` to
  ///     find out.
  /// - Throws: That it could not be written; the stored state is the old one then.
  package func save(
    _ configuration: OVXControl.Configuration, _ changes: OVXControl.Configuration.Changes? = nil
  ) throws(ControlError) {
    guard !isClosed else {
      throw ControlError("the database \(path) is another ovx-vswitchd's by now; try again")
    }
    guard file.queue != nil else {
      throw ControlError(
        "the database \(path) cannot be written: its file system is read-only; make it writable and restart "
          + "ovx-vswitchd")
    }
    if try isGone() { return try renew(with: configuration) }
    do {
      try file.write(configuration, changes, since: isKnown ? self.configuration : nil)
      self.configuration = configuration
      isKnown = true
    } catch {
      // What the caller takes for saved from here on may be something else: next time all is
      // compared.
      isKnown = false
      if let reason = damage(error, path: path.string) {
        return try replaceDamaged(by: configuration, reason)
      }
      throw explain(error, path: path.string)
    }
  }

  /// The history of the switch as it was stored last, oldest first; what cannot be read is left
  /// out.
  package func events() -> [SwitchEvent] { (try? file.events()) ?? [] }

  /// Stores the history.
  ///
  /// On a read-only file system nothing is stored, and nothing is wrong; nor while the file is
  /// lent.
  ///
  /// - Parameters:
  ///   - events: All of it; what else is stored is forgotten.
  ///   - changed: The numbers of those that have changed since they were stored.
  /// - Throws: That it could not be written.
  package func store(
    _ events: [SwitchEvent], changed: Set<Int>
  ) throws(ControlError) {
    guard !isClosed else { return }
    do { try file.store(events, changed: changed) } catch {
      throw explain(error, path: path.string)
    }
  }

  /// Notes that no device is left that the database knows nothing of.
  package func settle() throws(ControlError) {
    guard mayReplaceLostOne, file.queue != nil, !isClosed else { return }
    do { try file.settle() } catch { throw explain(error, path: path.string) }
    mayReplaceLostOne = false
  }

  /// Writes the state into a new file where the old one is gone; looks after nothing else.
  ///
  /// - Throws: That it cannot be written, or that another file is in its place.
  package func renewIfGone() throws(ControlError) {
    guard file.queue != nil, !isClosed, try isGone() else { return }
    try renew(with: configuration)
  }

  /// What has happened to the file since it was asked for last, in sentences for the log.
  package func takeNews() -> [String] {
    defer { news = [] }
    return news
  }

  // MARK: A file that is lost while it is in use

  /// Whether no file has the name any more.
  private func isGone() throws(ControlError) -> Bool {
    var status = stat()
    guard unsafe lstat(path.string, &status) == 0 else {
      return errno == ENOENT || errno == ENOTDIR
    }
    guard status.st_dev == file.identity.device, status.st_ino == file.identity.inode else {
      throw ControlError(
        "the database \(path) was replaced by another file while ovx-vswitchd uses it; restart ovx-vswitchd to use that "
          + "one, or remove it to have what is in force stored in its place")
    }
    return false
  }

  private func renew(with configuration: OVXControl.Configuration) throws(ControlError) {
    try prepareDirectory(of: path)
    try begin(with: configuration)
    news.append(
      "the database \(path) was gone while ovx-vswitchd used it; what is in force was stored in a new file"
    )
  }

  private func replaceDamaged(
    by configuration: OVXControl.Configuration, _ reason: String
  ) throws(ControlError) {
    let aside = try moveAside(path.string)
    try begin(with: configuration)
    news.append(
      "the database \(path) has come to damage while ovx-vswitchd used it (\(reason)); it is kept as \(aside), and "
        + "what is in force was stored in a new file")
  }

  private func begin(with configuration: OVXControl.Configuration) throws(ControlError) {
    let new = try DatabaseFile(new: path)
    file.close()
    file = new
    do {
      try file.adopt(hostIdentity: identity)
      try file.write(configuration, nil, since: nil)
      self.configuration = configuration
      isKnown = true
      synchronize(path)
      // What the lost file knew of is in the new one; what that one may not have known, this one
      // does not either.
      if !mayReplaceLostOne { try file.settle() }
    } catch {
      isKnown = false
      throw explain(error, path: path.string)
    }
  }
}

/// Makes the directory where it is missing, and refuses one where others could replace the file.
private func prepareDirectory(of path: FilePath) throws(ControlError) {
  let directory = path.removingLastComponent()
  if !directory.isEmpty { try makeDirectory(directory) }
  do {
    try TrustedFile.checkDirectory(directory)
  } catch {
    throw ControlError(
      "the database \(path) cannot be used: \(error.message), or name another file with --database")
  }
}

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

/// Puts the names of new files on disk, without which a power failure would lose the files with all
/// that is in them.
private func synchronize(_ file: FilePath) {
  let directory = file.removingLastComponent()
  // A file system that cannot do it for directories has no need to.
  guard
    let descriptor = try? FileDescriptor.open(
      directory.isEmpty ? "." : directory, .readOnly, options: .closeOnExec)
  else { return }
  _ = fsync(descriptor.rawValue)
  try? descriptor.close()
}
