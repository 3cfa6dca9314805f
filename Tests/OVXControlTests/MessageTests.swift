import OVXControl
import OVXDatapath
import OVXSimulation
import Testing

@Suite struct MessageTests {
  private let request = Request(
    commands: [
      .addBridge(bridge: "br0", mayExist: true),
      .addPort(
        bridge: "br0", port: "v\n\"", settings: [Setting(column: "a", key: "b", value: "ü\u{1}")],
        mayExist: false),
      .deletePort(bridge: nil, port: "p", ifExists: true),
      .find(
        table: "t", conditions: [Condition(column: "c", comparison: .notElementOf, value: "")],
        columns: ["x"]),
      .addAddress(
        bridge: "br0", port: "p", vlan: VLANID(rawValue: 4095) ?? .untagged, address: .broadcast),
      .show, .drops, .exit(cleanup: true),
    ], timeout: 2.5, dryRun: true)

  @Test func requestsComeBackHoweverTheyAreCut() throws {
    let bytes = try request.messageBytes() + Request(commands: []).messageBytes()
    for step in [1, 2, 3, 7, 100, bytes.count] {
      var decoder = MessageDecoder<Request>()
      var received: [Request] = []
      for start in stride(from: 0, to: bytes.count, by: step) {
        decoder.append(bytes[start..<min(start + step, bytes.count)])
        while let request = try decoder.next() { received.append(request) }
      }
      #expect(received == [request, Request(commands: [])])
      #expect(!decoder.isMidMessage)
    }
  }

