import Glibc
import GRDB
import OVXControl
import SystemPackage
import Testing
@testable import OVXStorage

/// A database that another daemon has for a while, and that comes back.
@Suite struct LendingTests {
  private func state(_ bridges: String...) throws -> OVXControl.Configuration {
    var bench = try Workbench()
    for bridge in bridges { try bench.run("add-br \(bridge)") }
    return bench.configuration
  }

  private func exists(_ path: FilePath) -> Bool { unsafe access(path.string, F_OK) == 0 }

  @Test func lentAndTakenBack() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let kept = scratch.path.appending("conf.db.handover")
    let database = try Database(path: path)
    try database.save(try state("br0"))
    try database.lend()
    #expect(exists(kept))
    do {
      let other = try Database(path: path)
      #expect(other.configuration == (try state("br0")))
      #expect(throws: ControlError.self) { try database.save(try state("br0", "br1")) }
    }
    try database.reclaim()
    #expect(!exists(kept))
    try database.save(try state("br0", "br1"))
    database.close()
    #expect(try Database(path: path).configuration == (try state("br0", "br1")))
  }

  /// A later version has written it in a form of its own, or it is gone.
  @Test(arguments: [true, false])
  func putBackAsItWas(isChanged: Bool) throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let database = try Database(path: path)
    try database.save(try state("br0"))
    try database.lend()
    if isChanged {
      let queue = try DatabaseQueue(path: path.string)
      try queue.write { try $0.execute(sql: "DROP TABLE port; CREATE TABLE tomorrow (x INTEGER)") }
      try queue.close()
    } else {
      try #require(unsafe unlink(path.string) == 0)
    }
    try database.reclaim()
    try database.save(try state("br0", "br1"))
    database.close()
    let again = try Database(path: path)
    #expect(again.configuration == (try state("br0", "br1")))
    #expect(again.note == nil)
  }

  @Test func givenUp() throws {
    let scratch = try Scratch()
    let path = scratch.path.appending("conf.db")
    let database = try Database(path: path)
    try database.lend()
    database.giveUp()
    #expect(!exists(scratch.path.appending("conf.db.handover")))
    #expect(throws: Never.self) { try Database(path: path) }
  }
}
