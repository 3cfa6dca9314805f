import Glibc
import GRDB
import OVXSimulation
import SystemPackage
import Testing
@testable import OVXControl
@testable import OVXStorage

@Suite struct DatabaseTests {
  /// Something of everything.
  private func full() throws -> OVXControl.Configuration {
    try Workbench(
      "add-br br0", "add-br br1",
      "add-port br0 veth1 tag=0 external_ids:who=me other_config:a=\"b=c\"",
      "add-port br0 veth2 trunks=4095,0,7 vlan_mode=trunk",
      "set bridge br0 other_config:mac-aging-time=60",
      "add-port br1 v key=7 remote=10.0.0.1,10.0.0.2 local=10.0.0.3 dst_port=8472 tag=7",
      "add-port br0 veth3 vlan_mode=dot1q-tunnel tag=9 cvlans=0,4095",
      "set interface br1 addresses=172.17.42.1/24,fd00::1/64",
      "add-port br1 t type=tap mac=02:00:00:00:00:01 mtu=1400",
      "attach br0 web1 eth0 ip=10.0.0.5/24,fd00::5/64 gateway=10.0.0.1,fd00::1 tag=5",
      "set interface v external_ids={\"\"=\"\",é=\"\\u0001\"}"
    ).configuration
  }

  private func reopened(_ path: FilePath) throws -> OVXControl.Configuration {
    try Database(path: path).load()
  }