  @Test func theEncodingIsStable() throws {
    let small = Request(commands: [.show, .addBridge(bridge: "br0", mayExist: false)], timeout: 10)
    #expect(
      String(decoding: try small.messageBytes(), as: UTF8.self)
        == #"{"commands":[{"show":{}},{"addBridge":{"bridge":"br0","mayExist":false}}],"dryRun":false,"#
        + #""timeout":10,"version":1}"# + "\n")
    let response = Response(.failed(ControlError("no")), notes: ["n"])
    #expect(
      String(decoding: try response.messageBytes(), as: UTF8.self)
        == #"{"notes":["n"],"outcome":{"failed":{"_0":{"kind":1,"message":"no"}}},"version":1}"#
        + "\n")
  }

  @Test func responsesComeBack() throws {
    var counters = PortCounters()
    counters.receivedFrames = .max
    counters[.splitHorizon] = 3
    let bench = try Workbench("add-br br0", "add-port br0 v key=1 remote=10.0.0.1 tag=7")
    let entry = BridgeAddresses.Entry(
      port: "p", vlan: .untagged, mac: .broadcast, age: nil, remote: IPAddress("fd00::1"))
    let neighbor = BridgeNeighbors.Entry(
      KnownNeighbor(
        ip: try #require(IPAddress("fd00::2")), vlan: .untagged, address: .broadcast,
        port: PortID(rawValue: 1), peer: .none, isRouter: true, age: 5), port: "p", remote: nil)
    let replies: [Reply] = [
      .done, .names(["a"]), .answer(false),
      .values([
        .scalar(nil), .scalar(.integer(5)), .scalar(.text("5")), .set([]), .map(["k": .text("v")]),
      ]),
      .records(RecordList(columns: ["c"], rows: [[.set([.integer(1), .text("b")])]])),
      .show(Show(bench.configuration) { $0 == "v" ? "It fails." : nil }),
      .links([PortLink.example]),
      .addresses([BridgeAddresses(bridge: "br0", entries: [entry])]),
      .addressStatistics([BridgeAddressStatistics(bridge: "br0", AddressStatistics())]),
      .neighbors([BridgeNeighbors(bridge: "br0", entries: [neighbor])]),
      .neighborStatistics([BridgeNeighborStatistics(bridge: "br0", NeighborStatistics())]),
      .flushed(3), .statistics([PortStatistics(bridge: "br0", port: "p", counters)]),
      .drops([Drop(port: nil, reason: .unknownVTEP, count: 5)]),
      .tunnels(
        Tunnels(
          tunnels: [
            Tunnels.Tunnel(
              port: "v", bridge: "br0", vni: try #require(VNI(rawValue: 7)), local: nil,
              destinationPort: 4789,
              remotes: [
                Tunnels.Remote(
                  address: try #require(IPAddress("10.0.0.1")), mtu: 1450, sourcePorts: 4)
              ])
          ], listeners: [Tunnels.Listener(address: nil, port: 4789, tunnels: ["v"])],
          features: ["UDP_GRO"], filter: Tunnels.Filter(.off))),
      .version(Versions(pid: 5, kernel: "6.18")),
    ]
    let response = Response(.done(replies), notes: ["a"])
    var decoder = MessageDecoder<Response>()
    for byte in try response.messageBytes() { decoder.append(CollectionOfOne(byte)) }
    let received = try decoder.next()
    #expect(received == response)
    #expect(received?.exitStatus == 2)
    #expect(Response(.done([.done])).exitStatus == 0)
    #expect(Response(.failed(ControlError("", kind: .timedOut))).exitStatus == 75)
  }

  @Test(arguments: [
    "", "x", "{}", "[]", "null", "5", "\"", "{\"version\":1}", "{\"version\":\"1\"}", "\u{FEFF}{}",
    #"{"version":1,"commands":[{"show":{}}],"timeout":1e400,"dryRun":false}"#,
    #"{"version":1,"commands":[{"show":{}}],"timeout":1e300,"dryRun":false}"#,
    #"{"version":1,"commands":[{"show":{}}],"timeout":-1,"dryRun":false}"#,
    #"{"version":1,"commands":[{"nonsense":{}}],"timeout":1,"dryRun":false}"#,
    #"{"version":1,"commands":[{"show":{},"drops":{}}],"timeout":1,"dryRun":false}"#,
    #"{"version":1,"commands":[{"addBridge":{"bridge":5,"mayExist":false}}],"timeout":1,"dryRun":false}"#,
    #"{"version":1,"commands":[{"deleteAddress":{"bridge":"b","vlan":4096,"address":"02:00:00:00:00:01"}}],"timeout":1,"dryRun":false}"#,
    #"{"version":1,"commands":[{"deleteAddress":{"bridge":"b","vlan":1,"address":"x"}}],"timeout":1,"dryRun":false}"#,
    String(repeating: "[", count: 100_000),
    String(repeating: "{\"a\":", count: 100_000),
  ])
  func garbageIsRefusedInWords(line: String) throws {
    var decoder = MessageDecoder<Request>()
    decoder.append(Array(line.utf8))
    #expect(try decoder.next() == nil)
    decoder.append([UInt8(ascii: "\n")])
    let error = #expect(throws: ControlError.self) { try decoder.next() }
    #expect(error?.message.hasPrefix("a message on the control socket is not understood: ") == true)
    #expect(error?.kind == .refused)
  }

  @Test func anotherVersionIsRefusedBeforeAnythingElse() throws {
    var decoder = MessageDecoder<Request>()
    decoder.append(Array("{\"version\":2,\"orders\":[]}\n".utf8))
    #expect(
      throws: ControlError(
        "the request is of version 2 of the protocol, and this ovx-vswitchd (\(OVXVersion.current)) "
          + "speaks version 1; install ovx-ctl and ovx-vswitchd of the same release")
    ) { try decoder.next() }
  }

  @Test func aLineWithoutEndIsRefusedAtTheLimit() throws {
    let tooLong = ControlError("a message on the control socket is longer than 64 bytes")
    var decoder = MessageDecoder<Request>(limit: 64)
    for _ in 0..<64 {
      decoder.append([UInt8(ascii: " ")])
      #expect(try decoder.next() == nil)
    }
    #expect(decoder.isMidMessage)
    decoder.append([UInt8(ascii: " ")])
    #expect(throws: tooLong) { try decoder.next() }

    // A message as long as may be is taken, one byte more with its end is not.
    let line = Array(#"{"commands":[],"dryRun":true,"timeout":1,"version":1}"#.utf8)
    for (limit, isTaken) in [(line.count, true), (line.count - 1, false)] {
      var decoder = MessageDecoder<Request>(limit: limit)
      decoder.append(line + [UInt8(ascii: "\n")])
      if isTaken {
        #expect(try decoder.next()?.dryRun == true)
      } else {
        #expect(throws: ControlError.self) { try decoder.next() }
      }
    }
    #expect(MessageDecoder<Request>().limit == 1_048_576)
    #expect(MessageDecoder<Response>().limit == 67_108_864)
  }

  /// Whatever bytes arrive, the decoder answers with messages or a sentence, and keeps no more than
  /// it was fed.
  @Test func randomBytes() throws {
    var random = SeededRandom()
    let valid = try request.messageBytes()
    for _ in 0..<2000 {
      var bytes = valid
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0...2, using: &random) {
        case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.remove(at: index)
        default: bytes.insert(UInt8.random(in: 0...255, using: &random), at: index)
        }
      }
      var decoder = MessageDecoder<Request>()
      decoder.append(bytes)
      decoder.append([UInt8(ascii: "\n")])
      do {
        while try decoder.next() != nil {}
        #expect(!decoder.isMidMessage, "\(random)")
      } catch let error {
        #expect(!error.message.isEmpty)
      }
    }
  }
}
