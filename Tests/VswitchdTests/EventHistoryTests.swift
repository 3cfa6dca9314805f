import Foundation
import Logging
import OVXControl
import OVXStorage
import SystemPackage
import Testing
@testable import ovx_vswitchd

@Suite struct EventHistoryTests {
  private final class Scratch {
    let path = FilePath(
      FileManager.default.temporaryDirectory.appendingPathComponent("ovx-\(UUID())").path)
    deinit { try? FileManager.default.removeItem(atPath: path.string) }
    var database: FilePath { path.appending("conf.db") }
  }

  private let logger = Logger(label: "events") { _ in SwiftLogNoOpLogHandler() }
  private let peer = Peer(pid: 7, uid: 1000, groups: [])

  @Test func itIsKeptAcrossRestarts() throws {
    let scratch = Scratch()
    let former: [SwitchEvent]
    do {
      let database = try Database(path: scratch.database)
      let history = EventHistory(database, logger: logger)
      #expect(history.events.isEmpty && !history.endedWithoutAWord)
      history.note(.start, "it starts")
      history.note(.change, by: peer, "add-br \u{1B}[2J é")
      for _ in 0..<3 { history.note(.linkDown, port: "p", bridge: "b", "the link of p is down") }
      #expect(history.nextWork != nil)
      history.work(now: .max)
      #expect(history.nextWork == nil)
      // Afterwards another one, in the place of what is stored.
      history.note(.linkDown, port: "p", bridge: "b", "the link of p is down")
      history.work(now: .max)
      former = history.events
      #expect(former.map(\.number) == [1, 2, 3])
      #expect(former[2].count == 4 && former[2].latest != nil && former[1].uid == 1000)
      #expect(former[1].text == "add-br ?[2J é")
      // The configuration's own transactions go on from there.
      var configuration = Configuration()
      configuration.bridges["b"] = Configuration.Bridge(name: "b")
      configuration.ports["b"] = Configuration.Port(name: "b", bridge: "b")
      configuration.ports["b"]?.interface.type = .internal
      try database.save(configuration)
      database.close()
    }
    let database = try Database(path: scratch.database)
    #expect(database.note == nil, "it is whole")
    #expect(database.configuration.bridges.count == 1)
    let history = EventHistory(database, logger: logger)
    #expect(history.events == former)
    #expect(history.endedWithoutAWord)
    history.note(.stop, "it stops")
    #expect(history.events.last?.number == 4 && !history.endedWithoutAWord)
  }

  @Test func itIsBoundedAndNobodyTakesAnothersPlace() throws {
    let scratch = Scratch()
    let database = try Database(path: scratch.database)
    let history = EventHistory(database, logger: logger)
    history.note(.change, by: peer, "add-br br0")
    history.note(.refusal, by: peer, "del-br br0")
    for number in 0..<(3 * EventHistory.limit) {
      history.note(.linkDown, port: "p", "link \(number)")
      if number % 1000 == 0 { history.work(now: .max) }
    }
    #expect(history.events.count == EventHistory.limit + 2)
    #expect(history.events.first?.text == "add-br br0")
    history.work(now: .max)
    let kept = history.events
    _ = history.takeNews()
    let numbers = kept.map(\.number)
    #expect(numbers == numbers.sorted())
    #expect(history.row(numbers[5]) == kept[5].row && history.row(numbers[2] - 1) == nil)
    #expect(SwitchEvent(row: kept[5].row) == kept[5])
    history.note(.linkDown, port: "p", "one more")
    #expect(history.takeNews() == [numbers[2], (numbers.last ?? 0) + 1], "one goes, one comes")
    history.work(now: .max)
    database.close()
    let reopened = try Database(path: scratch.database)
    #expect(reopened.note == nil)
    #expect(reopened.events() == history.events)
  }

  /// A database that was removed while it was in use gets all of it anew.
  @Test func aNewFileGetsAllOfIt() throws {
    let scratch = Scratch()
    let database = try Database(path: scratch.database)
    let history = EventHistory(database, logger: logger)
    history.note(.start, "it starts")
    history.work(now: .max)
    for suffix in ["", "-wal", "-shm"] {
      try? FileManager.default.removeItem(atPath: scratch.database.string + suffix)
    }
    try database.renewIfGone()
    history.note(.notice, "it was gone")
    history.work(now: .max)
    database.close()
    let reopened = try Database(path: scratch.database)
    #expect(reopened.note == nil)
    #expect(reopened.events().map(\.text) == ["it starts", "it was gone"])
  }

  /// An event is about the names that are words of its text, and its port and bridge.
  @Test func namesAreWords() {
    let event = SwitchEvent(
      number: 1, time: "", kind: .change, port: "eth0@web1", bridge: "br0",
      text: "add-port br1 \"veth1\" tag=100: port veth2, gone (veth3)")
    for name in ["eth0@web1", "br0", "br1", "veth1", "veth2", "veth3", "tag=100"] {
      #expect(event.concerns(name), "\(name)")
    }
    for name in ["veth", "eth0", "", "br", "100"] { #expect(!event.concerns(name), "\(name)") }
  }
}