  @Test func everythingComesBack() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("a/b/conf.db")
    let full = try full()
    do {
      let database = try Database(path: path)
      #expect(database.note == nil)
      #expect(try database.load() == Configuration())
      try database.save(full)
      #expect(try database.load() == full)
    }
    #expect(try reopened(path) == full)
  }

  @Test func onlyItsOwnerMayReadIt() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("d/conf.db")
    let database = try Database(path: path)
    try database.save(try full())
    for (file, mode) in [("d", 0o40700), ("d/conf.db", 0o100600), ("d/conf.db-wal", 0o100600)] {
      var status = stat()
      try #require(unsafe stat(scratch.path.appending(file).string, &status) == 0)
      #expect(Int(status.st_mode) == mode, "\(file)")
    }
  }

  @Test func anySequenceOfStatesIsStored() throws {
    var random = SeededRandom()
    let scratch = try Scratch()
    let database = try Database(path: scratch.path.appending("conf.db"))
    var bench = try Workbench()
    let commands: [Command] = (0..<3).flatMap { number -> [Command] in
      let bridge = "br\(number % 2)"
      let attachment = Configuration.Attachment(target: "c\(number)", interface: "eth0")
      let tag = [Setting(column: "tag", value: "\(number)")]
      return [
        .addBridge(bridge: bridge, mayExist: false), .deleteBridge(bridge: bridge, ifExists: false),
        .addPort(bridge: bridge, port: "veth\(number)", settings: tag, mayExist: false),
        .deletePort(bridge: nil, port: "veth\(number)", ifExists: false),
        .attach(bridge: bridge, attachment: attachment, settings: tag, mayExist: false),
        .detach(target: "c\(number)", interface: "eth0", ifExists: false),
        .set(table: "port", record: "veth\(number)", settings: tag, ifExists: false),
        .clear(table: "port", record: "veth\(number)", columns: ["tag"], ifExists: false),
      ]
    }
    var changes = 0
    // Most of them are refused, the more of them the fewer bridges there are.
    for _ in 0..<3000 where changes <= 60 {
      let chosen = [commands[Int.random(in: 0..<commands.count, using: &random)]]
      let before = bench.configuration
      _ = try? bench.run(chosen)
      guard bench.configuration != before else { continue }
      changes += 1
      try database.save(bench.configuration)
      #expect(try database.load() == bench.configuration, "\(random)")
    }
    #expect(changes > 50, "\(random)")
  }

  @Test func aPortMayMoveWhileItsBridgeGoes() throws {
    let scratch = try Scratch()
    let database = try Database(path: scratch.path.appending("conf.db"))
    var bench = try Workbench(
      "add-br br0", "add-port br0 veth1 tag=1", "attach br0 web1 eth0 tag=1",
      "attach br0 /x/web1 eth0 tag=1")
    try database.save(bench.configuration)
    // One attachment takes the other's name, and both ports change their bridge.
    try bench.run(
      "del-br br0 -- add-br br1 -- add-port br1 veth1 tag=2 -- attach br1 /x/web1 eth0 tag=2 "
        + "-- attach br1 web1 eth0 tag=2")
    #expect(bench.configuration.ports["eth0@web1"]?.interface.attachment?.target == "/x/web1")
    try database.save(bench.configuration)
    #expect(try database.load() == bench.configuration)
  }

  // MARK: Crashes

  /// The files as a crash leaves them, the log cut off anywhere: the state is the old one or the
  /// new one.
  @Test func aCrashAtAnyInstantLosesNothingSaved() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let database = try Database(path: path)
    var bench = try Workbench("add-br br0", "add-port br0 veth1 tag=1")
    let old = bench.configuration
    try database.save(old)
    // Whoever reads the old state keeps the new one from being copied into the file: so it is
    // before it is copied.
    let reader = try DatabaseQueue(path: path.string)
    let new = try full()
    bench.configuration = new
    try reader.inTransaction(.deferred) { rows in
      _ = try Int.fetchOne(rows, sql: "SELECT count(*) FROM bridge")
      try database.save(new)
      return .rollback
    }
    let file = try bytes(of: path)
    let log = try bytes(of: FilePath(path.string + "-wal"))
    var seen: [Int] = []
    for length in stride(from: 0, through: log.count, by: 997) + [log.count] {
      let copy = scratch.path.appending("crash-\(length).db")
      try write(file, to: copy)
      try write(Array(log.prefix(length)), to: FilePath(copy.string + "-wal"))
      let after = try reopened(copy)
      // Behind the last frame of the transaction there may be what is left of a longer log.
      #expect(after == old || after == new && length > 0, "log cut off at \(length)")
      if length == log.count { #expect(after == new) }
      if length < 4096 { #expect(after == old) }
      seen.append(length)
    }
    #expect(seen.count > 5)
    // Nobody reads any more: the next change is in the file itself, whatever becomes of the log.
    try bench.run("add-br br7")
    try database.save(bench.configuration)
    let copy = scratch.path.appending("without-log.db")
    try write(try bytes(of: path), to: copy)
    #expect(try reopened(copy) == bench.configuration)
  }

  @Test func twoDaemonsDoNotShareADatabase() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let first = try Database(path: path)
    try first.save(try full())
    #expect(
      throws: ControlError(
        "the database \(path) is in use by another ovx-vswitchd; stop it first, "
          + "or give this one a file of its own with --database")
    ) { try Database(path: path) }
    #expect(try first.load() == full())
  }

  // MARK: Damage

  @Test(arguments: [0, 1, 2])
  func aDamagedFileIsKeptAside(kind: Int) throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    do {
      let database = try Database(path: path)
      try database.save(try full())
    }
    var damaged = try bytes(of: path)
    switch kind {
    case 0: damaged = Array("This is no database, but it is long enough.\n".utf8)
    case 1: for index in 4096..<damaged.count { damaged[index] = 0xA5 }
    default: damaged.removeLast(damaged.count / 2)
    }
    // A second damage does not overwrite the first one's file.
    for number in 1...2 {
      try write(damaged, to: path)
      let database = try Database(path: path)
      let aside = FilePath("\(path.string).corrupt-\(number)")
      let note = try #require(database.note)
      #expect(note.hasPrefix("the database \(path) is damaged ("))
      #expect(
        note.hasSuffix(
          "); it is kept as \(aside), and the switch starts with no bridges; put a good copy in its place and "
            + "restart ovx-vswitchd"))
      #expect(database.mayReplaceLostOne)
      #expect(try bytes(of: aside) == damaged)
      #expect(try database.load() == Configuration())
      try database.save(try full())
      #expect(try database.load() == full())
      // The lock is that of the new file.
      #expect(throws: ControlError.self) { try Database(path: path) }
    }
  }

  /// What was not written by the daemon is not what it has been told: noticed whatever it is, and
  /// whether it is valid.
  @Test(arguments: [
    "UPDATE port SET trunks = '[4096]' WHERE name = 'veth2'",
    "UPDATE port SET tag = 2 WHERE name = 'veth1'",
    "UPDATE interface SET type = 'x' WHERE name = 'veth2'",
    "UPDATE interface SET options = 'x' WHERE name = 'v'",
    "DELETE FROM port WHERE name = 'veth1'",
    "UPDATE digest SET value = ''", "DELETE FROM digest", "DROP TABLE digest",
    "DROP INDEX port_bridge", "PRAGMA user_version = 1", "DELETE FROM grdb_migrations",
    "INSERT INTO grdb_migrations VALUES ('4: from the future')", "DROP TABLE attachment",
  ])
  func whatSomebodyEditedIsNoticed(_ sql: String) throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    do {
      let database = try Database(path: path)
      try database.save(try full())
      try database.settle()
    }
    do {
      let queue = try DatabaseQueue(path: path.string)
      try queue.write { try $0.execute(sql: sql) }
    }
    let database = try Database(path: path)
    let note = try #require(database.note)
    #expect(note.hasPrefix("the database \(path) is damaged ("), "\(note)")
    #expect(note.contains("\(path).corrupt-1"), "\(note)")
    #expect(!note.contains("DecodingError") && !note.contains("SQLite error"), "\(note)")
    #expect(database.configuration == Configuration() && database.mayReplaceLostOne)
  }

  @Test func aNewerVersionsFileIsRefused() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    do {
      let database = try Database(path: path)
      try database.save(try full())
    }
    do {
      // As that version would write it: the digest is of what is there, and knows the tables that
      // it has.
      let queue = try DatabaseQueue(path: path.string)
      try queue.write { rows in
        try rows.execute(sql: "INSERT INTO grdb_migrations VALUES ('4: from the future')")
        let digest = try Digest(contentOf: rows)
        try digest.store(in: rows)
      }
    }
    #expect(
      throws: ControlError(
        "the database \(path) was written by a newer ovx-vswitchd; install that version again, "
          + "or name another file with --database")
    ) { try Database(path: path) }
  }

  /// A file of the version before digests: what is in it comes back, and has a digest from then on.
  @Test func anOlderVersionsFileIsTaken() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let full = try full()
    do {
      let database = try Database(path: path)
      try database.save(full)
    }
    do {
      let queue = try DatabaseQueue(path: path.string)
      try queue.write { rows in
        try rows.execute(
          sql: """
            DROP TABLE digest; DELETE FROM grdb_migrations WHERE identifier LIKE '%: a digest of the content';
            -- As another version might have written it.
            UPDATE port SET trunks = '[ 0, 7, 4095 ]' WHERE name = 'veth2'; PRAGMA user_version = 0
            """)
      }
    }
    var bench = try Workbench()
    do {
      let database = try Database(path: path)
      #expect(database.note == nil && database.configuration == full)
      #expect(!database.mayReplaceLostOne)
      bench.configuration = full
      try bench.run("set port veth2 trunks=9")
      try database.save(bench.configuration)
    }
    let database = try Database(path: path)
    #expect(database.note == nil && database.configuration == bench.configuration)
  }

  // MARK: Loss

  @Test(arguments: [false, true])
  func aFileThatIsGoneIsWrittenAnew(withItsDirectory: Bool) throws {
    let scratch = try Scratch()
    let directory = scratch.path.appending("d")
    let path = directory.appending("conf.db")
    var bench = try Workbench("add-br br0", "add-port br0 veth1 tag=1")
    do {
      let database = try Database(path: path)
      try database.save(bench.configuration)
      if withItsDirectory { try database.settle() }
      for suffix in ["", "-wal", "-shm"] { _ = unsafe unlink(path.string + suffix) }
      if withItsDirectory { try #require(unsafe rmdir(directory.string) == 0) }
      // By a change, and without one.
      try bench.run("add-br br1")
      try database.save(bench.configuration)
      #expect(try bytes(of: path).count > 0)
      let news = database.takeNews()
      #expect(
        news == [
          "the database \(path) was gone while ovx-vswitchd used it; what is in force was stored in a new file"
        ])
      #expect(throws: ControlError.self) { try Database(path: path) }
      try bench.run("add-br br2")
      try database.save(bench.configuration)
      _ = unsafe unlink(path.string)
      try database.renewIfGone()
      #expect(database.takeNews().count == 1)
      try database.renewIfGone()
      #expect(database.takeNews().isEmpty)
    }
    let database = try Database(path: path)
    #expect(database.configuration == bench.configuration)
    #expect(database.mayReplaceLostOne == !withItsDirectory, "it knows what the lost one knew")
  }

  @Test func aFileInItsPlaceIsLeftAlone() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let database = try Database(path: path)
    try database.save(try full())
    let other = try bytes(of: path)
    try write(other, to: scratch.path.appending("other"))
    try #require(unsafe rename(scratch.path.appending("other").string, path.string) == 0)
    for change in [{ try database.renewIfGone() }, { try database.save(Configuration()) }] {
      do {
        try change()
        Issue.record("accepted")
      } catch let error as ControlError {
        #expect(error.message.hasPrefix("the database \(path) was replaced by another file"))
      }
    }
    #expect(try bytes(of: path) == other)
  }

  @Test func aFileThatComesToDamageInUseIsKeptAside() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    var bench = try Workbench("add-br br0", "add-port br0 veth1 tag=1")
    do {
      let database = try Database(path: path)
      try database.save(bench.configuration)
      try write(Array(repeating: 0xA5, count: 20_000), to: path)
      try write([], to: FilePath(path.string + "-wal"))
      for number in 1...3 {
        try bench.run("add-br new\(number)")
        try database.save(bench.configuration)
      }
      #expect(database.takeNews().count <= 1)
    }
    // Where SQLite had all it needed in memory, it is noticed at the next start.
    let database = try Database(path: path)
    #expect(
      database.configuration == bench.configuration
        || database.note?.contains("is damaged") == true)
  }

  /// A file that is new tells so until it is known that nothing is in use that it knows nothing of.
  @Test func whetherAFileMayStandInForAnother() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    for round in 1...2 {
      let database = try Database(path: path)
      #expect(database.mayReplaceLostOne, "start \(round)")
      try database.save(try full())
    }
    do {
      let database = try Database(path: path)
      try database.settle()
      #expect(!database.mayReplaceLostOne)
    }
    #expect(try !Database(path: path).mayReplaceLostOne)
    // Cut off to nothing, it is no empty wish.
    try write([], to: path)
    #expect(try Database(path: path).mayReplaceLostOne)
  }

  @Test func whatIsOpenToOthersIsClosed() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    do {
      let database = try Database(path: path)
      try database.save(try full())
      for suffix in ["", "-wal", "-shm"] {
        try #require(unsafe chmod(path.string + suffix, 0o666) == 0)
      }
    }
    try write([], to: FilePath(path.string + "-wal"))
    try #require(unsafe chmod(path.string + "-wal", 0o666) == 0)
    let database = try Database(path: path)
    #expect(database.note == nil)
    for suffix in ["", "-wal", "-shm"] {
      var status = stat()
      try #require(unsafe stat(path.string + suffix, &status) == 0)
      #expect(status.st_mode & 0o777 == 0o600, "\(suffix)")
    }
  }

  @Test func aSymbolicLinkIsNotFollowed() throws {
    let scratch = try Scratch()
    let target = scratch.path.appending("target")
    try write(Array("precious".utf8), to: target)
    let path = scratch.path.appending("conf.db")
    try #require(unsafe symlink(target.string, path.string) == 0)
    #expect(
      throws: ControlError(
        "cannot open the database \(path): Too many levels of symbolic links; it is a symbolic link, so name the "
          + "file itself with --database")
    ) { try Database(path: path) }
    #expect(try bytes(of: target) == Array("precious".utf8))
  }

  // MARK: Where it cannot be

  @Test func aDirectoryThatCannotBe() throws {
    let scratch = try Scratch()
    try write([], to: scratch.path.appending("file"))
    let below = scratch.path.appending("file/d")
    let directory = scratch.path.appending("d")
    try #require(unsafe mkdir(directory.string, 0o755) == 0)
    #expect(
      throws: ControlError(
        "cannot make the directory \(below) for the database: Not a directory; "
          + "name another file with --database")
    ) { try Database(path: below.appending("conf.db")) }
    #expect(
      throws: ControlError(
        "cannot open the database \(directory): Is a directory; name another file with --database"
      )
    ) { try Database(path: directory) }
  }

  @Test(.enabled(if: geteuid() == 0, "mounts a file system, which takes root"))
  func aReadOnlyDirectory() throws {
    let scratch = try Scratch()
    let directory = scratch.path.appending("mounted")
    let path = directory.appending("50%? conf#.db")
    try mountMemory(at: directory, options: "size=1m")
    defer { unmount(directory) }
    do {
      let database = try Database(path: path)
      try database.save(try full())
    }
    try #require(
      unsafe mount("none", directory.string, nil, UInt(MS_REMOUNT | MS_RDONLY), nil) == 0)
    // Also with a question mark in its name, which means something to SQLite.
    do {
      let database = try Database(path: path)
      #expect(try database.configuration == full())
      #expect(database.note?.contains("read-only file system") == true)
      #expect(
        throws: ControlError(
          "the database \(path) cannot be written: its file system is read-only; make it writable and restart "
            + "ovx-vswitchd")
      ) { try database.save(Configuration()) }
      #expect(throws: ControlError.self) { try Database(path: path) }
    }
    #expect(
      throws: ControlError(
        "cannot open the database \(path)x: Read-only file system; "
          + "the file system is read-only, so name another file with --database")
    ) { try Database(path: FilePath(path.string + "x")) }
    #expect(
      throws: ControlError(
        "cannot make the directory \(directory.appending("x")) for the database: Read-only file system; "
          + "the file system is read-only, so name another file with --database")
    ) { try Database(path: directory.appending("x/conf.db")) }
  }

  @Test(.enabled(if: geteuid() == 0, "mounts a file system, which takes root"))
  func aFullDisk() throws {
    let scratch = try Scratch()
    let directory = scratch.path.appending("mounted")
    let path = directory.appending("conf.db")
    try mountMemory(at: directory, options: "size=512k")
    defer { unmount(directory) }
    var bench = try Workbench("add-br br0")
    do {
      let database = try Database(path: path)
      try database.save(bench.configuration)
      let before = bench.configuration
      // Fills what is left of the disk.
      let filler = directory.appending("filler")
      let file = try FileDescriptor.open(
        filler, .writeOnly, options: .create, permissions: .ownerReadWrite)
      let page = [UInt8](repeating: 0, count: 4096)
      while (try? file.writeAll(page)) != nil {}
      try file.close()

      for number in 0..<200 {
        try bench.run([
          .set(
            table: "bridge", record: "br0",
            settings: [
              Setting(
                column: "external_ids", key: "k\(number)",
                value: String(repeating: "x", count: 4000))
            ], ifExists: false)
        ])
      }
      #expect(
        throws: ControlError(
          "the database \(path) cannot be written: its file system is full; free some space there")
      ) { try database.save(bench.configuration) }
      #expect(try database.load() == before)
      try #require(unsafe unlink(filler.string) == 0)
      bench.configuration = before
      try bench.run("add-br br1")
      try database.save(bench.configuration)
    }
    #expect(try reopened(path) == bench.configuration)
  }

  private func mountMemory(at directory: FilePath, options: String) throws {
    try #require(unsafe mkdir(directory.string, 0o755) == 0)
    let mounted = unsafe options.withCString { options in
      unsafe mount("ovx-test", directory.string, "tmpfs", 0, options) == 0
    }
    try #require(mounted)
  }

  private func unmount(_ directory: FilePath) {
    #expect(unsafe umount2(directory.string, Int32(MNT_DETACH)) == 0)
  }
}
