import Foundation
import OVXControl
import OVXSimulation
import Testing

@testable import ovx_vswitchd

/// A watch of tables that change, from both ends of it.
@Suite struct ChangeLogTests {
  /// A client that applies what it is told.
  struct Reader {
    var rows: [String: ChangeLog.Row] = [:]
    var hasSnapshot = false
    var misses = 0
    /// Changes that did not fit what it knew.
    var contradictions = 0

    mutating func take(_ piece: [UInt8]) throws {
      for line in piece.split(separator: UInt8(ascii: "\n")) {
        let event = try JSONDecoder().decode(WatchEvent.self, from: Data(line))
        let name = event.record ?? ""
        switch event.action {
        case .missed: (rows, hasSnapshot, misses) = ([:], false, misses + 1)
        case .snapshotEnd: hasSnapshot = true
        case .initial:
          if hasSnapshot || rows[name] != nil { contradictions += 1 }
          rows[name] = event.new
        case .insert:
          if rows[name] != nil { contradictions += 1 }
          rows[name] = event.new
        case .modify:
          for (column, value) in event.old ?? [:] where rows[name]?[column] != value {
            contradictions += 1
          }
          rows[name]?.merge(event.new ?? [:]) { $1 }
        case .delete:
          if rows[name] != event.old { contradictions += 1 }
          rows[name] = nil
        }
      }
    }
  }

  private func row(_ number: Int, _ padding: Int = 0) -> ChangeLog.Row {
    [
      "a": .scalar(.integer(number)), "b": .scalar(.integer(number / 10)),
      "c": .scalar(.text(String(repeating: "x", count: padding))),
    ]
  }

