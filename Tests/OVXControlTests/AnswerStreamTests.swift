import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@Suite struct AnswerStreamTests {
  private func collect(_ stream: AnswerStream) throws -> [[UInt8]] {
    var stream = stream
    var pieces: [[UInt8]] = []
    while let piece = try stream.next() { pieces.append(piece) }
    return pieces
  }

  private static let ports = (0..<1000).map { number in
    PortStatistics(bridge: "br/\(number % 3)", port: "p\(number)", PortCounters())
  }

  private static let replies: [Reply] = [
    .done, .answer(true), .names([]), .names(["br0", "\"quoted\" \u{1}/ é"]), .flushed(7),
    .names((0..<1000).map { "name\($0)" }),
    .values([.scalar(nil), .set([.integer(1), .text("x")]), .map(["a": .text("b")])]),
    .records(RecordList(columns: ["name", "tag"], rows: [])),
    .records(
      RecordList(
        columns: ["name", "tag"],
        rows: (0..<300).map { [.scalar(.text("port\($0)")), .scalar(.integer($0))] })),
    .statistics(ports), .statistics([]), .changes([]),
    .drops([Drop(port: nil, reason: .allCases[0], count: 3)]),
    .version(Versions(pid: 3, kernel: "6")), .logLevel(.info),
    .addressStatistics([BridgeAddressStatistics(bridge: "br0", AddressStatistics())]),
  ]

  /// Piece by piece it comes to the same line as at once.
  @Test func theSameLine() throws {
    var random = SeededRandom()
    let bench = try Workbench(
      "add-br br0", "add-br br1", "add-port br0 veth1 tag=1", "add-port br1 t type=tap",
      "attach br0 web1 eth0 ip=10.0.0.5/24 tag=1")
    var faulty = Show(bench.configuration) { _ in nil }
    faulty.bridges[1].gateways = [
      Show.Gateway(network: "red", errors: ["it is \"away\"", "so"]),
      Show.Gateway(network: "blue", errors: []),
    ]
    let shows: [Reply] = [
      .show(faulty),
      .show(Show(bench.configuration) { $0 == "t" ? "it is \"broken\"" : nil }),
      .show(Show(Configuration()) { _ in nil }), .configuration(bench.configuration),
    ]
    for _ in 0..<100 {
      let replies = (0..<Int.random(in: 0...6, using: &random)).compactMap { _ in
        (Self.replies + shows).randomElement(using: &random)
      }
      let response = Response(
        .done(replies), notes: Bool.random(using: &random) ? ["a \"note\"/", "b"] : [])
      let line = try response.messageBytes()
      #expect(try collect(AnswerStream(response)).flatMap(\.self) == line, "\(random)")
    }
    let failure = Response(.failed(ControlError("no", record: "br0")), notes: ["n"])
    #expect(try collect(AnswerStream(failure)).flatMap(\.self) == failure.messageBytes())
  }

  /// Tables of bridges, put together when they are sent.
  @Test func tables() throws {
    let vlan = try #require(VLANID(rawValue: 7))
    let entries = (0..<1000).map { number in
      BridgeAddresses.Entry(
        port: "p", vlan: vlan, mac: MACAddress(truncating: UInt64(number)),
        age: number % 2 == 0 ? nil : 5)
    }
    let reply = Reply.addresses([
      BridgeAddresses(bridge: "br\"0", entries: entries),
      BridgeAddresses(bridge: "br1", entries: []),
    ])
    var taken: [String] = []
    let part = AnswerStream.Part.reply(
      "addresses",
      AnswerStream.Part.tables(of: ["br\"0", "br1"]) { name in
        taken.append(name)
        return .list(of: name == "br1" ? [] : Array(entries.indices)) { entries[$0] }
      })
    var stream = AnswerStream([.later { part }, .reply(.done)], notes: [])
    #expect(stream.cost == 0)
    var line: [UInt8] = []
    var longest = 0
    var costliest = 0
    while let piece = try stream.next() {
      line += piece
      longest = max(longest, piece.count)
      costliest = max(costliest, stream.cost)
      if line.count > 4096, line.count < 8192 { #expect(taken == ["br\"0"]) }
    }
    #expect(taken == ["br\"0", "br1"])
    #expect(try line == Response(.done([reply, .done])).messageBytes())
    #expect(longest < 32_768, "\(longest) bytes in one piece")
    #expect((8000..<10_000).contains(costliest), "1000 numbers of 8 bytes, not \(costliest)")
  }

  /// A client takes so much and no more: it gets the byte too many, by which it knows, and then the
  /// end.
  @Test func tooLong() throws {
    let element = [UInt8](repeating: UInt8(ascii: "7"), count: 1 << 20)
    let part = AnswerStream.Part.reply(
      "names", [.bytes(Array("[".utf8)), .elements(count: 100_000, cost: 0) { _ in element }])
    var stream = AnswerStream([.later { part }], notes: [])
    var length = 0
    #expect(throws: ControlError.self) {
      while let piece = try stream.next() { length += piece.count }
    }
    #expect(length > MessageDecoder<Response>.byteLimit)
    #expect(length < 4 * MessageDecoder<Response>.byteLimit)
  }
}