  @Test func aSnapshotThenChangesInOrder() throws {
    let log = ChangeLog()
    log.begin(.port, rows: ["p1": row(11), "p2": row(22)])
    var stream = WatchStream([.port], interval: 1000)
    #expect(stream.hasNews(log))
    var lines = ""
    while let piece = try stream.takePiece(log) { lines += String(decoding: piece, as: UTF8.self) }
    log.set(.port, "p1", row(12))
    log.set(.port, "p1", row(12))
    log.set(.port, "p3", row(33))
    log.set(.port, "p2", nil)
    log.set(.bridge, "not followed", row(1))
    #expect(stream.hasNews(log))
    while let piece = try stream.takePiece(log) { lines += String(decoding: piece, as: UTF8.self) }
    #expect(!stream.hasNews(log))
    #expect(
      lines == """
        {"action":"initial","new":{"a":11,"b":1,"c":""},"record":"p1","table":"Port"}
        {"action":"initial","new":{"a":22,"b":2,"c":""},"record":"p2","table":"Port"}
        {"action":"snapshot-end"}
        {"action":"modify","new":{"a":12},"old":{"a":11},"record":"p1","table":"Port"}
        {"action":"insert","new":{"a":33,"b":3,"c":""},"record":"p3","table":"Port"}
        {"action":"delete","old":{"a":22,"b":2,"c":""},"record":"p2","table":"Port"}

        """)
  }

  @Test func aTableIsToldOnlyToThoseWhoWatchIt() throws {
    let log = ChangeLog()
    log.begin(.port, rows: [:])
    log.begin(.bridge, rows: [:])
    var stream = WatchStream([.bridge], interval: 1000)
    while try stream.takePiece(log) != nil {}
    log.set(.port, "p1", row(1))
    #expect(try stream.takePiece(log) == nil)
    log.set(.bridge, "br0", row(2))
    #expect(try stream.takePiece(log) != nil)
  }

  /// Any number of readers of any speed end with the rows that there are, each told of every change
  /// since its last snapshot once and in order; what is kept for them is bounded.
  @Test func readersOfAnySpeedEndAlike() throws {
    let rounds = PropertyRounds(
      "readersOfAnySpeedEndAlike", 5, environment: ProcessInfo.processInfo.environment)
    let failure = rounds.firstFailure { seed in
      var random = SeededRandom(seed: seed)
      try readersOfAnySpeedEndAlike(&random)
    }
    #expect(failure == nil)
  }

  private func readersOfAnySpeedEndAlike(_ random: inout SeededRandom) throws {
    let log = ChangeLog()
    var truth: [String: ChangeLog.Row] = [:]
    for number in 0..<Int.random(in: 0...300, using: &random) { truth["r\(number)"] = row(number) }
    log.begin(.port, rows: truth)
    var streams = (0..<4).map { _ in WatchStream([.port], interval: 1000) }
    var readers = Array(repeating: Reader(), count: 4)
    // The first never misses anything, the last hardly reads.
    for round in 0..<100 {
      let padding = Bool.random(using: &random) ? 0 : Int.random(in: 0...2000, using: &random)
      for _ in 0..<Int.random(in: 0...100, using: &random) {
        let name = "r\(Int.random(in: 0..<400, using: &random))"
        let isGone = Int.random(in: 0...3, using: &random) == 0
        truth[name] = isGone ? nil : row(.random(in: 0...99, using: &random), padding)
        log.set(.port, name, truth[name])
      }
      try require(log.end - log.start <= ChangeLog.capacity, "the ring is too long")
      for index in 0..<4 where round % (1 << (2 * index)) == 0 {
        if index == 0 {
          while let piece = try streams[0].takePiece(log) { try readers[0].take(piece) }
        } else if let piece = try streams[index].takePiece(log) {
          try readers[index].take(piece)
        }
        if index == 2, Bool.random(using: &random) { streams[2].fallBehind() }
      }
    }
    for index in 0..<4 {
      while let piece = try streams[index].takePiece(log) { try readers[index].take(piece) }
      try require(readers[index].rows == truth, "reader \(index) has other rows")
      try require(readers[index].contradictions == 0, "reader \(index) was told what cannot be")
      try require(readers[index].hasSnapshot, "reader \(index) has no whole snapshot")
      try require(streams[index].cost == 0, "stream \(index) keeps what it has told")
    }
    try require(readers[0].misses == 0, "who reads everything has missed something")
  }

  private struct Violation: Error, CustomStringConvertible { let description: String }

  private func require(_ condition: Bool, _ sentence: String) throws {
    guard condition else { throw Violation(description: sentence) }
  }

  /// A ring that has overtaken a reader tells it so, and what it holds is bounded in changes and in
  /// bytes.
  @Test(arguments: [(0, ChangeLog.capacity + 1), (1 << 20, 40)])
  func aReaderThatIsTooSlowIsTold(padding: Int, changes: Int) throws {
    let log = ChangeLog()
    log.begin(.port, rows: [:])
    var stream = WatchStream([.port], interval: 1000)
    var reader = Reader()
    while let piece = try stream.takePiece(log) { try reader.take(piece) }
    for number in 0..<changes { log.set(.port, "p1", row(number, padding + number)) }
    #expect(log.end - log.start < changes)
    while let piece = try stream.takePiece(log) { try reader.take(piece) }
    #expect(reader.misses == 1)
    #expect(reader.rows == ["p1": row(changes - 1, padding + changes - 1)])
    #expect(reader.contradictions == 0)
  }

  /// Long rows go by themselves, so that a reader that does not read has the daemon keep one of
  /// them.
  @Test func piecesAreBounded() throws {
    let length = 100_000
    let log = ChangeLog()
    log.begin(
      .port, rows: Dictionary(uniqueKeysWithValues: (0..<5).map { ("r\($0)", row($0, length)) }))
    var stream = WatchStream([.port], interval: 1000)
    var reader = Reader()
    var isFirst = true
    while let piece = try stream.takePiece(log) {
      // A change has a row twice: as it was, and as it is.
      #expect(piece.count < WatchStream.pieceSize + 2 * length + 1000)
      try reader.take(piece)
      guard isFirst else { continue }
      for number in 0..<5 { log.set(.port, "r\(number)", row(number, length - 1)) }
      isFirst = false
    }
    #expect(reader.rows.count == 5 && reader.contradictions == 0)
    #expect(reader.rows["r4"] == row(4, length - 1))
  }

  @Test func whereNobodyWatchesNothingIsKept() {
    let log = ChangeLog()
    log.begin(.port, rows: ["p1": row(1)])
    log.set(.port, "p1", row(2))
    log.keep([])
    #expect(log.rows.isEmpty && log.start == log.end)
    log.set(.port, "p1", row(3))
    #expect(log.start == log.end)
  }
}
